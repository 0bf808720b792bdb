//! The thread that keeps the margin of free memory.
//!
//! It looks every 10 ms while something can be purged, and up to every millisecond as the
//! margin comes near. If nothing can be purged and memory could not be filled sooner, it looks
//! once in a second. It catches memory that nobody asks for: the host's own, that of other
//! processes, and the addresses of windows that have ended. In cgroups v1 the kernel also wakes
//! it, by thresholds (`cgroup.event_control`).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::RegionHost;
use crate::pressure::{Debounce, Headroom, Level, Poller, Thread};
use crate::sys::parking;

/// How long a level lasts after it was last met.
const LASTS: Duration = Duration::from_secs(2);

/// The longest time between two looks while something can be purged.
const TICK: Duration = Duration::from_millis(10);

/// The shortest time between two looks, when the margin may be used up before the next
/// tick.
const SOON: Duration = Duration::from_millis(1);

/// The longest time between two looks.
const SELDOM: Duration = Duration::from_secs(1);

/// Looks take at most one part in so many of the time.
const PART: u32 = 50;

/// The bytes of memory that one processor can fill in a second. With huge pages, 12 GiB were
/// measured.
const FILLED_PER_SECOND: u64 = 16 << 30;

impl RegionHost {
    /// Keeps the [margin](crate::HostLimits::margin) until the [`MarginKeeper`] is
    /// dropped, on a thread of its own. The thread looks every 10 ms while something can
    /// be purged, more often when the margin is near, and at least once in a second. It
    /// takes at most a fiftieth of one processor.
    ///
    /// It purges the bytes that the margin lacks, the least recently unpinned first, and
    /// tells the guests the level. This is [`Level::Moderate`] when the margin was met, and
    /// [`Level::Critical`] when less than half of it is left and there is nothing to purge.
    /// Each time that it finds the latter, it calls `react` with the memory that is left.
    /// There the program can end guests before the kernel ends the process. `react` is
    /// called on that thread, which does nothing else meanwhile.
    ///
    /// An app of `tombolo-app` does this by itself. Without the thread, growths and
    /// commits are still checked, but nothing looks in between.
    ///
    /// # Errors
    ///
    /// If the thread does not start.
    pub fn keep_margin(
        &self,
        react: impl Fn(Headroom) + Send + Sync + 'static,
    ) -> io::Result<MarginKeeper> {
        let margin = self.margin();
        let thread = match margin.keep() {
            0 => None,
            keep => {
                let alarms = [keep, keep / 2].into_iter();
                let alarms = alarms.filter_map(|left| margin.gauge().alarm(left));
                let alarms: Vec<OwnedFd> = alarms.collect();
                let host = self.clone();
                let keep = move |poller: Poller| watch(&host, alarms, &poller, &react);
                Some(Thread::start("tombolo-margin", keep)?)
            }
        };
        Ok(MarginKeeper {
            thread,
            host: self.clone(),
        })
    }
}

/// Keeps a margin of memory until it is dropped; see [`RegionHost::keep_margin`].
#[must_use = "the margin is kept only as long as this lives"]
pub struct MarginKeeper {
    /// `None` if no margin is to be kept.
    thread: Option<Thread>,
    host: RegionHost,
}

impl Drop for MarginKeeper {
    fn drop(&mut self) {
        drop(self.thread.take());
        self.host.set_level(|levels| levels.margin = Level::Normal);
    }
}

impl fmt::Debug for MarginKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarginKeeper").finish_non_exhaustive()
    }
}

/// The thread's work.
fn watch(host: &RegionHost, mut alarms: Vec<OwnedFd>, poller: &Poller, react: &dyn Fn(Headroom)) {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let filled = FILLED_PER_SECOND.saturating_mul(processors);
    let mut holds = Debounce::new(LASTS);
    loop {
        let begun = Instant::now();
        // Exact as far as it decides when to look again.
        let enough = match host.purgeable() {
            0 => filled,
            _ => filled / 100,
        };
        host.recycler().give_up_disused();
        let tick = host.margin().tick(host, enough);
        let mut rises = false;
        if let Some(level) = holds.note(Instant::now(), &[tick.met])
            && host.set_level(|levels| levels.margin = level)
        {
            let left = tick.left.map_or(0, |left| left.memory);
            tracing::info!(%level, left, "memory pressure, by the margin");
            rises = level > Level::Normal;
        }
        if let Some(left) = tick.left.filter(|_| tick.short) {
            react(left);
        }
        if rises {
            // Last, because this takes longer than it frees.
            parking::forget_all();
        }
        let left = tick.left.map(|left| left.memory);
        let rest = rest(left, host.margin().keep(), host.purgeable() > 0, filled);
        let until = Instant::now() + rest.max(begun.elapsed() * PART);
        let until = holds.until().map_or(until, |it| it.min(until));
        let descriptors: Vec<_> = alarms.iter().map(AsFd::as_fd).collect();
        match poller.wait(&descriptors, PollFlags::IN, Some(until)) {
            Ok(Some(flags)) => {
                let mut flags = flags.into_iter();
                alarms.retain(|alarm| {
                    let flags = flags.next().unwrap_or(PollFlags::empty());
                    // It stays readable until it is read. It fails once its cgroup is
                    // gone.
                    let is_read = || rustix::io::read(alarm, &mut [0; 8]).is_ok();
                    flags.is_empty() || flags.contains(PollFlags::IN) && is_read()
                });
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("the margin of memory is no longer kept: {error}");
                return;
            }
        }
    }
}

/// Returns how long to wait before the next look.
fn rest(left: Option<u64>, keep: u64, purgeable: bool, filled: u64) -> Duration {
    // Until memory could be filled down to half of the margin.
    let beyond = left.map_or(u64::MAX, |left| left.saturating_sub(keep / 2));
    let nanoseconds = u128::from(beyond) * 1_000_000_000 / u128::from(filled);
    let until_filled = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    until_filled.clamp(SOON, if purgeable { TICK } else { SELDOM })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_margin_is_looked_at_more_often() {
        const MIB: u64 = 1 << 20;
        let rest = |left, purgeable| rest(Some(left), 32 * MIB, purgeable, 1000 * MIB);
        let ms = Duration::from_millis;
        assert_eq!(rest(u64::MAX, true), TICK);
        assert_eq!(rest(26 * MIB, true), TICK);
        assert_eq!(rest(20 * MIB, true), ms(4));
        assert_eq!(rest(0, true), SOON);
        assert_eq!(rest(u64::MAX, false), SELDOM);
        assert_eq!(rest(116 * MIB, false), ms(100));
        assert_eq!(rest(0, false), SOON);
    }

    #[test]
    fn unknown_memory_is_looked_at_seldom() {
        assert_eq!(rest(None, 1, false, 1), SELDOM);
    }
}

//! Reactions to reports of memory pressure.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::{Levels, RegionHost};
use crate::pressure::{Level, PressureSink, PressureSource};
use crate::sys::parking;

impl RegionHost {
    /// Watches for memory pressure that `source` reports, until the [`PressureMonitor`] is
    /// dropped. On each report the host does what
    /// [`report_pressure`](RegionHost::report_pressure) does. Then it calls `react` with the
    /// level and the bytes that were purged. There the program can end guests if purging was
    /// not enough. `react` is called on the source's thread, which reports nothing else
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// If the source does not start.
    pub fn watch_pressure(
        &self,
        source: impl PressureSource + 'static,
        react: impl Fn(Level, u64) + Send + Sync + 'static,
    ) -> io::Result<PressureMonitor> {
        let name = source.name();
        let host = self.clone();
        let sink = PressureSink::new(move |level| {
            let purged = host.report_pressure(level);
            react(level, purged);
        });
        let source = Box::new(source).start(sink)?;
        tracing::debug!("memory pressure is watched by {name}");
        Ok(PressureMonitor {
            source: Mutex::new(Some(source)),
            name,
            host: self.clone(),
        })
    }

    /// Reacts to memory pressure, for programs that learn of it in a way of their own. First
    /// it gives up the memory of ended regions, and purges. Under moderate pressure it purges half
    /// of the bytes that nobody pins, the least recently unpinned first; under critical pressure
    /// all of them. Then it tells the guests. Returns how many bytes were purged.
    ///
    /// Report as long as there is pressure, and [`Level::Normal`] when it is over. If the level
    /// is lower than before, the guests are told, and nothing is purged.
    ///
    /// Blocks while it purges: about 0.2 s for each GiB.
    pub fn report_pressure(&self, level: Level) -> u64 {
        if level > Level::Normal {
            self.give_up_spare();
        }
        let before = self.levels().reported;
        let purged = match part_to_purge(before, level, || self.purgeable()) {
            0 => 0,
            bytes => self.purge(bytes),
        };
        let changed = self.set_level(|levels| levels.reported = level);
        if changed || purged > 0 {
            tracing::info!(%level, purged, "memory pressure");
        }
        if level > Level::Normal && self.check_process().is_ok() {
            // What ended before others knew of the level.
            self.give_up_spare();
            parking::forget_all();
        }
        purged
    }

    /// Changes the levels of memory pressure, and tells guests the higher one. Returns
    /// whether the higher one has changed.
    pub(super) fn set_level(&self, note: impl FnOnce(&mut Levels)) -> bool {
        let mut levels = self.levels();
        note(&mut levels);
        let level = levels.reported.max(levels.margin);
        levels.pause = match level {
            Level::Normal => None,
            _ => levels.pause.take().or_else(|| Some(parking::Pause::new())),
        };
        // Under the lock, so that no older level is told later.
        self.pressure_level().send_if_modified(|now| {
            let changed = *now != level;
            *now = level;
            changed
        })
    }

    /// Returns the level of memory pressure: the last reported one, or that of the
    /// [margin](crate::HostLimits::margin) if it is higher. [`Level::Normal`] at first.
    #[must_use]
    pub fn pressure(&self) -> Level {
        *self.pressure_level().borrow()
    }

    /// Returns the changes of the level from now on, to wait for them.
    #[must_use]
    pub fn pressure_changes(&self) -> PressureChanges {
        PressureChanges {
            changes: self.pressure_level().subscribe(),
            _host: self.clone(),
        }
    }
}

/// Returns how many of the purgeable bytes to purge.
fn part_to_purge(before: Level, level: Level, purgeable: impl FnOnce() -> u64) -> u64 {
    match level {
        _ if level < before => 0,
        Level::Normal => 0,
        Level::Moderate => purgeable().div_ceil(2),
        Level::Critical => purgeable(),
    }
}

/// The changes of a host's level of memory pressure; see [`RegionHost::pressure_changes`].
/// Keeps the host alive.
#[derive(Clone)]
pub struct PressureChanges {
    changes: watch::Receiver<Level>,
    /// Owns the sender, so that the wait for a change never fails.
    _host: RegionHost,
}

impl PressureChanges {
    /// Returns the current level, which [`changed`](PressureChanges::changed) does not report
    /// again. Does not block.
    pub fn level(&mut self) -> Level {
        *self.changes.borrow_and_update()
    }

    /// Waits until the level has changed since the last call of this or of
    /// [`level`](PressureChanges::level), and returns it. If it changed several times in
    /// between, only the last change is reported. Dropping the future loses no change.
    pub async fn changed(&mut self) -> Level {
        let changed = self.changes.changed().await;
        debug_assert!(changed.is_ok(), "the host has the sender");
        self.level()
    }
}

impl fmt::Debug for PressureChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureChanges")
            .field("level", &*self.changes.borrow())
            .finish_non_exhaustive()
    }
}

/// The watch over a source of memory pressure, until it is dropped; see
/// [`RegionHost::watch_pressure`].
///
/// Dropping it stops the source, and takes its reports back: the reported level is
/// [`Level::Normal`] then, because nobody would report the end of the pressure.
#[must_use = "pressure is watched only while this lives"]
pub struct PressureMonitor {
    /// `None` only while it is dropped. Behind a lock only so that the monitor can be shared.
    source: Mutex<Option<Box<dyn Send>>>,
    name: String,
    host: RegionHost,
}

impl Drop for PressureMonitor {
    fn drop(&mut self) {
        let source = self
            .source
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        drop(source.take());
        self.host.report_pressure(Level::Normal);
    }
}

impl fmt::Debug for PressureMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureMonitor")
            .field("source", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use Level::{Critical, Moderate, Normal};

    /// A source whose reports come from a test.
    #[derive(Clone, Default)]
    struct Spoken(Arc<Mutex<Option<PressureSink>>>);

    impl Spoken {
        fn report(&self, level: Level) {
            let sink = self.0.lock().unwrap().clone();
            sink.expect("it was started, and not stopped").report(level);
        }
    }

    /// Stops it.
    struct Started(Spoken);

    impl Drop for Started {
        fn drop(&mut self) {
            *self.0.0.lock().unwrap() = None;
        }
    }

    impl PressureSource for Spoken {
        fn name(&self) -> String {
            "a test".into()
        }

        fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
            *self.0.lock().unwrap() = Some(sink);
            Ok(Box::new(Started(*self)))
        }
    }

    /// Returns the level if it has changed.
    fn change(changes: &mut PressureChanges) -> Option<Level> {
        let changed = pin!(changes.changed());
        match changed.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(level) => Some(level),
            Poll::Pending => None,
        }
    }

    // rule 8
    #[test]
    fn pressure_purges_half_then_all() {
        assert_eq!(part_to_purge(Normal, Moderate, || 101), 51);
        assert_eq!(part_to_purge(Moderate, Moderate, || 50), 25);
        assert_eq!(part_to_purge(Normal, Critical, || 101), 101);
        assert_eq!(part_to_purge(Critical, Critical, || 0), 0);
    }

    // rule 8
    #[test]
    fn end_of_pressure_purges_nothing() {
        let never = || -> u64 { panic!("nobody asks") };
        for (before, level) in [
            (Normal, Normal),
            (Critical, Moderate),
            (Critical, Normal),
            (Moderate, Normal),
        ] {
            assert_eq!(part_to_purge(before, level, never), 0);
        }
    }

    // rule 8
    #[test]
    fn report_tells_guests_and_then_calls_back() {
        let host = RegionHost::new();
        assert_eq!(host.pressure(), Normal);
        let (source, seen) = (Spoken::default(), Arc::new(Mutex::new(Vec::new())));
        let react = {
            let (host, seen) = (host.clone(), seen.clone());
            move |level, _| seen.lock().unwrap().push((level, host.pressure()))
        };
        let monitor = host.watch_pressure(source.clone(), react).unwrap();
        let mut changes = host.pressure_changes();
        source.report(Moderate);
        assert_eq!(change(&mut changes), Some(Moderate));
        source.report(Moderate);
        assert_eq!(change(&mut changes), None, "it is no change");
        source.report(Critical);
        let seen = seen.lock().unwrap().clone();
        let levels = [Moderate, Moderate, Critical];
        assert_eq!(seen, levels.map(|level| (level, level)));

        assert_eq!(host.pressure(), Critical);
        drop(monitor);
        assert_eq!(host.pressure(), Normal);
        assert!(source.0.lock().unwrap().is_none(), "it was stopped");
    }

    #[test]
    fn boxed_source_is_a_source() {
        let (host, source) = (RegionHost::new(), Spoken::default());
        let boxed: Box<dyn PressureSource> = Box::new(source.clone());
        let monitor = host.watch_pressure(boxed, |_, _| {}).unwrap();
        assert_eq!(
            format!("{monitor:?}"),
            r#"PressureMonitor { source: "a test", .. }"#
        );
        source.report(Moderate);
        assert_eq!(host.pressure(), Moderate);
    }
}

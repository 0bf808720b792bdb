//! The timers of a guest that answers several calls at a time.
//!
//! All of them use the guest's one clock, which stands still while the guest as a whole waits for
//! another guest, or for its turn. A call that awaits another guest goes on being charged for the
//! time in which its guest runs, but not for the time in which the guest waits. So in a chain of
//! calls the deadline of the last one is met first, as it is with plain calls.
//!
//! Work that goes on after its call has returned has no timer. While there is no other, a limit
//! holds for the time that the guest runs without a wait.

use std::time::Duration;

/// A limit and its name.
type TimeLimit = (&'static str, Duration);

/// Names a timer of one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u64);

/// The timers of one guest. All times are those of its clock.
#[derive(Debug)]
pub(super) struct Timers {
    running: Vec<RunningTimer>,
    next: u64,
    /// The limit of a step: of the time from one wait to the next.
    step: Option<TimeLimit>,
    step_began: Duration,
    /// When the guest began to wait, if it waits.
    waits_since: Option<Duration>,
}

#[derive(Debug)]
struct RunningTimer {
    key: TimerKey,
    limit: Option<TimeLimit>,
    /// When it began, plus the time that does not count.
    began: Duration,
    /// The number of guests that the call awaits.
    awaited: u32,
}

impl RunningTimer {
    /// Returns the time at which it is up.
    fn end(&self) -> Option<Duration> {
        let (_, limit) = self.limit?;
        Some(self.began.saturating_add(limit))
    }
}

impl Timers {
    pub(super) fn new(step: Option<TimeLimit>) -> Timers {
        Timers {
            running: Vec::new(),
            next: 0,
            step,
            step_began: Duration::ZERO,
            waits_since: None,
        }
    }

    /// Starts a timer.
    pub(super) fn add(&mut self, limit: Option<TimeLimit>, now: Duration) -> TimerKey {
        let key = TimerKey(self.next);
        self.next += 1;
        self.running.push(RunningTimer {
            key,
            limit,
            began: now,
            awaited: 0,
        });
        key
    }

    /// Stops a timer.
    pub(super) fn remove(&mut self, key: TimerKey) {
        self.running.retain(|timer| timer.key != key);
    }

    /// Notes that the call of a timer begins to await one more guest, or no longer awaits one.
    pub(super) fn awaits(&mut self, key: TimerKey, one_more: bool) {
        let timer = self.running.iter_mut().find(|timer| timer.key == key);
        if let Some(timer) = timer {
            timer.awaited = match one_more {
                true => timer.awaited + 1,
                false => timer.awaited.saturating_sub(1),
            };
        }
    }

    /// Notes that the guest runs again. `same_step` says whether it only waited for its turn or in
    /// a plain call.
    pub(super) fn run_on(&mut self, now: Duration, same_step: bool) {
        if let Some(since) = self.waits_since.take() {
            let waited = now.saturating_sub(since);
            for timer in self.running.iter_mut().filter(|timer| timer.awaited > 0) {
                timer.began = timer.began.saturating_add(waited);
            }
        }
        if !same_step {
            self.step_began = now;
        }
    }

    /// Notes that the guest waits. Returns how long it may, if there is a limit.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        self.waits_since = Some(now);
        let waiting = self.running.iter().filter(|timer| timer.awaited == 0);
        let first = waiting.filter_map(RunningTimer::end).min()?;
        Some(first.saturating_sub(now))
    }

    /// Returns the limit of a timer that is up, if there is one.
    pub(super) fn up(&self, now: Duration) -> Option<TimeLimit> {
        let waits = self.waits_since.is_some();
        let mut running = self.running.iter();
        let up = running.find(|timer| {
            let counts = timer.awaited == 0 || !waits;
            counts && timer.end().is_some_and(|end| end <= now)
        });
        if let Some(timer) = up {
            return timer.limit;
        }
        let (_, step) = self.step?;
        let ran = now.saturating_sub(self.step_began);
        self.step
            .filter(|_| !waits && self.running.is_empty() && ran >= step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: TimeLimit = ("call-time", Duration::from_secs(10));

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    // rule 10
    #[test]
    fn each_call_has_its_own_deadline() {
        let mut timers = Timers::new(None);
        let first = timers.add(Some(LIMIT), seconds(0));
        timers.add(Some(LIMIT), seconds(5));
        assert_eq!(timers.wait(seconds(6)), Some(seconds(4)));
        timers.run_on(seconds(9), false);
        assert_eq!(timers.up(seconds(9)), None);
        assert_eq!(timers.up(seconds(10)), Some(LIMIT));
        timers.remove(first);
        assert_eq!(timers.up(seconds(14)), None);
        assert_eq!(timers.up(seconds(15)), Some(LIMIT));
    }

    // rule 11
    #[test]
    fn awaiting_another_guest_does_not_count() {
        let mut timers = Timers::new(None);
        let call = timers.add(Some(LIMIT), seconds(0));
        timers.awaits(call, true);
        assert_eq!(timers.wait(seconds(1)), None);
        assert_eq!(timers.up(seconds(50)), None);
        timers.run_on(seconds(60), false);
        timers.awaits(call, false);
        assert_eq!(timers.wait(seconds(62)), Some(seconds(7)));
        timers.run_on(seconds(69), false);
        assert_eq!(timers.up(seconds(69)), Some(LIMIT));
    }

    // rule 10
    #[test]
    fn running_counts_while_another_guest_is_awaited() {
        let mut timers = Timers::new(None);
        let call = timers.add(Some(LIMIT), seconds(0));
        timers.awaits(call, true);
        assert_eq!(timers.up(seconds(9)), None);
        assert_eq!(timers.up(seconds(10)), Some(LIMIT));
    }

    // rule 10
    #[test]
    fn work_without_a_call_has_a_limit_for_each_step() {
        let mut timers = Timers::new(Some(LIMIT));
        timers.run_on(seconds(100), false);
        assert_eq!(timers.up(seconds(109)), None);
        timers.run_on(seconds(109), true);
        assert_eq!(timers.up(seconds(110)), Some(LIMIT), "it only yielded");
        timers.run_on(seconds(110), false);
        assert_eq!(timers.up(seconds(119)), None);
        assert_eq!(timers.wait(seconds(119)), None);
        assert_eq!(timers.up(seconds(500)), None, "it waits");
    }
}

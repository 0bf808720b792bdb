//! Deadlines of guests.
//!
//! A ticker advances the engine's epoch every 10 ms. At each tick a running guest checks whether
//! its time is up and whether it made a write violation, and yields. A [`Clock`] counts the time
//! that the guest runs or waits in host calls. It stops while the guest waits for a guest that it
//! called, and while others have their turn. A timer ends a guest that waits in a host call.
//!
//! A guest that answers several calls at a time has a timer for each; see [`Timers`].
//!
//! `call-time` limits a call of an export, and instantiation. `run-time` limits `wasi:cli/run`, and
//! is unlimited by default: a server is a command that runs for good, and other guests continue
//! meanwhile.
//!
//! # Panics
//!
//! A panic in a host function unwinds to the entry of wasm. Wasmtime carries it across the wasm
//! frames and, on a fiber, across the change of stacks. It unwinds from the poll of the call, where
//! [`Metered`] catches it. By then wasmtime has restored its per-thread state and released the
//! fiber's stack, as for a trap, and the values of the call are dropped. The store is not entered
//! again.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::status::GuestStatus;
use super::timers::{TimerKey, Timers};
use tombolo::internal::sys::StoreId;
use tombolo::internal::sys::entry::Entered;

/// Counts the time that a guest runs or waits in host calls.
#[derive(Debug, Default)]
pub(super) struct Clock {
    state: Mutex<ClockState>,
    /// Set if the guest answers several calls at a time.
    timers: OnceLock<Mutex<Timers>>,
}

#[derive(Debug, Default)]
struct ClockState {
    /// The name and the value of the limit.
    limit: Option<(&'static str, Duration)>,
    spent: Duration,
    /// The time since which the clock is running.
    since: Option<Instant>,
    /// Whether the guest waits for a guest that it called.
    calling: bool,
    /// Whether the guest was suspended for others to have their turn.
    yielded: bool,
}

impl ClockState {
    fn spent(&self) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Stops the clock. Without a limit, it counts nothing.
    #[inline]
    fn stop(&mut self, now: Instant) {
        if let Some(since) = self.since.take()
            && self.limit.is_some()
        {
            self.spent += now.saturating_duration_since(since);
        }
    }
}

impl Clock {
    #[inline]
    fn inner(&self) -> MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn timers(&self) -> Option<MutexGuard<'_, Timers>> {
        let timers = self.timers.get()?;
        Some(timers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Restarts the clock for a guest that answers several calls at a time, or awaits several.
    /// `step` limits how long it may run without a wait, while no timer runs.
    pub(super) fn start_timers(&self, step: Option<(&'static str, Duration)>) {
        *self.inner() = ClockState {
            limit: Some(("", Duration::MAX)),
            since: Some(Instant::now()),
            ..ClockState::default()
        };
        let _ = self.timers.set(Mutex::new(Timers::new(step)));
    }

    /// Starts a timer, which runs until the result is dropped. `limit` is the limit and its name.
    pub(super) fn start_timer(self: &Arc<Self>, limit: Option<(&'static str, Duration)>) -> Timer {
        let spent = self.inner().spent();
        let key = self.timers().map(|mut timers| timers.add(limit, spent));
        Timer {
            clock: self.clone(),
            key,
        }
    }

    /// Restarts the clock for a call. `name` is the name of the limit.
    pub(super) fn start(&self, name: &'static str, limit: Option<Duration>) {
        self.start_at(name, limit, Instant::now());
    }

    /// Restarts the clock for a call that began at `now`.
    #[inline]
    pub(super) fn start_at(&self, name: &'static str, limit: Option<Duration>, now: Instant) {
        *self.inner() = ClockState {
            limit: limit.map(|limit| (name, limit)),
            since: Some(now),
            ..ClockState::default()
        };
    }

    /// Stops the clock at `now`, because the guest waits for a guest that it called. The clock
    /// runs again when the result is dropped.
    #[inline]
    pub(super) fn pause(self: &Arc<Self>, now: Instant) -> Paused {
        let mut inner = self.inner();
        inner.stop(now);
        inner.calling = true;
        drop(inner);
        Paused {
            clock: self.clone(),
            resumed: None,
        }
    }

    /// Notes that the guest is suspended for others to have their turn. The clock stops until the
    /// guest is polled again.
    pub(super) fn yielded(&self) {
        self.inner().yielded = true;
    }

    /// Returns an error if the time is up.
    pub(super) fn check(&self) -> Result<(), TimeUp> {
        let inner = self.inner();
        if let Some(timers) = self.timers() {
            return match timers.up(inner.spent()) {
                Some((name, limit)) => Err(TimeUp { name, limit }),
                None => Ok(()),
            };
        }
        match inner.limit {
            Some((name, limit)) if inner.spent() >= limit => Err(TimeUp { name, limit }),
            _ => Ok(()),
        }
    }

    #[inline]
    fn polled(&self) {
        let mut inner = self.inner();
        if self.timers.get().is_some() {
            self.run_timers_on(&inner);
        }
        inner.yielded = false;
        if inner.since.is_none() && !inner.calling {
            inner.since = Some(Instant::now());
        }
    }

    /// Notes that the guest runs again, for its timers.
    #[cold]
    fn run_timers_on(&self, inner: &ClockState) {
        if let Some(mut timers) = self.timers() {
            timers.run_on(inner.spent(), inner.yielded || inner.calling);
        }
    }

    /// Returns the time that is left, if the guest waits in a host call. To be called after a
    /// poll that did not end the call.
    fn pending(&self) -> Option<Duration> {
        let mut inner = self.inner();
        if inner.yielded {
            inner.stop(Instant::now());
        }
        if let Some(mut timers) = self.timers() {
            inner.since?;
            return timers.wait(inner.spent());
        }
        let (_, limit) = inner.limit?;
        let left = limit.saturating_sub(inner.spent());
        inner.since.map(|_| left)
    }
}

/// A timer of one call in progress, or of a command, which stops when this is dropped.
pub(super) struct Timer {
    clock: Arc<Clock>,
    /// `None` if the clock has no timers.
    key: Option<TimerKey>,
}

impl Timer {
    /// Notes that the call awaits another guest. The timer stops meanwhile, except while the
    /// guest runs.
    pub(super) fn await_guest(self: &Arc<Self>) -> AwaitedGuest {
        self.change(|timers, key| timers.awaits(key, true));
        AwaitedGuest(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Timers, TimerKey)) {
        if let Some(key) = self.key
            && let Some(mut timers) = self.clock.timers()
        {
            change(&mut timers, key);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.change(Timers::remove);
    }
}

/// A wait of a call for another guest; see [`Timer::await_guest`].
pub(super) struct AwaitedGuest(Arc<Timer>);

impl Drop for AwaitedGuest {
    fn drop(&mut self) {
        self.0.change(|timers, key| timers.awaits(key, false));
    }
}

/// A stopped clock, which runs again when this is dropped; see [`Clock::pause`].
pub(super) struct Paused {
    clock: Arc<Clock>,
    /// The time at which it runs again, if that was read already.
    resumed: Option<Instant>,
}

impl Paused {
    /// Lets the clock run again, since `now`.
    pub(super) fn resume_at(mut self, now: Instant) {
        self.resumed = Some(now);
    }
}

impl Drop for Paused {
    #[inline]
    fn drop(&mut self) {
        let mut inner = self.clock.inner();
        inner.calling = false;
        inner.since = Some(self.resumed.unwrap_or_else(Instant::now));
    }
}

/// The error that a guest reached a limit of time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("its time is up: `{name}` allows {limit:?} of running and of waiting in host calls")]
pub(super) struct TimeUp {
    name: &'static str,
    limit: Duration,
}

/// The error that the host panicked while a guest ran, in its own code or in the embedder's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{BUG}: {0}")]
pub(super) struct Panicked(String);

/// The text for callers of a guest in which the host panicked. The panic's message is for the
/// operator only.
pub(super) const BUG: &str = "the host panicked, which is a bug in the host";

impl Panicked {
    #[inline]
    pub(super) fn new(panic: &(dyn Any + Send)) -> Panicked {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Panicked(text.unwrap_or("no message").to_owned())
    }
}

pin_project! {
    /// A call into a guest. While it runs, its store is registered as the one that the thread is
    /// in. The caller notes when the guest ran last; this does so only for polls that did not end
    /// the call. It ends with an error if the guest's time is up, if the guest is told to end, or
    /// if the host panics.
    pub(super) struct Metered<'a, F> {
        // `None` once the call has returned.
        #[pin]
        call: Option<F>,
        store: StoreId,
        clock: &'a Clock,
        status: &'a GuestStatus,
        alarm: Option<Pin<Box<Sleep>>>,
    }

    impl<F> PinnedDrop for Metered<'_, F> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.call.is_some() {
                // Dropping a suspended call runs code of its store too.
                let _entered = Entered::new(*this.store);
                this.call.set(None);
            }
        }
    }
}

impl<'a, F> Metered<'a, F> {
    #[inline]
    pub(super) fn new(
        store: StoreId,
        clock: &'a Clock,
        status: &'a GuestStatus,
        call: F,
    ) -> Metered<'a, F> {
        Metered {
            call: Some(call),
            store,
            clock,
            status,
            alarm: None,
        }
    }
}

impl<T, F: Future<Output = wasmtime::Result<T>>> Future for Metered<'_, F> {
    type Output = wasmtime::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Registered before the call is polled, so that a request to end which arrives meanwhile
        // wakes the task.
        if let Err(told) = this.status.watch(context) {
            return Poll::Ready(Err(told.into()));
        }
        this.clock.polled();
        let polled = {
            let _entered = Entered::new(*this.store);
            let call = this.call.as_mut().as_pin_mut();
            let call = call.expect("a call that has returned is not polled");
            // wasmtime carries a panic of a host function through wasm to here, and the store can
            // be dropped afterwards. So this guest ends, and others continue.
            let polled = catch_unwind(AssertUnwindSafe(|| call.poll(context)));
            if matches!(polled, Ok(Poll::Ready(_))) {
                this.call.set(None);
            }
            polled
        };
        let polled = match polled {
            Ok(polled) => polled,
            Err(panic) => return Poll::Ready(Err(Panicked::new(&*panic).into())),
        };
        if polled.is_ready() {
            return polled;
        }
        this.status.ran_at(Instant::now());
        let Some(left) = this.clock.pending() else {
            *this.alarm = None;
            return Poll::Pending;
        };
        // The timer below does not suffice: a new timer never fires at once, however little time
        // is left.
        if let Err(up) = this.clock.check() {
            return Poll::Ready(Err(up.into()));
        }
        let alarm = this.alarm.insert(Box::pin(tokio::time::sleep(left)));
        if alarm.as_mut().poll(context).is_ready() {
            // Timers are coarser than clocks, so the guest is polled again.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 11
    #[test]
    fn waiting_for_a_called_guest_does_not_count() {
        let clock = Arc::new(Clock::default());
        clock.start("call-time", Some(Duration::from_secs(3600)));
        let paused = clock.pause(Instant::now());
        let before = clock.inner().spent();
        assert_eq!(clock.inner().spent(), before);
        assert_eq!(clock.pending(), None);
        drop(paused);
        assert!(clock.pending().is_some());
    }

    #[test]
    fn turns_of_others_do_not_count() {
        let clock = Arc::new(Clock::default());
        clock.start("call-time", Some(Duration::from_secs(3600)));
        clock.yielded();
        assert_eq!(clock.pending(), None);
        let before = clock.inner().spent();
        assert_eq!(clock.inner().spent(), before);
        clock.polled();
        assert!(clock.pending().is_some());
    }

    // rule 10
    #[test]
    fn limit_of_zero_is_reached_at_once() {
        let clock = Arc::new(Clock::default());
        clock.start("call-time", Some(Duration::ZERO));
        assert!(clock.check().is_err());
        clock.start("call-time", None);
        assert!(clock.check().is_ok());
    }
}

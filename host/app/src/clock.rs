//! How long a guest has been at a call.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::status::GuestStatus;
use tombolo::internal::sys::StoreId;
use tombolo::internal::sys::entry::Entered;

/// Counts a guest's own running and its own waiting in host calls, but neither
/// the time in which it waits for a guest that it called, nor that in which it
/// has been set aside for others to have their turn.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<ClockState>);

#[derive(Debug, Default)]
struct ClockState {
    limit: Option<Duration>,
    spent: Duration,
    /// Since when it is counting.
    since: Option<Instant>,
    /// It waits for a guest that it called.
    calling: bool,
    /// It was stopped for others to have their turn.
    yielded: bool,
}

impl ClockState {
    fn spent(&self) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stop(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.spent += now.saturating_duration_since(since);
        }
    }
}

impl Clock {
    fn inner(&self) -> MutexGuard<'_, ClockState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts anew, for one call.
    pub(super) fn start(&self, limit: Option<Duration>) {
        *self.inner() = ClockState {
            limit,
            since: Some(Instant::now()),
            ..ClockState::default()
        };
    }

    /// The guest waits for a guest that it called, since just `now`, until what is
    /// returned is dropped.
    pub(super) fn pause(self: &Arc<Self>, now: Instant) -> Paused {
        let mut inner = self.inner();
        inner.stop(now);
        inner.calling = true;
        drop(inner);
        Paused(self.clone())
    }

    /// The guest is stopped for others to have their turn, until it is polled
    /// again.
    pub(super) fn yielded(&self) {
        self.inner().yielded = true;
    }

    /// What is over, if the time is up.
    pub(super) fn check(&self) -> Result<(), TimeUp> {
        let inner = self.inner();
        match inner.limit {
            Some(limit) if inner.spent() >= limit => Err(TimeUp { limit }),
            _ => Ok(()),
        }
    }

    fn polled(&self) {
        let mut inner = self.inner();
        inner.yielded = false;
        if inner.since.is_none() && !inner.calling {
            inner.since = Some(Instant::now());
        }
    }

    /// After a poll that did not end the call: when to look again, if it is
    /// waiting in a host call.
    fn pending(&self) -> Option<Duration> {
        let mut inner = self.inner();
        if inner.yielded {
            inner.stop(Instant::now());
        }
        let left = inner.limit?.saturating_sub(inner.spent());
        inner.since.map(|_| left)
    }
}

/// See [`Clock::pause`].
pub(super) struct Paused(Arc<Clock>);

impl Drop for Paused {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.calling = false;
        inner.since = Some(Instant::now());
    }
}

/// A guest took longer than it may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("its time is up: the limit is {limit:?} of its own running and waiting")]
pub(super) struct TimeUp {
    limit: Duration,
}

/// The host panicked while a guest ran: in a function of its own, or one of the embedder's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{BUG}: {0}")]
pub(super) struct Panicked(String);

/// The text for the callers of such a guest. The panic's own message is for the operator.
pub(super) const BUG: &str = "the host panicked, which is a bug of the host's";

impl Panicked {
    pub(super) fn new(panic: &(dyn Any + Send)) -> Panicked {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Panicked(text.unwrap_or("it says no more").to_owned())
    }
}

pin_project! {
    /// A call into a guest: says which store the thread is in while it runs, and
    /// ends when the guest's time is up while it waits, when the guest is told to end,
    /// or when the host panics in it.
    pub(super) struct Metered<F> {
        // Taken only by drop.
        #[pin]
        call: Option<F>,
        store: StoreId,
        clock: Arc<Clock>,
        status: Arc<GuestStatus>,
        alarm: Option<Pin<Box<Sleep>>>,
    }

    impl<F> PinnedDrop for Metered<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Ending a call that waits runs code of its store as well.
            let _entered = Entered::new(*this.store);
            this.call.set(None);
        }
    }
}

impl<F> Metered<F> {
    pub(super) fn new(
        store: StoreId,
        clock: &Arc<Clock>,
        status: &Arc<GuestStatus>,
        call: F,
    ) -> Metered<F> {
        Metered {
            call: Some(call),
            store,
            clock: clock.clone(),
            status: status.clone(),
            alarm: None,
        }
    }
}

impl<T, F: Future<Output = wasmtime::Result<T>>> Future for Metered<F> {
    type Output = wasmtime::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Before the call is polled: word that comes meanwhile wakes the task.
        if let Err(told) = this.status.watch(context) {
            return Poll::Ready(Err(told.into()));
        }
        this.clock.polled();
        let polled = {
            let _entered = Entered::new(*this.store);
            let call = this.call.as_pin_mut().expect("taken only by drop");
            // wasmtime carries a panic of a host function through wasm to here, and the store
            // can be dropped afterwards. So that guest ends, and others go on.
            catch_unwind(AssertUnwindSafe(|| call.poll(context)))
        };
        this.status.ran();
        let polled = match polled {
            Ok(polled) => polled,
            Err(panic) => return Poll::Ready(Err(Panicked::new(&*panic).into())),
        };
        if polled.is_ready() {
            return polled;
        }
        let Some(left) = this.clock.pending() else {
            *this.alarm = None;
            return Poll::Pending;
        };
        // Not left to the timer below: a new one never fires at once, however
        // little time is left.
        if let Err(up) = this.clock.check() {
            return Poll::Ready(Err(up.into()));
        }
        let alarm = this.alarm.insert(Box::pin(tokio::time::sleep(left)));
        if alarm.as_mut().poll(context).is_ready() {
            // Timers are coarser than clocks: look again.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_called_guest_does_not_count() {
        let clock = Arc::new(Clock::default());
        clock.start(Some(Duration::from_secs(3600)));
        let paused = clock.pause(Instant::now());
        let before = clock.inner().spent();
        assert_eq!(clock.inner().spent(), before);
        assert_eq!(clock.pending(), None);
        drop(paused);
        assert!(clock.pending().is_some());
    }

    #[test]
    fn a_turn_given_to_others_does_not_count() {
        let clock = Arc::new(Clock::default());
        clock.start(Some(Duration::from_secs(3600)));
        clock.yielded();
        assert_eq!(clock.pending(), None);
        let before = clock.inner().spent();
        assert_eq!(clock.inner().spent(), before);
        clock.polled();
        assert!(clock.pending().is_some());
    }

    #[test]
    fn no_time_at_all_is_up_at_once() {
        let clock = Arc::new(Clock::default());
        clock.start(Some(Duration::ZERO));
        assert!(clock.check().is_err());
        clock.start(None);
        assert!(clock.check().is_ok());
    }
}

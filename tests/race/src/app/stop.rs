//! The signal that makes a guest end, wherever its task waits.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// How a guest is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It fails where it is.
    Fails,
    /// Its task is dropped where it is.
    Dropped,
}

/// A guest fails.
#[derive(Debug)]
pub(super) struct Failed;

#[derive(Debug, Default)]
pub(super) struct StopSignal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    how: Option<How>,
    waker: Option<Waker>,
}

impl StopSignal {
    pub(super) fn new() -> Arc<StopSignal> {
        Arc::default()
    }

    pub(super) fn end(&self, how: How) {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.how.get_or_insert(how);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// As when the epoch ticks.
    pub(super) fn check(&self) -> Result<(), Failed> {
        match self.get() {
            Some(How::Fails) => Err(Failed),
            _ => Ok(()),
        }
    }

    fn get(&self) -> Option<How> {
        self.0.lock().expect("nobody panics with it").how
    }

    /// Fails if the guest is to end in this way. Otherwise wakes the task when it is.
    pub(super) fn watch(&self, how: How, context: &Context<'_>) -> Result<(), Failed> {
        let mut state = self.0.lock().expect("nobody panics with it");
        if state.how == Some(how) {
            return Err(Failed);
        }
        state.waker = Some(context.waker().clone());
        Ok(())
    }

    /// Does something up to its end or to the guest's, if that is to be in this
    /// way.
    pub(super) async fn unless<R>(&self, how: How, what: impl Future<Output = R>) -> Option<R> {
        let mut what = pin!(what);
        poll_fn(|context| match self.watch(how, context) {
            Ok(()) => what.as_mut().poll(context).map(Some),
            Err(Failed) => Poll::Ready(None),
        })
        .await
    }
}

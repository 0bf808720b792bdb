//! Lends of calls that their caller has cancelled.
//!
//! A caller that cancels a call runs on, and so does the callee, with what was lent to it. So the
//! caller gives its windows on that away, in order: they end without poison. wasmtime drops the
//! caller's side of the call without the store. So the lends are kept here until the store is in
//! hand, which is before the guest's next host call. Until then the windows are masked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use wasmtime::AsContextMut;

use tombolo::Lending;

/// The lends of cancelled calls of one guest.
#[derive(Debug, Default)]
pub(super) struct Parting {
    some: AtomicBool,
    state: Mutex<PartingState>,
}

#[derive(Debug, Default)]
struct PartingState {
    lends: Vec<Lending>,
    /// Wakes the guest's task.
    waker: Option<Waker>,
}

impl Parting {
    fn state(&self) -> MutexGuard<'_, PartingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the lends of a call that was cancelled, and wakes the guest's task.
    pub(super) fn add(&self, lending: Lending) {
        let mut state = self.state();
        state.lends.push(lending);
        self.some.store(true, Ordering::Release);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the task of `context` when there are lends.
    pub(super) fn watch(&self, context: &Context<'_>) {
        let last = self.state().waker.replace(context.waker().clone());
        drop(last); // Without the lock.
    }

    /// Returns whether there are lends.
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    /// Takes all lends.
    pub(super) fn take(&self) -> Vec<Lending> {
        if !self.has_some() {
            return Vec::new();
        }
        let mut state = self.state();
        self.some.store(false, Ordering::Release);
        std::mem::take(&mut state.lends)
    }
}

/// Takes away the windows of the guest in the store in hand on what it lent in these calls, which
/// it has cancelled.
///
/// # Errors
///
/// If the memory could not be restored. The guest cannot go on then.
pub(super) fn relinquish(
    lends: Vec<Lending>,
    store: &mut impl AsContextMut,
) -> wasmtime::Result<()> {
    let mut lends = lends.into_iter();
    lends.try_for_each(|lending| lending.relinquish(store.as_context_mut()))
}

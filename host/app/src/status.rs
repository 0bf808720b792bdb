//! Whether a guest is alive, was told to end, or has ended. Any thread may ask, and may tell
//! the guest to end.
//!
//! A guest that computes obeys at its next tick, and a guest that waits obeys at once. Its
//! store goes first, then its lends, and then its callers are told.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::watch;

use tombolo::RegionHost;
use tombolo::internal::{Owner, RegionHostInternals as _};

/// Why a guest was told to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct StopReason {
    pub(super) reason: Arc<str>,
    /// Whether the whole app ends, so that this is no failure of the guest.
    pub(super) app_shutdown: bool,
}

/// How far an incarnation of a guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was not told to end.
    Alive,
    /// It was told to end, and its memory is not freed yet.
    Ending,
    /// Its memory is freed.
    Exited,
}

/// The status of one incarnation of a guest.
///
/// The guest's task looks here whenever it is polled, and at each tick while the guest runs.
pub(super) struct GuestStatus {
    inner: Mutex<StatusState>,
    memory: ResidentBytes,
    host: RegionHost,
    owner: Arc<Owner>,
    exited: watch::Sender<bool>,
}

/// Returns the resident bytes that only the guest's linear memories have.
type ResidentBytes = Box<dyn Fn() -> u64 + Send + Sync>;

#[derive(Debug)]
struct StatusState {
    stop_reason: Option<StopReason>,
    /// Wakes the guest's task, wherever it waits.
    waker: Option<Waker>,
    /// When the guest ran last.
    busy: Instant,
}

impl GuestStatus {
    /// Makes the status of a guest that is alive. `memory` returns the resident bytes that only
    /// the guest's linear memories have.
    pub(super) fn new(
        memory: impl Fn() -> u64 + Send + Sync + 'static,
        host: RegionHost,
        owner: Arc<Owner>,
    ) -> GuestStatus {
        GuestStatus {
            inner: Mutex::new(StatusState {
                stop_reason: None,
                waker: None,
                busy: Instant::now(),
            }),
            memory: Box::new(memory),
            host,
            owner,
            exited: watch::Sender::new(false),
        }
    }

    #[inline]
    fn inner(&self) -> MutexGuard<'_, StatusState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the guest end, wherever it is. Returns `false` if it was told before or has
    /// ended: the first reason counts.
    pub(super) fn end(&self, stop_reason: StopReason) -> bool {
        let mut inner = self.inner();
        if inner.stop_reason.is_some() || *self.exited.borrow() {
            return false;
        }
        inner.stop_reason = Some(stop_reason);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Fails if the guest was told to end.
    pub(super) fn check(&self) -> Result<(), StopReason> {
        match &self.inner().stop_reason {
            Some(stop_reason) => Err(stop_reason.clone()),
            None => Ok(()),
        }
    }

    /// Fails if the guest was told to end. Otherwise wakes the task when it is.
    #[inline]
    pub(super) fn watch(&self, context: &Context<'_>) -> Result<(), StopReason> {
        let mut inner = self.inner();
        if let Some(stop_reason) = &inner.stop_reason {
            return Err(stop_reason.clone());
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Ok(())
    }

    /// Waits until the guest is told to end. Only the guest's own task may wait, because one
    /// task is woken.
    pub(super) async fn stop_reason(&self) -> StopReason {
        poll_fn(|context| match self.watch(context) {
            Err(stop_reason) => Poll::Ready(stop_reason),
            Ok(()) => Poll::Pending,
        })
        .await
    }

    /// Notes that the guest ran until `now`.
    pub(super) fn ran_at(&self, now: Instant) {
        self.inner().busy = now;
    }

    /// Returns when the guest ran last.
    pub(super) fn last_busy(&self) -> Instant {
        self.inner().busy
    }

    /// Returns the bytes that its end would free: the resident bytes of its linear memories,
    /// and of regions on which no other guest has a claim. For large memories that takes a
    /// while, because the kernel is asked about each page.
    pub(super) fn bytes(&self) -> u64 {
        (self.memory)().saturating_add(self.host.exclusive_bytes(&self.owner))
    }

    /// Returns how far it has come.
    pub(super) fn stage(&self) -> Stage {
        if *self.exited.borrow() {
            Stage::Exited
        } else if self.inner().stop_reason.is_some() {
            Stage::Ending
        } else {
            Stage::Alive
        }
    }

    /// Waits until its store is dropped, and so its memory is freed.
    pub(super) async fn exited(&self) {
        // An error would mean that the sender is gone, and it is borrowed.
        let _ = self.exited.subscribe().wait_for(|exited| *exited).await;
    }
}

impl fmt::Debug for GuestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestStatus")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Marks a guest as exited when it is dropped, which is after the guest's store.
#[derive(Debug)]
pub(super) struct ExitGuard(pub(super) Arc<GuestStatus>);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.0.exited.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use tombolo::internal::RegionCtxInternals as _;

    use super::*;

    fn status() -> Arc<GuestStatus> {
        let owner = RegionHost::new().context("a").build().owner().clone();
        Arc::new(GuestStatus::new(|| 7, RegionHost::new(), owner))
    }

    fn stop_reason(reason: &str) -> StopReason {
        StopReason {
            reason: reason.into(),
            app_shutdown: false,
        }
    }

    #[test]
    fn first_reason_counts() {
        let status = status();
        assert_eq!((status.check(), status.stage()), (Ok(()), Stage::Alive));
        assert!(status.end(stop_reason("one")));
        assert!(!status.end(stop_reason("other")));
        assert_eq!(status.check(), Err(stop_reason("one")));
        assert_eq!(status.stage(), Stage::Ending);
    }

    #[test]
    fn exited_guest_cannot_be_told() {
        let status = status();
        drop(ExitGuard(status.clone()));
        assert_eq!(status.stage(), Stage::Exited);
        assert!(!status.end(stop_reason("late")));
        assert_eq!(status.check(), Ok(()));
    }

    #[tokio::test]
    async fn end_from_another_thread_wakes_the_task() {
        let status = status();
        let waiting = tokio::spawn({
            let status = status.clone();
            async move { status.stop_reason().await }
        });
        tokio::task::yield_now().await; // It waits now.
        let teller = std::thread::spawn({
            let status = status.clone();
            move || status.end(stop_reason("enough"))
        });
        assert_eq!(waiting.await.unwrap(), stop_reason("enough"));
        assert!(teller.join().unwrap());
    }

    #[tokio::test]
    async fn exit_waits_for_the_guard() {
        let status = status();
        let guard = ExitGuard(status.clone());
        let exited = tokio::spawn({
            let status = status.clone();
            async move { status.exited().await }
        });
        tokio::task::yield_now().await;
        assert!(!exited.is_finished());
        drop(guard);
        exited.await.unwrap();
        status.exited().await;
    }
}

//! Whether a guest lives, is stop_reason to end, or has ended; for all threads.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::watch;

use tombolo::RegionHost;
use tombolo::internal::Owner;

/// Why a guest was stop_reason to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct StopReason {
    pub(super) reason: Arc<str>,
    /// The whole app ends, so that this is no failure of the guest's.
    pub(super) app_shutdown: bool,
}

/// How far a guest's status has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Alive,
    /// It was stop_reason to end, and its memory is not back yet.
    Ending,
    /// Its memory is back.
    Exited,
}

/// What others see of a guest's status, and may do about it. The guest's task
/// looks here whenever it is polled, and at each tick while the guest runs.
pub(super) struct GuestStatus {
    inner: Mutex<StatusState>,
    memory: Memory,
    host: RegionHost,
    owner: Arc<Owner>,
    exited: watch::Sender<bool>,
}

/// Counts the bytes in memory that are of the guest's linear memories alone.
type Memory = Box<dyn Fn() -> u64 + Send + Sync>;

#[derive(Debug)]
struct StatusState {
    stop_reason: Option<StopReason>,
    /// Of the guest's task, wherever it waits.
    waker: Option<Waker>,
    busy: Instant,
}

impl GuestStatus {
    /// `memory` counts the bytes in memory that are of the guest's linear memories
    /// alone.
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

    fn inner(&self) -> MutexGuard<'_, StatusState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guest to end, wherever it is. `false` if it was stop_reason before, or
    /// is exited: the first reason counts.
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

    /// Fails if the guest was stop_reason to end.
    pub(super) fn check(&self) -> Result<(), StopReason> {
        match &self.inner().stop_reason {
            Some(stop_reason) => Err(stop_reason.clone()),
            None => Ok(()),
        }
    }

    /// As [`check`](GuestStatus::check); and wakes the task when it would fail.
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

    /// Waits until the guest is stop_reason to end. For its own task, which is the one
    /// that is woken.
    pub(super) async fn stop_reason(&self) -> StopReason {
        poll_fn(|context| match self.watch(context) {
            Err(stop_reason) => Poll::Ready(stop_reason),
            Ok(()) => Poll::Pending,
        })
        .await
    }

    /// The guest ran until now.
    pub(super) fn ran(&self) {
        self.inner().busy = Instant::now();
    }

    /// When it ran last.
    pub(super) fn last_busy(&self) -> Instant {
        self.inner().busy
    }

    /// The bytes that its end would free: what is in memory of its linear memories,
    /// and of the regions that nobody else has a claim on. Takes a while, for large
    /// memories.
    pub(super) fn bytes(&self) -> u64 {
        (self.memory)().saturating_add(self.host.exclusive_bytes(&self.owner))
    }

    pub(super) fn stage(&self) -> Stage {
        if *self.exited.borrow() {
            Stage::Exited
        } else if self.inner().stop_reason.is_some() {
            Stage::Ending
        } else {
            Stage::Alive
        }
    }

    /// Waits until its store was dropped, and so its memory is back.
    pub(super) async fn exited(&self) {
        // It fails only when this is exited, which is borrowed.
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

/// Says that a guest is exited, when it is dropped: after the guest's store.
#[derive(Debug)]
pub(super) struct ExitGuard(pub(super) Arc<GuestStatus>);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.0.exited.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
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
    fn who_is_gone_is_told_nothing() {
        let status = status();
        drop(ExitGuard(status.clone()));
        assert_eq!(status.stage(), Stage::Exited);
        assert!(!status.end(stop_reason("late")));
        assert_eq!(status.check(), Ok(()));
    }

    #[tokio::test]
    async fn word_from_another_thread_wakes_the_task_that_waits() {
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
    async fn memory_is_waited_for_until_the_last_of_the_guest_is_dropped() {
        let status = status();
        let last = ExitGuard(status.clone());
        let back = tokio::spawn({
            let status = status.clone();
            async move { status.exited().await }
        });
        tokio::task::yield_now().await;
        assert!(!back.is_finished());
        drop(last);
        back.await.unwrap();
        status.exited().await;
    }
}

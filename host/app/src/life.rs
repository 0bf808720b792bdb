//! Whether a guest lives, is told to end, or has ended; for all threads.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::watch;

use tombolo::RegionHost;
use tombolo::internal::Owner;

/// Why a guest was told to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Told {
    pub(super) reason: Arc<str>,
    /// The whole app ends, so that this is no failure of the guest's.
    pub(super) with_app: bool,
}

/// How far a guest's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Alive,
    /// It was told to end, and its memory is not back yet.
    Ending,
    /// Its memory is back.
    Gone,
}

/// What others see of a guest's life, and may do about it. The guest's task
/// looks here whenever it is polled, and at each tick while the guest runs.
pub(super) struct Life {
    inner: Mutex<Inner>,
    memory: Memory,
    host: RegionHost,
    owner: Arc<Owner>,
    gone: watch::Sender<bool>,
}

/// Counts the bytes in memory that are of the guest's linear memories alone.
type Memory = Box<dyn Fn() -> u64 + Send + Sync>;

#[derive(Debug)]
struct Inner {
    told: Option<Told>,
    /// Of the guest's task, wherever it waits.
    waker: Option<Waker>,
    busy: Instant,
}

impl Life {
    /// `memory` counts the bytes in memory that are of the guest's linear memories
    /// alone.
    pub(super) fn new(
        memory: impl Fn() -> u64 + Send + Sync + 'static,
        host: RegionHost,
        owner: Arc<Owner>,
    ) -> Life {
        Life {
            inner: Mutex::new(Inner {
                told: None,
                waker: None,
                busy: Instant::now(),
            }),
            memory: Box::new(memory),
            host,
            owner,
            gone: watch::Sender::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guest to end, wherever it is. `false` if it was told before, or
    /// is gone: the first reason counts.
    pub(super) fn end(&self, told: Told) -> bool {
        let mut inner = self.inner();
        if inner.told.is_some() || *self.gone.borrow() {
            return false;
        }
        inner.told = Some(told);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Fails if the guest was told to end.
    pub(super) fn check(&self) -> Result<(), Told> {
        match &self.inner().told {
            Some(told) => Err(told.clone()),
            None => Ok(()),
        }
    }

    /// As [`check`](Life::check); and wakes the task when it would fail.
    pub(super) fn watch(&self, context: &Context<'_>) -> Result<(), Told> {
        let mut inner = self.inner();
        if let Some(told) = &inner.told {
            return Err(told.clone());
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Ok(())
    }

    /// Waits until the guest is told to end. For its own task, which is the one
    /// that is woken.
    pub(super) async fn told(&self) -> Told {
        poll_fn(|context| match self.watch(context) {
            Err(told) => Poll::Ready(told),
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
        if *self.gone.borrow() {
            Stage::Gone
        } else if self.inner().told.is_some() {
            Stage::Ending
        } else {
            Stage::Alive
        }
    }

    /// Waits until its store was dropped, and so its memory is back.
    pub(super) async fn gone(&self) {
        // It fails only when this is gone, which is borrowed.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Says that a guest is gone, when it is dropped: after the guest's store.
#[derive(Debug)]
pub(super) struct Last(pub(super) Arc<Life>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.gone.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Arc<Life> {
        let owner = RegionHost::new().context("a").build().owner().clone();
        Arc::new(Life::new(|| 7, RegionHost::new(), owner))
    }

    fn told(reason: &str) -> Told {
        Told {
            reason: reason.into(),
            with_app: false,
        }
    }

    #[test]
    fn first_reason_counts() {
        let life = life();
        assert_eq!((life.check(), life.stage()), (Ok(()), Stage::Alive));
        assert!(life.end(told("one")));
        assert!(!life.end(told("other")));
        assert_eq!(life.check(), Err(told("one")));
        assert_eq!(life.stage(), Stage::Ending);
    }

    #[test]
    fn who_is_gone_is_told_nothing() {
        let life = life();
        drop(Last(life.clone()));
        assert_eq!(life.stage(), Stage::Gone);
        assert!(!life.end(told("late")));
        assert_eq!(life.check(), Ok(()));
    }

    #[tokio::test]
    async fn word_from_another_thread_wakes_the_task_that_waits() {
        let life = life();
        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.told().await }
        });
        tokio::task::yield_now().await; // It waits now.
        let teller = std::thread::spawn({
            let life = life.clone();
            move || life.end(told("enough"))
        });
        assert_eq!(waiting.await.unwrap(), told("enough"));
        assert!(teller.join().unwrap());
    }

    #[tokio::test]
    async fn memory_is_waited_for_until_the_last_of_the_guest_is_dropped() {
        let life = life();
        let last = Last(life.clone());
        let back = tokio::spawn({
            let life = life.clone();
            async move { life.gone().await }
        });
        tokio::task::yield_now().await;
        assert!(!back.is_finished());
        drop(last);
        back.await.unwrap();
        life.gone().await;
    }
}

//! The turn of a strand: the right to poll its guests.
//!
//! Guests of a strand never run at once, on whichever thread. So the strand's task holds the turn
//! while it polls them. A guest of another strand may hold it too, for a call to a guest that is
//! idle: it waits for that call in any case, so it runs the callee on its own thread, and no
//! thread is woken.
//!
//! # Why nobody waits for good
//!
//! Nobody blocks for a turn. A caller that does not get it sends a message. The strand's task
//! leaves its waker, and is woken when the turn is free. A caller does not pass a task that waits,
//! so calls that follow each other starve no guest of the strand.
//!
//! # Callers that share their strand
//!
//! A caller that is not alone on its strand sends a message to another strand too. Otherwise its
//! neighbours would wait while the callee computes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, MutexGuard};

/// The exclusive right to poll the guests of a strand.
pub struct Turn {
    state: Mutex<State>,
    /// Whether the strand has more than one guest.
    shared: bool,
}

#[derive(Default)]
struct State {
    held: bool,
    /// Whether the next turn is the task's, which found it held.
    reserved: bool,
    /// Wakes the strand's task, when the turn is free.
    waiting: Option<Waker>,
    /// The guests, if the strand's task was dropped while another strand held the turn.
    dropped: Option<Box<dyn Send>>,
}

impl Turn {
    /// Creates the turn of a strand with this number of guests, at most.
    pub fn new(guests: usize) -> Arc<Turn> {
        Arc::new(Turn {
            state: Mutex::default(),
            shared: guests > 1,
        })
    }

    /// Returns whether the strand may have more than one guest.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn for a guest of another strand. Returns `None` if somebody holds it, or if the
    /// strand's task found it held and has not been polled since. Does not block.
    #[must_use]
    pub fn try_hold(self: &Arc<Turn>) -> Option<HeldTurn> {
        let mut state = self.state();
        if state.held || state.reserved {
            return None;
        }
        state.held = true;
        drop(state);
        Some(HeldTurn(self.clone()))
    }

    /// Takes the turn for the strand's task, or has the task woken when the turn is free.
    fn poll_hold(self: &Arc<Turn>, context: &Context<'_>) -> Poll<HeldTurn> {
        let mut state = self.state();
        state.reserved = state.held;
        if state.held {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.held = true;
        drop(state);
        Poll::Ready(HeldTurn(self.clone()))
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// A turn that is held. Dropping it releases the turn, and wakes the strand's task if that waits.
/// It also drops the guests of a [`StrandTask`] that was dropped meanwhile.
#[derive(Debug)]
pub struct HeldTurn(Arc<Turn>);

impl Drop for HeldTurn {
    fn drop(&mut self) {
        loop {
            let mut state = self.0.state();
            if let Some(guests) = state.dropped.take() {
                // Whole stores may go, so not under the lock. The turn is still held.
                drop(state);
                drop(guests);
                continue;
            }
            state.held = false;
            let waiting = state.waiting.take();
            drop(state);
            if let Some(waiting) = waiting {
                waiting.wake();
            }
            return;
        }
    }
}

/// The task of a strand: polls the strand's guests, and drops them, only while it holds the
/// [turn](Turn).
///
/// If it is dropped while another strand holds the turn, the guests are dropped there, at the
/// end of that turn. So a drop does not block either.
#[derive(Debug)]
pub struct StrandTask<F: Future<Output = ()> + Send + 'static> {
    turn: Arc<Turn>,
    /// `None` once the guests have ended.
    guests: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()> + Send + 'static> StrandTask<F> {
    /// Creates the task of a strand that has this turn. `guests` polls the guests. If it panics,
    /// so does the poll of this, and the turn is free again.
    pub fn new(turn: Arc<Turn>, guests: F) -> StrandTask<F> {
        StrandTask {
            turn,
            guests: Some(Box::pin(guests)),
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for StrandTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(held) = self.turn.poll_hold(context) else {
            return Poll::Pending;
        };
        if let Some(guests) = &mut self.guests {
            if guests.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.guests = None;
        }
        drop(held);
        Poll::Ready(())
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for StrandTask<F> {
    fn drop(&mut self) {
        let Some(guests) = self.guests.take() else {
            return;
        };
        let mut state = self.turn.state();
        (state.reserved, state.waiting) = (false, None);
        if state.held {
            state.dropped = Some(Box::new(guests));
            return;
        }
        state.held = true;
        drop(state);
        let held = HeldTurn(self.turn.clone());
        drop(guests);
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// A task that counts how often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn poll<F: Future + Unpin>(self: &Arc<Woken>, future: &mut F) -> Poll<F::Output> {
            let waker = Waker::from(self.clone());
            Pin::new(future).poll(&mut Context::from_waker(&waker))
        }

        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    // rule 2
    #[test]
    fn one_holder_has_the_turn() {
        let turn = Turn::new(1);
        let held = turn.try_hold();
        assert!(held.is_some() && turn.try_hold().is_none());
        let mut task = StrandTask::new(turn.clone(), async {});
        assert!(Arc::<Woken>::default().poll(&mut task).is_pending());
        drop(held);
        assert!(Arc::<Woken>::default().poll(&mut task).is_ready());
        assert!(turn.try_hold().is_some());
        drop(task);
        let mut task = StrandTask::new(turn.clone(), pending());
        let held = turn.try_hold();
        assert!(Arc::<Woken>::default().poll(&mut task).is_pending());
        drop((task, held));
        assert!(turn.try_hold().is_some(), "who waited is gone");
    }

    #[test]
    fn waiting_task_is_woken_and_not_passed() {
        let (turn, woken) = (Turn::new(1), Arc::<Woken>::default());
        let mut task = StrandTask::new(turn.clone(), async {});
        let held = turn.try_hold();
        assert!(woken.poll(&mut task).is_pending());
        assert_eq!(woken.times(), 0);
        drop(held);
        assert_eq!(woken.times(), 1);
        assert!(turn.try_hold().is_none(), "the turn is the task's");
        assert!(woken.poll(&mut task).is_ready());
        assert!(turn.try_hold().is_some());
    }

    // rule 2
    #[test]
    fn guests_are_dropped_in_their_turn() {
        struct Guests(Arc<Turn>, Arc<AtomicUsize>);
        impl Drop for Guests {
            fn drop(&mut self) {
                assert!(self.0.try_hold().is_none(), "the turn is held");
                self.1.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (turn, gone) = (Turn::new(1), Arc::<AtomicUsize>::default());
        let task = |end: bool| {
            let guests = Guests(turn.clone(), gone.clone());
            let run = async move {
                let _guests = guests;
                if !end {
                    pending::<()>().await;
                }
            };
            StrandTask::new(turn.clone(), run)
        };
        let woken = Arc::<Woken>::default();
        assert!(woken.poll(&mut task(true)).is_ready());
        assert_eq!(gone.load(Ordering::SeqCst), 1);
        drop(task(false));
        assert_eq!(gone.load(Ordering::SeqCst), 2);
        let held = turn.try_hold().expect("it is free again");
        drop(task(false));
        assert_eq!(gone.load(Ordering::SeqCst), 2, "not beside the holder");
        drop(held);
        assert_eq!(gone.load(Ordering::SeqCst), 3);
        assert!(turn.try_hold().is_some());
    }

    #[test]
    fn turn_is_free_after_a_panic() {
        let turn = Turn::new(1);
        let mut task = StrandTask::new(turn.clone(), async { panic!("of a guest") });
        let poll = || Arc::<Woken>::default().poll(&mut task);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll));
        assert!(panicked.is_err() && turn.try_hold().is_some());
    }
}

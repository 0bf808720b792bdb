//! The turn of a strand, which its task and a guest of another strand take. Loom tries each
//! schedule.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use tombolo_exchange::{StrandTask, Turn};

/// Guests that notice when two of them run at once.
#[derive(Clone)]
struct Guests {
    running: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
    drops: Arc<AtomicUsize>,
}

impl Guests {
    fn new() -> Guests {
        Guests {
            running: Arc::new(AtomicBool::new(false)),
            polls: Arc::new(AtomicUsize::new(0)),
            drops: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn run(&self) {
        let other = self.running.swap(true, Ordering::Relaxed);
        assert!(!other, "two run at once");
        self.running.store(false, Ordering::Relaxed);
    }

    /// Makes the task of the strand, which runs a guest in each of this many polls.
    fn task(&self, turn: &Arc<Turn>, polls: usize) -> StrandTask<impl Future<Output = ()> + use<>> {
        struct Dropped(Guests);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.run();
                self.0.drops.fetch_add(1, Ordering::Relaxed);
            }
        }
        let guests = Dropped(self.clone());
        let run = poll_fn(move |context| {
            guests.0.run();
            if guests.0.polls.fetch_add(1, Ordering::Relaxed) + 1 == polls {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        StrandTask::new(turn.clone(), run)
    }

    /// Runs a guest in another strand, as often as its turn can be had.
    fn call(&self, turn: &Arc<Turn>, times: usize) {
        for _ in 0..times {
            if let Some(held) = turn.try_hold() {
                self.run();
                drop(held);
            }
        }
    }
}

// rule 2
#[test]
fn strand_and_caller_never_run_at_once() {
    loom::model(|| {
        let (turn, guests) = (Turn::new(1), Guests::new());
        let caller = thread::spawn({
            let (turn, guests) = (turn.clone(), guests.clone());
            move || guests.call(&turn, 2)
        });
        // If a wake-up were lost, this would wait for good.
        block_on(guests.task(&turn, 2));
        caller.join().expect("its assertions held");
        assert_eq!(guests.polls.load(Ordering::Relaxed), 2);
        assert_eq!(guests.drops.load(Ordering::Relaxed), 1);
        assert!(turn.try_hold().is_some(), "nobody holds it");
    });
}

// rule 2
#[test]
fn dropped_strand_drops_its_guests_once() {
    loom::model(|| {
        let (turn, guests) = (Turn::new(1), Guests::new());
        let caller = thread::spawn({
            let (turn, guests) = (turn.clone(), guests.clone());
            move || guests.call(&turn, 1)
        });
        drop(guests.task(&turn, 2));
        caller.join().expect("its assertions held");
        assert_eq!(guests.drops.load(Ordering::Relaxed), 1);
        assert!(turn.try_hold().is_some(), "nobody holds it");
    });
}

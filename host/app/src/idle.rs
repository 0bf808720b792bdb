//! Where a guest rests while it waits for calls, so that a guest of its strand that
//! calls it can run it on the spot.
//!
//! Guests of a strand take turns. Whoever of them calls another finds that one here,
//! or at something else. If it is here, and nobody has asked it for anything before,
//! then the caller has it begin with the call, and goes on as soon as that has
//! returned: no message, and no turn of the strand, lie between. What waits goes back
//! here as far as it has come, and the guest's own task goes on with it. So a call is
//! never its caller's: it goes on where the caller is dropped.
//!
//! All of it is woken as the guest's own task, by whomever it is begun.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a guest has begun: itself again, and what came of it.
pub(super) type InlineCall<G, E> = Pin<Box<dyn Future<Output = (G, Result<(), E>)> + Send>>;

/// Where a guest `G` rests, whom what it does may break by an `E`. Only its own
/// strand looks here.
pub(super) struct IdleSlot<G, E>(Mutex<SlotState<G, E>>);

enum SlotState<G, E> {
    /// It is at something, has not begun to wait for calls, or has ended.
    Empty,
    Idle(G, Waker),
    Running(InlineCall<G, E>),
}

/// Why a guest does not rest any more.
pub(super) enum Wakeup<G, E, T> {
    /// For this, which it was waiting for.
    Ready(G, T),
    /// Another guest had it begin with this.
    Inline(InlineCall<G, E>),
}

impl<G, E> Default for IdleSlot<G, E> {
    fn default() -> IdleSlot<G, E> {
        IdleSlot(Mutex::new(SlotState::Empty))
    }
}

impl<G, E> IdleSlot<G, E> {
    fn place(&self) -> MutexGuard<'_, SlotState<G, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a guest rest until `look` finds something that it waits for, or another
    /// guest has had it begin with something. For its own task; if that is dropped,
    /// so is the guest.
    pub(super) async fn wait<T>(
        &self,
        guest: G,
        mut look: impl FnMut(&mut G, &mut Context<'_>) -> Poll<T>,
    ) -> Wakeup<G, E, T> {
        /// Leaves nothing behind.
        struct Leave<'a, G, E>(&'a IdleSlot<G, E>);
        impl<G, E> Drop for Leave<'_, G, E> {
            fn drop(&mut self) {
                let left = std::mem::replace(&mut *self.0.place(), SlotState::Empty);
                drop(left); // Without the lock: it may be a whole store.
            }
        }
        let leave = Leave(self);
        let mut coming = Some(guest);
        poll_fn(|context| {
            let mut place = leave.0.place();
            if let Some(guest) = coming.take() {
                *place = SlotState::Idle(guest, context.waker().clone());
            }
            let found = match &mut *place {
                SlotState::Idle(guest, waker) => {
                    waker.clone_from(context.waker());
                    match look(guest, context) {
                        Poll::Ready(found) => Some(found),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                SlotState::Running(_) => None,
                SlotState::Empty => return Poll::Pending,
            };
            match (std::mem::replace(&mut *place, SlotState::Empty), found) {
                (SlotState::Idle(guest, _), Some(found)) => {
                    Poll::Ready(Wakeup::Ready(guest, found))
                }
                (SlotState::Running(begun), _) => Poll::Ready(Wakeup::Inline(begun)),
                _ => unreachable!("it was just seen"),
            }
        })
        .await
    }

    /// Has the guest begin with something, if it rests and is `free` for it; and waits
    /// for nothing. For another guest of its strand. Gives `what` back where it does
    /// not begin.
    pub(super) fn begin<W, F>(
        &self,
        what: W,
        free: impl FnOnce(&G) -> bool,
        begin: impl FnOnce(G, W) -> F,
    ) -> Result<(), W>
    where
        F: Future<Output = (G, Result<(), E>)> + Send + 'static,
        G: Send + 'static,
        E: Send + 'static,
    {
        let (guest, waker) = {
            let mut place = self.place();
            if !matches!(&*place, SlotState::Idle(guest, _) if free(guest)) {
                return Err(what);
            }
            match std::mem::replace(&mut *place, SlotState::Empty) {
                SlotState::Idle(guest, waker) => (guest, waker),
                _ => unreachable!("it was just seen"),
            }
        };
        let mut begun = Box::pin(begin(guest, what));
        let poll = || begun.as_mut().poll(&mut Context::from_waker(&waker));
        let next = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Ready((guest, Ok(())))) => SlotState::Idle(guest, waker),
            // Its own task is to see to that.
            Ok(Poll::Ready(broken)) => {
                waker.wake();
                SlotState::Running(Box::pin(std::future::ready(broken)))
            }
            Ok(Poll::Pending) => SlotState::Running(begun),
            // And to a panic, which is none of the caller's.
            Err(panic) => {
                drop(begun);
                waker.wake();
                SlotState::Running(Box::pin(async move { resume_unwind(panic) }))
            }
        };
        *self.place() = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Wake;

    use tokio::sync::oneshot;

    use super::*;

    /// A task that is told.
    #[derive(Default)]
    struct Told(std::sync::atomic::AtomicBool);

    impl Told {
        fn take(&self) -> bool {
            self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    type Guest = Arc<&'static str>;
    type Resting = Wakeup<Guest, &'static str, u32>;

    fn poll<F: Future + ?Sized>(future: &mut Pin<&mut F>, told: &Arc<Told>) -> Poll<F::Output> {
        let waker = Waker::from(told.clone());
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn nothing(_: &mut Guest, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Pending
    }

    /// Has the guest begin with something that waits to be told.
    fn begin(slot: &IdleSlot<Guest, &'static str>) -> oneshot::Sender<Result<(), &'static str>> {
        let (tell, told) = oneshot::channel();
        let begun = slot.begin(
            told,
            |_| true,
            |guest, told| async move {
                let answered = told.await.expect("it is told");
                (guest, answered)
            },
        );
        assert!(begun.is_ok());
        tell
    }

    #[test]
    fn who_rests_begins_at_once_and_rests_again() {
        let (slot, told) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut seen = 0;
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
        let mut resting = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut resting, &told).is_pending());
        for number in 1..3 {
            assert_eq!(
                slot.begin(number, |_| false, |it, _| async { (it, Ok(())) }),
                Err(number)
            );
            let begun = slot.begin(
                number,
                |it| **it == "it",
                |it, number| {
                    seen += number;
                    async { (it, Ok(())) }
                },
            );
            assert_eq!(begun, Ok(()));
        }
        assert_eq!(seen, 3);
        assert!(!told.take(), "there is nothing to see to");
        assert!(poll(&mut resting, &told).is_pending());
    }

    #[test]
    fn what_waits_is_gone_on_with_by_its_own_task_which_is_what_is_woken() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut resting = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut resting, &own).is_pending());
        let tell = begin(&slot);
        // It is at that: nobody else has it begin with anything.
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
        tell.send(Ok(())).unwrap();
        assert!(own.take());
        let Poll::Ready(Resting::Inline(mut begun)) = poll(&mut resting, &own) else {
            panic!("it has begun with something");
        };
        assert!(matches!(
            poll(&mut begun.as_mut(), &own),
            Poll::Ready((_, Ok(())))
        ));
    }

    #[test]
    fn who_breaks_is_seen_to_by_its_own_task() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut resting = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut resting, &own).is_pending());
        let begun = slot.begin((), |_| true, |it, ()| async { (it, Err("trap")) });
        assert!(begun.is_ok() && own.take());
        let Poll::Ready(Resting::Inline(mut begun)) = poll(&mut resting, &own) else {
            panic!("it is broken");
        };
        assert!(matches!(
            poll(&mut begun.as_mut(), &own),
            Poll::Ready((_, Err("trap")))
        ));
    }

    #[test]
    fn panic_is_its_own_tasks_and_not_the_callers() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let guest = Arc::new("it");
        let mut resting = pin!(slot.wait(guest.clone(), nothing));
        assert!(poll(&mut resting, &own).is_pending());
        let begun = slot.begin(
            (),
            |_| true,
            |guest, ()| async move {
                let _held = guest;
                resume_unwind(Box::new("out of the guest"))
            },
        );
        assert!(begun.is_ok() && own.take());
        assert_eq!(Arc::strong_count(&guest), 1, "it is gone");
        let Poll::Ready(Resting::Inline(mut begun)) = poll(&mut resting, &own) else {
            panic!("it is broken");
        };
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut begun.as_mut(), &own)));
        let panic = polled.expect_err("it is the same panic");
        assert_eq!(panic.downcast_ref(), Some(&"out of the guest"));
    }

    #[test]
    fn who_is_roused_does_not_rest() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut looks = 0;
        let mut resting = pin!(slot.wait(Arc::new("it"), |_, _| {
            looks += 1;
            match looks {
                1 => Poll::Pending,
                _ => Poll::Ready(7),
            }
        }));
        assert!(poll(&mut resting, &own).is_pending());
        let Poll::Ready(Resting::Ready(_, 7)) = poll(&mut resting, &own) else {
            panic!("it found something");
        };
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
    }

    #[test]
    fn guest_goes_with_its_task_resting_or_at_something() {
        for busy in [false, true] {
            let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
            let guest = Arc::new("it");
            let mut resting = Box::pin(slot.wait(guest.clone(), nothing));
            assert!(poll(&mut resting.as_mut(), &own).is_pending());
            let tell = busy.then(|| begin(&slot));
            assert_eq!(Arc::strong_count(&guest), 2);
            drop(resting);
            assert_eq!(Arc::strong_count(&guest), 1);
            assert_eq!(
                slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
                Err(1)
            );
            drop(tell);
        }
    }
}

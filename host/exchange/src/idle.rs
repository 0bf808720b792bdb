//! The slot in which a guest waits for calls, and from which another guest runs it inline.
//!
//! Guests of a strand take [turns](crate::Turn). So a guest that has the turn sees whether another
//! guest is idle. If the callee is idle and its queue is empty, the caller begins the call in
//! place. It goes on as soon as the call has returned, without a message or a turn of the strand in
//! between.
//!
//! A call that waits or fails is parked in the slot, and the callee's own task goes on with
//! it. The call was polled with the waker of that task from the start, so no wake-up is lost. A
//! call never belongs to its caller, and survives if the caller is dropped.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, MutexGuard};

/// A call that a guest has begun. It returns the guest and what came of the call.
pub(crate) type InlineCall<G, E> = Pin<Box<dyn Future<Output = (G, Result<(), E>)> + Send>>;

/// The idle slot of a guest `G`. A call that breaks the guest yields an `E`.
///
/// Only the holder of the turn of the guest's strand uses it, so its lock is never contended.
pub(crate) struct IdleSlot<G, E>(Mutex<SlotState<G, E>>);

enum SlotState<G, E> {
    /// The guest is busy, has not begun to wait for calls, or has ended.
    Empty,
    /// The guest waits for calls. The waker is that of its own task.
    Idle(G, Waker),
    /// The guest has begun a call that its own task is to go on with.
    Running(InlineCall<G, E>),
}

/// Why a guest is not idle any more.
pub(crate) enum Wakeup<G, E, T> {
    /// It found what it was waiting for.
    Ready(G, T),
    /// Another guest began this call in it.
    Inline(InlineCall<G, E>),
}

/// A call that has not returned by its first poll.
pub(crate) enum Unfinished<F, G, X> {
    /// It waits.
    Waits(Pin<Box<F>>),
    /// It broke the guest.
    Broken(G, X),
    /// The host panicked in it. The guest is dropped.
    Panicked(Box<dyn Any + Send>),
}

impl<G, E> Default for IdleSlot<G, E> {
    fn default() -> IdleSlot<G, E> {
        IdleSlot(Mutex::new(SlotState::Empty))
    }
}

impl<G, E> IdleSlot<G, E> {
    #[inline]
    fn place(&self) -> MutexGuard<'_, SlotState<G, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something for the guest, or another guest has begun a call in
    /// it. To be called by the guest's own task. If the future is dropped, so is the guest.
    pub(crate) async fn wait<T>(
        &self,
        guest: G,
        mut look: impl FnMut(&mut G, &mut Context<'_>) -> Poll<T>,
    ) -> Wakeup<G, E, T> {
        /// Empties the slot when it is dropped.
        struct Leave<'a, G, E>(&'a IdleSlot<G, E>);
        impl<G, E> Drop for Leave<'_, G, E> {
            fn drop(&mut self) {
                let left = std::mem::replace(&mut *self.0.place(), SlotState::Empty);
                drop(left); // Without the lock, because it may be a whole store.
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

    /// Begins a call in the guest, if it is idle and `free` for it. To be called by another
    /// guest, which holds the strand's turn. Polls the call once, and waits for nothing.
    ///
    /// # Errors
    ///
    /// Returns `what` if the call does not begin.
    pub(crate) fn begin<W, F>(
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
        let Some((guest, waker)) = self.take(free) else {
            return Err(what);
        };
        self.run(
            waker,
            || begin(guest, what),
            |unfinished| match unfinished {
                Unfinished::Waits(begun) => begun,
                Unfinished::Broken(guest, error) => {
                    Box::pin(std::future::ready((guest, Err(error))))
                }
                Unfinished::Panicked(panic) => Box::pin(async { resume_unwind(panic) }),
            },
        );
        Ok(())
    }

    /// Takes the guest and the waker of its task, if it is idle and `free`. To be called by
    /// another guest, which holds the strand's turn and [runs](IdleSlot::run) a call in it or
    /// [puts it back](IdleSlot::put_back) before its own poll ends.
    #[inline]
    pub(crate) fn take(&self, free: impl FnOnce(&G) -> bool) -> Option<(G, Waker)> {
        let mut place = self.place();
        if !matches!(&*place, SlotState::Idle(guest, _) if free(guest)) {
            return None;
        }
        match std::mem::replace(&mut *place, SlotState::Empty) {
            SlotState::Idle(guest, waker) => Some((guest, waker)),
            _ => unreachable!("it was just seen"),
        }
    }

    /// Puts back a guest that was taken.
    #[inline]
    pub(crate) fn put_back(&self, guest: G, waker: Waker) {
        *self.place() = SlotState::Idle(guest, waker);
    }

    /// Begins a call in a guest that was [taken](IdleSlot::take), and polls it once. If the
    /// call has returned, the guest is idle again. Otherwise the slot gets what `park` makes of
    /// the call, for the guest's own task.
    #[inline]
    pub(crate) fn run<F, T, X>(
        &self,
        waker: Waker,
        begin: impl FnOnce() -> F,
        park: impl FnOnce(Unfinished<F, G, X>) -> InlineCall<G, E>,
    ) -> Option<T>
    where
        F: Future<Output = (G, Result<T, X>)>,
    {
        // Allocated first, so that the call is made in its place and not copied there.
        let mut begun = Box::into_pin(Box::write(Box::new_uninit(), begin()));
        let poll = || begun.as_mut().poll(&mut Context::from_waker(&waker));
        let (next, returned) = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Ready((guest, Ok(returned)))) => {
                (SlotState::Idle(guest, waker), Some(returned))
            }
            // The guest's own task handles the failure.
            Ok(Poll::Ready((guest, Err(error)))) => {
                waker.wake();
                (
                    SlotState::Running(park(Unfinished::Broken(guest, error))),
                    None,
                )
            }
            Ok(Poll::Pending) => (SlotState::Running(park(Unfinished::Waits(begun))), None),
            // It also handles a panic, which is none of the caller's.
            Err(panic) => {
                waker.wake();
                // The first panic says more than one of this drop.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(begun)));
                (SlotState::Running(park(Unfinished::Panicked(panic))), None)
            }
        };
        *self.place() = next;
        returned
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Wake;

    use tokio::sync::oneshot;

    use super::*;

    /// A task that notes whether it was woken.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl Woken {
        fn take(&self) -> bool {
            self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    type Guest = Arc<&'static str>;
    type TestWakeup = Wakeup<Guest, &'static str, u32>;

    fn poll<F: Future + ?Sized>(future: &mut Pin<&mut F>, told: &Arc<Woken>) -> Poll<F::Output> {
        let waker = Waker::from(told.clone());
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn nothing(_: &mut Guest, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Pending
    }

    /// Begins a call in the guest that waits for a message.
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
    fn idle_guest_runs_inline_and_is_idle_again() {
        let (slot, told) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut seen = 0;
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
        let mut idle = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut idle, &told).is_pending());
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
        assert!(!told.take(), "its task has nothing to do");
        assert!(poll(&mut idle, &told).is_pending());
    }

    // rule 11
    #[test]
    fn suspended_call_moves_to_the_callees_task() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut idle = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut idle, &own).is_pending());
        let tell = begin(&slot);
        // It is busy, so no other call begins.
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
        tell.send(Ok(())).unwrap();
        assert!(own.take());
        let Poll::Ready(TestWakeup::Inline(mut begun)) = poll(&mut idle, &own) else {
            panic!("it has begun with something");
        };
        assert!(matches!(
            poll(&mut begun.as_mut(), &own),
            Poll::Ready((_, Ok(())))
        ));
    }

    #[test]
    fn failure_is_handled_by_the_callees_task() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut idle = pin!(slot.wait(Arc::new("it"), nothing));
        assert!(poll(&mut idle, &own).is_pending());
        let begun = slot.begin((), |_| true, |it, ()| async { (it, Err("trap")) });
        assert!(begun.is_ok() && own.take());
        let Poll::Ready(TestWakeup::Inline(mut begun)) = poll(&mut idle, &own) else {
            panic!("it is broken");
        };
        assert!(matches!(
            poll(&mut begun.as_mut(), &own),
            Poll::Ready((_, Err("trap")))
        ));
    }

    // rule 9
    #[test]
    fn panic_reaches_the_callees_task_only() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let guest = Arc::new("it");
        let mut idle = pin!(slot.wait(guest.clone(), nothing));
        assert!(poll(&mut idle, &own).is_pending());
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
        let Poll::Ready(TestWakeup::Inline(mut begun)) = poll(&mut idle, &own) else {
            panic!("it is broken");
        };
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut begun.as_mut(), &own)));
        let panic = polled.expect_err("it is the same panic");
        assert_eq!(panic.downcast_ref(), Some(&"out of the guest"));
    }

    #[test]
    fn woken_guest_is_not_idle() {
        let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
        let mut looks = 0;
        let mut idle = pin!(slot.wait(Arc::new("it"), |_, _| {
            looks += 1;
            match looks {
                1 => Poll::Pending,
                _ => Poll::Ready(7),
            }
        }));
        assert!(poll(&mut idle, &own).is_pending());
        let Poll::Ready(TestWakeup::Ready(_, 7)) = poll(&mut idle, &own) else {
            panic!("it found something");
        };
        assert_eq!(
            slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
            Err(1)
        );
    }

    // rule 6
    #[test]
    fn guest_is_dropped_with_its_task() {
        for busy in [false, true] {
            let (slot, own) = (IdleSlot::<Guest, &str>::default(), Arc::default());
            let guest = Arc::new("it");
            let mut idle = Box::pin(slot.wait(guest.clone(), nothing));
            assert!(poll(&mut idle.as_mut(), &own).is_pending());
            let tell = busy.then(|| begin(&slot));
            assert_eq!(Arc::strong_count(&guest), 2);
            drop(idle);
            assert_eq!(Arc::strong_count(&guest), 1);
            assert_eq!(
                slot.begin(1, |_| true, |it, _| async { (it, Ok(())) }),
                Err(1)
            );
            drop(tell);
        }
    }
}

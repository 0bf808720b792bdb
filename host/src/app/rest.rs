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
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a guest has begun: itself again, and what came of it.
pub(super) type Begun<G, E> = Pin<Box<dyn Future<Output = (G, Result<(), E>)> + Send>>;

/// Where a guest `G` rests, whom what it does may break by an `E`. Only its own
/// strand looks here.
pub(super) struct Rest<G, E>(Mutex<Place<G, E>>);

enum Place<G, E> {
    /// It is at something, has not begun to wait for calls, or has ended.
    Away,
    Here(G, Waker),
    Begun(Begun<G, E>),
}

/// Why a guest does not rest any more.
pub(super) enum Roused<G, E, T> {
    /// For this, which it was waiting for.
    By(G, T),
    /// Another guest had it begin with this.
    Begun(Begun<G, E>),
}

impl<G, E> Default for Rest<G, E> {
    fn default() -> Rest<G, E> {
        Rest(Mutex::new(Place::Away))
    }
}

impl<G, E> Rest<G, E> {
    fn place(&self) -> MutexGuard<'_, Place<G, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a guest rest until `look` finds something that it waits for, or another
    /// guest has had it begin with something. For its own task; if that is dropped,
    /// so is the guest.
    pub(super) async fn rest<T>(
        &self,
        guest: G,
        mut look: impl FnMut(&mut G, &mut Context<'_>) -> Poll<T>,
    ) -> Roused<G, E, T> {
        /// Leaves nothing behind.
        struct Leave<'a, G, E>(&'a Rest<G, E>);
        impl<G, E> Drop for Leave<'_, G, E> {
            fn drop(&mut self) {
                let left = std::mem::replace(&mut *self.0.place(), Place::Away);
                drop(left); // Without the lock: it may be a whole store.
            }
        }
        let leave = Leave(self);
        let mut coming = Some(guest);
        poll_fn(|context| {
            let mut place = leave.0.place();
            if let Some(guest) = coming.take() {
                *place = Place::Here(guest, context.waker().clone());
            }
            let found = match &mut *place {
                Place::Here(guest, waker) => {
                    waker.clone_from(context.waker());
                    match look(guest, context) {
                        Poll::Ready(found) => Some(found),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Place::Begun(_) => None,
                Place::Away => return Poll::Pending,
            };
            match (std::mem::replace(&mut *place, Place::Away), found) {
                (Place::Here(guest, _), Some(found)) => Poll::Ready(Roused::By(guest, found)),
                (Place::Begun(begun), _) => Poll::Ready(Roused::Begun(begun)),
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
            if !matches!(&*place, Place::Here(guest, _) if free(guest)) {
                return Err(what);
            }
            match std::mem::replace(&mut *place, Place::Away) {
                Place::Here(guest, waker) => (guest, waker),
                _ => unreachable!("it was just seen"),
            }
        };
        let mut begun = Box::pin(begin(guest, what));
        let next = match begun.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready((guest, Ok(()))) => Place::Here(guest, waker),
            // Its own task is to see to that.
            Poll::Ready(broken) => {
                waker.wake();
                Place::Begun(Box::pin(std::future::ready(broken)))
            }
            Poll::Pending => Place::Begun(begun),
        };
        *self.place() = next;
        Ok(())
    }
}

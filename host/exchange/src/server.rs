//! A guest that answers calls.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::call::{Broken, Call};
use crate::guest_id::GuestId;
use crate::guests::{CallFailure, Callee, ExchangeTypes};
use crate::idle::{IdleSlot, Wakeup};
use crate::inbox::{Inbox, MailboxItem};
use crate::request::Request;

/// A guest that waits for calls: its store, and its inbox.
pub(crate) struct Server<G: ExchangeTypes> {
    callee: G::Callee,
    inbox: Inbox<G>,
}

/// A guest after a call, and whether that broke it.
pub(crate) type Answered<G> = (Box<Server<G>>, Result<(), Broken<G>>);

/// The outcome of a request: an answer, a text for the caller, or a broken guest.
pub(crate) type Called<G, A> = Result<Result<A, String>, CallFailure<G>>;

impl<G: ExchangeTypes> Server<G> {
    pub(crate) fn new(callee: G::Callee, inbox: Inbox<G>) -> Box<Server<G>> {
        Box::new(Server { callee, inbox })
    }

    /// Returns whether its queue is empty, so that a call made now is the next.
    pub(crate) fn is_free(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Answers one call.
    pub(crate) async fn answer(mut self: Box<Self>, call: Box<Call<G>>) -> Answered<G> {
        let answered = call.answer(&mut self.callee).await;
        (self, answered)
    }

    /// Makes a call whose caller has the guest in its hands.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps its arguments twice"
    )]
    #[inline]
    pub(crate) fn request<R: Request<G>>(
        mut self: Box<Self>,
        mut request: R,
        caller: GuestId,
    ) -> impl Future<Output = (Box<Server<G>>, Called<G, R::Answer>)> + Send {
        async move {
            // Pinned where it is made, and not copied there.
            let called = pin!(request.call(&mut self.callee, caller)).await;
            (self, called)
        }
    }

    /// Answers calls one at a time, in the order in which they come, until no command runs any
    /// more. At the end, returns the guest, and its inbox with what it has not received.
    pub(crate) async fn serve(
        self: Box<Self>,
        slot: &IdleSlot<Box<Server<G>>, Broken<G>>,
    ) -> (G::Callee, Inbox<G>, Result<(), Broken<G>>) {
        let mut server = self;
        loop {
            let look = |server: &mut Box<Server<G>>, context: &mut Context<'_>| {
                if let Err(error) = server.callee.poll_stop(context) {
                    return Poll::Ready(Err(error));
                }
                server.inbox.poll_recv(context).map(Ok)
            };
            let answered;
            (server, answered) = match slot.wait(server, look).await {
                Wakeup::Ready(server, Err(error)) => (server, Err(Broken::new(error))),
                Wakeup::Ready(server, Ok(Some(MailboxItem::Call(call)))) => {
                    server.answer(call).await
                }
                Wakeup::Ready(mut server, Ok(Some(MailboxItem::Notice(notice)))) => {
                    let received = server.callee.receive(notice).await;
                    (server, received.map_err(Broken::new))
                }
                Wakeup::Ready(server, Ok(Some(MailboxItem::Stop) | None)) => {
                    let Server { callee, inbox } = *server;
                    return (callee, inbox, Ok(()));
                }
                Wakeup::Inline(call) => call.await,
            };
            if answered.is_err() {
                let Server { callee, inbox } = *server;
                return (callee, inbox, answered);
            }
        }
    }
}

//! Calls on the callee's side.
//!
//! A call belongs to its callee from the moment at which it is sent. When the call returns, the
//! callee first drops the edge by which the caller waits for it, and then sends the reply. So
//! whatever the callee does next leads back to no caller, even if the caller was not polled
//! since.

use tracing::{Instrument, Span};

use crate::guest_id::GuestId;
use crate::guests::{CallFailure, Guests, Work};
use crate::waits::WaitEdge;

/// A call on its way to the callee.
pub(crate) struct Call<G: Guests> {
    /// The caller's wait for the callee, until the call has returned. If the callee dies, the
    /// caller goes on waiting for what it lent.
    ///
    /// Declared first, so that it is dropped before the work: a caller that learns of a dropped
    /// call no longer waits.
    waiting: Option<WaitEdge<G::Lends>>,
    caller: GuestId,
    work: G::Work,
    /// The caller's span, to which the callee's work belongs.
    span: Span,
}

/// A guest that cannot go on, and what is left to do once its store is gone.
pub struct Broken<G: Guests> {
    /// The error that it cannot go on from.
    pub error: G::Error,
    /// The regions that were lent to it. They go after the store, whose memory has the windows.
    pub(crate) borrowed: Option<G::Borrowed>,
    /// The call that broke it. Its caller is told last.
    pub(crate) call: Option<Box<Call<G>>>,
}

impl<G: Guests> Broken<G> {
    /// An error while the guest answered no call.
    pub fn new(error: G::Error) -> Broken<G> {
        Broken {
            error,
            borrowed: None,
            call: None,
        }
    }
}

impl<G: Guests> Call<G> {
    /// Makes a call in the current span.
    pub(crate) fn new(waiting: WaitEdge<G::Lends>, work: G::Work) -> Box<Call<G>> {
        Box::new(Call {
            caller: waiting.from(),
            waiting: Some(waiting),
            work,
            span: Span::current(),
        })
    }

    /// Makes the call in the callee's store, and replies if that goes on.
    pub(crate) async fn answer(self: Box<Self>, callee: &mut G::Callee) -> Result<(), Broken<G>> {
        let span = self.span.clone();
        self.run(callee).instrument(span).await
    }

    async fn run(mut self: Box<Self>, callee: &mut G::Callee) -> Result<(), Broken<G>> {
        let called = self.work.run(callee, self.caller).await;
        drop(self.waiting.take());
        match called {
            Ok(()) => {
                self.work.done();
                Ok(())
            }
            Err(CallFailure { error, borrowed }) => Err(Broken {
                error,
                borrowed,
                call: Some(self),
            }),
        }
    }

    /// Sends the caller the reason why there are no results.
    pub(crate) fn fail(self, why: String) {
        self.work.failed(why);
    }
}

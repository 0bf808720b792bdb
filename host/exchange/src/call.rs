//! Calls on the callee's side.
//!
//! A call belongs to its callee from the moment at which it is sent. When the call returns, the
//! callee first drops the edge by which the caller waits for it, and then sends the reply. So a
//! call that the callee makes next closes no cycle, even if the caller has not been polled yet.

use tracing::{Instrument, Span};

use crate::guest_id::GuestId;
use crate::guests::{CallFailure, ExchangeTypes, Work};
use crate::waits::WaitEdge;

/// A call on its way to the callee.
pub(crate) struct Call<G: ExchangeTypes> {
    /// The caller's wait for the callee, until the call has returned. If the callee dies, the
    /// caller keeps waiting until the regions that it lent are back.
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
pub struct Broken<G: ExchangeTypes> {
    /// The error that it cannot go on from.
    pub error: G::Error,
    /// The regions that were lent to it. They go after the store, whose memory has the windows.
    pub(crate) borrowed: Option<G::Borrowed>,
    /// Notifies the caller of the call that broke it of the reason. That comes last.
    pub(crate) tell_caller: Option<TellCaller>,
}

/// Notifies a caller of the reason why there are no results. If it is dropped, the caller learns
/// only that there are none.
pub(crate) type TellCaller = Box<dyn FnOnce(String) + Send>;

impl<G: ExchangeTypes> Broken<G> {
    /// An error while the guest answered no call.
    pub fn new(error: G::Error) -> Broken<G> {
        Broken {
            error,
            borrowed: None,
            tell_caller: None,
        }
    }
}

impl<G: ExchangeTypes> Call<G> {
    /// Makes a call in the current span.
    pub(crate) fn new(waiting: WaitEdge<G::Lends>, work: G::Work) -> Box<Call<G>> {
        Box::new(Call {
            caller: waiting.caller(),
            waiting: Some(waiting),
            work,
            span: Span::current(),
        })
    }

    /// Runs the call in the callee's store, and sends the reply unless the call breaks the callee.
    pub(crate) async fn answer(self: Box<Self>, callee: &mut G::Callee) -> Result<(), Broken<G>> {
        let span = self.span.clone();
        self.run(callee).instrument(span).await
    }

    async fn run(mut self: Box<Self>, callee: &mut G::Callee) -> Result<(), Broken<G>> {
        let called = self.work.run(callee, self.caller).await;
        drop(self.waiting.take());
        match called {
            Ok(()) => {
                self.work.reply();
                Ok(())
            }
            Err(CallFailure { error, borrowed }) => Err(Broken {
                error,
                borrowed,
                tell_caller: Some(Box::new(|why| self.work.reply_failure(why))),
            }),
        }
    }
}

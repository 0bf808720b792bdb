//! Calls on the callee's side.
//!
//! A call belongs to its callee from the moment at which it is sent. When the call returns, the
//! callee first drops the edge by which the caller waits for it, and then sends the reply. So a
//! call that the callee makes next closes no cycle, even if the caller has not been polled yet.

use std::sync::Arc;

use tracing::{Instrument, Span};

use crate::guest_id::GuestId;
use crate::guests::{CallFailure, ExchangeTypes, Work};
use crate::waits::{WaitEdge, WaitNode};

/// A call on its way to the callee.
pub(crate) struct Call<G: ExchangeTypes> {
    /// The caller's wait for the callee, until the call has returned. If the callee dies, the
    /// caller keeps waiting until the regions that it lent are back.
    ///
    /// Declared first, so that it is dropped before the work: a caller that learns of a dropped
    /// call no longer waits.
    pub(crate) waiting: Option<WaitEdge<G::Lends>>,
    pub(crate) caller: GuestId,
    /// The node of this call, if its callee takes several at a time.
    pub(crate) node: Option<Arc<WaitNode<G::Lends>>>,
    pub(crate) work: G::Work,
    /// The caller's span, to which the callee's work belongs.
    pub(crate) span: Span,
}

/// A guest that cannot go on, and what is left to do once its store is gone.
pub struct Broken<G: ExchangeTypes> {
    /// The error that it cannot go on from.
    pub error: G::Error,
    /// The regions that were lent to it. They go after the store, whose memory has the windows.
    pub(crate) borrowed: Vec<G::Borrowed>,
    /// Notify the callers of its calls in progress of the reason. That comes last.
    pub(crate) tell_callers: Vec<TellCaller>,
    /// Calls that were received and not begun. Their callers learn that no answer comes.
    pub(crate) not_begun: Vec<Box<Call<G>>>,
}

/// Notifies a caller of the reason why there are no results. If it is dropped, the caller learns
/// only that there are none.
pub(crate) type TellCaller = Box<dyn FnOnce(String) + Send>;

impl<G: ExchangeTypes> Broken<G> {
    /// An error while the guest answered no call.
    pub fn new(error: G::Error) -> Broken<G> {
        Broken {
            error,
            borrowed: Vec::new(),
            tell_callers: Vec::new(),
            not_begun: Vec::new(),
        }
    }

    /// A failure of one call, whose caller is told by `tell`.
    pub(crate) fn in_call(failure: CallFailure<G>, tell: TellCaller) -> Broken<G> {
        Broken {
            borrowed: Vec::from_iter(failure.borrowed),
            tell_callers: vec![tell],
            ..Broken::new(failure.error)
        }
    }
}

impl<G: ExchangeTypes> Call<G> {
    /// Makes a call in the current span.
    pub(crate) fn new(
        waiting: WaitEdge<G::Lends>,
        node: Option<Arc<WaitNode<G::Lends>>>,
        work: G::Work,
    ) -> Box<Call<G>> {
        Box::new(Call {
            caller: waiting.caller(),
            waiting: Some(waiting),
            node,
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
            Err(failure) => {
                let tell = Box::new(|why| self.work.reply_failure(why));
                Err(Broken::in_call(failure, tell))
            }
        }
    }
}

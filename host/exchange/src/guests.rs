//! The types that tell this crate about guests.

use std::future::Future;
use std::task::Context;

use crate::guest_id::GuestId;
use crate::waits::LentRegions;

/// The types of guests' stores, and of what passes between them. Implemented by a type without
/// values.
pub trait ExchangeTypes: Sized + 'static {
    /// A guest's store, while the guest answers calls.
    type Callee: Callee<Self>;
    /// The work of a callee in one call.
    type Work: Work<Self>;
    /// A notice to a guest, for which nobody waits.
    type Notice: Send + 'static;
    /// An incarnation of a guest, as the receiver of arguments.
    type Recipient: Send + Sync + 'static;
    /// The regions that a caller lent in a call, to ask whether they are back.
    type Lends: LentRegions;
    /// The callee's side of these lends. Dropping it ends them, but leaves windows to the drop
    /// of the callee's store.
    type Borrowed: Send + 'static;
    /// Why a guest cannot go on.
    type Error: Send + 'static;
}

/// A guest's store, while the guest answers calls.
pub trait Callee<G: ExchangeTypes>: Send + 'static {
    /// Makes the task of `context` wake up when the guest is told to end.
    ///
    /// # Errors
    ///
    /// If the guest was told to end.
    fn poll_stop(&mut self, context: &Context<'_>) -> Result<(), G::Error>;

    /// Receives a notice.
    ///
    /// # Errors
    ///
    /// If the guest cannot go on.
    fn receive(&mut self, notice: G::Notice) -> impl Future<Output = Result<(), G::Error>> + Send;
}

/// The work of a callee in one call, and the place for the results.
pub trait Work<G: ExchangeTypes>: Send + 'static {
    /// Makes the call in the callee's store, and keeps its results here. If the future is
    /// dropped, so is the callee.
    ///
    /// # Errors
    ///
    /// If the callee cannot go on. What it borrowed has to outlive its store.
    fn run(
        &mut self,
        callee: &mut G::Callee,
        caller: GuestId,
    ) -> impl Future<Output = Result<(), CallFailure<G>>> + Send;

    /// Sends the results to the caller. A caller that is gone drops them.
    fn reply(self);

    /// Sends the caller the reason why there are no results.
    fn reply_failure(self, why: String);
}

/// A call that its callee cannot go on from.
pub struct CallFailure<G: ExchangeTypes> {
    /// The error.
    pub error: G::Error,
    /// The regions that were lent to the callee and are not back.
    pub borrowed: Option<G::Borrowed>,
}

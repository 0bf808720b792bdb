//! The types of guests that answer several calls at a time, and a call in progress in one.

use std::future::Future;
use std::sync::Arc;

use crate::guest_id::GuestId;
use crate::guests::{ExchangeTypes, Work};
use crate::request::{Request, SentRequest};
use crate::waits::WaitNode;

/// The types of guests that answer several calls at a time.
pub trait TaskTypes: ExchangeTypes<Work: TaskWork<Self>> {
    /// The means by which a call uses the guest's store while others do so as well.
    type Tasks: Clone + Send + Sync + 'static;
}

/// A call in progress in a guest that answers several at a time.
pub struct Task<G: ExchangeTypes>(pub(crate) Arc<WaitNode<G::Lends>>);

impl<G: ExchangeTypes> Clone for Task<G> {
    fn clone(&self) -> Task<G> {
        Task(self.0.clone())
    }
}

impl<G: ExchangeTypes> Task<G> {
    /// Makes a task for which nobody waits: it began without a call, or its call has returned.
    #[must_use]
    pub fn detached(guest: GuestId) -> Task<G> {
        Task(WaitNode::new(guest))
    }
}

/// The work of a callee that makes several calls at a time.
pub trait TaskWork<G: TaskTypes>: Work<G> {
    /// Returns whether the function is plain, so that it runs alone among such functions.
    fn is_plain(&self) -> bool;

    /// Makes the call in the callee's store, and keeps its results here. Keeps what was lent to
    /// the callee in `borrowed` while the call runs. If the future is dropped, the callee cannot
    /// go on.
    ///
    /// # Errors
    ///
    /// If the callee cannot go on.
    fn run_beside(
        &mut self,
        tasks: &G::Tasks,
        caller: GuestId,
        task: Task<G>,
        borrowed: &mut Option<G::Borrowed>,
    ) -> impl Future<Output = Result<(), G::Error>> + Send;
}

/// A request to a callee that answers several at a time.
pub trait TaskRequest<G: TaskTypes>: Request<G> {
    /// Returns whether the function is plain, as [`TaskWork::is_plain`] does.
    fn is_plain(&self) -> bool;

    /// Makes the call in the callee's store, as [`Request::call`] does. Keeps what was lent to
    /// the callee in `borrowed` while the call runs.
    ///
    /// # Errors
    ///
    /// If the callee cannot go on.
    fn call_beside(
        &mut self,
        tasks: &G::Tasks,
        caller: GuestId,
        task: Task<G>,
        borrowed: &mut Option<G::Borrowed>,
    ) -> impl Future<Output = Result<Result<Self::Answer, String>, G::Error>> + Send;
}

impl<G: TaskTypes, R: TaskRequest<G>> TaskWork<G> for SentRequest<G, R> {
    fn is_plain(&self) -> bool {
        self.request().is_some_and(R::is_plain)
    }

    async fn run_beside(
        &mut self,
        tasks: &G::Tasks,
        caller: GuestId,
        task: Task<G>,
        borrowed: &mut Option<G::Borrowed>,
    ) -> Result<(), G::Error> {
        let Some(request) = self.request_mut() else {
            unreachable!("a call is made once");
        };
        let answer = request.call_beside(tasks, caller, task, borrowed).await?;
        self.answered(answer);
        Ok(())
    }
}

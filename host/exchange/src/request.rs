//! Requests, and the answers that go back to the caller.

use std::future::Future;

use crate::guest_id::GuestId;
use crate::guests::{CallFailure, ExchangeTypes, Work};
use crate::sync::oneshot;

/// A request of a caller to a callee, in types of its own.
pub trait Request<G: ExchangeTypes>: Send + 'static {
    /// The results, without a store.
    type Answer: Send + 'static;

    /// Makes the call in the callee's store. Returns the answer, or the text for the caller if
    /// the arguments or results are refused on the way. In both cases the lends to the callee
    /// are over then. It is called once, and takes the arguments out of `self`: the request stays
    /// where it is, because moving it costs more than the rest of a short call.
    ///
    /// # Errors
    ///
    /// If the callee cannot go on. What it borrowed has to outlive its store.
    fn call(
        &mut self,
        callee: &mut G::Callee,
        caller: GuestId,
    ) -> impl Future<Output = Result<Result<Self::Answer, String>, CallFailure<G>>> + Send;
}

/// A request on its way to the callee. Dropping it tells the caller that no answer comes.
pub struct SentRequest<G: ExchangeTypes, R: Request<G>> {
    progress: Progress<R, R::Answer>,
    reply: oneshot::Sender<Result<R::Answer, String>>,
}

/// How far a request has come.
enum Progress<R, A> {
    /// Sent, or begun.
    Sent(R),
    Answered(Result<A, String>),
}

/// The caller's side of a request. It ends without an answer if the request is dropped.
pub(crate) type Reply<A> = oneshot::Receiver<Result<A, String>>;

impl<G: ExchangeTypes, R: Request<G>> SentRequest<G, R> {
    pub(crate) fn new(request: R) -> (SentRequest<G, R>, Reply<R::Answer>) {
        let (reply, replied) = oneshot::channel();
        let sent = SentRequest {
            progress: Progress::Sent(request),
            reply,
        };
        (sent, replied)
    }

    /// Returns the request, unless it was answered.
    pub(crate) fn request(&self) -> Option<&R> {
        match &self.progress {
            Progress::Sent(request) => Some(request),
            Progress::Answered(_) => None,
        }
    }

    /// Returns the request, unless it was answered, to make it.
    pub(crate) fn request_mut(&mut self) -> Option<&mut R> {
        match &mut self.progress {
            Progress::Sent(request) => Some(request),
            Progress::Answered(_) => None,
        }
    }

    /// Keeps the answer, or the text for the caller.
    pub(crate) fn answered(&mut self, answer: Result<R::Answer, String>) {
        self.progress = Progress::Answered(answer);
    }
}

impl<G: ExchangeTypes, R: Request<G>> Work<G> for SentRequest<G, R> {
    async fn run(&mut self, callee: &mut G::Callee, caller: GuestId) -> Result<(), CallFailure<G>> {
        let Progress::Sent(request) = &mut self.progress else {
            unreachable!("a call is made once");
        };
        let answer = request.call(callee, caller).await?;
        self.progress = Progress::Answered(answer);
        Ok(())
    }

    fn reply(self) {
        if let Progress::Answered(answer) = self.progress {
            let _ = self.reply.send(answer);
        }
    }

    fn reply_failure(self, why: String) {
        let _ = self.reply.send(Err(why));
    }
}

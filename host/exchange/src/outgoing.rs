//! Calls on the caller's side.
//!
//! A call goes through these steps, in this order. Each is a type, so that none is left out:
//!
//! 1. [`Outgoing::begin`]: the caller notes that it waits for the callee. It is refused if that
//!    closes a cycle, or if the callee has ended.
//! 2. The caller charges the arguments and takes them out of its store.
//! 3. [`Outgoing::lend`]: the caller notes what it lent, and waits for that too.
//! 4. [`LentCall::send`]: the callee's mailbox takes the call. The call is queued, or begins
//!    inline.
//! 5. [`SentLentCall::returned`]: the caller waits for the reply, and then for what it lent to
//!    be back.
//! 6. [`Returned::end`]: the caller goes on with its store, and takes the results.
//!
//! A request that lends nothing skips the steps with lends: [`Outgoing::send`],
//! [`SentCall::answer`].
//!
//! If the callee is idle and its turn can be had, [`IdleCallee`] takes the same steps without
//! queue and reply.
//!
//! The call belongs to the callee's task. If the caller is ended meanwhile, its windows on
//! what it lent become zero pages ([`Lender::abandon`]), and the callee goes on.

use std::future::Future;
use std::sync::Arc;

use crate::call::Call;
use crate::guest_id::GuestId;
use crate::guests::ExchangeTypes;
use crate::mailbox::{Mailbox, Turns, Waiting};
use crate::request::{Reply, Request, SentRequest};
use crate::task::Task;
use crate::waits::{WaitCanceller, WaitEdge, WaitNode};

/// Why a call does not begin.
#[derive(Debug, thiserror::Error)]
pub enum CallRefused {
    /// The call would lead back to its caller. These guests would wait for each other, from
    /// the caller to the caller.
    #[error("the call would never return")]
    Cycle(Vec<GuestId>),
    /// The callee has ended, for this reason.
    #[error("{0}")]
    Ended(String),
}

/// A caller's store, as long as the caller is in a call that lends regions.
pub trait Lender<G: ExchangeTypes> {
    /// The caller's side of the lends of a call.
    type Lending;
    /// Why the caller cannot go on.
    type Error;

    /// Returns the lends, to ask whether they are over.
    fn lends(lending: &Self::Lending) -> G::Lends;

    /// Waits until the lends, and all re-lends of them, are over.
    fn wait_until_over(lending: &Self::Lending) -> impl Future<Output = ()> + Send;

    /// Lets the caller go on with its windows, after the lends are over.
    ///
    /// # Errors
    ///
    /// If the caller cannot go on.
    fn end(&mut self, lending: Self::Lending) -> Result<(), Self::Error>;

    /// Takes the caller's windows on the lent regions away, because the call is dropped while
    /// the callee goes on.
    fn abandon(&mut self, lending: Self::Lending);
}

/// A call that may begin. Its caller is noted as waiting for the callee; dropping this undoes
/// that.
pub struct Outgoing<G: ExchangeTypes> {
    mailbox: Arc<Mailbox<G>>,
    turns: Turns,
    waiting: WaitEdge<G::Lends>,
    /// The node of the call, if its callee takes several at a time.
    node: Option<Arc<WaitNode<G::Lends>>>,
}

impl<G: ExchangeTypes> Outgoing<G> {
    /// Notes that the caller waits for the callee. `caller` is the mailbox of the caller's
    /// current incarnation.
    ///
    /// # Errors
    ///
    /// If the call would lead back to its caller, or the callee has ended.
    pub fn begin(callee: Arc<Mailbox<G>>, caller: &Mailbox<G>) -> Result<Outgoing<G>, CallRefused> {
        let waiting = callee.wait_from(caller);
        let turns = caller.turns(&callee);
        Outgoing::begun(callee, waiting, turns)
    }

    /// Notes that a call in progress of another guest awaits the callee. The caller goes on with
    /// other calls meanwhile, and may [cancel](WaitCanceller::cancel) the wait. The call is always
    /// queued.
    ///
    /// # Errors
    ///
    /// As [`begin`](Outgoing::begin).
    pub fn begin_awaited(
        callee: Arc<Mailbox<G>>,
        caller: &Task<G>,
    ) -> Result<(Outgoing<G>, WaitCanceller<G::Lends>), CallRefused> {
        let waiting = callee.wait_from_task(caller);
        let outgoing = Outgoing::begun(callee, waiting, Turns::Awaited)?;
        let canceller = outgoing.waiting.canceller();
        Ok((outgoing, canceller))
    }

    fn begun(
        mailbox: Arc<Mailbox<G>>,
        waiting: Result<Waiting<G>, Vec<GuestId>>,
        turns: Turns,
    ) -> Result<Outgoing<G>, CallRefused> {
        let (waiting, node) = waiting.map_err(CallRefused::Cycle)?;
        if mailbox.is_closed() {
            return Err(CallRefused::Ended(mailbox.exit_reason()));
        }
        Ok(Outgoing {
            mailbox,
            turns,
            waiting,
            node,
        })
    }

    /// Returns the callee as the receiver of the arguments.
    pub fn recipient(&self) -> &G::Recipient {
        self.mailbox.recipient()
    }

    /// Notes the lends that the arguments make. If the result is dropped, the caller loses its
    /// windows on what it lent.
    pub fn lend<L: Lender<G>>(self, lender: L, lending: L::Lending) -> LentCall<G, L> {
        self.waiting.for_lends(L::lends(&lending));
        LentCall {
            call: self,
            guard: LenderGuard::new(lender, lending),
        }
    }

    /// Sends a call that lends nothing. The call is queued, or runs inline until it waits.
    /// `wrap` makes the callee's work of the request.
    pub fn send<R: Request<G>>(
        self,
        request: R,
        wrap: impl FnOnce(SentRequest<G, R>) -> G::Work,
    ) -> SentCall<G, R::Answer> {
        let Outgoing {
            mailbox,
            turns,
            waiting,
            node,
        } = self;
        let (sent, reply) = SentRequest::new(request);
        let call = Call::new(waiting, node, wrap(sent));
        let sent = mailbox.send(call, turns);
        SentCall {
            reply: sent.is_ok().then_some(reply),
            mailbox,
        }
    }
}

/// A call that its callee has. Dropping this does not end the call.
#[must_use = "await `answer`, or the caller never learns the result"]
pub struct SentCall<G: ExchangeTypes, A> {
    pub(crate) mailbox: Arc<Mailbox<G>>,
    /// `None` if the callee had ended.
    pub(crate) reply: Option<Reply<A>>,
}

impl<G: ExchangeTypes, A> SentCall<G, A> {
    /// Waits for the answer. Dropping the future does not end the call.
    ///
    /// # Errors
    ///
    /// The text for the caller, if the call was refused on the way or the callee has ended.
    pub async fn answer(self) -> Result<A, String> {
        let answer = match self.reply {
            Some(reply) => reply.await.ok(),
            None => None,
        };
        answer.unwrap_or_else(|| Err(self.mailbox.exit_reason()))
    }
}

/// A lender whose windows on the lent regions are taken away if this is dropped: the call still
/// holds its store then. `None` once the lends are over.
pub(crate) struct LenderGuard<G: ExchangeTypes, L: Lender<G>>(Option<(L, L::Lending)>);

impl<G: ExchangeTypes, L: Lender<G>> LenderGuard<G, L> {
    #[inline]
    pub(crate) fn new(lender: L, lending: L::Lending) -> LenderGuard<G, L> {
        LenderGuard(Some((lender, lending)))
    }

    /// Returns the lends, to ask whether they are back.
    #[inline]
    pub(crate) fn lends(&self) -> G::Lends {
        match &self.0 {
            Some((_, lending)) => L::lends(lending),
            None => G::Lends::default(),
        }
    }
}

impl<G: ExchangeTypes, L: Lender<G>> Drop for LenderGuard<G, L> {
    #[inline]
    fn drop(&mut self) {
        if let Some((mut lender, lending)) = self.0.take() {
            lender.abandon(lending);
        }
    }
}

/// A call that may begin, and what its arguments lend.
#[must_use = "if this is dropped, the caller loses its windows on what it lent; call `send`"]
pub struct LentCall<G: ExchangeTypes, L: Lender<G>> {
    call: Outgoing<G>,
    guard: LenderGuard<G, L>,
}

impl<G: ExchangeTypes, L: Lender<G>> LentCall<G, L> {
    /// Sends the call, as [`Outgoing::send`] does.
    pub fn send<R: Request<G>>(
        self,
        request: R,
        wrap: impl FnOnce(SentRequest<G, R>) -> G::Work,
    ) -> SentLentCall<G, L, R::Answer> {
        let LentCall { call, guard } = self;
        SentLentCall {
            call: call.send(request, wrap),
            guard,
        }
    }
}

/// A call that its callee has, and what it lent. If this is dropped, the call goes on, and the
/// caller loses its windows on what it lent.
#[must_use = "await `returned`; if this is dropped, the caller loses its windows on what it lent"]
pub struct SentLentCall<G: ExchangeTypes, L: Lender<G>, A> {
    pub(crate) call: SentCall<G, A>,
    pub(crate) guard: LenderGuard<G, L>,
}

impl<G: ExchangeTypes, L: Lender<G>, A> SentLentCall<G, L, A> {
    /// Waits for the answer, and then until the lends are over: a callee that died may have
    /// re-lent a region, to a call that goes on. Dropping the future is like dropping `self`.
    pub async fn returned(self) -> Returned<G, L, A> {
        let SentLentCall { call, guard } = self;
        let answer = call.answer().await;
        if let Some((_, lending)) = &guard.0 {
            L::wait_until_over(lending).await;
        }
        Returned { guard, answer }
    }
}

/// A call that has returned, and whose lends are over.
#[must_use = "the caller goes on only after `end`"]
pub struct Returned<G: ExchangeTypes, L: Lender<G>, A> {
    pub(crate) guard: LenderGuard<G, L>,
    pub(crate) answer: Result<A, String>,
}

impl<G: ExchangeTypes, L: Lender<G>, A> Returned<G, L, A> {
    /// Returns the answer or the text for the caller, and the lends, so that the lender may note
    /// what the answer says about them.
    #[inline]
    pub fn parts(&mut self) -> (&mut Result<A, String>, Option<&mut L::Lending>) {
        let lending = self.guard.0.as_mut().map(|(_, lending)| lending);
        (&mut self.answer, lending)
    }

    /// Lets the caller go on. Returns its store, and the answer or the text for the caller.
    ///
    /// # Errors
    ///
    /// If the caller cannot go on.
    #[inline]
    pub fn end(mut self) -> Result<(L, Result<A, String>), L::Error> {
        let (mut lender, lending) = self.guard.0.take().expect("taken only here");
        lender.end(lending)?;
        Ok((lender, self.answer))
    }
}

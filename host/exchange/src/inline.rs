//! Calls to a guest that is idle, on the caller's own thread.
//!
//! The caller takes the callee out of its slot, and polls the call once on the spot. Most calls
//! return by that poll. Such a call has no place in a queue and no channel for its answer, and
//! nobody is told of its lends. The steps are those of [`Outgoing`](crate::Outgoing):
//!
//! 1. [`IdleCallee::take`]: the caller takes the callee, and notes that it waits for it. An idle
//!    guest waits for nobody, so that closes no cycle.
//! 2. The caller charges the arguments and takes them out of its store.
//! 3. [`IdleCallee::lend`]: the caller notes what it lent.
//! 4. [`LentIdleCallee::run`]: the call begins.
//! 5. [`InlineCall::returned`], [`Returned::end`]: the caller goes on.
//!
//! A call that waits, or that breaks its callee, is parked in the callee's slot. From then on it
//! belongs to the callee's task and is a call like any other: its caller waits for a reply, and
//! for its lends. If the caller is dropped meanwhile, it loses its windows on what it lent.
//!
//! # Why the lends may be noted late
//!
//! An edge counts until the call has returned and the lends that it was told of are back. It is
//! told of them before it counts as returned, if the callee is broken or waits. If the call
//! returned by the first poll, its lends are over.

use std::future::{Future, ready};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use tracing::{Instrument, Span};

use crate::call::Broken;
use crate::guests::ExchangeTypes;
use crate::idle::Unfinished;
use crate::mailbox::{Entered, Mailbox};
use crate::outgoing::{Lender, LenderGuard, Returned, SentCall, SentLentCall};
use crate::request::Request;
use crate::server::{Answered, Called, Server};
use crate::sync::oneshot;
use crate::waits::WaitEdge;

/// An idle guest in the hands of its caller, which is noted as waiting for it.
/// Dropping this puts the guest back and removes the note.
///
/// It must not be kept beyond the poll in which it was taken: meanwhile the guest's own task
/// finds nothing in its slot.
pub struct IdleCallee<G: ExchangeTypes> {
    /// `None` once the call has begun.
    waiting: Option<WaitEdge<G::Lends>>,
    /// `None` once the call has begun.
    taken: Option<(Box<Server<G>>, Waker)>,
    mailbox: Arc<Mailbox<G>>,
    /// Declared last, so that the callee's strand goes on when the callee is back in its slot.
    _entered: Entered,
}

impl<G: ExchangeTypes> IdleCallee<G> {
    /// Takes the callee if it is idle and its queue is empty. `caller` is the mailbox of the
    /// caller's current incarnation. If the callee is on another strand, takes the
    /// [turn](crate::Turn) of that too.
    ///
    /// # Errors
    ///
    /// Returns the callee's mailbox if it is busy or has ended, if its turn cannot be had now, or
    /// if its strand differs and the caller shares its own. Make the call by
    /// [`Outgoing`](crate::Outgoing) then.
    #[inline]
    pub fn take(
        callee: Arc<Mailbox<G>>,
        caller: &Mailbox<G>,
    ) -> Result<IdleCallee<G>, Arc<Mailbox<G>>> {
        let Some(entered) = callee.enter(caller.turns(&callee)) else {
            return Err(callee);
        };
        let Some(taken) = callee.take_idle() else {
            return Err(callee);
        };
        Ok(IdleCallee {
            waiting: Some(callee.wait_idle_from(caller)),
            taken: Some(taken),
            mailbox: callee,
            _entered: entered,
        })
    }

    /// Returns the callee as the receiver of the arguments.
    #[inline]
    pub fn recipient(&self) -> &G::Recipient {
        self.mailbox.recipient()
    }

    /// Notes the lends that the arguments make. If the result is dropped, the caller loses its
    /// windows on what it lent.
    #[inline]
    pub fn lend<L: Lender<G>>(self, lender: L, lending: L::Lending) -> LentIdleCallee<G, L> {
        LentIdleCallee {
            callee: self,
            guard: LenderGuard::new(lender, lending),
        }
    }
}

impl<G: ExchangeTypes> Drop for IdleCallee<G> {
    #[inline]
    fn drop(&mut self) {
        if let Some((server, waker)) = self.taken.take() {
            self.mailbox.idle().put_back(server, waker);
        }
    }
}

/// An idle guest that is about to be called, and what the arguments lend.
#[must_use = "the caller loses its windows on what it lent"]
pub struct LentIdleCallee<G: ExchangeTypes, L: Lender<G>> {
    callee: IdleCallee<G>,
    guard: LenderGuard<G, L>,
}

impl<G: ExchangeTypes, L: Lender<G>> LentIdleCallee<G, L> {
    /// Makes the call, as far as it gets without waiting. Allocates the call's future. If the
    /// call waits or breaks its callee, also allocates a channel for the answer.
    #[inline]
    pub fn run<R: Request<G>>(self, request: R) -> InlineCall<G, L, R::Answer> {
        let LentIdleCallee { mut callee, guard } = self;
        let (Some((server, waker)), Some(waiting)) = (callee.taken.take(), callee.waiting.take())
        else {
            unreachable!("a call begins once");
        };
        let caller = waiting.caller();
        let begin = || server.request(request, caller);
        let (mut waiting, mut reply) = (Some(waiting), None);
        let answer = callee.mailbox.idle().run(waker, begin, |unfinished| {
            let waiting = waiting.take().expect("taken only here");
            waiting.for_lends(guard.lends());
            let rest: BegunCall<G, R::Answer> = match unfinished {
                Unfinished::Waits(begun) => begun,
                Unfinished::Broken(server, failure) => Box::pin(ready((server, Err(failure)))),
                // Without a reply, the caller learns that the callee has ended.
                Unfinished::Panicked(panic) => return Box::pin(async { resume_unwind(panic) }),
            };
            let (sender, receiver) = oneshot::channel();
            reply = Some(receiver);
            let parked = ParkedCall {
                rest,
                waiting,
                reply: sender,
            };
            Box::pin(parked.go_on().instrument(Span::current()))
        });
        match answer {
            Some(answer) => {
                drop(waiting);
                InlineCall::Returned(Returned { guard, answer })
            }
            None => InlineCall::Waits(SentLentCall {
                call: SentCall {
                    mailbox: callee.mailbox.clone(),
                    reply,
                },
                guard,
            }),
        }
    }
}

/// A call that was begun inline.
#[must_use = "the caller goes on only after `returned`"]
pub enum InlineCall<G: ExchangeTypes, L: Lender<G>, A> {
    /// It has returned, and its lends are over.
    Returned(Returned<G, L, A>),
    /// The callee goes on with it, or ends because of it. If this is dropped, the caller loses
    /// its windows on what it lent.
    Waits(SentLentCall<G, L, A>),
}

/// The rest of a call that was begun inline.
type BegunCall<G, A> = Pin<Box<dyn Future<Output = (Box<Server<G>>, Called<G, A>)> + Send>>;

/// A call in its callee's slot. It is dropped in this order: a caller that learns of a dropped
/// call no longer waits.
struct ParkedCall<G: ExchangeTypes, A> {
    rest: BegunCall<G, A>,
    waiting: WaitEdge<G::Lends>,
    reply: oneshot::Sender<Result<A, String>>,
}

impl<G: ExchangeTypes, A: Send + 'static> ParkedCall<G, A> {
    /// Goes on with the call, and replies if that goes on.
    async fn go_on(mut self) -> Answered<G> {
        let (server, called) = (&mut self.rest).await;
        let ParkedCall { waiting, reply, .. } = self;
        drop(waiting);
        let answered = match called {
            Ok(answer) => {
                let _ = reply.send(answer);
                Ok(())
            }
            Err(failure) => {
                let tell = Box::new(|why| drop(reply.send(Err(why))));
                Err(Broken::in_call(failure, tell))
            }
        };
        (server, answered)
    }
}

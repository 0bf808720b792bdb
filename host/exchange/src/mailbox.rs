//! The mailbox of a guest: a queue of calls, and a slot from which another guest runs it inline.

use std::sync::{Arc, PoisonError};
use std::task::Waker;

use crate::call::{Broken, Call};
use crate::guest_id::GuestId;
use crate::guests::ExchangeTypes;
use crate::idle::IdleSlot;
use crate::inbox::{Inbox, MailboxItem};
use crate::server::Server;
use crate::sync::{Mutex, mpsc};
use crate::task::Task;
use crate::turn::{HeldTurn, Turn};
use crate::waits::{WaitEdge, WaitNode};

/// An incarnation of a guest, as its callers reach it.
///
/// A restarted guest gets a new mailbox.
pub struct Mailbox<G: ExchangeTypes> {
    node: Arc<WaitNode<G::Lends>>,
    /// Whether the guest takes several calls at a time.
    several: bool,
    name: Arc<str>,
    /// Holds at most one plain call of each incarnation of another guest, because a guest that
    /// makes one waits. The caller is charged for each further call, and for its arguments. A
    /// call of an incarnation that has ended stays in the queue. It also holds notices, whose
    /// number the sender limits.
    queue: mpsc::UnboundedSender<MailboxItem<G>>,
    /// Holds the guest while it waits for calls.
    idle: IdleSlot<Box<Server<G>>, Broken<G>>,
    /// The turn of the guest's strand.
    turn: Arc<Turn>,
    recipient: G::Recipient,
    /// Why the guest has ended.
    exit_reason: Mutex<Option<String>>,
}

impl<G: ExchangeTypes> Mailbox<G> {
    /// Makes the mailbox of an incarnation, on the strand that has this turn. The guest takes one
    /// call at a time.
    pub fn new(
        guest: GuestId,
        name: Arc<str>,
        turn: Arc<Turn>,
        recipient: G::Recipient,
    ) -> (Arc<Mailbox<G>>, Inbox<G>) {
        Mailbox::make(guest, name, turn, recipient, false)
    }

    /// Makes the mailbox of an incarnation of a guest that takes `most` calls at a time: its task
    /// serves it by a [`TaskServer`](crate::TaskServer).
    pub fn of_tasks(
        guest: GuestId,
        name: Arc<str>,
        turn: Arc<Turn>,
        recipient: G::Recipient,
        most: usize,
    ) -> (Arc<Mailbox<G>>, Inbox<G>) {
        Mailbox::make(guest, name, turn, recipient, most > 1)
    }

    fn make(
        guest: GuestId,
        name: Arc<str>,
        turn: Arc<Turn>,
        recipient: G::Recipient,
        several: bool,
    ) -> (Arc<Mailbox<G>>, Inbox<G>) {
        let (queue, inbox) = Inbox::new();
        let mailbox = Mailbox {
            node: WaitNode::new(guest),
            several,
            name,
            queue,
            idle: IdleSlot::default(),
            turn,
            recipient,
            exit_reason: Mutex::new(None),
        };
        (Arc::new(mailbox), inbox)
    }

    /// Returns the guest whose incarnation it is.
    pub fn guest(&self) -> GuestId {
        self.node.guest()
    }

    /// Returns the incarnation as a receiver of arguments.
    #[inline]
    pub fn recipient(&self) -> &G::Recipient {
        &self.recipient
    }

    /// Sends a call. Runs it inline until it waits, if the guest is idle and its turn can be had.
    ///
    /// # Errors
    ///
    /// If the guest has ended.
    pub(crate) fn send(&self, call: Box<Call<G>>, turns: Turns) -> Result<(), HasEnded> {
        let begun = match self.enter(turns) {
            Some(_entered) => self.idle.begin(call, |it| it.is_free(), Server::answer),
            None => Err(call),
        };
        match begun {
            Ok(()) => Ok(()),
            Err(call) => self
                .queue
                .send(MailboxItem::Call(call))
                .map_err(|_| HasEnded),
        }
    }

    /// Takes the guest and the waker of its task, if the guest is idle and its queue is empty.
    /// To be called by a guest that has [entered](Mailbox::enter) its strand; see
    /// [`IdleSlot::take`].
    #[inline]
    pub(crate) fn take_idle(&self) -> Option<(Box<Server<G>>, Waker)> {
        self.idle.take(|it| it.is_free())
    }

    /// Returns the node of the guest.
    pub(crate) fn node(&self) -> &Arc<WaitNode<G::Lends>> {
        &self.node
    }

    /// Returns the slot in which the guest waits for calls.
    #[inline]
    pub(crate) fn idle(&self) -> &IdleSlot<Box<Server<G>>, Broken<G>> {
        &self.idle
    }

    /// Notes that the guest `from` waits for this one, which is idle.
    #[inline]
    pub(crate) fn wait_idle_from(&self, from: &Mailbox<G>) -> WaitEdge<G::Lends> {
        from.node.wait_idle(&self.node)
    }

    /// Returns whose turn a call from this guest to the callee needs to run inline.
    pub(crate) fn turns(&self, callee: &Mailbox<G>) -> Turns {
        if Arc::ptr_eq(&self.turn, &callee.turn) {
            Turns::Same
        } else if self.turn.is_shared() {
            Turns::Shared
        } else {
            Turns::Other
        }
    }

    /// Enters the guest's strand for as long as the result lives, if a caller may. A caller of
    /// the same strand is already there.
    pub(crate) fn enter(&self, turns: Turns) -> Option<Entered> {
        match turns {
            Turns::Same => Some(Entered(None)),
            Turns::Other => self.turn.try_hold().map(|held| Entered(Some(held))),
            Turns::Shared | Turns::Awaited => None,
        }
    }

    /// Notes that the guest `from` waits for this one, until the returned edge is dropped
    /// and everything that the edge was told of is back.
    ///
    /// # Errors
    ///
    /// The guests of the cycle that this would close.
    pub(crate) fn wait_from(&self, from: &Mailbox<G>) -> Result<Waiting<G>, Vec<GuestId>> {
        let (to, node) = self.callee_node();
        Ok((from.node.wait(&to)?, node))
    }

    /// Notes that a call in progress of another guest awaits this one, beside others. Otherwise
    /// as [`wait_from`](Mailbox::wait_from).
    ///
    /// # Errors
    ///
    /// As [`wait_from`](Mailbox::wait_from).
    pub(crate) fn wait_from_task(&self, from: &Task<G>) -> Result<Waiting<G>, Vec<GuestId>> {
        let (to, node) = self.callee_node();
        Ok((from.0.wait_beside(&to)?, node))
    }

    /// Returns the node for which a caller waits, and the same if it is the node of the call.
    fn callee_node(&self) -> (Node<G>, Option<Node<G>>) {
        match self.several {
            true => {
                let node = WaitNode::of_call(&self.node);
                (node.clone(), Some(node))
            }
            false => (self.node.clone(), None),
        }
    }

    /// Returns whether the guest waits for another one to return from a call, or for what it
    /// lent to be back. Only the guest's own task can rely on the answer.
    pub fn is_waiting(&self) -> bool {
        self.node.is_waiting()
    }

    /// Returns whether the guest takes no more calls.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Notes why the guest has ended, for its callers.
    pub fn set_exit_reason(&self, why: String) {
        let reason = self.exit_reason.lock();
        *reason.unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Returns the text for a caller of a guest that has ended.
    pub fn exit_reason(&self) -> String {
        let reason = self.exit_reason.lock();
        match &*reason.unwrap_or_else(PoisonError::into_inner) {
            Some(why) => why.clone(),
            None => format!("guest `{}` has ended", self.name),
        }
    }

    /// Sends the guest a notice, unless the guest has ended.
    pub fn notify(&self, notice: G::Notice) {
        let _ = self.queue.send(MailboxItem::Notice(notice));
    }

    /// Notifies the guest that no command runs any more.
    pub fn notify_stop(&self) {
        let _ = self.queue.send(MailboxItem::Stop);
    }

    /// Answers calls one at a time, in the order in which they come, until no command runs any
    /// more or the guest breaks. To be called by the guest's own task, on the mailbox of its
    /// incarnation. Returns the guest, and its inbox with what it has not received.
    ///
    /// If the future is dropped, so is the guest.
    pub async fn serve(
        &self,
        callee: G::Callee,
        inbox: Inbox<G>,
    ) -> (G::Callee, Inbox<G>, Result<(), Broken<G>>) {
        Server::new(callee, inbox).serve(&self.idle).await
    }

    /// Ends a guest that cannot go on, in the order that other guests rely on:
    ///
    /// 1. `drop_store` drops the guest's store, and with it the memory and its windows. It
    ///    returns the reason for callers.
    /// 2. The lends to the guest end.
    /// 3. `restart` makes the mailbox of the next incarnation, if there is one.
    /// 4. The callers of the calls in progress are told the reason. If they call again, they
    ///    find the next incarnation.
    /// 5. The calls that were not begun are dropped, and their callers find the reason.
    ///
    /// `self` is the mailbox of the incarnation that ends.
    pub fn end_broken<X>(
        &self,
        broken: Broken<G>,
        inbox: Option<Inbox<G>>,
        drop_store: impl FnOnce(G::Error) -> (X, String),
        restart: impl FnOnce(&mut X),
    ) -> X {
        let Broken {
            error,
            borrowed,
            tell_callers,
            not_begun,
        } = broken;
        let (mut exit, why) = drop_store(error);
        self.set_exit_reason(why.clone());
        drop(borrowed);
        restart(&mut exit);
        for tell in tell_callers {
            tell(why.clone());
        }
        drop((not_begun, inbox));
        exit
    }
}

/// A node in the graph of waits.
type Node<G> = Arc<WaitNode<<G as ExchangeTypes>::Lends>>;

/// A wait for a callee, and the node of the call if the callee takes several at a time.
pub(crate) type Waiting<G> = (WaitEdge<<G as ExchangeTypes>::Lends>, Option<Node<G>>);

/// The turns of a caller and its callee.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turns {
    /// The guests are of one strand, whose turn the running caller has.
    Same,
    /// The caller is alone on its strand, and the callee is on another one.
    Other,
    /// The strands differ, and other guests of the caller's go on while the callee runs.
    Shared,
    /// The caller awaits the call and goes on with others. Its store is being polled, in which no
    /// other store can be entered.
    Awaited,
}

/// The callee's strand, in which no other guest runs.
pub(crate) struct Entered(
    #[expect(dead_code, reason = "it is held until this is dropped")] Option<HeldTurn>,
);

/// The error that the guest has ended.
#[derive(Debug)]
pub(crate) struct HasEnded;

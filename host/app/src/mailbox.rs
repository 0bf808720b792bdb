//! Where a guest gets its calls: a queue, and a slot from which a guest of the same strand
//! runs it inline.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::ComponentExportIndex;

use super::bytes::ByteCall;
use super::guest::{Broken, IdleGuest};
use super::guest_id::GuestId;
use super::idle::IdleSlot;
use super::proxy::{Bundle, Dropped};
use super::waits::{self, LentRegions};
use tombolo::Recipient;
use tombolo::internal::Lends;
use tombolo_region::Charge;

/// What a guest's task is sent.
pub(super) enum MailboxItem {
    Call(Box<Call>),
    /// No other guest has this resource of the guest's any more. Nobody waits for that.
    Drop(Dropped),
    /// No command runs any more.
    Stop,
}

/// A call on its way to the callee.
pub(super) struct Call {
    /// Dropped by the callee as soon as the call has returned. From then on, what the
    /// callee does leads back to no caller, even if the caller was not polled since. If the
    /// callee dies, the caller goes on waiting for what it lent.
    ///
    /// Declared first, so that it is dropped before the reply: a caller that learns of a
    /// dropped call no longer waits.
    pub(super) waiting: WaitEdge,
    pub(super) export: ComponentExportIndex,
    /// With the interface, for messages.
    pub(super) function: Arc<str>,
    pub(super) work: Work,
    /// The caller's span, to which the callee's work belongs.
    pub(super) span: tracing::Span,
}

/// The arguments of a call, and where its results go.
pub(super) enum Work {
    /// Any values.
    Values {
        params: Bundle,
        /// The charge for the parameters, on the caller's account.
        charge: Charge,
        /// The number of results.
        results: usize,
        caller: Recipient,
        reply: oneshot::Sender<Reply>,
    },
    /// One list of bytes.
    Bytes(Box<dyn ByteCall>),
}

/// How a call ended, for the caller.
pub(super) enum Reply {
    /// The results, with the charge for them on the caller's account.
    Done(Bundle, Charge),
    /// The callee is dead, or its results were refused on the way.
    Failed(String),
}

/// The fact that a guest waits for another.
pub(super) type WaitEdge = waits::WaitEdge<Lends>;

/// An incarnation of a guest, in the graph of guests that wait for each other.
type WaitNode = waits::WaitNode<Lends>;

impl LentRegions for Lends {
    fn are_all_back(&self) -> bool {
        self.are_over()
    }
}

/// The receiving side of a mailbox.
///
/// Dropping it drops what is queued, and also what another thread is just sending. A
/// caller that waits for an answer to that learns that there is none.
pub(super) struct Inbox(mpsc::UnboundedReceiver<MailboxItem>);

impl Inbox {
    /// Receives the next item.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<MailboxItem>> {
        self.0.poll_recv(context)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
        // The receiver's own drop misses an item that another thread, which found the
        // queue open, has not put there yet. That takes a moment.
        loop {
            match self.0.try_recv() {
                Ok(item) => drop(item),
                Err(mpsc::error::TryRecvError::Empty) => std::thread::yield_now(),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
    }
}

/// An incarnation of a guest, as its callers reach it.
///
/// A restarted guest gets a new mailbox.
pub(super) struct Mailbox {
    node: Arc<WaitNode>,
    name: Arc<str>,
    /// Holds at most one call of each other guest, because a guest that calls waits. It
    /// also holds notices of dropped resources. There are no more of those than handles to
    /// the guest's resources, which wasmtime limits to 100,000.
    queue: mpsc::UnboundedSender<MailboxItem>,
    /// Holds the guest while it waits for calls.
    pub(super) idle: IdleSlot<Box<IdleGuest>, Broken>,
    pub(super) recipient: Recipient,
    /// Why the guest has ended.
    exit_reason: Mutex<Option<String>>,
}

impl Mailbox {
    /// Makes the mailbox of an incarnation.
    pub(super) fn new(
        guest: GuestId,
        name: Arc<str>,
        recipient: Recipient,
    ) -> (Arc<Mailbox>, Inbox) {
        let (queue, inbox) = mpsc::unbounded_channel();
        let mailbox = Mailbox {
            node: WaitNode::new(guest),
            name,
            queue,
            idle: IdleSlot::default(),
            recipient,
            exit_reason: Mutex::default(),
        };
        (Arc::new(mailbox), Inbox(inbox))
    }

    /// Sends a call. If the guest shares the caller's strand and is idle, runs the call
    /// inline until it waits.
    ///
    /// # Errors
    ///
    /// If the guest has ended.
    pub(super) fn send(&self, call: Box<Call>, same_strand: bool) -> Result<(), HasEnded> {
        let begun = match same_strand {
            true => self.idle.begin(call, |it| it.is_free(), IdleGuest::answer),
            false => Err(call),
        };
        match begun {
            Ok(()) => Ok(()),
            Err(call) => self
                .queue
                .send(MailboxItem::Call(call))
                .map_err(|_| HasEnded),
        }
    }

    /// Notes that the guest `from` waits for this one, until the returned edge is dropped
    /// and everything that the edge was told of is back.
    ///
    /// # Errors
    ///
    /// The guests of the cycle that this would close.
    pub(super) fn wait_from(&self, from: &Mailbox) -> Result<WaitEdge, Vec<GuestId>> {
        from.node.wait(&self.node)
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> bool {
        self.node.waits()
    }

    /// Returns whether the guest takes no more calls.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns the guest whose mailbox it is.
    pub(super) fn guest(&self) -> GuestId {
        self.node.guest()
    }

    /// Notes why the guest has ended, for its callers.
    pub(super) fn set_exit_reason(&self, why: String) {
        let reason = self.exit_reason.lock();
        *reason.unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Returns the text for a caller of a guest that has ended.
    pub(super) fn exit_reason(&self) -> String {
        let reason = self.exit_reason.lock();
        match &*reason.unwrap_or_else(PoisonError::into_inner) {
            Some(why) => why.clone(),
            None => format!("guest `{}` has ended", self.name),
        }
    }

    /// Tells the guest that no other guest has one of its resources any more. If the guest
    /// has ended, the resource went with it.
    pub(super) fn notify_dropped(&self, dropped: Dropped) {
        let _ = self.queue.send(MailboxItem::Drop(dropped));
    }

    /// Tells the guest that no command runs any more.
    pub(super) fn notify_stop(&self) {
        let _ = self.queue.send(MailboxItem::Stop);
    }
}

/// The guest has ended.
#[derive(Debug)]
pub(super) struct HasEnded;

//! The mailbox of a guest: a queue of calls, and a slot from which a guest of the same strand
//! runs it inline.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::call_message::{Call, Inbox, MailboxItem, WaitEdge};
use super::guest::{Broken, IdleGuest};
use super::guest_id::GuestId;
use super::idle::IdleSlot;
use super::proxy::{Dropped, ProxyOwner};
use super::waits;
use tombolo::Recipient;
use tombolo::internal::Lends;

/// An incarnation of a guest, in the graph of guests that wait for each other.
type WaitNode = waits::WaitNode<Lends>;

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
        let (queue, inbox) = Inbox::new();
        let mailbox = Mailbox {
            node: WaitNode::new(guest),
            name,
            queue,
            idle: IdleSlot::default(),
            recipient,
            exit_reason: Mutex::default(),
        };
        (Arc::new(mailbox), inbox)
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

    /// Notifies the guest that no command runs any more.
    pub(super) fn notify_stop(&self) {
        let _ = self.queue.send(MailboxItem::Stop);
    }
}

impl ProxyOwner for Mailbox {
    fn guest(&self) -> GuestId {
        self.node.guest()
    }

    fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    fn exit_reason(&self) -> String {
        Mailbox::exit_reason(self)
    }

    fn notify_dropped(&self, dropped: Dropped) {
        let _ = self.queue.send(MailboxItem::Drop(dropped));
    }
}

/// The error that the guest has ended.
#[derive(Debug)]
pub(super) struct HasEnded;

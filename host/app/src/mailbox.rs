//! The types that pass through the mailboxes of guests.

use super::guest::{Fault, ServingGuest};
use super::guests::{AppGuests, Mailbox};
use super::proxy::{Dropped, Held, ProxyOwner};
use super::work::GuestWork;
use tombolo::Recipient;
use tombolo::internal::Lends;
use tombolo_exchange::{ExchangeTypes, GuestId, LentRegions};

impl ExchangeTypes for AppGuests {
    type Callee = ServingGuest;
    type Work = GuestWork;
    /// No other guest has this resource of the guest's any more. There are no more of these
    /// than handles to the guest's resources, which wasmtime limits to 100,000.
    type Notice = Dropped;
    type Recipient = Recipient;
    type Lends = CallLends;
    /// In a box, so that the results of calls stay small.
    type Borrowed = Box<Held>;
    type Error = Fault;
}

/// The lends of a call.
#[derive(Debug, Default)]
pub(super) struct CallLends(pub(super) Lends);

impl LentRegions for CallLends {
    fn are_all_back(&self) -> bool {
        self.0.are_over()
    }
}

impl ProxyOwner for Mailbox {
    fn guest(&self) -> GuestId {
        Mailbox::guest(self)
    }

    fn recipient(&self) -> &Recipient {
        Mailbox::recipient(self)
    }

    fn exit_reason(&self) -> String {
        Mailbox::exit_reason(self)
    }

    fn notify_dropped(&self, dropped: Dropped) {
        self.notify(dropped);
    }
}

//! The ledger of one region: claims, handles, lends, the lock, freeze, poison and pins.
//!
//! | file | contents |
//! |---|---|
//! | this one | the ledger's state, freeze and poison |
//! | `handle`, `access`, `error` | the types of its interface |
//! | `claims` | claims, from creation to the end, with moves and accounts |
//! | `lends`, `lend_table` | lends, from their start to the end of their last window |
//! | `windows` | the lock |
//! | `window_index`, `interval_tree` | searches among windows |
//! | `waits` | the order in which waiters get windows |
//! | `queue`, `place_tree` | searches among waiters |
//! | `pins` | pins, losses and charges |

mod access;
mod claims;
mod error;
mod handle;
mod interval_tree;
mod lend_table;
mod lends;
mod pins;
mod place_tree;
mod queue;
mod waits;
mod window_index;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::access::{Access, Holder, LiveOwner, WindowEnd};
pub use self::error::{LedgerError, PinError};
pub use self::handle::{ClaimId, Handle, LendId, WaiterId, WindowId};
use self::lend_table::LendTable;
pub use self::pins::{PinUndo, PinUsage};
use self::queue::Queue;
pub use self::waits::{RESERVATION, WaitStatus};
use self::window_index::WindowIndex;
use crate::account::Charge;
use crate::budget::{Budget, CommitCharge};
use crate::pins::{Pins, Unpinned};
use crate::rights::Rights;
use crate::span::{GRANULE, Span};

/// A living claim.
#[derive(Debug)]
struct ClaimRecord {
    /// The number of handles, without revoked ones.
    handles: u32,
    /// The number of windows, guards included.
    windows: u32,
    /// The number of guards of the host program.
    guards: u32,
    /// The number of lends of this claim that are not over yet.
    lends: u32,
    unpinned: Unpinned,
    /// The charges for the claim, held until it ends.
    charges: Vec<Charge>,
    /// Whether it is in a channel. No guest holds it then, and it would not end with the guest
    /// that it is charged to.
    queued: bool,
}

/// A lend that is not over yet.
#[derive(Debug)]
struct LendRecord {
    claim: ClaimId,
    /// The lend by which the lender itself has the handle.
    parent: Option<LendId>,
    /// The number of lends that it was made from, one from the other.
    depth: u32,
    /// The number of lends made from this one that are not over yet.
    children: u32,
    /// The lent handle and those restricted from it, until they are revoked.
    handles: u32,
    /// The number of open windows made via this lend.
    windows: u32,
    revoked: bool,
}

/// An open window.
#[derive(Debug)]
struct WindowRecord<P> {
    claim: ClaimId,
    /// The lend by which the holder has the handle.
    via: Option<LendId>,
    rights: Rights,
    span: Span,
    access: Access,
    holder: Holder,
    /// The tag by which searches skip windows that a lend sets aside.
    tag: u64,
    place: P,
}

/// The state of one region: its claims and their pins, the lock, freeze and poison.
///
/// `P` is what the layer above notes with each window, for example where it is mapped.
///
/// Operations do not block. Where nothing else is said, they take time logarithmic in the
/// number of claims, windows and waiters.
///
/// # The lock
///
/// Each window is a guard of the lock. On the same granule `read` goes with `read`, and a live
/// window with live windows of other stores of its strand. All other pairs conflict, with one
/// exception: a lend *sets aside* the lender's windows of that claim. They do not conflict with
/// windows made via the lend, or via lends made from it.
///
/// Setting aside needs no state of its own. Each window notes the lend `via` which its holder
/// has the handle (none for the claim's owner). Each lend notes its *parent*: the lend by which
/// the lender itself has the handle.
///
/// ```text
///   A (owner)  --lends l-->  B  --lends m-->  C
///   via: none                via: l           via: m, whose parent is l
/// ```
///
/// A window made via `m` does not conflict with those of the same claim made via a strict
/// ancestor of `m`. The exception are windows opened after the lend on the way began. So C does
/// not conflict with B and A, nor B with A. Two lends side by side do conflict. Holders of
/// other claims conflict with all of them.
///
/// Identities are numbered in the order of time, so comparing them decides which windows
/// existed when a lend began. A lender normally does not run while it lends. If its call was
/// dropped, it does run, and the windows that it opens then conflict with the borrower's.
///
/// The layers above make sure that a lender goes on only after [`is_over`](Ledger::is_over)
/// returns true for its lend.
///
/// # The queue
///
/// A holder that is refused with [`LedgerError::WouldBlock`] can [wait](Ledger::enqueue). When
/// its window would conflict with nothing, and no earlier waiter wants a conflicting one, the
/// window is [reserved](RESERVATION) for it. To prevent starvation, a request that conflicts
/// with a reservation or a waiter is refused as if that window were open. A claim never blocks
/// itself. The layer above tells the ledger the time by [`advance`](Ledger::advance).
#[derive(Debug)]
pub struct Ledger<P> {
    claims: BTreeMap<ClaimId, ClaimRecord>,
    /// The claims on each account, by the account's address.
    accounts: BTreeMap<usize, BTreeSet<ClaimId>>,
    /// The number of claims in a channel.
    queued: u32,
    lends: LendTable,
    /// The lends within one guest, which are revoked with the lend that they were made from: that
    /// lend, and then the lend within. Most ledgers have none.
    within: BTreeSet<(LendId, LendId)>,
    /// Whether a lend has ended since this was last asked.
    lends_over: bool,
    windows: WindowIndex<P>,
    queue: Queue,
    /// Claims that unpinned bytes, so that waiters for these bytes leave the queue.
    unpinned_by: Vec<ClaimId>,
    /// Whether the region is frozen and only readers are left in the queue.
    only_readers_wait: bool,
    pins: Pins,
    frozen: bool,
    /// Whether the region was purged after it was frozen.
    purged: bool,
    poisoned: bool,
    /// The number of the last identity.
    last: u64,
}

impl<P> Ledger<P> {
    /// Creates the ledger of a new region of `size` bytes, at least 1. Returns it with the
    /// handle of the region's creator, which has all rights.
    ///
    /// With a `commit` for [all of its granules](Span::whole) the region is created pinned.
    /// Without one it is created unpinned. The creator's claim holds `charges`.
    pub fn new(
        size: u64,
        budget: &Arc<Budget>,
        commit: Option<CommitCharge>,
        charges: Vec<Charge>,
    ) -> (Ledger<P>, Handle) {
        let mut pins = Pins::new(Span::whole(size).length() / GRANULE, budget);
        let whole = pins.whole();
        let mut unpinned = Unpinned::new();
        match commit {
            Some(commit) => {
                pins.pay(&whole, commit);
            }
            None => unpinned.insert(whole, 0),
        }
        let mut ledger = Ledger {
            claims: BTreeMap::new(),
            accounts: BTreeMap::new(),
            queued: 0,
            lends: LendTable::default(),
            within: BTreeSet::new(),
            lends_over: false,
            windows: WindowIndex::new(),
            queue: Queue::new(Span::whole(size).length() / GRANULE),
            unpinned_by: Vec::new(),
            only_readers_wait: false,
            pins,
            frozen: false,
            purged: false,
            poisoned: false,
            last: 0,
        };
        ledger.pins.add_claim(&unpinned);
        let handle = ledger.claim(Rights::ALL, unpinned, charges);
        (ledger, handle)
    }

    /// Returns the number of a new identity.
    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn check_lend(&self, via: Option<LendId>) -> Result<(), LedgerError> {
        match via {
            Some(lend) if self.lends.get(&lend).is_none_or(|lend| lend.revoked) => {
                Err(LedgerError::Gone)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a handle is not revoked. Only the end of a lend revokes handles.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Gone`] if it is revoked.
    pub fn check(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_lend(handle.via)
    }

    /// Checks that a handle is not revoked and that the region still has its bytes.
    fn check_there(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check(handle)?;
        if self.purged {
            Err(LedgerError::Purged)
        } else {
            Ok(())
        }
    }

    fn check_rights(&self, handle: &Handle, rights: Rights) -> Result<(), LedgerError> {
        self.check(handle)?;
        if handle.rights.contains(rights) {
            Ok(())
        } else {
            Err(LedgerError::NotPermitted)
        }
    }

    fn check_not_lent(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check(handle)?;
        if handle.via.is_none() {
            Ok(())
        } else {
            Err(LedgerError::NotPermitted)
        }
    }

    /// Makes the region immutable, for all holders and for good. Freezing it again does nothing.
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle is lent or lacks [`Rights::WRITE`];
    /// - [`LedgerError::Poisoned`] if the region is poisoned;
    /// - [`LedgerError::Unpinned`] unless the claim pins the whole region;
    /// - [`LedgerError::WouldBlock`] while any window has another access than `read`.
    pub fn freeze(&mut self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, Rights::WRITE)?;
        if self.frozen {
            return Ok(());
        }
        if self.poisoned {
            return Err(LedgerError::Poisoned);
        }
        if !self.claims[&handle.claim].unpinned.is_empty() {
            return Err(LedgerError::Unpinned);
        }
        if !self.windows.only_read() {
            return Err(LedgerError::WouldBlock);
        }
        self.frozen = true;
        Ok(())
    }

    /// Poisons the region, for a writer that has closed its windows but failed later. Does nothing
    /// to a region that is frozen.
    ///
    /// # Errors
    ///
    /// As [`clear_poison`](Ledger::clear_poison).
    pub fn poison(&mut self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_rights(handle, Rights::WRITE)?;
        self.poisoned |= !self.frozen;
        Ok(())
    }

    /// Clears the poison: declares the contents consistent again.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the
    /// region was purged for good, and [`LedgerError::NotPermitted`] without
    /// [`Rights::WRITE`].
    pub fn clear_poison(&mut self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_rights(handle, Rights::WRITE)?;
        self.poisoned = false;
        Ok(())
    }

    /// Returns whether the region is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Returns whether the region is poisoned.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Returns whether the region was purged after it was frozen. Its bytes are lost for good.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.purged
    }
}

//! What is decided about one region: its claims, their handles, what is lent, the
//! lock, freeze and poison, pins.
//!
//! | file | what |
//! |---|---|
//! | this one | claims, handles, freeze, poison |
//! | `lends` | lends, from the first word to the end of the last window |
//! | `windows` | the lock |
//! | `window_index`, `interval_tree` | the windows, for searches |
//! | `waits` | who waits for a window, and whose turn it is |
//! | `queue`, `place_tree` | the queue, for searches |
//! | `pins` | what claims pin, what is lost, what is charged |

mod interval_tree;
mod lends;
mod pins;
mod place_tree;
mod queue;
mod waits;
mod window_index;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use self::pins::{PinError, PinUndo, PinUsage};
use self::queue::Queue;
#[allow(unused_imports, reason = "not all who compile this wait")]
pub use self::waits::{RESERVATION, WaitStatus};
use self::window_index::WindowIndex;
use super::budget::{Budget, CommitCharge};
use super::pins::{Pins, Unpinned};
use super::{Account, Charge, GRANULE, Rights, Span};

/// How a window sees the bytes that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reads; nobody writes meanwhile.
    Read,
    /// Reads and writes; nobody else sees the bytes meanwhile.
    Write,
    /// Reads; other stores of the strand may write meanwhile, by `LiveWrite`.
    LiveRead(LiveOwner),
    /// Reads and writes; so may other stores of the strand, by live windows.
    LiveWrite(LiveOwner),
}

/// Whose a live window is: those of different stores that take turns go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveOwner {
    /// The strand in which the store takes turns.
    pub strand: u64,
    /// The store.
    pub store: usize,
}

impl Access {
    /// No other one is smaller.
    const FIRST: Access = Access::Read;

    /// The rights that a window of this kind takes. One that writes also shows
    /// what is there.
    #[must_use]
    pub fn needs(self) -> Rights {
        match self.writes() {
            false => Rights::READ,
            true => Rights::READ | Rights::WRITE,
        }
    }

    /// Whether such a window can write.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::LiveWrite(_))
    }

    fn live(self) -> Option<LiveOwner> {
        match self {
            Access::LiveRead(live) | Access::LiveWrite(live) => Some(live),
            Access::Read | Access::Write => None,
        }
    }

    fn goes_with(self, other: Access) -> bool {
        match (self.live(), other.live()) {
            (Some(one), Some(other)) => one.strand == other.strand && one.store != other.store,
            _ => self == Access::Read && other == Access::Read,
        }
    }

    /// Whether these would go together, were they in one strand.
    fn is_strands_apart(self, other: Access) -> bool {
        match (self.live(), other.live()) {
            (Some(one), Some(other)) => one.strand != other.strand,
            _ => false,
        }
    }

    /// Whether whoever may have the other may have this as well: nothing more
    /// conflicts with it.
    fn within(self, other: Access) -> bool {
        self == other
            || other == Access::Write
            || self.live().is_some() && self.live() == other.live()
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::LiveRead(_) => "live-read",
            Access::LiveWrite(_) => "live-write",
        })
    }
}

/// Who looks through a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A guest, in its linear memory. Its windows can be set aside by a lend.
    Guest,
    /// The host program, by a guard or while it copies. Never set aside.
    Host,
}

/// How a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEnd {
    /// Its holder let go, or its lend ended as it should, or its guest ended in
    /// order.
    Orderly,
    /// Its holder died before it let go.
    Died,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);
    };
}

id! {
    /// A claim on one region.
    ClaimId
}
id! {
    /// A lend of a claim on one region.
    LendId
}
id! {
    /// A window on one region.
    WindowId
}
id! {
    /// Somebody who waits for a window on one region.
    WaiterId
}

/// A handle to the region of one ledger. Whoever owns it returns it by
/// [`Ledger::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Handle {
    claim: ClaimId,
    rights: Rights,
    /// The lend that it came by.
    via: Option<LendId>,
    /// The first of its claim is the one that can be moved.
    first: bool,
}

impl Handle {
    /// What it lets its holder do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The claim that it belongs to.
    #[must_use]
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// The lend that it came by, if it was lent.
    #[must_use]
    pub fn lend(&self) -> Option<LendId> {
        self.via
    }
}

/// Why the ledger refuses. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The handle lacks the right, or is lent and may not do this.
    #[error("the handle does not permit that")]
    NotPermitted,
    /// Somebody holds the bytes in a conflicting way, or the claim is lent.
    #[error("the bytes are held in a conflicting way at the moment")]
    WouldBlock,
    /// The bytes have live windows in another strand, which a live window does not
    /// go with.
    #[error(
        "the bytes have live windows in another strand, and live windows go together \
         within one strand only: put these guests into one"
    )]
    OtherStrand,
    /// The region is frozen.
    #[error("the region is frozen")]
    Frozen,
    /// The lend that the handle or the window came by has ended.
    #[error("the handle or window ended with its lend or its move")]
    Gone,
    /// A writer died before it let go.
    #[error("a writer died before it let go of the region")]
    Poisoned,
    /// The claim does not pin all of the bytes.
    #[error("the claim does not pin all of these bytes")]
    Unpinned,
    /// The region was frozen, and then purged.
    #[error("the region was frozen, and purged since")]
    Purged,
}

#[derive(Debug)]
struct ClaimRecord {
    /// Those that stand for something: not the revoked ones.
    handles: u32,
    windows: u32,
    /// Those of them that the host program has.
    guards: u32,
    /// Lends of this claim that are not over yet.
    lends: u32,
    unpinned: Unpinned,
    /// Kept for as long as the claim lives.
    charges: Vec<Charge>,
    /// It is on its way in a channel: in nobody's hand, and would not go with whom
    /// it is charged to.
    queued: bool,
}

#[derive(Debug)]
struct LendRecord {
    claim: ClaimId,
    /// The lend that the lender itself has the handle by.
    parent: Option<LendId>,
    /// Lends on from this one that are not over yet.
    children: u32,
    /// The lent handle, and those restricted from it, until they are revoked.
    handles: u32,
    /// Windows made through it that are still there.
    windows: u32,
    revoked: bool,
}

#[derive(Debug)]
struct WindowRecord<P> {
    claim: ClaimId,
    via: Option<LendId>,
    rights: Rights,
    span: Span,
    access: Access,
    holder: Holder,
    /// Searches leave out windows that a lend sets aside by it, without a look at each.
    tag: u64,
    place: P,
}

/// The state of one region: its claims and what they pin, the lock, freeze and
/// poison.
///
/// `P` is what the layer above notes for a window: where it is mapped.
///
/// # The lock
///
/// Every window is a guard: `read` goes with `read`, and a live window with live
/// windows of other stores of its strand; all else conflicts on a
/// common granule, with one exception. A lend sets the lender's windows of
/// that claim aside: they do not conflict with windows made through the lend
/// or through what is lent on from it. No state is needed for that. A window
/// made through lend `l` does not conflict with one made through lend `m` of
/// the same claim where `m` is a strict ancestor of `l`, and a handle that was
/// never lent is the ancestor of all lends:
///
/// ```text
///   A (owner)  --lends l-->  B  --lends m-->  C
///   via: none                via: l           via: m
/// ```
///
/// C's windows do not conflict with B's and A's, B's not with A's; two lends
/// side by side conflict with each other, and whoever holds another claim
/// conflicts with all of them. It is for the layers above to make sure that
/// the lender does not run meanwhile, and that it goes on only when
/// [`is_over`](Ledger::is_over) says that the lend, and all that was lent on
/// from it, has ended.
///
/// A lender whose call was dropped goes on before that, without the windows
/// that it had. Only those are set aside that were there when the lend began:
/// what such a lender opens later counts against the borrower too, as theirs
/// count against it. Identities are given in the order of time, so that tells.
///
/// # The queue
///
/// Whoever is refused can wait. When the lock has room for a waiter, and nobody
/// who has waited for longer wants anything that conflicts, the window is
/// reserved for it, for a [moment](RESERVATION). What conflicts with a reservation, or
/// with somebody who waits, is refused to whoever does not wait, as if the window
/// were there already; so a writer is not starved by readers who come and go. A
/// claim never stands in its own way. Time is what the layer above says it
/// is: it lets it [advance](Ledger::advance).
#[derive(Debug)]
pub struct Ledger<P> {
    claims: BTreeMap<ClaimId, ClaimRecord>,
    /// The claims on each account, by the account's address.
    accounts: BTreeMap<usize, BTreeSet<ClaimId>>,
    /// The number of claims on their way in a channel.
    queued: u32,
    lends: BTreeMap<LendId, LendRecord>,
    /// Whether a waiter for the end of a lend is to be woken.
    lends_over: bool,
    windows: WindowIndex<P>,
    queue: Queue,
    /// Claims that unpinned something, so that waiters for it wait in vain.
    unpinned_by: Vec<ClaimId>,
    /// The region was frozen, and all waiters other than readers have left the queue.
    only_readers_wait: bool,
    pins: Pins,
    frozen: bool,
    /// Frozen, and purged since.
    purged: bool,
    poisoned: bool,
    next: u64,
}

impl<P> Ledger<P> {
    /// The ledger of a new region of `size` bytes, with its creator's handle.
    ///
    /// With a `commit` for [all of its granules](Span::whole) it is created
    /// pinned; without, unpinned.
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
            lends: BTreeMap::new(),
            lends_over: false,
            windows: WindowIndex::new(),
            queue: Queue::new(Span::whole(size).length() / GRANULE),
            unpinned_by: Vec::new(),
            only_readers_wait: false,
            pins,
            frozen: false,
            purged: false,
            poisoned: false,
            next: 0,
        };
        ledger.pins.add_claim(&unpinned);
        let handle = ledger.claim(Rights::ALL, unpinned, charges);
        (ledger, handle)
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn claim(&mut self, rights: Rights, unpinned: Unpinned, charges: Vec<Charge>) -> Handle {
        let claim = ClaimId(self.fresh());
        self.note_account(claim, &charges);
        self.claims.insert(
            claim,
            ClaimRecord {
                handles: 1,
                windows: 0,
                guards: 0,
                lends: 0,
                unpinned,
                charges,
                queued: false,
            },
        );
        Handle {
            claim,
            rights,
            via: None,
            first: true,
        }
    }

    fn claim_mut(&mut self, claim: ClaimId) -> &mut ClaimRecord {
        self.claims
            .get_mut(&claim)
            .expect("a claim lives while a handle or window of it does")
    }

    fn settle(&mut self, claim: ClaimId) {
        let entry = self.claim_mut(claim);
        if entry.handles > 0 || entry.windows > 0 {
            return;
        }
        let entry = self.claims.remove(&claim).expect("found above");
        self.leave_queue_whole(claim);
        self.windows.forget(claim);
        self.forget_account(claim, &entry.charges);
        self.queued -= u32::from(entry.queued);
        if self.claims.is_empty() || self.purged {
            return;
        }
        self.pins.remove_claim(&entry.unpinned);
    }

    fn check_lend(&self, via: Option<LendId>) -> Result<(), LedgerError> {
        match via {
            Some(lend) if self.lends.get(&lend).is_none_or(|lend| lend.revoked) => {
                Err(LedgerError::Gone)
            }
            _ => Ok(()),
        }
    }

    /// Tells whether a handle still stands for anything: a lent one does until
    /// its lend ends.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`] if not.
    pub fn check(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_lend(handle.via)
    }

    /// As [`check`](Ledger::check), for what takes bytes that are there.
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

    /// Tells whether a handle may be duplicated with these rights.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`], [`LedgerError::Purged`], [`LedgerError::NotPermitted`].
    pub fn may_duplicate(&self, handle: &Handle, rights: Rights) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, rights | Rights::SHARE)
    }

    /// Makes a new claim with the given rights. It pins what the other one pins,
    /// which is paid for, and is told of what the other one was not told yet.
    ///
    /// # Errors
    ///
    /// As [`may_duplicate`](Ledger::may_duplicate).
    pub fn duplicate(
        &mut self,
        handle: &Handle,
        rights: Rights,
        charges: Vec<Charge>,
    ) -> Result<Handle, LedgerError> {
        self.may_duplicate(handle, rights)?;
        let unpinned = self.claims[&handle.claim].unpinned.clone();
        self.pins.add_claim(&unpinned);
        Ok(self.claim(rights, unpinned, charges))
    }

    /// Makes a weaker handle on the same claim, never with [`Rights::SHARE`].
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`], [`LedgerError::Purged`], [`LedgerError::NotPermitted`].
    pub fn restrict(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, LedgerError> {
        let rights = rights.without(Rights::SHARE);
        self.check_there(handle)?;
        self.check_rights(handle, rights)?;
        self.claim_mut(handle.claim).handles += 1;
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.handles += 1;
        }
        Ok(Handle {
            claim: handle.claim,
            rights,
            via: handle.via,
            first: false,
        })
    }

    /// Takes a handle back. A revoked one counts no more, and its claim may be
    /// gone.
    pub fn release(&mut self, handle: Handle) {
        if self.check(&handle).is_err() {
            return;
        }
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.handles -= 1;
        }
        self.claim_mut(handle.claim).handles -= 1;
        self.settle(handle.claim);
    }

    /// Tells whether the handle, and with it its claim, may go to another
    /// holder, who then takes along no window: the layer above ends the
    /// [windows of the claim](Ledger::windows_of) first.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`] for a revoked handle; [`LedgerError::Purged`];
    /// [`LedgerError::NotPermitted`] for one without [`Rights::SHARE`], one that is not its claim's first, a lent one,
    /// and while a restricted handle lives; [`LedgerError::WouldBlock`] while the claim is lent, and while the
    /// host program has a guard through it.
    pub fn may_move(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, Rights::SHARE)?;
        let claim = &self.claims[&handle.claim];
        if claim.lends > 0 || self.guarded(handle.claim) {
            return Err(LedgerError::WouldBlock);
        }
        if !handle.first || claim.handles > 1 {
            return Err(LedgerError::NotPermitted);
        }
        Ok(())
    }

    /// Puts a claim on another account, after a move. Who had it does not wait any
    /// more.
    pub fn recharge(&mut self, claim: ClaimId, charges: Vec<Charge>) {
        self.leave_queue_whole(claim);
        let before = std::mem::take(&mut self.claim_mut(claim).charges);
        self.forget_account(claim, &before);
        self.note_account(claim, &charges);
        self.claim_mut(claim).charges = charges;
        // Since it was asked whether the claim may move.
        if self.purged {
            self.charge_nothing();
        }
    }

    /// How many runs a claim does not pin, which its account counts.
    #[must_use]
    pub fn unpinned_spans(&self, claim: ClaimId) -> u64 {
        let claim = self.claims.get(&claim);
        claim.map_or(0, |claim| claim.unpinned.len() as u64)
    }

    fn guarded(&self, claim: ClaimId) -> bool {
        self.claims
            .get(&claim)
            .is_some_and(|claim| claim.guards > 0)
    }

    /// Makes the region immutable.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Purged`]; [`LedgerError::NotPermitted`] without [`Rights::WRITE`]
    /// and for a lent handle; [`LedgerError::Poisoned`]; [`LedgerError::Unpinned`] unless
    /// the claim pins the whole region; [`LedgerError::WouldBlock`] while anybody has
    /// a window that does more than `read`.
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

    /// Declares the contents whole again.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`], [`LedgerError::Purged`], [`LedgerError::NotPermitted`].
    pub fn clear_poison(&mut self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_rights(handle, Rights::WRITE)?;
        self.poisoned = false;
        Ok(())
    }

    /// Tells whether the region is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Tells whether the region is poisoned.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Tells whether the region was frozen, and purged since.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.purged
    }

    /// How many claims live.
    #[must_use]
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Notes that the claim is put into a channel, or taken out of it.
    pub fn set_queued(&mut self, handle: &Handle, queued: bool) {
        let before = std::mem::replace(&mut self.claim_mut(handle.claim).queued, queued);
        self.queued += u32::from(queued);
        self.queued -= u32::from(before);
    }

    /// Whether a claim is on its way in a channel.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.queued > 0
    }

    /// Whether nothing else keeps a claim than one handle.
    #[must_use]
    pub fn ends_with_handle(&self, handle: &Handle) -> bool {
        let claim = self.claims.get(&handle.claim);
        handle.via.is_none() && claim.is_some_and(|it| it.handles == 1 && it.windows == 0)
    }

    /// Whether nothing else keeps a window's claim than the window.
    #[must_use]
    pub fn ends_with_window(&self, window: WindowId) -> bool {
        let claim = self.windows.get(window).filter(|it| it.via.is_none());
        let claim = claim.and_then(|window| self.claims.get(&window.claim));
        claim.is_some_and(|it| it.handles == 0 && it.windows == 1)
    }

    /// Returns the accounts that the claims are on, each once.
    pub fn holders(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values().filter_map(|claims| {
            let claim = &self.claims[claims.first()?];
            Some(claim.charges.first()?.account())
        })
    }

    /// Returns the claims on an account.
    pub fn claims_on(&self, account: &Arc<Account>) -> impl ExactSizeIterator<Item = ClaimId> {
        static NONE: BTreeSet<ClaimId> = BTreeSet::new();
        let claims = self.accounts.get(&Arc::as_ptr(account).addr());
        claims.unwrap_or(&NONE).iter().copied()
    }

    fn note_account(&mut self, claim: ClaimId, charges: &[Charge]) {
        if let Some(charge) = charges.first() {
            let account = Arc::as_ptr(charge.account()).addr();
            self.accounts.entry(account).or_default().insert(claim);
        }
    }

    fn forget_account(&mut self, claim: ClaimId, charges: &[Charge]) {
        let account = charges
            .first()
            .map(|charge| Arc::as_ptr(charge.account()).addr());
        if let Some(account) = account
            && let Some(claims) = self.accounts.get_mut(&account)
        {
            claims.remove(&claim);
            if claims.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}

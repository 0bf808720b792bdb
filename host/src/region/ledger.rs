use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::budget::{Budget, Commit, Idle, Turn};
use super::pins::{self, Held, Pinned, Pins, Unpinned};
use super::{Account, Charge, Exhausted, GRANULE, Kind, Rights, Span};

/// How a window sees the bytes that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads; nobody writes meanwhile.
    Read,
    /// Reads and writes; nobody else sees the bytes meanwhile.
    Write,
}

impl Access {
    /// The rights that a window of this kind takes. One that writes also shows
    /// what is there.
    #[must_use]
    pub fn needs(self) -> Rights {
        match self {
            Access::Read => Rights::READ,
            Access::Write => Rights::READ | Rights::WRITE,
        }
    }

    fn goes_with(self, other: Access) -> bool {
        self == Access::Read && other == Access::Read
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
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
pub enum End {
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
#[non_exhaustive]
pub enum Refusal {
    /// The handle lacks the right, or is lent and may not do this.
    #[error("the handle does not permit that")]
    NotPermitted,
    /// Somebody holds the bytes in a conflicting way, or the claim is lent.
    #[error("the bytes are held in a conflicting way at the moment")]
    WouldBlock,
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

/// Why pins could not be changed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinRefusal {
    /// As with any operation on a region.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The budget, or the claim's account, has no room for that.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

#[derive(Debug)]
struct Claim {
    /// Those that stand for something: not the revoked ones.
    handles: u32,
    windows: u32,
    /// Lends of this claim that are not over yet.
    lends: u32,
    unpinned: Unpinned,
    /// Kept for as long as the claim lives.
    charges: Vec<Charge>,
}

impl Claim {
    /// Counts the runs that the claim does not pin.
    fn charge_spans(&mut self, spans: usize) -> Result<(), Exhausted> {
        let mut charges = self.charges.iter_mut();
        match charges.find(|charge| charge.kind() == Kind::UnpinnedSpans) {
            Some(charge) => charge.resize(spans as u64),
            None => Ok(()),
        }
    }

    /// How many runs there are at most once the claim pins a span: what is in the
    /// middle of a run makes two of it.
    fn spans_with_pin(&self, span: &Range<u64>) -> usize {
        let mut runs = self.unpinned.overlapping(span);
        let split = runs.any(|(run, _)| run.start < span.start && span.end < run.end);
        self.unpinned.len() + usize::from(split)
    }
}

#[derive(Debug)]
struct Lend {
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
struct Window<P> {
    claim: ClaimId,
    via: Option<LendId>,
    rights: Rights,
    span: Span,
    access: Access,
    holder: Holder,
    place: P,
}

/// What a claim's pins were before they were changed, to undo that.
#[derive(Debug)]
#[must_use = "it undoes the change, if need be"]
pub struct Undo {
    claim: ClaimId,
    /// The runs that were pinned, or unpinned; with what the claim knew then.
    ranges: Vec<(Range<u64>, u64)>,
}

impl Undo {
    /// The spans that were changed.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.ranges.iter().map(|(range, _)| pins::span(range))
    }
}

/// The state of one region: its claims and what they pin, the lock, freeze and
/// poison.
///
/// `P` is what the layer above notes for a window: where it is mapped.
///
/// # The lock
///
/// Every window is a guard: `read` goes with `read`, all else conflicts on a
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
#[derive(Debug)]
pub struct Ledger<P> {
    claims: BTreeMap<ClaimId, Claim>,
    lends: BTreeMap<LendId, Lend>,
    windows: BTreeMap<WindowId, Window<P>>,
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
        commit: Option<Commit>,
        charges: Vec<Charge>,
    ) -> (Ledger<P>, Handle) {
        let mut pins = Pins::new(Span::whole(size).length() / GRANULE, budget);
        let whole = pins.whole();
        let mut unpinned = Unpinned::new();
        match commit {
            Some(commit) => {
                pins.pay(&whole, commit);
                pins.add(&whole);
            }
            None => unpinned.insert(whole, 0),
        }
        let mut ledger = Ledger {
            claims: BTreeMap::new(),
            lends: BTreeMap::new(),
            windows: BTreeMap::new(),
            pins,
            frozen: false,
            purged: false,
            poisoned: false,
            next: 0,
        };
        let handle = ledger.claim(Rights::ALL, unpinned, charges);
        (ledger, handle)
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn claim(&mut self, rights: Rights, unpinned: Unpinned, charges: Vec<Charge>) -> Handle {
        let claim = ClaimId(self.fresh());
        self.claims.insert(
            claim,
            Claim {
                handles: 1,
                windows: 0,
                lends: 0,
                unpinned,
                charges,
            },
        );
        Handle {
            claim,
            rights,
            via: None,
            first: true,
        }
    }

    fn claim_mut(&mut self, claim: ClaimId) -> &mut Claim {
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
        if self.claims.is_empty() || self.purged {
            return;
        }
        for range in pins::pinned_in(&entry.unpinned, &self.pins.whole()) {
            self.pins.sub(&range);
        }
    }

    fn check_lend(&self, via: Option<LendId>) -> Result<(), Refusal> {
        match via {
            Some(lend) if self.lends.get(&lend).is_none_or(|lend| lend.revoked) => {
                Err(Refusal::Gone)
            }
            _ => Ok(()),
        }
    }

    /// Tells whether a handle still stands for anything: a lent one does until
    /// its lend ends.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`] if not.
    pub fn check(&self, handle: &Handle) -> Result<(), Refusal> {
        self.check_lend(handle.via)
    }

    /// As [`check`](Ledger::check), for what takes bytes that are there.
    fn check_there(&self, handle: &Handle) -> Result<(), Refusal> {
        self.check(handle)?;
        if self.purged {
            Err(Refusal::Purged)
        } else {
            Ok(())
        }
    }

    fn check_rights(&self, handle: &Handle, rights: Rights) -> Result<(), Refusal> {
        self.check(handle)?;
        if handle.rights.contains(rights) {
            Ok(())
        } else {
            Err(Refusal::NotPermitted)
        }
    }

    fn check_not_lent(&self, handle: &Handle) -> Result<(), Refusal> {
        self.check(handle)?;
        if handle.via.is_none() {
            Ok(())
        } else {
            Err(Refusal::NotPermitted)
        }
    }

    /// Tells whether a handle may be duplicated with these rights.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`], [`Refusal::Purged`], [`Refusal::NotPermitted`].
    pub fn may_duplicate(&self, handle: &Handle, rights: Rights) -> Result<(), Refusal> {
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
    ) -> Result<Handle, Refusal> {
        self.may_duplicate(handle, rights)?;
        let unpinned = self.claims[&handle.claim].unpinned.clone();
        for range in pins::pinned_in(&unpinned, &self.pins.whole()) {
            self.pins.add(&range);
        }
        Ok(self.claim(rights, unpinned, charges))
    }

    /// Makes a weaker handle on the same claim, never with [`Rights::SHARE`].
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`], [`Refusal::Purged`], [`Refusal::NotPermitted`].
    pub fn restrict(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, Refusal> {
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
    /// [`Refusal::Gone`] for a revoked handle; [`Refusal::NotPermitted`] for one
    /// without [`Rights::SHARE`], one that is not its claim's first, a lent one,
    /// and while a restricted handle lives; [`Refusal::WouldBlock`] while the claim is lent, and while the
    /// host program has a guard through it.
    pub fn may_move(&self, handle: &Handle) -> Result<(), Refusal> {
        self.check_not_lent(handle)?;
        self.check_rights(handle, Rights::SHARE)?;
        let claim = &self.claims[&handle.claim];
        if claim.lends > 0 || self.guarded(handle.claim) {
            return Err(Refusal::WouldBlock);
        }
        if !handle.first || claim.handles > 1 {
            return Err(Refusal::NotPermitted);
        }
        Ok(())
    }

    /// Puts a claim on another account, after a move.
    pub fn recharge(&mut self, claim: ClaimId, charges: Vec<Charge>) {
        self.claim_mut(claim).charges = charges;
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
        self.windows
            .values()
            .any(|window| window.claim == claim && window.holder == Holder::Host)
    }

    /// Begins a lend: makes the handle that the borrower gets. Never with
    /// [`Rights::SHARE`], since what is lent can be neither duplicated nor
    /// moved.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`]; [`Refusal::WouldBlock`] while the host program has a
    /// guard through the claim, which no lend sets aside.
    pub fn lend(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, Refusal> {
        let rights = rights.without(Rights::SHARE);
        self.check_rights(handle, rights)?;
        if self.guarded(handle.claim) {
            return Err(Refusal::WouldBlock);
        }
        let id = LendId(self.fresh());
        if let Some(parent) = handle.via {
            self.lends.get_mut(&parent).expect("checked above").children += 1;
        }
        self.lends.insert(
            id,
            Lend {
                claim: handle.claim,
                parent: handle.via,
                children: 0,
                handles: 1,
                windows: 0,
                revoked: false,
            },
        );
        let claim = self.claim_mut(handle.claim);
        claim.lends += 1;
        claim.handles += 1;
        Ok(Handle {
            claim: handle.claim,
            rights,
            via: Some(id),
            first: false,
        })
    }

    /// Ends a lend: the lent handle, and what was restricted from it, are
    /// revoked. Whoever keeps them anyway keeps nothing: they hold up neither
    /// the claim nor its move. The windows made through it are the caller's to
    /// end, before or after; until then the lend is not over.
    pub fn revoke(&mut self, lend: LendId) {
        let Some(entry) = self.lends.get_mut(&lend) else {
            return;
        };
        if std::mem::replace(&mut entry.revoked, true) {
            return;
        }
        let (claim, handles) = (entry.claim, std::mem::take(&mut entry.handles));
        // Where all of them were released, the claim may be gone already.
        if handles > 0 {
            self.claim_mut(claim).handles -= handles;
            self.settle(claim);
        }
        self.settle_lend(lend);
    }

    fn settle_lend(&mut self, lend: LendId) {
        let mut next = Some(lend);
        while let Some(id) = next {
            match self.lends.get(&id) {
                Some(entry) if entry.revoked && entry.children == 0 && entry.windows == 0 => {}
                _ => return,
            }
            let entry = self.lends.remove(&id).expect("found above");
            // The claim does not outlive a lender that died where nobody below
            // has anything of it either.
            if let Some(claim) = self.claims.get_mut(&entry.claim) {
                claim.lends -= 1;
            }
            if let Some(parent) = entry.parent.and_then(|parent| self.lends.get_mut(&parent)) {
                parent.children -= 1;
            }
            next = entry.parent;
        }
    }

    /// Tells whether a lend, all that was lent on from it, and every window made
    /// through them have ended, so that the lender may go on.
    #[must_use]
    pub fn is_over(&self, lend: LendId) -> bool {
        !self.lends.contains_key(&lend)
    }

    /// Tells whether a lend on the way from the owner to `via` sets this window
    /// of the claim aside: the lender had it when that lend began.
    fn is_aside(&self, id: WindowId, window: &Window<P>, via: Option<LendId>) -> bool {
        if window.holder == Holder::Host {
            return false;
        }
        let mut at = via;
        while let Some(lend) = at {
            let Some(entry) = self.lends.get(&lend) else {
                return false;
            };
            if entry.parent == window.via {
                return id.0 < lend.0;
            }
            at = entry.parent;
        }
        false
    }

    fn free(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> bool {
        self.windows.iter().all(|(id, other)| {
            Some(*id) == except
                || !other.span.overlaps(span)
                || other.access.goes_with(access)
                || other.claim == claim && self.is_aside(*id, other, via)
        })
    }

    /// Opens a window, for which the handle must have the rights `needs`:
    /// takes the lock on its granules.
    ///
    /// # Errors
    ///
    /// Each [`Refusal`]; they are looked for in the order gone, purged, rights,
    /// frozen, poisoned, unpinned, conflict.
    pub fn open(
        &mut self,
        handle: &Handle,
        needs: Rights,
        span: Span,
        access: Access,
        holder: Holder,
        place: P,
    ) -> Result<WindowId, Refusal> {
        self.may_open(handle, needs, access)?;
        if self.claims[&handle.claim]
            .unpinned
            .overlaps(&span.granules())
        {
            return Err(Refusal::Unpinned);
        }
        self.check_lock(handle.claim, handle.via, span, access, None)?;
        let id = WindowId(self.fresh());
        self.claim_mut(handle.claim).windows += 1;
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.windows += 1;
        }
        self.windows.insert(
            id,
            Window {
                claim: handle.claim,
                via: handle.via,
                rights: handle.rights,
                span,
                access,
                holder,
                place,
            },
        );
        Ok(id)
    }

    /// Tells whether a window on no bytes at all could be opened.
    ///
    /// # Errors
    ///
    /// As [`open`](Ledger::open), without [`Refusal::WouldBlock`] and
    /// [`Refusal::Unpinned`].
    pub fn may_open(&self, handle: &Handle, needs: Rights, access: Access) -> Result<(), Refusal> {
        self.check_there(handle)?;
        self.check_rights(handle, needs)?;
        self.check_state(access)
    }

    fn check_state(&self, access: Access) -> Result<(), Refusal> {
        if self.frozen && access == Access::Write {
            return Err(Refusal::Frozen);
        }
        if self.poisoned {
            Err(Refusal::Poisoned)
        } else {
            Ok(())
        }
    }

    fn check_lock(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> Result<(), Refusal> {
        if self.frozen && access == Access::Write {
            return Err(Refusal::Frozen);
        }
        if self.free(claim, via, span, access, except) {
            Ok(())
        } else {
            Err(Refusal::WouldBlock)
        }
    }

    /// Changes what a window is for.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`] for a window that has ended, or whose lend has; the
    /// others but [`Refusal::Poisoned`], since windows that exist stay as they
    /// are.
    pub fn set_access(&mut self, id: WindowId, access: Access) -> Result<(), Refusal> {
        let window = self.windows.get(&id).ok_or(Refusal::Gone)?;
        self.check_lend(window.via)?;
        if self.purged {
            return Err(Refusal::Purged);
        }
        if !window.rights.contains(access.needs()) {
            return Err(Refusal::NotPermitted);
        }
        self.check_lock(window.claim, window.via, window.span, access, Some(id))?;
        self.windows.get_mut(&id).expect("found above").access = access;
        Ok(())
    }

    /// Closes a window: lets its granules go. A writer that died poisons the
    /// region. Gives back what was noted for it, or `None` for a window that
    /// had ended before.
    pub fn close(&mut self, id: WindowId, end: End) -> Option<P> {
        let window = self.windows.remove(&id)?;
        if window.access == Access::Write && end == End::Died {
            self.poisoned = true;
        }
        self.claim_mut(window.claim).windows -= 1;
        self.settle(window.claim);
        if let Some(lend) = window.via {
            if let Some(entry) = self.lends.get_mut(&lend) {
                entry.windows -= 1;
            }
            self.settle_lend(lend);
        }
        Some(window.place)
    }

    /// What a window is at the moment: its span and access.
    #[must_use]
    pub fn window(&self, id: WindowId) -> Option<(Span, Access)> {
        self.windows
            .get(&id)
            .map(|window| (window.span, window.access))
    }

    /// Tells whether a window may ever write, now or after
    /// [`set_access`](Ledger::set_access).
    #[must_use]
    pub fn may_write(&self, id: WindowId) -> bool {
        let window = self.windows.get(&id);
        window.is_some_and(|window| window.rights.contains(Access::Write.needs()))
    }

    /// The guests' windows of a claim that were made through a lend, or, with
    /// `None`, by its own holder.
    pub fn windows_of(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
    ) -> impl Iterator<Item = (WindowId, Access, &P)> {
        self.windows
            .iter()
            .filter(move |(_, window)| {
                window.claim == claim && window.via == via && window.holder == Holder::Guest
            })
            .map(|(id, window)| (*id, window.access, &window.place))
    }

    /// Makes the region immutable.
    ///
    /// # Errors
    ///
    /// [`Refusal::Purged`]; [`Refusal::NotPermitted`] without [`Rights::WRITE`]
    /// and for a lent handle; [`Refusal::Poisoned`]; [`Refusal::Unpinned`] unless
    /// the claim pins the whole region; [`Refusal::WouldBlock`] while anybody has
    /// a window that can write.
    pub fn freeze(&mut self, handle: &Handle) -> Result<(), Refusal> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, Rights::WRITE)?;
        if self.frozen {
            return Ok(());
        }
        if self.poisoned {
            return Err(Refusal::Poisoned);
        }
        if !self.claims[&handle.claim].unpinned.is_empty() {
            return Err(Refusal::Unpinned);
        }
        if self
            .windows
            .values()
            .any(|window| window.access == Access::Write)
        {
            return Err(Refusal::WouldBlock);
        }
        self.frozen = true;
        Ok(())
    }

    /// Declares the contents whole again.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`], [`Refusal::Purged`], [`Refusal::NotPermitted`].
    pub fn clear_poison(&mut self, handle: &Handle) -> Result<(), Refusal> {
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

    /// Whose accounts the claims are on, each claim.
    pub fn holders(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.claims
            .values()
            .filter_map(|claim| Some(claim.charges.first()?.account()))
    }
}

/// Pins.
impl<P> Ledger<P> {
    /// Tells whether the pins of a handle's claim may change, which takes no
    /// right: nobody but the claim loses anything.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`]; [`Refusal::Purged`]; [`Refusal::NotPermitted`] for a
    /// lent handle; [`Refusal::WouldBlock`] while the claim is lent.
    pub fn may_change_pins(&self, handle: &Handle) -> Result<(), Refusal> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        if self.claims[&handle.claim].lends > 0 {
            return Err(Refusal::WouldBlock);
        }
        Ok(())
    }

    /// Tells whether the claim pins all of a span.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`], [`Refusal::Purged`].
    pub fn is_pinned(&self, handle: &Handle, span: Span) -> Result<bool, Refusal> {
        self.check_there(handle)?;
        let unpinned = &self.claims[&handle.claim].unpinned;
        Ok(!unpinned.overlaps(&span.granules()))
    }

    /// Says that the claim does not need the bytes of a span now. What it did not
    /// pin anyway stays as it is, also in the order in which bytes are purged.
    ///
    /// The layer above hides what the claim's windows show of it before anybody
    /// can purge: it has the ledger to itself until then.
    ///
    /// # Errors
    ///
    /// As [`may_change_pins`](Ledger::may_change_pins); [`Refusal::WouldBlock`]
    /// while the host program has a guard through the claim there, which is never
    /// hidden; [`PinRefusal::Exhausted`] for the limit on runs.
    pub fn unpin(&mut self, handle: &Handle, span: Span) -> Result<Undo, PinRefusal> {
        self.may_change_pins(handle)?;
        let claim = handle.claim;
        let guarded = |window: &Window<P>| {
            window.claim == claim && window.holder == Holder::Host && window.span.overlaps(span)
        };
        if self.windows.values().any(guarded) {
            return Err(Refusal::WouldBlock.into());
        }
        let known = self.pins.purges();
        let entry = self.claims.get_mut(&claim).expect("the handle is good");
        let gaps = pins::pinned_in(&entry.unpinned, &span.granules());
        for gap in &gaps {
            entry.unpinned.insert(gap.clone(), known);
        }
        // Not before: it may be fewer now, which is never refused.
        if let Err(exhausted) = entry.charge_spans(entry.unpinned.len()) {
            for gap in gaps {
                entry.unpinned.remove(gap);
            }
            return Err(exhausted.into());
        }
        for gap in &gaps {
            self.pins.sub(gap);
        }
        let ranges = gaps.into_iter().map(|gap| (gap, known)).collect();
        Ok(Undo { claim, ranges })
    }

    /// Takes an [`unpin`](Ledger::unpin) back, in the same hold of the ledger.
    pub fn undo_unpin(&mut self, undo: Undo) {
        let entry = self.claim_mut(undo.claim);
        for (range, _) in &undo.ranges {
            entry.unpinned.remove(range.clone());
        }
        // It had as many before, but somebody may have taken them since: accounts
        // are not of one region alone.
        let _ = entry.charge_spans(entry.unpinned.len());
        for (range, _) in &undo.ranges {
            self.pins.add(range);
        }
    }

    /// Tells whether a part of a span is being purged at this moment, so that
    /// nobody can say yet what became of it.
    #[must_use]
    #[allow(dead_code, reason = "asked by the tests of how threads race")]
    pub fn is_purging(&self, span: Span) -> bool {
        self.pins.is_purging(&span.granules())
    }

    /// Tells whether a part of a span is being purged, or paid for by somebody who
    /// pins it, so that nobody can say yet what it costs.
    pub(super) fn is_busy(&self, span: Span) -> bool {
        self.pins.is_busy(&span.granules())
    }

    /// How many granules have to be paid for before all of a span can be pinned.
    #[must_use]
    pub fn unpaid(&self, span: Span) -> u64 {
        self.pins.unpaid(&span.granules())
    }

    pub(super) fn hold(&mut self, span: Span) -> Held {
        self.pins.hold(&span.granules())
    }

    pub(super) fn let_go(&mut self, held: Held) {
        if self.claims.is_empty() || self.purged {
            return;
        }
        self.pins.let_go(held);
    }

    /// Says that the claim needs the bytes of a span, and what became of them.
    /// What they cost is in `commit`, if they have to be paid for; what of it is
    /// not needed is given back.
    ///
    /// # Errors
    ///
    /// As [`may_change_pins`](Ledger::may_change_pins);
    /// [`PinRefusal::Exhausted`] for the limit on runs.
    pub fn pin(
        &mut self,
        handle: &Handle,
        span: Span,
        commit: Option<Commit>,
    ) -> Result<(Pinned, Undo), PinRefusal> {
        self.may_change_pins(handle)?;
        let (claim, span) = (handle.claim, span.granules());
        let entry = self.claims.get_mut(&claim).expect("the handle is good");
        entry.charge_spans(entry.spans_with_pin(&span))?;
        let ranges = pins::unpinned_in(&entry.unpinned, &span);
        entry.unpinned.remove(span.clone());
        let spans = entry.unpinned.len();
        entry.charge_spans(spans).expect("not more than that");
        if let Some(commit) = commit {
            self.pins.pay(&span, commit);
        }
        let mut pinned = Pinned::Intact;
        for (range, known) in &ranges {
            if self.pins.is_lost(range, *known) {
                pinned = Pinned::Lost;
            }
            self.pins.add(range);
        }
        Ok((pinned, Undo { claim, ranges }))
    }

    /// Tells whether a [`pin`](Ledger::pin) would meet no refusal, so that nothing
    /// is purged for one that does.
    ///
    /// # Errors
    ///
    /// As [`pin`](Ledger::pin).
    pub fn may_pin(&mut self, handle: &Handle, span: Span) -> Result<(), PinRefusal> {
        self.may_change_pins(handle)?;
        let entry = self.claim_mut(handle.claim);
        entry.charge_spans(entry.spans_with_pin(&span.granules()))?;
        entry.charge_spans(entry.unpinned.len())?;
        Ok(())
    }

    /// Takes a [`pin`](Ledger::pin) back, in the same hold of the ledger: the
    /// claim is told again what it was told.
    pub fn undo_pin(&mut self, undo: Undo) {
        let entry = self.claim_mut(undo.claim);
        for (range, known) in &undo.ranges {
            entry.unpinned.insert(range.clone(), *known);
        }
        // As in `undo_unpin`.
        let _ = entry.charge_spans(entry.unpinned.len());
        for (range, _) in &undo.ranges {
            self.pins.sub(range);
        }
    }

    /// The guests' windows of a claim on a span, each with its own span.
    pub fn windows_on(
        &self,
        claim: ClaimId,
        span: Span,
    ) -> impl Iterator<Item = (WindowId, Span, &P)> {
        self.windows
            .iter()
            .filter(move |(_, window)| {
                window.claim == claim
                    && window.holder == Holder::Guest
                    && window.span.overlaps(span)
            })
            .map(|(id, window)| (*id, window.span, &window.place))
    }

    /// What could be purged now.
    pub(super) fn idle(&self) -> Idle {
        if self.claims.is_empty() || self.purged {
            Idle::default()
        } else if self.frozen {
            self.pins.idle_whole()
        } else {
            self.pins.idle()
        }
    }

    /// Takes what is to be purged out of what can be pinned. A frozen region is
    /// purged from here on.
    pub(super) fn begin_purge(&mut self, turn: Turn) -> (Vec<Range<u64>>, Commit) {
        if self.idle().granules == 0 {
            return (Vec::new(), self.pins.free());
        }
        let taken = self.pins.begin_purge(turn, self.frozen);
        if self.frozen {
            self.purged = true;
            self.charge_nothing();
        }
        taken
    }

    /// What was taken by [`begin_purge`](Ledger::begin_purge) is gone.
    pub(super) fn end_purge(&mut self, ranges: &[Range<u64>]) {
        self.pins.purged(ranges);
    }

    /// Of a region that is purged for good, nothing is charged.
    fn charge_nothing(&mut self) {
        for claim in self.claims.values_mut() {
            for charge in &mut claim.charges {
                if matches!(charge.kind(), Kind::ClaimedBytes | Kind::UnpinnedSpans) {
                    charge.resize(0).expect("less than before");
                }
            }
        }
    }

    /// Gives back what was paid for the region, when nobody has a claim any more
    /// and its memory is gone.
    pub fn give_back(&mut self) -> Commit {
        self.pins.clear()
    }

    /// What the region costs and what became of it.
    #[must_use]
    pub fn pin_usage(&self) -> PinUsage {
        let committed = self.pins.committed();
        let pinned = self.pins.pinned_granules();
        PinUsage {
            pinned: pinned * GRANULE,
            purgeable: self.idle().granules * GRANULE,
            committed: committed * GRANULE,
            purged: self.pins.purged_granules() * GRANULE,
        }
    }

    /// How many bytes the claims on an account pin, a granule once for each.
    #[must_use]
    pub fn pinned_by(&self, account: &Arc<Account>) -> u64 {
        let whole = self.pins.whole();
        let on_account = |claim: &&Claim| {
            let mut charges = claim.charges.iter();
            charges.any(|charge| Arc::ptr_eq(charge.account(), account))
        };
        let mut pinned = RangeSet::new();
        for claim in self.claims.values().filter(on_account) {
            pinned.extend(pins::pinned_in(&claim.unpinned, &whole));
        }
        pinned.iter().map(|run| run.end - run.start).sum::<u64>() * GRANULE
    }
}

/// What a region costs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinUsage {
    /// What somebody pins.
    pub pinned: u64,
    /// What nobody pins, and could be purged.
    pub purgeable: u64,
    /// What is paid for: pinned, or neither pinned nor purged.
    pub committed: u64,
    /// What was purged so far, as often as it was.
    pub purged: u64,
}

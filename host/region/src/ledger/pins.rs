//! Pins of claims, and purging of the bytes that no claim pins.
//!
//! Only bytes that no claim pins are purged. Windows, guards and copies need bytes that their
//! claim pins, and unpinning is refused under a guard. So purging changes no byte that a holder
//! sees.
//!
//! The layer above hides bytes before it unpins them, and pins them before it maps them again.
//! The ledger need not stay locked in between, because the claim pins the bytes for that time:
//! only the store that has a claim's handles changes its pins and windows, and a lent claim
//! keeps its pins. Unpinning takes bytes away from the claim itself only, so it needs no right.
//!
//! Pinning or unpinning a span visits the runs into which all claims cut it, with the region
//! locked. That takes a few milliseconds for 4096 runs.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::{
    ClaimId, ClaimRecord, Handle, Holder, Ledger, LedgerError, PinError, WindowId, WindowRecord,
};
use crate::account::{Account, ChargeKind, Exhausted};
use crate::budget::{CommitCharge, Idle, PurgeRequest};
use crate::pins::{self, Pinned, PurgeHold};
use crate::span::{GRANULE, Span};

/// The pins of a claim before a change, to undo it.
#[derive(Debug)]
#[must_use = "the change must be undone if the layer above cannot map or unmap the bytes"]
pub struct PinUndo {
    claim: ClaimId,
    /// The runs that were pinned or unpinned, with the number of purges that the claim knew.
    ranges: Vec<(Range<u64>, u64)>,
}

impl PinUndo {
    /// Returns the spans that the change pinned or unpinned.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.ranges.iter().map(|(range, _)| pins::span(range))
    }
}

impl ClaimRecord {
    /// Charges the runs that the claim does not pin.
    fn charge_spans(&mut self, spans: usize) -> Result<(), Exhausted> {
        let mut charges = self.charges.iter_mut();
        match charges.find(|charge| charge.kind() == ChargeKind::UnpinnedSpans) {
            Some(charge) => charge.resize(spans as u64),
            None => Ok(()),
        }
    }

    /// Returns how many runs there are at most after the claim pins a span. A span in the
    /// middle of a run makes two of it.
    fn spans_with_pin(&self, span: &Range<u64>) -> usize {
        let mut runs = self.unpinned.overlapping(span);
        let split = runs.any(|(run, _)| run.start < span.start && span.end < run.end);
        self.unpinned.len() + usize::from(split)
    }
}

impl<P> Ledger<P> {
    /// Checks whether the pins of a handle's claim may change. This needs no right, because
    /// only the claim itself loses anything.
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle is lent;
    /// - [`LedgerError::WouldBlock`] while the claim is lent.
    pub fn may_change_pins(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        if self.claims[&handle.claim].lends > 0 {
            return Err(LedgerError::WouldBlock);
        }
        Ok(())
    }

    /// Returns whether the claim pins all of a span.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Gone`] if the handle is revoked, and [`LedgerError::Purged`] if
    /// the region was purged for good.
    pub fn is_pinned(&self, handle: &Handle, span: Span) -> Result<bool, LedgerError> {
        self.check_there(handle)?;
        let unpinned = &self.claims[&handle.claim].unpinned;
        Ok(!unpinned.overlaps(&span.granules()))
    }

    /// Unpins a span: the claim does not need its bytes for now. Parts that it does not pin
    /// keep their place in the order of purging.
    ///
    /// The layer above must hide the span in the claim's windows first, so that no visible
    /// bytes are purged.
    ///
    /// # Errors
    ///
    /// Returns an error as [`may_change_pins`](Ledger::may_change_pins) does. Also returns
    /// [`LedgerError::WouldBlock`] while the host program has a guard through the claim there,
    /// because guards are never hidden. Returns [`PinError::Exhausted`] if the account's limit
    /// `unpinned-spans` is used up.
    pub fn unpin(&mut self, handle: &Handle, span: Span) -> Result<PinUndo, PinError> {
        self.may_change_pins(handle)?;
        let claim = handle.claim;
        let by_host = |window: &WindowRecord<P>| window.holder == Holder::Host;
        if self.guarded(claim) && self.windows.any_on(claim, span, by_host) {
            return Err(LedgerError::WouldBlock.into());
        }
        let known = self.pins.purges();
        let entry = self.claims.get_mut(&claim).expect("the handle is good");
        let gaps = pins::pinned_in(&entry.unpinned, &span.granules());
        for gap in &gaps {
            entry.unpinned.insert(gap.clone(), known);
        }
        // Only now: there may be fewer runs than before, which is never refused.
        if let Err(exhausted) = entry.charge_spans(entry.unpinned.len()) {
            for gap in gaps {
                entry.unpinned.remove(gap);
            }
            return Err(exhausted.into());
        }
        for gap in &gaps {
            self.pins.sub(gap);
        }
        if self.queue.of(claim, None).is_some() {
            self.unpinned_by.push(claim);
        }
        let ranges = gaps.into_iter().map(|gap| (gap, known)).collect();
        Ok(PinUndo { claim, ranges })
    }

    /// Undoes an [`unpin`](Ledger::unpin), before the ledger is unlocked.
    pub fn undo_unpin(&mut self, undo: PinUndo) {
        let entry = self.claim_mut(undo.claim);
        for (range, _) in &undo.ranges {
            entry.unpinned.remove(range.clone());
        }
        // The claim had as many before. But an account is not of one region alone, so they
        // may be used up by now.
        let _ = entry.charge_spans(entry.unpinned.len());
        for (range, _) in &undo.ranges {
            self.pins.add(range);
        }
    }

    /// Returns whether a part of a span is being purged at the moment. Whether it is lost is
    /// then undecided.
    #[must_use]
    pub fn is_purging(&self, span: Span) -> bool {
        self.pins.is_purging(&span.granules())
    }

    /// Returns whether a part of a span is being purged, or paid for by another thread that
    /// pins it. The cost of pinning is then undecided.
    pub(crate) fn is_busy(&self, span: Span) -> bool {
        self.pins.is_busy(&span.granules())
    }

    /// Returns how many granules must be committed before all of a span can be pinned.
    #[must_use]
    pub fn unpaid(&self, span: Span) -> u64 {
        self.pins.unpaid(&span.granules())
    }

    /// Keeps the committed granules of a span from being purged.
    pub(crate) fn hold(&mut self, span: Span) -> PurgeHold {
        self.pins.hold(&span.granules())
    }

    pub(crate) fn release_hold(&mut self, held: PurgeHold) {
        if self.claims.is_empty() || self.purged {
            return;
        }
        self.pins.release_hold(held);
    }

    /// Pins a span: the claim needs its bytes. Returns whether any of them were lost.
    ///
    /// `commit` pays for the [unpaid](Ledger::unpaid) granules. An excess is returned to the
    /// budget.
    ///
    /// # Errors
    ///
    /// Returns an error as [`may_change_pins`](Ledger::may_change_pins) does. Returns
    /// [`PinError::Exhausted`] if the account's limit `unpinned-spans` is used up.
    pub fn pin(
        &mut self,
        handle: &Handle,
        span: Span,
        commit: Option<CommitCharge>,
    ) -> Result<(Pinned, PinUndo), PinError> {
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
        Ok((pinned, PinUndo { claim, ranges }))
    }

    /// Checks whether a [`pin`](Ledger::pin) would succeed, so that nothing is purged for one
    /// that would not.
    ///
    /// # Errors
    ///
    /// Returns an error as [`pin`](Ledger::pin) does.
    pub fn may_pin(&mut self, handle: &Handle, span: Span) -> Result<(), PinError> {
        self.may_change_pins(handle)?;
        let entry = self.claim_mut(handle.claim);
        entry.charge_spans(entry.spans_with_pin(&span.granules()))?;
        entry.charge_spans(entry.unpinned.len())?;
        Ok(())
    }

    /// Undoes a [`pin`](Ledger::pin), before anything else happens to the claim. The next pin
    /// reports the same losses again.
    pub fn undo_pin(&mut self, undo: PinUndo) {
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

    /// Returns the guests' windows of a claim on a span, each with its own span.
    pub fn windows_on(
        &self,
        claim: ClaimId,
        span: Span,
    ) -> impl Iterator<Item = (WindowId, Span, &P)> {
        let windows = self.windows.on(claim, span).into_iter();
        windows
            .filter(|(_, window)| window.holder == Holder::Guest)
            .map(|(id, window)| (id, window.span, &window.place))
    }

    /// Returns the granules that can be purged now.
    #[inline]
    pub(crate) fn idle(&self) -> Idle {
        if self.claims.is_empty() || self.purged {
            Idle::default()
        } else if self.frozen {
            self.pins.idle_whole()
        } else {
            self.pins.idle()
        }
    }

    /// Takes the granules that are purged next, which cannot be pinned until
    /// [`end_purge`](Ledger::end_purge). A frozen region counts as purged from now on.
    pub(crate) fn begin_purge(&mut self, request: PurgeRequest) -> (Vec<Range<u64>>, CommitCharge) {
        if self.idle().granules == 0 {
            return (Vec::new(), self.pins.free());
        }
        let taken = self.pins.begin_purge(request, self.frozen);
        if self.frozen {
            self.purged = true;
            self.charge_nothing();
        }
        taken
    }

    /// Notes that the granules taken by [`begin_purge`](Ledger::begin_purge) are lost.
    pub(crate) fn end_purge(&mut self, ranges: &[Range<u64>]) {
        self.pins.purged(ranges);
    }

    /// Returns the charges for bytes of a region that is purged for good.
    pub(super) fn charge_nothing(&mut self) {
        for claim in self.claims.values_mut() {
            for charge in &mut claim.charges {
                if matches!(
                    charge.kind(),
                    ChargeKind::ClaimedBytes | ChargeKind::UnpinnedSpans
                ) {
                    charge.resize(0).expect("less than before");
                }
            }
        }
    }

    /// Takes the region's charge to the budget, after its last claim has ended and its memory
    /// is gone.
    pub fn release_commit(&mut self) -> CommitCharge {
        self.pins.clear()
    }

    /// Returns what the region costs.
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

    /// Returns how many bytes the claims on an account pin, each granule once. Takes time
    /// linear in the number of runs that these claims do not pin.
    #[must_use]
    pub fn pinned_by(&self, account: &Arc<Account>) -> u64 {
        let whole = self.pins.whole();
        let mut pinned = RangeSet::new();
        for claim in self.claims_on(account) {
            pinned.extend(pins::pinned_in(&self.claims[&claim].unpinned, &whole));
        }
        pinned.iter().map(|run| run.end - run.start).sum::<u64>() * GRANULE
    }
}

/// The memory of a region, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinUsage {
    /// The bytes that a claim pins.
    pub pinned: u64,
    /// The committed bytes that no claim pins, so that they can be purged.
    pub purgeable: u64,
    /// The bytes that are charged to the budget: pinned, or unpinned and not purged yet.
    pub committed: u64,
    /// The bytes that were purged so far. Bytes purged twice count twice.
    pub purged: u64,
}

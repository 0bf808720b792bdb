//! Which bytes claims pin, and what becomes of those that none does.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::super::budget::{CommitCharge, Idle, PurgeRequest};
use super::super::pins::{self, Pinned, PurgeHold};
use super::super::{Account, ChargeKind, Exhausted, GRANULE, Span};
use super::{
    ClaimId, ClaimRecord, Handle, Holder, Ledger, LedgerError, PinError, WindowId, WindowRecord,
};

/// What a claim's pins were before they were changed, to undo that.
#[derive(Debug)]
#[must_use = "it undoes the change, if need be"]
pub struct PinUndo {
    claim: ClaimId,
    /// The runs that were pinned, or unpinned; with what the claim knew then.
    ranges: Vec<(Range<u64>, u64)>,
}

impl PinUndo {
    /// The spans that were changed.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.ranges.iter().map(|(range, _)| pins::span(range))
    }
}

impl ClaimRecord {
    /// Counts the runs that the claim does not pin.
    fn charge_spans(&mut self, spans: usize) -> Result<(), Exhausted> {
        let mut charges = self.charges.iter_mut();
        match charges.find(|charge| charge.kind() == ChargeKind::UnpinnedSpans) {
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

impl<P> Ledger<P> {
    /// Tells whether the pins of a handle's claim may change, which takes no
    /// right: nobody but the claim loses anything.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`]; [`LedgerError::Purged`]; [`LedgerError::NotPermitted`] for a
    /// lent handle; [`LedgerError::WouldBlock`] while the claim is lent.
    pub fn may_change_pins(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        if self.claims[&handle.claim].lends > 0 {
            return Err(LedgerError::WouldBlock);
        }
        Ok(())
    }

    /// Tells whether the claim pins all of a span.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`], [`LedgerError::Purged`].
    pub fn is_pinned(&self, handle: &Handle, span: Span) -> Result<bool, LedgerError> {
        self.check_there(handle)?;
        let unpinned = &self.claims[&handle.claim].unpinned;
        Ok(!unpinned.overlaps(&span.granules()))
    }

    /// Says that the claim does not need the bytes of a span now. What it did not
    /// pin anyway stays as it is, also in the order in which bytes are purged.
    ///
    /// The layer above has hidden what the claim's windows show of it before, so that
    /// nobody purges what is shown.
    ///
    /// # Errors
    ///
    /// As [`may_change_pins`](Ledger::may_change_pins); [`LedgerError::WouldBlock`]
    /// while the host program has a guard through the claim there, which is never
    /// hidden; [`PinError::Exhausted`] for the limit on runs.
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
        if self.queue.of(claim, None).is_some() {
            self.unpinned_by.push(claim);
        }
        let ranges = gaps.into_iter().map(|gap| (gap, known)).collect();
        Ok(PinUndo { claim, ranges })
    }

    /// Takes an [`unpin`](Ledger::unpin) back, in the same hold of the ledger.
    pub fn undo_unpin(&mut self, undo: PinUndo) {
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
    pub(in super::super) fn is_busy(&self, span: Span) -> bool {
        self.pins.is_busy(&span.granules())
    }

    /// How many granules have to be paid for before all of a span can be pinned.
    #[must_use]
    pub fn unpaid(&self, span: Span) -> u64 {
        self.pins.unpaid(&span.granules())
    }

    pub(in super::super) fn hold(&mut self, span: Span) -> PurgeHold {
        self.pins.hold(&span.granules())
    }

    pub(in super::super) fn release_hold(&mut self, held: PurgeHold) {
        if self.claims.is_empty() || self.purged {
            return;
        }
        self.pins.release_hold(held);
    }

    /// Says that the claim needs the bytes of a span, and what became of them.
    /// What they cost is in `commit`, if they have to be paid for; what of it is
    /// not needed is given back.
    ///
    /// # Errors
    ///
    /// As [`may_change_pins`](Ledger::may_change_pins);
    /// [`PinError::Exhausted`] for the limit on runs.
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

    /// Tells whether a [`pin`](Ledger::pin) would meet no refusal, so that nothing
    /// is purged for one that does.
    ///
    /// # Errors
    ///
    /// As [`pin`](Ledger::pin).
    pub fn may_pin(&mut self, handle: &Handle, span: Span) -> Result<(), PinError> {
        self.may_change_pins(handle)?;
        let entry = self.claim_mut(handle.claim);
        entry.charge_spans(entry.spans_with_pin(&span.granules()))?;
        entry.charge_spans(entry.unpinned.len())?;
        Ok(())
    }

    /// Takes a [`pin`](Ledger::pin) back, before anything else happens to the claim: it
    /// is told again what it was told.
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

    /// The guests' windows of a claim on a span, each with its own span.
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

    /// What could be purged now.
    pub(in super::super) fn idle(&self) -> Idle {
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
    pub(in super::super) fn begin_purge(
        &mut self,
        request: PurgeRequest,
    ) -> (Vec<Range<u64>>, CommitCharge) {
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

    /// What was taken by [`begin_purge`](Ledger::begin_purge) is gone.
    pub(in super::super) fn end_purge(&mut self, ranges: &[Range<u64>]) {
        self.pins.purged(ranges);
    }

    /// Of a region that is purged for good, nothing is charged.
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

    /// Gives back what was paid for the region, when nobody has a claim any more
    /// and its memory is gone.
    pub fn release_commit(&mut self) -> CommitCharge {
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
        let mut pinned = RangeSet::new();
        for claim in self.claims_on(account) {
            pinned.extend(pins::pinned_in(&self.claims[&claim].unpinned, &whole));
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

//! Comparison of a region with its model, after each step.

use super::*;

impl Site {
    /// Compares all visible state.
    pub(super) fn compare(&mut self) {
        self.pass();
        self.check_waiters();
        assert_eq!(self.lock().is_frozen(), self.model.frozen);
        assert_eq!(self.lock().is_poisoned(), self.model.poisoned);
        assert_eq!(self.lock().is_purged(), self.model.purged);
        self.compare_claims();
        self.compare_handles();
        for (no, id) in self.lends.iter().enumerate() {
            assert_eq!(self.lock().is_over(*id), self.model.over(no), "lend {no}");
        }
        self.compare_windows();
        self.compare_pins();
        self.check_lock();
    }

    pub(super) fn compare_claims(&self) {
        let live = (0..self.claims.len())
            .filter(|claim| self.model.lives(*claim))
            .collect::<Vec<_>>();
        assert_eq!(self.lock().claims(), live.len());
        for (holder, account) in self.accounts.iter().enumerate() {
            let held = live.iter().filter(|it| self.claim_holders[**it] == holder);
            let held = held.copied().collect::<Vec<_>>();
            let count = held.len() as u64;
            assert_eq!(account.used(ChargeKind::Regions), count, "holder {holder}");
            let (bytes, spans) = (ChargeKind::ClaimedBytes, ChargeKind::UnpinnedSpans);
            if self.model.purged {
                // Rule 7: nothing is charged.
                assert_eq!((account.used(bytes), account.used(spans)), (0, 0));
                continue;
            }
            assert_eq!(account.used(bytes), count * SIZE);
            let counted = held.iter().map(|claim| {
                let counted = self.lock().unpinned_spans(self.claims[*claim]);
                let (least, most) = self.model.runs(*claim);
                assert!(
                    (least..=most).contains(&counted),
                    "claim {claim}: {counted}"
                );
                counted
            });
            assert_eq!(account.used(spans), counted.sum::<u64>());
        }
    }

    pub(super) fn compare_pins(&self) {
        assert_eq!(*self.region.bytes(), self.model.bytes);
        let bytes = |granules: usize| granules as u64 * GRANULE;
        let usage = self.lock().pin_usage();
        let needed = (0..GRANULES).filter(|at| self.model.needed(*at));
        assert_eq!(usage.pinned, bytes(needed.count()));
        let committed = self.model.committed.iter().filter(|it| **it);
        assert_eq!(usage.committed, bytes(committed.count()));
        let purgeable = self.model.purgeable(&[false; GRANULES]);
        assert_eq!(usage.purgeable, bytes(purgeable));
        assert_eq!(usage.purged, self.model.lost * GRANULE);
        for at in 0..GRANULES {
            let mut span = [false; GRANULES];
            span[at] = true;
            assert!(!self.lock().is_purging(span_of(&span)));
            let unpaid = self.lock().unpaid(span_of(&span));
            assert_eq!(unpaid, self.model.unpaid(&span) as u64, "granule {at}");
            for (no, handle) in self.handles.iter().enumerate() {
                let Some(handle) = handle else { continue };
                let said = self.lock().is_pinned(handle, span_of(&span));
                let reasons = self.model.against_status(no);
                match said {
                    Ok(said) => {
                        assert_eq!((said, reasons), (self.model.is_pinned(no, &span), vec![]))
                    }
                    Err(refusal) => assert_eq!(vec![refusal], reasons),
                }
            }
        }
        for (holder, account) in self.accounts.iter().enumerate() {
            let held = (0..self.claims.len())
                .filter(|claim| self.claim_holders[*claim] == holder && self.model.lives(*claim))
                .collect::<Vec<_>>();
            let pins = |at: &usize| {
                held.iter()
                    .any(|claim| self.model.claims[*claim].pinned[*at])
            };
            let pinned = (0..GRANULES).filter(pins).count();
            assert_eq!(
                self.lock().pinned_by(account),
                bytes(pinned),
                "holder {holder}"
            );
        }
    }

    pub(super) fn compare_handles(&self) {
        for (no, handle) in self.handles.iter().enumerate() {
            let Some(handle) = handle else { continue };
            let gone = self.lock().check(handle) == Err(LedgerError::Gone);
            assert_eq!(gone, self.model.gone(no), "handle {no}");
            let reasons = self.model.against_move(no);
            match self.lock().may_move(handle) {
                Ok(()) => assert_eq!(reasons, [], "handle {no}"),
                Err(refusal) => assert!(reasons.contains(&refusal), "handle {no}: {refusal:?}"),
            }
        }
    }

    pub(super) fn compare_windows(&self) {
        let mut chains = BTreeSet::new();
        for (no, window) in self.model.windows.iter().enumerate() {
            let seen = self.lock().window(self.windows[no]);
            let expected = window.open.then(|| (span_of(&window.shows), window.access));
            assert_eq!(seen, expected, "window {no}");
            chains.insert((window.claim, window.chain.clone()));
        }
        for (claim, chain) in chains {
            let via = chain.last().map(|lend| self.lends[*lend]);
            let ledger = self.lock();
            let of = ledger.windows_of(self.claims[claim], via);
            let seen = of.map(|(_, _, place)| *place).collect::<Vec<_>>();
            assert_eq!(seen, self.model.windows_of(claim, &chain));
            for at in 0..GRANULES {
                let mut span = [false; GRANULES];
                span[at] = true;
                let on = ledger.windows_on(self.claims[claim], span_of(&span));
                let seen = on.map(|(_, shown, place)| (*place, shown));
                let windows = self.model.windows.iter().enumerate();
                let expected = windows
                    .filter(|(_, it)| it.open && !it.guard && it.claim == claim && it.shows[at])
                    .map(|(no, it)| (no, span_of(&it.shows)));
                assert!(seen.eq(expected), "claim {claim}, granule {at}");
            }
        }
    }

    /// Checks rule 2 for each pair of open windows.
    pub(super) fn check_lock(&mut self) {
        let windows = self.model.windows.iter().enumerate();
        let open = windows.filter(|(_, it)| it.open).collect::<Vec<_>>();
        let (mut aside, mut shared) = (0, 0);
        for (at, (one_no, one)) in open.iter().enumerate() {
            for (other_no, other) in &open[at + 1..] {
                let common = (0..GRANULES).any(|at| one.shows[at] && other.shows[at]);
                shared += u32::from(common && one.access != Access::Read);
                if Model::clash(one, other) {
                    let one_aside = self.model.aside(*one_no, &other.chain);
                    let other_aside = self.model.aside(*other_no, &one.chain);
                    assert!(one_aside || other_aside, "{one:?} and {other:?}");
                    assert_eq!(one.claim, other.claim);
                    assert!(!(if one_aside { one.guard } else { other.guard }));
                    aside += 1;
                    shared -= u32::from(one.access != Access::Read);
                }
            }
        }
        let more = open.iter().any(|(_, it)| it.access != Access::Read);
        assert!(!(self.lock().is_frozen() && more));
        assert!(!self.was_frozen || self.lock().is_frozen());
        let frozen = self.lock().is_frozen();
        self.was_frozen = frozen;
        if aside > 0 {
            self.note("windows", "set aside");
        }
        if shared > 0 {
            self.note("windows", "live together");
        }
    }
}

//! Pins and losses.

use tombolo_region_tests::region::Pinned::{Intact, Lost};
use tombolo_region_tests::region::{PinError, SpanError};

use super::pinned_region::*;
use super::*;

// rules 7, 8
#[test]
fn duplicate_pins_for_free() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 6)).unwrap();
    assert_eq!(budget.purge(6), 6);
    let mut ledger = region.lock.lock();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    drop(ledger);
    assert_eq!(region.pinned(&b), [6, 7]);
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((committed(&budget), purgeable(&budget)), (2, 0));
    assert_eq!(budget.purge(8), 0);
}

// rule 7
#[test]
fn unpinning_affects_its_own_claim_only() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::NONE, Vec::new());
    let b = b.unwrap();
    region.unpin(&b, granules(0, 8)).unwrap();
    assert_eq!(budget.purge(8), 0);
    assert_eq!((region.pinned(&a).len(), region.pinned(&b).len()), (8, 0));
    assert_eq!(region.pin(&b, granules(0, 8)), Ok(Intact));
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((budget.purge(8), committed(&budget)), (0, 8));
}

// rule 7
#[test]
fn each_claim_is_told_once_of_a_loss() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    for handle in [&a, &b] {
        region.unpin(handle, granules(2, 2)).unwrap();
    }
    assert_eq!((budget.purge(2), committed(&budget)), (2, 6));
    let c = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let c = c.unwrap();
    for handle in [&a, &b, &c] {
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Lost));
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Intact));
        region.unpin(handle, granules(0, 8)).unwrap();
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Intact));
    }
    let told = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let told = told.unwrap();
    assert_eq!(region.pin(&told, granules(0, 8)), Ok(Intact));
}

// rule 7
#[test]
fn loss_is_told_for_the_pinned_span() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((budget.purge(3), region.given_back()), (3, vec![(0, 3)]));
    assert_eq!(region.pin(&a, granules(3, 5)), Ok(Intact));
    // A nested span first, then the rest on both sides.
    assert_eq!(region.pin(&a, granule(1)), Ok(Lost));
    assert_eq!(region.pin(&a, granule(1)), Ok(Intact));
    assert_eq!(region.pin(&a, granules(1, 2)), Ok(Lost));
    assert_eq!(region.pin(&a, granules(0, 2)), Ok(Lost));
    assert_eq!(region.pin(&a, granules(0, 8)), Ok(Intact));
}

// rule 7
#[test]
fn overlapping_spans_keep_exact_pins() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(1, 2)).unwrap();
    region.unpin(&a, granules(3, 1)).unwrap();
    region.unpin(&a, granules(2, 4)).unwrap();
    assert_eq!(region.pinned(&a), [0, 6, 7]);
    assert_eq!(purgeable(&budget), 5);
    assert_eq!(region.pin(&a, granule(3)), Ok(Intact));
    assert_eq!(region.pinned(&a), [0, 3, 6, 7]);
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((region.pinned(&a), purgeable(&budget)), (vec![], 8));
    assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
    assert_eq!(region.pinned(&a), [2, 3, 4, 5]);
    assert_eq!((budget.purge(8), purgeable(&budget)), (4, 0));
    assert_eq!(committed(&budget), 4);
    assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
    assert_eq!(region.pin(&a, granules(5, 2)), Ok(Lost));
}

// rule 7
#[test]
fn bytes_beside_purged_ones_are_kept() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granule(1)).unwrap();
    assert_eq!(budget.purge(1), 1);
    // Spans on both sides of it and over it.
    region.unpin(&a, granule(0)).unwrap();
    region.unpin(&a, granules(0, 3)).unwrap();
    assert_eq!((purgeable(&budget), committed(&budget)), (2, 7));
    assert_eq!(region.pin(&a, granule(2)), Ok(Intact));
    assert_eq!(region.pin(&a, granule(0)), Ok(Intact));
    region.unpin(&a, granules(0, 3)).unwrap();
    assert_eq!(region.given_back(), [(1, 2)]);
    assert_eq!(budget.purge(8), 2);
    assert_eq!(region.given_back(), [(0, 1), (2, 3)]);
    assert_eq!((purgeable(&budget), committed(&budget)), (0, 5));
    assert_eq!(region.pin(&a, granules(0, 3)), Ok(Lost));
}

// rule 7
#[test]
fn no_length_pins_up_to_the_end() {
    let budget = Budget::new(2 * GRANULE);
    let size = (5 << 32) + 1;
    let (region, a) = create(&budget, 0, size, false, Vec::new());
    let (all, last) = (Span::whole(size), size / GRANULE);
    let to_the_end = |first: u64| Span::of_pins(first * GRANULE, 0, size).unwrap();
    assert_eq!(region.pin(&a, to_the_end(last - 1)), Ok(Intact));
    assert_eq!(committed(&budget), 2);
    assert!(is_exhausted(region.pin(&a, to_the_end(0)), "budget"));
    region.unpin(&a, to_the_end(0)).unwrap();
    assert_eq!(region.lock.lock().unpaid(all), all.length() / GRANULE - 2);
    assert_eq!(budget.purge(8), 2);
    assert_eq!(region.given_back(), [(last - 1, last + 1)]);
    assert_eq!(region.pin(&a, to_the_end(last)), Ok(Lost));
    assert_eq!(committed(&budget), 1);
}

// rules 3, 7
#[test]
fn bad_spans_are_refused() {
    let size = 8 * GRANULE - 1;
    let misaligned = [(1, 0), (GRANULE - 1, GRANULE), (0, GRANULE + 1)];
    for (offset, length) in misaligned {
        let refused = Span::of_pins(offset, length, size);
        assert!(matches!(refused, Err(SpanError::Misaligned { .. })));
    }
    let beyond = [
        (8 * GRANULE, 0),
        (0, 9 * GRANULE),
        (7 * GRANULE, 2 * GRANULE),
        (GRANULE, u64::MAX - GRANULE + 1),
    ];
    for (offset, length) in beyond {
        let refused = Span::of_pins(offset, length, size);
        assert!(matches!(refused, Err(SpanError::OutOfBounds { .. })));
    }
    assert_eq!(Span::of_pins(0, 8 * GRANULE, size), Ok(Span::whole(size)));
}

// rules 6, 7
#[test]
fn ended_claim_unpins_after_its_windows() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    region.unpin(&a, granules(0, 8)).unwrap();
    let window = open(&mut region.lock.lock(), &b, granule(3), Write).unwrap();
    region.lock.lock().release(b);
    assert_eq!((purgeable(&budget), budget.purge(8)), (0, 0));
    region.lock.lock().close(window, WindowEnd::Died);
    assert_eq!((purgeable(&budget), budget.purge(8)), (8, 8));
    assert_eq!(committed(&budget), 0);
}

// rules 5, 7
#[test]
fn lent_claim_keeps_its_pins() {
    let (_, region, a) = pinned_region();
    let lent = region.lock.lock().lend(&a, READ_WRITE).unwrap();
    for (handle, refusal) in [
        (&lent, LedgerError::NotPermitted),
        (&a, LedgerError::WouldBlock),
    ] {
        let refusal = PinError::Refused(refusal);
        assert_eq!(region.unpin(handle, granule(0)), Err(refusal.clone()));
        assert_eq!(region.pin(handle, granule(0)), Err(refusal));
    }
    assert_eq!(region.pinned(&lent).len(), 8);
    region.lock.lock().revoke(lent.lend().unwrap());
    let gone = Err(PinError::Refused(LedgerError::Gone));
    assert_eq!(region.pin(&lent, granule(0)), gone);
    region.unpin(&a, granule(0)).unwrap();
}

// rule 7
#[test]
fn unpinning_under_a_guard_is_refused() {
    let (_, region, a) = pinned_region();
    let held = guard(&mut region.lock.lock(), &a, granules(2, 2), Read).unwrap();
    let refused = Err(PinError::Refused(LedgerError::WouldBlock));
    assert_eq!(region.unpin(&a, granules(0, 3)), refused);
    assert_eq!(region.pinned(&a).len(), 8);
    region.unpin(&a, granules(0, 2)).unwrap();
    region.unpin(&a, granules(4, 4)).unwrap();
    region.lock.lock().close(held, WindowEnd::Orderly);
    region.unpin(&a, granules(0, 8)).unwrap();
}

// rule 7
#[test]
fn windows_and_guards_need_pinned_bytes() {
    let (_, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    region.unpin(&a, granule(2)).unwrap();
    let mut ledger = region.lock.lock();
    for span in [granule(2), granules(0, 3), granules(2, 2)] {
        for access in [Read, Write] {
            let refused = Err(LedgerError::Unpinned);
            assert_eq!(open(&mut ledger, &a, span, access), refused);
            assert_eq!(guard(&mut ledger, &a, span, access), refused);
        }
    }
    open(&mut ledger, &a, granules(0, 2), Write).unwrap();
    open(&mut ledger, &b, granule(2), Write).unwrap();
}

// rules 2, 7
#[test]
fn hidden_window_keeps_its_lock() {
    let (_, region, a) = pinned_region();
    let mut ledger = region.lock.lock();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    let _ = ledger.unpin(&a, granule(0)).unwrap();
    let refused = open(&mut ledger, &b, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    drop(ledger);
    assert_eq!(region.pin(&a, granule(0)), Ok(Intact));
}

// rule 7
#[test]
fn freezing_needs_the_whole_region_pinned() {
    let (_, region, a) = pinned_region();
    region.unpin(&a, granule(7)).unwrap();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    region.pin(&b.unwrap(), granule(7)).unwrap();
    assert_eq!(region.lock.lock().freeze(&a), Err(LedgerError::Unpinned));
    region.pin(&a, granule(7)).unwrap();
    region.lock.lock().freeze(&a).unwrap();
}

// rule 10
#[test]
fn fewer_runs_are_never_refused() {
    let (budget, account) = (Budget::new(8 * GRANULE), account(2));
    let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 0).unwrap()];
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
    region.unpin(&a, granules(0, 3)).unwrap();
    region.unpin(&a, granule(5)).unwrap();
    let used = || account.used(ChargeKind::UnpinnedSpans);
    assert_eq!(used(), 2);
    assert!(is_exhausted(region.unpin(&a, granule(7)), "unpinned-spans"));
    assert!(is_exhausted(region.pin(&a, granule(1)), "unpinned-spans"));
    assert_eq!((used(), region.pinned(&a)), (2, vec![3, 4, 6, 7]));
    region.pin(&a, granule(0)).unwrap();
    region.unpin(&a, granules(3, 2)).unwrap();
    assert_eq!(used(), 1);
    region.unpin(&a, granules(0, 8)).unwrap();
    region.pin(&a, granules(0, 8)).unwrap();
    assert_eq!(used(), 0);
}

// rule 10
#[test]
fn undo_succeeds_though_the_limit_is_used_up() {
    let (budget, account) = (Budget::new(8 * GRANULE), account(2));
    let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 0).unwrap()];
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
    region.unpin(&a, granule(0)).unwrap();
    region.unpin(&a, granule(2)).unwrap();
    let mut ledger = region.lock.lock();
    let undo = ledger.unpin(&a, granule(1)).unwrap();
    // A claim on another region, on the same account.
    let taken = account.charge(ChargeKind::UnpinnedSpans, 1).unwrap();
    ledger.undo_unpin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [1, 3, 4, 5, 6, 7]);
    drop(taken);
    let (_, undo, mut ledger) = region.lock.pin(&a, granules(0, 3)).unwrap();
    let taken = account.charge(ChargeKind::UnpinnedSpans, 2).unwrap();
    ledger.undo_pin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [1, 3, 4, 5, 6, 7]);
    drop(taken);
    drop(budget);
}

// rule 7
#[test]
fn undone_pin_reports_its_loss_again() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 4)).unwrap();
    assert_eq!(budget.purge(2), 2);
    let (pinned, undo, mut ledger) = region.lock.pin(&a, granules(1, 6)).unwrap();
    assert_eq!(pinned, Lost);
    ledger.undo_pin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [4, 5, 6, 7]);
    assert_eq!((committed(&budget), purgeable(&budget)), (7, 3));
    assert_eq!(region.pin(&a, granules(1, 6)), Ok(Lost));
    assert_eq!(region.pin(&a, granule(0)), Ok(Lost));
}

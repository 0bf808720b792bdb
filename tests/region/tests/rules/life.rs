//! The life of claims, and poison.

use super::*;

// rule 6
#[test]
fn claim_lives_while_any_handle_does() {
    let (mut ledger, a) = region();
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    ledger.release(a);
    assert_eq!(ledger.claims(), 1);
    open(&mut ledger, &weak, granule(0), Read).unwrap();
}

// rule 6
#[test]
fn window_keeps_its_claim_alive() {
    let (mut ledger, a) = region();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    ledger.release(a);
    assert_eq!(ledger.claims(), 1);
    ledger.set_access(window, Read).unwrap();
    ledger.set_access(window, Write).unwrap();
    ledger.close(window, WindowEnd::Orderly);
    assert_eq!(ledger.claims(), 0);
}

// rule 6
#[test]
fn lent_handle_keeps_a_dead_lenders_claim() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    ledger.release(a);
    assert_eq!(ledger.claims(), 1);
    open(&mut ledger, &lent, granule(0), Write).unwrap();
}

// rules 5, 6
#[test]
fn revoked_handle_keeps_no_claim() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let kept = ledger.restrict(&lent, READ_WRITE).unwrap();
    ledger.release(a);
    let lend = lent.lend().unwrap();
    ledger.revoke(lend);
    assert_eq!(ledger.claims(), 0);
    assert!(ledger.is_over(lend));
    ledger.release(lent);
    ledger.release(kept);
    assert_eq!(ledger.claims(), 0);
}

// rule 6
#[test]
fn unused_lend_ends_after_its_claim() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let lend = lent.lend().unwrap();
    ledger.release(a);
    ledger.release(lent);
    assert_eq!(ledger.claims(), 0);
    assert!(!ledger.is_over(lend));
    ledger.revoke(lend);
    assert!(ledger.is_over(lend));
}

// rule 6
#[test]
fn dead_writer_poisons_until_cleared() {
    let (mut ledger, a) = region();
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    let dying = open(&mut ledger, &a, granule(0), Write).unwrap();
    let kept = open(&mut ledger, &a, granule(1), Read).unwrap();
    ledger.close(dying, WindowEnd::Died);
    assert!(ledger.is_poisoned());
    for access in [Read, Write] {
        let refused = open(&mut ledger, &a, granule(2), access);
        assert_eq!(refused, Err(LedgerError::Poisoned));
        let refused = guard(&mut ledger, &a, granule(2), access);
        assert_eq!(refused, Err(LedgerError::Poisoned));
    }
    assert_eq!(ledger.freeze(&a), Err(LedgerError::Poisoned));
    // Poison does not affect open windows.
    ledger.set_access(kept, Write).unwrap();
    assert_eq!(ledger.clear_poison(&weak), Err(LedgerError::NotPermitted));
    assert!(ledger.is_poisoned());
    ledger.clear_poison(&a).unwrap();
    ledger.clear_poison(&a).unwrap();
    open(&mut ledger, &weak, granule(0), Read).unwrap();
}

// rule 6
#[test]
fn dead_reader_poisons_nothing() {
    let (mut ledger, a) = region();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    ledger.set_access(window, Read).unwrap();
    ledger.close(window, WindowEnd::Died);
    assert!(!ledger.is_poisoned());
}

// rule 6
#[test]
fn poison_outlives_the_dead_claim() {
    let (mut ledger, a) = region();
    let dead = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
    let window = open(&mut ledger, &dead, granule(0), Write).unwrap();
    ledger.release(dead);
    ledger.close(window, WindowEnd::Died);
    assert_eq!(ledger.claims(), 1);
    let refused = open(&mut ledger, &a, granule(7), Read);
    assert_eq!(refused, Err(LedgerError::Poisoned));
}

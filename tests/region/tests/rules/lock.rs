//! The lock: windows, guards and freezing.

use super::*;

// rule 2
#[test]
fn reads_share_and_a_write_excludes() {
    let (mut ledger, a) = region();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    open(&mut ledger, &a, granule(0), Read).unwrap();
    open(&mut ledger, &b, granule(0), Read).unwrap();
    let refused = open(&mut ledger, &b, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    open(&mut ledger, &b, granule(1), Write).unwrap();
    let refused = open(&mut ledger, &a, granules(0, 8), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
}

// rule 2
#[test]
fn windows_of_one_handle_conflict() {
    let (mut ledger, a) = region();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    for access in [Read, Write] {
        let refused = open(&mut ledger, &a, granule(0), access);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
}

// rule 2
#[test]
fn adjacent_windows_do_not_conflict() {
    let (mut ledger, a) = region();
    open(&mut ledger, &a, granules(1, 2), Write).unwrap();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    open(&mut ledger, &a, granule(3), Write).unwrap();
}

// rule 2
#[test]
fn closed_window_releases_its_granules() {
    let (mut ledger, a) = region();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    assert_eq!(ledger.close(window, WindowEnd::Orderly), Some(()));
    open(&mut ledger, &a, granule(0), Write).unwrap();
    assert_eq!(ledger.close(window, WindowEnd::Died), None);
    assert!(!ledger.is_poisoned());
}

// rule 2
#[test]
fn access_change_ignores_only_its_own_window() {
    let (mut ledger, a) = region();
    let first = open(&mut ledger, &a, granule(0), Read).unwrap();
    ledger.set_access(first, Write).unwrap();
    ledger.set_access(first, Read).unwrap();
    let second = open(&mut ledger, &a, granule(0), Read).unwrap();
    assert_eq!(
        ledger.set_access(first, Write),
        Err(LedgerError::WouldBlock)
    );
    ledger.close(second, WindowEnd::Orderly);
    ledger.set_access(first, Write).unwrap();
}

// rule 1
#[test]
fn window_keeps_to_its_handles_rights() {
    let (mut ledger, a) = region();
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    let refused = open(&mut ledger, &weak, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    let window = open(&mut ledger, &weak, granule(0), Read).unwrap();
    let refused = ledger.set_access(window, Write);
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    let blind = ledger.restrict(&a, Rights::WRITE).unwrap();
    for access in [Read, Write] {
        let refused = open(&mut ledger, &blind, granule(1), access);
        assert_eq!(refused, Err(LedgerError::NotPermitted));
    }
}

// rule 2
#[test]
fn freezing_needs_readers_only_and_lasts() {
    let (mut ledger, a) = region();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    assert_eq!(ledger.freeze(&a), Err(LedgerError::WouldBlock));
    assert_eq!(ledger.freeze(&b), Err(LedgerError::WouldBlock));
    ledger.set_access(window, Read).unwrap();
    ledger.freeze(&b).unwrap();
    ledger.freeze(&a).unwrap();
    let refused = open(&mut ledger, &a, granule(1), Write);
    assert_eq!(refused, Err(LedgerError::Frozen));
    assert_eq!(ledger.set_access(window, Write), Err(LedgerError::Frozen));
    open(&mut ledger, &b, granule(0), Read).unwrap();
}

// rules 1, 5
#[test]
fn freezing_needs_write_and_an_own_handle() {
    let (mut ledger, a) = region();
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    for handle in [&weak, &lent] {
        assert_eq!(ledger.freeze(handle), Err(LedgerError::NotPermitted));
    }
}

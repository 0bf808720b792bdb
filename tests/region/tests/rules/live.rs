//! Live windows.

use super::*;
use Access::{LiveRead, LiveWrite};

/// Returns a store in a strand.
fn store(strand: u64, store: usize) -> LiveOwner {
    LiveOwner { strand, store }
}

fn two() -> (Ledger<()>, Handle, Handle) {
    let (mut ledger, a) = region();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    (ledger, a, b)
}

// rule 2
#[test]
fn live_windows_of_one_strand_share() {
    for one in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
        for other in [LiveRead(store(1, 2)), LiveWrite(store(1, 2))] {
            let (mut ledger, a, b) = two();
            open(&mut ledger, &a, granule(0), one).unwrap();
            open(&mut ledger, &b, granule(0), other).unwrap();
            // A third one is compatible too.
            open(&mut ledger, &b, granule(0), LiveWrite(store(1, 3))).unwrap();
        }
    }
}

// rule 2
#[test]
fn another_strand_is_refused_with_the_reason() {
    for one in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
        for other in [LiveRead(store(2, 2)), LiveWrite(store(2, 2))] {
            let (mut ledger, a, b) = two();
            open(&mut ledger, &a, granule(0), one).unwrap();
            let refused = open(&mut ledger, &b, granule(0), other);
            assert_eq!(refused, Err(LedgerError::OtherStrand));
            // The same reason is given if another window conflicts as well.
            let c = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
            open(&mut ledger, &c, granule(1), Write).unwrap();
            let refused = open(&mut ledger, &b, granules(0, 2), other);
            assert_eq!(refused, Err(LedgerError::OtherStrand));
            let refused = open(&mut ledger, &b, granule(1), other);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
    }
}

// rule 2
#[test]
fn live_windows_of_one_store_conflict() {
    let (mut ledger, a, b) = two();
    open(&mut ledger, &a, granule(0), LiveRead(store(1, 1))).unwrap();
    for access in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
        for handle in [&a, &b] {
            let refused = open(&mut ledger, handle, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
    }
    open(&mut ledger, &a, granule(1), LiveWrite(store(1, 1))).unwrap();
}

// rule 2
#[test]
fn live_windows_exclude_all_others() {
    for live in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
        for access in [Read, Write] {
            let (mut ledger, a, b) = two();
            let window = open(&mut ledger, &a, granule(0), live).unwrap();
            let refused = open(&mut ledger, &b, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
            let refused = guard(&mut ledger, &b, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
            ledger.close(window, WindowEnd::Orderly);
            let window = guard(&mut ledger, &b, granule(0), access).unwrap();
            let refused = open(&mut ledger, &a, granule(0), live);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
            ledger.close(window, WindowEnd::Orderly);
            open(&mut ledger, &b, granule(0), access).unwrap();
            let refused = open(&mut ledger, &a, granule(0), live);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
    }
}

// rule 2
#[test]
fn access_changes_to_and_from_live() {
    let (one, other) = (store(1, 1), store(1, 2));
    let (mut ledger, a, b) = two();
    let window = open(&mut ledger, &a, granule(0), Read).unwrap();
    let reads = open(&mut ledger, &b, granule(0), Read).unwrap();
    for access in [LiveRead(one), LiveWrite(one)] {
        let refused = ledger.set_access(window, access);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
    ledger.close(reads, WindowEnd::Orderly);
    ledger.set_access(window, LiveRead(one)).unwrap();
    let beside = open(&mut ledger, &b, granule(0), LiveWrite(other)).unwrap();
    ledger.set_access(window, LiveWrite(one)).unwrap();
    for access in [Read, Write] {
        assert_eq!(
            ledger.set_access(window, access),
            Err(LedgerError::WouldBlock)
        );
    }
    ledger.close(beside, WindowEnd::Orderly);
    ledger.set_access(window, Write).unwrap();
    ledger.set_access(window, LiveWrite(one)).unwrap();
    ledger.set_access(window, Read).unwrap();
}

// rules 1, 2
#[test]
fn live_access_needs_read_and_write_rights() {
    let (mut ledger, a) = region();
    let one = store(1, 1);
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    let refused = open(&mut ledger, &weak, granule(0), LiveWrite(one));
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    let window = open(&mut ledger, &weak, granule(0), LiveRead(one)).unwrap();
    let refused = ledger.set_access(window, LiveWrite(one));
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    let blind = ledger.restrict(&a, Rights::WRITE).unwrap();
    for access in [LiveRead(one), LiveWrite(one)] {
        let refused = open(&mut ledger, &blind, granule(1), access);
        assert_eq!(refused, Err(LedgerError::NotPermitted));
    }
}

// rule 2
#[test]
fn freezing_and_live_windows_exclude_each_other() {
    let one = store(1, 1);
    let (mut ledger, a, b) = two();
    let window = open(&mut ledger, &a, granule(0), LiveRead(one)).unwrap();
    assert_eq!(ledger.freeze(&b), Err(LedgerError::WouldBlock));
    ledger.set_access(window, Read).unwrap();
    ledger.freeze(&b).unwrap();
    for access in [LiveRead(one), LiveWrite(one)] {
        let refused = open(&mut ledger, &b, granule(1), access);
        assert_eq!(refused, Err(LedgerError::Frozen));
        assert_eq!(ledger.set_access(window, access), Err(LedgerError::Frozen));
    }
}

// rule 6
#[test]
fn dead_live_writer_poisons_and_reader_does_not() {
    let (mut ledger, a) = region();
    for (access, end, poisons) in [
        (LiveRead(store(1, 1)), WindowEnd::Died, false),
        (LiveWrite(store(1, 1)), WindowEnd::Orderly, false),
        (LiveWrite(store(1, 1)), WindowEnd::Died, true),
    ] {
        let window = open(&mut ledger, &a, granule(0), access).unwrap();
        ledger.close(window, end);
        assert_eq!(ledger.is_poisoned(), poisons);
    }
    let refused = open(&mut ledger, &a, granule(0), LiveRead(store(1, 2)));
    assert_eq!(refused, Err(LedgerError::Poisoned));
}

// rule 5
#[test]
fn lend_sets_live_windows_aside() {
    let (mut ledger, a, b) = two();
    open(&mut ledger, &a, granule(0), LiveWrite(store(1, 1))).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let borrowed = open(&mut ledger, &lent, granule(0), Write).unwrap();
    let refused = open(&mut ledger, &b, granule(0), LiveRead(store(1, 2)));
    assert_eq!(refused, Err(LedgerError::WouldBlock), "the borrower writes");
    ledger.close(borrowed, WindowEnd::Orderly);
    let beside = open(&mut ledger, &b, granule(0), LiveRead(store(1, 2))).unwrap();
    let refused = open(&mut ledger, &lent, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock), "not the lender's");
    let refused = open(&mut ledger, &lent, granule(0), LiveWrite(store(2, 3)));
    assert_eq!(refused, Err(LedgerError::OtherStrand), "not the lender's");
    ledger.close(beside, WindowEnd::Orderly);
    open(&mut ledger, &lent, granule(0), LiveWrite(store(2, 3))).unwrap();
}

// rule 2
#[test]
fn change_to_live_conflicts_with_other_strands() {
    let (mut ledger, a, _) = two();
    let window = open(&mut ledger, &a, granule(0), Read).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    open(&mut ledger, &lent, granule(0), LiveRead(store(2, 3))).unwrap();
    let refused = ledger.set_access(window, LiveRead(store(1, 1)));
    assert_eq!(refused, Err(LedgerError::OtherStrand));
    ledger.set_access(window, LiveRead(store(2, 1))).unwrap();
}

// rules 2, 11
#[test]
fn live_waiters_block_as_live_windows_do() {
    use std::time::Duration;
    use tombolo_region_tests::region::WaitStatus;
    let (mut ledger, a, b) = two();
    let now = Duration::ZERO;
    let c = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    let waiter = ledger.enqueue(&b, granule(0), LiveWrite(store(1, 2)), now);
    let waiter = waiter.unwrap();
    assert_eq!(ledger.poll_waiter(waiter, now), WaitStatus::Pending(None));
    ledger.set_access(window, LiveWrite(store(1, 1))).unwrap();
    assert_eq!(ledger.poll_waiter(waiter, now), WaitStatus::Ready);
    // The reservation does not block compatible windows.
    open(&mut ledger, &c, granule(0), LiveRead(store(1, 3))).unwrap();
    open(&mut ledger, &b, granule(0), LiveRead(store(1, 2))).unwrap();
}

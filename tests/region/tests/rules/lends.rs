//! Lends: the rights and windows of lender and borrower, and how a lend ends.

use super::*;

// rule 5
#[test]
fn lenders_windows_are_set_aside_for_borrower() {
    let (mut ledger, a) = region();
    let other = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    for access in [Read, Write] {
        let refused = open(&mut ledger, &other, granule(0), access);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
    open(&mut ledger, &lent, granule(0), Write).unwrap();
    // The lender's windows keep their locks, though.
    let refused = ledger.set_access(window, Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
}

// rule 5
#[test]
fn windows_of_other_claims_still_conflict() {
    let (mut ledger, a) = region();
    let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    open(&mut ledger, &second, granule(0), Write).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let refused = open(&mut ledger, &lent, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
}

// rule 5
#[test]
fn windows_of_all_handles_are_set_aside() {
    let (mut ledger, a) = region();
    let weak = ledger.restrict(&a, READ_WRITE).unwrap();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    open(&mut ledger, &weak, granule(1), Write).unwrap();
    let lent = ledger.lend(&weak, READ_WRITE).unwrap();
    let of_lent = ledger.restrict(&lent, READ_WRITE).unwrap();
    open(&mut ledger, &of_lent, granules(0, 2), Write).unwrap();
}

// rule 5
#[test]
fn lends_side_by_side_conflict() {
    let (mut ledger, a) = region();
    let first = ledger.lend(&a, READ_WRITE).unwrap();
    let second = ledger.lend(&a, READ_WRITE).unwrap();
    open(&mut ledger, &first, granule(0), Write).unwrap();
    let refused = open(&mut ledger, &second, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    open(&mut ledger, &second, granule(1), Write).unwrap();
}

// rule 5
#[test]
fn lending_on_sets_the_whole_chain_aside() {
    let (mut ledger, a) = region();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    let b = ledger.lend(&a, READ_WRITE).unwrap();
    open(&mut ledger, &b, granule(0), Write).unwrap();
    let c = ledger.lend(&b, READ_WRITE).unwrap();
    let window = open(&mut ledger, &c, granule(0), Write).unwrap();
    // Not the other way round: new windows of B and A conflict with C's.
    for lender in [&a, &b] {
        let refused = open(&mut ledger, lender, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
    ledger.set_access(window, Read).unwrap();
    ledger.set_access(window, Write).unwrap();
}

// rule 5
#[test]
fn borrowers_of_different_branches_conflict() {
    let (mut ledger, a) = region();
    let b = ledger.lend(&a, READ_WRITE).unwrap();
    let c = ledger.lend(&a, READ_WRITE).unwrap();
    let on = ledger.lend(&b, READ_WRITE).unwrap();
    open(&mut ledger, &c, granule(0), Write).unwrap();
    let refused = open(&mut ledger, &on, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
}

// rule 5
#[test]
fn windows_opened_during_a_lend_conflict() {
    let (mut ledger, a) = region();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    // The lender's call is dropped: its windows are closed, and it goes on.
    ledger.close(window, WindowEnd::Orderly);
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    for access in [Read, Write] {
        let refused = open(&mut ledger, &lent, granule(0), access);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
    let on = ledger.lend(&lent, READ_WRITE).unwrap();
    let refused = open(&mut ledger, &on, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    // A later lend sets aside the windows of that time.
    let later = ledger.lend(&a, READ_WRITE).unwrap();
    open(&mut ledger, &later, granule(0), Write).unwrap();
    ledger.close(window, WindowEnd::Orderly);
}

// rule 5
#[test]
fn lend_within_ends_with_the_outer_lend() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let within = ledger.lend_within(&lent, READ_WRITE).unwrap();
    let nested = ledger.lend_within(&within, READ_WRITE).unwrap();
    // That of a call goes on, and so does one that its callee makes.
    let call = ledger.lend(&within, READ_WRITE).unwrap();
    let elsewhere = ledger.lend_within(&call, READ_WRITE).unwrap();
    let window = open(&mut ledger, &nested, granule(0), Write).unwrap();
    let lend = lent.lend().unwrap();
    assert_eq!(
        ledger.lends_within(lend),
        [within.lend().unwrap(), nested.lend().unwrap()]
    );

    ledger.revoke(lend);
    for handle in [&lent, &within, &nested] {
        assert_eq!(ledger.check(handle), Err(LedgerError::Gone));
    }
    for handle in [&call, &elsewhere] {
        assert_eq!(ledger.check(handle), Ok(()));
    }
    ledger.close(window, WindowEnd::Orderly);
    assert!(!ledger.is_over(lend));
    ledger.revoke(call.lend().unwrap());
    assert!(ledger.is_over(lend) && ledger.lends_within(lend).is_empty());
    assert_eq!(ledger.may_move(&a), Ok(()));
}

// rule 5
#[test]
fn lend_within_an_owner_outlives_its_handle() {
    let (mut ledger, a) = region();
    let within = ledger.lend_within(&a, READ_WRITE).unwrap();
    ledger.release(a);
    let window = open(&mut ledger, &within, granule(0), Write).unwrap();
    ledger.revoke(within.lend().unwrap());
    assert_eq!(ledger.claims(), 1);
    ledger.close(window, WindowEnd::Orderly);
    assert_eq!(ledger.claims(), 0);
}

// rule 5
#[test]
fn lent_handle_cannot_be_shared() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, Rights::ALL).unwrap();
    assert_eq!(lent.rights(), READ_WRITE);
    let of_lent = ledger.restrict(&lent, Rights::ALL).unwrap();
    assert_eq!(
        (of_lent.rights(), of_lent.lend()),
        (READ_WRITE, lent.lend())
    );
    for handle in [&lent, &of_lent] {
        let refused = ledger.duplicate(handle, Rights::NONE, Vec::new());
        assert_eq!(refused, Err(LedgerError::NotPermitted));
        assert_eq!(ledger.freeze(handle), Err(LedgerError::NotPermitted));
        assert_eq!(ledger.may_move(handle), Err(LedgerError::NotPermitted));
    }
}

// rule 1
#[test]
fn rights_never_grow() {
    let (mut ledger, a) = region();
    let weak = ledger.duplicate(&a, Rights::READ, Vec::new()).unwrap();
    assert_eq!(
        ledger.restrict(&weak, READ_WRITE),
        Err(LedgerError::NotPermitted)
    );
    assert_eq!(
        ledger.lend(&weak, READ_WRITE),
        Err(LedgerError::NotPermitted)
    );
    let lent = ledger.lend(&weak, Rights::READ).unwrap();
    assert_eq!(
        ledger.restrict(&lent, Rights::WRITE),
        Err(LedgerError::NotPermitted)
    );
    assert_eq!(
        ledger.lend(&lent, Rights::WRITE),
        Err(LedgerError::NotPermitted)
    );
    assert_eq!(ledger.clear_poison(&lent), Err(LedgerError::NotPermitted));
    let sharing = ledger.duplicate(&a, Rights::SHARE | Rights::READ, Vec::new());
    let refused = ledger.duplicate(&sharing.unwrap(), Rights::WRITE, Vec::new());
    assert_eq!(refused, Err(LedgerError::NotPermitted));
}

// rule 5
#[test]
fn revoking_includes_restricted_handles() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let of_lent = ledger.restrict(&lent, READ_WRITE).unwrap();
    ledger.revoke(lent.lend().unwrap());
    for handle in [lent, of_lent] {
        assert_eq!(ledger.check(&handle), Err(LedgerError::Gone));
        let opened = open(&mut ledger, &handle, granule(0), Read);
        assert_eq!(opened, Err(LedgerError::Gone));
        assert_eq!(ledger.lend(&handle, Rights::NONE), Err(LedgerError::Gone));
        assert_eq!(
            ledger.restrict(&handle, Rights::NONE),
            Err(LedgerError::Gone)
        );
        let duplicate = ledger.duplicate(&handle, Rights::NONE, Vec::new());
        assert_eq!(duplicate, Err(LedgerError::Gone));
        assert_eq!(ledger.may_move(&handle), Err(LedgerError::Gone));
        assert_eq!(ledger.freeze(&handle), Err(LedgerError::Gone));
        assert_eq!(ledger.clear_poison(&handle), Err(LedgerError::Gone));
        ledger.release(handle);
    }
    assert_eq!(ledger.claims(), 1);
}

// rule 5
#[test]
fn lend_is_over_once_revoked_and_unmapped() {
    let (mut ledger, a) = region();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let lend = lent.lend().unwrap();
    let window = open(&mut ledger, &lent, granule(0), Read).unwrap();
    ledger.release(lent);
    assert!(!ledger.is_over(lend));
    ledger.revoke(lend);
    assert!(!ledger.is_over(lend));
    // It has ended for the borrower, which can only close its window.
    for access in [Read, Write] {
        assert_eq!(ledger.set_access(window, access), Err(LedgerError::Gone));
    }
    ledger.close(window, WindowEnd::Orderly);
    assert!(ledger.is_over(lend));
}

// rule 5
#[test]
fn lend_is_over_after_lends_made_from_it() {
    let (mut ledger, a) = region();
    let b = ledger.lend(&a, READ_WRITE).unwrap();
    let kept = open(&mut ledger, &b, granule(0), Write).unwrap();
    let c = ledger.lend(&b, READ_WRITE).unwrap();
    let d = ledger.lend(&c, READ_WRITE).unwrap();
    let lends = [&b, &c, &d].map(|handle| handle.lend().unwrap());
    ledger.revoke(lends[0]);
    ledger.revoke(lends[1]);
    assert!(lends.iter().all(|lend| !ledger.is_over(*lend)));
    assert_eq!(ledger.may_move(&a), Err(LedgerError::WouldBlock));
    // Open windows stay, and those above it stay set aside.
    let window = open(&mut ledger, &d, granule(0), Write).unwrap();
    ledger.revoke(lends[2]);
    assert!(lends.iter().all(|lend| !ledger.is_over(*lend)));
    ledger.close(window, WindowEnd::Orderly);
    assert!(ledger.is_over(lends[2]) && ledger.is_over(lends[1]));
    assert!(!ledger.is_over(lends[0]));
    ledger.close(kept, WindowEnd::Orderly);
    assert!(ledger.is_over(lends[0]));
    for handle in [b, c, d] {
        ledger.release(handle);
    }
    ledger.may_move(&a).unwrap();
}

// rule 5
#[test]
fn host_guard_blocks_lend_and_move() {
    let (mut ledger, a) = region();
    let window = guard(&mut ledger, &a, granule(0), Read).unwrap();
    assert_eq!(ledger.lend(&a, Rights::READ), Err(LedgerError::WouldBlock));
    assert_eq!(ledger.may_move(&a), Err(LedgerError::WouldBlock));
    ledger.close(window, WindowEnd::Orderly);
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    guard(&mut ledger, &a, granule(0), Read).unwrap();
    let refused = open(&mut ledger, &lent, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    assert_eq!(
        ledger.lend(&lent, Rights::READ),
        Err(LedgerError::WouldBlock)
    );
}

// rules 5, 9
#[test]
fn lends_are_not_passed_on_without_end() {
    let (mut ledger, a) = region();
    let first = ledger.lend(&a, READ_WRITE).unwrap();
    let root = first.lend().unwrap();
    let mut handle = first;
    let mut last = root;
    for _ in 1..512 {
        let next = ledger.lend(&handle, READ_WRITE).unwrap();
        last = next.lend().unwrap();
        ledger.revoke(handle.lend().unwrap());
        ledger.release(handle);
        handle = next;
    }
    let refused = ledger.lend(&handle, READ_WRITE);
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    assert!(!ledger.is_over(root));
    ledger.revoke(last);
    assert!(ledger.is_over(root));
}

//! Moves: which handles and claims can move, and which account pays afterwards.

use super::*;

// rule 5
#[test]
fn only_the_first_handle_moves() {
    let (mut ledger, a) = region();
    ledger.may_move(&a).unwrap();
    let weak = ledger.restrict(&a, Rights::ALL).unwrap();
    assert_eq!(ledger.may_move(&weak), Err(LedgerError::NotPermitted));
    assert_eq!(ledger.may_move(&a), Err(LedgerError::NotPermitted));
    ledger.release(weak);
    ledger.may_move(&a).unwrap();
}

// rules 1, 5
#[test]
fn moving_needs_share() {
    let (mut ledger, a) = region();
    let unshared = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
    assert_eq!(ledger.may_move(&unshared), Err(LedgerError::NotPermitted));
}

// rule 5
#[test]
fn lent_claim_cannot_move() {
    let (mut ledger, a) = region();
    let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    let lent = ledger.lend(&a, Rights::READ).unwrap();
    assert_eq!(ledger.may_move(&a), Err(LedgerError::WouldBlock));
    ledger.may_move(&second).unwrap();
    ledger.revoke(lent.lend().unwrap());
    // Even if the borrower keeps the handle.
    ledger.may_move(&a).unwrap();
}

// rule 8
#[test]
fn moved_claim_is_charged_to_the_receiver() {
    let quota = Quota {
        regions: 1,
        claimed_bytes: 0,
        handles: 0,
        windows: 0,
        unpinned_spans: 0,
        host_memory: 0,
    };
    let (sender, receiver) = (Account::new("a", quota), Account::new("b", quota));
    let charges = vec![sender.charge(ChargeKind::Regions, 1).unwrap()];
    let budget = Budget::new(0);
    let (mut ledger, a) = Ledger::<()>::new(GRANULE, &budget, None, charges);
    ledger.may_move(&a).unwrap();
    let charge = receiver.charge(ChargeKind::Regions, 1).unwrap();
    ledger.recharge(a.claim(), vec![charge]);
    assert_eq!(sender.used(ChargeKind::Regions), 0);
    assert_eq!(receiver.used(ChargeKind::Regions), 1);
    ledger.release(a);
    assert_eq!(receiver.used(ChargeKind::Regions), 0);
}

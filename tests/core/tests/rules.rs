//! The rules of lock, lends, moves, life and pins, case by case.

use tombolo_core_tests::region::{
    Access, Account, Budget, ChargeKind, GRANULE, Handle, Holder, Ledger, LedgerError, LiveOwner,
    Quota, Rights, Span, WindowEnd, WindowId,
};

use Access::{Read, Write};

const READ_WRITE: Rights = Rights::ALL.without(Rights::SHARE);

fn region() -> (Ledger<()>, Handle) {
    let budget = Budget::new(8 * GRANULE);
    let commit = budget.commit(8).unwrap();
    Ledger::new(8 * GRANULE, &budget, Some(commit), Vec::new())
}

/// One granule of a region of eight.
fn granule(number: u64) -> Span {
    granules(number, 1)
}

fn granules(first: u64, count: u64) -> Span {
    Span::of_window(first * GRANULE, count * GRANULE, 8 * GRANULE).unwrap()
}

fn open(
    ledger: &mut Ledger<()>,
    handle: &Handle,
    span: Span,
    access: Access,
) -> Result<WindowId, LedgerError> {
    ledger.open(handle, access.needs(), span, access, Holder::Guest, ())
}

fn guard(
    ledger: &mut Ledger<()>,
    handle: &Handle,
    span: Span,
    access: Access,
) -> Result<WindowId, LedgerError> {
    ledger.open(handle, access.needs(), span, access, Holder::Host, ())
}

mod lock {
    use super::*;

    #[test]
    fn reads_go_together_and_a_write_goes_with_nothing() {
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

    #[test]
    fn windows_of_one_handle_conflict_with_each_other() {
        let (mut ledger, a) = region();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &a, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
    }

    #[test]
    fn windows_side_by_side_do_not_conflict() {
        let (mut ledger, a) = region();
        open(&mut ledger, &a, granules(1, 2), Write).unwrap();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        open(&mut ledger, &a, granule(3), Write).unwrap();
    }

    #[test]
    fn a_closed_window_lets_its_granules_go() {
        let (mut ledger, a) = region();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        assert_eq!(ledger.close(window, WindowEnd::Orderly), Some(()));
        open(&mut ledger, &a, granule(0), Write).unwrap();
        assert_eq!(ledger.close(window, WindowEnd::Died), None);
        assert!(!ledger.is_poisoned());
    }

    #[test]
    fn access_changes_within_the_lock_and_leaves_only_itself_out() {
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

    #[test]
    fn a_window_keeps_to_the_rights_of_its_handle() {
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

    #[test]
    fn freezing_needs_that_nobody_can_write_and_lasts() {
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

    #[test]
    fn freezing_needs_write_and_an_own_handle() {
        let (mut ledger, a) = region();
        let weak = ledger.restrict(&a, Rights::READ).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        for handle in [&weak, &lent] {
            assert_eq!(ledger.freeze(handle), Err(LedgerError::NotPermitted));
        }
    }
}

mod live {
    use super::*;
    use Access::{LiveRead, LiveWrite};

    /// A store in a strand.
    fn store(strand: u64, store: usize) -> LiveOwner {
        LiveOwner { strand, store }
    }

    fn two() -> (Ledger<()>, Handle, Handle) {
        let (mut ledger, a) = region();
        let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        (ledger, a, b)
    }

    #[test]
    fn stores_of_one_strand_go_together_in_every_live_way() {
        for one in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
            for other in [LiveRead(store(1, 2)), LiveWrite(store(1, 2))] {
                let (mut ledger, a, b) = two();
                open(&mut ledger, &a, granule(0), one).unwrap();
                open(&mut ledger, &b, granule(0), other).unwrap();
                // And a third.
                open(&mut ledger, &b, granule(0), LiveWrite(store(1, 3))).unwrap();
            }
        }
    }

    #[test]
    fn another_strand_is_refused_with_the_reason() {
        for one in [LiveRead(store(1, 1)), LiveWrite(store(1, 1))] {
            for other in [LiveRead(store(2, 2)), LiveWrite(store(2, 2))] {
                let (mut ledger, a, b) = two();
                open(&mut ledger, &a, granule(0), one).unwrap();
                let refused = open(&mut ledger, &b, granule(0), other);
                assert_eq!(refused, Err(LedgerError::OtherStrand));
                // Also where something else is in the way as well.
                let c = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
                open(&mut ledger, &c, granule(1), Write).unwrap();
                let refused = open(&mut ledger, &b, granules(0, 2), other);
                assert_eq!(refused, Err(LedgerError::OtherStrand));
                let refused = open(&mut ledger, &b, granule(1), other);
                assert_eq!(refused, Err(LedgerError::WouldBlock));
            }
        }
    }

    #[test]
    fn one_store_has_no_two_on_the_same_granule() {
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

    #[test]
    fn live_and_else_conflict_in_either_order() {
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

    #[test]
    fn access_becomes_live_and_ends_being_so_within_the_lock() {
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

    #[test]
    fn rights_are_those_of_read_and_write() {
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

    #[test]
    fn freezing_is_refused_while_anything_is_live_and_refuses_it() {
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

    #[test]
    fn who_dies_with_live_write_poisons_and_with_live_read_does_not() {
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

    #[test]
    fn lends_set_live_windows_aside_for_the_borrower_alone() {
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

    #[test]
    fn access_that_becomes_live_meets_another_strand_too() {
        let (mut ledger, a, _) = two();
        let window = open(&mut ledger, &a, granule(0), Read).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        open(&mut ledger, &lent, granule(0), LiveRead(store(2, 3))).unwrap();
        let refused = ledger.set_access(window, LiveRead(store(1, 1)));
        assert_eq!(refused, Err(LedgerError::OtherStrand));
        ledger.set_access(window, LiveRead(store(2, 1))).unwrap();
    }

    #[test]
    fn who_waits_for_a_live_window_is_waited_for_by_the_same_rule() {
        use std::time::Duration;
        use tombolo_core_tests::region::WaitStatus;
        let (mut ledger, a, b) = two();
        let now = Duration::ZERO;
        let c = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        let waiter = ledger.enqueue(&b, granule(0), LiveWrite(store(1, 2)), now);
        let waiter = waiter.unwrap();
        assert_eq!(ledger.poll_waiter(waiter, now), WaitStatus::Pending(None));
        ledger.set_access(window, LiveWrite(store(1, 1))).unwrap();
        assert_eq!(ledger.poll_waiter(waiter, now), WaitStatus::Ready);
        // It is reserved: for what goes with it as well.
        open(&mut ledger, &c, granule(0), LiveRead(store(1, 3))).unwrap();
        open(&mut ledger, &b, granule(0), LiveRead(store(1, 2))).unwrap();
    }
}

mod lends {
    use super::*;

    #[test]
    fn the_lenders_windows_are_set_aside_for_the_borrower_alone() {
        let (mut ledger, a) = region();
        let other = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &other, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
        open(&mut ledger, &lent, granule(0), Write).unwrap();
        // They are there and have their locks, though.
        let refused = ledger.set_access(window, Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }

    #[test]
    fn windows_of_the_lenders_other_claims_are_not_set_aside() {
        let (mut ledger, a) = region();
        let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        open(&mut ledger, &second, granule(0), Write).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let refused = open(&mut ledger, &lent, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }

    #[test]
    fn windows_by_any_of_the_lenders_handles_of_the_claim_are_set_aside() {
        let (mut ledger, a) = region();
        let weak = ledger.restrict(&a, READ_WRITE).unwrap();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        open(&mut ledger, &weak, granule(1), Write).unwrap();
        let lent = ledger.lend(&weak, READ_WRITE).unwrap();
        let of_lent = ledger.restrict(&lent, READ_WRITE).unwrap();
        open(&mut ledger, &of_lent, granules(0, 2), Write).unwrap();
    }

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

    #[test]
    fn lending_on_sets_the_whole_chain_aside() {
        let (mut ledger, a) = region();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        let b = ledger.lend(&a, READ_WRITE).unwrap();
        open(&mut ledger, &b, granule(0), Write).unwrap();
        let c = ledger.lend(&b, READ_WRITE).unwrap();
        let window = open(&mut ledger, &c, granule(0), Write).unwrap();
        // Not the other way round: B's and A's new windows meet C's.
        for lender in [&a, &b] {
            let refused = open(&mut ledger, lender, granule(0), Read);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
        ledger.set_access(window, Read).unwrap();
        ledger.set_access(window, Write).unwrap();
    }

    #[test]
    fn cousins_conflict() {
        let (mut ledger, a) = region();
        let b = ledger.lend(&a, READ_WRITE).unwrap();
        let c = ledger.lend(&a, READ_WRITE).unwrap();
        let on = ledger.lend(&b, READ_WRITE).unwrap();
        open(&mut ledger, &c, granule(0), Write).unwrap();
        let refused = open(&mut ledger, &on, granule(0), Write);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }

    #[test]
    fn what_a_lender_opens_while_the_lend_goes_on_without_it_is_not_set_aside() {
        let (mut ledger, a) = region();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        // The lender's call is dropped: its windows go, and it goes on.
        ledger.close(window, WindowEnd::Orderly);
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &lent, granule(0), access);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
        let on = ledger.lend(&lent, READ_WRITE).unwrap();
        let refused = open(&mut ledger, &on, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        // What it lends after that sets aside what it has then.
        let later = ledger.lend(&a, READ_WRITE).unwrap();
        open(&mut ledger, &later, granule(0), Write).unwrap();
        ledger.close(window, WindowEnd::Orderly);
    }

    #[test]
    fn a_lent_handle_never_has_share_and_does_not_leave_its_holder() {
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

    #[test]
    fn rights_do_not_grow_on_the_way() {
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

    #[test]
    fn a_revoked_handle_and_what_was_restricted_from_it_are_gone() {
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

    #[test]
    fn a_lend_is_over_when_it_is_revoked_and_its_windows_are_closed() {
        let (mut ledger, a) = region();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let lend = lent.lend().unwrap();
        let window = open(&mut ledger, &lent, granule(0), Read).unwrap();
        ledger.release(lent);
        assert!(!ledger.is_over(lend));
        ledger.revoke(lend);
        assert!(!ledger.is_over(lend));
        // It has ended for the borrower, who can only let go.
        for access in [Read, Write] {
            assert_eq!(ledger.set_access(window, access), Err(LedgerError::Gone));
        }
        ledger.close(window, WindowEnd::Orderly);
        assert!(ledger.is_over(lend));
    }

    #[test]
    fn an_ended_lend_is_not_over_before_what_was_lent_on_from_it() {
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
        // What lives goes on, above it too what is set aside.
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

    #[test]
    fn a_guard_of_the_host_program_blocks_lend_and_move_and_is_never_set_aside() {
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
}

mod moves {
    use super::*;

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

    #[test]
    fn moving_needs_share() {
        let (mut ledger, a) = region();
        let unshared = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
        assert_eq!(ledger.may_move(&unshared), Err(LedgerError::NotPermitted));
    }

    #[test]
    fn a_lent_claim_does_not_move_and_another_does() {
        let (mut ledger, a) = region();
        let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        let lent = ledger.lend(&a, Rights::READ).unwrap();
        assert_eq!(ledger.may_move(&a), Err(LedgerError::WouldBlock));
        ledger.may_move(&second).unwrap();
        ledger.revoke(lent.lend().unwrap());
        // Also where the borrower keeps the handle.
        ledger.may_move(&a).unwrap();
    }

    #[test]
    fn a_moved_claim_is_on_the_receivers_account() {
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
}

mod life {
    use super::*;

    #[test]
    fn a_claim_lives_by_any_handle_of_it() {
        let (mut ledger, a) = region();
        let weak = ledger.restrict(&a, Rights::READ).unwrap();
        ledger.release(a);
        assert_eq!(ledger.claims(), 1);
        open(&mut ledger, &weak, granule(0), Read).unwrap();
    }

    #[test]
    fn a_window_keeps_its_claim_alive_after_the_handle() {
        let (mut ledger, a) = region();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        ledger.release(a);
        assert_eq!(ledger.claims(), 1);
        ledger.set_access(window, Read).unwrap();
        ledger.set_access(window, Write).unwrap();
        ledger.close(window, WindowEnd::Orderly);
        assert_eq!(ledger.claims(), 0);
    }

    #[test]
    fn a_lent_handle_keeps_the_claim_of_a_lender_that_ended() {
        let (mut ledger, a) = region();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        ledger.release(a);
        assert_eq!(ledger.claims(), 1);
        open(&mut ledger, &lent, granule(0), Write).unwrap();
    }

    #[test]
    fn a_revoked_handle_keeps_no_claim() {
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

    #[test]
    fn a_lend_that_nobody_has_anything_of_ends_after_its_claim() {
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

    #[test]
    fn a_writer_that_died_poisons_until_somebody_with_write_clears() {
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
        // Windows that exist stay as they are.
        ledger.set_access(kept, Write).unwrap();
        assert_eq!(ledger.clear_poison(&weak), Err(LedgerError::NotPermitted));
        assert!(ledger.is_poisoned());
        ledger.clear_poison(&a).unwrap();
        ledger.clear_poison(&a).unwrap();
        open(&mut ledger, &weak, granule(0), Read).unwrap();
    }

    #[test]
    fn a_reader_that_died_poisons_nothing() {
        let (mut ledger, a) = region();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        ledger.set_access(window, Read).unwrap();
        ledger.close(window, WindowEnd::Died);
        assert!(!ledger.is_poisoned());
    }

    #[test]
    fn poison_outlives_the_claim_of_the_dead() {
        let (mut ledger, a) = region();
        let dead = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
        let window = open(&mut ledger, &dead, granule(0), Write).unwrap();
        ledger.release(dead);
        ledger.close(window, WindowEnd::Died);
        assert_eq!(ledger.claims(), 1);
        let refused = open(&mut ledger, &a, granule(7), Read);
        assert_eq!(refused, Err(LedgerError::Poisoned));
    }
}

mod pins {
    use std::sync::{Arc, Mutex};

    use tombolo_core_tests::region::{
        Charge, CommitCharge, LedgerLock, PinError, Pinned, PurgeRequest, Purgeable, SpanError,
    };

    use super::*;

    use Pinned::{Intact, Lost};

    /// A region that notes what is given back to the kernel.
    struct Region {
        lock: LedgerLock<()>,
        /// The first granule of each span, and the first after it.
        given_back: Mutex<Vec<(u64, u64)>>,
    }

    impl Purgeable for Region {
        fn purge(&self, request: PurgeRequest) -> CommitCharge {
            self.lock.purge(request, |span| {
                let range = span.granules();
                self.given_back
                    .lock()
                    .unwrap()
                    .push((range.start, range.end));
            })
        }
    }

    impl Region {
        fn pin(&self, handle: &Handle, span: Span) -> Result<Pinned, PinError> {
            let (pinned, _, _) = self.lock.pin(handle, span)?;
            Ok(pinned)
        }

        fn unpin(&self, handle: &Handle, span: Span) -> Result<(), PinError> {
            self.lock.lock().unpin(handle, span).map(|_| ())
        }

        /// The granules of the region that a claim pins.
        fn pinned(&self, handle: &Handle) -> Vec<u64> {
            let ledger = self.lock.lock();
            let pins = |at: &u64| ledger.is_pinned(handle, granule(*at)).unwrap();
            (0..8).filter(pins).collect()
        }

        /// What was given back since this was last asked.
        fn given_back(&self) -> Vec<(u64, u64)> {
            std::mem::take(&mut self.given_back.lock().unwrap())
        }
    }

    fn create(
        budget: &Arc<Budget>,
        id: u64,
        size: u64,
        pinned: bool,
        charges: Vec<Charge>,
    ) -> (Arc<Region>, Handle) {
        let all = size.div_ceil(GRANULE);
        let commit = pinned.then(|| budget.commit(all).unwrap());
        let (ledger, handle) = Ledger::new(size, budget, commit, charges);
        let region = Arc::new(Region {
            lock: LedgerLock::new(id, budget, ledger),
            given_back: Mutex::default(),
        });
        let purge: Arc<dyn Purgeable> = region.clone();
        budget.register(id, Arc::downgrade(&purge));
        (region, handle)
    }

    /// A region of eight granules, pinned, and a budget in which it fits.
    fn pinned_region() -> (Arc<Budget>, Arc<Region>, Handle) {
        let budget = Budget::new(8 * GRANULE);
        let (region, a) = create(&budget, 0, 8 * GRANULE, true, Vec::new());
        (budget, region, a)
    }

    fn committed(budget: &Budget) -> u64 {
        budget.usage().committed / GRANULE
    }

    fn purgeable(budget: &Budget) -> u64 {
        budget.usage().purgeable / GRANULE
    }

    fn is_exhausted<T>(outcome: Result<T, PinError>, limit: &str) -> bool {
        matches!(outcome, Err(PinError::Exhausted(it)) if it.limit == limit)
    }

    fn account(unpinned_spans: u64) -> Arc<Account> {
        let quota = Quota {
            regions: 8,
            claimed_bytes: 64 * GRANULE,
            handles: 0,
            windows: 0,
            unpinned_spans,
            host_memory: 0,
        };
        Account::new("a guest", quota)
    }

    #[test]
    fn a_region_created_unpinned_costs_nothing_until_it_is_pinned() {
        let budget = Budget::new(2 * GRANULE);
        let (region, a) = create(&budget, 0, 8 * GRANULE, false, Vec::new());
        assert_eq!((committed(&budget), region.pinned(&a)), (0, vec![]));
        assert_eq!(region.pin(&a, granules(3, 2)), Ok(Intact));
        assert_eq!((committed(&budget), region.pinned(&a)), (2, vec![3, 4]));
        assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
        assert_eq!((committed(&budget), region.pinned(&a)), (2, vec![3, 4]));
    }

    #[test]
    fn a_duplicate_pins_what_its_source_pins_at_no_cost() {
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

    #[test]
    fn unpinning_takes_away_ones_own_claim_only_and_needs_no_right() {
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

    #[test]
    fn each_claim_is_told_once_of_a_loss_and_a_duplicate_of_what_its_source_was_not_told() {
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

    #[test]
    fn a_loss_is_told_for_the_span_that_is_asked_for() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granules(0, 8)).unwrap();
        assert_eq!((budget.purge(3), region.given_back()), (3, vec![(0, 3)]));
        assert_eq!(region.pin(&a, granules(3, 5)), Ok(Intact));
        // Nested, then what is left of it on both sides.
        assert_eq!(region.pin(&a, granule(1)), Ok(Lost));
        assert_eq!(region.pin(&a, granule(1)), Ok(Intact));
        assert_eq!(region.pin(&a, granules(1, 2)), Ok(Lost));
        assert_eq!(region.pin(&a, granules(0, 2)), Ok(Lost));
        assert_eq!(region.pin(&a, granules(0, 8)), Ok(Intact));
    }

    #[test]
    fn spans_that_overlap_touch_or_lie_in_each_other_keep_exact_state() {
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

    #[test]
    fn what_is_unpinned_beside_what_was_purged_is_neither_lost_nor_forgotten() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granule(1)).unwrap();
        assert_eq!(budget.purge(1), 1);
        // On both sides of it, and over it.
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

    #[test]
    fn what_was_purged_is_paid_for_again_when_it_is_pinned() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granules(0, 8)).unwrap();
        assert_eq!((budget.purge(4), committed(&budget)), (4, 4));
        let others = budget.commit(3).unwrap();
        assert!(is_exhausted(region.pin(&a, granules(0, 8)), "budget"));
        assert_eq!(region.pinned(&a), []);
        drop(others);
        assert_eq!(region.pin(&a, granules(0, 8)), Ok(Lost));
        assert_eq!(committed(&budget), 8);
    }

    #[test]
    fn what_is_already_there_is_not_purged_to_make_room_for_the_rest() {
        let budget = Budget::new(4 * GRANULE);
        let (region, a) = create(&budget, 0, 8 * GRANULE, false, Vec::new());
        region.pin(&a, granules(0, 4)).unwrap();
        // The least recently unpinned is among it.
        region.unpin(&a, granules(2, 2)).unwrap();
        region.unpin(&a, granules(0, 2)).unwrap();
        assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
        assert_eq!(region.given_back(), [(0, 2)]);
        assert_eq!((committed(&budget), purgeable(&budget)), (4, 0));
    }

    #[test]
    fn no_length_means_to_the_end_also_beyond_4_gib() {
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

    #[test]
    fn spans_that_are_misaligned_or_end_beyond_the_region_are_refused() {
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

    #[test]
    fn purging_goes_by_least_recently_unpinned_over_regions_as_far_as_is_needed() {
        let budget = Budget::new(16 * GRANULE);
        let (one, a) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
        let (two, b) = create(&budget, 2, 8 * GRANULE, true, Vec::new());
        one.unpin(&a, granules(4, 2)).unwrap();
        two.unpin(&b, granules(0, 4)).unwrap();
        one.unpin(&a, granules(0, 2)).unwrap();
        // These keep their places.
        one.unpin(&a, granules(0, 8)).unwrap();
        two.unpin(&b, granules(0, 4)).unwrap();
        let (mut order, mut rooms) = (Vec::new(), Vec::new());
        for granules in [1, 2, 3, 1, 5] {
            // As a region that is created would.
            rooms.push(budget.commit(granules).unwrap());
            assert_eq!(committed(&budget), 16);
            let given = [&one, &two].map(|region| region.given_back());
            let granules = |(start, end)| start..end;
            order.extend(
                given.map(|spans| spans.into_iter().flat_map(granules).collect::<Vec<_>>()),
            );
        }
        let expected: [&[u64]; 10] = [
            &[4],
            &[],
            &[5],
            &[0],
            &[],
            &[1, 2, 3],
            &[0],
            &[],
            &[1, 2, 3, 6, 7],
            &[],
        ];
        assert_eq!(order, expected);
        assert!(budget.commit(1).is_err());
    }

    #[test]
    fn pinning_and_unpinning_is_what_makes_a_place_recent() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granule(5)).unwrap();
        region.unpin(&a, granule(6)).unwrap();
        region.pin(&a, granule(5)).unwrap();
        region.unpin(&a, granule(5)).unwrap();
        assert_eq!((budget.purge(1), region.given_back()), (1, vec![(6, 7)]));
        // Nor is it the first claim's unpinning that counts, but the last one's.
        let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
        let b = b.unwrap();
        region.unpin(&a, granule(0)).unwrap();
        region.unpin(&a, granule(1)).unwrap();
        region.unpin(&b, granule(1)).unwrap();
        region.unpin(&b, granule(0)).unwrap();
        assert_eq!(budget.purge(3), 3);
        assert_eq!(region.given_back(), [(5, 6), (1, 2), (0, 1)]);
    }

    #[test]
    fn a_claim_that_ends_unpins_and_a_window_keeps_what_its_claim_pins() {
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

    #[test]
    fn the_end_gives_back_what_is_pinned_unpinned_and_half_purged() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granules(2, 6)).unwrap();
        assert_eq!((budget.purge(3), committed(&budget)), (3, 5));
        let mut ledger = region.lock.lock();
        ledger.release(a);
        drop(ledger.release_commit());
        drop(ledger);
        assert_eq!((committed(&budget), purgeable(&budget)), (0, 0));
        assert_eq!(budget.purge(8), 0);
        assert_eq!(budget.commit(8).unwrap().granules(), 8);
    }

    #[test]
    fn what_is_lent_is_neither_pinned_nor_unpinned_by_anybody() {
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

    #[test]
    fn a_guard_of_the_host_program_is_never_hidden() {
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

    #[test]
    fn a_window_and_a_guard_need_that_the_claim_pins_all_of_it() {
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

    #[test]
    fn a_hidden_window_keeps_its_lock() {
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

    #[test]
    fn freezing_needs_that_the_claim_pins_the_whole_region() {
        let (_, region, a) = pinned_region();
        region.unpin(&a, granule(7)).unwrap();
        let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
        region.pin(&b.unwrap(), granule(7)).unwrap();
        assert_eq!(region.lock.lock().freeze(&a), Err(LedgerError::Unpinned));
        region.pin(&a, granule(7)).unwrap();
        region.lock.lock().freeze(&a).unwrap();
    }

    #[test]
    fn a_frozen_region_is_purged_whole_or_not_at_all() {
        let budget = Budget::new(16 * GRANULE);
        let (frozen, a) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
        let (other, b) = create(&budget, 2, 8 * GRANULE, true, Vec::new());
        frozen.lock.lock().freeze(&a).unwrap();
        frozen.unpin(&a, granules(0, 7)).unwrap();
        assert_eq!((purgeable(&budget), budget.purge(8)), (0, 0));
        other.unpin(&b, granules(0, 2)).unwrap();
        frozen.unpin(&a, granule(7)).unwrap();
        assert_eq!(purgeable(&budget), 10);
        // Its last part was unpinned last.
        assert_eq!((budget.purge(1), frozen.given_back()), (1, vec![]));
        assert_eq!(
            (budget.purge(2), other.given_back()),
            (9, vec![(0, 1), (1, 2)])
        );
        assert_eq!(frozen.given_back(), [(0, 7), (7, 8)]);
        assert_eq!(committed(&budget), 6);
    }

    #[test]
    fn a_purged_frozen_region_answers_purged_and_nothing_is_charged() {
        let account = account(4);
        let budget = Budget::new(8 * GRANULE);
        let kinds = [
            ChargeKind::Regions,
            ChargeKind::ClaimedBytes,
            ChargeKind::UnpinnedSpans,
        ];
        let amounts = [1, 8 * GRANULE, 0];
        let charge = |kind: usize| account.charge(kinds[kind], amounts[kind]).unwrap();
        let charges = vec![charge(0), charge(1), charge(2)];
        let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
        let weak = region.lock.lock().restrict(&a, Rights::READ).unwrap();
        let window = open(&mut region.lock.lock(), &a, granule(0), Read).unwrap();
        region.lock.lock().freeze(&a).unwrap();
        region.unpin(&a, granules(0, 8)).unwrap();
        assert_eq!(account.used(ChargeKind::UnpinnedSpans), 1);
        // One granule is needed, and all of it goes.
        drop(budget.commit(1).unwrap());
        assert_eq!(committed(&budget), 0);
        let purged = Err(PinError::Refused(LedgerError::Purged));
        assert_eq!(region.unpin(&a, granule(0)), purged);
        assert_eq!(region.pin(&a, granule(0)).map(|_| ()), purged);
        let mut ledger = region.lock.lock();
        assert!(ledger.is_purged());
        let purged = Some(LedgerError::Purged);
        for handle in [&a, &weak] {
            let refused = ledger.is_pinned(handle, granule(0)).err();
            assert_eq!(refused, purged);
            let refused = open(&mut ledger, handle, granule(0), Read).err();
            assert_eq!(refused, purged);
            let refused = guard(&mut ledger, handle, granule(0), Read).err();
            assert_eq!(refused, purged);
            let refused = ledger.duplicate(handle, Rights::READ, Vec::new()).err();
            assert_eq!(refused, purged);
            assert_eq!(ledger.restrict(handle, Rights::READ).err(), purged);
            assert_eq!(ledger.lend(handle, Rights::READ).err(), purged);
            assert_eq!(ledger.may_move(handle).err(), purged);
            assert_eq!(ledger.freeze(handle).err(), purged);
            assert_eq!(ledger.clear_poison(handle).err(), purged);
        }
        assert_eq!(ledger.set_access(window, Read).err(), purged);
        let used = kinds.map(|kind| account.used(kind));
        assert_eq!(used, [1, 0, 0]);
    }

    #[test]
    fn a_smaller_budget_purges_what_is_over_it_and_commits_no_more() {
        let (budget, region, a) = pinned_region();
        region.unpin(&a, granules(0, 3)).unwrap();
        assert_eq!(budget.resize(6 * GRANULE), 0);
        assert_eq!((committed(&budget), region.given_back()), (6, vec![(0, 2)]));
        assert_eq!(budget.resize(3 * GRANULE), 2);
        assert_eq!(committed(&budget), 5);
        assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
        // What is over it goes as soon as nobody pins it.
        region.unpin(&a, granule(3)).unwrap();
        assert_eq!((committed(&budget), purgeable(&budget)), (4, 0));
        assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
        // And no more than that.
        region.unpin(&a, granules(4, 3)).unwrap();
        assert_eq!((committed(&budget), purgeable(&budget)), (3, 2));
        assert_eq!(region.pin(&a, granules(5, 2)), Ok(Intact));
        assert!(is_exhausted(region.pin(&a, granule(4)), "budget"));
    }

    #[test]
    fn a_claim_that_ends_over_budget_gives_back_what_is_over_it() {
        let (budget, region, a) = pinned_region();
        let b = region
            .lock
            .lock()
            .duplicate(&a, Rights::READ, Vec::new())
            .unwrap();
        region.unpin(&b, granules(0, 4)).unwrap();
        assert_eq!(budget.resize(6 * GRANULE), 2);
        region.lock.lock().release(a);
        assert_eq!((committed(&budget), purgeable(&budget)), (6, 2));
        assert_eq!(region.given_back(), [(0, 2)]);
        assert_eq!(region.pin(&b, granules(2, 2)), Ok(Intact));
    }

    #[test]
    fn a_refused_pin_changes_nothing_and_purges_nothing() {
        let budget = Budget::new(10 * GRANULE);
        let (other, b) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
        other.unpin(&b, granules(0, 8)).unwrap();
        let account = account(1);
        let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 1).unwrap()];
        let (region, a) = create(&budget, 2, 8 * GRANULE, false, charges);
        let refused = region.pin(&a, granules(1, 4));
        assert!(is_exhausted(refused, "unpinned-spans"));
        assert_eq!((committed(&budget), region.pinned(&a)), (8, vec![]));
        assert_eq!(other.given_back(), []);
        region.pin(&a, granules(0, 4)).unwrap();
        assert_eq!((committed(&budget), other.given_back()), (10, vec![(0, 2)]));
    }

    #[test]
    fn runs_are_counted_and_fewer_of_them_are_never_refused() {
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

    #[test]
    fn changes_are_undone_although_somebody_took_what_they_gave_back() {
        let (budget, account) = (Budget::new(8 * GRANULE), account(2));
        let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 0).unwrap()];
        let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
        region.unpin(&a, granule(0)).unwrap();
        region.unpin(&a, granule(2)).unwrap();
        let mut ledger = region.lock.lock();
        let undo = ledger.unpin(&a, granule(1)).unwrap();
        // Another region's claim on the same account.
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

    #[test]
    fn a_pin_that_is_undone_is_told_again() {
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
}

mod waits {
    use std::time::Duration;

    use tombolo_core_tests::region::{RESERVATION, WaitStatus, WaiterId};

    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn wait(ledger: &mut Ledger<()>, handle: &Handle, access: Access, now: u64) -> WaiterId {
        let waiter = ledger.enqueue(handle, granule(0), access, at(now)).unwrap();
        ledger.advance(at(now));
        waiter
    }

    fn close(ledger: &mut Ledger<()>, window: WindowId, now: u64) -> bool {
        ledger.close(window, WindowEnd::Orderly).unwrap();
        ledger.advance(at(now))
    }

    fn ready(ledger: &mut Ledger<()>, waiter: WaiterId, now: u64) -> bool {
        ledger.poll_waiter(waiter, at(now)) == WaitStatus::Ready
    }

    fn three() -> (Ledger<()>, [Handle; 3]) {
        let (mut ledger, a) = region();
        let [b, c] = [(); 2].map(|()| ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap());
        (ledger, [a, b, c])
    }

    #[test]
    fn readers_that_overlap_do_not_starve_a_writer() {
        let (mut ledger, [a, b, c]) = three();
        let one = open(&mut ledger, &a, granule(0), Read).unwrap();
        let writer = wait(&mut ledger, &c, Write, 0);
        assert!(!ready(&mut ledger, writer, 1));
        // Neither another, nor the one that reads already, comes in between.
        for reader in [&a, &b] {
            let refused = open(&mut ledger, reader, granule(0), Read);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
        }
        open(&mut ledger, &b, granule(1), Read).unwrap();
        assert!(close(&mut ledger, one, 2));
        assert!(ready(&mut ledger, writer, 2));
        let refused = open(&mut ledger, &a, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        open(&mut ledger, &c, granule(0), Write).unwrap();
        assert!(ready(&mut ledger, writer, 3), "it has what it waited for");
    }

    #[test]
    fn writers_do_not_starve_a_reader() {
        let (mut ledger, [a, b, c]) = three();
        let held = open(&mut ledger, &a, granule(0), Write).unwrap();
        let reader = wait(&mut ledger, &b, Read, 0);
        let writer = wait(&mut ledger, &c, Write, 0);
        close(&mut ledger, held, 1);
        assert!(ready(&mut ledger, reader, 1));
        assert!(!ready(&mut ledger, writer, 1));
        // Who waits may not take what another has waited for longer.
        let refused = open(&mut ledger, &c, granule(0), Write);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        let read = open(&mut ledger, &b, granule(0), Read).unwrap();
        close(&mut ledger, read, 2);
        assert!(ready(&mut ledger, writer, 2));
    }

    #[test]
    fn a_reservation_lapses_by_itself_and_its_waiter_is_the_last_then() {
        let (mut ledger, [a, b, c]) = three();
        let first = wait(&mut ledger, &a, Write, 0);
        assert!(ready(&mut ledger, first, 0));
        let second = wait(&mut ledger, &b, Write, 50);
        let lapse = WaitStatus::Pending(Some(RESERVATION));
        assert_eq!(ledger.poll_waiter(second, at(50)), lapse);
        let end = u64::try_from(RESERVATION.as_millis()).unwrap();
        assert!(ledger.advance(at(end)), "it is told");
        assert!(!ready(&mut ledger, first, end));
        assert!(ready(&mut ledger, second, end));
        // Who does not ask again is in nobody's way.
        assert!(ledger.advance(at(2 * end)));
        assert!(ready(&mut ledger, first, 2 * end));
        assert!(ledger.advance(at(3 * end)));
        open(&mut ledger, &c, granule(0), Write).unwrap();
    }

    #[test]
    fn reservations_that_nobody_looks_at_end_one_after_the_other() {
        let (mut ledger, [a, b, c]) = three();
        for handle in [&a, &b] {
            wait(&mut ledger, handle, Write, 0);
        }
        let end = u64::try_from(RESERVATION.as_millis()).unwrap();
        ledger.advance(at(2 * end - 1));
        let refused = open(&mut ledger, &c, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        ledger.advance(at(2 * end));
        open(&mut ledger, &c, granule(0), Read).unwrap();
    }

    #[test]
    fn access_can_be_given_up_but_not_gained_before_a_waiter() {
        let (mut ledger, [a, b, _]) = three();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        let waiter = wait(&mut ledger, &b, Read, 0);
        ledger.set_access(window, Read).unwrap();
        assert!(ledger.advance(at(1)));
        assert!(ready(&mut ledger, waiter, 1));
        let refused = ledger.set_access(window, Write);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }

    #[test]
    fn guards_of_the_host_program_wait_their_turn() {
        let (mut ledger, [a, b, _]) = three();
        let window = open(&mut ledger, &a, granule(0), Read).unwrap();
        wait(&mut ledger, &b, Write, 0);
        let refused = guard(&mut ledger, &a, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        close(&mut ledger, window, 1);
        let refused = guard(&mut ledger, &a, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        guard(&mut ledger, &b, granule(0), Write).unwrap();
    }

    #[test]
    fn a_dead_claim_and_an_ended_lend_wait_no_more() {
        let (mut ledger, [a, b, c]) = three();
        let held = open(&mut ledger, &a, granule(0), Read).unwrap();
        wait(&mut ledger, &b, Write, 0);
        ledger.release(b);
        assert!(ledger.advance(at(1)), "others are told");
        let read = open(&mut ledger, &c, granule(0), Read).unwrap();
        close(&mut ledger, read, 1);
        let lent = ledger.lend(&c, READ_WRITE).unwrap();
        let waiter = wait(&mut ledger, &lent, Write, 2);
        ledger.revoke(lent.lend().unwrap());
        assert!(ledger.advance(at(3)));
        assert!(ready(&mut ledger, waiter, 3));
        open(&mut ledger, &c, granule(0), Read).unwrap();
        close(&mut ledger, held, 4);
    }

    #[test]
    fn one_claim_waits_for_one_window() {
        let (mut ledger, [a, b, c]) = three();
        let held = open(&mut ledger, &a, granule(0), Write).unwrap();
        let first = wait(&mut ledger, &b, Write, 0);
        let other = wait(&mut ledger, &c, Write, 0);
        let second = wait(&mut ledger, &b, Read, 0);
        assert!(ready(&mut ledger, first, 0), "it has left its place");
        close(&mut ledger, held, 1);
        assert!(ready(&mut ledger, other, 1));
        assert!(!ready(&mut ledger, second, 1));
        ledger.dequeue(other);
        assert!(ledger.advance(at(2)));
        assert!(ready(&mut ledger, second, 2));
    }

    #[test]
    fn what_waiting_does_not_cure_is_refused_and_told() {
        let (mut ledger, [a, b, c]) = three();
        let weak = ledger.restrict(&a, Rights::READ).unwrap();
        let refused = ledger.enqueue(&weak, granule(0), Write, at(0));
        assert_eq!(refused, Err(LedgerError::NotPermitted));
        let held = open(&mut ledger, &a, granule(0), Read).unwrap();
        let waiter = wait(&mut ledger, &b, Write, 0);
        ledger.freeze(&c).unwrap();
        assert!(ledger.advance(at(1)));
        assert!(ready(&mut ledger, waiter, 1));
        let refused = ledger.enqueue(&b, granule(0), Write, at(1));
        assert_eq!(refused, Err(LedgerError::Frozen));
        close(&mut ledger, held, 2);

        let (mut ledger, [a, b, _]) = three();
        let held = open(&mut ledger, &a, granule(0), Write).unwrap();
        let waiter = wait(&mut ledger, &b, Read, 0);
        ledger.close(held, WindowEnd::Died).unwrap();
        assert!(ledger.advance(at(1)));
        assert!(ready(&mut ledger, waiter, 1));
        let refused = ledger.enqueue(&b, granule(0), Read, at(1));
        assert_eq!(refused, Err(LedgerError::Poisoned));
    }

    #[test]
    fn who_waits_for_a_lender_does_not_keep_the_borrower_waiting() {
        let (mut ledger, [a, b, c]) = three();
        let held = open(&mut ledger, &a, granule(0), Write).unwrap();
        let waiter = wait(&mut ledger, &b, Write, 0);
        // This one waits for the other one.
        let next = ledger.enqueue(&c, granules(0, 2), Write, at(0)).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let of_lent = wait(&mut ledger, &lent, Write, 1);
        assert!(ready(&mut ledger, of_lent, 1));
        let window = open(&mut ledger, &lent, granules(0, 2), Write).unwrap();
        close(&mut ledger, window, 2);
        ledger.revoke(lent.lend().unwrap());
        close(&mut ledger, held, 3);
        assert!(ready(&mut ledger, waiter, 3));
        assert!(!ready(&mut ledger, next, 3));
    }

    #[test]
    fn who_waits_for_itself_is_in_nobodys_way() {
        let (mut ledger, [a, b, _]) = three();
        let window = open(&mut ledger, &a, granule(0), Read).unwrap();
        let waiter = wait(&mut ledger, &a, Write, 0);
        open(&mut ledger, &b, granule(0), Read).unwrap();
        let refused = open(&mut ledger, &b, granule(0), Write);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        assert!(!ready(&mut ledger, waiter, 1));
        close(&mut ledger, window, 2);
        let refused = open(&mut ledger, &b, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock), "now it is");
    }

    #[test]
    fn a_moved_claim_waits_no_more() {
        let (mut ledger, [a, b, _]) = three();
        open(&mut ledger, &a, granule(0), Read).unwrap();
        let waiter = wait(&mut ledger, &b, Write, 0);
        ledger.recharge(b.claim(), Vec::new());
        assert!(ledger.advance(at(1)));
        assert!(ready(&mut ledger, waiter, 1));
    }

    fn duplicates(ledger: &mut Ledger<()>, of: &Handle, count: usize) -> Vec<Handle> {
        let duplicate = |_| ledger.duplicate(of, Rights::ALL, Vec::new()).unwrap();
        (0..count).map(duplicate).collect()
    }

    #[test]
    fn who_waits_behind_one_that_waits_for_itself_is_not_passed() {
        let (mut ledger, [a, b, c]) = three();
        let window = open(&mut ledger, &a, granule(0), Read).unwrap();
        wait(&mut ledger, &a, Write, 0);
        let writer = wait(&mut ledger, &b, Write, 0);
        let refused = open(&mut ledger, &c, granule(0), Read);
        assert_eq!(
            refused,
            Err(LedgerError::WouldBlock),
            "the writer would starve"
        );
        close(&mut ledger, window, 1);
        assert!(!ready(&mut ledger, writer, 1), "the other came first");
    }

    #[test]
    fn many_turns_come_in_steps_and_each_waiter_hears_of_its_own() {
        let (mut ledger, [a, b, _]) = three();
        let held = open(&mut ledger, &a, granule(0), Write).unwrap();
        let readers = duplicates(&mut ledger, &b, 350);
        let waiters: Vec<WaiterId> = readers
            .iter()
            .map(|reader| wait(&mut ledger, reader, Read, 0))
            .collect();
        let elsewhere = ledger.enqueue(&b, granule(1), Write, at(0)).unwrap();
        ledger.advance(at(0));
        ledger.close(held, WindowEnd::Orderly).unwrap();
        let (mut steps, mut told) = (1, Vec::new());
        while ledger.advance_some(at(1)) {
            steps += 1;
            // Others may do something in between, and no reader is passed.
            let refused = open(&mut ledger, &a, granule(0), Write);
            assert_eq!(refused, Err(LedgerError::WouldBlock));
            told.extend(ledger.take_woken());
        }
        told.extend(ledger.take_woken());
        assert!(steps > 3, "{steps} steps");
        assert_eq!(told, waiters);
        assert!(!told.contains(&elsewhere));
        assert!(!ledger.advance_some(at(2)) && ledger.take_woken().is_empty());
    }

    #[test]
    fn borrower_looks_at_so_many_in_front_and_waits_for_no_more() {
        for (count, passes) in [(63, false), (64, true)] {
            let (mut ledger, [a, b, c]) = three();
            open(&mut ledger, &a, granule(0), Write).unwrap();
            open(&mut ledger, &c, granule(1), Read).unwrap();
            let others = duplicates(&mut ledger, &b, count);
            for other in &others {
                wait(&mut ledger, other, Read, 0);
            }
            // This one waits for somebody else.
            ledger.enqueue(&b, granule(1), Write, at(0)).unwrap();
            ledger.advance(at(0));
            let lent = ledger.lend(&a, READ_WRITE).unwrap();
            let opened = open(&mut ledger, &lent, granules(0, 2), Read);
            assert_eq!(opened.is_ok(), passes, "behind {count}: {opened:?}");
        }
    }
}

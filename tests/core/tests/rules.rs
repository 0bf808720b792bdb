//! The rules of lock, lends, moves and life, case by case.

use tombolo_core_tests::region::{
    Access, Account, End, GRANULE, Handle, Holder, Kind, Ledger, Quota, Refusal, Rights, Span,
    WindowId,
};

use Access::{Read, Write};

const READ_WRITE: Rights = Rights::ALL.without(Rights::SHARE);

fn region() -> (Ledger<()>, Handle) {
    Ledger::new(Vec::new())
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
) -> Result<WindowId, Refusal> {
    ledger.open(handle, access.needs(), span, access, Holder::Guest, ())
}

fn guard(
    ledger: &mut Ledger<()>,
    handle: &Handle,
    span: Span,
    access: Access,
) -> Result<WindowId, Refusal> {
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
        assert_eq!(refused, Err(Refusal::WouldBlock));
        open(&mut ledger, &b, granule(1), Write).unwrap();
        let refused = open(&mut ledger, &a, granules(0, 8), Read);
        assert_eq!(refused, Err(Refusal::WouldBlock));
    }

    #[test]
    fn windows_of_one_handle_conflict_with_each_other() {
        let (mut ledger, a) = region();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &a, granule(0), access);
            assert_eq!(refused, Err(Refusal::WouldBlock));
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
        assert_eq!(ledger.close(window, End::Orderly), Some(()));
        open(&mut ledger, &a, granule(0), Write).unwrap();
        assert_eq!(ledger.close(window, End::Died), None);
        assert!(!ledger.is_poisoned());
    }

    #[test]
    fn access_changes_within_the_lock_and_leaves_only_itself_out() {
        let (mut ledger, a) = region();
        let first = open(&mut ledger, &a, granule(0), Read).unwrap();
        ledger.set_access(first, Write).unwrap();
        ledger.set_access(first, Read).unwrap();
        let second = open(&mut ledger, &a, granule(0), Read).unwrap();
        assert_eq!(ledger.set_access(first, Write), Err(Refusal::WouldBlock));
        ledger.close(second, End::Orderly);
        ledger.set_access(first, Write).unwrap();
    }

    #[test]
    fn a_window_keeps_to_the_rights_of_its_handle() {
        let (mut ledger, a) = region();
        let weak = ledger.restrict(&a, Rights::READ).unwrap();
        let refused = open(&mut ledger, &weak, granule(0), Write);
        assert_eq!(refused, Err(Refusal::NotPermitted));
        let window = open(&mut ledger, &weak, granule(0), Read).unwrap();
        let refused = ledger.set_access(window, Write);
        assert_eq!(refused, Err(Refusal::NotPermitted));
        let blind = ledger.restrict(&a, Rights::WRITE).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &blind, granule(1), access);
            assert_eq!(refused, Err(Refusal::NotPermitted));
        }
    }

    #[test]
    fn freezing_needs_that_nobody_can_write_and_lasts() {
        let (mut ledger, a) = region();
        let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        assert_eq!(ledger.freeze(&a), Err(Refusal::WouldBlock));
        assert_eq!(ledger.freeze(&b), Err(Refusal::WouldBlock));
        ledger.set_access(window, Read).unwrap();
        ledger.freeze(&b).unwrap();
        ledger.freeze(&a).unwrap();
        let refused = open(&mut ledger, &a, granule(1), Write);
        assert_eq!(refused, Err(Refusal::Frozen));
        assert_eq!(ledger.set_access(window, Write), Err(Refusal::Frozen));
        open(&mut ledger, &b, granule(0), Read).unwrap();
    }

    #[test]
    fn freezing_needs_write_and_an_own_handle() {
        let (mut ledger, a) = region();
        let weak = ledger.restrict(&a, Rights::READ).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        for handle in [&weak, &lent] {
            assert_eq!(ledger.freeze(handle), Err(Refusal::NotPermitted));
        }
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
            assert_eq!(refused, Err(Refusal::WouldBlock));
        }
        open(&mut ledger, &lent, granule(0), Write).unwrap();
        // They are there and have their locks, though.
        let refused = ledger.set_access(window, Read);
        assert_eq!(refused, Err(Refusal::WouldBlock));
    }

    #[test]
    fn windows_of_the_lenders_other_claims_are_not_set_aside() {
        let (mut ledger, a) = region();
        let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        open(&mut ledger, &second, granule(0), Write).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let refused = open(&mut ledger, &lent, granule(0), Read);
        assert_eq!(refused, Err(Refusal::WouldBlock));
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
        assert_eq!(refused, Err(Refusal::WouldBlock));
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
            assert_eq!(refused, Err(Refusal::WouldBlock));
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
        assert_eq!(refused, Err(Refusal::WouldBlock));
    }

    #[test]
    fn what_a_lender_opens_while_the_lend_goes_on_without_it_is_not_set_aside() {
        let (mut ledger, a) = region();
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        // The lender's call is dropped: its windows go, and it goes on.
        ledger.close(window, End::Orderly);
        let window = open(&mut ledger, &a, granule(0), Write).unwrap();
        for access in [Read, Write] {
            let refused = open(&mut ledger, &lent, granule(0), access);
            assert_eq!(refused, Err(Refusal::WouldBlock));
        }
        let on = ledger.lend(&lent, READ_WRITE).unwrap();
        let refused = open(&mut ledger, &on, granule(0), Read);
        assert_eq!(refused, Err(Refusal::WouldBlock));
        // What it lends after that sets aside what it has then.
        let later = ledger.lend(&a, READ_WRITE).unwrap();
        open(&mut ledger, &later, granule(0), Write).unwrap();
        ledger.close(window, End::Orderly);
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
            assert_eq!(refused, Err(Refusal::NotPermitted));
            assert_eq!(ledger.freeze(handle), Err(Refusal::NotPermitted));
            assert_eq!(ledger.may_move(handle), Err(Refusal::NotPermitted));
        }
    }

    #[test]
    fn rights_do_not_grow_on_the_way() {
        let (mut ledger, a) = region();
        let weak = ledger.duplicate(&a, Rights::READ, Vec::new()).unwrap();
        assert_eq!(
            ledger.restrict(&weak, READ_WRITE),
            Err(Refusal::NotPermitted)
        );
        assert_eq!(ledger.lend(&weak, READ_WRITE), Err(Refusal::NotPermitted));
        let lent = ledger.lend(&weak, Rights::READ).unwrap();
        assert_eq!(
            ledger.restrict(&lent, Rights::WRITE),
            Err(Refusal::NotPermitted)
        );
        assert_eq!(
            ledger.lend(&lent, Rights::WRITE),
            Err(Refusal::NotPermitted)
        );
        assert_eq!(ledger.clear_poison(&lent), Err(Refusal::NotPermitted));
        let sharing = ledger.duplicate(&a, Rights::SHARE | Rights::READ, Vec::new());
        let refused = ledger.duplicate(&sharing.unwrap(), Rights::WRITE, Vec::new());
        assert_eq!(refused, Err(Refusal::NotPermitted));
    }

    #[test]
    fn a_revoked_handle_and_what_was_restricted_from_it_are_gone() {
        let (mut ledger, a) = region();
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let of_lent = ledger.restrict(&lent, READ_WRITE).unwrap();
        ledger.revoke(lent.lend().unwrap());
        for handle in [lent, of_lent] {
            assert_eq!(ledger.check(&handle), Err(Refusal::Gone));
            let opened = open(&mut ledger, &handle, granule(0), Read);
            assert_eq!(opened, Err(Refusal::Gone));
            assert_eq!(ledger.lend(&handle, Rights::NONE), Err(Refusal::Gone));
            assert_eq!(ledger.restrict(&handle, Rights::NONE), Err(Refusal::Gone));
            let duplicate = ledger.duplicate(&handle, Rights::NONE, Vec::new());
            assert_eq!(duplicate, Err(Refusal::Gone));
            assert_eq!(ledger.may_move(&handle), Err(Refusal::Gone));
            assert_eq!(ledger.freeze(&handle), Err(Refusal::Gone));
            assert_eq!(ledger.clear_poison(&handle), Err(Refusal::Gone));
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
            assert_eq!(ledger.set_access(window, access), Err(Refusal::Gone));
        }
        ledger.close(window, End::Orderly);
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
        assert_eq!(ledger.may_move(&a), Err(Refusal::WouldBlock));
        // What lives goes on, above it too what is set aside.
        let window = open(&mut ledger, &d, granule(0), Write).unwrap();
        ledger.revoke(lends[2]);
        assert!(lends.iter().all(|lend| !ledger.is_over(*lend)));
        ledger.close(window, End::Orderly);
        assert!(ledger.is_over(lends[2]) && ledger.is_over(lends[1]));
        assert!(!ledger.is_over(lends[0]));
        ledger.close(kept, End::Orderly);
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
        assert_eq!(ledger.lend(&a, Rights::READ), Err(Refusal::WouldBlock));
        assert_eq!(ledger.may_move(&a), Err(Refusal::WouldBlock));
        ledger.close(window, End::Orderly);
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        guard(&mut ledger, &a, granule(0), Read).unwrap();
        let refused = open(&mut ledger, &lent, granule(0), Write);
        assert_eq!(refused, Err(Refusal::WouldBlock));
        assert_eq!(ledger.lend(&lent, Rights::READ), Err(Refusal::WouldBlock));
    }
}

mod moves {
    use super::*;

    #[test]
    fn only_the_first_handle_moves() {
        let (mut ledger, a) = region();
        ledger.may_move(&a).unwrap();
        let weak = ledger.restrict(&a, Rights::ALL).unwrap();
        assert_eq!(ledger.may_move(&weak), Err(Refusal::NotPermitted));
        assert_eq!(ledger.may_move(&a), Err(Refusal::NotPermitted));
        ledger.release(weak);
        ledger.may_move(&a).unwrap();
    }

    #[test]
    fn moving_needs_share() {
        let (mut ledger, a) = region();
        let unshared = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
        assert_eq!(ledger.may_move(&unshared), Err(Refusal::NotPermitted));
    }

    #[test]
    fn a_lent_claim_does_not_move_and_another_does() {
        let (mut ledger, a) = region();
        let second = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
        let lent = ledger.lend(&a, Rights::READ).unwrap();
        assert_eq!(ledger.may_move(&a), Err(Refusal::WouldBlock));
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
        };
        let (sender, receiver) = (Account::new("a", quota), Account::new("b", quota));
        let (mut ledger, a) = Ledger::<()>::new(vec![sender.charge(Kind::Regions, 1).unwrap()]);
        ledger.may_move(&a).unwrap();
        let charge = receiver.charge(Kind::Regions, 1).unwrap();
        ledger.recharge(a.claim(), vec![charge]);
        assert_eq!(sender.used(Kind::Regions), 0);
        assert_eq!(receiver.used(Kind::Regions), 1);
        ledger.release(a);
        assert_eq!(receiver.used(Kind::Regions), 0);
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
        ledger.close(window, End::Orderly);
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
        ledger.close(dying, End::Died);
        assert!(ledger.is_poisoned());
        for access in [Read, Write] {
            let refused = open(&mut ledger, &a, granule(2), access);
            assert_eq!(refused, Err(Refusal::Poisoned));
            let refused = guard(&mut ledger, &a, granule(2), access);
            assert_eq!(refused, Err(Refusal::Poisoned));
        }
        assert_eq!(ledger.freeze(&a), Err(Refusal::Poisoned));
        // Windows that exist stay as they are.
        ledger.set_access(kept, Write).unwrap();
        assert_eq!(ledger.clear_poison(&weak), Err(Refusal::NotPermitted));
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
        ledger.close(window, End::Died);
        assert!(!ledger.is_poisoned());
    }

    #[test]
    fn poison_outlives_the_claim_of_the_dead() {
        let (mut ledger, a) = region();
        let dead = ledger.duplicate(&a, READ_WRITE, Vec::new()).unwrap();
        let window = open(&mut ledger, &dead, granule(0), Write).unwrap();
        ledger.release(dead);
        ledger.close(window, End::Died);
        assert_eq!(ledger.claims(), 1);
        let refused = open(&mut ledger, &a, granule(7), Read);
        assert_eq!(refused, Err(Refusal::Poisoned));
    }
}

//! Lends within one guest: what the lent handle may do, and how such a lend ends.

use tombolo::internal::PackedRegions;
use tombolo::{
    Borrowed, GRANULE, Lending, Limits, PackError, Region, RegionError, RegionHost, Rights,
};
use tombolo_test_util::puppet::{
    ErrorCode, Puppet, READ, Rights as WitRights, WRITE, all, filled, mappings_of,
};
use wasmtime::component::Resource;

const READ_WRITE: Rights = Rights::ALL.without(Rights::SHARE);

/// A guest with a region of two granules, which are full of ones.
struct Lender {
    host: RegionHost,
    region: Region,
    guest: Puppet,
    /// The guest's own handle.
    own: u32,
}

impl Lender {
    fn new() -> Lender {
        Lender::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Lender {
        let host = RegionHost::new();
        let mut guest = Puppet::with_limits(&host, "lender", limits);
        let region = filled(&host, "music", 2 * GRANULE, 1);
        let own = guest.claim(&region);
        Lender {
            host,
            region,
            guest,
            own,
        }
    }

    fn lend(&mut self, number: u32) -> u32 {
        self.guest.lend(number).unwrap().unwrap()
    }

    /// Checks that no lend is left: the guest can move its region.
    fn assert_no_lend(mut self) {
        let region = self.guest.give(self.own).unwrap();
        assert!(mappings_of(&region).is_empty());
        region.try_write(..).unwrap();
        self.guest.assert_works();
    }
}

// rule 5
#[test]
fn borrower_uses_what_the_lender_has_mapped() {
    let mut it = Lender::new();
    let (_, own) = it.guest.mapped(it.own, 2, WRITE);
    it.guest.poke(own, 2).unwrap();
    let lent = it.lend(it.own);
    // The lender's window is set aside.
    assert_eq!(it.guest.peek(own, 2).unwrap(), [0, 0]);
    let (_, at) = it.guest.mapped(lent, 1, WRITE);
    assert_eq!(it.guest.peek(at, 2).unwrap(), [2, 1]);
    it.guest.poke(at + 1, 3).unwrap();
    it.guest.poke(own, 77).unwrap();
    assert_eq!(it.guest.peek(at, 2).unwrap(), [2, 3]);
    it.guest.drop_handle(lent).unwrap();
    // Bytes that were written to a window that is set aside are lost.
    assert_eq!(it.guest.peek(own, 3).unwrap(), [2, 3, 1]);
    assert_eq!(it.guest.peek(at, 2).unwrap(), [0, 0]);
    it.guest.poke(own, 4).unwrap();
    it.guest.store.data_mut().regions.finish();
    drop(it.guest);
    assert_eq!(it.region.try_read(..3).unwrap()[..], [4, 3, 1]);
}

// rule 5
#[test]
fn windows_that_only_read_stay_visible() {
    let mut it = Lender::new();
    let weak = it.guest.restrict(it.own, WitRights::READ).unwrap();
    let weak = weak.unwrap();
    let (_, read) = it.guest.mapped(weak, 1, READ);
    let (could_write, at) = it.guest.mapped(it.own, 1, READ);
    let lent = it.lend(weak);
    let (_, borrowed) = it.guest.mapped(lent, 1, READ);
    assert_eq!((it.guest.byte(read), it.guest.byte(borrowed)), (1, 1));
    // This one can write later, while the borrower reads.
    assert_eq!(it.guest.byte(at), 0);
    let refused = it.guest.set_access(could_write, WRITE).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    it.guest.drop_handle(lent).unwrap();
    assert_eq!((it.guest.byte(read), it.guest.byte(at)), (1, 1));
}

// rule 2
#[test]
fn others_still_conflict_with_both_sides() {
    let mut it = Lender::new();
    let mut other = Puppet::new(&it.host, "other");
    let theirs = other.claim(&it.region);
    let place = other.allocate(1).unwrap();
    let refused = Err(ErrorCode::WouldBlock);
    let (window, _) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    // The lender's window keeps its lock.
    let map = |other: &mut Puppet| other.map(theirs, 0, GRANULE, READ, place).unwrap();
    assert_eq!(map(&mut other), refused);
    let (borrowed, _) = it.guest.mapped(lent, 1, WRITE);
    it.guest.drop_window(window).unwrap();
    assert_eq!(map(&mut other), refused);
    // New windows of the lender conflict too, also those that change their access.
    let place = it.guest.allocate(1).unwrap();
    for access in [READ, WRITE] {
        let mapped = it.guest.map(it.own, 0, GRANULE, access, place).unwrap();
        assert_eq!(mapped, refused);
    }
    it.guest.drop_window(borrowed).unwrap();
    map(&mut other).unwrap();
    it.guest.drop_handle(lent).unwrap();
}

// rule 5
#[test]
fn windows_opened_meanwhile_stay_visible() {
    let mut it = Lender::new();
    let (_, at) = it.guest.mapped(it.own, 1, WRITE);
    let first = it.lend(it.own);
    let later = it.guest.allocate(1).unwrap();
    let mapped = it.guest.map(it.own, GRANULE, GRANULE, WRITE, later);
    mapped.unwrap().unwrap();
    assert_eq!((it.guest.byte(at), it.guest.byte(later)), (0, 1));
    // A second lend sets both aside, and each shows again with the last of its lends.
    let second = it.lend(it.own);
    assert_eq!((it.guest.byte(at), it.guest.byte(later)), (0, 0));
    it.guest.drop_handle(first).unwrap();
    assert_eq!((it.guest.byte(at), it.guest.byte(later)), (0, 0));
    it.guest.drop_handle(second).unwrap();
    assert_eq!((it.guest.byte(at), it.guest.byte(later)), (1, 1));
}

// rule 5
#[test]
fn lends_side_by_side_conflict() {
    let mut it = Lender::new();
    let (first, second) = (it.lend(it.own), it.lend(it.own));
    it.guest.mapped(first, 1, WRITE);
    let at = it.guest.allocate(1).unwrap();
    let refused = it.guest.map(second, 0, GRANULE, READ, at).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    it.guest.drop_handle(first).unwrap();
    it.guest.map(second, 0, GRANULE, READ, at).unwrap().unwrap();
}

// rule 5
#[test]
fn lent_handle_is_weak() {
    let mut it = Lender::new();
    let lent = it.lend(it.own);
    let refused = ErrorCode::NotPermitted;
    let guest = &mut it.guest;
    assert_eq!(guest.duplicate(lent, all()).unwrap(), Err(refused.clone()));
    assert_eq!(guest.freeze(lent).unwrap(), Err(refused.clone()));
    assert_eq!(guest.pin(lent, 0, 0).unwrap(), Err(refused.clone()));
    assert_eq!(guest.unpin(lent, 0, 0).unwrap(), Err(refused));
    // The pins of the claim do not change either.
    let refused = Err(ErrorCode::WouldBlock);
    assert_eq!(guest.unpin(it.own, 0, 0).unwrap(), refused);
    assert_eq!(guest.pin(it.own, 0, 0).unwrap().err(), refused.err());
    guest.write_at(lent, 0, &[5]).unwrap().unwrap();
    assert_eq!(guest.read_at(lent, 0, 2).unwrap(), Ok(vec![5, 1]));
    guest.drop_handle(lent).unwrap();
    it.assert_no_lend();
}

// rule 5
#[test]
fn lent_region_is_not_moved() {
    let mut it = Lender::new();
    let (_, at) = it.guest.mapped(it.own, 1, WRITE);
    it.lend(it.own);
    let PackError::Refused { reason, .. } = it.guest.give(it.own).unwrap_err().downcast().unwrap()
    else {
        panic!("it is refused")
    };
    assert!(matches!(reason, RegionError::WouldBlock), "{reason:?}");
    assert_eq!(it.guest.byte(at), 0);
}

// rule 5
#[test]
fn lent_handle_that_leaves_ends_the_lend() {
    let mut it = Lender::new();
    let (window, at) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    let (_, borrowed) = it.guest.mapped(lent, 1, WRITE);
    it.guest.poke(borrowed, 6).unwrap();
    // From an export, to the host program.
    let error = it.guest.give(lent).unwrap_err();
    let PackError::Refused { reason, .. } = error.downcast().unwrap() else {
        panic!("it is refused")
    };
    assert!(matches!(reason, RegionError::NotPermitted), "{reason:?}");
    assert_eq!((it.guest.byte(at), it.guest.byte(borrowed)), (6, 0));
    // In a call to another guest.
    let other = Puppet::new(&it.host, "other");
    let to = other.store.data().regions.recipient();
    let lent = it.lend(it.own);
    let handle = it.guest.give_resource(lent).unwrap();
    let (mut packed, mut lending) = (PackedRegions::default(), Lending::default());
    let error = packed.pack(&mut it.guest.store, [handle], &to, &mut lending);
    let reason = error.unwrap_err().for_sender();
    assert!(reason.contains("cannot be moved"), "{reason}");
    assert_eq!(it.guest.byte(at), 6);
    // In a call that is refused before.
    let lent = it.lend(it.own);
    let handle = it.guest.give_resource(lent).unwrap();
    PackedRegions::discard(&mut it.guest.store, [handle]).unwrap();
    assert_eq!(it.guest.byte(at), 6);
    it.guest.drop_window(window).unwrap();
    it.assert_no_lend();
}

// rule 6
#[test]
fn lend_outlives_the_first_handle() {
    let Lender {
        host,
        region,
        mut guest,
        own,
    } = Lender::new();
    drop(region);
    let lent = guest.lend(own).unwrap().unwrap();
    guest.drop_handle(own).unwrap();
    let (window, at) = guest.mapped(lent, 1, WRITE);
    assert_eq!(guest.byte(at), 1);
    guest.drop_handle(lent).unwrap();
    // The region ends with the lend.
    assert_eq!(guest.byte(at), 0);
    assert_eq!(host.counts().regions_freed, 1);
    let gone = guest.set_access(window, READ).unwrap();
    assert_eq!(gone, Err(ErrorCode::Gone));
    guest.drop_window(window).unwrap();
    guest.assert_works();
}

// rule 5
#[test]
fn window_dropped_meanwhile_does_not_come_back() {
    let mut it = Lender::new();
    let (window, at) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    it.guest.drop_window(window).unwrap();
    // Another window takes its place.
    let second = it.guest.map(it.own, GRANULE, GRANULE, READ, at);
    let second = second.unwrap().unwrap();
    it.guest.drop_handle(lent).unwrap();
    assert_eq!(it.guest.byte(at), 1);
    it.guest.drop_window(second).unwrap();
    assert_eq!(it.guest.byte(at), 0);
    it.assert_no_lend();
}

// rule 5
#[test]
fn access_changed_meanwhile_is_kept() {
    let mut it = Lender::new();
    let (window, at) = it.guest.mapped(it.own, 1, READ);
    let lent = it.lend(it.own);
    it.guest.set_access(window, WRITE).unwrap().unwrap();
    it.guest.drop_handle(lent).unwrap();
    it.guest.poke(at, 8).unwrap();
    it.guest.drop_window(window).unwrap();
    assert_eq!(it.region.try_read(..2).unwrap()[..], [8, 1]);
}

// rule 5
#[test]
fn nested_lend_ends_with_the_outer_one() {
    let mut it = Lender::new();
    let (window, own) = it.guest.mapped(it.own, 1, WRITE);
    let outer = it.lend(it.own);
    let (_, at_outer) = it.guest.mapped(outer, 1, WRITE);
    let inner = it.lend(outer);
    let (_, at_inner) = it.guest.mapped(inner, 1, WRITE);
    let seen = [own, at_outer, at_inner].map(|at| it.guest.byte(at));
    assert_eq!(seen, [0, 0, 1]);
    it.guest.poke(at_inner, 9).unwrap();

    it.guest.drop_handle(outer).unwrap();
    let seen = [own, at_outer, at_inner].map(|at| it.guest.byte(at));
    assert_eq!(seen, [9, 0, 0]);
    let gone = it.guest.read_at(inner, 0, 1).unwrap();
    assert_eq!(gone, Err(ErrorCode::Gone));
    it.guest.drop_handle(inner).unwrap();
    assert_eq!(it.guest.byte(own), 9);
    it.guest.drop_window(window).unwrap();
    it.assert_no_lend();
}

// rule 5
#[test]
fn kept_lend_of_a_borrower_holds_nobody_up() {
    let mut it = Lender::new();
    let at = it.guest.allocate(1).unwrap();
    for failed in [false, true] {
        let lent = it.region.lend(&mut it.guest.store, READ_WRITE).unwrap();
        let kept = it.guest.lend_lent(lent.resource(), WRITE, at);
        let kept = kept.unwrap().unwrap();
        it.guest.poke(at, 5).unwrap();
        let returned = match failed {
            false => Ok(()),
            true => Err(wasmtime::Error::msg("it failed")),
        };
        assert_eq!(lent.end(&mut it.guest.store, returned).is_err(), failed);
        assert_eq!(it.guest.byte(at), 0);
        let gone = it.guest.read_at(kept, 0, 1).unwrap();
        assert_eq!(gone, Err(ErrorCode::Gone));
        // The host program has all of it again.
        assert_eq!(it.region.is_poisoned(), failed);
        if failed {
            it.region.clear_poison().unwrap();
        }
        assert_eq!(it.region.try_write(..).unwrap()[..2], [5, 1]);
        it.region.unpin(..).unwrap();
        it.region.pin(..).unwrap();
        if !failed {
            it.guest.drop_handle(kept).unwrap();
        }
    }
    it.guest.drop_handle(it.own).unwrap();
}

// rule 6
#[test]
fn death_poisons_what_either_side_could_write() {
    for (own, borrowed) in [(WRITE, READ), (READ, WRITE), (READ, READ)] {
        let mut it = Lender::new();
        it.guest.mapped(it.own, 1, own);
        let lent = it.lend(it.own);
        it.guest.mapped(lent, 1, borrowed);
        drop(it.guest);
        assert!(mappings_of(&it.region).is_empty());
        assert_eq!(it.region.is_poisoned(), (own, borrowed) != (READ, READ));
        it.region.clear_poison().unwrap();
        it.region.try_write(..).unwrap();
    }
}

// rule 12
#[test]
fn dropped_context_remaps_nothing() {
    let mut it = Lender::new();
    let (_, own) = it.guest.mapped(it.own, 1, READ);
    let lent = it.lend(it.own);
    let (_, at) = it.guest.mapped(lent, 1, READ);
    let before = mappings_of(&it.region);
    let new = it.host.context("new").build();
    drop(std::mem::replace(
        &mut it.guest.store.data_mut().regions,
        new,
    ));
    assert_eq!(mappings_of(&it.region), before);
    assert_eq!((it.guest.byte(own), it.guest.byte(at)), (0, 1));
    let refused = it.region.try_write(0..1);
    assert!(matches!(refused, Err(RegionError::WouldBlock)));
    // The handle was in the old context.
    it.guest.drop_handle(lent).unwrap_err();
    drop(it.guest);
    it.region.try_write(..).unwrap();
}

// rule 5
#[test]
fn context_dropped_with_a_lend_holds_no_lender_up() {
    let mut it = Lender::new();
    let at = it.guest.allocate(1).unwrap();
    let lent = it.region.lend(&mut it.guest.store, READ_WRITE).unwrap();
    let kept = it.guest.lend_lent(lent.resource(), READ, at);
    kept.unwrap().unwrap();
    drop(it.guest);
    // The guest is gone with its windows, and so is its lend.
    drop(lent);
    it.region.unpin(..).unwrap();
}

// rule 12
#[test]
fn swapped_context_ends_no_lend_elsewhere() {
    let mut it = Lender::new();
    let mut other = Puppet::new(&it.host, "other");
    let theirs = other.claim(&it.region);
    let same = other.lend(theirs).unwrap().unwrap();
    let (_, own) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    assert_eq!(lent, same);
    std::mem::swap(
        &mut it.guest.store.data_mut().regions,
        &mut other.store.data_mut().regions,
    );
    // The numbers of one context name nothing in another one.
    let error = other.drop_handle(same).unwrap_err();
    assert!(format!("{error:?}").contains("not present"), "{error:?}");
    assert_eq!(it.guest.byte(own), 0);
    let refused = it.region.try_write(0..1);
    assert!(matches!(refused, Err(RegionError::WouldBlock)));
}

// rule 10
#[test]
fn lends_within_a_guest_are_limited() {
    let mut limits = Limits::default();
    limits.handles = 4096;
    let mut it = Lender::with_limits(limits);
    let mut last = it.own;
    let mut lent = Vec::new();
    // Also if each is made from the one before.
    let text = loop {
        match it.guest.lend(last).unwrap() {
            Ok(next) => last = next,
            Err(ErrorCode::Exhausted(text)) => break text,
            Err(other) => panic!("{other:?}"),
        }
        lent.push(last);
    };
    assert_eq!(lent.len(), 256);
    assert!(text.contains("at most 256 regions within itself"), "{text}");
    it.guest.mapped(last, 2, WRITE);
    it.guest.drop_handle(lent[0]).unwrap();
    it.lend(it.own);
    for number in &lent[1..] {
        it.guest.drop_handle(*number).unwrap();
    }
    assert_eq!(mappings_of(&it.region).len(), 0);
}

// rule 10
#[test]
fn lent_handle_counts_as_a_handle() {
    let mut limits = Limits::default();
    limits.handles = 2;
    let mut it = Lender::with_limits(limits);
    let (_, at) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    let refused = it.guest.lend(it.own).unwrap();
    assert!(matches!(&refused, Err(ErrorCode::Exhausted(it)) if it.contains("`handles`")));
    it.guest.drop_handle(lent).unwrap();
    // The refused lend has left nothing behind.
    assert_eq!(it.guest.byte(at), 1);
    it.lend(it.own);
}

// rules 5, 7
#[test]
fn refused_lend_masks_nothing() {
    let mut it = Lender::new();
    let (window, at) = it.guest.mapped(it.own, 1, READ);
    let number = it.guest.create("other", GRANULE).unwrap().unwrap();
    let claim = it.guest.give(number).unwrap();
    let number = it.guest.claim(&claim);
    it.guest.freeze(number).unwrap().unwrap();
    it.guest.unpin(number, 0, 0).unwrap().unwrap();
    claim.unpin(..).unwrap();
    it.host.purge(u64::MAX);
    assert_eq!(it.guest.lend(number).unwrap(), Err(ErrorCode::Purged));
    assert_eq!(it.guest.byte(at), 1);
    it.guest.drop_window(window).unwrap();
}

// rule 5
#[test]
fn lent_handle_is_lent_on_to_another_guest() {
    let mut it = Lender::new();
    let mut other = Puppet::new(&it.host, "other");
    let (window, own) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    let (_, at) = it.guest.mapped(lent, 1, WRITE);
    let (lending, borrowed) = lend_on(&mut it, &mut other, |other, handle, place| {
        other.map_lent(handle, WRITE, place).unwrap().unwrap();
        other.poke(place, 3).unwrap();
    });
    assert_eq!((it.guest.byte(own), it.guest.byte(at)), (0, 0));
    borrowed.end(&mut other.store, Ok(())).unwrap();
    lending.end(&mut it.guest.store).unwrap();
    assert_eq!((it.guest.byte(own), it.guest.byte(at)), (0, 3));
    it.guest.drop_handle(lent).unwrap();
    assert_eq!(it.guest.byte(own), 3);
    it.guest.drop_window(window).unwrap();
    it.assert_no_lend();
}

// rule 5
#[test]
fn lender_gives_up_windows_that_others_still_use() {
    let mut it = Lender::new();
    let mut other = Puppet::new(&it.host, "other");
    let (window, own) = it.guest.mapped(it.own, 1, WRITE);
    let lent = it.lend(it.own);
    let mut place = 0;
    let (lending, borrowed) = lend_on(&mut it, &mut other, |other, handle, at| {
        other.map_lent(handle, WRITE, at).unwrap().unwrap();
        place = at;
    });
    // The call is dropped, and its borrower goes on.
    lending.abandon(&mut it.guest.store).unwrap();
    it.guest.drop_handle(lent).unwrap();
    assert_eq!(it.guest.byte(own), 0);
    let gone = it.guest.set_access(window, READ).unwrap();
    assert_eq!(gone, Err(ErrorCode::Gone));
    other.poke(place, 4).unwrap();
    assert_eq!((it.guest.byte(own), other.byte(place)), (0, 4));
    assert!(!it.region.is_poisoned());
    borrowed.end(&mut other.store, Ok(())).unwrap();
    assert_eq!(it.region.try_read(..2).unwrap()[..], [4, 1]);
    it.assert_no_lend();
}

/// Lends the second handle in the table of a lender's guest to another one, which acts on it.
fn lend_on(
    from: &mut Lender,
    to: &mut Puppet,
    act: impl FnOnce(&mut Puppet, Resource<Region>, u32),
) -> (Lending, Borrowed) {
    let (mut packed, mut lending) = (PackedRegions::default(), Lending::default());
    let recipient = to.store.data().regions.recipient();
    // A guest's handles have consecutive numbers.
    let store = &mut from.guest.store;
    let third = from.region.duplicate(Rights::ALL).unwrap();
    let third = third.give(&mut *store).unwrap();
    let handle = Resource::new_borrow(third.rep().wrapping_sub(1));
    drop(Region::take(&mut *store, third).unwrap());
    let packs = packed.pack(store, [handle], &recipient, &mut lending);
    packs.unwrap();
    let (mut borrowed, mut got) = (Borrowed::default(), Vec::new());
    let unpacked = packed.unpack(&mut to.store, &mut borrowed, |handle| got.push(handle));
    unpacked.unwrap();
    let place = to.allocate(1).unwrap();
    act(to, got.remove(0), place);
    (lending, borrowed)
}

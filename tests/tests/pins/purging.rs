//! Unpinned bytes that are purged, and the claims that are told.

use super::{PAGE, allocated, exhausted, guest, host, shared};
use tombolo::{GRANULE, GiveError, PackError, RegionError};
use tombolo_test_util::puppet::{ErrorCode, Pinned, READ, WRITE, all, filled};

// rule 7
#[test]
fn loss_of_purged_bytes_is_told_each_claim_once() {
    let host = host(64);
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let (region, number) = shared(&host, &mut a, 4);
    assert_eq!(allocated(&region), 4);
    a.unpin(number, GRANULE, GRANULE).unwrap().unwrap();
    // A duplicate inherits the pins, and the losses that its source was not told of.
    let duplicate = a.duplicate(number, all()).unwrap().unwrap();
    let given = a.give(duplicate).unwrap();
    let other = b.receive(given);
    assert_eq!(host.purge(u64::MAX), GRANULE);
    assert_eq!(allocated(&region), 3);
    assert_eq!(host.budget().committed, 3 * GRANULE);

    assert_eq!(a.is_pinned(number, 0, 0).unwrap(), Ok(false));
    assert_eq!(a.is_pinned(number, 0, GRANULE).unwrap(), Ok(true));
    assert_eq!(a.pin(number, 0, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Lost));
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Intact));
    let (_, at) = a.mapped(number, 4, READ);
    assert_eq!((a.byte(at), a.byte(at + PAGE)), (7, 0));
    assert_eq!(b.pin(other, 0, 0).unwrap(), Ok(Pinned::Lost));
    assert_eq!(b.pin(other, 0, 0).unwrap(), Ok(Pinned::Intact));
    assert_eq!(region.pin(..).unwrap(), tombolo::Pinned::Lost);
}

// rule 7
#[test]
fn unpinned_bytes_are_refused() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 2);
    a.unpin(number, GRANULE, 0).unwrap().unwrap();
    let at = a.allocate(2).unwrap();
    for access in [READ, WRITE] {
        let refused = a.map(number, 0, 2 * GRANULE, access, at).unwrap();
        assert_eq!(refused, Err(ErrorCode::Unpinned));
    }
    let refused = a.read_at(number, GRANULE - 1, 2).unwrap();
    assert_eq!(refused, Err(ErrorCode::Unpinned));
    let refused = a.write_at(number, GRANULE, b"x").unwrap();
    assert_eq!(refused, Err(ErrorCode::Unpinned));
    assert_eq!(a.freeze(number).unwrap(), Err(ErrorCode::Unpinned));
    assert!(matches!(region.try_read(0..1), Err(RegionError::Unpinned)));
    assert!(matches!(region.try_write(0..1), Err(RegionError::Unpinned)));
    // The pinned bytes are unchanged.
    assert_eq!(a.read_at(number, 0, 1).unwrap(), Ok(vec![7]));
    a.map(number, 0, GRANULE, WRITE, at).unwrap().unwrap();
    a.assert_works();
}

// rule 7
#[test]
fn misaligned_or_outside_spans_change_nothing() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (_region, number) = shared(&host, &mut a, 3);
    const LAST: u64 = u64::MAX - GRANULE + 1;
    for (offset, length) in [(1, GRANULE), (0, 1), (0, GRANULE + 1), (GRANULE - 1, 0)] {
        for answer in [
            a.unpin(number, offset, length).unwrap(),
            a.pin(number, offset, length).unwrap().map(|_| ()),
            a.is_pinned(number, offset, length).unwrap().map(|_| ()),
        ] {
            assert!(
                matches!(answer, Err(ErrorCode::Misaligned(_))),
                "{answer:?}"
            );
        }
    }
    for (offset, length) in [
        (0, 4 * GRANULE),
        (3 * GRANULE, 0),
        (3 * GRANULE, GRANULE),
        (GRANULE, LAST),
        (LAST, GRANULE),
        (LAST, 0),
        (1 << 32, 0),
    ] {
        for answer in [
            a.unpin(number, offset, length).unwrap(),
            a.pin(number, offset, length).unwrap().map(|_| ()),
            a.is_pinned(number, offset, length).unwrap().map(|_| ()),
        ] {
            assert!(
                matches!(answer, Err(ErrorCode::OutOfBounds(_))),
                "{answer:?}"
            );
        }
    }
    assert_eq!(a.is_pinned(number, 0, 0).unwrap(), Ok(true));
    assert_eq!(host.purgeable(), 0);
}

// rules 7, 8
#[test]
fn requests_purge_the_oldest_bytes_needed() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let old = a.create("old", 4 * GRANULE).unwrap().unwrap();
    let young = a.create("young", 4 * GRANULE).unwrap().unwrap();
    exhausted(a.create("more", 1).unwrap(), "budget");
    a.unpin(young, 0, GRANULE).unwrap().unwrap();
    a.unpin(old, 0, 0).unwrap().unwrap();
    // Unpinning again keeps its place in the order.
    a.unpin(young, 0, GRANULE).unwrap().unwrap();
    let one = a.create("one", GRANULE).unwrap().unwrap();
    assert_eq!(a.pin(young, 0, GRANULE).unwrap(), Ok(Pinned::Lost));
    // The request purged one granule of the old region.
    assert_eq!(host.budget().purged, 2 * GRANULE);
    assert_eq!(a.pin(old, GRANULE, 0).unwrap(), Ok(Pinned::Intact));
    exhausted(a.pin(old, 0, 0).unwrap(), "budget");
    assert_eq!(a.is_pinned(old, GRANULE, 0).unwrap(), Ok(true));
    a.drop_handle(one).unwrap();
    assert_eq!(a.pin(old, 0, 0).unwrap(), Ok(Pinned::Lost));
    // A duplicate pins bytes that are paid for, so it costs nothing.
    a.duplicate(old, all()).unwrap().unwrap();
    assert_eq!(host.budget().committed, 8 * GRANULE);
    assert_eq!(host.budget().committed_peak, 8 * GRANULE);
}

// rule 7
#[test]
fn frozen_regions_are_purged_whole_or_not_at_all() {
    let host = host(8);
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let number = a.create("frozen", 4 * GRANULE).unwrap().unwrap();
    a.freeze(number).unwrap().unwrap();
    let duplicate = a.duplicate(number, all()).unwrap().unwrap();
    let given = a.give(duplicate).unwrap();
    let other = b.receive(given);
    a.unpin(number, 0, 0).unwrap().unwrap();
    b.unpin(other, GRANULE, 0).unwrap().unwrap();
    // One claim pins one granule.
    assert_eq!(host.purge(u64::MAX), 0);
    exhausted(a.create("big", 5 * GRANULE).unwrap(), "budget");
    let (window, at) = b.mapped(other, 1, READ);
    b.unpin(other, 0, 0).unwrap().unwrap();
    // One granule is needed, and the whole region is purged.
    a.create("big", 5 * GRANULE).unwrap().unwrap();
    assert_eq!(host.budget().purged, 4 * GRANULE);
    assert_eq!(host.budget().committed, 5 * GRANULE);
    assert_eq!(b.store.data().regions.claimed_bytes(), 0);
    assert_eq!(b.byte(at), 0);
    let place = b.allocate(1).unwrap();
    let purged = [
        b.pin(other, 0, 0).unwrap().map(|_| ()),
        b.unpin(other, 0, 0).unwrap(),
        b.is_pinned(other, 0, 0).unwrap().map(|_| ()),
        b.map(other, 0, GRANULE, READ, place).unwrap().map(|_| ()),
        b.read_at(other, 0, 1).unwrap().map(|_| ()),
        b.write_at(other, 0, b"x").unwrap(),
        b.freeze(other).unwrap(),
        b.clear_poison(other).unwrap(),
        b.duplicate(other, all()).unwrap().map(|_| ()),
        b.set_access(window, READ).unwrap(),
        a.pin(number, 0, 0).unwrap().map(|_| ()),
    ];
    assert_eq!(purged, [const { Err(ErrorCode::Purged) }; 11]);
    assert_eq!(b.restrict(other, all()).unwrap(), Err(ErrorCode::Purged));
    b.drop_window(window).unwrap();
    b.drop_handle(other).unwrap();
    b.assert_works();
}

// rule 7
#[test]
fn purged_frozen_regions_are_neither_lent_nor_moved() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let region = filled(&host, "frozen", GRANULE, 7);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    region.freeze().unwrap();
    region.unpin(..).unwrap();
    a.unpin(number, 0, 0).unwrap().unwrap();
    // A region that is purged during a lend is purged for the borrower too.
    let lent = region.lend(&mut a.store, tombolo::Rights::READ).unwrap();
    assert_eq!(host.purge(GRANULE), GRANULE);
    let returned = a.pin_lent(lent.resource());
    let refused = lent.end(&mut a.store, returned).unwrap();
    assert_eq!(refused, [const { ErrorCode::Purged }; 3]);

    let lent = region.lend(&mut a.store, tombolo::Rights::READ);
    assert!(matches!(lent, Err(RegionError::Purged)), "{lent:?}");
    let GiveError { region, reason, .. } = region.give(&mut a.store).unwrap_err();
    assert!(matches!(reason, RegionError::Purged), "{reason}");
    let refused = a.give(number).unwrap_err();
    let refused = refused.downcast_ref::<PackError>().unwrap().for_sender();
    assert!(refused.contains("purged"), "{refused}");
    assert_eq!((region.name(), region.size()), ("frozen", GRANULE));
    assert!(region.is_purged() && region.is_frozen());
    a.assert_works();
}

// rule 5
#[test]
fn lent_handle_cannot_pin_or_unpin() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let region = filled(&host, "lent", GRANULE, 7);
    let lent = region.lend(&mut a.store, tombolo::Rights::READ).unwrap();
    let answers = a.pin_lent(lent.resource()).unwrap();
    // The borrower can query pins and not change them.
    assert_eq!(answers, [ErrorCode::NotPermitted, ErrorCode::NotPermitted]);
    for answer in [region.pin(..).map(|_| ()), region.unpin(..)] {
        assert!(matches!(answer, Err(RegionError::WouldBlock)), "{answer:?}");
    }
    lent.end(&mut a.store, Ok(())).unwrap();
    region.unpin(..).unwrap();
}

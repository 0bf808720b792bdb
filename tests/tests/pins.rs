//! Pins: the bytes that unpinning hides, the bytes that purging takes, and the claims that are
//! told. The guests are puppets, which the test drives step by step.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tombolo::{GRANULE, GiveError, HostLimits, Limits, PackError, Region, RegionError, RegionHost};
use tombolo_test_util::process::Process;

use tombolo_test_util::puppet::{
    ErrorCode, Pinned, Puppet, READ, WRITE, all, filled, mappings_in, mappings_of,
};

/// The bytes of a granule, as a guest's address counts them.
const PAGE: u32 = 65536;

fn host(granules: u64) -> RegionHost {
    let mut limits = HostLimits::default();
    limits.budget = granules * GRANULE;
    RegionHost::with_limits(limits)
}

fn guest(host: &RegionHost, name: &str) -> Puppet {
    Puppet::new(host, name)
}

/// Returns the granules that the kernel has allocated for a region.
fn allocated(region: &Region) -> u64 {
    region.usage().resident / GRANULE
}

/// Creates a region on which the host program and the guest have a claim each. Only the
/// guest's claim pins it.
fn shared(host: &RegionHost, guest: &mut Puppet, granules: u64) -> (Region, u32) {
    let region = filled(host, "shared", granules * GRANULE, 7);
    let number = guest.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    region.unpin(..).unwrap();
    (region, number)
}

#[track_caller]
fn exhausted<R: std::fmt::Debug>(answer: Result<R, ErrorCode>, what: &str) {
    match answer {
        Err(ErrorCode::Exhausted(text)) => assert!(text.contains(what), "{text}"),
        other => panic!("{other:?}"),
    }
}

// rule 7
#[test]
fn unpinned_bytes_of_a_window_are_zeros_until_pinned() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (_region, number) = shared(&host, &mut a, 4);
    let (window, at) = a.shown(number, 4, WRITE);
    a.poke(at + PAGE + 3, 9).unwrap();
    a.unpin(number, GRANULE, 2 * GRANULE).unwrap().unwrap();
    assert_eq!(a.byte(at + PAGE - 1), 7);
    assert_eq!(a.byte(at + PAGE), 0);
    assert_eq!(a.byte(at + 3 * PAGE - 1), 0);
    assert_eq!(a.byte(at + 3 * PAGE), 7);

    // Bytes that the guest writes there are its own, and are gone once it pins again.
    a.poke(at + PAGE + 3, 5).unwrap();
    assert_eq!(a.byte(at + PAGE + 3), 5);
    // Unpinning again keeps them.
    a.unpin(number, 0, 0).unwrap().unwrap();
    assert_eq!(a.byte(at + PAGE + 3), 5);
    assert_eq!(a.byte(at), 0);
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.byte(at + PAGE + 3), 9);
    assert_eq!(a.byte(at), 7);
    a.drop_window(window).unwrap();
    a.assert_works();
}

// rules 2, 7
#[test]
fn hidden_parts_keep_their_lock() {
    let host = host(64);
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let (region, number) = shared(&host, &mut a, 2);
    region.pin(..).unwrap();
    let other = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (_, at_a) = a.shown(number, 2, READ);
    let (_, at_b) = b.shown(other, 2, READ);
    a.unpin(number, 0, GRANULE).unwrap().unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (0, 7));
    // The lock of the hidden part conflicts with a writer.
    let at = b.allocate(1).unwrap();
    let refused = b.show(other, 0, GRANULE, WRITE, at).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    // The other claim loses no byte.
    assert_eq!(host.purge(u64::MAX), 0);
    assert_eq!(b.byte(at_b), 7);
    assert_eq!(a.pin(number, 0, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.byte(at_a), 7);
}

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
    let (_, at) = a.shown(number, 4, READ);
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
        let refused = a.show(number, 0, 2 * GRANULE, access, at).unwrap();
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
    a.show(number, 0, GRANULE, WRITE, at).unwrap().unwrap();
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

// rule 8
#[test]
fn sparse_regions_cost_their_pinned_bytes() {
    let host = host(4);
    // By default, claims can have at most half of the machine's memory.
    let mut limits = Limits::default();
    limits.region_bytes = 16 << 30;
    limits.claimed_bytes = 16 << 30;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let size = (9 << 30) + 5;
    let number = a.create_unpinned("sparse", size).unwrap().unwrap();
    assert_eq!(host.budget().committed, 0);
    let last = size / GRANULE * GRANULE;
    assert_eq!(a.pin(number, last, 0).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.pin(number, 5 << 30, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(host.budget().committed, 2 * GRANULE);
    a.write_at(number, 5 << 30, b"far").unwrap().unwrap();
    a.write_at(number, size - 3, b"end").unwrap().unwrap();
    // A request over the whole budget changes nothing.
    exhausted(a.pin(number, 0, 0).unwrap(), "budget");
    assert_eq!(host.budget().committed, 2 * GRANULE);
    // The span reaches to the end of a region of more than 4 GiB.
    a.unpin(number, GRANULE, 0).unwrap().unwrap();
    assert_eq!(a.is_pinned(number, 5 << 30, GRANULE).unwrap(), Ok(false));
    assert_eq!(a.is_pinned(number, last, 0).unwrap(), Ok(false));
    assert_eq!(host.purge(u64::MAX), 2 * GRANULE);
    assert_eq!(a.pin(number, last, 0).unwrap(), Ok(Pinned::Lost));
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
    let (window, at) = b.shown(other, 1, READ);
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
        b.show(other, 0, GRANULE, READ, place).unwrap().map(|_| ()),
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

// rule 7
#[test]
fn guards_are_never_hidden() {
    let host = host(8);
    let region = filled(&host, "guarded", 2 * GRANULE, 7);
    let guard = region.try_read(GRANULE..GRANULE + 1).unwrap();
    assert!(matches!(region.unpin(..), Err(RegionError::WouldBlock)));
    assert!(region.is_pinned(..).unwrap());
    region.unpin(..GRANULE).unwrap();
    assert_eq!(host.purge(u64::MAX), GRANULE);
    assert_eq!(guard[..], [7]);
    drop(guard);
    region.unpin(..).unwrap();
}

// rule 10
#[test]
fn holes_in_windows_count_as_mappings() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.mappings = 12;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 64);
    let (window, at) = a.shown(number, 64, WRITE);
    let place = mappings_of(&region)[0].range.clone();
    let base = mappings_in(place.clone()).len();
    // The window counts two splits, and each hole inside it two.
    for hole in 0..5 {
        let offset = (2 * hole + 1) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    exhausted(a.unpin(number, 20 * GRANULE, GRANULE).unwrap(), "mappings");
    assert_eq!(
        a.is_pinned(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(true)
    );
    assert_eq!(a.byte(at + 20 * PAGE), 7);
    let holes = mappings_in(place.clone()).len();
    assert!(holes <= base + 10, "{holes} and {base}");
    // Parts that are shown again cost nothing, because the kernel merges the mappings.
    a.pin(number, 0, 0).unwrap().unwrap();
    assert_eq!(mappings_in(place.clone()).len(), base);
    for hole in 0..5 {
        let offset = (2 * hole + 20) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    // The splits end with their window.
    a.drop_window(window).unwrap();
    a.pin(number, 0, 0).unwrap().unwrap();
    a.show(number, 0, 64 * GRANULE, WRITE, at).unwrap().unwrap();
    a.unpin(number, 8 * GRANULE, GRANULE).unwrap().unwrap();
    assert_eq!((a.byte(at + 8 * PAGE), a.byte(at + 9 * PAGE)), (0, 7));
}

/// Pinning the middle of a hidden part makes three mappings of one.
// rules 7, 10
#[test]
fn pin_refused_at_the_limit_reports_its_loss_later() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.mappings = 12;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 64);
    let (_, at) = a.shown(number, 64, WRITE);
    a.unpin(number, 10 * GRANULE, 20 * GRANULE)
        .unwrap()
        .unwrap();
    // The window counts two splits, and each hidden part two.
    for hole in 0..4 {
        let offset = (2 * hole + 40) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    assert_eq!(host.purge(u64::MAX), 24 * GRANULE);
    let middle = at + 20 * PAGE;
    a.poke(middle, 5).unwrap();
    let shown = mappings_of(&region);
    for _ in 0..2 {
        exhausted(a.pin(number, 20 * GRANULE, GRANULE).unwrap(), "mappings");
        assert_eq!(
            a.is_pinned(number, 20 * GRANULE, GRANULE).unwrap(),
            Ok(false)
        );
        assert_eq!(a.byte(middle), 5, "it is still the guest's own");
        assert_eq!(mappings_of(&region), shown);
        let budget = host.budget();
        assert_eq!(budget.committed - budget.purgeable, 40 * GRANULE);
    }
    host.purge(u64::MAX);
    // At its edge, the hidden part only shrinks.
    assert_eq!(
        a.pin(number, 10 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(
        a.pin(number, 40 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(
        a.pin(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(a.byte(middle), 0);
    assert_eq!(
        a.pin(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Intact)
    );
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Lost));
    a.assert_works();
}

// rules 7, 10
#[test]
fn refused_pin_hides_both_windows_again() {
    let host = host(1000);
    let mut limits = Limits::default();
    // Each window counts two splits and its hidden part two. Two are left for one more.
    limits.mappings = 10;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 9);
    let (_, one) = a.shown(number, 9, READ);
    let (other_window, other) = a.shown(number, 9, READ);
    a.unpin(number, 2 * GRANULE, 5 * GRANULE).unwrap().unwrap();
    let shown = mappings_of(&region);
    exhausted(a.pin(number, 4 * GRANULE, GRANULE).unwrap(), "mappings");
    assert_eq!(mappings_of(&region), shown);
    assert_eq!(
        a.is_pinned(number, 4 * GRANULE, GRANULE).unwrap(),
        Ok(false)
    );
    for at in [one, other] {
        assert_eq!([a.byte(at), a.byte(at + 4 * PAGE)], [7, 0]);
    }
    assert_eq!(host.purge(u64::MAX), 5 * GRANULE);
    a.drop_window(other_window).unwrap();
    assert_eq!(
        a.pin(number, 4 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!([a.byte(one), a.byte(one + 4 * PAGE)], [7, 0]);
    let region_and_hole: Vec<_> = mappings_of(&region);
    assert_eq!(region_and_hole.len(), 3, "{region_and_hole:?}");
}

// rule 7
#[test]
fn access_change_covers_hidden_parts() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 4);
    let (window, at) = a.shown(number, 4, WRITE);
    let permissions = || -> Vec<String> {
        let all = mappings_of(&region).into_iter();
        all.map(|it| it.permissions).collect()
    };
    a.unpin(number, GRANULE, 2 * GRANULE).unwrap().unwrap();
    a.set_access(window, READ).unwrap().unwrap();
    assert_eq!(permissions(), ["r--s", "r--s"]);
    assert_eq!(
        [a.byte(at), a.byte(at + PAGE), a.byte(at + 3 * PAGE)],
        [7, 0, 7]
    );
    // The hidden part is the guest's own memory, which it may write to.
    a.poke(at + PAGE, 5).unwrap();
    a.fill(at + 2 * PAGE, PAGE, 5).unwrap();
    assert_eq!(a.pin(number, GRANULE, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(permissions(), ["r--s", "r--s"]);
    assert_eq!([a.byte(at + PAGE), a.byte(at + 2 * PAGE)], [7, 5]);
    a.set_access(window, WRITE).unwrap().unwrap();
    assert_eq!(permissions(), ["rw-s", "rw-s"]);
    assert_eq!(a.byte(at + 2 * PAGE), 5);
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Intact));
    assert_eq!(permissions(), ["rw-s"]);
    a.poke(at + 2 * PAGE, 8).unwrap();
    a.set_access(window, READ).unwrap().unwrap();
    region.pin(..).unwrap();
    assert_eq!(
        region.try_read(2 * GRANULE..2 * GRANULE + 1).unwrap()[..],
        [8]
    );
    // The window itself is read-only.
    assert!(a.poke(at + 2 * PAGE, 9).is_err());
    assert_eq!(
        region.try_read(2 * GRANULE..2 * GRANULE + 1).unwrap()[..],
        [8]
    );
}

// rule 10
#[test]
fn unpinned_spans_are_limited() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.unpinned_spans = 3;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let number = a.create("region", 64 * GRANULE).unwrap().unwrap();
    for hole in 0..3 {
        a.unpin(number, 2 * hole * GRANULE, GRANULE)
            .unwrap()
            .unwrap();
    }
    exhausted(
        a.unpin(number, 10 * GRANULE, GRANULE).unwrap(),
        "unpinned-spans",
    );
    assert_eq!(
        a.is_pinned(number, 10 * GRANULE, GRANULE).unwrap(),
        Ok(true)
    );
    // Adjacent runs are one.
    a.unpin(number, 0, 0).unwrap().unwrap();
    // Pinning the middle makes two runs of one.
    a.pin(number, 10 * GRANULE, GRANULE).unwrap().unwrap();
    a.pin(number, 20 * GRANULE, GRANULE).unwrap().unwrap();
    exhausted(
        a.pin(number, 30 * GRANULE, GRANULE).unwrap().map(|_| ()),
        "unpinned-spans",
    );
}

// rule 7
#[test]
fn window_keeps_its_claims_pins_without_a_handle() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 2);
    let (window, at) = a.shown(number, 2, READ);
    a.drop_handle(number).unwrap();
    assert_eq!(host.purge(u64::MAX), 0);
    assert_eq!(a.byte(at), 7);
    a.drop_window(window).unwrap();
    assert_eq!(host.purge(u64::MAX), 2 * GRANULE);
    assert_eq!(region.pin(..).unwrap(), tombolo::Pinned::Lost);
}

// rule 9
#[test]
fn write_violation_beside_holes_harms_no_other_guest() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 6);
    let (_, at) = a.shown(number, 6, READ);
    for hole in [1, 3] {
        a.unpin(number, hole * GRANULE, GRANULE).unwrap().unwrap();
    }
    // The guest may write to a hole, by any instruction.
    a.fill(at + PAGE, PAGE, 5).unwrap();
    a.poke(at + 3 * PAGE, 5).unwrap();
    // This write goes from one shown part through a hole into the next.
    let _ = a.fill(at + 2 * PAGE + 5, 3 * PAGE, 9);
    let _ = a.fill(at + 5, 1, 9);
    assert!(a.unpin(number, 0, 0).is_err());
    drop(a);
    host.purge(u64::MAX);
    assert_eq!(region.pin(..).unwrap(), tombolo::Pinned::Lost);
    assert!(
        region
            .try_read(0..6 * GRANULE)
            .unwrap()
            .iter()
            .all(|it| *it != 9)
    );
}

// rule 6
#[test]
fn dead_guest_frees_pinned_and_unpinned_bytes() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let name = "half of it purged when its guest dies";
    let number = a.create(name, 6 * GRANULE).unwrap().unwrap();
    let (_, at) = a.shown(number, 6, WRITE);
    a.fill(at, 6 * PAGE, 7).unwrap();
    a.unpin(number, GRANULE, 2 * GRANULE).unwrap().unwrap();
    assert_eq!(kernels(name), (vec![6 * GRANULE], 2));
    assert_eq!(host.purge(GRANULE), GRANULE);
    assert_eq!(kernels(name), (vec![5 * GRANULE], 2));
    assert_eq!(host.budget().committed, 5 * GRANULE);
    assert_eq!(host.purgeable(), GRANULE);
    drop(a);
    let left = host.budget();
    assert_eq!((left.committed, left.purgeable), (0, 0));
    // Without a descriptor and a mapping, the kernel has freed the pages.
    assert_eq!(kernels(name), (vec![], 0));
    host.create("next", 8 * GRANULE).unwrap();
}

/// Returns what the kernel has for the regions of a name: the allocated bytes of each
/// descriptor of this process, and the number of mappings.
fn kernels(name: &str) -> (Vec<u64>, usize) {
    let memfd = format!("tombolo:{name}");
    let process = Process::current();
    let descriptors = process.descriptors().unwrap().into_iter();
    let bytes = descriptors
        .filter(|it| it.memfd().is_some_and(|it| it == &*memfd))
        .map(|it| {
            let file = std::fs::metadata(format!("/proc/self/fd/{}", it.number)).unwrap();
            file.blocks() * 512
        })
        .collect();
    let mappings = process.mappings().unwrap().into_iter();
    let mappings = mappings.filter(|it| it.memfd().is_some_and(|it| it == &*memfd));
    (bytes, mappings.count())
}

// rule 6
#[test]
fn dead_guest_leaves_other_claims_their_bytes() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let region = filled(&host, "half purged, and shared", 6 * GRANULE, 7);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    a.shown(number, 6, READ);
    // The host program pins the first three granules, the guest the last two. One is
    // unpinned.
    region.unpin(3 * GRANULE..).unwrap();
    a.unpin(number, 0, 4 * GRANULE).unwrap().unwrap();
    assert_eq!(host.purge(u64::MAX), GRANULE);
    assert_eq!(kernels(region.name()), (vec![5 * GRANULE], 1));
    drop(a);
    assert_eq!(kernels(region.name()), (vec![5 * GRANULE], 0));
    assert_eq!(host.purge(u64::MAX), 2 * GRANULE);
    assert_eq!(kernels(region.name()), (vec![3 * GRANULE], 0));
    assert!(
        region
            .try_read(0..3 * GRANULE)
            .unwrap()
            .iter()
            .all(|it| *it == 7)
    );
    drop(region);
    assert_eq!(host.budget().committed, 0);
}

// rule 8
#[test]
fn smaller_budget_purges_and_refuses() {
    let host = host(8);
    let pinned = filled(&host, "pinned", 4 * GRANULE, 1);
    let cache = filled(&host, "cache", 4 * GRANULE, 2);
    cache.unpin(..).unwrap();
    assert_eq!(host.set_budget(6 * GRANULE), 0);
    assert_eq!(host.purgeable(), 2 * GRANULE);
    assert_eq!(host.set_budget(GRANULE), 3 * GRANULE);
    assert_eq!(allocated(&cache), 0);
    assert_eq!(allocated(&pinned), 4);
    assert!(host.create("more", 1).is_err());
    pinned.unpin(..).unwrap();
    assert_eq!(allocated(&pinned), 1, "what is over it goes at once");
    host.create("more", 1).unwrap();
}

// rule 8
#[test]
fn bytes_unpinned_over_budget_are_purged_at_once() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 6);
    let (window, at) = a.shown(number, 6, WRITE);
    assert_eq!(host.set_budget(3 * GRANULE), 3 * GRANULE);
    assert_eq!(allocated(&region), 6);

    a.unpin(number, 0, 2 * GRANULE).unwrap().unwrap();
    assert_eq!((allocated(&region), host.purgeable()), (4, 0));
    // One of these granules stays.
    a.unpin(number, 2 * GRANULE, 2 * GRANULE).unwrap().unwrap();
    assert_eq!((allocated(&region), host.purgeable()), (3, GRANULE));
    let pinned = a.pin(number, 3 * GRANULE, GRANULE).unwrap();
    assert_eq!(pinned, Ok(Pinned::Intact));
    assert_eq!(a.byte(at + 3 * PAGE), 7);
    exhausted(a.pin(number, 0, GRANULE).unwrap(), "budget");

    // A dead guest pins nothing.
    assert_eq!(host.set_budget(GRANULE), 2 * GRANULE);
    a.drop_window(window).unwrap();
    assert_eq!(allocated(&region), 3);
    drop(a);
    assert_eq!((allocated(&region), host.purgeable()), (1, GRANULE));
    assert_eq!(host.budget().committed, GRANULE);
}

// rule 8
#[test]
fn accounts_agree_with_the_blocks_of_the_kernel() {
    let host = host(64);
    let one = filled(&host, "one", 10 * GRANULE, 1);
    let two = filled(&host, "two", 7 * GRANULE, 2);
    one.unpin(2 * GRANULE..7 * GRANULE).unwrap();
    two.unpin(..3 * GRANULE).unwrap();
    for rest in (0..8).rev() {
        host.purge(GRANULE);
        let usage = host.budget();
        assert_eq!(usage.purgeable, rest * GRANULE);
        assert_eq!(usage.committed, one.usage().resident + two.usage().resident);
    }
}

/// Threads of an embedder pin, unpin and purge. Each reads what it wrote, or is told of the
/// loss.
// rule 7
#[test]
fn racing_threads_are_told_of_every_loss() {
    let host = host(24);
    std::thread::scope(|scope| {
        for number in 1..=3u8 {
            let host = &host;
            scope.spawn(move || {
                let region = host.create_unpinned("cache", 16 * GRANULE).unwrap();
                let mut whole = [false; 16];
                let mut lost = 0;
                for step in 0..3000u64 {
                    let granule = step * 7 % 16;
                    let offset = granule * GRANULE;
                    let pinned = match region.pin(offset..offset + GRANULE) {
                        Ok(pinned) => pinned,
                        Err(error) => panic!("{error}"),
                    };
                    let mut bytes = region.try_write(offset..offset + GRANULE).unwrap();
                    let filled = std::mem::replace(&mut whole[granule as usize], true);
                    match pinned {
                        tombolo::Pinned::Intact if filled => {
                            assert!(bytes.iter().all(|byte| *byte == number));
                        }
                        _ => {
                            assert!(bytes.iter().all(|byte| *byte == 0));
                            lost += u64::from(filled);
                            bytes.fill(number);
                        }
                    }
                    drop(bytes);
                    region.unpin(offset..offset + GRANULE).unwrap();
                    if step % 64 == 0 {
                        host.purge(2 * GRANULE);
                    }
                }
                assert!(lost > 0);
            });
        }
    });
    assert_eq!(host.budget().committed, 0);
    assert!(host.budget().committed_peak <= 24 * GRANULE);
}

/// Hiding and showing take a system call for each window. Others can use the region
/// meanwhile.
#[test]
fn pins_of_many_windows_keep_no_guard_waiting() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 2);
    region.pin(GRANULE..2 * GRANULE).unwrap();
    for _ in 0..1000 {
        a.shown(number, 1, READ);
    }
    let (over, guards) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut unpinning, mut pinning) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                drop(region.try_read(GRANULE..GRANULE + 1).unwrap());
                guards.fetch_add(1, SeqCst);
            }
        });
        let begun = Instant::now();
        // On a busy machine, the thread may not run during one of them.
        while (unpinning < 100 || pinning < 100) && begun.elapsed() < Duration::from_secs(60) {
            let before = guards.load(SeqCst);
            let unpinned = a.unpin(number, 0, GRANULE);
            let between = guards.load(SeqCst);
            let pinned = a.pin(number, 0, GRANULE);
            unpinning = unpinning.max(between - before);
            pinning = pinning.max(guards.load(SeqCst) - between);
            if !matches!((unpinned, pinned), (Ok(Ok(())), Ok(Ok(_)))) {
                break;
            }
        }
        over.store(true, SeqCst);
    });
    assert!(
        unpinning >= 100 && pinning >= 100,
        "{unpinning} and {pinning} guards during one call"
    );
}

//! Several guests in one store: lends and moves between them, and what they share.

use tombolo::{GRANULE, Limits, Parcel, Region, RegionHost, Rights, Strand, WriteViolation};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{assert_filled, filled};
use wasmtime::component::Val;

use crate::world::{Access, READ, WRITE, World};

/// Creates a store with two guests, and a region that the first one has, full of threes.
fn two(host: &RegionHost) -> (World, Region, u32) {
    let region = filled(host, "music", GRANULE, 3);
    let mut world = World::new([host.context("a"), host.context("b")]);
    let number = world.give(0, &region);
    (world, region, number)
}

fn map(world: &mut World, guest: usize, number: u32, access: Access) -> Result<u32, String> {
    let mapped = world.acts(guest, |acts, store| {
        acts.call_map_window(store, number, access)
    });
    mapped.unwrap()
}

fn peek(world: &mut World, guest: usize, window: u32) -> u8 {
    let seen = world.acts(guest, |acts, store| acts.call_peek(store, window));
    seen.unwrap()
}

// rule 5
#[test]
fn lender_sees_what_the_borrower_wrote() {
    let host = RegionHost::new();
    let (mut world, region, number) = two(&host);
    let window = map(&mut world, 0, number, WRITE).unwrap();
    world
        .acts(0, |acts, store| acts.call_poke(store, window, 9))
        .unwrap();
    let lent = world.acts(0, |acts, store| {
        acts.call_peer_write(store, number, 10, false)
    });
    // The borrower saw the lender's byte, and the lender's window was no conflict.
    assert_eq!(lent.unwrap(), Ok(9));
    assert_eq!(peek(&mut world, 0, window), 10);
    // The lender still has its lock.
    assert!(region.try_read(..).is_err());
    assert!(!region.is_poisoned());
}

// rule 5
#[test]
fn window_kept_by_the_borrower_ends_with_the_lend() {
    let host = RegionHost::new();
    let (mut world, region, number) = two(&host);
    let lent = world.acts(0, |acts, store| {
        acts.call_peer_write(store, number, 10, true)
    });
    assert_eq!(lent.unwrap(), Ok(3));
    // The object remains, but shows zero pages, and there is no lock.
    assert_eq!(peek(&mut world, 1, 0), 0);
    assert_eq!(region.try_read(0..1).unwrap()[..], [10]);
}

// rules 2, 5
#[test]
fn guests_of_one_store_conflict() {
    let host = RegionHost::new();
    let (mut world, region, number) = two(&host);
    let other = world.give(1, &region);
    let window = map(&mut world, 0, number, WRITE).unwrap();
    let refused = map(&mut world, 1, other, READ).unwrap_err();
    assert_eq!(refused, "ErrorCode::WouldBlock");
    world
        .acts(0, |acts, store| acts.call_drop_window(store, window))
        .unwrap();
    map(&mut world, 1, other, READ).unwrap();
}

// rules 5, 8
#[test]
fn moved_region_changes_accounts() {
    let host = RegionHost::new();
    let (mut world, region, number) = two(&host);
    map(&mut world, 0, number, WRITE).unwrap();
    let claimed = |world: &World| {
        let guests = &world.store.data().guests;
        [guests[0].claimed_bytes(), guests[1].claimed_bytes()]
    };
    assert_eq!(claimed(&world), [GRANULE, 0]);
    let moved = world.acts(0, |acts, store| acts.call_peer_keep(store, number));
    let moved = moved.unwrap().unwrap();
    assert_eq!(claimed(&world), [0, GRANULE]);
    // The sender's window went with the claim.
    assert_eq!(peek(&mut world, 0, 0), 0);
    map(&mut world, 1, moved, WRITE).unwrap();
    assert!(!region.is_poisoned());
}

// rule 10
#[test]
fn limits_belong_to_the_guest() {
    let host = RegionHost::new();
    let mut limits = Limits::default();
    (limits.windows, limits.vmas) = (1, 2);
    let narrow = |name: &str| host.context(name).limits(limits.clone());
    let mut world = World::new([narrow("a"), narrow("b")]);
    let region = filled(&host, "music", GRANULE, 3);
    for guest in [0, 1] {
        let number = world.give(guest, &region);
        // As many as one guest may have, whatever the other one has.
        map(&mut world, guest, number, READ).unwrap();
        let refused = map(&mut world, guest, number, READ).unwrap_err();
        let name = ["`a`", "`b`"][guest];
        assert!(
            refused.contains("`windows`") && refused.contains(name),
            "{refused}"
        );
    }
}

// rule 2
#[test]
fn live_windows_of_one_store_conflict() {
    let host = RegionHost::new();
    let strand = Strand::new();
    // SAFETY: the test enters the store on one thread only, and holds no bytes of its memories.
    #[allow(unsafe_code)]
    let live = |name: &str| unsafe { host.context(name).live_within(&strand) };
    let mut world = World::new([live("a"), live("b")]);
    let region = filled(&host, "music", GRANULE, 3);
    let (one, other) = (world.give(0, &region), world.give(1, &region));
    map(&mut world, 0, one, Access::LiveWrite).unwrap();
    let refused = map(&mut world, 1, other, Access::LiveRead).unwrap_err();
    assert_eq!(refused, "ErrorCode::WouldBlock");
}

// rule 6
#[test]
fn dropped_store_poisons_for_guests_not_finished() {
    let host = RegionHost::new();
    let (of_a, of_b) = (
        filled(&host, "a's", GRANULE, 1),
        filled(&host, "b's", GRANULE, 2),
    );
    let mut world = World::new([host.context("a"), host.context("b")]);
    for (guest, region) in [&of_a, &of_b].into_iter().enumerate() {
        let number = world.give(guest, region);
        map(&mut world, guest, number, WRITE).unwrap();
    }
    world.store.data_mut().guests[1].finish();
    drop(world);
    assert!(of_a.is_poisoned());
    assert!(!of_b.is_poisoned());
}

// rules 5, 6
#[test]
fn trap_of_the_borrower_poisons_and_ends_the_store() {
    let host = RegionHost::new();
    let (mut world, region, number) = two(&host);
    let died = world.acts(0, |acts, store| acts.call_peer_die(store, number, 9));
    assert!(format!("{:#}", died.unwrap_err()).contains("unreachable"));
    assert!(region.is_poisoned());
    // wasmtime enters no guest of the store any more.
    for guest in [0, 1] {
        let entered = world.acts(guest, |acts, store| acts.call_under_pressure(store));
        assert!(entered.is_err());
    }
}

// rule 9
#[test]
fn violation_names_the_guest_and_ends_the_store() {
    alone(
        "same_store::violation_names_the_guest_and_ends_the_store",
        || {
            let host = RegionHost::new();
            let (mut world, region, number) = two(&host);
            // The other guest has a window of its own, and maps first.
            let other = world.give(1, &region);
            map(&mut world, 1, other, READ).unwrap();
            let window = map(&mut world, 0, number, READ).unwrap();
            world
                .acts(0, |acts, store| acts.call_violate(store, window))
                .unwrap();
            let violation = tombolo::check(world.guest(1)).unwrap_err();
            assert_eq!(
                (violation.guest(), violation.region()),
                ("a", Some("music"))
            );
            let error = world
                .acts(1, |acts, store| acts.call_create(store, 1))
                .unwrap_err();
            let violation: &WriteViolation = error.downcast_ref().expect("that is the reason");
            assert_eq!(violation.guest(), "a");
            drop(world);
            assert_filled(&region, 3);
        },
    );
}

/// Mistakes of a host program that links guests of one store.
mod mistakes {
    use super::*;

    // rule 1
    #[test]
    fn handle_passed_by_identity_names_nothing() {
        let host = RegionHost::new();
        let (mut world, region, _) = two(&host);
        let own = world.give(1, &region);
        map(&mut world, 1, own, READ).unwrap();
        // A handle of the first guest, passed to the second one.
        let lent = region.lend(world.guest(0), Rights::READ).unwrap();
        let handle = lent.resource();
        let read = world.peer(1, |peer, store| peer.call_read(store, handle));
        let error = format!("{:#}", read.unwrap_err());
        assert!(error.contains("not present"), "{error}");
    }

    // rule 5
    #[test]
    fn lend_ends_at_its_own_guest_only() {
        let host = RegionHost::new();
        let (mut world, region, _) = two(&host);
        let lent = region.lend(world.guest(1), Rights::READ).unwrap();
        let error = lent.end(world.guest(0), Ok(())).unwrap_err();
        assert!(error.to_string().contains("another guest"), "{error}");
        // It has ended nevertheless, and the handle is useless.
        region.try_write(..).unwrap();
    }

    // rule 5
    #[test]
    fn parcel_opens_at_its_recipient_only() {
        let host = RegionHost::new();
        let (mut world, _, _) = two(&host);
        let region = filled(&host, "parcel", GRANULE, 1);
        let handle = region.give(world.guest(0)).unwrap();
        let any = wasmtime::component::ResourceAny::try_from_resource(handle, &mut world.store);
        let values = vec![Val::Resource(any.unwrap())];
        let to = world.store.data().guests[1].recipient();
        let (parcel, _lending) = Parcel::pack(world.guest(0), values, &to).unwrap();
        let error = parcel.unpack(world.guest(0)).unwrap_err();
        assert!(error.to_string().contains("another guest"), "{error}");
    }
}

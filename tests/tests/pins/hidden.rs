//! Windows on bytes that their claim does not pin, which are hidden.

use super::{PAGE, guest, host, shared};
use tombolo::{GRANULE, RegionError};
use tombolo_test_util::puppet::{ErrorCode, Pinned, READ, WRITE, filled, mappings_of};

// rule 7
#[test]
fn unpinned_bytes_of_a_window_are_zeros_until_pinned() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (_region, number) = shared(&host, &mut a, 4);
    let (window, at) = a.mapped(number, 4, WRITE);
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
    let (_, at_a) = a.mapped(number, 2, READ);
    let (_, at_b) = b.mapped(other, 2, READ);
    a.unpin(number, 0, GRANULE).unwrap().unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (0, 7));
    // The lock of the hidden part conflicts with a writer.
    let at = b.allocate(1).unwrap();
    let refused = b.map(other, 0, GRANULE, WRITE, at).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    // The other claim loses no byte.
    assert_eq!(host.purge(u64::MAX), 0);
    assert_eq!(b.byte(at_b), 7);
    assert_eq!(a.pin(number, 0, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.byte(at_a), 7);
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

// rule 7
#[test]
fn access_change_covers_hidden_parts() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 4);
    let (window, at) = a.mapped(number, 4, WRITE);
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

// rule 7
#[test]
fn window_keeps_its_claims_pins_without_a_handle() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 2);
    let (window, at) = a.mapped(number, 2, READ);
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
    let (_, at) = a.mapped(number, 6, READ);
    for hole in [1, 3] {
        a.unpin(number, hole * GRANULE, GRANULE).unwrap().unwrap();
    }
    // The guest may write to a hole, by any instruction.
    a.fill(at + PAGE, PAGE, 5).unwrap();
    a.poke(at + 3 * PAGE, 5).unwrap();
    // This write goes from one visible part through a hole into the next.
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

//! The lock: accesses, rights and freezing.

use super::{PAGE, assert_nothing_is_held, guest, host};
use tombolo::{GRANULE, RegionError};
use tombolo_test_util::puppet::{Access, ErrorCode, READ, Rights, WRITE, all, filled, mappings_of};

/// Returns whether two accesses are compatible.
fn are_compatible(first: Access, second: Access) -> bool {
    first == READ && second == READ
}

const PAIRS: [(Access, Access); 4] = [(READ, READ), (READ, WRITE), (WRITE, READ), (WRITE, WRITE)];

// rule 2
#[test]
fn windows_of_one_guest_conflict_unless_both_read() {
    for (first, second) in PAIRS {
        let host = host();
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", 3 * GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        // The second window uses the same handle, another handle of the claim, or another
        // claim.
        let restricted = a.restrict(number, all()).unwrap().unwrap();
        let duplicated = a.duplicate(number, all()).unwrap().unwrap();
        let at = a.allocate(3).unwrap();
        a.map(number, 0, 2 * GRANULE, first, at).unwrap().unwrap();
        let elsewhere = a.allocate(3).unwrap();
        for handle in [number, restricted, duplicated] {
            // One common granule is enough.
            let shown = a
                .map(handle, GRANULE, 2 * GRANULE, second, elsewhere)
                .unwrap();
            if are_compatible(first, second) {
                assert_eq!(a.byte(elsewhere), 1);
                a.drop_window(shown.unwrap()).unwrap();
            } else {
                assert_eq!(shown, Err(ErrorCode::WouldBlock));
                assert_eq!(mappings_of(&region).len(), 1);
                assert_eq!(a.byte(elsewhere), 0);
            }
            let apart = a
                .map(handle, 2 * GRANULE, GRANULE, second, elsewhere)
                .unwrap();
            a.drop_window(apart.unwrap()).unwrap();
        }
    }
}

// rule 2
#[test]
fn windows_of_two_guests_conflict_unless_both_read() {
    for (first, second) in PAIRS {
        let host = host();
        let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
        let region = filled(&host, "music", 2 * GRANULE, 1);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (window, _) = a.mapped(in_a, 1, first);
        let at = b.allocate(2).unwrap();
        let shown = b.map(in_b, 0, 2 * GRANULE, second, at).unwrap();
        if are_compatible(first, second) {
            b.drop_window(shown.unwrap()).unwrap();
        } else {
            assert_eq!(shown, Err(ErrorCode::WouldBlock));
            assert_eq!(mappings_of(&region).len(), 1);
            assert_eq!(b.sum(at, 2 * PAGE).unwrap(), 0);
        }
        // The other granules are free, and all are once the first window is dropped.
        let rest = b.map(in_b, GRANULE, GRANULE, second, at).unwrap().unwrap();
        b.drop_window(rest).unwrap();
        a.drop_window(window).unwrap();
        b.map(in_b, 0, 2 * GRANULE, second, at).unwrap().unwrap();
        assert_eq!(b.byte(at), 1);
    }
}

// rule 2
#[test]
fn guards_and_windows_conflict_unless_both_read() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 3 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(3).unwrap();

    let guard = region.try_read(GRANULE..GRANULE + 1).unwrap();
    assert_eq!(
        a.map(number, 0, 2 * GRANULE, WRITE, at).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(
        a.write_at(number, 2 * GRANULE - 1, &[0]).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(a.read_at(number, GRANULE, 1).unwrap(), Ok(vec![1]));
    let window = a.map(number, 0, 3 * GRANULE, READ, at).unwrap().unwrap();
    assert_eq!(
        a.set_access(window, WRITE).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert!(matches!(
        region.try_write(0..1),
        Err(RegionError::WouldBlock)
    ));
    assert!(matches!(
        region.write_at(0, &[0]),
        Err(RegionError::WouldBlock)
    ));
    assert_eq!(region.read_at(..1).unwrap(), [1]);
    drop(guard);
    a.drop_window(window).unwrap();

    let mut guard = region.try_write(GRANULE..GRANULE + 1).unwrap();
    for access in [READ, WRITE] {
        let refused = a.map(number, GRANULE, GRANULE, access, at).unwrap();
        assert_eq!(refused, Err(ErrorCode::WouldBlock));
        let apart = a
            .map(number, 2 * GRANULE, GRANULE, access, at)
            .unwrap()
            .unwrap();
        a.drop_window(apart).unwrap();
    }
    assert_eq!(
        a.read_at(number, GRANULE + 7, 1).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(a.freeze(number).unwrap(), Err(ErrorCode::WouldBlock));
    guard[0] = 2;
    drop(guard);

    let window = a.map(number, 0, GRANULE, WRITE, at).unwrap().unwrap();
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    assert!(matches!(region.read_at(..1), Err(RegionError::WouldBlock)));
    assert_eq!(region.try_read(GRANULE..GRANULE + 1).unwrap()[..], [2]);
    a.drop_window(window).unwrap();
    assert_eq!(region.try_read(0..1).unwrap()[..], [1]);
}

// rule 2
#[test]
fn copies_and_windows_conflict_unless_both_read() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, at) = a.mapped(in_a, 1, READ);
    // The caller's own windows conflict too, and one common byte is enough.
    assert_eq!(
        a.write_at(in_a, 5, &[2]).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(
        b.write_at(in_b, GRANULE - 1, &[2, 2]).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(a.read_at(in_a, 5, 2).unwrap(), Ok(vec![1, 1]));
    assert_eq!(b.read_at(in_b, 5, 2).unwrap(), Ok(vec![1, 1]));
    a.set_access(window, WRITE).unwrap().unwrap();
    assert_eq!(a.read_at(in_a, 5, 1).unwrap(), Err(ErrorCode::WouldBlock));
    assert_eq!(b.read_at(in_b, 5, 1).unwrap(), Err(ErrorCode::WouldBlock));
    assert_eq!(b.write_at(in_b, GRANULE, &[3]).unwrap(), Ok(()));
    a.poke(at, 4).unwrap();
    a.drop_window(window).unwrap();
    assert_eq!(b.read_at(in_b, 0, 2).unwrap(), Ok(vec![4, 1]));
    assert_eq!(a.read_at(in_a, GRANULE - 1, 3).unwrap(), Ok(vec![1, 3, 1]));
}

// rule 10
#[test]
fn copies_out_of_bounds_or_over_limit_are_refused() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE + 10, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    // Copies end at the size, not at the last granule.
    for (offset, length) in [
        (GRANULE + 10, 1),
        (GRANULE, 11),
        (u64::MAX, 2),
        (1, 16 << 20),
    ] {
        let refused = a.read_at(number, offset, length).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::OutOfBounds(_))),
            "{refused:?}"
        );
    }
    for offset in [GRANULE + 10, GRANULE + 9, u64::MAX] {
        let refused = a.write_at(number, offset, &[0, 0]).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::OutOfBounds(_))),
            "{refused:?}"
        );
    }
    for length in [(16 << 20) + 1, u64::MAX] {
        match a.read_at(number, 0, length).unwrap() {
            Err(ErrorCode::Exhausted(text)) => assert!(text.contains("copy-bytes"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(a.read_at(number, GRANULE + 10, 0).unwrap(), Ok(vec![]));
    assert_nothing_is_held(&region, 1);
}

// rule 2
#[test]
fn set_access_respects_the_lock() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = a.mapped(in_a, 1, READ);
    let (window_b, at_b) = b.mapped(in_b, 1, READ);
    // Another guest reads.
    assert_eq!(
        a.set_access(window_a, WRITE).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(a.byte(at_a), 1);
    b.drop_window(window_b).unwrap();
    // `set-access` ignores only the window that it changes.
    a.set_access(window_a, WRITE).unwrap().unwrap();
    a.set_access(window_a, WRITE).unwrap().unwrap();
    a.poke(at_a, 2).unwrap();
    let refused = b.map(in_b, 0, GRANULE, READ, at_b).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    a.set_access(window_a, READ).unwrap().unwrap();
    a.set_access(window_a, READ).unwrap().unwrap();
    b.map(in_b, 0, GRANULE, READ, at_b).unwrap().unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (2, 2));
    // Another window of the same guest conflicts.
    let (second, _) = a.mapped(in_a, 1, READ);
    assert_eq!(
        a.set_access(second, WRITE).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    // After the change the window cannot write.
    a.poke(at_a, 3).unwrap_err();
    assert_eq!(b.byte(at_b), 2);
    b.assert_works();
}

// rule 1
#[test]
fn rights_limit_windows_and_copies() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(1).unwrap();
    let refused = Err(ErrorCode::NotPermitted);

    for reader in [
        a.restrict(number, Rights::READ).unwrap().unwrap(),
        a.duplicate(number, Rights::READ).unwrap().unwrap(),
    ] {
        assert_eq!(a.map(reader, 0, GRANULE, WRITE, at).unwrap(), refused);
        assert_eq!(
            a.write_at(reader, 0, &[2]).unwrap(),
            Err(ErrorCode::NotPermitted)
        );
        assert_eq!(a.freeze(reader).unwrap(), Err(ErrorCode::NotPermitted));
        assert_eq!(
            a.clear_poison(reader).unwrap(),
            Err(ErrorCode::NotPermitted)
        );
        assert_eq!(a.duplicate(reader, Rights::READ).unwrap(), refused);
        assert_eq!(a.restrict(reader, Rights::WRITE).unwrap(), refused);
        assert_eq!(a.read_at(reader, 0, 1).unwrap(), Ok(vec![1]));
        let window = a.map(reader, 0, GRANULE, READ, at).unwrap().unwrap();
        // The rights are those of the dropped handle that the window was mapped through.
        a.drop_handle(reader).unwrap();
        assert_eq!(
            a.set_access(window, WRITE).unwrap(),
            Err(ErrorCode::NotPermitted)
        );
        a.drop_window(window).unwrap();
    }

    // A window that writes shows the bytes too, so it needs the right `read`.
    let writer = a.restrict(number, Rights::WRITE).unwrap().unwrap();
    assert_eq!(a.map(writer, 0, GRANULE, READ, at).unwrap(), refused);
    assert_eq!(a.map(writer, 0, GRANULE, WRITE, at).unwrap(), refused);
    assert_eq!(
        a.read_at(writer, 0, 1).unwrap(),
        Err(ErrorCode::NotPermitted)
    );
    assert_eq!(a.write_at(writer, 0, &[2]).unwrap(), Ok(()));
    assert_eq!(region.try_read(0..2).unwrap()[..], [2, 1]);

    let nothing = a.restrict(number, Rights::empty()).unwrap().unwrap();
    for access in [READ, WRITE] {
        assert_eq!(a.map(nothing, 0, GRANULE, access, at).unwrap(), refused);
    }
    assert!(mappings_of(&region).is_empty());
}

// rule 2
#[test]
fn freeze_conflicts_with_writers_and_is_final() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = a.mapped(in_a, 1, WRITE);
    // The caller's own windows conflict, and those of others.
    assert_eq!(a.freeze(in_a).unwrap(), Err(ErrorCode::WouldBlock));
    assert_eq!(b.freeze(in_b).unwrap(), Err(ErrorCode::WouldBlock));
    a.poke(at_a, 2).unwrap();
    a.set_access(window_a, READ).unwrap().unwrap();
    // Windows that read do not conflict, and stay.
    a.freeze(in_a).unwrap().unwrap();
    b.freeze(in_b).unwrap().unwrap();
    assert_eq!(a.byte(at_a), 2);
    assert_eq!(
        a.set_access(window_a, WRITE).unwrap(),
        Err(ErrorCode::Frozen)
    );
    let at_b = b.allocate(2).unwrap();
    let refused = b.map(in_b, GRANULE, GRANULE, WRITE, at_b).unwrap();
    assert_eq!(refused, Err(ErrorCode::Frozen));
    assert_eq!(
        b.write_at(in_b, GRANULE, &[3]).unwrap(),
        Err(ErrorCode::Frozen)
    );
    assert!(matches!(region.try_write(0..1), Err(RegionError::Frozen)));
    b.map(in_b, 0, 2 * GRANULE, READ, at_b).unwrap().unwrap();
    assert_eq!((b.byte(at_b), b.byte(at_b + 1)), (2, 1));
    assert!(region.is_frozen());
    assert_eq!(region.try_read(0..2).unwrap()[..], [2, 1]);
}

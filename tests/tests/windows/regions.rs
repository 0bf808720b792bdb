//! The sizes of regions, and the pages that guests share.

use super::{PAGE, guest, host};
use tombolo::GRANULE;
use tombolo_test_util::puppet::{ErrorCode, READ, WRITE, filled, mappings_of};

// rule 3
#[test]
fn regions_of_all_sizes_map_to_their_last_byte() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    // The last size is larger than a guest's memory can be.
    let sizes = [
        1,
        2,
        GRANULE - 1,
        GRANULE,
        GRANULE + 1,
        10_000_000,
        (1 << 32) + 1,
        (5 << 30) - 3,
    ];
    for size in sizes {
        let region = host.create("sized", size).unwrap();
        assert_eq!(region.size(), size);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let last = (size - 1) / GRANULE * GRANULE;
        let inside = u32::try_from(size - 1 - last).unwrap();
        let at = a.allocate(1).unwrap();
        let window = a.map(in_a, last, GRANULE, WRITE, at).unwrap().unwrap();
        let mapping = &mappings_of(&region)[0];
        assert_eq!(
            (mapping.offset, mapping.range.end - mapping.range.start),
            (last, GRANULE)
        );
        a.poke(at + inside, 0x77).unwrap();
        // The whole granule is mapped. The bytes past the size do not fault.
        a.fill(at + inside, PAGE - inside, 0x77).unwrap();
        a.drop_window(window).unwrap();
        let beyond = a.map(in_a, last + GRANULE, GRANULE, READ, at).unwrap();
        assert!(
            matches!(beyond, Err(ErrorCode::OutOfBounds(_))),
            "{size}: {beyond:?}"
        );

        let at = b.allocate(1).unwrap();
        b.map(in_b, last, GRANULE, READ, at).unwrap().unwrap();
        assert_eq!(b.byte(at + inside), 0x77);
        assert_eq!(b.read_at(in_b, size - 1, 1).unwrap(), Ok(vec![0x77]));
        assert_eq!(region.try_read(size - 1..size).unwrap()[..], [0x77]);
    }
}

// rule 10
#[test]
fn empty_or_oversized_regions_are_refused() {
    let host = host();
    let mut a = guest(&host, "a");
    for size in [0, (16 << 30) + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        let refused = a.create("sized", size).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::InvalidArgument(_))),
            "{size:#x}: {refused:?}"
        );
    }
    for name in ["", "a\0b", &"n".repeat(201)] {
        let refused = a.create(name, 1).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::InvalidArgument(_))),
            "{name:?}: {refused:?}"
        );
    }
    assert_eq!(host.counts().regions_created, 0);
    a.assert_works();
}

#[test]
fn guests_and_host_see_the_same_physical_pages() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", 4 * GRANULE, 1);
    let copied = host.counts().bytes_copied;
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = (a.allocate(2).unwrap(), b.allocate(2).unwrap());
    let (at_a, at_b) = (window_a, at_a);
    let window = a
        .map(in_a, GRANULE, 2 * GRANULE, WRITE, at_a)
        .unwrap()
        .unwrap();
    a.poke(at_a, 0x42).unwrap();
    a.set_access(window, READ).unwrap().unwrap();
    b.map(in_b, GRANULE, 2 * GRANULE, READ, at_b)
        .unwrap()
        .unwrap();
    let guard = region.try_read(GRANULE..3 * GRANULE).unwrap();

    // The three mappings have one file, and show the same part of it, so they are the same pages.
    let mappings = mappings_of(&region);
    assert_eq!(mappings.len(), 3, "{mappings:?}");
    let guarded = guard.as_ptr().addr() as u64;
    for mapping in &mappings {
        if mapping.range.contains(&guarded) {
            // A guard maps the whole file.
            assert_eq!(guarded - mapping.range.start + mapping.offset, GRANULE);
        } else {
            assert_eq!(mapping.offset, GRANULE);
            assert_eq!(mapping.range.end - mapping.range.start, 2 * GRANULE);
        }
        assert_eq!(mapping.permissions, "r--s");
        assert_eq!(mapping.memfd().unwrap(), "tombolo:music");
    }
    assert!(mappings.iter().any(|it| it.range.contains(&guarded)));
    assert_eq!((a.byte(at_a), b.byte(at_b), guard[0]), (0x42, 0x42, 0x42));
    assert_eq!(host.counts().bytes_copied, copied);
}

#[test]
fn read_windows_are_mapped_read_only() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, _) = a.mapped(number, 1, READ);
    for (access, permissions) in [(READ, "r--s"), (WRITE, "rw-s"), (READ, "r--s")] {
        a.set_access(window, access).unwrap().unwrap();
        let mappings = mappings_of(&region);
        assert_eq!(
            (mappings.len(), &*mappings[0].permissions),
            (1, permissions)
        );
    }
}

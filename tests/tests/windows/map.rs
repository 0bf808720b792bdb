//! The map call: each condition that it checks.

use super::{PAGE, assert_nothing_is_held, guest, host};
use tombolo::GRANULE;
use tombolo_test_util::puppet::{ErrorCode, READ, WRITE, assert_filled, filled, mappings_of};

// rule 3
#[test]
fn map_names_the_misaligned_argument() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 3 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(4).unwrap();
    for (offset, length, at, what) in [
        (1, GRANULE, at, "offset"),
        (4096, GRANULE, at, "offset"),
        (u64::MAX, GRANULE, at, "offset"),
        (0, GRANULE + 1, at, "length"),
        (0, 1, at, "length"),
        (0, u64::MAX, at, "length"),
        (0, GRANULE, at + 1, "address"),
        (0, GRANULE, at + 4096, "address"),
        (0, GRANULE, at + PAGE - 1, "address"),
    ] {
        for access in [READ, WRITE] {
            match a.map(number, offset, length, access, at).unwrap() {
                Err(ErrorCode::Misaligned(text)) => assert!(text.contains(what), "{text}"),
                other => panic!("{offset:#x} {length:#x} {at:#x}: {other:?}"),
            }
        }
    }
    assert_nothing_is_held(&region, 1);
    a.assert_works();
}

// rule 3
#[test]
fn map_of_zero_bytes_is_an_invalid_argument() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(1).unwrap();
    for offset in [0, GRANULE] {
        let refused = a.map(number, offset, 0, WRITE, at).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::InvalidArgument(_))),
            "{refused:?}"
        );
    }
    assert_nothing_is_held(&region, 1);
    a.assert_works();
}

// rule 3
#[test]
fn map_outside_of_the_region_is_out_of_bounds() {
    let host = host();
    let mut a = guest(&host, "a");
    // The size is three granules, rounded up.
    let region = filled(&host, "music", 3 * GRANULE - 5, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(4).unwrap();
    const LAST: u64 = u64::MAX - GRANULE + 1;
    for (offset, length) in [
        (3 * GRANULE, GRANULE),
        (2 * GRANULE, 2 * GRANULE),
        (0, 4 * GRANULE),
        (GRANULE, LAST),
        (LAST, GRANULE),
        (LAST, LAST),
        (1 << 63, 1 << 63),
        (0, LAST),
        (0, 1 << 63),
        (1 << 32, GRANULE),
    ] {
        match a.map(number, offset, length, WRITE, at).unwrap() {
            Err(ErrorCode::OutOfBounds(text)) => assert!(text.contains("region"), "{text}"),
            other => panic!("{offset:#x} {length:#x}: {other:?}"),
        }
    }
    assert_nothing_is_held(&region, 1);

    // A window may cover the last granule whole. The bytes past the size are zero.
    let window = a
        .map(number, 2 * GRANULE, GRANULE, WRITE, at)
        .unwrap()
        .unwrap();
    assert_eq!(a.peek(at + PAGE - 6, 6).unwrap(), [1, 0, 0, 0, 0, 0]);
    a.drop_window(window).unwrap();
    a.assert_works();
}

// rule 3
#[test]
fn map_outside_of_the_memory_is_out_of_bounds() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = host.create("sparse", 5 << 30).unwrap();
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let last = (a.pages().unwrap() - 1) * PAGE;
    for (at, length) in [
        (last, 2 * GRANULE),
        (last, 1 << 32),
        (last, 5 << 30),
        (0, 1 << 32),
        (PAGE, (1 << 32) - GRANULE),
    ] {
        match a.map(number, 0, length, READ, at).unwrap() {
            Err(ErrorCode::OutOfBounds(text)) => assert!(text.contains("memory"), "{text}"),
            other => panic!("{at:#x} {length:#x}: {other:?}"),
        }
    }
    assert!(mappings_of(&region).is_empty());
    assert_eq!(region.try_write(0..1).unwrap()[..], [0]);
    a.assert_works();
}

// rule 3
#[test]
fn map_at_an_address_past_the_memory_traps() {
    let host = host();
    let mut b = guest(&host, "b");
    for beyond in [0, PAGE, 1 << 30] {
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let end = a.pages().unwrap() * PAGE;
        a.map(number, 0, GRANULE, READ, end + beyond).unwrap_err();
        assert_nothing_is_held(&region, 1);
        b.assert_works();
    }
}

// rule 3
#[test]
fn map_needs_a_list_of_exactly_one_byte() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(1).unwrap();
    for listed in [0, 2, PAGE] {
        let refused = a.map_listed(number, 0, GRANULE, WRITE, at, listed).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::InvalidArgument(_))),
            "{listed}: {refused:?}"
        );
    }
    assert_nothing_is_held(&region, 1);
    a.assert_works();
}

// rule 3
#[test]
fn map_over_another_window_is_an_overlap() {
    let host = host();
    let mut a = guest(&host, "a");
    let under = filled(&host, "under", 2 * GRANULE, 1);
    let over = filled(&host, "over", 4 * GRANULE, 2);
    let under_number = a.receive(under.duplicate(tombolo::Rights::ALL).unwrap());
    let over_number = a.receive(over.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(6).unwrap();
    let middle = at + 2 * PAGE;
    a.map(under_number, 0, 2 * GRANULE, READ, middle)
        .unwrap()
        .unwrap();
    for (first, length) in [(2, 2), (2, 1), (3, 1), (1, 2), (3, 2), (1, 4), (0, 3)] {
        let refused = a
            .map(over_number, 0, length * GRANULE, WRITE, at + first * PAGE)
            .unwrap();
        assert_eq!(refused, Err(ErrorCode::Overlap), "{first} {length}");
    }
    // The same region overlaps too. The granules beside the window are free.
    let refused = a.map(under_number, 0, GRANULE, READ, middle).unwrap();
    assert_eq!(refused, Err(ErrorCode::Overlap));
    assert_nothing_is_held(&over, 2);
    assert_eq!(a.byte(middle + 2 * PAGE - 1), 1);
    let left = a
        .map(over_number, 0, 2 * GRANULE, WRITE, at)
        .unwrap()
        .unwrap();
    let right = a
        .map(over_number, 2 * GRANULE, 2 * GRANULE, WRITE, at + 4 * PAGE)
        .unwrap();
    let seen: Vec<u8> = (0..6).map(|page| a.byte(at + page * PAGE)).collect();
    assert_eq!(seen, [2, 2, 1, 1, 2, 2]);
    a.drop_window(left).unwrap();
    a.drop_window(right.unwrap()).unwrap();
    assert_eq!(a.byte(middle), 1);
    assert_filled(&under, 1);
    a.assert_works();
}

/// Returns the kernel's flags of a region's mapping: `hg` is among them if the kernel was
/// advised to use huge pages.
fn flags(region: &tombolo::Region) -> String {
    let [mapping] = &mappings_of(region)[..] else {
        panic!("it is shown once");
    };
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{:x}-", mapping.range.start);
    let of_it = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = of_it.filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.map(str::to_owned).next().unwrap()
}

#[test]
fn large_windows_are_advised_to_use_huge_pages() {
    const HUGE: u64 = 2 << 20;
    let settings = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let setting = std::fs::read_to_string(settings).unwrap_or_default();
    let advises = setting.contains("[advise]");
    let host = host();
    let mut a = guest(&host, "a");
    let allocated = a.allocate(128).unwrap();
    let at = allocated.next_multiple_of(HUGE as u32);
    // The offset in the region, the length, and the address past a multiple.
    for (offset, length, after, fits) in [
        (0, HUGE, 0, true),
        (GRANULE, HUGE, GRANULE, true),
        (GRANULE, HUGE, 0, false),
        (0, HUGE - GRANULE, 0, false),
    ] {
        let region = host.create("huge", 2 * HUGE).unwrap();
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let window = a.map(number, offset, length, WRITE, at + after as u32);
        let window = window.unwrap().unwrap();
        let start = mappings_of(&region)[0].range.start;
        assert_eq!(start % HUGE, after, "memories are aligned");
        let flags = flags(&region);
        let advised = flags.split_whitespace().any(|flag| flag == "hg");
        assert_eq!(
            advised,
            advises && fits,
            "{offset} {length} {after}: {flags}"
        );
        // A part that was hidden is unchanged, and one mapping again.
        a.unpin(number, offset + GRANULE, GRANULE).unwrap().unwrap();
        a.pin(number, offset + GRANULE, GRANULE).unwrap().unwrap();
        assert_eq!(self::flags(&region), flags);
        a.drop_window(window).unwrap();
    }
    a.assert_works();
}

// rule 3
#[test]
fn many_windows_show_granules_in_any_order() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = host.create("pages", 64 * GRANULE).unwrap();
    for page in 0..64 {
        region
            .try_write(page * GRANULE..page * GRANULE + 1)
            .unwrap()[0] = page as u8;
    }
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(64).unwrap();
    // The windows show the granules in reverse order.
    for page in 0..64u32 {
        let offset = u64::from(63 - page) * GRANULE;
        a.map(number, offset, GRANULE, READ, at + page * PAGE)
            .unwrap()
            .unwrap();
    }
    for page in 0..64u32 {
        assert_eq!(u32::from(a.byte(at + page * PAGE)), 63 - page);
    }
    assert_eq!(mappings_of(&region).len(), 64);
}

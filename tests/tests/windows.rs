//! Windows: their places, the lock, and the memory after them. The guests are puppets, which
//! the test drives step by step.

use tombolo::{GRANULE, HostLimits, Limits, RegionError, RegionHost};

use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{
    Access, ErrorCode, Puppet, READ, Rights, WRITE, all, assert_filled, filled, mappings_in,
    mappings_of,
};

fn guest(host: &RegionHost, name: &str) -> Puppet {
    Puppet::new(host, name)
}

/// Creates a host with default limits.
fn host() -> RegionHost {
    RegionHost::with_limits(HostLimits::default())
}

const MASK: u32 = 0xffff;
/// The bytes of a granule, as a guest's address counts them.
const PAGE: u32 = 65536;

// The map call.

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
            match a.show(number, offset, length, access, at).unwrap() {
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
        let refused = a.show(number, offset, 0, WRITE, at).unwrap();
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
        match a.show(number, offset, length, WRITE, at).unwrap() {
            Err(ErrorCode::OutOfBounds(text)) => assert!(text.contains("region"), "{text}"),
            other => panic!("{offset:#x} {length:#x}: {other:?}"),
        }
    }
    assert_nothing_is_held(&region, 1);

    // A window may cover the last granule whole. The bytes past the size are zero.
    let window = a
        .show(number, 2 * GRANULE, GRANULE, WRITE, at)
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
        match a.show(number, 0, length, READ, at).unwrap() {
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
        a.show(number, 0, GRANULE, READ, end + beyond).unwrap_err();
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
        let refused = a
            .show_listed(number, 0, GRANULE, WRITE, at, listed)
            .unwrap();
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
    a.show(under_number, 0, 2 * GRANULE, READ, middle)
        .unwrap()
        .unwrap();
    for (first, length) in [(2, 2), (2, 1), (3, 1), (1, 2), (3, 2), (1, 4), (0, 3)] {
        let refused = a
            .show(over_number, 0, length * GRANULE, WRITE, at + first * PAGE)
            .unwrap();
        assert_eq!(refused, Err(ErrorCode::Overlap), "{first} {length}");
    }
    // The same region overlaps too. The granules beside the window are free.
    let refused = a.show(under_number, 0, GRANULE, READ, middle).unwrap();
    assert_eq!(refused, Err(ErrorCode::Overlap));
    assert_nothing_is_held(&over, 2);
    assert_eq!(a.byte(middle + 2 * PAGE - 1), 1);
    let left = a
        .show(over_number, 0, 2 * GRANULE, WRITE, at)
        .unwrap()
        .unwrap();
    let right = a
        .show(over_number, 2 * GRANULE, 2 * GRANULE, WRITE, at + 4 * PAGE)
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
        let window = a.show(number, offset, length, WRITE, at + after as u32);
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
        a.show(number, offset, GRANULE, READ, at + page * PAGE)
            .unwrap()
            .unwrap();
    }
    for page in 0..64u32 {
        assert_eq!(u32::from(a.byte(at + page * PAGE)), 63 - page);
    }
    assert_eq!(mappings_of(&region).len(), 64);
}

// A guest may place a window anywhere in its memory.

// rule 9
#[test]
fn window_over_its_own_stack_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let other = filled(&host, "other", GRANULE, 7);
        let other_number = b.receive(other.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, seen_at) = b.shown(other_number, 1, READ);
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let stack = a.stack().unwrap() & !MASK;
        // The host writes the result to the stack, which the window has replaced. So the
        // guest runs up to its next host call.
        let shown = a.show(number, 0, GRANULE, access, stack);
        let after = a.churn(10).and_then(|_| a.create("more", 1));
        if access == READ {
            assert!(shown.is_err() || after.is_err(), "it wrote to its stack");
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        assert_eq!(b.byte(seen_at), 7);
        assert_filled(&other, 7);
        b.assert_works();
    }
}

// rule 9
#[test]
fn window_over_its_own_data_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let data = a.data().unwrap();
        assert_eq!(a.byte(data), 7);
        let shown = a.show(number, 0, GRANULE, access, data & !MASK);
        // The guest's list of handles may be there too, so it may trap or continue.
        let seen = a.peek(data, 1);
        if let (Ok(Ok(_)), Ok(seen)) = (&shown, &seen) {
            assert_eq!(seen[..], [1]);
        }
        let _ = a.churn(100);
        if access == READ {
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        b.assert_works();
    }
}

// rule 9
#[test]
fn window_over_its_own_heap_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let last = a.pages().unwrap();
        let region = filled(&host, "music", 64 * GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        a.churn(50).unwrap();
        // The window covers the heap that the churning has taken.
        let grown = a.pages().unwrap() - last;
        assert!(grown > 2, "{grown}");
        let length = u64::from(grown.min(64)) * GRANULE;
        let _ = a.show(number, 0, length, access, last * PAGE);
        let _ = a.churn(50);
        if access == READ {
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        b.assert_works();
    }
}

// rule 9
#[test]
fn freeing_under_a_read_window_changes_no_region() {
    let host = host();
    let mut b = guest(&host, "b");
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (_, at) = a.shown(number, 2, READ);
    a.forget_windows().unwrap();
    // The allocator writes into the freed memory. That is the guest's mistake.
    let freed = a.release(at, 2).and_then(|()| a.churn(500));
    assert!(freed.is_err(), "nothing was written");
    assert_filled_after(a, &region, 1);
    b.assert_works();
}

// rule 9
#[test]
fn freeing_under_a_write_window_changes_that_region() {
    let host = host();
    let mut b = guest(&host, "b");
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let other = filled(&host, "other", 2 * GRANULE, 2);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let other_number = a.receive(other.duplicate(tombolo::Rights::ALL).unwrap());
    let (_, other_at) = a.shown(other_number, 2, READ);
    let (_, at) = a.shown(number, 2, WRITE);
    a.forget_windows().unwrap();
    a.release(at, 2).unwrap();
    let _ = a.churn(500);
    // The window and its lock still exist.
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    let _ = a.peek(other_at, 1).map(|seen| assert_eq!(seen[..], [2]));
    drop(a);
    assert_filled(&other, 2);
    assert!(matches!(region.try_read(0..1), Err(RegionError::Poisoned)));
    b.assert_works();
}

// Growth.

#[test]
fn memory_grows_around_windows() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 4 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    // The window covers the last granules of the memory before it grows.
    let end = a.grow(2).unwrap() as u32 + 2;
    let at = (end - 2) * PAGE;
    let first = a.show(number, 0, 2 * GRANULE, WRITE, at).unwrap().unwrap();
    a.poke(at + 2 * PAGE - 1, 2).unwrap();
    // Then the memory grows.
    assert_eq!(a.grow(3).unwrap() as u32, end);
    assert_eq!(a.byte(end * PAGE), 0);
    let second = a.show(number, 2 * GRANULE, 2 * GRANULE, WRITE, (end + 1) * PAGE);
    let second = second.unwrap().unwrap();
    assert_eq!(a.grow(100).unwrap() as u32, end + 3);
    let seen: Vec<u8> = [
        at,
        at + 2 * PAGE - 1,
        end * PAGE,
        (end + 1) * PAGE,
        (end + 3) * PAGE,
    ]
    .map(|at| a.byte(at))
    .into();
    assert_eq!(seen, [1, 2, 0, 1, 0]);
    a.poke((end + 1) * PAGE, 3).unwrap();
    a.drop_window(first).unwrap();
    a.drop_window(second).unwrap();
    assert_eq!(
        region.try_read(2 * GRANULE - 1..2 * GRANULE + 1).unwrap()[..],
        [2, 3]
    );
    a.assert_works();
}

// After a window.

// rule 4
#[test]
fn memory_after_a_window_is_private_zeros() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(4).unwrap();
    a.fill(at, 4 * PAGE, 9).unwrap();
    for access in [READ, WRITE] {
        let window = a
            .show(number, 0, 2 * GRANULE, access, at + PAGE)
            .unwrap()
            .unwrap();
        assert_eq!(a.byte(at + PAGE), 1);
        a.drop_window(window).unwrap();
        assert_eq!(a.sum(at + PAGE, 2 * PAGE).unwrap(), 0);
        // The bytes under the window are lost, those beside it are not.
        assert_eq!(a.byte(at + PAGE - 1), 9);
        assert_eq!(a.byte(at + 3 * PAGE), 9);
        assert!(mappings_of(&region).is_empty());
        a.fill(at + PAGE, 2 * PAGE, 4).unwrap();
        assert_nothing_is_held(&region, 1);
    }
}

// rule 4
#[test]
fn reused_memory_holds_nothing_of_earlier_guests() {
    // In a process of its own, no guest of another test can use the memory in between.
    alone("reused_memory_holds_nothing_of_earlier_guests", || {
        let host = host();
        let region = filled(&host, "music", 4 * GRANULE, MARK);
        let mut bases = Vec::new();
        let mut new = None;
        for life in 0..20 {
            let mut guest = guest(&host, "a");
            let whole = whole_memory(&mut guest);
            assert!(!whole.contains(&MARK), "life {life}");
            // Nothing else is created after the first guest starts.
            assert!(
                new.get_or_insert_with(|| whole.clone()) == &whole,
                "life {life}"
            );

            // The guest marks all memory that it may write to: its stack, its heap and
            // memory that it grows by.
            let stack = guest.stack().unwrap();
            guest.fill(stack / 2, 64, MARK).unwrap();
            let grown = guest.grow(5).unwrap() as u32 * PAGE;
            guest.fill(grown, 5 * PAGE, MARK).unwrap();
            let at = guest.allocate(8).unwrap();
            guest.fill(at, 8 * PAGE, MARK).unwrap();
            // It also opens windows, some of which exist at its end.
            let number = guest.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
            let there = [at + PAGE, at + 4 * PAGE, grown];
            for (index, at) in there.into_iter().enumerate() {
                let offset = index as u64 * GRANULE;
                let shown = guest.show(number, offset, GRANULE, WRITE, at);
                let window = shown.unwrap().unwrap();
                if index == 0 {
                    let base = mappings_of(&region)[0].range.start - u64::from(at);
                    bases.push(base);
                }
                if (life + index) % 2 == 0 {
                    guest.drop_window(window).unwrap();
                    guest.fill(at, PAGE, MARK).unwrap();
                }
            }
            guest.unpin(number, GRANULE, GRANULE).unwrap().unwrap();
            guest.fill(there[1], PAGE, MARK).unwrap();
            guest.store.data_mut().regions.finish();
            drop(guest);
            assert!(mappings_of(&region).is_empty());
            assert_filled(&region, MARK);
        }
        bases.dedup();
        assert_eq!(bases.len(), 1, "each had another memory: {bases:x?}");
    });
}

/// A byte that no program has in its data.
const MARK: u8 = 0xb7;

/// Returns all bytes of a guest's memory.
fn whole_memory(guest: &mut Puppet) -> Vec<u8> {
    let pages = guest.pages().unwrap();
    (0..pages)
        .flat_map(|page| guest.peek(page * PAGE, PAGE).unwrap())
        .collect()
}

// rule 4
#[test]
fn new_region_is_zero() {
    let host = host();
    let mut a = guest(&host, "a");
    for round in 0..3 {
        let number = a.create("secret", 2 * GRANULE - 1).unwrap().unwrap();
        let (window, at) = a.shown(number, 2, WRITE);
        assert_eq!(a.sum(at, 2 * PAGE).unwrap(), 0, "round {round}");
        // The bytes past the size are zero too.
        a.fill(at, 2 * PAGE, 0xee).unwrap();
        a.drop_window(window).unwrap();
        a.drop_handle(number).unwrap();
        a.release(at, 2).unwrap();
    }
    assert_eq!(host.counts().regions_freed, 3);
}

// rule 4
#[test]
fn ended_windows_leave_no_hole_in_the_memory() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 8 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let at = a.allocate(8).unwrap();
    let one = a.show(number, 0, GRANULE, READ, at).unwrap().unwrap();
    let base = mappings_of(&region)[0].range.start - u64::from(at);
    a.drop_window(one).unwrap();
    for round in 0..50u32 {
        let first = round % 8;
        let length = 1 + round % (8 - first);
        let length = u64::from(length) * GRANULE;
        let window = a
            .show(number, 0, length, READ, at + first * PAGE)
            .unwrap()
            .unwrap();
        a.drop_window(window).unwrap();
        let range = base..base + (1 << 32);
        let mut end = range.start;
        for mapping in mappings_in(range.clone()) {
            assert!(mapping.range.start <= end, "a hole at {end:#x}");
            assert_eq!(mapping.inode, 0);
            end = mapping.range.end;
        }
        assert!(end >= range.end, "a hole at {end:#x}");
    }
}

// The lock.

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
        a.show(number, 0, 2 * GRANULE, first, at).unwrap().unwrap();
        let elsewhere = a.allocate(3).unwrap();
        for handle in [number, restricted, duplicated] {
            // One common granule is enough.
            let shown = a
                .show(handle, GRANULE, 2 * GRANULE, second, elsewhere)
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
                .show(handle, 2 * GRANULE, GRANULE, second, elsewhere)
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
        let (window, _) = a.shown(in_a, 1, first);
        let at = b.allocate(2).unwrap();
        let shown = b.show(in_b, 0, 2 * GRANULE, second, at).unwrap();
        if are_compatible(first, second) {
            b.drop_window(shown.unwrap()).unwrap();
        } else {
            assert_eq!(shown, Err(ErrorCode::WouldBlock));
            assert_eq!(mappings_of(&region).len(), 1);
            assert_eq!(b.sum(at, 2 * PAGE).unwrap(), 0);
        }
        // The other granules are free, and all are once the first window is dropped.
        let rest = b.show(in_b, GRANULE, GRANULE, second, at).unwrap().unwrap();
        b.drop_window(rest).unwrap();
        a.drop_window(window).unwrap();
        b.show(in_b, 0, 2 * GRANULE, second, at).unwrap().unwrap();
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
        a.show(number, 0, 2 * GRANULE, WRITE, at).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(
        a.write_at(number, 2 * GRANULE - 1, &[0]).unwrap(),
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(a.read_at(number, GRANULE, 1).unwrap(), Ok(vec![1]));
    let window = a.show(number, 0, 3 * GRANULE, READ, at).unwrap().unwrap();
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
        let refused = a.show(number, GRANULE, GRANULE, access, at).unwrap();
        assert_eq!(refused, Err(ErrorCode::WouldBlock));
        let apart = a
            .show(number, 2 * GRANULE, GRANULE, access, at)
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

    let window = a.show(number, 0, GRANULE, WRITE, at).unwrap().unwrap();
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
    let (window, at) = a.shown(in_a, 1, READ);
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
    let (window_a, at_a) = a.shown(in_a, 1, READ);
    let (window_b, at_b) = b.shown(in_b, 1, READ);
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
    let refused = b.show(in_b, 0, GRANULE, READ, at_b).unwrap();
    assert_eq!(refused, Err(ErrorCode::WouldBlock));
    a.set_access(window_a, READ).unwrap().unwrap();
    a.set_access(window_a, READ).unwrap().unwrap();
    b.show(in_b, 0, GRANULE, READ, at_b).unwrap().unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (2, 2));
    // Another window of the same guest conflicts.
    let (second, _) = a.shown(in_a, 1, READ);
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
        assert_eq!(a.show(reader, 0, GRANULE, WRITE, at).unwrap(), refused);
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
        let window = a.show(reader, 0, GRANULE, READ, at).unwrap().unwrap();
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
    assert_eq!(a.show(writer, 0, GRANULE, READ, at).unwrap(), refused);
    assert_eq!(a.show(writer, 0, GRANULE, WRITE, at).unwrap(), refused);
    assert_eq!(
        a.read_at(writer, 0, 1).unwrap(),
        Err(ErrorCode::NotPermitted)
    );
    assert_eq!(a.write_at(writer, 0, &[2]).unwrap(), Ok(()));
    assert_eq!(region.try_read(0..2).unwrap()[..], [2, 1]);

    let nothing = a.restrict(number, Rights::empty()).unwrap().unwrap();
    for access in [READ, WRITE] {
        assert_eq!(a.show(nothing, 0, GRANULE, access, at).unwrap(), refused);
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
    let (window_a, at_a) = a.shown(in_a, 1, WRITE);
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
    let refused = b.show(in_b, GRANULE, GRANULE, WRITE, at_b).unwrap();
    assert_eq!(refused, Err(ErrorCode::Frozen));
    assert_eq!(
        b.write_at(in_b, GRANULE, &[3]).unwrap(),
        Err(ErrorCode::Frozen)
    );
    assert!(matches!(region.try_write(0..1), Err(RegionError::Frozen)));
    b.show(in_b, 0, 2 * GRANULE, READ, at_b).unwrap().unwrap();
    assert_eq!((b.byte(at_b), b.byte(at_b + 1)), (2, 1));
    assert!(region.is_frozen());
    assert_eq!(region.try_read(0..2).unwrap()[..], [2, 1]);
}

// Sizes.

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
        let window = a.show(in_a, last, GRANULE, WRITE, at).unwrap().unwrap();
        let mapping = &mappings_of(&region)[0];
        assert_eq!(
            (mapping.offset, mapping.range.end - mapping.range.start),
            (last, GRANULE)
        );
        a.poke(at + inside, 0x77).unwrap();
        // The whole granule is mapped. The bytes past the size do not fault.
        a.fill(at + inside, PAGE - inside, 0x77).unwrap();
        a.drop_window(window).unwrap();
        let beyond = a.show(in_a, last + GRANULE, GRANULE, READ, at).unwrap();
        assert!(
            matches!(beyond, Err(ErrorCode::OutOfBounds(_))),
            "{size}: {beyond:?}"
        );

        let at = b.allocate(1).unwrap();
        b.show(in_b, last, GRANULE, READ, at).unwrap().unwrap();
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

// Shared pages.

#[test]
fn guests_and_host_see_the_same_physical_pages() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", 4 * GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = (a.allocate(2).unwrap(), b.allocate(2).unwrap());
    let (at_a, at_b) = (window_a, at_a);
    let window = a
        .show(in_a, GRANULE, 2 * GRANULE, WRITE, at_a)
        .unwrap()
        .unwrap();
    a.poke(at_a, 0x42).unwrap();
    a.set_access(window, READ).unwrap().unwrap();
    b.show(in_b, GRANULE, 2 * GRANULE, READ, at_b)
        .unwrap()
        .unwrap();
    let guard = region.try_read(GRANULE..3 * GRANULE).unwrap();

    // The three mappings have one file and one offset, so they are the same pages.
    let mappings = mappings_of(&region);
    assert_eq!(mappings.len(), 3, "{mappings:?}");
    for mapping in &mappings {
        assert_eq!(mapping.offset, GRANULE);
        assert_eq!(mapping.range.end - mapping.range.start, 2 * GRANULE);
        assert_eq!(mapping.permissions, "r--s");
        assert_eq!(mapping.memfd().unwrap(), "tombolo:music");
    }
    assert!(
        mappings
            .iter()
            .any(|it| it.range.start == guard.as_ptr().addr() as u64)
    );
    assert_eq!((a.byte(at_a), b.byte(at_b), guard[0]), (0x42, 0x42, 0x42));
    assert_eq!(host.counts().bytes_copied, 0);
}

#[test]
fn read_windows_are_mapped_read_only() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, _) = a.shown(number, 1, READ);
    for (access, permissions) in [(READ, "r--s"), (WRITE, "rw-s"), (READ, "r--s")] {
        a.set_access(window, access).unwrap().unwrap();
        let mappings = mappings_of(&region);
        assert_eq!(
            (mappings.len(), &*mappings[0].permissions),
            (1, permissions)
        );
    }
}

// Handles and guests that end before a window.

// rule 6
#[test]
fn window_outlives_its_handle() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let number = a.create("music", GRANULE).unwrap().unwrap();
    let (window, at) = a.shown(number, 1, WRITE);
    a.drop_handle(number).unwrap();
    a.poke(at, 5).unwrap();
    assert_eq!(a.byte(at), 5);
    // Only the window keeps the region alive.
    assert_eq!(host.counts().regions_freed, 0);
    a.set_access(window, READ).unwrap().unwrap();
    a.drop_window(window).unwrap();
    assert_eq!(host.counts().regions_freed, 1);
    assert_eq!(a.byte(at), 0);
    b.assert_works();
}

// rule 6
#[test]
fn window_outlives_the_other_guest() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, _) = a.shown(in_a, 1, READ);
    let (_, at_a) = a.shown(in_a, 1, READ);
    let (_, at_b) = b.shown(in_b, 1, READ);
    a.drop_window(window_a).unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (1, 1));
    drop(a);
    drop(region);
    assert_eq!(b.byte(at_b), 1);
    b.assert_works();
}

// rule 6
#[test]
fn dropped_guest_poisons_unless_it_finished() {
    for (finish, access) in [(false, READ), (true, WRITE), (false, WRITE)] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.shown(in_a, 1, access);
        if access == WRITE {
            a.poke(at, 2).unwrap();
        }
        if finish {
            a.store.data_mut().regions.finish();
        }
        drop(a);
        assert!(mappings_of(&region).is_empty());
        let poisoned = access == WRITE && !finish;
        assert_eq!(region.is_poisoned(), poisoned);
        if poisoned {
            let at = b.allocate(1).unwrap();
            let refused = Err(ErrorCode::Poisoned);
            assert_eq!(b.show(in_b, 0, GRANULE, READ, at).unwrap(), refused);
            assert_eq!(b.read_at(in_b, 0, 1).unwrap(), Err(ErrorCode::Poisoned));
            assert_eq!(b.write_at(in_b, 0, &[1]).unwrap(), Err(ErrorCode::Poisoned));
            assert_eq!(b.freeze(in_b).unwrap(), Err(ErrorCode::Poisoned));
            b.clear_poison(in_b).unwrap().unwrap();
        }
        let expected = if access == WRITE { 2 } else { 1 };
        assert_eq!(b.read_at(in_b, 0, 2).unwrap(), Ok(vec![expected, 1]));
    }
}

// Limits.

// rule 10
#[test]
fn window_over_the_limit_is_refused_by_name() {
    let host = host();
    let mut limits = Limits::default();
    limits.windows = 3;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let shown: Vec<_> = (0..3).map(|_| a.shown(number, 1, READ).0).collect();
    let at = a.allocate(1).unwrap();
    match a.show(number, 0, GRANULE, READ, at).unwrap() {
        Err(ErrorCode::Exhausted(text)) => {
            assert!(
                text.contains("`windows`") && text.contains("guest `a`"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(mappings_of(&region).len(), 3);
    a.drop_window(shown[1]).unwrap();
    a.show(number, 0, GRANULE, READ, at).unwrap().unwrap();
    let mut b = guest(&host, "b");
    b.assert_works();
}

// rule 10
#[test]
fn accounts_over_their_limits_are_refused_by_name() {
    let host = host();
    let mut limits = Limits::default();
    (limits.handles, limits.regions, limits.claimed_bytes) = (3, 2, 4 * GRANULE);
    let mut a = Puppet::with_limits(&host, "a", limits);
    let exhausted = |refused: Result<u32, ErrorCode>, limit: &str| match refused {
        Err(ErrorCode::Exhausted(text)) => assert!(text.contains(limit), "{limit}: {text}"),
        other => panic!("{limit}: {other:?}"),
    };
    exhausted(a.create("big", 4 * GRANULE + 1).unwrap(), "`claimed-bytes`");
    let first = a.create("first", 2 * GRANULE).unwrap().unwrap();
    // Each claim counts with the whole size.
    let second = a.duplicate(first, all()).unwrap().unwrap();
    exhausted(a.create("third", 1).unwrap(), "`regions`");
    exhausted(a.duplicate(first, all()).unwrap(), "`regions`");
    a.restrict(first, all()).unwrap().unwrap();
    exhausted(a.restrict(first, all()).unwrap(), "`handles`");
    a.drop_handle(second).unwrap();
    exhausted(
        a.create("fourth", 2 * GRANULE + 1).unwrap(),
        "`claimed-bytes`",
    );
    a.create("fourth", 2 * GRANULE).unwrap().unwrap();
    assert_eq!(a.store.data().regions.claimed_bytes(), 4 * GRANULE);
    assert_eq!(host.counts().regions_created, 2);
}

// Contexts that safe code takes out of their stores.

// rule 12
#[test]
fn swapped_contexts_remap_and_release_nothing() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let of_a = filled(&host, "of a", GRANULE, 1);
    let of_b = filled(&host, "of b", GRANULE, 2);
    let in_a = a.receive(of_a.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(of_b.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = a.shown(in_a, 1, WRITE);
    let (window_b, at_b) = b.shown(in_b, 1, WRITE);
    let before = (mappings_of(&of_a), mappings_of(&of_b));

    std::mem::swap(
        &mut a.store.data_mut().regions,
        &mut b.store.data_mut().regions,
    );

    // Both use the same numbers, so `a` now names windows of `b`.
    let error = a.set_access(window_a, READ).unwrap_err();
    assert!(format!("{error:?}").contains("another store"), "{error:?}");
    let error = b.drop_window(window_b).unwrap_err();
    assert!(format!("{error:?}").contains("another store"), "{error:?}");
    assert_eq!((mappings_of(&of_a), mappings_of(&of_b)), before);
    for region in [&of_a, &of_b] {
        assert!(matches!(
            region.try_read(0..1),
            Err(RegionError::WouldBlock)
        ));
    }

    // The windows end with the stores, and each lock with its window.
    let a = a.store.into_data();
    assert!(mappings_of(&of_a).is_empty());
    assert_eq!(mappings_of(&of_b), before.1);
    assert!(matches!(of_a.try_read(0..1), Err(RegionError::Poisoned)));
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::WouldBlock)));
    drop(a);
    assert_eq!(mappings_of(&of_b), before.1);
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::WouldBlock)));
    drop(b);
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::Poisoned)));
    for (region, byte) in [(&of_a, 1), (&of_b, 2)] {
        region.clear_poison().unwrap();
        assert_filled(region, byte);
    }
    let _ = (at_a, at_b);
    guest(&host, "c").assert_works();
}

// rule 12
#[test]
fn contexts_can_be_swapped_back() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, at) = a.shown(in_a, 1, WRITE);
    for _ in 0..2 {
        std::mem::swap(
            &mut a.store.data_mut().regions,
            &mut b.store.data_mut().regions,
        );
        assert_eq!(a.byte(at), 1);
    }
    a.poke(at, 3).unwrap();
    a.drop_window(window).unwrap();
    assert_eq!(region.try_read(0..1).unwrap()[..], [3]);
    a.assert_works();
    b.assert_works();
}

// rule 12
#[test]
fn replaced_context_leaves_windows_to_the_memory() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, at) = a.shown(number, 1, WRITE);
    let before = mappings_of(&region);
    drop(std::mem::replace(
        &mut a.store.data_mut().regions,
        host.context("new").build(),
    ));
    // The objects are gone, but the windows are not.
    assert_eq!(mappings_of(&region), before);
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    a.poke(at, 4).unwrap();
    assert_eq!(a.byte(at), 4);
    a.drop_window(window).unwrap_err();
    assert_eq!(mappings_of(&region), before);
    drop(a);
    assert!(mappings_of(&region).is_empty());
    region.clear_poison().unwrap();
    assert_eq!(region.try_read(0..2).unwrap()[..], [4, 1]);
    guest(&host, "b").assert_works();
}

// rule 12
#[test]
fn forgotten_context_keeps_no_window_and_no_lock() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    a.shown(number, 1, READ);
    let data = a.store.data_mut();
    std::mem::forget(std::mem::replace(
        &mut data.regions,
        host.context("new").build(),
    ));
    assert!(matches!(
        region.try_write(0..1),
        Err(RegionError::WouldBlock)
    ));
    drop(a);
    assert!(mappings_of(&region).is_empty());
    assert_nothing_is_held(&region, 1);
    guest(&host, "b").assert_works();
}

// rule 12
#[test]
fn moved_context_does_not_touch_its_new_store() {
    let host = host();
    let region = filled(&host, "music", GRANULE, 1);
    let mut taken = Vec::new();
    // After several rounds, stores and memories lie where earlier ones were.
    for _ in 0..8 {
        let mut a = guest(&host, "a");
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (window, at) = a.shown(number, 1, READ);
        let mapped = mappings_of(&region);
        assert_eq!(mapped.len(), 1);
        // The contexts of earlier guests name windows that have ended.
        if let Some(old) = taken.pop() {
            let own = std::mem::replace(&mut a.store.data_mut().regions, old);
            let _ = a.set_access(window, WRITE);
            assert_eq!(mappings_of(&region), mapped);
            assert!(matches!(
                region.try_write(0..1),
                Err(RegionError::WouldBlock)
            ));
            drop(own);
            assert_eq!(mappings_of(&region), mapped);
            let _ = at;
        }
        taken.push(a.store.into_data().regions);
        assert!(mappings_of(&region).is_empty());
        assert_nothing_is_held(&region, 1);
    }
}

/// Checks that no guest has a window on a region, that its bytes are unchanged, and that it
/// is usable.
#[track_caller]
fn assert_nothing_is_held(region: &tombolo::Region, byte: u8) {
    assert!(mappings_of(region).is_empty());
    let guard = region.try_write(..).expect("nobody holds it");
    drop(guard);
    assert_filled(region, byte);
}

/// Checks that a guest which could only read changed nothing.
#[track_caller]
fn assert_filled_after(guest: Puppet, region: &tombolo::Region, byte: u8) {
    drop(guest);
    assert!(!region.is_poisoned());
    assert_nothing_is_held(region, byte);
}

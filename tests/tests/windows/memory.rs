//! A guest's memory around its windows and after them.

use super::{PAGE, assert_nothing_is_held, guest, host};
use tombolo::GRANULE;
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{
    Puppet, READ, WRITE, assert_filled, filled, mappings_in, mappings_of,
};

#[test]
fn memory_grows_around_windows() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 4 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    // The window covers the last granules of the memory before it grows.
    let end = a.grow(2).unwrap() as u32 + 2;
    let at = (end - 2) * PAGE;
    let first = a.map(number, 0, 2 * GRANULE, WRITE, at).unwrap().unwrap();
    a.poke(at + 2 * PAGE - 1, 2).unwrap();
    // Then the memory grows.
    assert_eq!(a.grow(3).unwrap() as u32, end);
    assert_eq!(a.byte(end * PAGE), 0);
    let second = a.map(number, 2 * GRANULE, 2 * GRANULE, WRITE, (end + 1) * PAGE);
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
            .map(number, 0, 2 * GRANULE, access, at + PAGE)
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
    alone(
        "memory::reused_memory_holds_nothing_of_earlier_guests",
        || {
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
                    let shown = guest.map(number, offset, GRANULE, WRITE, at);
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
        },
    );
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
        let (window, at) = a.mapped(number, 2, WRITE);
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
    let one = a.map(number, 0, GRANULE, READ, at).unwrap().unwrap();
    let base = mappings_of(&region)[0].range.start - u64::from(at);
    a.drop_window(one).unwrap();
    for round in 0..50u32 {
        let first = round % 8;
        let length = 1 + round % (8 - first);
        let length = u64::from(length) * GRANULE;
        let window = a
            .map(number, 0, length, READ, at + first * PAGE)
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

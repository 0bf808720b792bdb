//! The resident pages of memories.

use super::*;

// rule 8
#[test]
fn resident_bytes_leave_out_windows() {
    let own = StoreId(NonZeroUsize::new(0x7000_0001).unwrap());
    let page = rustix::param::page_size();
    let memory = {
        let _entered = entry::Entered::new(own);
        // A reservation that no other test uses, and so keeps no pages.
        with_window_and_guard(19).0
    };
    // Nothing is written yet, and what is read of the window is the region's.
    let (base, window) = (memory.record.base(), memory.record.base() + GRANULE_SIZE);
    assert_eq!((byte(base), byte(window)), (0, 1));
    assert_eq!(crate::sys::private_bytes(own), 0);

    write(base + 2 * page);
    write(base + 3 * page);
    write(base + 3 * page + 1);
    assert_eq!(crate::sys::private_bytes(own), 2 * page as u64);
    // A page that it writes where a window is hidden is its own.
    memory.record.mask(STORE, window, 0).unwrap();
    write(window);
    assert_eq!(crate::sys::private_bytes(own), 3 * page as u64);
    memory.record.unmask(STORE, window, 0).unwrap();
    assert_eq!(crate::sys::private_bytes(own), 2 * page as u64);

    let other = StoreId(NonZeroUsize::new(0x7000_0002).unwrap());
    assert_eq!(crate::sys::private_bytes(other), 0);
    drop(memory);
    assert_eq!(crate::sys::private_bytes(own), 0);
}

/// Returns how many huge pages the kernel has split.
fn huge_pages_split() -> u64 {
    let all = std::fs::read_to_string("/proc/vmstat").unwrap();
    let count = all
        .lines()
        .find_map(|it| it.strip_prefix("thp_split_page "));
    count.map_or(0, |count| count.parse().unwrap())
}

// rule 8
#[test]
fn huge_pages_count_as_a_whole() {
    for had_window in [false, true] {
        count_huge_pages(had_window);
    }
}

/// Checks the counts of a memory in which a window replaces a part of a huge page. `had_window` is
/// whether there was one in its place before.
fn count_huge_pages(had_window: bool) {
    const HUGE: usize = HUGE_FROM;
    let own = StoreId(NonZeroUsize::new(0x7000_0007).unwrap());
    let page = rustix::param::page_size() as u64;
    let memory = {
        let _entered = entry::Entered::new(own);
        // A reservation that no other test uses.
        memory(4 * HUGE / GRANULE_SIZE, 39 + usize::from(had_window))
    };
    let base = memory.record.base();
    let granule = 2 * HUGE / GRANULE_SIZE + 1;
    if had_window {
        let start = map_one(&memory, granule, &ones(), Perms::Read);
        memory.record.unmap_window(STORE, start, 0).unwrap();
    }
    write(base);
    let block = base + 2 * HUGE;
    write(block);
    let private = || crate::sys::private_bytes(own);
    let taken = || {
        let mut taken = crate::sys::Taken::default();
        taken.look(own, true);
        taken.bytes()
    };
    // Small pages below, and above if the kernel has no huge one.
    let large = private() - page;
    assert!([page, HUGE as u64].contains(&large), "{large}");
    assert_eq!(taken(), page + large);
    if large == page {
        return;
    }
    fill(&memory, 2 * HUGE..3 * HUGE, 1);
    // What a window replaces is free.
    let split = huge_pages_split();
    let start = map_one(&memory, granule, &ones(), Perms::Read);
    assert!(huge_pages_split() > split, "{had_window}");
    assert_eq!(private(), page + large - GRANULE);
    assert_eq!(byte(block), 1);
    memory.record.unmap_window(STORE, start, 0).unwrap();
    assert_eq!(private(), page + large - GRANULE);
    drop(memory);
    assert_eq!(private(), 0);
}

// rule 8
#[test]
fn touched_bytes_count_as_taken() {
    let own = StoreId(NonZeroUsize::new(0x7000_0005).unwrap());
    let page = rustix::param::page_size();
    let granule = GRANULE_SIZE as u64;
    let memory = {
        let _entered = entry::Entered::new(own);
        // A reservation that no other test uses, and so keeps no pages.
        with_window_and_guard(23).0
    };
    let mut known = crate::sys::Taken::default();
    let mut taken = || {
        known.look(own, true);
        known.bytes()
    };
    let (base, window) = (memory.record.base(), memory.record.base() + GRANULE_SIZE);
    // Reading takes nothing, but in windows.
    assert_eq!(byte(base), 0);
    assert_eq!(taken(), 0);
    let read_window = || {
        for at in (window..window + GRANULE_SIZE).step_by(page) {
            assert_eq!(byte(at), 1);
        }
    };
    read_window();
    assert_eq!(taken(), granule);
    write(base + 2 * page);
    write(base + 2 * page + 1);
    assert_eq!(taken(), granule + page as u64);
    // A hidden window shows the guest's own pages.
    memory.record.mask(STORE, window, 0).unwrap();
    assert_eq!(taken(), page as u64);
    write(window);
    assert_eq!(taken(), 2 * page as u64);
    memory.record.unmask(STORE, window, 0).unwrap();
    assert_eq!(taken(), page as u64);
    read_window();
    assert_eq!(taken(), granule + page as u64);
    drop(memory);
    assert_eq!(taken(), 0);
}

#[test]
fn look_at_a_growth_leaves_out_the_rest() {
    let own = StoreId(NonZeroUsize::new(0x7000_0006).unwrap());
    let page = rustix::param::page_size();
    let mut memory = {
        let _entered = entry::Entered::new(own);
        // A reservation that no other test uses, and so keeps no pages.
        memory(1, 29)
    };
    let base = memory.record.base();
    let mut known = crate::sys::Taken::default();
    write(base);
    known.look(own, false);
    assert_eq!(known.bytes(), page as u64);
    memory.grow_to(2 * GRANULE_SIZE).unwrap();
    write(base + page);
    write(base + GRANULE_SIZE);
    known.look(own, false);
    assert_eq!(known.bytes(), 2 * page as u64);
    known.look(own, true);
    assert_eq!(known.bytes(), 3 * page as u64);
    drop(memory);
    known.look(own, false);
    assert_eq!(known.bytes(), 0);
}

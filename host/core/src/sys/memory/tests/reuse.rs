//! Reservations that later memories use again.

use super::*;

/// How many reservations of such a length wait.
fn waiting_with(guard: usize) -> usize {
    waiting(RESERVATION + guard * GRANULE_SIZE)
}

// rule 4
#[test]
fn reused_reservation_is_zero_up_to_its_size() {
    const GUARD: usize = 3;
    let file = ones();
    let mut base = None;
    for (life, granules) in [8, 8, 5, 8, 12, 12, 1, 8]
        .into_iter()
        .cycle()
        .take(64)
        .enumerate()
    {
        let mut memory = memory(granules, GUARD);
        assert_eq!(
            *base.get_or_insert(memory.record.base()),
            memory.record.base()
        );
        assert_as_new(&memory, GUARD);
        assert_zeros(&memory);
        // It grows, and is used to its end.
        let size = (granules + life % 3) * GRANULE_SIZE;
        memory.grow_to(size).unwrap();
        assert_zeros(&memory);
        assert_as_new(&memory, GUARD);
        fill(&memory, 0..size, 7);
        // Windows, some of which are hidden, or have ended.
        let number = |memory: &MappableMemory| memory.record.size() / GRANULE_SIZE;
        for granule in (0..number(&memory)).filter(|it| (it + life) % 4 == 1) {
            let start = map_one(&memory, granule, &file, Perms::Write);
            match (granule + life) % 3 {
                0 => memory.record.mask(STORE, start, 0).unwrap(),
                1 => drop(memory.record.unmap_window(STORE, start, 0).unwrap()),
                _ => continue,
            }
            fill(
                &memory,
                granule * GRANULE_SIZE..(granule + 1) * GRANULE_SIZE,
                9,
            );
        }
        drop(memory);
        assert_eq!(waiting_with(GUARD), 1);
        let mut bytes = [0; GRANULE_SIZE];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1; GRANULE_SIZE], "cleaning wrote to the region");
    }
}

// rule 4
#[test]
fn masked_parts_are_zero_in_the_next_memory() {
    const GUARD: usize = 5;
    let file = ones();
    let mut memory = memory(4, GUARD);
    let base = memory.record.base();
    for _ in 0..3 {
        let start = map_one(&memory, 2, &file, Perms::Write);
        let part = start + 4096..start + 8192;
        memory.record.mask_part(STORE, start, 0, part, 100).unwrap();
        fill(&memory, 2 * GRANULE_SIZE + 4096..2 * GRANULE_SIZE + 8192, 9);
        assert!(memory.record.vma_splits() > 0);
        drop(memory);
        memory = self::memory(4, GUARD);
        assert_eq!(memory.record.base(), base);
        assert_as_new(&memory, GUARD);
        assert_zeros(&memory);
    }
}

#[test]
fn kept_pages_are_the_kernels_until_written() {
    const GUARD: usize = 17;
    let page = rustix::param::page_size();
    let pages = GRANULE_SIZE / page;
    let private = |memory: &MappableMemory| {
        let bytes = private_bytes_of(std::slice::from_ref(&memory.record)).unwrap();
        usize::try_from(bytes).unwrap() / page
    };
    // The kernel has lists of pages for each processor, and looks at its own.
    let here = rustix::thread::sched_getcpu();
    let mut processors = rustix::thread::CpuSet::new();
    processors.set(here);
    rustix::thread::sched_setaffinity(None, &processors).unwrap();

    let first = memory(2, GUARD);
    assert_eq!(private(&first), 0);
    fill(&first, 0..GRANULE_SIZE, 7);
    assert_eq!(private(&first), pages);
    drop(first);

    let next = memory(2, GUARD);
    assert_eq!(resident(&next), GRANULE_SIZE);
    assert_eq!(private(&next), 0, "nothing is its own yet");
    fill(&next, 0..1, 7);
    fill(&next, 3 * page..4 * page, 7);
    fill(&next, GRANULE_SIZE..GRANULE_SIZE + 1, 0);
    assert_eq!(private(&next), 3, "two that were there, and a new one");

    // As if the kernel was short of memory.
    let start = std::ptr::with_exposed_provenance_mut(next.record.base());
    // SAFETY: the range is mapped, and what is in it stays, but for what may be zeros.
    let result = unsafe { libc::madvise(start, GRANULE_SIZE, libc::MADV_PAGEOUT) };
    assert_eq!(result, 0);
    let there = pages_there(&next);
    let untouched = (0..pages).filter(|page| ![0, 3].contains(page));
    for page in untouched {
        assert!(!there[page], "page {page}: {there:?}");
    }
    assert_eq!(
        (byte(next.record.base()), byte(next.record.base() + page)),
        (7, 0)
    );
}

/// Runs a test in a process of its own, because all tests of a process share what waits.
fn by_itself(name: &str, test: impl FnOnce()) {
    alone(&format!("sys::memory::tests::reuse::{name}"), test);
}

#[test]
fn number_of_kept_pages_is_limited() {
    by_itself("number_of_kept_pages_is_limited", || {
        const GUARD: usize = 7;
        const GRANULES: usize = 3 * HUGE_FROM / 2 / GRANULE_SIZE;
        let filled = || {
            let memory = memory(GRANULES, GUARD);
            let before = resident(&memory);
            fill(&memory, 0..GRANULES * GRANULE_SIZE, 7);
            (memory, before)
        };
        for life in 0..20 {
            let (_memory, before) = filled();
            assert_eq!(before, if life == 0 { 0 } else { HUGE_FROM });
        }
        // Those that waited longest make room.
        drop([(); 6].map(|()| filled()));
        assert_eq!((waiting_with(GUARD), kept()), (4, KEPT));
        // A window takes away what is kept from there on.
        let memory = memory(GRANULES, GUARD);
        map_one(&memory, 1, &ones(), Perms::Read);
        drop(memory);
        let memory = self::memory(GRANULES, GUARD);
        assert_eq!(resident(&memory), GRANULE_SIZE);
        assert_zeros(&memory);
    });
}

#[test]
fn pages_that_guests_leave_alone_are_not_kept() {
    by_itself("pages_that_guests_leave_alone_are_not_kept", || {
        const GUARD: usize = 35;
        fill(&memory(8, GUARD), 0..8 * GRANULE_SIZE, 7);
        for _ in 0..7 {
            assert_eq!(kept(), 8 * GRANULE_SIZE);
            write(memory(8, GUARD).record.base());
        }
        write(memory(8, GUARD).record.base());
        assert_eq!(kept(), rustix::param::page_size());
    });
}

/// Returns whether the kernel is advised to use huge pages where a memory without windows may have
/// them.
fn is_advised(memory: &MappableMemory) -> bool {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let base = memory.record.base();
    let mut is_there = false;
    let mut advised = Vec::new();
    for line in text.lines() {
        if let Some((start, rest)) = line.split_once('-')
            && let Ok(start) = usize::from_str_radix(start, 16)
        {
            let end = rest.split(' ').next().unwrap();
            let end = usize::from_str_radix(end, 16).unwrap();
            is_there = base + HUGE_FROM < end && start < base + RESERVATION;
        } else if is_there && let Some(flags) = line.strip_prefix("VmFlags:") {
            advised.push(flags.split(' ').any(|flag| flag == "hg"));
        }
    }
    assert!(advised.iter().all(|it| *it == advised[0]), "{advised:?}");
    advised[0]
}

// rules 4, 10
#[test]
fn large_memories_are_reused_with_no_more_vmas() {
    by_itself("large_memories_are_reused_with_no_more_vmas", || {
        const GUARD: usize = 37;
        const MIB: usize = (1 << 20) / GRANULE_SIZE;
        let file = ones();
        // Where a window lies, in MiB.
        let windows = [9, 1, 5, 2, 4, 3, 7];
        let sizes = [16, 1, 6, 16, 2, 16, 4, 16, 16, 3];
        // Some kernels have no huge pages.
        let mut known = None;
        for (life, size) in sizes.into_iter().cycle().take(60).enumerate() {
            let mut memory = memory(size * MIB, GUARD);
            assert_as_new(&memory, GUARD);
            assert_zeros(&memory);
            let advised = is_advised(&memory);
            assert_eq!(*known.get_or_insert(advised), advised);
            for more in 1..=life % 4 {
                memory.grow_to((size + more) * MIB * GRANULE_SIZE).unwrap();
                assert_zeros(&memory);
                assert_as_new(&memory, GUARD);
            }
            fill(&memory, 0..memory.record.size(), 7);
            let granule = windows[life % windows.len()] * MIB + life % 3;
            if life % 2 == 1 && (granule + 1) * GRANULE_SIZE <= memory.record.size() {
                let start = map_one(&memory, granule, &file, Perms::Write);
                if life % 4 == 1 {
                    memory.record.unmap_window(STORE, start, 0).unwrap();
                }
                let limit = VMAS + memory.record.vma_splits();
                assert!(mappings(&memory, GUARD).len() as u64 <= limit);
            }
        }
        assert_eq!(waiting_with(GUARD), 1);
    });
}

// rule 4
#[test]
fn broken_memory_is_not_reused() {
    const GUARD: usize = 9;
    let memory = memory(4, GUARD);
    let base = memory.record.base();
    let lost = base + GRANULE_SIZE..base + 2 * GRANULE_SIZE;
    {
        let mut state = memory.record.state();
        state.broken = true;
        state.lost.push(lost.clone());
    }
    drop(memory);
    assert_eq!(waiting_with(GUARD), 0);
    let lost = lost.start as u64..lost.end as u64;
    let mappings = Process::current().mappings().unwrap();
    let left = mappings.iter().find(|it| it.range.contains(&lost.start));
    assert!(left.unwrap().range.contains(&(lost.end - 1)));
    // SAFETY: it was the test's, and is nobody's since.
    unsafe {
        rustix::mm::munmap(
            std::ptr::with_exposed_provenance_mut(lost.start as usize),
            GRANULE_SIZE,
        )
    }
    .unwrap();
}

// rule 4
#[test]
fn memory_that_cannot_be_cleaned_is_not_reused() {
    const GUARD: usize = 11;
    const GRANULES: usize = HUGE_FROM / GRANULE_SIZE + 2;
    let memory = memory(GRANULES, GUARD);
    fill(&memory, 0..GRANULES * GRANULE_SIZE, 7);
    // Such memory's pages are not given up.
    let last = memory.record.base() + (GRANULES - 1) * GRANULE_SIZE;
    let start = std::ptr::with_exposed_provenance::<libc::c_void>(last);
    // SAFETY: locking changes nothing that anybody sees.
    let locked = unsafe { libc::mlock(start, 4096) };
    assert_eq!(locked, 0, "the limit on locked memory is at least a page");
    drop(memory);
    assert_eq!(waiting_with(GUARD), 0);
}

/// Marks the process of its own in which a test runs with a limit.
const LIMITED: &str = "TOMBOLO_TEST_LIMITED";

// rule 4
#[test]
fn overgrown_memory_is_not_reused() {
    const GUARD: usize = 31;
    if std::env::var_os(LIMITED).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sys::memory::tests::reuse::overgrown_memory_is_not_reused",
            ])
            .env(LIMITED, "")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Data);
    limit.current = limit.maximum.or(Some(1 << 46));
    rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
    assert!(crate::sys::allowance::look());
    // The growth itself is not refused, but the room for the host, and the way back.
    let mut memory = memory(1, GUARD);
    refusing(2, 2, || {
        let error = memory.grow_to(2 * GRANULE_SIZE).unwrap_err();
        assert!(error.is::<Overgrown>(), "{error:?}");
    });
    assert_eq!(memory.byte_size(), GRANULE_SIZE);
    fill(&memory, GRANULE_SIZE..2 * GRANULE_SIZE, 7);
    memory.grow_to(2 * GRANULE_SIZE).unwrap_err();
    drop(memory);
    assert_eq!(waiting_with(GUARD), 0);
}

// rule 4
#[test]
fn refused_growth_is_undone_or_never_reused() {
    const GUARD: usize = 33;
    let granules = 2 * GRANULE_SIZE;
    let mut memory = memory(1, GUARD);
    refusing(1, 1, || {
        let error = memory.grow_to(granules).unwrap_err();
        assert!(!error.is::<Overgrown>(), "{error:?}");
    });
    memory.grow_to(granules).unwrap();
    assert_zeros(&memory);
    // A part of it may be there, for all that the host knows.
    refusing(1, 2, || {
        let error = memory.grow_to(2 * granules).unwrap_err();
        assert!(error.is::<Overgrown>(), "{error:?}");
    });
    assert_eq!(memory.byte_size(), granules);
    drop(memory);
    assert_eq!(waiting_with(GUARD), 0);
}

#[test]
fn number_of_waiting_reservations_is_limited() {
    let mut free = Free::new();
    let reservation = || Reservation::take(RESERVATION, GRANULE_SIZE).unwrap();
    let first = reservation();
    let oldest = first.base();
    assert!(free.put(first).is_empty());
    for _ in 1..MOST_FREE {
        assert!(free.put(reservation()).is_empty());
    }
    let gone = free.put(reservation());
    assert!(gone.iter().map(Reservation::base).eq([oldest]));
}

#[test]
fn memory_of_partial_pages_is_reused() {
    const GUARD: usize = 15;
    for size in [0, 1, 5000, 100, 0] {
        let mut memory = MappableMemory::new(size, RESERVATION, GUARD * GRANULE_SIZE).unwrap();
        assert_zeros(&memory);
        memory.grow_to(size + 5000).unwrap();
        assert_zeros(&memory);
        fill(&memory, 0..size + 5000, 7);
        drop(memory);
        assert_eq!(waiting_with(GUARD), 1);
    }
}

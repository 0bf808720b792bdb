use tombolo_test_util::process::{Mapping, Process};

use super::super::absorb::Absorbed;
use super::super::entry;
use super::super::kernel::refusals;
use super::super::reservation::tests::waiting;
use super::super::reservation::{Free, KEPT, MOST_FREE, VMAS};
use super::super::resident::private_bytes_of;
use super::*;
use tombolo_region::{GRANULE, RegionName};

const GRANULE_SIZE: usize = GRANULE as usize;
const STORE: StoreId = StoreId(NonZeroUsize::MIN);

struct Nobody;

impl WindowObserver for Nobody {
    fn region(&self) -> String {
        "nobody's".into()
    }
    fn memory_gone(self: Box<Self>) {}
}

/// A region full of ones.
fn ones() -> Arc<RegionFile> {
    let name = RegionName::new("ones").unwrap();
    let file = Arc::new(RegionFile::new(&name, GRANULE).unwrap());
    file.write_at(0, &[1; GRANULE_SIZE]).unwrap();
    file
}

/// Shows a region in the granule of a memory with this number. Gives its address.
fn map_one(memory: &MappableMemory, granule: usize, file: &Arc<RegionFile>, perms: Perms) -> usize {
    let start = memory.record.base() + granule * GRANULE_SIZE;
    let range = start..start + GRANULE_SIZE;
    let observer = Box::new(Nobody);
    let mapped = memory
        .record
        .map_window(STORE, 0, range, file, 0, perms, 100, observer);
    mapped.unwrap();
    start
}

/// Returns a memory of two granules, whose second one shows a region full of ones, and the
/// address of the window.
fn with_window() -> (MappableMemory, usize, Arc<StoreMark>) {
    with_window_and_guard(1)
}

/// The same, with a guard of so many granules.
fn with_window_and_guard(guard: usize) -> (MappableMemory, usize, Arc<StoreMark>) {
    let memory = MappableMemory::new(2 * GRANULE_SIZE, RESERVATION, guard * GRANULE_SIZE).unwrap();
    let mark = memory.record.adopt(STORE, false).unwrap();
    let start = map_one(&memory, 1, &ones(), Perms::Read);
    (memory, start, mark)
}

/// A memory whose granules from the second on, three of them, show a region full of
/// ones; the middle one is unpinned, and so is hidden.
fn with_a_hole() -> (MappableMemory, [usize; 3]) {
    let name = RegionName::new("three of ones").unwrap();
    let size = 3 * GRANULE_SIZE;
    let file = Arc::new(RegionFile::new(&name, size as u64).unwrap());
    file.write_at(0, &vec![1; size]).unwrap();
    let memory = MappableMemory::new(4 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
    let record = &memory.record;
    record.adopt(STORE, false).unwrap();
    let start = record.base() + GRANULE_SIZE;
    let (range, observer) = (start..start + size, Box::new(Nobody));
    record
        .map_window(STORE, 0, range, &file, 0, Perms::Write, 100, observer)
        .unwrap();
    let granules = [0, 1, 2].map(|number| start + number * GRANULE_SIZE);
    let hole = granules[1]..granules[2];
    record.mask_part(STORE, start, 0, hole, 100).unwrap();
    (memory, granules)
}

fn byte(address: usize) -> u8 {
    // SAFETY: the tests ask for addresses in a memory of theirs, in the part
    // that is accessible.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

// rule 5
#[test]
fn last_lend_to_end_unmasks_the_window() {
    let (memory, start, _) = with_window();
    memory.record.mask(STORE, start, 0).unwrap();
    memory.record.mask(STORE, start, 0).unwrap();
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(byte(start), 0);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(byte(start), 1);
}

// rule 9
#[test]
fn each_write_to_a_read_only_window_is_explained() {
    let (memory, start, mark) = with_window();
    assert_eq!(memory.record.absorb(start + 5), Absorbed::Yes);
    assert!(mark.has_violation());
    // In the copy now, which allows it: another fault is none of the guest's.
    assert_eq!(memory.record.absorb(start + 5), Absorbed::Unexplained);
    memory
        .record
        .set_perms(STORE, start, 0, Perms::Read)
        .unwrap();
    assert_eq!(memory.record.absorb(start + 5), Absorbed::Yes);
    memory.record.mask(STORE, start, 0).unwrap();
    assert_eq!(memory.record.absorb(start + 5), Absorbed::Unexplained);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(memory.record.absorb(start + 5), Absorbed::Yes);
    assert_eq!(byte(start), 1);
}

// rule 12
#[test]
fn window_of_another_store_is_left_alone() {
    let (memory, start, _) = with_window();
    let other = StoreId(NonZeroUsize::MAX);
    assert!(matches!(
        memory.record.unmap_window(other, start, 0),
        Err(MapError::Foreign)
    ));
    assert!(matches!(
        memory.record.mask(other, start, 0),
        Err(MapError::Foreign)
    ));
    assert_eq!(byte(start), 1);
}

/// A memory of so many granules, with a guard that no other test's memories have: so
/// that this test alone uses its reservation again.
fn memory(granules: usize, guard: usize) -> MappableMemory {
    let memory =
        MappableMemory::new(granules * GRANULE_SIZE, RESERVATION, guard * GRANULE_SIZE).unwrap();
    memory.record.adopt(STORE, false).unwrap();
    memory
}

/// How many reservations of such a length wait.
fn waiting_with(guard: usize) -> usize {
    waiting(RESERVATION + guard * GRANULE_SIZE)
}

fn fill(memory: &MappableMemory, range: Range<usize>, byte: u8) {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(memory.record.base() + range.start);
    // SAFETY: the tests ask for what is accessible in a memory of theirs.
    unsafe { start.write_bytes(byte, range.len()) };
}

/// Checks that the accessible part is zeros.
#[track_caller]
fn assert_zeros(memory: &MappableMemory) {
    let start = std::ptr::with_exposed_provenance::<u8>(memory.record.base());
    // SAFETY: nobody writes to the test's memory meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(start, memory.record.size()) };
    assert_eq!(bytes.iter().position(|byte| *byte != 0), None);
}

/// The kernel mappings in a memory's reservation, of which no part is a hole.
#[track_caller]
fn mappings(memory: &MappableMemory, guard: usize) -> Vec<Mapping> {
    let start = memory.record.base() as u64;
    let end = start + (RESERVATION + guard * GRANULE_SIZE) as u64;
    let mut mappings = Process::current().mappings().unwrap();
    mappings.retain(|it| it.range.start < end && start < it.range.end);
    assert!(mappings[0].range.start <= start);
    assert!(mappings[mappings.len() - 1].range.end >= end);
    for pair in mappings.windows(2) {
        assert_eq!(pair[0].range.end, pair[1].range.start);
    }
    mappings
}

/// Checks that exactly the first bytes of a memory can be read and written, and that the kernel
/// has no more mappings of it than are counted.
#[track_caller]
fn assert_as_new(memory: &MappableMemory, guard: usize) {
    let mappings = mappings(memory, guard);
    let end = (memory.record.base() + memory.record.size()) as u64;
    for mapping in &mappings {
        let permissions = match mapping.range.start < end {
            true => "rw-p",
            false => "---p",
        };
        assert_eq!(mapping.permissions, permissions, "{mappings:#x?}");
        assert_eq!(mapping.inode, 0, "a window is left");
    }
    assert!(
        mappings.iter().any(|it| it.range.end == end),
        "{mappings:#x?}"
    );
    // Neighbours in the address space may be one mapping with it.
    assert!(mappings.len() as u64 <= VMAS, "{mappings:#x?}");
    assert_eq!(memory.record.vma_splits(), 0);
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

/// Of each page of a memory, whether the kernel has it.
fn pages_there(memory: &MappableMemory) -> Vec<bool> {
    let mut there = vec![0; memory.record.size().div_ceil(rustix::param::page_size())];
    let start = std::ptr::with_exposed_provenance_mut(memory.record.base());
    // SAFETY: the memory is mapped, and there is a byte for each page of it.
    let result = unsafe { libc::mincore(start, memory.record.size(), there.as_mut_ptr()) };
    assert_eq!(result, 0);
    there.into_iter().map(|it| it & 1 != 0).collect()
}

/// How many bytes of a memory the kernel has pages for.
fn resident(memory: &MappableMemory) -> usize {
    let there = pages_there(memory);
    there.into_iter().filter(|it| *it).count() * rustix::param::page_size()
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

#[test]
fn number_of_kept_pages_is_limited() {
    const GUARD: usize = 7;
    const GRANULES: usize = 3 * KEPT / GRANULE_SIZE;
    for life in 0..20 {
        let memory = memory(GRANULES, GUARD);
        let kept = resident(&memory);
        assert_eq!(kept, if life == 0 { 0 } else { KEPT });
        fill(&memory, 0..GRANULES * GRANULE_SIZE, 7);
    }
    // A window takes away what is kept from there on.
    let memory = memory(GRANULES, GUARD);
    map_one(&memory, 1, &ones(), Perms::Read);
    drop(memory);
    let memory = self::memory(GRANULES, GUARD);
    assert_eq!(resident(&memory), GRANULE_SIZE);
    assert_zeros(&memory);
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
    const GRANULES: usize = KEPT / GRANULE_SIZE + 2;
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
                "sys::memory::tests::overgrown_memory_is_not_reused",
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
    assert!(allowance::look());
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
    assert!(free.put(first).is_none());
    for _ in 1..MOST_FREE {
        assert!(free.put(reservation()).is_none());
    }
    let gone = free.put(reservation()).unwrap();
    assert_eq!(gone.base(), oldest);
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

fn write(address: usize) {
    // SAFETY: as in `byte`; nobody else writes there.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

// rules 5, 7
#[test]
fn unpinned_part_stays_masked_after_a_lend() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    assert_eq!(granules.map(byte), [1, 0, 1]);
    memory.record.mask(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [0, 0, 0]);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [1, 0, 1]);
    memory
        .record
        .unmask_part(STORE, start, 0, hole..end, 100)
        .unwrap();
    assert_eq!(granules.map(byte), [1, 1, 1]);
}

// rules 5, 7
#[test]
fn pins_during_a_lend_are_seen_when_it_ends() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    memory.record.mask(STORE, start, 0).unwrap();
    memory
        .record
        .unmask_part(STORE, start, 0, hole..end, 100)
        .unwrap();
    memory
        .record
        .mask_part(STORE, start, 0, start..hole, 100)
        .unwrap();
    assert_eq!(granules.map(byte), [0, 0, 0]);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [0, 1, 1]);
}

// rules 2, 7
#[test]
fn access_changed_while_masked_covers_all_parts() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    memory.record.mask(STORE, start, 0).unwrap();
    memory
        .record
        .set_perms(STORE, start, 0, Perms::Read)
        .unwrap();
    // Private pages stand there, which the guest may write to.
    write(start);
    write(hole);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(
        granules.map(byte),
        [1, 1, 1],
        "the middle one is the guest's own"
    );
    assert!(memory.record.explain(start).is_some());
    assert!(memory.record.explain(hole).is_none());
    memory
        .record
        .unmask_part(STORE, start, 0, hole..end, 100)
        .unwrap();
    assert!(memory.record.explain(hole).is_some());
    assert_eq!(permissions(start..end + GRANULE_SIZE), ["r--s"]);
}

/// Returns the permissions of the kernel's mappings in a range. Equal neighbours count once.
fn permissions(range: Range<usize>) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut all: Vec<String> = maps
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (start, end) = fields.next()?.split_once('-')?;
            let address = |text| usize::from_str_radix(text, 16).ok();
            let overlaps = address(start)? < range.end && range.start < address(end)?;
            overlaps.then(|| fields.next().map(str::to_owned))?
        })
        .collect();
    all.dedup();
    all
}

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
    assert_eq!(super::super::private_bytes(own), 0);

    write(base + 2 * page);
    write(base + 3 * page);
    write(base + 3 * page + 1);
    assert_eq!(super::super::private_bytes(own), 2 * page as u64);
    // A page that it writes where a window is hidden is its own.
    memory.record.mask(STORE, window, 0).unwrap();
    write(window);
    assert_eq!(super::super::private_bytes(own), 3 * page as u64);
    memory.record.unmask(STORE, window, 0).unwrap();
    assert_eq!(super::super::private_bytes(own), 2 * page as u64);

    let other = StoreId(NonZeroUsize::new(0x7000_0002).unwrap());
    assert_eq!(super::super::private_bytes(other), 0);
    drop(memory);
    assert_eq!(super::super::private_bytes(own), 0);
}

// Refusals of the kernel: these tests check the states that they leave. `refusal_tests`
// checks their effects on guests.

/// Runs `act`, of which the kernel refuses the calls with these numbers.
fn refusing(first: u32, count: u32, act: impl FnOnce()) {
    let calls = refusals::during(first, count, rustix::io::Errno::NOMEM, act);
    assert!(calls >= first, "only {calls} calls were made");
}

// rule 9
#[test]
fn violation_beside_a_masked_part_is_undone_whole() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    let record = &memory.record;
    record.set_perms(STORE, start, 0, Perms::Read).unwrap();
    assert_eq!(record.absorb(start), Absorbed::Yes);
    write(end);
    // A part that is unmasked is unmasked whole.
    record.unmask_part(STORE, start, 0, hole..end, 100).unwrap();
    assert_eq!(permissions(start..end + GRANULE_SIZE), ["r--s"]);
    assert_eq!(granules.map(byte), [1, 1, 1]);
    for at in granules {
        assert_eq!(record.absorb(at), Absorbed::Yes);
        record.set_perms(STORE, start, 0, Perms::Read).unwrap();
        assert_eq!(permissions(start..end + GRANULE_SIZE), ["r--s"]);
    }
}

// rule 9
#[test]
fn refused_copies_become_shared_zeros() {
    let (memory, start, _) = with_window();
    refusing(1, 1, || {
        assert_eq!(memory.record.absorb(start), Absorbed::Yes)
    });
    assert_eq!(permissions(start..start + GRANULE_SIZE), ["rw-s"]);
    assert_eq!(byte(start), 0);
    write(start);
    // The region is as it was.
    memory
        .record
        .set_perms(STORE, start, 0, Perms::Read)
        .unwrap();
    assert_eq!(byte(start), 1);
}

// rule 9
#[test]
fn handler_retries_for_a_moment() {
    let (memory, start, _) = with_window();
    refusing(1, 7, || {
        assert_eq!(memory.record.absorb(start), Absorbed::Yes)
    });
    write(start);
}

// rule 9
#[test]
fn handler_gives_up_after_long_refusal() {
    let (memory, start, mark) = with_window();
    refusing(1, u32::MAX, || {
        assert_eq!(memory.record.absorb(start), Absorbed::Refused);
    });
    assert!(mark.has_violation());
    assert_eq!(permissions(start..start + GRANULE_SIZE), ["r--s"]);
    // Nothing is half done: it can be absorbed still.
    assert_eq!(memory.record.absorb(start), Absorbed::Yes);
}

// rule 9
#[test]
fn part_not_replaced_is_absorbed_when_written() {
    let (memory, granules) = with_a_hole();
    let [start, _, end] = granules;
    let record = &memory.record;
    record.set_perms(STORE, start, 0, Perms::Read).unwrap();
    // Both ways of the second part.
    refusing(2, 2, || assert_eq!(record.absorb(start), Absorbed::Yes));
    write(start);
    assert_eq!(permissions(end..end + GRANULE_SIZE), ["r--s"]);
    assert_eq!(record.absorb(end), Absorbed::Yes);
    write(end);
    assert_eq!(record.absorb(end), Absorbed::Unexplained);
}

// rules 4, 8
#[test]
fn refused_private_zeros_become_shared_ones() {
    let (memory, start, _) = with_window_and_guard(21);
    refusing(1, 1, || memory.record.mask(STORE, start, 0).unwrap());
    assert_eq!(permissions(start..start + GRANULE_SIZE), ["rw-s"]);
    assert_eq!(byte(start), 0);
    let private = || private_bytes_of(std::slice::from_ref(&memory.record)).unwrap();
    let before = private();
    write(start + 4096);
    assert_eq!(private(), before + rustix::param::page_size() as u64);
    memory.record.unmask(STORE, start, 0).unwrap();
    assert_eq!(byte(start), 1);
    assert_eq!(private(), 0, "a window is not the guest's");
    // They are zeros in the next memory, and private.
    refusing(1, 1, || memory.record.mask(STORE, start, 0).unwrap());
    write(start);
    drop(memory);
    let memory = self::memory(2, 21);
    assert_as_new(&memory, 21);
    assert_zeros(&memory);
}

// rule 9
#[test]
fn refused_access_change_is_undone() {
    for refused in 1..=2 {
        let (memory, granules) = with_a_hole();
        let [start, _, end] = granules;
        refusing(refused, 1, || {
            let error = memory.record.set_perms(STORE, start, 0, Perms::Read);
            assert!(matches!(error, Err(MapError::System(_))), "{error:?}");
        });
        assert_eq!(
            permissions(start..end + GRANULE_SIZE),
            ["rw-s", "rw-p", "rw-s"]
        );
        memory
            .record
            .set_perms(STORE, start, 0, Perms::Read)
            .unwrap();
        assert_eq!(
            permissions(start..end + GRANULE_SIZE),
            ["r--s", "rw-p", "r--s"]
        );
    }
}

// rule 9
#[test]
fn window_with_no_access_left_becomes_zeros() {
    let (memory, granules) = with_a_hole();
    let [start, _, end] = granules;
    // The second part; the way back; mapping the first part anew.
    refusing(2, 3, || {
        let error = memory.record.set_perms(STORE, start, 0, Perms::Read);
        assert!(matches!(error, Err(MapError::Broken)), "{error:?}");
    });
    assert_eq!(permissions(start..end + GRANULE_SIZE), ["rw-p"]);
    assert_eq!(granules.map(byte), [0, 0, 0]);
    let error = memory.record.unmap_window(STORE, start, 0);
    assert!(matches!(error, Err(MapError::Broken)));
}

// rule 9
#[test]
fn refused_unmasking_keeps_the_window_masked() {
    for refused in 1..=2 {
        let (memory, granules) = with_a_hole();
        let start = granules[0];
        memory.record.mask(STORE, start, 0).unwrap();
        refusing(refused, 1, || {
            let error = memory.record.unmask(STORE, start, 0);
            assert!(matches!(error, Err(MapError::System(_))), "{error:?}");
        });
        assert_eq!(granules.map(byte), [0, 0, 0]);
        memory.record.unmask(STORE, start, 0).unwrap();
        assert_eq!(granules.map(byte), [1, 0, 1]);
    }
}

// rule 9
#[test]
fn refused_part_stays_masked_and_counted() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    let vma_splits = memory.record.vma_splits();
    refusing(1, 1, || {
        let error = memory.record.unmask_part(STORE, start, 0, hole..end, 100);
        assert!(matches!(error, Err(MapError::System(_))), "{error:?}");
    });
    assert_eq!(granules.map(byte), [1, 0, 1]);
    assert_eq!(memory.record.vma_splits(), vma_splits);
    memory
        .record
        .unmask_part(STORE, start, 0, hole..end, 100)
        .unwrap();
    assert_eq!(granules.map(byte), [1, 1, 1]);
    assert!(memory.record.vma_splits() < vma_splits);
}

// rule 9
#[test]
fn closed_part_is_zeros_when_the_host_touches_it() {
    let (memory, start, _) = with_window();
    refusing(1, 2, || {
        let error = memory.record.unmap_window(STORE, start, 0);
        assert!(matches!(error, Err(MapError::Broken)));
    });
    assert_eq!(permissions(start..start + GRANULE_SIZE), ["---s"]);
    assert_eq!(memory.record.absorb(start), Absorbed::Yes);
    assert_eq!(byte(start), 0);
}

#[test]
fn view_that_cannot_be_unmapped_stays_counted() {
    let file = ones();
    let span = tombolo_region::Span::whole(GRANULE);
    let view = super::super::View::new(&file, span).unwrap();
    let start = view.bytes().as_ptr().addr();
    assert_eq!(permissions(start..start + 1), ["r--s"]);
    refusing(1, 1, || drop(view));
    assert_eq!(permissions(start..start + 1), ["---p"]);
}

// rule 8
#[test]
fn memories_count_in_full_without_pagemap() {
    let own = StoreId(NonZeroUsize::new(0x7000_0003).unwrap());
    let _entered = entry::Entered::new(own);
    let (memory, _, _) = with_window_and_guard(25);
    for refused in 1.. {
        let mut bytes = 0;
        let calls = refusals::during(refused, 1, rustix::io::Errno::PERM, || {
            bytes = super::super::private_bytes(own);
        });
        if calls < refused {
            assert_eq!((bytes, refused), (0, 4));
            return;
        }
        assert_eq!(bytes, memory.record.size() as u64);
    }
}

// rule 9
#[test]
fn file_is_created_whole_or_not_at_all() {
    let name = RegionName::new("whole").unwrap();
    for refused in 1.. {
        let mut made = None;
        let calls = refusals::during(refused, 1, rustix::io::Errno::NOMEM, || {
            made = Some(RegionFile::new(&name, GRANULE));
        });
        if calls < refused {
            assert!(made.unwrap().is_ok() && refused > 4);
            return;
        }
        assert!(made.unwrap().is_err(), "call {refused}");
    }
}

// rule 9
#[test]
fn span_that_cannot_be_punched_is_zeroed() {
    let file = ones();
    refusing(1, 1, || {
        file.punch(tombolo_region::Span::whole(GRANULE))
            .unwrap_err();
    });
    let mut bytes = [1; GRANULE_SIZE];
    file.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; GRANULE_SIZE]);
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
    let mut known = super::super::Taken::default();
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
    let mut known = super::super::Taken::default();
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

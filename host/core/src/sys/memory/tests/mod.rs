//! Windows in linear memories, without wasm.

mod parked;
mod refused;
mod resident;
mod reuse;
mod writable;

use std::num::NonZeroUsize;
use std::ops::Range;

use tombolo_region::{GRANULE, RegionName};
use tombolo_test_util::child::alone;
use tombolo_test_util::process::{Mapping, Process};

use super::*;
use crate::sys::absorb::Absorbed;
use crate::sys::entry;
use crate::sys::file::RegionFile;
use crate::sys::kernel::refusals;
use crate::sys::record::{MapError, Perms, StoreMark, WindowObserver};
use crate::sys::reservation::tests::{kept, waiting};
use crate::sys::reservation::{Free, HUGE_FROM, KEPT, MOST_FREE, VMAS};
use crate::sys::resident::private_bytes_of;
use crate::sys::store_id::StoreId;

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

/// Maps a region in the granule of a memory with this number. Returns the address.
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
    let mark = memory.record.adopt(STORE, &"guest".into(), false).unwrap();
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
    record.adopt(STORE, &"guest".into(), false).unwrap();
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
    memory.record.adopt(STORE, &"guest".into(), false).unwrap();
    memory
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

// Refusals of the kernel: these tests check the states that they leave. `refusal_tests`
// checks their effects on guests.

/// Runs `act`, of which the kernel refuses the calls with these numbers.
fn refusing(first: u32, count: u32, act: impl FnOnce()) {
    let calls = refusals::during(first, count, rustix::io::Errno::NOMEM, act);
    assert!(calls >= first, "only {calls} calls were made");
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

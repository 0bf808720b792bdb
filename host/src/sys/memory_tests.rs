use super::*;
use crate::region::{GRANULE, RegionName};

const GRANULE_SIZE: usize = GRANULE as usize;
const STORE: StoreId = StoreId(NonZeroUsize::MIN);

struct Nobody;

impl Tenant for Nobody {
    fn region(&self) -> String {
        "nobody's".into()
    }
    fn memory_gone(self: Box<Self>) {}
}

/// A memory of two granules, whose second one shows a region full of ones.
/// Gives the address of the window, too.
fn shown() -> (Memory, usize, Arc<AtomicBool>) {
    let name = RegionName::new("ones").unwrap();
    let file = Arc::new(RegionFile::new(&name, GRANULE).unwrap());
    file.write_at(0, &[1; GRANULE_SIZE]).unwrap();
    let record = MemoryRecord::new(2 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
    let alarm = Arc::default();
    record.adopt(STORE, false, &alarm).unwrap();
    let start = record.base() + GRANULE_SIZE;
    let range = start..start + GRANULE_SIZE;
    record
        .show(
            STORE,
            0,
            range,
            &file,
            0,
            Perms::Read,
            100,
            Box::new(Nobody),
        )
        .unwrap();
    let record = Arc::new(record);
    register(&record);
    (Memory(record), start, alarm)
}

/// A memory whose granules from the second on, three of them, show a region full of
/// ones; the middle one is unpinned, and so is hidden.
fn with_a_hole() -> (Memory, [usize; 3]) {
    let name = RegionName::new("three of ones").unwrap();
    let size = 3 * GRANULE_SIZE;
    let file = Arc::new(RegionFile::new(&name, size as u64).unwrap());
    file.write_at(0, &vec![1; size]).unwrap();
    let record = MemoryRecord::new(4 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
    record.adopt(STORE, false, &Arc::default()).unwrap();
    let start = record.base() + GRANULE_SIZE;
    let (range, tenant) = (start..start + size, Box::new(Nobody));
    record
        .show(STORE, 0, range, &file, 0, Perms::Write, 100, tenant)
        .unwrap();
    let granules = [0, 1, 2].map(|number| start + number * GRANULE_SIZE);
    let hole = granules[1]..granules[2];
    record.hide_part(STORE, start, 0, hole, 100).unwrap();
    let record = Arc::new(record);
    register(&record);
    (Memory(record), granules)
}

fn byte(address: usize) -> u8 {
    // SAFETY: the tests ask for addresses in a memory of theirs, in the part
    // that is accessible.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

#[test]
fn window_is_shown_again_when_the_last_lend_that_hides_it_ends() {
    let (memory, start, _) = shown();
    memory.0.hide(STORE, start, 0).unwrap();
    memory.0.hide(STORE, start, 0).unwrap();
    memory.0.reveal(STORE, start, 0).unwrap();
    assert_eq!(byte(start), 0);
    memory.0.reveal(STORE, start, 0).unwrap();
    assert_eq!(byte(start), 1);
}

#[test]
fn trespass_is_explained_as_often_as_the_window_is_made_read_only() {
    let (memory, start, alarm) = shown();
    assert!(memory.0.absorb(start + 5));
    assert!(alarm.load(Ordering::Acquire));
    // In the copy now, which allows it: another fault is none of the guest's.
    assert!(!memory.0.absorb(start + 5));
    memory.0.set_perms(STORE, start, 0, Perms::Read).unwrap();
    assert!(memory.0.absorb(start + 5));
    memory.0.hide(STORE, start, 0).unwrap();
    assert!(!memory.0.absorb(start + 5));
    memory.0.reveal(STORE, start, 0).unwrap();
    assert!(memory.0.absorb(start + 5));
    assert_eq!(byte(start), 1);
}

#[test]
fn window_of_another_store_is_left_alone() {
    let (memory, start, _) = shown();
    let other = StoreId(NonZeroUsize::MAX);
    assert!(matches!(
        memory.0.unshow(other, start, 0),
        Err(ShowError::Foreign)
    ));
    assert!(matches!(
        memory.0.hide(other, start, 0),
        Err(ShowError::Foreign)
    ));
    assert_eq!(byte(start), 1);
}

fn write(address: usize) {
    // SAFETY: as in `byte`; nobody else writes there.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

#[test]
fn unpinned_part_stays_hidden_when_the_lend_that_hid_the_whole_ends() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    assert_eq!(granules.map(byte), [1, 0, 1]);
    memory.0.hide(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [0, 0, 0]);
    memory.0.reveal(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [1, 0, 1]);
    memory.0.show_part(STORE, start, 0, hole..end, 100).unwrap();
    assert_eq!(granules.map(byte), [1, 1, 1]);
}

#[test]
fn what_is_pinned_and_unpinned_while_a_lend_hides_it_shows_when_that_ends() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    memory.0.hide(STORE, start, 0).unwrap();
    memory.0.show_part(STORE, start, 0, hole..end, 100).unwrap();
    memory
        .0
        .hide_part(STORE, start, 0, start..hole, 100)
        .unwrap();
    assert_eq!(granules.map(byte), [0, 0, 0]);
    memory.0.reveal(STORE, start, 0).unwrap();
    assert_eq!(granules.map(byte), [0, 1, 1]);
}

#[test]
fn access_that_changed_while_it_was_hidden_holds_for_the_unpinned_part_as_well() {
    let (memory, granules) = with_a_hole();
    let [start, hole, end] = granules;
    memory.0.hide(STORE, start, 0).unwrap();
    memory.0.set_perms(STORE, start, 0, Perms::Read).unwrap();
    // Private pages stand there, which the guest may write to.
    write(start);
    write(hole);
    memory.0.reveal(STORE, start, 0).unwrap();
    assert_eq!(
        granules.map(byte),
        [1, 1, 1],
        "the middle one is the guest's own"
    );
    assert!(memory.0.explain(start).is_some());
    assert!(memory.0.explain(hole).is_none());
    memory.0.show_part(STORE, start, 0, hole..end, 100).unwrap();
    assert!(memory.0.explain(hole).is_some());
    assert_eq!(permissions(start..end + GRANULE_SIZE), ["r--s"]);
}

/// Those of the kernel's mappings in a range, each once where they follow each other.
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

#[test]
fn what_is_in_memory_of_a_stores_memories_is_counted_without_its_windows() {
    let own = StoreId(NonZeroUsize::new(0x7000_0001).unwrap());
    let page = rustix::param::page_size();
    let memory = {
        let _entered = entry::Entered::new(own);
        shown().0
    };
    // Nothing is written yet, and what is read of the window is the region's.
    let (base, window) = (memory.0.base(), memory.0.base() + GRANULE_SIZE);
    assert_eq!((byte(base), byte(window)), (0, 1));
    assert_eq!(super::super::private_bytes(own), 0);

    write(base + 2 * page);
    write(base + 3 * page);
    write(base + 3 * page + 1);
    assert_eq!(super::super::private_bytes(own), 2 * page as u64);
    // What it writes where a window is hidden is its own.
    memory.0.hide(STORE, window, 0).unwrap();
    write(window);
    assert_eq!(super::super::private_bytes(own), 3 * page as u64);
    memory.0.reveal(STORE, window, 0).unwrap();
    assert_eq!(super::super::private_bytes(own), 2 * page as u64);

    let other = StoreId(NonZeroUsize::new(0x7000_0002).unwrap());
    assert_eq!(super::super::private_bytes(other), 0);
    drop(memory);
    assert_eq!(super::super::private_bytes(own), 0);
}

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
    let memory = Memory::new(2 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
    let record = &memory.0;
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
    (memory, start, alarm)
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

//! The mark of a file that somebody could write to.

use tombolo_region::Span;

use super::*;
use crate::sys::parking::tests::count;
use crate::sys::view::{View, ViewMut};

fn untouched(granules: u64) -> Arc<RegionFile> {
    let name = RegionName::new("untouched").unwrap();
    Arc::new(RegionFile::new(&name, granules * GRANULE).unwrap())
}

// rule 4
#[test]
fn only_writable_mappings_mark_a_file() {
    let memory = MappableMemory::new(2 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
    memory.record.adopt(STORE, &"guest".into(), false).unwrap();
    let file = untouched(1);
    let start = map_one(&memory, 0, &file, Perms::Read);
    drop(View::new(&file, Span::whole(GRANULE)).unwrap());
    file.read_at(0, &mut [0; 10]).unwrap();
    assert!(file.is_untouched());
    memory
        .record
        .set_perms(STORE, start, 0, Perms::Write)
        .unwrap();
    assert!(!file.is_untouched());
    // A lend hides the window, and its end shows it again.
    file.pretend_zeroed();
    memory.record.mask(STORE, start, 0).unwrap();
    memory.record.unmask(STORE, start, 0).unwrap();
    assert!(!file.is_untouched());
    let file = untouched(1);
    map_one(&memory, 1, &file, Perms::Write);
    assert!(!file.is_untouched());
    let file = untouched(1);
    drop(ViewMut::new(&file, Span::whole(GRANULE)).unwrap());
    assert!(!file.is_untouched());
    let file = untouched(1);
    file.write_at(0, &[0]).unwrap();
    assert!(!file.is_untouched());
}

// rule 4
#[test]
fn parked_writable_mapping_marks_a_file() {
    alone(
        "sys::memory::tests::writable::parked_writable_mapping_marks_a_file",
        || {
            let memory = MappableMemory::new(8 * GRANULE_SIZE, RESERVATION, GRANULE_SIZE).unwrap();
            memory.record.adopt(STORE, &"guest".into(), false).unwrap();
            let file = untouched(8);
            let range = memory.record.base()..memory.record.base() + 8 * GRANULE_SIZE;
            let map = || {
                let (range, observer) = (range.clone(), Box::new(Nobody));
                let record = &memory.record;
                record.map_window(STORE, 0, range, &file, 0, Perms::Write, 100, observer)
            };
            map().unwrap();
            write(range.start);
            memory.record.unmap_window(STORE, range.start, 0).unwrap();
            assert_eq!(count(), 1);
            file.pretend_zeroed();
            map().unwrap();
            assert_eq!((count(), file.is_untouched()), (0, false));
            memory.record.unmap_window(STORE, range.start, 0).unwrap();
            assert_eq!(count(), 1);
            file.pretend_zeroed();
            let view = ViewMut::new(&file, Span::whole(GRANULE)).unwrap();
            assert_eq!((count(), file.is_untouched()), (0, false));
            drop(view);
        },
    );
}

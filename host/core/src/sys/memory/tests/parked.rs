//! Windows that are mapped anew with the page tables of earlier ones.

use std::hint::black_box;

use rustix::io::Errno;
use tombolo_region::Span;

use super::*;
use crate::sys::parking::tests::count;
use crate::sys::parking::{forget_all, least};

const MIB: usize = 1 << 20;

/// A file, and its length.
struct Ones(Arc<RegionFile>, usize);

/// Returns a file of ones.
fn ones(bytes: usize) -> Ones {
    let name = RegionName::new("ones").unwrap();
    let file = Arc::new(RegionFile::new(&name, bytes as u64).unwrap());
    file.write_at(0, &vec![1; bytes]).unwrap();
    Ones(file, bytes)
}

/// Returns a memory of 16 MiB.
fn memory() -> MappableMemory {
    let memory = MappableMemory::new(16 * MIB, RESERVATION, MIB).unwrap();
    memory.record.adopt(STORE, &"guest".into(), false).unwrap();
    memory
}

/// Maps all of a file, this far into a memory. Returns the addresses.
fn map(memory: &MappableMemory, ahead: usize, file: &Ones, perms: Perms) -> Range<usize> {
    try_map(memory, ahead, file, perms).unwrap()
}

fn try_map(
    memory: &MappableMemory,
    ahead: usize,
    Ones(file, length): &Ones,
    perms: Perms,
) -> Result<Range<usize>, MapError> {
    let start = memory.record.base() + ahead;
    let (range, observer) = (start..start + length, Box::new(Nobody));
    memory
        .record
        .map_window(STORE, 0, range.clone(), file, 0, perms, 100, observer)?;
    Ok(range)
}

fn unmap(memory: &MappableMemory, range: &Range<usize>) {
    memory.record.unmap_window(STORE, range.start, 0).unwrap();
}

/// Reads a byte of each page, and returns the faults that this took.
fn faults(range: &Range<usize>) -> u64 {
    let count = || {
        // SAFETY: it is plain data, which the call fills.
        let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
        // SAFETY: the pointer is to a `rusage`.
        let counted = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(counted, 0);
        u64::try_from(usage.ru_minflt).unwrap()
    };
    let before = count();
    for address in range.clone().step_by(4096) {
        black_box(byte(address));
    }
    count() - before
}

/// Runs a test in a process of its own, because all tests of a process share its slots.
fn by_itself(name: &str, test: impl FnOnce()) {
    alone(&format!("sys::memory::tests::parked::{name}"), test);
}

/// Maps a file and unmaps it again, so that its mapping is parked.
fn park(memory: &MappableMemory, file: &Ones, perms: Perms) {
    let window = map(memory, 0, file, perms);
    assert!(faults(&window) > 0, "nothing was parked before");
    unmap(memory, &window);
    assert_eq!(byte(window.start), 0);
}

#[test]
fn window_mapped_anew_faults_nowhere() {
    by_itself("window_mapped_anew_faults_nowhere", || {
        let (memory, file) = (memory(), ones(2 * MIB));
        park(&memory, &file, Perms::Read);
        // At the same distance from a multiple of 2 MiB, and at another one.
        for ahead in [4 * MIB, 7 * MIB] {
            let window = map(&memory, ahead, &file, Perms::Read);
            assert_eq!(faults(&window), 0, "at {ahead:#x}");
            assert_eq!(byte(window.end - 1), 1);
            unmap(&memory, &window);
            assert!(window.step_by(4096).all(|address| byte(address) == 0));
        }
    });
}

#[test]
fn other_permissions_take_nothing_over() {
    by_itself("other_permissions_take_nothing_over", || {
        let (memory, file) = (memory(), ones(MIB));
        park(&memory, &file, Perms::Write);
        park(&memory, &file, Perms::Read);
        file.0.forget_writable_mappings();
        assert_eq!(count(), 1);
        let window = map(&memory, 0, &file, Perms::Read);
        assert_eq!(faults(&window), 0);
    });
}

#[test]
fn window_shows_its_own_part_of_the_file() {
    by_itself("window_shows_its_own_part_of_the_file", || {
        let (memory, file) = (memory(), ones(2 * MIB));
        file.0.write_at(MIB as u64, &vec![2; MIB]).unwrap();
        let record = &memory.record;
        let start = record.base();
        for (offset, expected) in [(0, 1), (MIB as u64, 2), (0, 1)] {
            let (range, observer) = (start..start + MIB, Box::new(Nobody));
            record
                .map_window(STORE, 0, range, &file.0, offset, Perms::Read, 100, observer)
                .unwrap();
            assert_eq!(byte(start), expected);
            record.unmap_window(STORE, start, 0).unwrap();
        }
        assert_eq!(count(), 2);
    });
}

// rule 7
#[test]
fn purged_bytes_are_zero_in_a_parked_mapping() {
    by_itself("purged_bytes_are_zero_in_a_parked_mapping", || {
        let (memory, file) = (memory(), ones(MIB));
        let whole = MIB as u64;
        park(&memory, &file, Perms::Read);
        file.0.punch(Span::whole(whole)).unwrap();
        assert_eq!(file.0.allocated(), 0);
        file.0.write_at(0, &vec![2; MIB]).unwrap();
        let window = map(&memory, 0, &file, Perms::Read);
        assert!(window.step_by(4096).all(|address| byte(address) == 2));
    });
}

#[test]
fn only_plain_touched_windows_are_parked() {
    by_itself("only_plain_touched_windows_are_parked", || {
        let memory = memory();
        let record = &memory.record;
        for case in ["short", "masked", "unpinned", "copied", "untouched"] {
            let file = ones(if case == "short" { MIB / 8 } else { MIB });
            if case == "short" && least() <= MIB / 8 {
                continue;
            }
            let window = map(&memory, 0, &file, Perms::Read);
            let start = window.start;
            if case != "untouched" {
                assert_eq!(byte(start), 1);
            }
            match case {
                "masked" => record.mask(STORE, start, 0).unwrap(),
                "unpinned" => {
                    // All of it, so that it is one mapping, of the guest's own pages.
                    let whole = window.clone();
                    record.mask_part(STORE, start, 0, whole, 100).unwrap();
                }
                "copied" => {
                    record.absorb(start);
                }
                _ => {}
            }
            if case != "untouched" {
                // What is there now is in the page tables as well.
                black_box(byte(start));
            }
            unmap(&memory, &window);
            assert_eq!(count(), 0, "{case}");
        }
    });
}

#[test]
fn parked_mappings_go_with_file_memory_and_pressure() {
    by_itself("parked_mappings_go_with_file_memory_and_pressure", || {
        let (file, first) = (ones(MIB), memory());
        park(&first, &file, Perms::Read);
        drop(first);
        assert_eq!(count(), 0);
        let second = memory();
        park(&second, &file, Perms::Read);
        forget_all();
        assert_eq!(count(), 0);
        park(&second, &file, Perms::Read);
        drop(file);
        assert_eq!(count(), 0);
    });
}

// rule 10
#[test]
fn bytes_of_a_file_are_parked_once() {
    by_itself("bytes_of_a_file_are_parked_once", || {
        let (memory, file) = (memory(), ones(2 * MIB));
        let record = &memory.record;
        let start = record.base();
        for offset in (0..MIB).step_by(64 << 10) {
            let (range, observer) = (start..start + MIB, Box::new(Nobody));
            let (file, offset) = (&file.0, offset as u64);
            record
                .map_window(STORE, 0, range, file, offset, Perms::Read, 100, observer)
                .unwrap();
            assert_eq!(byte(start), 1);
            record.unmap_window(STORE, start, 0).unwrap();
            assert_eq!(count(), 1);
        }
    });
}

// rule 10
#[test]
fn number_of_parked_mappings_is_limited() {
    by_itself("number_of_parked_mappings_is_limited", || {
        let memory = memory();
        let files: Vec<_> = (0..70).map(|_| ones(MIB / 4)).collect();
        for file in &files {
            park(&memory, file, Perms::Read);
        }
        assert_eq!(count(), 64);
        // The first ones made room.
        for (index, file) in files.iter().enumerate().rev().take(64) {
            let window = map(&memory, 0, file, Perms::Read);
            assert_eq!(faults(&window), 0, "file {index}");
            unmap(&memory, &window);
        }
        park(&memory, &files[5], Perms::Read);
    });
}

/// Runs `act`, which maps a window at the start of a memory. The kernel refuses the move of the
/// parked mapping with this error.
fn refusing_the_move(errno: Errno, act: impl FnOnce()) {
    // A huge page may be split before, at the window's end.
    assert!(refusals::during(2, 1, errno, act) > 0);
}

#[test]
fn refused_moves_change_nothing() {
    by_itself("refused_moves_change_nothing", || {
        let (memory, file) = (memory(), ones(MIB));
        park(&memory, &file, Perms::Read);
        forget_all();
        // Whether it was touched, two calls for an address, and the move.
        for number in 1..=4 {
            let window = map(&memory, 0, &file, Perms::Read);
            assert_eq!(byte(window.start), 1);
            refusing(number, 1, || unmap(&memory, &window));
            assert_eq!(byte(window.start), 0);
        }
        let window = map(&memory, 0, &file, Perms::Read);
        assert_eq!(byte(window.start), 1);
        unmap(&memory, &window);
        assert_eq!(count(), 1);
        let mut window = 0..0;
        refusing_the_move(Errno::PERM, || {
            window = map(&memory, 0, &file, Perms::Read);
        });
        // It is mapped as if nothing had been parked, and nothing is parked any more.
        assert!(faults(&window) > 0 && byte(window.start) == 1);
        unmap(&memory, &window);
        assert_eq!(count(), 0);
    });
}

// rule 9
#[test]
fn range_that_may_be_lost_is_never_used_again() {
    by_itself("range_that_may_be_lost_is_never_used_again", || {
        let (memory, file) = (memory(), ones(MIB));
        park(&memory, &file, Perms::Read);
        refusing_the_move(Errno::NOMEM, || {
            let refused = try_map(&memory, 0, &file, Perms::Read);
            assert!(matches!(refused, Err(MapError::Broken)));
        });
        let again = try_map(&memory, 4 * MIB, &file, Perms::Read);
        assert!(matches!(again, Err(MapError::Broken)));
        let base = memory.record.base();
        let lost = memory.record.state().lost.clone();
        assert!(lost.iter().eq([&(base..base + MIB)]));
    });
}

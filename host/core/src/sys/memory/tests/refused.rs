//! System calls that the kernel refuses, in the fault handler and elsewhere.

use super::*;
use crate::sys::parking::Pause;

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
    // Parking makes calls of its own.
    let _pause = Pause::new();
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
    let view = crate::sys::View::new(&file, span).unwrap();
    let start = view.bytes().as_ptr().addr();
    assert_eq!(permissions(start..start + 1), ["r--s"]);
    // Otherwise it would be parked.
    let _pause = Pause::new();
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
            bytes = crate::sys::private_bytes(own);
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
            assert!(made.unwrap().is_ok());
            assert_eq!(calls, 3, "it takes three system calls");
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

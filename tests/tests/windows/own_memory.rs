//! Windows that a guest places over memory that it uses.

use super::{MASK, PAGE, assert_filled_after, guest, host};
use tombolo::{GRANULE, RegionError};
use tombolo_test_util::puppet::{READ, WRITE, assert_filled, filled, mappings_of};

// rule 9
#[test]
fn window_over_its_own_stack_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let other = filled(&host, "other", GRANULE, 7);
        let other_number = b.receive(other.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, seen_at) = b.mapped(other_number, 1, READ);
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let stack = a.stack().unwrap() & !MASK;
        // The host writes the result to the stack, which the window has replaced. So the
        // guest runs up to its next host call.
        let shown = a.map(number, 0, GRANULE, access, stack);
        let after = a.churn(10).and_then(|_| a.create("more", 1));
        if access == READ {
            assert!(shown.is_err() || after.is_err(), "it wrote to its stack");
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        assert_eq!(b.byte(seen_at), 7);
        assert_filled(&other, 7);
        b.assert_works();
    }
}

// rule 9
#[test]
fn window_over_its_own_data_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let data = a.data().unwrap();
        assert_eq!(a.byte(data), 7);
        let shown = a.map(number, 0, GRANULE, access, data & !MASK);
        // The guest's list of handles may be there too, so it may trap or continue.
        let seen = a.peek(data, 1);
        if let (Ok(Ok(_)), Ok(seen)) = (&shown, &seen) {
            assert_eq!(seen[..], [1]);
        }
        let _ = a.churn(100);
        if access == READ {
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        b.assert_works();
    }
}

// rule 9
#[test]
fn window_over_its_own_heap_harms_no_other_guest() {
    for access in [READ, WRITE] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let last = a.pages().unwrap();
        let region = filled(&host, "music", 64 * GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        a.churn(50).unwrap();
        // The window covers the heap that the churning has taken.
        let grown = a.pages().unwrap() - last;
        assert!(grown > 2, "{grown}");
        let length = u64::from(grown.min(64)) * GRANULE;
        let _ = a.map(number, 0, length, access, last * PAGE);
        let _ = a.churn(50);
        if access == READ {
            assert_filled_after(a, &region, 1);
        } else {
            drop(a);
        }
        assert!(mappings_of(&region).is_empty());
        b.assert_works();
    }
}

// rule 9
#[test]
fn freeing_under_a_read_window_changes_no_region() {
    let host = host();
    let mut b = guest(&host, "b");
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (_, at) = a.mapped(number, 2, READ);
    a.forget_windows().unwrap();
    // The allocator writes into the freed memory. That is the guest's mistake.
    let freed = a.release(at, 2).and_then(|()| a.churn(500));
    assert!(freed.is_err(), "nothing was written");
    assert_filled_after(a, &region, 1);
    b.assert_works();
}

// rule 9
#[test]
fn freeing_under_a_write_window_changes_that_region() {
    let host = host();
    let mut b = guest(&host, "b");
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let other = filled(&host, "other", 2 * GRANULE, 2);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let other_number = a.receive(other.duplicate(tombolo::Rights::ALL).unwrap());
    let (_, other_at) = a.mapped(other_number, 2, READ);
    let (_, at) = a.mapped(number, 2, WRITE);
    a.forget_windows().unwrap();
    a.release(at, 2).unwrap();
    let _ = a.churn(500);
    // The window and its lock still exist.
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    let _ = a.peek(other_at, 1).map(|seen| assert_eq!(seen[..], [2]));
    drop(a);
    assert_filled(&other, 2);
    assert!(matches!(region.try_read(0..1), Err(RegionError::Poisoned)));
    b.assert_works();
}

//! Handles and guests that end before a window.

use super::{guest, host};
use tombolo::GRANULE;
use tombolo_test_util::puppet::{ErrorCode, READ, WRITE, filled, mappings_of};

// rule 6
#[test]
fn window_outlives_its_handle() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let number = a.create("music", GRANULE).unwrap().unwrap();
    let (window, at) = a.mapped(number, 1, WRITE);
    a.drop_handle(number).unwrap();
    a.poke(at, 5).unwrap();
    assert_eq!(a.byte(at), 5);
    // Only the window keeps the region alive.
    assert_eq!(host.counts().regions_freed, 0);
    a.set_access(window, READ).unwrap().unwrap();
    a.drop_window(window).unwrap();
    assert_eq!(host.counts().regions_freed, 1);
    assert_eq!(a.byte(at), 0);
    b.assert_works();
}

// rule 6
#[test]
fn window_outlives_the_other_guest() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, _) = a.mapped(in_a, 1, READ);
    let (_, at_a) = a.mapped(in_a, 1, READ);
    let (_, at_b) = b.mapped(in_b, 1, READ);
    a.drop_window(window_a).unwrap();
    assert_eq!((a.byte(at_a), b.byte(at_b)), (1, 1));
    drop(a);
    drop(region);
    assert_eq!(b.byte(at_b), 1);
    b.assert_works();
}

// rule 6
#[test]
fn dropped_guest_poisons_unless_it_finished() {
    for (finish, access) in [(false, READ), (true, WRITE), (false, WRITE)] {
        let host = host();
        let mut b = guest(&host, "b");
        let mut a = guest(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.mapped(in_a, 1, access);
        if access == WRITE {
            a.poke(at, 2).unwrap();
        }
        if finish {
            a.store.data_mut().regions.finish();
        }
        drop(a);
        assert!(mappings_of(&region).is_empty());
        let poisoned = access == WRITE && !finish;
        assert_eq!(region.is_poisoned(), poisoned);
        if poisoned {
            let at = b.allocate(1).unwrap();
            let refused = Err(ErrorCode::Poisoned);
            assert_eq!(b.map(in_b, 0, GRANULE, READ, at).unwrap(), refused);
            assert_eq!(b.read_at(in_b, 0, 1).unwrap(), Err(ErrorCode::Poisoned));
            assert_eq!(b.write_at(in_b, 0, &[1]).unwrap(), Err(ErrorCode::Poisoned));
            assert_eq!(b.freeze(in_b).unwrap(), Err(ErrorCode::Poisoned));
            b.clear_poison(in_b).unwrap().unwrap();
        }
        let expected = if access == WRITE { 2 } else { 1 };
        assert_eq!(b.read_at(in_b, 0, 2).unwrap(), Ok(vec![expected, 1]));
    }
}

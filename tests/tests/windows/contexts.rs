//! Contexts that safe code takes out of their stores.

use super::{assert_nothing_is_held, guest, host};
use tombolo::{GRANULE, RegionError};
use tombolo_test_util::puppet::{READ, WRITE, assert_filled, filled, mappings_of};

// rules 2, 12
#[test]
fn swapped_context_lends_nothing_to_the_host() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "of a", GRANULE, 1);
    let duplicate = region.duplicate(tombolo::Rights::ALL).unwrap();
    let handle = duplicate.give(&mut a.store).unwrap();
    let own = a.keep(tombolo::wasmtime::component::Resource::new_own(
        handle.rep(),
    ));
    let (_, at) = a.mapped(own, 1, WRITE);
    std::mem::swap(
        &mut a.store.data_mut().regions,
        &mut b.store.data_mut().regions,
    );
    let handle = tombolo::wasmtime::component::Resource::new_borrow(handle.rep());
    let error = tombolo::Region::borrow(&mut &mut b.store, handle).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error:?}");
    assert_eq!(a.byte(at), 1);
}

// rule 12
#[test]
fn swapped_contexts_remap_and_release_nothing() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let of_a = filled(&host, "of a", GRANULE, 1);
    let of_b = filled(&host, "of b", GRANULE, 2);
    let in_a = a.receive(of_a.duplicate(tombolo::Rights::ALL).unwrap());
    let in_b = b.receive(of_b.duplicate(tombolo::Rights::ALL).unwrap());
    let (window_a, at_a) = a.mapped(in_a, 1, WRITE);
    let (window_b, at_b) = b.mapped(in_b, 1, WRITE);
    let before = (mappings_of(&of_a), mappings_of(&of_b));

    std::mem::swap(
        &mut a.store.data_mut().regions,
        &mut b.store.data_mut().regions,
    );

    // The numbers of one context name nothing in the other one.
    let error = a.set_access(window_a, READ).unwrap_err();
    assert!(format!("{error:?}").contains("not present"), "{error:?}");
    let error = b.drop_window(window_b).unwrap_err();
    assert!(format!("{error:?}").contains("not present"), "{error:?}");
    assert_eq!((mappings_of(&of_a), mappings_of(&of_b)), before);
    for region in [&of_a, &of_b] {
        assert!(matches!(
            region.try_read(0..1),
            Err(RegionError::WouldBlock)
        ));
    }

    // The windows end with the stores, and each lock with its window.
    let a = a.store.into_data();
    assert!(mappings_of(&of_a).is_empty());
    assert_eq!(mappings_of(&of_b), before.1);
    assert!(matches!(of_a.try_read(0..1), Err(RegionError::Poisoned)));
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::WouldBlock)));
    drop(a);
    assert_eq!(mappings_of(&of_b), before.1);
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::WouldBlock)));
    drop(b);
    assert!(matches!(of_b.try_read(0..1), Err(RegionError::Poisoned)));
    for (region, byte) in [(&of_a, 1), (&of_b, 2)] {
        region.clear_poison().unwrap();
        assert_filled(region, byte);
    }
    let _ = (at_a, at_b);
    guest(&host, "c").assert_works();
}

// rule 12
#[test]
fn contexts_can_be_swapped_back() {
    let host = host();
    let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
    let region = filled(&host, "music", GRANULE, 1);
    let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, at) = a.mapped(in_a, 1, WRITE);
    for _ in 0..2 {
        std::mem::swap(
            &mut a.store.data_mut().regions,
            &mut b.store.data_mut().regions,
        );
        assert_eq!(a.byte(at), 1);
    }
    a.poke(at, 3).unwrap();
    a.drop_window(window).unwrap();
    assert_eq!(region.try_read(0..1).unwrap()[..], [3]);
    a.assert_works();
    b.assert_works();
}

// rule 12
#[test]
fn replaced_context_leaves_windows_to_the_memory() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let (window, at) = a.mapped(number, 1, WRITE);
    let before = mappings_of(&region);
    drop(std::mem::replace(
        &mut a.store.data_mut().regions,
        host.context("new").build(),
    ));
    // The objects are gone, but the windows are not.
    assert_eq!(mappings_of(&region), before);
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    a.poke(at, 4).unwrap();
    assert_eq!(a.byte(at), 4);
    a.drop_window(window).unwrap_err();
    assert_eq!(mappings_of(&region), before);
    drop(a);
    assert!(mappings_of(&region).is_empty());
    region.clear_poison().unwrap();
    assert_eq!(region.try_read(0..2).unwrap()[..], [4, 1]);
    guest(&host, "b").assert_works();
}

// rule 12
#[test]
fn forgotten_context_keeps_no_window_and_no_lock() {
    let host = host();
    let mut a = guest(&host, "a");
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    a.mapped(number, 1, READ);
    let data = a.store.data_mut();
    std::mem::forget(std::mem::replace(
        &mut data.regions,
        host.context("new").build(),
    ));
    assert!(matches!(
        region.try_write(0..1),
        Err(RegionError::WouldBlock)
    ));
    drop(a);
    assert!(mappings_of(&region).is_empty());
    assert_nothing_is_held(&region, 1);
    guest(&host, "b").assert_works();
}

// rule 12
#[test]
fn moved_context_does_not_touch_its_new_store() {
    let host = host();
    let region = filled(&host, "music", GRANULE, 1);
    let mut taken = Vec::new();
    // After several rounds, stores and memories lie where earlier ones were.
    for _ in 0..8 {
        let mut a = guest(&host, "a");
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (window, at) = a.mapped(number, 1, READ);
        let mapped = mappings_of(&region);
        assert_eq!(mapped.len(), 1);
        // The contexts of earlier guests name windows that have ended.
        if let Some(old) = taken.pop() {
            let own = std::mem::replace(&mut a.store.data_mut().regions, old);
            let _ = a.set_access(window, WRITE);
            assert_eq!(mappings_of(&region), mapped);
            assert!(matches!(
                region.try_write(0..1),
                Err(RegionError::WouldBlock)
            ));
            drop(own);
            assert_eq!(mappings_of(&region), mapped);
            let _ = at;
        }
        taken.push(a.store.into_data().regions);
        assert!(mappings_of(&region).is_empty());
        assert_nothing_is_held(&region, 1);
    }
}

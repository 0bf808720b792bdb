//! Guests that the test embeds.

use super::{PAGE, assert_violation, handmade};
use tombolo::{GRANULE, RegionHost};
use tombolo_test_util::puppet::{Puppet, READ, assert_filled, filled, mappings_of};
use tombolo_test_util::store::{State, engine, linker};
use wasmtime::Store;
use wasmtime::component::{Component, Resource};

// rule 9
#[test]
fn embedded_guest_traps_at_its_next_host_call() {
    type Write = fn(&mut Puppet, u32) -> wasmtime::Result<()>;
    let writes: [Write; 3] = [
        |a, at| a.fill(at + 10, 2 * PAGE - 10, 9),
        |a, at| a.copy(at, at + 5000, PAGE),
        |a, at| a.fill_apart(at, 4096, 32),
    ];
    for write in writes {
        let host = RegionHost::new();
        let (mut a, mut b) = (Puppet::new(&host, "a"), Puppet::new(&host, "b"));
        let region = filled(&host, "music", 2 * GRANULE, 1);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at_b) = b.mapped(in_b, 2, READ);
        let (_, at_a) = a.mapped(in_a, 2, READ);
        write(&mut a, at_a).unwrap();
        // The bytes went to private copies.
        assert_eq!(b.byte(at_b + 5000), 1);
        assert_violation(a.create("more", 1));
        drop(a);
        drop(b);
        assert!(!region.is_poisoned());
        assert!(mappings_of(&region).is_empty());
        assert_filled(&region, 1);
        Puppet::new(&host, "c").assert_works();
    }
}

// rule 9
#[test]
fn store_of_an_embedded_guest_traps() {
    let host = RegionHost::new();
    for at_most in [0, PAGE - 1] {
        let mut a = Puppet::new(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.mapped(number, 1, READ);
        let error = a.poke(at + at_most, 9).unwrap_err();
        assert!(error.is::<wasmtime::Trap>(), "{error:?}");
        drop(a);
        assert_filled(&region, 1);
    }
    Puppet::new(&host, "b").assert_works();
}

// rule 9
#[test]
fn list_lowered_to_a_read_window_goes_to_a_copy() {
    let (engine, linker) = (engine(), linker());
    let component = Component::new(engine, handmade()).unwrap();
    for acts in [
        &["arm", "nothing"][..],
        &["result"],
        &["pointer"],
        &["init"],
    ] {
        let host = RegionHost::new();
        let region = filled(&host, "music", 4 * GRANULE, 1);
        let mut store = Store::new(engine, State::new(host.context("a").build()));
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let (_, interface) = instance
            .get_export(&mut store, None, "test:faults/acts")
            .unwrap();
        let (_, keep) = instance
            .get_export(&mut store, Some(&interface), "keep")
            .unwrap();
        let (_, act) = instance
            .get_export(&mut store, Some(&interface), "act")
            .unwrap();
        let keep = instance
            .get_typed_func::<(Resource<tombolo::Region>,), (Result<(), String>,)>(
                &mut store, &keep,
            )
            .unwrap();
        let act = instance
            .get_typed_func::<(&str,), (Result<u64, String>,)>(&mut store, &act)
            .unwrap();
        let given = region.duplicate(tombolo::Rights::READ).unwrap();
        // Moving needs the right `share`.
        given.give(&mut store).unwrap_err();
        let rights = tombolo::Rights::READ | tombolo::Rights::SHARE;
        let given = region.duplicate(rights).unwrap();
        let given = given.give(&mut store).unwrap();
        keep.call(&mut store, (given,)).unwrap().0.unwrap();
        for name in acts {
            let _ = act.call(&mut store, (name,));
        }
        // The next host call fails.
        assert_violation(act.call(&mut store, ("result",)));
        assert_filled(&region, 1);
        drop(store);
        assert!(mappings_of(&region).is_empty());
        assert_filled(&region, 1);
        region.try_write(0..1).unwrap()[0] = 2;
    }
}

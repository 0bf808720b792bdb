//! Everything that a guest and a host program do, in a store whose data implement no trait of
//! Tombolo.

use tombolo::pressure::Level;
use tombolo::wasmtime::component::Linker;
use tombolo::{
    GRANULE, LentRegion, Region, RegionCtx, RegionError, RegionHost, Rights, WriteViolation,
    guest_in,
};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{assert_filled, filled};
use tombolo_test_util::store;
use wasmtime::{AsContextMut, Store};

use crate::world::{READ, WRITE, World};

#[test]
fn guest_maps_gives_and_takes() {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 3);
    let mut world = World::new([host.context("a")]);
    let number = world.give(0, &region);
    let window = world.acts(0, |acts, store| acts.call_map_window(store, number, WRITE));
    let window = window.unwrap().unwrap();
    world.acts(0, |acts, store| {
        assert_eq!(acts.call_peek(&mut *store, window).unwrap(), 3);
        acts.call_poke(store, window, 4).unwrap();
    });
    assert!(matches!(region.try_read(..), Err(RegionError::WouldBlock)));
    let given = world.acts(0, |acts, store| acts.call_give(store, number));
    let taken = Region::take(world.guest(0), given.unwrap()).unwrap();
    assert_eq!(taken.id(), region.id());
    assert_eq!(taken.try_read(0..2).unwrap()[..], [4, 3]);
}

#[test]
fn host_program_lends() {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 3);
    let mut world = World::new([host.context("a")]);
    let lent = region.lend(world.guest(0), Rights::READ).unwrap();
    let handle = lent.resource();
    let read = world.peer(0, |peer, store| peer.call_read(store, handle));
    assert_eq!(lent.end(world.guest(0), read).unwrap(), Ok(3));
    // The lend is over.
    region.try_write(..).unwrap()[0] = 5;
}

#[test]
fn guest_pins_waits_and_learns_of_pressure() {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 3);
    let mut world = World::new([host.context("a")]);
    let number = world.give(0, &region);
    let can_write = |world: &mut World| {
        let can = world.acts(0, |acts, store| acts.call_can_map(store, number, WRITE));
        can.unwrap().unwrap()
    };
    assert!(can_write(&mut world));
    let guard = region.try_read(..).unwrap();
    assert!(!can_write(&mut world));
    drop(guard);
    let under_pressure =
        |world: &mut World| world.acts(0, |acts, store| acts.call_under_pressure(store).unwrap());
    assert!(!under_pressure(&mut world));
    host.report_pressure(Level::Moderate);
    assert!(under_pressure(&mut world));
    let unpinned = world.acts(0, |acts, store| acts.call_unpin(store, number));
    assert_eq!(unpinned.unwrap(), Ok(()));
    let mapped = world.acts(0, |acts, store| acts.call_map_window(store, number, READ));
    assert_eq!(mapped.unwrap(), Err("ErrorCode::Unpinned".into()));
}

#[test]
fn attached_store_reports_a_violation() {
    alone("getters::attached_store_reports_a_violation", || {
        let host = RegionHost::new();
        let region = filled(&host, "music", GRANULE, 1);
        let mut world = World::new([host.context("a")]);
        tombolo::attach(&mut world.store);
        let number = world.give(0, &region);
        let window = world.acts(0, |acts, store| acts.call_map_window(store, number, READ));
        let window = window.unwrap().unwrap();
        let violated = world.acts(0, |acts, store| acts.call_violate(store, window));
        let error = violated.unwrap_err();
        let violation: &WriteViolation = error.downcast_ref().expect("that is the reason");
        assert_eq!((violation.guest(), violation.offset()), ("a", Some(0)));
        assert!(tombolo::check(world.guest(0)).is_err());
        drop(world);
        assert_filled(&region, 1);
    });
}

/// Types of a store's data that belong to other crates.
mod foreign {
    use super::*;

    /// A host whose plugins are generic over the data of its stores, and get a way to their part.
    trait Init {
        type StoreData: Send + 'static;

        fn linker(&mut self) -> &mut Linker<Self::StoreData>;
        fn data(data: &mut Self::StoreData) -> &mut RegionCtx;
    }

    fn init<I: Init>(init: &mut I) -> wasmtime::Result<()> {
        // A pointer, because the function's own type has the lifetime of `I`.
        let getter: fn(&mut I::StoreData) -> &mut RegionCtx = I::data;
        tombolo::add_to_linker_with(init.linker(), getter)
    }

    fn lend<I: Init>(
        store: impl AsContextMut<Data = I::StoreData>,
        region: &Region,
    ) -> Result<LentRegion, RegionError> {
        region.lend(guest_in(store, I::data), Rights::READ)
    }

    struct Plugins(Linker<Vec<RegionCtx>>);

    impl Init for Plugins {
        type StoreData = Vec<RegionCtx>;

        fn linker(&mut self) -> &mut Linker<Vec<RegionCtx>> {
            &mut self.0
        }

        fn data(data: &mut Vec<RegionCtx>) -> &mut RegionCtx {
            &mut data[0]
        }
    }

    #[test]
    fn generic_plugin_adds_regions() {
        let host = RegionHost::new();
        let mut plugins = Plugins(Linker::new(store::engine()));
        init(&mut plugins).unwrap();
        let mut store = Store::new(store::engine(), vec![host.context("a").build()]);
        let region = host.create("r", 1).unwrap();
        let lent = lend::<Plugins>(&mut store, &region).unwrap();
        let mut guest = guest_in(&mut store, Plugins::data);
        lent.end(&mut guest, Ok(())).unwrap();
        let given = region.give(&mut guest).unwrap();
        assert_eq!(Region::take(&mut guest, given).unwrap().size(), 1);
    }
}

//! A store with several guests, which a host program links.

use tombolo::{GuestIn, Parcel, Region, RegionCtx, RegionCtxBuilder, Rights, guest_in};
use tombolo_test_util::store;
use wasmtime::component::{Func, Instance, Linker, ResourceAny, ResourceTable, Val};
use wasmtime::{AsContextMut, Result, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::guests;

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/memory", "wit/contexts.wit"],
        world: "test:contexts/node",
        with: {
            "tombolo:memory/regions.region": ::tombolo::Region,
            "wasi:io/poll": ::wasmtime_wasi_io::bindings::wasi::io::poll,
        },
        require_store_data_send: true,
        additional_derives: [PartialEq],
    });
}

pub(crate) use bindings::exports::test::contexts::acts::Guest as Acts;
pub(crate) use bindings::tombolo::memory::windows::Access;

/// A window that reads.
pub(crate) const READ: Access = Access::Read;
/// A window that writes.
pub(crate) const WRITE: Access = Access::Write;

/// The data of a store. It implements no trait of Tombolo.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) guests: Vec<RegionCtx>,
    instances: Vec<Instance>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Returns the way to a guest.
pub(crate) fn getter(
    number: usize,
) -> impl Fn(&mut State) -> &mut RegionCtx + Clone + Send + Sync + 'static {
    move |state| &mut state.guests[number]
}

/// The guests of a store, by their numbers.
pub(crate) type Nodes = Vec<bindings::Node>;

/// A store with guests, each of which can call the next.
pub(crate) struct World {
    pub(crate) store: Store<State>,
    nodes: Nodes,
}

impl World {
    /// Creates a store with these guests.
    pub(crate) fn new(contexts: impl IntoIterator<Item = RegionCtxBuilder>) -> World {
        World::linked(contexts, |_, _| Ok(()))
    }

    /// Creates a store with these guests. `link` adds functions of the host program to the linker
    /// of the guest with this number.
    pub(crate) fn linked(
        contexts: impl IntoIterator<Item = RegionCtxBuilder>,
        link: impl Fn(&mut Linker<State>, usize) -> Result<()>,
    ) -> World {
        let mut world = World::without_guests(contexts);
        let component = store::component(guests::CONTEXTS_NODE);
        for number in 0..world.store.data().guests.len() {
            let linker = linker(number, &link).unwrap();
            let instance = linker.instantiate(&mut world.store, &component).unwrap();
            world.add(instance);
        }
        world
    }

    /// Creates such a store, in which functions of the host program may wait. Its guests are called
    /// by [`call_async`](World::call_async).
    pub(crate) async fn linked_async(
        contexts: impl IntoIterator<Item = RegionCtxBuilder>,
        link: impl Fn(&mut Linker<State>, usize) -> Result<()>,
    ) -> World {
        let mut world = World::without_guests(contexts);
        let component = store::component(guests::CONTEXTS_NODE);
        for number in 0..world.store.data().guests.len() {
            let linker = linker(number, &link).unwrap();
            let instance = linker.instantiate_async(&mut world.store, &component).await;
            world.add(instance.unwrap());
        }
        world
    }

    fn without_guests(contexts: impl IntoIterator<Item = RegionCtxBuilder>) -> World {
        let state = State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            table: ResourceTable::new(),
            guests: contexts.into_iter().map(|it| it.build()).collect(),
            instances: Vec::new(),
        };
        World {
            store: Store::new(store::engine(), state),
            nodes: Vec::new(),
        }
    }

    fn add(&mut self, instance: Instance) {
        let node = bindings::Node::new(&mut self.store, &instance).unwrap();
        self.nodes.push(node);
        self.store.data_mut().instances.push(instance);
    }

    /// Returns the store and its guests.
    pub(crate) fn into_parts(self) -> (Store<State>, Nodes) {
        (self.store, self.nodes)
    }

    /// Returns a guest, with the store in hand.
    pub(crate) fn guest(
        &mut self,
        number: usize,
    ) -> GuestIn<&mut Store<State>, impl Fn(&mut State) -> &mut RegionCtx + use<>> {
        guest_in(&mut self.store, getter(number))
    }

    /// Moves a duplicate of a region to a guest, and returns the number of its handle.
    pub(crate) fn give(&mut self, number: usize, region: &Region) -> u32 {
        let region = region.duplicate(Rights::ALL).unwrap();
        let handle = region.give(self.guest(number)).unwrap();
        self.acts(number, |acts, store| acts.call_keep(store, handle))
            .unwrap()
    }

    /// Moves a duplicate of a region to a guest, and lets it map a window. Returns the numbers of
    /// its handle and of the window.
    pub(crate) async fn give_and_map(
        &mut self,
        number: usize,
        region: &Region,
        access: &str,
    ) -> (Val, Val) {
        let region = region.duplicate(Rights::ALL).unwrap();
        let handle = region.give(self.guest(number)).unwrap();
        let handle = ResourceAny::try_from_resource(handle, &mut self.store).unwrap();
        let handle = self
            .call_async(number, "keep", &[Val::Resource(handle)])
            .await;
        let handle = handle.unwrap();
        let params = [handle.clone(), Val::Enum(access.to_owned())];
        match self
            .call_async(number, "map-window", &params)
            .await
            .unwrap()
        {
            Val::Result(Ok(Some(window))) => (handle, *window),
            other => panic!("{other:?}"),
        }
    }

    /// Calls an act of a guest, which may wait.
    pub(crate) async fn call_async(
        &mut self,
        number: usize,
        act: &str,
        params: &[Val],
    ) -> Result<Val> {
        let func = self::act(self.store.as_context_mut(), number, act);
        let mut results = [Val::Bool(false)];
        func.call_async(&mut self.store, params, &mut results)
            .await?;
        let [result] = results;
        Ok(result)
    }

    /// Calls a function that a guest offers to the others.
    pub(crate) fn peer<R>(
        &mut self,
        number: usize,
        call: impl FnOnce(&bindings::exports::test::contexts::peer::Guest, &mut Store<State>) -> R,
    ) -> R {
        call(self.nodes[number].test_contexts_peer(), &mut self.store)
    }

    /// Calls an act of a guest.
    pub(crate) fn acts<R>(
        &mut self,
        number: usize,
        act: impl FnOnce(&bindings::exports::test::contexts::acts::Guest, &mut Store<State>) -> R,
    ) -> R {
        act(self.nodes[number].test_contexts_acts(), &mut self.store)
    }
}

/// Returns the linker of one guest: with WASI, Tombolo, the next guest as its peer, and what `link`
/// adds.
fn linker(
    number: usize,
    link: impl Fn(&mut Linker<State>, usize) -> Result<()>,
) -> Result<Linker<State>> {
    let mut linker = Linker::new(store::engine());
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    tombolo::add_to_linker_with(&mut linker, getter(number))?;
    tombolo::add_waits_to_linker_with(&mut linker, move |state| {
        (&mut state.guests[number], &mut state.table)
    })?;
    tombolo::add_pressure_to_linker_with(&mut linker, move |state| {
        (&mut state.guests[number], &mut state.table)
    })?;
    let mut peer = linker.instance("test:contexts/peer")?;
    for name in ["write", "read", "die", "keep"] {
        peer.func_new(name, move |store, _, params, results| {
            call_next(store, number, name, params, results)
        })?;
    }
    let mut host = linker.instance("test:contexts/host")?;
    for name in ["sum", "fill", "take"] {
        host.func_new(name, move |_, _, _, _| {
            wasmtime::bail!("`{name}` is not linked")
        })?;
    }
    linker.allow_shadowing(true);
    link(&mut linker, number)?;
    Ok(linker)
}

/// Returns a function that a guest offers to the others.
pub(crate) fn peer(store: StoreContextMut<'_, State>, number: usize, name: &str) -> Func {
    export(store, number, "test:contexts/peer", name)
}

/// Returns an act of a guest.
pub(crate) fn act(store: StoreContextMut<'_, State>, number: usize, name: &str) -> Func {
    export(store, number, "test:contexts/acts", name)
}

fn export(
    mut store: StoreContextMut<'_, State>,
    number: usize,
    interface: &str,
    name: &str,
) -> Func {
    let instance = store.data().instances[number];
    let interface = instance.get_export_index(&mut store, None, interface);
    let func = instance.get_export_index(&mut store, interface.as_ref(), name);
    let func = instance.get_func(&mut store, func.expect("it is exported"));
    func.expect("it is a function")
}

/// Calls a function of the next guest, as a host program that links guests does.
fn call_next(
    mut store: StoreContextMut<'_, State>,
    number: usize,
    name: &str,
    params: &[Val],
    results: &mut [Val],
) -> Result<()> {
    let next = (number + 1) % store.data().guests.len();
    let func = peer(store.as_context_mut(), next, name);
    let to = store.data().guests[next].recipient();
    let mut from = guest_in(&mut store, getter(number));
    let (parcel, lending) = Parcel::pack(&mut from, params.to_vec(), &to)?;
    let mut callee = guest_in(&mut store, getter(next));
    let (params, borrowed) = parcel.unpack(&mut callee)?;
    let called = func.call(callee.store(), &params, results);
    borrowed.end(&mut callee, called)?;
    lending.end(&mut store)
}

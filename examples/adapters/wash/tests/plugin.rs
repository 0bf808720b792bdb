//! Components of a workload map regions and lend them within one store, by the plugin.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Builder;
use tombolo::{Limits, Region, RegionHost};
use tombolo_tests::artifacts::CONTEXTS_NODE;
use wash_adapter::wash_runtime::{
    Ctx, HostPlugin, SharedCtx, WitInterface, WitInterfaces, WorkloadComponent, WorkloadItem,
    WorkloadMetadata,
};
use wash_adapter::{ID, Regions};
use wasmtime::component::{Component, Linker, ResourceType, Val};
use wasmtime::{AsContextMut, Config, Engine, Store};

mod bindings {
    #![allow(missing_docs)] // Generated.
    wasmtime::component::bindgen!({
        path: ["../../../wit/memory", "../../../tests/wit/contexts.wit"],
        world: "test:contexts/node",
        with: {
            "tombolo:memory/regions.region": ::tombolo::Region,
            "wasi:io/poll": ::wasmtime_wasi_io::bindings::wasi::io::poll,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}

use bindings::tombolo::memory::windows::Access;

const GRANULE: u64 = tombolo::GRANULE;

/// Returns an engine as wash's `EngineBuilder` makes it of a prepared configuration.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        tombolo::prepare(&mut config).expect("this process can map regions");
        config.wasm_component_model_async(true);
        config.wasm_component_model_map(true);
        config.wasm_component_model_implements(true);
        Engine::new(&config).expect("the configuration is valid")
    })
}

/// A store with components of a workload, each of which can call the next.
struct Workload {
    plugin: Regions,
    store: Store<SharedCtx>,
    nodes: Vec<bindings::Node>,
}

impl Workload {
    async fn start(plugin: &Regions, store_id: &str, components: &[&str]) -> Workload {
        let ids: Vec<Arc<str>> = components.iter().map(|id| Arc::from(*id)).collect();
        let context = |id: &Arc<str>| Ctx::new(store_id, "workload", id.clone());
        let mut shared = SharedCtx::new(context(&ids[0]));
        for id in &ids[1..] {
            shared.contexts.insert(id.clone(), context(id));
        }
        let mut store = Store::new(engine(), shared);
        tombolo::attach(&mut store);
        let component = Component::from_file(engine(), CONTEXTS_NODE).unwrap();
        let mut nodes = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let mut item = WorkloadComponent {
                metadata: bound(plugin, id).await,
            };
            let next = ids[(number + 1) % ids.len()].clone();
            let linker = item.metadata.linker();
            link(linker, plugin, id.clone(), next).unwrap();
            let instance = linker.instantiate_async(&mut store, &component).await;
            let instance = instance.unwrap();
            nodes.push(bindings::Node::new(&mut store, &instance).unwrap());
            let instances = &mut store.data_mut().exporter_instances;
            instances.insert(id.clone(), instance);
        }
        Workload {
            plugin: plugin.clone(),
            store,
            nodes,
        }
    }

    /// Makes a component create a region and write to it. Returns the region and the window.
    async fn written(&mut self, number: usize, byte: u8) -> (u32, u32) {
        let acts = self.nodes[number].test_contexts_acts();
        let region = acts.call_create(&mut self.store, GRANULE).await;
        let region = region.unwrap().unwrap();
        let window = acts.call_map_window(&mut self.store, region, Access::Write);
        let window = window.await.unwrap().unwrap();
        acts.call_poke(&mut self.store, window, byte).await.unwrap();
        (region, window)
    }
}

/// Binds the plugin to a component, as wash does when a workload starts.
async fn bound(plugin: &Regions, id: &Arc<str>) -> WorkloadMetadata {
    let metadata = WorkloadMetadata::new("workload", id.clone(), Linker::new(engine()));
    let mut component = WorkloadComponent { metadata };
    let wanted = HashSet::from([WitInterface::from("tombolo:memory/regions,windows@0.1.0")]);
    let mut item = WorkloadItem::Component(&mut component);
    let done = plugin.on_workload_item_bind(&mut item, WitInterfaces::new(&wanted));
    done.await.unwrap();
    item.add_plugin(ID, Arc::new(plugin.clone()));
    wasmtime_wasi::p2::add_to_linker_async(item.linker()).unwrap();
    component.metadata
}

/// Links the functions of the next component, as wash's linker does.
fn link(
    linker: &mut Linker<SharedCtx>,
    plugin: &Regions,
    caller: Arc<str>,
    callee: Arc<str>,
) -> wasmtime::Result<()> {
    let mut peer = linker.instance("test:contexts/peer")?;
    for name in ["write", "read", "die", "keep"] {
        let (plugin, caller, callee) = (plugin.clone(), caller.clone(), callee.clone());
        peer.func_new_async(name, move |mut store, _, params, results| {
            let (plugin, caller, callee) = (plugin.clone(), caller.clone(), callee.clone());
            Box::new(async move {
                let instance = store.data().exporter_instances[&callee];
                let peer = instance.get_export_index(&mut store, None, "test:contexts/peer");
                let func = instance.get_export_index(&mut store, peer.as_ref(), name);
                let func = instance.get_func(&mut store, func.expect("it is exported"));
                let func = func.expect("it is a function");
                let called = plugin.call_linked(store, &caller, &callee, func, params, results);
                called.await
            })
        })?;
    }
    // The guest imports these too, and no test calls them.
    stubs(linker, "test:contexts/host", &["sum", "fill", "take"])?;
    stubs(linker, "tombolo:memory/waits@0.1.0", &["subscribe"])?;
    let pressure = "tombolo:memory/pressure@0.1.0";
    let watch = ResourceType::host::<()>();
    linker
        .instance(pressure)?
        .resource("watch", watch, |_, _| Ok(()))?;
    let functions = [
        "current",
        "[constructor]watch",
        "[method]watch.subscribe",
        "[method]watch.level",
    ];
    stubs(linker, pressure, &functions)
}

fn stubs(
    linker: &mut Linker<SharedCtx>,
    interface: &str,
    functions: &[&'static str],
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(interface)?;
    for name in functions.iter().copied() {
        instance.func_new(name, move |_, _, _, _| {
            wasmtime::bail!("`{name}` is not linked")
        })?;
    }
    Ok(())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(test);
}

fn plugin() -> Regions {
    Regions::new(RegionHost::new(), Limits::default())
}

#[test]
fn component_maps_a_region() {
    run(async {
        let mut workload = Workload::start(&plugin(), "store", &["front"]).await;
        let (_, window) = workload.written(0, 7).await;
        let acts = workload.nodes[0].test_contexts_acts();
        let byte = acts.call_peek(&mut workload.store, window).await;
        assert_eq!(byte.unwrap(), 7);
    });
}

// rule 5
#[test]
fn components_of_a_store_lend_to_each_other() {
    run(async {
        let mut workload = Workload::start(&plugin(), "store", &["front", "back"]).await;
        let (region, window) = workload.written(0, 7).await;
        let acts = workload.nodes[0].test_contexts_acts();
        let store = &mut workload.store;
        // The borrower writes beside the lender's window, which is set aside.
        let before = acts.call_peer_write(&mut *store, region, 8, false).await;
        assert_eq!(before.unwrap(), Ok(7));
        assert_eq!(acts.call_peek(&mut *store, window).await.unwrap(), 8);
        // Each has an account of its own.
        let claimed = |shared: &mut SharedCtx, id: &str| {
            let context = workload.plugin.context(shared, &id.into());
            context.claimed_bytes()
        };
        assert_eq!(claimed(store.data_mut(), "front"), GRANULE);
        assert_eq!(claimed(store.data_mut(), "back"), 0);
    });
}

// rule 5
#[test]
fn returned_region_arrives() {
    run(async {
        let mut workload = Workload::start(&plugin(), "store", &["front", "back"]).await;
        // The same number names another region in the caller.
        workload.written(0, 1).await;
        let (region, _) = workload.written(1, 7).await;
        let Workload {
            plugin,
            mut store,
            nodes,
        } = workload;
        let (front, back) = (Arc::from("front"), Arc::from("back"));
        let instance = store.data().exporter_instances[&back];
        let acts = instance.get_export_index(&mut store, None, "test:contexts/acts");
        let give = instance.get_export_index(&mut store, acts.as_ref(), "give");
        let give = instance.get_func(&mut store, give.expect("it is exported"));
        let (params, mut results) = ([Val::U32(region)], [Val::Bool(false)]);
        let called = plugin.call_linked(
            store.as_context_mut(),
            &front,
            &back,
            give.expect("it is a function"),
            &params,
            &mut results,
        );
        called.await.unwrap();
        let [Val::Resource(returned)] = results else {
            panic!("it returns a region")
        };
        let returned = returned.try_into_resource::<Region>(&mut store).unwrap();
        let acts = nodes[0].test_contexts_acts();
        let region = acts.call_keep(&mut store, returned).await.unwrap();
        let window = acts.call_map_window(&mut store, region, Access::Read);
        let window = window.await.unwrap().unwrap();
        assert_eq!(acts.call_peek(&mut store, window).await.unwrap(), 7);
        let mut claimed = |id| plugin.context(store.data_mut(), id).claimed_bytes();
        assert_eq!((claimed(&front), claimed(&back)), (2 * GRANULE, 0));
    });
}

// rule 10
#[test]
fn limits_hold_for_each_component() {
    run(async {
        let mut limits = Limits::default();
        limits.regions = 1;
        let plugin = Regions::new(RegionHost::new(), limits);
        let mut workload = Workload::start(&plugin, "store", &["front", "back"]).await;
        for number in 0..2 {
            workload.written(number, 1).await;
            let acts = workload.nodes[number].test_contexts_acts();
            let refused = acts.call_create(&mut workload.store, GRANULE).await;
            let refused = refused.unwrap().unwrap_err();
            assert!(refused.contains("regions"), "{refused}");
        }
    });
}

// rule 6
#[test]
fn contexts_go_with_their_store() {
    run(async {
        let plugin = plugin();
        let mut one = Workload::start(&plugin, "one", &["front", "back"]).await;
        let mut two = Workload::start(&plugin, "two", &["front"]).await;
        one.written(0, 1).await;
        one.written(1, 1).await;
        two.written(0, 1).await;
        assert_eq!(plugin.contexts(), 3);
        drop(one);
        assert_eq!(plugin.contexts(), 1);
        drop(two);
        assert_eq!(plugin.contexts(), 0);
    });
}

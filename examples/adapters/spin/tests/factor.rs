//! Components of a Spin app map regions and lend them, by the factor.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock};

use spin_adapter::spin_factors::{
    self, App, AsInstanceState, ConfigureAppContext, ConfiguredApp, Error, Factor, FactorField,
    FactorInitContext, FactorInstanceBuilder, FactorInstanceState, HasInstanceBuilder,
    PrepareContext, RuntimeFactors, RuntimeFactorsInstanceState,
};
use spin_adapter::{RegionsFactor, RuntimeConfig};
use tombolo::{Parcel, RegionHost, guest_in};
use tombolo_tests::artifacts::CONTEXTS_NODE;
use wasmtime::component::{Component, Instance, Linker, ResourceTable, Val};
use wasmtime::{AsContextMut, Config, Engine, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod bindings {
    #![allow(missing_docs)] // Generated.
    wasmtime::component::bindgen!({
        path: ["../../../wit/memory", "../../../tests/wit/contexts.wit"],
        world: "test:contexts/node",
        with: {
            "tombolo:memory/regions.region": ::tombolo::Region,
            "wasi:io/poll": ::wasmtime_wasi_io::bindings::wasi::io::poll,
        },
        require_store_data_send: true,
    });
}

use bindings::tombolo::memory::windows::Access;

/// The factors of a runtime. Below is what `#[derive(RuntimeFactors)]` writes for it.
struct Factors {
    regions: RegionsFactor,
}

#[derive(Default)]
struct FactorsAppState {
    regions: Option<<RegionsFactor as Factor>::AppState>,
}

struct FactorsInstanceBuilders {
    regions: Option<<RegionsFactor as Factor>::InstanceBuilder>,
}

struct FactorsInstanceState {
    table: ResourceTable,
    regions: FactorInstanceState<RegionsFactor>,
}

#[derive(Default)]
struct FactorsRuntimeConfig {
    regions: Option<<RegionsFactor as Factor>::RuntimeConfig>,
}

struct RegionsField;

impl FactorField for RegionsField {
    type State = FactorsInstanceState;
    type Factor = RegionsFactor;

    fn get(
        state: &mut FactorsInstanceState,
    ) -> (&mut FactorInstanceState<RegionsFactor>, &mut ResourceTable) {
        (&mut state.regions, &mut state.table)
    }
}

impl RuntimeFactors for Factors {
    type AppState = FactorsAppState;
    type InstanceState = FactorsInstanceState;
    type InstanceBuilders = FactorsInstanceBuilders;
    type RuntimeConfig = FactorsRuntimeConfig;

    fn init<T: AsInstanceState<FactorsInstanceState> + Send + 'static>(
        &mut self,
        linker: &mut Linker<T>,
    ) -> spin_factors::Result<()> {
        let mut context = FactorInitContext::<'_, T, RegionsField> {
            linker,
            _marker: PhantomData,
        };
        let done = self.regions.init(&mut context);
        done.map_err(|source| Error::FactorInitError {
            factor: "regions",
            source,
        })
    }

    fn configure_app(
        &self,
        app: App,
        config: FactorsRuntimeConfig,
    ) -> spin_factors::Result<ConfiguredApp<Self>> {
        let mut state = FactorsAppState::default();
        let context =
            ConfigureAppContext::<Self, RegionsFactor>::new(&app, &state, config.regions)?;
        let configured = self.regions.configure_app(context);
        let configured = configured.map_err(|source| Error::FactorConfigureAppError {
            factor: "regions",
            source,
        });
        state.regions = Some(configured?);
        Ok(ConfiguredApp::new(app, state))
    }

    fn prepare(
        &self,
        app: &ConfiguredApp<Self>,
        component_id: &str,
    ) -> spin_factors::Result<FactorsInstanceBuilders> {
        let component = app.app().get_component(component_id);
        let component = component.ok_or(Error::UnknownComponent(component_id.to_owned()))?;
        let mut builders = FactorsInstanceBuilders { regions: None };
        let state = app.app_state::<RegionsFactor>()?;
        let context = PrepareContext::<Self, RegionsFactor>::new(state, &component, &mut builders);
        let prepared = self.regions.prepare(context);
        let prepared = prepared.map_err(|source| Error::FactorPrepareError {
            factor: "regions",
            source,
        });
        builders.regions = Some(prepared?);
        Ok(builders)
    }

    fn build_instance_state(
        &self,
        builders: FactorsInstanceBuilders,
    ) -> spin_factors::Result<FactorsInstanceState> {
        let regions = builders.regions.expect("it was prepared").build();
        Ok(FactorsInstanceState {
            table: ResourceTable::new(),
            regions: regions.map_err(|source| Error::FactorBuildError {
                factor: "regions",
                source,
            })?,
        })
    }

    fn app_state<F: Factor>(state: &FactorsAppState) -> Option<&F::AppState> {
        <dyn Any>::downcast_ref(state.regions.as_ref()?)
    }

    fn instance_builder_mut<F: Factor>(
        builders: &mut FactorsInstanceBuilders,
    ) -> Option<Option<&mut F::InstanceBuilder>> {
        Some(
            builders
                .regions
                .as_mut()
                .and_then(|it| <dyn Any>::downcast_mut(it)),
        )
    }
}

impl HasInstanceBuilder for FactorsInstanceBuilders {
    fn for_factor<F: Factor>(&mut self) -> Option<&mut F::InstanceBuilder> {
        <dyn Any>::downcast_mut(self.regions.as_mut()?)
    }
}

impl RuntimeFactorsInstanceState for FactorsInstanceState {
    fn get_with_table<F: Factor>(
        &mut self,
    ) -> Option<(&mut FactorInstanceState<F>, &mut ResourceTable)> {
        let state = (&mut self.regions as &mut (dyn Any + Send)).downcast_mut()?;
        Some((state, &mut self.table))
    }

    fn table_mut(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl AsInstanceState<FactorsInstanceState> for FactorsInstanceState {
    fn as_instance_state(&mut self) -> &mut Self {
        self
    }
}

/// The data of a store, as a trigger of Spin has them.
struct Data {
    wasi: WasiCtx,
    factors: FactorsInstanceState,
}

impl AsInstanceState<FactorsInstanceState> for Data {
    fn as_instance_state(&mut self) -> &mut FactorsInstanceState {
        &mut self.factors
    }
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: self.factors.table_mut(),
        }
    }
}

fn regions(data: &mut Data) -> &mut tombolo::RegionCtx {
    let regions = data.factors.get::<RegionsFactor>();
    regions.expect("the factor is one of them")
}

/// Returns an engine as Spin configures it, apart from the pool, which `prepare` replaces.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        tombolo::prepare(&mut config).expect("this process can map regions");
        Engine::new(&config).expect("the configuration is valid")
    })
}

/// An instance of a component of the app.
struct Guest {
    store: Store<Data>,
    instance: Instance,
    node: bindings::Node,
}

type Peer = Arc<Mutex<Option<Guest>>>;

/// A runtime with an app of the components `front` and `back`.
struct Runtime {
    factors: Factors,
    app: ConfiguredApp<Factors>,
    linker: Linker<Data>,
}

impl Runtime {
    fn new(config: RuntimeConfig) -> Runtime {
        let mut factors = Factors {
            regions: RegionsFactor::new(RegionHost::new()),
        };
        let mut linker = Linker::new(engine());
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        factors.init(&mut linker).unwrap();
        let config = FactorsRuntimeConfig {
            regions: Some(config),
        };
        let app = factors.configure_app(App::new(["front", "back"]), config);
        Runtime {
            app: app.unwrap(),
            factors,
            linker,
        }
    }

    /// Instantiates a component, whose peer is another instance.
    fn start(&self, component_id: &str, peer: &Peer) -> Guest {
        let mut linker = self.linker.clone();
        link(&mut linker, peer).unwrap();
        let builders = self.factors.prepare(&self.app, component_id).unwrap();
        let data = Data {
            wasi: WasiCtx::builder().build(),
            factors: self.factors.build_instance_state(builders).unwrap(),
        };
        let mut store = Store::new(engine(), data);
        tombolo::attach(&mut store);
        let component = Component::from_file(engine(), CONTEXTS_NODE).unwrap();
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let node = bindings::Node::new(&mut store, &instance).unwrap();
        Guest {
            store,
            instance,
            node,
        }
    }
}

/// Links the functions of the other instance, as a trigger that calls components would.
fn link(linker: &mut Linker<Data>, peer: &Peer) -> wasmtime::Result<()> {
    let mut functions = linker.instance("test:contexts/peer")?;
    for name in ["write", "read", "die", "keep"] {
        let peer = peer.clone();
        functions.func_new(name, move |store, _, params, results| {
            let mut peer = peer.lock().unwrap();
            let peer = peer.as_mut().expect("it was started first");
            call(store, peer, name, params, results)
        })?;
    }
    let mut host = linker.instance("test:contexts/host")?;
    for name in ["sum", "fill", "take"] {
        host.func_new(name, move |_, _, _, _| {
            wasmtime::bail!("`{name}` is not linked")
        })?;
    }
    Ok(())
}

fn call(
    mut caller: StoreContextMut<'_, Data>,
    callee: &mut Guest,
    name: &str,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Guest {
        store, instance, ..
    } = callee;
    let peer = instance.get_export_index(&mut *store, None, "test:contexts/peer");
    let func = instance.get_export_index(&mut *store, peer.as_ref(), name);
    let func = instance.get_func(&mut *store, func.expect("it is exported"));
    let func = func.expect("it is a function");

    let to = regions(store.data_mut()).recipient();
    let (parcel, lending) = Parcel::pack(guest_in(&mut caller, regions), params.to_vec(), &to)?;
    let (params, borrowed) = parcel.unpack(guest_in(&mut *store, regions))?;
    let called = func.call(store.as_context_mut(), &params, results);
    borrowed.end(guest_in(store, regions), called)?;
    lending.end(&mut caller)
}

const GRANULE: u64 = tombolo::GRANULE;

#[test]
fn component_maps_a_region() {
    let runtime = Runtime::new(RuntimeConfig::default());
    let Guest {
        mut store, node, ..
    } = runtime.start("front", &Peer::default());
    assert_eq!(regions(store.data_mut()).name(), "front");
    let acts = node.test_contexts_acts();
    let region = acts.call_create(&mut store, GRANULE).unwrap().unwrap();
    let window = acts.call_map_window(&mut store, region, Access::Write);
    let window = window.unwrap().unwrap();
    acts.call_poke(&mut store, window, 7).unwrap();
    assert_eq!(acts.call_peek(&mut store, window).unwrap(), 7);
    // A second window cannot write beside it, and a waiter is told so.
    let free = acts.call_can_map(&mut store, region, Access::Write);
    assert!(!free.unwrap().unwrap_or(false));
}

// rule 5
#[test]
fn instances_lend_to_each_other() {
    let runtime = Runtime::new(RuntimeConfig::default());
    let back = Peer::default();
    *back.lock().unwrap() = Some(runtime.start("back", &Peer::default()));
    let Guest {
        mut store, node, ..
    } = runtime.start("front", &back);
    let acts = node.test_contexts_acts();
    let region = acts.call_create(&mut store, GRANULE).unwrap().unwrap();
    let window = acts.call_map_window(&mut store, region, Access::Write);
    let window = window.unwrap().unwrap();
    acts.call_poke(&mut store, window, 7).unwrap();
    // The borrower writes beside the lender's window, which is set aside.
    let before = acts.call_peer_write(&mut store, region, 8, false);
    assert_eq!(before.unwrap(), Ok(7));
    assert_eq!(acts.call_peek(&mut store, window).unwrap(), 8);
}

// rule 10
#[test]
fn runtime_configuration_limits_instances() {
    let mut config = RuntimeConfig::default();
    config.limits.regions = 1;
    let runtime = Runtime::new(config);
    let Guest {
        mut store, node, ..
    } = runtime.start("front", &Peer::default());
    let acts = node.test_contexts_acts();
    acts.call_create(&mut store, GRANULE).unwrap().unwrap();
    let refused = acts.call_create(&mut store, GRANULE).unwrap().unwrap_err();
    assert!(refused.contains("regions"), "{refused}");
}

//! The store, the engine and the linker of an embedder.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use tombolo::{RegionCtx, RegionView};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

/// The data of a guest's store.
pub struct State {
    /// The guest's regions and windows.
    pub regions: RegionCtx,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl State {
    /// Creates the data of a guest without arguments, output and files.
    pub fn new(regions: RegionCtx) -> State {
        State::with_wasi(regions, WasiCtx::builder().build())
    }

    /// Creates the data of a guest with a WASI context of the caller's.
    pub fn with_wasi(regions: RegionCtx, wasi: WasiCtx) -> State {
        State {
            regions,
            wasi,
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl IoView for State {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// An environment variable. If it is set, engines of tests have concurrency support, also those of
/// apps.
pub const CONCURRENCY: &str = "TOMBOLO_TEST_CONCURRENCY";

/// Returns whether engines of tests have concurrency support.
pub fn concurrency() -> bool {
    std::env::var_os(CONCURRENCY).is_some()
}

/// Returns the process's engine. The first call prepares the process.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.concurrency_support(concurrency());
        tombolo::prepare(&mut config).expect("this process can map regions");
        Engine::new(&config).expect("the configuration is valid")
    })
}

/// Returns the component at `path`, which is compiled once per process.
pub fn component(path: &'static str) -> Component {
    static COMPILED: OnceLock<Mutex<HashMap<&str, Component>>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(Mutex::default);
    // A component that does not compile fails each test that uses it.
    let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
    let component = compiled
        .entry(path)
        .or_insert_with(|| Component::from_file(engine(), path).expect("the guest compiles"));
    component.clone()
}

/// Creates a linker for synchronous stores with WASI, regions, windows and pins.
pub fn linker() -> Linker<State> {
    let mut linker = Linker::new(engine());
    add_to_linker(&mut linker);
    linker
}

/// Adds WASI, regions, windows and pins to a linker for synchronous stores.
pub fn add_to_linker(linker: &mut Linker<State>) {
    wasmtime_wasi::p2::add_to_linker_sync(linker).expect("WASI is added once");
    tombolo::add_to_linker(linker).expect("Tombolo is added once");
}

/// Adds WASI, regions, windows and pins to a linker for asynchronous stores.
pub fn add_to_linker_async(linker: &mut Linker<State>) {
    wasmtime_wasi::p2::add_to_linker_async(linker).expect("WASI is added once");
    tombolo::add_to_linker(linker).expect("Tombolo is added once");
}

//! The plugin in a synchronous store.

use std::sync::OnceLock;

use tombolo::{RegionCtx, RegionHost, RegionView};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub use bindings::Plugin;

mod bindings {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        with: { "tombolo:memory/regions": ::tombolo::regions },
    });
}

pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    regions: RegionCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// Instantiates the plugin.
pub fn plugin(host: &RegionHost) -> (Store<State>, Plugin) {
    static LINKED: OnceLock<(Component, Linker<State>)> = OnceLock::new();
    let (component, linker) = LINKED.get_or_init(|| {
        let mut config = Config::new();
        tombolo::prepare(&mut config).unwrap();
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_file(&engine, tombolo_tests::artifacts::EMBED_PLUGIN);
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        tombolo::add_to_linker(&mut linker).unwrap();
        (component.unwrap(), linker)
    });
    let state = State {
        wasi: WasiCtx::builder().build(),
        table: ResourceTable::new(),
        regions: host.context("plugin").build(),
    };
    let mut store = Store::new(component.engine(), state);
    let plugin = Plugin::instantiate(&mut store, component, linker).unwrap();
    (store, plugin)
}

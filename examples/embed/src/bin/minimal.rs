//! The least that a program does to share a region with a plugin: one synchronous store, one call.
//!
//! ```text
//! cargo build --release --target wasm32-wasip2 -p embed-plugin
//! cargo run --bin minimal
//! ```

use std::env;

use tombolo::{RegionCtx, RegionHost, RegionView, Rights, Session};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use bindings::exports::tombolo_examples::embed::handler::{Body, LentBody};

mod bindings {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        with: { "tombolo:memory/regions": ::tombolo::regions },
    });
}

/// The data of the plugin's store.
struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    regions: RegionCtx,
}

impl State {
    fn new(regions: RegionCtx) -> State {
        State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            table: ResourceTable::new(),
            regions,
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

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let built = "target/wasm32-wasip2/release/plugin.wasm";
    let path = env::args().nth(1).unwrap_or_else(|| built.to_owned());

    let mut config = Config::new();
    tombolo::prepare(&mut config)?; // before the process creates its first engine
    let engine = Engine::new(&config)?;
    let mut linker: Linker<State> = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    tombolo::add_to_linker(&mut linker)?;

    let host = RegionHost::new();
    let mut store = Store::new(&engine, State::new(host.context("plugin").build()));
    let component = Component::from_file(&engine, path)?;
    let plugin = bindings::Plugin::instantiate(&mut store, &component, &linker)?;
    let handler = plugin.tombolo_examples_embed_handler();

    // The host program fills a region in place, and lends it for one call.
    let body = host.create("body", 14)?;
    body.try_write(..)?.copy_from_slice(b"hello, island\n");
    let called = Session::new(store).call(|call| {
        let region = call.lend(&body, Rights::READ | Rights::WRITE)?;
        let request = Body::Region(LentBody { region, length: 14 });
        handler.call_handle(call.store(), "/translate", &request)
    });
    let (_session, answer) = called.into_result()?; // the guest is still usable
    answer.map_err(|error| format!("{error:?}"))?;

    // The plugin has put its answer into the region. The host program reads it in place.
    print!("{}", std::str::from_utf8(&body.try_read(..)?)?); // HELLO, ISLAND
    Ok(())
}

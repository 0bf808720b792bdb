//! The plugin in a synchronous store.

use tombolo::RegionHost;
use tombolo_test_util::store::{State, component, engine, linker};
use tombolo_tests::artifacts::EMBED_PLUGIN;
use wasmtime::Store;

pub use bindings::Plugin;
pub use bindings::exports::tombolo_examples::embed::handler::{Answer, AnswerBody, Body, LentBody};

mod bindings {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        with: { "tombolo:memory/regions": ::tombolo::regions },
    });
}

/// Instantiates the plugin.
pub fn plugin(host: &RegionHost) -> (Store<State>, Plugin) {
    let component = component(EMBED_PLUGIN);
    let state = State::new(host.context("plugin").build());
    let mut store = Store::new(engine(), state);
    let plugin = Plugin::instantiate(&mut store, &component, &linker()).unwrap();
    (store, plugin)
}

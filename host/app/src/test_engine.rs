//! The engine of unit tests.

use wasmtime::{Config, Engine};

/// Returns an engine that is prepared for mapping. All tests of a process must use such engines,
/// because none can be prepared once another one exists.
pub(crate) fn engine() -> Engine {
    let mut config = Config::new();
    tombolo::prepare(&mut config).expect("this process can map regions");
    Engine::new(&config).expect("the configuration is valid")
}

//! Two components composed into one, in a store of stock wasmtime.

use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store};

/// The largest list in bytes. More bytes are passed in several lists.
const PART: u64 = 64 << 20;

pub struct Composed {
    store: Store<()>,
    run: TypedFunc<(u32, bool), (u64,)>,
}

impl Composed {
    pub fn new() -> Composed {
        let wasm = wat::parse_str(include_str!("composed.wat")).expect("it is well-formed");
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).expect("the defaults work");
        let component = Component::new(&engine, wasm).expect("it is valid");
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component);
        let instance = instance.expect("it imports nothing");
        let run = instance.get_typed_func(&mut store, "run");
        let run = run.expect("it exports that");
        Composed { store, run }
    }

    /// Hands over `bytes` bytes. If `whole`, fills and reads them too.
    pub fn pass(&mut self, bytes: u64, whole: bool) {
        let mut left = bytes;
        while left > 0 {
            let part = left.min(PART);
            left -= part;
            let part = u32::try_from(part).expect("a part is smaller");
            let passed = self.run.call(&mut self.store, (part, whole));
            passed.expect("it does not trap");
        }
    }
}

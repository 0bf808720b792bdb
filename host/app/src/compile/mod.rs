//! Measures components and compiles them within limits.
//!
//! A small component can cost the compiler gigabytes. It may instantiate another component
//! twice, which instantiates another one twice, and so on. Or one of its functions may keep a
//! thousand locals alive through a thousand loops. So each component is *measured* before
//! anything else, in one pass over its bytes, against [`CompileLimits`].
//!
//! Then a skeleton of it is compiled: a component with the same types and next to no code.
//! `inspect`, `check` and the linking of an app need only the skeleton's types. `inspect` and
//! `check` also validate the code. The code is compiled only for an app that can be linked.
//!
//! If the program names a [`CompilerProcess`], wasmtime does all its work there.
//!
//! | file | contents |
//! |---|---|
//! | `limits` | the limits, and the errors |
//! | `measure` | the size of a component in every respect |
//! | `function` | the cost of one core function |
//! | `unfold` | instances, multiplied out |
//! | `totals` | the totals of an instance |
//! | `skeleton` | the component without its code |
//! | `process` | the compiler process, as the parent sees it |
//! | `child` | the compiler process itself |
//! | `protocol` | the messages between the two |
//! | `shared` | code that several apps share |

mod child;
mod function;
mod limits;
mod measure;
mod process;
mod protocol;
mod shared;
mod skeleton;
mod totals;
mod unfold;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, OptLevel};

pub use limits::CompileLimits;
pub(crate) use limits::{MeasureError, TooLarge};
pub(crate) use measure::{Measure, measure};
pub use process::CompilerProcess;
use process::Worker;
use protocol::Task;
pub use shared::SharedCode;
use skeleton::skeleton;
pub(crate) use totals::{Core, Totals};

/// The settings in which engines for apps differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EngineSettings {
    /// Whether code is optimized.
    pub(crate) optimize: bool,
    /// Whether guests may have async functions.
    pub(crate) concurrency: bool,
}

impl EngineSettings {
    /// Returns the configuration of these engines, without the settings of
    /// [`prepare`](tombolo::prepare).
    pub(crate) fn config(self) -> Config {
        let level = match self.optimize {
            true => OptLevel::Speed,
            false => OptLevel::None,
        };
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .cranelift_opt_level(level)
            .concurrency_support(self.concurrency);
        config
    }
}

/// Validates a component with its code, as wasmtime does before it compiles.
fn check_code(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<()> {
    let features = engine.get_wasm_features();
    wasmparser::Validator::new_with_features(features)
        .validate_all(wasm)
        .map(drop)
        .map_err(wasmtime::Error::new)
}

/// Compiles components for an engine.
pub(crate) struct Compiler<'a> {
    engine: &'a Engine,
    settings: EngineSettings,
    limits: &'a CompileLimits,
    worker: Option<Worker>,
    shared: Option<&'a SharedCode>,
}

impl<'a> Compiler<'a> {
    /// Creates a compiler for `engine`, which must have these settings.
    pub(crate) fn new(
        engine: &'a Engine,
        settings: EngineSettings,
        limits: &'a CompileLimits,
        process: Option<&CompilerProcess>,
    ) -> Compiler<'a> {
        Compiler {
            engine,
            settings,
            limits,
            worker: process.cloned().map(Worker::new),
            shared: None,
        }
    }

    /// Shares what it compiles from now on. The engine must be the one of `shared`.
    pub(crate) fn share(&mut self, shared: &'a SharedCode) {
        self.shared = Some(shared);
    }

    /// Returns a skeleton of a component that was measured. The skeleton has its types, and must
    /// not be run. With `check`, the code is validated too.
    ///
    /// # Errors
    ///
    /// The component is invalid.
    pub(crate) fn types(&mut self, wasm: &[u8], check: bool) -> wasmtime::Result<Component> {
        let task = if check { Task::Check } else { Task::Types };
        self.compile(task, wasm)
    }

    /// Compiles a component that was measured.
    ///
    /// # Errors
    ///
    /// The component is invalid, or compiling it takes too much time or memory.
    pub(crate) fn code(&mut self, wasm: &[u8]) -> wasmtime::Result<Component> {
        self.compile(Task::Code, wasm)
    }

    fn compile(&mut self, task: Task, wasm: &[u8]) -> wasmtime::Result<Component> {
        match self.shared {
            Some(shared) => {
                shared.component(self.settings, task, wasm, || self.compile_now(task, wasm))
            }
            None => self.compile_now(task, wasm),
        }
    }

    fn compile_now(&mut self, task: Task, wasm: &[u8]) -> wasmtime::Result<Component> {
        if let Some(worker) = &mut self.worker {
            let compiled = worker.compile(task, self.settings, wasm, self.limits)?;
            return compiled.load(self.engine);
        }
        match task {
            Task::Code => return Component::from_binary(self.engine, wasm),
            Task::Check => check_code(self.engine, wasm)?,
            Task::Types => {}
        }
        let bytes = skeleton(wasm).map_err(wasmtime::Error::new)?;
        Component::from_binary(self.engine, &bytes)
            .map_err(|error| child::better(self.engine, wasm, error))
    }
}

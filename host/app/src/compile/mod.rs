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
pub(crate) use limits::TooLarge;
#[cfg(test)]
pub(crate) use measure::measure;
pub use process::CompilerProcess;
use process::Worker;
use protocol::Task;
pub use shared::SharedCode;
use skeleton::skeleton;
pub(crate) use totals::{Core, Totals};

/// Returns the settings of engines for apps, without those of
/// [`prepare`](tombolo::prepare).
pub(crate) fn engine_config(level: OptLevel) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).cranelift_opt_level(level);
    config
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
    level: OptLevel,
    limits: &'a CompileLimits,
    worker: Option<Worker>,
    shared: Option<&'a SharedCode>,
}

impl<'a> Compiler<'a> {
    /// Creates a compiler for `engine`, which must have the settings of [`engine_config`] for
    /// this level.
    pub(crate) fn new(
        engine: &'a Engine,
        level: OptLevel,
        limits: &'a CompileLimits,
        process: Option<&CompilerProcess>,
    ) -> Compiler<'a> {
        Compiler {
            engine,
            level,
            limits,
            worker: process.cloned().map(Worker::new),
            shared: None,
        }
    }

    /// Shares what it compiles from now on. The engine must be the one of `shared`.
    pub(crate) fn share(&mut self, shared: &'a SharedCode) {
        self.shared = Some(shared);
    }

    /// Measures a component. Returns a skeleton with its types, which must not be run, and the
    /// size of an instance. With `check`, the code is validated too.
    ///
    /// # Errors
    ///
    /// The component is over a limit, or invalid.
    pub(crate) fn types(
        &mut self,
        wasm: &[u8],
        check: bool,
    ) -> wasmtime::Result<(Component, Totals)> {
        let measured = measure::measure(wasm, self.limits).map_err(|refused| match refused {
            // The hint of the error that is shown looks for this type.
            limits::MeasureError::TooLarge(error) => wasmtime::Error::new(error),
            other => wasmtime::Error::new(other),
        })?;
        let task = if check { Task::Check } else { Task::Types };
        Ok((self.compile(task, wasm)?, measured.instance))
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
            Some(shared) => shared.component(task, wasm, || self.compile_now(task, wasm)),
            None => self.compile_now(task, wasm),
        }
    }

    fn compile_now(&mut self, task: Task, wasm: &[u8]) -> wasmtime::Result<Component> {
        if let Some(worker) = &mut self.worker {
            let compiled = worker.compile(task, self.level, wasm, self.limits)?;
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

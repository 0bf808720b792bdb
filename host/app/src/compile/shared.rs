//! Code that several apps share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use super::protocol::Task;

/// An engine and its compiled programs, shared by apps that are started one after another. Each
/// program is compiled once.
///
/// Each app advances the engine's epoch. So guests of apps that run at the same time yield more
/// often than those of one app.
#[derive(Clone, Debug, Default)]
pub struct SharedCode(Arc<SharedInner>);

#[derive(Debug, Default)]
struct SharedInner {
    engine: OnceLock<Engine>,
    programs: Mutex<HashMap<Task, Programs>>,
}

/// Components by their bytes.
type Programs = HashMap<Box<[u8]>, Component>;

impl SharedCode {
    /// Returns the engine. The first call makes it with these settings; all calls must be with
    /// the same ones.
    pub(crate) fn engine(&self, config: &Config) -> wasmtime::Result<Engine> {
        if let Some(engine) = self.0.engine.get() {
            return Ok(engine.clone());
        }
        let engine = Engine::new(config)?;
        Ok(self.0.engine.get_or_init(|| engine).clone())
    }

    /// Returns a program that was compiled for this task, or else compiles it. Others wait
    /// meanwhile.
    pub(super) fn component(
        &self,
        task: Task,
        wasm: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let programs = self.0.programs.lock();
        let mut programs = programs.unwrap_or_else(PoisonError::into_inner);
        let programs = programs.entry(task).or_default();
        if let Some(component) = programs.get(wasm) {
            return Ok(component.clone());
        }
        let component = compile()?;
        programs.insert(wasm.into(), component.clone());
        Ok(component)
    }
}

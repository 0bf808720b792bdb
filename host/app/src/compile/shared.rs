//! Code that several apps share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use super::EngineSettings;
use super::protocol::Task;

/// Engines and their compiled programs, shared by apps that are started one after another. Each
/// program is compiled once for each engine. There is one engine for each kind of settings.
///
/// Each app advances its engine's epoch. So guests of apps that run at the same time yield more
/// often than those of one app.
#[derive(Clone, Debug, Default)]
pub struct SharedCode(Arc<SharedInner>);

#[derive(Debug, Default)]
struct SharedInner {
    engines: Mutex<HashMap<EngineSettings, Engine>>,
    programs: Mutex<HashMap<(EngineSettings, Task), Programs>>,
}

/// Components by their bytes.
type Programs = HashMap<Box<[u8]>, Component>;

impl SharedCode {
    /// Returns the engine with these settings. The first call makes it with this configuration,
    /// which must always be the same for the same settings.
    pub(crate) fn engine(
        &self,
        settings: EngineSettings,
        config: &Config,
    ) -> wasmtime::Result<Engine> {
        let engines = self.0.engines.lock();
        let mut engines = engines.unwrap_or_else(PoisonError::into_inner);
        match engines.entry(settings) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(place) => Ok(place.insert(Engine::new(config)?).clone()),
        }
    }

    /// Returns a program that was compiled for this task, or else compiles it. Others wait
    /// meanwhile.
    pub(super) fn component(
        &self,
        settings: EngineSettings,
        task: Task,
        wasm: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let programs = self.0.programs.lock();
        let mut programs = programs.unwrap_or_else(PoisonError::into_inner);
        let programs = programs.entry((settings, task)).or_default();
        if let Some(component) = programs.get(wasm) {
            return Ok(component.clone());
        }
        let component = compile()?;
        programs.insert(wasm.into(), component.clone());
        Ok(component)
    }
}

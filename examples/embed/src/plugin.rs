//! The embedding: engine, linker, stores, and calls that lend and take.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tombolo::{
    CallError, CallFailure, HostLimits, PackError, Region, RegionCtx, RegionError, RegionHost,
    RegionView, Rights, Session,
};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::body::{Bodies, Body};
use bindings::exports::tombolo_examples::embed::handler::{self, AnswerBody, Failure};
use bindings::{Plugin, PluginPre};

mod bindings {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        exports: { default: async },
        // Lists are lowered from where they are.
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "tombolo:memory/regions": ::tombolo::regions },
    });
}

/// The time after which a running plugin yields the thread.
const TICK: Duration = Duration::from_millis(10);

/// Creates an engine on which plugins see regions in place.
///
/// # Errors
///
/// If this process cannot map regions.
pub fn engine() -> anyhow::Result<Engine> {
    let mut config = Config::new();
    // Plugins have no async functions, and calls are faster without them.
    config.epoch_interruption(true).concurrency_support(false);
    tombolo::prepare(&mut config)?;
    Ok(Engine::new(&config)?)
}

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes in the body of one request.
    pub body_bytes: u64,
    /// Bytes of all regions at the same time. Short bodies do not count.
    pub all_bytes: u64,
    /// The time that a body may wait for others to release memory and descriptors.
    pub wait_time: Duration,
    /// The time that the plugin may take for one request.
    pub call_time: Duration,
    /// Instances that run at the same time.
    pub plugins: usize,
    /// The bytes with which `/translate` replaces each byte.
    pub table: Option<[u8; 256]>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            body_bytes: 64 << 20,
            all_bytes: 1 << 30,
            wait_time: Duration::from_secs(2),
            call_time: Duration::from_secs(5),
            plugins: 16,
            table: None,
        }
    }
}

/// The data of a plugin's store.
struct State {
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

/// The instances of one plugin. Each has a store of its own and answers one request at a time. An
/// instance that fails is dropped, with all its regions.
pub struct Plugins {
    pre: PluginPre<State>,
    host: RegionHost,
    bodies: Arc<Bodies>,
    settings: Settings,
    /// One region for all instances, frozen, so that each may read it.
    table: Option<Region>,
    idle: Mutex<Vec<Instance>>,
    slots: Semaphore,
}

struct Instance {
    session: Session<State>,
    plugin: Plugin,
}

/// The body of an answer: bytes, or so many of the region with the request's body.
enum Content {
    Bytes(Bytes),
    InPlace(u64),
}

/// The answer of a plugin.
#[derive(Debug)]
pub struct Answer {
    /// The content type of the body.
    pub content_type: String,
    /// The body. That in a region is not copied.
    pub body: Bytes,
}

/// A reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The plugin does not serve that path.
    #[error("not found")]
    NotFound,
    /// The plugin reported a failure.
    #[error("the plugin failed: {0}")]
    Failed(String),
    /// The plugin took too long, and was dropped.
    #[error("the plugin took too long")]
    TooLong,
    /// The plugin trapped or broke a rule, and was dropped.
    #[error("the plugin broke")]
    Broken(#[from] wasmtime::Error),
    /// A region was refused.
    #[error("no region")]
    Region(#[from] RegionError),
}

impl From<PackError> for Refusal {
    fn from(error: PackError) -> Refusal {
        Refusal::Broken(error.into())
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Refusal {
        match error.into_failure() {
            CallFailure::Stopped => Refusal::TooLong,
            failure => Refusal::Broken(failure.into()),
        }
    }
}

impl Plugins {
    /// Compiles a plugin. On another engine than [`engine`], which must have epochs, it works by
    /// copies.
    ///
    /// # Errors
    ///
    /// If `wasm` is not such a plugin.
    pub fn new(engine: &Engine, wasm: &[u8], settings: Settings) -> anyhow::Result<Plugins> {
        let mut linker: Linker<State> = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        tombolo::add_to_linker(&mut linker)?;
        let component = Component::from_binary(engine, wasm)?;
        let pre = PluginPre::new(linker.instantiate_pre(&component)?)?;

        let mut limits = HostLimits::default();
        limits.budget = settings.all_bytes;
        let host = RegionHost::with_limits(limits);
        let table = match &settings.table {
            Some(bytes) => {
                let region = host.create("table", bytes.len() as u64)?;
                region.try_write(..)?.copy_from_slice(bytes);
                region.freeze()?;
                Some(region)
            }
            None => None,
        };
        tick(engine)?;
        let bodies = Bodies::new(&host, &settings);
        Ok(Plugins {
            pre,
            bodies,
            host,
            table,
            idle: Mutex::default(),
            slots: Semaphore::new(settings.plugins),
            settings,
        })
    }

    /// Returns the host that the regions belong to.
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Returns the limits of the server.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the regions for bodies.
    pub(crate) fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// Lets the plugin answer a request. Dropping the future drops the instance at work, and so
    /// does a call that takes too long.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(crate) async fn handle(&self, path: &str, body: Body) -> Result<Answer, Refusal> {
        let _slot = self.slots.acquire().await.expect("it is never closed");
        let stop = tokio::time::sleep(self.settings.call_time);
        let idle = self.idle().pop();
        let instance = match idle {
            Some(instance) => instance,
            None => self.instance().await?,
        };
        // Any error drops the instance.
        let (instance, answer) = instance.handle(path, &body, stop).await?;
        self.idle().push(instance);
        let (content_type, content) = answer?;
        Ok(Answer {
            content_type,
            body: match content {
                Content::Bytes(bytes) => bytes,
                Content::InPlace(length) => body.answer(length)?,
            },
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn instance(&self) -> Result<Instance, Refusal> {
        let state = State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            table: ResourceTable::new(),
            regions: self.host.context("plugin").build(),
        };
        let mut store = Store::new(self.pre.engine(), state);
        // Calls fail once the plugin has written to a read-only window.
        tombolo::attach(&mut store);
        // A plugin that runs for long lets others run in between, and the timer that ends it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let plugin = self.pre.instantiate_async(&mut store).await?;
        let session = Session::new(store);
        let instance = Instance { session, plugin };
        match &self.table {
            // A claim of the plugin's own on the same bytes, to keep.
            Some(table) => {
                let table = table.duplicate(Rights::READ | Rights::SHARE)?;
                instance.set_table(table).await
            }
            None => Ok(instance),
        }
    }
}

impl Instance {
    /// Answers a request, and returns the instance. An error of the outer result, or being stopped,
    /// means that the instance could not go on.
    async fn handle(
        self,
        path: &str,
        body: &Body,
        stop: impl Future<Output = ()>,
    ) -> Result<(Instance, Result<(String, Content), Refusal>), Refusal> {
        let Instance { session, plugin } = self;
        let handler = plugin.tombolo_examples_embed_handler();
        let called = session.call_until(stop, async |call| {
            let body = match body {
                Body::Bytes(bytes) => handler::Body::Bytes(bytes),
                Body::Region { region, length } => handler::Body::Region(handler::LentBody {
                    region: call.lend(region, Rights::READ | Rights::WRITE)?,
                    length: *length,
                }),
            };
            handler.call_handle(call.store(), path, body).await
        });
        let (mut session, result) = called.await.into_result()?;
        let answer = match result {
            Ok(answer) => answer,
            Err(failure) => return Ok((Instance { session, plugin }, Err(failure.into()))),
        };
        let content = match answer.body {
            AnswerBody::Bytes(bytes) => Content::Bytes(bytes.into()),
            AnswerBody::InPlace(length) => Content::InPlace(length),
            AnswerBody::Region(moved) => {
                let region = session.take(moved.region)?;
                // The guard keeps the bytes without the handle.
                Content::Bytes(Bytes::from_owner(region.try_read(..moved.length)?))
            }
        };
        let answer = (answer.content_type, content);
        Ok((Instance { session, plugin }, Ok(answer)))
    }

    async fn set_table(self, table: Region) -> Result<Instance, Refusal> {
        let Instance { session, plugin } = self;
        let handler = plugin.tombolo_examples_embed_handler();
        let called = session.call_async(async |call| {
            let table = call.give(table).map_err(|error| error.reason)?;
            handler.call_set_table(call.store(), table).await
        });
        let (session, result) = called.await.into_result()?;
        result?;
        Ok(Instance { session, plugin })
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::NotFound => Refusal::NotFound,
            Failure::Failed(text) => Refusal::Failed(text),
        }
    }
}

/// Advances the engine's epoch for as long as the engine exists. It takes a thread of its own,
/// because plugins may keep all threads of the runtime busy.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("ticker".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })?;
    Ok(())
}

//! The embedding: engine, linkers, and one store for each request.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tombolo::{HostLimits, RegionCtx, RegionHost, RegionView};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};
use wasmtime_wasi_io::IoView;

use crate::filter::Filter;

/// The time after which a running guest yields the thread.
const TICK: Duration = Duration::from_millis(10);

/// Creates an engine on which guests see regions in place.
///
/// # Errors
///
/// If this process cannot map regions.
pub fn engine() -> anyhow::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    tombolo::prepare(&mut config)?;
    Ok(Engine::new(&config)?)
}

/// Limits of the proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of all regions at the same time.
    pub all_bytes: u64,
    /// The time that a request may take, from its head to the end of its handler.
    pub request_time: Duration,
    /// The time that a connection may take in all. It bounds how long a client that does not read
    /// keeps the region of an answer.
    pub connection_time: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            all_bytes: 1 << 30,
            request_time: Duration::from_secs(30),
            connection_time: Duration::from_secs(120),
        }
    }
}

/// The data of a guest's store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
    table: ResourceTable,
    pub(crate) regions: RegionCtx,
}

impl State {
    pub(crate) fn new(regions: RegionCtx) -> State {
        State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            http: WasiHttpCtx::new(),
            hooks: NoRequests,
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

impl IoView for State {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// Guests send no requests of their own.
struct NoRequests;

/// A request that is being sent, and what it returns.
type Sending = Box<dyn Future<Output = Result<(Response<WasiBody>, Transfer), Error>> + Send>;
type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Transfer,
    ) -> Sending {
        Box::new(async { Err(Error::HttpProtocolError) })
    }
}

/// The handler and the guest that it lends bodies to. Each request has new instances of both.
pub struct Proxy {
    handler: ProxyPre<State>,
    host: RegionHost,
    settings: Settings,
}

impl Proxy {
    /// Compiles both components and links them.
    ///
    /// # Errors
    ///
    /// If one is not valid, or imports what the proxy does not offer.
    pub fn new(
        engine: &Engine,
        handler: &[u8],
        filter: &[u8],
        settings: Settings,
    ) -> anyhow::Result<Arc<Proxy>> {
        let mut limits = HostLimits::default();
        limits.budget = settings.all_bytes;
        let host = RegionHost::with_limits(limits);
        let filter = Filter::new(engine, filter, &host)?;
        let mut linker = linker(engine)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        tombolo::add_streams_to_linker(&mut linker)?;
        Arc::new(filter).link(&mut linker)?;
        let handler = linker.instantiate_pre(&Component::new(engine, handler)?)?;
        tick(engine)?;
        Ok(Arc::new(Proxy {
            handler: ProxyPre::new(handler)?,
            host,
            settings,
        }))
    }

    /// Returns the host of all regions.
    #[must_use]
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Lets a new handler answer a request. The handler may go on after the answer has begun.
    ///
    /// # Errors
    ///
    /// If the handler fails before it answers.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
    ) -> anyhow::Result<Response<HyperOutgoingBody>> {
        let mut store = new_store(self.handler.engine(), self.host.context("handler").build());
        let (answer, answered) = oneshot::channel();
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(answer)?;
        let handler = self.handler.clone();
        let run = async move {
            let guest = handler.instantiate_async(&mut store).await?;
            let handler = guest.wasi_http_incoming_handler();
            handler.call_handle(&mut store, request, out).await?;
            store.data_mut().regions.finish();
            anyhow::Ok(())
        };
        let run = timeout(self.settings.request_time, run);
        let task = tokio::spawn(async move {
            let result = run.await.unwrap_or_else(|late| Err(late.into()));
            if let Err(error) = &result {
                tracing::warn!("{error:#}");
            }
            result
        });
        match answered.await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                task.await??;
                anyhow::bail!("the handler did not answer")
            }
        }
    }
}

/// Creates a linker with what both guests import.
pub(crate) fn linker(engine: &Engine) -> anyhow::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    tombolo::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Creates the store of a guest, which yields at each tick.
pub(crate) fn new_store(engine: &Engine, regions: RegionCtx) -> Store<State> {
    let mut store = Store::new(engine, State::new(regions));
    tombolo::attach(&mut store);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

/// Advances the engine's epoch for as long as the engine exists.
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

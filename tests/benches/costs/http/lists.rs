//! The server of `examples/embed` with bytes as lists, on stock wasmtime without Tombolo.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use embed::http::{ReceiveError, announced, collect, response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tombolo_tests::artifacts::COSTS_LISTS;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::MOST;

mod bindings {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        path: "wit/http.wit",
        world: "lists",
        exports: { default: async },
    });
}

/// As in the example.
const INSTANCES: usize = 16;
const CALL_TIME: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

type Instance = (Store<State>, bindings::Lists);

/// The instances, which are used again.
pub struct Lists {
    pre: bindings::ListsPre<State>,
    idle: Mutex<Vec<Instance>>,
    slots: Semaphore,
}

impl Lists {
    pub fn new() -> Arc<Lists> {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false);
        let engine = Engine::new(&config).expect("the defaults work");
        let mut linker: Linker<State> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("nothing else is in there");
        let component = Component::from_file(&engine, COSTS_LISTS).expect("it was built");
        let pre = linker.instantiate_pre(&component).expect("it needs WASI");
        let pre = bindings::ListsPre::new(pre).expect("it has this world");
        thread::spawn(move || {
            loop {
                engine.increment_epoch();
                thread::sleep(TICK);
            }
        });
        Arc::new(Lists {
            pre,
            idle: Mutex::default(),
            slots: Semaphore::new(INSTANCES),
        })
    }

    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let Ok(body) = receive(request.into_body()).await else {
            return response(StatusCode::BAD_REQUEST, "text/plain", Bytes::new());
        };
        let _slot = self.slots.acquire().await.expect("it is never closed");
        let called = self.handle(&path, &body);
        match tokio::time::timeout(CALL_TIME, called).await {
            Ok(Ok(Some((content_type, body)))) => {
                response(StatusCode::OK, &content_type, body.into())
            }
            _ => response(StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        }
    }

    async fn handle(&self, path: &str, body: &[u8]) -> wasmtime::Result<Option<(String, Vec<u8>)>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let (mut store, lists) = match kept {
            Some(instance) => instance,
            None => self.instance().await?,
        };
        let handler = lists.test_http_handler();
        let answer = handler.call_handle(&mut store, path, body).await?;
        idle().push((store, lists));
        Ok(answer.map(|answer| (answer.content_type, answer.body)))
    }

    async fn instance(&self) -> wasmtime::Result<Instance> {
        let state = State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let lists = self.pre.instantiate_async(&mut store).await?;
        Ok((store, lists))
    }
}

/// Receives a body.
pub async fn receive(mut body: Incoming) -> Result<Bytes, ReceiveError> {
    announced(&body, MOST)?;
    collect(&mut body, MOST as usize).await
}

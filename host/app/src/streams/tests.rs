//! Tests with guests in two stores, each on a task of its own.

mod regions;

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wasmtime::component::{Accessor, Component, Func, Instance, Linker, ResourceTable, Val};
use wasmtime::{AsContextMut, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

use super::*;
use crate::test_engine::engine;
use tombolo::internal::RecipientInternals as _;
use tombolo::{Limits, Recipient, RegionCtx, RegionHost, RegionView};
use tombolo_exchange::{LEAST_BYTES, MOST_BYTES, OVERHEAD_BYTES};
use tombolo_region::ChargeKind;

struct StoreState {
    wasi: WasiCtx,
    table: ResourceTable,
    regions: RegionCtx,
}

impl WasiView for StoreState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl IoView for StoreState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl RegionView for StoreState {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// The guest program, and a linker for it.
static PROGRAM: LazyLock<(Engine, Component, Linker<StoreState>)> = LazyLock::new(|| {
    let engine = engine();
    let component = Component::from_file(&engine, tombolo_tests::artifacts::STREAMS_NODE).unwrap();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    tombolo::add_to_linker(&mut linker).unwrap();
    tombolo::add_waits_to_linker(&mut linker).unwrap();
    (engine, component, linker)
});

/// Values on their way from store to store.
struct Sent {
    vals: Vec<Val>,
    streams: CarriedStreams,
}

impl Sent {
    fn plain<const N: usize>(vals: [Val; N]) -> Sent {
        Sent {
            vals: vals.into(),
            streams: CarriedStreams::default(),
        }
    }
}

/// A call of a guest. It passes its results on to another one.
struct Job {
    function: &'static str,
    params: Sent,
    to: Recipient,
    payer: Recipient,
    reply: oneshot::Sender<Result<Sent, String>>,
}

/// A guest that runs.
struct Node {
    jobs: mpsc::UnboundedSender<Job>,
    recipient: Recipient,
    task: JoinHandle<wasmtime::Result<()>>,
}

const INTERFACES: [&str; 3] = ["sources", "sinks", "passers"];

impl Node {
    async fn start(host: &RegionHost, name: &str, limits: Limits) -> Node {
        let (engine, component, linker) = &*PROGRAM;
        let state = StoreState {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            table: ResourceTable::new(),
            regions: host.context(name).limits(limits).build(),
        };
        let recipient = state.regions.recipient();
        let mut store = Store::new(engine, state);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = linker.instantiate_async(&mut store, component).await;
        let instance = instance.unwrap();
        let (jobs, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve(store, instance, inbox));
        Node {
            jobs,
            recipient,
            task,
        }
    }

    /// Calls a function, whose results are for `to`. This guest pays for their streams.
    async fn send(&self, function: &'static str, params: Sent, to: &Node) -> Result<Sent, String> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            function,
            params,
            to: to.recipient.clone(),
            payer: self.recipient.clone(),
            reply,
        };
        self.jobs.send(job).map_err(|_| "it has ended".to_owned())?;
        answer.await.unwrap_or_else(|_| Err("it has ended".into()))
    }

    /// Calls a function whose results have no streams.
    async fn call(&self, function: &'static str, params: Sent) -> Result<Vec<Val>, String> {
        let results = self.send(function, params, self).await?;
        Ok(results.vals)
    }

    fn host_memory(&self) -> u64 {
        let account = &self.recipient.owner().account;
        account.used(ChargeKind::HostMemory)
    }

    /// Ends the guest in order: its calls have returned, and its tasks are dropped.
    async fn end(self) {
        drop(self.jobs);
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the guest has ended by a failure, and returns its text.
    async fn failure(self) -> String {
        let error = self.task.await.unwrap().unwrap_err();
        format!("{error:#}")
    }
}

/// Answers calls, several at once.
async fn serve(
    mut store: Store<StoreState>,
    instance: Instance,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let mut functions = HashMap::new();
    let component = &PROGRAM.1;
    let ty = component.component_type();
    for interface in INTERFACES {
        let name = format!("test:streams/{interface}");
        let index = instance.get_export_index(&mut store, None, &name).unwrap();
        let Some(wasmtime::component::types::ComponentItem::ComponentInstance(item)) =
            ty.get_export(&PROGRAM.0, &name).map(|item| item.ty)
        else {
            panic!("`{name}` is exported");
        };
        for (function, _) in item.exports(&PROGRAM.0) {
            let Some(export) = instance.get_export_index(&mut store, Some(&index), function) else {
                continue;
            };
            if let Some(func) = instance.get_func(&mut store, export) {
                functions.insert(format!("{interface}.{function}"), func);
            }
        }
    }
    let served = store.run_concurrent(async |accessor| {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                job = jobs.recv() => {
                    let Some(job) = job else { return Ok(()) };
                    running.push(answer(accessor, functions[job.function], job));
                }
                Some(done) = running.next() => {
                    let () = done?;
                }
            }
        }
    });
    served.await?
}

async fn answer(accessor: &Accessor<StoreState>, function: Func, job: Job) -> wasmtime::Result<()> {
    let Job {
        params: Sent { mut vals, streams },
        to,
        payer,
        reply,
        ..
    } = job;
    let results = accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        streams.put(&mut store, &mut vals)?;
        Ok::<_, wasmtime::Error>(function.ty(&store).results().len())
    })?;
    let mut results = vec![Val::Bool(false); results];
    function
        .call_concurrent(accessor, &vals, &mut results)
        .await?;
    let answer = accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        let (route, mut refused) = (
            StreamRoute {
                to: &to,
                payer: &payer,
            },
            None,
        );
        let streams = CarriedStreams::take(&mut store, &mut results, &route, &mut refused)?;
        Ok::<_, wasmtime::Error>(match refused {
            Some(why) => Err(why),
            None => Ok(Sent {
                vals: results,
                streams,
            }),
        })
    })?;
    let _ = reply.send(answer);
    Ok(())
}

/// A writer and a reader.
async fn two(limits: impl Fn(&mut Limits)) -> (RegionHost, Node, Node) {
    let host = RegionHost::new();
    let mut its = Limits::default();
    limits(&mut its);
    let a = Node::start(&host, "a", its.clone()).await;
    let b = Node::start(&host, "b", its).await;
    (host, a, b)
}

fn pair(first: u64, second: bool) -> Vec<Val> {
    vec![Val::Tuple(vec![Val::U64(first), Val::Bool(second)])]
}

fn numbers(first: u64, second: u64) -> Vec<Val> {
    vec![Val::Tuple(vec![Val::U64(first), Val::U64(second)])]
}

fn text(text: &str) -> Val {
    Val::String(text.into())
}

/// Passes what a source returns to a sink, and returns what that returns.
async fn pipe(
    (a, source, params): (&Node, &'static str, Sent),
    (b, sink): (&Node, &'static str),
) -> Vec<Val> {
    let sent = a.send(source, params, b).await.unwrap();
    b.call(sink, sent).await.unwrap()
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let all = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), all).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_arrive_in_order() {
    let (_host, a, b) = two(|_| ()).await;
    for (length, chunk) in [(0, 1), (1, 1), (5_000, 7), (3_000_000, 1_000_000)] {
        let params = Sent::plain([Val::U64(length), Val::U32(chunk)]);
        let count = pipe((&a, "sources.bytes", params), (&b, "sinks.count")).await;
        assert_eq!(count, pair(length, true));
    }
    // Reads of another length than the writes.
    let params = Sent::plain([Val::U64(300_000), Val::U32(1000)]);
    let mut sent = a.send("sources.bytes", params, &b).await.unwrap();
    sent.vals.push(Val::U32(77));
    let count = b.call("sinks.sip", sent).await.unwrap();
    assert_eq!(count, pair(300_000, true));
    b.end().await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_of_items_arrives() {
    let (_host, a, b) = two(|_| ()).await;
    let params = |count, length| Sent::plain([Val::U32(count), Val::U32(length)]);
    // More, and larger, than a bridge holds.
    for (count, length) in [(3, 5), (2000, 100), (3, 200_000)] {
        let all = numbers(count.into(), u64::from(count) * u64::from(length));
        let texts = (&a, "sources.texts", params(count, length));
        assert_eq!(pipe(texts, (&b, "sinks.texts")).await, all);
        let lists = (&a, "sources.lists", params(count, length));
        assert_eq!(pipe(lists, (&b, "sinks.lists")).await, all);
    }
    let source = (&a, "sources.numbers", Sent::plain([Val::U32(100_000)]));
    let sum = pipe(source, (&b, "sinks.numbers")).await;
    assert_eq!(sum, [Val::U64(99_999 * 100_000 / 2)]);
    let floats = pipe(
        (&a, "sources.floats", Sent::plain([])),
        (&b, "sinks.floats"),
    )
    .await;
    assert_eq!(
        floats,
        [Val::List(vec![Val::Float32(0.5), Val::Float32(-1.0)])]
    );
    let source = (&a, "sources.units", Sent::plain([Val::U32(70_000)]));
    assert_eq!(pipe(source, (&b, "sinks.units")).await, [Val::U64(70_000)]);
    let answers = pipe(
        (&a, "sources.answers", Sent::plain([])),
        (&b, "sinks.answers"),
    )
    .await;
    let result = |it: Result<&str, &str>| {
        let boxed = |it| Some(Box::new(text(it)));
        Val::Result(it.map(boxed).map_err(boxed))
    };
    assert_eq!(
        answers,
        [Val::List(vec![result(Ok("a")), result(Err("b"))])]
    );
    let source = (&a, "sources.text", Sent::plain([text("hello")]));
    assert_eq!(pipe(source, (&b, "sinks.text")).await, [text("hello")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_in_parts_of_values() {
    let (_host, a, b) = two(|_| ()).await;
    let parcels = pipe(
        (&a, "sources.parcels", Sent::plain([])),
        (&b, "sinks.parcels"),
    )
    .await;
    let texts = Val::List(vec![text("text")]);
    let all = Val::Tuple(vec![text("label"), Val::U64(60), texts]);
    assert_eq!(parcels, [all]);
}

/// Starts a stream without an end, of which the reader reads nothing.
async fn unread(a: &Node, b: &Node) {
    let sent = a.send("sources.endless", Sent::plain([]), b).await.unwrap();
    b.call("sinks.keep", sent).await.unwrap();
}

async fn written(a: &Node) -> (u64, bool) {
    let written = a.call("sources.written", Sent::plain([])).await.unwrap();
    match &written[..] {
        [Val::Tuple(pair)] => match pair[..] {
            [Val::U64(written), Val::Bool(gone)] => (written, gone),
            _ => panic!("{pair:?}"),
        },
        other => panic!("{other:?}"),
    }
}

// rule 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_waits_for_a_reader_that_never_reads() {
    let (_host, a, b) = two(|_| ()).await;
    unread(&a, &b).await;
    // One write is under way, of which the rest does not fit.
    until("the bridge is full", async || {
        a.host_memory() == MOST_BYTES + OVERHEAD_BYTES
    })
    .await;
    assert_eq!(written(&a).await, (60_000, false));
    // It goes on as it is read, and learns of the reader's end.
    let read = b
        .call("sinks.read", Sent::plain([Val::U32(1_000_000)]))
        .await;
    assert_eq!(read.unwrap(), [Val::U64(1_000_000)]);
    assert!(written(&a).await.0 >= 990_000);
    b.call("sinks.drop", Sent::plain([])).await.unwrap();
    until("the writer learns", async || written(&a).await.1).await;
    until("it is given back", async || a.host_memory() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_of_the_reader_ends_the_writer_in_order() {
    let (_host, a, b) = two(|_| ()).await;
    unread(&a, &b).await;
    let died = b.call("sinks.die", Sent::plain([])).await;
    assert!(died.is_err());
    assert!(b.failure().await.contains("unreachable"));
    until("the writer learns", async || written(&a).await.1).await;
    until("it is given back", async || a.host_memory() == 0).await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_of_the_writer_closes_the_stream() {
    let (_host, a, b) = two(|_| ()).await;
    unread(&a, &b).await;
    until("the bridge is full", async || {
        a.host_memory() == MOST_BYTES + OVERHEAD_BYTES
    })
    .await;
    a.call("sources.die", Sent::plain([])).await.unwrap_err();
    let account = a.recipient.clone();
    a.failure().await;
    // What it has written arrives first.
    let read = b
        .call("sinks.read", Sent::plain([Val::U32(1_000_000)]))
        .await;
    assert_eq!(read.unwrap(), [Val::U64(MOST_BYTES)]);
    b.call("sinks.drop", Sent::plain([])).await.unwrap();
    let account = &account.owner().account;
    assert_eq!(account.used(ChargeKind::HostMemory), 0);
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_reader_learns_of_the_writers_death() {
    let (_host, a, b) = two(|_| ()).await;
    let sent = a.send("sources.never-bytes", Sent::plain([]), &b).await;
    let count = b.call("sinks.count", sent.unwrap());
    let die = async {
        // Whether the reader waits by then or not, it gets the end.
        tokio::task::yield_now().await;
        a.call("sources.die", Sent::plain([])).await.unwrap_err();
        a.failure().await;
    };
    let (count, ()) = tokio::join!(count, die);
    assert_eq!(count.unwrap(), pair(0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn future_of_a_dead_writer_is_an_error_if_it_can() {
    let (_host, a, b) = two(|_| ()).await;
    let result = a.send("sources.never-result", Sent::plain([]), &b).await;
    let plain = a.send("sources.never", Sent::plain([]), &b).await;
    let kept = a.send("sources.never", Sent::plain([]), &b).await;
    b.call("sinks.keep-future", kept.unwrap()).await.unwrap();
    a.call("sources.die", Sent::plain([])).await.unwrap_err();
    a.failure().await;
    let why = "the future of guest `a` has no value: it has ended, or wrote nothing that can be \
               passed";
    let got = b.call("sinks.try-text", result.unwrap()).await;
    let error = Val::Result(Err(Some(Box::new(text(why)))));
    assert_eq!(got.unwrap(), [error]);
    // One that is not read does no harm.
    b.call("sinks.drop", Sent::plain([])).await.unwrap();
    b.call("sinks.text", plain.unwrap()).await.unwrap_err();
    let failure = b.failure().await;
    assert!(failure.contains(why), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_that_passes_a_stream_on_leaves_the_chain() {
    let (host, a, b) = two(|_| ()).await;
    let c = Node::start(&host, "c", Limits::default()).await;
    let params = Sent::plain([Val::U64(500_000), Val::U32(5000)]);
    let sent = a.send("sources.bytes", params, &b).await.unwrap();
    let passed = b.send("passers.pass", sent, &c).await.unwrap();
    let count = c.call("sinks.count", passed);
    b.call("sinks.die", Sent::plain([])).await.unwrap_err();
    b.failure().await;
    assert_eq!(count.await.unwrap(), pair(500_000, true));
    assert_eq!(a.host_memory(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_of_a_stream_is_passed_on() {
    let (host, a, b) = two(|_| ()).await;
    let c = Node::start(&host, "c", Limits::default()).await;
    let params = Sent::plain([Val::U64(300_000), Val::U32(5000)]);
    let mut sent = a.send("sources.bytes", params, &b).await.unwrap();
    sent.vals.push(Val::U32(256));
    let passed = b.send("passers.pass-rest", sent, &c).await.unwrap();
    let count = c.call("sinks.count", passed).await.unwrap();
    assert_eq!(count, pair(300_000 - 256, true));
    let later = Sent::plain([text("later")]);
    let sent = a.send("sources.text", later, &b).await.unwrap();
    let passed = b.send("passers.pass-text", sent, &c).await.unwrap();
    assert_eq!(c.call("sinks.text", passed).await.unwrap(), [text("later")]);
}

// rule 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_the_limit_are_refused() {
    let least = LEAST_BYTES + OVERHEAD_BYTES;
    let (_host, a, b) = two(|limits| limits.host_memory_bytes = 500 * least).await;
    let many = |count| a.send("sources.many", Sent::plain([Val::U32(count)]), &b);
    let Err(why) = many(501).await else {
        panic!("it is over the limit");
    };
    assert!(
        why.starts_with("a stream or future cannot be passed: limit `host-memory`"),
        "{why}"
    );
    until("nothing of it stays", async || a.host_memory() == 0).await;
    // They come and go.
    for _ in 0..4 {
        let all = many(500).await.unwrap();
        drop(all);
        until("nothing of it stays", async || a.host_memory() == 0).await;
    }
    a.end().await;
    b.end().await;
}

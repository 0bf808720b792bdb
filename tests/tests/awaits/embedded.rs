//! Guests in an embedder's stores.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, oneshot};
use tombolo::pressure::Level;
use tombolo::{GRANULE, Limits, Parcel, Recipient, Region, RegionCtx, RegionHost, Rights};
use tombolo_test_util::run::threads;
use tombolo_test_util::store::State;
use wasmtime::component::{
    Accessor, Component, ComponentNamedList, Func, Instance, Lift, Linker, Lower, Val,
};
use wasmtime::{Config, Engine, Store};

use crate::guests;

const NODE: &str = "test:awaits/node";
const FAR: &str = "test:awaits/far";

/// How long a test may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The gates of a test.
#[derive(Clone, Default)]
struct Gates(Arc<GateState>);

#[derive(Default)]
struct GateState {
    open: Mutex<BTreeSet<String>>,
    waiting: Mutex<BTreeSet<String>>,
    changed: Notify,
}

impl Gates {
    /// Opens a gate, for good.
    fn open(&self, name: &str) {
        self.0.open.lock().unwrap().insert(name.to_owned());
        self.0.changed.notify_waiters();
    }

    /// Waits until a guest waits at a gate.
    async fn reached(&self, name: &str) {
        self.until(|| self.0.waiting.lock().unwrap().contains(name))
            .await;
    }

    /// Waits at a gate, for a guest.
    async fn pass(&self, name: &str) {
        self.0.waiting.lock().unwrap().insert(name.to_owned());
        self.0.changed.notify_waiters();
        self.until(|| self.0.open.lock().unwrap().contains(name))
            .await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

/// Waits until something holds, of which nobody tells.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        tombolo::prepare(&mut config).expect("this process can map regions");
        config.concurrency_support(true);
        Engine::new(&config).expect("the configuration is valid")
    })
}

fn component() -> &'static Component {
    static COMPONENT: OnceLock<Component> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        Component::from_file(engine(), guests::AWAITS_NODE).expect("the guest compiles")
    })
}

/// A call of `far`, on its way to the borrower.
struct Job {
    params: Parcel,
    caller: Recipient,
    reply: oneshot::Sender<Parcel>,
}

/// The way to the borrower.
#[derive(Clone)]
struct Borrower {
    recipient: Recipient,
    jobs: mpsc::UnboundedSender<Job>,
}

fn linker(gates: &Gates, borrower: Option<Borrower>) -> Linker<State> {
    let mut linker = Linker::new(engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    tombolo::add_to_linker(&mut linker).unwrap();
    tombolo::add_pressure_to_linker(&mut linker).unwrap();
    tombolo::add_async_to_linker(&mut linker).unwrap();
    let gates = gates.clone();
    let mut host = linker.instance("test:awaits/host").unwrap();
    host.func_wrap_concurrent("gate", move |_, (name,): (String,)| {
        let gates = gates.clone();
        Box::pin(async move {
            gates.pass(&name).await;
            Ok(())
        })
    })
    .unwrap();
    let mut far = linker.instance(FAR).unwrap();
    far.func_new_concurrent(
        "fill",
        move |accessor: &Accessor<State>, _, params, results| {
            let borrower = borrower.clone();
            Box::pin(async move {
                let borrower = borrower.expect("a borrower lends nothing");
                let (params, lending, caller) = accessor.with(|mut access| {
                    let caller = access.data_mut().regions.recipient();
                    let packed = Parcel::pack(access, params.to_vec(), &borrower.recipient);
                    packed.map(|(params, lending)| (params, lending, caller))
                })?;
                let (reply, replied) = oneshot::channel();
                let job = Job {
                    params,
                    caller,
                    reply,
                };
                borrower.jobs.send(job).ok();
                let answer = replied.await?;
                // If the call is cancelled before this, the windows stay masked: the guest
                // gave them away.
                lending.over().await;
                accessor.with(|access| lending.end(access))?;
                let (values, _) = accessor.with(|access| answer.unpack(access))?;
                results.clone_from_slice(&values);
                Ok(())
            })
        },
    )
    .unwrap();
    linker
}

fn export(store: &mut Store<State>, instance: Instance, interface: &str, name: &str) -> Func {
    let index = instance.get_export_index(&mut *store, None, interface);
    let index = index.expect("the guest has the interface");
    let index = instance.get_export_index(&mut *store, Some(&index), name);
    let func = index.and_then(|index| instance.get_func(&mut *store, index));
    func.expect("the guest has the function")
}

async fn instance(
    context: RegionCtx,
    gates: &Gates,
    borrower: Option<Borrower>,
) -> (Store<State>, Instance) {
    let mut store = Store::new(engine(), State::new(context));
    let linker = linker(gates, borrower);
    let instance = linker.instantiate_async(&mut store, component());
    let instance = instance.await.expect("the guest starts");
    (store, instance)
}

/// Runs a borrower until nobody can call it any more.
async fn serve(host: RegionHost, gates: Gates, starts: oneshot::Sender<Borrower>) {
    let context = host.context("borrower").build();
    let recipient = context.recipient();
    let (mut store, instance) = instance(context, &gates, None).await;
    let fill = export(&mut store, instance, FAR, "fill");
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let borrower = Borrower {
        recipient,
        jobs: sender,
    };
    starts.send(borrower).ok();
    let served = store.run_concurrent(async |accessor| -> wasmtime::Result<()> {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => running.push(answer(accessor, fill, job)),
                    None => break,
                },
                Some(done) = running.next() => { let () = done?; }
            }
        }
        Ok(())
    });
    served.await.expect("the store runs").expect("it serves");
}

async fn answer(accessor: &Accessor<State>, fill: Func, job: Job) -> wasmtime::Result<()> {
    let (params, borrowed) = accessor.with(|access| job.params.unpack(access))?;
    let mut results = vec![Val::Bool(false)];
    fill.call_concurrent(accessor, &params, &mut results)
        .await?;
    let packed = accessor.with(|access| Parcel::pack(access, results, &job.caller));
    accessor.with(|access| borrowed.end(access, Ok(())))?;
    // The caller has gone if it was cancelled.
    job.reply.send(packed?.0).ok();
    Ok(())
}

/// A guest with tasks, within `run_concurrent`.
struct Node<'a> {
    accessor: &'a Accessor<State>,
    instance: Instance,
    gates: Gates,
    host: RegionHost,
    /// A claim of the host program on the region that the guest keeps.
    region: Region,
}

impl Node<'_> {
    /// Calls an export.
    async fn call<P, R>(&self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + 'static,
        (R,): ComponentNamedList + Lift + 'static,
        R: Send + Sync + 'static,
    {
        let func = self.accessor.with(|mut access| {
            let instance = self.instance;
            let index = instance.get_export_index(&mut access, None, NODE).unwrap();
            let index = instance.get_export_index(&mut access, Some(&index), name);
            instance.get_typed_func::<P, (R,)>(&mut access, index.unwrap())
        })?;
        Ok(func.call_concurrent(self.accessor, params).await?.0)
    }

    async fn write(&self, granule: u64, value: u8) -> Result<(), String> {
        self.call("write", (granule, value)).await.unwrap()
    }

    /// Returns the first byte of a granule.
    fn byte(&self, granule: u64) -> u8 {
        self.region
            .read_at(granule * GRANULE..granule * GRANULE + 1)
            .unwrap()[0]
    }

    /// Returns whether a request to read the first byte is refused.
    fn is_refused(&self) -> bool {
        self.region.try_read(0..1).is_err()
    }
}

/// Runs a test with a guest that keeps a region of some granules.
fn test(granules: u64, limits: Limits, act: impl AsyncFnOnce(&Node)) {
    run(granules, limits, act).expect("the store runs");
}

/// Runs a test as [`test`] does. Returns the error if a guest traps.
fn run(granules: u64, limits: Limits, act: impl AsyncFnOnce(&Node)) -> wasmtime::Result<()> {
    let host = RegionHost::new();
    let gates = Gates::default();
    let run = async {
        let (starts, started) = oneshot::channel();
        let server = tokio::spawn(serve(host.clone(), gates.clone(), starts));
        let borrower = started.await.unwrap();
        let context = host.context("node").limits(limits).build();
        let (mut store, instance) = instance(context, &gates, Some(borrower)).await;
        let region = host.create("kept", granules * GRANULE).unwrap();
        let given = region.duplicate(Rights::ALL).unwrap();
        let given = given.give(&mut store).unwrap();
        let keep = {
            let index = instance.get_export_index(&mut store, None, NODE).unwrap();
            let index = instance.get_export_index(&mut store, Some(&index), "keep");
            instance.get_typed_func::<_, ()>(&mut store, index.unwrap())
        };
        keep.unwrap()
            .call_async(&mut store, (given,))
            .await
            .unwrap();
        let ran = store.run_concurrent(async |accessor| {
            let node = Node {
                accessor,
                instance,
                gates: gates.clone(),
                host: host.clone(),
                region,
            };
            act(&node).await;
        });
        let ran = ran.await;
        drop(store);
        gates.open("fill");
        server.await.unwrap();
        ran
    };
    let ended = threads(2).block_on(async { tokio::time::timeout(PATIENCE, run).await });
    ended.expect("the test ends in time")
}

// rule 11
#[test]
fn waiter_gets_a_window_that_is_dropped() {
    test(2, Limits::default(), async |node| {
        let held = node.region.try_read(0..1).unwrap();
        let steps = async {
            // Others are refused once the guest is in the queue.
            until(|| node.is_refused()).await;
            assert_eq!(node.byte(1), 0, "a sibling has not written yet");
            assert_eq!(node.write(1, 5).await, Ok(()), "siblings run meanwhile");
            drop(held);
        };
        let (written, ()) = join(node.write(0, 7), steps).await;
        assert_eq!(written, Ok(()));
        assert_eq!((node.byte(0), node.byte(1)), (7, 5));
    });
}

// rule 11
#[test]
fn cancelled_waiter_gives_up_its_place() {
    test(1, Limits::default(), async |node| {
        let _held = node.region.try_read(0..1).unwrap();
        let steps = async {
            node.gates.reached("cancel").await;
            until(|| node.is_refused()).await;
            node.gates.open("cancel");
        };
        let (ended, ()) = join(node.call("write-or-gate", (0_u64,)), steps).await;
        let ended: String = ended.unwrap();
        assert_eq!(ended, "cancelled");
        assert!(!node.is_refused(), "nobody waits in front any more");
    });
}

// rule 11
#[test]
fn wait_for_a_frozen_region_ends() {
    test(1, Limits::default(), async |node| {
        let held = node.region.try_read(0..1).unwrap();
        let steps = async {
            until(|| node.is_refused()).await;
            node.region.freeze().unwrap();
        };
        let (written, ()) = join(node.write(0, 7), steps).await;
        assert!(written.unwrap_err().starts_with("frozen"));
        drop(held);
    });
}

// rule 11
#[test]
fn window_of_a_sibling_task_is_waited_for() {
    test(1, Limits::default(), async |node| {
        let hold = node.call::<_, u8>("hold", (0_u64,));
        let steps = async {
            node.gates.reached("hold").await;
            let opens = async {
                tokio::task::yield_now().await;
                node.gates.open("hold");
            };
            join(node.write(0, 7), opens).await.0
        };
        let (held, written) = join(hold, steps).await;
        assert_eq!(held.unwrap(), 0);
        assert_eq!(written, Ok(()));
        assert_eq!(node.byte(0), 7);
    });
}

// rule 11
#[test]
fn tasks_of_one_claim_share_its_place() {
    test(2, Limits::default(), async |node| {
        let first = node.region.try_write(0..1).unwrap();
        let other = node.region.duplicate(Rights::ALL).unwrap();
        let second = other.try_read(GRANULE..).unwrap();
        let steps = async {
            // The second one waits behind the first, which gets nothing before the second.
            until(|| other.try_read(GRANULE..).is_err()).await;
            drop(second);
        };
        let waits = async {
            let (one, ()) = join(node.write(0, 7), async {
                assert_eq!(node.write(1, 5).await, Ok(()));
                drop(first);
            })
            .await;
            assert_eq!(one, Ok(()));
        };
        join(waits, steps).await;
        assert_eq!((node.byte(0), node.byte(1)), (7, 5));
    });
}

// rule 9
#[test]
fn waits_count_as_windows() {
    let mut limits = Limits::default();
    limits.windows = 2;
    test(3, limits, async |node| {
        let _held = node.region.try_read(2 * GRANULE..).unwrap();
        let refused = node.call::<_, String>("hoard", (2_u64,)).await.unwrap();
        assert!(refused.contains("`windows`"), "{refused}");
    });
}

// rule 8
#[test]
fn change_of_pressure_wakes_a_task() {
    test(1, Limits::default(), async |node| {
        let waits = node.call::<_, String>("pressure", ("moderate".to_owned(),));
        let steps = async {
            node.host.report_pressure(Level::Moderate);
            node.gates.reached("level").await;
            node.gates.open("level");
            assert_eq!(node.write(0, 1).await, Ok(()));
            node.host.report_pressure(Level::Critical);
        };
        let (level, ()) = join(waits, steps).await;
        assert_eq!(level.unwrap(), "critical");
        node.host.report_pressure(Level::Normal);
    });
}

// rule 5
#[test]
fn async_lend_returns_the_window() {
    test(1, Limits::default(), async |node| {
        node.gates.open("fill");
        let lend = node.call::<_, Result<(u8, u8), String>>("lend", (9_u8,));
        assert_eq!(lend.await.unwrap(), Ok((10, 10)));
        assert_eq!(node.byte(0), 10);
    });
}

// rule 6
#[test]
fn cancelled_async_lend_loses_the_window_only() {
    test(1, Limits::default(), async |node| {
        let lend = node.call::<_, Result<u8, String>>("lend-and-cancel", (9_u8,));
        let steps = async {
            node.gates.reached("fill").await;
            node.gates.open("cancel");
            // The borrower goes on, and the lender waits for it.
            until(|| node.is_refused()).await;
            assert!(!node.region.is_poisoned());
            node.gates.open("fill");
        };
        let (seen, ()) = join(lend, steps).await;
        assert_eq!(seen.unwrap(), Ok(10));
        assert!(!node.region.is_poisoned());
    });
}

// rule 5
#[test]
fn forgotten_call_gives_no_window_back() {
    let ran = run(1, Limits::default(), async |node| {
        let forgets = node.call::<_, u8>("lend-and-forget", ());
        panic!("it got its window back, which shows {:?}", forgets.await);
    });
    let error = format!("{:?}", ran.unwrap_err());
    assert!(error.contains("while borrowed"), "{error}");
}

#[test]
fn engine_without_concurrency_is_refused() {
    let mut config = Config::new();
    tombolo::prepare(&mut config).expect("this process can map regions");
    config.concurrency_support(false);
    let engine = Engine::new(&config).unwrap();
    let mut linker = Linker::<State>::new(&engine);
    let error = tombolo::add_async_to_linker(&mut linker).unwrap_err();
    assert!(
        format!("{error:#}").contains("concurrency_support"),
        "{error:#}"
    );
}

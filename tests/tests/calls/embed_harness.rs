//! An embedder that links guests without Tombolo's apps: each guest runs in a task of its
//! own, and parcels carry the values of calls.

pub(crate) mod sync;

use std::fmt::Display;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tombolo::{
    Lending, LentRegion, PackError, Parcel, Recipient, Region, RegionCtx, RegionError, RegionHost,
    Rights,
};
use tombolo_test_util::process::{Process, drop_parked_mappings};
use tombolo_test_util::store::{State, add_to_linker_async, component, engine};
use tombolo_test_util::three_guests::with;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Func, Instance, Linker, Resource, Val};
use wasmtime::{AsContextMut, Store, StoreContextMut};
use wasmtime_wasi::WasiCtx;

use crate::guests;
use crate::scenarios::Scenario;

/// A call in progress.
pub(crate) type Call<'a> =
    Pin<Box<dyn Future<Output = wasmtime::Result<Result<String, String>>> + Send + 'a>>;

const CLIENT: &str = "test:calls/home";
const NEAR: &str = "test:calls/near";
const FAR: &str = "test:calls/far";

/// Returns the data of a guest's store.
fn state(regions: RegionCtx) -> State {
    State::with_wasi(regions, WasiCtx::builder().inherit_stderr().build())
}

/// Returns how often this process maps the region of this name, parked mappings left out.
pub(crate) fn mapped(region: &str) -> usize {
    drop_parked_mappings();
    let mappings = Process::current().mappings().expect("we live");
    let label = format!("tombolo:{region}");
    let is_it = |name: &std::ffi::OsStr| name == &*label;
    mappings
        .iter()
        .filter(|it| it.memfd().is_some_and(is_it))
        .count()
}

/// Finds a function of an exported interface.
fn function(mut store: impl AsContextMut, instance: Instance, interface: &str, name: &str) -> Func {
    let index = instance.get_export_index(&mut store, None, interface);
    let index = index.unwrap_or_else(|| panic!("`{interface}` is exported"));
    let index = instance.get_export_index(&mut store, Some(&index), name);
    let index = index.unwrap_or_else(|| panic!("`{name}` is exported"));
    instance.get_func(&mut store, index).expect("a function")
}

/// Defines the functions of the tests' own interfaces that are not linked. They trap.
fn refuse_the_rest(linker: &mut Linker<State>, component: &Component) {
    for (import, item) in component.component_type().imports(engine()) {
        let ComponentItem::ComponentInstance(interface) = item.ty else {
            continue;
        };
        if !import.starts_with("test:calls/") {
            continue;
        }
        let Ok(mut instance) = linker.instance(import) else {
            continue;
        };
        for (name, item) in interface.exports(engine()) {
            if let ComponentItem::ComponentFunc(_) = item.ty {
                let refuse = |_: StoreContextMut<'_, State>, _, _: &[Val], _: &mut [Val]| {
                    wasmtime::bail!("nobody is linked")
                };
                // An error means that the function is already linked.
                let _ = instance.func_new(name, refuse);
            }
        }
    }
}

/// Returns a `result<string, string>` as a value.
fn answer(result: Result<String, String>) -> Val {
    let text = |text| Some(Box::new(Val::String(text)));
    Val::Result(match result {
        Ok(it) => Ok(text(it)),
        Err(it) => Err(text(it)),
    })
}

/// The events so far, in order.
#[derive(Clone, Default)]
struct Events(Arc<(Mutex<Vec<String>>, Notify)>);

impl Events {
    fn add(&self, event: impl Into<String>) {
        self.0.0.lock().unwrap().push(event.into());
        self.0.1.notify_waiters();
    }

    fn position(&self, event: &str) -> Option<usize> {
        self.0.0.lock().unwrap().iter().position(|it| it == event)
    }
}

/// A gate at which a guest's call to `home` waits until the test opens it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.expect("never closed").forget();
    }

    /// Runs a call until a guest waits at the gate.
    pub(crate) async fn reached<T: std::fmt::Debug>(
        &self,
        call: &mut (impl Future<Output = T> + Unpin),
    ) {
        tokio::select! {
            ended = call => panic!("the call ended: {ended:?}"),
            permit = self.0.0.acquire() => permit.expect("never closed").forget(),
        }
    }

    /// Makes each call at the gate panic in its host function.
    pub(crate) fn destroy(&self) {
        self.0.1.close();
    }

    /// Lets one call continue.
    pub(crate) fn open(&self) {
        self.0.1.add_permits(1);
    }
}

/// A call on its way to the callee.
struct Job {
    function: String,
    params: Parcel,
    caller: Recipient,
    reply: oneshot::Sender<Result<Parcel, String>>,
}

/// The address of a guest that serves calls.
#[derive(Clone)]
struct Peer {
    name: &'static str,
    jobs: mpsc::UnboundedSender<Job>,
    recipient: Recipient,
}

/// The way in which a guest's calls are made.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Right,
    /// A wrong way: the embedder ends lends before they are over.
    Hasty,
}

/// The lender's side of a call. It unmaps the lender's windows if the call is dropped.
struct Lender<'a> {
    store: StoreContextMut<'a, State>,
    lending: Option<Lending>,
}

impl Drop for Lender<'_> {
    fn drop(&mut self) {
        if let Some(lending) = self.lending.take() {
            lending.abandon(&mut self.store).expect("it can");
        }
    }
}

impl Peer {
    async fn call(
        &self,
        mut store: StoreContextMut<'_, State>,
        events: &Events,
        manner: Manner,
        function: &str,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let who = store.data().regions.name().to_owned();
        let caller = store.data().regions.recipient();
        let packed = Parcel::pack(&mut store, params.to_vec(), &self.recipient);
        let (params, lending) = match packed {
            Ok(packed) => packed,
            Err(PackError::Fatal(error)) => return Err(error),
            Err(refused) => {
                results[0] = answer(Err(refused.to_string()));
                return Ok(());
            }
        };
        if manner == Manner::Hasty {
            assert!(!lending.is_over());
            return lending.end(&mut store);
        }
        let mut lender = Lender {
            store,
            lending: Some(lending),
        };
        let (reply, replied) = oneshot::channel();
        let job = Job {
            function: function.to_owned(),
            params,
            caller,
            reply,
        };
        let reply = match self.jobs.send(job) {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        events.add(format!("{who} hears of {}", self.name));
        lender.lending.as_ref().expect("taken below").over().await;
        events.add(format!("{who} goes on"));
        let lending = lender.lending.take().expect("taken once");
        lending.end(&mut lender.store)?;
        match reply {
            Some(Ok(parcel)) => {
                let (vals, _) = parcel.unpack(&mut lender.store)?;
                results
                    .iter_mut()
                    .zip(vals)
                    .for_each(|(slot, val)| *slot = val);
            }
            Some(Err(why)) => results[0] = answer(Err(why)),
            None => results[0] = answer(Err(format!("{} is gone", self.name))),
        }
        Ok(())
    }

    /// Defines the functions of an interface that this guest exports.
    fn link(
        &self,
        linker: &mut Linker<State>,
        interface: &str,
        functions: &[&str],
        events: &Events,
        manner: Manner,
    ) {
        let mut linked = linker.instance(interface).expect("once");
        for name in functions {
            let (peer, events, name) = (self.clone(), events.clone(), (*name).to_owned());
            let result = linked.func_new_async(&name.clone(), move |store, _, params, results| {
                let (peer, events, name) = (peer.clone(), events.clone(), name.clone());
                Box::new(async move {
                    peer.call(store, &events, manner, &name, params, results)
                        .await
                })
            });
            result.expect("once");
        }
    }
}

/// A guest in a store.
pub(crate) struct Guest {
    pub(crate) store: Store<State>,
    instance: Instance,
}

impl Guest {
    async fn new(regions: RegionCtx, path: &'static str, linker: &mut Linker<State>) -> Guest {
        let component = component(path);
        add_to_linker_async(linker);
        refuse_the_rest(linker, &component);
        let mut store = Store::new(engine(), state(regions));
        let instance = linker.instantiate_async(&mut store, &component);
        let instance = instance.await.expect("it can be instantiated");
        Guest { store, instance }
    }

    /// Creates a guest that only the test calls.
    pub(crate) async fn bare(host: &RegionHost, path: &'static str, name: &str) -> Guest {
        let regions = host.context(name).build();
        Guest::new(regions, path, &mut Linker::new(engine())).await
    }

    /// Creates `near`, which only the test calls. A gate stands in for the interface `home`.
    pub(crate) async fn near(host: &RegionHost, gate: &Gate) -> Guest {
        let mut linker = Linker::new(engine());
        gate.link(&mut linker);
        let regions = host.context("near").build();
        Guest::new(regions, guests::CALLS_NEAR, &mut linker).await
    }

    /// Lets `near` act on a lent region.
    pub(crate) fn with_lent<'a>(&'a mut self, lent: &LentRegion, script: &'a str) -> Call<'a> {
        let lend = function(&mut self.store, self.instance, NEAR, "lend");
        let resource = lent.resource();
        Box::pin(async move {
            let lend =
                lend.typed::<(&str, Resource<Region>), (Result<String, String>,)>(&self.store)?;
            let (result,) = lend.call_async(&mut self.store, (script, resource)).await?;
            Ok(result)
        })
    }

    /// Serves calls until the task is cancelled.
    async fn serve(
        mut self,
        interface: &'static str,
        name: &'static str,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        events: Events,
    ) {
        while let Some(job) = jobs.recv().await {
            let unpacked = job.params.unpack(&mut self.store);
            let (params, borrowed) = unpacked.expect("there is room");
            let mut results = [Val::Bool(false)];
            let called = function(&mut self.store, self.instance, interface, &job.function);
            let called = called
                .call_async(&mut self.store, &params, &mut results)
                .await;
            if called.is_err() {
                // The memory is dropped first, then the lends end, then the event is added.
                drop(self);
                drop(borrowed);
                let _ = job.reply.send(Err(format!("{name} is gone")));
                return;
            }
            let packed = Parcel::pack(&mut self.store, results.to_vec(), &job.caller);
            borrowed.end(&mut self.store, Ok(())).expect("it can");
            let reply = match packed {
                Ok((parcel, _)) => Ok(parcel),
                Err(refused) => Err(refused.to_string()),
            };
            // This comes before any guest can continue.
            events.add(format!("{name} is done"));
            let _ = job.reply.send(reply);
        }
    }

    /// Moves a new claim on the region to the guest.
    pub(crate) async fn give(&mut self, region: &Region, rights: Rights) {
        let region = region.duplicate(rights).expect("there is room");
        let given = region.give(&mut self.store);
        let given = given.expect("there is room");
        let give = function(&mut self.store, self.instance, CLIENT, "give");
        let give = give
            .typed::<(Resource<Region>,), (Result<(), String>,)>(&self.store)
            .expect("its type");
        let (result,) = give
            .call_async(&mut self.store, (given,))
            .await
            .expect("it lives");
        result.expect("it takes it");
    }

    /// Lets the guest play a scenario.
    pub(crate) fn say(&mut self, scenario: impl Display) -> Call<'_> {
        let say = function(&mut self.store, self.instance, CLIENT, "say");
        let scenario = scenario.to_string();
        Box::pin(async move {
            let say = say.typed::<(&str,), (Result<String, String>,)>(&self.store)?;
            let (result,) = say.call_async(&mut self.store, (&scenario,)).await?;
            Ok(result)
        })
    }

    /// Lends the guest a region of the host program.
    pub(crate) fn lend(
        &mut self,
        region: &Region,
        rights: Rights,
    ) -> Result<LentRegion, RegionError> {
        region.lend(&mut self.store, rights)
    }

    /// Calls the export that keeps its lent handle.
    pub(crate) async fn keep(&mut self, lent: &LentRegion) -> wasmtime::Result<()> {
        let keep = function(&mut self.store, self.instance, "test:calls/keeper", "keep");
        let keep = keep.typed::<(Resource<Region>,), (Result<(), String>,)>(&self.store)?;
        let (result,) = keep.call_async(&mut self.store, (lent.resource(),)).await?;
        result.map_err(wasmtime::Error::msg)
    }

    /// Marks the guest as having ended regularly.
    pub(crate) fn finish(&mut self) {
        self.store.data_mut().regions.finish();
    }
}

/// `near` and `far`, which serve calls, and a gate in place of the interface `home`.
pub(crate) struct Harness {
    host: RegionHost,
    pub(crate) gate: Gate,
    events: Events,
    near: Peer,
    near_task: Mutex<Option<JoinHandle<()>>>,
    far_task: JoinHandle<()>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.far_task.abort();
        if let Some(near) = self.near_task.get_mut().unwrap() {
            near.abort();
        }
    }
}

impl Harness {
    pub(crate) async fn new() -> Harness {
        let (host, gate, events) = (RegionHost::new(), Gate::new(), Events::default());
        let mut linker = Linker::new(engine());
        gate.link(&mut linker);
        let far = Guest::new(host.context("far").build(), guests::CALLS_FAR, &mut linker).await;
        let (far, far_task) = spawn(far, FAR, "far", &events);
        let mut linker = Linker::new(engine());
        gate.link(&mut linker);
        let functions = ["say", "lend", "move"];
        far.link(&mut linker, FAR, &functions, &events, Manner::Right);
        let near = Guest::new(
            host.context("near").build(),
            guests::CALLS_NEAR,
            &mut linker,
        )
        .await;
        let (near, near_task) = spawn(near, NEAR, "near", &events);
        Harness {
            host,
            gate,
            events,
            near,
            near_task: Mutex::new(Some(near_task)),
            far_task,
        }
    }

    pub(crate) fn host(&self) -> &RegionHost {
        &self.host
    }

    async fn caller(&self, regions: RegionCtx, manner: Manner) -> Guest {
        let mut linker = Linker::new(engine());
        let functions = [
            "say",
            "say-failing",
            "say-roomless",
            "lend",
            "lend-two",
            "move",
            "move-failing",
            "move-roomless",
            "make",
        ];
        self.near
            .link(&mut linker, NEAR, &functions, &self.events, manner);
        Guest::new(regions, guests::CALLS_CLIENT, &mut linker).await
    }

    /// Creates a guest that calls `near`.
    pub(crate) async fn client(&self, name: &str) -> Guest {
        self.caller(self.host.context(name).build(), Manner::Right)
            .await
    }

    #[allow(unsafe_code)]
    pub(crate) async fn client_that_keeps_windows_mapped(&self) -> Guest {
        // SAFETY: the tests await or drop the calls of this guest, and forget none.
        let regions = unsafe { self.host.context("client").keep_mapped_while_lent() };
        self.caller(regions.build(), Manner::Right).await
    }

    pub(crate) async fn client_that_ends_its_lends_at_once(&self) -> Guest {
        self.caller(self.host.context("client").build(), Manner::Hasty)
            .await
    }

    /// Runs a command that lends a list of regions, each of which `near` reads.
    pub(crate) async fn gather(&self, path: &'static str) {
        let mut linker = Linker::new(engine());
        let near = Guest::bare(&self.host, guests::CALLS_NEAR, "near").await;
        let near = Arc::new(tokio::sync::Mutex::new(near));
        let mut lists = linker.instance("test:calls/lists").expect("once");
        let gather = lists.func_new_async("gather", move |mut store, _, params, results| {
            let near = near.clone();
            Box::new(async move {
                let mut near = near.lock().await;
                let Guest {
                    store: callee,
                    instance,
                } = &mut *near;
                let to = callee.data().regions.recipient();
                let (parcel, lending) = Parcel::pack(&mut store, params.to_vec(), &to)?;
                let (params, borrowed) = parcel.unpack(&mut *callee)?;
                let [Val::List(lent)] = params.as_slice() else {
                    panic!("a list was passed: {params:?}")
                };
                let lend = function(&mut *callee, *instance, NEAR, "lend");
                let mut seen = Vec::new();
                for one in lent {
                    let mut result = [Val::Bool(false)];
                    let params = [Val::String("see".into()), one.clone()];
                    lend.call_async(&mut *callee, &params, &mut result).await?;
                    let [Val::Result(Ok(Some(text)))] = result else {
                        panic!("it was seen: {result:?}")
                    };
                    let Val::String(text) = *text else {
                        panic!("a string")
                    };
                    seen.push(text);
                }
                borrowed.end(&mut *callee, Ok(()))?;
                lending.end(&mut store)?;
                results[0] = answer(Ok(seen.join(" ")));
                Ok(())
            })
        });
        gather.expect("once");
        let regions = self.host.context("gatherer").build();
        let mut guest = Guest::new(regions, path, &mut linker).await;
        let ty = component(path).component_type();
        let run = ty
            .exports(engine())
            .map(|(name, _)| name.to_owned())
            .find(|name| name.starts_with("wasi:cli/run@"));
        let run = function(
            &mut guest.store,
            guest.instance,
            &run.expect("a command"),
            "run",
        );
        let run = run
            .typed::<(), (Result<(), ()>,)>(&guest.store)
            .expect("its type");
        let (result,) = run
            .call_async(&mut guest.store, ())
            .await
            .expect("it lives");
        assert_eq!(result, Ok(()));
    }

    /// Terminates `near` in the middle of a call.
    pub(crate) async fn end_near(&self) {
        let near = self.near_task.lock().unwrap().take().expect("once");
        near.abort();
        assert!(near.await.expect_err("it was at something").is_cancelled());
    }

    /// Waits until an event has happened.
    pub(crate) fn until<'a>(&'a self, event: &'a str) -> Until<'a> {
        Until {
            harness: self,
            event,
        }
    }

    pub(crate) fn has_happened(&self, event: &str) -> bool {
        self.events.position(event).is_some()
    }

    #[track_caller]
    pub(crate) fn happened_in_order(&self, events: &[&str]) {
        let positions: Vec<_> = events.iter().map(|it| self.events.position(it)).collect();
        assert!(positions.iter().all(Option::is_some), "{positions:?}");
        assert!(positions.is_sorted(), "{positions:?}");
    }

    /// Checks that `near` and `far` still serve another caller.
    pub(crate) async fn is_well(&self) {
        let region = self.host.create("well", 65536).expect("there is room");
        let mut other = self.client("other").await;
        other.give(&region, Rights::ALL).await;
        let said = other
            .say(with(Scenario::LendPlain, "on fill 7"))
            .await
            .expect("it lives");
        assert_eq!(said, Ok("done".into()));
        assert_eq!(region.try_read(0..1).expect("it is free")[0], 7);
    }
}

/// See [`Harness::until`].
pub(crate) struct Until<'a> {
    harness: &'a Harness,
    event: &'a str,
}

impl Until<'_> {
    async fn happens(&self) {
        loop {
            let mut told = pin!(self.harness.events.0.1.notified());
            told.as_mut().enable();
            if self.harness.has_happened(self.event) {
                return;
            }
            told.await;
        }
    }

    /// Waits for an event while a call runs, which must not end before.
    pub(crate) async fn await_while<T: std::fmt::Debug>(
        self,
        call: &mut (impl Future<Output = T> + Unpin),
    ) {
        tokio::select! {
            ended = call => panic!("the call ended: {ended:?}"),
            () = self.happens() => {}
        }
    }
}

impl<'a> IntoFuture for Until<'a> {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.happens().await })
    }
}

impl Gate {
    /// Stands in for the interface `home`.
    fn link(&self, linker: &mut Linker<State>) {
        let gate = self.clone();
        let mut home = linker.instance(CLIENT).expect("once");
        let say = home.func_new_async("say", move |_, _, _, results| {
            let gate = gate.clone();
            Box::new(async move {
                gate.pass().await;
                results[0] = answer(Ok("open".into()));
                Ok(())
            })
        });
        say.expect("once");
    }
}

fn spawn(
    guest: Guest,
    interface: &'static str,
    name: &'static str,
    events: &Events,
) -> (Peer, JoinHandle<()>) {
    let (jobs, inbox) = mpsc::unbounded_channel();
    let peer = Peer {
        name,
        jobs,
        recipient: guest.store.data().regions.recipient(),
    };
    let task = tokio::spawn(guest.serve(interface, name, inbox, events.clone()));
    (peer, task)
}

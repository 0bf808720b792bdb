//! A guest: its store, and the task that holds it.

use std::any::Any;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use std::time::Instant;

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Linker, Lower, TypedFunc,
};
use wasmtime::{Engine, Store, Trap};
use wasmtime_wasi::I32Exit;

use super::clock::{Clock, Metered};
use super::exit::{GuestExit, clip, for_callers, for_operator};
use super::guests::{AppGuests, Broken, Inbox, Mailbox};
use super::instance_size::InstanceSize;
use super::output::Stdio;
use super::proxy::{Dropped, Proxies, ProxyKind, ProxyOwner};
use super::report::{GuestEnd, GuestReport, WindowReport};
use super::state::{self, GuestState};
use super::status::{ExitGuard, GuestStatus, StopReason};
use super::ticker::Ticker;
use tombolo::Limits;
use tombolo::internal::RegionCtxInternals as _;
use tombolo::internal::sys::{StoreId, fault};
use tombolo_exchange::{Callee, GuestId};

/// wasmtime's error if a call lifts more than its fuel.
const OUT_OF_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// wasmtime's error if a guest would have more tasks, waits and streams than it may.
const OUT_OF_WAITABLES: &str = "resource table has no free keys";

/// wasmtime's error if a guest would have more handles than it may.
const OUT_OF_HANDLES: &str = "store handle limit exceeded";

/// An incarnation of a guest, before and while it runs. Nothing else has its store.
pub(super) struct Guest {
    store: Store<GuestState>,
    clock: Arc<Clock>,
    status: Arc<GuestStatus>,
    /// The address at which wasm of this store faulted last.
    fault: Arc<AtomicUsize>,
    limits: Limits,
    /// Dropped after the store, whose code needs it to be interrupted.
    _ticker: Arc<Ticker>,
    /// Dropped after the store: from then on the memory counts as freed.
    _exit_guard: ExitGuard,
}

/// An error that a guest cannot go on from.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: wasmtime::Error,
    /// The function that the guest was executing, if any.
    pub(super) function: Option<Arc<str>>,
}

impl Fault {
    /// An error while the guest was executing this.
    pub(super) fn during(function: &Arc<str>, error: wasmtime::Error) -> Fault {
        Fault {
            error,
            function: Some(function.clone()),
        }
    }
}

impl From<StopReason> for Fault {
    /// The end of a guest that was executing nothing when it was told to end.
    fn from(reason: StopReason) -> Fault {
        Fault {
            error: reason.into(),
            function: None,
        }
    }
}

/// A guest that answers calls.
pub(super) struct ServingGuest {
    guest: Guest,
    instance: Instance,
    functions: KnownFunctions,
}

/// The functions of a guest that were called by their types. Looking one up in the instance and
/// comparing its type takes longer than a short call.
#[derive(Default)]
struct KnownFunctions(Vec<(ComponentExportIndex, Box<dyn Any + Send + Sync>)>);

impl KnownFunctions {
    /// Returns a function, which `find` looks up in the instance for the first time.
    fn get<P: Send + Sync + 'static, R: Send + Sync + 'static>(
        &mut self,
        export: ComponentExportIndex,
        find: impl FnOnce() -> wasmtime::Result<TypedFunc<P, R>>,
    ) -> wasmtime::Result<TypedFunc<P, R>> {
        let same = |known: &(ComponentExportIndex, Box<dyn Any + Send + Sync>)| known.0 == export;
        let Some(index) = self.0.iter().position(same) else {
            let function = find()?;
            self.0.push((export, Box::new(function)));
            return Ok(function);
        };
        // Those that are called often are found soon.
        if index > 0 {
            self.0.swap(index, index / 2);
        }
        match self.0[index / 2].1.downcast_ref() {
            Some(function) => Ok(*function),
            None => find(),
        }
    }
}

impl ServingGuest {
    /// Starts the guest's clock for a call.
    pub(super) fn start_clock(&self) {
        let guest = &self.guest;
        guest.clock.start("call-time", guest.limits.call_time);
    }

    /// Starts the guest's clock for a call that began at `now`.
    #[inline]
    pub(super) fn start_clock_at(&self, now: Instant) {
        let guest = &self.guest;
        let limit = guest.limits.call_time;
        guest.clock.start_at("call-time", limit, now);
    }

    pub(super) fn store(&mut self) -> &mut Store<GuestState> {
        &mut self.guest.store
    }

    pub(super) fn name(&self) -> &str {
        self.guest.store.data().regions.name()
    }

    /// Makes a call into the store.
    pub(super) async fn enter<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<GuestState>, Instance) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let instance = self.instance;
        self.guest
            .enter(async |store| call(store, instance).await)
            .await
    }
}

impl ServingGuest {
    /// Calls an export of this type. Also returns when it returned.
    // Not an `async fn`, which would keep its arguments twice.
    #[inline]
    pub(super) fn call_typed<P, R>(
        &mut self,
        export: ComponentExportIndex,
        params: P,
    ) -> impl Future<Output = (wasmtime::Result<R>, Instant)> + Send
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let (guest, instance) = (&mut self.guest, self.instance);
        let store = &mut guest.store;
        let function = self
            .functions
            .get::<P, R>(export, || instance.get_typed_func(store, export));
        async move {
            let id = StoreId::of(&guest.store);
            let result = match function {
                Ok(function) => {
                    let call = function.call_async(&mut guest.store, params);
                    pin!(Metered::new(id, &guest.clock, &guest.status, call)).await
                }
                Err(error) => Err(error),
            };
            guest.entered(result)
        }
    }
}

impl Callee<AppGuests> for ServingGuest {
    fn poll_stop(&mut self, context: &Context<'_>) -> Result<(), Fault> {
        Ok(self.guest.status.watch(context)?)
    }

    /// Destroys a resource of the guest's own that no other guest has any more.
    async fn receive(&mut self, notice: Dropped) -> Result<(), Fault> {
        let Dropped { resource, kind } = notice;
        self.start_clock();
        let destroyed = self.enter(async |store, _| resource.resource_drop_async(store).await);
        let destroyed = destroyed.await;
        destroyed.map_err(|error| Fault::during(&kind.destructor().into(), error))
    }
}

/// How a command or a server came to its end: with an exit code, if it is a command.
pub(super) type Lived = Result<Option<u8>, Broken>;

impl Guest {
    pub(super) fn new(
        engine: &Engine,
        state: GuestState,
        exit_guard: ExitGuard,
        limits: &Limits,
        ticker: Arc<Ticker>,
    ) -> Guest {
        let clock = state.clock.clone();
        let status = state.status.clone();
        let fault = Arc::new(AtomicUsize::new(0));
        let mut store = Store::new(engine, state);
        state::configure(&mut store);
        fault::note_wasm_faults(&mut store, fault.clone());
        Guest {
            store,
            clock,
            status,
            fault,
            limits: limits.clone(),
            _ticker: ticker,
            _exit_guard: exit_guard,
        }
    }

    /// Instantiates the component, and charges its instances.
    pub(super) async fn instantiate(
        &mut self,
        component: &Component,
        size: InstanceSize,
        linker: &Linker<GuestState>,
        kinds: &[Arc<ProxyKind>],
        owner: Arc<dyn ProxyOwner>,
    ) -> wasmtime::Result<Instance> {
        self.clock.start("call-time", self.limits.call_time);
        let instance = self.enter(async |store| {
            let charge = store.data().charge(size.bytes)?;
            store.data_mut().keep_instances(charge);
            let handles = store.data().max_handles(size.components);
            store.set_max_component_handles(handles);
            let waitables = store.data().max_waitables();
            if let Some(table) = store.concurrent_resource_table() {
                table.set_max_capacity(waitables);
            }
            let instance = linker.instantiate_async(&mut *store, component).await?;
            Proxies::instantiated(store, component, instance, kinds, owner);
            Ok(instance)
        });
        instance.await
    }

    /// Waits until the guest is told to end.
    pub(super) fn stop_reason(&self) -> impl Future<Output = StopReason> + use<> {
        let status = self.status.clone();
        async move { status.stop_reason().await }
    }

    /// Marks its windows as closed in order, so that they poison no region.
    pub(super) fn finish(&mut self) {
        self.store.data_mut().regions.finish();
    }

    /// Returns the texts of a failure, for the operator and for callers. Callers are told
    /// less: see [`for_callers`].
    pub(super) fn failure_texts(
        &mut self,
        name: &str,
        function: Option<&str>,
        error: wasmtime::Error,
    ) -> (String, String) {
        let during = match function {
            Some(function) => format!(" in `{function}`"),
            None => String::new(),
        };
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            // For its windows, that is an orderly end.
            self.store.data_mut().regions.finish();
            let text = clip(format!("guest `{name}` exited with code {code}{during}"));
            return (text.clone(), text);
        }
        let was_told = error.is::<StopReason>();
        let error = self.explain(error);
        let ended = format!("guest `{name}` was ended{during}");
        let refused = match was_told {
            true => String::new(),
            false => self.refused_growths(),
        };
        (
            clip(format!("{ended}: {}{refused}", for_operator(&error))),
            clip(format!("{ended}: {}{refused}", for_callers(&error))),
        )
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the guest.
    pub(super) fn id(&self) -> GuestId {
        self.store.data().grants.guest
    }

    /// Returns the function of its call in progress, if there is exactly one.
    pub(super) fn only_function(&self) -> Option<Arc<str>> {
        self.store.data().tasks.only_function()
    }

    /// Makes a call into the store.
    pub(super) async fn enter<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let id = StoreId::of(&self.store);
        let result = Metered::new(id, &self.clock, &self.status, call(&mut self.store)).await;
        self.entered(result).0
    }

    /// Notes that a call into the store has ended. Returns what came of it, and when it ended.
    #[inline]
    fn entered<R>(&self, result: wasmtime::Result<R>) -> (wasmtime::Result<R>, Instant) {
        let now = Instant::now();
        self.status.ran_at(now);
        // Outside of host calls, for example at the end of a call, wasmtime writes into the
        // guest's memory for it. A violation there is found here.
        let result = result.and_then(|result| {
            self.store.data().regions.check()?;
            Ok(result)
        });
        (result, now)
    }

    /// Runs a command until all its output is written. Its deadline holds until then. The
    /// exit code is never `None`. `tasks` says whether it has async functions.
    pub(super) async fn run(
        &mut self,
        instance: Instance,
        run: &str,
        tasks: bool,
        stdio: &Stdio,
    ) -> Lived {
        let result = match tasks {
            true => self.run_tasks(instance, run).await,
            false => {
                self.clock.start("run-time", self.limits.run_time);
                let ran = self.enter(async |store| {
                    let function = run_function(store, instance, run)?;
                    let (result,) = function.call_async(store, ()).await?;
                    Ok(result)
                });
                ran.await
            }
        };
        let broken = |error| Broken::new(Fault::during(&"wasi:cli/run".into(), error));
        let code = match result {
            Ok(Ok(())) => 0,
            Ok(Err(())) => 1,
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // As the exit code of a process: the low eight bits.
                Some(I32Exit(code)) => code.to_le_bytes()[0],
                None => return Err(broken(error)),
            },
        };
        let written = async {
            stdio.drained().await;
            Ok(())
        };
        let id = StoreId::of(&self.store);
        let written = Metered::new(id, &self.clock, &self.status, written).await;
        self.status.ran_at(Instant::now());
        written.map_err(broken)?;
        Ok(Some(code))
    }

    /// Answers calls one at a time, in the order in which they come. At the end, returns the
    /// guest and its inbox with the items that it has not received.
    pub(super) async fn serve(
        self,
        instance: Instance,
        inbox: Inbox,
        mailbox: &Mailbox,
    ) -> (Guest, Inbox, Result<(), Broken>) {
        let serving = ServingGuest {
            guest: self,
            instance,
            functions: KnownFunctions::default(),
        };
        let (serving, inbox, served) = mailbox.serve(serving, inbox).await;
        (serving.guest, inbox, served)
    }

    /// Returns an error that says what the guest did, if wasmtime's only says that it
    /// trapped.
    pub(super) fn explain(&self, error: wasmtime::Error) -> wasmtime::Error {
        let regions = &self.store.data().regions;
        if let Err(violation) = regions.check() {
            return violation.into();
        }
        let says = |words: &str| error.chain().any(|cause| cause.to_string().contains(words));
        if says(OUT_OF_HANDLES) {
            return wasmtime::Error::msg(
                "its limit `host-memory` leaves no room for more handles to resources",
            );
        }
        if says(OUT_OF_WAITABLES) {
            return wasmtime::Error::msg(
                "its limit `host-memory` leaves no room for more calls, waits and streams at a \
                 time",
            );
        }
        if says(OUT_OF_FUEL) {
            return wasmtime::Error::msg(
                "the values of a call are larger than its limit `host-memory` leaves room for",
            );
        }
        if error.downcast_ref::<Trap>() != Some(&Trap::MemoryOutOfBounds) {
            return error;
        }
        let address = self.fault.load(Ordering::Relaxed);
        regions
            .explain_fault(address)
            .map_or(error, wasmtime::Error::from)
    }

    /// Returns a clause about memory growths that the host refused, to append to a failure.
    /// It is empty if there were none.
    pub(super) fn refused_growths(&self) -> String {
        match self.store.data().limiter.refused() {
            0 => String::new(),
            1 => "; the host was short of memory, and refused a growth of its memory".into(),
            times => {
                format!("; the host was short of memory, and refused {times} growths of its memory")
            }
        }
    }

    /// Drops the store, and reports what the guest did. `stop_reason` is why it was told to
    /// end, if it was.
    pub(super) fn exit(
        self,
        guest: GuestId,
        born: Instant,
        code: Option<u8>,
        failure: Option<String>,
        stop_reason: Option<StopReason>,
    ) -> GuestExit {
        let owner = self.store.data().regions.owner().clone();
        let end = match (&stop_reason, &failure, code) {
            (Some(StopReason { reason, .. }), ..) => GuestEnd::Stopped(reason.to_string()),
            (None, Some(_), _) => GuestEnd::Failed,
            (None, None, Some(code)) => GuestEnd::Exit(code),
            (None, None, None) => GuestEnd::Served,
        };
        let mut report = self.report(end);
        drop(self.store);
        report.regions_freed = owner.regions_freed();
        let app_shutdown = stop_reason.is_some_and(|it| it.app_shutdown);
        GuestExit {
            guest,
            code,
            failure: failure.filter(|_| !app_shutdown),
            app_shutdown,
            report,
            lived: born.elapsed(),
            at: Instant::now(),
            next: None,
            excused: false,
        }
    }

    fn report(&self, end: GuestEnd) -> GuestReport {
        let regions = &self.store.data().regions;
        let (notes, windows_total) = regions.window_notes();
        let windows = notes.into_iter().map(|note| WindowReport {
            address: u32::try_from(note.address).unwrap_or(u32::MAX),
            region: note.region,
            region_id: note.region_id.into(),
            offset: note.offset,
            length: note.length,
            access: note.access.into(),
            count: note.count,
        });
        let held = regions.usage();
        let (regions_released, regions_released_total) = regions.released_except(&held);
        GuestReport {
            name: regions.name().to_owned(),
            end,
            windows: windows.collect(),
            windows_total,
            regions: held,
            regions_released,
            regions_released_total,
            regions_created: regions.regions_created(),
            growths_refused: self.store.data().limiter.refused(),
            ..GuestReport::default()
        }
    }
}

/// Finds the function `run` of a command.
pub(super) fn run_function(
    store: &mut Store<GuestState>,
    instance: Instance,
    run: &str,
) -> wasmtime::Result<TypedFunc<(), (Result<(), ()>,)>> {
    let interface = instance.get_export_index(&mut *store, None, run);
    let function = interface
        .and_then(|index| instance.get_export_index(&mut *store, Some(&index), "run"))
        .ok_or_else(|| wasmtime::Error::msg("`run` is missing"))?;
    instance.get_typed_func(store, function)
}

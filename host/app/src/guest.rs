//! A guest: its store, and the task that holds it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Instrument;
use wasmtime::component::{ComponentExportIndex, Instance, ResourceTable, Val};
use wasmtime::{CallHook, Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

use super::call::{Call, Inbox, Mailbox, MailboxItem, Reply, Work};
use super::clock::{BUG, Clock, Metered, Panicked, TimeUp};
use super::files::{FileThreads, FileView};
use super::idle::Wakeup;
use super::interfaces::Grants;
use super::limiter::Limiter;
use super::output::Stdio;
use super::proxy::{Bundle, Caller, Dropped, Held, PassError, Proxies};
use super::report::RECORDS;
use super::report::{GuestReport, RestartReport, WindowReport};
use super::status::{ExitGuard, GuestStatus, StopReason};
use super::supervisor::{Incarnation, RestartDecision, Supervisor};
use super::values;
use super::{CommandExit, Ticker};
use crate::text;
use tombolo::Limits;
use tombolo::internal::Promise;
use tombolo::internal::sys::{StoreId, fault, private_bytes};
use tombolo::{Recipient, RegionCtx, RegionError, RegionView, WriteViolation};
use tombolo_region::{Charge, ChargeKind, Exhausted, GRANULE};

/// The bytes that wasmtime by default lets one call lift.
const MOST_LIFTED: u64 = 128 << 20;

/// wasmtime's error if a call lifts more than its fuel.
const OUT_OF_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// wasmtime's error if a guest would have more handles than it may.
const OUT_OF_HANDLES: &str = "store handle limit exceeded";

/// The handles that wasmtime by default lets a store have.
const MOST_HANDLES: u64 = 100_000;

/// The host memory of a handle, in bytes.
const HANDLE_BYTES: u64 = 32;

/// The data of a guest's store.
pub(super) struct GuestState {
    wasi: WasiCtx,
    /// Runs what the guest does with files.
    pub(super) files: Arc<FileThreads>,
    /// What is WASI's, or waits by it.
    pub(super) table: ResourceTable,
    pub(super) regions: RegionCtx,
    /// What it has of other guests' resources.
    pub(super) proxies: Proxies,
    pub(super) grants: Grants,
    limiter: Limiter,
    /// Bytes of host memory for each unit of fuel, at worst, in the values of its
    /// calls.
    lift_ratio: u64,
    /// The charges for values that the guest's current host call has lifted or is about to
    /// lower.
    in_call: Vec<Charge>,
    /// The charge for its core instances.
    instances: Option<Charge>,
    /// Whether it was refused something by an error code that has no room for the reason.
    refused: bool,
    /// Who the store is, once there is one.
    store: Arc<OnceLock<StoreId>>,
    pub(super) clock: Arc<Clock>,
    pub(super) status: Arc<GuestStatus>,
}

impl GuestState {
    pub(super) fn recipient(&self) -> Recipient {
        self.regions.recipient()
    }

    pub(super) fn new(
        wasi: WasiCtx,
        files: Arc<FileThreads>,
        regions: RegionCtx,
        grants: Grants,
        limits: &Limits,
        lift_ratio: u64,
    ) -> GuestState {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.descriptors as usize);
        let account = regions.owner().account.clone();
        let store: Arc<OnceLock<StoreId>> = Arc::default();
        let promise = Promise::new(regions.host(), store.clone());
        let limiter = Limiter::new(limits.memory_bytes, account.clone(), promise);
        let memory = {
            let store = store.clone();
            move || store.get().map_or(0, |store| private_bytes(*store))
        };
        let memory = move || {
            // What is smaller stays with the allocator.
            let host = account.used(ChargeKind::HostMemory);
            memory().saturating_add(host - host % GRANULE)
        };
        let status = GuestStatus::new(memory, regions.host().clone(), regions.owner().clone());
        GuestState {
            wasi,
            files,
            table,
            regions,
            proxies: Proxies::new(limits),
            grants,
            limiter,
            lift_ratio,
            in_call: Vec::new(),
            instances: None,
            refused: false,
            store,
            clock: Arc::default(),
            status: Arc::new(status),
        }
    }
}

impl GuestState {
    /// Charges bytes to the guest's `host-memory`, before they are allocated.
    pub(super) fn charge(&self, bytes: u64) -> Result<Charge, Exhausted> {
        let account = &self.regions.owner().account;
        account.charge(ChargeKind::HostMemory, bytes)
    }

    /// Returns whether the guest has not been refused host memory before in this life,
    /// by a code that has no room for the reason.
    pub(super) fn is_first_refusal(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true)
    }

    /// Keeps a charge until the host call that the guest is in has returned, and so
    /// has lowered what it returns.
    pub(super) fn keep_in_call(&mut self, charge: Charge) {
        self.in_call.push(charge);
    }

    /// Returns how many handles the guest may have in all of its component instances.
    /// Their tables never shrink, so each may become as large as all handles together. All
    /// tables may take a quarter of the limit, on top of the charges.
    fn most_handles(&self, component_instances: u64) -> usize {
        let account = &self.regions.owner().account;
        let tables = HANDLE_BYTES.saturating_mul(component_instances.max(1));
        let handles = account.most(ChargeKind::HostMemory) / 4 / tables;
        usize::try_from(handles.min(MOST_HANDLES)).unwrap_or(usize::MAX)
    }

    /// Returns how much the next call may lift out of the guest.
    fn liftable(&self) -> usize {
        let account = &self.regions.owner().account;
        let most = account.most(ChargeKind::HostMemory);
        let rest = most.saturating_sub(account.used(ChargeKind::HostMemory));
        let fuel = (rest / self.lift_ratio).min(MOST_LIFTED);
        usize::try_from(fuel).unwrap_or(usize::MAX)
    }

    /// The files of the guest, on its own threads.
    pub(super) fn file_view(&mut self) -> FileView<'_> {
        FileView {
            wasi: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            threads: &self.files,
        }
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl IoView for GuestState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl RegionView for GuestState {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// A guest before and while it lives. Its store is nobody else's.
pub(super) struct Guest {
    store: Store<GuestState>,
    clock: Arc<Clock>,
    status: Arc<GuestStatus>,
    /// Where wasm of this store faulted last.
    fault: Arc<AtomicUsize>,
    limits: Limits,
    /// After the store: what runs in there needs it.
    _ticker: Arc<Ticker>,
    /// After the store, whose memory is back then.
    _exit_guard: ExitGuard,
}

/// How a guest ended.
pub(super) struct GuestExit {
    pub(super) index: usize,
    /// The code with which it exited, if it did by itself.
    exit: Option<u8>,
    /// What to tell the operator, if it failed.
    pub(super) failure: Option<String>,
    /// It was told to end because the app does.
    app_shutdown: bool,
    report: GuestReport,
    /// How long it lived.
    pub(super) lived: Duration,
    /// When it ended: before anybody heard of it.
    pub(super) at: Instant,
    /// Its next life, if it failed and is to have one.
    pub(super) next: Option<Incarnation>,
    /// Whether it failed, and would be restarted if the app did not end.
    pub(super) excused: bool,
}

impl GuestExit {
    /// A guest that went down with a panic of the host's.
    pub(super) fn panicked(
        index: usize,
        name: &str,
        panicked: &Panicked,
        born: Instant,
    ) -> GuestExit {
        GuestExit {
            index,
            exit: None,
            failure: Some(format!("guest `{name}` was ended: {panicked}")),
            app_shutdown: false,
            report: GuestReport {
                name: name.to_owned(),
                end: "failed".into(),
                ..GuestReport::default()
            },
            lived: born.elapsed(),
            at: Instant::now(),
            next: None,
            excused: false,
        }
    }

    /// Notes what becomes of it.
    pub(super) fn then(&mut self, again: RestartDecision) {
        match again {
            RestartDecision::Restart(next) => self.next = Some(*next),
            RestartDecision::AppEnding => self.excused = true,
            RestartDecision::Never => {}
        }
    }

    pub(super) fn end(&self) -> CommandExit {
        match (self.exit, &self.failure) {
            (Some(code), None) => CommandExit::Exit(code),
            _ if self.app_shutdown => CommandExit::Stopped,
            _ => CommandExit::Failed,
        }
    }

    pub(super) fn into_report(self) -> GuestReport {
        self.report
    }

    /// What it did in this life and in those before, of which the last one failed
    /// like this.
    pub(super) fn after(&mut self, before: GuestReport, restart: RestartReport) {
        let report = &mut self.report;
        report.windows_total += before.windows_total;
        report.regions_released_total += before.regions_released_total;
        report.regions_created += before.regions_created;
        report.regions_freed += before.regions_freed;
        report.growths_refused += before.growths_refused;
        report.restarts_total = before.restarts_total + 1;
        report.restarts = before.restarts;
        if report.restarts.len() >= RECORDS {
            report.restarts.remove(0);
        }
        report.restarts.push(restart);
    }

    /// How it failed, if it did.
    pub(super) fn fault(&self) -> Option<String> {
        match (&self.failure, self.exit) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some(code)) if code != 0 => Some(format!(
                "guest `{}` exited with code {code}",
                self.report.name
            )),
            _ => None,
        }
    }
}

/// A call that broke its callee: what is to be done once the callee's store is
/// gone.
pub(super) struct Broken {
    error: wasmtime::Error,
    /// Goes after the store: its windows go with its memory.
    borrowed: Option<Held>,
    tell: Option<Box<dyn FnOnce(String) + Send>>,
    /// What the guest was at, if it was at anything.
    function: Option<Arc<str>>,
}

impl From<StopReason> for Broken {
    /// Of a guest that was at nothing when it was told to end.
    fn from(told: StopReason) -> Broken {
        Broken {
            error: told.into(),
            borrowed: None,
            tell: None,
            function: None,
        }
    }
}

/// A guest that waits for calls.
pub(super) struct IdleGuest {
    guest: Guest,
    instance: Instance,
    inbox: Inbox,
}

impl IdleGuest {
    /// Whether nobody has asked it for anything, so that who asks now is the next.
    pub(super) fn is_free(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Answers one call.
    pub(super) async fn answer(mut self: Box<Self>, call: Box<Call>) -> Answered {
        let span = call.span.clone();
        let answered = self
            .guest
            .answer(self.instance, call)
            .instrument(span)
            .await;
        (self, answered)
    }
}

/// A guest after a call, and whether that broke it.
pub(super) type Answered = (Box<IdleGuest>, Result<(), Broken>);

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
        let _ = store.data().store.set(StoreId::of(&store));
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            let state = store.data();
            state.regions.check()?;
            state.status.check()?;
            state.clock.check()?;
            state.clock.yielded();
            // By way of the executor's timers, which it would otherwise look
            // after only once in a while, with this guest always ready to go on.
            let turn = Box::pin(tokio::task::yield_now());
            Ok(UpdateDeadline::YieldCustom(1, turn))
        });
        store.call_hook(|mut store, hook| {
            match hook {
                // A guest that wrote to a read-only window goes no further than its
                // next host call.
                CallHook::CallingHost => store.data().regions.check()?,
                CallHook::ReturningFromHost => store.data_mut().in_call.clear(),
                CallHook::ReturningFromWasm => {}
                CallHook::CallingWasm => return Ok(()),
            }
            // For the arguments of this host call, or the results of this export.
            let fuel = store.data().liftable();
            store.set_hostcall_fuel(fuel);
            Ok(())
        });
        fault::note_wasm_faults(&mut store, fault.clone());
        Guest {
            store,
            clock,
            _exit_guard: exit_guard,
            status,
            fault,
            limits: limits.clone(),
            _ticker: ticker,
        }
    }

    /// Instantiates the guest, tells `ready` how that went, and lives: as a
    /// command, until it has run; else until there are no commands left. If it
    /// fails, its next life is prepared before anybody hears of it.
    pub(super) async fn live(
        mut self,
        index: usize,
        supervisor: Arc<Supervisor>,
        inbox: Inbox,
        ready: Option<oneshot::Sender<wasmtime::Result<()>>>,
    ) -> GuestExit {
        let born = Instant::now();
        let name = self.store.data().regions.name().to_owned();
        let calls = &supervisor.calls;
        // Until others have heard of the end: who has asked, and hears no answer, learns
        // why, and finds the next life.
        let mut inbox = Some(inbox);
        let run = supervisor.templates[index].run.as_deref();
        let stdio = &supervisor.templates[index].stdio;
        if run.is_some() {
            // It would not come to them before it has run, or ever: whoever
            // calls is told so at once.
            calls.set_exit_reason(
                index,
                format!("guest `{name}` is a command, and answers no calls"),
            );
            drop(inbox.take());
        }
        self.clock.start("call-time", self.limits.call_time);
        let component = &supervisor.templates[index].component;
        let linker = &supervisor.linkers[index];
        let size = supervisor.templates[index].size;
        let instance = self.enter(async |store| {
            let charge = store.data().charge(size.bytes)?;
            store.data_mut().instances = Some(charge);
            let handles = store.data().most_handles(size.components);
            store.set_max_component_handles(handles);
            let instance = linker.instantiate_async(&mut *store, component).await?;
            let mailbox = calls.mailbox(index);
            Proxies::instantiated(store, component, instance, &supervisor.kinds, mailbox);
            Ok(instance)
        });
        let lived = match (instance.await, run) {
            (Err(error), _) => {
                let error = self.explain(error);
                let refused = self.refused();
                calls.set_exit_reason(
                    index,
                    format!("guest `{name}` could not be instantiated{refused}"),
                );
                match ready {
                    Some(ready) => {
                        let error = match refused.is_empty() {
                            true => error,
                            false => error.context(format!("no memory{refused}")),
                        };
                        // It may have printed why.
                        stdio.end_incarnation();
                        let _ = ready.send(Err(error));
                        let ended = self.ended(index, None, None, None, born);
                        supervisor.on_exit(index);
                        return ended;
                    }
                    None => Err(Broken {
                        error,
                        borrowed: None,
                        tell: None,
                        function: Some("its start".into()),
                    }),
                }
            }
            (Ok(instance), run) => {
                if let Some(ready) = ready {
                    let _ = ready.send(Ok(()));
                }
                match (run, inbox.take()) {
                    (Some(run), _) => tokio::select! {
                        biased;
                        told = self.status.stop_reason() => Err(told.into()),
                        () = calls.begun() => self.run(instance, run, stdio).await,
                    },
                    (None, Some(heard)) => {
                        let (guest, left, served) =
                            self.serve(instance, heard, &calls.mailbox(index)).await;
                        (self, inbox) = (guest, Some(left));
                        served.map(|()| None)
                    }
                    (None, None) => Ok(None),
                }
            }
        };

        let ended = match lived {
            Ok(exit) => {
                self.store.data_mut().regions.finish();
                let mut ended = self.ended(index, exit, None, None, born);
                calls.set_exit_reason(index, format!("guest `{name}` has ended"));
                match exit {
                    Some(0) | None => supervisor.on_exit(index),
                    Some(_) => ended.then(supervisor.decide_restart(index, ended.lived)),
                }
                ended
            }
            Err(broken) => {
                let Broken {
                    error,
                    borrowed,
                    tell,
                    function,
                } = broken;
                let during = match &function {
                    Some(function) => format!(" in `{function}`"),
                    None => String::new(),
                };
                let by_word = error.downcast_ref::<StopReason>().cloned();
                // Callers are told less: see `for_callers`.
                let (failure, told) = match error.downcast_ref::<I32Exit>() {
                    // In order, as far as its windows go.
                    Some(I32Exit(code)) => {
                        self.store.data_mut().regions.finish();
                        let text = format!("guest `{name}` exited with code {code}{during}");
                        (text.clone(), text)
                    }
                    None => {
                        let error = self.explain(error);
                        let ended = format!("guest `{name}` was ended{during}");
                        let refused = match by_word {
                            Some(_) => String::new(),
                            None => self.refused(),
                        };
                        (
                            format!("{ended}: {}{refused}", brief(&error)),
                            format!("{ended}: {}{refused}", for_callers(&error)),
                        )
                    }
                };
                let (failure, told) = (clip(failure), clip(told));
                let app_shutdown = by_word.as_ref().is_some_and(|told| told.app_shutdown);
                // First the memory, and with it the windows; then the lends;
                // and only then does anybody hear of it.
                let mut ended = self.ended(index, None, Some(failure), by_word, born);
                calls.set_exit_reason(index, told.clone());
                drop(borrowed);
                match app_shutdown {
                    true => supervisor.on_exit(index),
                    false => ended.then(supervisor.decide_restart(index, ended.lived)),
                }
                if let Some(tell) = tell {
                    tell(told);
                }
                ended
            }
        };
        drop(inbox);
        stdio.end_incarnation();
        ended
    }

    /// Makes a call into the store.
    async fn enter<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let id = StoreId::of(&self.store);
        let result = Metered::new(id, &self.clock, &self.status, call(&mut self.store)).await?;
        // What wasmtime wrote for the guest outside of a host call, at the end of
        // the call say, it hears of here.
        self.store.data().regions.check()?;
        Ok(result)
    }

    /// Runs a command until all its output is written; its deadline holds until then. The
    /// exit code is never `None`.
    async fn run(
        &mut self,
        instance: Instance,
        run: &str,
        stdio: &Stdio,
    ) -> Result<Option<u8>, Broken> {
        self.clock.start("run-time", self.limits.run_time);
        let result = self
            .enter(async |store| {
                let interface = instance.get_export_index(&mut *store, None, run);
                let function = interface
                    .and_then(|index| instance.get_export_index(&mut *store, Some(&index), "run"))
                    .ok_or_else(|| wasmtime::Error::msg("`run` is missing"))?;
                let function =
                    instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, &function)?;
                function.call_async(store, ()).await
            })
            .await;
        let broken = |error| Broken {
            error,
            borrowed: None,
            tell: None,
            function: Some("wasi:cli/run".into()),
        };
        let code = match result {
            Ok((Ok(()),)) => 0,
            Ok((Err(()),)) => 1,
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // As a process's exit code: the low eight bits.
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
        written.map_err(broken)?;
        Ok(Some(code))
    }

    /// Answers calls, one at a time, in the order in which they come. Gives the guest
    /// back at its end, and what it has been told and has not heard.
    async fn serve(
        self,
        instance: Instance,
        inbox: Inbox,
        mailbox: &Mailbox,
    ) -> (Guest, Inbox, Result<(), Broken>) {
        let mut resting = Box::new(IdleGuest {
            guest: self,
            instance,
            inbox,
        });
        loop {
            let look = |resting: &mut Box<IdleGuest>, context: &mut Context<'_>| {
                if let Err(told) = resting.guest.status.watch(context) {
                    return Poll::Ready(Err(told));
                }
                resting.inbox.poll_recv(context).map(Ok)
            };
            let answered;
            (resting, answered) = match mailbox.idle.wait(resting, look).await {
                Wakeup::Ready(resting, Err(told)) => (resting, Err(told.into())),
                Wakeup::Ready(resting, Ok(Some(MailboxItem::Call(call)))) => {
                    resting.answer(call).await
                }
                Wakeup::Ready(mut resting, Ok(Some(MailboxItem::Drop(dropped)))) => {
                    let destroyed = resting.guest.destroy(dropped).await;
                    (resting, destroyed)
                }
                Wakeup::Ready(resting, Ok(Some(MailboxItem::Stop) | None)) => {
                    return (resting.guest, resting.inbox, Ok(()));
                }
                Wakeup::Inline(begun) => begun.await,
            };
            if answered.is_err() {
                return (resting.guest, resting.inbox, answered);
            }
        }
    }

    /// Destroys a resource of the guest's own that nobody has any more.
    async fn destroy(&mut self, dropped: Dropped) -> Result<(), Broken> {
        let Dropped { resource, kind } = dropped;
        self.clock.start("call-time", self.limits.call_time);
        let destroyed = self.enter(async |store| resource.resource_drop_async(store).await);
        destroyed.await.map_err(|error| Broken {
            error,
            borrowed: None,
            tell: None,
            function: Some(kind.destructor().into()),
        })
    }

    async fn answer(&mut self, instance: Instance, call: Box<Call>) -> Result<(), Broken> {
        let Call {
            export,
            function,
            work,
            span: _,
            waiting,
        } = *call;
        self.clock.start("call-time", self.limits.call_time);
        match work {
            Work::Values {
                params,
                charge,
                results,
                caller,
                reply,
            } => {
                // If this is dropped, it goes before the caller hears of that.
                let waiting = waiting;
                let caller = (waiting.from(), &caller);
                let params = (params, charge);
                let (borrowed, called) =
                    self.values(instance, export, params, results, caller).await;
                drop(waiting);
                match called {
                    // A caller that is gone drops what it would have got.
                    Ok(answer) => drop(reply.send(answer)),
                    Err(error) => {
                        let tell = Box::new(|why| drop(reply.send(Reply::Failed(why))));
                        return Err(Broken {
                            error,
                            borrowed,
                            tell: Some(tell),
                            function: Some(function),
                        });
                    }
                }
            }
            Work::Bytes(mut call) => {
                // As above.
                let waiting = waiting;
                let called = self.enter(async |store| call.run(store, instance, export).await);
                let called = called.await;
                drop(waiting);
                match called {
                    Ok(()) => call.done(),
                    Err(error) => {
                        let tell = Box::new(|why| call.failed(why));
                        return Err(Broken {
                            error,
                            borrowed: None,
                            tell: Some(tell),
                            function: Some(function),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a call with any values, and charges the results to the caller: it decides
    /// how long they are kept. What is still lent at an error is to outlive the store.
    async fn values(
        &mut self,
        instance: Instance,
        export: ComponentExportIndex,
        (params, charge): (Bundle, Charge),
        results: usize,
        (from, caller): (usize, &Recipient),
    ) -> (Option<Held>, wasmtime::Result<Reply>) {
        let (params, borrowed) = match params.unpack(&mut self.store) {
            Ok(unpacked) => unpacked,
            Err(PassError::Refused(why)) => return (None, Ok(Reply::Failed(why))),
            Err(PassError::Fatal(error)) => return (None, Err(error)),
        };
        let mut results = vec![Val::Bool(false); results];
        let called = self.enter(async |store| {
            let function = instance
                .get_func(&mut *store, export)
                .ok_or_else(|| wasmtime::Error::msg("the function is missing"))?;
            function.call_async(store, &params, &mut results).await
        });
        if let Err(error) = called.await {
            return (Some(borrowed), Err(error));
        }
        drop((params, charge));
        let bytes = values::bytes(&results);
        let packed = Bundle::pack(&mut self.store, results, (from, caller), Caller::Receives);
        if let Err(error) = borrowed.end(&mut self.store) {
            return (None, Err(error));
        }
        let guest = self.store.data().regions.name();
        let answer = match packed {
            Ok((bundle, _)) => match charge_results(caller, guest, bytes) {
                Ok(charge) => Ok(Reply::Done(bundle, charge)),
                Err(why) => Ok(Reply::Failed(why)),
            },
            Err(PassError::Fatal(error)) => Err(error),
            Err(PassError::Refused(why)) => {
                let failed = format!("the results of guest `{guest}` cannot be passed: {why}");
                Ok(Reply::Failed(failed))
            }
        };
        (None, answer)
    }

    /// Says what the guest did, where wasmtime only says that it trapped.
    fn explain(&self, error: wasmtime::Error) -> wasmtime::Error {
        let regions = &self.store.data().regions;
        if let Err(trespass) = regions.check() {
            return trespass.into();
        }
        let says = |words: &str| error.chain().any(|cause| cause.to_string().contains(words));
        if says(OUT_OF_HANDLES) {
            return wasmtime::Error::msg(
                "its limit `host-memory` leaves no room for more handles to resources",
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

    /// Returns text about growths that the host refused, to follow a failure; empty if
    /// there were none.
    fn refused(&self) -> String {
        match self.store.data().limiter.refused() {
            0 => String::new(),
            1 => "; the host was short of memory, and refused a growth of its memory".into(),
            times => {
                format!("; the host was short of memory, and refused {times} growths of its memory")
            }
        }
    }

    /// Drops the store, and says what the guest did. `told` is why it was told to
    /// end, if it was.
    fn ended(
        self,
        index: usize,
        exit: Option<u8>,
        failure: Option<String>,
        told: Option<StopReason>,
        born: Instant,
    ) -> GuestExit {
        let regions = &self.store.data().regions;
        let owner = regions.owner().clone();
        let (notes, windows_total) = regions.window_notes();
        let windows = notes
            .into_iter()
            .map(|note| WindowReport {
                address: u32::try_from(note.address).unwrap_or(u32::MAX),
                region: note.region,
                region_id: note.region_id,
                offset: note.offset,
                length: note.length,
                access: note.access.to_string(),
                count: note.count,
            })
            .collect();
        let held = regions.usage();
        let (regions_released, regions_released_total) = regions.released_except(&held);
        let mut report = GuestReport {
            name: regions.name().to_owned(),
            end: match (&told, &failure, exit) {
                (Some(told), ..) => format!("ended: {told}"),
                (None, Some(_), _) => "failed".into(),
                (None, None, Some(code)) => format!("exit {code}"),
                (None, None, None) => "served".into(),
            },
            windows,
            windows_total,
            regions: held,
            regions_released,
            regions_released_total,
            regions_created: regions.regions_created(),
            regions_freed: 0,
            restarts: Vec::new(),
            restarts_total: 0,
            growths_refused: self.store.data().limiter.refused(),
        };
        drop(self.store);
        report.regions_freed = owner.regions_freed();
        let app_shutdown = told.is_some_and(|told| told.app_shutdown);
        GuestExit {
            index,
            exit,
            failure: failure.filter(|_| !app_shutdown),
            app_shutdown,
            report,
            lived: born.elapsed(),
            at: Instant::now(),
            next: None,
            excused: false,
        }
    }
}

/// Charges the results of a call to the caller. The error is the text for the caller; the
/// operator also gets the numbers.
pub(super) fn charge_results(
    caller: &Recipient,
    callee: &str,
    bytes: u64,
) -> Result<Charge, String> {
    let account = &caller.owner().account;
    account
        .charge(ChargeKind::HostMemory, bytes)
        .map_err(|exhausted| {
            tracing::info!("the results of guest `{callee}` cannot be passed: {exhausted}");
            let Exhausted { owner, limit, .. } = exhausted;
            format!("the results of guest `{callee}` are over the limit `{limit}` of {owner}")
        })
}

/// The longest account of a failure, in bytes. Names in it are the guest's own, and
/// reports keep many.
const FAILURE: usize = 2048;

/// Shortens a text that is too long to keep.
fn clip(mut text: String) -> String {
    if text.len() > FAILURE {
        text.truncate(text.floor_char_boundary(FAILURE));
        text.push('…');
    }
    text
}

/// An error in one line: causes, but no backtrace of wasm.
fn brief(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WriteViolation>() {
        Some(trespass) => trespass.to_string(),
        None => text::line(error),
    }
}

/// Returns the reason why a guest was ended, for its callers: without the names of regions,
/// which they may not know, and without the numbers of its limits.
fn for_callers(error: &wasmtime::Error) -> String {
    if error.is::<WriteViolation>() {
        return "it wrote to a read-only window".to_owned();
    }
    if error.is::<TimeUp>() {
        return "its time is up".to_owned();
    }
    if error.is::<Panicked>() {
        return BUG.to_owned();
    }
    match error.downcast_ref::<Exhausted>() {
        Some(exhausted) => RegionError::from(exhausted.clone()).for_others(),
        None => brief(error),
    }
}

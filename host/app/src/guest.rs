//! A guest: its store, and the task that holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use tracing::Instrument;
use wasmtime::component::{Component, ComponentExportIndex, Instance, Linker, Val};
use wasmtime::{Engine, Store, Trap};
use wasmtime_wasi::I32Exit;

use super::call_message::{Call, Inbox, MailboxItem, Reply, Work};
use super::clock::{Clock, Metered};
use super::exit::{GuestExit, charge_results, clip, for_callers, for_operator};
use super::guest_id::GuestId;
use super::idle::{IdleSlot, Wakeup};
use super::instance_size::InstanceSize;
use super::output::Stdio;
use super::proxy::{Bundle, Caller, Dropped, Held, PassError, Proxies, ProxyKind, ProxyOwner};
use super::report::{GuestEnd, GuestReport, WindowReport};
use super::state::{self, GuestState};
use super::status::{ExitGuard, GuestStatus, StopReason};
use super::ticker::Ticker;
use super::values;
use tombolo::internal::sys::{StoreId, fault};
use tombolo::{Limits, Recipient};
use tombolo_region::Charge;

/// wasmtime's error if a call lifts more than its fuel.
const OUT_OF_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

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

/// A call that broke its callee, and what is left to do once the callee's store is gone.
pub(super) struct Broken {
    pub(super) error: wasmtime::Error,
    /// The guest's borrowed handles. They go after the store, whose memory has the windows.
    pub(super) borrowed: Option<Held>,
    /// Sends the reason to the caller.
    pub(super) tell: Option<Box<dyn FnOnce(String) + Send>>,
    /// The function that the guest was executing, if any.
    pub(super) function: Option<Arc<str>>,
}

impl Broken {
    /// An error while the guest was executing this.
    pub(super) fn during(function: &str, error: wasmtime::Error) -> Broken {
        Broken {
            error,
            borrowed: None,
            tell: None,
            function: Some(function.into()),
        }
    }
}

impl From<StopReason> for Broken {
    /// The end of a guest that was executing nothing when it was told to end.
    fn from(reason: StopReason) -> Broken {
        Broken {
            error: reason.into(),
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
    /// Returns whether its queue is empty, so that a call made now is the next.
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

    /// Makes a call into the store.
    async fn enter<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let id = StoreId::of(&self.store);
        let result = Metered::new(id, &self.clock, &self.status, call(&mut self.store)).await?;
        // Outside of host calls, for example at the end of a call, wasmtime writes into the
        // guest's memory for it. A violation there is found here.
        self.store.data().regions.check()?;
        Ok(result)
    }

    /// Runs a command until all its output is written. Its deadline holds until then. The
    /// exit code is never `None`.
    pub(super) async fn run(&mut self, instance: Instance, run: &str, stdio: &Stdio) -> Lived {
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
        let broken = |error| Broken::during("wasi:cli/run", error);
        let code = match result {
            Ok((Ok(()),)) => 0,
            Ok((Err(()),)) => 1,
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
        written.map_err(broken)?;
        Ok(Some(code))
    }

    /// Answers calls one at a time, in the order in which they come. At the end, returns the
    /// guest and its inbox with the items that it has not received.
    pub(super) async fn serve(
        self,
        instance: Instance,
        inbox: Inbox,
        slot: &IdleSlot<Box<IdleGuest>, Broken>,
    ) -> (Guest, Inbox, Result<(), Broken>) {
        let mut idle = Box::new(IdleGuest {
            guest: self,
            instance,
            inbox,
        });
        loop {
            let look = |idle: &mut Box<IdleGuest>, context: &mut Context<'_>| {
                if let Err(reason) = idle.guest.status.watch(context) {
                    return Poll::Ready(Err(reason));
                }
                idle.inbox.poll_recv(context).map(Ok)
            };
            let answered;
            (idle, answered) = match slot.wait(idle, look).await {
                Wakeup::Ready(idle, Err(reason)) => (idle, Err(reason.into())),
                Wakeup::Ready(idle, Ok(Some(MailboxItem::Call(call)))) => idle.answer(call).await,
                Wakeup::Ready(mut idle, Ok(Some(MailboxItem::Drop(dropped)))) => {
                    let destroyed = idle.guest.destroy(dropped).await;
                    (idle, destroyed)
                }
                Wakeup::Ready(idle, Ok(Some(MailboxItem::Stop) | None)) => {
                    return (idle.guest, idle.inbox, Ok(()));
                }
                Wakeup::Inline(call) => call.await,
            };
            if answered.is_err() {
                return (idle.guest, idle.inbox, answered);
            }
        }
    }

    /// Destroys a resource of the guest's own that no other guest has any more.
    async fn destroy(&mut self, dropped: Dropped) -> Result<(), Broken> {
        let Dropped { resource, kind } = dropped;
        self.clock.start("call-time", self.limits.call_time);
        let destroyed = self.enter(async |store| resource.resource_drop_async(store).await);
        let destroyed = destroyed.await;
        destroyed.map_err(|error| Broken::during(&kind.destructor(), error))
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
                // Bound again, so that it is dropped before `reply` if this future is: the
                // caller learns of that only when it no longer waits.
                let waiting = waiting;
                let caller = (waiting.from(), &caller);
                let params = (params, charge);
                let (borrowed, called) =
                    self.values(instance, export, params, results, caller).await;
                drop(waiting);
                match called {
                    // A caller that is gone drops the results.
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

    /// Makes a call with any values, and charges the results to the caller, which decides
    /// how long they are kept. After an error, what is still lent has to outlive the store,
    /// and is returned.
    async fn values(
        &mut self,
        instance: Instance,
        export: ComponentExportIndex,
        (params, charge): (Bundle, Charge),
        results: usize,
        (from, caller): (GuestId, &Recipient),
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
            region_id: note.region_id,
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

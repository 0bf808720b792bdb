//! Guests that answer several calls at a time.
//!
//! A guest with async functions is served within wasmtime's event loop for its store, which runs
//! its tasks beside each other. Each call is a task. Its deadline is a [timer](super::timers) of
//! its own. If the guest fails in one task, or one deadline is over, all of it ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, HasSelf, Instance, Val};

use super::bundle::Bundle;
use super::clock::Timer;
use super::exit::charge_results;
use super::guest::{Fault, Guest, run_function};
use super::guests::{AppGuests, Broken, Inbox, Mailbox, Task, TaskPause, TaskServer};
use super::parting;
use super::proxy::{Caller, Dropped, Held, PassError};
use super::state::GuestState;
use super::task_table::TaskEntry;
use super::values;
use super::work::{Charged, GuestWork, Values};
use tombolo_exchange::{GuestId, TaskRequest, TaskTypes, TaskWork};

/// The store of a guest that answers several calls at a time, as each of them uses it.
#[derive(Clone)]
pub(super) struct Tasks {
    /// Used only within the event loop of its store.
    accessor: Arc<Accessor<GuestState>>,
    instance: Instance,
    call_time: Option<Duration>,
}

impl Tasks {
    fn new(
        accessor: &Accessor<GuestState>,
        instance: Instance,
        call_time: Option<Duration>,
    ) -> Tasks {
        let own = accessor.with_getter::<HasSelf<GuestState>>(|state| state);
        Tasks {
            accessor: Arc::new(own),
            instance,
            call_time,
        }
    }
}

impl TaskTypes for AppGuests {
    type Tasks = Tasks;
}

impl TaskWork<AppGuests> for GuestWork {
    fn is_plain(&self) -> bool {
        match self {
            GuestWork::Values(request) => request.is_plain(),
            GuestWork::Typed(_) => true,
        }
    }

    async fn run_beside(
        &mut self,
        tasks: &Tasks,
        caller: GuestId,
        task: Task,
        borrowed: &mut Option<Box<Held>>,
    ) -> Result<(), Fault> {
        match self {
            GuestWork::Values(request) => request.run_beside(tasks, caller, task, borrowed).await,
            GuestWork::Typed(_) => {
                unreachable!("functions of such a guest are linked by dynamic values")
            }
        }
    }
}

impl TaskRequest<AppGuests> for Values {
    fn is_plain(&self) -> bool {
        self.plain
    }

    async fn call_beside(
        &mut self,
        tasks: &Tasks,
        from: GuestId,
        task: Task,
        borrowed: &mut Option<Box<Held>>,
    ) -> Result<Result<Charged<Bundle>, String>, Fault> {
        let function = self.function.clone();
        let during = |error| Fault::during(&function, error);
        let Some((params, _charge)) = self.params.take() else {
            unreachable!("a call is made once");
        };
        let Tasks {
            accessor,
            instance,
            call_time,
        } = tasks;
        let unpacked = accessor.with(|access| params.unpack(access));
        let (params, held) = match unpacked {
            Ok(unpacked) => unpacked,
            Err(PassError::Refused(why)) => return Ok(Err(why)),
            Err(PassError::Fatal(error)) => return Err(during(error)),
        };
        *borrowed = Some(Box::new(held));
        let mut results = vec![Val::Bool(false); self.results];
        let started = accessor.with(|mut access| {
            let mut store = access.as_context_mut();
            let export = instance
                .get_func(&mut store, self.export)
                .ok_or_else(|| wasmtime::Error::msg("the function is missing"))?;
            let call = export.start_call_concurrent(&mut store, &params, &mut results)?;
            let state = store.data_mut();
            let timer = state
                .clock
                .start_timer(call_time.map(|limit| ("call-time", limit)));
            let entry = TaskEntry {
                task,
                timer: Arc::new(timer),
                function: function.clone(),
            };
            let id = call.task();
            state.tasks.insert(id, entry);
            wasmtime::error::Ok((export, call, id))
        });
        let (export, call, id) = started.map_err(during)?;
        let accessor = &**accessor;
        let returned = export.finish_call_concurrent(accessor, call).await;
        returned.map_err(during)?;
        let held = borrowed.take();
        let packed = accessor.with(|mut access| {
            let mut store = access.as_context_mut();
            store.data_mut().tasks.remove(id);
            store.data().regions.check()?;
            let bytes = values::bytes(&results);
            let to = (from, &self.caller);
            let packed = Bundle::pack(&mut store, results, to, Caller::Receives);
            if let Some(held) = held {
                held.end(&mut store)?;
            }
            let guest = store.data().regions.name();
            match packed {
                Ok((bundle, _)) => {
                    let charge = charge_results(&self.caller, guest, bytes);
                    Ok(charge.map(|charge| (bundle, charge)))
                }
                Err(PassError::Fatal(error)) => Err(error),
                Err(PassError::Refused(why)) => Ok(Err(format!(
                    "the results of guest `{guest}` cannot be passed: {why}"
                ))),
            }
        });
        packed.map_err(during)
    }
}

impl Guest {
    /// Answers calls, up to the limit `tasks` at a time, in the order in which they come. Plain
    /// calls are answered one at a time. At the end, returns the guest and its inbox with the
    /// items that it has not received.
    pub(super) async fn serve_tasks(
        mut self,
        instance: Instance,
        inbox: Inbox,
        mailbox: &Mailbox,
    ) -> (Guest, Inbox, Result<(), Broken>) {
        let most = self.limits().tasks as usize;
        let mut server = TaskServer::new(mailbox, inbox, most);
        let call_time = self.limits().call_time.map(|limit| ("call-time", limit));
        self.clock().start_timers(call_time);
        let failed = loop {
            match self.poll_tasks(instance, &mut server).await {
                Ok(TaskPause::Done) => break None,
                Ok(TaskPause::Notice(notice)) => {
                    if let Err(fault) = self.destroy_beside(notice).await {
                        break Some(fault);
                    }
                }
                Err(fault) => break Some(fault),
            }
        };
        let (inbox, served) = server.end(failed);
        (self, inbox, served)
    }

    /// Answers calls until there is something to do that takes the store alone.
    async fn poll_tasks(
        &mut self,
        instance: Instance,
        server: &mut TaskServer,
    ) -> Result<TaskPause, Fault> {
        let call_time = self.limits().call_time;
        let polled = self.enter(async |store| {
            store
                .run_concurrent(async |accessor| {
                    let tasks = Tasks::new(accessor, instance, call_time);
                    poll_fn(|context| {
                        let parted = accessor.with(|mut access| {
                            access.data_mut().parting.watch(context);
                            parting::relinquish(access.data_mut().parting.take(), &mut access)
                        });
                        if let Err(error) = parted {
                            return Poll::Ready(Err(Fault {
                                error,
                                function: None,
                            }));
                        }
                        match server.poll(&tasks, context) {
                            // Work that goes on after its call has returned is not cut off.
                            Poll::Ready(Ok(TaskPause::Done)) => {
                                let idle = accessor.poll_no_interesting_tasks(context);
                                idle.map(|()| Ok(TaskPause::Done))
                            }
                            polled => polled,
                        }
                    })
                    .await
                })
                .await
        });
        match polled.await {
            Ok(polled) => polled,
            Err(error) => Err(Fault {
                error,
                function: self.only_function(),
            }),
        }
    }

    /// Destroys a resource of the guest's own that no other guest has any more.
    async fn destroy_beside(&mut self, notice: Dropped) -> Result<(), Fault> {
        let Dropped { resource, kind } = notice;
        let limit = self.limits().call_time.map(|limit| ("call-time", limit));
        let _timer: Timer = self.clock().start_timer(limit);
        let destroyed = self.enter(async |store| resource.resource_drop_async(store).await);
        let destroyed = destroyed.await;
        destroyed.map_err(|error| Fault::during(&kind.destructor().into(), error))
    }

    /// Calls `run` of a command with async functions, beside its other tasks.
    pub(super) async fn run_tasks(
        &mut self,
        instance: Instance,
        run: &str,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.clock().start_timers(None);
        let limit = self.limits().run_time.map(|limit| ("run-time", limit));
        let timer = Arc::new(self.clock().start_timer(limit));
        let guest = self.id();
        self.enter(async |store| {
            let function = run_function(store, instance, run)?;
            let ran = store.run_concurrent(async |accessor| {
                let call = accessor.with(|mut access| {
                    let mut store = access.as_context_mut();
                    let call = function.start_call_concurrent(&mut store, ())?;
                    let entry = TaskEntry {
                        task: Task::detached(guest),
                        timer,
                        function: run.into(),
                    };
                    store.data_mut().tasks.insert(call.task(), entry);
                    wasmtime::error::Ok(call)
                })?;
                let mut call = std::pin::pin!(function.finish_call_concurrent(accessor, call));
                poll_fn(|context| {
                    accessor.with(|mut access| {
                        access.data_mut().parting.watch(context);
                        parting::relinquish(access.data_mut().parting.take(), &mut access)
                    })?;
                    call.as_mut().poll(context)
                })
                .await
            });
            let (result,) = ran.await??;
            Ok(result)
        })
        .await
    }
}

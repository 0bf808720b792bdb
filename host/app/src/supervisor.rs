//! Supervision: how incarnations of guests are started, and started anew after a failure.
//!
//! A guest fails if it traps, is ended, or exits with a code other than 0. If its
//! [`Restart`] policy says so, it gets a new store with new memory, from the component that is
//! compiled already, on the account that it had. The old store's state is gone, as at any
//! death: its windows poison regions, and its handles are dropped.
//!
//! The order is: the store goes; the lends end; the *next mailbox* takes the place of the old
//! one; and only then do callers learn of the failure. A caller that calls again finds the next
//! incarnation, and waits for it in its mailbox, also during the back-off.
//!
//! The back-off doubles from `delay` to `max-delay`. After `max-restarts` failures in a row the
//! guest has ended. Failures are forgotten if it lived for `healthy-after`. No guest is
//! restarted while the app ends.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wasmtime::Engine;
use wasmtime::component::Instance;

use super::clock::{BUG, Panicked};
use super::exit::GuestExit;
use super::grants::AppGrants;
use super::guest::{Fault, Guest, Lived};
use super::guests::{Broken, Inbox};
use super::incarnation::{Incarnation, RestartDecision};
use super::output::Stdio;
use super::proxy::ProxyKind;
use super::signals::STOP_TIMEOUT;
use super::spec::Restart;
use super::status::{GuestStatus, StopReason};
use super::strand::GuestTask;
use super::table::{GuestEntry, GuestTable};
use super::ticker::Ticker;
use crate::text;
use tombolo::RegionHost;
use tombolo_exchange::GuestId;

/// Learns once whether a guest could be instantiated.
type ReadySender = oneshot::Sender<wasmtime::Result<()>>;

/// Starts the guests of an app, and restarts those that fail.
pub(super) struct Supervisor {
    pub(super) engine: Engine,
    pub(super) host: RegionHost,
    pub(super) table: Arc<GuestTable>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) app: AppGrants,
    /// The resources that guests define, by their numbers.
    pub(super) kinds: Vec<Arc<ProxyKind>>,
}

impl Supervisor {
    /// Waits until all output of the guests is written, unless a destination takes nothing
    /// for [`STOP_TIMEOUT`].
    pub(super) async fn printed(&self) {
        let printed = self.table.iter().map(|entry| async {
            if !entry.template.stdio.drained_within(STOP_TIMEOUT).await {
                let guest = &*entry.peer.name;
                tracing::warn!(guest, "its last output is lost: nobody reads it");
            }
        });
        futures_util::future::join_all(printed).await;
    }

    /// Returns the task of an incarnation, from its start to its end. `ready` learns whether
    /// it could be instantiated.
    pub(super) fn live(
        self: &Arc<Supervisor>,
        incarnation: Incarnation,
        ready: Option<ReadySender>,
    ) -> GuestTask<GuestExit> {
        let supervisor = self.clone();
        Box::pin(async move {
            // Bindings are dropped in reverse order, so the guard goes last.
            let Incarnation {
                exit_guard,
                guest,
                state,
                inbox,
                delay,
            } = incarnation;
            supervisor.wait_to_start(&exit_guard.0, delay).await;
            let born = Instant::now();
            let entry = supervisor.table.entry(guest);
            let lived = async {
                let engine = &supervisor.engine;
                let limits = &entry.template.limits;
                let ticker = supervisor.ticker.clone();
                let running = Guest::new(engine, state, exit_guard, limits, ticker);
                let execution = Execution {
                    supervisor: &supervisor,
                    entry,
                    born,
                };
                execution.run(running, inbox, ready).await
            };
            // For panics outside of the guest's calls. The store is dropped with the future.
            let lived = AssertUnwindSafe(lived).catch_unwind().await;
            lived.unwrap_or_else(|panic| {
                let name = &*entry.peer.name;
                entry
                    .peer
                    .set_exit_reason(format!("guest `{name}` was ended: {BUG}"));
                let mut exit = GuestExit::panicked(guest, name, &Panicked::new(&*panic), born);
                exit.decide(supervisor.decide_restart(guest, exit.lived));
                exit
            })
        })
    }

    /// Waits for `delay`, unless the guest is told to end or the app ends before.
    async fn wait_to_start(&self, status: &GuestStatus, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        tokio::select! {
            // The guest finds the reason when it starts.
            _ = status.stop_reason() => {}
            () = self.app.signals.ending() => {
                status.end(StopReason {
                    reason: "the app ends".into(),
                    app_shutdown: true,
                });
            }
            () = sleep(delay) => {}
        }
    }

    /// Decides whether a guest that failed after it `lived` for this long is restarted, and
    /// if so, prepares its next incarnation. Calls made from now on go to that one.
    pub(super) fn decide_restart(&self, guest: GuestId, lived: Duration) -> RestartDecision {
        let decision = self.next_incarnation(guest, lived);
        if !matches!(decision, RestartDecision::Restart(_)) {
            self.on_exit(guest);
        }
        decision
    }

    /// Notifies the channels that a guest has ended and is not restarted.
    pub(super) fn on_exit(&self, guest: GuestId) {
        self.app.channels.on_exit(guest);
    }

    fn next_incarnation(&self, guest: GuestId, lived: Duration) -> RestartDecision {
        let entry = self.table.entry(guest);
        let name = &*entry.peer.name;
        let Restart::OnFailure(backoff) = &entry.template.spec.restart else {
            return RestartDecision::Never;
        };
        let failures = entry.peer.count_failure(lived >= backoff.healthy_after);
        if failures > backoff.max_restarts {
            tracing::warn!(
                guest = name,
                "failed {failures} times in a row, and is not started again"
            );
            return RestartDecision::Never;
        }
        if self.app.signals.is_ending() {
            return RestartDecision::AppEnding;
        }
        let state = match entry.template.state(&self.host, self.app.of(guest)) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(
                    guest = name,
                    "cannot be started again: {}",
                    text::line(&error)
                );
                return RestartDecision::Never;
            }
        };
        self.app.channels.on_restart(guest);
        let inbox = entry
            .peer
            .new_incarnation(state.recipient(), state.status.clone());
        let delay = backoff.wait(failures);
        RestartDecision::Restart(Box::new(Incarnation::new(guest, state, inbox, delay)))
    }
}

/// The execution of one incarnation of a guest.
struct Execution<'a> {
    supervisor: &'a Supervisor,
    entry: &'a GuestEntry,
    born: Instant,
}

impl Execution<'_> {
    fn name(&self) -> &str {
        &self.entry.peer.name
    }

    fn stdio(&self) -> &Stdio {
        &self.entry.template.stdio
    }

    /// Instantiates the guest, tells `ready` how that went, and runs it: a command until it
    /// returns, another guest until no command runs any more. If it fails, its next
    /// incarnation is prepared before any other guest learns of it.
    async fn run(&self, mut guest: Guest, inbox: Inbox, ready: Option<ReadySender>) -> GuestExit {
        // Dropped when others have learned of the end.
        let mut inbox = Some(inbox);
        if self.entry.template.run.is_some() {
            // Calls would wait until the command has returned, so they are refused at once.
            self.entry.peer.set_exit_reason(format!(
                "guest `{}` is a command, and answers no calls",
                self.name()
            ));
            drop(inbox.take());
        }
        let template = &self.entry.template;
        let instance = guest.instantiate(
            &template.component,
            template.size,
            self.entry.linker(),
            &self.supervisor.kinds,
            self.entry.peer.mailbox(),
        );
        let lived = match (instance.await, ready) {
            (Err(error), Some(ready)) => return self.fail_to_start(guest, error, ready),
            (Err(error), None) => {
                let error = guest.explain(error);
                self.refuse_calls(&guest.refused_growths());
                Err(Broken::new(Fault::during(&"its start".into(), error)))
            }
            (Ok(instance), ready) => {
                if let Some(ready) = ready {
                    let _ = ready.send(Ok(()));
                }
                let lived;
                (guest, inbox, lived) = self.execute(guest, instance, inbox).await;
                lived
            }
        };
        let exit = match lived {
            Ok(code) => self.end_orderly(guest, code, inbox),
            Err(broken) => self.end_broken(guest, broken, inbox),
        };
        self.stdio().end_incarnation();
        exit
    }

    /// Refuses calls to a guest that could not be instantiated.
    fn refuse_calls(&self, refused: &str) {
        self.entry.peer.set_exit_reason(format!(
            "guest `{}` could not be instantiated{refused}",
            self.name()
        ));
    }

    /// Ends a guest that could not be instantiated when the app started.
    fn fail_to_start(&self, guest: Guest, error: wasmtime::Error, ready: ReadySender) -> GuestExit {
        let error = guest.explain(error);
        let refused = guest.refused_growths();
        self.refuse_calls(&refused);
        let error = match refused.is_empty() {
            true => error,
            false => error.context(format!("no memory{refused}")),
        };
        // It may have printed the reason.
        self.stdio().end_incarnation();
        let _ = ready.send(Err(error));
        let exit = guest.exit(self.entry.peer.id, self.born, None, None, None);
        self.supervisor.on_exit(self.entry.peer.id);
        exit
    }

    /// Runs a command, or answers calls. Returns the guest and what is left in its inbox.
    async fn execute(
        &self,
        mut guest: Guest,
        instance: Instance,
        inbox: Option<Inbox>,
    ) -> (Guest, Option<Inbox>, Lived) {
        let Some(run) = self.entry.template.run.as_deref() else {
            let Some(inbox) = inbox else {
                return (guest, None, Ok(None));
            };
            let mailbox = self.entry.peer.mailbox();
            let (guest, inbox, served) = match self.entry.template.tasks {
                true => guest.serve_tasks(instance, inbox, &mailbox).await,
                false => guest.serve(instance, inbox, &mailbox).await,
            };
            return (guest, Some(inbox), served.map(|()| None));
        };
        let stop_reason = guest.stop_reason();
        let lived = tokio::select! {
            biased;
            reason = stop_reason => Err(Broken::new(reason.into())),
            () = self.supervisor.app.signals.begun() => {
                let tasks = self.entry.template.tasks;
                guest.run(instance, run, tasks, self.stdio()).await
            }
        };
        (guest, inbox, lived)
    }

    /// Ends a guest that has returned, or that has no calls to answer any more. Callers whose
    /// calls are left in the inbox find the reason, and the next incarnation if there is one.
    fn end_orderly(&self, mut guest: Guest, code: Option<u8>, inbox: Option<Inbox>) -> GuestExit {
        guest.finish();
        let mut exit = guest.exit(self.entry.peer.id, self.born, code, None, None);
        let reason = format!("guest `{}` has ended", self.name());
        self.entry.peer.set_exit_reason(reason);
        match code {
            Some(0) | None => self.supervisor.on_exit(self.entry.peer.id),
            Some(_) => self.decide_restart(&mut exit),
        }
        drop(inbox);
        exit
    }

    /// Ends a guest that failed, or was told to end, in the order of [`Mailbox::end_broken`].
    ///
    /// [`Mailbox::end_broken`]: tombolo_exchange::Mailbox::end_broken
    fn end_broken(&self, mut guest: Guest, broken: Broken, inbox: Option<Inbox>) -> GuestExit {
        let peer = &self.entry.peer;
        let drop_store = |Fault { error, function }| {
            let stop_reason = error.downcast_ref::<StopReason>().cloned();
            let function = function.as_deref();
            let (failure, told) = guest.failure_texts(self.name(), function, error);
            let exit = guest.exit(peer.id, self.born, None, Some(failure), stop_reason);
            (exit, told)
        };
        let restart = |exit: &mut GuestExit| match exit.app_shutdown {
            true => self.supervisor.on_exit(peer.id),
            false => self.decide_restart(exit),
        };
        peer.mailbox()
            .end_broken(broken, inbox, drop_store, restart)
    }

    fn decide_restart(&self, exit: &mut GuestExit) {
        let decision = self
            .supervisor
            .decide_restart(self.entry.peer.id, exit.lived);
        exit.decide(decision);
    }
}

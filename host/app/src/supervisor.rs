//! Supervision: how incarnations of guests are started, and started anew after a failure.
//!
//! A guest fails if it traps, is ended, or exits with a code other than 0. If its
//! [`Restart`] policy says so, it gets a new store with new memory, from the component that is
//! compiled already, on the account that it had. What it held is gone, as at any death: its
//! windows poison regions, and its handles are dropped.
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
use tokio::time::sleep;
use wasmtime::Engine;

use super::STOP_TIMEOUT;
use super::clock::{BUG, Panicked};
use super::exit::GuestExit;
use super::grants::AppGrants;
use super::guest::{Guest, ReadySender};
use super::guest_id::GuestId;
use super::mailbox::Inbox;
use super::proxy::ProxyKind;
use super::spec::Restart;
use super::state::GuestState;
use super::status::{ExitGuard, GuestStatus, StopReason};
use super::strand::GuestTask;
use super::table::GuestTable;
use super::ticker::Ticker;
use crate::text;
use tombolo::RegionHost;

/// A guest that is about to start, for the first time or again.
pub(super) struct Incarnation {
    pub(super) guest: GuestId,
    pub(super) state: GuestState,
    pub(super) inbox: Inbox,
    /// How long to wait before the start.
    pub(super) delay: Duration,
    /// Declared after the state, so that its memory is gone when the status says so, even if
    /// it never starts.
    pub(super) exit_guard: ExitGuard,
}

impl Incarnation {
    /// Makes an incarnation that starts after `delay`.
    pub(super) fn new(
        guest: GuestId,
        state: GuestState,
        inbox: Inbox,
        delay: Duration,
    ) -> Incarnation {
        Incarnation {
            guest,
            exit_guard: ExitGuard(state.status.clone()),
            state,
            inbox,
            delay,
        }
    }
}

/// Whether a guest that failed is restarted.
pub(super) enum RestartDecision {
    /// It is.
    Restart(Box<Incarnation>),
    /// It would be if the app did not end.
    AppEnding,
    /// It is not.
    Never,
}

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
                let guest = &*entry.name;
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
                running.live(guest, &supervisor, inbox, ready).await
            };
            // For panics outside of the guest's calls. The store is dropped with the future.
            let lived = AssertUnwindSafe(lived).catch_unwind().await;
            lived.unwrap_or_else(|panic| {
                let name = &*entry.name;
                entry.set_exit_reason(format!("guest `{name}` was ended: {BUG}"));
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

    /// Tells the channels that a guest has ended and is not restarted.
    pub(super) fn on_exit(&self, guest: GuestId) {
        self.app.channels.on_exit(guest);
    }

    fn next_incarnation(&self, guest: GuestId, lived: Duration) -> RestartDecision {
        let entry = self.table.entry(guest);
        let name = &*entry.name;
        let Restart::OnFailure(backoff) = &entry.template.spec.restart else {
            return RestartDecision::Never;
        };
        let failures = entry.count_failure(lived >= backoff.healthy_after);
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
        let inbox = entry.new_incarnation(state.recipient(), state.status.clone());
        let delay = backoff.wait(failures);
        RestartDecision::Restart(Box::new(Incarnation::new(guest, state, inbox, delay)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

    use super::*;
    use crate::{App, GuestSpec, Output, StartError};

    /// A command that prints why it cannot start, and traps.
    const GIVES_UP: &str = r#"
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer))
    (export "error" (type $error (eq $outer)))
    (export "output-stream" (type $stream (sub resource)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8))
        (result (result (error $stream-error)))))
  ))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))
  ))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "no license"))
  (core instance $memory (instantiate $memory))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $print (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory"))))
  (core module $code
    (import "" "stdout" (func $stdout (result i32)))
    (import "" "print" (func $print (param i32 i32 i32 i32)))
    (func $start
      (call $print (call $stdout) (i32.const 0) (i32.const 10) (i32.const 64))
      unreachable)
    (start $start)
    (func (export "run") (result i32) i32.const 0)
  )
  (core instance $code (instantiate $code (with "" (instance
    (export "stdout" (func $stdout))
    (export "print" (func $print))
  ))))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run))
)"#;

    /// A slow destination: an app that does not wait for it ends too early.
    struct Slow(mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn output_of_a_failed_start_is_written() {
        let (kept, written) = mpsc::channel();
        let spec = GuestSpec {
            stdout: Some(Output::new(Slow(kept)).named()),
            ..GuestSpec::new("a", wat::parse_str(GIVES_UP).unwrap())
        };
        let started = App::builder().guest(spec).start().await;
        let error = started.expect_err("it traps");
        assert!(
            matches!(&error, StartError::Instantiate { guest, .. } if guest == "a"),
            "{error:?}"
        );
        let written: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8_lossy(&written), "a | no license\n");
    }
}

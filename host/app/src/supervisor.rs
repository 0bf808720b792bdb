//! How the guests of an app are made, and made anew when they fail.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::call::{Calls, Inbox};
use super::clock::{BUG, Panicked};
use super::files::FileThreads;
use super::guest::{Guest, GuestExit, GuestState};
use super::instance_size::InstanceSize;
use super::interfaces::{AppGrants, Grants};
use super::oom::OomKiller;
use super::output::Stdio;
use super::proxy::ProxyKind;
use super::spec::{CommandSpec, GuestSpec, Restart};
use super::status::{ExitGuard, StopReason};
use super::strand::GuestTask;
use super::wasi;
use super::{STOP_TIMEOUT, Ticker};
use crate::text;
use tombolo::Limits;
use tombolo::{RegionHost, Strand};
use tombolo_region::Account;

/// What a guest is made of, each time.
pub(super) struct GuestTemplate {
    pub(super) spec: GuestSpec,
    /// What it gets besides, as the first command.
    pub(super) command: Option<CommandSpec>,
    pub(super) limits: Limits,
    /// The one that it lives in.
    pub(super) strand: Strand,
    pub(super) component: Component,
    /// The host memory of its instances.
    pub(super) size: InstanceSize,
    /// Bytes of host memory for each unit of fuel, at worst, in the values of its
    /// calls.
    pub(super) lift_ratio: u64,
    /// The name of `wasi:cli/run`, if it is a command.
    pub(super) run: Option<String>,
    /// Whether it can hear that the app is to end.
    pub(super) hears: bool,
    /// Its standard streams, of all its lives.
    pub(super) stdio: Stdio,
    /// Runs its file operations, of all its lives.
    pub(super) files: Arc<FileThreads>,
    /// Of all its lives.
    pub(super) account: OnceLock<Arc<Account>>,
}

impl GuestTemplate {
    /// The data of its store. All its lives are on one account: what it queued in
    /// one counts in the next.
    pub(super) fn state(&self, host: &RegionHost, grants: Grants) -> wasmtime::Result<GuestState> {
        let wasi = wasi::context(&self.spec, self.command.as_ref(), &self.stdio)?;
        let regions = host
            .context(self.spec.name.clone())
            .limits(self.limits.clone())
            .account(self.account.get().cloned())
            .run_by_us(&self.strand)
            .build();
        let _ = self.account.set(regions.owner().account.clone());
        let ratio = self.lift_ratio;
        let files = self.files.clone();
        Ok(GuestState::new(
            wasi,
            files,
            regions,
            grants,
            &self.limits,
            ratio,
        ))
    }
}

/// A guest that is to live.
pub(super) struct Incarnation {
    pub(super) index: usize,
    pub(super) state: GuestState,
    pub(super) inbox: Inbox,
    /// How long to wait before it starts.
    pub(super) delay: Duration,
    /// After the state: says that it is gone, also if it never starts.
    pub(super) exit_guard: ExitGuard,
}

/// The fate of a guest that failed.
pub(super) enum RestartDecision {
    /// It is restarted.
    Restart(Box<Incarnation>),
    /// It would be restarted if the app did not end.
    AppEnding,
    /// It is not restarted.
    Never,
}

/// The guests of an app, and how they are made.
pub(super) struct Supervisor {
    pub(super) engine: Engine,
    pub(super) host: RegionHost,
    pub(super) calls: Arc<Calls>,
    pub(super) killer: Arc<OomKiller>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) app: AppGrants,
    pub(super) templates: Vec<GuestTemplate>,
    /// What each is linked to: those that call nobody share one.
    pub(super) linkers: Vec<Arc<Linker<GuestState>>>,
    /// The resources that guests define, by their numbers.
    pub(super) kinds: Vec<Arc<ProxyKind>>,
    /// How often each failed in a row.
    pub(super) failures: Mutex<Vec<u32>>,
}

impl Supervisor {
    /// Waits until everything that the guests printed is written, unless a destination
    /// takes nothing for as long as [`STOP_TIMEOUT`].
    pub(super) async fn printed(&self) {
        let printed = self.templates.iter().map(|template| async {
            if !template.stdio.drained_within(STOP_TIMEOUT).await {
                let guest = &template.spec.name;
                tracing::warn!(guest, "its last output is lost: nobody reads it");
            }
        });
        futures_util::future::join_all(printed).await;
    }

    /// A guest's life, from its start on. How that went is told to `ready`.
    pub(super) fn live(
        self: &Arc<Supervisor>,
        next: Incarnation,
        ready: Option<oneshot::Sender<wasmtime::Result<()>>>,
    ) -> GuestTask<GuestExit> {
        let supervisor = self.clone();
        Box::pin(async move {
            // What is bound first is dropped last.
            let Incarnation {
                exit_guard,
                index,
                state,
                inbox,
                delay,
            } = next;
            if !delay.is_zero() {
                let status = state.status.clone();
                tokio::select! {
                    // The guest hears of it when it is entered.
                    _ = status.stop_reason() => {}
                    () = supervisor.calls.ending() => {
                        status.end(StopReason {
                            reason: "the app ends".into(),
                            app_shutdown: true,
                        });
                    }
                    () = sleep(delay) => {}
                }
            }
            let born = Instant::now();
            let name = &supervisor.templates[index].spec.name;
            let lived = async {
                let limits = &supervisor.templates[index].limits;
                let ticker = supervisor.ticker.clone();
                let guest = Guest::new(&supervisor.engine, state, exit_guard, limits, ticker);
                guest.live(index, supervisor.clone(), inbox, ready).await
            };
            // For panics outside of the guest's calls. The store is dropped with the future.
            let lived = AssertUnwindSafe(lived).catch_unwind().await;
            lived.unwrap_or_else(|panic| {
                supervisor
                    .calls
                    .set_exit_reason(index, format!("guest `{name}` was ended: {BUG}"));
                let mut ended = GuestExit::panicked(index, name, &Panicked::new(&*panic), born);
                ended.then(supervisor.decide_restart(index, ended.lived));
                ended
            })
        })
    }

    /// Prepares the next life of a guest that failed after it had lived for so
    /// long, if it is to have one. Who calls it from now on waits for that.
    pub(super) fn decide_restart(&self, index: usize, lived: Duration) -> RestartDecision {
        let again = self.next_incarnation(index, lived);
        if !matches!(again, RestartDecision::Restart(_)) {
            self.on_exit(index);
        }
        again
    }

    /// A guest has ended, and is not started again.
    pub(super) fn on_exit(&self, index: usize) {
        self.app.channels.on_exit(index);
    }

    fn next_incarnation(&self, index: usize, lived: Duration) -> RestartDecision {
        let template = &self.templates[index];
        let Restart::OnFailure(backoff) = &template.spec.restart else {
            return RestartDecision::Never;
        };
        let failures = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let failures = &mut failures[index];
            if lived >= backoff.healthy_after {
                *failures = 0;
            }
            *failures = failures.saturating_add(1);
            *failures
        };
        if failures > backoff.max_restarts {
            tracing::warn!(
                guest = template.spec.name,
                "failed {failures} times in a row, and is not started again"
            );
            return RestartDecision::Never;
        }
        if self.calls.is_ending() {
            return RestartDecision::AppEnding;
        }
        let state = match template.state(&self.host, self.app.of(index)) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(
                    guest = template.spec.name,
                    "cannot be started again: {}",
                    text::line(&error)
                );
                return RestartDecision::Never;
            }
        };
        self.app.channels.on_restart(index);
        let inbox = self.calls.new_incarnation(index, state.recipient());
        self.killer.on_restart(index, state.status.clone());
        RestartDecision::Restart(Box::new(Incarnation {
            index,
            exit_guard: ExitGuard(state.status.clone()),
            state,
            inbox,
            delay: backoff.wait(failures),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

    use super::*;
    use crate::{App, Output, StartError};

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

    /// Takes its time, so that whoever does not wait for it is too early.
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
    async fn last_words_of_a_guest_that_does_not_start_are_written() {
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

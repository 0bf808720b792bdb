//! The signals that shut the app down: SIGTERM, SIGINT, SIGHUP and SIGXCPU.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::CommandFailure;
use super::resources::THREADS;
use tombolo::internal::sys::signal::{ignore_unless_handled, is_ignored, unblock, unblock_faults};
use tombolo_app::AppHandle;

/// The signals that shut an app down in order. The exit code is 128 plus the signal's number,
/// as a shell reports it.
const SHUTDOWN: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGXCPU];

/// The signals that end the process at once if they come second. The others repeat by
/// themselves: a closing terminal sends SIGHUP twice, and the kernel sends SIGXCPU each second.
const URGENT: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Restores the signals that the parent process has blocked. Must be called before there is
/// another thread.
///
/// A parent that blocks signals does so for itself. Signals that it set to be *ignored* stay
/// ignored, because `nohup` does that on purpose, as does a shell for background jobs.
pub(super) fn unblock_inherited() {
    unblock_faults();
    // Neither is ever refused.
    let _ = unblock(&SHUTDOWN);
    let _ = unblock(&[
        libc::SIGQUIT,
        libc::SIGXFSZ,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGUSR1,
    ]);
    // So that a write beyond RLIMIT_FSIZE fails instead.
    let _ = ignore_unless_handled(libc::SIGXFSZ);
}

/// Waits for signals on a thread of its own, so that they work while all other threads are busy,
/// for example with compiling.
///
/// The first signal shuts the app down in order. The second one, or one before the app starts,
/// ends the process at once. Nothing outlives the process.
pub(super) struct ShutdownSignals(Arc<Mutex<ShutdownState>>);

#[derive(Default)]
struct ShutdownState {
    app: Option<AppHandle>,
    /// The exit code, set by the first signal.
    code: Option<u8>,
}

impl ShutdownSignals {
    /// Starts the thread.
    pub(super) fn listen() -> Result<ShutdownSignals, CommandFailure> {
        let state = Arc::new(Mutex::default());
        spawn(state.clone())
            .context("cannot start the thread that waits for signals")
            .map_err(|error| CommandFailure::new(error).hint(THREADS))?;
        Ok(ShutdownSignals(state))
    }

    /// Makes the next signal shut this app down in order.
    pub(super) fn shut_down(&self, app: AppHandle) {
        lock(&self.0).app = Some(app);
    }

    /// Returns the exit code, if there was a signal.
    pub(super) fn code(&self) -> Option<u8> {
        lock(&self.0).code
    }
}

fn lock(state: &Mutex<ShutdownState>) -> MutexGuard<'_, ShutdownState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(state: Arc<Mutex<ShutdownState>>) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _entered = runtime.enter();
        SHUTDOWN
            .into_iter()
            // The parent asked for that.
            .filter(|number| !is_ignored(*number))
            .map(|number| Ok((number, signal(SignalKind::from_raw(number))?)))
            .collect::<std::io::Result<Vec<_>>>()?
    };
    // Never joined: it waits until the process ends.
    std::thread::Builder::new()
        .name("tombolo-signals".into())
        .spawn(move || serve(&runtime, signals, &state))?;
    Ok(())
}

/// Waits for the next signal.
async fn next(signals: &mut [(libc::c_int, Signal)]) -> libc::c_int {
    let mut each: FuturesUnordered<_> = signals
        .iter_mut()
        .map(|(number, signal)| async {
            signal.recv().await;
            *number
        })
        .collect();
    match each.next().await {
        Some(number) => number,
        // All of them are ignored.
        None => std::future::pending().await,
    }
}

fn serve(runtime: &Runtime, mut signals: Vec<(libc::c_int, Signal)>, state: &Mutex<ShutdownState>) {
    loop {
        let number = runtime.block_on(next(&mut signals));
        let code = u8::try_from(128 + number).expect("there are 64 signals");
        let mut state = lock(state);
        match (state.code, &state.app) {
            (None, Some(app)) => {
                tracing::info!("signal {number}: shutting down");
                app.stop();
                state.code = Some(code);
            }
            (Some(_), _) if !URGENT.contains(&number) => {}
            (first, _) => std::process::exit(first.unwrap_or(code).into()),
        }
    }
}

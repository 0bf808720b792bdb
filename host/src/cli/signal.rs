//! What the program does when it is told to end: SIGTERM and SIGINT.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::app::AppHandle;

/// The exit codes, as a shell reports these signals.
const TERMINATED: u8 = 128 + 15;
const INTERRUPTED: u8 = 128 + 2;

/// Waits for signals, on a thread of its own: they are heeded also while all other
/// threads are busy with something that does not give way, such as compiling.
///
/// The first signal ends the app in order; the second, or one that comes before
/// there is an app, ends the process at once: nothing outlives it.
pub(super) struct Signals(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    app: Option<AppHandle>,
    /// What the first signal makes the exit code.
    code: Option<u8>,
}

impl Signals {
    /// Begins to wait.
    pub(super) fn listen() -> Result<Signals, Failure> {
        let state = Arc::new(Mutex::default());
        spawn(state.clone())
            .context("cannot wait for signals")
            .map_err(Failure::new)?;
        Ok(Signals(state))
    }

    /// From now on a signal ends this app in order.
    pub(super) fn end(&self, app: AppHandle) {
        lock(&self.0).app = Some(app);
    }

    /// The exit code, if there was a signal.
    pub(super) fn code(&self) -> Option<u8> {
        lock(&self.0).code
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    // Never joined: it waits for as long as the process lives.
    std::thread::Builder::new()
        .name("tombolo-signals".into())
        .spawn(move || heed(&runtime, signals, &state))?;
    Ok(())
}

fn heed(runtime: &Runtime, (mut term, mut int): (Signal, Signal), state: &Mutex<State>) {
    loop {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => TERMINATED,
                _ = int.recv() => INTERRUPTED,
            }
        });
        let mut state = lock(state);
        match (state.code, &state.app) {
            (None, Some(app)) => {
                tracing::info!("told to end by a signal");
                app.stop();
                state.code = Some(code);
            }
            (first, _) => std::process::exit(first.unwrap_or(code).into()),
        }
    }
}

//! The signals that end the program: SIGTERM, SIGINT, SIGHUP and SIGXCPU.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::means::THREADS;
use tombolo::internal::sys::signal::{ignore_unless_handled, is_ignored, unblock, unblock_faults};
use tombolo_app::AppHandle;

/// The signals that end an app in order. The exit code is 128 plus the signal's number, as
/// a shell reports it.
const HEARD: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGXCPU];

/// The signals that end the process at once if they come second. The others repeat by
/// themselves: a terminal that goes away hangs up twice, and a process that has used up its
/// time is told each second.
const URGENT: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Makes signals work that the process inherited in a state in which they do not. To be
/// called before there is another thread.
///
/// Signals that the parent had blocked are unblocked: it did not mean this process by that.
/// Signals that the process was started to *ignore* stay ignored: `nohup` does that on
/// purpose, as does a shell for background jobs.
pub(super) fn sanitize() {
    unblock_faults();
    // Neither is ever refused.
    let _ = unblock(&HEARD);
    let _ = unblock(&[
        libc::SIGQUIT,
        libc::SIGXFSZ,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGUSR1,
    ]);
    // A write beyond RLIMIT_FSIZE is to fail instead.
    let _ = ignore_unless_handled(libc::SIGXFSZ);
}

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
            .context("cannot start the thread that waits for signals")
            .map_err(|error| Failure::new(error).hint(THREADS))?;
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
        HEARD
            .into_iter()
            // Asked for by the parent.
            .filter(|number| !is_ignored(*number))
            .map(|number| Ok((number, signal(SignalKind::from_raw(number))?)))
            .collect::<std::io::Result<Vec<_>>>()?
    };
    // Never joined: it waits for as long as the process lives.
    std::thread::Builder::new()
        .name("tombolo-signals".into())
        .spawn(move || heed(&runtime, signals, &state))?;
    Ok(())
}

/// Waits for the next of the signals.
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

fn heed(runtime: &Runtime, mut signals: Vec<(libc::c_int, Signal)>, state: &Mutex<State>) {
    loop {
        let number = runtime.block_on(next(&mut signals));
        let code = u8::try_from(128 + number).expect("there are 64 signals");
        let mut state = lock(state);
        match (state.code, &state.app) {
            (None, Some(app)) => {
                tracing::info!("told to end by signal {number}");
                app.stop();
                state.code = Some(code);
            }
            (Some(_), _) if !URGENT.contains(&number) => {}
            (first, _) => std::process::exit(first.unwrap_or(code).into()),
        }
    }
}

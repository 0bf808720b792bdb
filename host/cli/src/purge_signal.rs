//! SIGUSR1, which makes a running app purge all bytes that no guest pins.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use tombolo_app::AppHandle;

/// Starts to listen for SIGUSR1. Until then, the signal ends the process.
pub(super) fn listen(runtime: &Runtime) -> io::Result<Signal> {
    let _entered = runtime.enter();
    signal(SignalKind::user_defined1())
}

/// Makes the app purge at each signal, until the runtime ends.
pub(super) async fn serve(mut signal: Signal, app: AppHandle) {
    while signal.recv().await.is_some() {
        let purge = {
            let app = app.clone();
            move || {
                let bytes = app.purge();
                tracing::info!(bytes, "purged on SIGUSR1");
            }
        };
        // On a thread of its own, because it takes milliseconds. If no thread can be
        // started, the guests of this thread wait.
        let thread = std::thread::Builder::new().name("tombolo-purge".into());
        if thread.spawn(purge.clone()).is_err() {
            purge();
        }
    }
}

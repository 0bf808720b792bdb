//! The clock tick that interrupts guests.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// How often a running guest is interrupted, to check its deadlines and its windows and to let
/// other guests of its strand run.
const TICK: Duration = Duration::from_millis(10);

/// A thread that advances an engine's epoch, until the last guest that needs it is gone.
pub(super) struct Ticker {
    /// Never sent to: dropping it ends the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Arc<Ticker>> {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = engine.clone();
        let thread = std::thread::Builder::new()
            .name("tombolo-ticker".into())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            })?;
        Ok(Arc::new(Ticker {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! Memory pressure, heeded for an app.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::AppHandle;
use crate::Host;
use crate::pressure::{Level, Monitor, PressureSource};

/// Heeds a source of pressure until it is dropped. When pressure is critical, was
/// so before, and there was nothing left to purge, a guest may be ended: so guests
/// that are told of it have the time from one report to the next to let go of
/// something themselves.
pub(super) struct Relief {
    /// Before the task: it reports to that.
    _monitor: Monitor,
    task: JoinHandle<()>,
}

impl Relief {
    /// To be called on a tokio runtime.
    pub(super) fn start(
        source: Box<dyn PressureSource>,
        host: &Host,
        app: AppHandle,
    ) -> io::Result<Relief> {
        // One guest at a time: what is reported while one is being ended is no
        // reason to end another.
        let (ask, mut asked) = mpsc::channel::<()>(1);
        let before = Mutex::new(Level::Normal);
        let monitor = host.heed(source, move |level, purged| {
            let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
            let again = *before == Level::Critical;
            *before = level;
            if level == Level::Critical && again && purged == 0 {
                let _ = ask.try_send(());
            }
        })?;
        let task = tokio::spawn(async move {
            while asked.recv().await.is_some() {
                // What is asked before a kill is the program's, which may panic. The next
                // report is heeded all the same.
                let relieved = AssertUnwindSafe(app.relieve()).catch_unwind().await;
                if relieved.is_err() {
                    tracing::error!("what was asked before a kill panicked: nobody is ended");
                }
                // Reported before that one's memory was back.
                while asked.try_recv().is_ok() {}
            }
        });
        Ok(Relief {
            _monitor: monitor,
            task,
        })
    }
}

impl Drop for Relief {
    fn drop(&mut self) {
        self.task.abort();
    }
}

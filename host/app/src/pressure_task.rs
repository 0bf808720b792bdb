//! Reactions to memory pressure, for an app.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::handle::AppHandle;
use tombolo::RegionHost;
use tombolo::pressure::{Level, PressureSource};
use tombolo::{MarginKeeper, PressureMonitor};

/// Watches a source of pressure, if there is one, and keeps the host's margin of memory,
/// until it is dropped.
///
/// If pressure is reported as critical twice in a row and there was nothing left to purge,
/// a guest may be ended: so guests that are told of it have the time from one report to
/// the next to let go of something themselves. If half of the margin is used up and there
/// is nothing to purge, one may be ended at once: guests were told when the margin was
/// met, and the kernel would end the process next.
pub(super) struct PressureTask {
    /// Before the task: they report to that.
    _monitor: Option<PressureMonitor>,
    _keeper: MarginKeeper,
    task: JoinHandle<()>,
}

impl PressureTask {
    /// To be called on a tokio runtime.
    pub(super) fn start(
        source: Option<Box<dyn PressureSource>>,
        host: &RegionHost,
        app: AppHandle,
    ) -> io::Result<PressureTask> {
        // One guest at a time: what is reported while one is being ended is no
        // reason to end another.
        let (ask, mut asked) = mpsc::channel::<()>(1);
        let keeper = host.keep_margin({
            let ask = ask.clone();
            move |_| {
                let _ = ask.try_send(());
            }
        })?;
        let monitor = source.map(|source| {
            let before = Mutex::new(Level::Normal);
            host.watch_pressure(source, move |level, purged| {
                let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
                let again = *before == Level::Critical;
                *before = level;
                if level == Level::Critical && again && purged == 0 {
                    let _ = ask.try_send(());
                }
            })
        });
        let monitor = monitor.transpose()?;
        let task = tokio::spawn(async move {
            while asked.recv().await.is_some() {
                // What is asked before a kill is the program's, which may panic. The next
                // report is acted on all the same.
                let killed = AssertUnwindSafe(app.kill_for_memory()).catch_unwind().await;
                if killed.is_err() {
                    tracing::error!("what was asked before a kill panicked: nobody is ended");
                }
                // Reported before that one's memory was back.
                while asked.try_recv().is_ok() {}
            }
        });
        Ok(PressureTask {
            _monitor: monitor,
            _keeper: keeper,
            task,
        })
    }
}

impl Drop for PressureTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

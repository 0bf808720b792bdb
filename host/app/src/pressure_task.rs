//! Memory pressure, handled for an app.

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

/// Watches a source of pressure, if there is one, and keeps the host's margin of memory, until
/// it is dropped.
///
/// A guest may be ended if pressure is critical in two reports in a row and there was nothing
/// left to purge. So guests that are told of the first report can release memory until the
/// second. A guest may be ended at once if half of the margin is used and there is nothing to
/// purge: guests were told when the margin was met, and the kernel would kill the process
/// next.
pub(super) struct PressureTask {
    /// Dropped before the task, to which both report.
    _monitor: Option<PressureMonitor>,
    _keeper: MarginKeeper,
    task: JoinHandle<()>,
}

impl PressureTask {
    /// Starts watching. To be called on a tokio runtime.
    pub(super) fn start(
        source: Option<Box<dyn PressureSource>>,
        host: &RegionHost,
        app: AppHandle,
    ) -> io::Result<PressureTask> {
        // One guest at a time: reports that arrive while one is being ended are no reason to
        // end another.
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
                // The hook belongs to the program and may panic. The next report counts all the
                // same.
                let killed = AssertUnwindSafe(app.kill_for_memory()).catch_unwind().await;
                if killed.is_err() {
                    tracing::error!("the `before_kill` hook panicked, so no guest is ended");
                }
                // Drops the reports from before that guest's memory was freed.
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

//! The locks and notifications of shuttle, whose scheduler decides which thread goes on.

use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
use tokio::sync::futures::Notified;

/// Others may go on here, before something that is a step by itself.
pub(crate) fn step() {
    AtomicBool::new(false).load(SeqCst);
}

/// Tokio's, each use of which is a step.
#[derive(Debug)]
pub(crate) struct Notify(tokio::sync::Notify);

impl Notify {
    pub(crate) fn new() -> Notify {
        Notify(tokio::sync::Notify::new())
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        step();
        self.0.notified()
    }

    pub(crate) fn notify_waiters(&self) {
        step();
        self.0.notify_waiters();
    }
}

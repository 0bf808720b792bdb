//! The signals that all guests of an app share: when commands may begin, and when the app
//! stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long guests have to end once no command runs any more, and how long a destination may
/// take nothing before output is lost.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The start and the end of an app, for every task that waits for one of them.
#[derive(Clone, Debug)]
pub(super) struct AppSignals(Arc<SignalSenders>);

#[derive(Debug)]
struct SignalSenders {
    begun: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

impl AppSignals {
    pub(super) fn new() -> AppSignals {
        AppSignals(Arc::new(SignalSenders {
            begun: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            ending: watch::Sender::new(false),
        }))
    }

    /// Lets the commands start.
    pub(super) fn begin(&self) {
        self.0.begun.send_replace(true);
    }

    /// Waits until the commands may start.
    pub(super) async fn begun(&self) {
        wait(&self.0.begun).await;
    }

    /// Asks the app to stop.
    pub(super) fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Returns whether the app was asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Waits until the app is asked to stop.
    pub(super) async fn stopping(&self) {
        wait(&self.0.stopping).await;
    }

    /// Notes that the app ends: no command runs any more.
    pub(super) fn end(&self) {
        self.0.ending.send_replace(true);
    }

    /// Waits until no command runs any more.
    pub(super) async fn ending(&self) {
        wait(&self.0.ending).await;
    }

    /// Returns whether the app stops or ends. From then on no guest is restarted.
    pub(super) fn is_ending(&self) -> bool {
        *self.0.ending.borrow() || self.is_stopping()
    }
}

async fn wait(signal: &watch::Sender<bool>) {
    // An error would mean that the sender is gone, and it is borrowed.
    let _ = signal.subscribe().wait_for(|set| *set).await;
}

//! The time of a host. By itself, so that a test can put one that it drives in its
//! place.

use std::time::{Duration, Instant};

/// When a host began, from which on its time is counted.
#[derive(Clone, Debug)]
pub(crate) struct Time(Instant);

impl Time {
    pub(crate) fn begin() -> Time {
        Time(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits for something, up to a moment. To be called on a tokio runtime with
    /// time.
    pub(crate) async fn up_to(&self, moment: Duration, what: impl Future<Output = ()>) {
        let left = moment.saturating_sub(self.now());
        let _ = tokio::time::timeout(left, what).await;
    }
}

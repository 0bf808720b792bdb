//! The time of a host. A module of its own, so that the race tests can replace it by a time
//! that they drive.

use std::time::{Duration, Instant};

/// The start of a host, from which its time is counted.
#[derive(Clone, Debug)]
pub(crate) struct Time(Instant);

impl Time {
    pub(crate) fn begin() -> Time {
        Time(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits for something, up to a moment. Must be called on a tokio runtime with time.
    pub(crate) async fn up_to(&self, moment: Duration, what: impl Future<Output = ()>) {
        let left = moment.saturating_sub(self.now());
        let _ = tokio::time::timeout(left, what).await;
    }
}

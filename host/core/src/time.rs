//! The time of a host.

use std::time::{Duration, Instant};

use tombolo_region::Time;

/// The start of a host, from which its time is counted.
#[derive(Clone, Debug)]
pub(crate) struct HostTime(Instant);

impl HostTime {
    pub(crate) fn begin() -> HostTime {
        HostTime(Instant::now())
    }
}

impl Time for HostTime {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits as the trait says. Must be called on a tokio runtime with time.
    async fn up_to(&self, moment: Duration, what: impl Future<Output = ()> + Send) {
        let left = moment.saturating_sub(self.now());
        let _ = tokio::time::timeout(left, what).await;
    }
}

//! Waits for the budget.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};
use tombolo_region::{Exhausted, GRANULE, Span};

use super::{Region, RegionHost};
use crate::error::RegionError;

/// The longest time between two attempts. Memory that is unpinned, or that others free outside of
/// the host, is noticed by then.
const LOOK: Duration = Duration::from_millis(10);

/// The shortest time between two attempts, however often others free memory.
const REST: Duration = Duration::from_millis(1);

/// The queue of those that wait for the budget.
#[derive(Debug, Default)]
pub(super) struct BudgetQueue {
    /// Held by the first one. Tokio hands it over in the order of arrival.
    first: Mutex<()>,
    /// Whether there is a first one.
    waiting: AtomicUsize,
    freed: Notify,
}

/// Counts one that waits, until it is dropped.
struct Waiting<'q>(&'q AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BudgetQueue {
    /// Lets the first one try again.
    pub(super) fn note_freed(&self) {
        // A waiter counts itself before it locks the budget, which was locked before this.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }
}

impl RegionHost {
    /// Creates a region as [`create`](RegionHost::create) does, but waits while the budget or the
    /// margin has no room. Those that wait take turns in the order of their arrival, so that a
    /// large region is not passed by small ones. `create` and guests do not queue, and may take
    /// memory before it. Waits without limit, so use `tokio::time::timeout`. Each attempt may purge
    /// on this thread, which takes about 0.2 s for each GiB.
    ///
    /// Memory that becomes free is noticed within 2 ms, and memory that others unpin within 10 ms.
    ///
    /// Dropping the future leaves the queue, and creates nothing.
    ///
    /// # Errors
    ///
    /// As `create`, and at once, for all limits but the budget and the margin.
    /// [`RegionError::Exhausted`] for the budget only if the region is larger than all of it.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with time.
    pub async fn create_when_free(&self, name: &str, size: u64) -> Result<Region, RegionError> {
        let queue = self.queue();
        let _first = queue.first.lock().await;
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&queue.waiting);
        loop {
            let begun = Instant::now();
            // Before the attempt, so that nothing is missed in between.
            let mut freed = pin!(queue.freed.notified());
            freed.as_mut().enable();
            match self.create(name, size) {
                Err(RegionError::Exhausted(exhausted)) if self.passes(&exhausted, size) => {}
                created => return created,
            }
            let _ = timeout(LOOK, freed).await;
            if let Some(rest) = REST.checked_sub(begun.elapsed()) {
                sleep(rest).await;
            }
        }
    }

    /// Returns whether a refusal may pass by itself.
    fn passes(&self, exhausted: &Exhausted, size: u64) -> bool {
        let granules = Span::whole(size).length() / GRANULE;
        match exhausted.limit {
            "budget" => granules.saturating_mul(GRANULE) <= self.budget().budget,
            "margin" => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

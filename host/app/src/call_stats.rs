//! How often guests called each other, how long it took, and how many bytes were copied.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::report::CallReport;
use tombolo_exchange::GuestId;

/// Durations that are kept for each function, for the median.
const SAMPLES: usize = 1024;

/// A function of one guest, as another guest calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallEdge {
    pub(super) caller: GuestId,
    pub(super) callee: GuestId,
    /// With its interface.
    pub(super) function: Arc<str>,
}

/// The counters of all links of an app.
///
/// Each link has a counter of its own, so that calls share no lock.
#[derive(Debug, Default)]
pub(super) struct CallStats(Mutex<Vec<(CallEdge, Arc<CallCounter>)>>);

/// Counts the calls over one link.
#[derive(Debug, Default)]
pub(super) struct CallCounter(Mutex<CallCounts>);

#[derive(Clone, Debug, Default)]
struct CallCounts {
    calls: u64,
    total: Duration,
    samples: Vec<Duration>,
    /// The bytes of strings and lists.
    bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallCounter {
    /// Counts a call that took this long.
    #[inline]
    pub(super) fn add_call(&self, took: Duration) {
        let mut counts = lock(&self.0);
        counts.calls += 1;
        counts.total += took;
        if counts.samples.len() < SAMPLES {
            counts.samples.push(took);
        }
    }

    /// Counts bytes that were copied from one guest to the other.
    pub(super) fn add_copied(&self, bytes: u64) {
        lock(&self.0).bytes += bytes;
    }
}

impl CallStats {
    /// Adds a link and returns its counter.
    pub(super) fn add(&self, edge: CallEdge) -> Arc<CallCounter> {
        let counter = Arc::<CallCounter>::default();
        lock(&self.0).push((edge, counter.clone()));
        counter
    }

    /// Returns the bytes of strings and lists that were copied between guests.
    pub(super) fn bytes_copied(&self) -> u64 {
        let links = lock(&self.0);
        links
            .iter()
            .map(|(_, counter)| lock(&counter.0).bytes)
            .sum()
    }

    /// Returns one report for each function that was called.
    pub(super) fn report<'a>(&self, name: impl Fn(GuestId) -> &'a str) -> Vec<CallReport> {
        // A guest may import an interface in several versions, so edges can repeat.
        let mut edges: BTreeMap<CallEdge, CallCounts> = BTreeMap::new();
        for (edge, counter) in &*lock(&self.0) {
            let CallCounts {
                calls,
                total,
                samples,
                bytes,
            } = lock(&counter.0).clone();
            if calls > 0 {
                let sum = edges.entry(edge.clone()).or_default();
                sum.calls += calls;
                sum.total += total;
                sum.samples.extend(samples);
                sum.bytes += bytes;
            }
        }
        let report = |(edge, mut counts): (CallEdge, CallCounts)| {
            counts.samples.sort_unstable();
            let median = counts.samples.get(counts.samples.len() / 2);
            CallReport {
                caller: name(edge.caller).to_owned(),
                callee: name(edge.callee).to_owned(),
                function: edge.function.to_string(),
                count: counts.calls,
                total: counts.total,
                median: median.copied().unwrap_or_default(),
            }
        };
        edges.into_iter().map(report).collect()
    }
}

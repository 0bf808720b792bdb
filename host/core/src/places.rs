//! Places in the queues of regions, shared by the tasks of a guest.
//!
//! A claim, or a lend of it, has one place in the queue of its region. Two waits through it would
//! take the place from each other again and again. So the waits of async functions take turns:
//! each has the place for [`SHARE`] at a time. A wait that may last is never waited for without
//! limit, because it may be for a window that the next one in line holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tombolo_region::{ClaimId, LendId};

use crate::host::Region;
use crate::identity::RegionId;

/// The time for which a wait has a place that others want too.
pub(crate) const SHARE: Duration = Duration::from_millis(100);

/// The holder of a place: a claim on a region, or a lend of it.
type Key = (RegionId, ClaimId, Option<LendId>);

/// The line of waits for one place. Tokio hands the lock over in the order of arrival.
type Line = Arc<tokio::sync::Mutex<()>>;

/// The places for which tasks of a guest wait. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedPlaces(Arc<Mutex<BTreeMap<Key, Line>>>);

impl SharedPlaces {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<Key, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those that want the place of a handle.
    pub(crate) fn join(&self, region: &Region) -> Candidate {
        let handle = region.handle();
        let key = (region.id(), handle.claim(), handle.lend());
        let line = self.lines().entry(key).or_default().clone();
        Candidate {
            places: self.clone(),
            key,
            line,
        }
    }
}

/// A wait that wants a place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Candidate {
    places: SharedPlaces,
    key: Key,
    line: Line,
}

/// The right to use a place.
pub(crate) type PlaceHolder = OwnedMutexGuard<()>;

impl Candidate {
    /// Waits for the right to use the place. Dropping the future leaves the line.
    pub(crate) async fn hold(&self) -> PlaceHolder {
        self.line.clone().lock_owned().await
    }

    /// Returns whether others want the place too, while this one has it.
    pub(crate) fn is_contended(&self) -> bool {
        // The map, this candidate, and its holder.
        Arc::strong_count(&self.line) > 3
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let mut lines = self.places.lines();
        // The map and this candidate: others would have clones, which are made under the lock.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::host::RegionHost;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    // rule 9
    #[test]
    fn lines_are_forgotten_with_their_waits() {
        let host = RegionHost::new();
        let places = SharedPlaces::default();
        let region = host.create("r", 1).unwrap();
        let (one, other) = (places.join(&region), places.join(&region));
        let held = poll(pin!(one.hold())).expect("nobody has it");
        assert!(one.is_contended());
        {
            let mut waiting = pin!(other.hold());
            assert!(poll(waiting.as_mut()).is_none());
        }
        drop(other);
        assert!(!one.is_contended());
        drop(held);
        drop(one);
        assert!(places.lines().is_empty());
    }

    // rule 11
    #[test]
    fn place_goes_to_the_next_in_line() {
        let host = RegionHost::new();
        let places = SharedPlaces::default();
        let region = host.create("r", 1).unwrap();
        let waits = [0, 1, 2].map(|_| places.join(&region));
        let [mut one, mut two, mut three] = waits.each_ref().map(|it| Box::pin(it.hold()));
        let held = poll(one.as_mut()).expect("nobody has it");
        assert!(poll(two.as_mut()).is_none() && poll(three.as_mut()).is_none());
        drop(held);
        assert!(poll(three.as_mut()).is_none(), "it came later");
        let held = poll(two.as_mut()).expect("it is the next");
        drop(held);
        assert!(poll(three.as_mut()).is_some());
    }

    #[test]
    fn claims_have_places_of_their_own() {
        let host = RegionHost::new();
        let places = SharedPlaces::default();
        let region = host.create("r", 1).unwrap();
        let other = region.duplicate(region.rights()).unwrap();
        let (one, two) = (places.join(&region), places.join(&other));
        let held = poll(pin!(one.hold()));
        assert!(held.is_some() && poll(pin!(two.hold())).is_some());
    }
}

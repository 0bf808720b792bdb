//! Which windows this guest has, by claim: those that show something.
//!
//! A lend sets the lender's windows of that claim aside, and the receiver may
//! then write under them. Generated bindings lend through a plain `&Region`,
//! which no borrow ties to the windows, so [`Region`](crate::Region) looks here
//! before it gives its handle away.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A claim, as far as this guest can tell claims apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Made here, by `create` or `duplicate`.
    Made(u64),
    /// Received, with the region's id. Two lent handles may stand for one
    /// claim, and nothing tells; so all that was received for one region is
    /// taken for one claim, which errs on the safe side.
    Received(u64),
}

impl Claim {
    /// A claim that was just made.
    pub(crate) fn made() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Made(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many windows, by access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub read: u32,
    pub write: u32,
}

impl Count {
    pub(crate) const NONE: Self = Self { read: 0, write: 0 };
    pub(crate) const READ: Self = Self { read: 1, write: 0 };
    pub(crate) const WRITE: Self = Self { read: 0, write: 1 };

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            write: self.write + other.write,
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            read: self.read - other.read,
            write: self.write - other.write,
        }
    }
}

/// The windows of one claim.
#[derive(Default)]
struct Windows {
    count: Count,
    /// What each covers of the region, in bytes.
    ranges: Vec<Range<u64>>,
}

static SHOWN: Mutex<BTreeMap<Claim, Windows>> = Mutex::new(BTreeMap::new());

fn shown() -> MutexGuard<'static, BTreeMap<Claim, Windows>> {
    // Nothing panics between two related changes, so a poisoned map is whole.
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this guest has no window at all.
pub(crate) fn is_empty() -> bool {
    shown().is_empty()
}

/// The windows of a claim.
pub(crate) fn count(claim: Claim) -> Count {
    let shown = shown();
    let windows = shown.get(&claim);
    windows.map(|windows| windows.count).unwrap_or_default()
}

/// Whether a window of the claim covers any of a range of the region.
pub(crate) fn shows(claim: Claim, range: &Range<u64>) -> bool {
    shown().get(&claim).is_some_and(|windows| {
        let mut ranges = windows.ranges.iter();
        ranges.any(|it| it.start < range.end && range.start < it.end)
    })
}

/// Enters a window.
pub(crate) fn enter(claim: Claim, window: Count, range: &Range<u64>) {
    let mut shown = shown();
    let windows = shown.entry(claim).or_default();
    windows.count = windows.count.plus(window);
    windows.ranges.push(range.clone());
}

/// Strikes a window out that was entered.
pub(crate) fn strike(claim: Claim, window: Count, range: &Range<u64>) {
    let mut shown = shown();
    if let Some(windows) = shown.get_mut(&claim) {
        windows.count = windows.count.minus(window);
        if let Some(at) = windows.ranges.iter().position(|it| it == range) {
            windows.ranges.swap_remove(at);
        }
        if windows.ranges.is_empty() {
            shown.remove(&claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_count_by_claim_until_struck_out() {
        let (one, other) = (Claim::made(), Claim::made());
        assert_ne!(one, other);

        enter(one, Count::READ, &(0..65536));
        enter(one, Count::READ, &(0..131_072));
        enter(one, Count::WRITE, &(131_072..196_608));
        assert!(shows(one, &(65536..131_072)) && shows(one, &(0..u64::MAX)));
        assert!(!shows(one, &(196_608..u64::MAX)) && !shows(other, &(0..u64::MAX)));
        assert_eq!(count(one), Count { read: 2, write: 1 });
        assert_eq!(count(other), Count::default());

        strike(one, Count::READ, &(0..131_072));
        strike(one, Count::WRITE, &(131_072..196_608));
        assert_eq!(count(one), Count::READ);
        assert!(shows(one, &(0..65536)) && !shows(one, &(65536..u64::MAX)));

        strike(one, Count::READ, &(0..65536));
        assert_eq!(count(one), Count::default());
        assert!(!shown().contains_key(&one));
    }

    #[test]
    fn what_was_received_for_one_region_is_one_claim() {
        enter(Claim::Received(7), Count::WRITE, &(0..1));
        assert_eq!(count(Claim::Received(7)), Count::WRITE);
        assert_eq!(count(Claim::Received(8)), Count::default());
        strike(Claim::Received(7), Count::WRITE, &(0..1));
    }
}

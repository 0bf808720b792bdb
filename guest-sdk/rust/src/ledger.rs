//! The windows that this guest has.
//!
//! Two questions are answered from here. *May a region be lent?* A lend sets the
//! lender's windows of that claim aside, and the callee may then write under them.
//! Generated bindings lend through a plain `&Region`, which no borrow ties to the
//! windows. *Would a wait be a deadlock?* A guest runs on one thread, so a window of its
//! own never goes away while it waits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bindings::windows::Access;

/// A claim, as far as this guest can tell claims apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Made by this guest, with `create` or `duplicate`.
    Made(u64),
    /// Received, with the id of the region. Two received handles may belong to one
    /// claim, and the guest cannot tell. So all handles that were received for one
    /// region are treated as one claim, which is the safe choice.
    Received(u64),
}

impl Claim {
    /// Returns a claim that was just made.
    pub(crate) fn made() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Made(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The number of windows that slices can exist of, by access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCount {
    pub read: u32,
    pub write: u32,
}

impl WindowCount {
    /// Returns the count of one window. Live windows have no slices.
    pub(crate) const fn of(access: Access) -> Self {
        let (read, write) = match access {
            Access::Read => (1, 0),
            Access::Write => (0, 1),
            Access::LiveRead | Access::LiveWrite => (0, 0),
        };
        Self { read, write }
    }

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

/// A window, as other requests meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowRecord {
    /// The bytes of the region that it covers, in whole granules.
    pub(crate) range: Range<u64>,
    pub(crate) access: Access,
    /// Whether it shows the region. An unpinned window does not, and keeps its lock.
    pub(crate) visible: bool,
}

impl WindowRecord {
    fn count(&self) -> WindowCount {
        match self.visible {
            true => WindowCount::of(self.access),
            false => WindowCount::default(),
        }
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        self.range.start < range.end && range.start < self.range.end
    }
}

/// The windows of one claim.
struct ClaimWindows {
    /// The id of the region.
    region: u64,
    count: WindowCount,
    /// The windows, with their numbers.
    records: Vec<(u64, WindowRecord)>,
}

/// The windows of a claim that a lend within this guest sets aside: those that were mapped
/// before it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aside {
    claim: Claim,
    before: u64,
}

impl Aside {
    /// Returns the windows of a claim that exist now.
    pub(crate) fn of(claim: Claim) -> Self {
        Self {
            claim,
            before: next_number(),
        }
    }
}

/// Returns a number for a window, or for a moment between two windows.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

static WINDOWS: Mutex<BTreeMap<Claim, ClaimWindows>> = Mutex::new(BTreeMap::new());

fn windows() -> MutexGuard<'static, BTreeMap<Claim, ClaimWindows>> {
    // No panic separates two related changes, so a poisoned map is consistent.
    WINDOWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether this guest has no window at all.
pub(crate) fn is_empty() -> bool {
    windows().is_empty()
}

/// Returns the number of windows of a claim.
pub(crate) fn count(claim: Claim) -> WindowCount {
    let windows = windows();
    windows.get(&claim).map(|it| it.count).unwrap_or_default()
}

/// Returns whether a window of the claim shows any of these bytes of the region.
pub(crate) fn shows(claim: Claim, range: &Range<u64>) -> bool {
    windows().get(&claim).is_some_and(|windows| {
        let mut records = windows.records.iter();
        records.any(|(_, it)| it.visible && it.overlaps(range))
    })
}

/// Returns a window of this guest, of any claim, that conflicts with a window of this
/// access on these bytes of the region, unless it is set aside.
pub(crate) fn conflict(
    region: u64,
    range: &Range<u64>,
    access: Access,
    aside: &[Aside],
) -> Option<WindowRecord> {
    let windows = windows();
    let claims = windows.iter().filter(|(_, it)| it.region == region);
    let mut records =
        claims.flat_map(|(claim, it)| it.records.iter().map(|(number, it)| (*claim, *number, it)));
    let is_aside = |claim, number| {
        let mut aside = aside.iter();
        aside.any(|it| it.claim == claim && number < it.before)
    };
    // Live windows are compatible between guests, and never within one.
    let compatible = |it: &WindowRecord| (it.access, access) == (Access::Read, Access::Read);
    records
        .find(|(claim, number, it)| {
            it.overlaps(range) && !compatible(it) && !is_aside(*claim, *number)
        })
        .map(|(.., it)| it.clone())
}

/// A window's entry in the ledger, which lasts until it is dropped.
pub(crate) struct Entry {
    claim: Claim,
    region: u64,
    number: u64,
    record: WindowRecord,
}

impl Entry {
    /// Enters a visible window on these bytes of the region with this id.
    pub(crate) fn new(claim: Claim, region: u64, range: Range<u64>, access: Access) -> Self {
        let record = WindowRecord {
            range,
            access,
            visible: true,
        };
        let number = next_number();
        add(claim, region, number, record.clone());
        Self {
            claim,
            region,
            number,
            record,
        }
    }

    pub(crate) fn claim(&self) -> Claim {
        self.claim
    }

    pub(crate) fn range(&self) -> &Range<u64> {
        &self.record.range
    }

    pub(crate) fn set_access(&mut self, access: Access) {
        self.change(|record| record.access = access);
    }

    pub(crate) fn set_visible(&mut self, visible: bool) {
        self.change(|record| record.visible = visible);
    }

    fn change(&mut self, change: impl FnOnce(&mut WindowRecord)) {
        remove(self.claim, self.number);
        change(&mut self.record);
        add(self.claim, self.region, self.number, self.record.clone());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        remove(self.claim, self.number);
    }
}

fn add(claim: Claim, region: u64, number: u64, record: WindowRecord) {
    let mut windows = windows();
    let windows = windows.entry(claim).or_insert(ClaimWindows {
        region,
        count: WindowCount::default(),
        records: Vec::new(),
    });
    windows.count = windows.count.plus(record.count());
    windows.records.push((number, record));
}

fn remove(claim: Claim, number: u64) {
    let mut windows = windows();
    if let Some(of_claim) = windows.get_mut(&claim) {
        let mut records = of_claim.records.iter();
        if let Some(at) = records.position(|(it, _)| *it == number) {
            let (_, record) = of_claim.records.swap_remove(at);
            of_claim.count = of_claim.count.minus(record.count());
        }
        if of_claim.records.is_empty() {
            windows.remove(&claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::granule::GRANULE;

    fn enter(claim: Claim, region: u64, granules: Range<u64>, access: Access) -> Entry {
        Entry::new(claim, region, bytes(granules), access)
    }

    fn bytes(granules: Range<u64>) -> Range<u64> {
        granules.start * GRANULE..granules.end * GRANULE
    }

    #[test]
    fn windows_count_by_claim_until_dropped() {
        let (one, other) = (Claim::made(), Claim::made());
        assert_ne!(one, other);

        let first = enter(one, 1, 0..1, Access::Read);
        let second = enter(one, 1, 0..2, Access::Read);
        let third = enter(one, 1, 2..3, Access::Write);
        assert!(shows(one, &bytes(1..2)) && shows(one, &(0..u64::MAX)));
        assert!(!shows(one, &bytes(3..9)) && !shows(other, &(0..u64::MAX)));
        assert_eq!(count(one), WindowCount { read: 2, write: 1 });
        assert_eq!(count(other), WindowCount::default());

        drop((second, third));
        assert_eq!(count(one), WindowCount { read: 1, write: 0 });
        assert!(shows(one, &bytes(0..1)) && !shows(one, &bytes(1..9)));

        drop(first);
        assert_eq!(count(one), WindowCount::default());
        assert!(!windows().contains_key(&one));
    }

    #[test]
    fn received_handles_of_one_region_share_a_claim() {
        let _entry = enter(Claim::Received(7), 7, 0..1, Access::Write);
        assert_eq!(count(Claim::Received(7)).write, 1);
        assert_eq!(count(Claim::Received(8)).write, 0);
    }

    #[test]
    fn unpinned_window_keeps_its_lock_only() {
        let claim = Claim::made();
        let mut entry = enter(claim, 21, 0..1, Access::Write);
        entry.set_visible(false);
        assert_eq!(count(claim), WindowCount::default());
        assert!(!shows(claim, &bytes(0..1)));
        let found = conflict(21, &bytes(0..1), Access::Read, &[]).unwrap();
        assert!(!found.visible);
        entry.set_visible(true);
        assert_eq!(count(claim).write, 1);
    }

    #[test]
    fn live_window_has_no_slices() {
        let claim = Claim::made();
        let mut entry = enter(claim, 22, 0..1, Access::LiveWrite);
        assert_eq!(count(claim), WindowCount::default());
        assert!(shows(claim, &bytes(0..1)));
        entry.set_access(Access::Read);
        assert_eq!(count(claim).read, 1);
    }

    #[test]
    fn conflict_spans_claims_of_one_region() {
        const ALL: [Access; 4] = [
            Access::Read,
            Access::Write,
            Access::LiveRead,
            Access::LiveWrite,
        ];
        for held in ALL {
            let entry = enter(Claim::made(), 23, 1..3, held);
            for wanted in ALL {
                let conflicts = |region, granules| {
                    let found = conflict(region, &bytes(granules), wanted, &[]);
                    found.is_some_and(|it| it.access == held)
                };
                let compatible = held == Access::Read && wanted == Access::Read;
                assert_eq!(conflicts(23, 2..4), !compatible, "{held:?} {wanted:?}");
                assert!(!conflicts(23, 0..1) && !conflicts(23, 3..4));
                assert!(!conflicts(24, 2..4), "another region");
            }
            drop(entry);
            assert_eq!(conflict(23, &bytes(0..9), Access::Write, &[]), None);
        }
    }

    #[test]
    fn window_that_a_lend_sets_aside_is_no_conflict() {
        let (claim, other) = (Claim::made(), Claim::made());
        let mut first = enter(claim, 25, 0..1, Access::Write);
        let aside = [Aside::of(other), Aside::of(claim)];
        let found = |granules| conflict(25, &bytes(granules), Access::Write, &aside);
        assert_eq!(found(0..9), None);
        // It is the same window after a change.
        first.set_access(Access::Read);
        assert_eq!(found(0..9), None);
        let _later = enter(claim, 25, 1..2, Access::Read);
        assert!(found(0..1).is_none() && found(1..2).is_some());
        let _of_other = enter(other, 25, 0..1, Access::Read);
        assert!(found(0..1).is_some());
    }
}

//! The granules of a region by the claims that pin them.
//!
//! # What a claim knows of losses
//!
//! Each claim has a map of the runs of granules that it does not pin. With each run it notes
//! the number of purges of the region up to which the claim knows whether its bytes were lost.
//! The region has a map of the number of the last purge of each granule. A granule is lost for
//! a claim if that number is larger than the claim's. So a purge changes nothing in the claims,
//! however many there are. A claim is told once, because pinning removes the run from its map.
//!
//! Both are interval maps, which join equal neighbours. The limit `unpinned-spans` bounds how
//! many runs the claims of a guest may leave.
//!
//! # States of a granule
//!
//! ```text
//!          pinned by a claim ----- the last one unpins ----> idle (committed)
//!               ^      ^                                      |        |
//!               |      +----------- a claim pins -------------+        | purge
//!               |                                                      v
//!               +--- a claim pins, and the budget has room --- not committed
//! ```
//!
//! A range is purged in part if that is enough, and not whole as in Ashmem. The rest goes
//! next. If a claim never pinned some bytes, and other claims had them committed and they were
//! purged, it is told that they are lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rangemap::{RangeMap, RangeSet};

use crate::budget::{Budget, CommitCharge, Idle, PurgeRequest};
use crate::span::Span;

/// The state of a claim's unpinned bytes when it pins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// No byte was lost.
    Intact,
    /// Some bytes were purged since the claim was last told, and read as zeros.
    Lost,
}

/// The runs of granules that one claim does not pin. Each has the number of purges of the region
/// up to which the claim knows of losses.
pub(super) type Unpinned = RangeMap<u64, u64>;

/// The pinned, idle and purged granules of a region.
///
/// Granules are committed while they are pinned, idle or being purged. The region's
/// [`CommitCharge`] covers the pinned and the idle ones.
#[derive(Debug)]
pub(super) struct Pins {
    granules: u64,
    budget: Arc<Budget>,
    commit: CommitCharge,
    claims: u32,
    /// The number of claims that do not pin a granule, if there are any. So the cost of a
    /// claim depends on the granules that it does not pin, not on those of other claims.
    unpinned: RangeMap<u64, u32>,
    /// The inverse of `unpinned`.
    by_count: BTreeMap<u32, RangeSet<u64>>,
    /// The granules that are kept as if a claim pinned them, with the number of holds.
    held: RangeMap<u64, u32>,
    /// The number of granules that a claim pins or that are held.
    pinned_granules: u64,
    /// The granules that nobody pins and that are not purged yet, with the stamp of the last
    /// unpinning.
    idle: RangeMap<u64, u64>,
    /// The inverse of `idle`.
    by_age: BTreeMap<u64, RangeSet<u64>>,
    idle_granules: u64,
    /// The granules that are going back to the kernel at the moment.
    purging: RangeSet<u64>,
    /// The granules that a thread is committing at the moment, to pin them.
    paying: RangeSet<u64>,
    /// The number of the last purge of each granule.
    lost: RangeMap<u64, u64>,
    /// The number of purges so far.
    purges: u64,
    purged_granules: u64,
}

/// A hold on granules, which are not purged while the budget makes room for others.
#[derive(Debug)]
#[must_use = "the granules are held until the hold is released"]
pub(super) struct PurgeHold {
    /// The granules that are held.
    ranges: Vec<Range<u64>>,
    /// The granules for which the budget makes room.
    paying: Vec<Range<u64>>,
    /// The held granules that were idle, with their stamps.
    idle: Vec<(Range<u64>, u64)>,
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn clip(range: &Range<u64>, to: &Range<u64>) -> Range<u64> {
    range.start.max(to.start)..range.end.min(to.end)
}

/// Returns the parts of a map in a range.
fn parts<V: Copy + Eq>(map: &RangeMap<u64, V>, range: &Range<u64>) -> Vec<(Range<u64>, V)> {
    map.overlapping(range)
        .map(|(part, value)| (clip(part, range), *value))
        .collect()
}

impl Pins {
    /// Creates granules that nobody pins and that are not committed.
    pub(super) fn new(granules: u64, budget: &Arc<Budget>) -> Pins {
        Pins {
            granules,
            budget: budget.clone(),
            commit: CommitCharge::none(budget),
            claims: 0,
            unpinned: RangeMap::new(),
            by_count: BTreeMap::new(),
            held: RangeMap::new(),
            pinned_granules: 0,
            idle: RangeMap::new(),
            by_age: BTreeMap::new(),
            idle_granules: 0,
            purging: RangeSet::new(),
            paying: RangeSet::new(),
            lost: RangeMap::new(),
            purges: 0,
            purged_granules: 0,
        }
    }

    pub(super) fn whole(&self) -> Range<u64> {
        0..self.granules
    }

    pub(super) fn purges(&self) -> u64 {
        self.purges
    }

    pub(super) fn pinned_granules(&self) -> u64 {
        self.pinned_granules
    }

    pub(super) fn purged_granules(&self) -> u64 {
        self.purged_granules
    }

    pub(super) fn committed(&self) -> u64 {
        self.commit.granules()
    }

    /// Returns an empty charge to the region's budget.
    pub(super) fn free(&self) -> CommitCharge {
        CommitCharge::none(&self.budget)
    }

    /// Returns the granules that can be purged, if the region can be purged in part.
    #[inline]
    pub(super) fn idle(&self) -> Idle {
        Idle {
            granules: self.idle_granules,
            oldest: self.by_age.keys().next().copied().unwrap_or(0),
        }
    }

    /// Returns the granules that can be purged, if the region is purged whole or not at all.
    /// It counts as unpinned since its last part was.
    #[inline]
    pub(super) fn idle_whole(&self) -> Idle {
        match self.by_age.keys().next_back() {
            Some(newest) if self.idle_granules == self.granules => Idle {
                granules: self.granules,
                oldest: *newest,
            },
            _ => Idle::default(),
        }
    }

    /// Returns whether any granule of a range is being purged.
    pub(super) fn is_purging(&self, range: &Range<u64>) -> bool {
        self.purging.overlaps(range)
    }

    /// Returns whether any granule of a range is being purged or paid for.
    pub(super) fn is_busy(&self, range: &Range<u64>) -> bool {
        self.is_purging(range) || self.paying.overlaps(range)
    }

    /// Returns how many granules must be committed to pin all of a range.
    pub(super) fn unpaid(&self, range: &Range<u64>) -> u64 {
        self.unpaid_in(range).iter().map(length).sum()
    }

    fn unpaid_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let unused = self.unused(range);
        unused.iter().flat_map(|gap| self.idle.gaps(gap)).collect()
    }

    /// Returns the parts of a range that no claim pins and no hold keeps.
    fn unused(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        if self.claims == 0 {
            return self.held.gaps(range).collect();
        }
        let Some(unpinned) = self.by_count.get(&self.claims) else {
            return Vec::new();
        };
        let unpinned = unpinned.overlapping(range).map(|part| clip(part, range));
        let unpinned: Vec<_> = unpinned.collect();
        unpinned
            .iter()
            .flat_map(|part| self.held.gaps(part))
            .collect()
    }

    /// Changes the number of claims that do not pin a range by one: up if `more`, else down.
    fn count_unpinned(&mut self, range: &Range<u64>, more: bool) {
        let mut parts = parts(&self.unpinned, range);
        if more {
            parts.extend(self.unpinned.gaps(range).map(|gap| (gap, 0)));
        }
        for (part, before) in parts {
            if let Some(of) = self.by_count.get_mut(&before) {
                of.remove(part.clone());
                if of.is_empty() {
                    self.by_count.remove(&before);
                }
            }
            let count = if more { before + 1 } else { before - 1 };
            if count > 0 {
                self.unpinned.insert(part.clone(), count);
                self.by_count.entry(count).or_default().insert(part);
            } else {
                self.unpinned.remove(part);
            }
        }
    }

    /// Adds to the region's charge. An excess over what `range` needs is returned.
    pub(super) fn pay(&mut self, range: &Range<u64>, mut commit: CommitCharge) {
        let unpaid = self.unpaid(range);
        debug_assert!(commit.granules() >= unpaid, "pinned granules are paid for");
        self.commit.merge(commit.split(unpaid));
    }

    /// Notes a new claim: the first one, or one that pins nothing that no other does.
    pub(super) fn add_claim(&mut self, unpinned: &Unpinned) {
        self.claims += 1;
        for (run, _) in unpinned.iter() {
            self.count_unpinned(run, true);
        }
        if self.claims == 1 {
            let unpinned: u64 = unpinned.iter().map(|(run, _)| length(run)).sum();
            self.pinned_granules = self.granules - unpinned;
        }
    }

    /// Notes that a claim has ended, and others are left. Granules that nobody pins any
    /// more become idle.
    pub(super) fn remove_claim(&mut self, unpinned: &Unpinned) {
        self.claims -= 1;
        let by_others = self.by_count.get(&self.claims);
        let only_by_it = by_others.into_iter().flat_map(|runs| runs.iter());
        let only_by_it: Vec<_> = only_by_it.flat_map(|run| unpinned.gaps(run)).collect();
        for (run, _) in unpinned.iter() {
            self.count_unpinned(run, false);
        }
        for run in only_by_it {
            self.release(&run);
        }
    }

    /// Notes that one more claim pins all of a range, which is paid for.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.acquire(range);
        self.count_unpinned(range, false);
    }

    /// Notes that one claim less pins all of a range. Granules that nobody pins any more become
    /// idle.
    pub(super) fn sub(&mut self, range: &Range<u64>) {
        self.count_unpinned(range, true);
        self.release(range);
    }

    /// Notes that all of a range is about to be pinned or held.
    fn acquire(&mut self, range: &Range<u64>) {
        self.take_idle(range);
        self.pinned_granules += self.unused(range).iter().map(length).sum::<u64>();
    }

    /// Notes that a pin or hold of all of a range has ended. Granules that nobody needs any
    /// more become idle.
    fn release(&mut self, range: &Range<u64>) {
        let stamp = self.budget.stamp();
        for part in self.unused(range) {
            self.pinned_granules -= length(&part);
            self.put_idle(part, stamp);
        }
    }

    fn put_idle(&mut self, range: Range<u64>, stamp: u64) {
        self.idle_granules += length(&range);
        self.idle.insert(range.clone(), stamp);
        self.by_age.entry(stamp).or_default().insert(range);
    }

    fn take_idle(&mut self, range: &Range<u64>) -> Vec<(Range<u64>, u64)> {
        let taken = parts(&self.idle, range);
        for (part, stamp) in &taken {
            self.idle_granules -= length(part);
            let age = self
                .by_age
                .get_mut(stamp)
                .expect("both maps have the same granules");
            age.remove(part.clone());
            if age.is_empty() {
                self.by_age.remove(stamp);
            }
        }
        if !taken.is_empty() {
            self.idle.remove(range.clone());
        }
        taken
    }

    /// Keeps the committed granules of a range from being purged, and the rest from being
    /// paid for twice.
    pub(super) fn hold(&mut self, range: &Range<u64>) -> PurgeHold {
        let idle = parts(&self.idle, range);
        let paying = self.unpaid_in(range);
        let unpaid: RangeSet<u64> = paying.iter().cloned().collect();
        let ranges: Vec<_> = unpaid.gaps(range).collect();
        for range in &ranges {
            self.acquire(range);
            for (part, before) in parts(&self.held, range) {
                self.held.insert(part, before + 1);
            }
            for gap in self.held.gaps(range).collect::<Vec<_>>() {
                self.held.insert(gap, 1);
            }
        }
        self.paying.extend(paying.iter().cloned());
        PurgeHold {
            ranges,
            paying,
            idle,
        }
    }

    /// Ends a hold. Granules that were idle before keep their stamps.
    pub(super) fn release_hold(&mut self, held: PurgeHold) {
        for range in held.paying {
            self.paying.remove(range);
        }
        for range in &held.ranges {
            for (part, before) in parts(&self.held, range) {
                match before {
                    1 => self.held.remove(part),
                    _ => self.held.insert(part, before - 1),
                }
            }
            self.release(range);
        }
        for (range, stamp) in held.idle {
            for (part, _) in self.take_idle(&range) {
                self.put_idle(part, stamp);
            }
        }
    }

    /// Takes the granules that are purged next, with their charge. They cannot be pinned until
    /// [`purged`](Pins::purged) is called.
    pub(super) fn begin_purge(
        &mut self,
        request: PurgeRequest,
        whole: bool,
    ) -> (Vec<Range<u64>>, CommitCharge) {
        let mut ranges = Vec::new();
        let mut most = match whole {
            true => self.granules,
            false => request.most,
        };
        while most > 0 {
            let oldest = self.by_age.iter().next();
            let Some((stamp, range)) = oldest.and_then(|(stamp, of)| Some((*stamp, of.first()?)))
            else {
                break;
            };
            if stamp > request.until && !whole {
                break;
            }
            let range = range.start..range.end.min(range.start + most);
            most -= length(&range);
            self.take_idle(&range);
            self.purging.insert(range.clone());
            ranges.push(range);
        }
        let taken = ranges.iter().map(length).sum();
        (ranges, self.commit.split(taken))
    }

    /// Notes that the kernel has these granules back.
    pub(super) fn purged(&mut self, ranges: &[Range<u64>]) {
        self.purges += 1;
        for range in ranges {
            self.purging.remove(range.clone());
            self.lost.insert(range.clone(), self.purges);
            self.purged_granules += length(range);
        }
    }

    /// Returns whether any granule of a run was purged after the number of purges that a claim
    /// knows of.
    pub(super) fn is_lost(&self, range: &Range<u64>, known: u64) -> bool {
        self.lost
            .overlapping(range)
            .any(|(_, purge)| *purge > known)
    }

    /// Returns the region's charge, after the last claim has ended.
    pub(super) fn clear(&mut self) -> CommitCharge {
        let budget = self.budget.clone();
        let all = std::mem::replace(self, Pins::new(self.granules, &budget));
        self.purged_granules = all.purged_granules;
        all.commit
    }
}

/// Returns the runs in a range that a claim pins.
pub(super) fn pinned_in(unpinned: &Unpinned, range: &Range<u64>) -> Vec<Range<u64>> {
    unpinned.gaps(range).collect()
}

/// Returns the runs in a range that a claim does not pin, with the number of purges it knows.
pub(super) fn unpinned_in(unpinned: &Unpinned, range: &Range<u64>) -> Vec<(Range<u64>, u64)> {
    parts(unpinned, range)
}

/// Returns the span of a run of granules.
pub(super) fn span(range: &Range<u64>) -> Span {
    Span::of_granules(range.clone())
}

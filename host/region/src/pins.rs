use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rangemap::{RangeMap, RangeSet};

use super::Span;
use super::budget::{Budget, CommitCharge, Idle, PurgeRequest};

/// What became of the bytes that a claim had unpinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// They are as they were left.
    Intact,
    /// Some of them were purged since the claim was last told, and read as zeros.
    Lost,
}

/// What one claim does not pin: a run of granules, and the number of purges of
/// the region up to which the claim knows what became of them.
///
/// Whether something was lost follows from that and from the number of the last
/// purge of each granule. So a purge has nothing to note in the claims, however
/// many there are, and each of them is told once.
pub(super) type Unpinned = RangeMap<u64, u64>;

/// The granules of a region, and who needs them.
///
/// ```text
///            pinned by a claim ----- the last one unpins ----> idle (committed)
///                 ^      ^                                      |        |
///                 |      +----------- a claim pins -------------+        | purge
///                 |                                                      v
///                 +--- a claim pins, and the budget has room --- not committed
/// ```
///
/// Committed is what somebody pins, what is idle, and what is being purged; the
/// region's [`CommitCharge`] is as large as the first two.
#[derive(Debug)]
pub(super) struct Pins {
    granules: u64,
    budget: Arc<Budget>,
    commit: CommitCharge,
    claims: u32,
    /// The number of claims that do not pin a granule, if there are any. So the cost of a
    /// claim depends on the granules that it does not pin, and not on those of others.
    unpinned: RangeMap<u64, u32>,
    /// The same the other way around.
    by_count: BTreeMap<u32, RangeSet<u64>>,
    /// The granules that are kept as if a claim pinned them, and how often.
    held: RangeMap<u64, u32>,
    /// What is pinned by a claim or held.
    pinned_granules: u64,
    /// What nobody pins and was not purged, by when the last claim unpinned it.
    idle: RangeMap<u64, u64>,
    /// The same the other way around.
    by_age: BTreeMap<u64, RangeSet<u64>>,
    idle_granules: u64,
    /// What is being given back to the kernel at this moment.
    purging: RangeSet<u64>,
    /// What somebody takes from the budget at this moment, to pin it.
    paying: RangeSet<u64>,
    /// The number of the last purge of each granule.
    lost: RangeMap<u64, u64>,
    /// How many purges there were.
    purges: u64,
    purged_granules: u64,
}

/// Granules that are kept from being purged while the budget makes room for
/// others beside them, what is needed to have them as they were, and the others.
#[derive(Debug)]
#[must_use]
pub(super) struct PurgeHold {
    ranges: Vec<Range<u64>>,
    paying: Vec<Range<u64>>,
    idle: Vec<(Range<u64>, u64)>,
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn clip(range: &Range<u64>, to: &Range<u64>) -> Range<u64> {
    range.start.max(to.start)..range.end.min(to.end)
}

/// The parts of a map in a range.
fn parts<V: Copy + Eq>(map: &RangeMap<u64, V>, range: &Range<u64>) -> Vec<(Range<u64>, V)> {
    map.overlapping(range)
        .map(|(part, value)| (clip(part, range), *value))
        .collect()
}

impl Pins {
    /// Granules that nobody pins and nothing was paid for.
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

    /// What costs nothing.
    pub(super) fn free(&self) -> CommitCharge {
        CommitCharge::none(&self.budget)
    }

    /// What could be purged of a region of which any part can.
    pub(super) fn idle(&self) -> Idle {
        Idle {
            granules: self.idle_granules,
            oldest: self.by_age.keys().next().copied().unwrap_or(0),
        }
    }

    /// What could be purged of a region that goes whole or not at all: then it
    /// was unpinned when the last part of it was.
    pub(super) fn idle_whole(&self) -> Idle {
        match self.by_age.keys().next_back() {
            Some(newest) if self.idle_granules == self.granules => Idle {
                granules: self.granules,
                oldest: *newest,
            },
            _ => Idle::default(),
        }
    }

    /// Tells whether any of this is being purged at this moment.
    pub(super) fn is_purging(&self, range: &Range<u64>) -> bool {
        self.purging.overlaps(range)
    }

    /// Tells whether any of this is being purged or paid for at this moment.
    pub(super) fn is_busy(&self, range: &Range<u64>) -> bool {
        self.is_purging(range) || self.paying.overlaps(range)
    }

    /// How many granules would have to be paid for to pin all of this.
    pub(super) fn unpaid(&self, range: &Range<u64>) -> u64 {
        self.unpaid_in(range).iter().map(length).sum()
    }

    fn unpaid_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let unneeded = self.unneeded(range);
        unneeded
            .iter()
            .flat_map(|gap| self.idle.gaps(gap))
            .collect()
    }

    /// Returns the parts of a range that no claim pins and nobody holds.
    fn unneeded(&self, range: &Range<u64>) -> Vec<Range<u64>> {
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

    /// Changes the number of claims that do not pin a range by one: up with `more`.
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

    /// Adds to what is paid for. What is more than `range` needs is given back.
    pub(super) fn pay(&mut self, range: &Range<u64>, mut commit: CommitCharge) {
        let unpaid = self.unpaid(range);
        debug_assert!(commit.granules() >= unpaid, "what is pinned is paid for");
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
            self.rest(&run);
        }
    }

    /// Notes that one more claim pins all of this, which is paid for.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.need(range);
        self.count_unpinned(range, false);
    }

    /// One claim less pins all of this. What nobody pins any more is idle.
    pub(super) fn sub(&mut self, range: &Range<u64>) {
        self.count_unpinned(range, true);
        self.rest(range);
    }

    /// Notes that all of this is about to be pinned or held.
    fn need(&mut self, range: &Range<u64>) {
        self.take_idle(range);
        self.pinned_granules += self.unneeded(range).iter().map(length).sum::<u64>();
    }

    /// Notes that a pin or hold of all of this has ended. Granules that nobody needs any more
    /// become idle.
    fn rest(&mut self, range: &Range<u64>) {
        let stamp = self.budget.stamp();
        for part in self.unneeded(range) {
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
            let age = self.by_age.get_mut(stamp).expect("two views of the same");
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

    /// Keeps what is paid for in a range from being purged, and the rest from being
    /// paid for by others too.
    pub(super) fn hold(&mut self, range: &Range<u64>) -> PurgeHold {
        let idle = parts(&self.idle, range);
        let paying = self.unpaid_in(range);
        let unpaid: RangeSet<u64> = paying.iter().cloned().collect();
        let ranges: Vec<_> = unpaid.gaps(range).collect();
        for range in &ranges {
            self.need(range);
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

    /// Ends a hold. What was idle before keeps its place in the order.
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
            self.rest(range);
        }
        for (range, stamp) in held.idle {
            for (part, _) in self.take_idle(&range) {
                self.put_idle(part, stamp);
            }
        }
    }

    /// Takes what is to be purged when it is the region's turn, with what was
    /// paid for it. Nothing of it can be pinned until [`purged`](Pins::purged).
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

    /// The kernel has these granules back.
    pub(super) fn purged(&mut self, ranges: &[Range<u64>]) {
        self.purges += 1;
        for range in ranges {
            self.purging.remove(range.clone());
            self.lost.insert(range.clone(), self.purges);
            self.purged_granules += length(range);
        }
    }

    /// Tells whether anything in a run was purged after the claim that had it
    /// unpinned was last told.
    pub(super) fn is_lost(&self, range: &Range<u64>, known: u64) -> bool {
        self.lost
            .overlapping(range)
            .any(|(_, purge)| *purge > known)
    }

    /// Nobody has a claim any more: gives back what was paid for.
    pub(super) fn clear(&mut self) -> CommitCharge {
        let budget = self.budget.clone();
        let all = std::mem::replace(self, Pins::new(self.granules, &budget));
        self.purged_granules = all.purged_granules;
        all.commit
    }
}

/// The runs in a range that a claim pins.
pub(super) fn pinned_in(unpinned: &Unpinned, range: &Range<u64>) -> Vec<Range<u64>> {
    unpinned.gaps(range).collect()
}

/// The runs in a range that a claim does not pin, and what it knows of them.
pub(super) fn unpinned_in(unpinned: &Unpinned, range: &Range<u64>) -> Vec<(Range<u64>, u64)> {
    parts(unpinned, range)
}

/// The span of a run of granules.
pub(super) fn span(range: &Range<u64>) -> Span {
    Span::of_granules(range.clone())
}

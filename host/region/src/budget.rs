//! The budget: the memory that all regions of a host may commit.
//!
//! # Order of locks
//!
//! Locks are taken in the order ledger, budget. No thread holds the locks of two ledgers. No
//! lock is held while memory goes back to the kernel.
//!
//! # Over budget
//!
//! While the host is over its budget, nothing that can be purged stays. A thread that releases
//! a ledger with more idle bytes than before, because a claim unpinned or ended, purges the
//! excess. It does so in the same call, after it released the lock.
//!
//! # Spare memory
//!
//! Memory of ended regions may be kept for later ones. It is not committed, and never stands in
//! the way: committed and spare memory together keep to the budget. A commit gives up what is
//! too much, before anything is purged or refused.
//!
//! # Duplicates
//!
//! A duplicate is never refused for the budget: it pins what its source pins, and that is
//! already charged. The account of its guest may refuse it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use crate::account::Exhausted;
use crate::span::GRANULE;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The granules that are purged in one step: 16 MiB. The kernel needs some milliseconds for
/// them, and a claim that pins them meanwhile waits for that long.
const STEP: u64 = 256;

/// The number of a region, by which its budget knows it. The layer above chooses it, and gives
/// each region of a budget another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionNumber(u64);

impl RegionNumber {
    /// Returns the number as a type of its own.
    #[must_use]
    pub const fn new(number: u64) -> RegionNumber {
        RegionNumber(number)
    }
}

/// A region whose memory the budget can purge.
pub trait Purgeable: Send + Sync {
    /// Purges granules that nobody pins, the least recently unpinned first. Returns their
    /// charge, which is [empty](CommitCharge::none) if there is nothing to purge.
    ///
    /// Other threads may wait for this call, so it must not commit memory itself.
    fn purge(&self, request: PurgeRequest) -> CommitCharge;
}

/// A second check before memory is committed, in addition to the budget.
pub trait AdmissionControl: Send + Sync {
    /// Admits a commit of so many granules, or refuses it. May purge and may block.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] if there is no memory for them.
    fn admit(&self, granules: u64) -> Result<(), Exhausted>;

    /// Called once for each admitted commit, after the budget charged or refused it.
    fn settled(&self, granules: u64);

    /// Frees at least so many granules of [spare](SpareCharge) memory, or all there are. May block
    /// while they go back to the kernel.
    fn give_up_spare(&self, _granules: u64) {}

    /// Called when committed memory has become free, or the budget larger. The lock of a region
    /// may be held.
    fn freed(&self) {}
}

/// Granules that an [`AdmissionControl`] admitted, until this is dropped.
struct Admitted<'r>(&'r dyn AdmissionControl, u64);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.settled(self.1);
    }
}

/// The amount that the budget asks a region to purge.
#[derive(Clone, Copy, Debug)]
pub struct PurgeRequest {
    /// The maximum number of granules. A frozen region is purged whole all the same.
    pub(super) most: u64,
    /// The last stamp to purge: granules that were unpinned later stay.
    pub(super) until: u64,
}

/// The memory that all regions of a host may commit, and have committed.
///
/// It counts each region once, in granules of 64 KiB. If a commit would exceed the budget, it
/// first purges unpinned memory: the least recently unpinned first, and only as much as
/// needed. If that is not enough, the commit is refused.
pub struct Budget {
    state: Mutex<BudgetState>,
    /// Signals that purged memory has become free.
    freed: Condvar,
    /// The stamp of the next unpinning, by which they are ordered.
    clock: AtomicU64,
    admission: OnceLock<Box<dyn AdmissionControl>>,
}

#[derive(Default)]
struct BudgetState {
    most: u64,
    used: u64,
    peak: u64,
    /// Granules that can be purged, over all regions.
    purgeable: u64,
    /// The part of `used` that is going back to the kernel.
    freeing: u64,
    /// Granules that commits wait for, and for which there is room.
    promised: u64,
    /// Granules that no region has, and that are kept for later ones. Not a part of `used`.
    spare: u64,
    regions: BTreeMap<RegionNumber, RegionEntry>,
    /// The regions that can be purged, by their oldest stamp.
    order: BTreeSet<(u64, RegionNumber)>,
    purges: u64,
    purged: u64,
}

struct RegionEntry {
    region: Weak<dyn Purgeable>,
    idle: Idle,
}

/// The granules of a region that can be purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Their number.
    pub granules: u64,
    /// The stamp of the least recently unpinned one; 0 if there are none.
    pub oldest: u64,
}

/// The state of a budget, and what it did so far. In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUsage {
    /// The memory that all regions may commit.
    pub budget: u64,
    /// The memory that they have committed: pinned, or unpinned and not purged yet.
    pub committed: u64,
    /// The maximum of `committed` so far.
    pub committed_peak: u64,
    /// The committed memory that nobody pins, so that it can be purged.
    pub purgeable: u64,
    /// The number of times that a region was purged, in part or whole.
    pub purges: u64,
    /// The memory that was purged so far.
    pub purged: u64,
    /// The memory of ended regions that is kept for later ones. It is not committed. It is
    /// given up before a commit would exceed the budget together with it.
    pub spare: u64,
}

impl Budget {
    /// Creates a budget of so many bytes, rounded down to granules.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget {
            state: Mutex::new(BudgetState {
                most: bytes / GRANULE,
                ..BudgetState::default()
            }),
            freed: Condvar::new(),
            clock: AtomicU64::new(0),
            admission: OnceLock::new(),
        })
    }

    /// Sets a check that each commit must pass in addition to the budget. Only the first call
    /// has an effect.
    pub fn set_admission_control(&self, admission: impl AdmissionControl + 'static) {
        let _ = self.admission.set(Box::new(admission));
    }

    fn state(&self) -> MutexGuard<'_, BudgetState> {
        // Nothing panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a stamp for granules that are unpinned now. It is larger than all before it.
    pub(super) fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a region, which the budget purges from now on when it needs memory.
    pub fn register(&self, number: RegionNumber, region: Weak<dyn Purgeable>) {
        let idle = Idle::default();
        self.state()
            .regions
            .insert(number, RegionEntry { region, idle });
    }

    /// Removes a region. Its charge is returned separately, by dropping it.
    pub fn unregister(&self, number: RegionNumber) {
        let mut state = self.state();
        state.note(number, Idle::default());
        state.regions.remove(&number);
    }

    /// Notes how much of a region can be purged. The caller holds the lock of the region.
    /// Returns whether the caller must [enforce](Budget::enforce) the budget after releasing
    /// that lock, because memory over budget can be purged.
    #[must_use]
    pub(super) fn note(&self, number: RegionNumber, idle: Idle) -> bool {
        let mut state = self.state();
        state.note(number, idle);
        state.over() > 0 && state.purgeable > 0
    }

    /// Purges memory until the budget is kept or nothing can be purged. The caller must not
    /// hold the lock of a region.
    pub(super) fn enforce(&self) {
        loop {
            let state = self.state();
            let over = state.over();
            if over == 0 || state.order.is_empty() {
                return;
            }
            drop(state);
            self.purge_some(over);
        }
    }

    /// Returns the state of the budget.
    #[must_use]
    pub fn usage(&self) -> BudgetUsage {
        let state = self.state();
        BudgetUsage {
            budget: state.most.saturating_mul(GRANULE),
            committed: state.used * GRANULE,
            committed_peak: state.peak * GRANULE,
            purgeable: state.purgeable * GRANULE,
            purges: state.purges,
            purged: state.purged * GRANULE,
            spare: state.spare * GRANULE,
        }
    }

    /// Commits so many granules and returns their charge. Purges unpinned memory if needed.
    ///
    /// This blocks while memory goes back to the kernel, a few milliseconds for each 16 MiB.
    /// It counts on memory that other threads are purging and waits for it. So it is not
    /// refused if there is room beside earlier commits. Spare memory is given up first. The
    /// caller must not hold the lock of a region.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] if too little memory is free or can be purged, or if the
    /// [admission control](Budget::set_admission_control) refuses. Nothing was purged then,
    /// unless other threads used free memory meanwhile.
    pub fn commit(self: &Arc<Budget>, granules: u64) -> Result<CommitCharge, Exhausted> {
        let mut state = self.state();
        if granules > state.room() {
            return Err(state.exhausted(granules));
        }
        // Dropped when the budget has decided.
        let mut _admitted = None;
        if let Some(admission) = self.admission.get().filter(|_| granules > 0) {
            drop(state);
            admission.admit(granules)?;
            _admitted = Some(Admitted(&**admission, granules));
            state = self.state();
            if granules > state.room() {
                return Err(state.exhausted(granules));
            }
        }
        state.promised += granules;
        let spare = state.excess_spare(granules);
        if spare > 0 {
            drop(state);
            self.give_up_spare(spare);
            state = self.state();
        }
        loop {
            let missing = state.missing(granules);
            if missing == 0 {
                state.promised -= granules;
                return Ok(self.charge(&mut state, granules));
            }
            // Part of it may be going back to the kernel already, beside what others wait for.
            let for_all = state.missing(state.promised).saturating_sub(state.freeing);
            let most = missing.min(for_all);
            if most > 0 && state.purgeable > 0 {
                drop(state);
                self.purge_some(most);
                state = self.state();
            } else if state.freeing > 0 {
                state = (self.freed.wait(state)).unwrap_or_else(PoisonError::into_inner);
            } else {
                // A claim pinned memory again that this commit counted on.
                state.promised -= granules;
                return Err(state.exhausted(granules));
            }
        }
    }

    fn give_up_spare(&self, granules: u64) {
        if let Some(admission) = self.admission.get().filter(|_| granules > 0) {
            admission.give_up_spare(granules);
        }
    }

    fn note_freed(&self) {
        if let Some(admission) = self.admission.get() {
            admission.freed();
        }
    }

    fn charge(self: &Arc<Budget>, state: &mut BudgetState, granules: u64) -> CommitCharge {
        state.used += granules;
        state.peak = state.peak.max(state.used);
        CommitCharge {
            budget: self.clone(),
            granules,
            freeing: false,
        }
    }

    /// Purges at least `granules`, the least recently unpinned first, or all that there are.
    /// Returns how many were purged. It can be more, because frozen regions are purged whole.
    ///
    /// This blocks while memory goes back to the kernel. The caller must not hold the lock of a
    /// region.
    pub fn purge(self: &Arc<Budget>, granules: u64) -> u64 {
        let mut purged = 0;
        while purged < granules {
            let some = self.purge_some(granules - purged);
            if some == 0 && self.state().order.is_empty() {
                break;
            }
            purged += some;
        }
        purged
    }

    /// Changes the budget to so many bytes, rounded down to granules, and purges the excess.
    /// Returns how many granules are still over budget because they are pinned. Nothing more
    /// is committed until they are purged, which happens as soon as nobody pins them.
    ///
    /// This blocks as [`purge`](Budget::purge) does.
    pub fn resize(&self, bytes: u64) -> u64 {
        let mut state = self.state();
        state.most = bytes / GRANULE;
        let spare = state.excess_spare(0);
        drop(state);
        self.give_up_spare(spare);
        self.enforce();
        self.note_freed();
        self.state().over()
    }

    /// Purges at most so many granules of the region with the oldest stamp. Returns how many
    /// were purged.
    fn purge_some(&self, most: u64) -> u64 {
        let mut state = self.state();
        let mut order = state.order.iter();
        let first = order.next().map(|(_, number)| *number);
        // The next region's oldest granule comes before younger ones of this region.
        let until = order.next().map_or(u64::MAX, |(stamp, _)| *stamp);
        let region = first.and_then(|number| {
            let region = state.regions.get(&number)?.region.upgrade();
            if region.is_none() {
                state.note(number, Idle::default());
            }
            region
        });
        drop(state);
        match region {
            Some(region) => {
                let most = most.min(STEP);
                region.purge(PurgeRequest { most, until }).granules
            }
            None => 0,
        }
    }

    /// Notes how much of a region can still be purged after `taken` was taken from it. That
    /// becomes free when it is dropped. The caller holds the lock of the region.
    pub(super) fn begin_purge(&self, number: RegionNumber, idle: Idle, taken: &mut CommitCharge) {
        let mut state = self.state();
        state.note(number, idle);
        taken.freeing = true;
        state.freeing += taken.granules;
        state.purges += 1;
        state.purged += taken.granules;
    }
}

impl BudgetState {
    /// Returns how much can be committed beside what other commits wait for.
    fn room(&self) -> u64 {
        let there = self.most.saturating_add(self.purgeable + self.freeing);
        there.saturating_sub(self.used + self.promised)
    }

    /// Returns how much must become free before so much can be committed. This includes memory
    /// that is over budget because the budget was reduced.
    fn missing(&self, granules: u64) -> u64 {
        self.used.saturating_add(granules).saturating_sub(self.most)
    }

    /// Returns how much spare memory must go before so much is committed beside what others
    /// wait for.
    fn excess_spare(&self, granules: u64) -> u64 {
        let all = self.used.saturating_add(granules.max(self.promised));
        let all = all.saturating_add(self.spare);
        all.saturating_sub(self.most).min(self.spare)
    }

    /// Returns how much is over budget, beside memory that is going back to the kernel.
    fn over(&self) -> u64 {
        self.used.saturating_sub(self.most + self.freeing)
    }

    fn note(&mut self, number: RegionNumber, idle: Idle) {
        let Some(entry) = self.regions.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut entry.idle, idle);
        if before.granules > 0 {
            self.order.remove(&(before.oldest, number));
        }
        if idle.granules > 0 {
            self.order.insert((idle.oldest, number));
        }
        self.purgeable = self.purgeable - before.granules + idle.granules;
    }

    fn exhausted(&self, asked: u64) -> Exhausted {
        Exhausted {
            owner: "the host".into(),
            limit: "budget",
            used: self.used.saturating_mul(GRANULE),
            asked: asked.saturating_mul(GRANULE),
            most: self.most.saturating_mul(GRANULE),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

/// Granules charged to the budget, returned when this is dropped.
#[must_use = "dropping a charge returns it to the budget"]
pub struct CommitCharge {
    budget: Arc<Budget>,
    granules: u64,
    /// Whether the granules are going back to the kernel.
    freeing: bool,
}

impl CommitCharge {
    /// Returns an empty charge.
    pub fn none(budget: &Arc<Budget>) -> CommitCharge {
        CommitCharge {
            budget: budget.clone(),
            granules: 0,
            freeing: false,
        }
    }

    /// Returns the number of granules.
    #[must_use]
    pub fn granules(&self) -> u64 {
        self.granules
    }

    /// Splits off so many granules, or all if there are fewer.
    pub fn split(&mut self, granules: u64) -> CommitCharge {
        let granules = granules.min(self.granules);
        self.granules -= granules;
        CommitCharge {
            budget: self.budget.clone(),
            granules,
            freeing: self.freeing,
        }
    }

    /// Adds another charge to the same budget.
    pub fn merge(&mut self, mut other: CommitCharge) {
        debug_assert!(Arc::ptr_eq(&self.budget, &other.budget));
        debug_assert!(
            !self.freeing && !other.freeing,
            "purged granules belong to nobody"
        );
        self.granules += std::mem::take(&mut other.granules);
    }
}

impl CommitCharge {
    /// Exchanges the charge for one of spare memory: the region has ended, and so many granules
    /// of it are kept for another one.
    ///
    /// # Errors
    ///
    /// Returns the charge if there is no room for them beside what is committed.
    pub fn into_spare(mut self, granules: u64) -> Result<SpareCharge, CommitCharge> {
        let mut state = self.budget.state();
        let others = state.used.saturating_sub(self.granules) + state.promised + state.spare;
        if self.freeing || others.saturating_add(granules) > state.most {
            drop(state);
            return Err(self);
        }
        state.used -= std::mem::take(&mut self.granules);
        state.spare += granules;
        drop(state);
        self.budget.note_freed();
        Ok(SpareCharge {
            budget: self.budget.clone(),
            granules,
        })
    }
}

/// Granules that no region has, and that are kept for later ones, until this is dropped.
#[must_use = "dropping a charge returns it to the budget"]
pub struct SpareCharge {
    budget: Arc<Budget>,
    granules: u64,
}

impl SpareCharge {
    /// Exchanges the charge for a commit of the same granules, for a region that gets them. Does
    /// not ask the [admission control](Budget::set_admission_control): the memory is there.
    ///
    /// # Errors
    ///
    /// Returns the charge if there is no room beside what is committed and waited for.
    pub fn into_commit(mut self) -> Result<CommitCharge, SpareCharge> {
        let budget = self.budget.clone();
        let mut state = budget.state();
        if self.granules > state.room() || state.missing(self.granules) > 0 {
            drop(state);
            return Err(self);
        }
        let granules = std::mem::take(&mut self.granules);
        state.spare -= granules;
        Ok(budget.charge(&mut state, granules))
    }
}

impl Drop for SpareCharge {
    fn drop(&mut self) {
        if self.granules > 0 {
            self.budget.state().spare -= self.granules;
        }
    }
}

impl fmt::Debug for SpareCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpareCharge({})", self.granules)
    }
}

impl Drop for CommitCharge {
    fn drop(&mut self) {
        if self.granules > 0 {
            let mut state = self.budget.state();
            state.used -= self.granules;
            if self.freeing {
                state.freeing -= self.granules;
            }
            drop(state);
            if self.freeing {
                self.budget.freed.notify_all();
            }
            self.budget.note_freed();
        }
    }
}

impl fmt::Debug for CommitCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitCharge({})", self.granules)
    }
}

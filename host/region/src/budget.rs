use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use super::sync::{Condvar, Mutex, MutexGuard};
use super::{Exhausted, GRANULE};

/// The granules that are taken from a region in one step: 16 MiB, for which the
/// kernel needs some milliseconds. Whoever pins them meanwhile waits for that long.
const STEP: u64 = 256;

/// A region, as the budget sees it: something that can give memory back.
pub trait Purgeable: Send + Sync {
    /// Purges granules that nobody pins, the least recently unpinned first. Gives
    /// what they were charged with; nothing if there is nothing to purge.
    ///
    /// Others may wait for this: it must not take from the budget itself.
    fn purge(&self, request: PurgeRequest) -> CommitCharge;
}

/// A second opinion, besides the budget, on whether bytes can be committed.
pub trait AdmissionControl: Send + Sync {
    /// Asks for memory for granules that the budget is about to take. May purge.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if there is no memory for them.
    fn admit(&self, granules: u64) -> Result<(), Exhausted>;

    /// Notes that the budget has taken them, or refused them.
    fn settled(&self, granules: u64);
}

/// Granules that a [`AdmissionControl`] was asked for and allowed.
struct Admitted<'r>(&'r dyn AdmissionControl, u64);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.settled(self.1);
    }
}

/// What a region is to purge when it is its turn.
#[derive(Clone, Copy, Debug)]
pub struct PurgeRequest {
    /// At most so many granules; but a frozen region goes whole.
    pub(super) most: u64,
    /// None that was unpinned after this.
    pub(super) until: u64,
}

/// What all regions of a host may commit, and do. Counted in granules; each
/// region once.
///
/// What would go over it is first made room for, by purging what nobody pins,
/// the least recently unpinned first and only as much as needed, and is else
/// refused. Nothing is locked while memory is given back to the kernel.
pub struct Budget {
    state: Mutex<BudgetState>,
    /// Something that was being purged is free.
    freed: Condvar,
    /// Counts unpinnings, to tell which was first.
    clock: AtomicU64,
    admission: OnceLock<Box<dyn AdmissionControl>>,
}

#[derive(Default)]
struct BudgetState {
    most: u64,
    used: u64,
    peak: u64,
    /// What could be purged, over all regions.
    purgeable: u64,
    /// Of what is used, what is being given back to the kernel.
    freeing: u64,
    /// What there is room for, and somebody waits for.
    promised: u64,
    regions: BTreeMap<u64, RegionEntry>,
    /// The regions with something to purge, by their oldest stamp.
    order: BTreeSet<(u64, u64)>,
    purges: u64,
    purged: u64,
}

struct RegionEntry {
    region: Weak<dyn Purgeable>,
    idle: Idle,
}

/// What a region has to purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// How many granules.
    pub granules: u64,
    /// When the first of them was unpinned; meaningless where there is none.
    pub oldest: u64,
}

/// What a budget did so far, and has now, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUsage {
    /// What all regions may commit.
    pub budget: u64,
    /// What they have committed: what somebody pins, and what nobody pins and is
    /// not purged yet.
    pub committed: u64,
    /// The most that they ever had committed.
    pub committed_peak: u64,
    /// What nobody pins, and could be purged.
    pub purgeable: u64,
    /// How often a region was purged in part or whole.
    pub purges: u64,
    /// What was purged, in all.
    pub purged: u64,
}

impl Budget {
    /// A budget of so many bytes, rounded down to granules.
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

    /// Makes this be asked as well before anything is committed. Only the first call
    /// counts.
    #[allow(dead_code, reason = "for what is above this module")]
    pub fn set_admission_control(&self, admission: impl AdmissionControl + 'static) {
        let _ = self.admission.set(Box::new(admission));
    }

    fn state(&self) -> MutexGuard<'_, BudgetState> {
        // Nothing panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for something that is unpinned now: larger than all before it.
    pub(super) fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the budget purge this region when it needs memory.
    pub fn register(&self, id: u64, region: Weak<dyn Purgeable>) {
        let idle = Idle::default();
        self.state()
            .regions
            .insert(id, RegionEntry { region, idle });
    }

    /// Forgets a region.
    pub fn unregister(&self, id: u64) {
        let mut state = self.state();
        state.note(id, Idle::default());
        state.regions.remove(&id);
    }

    /// Notes what a region has to purge. Called with the lock of the region. Says
    /// whether something is over the budget and can be purged, so that whoever asks
    /// is to [enforce](Budget::enforce) the budget once the lock is gone.
    #[must_use]
    pub(super) fn note(&self, id: u64, idle: Idle) -> bool {
        let mut state = self.state();
        state.note(id, idle);
        state.over() > 0 && state.purgeable > 0
    }

    /// Purges what is over the budget since that was made smaller, only as much as
    /// needed. Not to be called with the lock of a region.
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

    /// What is used and what was done.
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
        }
    }

    /// Takes so many granules, and makes room for them if need be. Not to be
    /// called with the lock of a region.
    ///
    /// What others purge already is counted on, and waited for; so nobody is
    /// refused for whom there is room beside those who came before.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if too little is free and too little can be purged, or if the
    /// [`AdmissionControl`] that is [asked first](Budget::set_admission_control) has no memory for them. Nothing
    /// was purged then, unless others took free memory meanwhile.
    pub fn commit(self: &Arc<Budget>, granules: u64) -> Result<CommitCharge, Exhausted> {
        let mut state = self.state();
        if granules > state.room() {
            return Err(state.exhausted(granules));
        }
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
        loop {
            let missing = state.missing(granules);
            if missing == 0 {
                state.promised -= granules;
                return Ok(self.charge(&mut state, granules));
            }
            // Some of it may be on its way, beside what others wait for.
            let for_all = state.missing(state.promised).saturating_sub(state.freeing);
            let most = missing.min(for_all);
            if most > 0 && state.purgeable > 0 {
                drop(state);
                self.purge_some(most);
                state = self.state();
            } else if state.freeing > 0 {
                state = (self.freed.wait(state)).unwrap_or_else(PoisonError::into_inner);
            } else {
                // Somebody pinned again what was counted on.
                state.promised -= granules;
                return Err(state.exhausted(granules));
            }
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

    /// Purges, the least recently unpinned first, until `granules` are given
    /// back or there is nothing left. Gives how many it was; with frozen regions,
    /// which go whole, it can be more. Not to be called with the lock of a region.
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

    /// Changes what may be committed, and purges what is over it. Gives how many
    /// granules are over it still, since they are pinned: nothing more is
    /// committed until they are not, and they are purged as soon as nobody pins
    /// them.
    pub fn resize(&self, bytes: u64) -> u64 {
        self.state().most = bytes / GRANULE;
        self.enforce();
        self.state().over()
    }

    /// Purges something of the region whose turn it is, and gives how many
    /// granules are free by that.
    fn purge_some(&self, most: u64) -> u64 {
        let mut state = self.state();
        let mut order = state.order.iter();
        let first = order.next().map(|(_, id)| *id);
        // What the next region has is not younger than that.
        let until = order.next().map_or(u64::MAX, |(stamp, _)| *stamp);
        let region = first.and_then(|id| {
            let region = state.regions.get(&id)?.region.upgrade();
            if region.is_none() {
                state.note(id, Idle::default());
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

    /// Notes what a region has to purge yet, after this was taken from it, which
    /// is free when it is dropped. Called with the lock of the region.
    pub(super) fn begin_purge(&self, id: u64, idle: Idle, taken: &mut CommitCharge) {
        let mut state = self.state();
        state.note(id, idle);
        taken.freeing = true;
        state.freeing += taken.granules;
        state.purges += 1;
        state.purged += taken.granules;
    }
}

impl BudgetState {
    /// How much can be taken beside what others wait for.
    fn room(&self) -> u64 {
        let there = self.most.saturating_add(self.purgeable + self.freeing);
        there.saturating_sub(self.used + self.promised)
    }

    /// How much has to be freed before so much can be taken; with it, what is
    /// over the budget since that was made smaller.
    fn missing(&self, granules: u64) -> u64 {
        self.used.saturating_add(granules).saturating_sub(self.most)
    }

    /// How much is over the budget, beside what is on its way back to the kernel.
    fn over(&self) -> u64 {
        self.used.saturating_sub(self.most + self.freeing)
    }

    fn note(&mut self, id: u64, idle: Idle) {
        let Some(entry) = self.regions.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.idle, idle);
        if before.granules > 0 {
            self.order.remove(&(before.oldest, id));
        }
        if idle.granules > 0 {
            self.order.insert((idle.oldest, id));
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

/// Granules of the budget that somebody has, given back when this is dropped.
#[must_use]
pub struct CommitCharge {
    budget: Arc<Budget>,
    granules: u64,
    /// It was taken to be purged.
    freeing: bool,
}

impl CommitCharge {
    /// None of a budget.
    pub fn none(budget: &Arc<Budget>) -> CommitCharge {
        CommitCharge {
            budget: budget.clone(),
            granules: 0,
            freeing: false,
        }
    }

    /// How many.
    #[must_use]
    pub fn granules(&self) -> u64 {
        self.granules
    }

    /// Takes so many out, or all if there are fewer.
    pub fn split(&mut self, granules: u64) -> CommitCharge {
        let granules = granules.min(self.granules);
        self.granules -= granules;
        CommitCharge {
            budget: self.budget.clone(),
            granules,
            freeing: self.freeing,
        }
    }

    /// Adds others of the same budget.
    pub fn merge(&mut self, mut other: CommitCharge) {
        debug_assert!(Arc::ptr_eq(&self.budget, &other.budget));
        debug_assert!(!self.freeing && !other.freeing, "what is purged is gone");
        self.granules += std::mem::take(&mut other.granules);
    }
}

impl Drop for CommitCharge {
    fn drop(&mut self) {
        if self.granules > 0 {
            let mut state = self.budget.state();
            state.used -= self.granules;
            if self.freeing {
                state.freeing -= self.granules;
                drop(state);
                self.budget.freed.notify_all();
            }
        }
    }
}

impl fmt::Debug for CommitCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitCharge({})", self.granules)
    }
}

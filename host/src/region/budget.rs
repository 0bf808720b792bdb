use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use super::sync::{Mutex, MutexGuard};
use super::{Exhausted, GRANULE};

/// The granules that are taken from a region in one step: 16 MiB, for which the
/// kernel needs about a millisecond. Whoever pins them meanwhile waits for that
/// long.
const STEP: u64 = 256;

/// A region, as the budget sees it: something that can give memory back.
pub trait Purge: Send + Sync {
    /// Purges granules that nobody pins, the least recently unpinned first. Gives
    /// what they were charged with; nothing if there is nothing to purge.
    fn purge(&self, turn: Turn) -> Commit;
}

/// What a region is to purge when it is its turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// At most so many granules; but a frozen region goes whole.
    pub(super) most: u64,
    /// None that was unpinned after this.
    pub(super) until: u64,
    /// How many of them were counted on before.
    promised: u64,
}

/// What all regions of a host may commit, and do. Counted in granules; each
/// region once.
///
/// What would go over it is first made room for, by purging what nobody pins,
/// the least recently unpinned first and only as much as needed, and is else
/// refused. Nothing is locked while memory is given back to the kernel.
pub struct Budget {
    pool: Mutex<Pool>,
    /// Counts unpinnings, to tell which was first.
    clock: AtomicU64,
}

#[derive(Default)]
struct Pool {
    most: u64,
    used: u64,
    peak: u64,
    /// What could be purged, over all regions.
    purgeable: u64,
    /// Of that, what somebody is about to purge for himself.
    promised: u64,
    regions: BTreeMap<u64, Entry>,
    /// The regions with something to purge, by their oldest stamp.
    order: BTreeSet<(u64, u64)>,
    purges: u64,
    purged: u64,
}

struct Entry {
    region: Weak<dyn Purge>,
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
            pool: Mutex::new(Pool {
                most: bytes / GRANULE,
                ..Pool::default()
            }),
            clock: AtomicU64::new(0),
        })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics between two changes.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for something that is unpinned now: larger than all before it.
    pub(super) fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the budget purge this region when it needs memory.
    pub fn register(&self, id: u64, region: Weak<dyn Purge>) {
        let idle = Idle::default();
        self.pool().regions.insert(id, Entry { region, idle });
    }

    /// Forgets a region.
    pub fn forget(&self, id: u64) {
        let mut pool = self.pool();
        pool.note(id, Idle::default());
        pool.regions.remove(&id);
    }

    /// Notes what a region has to purge. Called with the lock of the region.
    pub(super) fn note(&self, id: u64, idle: Idle) {
        self.pool().note(id, idle);
    }

    /// What is used and what was done.
    #[must_use]
    pub fn usage(&self) -> BudgetUsage {
        let pool = self.pool();
        BudgetUsage {
            budget: pool.most.saturating_mul(GRANULE),
            committed: pool.used * GRANULE,
            committed_peak: pool.peak * GRANULE,
            purgeable: pool.purgeable * GRANULE,
            purges: pool.purges,
            purged: pool.purged * GRANULE,
        }
    }

    /// Takes so many granules, and makes room for them if need be. Not to be
    /// called with the lock of a region.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] where too little is free and too little can be purged;
    /// nothing was purged then, unless others took what there was meanwhile.
    pub fn take(self: &Arc<Budget>, granules: u64) -> Result<Commit, Exhausted> {
        let mut pool = self.pool();
        let free = pool.most.saturating_sub(pool.used);
        let room = free.saturating_add(pool.purgeable.saturating_sub(pool.promised));
        if granules > room {
            return Err(pool.exhausted(granules));
        }
        let mut taken = self.grab(&mut pool, granules.min(free));
        pool.promised += granules - taken.granules;
        drop(pool);
        loop {
            let missing = granules - taken.granules;
            if missing == 0 {
                return Ok(taken);
            }
            let mut purged = self.purge_some(missing, missing);
            let nothing = purged.granules == 0;
            taken.merge(purged.split(missing));
            drop(purged);
            let missing = granules - taken.granules;
            let mut pool = self.pool();
            let free = pool.most.saturating_sub(pool.used);
            let more = self.grab(&mut pool, free.min(missing));
            pool.promised -= more.granules;
            if nothing && more.granules == 0 && pool.purgeable == 0 {
                // Somebody pinned again what was counted on.
                pool.promised -= missing;
                return Err(pool.exhausted(granules));
            }
            taken.merge(more);
        }
    }

    fn grab(self: &Arc<Budget>, pool: &mut Pool, granules: u64) -> Commit {
        pool.used += granules;
        pool.peak = pool.peak.max(pool.used);
        Commit {
            budget: self.clone(),
            granules,
        }
    }

    /// Purges, the least recently unpinned first, until `granules` are given
    /// back or there is nothing left. Gives how many it was; with frozen regions,
    /// which go whole, it can be more. Not to be called with the lock of a region.
    pub fn purge(self: &Arc<Budget>, granules: u64) -> u64 {
        let mut purged = 0;
        while purged < granules {
            let some = self.purge_some(granules - purged, 0);
            if some.granules == 0 && self.pool().order.is_empty() {
                break;
            }
            purged += some.granules;
        }
        purged
    }

    /// Changes what may be committed, and purges what is over it. Gives how many
    /// granules are over it still, since they are pinned: nothing more is
    /// committed until they are not.
    pub fn set(self: &Arc<Budget>, bytes: u64) -> u64 {
        let over = |pool: &Pool| pool.used.saturating_sub(pool.most);
        let mut pool = self.pool();
        pool.most = bytes / GRANULE;
        let first = over(&pool);
        drop(pool);
        self.purge(first);
        over(&self.pool())
    }

    /// Purges something of the region whose turn it is. Of that, `promised` was
    /// counted on before.
    fn purge_some(self: &Arc<Budget>, most: u64, promised: u64) -> Commit {
        let mut pool = self.pool();
        let mut order = pool.order.iter();
        let first = order.next().map(|(_, id)| *id);
        // What the next region has is not younger than that.
        let until = order.next().map_or(u64::MAX, |(stamp, _)| *stamp);
        let region = first.and_then(|id| {
            let region = pool.regions.get(&id)?.region.upgrade();
            if region.is_none() {
                pool.note(id, Idle::default());
            }
            region
        });
        drop(pool);
        match region {
            Some(region) => region.purge(Turn {
                most: most.min(STEP),
                until,
                promised,
            }),
            None => Commit::none(self),
        }
    }

    /// Notes what a region has to purge yet, after so much was taken from it.
    /// Called with the lock of the region.
    pub(super) fn note_taken(&self, id: u64, idle: Idle, taken: u64, turn: Turn) {
        let mut pool = self.pool();
        pool.note(id, idle);
        pool.promised -= taken.min(turn.promised);
        pool.purges += 1;
        pool.purged += taken;
    }
}

impl Pool {
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
pub struct Commit {
    budget: Arc<Budget>,
    granules: u64,
}

impl Commit {
    /// None of a budget.
    pub fn none(budget: &Arc<Budget>) -> Commit {
        Commit {
            budget: budget.clone(),
            granules: 0,
        }
    }

    /// How many.
    #[must_use]
    pub fn granules(&self) -> u64 {
        self.granules
    }

    /// Takes so many out, or all if there are fewer.
    pub fn split(&mut self, granules: u64) -> Commit {
        let granules = granules.min(self.granules);
        self.granules -= granules;
        Commit {
            budget: self.budget.clone(),
            granules,
        }
    }

    /// Adds others of the same budget.
    pub fn merge(&mut self, mut other: Commit) {
        debug_assert!(Arc::ptr_eq(&self.budget, &other.budget));
        self.granules += std::mem::take(&mut other.granules);
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        if self.granules > 0 {
            self.budget.pool().used -= self.granules;
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commit({})", self.granules)
    }
}

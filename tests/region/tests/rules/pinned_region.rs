//! Regions with pins, within a budget.

use std::sync::{Arc, Mutex};

use tombolo_region_tests::region::{
    Charge, CommitCharge, LedgerLock, PinError, Pinned, PurgeRequest, Purgeable, RegionNumber,
};

use super::*;

/// A region that notes the granules that go back to the kernel.
pub(super) struct Region {
    pub(super) lock: LedgerLock<()>,
    /// The first granule of each span and the first after it.
    given_back: Mutex<Vec<(u64, u64)>>,
}

impl Purgeable for Region {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |span| {
            let range = span.granules();
            self.given_back
                .lock()
                .unwrap()
                .push((range.start, range.end));
        })
    }
}

impl Region {
    pub(super) fn pin(&self, handle: &Handle, span: Span) -> Result<Pinned, PinError> {
        let (pinned, _, _) = self.lock.pin(handle, span)?;
        Ok(pinned)
    }

    pub(super) fn unpin(&self, handle: &Handle, span: Span) -> Result<(), PinError> {
        self.lock.lock().unpin(handle, span).map(|_| ())
    }

    /// Returns the granules of the region that a claim pins.
    pub(super) fn pinned(&self, handle: &Handle) -> Vec<u64> {
        let ledger = self.lock.lock();
        let pins = |at: &u64| ledger.is_pinned(handle, granule(*at)).unwrap();
        (0..8).filter(pins).collect()
    }

    /// Takes the granules that went back to the kernel.
    pub(super) fn given_back(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.given_back.lock().unwrap())
    }
}

pub(super) fn create(
    budget: &Arc<Budget>,
    id: u64,
    size: u64,
    pinned: bool,
    charges: Vec<Charge>,
) -> (Arc<Region>, Handle) {
    let all = size.div_ceil(GRANULE);
    let commit = pinned.then(|| budget.commit(all).unwrap());
    let (ledger, handle) = Ledger::new(size, budget, commit, charges);
    let region = Arc::new(Region {
        lock: LedgerLock::new(RegionNumber::new(id), budget, ledger),
        given_back: Mutex::default(),
    });
    let purge: Arc<dyn Purgeable> = region.clone();
    budget.register(RegionNumber::new(id), Arc::downgrade(&purge));
    (region, handle)
}

/// Creates a pinned region of eight granules, and a budget in which it fits.
pub(super) fn pinned_region() -> (Arc<Budget>, Arc<Region>, Handle) {
    let budget = Budget::new(8 * GRANULE);
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, Vec::new());
    (budget, region, a)
}

pub(super) fn committed(budget: &Budget) -> u64 {
    budget.usage().committed / GRANULE
}

pub(super) fn purgeable(budget: &Budget) -> u64 {
    budget.usage().purgeable / GRANULE
}

pub(super) fn is_exhausted<T>(outcome: Result<T, PinError>, limit: &str) -> bool {
    matches!(outcome, Err(PinError::Exhausted(it)) if it.limit == limit)
}

pub(super) fn account(unpinned_spans: u64) -> Arc<Account> {
    let quota = Quota {
        regions: 8,
        claimed_bytes: 64 * GRANULE,
        handles: 0,
        windows: 0,
        unpinned_spans,
        host_memory: 0,
    };
    Account::new("a guest", quota)
}

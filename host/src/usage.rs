//! What regions cost, and whom.

use std::sync::Arc;

use crate::host::{Host, Owner, Shared};
use crate::region::Account;
use crate::{Region, RegionCtx};

/// What a region costs at the moment, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionUsage {
    /// Its identity.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The size that it was created with.
    pub size: u64,
    /// What the kernel has allocated for it.
    pub resident: u64,
    /// What is pinned, by anybody; or, of what one guest has, by that guest.
    pub pinned: u64,
    /// What nobody pins, and could be purged.
    pub purgeable: u64,
    /// What was purged of it so far, in all.
    pub purged: u64,
    /// How many guests have a claim on it; the host program counts as one.
    pub sharers: u64,
    /// What is resident, divided by the sharers: the proportional share of each.
    pub share: u64,
}

impl RegionUsage {
    fn of(shared: &Shared) -> RegionUsage {
        let ledger = shared.ledger();
        let usage = ledger.pin_usage();
        let mut holders: Vec<*const Account> = ledger.holders().map(Arc::as_ptr).collect();
        drop(ledger);
        holders.sort_unstable();
        holders.dedup();
        let sharers = holders.len() as u64;
        let resident = shared.resident();
        RegionUsage {
            id: shared.id,
            name: shared.name.to_string(),
            size: shared.size,
            resident,
            pinned: usage.pinned,
            purgeable: usage.purgeable,
            purged: usage.purged,
            sharers,
            share: resident / sharers.max(1),
        }
    }
}

impl Host {
    /// What each region costs at the moment.
    #[must_use]
    pub fn usage(&self) -> Vec<RegionUsage> {
        let regions = self.regions();
        regions.iter().map(|it| RegionUsage::of(it)).collect()
    }

    /// The regions that somebody has a claim on.
    fn usage_of(&self, owner: &Owner) -> Vec<RegionUsage> {
        let regions = self.regions();
        let held = regions.iter().filter(|region| {
            let ledger = region.ledger();
            let mut holders = ledger.holders();
            holders.any(|it| Arc::ptr_eq(it, &owner.account))
        });
        held.map(|region| {
            // The ledger is let go of before it is locked again.
            let pinned = region.ledger().pinned_by(&owner.account);
            RegionUsage {
                pinned,
                ..RegionUsage::of(region)
            }
        })
        .collect()
    }

    /// The bytes that would be free if this holder ended: what is committed of
    /// regions that nobody else has a claim on, and that are not on their way to
    /// somebody else.
    pub(crate) fn exclusive_bytes(&self, owner: &Owner) -> u64 {
        let regions = self.regions();
        let committed = regions.iter().filter_map(|region| {
            let ledger = region.ledger();
            let mut holders = ledger.holders();
            let alone = holders.all(|it| Arc::ptr_eq(it, &owner.account));
            (alone && !ledger.is_queued()).then(|| ledger.pin_usage().committed)
        });
        committed.sum()
    }
}

impl RegionCtx {
    /// What the regions cost that the guest has claims on.
    #[must_use]
    pub fn usage(&self) -> Vec<RegionUsage> {
        self.host().usage_of(&self.owner)
    }
}

impl Region {
    /// What the region costs.
    #[must_use]
    pub fn usage(&self) -> RegionUsage {
        RegionUsage::of(self.shared())
    }
}

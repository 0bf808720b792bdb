//! The cost of regions, and who pays for it.

use std::sync::Arc;

use tombolo_region::Ledger;

use super::RegionHost;
use super::owner::{Owner, ReleasedRegion};
use super::region::{RegionInner, RegionRef, WindowLocation};
use crate::identity::RegionId;

/// The current cost of a region, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionUsage {
    /// The region's identity.
    pub id: RegionId,
    /// Its name.
    pub name: String,
    /// The size that it was created with.
    pub size: u64,
    /// The bytes that the kernel has allocated for it.
    pub resident: u64,
    /// The bytes that are pinned: by anybody, or in a list of one guest's regions, by that
    /// guest.
    pub pinned: u64,
    /// The bytes that nobody pins and that could be purged.
    pub purgeable: u64,
    /// The bytes that were purged so far, in all.
    pub purged: u64,
    /// The number of guests that have a claim on it. The host program counts as one.
    pub holders: u64,
    /// The proportional share of each holder: `resident` divided by `holders`.
    pub pss: u64,
}

impl RegionUsage {
    pub(crate) fn of(region: &RegionInner) -> RegionUsage {
        RegionUsage::within(region, &region.ledger())
    }

    /// Returns the cost of a region whose ledger is in hand.
    fn within(region: &RegionInner, ledger: &Ledger<Option<WindowLocation>>) -> RegionUsage {
        let usage = ledger.pin_usage();
        let holders = ledger.holders().count() as u64;
        let resident = region.resident();
        RegionUsage {
            id: region.id,
            name: region.name.to_string(),
            size: region.size,
            resident,
            pinned: usage.pinned,
            purgeable: usage.purgeable,
            purged: usage.purged,
            holders,
            pss: resident / holders.max(1),
        }
    }
}

impl RegionRef {
    /// Notes the cost of the region for the report of its owner, which is about to release a
    /// claim on it, unless the owner has another claim. Regions of the host program are not
    /// noted. The caller has the region's ledger in hand.
    pub(crate) fn note_released(&self, ledger: &Ledger<Option<WindowLocation>>) {
        let (region, owner) = (&self.inner, &self.owner);
        if ledger.claims_on(&owner.account).len() != 1 || Arc::ptr_eq(owner, region.host().own()) {
            return;
        }
        let usage = RegionUsage {
            pinned: ledger.pinned_by(&owner.account),
            ..RegionUsage::within(region, ledger)
        };
        owner.released().note(ReleasedRegion::Dropped(usage));
    }

    /// Notes that the owner moves a claim on the region. Whether it has another claim is
    /// found out when the note is read.
    pub(crate) fn note_moved(&self) {
        let (region, owner) = (&self.inner, &self.owner);
        if !Arc::ptr_eq(owner, region.host().own()) {
            let moved = ReleasedRegion::Moved(region.clone());
            owner.released().note(moved);
        }
    }
}

impl Owner {
    /// Returns the cost of the regions that this holder released and has no claim on now:
    /// each once, the last ones of all. The number is how many it were in all. A region that
    /// comes back after it was forgotten here counts again.
    ///
    /// `held` are the regions that it has claims on.
    pub(crate) fn released_except(&self, held: &[RegionUsage]) -> (Vec<RegionUsage>, u64) {
        let is_held = |it: &ReleasedRegion| held.iter().any(|held| held.id == it.id());
        let released = self.released();
        let (again, gone): (Vec<_>, Vec<_>) = released.regions.iter().cloned().partition(is_held);
        let total = released.total - again.len() as u64;
        // Notes are taken with a ledger in hand. So no ledger is locked under this lock.
        drop(released);
        let gone = gone.into_iter().map(ReleasedRegion::usage);
        (gone.collect(), total)
    }
}

impl RegionHost {
    /// Returns the current cost of each region, in the order in which they were created.
    ///
    /// Takes one system call for each region.
    #[must_use]
    pub fn usage(&self) -> Vec<RegionUsage> {
        let regions = self.regions();
        regions.iter().map(|it| RegionUsage::of(it)).collect()
    }

    /// Returns the cost of the regions that a holder has a claim on.
    pub(crate) fn usage_of(&self, owner: &Owner) -> Vec<RegionUsage> {
        let regions = self.regions();
        let held = regions.iter().filter(|region| {
            let ledger = region.ledger();
            ledger.claims_on(&owner.account).len() > 0
        });
        held.map(|region| {
            // The ledger is unlocked before it is locked again.
            let pinned = region.ledger().pinned_by(&owner.account);
            RegionUsage {
                pinned,
                ..RegionUsage::of(region)
            }
        })
        .collect()
    }

    /// Returns the bytes that the end of this holder would free: those that the kernel has
    /// allocated for regions on which nobody else has a claim, and which are not on their way
    /// to somebody else.
    pub(crate) fn exclusive_bytes(&self, owner: &Owner) -> u64 {
        let regions = self.regions();
        let exclusive = regions.iter().filter(|region| {
            let ledger = region.ledger();
            let mut holders = ledger.holders();
            let alone = holders.all(|it| Arc::ptr_eq(it, &owner.account));
            alone && !ledger.is_queued()
        });
        exclusive.map(|region| region.resident()).sum()
    }
}

//! The cost of regions.

use tombolo_region::Ledger;

use super::RegionHost;
use super::region::{RegionInner, WindowLocation};
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
    pub(super) fn within(
        region: &RegionInner,
        ledger: &Ledger<Option<WindowLocation>>,
    ) -> RegionUsage {
        let usage = ledger.pin_usage();
        let holders = ledger.holders().count() as u64;
        let resident = region.resident();
        RegionUsage {
            id: region.id,
            name: region.name.to_string(),
            size: region.size,
            resident,
            pinned: usage.pinned,
            purgeable: match region.is_pooled {
                true => 0,
                false => usage.purgeable,
            },
            purged: usage.purged,
            holders,
            pss: resident / holders.max(1),
        }
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
}

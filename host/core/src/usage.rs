//! What regions cost, and whom.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::host::{Hold, Owner, Place, RegionHost, Shared};
use crate::{Region, RegionCtx};
use tombolo_region::Ledger;

/// How many regions are remembered that a guest has let go of: it may live for long.
const REMEMBERED: usize = 64;

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
    pub holders: u64,
    /// What is resident, divided by the holders: the proportional share of each.
    pub pss: u64,
}

impl RegionUsage {
    fn of(shared: &Shared) -> RegionUsage {
        RegionUsage::within(shared, &shared.ledger())
    }

    /// The same, where the ledger is in hand.
    fn within(shared: &Shared, ledger: &Ledger<Option<Place>>) -> RegionUsage {
        let usage = ledger.pin_usage();
        let holders = ledger.holders().count() as u64;
        let resident = shared.resident();
        RegionUsage {
            id: shared.id,
            name: shared.name.to_string(),
            size: shared.size,
            resident,
            pinned: usage.pinned,
            purgeable: usage.purgeable,
            purged: usage.purged,
            holders,
            pss: resident / holders.max(1),
        }
    }
}

/// A region that a guest has let go of.
#[derive(Clone, Debug)]
enum Noted {
    /// By dropping its last claim: what it cost before.
    Dropped(RegionUsage),
    /// By moving a claim. What it costs is asked for when that is to be known, since
    /// moving is to be quick.
    Moved(Arc<Shared>),
}

impl Noted {
    fn id(&self) -> u64 {
        match self {
            Noted::Dropped(usage) => usage.id,
            Noted::Moved(shared) => shared.id,
        }
    }

    fn usage(self) -> RegionUsage {
        match self {
            Noted::Dropped(usage) => usage,
            Noted::Moved(shared) => RegionUsage::of(&shared),
        }
    }
}

/// The regions that a guest has let go of: each once, the last ones.
#[derive(Debug, Default)]
pub(crate) struct Released {
    regions: VecDeque<Noted>,
    total: u64,
}

impl Released {
    fn note(&mut self, noted: Noted) {
        // What goes to and fro is the last one.
        let again = self.regions.iter().rposition(|it| it.id() == noted.id());
        match again {
            Some(index) => drop(self.regions.remove(index)),
            None => self.total += 1,
        }
        if self.regions.len() == REMEMBERED {
            self.regions.pop_front();
        }
        self.regions.push_back(noted);
    }
}

impl Hold {
    /// Notes what the region costs, whose owner is about to let go of a claim on it,
    /// if it has no other: before that, with the ledger in hand. The host program's own
    /// are not noted.
    pub(crate) fn note_released(&self, ledger: &Ledger<Option<Place>>) {
        let (shared, owner) = (&self.shared, &self.owner);
        if ledger.claims_on(&owner.account).len() != 1 || Arc::ptr_eq(owner, shared.host().own()) {
            return;
        }
        let usage = RegionUsage {
            pinned: ledger.pinned_by(&owner.account),
            ..RegionUsage::within(shared, ledger)
        };
        owner.released().note(Noted::Dropped(usage));
    }

    /// Notes that the owner moves a claim on the region. If it has another one, that is
    /// found when this is looked at.
    pub(crate) fn note_moved(&self) {
        let (shared, owner) = (&self.shared, &self.owner);
        if !Arc::ptr_eq(owner, shared.host().own()) {
            owner.released().note(Noted::Moved(shared.clone()));
        }
    }
}

impl RegionHost {
    /// The current cost of each region, in the order in which they were created.
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
            ledger.claims_on(&owner.account).len() > 0
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

    /// The bytes that would be free if this holder ended: what the kernel has
    /// allocated for regions that nobody else has a claim on, and that are not on
    /// their way to somebody else.
    #[doc(hidden)]
    pub fn exclusive_bytes(&self, owner: &Owner) -> u64 {
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

impl RegionCtx {
    /// What the regions cost that the guest has claims on.
    #[must_use]
    pub fn usage(&self) -> Vec<RegionUsage> {
        self.host().usage_of(&self.owner)
    }

    /// What the regions cost that the guest had claims on: just before it dropped the
    /// last one; or now, if it moved it. Each region is there once, and the last ones
    /// of all; what it has a claim on again is not. The number is how many regions it
    /// were in all, where one that comes back after it was forgotten here counts again.
    #[must_use]
    pub fn usage_released(&self) -> (Vec<RegionUsage>, u64) {
        self.released_except(&self.usage())
    }

    /// As [`usage_released`](RegionCtx::usage_released), if it has these.
    #[doc(hidden)]
    pub fn released_except(&self, held: &[RegionUsage]) -> (Vec<RegionUsage>, u64) {
        let is_held = |it: &Noted| held.iter().any(|held| held.id == it.id());
        let released = self.owner.released();
        let (again, gone): (Vec<_>, Vec<_>) = released.regions.iter().cloned().partition(is_held);
        let total = released.total - again.len() as u64;
        // Whoever notes something has a ledger in hand; so none is asked for with this.
        drop(released);
        (gone.into_iter().map(Noted::usage).collect(), total)
    }
}

impl Region {
    /// What the region costs.
    #[must_use]
    pub fn usage(&self) -> RegionUsage {
        RegionUsage::of(self.shared())
    }
}

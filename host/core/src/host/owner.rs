//! The holders of regions, the accounts that pay for them, and what they have released.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tombolo_region::{Account, Charge, ChargeKind, Ledger};

use super::RegionHost;
use super::region::{MaskedWindows, RegionInner, WindowLocation};
use super::usage::RegionUsage;
use crate::error::RegionError;
use crate::identity::{HostId, RegionId};
use crate::limits::Limits;

/// The number of regions to remember that a guest has released. A guest may live for long.
const REMEMBERED: usize = 64;

/// A holder of regions: a guest, or the host program.
#[derive(Debug)]
pub struct Owner {
    /// The name of the guest. No other guest has the same `Arc`.
    pub name: Arc<str>,
    /// The account that pays for the claims.
    pub account: Arc<Account>,
    pub(crate) limits: Limits,
    /// The host on whose regions it has claims.
    pub(crate) host: HostId,
    /// The number of lends within the guest that have not ended.
    lends_within: AtomicU32,
    /// The number of regions of which it was the last holder.
    freed: AtomicU64,
    released: Mutex<Released>,
}

impl Owner {
    #[inline]
    pub(crate) fn new(host: HostId, name: String, limits: Limits) -> Arc<Owner> {
        let account = Account::new(format!("guest `{name}`"), limits.quota());
        Owner::on(host, account, name, limits)
    }

    /// Creates a holder on an existing account: the next incarnation of a guest. Messages that
    /// the last one queued are still on it.
    pub(crate) fn on(
        host: HostId,
        account: Arc<Account>,
        name: String,
        limits: Limits,
    ) -> Arc<Owner> {
        Arc::new(Owner {
            host,
            name: name.into(),
            account,
            limits,
            lends_within: AtomicU32::new(0),
            freed: AtomicU64::new(0),
            released: Mutex::default(),
        })
    }

    fn released(&self) -> MutexGuard<'_, Released> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many regions were freed because this was their last holder.
    pub fn regions_freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    fn count_freed(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
    }

    /// Charges a claim on a region of `size` bytes. `spans` is the number of separate runs of
    /// it that the claim does not pin.
    pub(crate) fn charge_claim(&self, size: u64, spans: u64) -> Result<Vec<Charge>, RegionError> {
        Ok(vec![
            self.account.charge(ChargeKind::Regions, 1)?,
            self.account.charge(ChargeKind::ClaimedBytes, size)?,
            self.account.charge(ChargeKind::UnpinnedSpans, spans)?,
        ])
    }
}

/// The most lends within one guest that have not ended. A window that conflicts with another is
/// looked for along the whole chain of lends, with the ledger locked.
const MOST: u32 = 256;

/// A lend within a guest, in its lent handle.
#[derive(Debug)]
pub(crate) struct LendWithin {
    /// The lender's windows, which are unmasked when the lend ends.
    pub(crate) masked: MaskedWindows,
    guest: Arc<Owner>,
}

impl LendWithin {
    pub(super) fn new(guest: &Arc<Owner>) -> Result<LendWithin, RegionError> {
        // Relaxed: the lends within a guest begin in its own calls, one at a time.
        let before = guest.lends_within.fetch_add(1, Ordering::Relaxed);
        let lend = LendWithin {
            masked: MaskedWindows::default(),
            guest: guest.clone(),
        };
        match before < MOST {
            true => Ok(lend),
            false => Err(RegionError::Limit(format!(
                "a guest lends at most {MOST} regions within itself at a time; drop the handle \
                 of one of these lends first"
            ))),
        }
    }
}

impl Drop for LendWithin {
    fn drop(&mut self) {
        self.guest.lends_within.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A region, and one of its owners: for as long as that has a handle or a window.
pub(crate) struct RegionRef {
    pub(crate) inner: Arc<RegionInner>,
    pub(crate) owner: Arc<Owner>,
    /// Whether dropping this cannot free the region, because others have claims on it.
    pub(crate) settled: bool,
}

impl RegionRef {
    #[inline]
    pub(crate) fn new(inner: &Arc<RegionInner>, owner: &Arc<Owner>) -> RegionRef {
        RegionRef {
            inner: inner.clone(),
            owner: owner.clone(),
            settled: false,
        }
    }
}

impl Drop for RegionRef {
    #[inline]
    fn drop(&mut self) {
        if !self.settled && self.inner.settle() {
            self.owner.count_freed();
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

/// A region that a guest has released.
#[derive(Clone, Debug)]
enum ReleasedRegion {
    /// By dropping its last claim: the cost just before.
    Dropped(RegionUsage),
    /// By moving a claim. The cost is read only when it is asked for, because moving is to be
    /// quick.
    Moved(Arc<RegionInner>),
}

impl ReleasedRegion {
    fn id(&self) -> RegionId {
        match self {
            ReleasedRegion::Dropped(usage) => usage.id,
            ReleasedRegion::Moved(region) => region.id,
        }
    }

    fn usage(self) -> RegionUsage {
        match self {
            ReleasedRegion::Dropped(usage) => usage,
            ReleasedRegion::Moved(region) => RegionUsage::of(&region),
        }
    }
}

/// The last regions that a guest has released, each once.
#[derive(Debug, Default)]
struct Released {
    regions: VecDeque<ReleasedRegion>,
    total: u64,
}

impl Released {
    fn note(&mut self, region: ReleasedRegion) {
        // A region that goes to and fro is the last one.
        let again = self.regions.iter().rposition(|it| it.id() == region.id());
        match again {
            Some(index) => drop(self.regions.remove(index)),
            None => self.total += 1,
        }
        if self.regions.len() == REMEMBERED {
            self.regions.pop_front();
        }
        self.regions.push_back(region);
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
    /// allocated for regions on which nobody else has a claim, which are not on their way to
    /// somebody else, and which do not go back to a pool.
    pub(crate) fn exclusive_bytes(&self, owner: &Owner) -> u64 {
        let regions = self.regions();
        let exclusive = regions.iter().filter(|region| {
            let ledger = region.ledger();
            let mut holders = ledger.holders();
            let alone = holders.all(|it| Arc::ptr_eq(it, &owner.account));
            alone && !ledger.is_queued() && !region.is_pooled
        });
        exclusive.map(|region| region.resident()).sum()
    }
}

//! The holders of regions, and the accounts that pay for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tombolo_region::{Account, Charge, ChargeKind};

use super::region::RegionInner;
use super::usage::RegionUsage;
use crate::error::RegionError;
use crate::identity::{HostId, RegionId};
use crate::limits::Limits;

/// The number of regions to remember that a guest has released. A guest may live for long.
const REMEMBERED: usize = 64;

/// A holder of regions: a guest, or the host program.
#[derive(Debug)]
pub struct Owner {
    /// The name of the guest.
    pub name: String,
    /// The account that pays for the claims.
    pub account: Arc<Account>,
    pub(crate) limits: Limits,
    /// The host on whose regions it has claims.
    pub(crate) host: HostId,
    /// The number of regions of which it was the last holder.
    freed: AtomicU64,
    released: Mutex<Released>,
}

impl Owner {
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
            name,
            account,
            limits,
            freed: AtomicU64::new(0),
            released: Mutex::default(),
        })
    }

    pub(super) fn released(&self) -> MutexGuard<'_, Released> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many regions were freed because this was their last holder.
    pub fn regions_freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    pub(super) fn count_freed(&self) {
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

/// A region that a guest has released.
#[derive(Clone, Debug)]
pub(super) enum ReleasedRegion {
    /// By dropping its last claim: the cost just before.
    Dropped(RegionUsage),
    /// By moving a claim. The cost is read only when it is asked for, because moving is to be
    /// quick.
    Moved(Arc<RegionInner>),
}

impl ReleasedRegion {
    pub(super) fn id(&self) -> RegionId {
        match self {
            ReleasedRegion::Dropped(usage) => usage.id,
            ReleasedRegion::Moved(region) => region.id,
        }
    }

    pub(super) fn usage(self) -> RegionUsage {
        match self {
            ReleasedRegion::Dropped(usage) => usage,
            ReleasedRegion::Moved(region) => RegionUsage::of(&region),
        }
    }
}

/// The last regions that a guest has released, each once.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub(super) regions: VecDeque<ReleasedRegion>,
    pub(super) total: u64,
}

impl Released {
    pub(super) fn note(&mut self, region: ReleasedRegion) {
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

//! Pools of regions of one size.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tombolo_region::{Exhausted, GRANULE, Span};

use super::region::PoolSlot;
use super::{Region, RegionHost};
use crate::error::RegionError;
use crate::sys::recycling::Recycler;

/// Memory for regions of one size, reserved and used again and again.
///
/// [`take`](RegionPool::take) creates a region, with an identity and a lock of its own, all zero.
/// When its last claim, window and guard are gone, its memory comes back to the pool by itself. The
/// next region gets it with its pages. `take` zeroes those that were written, at 15 to 30 ns a
/// page. The first write to a page of new memory takes 1 to 3 us.
///
/// A region gets new memory if the last one was poisoned or frozen, or after a fork. Memory over 1
/// MiB is used again only if a writable guard or window showed all of it, and not if memory
/// pressure was reported since. Nothing is used again if `RLIMIT_AS` or `RLIMIT_DATA` is set.
///
/// The budget counts the whole pool as committed while the pool lives, so taking a region is not
/// refused for it. Memory pressure does not reduce the commit, and bytes of its regions are never
/// purged, even if nobody pins them. Dropping the last clone closes the files, which takes about
/// 0.1 s for each GiB; regions that were taken live on.
///
/// A clone is the same pool.
///
/// ```
/// # fn main() -> Result<(), tombolo::RegionError> {
/// let host = tombolo::RegionHost::new();
/// let pool = host.pool("body", 1 << 20, 4)?;
/// let body = pool.try_take()?;
/// body.try_write(..5)?.copy_from_slice(b"hello");
/// drop(body);
/// assert_eq!(pool.free(), 4);
/// assert_eq!(pool.try_take()?.read_at(..5)?, [0; 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RegionPool(Arc<Shared>);

struct Shared {
    host: RegionHost,
    name: String,
    size: u64,
    count: usize,
    recycler: Arc<Recycler>,
    free: Arc<Semaphore>,
}

impl RegionHost {
    /// Creates a pool of `count` regions of `size` bytes, and commits their memory. The regions
    /// will have this name, and belong to the host program.
    ///
    /// The kernel allocates memory when it is first touched; see [`RegionPool::warm`]. Each region
    /// takes a file descriptor, from when it is first taken until the pool is dropped.
    ///
    /// # Errors
    ///
    /// As [`create`](RegionHost::create). Only the budget is reserved for all of them:
    /// [`take`](RegionPool::take) may still fail for [`HostLimits::regions`] or for want of a
    /// descriptor. Blocks while it purges: about 0.2 s for each GiB.
    ///
    /// [`HostLimits::regions`]: crate::HostLimits::regions
    pub fn pool(&self, name: &str, size: u64, count: usize) -> Result<RegionPool, RegionError> {
        // Checks the name and the size.
        drop(self.create_unpinned(name, size)?);
        let granules = Span::whole(size).length() / GRANULE;
        let all = u64::try_from(count).unwrap_or(u64::MAX);
        let commit = self.ledger_budget().commit(granules.saturating_mul(all))?;
        let count = count.min(Semaphore::MAX_PERMITS);
        Ok(RegionPool(Arc::new(Shared {
            host: self.clone(),
            name: name.to_owned(),
            size,
            count,
            recycler: Arc::new(self.recycler().for_pool(count, commit)),
            free: Arc::new(Semaphore::new(count)),
        })))
    }
}

impl RegionPool {
    /// Takes a region, or refuses at once if all are taken.
    ///
    /// Costs about 2 us, and 15 ns for each page that the last region of that memory touched. Those
    /// pages are zeroed in one step on this thread, which takes 20 ms for 64 MiB if the kernel has
    /// dropped the page tables.
    ///
    /// # Errors
    ///
    /// [`RegionError::Exhausted`] for the limit `pool` if all are taken; otherwise as
    /// [`RegionHost::create`].
    pub fn try_take(&self) -> Result<Region, RegionError> {
        let permit = self.0.free.clone().try_acquire_owned().map_err(|_| {
            let mut exhausted = Exhausted::new("the host", "pool");
            let count = u64::try_from(self.0.count).unwrap_or(u64::MAX);
            (exhausted.used, exhausted.asked, exhausted.most) = (count, 1, count);
            exhausted
        })?;
        self.region(permit)
    }

    /// Takes a region, and waits for one if all are taken. The longest waiter is the first.
    ///
    /// Dropping the future leaves the queue, and loses no region.
    ///
    /// # Errors
    ///
    /// As [`RegionHost::create`].
    pub async fn take(&self) -> Result<Region, RegionError> {
        let permit = self.0.free.clone().acquire_owned().await;
        self.region(permit.expect("the pool never closes the semaphore"))
    }

    fn region(&self, permit: OwnedSemaphorePermit) -> Result<Region, RegionError> {
        let Shared {
            host,
            name,
            size,
            recycler,
            ..
        } = &*self.0;
        let slot = PoolSlot {
            recycler: recycler.clone(),
            permit,
        };
        Region::create_pooled(host, name, *size, slot)
    }

    /// Touches all pages of all regions that are not taken, so that the kernel allocates them
    /// now. Takes these regions meanwhile, so `try_take` may fail. Blocks for 1 to 3 us a page: on
    /// a task, call it by `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As [`RegionHost::create`].
    pub fn warm(&self) -> Result<(), RegionError> {
        let mut taken = Vec::new();
        for _ in 0..self.free() {
            let Ok(permit) = self.0.free.clone().try_acquire_owned() else {
                break;
            };
            let region = self.region(permit)?;
            for page in region.try_write(..)?.chunks_mut(4096) {
                page[0] = 0;
            }
            taken.push(region);
        }
        Ok(())
    }

    /// Returns the size of the regions in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Returns how many regions can be taken now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free.available_permits()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.recycler.close();
    }
}

impl fmt::Debug for RegionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionPool")
            .field("size", &self.0.size)
            .field("count", &self.0.count)
            .field("free", &self.free())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The margin: memory that the host keeps free.
//!
//! # Why a margin
//!
//! Without swap space, pressure-stall information comes too late: the kernel kills a process
//! when a cgroup meets its limit and has nothing to reclaim. Ashmem's shrinker ran inside of
//! reclaim; a program cannot. So the host measures (`pressure::SystemGauge`) and acts before
//! the limit is met.
//!
//! **Promised** memory is memory that guests can touch without asking. A guest asks for memory
//! when its linear memory grows (`ResourceLimiter::memory_growing`), and gets only address
//! space. It touches the pages later, at up to 4 GiB/s, which outruns any tick. So a growth is
//! counted in full from the moment it is allowed. It leaves the count as its pages are
//! touched, because then they are in use.
//!
//! When the limit is near, the host asks the kernel how many pages are in use
//! (`/proc/self/pagemap`). It asks about the bytes that a memory has grown by since the last
//! look. It asks about whole memories once in a second, and before a refusal. The promise to
//! regions is their commits less the pages that the kernel has allocated for their files. So a
//! new region that is mapped whole counts twice until the guest has touched it: in the region,
//! and in the memory where its window is.
//!
//! # When the host looks
//!
//! A growth and a commit use a look that is at most 10 ms old, less everything allowed since.
//! Calls, maps, and pins of committed bytes take no look.
//!
//! # What guests learn
//!
//! The level of pressure is `moderate` when the margin was met, and `critical` when half of it
//! is used and nothing can be purged. Each level lasts for two seconds. The higher one of this
//! level and the reported one holds. `memory.grow` returns -1 for a refused growth.

mod asked;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::asked::{ask_to_commit, commit_done};
use super::RegionHost;
use crate::pressure::{Headroom, Level, MemoryGauge, SystemGauge};
use crate::sys::{StoreId, Taken, memory_bytes};

/// How long a look at the gauge stays valid: one tick.
const TICK: Duration = Duration::from_millis(10);

/// How long a look at whole linear memories stays valid. Windows may end meanwhile, and
/// the guest can touch the space that they covered.
const WHOLE: Duration = Duration::from_secs(1);

/// Looks at whole memories before refusals take at most one part in so many of the time,
/// however often a guest repeats a refused request.
const PART: u32 = 4;

/// Bytes to ask the gauge for beyond those needed, so that not every growth takes a look.
const STRIDE: u64 = 64 << 20;

/// There is too little memory for a request, and too little to purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host is short of memory: {asked} more bytes requested, {left} left beside promised \
     memory and half of the `margin` of {margin} bytes"
)]
#[non_exhaustive]
pub struct ShortOfMemory {
    /// The requested bytes.
    pub asked: u64,
    /// The bytes that were left, beside promised memory and half of the margin.
    pub left: u64,
    /// The margin; see [`HostLimits::margin`](crate::HostLimits::margin).
    pub margin: u64,
}

/// A margin of memory that stays free: used and promised memory together stay below the
/// limit less the margin.
///
/// ```text
///   0                used            + promised             limit
///   |  used memory   |  not touched   |   free   |  margin   |
///   +----------------+----------------+----------+-----+-----+
///                                        purges here   refuses here, or ends guests
/// ```
///
/// A linear memory that has grown and a region that is committed hold a promise: the
/// guest can touch their bytes at any time, without asking the host. A byte that was
/// touched is in use, and is no longer promised. So promises hold however fast guests
/// touch memory. The thread's tick is for memory that nobody asks for: the host's own,
/// that of other processes, and the space where a window was.
pub(crate) struct Margin {
    /// The bytes to keep free; 0 to keep none.
    keep: u64,
    gauge: OnceLock<Arc<dyn MemoryGauge>>,
    begun: Instant,
    /// The bytes that can be promised without a look, until `good_until`, in microseconds
    /// since `begun`.
    allowance: AtomicU64,
    good_until: AtomicU64,
    /// The bytes that linear memories were promised, touched or not.
    promised: AtomicU64,
    /// The bytes that are being asked for and are in no other count yet.
    asked: AtomicU64,
    /// By number.
    promises: Mutex<BTreeMap<u64, Arc<Promised>>>,
    last: AtomicU64,
    /// The last look at whole memories. Locked during looks and purges.
    looked: Mutex<Option<Looked>>,
    /// The last refusal. Locked for moments.
    refusal: Mutex<Option<Refusal>>,
    /// The highest level that was met since the last tick.
    met: Mutex<Level>,
    /// The gauge has failed, and that was logged.
    blind: AtomicBool,
}

/// The last whole look at linear memories.
#[derive(Clone, Copy)]
struct Looked {
    at: Instant,
    took: Duration,
}

/// The last refusal. It stands for one tick, for requests that are as large and more.
#[derive(Clone, Copy)]
struct Refusal {
    at: Instant,
    /// The most that could be promised, asked for and committed in all.
    most: u64,
    /// The bytes that could be purged for that.
    purgeable: u64,
}

/// The promise to the linear memories of one store.
struct Promised {
    bytes: AtomicU64,
    /// The store, once there is one.
    store: Arc<OnceLock<StoreId>>,
    taken: Mutex<Known>,
}

/// The result of the last look at a store's linear memories.
#[derive(Default)]
struct Known {
    taken: Taken,
    /// The bytes that had been promised by then.
    promised: u64,
}

impl Promised {
    /// Returns the bytes that were promised and are not taken yet.
    fn untouched(&self, whole: bool) -> u64 {
        let mut known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let promised = self.bytes.load(Ordering::SeqCst);
        if let Some(store) = self.store.get()
            && (whole || promised != known.promised)
        {
            known.taken.look(*store, whole);
            known.promised = promised;
        }
        promised.saturating_sub(known.taken.bytes())
    }
}

/// A promise to the linear memories of one store. Dropping it takes the promise back.
pub struct Promise {
    host: RegionHost,
    number: u64,
    promised: Arc<Promised>,
}

impl Promise {
    /// Creates an empty promise, for a store without memories.
    pub fn new(host: &RegionHost, store: Arc<OnceLock<StoreId>>) -> Promise {
        let margin = host.margin();
        let promised = Arc::new(Promised {
            bytes: AtomicU64::new(0),
            store,
            taken: Mutex::default(),
        });
        let number = margin.last.fetch_add(1, Ordering::Relaxed);
        margin.promises().insert(number, promised.clone());
        Promise {
            host: host.clone(),
            number,
            promised,
        }
    }

    /// Asks for more bytes of linear memory; see [`RegionHost::may_grow`].
    ///
    /// # Errors
    ///
    /// [`ShortOfMemory`] if there is too little memory, and too little to purge.
    pub fn grow(&self, bytes: u64) -> Result<(), ShortOfMemory> {
        let margin = self.host.margin();
        margin.recall(&self.host, bytes)?;
        let counts = [&self.promised.bytes, &margin.promised];
        margin.allow(&self.host, bytes, &counts)
    }

    /// Takes back the promise to growths that failed: all bytes that the memories do not have.
    /// Call it only while no memory of the store grows.
    pub fn growth_failed(&mut self) {
        if let Some(store) = self.promised.store.get() {
            let promised = self.promised.bytes.load(Ordering::SeqCst);
            self.give_back(promised.saturating_sub(memory_bytes(*store)));
        }
    }

    fn give_back(&self, bytes: u64) {
        for count in [&self.promised.bytes, &self.host.margin().promised] {
            count.fetch_sub(bytes, Ordering::SeqCst);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.host.margin().promises().remove(&self.number);
        self.give_back(self.promised.bytes.load(Ordering::SeqCst));
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise")
            .field("bytes", &self.promised.bytes)
            .finish_non_exhaustive()
    }
}

/// Memory that is left, and the part of it that is promised and not in use.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: Headroom,
    needed: u64,
}

impl Room {
    /// Returns whether less than `kept` bytes are free.
    fn is_short_of(&self, kept: u64) -> bool {
        self.left.memory < self.needed.saturating_add(kept)
    }

    /// Returns how many bytes are missing to keep `kept` bytes free, if `purgeable`
    /// bytes are purged and swap space is used.
    fn lacks(&self, purgeable: u64, kept: u64) -> u64 {
        let there = self.left.memory.saturating_add(self.left.swap);
        let there = there.saturating_add(purgeable);
        self.needed.saturating_add(kept).saturating_sub(there)
    }
}

/// The result of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick {
    /// The highest level that was met since the last tick.
    pub(super) met: Level,
    /// The memory that is left; `None` if the gauge failed.
    pub(super) left: Option<Headroom>,
    /// Less than half of the margin is left, and there is nothing to purge.
    pub(super) short: bool,
}

impl Margin {
    /// Creates a margin of `keep` bytes, measured by this gauge or else by the system's.
    pub(crate) fn new(keep: u64, gauge: Option<Arc<dyn MemoryGauge>>) -> Margin {
        Margin {
            keep,
            gauge: gauge.map_or_else(OnceLock::new, OnceLock::from),
            begun: Instant::now(),
            allowance: AtomicU64::new(0),
            good_until: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            promises: Mutex::default(),
            last: AtomicU64::new(0),
            looked: Mutex::default(),
            refusal: Mutex::default(),
            met: Mutex::default(),
            blind: AtomicBool::new(false),
        }
    }

    pub(super) fn keep(&self) -> u64 {
        self.keep
    }

    pub(super) fn gauge(&self) -> &dyn MemoryGauge {
        // Made at the first use: finding the cgroups reads files.
        let gauge = || Arc::new(SystemGauge::of_this_process()) as _;
        &**self.gauge.get_or_init(gauge)
    }

    fn promises(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Promised>>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, level: Level) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        *met = level.max(*met);
    }

    /// Reads the gauge. Returns `None` if it fails.
    fn headroom(&self, enough: u64) -> Option<Headroom> {
        match self.gauge().headroom(enough) {
            Ok(headroom) => Some(headroom),
            Err(error) => {
                if !self.blind.swap(true, Ordering::Relaxed) {
                    tracing::warn!("cannot measure free memory, so no margin is kept: {error}");
                }
                None
            }
        }
    }

    /// Takes bytes from the allowance. Returns whether it had that many.
    fn spend(&self, bytes: u64) -> bool {
        let now = self.begun.elapsed().as_micros();
        now < u128::from(self.good_until.load(Ordering::SeqCst))
            && self
                .allowance
                .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(bytes)
                })
                .is_ok()
    }

    /// Sets the allowance, for one tick.
    fn allow_more(&self, bytes: u64) {
        let until = (self.begun.elapsed() + TICK).as_micros();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.good_until.store(until, Ordering::SeqCst);
        self.allowance.store(bytes, Ordering::SeqCst);
    }

    fn refusal(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the bytes that are promised, asked for and committed, touched or not.
    fn demand(&self, host: &RegionHost) -> u64 {
        self.promised
            .load(Ordering::SeqCst)
            .saturating_add(self.asked.load(Ordering::SeqCst))
            .saturating_add(host.budget().committed)
    }

    /// Refuses `bytes` if the last refusal says that there is too little memory for them,
    /// so that a guest that insists takes no looks, for which all others wait. Call it
    /// before the bytes are in any count, since those of others are judged by that.
    fn recall(&self, host: &RegionHost, bytes: u64) -> Result<(), ShortOfMemory> {
        let refusal = *self.refusal();
        let Some(refusal) = refusal.filter(|it| it.at.elapsed() < TICK) else {
            return Ok(());
        };
        let demand = self.demand(host).saturating_add(bytes);
        let missing = demand.saturating_sub(refusal.most);
        let usage = host.budget();
        if missing == 0 || usage.spare >= missing || usage.purgeable > refusal.purgeable {
            return Ok(());
        }
        Err(self.short(bytes, missing))
    }

    /// Notes that `bytes` are refused, because so many are missing.
    fn short(&self, bytes: u64, missing: u64) -> ShortOfMemory {
        if missing < self.keep {
            // Small requests of other guests are refused as well by now.
            self.meet(Level::Critical);
        }
        ShortOfMemory {
            asked: bytes,
            left: bytes.saturating_sub(missing),
            margin: self.keep,
        }
    }

    /// Checks that there is memory for `bytes`, and adds them to these counts, so that no other
    /// request gets the same bytes. Purges for them if that is needed and enough.
    ///
    /// One request is judged at a time, and counts from when it is judged. So one that is refused
    /// takes part in no other decision.
    fn allow(
        &self,
        host: &RegionHost,
        bytes: u64,
        counts: &[&AtomicU64],
    ) -> Result<(), ShortOfMemory> {
        let add = || {
            for count in counts {
                count.fetch_add(bytes, Ordering::SeqCst);
            }
        };
        let remove = || {
            for count in counts {
                count.fetch_sub(bytes, Ordering::SeqCst);
            }
        };
        if self.keep == 0 {
            add();
            return Ok(());
        }
        let spend = || {
            if bytes > self.allowance.load(Ordering::SeqCst) {
                return false;
            }
            // Counted before they are spent: who ends the allowance counts all that was spent.
            add();
            let spent = self.spend(bytes);
            if !spent {
                remove();
            }
            spent
        };
        if spend() {
            return Ok(());
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if spend() {
            return Ok(());
        }
        add();
        // Spending from here on fails, and every earlier spender is in the counts.
        self.allowance.store(0, Ordering::SeqCst);
        let all = self.demand(host).saturating_add(self.keep);
        let Some(left) = self.headroom(all.saturating_add(STRIDE)) else {
            return Ok(());
        };
        if let Some(beyond) = left.memory.checked_sub(all) {
            // There is enough even if no promised byte has been touched.
            self.allow_more(beyond);
            return Ok(());
        }
        match self.allow_exactly(host, bytes, &mut looked) {
            None | Some(Ok(())) => Ok(()),
            Some(Err((refusal, missing))) => {
                // Before anybody is judged by the refusal.
                remove();
                *self.refusal() = Some(refusal);
                Err(self.short(bytes, missing))
            }
        }
    }

    /// Goes on with `allow` when it matters how many promised bytes are in use. Returns `None` if
    /// the gauge fails, and a refusal with how many bytes are missing.
    fn allow_exactly(
        &self,
        host: &RegionHost,
        bytes: u64,
        looked: &mut Option<Looked>,
    ) -> Option<Result<(), (Refusal, u64)>> {
        let before = self.demand(host);
        let age = |looked: &Looked| looked.at.elapsed();
        let whole = looked.as_ref().is_none_or(|it| age(it) > WHOLE);
        let mut room = self.room(host, whole, looked)?;
        let mut purgeable = host.purgeable();
        if !whole && room.lacks(purgeable, self.keep / 2) > 0 {
            // Refuse only by figures that are fresh.
            let is_due = |it: &Looked| age(it) > it.took * PART;
            if looked.as_ref().is_some_and(is_due) {
                room = self.room(host, true, looked)?;
            }
            purgeable = host.purgeable();
        }
        // A request that would be refused all the same gives up nothing.
        let there = purgeable.saturating_add(host.budget().spare);
        let helps = room.is_short_of(self.keep) && room.lacks(there, self.keep / 2) == 0;
        if helps && host.give_up_spare() > 0 {
            room = self.room(host, false, looked)?;
        }
        // Likewise.
        let lacking = room.is_short_of(self.keep);
        if lacking && purgeable > 0 && room.lacks(purgeable, self.keep / 2) == 0 {
            let missing = room.needed.saturating_add(self.keep) - room.left.memory;
            let purged = host.purge(missing);
            tracing::debug!(bytes, purged, "purged to keep the margin of memory");
            self.meet(Level::Moderate);
            room = self.room(host, false, looked)?;
            purgeable = 0;
        }
        let missing = room.lacks(purgeable, self.keep / 2);
        if missing > 0 {
            // The larger demand, so that nothing is refused for bytes that came or went meanwhile.
            let demand = self.demand(host).max(before);
            let refusal = Refusal {
                at: Instant::now(),
                most: demand.saturating_sub(missing),
                purgeable,
            };
            return Some(Err((refusal, missing)));
        }
        let needed = room.needed.saturating_add(self.keep);
        self.allow_more(room.left.memory.saturating_sub(needed));
        Some(Ok(()))
    }

    /// Measures the memory that is left and the memory that is promised. Returns `None` if the
    /// gauge fails.
    fn room(&self, host: &RegionHost, whole: bool, looked: &mut Option<Looked>) -> Option<Room> {
        let begun = Instant::now();
        let promises: Vec<Arc<Promised>> = self.promises().values().cloned().collect();
        let untouched: u64 = promises.iter().map(|it| it.untouched(whole)).sum();
        if whole {
            *looked = Some(Looked {
                at: Instant::now(),
                took: begun.elapsed(),
            });
        }
        let needed = untouched.saturating_add(self.untouched_of_regions(host));
        // Read last, so that bytes touched meanwhile count twice rather than never.
        let left = self.headroom(u64::MAX)?;
        Some(Room { left, needed })
    }

    /// Returns the bytes that are committed, or about to be, and for which the kernel
    /// has not allocated memory yet.
    fn untouched_of_regions(&self, host: &RegionHost) -> u64 {
        let asked = self.asked.load(Ordering::SeqCst);
        let before = host.budget().committed;
        let regions = host.regions();
        let resident: u64 = regions.iter().map(|region| region.resident()).sum();
        // After the regions, so that a file that is about to have one does not count twice.
        let resident = resident + host.recycler().resident();
        // The larger one, so that no region is resident and not committed.
        let committed = host.budget().committed.max(before);
        asked.saturating_add(committed.saturating_sub(resident))
    }

    /// Purges the bytes that the margin lacks.
    pub(super) fn tick(&self, host: &RegionHost, enough: u64) -> Tick {
        let mut left = self.headroom(self.keep.saturating_add(enough));
        if left.is_some_and(|left| left.memory < self.keep) && host.give_up_spare() > 0 {
            left = self.headroom(self.keep.saturating_add(enough));
        }
        let mut short = false;
        if let Some(now) = left.as_mut().filter(|left| left.memory < self.keep) {
            self.meet(Level::Moderate);
            // Again if others used as much meanwhile.
            while now.memory < self.keep && host.purgeable() > 0 {
                let purged = host.purge(self.keep - now.memory);
                tracing::debug!(purged, "purged to keep the margin of memory");
                match self.headroom(u64::MAX) {
                    Some(again) if purged > 0 => *now = again,
                    _ => break,
                }
            }
            let there = now.memory.saturating_add(now.swap);
            short = there < self.keep / 2 && host.purgeable() == 0;
            if short {
                self.meet(Level::Critical);
            }
        }
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        Tick {
            met: std::mem::take(&mut *met),
            left,
            short,
        }
    }
}

impl fmt::Debug for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Margin")
            .field("keep", &self.keep)
            .field("promised", &self.promised)
            .finish_non_exhaustive()
    }
}

impl RegionHost {
    /// Asks whether linear memory may grow by `bytes`, beside the
    /// [margin](crate::HostLimits::margin). If there is too little memory, the host first
    /// purges for them, provided that this makes enough room.
    ///
    /// Call it from the [`ResourceLimiter`](wasmtime::ResourceLimiter) of an embedder's
    /// store, in `memory_growing`, with `desired - current`, and refuse the growth if it
    /// fails. An app of `tombolo-app` asks for its guests by itself. For these the
    /// host also counts promised bytes that are not touched yet. It cannot know those of
    /// other stores.
    ///
    /// Usually takes less than a microsecond. At most every 10 ms it reads the gauge,
    /// which takes dozens of microseconds, and it blocks for milliseconds if it purges.
    ///
    /// # Errors
    ///
    /// [`ShortOfMemory`] if there is too little memory, and too little to purge.
    pub fn may_grow(&self, bytes: u64) -> Result<(), ShortOfMemory> {
        let margin = self.margin();
        margin.recall(self, bytes)?;
        margin.allow(self, bytes, &[&margin.asked])?;
        margin.asked.fetch_sub(bytes, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! All regions of one program, and the limits on what they cost together.
//!
//! # Purging
//!
//! Purging takes time in the kernel for each page that was touched, and holds no lock
//! meanwhile. Granules are first withdrawn from what can be pinned, in steps of at most 16
//! MiB. Then they are punched out of the file, and then noted as lost. A `pin` that meets them
//! waits for that, and then reports the truth. A `pin` that must make room for a part of its
//! span first keeps the rest of the span from being purged for it.
//!
//! Purging is sound because memory is taken only where no claim pins it, and then no memory
//! shows it. Windows, guards and copies need bytes that their claim pins. A window is created
//! only on pinned bytes, and unpinning is refused on bytes under a guard of the host program.
//! So purging changes no byte that anybody can see, and no slice that is alive. Purged bytes
//! read as zeros, which are charged again when they are pinned.
//!
//! | file | content |
//! |---|---|
//! | `region` | one region, as all its holders share it |
//! | `handle` | handles to regions, and operations of their holders |
//! | `guard` | guards of the host program |
//! | `access` | guards, copies and waits of handles |
//! | `owner` | holders, the accounts that pay for their claims, and what they have released |
//! | `pool` | regions of one size, with memory that is used again |
//! | `incoming` | regions whose bytes come slowly |
//! | `queue` | waits for the budget |
//! | `streaming` | bytes on their way between streams and regions |
//! | `usage` | the cost of regions |
//! | `within` | lends within one guest |
//! | `margin` | the margin of free memory: promises, purges and refusals |
//! | `keeper` | the thread that keeps the margin |
//! | `monitor` | reactions to reports of memory pressure |

mod access;
mod guard;
mod handle;
mod incoming;
mod keeper;
mod margin;
mod monitor;
mod owner;
mod pool;
mod queue;
#[cfg(test)]
mod recycling_tests;
mod region;
#[cfg(feature = "wasi-io")]
mod streaming;
mod usage;
mod within;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tombolo_region::{
    Account, AdmissionControl, Budget, BudgetUsage, CommitCharge, Exhausted, GRANULE, RegionNumber,
};

#[cfg(any(feature = "component-model-async", feature = "wasi-io"))]
pub(crate) use self::access::WindowWaiter;
pub use self::guard::{ReadGuard, WriteGuard};
pub use self::handle::Region;
pub use self::incoming::IncomingRegion;
pub use self::keeper::MarginKeeper;
use self::margin::{Margin, ask_to_commit, commit_done};
pub use self::margin::{Promise, ShortOfMemory};
pub use self::monitor::{PressureChanges, PressureMonitor};
use self::owner::LendWithin;
pub use self::owner::Owner;
pub(crate) use self::owner::RegionRef;
pub use self::pool::RegionPool;
use self::queue::BudgetQueue;
pub(crate) use self::region::{MaskedWindows, RegionInner, WindowLocation};
pub use self::usage::RegionUsage;
use crate::identity::{HostId, Identities, RegionId};
use crate::limits::{HostLimits, Limits};
use crate::pressure::{Level, MemoryGauge};
use crate::sys::recycling::{KeptFile, Recycler};
use crate::sys::{Forked, Process, parking};
use crate::time::HostTime;

/// All regions of one program, and the limits on what they cost together.
///
/// A clone is the same host, and cheap. Stores that share regions share a host. Regions keep
/// their host alive.
#[derive(Clone)]
pub struct RegionHost(Arc<Inner>);

struct Inner {
    limits: HostLimits,
    /// The limits of guests that get none of their own. Kept because asking the machine takes
    /// ten times as long as starting a guest.
    guest_limits: Limits,
    account: Arc<Account>,
    budget: Arc<Budget>,
    /// The existing regions, in the order in which they were created.
    regions: Mutex<BTreeMap<RegionNumber, Weak<RegionInner>>>,
    /// The host program as a holder.
    own: Arc<Owner>,
    id: HostId,
    /// The process that created the host.
    process: Process,
    identities: Identities,
    counters: Counters,
    time: HostTime,
    /// The higher one of the levels below.
    pressure: watch::Sender<Level>,
    levels: Mutex<Levels>,
    margin: Margin,
    /// The files of ended regions.
    recycler: Arc<Recycler>,
    queue: BudgetQueue,
}

/// Levels of memory pressure by origin. The higher one holds.
#[derive(Debug, Default)]
struct Levels {
    reported: Level,
    margin: Level,
    /// There while one of them is above normal.
    pause: Option<parking::Pause>,
}

/// Makes the budget ask the host's margin before it commits anything.
struct AskMargin(Weak<Inner>);

impl AskMargin {
    fn host(&self) -> Option<RegionHost> {
        self.0.upgrade().map(RegionHost)
    }
}

impl AdmissionControl for AskMargin {
    fn admit(&self, granules: u64) -> Result<(), Exhausted> {
        match self.host() {
            Some(host) => ask_to_commit(&host, granules),
            None => Ok(()),
        }
    }

    fn settled(&self, granules: u64) {
        if let Some(host) = self.host() {
            commit_done(&host, granules);
        }
    }

    fn freed(&self) {
        if let Some(host) = self.host() {
            host.queue().note_freed();
        }
    }

    fn give_up_spare(&self, granules: u64) {
        if let Some(host) = self.host() {
            host.recycler().give_up(granules.saturating_mul(GRANULE));
        }
    }
}

/// Counts of what happened on a host so far. All values only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostCounts {
    /// Regions that were created.
    pub regions_created: u64,
    /// Regions that ended, because nobody had a claim on them any more.
    pub regions_freed: u64,
    /// Regions that were created with the memory of one that had ended.
    pub regions_recycled: u64,
    /// Windows that guests mapped.
    pub windows: u64,
    /// Bytes of the regions on which guests of at least two names have had windows, each
    /// region once.
    pub bytes_shared: u64,
    /// Bytes that the host copied by `read-at` and `write-at`.
    pub bytes_copied: u64,
}

#[derive(Default)]
struct Counters {
    regions_created: AtomicU64,
    regions_freed: AtomicU64,
    regions_recycled: AtomicU64,
    windows: AtomicU64,
    bytes_shared: AtomicU64,
    bytes_copied: AtomicU64,
}

impl RegionHost {
    /// Creates a host with default limits.
    ///
    /// It works with engines that [`prepare`](crate::prepare) readied. With other engines,
    /// regions work by copies.
    #[must_use]
    pub fn new() -> RegionHost {
        RegionHost::with_limits(HostLimits::default())
    }

    /// Creates a host with the given limits.
    #[must_use]
    pub fn with_limits(limits: HostLimits) -> RegionHost {
        RegionHost::of(limits, None)
    }

    /// Creates a host with the given limits. It measures its
    /// [margin](crate::HostLimits::margin) with this gauge instead of a
    /// [`SystemGauge`](crate::pressure::SystemGauge).
    #[must_use]
    pub fn with_gauge(limits: HostLimits, gauge: Arc<dyn MemoryGauge>) -> RegionHost {
        RegionHost::of(limits, Some(gauge))
    }

    fn of(limits: HostLimits, gauge: Option<Arc<dyn MemoryGauge>>) -> RegionHost {
        let account = Account::new("the host", limits.quota());
        let guest_limits = Limits::default();
        let unlimited = Limits {
            regions: u32::MAX,
            claimed_bytes: u64::MAX,
            region_bytes: u64::MAX,
            handles: u32::MAX,
            windows: u32::MAX,
            unpinned_spans: u32::MAX,
            ..guest_limits.clone()
        };
        let id = HostId::fresh();
        let own = Owner::new(id, "host program".into(), unlimited);
        let host = RegionHost(Arc::new(Inner {
            budget: Budget::new(limits.budget),
            margin: Margin::new(limits.margin, gauge),
            queue: BudgetQueue::default(),
            recycler: Arc::new(Recycler::new(limits.spare)),
            levels: Mutex::default(),
            regions: Mutex::default(),
            limits,
            guest_limits,
            account,
            own,
            id,
            process: Process::current(),
            identities: Identities::new(),
            counters: Counters::default(),
            time: HostTime::begin(),
            pressure: watch::Sender::new(Level::Normal),
        }));
        let ask = AskMargin(Arc::downgrade(&host.0));
        host.0.budget.set_admission_control(ask);
        host
    }

    /// Returns the limits that the host was created with.
    #[must_use]
    pub fn limits(&self) -> &HostLimits {
        &self.0.limits
    }

    /// Returns what regions may commit, and what they do commit, in bytes.
    #[must_use]
    pub fn budget(&self) -> BudgetUsage {
        self.0.budget.usage()
    }

    /// Changes the bytes that regions may commit, and purges what is over it. Returns how many
    /// bytes are still over budget because they are pinned.
    ///
    /// Nothing more is committed while the host is over budget. Bytes over budget are purged as
    /// soon as nobody pins them.
    ///
    /// Blocks while it purges: about 0.2 s for each GiB. In a process that was forked from the
    /// one with the host, it does nothing and returns 0.
    pub fn set_budget(&self, bytes: u64) -> u64 {
        if self.check_process().is_err() {
            return 0;
        }
        self.0.budget.resize(bytes) * GRANULE
    }

    /// Returns how many bytes could be purged because nobody pins them.
    #[must_use]
    pub fn purgeable(&self) -> u64 {
        self.budget().purgeable
    }

    /// Purges bytes that nobody pins, the least recently unpinned first, until `bytes` went
    /// back to the kernel or none are left. Returns how many bytes went back: whole granules,
    /// and frozen regions as a whole.
    ///
    /// Blocks while it purges: about 0.2 s for each GiB. In a process that was forked from the
    /// one with the host, it does nothing and returns 0.
    pub fn purge(&self, bytes: u64) -> u64 {
        if self.check_process().is_err() {
            return 0;
        }
        self.0.budget.purge(bytes.div_ceil(GRANULE)) * GRANULE
    }

    /// Returns counts of what happened so far.
    #[must_use]
    pub fn counts(&self) -> HostCounts {
        let counters = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HostCounts {
            regions_created: get(&counters.regions_created),
            regions_freed: get(&counters.regions_freed),
            regions_recycled: get(&counters.regions_recycled),
            windows: get(&counters.windows),
            bytes_shared: get(&counters.bytes_shared),
            bytes_copied: get(&counters.bytes_copied),
        }
    }

    /// Returns the limits of guests that get none of their own.
    pub(crate) fn guest_limits(&self) -> &Limits {
        &self.0.guest_limits
    }

    pub(crate) fn id(&self) -> HostId {
        self.0.id
    }

    /// Refuses operations that a forked child of the host's process must not do.
    pub(crate) fn check_process(&self) -> Result<(), Forked> {
        self.0.process.check()
    }

    /// Returns the host program as a holder.
    pub(crate) fn own(&self) -> &Arc<Owner> {
        &self.0.own
    }

    pub(crate) fn count_copied(&self, bytes: u64) {
        let copied = &self.0.counters.bytes_copied;
        copied.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count_recycled(&self) {
        let recycled = &self.0.counters.regions_recycled;
        recycled.fetch_add(1, Ordering::Relaxed);
    }

    fn queue(&self) -> &BudgetQueue {
        &self.0.queue
    }

    /// Returns the files of ended regions.
    fn recycler(&self) -> &Arc<Recycler> {
        &self.0.recycler
    }

    /// Closes the files of ended regions. Returns how many bytes they had.
    fn give_up_spare(&self) -> u64 {
        match self.check_process() {
            Ok(()) => self.recycler().give_up(u64::MAX),
            Err(_) => 0,
        }
    }

    /// Commits the memory of a kept file, for a region that gets it. `None` if there is no room.
    fn commit_kept(&self, kept: &mut KeptFile) -> Option<CommitCharge> {
        // The margin has room for what is allocated already.
        let unallocated = kept.unallocated().div_ceil(GRANULE);
        if unallocated == 0 {
            return self.recycler().exchange(kept);
        }
        ask_to_commit(self, unallocated).ok()?;
        let commit = self.recycler().exchange(kept);
        commit_done(self, unallocated);
        commit
    }

    fn count_window(&self) {
        self.0.counters.windows.fetch_add(1, Ordering::Relaxed);
    }

    fn count_shared(&self, bytes: u64) {
        let shared = &self.0.counters.bytes_shared;
        shared.fetch_add(bytes, Ordering::Relaxed);
    }

    fn account(&self) -> &Arc<Account> {
        &self.0.account
    }

    fn ledger_budget(&self) -> &Arc<Budget> {
        &self.0.budget
    }

    fn margin(&self) -> &Margin {
        &self.0.margin
    }

    fn time(&self) -> &HostTime {
        &self.0.time
    }

    /// Locks the levels of memory pressure.
    fn levels(&self) -> MutexGuard<'_, Levels> {
        let levels = self.0.levels.lock();
        levels.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the level of memory pressure that holds.
    fn pressure_level(&self) -> &watch::Sender<Level> {
        &self.0.pressure
    }

    /// Returns the next region's number, and the identity that belongs to it.
    fn next_identity(&self) -> (RegionNumber, RegionId) {
        self.0.identities.next()
    }

    fn lock_regions(&self) -> MutexGuard<'_, BTreeMap<RegionNumber, Weak<RegionInner>>> {
        let regions = self.0.regions.lock();
        regions.unwrap_or_else(PoisonError::into_inner)
    }

    fn regions(&self) -> Vec<Arc<RegionInner>> {
        let regions = self.lock_regions();
        regions.values().filter_map(Weak::upgrade).collect()
    }

    fn add_region(&self, number: RegionNumber, region: Weak<RegionInner>) {
        self.lock_regions().insert(number, region);
        let created = &self.0.counters.regions_created;
        created.fetch_add(1, Ordering::Relaxed);
    }

    fn remove_region(&self, number: RegionNumber) {
        self.lock_regions().remove(&number);
        let freed = &self.0.counters.regions_freed;
        freed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for RegionHost {
    fn default() -> RegionHost {
        RegionHost::new()
    }
}

impl fmt::Debug for RegionHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionHost")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::error::RegionError;
use crate::identity::Identities;
use crate::limits::{HostLimits, Limits};
use crate::pressure::{Level, Margin, MemoryGauge, ask_to_commit, commit_done};
use crate::sys::{Forked, MemoryRecord, Process, RegionFile};
use crate::time::Time;
use crate::usage::Released;
use crate::watched::{Decisions, Watched};
use crate::{Region, RegionCtxBuilder};
use tombolo_region::{
    Access, Account, AdmissionControl, Budget, BudgetUsage, Charge, ChargeKind, CommitCharge,
    Exhausted, GRANULE, Ledger, LedgerLock, PurgeRequest, Purgeable, RegionName, Span, WaiterId,
};

/// All regions of one program, and what they may cost together.
///
/// Cheap to clone; clones are the same host. Stores that share regions share a
/// host.
#[derive(Clone)]
pub struct RegionHost(Arc<Inner>);

struct Inner {
    limits: HostLimits,
    /// What a guest may hold where nobody says: asking the machine takes ten times as
    /// long as starting a guest.
    guest_limits: Limits,
    account: Arc<Account>,
    budget: Arc<Budget>,
    /// The regions that there are, in the order in which they were created.
    regions: Mutex<BTreeMap<u64, Weak<Shared>>>,
    /// What the host program itself holds.
    own: Arc<Owner>,
    /// No other host of the process has it.
    number: u64,
    /// The one that made it.
    process: Process,
    identities: Identities,
    counters: Counters,
    time: Time,
    pressure: watch::Sender<Level>,
    /// The levels of which it is the higher one.
    levels: Mutex<Levels>,
    margin: Margin,
}

/// Levels of memory pressure by origin. The higher one holds.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    pub(crate) reported: Level,
    pub(crate) margin: Level,
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
}

/// What happened on a host so far. All values only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Regions that were created.
    pub regions_created: u64,
    /// Regions whose memory went back to the kernel.
    pub regions_freed: u64,
    /// Windows that guests made.
    pub windows: u64,
    /// Bytes of the regions that guests of at least two names have had windows
    /// on, each region once.
    pub bytes_shared: u64,
    /// Bytes that the host copied by `read-at` and `write-at`.
    pub bytes_copied: u64,
}

#[derive(Default)]
struct Counters {
    regions_created: AtomicU64,
    regions_freed: AtomicU64,
    windows: AtomicU64,
    bytes_shared: AtomicU64,
    bytes_copied: AtomicU64,
}

/// Whoever holds regions: a guest, or the host program.
#[derive(Debug)]
pub struct Owner {
    /// The name of the guest.
    pub name: String,
    /// The account that pays for the claims.
    pub account: Arc<Account>,
    pub(crate) limits: Limits,
    /// The number of the host on whose regions it has claims.
    pub(crate) host: u64,
    /// Regions whose last holder this was.
    regions_freed: AtomicU64,
    /// What it held before.
    released: Mutex<Released>,
}

impl Owner {
    pub(crate) fn new(host: u64, name: String, limits: Limits) -> Arc<Owner> {
        let account = Account::new(format!("guest `{name}`"), limits.quota());
        Owner::on(host, account, name, limits)
    }

    /// A holder on an account that there is: the next life of a guest, what it
    /// queued in its last being on it still.
    pub(crate) fn on(host: u64, account: Arc<Account>, name: String, limits: Limits) -> Arc<Owner> {
        Arc::new(Owner {
            host,
            name,
            account,
            limits,
            regions_freed: AtomicU64::new(0),
            released: Mutex::default(),
        })
    }

    pub(crate) fn released(&self) -> MutexGuard<'_, Released> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many regions ended with this holder.
    pub fn regions_freed(&self) -> u64 {
        self.regions_freed.load(Ordering::Relaxed)
    }

    /// What a claim on a region of this size costs, of which it does not pin so
    /// many runs.
    pub(crate) fn charge_claim(&self, size: u64, spans: u64) -> Result<Vec<Charge>, RegionError> {
        Ok(vec![
            self.account.charge(ChargeKind::Regions, 1)?,
            self.account.charge(ChargeKind::ClaimedBytes, size)?,
            self.account.charge(ChargeKind::UnpinnedSpans, spans)?,
        ])
    }
}

/// A region, as one owner holds it, or has held it: by a handle or by a window.
pub(crate) struct Hold {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: Arc<Owner>,
}

impl Hold {
    pub(crate) fn new(shared: &Arc<Shared>, owner: &Arc<Owner>) -> Hold {
        Hold {
            shared: shared.clone(),
            owner: owner.clone(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.settle(Some(&self.owner));
    }
}

/// Where a guest's window is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) memory: Arc<MemoryRecord>,
    pub(crate) start: usize,
    pub(crate) key: u64,
}

/// One region, shared by all that hold it.
pub(crate) struct Shared {
    /// Its identity, which all its holders may see.
    pub(crate) id: u64,
    /// The number of the region, counted from the first one. Guests must not see it:
    /// it reveals how many regions others create.
    number: u64,
    pub(crate) name: RegionName,
    pub(crate) size: u64,
    /// Until nobody has a claim: somebody may have a revoked handle for longer.
    body: Mutex<Option<Body>>,
    pub(crate) inode: u64,
    pub(crate) ledger: Watched<Option<Place>>,
    /// The first guest that had a window on it, and whether another had too.
    seen: Mutex<(Option<String>, bool)>,
    host: RegionHost,
}

impl RegionHost {
    /// A host with default limits, for engines that [`prepare`](crate::prepare)
    /// readied, and for others, on which regions work by copies.
    #[must_use]
    pub fn new() -> RegionHost {
        RegionHost::with_limits(HostLimits::default())
    }

    /// A host with the given limits.
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
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let own = Owner::new(number, "host program".into(), unlimited);
        let host = RegionHost(Arc::new(Inner {
            budget: Budget::new(limits.budget),
            margin: Margin::new(limits.margin, gauge),
            levels: Mutex::default(),
            regions: Mutex::default(),
            limits,
            guest_limits,
            account,
            own,
            number,
            process: Process::current(),
            identities: Identities::new(),
            counters: Counters::default(),
            time: Time::begin(),
            pressure: watch::Sender::new(Level::Normal),
        }));
        let ask = AskMargin(Arc::downgrade(&host.0));
        host.0.budget.set_admission_control(ask);
        host
    }

    pub(crate) fn margin(&self) -> &Margin {
        &self.0.margin
    }

    /// Locks the levels of memory pressure.
    pub(crate) fn levels(&self) -> MutexGuard<'_, Levels> {
        let levels = self.0.levels.lock();
        levels.unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits that it was made with.
    #[must_use]
    pub fn limits(&self) -> &HostLimits {
        &self.0.limits
    }

    /// Creates a region that the host program holds, all zero, with all rights,
    /// and pinned whole.
    ///
    /// # Errors
    ///
    /// [`RegionError::Name`], [`RegionError::Size`]; [`RegionError::Exhausted`],
    /// also where the budget has no room and too little can be purged;
    /// [`RegionError::System`] if the kernel has no descriptor or memory left.
    pub fn create(&self, name: &str, size: u64) -> Result<Region, RegionError> {
        Region::create(self, &self.0.own, name, size, true)
    }

    /// Creates a region that the host program holds, all zero, with all rights,
    /// and unpinned: it costs nothing until it is [pinned](Region::pin), in part
    /// or whole.
    ///
    /// # Errors
    ///
    /// As [`create`](RegionHost::create), but for the budget.
    pub fn create_unpinned(&self, name: &str, size: u64) -> Result<Region, RegionError> {
        Region::create(self, &self.0.own, name, size, false)
    }

    /// What regions may commit, and do, in bytes.
    #[must_use]
    pub fn budget(&self) -> BudgetUsage {
        self.0.budget.usage()
    }

    /// Changes what regions may commit, in bytes, and purges what is over it.
    /// Gives how many bytes are over it still, since somebody pins them: then
    /// nothing more is committed until they are not, and what of them nobody pins
    /// any more is purged at once, as far as it is over the budget.
    ///
    /// In a process that was forked from the one with the host, it does nothing and
    /// returns 0.
    pub fn set_budget(&self, bytes: u64) -> u64 {
        if self.check_process().is_err() {
            return 0;
        }
        self.0.budget.resize(bytes) * GRANULE
    }

    /// How many bytes nobody pins and could be purged.
    #[must_use]
    pub fn purgeable(&self) -> u64 {
        self.budget().purgeable
    }

    /// Purges bytes that nobody pins, the least recently unpinned first, until so
    /// many are given back to the kernel or there are none left. Gives how many
    /// it was: whole granules, and frozen regions as a whole.
    ///
    /// In a process that was forked from the one with the host, it does nothing and
    /// returns 0.
    pub fn purge(&self, bytes: u64) -> u64 {
        if self.check_process().is_err() {
            return 0;
        }
        self.0.budget.purge(bytes.div_ceil(GRANULE)) * GRANULE
    }

    pub(crate) fn regions(&self) -> Vec<Arc<Shared>> {
        let regions = self.0.regions.lock();
        let regions = regions.unwrap_or_else(PoisonError::into_inner);
        regions.values().filter_map(Weak::upgrade).collect()
    }

    /// What a guest may hold where nobody says.
    pub(crate) fn guest_limits(&self) -> &Limits {
        &self.0.guest_limits
    }

    /// Begins the context of one guest.
    pub fn context(&self, guest: impl Into<String>) -> RegionCtxBuilder {
        RegionCtxBuilder::new(self, guest.into())
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            regions_created: get(&counters.regions_created),
            regions_freed: get(&counters.regions_freed),
            windows: get(&counters.windows),
            bytes_shared: get(&counters.bytes_shared),
            bytes_copied: get(&counters.bytes_copied),
        }
    }

    /// A number that no other host of the process has.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// Refuses operations that a forked child of the host's process must not do.
    pub(crate) fn check_process(&self) -> Result<(), Forked> {
        self.0.process.check()
    }

    pub(crate) fn own(&self) -> &Arc<Owner> {
        &self.0.own
    }

    /// The level of memory pressure, as it was reported last.
    pub(crate) fn pressure_level(&self) -> &watch::Sender<Level> {
        &self.0.pressure
    }

    pub(crate) fn count_copied(&self, bytes: u64) {
        self.0
            .counters
            .bytes_copied
            .fetch_add(bytes, Ordering::Relaxed);
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

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({:#x})", self.start)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A new region and its creator's handle.
    pub(crate) fn create(
        host: &RegionHost,
        name: RegionName,
        size: u64,
        pinned: bool,
        claim: Vec<Charge>,
    ) -> Result<(Arc<Shared>, tombolo_region::Handle), RegionError> {
        let charge = host.0.account.charge(ChargeKind::Regions, 1)?;
        let budget = &host.0.budget;
        let commit = match pinned {
            true => Some(budget.commit(Span::whole(size).length() / GRANULE)?),
            false => None,
        };
        let file = Arc::new(RegionFile::new(&name, size)?);
        let (ledger, handle) = Ledger::new(size, budget, commit, claim);
        let (number, id) = host.0.identities.next();
        let shared = Arc::new(Shared {
            id,
            number,
            name,
            size,
            inode: file.inode(),
            body: Mutex::new(Some(Body {
                file,
                _charge: charge,
            })),
            ledger: Watched::new(LedgerLock::new(number, budget, ledger), host.0.time.clone()),
            seen: Mutex::default(),
            host: host.clone(),
        });
        let region: Weak<Shared> = Arc::downgrade(&shared);
        budget.register(number, region.clone());
        let regions = host.0.regions.lock();
        regions
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, region);
        host.0
            .counters
            .regions_created
            .fetch_add(1, Ordering::Relaxed);
        tracing::debug!(region = %shared.name, id = shared.id, size, pinned, "region created");
        Ok((shared, handle))
    }

    pub(crate) fn ledger(&self) -> Decisions<'_, Option<Place>> {
        self.ledger.lock()
    }

    pub(crate) fn ledger_lock(&self) -> &LedgerLock<Option<Place>> {
        self.ledger.unwatched()
    }

    pub(crate) fn host(&self) -> &RegionHost {
        &self.host
    }

    /// The memory. Asked for after the lock was taken, which keeps a claim.
    ///
    /// # Errors
    ///
    /// [`RegionError::Gone`] if nobody has a claim any more.
    pub(crate) fn file(&self) -> Result<Arc<RegionFile>, RegionError> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_ref()
            .map(|body| body.file.clone())
            .ok_or(RegionError::Gone)
    }

    /// The bytes that the kernel has allocated for it.
    pub(crate) fn resident(&self) -> u64 {
        self.file().map_or(0, |file| file.allocated())
    }

    /// Gives the memory back to the kernel, if nobody has a claim any more.
    /// Called by whoever has let go of something.
    pub(crate) fn settle(&self, last: Option<&Owner>) {
        if self.ledger().claims() > 0 {
            return;
        }
        let body = self
            .body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if body.is_none() {
            return;
        }
        drop(body);
        drop(self.ledger().release_commit());
        self.host.0.budget.unregister(self.number);
        let regions = self.host.0.regions.lock();
        regions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
        self.host
            .0
            .counters
            .regions_freed
            .fetch_add(1, Ordering::Relaxed);
        if let Some(owner) = last {
            owner.regions_freed.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(region = %self.name, id = self.id, "region freed");
    }

    /// Counts a window that a guest made.
    pub(crate) fn count_window(&self, guest: &str) {
        let counters = &self.host.0.counters;
        counters.windows.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            (None, _) => seen.0 = Some(guest.to_owned()),
            (Some(first), false) if first != guest => {
                seen.1 = true;
                counters
                    .bytes_shared
                    .fetch_add(self.size, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Somebody who waits for a window on a region, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    id: WaiterId,
}

impl Waiting {
    /// Waits for such a window. Refuses what waiting does not cure.
    pub(crate) fn new(region: &Region, span: Span, access: Access) -> Result<Waiting, RegionError> {
        let shared = region.shared();
        let id = shared.ledger.wait(region.handle(), span, access)?;
        Ok(Waiting {
            shared: shared.clone(),
            id,
        })
    }

    /// Waits until it is its turn, or until there is nothing to wait for. To be
    /// called on a tokio runtime with time.
    pub(crate) async fn ready(&self) {
        self.shared.ledger.ready(self.id).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.ledger().dequeue(self.id);
    }
}

impl Purgeable for Shared {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        let Ok(file) = self.file() else {
            return CommitCharge::none(&self.host.0.budget);
        };
        let commit = self.ledger_lock().purge(request, |span| {
            if let Err(error) = file.punch(span) {
                // Whoever pins the bytes is told that they are lost, in any case.
                tracing::error!(region = %self.name, %error, "the kernel does not take pages back");
            }
        });
        tracing::debug!(
            region = %self.name,
            id = self.id,
            bytes = commit.granules() * GRANULE,
            "region purged"
        );
        commit
    }
}

/// A region's memory, and what it costs the host.
struct Body {
    file: Arc<RegionFile>,
    _charge: Charge,
}

//! Regions and memories of guests, around the host's own ledgers. They stand in for memory
//! files and mappings: they note which guest touches which granule at this moment, and which
//! windows are shown.
//!
//! These notes are not part of the schedule, and no lock of the host protects them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::yield_now;
use tombolo_region::{
    Access, Account, Budget, Charge, ChargeKind, ClaimId, Exhausted, GRANULE, Handle, Holder,
    Ledger, LedgerError, LedgerLock, LendId, NotifyingGuard, NotifyingLedger, Quota, RESERVATION,
    RegionNumber, Rights, Span, Time, WaiterId, WindowEnd, WindowId,
};

use crate::time::DrivenTime;

/// The granules of each region.
pub const GRANULES: usize = 2;

/// The limits of a guest.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct Limits {
    pub regions: u32,
    pub handles: u32,
    pub claimed_bytes: u64,
    pub unpinned_spans: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            regions: 100,
            handles: 100,
            claimed_bytes: 1 << 30,
            unpinned_spans: 100,
        }
    }
}

impl Limits {
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            regions: self.regions.into(),
            claimed_bytes: self.claimed_bytes,
            handles: self.handles.into(),
            windows: 100,
            unpinned_spans: self.unpinned_spans.into(),
            host_memory: 0,
        }
    }
}

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// By the ledger.
    #[error(transparent)]
    Refused(#[from] LedgerError),
    /// By an account.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// A holder of regions.
#[derive(Debug)]
pub struct Owner {
    pub(crate) name: String,
    pub(crate) account: Arc<Account>,
}

/// A receiver of regions.
#[derive(Clone, Debug)]
pub struct Recipient(Arc<Owner>);

impl Recipient {
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.0
    }
}

/// All regions of one schedule, and all holders that they have had.
#[derive(Debug)]
pub struct MockHost {
    budget: Arc<Budget>,
    /// Its time, which passes if somebody drives it.
    pub time: DrivenTime,
    regions: Mutex<Vec<Arc<Shared>>>,
    owners: Mutex<Vec<Arc<Owner>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl MockHost {
    /// Creates a host without regions.
    #[must_use]
    pub fn new() -> Arc<MockHost> {
        Arc::new(MockHost {
            budget: Budget::new(1 << 30),
            time: DrivenTime::default(),
            regions: Mutex::default(),
            owners: Mutex::default(),
        })
    }

    /// Somebody to hold regions.
    #[must_use]
    pub fn owner(&self, name: &str, limits: Limits) -> Recipient {
        let owner = Arc::new(Owner {
            name: name.into(),
            account: Account::new(name, limits.quota()),
        });
        lock(&self.owners).push(owner.clone());
        Recipient(owner)
    }

    /// A new region.
    #[must_use]
    pub fn create(&self, to: &Recipient) -> Region {
        let to = to.owner();
        let size = GRANULES as u64 * GRANULE;
        let charge = to.account.charge(ChargeKind::Handles, 1);
        let claim = charge_claim(to, size, 0).expect("there is room");
        let commit = self.budget.commit(GRANULES as u64).expect("there is room");
        let (ledger, handle) = Ledger::new(size, &self.budget, Some(commit), claim);
        let mut regions = lock(&self.regions);
        let id = regions.len() as u64;
        let ledger = LedgerLock::new(RegionNumber::new(id), &self.budget, ledger);
        let shared = Arc::new(Shared {
            id,
            size,
            time: self.time.clone(),
            ledger: NotifyingLedger::new(ledger, self.time.clone()),
            given_back: AtomicBool::new(false),
            touched: Default::default(),
            shown: Mutex::default(),
            moments: AtomicU64::new(0),
            writer_died: AtomicBool::new(false),
        });
        regions.push(shared.clone());
        Region {
            handle: Some(handle),
            lends: Vec::new(),
            _charge: charge.expect("there is room"),
            hold: Hold(shared, to.clone()),
        }
    }

    /// How many regions there have been, and how many are poisoned.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let regions = lock(&self.regions);
        let poisoned = regions.iter().filter(|it| it.ledger().is_poisoned());
        (regions.len(), poisoned.count())
    }

    /// Looks whether there is nothing left of anything.
    ///
    /// # Panics
    ///
    /// If there is.
    pub fn check_empty(&self) {
        for shared in lock(&self.regions).iter() {
            assert_eq!(shared.ledger().claims(), 0, "of region {}", shared.id);
            assert!(shared.given_back.load(SeqCst), "region {}", shared.id);
            assert!(lock(&shared.shown).is_empty(), "region {}", shared.id);
            assert!(!shared.ledger().has_waiters(), "region {}", shared.id);
            let died = shared.writer_died.load(SeqCst);
            assert_eq!(shared.ledger().is_poisoned(), died, "region {}", shared.id);
        }
        for owner in lock(&self.owners).iter() {
            for kind in [
                ChargeKind::Regions,
                ChargeKind::ClaimedBytes,
                ChargeKind::Handles,
                ChargeKind::Windows,
                ChargeKind::UnpinnedSpans,
            ] {
                assert_eq!(owner.account.used(kind), 0, "{kind:?} of {}", owner.name);
            }
        }
        let usage = self.budget.usage();
        assert_eq!((usage.committed, usage.purgeable), (0, 0));
    }
}

fn charge_claim(to: &Owner, size: u64, spans: u64) -> Result<Vec<Charge>, RegionError> {
    Ok(vec![
        to.account.charge(ChargeKind::Regions, 1)?,
        to.account.charge(ChargeKind::ClaimedBytes, size)?,
        to.account.charge(ChargeKind::UnpinnedSpans, spans)?,
    ])
}

/// The number of threads that access a granule at this moment.
#[derive(Debug, Default)]
struct Touched {
    readers: AtomicU32,
    writers: AtomicU32,
}

/// A window that is shown.
#[derive(Clone, Debug)]
struct Shown {
    claim: ClaimId,
    /// The lends that its handle came by, the last one last, and when they began.
    lends: Vec<(LendId, u64)>,
    span: Span,
    access: Access,
    since: u64,
}

impl Shown {
    /// Returns whether the other one was set aside for the holder of this one.
    fn sets_aside(&self, other: &Shown) -> bool {
        self.claim == other.claim
            && self.lends.starts_with(&other.lends)
            && self
                .lends
                .get(other.lends.len())
                .is_some_and(|(_, since)| other.since < *since)
    }

    fn conflicts(&self, other: &Shown) -> bool {
        self.span.overlaps(other.span)
            && (self.access == Access::Write || other.access == Access::Write)
    }
}

/// One region, shared by all that hold it.
pub struct Shared {
    pub(crate) id: u64,
    size: u64,
    time: DrivenTime,
    pub(crate) ledger: NotifyingLedger<(), DrivenTime>,
    given_back: AtomicBool,
    touched: [Touched; GRANULES],
    shown: Mutex<BTreeMap<WindowId, Shown>>,
    moments: AtomicU64,
    writer_died: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({})", self.id)
    }
}

impl Shared {
    pub(crate) fn ledger(&self) -> NotifyingGuard<'_, (), DrivenTime> {
        self.ledger.lock()
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, SeqCst)
    }

    /// Frees the memory, if no claim is left.
    pub(crate) fn settle(&self) {
        if self.ledger().claims() > 0 || self.given_back.swap(true, SeqCst) {
            return;
        }
        drop(self.ledger().release_commit());
    }

    /// A window is shown, for which there must be room.
    fn show(&self, id: WindowId, window: Shown) {
        let mut shown = lock(&self.shown);
        for other in shown.values() {
            assert!(
                !window.conflicts(other) || window.sets_aside(other) || other.sets_aside(&window),
                "{window:?} beside {other:?} of region {}",
                self.id
            );
        }
        shown.insert(id, window);
    }

    /// Nobody may see anything through this lend any more.
    pub(crate) fn check_over(&self, lend: LendId) {
        let shown = lock(&self.shown);
        let through = |window: &Shown| window.lends.iter().any(|(id, _)| *id == lend);
        assert!(!shown.values().any(through), "seen after the lend");
    }

    /// Nobody may see anything through this claim.
    fn check_unseen(&self, claim: ClaimId) {
        let shown = lock(&self.shown);
        let seen = shown.values().any(|window| window.claim == claim);
        assert!(!seen, "seen after the move");
    }
}

/// A region, as one owner holds it.
#[derive(Debug)]
struct Hold(Arc<Shared>, Arc<Owner>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// A handle to a region.
pub struct Region {
    /// Taken only by drop and by a move.
    handle: Option<Handle>,
    lends: Vec<(LendId, u64)>,
    _charge: Charge,
    hold: Hold,
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({}, {:?})", self.id(), self.handle)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.shared().ledger().release(handle);
        }
    }
}

impl Region {
    pub(crate) fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("taken only by a move")
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.hold.0
    }

    pub(crate) fn unpinned_spans(&self) -> u64 {
        let claim = self.handle().claim();
        self.shared().ledger().unpinned_spans(claim)
    }

    pub(crate) fn set_queued(&self, queued: bool) {
        self.shared().ledger().set_queued(self.handle(), queued);
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.hold.1
    }

    /// The region's identity.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared().id
    }

    pub(crate) fn size(&self) -> u64 {
        self.shared().size
    }

    /// Sleeps for longer than a window is reserved.
    pub async fn sleep(&self) {
        let time = self.shared().time.clone();
        let moment = time.now() + 2 * RESERVATION;
        time.up_to(moment, std::future::pending()).await;
    }

    pub(crate) fn is_lent(&self) -> bool {
        !self.lends.is_empty()
    }

    /// Another claim, of the same holder.
    ///
    /// # Errors
    ///
    /// As the ledger's and the account's.
    pub fn duplicate(&self) -> Result<Region, RegionError> {
        self.duplicate_for(&Recipient(self.owner().clone()))
    }

    /// Another claim.
    ///
    /// # Errors
    ///
    /// As the ledger's and the account's.
    pub fn duplicate_for(&self, to: &Recipient) -> Result<Region, RegionError> {
        let to = to.owner();
        let mut ledger = self.shared().ledger();
        ledger.may_duplicate(self.handle(), Rights::ALL)?;
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let claim = charge_claim(to, self.size(), 0)?;
        let handle = ledger.duplicate(self.handle(), Rights::ALL, claim)?;
        drop(ledger);
        Ok(Region {
            handle: Some(handle),
            lends: Vec::new(),
            _charge: charge,
            hold: Hold(self.shared().clone(), to.clone()),
        })
    }

    pub(crate) fn charge_claim(&self, to: &Owner) -> Result<Vec<Charge>, RegionError> {
        let spans = self.shared().ledger().unpinned_spans(self.handle().claim());
        charge_claim(to, self.size(), spans)
    }

    /// A handle for somebody who borrows the region for a call.
    pub(crate) fn lend(&self, to: &Arc<Owner>) -> Result<Region, RegionError> {
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let rights = self.handle().rights().without(Rights::SHARE);
        let handle = self.shared().ledger().lend(self.handle(), rights)?;
        let mut lends = self.lends.clone();
        let lend = handle.lend().expect("it was just lent");
        lends.push((lend, self.shared().moment()));
        Ok(Region {
            handle: Some(handle),
            lends,
            _charge: charge,
            hold: Hold(self.shared().clone(), to.clone()),
        })
    }

    /// Puts the claim on another holder's account.
    pub(crate) fn transferred(
        mut self,
        to: &Arc<Owner>,
        handle_charge: Charge,
        claim: Vec<Charge>,
    ) -> Region {
        let id = self.handle().claim();
        self.shared().check_unseen(id);
        self.shared().ledger().recharge(id, claim);
        Region {
            handle: self.handle.take(),
            lends: Vec::new(),
            _charge: handle_charge,
            hold: Hold(self.shared().clone(), to.clone()),
        }
    }
}

/// A guest's window.
struct Window {
    id: WindowId,
    shown: Shown,
    _charge: Charge,
    hold: Hold,
}

impl Window {
    /// Uses it, for as long as others like.
    fn touch(&self) {
        let shared = &self.hold.0;
        let range = self.shown.span.granules();
        let granules = &shared.touched[range.start as usize..range.end as usize];
        let writes = self.shown.access == Access::Write;
        for granule in granules {
            match writes {
                true => granule.writers.fetch_add(1, SeqCst),
                false => granule.readers.fetch_add(1, SeqCst),
            };
        }
        let check = || {
            for granule in granules {
                let writers = granule.writers.load(SeqCst);
                let readers = granule.readers.load(SeqCst);
                let (others, all) = match writes {
                    true => (readers, writers),
                    false => (writers, 1),
                };
                assert_eq!(
                    (others, all),
                    (0, 1),
                    "{:?} of region {}",
                    self.shown,
                    shared.id
                );
            }
        };
        check();
        yield_now();
        check();
        for granule in granules {
            match writes {
                true => granule.writers.fetch_sub(1, SeqCst),
                false => granule.readers.fetch_sub(1, SeqCst),
            };
        }
    }

    /// Nothing is shown first, and then the lock is let go.
    fn unmap(self, end: WindowEnd) {
        let shared = &self.hold.0;
        lock(&shared.shown).remove(&self.id);
        if end == WindowEnd::Died && self.shown.access == Access::Write {
            shared.writer_died.store(true, SeqCst);
        }
        yield_now();
        shared.ledger.close(self.id, end);
    }
}

/// A granule, or all of them.
#[must_use]
pub fn some_span() -> Span {
    let (first, granules) = match thread_rng().gen_range(0..=GRANULES) {
        GRANULES => (0, GRANULES),
        one => (one, 1),
    };
    let (offset, length) = (first as u64 * GRANULE, granules as u64 * GRANULE);
    Span::of_window(offset, length, GRANULES as u64 * GRANULE).expect("inside")
}

/// To read or to write.
#[must_use]
pub fn some_access() -> Access {
    [Access::Read, Access::Write][thread_rng().gen_range(0..2)]
}

/// The memory of a guest. Its windows go with it, as those of a guest that died.
#[derive(Default)]
pub struct Memory(Vec<Window>);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({})", self.0.len())
    }
}

impl Memory {
    /// Maps a window.
    ///
    /// # Errors
    ///
    /// As the ledger's and the account's.
    pub fn map(&mut self, region: &Region, span: Span, access: Access) -> Result<(), RegionError> {
        let shared = region.shared();
        let charge = region.owner().account.charge(ChargeKind::Windows, 1)?;
        let needs = access.needs();
        let handle = region.handle();
        let id = shared
            .ledger()
            .open(handle, needs, span, access, Holder::Guest, ())?;
        let shown = Shown {
            claim: handle.claim(),
            lends: region.lends.clone(),
            span,
            access,
            since: shared.moment(),
        };
        shared.show(id, shown.clone());
        self.0.push(Window {
            id,
            shown,
            _charge: charge,
            hold: Hold(shared.clone(), region.owner().clone()),
        });
        Ok(())
    }

    /// How many windows there are.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.0.len()
    }

    /// Uses a window.
    pub fn touch(&self, at: usize) {
        self.0[at].touch();
    }

    /// Unmaps a window in order.
    pub fn unmap(&mut self, at: usize) {
        self.0.swap_remove(at).unmap(WindowEnd::Orderly);
    }

    /// Unmaps the windows on a claim that were made through a lend, or by its own
    /// holder.
    pub(crate) fn unmap_all(
        &mut self,
        shared: &Arc<Shared>,
        claim: ClaimId,
        via: Option<LendId>,
        end: WindowEnd,
    ) {
        let of = |it: &mut Window| {
            Arc::ptr_eq(&it.hold.0, shared)
                && it.shown.claim == claim
                && it.shown.lends.last().map(|(id, _)| *id) == via
        };
        let gone: Vec<Window> = self.0.extract_if(.., of).collect();
        gone.into_iter().for_each(|window| window.unmap(end));
    }

    /// The guest ends in order.
    pub fn finish(&mut self) {
        let windows = std::mem::take(&mut self.0);
        windows
            .into_iter()
            .for_each(|window| window.unmap(WindowEnd::Orderly));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let windows = std::mem::take(&mut self.0);
        windows
            .into_iter()
            .for_each(|window| window.unmap(WindowEnd::Died));
    }
}

/// A lend, as its borrower's host has it. It is not over before it is revoked.
#[derive(Debug)]
pub struct Borrower {
    shared: Arc<Shared>,
    lend: LendId,
}

impl Borrower {
    /// Lends a region, and gives the borrower's handle.
    ///
    /// # Errors
    ///
    /// As the ledger's and the account's.
    pub fn lend(region: &Region, to: &Recipient) -> Result<(Region, Borrower), RegionError> {
        let lent = region.lend(to.owner())?;
        let lend = lent.handle().lend().expect("it was just lent");
        let shared = lent.shared().clone();
        Ok((lent, Borrower { shared, lend }))
    }

    /// Waits until it is over, and looks whether nobody sees anything through it.
    pub fn over(&self) -> impl Future<Output = ()> + 'static {
        let (shared, lend) = (self.shared.clone(), self.lend);
        async move {
            shared.ledger.over(lend).await;
            shared.check_over(lend);
        }
    }

    /// Ends it.
    pub fn revoke(self) {
        self.shared.ledger.revoke(self.lend, |_| ());
        self.shared.settle();
    }
}

/// Somebody who waits for a window, until this is dropped.
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    id: WaiterId,
}

impl Waiting {
    /// Waits from now on.
    ///
    /// # Errors
    ///
    /// If waiting does not help.
    pub fn new(region: &Region, span: Span, access: Access) -> Result<Waiting, RegionError> {
        let shared = region.shared();
        let id = shared.ledger.wait(region.handle(), span, access)?;
        Ok(Waiting {
            shared: shared.clone(),
            id,
        })
    }

    /// Waits until it should try.
    pub async fn ready(&self) {
        self.shared.ledger.ready(self.id).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.ledger().dequeue(self.id);
    }
}

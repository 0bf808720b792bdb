//! Regions with memory that notes what happens to it, for threads that race.
//!
//! The notes are not part of the schedule: the counters are plain atomics, at which
//! shuttle does not switch threads. They change at the points at which the layer above
//! would change visible memory.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::yield_now;

use tombolo_region::{
    Budget, CommitCharge, GRANULE, Handle, Ledger, LedgerLock, PinError, Pinned, PurgeRequest,
    Purgeable, RegionNumber, Rights, Span,
};

/// The granules of each region.
pub const GRANULES: usize = 4;

/// The outcomes over all schedules.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct Seen {
    pub intact: AtomicU64,
    pub lost: AtomicU64,
    pub refused: AtomicU64,
    pub taken: AtomicU64,
    pub purged: AtomicU64,
    /// Pins that found a part of their span being purged.
    pub waited: AtomicU64,
}

impl Seen {
    /// Counts one more.
    pub fn note(of: &AtomicU64) {
        of.fetch_add(1, SeqCst);
    }
}

/// The bytes that are really committed at a moment, as the kernel would count them.
#[derive(Debug)]
pub struct Resident {
    granules: AtomicU64,
    most: u64,
}

impl Resident {
    /// Nothing yet, and never more than the budget.
    #[must_use]
    pub fn new(most: u64) -> Arc<Resident> {
        Arc::new(Resident {
            granules: AtomicU64::new(0),
            most,
        })
    }

    /// Memory that somebody may touch from now on.
    ///
    /// # Panics
    ///
    /// If it is more than the budget.
    pub fn add(&self, granules: u64) {
        let now = self.granules.fetch_add(granules, SeqCst) + granules;
        assert!(now <= self.most, "{now} of {} granules", self.most);
    }

    /// Memory that the kernel has back.
    pub fn sub(&self, granules: u64) {
        self.granules.fetch_sub(granules, SeqCst);
    }

    /// How much there is.
    #[must_use]
    pub fn granules(&self) -> u64 {
        self.granules.load(SeqCst)
    }
}

#[derive(Debug, Default)]
struct Granule {
    /// How many claims pin it.
    pins: AtomicU32,
    value: AtomicU64,
    /// How often it was written.
    writes: AtomicU64,
    /// How often it was purged.
    purges: AtomicU64,
    /// 1 while it is resident.
    there: AtomicU64,
    /// 1 while it is being purged.
    purging: AtomicU64,
}

/// A region as the layer above has it.
pub struct Store {
    lock: LedgerLock<()>,
    granules: [Granule; GRANULES],
    resident: Arc<Resident>,
    seen: Arc<Seen>,
    /// A step to take while memory is freed.
    meanwhile: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Purgeable for Store {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |span| self.give_back(span))
    }
}

/// A claim, and what its holder knows: of what it does not pin, what it left
/// there, and how often that had been purged when it was last told.
pub struct Claim {
    store: Arc<Store>,
    handle: Option<Handle>,
    left: [Option<Left>; GRANULES],
}

#[derive(Clone, Copy, Debug)]
struct Left {
    value: u64,
    writes: u64,
    purges: u64,
}

/// Granules in a region.
pub type Range = std::ops::Range<usize>;

fn span(range: &Range) -> Span {
    let granule = |at: usize| at as u64 * GRANULE;
    Span::of_window(
        granule(range.start),
        granule(range.len()),
        granule(GRANULES),
    )
    .expect("inside the region")
}

/// A run of granules, chosen by the scheduler.
#[must_use]
pub fn some_range() -> Range {
    let start = thread_rng().gen_range(0..GRANULES);
    start..thread_rng().gen_range(start..GRANULES) + 1
}

impl Store {
    /// A region that is created pinned, if its budget has room for that now, or
    /// else unpinned; and its first claim.
    #[must_use]
    pub fn create(
        id: u64,
        budget: &Arc<Budget>,
        pinned: bool,
        resident: &Arc<Resident>,
        seen: &Arc<Seen>,
    ) -> (Arc<Store>, Claim) {
        let commit = pinned.then(|| budget.commit(GRANULES as u64));
        let commit = commit.and_then(Result::ok);
        let pinned = commit.is_some();
        let size = GRANULES as u64 * GRANULE;
        let (ledger, handle) = Ledger::new(size, budget, commit, Vec::new());
        let store = Arc::new(Store {
            lock: LedgerLock::new(RegionNumber::new(id), budget, ledger),
            granules: Default::default(),
            resident: resident.clone(),
            seen: seen.clone(),
            meanwhile: OnceLock::new(),
        });
        let purge: Arc<dyn Purgeable> = store.clone();
        budget.register(RegionNumber::new(id), Arc::downgrade(&purge));
        let mut claim = Claim {
            store: store.clone(),
            handle: Some(handle),
            left: Default::default(),
        };
        for at in 0..GRANULES {
            if pinned {
                claim.has(at);
            } else {
                claim.leaves(at);
            }
        }
        (store, claim)
    }

    /// Runs `act` whenever memory of the region is purged.
    pub fn meanwhile(&self, act: impl Fn() + Send + Sync + 'static) {
        assert!(self.meanwhile.set(Box::new(act)).is_ok(), "set once");
    }

    /// Returns the bytes, pinned or not, that were not purged since.
    #[must_use]
    pub fn there(&self) -> u64 {
        let there = self.granules.iter();
        there.map(|granule| granule.there.load(SeqCst)).sum()
    }

    /// Freezes the region.
    pub fn freeze(&self, claim: &Claim) {
        let frozen = self.lock.lock().freeze(claim.handle());
        frozen.expect("all of it is pinned, and nobody writes");
    }

    /// As the kernel punches a hole: not at once, and whatever is there.
    fn give_back(&self, span: Span) {
        let range = span.granules();
        let granules = || {
            let range = range.start as usize..range.end as usize;
            self.granules[range].iter()
        };
        for granule in granules() {
            granule.purging.store(1, SeqCst);
        }
        if let Some(meanwhile) = self.meanwhile.get() {
            meanwhile();
        }
        for granule in granules() {
            yield_now();
            assert_eq!(granule.pins.load(SeqCst), 0, "purged while it is pinned");
            granule.value.store(0, SeqCst);
            granule.purges.fetch_add(1, SeqCst);
            let there = granule.there.swap(0, SeqCst);
            assert_eq!(there, 1, "purged although it is not there");
        }
        yield_now();
        for granule in granules() {
            granule.purging.store(0, SeqCst);
        }
        self.resident.sub(span.length() / GRANULE);
        self.seen.purged.fetch_add(span.length() / GRANULE, SeqCst);
    }
}

impl Claim {
    fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("until it is dropped")
    }

    /// The claim pins a granule from now on, so that it may be touched.
    fn has(&mut self, at: usize) {
        let granule = &self.store.granules[at];
        granule.pins.fetch_add(1, SeqCst);
        if granule.there.swap(1, SeqCst) == 0 {
            self.store.resident.add(1);
        }
        self.left[at] = None;
    }

    /// The claim does not pin a granule from now on.
    fn leaves(&mut self, at: usize) {
        let granule = &self.store.granules[at];
        self.left[at] = Some(Left {
            value: granule.value.load(SeqCst),
            writes: granule.writes.load(SeqCst),
            purges: granule.purges.load(SeqCst),
        });
    }

    fn pins(&self) -> impl Iterator<Item = usize> {
        (0..GRANULES).filter(|at| self.left[*at].is_none())
    }

    /// Pins, and looks whether what is said of the bytes is true.
    ///
    /// # Errors
    ///
    /// As the ledger's.
    ///
    /// # Panics
    ///
    /// If not, and if they are being purged.
    pub fn pin(&mut self, range: &Range) -> Result<Pinned, PinError> {
        let store = self.store.clone();
        let purging = |at: usize| store.granules[at].purging.load(SeqCst) == 1;
        if range.clone().any(purging) {
            Seen::note(&store.seen.waited);
        }
        let pin = store.lock.pin(self.handle(), span(range));
        let (pinned, _, ledger) = match pin {
            Ok(pin) => pin,
            Err(refusal) => {
                Seen::note(&store.seen.refused);
                return Err(refusal);
            }
        };
        let mut lost = false;
        for at in range.clone() {
            assert!(!purging(at), "pinned while it is being purged");
            let Some(left) = self.left[at] else { continue };
            let granule = &store.granules[at];
            let value = granule.value.load(SeqCst);
            let writes = granule.writes.load(SeqCst);
            if granule.purges.load(SeqCst) > left.purges {
                lost = true;
                if writes == left.writes {
                    assert_eq!(value, 0, "what was purged reads as zeros");
                }
            } else if writes == left.writes {
                assert_eq!(value, left.value, "what was not purged is as it was");
            }
            self.has(at);
        }
        drop(ledger);
        assert_eq!(pinned == Pinned::Lost, lost, "what is said is true");
        Seen::note(match pinned {
            Pinned::Lost => &store.seen.lost,
            Pinned::Intact => &store.seen.intact,
        });
        Ok(pinned)
    }

    /// Unpins what the claim pins of this.
    pub fn unpin(&mut self, range: &Range) {
        let store = self.store.clone();
        let mut ledger = store.lock.lock();
        let unpin = ledger.unpin(self.handle.as_ref().expect("not dropped"), span(range));
        let _ = unpin.expect("nothing is against it");
        for at in range.clone() {
            if self.left[at].is_none() {
                store.granules[at].pins.fetch_sub(1, SeqCst);
                self.leaves(at);
            }
        }
    }

    /// Writes to all that the claim pins.
    pub fn write(&self) {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        for at in self.pins() {
            let granule = &self.store.granules[at];
            granule.writes.fetch_add(1, SeqCst);
            granule.value.store(NUMBERS.fetch_add(1, SeqCst), SeqCst);
        }
    }

    /// Another claim, with the same pins.
    #[must_use]
    pub fn duplicate(&self) -> Claim {
        let mut ledger = self.store.lock.lock();
        let handle = ledger.duplicate(self.handle(), Rights::ALL, Vec::new());
        let mut claim = Claim {
            store: self.store.clone(),
            handle: Some(handle.expect("it has all rights")),
            left: self.left,
        };
        for at in self.pins() {
            claim.has(at);
        }
        claim
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let store = &self.store;
        let mut ledger = store.lock.lock();
        for at in self.pins() {
            store.granules[at].pins.fetch_sub(1, SeqCst);
        }
        ledger.release(handle);
        if ledger.claims() == 0 {
            // Bytes that are being purged are freed by the thread that purges them.
            let there = (0..GRANULES)
                .filter(|at| !ledger.is_purging(span(&(*at..at + 1))))
                .map(|at| store.granules[at].there.swap(0, SeqCst))
                .sum();
            store.resident.sub(there);
            drop(ledger.release_commit());
        }
    }
}

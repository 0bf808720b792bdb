//! One granule that threads pin and purge at once. Loom tries each schedule of two threads, and
//! of three threads each one with few preemptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::sync::atomic::{AtomicBool, AtomicU64 as Scheduled};
use loom::thread;
use tombolo_region::{
    Budget, CommitCharge, GRANULE, Handle, Ledger, LedgerLock, Pinned, PurgeRequest, Purgeable,
    RegionNumber, Rights, Span,
};

/// A region of one granule, with its contents.
struct Store {
    lock: LedgerLock<()>,
    pinned: AtomicBool,
    value: Scheduled,
}

impl Purgeable for Store {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |_| {
            // Other threads may run between any two of these.
            self.value.store(0, Ordering::Relaxed);
            assert!(!self.pinned.load(Ordering::Relaxed));
            self.value.store(0, Ordering::Relaxed);
        })
    }
}

impl Store {
    fn create(id: u64, budget: &Arc<Budget>) -> (Arc<Store>, Handle) {
        let commit = budget.commit(1).expect("there is room for it");
        let (ledger, handle) = Ledger::new(GRANULE, budget, Some(commit), Vec::new());
        let store = Arc::new(Store {
            lock: LedgerLock::new(RegionNumber::new(id), budget, ledger),
            pinned: AtomicBool::new(false),
            value: Scheduled::new(0),
        });
        let purge: Arc<dyn Purgeable> = store.clone();
        budget.register(RegionNumber::new(id), Arc::downgrade(&purge));
        (store, handle)
    }

    fn unpin(&self, handle: &Handle) {
        let unpin = self.lock.lock().unpin(handle, Span::whole(GRANULE));
        let _ = unpin.expect("nothing is against it");
    }

    /// Pins the granule, which held a 1 before it was unpinned, and checks its contents.
    fn pin(&self, handle: &Handle) -> Pinned {
        let pin = self.lock.pin(handle, Span::whole(GRANULE));
        let (pinned, _, ledger) = pin.expect("there is room for it");
        self.pinned.store(true, Ordering::Relaxed);
        drop(ledger);
        let left = u64::from(pinned == Pinned::Intact);
        assert_eq!(self.value.load(Ordering::Relaxed), left);
        pinned
    }

    fn end(&self, handle: Handle) {
        let mut ledger = self.lock.lock();
        ledger.release(handle);
        if ledger.claims() == 0 {
            drop(ledger.release_commit());
        }
    }
}

/// Tries all schedules with at most so many preemptions. Counts the results of the pins.
fn try_all(
    changes: Option<usize>,
    act: impl Fn() -> Vec<Pinned> + Send + Sync + 'static,
) -> [u64; 2] {
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let seen = counts.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = changes;
    model.check(move || {
        for pinned in act() {
            seen[usize::from(pinned == Pinned::Lost)].fetch_add(1, Ordering::Relaxed);
        }
    });
    [0, 1].map(|at| counts[at].load(Ordering::Relaxed))
}

// rules 7, 8
#[test]
fn pin_beside_a_purge_reports_the_loss() {
    let [intact, lost] = try_all(None, || {
        // The budget has room for it twice, so the pin does not wait for the budget.
        let budget = Budget::new(2 * GRANULE);
        let (store, a) = Store::create(1, &budget);
        store.value.store(1, Ordering::Relaxed);
        store.unpin(&a);
        let purging = thread::spawn({
            let budget = budget.clone();
            move || budget.purge(1)
        });
        let pinned = store.pin(&a);
        let purged = purging.join().expect("its assertions held");
        assert_eq!(purged == 1, pinned == Pinned::Lost);
        store.end(a);
        assert_eq!(budget.usage().committed, 0);
        vec![pinned]
    });
    assert!(intact > 0 && lost > 0, "{intact}, {lost}");
}

// rules 7, 8
#[test]
fn two_pins_beside_a_purge_pay_once() {
    let [intact, lost] = try_all(Some(3), || {
        let budget = Budget::new(GRANULE);
        let (store, a) = Store::create(1, &budget);
        let b = store.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
        let b = b.expect("it has all rights");
        store.value.store(1, Ordering::Relaxed);
        store.unpin(&a);
        store.unpin(&b);
        let purging = thread::spawn({
            let budget = budget.clone();
            move || budget.purge(1)
        });
        let pinning = thread::spawn({
            let store = store.clone();
            move || (store.pin(&b), b)
        });
        let of_a = store.pin(&a);
        let (of_b, b) = pinning.join().expect("its assertions held");
        let purged = purging.join().expect("its assertions held");
        assert_eq!(of_a, of_b);
        assert_eq!(purged == 1, of_a == Pinned::Lost);
        assert_eq!(budget.usage().committed, GRANULE);
        store.end(a);
        store.end(b);
        assert_eq!(budget.usage().committed, 0);
        vec![of_a, of_b]
    });
    assert!(intact > 0 && lost > 0, "{intact}, {lost}");
}

// rule 8
#[test]
fn pinned_granule_is_not_committed_elsewhere() {
    let [intact, lost] = try_all(None, || {
        let budget = Budget::new(GRANULE);
        let (store, a) = Store::create(1, &budget);
        store.value.store(1, Ordering::Relaxed);
        store.unpin(&a);
        let taking = thread::spawn({
            let budget = budget.clone();
            move || budget.commit(1).is_ok()
        });
        let pin = store.lock.pin(&a, Span::whole(GRANULE));
        let pinned = pin.map(|(pinned, _, ledger)| {
            store.pinned.store(true, Ordering::Relaxed);
            drop(ledger);
            pinned
        });
        let taken = taking.join().expect("its assertions held");
        let left = store.value.load(Ordering::Relaxed);
        let outcome = match pinned {
            Ok(Pinned::Intact) => {
                assert_eq!((taken, left), (false, 1));
                Pinned::Intact
            }
            // The other commit was returned at once, or the pin has no room.
            _ => {
                assert_eq!((taken, left), (true, 0));
                Pinned::Lost
            }
        };
        store.end(a);
        assert_eq!(budget.usage().committed, 0);
        vec![outcome]
    });
    assert!(intact > 0 && lost > 0, "{intact}, {lost}");
}

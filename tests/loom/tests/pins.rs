//! One granule, pinned and purged at once: every schedule there is of two
//! threads, and of three all with few changes at bad moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::sync::atomic::{AtomicBool, AtomicU64 as Scheduled};
use loom::thread;
use tombolo_region::{
    Budget, CommitCharge, GRANULE, Handle, Ledger, LedgerLock, Pinned, PurgeRequest, Purgeable,
    Rights, Span,
};

/// A region of one granule, and what is in it.
struct Store {
    lock: LedgerLock<()>,
    pinned: AtomicBool,
    value: Scheduled,
}

impl Purgeable for Store {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |_| {
            // Whatever is there: others go on between any two of these.
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
            lock: LedgerLock::new(id, budget, ledger),
            pinned: AtomicBool::new(false),
            value: Scheduled::new(0),
        });
        let purge: Arc<dyn Purgeable> = store.clone();
        budget.register(id, Arc::downgrade(&purge));
        (store, handle)
    }

    fn unpin(&self, handle: &Handle) {
        let unpin = self.lock.lock().unpin(handle, Span::whole(GRANULE));
        let _ = unpin.expect("nothing is against it");
    }

    /// Pins, and looks at the bytes, which somebody had left with a 1 in them.
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

/// Tries all schedules, with so many changes of thread at most that nobody asked
/// for, and counts what the pins came to.
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

#[test]
fn a_pin_beside_a_purge_has_the_bytes_or_is_told_that_they_are_lost() {
    let [intact, lost] = try_all(None, || {
        // There is room for it twice, so that it is not for the budget that the
        // pin waits.
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

#[test]
fn two_pins_beside_a_purge_are_both_told_and_pay_once() {
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

#[test]
fn what_is_taken_for_another_region_is_not_what_is_pinned() {
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
            // What was taken was given back at once, or is not there for the pin.
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

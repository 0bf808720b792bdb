//! Pins, purging and the budget.

use std::sync::{Arc, Mutex};

use tombolo_core_tests::region::{
    Charge, CommitCharge, LedgerLock, PinError, Pinned, PurgeRequest, Purgeable, SpanError,
};

use super::*;

use Pinned::{Intact, Lost};

/// A region that notes the granules that go back to the kernel.
struct Region {
    lock: LedgerLock<()>,
    /// The first granule of each span and the first after it.
    given_back: Mutex<Vec<(u64, u64)>>,
}

impl Purgeable for Region {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |span| {
            let range = span.granules();
            self.given_back
                .lock()
                .unwrap()
                .push((range.start, range.end));
        })
    }
}

impl Region {
    fn pin(&self, handle: &Handle, span: Span) -> Result<Pinned, PinError> {
        let (pinned, _, _) = self.lock.pin(handle, span)?;
        Ok(pinned)
    }

    fn unpin(&self, handle: &Handle, span: Span) -> Result<(), PinError> {
        self.lock.lock().unpin(handle, span).map(|_| ())
    }

    /// Returns the granules of the region that a claim pins.
    fn pinned(&self, handle: &Handle) -> Vec<u64> {
        let ledger = self.lock.lock();
        let pins = |at: &u64| ledger.is_pinned(handle, granule(*at)).unwrap();
        (0..8).filter(pins).collect()
    }

    /// Takes the granules that went back to the kernel.
    fn given_back(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.given_back.lock().unwrap())
    }
}

fn create(
    budget: &Arc<Budget>,
    id: u64,
    size: u64,
    pinned: bool,
    charges: Vec<Charge>,
) -> (Arc<Region>, Handle) {
    let all = size.div_ceil(GRANULE);
    let commit = pinned.then(|| budget.commit(all).unwrap());
    let (ledger, handle) = Ledger::new(size, budget, commit, charges);
    let region = Arc::new(Region {
        lock: LedgerLock::new(id, budget, ledger),
        given_back: Mutex::default(),
    });
    let purge: Arc<dyn Purgeable> = region.clone();
    budget.register(id, Arc::downgrade(&purge));
    (region, handle)
}

/// Creates a pinned region of eight granules, and a budget in which it fits.
fn pinned_region() -> (Arc<Budget>, Arc<Region>, Handle) {
    let budget = Budget::new(8 * GRANULE);
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, Vec::new());
    (budget, region, a)
}

fn committed(budget: &Budget) -> u64 {
    budget.usage().committed / GRANULE
}

fn purgeable(budget: &Budget) -> u64 {
    budget.usage().purgeable / GRANULE
}

fn is_exhausted<T>(outcome: Result<T, PinError>, limit: &str) -> bool {
    matches!(outcome, Err(PinError::Exhausted(it)) if it.limit == limit)
}

fn account(unpinned_spans: u64) -> Arc<Account> {
    let quota = Quota {
        regions: 8,
        claimed_bytes: 64 * GRANULE,
        handles: 0,
        windows: 0,
        unpinned_spans,
        host_memory: 0,
    };
    Account::new("a guest", quota)
}

// rules 7, 8
#[test]
fn unpinned_region_is_free_until_pinned() {
    let budget = Budget::new(2 * GRANULE);
    let (region, a) = create(&budget, 0, 8 * GRANULE, false, Vec::new());
    assert_eq!((committed(&budget), region.pinned(&a)), (0, vec![]));
    assert_eq!(region.pin(&a, granules(3, 2)), Ok(Intact));
    assert_eq!((committed(&budget), region.pinned(&a)), (2, vec![3, 4]));
    assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
    assert_eq!((committed(&budget), region.pinned(&a)), (2, vec![3, 4]));
}

// rules 7, 8
#[test]
fn duplicate_pins_for_free() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 6)).unwrap();
    assert_eq!(budget.purge(6), 6);
    let mut ledger = region.lock.lock();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    drop(ledger);
    assert_eq!(region.pinned(&b), [6, 7]);
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((committed(&budget), purgeable(&budget)), (2, 0));
    assert_eq!(budget.purge(8), 0);
}

// rule 7
#[test]
fn unpinning_affects_its_own_claim_only() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::NONE, Vec::new());
    let b = b.unwrap();
    region.unpin(&b, granules(0, 8)).unwrap();
    assert_eq!(budget.purge(8), 0);
    assert_eq!((region.pinned(&a).len(), region.pinned(&b).len()), (8, 0));
    assert_eq!(region.pin(&b, granules(0, 8)), Ok(Intact));
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((budget.purge(8), committed(&budget)), (0, 8));
}

// rule 7
#[test]
fn each_claim_is_told_once_of_a_loss() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    for handle in [&a, &b] {
        region.unpin(handle, granules(2, 2)).unwrap();
    }
    assert_eq!((budget.purge(2), committed(&budget)), (2, 6));
    let c = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let c = c.unwrap();
    for handle in [&a, &b, &c] {
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Lost));
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Intact));
        region.unpin(handle, granules(0, 8)).unwrap();
        assert_eq!(region.pin(handle, granules(0, 8)), Ok(Intact));
    }
    let told = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let told = told.unwrap();
    assert_eq!(region.pin(&told, granules(0, 8)), Ok(Intact));
}

// rule 7
#[test]
fn loss_is_told_for_the_pinned_span() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((budget.purge(3), region.given_back()), (3, vec![(0, 3)]));
    assert_eq!(region.pin(&a, granules(3, 5)), Ok(Intact));
    // A nested span first, then the rest on both sides.
    assert_eq!(region.pin(&a, granule(1)), Ok(Lost));
    assert_eq!(region.pin(&a, granule(1)), Ok(Intact));
    assert_eq!(region.pin(&a, granules(1, 2)), Ok(Lost));
    assert_eq!(region.pin(&a, granules(0, 2)), Ok(Lost));
    assert_eq!(region.pin(&a, granules(0, 8)), Ok(Intact));
}

// rule 7
#[test]
fn overlapping_spans_keep_exact_pins() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(1, 2)).unwrap();
    region.unpin(&a, granules(3, 1)).unwrap();
    region.unpin(&a, granules(2, 4)).unwrap();
    assert_eq!(region.pinned(&a), [0, 6, 7]);
    assert_eq!(purgeable(&budget), 5);
    assert_eq!(region.pin(&a, granule(3)), Ok(Intact));
    assert_eq!(region.pinned(&a), [0, 3, 6, 7]);
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((region.pinned(&a), purgeable(&budget)), (vec![], 8));
    assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
    assert_eq!(region.pinned(&a), [2, 3, 4, 5]);
    assert_eq!((budget.purge(8), purgeable(&budget)), (4, 0));
    assert_eq!(committed(&budget), 4);
    assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
    assert_eq!(region.pin(&a, granules(5, 2)), Ok(Lost));
}

// rule 7
#[test]
fn bytes_beside_purged_ones_are_kept() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granule(1)).unwrap();
    assert_eq!(budget.purge(1), 1);
    // Spans on both sides of it and over it.
    region.unpin(&a, granule(0)).unwrap();
    region.unpin(&a, granules(0, 3)).unwrap();
    assert_eq!((purgeable(&budget), committed(&budget)), (2, 7));
    assert_eq!(region.pin(&a, granule(2)), Ok(Intact));
    assert_eq!(region.pin(&a, granule(0)), Ok(Intact));
    region.unpin(&a, granules(0, 3)).unwrap();
    assert_eq!(region.given_back(), [(1, 2)]);
    assert_eq!(budget.purge(8), 2);
    assert_eq!(region.given_back(), [(0, 1), (2, 3)]);
    assert_eq!((purgeable(&budget), committed(&budget)), (0, 5));
    assert_eq!(region.pin(&a, granules(0, 3)), Ok(Lost));
}

// rule 8
#[test]
fn pinning_purged_bytes_pays_again() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!((budget.purge(4), committed(&budget)), (4, 4));
    let others = budget.commit(3).unwrap();
    assert!(is_exhausted(region.pin(&a, granules(0, 8)), "budget"));
    assert_eq!(region.pinned(&a), []);
    drop(others);
    assert_eq!(region.pin(&a, granules(0, 8)), Ok(Lost));
    assert_eq!(committed(&budget), 8);
}

// rule 8
#[test]
fn pin_does_not_purge_its_own_span() {
    let budget = Budget::new(4 * GRANULE);
    let (region, a) = create(&budget, 0, 8 * GRANULE, false, Vec::new());
    region.pin(&a, granules(0, 4)).unwrap();
    // The least recently unpinned granule is part of it.
    region.unpin(&a, granules(2, 2)).unwrap();
    region.unpin(&a, granules(0, 2)).unwrap();
    assert_eq!(region.pin(&a, granules(2, 4)), Ok(Intact));
    assert_eq!(region.given_back(), [(0, 2)]);
    assert_eq!((committed(&budget), purgeable(&budget)), (4, 0));
}

// rule 7
#[test]
fn no_length_pins_up_to_the_end() {
    let budget = Budget::new(2 * GRANULE);
    let size = (5 << 32) + 1;
    let (region, a) = create(&budget, 0, size, false, Vec::new());
    let (all, last) = (Span::whole(size), size / GRANULE);
    let to_the_end = |first: u64| Span::of_pins(first * GRANULE, 0, size).unwrap();
    assert_eq!(region.pin(&a, to_the_end(last - 1)), Ok(Intact));
    assert_eq!(committed(&budget), 2);
    assert!(is_exhausted(region.pin(&a, to_the_end(0)), "budget"));
    region.unpin(&a, to_the_end(0)).unwrap();
    assert_eq!(region.lock.lock().unpaid(all), all.length() / GRANULE - 2);
    assert_eq!(budget.purge(8), 2);
    assert_eq!(region.given_back(), [(last - 1, last + 1)]);
    assert_eq!(region.pin(&a, to_the_end(last)), Ok(Lost));
    assert_eq!(committed(&budget), 1);
}

// rules 3, 7
#[test]
fn bad_spans_are_refused() {
    let size = 8 * GRANULE - 1;
    let misaligned = [(1, 0), (GRANULE - 1, GRANULE), (0, GRANULE + 1)];
    for (offset, length) in misaligned {
        let refused = Span::of_pins(offset, length, size);
        assert!(matches!(refused, Err(SpanError::Misaligned { .. })));
    }
    let beyond = [
        (8 * GRANULE, 0),
        (0, 9 * GRANULE),
        (7 * GRANULE, 2 * GRANULE),
        (GRANULE, u64::MAX - GRANULE + 1),
    ];
    for (offset, length) in beyond {
        let refused = Span::of_pins(offset, length, size);
        assert!(matches!(refused, Err(SpanError::OutOfBounds { .. })));
    }
    assert_eq!(Span::of_pins(0, 8 * GRANULE, size), Ok(Span::whole(size)));
}

// rules 7, 8
#[test]
fn purges_least_recently_unpinned_first() {
    let budget = Budget::new(16 * GRANULE);
    let (one, a) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
    let (two, b) = create(&budget, 2, 8 * GRANULE, true, Vec::new());
    one.unpin(&a, granules(4, 2)).unwrap();
    two.unpin(&b, granules(0, 4)).unwrap();
    one.unpin(&a, granules(0, 2)).unwrap();
    // These keep their places in the order.
    one.unpin(&a, granules(0, 8)).unwrap();
    two.unpin(&b, granules(0, 4)).unwrap();
    let (mut order, mut rooms) = (Vec::new(), Vec::new());
    for granules in [1, 2, 3, 1, 5] {
        // A new region would do the same.
        rooms.push(budget.commit(granules).unwrap());
        assert_eq!(committed(&budget), 16);
        let given = [&one, &two].map(|region| region.given_back());
        let granules = |(start, end)| start..end;
        order.extend(given.map(|spans| spans.into_iter().flat_map(granules).collect::<Vec<_>>()));
    }
    let expected: [&[u64]; 10] = [
        &[4],
        &[],
        &[5],
        &[0],
        &[],
        &[1, 2, 3],
        &[0],
        &[],
        &[1, 2, 3, 6, 7],
        &[],
    ];
    assert_eq!(order, expected);
    assert!(budget.commit(1).is_err());
}

// rule 7
#[test]
fn only_a_new_unpin_renews_the_purge_order() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granule(5)).unwrap();
    region.unpin(&a, granule(6)).unwrap();
    region.pin(&a, granule(5)).unwrap();
    region.unpin(&a, granule(5)).unwrap();
    assert_eq!((budget.purge(1), region.given_back()), (1, vec![(6, 7)]));
    // The last claim's unpinning counts, not the first one's.
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    region.unpin(&a, granule(0)).unwrap();
    region.unpin(&a, granule(1)).unwrap();
    region.unpin(&b, granule(1)).unwrap();
    region.unpin(&b, granule(0)).unwrap();
    assert_eq!(budget.purge(3), 3);
    assert_eq!(region.given_back(), [(5, 6), (1, 2), (0, 1)]);
}

// rules 6, 7
#[test]
fn ended_claim_unpins_after_its_windows() {
    let (budget, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    region.unpin(&a, granules(0, 8)).unwrap();
    let window = open(&mut region.lock.lock(), &b, granule(3), Write).unwrap();
    region.lock.lock().release(b);
    assert_eq!((purgeable(&budget), budget.purge(8)), (0, 0));
    region.lock.lock().close(window, WindowEnd::Died);
    assert_eq!((purgeable(&budget), budget.purge(8)), (8, 8));
    assert_eq!(committed(&budget), 0);
}

// rule 6
#[test]
fn last_claim_returns_the_whole_charge() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(2, 6)).unwrap();
    assert_eq!((budget.purge(3), committed(&budget)), (3, 5));
    let mut ledger = region.lock.lock();
    ledger.release(a);
    drop(ledger.release_commit());
    drop(ledger);
    assert_eq!((committed(&budget), purgeable(&budget)), (0, 0));
    assert_eq!(budget.purge(8), 0);
    assert_eq!(budget.commit(8).unwrap().granules(), 8);
}

// rules 5, 7
#[test]
fn lent_claim_keeps_its_pins() {
    let (_, region, a) = pinned_region();
    let lent = region.lock.lock().lend(&a, READ_WRITE).unwrap();
    for (handle, refusal) in [
        (&lent, LedgerError::NotPermitted),
        (&a, LedgerError::WouldBlock),
    ] {
        let refusal = PinError::Refused(refusal);
        assert_eq!(region.unpin(handle, granule(0)), Err(refusal.clone()));
        assert_eq!(region.pin(handle, granule(0)), Err(refusal));
    }
    assert_eq!(region.pinned(&lent).len(), 8);
    region.lock.lock().revoke(lent.lend().unwrap());
    let gone = Err(PinError::Refused(LedgerError::Gone));
    assert_eq!(region.pin(&lent, granule(0)), gone);
    region.unpin(&a, granule(0)).unwrap();
}

// rule 7
#[test]
fn unpinning_under_a_guard_is_refused() {
    let (_, region, a) = pinned_region();
    let held = guard(&mut region.lock.lock(), &a, granules(2, 2), Read).unwrap();
    let refused = Err(PinError::Refused(LedgerError::WouldBlock));
    assert_eq!(region.unpin(&a, granules(0, 3)), refused);
    assert_eq!(region.pinned(&a).len(), 8);
    region.unpin(&a, granules(0, 2)).unwrap();
    region.unpin(&a, granules(4, 4)).unwrap();
    region.lock.lock().close(held, WindowEnd::Orderly);
    region.unpin(&a, granules(0, 8)).unwrap();
}

// rule 7
#[test]
fn windows_and_guards_need_pinned_bytes() {
    let (_, region, a) = pinned_region();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    let b = b.unwrap();
    region.unpin(&a, granule(2)).unwrap();
    let mut ledger = region.lock.lock();
    for span in [granule(2), granules(0, 3), granules(2, 2)] {
        for access in [Read, Write] {
            let refused = Err(LedgerError::Unpinned);
            assert_eq!(open(&mut ledger, &a, span, access), refused);
            assert_eq!(guard(&mut ledger, &a, span, access), refused);
        }
    }
    open(&mut ledger, &a, granules(0, 2), Write).unwrap();
    open(&mut ledger, &b, granule(2), Write).unwrap();
}

// rules 2, 7
#[test]
fn hidden_window_keeps_its_lock() {
    let (_, region, a) = pinned_region();
    let mut ledger = region.lock.lock();
    let b = ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap();
    open(&mut ledger, &a, granule(0), Write).unwrap();
    let _ = ledger.unpin(&a, granule(0)).unwrap();
    let refused = open(&mut ledger, &b, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    drop(ledger);
    assert_eq!(region.pin(&a, granule(0)), Ok(Intact));
}

// rule 7
#[test]
fn freezing_needs_the_whole_region_pinned() {
    let (_, region, a) = pinned_region();
    region.unpin(&a, granule(7)).unwrap();
    let b = region.lock.lock().duplicate(&a, Rights::ALL, Vec::new());
    region.pin(&b.unwrap(), granule(7)).unwrap();
    assert_eq!(region.lock.lock().freeze(&a), Err(LedgerError::Unpinned));
    region.pin(&a, granule(7)).unwrap();
    region.lock.lock().freeze(&a).unwrap();
}

// rule 7
#[test]
fn frozen_region_is_purged_whole() {
    let budget = Budget::new(16 * GRANULE);
    let (frozen, a) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
    let (other, b) = create(&budget, 2, 8 * GRANULE, true, Vec::new());
    frozen.lock.lock().freeze(&a).unwrap();
    frozen.unpin(&a, granules(0, 7)).unwrap();
    assert_eq!((purgeable(&budget), budget.purge(8)), (0, 0));
    other.unpin(&b, granules(0, 2)).unwrap();
    frozen.unpin(&a, granule(7)).unwrap();
    assert_eq!(purgeable(&budget), 10);
    // Its last part was unpinned after the other region.
    assert_eq!((budget.purge(1), frozen.given_back()), (1, vec![]));
    assert_eq!(
        (budget.purge(2), other.given_back()),
        (9, vec![(0, 1), (1, 2)])
    );
    assert_eq!(frozen.given_back(), [(0, 7), (7, 8)]);
    assert_eq!(committed(&budget), 6);
}

// rule 7
#[test]
fn purged_frozen_region_refuses_and_is_free() {
    let account = account(4);
    let budget = Budget::new(8 * GRANULE);
    let kinds = [
        ChargeKind::Regions,
        ChargeKind::ClaimedBytes,
        ChargeKind::UnpinnedSpans,
    ];
    let amounts = [1, 8 * GRANULE, 0];
    let charge = |kind: usize| account.charge(kinds[kind], amounts[kind]).unwrap();
    let charges = vec![charge(0), charge(1), charge(2)];
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
    let weak = region.lock.lock().restrict(&a, Rights::READ).unwrap();
    let window = open(&mut region.lock.lock(), &a, granule(0), Read).unwrap();
    region.lock.lock().freeze(&a).unwrap();
    region.unpin(&a, granules(0, 8)).unwrap();
    assert_eq!(account.used(ChargeKind::UnpinnedSpans), 1);
    // One granule is needed, and the whole region is purged.
    drop(budget.commit(1).unwrap());
    assert_eq!(committed(&budget), 0);
    let purged = Err(PinError::Refused(LedgerError::Purged));
    assert_eq!(region.unpin(&a, granule(0)), purged);
    assert_eq!(region.pin(&a, granule(0)).map(|_| ()), purged);
    let mut ledger = region.lock.lock();
    assert!(ledger.is_purged());
    let purged = Some(LedgerError::Purged);
    for handle in [&a, &weak] {
        let refused = ledger.is_pinned(handle, granule(0)).err();
        assert_eq!(refused, purged);
        let refused = open(&mut ledger, handle, granule(0), Read).err();
        assert_eq!(refused, purged);
        let refused = guard(&mut ledger, handle, granule(0), Read).err();
        assert_eq!(refused, purged);
        let refused = ledger.duplicate(handle, Rights::READ, Vec::new()).err();
        assert_eq!(refused, purged);
        assert_eq!(ledger.restrict(handle, Rights::READ).err(), purged);
        assert_eq!(ledger.lend(handle, Rights::READ).err(), purged);
        assert_eq!(ledger.may_move(handle).err(), purged);
        assert_eq!(ledger.freeze(handle).err(), purged);
        assert_eq!(ledger.clear_poison(handle).err(), purged);
    }
    assert_eq!(ledger.set_access(window, Read).err(), purged);
    let used = kinds.map(|kind| account.used(kind));
    assert_eq!(used, [1, 0, 0]);
}

// rule 8
#[test]
fn smaller_budget_purges_the_excess() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 3)).unwrap();
    assert_eq!(budget.resize(6 * GRANULE), 0);
    assert_eq!((committed(&budget), region.given_back()), (6, vec![(0, 2)]));
    assert_eq!(budget.resize(3 * GRANULE), 2);
    assert_eq!(committed(&budget), 5);
    assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
    // The excess is purged as soon as nobody pins it.
    region.unpin(&a, granule(3)).unwrap();
    assert_eq!((committed(&budget), purgeable(&budget)), (4, 0));
    assert!(is_exhausted(region.pin(&a, granule(0)), "budget"));
    // No more than the excess is purged.
    region.unpin(&a, granules(4, 3)).unwrap();
    assert_eq!((committed(&budget), purgeable(&budget)), (3, 2));
    assert_eq!(region.pin(&a, granules(5, 2)), Ok(Intact));
    assert!(is_exhausted(region.pin(&a, granule(4)), "budget"));
}

// rule 8
#[test]
fn ended_claim_purges_what_is_over_budget() {
    let (budget, region, a) = pinned_region();
    let b = region
        .lock
        .lock()
        .duplicate(&a, Rights::READ, Vec::new())
        .unwrap();
    region.unpin(&b, granules(0, 4)).unwrap();
    assert_eq!(budget.resize(6 * GRANULE), 2);
    region.lock.lock().release(a);
    assert_eq!((committed(&budget), purgeable(&budget)), (6, 2));
    assert_eq!(region.given_back(), [(0, 2)]);
    assert_eq!(region.pin(&b, granules(2, 2)), Ok(Intact));
}

// rule 8
#[test]
fn refused_pin_changes_and_purges_nothing() {
    let budget = Budget::new(10 * GRANULE);
    let (other, b) = create(&budget, 1, 8 * GRANULE, true, Vec::new());
    other.unpin(&b, granules(0, 8)).unwrap();
    let account = account(1);
    let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 1).unwrap()];
    let (region, a) = create(&budget, 2, 8 * GRANULE, false, charges);
    let refused = region.pin(&a, granules(1, 4));
    assert!(is_exhausted(refused, "unpinned-spans"));
    assert_eq!((committed(&budget), region.pinned(&a)), (8, vec![]));
    assert_eq!(other.given_back(), []);
    region.pin(&a, granules(0, 4)).unwrap();
    assert_eq!((committed(&budget), other.given_back()), (10, vec![(0, 2)]));
}

// rule 10
#[test]
fn fewer_runs_are_never_refused() {
    let (budget, account) = (Budget::new(8 * GRANULE), account(2));
    let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 0).unwrap()];
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
    region.unpin(&a, granules(0, 3)).unwrap();
    region.unpin(&a, granule(5)).unwrap();
    let used = || account.used(ChargeKind::UnpinnedSpans);
    assert_eq!(used(), 2);
    assert!(is_exhausted(region.unpin(&a, granule(7)), "unpinned-spans"));
    assert!(is_exhausted(region.pin(&a, granule(1)), "unpinned-spans"));
    assert_eq!((used(), region.pinned(&a)), (2, vec![3, 4, 6, 7]));
    region.pin(&a, granule(0)).unwrap();
    region.unpin(&a, granules(3, 2)).unwrap();
    assert_eq!(used(), 1);
    region.unpin(&a, granules(0, 8)).unwrap();
    region.pin(&a, granules(0, 8)).unwrap();
    assert_eq!(used(), 0);
}

// rule 10
#[test]
fn undo_succeeds_though_the_limit_is_used_up() {
    let (budget, account) = (Budget::new(8 * GRANULE), account(2));
    let charges = vec![account.charge(ChargeKind::UnpinnedSpans, 0).unwrap()];
    let (region, a) = create(&budget, 0, 8 * GRANULE, true, charges);
    region.unpin(&a, granule(0)).unwrap();
    region.unpin(&a, granule(2)).unwrap();
    let mut ledger = region.lock.lock();
    let undo = ledger.unpin(&a, granule(1)).unwrap();
    // A claim on another region, on the same account.
    let taken = account.charge(ChargeKind::UnpinnedSpans, 1).unwrap();
    ledger.undo_unpin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [1, 3, 4, 5, 6, 7]);
    drop(taken);
    let (_, undo, mut ledger) = region.lock.pin(&a, granules(0, 3)).unwrap();
    let taken = account.charge(ChargeKind::UnpinnedSpans, 2).unwrap();
    ledger.undo_pin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [1, 3, 4, 5, 6, 7]);
    drop(taken);
    drop(budget);
}

// rule 7
#[test]
fn undone_pin_reports_its_loss_again() {
    let (budget, region, a) = pinned_region();
    region.unpin(&a, granules(0, 4)).unwrap();
    assert_eq!(budget.purge(2), 2);
    let (pinned, undo, mut ledger) = region.lock.pin(&a, granules(1, 6)).unwrap();
    assert_eq!(pinned, Lost);
    ledger.undo_pin(undo);
    drop(ledger);
    assert_eq!(region.pinned(&a), [4, 5, 6, 7]);
    assert_eq!((committed(&budget), purgeable(&budget)), (7, 3));
    assert_eq!(region.pin(&a, granules(1, 6)), Ok(Lost));
    assert_eq!(region.pin(&a, granule(0)), Ok(Lost));
}

//! The budget, and the order of purging.

use tombolo_region_tests::region::PinError;
use tombolo_region_tests::region::Pinned::{Intact, Lost};

use super::pinned_region::*;
use super::*;

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

// rule 8
#[test]
fn spare_memory_is_exchanged_within_the_budget() {
    let budget = Budget::new(4 * GRANULE);
    let spare = |budget: &Budget| budget.usage().spare / GRANULE;
    let kept = budget.commit(3).unwrap().into_spare(3).unwrap();
    assert_eq!((committed(&budget), spare(&budget)), (0, 3));
    let commit = kept.into_commit().unwrap();
    assert_eq!((committed(&budget), spare(&budget)), (3, 0));
    let kept = commit.into_spare(3).unwrap();
    assert_eq!(budget.resize(2 * GRANULE), 0);
    let kept = kept.into_commit().unwrap_err();
    assert_eq!((committed(&budget), spare(&budget)), (0, 3));
    drop(kept);
    assert_eq!(spare(&budget), 0);
}

//! Pins, purges and the budget, with threads that race under many schedules.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::try_schedules;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, yield_now};
use tombolo_race_tests::store::{Claim, GRANULES, Resident, Seen, Store, some_range};
use tombolo_region::{Budget, GRANULE, Pinned};

mod common;

/// At the end nobody has anything, and all of the budget can be taken at once.
fn check_empty(budget: &Arc<Budget>, most: u64, resident: &Resident) {
    let usage = budget.usage();
    assert_eq!((usage.committed, usage.purgeable), (0, 0));
    assert_eq!(resident.granules(), 0);
    assert!(usage.committed_peak <= most * GRANULE);
    let all = budget.commit(most).expect("nothing is kept for anybody");
    assert!(budget.commit(1).is_err());
    drop(all);
}

fn random_acts(claims: &mut Vec<Claim>, budget: &Arc<Budget>, resident: &Resident, seen: &Seen) {
    for _ in 0..6 {
        let one = thread_rng().gen_range(0..claims.len());
        match thread_rng().gen_range(0..12) {
            0..=3 => {
                if claims[one].pin(&some_range()).is_ok() {
                    claims[one].write();
                }
            }
            4..=7 => claims[one].unpin(&some_range()),
            8 => {
                budget.purge(thread_rng().gen_range(1..4));
            }
            9 => {
                let another = claims[one].duplicate();
                claims.push(another);
            }
            10 if claims.len() > 1 => drop(claims.swap_remove(one)),
            _ => {
                let granules = thread_rng().gen_range(1..4);
                if let Ok(commit) = budget.commit(granules) {
                    // As a region that is created and ends.
                    Seen::note(&seen.taken);
                    resident.add(granules);
                    yield_now();
                    resident.sub(granules);
                    drop(commit);
                }
            }
        }
        assert!(budget.usage().committed <= budget.usage().budget);
    }
}

// rule 7
#[test]
fn pinned_bytes_never_change_and_losses_are_told() {
    const BUDGET: u64 = 6;
    let seen = Arc::new(Seen::default());
    let all = seen.clone();
    try_schedules(20_000, move || {
        let budget = Budget::new(BUDGET * GRANULE);
        let resident = Resident::new(BUDGET);
        let (one, a) = Store::create(1, &budget, true, &resident, &all);
        let (two, b) = Store::create(2, &budget, false, &resident, &all);
        let threads = (0..3).map(|_| {
            let mut claims = vec![a.duplicate(), b.duplicate()];
            let (budget, resident, seen) = (budget.clone(), resident.clone(), all.clone());
            thread::spawn(move || random_acts(&mut claims, &budget, &resident, &seen))
        });
        let threads = threads.collect::<Vec<_>>();
        drop((a, b));
        for thread in threads {
            thread.join().expect("its assertions held");
        }
        assert_eq!((one.there(), two.there()), (0, 0));
        check_empty(&budget, BUDGET, &resident);
    });
    // Each of this happened, or the above says little.
    for of in [
        &seen.intact,
        &seen.lost,
        &seen.refused,
        &seen.taken,
        &seen.purged,
        &seen.waited,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

// rule 7
#[test]
fn pin_during_a_purge_waits_and_reports_the_loss() {
    let seen = Arc::new(Seen::default());
    let all = seen.clone();
    try_schedules(8_000, move || {
        let budget = Budget::new(GRANULES as u64 * GRANULE);
        let resident = Resident::new(GRANULES as u64);
        let (_, mut a) = Store::create(1, &budget, true, &resident, &all);
        let mut b = a.duplicate();
        a.write();
        a.unpin(&(0..GRANULES));
        b.unpin(&(0..GRANULES));
        let purging = thread::spawn({
            let budget = budget.clone();
            move || budget.purge(2)
        });
        let threads = [(a, 0..GRANULES), (b, 1..2)].map(|(mut claim, range)| {
            thread::spawn(move || {
                let pinned = claim.pin(&range).expect("there is room for all of it");
                let again = claim.pin(&range).expect("as before");
                assert_eq!(again, Pinned::Intact, "it is told once");
                (pinned, claim)
            })
        });
        let [of_a, of_b] = threads.map(|thread| thread.join().expect("its assertions held"));
        if purging.join().expect("nothing is against it") == 0 {
            assert_eq!((of_a.0, of_b.0), (Pinned::Intact, Pinned::Intact));
        }
        drop((of_a, of_b));
        check_empty(&budget, GRANULES as u64, &resident);
    });
    for of in [&seen.intact, &seen.lost, &seen.waited] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

// rule 8
#[test]
fn freeing_one_region_blocks_no_other() {
    let done = Arc::new(AtomicU64::new(0));
    let count = done.clone();
    try_schedules(8_000, move || {
        let most = 3 * GRANULES as u64;
        let (budget, seen) = (Budget::new(most * GRANULE), Arc::new(Seen::default()));
        let resident = Resident::new(most);
        let (one, mut a) = Store::create(1, &budget, true, &resident, &seen);
        let (_, mut b) = Store::create(2, &budget, true, &resident, &seen);
        let (_, c) = Store::create(3, &budget, false, &resident, &seen);
        let (again, fresh) = (b.duplicate(), c.duplicate());
        // In the middle of that, by the same thread: what was there, and what has
        // to be paid for. No lock that it needs is held.
        let inside = shuttle::sync::Mutex::new((again, fresh));
        let count = count.clone();
        one.meanwhile(move || {
            let (again, fresh) = &mut *inside.lock().expect("nobody panicked");
            for claim in [again, fresh] {
                claim.unpin(&(0..GRANULES));
                claim.pin(&(0..GRANULES)).expect("there is room for it");
            }
            count.fetch_add(1, SeqCst);
        });
        let purging = (0..2).map(|_| {
            let budget = budget.clone();
            thread::spawn(move || budget.purge(1))
        });
        let purging = purging.collect::<Vec<_>>();
        let pinning = thread::spawn(move || {
            a.unpin(&(0..2));
            b.unpin(&(0..GRANULES));
            a.pin(&(0..GRANULES)).expect("there is room for it");
            b.pin(&(0..GRANULES)).expect("there is room for it");
        });
        pinning.join().expect("its assertions held");
        for purging in purging {
            purging.join().expect("its assertions held");
        }
    });
    assert!(done.load(SeqCst) > 100);
}

/// A region of which nobody pins anything now.
fn idle_region(
    id: u64,
    budget: &Arc<Budget>,
    resident: &Arc<Resident>,
    frozen: bool,
) -> (Arc<Store>, Claim) {
    let (store, mut claim) = Store::create(id, budget, true, resident, &Arc::default());
    if frozen {
        store.freeze(&claim);
    }
    claim.unpin(&(0..GRANULES));
    (store, claim)
}

// rule 8
#[test]
fn commits_that_fit_are_never_refused() {
    try_schedules(8_000, || {
        // Nobody pins anything, so there is room for as much as the budget.
        let most = 3 * GRANULES as u64 + 1;
        let (budget, resident) = (Budget::new(most * GRANULE), Resident::new(most));
        let stores = [false, true, false];
        let mut id = 0;
        let stores = stores.map(|frozen| {
            id += 1;
            idle_region(id, &budget, &resident, frozen)
        });
        let purging = thread::spawn({
            let budget = budget.clone();
            move || budget.purge(3)
        });
        let threads = [4, 1, 6, 2].map(|granules| {
            let (budget, resident) = (budget.clone(), resident.clone());
            thread::spawn(move || {
                let commit = budget.commit(granules).expect("there is room for all");
                resident.add(granules);
                (granules, commit)
            })
        });
        let taken = threads.map(|thread| thread.join().expect("its assertions held"));
        purging.join().expect("nothing is against it");
        assert_eq!(budget.usage().committed, most * GRANULE);
        assert_eq!(budget.usage().purgeable, 0);
        for (granules, commit) in taken {
            resident.sub(granules);
            drop(commit);
        }
        drop(stores);
        check_empty(&budget, most, &resident);
    });
}

// rule 8
#[test]
fn purging_frees_no_more_than_is_needed() {
    try_schedules(8_000, || {
        let most = 3 * GRANULES as u64;
        let (budget, resident) = (Budget::new(most * GRANULE), Resident::new(most));
        let stores = [1, 2, 3].map(|id| idle_region(id, &budget, &resident, false));
        let threads = [1, 3, 2].map(|granules| {
            let budget = budget.clone();
            thread::spawn(move || budget.commit(granules).expect("there is room for all"))
        });
        let taken = threads.map(|thread| thread.join().expect("its assertions held"));
        assert_eq!(budget.usage().purged, 6 * GRANULE);
        drop((taken, stores));
        check_empty(&budget, most, &resident);
    });
}

// rule 8
#[test]
fn lowered_budget_holds_for_racing_commits() {
    try_schedules(8_000, || {
        let most = 2 * GRANULES as u64;
        let (budget, resident) = (Budget::new(most * GRANULE), Resident::new(most));
        let (_, a) = idle_region(1, &budget, &resident, false);
        let (_, mut b) = Store::create(2, &budget, true, &resident, &Arc::default());
        let setting = thread::spawn({
            let budget = budget.clone();
            move || budget.resize(5 * GRANULE)
        });
        let pinning = thread::spawn({
            let mut a = a.duplicate();
            move || (a.pin(&(0..2)).is_ok(), a)
        });
        let taking = thread::spawn({
            let budget = budget.clone();
            move || budget.commit(1)
        });
        b.unpin(&(0..1));
        setting.join().expect("its assertions held");
        let (pinned, taken) = (pinning.join(), taking.join());
        // Bytes that were pinned before, or at once because they were resident, stay. The
        // other committed bytes have to fit.
        let _ = budget.purge(most);
        let (a2, taken) = (pinned.expect("no panic"), taken.expect("no panic"));
        let committed = budget.usage().committed / GRANULE;
        let pinned = if a2.0 { 2 } else { 0 };
        let taken_granules = u64::from(taken.is_ok());
        assert_eq!(committed, 3 + pinned + taken_granules);
        assert!(committed <= 6, "{committed}");
        drop((a, a2, b, taken));
    });
}

//! The queue for windows, with guests on strands that race, under many schedules.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use common::try_schedules;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use tombolo_race_tests::{
    Borrower, GRANULES, Limits, Memory, MockHost, Region, RegionError, Waiting,
};
use tombolo_race_tests::{some_access, some_span};
use tombolo_region::{Access, GRANULE, LedgerError, Span};

mod common;

const WOULD_BLOCK: RegionError = RegionError::Refused(LedgerError::WouldBlock);

fn whole() -> Span {
    Span::whole(GRANULES as u64 * GRANULE)
}

/// Maps a window, and waits for it if need be, as the host program does.
async fn map(
    memory: &mut Memory,
    region: &Region,
    span: Span,
    access: Access,
) -> Result<(), RegionError> {
    let mut mapped = memory.map(region, span, access);
    while let Err(RegionError::Refused(LedgerError::WouldBlock)) = mapped {
        let turn = Waiting::new(region, span, access)?;
        turn.ready().await;
        mapped = memory.map(region, span, access);
    }
    mapped
}

/// The outcomes over all schedules.
#[derive(Debug, Default)]
struct Seen {
    mapped: AtomicU64,
    refused: AtomicU64,
    slept: AtomicU64,
    gave_up: AtomicU64,
    died: AtomicU64,
}

fn note(of: &AtomicU64) {
    of.fetch_add(1, SeqCst);
}

/// Maps, uses and unmaps windows; gives up waiting, sleeps through its turn, dies.
async fn use_windows(region: &Region, seen: &Seen, may_die: bool) {
    let mut memory = Memory::default();
    for _ in 0..3 {
        let (span, access) = (some_span(), some_access());
        match thread_rng().gen_range(0..8) {
            // It waits no more, whether or not it was its turn.
            0 => {
                let Ok(waiting) = Waiting::new(region, span, access) else {
                    return;
                };
                for _ in 0..thread_rng().gen_range(0..3) {
                    thread::yield_now();
                }
                drop(waiting);
                note(&seen.gave_up);
            }
            // It has its turn, and takes its time, in which that may go by.
            1 => {
                let Ok(waiting) = Waiting::new(region, span, access) else {
                    return;
                };
                waiting.ready().await;
                region.sleep().await;
                note(&seen.slept);
            }
            _ => match map(&mut memory, region, span, access).await {
                Ok(()) => {
                    note(&seen.mapped);
                    memory.touch(0);
                    if may_die && thread_rng().gen_range(0..6) == 0 {
                        note(&seen.died);
                        return;
                    }
                    memory.unmap(0);
                }
                Err(_) => return note(&seen.refused),
            },
        }
    }
}

// rule 11
#[test]
fn every_waiter_gets_its_turn() {
    let seen = Arc::new(Seen::default());
    for may_die in [false, true] {
        let all = seen.clone();
        try_schedules(3_000, move || {
            let host = MockHost::new();
            let first = host.owner("first", Limits::default());
            let region = host.create(&first);
            let clock = thread::spawn({
                let time = host.time.clone();
                move || block_on(time.drive())
            });
            let threads = (0..4).map(|guest: u32| {
                let to = host.owner(&guest.to_string(), Limits::default());
                let region = region.duplicate_for(&to).expect("there is room");
                let seen = all.clone();
                thread::spawn(move || block_on(use_windows(&region, &seen, may_die)))
            });
            let threads: Vec<_> = threads.collect();
            drop(region);
            for thread in threads {
                thread.join().expect("its assertions held");
            }
            host.time.end();
            clock.join().expect("its assertions held");
            host.check_empty();
        });
    }
    // Each of these happened, or the test shows little.
    for of in [
        &seen.mapped,
        &seen.refused,
        &seen.slept,
        &seen.gave_up,
        &seen.died,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

/// Time stands still here: no reservation ends.
// rule 11
#[test]
fn readers_do_not_starve_a_writer() {
    let refused = Arc::new(AtomicU64::new(0));
    let all = refused.clone();
    try_schedules(5_000, move || {
        let host = MockHost::new();
        let first = host.owner("writer", Limits::default());
        let region = host.create(&first);
        let (waits, has) = (AtomicBool::new(false), AtomicBool::new(false));
        let state = Arc::new((waits, has));
        let readers = (0..3).map(|guest: u32| {
            let to = host.owner(&guest.to_string(), Limits::default());
            let region = region.duplicate_for(&to).expect("there is room");
            let (state, refused) = (state.clone(), all.clone());
            thread::spawn(move || {
                let mut memory = Memory::default();
                for _ in 0..5 {
                    let waited = state.0.load(SeqCst);
                    match memory.map(&region, some_span(), Access::Read) {
                        Ok(()) => {
                            let served = state.1.load(SeqCst);
                            assert!(!waited || served, "it was not the reader's turn");
                            memory.touch(0);
                            memory.unmap(0);
                        }
                        Err(error) => {
                            assert_eq!(error.to_string(), WOULD_BLOCK.to_string());
                            note(&refused);
                        }
                    }
                    thread::yield_now();
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let mut memory = Memory::default();
        let waiting = Waiting::new(&region, whole(), Access::Write).expect("it may");
        state.0.store(true, SeqCst);
        block_on(waiting.ready());
        let mapped = memory.map(&region, whole(), Access::Write);
        mapped.expect("it is reserved");
        state.1.store(true, SeqCst);
        drop(waiting);
        memory.touch(0);
        memory.unmap(0);
        for reader in readers {
            reader.join().expect("its assertions held");
        }
        drop((region, memory));
        host.check_empty();
    });
    assert!(refused.load(SeqCst) > 100);
}

/// A lender has a window, which is set aside; somebody else waits for it; and the
/// borrower waits, and is not behind that.
// rule 5
#[test]
fn borrower_passes_waiters_behind_its_lender() {
    try_schedules(5_000, || {
        let host = MockHost::new();
        let [lender, borrower, other, reader] = ["lender", "borrower", "other", "reader"]
            .map(|name| host.owner(name, Limits::default()));
        let region = host.create(&lender);
        let mut memory = Memory::default();
        let first = Span::of_window(0, GRANULE, 2 * GRANULE).expect("inside");
        let second = Span::of_window(GRANULE, GRANULE, 2 * GRANULE).expect("inside");
        memory
            .map(&region, first, Access::Write)
            .expect("nobody has it");
        // Somebody else has the rest for a while, and others want all of it.
        let threads = [(other, second), (reader, whole())].map(|(to, span)| {
            let region = region.duplicate_for(&to).expect("there is room");
            thread::spawn(move || {
                let mut memory = Memory::default();
                block_on(map(&mut memory, &region, span, Access::Write)).expect("its turn comes");
                memory.touch(0);
                memory.finish();
            })
        });
        let lent = Borrower::lend(&region, &borrower);
        let (region_lent, back) = lent.expect("nothing is against it");
        let borrowing = thread::spawn(move || {
            let mut memory = Memory::default();
            let mapped = block_on(map(&mut memory, &region_lent, whole(), Access::Write));
            mapped.expect("its turn comes");
            memory.touch(0);
            memory.finish();
            drop(region_lent);
            back.revoke();
        });
        borrowing.join().expect("its assertions held");
        memory.touch(0);
        memory.finish();
        for thread in threads {
            thread.join().expect("its assertions held");
        }
        drop((region, memory));
        host.check_empty();
    });
}

/// The lend ends while the borrower waits, as when its guest is ended.
// rule 5
#[test]
fn waiting_borrower_learns_of_the_lends_end() {
    let gone = Arc::new(AtomicU64::new(0));
    let count = gone.clone();
    try_schedules(5_000, move || {
        let host = MockHost::new();
        let [lender, borrower, holder] =
            ["lender", "borrower", "holder"].map(|name| host.owner(name, Limits::default()));
        let region = host.create(&lender);
        let held = region.duplicate_for(&holder).expect("there is room");
        let mut memory = Memory::default();
        memory
            .map(&held, whole(), Access::Write)
            .expect("nobody has it");
        let (lent, back) = Borrower::lend(&region, &borrower).expect("nothing is against it");
        let count = count.clone();
        let borrowing = thread::spawn(move || {
            let mut memory = Memory::default();
            match block_on(map(&mut memory, &lent, whole(), Access::Read)) {
                Err(RegionError::Refused(LedgerError::Gone)) => note(&count),
                other => panic!("{other:?}"),
            }
        });
        let ending = thread::spawn(move || back.revoke());
        ending.join().expect("its assertions held");
        // The holder keeps what it has: nothing else wakes who waits.
        borrowing.join().expect("its assertions held");
        memory.finish();
        drop((region, held, memory));
        host.check_empty();
    });
    assert!(gone.load(SeqCst) > 100);
}

/// A claim waits for one thing at a time.
// rule 11
#[test]
fn second_wait_of_a_claim_replaces_the_first() {
    try_schedules(5_000, || {
        let host = MockHost::new();
        let [guest, holder] = ["guest", "holder"].map(|name| host.owner(name, Limits::default()));
        let region = host.create(&guest);
        let held = region.duplicate_for(&holder).expect("there is room");
        let mut memory = Memory::default();
        let mapped = memory.map(&held, whole(), Access::Write);
        mapped.expect("nobody has it");
        let first = Waiting::new(&region, whole(), Access::Read).expect("it may");
        let first = thread::spawn(move || block_on(first.ready()));
        let second = Waiting::new(&region, some_span(), Access::Write).expect("it may");
        first.join().expect("it is told");
        memory.unmap(0);
        block_on(second.ready());
        drop((second, region, held));
        host.check_empty();
    });
}

/// The lender waits for the end of the last window, in whichever guest and however it ends.
// rule 5
#[test]
fn lender_learns_of_every_end_of_a_lend() {
    try_schedules(5_000, || {
        let host = MockHost::new();
        let [lender, borrower, other] =
            ["lender", "borrower", "other"].map(|name| host.owner(name, Limits::default()));
        let region = host.create(&lender);
        let (lent, back) = Borrower::lend(&region, &borrower).expect("nothing is against it");
        let (on, back_on) = Borrower::lend(&lent, &other).expect("nothing is against it");
        let over = back.over();
        let mut threads = [(lent, back), (on, back_on)]
            .map(|(region, back)| {
                thread::spawn(move || {
                    let mut memory = Memory::default();
                    let _ = memory.map(&region, some_span(), some_access());
                    match thread_rng().gen_range(0..3) {
                        // In order; or the handle first; or the memory first.
                        0 => memory.finish(),
                        1 => drop(region),
                        _ => drop(memory),
                    }
                    back.revoke();
                })
            })
            .into_iter();
        block_on(over);
        let mut memory = Memory::default();
        // All of it is the lender's again.
        let mapped = memory.map(&region, whole(), Access::Read);
        let poisoned = RegionError::Refused(LedgerError::Poisoned).to_string();
        assert!(
            mapped.is_ok_and(|()| true) || host.counts().1 == 1,
            "{poisoned}"
        );
        threads
            .try_for_each(|thread| thread.join())
            .expect("its assertions held");
        memory.finish();
        drop((region, memory));
        host.check_empty();
    });
}

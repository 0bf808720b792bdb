//! Instruction counts of a ledger's operations while all limits of several guests are used up at
//! once: claims, windows, lends, unpinned runs and waiters.
//!
//! As in `instructions.rs`, each path has a limit about a quarter above its last measured count.
//! `instructions.rs` has the counts of an otherwise empty ledger.
#![allow(missing_docs)] // Generated.

use std::hint::black_box;
use std::time::Duration;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use tombolo_region_tests::region::{
    Access, Budget, GRANULE, Handle, Holder, Ledger, LedgerGuard, LedgerLock, RegionNumber, Rights,
    Span, WaitStatus, WaiterId, WindowEnd, WindowId,
};

/// The repetitions of each path, so that the code around it does not matter.
const TIMES: u64 = 200;

/// The granules of the region.
const GRANULES: u64 = 16_384;

/// The claims of a guest.
const CLAIMS: usize = 1024;

/// The windows of a guest.
const WINDOWS: u64 = 4096;

/// A moment at which no reservation expires.
const NOW: Duration = Duration::ZERO;

/// Returns the limit of instructions for each repetition of a path.
fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, TIMES * each)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

fn granules(first: u64, length: u64) -> Span {
    let bytes = |granules| granules * GRANULE;
    Span::of_window(bytes(first), bytes(length), bytes(GRANULES)).expect("inside the region")
}

/// A region on which all limits are used up, with the handles that act on it.
struct Crowd {
    lock: LedgerLock<()>,
    /// The handle of a guest without windows.
    guest: Handle,
    /// A lent handle. Its lender has many windows, for which others wait.
    borrower: Handle,
    /// The handle of a claim that unpins every other granule from 8192 on.
    unpins: Handle,
    /// The windows on the first granule, for which half of the waiters wait.
    reads: Vec<WindowId>,
    waiters: Vec<WaiterId>,
    /// The handles that hold the rest.
    _others: Vec<Handle>,
}

/// Acts on the ledger as the layer above does: it advances the ledger before and after.
fn with<R>(lock: &LedgerLock<()>, act: impl FnOnce(&mut LedgerGuard<'_, ()>) -> R) -> R {
    let mut ledger = lock.lock();
    ledger.advance_some(NOW);
    let result = act(&mut ledger);
    ledger.advance_some(NOW);
    black_box(ledger.take_woken());
    result
}

fn open(crowd: &Crowd, handle: &Handle, span: Span, access: Access) -> Option<WindowId> {
    with(&crowd.lock, |ledger| {
        ledger
            .open(handle, access.needs(), span, access, Holder::Guest, ())
            .ok()
    })
}

fn crowd() -> Crowd {
    let budget = Budget::new(GRANULES * GRANULE);
    let commit = budget.commit(GRANULES).expect("there is room");
    let size = GRANULES * GRANULE;
    let (ledger, first) = Ledger::new(size, &budget, Some(commit), Vec::new());
    let lock = LedgerLock::new(RegionNumber::new(1), &budget, ledger);
    let claim = || {
        let handle = lock.lock().duplicate(&first, Rights::ALL, Vec::new());
        handle.expect("it is permitted")
    };
    let opened = |handle: &Handle, span, access: Access| {
        let mut ledger = lock.lock();
        let opened = ledger.open(handle, access.needs(), span, access, Holder::Guest, ());
        opened.expect("nothing conflicts")
    };
    let many = |handle: &Handle| -> Vec<_> {
        let one = |_| opened(handle, granules(0, 1), Access::Read);
        (0..WINDOWS).map(one).collect()
    };
    let (guest, unpins, lender) = (claim(), claim(), claim());
    let (short, long, wide) = (claim(), claim(), claim());
    let reads = many(&first);
    for at in 0..WINDOWS {
        opened(&short, granules(2 + at, 1), Access::Read);
    }
    opened(&long, granules(2, 6000), Access::Read);
    opened(&wide, granules(1, 1), Access::Write);
    let lends = lender_of(&lock, &lender, &opened);
    for at in (8192..GRANULES).step_by(2) {
        let unpinned = lock.lock().unpin(&unpins, granules(at, 1));
        drop(unpinned.expect("it is permitted"));
    }
    let mut others = vec![first, short, long, wide, lender];
    let mut waiters = Vec::new();
    for at in 0..CLAIMS {
        let handle = lock.lock().duplicate(&guest, Rights::ALL, Vec::new());
        let handle = handle.expect("it is permitted");
        let (first, length) = match at {
            _ if at < CLAIMS / 2 => (0, 1),
            _ if at == CLAIMS / 2 => (0, 2),
            _ => (1, 1),
        };
        let span = granules(first, length);
        let waiter = lock.lock().enqueue(&handle, span, Access::Write, NOW);
        waiters.push(waiter.expect("it is permitted"));
        others.push(handle);
    }
    let mut lends = lends.into_iter();
    let borrower = lends.next().expect("there are some");
    others.extend(lends);
    while lock.lock().advance_some(NOW) {}
    lock.lock().take_woken();
    Crowd {
        lock,
        guest,
        borrower,
        unpins,
        reads,
        waiters,
        _others: others,
    }
}

/// Lends a claim with many windows many times.
fn lender_of(
    lock: &LedgerLock<()>,
    lender: &Handle,
    opened: &impl Fn(&Handle, Span, Access) -> WindowId,
) -> Vec<Handle> {
    for at in 0..WINDOWS {
        opened(lender, granules(6100 + at % 2000, 1), Access::Read);
    }
    opened(lender, granules(0, 1), Access::Read);
    let rights = Rights::ALL.without(Rights::SHARE);
    (0..CLAIMS)
        .map(|_| lock.lock().lend(lender, rights).expect("it may"))
        .collect()
}

#[library_benchmark(setup = crowd)]
#[bench::to_write(args = (), config = at_most(8200))]
fn open_and_close_elsewhere(crowd: Crowd) -> Crowd {
    for at in 0..TIMES {
        let span = granules(9001 + 2 * at, 1);
        let id = open(&crowd, &crowd.guest, span, Access::Write).expect("it is free");
        with(&crowd.lock, |ledger| ledger.close(id, WindowEnd::Orderly));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::to_read(args = (), config = at_most(13500))]
fn open_and_close_among_readers(crowd: Crowd) -> Crowd {
    for at in 0..TIMES {
        let span = granules(2 + at, 3000);
        let id = open(&crowd, &crowd.guest, span, Access::Read).expect("all read");
        with(&crowd.lock, |ledger| ledger.close(id, WindowEnd::Orderly));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::to_write(args = (), config = at_most(2550))]
fn open_is_refused_for_windows(crowd: Crowd) -> Crowd {
    for at in 0..TIMES {
        let refused = open(&crowd, &crowd.guest, granules(2 + at, 3000), Access::Write);
        assert!(refused.is_none());
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::to_read(args = (), config = at_most(3950))]
fn open_is_refused_for_waiters(crowd: Crowd) -> Crowd {
    for _ in 0..TIMES {
        assert!(open(&crowd, &crowd.guest, granules(0, 1), Access::Read).is_none());
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::that_many_wait_for(args = (), config = at_most(13200))]
fn close_one_of_many_windows(mut crowd: Crowd) -> Crowd {
    for id in crowd.reads.drain(..usize::try_from(TIMES).expect("few")) {
        with(&crowd.lock, |ledger| ledger.close(id, WindowEnd::Orderly));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::elsewhere(args = (), config = at_most(9700))]
fn borrow_open_and_close(crowd: Crowd) -> Crowd {
    for at in 0..TIMES {
        let span = granules(6100 + at, 1000);
        let id = open(&crowd, &crowd.borrower, span, Access::Write).expect("it is set aside");
        with(&crowd.lock, |ledger| ledger.close(id, WindowEnd::Orderly));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::to_write(args = (), config = at_most(3400))]
fn borrow_is_refused(crowd: Crowd) -> Crowd {
    for _ in 0..TIMES {
        assert!(open(&crowd, &crowd.borrower, granules(0, 2), Access::Write).is_none());
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::behind_all(args = (), config = at_most(36500))]
fn wait_and_give_up(crowd: Crowd) -> Crowd {
    for _ in 0..TIMES {
        with(&crowd.lock, |ledger| {
            let waiter = ledger.enqueue(&crowd.guest, granules(0, 2), Access::Write, NOW);
            ledger.dequeue(waiter.expect("it is permitted"));
        });
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::in_front_of_all(args = (), config = at_most(19900))]
fn give_up_the_first_of_many(mut crowd: Crowd) -> Crowd {
    for id in crowd.waiters.drain(..usize::try_from(TIMES).expect("few")) {
        with(&crowd.lock, |ledger| ledger.dequeue(id));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::each(args = (), config = at_most(1100))]
fn poll_one_of_many(crowd: Crowd) -> Crowd {
    for id in &crowd.waiters[..usize::try_from(TIMES).expect("few")] {
        let waited = with(&crowd.lock, |ledger| ledger.poll_waiter(*id, NOW));
        assert!(matches!(waited, WaitStatus::Pending(None)));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::one(args = (), config = at_most(3900))]
fn lend_and_revoke(crowd: Crowd) -> Crowd {
    for _ in 0..TIMES {
        let rights = Rights::ALL.without(Rights::SHARE);
        let lent = with(&crowd.lock, |ledger| ledger.lend(&crowd.guest, rights));
        let lent = lent.expect("it is permitted");
        with(&crowd.lock, |ledger| {
            ledger.revoke(lent.lend().expect("it is lent"));
            ledger.release(lent);
        });
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::one(args = (), config = at_most(20700))]
fn unpin_and_pin_one_run(crowd: Crowd) -> Crowd {
    for at in 0..TIMES {
        let span = granules(8193 + 2 * at, 1);
        with(&crowd.lock, |ledger| {
            drop(ledger.unpin(&crowd.unpins, span).expect("it may"));
        });
        let pinned = crowd.lock.pin(&crowd.unpins, span).expect("it may");
        drop(black_box(pinned));
    }
    crowd
}

#[library_benchmark(setup = crowd)]
#[bench::one(args = (), config = at_most(4000))]
fn duplicate_and_release(crowd: Crowd) -> Crowd {
    for _ in 0..TIMES {
        let duplicate = with(&crowd.lock, |ledger| {
            ledger.duplicate(&crowd.guest, Rights::ALL, Vec::new())
        });
        let duplicate = duplicate.expect("it is permitted");
        with(&crowd.lock, |ledger| ledger.release(duplicate));
    }
    crowd
}

library_benchmark_group!(
    name = paths,
    benchmarks = [
        open_and_close_elsewhere,
        open_and_close_among_readers,
        open_is_refused_for_windows,
        open_is_refused_for_waiters,
        close_one_of_many_windows,
        borrow_open_and_close,
        borrow_is_refused,
        wait_and_give_up,
        give_up_the_first_of_many,
        poll_one_of_many,
        lend_and_revoke,
        unpin_and_pin_one_run,
        duplicate_and_release
    ]
);

main!(library_benchmark_groups = paths);

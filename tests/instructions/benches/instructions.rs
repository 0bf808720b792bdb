//! Instruction counts of the ledger's hot paths. Valgrind counts them, so they do not depend on
//! the load of the machine.
//!
//! Each path has a limit about a quarter above its last measured count, and fails beyond it.
#![allow(missing_docs)] // Generated.

use std::hint::black_box;
use std::sync::Arc;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use tombolo_region_tests::region::{
    Access, Budget, GRANULE, Handle, Holder, Ledger, LedgerLock, RegionNumber, Rights, Span,
    WindowEnd,
};

/// The repetitions of each path, so that the code around it does not matter.
const TIMES: u64 = 1000;

/// The granules of a region.
const GRANULES: u64 = 16;

/// Returns the limit of instructions for each repetition of a path.
fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, TIMES * each)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// Creates a region with so many `read` windows on each granule.
fn region(windows: u64) -> (LedgerLock<()>, Handle) {
    let budget = Budget::new(GRANULES * GRANULE);
    let commit = budget.commit(GRANULES).expect("there is room");
    let size = GRANULES * GRANULE;
    let (ledger, handle) = Ledger::new(size, &budget, Some(commit), Vec::new());
    let lock = LedgerLock::new(RegionNumber::new(1), &budget, ledger);
    for _ in 0..windows {
        let _stays = open(&lock, &handle, Access::Read);
    }
    (lock, handle)
}

fn open<'a>(lock: &'a LedgerLock<()>, handle: &Handle, access: Access) -> impl FnOnce() + use<'a> {
    let span = Span::whole(GRANULES * GRANULE);
    let opened = lock
        .lock()
        .open(handle, access.needs(), span, access, Holder::Guest, ());
    let id = opened.expect("it is permitted");
    move || {
        lock.lock().close(id, WindowEnd::Orderly);
    }
}

/// The state after a path. It is dropped outside of the count.
type Left = (LedgerLock<()>, Handle);

#[library_benchmark(setup = region, config = at_most(2600))]
#[bench::one(0)]
fn open_and_close_to_write((lock, handle): Left) -> Left {
    for _ in 0..TIMES {
        open(&lock, &handle, Access::Write)();
    }
    (lock, handle)
}

#[library_benchmark(setup = region)]
#[bench::one(args = (0), config = at_most(2600))]
#[bench::beside_a_thousand(args = (1000), config = at_most(14300))]
fn open_and_close_to_read((lock, handle): Left) -> Left {
    for _ in 0..TIMES {
        open(&lock, &handle, Access::Read)();
    }
    (lock, handle)
}

#[library_benchmark(setup = region)]
#[bench::one(args = (0), config = at_most(1250))]
#[bench::beside_a_thousand(args = (1000), config = at_most(1250))]
fn lend_and_revoke((lock, handle): Left) -> Left {
    for _ in 0..TIMES {
        let lent = lock
            .lock()
            .lend(&handle, Rights::ALL.without(Rights::SHARE));
        let lent = black_box(lent.expect("it is permitted"));
        let lend = lent.lend().expect("it is lent");
        lock.lock().revoke(lend);
        lock.lock().release(lent);
    }
    (lock, handle)
}

#[library_benchmark(setup = region, config = at_most(12700))]
#[bench::one(0)]
fn unpin_and_pin((lock, handle): Left) -> Left {
    let span = Span::whole(GRANULES * GRANULE);
    for _ in 0..TIMES {
        drop(lock.lock().unpin(&handle, span).expect("it is permitted"));
        let pinned = lock.pin(&handle, span).expect("it is permitted");
        let _ = black_box(pinned);
    }
    (lock, handle)
}

#[library_benchmark(setup = region, config = at_most(1350))]
#[bench::one(0)]
fn duplicate_and_release((lock, handle): Left) -> Left {
    for _ in 0..TIMES {
        let duplicate = lock.lock().duplicate(&handle, Rights::ALL, Vec::new());
        let duplicate = black_box(duplicate.expect("it is permitted"));
        lock.lock().release(duplicate);
    }
    (lock, handle)
}

fn budget() -> Arc<Budget> {
    Budget::new(GRANULES * GRANULE)
}

#[library_benchmark(setup = budget, config = at_most(180))]
#[bench::one()]
fn commit_and_return(budget: Arc<Budget>) -> Arc<Budget> {
    for _ in 0..TIMES {
        drop(black_box(budget.commit(GRANULES).expect("there is room")));
    }
    budget
}

library_benchmark_group!(
    name = paths,
    benchmarks = [
        open_and_close_to_write,
        open_and_close_to_read,
        lend_and_revoke,
        unpin_and_pin,
        duplicate_and_release,
        commit_and_return
    ]
);

main!(library_benchmark_groups = paths);

//! Calls of guests on racing strands, under many schedules: lends, moves, cycles, deaths and
//! restarts.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::try_schedules;
use tombolo_race_tests::app::calls::run;
use tombolo_race_tests::app::plan::{Plan, Seen};

mod common;

// rules 2, 5, 6, 11
#[test]
fn calls_leave_nothing_and_never_wait_in_vain() {
    let seen = Arc::new(Seen::default());
    // Each guest on a strand of its own, and two on some.
    for strands in [5, 3] {
        let plan = Plan {
            commands: 2,
            servers: 3,
            strands,
            acts: 4,
            depth: 3,
            deaths: 2,
            restarts: 1,
        };
        let all = seen.clone();
        try_schedules(10_000, move || run(plan, &all));
    }
    // Each of these happened, or the test shows little.
    for of in [
        &seen.done,
        &seen.failed,
        &seen.refused,
        &seen.inline,
        &seen.on_the_spot,
        &seen.parked,
        &seen.put_back,
        &seen.inline_elsewhere,
        &seen.taken_elsewhere,
        &seen.aborted,
        &seen.closed,
        &seen.cycles,
        &seen.lent,
        &seen.lent_on,
        &seen.moved,
        &seen.mapped,
        &seen.conflicts,
        &seen.abandoned,
        &seen.restarted,
        &seen.poisoned,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

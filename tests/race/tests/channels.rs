//! Channels between guests on racing strands, under many schedules.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::try_schedules;
use tombolo_race_tests::app::channel_actors::{Plan, Seen, run};

mod common;

// rule 5
#[test]
fn messages_keep_order_and_survive_deaths() {
    let seen = Arc::new(Seen::default());
    for (senders, capacity, deaths, restarts) in [(2, 1, 0, 0), (2, 1, 2, 1), (2, 2, 2, 0)] {
        let plan = Plan {
            senders,
            letters: 3,
            capacity,
            deaths,
            restarts,
        };
        let all = seen.clone();
        try_schedules(6_000, move || run(plan, &all));
    }
    // Each of these happened, or the test shows little.
    for of in [
        &seen.sent,
        &seen.received,
        &seen.skipped,
        &seen.dropped,
        &seen.regions,
        &seen.full,
        &seen.empty,
        &seen.no_room,
        &seen.kept,
        &seen.closed,
        &seen.restarted,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

//! Channels between guests on strands that race, under many schedules.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::try_schedules;
use tombolo_race_tests::app::post::{Plan, Seen, run};

mod common;

#[test]
fn letters_come_in_order_and_none_is_lost_whoever_dies_meanwhile() {
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
    // Each of this happened, or the above says little.
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
        &seen.reborn,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}

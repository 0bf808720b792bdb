//! Guests leave nothing behind when they end.
//!
//! The program has one test, because tests of one program share the process that is
//! checked.

use std::time::{Duration, Instant};

use tombolo::Limits;
use tombolo_app::CommandExit;
use tombolo_test_guests::scenarios::Scenario;
use tombolo_test_util::process::{Process, drop_parked_mappings};
use tombolo_test_util::run::{ends, one_thread};
use tombolo_test_util::three_guests::{app, far, share_strand, with};

/// The shared memory and the threads of a process.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    memfds: usize,
    mapped_memfds: usize,
    /// GiB in the reservations of linear memories and their parts.
    reservations: u64,
    shared_memory: u64,
    threads: Vec<String>,
}

fn holdings() -> Holdings {
    drop_parked_mappings();
    let process = Process::current();
    let descriptors = process.descriptors().unwrap();
    let mappings = process.mappings().unwrap();
    // No other mapping is so large.
    let lengths = mappings.iter().map(|it| it.range.end - it.range.start);
    let reservations = lengths.filter(|length| *length >= 1 << 30);
    let mut threads: Vec<_> = process
        .threads()
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    threads.sort();
    Holdings {
        descriptors: descriptors.len(),
        memfds: descriptors.iter().filter(|it| it.memfd().is_some()).count(),
        mapped_memfds: mappings.iter().filter(|it| it.memfd().is_some()).count(),
        reservations: reservations.sum::<u64>() >> 30,
        shared_memory: process.shared_memory().unwrap(),
        threads,
    }
}

/// Checks that the process holds what it held before. The kernel may list a joined thread
/// for a while.
#[track_caller]
fn assert_back(before: &Holdings, after: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while holdings() != *before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(holdings(), *before, "{after}");
}

/// Drops an app whose guests hold regions and windows while one waits for another.
fn is_dropped(windows: u64) {
    one_thread().block_on(async {
        let app = app(with(Scenario::Hold, "call")).start().await.unwrap();
        let host = app.host().clone();
        let held = async {
            while host.counts().windows < windows {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = app.run() => panic!("the app ended by itself: {:?}", outcome.end),
            () = held => {
                // At this moment the process holds regions.
                let now = holdings();
                assert!(now.memfds >= 4, "{now:?}");
                assert!(now.mapped_memfds >= 8, "{now:?}");
                assert!(now.shared_memory >= 4 * 65536, "{now:?}");
            }
        }
        // The guests' tasks are cancelled, and end when they are next polled.
        while host.counts().regions_freed < 4 {
            tokio::task::yield_now().await;
        }
    });
}

/// Drops an app before it runs.
fn never_runs() {
    one_thread().block_on(async {
        let _app = app(with(Scenario::Hold, "return")).start().await.unwrap();
    });
}

/// Starts apps that are refused.
fn never_starts() {
    one_thread().block_on(async {
        // The guests before it are started.
        let mut broken = far();
        broken.name = "broken".into();
        broken.wasm = broken.wasm[..1000].into();
        assert!(app(Scenario::Ping).guest(broken).start().await.is_err());
        // A second `far` makes the link ambiguous.
        let mut second = far();
        second.name = "second".into();
        assert!(app(Scenario::Ping).guest(second).start().await.is_err());
    });
}

// rule 6
#[test]
fn ended_guests_leave_nothing_behind() {
    // This creates what a process has once: handlers and thread pools.
    ends(app(with(Scenario::Hold, "return")), CommandExit::Exit(0));

    let limit = |run: bool| {
        let mut limits = Limits::default();
        let time = Some(std::time::Duration::from_millis(200));
        match run {
            true => limits.run_time = time,
            false => limits.call_time = time,
        }
        limits
    };
    let ways: &[(&str, &dyn Fn())] = &[
        ("returns", &|| {
            drop(ends(
                app(with(Scenario::Hold, "return")),
                CommandExit::Exit(0),
            ))
        }),
        ("exits", &|| {
            drop(ends(
                app(with(Scenario::Hold, "exit")),
                CommandExit::Exit(1),
            ))
        }),
        ("traps", &|| {
            drop(ends(app(with(Scenario::Hold, "trap")), CommandExit::Failed))
        }),
        ("callee traps", &|| {
            drop(ends(
                app(with(Scenario::Dead, "trap")),
                CommandExit::Exit(0),
            ))
        }),
        ("receiver traps", &|| {
            drop(ends(app(Scenario::MoveToDead), CommandExit::Exit(0)))
        }),
        ("runs out of time", &|| {
            drop(ends(
                app(with(Scenario::Hold, "spin")).limits(limit(true)),
                CommandExit::Failed,
            ));
        }),
        ("callee runs out of time", &|| {
            drop(ends(
                app(with(Scenario::Hold, "call")).limits(limit(false)),
                CommandExit::Exit(0),
            ));
        }),
        ("is dropped", &|| is_dropped(13)),
        ("never runs", &never_runs),
        ("never starts", &never_starts),
    ];
    for shares in [false, true] {
        share_strand(shares);
        for (way, end) in ways {
            let before = holdings();
            end();
            assert_back(
                &before,
                &format!("a guest that {way}; one strand: {shares}"),
            );
        }
    }
}

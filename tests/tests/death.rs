//! What guests leave behind when they end: nothing.
//!
//! One test alone, since tests of one program are threads of one process, and
//! the process is what is looked at.

use std::time::{Duration, Instant};

use tombolo::Limits;
use tombolo_app::CommandExit;
use tombolo_test_util::process::Process;
use tombolo_test_util::run::{ends, one_thread};
use tombolo_test_util::three_guests::{app, far, share_strand};

/// What a process has of memory that is shared, and of threads.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    memfds: usize,
    mapped_memfds: usize,
    /// Reservations of linear memories, and what they were cut into.
    reservations: u64,
    shared_memory: u64,
    threads: Vec<String>,
}

fn holdings() -> Holdings {
    let process = Process::current();
    let descriptors = process.descriptors().unwrap();
    let mappings = process.mappings().unwrap();
    // Nothing else is so large.
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

/// That the process has what it had before. A thread that was joined may be listed yet.
#[track_caller]
fn assert_back(before: &Holdings, after: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while holdings() != *before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(holdings(), *before, "{after}");
}

/// Drops the app while its guests hold regions and windows, and one waits for
/// another.
fn is_dropped(windows: u64) {
    one_thread().block_on(async {
        let app = app("hold call").start().await.unwrap();
        let host = app.host().clone();
        let held = async {
            while host.counts().windows < windows {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = app.run() => panic!("it does not end by itself: {:?}", outcome.end),
            () = held => {
                // It really held something at that moment.
                let now = holdings();
                assert!(now.memfds >= 4, "{now:?}");
                assert!(now.mapped_memfds >= 8, "{now:?}");
                assert!(now.shared_memory >= 4 * 65536, "{now:?}");
            }
        }
        // The guests' tasks are cancelled, and end when they are next looked at.
        while host.counts().regions_freed < 4 {
            tokio::task::yield_now().await;
        }
    });
}

/// Drops the app before it runs.
fn never_runs() {
    one_thread().block_on(async {
        let _app = app("hold return").start().await.unwrap();
    });
}

/// Is refused before anything runs.
fn never_starts() {
    one_thread().block_on(async {
        // After guests that could.
        let mut broken = far();
        broken.name = "broken".into();
        broken.wasm = broken.wasm[..1000].into();
        assert!(app("ping").guest(broken).start().await.is_err());
        // A second `far` is one too many to link to.
        let mut second = far();
        second.name = "second".into();
        assert!(app("ping").guest(second).start().await.is_err());
    });
}

// rule 6
#[test]
fn ended_guests_leave_nothing_behind() {
    // What is made once for a process: handlers, pools of threads.
    ends(app("hold return"), CommandExit::Exit(0));

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
            drop(ends(app("hold return"), CommandExit::Exit(0)))
        }),
        ("exits", &|| {
            drop(ends(app("hold exit"), CommandExit::Exit(1)))
        }),
        ("traps", &|| {
            drop(ends(app("hold trap"), CommandExit::Failed))
        }),
        ("callee traps", &|| {
            drop(ends(app("dead trap"), CommandExit::Exit(0)))
        }),
        ("receiver traps", &|| {
            drop(ends(app("move-to-dead"), CommandExit::Exit(0)))
        }),
        ("runs out of time", &|| {
            drop(ends(
                app("hold spin").limits(limit(true)),
                CommandExit::Failed,
            ));
        }),
        ("callee runs out of time", &|| {
            drop(ends(
                app("hold call").limits(limit(false)),
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

//! A gauge in an app that shows little memory: the host purges, tells the guests, and
//! terminates one. There is no report of pressure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tombolo::pressure::{Headroom, Level, MemoryGauge};
use tombolo::{GRANULE, HostLimits};
use tombolo_app::{Candidate, CommandExit, GuestSpec, OnPressure, Verdict};

use tombolo_test_guests::scenarios::Scenario;
use tombolo_test_util::run::{guest_end, run_while, until};
use tombolo_test_util::three_guests::{app, program, with};

use crate::relief::killed;
use crate::{guests, signs};

/// Many times the linear memories of the guests.
const MARGIN: u64 = 256 << 20;

/// A gauge that the test controls.
struct Left(AtomicU64);

impl Left {
    fn plenty() -> Arc<Left> {
        Arc::new(Left(AtomicU64::new(1 << 40)))
    }

    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::SeqCst);
    }
}

impl MemoryGauge for Left {
    fn name(&self) -> String {
        "the test".into()
    }

    fn headroom(&self, _: u64) -> io::Result<Headroom> {
        Ok(Headroom::new(self.0.load(Ordering::SeqCst), 0))
    }
}

fn limits() -> HostLimits {
    let mut limits = HostLimits::default();
    limits.margin = MARGIN;
    limits
}

/// Returns a guest with a cache, which ends when it is told of pressure and finds the bytes
/// lost.
fn cached(name: &str) -> GuestSpec {
    GuestSpec {
        args: vec!["any".into()],
        ..program(name, guests::PRESSURE_CACHE)
    }
}

// rules 8, 13
#[test]
fn margin_purges_first_and_then_ends_a_guest() {
    let left = Left::plenty();
    let cache = "cache of the margin";
    let hook = {
        let left = left.clone();
        move |candidate: &Candidate| {
            assert!(candidate.bytes > 0);
            match &*candidate.guest {
                "near" => {
                    // Its end frees enough memory.
                    left.set(1 << 40);
                    Verdict::Kill
                }
                _ => Verdict::Spare,
            }
        }
    };
    let app = app(Scenario::DeadOfPressure)
        .guest(cached(cache))
        .host_limits(limits())
        .gauge(left.clone())
        .on_pressure(OnPressure::Kill)
        .before_kill(hook)
        .oom_score("near", 501);
    let outcome = run_while(app, async |app, host| {
        // The cache has created its region and its sign, and the client the region it lends.
        signs(host, 3).await;
        assert_eq!(crate::resident(cache), 4 * GRANULE);
        assert_eq!(host.pressure(), Level::Normal);
        left.set(MARGIN / 4 * 3);
        // The cache is told, and pins its bytes again.
        signs(host, 4).await;
        assert_eq!(host.budget().purged, 4 * GRANULE);
        // Everything is pinned now.
        left.set(MARGIN / 4);
        app.exited("near").await.unwrap();
    });
    // The client and the cache have succeeded.
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(killed(&outcome), [("near", false)]);
    assert_eq!(guest_end(&outcome, cache), "exit 0");
    assert!(outcome.failures[0].contains("the host is short of memory"));
}

// rule 8
#[test]
fn no_guest_ends_while_half_the_margin_is_left() {
    let left = Left::plenty();
    let cache = "cache of half a margin";
    let app = app(with(Scenario::Hold, "spin"))
        .guest(cached(cache))
        .host_limits(limits())
        .gauge(left.clone())
        .on_pressure(OnPressure::Kill);
    let outcome = run_while(app, async |app, host| {
        until(|| host.counts().windows >= 14 && host.purgeable() > 0).await;
        left.set(MARGIN - 1);
        until(|| host.pressure() == Level::Moderate).await;
        assert_eq!(host.budget().purged, 4 * GRANULE);
        app.stop();
    });
    assert_eq!(killed(&outcome), []);
}

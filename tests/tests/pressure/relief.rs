//! A report of pressure in an app: the host purges, tells the guests, and terminates one if
//! that is not enough.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use tombolo::GRANULE;
use tombolo::pressure::Level;
use tombolo_app::{App, AppBuilder, Candidate, CommandExit, OnPressure, Outcome, Verdict};

use crate::{Own, guests, signs};
use tombolo_test_guests::scenarios::Scenario;
use tombolo_test_util::run::{guest_end, run_while, until};
use tombolo_test_util::three_guests::{app, program, with};

/// Lets guests run for a while in which nothing may happen.
async fn a_while() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn killed(outcome: &Outcome) -> Vec<(&str, bool)> {
    let kills = outcome.report.kills.iter();
    kills.map(|it| (&*it.guest, it.dry_run)).collect()
}

/// Reports pressure twice to a guest with a cache, a caller and its callee. The caller gets
/// the end of the callee as a string or as `peer-failed`.
fn purged_and_then_ended(scenario: impl Display, cache: &str) {
    let own = Own::default();
    let app = app(scenario)
        .guest(program(cache, guests::PRESSURE_CACHE))
        .pressure(own.clone())
        .on_pressure(OnPressure::Kill)
        // The others have 500.
        .oom_score("near", 501);
    let outcome = run_while(app, async |app, host| {
        // The cache has created its region and its sign, and the client the region it lends.
        signs(host, 3).await;
        assert_eq!(crate::resident(cache), 4 * GRANULE);
        own.report(Level::Critical);
        assert_eq!(host.budget().purged, 4 * GRANULE);
        assert_eq!(crate::resident(cache), 0, "the kernel has it back");
        // The cache is told, and has checked its bytes.
        signs(host, 4).await;
        a_while().await;

        // Everything is pinned now.
        own.report(Level::Critical);
        app.exited("near").await.unwrap();
        assert_eq!(host.budget().purged, 4 * GRANULE);
        own.report(Level::Normal);
    });
    // The client and the cache have succeeded.
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(killed(&outcome), [("near", false)]);
    assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    assert!(outcome.failures[0].starts_with("guest `near` was ended"));
    assert_eq!(guest_end(&outcome, "far"), "served");
}

// rules 8, 13
#[test]
fn first_report_purges_and_second_ends_a_guest() {
    purged_and_then_ended(Scenario::DeadOfPressure, "cache of one");
}

// rule 13
#[test]
fn caller_with_a_variant_gets_peer_failed() {
    purged_and_then_ended(
        with(Scenario::DeadOfPressure, "failing"),
        "cache of another",
    );
}

/// Returns an app that runs until it is stopped, and whose guests would be terminated in the
/// order `near`, `far`.
fn holding(on_pressure: OnPressure) -> AppBuilder {
    app(with(Scenario::Hold, "spin"))
        .on_pressure(on_pressure)
        .oom_score("near", 900)
        .oom_score("far", 100)
        .oom_score("client", 0)
}

type Asked = Arc<Mutex<Vec<String>>>;

/// Returns a hook that records its candidates and spares one, and the record.
fn hook(spared: &'static str) -> (Asked, impl FnMut(&Candidate) -> Verdict + Send) {
    let asked = Asked::default();
    let hook = {
        let asked = asked.clone();
        move |candidate: &Candidate| {
            asked.lock().unwrap().push(candidate.guest.clone());
            match candidate.guest == spared {
                true => Verdict::Spare,
                false => Verdict::Kill,
            }
        }
    };
    (asked, hook)
}

// rule 8
#[test]
fn no_guest_ends_while_purging_helps() {
    let (own, (asked, hook)) = (Own::default(), hook("near"));
    let app = holding(OnPressure::Kill)
        .pressure(own.clone())
        .before_kill(hook);
    let outcome = run_while(app, async |app, host| {
        until(|| host.counts().windows >= 14).await;
        own.report(Level::Critical);
        a_while().await;

        let region = host.create("the program's", GRANULE).unwrap();
        region.unpin(..).unwrap();
        own.report(Level::Critical);
        assert_eq!(host.budget().purged, GRANULE);
        a_while().await;

        own.report(Level::Moderate);
        own.report(Level::Critical);
        a_while().await;
        assert_eq!(*asked.lock().unwrap(), [""; 0], "nothing was a reason yet");

        own.report(Level::Critical);
        app.exited("far").await.unwrap();
        drop(region);
        app.stop();
    });
    assert_eq!(*asked.lock().unwrap(), ["near", "far"]);
    assert_eq!(killed(&outcome), [("far", false)]);
    assert_eq!(guest_end(&outcome, "near"), "served");
    assert!(guest_end(&outcome, "far").starts_with("ended: the host is short of memory"));
}

// rule 8
#[test]
fn dry_run_asks_the_hook_and_ends_no_guest() {
    let (own, (asked, hook)) = (Own::default(), hook("far"));
    let app = holding(OnPressure::DryRun)
        .pressure(own.clone())
        .before_kill(hook);
    let outcome = run_while(app, async |app, host| {
        until(|| host.counts().windows >= 14).await;
        own.report(Level::Critical);
        own.report(Level::Critical);
        until(|| !asked.lock().unwrap().is_empty()).await;
        a_while().await;
        app.stop();
    });
    assert_eq!(killed(&outcome), [("near", true)]);
    assert_eq!(
        [guest_end(&outcome, "near"), guest_end(&outcome, "far")],
        ["served", "served"]
    );
}

// rule 8
#[test]
fn default_only_purges() {
    let (own, (asked, hook)) = (Own::default(), hook("nobody"));
    let app = App::builder()
        .guest(program("cache by default", guests::PRESSURE_CACHE))
        .pressure(own.clone())
        .before_kill(hook);
    let outcome = run_while(app, async |_, host| {
        signs(host, 2).await;
        for _ in 0..3 {
            own.report(Level::Critical);
            a_while().await;
        }
        signs(host, 3).await;
        own.report(Level::Normal);
    });
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(killed(&outcome), []);
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
}

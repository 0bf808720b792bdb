//! Guests of one app that the test terminates. At any moment of the end, waiting guests are
//! told which guest ended and why, and all memory is freed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tombolo::pressure::{Level, PressureSink, PressureSource};
use tombolo_app::{
    App, AppBuilder, Candidate, CommandExit, GuestSpec, KillReport, OnPressure, Outcome,
    StartError, Verdict,
};

use crate::guests;
use crate::scenarios::Scenario;
use tombolo_test_util::run::{guest_end, one_thread, run_while, windows};
use tombolo_test_util::three_guests::{app, far, near, program, server, with};

/// Checks that the scenario succeeded and that only `near` was terminated.
#[track_caller]
fn plays_without_near(outcome: &Outcome) {
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    assert!(outcome.failures[0].starts_with("guest `near` was ended"));
    assert_eq!(guest_end(outcome, "near"), "ended: enough");
}

mod wherever_it_is {
    use super::*;

    // rule 9
    #[test]
    fn computing_guest_ends_at_the_next_tick() {
        let outcome = run_while(app(with(Scenario::Hold, "spin")), async |app, host| {
            windows(host, 14).await;
            app.end_guest("client", "enough").unwrap();
        });
        assert_eq!(outcome.end, CommandExit::Failed);
        assert_eq!(
            outcome.failures,
            ["guest `client` was ended in `wasi:cli/run`: enough"]
        );
        assert_eq!(guest_end(&outcome, "client"), "ended: enough");
        assert_eq!(guest_end(&outcome, "near"), "served");
    }

    // rules 5, 13
    #[test]
    fn computing_callee_returns_its_loan() {
        let outcome = run_while(app(with(Scenario::Killed, "spin")), async |app, host| {
            windows(host, 2).await;
            app.end_guest("near", "enough").unwrap();
        });
        plays_without_near(&outcome);
    }

    // rules 5, 13
    #[test]
    fn waiting_callee_returns_its_loan() {
        let outcome = run_while(app(with(Scenario::Killed, "sleep")), async |app, host| {
            windows(host, 2).await;
            app.end_guest("near", "enough").unwrap();
            // The first reason counts.
            app.end_guest("near", "too late").unwrap();
            app.exited("near").await.unwrap();
        });
        plays_without_near(&outcome);
    }

    #[test]
    fn idle_guest_ends_at_once() {
        let outcome = one_thread().block_on(async {
            let app = app(Scenario::KilledIdle).start().await.unwrap();
            let handle = app.handle();
            handle.end_guest("near", "enough").unwrap();
            handle.exited("near").await.unwrap();
            app.run().await
        });
        plays_without_near(&outcome);
        assert_eq!(outcome.failures, ["guest `near` was ended: enough"]);
    }

    #[test]
    fn terminated_command_never_begins() {
        let outcome = one_thread().block_on(async {
            let app = app(with(Scenario::Hold, "spin")).start().await.unwrap();
            let handle = app.handle();
            handle.end_guest("client", "enough").unwrap();
            handle.exited("client").await.unwrap();
            app.run().await
        });
        assert_eq!(outcome.end, CommandExit::Failed);
        assert_eq!(outcome.failures, ["guest `client` was ended: enough"]);
        assert_eq!(outcome.report.regions_created, 0);
    }

    #[test]
    fn other_thread_can_terminate_a_guest() {
        let outcome = run_while(app(with(Scenario::Killed, "spin")), async |app, host| {
            windows(host, 2).await;
            let app = app.clone();
            std::thread::spawn(move || app.end_guest("near", "enough"))
                .join()
                .unwrap()
                .unwrap();
        });
        plays_without_near(&outcome);
    }

    #[test]
    fn unknown_guest_is_an_error_that_lists_the_guests() {
        run_while(app(Scenario::Ping), async |app, _| {
            let error = app.end_guest("nera", "enough").unwrap_err();
            assert_eq!(
                error.to_string(),
                "there is no guest `nera`; the guests are `client`, `near`, `far`"
            );
            assert_eq!(app.exited("nera").await, Err(error));
        });
    }
}

mod between_two {
    use super::*;

    // rule 11
    #[test]
    fn terminated_caller_does_not_end_the_call() {
        // The client has lent the region that `near` writes, and waits for the call.
        let outcome = run_while(app(with(Scenario::Hold, "call")), async |app, host| {
            windows(host, 15).await;
            app.end_guest("client", "enough").unwrap();
            app.exited("client").await.unwrap();
            // `near` is still in the call, and now has the only claim.
            assert!(host.counts().regions_freed < 4);
        });
        assert_eq!(outcome.end, CommandExit::Failed);
        assert_eq!(
            outcome.failures,
            ["guest `client` was ended in `wasi:cli/run`: enough"]
        );
        assert_eq!(guest_end(&outcome, "near"), "ended: the app has ended");
    }

    // rules 5, 11
    #[test]
    fn borrower_does_not_wait_for_a_terminated_lender() {
        let outcome = run_while(app(Scenario::KilledBetween), async |app, host| {
            // These are the windows of the client, of `near` and of `far`.
            windows(host, 3).await;
            app.end_guest("near", "enough").unwrap();
        });
        plays_without_near(&outcome);
    }

    /// The lender could serve the call if it did not wait for its caller.
    // rules 5, 11
    #[test]
    fn borrower_does_not_wait_for_a_serving_lender() {
        let app = App::builder()
            .guest(program(
                &Scenario::KilledBetween.to_string(),
                guests::CALLS_STARTER,
            ))
            .guest(server("client", guests::CALLS_CLIENT))
            .guest(near())
            .guest(far());
        let outcome = run_while(app, async |app, host| {
            windows(host, 3).await;
            app.end_guest("near", "enough").unwrap();
        });
        plays_without_near(&outcome);
    }
}

mod for_want_of_memory {
    use super::*;

    /// Returns an app whose command runs until it is terminated.
    fn holding(on_pressure: OnPressure) -> AppBuilder {
        app(with(Scenario::Hold, "spin"))
            .on_pressure(on_pressure)
            .oom_score("near", 900)
            .oom_score("far", 100)
            .oom_score("client", 0)
    }

    /// Returns a component without memory.
    fn empty() -> GuestSpec {
        GuestSpec {
            name: "empty".into(),
            wasm: b"\0asm\x0d\0\x01\0"[..].into(),
            inherit_stdio: false,
            ..GuestSpec::default()
        }
    }

    fn names(kills: &[KillReport]) -> Vec<&str> {
        kills.iter().map(|kill| &*kill.guest).collect()
    }

    // rule 8
    #[test]
    fn highest_score_ends_first_and_none_below_floor() {
        let outcome = run_while(holding(OnPressure::Kill), async |app, host| {
            windows(host, 14).await;
            let kill = app.kill_for_memory().await.unwrap();
            assert_eq!((&*kill.guest, kill.score), ("near", 900));
            // A Rust program touches a part of its memory of 1 MiB and more.
            assert!((16 << 10..1 << 20).contains(&kill.bytes), "{kill:?}");
            let kill = app.kill_for_memory().await.unwrap();
            assert_eq!((&*kill.guest, kill.score), ("far", 100));
            assert_eq!(app.kill_for_memory().await, None);
            app.end_guest("client", "enough").unwrap();
        });
        assert_eq!(names(&outcome.report.kills), ["near", "far"]);
        assert_eq!(
            outcome.failures[0],
            "guest `near` was ended: the host is short of memory, and its score is 900"
        );
        assert!(guest_end(&outcome, "far").starts_with("ended: the host is short of memory"));
    }

    // rule 8
    #[test]
    fn floor_can_be_set() {
        run_while(
            holding(OnPressure::Kill).oom_floor(101),
            async |app, host| {
                windows(host, 14).await;
                assert_eq!(app.kill_for_memory().await.unwrap().guest, "near");
                assert_eq!(app.kill_for_memory().await, None);
                app.stop();
            },
        );
        run_while(holding(OnPressure::Kill).oom_floor(0), async |app, host| {
            windows(host, 14).await;
            for guest in ["near", "far", "client"] {
                assert_eq!(app.kill_for_memory().await.unwrap().guest, guest);
            }
            assert_eq!(app.kill_for_memory().await, None);
        });
    }

    // rule 8
    #[test]
    fn guests_end_one_at_a_time() {
        let outcome = run_while(holding(OnPressure::Kill), async |app, host| {
            windows(host, 14).await;
            let (one, other) = tokio::join!(app.kill_for_memory(), app.kill_for_memory());
            assert_eq!(one.unwrap().guest, "near");
            assert_eq!(other, None);
            app.stop();
        });
        assert_eq!(names(&outcome.report.kills), ["near"]);
        assert_eq!(guest_end(&outcome, "far"), "served");
    }

    // rule 8
    #[test]
    fn guest_that_frees_nothing_is_skipped() {
        let app = holding(OnPressure::Kill)
            .guest(empty())
            .oom_score("empty", 1000);
        let outcome = run_while(app, async |app, host| {
            windows(host, 14).await;
            assert_eq!(app.kill_for_memory().await.unwrap().guest, "near");
            app.stop();
        });
        assert_eq!(guest_end(&outcome, "empty"), "served");
    }

    /// Returns a component with a memory of 64 MiB, one page of which holds `written`.
    fn large(name: &str, written: &str) -> GuestSpec {
        let text = format!(
            r#"(component
                (core module $large (memory 1024) (data (i32.const 65536) "{written}"))
                (core instance (instantiate $large)))"#
        );
        GuestSpec {
            name: name.into(),
            wasm: wat::parse_str(text).unwrap().into(),
            inherit_stdio: false,
            ..GuestSpec::default()
        }
    }

    // rule 8
    #[test]
    fn untouched_memory_is_not_counted() {
        let app = holding(OnPressure::Kill)
            .guest(large("untouched", ""))
            .guest(large("touched", "x"))
            .oom_score("untouched", 1000)
            .oom_score("touched", 999);
        let outcome = run_while(app, async |app, host| {
            windows(host, 14).await;
            let kill = app.kill_for_memory().await.unwrap();
            assert_eq!((&*kill.guest, kill.score), ("touched", 999));
            assert_eq!(kill.bytes, rustix::param::page_size() as u64);
            assert_eq!(app.kill_for_memory().await.unwrap().guest, "near");
            app.stop();
        });
        assert_eq!(guest_end(&outcome, "untouched"), "served");
    }

    /// A guest without a linear memory may use memory of the host.
    // rule 8
    #[test]
    fn host_memory_is_counted() {
        let globals = "(global i64 (i64.const 0))".repeat(10_000);
        let instances = "(core instance (instantiate $m))".repeat(10);
        let text = format!("(component (core module $m {globals}) {instances})");
        let globals = GuestSpec {
            name: "globals".into(),
            wasm: wat::parse_str(text).unwrap().into(),
            inherit_stdio: false,
            ..GuestSpec::default()
        };
        let app = holding(OnPressure::Kill)
            .guest(globals)
            .oom_score("globals", 1000);
        let outcome = run_while(app, async |app, host| {
            windows(host, 14).await;
            let kill = app.kill_for_memory().await.unwrap();
            assert_eq!(kill.guest, "globals");
            // The globals are 1.6 MB, charged in steps of 64 KiB.
            assert!(kill.bytes > 1_500_000, "{kill:?}");
            app.stop();
        });
        assert_eq!(names(&outcome.report.kills), ["globals"]);
    }

    // rules 8, 13
    #[test]
    fn caller_learns_which_guest_ended_and_why() {
        let app = app(Scenario::DeadOfPressure)
            .on_pressure(OnPressure::Kill)
            .oom_score("near", 501);
        let outcome = run_while(app, async |app, host| {
            windows(host, 1).await;
            assert_eq!(app.kill_for_memory().await.unwrap().guest, "near");
        });
        assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    }

    // rule 8
    #[test]
    fn dry_run_ends_no_guest() {
        let outcome = run_while(holding(OnPressure::DryRun), async |app, host| {
            windows(host, 14).await;
            for guest in ["near", "far"] {
                let kill = app.kill_for_memory().await.unwrap();
                assert_eq!((&*kill.guest, kill.dry_run), (guest, true));
            }
            assert_eq!(app.kill_for_memory().await, None);
            app.stop();
        });
        assert_eq!(outcome.failures, [""; 0]);
        assert_eq!(names(&outcome.report.kills), ["near", "far"]);
        assert_eq!(
            [guest_end(&outcome, "near"), guest_end(&outcome, "far")],
            ["served", "served"]
        );
    }

    // rule 8
    #[test]
    fn default_only_purges() {
        let outcome = run_while(app(with(Scenario::Hold, "spin")), async |app, host| {
            windows(host, 14).await;
            assert_eq!(app.kill_for_memory().await, None);
            app.stop();
        });
        assert!(outcome.report.kills.is_empty());
    }

    // rule 8
    #[test]
    fn hook_can_spare_a_guest() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let app = holding(OnPressure::Kill).before_kill({
            let asked = asked.clone();
            move |candidate: &Candidate| {
                asked.lock().unwrap().push(candidate.guest.clone());
                match &*candidate.guest {
                    "near" => Verdict::Spare,
                    _ => Verdict::Kill,
                }
            }
        });
        let outcome = run_while(app, async |app, host| {
            windows(host, 14).await;
            assert_eq!(app.kill_for_memory().await.unwrap().guest, "far");
            assert_eq!(app.kill_for_memory().await, None);
            app.stop();
        });
        assert_eq!(*asked.lock().unwrap(), ["near", "far", "near"]);
        assert_eq!(guest_end(&outcome, "near"), "served");
    }

    /// A source of pressure that the test controls.
    struct Spoken(Arc<Mutex<Option<PressureSink>>>);

    impl PressureSource for Spoken {
        fn name(&self) -> String {
            "a test".into()
        }

        fn start(self: Box<Self>, sink: PressureSink) -> std::io::Result<Box<dyn Send>> {
            *self.0.lock().unwrap() = Some(sink);
            Ok(Box::new(()))
        }
    }

    // rule 8
    #[test]
    fn panicked_hook_is_called_at_the_next_report() {
        let (sink, asked) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let app = holding(OnPressure::Kill)
            .pressure(Spoken(Arc::clone(&sink)))
            .before_kill({
                let asked = asked.clone();
                move |candidate: &Candidate| {
                    // The lock is released before the panic.
                    let times = {
                        let mut asked = asked.lock().unwrap();
                        asked.push(candidate.guest.clone());
                        asked.len()
                    };
                    match times {
                        1 => panic!("this hook is broken"),
                        2 => Verdict::Kill,
                        _ => Verdict::Spare,
                    }
                }
            });
        let outcome = run_while(app, async |app, host| {
            windows(host, 14).await;
            // The third question comes after the end of the second guest.
            while asked.lock().unwrap().len() < 3 {
                sink.lock()
                    .unwrap()
                    .as_ref()
                    .unwrap()
                    .report(Level::Critical);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            app.stop();
        });
        assert_eq!(asked.lock().unwrap()[..3], ["near", "near", "far"]);
        assert_eq!(names(&outcome.report.kills), ["near"]);
    }

    // rule 8
    #[test]
    fn invalid_scores_are_refused() {
        let refused = |app: AppBuilder| one_thread().block_on(app.start()).unwrap_err();
        let error = refused(app(Scenario::Ping).oom_score("mear", 1));
        assert!(matches!(error, StartError::NoSuchGuest(_)), "{error}");
        assert_eq!(
            error.to_string(),
            "there is no guest `mear`; the guests are `client`, `near`, `far`"
        );
        let error = refused(app(Scenario::Ping).oom_score("near", 1001));
        assert_eq!(
            error.to_string(),
            "`oom-score` of guest `near` must be a number from 0 to 1000, not 1001"
        );
        let error = refused(app(Scenario::Ping).oom_floor(2000));
        assert_eq!(
            error.to_string(),
            "`oom-floor` must be a number from 0 to 1000, not 2000"
        );
    }
}

mod with_the_app {
    use super::*;

    const STOPPED: &str = "ended: the app was told to stop";

    // rule 9
    #[test]
    fn looping_command_ends_and_servers_stay() {
        let outcome = run_while(app(with(Scenario::Hold, "spin")), async |app, host| {
            windows(host, 14).await;
            app.stop();
        });
        assert_eq!(outcome.end, CommandExit::Stopped);
        assert_eq!(outcome.failures, [""; 0]);
        assert_eq!(guest_end(&outcome, "client"), STOPPED);
        assert_eq!(guest_end(&outcome, "near"), "served");
    }

    // rule 11
    #[test]
    fn endless_call_ends_after_the_stop_timeout() {
        let outcome = run_while(app(with(Scenario::Hold, "call")), async |app, host| {
            windows(host, 15).await;
            app.stop();
        });
        assert_eq!(outcome.end, CommandExit::Stopped);
        assert_eq!(outcome.failures, [""; 0]);
        assert_eq!(
            [guest_end(&outcome, "client"), guest_end(&outcome, "near")],
            [STOPPED, STOPPED]
        );
        assert_eq!(guest_end(&outcome, "far"), "served");
    }

    #[test]
    fn call_in_progress_completes() {
        let outcome = run_while(
            app(with(Scenario::KilledWriting, "busy 200")),
            async |app, host| {
                windows(host, 1).await;
                app.stop();
            },
        );
        assert_eq!(outcome.end, CommandExit::Stopped);
        assert_eq!(guest_end(&outcome, "client"), STOPPED);
        assert_eq!(guest_end(&outcome, "near"), "served");
    }

    #[test]
    fn app_stopped_before_its_start_runs_nothing() {
        let outcome = one_thread().block_on(async {
            let app = app(with(Scenario::Hold, "spin")).start().await.unwrap();
            app.handle().stop();
            app.run().await
        });
        assert_eq!(outcome.end, CommandExit::Stopped);
        assert_eq!(outcome.report.regions_created, 0);
    }
}

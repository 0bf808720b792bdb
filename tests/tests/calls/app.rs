//! Guests of one app: `client` plays a scenario and calls `near`, which calls `far`. The guests
//! panic if an expectation fails. The tests check what guests cannot see.

use std::fmt::Display;
use std::time::Duration;

use tombolo::Limits;
use tombolo_app::{
    App, AppBuilder, Backoff, CallSpec, CommandExit, CommandSpec, GuestEnd, GuestSpec, Outcome,
    Restart, StartError,
};

use crate::guests;
use crate::scenarios::Scenario;
use tombolo_test_util::run::{ends, one_thread, run, run_on, succeeds, succeeds_despite, threads};
use tombolo_test_util::three_guests::{app, client, far, near, program, server, with};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Checks that the client fails with a reason that contains `parts`, after `before` other
/// failures.
#[track_caller]
fn is_ended(app: AppBuilder, before: usize, parts: &[&str]) {
    let outcome = ends(app, CommandExit::Failed);
    assert_eq!(outcome.failures.len(), before + 1, "{:?}", outcome.failures);
    let failure = &outcome.failures[before];
    assert!(failure.starts_with("guest `client` "), "{failure}");
    for part in parts {
        assert!(failure.contains(part), "{part:?} is not in {failure:?}");
    }
}

mod values {
    use super::*;

    #[test]
    fn values_of_every_type_cross_unchanged() {
        let outcome = succeeds(app(Scenario::Values));
        // A list of 100,000 bytes is copied four times.
        let copied = outcome.report.bytes_copied_calls;
        assert!(copied >= 400_000, "{copied}");
    }

    // rule 5
    #[test]
    fn nested_handles_arrive_lent_and_moved() {
        succeeds(app(Scenario::Deep));
    }
}

mod lending {
    use super::*;

    // rule 5
    #[test]
    fn lenders_windows_are_set_aside() {
        succeeds(app(Scenario::LendKeptWindows));
    }

    // rules 2, 5
    #[test]
    fn live_windows_conflict_with_other_strands() {
        let command = CommandSpec {
            args: vec![with(Scenario::LendLive, "two")],
            ..CommandSpec::default()
        };
        let guests = [client(), near(), far()].map(|guest| GuestSpec {
            strand: Some(guest.name.clone()),
            ..guest
        });
        succeeds(
            guests
                .into_iter()
                .fold(App::builder().command(command), AppBuilder::guest),
        );
    }

    // rules 2, 5
    #[test]
    fn live_windows_are_shared_within_the_strand() {
        in_one_strand(with(Scenario::LendLive, "one"));
    }

    // rule 2
    #[test]
    fn string_in_a_live_window_is_lifted_at_the_call() {
        in_one_strand(Scenario::LendLiveWords);
    }

    fn in_one_strand(scenario: impl Display) {
        let command = CommandSpec {
            args: vec![scenario.to_string()],
            ..CommandSpec::default()
        };
        let guests = [client(), near(), far()].map(|guest| GuestSpec {
            strand: Some("one".into()),
            ..guest
        });
        succeeds(
            guests
                .into_iter()
                .fold(App::builder().command(command), AppBuilder::guest),
        );
    }

    // rules 2, 5
    #[test]
    fn other_claim_conflicts_with_the_borrower() {
        succeeds(app(Scenario::LendThirdParty));
    }

    // rules 2, 5
    #[test]
    fn two_lends_of_one_claim_conflict() {
        succeeds(app(Scenario::LendSameTwice));
    }

    // rule 5
    #[test]
    fn borrowers_window_is_unmapped_after_the_call() {
        succeeds(app(Scenario::LendWindowKept));
    }

    // rule 5
    #[test]
    fn borrower_cannot_duplicate_freeze_or_move() {
        succeeds(app(Scenario::LendForbidden));
    }

    // rule 5
    #[test]
    fn restricted_lent_handle_ends_with_the_call() {
        succeeds(app(Scenario::LendRestrictedKept));
    }

    // rules 1, 5
    #[test]
    fn borrower_has_at_most_the_handles_rights() {
        succeeds(app(Scenario::LendRights));
    }

    // rule 5
    #[test]
    fn borrower_can_lend_on() {
        succeeds(app(Scenario::LendOn));
    }

    // rule 5
    #[test]
    fn many_lends_use_nothing_up() {
        let limits = limits(|it| {
            it.handles = 8;
            it.windows = 4;
        });
        succeeds(app(Scenario::LendRoundtrips).limits(limits));
    }
}

mod moving {
    use super::*;

    // rule 5
    #[test]
    fn move_takes_handle_claim_and_windows() {
        succeeds(app(Scenario::Move));
    }

    // rules 5, 13
    #[test]
    fn refused_move_is_a_value_and_keeps_the_windows() {
        succeeds(app(Scenario::MoveRefused));
    }

    // rules 5, 13
    #[test]
    fn refused_move_without_error_type_ends_the_sender() {
        let parts = [
            "near.move-roomless",
            "`refused`",
            "moved",
            "cannot report this to its caller",
        ];
        is_ended(app(Scenario::MoveRefusedRoomless), 0, &parts);
    }

    // rule 8
    #[test]
    fn receivers_account_refuses_claimed_bytes() {
        let limits = limits(|it| it.claimed_bytes = 15 * 65536);
        succeeds(app(with(Scenario::MoveOverLimit, "claimed-bytes")).limits(limits));
    }

    // rule 8
    #[test]
    fn receivers_account_refuses_regions() {
        let limits = limits(|it| it.regions = 1);
        succeeds(app(with(Scenario::MoveOverLimit, "regions")).limits(limits));
    }

    // rule 5
    #[test]
    fn results_move_claims_without_windows() {
        succeeds(app(Scenario::MoveResults));
    }

    // rule 8
    #[test]
    fn callers_account_refuses_results() {
        let limits = limits(|it| it.claimed_bytes = 15 * 65536);
        succeeds(app(Scenario::MoveResultOverLimit).limits(limits));
    }

    // rule 6
    #[test]
    fn moved_region_ends_with_its_receiver() {
        succeeds_despite(app(Scenario::MoveToDead), &["near"]);
    }

    // rules 1, 5
    #[test]
    fn moved_handle_is_not_the_senders() {
        is_ended(app(Scenario::UseMoved), 0, &["handle index"]);
    }
}

mod waiting {
    use super::*;

    // rule 11
    #[test]
    fn cyclic_call_is_an_error_that_names_the_cycle() {
        succeeds(app(Scenario::Cycle));
    }

    /// Cycles are found over several strands. A call that returns to a strand it came from is
    /// no cycle.
    // rule 11
    #[test]
    fn calls_work_within_and_between_strands() {
        for strands in [["one", "one", "one"], ["one", "other", "one"]] {
            for scenario in [
                Scenario::Cycle.to_string(),
                Scenario::Deep.to_string(),
                with(Scenario::Dead, "trap"),
            ] {
                let mut app = App::builder().command(CommandSpec {
                    args: vec![scenario],
                    ..CommandSpec::default()
                });
                for (guest, strand) in [client(), near(), far()].into_iter().zip(strands) {
                    app = app.guest(GuestSpec {
                        strand: Some(strand.into()),
                        ..guest
                    });
                }
                ends(app, CommandExit::Exit(0));
            }
        }
    }

    // rules 11, 13
    #[test]
    fn cycle_passes_functions_without_an_error_type() {
        succeeds(app(Scenario::CycleRoomless));
    }

    /// The callee waits many times at each call. On one thread, each guest that is ready runs between
    /// two waits. So all callers queue, and each calls again before the callee has returned.
    // rule 11
    #[test]
    fn calls_to_a_busy_guest_queue_in_order() {
        let second = |name| program(name, guests::CALLS_SECOND);
        let app = App::builder()
            .guest(second("log one"))
            .guest(second("log two"))
            .guest(second("log three"))
            .guest(near())
            .guest(far())
            // `near` imports it, and no guest calls it.
            .guest(server("client", guests::CALLS_CLIENT));
        let outcome = run_on(&one_thread(), app, async |_, _| {});
        assert_eq!(outcome.failures, [""; 0]);
        let calls: Vec<_> = outcome.report.calls.iter().collect();
        assert_eq!(
            calls.iter().map(|it| it.count).collect::<Vec<_>>(),
            [6, 6, 6]
        );
    }

    #[test]
    fn guest_is_not_linked_to_itself() {
        let result = one_thread().block_on(App::builder().guest(client()).guest(far()).start());
        let Err(StartError::Link(errors)) = result else {
            panic!("`client` needs `near`")
        };
        let text = errors.to_string();
        assert!(text.contains("test:calls/near"), "{text}");
    }

    // rule 11
    #[test]
    fn waiting_for_a_callee_costs_no_run_time() {
        let limits = limits(|it| it.run_time = Some(Duration::from_secs(2)));
        succeeds(app(with(Scenario::WaitLong, "busy 4000")).limits(limits));
    }

    // rules 11, 13
    #[test]
    fn callee_past_its_time_ends_with_an_error() {
        let limits = limits(|it| it.call_time = Some(Duration::from_millis(300)));
        succeeds_despite(app(with(Scenario::Late, "spin")).limits(limits), &["near"]);
    }

    // rule 11
    #[test]
    fn waiting_in_a_host_call_costs_call_time() {
        let limits = limits(|it| it.call_time = Some(Duration::from_millis(300)));
        succeeds_despite(app(with(Scenario::Late, "sleep")).limits(limits), &["near"]);
    }

    // rule 11
    #[test]
    fn command_past_its_run_time_ends() {
        let limits = limits(|it| it.run_time = Some(Duration::from_millis(300)));
        is_ended(
            app(with(Scenario::Hold, "spin")).limits(limits),
            0,
            &["its time is up"],
        );
    }
}

// rule 7
#[test]
fn large_window_unpins_only_its_own_bytes() {
    succeeds(app(Scenario::UnpinLarge));
}

mod dying {
    use super::*;

    // rule 13
    #[test]
    fn callers_wait_for_a_restart() {
        let near = GuestSpec {
            restart: Restart::OnFailure(Backoff {
                delay: Duration::from_millis(20),
                max_restarts: 2,
                ..Backoff::default()
            }),
            ..near()
        };
        let command = CommandSpec {
            args: vec![Scenario::Restarted.to_string()],
            ..CommandSpec::default()
        };
        let app = App::builder().command(command).guest(client());
        let outcome = succeeds_despite(app.guest(near).guest(far()), &["near"]);
        assert_eq!(outcome.report.guests[1].restarts.len(), 2);
    }

    // rule 13
    #[test]
    fn queued_caller_gets_an_error_and_can_retry() {
        let near = GuestSpec {
            restart: Restart::OnFailure(Backoff::default()),
            ..near()
        };
        // With several callers, some are woken on another thread.
        let others = ["one", "two", "three"];
        let queued = others.map(|name| GuestSpec {
            name: name.into(),
            args: vec![Scenario::QueuedAtDeath.to_string()],
            strand: Some(name.into()),
            ..client()
        });
        let calls = [("client", "near"), ("client", "far"), ("near", "far")];
        let back = [("near", "client"), ("far", "client"), ("far", "near")];
        let of_others = others.map(|other| [(other, "near"), (other, "far")]);
        let calls = calls
            .into_iter()
            .chain(back)
            .chain(of_others.into_iter().flatten());
        let calls = calls.map(|(from, to)| CallSpec {
            from: from.into(),
            to: to.into(),
        });
        let command = CommandSpec {
            args: vec![Scenario::HeavyDeath.to_string()],
            ..CommandSpec::default()
        };
        let app = App::builder().command(command).guest(client()).guest(near);
        let app = app.guest(far()).may_call(calls);
        let app = queued.into_iter().fold(app, AppBuilder::guest);
        assert_eq!(succeeds(app).report.guests[1].restarts.len(), 1);
    }

    // rule 13
    #[test]
    fn trap_of_the_callee_is_a_value() {
        succeeds_despite(app(with(Scenario::Dead, "trap")), &["near"]);
    }

    // rule 13
    #[test]
    fn exit_of_the_callee_is_a_value() {
        succeeds_despite(app(with(Scenario::Dead, "exit 0")), &["near"]);
        succeeds_despite(app(with(Scenario::Dead, "exit 3")), &["near"]);
    }

    // rule 13
    #[test]
    fn trap_without_error_type_ends_the_caller() {
        let parts = [
            "near.say-roomless",
            "unreachable",
            "cannot report this to its caller",
        ];
        is_ended(app(Scenario::DeadRoomless), 1, &parts);
    }

    // rule 6
    #[test]
    fn trapping_writer_poisons_until_cleared() {
        succeeds_despite(app(Scenario::Poison), &["near"]);
    }

    // rule 6
    #[test]
    fn regular_end_of_a_lend_does_not_poison() {
        succeeds(app(with(Scenario::PoisonNot, "writing return")));
        succeeds(app(with(Scenario::PoisonNot, "fill-keep 3")));
    }

    // rule 6
    #[test]
    fn exiting_writer_does_not_poison() {
        succeeds_despite(app(with(Scenario::PoisonNot, "writing exit 0")), &["near"]);
        succeeds_despite(app(with(Scenario::PoisonNot, "writing exit 3")), &["near"]);
    }

    // rule 6
    #[test]
    fn trapping_reader_does_not_poison() {
        succeeds_despite(app(with(Scenario::PoisonNot, "reading trap")), &["near"]);
    }

    /// The client ends while it has a window on a region on which `near` has a claim. Then
    /// `near` reads the region for another command.
    #[track_caller]
    fn leaves(how: &str, seen: &str) -> Outcome {
        let second = program(&format!("after-home {seen}"), guests::CALLS_SECOND);
        run(app(with(Scenario::Leave, how)).guest(second))
    }

    const WHOLE: &str = "ok ok ok ok ok";
    const POISONED: &str = "poisoned poisoned poisoned poisoned poisoned";

    // rule 6
    #[test]
    fn returning_command_does_not_poison() {
        let outcome = leaves("return", WHOLE);
        assert_eq!(outcome.end, CommandExit::Exit(0));
        assert_eq!(outcome.failures, [""; 0]);
    }

    // rule 6
    #[test]
    fn exiting_command_does_not_poison() {
        // WASI 0.2 tells success from failure and passes no code.
        for (code, told) in [(0, 0), (3, 1)] {
            let outcome = leaves(&code.to_string(), WHOLE);
            assert_eq!(outcome.end, CommandExit::Exit(told));
            assert_eq!(outcome.failures, [""; 0]);
        }
    }

    // rule 6
    #[test]
    fn trapping_command_poisons() {
        let outcome = leaves("trap", POISONED);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
        assert_eq!(outcome.end, CommandExit::Failed);
    }

    // rule 6
    #[test]
    fn command_trapping_in_a_read_does_not_poison() {
        let outcome = leaves("reading", WHOLE);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    }
}

mod forging {
    use super::*;

    // rule 1
    #[test]
    fn passing_a_forged_handle_traps() {
        succeeds_despite(app(Scenario::Forge), &["near", "far"]);
    }

    // rule 1
    #[test]
    fn dropping_a_forged_handle_traps() {
        is_ended(app(Scenario::ForgeOwn), 0, &["handle index"]);
    }
}

mod limits {
    use super::*;

    // rule 10
    #[test]
    fn every_limit_is_named_by_its_error() {
        succeeds(app(with(Scenario::Limit, "regions")).limits(limits(|it| it.regions = 3)));
        succeeds(app(with(Scenario::Limit, "duplicates")).limits(limits(|it| it.regions = 4)));
        let limits_ = limits(|it| it.claimed_bytes = 3 * 65536 + 5);
        succeeds(app(with(Scenario::Limit, "claimed-bytes")).limits(limits_));
        succeeds(app(with(Scenario::Limit, "handles")).limits(limits(|it| it.handles = 4)));
        succeeds(app(with(Scenario::Limit, "windows")).limits(limits(|it| it.windows = 3)));
        succeeds(
            app(with(Scenario::Limit, "copy-bytes")).limits(limits(|it| it.copy_bytes = 1000)),
        );
    }

    // rule 10
    #[test]
    fn linear_memory_has_a_limit() {
        succeeds(
            app(with(Scenario::Limit, "memory")).limits(limits(|it| it.memory_bytes = 12 << 20)),
        );
    }

    // rule 10
    #[test]
    fn descriptors_have_a_limit() {
        let directory = env!("CARGO_MANIFEST_DIR");
        let dir = cap_std::fs::Dir::open_ambient_dir(directory, cap_std::ambient_authority());
        let command = CommandSpec {
            args: vec!["limit descriptors".into()],
            env: Vec::new(),
            dirs: vec![tombolo_app::Grant {
                dir: dir.expect("it is there"),
                host_path: directory.into(),
                guest_path: "/".into(),
                read_only: true,
            }],
        };
        let app = app("")
            .command(command)
            .limits(limits(|it| it.descriptors = 20));
        let outcome = ends(app, CommandExit::Failed);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    }

    // rules 8, 10
    #[test]
    fn host_limits_cover_all_guests() {
        let mut most = tombolo::HostLimits::default();
        most.regions = 3;
        succeeds(app(with(Scenario::Limit, "regions")).host_limits(most));
        let mut most = tombolo::HostLimits::default();
        most.budget = 3 * 65536 + 5;
        succeeds(app(with(Scenario::Limit, "budget")).host_limits(most));
    }
}

mod runtimes {
    use super::*;

    #[test]
    fn app_names_its_dropped_runtime() {
        let first = one_thread();
        let app = first
            .block_on(app(Scenario::Values).start())
            .expect("it starts");
        drop(first);
        let outcome = one_thread().block_on(app.run());
        assert_eq!(outcome.end, CommandExit::Failed);
        assert_eq!(outcome.failures.len(), 3, "{:?}", outcome.failures);
        for (failure, guest) in outcome.failures.iter().zip(["client", "near", "far"]) {
            let why = format!("guest `{guest}` was dropped together with the runtime");
            assert!(failure.starts_with(&why), "{failure}");
        }
        let mut guests = outcome.report.guests.iter();
        assert!(guests.all(|it| it.end == GuestEnd::Failed), "{outcome:?}");
    }

    #[test]
    fn app_runs_on_a_second_runtime() {
        let first = threads(3);
        let app = first
            .block_on(app(Scenario::Values).start())
            .expect("it starts");
        let outcome = one_thread().block_on(app.run());
        assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    }
}

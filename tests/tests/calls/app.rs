//! Guests of one app: `client` plays a scenario, which calls `near`, which calls
//! `far`. What the guests find wrong they panic about; what they cannot see is
//! asserted here.

use std::time::Duration;

use tombolo::Limits;
use tombolo_app::{
    App, AppBuilder, Backoff, CallSpec, CommandExit, CommandSpec, GuestEnd, GuestSpec, Outcome,
    Restart, StartError,
};

use crate::guests;
use tombolo_test_util::run::{ends, one_thread, run, succeeds, succeeds_despite, threads};
use tombolo_test_util::three_guests::{app, client, far, near, program, server};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// The guest that plays the scenario is ended, for a reason that has these
/// parts; those before it in the list died before it.
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
    fn values_of_every_kind_cross_unchanged_both_ways() {
        let outcome = succeeds(app("values"));
        // Four times a list of 100,000 bytes.
        let copied = outcome.report.bytes_copied_calls;
        assert!(copied >= 400_000, "{copied}");
    }

    #[test]
    fn handles_at_any_depth_arrive_lent_and_moved() {
        succeeds(app("deep"));
    }
}

mod lending {
    use super::*;

    #[test]
    fn windows_that_the_lender_keeps_are_set_aside_and_show_the_borrowers_bytes() {
        succeeds(app("lend-kept-windows"));
    }

    #[test]
    fn live_windows_are_set_aside_and_go_with_no_other_one_thread() {
        let command = CommandSpec {
            args: vec!["lend-live two".into()],
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

    #[test]
    fn live_windows_are_set_aside_and_go_with_others_of_the_one_thread() {
        in_one_strand("lend-live one");
    }

    #[test]
    fn words_in_a_live_window_are_those_of_the_moment_of_the_call() {
        in_one_strand("lend-live-words");
    }

    fn in_one_strand(script: &str) {
        let command = CommandSpec {
            args: vec![script.into()],
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

    #[test]
    fn who_has_another_claim_conflicts_with_the_borrower() {
        succeeds(app("lend-third-party"));
    }

    #[test]
    fn two_lends_of_one_claim_conflict_with_each_other() {
        succeeds(app("lend-same-twice"));
    }

    #[test]
    fn window_that_the_borrower_keeps_is_unmapped_at_the_end() {
        succeeds(app("lend-window-kept"));
    }

    #[test]
    fn lent_handle_cannot_be_duplicated_frozen_or_moved() {
        succeeds(app("lend-forbidden"));
    }

    #[test]
    fn handle_restricted_from_a_lent_one_is_gone_after_the_call() {
        succeeds(app("lend-restricted-kept"));
    }

    #[test]
    fn borrower_has_no_more_rights_than_the_handle_and_never_share() {
        succeeds(app("lend-rights"));
    }

    #[test]
    fn what_is_lent_can_be_lent_on() {
        succeeds(app("lend-on"));
    }

    #[test]
    fn many_lends_in_a_row_use_nothing_up() {
        let limits = limits(|it| {
            it.handles = 8;
            it.windows = 4;
        });
        succeeds(app("lend-roundtrips").limits(limits));
    }
}

mod moving {
    use super::*;

    #[test]
    fn move_takes_the_handle_the_claim_and_its_windows() {
        succeeds(app("move"));
    }

    #[test]
    fn refused_move_is_a_value_and_leaves_the_windows() {
        succeeds(app("move-refused"));
    }

    #[test]
    fn refused_move_without_room_ends_the_sender() {
        let parts = [
            "near.move-roomless",
            "`refused`",
            "moved",
            "cannot report this to its caller",
        ];
        is_ended(app("move-refused-roomless"), 0, &parts);
    }

    #[test]
    fn receivers_account_refuses_claimed_bytes() {
        let limits = limits(|it| it.claimed_bytes = 15 * 65536);
        succeeds(app("move-over-limit claimed-bytes").limits(limits));
    }

    #[test]
    fn receivers_account_refuses_regions() {
        let limits = limits(|it| it.regions = 1);
        succeeds(app("move-over-limit regions").limits(limits));
    }

    #[test]
    fn results_move_with_their_claims_but_not_their_windows() {
        succeeds(app("move-results"));
    }

    #[test]
    fn callers_account_refuses_results() {
        let limits = limits(|it| it.claimed_bytes = 15 * 65536);
        succeeds(app("move-result-over-limit").limits(limits));
    }

    #[test]
    fn what_moved_dies_with_its_receiver_and_a_dead_one_gets_nothing() {
        succeeds_despite(app("move-to-dead"), &["near"]);
    }

    #[test]
    fn handle_that_has_moved_is_none_of_the_senders() {
        is_ended(app("use-moved"), 0, &["handle index"]);
    }
}

mod waiting {
    use super::*;

    #[test]
    fn call_that_leads_back_to_its_caller_is_an_error_that_names_the_cycle() {
        succeeds(app("cycle"));
    }

    /// Also where it leads over strands, and where a call that is no cycle comes back
    /// to a strand that it came from.
    #[test]
    fn guests_of_a_strand_call_each_other_and_others() {
        for strands in [["one", "one", "one"], ["one", "other", "one"]] {
            for script in ["cycle", "deep", "dead trap"] {
                let mut app = App::builder().command(CommandSpec {
                    args: vec![script.into()],
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

    #[test]
    fn cycle_is_told_through_functions_without_room_on_the_way() {
        succeeds(app("cycle-roomless"));
    }

    /// The callee works for a while at each call, so that the others wait for it;
    /// and each calls again as soon as its call is done.
    #[test]
    fn calls_to_a_busy_guest_queue_in_order() {
        let second = |name| program(name, guests::CALLS_SECOND);
        let app = App::builder()
            .guest(second("log one"))
            .guest(second("log two"))
            .guest(second("log three"))
            .guest(near())
            .guest(far())
            // For `near` to import; nobody calls it.
            .guest(server("client", guests::CALLS_CLIENT));
        let outcome = succeeds(app);
        let calls: Vec<_> = outcome.report.calls.iter().collect();
        assert_eq!(
            calls.iter().map(|it| it.count).collect::<Vec<_>>(),
            [6, 6, 6]
        );
    }

    #[test]
    fn guest_does_not_serve_itself() {
        let result = one_thread().block_on(App::builder().guest(client()).guest(far()).start());
        let Err(StartError::Link(errors)) = result else {
            panic!("`client` needs `near`")
        };
        let text = errors.to_string();
        assert!(text.contains("test:calls/near"), "{text}");
    }

    #[test]
    fn time_that_a_guest_waits_for_another_is_not_its_own() {
        let limits = limits(|it| it.run_time = Some(Duration::from_secs(2)));
        succeeds(app("wait-long busy 4000").limits(limits));
    }

    #[test]
    fn callee_past_its_time_is_ended_and_its_caller_told() {
        let limits = limits(|it| it.call_time = Some(Duration::from_millis(300)));
        succeeds_despite(app("late spin").limits(limits), &["near"]);
    }

    #[test]
    fn waiting_in_a_host_call_is_the_callees_own_time() {
        let limits = limits(|it| it.call_time = Some(Duration::from_millis(300)));
        succeeds_despite(app("late sleep").limits(limits), &["near"]);
    }

    #[test]
    fn command_past_its_time_is_ended() {
        let limits = limits(|it| it.run_time = Some(Duration::from_millis(300)));
        is_ended(app("hold spin").limits(limits), 0, &["its time is up"]);
    }
}

#[test]
fn large_window_unpins_what_it_covers_and_nothing_else() {
    succeeds(app("unpin-large"));
}

mod dying {
    use super::*;

    #[test]
    fn callee_is_started_again_and_its_callers_wait_for_that() {
        let near = GuestSpec {
            restart: Restart::OnFailure(Backoff {
                delay: Duration::from_millis(20),
                max_restarts: 2,
                ..Backoff::default()
            }),
            ..near()
        };
        let command = CommandSpec {
            args: vec!["reborn".into()],
            ..CommandSpec::default()
        };
        let app = App::builder().command(command).guest(client());
        let outcome = succeeds_despite(app.guest(near).guest(far()), &["near"]);
        assert_eq!(outcome.report.guests[1].restarts.len(), 2);
    }

    #[test]
    fn who_is_queued_at_a_callee_that_dies_hears_why_and_finds_its_next_life() {
        let near = GuestSpec {
            restart: Restart::OnFailure(Backoff::default()),
            ..near()
        };
        // The runtime keeps one who is woken for the thread that does so: several.
        let others = ["one", "two", "three"];
        let queued = others.map(|name| GuestSpec {
            name: name.into(),
            args: vec!["queued-at-death".into()],
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
            args: vec!["heavy-death".into()],
            ..CommandSpec::default()
        };
        let app = App::builder().command(command).guest(client()).guest(near);
        let app = app.guest(far()).may_call(calls);
        let app = queued.into_iter().fold(app, AppBuilder::guest);
        assert_eq!(succeeds(app).report.guests[1].restarts.len(), 1);
    }

    #[test]
    fn callee_that_traps_reaches_its_callers_as_a_value() {
        succeeds_despite(app("dead trap"), &["near"]);
    }

    #[test]
    fn callee_that_exits_has_ended_too() {
        succeeds_despite(app("dead exit 0"), &["near"]);
        succeeds_despite(app("dead exit 3"), &["near"]);
    }

    #[test]
    fn callee_that_traps_ends_a_caller_without_room() {
        let parts = [
            "near.say-roomless",
            "unreachable",
            "cannot report this to its caller",
        ];
        is_ended(app("dead-roomless"), 1, &parts);
    }

    #[test]
    fn writer_that_traps_poisons_until_that_is_cleared() {
        succeeds_despite(app("poison"), &["near"]);
    }

    #[test]
    fn regular_end_of_a_lend_does_not_poison() {
        succeeds(app("poison-not writing return"));
        succeeds(app("poison-not fill-keep 3"));
    }

    #[test]
    fn writer_that_exits_in_a_call_does_not_poison() {
        succeeds_despite(app("poison-not writing exit 0"), &["near"]);
        succeeds_despite(app("poison-not writing exit 3"), &["near"]);
    }

    #[test]
    fn reader_that_traps_does_not_poison() {
        succeeds_despite(app("poison-not reading trap"), &["near"]);
    }

    /// The client ends while it has a window on what `near` has a claim on, and
    /// `near` looks at that afterwards, for another command.
    #[track_caller]
    fn leaves(how: &str, seen: &str) -> Outcome {
        let second = program(&format!("after-home {seen}"), guests::CALLS_SECOND);
        run(app(&format!("leave {how}")).guest(second))
    }

    const WHOLE: &str = "ok ok ok ok ok";
    const POISONED: &str = "poisoned poisoned poisoned poisoned poisoned";

    #[test]
    fn command_that_returns_while_it_writes_does_not_poison() {
        let outcome = leaves("return", WHOLE);
        assert_eq!(outcome.end, CommandExit::Exit(0));
        assert_eq!(outcome.failures, [""; 0]);
    }

    #[test]
    fn command_that_exits_while_it_writes_does_not_poison() {
        // WASI 0.2 tells success from failure, and no codes.
        for (code, told) in [(0, 0), (3, 1)] {
            let outcome = leaves(&code.to_string(), WHOLE);
            assert_eq!(outcome.end, CommandExit::Exit(told));
            assert_eq!(outcome.failures, [""; 0]);
        }
    }

    #[test]
    fn command_that_traps_while_it_writes_poisons() {
        let outcome = leaves("trap", POISONED);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
        assert_eq!(outcome.end, CommandExit::Failed);
    }

    #[test]
    fn command_that_traps_while_it_reads_does_not_poison() {
        let outcome = leaves("reading", WHOLE);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    }
}

mod forging {
    use super::*;

    #[test]
    fn number_that_is_no_handle_traps_the_guest_that_passes_it() {
        succeeds_despite(app("forge"), &["near", "far"]);
    }

    #[test]
    fn dropping_what_is_no_handle_traps_the_guest() {
        is_ended(app("forge-own"), 0, &["handle index"]);
    }
}

mod limits {
    use super::*;

    #[test]
    fn every_limit_is_named_by_its_error() {
        succeeds(app("limit regions").limits(limits(|it| it.regions = 3)));
        succeeds(app("limit duplicates").limits(limits(|it| it.regions = 4)));
        let limits_ = limits(|it| it.claimed_bytes = 3 * 65536 + 5);
        succeeds(app("limit claimed-bytes").limits(limits_));
        succeeds(app("limit handles").limits(limits(|it| it.handles = 4)));
        succeeds(app("limit windows").limits(limits(|it| it.windows = 3)));
        succeeds(app("limit copy-bytes").limits(limits(|it| it.copy_bytes = 1000)));
    }

    #[test]
    fn linear_memory_has_a_limit() {
        succeeds(app("limit memory").limits(limits(|it| it.memory_bytes = 12 << 20)));
    }

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

    #[test]
    fn host_limits_hold_for_all_guests_together() {
        let mut most = tombolo::HostLimits::default();
        most.regions = 3;
        succeeds(app("limit regions").host_limits(most));
        let mut most = tombolo::HostLimits::default();
        most.budget = 3 * 65536 + 5;
        succeeds(app("limit budget").host_limits(most));
    }
}

mod runtimes {
    use super::*;

    #[test]
    fn app_whose_first_runtime_is_gone_says_so() {
        let first = one_thread();
        let app = first.block_on(app("values").start()).expect("it starts");
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
    fn app_runs_on_another_runtime_beside_its_first() {
        let first = threads(3);
        let app = first.block_on(app("values").start()).expect("it starts");
        let outcome = one_thread().block_on(app.run());
        assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    }
}

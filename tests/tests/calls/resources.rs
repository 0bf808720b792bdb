//! Guests of one app that pass resources. `decoders` defines them, `user` plays a scenario,
//! and `sink` receives handles of `user`. The guests panic if an expectation fails.

use std::fmt::Display;
use std::time::Duration;

use tombolo::{Limits, RegionHost};
use tombolo_app::{
    AppBuilder, AppHandle, Backoff, CommandExit, CommandSpec, GuestEnd, GuestSpec, Outcome, Restart,
};

use crate::guests;
use crate::scenarios::DecodingScenario;
use tombolo_test_util::run::{builder, one_thread, run, succeeds, succeeds_despite};
use tombolo_test_util::three_guests::{program, server, with};

fn owner() -> GuestSpec {
    server("decoders", guests::CALLS_DECODERS)
}

fn with_owner(owner: GuestSpec, scenario: impl Display) -> AppBuilder {
    let command = CommandSpec {
        args: vec![scenario.to_string()],
        ..CommandSpec::default()
    };
    builder()
        .command(command)
        .guest(program("user", guests::CALLS_DECODING))
        .guest(owner)
        .guest(server("sink", guests::CALLS_SINK))
}

fn app(scenario: impl Display) -> AppBuilder {
    with_owner(owner(), scenario)
}

fn handles(most: u32) -> Limits {
    let mut limits = Limits::default();
    limits.handles = most;
    limits
}

// rule 1
#[test]
fn nested_handles_keep_their_identity() {
    succeeds(app(DecodingScenario::Values));
}

#[test]
fn owner_destroys_in_order_of_the_drops() {
    succeeds(app(DecodingScenario::Order));
}

// rule 5
#[test]
fn regions_and_resources_cross_in_one_call() {
    succeeds(app(DecodingScenario::Mixed));
}

#[test]
fn many_calls_use_nothing_up() {
    succeeds(app(DecodingScenario::Many).limits(handles(4)));
}

// rule 10
#[test]
fn proxies_count_as_handles() {
    succeeds(app(DecodingScenario::Limit).limits(handles(8)));
}

// rule 13
#[test]
fn calls_to_a_dead_owner_return_the_reason() {
    succeeds_despite(app(DecodingScenario::OwnerDies), &["decoders"]);
}

// rule 13
#[test]
fn method_without_error_type_ends_the_caller() {
    let outcome = run(app(DecodingScenario::OwnerDiesRoomless));
    assert_eq!(outcome.end, CommandExit::Failed);
    // Both have failed, in an order that their threads decide.
    let mut failures = outcome.failures.iter();
    let failure = failures.find(|it| it.starts_with("guest `user` was ended"));
    let failure = failure.expect("it is ended");
    assert!(
        failure.contains("cannot report this to its caller"),
        "{failure}"
    );
}

// rule 6
#[test]
fn handles_of_an_earlier_incarnation_are_dead() {
    let owner = GuestSpec {
        restart: Restart::OnFailure(Backoff {
            delay: Duration::from_millis(10),
            ..Backoff::default()
        }),
        ..owner()
    };
    succeeds(with_owner(owner, DecodingScenario::OwnerLivesAgain));
}

#[test]
fn third_guest_can_use_and_return_handles() {
    succeeds_despite(app(DecodingScenario::Third), &["sink"]);
}

#[test]
fn failing_destructor_ends_the_owner() {
    succeeds_despite(app(DecodingScenario::Bomb), &["decoders"]);
}

mod when_the_user_ends {
    use super::*;

    /// Checks that another guest sees the resources of `user` destroyed in order.
    fn watched(how: &str, act: impl AsyncFnOnce(&AppHandle, &RegionHost)) -> Outcome {
        let watch = GuestSpec {
            args: vec![DecodingScenario::Watch.to_string()],
            ..program("watch", guests::CALLS_DECODING)
        };
        let app = app(with(DecodingScenario::Ends, how)).guest(watch);
        one_thread().block_on(async {
            let app = app.start().await.expect("it starts");
            let (handle, host) = (app.handle(), app.host().clone());
            let both = async { tokio::join!(app.run(), act(&handle, &host)) };
            let both = tokio::time::timeout(Duration::from_secs(60), both);
            both.await.expect("nobody hangs").0
        })
    }

    async fn kill(app: &AppHandle, host: &RegionHost) {
        while host.counts().windows == 0 {
            tokio::task::yield_now().await;
        }
        app.end_guest("user", "enough").expect("there is one");
    }

    /// Checks that only `user` has failed, so that the watching guest has not.
    #[track_caller]
    fn only_user_failed(outcome: &Outcome) {
        assert!(
            outcome.failures.iter().all(|it| it.contains("`user`")),
            "{:?}",
            outcome.failures
        );
        let guests = &outcome.report.guests;
        let watch = guests.iter().find(|it| it.name == "watch");
        assert_eq!(watch.map(|it| &it.end), Some(&GuestEnd::Exit(0)));
    }

    // rule 6
    #[test]
    fn trap_destroys_its_resources() {
        let outcome = watched("trap", async |_, _| {});
        assert_eq!(outcome.end, CommandExit::Failed);
        only_user_failed(&outcome);
    }

    // rule 6
    #[test]
    fn exit_destroys_its_resources() {
        let outcome = watched("exit", async |_, _| {});
        assert_eq!(outcome.end, CommandExit::Exit(1));
        only_user_failed(&outcome);
    }

    // rule 6
    #[test]
    fn kill_while_computing_destroys_its_resources() {
        only_user_failed(&watched("spin", kill));
    }

    // rule 6
    #[test]
    fn kill_in_a_call_destroys_its_resources() {
        only_user_failed(&watched("call", kill));
    }
}

mod hostile {
    use super::*;

    /// Checks that the act terminates `user` and not the owner.
    #[track_caller]
    fn is_ended(how: &str, why: &str) {
        let outcome = run(app(with(DecodingScenario::Hostile, how)));
        assert_eq!(outcome.end, CommandExit::Failed, "{how}");
        let [failure] = &outcome.failures[..] else {
            panic!("{:?}", outcome.failures)
        };
        assert!(failure.starts_with("guest `user` was ended"), "{failure}");
        assert!(failure.contains(why), "{failure}");
    }

    // rule 1
    #[test]
    fn forged_handle_ends_the_guest() {
        is_ended("forged", "unknown handle index 4711");
        is_ended("forged-drop", "unknown handle index 4711");
    }

    // rule 1
    #[test]
    fn handle_given_away_ends_the_guest() {
        is_ended("given-away", "unknown handle index");
        is_ended("dropped", "unknown handle index");
    }

    // rule 1
    #[test]
    fn handle_of_another_type_ends_the_guest() {
        is_ended("confused", "handle index");
        is_ended("confused-drop", "handle index");
    }
}

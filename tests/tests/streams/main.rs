//! Streams and futures between guests of an app.
//!
//! `streams_player` is a command that plays a scenario with `streams_node`, which writes, reads and
//! passes on. The bridge between two stores has tests of its own beside it.

use tombolo::Limits;
use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestSpec};
use tombolo_test_util::run::{ends, succeeds, succeeds_despite};
use tombolo_test_util::three_guests::{program, server};

tombolo_tests::guests!(streams);
tombolo_tests::scenarios!(streams);

use scenarios::Streams;

/// Returns an app in which the player plays a scenario, with its guests changed.
fn app_with(scenario: Streams, change: impl Fn(&mut GuestSpec)) -> AppBuilder {
    let command = CommandSpec {
        args: vec![scenario.to_string()],
        ..CommandSpec::default()
    };
    let mut guests = [
        program("player", guests::STREAMS_PLAYER),
        server("node", guests::STREAMS_NODE),
    ];
    guests.iter_mut().for_each(change);
    let app = App::builder().command(command);
    guests.into_iter().fold(app, AppBuilder::guest)
}

fn app(scenario: Streams) -> AppBuilder {
    app_with(scenario, |_| {})
}

/// Puts both guests on one strand.
fn on_one_strand(scenario: Streams) -> AppBuilder {
    app_with(scenario, |guest| guest.strand = Some("one".into()))
}

#[test]
fn arguments_and_results_carry_streams() {
    for scenario in [Streams::Write, Streams::Read, Streams::PassOn] {
        succeeds(app(scenario));
        succeeds(on_one_strand(scenario));
    }
}

// rule 6
#[test]
fn regions_move_through_streams() {
    succeeds(app(Streams::Regions));
    succeeds(on_one_strand(Streams::Regions));
}

// rule 10
#[test]
fn writer_waits_for_a_reader_that_never_reads() {
    succeeds(app(Streams::Flood));
    succeeds(on_one_strand(Streams::Flood));
}

#[test]
fn death_of_either_end_is_an_end_for_the_other() {
    succeeds_despite(app(Streams::ReaderDies), &["node"]);
    succeeds_despite(app(Streams::WriterDies), &["node"]);
    succeeds_despite(on_one_strand(Streams::WriterDies), &["node"]);
}

// rule 13
#[test]
fn future_carries_the_death_of_its_writer() {
    succeeds_despite(app(Streams::FutureDies), &["node"]);
}

#[test]
fn future_without_a_value_ends_its_reader() {
    let outcome = ends(app(Streams::PlainFutureDies), CommandExit::Failed);
    let failures = &outcome.failures;
    let of_player = |failure: &&String| failure.starts_with("guest `player` was ended");
    let failure = failures.iter().find(of_player).expect("it has failed");
    assert!(
        failure.contains("the future of guest `node` has no value"),
        "{failure}"
    );
}

// rule 10
#[test]
fn many_streams_meet_the_limit() {
    let small = |guest: &mut GuestSpec| {
        if guest.name != "player" {
            return;
        }
        let mut limits = Limits::default();
        limits.host_memory_bytes = 16 << 20;
        guest.limits = Some(limits);
    };
    succeeds(app_with(Streams::Many, small));
}

#[test]
fn streams_that_come_and_go_leave_nothing() {
    let small = |guest: &mut GuestSpec| {
        let mut limits = Limits::default();
        // Less than the streams of the scenario would take together.
        limits.host_memory_bytes = 8 << 20;
        guest.limits = Some(limits);
    };
    succeeds(app_with(Streams::Churn, small));
}

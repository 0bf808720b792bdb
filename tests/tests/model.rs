//! Tasks of a guest lend, move, cancel and kill at random, and compare what they see with a model.

use std::time::Duration;

use tombolo_app::{App, AppBuilder, Backoff, CommandExit, CommandSpec, GuestSpec, Restart};
use tombolo_test_util::run::run;
use tombolo_test_util::three_guests::{program, server};

tombolo_tests::guests!(model);

/// Returns an app whose command plays the acts of a seed.
fn app(seed: u64, change: impl Fn(&mut GuestSpec)) -> AppBuilder {
    let command = CommandSpec {
        args: vec![seed.to_string()],
        ..CommandSpec::default()
    };
    let mut borrower = server("borrower", guests::MODEL_BORROWER);
    borrower.restart = Restart::OnFailure(Backoff {
        delay: Duration::from_millis(1),
        ..Backoff::default()
    });
    let guests = [program("lender", guests::MODEL_LENDER), borrower];
    let guests = guests.into_iter().map(|mut guest| {
        change(&mut guest);
        guest
    });
    guests.fold(App::builder().command(command), AppBuilder::guest)
}

#[track_caller]
fn agrees(seed: u64, change: impl Fn(&mut GuestSpec)) {
    let outcome = run(app(seed, change));
    let failures = &outcome.failures;
    assert_eq!(
        outcome.end,
        CommandExit::Exit(0),
        "seed {seed}: {failures:?}"
    );
}

// rules 5, 6, 13
#[test]
fn tasks_agree_with_the_model() {
    for seed in 0..8 {
        agrees(seed, |_| {});
    }
}

// rules 5, 6, 13
#[test]
fn tasks_of_one_strand_agree_with_the_model() {
    for seed in 8..16 {
        agrees(seed, |guest| guest.strand = Some("one".into()));
    }
}

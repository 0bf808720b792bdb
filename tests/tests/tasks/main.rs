//! Guests with async functions: they answer several calls at a time, and await others.
//!
//! `tasks_lender` is a command that plays a scenario. It calls `tasks_borrower` and `tasks_backer`,
//! which take several calls at a time, and `tasks_blocker` and `tasks_relay`, which have no async
//! functions. `tasks_backer` awaits `tasks_hopper`, which awaits it.

use std::fmt::Display;
use std::time::Duration;

use tombolo::Limits;
use tombolo_app::{App, AppBuilder, Backoff, CommandExit, CommandSpec, GuestSpec, Output, Restart};
use tombolo_test_util::run::{guest_end, run, run_while, succeeds, succeeds_despite, windows};
use tombolo_test_util::three_guests::{program, server};

tombolo_tests::guests!(tasks);
tombolo_tests::scenarios!(tasks);

use scenarios::Tasks;

/// Returns an app in which the lender plays a scenario, with some guests changed.
fn app_with(scenario: impl Display, mut change: impl FnMut(&mut GuestSpec)) -> AppBuilder {
    let scenario = scenario.to_string();
    let command = CommandSpec {
        args: scenario.split(' ').map(str::to_owned).collect(),
        ..CommandSpec::default()
    };
    let guests = [
        program("lender", guests::TASKS_LENDER),
        server("borrower", guests::TASKS_BORROWER),
        server("blocker", guests::TASKS_BLOCKER),
        server("backer", guests::TASKS_BACKER),
        server("relay", guests::TASKS_RELAY),
        server("hopper", guests::TASKS_HOPPER),
    ];
    let guests = guests.into_iter().map(|mut guest| {
        change(&mut guest);
        guest
    });
    guests.fold(App::builder().command(command), AppBuilder::guest)
}

fn app(scenario: impl Display) -> AppBuilder {
    app_with(scenario, |_| {})
}

/// Puts all guests on one strand.
fn on_one_strand(scenario: impl Display) -> AppBuilder {
    app_with(scenario, |guest| guest.strand = Some("one".into()))
}

/// Changes the limits of one guest.
fn limited(scenario: impl Display, name: &str, change: impl Fn(&mut Limits)) -> AppBuilder {
    app_with(scenario, |guest| {
        if guest.name == name {
            change(guest.limits.get_or_insert_default());
        }
    })
}

/// Lets each call to the borrower take 300 ms.
fn hurried(scenario: Tasks) -> AppBuilder {
    let time = Some(Duration::from_millis(300));
    limited(scenario, "borrower", |limits| limits.call_time = time)
}

mod lending {
    use super::*;

    // rule 5
    #[test]
    fn other_tasks_of_the_lender_see_zeros() {
        succeeds(app(Tasks::Lend));
        succeeds(on_one_strand(Tasks::Lend));
    }

    // rule 5
    #[test]
    fn window_stays_masked_until_the_last_lend_ends() {
        succeeds(app(Tasks::LendTwice));
    }

    // rule 5
    #[test]
    fn plain_call_keeps_the_store() {
        succeeds(app(Tasks::Plain));
        succeeds(on_one_strand(Tasks::Plain));
    }

    #[test]
    fn resources_of_guests_pass_and_are_destroyed() {
        succeeds(app(Tasks::Resources));
    }

    // rule 5
    #[test]
    fn region_moves_there_and_back() {
        succeeds(app(Tasks::Move));
    }
}

mod cancelling {
    use super::*;

    // rules 5, 6
    #[test]
    fn windows_are_gone_before_the_borrower_maps() {
        succeeds(app(Tasks::CancelBefore));
        succeeds(on_one_strand(Tasks::CancelBefore));
    }

    // rules 5, 6
    #[test]
    fn borrower_finishes_and_nothing_is_poisoned() {
        succeeds(app(Tasks::CancelMapped));
        succeeds(on_one_strand(Tasks::CancelMapped));
    }

    // rule 6
    #[test]
    fn borrower_that_dies_poisons_the_region() {
        succeeds_despite(app(Tasks::CancelDead), &["borrower"]);
    }
}

mod calling {
    use super::*;

    // rule 10
    #[test]
    fn as_many_calls_run_as_the_limit_permits() {
        for tasks in [1, 3] {
            let scenario = format!("{} {tasks}", Tasks::Meet);
            succeeds(limited(scenario, "borrower", |limits| limits.tasks = tasks));
        }
        succeeds(app(format!("{} 12", Tasks::Meet)));
    }

    #[test]
    fn plain_functions_run_one_at_a_time() {
        succeeds(app(Tasks::Alone));
    }

    // rule 13
    #[test]
    fn all_callers_learn_of_a_death() {
        succeeds_despite(app(Tasks::Die), &["borrower"]);
        succeeds_despite(on_one_strand(Tasks::Die), &["borrower"]);
    }

    // rule 11
    #[test]
    fn deadline_ends_a_guest_that_computes() {
        succeeds_despite(hurried(Tasks::Spin), &["borrower"]);
    }

    // rule 11
    #[test]
    fn deadline_ends_a_guest_that_waits() {
        succeeds_despite(hurried(Tasks::Sleep), &["borrower"]);
    }

    // rule 13
    #[test]
    fn next_incarnation_answers() {
        let restart = Restart::OnFailure(Backoff {
            delay: Duration::from_millis(1),
            ..Backoff::default()
        });
        let outcome = succeeds(app_with(Tasks::Restart, |guest| {
            guest.restart = restart.clone();
        }));
        assert_eq!(outcome.report.guests[1].restarts_total, 1);
    }
}

mod waiting {
    use super::*;

    // rule 11
    #[test]
    fn guests_with_and_without_async_functions_call_each_other() {
        succeeds(app(Tasks::Mixed));
        succeeds(on_one_strand(Tasks::Mixed));
    }

    // rule 11
    #[test]
    fn plain_call_back_is_refused() {
        succeeds(app(Tasks::Cycle));
        succeeds(on_one_strand(Tasks::Cycle));
    }

    // rule 11
    #[test]
    fn call_back_to_a_guest_of_one_task_is_refused() {
        let one = |limits: &mut Limits| limits.tasks = 1;
        succeeds(limited(Tasks::NarrowCycle, "backer", one));
    }
}

mod host {
    use super::*;

    // rule 10
    #[test]
    fn flood_of_waits_ends_its_guest() {
        let outcome = run(app(Tasks::Flood));
        assert_eq!(outcome.end, CommandExit::Failed);
        let [failure] = &outcome.failures[..] else {
            panic!("{:?}", outcome.failures);
        };
        assert!(failure.contains("`host-memory`"), "{failure}");
    }

    // rule 10
    #[test]
    fn random_bytes_are_limited() {
        succeeds(app(Tasks::Random));
    }
}

mod printing {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn stream_to_standard_output_is_written() {
        let kept = Kept::default();
        succeeds(app_with(Tasks::Print, |guest| {
            if guest.name == "lender" {
                guest.stdout = Some(Output::new(kept.clone()));
            }
        }));
        let written = kept.0.lock().unwrap();
        assert_eq!(String::from_utf8_lossy(&written), "by a stream\n");
    }
}

mod ending {
    use super::*;

    // rule 11
    #[test]
    fn stop_ends_a_guest_with_calls_in_progress() {
        let outcome = run_while(app(Tasks::Killed), async |handle, host| {
            windows(host, 2).await;
            handle.stop();
        });
        assert_eq!(outcome.failures, [""; 0]);
        assert!(guest_end(&outcome, "lender").contains("stop"));
    }

    // rule 13
    #[test]
    fn killed_guest_fails_its_callers() {
        let outcome = run_while(app(Tasks::Killed), async |handle, host| {
            // Those of the lender and of the borrower.
            windows(host, 2).await;
            handle.end_guest("borrower", "enough").expect("it exists");
        });
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
        assert_eq!(outcome.end, CommandExit::Exit(0));
    }
}

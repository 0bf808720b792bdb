//! Guests that make the host's own steps long.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::guests;
use crate::program::{Running, assert_innocent_is_done, innocent, text, tombolo, until};

/// Runs an app until its guests have printed these lines, each a number of times. Then sends
/// SIGTERM during the attack, and checks that the app shuts down in order.
#[track_caller]
fn run_until_printed(manifest: &str, expected: &[(&str, usize)]) {
    let dir = tempfile::tempdir().expect("there is room");
    let file = dir.path().join("tombolo.toml");
    std::fs::write(&file, manifest).expect("there is room");
    // The guests print into a file that the test reads meanwhile.
    let printed = dir.path().join("printed");
    let out = std::fs::File::create(&printed).expect("there is room");
    let mut command = tombolo(["run", "--report", "-f"]);
    let running = Running::start(command.arg(&file).stdout(out));
    until("the innocent guests have had all of their turns", || {
        let printed = std::fs::read_to_string(&printed).expect("it is there");
        expected.iter().all(|(line, times)| {
            let lines = printed.lines().filter(|it| it.ends_with(line));
            lines.count() >= *times
        })
    });
    kill_process(Pid::from_child(&running.0), Signal::TERM).expect("it still runs");
    let mut output = running.end();
    output.stdout = std::fs::read(&printed).expect("it is there");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(
        stderr.contains("ended: the app was told to stop"),
        "{stderr}"
    );
    assert_innocent_is_done(&output);
}

fn guest(name: &str, component: &str, args: &str) -> String {
    let component = Path::new(component).display();
    format!("[guests.{name}]\ncomponent = \"{component}\"\nargs = [{args}]\n{LIMITS}\n")
}

/// The default limits of a process with enough descriptors.
const LIMITS: &str = "limits = { regions = 1024, descriptors = 1024 }";

fn innocent_guest() -> String {
    guest(
        "innocent",
        innocent().to_str().expect("it is text"),
        "\"200\"",
    )
}

#[test] // rules 9, 11
fn many_waiters_do_not_starve_an_innocent_guest() {
    let crowd = |name| guest(name, guests::HOSTILE_CROWD, "\"alone\"");
    let manifest = [crowd("one"), crowd("two"), innocent_guest()].concat();
    run_until_printed(
        &manifest,
        &[
            (crate::program::INNOCENT_DONE, 1),
            ("crowd: it has asked", 2),
        ],
    );
}

#[test] // rule 9
fn reader_does_not_slow_down_the_publisher() {
    let part = |name, part| guest(name, guests::HOSTILE_CROWD, part);
    let scope = "[scopes.s.members]\n\
                 publisher = [\"read\", \"write\", \"share\"]\n\
                 member = [\"read\", \"share\"]\n";
    let manifest = [
        part("publisher", "\"publisher\""),
        part("member", "\"member\""),
        innocent_guest(),
        scope.to_owned(),
    ]
    .concat();
    run_until_printed(
        &manifest,
        &[
            ("publisher: all windows were had", 1),
            (crate::program::INNOCENT_DONE, 1),
        ],
    );
}

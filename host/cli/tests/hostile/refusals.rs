//! A kernel that refuses system calls.
//!
//! These tests refuse calls of the whole program. The library's `refusal_tests` refuse each of
//! its calls at any time.

use std::path::Path;
use std::process::{Command, Output};

use crate::guests;
use crate::program::{Running, assert_innocent_is_done, text, tombolo};

/// The limit on private memory of the process: 256 MiB.
const DATA: &str = "--data=268435456";

/// The exit codes if a guest is terminated, and if the app cannot start.
const GUEST_FAILED: i32 = 134;
const NOT_RUN: i32 = 2;

/// Returns a command in which another program runs this one, with the same pipes.
fn within(program: &str, arguments: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_remove("TOMBOLO_LOG")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command
}

/// Runs the innocent guest, which is the first command, beside a guest that writes to its
/// `read` windows.
fn run_beside_violator(directory: &Path, attack: &str, program: &str, with: &[&str]) -> Output {
    let manifest = directory.join("tombolo.toml");
    let component = guests::HOSTILE_VIOLATOR;
    let app = format!(
        "[guests.innocent]\ncomponent = {component:?}\nargs = [\"work\", \"2000\"]\n\n\
         [guests.violator]\ncomponent = {component:?}\nargs = [{attack}]\n\n\
         [scopes.pool.members]\ninnocent = [\"read\", \"share\"]\nviolator = [\"read\"]\n",
    );
    std::fs::write(&manifest, app).expect("the directory is ours");
    let run = tombolo(["run".as_ref(), "-f".as_ref(), manifest.as_os_str()]);
    Running::start(&mut within(program, with, &run)).end()
}

/// Checks that the guest was terminated for the write.
#[track_caller]
fn assert_violator_is_ended(output: &Output) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("its memory is full"), "{output:?}");
    assert!(!stdout.contains("nobody stopped it"), "{output:?}");
    let why = "guest `violator` wrote to its read-only window on region `bait`";
    assert!(stderr.contains(why), "{output:?}");
}

#[test] // rule 9
fn write_violation_beyond_rlimit_data_ends_guest() {
    let directory = tempfile::tempdir().unwrap();
    // Private copies of two windows of 64 MiB would not fit.
    let output = run_beside_violator(directory.path(), "'attack', '1024'", "prlimit", &[DATA]);
    assert_eq!(output.status.code(), Some(GUEST_FAILED), "{output:?}");
    assert_innocent_is_done(&output);
    assert_violator_is_ended(&output);
}

/// Makes the kernel refuse the call `call` of each thread with this number.
fn refusing(call: &str, number: u32, directory: &Path) -> Output {
    let inject = format!("inject={call}:error=ENOMEM:when={number}");
    let trace = format!("trace={call}");
    let log = directory.join("strace");
    let log = log.to_str().expect("it is UTF-8");
    let with = ["-f", "-qq", "-o", log, "-e", &trace, "-e", &inject, "--"];
    let output = run_beside_violator(directory, "'attack-at-once', '16'", "strace", &with);
    let log = std::fs::read_to_string(log).expect("strace writes it");
    assert!(log.contains("(INJECTED)"), "{call} {number}: {log}");
    output
}

/// Checks that the program exited by itself and printed a reason.
#[track_caller]
fn assert_orderly(output: &Output) {
    let stderr = text(&output.stderr);
    match output.status.code() {
        Some(GUEST_FAILED) => assert!(stderr.contains("error: guest `"), "{output:?}"),
        Some(NOT_RUN) => assert!(stderr.contains("Cannot allocate memory"), "{output:?}"),
        _ => panic!("{output:?}"),
    }
    // The refused guest may panic in its own `main`.
    assert!(!stderr.contains("thread 'tokio"), "{output:?}");
}

#[test] // rule 9
fn refused_region_files_fail_only_that_guest() {
    for call in ["memfd_create", "ftruncate"] {
        for number in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            assert_orderly(&refusing(call, number, directory.path()));
        }
    }
}

#[test] // rules 4, 9
fn refused_cleaning_of_memories_does_no_harm() {
    for call in ["mincore", "madvise"] {
        let directory = tempfile::tempdir().unwrap();
        let output = refusing(call, 1, directory.path());
        assert_orderly(&output);
        assert_innocent_is_done(&output);
        assert_violator_is_ended(&output);
    }
}

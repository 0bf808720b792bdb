//! What the program does when it is told to end by a signal.

#[path = "../../../tests/tests/calls/trio.rs"]
mod trio;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tombolo_tests::process::Process;

/// Long for what takes a second or two, on a machine that has other things to
/// do.
const BOUND: Duration = Duration::from_secs(60);

/// A running program, that is killed at the latest when the test ends.
struct Running {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Runs the three guests, which play a scenario, until they have at least so
    /// many windows.
    fn play(options: &[&str], scenario: &str, windows: usize, stderr: Stdio) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let guests = [trio::client(), trio::near(), trio::far()].map(|guest| {
            let path: PathBuf = dir.path().join(format!("{}.wasm", guest.name));
            std::fs::write(&path, guest.wasm).unwrap();
            path
        });
        // A shell has its background jobs ignore SIGINT, and this may be one.
        let child = Command::new("env")
            .arg("--default-signal=TERM,INT")
            .arg(env!("CARGO_BIN_EXE_tombolo"))
            .arg("run")
            .args(options)
            .args(&guests)
            .args(["--", scenario])
            // What it says is the report, and of these guests there is much to
            // warn.
            .env("TOMBOLO_LOG", "error")
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let running = Running { child, _dir: dir };
        let process = Process::of(running.child.id());
        until("the guests have windows", || {
            let mappings = process.mappings().unwrap_or_default();
            mappings.iter().filter(|it| it.memfd().is_some()).count() >= windows
        });
        running
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, and what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (status.unwrap(), text)
    }
}

/// Waits for something that happens outside of this process.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < BOUND, "never: {what}");
        std::thread::yield_now();
    }
}

/// The line of the report that starts with these words, with single spaces.
#[track_caller]
fn line(report: &str, start: &str) -> String {
    report
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no `{start}` in {report}"))
}

#[test]
fn endless_loop_is_ended_by_sigterm_and_everything_given_back_and_told() {
    let running = Running::play(&["--report"], "hold spin", 10, Stdio::piped());
    running.signal(Signal::TERM);
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(143), "{text}");
    assert!(!text.contains("error:"), "{text}");
    line(&text, "client ended: the app was told to stop");
    line(&text, "near served");
    assert_eq!(line(&text, "regions created"), "regions created 4");
    assert_eq!(line(&text, "regions freed"), "regions freed 4");
}

#[test]
fn guest_that_waits_is_ended_by_sigint_and_everything_given_back_and_told() {
    let running = Running::play(&["--report"], "hold call", 11, Stdio::piped());
    running.signal(Signal::INT);
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(130), "{text}");
    line(&text, "client ended: the app was told to stop");
    line(&text, "near ended: the app was told to stop");
    assert_eq!(line(&text, "regions created"), "regions created 4");
    assert_eq!(line(&text, "regions freed"), "regions freed 4");
}

#[test]
fn second_signal_ends_the_process_at_once_with_the_code_of_the_first() {
    // It never gets rid of its report: this pipe is full, and nobody reads.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let stderr = Stdio::from(writer.try_clone().unwrap());
    let filler = std::thread::spawn(move || writer.write_all(&vec![b'x'; 16 << 20]));
    let running = Running::play(&["--report"], "hold call", 11, stderr);
    let process = Process::of(running.child.id());
    running.signal(Signal::TERM);
    // The guests are gone, with their memory: the first one was heeded.
    until("the guests end", || {
        let mappings = process.mappings().unwrap();
        mappings.iter().all(|it| it.memfd().is_none())
    });
    running.signal(Signal::INT);
    let (status, _) = running.end();
    assert_eq!(status.code(), Some(143));
    drop(reader);
    assert!(filler.join().unwrap().is_err(), "the pipe was full");
}

#[test]
fn unknown_guest_of_a_score_lists_those_that_there_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(["run", tombolo_tests::artifacts::MUSIC_PLAYER])
        .args(["--on-pressure", "kill", "--oom-score", "plyer=900"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("there is no guest `plyer`; the guests are `player`"),
        "{text}"
    );
    assert!(text.contains("hint: "), "{text}");
}

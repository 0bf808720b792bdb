//! Shutdown by signals.

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tombolo_test_util::child::{Running, until};
use tombolo_test_util::process::Process;
use tombolo_test_util::three_guests;

/// A running app of the three guests.
struct App {
    running: Running,
    _dir: tempfile::TempDir,
}

impl App {
    /// Starts the three guests, which play a scenario, and waits until they have at least
    /// `windows` windows.
    fn play(options: &[&str], scenario: &str, windows: usize, stderr: Stdio) -> App {
        let dir = tempfile::tempdir().unwrap();
        // A shell lets its background jobs ignore SIGINT, and this process may be one.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=TERM,INT")
            .arg(env!("CARGO_BIN_EXE_tombolo"))
            .arg("run")
            .args(options)
            .args(three_guests::write(dir.path()))
            .args(["--", scenario])
            // Linking these guests logs many warnings, and the tests read the report.
            .env("TOMBOLO_LOG", "error")
            .stdout(Stdio::null())
            .stderr(stderr);
        let running = Running::start(&mut command);
        let process = Process::of(running.0.id());
        until("the guests have windows", || {
            let mappings = process.mappings().unwrap_or_default();
            mappings.iter().filter(|it| it.memfd().is_some()).count() >= windows
        });
        App { running, _dir: dir }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.0), signal).unwrap();
    }

    /// Waits for the end, and returns the status and what was printed to stderr.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.running.wait();
        let mut text = String::new();
        if let Some(mut stderr) = self.running.0.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (status, text)
    }
}

/// Returns the line of the report with this start, with single spaces.
#[track_caller]
fn line(report: &str, start: &str) -> String {
    report
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no `{start}` in {report}"))
}

#[test] // rules 6, 9
fn sigterm_ends_an_endless_loop_with_a_report() {
    let running = App::play(&["--report"], "hold spin", 10, Stdio::piped());
    running.signal(Signal::TERM);
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(143), "{text}");
    assert!(!text.contains("error:"), "{text}");
    line(&text, "client ended: the app was told to stop");
    line(&text, "near served");
    assert_eq!(line(&text, "regions created"), "regions created 4");
    assert_eq!(line(&text, "regions freed"), "regions freed 4");
}

#[test] // rule 6
fn sigint_ends_a_waiting_guest_with_a_report() {
    let running = App::play(&["--report"], "hold call", 11, Stdio::piped());
    running.signal(Signal::INT);
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(130), "{text}");
    line(&text, "client ended: the app was told to stop");
    line(&text, "near ended: the app was told to stop");
    assert_eq!(line(&text, "regions created"), "regions created 4");
    assert_eq!(line(&text, "regions freed"), "regions freed 4");
}

#[test] // rule 6
fn second_signal_exits_at_once_with_the_first_code() {
    // The program cannot write its report, because this pipe is full and has no reader.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let stderr = Stdio::from(writer.try_clone().unwrap());
    let filler = std::thread::spawn(move || writer.write_all(&vec![b'x'; 16 << 20]));
    let running = App::play(&["--report"], "hold call", 11, stderr);
    let process = Process::of(running.running.0.id());
    running.signal(Signal::TERM);
    // The first signal has ended the guests and freed their memory.
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
fn oom_score_of_unknown_guest_lists_the_guests() {
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

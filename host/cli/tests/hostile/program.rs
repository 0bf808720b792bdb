//! The program `tombolo` as a child process.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::guests;

/// Generous for a second or two of work on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The output of the innocent guest if all of its work is correct.
pub(crate) const INNOCENT_DONE: &str = "innocent: all rounds came out right";

/// Returns the program's command with piped standard streams and an empty stdin.
pub(crate) fn tombolo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command
        .args(arguments)
        .env_remove("TOMBOLO_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Returns the innocent guest: a command that creates, fills, checks and drops regions for a
/// number of rounds, and prints [`INNOCENT_DONE`].
pub(crate) fn innocent() -> &'static Path {
    Path::new(guests::HOSTILE_INNOCENT)
}

/// A running program that is killed when the test ends.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts a command.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Running {
        Running(command.spawn().expect("the program starts"))
    }

    /// Waits for the end and returns the output. Fails after [`BOUND`].
    #[track_caller]
    pub(crate) fn end(mut self) -> Output {
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    let _ = pipe.read_to_end(&mut bytes);
                }
                bytes
            })
        };
        let stdout = read(self.0.stdout.take().map(|it| Box::new(it) as _));
        let stderr = read(self.0.stderr.take().map(|it| Box::new(it) as _));
        let mut status = None;
        until("the program ends", || {
            status = self.0.try_wait().expect("it is our child");
            status.is_some()
        });
        Output {
            status: status.expect("it has ended"),
            stdout: stdout.join().expect("reading does not panic"),
            stderr: stderr.join().expect("reading does not panic"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a condition outside of this process.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < BOUND, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the contents of a stream as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that the innocent guest's work is correct.
#[track_caller]
pub(crate) fn assert_innocent_is_done(output: &Output) {
    let stdout = text(&output.stdout);
    assert!(
        stdout.lines().any(|line| line.ends_with(INNOCENT_DONE)),
        "the innocent guest did not finish: {output:?}"
    );
}

#[test]
fn innocent_guest_alone_finishes() {
    let output = Running::start(tombolo(["run"]).arg(innocent())).end();
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
}

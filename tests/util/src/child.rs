//! Processes that a test starts.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long a step of another process may take. The machine has other work to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed, at the latest, when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts a process.
    ///
    /// # Panics
    ///
    /// Panics if the program cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().expect("the program starts"))
    }

    /// Returns how the process ended, or `None` if it still runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the process is a child")
    }

    /// Waits until the process ends.
    ///
    /// # Panics
    ///
    /// Panics if the process does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.status();
            status.is_some()
        });
        status.expect("the process has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition on another process holds.
///
/// # Panics
///
/// Panics if the condition does not hold in time.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `test` in a process of its own, for a test that measures or changes the process.
///
/// `name` is the full name of the test that calls this. The test runs once more, alone, in
/// that process.
///
/// # Panics
///
/// Panics if the test fails there, or if there is no test of this name.
#[track_caller]
pub fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TOMBOLO_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let output = again(name).env(ALONE, "1").output();
    let output = output.expect("this program can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("running 1 test"),
        "{name}, alone: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Returns a command that runs the tests of this program whose names contain `module`, for
/// example `app::`.
pub fn tests_of_module(module: &str) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.arg(module);
    command
}

/// Returns a command that runs one test of this program.
pub fn again(name: &str) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

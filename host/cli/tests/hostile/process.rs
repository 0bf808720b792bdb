//! Limits of the process, signals, closed descriptors, and panics of the host.

mod panics;
mod restarts;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::guests;
use crate::program::{Running, assert_innocent_is_done, innocent, text, tombolo};

/// Returns a command in which a wrapper changes the process and runs the program. The program
/// and its arguments follow the wrapper's arguments.
fn under(wrapper: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(env!("CARGO_BIN_EXE_tombolo"))
        .args(arguments)
        .env_remove("TOMBOLO_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the hostile guest with a directory, and the innocent guest beside it.
fn beside_innocent(
    wrapper: &[&str],
    options: &[&str],
    what: &[&str],
) -> (Output, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let grant = format!("{}::/d", directory.path().display());
    let mut command = under(wrapper, &["run", "--dir", &grant]);
    command
        .args(options)
        .args([Path::new(guests::HOSTILE_PROCESS), innocent()])
        .arg("--")
        .args(what);
    (Running::start(&mut command).end(), directory)
}

/// Makes a directory writable for all users.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// Checks that the program exited with this code and did not panic.
#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
}

/// Starts a guest that spins alone, and waits until it runs.
fn spinning(wrapper: &[&str], options: &[&str]) -> Running {
    let mut command = under(wrapper, &["run"]);
    command
        .args(options)
        .args([guests::HOSTILE_PROCESS, "--", "spin"]);
    let mut running = Running::start(&mut command);
    let mut line = String::new();
    let stdout = running.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    running
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.0), signal).unwrap();
}

/// Changes a limit of a running program.
fn limit_later(running: &Running, limit: &str) {
    let limited = Command::new("prlimit")
        .args([limit, "--pid", &running.0.id().to_string()])
        .status();
    assert!(limited.expect("prlimit is of util-linux").success());
}

mod file_size {
    use super::*;

    #[test] // rule 9
    fn larger_region_and_file_are_refused_by_name() {
        let limit = (1 << 20).to_string();
        let wrapper = ["prlimit", &format!("--fsize={limit}:{limit}")];
        let (output, _directory) = beside_innocent(&wrapper, &[], &["large"]);
        assert_code(&output, 0);
        assert_innocent_is_done(&output);
        let stdout = text(&output.stdout);
        let refused = "RLIMIT_FSIZE (`ulimit -f`) allows this process files of at most \
                       1048576 bytes, and the region needs one of 4194304";
        assert!(stdout.contains(refused), "{stdout}");
        assert!(stdout.contains("small region: Ok([105, 116])"), "{stdout}");
        assert!(stdout.contains("large file: Err("), "{stdout}");
    }

    #[test]
    fn later_limit_does_not_affect_regions() {
        let mut command = tombolo(["run", guests::HOSTILE_PROCESS, "--", "late"]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        limit_later(&running, "--fsize=4096:4096");
        let mut stdin = running.0.stdin.take().unwrap();
        stdin.write_all(b"go on\n").unwrap();
        line.clear();
        stdout.read_line(&mut line).unwrap();
        let output = running.end();
        assert_code(&output, 0);
        assert_eq!(line, "written and read: true\n");
    }
}

mod signals {
    use super::*;

    #[test]
    fn blocked_by_the_parent_still_work() {
        let (output, _directory) = beside_innocent(&["env", "--block-signal"], &[], &["file"]);
        assert_code(&output, 0);
        assert_innocent_is_done(&output);
        for (sent, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let default = "--default-signal=TERM,INT,HUP";
            let running = spinning(&["env", default, "--block-signal"], &["--report"]);
            signal(&running, sent);
            let output = running.end();
            assert_code(&output, code);
            let said = text(&output.stderr);
            assert!(said.contains("ended: the app was told to stop"), "{said}");
        }
    }

    #[test]
    fn ignored_by_the_parent_stay_ignored() {
        let running = spinning(&["env", "--ignore-signal=INT,HUP,QUIT"], &[]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
        for number in [Signal::INT, Signal::HUP, Signal::QUIT] {
            assert_ne!(ignored & 1 << (number.as_raw() - 1), 0, "{status}");
            signal(&running, number);
        }
        signal(&running, Signal::TERM);
        assert_code(&running.end(), 143);
    }

    #[test]
    fn repeated_hang_up_ends_in_order() {
        let running = spinning(&["env", "--default-signal=HUP"], &["--report"]);
        signal(&running, Signal::HUP);
        signal(&running, Signal::HUP);
        let output = running.end();
        assert_code(&output, 129);
        let said = text(&output.stderr);
        assert!(said.contains("ended: the app was told to stop"), "{said}");
    }

    #[test]
    fn used_up_processor_time_ends_in_order() {
        let running = spinning(&["env", "--default-signal=XCPU"], &["--report"]);
        limit_later(&running, "--cpu=1:1000");
        let output = running.end();
        assert_code(&output, 152);
        let said = text(&output.stderr);
        assert!(said.contains("ended: the app was told to stop"), "{said}");
    }

    #[test]
    fn quit_ends_at_once_within_the_core_limit() {
        let wrapper = ["env", "--default-signal=QUIT", "prlimit", "--core=0:0"];
        let running = spinning(&wrapper, &[]);
        signal(&running, Signal::QUIT);
        let status = running.end().status;
        assert_eq!(status.signal(), Some(Signal::QUIT.as_raw()));
        assert!(!status.core_dumped());
    }

    #[test]
    fn broken_pipe_kills_no_guest() {
        let wrapper = ["env", "--default-signal=PIPE"];
        for arguments in [["schema"], ["--help"]] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = under(&wrapper, &arguments);
            let output = Running::start(command.stdout(writer)).end();
            assert_code(&output, 0);
        }
    }
}

mod streams {
    use super::*;

    /// Redirections of stderr, in shell syntax.
    const LOST: [&str; 2] = ["2>&-", "2>/dev/full"];

    #[test]
    fn lost_stderr_changes_no_code() {
        for lost in LOST {
            let wrapper = ["sh", "-c", &format!("exec \"$@\" {lost}"), "sh"];
            for (options, what, code) in [
                (&["--report"][..], &["exit", "1"][..], 1),
                (&["--json", "-vv"], &["trap"], 134),
                (&["--report", "-v"], &["keep", "it"], 0),
            ] {
                let (output, _directory) = beside_innocent(&wrapper, options, what);
                assert_code(&output, code);
                assert_innocent_is_done(&output);
            }
            for arguments in [&["run", "none.wasm"][..], &["run", "--no-such-option"]] {
                assert_code(&Running::start(&mut under(&wrapper, arguments)).end(), 2);
            }
        }
    }

    #[test]
    fn abandoned_stderr_changes_no_code() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tombolo(["-vv", "run", "--report", guests::HOSTILE_PROCESS]);
        command.arg(innocent()).args(["--", "exit", "1"]);
        let output = Running::start(command.stderr(writer)).end();
        assert_code(&output, 1);
        assert_innocent_is_done(&output);
    }

    #[test]
    fn unwritable_result_is_a_failure() {
        for arguments in [["schema"], ["--help"]] {
            let wrapper = ["sh", "-c", "exec \"$@\" >/dev/full", "sh"];
            let output = Running::start(&mut under(&wrapper, &arguments)).end();
            assert_code(&output, 2);
        }
    }

    #[test]
    fn closed_ones_do_not_become_a_guests_file() {
        let wrapper = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
        let (output, directory) = beside_innocent(&wrapper, &["-v", "--report"], &["file"]);
        assert_code(&output, 0);
        let file = std::fs::read_to_string(directory.path().join("file"));
        assert_eq!(file.unwrap(), "contents");
    }
}

mod threads {
    use super::*;

    /// Returns a wrapper that changes to a user without other processes, and limits the threads
    /// of that user.
    fn limited(threads: u32) -> Vec<String> {
        static USERS: AtomicUsize = AtomicUsize::new(0);
        let own = USERS.fetch_add(1, Ordering::Relaxed);
        let user = 1_000_000_000 + (std::process::id() as usize % 1_000_000) * 1000 + own;
        let limit = format!("ulimit -u {threads} && exec \"$@\"");
        let wrapper = match rustix::process::getuid().is_root() {
            // The limit does not apply to root. The other user can read the files of root.
            true => format!(
                "setpriv --reuid={user} --clear-groups --inh-caps=+dac_override \
                 --ambient-caps=+dac_override"
            ),
            // Each user namespace counts its threads separately.
            false => "unshare --user --map-current-user".to_owned(),
        };
        let words = wrapper.split(' ').chain(["bash", "-c"]).map(str::to_owned);
        words.chain([limit, "bash".to_owned()]).collect()
    }

    fn run(threads: u32) -> Output {
        let wrapper = limited(threads);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        beside_innocent(&wrapper, &["--report"], &["file"]).0
    }

    #[test]
    fn too_few_are_an_error_with_the_limit() {
        let mut worked = 0;
        for threads in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14] {
            let output = run(threads);
            let said = text(&output.stderr);
            if output.status.code() == Some(0) {
                assert_code(&output, 0);
                assert_innocent_is_done(&output);
                worked += 1;
            } else {
                assert_code(&output, 2);
                assert!(said.contains("error: "), "{threads}: {said}");
                assert!(said.contains("RLIMIT_NPROC"), "{threads}: {said}");
                assert_eq!(
                    worked, 0,
                    "{threads} are too few, but fewer are enough: {said}"
                );
            }
        }
        assert!(worked >= 3, "only {worked} of the numbers are enough");
    }

    #[test]
    fn few_are_enough_with_a_warning() {
        let output = run(10);
        assert_code(&output, 0);
        assert_innocent_is_done(&output);
        assert!(
            text(&output.stdout).contains("file: contents"),
            "{output:?}"
        );
        assert!(text(&output.stderr).contains("RLIMIT_NPROC"), "{output:?}");
        let output = run(200);
        assert_code(&output, 0);
        assert!(!text(&output.stderr).contains("RLIMIT_NPROC"), "{output:?}");
    }
}

mod limits {
    use super::*;

    #[test]
    fn few_descriptors_are_an_error() {
        let mut worked = 0;
        for descriptors in [4, 8, 16, 24, 32, 48, 64] {
            let limit = format!("--nofile={descriptors}:{descriptors}");
            let (output, _directory) = beside_innocent(&["prlimit", &limit], &[], &["file"]);
            match output.status.code() {
                Some(0) => {
                    assert_code(&output, 0);
                    assert_innocent_is_done(&output);
                    worked += 1;
                }
                _ => {
                    assert_code(&output, 2);
                    let said = text(&output.stderr);
                    let error = said.lines().any(|line| line.starts_with("error: "));
                    assert!(error, "{descriptors}: {said}");
                    assert_eq!(
                        worked, 0,
                        "{descriptors} are too few, but fewer are enough: {said}"
                    );
                }
            }
        }
        assert!(worked >= 3, "only {worked} of the numbers are enough");
    }

    #[test]
    fn stack_of_any_size_is_enough() {
        for stack in ["65536:65536", "unlimited:unlimited"] {
            let limit = format!("--stack={stack}");
            let (output, _directory) = beside_innocent(&["prlimit", &limit], &[], &["file"]);
            assert_code(&output, 0);
            assert_innocent_is_done(&output);
        }
    }

    #[test]
    fn directory_is_granted_without_proc() {
        let covered = "mount -t tmpfs none /proc && exec \"$@\"";
        let wrapper = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            covered,
            "sh",
        ];
        let (output, directory) = beside_innocent(&wrapper, &[], &["file"]);
        assert_code(&output, 0);
        assert_innocent_is_done(&output);
        let file = std::fs::read_to_string(directory.path().join("file"));
        assert_eq!(file.unwrap(), "contents");
    }
}

//! Pipes without a reader, FIFOs and slow file operations.
//!
//! A bounded number of strands can run at once. Each case blocks more guests than that.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{PipeReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tombolo_test_util::process::Process;

use crate::guests::HOSTILE_BLOCKER;
use crate::program::{
    INNOCENT_DONE, Running, assert_innocent_is_done, innocent, text, tombolo, until,
};

/// A guest of an app.
struct Guest {
    name: String,
    /// The arguments of the blocked guest. The innocent guest has none.
    args: Option<Vec<String>>,
    /// Further lines of its table in the manifest.
    more: String,
}

/// Returns a guest that blocks in the operation that its arguments name.
fn blocker(name: impl Into<String>, args: &[&str]) -> Guest {
    Guest {
        name: name.into(),
        args: Some(args.iter().map(|it| (*it).to_owned()).collect()),
        more: String::new(),
    }
}

fn innocent_guest() -> Guest {
    Guest {
        name: "innocent".to_owned(),
        args: None,
        more: String::new(),
    }
}

impl Guest {
    fn with(self, more: impl Into<String>) -> Guest {
        let more = more.into();
        Guest { more, ..self }
    }

    fn in_dir(self) -> Guest {
        self.with("dirs = [{ host = \"d\", guest = \"/d\", access = \"write\" }]")
    }
}

/// An app in a directory, with a subdirectory `d` for guests.
struct App(TempDir);

impl App {
    fn new(guests: impl IntoIterator<Item = Guest>) -> App {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = String::new();
        for Guest { name, args, more } in guests {
            let component = match &args {
                Some(_) => Path::new(HOSTILE_BLOCKER),
                None => innocent(),
            };
            let args = args.unwrap_or_default();
            writeln!(
                manifest,
                "[guests.{name}]\ncomponent = {component:?}\nargs = {args:?}\n{more}"
            )
            .unwrap();
        }
        fs::write(dir.path().join("tombolo.toml"), manifest).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        App(dir)
    }

    /// Creates an app of other guests and of blocked ones, one more than there are processors.
    fn stuck(args: &[&str], more: &str, others: impl IntoIterator<Item = Guest>) -> App {
        let guests =
            (0..processors() + 1).map(|number| blocker(format!("stuck{number}"), args).with(more));
        App::new(guests.chain(others))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn fifo(self, path: &str) -> App {
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, self.path(path), fifo, mode, 0).unwrap();
        self
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = tombolo(["run"]);
        command
            .args(options)
            .current_dir(self.0.path())
            .env("TOMBOLO_LOG", "error");
        command
    }

    fn run(&self, options: &[&str]) -> Output {
        Running::start(&mut self.command(options)).end()
    }

    /// Returns the output of a guest in `--log-dir logs`.
    fn log(&self, guest: &str) -> String {
        fs::read_to_string(self.path("logs").join(format!("{guest}.log"))).unwrap_or_default()
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the reading end and the writing end of a full pipe.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer.into())
}

fn terminate(running: &Running) {
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
}

/// Checks that SIGTERM shut the app down in order, with a report.
#[track_caller]
fn assert_ended_in_order(output: &Output, stuck: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert_report(&stderr, stuck, "ended: the app was told to stop");
    assert!(!stderr.contains("error:"), "{stderr}");
}

/// Checks the exit of a guest in the report.
#[track_caller]
fn assert_report(report: &str, guest: &str, end: &str) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = report.lines().map(words);
    let expected = format!("{guest} {end}");
    assert!(
        lines.any(|line| line.starts_with(&expected)),
        "no `{expected}` in {report}"
    );
}

/// The text from a pipe, which a thread reads.
#[derive(Clone)]
struct Said(Arc<Mutex<String>>);

impl Said {
    fn on(mut pipe: impl Read + Send + 'static) -> Said {
        let said = Said(Arc::default());
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut bytes) {
                *heard.0.lock().unwrap() += &String::from_utf8_lossy(&bytes[..read]);
            }
        });
        said
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    #[track_caller]
    fn until(&self, words: &str, times: usize) {
        until(words, || self.text().matches(words).count() >= times);
    }
}

/// Returns an innocent guest that works with files, and creates one when it is done.
fn worker() -> Guest {
    blocker("worker", &["work", "/d"]).in_dir()
}

impl App {
    fn until_work_is_done(&self) {
        until("the innocent guest works", || self.path("d/done").exists());
    }
}

mod unread_pipe {
    use super::*;

    #[test] // rules 9, 11
    fn others_run_and_sigterm_ends_in_order() {
        let app = App::stuck(&["flood"], "", [worker()]);
        let (_reader, stdout) = full_pipe();
        let running = Running::start(app.command(&["--report"]).stdout(stdout));
        app.until_work_is_done();
        terminate(&running);
        assert_ended_in_order(&running.end(), "stuck0");
    }

    #[test] // rule 10
    fn run_time_ends_printers() {
        let app = App::stuck(&["flood"], "limits = { run-time = \"1s\" }", [worker()]);
        let (reader, stdout) = full_pipe();
        let mut command = app.command(&[]);
        command.env("TOMBOLO_LOG", "tombolo=info").stdout(stdout);
        let mut running = Running::start(&mut command);
        let said = Said::on(running.0.stderr.take().unwrap());
        app.until_work_is_done();
        said.until("its time is up", processors() + 1);
        // Until now the worker has waited for its output to be taken.
        drop(reader);
        let output = running.end();
        assert_eq!(output.status.code(), Some(134), "{}", said.text());
    }

    #[test]
    fn blocked_stderr_leaves_the_exit_code_of_sigterm() {
        let app = App::stuck(&["flood", "both"], "", [worker()]);
        let (_reader, stdout) = full_pipe();
        let (_other, stderr) = full_pipe();
        let mut command = app.command(&["--report"]);
        let running = Running::start(command.stdout(stdout).stderr(stderr));
        app.until_work_is_done();
        terminate(&running);
        assert_eq!(running.end().status.code(), Some(143));
    }

    #[test] // rule 11
    fn blocked_log_stops_no_guest() {
        let app = App::new([innocent_guest()]);
        let (_reader, stderr) = full_pipe();
        let mut command = app.command(&[]);
        command.env("TOMBOLO_LOG", "tombolo=trace").stderr(stderr);
        let output = Running::start(&mut command).end();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_innocent_is_done(&output);
    }

    #[test]
    fn late_reader_gets_everything() {
        let app = App::new([blocker("printer", &["much"]), worker()]);
        let (mut reader, stdout) = std::io::pipe().unwrap();
        let running = Running::start(app.command(&[]).stdout(stdout));
        app.until_work_is_done();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(running.end().status.code(), Some(0));
        let printed = reading.join().unwrap().unwrap();
        let lines = printed.lines().filter(|line| *line != INNOCENT_DONE);
        assert!(lines.eq((0..20_000).map(|line| format!("line {line}"))));
    }
}

mod lines {
    use super::*;

    #[test]
    fn of_different_guests_stay_whole() {
        let words = ["alpha", "beta", "gamma"];
        let app = App::new(words.map(|word| blocker(word, &["lines", word, "200"])));
        let output = app.run(&[]);
        assert!(output.status.success(), "{output:?}");
        let stderr = text(&output.stderr);
        for word in words {
            let mine = stderr.lines().filter(|line| line.starts_with(word));
            assert!(mine.eq((0..200).map(|line| format!("{word} {line} {word}"))));
        }
        assert_eq!(stderr.lines().count(), 600);
    }

    #[test]
    fn prompt_is_seen_before_the_answer() {
        let app = App::new([blocker("asker", &["ask"]), innocent_guest()]);
        let mut running = Running::start(app.command(&[]).stdin(Stdio::piped()));
        let said = Said::on(running.0.stdout.take().unwrap());
        said.until("name? ", 1);
        let mut stdin = running.0.stdin.take().unwrap();
        stdin.write_all(b"x\n").unwrap();
        assert!(running.end().status.success());
        said.until("hello, x\n", 1);
        said.until(INNOCENT_DONE, 1);
    }

    #[test]
    fn last_words_come_before_the_end() {
        let app = App::new([blocker("victim", &["die"]), innocent_guest()]);
        let output = app.run(&[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(134), "{stderr}");
        let words = stderr.find("last words\n");
        let error = stderr.find("error: guest `victim`");
        assert!(words.is_some() && words < error, "{stderr}");
        assert_innocent_is_done(&output);
    }

    #[test]
    fn with_prefix_cannot_be_forged() {
        let app = App::new([blocker("a", &["forge"]), innocent_guest()]);
        let output = app.run(&["--prefix", "always"]);
        let stdout = text(&output.stdout);
        let forged = "a | one\\rtwo\\u{1b}[1A\\u{202e}three\na |     b | four\n";
        assert!(stdout.contains(forged), "{stdout}");
        let done = format!("innocent | {INNOCENT_DONE}\n");
        assert!(stdout.contains(&done), "{stdout}");
    }

    #[test]
    fn prefix_is_for_several_guests_and_logs() {
        let to_log = |app: &App, options: &[&str]| {
            let path = app.path("appended");
            let file = OpenOptions::new().append(true).create(true).open(&path);
            let mut command = app.command(options);
            let output = Running::start(command.stdout(file.unwrap())).end();
            assert!(output.status.success(), "{output:?}");
            fs::read_to_string(&path).unwrap()
        };
        let (plain, named) = (
            format!("{INNOCENT_DONE}\n"),
            format!("innocent | {INNOCENT_DONE}\n"),
        );
        let two = || App::new([innocent_guest(), worker()]);
        assert_eq!(to_log(&App::new([innocent_guest()]), &[]), plain);
        assert_eq!(to_log(&two(), &["--prefix", "never"]), plain.repeat(2));
        let printed = to_log(&two(), &[]);
        assert!(printed.contains(&named), "{printed}");
        // A pipe gets the output unchanged.
        assert_eq!(text(&two().run(&[]).stdout), plain.repeat(2));
    }

    #[test]
    fn go_to_a_file_for_each_guest() {
        let app = App::new([blocker("victim", &["die"]), innocent_guest()]);
        for lives in 1..=2 {
            let output = app.run(&["--log-dir", "logs"]);
            assert_eq!(output.status.code(), Some(134), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            let logs = [app.log("victim"), app.log("innocent")];
            // The files are appended to.
            assert_eq!(logs[0].matches("last words").count(), lives, "{logs:?}");
            assert_eq!(logs[1].matches(INNOCENT_DONE).count(), lives, "{logs:?}");
        }
    }

    #[test]
    fn unwritable_log_dir_is_an_error_before_the_start() {
        let app = App::new([worker()]);
        fs::write(app.path("file"), "").unwrap();
        for dir in ["file", "none/none"] {
            let output = app.run(&["--log-dir", dir]);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            assert!(stderr.contains("`--log-dir`"), "{stderr}");
        }
        assert!(!app.path("d/done").exists());
    }
}

mod fifo {
    use super::*;

    const DIR: &str = "dirs = [{ host = \"d\", guest = \"/d\", access = \"write\" }]";

    #[test]
    fn run_time_ends_whoever_opens_it() {
        let more = format!("{DIR}\nlimits = {{ run-time = \"1s\" }}");
        let app = App::stuck(&["open", "/d/fifo"], &more, [worker()]).fifo("d/fifo");
        let output = app.run(&["--report"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(134), "{stderr}");
        assert!(stderr.contains("its time is up"), "{stderr}");
        assert_report(&stderr, "stuck0", "failed");
        assert_innocent_is_done(&output);
    }

    #[test]
    fn sigterm_ends_whoever_waits_in_it() {
        let app = App::stuck(&["open", "/d/fifo"], DIR, [worker()]).fifo("d/fifo");
        let running = Running::start(&mut app.command(&["--report"]));
        app.until_work_is_done();
        terminate(&running);
        assert_ended_in_order(&running.end(), "stuck0");
    }

    #[test]
    fn lives_leave_a_bounded_number_of_threads() {
        const LIVES: usize = 20;
        let more = format!(
            "{DIR}\nlimits = {{ run-time = \"50ms\" }}\n\
             restart = {{ policy = \"on-failure\", delay = \"1ms\", max-delay = \"1ms\", \
             max-restarts = {LIVES} }}"
        );
        let app = App::new([
            blocker("stuck", &["open", "/d/fifo"]).with(more),
            blocker("waiting", &["work-after", "/d/go", "/d"]).in_dir(),
        ]);
        let app = app.fifo("d/fifo");
        let mut command = app.command(&["--report"]);
        let mut running = Running::start(command.env("TOMBOLO_LOG", "warn"));
        let process = Process::of(running.0.id());
        let said = Said::on(running.0.stderr.take().unwrap());
        said.until("is not started again", 1);
        // Now the other guest works with files.
        let threads = process.threads().unwrap().len();
        fs::write(app.path("d/go"), "").unwrap();
        let output = running.end();
        assert_innocent_is_done(&output);
        assert!(threads < LIVES, "{threads} threads");
    }
}

mod stdin {
    use super::*;

    #[test]
    fn sigterm_ends_whoever_waits_for_it() {
        let app = App::new([blocker("reader", &["stdin"]), worker()]);
        let mut command = app.command(&["--report"]);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let _stdin = running.0.stdin.take();
        app.until_work_is_done();
        terminate(&running);
        assert_ended_in_order(&running.end(), "reader");
    }

    #[test]
    fn run_time_ends_whoever_waits_for_it() {
        let reader = blocker("reader", &["stdin"]).with("limits = { run-time = \"1s\" }");
        let app = App::new([reader, innocent_guest()]);
        let mut running = Running::start(app.command(&[]).stdin(Stdio::piped()));
        let _stdin = running.0.stdin.take();
        let output = running.end();
        assert_eq!(output.status.code(), Some(134), "{output:?}");
        assert!(
            text(&output.stderr).contains("its time is up"),
            "{output:?}"
        );
        assert_innocent_is_done(&output);
    }
}

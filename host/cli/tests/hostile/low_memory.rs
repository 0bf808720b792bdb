//! A memory cgroup that is nearly full. Unpinned bytes are purged first. Then a growth is refused
//! or a guest is terminated. The kernel kills no process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tombolo_test_util::cgroup::{Filling, Group, fill_if_told};

use crate::guests;
use crate::program::{
    INNOCENT_DONE, Running, assert_innocent_is_done, innocent, text, tombolo, until,
};

const MIB: u64 = 1 << 20;

/// The cgroup's limit in bytes. The margin is an eighth of it.
const LIMIT: u64 = 256 * MIB;

/// Creates an app of an innocent guest and others, each with its arguments and its score. The
/// first guest is the first command.
fn app(guests: &[(&str, &str, u32)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let component = |path: &str| format!("component = {path:?}\n");
    let mut manifest = String::from("[app]\non-pressure = \"kill\"\n\n");
    for (name, arguments, score) in guests {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        manifest += &format!(
            "[guests.{name}]\n{}args = {arguments:?}\noom-score = {score}\n\n",
            component(guests::HOSTILE_MEMORY)
        );
    }
    manifest += &format!(
        "[guests.innocent]\n{}oom-score = 0\n",
        component(innocent().to_str().unwrap())
    );
    let has = |wanted: &str| guests.iter().any(|(name, ..)| *name == wanted);
    if has("cache") {
        let to = guests[0].0;
        manifest += &format!("\n[channels.ready]\nfrom = [\"cache\"]\nto = {to:?}\n");
    }
    std::fs::write(dir.path().join("tombolo.toml"), manifest).unwrap();
    dir
}

/// Returns the command that runs the app in a cgroup.
fn run(group: &Group, app: &Path) -> Command {
    let plain = tombolo(["run", "--json"]);
    let mut command = group.command(plain.get_program());
    command
        .args(plain.get_args())
        .current_dir(app)
        .env_remove("TOMBOLO_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn group(name: &str) -> Group {
    let group = Group::make(name);
    group.limit(LIMIT);
    group
}

/// Returns the number after `before` in a text.
#[track_caller]
fn number(text: &str, before: &str) -> u64 {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no `{before}` in {text}"));
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().expect("a number")
}

/// Checks that the host and the innocent guest survived, and that the kernel killed no process.
#[track_caller]
fn assert_all_live(group: &Group, output: &Output) {
    assert_eq!(group.oom_kills(), 0, "{output:?}");
    assert_innocent_is_done(output);
}

#[test] // rule 8
#[ignore = "needs root, to create a cgroup"]
fn cache_goes_before_a_growth_is_refused() {
    let group = group("growing");
    let app = app(&[("growing", "grow", 900), ("cache", "cache 100", 500)]);
    let output = Running::start(&mut run(&group, app.path())).end();
    assert_all_live(&group, &output);
    assert!(output.status.success(), "{output:?}");
    let (said, report) = (text(&output.stdout), text(&output.stderr));
    // Beside the cache, it would have been little more than 100.
    let grown = number(&said, "grow: refused after ");
    assert!((140..=LIMIT / MIB - 32).contains(&grown), "{said}");
    let purged = number(&report, r#""purged":"#);
    assert!(purged >= 90 * MIB, "{report}");
    assert!(said.contains("cache: heard of Level::"), "{said}");
    assert_eq!(number(&report, r#""kills_total":"#), 0, "{report}");
    // An allocator may retry.
    assert!(number(&report, r#""growths_refused":"#) > 0, "{report}");
    println!("{said}the limit was met {} times", group.hits());
}

#[test] // rule 8
#[ignore = "needs root, to create a cgroup"]
fn insisting_guest_is_terminated_with_a_reason() {
    let group = group("insisting");
    let app = app(&[("growing", "insist", 900), ("cache", "cache 100", 500)]);
    let output = Running::start(&mut run(&group, app.path())).end();
    assert_all_live(&group, &output);
    assert_eq!(output.status.code(), Some(134), "{output:?}");
    let said = text(&output.stderr);
    let why = "; the host was short of memory, and refused ";
    let failure = said.lines().find(|line| line.starts_with("error: guest"));
    let failure = failure.unwrap_or_else(|| panic!("no failure in {said}"));
    assert!(
        failure.contains("`growing`") && failure.contains(why),
        "{said}"
    );
    assert!(number(&said, r#""purged":"#) >= 90 * MIB, "{said}");
}

#[test] // rule 8
#[ignore = "needs root, to create a cgroup"]
fn untouched_gigabyte_is_refused_without_harm() {
    let group = group("reserving");
    let app = app(&[("reserving", "reserve 1024", 500)]);
    let output = Running::start(&mut run(&group, app.path())).end();
    assert_all_live(&group, &output);
    let said = text(&output.stdout);
    assert!(said.contains("reserve: refused"), "{output:?}");
}

#[test] // rule 8
#[ignore = "needs root, to create a cgroup"]
fn highest_score_ends_before_the_kernel_kills() {
    const NAME: &str = "low_memory::highest_score_ends_before_the_kernel_kills";
    fill_if_told();
    let group = group("filled");
    let app = app(&[("first", "hold 20", 100), ("second", "hold 60", 900)]);
    let mut running = Running::start(&mut run(&group, app.path()));
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut innocent_done = false;
    let mut held = 0;
    while held < 2 || !innocent_done {
        let line = lines.next().expect("it says more").unwrap();
        held += usize::from(line.contains("hold: "));
        innocent_done |= line.contains(INNOCENT_DONE);
    }
    // Another process takes memory without asking the host.
    let filling = Filling::start(&group, NAME, LIMIT - 8 * MIB);
    until("the memory of a guest is back", || {
        let usage = std::fs::read_to_string(group.usage()).unwrap();
        usage.trim().parse::<u64>().unwrap() < LIMIT - 50 * MIB
    });
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    let output = running.end();
    assert_eq!(group.oom_kills(), 0, "{output:?}");
    let said = text(&output.stderr);
    let why = "guest `second` was ended in `wasi:cli/run`: the host is short of memory, and its \
               score is 900";
    assert!(said.contains(why), "{said}");
    assert_eq!(number(&said, r#""kills_total":"#), 1, "{said}");
    drop(filling);
}

#[test] // rule 7
fn sigusr1_purges_unpinned_bytes() {
    let app = app(&[("keeping", "keep 8", 500)]);
    let mut command = tombolo(["run", "--json", "-v"]);
    command.current_dir(app.path());
    let mut running = Running::start(&mut command);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("keep: 8 MiB") {}
    let pid = Pid::from_child(&running.0);
    kill_process(pid, Signal::USR1).unwrap();
    let mut log = BufReader::new(running.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("purged on SIGUSR1") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
    }
    kill_process(pid, Signal::TERM).unwrap();
    let mut report = String::new();
    log.read_to_string(&mut report).unwrap();
    let output = running.end();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    // If the machine is short of memory as well, some bytes may be purged already.
    assert!(number(&report, r#""purged":"#) >= 8 * MIB, "{report}");
}

//! The program in a sandbox: as a user without capabilities, with one writable directory and
//! little else.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tombolo_test_util::cgroup::Group;
use tombolo_test_util::child::{Running, until};
use tombolo_test_util::process::Process;
use tombolo_test_util::three_guests;
use tombolo_tests::artifacts::{CACHE_GALLERY, CACHE_VIEWER, MUSIC_AUDIOSERVER, MUSIC_PLAYER};

/// A script that sandboxes its process, as containers do. Only the directory `$OUT` is writable.
/// `$LIMIT`, if set, is the memory limit that the cgroup shows inside; `prlimit` enforces the
/// real one. `$NO_PSI` makes PSI files inaccessible.
///
/// `/proc` stays mounted, as in containers, because the user is mapped through it. Its files
/// about the whole machine are hidden.
const LOCK_UP: &str = r#"
if [ -n "$LIMIT" ]; then
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    for file in /sys/fs/cgroup/memory/memory.limit_in_bytes "/sys/fs/cgroup$own/memory.max"; do
        [ ! -e "$file" ] || { mount --bind "$LIMIT" "$file"; limited=yes; break; }
    done
    : "${limited:?the cgroup of this process has no file for a memory limit}"
fi
for at in ${NO_PSI:+/proc/pressure} /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
    [ ! -e $at ] || mount --bind $at $at
done
# A mount that another one covers cannot be reached, and need not be.
while read -r _ _ _ _ at options _; do
    case "$at $options" in
    "/proc "*) ;;
    *" rw"*) mount -o "remount,bind,ro${options#rw}" "$(printf %b "$at")" || : ;;
    esac
done < /proc/self/mountinfo
mount --bind "$OUT" "$OUT"
mount -o remount,bind,rw "$OUT"
exec prlimit --nofile="$FILES" --nproc=64 --core=0 --memlock=0 --data=268435456 \
    unshare --user --map-user=65534 --map-group=65534 --keep-caps \
    setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
"#;

/// Returns a sandboxed command with a writable directory.
fn locked(out: &Path, program: &str) -> Command {
    lock_up(Command::new("unshare"), out, program)
}

/// Makes `unshare` run a program in the sandbox.
fn lock_up(mut command: Command, out: &Path, program: &str) -> Command {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    let tried = Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .output();
    let tried = tried.expect("unshare, setpriv and prlimit, of util-linux, are needed");
    assert!(
        tried.status.success(),
        "this system lets nobody make namespaces, which this test needs: {}hint: allow it, for \
         example by `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        String::from_utf8_lossy(&tried.stderr)
    );
    command
        .args(namespaces)
        .args(["sh", "-euc", LOCK_UP, "sh", program])
        .env("OUT", out)
        .env("LIMIT", "")
        .env("NO_PSI", "")
        .env("FILES", "64")
        .env("LC_ALL", "C")
        .env_remove("TOMBOLO_LOG");
    command
}

/// Returns the command that renders a recording into that directory.
fn render(out: &Path, options: &[&str]) -> Command {
    let mut command = locked(out, env!("CARGO_BIN_EXE_tombolo"));
    command
        .args(["run", MUSIC_PLAYER, MUSIC_AUDIOSERVER, "--dir"])
        .arg(format!("{}::/music", out.display()))
        .args(options)
        .args(["--", "--render", "/music/out.wav"]);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the rest of the line with this start, with single spaces.
#[track_caller]
fn line(text: &str, start: &str) -> String {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .find_map(|line| Some(line.strip_prefix(start)?.trim().to_owned()))
        .unwrap_or_else(|| panic!("no `{start}` in {text}"))
}

#[test]
fn sandbox_has_no_rights_and_one_directory() {
    let out = tempfile::tempdir().unwrap();
    let script = r#"
cat /proc/self/status /proc/self/limits
for at in / /tmp /var/tmp /dev/shm "$OUT"; do touch "$at/written" || :; done
sysctl=/proc/sys/vm/max_map_count
(cat $sysctl > $sysctl) || :
while read -r _ _ _ _ at _; do
    at=$(printf %b "$at")
    [ ! -d "$at" ] || [ ! -w "$at" ] || echo "writable: $at"
done < /proc/self/mountinfo
"#;
    let output = locked(out.path(), "sh")
        .args(["-euc", script])
        .output()
        .unwrap();
    let (said, refused) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(line(&said, "Uid:"), "65534 65534 65534 65534");
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(&said, capabilities), "0000000000000000");
    }
    assert_eq!(line(&said, "NoNewPrivs:"), "1");
    for (limit, value) in [
        ("Max open files", "64 64 files"),
        ("Max processes", "64 64 processes"),
        ("Max core file size", "0 0 bytes"),
        ("Max locked memory", "0 0 bytes"),
        ("Max data size", "268435456 268435456 bytes"),
    ] {
        assert_eq!(line(&said, limit), value);
    }
    let no = "Read-only file system";
    for at in ["//written", "/tmp/written", "/dev/shm/written"] {
        assert!(
            refused.contains(&format!("'{at}': {no}")),
            "{at}: {refused}"
        );
    }
    let sysctl = format!("/proc/sys/vm/max_map_count: {no}");
    assert!(refused.contains(&sysctl), "{refused}");
    let writable: Vec<_> = said
        .lines()
        .filter(|it| it.contains("writable: "))
        .collect();
    assert_eq!(writable, [format!("writable: {}", out.path().display())]);
    assert!(out.path().join("written").exists());
}

#[test]
fn sandboxed_app_writes_into_the_one_directory() {
    let out = tempfile::tempdir().unwrap();
    let output = render(out.path(), &["--report"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = std::fs::read(out.path().join("out.wav")).unwrap();
    assert!(file.starts_with(b"RIFF") && file.len() > 44);
    let sound = &file[44..];
    assert!(sound.iter().any(|byte| *byte != 0), "silence");
    let report = stderr(&output);
    assert_eq!(line(&report, "copied by the host for regions"), "0 B");
    let created = line(&report, "regions created");
    assert_eq!(line(&report, "regions freed"), created);
}

#[test] // rule 10
fn defaults_follow_the_memory_limit_of_the_cgroup() {
    let out = tempfile::tempdir().unwrap();
    let limit = out.path().join("limit");
    // Half of this is less than the recording takes. It is the limit of a cgroup that
    // uses more than that already, so that no margin can be kept.
    std::fs::write(&limit, "131072\n").unwrap();
    let mut command = render(out.path(), &["--margin", "0"]);
    let output = command.env("LIMIT", &limit).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!out.path().join("out.wav").exists());

    std::fs::write(&limit, "268435456\n").unwrap();
    let mut command = render(out.path(), &["--report", "--margin", "0"]);
    let output = command.env("LIMIT", &limit).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(out.path().join("out.wav").exists());
    // Half of it, or of what there is if that is less.
    let budget = line(&stderr(&output), "budget");
    let mebibytes = budget.strip_suffix(" MiB").map(str::parse::<f64>);
    assert!(
        matches!(mebibytes, Some(Ok(0.0..=128.0))),
        "the budget is {budget}"
    );
}

/// Returns the number after a text in the JSON report.
#[track_caller]
fn number(report: &str, before: &str) -> u64 {
    let (_, rest) = report
        .split_once(before)
        .unwrap_or_else(|| panic!("no `{before}` in {report}"));
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let digits = &rest[..end.unwrap_or(rest.len())];
    digits.parse().expect("a number")
}

#[test] // rule 8
#[ignore = "needs root, to create a cgroup"]
fn cache_larger_than_the_cgroup_is_not_killed() {
    const LIMIT: u64 = 96 << 20;
    let out = tempfile::tempdir().unwrap();
    let group = Group::make("locked");
    group.limit(LIMIT);
    let program = env!("CARGO_BIN_EXE_tombolo");
    let mut command = lock_up(group.command("unshare"), out.path(), program);
    command
        // A region takes a descriptor: as many as there usually are.
        .env("FILES", "1024")
        .args(["run", "--json", "--limit", "claimed-bytes=1GiB"])
        .args([CACHE_GALLERY, CACHE_VIEWER, "--dir"])
        .arg(format!("{}::/images", out.path().display()))
        // Of 1 MiB each.
        .args(["--", "--make", "112", "--views", "200"]);
    let output = command.output().unwrap();
    assert_eq!(group.oom_kills(), 0, "{output:?}");
    assert!(output.status.success(), "{output:?}");
    let report = stderr(&output);
    let (budget, peak) = (
        number(&report, r#""budget":{"budget":"#),
        number(&report, r#""committed_peak":"#),
    );
    assert_eq!(budget, LIMIT / 2, "by default");
    assert!(peak <= budget, "{report}");
    // It had as much as it may, and more than that to do with it.
    assert!(peak + (2 << 20) > budget, "{report}");
    assert!(number(&report, r#""purged":"#) > 0, "{report}");
    println!("the limit was met {} times", group.hits());
}

/// Returns the line of `-v` about the source of pressure reports.
#[track_caller]
fn pressure_note(no_psi: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let mut command = render(out.path(), &["-v"]);
    let output = command.env("NO_PSI", no_psi).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(out.path().join("out.wav").exists());
    let said = stderr(&output);
    let note = said.lines().find(|line| line.contains("memory pressure: "));
    note.unwrap_or_else(|| panic!("no note in {said}"))
        .to_owned()
}

#[test]
fn sandboxed_app_logs_its_pressure_source() {
    let note = pressure_note("");
    if Path::new("/proc/pressure/memory").exists() {
        // Nothing in there takes away what kernels since 6.5 let everybody do: to ask
        // for windows of two seconds, and not for those of one.
        assert!(note.contains("memory pressure: watched by "), "{note}");
        let longer = "(some 140ms, full 1.4s in 2s, windows longer than asked for, as an \
                      unprivileged process must have them)";
        assert!(note.contains(longer), "{note}");
    } else {
        assert!(
            note.contains("/proc/pressure/memory: No such file"),
            "{note}"
        );
    }
}

#[test]
fn app_without_psi_warns_and_runs() {
    let note = pressure_note("yes");
    // The system decides what is watched instead, if anything.
    let why = match Path::new("/proc/pressure/memory").exists() {
        true => "Read-only file system",
        false => "No such file",
    };
    let refused = format!("/proc/pressure/memory: {why}");
    assert!(note.contains(&refused), "{note}");
    assert!(!note.contains("watched by /proc/pressure/memory"), "{note}");
}

#[test]
fn sigterm_ends_a_sandboxed_endless_loop() {
    let out = tempfile::tempdir().unwrap();
    let said = out.path().join("said");
    let mut command = locked(out.path(), env!("CARGO_BIN_EXE_tombolo"));
    command.args(["run", "--report", "--on-pressure", "dry-run"]);
    command.args(three_guests::write(out.path()));
    command.args(["--", "hold spin"]).stdout(Stdio::null());
    command.stderr(std::fs::File::create(&said).unwrap());
    let mut running = Running::start(&mut command);
    let process = Process::of(running.0.id());
    let mut mappings = 0;
    until("the guests have windows", || {
        let ended = running.status();
        assert!(
            ended.is_none(),
            "{}",
            std::fs::read_to_string(&said).unwrap()
        );
        let all = process.mappings().unwrap_or_default();
        mappings = all.len();
        all.iter().filter(|it| it.memfd().is_some()).count() >= 8
    });
    assert!(mappings < 65_530 / 2, "{mappings} mappings");

    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    let status = running.wait();
    let said = std::fs::read_to_string(&said).unwrap();
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("ended: the app was told to stop"), "{said}");
    assert_eq!(line(&said, "regions created"), "4");
    assert_eq!(line(&said, "regions freed"), "4");
}

//! The program with components, without a manifest.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tombolo::{GRANULE, HostLimits, RegionUsage};
use tombolo_app::GuestReport;
use tombolo_test_util::cgroup::{Group, Stalling, stall_if_told};
use tombolo_test_util::child::Running;
use tombolo_test_util::{run, three_guests};
use tombolo_tests::artifacts::{CACHE_GALLERY, CACHE_VIEWER, MUSIC_AUDIOSERVER, MUSIC_PLAYER};

/// Runs `tombolo` to its end.
fn tombolo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(arguments)
        .output()
        .expect("cargo built it")
}

/// Runs the music app in a directory, with arguments for the player.
fn play(options: &[&str], dir: &Path, arguments: &[&str]) -> Output {
    let grant = format!("{}::/music", dir.display());
    let fixed = ["run", MUSIC_PLAYER, MUSIC_AUDIOSERVER, "--dir", &grant];
    tombolo(fixed.iter().chain(options).chain(&["--"]).chain(arguments))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

/// Returns stderr of a run that starts nothing.
fn refused(arguments: &[&str]) -> String {
    let output = tombolo(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

/// Returns a WAV file with one second of 8 kHz mono silence.
fn wav() -> Vec<u8> {
    let samples = [0u8; 16_000];
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + samples.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes()); // integers
    file.extend(1u16.to_le_bytes()); // channels
    file.extend(8_000u32.to_le_bytes()); // rate
    file.extend(16_000u32.to_le_bytes()); // bytes per second
    file.extend(2u16.to_le_bytes()); // bytes per frame
    file.extend(16u16.to_le_bytes()); // bits
    file.extend(b"data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file
}

/// Replaces every number in parentheses by `(id)`, because identities of regions are random.
fn without_ids(report: &str) -> String {
    let mut parts = report.split('(');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|char: char| char.is_ascii_digit());
        let is_id = rest.len() < part.len() && rest.starts_with(')');
        text += &if is_id {
            format!("(id{rest}")
        } else {
            format!("({part}")
        };
    }
    text
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn help_succeeds() {
    let output = tombolo(["--help"]);
    assert!(output.status.success(), "{output:?}");
}

#[test] // rule 5
fn guests_share_a_recording_without_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.wav"), wav()).unwrap();
    let output = play(
        &["--report"],
        dir.path(),
        &["/music/in.wav", "/music/out.wav"],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(entries(dir.path()), ["in.wav", "out.wav"]);
    let report = text(&output.stderr);
    let line = |start: &str| {
        let line = report
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no `{start}` in {report}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("copied by the host for regions"),
        "copied by the host for regions 0 B"
    );
    assert_eq!(line("regions created"), "regions created 2");
    assert_eq!(line("regions freed"), "regions freed 2");
    let regions = without_ids(&report);
    assert!(regions.contains("music, processed (id)"), "{report}");
    for output in [&output.stdout, &output.stderr] {
        assert!(!output.contains(&0x1b), "plain text outside of a terminal");
    }
}

#[test]
fn verbose_logs_events_and_calls_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.wav"), wav()).unwrap();
    let quiet = play(&[], dir.path(), &["/music/in.wav"]);
    assert!(
        quiet.status.success() && quiet.stderr.is_empty(),
        "{quiet:?}"
    );
    let loud = play(&["-v"], dir.path(), &["/music/in.wav"]);
    let log = text(&loud.stderr);
    for step in [
        "region created",
        "window mapped",
        "window unmapped",
        "region lent",
        "lend ended",
        "region moved",
        "region freed",
        "caller=\"player\"",
    ] {
        assert!(log.contains(step), "no `{step}` in {log}");
    }
    assert!(!text(&loud.stdout).contains("window mapped"));
}

#[test]
fn unplayable_file_gets_one_line_and_no_output() {
    let cut = &wav()[..9_000];
    let bad: [(&str, &[u8], &str); 3] = [
        ("is no WAV", b"MThd, and so on", "is not a WAV file"),
        ("is empty", b"", "is empty"),
        ("is cut short", cut, "is cut short"),
    ];
    for (what, bytes, said) in bad {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in.wav"), bytes).unwrap();
        let output = play(&[], dir.path(), &["/music/in.wav", "/music/out.wav"]);
        assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{what}: {error}");
        assert!(
            error.contains(said) && error.contains("in.wav"),
            "{what}: {error}"
        );
        assert_eq!(entries(dir.path()), ["in.wav"], "{what}");
    }
}

#[test]
fn recording_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.wav"), wav()).unwrap();
    let limit = ["--limit", "region-bytes=1KiB"];
    let output = play(&limit, dir.path(), &["/music/in.wav", "/music/out.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    assert_eq!(entries(dir.path()), ["in.wav"]);
}

#[test] // rule 1
fn read_only_directory_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.wav"), wav()).unwrap();
    let grant = format!("{}::/music:ro", dir.path().display());
    let output = tombolo([
        "run",
        MUSIC_PLAYER,
        MUSIC_AUDIOSERVER,
        "--dir",
        &grant,
        "--",
        "/music/in.wav",
        "/music/out.wav",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(entries(dir.path()), ["in.wav"]);
}

#[test] // rule 1
fn nothing_is_granted_by_default() {
    let output = tombolo([
        "run",
        MUSIC_PLAYER,
        MUSIC_AUDIOSERVER,
        "--",
        "/etc/hostname",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn missing_export_is_named() {
    let error = refused(&["run", MUSIC_PLAYER]);
    assert!(
        error.contains("`player` imports `tombolo-examples:music/server@"),
        "{error}"
    );
    assert!(error.contains("hint: "), "{error}");
}

#[test]
fn argument_without_dashes_gets_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let song = dir.path().join("song.wav");
    std::fs::write(&song, wav()).unwrap();
    let error = refused(&["run", MUSIC_PLAYER, song.to_str().unwrap()]);
    assert!(error.contains("after `--`"), "{error}");
}

#[test]
fn core_module_gets_a_conversion_hint() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("core.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let error = refused(&["run", module.to_str().unwrap()]);
    assert!(error.contains("core module"), "{error}");
    assert!(error.contains("wasm32-wasip2"), "{error}");
}

#[test]
fn app_without_a_command_is_refused() {
    let error = refused(&["run", MUSIC_AUDIOSERVER]);
    assert!(error.contains("wasi:cli/run"), "{error}");
}

/// A command that also exports an async function.
const ASYNCHRONOUS: &str = r#"(component
    (core module $m
        (func (export "run") (result i32) (i32.const 0))
        (func (export "f") (result i32) unreachable)
        (func (export "g") (param i32 i32 i32) (result i32) unreachable))
    (core instance $m (instantiate $m))
    (func $run (result (result)) (canon lift (core func $m "run")))
    (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run)))
    (func $f async (canon lift (core func $m "f") async (callback (core func $m "g"))))
    (instance (export "test:async/later@0.1.0") (export "f" (func $f))))"#;

#[test]
fn component_with_async_functions_is_read_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("asynchronous.wasm");
    std::fs::write(&path, wat::parse_str(ASYNCHRONOUS).unwrap()).unwrap();
    let output = tombolo([OsStr::new("inspect"), path.as_ref()]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("test:async/later@0.1.0"));
    let output = tombolo([OsStr::new("run"), path.as_ref()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

#[test] // rules 10, 13
fn callee_past_its_deadline_fails_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let limit = ["--limit", "call-time=1ms"];
    let output = play(&limit, dir.path(), &["--render", "/music/out.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("guest `audioserver` was ended"), "{error}");
    assert!(error.contains("its time is up"), "{error}");
    assert_eq!(entries(dir.path()), [""; 0]);
}

/// Runs the gallery with a budget, and returns the values that it prints by their names.
fn gallery(dir: &Path, budget: &str) -> impl Fn(&str) -> u64 {
    let grant = format!("{}::/images", dir.display());
    let app = ["run", CACHE_GALLERY, CACHE_VIEWER, "--dir", &grant];
    let options = ["--budget", budget, "--", "--make", "6", "--views", "60"];
    let output = tombolo(app.iter().chain(&options));
    // It fails if the viewer sees anything but what was decoded first.
    assert!(output.status.success(), "{output:?}");
    let text = text(&output.stdout);
    move |name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("no `{name}` in {text}"));
        value.trim().parse().expect("a number")
    }
}

#[test] // rules 7, 8
fn cache_misses_only_under_a_small_budget() {
    let dir = tempfile::tempdir().unwrap();
    let ample = gallery(dir.path(), "8MiB");
    assert_eq!((ample("views"), ample("misses")), (60, 0));
    assert_eq!(ample("decoded again"), 0);
    let scarce = gallery(dir.path(), "2MiB");
    assert!(scarce("misses") > 0 && scarce("hits") > 0);
    assert_eq!(scarce("hits") + scarce("misses"), 60);
    assert_eq!(scarce("decoded again"), scarce("misses") << 20);
}

const SHORT: &str = "kernel_pressure_kills_the_highest_score";

/// The kernel makes the app wait for memory, as it counts it, with the default thresholds.
#[test] // rules 8, 13
#[ignore = "needs root, to create a cgroup"]
fn kernel_pressure_kills_the_highest_score() {
    stall_if_told();
    let dir = tempfile::tempdir().unwrap();
    let group = Group::make("short");
    let pressure = group.pressure();
    let mut command = group.command_beside(env!("CARGO_BIN_EXE_tombolo"));
    command.args(["-v", "run", "--json", "--on-pressure", "kill"]);
    // The other guest has 500, and 0 is below the floor.
    command.args(["--oom-score", "near=501", "--oom-score", "client=0"]);
    // The kernel may be slow.
    command.args(["--limit", "call-time=none"]);
    command.args(three_guests::write(dir.path()));
    // The host reports the end to the client as its callee's failure.
    command.args(["--", "dead-of-pressure"]);
    let said = dir.path().join("said");
    command.stderr(std::fs::File::create(&said).unwrap());
    let said = || std::fs::read_to_string(&said).unwrap();
    let mut running = Running::start(&mut command);
    until(&mut running, "the callee sleeps", said, || {
        said().contains("region lent")
    });
    let stalling = Stalling::start(&group, SHORT);
    let mut status = None;
    let begun = Instant::now();
    while status.is_none() {
        assert!(begun.elapsed() < BOUND, "it goes on: {}", said());
        std::thread::sleep(Duration::from_millis(10));
        status = running.0.try_wait().unwrap();
    }
    drop(stalling);
    let said = said();
    let watched = format!("memory pressure: watched by {}", pressure.display());
    assert!(said.contains(&watched), "{said}");
    // A guest was terminated, and the client found what it expects.
    assert_eq!(status.unwrap().code(), Some(134), "{said}");
    let why = "the host is short of memory, and its score is 501";
    let failures: Vec<_> = said
        .lines()
        .filter(|it| it.starts_with("error: "))
        .collect();
    let failure = format!("error: guest `near` was ended in `test:calls/near.lend`: {why}");
    assert_eq!(failures, [failure], "{said}");

    let report = said.lines().find(|it| it.starts_with('{'));
    let report: Value = serde_json::from_str(report.expect("the program prints a report")).unwrap();
    assert_eq!(report["kills_total"], 1);
    let kill = &report["kills"][0];
    assert_eq!(kill["guest"], "near");
    assert_eq!(kill["reason"], why);
    assert_eq!(kill["score"], 501);
    // The memory that it had touched.
    assert!(
        (16 << 10..1 << 20).contains(&kill["bytes"].as_u64().unwrap()),
        "{kill:?}"
    );
    let ends = [0, 1, 2].map(|guest| report["guests"][guest]["end"].as_str().unwrap());
    assert_eq!(ends, ["exit 0", &format!("ended: {why}"), "served"]);
}

/// Generous for some seconds of work on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

/// Waits until a condition on a running program holds, unless the program ends before.
fn until(running: &mut Running, what: &str, said: impl Fn() -> String, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BOUND, "not in time: {what}: {}", said());
        let ended = running.status();
        assert!(ended.is_none(), "the program has ended: {}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The figures of a region in a report: size, resident, pinned, purgeable, purged, number of
/// sharers, PSS.
type Sizes = (u64, u64, u64, u64, u64, u64, u64);

/// Returns the expected figures of the scenario `share-purged`: of the two regions that the
/// client has released, and of the one that its callee holds alone at its end.
fn shared_and_purged() -> [(&'static str, Sizes); 3] {
    const G: u64 = GRANULE;
    [
        ("large", (5 * G, 0, 5 * G, 0, 0, 1, 0)),
        ("shared", (4 * G, 3 * G, 2 * G, G, G, 2, 3 * G / 2)),
        ("shared", (4 * G, 3 * G, 2 * G, G, G, 1, 3 * G)),
    ]
}

#[test] // rule 8
fn report_has_figures_of_a_partly_purged_region() {
    let mut limits = HostLimits::default();
    limits.budget = 8 * GRANULE;
    let outcome = run::run(three_guests::app("share-purged").host_limits(limits));
    assert_eq!(outcome.failures, [""; 0]);
    let guests = &outcome.report.guests;
    let sizes = |it: &RegionUsage| {
        let sizes = (
            it.size,
            it.resident,
            it.pinned,
            it.purgeable,
            it.purged,
            it.holders,
            it.pss,
        );
        (it.name.clone(), sizes)
    };
    let expected = shared_and_purged().map(|(name, sizes)| (name.to_owned(), sizes));
    let [client, near, far]: &[GuestReport; 3] = guests.as_slice().try_into().unwrap();
    let released: Vec<_> = client.regions_released.iter().map(sizes).collect();
    assert_eq!(released, expected[..2]);
    assert_eq!(client.regions_released_total, 2);
    assert_eq!(client.regions, []);
    let held: Vec<_> = near.regions.iter().map(sizes).collect();
    assert_eq!(held, expected[2..]);
    assert_eq!(near.regions[0].id, client.regions_released[1].id);
    assert_eq!(
        (&*near.regions_released, near.regions_released_total),
        (&[][..], 0)
    );
    assert_eq!((&*far.regions, &*far.regions_released), (&[][..], &[][..]));
}

/// Returns the name and the figures of a region in JSON.
fn sizes(region: &Value) -> (&str, Sizes) {
    let size = |name| region[name].as_u64().unwrap();
    let sizes = (
        size("size"),
        size("resident"),
        size("pinned"),
        size("purgeable"),
        size("purged"),
        size("holders"),
        size("pss"),
    );
    (region["name"].as_str().unwrap(), sizes)
}

#[test]
fn json_and_tables_have_figures_of_purged_regions() {
    let dir = tempfile::tempdir().unwrap();
    let run = |how: &str| {
        let mut arguments = vec!["run".into(), "--budget".into(), "512KiB".into(), how.into()];
        let guests = three_guests::write(dir.path());
        arguments.extend(guests.map(PathBuf::into_os_string));
        arguments.extend(["--".into(), "share-purged".into()]);
        let output = tombolo(arguments);
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };

    let said = run("--json");
    let report = said.lines().find(|it| it.starts_with('{'));
    let report: Value = serde_json::from_str(report.expect("the program prints a report")).unwrap();
    let regions = |guest: usize, key: &str| {
        let regions = report["guests"][guest][key].as_array().unwrap();
        regions.iter().map(sizes).collect::<Vec<_>>()
    };
    let expected = shared_and_purged();
    assert_eq!(regions(0, "regions_released"), expected[..2]);
    assert_eq!(report["guests"][0]["regions_released_total"], 2);
    assert_eq!(regions(1, "regions"), expected[2..]);
    assert_eq!(
        ["budget", "committed", "committed_peak", "purges", "purged"]
            .map(|it| &report["budget"][it]),
        [8 * GRANULE, 0, 8 * GRANULE, 1, GRANULE]
    );
    assert_eq!(report["kills_total"], 0);

    let report = run("--report");
    let lines: Vec<String> = without_ids(&report)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "guest region size resident pinned purgeable purged holders PSS claim",
        "client large (id) 320.0 KiB 0 B 320.0 KiB 0 B 0 B 1 0 B released",
        "client shared (id) 256.0 KiB 192.0 KiB 128.0 KiB 64.0 KiB 64.0 KiB 2 96.0 KiB released",
        "near shared (id) 256.0 KiB 192.0 KiB 128.0 KiB 64.0 KiB 64.0 KiB 1 192.0 KiB held",
    ] {
        assert!(lines.iter().any(|it| it == line), "no `{line}` in {report}");
    }
}

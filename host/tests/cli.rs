//! The program `tombolo`, from outside.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use tombolo_tests::artifacts::{CACHE_GALLERY, CACHE_VIEWER, MUSIC_AUDIOSERVER, MUSIC_PLAYER};

/// Runs `tombolo` with these arguments to its end.
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

/// What the program says, and that it started nothing.
fn refused(arguments: &[&str]) -> String {
    let output = tombolo(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

/// A WAV file of one second of 8 kHz mono silence.
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

#[test]
fn two_guests_share_a_recording_that_the_host_does_not_copy() {
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
    assert_eq!(line("regions given back"), "regions given back 2");
    assert!(report.contains("music, processed (2)"), "{report}");
    for output in [&output.stdout, &output.stderr] {
        assert!(!output.contains(&0x1b), "plain where it is not a terminal");
    }
}

#[test]
fn events_and_calls_show_with_v_only_and_on_stderr() {
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
        "region given back",
        "caller=\"player\"",
    ] {
        assert!(log.contains(step), "no `{step}` in {log}");
    }
    assert!(!text(&loud.stdout).contains("window mapped"));
}

#[test]
fn what_cannot_be_played_gets_one_line_and_leaves_nothing() {
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
fn a_recording_over_the_limit_is_too_big() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.wav"), wav()).unwrap();
    let limit = ["--limit", "region-bytes=1KiB"];
    let output = play(&limit, dir.path(), &["/music/in.wav", "/music/out.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    assert_eq!(entries(dir.path()), ["in.wav"]);
}

#[test]
fn a_directory_granted_to_read_cannot_be_written() {
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

#[test]
fn nothing_is_granted_that_was_not_asked_for() {
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
fn an_import_that_nobody_exports_is_named() {
    let error = refused(&["run", MUSIC_PLAYER]);
    assert!(
        error.contains("`player` imports `tombolo-examples:music/server@"),
        "{error}"
    );
    assert!(error.contains("hint: "), "{error}");
}

#[test]
fn a_file_that_is_an_argument_explains_the_dashes() {
    let dir = tempfile::tempdir().unwrap();
    let song = dir.path().join("song.wav");
    std::fs::write(&song, wav()).unwrap();
    let error = refused(&["run", MUSIC_PLAYER, song.to_str().unwrap()]);
    assert!(error.contains("come after `--`"), "{error}");
}

#[test]
fn a_core_module_is_told_how_to_become_a_component() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("core.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let error = refused(&["run", module.to_str().unwrap()]);
    assert!(error.contains("core module"), "{error}");
    assert!(error.contains("wasm32-wasip2"), "{error}");
}

#[test]
fn an_app_without_a_command_has_nothing_to_start() {
    let error = refused(&["run", MUSIC_AUDIOSERVER]);
    assert!(error.contains("wasi:cli/run"), "{error}");
}

#[test]
fn a_callee_past_its_time_is_ended_and_the_caller_told() {
    let dir = tempfile::tempdir().unwrap();
    let limit = ["--limit", "call-time=1ms"];
    let output = play(&limit, dir.path(), &["--render", "/music/out.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("guest `audioserver` was ended"), "{error}");
    assert!(error.contains("its time is up"), "{error}");
    assert_eq!(entries(dir.path()), [""; 0]);
}

/// What the gallery printed under a name, with this budget.
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

#[test]
fn a_cache_misses_only_where_the_budget_is_small_and_is_right_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ample = gallery(dir.path(), "8MiB");
    assert_eq!((ample("views"), ample("misses")), (60, 0));
    assert_eq!(ample("decoded again"), 0);
    let scarce = gallery(dir.path(), "2MiB");
    assert!(scarce("misses") > 0 && scarce("hits") > 0);
    assert_eq!(scarce("hits") + scarce("misses"), 60);
    assert_eq!(scarce("decoded again"), scarce("misses") << 20);
}

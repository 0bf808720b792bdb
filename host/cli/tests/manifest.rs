//! The program `tombolo` with manifests, from outside.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tombolo_tests::artifacts::{
    CACHE_GALLERY, CACHE_VIEWER, METER_FILLER, METER_METER, MUSIC_AUDIOSERVER, MUSIC_PLAYER,
};

const MUSIC: &str = include_str!("../../../examples/music/tombolo.toml");
const CACHE: &str = include_str!("../../../examples/cache/tombolo.toml");

const METER: &str = include_str!("../../../examples/meter/tombolo.toml");

/// Runs `tombolo` in a directory with these arguments to its end.
fn tombolo(dir: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("cargo built it")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

/// A directory with a manifest and components.
fn app(manifest: &str, components: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tombolo.toml"), manifest).unwrap();
    for component in components {
        let name = Path::new(component).file_name().unwrap();
        std::fs::copy(component, dir.path().join(name)).unwrap();
    }
    dir
}

/// What the program prints, all going well.
#[track_caller]
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = tombolo(dir, arguments);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// What the program says, and that it started nothing.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = tombolo(dir, arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

/// A WAV file of a tenth of a second of 8 kHz mono silence.
fn wav() -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36u32 + 1_600).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend([1, 0, 1, 0]); // integers, one channel
    file.extend(8_000u32.to_le_bytes()); // rate
    file.extend(16_000u32.to_le_bytes()); // bytes per second
    file.extend([2, 0, 16, 0]); // bytes per frame, bits
    file.extend(b"data");
    file.extend(1_600u32.to_le_bytes());
    file.extend([0; 1_600]);
    file
}

#[test]
fn app_of_the_manifest_here_runs_with_arguments() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("in.wav"), wav()).unwrap();
    let output = tombolo(app.path(), ["run", "--json", "--", "/music/in.wav"]);
    assert!(output.status.success(), "{output:?}");
    assert!(app.path().join("music.limited.wav").exists());
    assert!(text(&output.stderr).contains(r#""name":"audioserver""#));
}

/// The example `meter`: as its README shows it.
#[test]
fn guest_watches_what_another_one_of_its_strand_writes() {
    let app = app(METER, &[METER_FILLER, METER_METER]);
    let said = printed(app.path(), &["run"]);
    let mut lines: Vec<&str> = said.lines().collect();
    // They come from two guests, in whichever order.
    lines.sort_by_key(|line| line.starts_with("filler"));
    let expected = include_str!("../../../examples/meter/README.md");
    let (_, expected) = expected.split_once("```text\n").unwrap();
    let (expected, _) = expected.split_once("```").unwrap();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
}

#[test]
fn guests_in_two_strands_are_told_why_they_cannot_share_what_is_written() {
    for strands in ["", "strand = \"other\"\n"] {
        let apart = METER.replacen("strand = \"sound\"\n", strands, 1);
        let app = self::app(&apart, &[METER_FILLER, METER_METER]);
        let output = tombolo(app.path(), ["run"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = text(&output.stderr);
        let reason = "meter: unsupported: the bytes have live windows in another strand, and live \
                      windows go together within one strand only: put these guests into one";
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn paths_are_relative_to_the_manifest() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("in.wav"), wav()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let manifest = app.path().join("tombolo.toml");
    let manifest = manifest.to_str().unwrap();
    printed(
        elsewhere.path(),
        &["run", "-f", manifest, "--", "/music/in.wav"],
    );
    assert!(app.path().join("music.limited.wav").exists());
    let said = printed(elsewhere.path(), &["check", "-f", manifest]);
    assert_eq!(said, format!("{manifest}: no errors (2 guests)\n"));
}

#[test]
fn directory_of_the_manifest_is_granted_as_it_says() {
    let read_only = MUSIC.replace(r#"access = "write""#, r#"access = "read""#);
    let app = app(&read_only, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("in.wav"), wav()).unwrap();
    let output = tombolo(app.path(), ["run", "--", "/music/in.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!app.path().join("music.limited.wav").exists());
}

#[test]
fn limits_of_the_manifest_hold() {
    let short = MUSIC.replace(r#"call-time = "30s""#, r#"call-time = "1ms""#);
    let app = app(&short, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let output = tombolo(app.path(), ["run"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("guest `audioserver` was ended"), "{error}");
}

#[test]
fn budget_of_the_command_line_counts_more_than_the_manifests() {
    let manifest = CACHE
        .replace("16MiB", "2MiB")
        .replace(r#"["--make", "48"]"#, r#"["--make", "6", "--views", "60"]"#);
    let app = app(&manifest, &[CACHE_GALLERY, CACHE_VIEWER]);
    std::fs::create_dir(app.path().join("pictures")).unwrap();
    let misses = |arguments: &[&str]| -> u64 {
        let text = printed(app.path(), arguments);
        let line = text.lines().find_map(|line| line.strip_prefix("misses"));
        line.unwrap_or_else(|| panic!("{text}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(misses(&["run"]) > 0);
    assert_eq!(misses(&["run", "--budget", "8MiB"]), 0);
}

#[test]
fn call_that_the_manifest_does_not_allow_keeps_the_app_from_starting() {
    let manifest = MUSIC.replace("calls = [\"audioserver\"]\n", "");
    let app = app(&manifest, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let expected = r#"error: `player` imports `tombolo-examples:music/server@0.1.0`, but is not allowed to call `audioserver`, which exports it
 --> tombolo.toml:5:14
  |
5 | component = "player.wasm"
  |              ^^^^^^^^^^^ may not call it
  |
  = hint: write `calls = ["audioserver"]`

1 error
"#;
    assert_eq!(refused(app.path(), &["run"]), expected);
    assert_eq!(refused(app.path(), &["check"]), expected);
}

#[test]
fn check_finds_several_mistakes_at_once() {
    let manifest = r#"[app]
budget = "64 lots"
[guests.player]
component = "player.wasm"
calls = ["audioserver"]
[guests.audioserver]
component = "audioserver.wasm"
colour = "red"
[guests.lone]
component = "player.wasm"
calls = ["nobody"]
[guests.broken]
component = "broken.wasm"
[guests.gone]
component = "gone.wasm"
"#;
    let app = app(manifest, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("broken.wasm"), b"\0asm\x0d\0\x01\0\x63").unwrap();
    let said = refused(app.path(), &["check"]);
    let titles: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    assert_eq!(
        titles,
        [
            "`budget` is a size: a number of bytes, or a text as in `64MiB`",
            "a guest has no key `colour`",
            "`lone` imports `tombolo-examples:music/server@0.1.0`, but is not allowed to call \
             `audioserver`, which exports it",
            "there is no guest `nobody`, which `lone` may call",
            "cannot compile guest `broken`",
            "cannot read `gone.wasm`",
        ],
        "{said}"
    );
    for line in ["2:11", "8:1", "10:14", "11:11", "13:14", "15:14"] {
        assert!(
            said.contains(&format!(" --> tombolo.toml:{line}\n")),
            "{said}"
        );
    }
    assert!(said.ends_with("\n6 errors\n"), "{said}");
}

#[test]
fn without_guests_and_manifest_it_says_what_to_name() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "check", "inspect"] {
        let said = refused(dir.path(), &[command]);
        assert!(said.contains("there is no `tombolo.toml` here"), "{said}");
        assert!(said.contains("hint: "), "{said}");
    }
    let said = refused(dir.path(), &["run", "-f", "other.toml"]);
    assert!(
        said.starts_with("error: cannot read `other.toml`"),
        "{said}"
    );
}

#[test]
fn grants_on_the_command_line_are_refused_with_a_manifest() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    for (options, key) in [
        (["--dir", ".::/x"], "`dirs`"),
        (["--env", "KEY=1"], "`env` or `pass-env`"),
        (["--limit", "windows=3"], "`limits`"),
    ] {
        let said = refused(app.path(), &["run", options[0], options[1]]);
        assert!(said.contains("cannot be used with a manifest"), "{said}");
        assert!(said.contains(key), "{said}");
    }
}

#[test]
fn score_for_a_guest_that_is_not_in_the_manifest_is_refused() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let said = refused(app.path(), &["run", "--oom-score", "playr=3"]);
    assert!(said.contains("there is no guest `playr`"), "{said}");
    assert!(said.contains("`player`, `audioserver`"), "{said}");
}

#[test]
fn inspect_shows_who_serves_and_what_is_granted() {
    let manifest = format!(
        "{MUSIC}
[channels.events]
from = [\"audioserver\"]
to = \"player\"
[scopes.pool]
members = {{ player = [\"read\", \"share\"] }}
"
    );
    let app = app(&manifest, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let said = printed(app.path(), &["inspect"]);
    let words: Vec<String> = said
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "player (player.wasm), a command",
        "tombolo-examples:music/server@0.1.0 guest `audioserver`",
        "tombolo:memory/regions@0.1.0 host",
        "call audioserver",
        "channel, to receive events",
        "directory . as /music, write",
        "scope pool, read, share",
        "audioserver (audioserver.wasm)",
        "tombolo-examples:music/server@0.1.0 guest `player`",
        "channel, to send events",
    ] {
        assert!(
            words.iter().any(|other| other == line),
            "no `{line}` in {said}"
        );
    }
    // One guest of them.
    let said = printed(
        app.path(),
        &["inspect", "-f", "tombolo.toml", "audioserver.wasm"],
    );
    assert!(
        said.starts_with("audioserver (audioserver.wasm)\n"),
        "{said}"
    );
    assert!(!said.contains("\nplayer ("), "{said}");
    let said = refused(app.path(), &["inspect", "-f", "tombolo.toml", "other.wasm"]);
    assert!(
        said.contains("`other.wasm` is no guest's component"),
        "{said}"
    );
}

#[test]
fn inspect_of_components_alone_says_what_nobody_serves() {
    let dir = tempfile::tempdir().unwrap();
    let said = printed(dir.path(), &["inspect", MUSIC_PLAYER]);
    let line = said.lines().find(|line| line.contains("music/server"));
    assert!(line.is_some_and(|line| line.ends_with(" nobody")), "{said}");
    assert!(!said.contains("granted"), "{said}");

    let json = printed(
        dir.path(),
        &["inspect", "--json", MUSIC_PLAYER, MUSIC_AUDIOSERVER],
    );
    assert_eq!(json.lines().count(), 1, "{json}");
    for part in [
        r#""command":true"#,
        r#""exports":[{"functions":["run"],"guests":[],"name":"wasi:cli/run@"#,
        r#""from":"guest","functions":["play","#,
        r#""guests":["audioserver"],"name":"tombolo-examples:music/server@0.1.0","resources":["region"]}"#,
        r#""from":"host","#,
        r#""grants":null"#,
    ] {
        assert!(json.contains(part), "no {part} in {json}");
    }
}

#[test]
fn inspect_of_a_manifest_says_what_is_forbidden_and_granted_as_json() {
    let manifest = MUSIC.replace("calls = [\"audioserver\"]\n", "");
    let app = app(&manifest, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let json = printed(app.path(), &["inspect", "--json"]);
    for part in [
        r#""from":"forbidden","#,
        r#""grants":{"calls":[],"dirs":[{"access":"write","guest":"/music","host":"."}]"#,
    ] {
        assert!(json.contains(part), "no {part} in {json}");
    }
    let said = printed(app.path(), &["inspect"]);
    assert!(
        said.contains("nobody; may not call `audioserver`"),
        "{said}"
    );
    assert!(said.contains("\n  nothing\n"), "{said}");
}

#[test]
fn schema_is_the_one_in_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let schema = include_str!("../../../docs/tombolo.schema.json");
    assert_eq!(printed(dir.path(), &["schema"]), schema);
}

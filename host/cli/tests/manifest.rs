//! The program with manifests.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tombolo_tests::artifacts::{
    CACHE_GALLERY, CACHE_VIEWER, METER_FILLER, METER_METER, MUSIC_AUDIOSERVER, MUSIC_PLAYER,
};
use toml_edit::{Array, DocumentMut, value};

const MUSIC: &str = include_str!("../../../examples/music/tombolo.toml");
const CACHE: &str = include_str!("../../../examples/cache/tombolo.toml");

const METER: &str = include_str!("../../../examples/meter/tombolo.toml");

/// Runs `tombolo` in a directory to its end.
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

/// Returns a changed manifest.
fn edited(manifest: &str, edit: impl FnOnce(&mut DocumentMut)) -> String {
    let mut document: DocumentMut = manifest.parse().unwrap();
    edit(&mut document);
    document.to_string()
}

/// Returns the manifest of `music` in which `player` may not call `audioserver`.
fn without_calls() -> String {
    edited(MUSIC, |manifest| {
        let player = manifest["guests"]["player"].as_table_mut().unwrap();
        player.remove("calls");
    })
}

/// Creates a directory with a manifest and components.
fn app(manifest: &str, components: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tombolo.toml"), manifest).unwrap();
    for component in components {
        let name = Path::new(component).file_name().unwrap();
        std::fs::copy(component, dir.path().join(name)).unwrap();
    }
    dir
}

/// Returns stdout of a run that succeeds.
#[track_caller]
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = tombolo(dir, arguments);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Returns stderr of a run that starts nothing.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = tombolo(dir, arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

/// Returns a WAV file with a tenth of a second of 8 kHz mono silence.
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
fn manifest_in_the_directory_runs_with_arguments() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("in.wav"), wav()).unwrap();
    let output = tombolo(app.path(), ["run", "--json", "--", "/music/in.wav"]);
    assert!(output.status.success(), "{output:?}");
    assert!(app.path().join("music.limited.wav").exists());
    assert!(text(&output.stderr).contains(r#""name":"audioserver""#));
}

#[test] // rule 2
fn live_windows_in_two_strands_are_refused() {
    for strand in [None, Some("other")] {
        let apart = edited(METER, |manifest| {
            let meter = manifest["guests"]["meter"].as_table_mut().unwrap();
            match strand {
                Some(strand) => drop(meter.insert("strand", value(strand))),
                None => drop(meter.remove("strand")),
            }
        });
        let app = self::app(&apart, &[METER_FILLER, METER_METER]);
        let output = tombolo(app.path(), ["run"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = text(&output.stderr);
        let reason = "meter: unsupported: the bytes have live windows in another strand; only \
                      guests of one strand can share live windows: give these guests the same \
                      `strand`";
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

#[test] // rule 1
fn read_only_directory_cannot_be_written() {
    let read_only = edited(MUSIC, |manifest| {
        manifest["guests"]["player"]["dirs"][0]["access"] = value("read");
    });
    let app = app(&read_only, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    std::fs::write(app.path().join("in.wav"), wav()).unwrap();
    let output = tombolo(app.path(), ["run", "--", "/music/in.wav"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!app.path().join("music.limited.wav").exists());
}

#[test] // rule 10
fn limits_of_the_manifest_apply() {
    let short = edited(MUSIC, |manifest| {
        manifest["guests"]["audioserver"]["limits"]["call-time"] = value("1ms");
    });
    let app = app(&short, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let output = tombolo(app.path(), ["run"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("guest `audioserver` was ended"), "{error}");
}

#[test] // rule 8
fn budget_option_overrides_the_manifest() {
    let manifest = edited(CACHE, |manifest| {
        manifest["app"]["budget"] = value("2MiB");
        let args = Array::from_iter(["--make", "6", "--views", "60"]);
        manifest["guests"]["gallery"]["args"] = value(args);
    });
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

#[test] // rule 1
fn forbidden_call_keeps_the_app_from_starting() {
    let manifest = without_calls();
    let app = app(&manifest, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let expected = r#"error: `player` imports `tombolo-examples:music/server@0.1.0`, but is not allowed to call `audioserver`, which exports it
 --> tombolo.toml:5:14
  |
5 | component = "player.wasm"
  |              ^^^^^^^^^^^ may not call the exporter
  |
  = hint: write `calls = ["audioserver"]`

1 error
"#;
    assert_eq!(refused(app.path(), &["run"]), expected);
    assert_eq!(refused(app.path(), &["check"]), expected);
}

#[test]
fn check_reports_several_mistakes_at_once() {
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
            "`budget` must be a size: a number of bytes, or a text such as `64MiB`",
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
fn missing_manifest_hints_at_what_to_name() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["run", "check", "inspect"] {
        let said = refused(dir.path(), &[command]);
        assert!(
            said.contains("there is no `tombolo.toml` in this directory"),
            "{said}"
        );
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
fn oom_score_of_unknown_guest_is_refused() {
    let app = app(MUSIC, &[MUSIC_PLAYER, MUSIC_AUDIOSERVER]);
    let said = refused(app.path(), &["run", "--oom-score", "playr=3"]);
    assert!(said.contains("there is no guest `playr`"), "{said}");
    assert!(said.contains("`player`, `audioserver`"), "{said}");
}

#[test]
fn inspect_shows_links_and_grants() {
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
        "receive from channel events",
        "directory . as /music, write",
        "scope pool, read, share",
        "audioserver (audioserver.wasm)",
        "tombolo-examples:music/server@0.1.0 guest `player`",
        "send to channel events",
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
        said.contains("no guest of the manifest has the component `other.wasm`"),
        "{said}"
    );
}

#[test]
fn inspect_shows_unlinked_imports() {
    let dir = tempfile::tempdir().unwrap();
    let said = printed(dir.path(), &["inspect", MUSIC_PLAYER]);
    let line = said.lines().find(|line| line.contains("music/server"));
    assert!(line.is_some_and(|line| line.ends_with(" none")), "{said}");
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
fn inspect_shows_forbidden_calls_and_grants() {
    let manifest = without_calls();
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
        said.contains("none; not allowed to call `audioserver`"),
        "{said}"
    );
    assert!(said.contains("\n  nothing\n"), "{said}");
}

#[test]
fn schema_equals_the_file_in_docs() {
    let dir = tempfile::tempdir().unwrap();
    let schema = include_str!("../../../docs/tombolo.schema.json");
    assert_eq!(printed(dir.path(), &["schema"]), schema);
}

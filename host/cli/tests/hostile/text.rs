//! Escape sequences in components, and identities that reveal too much.
//!
//! Every text below comes from a component, a guest or a file's name. None may steer a terminal
//! or look like a line of the program.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::guests;
use crate::program::{Running, assert_innocent_is_done, innocent, text, tombolo};

/// A text that clears the screen, sets the title, reverses the direction of writing, hides, and
/// forges a line.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}\
                       \r\nerror: forged\nhint: forged";

/// The same text, escaped.
const SHOWN: &str = r"\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}\r\nerror: forged\nhint: forged";

/// A directory for components and manifests.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().expect("there is a directory for temporary files"))
    }

    /// Writes a file.
    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).expect("the directory is ours");
        path
    }

    /// Writes a component, given in the text format.
    #[track_caller]
    fn component(&self, name: &str, wat: &str) -> PathBuf {
        self.file(name, wat::parse_str(wat).expect("it is well-formed"))
    }
}

/// Returns a string literal of the text format.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for byte in text.bytes() {
        let _ = write!(quoted, "\\{byte:02x}");
    }
    quoted + "\""
}

/// Returns a command with these imports and this core module.
fn command(imports: &str, module: &str) -> String {
    format!(
        "(component
           {imports}
           (core module $m {module} (func (export \"run\") (result i32) i32.const 0))
           (core instance $c (instantiate $m))
           (func $run (result (result)) (canon lift (core func $c \"run\")))
           (instance $i (export \"run\" (func $run)))
           (export \"wasi:cli/run@0.2.0\" (instance $i)))"
    )
}

/// Returns a command that imports an interface with a hostile name.
fn importing() -> String {
    let name = quoted(&format!("url=<{HOSTILE}>"));
    command(
        &format!("(import {name} (instance (export \"f\" (func))))"),
        "",
    )
}

#[track_caller]
fn run(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Output {
    Running::start(&mut tombolo(arguments.into_iter().map(Into::into))).end()
}

/// Checks that a stream contains only text, and no forged line.
#[track_caller]
fn assert_is_text(stream: &[u8]) {
    let text = std::str::from_utf8(stream).expect("the program prints UTF-8");
    for char in text.chars() {
        let steers = matches!(
            char,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{e0000}'..='\u{e007f}'
        );
        let is_text = !char.is_control() || char == '\n';
        assert!(is_text && !steers, "{char:?} is in {text:?}");
    }
    for line in text.lines() {
        let line = line.trim_start_matches([' ', '|', '-']);
        assert!(!line.starts_with("error: forged"), "{text}");
        assert!(!line.starts_with("hint: forged"), "{text}");
    }
}

/// Checks both streams, one of which must contain the escaped text.
#[track_caller]
fn assert_shown(output: &Output, shown: &str) {
    assert_is_text(&output.stdout);
    assert_is_text(&output.stderr);
    let both = text(&output.stdout) + &text(&output.stderr);
    assert!(both.contains(shown), "{shown} is not in {both}");
}

#[track_caller]
fn assert_nothing_started(output: &Output) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// Writes a manifest with one guest.
fn manifest(directory: &Directory, component: &Path) -> PathBuf {
    let component = component
        .file_name()
        .expect("it is a file")
        .to_string_lossy();
    directory.file(
        "tombolo.toml",
        format!("[guests.hostile]\ncomponent = {component:?}\n"),
    )
}

#[test]
fn import_names_are_escaped_by_run() {
    let directory = Directory::new();
    let component = directory.component("hostile.wasm", &importing());
    let output = run([OsString::from("run"), component.into(), innocent().into()]);
    assert_nothing_started(&output);
    assert_shown(&output, &format!("imports `url=<{SHOWN}>`"));
}

#[test]
fn import_names_are_escaped_by_check() {
    let directory = Directory::new();
    let component = directory.component("hostile.wasm", &importing());
    let manifest = manifest(&directory, &component);
    let output = run([OsString::from("check"), "-f".into(), manifest.into()]);
    assert_nothing_started(&output);
    assert_shown(&output, &format!("imports `url=<{SHOWN}>`"));
}

#[test]
fn import_names_are_escaped_by_inspect() {
    let directory = Directory::new();
    let component = directory.component("hostile.wasm", &importing());
    let output = run([
        OsString::from("inspect"),
        component.into(),
        innocent().into(),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_shown(&output, &format!("url=<{SHOWN}>"));
}

#[test]
fn import_names_read_back_from_json_of_inspect() {
    let directory = Directory::new();
    let component = directory.component("hostile.wasm", &importing());
    let output = run([OsString::from("inspect"), "--json".into(), component.into()]);
    assert!(output.status.success(), "{output:?}");
    assert_shown(
        &output,
        r"url=<\u001b[2J\u001b]0;owned\u0007\u009b31m\u202e",
    );
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = &read["guests"][0]["imports"][0]["name"];
    assert_eq!(*name, format!("url=<{HOSTILE}>"));
}

/// wasmtime quotes the names that it refuses.
#[test]
fn names_in_errors_of_wasmtime_are_escaped() {
    let directory = Directory::new();
    let name = quoted(HOSTILE);
    let component = directory.component(
        "hostile.wasm",
        &format!("(component (instance $i) (export {name} (instance $i)))"),
    );
    let manifest = manifest(&directory, &component);
    let component = component.as_os_str();
    for arguments in [
        [OsString::from("run"), component.into(), innocent().into()],
        ["inspect".into(), component.into(), innocent().into()],
        ["check".into(), "-f".into(), manifest.into()],
    ] {
        let output = run(arguments);
        assert_nothing_started(&output);
        assert_shown(&output, SHOWN);
    }
}

/// Backtraces contain the names of functions and modules from the name section.
#[test]
fn names_in_backtraces_are_escaped() {
    let directory = Directory::new();
    let name = quoted(HOSTILE);
    let start = format!("(@name {name}) (func ${name} unreachable) (start ${name})");
    let component = directory.component("hostile.wasm", &command("", &start));
    let output = run([OsString::from("run"), component.into(), innocent().into()]);
    assert_nothing_started(&output);
    assert_shown(&output, &format!("{SHOWN}!{SHOWN}\n"));
    assert_shown(
        &output,
        "cause: wasm trap: wasm `unreachable` instruction executed",
    );
}

#[test]
fn names_in_backtraces_without_line_breaks_are_escaped() {
    let directory = Directory::new();
    let name = quoted("a\x1b[2J\u{202e}\u{85}");
    let start = format!("(@name {name}) (func ${name} unreachable) (start ${name})");
    let component = directory.component("hostile.wasm", &command("", &start));
    let output = run([OsString::from("run"), component.into(), innocent().into()]);
    assert_nothing_started(&output);
    let shown = r"a\u{1b}[2J\u{202e}\u{85}";
    assert_shown(&output, &format!("{shown}!{shown}\n"));
}

#[test]
fn names_of_regions_are_escaped_in_report_and_log() {
    let arguments = [
        OsString::from("run"),
        "-vv".into(),
        "--report".into(),
        guests::HOSTILE_TEXT.into(),
        innocent().into(),
        "--".into(),
        "names".into(),
        HOSTILE.into(),
    ];
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    assert_is_text(&output.stderr);
    let stderr = text(&output.stderr);
    let events = stderr
        .lines()
        .filter(|line| line.contains("region created"));
    assert!(
        events
            .clone()
            .any(|line| line.contains(&format!("region={SHOWN}"))),
        "{stderr}"
    );
    // The rows of the windows and of the region.
    let rows = stderr
        .lines()
        .filter(|line| line.trim_start().starts_with("hostile_text "));
    assert!(
        rows.filter(|line| line.contains(SHOWN)).count() >= 2,
        "{stderr}"
    );
    assert_innocent_is_done(&output);
}

#[test]
fn names_of_regions_are_escaped_in_json() {
    let arguments = [
        OsString::from("run"),
        "--json".into(),
        guests::HOSTILE_TEXT.into(),
        innocent().into(),
        "--".into(),
        "names".into(),
        HOSTILE.into(),
    ];
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    assert_is_text(&output.stderr);
    let stderr = text(&output.stderr);
    let report: Value = serde_json::from_str(&stderr).unwrap();
    assert!(report["guests"].is_array(), "{stderr}");
    assert_innocent_is_done(&output);
}

/// A guest is named after its file, and many messages contain the name.
#[test]
fn names_of_files_are_escaped() {
    let directory = Directory::new();
    let file = format!("{}.wasm", HOSTILE.replace('/', ""));
    let component = std::fs::read(guests::HOSTILE_TEXT).expect("it was built");
    let component = directory.file(&file, component).into_os_string();
    let options = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    for (before, after) in [
        (&["run", "-vv", "--report"][..], &["--", "ids"][..]),
        (&["run", "-vv", "--json"], &["--", "ids"]),
        // The guest panics, and the error names it.
        (&["run"], &["--", "nothing"]),
        (&["inspect"], &[]),
        (&["inspect", "--json"], &[]),
        // An unknown option.
        (&["check"], &[]),
    ] {
        let mut arguments = options(before);
        arguments.push(component.clone());
        let runs = before[0] == "run";
        if runs {
            arguments.push(innocent().into());
        }
        arguments.extend(options(after));
        let output = run(arguments);
        assert_is_text(&output.stdout);
        if !after.contains(&"nothing") {
            assert_is_text(&output.stderr);
        }
        let both = text(&output.stdout) + &text(&output.stderr);
        assert!(both.contains("owned"), "{both}");
        if runs {
            assert_innocent_is_done(&output);
        }
    }
}

#[test]
fn names_of_files_that_cannot_be_read_are_escaped() {
    let directory = Directory::new();
    let empty = directory.file(HOSTILE, "");
    let absent = directory.0.path().join(format!("absent {HOSTILE}"));
    for path in [empty, absent] {
        for verb in ["run", "inspect"] {
            let output = run([OsString::from(verb), path.clone().into()]);
            assert_nothing_started(&output);
            assert_shown(&output, SHOWN);
        }
    }
}

#[test]
fn arguments_are_escaped_in_errors_about_them() {
    let option = format!("--{HOSTILE}");
    for arguments in [
        vec!["run", &option],
        vec!["run", "--limit", HOSTILE, "a.wasm"],
        vec![HOSTILE],
        vec!["inspect", "a.wasm", &option],
    ] {
        let output = run(arguments);
        assert_nothing_started(&output);
        assert_shown(&output, r"\u{1b}[2J");
    }
}

/// Returns the identities of the regions that guests create in one run.
fn ids() -> Vec<u64> {
    let arguments = [
        "run",
        guests::HOSTILE_TEXT,
        guests::HOSTILE_INNOCENT,
        "--",
        "ids",
    ];
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    let stdout = text(&output.stdout);
    let ids = stdout.lines().filter_map(|line| line.strip_prefix("id "));
    ids.map(|id| id.parse().expect("a number")).collect()
}

/// Consecutive numbers would reveal how many regions others create.
#[test] // rule 1
fn ids_of_regions_do_not_count_regions() {
    let (mut ids, others) = (ids(), ids());
    assert_eq!((ids.len(), others.len()), (64, 64));
    assert!(!ids.iter().any(|id| others.contains(id)), "{ids:?}");
    let rising = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((8..56).contains(&rising), "{ids:?}");
    ids.sort_unstable();
    let apart = ids.windows(2).all(|pair| pair[1] - pair[0] > 1 << 24);
    assert!(apart, "{ids:?}");
}

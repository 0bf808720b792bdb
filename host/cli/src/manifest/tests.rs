//! Tests of manifests: rendered problems, the schema and the page.

mod locate;
mod page;
mod random;
mod validator;

use std::path::PathBuf;

use super::shape::{self, Shape, TableShape};
use super::*;
use crate::limit;

/// Returns the path of a file of this repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails unless a file has this text. Writes the text instead if `TOMBOLO_BLESS` is set.
#[track_caller]
fn assert_file(path: &str, text: &str) {
    if std::env::var_os("TOMBOLO_BLESS").is_some() {
        return std::fs::write(file(path), text).unwrap();
    }
    assert!(
        read(path) == text,
        "{path} is not up to date: run this test with TOMBOLO_BLESS=1, and read the difference"
    );
}

/// Returns the rendered problems of a manifest.
fn problems(text: &str) -> String {
    match parse(text) {
        (_, problems) if problems.is_empty() => String::new(),
        (_, problems) => problem::render(NAME, text, &problems, false),
    }
}

const MISTAKES: &str = "src/manifest/tests/mistakes.txt";

/// Returns the name, the manifest and the rendered problems of each entry of that file.
fn mistakes(file: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    file.split("=== ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').expect("a name has a line");
        let (manifest, problems) = rest.split_once("--- problems\n").expect("it has problems");
        (name, manifest, problems)
    })
}

#[test]
fn each_problem_is_shown_at_its_line() {
    let file = read(MISTAKES);
    let mut new = file[..file.find("=== ").unwrap()].to_owned();
    for (name, manifest, before) in mistakes(&file) {
        let now = problems(manifest) + "\n";
        if std::env::var_os("TOMBOLO_BLESS").is_none() {
            assert_eq!(now, before, "{name}");
        }
        new += &format!("=== {name}\n{manifest}--- problems\n{now}");
    }
    assert_file(MISTAKES, &new);
}

#[test]
fn schema_file_is_up_to_date() {
    assert_file("../../docs/tombolo.schema.json", &schema());
}

#[test]
fn schema_accepts_valid_manifests() {
    let examples = ["cache", "frames", "meter", "music"];
    let mut manifests: Vec<String> = examples
        .map(|example| read(&format!("../../examples/{example}/tombolo.toml")))
        .to_vec();
    manifests.push(ALL_KEYS.to_owned());
    for manifest in &manifests {
        assert_eq!(problems(manifest), "", "{manifest}");
        assert_eq!(validator::refusal(manifest), None, "{manifest}");
    }
}

#[test]
fn schema_refuses_mistakes() {
    // A schema cannot express some rules, for example that a name is a guest's.
    const BEYOND: &str = " (beyond the schema)";
    let mut refused = 0;
    let file = read(MISTAKES);
    for (name, manifest, _) in mistakes(&file) {
        if name.ends_with("(not TOML)") {
            continue;
        }
        let refusal = validator::refusal(manifest);
        assert_eq!(
            refusal.is_none(),
            name.ends_with(BEYOND),
            "{name}: {refusal:?}"
        );
        refused += usize::from(refusal.is_some());
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn examples_of_keys_are_valid() {
    fn check(table: &'static TableShape, before: &str, after: &str) {
        for key in table.keys {
            let text = format!("{before}{}{after}", key.example);
            let value = toml_span::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let about = format!("`{}`", key.name);
            for problem in validate::manifest(&value) {
                assert!(!problem.title.starts_with(&about), "{text}: {problem:?}");
                assert!(!problem.title.contains("no key"), "{text}: {problem:?}");
            }
            let (before, after) = (before.to_owned(), after.to_owned());
            match &key.shape {
                Shape::Table(table) => {
                    check(
                        table,
                        &format!("{before}{} = {{ ", key.name),
                        &format!(" }}{after}"),
                    );
                }
                Shape::Names {
                    each: Shape::Table(table),
                    ..
                } => check(
                    table,
                    &format!("{before}{} = {{ x = {{ ", key.name),
                    &format!(" }} }}{after}"),
                ),
                Shape::List(Shape::Table(table)) => check(
                    table,
                    &format!("{before}{} = [{{ ", key.name),
                    &format!(" }}]{after}"),
                ),
                Shape::Either(_, Shape::Table(table)) => {
                    check(
                        table,
                        &format!("{before}{} = {{ ", key.name),
                        &format!(" }}{after}"),
                    );
                }
                _ => {}
            }
        }
    }
    check(&shape::MANIFEST, "", "");
}

#[test]
fn limits_equal_those_of_the_command_line() {
    let mut keys: Vec<&str> = shape::LIMITS.names().collect();
    let mut options: Vec<&str> = limit::names().collect();
    keys.sort_unstable();
    options.sort_unstable();
    assert_eq!(keys, options);
}

/// A manifest with all keys.
const ALL_KEYS: &str = r#"
[app]
budget = "64MiB"
margin = "32MiB"
on-pressure = "kill"
oom-floor = 1
stop-timeout = "3s"
limits = { windows = 16, run-time = "1h 30m" }

[guests.resize]
component = "resize.wasm"
restart = "on-failure"

[guests.decode]
component = "decode.wasm"
args = ["--fast", ""]
env = { KEY = "value" }
pass-env = ["PATH"]
dirs = [
    { host = "images", guest = "/images", access = "read" },
    { host = "out", access = "write" },
    { host = "more" },
]
limits = { memory = "64MiB", call-time = "5s", region-bytes = 65536, run-time = "none" }
oom-score = 700
strand = "front"
calls = ["resize"]
restart = { policy = "on-failure", delay = "200ms", max-delay = "20s", max-restarts = 7, healthy-after = "1m" }

[channels.frames]
from = ["decode"]
to = "resize"
capacity = 8
message-bytes = "64KiB"

[channels.more]
from = ["resize", "decode"]
to = "decode"

[scopes.pool]
members = { resize = ["read"], decode = ["read", "write", "share"] }
"#;

#[test]
fn all_keys_are_read() {
    use std::time::Duration;

    use tombolo_app::{Backoff, ChannelSpec};

    let (manifest, problems) = parse(ALL_KEYS);
    assert_eq!(problems, []);
    assert_eq!(manifest.budget, Some(64 << 20));
    assert_eq!(manifest.margin, Some(32 << 20));
    assert_eq!(manifest.on_pressure, Some(Pressure::Kill));
    assert_eq!(manifest.oom_floor, Some(1));
    assert_eq!(
        manifest.stop_timeout,
        Some(std::time::Duration::from_secs(3))
    );
    let names: Vec<&str> = manifest
        .guests
        .iter()
        .map(|guest| &*guest.name.value)
        .collect();
    assert_eq!(names, ["resize", "decode"], "in the order of the file");
    let [resize, decode] = &manifest.guests[..] else {
        unreachable!();
    };
    assert_eq!(resize.restart, Restart::OnFailure(Backoff::default()));
    assert_eq!(decode.args, ["--fast", ""]);
    assert_eq!(decode.env, [("KEY".to_owned(), "value".to_owned())]);
    assert_eq!(decode.pass_env[0].value, "PATH");
    let dirs: Vec<_> = decode
        .dirs
        .iter()
        .map(|dir| {
            (
                dir.host.value.to_str().unwrap(),
                &*dir.guest.value,
                dir.read_only,
            )
        })
        .collect();
    assert_eq!(
        dirs,
        [
            ("images", "/images", true),
            ("out", "out", false),
            ("more", "more", true)
        ]
    );
    let mut limits = tombolo::Limits::default();
    for limit in manifest.limits.iter().chain(&decode.limits) {
        limit.apply(&mut limits);
    }
    assert_eq!(
        (limits.memory_bytes, limits.region_bytes),
        (64 << 20, 65_536)
    );
    assert_eq!((limits.windows, limits.run_time), (16, None));
    assert_eq!(limits.call_time, Some(Duration::from_secs(5)));
    assert_eq!(
        (decode.oom_score, decode.strand.as_deref()),
        (Some(700), Some("front"))
    );
    assert_eq!(decode.calls[0].value, "resize");
    let backoff = Backoff {
        delay: Duration::from_millis(200),
        max_delay: Duration::from_secs(20),
        max_restarts: 7,
        healthy_after: Duration::from_secs(60),
    };
    assert_eq!(decode.restart, Restart::OnFailure(backoff));
    let [frames, more] = &manifest.channels[..] else {
        panic!("{:?}", manifest.channels);
    };
    assert_eq!((frames.capacity, frames.message_bytes), (8, 64 << 10));
    let defaults = (ChannelSpec::CAPACITY, ChannelSpec::MESSAGE_BYTES);
    assert_eq!((more.capacity, more.message_bytes), defaults);
    assert_eq!(more.from.len(), 2);
    let members: Vec<_> = manifest.scopes[0]
        .members
        .iter()
        .map(|(member, rights)| (&*member.value, *rights))
        .collect();
    assert_eq!(members, [("resize", Rights::READ), ("decode", Rights::ALL)]);
}

#[test]
fn nothing_is_granted_by_default() {
    let (manifest, problems) = parse("guests.a.component = 'a.wasm'");
    assert_eq!(problems, []);
    let guest = &manifest.guests[0];
    assert!(guest.args.is_empty() && guest.env.is_empty() && guest.pass_env.is_empty());
    assert!(guest.dirs.is_empty() && guest.calls.is_empty());
    assert!(manifest.channels.is_empty() && manifest.scopes.is_empty());
    let described = DescribedApp::new(NAME.as_ref(), String::new(), manifest, Vec::new(), u64::MAX);
    assert_eq!(described.grants("a"), DescribedGrants::default());
}

#[test]
fn missing_files_are_shown_at_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let text = "[guests.a]
component = \"no.wasm\"
dirs = [{ host = \"images\" }]
pass-env = [\"SURELY_NOT_SET_ANYWHERE\"]
[guests.b]
component = \"core.wasm\"
";
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let said = open(&path, u64::MAX).unwrap().render(false);
    let here = dir.path().display().to_string();
    let expected = r#"error: cannot read `DIR/no.wasm`
 --> DIR/tombolo.toml:2:14
  |
2 | component = "no.wasm"
  |              ^^^^^^^ No such file or directory (os error 2)

error: cannot open the directory `DIR/images`
 --> DIR/tombolo.toml:3:19
  |
3 | dirs = [{ host = "images" }]
  |                   ^^^^^^ No such file or directory (os error 2)

error: cannot pass on the variable `SURELY_NOT_SET_ANYWHERE`
 --> DIR/tombolo.toml:4:14
  |
4 | pass-env = ["SURELY_NOT_SET_ANYWHERE"]
  |              ^^^^^^^^^^^^^^^^^^^^^^^ environment variable not found
  |
  = hint: `env = { SURELY_NOT_SET_ANYWHERE = "…" }` sets it

error: `DIR/core.wasm` is a core module, not a component
 --> DIR/tombolo.toml:6:14
  |
6 | component = "core.wasm"
  |              ^^^^^^^^^ named here
  |
  = hint: build it with `cargo build --target wasm32-wasip2`, or convert it with `wasm-tools component new`

4 errors
"#;
    assert_eq!(said.replace(&here, "DIR"), expected);
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let depth = 100_000;
        let text = format!("a = {}1{}", open.repeat(depth), close.repeat(depth));
        assert!(problems(&text).starts_with("error: "));
    }
    let dotted = vec!["a"; 100_000].join(".");
    problems(&format!("{dotted} = 1"));
    problems(&format!("[{dotted}]"));
}

#[test]
fn control_characters_are_escaped() {
    let text = "[guests.\"a\\u001b[31m\"]\ncomponent = \"\\u001b\\u0000\"\n";
    assert!(!problems(text).contains('\x1b'));
}

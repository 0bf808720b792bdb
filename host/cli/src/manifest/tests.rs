//! Manifests: their mistakes as they are shown, the schema, and the page.

mod page;
mod places;
mod random;
mod validator;

use std::path::PathBuf;

use super::shape::{self, Shape, Table};
use super::*;
use crate::limit;

/// A file of this repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails if a file is not what it should be, or makes it that, where whoever
/// runs the tests wants it so.
#[track_caller]
fn same(path: &str, text: &str) {
    if std::env::var_os("TOMBOLO_BLESS").is_some() {
        return std::fs::write(file(path), text).unwrap();
    }
    assert!(
        read(path) == text,
        "{path} is not up to date: run this test with TOMBOLO_BLESS=1, and read the difference"
    );
}

/// What is said of a manifest's text.
fn said(text: &str) -> String {
    match parse(text) {
        (_, problems) if problems.is_empty() => String::new(),
        (_, problems) => problem::render(NAME, text, &problems, false),
    }
}

const MISTAKES: &str = "src/cli/manifest/tests/mistakes.txt";

/// The manifests in that file, with a name and what is said of each.
fn mistakes(file: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    file.split("=== ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').expect("a name has a line");
        let (manifest, said) = rest.split_once("--- says\n").expect("something is said");
        (name, manifest, said)
    })
}

#[test]
fn each_mistake_is_shown_at_its_line() {
    let file = read(MISTAKES);
    let mut new = file[..file.find("=== ").unwrap()].to_owned();
    for (name, manifest, before) in mistakes(&file) {
        let now = said(manifest) + "\n";
        if std::env::var_os("TOMBOLO_BLESS").is_none() {
            assert_eq!(now, before, "{name}");
        }
        new += &format!("=== {name}\n{manifest}--- says\n{now}");
    }
    same(MISTAKES, &new);
}

#[test]
fn schema_is_the_one_in_the_repository() {
    same("../../docs/tombolo.schema.json", &schema());
}

#[test]
fn schema_accepts_what_the_parser_accepts() {
    let pages = [
        "../../examples/music/tombolo.toml",
        "../../examples/cache/tombolo.toml",
    ];
    let mut manifests: Vec<String> = pages.map(read).to_vec();
    manifests.push(WHOLE.to_owned());
    for manifest in &manifests {
        assert_eq!(said(manifest), "", "{manifest}");
        assert_eq!(validator::refusal(manifest), None, "{manifest}");
    }
}

#[test]
fn schema_refuses_what_the_parser_refuses() {
    // What no schema can tell: whether a name is a guest's, and the like.
    const BEYOND: &str = " (the schema cannot tell)";
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
fn examples_of_keys_are_right() {
    fn look(table: &'static Table, before: &str, after: &str) {
        for key in table.keys {
            let text = format!("{before}{}{after}", key.example);
            let value = toml_span::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let about = format!("`{}`", key.name);
            for problem in conform::manifest(&value) {
                assert!(!problem.title.starts_with(&about), "{text}: {problem:?}");
                assert!(!problem.title.contains("no key"), "{text}: {problem:?}");
            }
            let (before, after) = (before.to_owned(), after.to_owned());
            match &key.shape {
                Shape::Table(table) => {
                    look(
                        table,
                        &format!("{before}{} = {{ ", key.name),
                        &format!(" }}{after}"),
                    );
                }
                Shape::Names {
                    each: Shape::Table(table),
                    ..
                } => look(
                    table,
                    &format!("{before}{} = {{ x = {{ ", key.name),
                    &format!(" }} }}{after}"),
                ),
                Shape::List(Shape::Table(table)) => look(
                    table,
                    &format!("{before}{} = [{{ ", key.name),
                    &format!(" }}]{after}"),
                ),
                Shape::Either(_, Shape::Table(table)) => {
                    look(
                        table,
                        &format!("{before}{} = {{ ", key.name),
                        &format!(" }}{after}"),
                    );
                }
                _ => {}
            }
        }
    }
    look(&shape::MANIFEST, "", "");
}

#[test]
fn limits_are_those_of_the_command_line() {
    let mut here: Vec<&str> = shape::LIMITS.names().collect();
    let mut there: Vec<&str> = limit::names().collect();
    here.sort_unstable();
    there.sort_unstable();
    assert_eq!(here, there);
}

/// A manifest with all keys.
const WHOLE: &str = r#"
[app]
budget = "64MiB"
margin = "32MiB"
on-pressure = "kill"
floor = 1
grace = "3s"
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
score = 700
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
fn manifest_is_read_in_full() {
    use std::time::Duration;

    use tombolo_app::{Backoff, ChannelSpec};

    let (manifest, problems) = parse(WHOLE);
    assert_eq!(problems, []);
    assert_eq!(manifest.budget, Some(64 << 20));
    assert_eq!(manifest.margin, Some(32 << 20));
    assert_eq!(manifest.on_pressure, Some(Pressure::Kill));
    assert_eq!(manifest.floor, Some(1));
    assert_eq!(manifest.grace, Some(std::time::Duration::from_secs(3)));
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
        (decode.score, decode.strand.as_deref()),
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
fn nothing_is_granted_that_is_not_written() {
    let (manifest, problems) = parse("guests.a.component = 'a.wasm'");
    assert_eq!(problems, []);
    let guest = &manifest.guests[0];
    assert!(guest.args.is_empty() && guest.env.is_empty() && guest.pass_env.is_empty());
    assert!(guest.dirs.is_empty() && guest.calls.is_empty());
    assert!(manifest.channels.is_empty() && manifest.scopes.is_empty());
    let described = Described::new(NAME.as_ref(), String::new(), manifest, Vec::new(), u64::MAX);
    assert_eq!(described.grants("a"), Grants::default());
}

#[test]
fn what_is_missing_beside_the_manifest_is_shown_at_its_line() {
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
  |              ^^^^^^^^^ this one
  |
  = hint: `cargo build --target wasm32-wasip2` makes components; `wasm-tools component new` makes one of a module

4 errors
"#;
    assert_eq!(said.replace(&here, "DIR"), expected);
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let depth = 100_000;
        let text = format!("a = {}1{}", open.repeat(depth), close.repeat(depth));
        assert!(said(&text).starts_with("error: "));
    }
    let dotted = vec!["a"; 100_000].join(".");
    said(&format!("{dotted} = 1"));
    said(&format!("[{dotted}]"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = "[guests.\"a\\u001b[31m\"]\ncomponent = \"\\u001b\\u0000\"\n";
    assert!(!said(text).contains('\x1b'));
}

//! Builds the guests, and generates the constants and macros of `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use tombolo_test_guests::scenarios;
use xtask_guests as guests;

/// The guests of the examples: package, name of the file, name of the constant.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("music-player", "player", "MUSIC_PLAYER"),
    ("music-audioserver", "audioserver", "MUSIC_AUDIOSERVER"),
    ("cache-gallery", "gallery", "CACHE_GALLERY"),
    ("cache-viewer", "viewer", "CACHE_VIEWER"),
    ("embed-plugin", "plugin", "EMBED_PLUGIN"),
    ("frames", "decode", "FRAMES_DECODE"),
    ("frames", "denoise", "FRAMES_DENOISE"),
    ("frames", "sharpen", "FRAMES_SHARPEN"),
    ("frames", "encode", "FRAMES_ENCODE"),
    ("meter", "filler", "METER_FILLER"),
    ("meter", "meter", "METER_METER"),
    ("proxy-guests", "handler", "PROXY_HANDLER"),
    ("proxy-guests", "filter", "PROXY_FILTER"),
];

/// The package of the tests' own guests, each a file of `PROGRAMS`.
const PACKAGE: &str = "tombolo-test-guests";
const PROGRAMS: &str = "guests/src/bin";
/// The group of the guests that belong to `tombolo-test-util`.
const UTIL: &str = "util";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let target = target_directory(&out);

    build(&target);
    let programs = programs(&here.join(PROGRAMS));
    fs::write(out.join("artifacts.rs"), artifacts(&target, &programs)).expect("OUT_DIR is ours");
    fs::write(
        out.join("guests.rs"),
        groups(&here, &out, &target, &programs),
    )
    .expect("OUT_DIR is ours");
    fs::write(out.join("scenarios.rs"), scenarios(&out)).expect("OUT_DIR is ours");
    watch(&here, &target, &programs);
}

/// Returns the target directory. `OUT_DIR` is `<target>/<profile>/build/…`.
fn target_directory(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|directory| directory.ends_with("build"))
        .and_then(|directory| directory.ancestors().nth(2))
        .unwrap_or_else(|| panic!("{} is in no target directory", out.display()))
        .to_owned()
}

fn build(target: &Path) {
    let installed = guests::target_is_installed().expect("cargo tells which compiler to run");
    assert!(
        installed,
        "\n\nThe tests run guests, which are compiled for {0}; this toolchain cannot do that yet.\n\
         Run `cargo xtask demo`, or `rustup target add {0}`.\n",
        guests::TARGET
    );
    let mut packages = vec![PACKAGE];
    packages.extend(EXAMPLES.iter().map(|(package, ..)| package));
    let mut cargo = guests::build(target, &packages);
    if env::var_os("CARGO_CFG_MIRI").is_some() {
        // Miri replaces the compiler, and produces no executables.
        cargo.env_remove("RUSTC").env_remove("RUSTC_WRAPPER");
    }
    // Cargo reads the standard output of this script.
    let status = cargo.stdout(Stdio::null()).status().expect("cargo runs us");
    assert!(
        status.success(),
        "\n\nThe guests do not compile: see above.\n"
    );
}

/// Lists the programs as cargo does: `name.rs` or `name/main.rs`.
fn programs(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a directory can be read to its end").path())
        .filter(|path| {
            path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists()
        })
        .map(|path| {
            let name = path.file_stem().expect("directories name their entries");
            name.to_str().expect("cargo wants UTF-8").to_owned()
        })
        .collect()
}

/// Writes one public constant for each guest.
fn artifacts(target: &Path, programs: &BTreeSet<String>) -> String {
    let mut source = String::new();
    let mut declare = |constant: &str, name: &str, text: &str| {
        let path = guests::artifact(target, name);
        assert!(path.exists(), "{}: not built", path.display());
        writeln!(source, "/// {text}\npub const {constant}: &str = {path:?};").unwrap();
    };
    for (package, name, constant) in EXAMPLES {
        declare(constant, name, &format!("The example guest `{package}`."));
    }
    for name in programs {
        declare(
            &constant(name),
            name,
            &format!("The guest `{PROGRAMS}/{name}`."),
        );
    }
    source
}

/// Writes, for each group, a file of private constants, and the macro that includes it. Because
/// they are private, the compiler sees which are not used.
fn groups(here: &Path, out: &Path, target: &Path, programs: &BTreeSet<String>) -> String {
    let mut groups = BTreeMap::<&str, String>::new();
    for name in programs {
        let (group, _) = name.split_once('_').unwrap_or_else(|| {
            panic!("guest `{name}`: a guest's name is `<test program>_<what it does>`")
        });
        writeln!(
            groups.entry(group).or_default(),
            "pub(crate) const {}: &str = {:?};",
            constant(name),
            guests::artifact(target, name)
        )
        .unwrap();
    }

    let mut arms = String::new();
    for (group, constants) in groups {
        let has_user = ["tests", "../host/cli/tests", "benches"]
            .iter()
            .any(|tests| {
                let program = here.join(tests).join(group);
                program.join("main.rs").exists() || program.with_extension("rs").exists()
            });
        assert!(
            has_user || group == UTIL,
            "no test program or benchmark has the name `{group}`, which the guests \
             `{group}_*` belong to"
        );
        let file = out.join(format!("guests_{group}.rs"));
        fs::write(&file, constants).expect("OUT_DIR is ours");
        writeln!(
            arms,
            "({group}) => {{ #[deny(dead_code)] mod guests {{ include!({file:?}); }} }};"
        )
        .unwrap();
    }
    format!(
        "/// Declares `mod guests`, a constant for each guest of a test program's own.\n\
         ///\n\
         /// A guest that the test program then does not name is a compile error.\n\
         #[macro_export]\nmacro_rules! guests {{\n{arms}}}\n"
    )
}

/// Writes, for each group, a file of private enums, and the macro that includes it. Because
/// they are private, the compiler sees which variants are not used.
fn scenarios(out: &Path) -> String {
    let mut groups = BTreeMap::<&str, String>::new();
    for (group, name, variants) in scenarios::GROUPS {
        let source = groups.entry(group).or_default();
        let mut write = |text: String| source.push_str(&text);
        write(format!(
            "#[derive(Clone, Copy, Debug)]\npub(crate) enum {name} {{\n"
        ));
        for (variant, _) in *variants {
            write(format!("    {variant},\n"));
        }
        write(format!(
            "}}\n\nimpl std::fmt::Display for {name} {{\n\
             fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n\
             f.write_str(match self {{\n"
        ));
        for (variant, text) in *variants {
            write(format!("    Self::{variant} => {text:?},\n"));
        }
        write("})\n}\n}\n\n".to_owned());
    }

    let mut arms = String::new();
    for (group, source) in groups {
        let file = out.join(format!("scenarios_{group}.rs"));
        fs::write(&file, source).expect("OUT_DIR is ours");
        writeln!(
            arms,
            "({group}) => {{ #[deny(dead_code)] mod scenarios {{ include!({file:?}); }} }};"
        )
        .unwrap();
    }
    format!(
        "/// Declares `mod scenarios`, an enum of the scenarios of each guest of a test program.\n\
         ///\n\
         /// A scenario that the test program then does not name is a compile error.\n\
         #[macro_export]\nmacro_rules! scenarios {{\n{arms}}}\n"
    )
}

fn constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// Makes cargo run this script again if a source of a guest changes.
fn watch(here: &Path, target: &Path, programs: &BTreeSet<String>) {
    let root = here.parent().expect("a member lies in its workspace");
    let mut files = BTreeSet::from([
        here.join("build.rs"),
        here.join("guests/src/scenarios.rs"),
        // A program may be added or removed.
        here.join(PROGRAMS),
        here.join("guests/Cargo.toml"),
        root.join("Cargo.toml"),
        root.join("Cargo.lock"),
    ]);
    let examples = EXAMPLES.iter().map(|(_, name, _)| *name);
    for name in examples.chain(programs.iter().map(String::as_str)) {
        let list = guests::artifact(target, name).with_extension("d");
        let list =
            fs::read_to_string(&list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
        files.extend(sources(&list).map(|file| root.join(file)));
    }
    let manifests: Vec<_> = files
        .iter()
        .flat_map(|file| file.ancestors())
        .map(|directory| directory.join("Cargo.toml"))
        .filter(|manifest| manifest.starts_with(root) && manifest.exists())
        .collect();
    files.extend(manifests);
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
}

/// Returns the files in one of cargo's lists: `target: file file`, in which spaces in names are
/// escaped.
fn sources(list: &str) -> impl Iterator<Item = String> {
    const SPACE: &str = "\0";
    list.lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, files)| {
            let files = files.replace("\\ ", SPACE);
            let files: Vec<_> = files
                .split_whitespace()
                .map(|it| it.replace(SPACE, " "))
                .collect();
            files
        })
}

//! Checks every code block of the README and the other pages, by its language:
//!
//! | language | check |
//! |---|---|
//! | `console` | runs the commands after `$ ` and compares what they print |
//! | `sh` | each option of `tombolo` exists |
//! | `toml` | is a manifest, except for files that it names |
//! | `wit` | parses, with the packages in `wit` |
//! | `c` | passes `cc -fsyntax-only` |
//! | `rust` | is in the source file that a comment names |
//!
//! Comments before a block change that:
//!
//! - `<!-- app: music -->` selects the example in whose directory the commands run. Pages of
//!   examples have their own.
//! - `<!-- setup: COMMANDS -->` runs shell commands first.
//! - `<!-- any order -->` ignores the order of lines.
//! - `<!-- output of: COMMAND -->` makes a `text` block the output of a command.
//! - `<!-- from: PATH -->` names the source file of a `rust` block. A line `// ...` stands for any
//!   lines.
//! - `<!-- checked by: TEST -->` names another test that checks the block.
//! - `<!-- unchecked: REASON -->` exempts the block.
//!
//! Times and rates are normalised, runs of spaces count as one, and a line `...` stands for any
//! lines. All console blocks of a page with the same example share a directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex_lite::Regex;
use tempfile::TempDir;
use tombolo_tests::artifacts::{
    CACHE_GALLERY, CACHE_VIEWER, FRAMES_DECODE, FRAMES_DENOISE, FRAMES_ENCODE, FRAMES_SHARPEN,
    METER_FILLER, METER_METER, MUSIC_AUDIOSERVER, MUSIC_PLAYER,
};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A fenced block of a page.
struct Block {
    /// The page's path from the root of the repository.
    page: String,
    /// The line of the opening fence.
    line: usize,
    language: String,
    /// The last line of text before the block.
    before: String,
    /// The comments before the block.
    comments: Vec<String>,
    text: String,
}

impl Block {
    /// Returns the value of a comment, as `music` of `<!-- app: music -->`.
    fn comment(&self, key: &str) -> Option<&str> {
        let mut comments = self.comments.iter();
        comments.find_map(|comment| comment.strip_prefix(key)?.strip_prefix(": "))
    }

    fn is_exempt(&self) -> bool {
        let exempting = ["unchecked", "checked by", "output of"];
        exempting.iter().any(|key| self.comment(key).is_some())
    }

    /// Returns the example in whose directory the commands run.
    fn app(&self) -> Option<&str> {
        self.comment("app").or_else(|| {
            let example = self.page.strip_prefix("examples/")?;
            example.strip_suffix("/README.md")
        })
    }

    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// Returns the pages: Markdown files of the root, `docs`, `examples` and `guest-sdk`.
fn pages() -> Vec<PathBuf> {
    fn collect(directory: &Path, depth: usize, pages: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && depth > 0 {
                collect(&path, depth - 1, pages);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    collect(&root(), 0, &mut pages);
    for directory in ["docs", "examples", "guest-sdk"] {
        collect(&root().join(directory), 2, &mut pages);
    }
    pages.sort();
    pages
}

/// Returns the blocks of all pages that have one of these languages and are not exempt.
fn blocks(languages: &[&str]) -> Vec<Block> {
    let mut all = all_blocks();
    all.retain(|block| languages.contains(&&*block.language) && !block.is_exempt());
    all
}

fn all_blocks() -> Vec<Block> {
    let pages = pages();
    assert!(pages.len() > 8, "{pages:?}");
    pages.iter().flat_map(|page| blocks_of(page)).collect()
}

fn blocks_of(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let page = page.strip_prefix(root()).unwrap().display().to_string();
    let mut blocks = Vec::new();
    let mut before = "";
    let mut comments = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim_start();
        if let Some(language) = trimmed.strip_prefix("```") {
            let indent = line.len() - trimmed.len();
            let text: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim_start() != "```")
                .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
                .collect();
            blocks.push(Block {
                page: page.clone(),
                line: index + 1,
                language: language.split([',', ' ']).next().unwrap().to_owned(),
                before: before.to_owned(),
                comments: std::mem::take(&mut comments),
                text,
            });
        } else if let Some(comment) = trimmed.strip_prefix("<!-- ") {
            let comment = comment.strip_suffix(" -->").unwrap_or_default();
            comments.push(comment.to_owned());
        } else if !trimmed.is_empty() {
            before = line;
            comments.clear();
        }
    }
    blocks
}

#[test]
fn every_block_has_a_check() {
    let checked = ["console", "sh", "toml", "wit", "c", "rust"];
    let unknown: Vec<String> = all_blocks()
        .iter()
        .filter(|block| !block.is_exempt() && !checked.contains(&&*block.language))
        .map(|block| format!("{}: `{}`", block.place(), block.language))
        .collect();
    assert!(
        unknown.is_empty(),
        "these blocks have no check; give them another language, or write `<!-- unchecked: REASON \
         -->` before them:\n{}",
        unknown.join("\n")
    );
}

/// Creates the directory of an app, as `cargo xtask` does.
fn app(example: &str) -> TempDir {
    let (components, directories): (&[&str], &[&str]) = match example {
        "music" => (&[MUSIC_PLAYER, MUSIC_AUDIOSERVER], &[]),
        "cache" => (&[CACHE_GALLERY, CACHE_VIEWER], &["pictures"]),
        "frames" => (
            &[FRAMES_DECODE, FRAMES_DENOISE, FRAMES_SHARPEN, FRAMES_ENCODE],
            &["images", "out"],
        ),
        "meter" => (&[METER_FILLER, METER_METER], &[]),
        other => panic!("there is no app `{other}`"),
    };
    let directory = tempfile::tempdir().unwrap();
    let manifest = root().join(format!("examples/{example}/tombolo.toml"));
    fs::copy(manifest, directory.path().join("tombolo.toml")).unwrap();
    for component in components {
        let name = Path::new(component).file_name().unwrap();
        fs::copy(component, directory.path().join(name)).unwrap();
    }
    for name in directories {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    directory
}

/// Runs shell commands in a directory, and returns what they print.
fn run(commands: &str, directory: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_tombolo")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{commands}")])
        .env("PATH", format!("{}:{path}", program.display()))
        // Some warnings depend on the machine.
        .env("TOMBOLO_LOG", "error")
        .current_dir(directory)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the commands of a console block, each with the output that the page shows.
fn sessions(block: &Block) -> Vec<(String, String)> {
    if let Some(command) = block.comment("output of") {
        return vec![(command.to_owned(), block.text.clone())];
    }
    let mut sessions: Vec<(String, String)> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), sessions.last_mut()) {
            (Some(command), _) => sessions.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => writeln!(output, "{line}").unwrap(),
            (None, None) => panic!("{}: it begins without a command", block.place()),
        }
    }
    sessions
}

/// Returns the command to run for one of a page. `cargo xtask demo` and the like build an
/// example and run it.
fn command(shown: &str) -> Option<&str> {
    const PROGRAMS: [&str; 6] = ["tombolo", "head", "printf", "cat", "ls", "rm"];
    let builds_and_runs = ["demo", "frames", "meter"].map(|task| format!("cargo xtask {task}"));
    if builds_and_runs.iter().any(|task| task == shown) {
        return Some("tombolo run");
    }
    let mut parts = shown.split(['|', ';', '&']).filter(|part| !part.is_empty());
    let is_known = |part: &str| {
        let program = part.split_whitespace().next();
        program.is_some_and(|program| PROGRAMS.contains(&program))
    };
    parts.all(is_known).then_some(shown)
}

/// Replaces measured times and rates, and joins spaces.
fn normalise(text: &str, any_order: bool) -> Vec<String> {
    let patterns = [
        (r"[0-9][0-9.,]* ?(ns|us|µs|ms)\b", "TIME"),
        (r"[0-9][0-9.,]* times", "N times"),
        // A guest that has nothing to do prints no rate.
        (r"[1-9][0-9]*\.[0-9] frames/s", "N frames/s"),
        (r"\([0-9]{6,}\)", "(ID)"),
    ];
    let patterns = patterns.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name));
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let line = words.join(" ");
            patterns.iter().fold(line, |line, (pattern, name)| {
                pattern.replace_all(&line, *name).into_owned()
            })
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    if any_order {
        lines.sort();
    }
    lines
}

/// Returns whether lines match a pattern, in which `...` stands for any lines.
fn matches(lines: &[String], pattern: &[String]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=lines.len()).any(|skipped| matches(&lines[skipped..], rest))
        }
        Some((first, rest)) => lines.first() == Some(first) && matches(&lines[1..], rest),
    }
}

#[test]
fn commands_print_what_pages_show() {
    let mut directories: BTreeMap<(String, String), TempDir> = BTreeMap::new();
    let mut count = 0;
    let has_output = |block: &Block| {
        block.comment("output of").is_some() || block.language == "console" && !block.is_exempt()
    };
    for block in all_blocks().into_iter().filter(has_output) {
        let place = block.place();
        let example = block
            .app()
            .unwrap_or_else(|| panic!("{place}: select an app by `<!-- app: NAME -->`"));
        let directory = directories
            .entry((block.page.clone(), example.to_owned()))
            .or_insert_with(|| app(example));
        if let Some(setup) = block.comment("setup") {
            let printed = run(setup, directory.path());
            assert_eq!(printed, "", "{place}: setup");
        }
        let any_order = block.comments.iter().any(|comment| comment == "any order");
        for (shown, expected) in sessions(&block) {
            let Some(command) = command(&shown) else {
                panic!("{place}: this test cannot run `{shown}`");
            };
            let printed = run(command, directory.path());
            assert!(
                matches(
                    &normalise(&printed, any_order),
                    &normalise(&expected, any_order)
                ),
                "{place}: `{shown}` printed:\n{printed}"
            );
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn named_tests_exist() {
    let mut tests = String::new();
    for directory in ["host/cli/tests", "examples/embed/tests"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                tests += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for block in all_blocks() {
        if let Some(test) = block.comment("checked by") {
            let function = format!("fn {test}(");
            assert!(tests.contains(&function), "{}: no `{test}`", block.place());
        }
    }
}

/// Follows `docs/guests.md`: runs its commands, and writes its files at the paths before them.
#[test]
fn guests_of_the_tutorial_run() {
    let page = root().join("docs/guests.md");
    let mut script = "set -e\ntop=$PWD/sums\n".to_owned();
    for block in blocks_of(&page) {
        let path = block.before.strip_prefix('`');
        let path = path.and_then(|path| path.strip_suffix("`:"));
        match (&*block.language, path) {
            ("sh", _) => script += &block.text,
            ("text", _) => {
                let directory = tempfile::tempdir().unwrap();
                let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tutorial");
                let setup = format!(
                    "export TOMBOLO={:?} CARGO_BUILD_BUILD_DIR={target:?} CARGO_TERM_QUIET=true\n\
                     unset CARGO_TARGET_DIR CARGO_MANIFEST_DIR\n",
                    root().canonicalize().unwrap()
                );
                let printed = run(&(setup + &script), directory.path());
                let last = printed.lines().last().unwrap_or_default();
                assert_eq!(last, block.text.trim_end(), "{printed}");
                return;
            }
            (_, Some(path)) => {
                writeln!(script, "cat > $top/{path} <<'END'\n{}END", block.text).unwrap();
            }
            _ => {}
        }
    }
    panic!("the page shows no output");
}

/// The table of budgets in the example's README.
#[test]
fn cache_table_shows_hits_and_commits() {
    /// Memory pressure on a busy machine purges more than the budget asks for, so a row is
    /// tried several times. A wrong row never matches.
    const TRIES: usize = 10;
    let page = fs::read_to_string(root().join("examples/cache/README.md")).unwrap();
    let row = Regex::new(r"(?m)^([0-9]+) MiB +([0-9.]+) % +([0-9]+) +([0-9.]+) MiB$").unwrap();
    let rows: Vec<_> = row.captures_iter(&page).collect();
    assert_eq!(rows.len(), 4);
    let directory = app("cache");
    for row in rows {
        let expected = [&row[2], &row[3], &row[4]].map(str::to_owned);
        let tries: Vec<_> = (0..TRIES)
            .map(|_| cache_row(directory.path(), &row[1]))
            .take_while(|found| *found != expected)
            .collect();
        assert!(tries.len() < TRIES, "{}: {tries:?}", &row[0]);
    }
}

/// Runs the cache example, and returns the hit rate in percent, the misses, and the most
/// memory that was committed, in MiB.
fn cache_row(directory: &Path, budget: &str) -> [String; 3] {
    let command = format!("tombolo run --json --budget {budget}MiB 2>report.json");
    let printed = normalise(&run(&command, directory), false);
    let value = |name: &str| {
        let line = printed.iter().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no `{name}` in {printed:?}"))
    };
    let report = fs::read_to_string(directory.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let committed = report["budget"]["committed_peak"].as_f64().unwrap() / f64::from(1 << 20);
    [
        value("hit rate ").trim_end_matches(" %").to_owned(),
        value("misses ").to_owned(),
        format!("{committed:.1}"),
    ]
}

#[test]
fn options_of_shell_commands_exist() {
    let option = Regex::new(r"(^| )(--?[a-z][a-z-]*)").unwrap();
    for block in blocks(&["sh"]) {
        for line in block.text.replace("\\\n", " ").lines() {
            let Some(arguments) = line.trim_start().strip_prefix("tombolo ") else {
                continue;
            };
            let arguments = arguments.split(" -- ").next().unwrap();
            let arguments = arguments.split('#').next().unwrap();
            let subcommand = arguments.split_whitespace().next().unwrap();
            let help = run(&format!("tombolo {subcommand} --help"), &root());
            for found in option.captures_iter(arguments) {
                let found = &found[2];
                let known = help.contains(&format!(" {found} "))
                    || help.contains(&format!(" {found},"))
                    || help.contains(&format!(" {found}\n"));
                assert!(known, "{}: no `{found}` in\n{help}", block.place());
            }
        }
    }
}

/// `tombolo check` finds nothing but missing files.
#[test]
fn toml_blocks_are_manifests() {
    let mut count = 0;
    for block in blocks(&["toml"]) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tombolo.toml"), &block.text).unwrap();
        let printed = run("tombolo check", directory.path());
        let errors = printed.lines().filter(|line| line.starts_with("error: "));
        for error in errors {
            let is_missing_file = ["cannot read `", "cannot open the directory `"]
                .iter()
                .any(|start| error.starts_with(&format!("error: {start}")));
            assert!(is_missing_file, "{}:\n{printed}", block.place());
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn wit_blocks_parse() {
    let mut count = 0;
    for block in blocks(&["wit"]) {
        let mut resolve = Resolve::default();
        // With `wit/memory` as a dependency.
        resolve.push_path(root().join("wit/memory")).unwrap();
        let text = &block.text;
        let is_definition = |line: &str| {
            let word = line.split_whitespace().next();
            word.is_some_and(|word| ["package", "interface", "world"].contains(&word))
        };
        let text = match text.lines().any(is_definition) {
            true => text.clone(),
            false => format!("interface page {{\n{text}}}\n"),
        };
        let text = match text.contains("package ") {
            true => text,
            false => format!("package example:page;\n{text}"),
        };
        let parsed = UnresolvedPackageGroup::parse(block.place(), &text)
            .unwrap_or_else(|(_, error)| panic!("{}: {error}", block.place()));
        let pushed = resolve.push_group(parsed);
        pushed.unwrap_or_else(|error| panic!("{}: {error:#}", block.place()));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn c_blocks_compile() {
    for block in blocks(&["c"]) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("block.c"), &block.text).unwrap();
        let printed = run("cc -fsyntax-only -Wall block.c", directory.path());
        assert_eq!(printed, "", "{}", block.place());
    }
}

/// Each Rust block is a part of a file that is compiled.
#[test]
fn rust_blocks_are_in_sources() {
    let mut count = 0;
    for block in blocks(&["rust"]) {
        let place = block.place();
        let path = block
            .comment("from")
            .unwrap_or_else(|| panic!("{place}: name its source by `<!-- from: PATH -->`"));
        let source = fs::read_to_string(root().join(path)).unwrap();
        let source: Vec<&str> = source.lines().collect();
        let mut rest = &source[..];
        for part in block.text.split("// ...\n") {
            let part: Vec<&str> = part.trim_matches('\n').lines().collect();
            let end = end_of(&part, rest)
                .unwrap_or_else(|| panic!("{place}: `{path}` does not have\n{}", part.join("\n")));
            rest = &rest[end..];
        }
        count += 1;
    }
    assert!(count > 0);
}

/// Returns where `part`, indented by any number of spaces, ends in `source`.
fn end_of(part: &[&str], source: &[&str]) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut ends = part.len()..=source.len();
    ends.find(|end| {
        let lines = &source[end - part.len()..*end];
        let depth = lines.first().map_or(0, |line| indent(line));
        let mut pairs = lines.iter().zip(part);
        pairs.all(|(line, part)| match part.is_empty() {
            true => line.is_empty(),
            false => *line == format!("{:depth$}{part}", ""),
        })
    })
}

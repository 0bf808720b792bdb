//! Reads what `cargo test` prints.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// A test program that has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// The name by which cargo calls it, for example `tests/cli.rs`.
    pub(crate) name: String,
    pub(crate) tally: Tally,
    /// The names of the tests that failed. A program that ended before its tests counts as
    /// a failed test without a name.
    pub(crate) failed: Vec<String>,
    /// Whether it ended without the result of all of its tests.
    pub(crate) crashed: bool,
    /// How many tests each reason for being ignored has. Without a reason it is empty.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// All that it printed, and what cargo printed about it.
    pub(crate) output: String,
}

/// The meaning of a line of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The line is part of a test program's output.
    Output,
    /// Cargo printed the line before the first test program.
    Cargo,
    /// The program has ended, before the line.
    Ended(Program),
}

/// Follows the output of `cargo test`, line by line.
#[derive(Default)]
pub(crate) struct Parser {
    current: Option<Section>,
}

impl Parser {
    /// Reads the next line, which has no line feed.
    pub(crate) fn line(&mut self, line: &str) -> Event {
        let plain = without_colours(line);
        if let Some(name) = program(&plain) {
            let ended = self
                .current
                .replace(Section::new(name, plain.contains("Doc-tests")));
            return ended.map_or(Event::Output, |it| Event::Ended(it.end()));
        }
        match &mut self.current {
            Some(section) => {
                section.line(line, &plain);
                Event::Output
            }
            None => Event::Cargo,
        }
    }

    /// Returns the last program.
    pub(crate) fn end(self) -> Option<Program> {
        self.current.map(Section::end)
    }
}

/// Returns the name in the line with which cargo announces a test program.
fn program(line: &str) -> Option<String> {
    if let Some(library) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("examples in the documentation of {library}"));
    }
    let (name, file) = line.strip_prefix("     Running ")?.rsplit_once(" (")?;
    let file = file.strip_suffix(')')?.rsplit(['/', '\\']).next()?;
    // The hash behind the name says nothing.
    let (krate, _) = file.rsplit_once('-')?;
    Some(format!(
        "{krate}: {}",
        name.strip_prefix("unittests ").unwrap_or(name)
    ))
}

/// A test program that runs.
struct Section {
    program: Program,
    /// How many tests the program has announced and not yet reported.
    announced: Option<u64>,
    /// Whether the tests are examples in the documentation.
    is_documentation: bool,
    /// Whether cargo reported that it failed.
    has_failed: bool,
    /// Whether names of failed tests follow.
    lists_failures: bool,
}

impl Section {
    fn new(name: String, is_documentation: bool) -> Section {
        Section {
            program: Program {
                name,
                ..Program::default()
            },
            announced: None,
            is_documentation,
            has_failed: false,
            lists_failures: false,
        }
    }

    fn line(&mut self, line: &str, plain: &str) {
        self.program.output.push_str(line);
        self.program.output.push('\n');
        if self.announced.is_none() {
            self.announced = announced(plain);
        } else if let Some(reason) = ignored(plain) {
            let reason = match reason {
                "" if self.is_documentation => "marked `ignore` in the documentation",
                reason => reason,
            };
            *self.program.reasons.entry(reason.to_owned()).or_default() += 1;
        } else if let Some((tally, others)) = result(plain) {
            // A failed test may have printed such a line as well. The program's own counts
            // all tests that it announced.
            let tests = tally.passed + tally.failed + tally.skipped + others;
            if self.announced == Some(tests) {
                self.program.tally.add(tally);
                self.announced = None;
            }
        }
        if plain.starts_with("error: test failed") || plain.starts_with("error: doctest failed") {
            self.has_failed = true;
        }
        match plain.strip_prefix("    ") {
            Some(name) if self.lists_failures => self.program.failed.push(name.to_owned()),
            _ => self.lists_failures = plain == "failures:",
        }
    }

    fn end(mut self) -> Program {
        let lost = self.announced.is_some();
        let silent = self.has_failed && self.program.tally.failed == 0;
        if lost || silent {
            self.program.crashed = true;
            self.program.tally.failed += 1;
        }
        self.program
    }
}

/// Reads `running 12 tests`.
fn announced(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("running ")?;
    let (number, _) = rest.split_once(" test")?;
    number.parse().ok()
}

/// Reads the reason in `test a::b ... ignored, needs root`.
fn ignored(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some(rest.strip_prefix(", ").unwrap_or(rest))
}

/// Reads `test result: ok. 12 passed; 0 failed; …`, and how many tests were measured.
fn result(line: &str) -> Option<(Tally, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let mut counts = counts.split("; ").filter_map(|it| it.split_once(' '));
        let (number, _) = counts.find(|(_, name)| *name == what)?;
        number.parse().ok()
    };
    let tally = Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    };
    Some((tally, count("measured")?))
}

/// Removes the escape sequences by which programs colour their output.
fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains('\x1b') {
        return line.trim_end_matches('\r').into();
    }
    let mut pieces = line.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of cargo for a crate whose tests end in each way.
    const OUTPUT: &str = include_str!("../fixtures/cargo-test.txt");

    fn programs(output: &str) -> Vec<Program> {
        let mut parser = Parser::default();
        let mut programs = Vec::new();
        for line in output.lines() {
            if let Event::Ended(program) = parser.line(line) {
                programs.push(program);
            }
        }
        programs.extend(parser.end());
        programs
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn each_program_has_its_tally() {
        let programs = programs(OUTPUT);
        let tallies: Vec<_> = programs.iter().map(|it| (&*it.name, it.tally)).collect();
        assert_eq!(
            tallies,
            [
                ("fixture: src/lib.rs", tally(2, 1, 2)),
                ("crash: tests/crash.rs", tally(0, 1, 0)),
                ("early: tests/early.rs", tally(0, 1, 0)),
                ("exit: tests/exit.rs", tally(0, 1, 0)),
                ("good: tests/good.rs", tally(1, 0, 0)),
                ("examples in the documentation of fixture", tally(2, 1, 0)),
            ]
        );
    }

    #[test]
    fn crashed_programs_are_named() {
        let programs = programs(OUTPUT);
        let crashed = programs.iter().filter(|it| it.crashed);
        let crashed: Vec<_> = crashed
            .map(|it| it.name.split(':').next().unwrap())
            .collect();
        assert_eq!(crashed, ["crash", "early", "exit"]);
        assert!(programs[1].output.contains("SIGABRT"));
    }

    #[test]
    fn failed_tests_are_named_with_their_output() {
        let programs = programs(OUTPUT);
        assert_eq!(programs[0].failed, ["tests::breaks"]);
        assert!(programs[0].output.contains("panicked at src/lib.rs"));
        assert_eq!(programs[5].failed, ["src/lib.rs - add (line 8)"]);
    }

    #[test]
    fn reasons_for_skipping_are_counted() {
        let reasons = &programs(OUTPUT)[0].reasons;
        assert_eq!(reasons["needs root, to create a memory cgroup"], 1);
        assert_eq!(reasons[""], 1);
    }

    #[test]
    fn ignored_examples_have_a_reason() {
        let text = "   Doc-tests a\nrunning 1 test\ntest src/lib.rs - (line 4) ... ignored\n";
        let reasons = &programs(text)[0].reasons;
        assert_eq!(reasons["marked `ignore` in the documentation"], 1);
    }

    #[test]
    fn result_inside_of_a_failure_is_not_counted() {
        // The fixture's failed test prints `running 2 tests` and `9 passed`.
        assert!(OUTPUT.contains("\ntest result: ok. 9 passed"));
        assert_eq!(programs(OUTPUT)[0].tally.passed, 2);
    }

    #[test]
    fn colours_do_not_matter() {
        let text = "\x1b[1m\x1b[92m     Running\x1b[0m unittests src/main.rs (target/a-0123)\n\
                    running 1 test\ntest a ... \x1b[32mok\x1b[0m\n\n\
                    test result: \x1b[32mok\x1b[0m. 1 passed; 0 failed; 0 ignored; \
                    0 measured; 7 filtered out; finished in 0.00s\n";
        let programs = programs(text);
        assert_eq!(programs.len(), 1);
        assert_eq!(programs[0].name, "a: src/main.rs");
        assert_eq!(programs[0].tally, tally(1, 0, 0));
    }

    #[test]
    fn program_with_its_own_harness_is_believed() {
        let text = "     Running benches/a.rs (target/a-0123)\nall is well\n";
        assert_eq!(programs(text)[0].tally, Tally::default());
        let text = format!("{text}error: test failed, to rerun pass `--bench a`\n");
        assert_eq!(programs(&text)[0].tally, tally(0, 1, 0));
        assert!(programs(&text)[0].crashed);
    }

    #[test]
    fn lines_before_the_first_program_are_cargos() {
        let mut parser = Parser::default();
        assert_eq!(parser.line("   Compiling a v0.1.0"), Event::Cargo);
        assert_eq!(
            parser.line("     Running tests/a.rs (target/a-01)"),
            Event::Output
        );
        assert_eq!(parser.line("running 0 tests"), Event::Output);
    }
}

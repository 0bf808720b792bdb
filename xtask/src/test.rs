//! `cargo xtask test`: all tests, and one line that sums up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, pipe};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::libtest::{Event, Parser, Program, Tally};
use crate::{packages, run, toolchain};

/// The arguments with which tests print while they run.
const SHOWING: &[&str] = &["--nocapture", "--no-capture", "--show-output"];

/// The test programs in which windows end.
const PARKED: &[&str] = &[
    "calls", "contexts", "death", "faults", "lends", "live", "pins", "pressure", "ring", "tearing",
    "windows",
];

/// The test programs that run guests on engines which can have concurrency support.
const CONCURRENT: &[&str] = &[
    "calls",
    "contexts",
    "death",
    "embedders",
    "faults",
    "lends",
    "live",
    "pins",
    "pipes",
    "pressure",
    "ring",
    "waits",
    "windows",
];

/// Runs all tests, also after some failed.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let mut selections = vec![
        Selection::new("the host, with guests in it", &[], &[]),
        Selection::new(
            "the guests, compiled natively",
            packages::NATIVE_GUESTS,
            &[],
        ),
        Selection::new(
            "the commands of this repository",
            &[packages::TOOLS],
            &["--profile", packages::TOOLS_PROFILE],
        ),
    ];
    for package in packages::RACES {
        selections.push(Selection::new(package, &[package], &[]));
    }
    run_selections(&selections, arguments)
}

/// Runs the tests that are ignored by default, because not every machine can run them.
pub(crate) fn run_ignored() -> Result<ExitCode> {
    // Not the examples in the documentation: those are ignored for good.
    let targets = ["--lib", "--bins", "--tests"];
    let selection = Selection::new("what needs root, and a kernel with PSI", &[], &targets);
    run_selections(&[selection], &["--ignored".into()])
}

/// Runs the tests in which windows end, with the mappings of all of them parked: from one page on,
/// and not from the size from which it pays.
pub(crate) fn run_parked() -> Result<ExitCode> {
    let name = "windows, all of which are parked";
    run_programs(name, &["--lib"], PARKED, ("TOMBOLO_PARK_FROM", "4096"))
}

/// Runs the tests of guests on engines with concurrency support. By default they run without.
pub(crate) fn run_concurrent() -> Result<ExitCode> {
    let name = "guests, on engines with concurrency";
    run_programs(name, &[], CONCURRENT, ("TOMBOLO_TEST_CONCURRENCY", "1"))
}

fn run_programs(
    name: &'static str,
    targets: &[&str],
    programs: &[&str],
    environment: (&'static str, &'static str),
) -> Result<ExitCode> {
    let mut targets = targets.to_vec();
    for program in programs {
        targets.extend(["--test", program]);
    }
    let mut selection = Selection::new(name, &[], &targets);
    selection.environment = Some(environment);
    run_selections(&[selection], &[])
}

/// A selection of tests that cargo builds and runs together.
struct Selection {
    name: &'static str,
    /// An environment variable for the tests.
    environment: Option<(&'static str, &'static str)>,
    /// The packages; the default members if there are none.
    packages: Vec<String>,
    /// Further arguments of cargo.
    arguments: Vec<String>,
}

impl Selection {
    fn new(name: &'static str, packages: &[&str], arguments: &[&str]) -> Selection {
        Selection {
            name,
            environment: None,
            packages: packages.iter().map(|&it| it.to_owned()).collect(),
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    fn command(&self) -> Command {
        let mut cargo = run::cargo("test");
        cargo.arg("--no-fail-fast").args(&self.arguments);
        cargo.envs(self.environment);
        for package in &self.packages {
            cargo.args(["--package", package]);
        }
        cargo
    }
}

fn run_selections(selections: &[Selection], arguments: &[OsString]) -> Result<ExitCode> {
    toolchain::add_target()?;
    let shows = arguments
        .iter()
        .any(|it| SHOWING.iter().any(|shown| it == shown));
    let mut summary = Summary::default();
    for selection in selections {
        let name = selection.name;
        eprintln!("Testing {name}");
        // By itself, so that cargo has the terminal and can show its progress.
        // With messages in JSON, cargo lists no test programs.
        let mut build = selection.command();
        build.args(["--no-run", "--message-format", "json-render-diagnostics"]);
        let status = build
            .stdout(Stdio::null())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            summary
                .broken
                .push(format!("{name}: the tests do not compile, see above"));
            continue;
        }
        let ended_well = follow(
            selection.command().arg("--").args(arguments),
            shows,
            &mut summary,
        )?;
        if !ended_well && summary.tally.failed == 0 {
            summary
                .broken
                .push(format!("{name}: cargo failed, see above"));
        }
    }
    print!("{}", summary.render());
    Ok(match summary.has_failed() {
        false => ExitCode::SUCCESS,
        true => ExitCode::FAILURE,
    })
}

/// Runs `cargo test`, prints a line for each program and the whole output of those that
/// failed, and returns whether cargo succeeded.
fn follow(command: &mut Command, shows: bool, summary: &mut Summary) -> Result<bool> {
    // Both streams in one pipe: so what cargo prints about a program comes in order.
    let (output, input) = pipe()?;
    command
        .stdout(input.try_clone()?)
        .stderr(input)
        .stdin(Stdio::null());
    let mut child = command.spawn().context("cannot run cargo")?;
    // The command holds the pipe's other end, which has to close with the child.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut parser = Parser::default();
    let mut began = Instant::now();
    let mut ended = |program: Option<Program>, began: &mut Instant| {
        let seconds = std::mem::replace(began, Instant::now()).elapsed();
        if let Some(mut program) = program {
            if shows {
                // It has been printed already.
                program.output.clear();
            }
            print!("{}", summary.add(program, seconds.as_secs_f64()));
        }
    };
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        match parser.line(&line) {
            Event::Cargo => eprintln!("{line}"),
            Event::Output if shows || line.contains("has been running for") => println!("{line}"),
            Event::Output => {}
            Event::Ended(program) => ended(Some(program), &mut began),
        }
    }
    ended(parser.end(), &mut began);
    Ok(child.wait()?.success())
}

/// The sum of all tests.
#[derive(Default)]
struct Summary {
    tally: Tally,
    /// The programs with failed tests, each with their names.
    failed: Vec<(String, Vec<String>)>,
    /// One line for each selection that cargo could not run.
    broken: Vec<String>,
    reasons: BTreeMap<String, u64>,
}

impl Summary {
    /// Adds a program that took so many seconds, and returns what to print about it.
    fn add(&mut self, program: Program, seconds: f64) -> String {
        let Tally {
            passed,
            failed,
            skipped,
        } = program.tally;
        let mut text = String::new();
        if failed > 0 {
            text.push_str(&program.output);
        }
        if passed + failed + skipped > 0 {
            let name = &program.name;
            text.push_str(&format!(
                "{name}: {passed} passed, {failed} failed, {skipped} skipped ({seconds:.1} s)\n"
            ));
        }
        self.tally.add(program.tally);
        if failed > 0 {
            let mut names = program.failed;
            if program.crashed {
                names.push("the program ended before its tests had".to_owned());
            }
            self.failed.push((program.name, names));
        }
        for (reason, count) in program.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        text
    }

    fn has_failed(&self) -> bool {
        self.tally.failed > 0 || !self.broken.is_empty()
    }

    /// Returns what to print at the end. The last line has the numbers.
    fn render(&self) -> String {
        let mut lines = vec![String::new()];
        if self.tally.skipped > 0 {
            lines.push("Skipped (`cargo xtask check root` runs those that need root):".to_owned());
            for (reason, count) in &self.reasons {
                let reason = if reason.is_empty() {
                    "no reason is given"
                } else {
                    reason
                };
                lines.push(format!("  {count}: {reason}"));
            }
        }
        if self.has_failed() {
            lines.push("Failed:".to_owned());
            lines.extend(self.broken.iter().map(|it| format!("  {it}")));
            for (program, names) in &self.failed {
                lines.extend(names.iter().map(|name| format!("  {program}: {name}")));
            }
        }
        let Tally {
            passed,
            failed,
            skipped,
        } = self.tally;
        lines.push(format!(
            "{passed} passed, {failed} failed, {skipped} skipped\n"
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(programs: Vec<Program>) -> Summary {
        let mut summary = Summary::default();
        for program in programs {
            summary.add(program, 0.5);
        }
        summary
    }

    fn program(name: &str, passed: u64, failed: &[&str], skipped: u64) -> Program {
        Program {
            name: name.to_owned(),
            tally: Tally {
                passed,
                failed: failed.len() as u64,
                skipped,
            },
            failed: failed.iter().map(|&it| it.to_owned()).collect(),
            ..Program::default()
        }
    }

    #[test]
    fn program_is_one_line_unless_it_fails() {
        let mut summary = Summary::default();
        let line = summary.add(program("a", 3, &[], 1), 0.5);
        assert_eq!(line, "a: 3 passed, 0 failed, 1 skipped (0.5 s)\n");
        assert_eq!(summary.add(program("empty", 0, &[], 0), 0.5), "");
        let mut failed = program("b", 0, &["x"], 0);
        failed.output = "panicked\n".to_owned();
        let text = summary.add(failed, 0.5);
        assert_eq!(text, "panicked\nb: 0 passed, 1 failed, 0 skipped (0.5 s)\n");
    }

    #[test]
    fn success_is_one_line() {
        let summary = summary(vec![program("a", 3, &[], 0), program("b", 4, &[], 0)]);
        assert_eq!(summary.render(), "\n7 passed, 0 failed, 0 skipped\n");
        assert!(!summary.has_failed());
    }

    #[test]
    fn numbers_come_last() {
        let mut crashed = program("b", 0, &[], 0);
        (crashed.crashed, crashed.tally.failed) = (true, 1);
        let mut skipping = program("c", 0, &[], 2);
        skipping.reasons = [("needs root".to_owned(), 2)].into();
        let summary = summary(vec![program("a", 1, &["x::y"], 0), crashed, skipping]);
        assert_eq!(
            summary.render(),
            "\nSkipped (`cargo xtask check root` runs those that need root):\n  2: needs root\n\
             Failed:\n  a: x::y\n  b: the program ended before its tests had\n\
             1 passed, 2 failed, 2 skipped\n"
        );
    }

    #[test]
    fn tests_that_do_not_compile_fail() {
        let mut summary = summary(vec![program("a", 1, &[], 0)]);
        summary
            .broken
            .push("the host: the tests do not compile".to_owned());
        assert!(summary.has_failed());
        assert!(
            summary
                .render()
                .ends_with("\n1 passed, 0 failed, 0 skipped\n")
        );
    }
}

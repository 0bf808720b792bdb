//! `cargo xtask test`: all tests, and a summary.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::{run, toolchain};

/// What guests are made of, tested where a debugger can see it. The tests of
/// the host run the same code as guests.
const GUEST_SIDE: &[&str] = &[
    "tombolo-guest",
    "music-player",
    "music-audioserver",
    "cache-gallery",
    "cache-viewer",
    "frames",
    "meter",
];

/// How each test program closes.
const CLOSING: &str = "test result:";

/// Runs all tests, also after some failed.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode> {
    toolchain::add_target()?;
    let mut guest_side = cargo_test();
    for package in GUEST_SIDE {
        guest_side.args(["--package", package]);
    }
    let mut races = cargo_test();
    races.args(["--package", "tombolo-race-tests"]);
    let steps = [
        ("the host's side, with guests in it", cargo_test()),
        ("the guests' side, natively", guest_side),
        ("how threads race", races),
    ];

    let mut closings = Vec::new();
    let mut failed = Vec::new();
    for (name, mut command) in steps {
        eprintln!("Testing {name}");
        command.arg("--").args(arguments);
        if !follow(&mut command, &mut closings)? {
            failed.push(name);
        }
    }
    summarise(&closings, &failed);
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn cargo_test() -> Command {
    let mut cargo = run::cargo("test");
    cargo.arg("--no-fail-fast");
    if std::io::stdout().is_terminal() {
        // They see a pipe, and would do without.
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
}

/// Passes on what the tests print, collects how they close, and says whether
/// all passed.
fn follow(command: &mut Command, closings: &mut Vec<String>) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    let mut terminal = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        if text.starts_with(CLOSING) {
            closings.push(text.trim_end().to_owned());
        }
        terminal.write_all(&line)?;
        terminal.write_all(b"\n")?;
    }
    Ok(child.wait()?.success())
}

/// Says what all of it came to, and repeats the test programs' own words.
fn summarise(closings: &[String], failed: &[&str]) {
    let total = |what| closings.iter().map(|line| count(line, what)).sum::<u64>();
    println!(
        "Summary: {} test programs, {} tests passed, {} failed, {} ignored",
        closings.len(),
        total("passed"),
        total("failed"),
        total("ignored"),
    );
    for name in failed {
        println!("Failed: {name}");
    }
    for line in closings {
        println!("{line}");
    }
}

/// Reads a number out of `test result: ok. 12 passed; 0 failed; …`.
fn count(closing: &str, what: &str) -> u64 {
    closing
        .split([';', '.'])
        .filter_map(|part| part.trim().split_once(' '))
        .find_map(|(number, name)| (name == what).then(|| number.parse().ok())?)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_a_closing_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; \
                    0 filtered out; finished in 0.35s";
        assert_eq!(count(line, "passed"), 12);
        assert_eq!(count(line, "failed"), 3);
        assert_eq!(count(line, "ignored"), 1);
    }
}

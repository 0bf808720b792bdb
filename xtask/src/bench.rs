//! `cargo xtask bench`: measures what things cost.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{run, toolchain};

/// The measurements to make.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Repeat little, only to see that the benchmarks work
    #[arg(long)]
    quick: bool,
    /// Print JSON, and the tables to standard error
    #[arg(long)]
    json: bool,
    /// The groups to measure; all but the last if none is given.
    /// They are handover, access, calls, life, scale, pins, recycle,
    /// http, pressure, and compare: handover beside iceoryx2
    #[arg(
        value_name = "GROUP",
        value_parser = [
            "handover", "access", "calls", "life", "scale", "pins", "recycle", "http", "pressure",
            COMPARE,
        ],
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    groups: Vec<String>,
}

impl Options {
    /// Returns the options that only see whether the benchmarks work.
    pub(crate) fn quick() -> Options {
        Options {
            quick: true,
            ..Options::default()
        }
    }

    /// Returns the options that only see whether the comparison works.
    pub(crate) fn quick_comparison() -> Options {
        Options {
            groups: vec![COMPARE.to_owned()],
            ..Options::quick()
        }
    }
}

/// The group that measures other programs as well.
const COMPARE: &str = "compare";

/// The group that contains their rows.
const COMPARED: &str = "handover";

/// Builds the program that uses iceoryx2, and returns its path. It has a lock file of its own.
fn build_comparison() -> Result<PathBuf> {
    let target = run::target()?.join(COMPARE);
    let mut cargo = xtask_guests::cargo();
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(run::root().join("tests/compare/Cargo.toml"));
    cargo.arg("--target-dir").arg(&target);
    run::run(&mut cargo, "building the comparison")?;
    Ok(target.join("release/tombolo-compare"))
}

/// Returns the command that builds and runs benchmarks.
pub(crate) fn cargo() -> Command {
    let mut cargo = run::cargo("bench");
    // The profile of the tests: with another one, cargo would build wasmtime again, for
    // minutes. Only Tombolo's own crates are built anew, as for a release.
    cargo.args(["--profile", "dev"]);
    for setting in ["opt-level=3", "debug-assertions=false"] {
        cargo.args(["--config", &format!("profile.dev.{setting}")]);
    }
    cargo
}

/// Runs the benchmarks, which print tables.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let mut cargo = cargo();
    cargo.args(["--bench", "costs", "--", "--report"]);
    cargo.arg(run::target()?.join("bench"));
    for (wanted, argument) in [(options.quick, "--quick"), (options.json, "--json")] {
        if wanted {
            cargo.arg(argument);
        }
    }
    for group in &options.groups {
        match &**group {
            COMPARE => cargo
                .env("TOMBOLO_COMPARE", build_comparison()?)
                .arg(COMPARED),
            group => cargo.arg(group),
        };
    }
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

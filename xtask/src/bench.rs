//! `cargo xtask bench`: measures what things cost.

use std::process::ExitCode;

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
    /// The groups to measure; all if none is given. They are
    /// handover, access, calls, life, scale, pins and pressure
    #[arg(
        value_name = "GROUP",
        value_parser = ["handover", "access", "calls", "life", "scale", "pins", "pressure"],
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
}

/// Runs the benchmarks, which print tables.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let mut cargo = run::cargo("bench");
    // The profile of the tests: with another one, cargo would build wasmtime again, for
    // minutes. Only Tombolo's own crates are built anew, as for a release.
    cargo.args(["--profile", "dev"]);
    for setting in ["opt-level=3", "debug-assertions=false"] {
        cargo.args(["--config", &format!("profile.dev.{setting}")]);
    }
    cargo.args(["--bench", "costs", "--", "--report"]);
    cargo.arg(run::target()?.join("bench"));
    for (wanted, argument) in [(options.quick, "--quick"), (options.json, "--json")] {
        if wanted {
            cargo.arg(argument);
        }
    }
    cargo.args(&options.groups);
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

//! `cargo xtask bench`: measures what things cost.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{run, toolchain};

/// What to measure.
#[derive(Default)]
pub(crate) struct Options {
    /// Only to see that it works.
    pub(crate) quick: bool,
    /// Prints JSON, and tables to standard error.
    pub(crate) json: bool,
    /// The groups of rows; all of them if there are none.
    pub(crate) groups: Vec<OsString>,
}

/// Runs the benchmarks, which print tables.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let mut cargo = run::cargo("bench");
    // In the profile that the tests are built with: in another one, wasmtime would be
    // built once more, for minutes. Only what is Tombolo's own is built anew, as for a
    // release.
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

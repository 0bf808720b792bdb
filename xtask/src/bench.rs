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
    /// The groups of rows; all of them if there are none.
    pub(crate) groups: Vec<OsString>,
}

/// Runs the benchmarks, which print tables.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let mut cargo = run::cargo("bench");
    // The profile that the tests are built with: in another one, wasmtime would be
    // built once more, for minutes, and what is measured here is optimised anyway.
    cargo.args(["--profile", "dev", "--bench", "costs", "--"]);
    if options.quick {
        cargo.arg("--quick");
    }
    cargo.args(&options.groups);
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

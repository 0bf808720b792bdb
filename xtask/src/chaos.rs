//! `cargo xtask chaos`: kills guests of the frames pipeline at random moments.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::soak::Options;
use crate::{run, toolchain};

/// Runs the test program that does it, and shows what that prints meanwhile.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    options.check()?;
    toolchain::add_target()?;
    let mut cargo = run::cargo("test");
    // Without `--package`, which would have wasmtime built with other features.
    cargo.args(["--test", "chaos", "--", "--nocapture"]);
    cargo.env("TOMBOLO_CHAOS_SECONDS", options.seconds());
    if let Some(seed) = options.seed {
        cargo.env("TOMBOLO_CHAOS_SEED", seed.to_string());
    }
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

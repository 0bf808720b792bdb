//! `cargo xtask soak`: starts, crashes and kills guests for a while.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::{run, toolchain};

/// How long guests come and go.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to run, in minutes
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Repeat the run that printed this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Options {
    /// Returns the options of a run of half a minute.
    pub(crate) fn short() -> Options {
        Options {
            minutes: 0.5,
            seed: None,
        }
    }
}

/// Runs the soak test, and shows what it prints meanwhile.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    run_test("soak", "TOMBOLO_SOAK", options)
}

/// Runs a test program that reads the options from variables with this prefix.
pub(crate) fn run_test(test: &str, prefix: &str, options: &Options) -> Result<ExitCode> {
    let minutes = options.minutes;
    if !minutes.is_finite() || minutes <= 0.0 {
        bail!("--minutes {minutes}: write a number above 0; 0.2 is 12 seconds");
    }
    toolchain::add_target()?;
    let mut cargo = run::cargo("test");
    // Without `--package`, which would build wasmtime with other features.
    cargo.args(["--test", test, "--", "--nocapture"]);
    cargo.env(format!("{prefix}_SECONDS"), (minutes * 60.0).to_string());
    if let Some(seed) = options.seed {
        cargo.env(format!("{prefix}_SEED"), seed.to_string());
    }
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

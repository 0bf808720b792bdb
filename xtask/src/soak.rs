//! `cargo xtask soak`: has guests come and go for a while.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::{run, toolchain};

/// For how long, unless it is said.
const MINUTES: f64 = 1.0;

/// What to do.
pub(crate) struct Options {
    /// For how long, and longer until each way to end had its turn.
    pub(crate) minutes: f64,
    /// The seed of all that is random. By default another one each time.
    pub(crate) seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            minutes: MINUTES,
            seed: None,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let minutes = self.minutes;
        if !minutes.is_finite() || minutes <= 0.0 {
            bail!("--minutes {minutes}: there is nothing to do; a part of a minute is `0.2`");
        }
        Ok(())
    }

    pub(crate) fn seconds(&self) -> String {
        (self.minutes * 60.0).to_string()
    }
}

/// Runs the test program that does it, and shows what that prints meanwhile.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    options.check()?;
    toolchain::add_target()?;
    let mut cargo = run::cargo("test");
    // Without `--package`, which would have wasmtime built with other features.
    cargo.args(["--test", "soak", "--", "--nocapture"]);
    cargo.env("TOMBOLO_SOAK_SECONDS", options.seconds());
    if let Some(seed) = options.seed {
        cargo.env("TOMBOLO_SOAK_SEED", seed.to_string());
    }
    let status = cargo.status().context("cannot run cargo")?;
    Ok(run::exit_code(status))
}

//! `cargo xtask miri`: interprets the tests of `tombolo-region`, which finds undefined
//! behaviour and leaks.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{nightly, packages, run};

/// How much to interpret.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The number of cases of each property test
    #[arg(long, value_name = "N", default_value_t = Options::default().cases)]
    cases: u32,
    /// Arguments for the test programs, for example the name of a test
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // A few: natively all of them run.
            cases: 8,
            arguments: Vec::new(),
        }
    }
}

/// Runs the tests under Miri.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // Miri's own files name the checkout for which they were built.
    let directory = run::target()?.join("miri");
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context(format!("cannot remove {}", directory.display()));
        }
        _ => {}
    }
    let mut cargo = nightly::cargo()?;
    cargo
        .args(["miri", "test", "-p", packages::REGION_TESTS, "--"])
        .args(&options.arguments);
    // Property tests read the working directory, which Miri's isolation forbids.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    cargo.env("PROPTEST_CASES", options.cases.to_string());
    let status = cargo.status().context("cannot run rustup")?;
    Ok(run::exit_code(status))
}

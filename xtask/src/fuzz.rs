//! `cargo xtask fuzz`: looks for inputs that break `tombolo-region`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::{nightly, run};

/// The targets to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to fuzz each target
    #[arg(long, value_name = "N", default_value_t = Options::default().seconds)]
    seconds: u64,
    /// The targets, by name; all if none is given
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seconds: 30,
            targets: Vec::new(),
        }
    }
}

/// Fuzzes one target after another, up to the first that fails.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.seconds > 0,
        "--seconds 0 would fuzz for ever: the least is 1"
    );
    let known = targets()?;
    for target in &options.targets {
        ensure!(
            known.contains(target),
            "there is no fuzz target `{target}`, only {}",
            known.join(", ")
        );
    }
    let targets = if options.targets.is_empty() {
        &known
    } else {
        &options.targets
    };
    for target in targets {
        eprintln!("Fuzzing {target} for {} s", options.seconds);
        let mut cargo = nightly::cargo()?;
        cargo.args(["fuzz", "run", target, "--"]);
        cargo.arg(format!("-max_total_time={}", options.seconds));
        let status = cargo.status().context("cannot run rustup")?;
        if !status.success() {
            return Ok(run::exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn targets() -> Result<Vec<String>> {
    const DIRECTORY: &str = "fuzz/fuzz_targets";
    let entries = fs::read_dir(run::root().join(DIRECTORY));
    let mut targets = Vec::new();
    for entry in entries.with_context(|| format!("cannot read {DIRECTORY}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "rs") {
            targets.extend(path.file_stem().map(|it| it.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    ensure!(!targets.is_empty(), "{DIRECTORY} has no targets");
    Ok(targets)
}

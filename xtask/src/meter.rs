//! `cargo xtask meter`: a guest watches what another one writes.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::demo::{build, put_app, shell, shorten};
use crate::{run, toolchain};

/// The package of the guests.
const GUESTS: &[&str] = &["meter"];
/// Their files, without extension.
const FILES: &[&str] = &["filler", "meter"];

/// What the user asks for.
#[derive(Default)]
pub(crate) struct Options {
    /// Each guest in a strand of its own, to see the refusal.
    pub(crate) apart: bool,
}

/// Builds the program and the guests, and runs the app by its manifest.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let directory = shorten(target.join("meter"));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    put_app(&target, &directory, "examples/meter", FILES)?;
    let manifest = directory.join("tombolo.toml");
    if options.apart {
        let text = fs::read_to_string(&manifest)?;
        fs::write(&manifest, text.replace("strand = \"sound\"\n", ""))?;
    }

    let mut command = Command::new(target.join("debug/tombolo"));
    command.args(["run", "-f"]).arg(manifest);
    let status = command.status().context("cannot run tombolo")?;
    println!("\nAgain:\n\n    {}", shell(&command));
    Ok(run::exit_code(status))
}

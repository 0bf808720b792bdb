//! `cargo xtask meter`: one guest watches the levels of a buffer that another one fills.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use toml_edit::DocumentMut;

use crate::example::{MANIFEST, build, guests_of, put_app, read_manifest, shell, shorten};
use crate::{run, toolchain};

/// The package of the guests.
const GUESTS: &[&str] = &["meter"];
/// Their files, without extension.
const FILES: &[&str] = &["filler", "meter"];

/// How to run the example.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Put each guest into a strand of its own, to see the refusal
    #[arg(long)]
    apart: bool,
}

/// Builds the program and the guests, and runs the app that the manifest describes.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let directory = shorten(target.join("meter"));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    put_app(&target, &directory, "examples/meter", FILES)?;
    let manifest = directory.join(MANIFEST);
    if options.apart {
        let mut document = read_manifest(&manifest)?;
        separate(&mut document);
        fs::write(&manifest, document.to_string())?;
    }

    let mut command = Command::new(target.join("debug/tombolo"));
    command.args(["run", "-f"]).arg(manifest);
    let status = command.status().context("cannot run tombolo")?;
    println!("\nTo run it again:\n\n    {}", shell(&command));
    Ok(run::exit_code(status))
}

/// Removes `strand` from each guest of a manifest.
fn separate(manifest: &mut DocumentMut) {
    for guest in guests_of(manifest) {
        guest.remove("strand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_separated() {
        let text = "# a\n[guests.a]\ncomponent = \"a.wasm\"\nstrand = \"s\"\n\n[scopes.s]\n";
        let mut manifest = text.parse().unwrap();
        separate(&mut manifest);
        let expected = "# a\n[guests.a]\ncomponent = \"a.wasm\"\n\n[scopes.s]\n";
        assert_eq!(manifest.to_string(), expected);
    }

    #[test]
    fn example_has_strands_to_separate() {
        let text = include_str!("../../examples/meter/tombolo.toml");
        let mut manifest = text.parse().unwrap();
        separate(&mut manifest);
        assert_ne!(manifest.to_string(), text);
        assert!(!manifest.to_string().contains("strand ="));
    }
}

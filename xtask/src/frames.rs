//! `cargo xtask frames`: a pipeline of guests in parallel.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::demo::{build, put_app, shell, shorten};
use crate::{run, toolchain};

/// The package of the guests.
const GUESTS: &[&str] = &["frames"];
/// Their files, without extension.
const FILES: &[&str] = &["decode", "denoise", "sharpen", "encode"];

/// What the user asks for.
#[derive(Default)]
pub(crate) struct Options {
    /// A directory with images; otherwise some are made.
    pub(crate) images: Option<PathBuf>,
    /// For the first stage.
    pub(crate) arguments: Vec<OsString>,
}

/// Builds the program and the guests, and runs the app by its manifest.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that nobody waits for a build to be told of a mistyped name.
    let images = match &options.images {
        Some(images) => {
            let shown = images.display();
            let images = images
                .canonicalize()
                .with_context(|| format!("cannot open {shown}"))?;
            ensure!(images.is_dir(), "{shown} is not a directory");
            Some(images)
        }
        None => None,
    };

    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let directory = shorten(target.join("frames"));
    let out = directory.join("out");
    if out.exists() {
        // Frames of an earlier run would count as done.
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    for directory in [&out, &directory.join("images")] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    put_app(&target, &directory, "examples/frames", FILES)?;
    if let Some(images) = &images {
        // Only to read, and each once.
        let manifest = directory.join("tombolo.toml");
        let text = fs::read_to_string(&manifest)?;
        let text = text
            .replace(
                r#"{ host = "images", guest = "/images", access = "write" }"#,
                &format!("{{ host = {:?}, guest = \"/images\" }}", images.display()),
            )
            .replace(r#"args = ["--make", "8", "--frames", "200"]"#, "args = []");
        fs::write(&manifest, text)?;
    }

    let mut command = Command::new(target.join("debug/tombolo"));
    command
        .args(["run", "--report", "-f"])
        .arg(directory.join("tombolo.toml"));
    if !options.arguments.is_empty() {
        command.arg("--").args(&options.arguments);
    }
    let status = command.status().context("cannot run tombolo")?;
    if status.success() {
        println!(
            "\nThe frames are in {}.\nAgain, once that is empty:\n\n    {}",
            out.display(),
            shell(&command)
        );
    }
    Ok(run::exit_code(status))
}

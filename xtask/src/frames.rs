//! `cargo xtask frames`: a pipeline of guests in parallel.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use toml_edit::{Array, DocumentMut, InlineTable};

use crate::example::{MANIFEST, build, put_app, read_manifest, shell, shorten};
use crate::{run, toolchain};

/// The package of the guests.
const GUESTS: &[&str] = &["frames"];
/// Their files, without extension.
const FILES: &[&str] = &["decode", "denoise", "sharpen", "encode"];

/// The images to process.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Use the PNG images of this directory, each once
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Arguments for the guest that decodes
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Builds the program and the guests, and runs the app that the manifest describes.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that a mistyped name is reported before the build.
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
    let manifest = directory.join(MANIFEST);
    if let Some(images) = &images {
        let mut document = read_manifest(&manifest)?;
        use_images(&mut document, images)?;
        fs::write(&manifest, document.to_string())?;
    }

    let mut command = Command::new(target.join("debug/tombolo"));
    command.args(["run", "--report", "-f"]).arg(manifest);
    if !options.arguments.is_empty() {
        command.arg("--").args(&options.arguments);
    }
    let status = command.status().context("cannot run tombolo")?;
    if status.success() {
        println!(
            "\nThe frames are in {}.\nTo run it again, once that is empty:\n\n    {}",
            out.display(),
            shell(&command)
        );
    }
    Ok(run::exit_code(status))
}

/// Makes the guest `decode` read images from a directory instead of making its own.
fn use_images(manifest: &mut DocumentMut, images: &Path) -> Result<()> {
    let images = images.to_str();
    let images = images.context("a manifest names a directory in UTF-8; rename the directory")?;
    let decode = &mut manifest["guests"]["decode"];
    decode["args"] = toml_edit::value(Array::new());
    let directories = decode["dirs"].as_array_mut();
    let directories = directories.context("the guest `decode` has no list `dirs`")?;
    let entry = directories
        .iter_mut()
        .filter_map(|it| it.as_inline_table_mut());
    let entry = entry.into_iter().find(|it| names_images(it));
    let entry = entry.context("the guest `decode` has no directory `/images`")?;
    entry.insert("host", images.into());
    // Read-only, which is the default.
    entry.remove("access");
    Ok(())
}

fn names_images(directory: &InlineTable) -> bool {
    directory.get("guest").and_then(|it| it.as_str()) == Some("/images")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_takes_other_images() {
        let text = include_str!("../../examples/frames/tombolo.toml");
        let mut manifest = text.parse().unwrap();
        use_images(&mut manifest, Path::new("/a \"b\"")).unwrap();
        let decode = &manifest["guests"]["decode"];
        assert_eq!(decode["args"].as_array().unwrap().len(), 0);
        let directories = decode["dirs"].as_array().unwrap();
        let images = directories.iter().filter_map(|it| it.as_inline_table());
        let images = images.into_iter().find(|it| names_images(it)).unwrap();
        assert_eq!(images["host"].as_str(), Some("/a \"b\""));
        assert!(!images.contains_key("access"));
    }
}

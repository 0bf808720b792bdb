//! `cargo xtask demo`: two guests process music.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::example::{MANIFEST, build, grant, put_app, quote, shell, shorten};
use xtask_guests as guests;

use crate::{run, toolchain};

/// The packages of the guests.
const GUESTS: &[&str] = &["music-player", "music-audioserver"];
/// Their files, without extension.
const FILES: [&str; 2] = ["player", "audioserver"];

/// The directories of the player, for its recording and for its output.
const INPUT: &str = "/input";
const OUTPUT: &str = "/output";

/// The directory in the target directory, and the end of the output's name.
const DIRECTORY: &str = "demo";
const SUFFIX: &str = ".limited.wav";

/// The music to play.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Play this recording, instead of a minute of rendered music
    #[arg(long, value_name = "FILE")]
    wav: Option<PathBuf>,
    /// Amplify by this many decibels
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    gain: Option<f64>,
}

impl Options {
    /// Returns the options that play the output of a run without options.
    pub(crate) fn own_output() -> Result<Options> {
        let output = run::target()?
            .join(DIRECTORY)
            .join(format!("music{SUFFIX}"));
        Ok(Options {
            wav: Some(output),
            gain: Some(-6.0),
        })
    }
}

/// Builds the program and the guests, runs them, and prints how to do it again.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that a mistyped name is reported before the build.
    let recording = options.wav.as_deref().map(Recording::find).transpose()?;

    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let directory = shorten(target.join(DIRECTORY));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let name = recording.as_ref().map_or("music", |it| &it.stem);
    let name = format!("{name}{SUFFIX}");
    let output = directory.join(&name);
    remove_output(&output)?;

    let mut command = Command::new(shorten(target.join("debug/tombolo")));
    command.args(["run", "--report"]);
    for guest in FILES {
        command.arg(shorten(guests::artifact(&target, guest)));
    }
    if let Some(recording) = &recording {
        // Nothing but its directory, and that read-only.
        command
            .arg("--dir")
            .arg(grant(&recording.directory, INPUT, ":ro")?);
    }
    command.arg("--dir").arg(grant(&directory, OUTPUT, "")?);
    command.arg("--");
    if let Some(recording) = &recording {
        command.arg(format!("{INPUT}/{}", recording.name));
    }
    command.arg("--output").arg(format!("{OUTPUT}/{name}"));
    if let Some(gain) = options.gain {
        command.arg("--gain").arg(gain.to_string());
    }

    let status = command.status().context("cannot run tombolo")?;
    if !status.success() {
        remove_output(&output)?;
        // Removes the directory only if it is empty: the output of an earlier run stays.
        let _ = fs::remove_dir(&directory);
        return Ok(run::exit_code(status));
    }
    ensure!(
        output.exists(),
        "the player did not write {}",
        output.display()
    );
    put_app(&target, &directory, "examples/music", &FILES)?;
    println!(
        "\nThe player wrote {}.\nTo run it again:\n\n    {}\n\nTo run the same app, which the \
         manifest {} describes:\n\n    cd {} && ../debug/tombolo run",
        output.display(),
        shell(&command),
        directory.join(MANIFEST).display(),
        quote(directory.to_string_lossy()),
    );
    Ok(ExitCode::SUCCESS)
}

/// Plays a text file, which must fail and leave no output.
pub(crate) fn refuse_licence() -> Result<()> {
    const TEXT: &str = "LICENSE-MIT";
    let options = Options {
        wav: Some(run::root().join(TEXT)),
        gain: None,
    };
    let code = run(&options)?;
    ensure!(code != ExitCode::SUCCESS, "the player played {TEXT}");
    let output = run::target()?
        .join(DIRECTORY)
        .join(format!("{TEXT}{SUFFIX}"));
    if output.exists() {
        bail!("the player failed, but left {}", output.display());
    }
    Ok(())
}

/// A recording that exists and can be read.
struct Recording {
    directory: PathBuf,
    name: String,
    /// The name without its extension.
    stem: String,
}

impl Recording {
    fn find(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = fs::File::open(path).with_context(|| format!("cannot open {shown}"))?;
        ensure!(file.metadata()?.is_file(), "{shown} is not a file");
        // Links are followed here, because a guest cannot follow them out of its directory.
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {shown}"))?;
        let text = |part: Option<&OsStr>| {
            let text = part.and_then(OsStr::to_str).map(str::to_owned);
            text.with_context(|| format!("{shown}: guests need a name in UTF-8; rename the file"))
        };
        Ok(Self {
            name: text(path.file_name())?,
            stem: text(path.file_stem())?,
            directory: shorten(
                path.parent()
                    .context("a file lies in a directory")?
                    .to_owned(),
            ),
        })
    }
}

fn remove_output(output: &Path) -> Result<()> {
    match fs::remove_file(output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", output.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_no_recording() {
        let error = Recording::find(run::root()).err().unwrap();
        assert!(error.to_string().ends_with("is not a file"), "{error}");
    }
}

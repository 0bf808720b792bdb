//! `cargo xtask demo`: two guests play music.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::{guests, run, toolchain};

/// The packages of the guests.
const GUESTS: &[&str] = &["music-player", "music-audioserver"];
/// Their files, without extension.
const FILES: [&str; 2] = ["player", "audioserver"];

/// Where the player finds its recording, and where it writes.
const INPUT: &str = "/input";
const OUTPUT: &str = "/output";

/// What the user asks for.
#[derive(Default)]
pub(crate) struct Options {
    /// The recording to play; otherwise the player renders some music.
    pub(crate) wav: Option<PathBuf>,
    /// Decibels to amplify by.
    pub(crate) gain: Option<f64>,
}

/// Builds the program and the guests, runs them, and says how to do it again.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that nobody waits for a build to be told of a mistyped name.
    let recording = options.wav.as_deref().map(Recording::find).transpose()?;

    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let directory = shorten(target.join("demo"));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let name = recording.as_ref().map_or("music", |it| &it.stem);
    let name = format!("{name}.limited.wav");
    let output = directory.join(&name);
    remove_output(&output)?;

    let mut command = Command::new(shorten(target.join("debug/tombolo")));
    command.args(["run", "--report"]);
    for guest in FILES {
        command.arg(shorten(guests::artifact(&target, guest)));
    }
    if let Some(recording) = &recording {
        // Its directory and nothing else, and that not to be changed.
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
        // Only if it holds nothing: the output of an earlier run stays.
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
        "\nThe player wrote {}.\nAgain:\n\n    {}\n\nThe same app, as the manifest \
         {} describes it:\n\n    cd {} && ../debug/tombolo run",
        output.display(),
        shell(&command),
        directory.join(MANIFEST).display(),
        quote(directory.to_string_lossy()),
    );
    Ok(ExitCode::SUCCESS)
}

/// The file that describes an app.
const MANIFEST: &str = "tombolo.toml";

/// Puts the app into a directory: its manifest, and the components beside it.
pub(crate) fn put_app(
    target: &Path,
    directory: &Path,
    example: &str,
    guests: &[&str],
) -> Result<()> {
    let manifest = run::root().join(example).join(MANIFEST);
    let mut files = vec![(manifest, directory.join(MANIFEST))];
    for guest in guests {
        let beside = directory.join(format!("{guest}.wasm"));
        files.push((guests::artifact(target, guest), beside));
    }
    for (from, to) in files {
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// Builds the program and the guests; cargo shows how far it is.
pub(crate) fn build(target: &Path, packages: &[&str]) -> Result<()> {
    eprintln!("Building the program `tombolo` (some minutes, the first time)");
    // Without `--package`: so that cargo chooses features as for `cargo test`,
    // and wasmtime is not built again for that.
    let mut host = run::cargo("build");
    run::run(host.args(["--bin", "tombolo"]), "building `tombolo`")?;

    eprintln!("Building the guests, for {}", guests::TARGET);
    let mut guests = guests::build(target, packages);
    run::run(&mut guests, "building the guests")
}

/// A recording that is there and can be read.
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
        // Links are followed here, since a guest cannot follow them out of the
        // directory that it is granted.
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {shown}"))?;
        let text = |part: Option<&OsStr>| {
            let text = part.and_then(OsStr::to_str).map(str::to_owned);
            text.with_context(|| format!("{shown}: the name is not UTF-8, which guests need"))
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

/// Writes the argument of `--dir`.
pub(crate) fn grant(directory: &Path, guest: &str, rights: &str) -> Result<OsString> {
    if directory.to_string_lossy().contains("::") {
        bail!(
            "{}: `--dir` cannot name a directory with `::` in its name",
            directory.display()
        );
    }
    let mut argument = directory.as_os_str().to_owned();
    argument.push(format!("::{guest}{rights}"));
    Ok(argument)
}

fn remove_output(output: &Path) -> Result<()> {
    match fs::remove_file(output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", output.display()))
        }
        _ => Ok(()),
    }
}

/// Says a path from here, if it is below.
pub(crate) fn shorten(path: PathBuf) -> PathBuf {
    let Ok(here) = std::env::current_dir() else {
        return path;
    };
    match path.strip_prefix(here) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => path,
    }
}

/// Writes a command for a shell to read.
pub(crate) fn shell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).map(quote).collect();
    words.join(" ")
}

fn quote(word: Cow<'_, str>) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_quotes_what_it_must() {
        let mut command = Command::new("./tombolo");
        command.args(["run", "a b.wav", "it's", "", "--dir", "x::/y:ro"]);
        assert_eq!(
            shell(&command),
            r"./tombolo run 'a b.wav' 'it'\''s' '' --dir x::/y:ro"
        );
    }

    #[test]
    fn recording_that_is_a_directory_is_refused() {
        let error = Recording::find(run::root()).err().unwrap();
        assert!(error.to_string().ends_with("is not a file"), "{error}");
    }

    #[test]
    fn grant_of_a_directory_with_colons_is_refused() {
        assert!(grant(Path::new("a::b"), INPUT, "").is_err());
    }
}

//! `cargo xtask cache`: a guest keeps decoded images in memory that shrinks. It fails
//! if the host ever commits more than that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::demo::{build, grant, shell, shorten};
use crate::{guests, run, toolchain};

/// The packages of the guests.
const GUESTS: &[&str] = &["cache-gallery", "cache-viewer"];

/// Where the gallery finds its images.
const IMAGES: &str = "/images";

/// How many images are made, of 1 MiB each, where the user has none.
const MADE: u32 = 48;

/// The budgets, as parts of what all images take: from one with room for all of
/// them down. For the images that are made: 64, 32, 16 and 8 MiB.
const BUDGETS: [(u64, u64); 4] = [(4, 3), (2, 3), (1, 3), (1, 6)];

const MIB: u64 = 1 << 20;

/// What the user asks for.
#[derive(Default)]
pub(crate) struct Options {
    /// A directory with images; otherwise some are made.
    pub(crate) images: Option<PathBuf>,
}

/// Builds the program and the guests, runs them with less and less memory, and
/// prints what came of it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that nobody waits for a build to be told of a mistyped name.
    if let Some(images) = &options.images {
        let shown = images.display();
        let metadata = fs::metadata(images).with_context(|| format!("cannot open {shown}"))?;
        ensure!(metadata.is_dir(), "{shown} is not a directory");
    }

    toolchain::add_target()?;
    let target = run::target()?;
    build(&target, GUESTS)?;

    let (directory, make) = match &options.images {
        Some(images) => (images.clone(), None),
        None => (shorten(target.join("cache")), Some(MADE)),
    };
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;

    // Without views: how much there is, and the images if there are none.
    let app = App { target, directory };
    let mut measure = app.command("--json", None, "")?;
    measure.args(["--", "--views", "0"]);
    if let Some(count) = make {
        measure.arg("--make").arg(count.to_string());
    }
    let output = match finish(&mut measure)? {
        Ok(output) => output,
        Err(code) => return Ok(code),
    };
    let bytes = number(&output, "bytes")?;
    let largest = number(&output, "largest")?;
    println!(
        "{} images, {:.1} MiB decoded, the largest {:.1} MiB\n",
        value(&output, "images")?,
        mebibytes(bytes),
        mebibytes(largest),
    );

    println!(
        "{:<12}{:>10}{:>10}{:>24}",
        "budget", "hit rate", "misses", "committed at most"
    );
    let mut last = None;
    for (times, of) in BUDGETS {
        let budget = (bytes * times).div_ceil(of).max(largest).div_ceil(MIB);
        let mut command = app.command("--json", Some(budget), ":ro")?;
        let output = match finish(&mut command)? {
            Ok(output) => output,
            Err(code) => return Ok(code),
        };
        let committed = committed(&output)?;
        println!(
            "{:<12}{:>10}{:>10}{:>24}",
            format!("{budget} MiB"),
            value(&output, "hit rate")?,
            value(&output, "misses")?,
            format!("{:.1} MiB", mebibytes(committed)),
        );
        ensure!(
            committed <= budget * MIB,
            "the regions had {committed} bytes committed at a time, with a budget of {}",
            budget * MIB
        );
        last = Some(app.command("--report", Some(budget), ":ro")?);
    }
    if let Some(command) = last {
        println!("\nAgain, with the least:\n\n    {}", shell(&command));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where things are.
struct App {
    target: PathBuf,
    directory: PathBuf,
}

impl App {
    /// The command that runs the guests and reports in a way, with a budget in MiB.
    fn command(&self, report: &str, budget: Option<u64>, rights: &str) -> Result<Command> {
        let mut command = Command::new(shorten(self.target.join("debug/tombolo")));
        command.args(["run", report]);
        if let Some(budget) = budget {
            command.arg("--budget").arg(format!("{budget}MiB"));
        }
        for guest in ["gallery", "viewer"] {
            command.arg(shorten(guests::artifact(&self.target, guest)));
        }
        let images = grant(Path::new(&self.directory), IMAGES, rights)?;
        command.arg("--dir").arg(images);
        Ok(command)
    }
}

/// Runs it to its end. If it fails, says what it said, and gives the code to
/// pass on.
fn finish(command: &mut Command) -> Result<Result<Output, ExitCode>> {
    let output = command.output().context("cannot run tombolo")?;
    if output.status.success() {
        return Ok(Ok(output));
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(Err(run::exit_code(output.status)))
}

/// What the gallery printed under a name.
fn value(output: &Output, name: &str) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    match after(&text, name) {
        Some(value) => Ok(value.to_owned()),
        None => bail!("the gallery did not print its {name}, but:\n{text}"),
    }
}

fn number(output: &Output, name: &str) -> Result<u64> {
    let value = value(output, name)?;
    value
        .parse()
        .with_context(|| format!("the gallery's {name} is `{value}`"))
}

/// The bytes that all regions together had committed at most.
fn committed(output: &Output) -> Result<u64> {
    let text = String::from_utf8_lossy(&output.stderr);
    peak(&text).with_context(|| format!("the program did not report that, but:\n{text}"))
}

/// The same, in a report in JSON.
fn peak(report: &str) -> Option<u64> {
    let (_, rest) = report.split_once(r#""committed_peak":"#)?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// What follows on the line that begins with a name.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim())
    })
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_images_get_round_budgets() {
        let bytes = u64::from(MADE) * MIB;
        let budgets = BUDGETS.map(|(times, of)| bytes * times / of / MIB);
        assert_eq!(budgets, [64, 32, 16, 8]);
    }

    #[test]
    fn peak_is_found_in_the_report() {
        let report = r#"{"budget":{"budget":9,"committed_peak":1048576,"purges":1}}"#;
        assert_eq!(peak(report), Some(MIB));
        assert_eq!(peak("{}"), None);
    }

    #[test]
    fn values_are_found_by_whole_names() {
        let text = "hits   3\n  hit rate    66.7 %\n";
        assert_eq!(after(text, "hit rate"), Some("66.7 %"));
        assert_eq!(after(text, "hits"), Some("3"));
        assert_eq!(after(text, "hit"), Some("rate    66.7 %"));
        assert_eq!(after(text, "misses"), None);
    }
}

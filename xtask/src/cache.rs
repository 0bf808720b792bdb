//! `cargo xtask cache`: a guest keeps decoded images in purgeable memory that shrinks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::example::{build, grant, shell, shorten};
use xtask_guests as guests;

use crate::{run, toolchain};

/// The packages of the guests.
const GUESTS: &[&str] = &["cache-gallery", "cache-viewer"];

/// The directory in which the gallery finds its images.
const IMAGES: &str = "/images";

/// How many images are made, of 1 MiB each, if the user has none.
const MADE: u32 = 48;

/// The budgets, as fractions of the size of all images. The first has room for all of them.
/// For the images that are made, they are 64, 32, 16 and 8 MiB.
const BUDGETS: [(u64, u64); 4] = [(4, 3), (2, 3), (1, 3), (1, 6)];

const MIB: u64 = 1 << 20;

/// The images to cache.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Use the PNG images of this directory, instead of made ones
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
}

/// Builds the program and the guests, runs them with less and less memory, and prints the
/// hit rate of each run. Fails if the host ever commits more than its budget.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // First, so that a mistyped name is reported before the build.
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

    // Without views: this measures the images, and makes them if there are none.
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
        println!(
            "\nTo run it again, with the least:\n\n    {}",
            shell(&command)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The directories of the app.
struct App {
    target: PathBuf,
    directory: PathBuf,
}

impl App {
    /// Returns the command that runs the guests with a kind of report and a budget in MiB.
    fn command(&self, report: &str, budget: Option<u64>, rights: &str) -> Result<Command> {
        let mut command = Command::new(shorten(self.target.join("debug/tombolo")));
        command.args(["run", report]);
        if let Some(budget) = budget {
            command.arg("--budget").arg(format!("{budget}MiB"));
        }
        for guest in ["gallery", "viewer"] {
            command.arg(shorten(guests::artifact(&self.target, guest)));
        }
        let images = grant(&self.directory, IMAGES, rights)?;
        command.arg("--dir").arg(images);
        Ok(command)
    }
}

/// Runs a command to its end. If it fails, prints its errors, and returns the code to pass
/// on.
fn finish(command: &mut Command) -> Result<Result<Output, ExitCode>> {
    let output = command.output().context("cannot run tombolo")?;
    if output.status.success() {
        return Ok(Ok(output));
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(Err(run::exit_code(output.status)))
}

/// Returns the value that the gallery printed under a name.
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

/// Returns the most bytes that all regions together had committed at a time.
fn committed(output: &Output) -> Result<u64> {
    let report = String::from_utf8_lossy(&output.stderr);
    peak(&report).with_context(|| format!("the report has no `committed_peak`:\n{report}"))
}

/// Reads that from a report. Lines of the log may precede it.
fn peak(report: &str) -> Option<u64> {
    let begin = if report.starts_with('{') {
        0
    } else {
        report.find("\n{")?
    };
    let mut values = serde_json::Deserializer::from_str(&report[begin..]).into_iter::<Value>();
    values.next()?.ok()?["budget"]["committed_peak"].as_u64()
}

/// Returns the rest of the line that begins with a name.
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
    fn peak_is_read_from_the_report() {
        let report = "a warning\n{\"budget\":{\"budget\":9,\"committed_peak\":1048576}}\n";
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

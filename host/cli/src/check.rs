//! `tombolo check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::compile::Compile;
use super::failure::Failure;
use super::manifest::{self, Instead};
use super::say::say;
use tombolo_region::escape;

/// Check a manifest, its components and how they are linked; run nothing.
///
/// Reads and validates the components, but does not compile them.
///
/// Finds all mistakes at once, and shows each at its line: unknown keys, values
/// of the wrong kind, unknown guests, missing files, components that are invalid or
/// over a limit, imports that no guest exports or that the guest may not call, and
/// types that do not match.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Check {
    /// The manifest. Otherwise `tombolo.toml` of this directory.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    compile: Compile,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  no errors were found
  2  errors were found, there is no manifest, or the result cannot be printed";

impl Check {
    /// Checks it.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let path = manifest::find(self.file, "check")?;
        let mut described = manifest::open(&path, self.compile.most_bytes())?;
        let builder = described.builder(&Instead::default());
        let findings = self.compile.apply(builder).check();
        described.add_findings(&findings);
        let described = described.good()?;
        say(&described.render(super::fancy()));
        let guests = described.components().count();
        let (channels, scopes) = described.counts();
        let parts = [
            some(guests, "guest"),
            some(channels, "channel"),
            some(scopes, "scope"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        super::print(&format!(
            "{}: no errors ({})\n",
            escape(&path.to_string_lossy()),
            parts.join(", ")
        ))
    }
}

fn some(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    }
}

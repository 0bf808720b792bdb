//! `tombolo check`: reports the errors of an app without running it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::compile::Compile;
use super::failure::CommandFailure;
use super::manifest::{self, Overrides};
use super::{stderr, stdout};
use tombolo_region::escape;

/// Check a manifest, its components and their links; run nothing.
///
/// Reports in one pass, each at its line: unknown keys, values of a wrong kind,
/// unknown guests, missing files, components that are invalid or exceed a
/// limit, imports that no guest exports or that the guest may not call, and
/// types that do not match. An error rarely hides another.
///
/// Components are validated, but not compiled. So `check` does not find that one
/// exceeds the limits `compile-time` and `compile-memory`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct CheckCommand {
    /// The manifest [default: tombolo.toml].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    compile: Compile,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  no errors
  2  errors, no manifest, or a result that cannot be written to stdout";

impl CheckCommand {
    /// Checks the app and prints the result.
    pub(super) fn run(self) -> Result<ExitCode, CommandFailure> {
        let path = manifest::find(self.file, "check")?;
        let mut described = manifest::open(&path, self.compile.max_component_bytes())?;
        let builder = described.builder(&Overrides::default());
        let findings = self.compile.apply(builder).check();
        described.add_findings(&findings);
        let described = described.good()?;
        stderr::print(&described.render(stderr::has_colours()));
        let guests = described.components().count();
        let (channels, scopes) = described.counts();
        let parts = [
            some(guests, "guest"),
            some(channels, "channel"),
            some(scopes, "scope"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        stdout::print(&format!(
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

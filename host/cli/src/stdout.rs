//! Writes results to stdout.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::failure::CommandFailure;
use super::stderr;

/// Prints a result, and returns the exit code.
pub(super) fn print(text: &str) -> Result<ExitCode, CommandFailure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(stderr::plain(text).as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(CommandFailure::new(
            anyhow::Error::new(error).context("cannot write to stdout"),
        )),
    }
}

//! `cargo xtask chaos`: kills guests of the frames example at random moments.

use std::process::ExitCode;

use anyhow::Result;

use crate::soak::{self, Options};

/// Runs the chaos test, and shows what it prints meanwhile.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    soak::run_test("chaos", "TOMBOLO_CHAOS", options)
}

//! Writing to the program's own stderr.
//!
//! It may be closed, full, or a pipe without a reader. Text that cannot be written is lost,
//! and neither ends the program nor changes its exit code. The standard library's `eprint!`
//! panics then.

use std::io::{self, Write};

/// Writes a text to stderr, as far as that is possible.
pub(super) fn say(text: &str) {
    // There is nowhere else to say it.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Stderr as a writer for logged events, which never fails.
#[derive(Debug, Default)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

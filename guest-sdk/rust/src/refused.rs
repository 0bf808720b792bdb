//! The error of operations that consume a window, which returns the window.

use std::error;
use std::fmt;

use crate::error::Error;

/// A refused conversion of a window, with the unchanged window.
#[derive(Debug)]
pub struct Refused<W> {
    window: W,
    error: Error,
}

impl<W> Refused<W> {
    pub(crate) fn new(window: W, error: Error) -> Self {
        Self { window, error }
    }

    /// Returns the reason.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the unchanged window.
    pub fn into_window(self) -> W {
        self.window
    }
}

impl<W> fmt::Display for Refused<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<W: fmt::Debug> error::Error for Refused<W> {}

/// Drops the window, so that `?` works in functions that return [`Error`].
impl<W> From<Refused<W>> for Error {
    fn from(refused: Refused<W>) -> Self {
        refused.error
    }
}

//! Errors that keep the program from starting an app.

use std::process::ExitCode;

use super::stderr;
use tombolo_app::StartError;
use tombolo_region::escape;

/// The exit code if nothing was started.
pub(super) const NOT_STARTED: u8 = 2;
/// The exit code if a guest failed; a shell reports it for an abort.
pub(super) const GUEST_FAILED: u8 = 134;

/// The reason why nothing was started, with hints.
#[derive(Debug)]
pub(super) struct CommandFailure {
    /// May quote foreign text; [`text`](CommandFailure::text) escapes it.
    error: anyhow::Error,
    hints: Vec<String>,
    /// The whole text, if it is rendered and escaped already.
    rendered: Option<String>,
}

impl CommandFailure {
    /// Creates a failure from an error and its causes.
    pub(super) fn new(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            hints: Vec::new(),
            rendered: None,
        }
    }

    /// Creates a failure from rendered and escaped text.
    pub(super) fn rendered(text: String) -> Self {
        Self {
            rendered: Some(text),
            ..Self::msg("nothing was started")
        }
    }

    /// Creates a failure for an app that does not start. Its causes get a line each.
    pub(super) fn start(error: &StartError) -> Self {
        Self::rendered(lines(&error.to_string(), error.causes()))
    }

    /// Returns the escaped error, its escaped causes, and the hints.
    pub(super) fn into_parts(self) -> (String, Vec<String>, Vec<String>) {
        let mut errors = self
            .error
            .chain()
            .map(|error| escape(&error.to_string()).to_string());
        let title = errors.next().unwrap_or_default();
        (title, errors.collect(), self.hints)
    }

    /// Creates a failure from a message.
    pub(super) fn msg(text: impl Into<String>) -> Self {
        Self::new(anyhow::Error::msg(text.into()))
    }

    /// Adds a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints it to stderr.
    pub(super) fn print(&self) {
        stderr::print(&self.text());
    }

    /// Returns the exit code of the process.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(NOT_STARTED)
    }

    /// Returns the error, its causes and the hints, a line each.
    pub(super) fn text(&self) -> String {
        let mut text = match &self.rendered {
            Some(rendered) => rendered.clone(),
            None => {
                let shown = |text: &dyn std::fmt::Display| escape(&text.to_string()).to_string();
                let causes = self.error.chain().skip(1);
                lines(&shown(&self.error), causes.map(|cause| shown(&cause)))
            }
        };
        for hint in &self.hints {
            text += &format!("hint: {}\n", escape(hint));
        }
        text
    }
}

/// Joins an error and its causes, which are escaped already.
fn lines(error: &str, causes: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("error: {error}\n");
    let mut previous = error.to_owned();
    for cause in causes {
        // Some foreign errors include their cause.
        if !previous.contains(&cause) {
            text += &format!("  cause: {cause}\n");
            previous = cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn text_has_error_causes_and_hints() {
        let error = anyhow!("no such file").context("cannot read `a.wasm`");
        let failure = CommandFailure::new(error)
            .hint("look again")
            .hint("or build it");
        assert_eq!(
            failure.text(),
            "error: cannot read `a.wasm`\n  cause: no such file\nhint: look again\nhint: or build it\n"
        );
    }

    #[test]
    fn cause_is_not_printed_twice() {
        let error = anyhow!("no such file").context("cannot read `a.wasm`: no such file");
        assert_eq!(
            CommandFailure::new(error).text(),
            "error: cannot read `a.wasm`: no such file\n"
        );
    }

    #[test]
    fn quoted_text_makes_no_line() {
        let error = anyhow!("no\x1b[2J\nerror: forged").context("cannot read `a\nhint: b`");
        assert_eq!(
            CommandFailure::new(error).hint("c\nd\u{202e}").text(),
            "error: cannot read `a\\nhint: b`\n  \
             cause: no\\u{1b}[2J\\nerror: forged\n\
             hint: c\\nd\\u{202e}\n"
        );
    }
}

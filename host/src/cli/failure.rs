//! What the program says when it cannot go on.

use std::ops::Range;
use std::process::ExitCode;

use super::manifest::Problem;
use super::say::say;

/// The exit code for bad usage, and for guests that cannot be started.
pub(super) const NOT_STARTED: u8 = 2;
/// The exit code for a guest that failed, as a shell reports an abort.
pub(super) const GUEST_FAILED: u8 = 134;

/// Why nothing was started, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    error: anyhow::Error,
    hints: Vec<String>,
    /// The text, where it is more than a line for each.
    shown: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub(super) fn new(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            hints: Vec::new(),
            shown: None,
        }
    }

    /// A failure that is shown already, in full.
    pub(super) fn shown(text: String) -> Self {
        Self {
            shown: Some(text),
            ..Self::says("nothing was started")
        }
    }

    /// What a manifest is the reason of, at this place in it.
    pub(super) fn problem(self, span: Range<usize>) -> Problem {
        let causes: Vec<String> = self
            .error
            .chain()
            .skip(1)
            .map(ToString::to_string)
            .collect();
        let label = match causes.is_empty() {
            true => "this one".to_owned(),
            false => causes.join(": "),
        };
        let problem = Problem::new(self.error.to_string()).at(span, label);
        self.hints.into_iter().fold(problem, Problem::hint)
    }

    /// A failure that is a text.
    pub(super) fn says(text: impl Into<String>) -> Self {
        Self::new(anyhow::Error::msg(text.into()))
    }

    /// Adds an advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints it to stderr.
    pub(super) fn print(&self) {
        say(&self.text());
    }

    /// What the process ends with.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(NOT_STARTED)
    }

    /// The error, its causes and the advice, a line each.
    pub(super) fn text(&self) -> String {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        let mut text = format!("error: {}\n", self.error);
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors of others print their cause themselves.
            if !said.contains(&cause) {
                text += &format!("  cause: {cause}\n");
                said = cause;
            }
        }
        for hint in &self.hints {
            text += &format!("hint: {hint}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn text_has_error_causes_and_hints() {
        let error = anyhow!("no such file").context("cannot read `a.wasm`");
        let failure = Failure::new(error).hint("look again").hint("or build it");
        assert_eq!(
            failure.text(),
            "error: cannot read `a.wasm`\n  cause: no such file\nhint: look again\nhint: or build it\n"
        );
    }

    #[test]
    fn cause_is_not_printed_twice() {
        let error = anyhow!("no such file").context("cannot read `a.wasm`: no such file");
        assert_eq!(
            Failure::new(error).text(),
            "error: cannot read `a.wasm`: no such file\n"
        );
    }
}

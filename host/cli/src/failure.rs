//! What the program says when it cannot go on.

use std::ops::Range;
use std::process::ExitCode;

use super::manifest::Problem;
use super::say::say;
use tombolo_app::StartError;
use tombolo_region::escape;

/// The exit code for bad usage, and for guests that cannot be started.
pub(super) const NOT_STARTED: u8 = 2;
/// The exit code for a guest that failed, as a shell reports an abort.
pub(super) const GUEST_FAILED: u8 = 134;

/// Why nothing was started, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    /// May quote anything: it is escaped where it is shown.
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

    /// An app that does not start. It explains the reason in lines of its own.
    pub(super) fn start(error: &StartError) -> Self {
        Self::shown(lines(&error.to_string(), error.causes()))
    }

    /// What a manifest is the reason of, at this place in it.
    pub(super) fn problem(self, span: Range<usize>) -> Problem {
        let shown = |text: &dyn std::fmt::Display| escape(&text.to_string()).to_string();
        let causes = self.error.chain().skip(1);
        let causes: Vec<String> = causes.map(|cause| shown(&cause)).collect();
        let label = match causes.is_empty() {
            true => "this one".to_owned(),
            false => causes.join(": "),
        };
        let problem = Problem::new(shown(&self.error)).at(span, label);
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
        let mut text = match &self.shown {
            Some(shown) => shown.clone(),
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

/// An error and its causes, each of which can be shown as it is.
fn lines(error: &str, causes: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_owned();
    for cause in causes {
        // Some errors of others print their cause themselves.
        if !said.contains(&cause) {
            text += &format!("  cause: {cause}\n");
            said = cause;
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

    #[test]
    fn nothing_that_is_quoted_makes_a_line() {
        let error = anyhow!("no\x1b[2J\nerror: forged").context("cannot read `a\nhint: b`");
        assert_eq!(
            Failure::new(error).hint("c\nd\u{202e}").text(),
            "error: cannot read `a\\nhint: b`\n  \
             cause: no\\u{1b}[2J\\nerror: forged\n\
             hint: c\\nd\\u{202e}\n"
        );
    }
}

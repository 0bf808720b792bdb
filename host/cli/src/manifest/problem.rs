//! Problems of a manifest, rendered at their lines.

use std::ops::Range;

use crate::failure::CommandFailure;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A range of bytes in a manifest.
pub(crate) type TextSpan = Range<usize>;

/// An error or a warning about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) title: String,
    /// The place, if there is one, and its label.
    pub(super) at: Option<(TextSpan, String)>,
    /// A second place and its label.
    pub(super) also: Option<(TextSpan, String)>,
    pub(super) notes: Vec<String>,
    pub(super) hints: Vec<String>,
    pub(super) warning: bool,
}

impl Problem {
    /// Creates an error without a place. Lines after the first become notes.
    pub(crate) fn new(text: impl Into<String>) -> Problem {
        let text = text.into();
        let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
        Problem {
            title: title.to_owned(),
            at: None,
            also: None,
            notes: rest.lines().map(|line| line.trim().to_owned()).collect(),
            hints: Vec::new(),
            warning: false,
        }
    }

    /// Creates an error at the place that names a file which could not be used.
    pub(super) fn from_failure(failure: CommandFailure, span: TextSpan) -> Problem {
        let (title, causes, hints) = failure.into_parts();
        let label = match causes.is_empty() {
            true => "named here".to_owned(),
            false => causes.join(": "),
        };
        let problem = Problem::new(title).at(span, label);
        hints.into_iter().fold(problem, Problem::hint)
    }

    /// Sets the place and its label.
    pub(crate) fn at(mut self, span: TextSpan, label: impl Into<String>) -> Problem {
        self.at = Some((span, label.into()));
        self
    }

    /// Sets a second place and its label.
    pub(super) fn also(mut self, span: TextSpan, label: impl Into<String>) -> Problem {
        self.also = Some((span, label.into()));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Problem {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hints.push(hint.into());
        self
    }

    /// Makes this a warning, which does not keep the app from starting.
    pub(crate) fn warning(mut self) -> Problem {
        self.warning = true;
        self
    }

    pub(crate) fn is_warning(&self) -> bool {
        self.warning
    }
}

/// Renders problems at their lines, in the order of the manifest, and counts them.
pub(crate) fn render(path: &str, text: &str, problems: &[Problem], fancy: bool) -> String {
    let renderer = match fancy {
        true => Renderer::styled(),
        false => Renderer::plain(),
    };
    let mut problems: Vec<&Problem> = problems.iter().collect();
    problems.sort_by_key(|problem| problem.at.as_ref().map_or(usize::MAX, |(at, _)| at.start));
    let mut shown = String::new();
    for problem in &problems {
        let level = match problem.warning {
            true => Level::WARNING,
            false => Level::ERROR,
        };
        let title = level.primary_title(&problem.title);
        let mut group = match &problem.at {
            Some((at, label)) => {
                let mut snippet = Snippet::source(text)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(within(text, at)).label(label));
                if let Some((also, label)) = &problem.also {
                    let also = within(text, also);
                    snippet = snippet.annotation(AnnotationKind::Context.span(also).label(label));
                }
                title.element(snippet)
            }
            None => Group::with_title(title),
        };
        for note in &problem.notes {
            group = group.element(Level::NOTE.message(note));
        }
        for hint in &problem.hints {
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        shown += &renderer.render(&[group]);
        shown += "\n\n";
    }
    let warnings = problems.iter().filter(|problem| problem.warning).count();
    shown + &count(problems.len() - warnings, warnings) + "\n"
}

/// Formats counts, as in `2 errors, 1 warning`.
fn count(errors: usize, warnings: usize) -> String {
    let some = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let counts = [some(errors, "error"), some(warnings, "warning")];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Clips a span to the text, to whole characters, and to its first line, because a table can
/// be long.
fn within(text: &str, span: &TextSpan) -> TextSpan {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    let line = text[start..end].find(['\n', '\r']).map(|at| start + at);
    start..line.unwrap_or(end)
}

//! The step `prose`: refuses words and beginnings that make prose hard to read.
//!
//! It reads the comments and strings of Rust and WIT sources, Markdown, and the comments
//! of TOML, YAML and shell files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;

use crate::source::{self, Kind, Part};

/// The words, one in a line with its replacement.
const WORDS: &str = include_str!("words.txt");

/// The words that no doc comment begins with, each with one to begin with instead.
const BEGINNINGS: &[(&str, &str)] = &[
    ("What", "a noun phrase that names the thing"),
    ("Who", "a noun phrase, such as \"The caller\""),
    ("Whoever", "a noun phrase, such as \"A caller that\""),
    ("That", "a noun phrase that names the thing"),
    ("Gives", "\"Returns\""),
    ("Says", "\"Returns\", \"Prints\" or \"Describes\""),
    ("Tells", "\"Returns whether\" or \"Notifies\""),
];

static REPLACEMENTS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = WORDS.lines().map(str::trim);
    let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    entries.filter_map(|line| line.split_once(": ")).collect()
});

/// A violation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) line: usize,
    pub(crate) word: String,
    /// Whether the word is refused because a doc comment begins with it.
    pub(crate) begins: bool,
    /// The words to write instead.
    pub(crate) instead: &'static str,
}

/// Returns one line for each violation in the tree.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in source::files(root, is_read)? {
        for finding in findings(&file.path, &file.text) {
            lines.push(format!(
                "{}:{}: \"{}\"{}: write {}",
                file.path.display(),
                finding.line,
                finding.word,
                if finding.begins {
                    " begins a doc comment"
                } else {
                    ""
                },
                finding.instead,
            ));
        }
    }
    Ok(lines)
}

fn is_read(path: &Path) -> bool {
    source::has_extension(path, &["rs", "wit", "md", "toml", "yml", "yaml", "sh"])
        || path == Path::new(".ci/run")
}

fn findings(path: &Path, text: &str) -> Vec<Finding> {
    if source::has_extension(path, &["rs", "wit"]) {
        in_source(text)
    } else if source::has_extension(path, &["md"]) {
        let lines = text.lines().enumerate();
        lines.flat_map(|(at, line)| words(line, at + 1)).collect()
    } else {
        let lines = text.lines().enumerate();
        let comments = lines.filter_map(|(at, line)| Some((at, line.split_once('#')?.1)));
        comments
            .flat_map(|(at, line)| words(line, at + 1))
            .collect()
    }
}

/// Returns the violations in the comments and strings of a Rust or WIT source.
fn in_source(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before: Option<Part> = None;
    for part in source::parts(text) {
        let first = source::line(text, part.range.start);
        let body = &text[part.range.clone()];
        if matches!(part.kind, Kind::OuterDoc | Kind::InnerDoc)
            && !before.is_some_and(|before| continues(text, &before, &part))
        {
            findings.extend(beginning(body).map(|(word, instead)| Finding {
                line: first,
                word: word.to_owned(),
                begins: true,
                instead,
            }));
        }
        if part.kind.is_comment() || is_prose(body) {
            let lines = body.lines().enumerate();
            findings.extend(lines.flat_map(|(at, line)| words(line, first + at)));
        }
        before = Some(part);
    }
    findings
}

/// Returns whether `part` is the next line of the doc comment `before`.
fn continues(text: &str, before: &Part, part: &Part) -> bool {
    let between = &text[before.range.end..part.range.start];
    before.kind == part.kind && between.trim().is_empty() && between.matches('\n').count() == 1
}

/// Returns the refused word that a doc comment begins with, and its replacement.
fn beginning(comment: &str) -> Option<(&'static str, &'static str)> {
    let body = comment.trim_start_matches(['/', '*', '!']).trim_start();
    let len = body.bytes().take_while(u8::is_ascii_alphabetic).count();
    let found = BEGINNINGS.iter().find(|(word, _)| *word == &body[..len]);
    found.copied()
}

/// Returns whether a string literal holds more than one word.
fn is_prose(literal: &str) -> bool {
    literal.split_whitespace().nth(1).is_some()
}

/// Returns the refused words of a line of prose, which has the number `line`.
fn words(text: &str, line: usize) -> Vec<Finding> {
    let text = without_code(text);
    let words = text.split(|it: char| !(it.is_alphanumeric() || it == '_'));
    let refused = words.filter_map(|word| {
        let instead = REPLACEMENTS.get(&*word.to_lowercase())?;
        Some(Finding {
            line,
            word: word.to_owned(),
            begins: false,
            instead,
        })
    });
    refused.collect()
}

/// Returns a line without its code spans.
fn without_code(line: &str) -> String {
    let mut pieces: Vec<_> = line.split('`').collect();
    // The last backtick closes nothing: its span began, or goes on, in another line.
    let last = (pieces.len() % 2 == 0).then(|| pieces.pop()).flatten();
    let prose = pieces.into_iter().step_by(2).chain(last);
    prose.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = include_str!("../../fixtures/prose.rs.txt");
    const TABLE: &str = include_str!("../../fixtures/prose.toml.txt");
    const PAGE: &str = include_str!("../../fixtures/prose.md.txt");

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let findings = findings(Path::new(path), text).into_iter();
        findings.map(|it| (it.line, it.word)).collect()
    }

    fn expected(text: &str) -> Vec<(usize, String)> {
        let lines = text.lines().enumerate().filter_map(|(at, line)| {
            let (_, words) = line.split_once("!! ")?;
            let words = words
                .split(' ')
                .map(|word| word.trim_matches('`').to_owned());
            Some(words.map(move |word| (at + 1, word)))
        });
        lines.flatten().collect()
    }

    #[test]
    fn each_marked_line_of_the_source_is_found() {
        assert_eq!(found("a.rs", SOURCE), expected(SOURCE));
    }

    #[test]
    fn each_marked_line_of_the_page_is_found() {
        assert_eq!(found("a.md", PAGE), expected(PAGE));
    }

    #[test]
    fn only_comments_of_toml_are_read() {
        assert_eq!(found("a.toml", TABLE), expected(TABLE));
    }

    #[test]
    fn message_names_word_and_replacement() {
        let [finding] = &in_source("/// Gives it.")[..] else {
            panic!("one finding");
        };
        assert!(finding.begins);
        assert_eq!(finding.instead, "\"Returns\"");
    }

    #[test]
    fn single_backtick_hides_nothing() {
        for (text, count) in [("one ` hides no {}", 1), ("two ` hide {} ` but not {}", 1)] {
            let found = words(&text.replace("{}", "nursery"), 1);
            assert_eq!(found.len(), count, "{text}");
        }
    }

    #[test]
    fn list_of_words_is_well_formed() {
        let lines = WORDS
            .lines()
            .filter(|it| !it.is_empty() && !it.starts_with('#'));
        assert_eq!(lines.count(), REPLACEMENTS.len());
        assert!(REPLACEMENTS.keys().all(|word| *word == word.to_lowercase()));
    }
}

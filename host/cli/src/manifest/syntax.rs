//! What keeps a text from being TOML.

use toml_span::{Error, ErrorKind};

use super::problem::{Problem, Span};

/// Says it in this program's words.
pub(super) fn problem(error: &Error) -> Problem {
    let at: Span = error.span.into();
    match &error.kind {
        ErrorKind::DuplicateKey { key, first } => Problem::new(format!("`{key}` is there twice"))
            .at(at, "again")
            .also((*first).into(), "first here"),
        ErrorKind::DuplicateTable { name, first } => {
            Problem::new(format!("the table `{name}` is there twice"))
                .at(at, "again")
                .also((*first).into(), "first here")
        }
        ErrorKind::UnquotedString => Problem::new("this is not a TOML value")
            .at(at, "without quotes")
            .hint("texts are in quotes, as in `\"64MiB\"`"),
        ErrorKind::UnterminatedString => {
            Problem::new("this text does not end").at(at, "there is no closing quote")
        }
        ErrorKind::UnexpectedEof => {
            Problem::new("the file ends too early").at(at, "something should follow here")
        }
        // The parser's own words; it begins them in lower case.
        _ => Problem::new("this is not TOML").at(at, error.to_string()),
    }
}

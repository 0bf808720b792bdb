//! Syntax errors of TOML.

use toml_span::{Error, ErrorKind};

use super::problem::{Problem, TextSpan};

/// Returns the problem for an error of the TOML parser.
pub(super) fn problem(error: &Error) -> Problem {
    let at: TextSpan = error.span.into();
    match &error.kind {
        ErrorKind::DuplicateKey { key, first } => Problem::new(format!("`{key}` is there twice"))
            .at(at, "again here")
            .also((*first).into(), "first here"),
        ErrorKind::DuplicateTable { name, first } => {
            Problem::new(format!("the table `{name}` is there twice"))
                .at(at, "again here")
                .also((*first).into(), "first here")
        }
        ErrorKind::UnquotedString => Problem::new("this is not a TOML value")
            .at(at, "without quotes")
            .hint("put texts in quotes, for example `\"64MiB\"`"),
        ErrorKind::UnterminatedString => {
            Problem::new("this text does not end").at(at, "there is no closing quote")
        }
        ErrorKind::UnexpectedEof => {
            Problem::new("the file ends too early").at(at, "something is missing here")
        }
        // The parser's own text, which begins in lower case.
        _ => Problem::new("this is not TOML").at(at, error.to_string()),
    }
}

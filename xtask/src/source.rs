//! The files of the tree, and the parts of a Rust or WIT source.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Directories that hold no sources of this repository, by name.
const SKIPPED: &[&str] = &["artifacts", "corpus", "node_modules", "target"];

/// The deliberate violations that the unit tests of the checks read.
const FIXTURES: &str = "xtask/fixtures";

/// A text file of the tree.
pub(crate) struct File {
    /// The path, relative to the root of the tree.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Reads all files below `root` that `wanted` accepts by their relative path, sorted.
pub(crate) fn files(root: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    walk(root, Path::new(""), &wanted, &mut paths)?;
    paths.sort();
    paths.into_iter().map(|path| read(root, path)).collect()
}

/// Reads all Rust sources below `root`, sorted.
pub(crate) fn rust(root: &Path) -> Result<Vec<File>> {
    files(root, |path| has_extension(path, &["rs"]))
}

/// Returns whether the extension of `path` is one of `extensions`.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    extension.is_some_and(|it| extensions.contains(&it))
}

fn read(root: &Path, path: PathBuf) -> Result<File> {
    let text = fs::read_to_string(root.join(&path));
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(File { path, text })
}

fn walk(
    root: &Path,
    below: &Path,
    wanted: &impl Fn(&Path) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    let directory = root.join(below);
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("cannot read the directory {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if is_source_directory(&path) {
                walk(root, &path, wanted, found)?;
            }
        } else if kind.is_file() && wanted(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_source_directory(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_hidden = name.starts_with('.') && name != ".ci" && name != ".github";
    !is_hidden && !SKIPPED.contains(&&*name) && path != Path::new(FIXTURES)
}

/// Returns the number of the line in which the byte `at` of `text` is.
pub(crate) fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// The kind of a part of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `// …` or `/* … */`.
    Comment,
    /// `/// …` or `/** … */`.
    OuterDoc,
    /// `//! …` or `/*! … */`.
    InnerDoc,
    /// A string literal of any kind, with its quotes.
    Text,
}

impl Kind {
    /// Returns whether this is a comment of any kind.
    pub(crate) fn is_comment(self) -> bool {
        self != Kind::Text
    }
}

/// A comment or a string of a source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    /// The bytes that it takes, with its delimiters and without a closing line feed.
    pub(crate) range: Range<usize>,
}

/// Returns the comments and strings of a Rust or WIT source, in order.
pub(crate) fn parts(text: &str) -> Vec<Part> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let (kind, len) = if rest.starts_with("//") {
            (comment(rest), rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (comment(rest), block_comment(rest))
        } else if let Some(len) = raw_string(text, at).or_else(|| string(rest)) {
            (Kind::Text, len)
        } else {
            at += character(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
            continue;
        };
        let range = at..at + len;
        at = range.end;
        parts.push(Part { kind, range });
    }
    parts
}

/// Returns `text` with spaces in place of its comments and strings. Line feeds stay, and
/// so does the place of each byte of code.
pub(crate) fn code(text: &str) -> String {
    let mut bytes = text.as_bytes().to_owned();
    for part in parts(text) {
        for byte in &mut bytes[part.range] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(bytes).expect("whole comments and strings are replaced")
}

fn comment(rest: &str) -> Kind {
    let is_plain = rest.starts_with("////") || rest.starts_with("/***") || rest == "/**/";
    match rest.as_bytes().get(2) {
        Some(b'/' | b'*') if !is_plain && !rest.starts_with("/**/") => Kind::OuterDoc,
        Some(b'!') => Kind::InnerDoc,
        _ => Kind::Comment,
    }
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Returns the length of the string literal that `rest` begins with.
fn string(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(bytes.len())
}

/// Returns the length of the raw string literal that begins at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let follows_a_name = at > 0 && is_name(bytes[at - 1]) && !b"bc".contains(&bytes[at - 1]);
    if bytes[at] != b'r' || follows_a_name {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&it| it == b'#').count();
    let begin = at + 1 + hashes;
    if bytes.get(begin) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &text[begin + 1..];
    let len = body.find(&end).map_or(body.len(), |it| it + end.len());
    Some(begin + 1 + len - at)
}

/// Returns the length of the character literal that `rest` begins with. A lifetime is
/// none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        // The escaped character may be a quote.
        return Some(3 + body.get(2..)?.find('\'')? + 1);
    }
    let after = &body[first.len_utf8()..];
    after.starts_with('\'').then(|| first.len_utf8() + 2)
}

/// Returns whether `byte` can be in an identifier.
pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Kind, &str)> {
        let parts = parts(text).into_iter();
        parts.map(|it| (it.kind, &text[it.range])).collect()
    }

    #[test]
    fn comments_are_told_apart() {
        let text = "//! a\n/// b\n// c\n//// d\n/* e /* f */ g */ h /** i */ /**/ /*! j */";
        assert_eq!(
            found(text),
            [
                (Kind::InnerDoc, "//! a"),
                (Kind::OuterDoc, "/// b"),
                (Kind::Comment, "// c"),
                (Kind::Comment, "//// d"),
                (Kind::Comment, "/* e /* f */ g */"),
                (Kind::OuterDoc, "/** i */"),
                (Kind::Comment, "/**/"),
                (Kind::InnerDoc, "/*! j */"),
            ]
        );
    }

    #[test]
    fn strings_hide_comments_and_quotes() {
        let text = r####"a("// \" b", r"\", r#"c "d" // "#, br##"e"# "##, b"f")"####;
        assert_eq!(
            found(text),
            [
                (Kind::Text, r#""// \" b""#),
                (Kind::Text, r#"r"\""#),
                (Kind::Text, r###"r#"c "d" // "#"###),
                (Kind::Text, r####"r##"e"# "##"####),
                (Kind::Text, r#""f""#),
            ]
        );
    }

    #[test]
    fn quotes_of_characters_open_no_string() {
        assert_eq!(found(r#"'"' '\'' '\\' 'é' "a" &'static str // b"#).len(), 2);
        assert_eq!(found(r"fn f<'a>(x: &'a str) { '\u{22}' } // c").len(), 1);
    }

    #[test]
    fn raw_names_are_code() {
        assert_eq!(found("r#type // a"), [(Kind::Comment, "// a")]);
        assert_eq!(found("for\"a\""), [(Kind::Text, "\"a\"")]);
    }

    #[test]
    fn code_keeps_its_places() {
        let text = "a; // é\n\"b\nc\" d";
        let code = code(text);
        assert_eq!(code, "a;      \n  \n   d");
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn unfinished_parts_end_with_the_text() {
        for text in ["/* a", "\"a", "\"a\\", "r#\"a", "'"] {
            assert!(
                parts(text).iter().all(|part| part.range.end <= text.len()),
                "{text}"
            );
        }
    }
}

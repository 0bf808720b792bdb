//! The step `path`: refuses sources that are compiled twice, and production code
//! that changes for a test.

use std::path::Path;

use anyhow::Result;

use crate::source::{self, File};

/// The directories whose `src` is production code.
const PRODUCTION: &[&str] = &["host", "guest-sdk"];

/// The file with the only hook for tests. They refuse each system call in turn, and only the
/// code that makes the call knows when its turn is.
const HOOK: &str = "host/core/src/sys/kernel.rs";

/// Returns one line for each violation in the tree.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = source::rust(root)?;
    Ok(files.iter().flat_map(errors).collect())
}

fn errors(file: &File) -> Vec<String> {
    let code = source::code(&file.text);
    let mut errors = Vec::new();
    for (at, attribute) in attributes(&code) {
        let error = if attribute.starts_with("path=") {
            "`#[path]` compiles a source twice: make it a module of one crate"
        } else if is_production(&file.path)
            && file.path != Path::new(HOOK)
            && is_for_tests(&attribute, &code[at..])
        {
            "production code must not change for a test"
        } else {
            continue;
        };
        let line = source::line(&code, at);
        errors.push(format!("{}:{line}: {error}", file.path.display()));
    }
    errors
}

/// Returns the place and the text of each attribute, without spaces.
fn attributes(code: &str) -> Vec<(usize, String)> {
    let starts = code.match_indices('#').filter_map(|(at, _)| {
        let rest = code[at + 1..].trim_start_matches('!');
        rest.starts_with('[').then_some((at, rest))
    });
    let attributes = starts.map(|(at, rest)| {
        let text = &rest[1..closing(rest)];
        (at, text.split_whitespace().collect::<String>())
    });
    attributes.collect()
}

/// Returns the place of the bracket that closes the one at the beginning of `code`.
fn closing(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

fn is_production(path: &Path) -> bool {
    let is_below = PRODUCTION
        .iter()
        .any(|directory| path.starts_with(directory));
    let names: Vec<_> = path.iter().filter_map(|it| it.to_str()).collect();
    let is_test = names
        .iter()
        .any(|it| ["tests", "tests.rs", "benches", "build.rs"].contains(it));
    is_below && names.contains(&"src") && !is_test
}

/// Returns whether an attribute that begins `code` makes production code differ in tests.
/// A module of tests does not, nor do its imports.
fn is_for_tests(attribute: &str, code: &str) -> bool {
    let mut words = words(attribute);
    let kind = words.next();
    if !words.any(|word| word == "test") {
        return false;
    }
    match kind {
        Some("cfg") => attribute.contains("not(test)") || !is_only_for_tests(item(code)),
        Some("cfg_attr") => true,
        _ => false,
    }
}

/// Returns whether an item is a module or an import. Production code can use neither, because
/// it has no expression and no item that exists only in tests.
fn is_only_for_tests(item: &str) -> bool {
    let mut words = words(item).skip_while(|word| VISIBILITY.contains(word));
    matches!(words.next(), Some("use" | "mod"))
}

const VISIBILITY: &[&str] = &["pub", "crate", "super", "in", "self"];

/// Returns the names and keywords in `code`.
fn words(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|it: char| !it.is_ascii() || !source::is_name(it as u8));
    words.filter(|word| !word.is_empty())
}

/// Returns the item behind the attributes that begin `code`.
fn item(code: &str) -> &str {
    let mut rest = code.trim_start();
    while let Some(attribute) = rest.strip_prefix('#') {
        let attribute = attribute.trim_start_matches('!');
        rest = attribute[closing(attribute)..]
            .trim_start_matches(']')
            .trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        let file = File {
            path: PathBuf::from(path),
            text: text.to_owned(),
        };
        let errors = errors(&file).into_iter();
        errors.map(|it| it.split(": ").take(1).collect()).collect()
    }

    #[test]
    fn paths_are_refused_everywhere() {
        let text = "#[path = \"a.rs\"]\nmod a;\n// #[path = \"b.rs\"]\n#[ path=\"c.rs\" ]\nmod c;";
        assert_eq!(lines("tests/a.rs", text), ["tests/a.rs:1", "tests/a.rs:4"]);
        assert_eq!(lines("tests/race/src/a.rs", text).len(), 2);
    }

    #[test]
    fn production_code_has_no_variant_for_tests() {
        let text = "#[cfg(not(test))]\nfn a() {}\n#[cfg(test)]\npub fn b() {}\n\
                    #[cfg_attr(not(test), allow(unused))]\nfn c() {}\n";
        let path = "host/core/src/a.rs";
        assert_eq!(lines(path, text).len(), 3);
        assert_eq!(lines("tests/a.rs", text).len(), 0);
        assert_eq!(lines("host/core/src/tests/a.rs", text).len(), 0);
    }

    #[test]
    fn items_for_tests_are_refused_whatever_their_visibility() {
        for item in [
            "fn a() {}",
            "pub fn a() {}",
            "pub(crate) async fn a() {}",
            "pub(super) fn a() {}",
            "pub(in crate::sys) struct A;",
            "#[derive(Debug)]\nstruct A;",
            "static A: u8 = 0;",
            "const A: u8 = 0;",
            "if a() { return; }",
            "impl A {}",
        ] {
            for attribute in ["#[cfg(test)]", "#[cfg(any(test, miri))]"] {
                let text = format!("{attribute}\n{item}\n");
                assert_eq!(lines("host/core/src/a.rs", &text).len(), 1, "{text}");
                assert_eq!(lines(HOOK, &text).len(), 0);
            }
        }
    }

    #[test]
    fn modules_of_tests_are_accepted() {
        let text = "#![forbid(unsafe_code)]\n#[cfg(test)]\nmod tests {}\n\
                    #[cfg(test)]\npub(crate) use a::b;\n#[cfg(test)]\nmod made_up_systems;\n\
                    #[cfg(all(test, not(miri)))]\n#[allow(unused)]\npub(super) mod tests;\n\
                    #[cfg(feature = \"test\")]\nfn a() {}\n";
        assert_eq!(lines("host/core/src/a.rs", text).len(), 0);
    }
}

//! The rules of `docs/design.md`, and the tests that are tagged with them.
//!
//! A tag is a comment `// rule 5` or `// rules 3, 7`, on the line of the `#[test]`
//! attribute or above it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::source::{self, File, Kind};

/// The page that states the rules.
const DESIGN: &str = "docs/design.md";

/// The directories with tests.
const TESTED: &[&str] = &["examples", "guest-sdk", "host", "tests"];

/// The rules with their tests.
#[derive(Default)]
pub(crate) struct Table {
    titles: BTreeMap<u32, String>,
    /// The tests of each rule, as `path: name`.
    tests: BTreeMap<u32, Vec<String>>,
    /// One line for each tag that is wrong.
    errors: Vec<String>,
}

impl Table {
    /// Reads the rules and the tests of the tree.
    pub(crate) fn read(root: &Path) -> Result<Table> {
        let design = fs::read_to_string(root.join(DESIGN));
        let design = design.with_context(|| format!("cannot read {DESIGN}"))?;
        let mut table = Table::with_titles(titles(&design));
        if table.titles.is_empty() {
            bail!(
                "{DESIGN} has no rules: below the heading `## Rules`, each begins as \
                 `1. **Title.**` does"
            );
        }
        for file in source::rust(root)? {
            if TESTED
                .iter()
                .any(|directory| file.path.starts_with(directory))
            {
                table.add(&file);
            }
        }
        Ok(table)
    }

    fn with_titles(titles: BTreeMap<u32, String>) -> Table {
        Table {
            titles,
            ..Table::default()
        }
    }

    /// Adds the tagged tests of a file.
    fn add(&mut self, file: &File) {
        let path = file.path.display();
        for tag in tags(&file.text) {
            let place = format!("{path}:{}", tag.line);
            let rules = match (tag.rules, &tag.test) {
                (Err(text), _) => {
                    let error = format!("{place}: `{text}` is no tag: write `// rule 5`");
                    self.errors.push(error);
                    continue;
                }
                (Ok(_), None) => {
                    let error = format!("{place}: the tag stands above no test");
                    self.errors.push(error);
                    continue;
                }
                (Ok(rules), Some(_)) => rules,
            };
            let test = format!("{path}: {}", tag.test.unwrap_or_default());
            for rule in rules {
                if self.titles.contains_key(&rule) {
                    self.tests.entry(rule).or_default().push(test.clone());
                } else {
                    let error = format!("{place}: {DESIGN} has no rule {rule}");
                    self.errors.push(error);
                }
            }
        }
    }

    /// Returns the table as Markdown.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (rule, title) in &self.titles {
            let tests = self.tests.get(rule).map_or(&[][..], Vec::as_slice);
            let plural = if tests.len() == 1 { "" } else { "s" };
            let _ = writeln!(text, "{rule}. {title} ({} test{plural})", tests.len());
            for test in tests {
                let _ = writeln!(text, "   - {test}");
            }
        }
        text
    }

    /// Returns one line for each wrong tag and each rule without a test.
    pub(crate) fn errors(&self) -> Vec<String> {
        let untested = self
            .titles
            .iter()
            .filter(|(rule, _)| !self.tests.contains_key(rule));
        let untested = untested.map(|(rule, title)| {
            format!("rule {rule} ({title}) has no test: tag one by `// rule {rule}`")
        });
        self.errors.iter().cloned().chain(untested).collect()
    }
}

/// Reads the number and the title of each rule.
fn titles(design: &str) -> BTreeMap<u32, String> {
    let lines = design
        .lines()
        .skip_while(|line| line.trim_end() != "## Rules");
    let section = lines.skip(1).take_while(|line| !line.starts_with("## "));
    let titles = section.filter_map(|line| {
        let (number, rest) = line.split_once(". **")?;
        let (title, _) = rest.split_once("**")?;
        Some((number.parse().ok()?, title.trim_end_matches('.').to_owned()))
    });
    titles.collect()
}

/// A comment that names rules.
#[derive(Debug, PartialEq, Eq)]
struct Tag {
    line: usize,
    /// The numbers, or the comment if it has none.
    rules: Result<Vec<u32>, String>,
    /// The test below.
    test: Option<String>,
}

fn tags(text: &str) -> Vec<Tag> {
    let code = source::code(text);
    let mut tags = Vec::new();
    for part in source::parts(text) {
        let comment = &text[part.range.clone()];
        if part.kind != Kind::Comment {
            continue;
        }
        let body = comment.trim_start_matches('/').trim();
        let Some((word, numbers)) = body.split_once(' ') else {
            continue;
        };
        if !comment.starts_with("//") || !["rule", "rules"].contains(&word) {
            continue;
        }
        // A comment that only begins with this word is prose.
        if !numbers.starts_with(|it: char| it.is_ascii_digit()) {
            continue;
        }
        tags.push(Tag {
            line: source::line(text, part.range.start),
            rules: numbers_of(numbers).ok_or_else(|| body.to_owned()),
            test: test_below(&code, part.range.start),
        });
    }
    tags
}

fn numbers_of(text: &str) -> Option<Vec<u32>> {
    let numbers = text.trim_end_matches('.').split(',');
    numbers.map(|it| it.trim().parse().ok()).collect()
}

/// Returns the name of the test function whose attributes begin on the line of the byte
/// `at`, or below it. The code has no comments.
fn test_below(code: &str, at: usize) -> Option<String> {
    let begin = code[..at].rfind('\n').map_or(0, |it| it + 1);
    let rest = &code[begin..];
    let function = rest.find("fn ")?;
    let (attributes, function) = rest.split_at(function);
    // Anything that ends another item lies in between.
    let is_above = !attributes.contains([';', '{', '}']);
    let is_test = attributes.contains("test]") || attributes.contains("test(");
    let name = function["fn ".len()..].trim_start();
    let len = name
        .bytes()
        .take_while(|&byte| source::is_name(byte))
        .count();
    (is_above && is_test && len > 0).then(|| name[..len].to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const DESIGN: &str = "# D\n\n1. **No.** Not here.\n\n## Rules\n\n1. **Authority.** A.\n   \
                          2. **Lock**: b.\n\n13. **Ends.** c.\n\n## Else\n\n3. **No.**\n";

    fn table(text: &str) -> Table {
        let titles = [(1, "Authority".to_owned()), (2, "Lock".to_owned())];
        let mut table = Table::with_titles(titles.into());
        table.add(&File {
            path: PathBuf::from("tests/a.rs"),
            text: text.to_owned(),
        });
        table
    }

    #[test]
    fn titles_are_read_from_their_section() {
        let titles = titles(DESIGN);
        assert_eq!(titles.len(), 2);
        assert_eq!(titles[&1], "Authority");
        assert_eq!(titles[&13], "Ends");
    }

    #[test]
    fn tags_belong_to_the_test_below() {
        let table = table(
            "// rule 1\n/// Words; more.\n#[test]\nfn first() {}\n\
             #[tokio::test] // rules 1, 2\nasync fn second() {}\n\
             proptest! {\n    // rule 2\n    #[test]\n    fn third(a in 0..1) {}\n}\n",
        );
        assert!(table.errors().is_empty(), "{:?}", table.errors());
        assert_eq!(table.tests[&1], ["tests/a.rs: first", "tests/a.rs: second"]);
        assert_eq!(table.tests[&2], ["tests/a.rs: second", "tests/a.rs: third"]);
    }

    #[test]
    fn rule_without_a_test_is_an_error() {
        let errors = table("// rule 1\n#[test]\nfn a() {}\n").errors();
        assert_eq!(
            errors,
            ["rule 2 (Lock) has no test: tag one by `// rule 2`"]
        );
    }

    #[test]
    fn unknown_rule_is_an_error() {
        let errors = table("// rules 1, 2, 14\n#[test]\nfn a() {}\n").errors();
        assert_eq!(errors, ["tests/a.rs:1: docs/design.md has no rule 14"]);
    }

    #[test]
    fn tag_above_no_test_is_an_error() {
        for text in [
            "// rules 1, 2\nfn a() {}\n",
            "// rules 1, 2\nconst A: u32 = 1;\n#[test]\nfn a() {}\n",
            "// rules 1, 2",
        ] {
            let errors = table(text).errors;
            assert_eq!(
                errors,
                ["tests/a.rs:1: the tag stands above no test"],
                "{text}"
            );
        }
    }

    #[test]
    fn misspelt_tag_is_an_error() {
        let errors = table("// rule 1 and 2\n#[test]\nfn a() {}\n").errors;
        assert_eq!(
            errors,
            ["tests/a.rs:1: `rule 1 and 2` is no tag: write `// rule 5`"]
        );
    }

    #[test]
    fn prose_about_a_rule_is_no_tag() {
        assert!(tags("// rule of thumb\n// rules are there\n// as rule 5 says\n").is_empty());
    }

    #[test]
    fn table_lists_the_tests_of_each_rule() {
        let table = table("// rule 2\n#[test]\nfn a() {}\n");
        let rendered = table.render();
        assert_eq!(
            rendered,
            "1. Authority (0 tests)\n2. Lock (1 test)\n   - tests/a.rs: a\n"
        );
    }
}

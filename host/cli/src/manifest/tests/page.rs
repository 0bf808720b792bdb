//! The tables of `docs/manifest.md`.

use super::*;

const PAGE: &str = "../../docs/manifest.md";

/// Returns a description of the values of a shape, for the page.
fn values(shape: &Shape) -> String {
    match shape {
        Shape::Text(what, _) => what.strip_prefix("a ").unwrap_or(what).to_owned(),
        Shape::Number(least, most) => format!("{least} to {most}"),
        Shape::Size => "size".to_owned(),
        Shape::Time => "time".to_owned(),
        Shape::TimeOrNone => "time, or `none`".to_owned(),
        Shape::Word(words) => {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            words.join(", ")
        }
        Shape::Set(each, 0) | Shape::List(each) => format!("list of: {}", values(each)),
        Shape::Set(each, _) => format!("list, not empty, of: {}", values(each)),
        Shape::Names { of, each, .. } => {
            format!(
                "table: {} = {}",
                of.strip_prefix("a ").unwrap_or(of),
                values(each)
            )
        }
        Shape::Table(table) => format!("table, of {}", table.what),
        Shape::Either(word, other) => format!("{}, or {}", values(word), values(other)),
    }
}

/// Returns the meanings of a shape's words.
fn words(shape: &Shape) -> String {
    match shape {
        Shape::Word(words) => words
            .iter()
            .map(|(word, doc)| format!(" `{word}`: {doc}."))
            .collect(),
        Shape::Either(word, _) => words(word),
        _ => String::new(),
    }
}

fn rows(table: &TableShape) -> String {
    let mut rows = "| key | value | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in table.keys {
        let default = match key.required {
            true => "*required*",
            false => key.default,
        };
        rows += &format!(
            "| `{}` | {} | {default} | {}{} |\n",
            key.name,
            values(&key.shape),
            key.doc,
            words(&key.shape)
        );
    }
    rows
}

#[test]
fn page_has_every_key_with_its_default() {
    let page = read(PAGE);
    let mut new = page.clone();
    for (name, table) in [
        ("manifest", &shape::MANIFEST),
        ("app", &shape::APP),
        ("guest", &shape::GUEST),
        ("dir", &shape::DIR),
        ("restart", &shape::RESTART),
        ("limits", &shape::LIMITS),
        ("channel", &shape::CHANNEL),
        ("scope", &shape::SCOPE),
    ] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
        let from = new.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
        let to = new.find(&end).unwrap_or_else(|| panic!("no {end}"));
        new.replace_range(from..to, &rows(table));
    }
    assert_file(PAGE, &new);
}

//! Whether a manifest has the shape that it should have.

use regex_lite::Regex;
use toml_span::value::{Table as Values, Value, ValueInner};

use super::problem::{Problem, Span};
use super::shape::{self, Key, Shape, Table};
use tombolo_app::internal::Hints;

/// Finds all that is wrong with the manifest's shape.
pub(super) fn manifest(value: &Value<'_>) -> Vec<Problem> {
    let mut conform = Conform {
        problems: Vec::new(),
    };
    if let Some(values) = value.as_table() {
        conform.table(&shape::MANIFEST, values, Owner::Manifest);
    }
    conform.problems
}

/// Whose keys are looked at.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Manifest,
    /// A table with a name, as in ``guest `decode` ``, and where that is.
    Named(&'a str, &'a str, &'a Span),
    /// A table without one.
    Plain(&'a str, &'a Span),
}

impl Owner<'_> {
    fn text(self) -> String {
        match self {
            Owner::Manifest => "the manifest".to_owned(),
            Owner::Named(what, name, _) => {
                let what = what.strip_prefix("a ").unwrap_or(what);
                format!("{what} `{name}`")
            }
            Owner::Plain(what, _) => what.to_owned(),
        }
    }

    fn span(self) -> Option<Span> {
        match self {
            Owner::Manifest => None,
            Owner::Named(_, _, span) | Owner::Plain(_, span) => Some(span.clone()),
        }
    }
}

/// What a value belongs to.
#[derive(Clone, Copy)]
struct Of<'a> {
    key: &'a Key,
    /// Where the name of the value is, for what has no place of its own.
    named: &'a Span,
    /// Whether it is a part of the key's value.
    part: bool,
}

impl<'a> Of<'a> {
    fn part(self) -> Of<'a> {
        Of { part: true, ..self }
    }
}

struct Conform {
    problems: Vec<Problem>,
}

impl Conform {
    fn table(&mut self, table: &'static Table, values: &Values<'_>, owner: Owner<'_>) {
        for (key, value) in values {
            match table.key(&key.name) {
                Some(known) => {
                    let of = Of {
                        key: known,
                        named: &key.span.into(),
                        part: false,
                    };
                    self.value(&known.shape, value, of);
                }
                None => self.unknown(table, &key.name, key.span.into()),
            }
        }
        for key in table.keys {
            if key.required && !values.contains_key(key.name) {
                let text = owner.text();
                let problem = Problem::new(format!("{text} has no `{}`", key.name))
                    .hint(format!("as in `{}`", key.example));
                self.problems.push(match owner.span() {
                    Some(span) => problem.at(span, format!("has no `{}`", key.name)),
                    None => problem,
                });
            }
        }
    }

    fn unknown(&mut self, table: &Table, name: &str, span: Span) {
        let near = near(name, table.names());
        let label = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "not a key".to_owned(),
        };
        let names: Vec<String> = table.names().map(|name| format!("`{name}`")).collect();
        self.problems.push(
            Problem::new(format!("{} has no key `{name}`", table.what))
                .at(span, label)
                .hint(format!("its keys are {}", names.join(", "))),
        );
    }

    /// Looks at the value of a key, or at a part of it.
    fn value(&mut self, shape: &'static Shape, value: &Value<'_>, of: Of<'_>) {
        let Of { key, named, .. } = of;
        let inner = value.as_ref();
        match (shape, inner) {
            (Shape::Text(what, pattern), ValueInner::String(text)) => {
                if !matches(pattern, text) {
                    self.bad(what, pattern, text, value, key);
                }
            }
            (Shape::Number(least, most), ValueInner::Integer(number)) => {
                if !(least..=most).contains(&number) {
                    let text = format!("`{}` is a number from {least} to {most}", key.name);
                    let label = match number < least {
                        true => format!("less than {least}"),
                        false => format!("more than {most}"),
                    };
                    self.problems
                        .push(Problem::new(text).at(value.span.into(), label));
                }
            }
            (Shape::Size, ValueInner::Integer(number)) => {
                if *number < 0 {
                    self.wrong(shape, value, of, "less than nothing");
                }
            }
            (Shape::Size, ValueInner::String(text)) => {
                if !matches(shape::SIZE, text) {
                    self.wrong(shape, value, of, "not a size");
                }
            }
            (Shape::Time, ValueInner::String(text)) => {
                if !matches(shape::TIME, text) {
                    self.wrong(shape, value, of, "not a time");
                }
            }
            (Shape::TimeOrNone, ValueInner::String(text)) => {
                if !matches(shape::TIME_OR_NONE, text) {
                    self.wrong(shape, value, of, "not a time");
                }
            }
            (Shape::Word(words), ValueInner::String(text)) => {
                if words.iter().all(|(word, _)| word != text) {
                    let label = match near(text, words.iter().map(|(word, _)| *word)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "none of these".to_owned(),
                    };
                    self.wrong(shape, value, of, &label);
                }
            }
            (Shape::Set(each, least), ValueInner::Array(values)) => {
                if values.len() < *least {
                    self.wrong(shape, value, of, "nothing is in it");
                }
                for (index, value) in values.iter().enumerate() {
                    self.value(each, value, of.part());
                    let before = values[..index].iter();
                    let same = |other: &&Value<'_>| {
                        value
                            .as_str()
                            .is_some_and(|text| Some(text) == other.as_str())
                    };
                    if let (Some(text), Some(first)) = (value.as_str(), { before }.find(same)) {
                        let problem = Problem::new(format!("`{text}` is twice in `{}`", key.name));
                        self.problems.push(
                            problem
                                .at(value.span.into(), "again")
                                .also(first.span.into(), "first here"),
                        );
                    }
                }
            }
            (Shape::List(each), ValueInner::Array(values)) => {
                for value in values {
                    self.value(each, value, of.part());
                }
            }
            (
                Shape::Names {
                    of: what,
                    pattern,
                    least,
                    each,
                },
                ValueInner::Table(values),
            ) => {
                if values.len() < *least {
                    self.problems.push(
                        Problem::new(format!("`{}` is empty: it needs {what}", key.name))
                            .at(named.clone(), "nothing is in it")
                            .hint(format!("as in `{}`", key.example)),
                    );
                }
                for (name, value) in values {
                    let at: Span = name.span.into();
                    if !matches(pattern, &name.name) {
                        self.problems.push(
                            Problem::new(format!("`{}` cannot be the name of {what}", name.name))
                                .at(at.clone(), "not a name")
                                .hint(rule(pattern)),
                        );
                    }
                    match (each, value.as_table()) {
                        (Shape::Table(table), Some(values)) => {
                            self.table(table, values, Owner::Named(what, &name.name, &at));
                        }
                        (Shape::Table(table), None) => {
                            let problem =
                                Problem::new(format!("{what} is a table, not {}", found(value)));
                            let keys: Vec<&str> = table
                                .keys
                                .iter()
                                .filter(|key| key.required)
                                .map(|key| key.example)
                                .collect();
                            self.problems
                                .push(problem.at(value.span.into(), found(value)).hint(format!(
                                    "as in `{} = {{ {} }}`",
                                    name.name,
                                    keys.join(", ")
                                )));
                        }
                        _ => self.value(
                            each,
                            value,
                            Of {
                                named: &at,
                                ..of.part()
                            },
                        ),
                    }
                }
            }
            (Shape::Table(table), ValueInner::Table(values)) => {
                let span = match usize::abs_diff(value.span.start, value.span.end) {
                    0 => named.clone(),
                    _ => value.span.into(),
                };
                self.table(table, values, Owner::Plain(table.what, &span));
            }
            (Shape::Either(word, _), ValueInner::String(_)) => self.value(word, value, of),
            (Shape::Either(_, table), ValueInner::Table(_)) => self.value(table, value, of),
            _ => {
                let found = found(value);
                self.wrong(shape, value, of, found);
            }
        }
    }

    /// A text that does not match.
    fn bad(&mut self, what: &str, pattern: &str, text: &str, value: &Value<'_>, key: &Key) {
        let problem = match text.is_empty() {
            true => Problem::new(format!("`{}` is {what}, which is not empty", key.name)),
            false => Problem::new(format!("`{}` is {what}, and this cannot be one", key.name)),
        };
        self.problems.push(
            problem
                .at(value.span.into(), format!("not {what}"))
                .hint(rule(pattern)),
        );
    }

    /// A value that is not of the kind that the shape wants.
    fn wrong(&mut self, shape: &Shape, value: &Value<'_>, of: Of<'_>, label: &str) {
        let key = of.key;
        let title = match of.part {
            true => format!("each of `{}` is {}", key.name, wanted(shape)),
            false => format!("`{}` is {}", key.name, wanted(shape)),
        };
        self.problems.push(
            Problem::new(title)
                .at(value.span.into(), label)
                .hint(format!("as in `{}`", key.example)),
        );
    }
}

/// What a shape wants, as in `a number from 0 to 1000`.
fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Text(what, _) => (*what).to_owned(),
        Shape::Number(least, most) => format!("a number from {least} to {most}"),
        Shape::Size => "a size: a number of bytes, or a text as in `64MiB`".to_owned(),
        Shape::Time => "a time, as in `500ms`".to_owned(),
        Shape::TimeOrNone => "a time, as in `500ms`, or `none`".to_owned(),
        Shape::Word(words) => {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => {
                    format!("{} or {last}", rest.join(", "))
                }
                _ => words.concat(),
            }
        }
        Shape::List(Shape::Table(_)) => "a list of tables".to_owned(),
        Shape::Set(_, 1..) => "a list that is not empty".to_owned(),
        Shape::List(_) | Shape::Set(..) => "a list".to_owned(),
        Shape::Names { .. } | Shape::Table(_) => "a table".to_owned(),
        Shape::Either(word, _) => format!("{}, or a table", wanted(word)),
    }
}

/// What a value is.
fn found(value: &Value<'_>) -> &'static str {
    match value.as_ref() {
        ValueInner::String(_) => "a text",
        ValueInner::Integer(_) => "a number",
        ValueInner::Float(_) => "a number with a fraction",
        ValueInner::Boolean(_) => "true or false",
        ValueInner::Array(_) => "a list",
        ValueInner::Table(_) => "a table",
    }
}

/// What a pattern asks for, for people.
fn rule(pattern: &str) -> &'static str {
    match pattern {
        shape::NAME => "a name has 1 to 64 letters, digits, `-` and `_`",
        shape::VARIABLE => "a variable's name is not empty, and has no `=` and no NUL in it",
        shape::SOME => "it has at least one character, and no NUL in it",
        _ => "it has no NUL in it",
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern)
        .expect("patterns are tested")
        .is_match(text)
}

/// The name that was meant, perhaps.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    Hints::new().nearest(name, names.map(|known| (known, known)), 0.8)
}

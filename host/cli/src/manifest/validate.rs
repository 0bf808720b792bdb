//! Checks values against their [description](shape).

use regex_lite::Regex;
use toml_span::value::{Table as Values, Value, ValueInner};

use super::problem::{Problem, TextSpan};
use super::shape::{self, KeyShape, Shape, TableShape};
use tombolo_app::internal::Hints;

/// Returns all mistakes in the shape of a manifest.
pub(super) fn manifest(value: &Value<'_>) -> Vec<Problem> {
    let mut validator = Validator {
        problems: Vec::new(),
    };
    if let Some(values) = value.as_table() {
        validator.table(&shape::MANIFEST, values, TableOwner::Manifest);
    }
    validator.problems
}

/// The table whose keys are checked.
#[derive(Clone, Copy)]
enum TableOwner<'a> {
    Manifest,
    /// A named table, such as ``guest `decode` ``: its kind, its name and the place of the
    /// name.
    Named(&'a str, &'a str, &'a TextSpan),
    /// A table without a name: its kind and its place.
    Plain(&'a str, &'a TextSpan),
}

impl TableOwner<'_> {
    fn text(self) -> String {
        match self {
            TableOwner::Manifest => "the manifest".to_owned(),
            TableOwner::Named(kind, name, _) => {
                let kind = kind.strip_prefix("a ").unwrap_or(kind);
                format!("{kind} `{name}`")
            }
            TableOwner::Plain(kind, _) => kind.to_owned(),
        }
    }

    fn span(self) -> Option<TextSpan> {
        match self {
            TableOwner::Manifest => None,
            TableOwner::Named(_, _, span) | TableOwner::Plain(_, span) => Some(span.clone()),
        }
    }
}

/// The key that a value belongs to.
#[derive(Clone, Copy)]
struct Context<'a> {
    key: &'a KeyShape,
    /// The place of the name before the value, for values without a place of their own.
    name: &'a TextSpan,
    /// Whether the value is an item of the key's list or table.
    item: bool,
}

impl<'a> Context<'a> {
    fn item(self) -> Context<'a> {
        Context { item: true, ..self }
    }
}

struct Validator {
    problems: Vec<Problem>,
}

impl Validator {
    fn table(&mut self, table: &'static TableShape, values: &Values<'_>, owner: TableOwner<'_>) {
        for (key, value) in values {
            match table.key(&key.name) {
                Some(known) => {
                    let context = Context {
                        key: known,
                        name: &key.span.into(),
                        item: false,
                    };
                    self.value(&known.shape, value, context);
                }
                None => self.unknown_key(table, &key.name, key.span.into()),
            }
        }
        for key in table.keys {
            if key.required && !values.contains_key(key.name) {
                self.missing_key(key, owner);
            }
        }
    }

    fn unknown_key(&mut self, table: &TableShape, name: &str, span: TextSpan) {
        let label = match near(name, table.names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "unknown key".to_owned(),
        };
        let names: Vec<String> = table.names().map(|name| format!("`{name}`")).collect();
        self.problems.push(
            Problem::new(format!("{} has no key `{name}`", table.what))
                .at(span, label)
                .hint(format!("its keys are {}", names.join(", "))),
        );
    }

    fn missing_key(&mut self, key: &KeyShape, owner: TableOwner<'_>) {
        let problem = Problem::new(format!("{} has no `{}`", owner.text(), key.name))
            .hint(format!("for example, `{}`", key.example));
        self.problems.push(match owner.span() {
            Some(span) => problem.at(span, format!("`{}` is missing", key.name)),
            None => problem,
        });
    }

    /// Checks the value of a key, or an item of it.
    fn value(&mut self, shape: &'static Shape, value: &Value<'_>, context: Context<'_>) {
        match (shape, value.as_ref()) {
            (Shape::Text(kind, pattern), ValueInner::String(text)) => {
                if !matches(pattern, text) {
                    self.bad_text(kind, pattern, text, value, context.key);
                }
            }
            (Shape::Number(least, most), ValueInner::Integer(number)) => {
                self.number(*least, *most, *number, value, context.key);
            }
            (Shape::Size, ValueInner::Integer(number)) => {
                if *number < 0 {
                    self.wrong(shape, value, context, "negative");
                }
            }
            (Shape::Size, ValueInner::String(text)) => {
                if !matches(shape::SIZE, text) {
                    self.wrong(shape, value, context, "not a size");
                }
            }
            (Shape::Time, ValueInner::String(text)) => {
                if !matches(shape::TIME, text) {
                    self.wrong(shape, value, context, "not a time");
                }
            }
            (Shape::TimeOrNone, ValueInner::String(text)) => {
                if !matches(shape::TIME_OR_NONE, text) {
                    self.wrong(shape, value, context, "not a time");
                }
            }
            (Shape::Word(words), ValueInner::String(text)) => {
                if words.iter().all(|(word, _)| word != text) {
                    let label = match near(text, words.iter().map(|(word, _)| *word)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "unknown value".to_owned(),
                    };
                    self.wrong(shape, value, context, &label);
                }
            }
            (Shape::Set(each, least), ValueInner::Array(values)) => {
                if values.len() < *least {
                    self.wrong(shape, value, context, "empty");
                }
                self.list(each, values, context);
                self.repetitions(values, context.key);
            }
            (Shape::List(each), ValueInner::Array(values)) => self.list(each, values, context),
            (Shape::Names { least, .. }, ValueInner::Table(values)) => {
                if values.len() < *least {
                    self.empty_table(shape, context);
                }
                self.names(shape, values, context);
            }
            (Shape::Table(table), ValueInner::Table(values)) => {
                let span = match value.span.start == value.span.end {
                    true => context.name.clone(),
                    false => value.span.into(),
                };
                self.table(table, values, TableOwner::Plain(table.what, &span));
            }
            (Shape::Either(word, _), ValueInner::String(_)) => self.value(word, value, context),
            (Shape::Either(_, table), ValueInner::Table(_)) => self.value(table, value, context),
            _ => self.wrong(shape, value, context, kind(value)),
        }
    }

    fn number(&mut self, least: i64, most: i64, number: i64, value: &Value<'_>, key: &KeyShape) {
        if (least..=most).contains(&number) {
            return;
        }
        let label = match number < least {
            true => format!("less than {least}"),
            false => format!("more than {most}"),
        };
        let title = format!("`{}` must be a number from {least} to {most}", key.name);
        self.problems
            .push(Problem::new(title).at(value.span.into(), label));
    }

    fn list(&mut self, each: &'static Shape, values: &[Value<'_>], context: Context<'_>) {
        for value in values {
            self.value(each, value, context.item());
        }
    }

    /// Reports texts that are in a list twice.
    fn repetitions(&mut self, values: &[Value<'_>], key: &KeyShape) {
        for (index, value) in values.iter().enumerate() {
            let Some(text) = value.as_str() else { continue };
            let mut earlier = values[..index].iter();
            if let Some(first) = earlier.find(|other| other.as_str() == Some(text)) {
                self.problems.push(
                    Problem::new(format!("`{text}` is in `{}` twice", key.name))
                        .at(value.span.into(), "again here")
                        .also(first.span.into(), "first here"),
                );
            }
        }
    }

    fn empty_table(&mut self, shape: &Shape, context: Context<'_>) {
        let Shape::Names { of, .. } = shape else {
            return;
        };
        let key = context.key;
        self.problems.push(
            Problem::new(format!("`{}` is empty, and needs {of}", key.name))
                .at(context.name.clone(), "empty")
                .hint(format!("for example, `{}`", key.example)),
        );
    }

    /// Checks a table with names as keys.
    fn names(&mut self, shape: &'static Shape, values: &Values<'_>, context: Context<'_>) {
        let Shape::Names {
            of, pattern, each, ..
        } = shape
        else {
            return;
        };
        for (name, value) in values {
            let at: TextSpan = name.span.into();
            if !matches(pattern, &name.name) {
                self.problems.push(
                    Problem::new(format!("`{}` cannot be the name of {of}", name.name))
                        .at(at.clone(), "not a valid name")
                        .hint(rule(pattern)),
                );
            }
            match (each, value.as_table()) {
                (Shape::Table(table), Some(values)) => {
                    self.table(table, values, TableOwner::Named(of, &name.name, &at));
                }
                (Shape::Table(table), None) => self.not_a_table(of, table, &name.name, value),
                _ => {
                    let context = Context {
                        name: &at,
                        ..context.item()
                    };
                    self.value(each, value, context);
                }
            }
        }
    }

    fn not_a_table(&mut self, of: &str, table: &TableShape, name: &str, value: &Value<'_>) {
        let required = table.keys.iter().filter(|key| key.required);
        let examples: Vec<&str> = required.map(|key| key.example).collect();
        self.problems.push(
            Problem::new(format!("{of} must be a table, not {}", kind(value)))
                .at(value.span.into(), kind(value))
                .hint(format!(
                    "for example, `{name} = {{ {} }}`",
                    examples.join(", ")
                )),
        );
    }

    /// Reports a text that does not match its pattern.
    fn bad_text(
        &mut self,
        kind: &str,
        pattern: &str,
        text: &str,
        value: &Value<'_>,
        key: &KeyShape,
    ) {
        let label = match text.is_empty() {
            true => "empty".to_owned(),
            false => format!("not {kind}"),
        };
        self.problems.push(
            Problem::new(format!("`{}` must be {kind}", key.name))
                .at(value.span.into(), label)
                .hint(rule(pattern)),
        );
    }

    /// Reports a value that its shape does not permit.
    fn wrong(&mut self, shape: &Shape, value: &Value<'_>, context: Context<'_>, label: &str) {
        let key = context.key;
        let title = match context.item {
            true => format!("each of `{}` must be {}", key.name, wanted(shape)),
            false => format!("`{}` must be {}", key.name, wanted(shape)),
        };
        self.problems.push(
            Problem::new(title)
                .at(value.span.into(), label)
                .hint(format!("for example, `{}`", key.example)),
        );
    }
}

/// Returns a description of the values of a shape, as in `a number from 0 to 1000`.
fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Text(kind, _) => (*kind).to_owned(),
        Shape::Number(least, most) => format!("a number from {least} to {most}"),
        Shape::Size => "a size: a number of bytes, or a text such as `64MiB`".to_owned(),
        Shape::Time => "a time, such as `500ms`".to_owned(),
        Shape::TimeOrNone => "a time, such as `500ms`, or `none`".to_owned(),
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

/// Returns the kind of a value, for messages.
fn kind(value: &Value<'_>) -> &'static str {
    match value.as_ref() {
        ValueInner::String(_) => "a text",
        ValueInner::Integer(_) => "a number",
        ValueInner::Float(_) => "a number with a fraction",
        ValueInner::Boolean(_) => "true or false",
        ValueInner::Array(_) => "a list",
        ValueInner::Table(_) => "a table",
    }
}

/// Returns a sentence about the texts that match a pattern.
fn rule(pattern: &str) -> &'static str {
    match pattern {
        shape::NAME => "a name has 1 to 64 letters, digits, `-` and `_`",
        shape::VARIABLE => "a variable's name is not empty and contains no `=` and no NUL",
        shape::SOME => "it must have at least one character, and no NUL",
        _ => "it must not contain NUL",
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern)
        .expect("patterns are tested")
        .is_match(text)
}

/// Returns the known name that is most like `name`, if one is similar enough.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    Hints::new().nearest(name, names.map(|known| (known, known)), 0.8)
}

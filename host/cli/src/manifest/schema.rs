//! The schema of manifests, for editors.

use miniserde::json::{self, Number, Object, Value};

use super::shape::{self, Key, Shape, Table};

/// The schema, as JSON text of many lines.
pub(crate) fn schema() -> String {
    let Value::Object(mut schema) = table(&shape::MANIFEST) else {
        unreachable!("a table's schema is an object");
    };
    let mut set = |key: &str, value: &str| schema.insert(key.to_owned(), text(value));
    set("$schema", "http://json-schema.org/draft-07/schema#");
    set("title", "tombolo.toml");
    set(
        "description",
        "An app of WebAssembly guests that share memory, for `tombolo run`.",
    );
    let mut lines = String::new();
    write(&mut lines, &Value::Object(schema), 0);
    lines + "\n"
}

fn table(table: &Table) -> Value {
    let properties = table.keys.iter().map(|key| (key.name.to_owned(), of(key)));
    let required = table.keys.iter().filter(|key| key.required);
    let mut members = vec![
        ("type", text("object")),
        ("properties", Value::Object(properties.collect())),
        ("additionalProperties", Value::Bool(false)),
    ];
    let required: Vec<Value> = required.map(|key| text(key.name)).collect();
    if !required.is_empty() {
        members.push(("required", Value::Array(required.into_iter().collect())));
    }
    object(members)
}

/// The schema of a key's value, with what it means.
fn of(key: &Key) -> Value {
    let Value::Object(mut schema) = shape(&key.shape) else {
        unreachable!("a schema is an object");
    };
    let doc = match key.default {
        "" => key.doc.to_owned(),
        default => format!("{} Default: {default}.", key.doc),
    };
    schema.insert("description".to_owned(), text(&doc));
    Value::Object(schema)
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text(_, pattern) => object([("type", text("string")), ("pattern", text(pattern))]),
        Shape::Number(least, most) => object([
            ("type", text("integer")),
            ("minimum", number(*least)),
            ("maximum", number(*most)),
        ]),
        Shape::Size => object([
            ("type", list([text("integer"), text("string")])),
            ("minimum", number(0)),
            ("pattern", text(shape::SIZE)),
        ]),
        Shape::Time => object([("type", text("string")), ("pattern", text(shape::TIME))]),
        Shape::TimeOrNone => object([
            ("type", text("string")),
            ("pattern", text(shape::TIME_OR_NONE)),
        ]),
        Shape::Word(words) => object([
            ("type", text("string")),
            ("enum", list(words.iter().map(|(word, _)| text(word)))),
        ]),
        Shape::Set(each, least) => object([
            ("type", text("array")),
            ("items", shape(each)),
            ("uniqueItems", Value::Bool(true)),
            ("minItems", number(*least as i64)),
        ]),
        Shape::List(each) => object([("type", text("array")), ("items", shape(each))]),
        Shape::Names {
            pattern,
            least,
            each,
            ..
        } => object([
            ("type", text("object")),
            ("propertyNames", object([("pattern", text(pattern))])),
            ("minProperties", number(*least as i64)),
            ("additionalProperties", shape(each)),
        ]),
        Shape::Table(of) => table(of),
        Shape::Either(one, other) => object([("anyOf", list([shape(one), shape(other)]))]),
    }
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let members = members.into_iter();
    let object: Object = members
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(object)
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn number(number: i64) -> Value {
    Value::Number(Number::I64(number))
}

/// Writes a value with a line for each member, since people read it, and
/// compare versions of it.
fn write(lines: &mut String, value: &Value, depth: usize) {
    let line = |lines: &mut String, depth: usize| {
        lines.push('\n');
        lines.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Object(members) if members.iter().next().is_some() => {
            lines.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    lines.push(',');
                }
                line(lines, depth + 1);
                *lines += &json::to_string(name);
                *lines += ": ";
                write(lines, value, depth + 1);
            }
            line(lines, depth);
            lines.push('}');
        }
        Value::Array(values) if values.iter().any(|value| matches!(value, Value::Object(_))) => {
            lines.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    lines.push(',');
                }
                line(lines, depth + 1);
                write(lines, value, depth + 1);
            }
            line(lines, depth);
            lines.push(']');
        }
        _ => *lines += &json::to_string(value),
    }
}

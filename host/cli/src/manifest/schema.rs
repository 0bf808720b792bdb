//! The JSON schema of manifests, for editors.

use serde_json::{Map, Value, json};

use super::shape::{self, KeyShape, Shape, TableShape};

/// Returns the schema as indented JSON, so that people can read it and compare versions.
pub(crate) fn schema() -> String {
    let mut schema = table(&shape::MANIFEST);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "tombolo.toml".into();
    schema["description"] =
        "An app of WebAssembly guests that share memory, for `tombolo run`.".into();
    format!("{schema:#}\n")
}

fn table(table: &TableShape) -> Value {
    let properties: Map<String, Value> = table
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = table
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Returns the schema of a key's value, with the key's meaning and default.
fn property(key: &KeyShape) -> Value {
    let mut schema = value(&key.shape);
    schema["description"] = match key.default {
        "" => key.doc.into(),
        default => format!("{} Default: {default}.", key.doc).into(),
    };
    schema
}

fn value(of: &Shape) -> Value {
    match of {
        Shape::Text(_, pattern) => json!({ "type": "string", "pattern": pattern }),
        Shape::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Size => json!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": shape::SIZE,
        }),
        Shape::Time => json!({ "type": "string", "pattern": shape::TIME }),
        Shape::TimeOrNone => json!({ "type": "string", "pattern": shape::TIME_OR_NONE }),
        Shape::Word(words) => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            json!({ "type": "string", "enum": words })
        }
        Shape::Set(each, least) => json!({
            "type": "array",
            "items": value(each),
            "uniqueItems": true,
            "minItems": least,
        }),
        Shape::List(each) => json!({ "type": "array", "items": value(each) }),
        Shape::Names {
            pattern,
            least,
            each,
            ..
        } => json!({
            "type": "object",
            "propertyNames": { "pattern": pattern },
            "minProperties": least,
            "additionalProperties": value(each),
        }),
        Shape::Table(of) => table(of),
        Shape::Either(one, other) => json!({ "anyOf": [value(one), value(other)] }),
    }
}

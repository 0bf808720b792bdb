//! A validator for the part of JSON Schema that the schema uses. It panics on any other keyword,
//! so that no keyword goes unchecked.

use regex_lite::Regex;
use serde_json::{Map, Value as Json};
use toml_span::value::{Value, ValueInner};

use super::super::schema;

/// Returns the error by which the schema refuses a manifest, or `None` if it accepts it.
pub(super) fn refusal(manifest: &str) -> Option<String> {
    let schema: Json = serde_json::from_str(&schema()).expect("the schema is JSON");
    let value = toml_span::parse(manifest).expect("the manifest is TOML");
    valid(&schema, &value).err()
}

fn object(json: &Json) -> &Map<String, Json> {
    json.as_object().expect("an object")
}

fn list(json: &Json) -> Vec<&Json> {
    match json {
        Json::Array(list) => list.iter().collect(),
        other => vec![other],
    }
}

fn text(json: &Json) -> &str {
    json.as_str().expect("a string")
}

fn number(json: &Json) -> i64 {
    json.as_i64().expect("an integer")
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.as_ref() {
        ValueInner::String(_) => "string",
        ValueInner::Integer(_) => "integer",
        ValueInner::Float(_) => "number",
        ValueInner::Boolean(_) => "boolean",
        ValueInner::Array(_) => "array",
        ValueInner::Table(_) => "object",
    }
}

fn matches(pattern: &Json, text_: &str) -> bool {
    Regex::new(text(pattern)).unwrap().is_match(text_)
}

fn valid(schema: &Json, value: &Value<'_>) -> Result<(), String> {
    let schema = object(schema);
    for (keyword, wants) in schema {
        let fine = match (keyword.as_str(), value.as_ref()) {
            ("$schema" | "title" | "description", _) => true,
            ("type", _) => list(wants).iter().any(|wants| text(wants) == kind(value)),
            ("enum", ValueInner::String(is)) => list(wants).iter().any(|wants| text(wants) == is),
            ("pattern", ValueInner::String(is)) => matches(wants, is),
            ("minimum", ValueInner::Integer(is)) => *is >= number(wants),
            ("maximum", ValueInner::Integer(is)) => *is <= number(wants),
            ("anyOf", _) => list(wants).iter().any(|wants| valid(wants, value).is_ok()),
            ("items", ValueInner::Array(values)) => {
                values.iter().try_for_each(|value| valid(wants, value))?;
                true
            }
            ("minItems", ValueInner::Array(values)) => values.len() as i64 >= number(wants),
            ("uniqueItems", ValueInner::Array(values)) => {
                let mut texts: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
                texts.sort();
                texts.windows(2).all(|pair| pair[0] != pair[1])
            }
            ("minProperties", ValueInner::Table(table)) => table.len() as i64 >= number(wants),
            ("required", ValueInner::Table(table)) => {
                list(wants).iter().all(|key| table.contains_key(text(key)))
            }
            ("propertyNames", ValueInner::Table(table)) => {
                let pattern = &object(wants)["pattern"];
                table.keys().all(|key| matches(pattern, &key.name))
            }
            ("properties", ValueInner::Table(table)) => {
                for (key, wants) in object(wants) {
                    if let Some(value) = table.get(key.as_str()) {
                        valid(wants, value)?;
                    }
                }
                true
            }
            ("additionalProperties", ValueInner::Table(table)) => {
                let known = schema.get("properties").map(object);
                let more = table
                    .iter()
                    .filter(|(key, _)| known.is_none_or(|known| !known.contains_key(&*key.name)));
                for (key, value) in more {
                    match wants {
                        Json::Bool(false) => return Err(format!("`{key}` is not a key")),
                        wants => valid(wants, value)?,
                    }
                }
                true
            }
            (
                "enum"
                | "pattern"
                | "minimum"
                | "maximum"
                | "items"
                | "minItems"
                | "uniqueItems"
                | "minProperties"
                | "required"
                | "propertyNames"
                | "properties"
                | "additionalProperties",
                _,
            ) => true,
            (other, _) => panic!("the validator does not know `{other}`"),
        };
        if !fine {
            return Err(format!("{value:?} is not as `{keyword}` says"));
        }
    }
    Ok(())
}

//! Validates manifests against the schema, as editors do.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::super::schema;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is valid")
});

/// Returns the error by which the schema refuses a manifest, or `None` if it accepts it.
pub(super) fn refusal(manifest: &str) -> Option<String> {
    let value: Value = toml_edit::de::from_str(manifest).expect("the manifest is TOML");
    VALIDATOR
        .validate(&value)
        .err()
        .map(|error| error.to_string())
}

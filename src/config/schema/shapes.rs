//! The shapes that values have in the schema.

use serde_json::{Map, Value, json};

use super::super::node::MAX_ITEMS;

/// A map with known keys.
pub(super) fn object<'k>(
    description: &str,
    required: &[&str],
    properties: impl IntoIterator<Item = (&'k str, Value)>,
) -> Value {
    let properties: Map<_, _> = properties
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let mut object = json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// A section's key may stand there with nothing under it.
pub(super) fn section(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

pub(super) fn about(mut schema: Value, description: &str, default: Option<Value>) -> Value {
    schema["description"] = json!(description);
    if let Some(default) = default {
        schema["default"] = default;
    }
    schema
}

pub(super) fn items(reference: &str, description: &str) -> Value {
    json!({
        "description": description,
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": { "$ref": reference },
    })
}

pub(super) fn count(min: u64, max: u64) -> Value {
    let mut count = json!({ "type": "integer", "minimum": min });
    if max < u64::MAX {
        count["maximum"] = json!(max);
    }
    count
}

pub(super) fn words<'w>(list: impl Iterator<Item = &'w str>) -> Value {
    json!({ "enum": list.collect::<Vec<_>>() })
}

pub(super) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

pub(super) fn some(of: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": of })
}

pub(super) fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

pub(super) fn name() -> Value {
    json!({ "$ref": "#/$defs/name" })
}

pub(super) fn duration() -> Value {
    json!({ "$ref": "#/$defs/duration" })
}

pub(super) fn size() -> Value {
    json!({ "$ref": "#/$defs/size" })
}

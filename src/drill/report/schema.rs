//! The JSON Schema of a report.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Report;

/// The JSON Schema (2020-12) of `report.json`.
#[must_use]
pub fn schema() -> Value {
    let mut all: Vec<(String, RefOr<Schema>)> = Vec::new();
    Report::schemas(&mut all);
    let shapes: BTreeMap<_, _> = all
        .into_iter()
        .filter_map(|(name, shape)| Some((name, serde_json::to_value(shape).ok()?)))
        .collect();
    let mut root = serde_json::to_value(Report::schema()).unwrap_or_default();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Firedrill drill report");
    root["$defs"] = json!(shapes);
    here(&mut root);
    root
}

/// What the API's document has elsewhere, this one has in itself.
fn here(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/$defs/");
            }
            map.values_mut().for_each(here);
        }
        Value::Array(list) => list.iter_mut().for_each(here),
        _ => {}
    }
}

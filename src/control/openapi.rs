//! `/v1/openapi.json`: the document of the API, put together of the table of routes, the shapes of
//! `wire`, and the schema of the file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema as _;

use super::routes::{Api, Route, shapes_of};
use crate::config;
use crate::wire::ErrorBody;

/// What a refusal's status means. A route names those that it may answer with.
pub(super) const REFUSALS: &[(u16, &str)] = &[
    (
        400,
        "`malformed`, `query`, `host`, `controller`: the path or the body can't be read; there is no such filter, or not with that value; there is no `Host`; the controller's name is none",
    ),
    (
        401,
        "`unauthorized`: a token is needed, or this one is wrong",
    ),
    (
        403,
        "`cross_site`, `read_only`, `upstream_not_allowed`: a page of another site asks; the token is one for reading; the file does not allow this upstream",
    ),
    (404, "`not_found`: there is none of that name"),
    (
        409,
        "`exists`, `too_many`, `in_use`, `bind`, `stale`: how things stand is in the way",
    ),
    (
        412,
        "`changed`: it is not as the request expects it any more",
    ),
    (413, "`too_large`: the body is larger than it may be"),
    (415, "`not_json`: from a browser only JSON is taken"),
    (421, "`host`: `Host` is not a name of this control plane"),
    (
        422,
        "`invalid`, `invalid_file`: something in the body, or in the file that is read again, is not as it must be",
    ),
    (429, "`too_many_attempts`: too many wrong tokens of late"),
    (
        503,
        "`busy`, `stopping`: too many streams are being followed; the process stops",
    ),
];

/// The definitions that bodies are of: in the file's schema, and in what is answered.
const DEFINITIONS: [(&str, &str); 3] = [
    ("Rule", "RuleItem"),
    ("Partition", "PartitionItem"),
    ("Proxy", "ProxyItem"),
];

/// The route of the document itself.
pub(super) fn route() -> Route {
    let shape = json!({
        "description": "An OpenAPI document",
        "type": "object",
        "required": ["openapi", "info", "paths"],
        "properties": {
            "openapi": { "const": "3.1.0" },
            "info": {
                "type": "object",
                "required": ["title", "version"],
                "properties": { "title": { "type": "string" }, "version": { "type": "string" } },
            },
            "paths": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["operationId", "summary", "responses"],
                        "properties": {
                            "operationId": { "type": "string" },
                            "summary": { "type": "string" },
                            "responses": {
                                "type": "object",
                                "additionalProperties": {
                                    "type": "object",
                                    "properties": { "description": { "type": "string" } },
                                },
                            },
                        },
                    },
                },
            },
        },
    });
    Route::new("openapi", "This document").answers_as(
        200,
        "Every route, with all that it takes and answers",
        "application/json",
        shape,
    )
}

/// The document of these routes.
pub(super) fn document(api: &Api) -> Value {
    let mut shapes = of_the_file();
    let error = ErrorBody::name().into_owned();
    shapes.extend(shapes_of::<ErrorBody>());
    shapes.extend(api.shapes.clone());
    for (definition, item) in DEFINITIONS {
        let read = properties(&shapes, item);
        if let Some(shape) = shapes.get(definition).cloned() {
            let bodies = bodies(definition, &shape, &read);
            shapes.extend(bodies);
        }
    }
    let refusals: Map<_, _> = REFUSALS
        .iter()
        .map(|(status, about)| {
            let shape = json!({ "$ref": format!("#/components/schemas/{error}") });
            let content = json!({ "application/json": { "schema": shape } });
            let refusal = json!({ "description": about, "content": content });
            (status.to_string(), refusal)
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Firedrill",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What people and programs ask of a running Firedrill, and what they change.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "security": [{}, { "token": [] }],
        "paths": api.paths,
        "components": {
            "schemas": shapes,
            "responses": refusals,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The definitions of the file's schema, under names as types have them.
fn of_the_file() -> BTreeMap<String, Value> {
    let mut schema = config::schema();
    let Value::Object(definitions) = schema["$defs"].take() else {
        return BTreeMap::new();
    };
    let renamed = definitions.into_iter().map(|(name, mut shape)| {
        point_here(&mut shape);
        (type_name(&name), shape)
    });
    renamed.collect()
}

/// `proxy_protocol` is `ProxyProtocol`.
fn type_name(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    });
    words.collect()
}

/// Turns references into the file's schema to such into this document.
fn point_here(shape: &mut Value) {
    match shape {
        Value::Object(keys) => {
            for (key, value) in keys {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/components/schemas/{}", type_name(name));
                        }
                    }
                    _ => point_here(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(point_here),
        _ => {}
    }
}

/// The properties of a shape, those of the shapes that it is put together of included.
fn properties(shapes: &BTreeMap<String, Value>, name: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let shape = shapes.get(name).cloned().unwrap_or_default();
    let parts = shape["allOf"].as_array().into_iter().flatten();
    for part in parts.chain([&shape]) {
        all.extend(part["properties"].as_object().cloned().unwrap_or_default());
        let of = part["$ref"]
            .as_str()
            .and_then(|target| target.rsplit('/').next());
        all.extend(of.map(|name| properties(shapes, name)).unwrap_or_default());
    }
    all
}

/// Three bodies of one sort of definition: to make one (`Rule`), to put one under the path's name
/// (`RulePut`), to alter one (`RulePatch`). What answers add may be sent back and says nothing, and
/// `null` is what was not said.
fn bodies(name: &str, shape: &Value, read: &Map<String, Value>) -> [(String, Value); 3] {
    let mut make = shape.clone();
    if let Value::Object(properties) = &mut make["properties"] {
        for value in properties.values_mut() {
            *value = json!({ "anyOf": [value.take(), { "type": "null" }] });
        }
        for (key, value) in read {
            if !properties.contains_key(key) {
                let mut value = value.clone();
                value["readOnly"] = json!(true);
                properties.insert(key.clone(), value);
            }
        }
    }
    for key in shape["required"].as_array().into_iter().flatten() {
        if let Some(key) = key.as_str() {
            make["properties"][key] = shape["properties"][key].clone();
        }
    }
    let mut put = make.clone();
    if let Value::Array(required) = &mut put["required"] {
        required.retain(|key| key != "name");
    }
    let mut patch = put.clone();
    if let Value::Object(keys) = &mut patch {
        keys.remove("required");
        // What is not said stays as it is.
        keys.remove("oneOf");
    }
    [
        (name.to_owned(), make),
        (format!("{name}Put"), put),
        (format!("{name}Patch"), patch),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::document;

    /// Calls `see` with every schema of the document, and where it stands.
    fn schemas(value: &Value, place: &str, see: &mut impl FnMut(&Value, &str)) {
        if let Value::Object(keys) = value {
            for (key, inner) in keys {
                let place = format!("{place}/{key}");
                match key.as_str() {
                    "schema" | "items" | "additionalProperties" => {
                        see(inner, &place);
                    }
                    "schemas" | "properties" if inner.is_object() => {
                        for (name, shape) in inner.as_object().unwrap() {
                            see(shape, &format!("{place}/{name}"));
                        }
                    }
                    "anyOf" | "oneOf" | "allOf" => {
                        for shape in inner.as_array().unwrap() {
                            see(shape, &place);
                        }
                    }
                    _ => {}
                }
                schemas(inner, &place, see);
            }
        }
        if let Value::Array(list) = value {
            list.iter().for_each(|inner| schemas(inner, place, see));
        }
    }

    fn is_typed(shape: &Value) -> bool {
        if *shape == json!(false) {
            return true;
        }
        let has = |key| shape.get(key).is_some();
        let of = |name: &str| match &shape["type"] {
            Value::String(one) => one == name,
            Value::Array(any) => any.iter().any(|one| one == name),
            _ => false,
        };
        if of("object") && !has("properties") && !shape["additionalProperties"].is_object() {
            // Nothing may stand in it at all.
            return shape["additionalProperties"] == json!(false);
        }
        if of("array") && !has("items") && !has("prefixItems") {
            return false;
        }
        // What only requires narrows the shape that it stands in.
        [
            "$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "required",
        ]
        .iter()
        .any(|key| has(key))
    }

    #[test]
    fn nothing_is_untyped() {
        let mut seen = 0;
        let mut untyped = Vec::new();
        schemas(&document(), "", &mut |shape, place| {
            seen += 1;
            if !is_typed(shape) {
                untyped.push(format!("{place}: {shape}"));
            }
        });
        assert!(seen > 300, "{seen}");
        assert!(untyped.is_empty(), "{}", untyped.join("\n"));
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_name_is_taken_twice() {
        let document = document();
        let text = document.to_string();
        let targets = text.split("\"$ref\":\"#").skip(1);
        let targets: BTreeSet<_> = targets
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(targets.len() > 20, "{targets:?}");
        for target in targets {
            assert!(document.pointer(target).is_some(), "{target}");
        }
        let of_types = super::super::api().shapes;
        let twice = of_the_file();
        let twice: Vec<_> = twice
            .keys()
            .filter(|name| of_types.contains_key(*name))
            .collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn operations_have_names_of_their_own_and_answer_a_success() {
        let document = document();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (verb, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} twice");
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    answers.keys().any(|status| status.starts_with('2')),
                    "{verb} {path}"
                );
            }
        }
        assert!(names.len() > 15, "{names:?}");
    }

    /// What is not in the table is not described: only other dialects' routes may be so.
    #[test]
    fn no_route_of_v1_is_made_but_by_the_table() {
        let control = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control");
        let mut files = 0;
        for entry in std::fs::read_dir(control).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_file() || path.ends_with("openapi.rs") {
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let code: String = text.split_whitespace().collect();
            for made in [".route(\"/v1", ".nest(\"/v1", ".route_service(\"/v1"] {
                assert!(!code.contains(made), "{}: {made}", path.display());
            }
        }
        assert!(files > 10, "{files}");
    }
}

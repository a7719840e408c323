//! Variables in the schema: where a scalar stands, `${NAME}` may stand for it, or for a part of it.

use serde_json::{Value, json};

/// A text that has a variable in it.
const VARIABLE: &str = r"\$\{";

/// Lets variables stand for all scalars.
pub(super) fn allow(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    for (key, inner) in node.iter_mut() {
        match (key.as_str(), inner) {
            ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(allow),
            ("anyOf" | "allOf" | "oneOf", Value::Array(list)) => list.iter_mut().for_each(allow),
            ("items" | "additionalProperties" | "not", inner) => allow(inner),
            _ => {}
        }
    }
    for words in ["enum", "const"] {
        if let Some(is) = node.remove(words) {
            node.insert("anyOf".to_owned(), json!([{ words: is }, variable()]));
        }
    }
    let mut types: Vec<Value> = match node.get("type") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => return,
    };
    let is = |types: &[Value], names: &[&str]| {
        let mut types = types.iter().filter_map(Value::as_str);
        types.any(|t| names.contains(&t))
    };
    if is(&types, &["string"]) {
        if let Some(Value::String(pattern)) = node.get_mut("pattern") {
            *pattern = format!("(?:{pattern})|{VARIABLE}");
        }
    } else if is(&types, &["integer", "number", "boolean"]) {
        types.push(json!("string"));
        node.insert("type".to_owned(), Value::Array(types));
        node.insert("pattern".to_owned(), json!(VARIABLE));
    }
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": VARIABLE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_stands_for_any_scalar_and_for_nothing_else() {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "type": { "type": "integer", "minimum": 1 },
                "enum": { "enum": ["a", "b"] },
                "wait": { "$ref": "#/$defs/wait" },
                "some": { "type": ["array", "null"], "items": { "type": "boolean" } },
                "text": { "type": "string", "minLength": 1 },
                "tls": { "type": ["object", "boolean"], "properties": {} },
            },
            "$defs": { "wait": { "type": ["string", "integer"], "pattern": "^[0-9]+ms$" } },
        });
        allow(&mut schema);
        let expected = json!({
            "type": "object",
            "properties": {
                "type": { "type": ["integer", "string"], "pattern": "\\$\\{", "minimum": 1 },
                "enum": { "anyOf": [{ "enum": ["a", "b"] }, { "type": "string", "pattern": "\\$\\{" }] },
                "wait": { "$ref": "#/$defs/wait" },
                "some": {
                    "type": ["array", "null"],
                    "items": { "type": ["boolean", "string"], "pattern": "\\$\\{" },
                },
                "text": { "type": "string", "minLength": 1 },
                "tls": { "type": ["object", "boolean", "string"], "properties": {}, "pattern": "\\$\\{" },
            },
            "$defs": {
                "wait": { "type": ["string", "integer"], "pattern": "(?:^[0-9]+ms$)|\\$\\{" },
            },
        });
        assert_eq!(schema, expected);
    }
}

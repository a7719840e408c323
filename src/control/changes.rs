//! `POST /v1/changes`: several changes in one, all or nothing.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::App;
use super::asker::Asker;
use super::body::Input;
use super::definitions::{Resource, find, steps};
use super::error::Failure;
use super::partitions::Partitions;
use super::routes::{Api, Route, reference};
use super::rules::Rules;
use crate::state::{Change, Draft};
use crate::wire::Changed;

/// The most steps of one change: every definition there can be, once.
const MAX_STEPS: usize = 2000;
/// What a step may do.
const OPS: &str = "add, put, patch, delete, heal";

/// The definitions that a change names, each once.
#[derive(Default)]
struct Named {
    rules: Vec<String>,
    partitions: Vec<String>,
}

pub(super) fn routes(api: Api) -> Api {
    let route = Route::new("change", "Several changes in one: all of them or none")
        .about(
            "They take hold at the same instant. A step sees what those before it did; `path` in \
             an error names the step.",
        )
        .changes()
        .takes_as("Changes", shape())
        .answers::<Changed>(200, "All of it took hold")
        .refuses(&[404, 409, 412]);
    api.post("/v1/changes", changes, route)
}

fn shape() -> Value {
    let op = |word: &str, rule: &Value, partition: &Value| {
        let step = |key: &str, shape: &Value| {
            json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["op", key],
                "properties": { "op": { "const": word }, key: shape },
            })
        };
        [step("rule", rule), step("partition", partition)]
    };
    let whole = |name: &str| reference(name);
    let named = |shape: Value| {
        let name = json!({
            "type": "object",
            "required": ["name"],
            "properties": { "name": { "type": "string" } },
        });
        json!({ "allOf": [shape, name] })
    };
    let just_named = named(json!({ "type": "object", "properties": {} }));
    let patch = |name: &str| named(reference(name));
    let heal = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["op"],
        "properties": { "op": { "const": "heal" } },
    });
    let mut steps = vec![heal];
    steps.extend(op("add", &whole("Rule"), &whole("Partition")));
    steps.extend(op("put", &whole("Rule"), &whole("Partition")));
    steps.extend(op("patch", &patch("RulePatch"), &patch("PartitionPatch")));
    steps.extend(op("delete", &just_named, &just_named));
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["changes"],
        "properties": {
            "changes": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_STEPS,
                "items": { "oneOf": steps },
            },
            "if_generation": {
                "description": "Nothing at all may have changed since",
                "type": ["integer", "null"],
                "minimum": 0,
            },
        },
    })
}

async fn changes(
    Shared(app): Shared<App>,
    asker: Asker,
    Input(body): Input,
) -> Result<Json<Changed>, Failure> {
    let (steps, read) = parse(body)?;
    let state = &app.context.state;
    let mut named = Named::default();
    let generation = state.change(asker.0, |draft| {
        if let Some(read) = read.filter(|read| *read != draft.before()) {
            let what = format!(
                "it was worked out at generation {read}, and {} is in force",
                draft.before()
            );
            let failure = Failure::new(StatusCode::PRECONDITION_FAILED, "changed", what);
            return Err(
                failure.hint("read the lists again, and make the change of what stands there now")
            );
        }
        for (n, step) in steps.into_iter().enumerate() {
            take(draft, step, &mut named)
                .map_err(|failure| failure.within(&format!("changes[{n}]")))?;
        }
        Ok(())
    })?;
    // One that is named and gone was deleted.
    let rules = named
        .rules
        .iter()
        .filter_map(|name| find::<Rules>(state, name).ok());
    let partitions = named.partitions.iter();
    let partitions = partitions.filter_map(|name| find::<Partitions>(state, name).ok());
    Ok(Json(Changed {
        generation,
        rules: rules.map(|(_, Json(item))| item).collect(),
        partitions: partitions.map(|(_, Json(item))| item).collect(),
    }))
}

/// The steps, and the generation that they were worked out from, if it is given.
fn parse(body: Value) -> Result<(Vec<Value>, Option<u64>), Failure> {
    const SHAPE: &str = r#"send {"changes": [{"op": "put", "rule": {…}}, …]}"#;
    let Value::Object(mut keys) = body else {
        return Err(Failure::invalid("", "expected a map").hint(SHAPE));
    };
    let read = match keys.shift_remove("if_generation") {
        None | Some(Value::Null) => None,
        Some(n) => Some(n.as_u64().ok_or_else(|| {
            Failure::invalid("if_generation", format!("expected a generation, found {n}"))
        })?),
    };
    let Some(Value::Array(steps)) = keys.shift_remove("changes") else {
        return Err(Failure::invalid("changes", "missing; expected a list of changes").hint(SHAPE));
    };
    if let Some(key) = keys.keys().next() {
        let hint = "allowed here: `changes`, `if_generation`";
        return Err(Failure::invalid(key, format!("unknown key `{key}`")).hint(hint));
    }
    if steps.is_empty() || steps.len() > MAX_STEPS {
        let many = steps.len();
        let what = format!("expected 1 to {MAX_STEPS} changes, found {many}");
        return Err(Failure::invalid("changes", what));
    }
    Ok((steps, read))
}

fn take(draft: &mut Draft, step: Value, named: &mut Named) -> Result<(), Failure> {
    let Value::Object(mut keys) = step else {
        return Err(Failure::invalid("", "expected a map"));
    };
    let op = match keys.shift_remove("op") {
        Some(Value::String(op)) => op,
        _ => {
            return Err(Failure::invalid(
                "op",
                format!("missing; expected one of {OPS}"),
            ));
        }
    };
    if op == "heal" {
        nothing_else(&keys, "a heal needs nothing else")?;
        return Ok(draft.apply(Change::Heal)?);
    }
    let (rule, partition) = (keys.shift_remove("rule"), keys.shift_remove("partition"));
    nothing_else(&keys, "allowed here: `op`, and `rule` or `partition`")?;
    match (rule, partition) {
        (Some(body), None) => one::<Rules>(draft, &op, body, &mut named.rules),
        (None, Some(body)) => one::<Partitions>(draft, &op, body, &mut named.partitions),
        _ => Err(Failure::invalid(
            "",
            "expected either `rule` or `partition`",
        )),
    }
}

fn nothing_else(keys: &Map<String, Value>, hint: &str) -> Result<(), Failure> {
    match keys.keys().next() {
        None => Ok(()),
        Some(key) => Err(Failure::invalid(key, format!("unknown key `{key}`")).hint(hint)),
    }
}

fn one<R: Resource>(
    draft: &mut Draft,
    op: &str,
    body: Value,
    named: &mut Vec<String>,
) -> Result<(), Failure> {
    let name = body
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let done = match op {
        "add" => steps::add::<R>(draft, body).map(drop),
        "put" => steps::put::<R>(draft, body),
        "patch" => steps::patch::<R>(draft, body),
        "delete" => steps::delete::<R>(draft, &name),
        _ => {
            let what = format!("expected one of {OPS}, found {op:?}");
            return Err(Failure::invalid("op", what));
        }
    };
    done.map_err(|failure| failure.within(R::WHAT))?;
    if !named.contains(&name) {
        named.push(name);
    }
    Ok(())
}

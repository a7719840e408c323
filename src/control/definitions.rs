//! Rules and partitions alike: listed, made, replaced, altered, switched, deleted.
//!
//! A change is worked out on a [`Draft`], so that what it is worked out from (the definition that it
//! alters, the proxies that it names) can't change meanwhile.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderName, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::App;
use super::asker::{Asker, IfMatch, etag};
use super::body::Input;
use super::error::Failure;
use super::routes::{Api, Route};
use crate::config::Problems;
use crate::rules::{Edge, Ttl};
use crate::state::{Change, Defined, Draft, Refused, Source, State};
use crate::units;
use crate::wire::{List, Standing};

/// One sort of definition.
pub(super) trait Resource: 'static {
    /// As in messages.
    const WHAT: &'static str;
    /// As in paths.
    const PATH: &'static str;
    /// Keys of which one may be given: a patch with one takes the others back.
    const EITHER: &'static [&'static str];
    /// As in the document: bodies are of this shape.
    const SHAPE: &'static str;
    type Definition: Send + Sync;
    type Item: Serialize + ToSchema + Send + 'static;

    fn decode(body: &Value, edges: &[Edge]) -> Result<Self::Definition, Problems>;
    fn all(state: &State) -> (u64, Vec<Defined<Self::Definition>>);
    fn find(draft: &Draft, name: &str) -> Option<Defined<Self::Definition>>;
    fn name(definition: &Self::Definition) -> &str;
    fn item(state: &State, definition: &Self::Definition, standing: Standing) -> Self::Item;
    fn to_json(definition: &Self::Definition) -> Value;
    fn add(definition: Self::Definition) -> Change;
    fn put(definition: Self::Definition) -> Change;
    fn remove(name: String) -> Change;
    fn switch(name: String, on: bool, ttl: Ttl) -> Change;
}

/// The routes of one sort.
pub(super) fn routes<R: Resource>(api: Api) -> Api {
    let (what, shape) = (R::WHAT, R::SHAPE);
    let single = format!("{}/{{name}}", R::PATH);
    let route = |verb: &str, summary: String| Route::new(&format!("{verb}_{what}"), &summary);
    api.get(
        R::PATH,
        list::<R>,
        Route::new(&format!("list_{what}s"), &format!("All {what}s"))
            .lists::<R::Item>("In the order of definition"),
    )
    .post(
        R::PATH,
        create::<R>,
        route("create", format!("Makes a {what}"))
            .about("Enabled unless it says otherwise; for ten minutes unless it says how long.")
            .changes()
            .takes(shape)
            .answers::<R::Item>(201, "Made")
            .refuses(&[409]),
    )
    .get(
        &single,
        get::<R>,
        route("get", format!("One {what}"))
            .answers::<R::Item>(200, "As defined, and how it stands")
            .refuses(&[404]),
    )
    .put(
        &single,
        put::<R>,
        route(
            "put",
            format!("Makes a {what}, or replaces the one of that name"),
        )
        .conditional()
        .takes(&format!("{shape}Put"))
        .answers::<R::Item>(200, "Replaced; or it was so already")
        .answers::<R::Item>(201, "Made")
        .refuses(&[409]),
    )
    .patch(
        &single,
        patch::<R>,
        route("patch", format!("Alters or switches a {what}"))
            .about(
                "`enabled`, with or without `ttl`, switches it: on means that schedule and \
                 lifetime begin anew. Other keys are laid over the definition; `null` takes one \
                 back to its default.",
            )
            .conditional()
            .takes(&format!("{shape}Patch"))
            .answers::<R::Item>(200, "As it is now")
            .refuses(&[404, 409]),
    )
    .delete(
        &single,
        delete::<R>,
        route("delete", format!("Deletes a {what}"))
            .conditional()
            .answers_nothing(204, "Deleted")
            .refuses(&[404]),
    )
}

/// The items of a list, for the status as well.
pub(super) fn items<R: Resource>(state: &State) -> List<R::Item> {
    let (generation, all) = R::all(state);
    List {
        generation,
        items: all
            .iter()
            .map(|defined| item::<R>(state, defined))
            .collect(),
    }
}

fn item<R: Resource>(state: &State, defined: &Defined<R::Definition>) -> R::Item {
    let (selected, injected) = defined.totals.read();
    let standing = Standing {
        source: match defined.source {
            Source::File => "file".to_owned(),
            Source::Api => "api".to_owned(),
        },
        active: defined.active,
        turns_at: defined.turns.map(|(_, at)| at),
        expires_at: defined.expires.map(|(_, at)| at),
        controller: defined.controller.as_deref().map(str::to_owned),
        generation: defined.changed,
        selected,
        injected,
    };
    R::item(state, &defined.definition, standing)
}

/// An item with its ETag.
type Tagged<T> = ([(HeaderName, String); 1], Json<T>);

pub(super) fn find<R: Resource>(state: &State, name: &str) -> Result<Tagged<R::Item>, Failure> {
    let (_, all) = R::all(state);
    let mut found = all.iter().filter(|d| R::name(&d.definition) == name);
    let not_found = || Refused::NotFound(R::WHAT, name.to_owned());
    let found = found.next().ok_or_else(not_found)?;
    let tag = [(header::ETAG, etag(found.changed))];
    Ok((tag, Json(item::<R>(state, found))))
}

async fn list<R: Resource>(Shared(app): Shared<App>) -> Json<List<R::Item>> {
    Json(items::<R>(&app.context.state))
}

async fn get<R: Resource>(
    Shared(app): Shared<App>,
    Path(name): Path<String>,
) -> Result<Tagged<R::Item>, Failure> {
    find::<R>(&app.context.state, &name)
}

async fn create<R: Resource>(
    Shared(app): Shared<App>,
    asker: Asker,
    Input(body): Input,
) -> Result<(StatusCode, Tagged<R::Item>), Failure> {
    let state = &app.context.state;
    let mut name = String::new();
    state.change(asker.0, |draft| {
        name = steps::add::<R>(draft, body)?;
        Ok::<_, Failure>(())
    })?;
    Ok((StatusCode::CREATED, find::<R>(state, &name)?))
}

async fn put<R: Resource>(
    Shared(app): Shared<App>,
    asker: Asker,
    if_match: IfMatch,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<(StatusCode, Tagged<R::Item>), Failure> {
    name_it(R::WHAT, &mut body, &name)?;
    let state = &app.context.state;
    let mut status = StatusCode::OK;
    state.change(asker.0, |draft| {
        let stands = R::find(draft, &name);
        if stands.is_none() {
            status = StatusCode::CREATED;
        }
        if_match.check(stands.map(|d| d.changed))?;
        steps::put::<R>(draft, body)
    })?;
    Ok((status, find::<R>(state, &name)?))
}

async fn patch<R: Resource>(
    Shared(app): Shared<App>,
    asker: Asker,
    if_match: IfMatch,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<Tagged<R::Item>, Failure> {
    name_it(R::WHAT, &mut body, &name)?;
    let state = &app.context.state;
    state.change(asker.0, |draft| {
        if let Some(stands) = R::find(draft, &name) {
            if_match.check(Some(stands.changed))?;
        }
        steps::patch::<R>(draft, body)
    })?;
    find::<R>(state, &name)
}

async fn delete<R: Resource>(
    Shared(app): Shared<App>,
    asker: Asker,
    if_match: IfMatch,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.context.state.change(asker.0, |draft| {
        if let Some(stands) = R::find(draft, &name) {
            if_match.check(Some(stands.changed))?;
        }
        steps::delete::<R>(draft, &name)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// What can be done to a draft, be it alone or as one step of many.
pub(super) mod steps {
    use super::*;

    /// Answers the name.
    pub(in super::super) fn add<R: Resource>(
        draft: &mut Draft,
        body: Value,
    ) -> Result<String, Failure> {
        let definition = decode::<R>(body, draft)?;
        let name = R::name(&definition).to_owned();
        draft.apply(R::add(definition))?;
        Ok(name)
    }

    pub(in super::super) fn put<R: Resource>(
        draft: &mut Draft,
        body: Value,
    ) -> Result<(), Failure> {
        let definition = decode::<R>(body, draft)?;
        Ok(draft.apply(R::put(definition))?)
    }

    /// `body` holds the name, and the keys that are to be other than they are.
    pub(in super::super) fn patch<R: Resource>(
        draft: &mut Draft,
        body: Value,
    ) -> Result<(), Failure> {
        let Value::Object(mut keys) = body else {
            return Err(Failure::invalid("", "expected a map"));
        };
        let Some(Value::String(name)) = keys.shift_remove("name") else {
            return Err(Failure::invalid(
                "name",
                "missing; expected the name of what to alter",
            ));
        };
        let change = match switch_of(&keys)? {
            Some((on, ttl)) => R::switch(name, on, ttl),
            None => overlay::<R>(draft, &name, keys)?,
        };
        Ok(draft.apply(change)?)
    }

    pub(in super::super) fn delete<R: Resource>(
        draft: &mut Draft,
        name: &str,
    ) -> Result<(), Failure> {
        Ok(draft.apply(R::remove(name.to_owned()))?)
    }
}

/// The name is the path's; the body may repeat it.
pub(super) fn name_it(what: &str, body: &mut Value, name: &str) -> Result<(), Failure> {
    let Value::Object(keys) = body else {
        return Ok(());
    };
    match keys.get("name") {
        None | Some(Value::Null) => {}
        Some(given) if given == name => return Ok(()),
        Some(given) => {
            let message = format!("the name is {given} here and `{name}` in the path");
            let failure = Failure::invalid("name", message);
            return Err(failure.hint(format!("a {what} can't be renamed: make another")));
        }
    }
    keys.insert("name".to_owned(), name.into());
    Ok(())
}

/// A patch that only switches: it needs no decoder, so that nothing stands in its way.
fn switch_of(keys: &Map<String, Value>) -> Result<Option<(bool, Ttl)>, Failure> {
    let Some(enabled) = keys.get("enabled") else {
        return Ok(None);
    };
    if keys.keys().any(|key| key != "enabled" && key != "ttl") {
        return Ok(None);
    }
    let on = enabled.as_bool().ok_or_else(|| {
        Failure::invalid(
            "enabled",
            format!("expected true or false, found {enabled}"),
        )
    })?;
    let ttl = match keys.get("ttl") {
        None | Some(Value::Null) => Ttl::Unsaid,
        Some(Value::String(word)) if word == "forever" => Ttl::Forever,
        Some(Value::String(text)) => {
            let time = units::parse_duration(text);
            Ttl::For(time.map_err(|error| Failure::invalid("ttl", error.to_string()))?)
        }
        Some(other) => {
            let message = format!("expected a duration such as `30s`, or `forever`, found {other}");
            return Err(Failure::invalid("ttl", message));
        }
    };
    Ok(Some((on, ttl)))
}

fn overlay<R: Resource>(
    draft: &Draft,
    name: &str,
    mut keys: Map<String, Value>,
) -> Result<Change, Failure> {
    let stands = R::find(draft, name);
    let stands = stands.ok_or_else(|| Refused::NotFound(R::WHAT, name.to_owned()))?;
    let mut item = R::to_json(&stands.definition);
    if let Value::Object(item) = &mut item {
        if R::EITHER.iter().any(|key| keys.contains_key(*key)) {
            item.retain(|key, _| !R::EITHER.contains(&&**key));
        }
        item.append(&mut keys);
    }
    Ok(R::put(decode::<R>(item, draft)?))
}

/// A `null` says nothing: that is how items tell what was not said, and a patch takes it back.
pub(super) fn without_nulls(mut body: Value) -> Value {
    if let Value::Object(keys) = &mut body {
        keys.retain(|_, value| !value.is_null());
    }
    body
}

fn decode<R: Resource>(body: Value, draft: &Draft) -> Result<R::Definition, Failure> {
    let body = without_nulls(body);
    let edges: Vec<Edge> = draft.edges().iter().map(|edge| Edge::clone(edge)).collect();
    Ok(R::decode(&body, &edges)?)
}

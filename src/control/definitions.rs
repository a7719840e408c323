//! Rules and partitions alike: listed, made, replaced, altered, switched, deleted.
//!
//! What a change is worked out from (the definition that it alters, the proxies that it names) may
//! change meanwhile, by a heal above all. So it is applied only to the generation that was read,
//! and worked out anew otherwise.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::StatusCode;
use axum::{Json, Router, routing};
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::Input;
use super::error::Failure;
use super::{App, Control};
use crate::config::Problems;
use crate::rules::{Edge, Ttl};
use crate::state::{Change, Defined, Refused, Source, State};
use crate::units;
use crate::wire::{List, Standing};

/// One sort of definition.
pub(super) trait Resource: 'static {
    /// As in messages.
    const WHAT: &'static str;
    /// As in paths.
    const PATH: &'static str;
    type Definition: Send + Sync;
    type Item: Serialize + Send + 'static;

    fn decode(body: &Value, edges: &[Edge]) -> Result<Self::Definition, Problems>;
    fn all(state: &State) -> (u64, Vec<Defined<Self::Definition>>);
    fn name(definition: &Self::Definition) -> &str;
    fn item(definition: &Self::Definition, standing: Standing) -> Self::Item;
    fn add(definition: Self::Definition) -> Change;
    fn put(definition: Self::Definition) -> Change;
    fn remove(name: String) -> Change;
    fn switch(name: String, on: bool, ttl: Ttl) -> Change;
}

/// The routes of one sort.
pub(super) fn routes<R: Resource>(router: Router<App>) -> Router<App> {
    let collection = routing::get(list::<R>).post(create::<R>);
    let single = routing::get(get::<R>)
        .put(put::<R>)
        .patch(patch::<R>)
        .delete(delete::<R>);
    router
        .route(R::PATH, collection)
        .route(&format!("{}/{{name}}", R::PATH), single)
}

/// The items of a list, for the status as well.
pub(super) fn items<R: Resource>(state: &State) -> List<R::Item> {
    let (generation, all) = R::all(state);
    List {
        generation,
        items: all.iter().map(item::<R>).collect(),
    }
}

fn item<R: Resource>(defined: &Defined<R::Definition>) -> R::Item {
    let standing = Standing {
        source: match defined.source {
            Source::File => "file".to_owned(),
            Source::Api => "api".to_owned(),
        },
        expires_at: defined.expires.map(|(_, at)| at),
        counts: defined.totals.read(),
    };
    R::item(&defined.definition, standing)
}

fn find<R: Resource>(state: &State, name: &str) -> Result<R::Item, Failure> {
    let (_, all) = R::all(state);
    let mut found = all.iter().filter(|d| R::name(&d.definition) == name);
    let not_found = || Refused::NotFound(R::WHAT, name.to_owned()).into();
    found.next().map(item::<R>).ok_or_else(not_found)
}

async fn list<R: Resource>(Shared(app): Shared<App>) -> Json<List<R::Item>> {
    Json(items::<R>(&app.context.state))
}

async fn get<R: Resource>(
    Shared(app): Shared<App>,
    Path(name): Path<String>,
) -> Result<Json<R::Item>, Failure> {
    find::<R>(&app.context.state, &name).map(Json)
}

async fn create<R: Resource>(
    Shared(app): Shared<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Input(body): Input,
) -> Result<(StatusCode, Json<R::Item>), Failure> {
    let name = std::cell::OnceCell::new();
    let generation = app.change(|state| {
        let definition = decode::<R>(body.clone(), state)?;
        let _ = name.set(R::name(&definition).to_owned());
        Ok(R::add(definition))
    })?;
    let name = name.into_inner().unwrap_or_default();
    audit(peer, "made", R::WHAT, &name, generation);
    let made = find::<R>(&app.context.state, &name)?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn put<R: Resource>(
    Shared(app): Shared<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<(StatusCode, Json<R::Item>), Failure> {
    name_it::<R>(&mut body, &name)?;
    let new = std::cell::Cell::new(false);
    let generation = app.change(|state| {
        new.set(find::<R>(state, &name).is_err());
        Ok(R::put(decode::<R>(body.clone(), state)?))
    })?;
    let (status, what) = if new.get() {
        (StatusCode::CREATED, "made")
    } else {
        (StatusCode::OK, "replaced")
    };
    audit(peer, what, R::WHAT, &name, generation);
    let item = find::<R>(&app.context.state, &name)?;
    Ok((status, Json(item)))
}

async fn patch<R: Resource>(
    Shared(app): Shared<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<Json<R::Item>, Failure> {
    name_it::<R>(&mut body, &name)?;
    let Value::Object(mut keys) = body else {
        return Err(Failure::invalid("", "expected a map"));
    };
    keys.shift_remove("name");
    let (generation, what) = match switch_of(&keys)? {
        Some((on, ttl)) => {
            let change = |_: &State| Ok(R::switch(name.clone(), on, ttl));
            let what = if on { "switched on" } else { "switched off" };
            (app.change(change)?, what)
        }
        None => (
            app.change(|state| overlay::<R>(state, &name, &keys))?,
            "altered",
        ),
    };
    audit(peer, what, R::WHAT, &name, generation);
    find::<R>(&app.context.state, &name).map(Json)
}

async fn delete<R: Resource>(
    Shared(app): Shared<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let generation = app.change(|_| Ok(R::remove(name.clone())))?;
    audit(peer, "deleted", R::WHAT, &name, generation);
    Ok(StatusCode::NO_CONTENT)
}

/// The name is the path's; the body may repeat it.
fn name_it<R: Resource>(body: &mut Value, name: &str) -> Result<(), Failure> {
    let Value::Object(keys) = body else {
        return Ok(());
    };
    match keys.get("name") {
        None | Some(Value::Null) => {}
        Some(given) if given == name => return Ok(()),
        Some(given) => {
            let message = format!("the name is {given} here and `{name}` in the path");
            let failure = Failure::invalid("name", message);
            return Err(failure.hint(format!("a {} can't be renamed: make another", R::WHAT)));
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
    state: &State,
    name: &str,
    keys: &Map<String, Value>,
) -> Result<Change, Failure> {
    let item = serde_json::to_value(find::<R>(state, name)?);
    let mut item = item.map_err(|e| Failure::invalid("", e.to_string()))?;
    if let Value::Object(item) = &mut item {
        item.extend(keys.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    Ok(R::put(decode::<R>(item, state)?))
}

/// A `null` says nothing: that is how items tell what was not said, and a patch takes it back.
fn decode<R: Resource>(mut body: Value, state: &State) -> Result<R::Definition, Failure> {
    if let Value::Object(keys) = &mut body {
        keys.retain(|_, value| !value.is_null());
    }
    let edges: Vec<Edge> = state.edges().iter().map(|edge| Edge::clone(edge)).collect();
    Ok(R::decode(&body, &edges)?)
}

impl Control {
    /// Applies what `plan` makes of the state as it stands.
    fn change(&self, plan: impl Fn(&State) -> Result<Change, Failure>) -> Result<u64, Failure> {
        let state = &self.context.state;
        loop {
            let read = state.generation();
            let change = plan(state)?;
            if let Some(generation) = state.apply_at(read, vec![change], Source::Api)? {
                return Ok(generation);
            }
        }
    }
}

/// One line for each change: who, what, and what number it has.
pub(super) fn audit(peer: SocketAddr, what: &str, sort: &str, name: &str, generation: u64) {
    // `?name`: a name can't forge a second line.
    tracing::info!(%peer, ?name, generation, "{sort} {what}");
}

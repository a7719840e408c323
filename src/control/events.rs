//! `GET /v1/events`: every change and who made it, as server-sent events; `POST /v1/heartbeat`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::App;
use super::asker::{Asker, CONTROLLER};
use super::error::Failure;
use super::routes::{Api, Route};
use super::stream::Pieces;
use crate::clock;
use crate::pipeline::Context;
use crate::state::{Event, Stopping, Touched, Who};
use crate::units;
use crate::wire::{EventItem, Heartbeat, TouchedItem};

/// After such a silence something is said, so that both sides know that the other is there.
const SILENCE: Duration = Duration::from_secs(15);
/// A comment, which readers pass over.
const ALIVE: Bytes = Bytes::from_static(b":\n\n");
/// At most so many events wait for a slow reader; past that they wait in the state's own queue.
const WAITING: usize = 16;

pub(super) fn routes(api: Api) -> Api {
    let generation = || json!({ "type": "integer", "minimum": 0 });
    let events = Route::new("events", "Every change, and who made it, as it is made")
        .about(
            "Server-sent events: `change`, whose data is the shape described here, and `lost`, whose \
             data is a number: so many are missing here.",
        )
        .query("since", "Those after this generation; absent: those to come", generation())
        .query("follow", "`false`: those that are kept, and no more", json!({ "type": "boolean" }))
        .header("Last-Event-ID", "As `since`, where that is absent", generation())
        .streams::<EventItem>("text/event-stream", "Until the process stops");
    let heartbeat = Route::new("heartbeat", "A controller is still there")
        .about("The header that names it is needed.")
        .changes()
        .answers::<Heartbeat>(200, "What it set stays");
    api.get("/v1/events", self::events, events)
        .post("/v1/heartbeat", self::heartbeat, heartbeat)
}

/// Those after the change `since`, where it says so, or the header `Last-Event-ID`, as browsers send
/// it when they come back; else those to come.
async fn events(
    Shared(app): Shared<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let mut since = match headers.get("last-event-id") {
        None => None,
        Some(value) => Some(number("Last-Event-ID", value.to_str().unwrap_or_default())?),
    };
    let mut and_on = true;
    for (key, value) in pairs {
        match key.as_str() {
            "follow" => and_on = flag("follow", &value)?,
            "since" => since = Some(number("since", &value)?),
            _ => {
                let what = format!("there is no `{key}` here");
                let failure = Failure::new(StatusCode::BAD_REQUEST, "query", what);
                return Err(failure.hint(
                    "`since` is the generation after which events are wanted; `follow=false`: only \
                     those that are kept",
                ));
            }
        }
    }
    let (sender, events) = mpsc::channel(WAITING);
    let context = Arc::clone(&app.context);
    tokio::spawn(async move { follow(&context, since, and_on, sender).await });
    let kind = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((kind, Body::new(Pieces(events))).into_response())
}

fn number(key: &str, value: &str) -> Result<u64, Failure> {
    value.parse().map_err(|_| {
        let what = format!("`{key}` is no generation: {value:?}");
        Failure::new(StatusCode::BAD_REQUEST, "query", what).hint("it is a whole number")
    })
}

fn flag(key: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => {
            let what = format!("`{key}` is true or false, not {value:?}");
            let failure = Failure::new(StatusCode::BAD_REQUEST, "query", what);
            Err(failure.hint("`follow=false`: only those that are kept"))
        }
    }
}

/// Ends when the reader has gone, or the process stops; without `and_on`, with those that are kept.
async fn follow(
    context: &Context,
    since: Option<u64>,
    and_on: bool,
    sender: mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut subscription = context.state.subscribe();
    // The head goes out with it, so that who asked knows that nothing will be missed.
    sender.send(ALIVE).await.ok()?;
    let mut next = since.map_or(u64::MAX, |since| since.saturating_add(1));
    for event in subscription.past {
        if event.generation < next {
            continue;
        }
        if event.generation > next {
            sender.send(lost(event.generation - next)).await.ok()?;
        }
        next = event.generation + 1;
        sender.send(sent(&event)).await.ok()?;
    }
    if !and_on {
        return None;
    }
    loop {
        let changed = context.state.changed();
        if context.state.stopping() == Stopping::Now {
            return None;
        }
        tokio::select! {
            event = subscription.to_come.recv() => match event {
                Ok(event) => sender.send(sent(&event)).await.ok()?,
                Err(RecvError::Lagged(missed)) => sender.send(lost(missed)).await.ok()?,
                Err(RecvError::Closed) => return None,
            },
            () = changed => {}
            () = clock::sleep(SILENCE) => sender.send(ALIVE).await.ok()?,
            () = sender.closed() => return None,
        }
    }
}

fn sent(event: &Event) -> Bytes {
    let controller = match &event.who {
        Who::Client { controller, .. } => controller.as_deref(),
        Who::Silence(controller) => Some(&**controller),
        _ => None,
    };
    let item = EventItem {
        generation: event.generation,
        at: event.at,
        via: event.who.via().to_owned(),
        by: event.who.to_string(),
        controller: controller.map(str::to_owned),
        changes: event.touched.iter().map(touched).collect(),
    };
    // A map whose keys are texts can always be said in JSON, on one line.
    let data = serde_json::to_string(&item).unwrap_or_default();
    format!("event: change\nid: {}\ndata: {data}\n\n", event.generation).into()
}

/// What became of one definition, in the API's words.
#[must_use]
pub fn touched(touched: &Touched) -> TouchedItem {
    TouchedItem {
        sort: touched.sort.to_owned(),
        name: touched.name.clone(),
        what: touched.what.as_str().to_owned(),
    }
}

/// Says that events are missing here, and how many.
fn lost(missed: u64) -> Bytes {
    format!("event: lost\ndata: {missed}\n\n").into()
}

async fn heartbeat(Shared(app): Shared<App>, asker: Asker) -> Result<Json<Heartbeat>, Failure> {
    let Some(controller) = asker.controller() else {
        let what = "a heartbeat is a controller's, and this one gives no name";
        let failure = Failure::new(StatusCode::BAD_REQUEST, "controller", what);
        return Err(failure.hint(format!("send the header {CONTROLLER}, as with the changes")));
    };
    let within = app.context.state.heartbeat(controller);
    Ok(Json(Heartbeat {
        controller: controller.to_string(),
        within: within.map(units::format_duration),
    }))
}

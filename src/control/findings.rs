//! `GET /v1/findings`: what the records in memory show.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;

use super::App;
use super::error::{Failure, moment};
use super::routes::{Api, Route};
use crate::clock::Timestamp;
use crate::config;
use crate::evidence::Record;
use crate::evidence::findings::{self, FINDERS, Finding, Wanted};
use crate::pipeline::Context;
use crate::state::Stopping;
use crate::wire::List;

/// So many are judged at the same time; more wait for their turn.
const TURNS: usize = 2;

pub(super) fn routes(api: Api) -> Api {
    let text = || json!({ "type": "string" });
    let moment = || json!({ "type": "string", "format": "date-time" });
    let names: Vec<_> = FINDERS.iter().map(|finder| finder.name).collect();
    let route = Route::new(
        "findings",
        "What the records show about callers and services",
    )
    .about(
        "Judged from the records in memory, when it is asked for. `not_enough` says what the \
             records can't show.",
    )
    .query("finding", "Only this one", json!({ "enum": names }))
    .query("from", "Only of this calling service", text())
    .query("to", "Only of this called service", text())
    .query("since", "Judged from what began then or later", moment())
    .query("until", "Judged from what began before", moment())
    .lists::<Finding>("By edge and caller, in the order of their first records");
    let turns = Arc::new(Semaphore::new(TURNS));
    let asked = move |app, query| findings(app, query, Arc::clone(&turns));
    api.get("/v1/findings", asked, route)
}

/// Beside the thread that answers, which would be kept from healing while many records are looked
/// through.
async fn findings(
    Shared(app): Shared<App>,
    Query(pairs): Query<Vec<(String, String)>>,
    turns: Arc<Semaphore>,
) -> Result<Json<List<Finding>>, Failure> {
    let wanted = parse(pairs)?;
    let turn = turns.acquire_owned().await;
    let context = Arc::clone(&app.context);
    let judging = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        judge(&context, &wanted)
    });
    // It is not waited for when the process stops.
    let items = judging.await.unwrap_or_else(|_| Err(stopping()))?;
    let generation = app.context.state.generation();
    Ok(Json(List { generation, items }))
}

fn judge(context: &Context, wanted: &Wanted) -> Result<Vec<Finding>, Failure> {
    let now = Timestamp::now();
    let records = context.ledger.list(&wanted.records());
    known(context, &records, wanted)?;
    let mut items = Vec::new();
    let ended = wanted.judge(&records, now, |finding| {
        items.push(finding);
        match context.state.stopping() {
            Stopping::Now => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    match ended {
        ControlFlow::Continue(()) => Ok(items),
        ControlFlow::Break(()) => Err(stopping()),
    }
}

fn stopping() -> Failure {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Failure::new(status, "stopping", "the process stops").hint("ask another one")
}

fn wrong(key: &str, message: String) -> Failure {
    let failure = Failure::new(StatusCode::BAD_REQUEST, "query", message);
    failure.hint(format!("see `{key}` in GET /v1/findings"))
}

/// The same, of a word that is none of these.
fn unknown(key: &str, what: &str, word: &str, words: &BTreeSet<&str>) -> Failure {
    let hint = match config::nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if words.is_empty() => "there are none yet".to_owned(),
        None => {
            let words: Vec<_> = words.iter().copied().collect();
            format!("there are {}", words.join(", "))
        }
    };
    wrong(key, format!("there is no {what} `{word}`")).hint(hint)
}

fn parse(pairs: Vec<(String, String)>) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    for (key, value) in pairs {
        match key.as_str() {
            "finding" if findings::find(&value).is_none() => {
                let names = FINDERS.iter().map(|finder| finder.name).collect();
                return Err(unknown("finding", "finding", &value, &names));
            }
            "finding" => wanted.finding = Some(value),
            "from" => wanted.from = Some(value),
            "to" => wanted.to = Some(value),
            "since" => wanted.since = Some(moment(&value)?),
            "until" => wanted.until = Some(moment(&value)?),
            _ => {
                return Err(wrong(&key, format!("there is no filter `{key}`"))
                    .hint("the filters are finding, from, to, since and until"));
            }
        }
    }
    Ok(wanted)
}

/// A service that no proxy connects, and no record names, is a slip of the pen: nothing found of it
/// would say that nothing is wrong.
fn known(context: &Context, records: &[Record], wanted: &Wanted) -> Result<(), Failure> {
    let edges = context.state.edges();
    for (key, service) in [("from", &wanted.from), ("to", &wanted.to)] {
        let Some(service) = service else { continue };
        let defined = edges.iter().map(|edge| match key {
            "from" => edge.from.as_str(),
            _ => edge.to.as_str(),
        });
        let seen = records.iter().map(|record| match key {
            "from" => &*record.from,
            _ => &*record.to,
        });
        let services: BTreeSet<&str> = defined.chain(seen).collect();
        if !services.contains(service.as_str()) {
            let what = if key == "from" {
                "calling service"
            } else {
                "called service"
            };
            return Err(unknown(key, what, service, &services));
        }
    }
    Ok(())
}

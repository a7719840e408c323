//! `/v1/evidence`: the records in memory, and those that finish, as JSON Lines.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};

use super::App;
use super::error::Failure;
use super::routes::{Api, JSON_LINES, Route};
use super::stream::Pieces;
use crate::evidence::{Class, Entry, Filter, Ledger, Record, RecordId};
use crate::pipeline::Context;
use crate::state::Stopping;

/// Lines are sent in pieces of about this size.
const PIECE: usize = 32 << 10;
/// At most so many pieces wait for a slow reader.
const PIECES: usize = 4;

pub(super) fn routes(api: Api) -> Api {
    let text = || json!({ "type": "string" });
    let classes = Class::ALL.map(Class::as_str);
    let route = Route::new("evidence", "Records, one a line, oldest first")
        .query("id", "An identity, or a record's id", text())
        .query(
            "class",
            "What the evidence amounts to",
            json!({ "enum": classes }),
        )
        .query("proxy", "A proxy's name", text())
        .query(
            "rule",
            "The name of a rule or partition that chose the operation",
            text(),
        )
        .query(
            "before",
            "Only those that began before the record of this id: the page before one that begins with it",
            json!({ "type": "string", "pattern": "^[0-9a-f]{1,8}-[0-9]{1,19}$" }),
        )
        .query(
            "limit",
            "The last so many",
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        )
        .query(
            "follow",
            "Finished ones only, and then each as it finishes",
            json!({ "enum": ["", "true", "1", "false", "0"] }),
        )
        .streams::<Record>(JSON_LINES, "Each line is one record");
    api.get("/v1/evidence", evidence, route)
}

async fn evidence(
    Shared(app): Shared<App>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let (filter, follow) = parse(pairs)?;
    let (pieces, body) = mpsc::channel(PIECES);
    let context = Arc::clone(&app.context);
    tokio::spawn(async move {
        let lines = Lines::new(pieces);
        // An error means that the reader has gone, which is no news to anyone.
        let _ = if follow {
            followed(&context, &filter, lines).await
        } else {
            listed(&context.ledger, &filter, lines).await
        };
    });
    let kind = [
        (header::CONTENT_TYPE, JSON_LINES),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((kind, Body::new(Pieces(body))).into_response())
}

fn parse(pairs: Vec<(String, String)>) -> Result<(Filter, bool), Failure> {
    let mut filter = Filter::default();
    let mut follow = false;
    let wrong = |key: &str, message: String| {
        let failure = Failure::new(StatusCode::BAD_REQUEST, "query", message);
        failure.hint(format!("see `{key}` in GET /v1/evidence"))
    };
    for (key, value) in pairs {
        match key.as_str() {
            "id" => filter.id = Some(value),
            "proxy" => filter.proxy = Some(value),
            "rule" => filter.rule = Some(value),
            "class" => {
                let class = Class::find(&value).ok_or_else(|| {
                    let classes = Class::ALL.map(Class::as_str).join(", ");
                    wrong("class", format!("there is no class `{value}`"))
                        .hint(format!("the classes are {classes}"))
                })?;
                filter.class = Some(class);
            }
            "before" => {
                let wrong = |why: &str| wrong("before", format!("`{value}`: {why}"));
                filter.before = Some(value.parse().map_err(wrong)?);
            }
            "limit" => {
                let limit = value.parse();
                let wrong = |_| wrong("limit", format!("`{value}` is not a number of records"));
                filter.limit = Some(limit.map_err(wrong)?);
            }
            "follow" => {
                follow = match value.as_str() {
                    "" | "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(wrong("follow", format!("`{value}` is not true or false"))),
                }
            }
            _ => {
                return Err(wrong(&key, format!("there is no filter `{key}`"))
                    .hint("the filters are id, class, proxy, rule, before and limit; and follow"));
            }
        }
    }
    if follow && filter.before.is_some() {
        let both = "`before` and `follow` do not go together".to_owned();
        return Err(wrong("before", both).hint("what is to come is not before anything"));
    }
    Ok((filter, follow))
}

/// What is there, open operations included.
async fn listed(ledger: &Ledger, filter: &Filter, mut lines: Lines) -> Result<(), Gone> {
    for record in ledger.list(filter) {
        lines.push(&record).await?;
    }
    lines.flush().await
}

/// The finished records that are there, then each as it finishes: every one once.
async fn followed(context: &Context, filter: &Filter, mut lines: Lines) -> Result<(), Gone> {
    let ledger = &context.ledger;
    // Before the list is taken, so that none is lost in between. Those that are in both are told
    // by their ids.
    let mut finishing = ledger.follow();
    let mut told = HashSet::new();
    for record in ledger.list(filter) {
        if record.class != Class::Open {
            told.insert(record.id);
            lines.push(&record).await?;
        }
    }
    lines.flush().await?;
    loop {
        let changed = context.state.changed();
        if context.state.stopping() == Stopping::Now {
            return last(ledger, filter, finishing, lines, &mut told).await;
        }
        tokio::select! {
            next = finishing.recv() => match next {
                Ok(entry) => {
                    lines.push_new(&entry, filter, &mut told).await?;
                    // A burst goes out together, a single record at once.
                    if finishing.is_empty() {
                        lines.flush().await?;
                    }
                }
                Err(RecvError::Lagged(lost)) => ledger.count_dropped(lost),
                Err(RecvError::Closed) => return lines.flush().await,
            },
            () = changed => {}
            () = lines.pieces.closed() => return Err(Gone),
        }
    }
}

/// What finished while the process was stopping.
async fn last(
    ledger: &Ledger,
    filter: &Filter,
    mut finishing: broadcast::Receiver<Arc<Entry>>,
    mut lines: Lines,
    told: &mut HashSet<RecordId>,
) -> Result<(), Gone> {
    loop {
        match finishing.try_recv() {
            Ok(entry) => lines.push_new(&entry, filter, told).await?,
            Err(TryRecvError::Lagged(lost)) => ledger.count_dropped(lost),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return lines.flush().await,
        }
    }
}

/// The reader has gone.
struct Gone;

/// Collects lines into pieces.
struct Lines {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
}

impl Lines {
    fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        let buffer = Vec::with_capacity(PIECE);
        Self { buffer, pieces }
    }

    async fn push(&mut self, record: &Record) -> Result<(), Gone> {
        let start = self.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut self.buffer, record) {
            // Half a line would spoil the next one.
            self.buffer.truncate(start);
            tracing::error!(%error, id = %record.id, "a record has no JSON");
            return Ok(());
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn push_new(
        &mut self,
        entry: &Entry,
        filter: &Filter,
        told: &mut HashSet<RecordId>,
    ) -> Result<(), Gone> {
        let record = entry.lock().clone();
        if told.remove(&record.id) || !filter.passes(&record) {
            return Ok(());
        }
        self.push(&record).await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.pieces.send(piece.into()).await.map_err(|_| Gone)
    }
}

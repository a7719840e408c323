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
use super::error::{Failure, moment};
use super::routes::{Api, JSON_LINES, Route};
use super::stream::Pieces;
use crate::evidence::{Class, Entry, Filter, Ledger, Record, RecordId};
use crate::pipeline::Context;
use crate::rules::Statuses;
use crate::state::Stopping;

/// Lines are sent in pieces of about this size.
const PIECE: usize = 32 << 10;
/// At most so many pieces wait for a slow reader.
const PIECES: usize = 4;

pub(super) fn routes(api: Api) -> Api {
    let text = || json!({ "type": "string" });
    let moment = || json!({ "type": "string", "format": "date-time" });
    let classes = Class::ALL.map(Class::as_str);
    let route = Route::new("evidence", "Records, one a line, oldest first")
        .query("id", "An identity, a trace id, or a record's id", text())
        .query(
            "class",
            "What the evidence amounts to",
            json!({ "enum": classes }),
        )
        .query("proxy", "A proxy's name", text())
        .query("from", "The service that calls", text())
        .query("to", "The service that is called", text())
        .query(
            "status",
            "The status of the upstream's answer, or of the client's: 503, 5xx or 500-599",
            json!({ "type": "string", "pattern": "^[2-5][0-9][0-9]$|^[2-5]xx$" }),
        )
        .query("since", "Only those that began then or later", moment())
        .query("until", "Only those that began before", moment())
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
    let filter = filter.under(&app.context.ladder.hashing);
    let (pieces, body) = mpsc::channel(PIECES);
    let context = Arc::clone(&app.context);
    tokio::spawn(async move {
        let lines = Lines::new(pieces);
        // An error means that the reader has gone, which is no news to anyone.
        let _ = if follow {
            followed(&context, &filter, lines).await
        } else {
            listed(&context.ledger, filter, lines).await
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
            "from" => filter.from = Some(value),
            "to" => filter.to = Some(value),
            "rule" => filter.rule = Some(value),
            "status" => {
                let statuses = Statuses::parse(&value).map_err(|hint| {
                    let failure = wrong("status", format!("`{value}` is no status"));
                    failure.hint(hint.unwrap_or_else(|| "write 503, 5xx or 500-599".to_owned()))
                })?;
                filter.status = Some(statuses);
            }
            "since" => filter.since = Some(moment(&value)?),
            "until" => filter.until = Some(moment(&value)?),
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
                    .hint("the filters are id, class, proxy, from, to, rule, status, since, until, before and limit; and follow"));
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
async fn listed(ledger: &Arc<Ledger>, filter: Filter, mut lines: Lines) -> Result<(), Gone> {
    for entry in entries(ledger, &filter).await {
        lines.push(&entry).await?;
    }
    lines.flush().await
}

/// What passes a filter. Looked for beside the thread that answers, which would be kept from healing
/// while it looks through many.
async fn entries(ledger: &Arc<Ledger>, filter: &Filter) -> Vec<Arc<Entry>> {
    let (ledger, filter) = (Arc::clone(ledger), filter.clone());
    let looking = tokio::task::spawn_blocking(move || ledger.entries(&filter));
    looking.await.unwrap_or_default()
}

/// The finished records that are there, then each as it finishes: every one once.
async fn followed(context: &Context, filter: &Filter, mut lines: Lines) -> Result<(), Gone> {
    let ledger = &context.ledger;
    // Before the list is taken, so that none is lost in between. Those that are in both are told
    // by their ids.
    let mut finishing = ledger.follow();
    let mut told = HashSet::new();
    for entry in entries(ledger, filter).await {
        let (id, class) = {
            let record = entry.lock();
            (record.id, record.class)
        };
        if class != Class::Open {
            told.insert(id);
            lines.push(&entry).await?;
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

    async fn push(&mut self, entry: &Entry) -> Result<(), Gone> {
        let start = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, &*entry.lock());
        if let Err(error) = written {
            // Half a line would spoil the next one.
            self.buffer.truncate(start);
            tracing::error!(%error, "a record has no JSON");
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
        let wanted = {
            let record = entry.lock();
            !told.remove(&record.id) && filter.passes(&record)
        };
        match wanted {
            true => self.push(entry).await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.pieces.send(piece.into()).await.map_err(|_| Gone)
    }
}

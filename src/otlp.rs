//! Finished operations as spans, sent to a collector over OTLP/HTTP.
//!
//! Follows the ledger, as the file does: traffic never waits for it. Only what the record says is sent,
//! so what is redacted there is redacted here. What can't be kept until the collector takes it is
//! dropped, the oldest first, and counted.

mod backlog;
mod collector;
mod span;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::TracesConfig;
use crate::evidence::{Entry, Ledger};
use crate::metrics::SpanMeters;
use crate::seed::{self, Draw};

use backlog::Backlog;
use collector::{Collector, Said};
use span::{Attributes, span};

/// The most spans of one request, and about how many bytes; collectors take 20 MiB.
const MOST_SPANS: usize = 2048;
const MOST_BYTES: usize = 4 << 20;
/// Between two tries: the first time, and at the most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest that is waited because the collector says so.
const MOST_ASKED: Duration = Duration::from_secs(300);
/// How long the collector has for what is left when the process stops.
const FLUSH: Duration = Duration::from_secs(5);
/// The version of the semantic conventions that the attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Sends every operation that finishes, for as long as it is not closed.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Exporter {
    /// Follows the ledger from now on. The collector need not be there.
    #[must_use]
    pub fn start(config: &TracesConfig, ledger: &Ledger, meters: SpanMeters) -> Self {
        let (stop, stopping) = watch::channel(false);
        let backlog = Backlog::new(ledger, config.all, meters.clone());
        let sender = Sender {
            collector: Collector::new(config),
            meters,
            stopping: stopping.clone(),
            troubled: None,
            tries: Draw::new(seed::choose(), "otlp", 0, 1),
        };
        let form = Form::new(config);
        Self {
            stop,
            running: tokio::spawn(run(backlog, sender, form, stopping)),
        }
    }

    /// Sends what has finished so far, in bounded time, and ends.
    pub async fn close(self) {
        let _ = self.stop.send(true);
        let _ = self.running.await;
    }
}

async fn run(
    mut backlog: Backlog,
    mut sender: Sender,
    form: Form,
    mut stopping: watch::Receiver<bool>,
) {
    let mut told = stopping.clone();
    let mut over = pin!(async move {
        stopped(&mut told).await;
        clock::sleep(FLUSH).await;
    });
    loop {
        backlog.gather(&mut stopping).await;
        let Some(batch) = form.fill(&mut backlog.waiting) else {
            break;
        };
        let mut sending = pin!(sender.deliver(&batch));
        let delivered = loop {
            tokio::select! {
                delivered = &mut sending => break delivered,
                () = backlog.take_in() => {}
                () = &mut over => break false,
            }
        };
        if !delivered {
            let lost = backlog.give_up(batch.spans);
            tracing::warn!("stopped before {lost} operations were sent as traces");
            break;
        }
    }
}

/// Resolves once the process stops; it is gone as well if nobody could say so any more.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Spans as they are sent.
struct Batch {
    spans: u64,
    bytes: Bytes,
}

/// What all batches have in common.
struct Form {
    resource: Resource,
    /// What ids of new traces are made under.
    secret: u64,
}

impl Form {
    fn new(config: &TracesConfig) -> Self {
        let mut about = Attributes::default();
        about.text("service.name", &*config.service);
        about.text("service.version", env!("CARGO_PKG_VERSION"));
        for (key, value) in &config.resource {
            about.text(key, &**value);
        }
        Self {
            resource: Resource {
                attributes: about.0,
                ..Resource::default()
            },
            secret: seed::choose(),
        }
    }

    /// Takes the first of those that wait, as many as one request may have. `None`: there are none.
    fn fill(&self, waiting: &mut VecDeque<Arc<Entry>>) -> Option<Batch> {
        let (mut spans, mut bytes) = (Vec::new(), 0);
        while spans.len() < MOST_SPANS && bytes < MOST_BYTES {
            let Some(entry) = waiting.pop_front() else {
                break;
            };
            let span = span(&entry.lock(), self.secret);
            bytes += span.encoded_len();
            spans.push(span);
        }
        let count = spans.len() as u64;
        let of_ours = ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "firedrill".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            schema_url: SCHEMA.to_owned(),
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![of_ours],
                schema_url: SCHEMA.to_owned(),
            }],
        };
        (count > 0).then(|| Batch {
            spans: count,
            bytes: request.encode_to_vec().into(),
        })
    }
}

/// Sends batches, one after the other, and says once when that begins to fail.
struct Sender {
    collector: Collector,
    meters: SpanMeters,
    stopping: watch::Receiver<bool>,
    /// Since this many had been dropped something has been wrong.
    troubled: Option<u64>,
    tries: Draw,
}

impl Sender {
    /// Tries until the collector has taken a batch, or has refused it for good. `false`: the process
    /// stops, and there is no use in trying any longer.
    async fn deliver(&mut self, batch: &Batch) -> bool {
        let mut pause = PAUSE;
        loop {
            match self.collector.send(&batch.bytes).await {
                Said::Taken(0, _) => {
                    self.meters.sent.inc_by(batch.spans);
                    self.well();
                    return true;
                }
                Said::Taken(rejected, why) => {
                    let rejected = rejected.min(batch.spans);
                    self.trouble(&format!("rejects spans: {why}"), &why, "they are dropped");
                    self.meters.sent.inc_by(batch.spans - rejected);
                    self.meters.dropped.inc_by(rejected);
                    return true;
                }
                Said::Refused(why) => {
                    self.trouble(&format!("refuses spans: {why}"), &why, "they are dropped");
                    self.meters.dropped.inc_by(batch.spans);
                    return true;
                }
                Said::Later(why, asked) => {
                    let kept = "they are kept for a while, and sent again";
                    self.trouble(&format!("takes no spans: {why}"), &why, kept);
                    // Some of it is chance, so that instances do not come back all at once.
                    let chosen = pause.mul_f64(0.5 + self.tries.unit() / 2.0);
                    pause = LONGEST_PAUSE.min(pause * 2);
                    if !self.pause(chosen, asked).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits until the next try: as long as was asked for, or as was chosen; that is cut short when
    /// the process stops. `false`: it stops before another try is due.
    async fn pause(&mut self, chosen: Duration, asked: Option<Duration>) -> bool {
        let stopping = *self.stopping.borrow();
        let until = clock::now() + asked.unwrap_or(chosen).min(MOST_ASKED);
        if !stopping {
            tokio::select! {
                () = clock::sleep_until(until) => return true,
                () = stopped(&mut self.stopping) => {}
            }
        }
        if asked.is_none() {
            return !stopping;
        }
        let in_time = until <= clock::now() + FLUSH;
        if in_time {
            clock::sleep_until(until).await;
        }
        in_time
    }

    /// Says so, unless it has been said since it was last well.
    fn trouble(&mut self, what: &str, said: &str, then: &str) {
        if self.troubled.is_none() {
            let (address, hint) = (self.collector.address(), self.collector.hint(said));
            tracing::warn!("traces: {address} {what}; {then}{hint}");
            self.troubled = Some(self.meters.dropped.get());
        }
    }

    fn well(&mut self) {
        if let Some(before) = self.troubled.take() {
            let lost = self.meters.dropped.get().saturating_sub(before);
            let address = self.collector.address();
            tracing::info!("traces: {address} takes spans again; {lost} were dropped meanwhile");
        }
    }
}

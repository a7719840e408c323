//! One record as a span, by OpenTelemetry's semantic conventions where they have a word for it.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::clock::Timestamp;
use crate::evidence::{Caller, Class, Delivery, FaultSeen, Record, RecordId, SpanId, TraceId};
use crate::operation::Phase;
use crate::rules::Protocol;

/// Methods by their registered names; any other is `_OTHER`, so that a name stays one of few.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// The id of a record's span is that of the record: `6b00492a-2` is `6b00492a00000002`.
fn span_id(record: RecordId) -> SpanId {
    let id = u64::from(record.run) << 32 | u64::from(record.n as u32);
    // All noughts would be none.
    SpanId(id.max(1).to_be_bytes())
}

/// The id of a trace that begins with this record: as good as drawn for those who do not know `secret`.
fn trace_id(record: RecordId, secret: u64) -> TraceId {
    let id = xxh3_128_with_seed(&span_id(record).0, secret);
    TraceId(id.max(1).to_be_bytes())
}

/// The span of a finished operation. `secret`: what ids of new traces are made under, the process' own.
pub(super) fn span(record: &Record, secret: u64) -> Span {
    let (start, end) = (record.started, end(record));
    let remote = match record.trace {
        Some(_) => SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32,
        None => SpanFlags::ContextHasIsRemoteMask as u32,
    };
    let sampled = record.trace.is_none_or(|trace| trace.sampled);
    let trace = record.trace.map(|trace| trace.id);
    let parent = record.trace.map(|trace| trace.parent.0.to_vec());
    Span {
        trace_id: trace
            .unwrap_or_else(|| trace_id(record.id, secret))
            .0
            .to_vec(),
        span_id: span_id(record.id).0.to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        flags: u32::from(sampled) | remote,
        name: name(record),
        // It is asked, as a server is.
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end),
        attributes: attributes(record),
        events: events(record),
        status: Some(status(record)),
        ..Span::default()
    }
}

/// The last that is known of it.
fn end(record: &Record) -> Timestamp {
    let deliveries = record.upstream.iter();
    let seen = deliveries.flat_map(|d| [d.sent_at, d.answered_at]);
    let seen = seen.chain([record.client.at]).flatten();
    seen.fold(record.started, Ord::max)
}

fn nanos(at: Timestamp) -> u64 {
    at.0.saturating_mul(1000)
}

/// The method of those that have a registered name.
fn known_method(record: &Record) -> Option<&str> {
    let method = record.request.method.as_deref();
    method.filter(|method| METHODS.contains(method))
}

/// What is asked of which proxy: of few different values, as no path is.
fn name(record: &Record) -> String {
    let what = match record.protocol {
        Protocol::Http => known_method(record).unwrap_or("HTTP"),
        Protocol::Tcp | Protocol::Auto => "TCP",
    };
    format!("{what} {}", record.proxy)
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut all = Attributes::default();
    if let Some(method) = record.request.method.as_deref() {
        let known = known_method(record);
        all.text("http.request.method", known.unwrap_or("_OTHER"));
        if known.is_none() {
            all.text("http.request.method_original", method);
        }
    }
    if let Some(path) = record.request.path.as_deref() {
        all.text("url.path", path);
    }
    if let Some(status) = record.client.status {
        all.int("http.response.status_code", status);
    }
    if record.attempt > 1 {
        all.int("http.request.resend_count", record.attempt - 1);
    }
    all.text("server.address", &*record.to);
    match record.client.address {
        Some(Caller::At(address)) => {
            all.text("client.address", address.ip().to_canonical().to_string());
            all.int("client.port", address.port());
        }
        Some(hashed @ Caller::Hashed(_)) => all.text("client.address", hashed.to_string()),
        None => {}
    }
    all.text("network.transport", "tcp");
    if let Some(error) = error(record) {
        all.text("error.type", error);
    }
    all.text("firedrill.record.id", record.id.to_string());
    all.text("firedrill.proxy", &*record.proxy);
    all.text("firedrill.from", &*record.from);
    all.text("firedrill.to", &*record.to);
    all.text("firedrill.protocol", record.protocol.as_str());
    all.text("firedrill.class", record.class.as_str());
    all.text("firedrill.cause", record.cause.to_string());
    all.text("firedrill.outcome", word(record.client.outcome));
    all.int("firedrill.deliveries", record.deliveries);
    if let Some(identity) = &record.identity {
        all.text("firedrill.identity.by", word(identity.by));
        all.text("firedrill.identity.value", &*identity.value);
        all.text("firedrill.identity.strength", word(identity.strength));
    }
    all.0
}

/// What kind of error it ended with, if it did: of one that the client was told, the status.
fn error(record: &Record) -> Option<String> {
    if let Some(status) = record.client.status.filter(|status| *status >= 500) {
        return Some(status.to_string());
    }
    match record.class {
        Class::Acknowledged | Class::Substituted | Class::Open => None,
        class => Some(class.as_str().to_owned()),
    }
}

/// An error where the caller did not get the upstream's answer, or was told of one. What follows from
/// the answer's status is not said again.
fn status(record: &Record) -> Status {
    let Some(error) = error(record) else {
        return Status::default();
    };
    let message = if error == record.class.as_str() {
        format!("{}: {}", record.class, record.cause)
    } else {
        String::new()
    };
    Status {
        message,
        code: StatusCode::Error.into(),
    }
}

/// Deliveries, answers and faults, in the order of their times.
fn events(record: &Record) -> Vec<Event> {
    let deliveries = record.upstream.iter().zip(1..);
    let seen = deliveries.flat_map(|(delivery, n)| seen(record, delivery, n));
    let faults = record.faults.iter().map(|seen| fault(record, seen));
    let mut all: Vec<_> = seen.chain(faults).collect();
    all.sort_by_key(|event| event.time_unix_nano);
    all
}

/// What was seen of one delivery: that it was made, or tried, and that it was answered.
fn seen(record: &Record, delivery: &Delivery, n: u32) -> impl Iterator<Item = Event> {
    let numbered = || {
        let mut all = Attributes::default();
        all.int("delivery.number", n);
        all
    };
    let (mut made, mut answer) = (numbered(), numbered());
    made.flag("delivery.sent", delivery.sent_at.is_some());
    if let Some(status) = delivery.status {
        answer.int("http.response.status_code", status);
    }
    let bytes = i64::try_from(delivery.bytes).unwrap_or(i64::MAX);
    answer.int("delivery.bytes", bytes);
    if delivery.replayed {
        answer.flag("delivery.replayed", true);
    }
    if let Some(error) = delivery.error.as_deref() {
        // Why there is no answer, or not all of it.
        let about = match delivery.answered_at {
            None => &mut made,
            Some(_) => &mut answer,
        };
        about.text("delivery.error", error);
    }
    let made = made.event("delivery", delivery.sent_at.unwrap_or(record.started));
    let answer = delivery.answered_at.map(|at| answer.event("answer", at));
    [Some(made), answer].into_iter().flatten()
}

/// A rule or partition that chose it. The record does not keep when: its time is that of the moment in
/// which it acts.
fn fault(record: &Record, seen: &FaultSeen) -> Event {
    let answered = record.upstream.iter().filter_map(|d| d.answered_at).min();
    let at = match seen.phase {
        Phase::Response => answered,
        Phase::Connect | Phase::Request | Phase::Body | Phase::Stream => None,
    };
    let mut all = Attributes::default();
    all.text("fault.rule", &*seen.rule);
    all.text("fault.kind", &*seen.kind);
    all.text("fault.phase", word(seen.phase));
    all.flag("fault.injected", seen.injected);
    all.event("fault", at.unwrap_or(record.started))
}

/// The word that the record's JSON has for it.
fn word(of: impl serde::Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        // None of them is anything else.
        _ => String::new(),
    }
}

/// Attributes of a span, of one of its events, or of the resource.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: impl Into<String>) {
        self.put(key, Value::StringValue(value.into()));
    }

    fn int(&mut self, key: &str, value: impl Into<i64>) {
        self.put(key, Value::IntValue(value.into()));
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.put(key, Value::BoolValue(value));
    }

    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    fn event(self, name: &str, at: Timestamp) -> Event {
        Event {
            time_unix_nano: nanos(at),
            name: name.to_owned(),
            attributes: self.0,
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests;

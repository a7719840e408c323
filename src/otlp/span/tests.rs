//! Records as spans: what each field becomes, and laws that hold whatever a record says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::evidence::{Cause, Identity, Outcome, Strength, Trace};

const SECRET: u64 = 7;

/// An answer that was lost on its way, to a second attempt.
fn lost() -> Record {
    let record = json!({
        "id": "6b00492a-2",
        "proxy": "payment",
        "from": "checkout",
        "to": "bank",
        "protocol": "http",
        "started": "2026-11-20T13:20:43.139930Z",
        "identity": { "by": "idempotency_key", "value": "hash:00112233", "strength": "strong" },
        "trace": {
            "id": "0af7651916cd43dd8448eb211c80319c",
            "parent": "b7ad6b7169203331",
            "sampled": true
        },
        "attempt": 2,
        "request": { "method": "POST", "path": "/authorize/4712", "bytes": 204 },
        "upstream": [
            {
                "sent_at": "2026-11-20T13:20:43.140246Z",
                "answered_at": "2026-11-20T13:20:43.140883Z",
                "status": 201,
                "bytes": 137,
                "error": null
            },
            { "sent_at": null, "answered_at": null, "status": null, "bytes": 0, "error": "refused" }
        ],
        "client": {
            "address": "[::ffff:10.0.0.7]:51234",
            "outcome": "left",
            "status": null,
            "at": "2026-11-20T13:20:44.150604Z",
            "bytes": 0
        },
        "faults": [
            { "rule": "twice", "kind": "duplicate", "phase": "request", "injected": false },
            { "rule": "lost", "kind": "response_loss", "phase": "response", "injected": true }
        ],
        "class": "unseen",
        "cause": { "rule": "lost" },
        "deliveries": 1
    });
    serde_json::from_value(record).unwrap()
}

fn told(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let told = attributes.iter().map(|pair| {
        let value = match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(n) => n.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            other => panic!("{other:?}"),
        };
        (pair.key.as_str(), value)
    });
    let told: BTreeMap<_, _> = told.collect();
    assert_eq!(told.len(), attributes.len(), "each key once");
    told
}

#[test]
fn every_field_has_its_place() {
    let span = span(&lost(), SECRET);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut out = format!(
        "{} in {} below {}, flags {:#x}\n{} kind {}, {} to {}\n{:?}\n",
        hex(&span.span_id),
        hex(&span.trace_id),
        hex(&span.parent_span_id),
        span.flags,
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.as_ref().unwrap(),
    );
    for (key, value) in told(&span.attributes) {
        out += &format!("{key} = {value}\n");
    }
    for event in &span.events {
        let told = told(&event.attributes);
        out += &format!("{} {} {told:?}\n", event.time_unix_nano, event.name);
    }
    insta::assert_snapshot!(out, @r#"
    6b00492a00000002 in 0af7651916cd43dd8448eb211c80319c below b7ad6b7169203331, flags 0x301
    POST payment kind 2, 1795180843139930000 to 1795180844150604000
    Status { message: "unseen: rule lost", code: Error }
    client.address = 10.0.0.7
    client.port = 51234
    error.type = unseen
    firedrill.cause = rule lost
    firedrill.class = unseen
    firedrill.deliveries = 1
    firedrill.from = checkout
    firedrill.identity.by = idempotency_key
    firedrill.identity.strength = strong
    firedrill.identity.value = hash:00112233
    firedrill.outcome = left
    firedrill.protocol = http
    firedrill.proxy = payment
    firedrill.record.id = 6b00492a-2
    firedrill.to = bank
    http.request.method = POST
    http.request.resend_count = 1
    network.transport = tcp
    server.address = bank
    url.path = /authorize/4712
    1795180843139930000 delivery {"delivery.error": "refused", "delivery.number": "2", "delivery.sent": "false"}
    1795180843139930000 fault {"fault.injected": "false", "fault.kind": "duplicate", "fault.phase": "request", "fault.rule": "twice"}
    1795180843140246000 delivery {"delivery.number": "1", "delivery.sent": "true"}
    1795180843140883000 answer {"delivery.bytes": "137", "delivery.number": "1", "http.response.status_code": "201"}
    1795180843140883000 fault {"fault.injected": "true", "fault.kind": "response_loss", "fault.phase": "response", "fault.rule": "lost"}
    "#);
}

#[test]
fn what_does_not_begin_a_trace_continues_one() {
    let mut record = lost();
    record.trace = None;
    let alone = span(&record, SECRET);
    assert!(alone.parent_span_id.is_empty());
    assert_eq!(alone.flags, 0x101, "sampled, and no parent elsewhere");
    assert_eq!(alone, span(&record, SECRET), "the same, however often");
    record.id.n += 1;
    let other = span(&record, SECRET);
    assert_ne!(other.trace_id, alone.trace_id);
    assert_ne!(other.span_id, alone.span_id);
    assert_ne!(span(&record, 8).trace_id, other.trace_id, "in each process");
}

/// By OpenTelemetry's conventions for what a server is asked.
#[test]
fn what_is_an_error_and_what_is_not() {
    let of = |class, status: Option<u16>| {
        let mut record = lost();
        (record.class, record.client.status) = (class, status);
        let span = span(&record, SECRET);
        let error = told(&span.attributes).remove("error.type");
        let status = span.status.unwrap();
        let is_error = status.code == StatusCode::Error as i32;
        assert_eq!(is_error, error.is_some());
        assert!(is_error || status.message.is_empty() && status.code == 0);
        error.map(|error| (error, status.message))
    };
    let because = |class: &str| Some((class.to_owned(), format!("{class}: rule lost")));
    let told = |status: u16| Some((status.to_string(), String::new()));
    assert_eq!(of(Class::Acknowledged, Some(200)), None);
    assert_eq!(of(Class::Acknowledged, Some(404)), None);
    assert_eq!(of(Class::Acknowledged, Some(503)), told(503));
    assert_eq!(of(Class::Acknowledged, None), None);
    assert_eq!(of(Class::Substituted, Some(429)), None);
    assert_eq!(of(Class::Substituted, Some(500)), told(500));
    assert_eq!(of(Class::NeverDelivered, None), because("never_delivered"));
    assert_eq!(of(Class::Unknown, None), because("unknown"));
    assert_eq!(of(Class::Unseen, Some(201)), because("unseen"));
    assert_eq!(of(Class::Late, None), because("late"));
}

#[test]
fn a_connection_is_none_of_http() {
    let mut record = lost();
    record.protocol = Protocol::Tcp;
    (record.request.method, record.request.path) = (None, None);
    let span = span(&record, SECRET);
    assert_eq!(span.name, "TCP payment");
    let told = told(&span.attributes);
    assert!(told.keys().all(|key| !key.starts_with("url.")), "{told:?}");
    assert_eq!(told["network.transport"], "tcp");
}

fn moments() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(any::<u64>().prop_map(Timestamp))
}

prop_compose! {
    fn deliveries()(
        sent_at in moments(),
        answered_at in moments(),
        status in prop::option::of(any::<u16>()),
        bytes in any::<u64>(),
        replayed in any::<bool>(),
        error in prop::option::of(".*"),
    ) -> Delivery {
        Delivery { sent_at, answered_at, status, bytes, replayed, error, digest: None }
    }
}

prop_compose! {
    fn faults()(
        rule in ".*",
        phase in prop::sample::select(&[
            Phase::Connect, Phase::Request, Phase::Response, Phase::Body, Phase::Stream,
        ][..]),
        injected in any::<bool>(),
    ) -> FaultSeen {
        FaultSeen { rule: rule.as_str().into(), kind: "delay".into(), phase, injected }
    }
}

proptest! {
    #[test]
    fn a_span_is_one_whatever_the_record_says(
        (method, path, identity) in (".*", ".*", ".*"),
        started in any::<u64>(),
        at in moments(),
        upstream in prop::collection::vec(deliveries(), 0..4),
        faults in prop::collection::vec(faults(), 0..4),
        trace in prop::option::of(any::<([u8; 16], [u8; 8], bool)>()),
        address in prop_oneof![
            any::<u64>().prop_map(Caller::Hashed),
            any::<std::net::SocketAddr>().prop_map(Caller::At),
        ],
        class in prop::sample::select(&Class::ALL[..]),
        (attempt, run, n) in any::<(u32, u32, u64)>(),
    ) {
        let mut record = lost();
        record.id = RecordId { run, n };
        record.started = Timestamp(started);
        record.request.method = Some(method.as_str().into());
        record.request.path = Some(path.as_str().into());
        record.identity = Some(Identity {
            by: crate::evidence::By::RequestId,
            value: identity,
            strength: Strength::Strong,
        });
        record.trace = trace.map(|(id, parent, sampled)| Trace {
            id: TraceId(id),
            parent: SpanId(parent),
            sampled,
        });
        record.client.address = Some(address);
        (record.client.at, record.client.outcome) = (at, Outcome::Closed);
        (record.attempt, record.class, record.cause) = (attempt, class, Cause::Client);
        (record.upstream, record.faults) = (upstream, faults);

        let span = span(&record, SECRET);
        prop_assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        prop_assert!(span.span_id.iter().any(|b| *b != 0));
        prop_assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        let times: Vec<_> = span.events.iter().map(|event| event.time_unix_nano).collect();
        prop_assert!(times.is_sorted() && times.iter().all(|t| *t <= span.end_time_unix_nano));
        let answers = record.upstream.iter().filter(|d| d.answered_at.is_some()).count();
        prop_assert_eq!(times.len(), record.upstream.len() + answers + record.faults.len());
        let (what, proxy) = span.name.split_once(' ').unwrap();
        prop_assert!(what == "HTTP" || METHODS.contains(&what));
        prop_assert_eq!(proxy, "payment");
        let told = told(&span.attributes);
        prop_assert_eq!(&told["url.path"], &path);
        let original = told.get("http.request.method_original");
        prop_assert_eq!(original.is_some(), told["http.request.method"] == "_OTHER");
        if let Caller::Hashed(_) = address {
            prop_assert!(told["client.address"].starts_with("hash:"));
        }
    }
}

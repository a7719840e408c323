//! Operations as spans at a collector: the real binary, its records and what arrives, field by field;
//! and collectors that are not there, do not answer, do not want them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill::clock::Timestamp;
use firedrill::config;
use firedrill::evidence::{Class, Ledger, Record, Room};
use firedrill::metrics::Metrics;
use firedrill::otlp::Exporter;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use support::collector::{Answer, Collector, attribute, hex, told};
use support::http2::{self, H2};
use support::pki::Pki;
use support::process::{Firedrill, eventually};
use support::{Client, PATIENCE, Server, get, post, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00";

/// A proxy `p` before `upstream` whose operations are sent to `collector`.
fn file(upstream: SocketAddr, collector: SocketAddr, traces: &str, more: &str) -> String {
    format!(
        "traces: {{ otlp: 'http://{collector}', {traces} }}\n\
         proxies: [{{ name: p, from: shop, to: bank, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}]\n\
         {more}"
    )
}

/// Firedrill, the address of its proxy, and its upstream.
async fn firedrill(collector: SocketAddr, traces: &str, more: &str) -> (Firedrill, SocketAddr) {
    let upstream = Server::http().await;
    let firedrill = Firedrill::start(&file(upstream.addr, collector, traces, more)).await;
    let addr = firedrill.proxy("p").await;
    (firedrill, addr)
}

/// The same request, with another header.
fn with(request: &str, name: &str, value: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{name}: {value}\r\n\r\n"), 1)
}

/// So many requests, each answered.
async fn requests(addr: SocketAddr, n: usize) {
    let mut client = Client::connect(addr).await;
    for i in 0..n {
        client.send(get(&format!("/{i}"))).await;
        client.answer().await;
    }
}

/// What the counter says: sent, dropped.
async fn counted(firedrill: &Firedrill) -> (u64, u64) {
    let of = async |outcome| {
        let label = format!("outcome=\"{outcome}\"");
        firedrill.metric("firedrill_spans_total", &[&label]).await
    };
    (of("sent").await, of("dropped").await)
}

/// How often it has said that something is wrong with the collector.
fn warnings(firedrill: &Firedrill) -> usize {
    let log = firedrill.process.log();
    log.lines()
        .filter(|l| l.contains("WARN") && l.contains("traces:"))
        .count()
}

fn nanos(at: Timestamp) -> u64 {
    at.0 * 1000
}

/// Whether a span says what a record says; every word of it.
fn same(span: &Span, record: &Record) {
    let json = serde_json::to_value(record).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    match record.trace {
        Some(trace) => {
            assert_eq!(hex(&span.trace_id), trace.id.to_string());
            assert_eq!(hex(&span.parent_span_id), trace.parent.to_string());
            assert_eq!(span.flags, 0x300 | u32::from(trace.sampled));
        }
        None => {
            assert!(span.trace_id.len() == 16 && span.trace_id.iter().any(|b| *b != 0));
            assert_eq!(
                (hex(&span.parent_span_id).as_str(), span.flags),
                ("", 0x101)
            );
        }
    }
    let (run, n) = (record.id.run, record.id.n);
    assert_eq!(hex(&span.span_id), format!("{run:08x}{n:08x}"));
    assert_eq!(span.kind, 2, "a server's");
    assert_eq!(span.start_time_unix_nano, nanos(record.started));
    let deliveries = record
        .upstream
        .iter()
        .flat_map(|d| [d.sent_at, d.answered_at]);
    let end = deliveries
        .chain([record.client.at])
        .flatten()
        .max()
        .unwrap();
    assert_eq!(span.end_time_unix_nano, nanos(end));

    let mut expected = BTreeMap::new();
    let mut put =
        |key: &str, value: String| assert!(expected.insert(key.to_owned(), value).is_none());
    let what = match (&record.request.method, &record.request.path) {
        (Some(method), Some(path)) => {
            put("http.request.method", method.to_string());
            put("url.path", path.to_string());
            method
        }
        _ => "TCP",
    };
    assert_eq!(span.name, format!("{what} {}", record.proxy));
    if let Some(status) = record.client.status {
        put("http.response.status_code", status.to_string());
    }
    if record.attempt > 1 {
        put(
            "http.request.resend_count",
            (record.attempt - 1).to_string(),
        );
    }
    let (host, port) = json["client"]["address"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    put("client.address", host.to_owned());
    put("client.port", port.to_owned());
    put("server.address", record.to.to_string());
    put("network.transport", "tcp".to_owned());
    put("firedrill.record.id", record.id.to_string());
    put("firedrill.proxy", record.proxy.to_string());
    put("firedrill.from", record.from.to_string());
    put("firedrill.to", record.to.to_string());
    put("firedrill.protocol", word(&json["protocol"]));
    put("firedrill.class", word(&json["class"]));
    put("firedrill.cause", record.cause.to_string());
    put("firedrill.outcome", word(&json["client"]["outcome"]));
    put("firedrill.deliveries", record.deliveries.to_string());
    if record.identity.is_some() {
        for key in ["by", "value", "strength"] {
            put(
                &format!("firedrill.identity.{key}"),
                word(&json["identity"][key]),
            );
        }
    }
    let status = span.status.clone().unwrap();
    if record.class == Class::Acknowledged {
        assert_eq!((status.code, &*status.message), (0, ""));
    } else {
        put("error.type", word(&json["class"]));
        assert_eq!(status.code, StatusCode::Error as i32);
        assert_eq!(
            status.message,
            format!("{}: {}", record.class, record.cause)
        );
    }
    assert_eq!(told(&span.attributes), expected);

    let mut events = Vec::new();
    for (n, delivery) in record.upstream.iter().enumerate() {
        let number = ("delivery.number", (n + 1).to_string());
        let at = delivery.sent_at.unwrap_or(record.started);
        let sent = ("delivery.sent", delivery.sent_at.is_some().to_string());
        let mut made = vec![number.clone(), sent];
        let error = delivery
            .error
            .clone()
            .map(|error| ("delivery.error", error));
        if let Some(at) = delivery.answered_at {
            let mut answer = vec![number, ("delivery.bytes", delivery.bytes.to_string())];
            let status = delivery.status.map(|s| s.to_string());
            answer.extend(status.map(|status| ("http.response.status_code", status)));
            answer.extend(error);
            events.push((nanos(at), "answer", answer));
        } else {
            made.extend(error);
        }
        events.push((nanos(at), "delivery", made));
    }
    for (n, fault) in record.faults.iter().enumerate() {
        let phase = word(&json["faults"][n]["phase"]);
        let at = match (&*phase, record.upstream.first().and_then(|d| d.answered_at)) {
            ("response", Some(at)) => at,
            _ => record.started,
        };
        let said = vec![
            ("fault.rule", fault.rule.to_string()),
            ("fault.kind", fault.kind.to_string()),
            ("fault.phase", phase),
            ("fault.injected", fault.injected.to_string()),
        ];
        events.push((nanos(at), "fault", said));
    }
    let expected: BTreeSet<_> = events
        .into_iter()
        .map(|(at, name, said)| {
            let said = said.into_iter().map(|(key, value)| (key.to_owned(), value));
            (at, name.to_owned(), said.collect::<BTreeMap<_, _>>())
        })
        .collect();
    let events = span.events.iter();
    let events = events.map(|e| (e.time_unix_nano, e.name.clone(), told(&e.attributes)));
    assert_eq!(events.collect::<BTreeSet<_>>(), expected);
    assert!(span.events.is_sorted_by_key(|e| e.time_unix_nano));
}

/// Holds every span against the record that it names. None is there twice, none is missing.
fn all_the_same(spans: &[Span], records: &[Record]) {
    let named = |span: &Span| attribute(span, "firedrill.record.id").unwrap();
    let names: BTreeSet<_> = spans.iter().map(named).collect();
    assert_eq!(names.len(), spans.len(), "one span a record");
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each an id of its own");
    assert_eq!(spans.len(), records.len());
    for record in records {
        let id = record.id.to_string();
        let span = spans.iter().find(|span| named(span) == id);
        same(span.unwrap_or_else(|| panic!("{id} is missing")), record);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_says_what_the_record_says() {
    let collector = Collector::start().await;
    let echo = Server::echo().await;
    let more = "rules:\n\
         - { name: lost, match: { path: /lost }, fault: { response_loss: { then: close } } }\n\
         - { name: never, match: { path: /never }, fault: { drop: { then: reset } } }\n\
         - { name: slow, match: { path: /slow }, fault: { delay: { latency: 20ms } } }\n\
         - { name: dry, match: { path: /slow }, dry_run: true, fault: { drop: {} } }\n\
         - { name: twice, match: { path: /twice }, fault: { duplicate: {} } }\n";
    let upstream = Server::http().await;
    let text = file(upstream.addr, collector.addr, "service: drills", more).replace(
        "protocol: http }]",
        &format!(
            "protocol: http }}, {{ name: db, listen: 127.0.0.1:0, upstream: {} }}]",
            echo.addr
        ),
    );
    let firedrill = Firedrill::start(&text).await;
    let addr = firedrill.proxy("p").await;

    let mut client = Client::connect(addr).await;
    let traced = |request: String| with(&request, "traceparent", SAMPLED);
    for request in [
        traced(get("/acknowledged")),
        get("/alone"),
        traced(get("/slow")),
        traced(post("/twice", "twice", "x")),
    ] {
        client.send(request).await;
        client.answer().await;
    }
    for _ in 0..2 {
        let mut client = Client::connect(addr).await;
        client.send(traced(post("/lost", "pay-1", "x"))).await;
        assert_eq!(client.rest().await, (String::new(), true));
    }
    let mut never = Client::connect(addr).await;
    never.send(traced(get("/never"))).await;
    assert_eq!(never.rest().await, (String::new(), false));
    let mut bytes = Client::connect(firedrill.proxy("db").await).await;
    bytes.send("hello").await;
    bytes.expect("hello").await;
    bytes.fin().await;
    assert_eq!(bytes.rest().await, (String::new(), true));
    drop((client, never));

    let records = firedrill.closed(8).await;
    let spans = collector.taken(8).await;
    all_the_same(&spans, &records);
    let classes: BTreeSet<_> = records.iter().map(|r| r.class.as_str()).collect();
    assert_eq!(
        classes,
        BTreeSet::from(["acknowledged", "never_delivered", "unseen"])
    );
    let of = |path: &str| {
        let of = move |span: &&Span| attribute(span, "url.path").as_deref() == Some(path);
        spans.iter().filter(of).collect::<Vec<_>>()
    };
    let lost = of("/lost");
    let again = lost
        .iter()
        .filter_map(|s| attribute(s, "http.request.resend_count"));
    assert_eq!(again.collect::<Vec<_>>(), ["1"], "the second of two");
    for span in lost {
        assert_eq!(hex(&span.trace_id), TRACE);
        let injected = span.events.iter().map(|event| told(&event.attributes));
        let mut injected = injected.filter_map(|mut told| told.remove("fault.injected"));
        assert_eq!(injected.next().as_deref(), Some("true"));
        assert_eq!(
            attribute(span, "http.response.status_code"),
            None,
            "nothing was told"
        );
    }
    assert_ne!(hex(&of("/alone")[0].trace_id), TRACE, "a trace of its own");

    let asked = collector.asked();
    assert!(asked.iter().all(|a| a.path == "/v1/traces"));
    let headers = &asked[0].headers;
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["host"], collector.addr.to_string());
    let resource = told(&asked[0].resource.attributes);
    assert_eq!(resource["service.name"], "drills");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(counted(&firedrill).await, (8, 0));
    assert_eq!(warnings(&firedrill), 0, "{}", firedrill.process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_does_not_sample_is_not_sent_unless_it_is_said() {
    for (all, expected) in [
        (false, vec!["/alone", "/sampled"]),
        (true, vec!["/alone", "/not", "/sampled"]),
    ] {
        let collector = Collector::start().await;
        let (firedrill, addr) = firedrill(collector.addr, &format!("all: {all}"), "").await;
        let mut client = Client::connect(addr).await;
        for request in [
            with(&get("/not"), "traceparent", NOT_SAMPLED),
            with(&get("/sampled"), "traceparent", SAMPLED),
            get("/alone"),
        ] {
            client.send(request).await;
            client.answer().await;
        }
        drop(client);
        let records = firedrill.closed(3).await;
        let spans = collector.taken(expected.len()).await;
        let mut paths: Vec<_> = spans
            .iter()
            .map(|s| attribute(s, "url.path").unwrap())
            .collect();
        paths.sort();
        assert_eq!(paths, expected);
        let sent = records.into_iter().filter(|r| {
            let path = r.request.path.as_deref().unwrap();
            expected.contains(&path)
        });
        all_the_same(&spans, &sent.collect::<Vec<_>>());
        assert_eq!(counted(&firedrill).await, (expected.len() as u64, 0));
    }
}

/// What is redacted in the record is nowhere in what is sent, and no header, query or body is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_that_is_not_in_the_record() {
    let collector = Collector::start().await;
    let more = "evidence: { redact: [idempotency-key] }";
    let (firedrill, addr) = firedrill(collector.addr, "", more).await;
    let mut client = Client::connect(addr).await;
    let request = post("/pay?card=4000-secret", "key-secret", "body-secret");
    client
        .send(with(&request, "Authorization", "header-secret"))
        .await;
    client.answer().await;
    drop(client);
    let records = firedrill.closed(1).await;
    let spans = collector.taken(1).await;
    all_the_same(&spans, &records);
    let value = attribute(&spans[0], "firedrill.identity.value").unwrap();
    assert!(value.starts_with("hash:"), "{value}");
    let all = format!("{:?}", collector.asked());
    assert!(!all.contains("secret"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_disturbs_nothing_and_gets_all_when_it_comes() {
    let addr = Server::nobody().await;
    let (firedrill, proxy) = firedrill(addr, "", "").await;
    let mut sent = 0;
    // Several tries fail meanwhile, and operations go on.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        requests(proxy, 5).await;
        sent += 5;
        until("a pause", || {
            (began.elapsed().as_millis() > sent as u128 * 50).then_some(())
        })
        .await;
    }
    assert_eq!(warnings(&firedrill), 1, "{}", firedrill.process.log());
    assert_eq!(counted(&firedrill).await, (0, 0));
    let collector = Collector::at(&addr.to_string()).await;
    let records = firedrill.closed(sent).await;
    let spans = collector.taken(sent).await;
    all_the_same(&spans, &records);
    eventually("it is counted and said", async || {
        let said = firedrill
            .process
            .log()
            .contains("takes spans again; 0 were dropped");
        (said && counted(&firedrill).await == (sent as u64, 0)).then_some(())
    })
    .await;
    assert_eq!(warnings(&firedrill), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_collector_is_asked_again_when_it_said_and_nothing_is_lost_or_doubled() {
    let collector = Collector::start().await;
    collector.answer(&[
        Answer::Status(503, Some(2)),
        Answer::Status(429, None),
        Answer::Close,
        Answer::Status(502, None),
    ]);
    let (firedrill, addr) = firedrill(collector.addr, "", "").await;
    requests(addr, 20).await;
    let records = firedrill.closed(20).await;
    let spans = collector.taken(20).await;
    all_the_same(&spans, &records);
    let asked = collector.asked();
    let taken: Vec<_> = asked.iter().map(|a| a.taken).collect();
    assert!(
        taken.starts_with(&[false, false, false, false, true]),
        "{taken:?}"
    );
    assert_eq!(asked[0].spans, asked[1].spans, "the same batch");
    let waited = |n: usize| asked[n + 1].at - asked[n].at;
    assert!(
        waited(0) >= Duration::from_secs(2),
        "as it asked: {:?}",
        waited(0)
    );
    assert!(waited(1) >= Duration::from_millis(500), "{:?}", waited(1));
    eventually("all are counted", async || {
        (counted(&firedrill).await == (20, 0)).then_some(())
    })
    .await;
    assert_eq!(warnings(&firedrill), 1, "{}", firedrill.process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_is_dropped_and_counted() {
    let collector = Collector::start().await;
    collector.answer(&[Answer::Status(400, None), Answer::Reject(2)]);
    let (firedrill, addr) = firedrill(collector.addr, "", "").await;
    for (n, expected) in [(3, (0, 3)), (5, (3, 5)), (4, (7, 5))] {
        requests(addr, n).await;
        eventually("they are counted", async || {
            (counted(&firedrill).await == expected).then_some(())
        })
        .await;
    }
    let asked = collector.asked();
    let sizes: Vec<_> = asked.iter().map(|a| a.spans.len()).collect();
    assert_eq!(sizes, [3, 5, 4], "nothing was sent twice");
    assert_eq!(warnings(&firedrill), 1, "{}", firedrill.process.log());
    let log = firedrill.process.log();
    assert!(log.contains("refuses spans: 400"), "{log}");
    // Idle in between, and yet one connection.
    assert!(asked.iter().all(|a| a.connection == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_traffic_nor_the_next_try() {
    let collector = Collector::start().await;
    collector.answer(&[Answer::Hang]);
    let (firedrill, addr) = firedrill(collector.addr, "timeout: 500ms", "").await;
    requests(addr, 3).await;
    until("it is asked", || {
        (collector.asked().len() == 1).then_some(())
    })
    .await;
    requests(addr, 3).await;
    let records = firedrill.closed(6).await;
    let spans = collector.taken(6).await;
    all_the_same(&spans, &records);
    let asked = collector.asked();
    assert_eq!(asked[0].spans, asked[1].spans, "the same batch again");
    assert_ne!(asked[0].connection, asked[1].connection);
    let log = firedrill.process.log();
    assert!(log.contains("takes no spans: no answer in time"), "{log}");
}

/// Stops it, and answers how long that took.
async fn stop(firedrill: &mut Firedrill) -> Duration {
    let began = Instant::now();
    firedrill.process.signal(Signal::TERM);
    let ended = firedrill.process.end().await;
    assert_eq!(ended.code(), Some(0), "{}", firedrill.process.log());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_sends_what_is_left() {
    let collector = Collector::start().await;
    // It was busy before, and a try is not due for long.
    collector.answer(&[Answer::Status(503, None), Answer::Status(503, None)]);
    let (mut firedrill, addr) = firedrill(collector.addr, "", "").await;
    requests(addr, 3).await;
    until("it is asked twice", || {
        (collector.asked().len() == 2).then_some(())
    })
    .await;
    let mut last = Client::connect(addr).await;
    last.send(get("/last")).await;
    last.answer().await;
    let records = firedrill.closed(3).await;
    assert!(records.len() <= 4);
    stop(&mut firedrill).await;
    let spans = collector.spans();
    assert_eq!(
        spans.len(),
        4,
        "also that of the connection which was open until then"
    );
    let log = firedrill.process.log();
    assert!(!log.contains("stopped before"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_no_collector() {
    let nobody = Server::nobody().await;
    let hanging = Collector::start().await;
    hanging.answer(&[Answer::Hang; 9]);
    let far = Collector::start().await;
    far.answer(&[Answer::Status(503, Some(3600)); 9]);
    for (addr, most) in [(nobody, 3), (hanging.addr, 8), (far.addr, 3)] {
        let (mut firedrill, proxy) = firedrill(addr, "", "").await;
        requests(proxy, 3).await;
        firedrill.closed(2).await;
        if addr == far.addr {
            until("it has said when", || {
                (!far.asked().is_empty()).then_some(())
            })
            .await;
        }
        let took = stop(&mut firedrill).await;
        assert!(took < Duration::from_secs(most), "{took:?}");
        let log = firedrill.process.log();
        assert!(log.contains("stopped before 3 operations"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_that_wants_a_token() {
    let collector = Collector::start().await;
    let pki = Pki::make();
    let serving = collector.clone();
    let secure = pki
        .upstream(true, &["http/1.1"], move |s| serving.clone().serve(s, 0))
        .await;
    let upstream = Server::http().await;
    let text = |tls: &str| {
        format!(
            "control: {{ listen: 127.0.0.1:0 }}\n\
             traces:\n\
             \x20 otlp: https://{}/tenants/7/\n\
             \x20 headers: {{ authorization: {{ file: token }}, X-Tenant: 7 }}\n\
             \x20 tls: {{ {tls} }}\n\
             proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {}, protocol: http }}]\n",
            secure.addr(),
            upstream.addr
        )
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "Bearer s3cret\n").unwrap();
    for name in ["trust.pem", "caller.pem", "caller.key", "ca/ca.pem"] {
        let to = dir.path().join(name.rsplit('/').next().unwrap());
        fs::copy(pki.path(name), to).unwrap();
    }
    // Another CA: it is not believed, and told nothing.
    let yaml = dir.path().join("firedrill.yaml");
    fs::write(&yaml, text("ca: ca.pem, server_name: site.example")).unwrap();
    let mut firedrill = Firedrill::start_in(dir).await;
    requests(firedrill.proxy("p").await, 1).await;
    until("it is said", || {
        firedrill
            .process
            .log()
            .contains("takes no spans: no TLS")
            .then_some(())
    })
    .await;
    stop(&mut firedrill).await;
    assert!(collector.asked().is_empty());
    let log = firedrill.process.log();

    let dir = firedrill.into_dir();
    let tls = "ca: trust.pem, server_name: site.example, cert: caller.pem, key: caller.key";
    fs::write(dir.path().join("firedrill.yaml"), text(tls)).unwrap();
    let firedrill = Firedrill::start_in(dir).await;
    requests(firedrill.proxy("p").await, 2).await;
    let records = firedrill.closed(2).await;
    let spans = collector.taken(2).await;
    all_the_same(&spans, &records);
    let asked = &collector.asked()[0];
    assert_eq!(asked.path, "/tenants/7/v1/traces");
    assert_eq!(asked.headers["authorization"], "Bearer s3cret");
    assert_eq!(asked.headers["x-tenant"], "7");
    for log in [log, firedrill.process.log()] {
        assert!(!log.contains("s3cret"), "{log}");
    }
}

/// A ledger of records that finish at once.
fn finish(ledger: &Ledger, n: usize) {
    for _ in 0..n {
        let record = json!({
            "id": "00000001-1", "proxy": "p", "from": "a", "to": "b", "protocol": "http",
            "started": "2026-11-20T13:20:43.139930Z", "identity": null, "attempt": 1,
            "request": { "method": "GET", "path": "/", "bytes": 1 },
            "upstream": [], "faults": [], "class": "open", "cause": "none", "deliveries": 0,
            "client": { "outcome": "closed", "status": null, "at": null, "bytes": 0 }
        });
        let mut record: Record = serde_json::from_value(record).unwrap();
        record.id = ledger.next_id();
        let entry = ledger.begin(record);
        ledger.finish(&entry, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_and_the_newest_is_kept() {
    let collector = Collector::start().await;
    collector.answer(&[Answer::Status(503, Some(3))]);
    let text = format!("traces: {{ otlp: 'http://{}' }}", collector.addr);
    let config = config::parse(&text, "f.yaml").unwrap().traces.unwrap();
    let room = Room {
        records: 10,
        bytes: 1 << 20,
    };
    let ledger = Arc::new(Ledger::new(Some(room)));
    let meters = Metrics::new().unwrap().spans();
    let exporter = Exporter::start(&config, &ledger, meters.clone());
    finish(&ledger, 1);
    until("it is asked", || {
        (collector.asked().len() == 1).then_some(())
    })
    .await;
    // While it waits, more come than may.
    let total = 30_001;
    for _ in 0..30 {
        finish(&ledger, 1000);
        tokio::task::yield_now().await;
    }
    let done = || meters.sent.get() + meters.dropped.get();
    until("each is sent or counted", || {
        (done() == total).then_some(())
    })
    .await;
    assert!(
        meters.dropped.get() >= total - 1 - 8192 - 2048,
        "{}",
        meters.dropped.get()
    );
    let spans = collector.taken(meters.sent.get() as usize).await;
    assert_eq!(spans.len() as u64, meters.sent.get());
    assert!(spans.len() > 8000, "{}", spans.len());
    let number = |span: &Span| {
        let id = attribute(span, "firedrill.record.id").unwrap();
        id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap()
    };
    let numbers: BTreeSet<_> = spans.iter().map(number).collect();
    assert_eq!(numbers.len(), spans.len());
    assert!(numbers.contains(&total), "the newest");
    assert!(!numbers.contains(&100), "not the oldest");
    let sizes = collector.asked().into_iter().map(|asked| asked.spans.len());
    assert!(sizes.max().unwrap() <= 2048);
    let began = Instant::now();
    exporter.close().await;
    assert!(began.elapsed() < PATIENCE);
}

/// Whatever it is, as are its neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_passes_untouched() {
    let values = [
        SAMPLED,
        NOT_SAMPLED,
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes-later",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "none at all",
    ];
    let state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
    let collector = Collector::start().await;
    let upstream = Server::http().await;
    let text = file(upstream.addr, collector.addr, "all: true", "");
    let firedrill = Firedrill::start(&text).await;
    let mut client = Client::connect(firedrill.proxy("p").await).await;
    let mut sent = String::new();
    for value in values {
        let request = with(&get("/"), "TraceParent", value);
        let request = with(&request, "tracestate", state);
        client.send(&request).await;
        client.answer().await;
        sent += &request;
    }
    assert_eq!(upstream.seen().concat(), sent);

    let upstream = http2::Upstream::echo().await;
    let text = file(upstream.addr, collector.addr, "all: true", "");
    let firedrill = Firedrill::start(&text).await;
    let mut client = H2::connect(firedrill.proxy("p").await).await;
    for value in values {
        let request = http2::request("GET", "/").header("traceparent", value);
        let request = request.header("tracestate", state).body(()).unwrap();
        client.ask(request, "").await.unwrap();
    }
    let asked = upstream.asked();
    assert_eq!(asked.len(), values.len());
    for (asked, value) in asked.iter().zip(values) {
        let all = |name| asked.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("traceparent"), [value]);
        assert_eq!(all("tracestate"), [state]);
    }
}

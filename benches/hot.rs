//! The pieces that every connection, request or chunk passes, as plain functions: `cargo bench`.
//!
//! What is private and hot (a lane, a peer) is met in `through_a_proxy`, over loopback.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use firedrill::clock;
use firedrill::config;
use firedrill::evidence::{Ladder, Ledger, Outcome, Room};
use firedrill::metrics::Metrics;
use firedrill::operation::{Direction, Facts, Request, Sni};
use firedrill::pipeline::{Context, Crossing, Held, Session};
use firedrill::protocol::{Event, http1};
use firedrill::proxy::{Supervisor, Workers};
use firedrill::rules::{Edge, LiveRule, Protocol};
use firedrill::seed::{self, Draw};
use firedrill::state::{Change, Source, State};

const FILE: &str = "\
seed: 42
proxies:
  - { name: web, listen: 127.0.0.1:0, upstream: 127.0.0.1:1, protocol: http }
  - { name: db, listen: 127.0.0.1:0, upstream: 127.0.0.1:1 }
rules:
  - name: canary
    proxies: [web]
    match: { method: POST, path: /authorize/*, headers: { x-tenant: canary } }
    probability: 0.3
    fault: { delay: { latency: 10ms, jitter: 5ms } }
  - name: slow
    proxies: [db]
    fault: { delay: { latency: 10ms, jitter: 5ms, distribution: pareto } }
";

const REQUEST: &[u8] = b"POST /authorize/4711?currency=EUR HTTP/1.1\r\n\
Host: payment.internal:8001\r\n\
User-Agent: checkout/1.17\r\n\
Accept: application/json\r\n\
Content-Type: application/json\r\n\
Idempotency-Key: 0f8b1c52-7c1e-4f5e-9a55-9f4f3a8f3c1d\r\n\
X-Tenant: canary\r\n\
Content-Length: 32\r\n\r\n\
{\"amount\": 1999, \"card\": \"4000\"}";

const RESPONSE: &[u8] = b"HTTP/1.1 201 Created\r\n\
Server: payment\r\n\
Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
Content-Type: application/json\r\n\
Location: /payments/4711\r\n\
Content-Length: 20\r\n\r\n\
{\"id\": 4711, \"ok\":1}";

/// What all proxies share, with the file's rules in force, or with none.
fn context(with_rules: bool) -> Arc<Context> {
    let state = State::default();
    if with_rules {
        let rules = config::parse(FILE, "bench.yaml").unwrap().rules;
        let rules = rules.into_iter().map(Change::AddRule);
        state.apply(rules.collect(), Source::File).unwrap();
    }
    Arc::new(Context {
        state: Arc::new(state),
        ledger: Arc::new(Ledger::new(Some(Room {
            records: 10_000,
            bytes: usize::MAX,
        }))),
        metrics: Arc::new(Metrics::new().unwrap()),
        seed: 42,
        ladder: Ladder::default(),
        linger: Duration::from_secs(5),
        half_close: Duration::from_secs(60),
        handshake: Duration::from_secs(2),
        held: Held::new(1 << 20, 1 << 30),
    })
}

/// A connection at a proxy of the file.
fn session(context: &Arc<Context>, proxy: &str) -> Session {
    let edges = config::parse(FILE, "bench.yaml").unwrap().proxies;
    let edge = edges.into_iter().find(|edge| edge.name == proxy).unwrap();
    let change = Change::PutEdge(edge.clone());
    context.state.apply(vec![change], Source::File).unwrap();
    let crossing = Arc::new(Crossing::new(Arc::clone(context), Arc::new(edge)));
    crossing.session("127.0.0.1:40000".parse().unwrap())
}

/// Gives the head of [`REQUEST`] to `with`.
fn with_request<R>(with: impl FnOnce(Request<'_>) -> R) -> R {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(REQUEST).unwrap();
    let (path, query) = request.path.unwrap().split_once('?').unwrap();
    with(Request {
        http2: false,
        authority: None,
        method: request.method.unwrap(),
        path,
        query: Some(query),
        headers: request.headers,
    })
}

fn seed(c: &mut Criterion) {
    c.bench_function("seed/key_and_draw", |b| {
        b.iter(|| {
            let key = seed::key(&[black_box(b"POST"), b"/authorize/4711", b"currency=EUR"]);
            Draw::new(42, "lost-payment-response", key, 1).unit()
        });
    });
}

fn rules(c: &mut Criterion) {
    let rule = config::parse(FILE, "bench.yaml").unwrap().rules.remove(0);
    with_request(|request| {
        let facts = Facts {
            client: [127, 0, 0, 1].into(),
            connection: 1,
            bytes: 0,
            age: Duration::ZERO,
            sni: Sni::Absent,
            http: Some(request),
        };
        c.bench_function("rules/matcher", |b| {
            b.iter(|| rule.matcher.meets(black_box(&facts)));
        });
    });
    let live = Arc::new(LiveRule::new(
        Arc::new(rule.clone()),
        Arc::default(),
        Arc::default(),
        None,
    ));
    let mut key = 0;
    c.bench_function("rules/schedule", |b| {
        b.iter(|| {
            key += 1;
            // As many keys as a rule remembers, and more.
            live.select(42, black_box(key % 200_000)).is_some()
        });
    });
}

fn framers(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1");
    let many = |one: &[u8]| one.repeat(16);
    let (requests, responses) = (many(REQUEST), many(RESPONSE));
    group.throughput(Throughput::Elements(16));
    group.bench_function("request", |b| {
        b.iter(|| {
            let mut framer = http1::RequestFramer::default();
            let (mut at, mut ends) = (0, 0);
            loop {
                match framer.next(&requests[at..], &mut http1::scratch()).unwrap() {
                    Event::Head { len, head } => {
                        black_box(head.header("idempotency-key"));
                        at += len;
                    }
                    Event::Body { len, .. } => at += len,
                    Event::End => ends += 1,
                    _ => break,
                }
            }
            assert_eq!(ends, 16);
        });
    });
    let mut framer = http1::RequestFramer::default();
    let mut scratch = http1::scratch();
    let Event::Head { head, .. } = framer.next(REQUEST, &mut scratch).unwrap() else {
        panic!("it begins with a head");
    };
    let asked = head.asked();
    group.bench_function("response", |b| {
        b.iter(|| {
            let mut framer = http1::ResponseFramer::default();
            let (mut at, mut ends) = (0, 0);
            loop {
                let scratch = &mut http1::scratch();
                match framer.next(&responses[at..], scratch, Some(asked)).unwrap() {
                    Event::Head { len, .. } | Event::Body { len, .. } => at += len,
                    Event::End => ends += 1,
                    _ => break,
                }
            }
            assert_eq!(ends, 16);
        });
    });
    group.finish();
}

/// A request from its head to its finished record, and a chunk's way through a rule.
fn operations(c: &mut Criterion) {
    for (name, with_rules) in [("no_rule", false), ("a_rule", true)] {
        let session = session(&context(with_rules), "web");
        with_request(|request| {
            c.bench_function(&format!("record/{name}"), |b| {
                b.iter(|| {
                    let (operation, action) = session.request(black_box(&request), 0, None);
                    let witness = &operation.witness;
                    let delivery = witness.deliver();
                    witness.sent(delivery);
                    witness.request_ended(&mut witness.request_digester(), true);
                    witness.answered(delivery, Some(201));
                    witness.answer_bytes(delivery, RESPONSE.len());
                    witness.told(Outcome::Answered, Some(201), RESPONSE.len() as u64);
                    witness.handed_over();
                    drop(action);
                });
            });
        });
    }
    let mut session = session(&context(true), "db");
    let (mut operation, _) = session.connection();
    assert!(operation.is_chosen());
    let bytes = Bytes::from_static(&[7; 1400]);
    let now = clock::now();
    c.bench_function("chunk/delay", |b| {
        b.iter(|| operation.on_chunk(Direction::Upstream, black_box(bytes.clone()), now));
    });
}

fn files(c: &mut Criterion) {
    // A hundred rules, as a large file has them.
    let rules = (0..100).map(|n| {
        format!(
            "  - name: rule-{n}\n    proxies: [web]\n    match: {{ method: [POST, PUT], path: /a/{n}/** }}\n\
             \x20   probability: 0.5\n    ttl: 30s\n    fault: {{ delay: {{ latency: {n}ms }} }}\n"
        )
    });
    let text = FILE.to_owned() + &rules.collect::<String>();
    let mut group = c.benchmark_group("config");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse", |b| {
        b.iter_batched(
            || text.clone(),
            |text| config::parse(&text, "bench.yaml").unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// There and back over loopback, beside the same without a proxy.
fn round_trips(c: &mut Criterion) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = upstream.local_addr().unwrap();
    thread::spawn(move || {
        for socket in upstream.incoming() {
            let mut socket = socket.unwrap();
            socket.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    socket.write_all(&buffer[..n]).unwrap();
                }
            });
        }
    });
    let context = context(false);
    let text = "
proxies: [{ name: p, listen: 127.0.0.1:0, upstream: 127.0.0.1:1 }]
rules: [{ name: lane, fault: { bandwidth: { rate: 10GB/s } } }]
";
    let rule = config::parse(text, "bench.yaml").unwrap().rules.remove(0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let supervisor = Supervisor::new(Arc::clone(&context), Workers::start().unwrap());
    let mut edge = Edge::new("p", "127.0.0.1:0", &direct.to_string());
    edge.protocol = Protocol::Tcp;
    let proxied = runtime
        .block_on(supervisor.start(edge, Source::File))
        .unwrap()
        .unwrap();
    let mut group = c.benchmark_group("round_trip");
    for (name, addr) in [
        ("direct", direct),
        ("no_rule", proxied),
        ("in_a_lane", proxied),
    ] {
        if name == "in_a_lane" {
            let change = Change::AddRule(rule.clone());
            context.state.apply(vec![change], Source::File).unwrap();
        }
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut word = [7; 64];
        group.bench_function(name, |b| {
            b.iter(|| {
                socket.write_all(&word).unwrap();
                socket.read_exact(&mut word).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = hot;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = seed, rules, framers, operations, files, round_trips
}
criterion_main!(hot);

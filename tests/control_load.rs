//! The control plane under load: twenty clients change things a thousand times a second while a
//! thousand connections carry traffic, and rules come and go without end. The real binary.
//!
//! `CHANGES=1000000 cargo test --release --test control_load -- --nocapture` is the whole of what
//! `docs/performance.md` tells; in CI it is a part.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use support::process::Firedrill;
use support::{Server, soon};

/// A client that keeps its connection.
struct Keeping {
    stream: BufReader<TcpStream>,
    host: String,
}

struct Answer {
    status: u16,
    etag: Option<String>,
    body: Vec<u8>,
}

impl Keeping {
    async fn to(firedrill: &Firedrill) -> Self {
        let host = firedrill.url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = BufReader::new(stream);
        Self { stream, host }
    }

    async fn ask(&mut self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let (host, length) = (&self.host, body.len());
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let mut head = HashMap::new();
        let mut status = 0;
        loop {
            let mut line = String::new();
            let read = soon("an answer of the API", self.stream.read_line(&mut line)).await;
            assert_ne!(read.unwrap(), 0, "the connection ended");
            let line = line.trim_end();
            match line.split_once(": ") {
                Some((key, value)) => drop(head.insert(key.to_lowercase(), value.to_owned())),
                None if line.is_empty() => break,
                None => status = line.split(' ').nth(1).unwrap().parse().unwrap(),
            }
        }
        let length = head.get("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        Answer {
            status,
            etag: head.remove("etag"),
            body,
        }
    }
}

/// Bytes go to and fro on so many connections until it is dropped.
struct Traffic {
    tasks: JoinSet<()>,
    turns: Arc<AtomicU64>,
}

impl Traffic {
    async fn start(address: std::net::SocketAddr, connections: usize) -> Self {
        let turns = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let turns = Arc::clone(&turns);
            tasks.spawn(async move {
                let mut back = [0; 64];
                loop {
                    stream.write_all(&[7; 64]).await.unwrap();
                    stream.read_exact(&mut back).await.unwrap();
                    turns.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
        Self { tasks, turns }
    }

    fn turns(&self) -> u64 {
        self.turns.load(SeqCst)
    }
}

const CLIENTS: u64 = 20;
/// Of each client.
const A_SECOND: u64 = 50;
const SECONDS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_a_second_lose_nothing_and_hold_nobody_up() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start_with(
        "max_connections: 64",
        &format!(
            "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {} }}]\n",
            server.addr
        ),
    )
    .await;
    let mut traffic = Traffic::start(firedrill.proxy("p").await, 1000).await;
    let shared = json!({"name": "shared", "enabled": false, "skip": 0, "fault": {"delay": {"latency": "1ms"}}});
    firedrill.api.create_rule(&shared).await.unwrap();

    let mut clients = JoinSet::new();
    let refused = Arc::<AtomicU64>::default();
    for n in 0..CLIENTS {
        let (mut api, refused) = (Keeping::to(&firedrill).await, Arc::clone(&refused));
        clients.spawn(async move {
            let mut own = 0;
            let began = Instant::now();
            let mut pace = tokio::time::interval(Duration::from_millis(1000 / A_SECOND));
            for turn in 0..A_SECOND * SECONDS {
                pace.tick().await;
                // One in ten is counted up in a rule that all share.
                if turn % 10 == 0 {
                    loop {
                        let read = api.ask("GET", "/v1/rules/shared", "", "").await;
                        let rule: Value = serde_json::from_slice(&read.body).unwrap();
                        let next = json!({ "skip": rule["skip"].as_u64().unwrap() + 1 });
                        let only = format!("If-Match: {}\r\n", read.etag.unwrap());
                        let patch = ("PATCH", "/v1/rules/shared", &*only, next.to_string());
                        let done = api.ask(patch.0, patch.1, patch.2, &patch.3).await;
                        match done.status {
                            200 => break,
                            412 => drop(refused.fetch_add(1, SeqCst)),
                            other => panic!("{other}"),
                        }
                    }
                    own += 1;
                } else {
                    let rule = json!({
                        "proxies": ["p"],
                        "enabled": turn % 4 == 1,
                        "fault": {"delay": {"latency": format!("{}ms", turn % 3)}},
                    });
                    let path = format!("/v1/rules/own-{n}");
                    let done = api.ask("PUT", &path, "", &rule.to_string()).await;
                    assert!(matches!(done.status, 200 | 201), "{}", done.status);
                }
            }
            (own, began.elapsed())
        });
    }

    // Meanwhile everything is healed, again and again.
    let running = Arc::new(AtomicBool::new(true));
    let healing = {
        let (mut api, running) = (Keeping::to(&firedrill).await, Arc::clone(&running));
        tokio::spawn(async move {
            let mut took = Vec::new();
            while running.load(SeqCst) {
                // How late this machine is with anything, at the same time.
                let due = Instant::now() + Duration::from_millis(20);
                tokio::time::sleep_until(due.into()).await;
                let stall = due.elapsed();
                let began = Instant::now();
                let healed = api.ask("POST", "/v1/heal", "", "").await;
                assert_eq!(healed.status, 200);
                took.push((began.elapsed(), stall));
                // So is what Toxiproxy's clients call it, whatever changes in between.
                let reset = api.ask("POST", "/reset", "", "").await;
                assert_eq!(reset.status, 204);
            }
            took
        })
    };
    let turns = traffic.turns();
    let (mut counted, mut longest) = (0, Duration::ZERO);
    while let Some(done) = clients.join_next().await {
        let (own, took) = done.unwrap();
        counted += own;
        longest = longest.max(took);
    }
    running.store(false, SeqCst);
    let mut heals = healing.await.unwrap();
    let turned = traffic.turns() - turns;
    heals.sort();
    let (worst, stall) = heals.last().copied().unwrap();
    let median = heals[heals.len() / 2].0;
    let rate = (CLIENTS * A_SECOND * SECONDS) as f64 / longest.as_secs_f64();
    println!(
        "{rate:.0} changes/s by {CLIENTS} clients, {} of them tried again, {turned} messages \
         meanwhile; {} heals, median {median:?}, worst {worst:?} (the machine's own stall then: {stall:?})",
        refused.load(SeqCst),
        heals.len(),
    );
    let rule = firedrill.rule("shared").await;
    assert_eq!(rule.skip, counted, "an update was lost");
    assert!(turned > 1000, "{turned} messages passed meanwhile");
    assert!(heals.len() > 50, "{}", heals.len());
    // A machine that does other things stalls everybody, the one who measures too.
    let stalls = heals.iter().map(|(_, stall)| *stall).max().unwrap();
    // What is not optimised takes ten times as long, and shares two cores with other tests.
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });
    assert!(
        worst < bound + stalls,
        "worst {worst:?}, stalled for {stalls:?} at most"
    );
    assert!(
        traffic.tasks.try_join_next().is_none(),
        "a connection broke"
    );
    let last = firedrill.api.heal().await.unwrap();
    assert!(
        firedrill
            .api
            .status()
            .await
            .unwrap()
            .rules
            .iter()
            .all(|r| !r.enabled)
    );
    assert!(last.generation >= CLIENTS * A_SECOND * SECONDS);
}

/// Kibibytes that a process holds.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_come_and_go_leave_nothing_behind() {
    let changes: u64 = std::env::var("CHANGES").map_or(20_000, |n| n.parse().unwrap());
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&format!(
        "evidence: {{ capacity: 1000 }}\n\
         proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {} }}]\n",
        server.addr
    ))
    .await;
    let address = firedrill.proxy("p").await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = {
        let stop = Arc::clone(&stop);
        // Each connection is selected by the rules of its moment, so that they leave series.
        tokio::spawn(async move {
            let mut back = [0; 4];
            while !stop.load(SeqCst) {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"ping").await.unwrap();
                stream.read_exact(&mut back).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let mut api = Keeping::to(&firedrill).await;
    let began = Instant::now();
    let pid = firedrill.process.pid();
    let mut seen = Vec::new();
    let quarter = changes / 8;
    for n in 0..changes / 2 {
        let name = format!("/v1/rules/r{n}");
        let rule = json!({"proxies": ["p"], "fault": {"delay": {"latency": "0s"}}}).to_string();
        assert_eq!(api.ask("PUT", &name, "", &rule).await.status, 201);
        assert_eq!(api.ask("DELETE", &name, "", "").await.status, 204);
        if (n + 1) % quarter == 0 {
            seen.push(resident(pid));
        }
    }
    let took = began.elapsed();
    stop.store(true, SeqCst);
    clients.await.unwrap();
    // Without a scrape in between: what is gone is retired within a second or so.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let text = firedrill.api.metrics().await.unwrap();
    let series = text.lines().filter(|l| l.contains("rule=\"")).count();
    println!(
        "{changes} changes in {took:?}: resident {seen:?} KiB by quarters, {series} series of rules"
    );
    assert_eq!(series, 0, "all of them are gone");
    let (first, last) = (seen[0], *seen.last().unwrap());
    assert!(last < first + 8192, "{seen:?}");
}

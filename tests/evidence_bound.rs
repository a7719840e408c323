//! Many operations through the real binary: memory stays within its bound, and what is lost is counted to
//! the last record.
//!
//! `OPERATIONS=1000000 cargo test --release --test evidence_bound -- --nocapture` is the long form.
#![allow(clippy::print_stderr, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;

use firedrill::evidence::{Filter, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::Server;
use support::process::{Firedrill, eventually};

const CONNECTIONS: usize = 16;
/// Requests that go out together on one connection.
const BATCH: usize = 50;
/// Of the ledger, in the file that the test writes.
const CAPACITY: usize = 5_000;
const MEMORY: u64 = 4 << 20;

fn operations() -> usize {
    let operations: usize = std::env::var("OPERATIONS").map_or(40_000, |n| n.parse().unwrap());
    // Whole batches, in each of four quarters, on every connection.
    operations.next_multiple_of(4 * CONNECTIONS * BATCH)
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request of which it has read the end.
async fn upstream() -> Server {
    Server::start(|mut c| async move {
        let (mut chunk, mut matched) = (vec![0; 64 << 10], 0);
        loop {
            let n = c.socket.read(&mut chunk).await?;
            if n == 0 {
                return Ok(());
            }
            let mut answers = Vec::new();
            for byte in &chunk[..n] {
                matched = match (matched, byte) {
                    (0 | 2, b'\r') | (1 | 3, b'\n') => matched + 1,
                    (_, b'\r') => 1,
                    _ => 0,
                };
                if matched == 4 {
                    matched = 0;
                    answers.extend_from_slice(ANSWER);
                }
            }
            c.socket.write_all(&answers).await?;
        }
    })
    .await
}

/// Asks so many requests, each of another identity and with a path of its own length.
async fn ask(at: SocketAddr, connection: usize, requests: usize) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let mut answers = vec![0; BATCH * ANSWER.len()];
    for batch in 0..requests / BATCH {
        let mut text = String::new();
        for n in 0..BATCH {
            let id = format!("{connection}-{batch}-{n}");
            let path = "x".repeat((batch * BATCH + n) % 300);
            text += &format!("GET /{path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {id}\r\n\r\n");
        }
        socket.write_all(text.as_bytes()).await.unwrap();
        socket.read_exact(&mut answers).await.unwrap();
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_every_loss_is_counted() {
    let server = upstream().await;
    let yaml = format!(
        "evidence: {{ capacity: {CAPACITY}, memory: {MEMORY}B }}\n\
         proxies:\n- {{ name: p, listen: 127.0.0.1:0, upstream: {}, protocol: http }}\n",
        server.addr
    );
    let firedrill = Firedrill::start(&yaml).await;
    let (at, total) = (firedrill.proxy("p").await, operations());
    // It does not read before all is over.
    let mut follower = firedrill.api.follow(&Filter::default()).await.unwrap();
    let mut resident = Vec::new();
    for _quarter in 0..4 {
        let asking = (0..CONNECTIONS).map(|n| tokio::spawn(ask(at, n, total / CONNECTIONS / 4)));
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
        resident.push(resident_kib(firedrill.process.pid()));
    }
    let finished = eventually("all are finished", async || {
        let finished = firedrill.metric("firedrill_operations_total", &[]).await;
        (finished == total as u64).then_some(finished)
    })
    .await;
    let dropped = || firedrill.metric("firedrill_evidence_dropped_total", &[]);
    let kept = firedrill.records().await;
    let status = firedrill.api.status().await.unwrap().evidence;
    assert!(kept.len() <= CAPACITY && status.records == kept.len());
    // What the follower was too slow for is counted as it reads on.
    let mut told = HashSet::new();
    let marker = "/the-last-one";
    let mut socket = TcpStream::connect(at).await.unwrap();
    let last = format!("GET {marker} HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write_all(last.as_bytes()).await.unwrap();
    let is_last = |r: &Record| r.request.path.as_deref() == Some(marker);
    while let Some(record) = follower.next().await.unwrap() {
        if is_last(&record) {
            break;
        }
        assert!(told.insert(record.id), "told twice: {}", record.id);
    }
    // The last one may have taken the place of others.
    let kept = eventually("the last one is kept", async || {
        let kept = firedrill.records().await;
        kept.iter().any(is_last).then_some(kept.len() as u64)
    })
    .await;
    let (left, missed) = (finished + 1 - kept, finished - told.len() as u64);
    assert_eq!(
        dropped().await,
        left + missed,
        "{left} left, {missed} missed"
    );
    eprintln!(
        "{total} operations: {kept} records kept, {left} left the memory, a follower that stood still \
         missed {missed}; resident {resident:?} KiB by quarters"
    );
    let (first, last) = (resident[0], resident[3]);
    assert!(
        last < first + first / 4 + MEMORY / 1024,
        "memory grows: {resident:?} KiB"
    );
}

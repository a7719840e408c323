//! A change of the rules holds for the next byte of every live connection: through the API of the
//! real binary, over a hundred of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firedrill::faults::{self, Kind};
use firedrill::operation::Layer;
use serde_json::{Value, json};
use support::process::{Firedrill, eventually};
use support::{Client, PATIENCE, Server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 100;

/// Firedrill before an echo, with this rule as `r`, off.
async fn before_an_echo(mut rule: Value) -> (Firedrill, SocketAddr) {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&format!(
        "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: '{}' }}]\n",
        server.addr
    ))
    .await;
    rule["name"] = json!("r");
    rule["enabled"] = json!(false);
    firedrill.api.create_rule(&rule).await.unwrap();
    let addr = firedrill.proxy("p").await;
    (firedrill, addr)
}

async fn switch(firedrill: &Firedrill, on: bool) {
    let keys = json!({ "enabled": on });
    firedrill.api.patch_rule("r", &keys).await.unwrap();
}

/// One word of a connection and what came back.
struct Word {
    /// Just before it was sent.
    sent: Instant,
    /// When its echo was read.
    back: Instant,
    changed: bool,
}

/// Sends words, each when the one before is back, until `stop`. `latest` is when the last of those
/// that are back was sent, in microseconds since `epoch`.
async fn talk(
    addr: SocketAddr,
    stop: &AtomicBool,
    epoch: Instant,
    latest: &AtomicU64,
) -> Vec<Word> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut words = Vec::new();
    while !stop.load(Relaxed) {
        let word = (words.len() as u128).to_be_bytes();
        let sent = Instant::now();
        socket.write_all(&word).await.unwrap();
        let mut echo = [0; 16];
        soon("an echo", socket.read_exact(&mut echo)).await.unwrap();
        words.push(Word {
            sent,
            back: Instant::now(),
            changed: echo != word,
        });
        latest.store((sent - epoch).as_micros() as u64, Relaxed);
    }
    words
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// In milliseconds: the median, what one in a hundred exceeds, the longest.
fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let Some(last) = times.len().checked_sub(1) else {
        return "-".to_owned();
    };
    let at = |share: f64| times[(last as f64 * share) as usize].as_secs_f64() * 1000.0;
    format!("{:.1} / {:.1} / {:.1} ms", at(0.5), at(0.99), at(1.0))
}

struct Change {
    on: bool,
    asked: Instant,
    answered: Instant,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_holds_for_the_next_byte_of_all_that_talk() {
    const CHANGES: usize = 500;
    // It leaves its mark on each word, and holds none up.
    let fault = json!({"corrupt": {"bytes": 1_000_000_000}});
    let rule = json!({"direction": "upstream", "fault": fault});
    let (firedrill, addr) = before_an_echo(rule).await;
    let epoch = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let latest: Arc<Vec<AtomicU64>> =
        Arc::new((0..CONNECTIONS).map(|_| AtomicU64::new(0)).collect());
    let mut talking = JoinSet::new();
    for n in 0..CONNECTIONS {
        let (stop, latest) = (Arc::clone(&stop), Arc::clone(&latest));
        talking.spawn(async move { talk(addr, &stop, epoch, &latest[n]).await });
    }
    // Until a word that was sent later is back on all of them.
    let all_since = async |moment: Instant| {
        let moment = (moment - epoch).as_micros() as u64;
        eventually("all have said something since", async || {
            let all = latest.iter().all(|latest| latest.load(Relaxed) > moment);
            all.then_some(())
        })
        .await;
    };
    all_since(epoch).await;
    let mut changes = Vec::new();
    for n in 0..CHANGES {
        let (on, asked) = (n % 2 == 0, Instant::now());
        switch(&firedrill, on).await;
        let answered = Instant::now();
        all_since(answered).await;
        changes.push(Change {
            on,
            asked,
            answered,
        });
    }
    let end = Instant::now();
    stop.store(true, Relaxed);

    let (mut words, mut met, mut took) = (0, 0, Vec::new());
    while let Some(said) = talking.join_next().await {
        let said = said.unwrap();
        words += said.len();
        for (n, change) in changes.iter().enumerate() {
            // Sent after the answer, and back before the next change can have met them.
            let next = changes.get(n + 1).map_or(end, |next| next.asked);
            let begin = said.partition_point(|word| word.sent < change.answered);
            let since = &said[begin..];
            let since = &since[..since.partition_point(|word| word.back < next)];
            for word in since {
                let after = word.sent - change.answered;
                assert_eq!(word.changed, change.on, "sent {after:?} after the answer");
            }
            met += since.len();
            took.push(since[0].back - change.answered);
        }
    }
    assert_eq!(took.len(), CHANGES * CONNECTIONS);
    println!(
        "{CHANGES} changes, {CONNECTIONS} connections, {words} words: of {met} sent after the API's answer \
         to a change and before the next, each met it; the first of each was back {} after it",
        quantiles(&mut took)
    );
}

/// A rule of this kind that does not let a byte pass as it came; `None`: it leaves bytes alone, or
/// the first of them.
fn strict(kind: &Kind) -> Option<Value> {
    let params = match kind.name {
        "delay" => json!({"latency": "1h"}),
        "bandwidth" => json!({"rate": "0B/s"}),
        "packet_loss" => json!({"rate": 1.0}),
        // On its way back it might be changed into what it was.
        "corrupt" => return Some(json!({"direction": "upstream", "fault": {"corrupt": {}}})),
        "response_loss" | "timeout" => json!({}),
        "limit_data" => json!({"bytes": "0B"}),
        "reset" | "close" => json!({"after": "0B"}),
        "slice" | "slow_close" => return None,
        name => panic!("`{name}` acts on streams and has no example here"),
    };
    Some(json!({ "fault": { kind.name: params } }))
}

/// One connection, and what became of the last byte that was sent over it.
struct Line {
    client: Client,
    got: Option<io::Result<u8>>,
    took: Duration,
}

/// What each of them reads within this time, all at the same time.
async fn read(lines: Vec<Line>, within: Duration) -> Vec<Line> {
    let begun = Instant::now();
    let mut reading = JoinSet::new();
    for mut line in lines {
        reading.spawn(async move {
            let reading = tokio::time::timeout(within, line.client.0.read_u8());
            line.got = reading.await.ok();
            line.took = begun.elapsed();
            line
        });
    }
    reading.join_all().await
}

async fn send(lines: &mut [Line], byte: u8) {
    for line in lines {
        line.client.send([byte]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_holds_for_the_next_byte_and_lets_go_at_once() {
    const TRIES: usize = 10;
    println!(
        "| kind          | met by the next byte | lifted                        | untouched round trip |"
    );
    println!(
        "| ------------- | -------------------- | ----------------------------- | -------------------- |"
    );
    for kind in faults::KINDS.iter().filter(|k| k.acts_on(Layer::Stream)) {
        let Some(rule) = strict(kind) else { continue };
        let (firedrill, addr) = before_an_echo(rule).await;
        // Long enough for a byte that escapes to be back; where none waits, for all to be met.
        let within = match kind.lifted {
            Some(_) => Duration::from_millis(30),
            None => PATIENCE,
        };
        let mut lines: Vec<Line> = Vec::new();
        let (mut met, mut lifted, mut untouched) = (0, Vec::new(), Vec::new());
        for _ in 0..TRIES {
            while lines.len() < CONNECTIONS {
                lines.push(Line {
                    client: Client::connect(addr).await,
                    got: None,
                    took: Duration::ZERO,
                });
            }
            // Nothing is left of the rule.
            send(&mut lines, b'x').await;
            lines = read(lines, PATIENCE).await;
            for line in &lines {
                assert!(
                    matches!(line.got, Some(Ok(b'x'))),
                    "{}: {:?}",
                    kind.name,
                    line.got
                );
                untouched.push(line.took);
            }
            switch(&firedrill, true).await;
            send(&mut lines, b'y').await;
            lines = read(lines, within).await;
            let escaped = |line: &&Line| matches!(line.got, Some(Ok(b'y')));
            assert_eq!(
                lines.iter().filter(escaped).count(),
                0,
                "{}: escaped",
                kind.name
            );
            met += lines.len();
            switch(&firedrill, false).await;
            // Those on which it has ended, or of which a byte was changed, wait for nothing.
            let (mut waiting, mut rest): (Vec<_>, Vec<_>) =
                lines.into_iter().partition(|line| line.got.is_none());
            waiting = read(waiting, PATIENCE).await;
            assert!(
                waiting.iter().all(|line| line.got.is_some()),
                "{}: stuck",
                kind.name
            );
            lifted.extend(waiting.iter().map(|line| line.took));
            rest.extend(waiting);
            rest.retain(|line| matches!(line.got, Some(Ok(_))));
            lines = rest;
        }
        assert_eq!(lifted.is_empty(), kind.lifted.is_none(), "{}", kind.name);
        // Both in one run: a machine that does other things too is slow in both.
        if let (Some(lifted), Some(untouched)) = (median(&mut lifted), median(&mut untouched)) {
            let most = 3 * untouched + Duration::from_millis(5);
            assert!(lifted <= most, "{}: {lifted:?}, {most:?}", kind.name);
        }
        println!(
            "| {:13} | {met:20} | {:29} | {:20} |",
            kind.name,
            quantiles(&mut lifted),
            quantiles(&mut untouched)
        );
    }
}

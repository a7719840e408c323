//! Random traffic under random rules, with accounts kept by clients and upstream themselves: every
//! record must have the one class that its accounts allow, or, where they name a race that they can't
//! decide, one of those (`oracle`).
//!
//! `OPERATIONS=100000 cargo test --test account -- --nocapture` is the long form; then every class must
//! come up 500 times.
#![allow(clippy::print_stderr, clippy::unwrap_used, missing_docs)]

mod oracle;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Filter, Outcome};
use firedrill::faults::Arg;
use firedrill::operation::Direction;
use firedrill::rules::{Edge, Mode, Protocol, Ttl, Version};
use firedrill::state::{Change, Source};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Operations where nothing is said.
const OPERATIONS: usize = 6000;

/// A small generator (splitmix64), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[derive(Debug, Default, Clone)]
struct Account {
    /// How often the upstream read its head.
    received: usize,
    /// How often the upstream wrote at least the head of a final answer.
    answered: usize,
    /// The client read the upstream's answer whole.
    whole: bool,
    /// The client read an answer of the proxy's own.
    substituted: bool,
    /// What the client read of either: the status, and the bytes without interim answers.
    read: Option<(u16, u64)>,
    /// Nobody gave up on its connection, and nobody reset it.
    calm: bool,
    /// The client read on until the end of the connection.
    to_the_end: bool,
    /// What the client read under the upstream's head was another body.
    replaced: bool,
    /// When it had read an answer whole.
    read_at: Option<Instant>,
    /// The client's port, by which the upstream knows it too.
    port: u16,
    /// When the client said that it would send no more.
    half_closed: Option<Instant>,
    /// The upstream was to break the connection itself.
    asked_for_rst: bool,
    /// When the upstream began to write its final answer.
    answered_at: Option<Instant>,
    /// When the client ended its connection of its own accord, without having read an answer.
    gave_up: Option<Instant>,
    /// The connection ended with a RST, or the client could not write to it.
    broken: bool,
}

/// What all of them wrote down.
#[derive(Debug, Default, Clone)]
struct Books {
    operations: HashMap<String, Account>,
    /// By the port of the client for whom the upstream was dialled: what it saw of those connections.
    links: HashMap<u16, Link>,
}

/// What the upstream saw of the connections that were made to it for one client.
#[derive(Debug, Default, Clone, Copy)]
struct Link {
    /// One ended in the middle of a head, so that nobody knows of which request that was.
    torn: bool,
    /// One was reset, which throws away what was on its way.
    reset: bool,
}

type Accounts = Arc<Mutex<Books>>;

fn note(accounts: &Accounts, key: &str, change: impl FnOnce(&mut Account)) {
    let mut books = accounts.lock().unwrap();
    change(books.operations.entry(key.to_owned()).or_default());
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

/// The length of a body at the front of `bytes`; `None`: it is not whole.
fn body(head: &str, bytes: &[u8]) -> Option<usize> {
    if field(head, "transfer-encoding").is_some() {
        return bytes
            .windows(5)
            .position(|w| w == b"0\r\n\r\n")
            .map(|at| at + 5);
    }
    let length = field(head, "content-length").map_or(0, |n| n.parse().unwrap());
    (bytes.len() >= length).then_some(length)
}

/// Serves one connection, which begins with a line that says for whom it is (PROXY protocol).
async fn serve(mut c: Connection, accounts: Accounts) -> std::io::Result<()> {
    let (mut port, mut buffer) = (None, Vec::new());
    let served = answer(&mut c, &accounts, &mut port, &mut buffer).await;
    if let Some(port) = port {
        let mut books = accounts.lock().unwrap();
        let link = books.links.entry(port).or_default();
        link.reset |= served.is_err();
        link.torn |= !buffer.is_empty();
    }
    served
}

async fn answer(
    c: &mut Connection,
    accounts: &Accounts,
    port: &mut Option<u16>,
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    let mut noted = false;
    // It says no more, but reads on, so that its account is whole.
    let mut mute = false;
    loop {
        if port.is_none()
            && let Some(end) = buffer.windows(2).position(|w| w == b"\r\n")
        {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            *port = line.split(' ').nth(4).and_then(|port| port.parse().ok());
            assert!(port.is_some(), "no line of the PROXY protocol: {line}");
            buffer.drain(..end + 2);
        }
        let end = buffer.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let key = field(&head, "idempotency-key").unwrap();
            if !std::mem::replace(&mut noted, true) {
                note(accounts, &key, |a| a.received += 1);
            }
            if let Some(len) = body(&head, &buffer[end + 4..]) {
                let sent = String::from_utf8_lossy(&buffer[end + 4..end + 4 + len]).into_owned();
                let own = sent.contains(&format!("<{key}>")) || sent == REWRITTEN;
                assert!(len == 0 || own, "another's body: {sent}");
                buffer.drain(..end + 4 + len);
                noted = false;
                if mute {
                    continue;
                }
                let head_only = head.starts_with("HEAD ");
                let does = field(&head, "x-do").unwrap();
                let text = format!("{key}.");
                let n = text.len();
                let text = if head_only { "" } else { &text };
                let mut answer = format!("HTTP/1.1 200 OK\r\nX-Key: {key}\r\n");
                match does.as_str() {
                    "close" | "rst" => answer.clear(),
                    "chunked" if head_only => answer += "Transfer-Encoding: chunked\r\n\r\n",
                    "chunked" => {
                        answer += &format!(
                            "Transfer-Encoding: chunked\r\n\r\n{n:x}\r\n{text}\r\n0\r\n\r\n"
                        );
                    }
                    "204" => answer = format!("HTTP/1.1 204 No Content\r\nX-Key: {key}\r\n\r\n"),
                    "mid" => answer += &format!("Content-Length: {}\r\n\r\n{text}", n + 50),
                    "until" => answer += &format!("Connection: close\r\n\r\n{text}"),
                    "interim" => {
                        answer = format!(
                            "HTTP/1.1 103 Early Hints\r\n\r\n{answer}Content-Length: {n}\r\n\r\n{text}"
                        );
                    }
                    _ => answer += &format!("Content-Length: {n}\r\n\r\n{text}"),
                }
                if does == "late" {
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                if !answer.is_empty() {
                    note(accounts, &key, |a| {
                        a.answered += 1;
                        a.answered_at.get_or_insert_with(Instant::now);
                    });
                    c.socket.write_all(answer.as_bytes()).await?;
                }
                match does.as_str() {
                    "rst" => {
                        c.socket.set_zero_linger()?;
                        // It is broken, by its own doing.
                        return Err(std::io::ErrorKind::ConnectionReset.into());
                    }
                    "close" | "mid" | "until" => {
                        mute = true;
                        c.socket.shutdown().await?;
                    }
                    _ => {}
                }
                continue;
            }
        }
        let n = c.socket.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..n]);
    }
}

/// What takes the place of bodies.
const REWRITTEN: &str = "<another.";

struct Asked {
    key: String,
    head_only: bool,
    /// Others ask for the same, so that a stale answer may be another's.
    shared: bool,
    text: String,
}

/// Takes whole answers off what a client has read. `fin`: nothing follows.
fn take_answers(
    accounts: &Accounts,
    asked: &[Asked],
    done: &mut usize,
    buffer: &mut Vec<u8>,
    fin: bool,
) {
    while let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        if head.starts_with("HTTP/1.1 103") {
            buffer.drain(..end + 4);
            continue;
        }
        let Some(it) = asked.get(*done) else {
            panic!("an answer to nothing: {head}");
        };
        let mut key = field(&head, "x-key");
        if it.shared && key.as_ref().is_some_and(|key| *key != it.key) {
            key = None;
        }
        if let Some(key) = &key {
            assert_eq!(
                *key,
                it.key,
                "an answer reached the wrong request: {head} {:?}",
                asked
                    .iter()
                    .map(|a| a.text.split("\r\nHost").next().unwrap().to_owned()
                        + a.text.split("X-Do").nth(1).unwrap())
                    .map(|t| t.chars().take(90).collect::<String>())
                    .collect::<Vec<_>>()
            );
        }
        let rest = &buffer[end + 4..];
        let length = field(&head, "content-length").or_else(|| field(&head, "transfer-encoding"));
        let unbounded = field(&head, "connection").is_some() && length.is_none() && key.is_some();
        let len = if it.head_only || head.contains(" 204 ") {
            0
        } else if unbounded {
            if !fin || rest.len() < it.key.len() + 1 {
                return;
            }
            rest.len()
        } else {
            let Some(len) = body(&head, rest) else { return };
            len
        };
        let text = String::from_utf8_lossy(&rest[..len]).into_owned();
        let mut another = false;
        if len > 0 && key.is_some() {
            // `corrupt` may have changed a byte of it.
            let like = |own: &str| {
                let differ = |part: &[u8]| {
                    part.iter()
                        .zip(own.bytes())
                        .filter(|(a, b)| **a != *b)
                        .count()
                };
                rest[..len].windows(own.len()).any(|part| differ(part) <= 1)
            };
            another = !like(&format!("{}.", it.key));
            assert!(!another || like(REWRITTEN), "wrong bytes: {text}");
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let read = (end + 4 + len) as u64;
        if std::env::var("ACCOUNT_LOG").is_ok() {
            eprintln!("GOT {} {head:?} {text:?}", it.key);
        }
        note(accounts, &it.key, |a| {
            a.read = status.map(|status| (status, read));
            a.read_at = Some(Instant::now());
            a.replaced = another;
            match key {
                Some(_) => a.whole = true,
                None => a.substituted = true,
            }
        });
        *done += 1;
        buffer.drain(..end + 4 + len);
    }
}

async fn connection(
    addr: SocketAddr,
    mut dice: Dice,
    counter: Arc<AtomicUsize>,
    accounts: Accounts,
) {
    let wanted = 1 + dice.below(5) as usize;
    let ways = [
        "now", "now", "now", "late", "close", "mid", "chunked", "until", "204", "interim", "rst",
    ];
    let mut asked = Vec::new();
    let mut calm = true;
    for _ in 0..wanted {
        let key = format!("k{}", counter.fetch_add(1, SeqCst));
        let does = ways[dice.below(ways.len() as u64) as usize];
        calm &= does != "rst";
        let head = format!("HTTP/1.1\r\nHost: p\r\nX-Do: {does}\r\nIdempotency-Key: {key}\r\n");
        let (head_only, text) = match dice.below(4) {
            0 => (true, format!("HEAD /{key} {head}\r\n")),
            1 if key.ends_with(['1', '3', '5', '7', '9']) => {
                (false, format!("GET /same {head}\r\n"))
            }
            1 => (false, format!("GET /{key} {head}\r\n")),
            2 => {
                let body = format!("<{key}>");
                let n = body.len();
                (
                    false,
                    format!(
                        "POST /{key} {head}Transfer-Encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n"
                    ),
                )
            }
            _ => {
                let body = format!("<{key}>{}", "x".repeat(dice.below(3000) as usize));
                (
                    false,
                    format!(
                        "POST /{key} {head}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                )
            }
        };
        asked.push(Asked {
            key,
            head_only,
            shared: text.starts_with("GET /same "),
            text,
        });
    }
    let Ok(mut socket) = TcpStream::connect(addr).await else {
        return;
    };
    let port = socket.local_addr().map_or(0, |own| own.port());
    let mut half_closed = None;
    let (mut done, mut buffer, mut ended) = (0, Vec::new(), false);
    let way = dice.below(6);
    let patience = Duration::from_millis(100 + dice.below(300));
    let bytes: String = asked.iter().map(|a| a.text.as_str()).collect();
    // Pipelined in one, byte by byte, or one after the other.
    let parts: Vec<&str> = match way {
        0 | 1 => vec![&bytes],
        2 => bytes.split_inclusive(|c: char| "\n>".contains(c)).collect(),
        _ => asked.iter().map(|a| a.text.as_str()).collect(),
    };
    let mut broken = false;
    for (n, part) in parts.iter().enumerate() {
        broken |= socket.write_all(part.as_bytes()).await.is_err();
        if n + 1 == parts.len() && dice.below(5) == 0 {
            broken |= socket.shutdown().await.is_err();
            half_closed = Some(Instant::now());
        }
        if dice.below(12) == 0 {
            // It breaks off at some moment.
            tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
            let _ = socket.set_zero_linger();
            calm = false;
            break;
        }
        if way == 2 {
            tokio::task::yield_now().await;
            if n + 1 < parts.len() {
                continue;
            }
        }
        let target = if way <= 2 { asked.len() } else { n + 1 };
        while !ended && done < target {
            match tokio::time::timeout(patience, socket.read_buf(&mut buffer)).await {
                Ok(Ok(n)) => ended = n == 0,
                Ok(Err(_)) => (broken, ended) = (true, true),
                Err(_) => {
                    calm = false;
                    break;
                }
            }
            take_answers(&accounts, &asked, &mut done, &mut buffer, ended && !broken);
        }
        if !calm && done < target || broken || ended {
            break;
        }
    }
    let left = Instant::now();
    drop(socket);
    for it in &asked {
        note(&accounts, &it.key, |a| {
            a.calm = calm && !broken;
            a.to_the_end = ended;
            a.broken = broken;
            a.port = port;
            a.half_closed = half_closed;
            a.asked_for_rst = it.text.contains("X-Do: rst");
            a.gave_up = (!ended && !broken && !a.whole && !a.substituted).then_some(left);
        });
    }
}

use Arg::{Choice, Count, Duration as For, Frequency, Rate, Ratio, Size};

const SHORT: Arg = For(Duration::from_millis(20));
const UP: Option<Direction> = Some(Direction::Upstream);
const DOWN: Option<Direction> = Some(Direction::Downstream);

/// Name, kind, direction, parameters.
type Row = (
    &'static str,
    &'static str,
    Option<Direction>,
    &'static [(&'static str, Arg)],
);

const RULES: &[Row] = &[
    ("delay-up", "delay", None, &[("latency", SHORT)]),
    ("delay-down", "delay", DOWN, &[("latency", SHORT)]),
    ("drop-hang", "drop", None, &[("then", Choice("hang"))]),
    ("drop-close", "drop", None, &[("then", Choice("close"))]),
    ("drop-reset", "drop", None, &[("then", Choice("reset"))]),
    (
        "lose-hang",
        "response_loss",
        None,
        &[("then", Choice("hang"))],
    ),
    (
        "lose-close",
        "response_loss",
        None,
        &[("then", Choice("close"))],
    ),
    (
        "lose-status",
        "response_loss",
        None,
        &[("then", Count(504))],
    ),
    (
        "lose-reset",
        "response_loss",
        None,
        &[("then", Choice("reset"))],
    ),
    ("twice", "duplicate", None, &[("answer", Choice("last"))]),
    (
        "twice-after",
        "duplicate",
        None,
        &[("when", Choice("answered")), ("copies", Count(2))],
    ),
    (
        "twice-last",
        "duplicate",
        None,
        &[("when", Choice("answered")), ("answer", Choice("last"))],
    ),
    (
        "twice-lifted",
        "duplicate",
        None,
        &[("when", Choice("lifted"))],
    ),
    ("instead", "abort", None, &[("status", Count(503))]),
    ("instead-grpc", "abort", None, &[("grpc_status", Count(14))]),
    (
        "reorder",
        "reorder",
        None,
        &[("hold", For(Duration::from_millis(50)))],
    ),
    ("late", "late", None, &[]),
    ("late-time", "late", None, &[("after", SHORT)]),
    ("truncate", "truncate", None, &[]),
    ("truncate-1", "truncate", None, &[("at", Size(1))]),
    ("garbage", "garbage", None, &[]),
    ("empty", "empty", None, &[]),
    ("mark-up", "rewrite", UP, &[]),
    ("mark-down", "rewrite", DOWN, &[]),
    ("body-up", "rewrite", UP, &[]),
    ("body-down", "rewrite", DOWN, &[]),
    (
        "throttle",
        "throttle",
        None,
        &[("rate", Frequency(50, Duration::from_secs(1)))],
    ),
    (
        "overload",
        "overload",
        None,
        &[
            ("service_time", For(Duration::from_millis(5))),
            ("queue", Count(2)),
        ],
    ),
    (
        "overload-close",
        "overload",
        None,
        &[
            ("service_time", For(Duration::from_millis(5))),
            ("queue", Count(2)),
            ("full", Choice("close")),
        ],
    ),
    ("stale", "stale", None, &[("age", For(Duration::ZERO))]),
    ("bandwidth", "bandwidth", None, &[("rate", Rate(20_000))]),
    (
        "slice",
        "slice",
        None,
        &[("size", Size(100)), ("gap", For(Duration::from_millis(1)))],
    ),
    ("limit-up", "limit_data", UP, &[("bytes", Size(3))]),
    ("limit-down", "limit_data", DOWN, &[("bytes", Size(3))]),
    ("corrupt", "corrupt", DOWN, &[]),
    ("timeout-up", "timeout", UP, &[("after", SHORT)]),
    ("timeout-down", "timeout", DOWN, &[("after", SHORT)]),
    ("timeout-hang", "timeout", DOWN, &[]),
    ("packet-loss", "packet_loss", None, &[("rate", Ratio(0.2))]),
    ("close-bytes", "close", None, &[("after", Size(5))]),
    ("reset-bytes", "reset", None, &[("after", Size(5))]),
    ("close-time", "close", None, &[("after", SHORT)]),
    ("reset-time", "reset", None, &[("after", SHORT)]),
    ("close-now", "close", None, &[]),
    (
        "reset-upstream",
        "reset",
        None,
        &[("after", Size(5)), ("side", Choice("upstream"))],
    ),
    (
        "reset-both",
        "reset",
        None,
        &[("after", Size(5)), ("side", Choice("both"))],
    ),
    ("refuse", "refuse", None, &[]),
    ("slow-connect", "slow_connect", None, &[("delay", SHORT)]),
];

/// Rules that answer in the upstream's place without asking it.
const ANSWERING: [&str; 4] = ["instead", "instead-grpc", "throttle", "overload"];

fn rules(rig: &Rig) {
    for (name, kind, direction, args) in RULES {
        let mut args = args.to_vec();
        if name.starts_with("mark") {
            args = vec![(
                "set_headers",
                Arg::Map(vec![("x-mark".to_owned(), "1".to_owned())]),
            )];
        }
        if name.starts_with("body") {
            args = vec![("body", Arg::Text(REWRITTEN.to_owned()))];
        }
        let mut it = rule(kind, &args);
        it.name = (*name).to_owned();
        // A stale answer takes two that met the rule.
        it.probability = if *kind == "stale" { 1.0 } else { 0.3 };
        it.enabled = false;
        it.direction = *direction;
        rig.rule(it);
    }
    for (name, deaf) in [("both", ""), ("deaf-client", "client"), ("deaf-p", "p")] {
        let deaf: Vec<&str> = Some(deaf).filter(|d| !d.is_empty()).into_iter().collect();
        let mut it = partition(Mode::Blackhole, &deaf);
        it.name = name.to_owned();
        it.enabled = false;
        rig.apply(Change::AddPartition(it));
    }
}

/// Changes something, at the `turn`-th time: each rule is switched on as often as any other.
fn toggle(rig: &Rig, dice: &mut Dice, turn: usize) {
    match dice.below(20) {
        0 => rig.heal(),
        1 | 2 => {
            let name = ["both", "deaf-client", "deaf-p"][dice.below(3) as usize];
            let on = dice.below(2) == 0;
            rig.apply(Change::SwitchPartition(name.to_owned(), on, Ttl::Unsaid));
        }
        _ => {
            let on = turn.is_multiple_of(2);
            let (name, ..) = match on {
                true => RULES[turn / 2 % RULES.len()],
                false => RULES[dice.below(RULES.len() as u64) as usize],
            };
            rig.apply(Change::SwitchRule(name.to_owned(), on, Ttl::Unsaid));
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Looks at the records that are open now, and answers how many: of none was the answer read long ago.
fn sample(rig: &Rig, accounts: &Accounts) -> usize {
    let filter = Filter {
        class: Some(Class::Open),
        ..Filter::default()
    };
    let open = rig.context.ledger.list(&filter);
    let books = accounts.lock().unwrap();
    for r in &open {
        let account = r
            .identity
            .as_ref()
            .and_then(|i| books.operations.get(&i.value));
        let read = account.and_then(|a| a.read_at);
        assert!(
            read.is_none_or(|at| at.elapsed() < PATIENCE),
            "open, and read long ago: {account:?} {r:?}"
        );
    }
    open.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_say_what_both_sides_saw() {
    let seed = std::env::var("ACCOUNT_SEED").map_or(7, |s| s.parse().unwrap());
    let operations = std::env::var("OPERATIONS").map_or(OPERATIONS, |n| n.parse().unwrap());
    let accounts = Accounts::default();
    let upstream = Arc::clone(&accounts);
    let server = Server::start(move |c| serve(c, Arc::clone(&upstream))).await;
    let rig = Rig::with_seed(seed);
    rules(&rig);
    let mut edge = Edge::new("p", "127.0.0.1:0", &server.addr.to_string());
    edge.protocol = Protocol::Http;
    edge.proxy_protocol.send = Some(Version::V1);
    let started = rig.supervisor.start(edge, Source::File).await;
    let addr = started.unwrap().unwrap();
    let mut cuts = oracle::Cuts::default();
    let before = descriptors();
    let counter = Arc::new(AtomicUsize::new(0));
    let mut dice = Dice(seed);
    let mut running = tokio::task::JoinSet::new();
    let (mut turn, mut open) = (0, 0);
    let acted = || RULES.iter().all(|(name, ..)| rig.counts(name).1 > 0);
    while counter.load(SeqCst) < operations || counter.load(SeqCst) < 10 * operations && !acted() {
        while running.len() < 40 {
            let dice = Dice(dice.below(u64::MAX));
            running.spawn(connection(
                addr,
                dice,
                Arc::clone(&counter),
                Arc::clone(&accounts),
            ));
        }
        toggle(&rig, &mut dice, turn);
        cuts.note(&rig);
        if turn.is_multiple_of(250) {
            open += sample(&rig, &accounts);
        }
        turn += 1;
        tokio::select! {
            ended = running.join_next() => ended.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    rig.heal();
    cuts.note(&rig);
    rig.quiet().await;
    // One more may stand: the timer of the first delay.
    until("all descriptors are given back", || {
        (descriptors() <= before + 1).then_some(())
    })
    .await;
    assert_eq!(rig.context.held.bytes(), 0);
    let records = rig.closed(1).await;
    let books = accounts.lock().unwrap().clone();
    let accounts = &books.operations;
    let mut recorded = HashMap::new();
    let mut wrong = Vec::new();
    let mut tally = oracle::Tally::default();
    for r in &records {
        let Some(identity) = &r.identity else {
            continue;
        };
        let Some(a) = accounts.get(&identity.value) else {
            continue;
        };
        assert!(
            recorded.insert(identity.value.clone(), ()).is_none(),
            "recorded twice: {r:?}"
        );
        let mut bad = |what: &str| wrong.push(format!("{what}: {a:?}\n  {r:?}"));
        let verdict = oracle::judge(a, books.links.get(&a.port).copied(), &cuts);
        if !tally.take(&verdict, r.class) {
            bad(&format!("the accounts allow {verdict:?}, not {}", r.class));
        }
        let copies = r.faults.iter().any(|f| f.rule.starts_with("twice"));
        // What a RST throws away on its way to the upstream was written, and may not be read.
        let reset = [
            Cause::Rule("reset-upstream".into()),
            Cause::Rule("reset-both".into()),
        ];
        let sure = a.calm
            && !reset.contains(&r.cause)
            && !r
                .faults
                .iter()
                .any(|f| matches!(&*f.rule, "reset-upstream" | "reset-both"));
        let on_a_wire = matches!(
            r.class,
            Class::Acknowledged | Class::Unseen | Class::Late | Class::Unknown
        );
        let answered = matches!(r.class, Class::Acknowledged | Class::Unseen | Class::Late);
        // The client got a body, whole, and not the upstream's.
        let replaced = r
            .faults
            .iter()
            .any(|f| &*f.rule == "body-down" && f.injected)
            && (r.class, r.client.outcome) == (Class::Unseen, Outcome::Substituted);
        if a.whole && r.class != Class::Acknowledged && !replaced {
            bad("the client read it whole");
        }
        if r.class == Class::Acknowledged && !a.whole && a.calm && a.to_the_end {
            bad("the client did not get it");
        }
        if a.received > 0 && !on_a_wire {
            bad("the upstream received it");
        }
        if answered && a.answered == 0 {
            bad("the upstream did not answer");
        }
        if a.received > r.deliveries as usize {
            bad("more deliveries than recorded");
        }
        if sure && !copies && a.received != r.deliveries as usize {
            bad("deliveries are not what was received");
        }
        if sure && !copies && a.answered > 0 && a.received == 1 && !answered {
            bad("the upstream answered");
        }
        if r.class == Class::Substituted && a.calm && !a.substituted {
            bad("nobody was told anything else");
        }
        if let (true, Some((status, bytes))) = (a.whole, a.read)
            && (r.client.status, r.client.bytes) != (Some(status), bytes)
        {
            bad("the client read another status, or so many bytes");
        }
        if r.class == Class::Substituted
            && let Cause::Rule(name) = &r.cause
            && !ANSWERING.contains(&&**name)
        {
            bad("that rule answers nothing");
        }
        if a.substituted && r.client.outcome != Outcome::Substituted {
            bad("the client got the proxy's answer");
        }
    }
    for (key, a) in accounts {
        if a.received > 0 && !recorded.contains_key(key) {
            wrong.push(format!("no record of {key}: {a:?}"));
        }
    }
    for &(name, ..) in RULES {
        let seen = records.iter().flat_map(|r| &r.faults);
        let seen = seen.filter(|f| &*f.rule == name && f.injected).count() as u64;
        let counted = rig.counts(name).1;
        if seen != counted || seen == 0 {
            wrong.push(format!("{name}: {seen} in records, {counted} counted"));
        }
    }
    for name in ["both", "deaf-client", "deaf-p"] {
        let seen = records.iter().flat_map(|r| &r.faults);
        let seen = seen.filter(|f| &*f.rule == name).count() as f64;
        let series = format!("firedrill_partition_cuts_total{{partition=\"{name}\",proxy=\"p\"}}");
        if rig.metric(&series) != seen {
            wrong.push(format!(
                "{name}: {seen} in records, {} counted",
                rig.metric(&series)
            ));
        }
    }
    eprintln!("{tally}\n{open} records looked at while they were open");
    let classes = Class::ALL.map(|class| match class {
        Class::Open => open,
        class => tally.count(class),
    });
    // 500 of each in the long form, and as many of a shorter one.
    let least = operations * 500 / 100_000;
    assert!(
        classes.iter().all(|count| *count >= least),
        "{least} of each class asked, seen {:?}",
        Class::ALL
            .map(Class::as_str)
            .iter()
            .zip(classes)
            .collect::<Vec<_>>()
    );
    let total = wrong.len();
    wrong.truncate(8);
    assert!(
        wrong.is_empty(),
        "seed {seed}, {total} wrong:\n{}",
        wrong.join("\n")
    );
    assert!(
        recorded.len() > operations / 2,
        "{} records",
        recorded.len()
    );
}

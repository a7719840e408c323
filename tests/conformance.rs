//! What holds for every fault on streams, whichever it is: it may be switched on and off a thousand
//! times over busy and idle connections. The table is made from the registry; a kind that is not in
//! [`example`] fails it. More connections: `CONFORMANCE_CONNECTIONS=100`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firedrill::evidence::Class;
use firedrill::faults::{self, Arg, Kind};
use firedrill::operation::Layer;
use firedrill::rules::Ttl;
use firedrill::state::{Change, Source};
use support::raw::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const TOGGLES: usize = 1000;

/// Enough at once to be carried in bulk.
const BULK: usize = 400_000;

fn connections() -> usize {
    let given = std::env::var("CONFORMANCE_CONNECTIONS").ok();
    given.map_or(30, |n| n.parse().unwrap())
}

/// What becomes of a connection's bytes under a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Law {
    /// Not one is lost, repeated, changed or out of order.
    Kept,
    /// The same of connections that stood before; a new one may end or get nothing.
    KeptIfStanding,
    /// None is lost or repeated; some are changed.
    Changed,
    /// What arrives is the beginning of what was sent.
    Prefix,
}

impl Law {
    fn keeps_standing(self) -> bool {
        matches!(self, Self::Kept | Self::KeptIfStanding)
    }
}

fn ms(name: &'static str, ms: u64) -> (&'static str, Arg) {
    (name, Arg::Duration(Duration::from_millis(ms)))
}

/// A fault of this kind that is felt between two changes, and the law that it obeys.
fn example(kind: &Kind) -> (Vec<(&'static str, Arg)>, Law) {
    use Law::*;
    match kind.name {
        "delay" => (vec![ms("latency", 3), ms("jitter", 3)], Kept),
        "bandwidth" => (vec![("rate", Arg::Rate(500_000))], Kept),
        "slice" => (
            vec![
                ("size", Arg::Size(200)),
                ("variation", Arg::Size(150)),
                ms("gap", 1),
            ],
            Kept,
        ),
        "slow_close" => (vec![ms("delay", 5)], Kept),
        "slow_connect" => (vec![ms("delay", 5)], Kept),
        "packet_loss" => (vec![("rate", Arg::Ratio(0.3))], Kept),
        "duplicate" => (vec![("copies", Arg::Count(2))], Kept),
        "drop" | "refuse" => (vec![], KeptIfStanding),
        "corrupt" => (vec![("bytes", Arg::Count(5))], Changed),
        "response_loss" | "timeout" => (vec![], Prefix),
        "limit_data" => (vec![("bytes", Arg::Size(2000))], Prefix),
        "reset" => (vec![("after", Arg::Size(2000))], Prefix),
        "close" => (vec![ms("after", 2)], Prefix),
        name => panic!("`{name}` acts on streams and has no example here"),
    }
}

/// An upstream that keeps nothing.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket2::SockRef::from(&listener).listen(4096).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                // Whoever broke it, the client tells.
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

/// A client that checks each byte that comes back.
struct Checked {
    socket: TcpStream,
    law: Law,
    sent: usize,
    got: usize,
}

impl Checked {
    /// `None`: it was accepted, and reset before this had noticed.
    async fn connect(addr: SocketAddr, law: Law) -> Option<Self> {
        let socket = match TcpStream::connect(addr).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        };
        Some(Self {
            socket,
            law,
            sent: 0,
            got: 0,
        })
    }

    /// Sends so much in two writes and reads until it is back; `false`: the connection has ended.
    async fn round(&mut self, len: usize) -> bool {
        let halves = [0, len / 2].map(|from| stream(self.sent + from, len / 2));
        self.sent += len;
        let Self {
            socket,
            law,
            sent,
            got,
        } = self;
        let (mut read, mut write) = socket.split();
        let writing = async {
            write.write_all(&halves[0]).await?;
            write.write_all(&halves[1]).await
        };
        let reading = async {
            let mut buffer = vec![0; 64 * 1024];
            while *got < *sent {
                match read.read(&mut buffer).await {
                    Ok(0) | Err(_) => return false,
                    Ok(n) => *got = take(*law, *got, *sent, &buffer[..n]),
                }
            }
            true
        };
        // What can't be written, the read tells.
        soon("a round or the end", async {
            tokio::pin!(writing, reading);
            tokio::select! {
                whole = &mut reading => whole,
                _ = &mut writing => reading.await,
            }
        })
        .await
    }

    /// Says that it is done, and reads the rest.
    async fn finish(mut self) -> (Self, Ended) {
        // It may have been ended before.
        let _ = self.socket.shutdown().await;
        let (rest, ended) = read_to_end(&mut self.socket).await;
        self.got = take(self.law, self.got, self.sent, &rest);
        (self, ended)
    }
}

/// Checks what comes at this place; answers the next.
fn take(law: Law, got: usize, sent: usize, bytes: &[u8]) -> usize {
    if law != Law::Changed {
        check(got, bytes);
    }
    assert!(got + bytes.len() <= sent, "more comes back than was sent");
    got + bytes.len()
}

struct Row {
    kind: &'static Kind,
    law: Law,
    connections: usize,
    bytes: usize,
    injected: u64,
    took: Duration,
}

/// Toggles a rule over busy, idle and new connections, and checks what must hold at the end.
async fn toggle(kind: &'static Kind) -> Row {
    let (args, law) = example(kind);
    let rig = Rig::new();
    let addr = rig.tcp(echo().await).await;
    let mut rule = rule(kind.name, &args);
    rule.enabled = false;
    rig.rule(rule);
    let begun = Instant::now();

    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for n in 0..connections() {
        let (stop, made, bytes) = (Arc::clone(&stop), Arc::clone(&made), Arc::clone(&bytes));
        let mut first = Checked::connect(addr, law).await.unwrap();
        made.fetch_add(1, Relaxed);
        assert!(first.round(1400).await);
        clients.spawn(async move {
            // Some are busy with little or much at a time, some stay idle, some come and go.
            match n % 3 {
                0 if n % 5 == 0 => while !stop.load(Relaxed) && first.round(BULK).await {},
                0 => while !stop.load(Relaxed) && first.round(1400).await {},
                1 => {
                    while !stop.load(Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                _ => {
                    while !stop.load(Relaxed) {
                        let next = Checked::connect(addr, law).await;
                        made.fetch_add(1, Relaxed);
                        let Some(mut next) = next else {
                            assert_ne!(law, Law::Kept, "new: reset at once");
                            continue;
                        };
                        let mut whole = true;
                        for _ in 0..3 {
                            whole = whole && next.round(1400).await;
                        }
                        let (next, ended) = next.finish().await;
                        bytes.fetch_add(next.got, Relaxed);
                        if matches!(law, Law::Kept | Law::Changed) {
                            assert!(whole && next.got == next.sent, "new: all of it");
                            assert_eq!(ended, Ended::Fin);
                        }
                    }
                }
            }
            let whole = first.round(1400).await;
            let (first, ended) = first.finish().await;
            bytes.fetch_add(first.got, Relaxed);
            if law.keeps_standing() || law == Law::Changed {
                assert!(whole, "standing: it still stands");
                assert_eq!(
                    (first.got, ended),
                    (first.sent, Ended::Fin),
                    "standing: all"
                );
            }
        });
    }

    let state = Arc::clone(&rig.context.state);
    let toggling = tokio::task::spawn_blocking(move || {
        for n in 0..TOGGLES {
            let switch = Change::SwitchRule(kind.name.to_owned(), n % 2 == 0, Ttl::Unsaid);
            state.apply(vec![switch], Source::Api).unwrap();
            // Mostly hardly long enough to be seen, now and then long enough to act in full.
            let pause = if n % 50 == 0 { 5000 } else { n * 37 % 500 };
            std::thread::sleep(Duration::from_micros(pause as u64));
        }
    });
    toggling.await.unwrap();
    // On a slow machine no connection may have been made in the short times that it was on.
    let switch = |on| rig.apply(Change::SwitchRule(kind.name.to_owned(), on, Ttl::Unsaid));
    switch(true);
    until("it is felt", || (rig.counts(kind.name).1 > 0).then_some(())).await;
    switch(false);
    stop.store(true, Relaxed);
    while let Some(ended) = soon("every client is done", clients.join_next()).await {
        ended.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    }

    rig.quiet().await;
    let made = made.load(Relaxed);
    let records = rig.closed(made).await;
    assert_eq!(records.len(), made, "{}: a record for each", kind.name);
    assert!(records.iter().all(|r| r.class != Class::Open));
    assert_eq!(rig.context.held.bytes(), 0, "{}", kind.name);
    let (selected, injected) = rig.counts(kind.name);
    let chosen = records.iter().flat_map(|r| &r.faults);
    let acted = chosen.clone().filter(|f| f.injected).count() as u64;
    assert_eq!(chosen.count() as u64, selected, "{}", kind.name);
    assert_eq!(acted, injected, "{}: one record, one count", kind.name);
    Row {
        kind,
        law,
        connections: made,
        bytes: bytes.load(Relaxed),
        injected,
        took: begun.elapsed(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_fault_may_be_toggled_over_busy_and_idle_connections() {
    println!(
        "kind          | kept           | toggles | connections |      bytes | injected | took"
    );
    let mut rows = 0;
    for kind in faults::KINDS.iter().filter(|kind| kind.fits(false)) {
        let row = toggle(kind).await;
        println!(
            "{:13} | {:14} | {TOGGLES:7} | {:11} | {:10} | {:8} | {:.1?}",
            row.kind.name,
            format!("{:?}", row.law),
            row.connections,
            row.bytes,
            row.injected,
            row.took
        );
        rows += 1;
    }
    assert!(rows >= 15, "the registry is not empty");
}

/// A fault of this kind that does not let the next byte pass as it came; `None`: it leaves bytes
/// alone, or the first of them.
fn strict(kind: &Kind) -> Option<Vec<(&'static str, Arg)>> {
    let hour = 3_600_000;
    Some(match kind.name {
        "delay" => vec![ms("latency", hour)],
        "bandwidth" => vec![("rate", Arg::Rate(0))],
        "packet_loss" => vec![("rate", Arg::Ratio(1.0))],
        "corrupt" | "response_loss" | "timeout" => vec![],
        "limit_data" => vec![("bytes", Arg::Size(0))],
        "reset" | "close" => vec![("after", Arg::Size(0))],
        "slice" | "slow_close" => return None,
        name => panic!("`{name}` acts on streams and has no example here"),
    })
}

#[tokio::test]
async fn a_change_holds_for_the_next_byte() {
    const TRIES: usize = 20;
    println!("kind          | missed | lifted: p50, worst");
    let stream = |kind: &&&Kind| kind.acts_on(Layer::Stream);
    for kind in faults::KINDS.iter().filter(stream) {
        let Some(args) = strict(kind) else { continue };
        let rig = Rig::new();
        let addr = rig.tcp(echo().await).await;
        let mut rule = rule(kind.name, &args);
        rule.enabled = false;
        rig.rule(rule);
        let switch = |on| rig.apply(Change::SwitchRule(kind.name.to_owned(), on, Ttl::Unsaid));
        let (mut missed, mut lifted) = (0, Vec::new());
        for _ in 0..TRIES {
            let mut client = Client::connect(addr).await;
            client.send("x").await;
            client.expect("x").await;
            // No more than this stands between the change and the byte.
            switch(true);
            client.send("y").await;
            let mut byte = [0];
            let read = client.0.read(&mut byte);
            let early = tokio::time::timeout(Duration::from_millis(15), read).await;
            missed += usize::from(matches!(early, Ok(Ok(1))) && byte == *b"y");
            let begun = Instant::now();
            switch(false);
            if early.is_err() {
                // What is held comes, or the connection ends.
                let _ = soon("the end of a wait", client.0.read(&mut byte)).await;
                lifted.push(begun.elapsed());
            }
        }
        lifted.sort();
        let p50 = lifted.get(lifted.len() / 2).copied();
        println!(
            "{:13} | {missed:6} | {p50:?}, {:?}",
            kind.name,
            lifted.last()
        );
        assert_eq!(missed, 0, "{}: a byte escaped a rule in force", kind.name);
        assert_eq!(lifted.is_empty(), kind.lifted.is_none(), "{}", kind.name);
        assert!(
            p50.is_none_or(|p50| p50 <= Duration::from_millis(5)),
            "{}: {p50:?}",
            kind.name
        );
    }
}

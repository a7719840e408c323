//! What holds for every fault on streams, whichever it is: it may be switched on and off a thousand
//! times over a hundred busy connections, a hundred idle ones, and some that come and go. No byte is
//! lost, repeated or out of order beyond what the kind says, and nothing hangs. The table is made
//! from the registry; a kind that is not in [`example`] fails it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firedrill::evidence::Class;
use firedrill::faults::{self, Arg, Kind};
use firedrill::rules::Ttl;
use firedrill::state::{Change, Source};
use support::document::generated;
use support::raw::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const TOGGLES: usize = 1000;

const BUSY: usize = 100;
const IDLE: usize = 100;
/// Clients that say a little, close, and come anew.
const GUESTS: usize = 10;

/// Busy ones of which one sends enough at once to be carried in bulk.
const BULK_EVERY: usize = 10;
const BULK: usize = 400_000;
const LITTLE: usize = 1400;

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

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "every byte, once and in order",
            Self::KeptIfStanding => {
                "on connections that stood before, every byte, once and in order; new ones may end"
            }
            Self::Changed => "as many bytes in order, some of them changed",
            Self::Prefix => "the beginning of what was sent",
        })
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

    /// Waits a while; `false`: the connection has ended.
    async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let read = self.socket.read(&mut byte);
        match tokio::time::timeout(Duration::from_millis(20), read).await {
            Err(_) => true,
            Ok(Ok(n)) if n > 0 => panic!("it was sent what nobody said"),
            Ok(_) => false,
        }
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

/// What the clients of one run share.
struct Crowd {
    addr: SocketAddr,
    law: Law,
    stop: AtomicBool,
    /// Connections that the proxy has accepted, and bytes that came back over them.
    made: AtomicUsize,
    bytes: AtomicUsize,
}

impl Crowd {
    fn is_over(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// `None`: it was reset at once.
    async fn connect(&self) -> Option<Checked> {
        let connected = Checked::connect(self.addr, self.law).await;
        self.made.fetch_add(1, Relaxed);
        assert!(
            connected.is_some() || self.law != Law::Kept,
            "reset at once"
        );
        connected
    }

    /// Until it is connected, or all is over.
    async fn connect_again(&self) -> Option<Checked> {
        while !self.is_over() {
            if let Some(client) = self.connect().await {
                return Some(client);
            }
        }
        None
    }

    /// The end of a connection: what must have arrived has. `standing`: it stood before the fault.
    async fn finish(&self, client: Checked, whole: bool, standing: bool) {
        let (client, ended) = client.finish().await;
        self.bytes.fetch_add(client.got, Relaxed);
        let keeps = match self.law {
            Law::Kept | Law::Changed => true,
            Law::KeptIfStanding => standing,
            Law::Prefix => false,
        };
        if keeps {
            assert!(whole, "it was cut off at {} of {}", client.got, client.sent);
            assert_eq!((client.got, ended), (client.sent, Ended::Fin));
        }
    }

    /// Asks and is answered without a pause, anew where the fault ends it.
    async fn busy(&self, mut client: Checked, len: usize) {
        let mut standing = true;
        while !self.is_over() {
            if client.round(len).await {
                continue;
            }
            self.finish(client, false, standing).await;
            standing = false;
            match self.connect_again().await {
                Some(again) => client = again,
                None => return,
            }
        }
        let whole = client.round(LITTLE).await;
        self.finish(client, whole, standing).await;
    }

    /// Says nothing before all is over; anew where the fault ends it.
    async fn idle(&self, mut client: Checked) {
        let mut standing = true;
        while !self.is_over() {
            if client.is_silent().await {
                continue;
            }
            self.finish(client, false, standing).await;
            standing = false;
            match self.connect_again().await {
                Some(again) => client = again,
                None => return,
            }
        }
        let whole = client.round(LITTLE).await;
        self.finish(client, whole, standing).await;
    }

    async fn guest(&self) {
        while !self.is_over() {
            let Some(mut client) = self.connect().await else {
                continue;
            };
            let mut whole = true;
            for _ in 0..3 {
                whole = whole && client.round(LITTLE).await;
            }
            self.finish(client, whole, false).await;
        }
    }
}

struct Row {
    kind: &'static Kind,
    law: Law,
    connections: usize,
    bytes: usize,
    injected: u64,
    took: Duration,
}

/// Toggles a rule over all of them, and checks what must hold at the end.
async fn toggle(kind: &'static Kind) -> Row {
    let (args, law) = example(kind);
    let rig = Rig::new();
    let crowd = Arc::new(Crowd {
        addr: rig.tcp(echo().await).await,
        law,
        stop: AtomicBool::new(false),
        made: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    });
    let mut rule = rule(kind.name, &args);
    rule.enabled = false;
    rig.rule(rule);
    let begun = Instant::now();

    let mut clients = JoinSet::new();
    for n in 0..BUSY + IDLE {
        let mut client = crowd.connect().await.unwrap();
        // All stand before the fault does.
        assert!(client.round(LITTLE).await);
        let crowd = Arc::clone(&crowd);
        match n {
            ..BUSY if n % BULK_EVERY == 0 => {
                clients.spawn(async move { crowd.busy(client, BULK).await })
            }
            ..BUSY => clients.spawn(async move { crowd.busy(client, LITTLE).await }),
            _ => clients.spawn(async move { crowd.idle(client).await }),
        };
    }
    for _ in 0..GUESTS {
        let crowd = Arc::clone(&crowd);
        clients.spawn(async move { crowd.guest().await });
    }

    let state = Arc::clone(&rig.context.state);
    let toggling = tokio::task::spawn_blocking(move || {
        for n in 0..TOGGLES {
            let switch = Change::SwitchRule(kind.name.to_owned(), n % 2 == 0, Ttl::Unsaid);
            state.apply(vec![switch], Source::Api).unwrap();
            // Mostly hardly long enough to be seen, now and then long enough to act in full.
            let pause = if n % 50 == 0 { 20_000 } else { n * 37 % 4000 };
            std::thread::sleep(Duration::from_micros(pause as u64));
        }
    });
    toggling.await.unwrap();
    // On a slow machine no connection may have been made in the short times that it was on.
    let switch = |on| rig.apply(Change::SwitchRule(kind.name.to_owned(), on, Ttl::Unsaid));
    switch(true);
    until("it is felt", || (rig.counts(kind.name).1 > 0).then_some(())).await;
    switch(false);
    crowd.stop.store(true, Relaxed);
    while let Some(ended) = soon("every client is done", clients.join_next()).await {
        ended.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    }

    rig.quiet().await;
    let made = crowd.made.load(Relaxed);
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
        bytes: crowd.bytes.load(Relaxed),
        injected,
        took: begun.elapsed(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_fault_may_be_toggled_over_busy_and_idle_connections() {
    println!(
        "{BUSY} busy connections, {IDLE} idle, {GUESTS} that come and go; {TOGGLES} toggles of each kind"
    );
    println!("| kind          | what arrives   | connections |      bytes | injected |  took |");
    println!("| ------------- | -------------- | ----------- | ---------- | -------- | ----- |");
    let mut table = "| kind | what arrives |\n| --- | --- |\n".to_owned();
    let mut rows = 0;
    for kind in faults::KINDS.iter().filter(|kind| kind.fits(false)) {
        let row = toggle(kind).await;
        println!(
            "| {:13} | {:14} | {:11} | {:10} | {:8} | {:.1?} |",
            row.kind.name,
            format!("{:?}", row.law),
            row.connections,
            row.bytes,
            row.injected,
            row.took
        );
        table += &format!("| `{}` | {} |\n", kind.name, row.law);
        rows += 1;
    }
    assert!(rows >= 15, "the registry is not empty");
    generated("conformance", &table);
}

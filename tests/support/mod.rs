//! What integration tests share: a rig of proxies in this process, raw clients, hostile peers.
//! Everything binds port 0; nothing sleeps, everything waits for a condition.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod collector;
pub mod docker;
pub mod document;
pub mod http2;
pub mod pay;
pub mod pki;
pub mod process;
pub mod programs;
pub mod raw;
pub mod systems;
pub mod witness;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firedrill::evidence::{Filter, Ladder, Ledger, Record, Room};
use firedrill::faults::{self, Arg, Args};
use firedrill::metrics::Metrics;
use firedrill::pipeline::{Context, Held};
use firedrill::proxy::{Supervisor, Workers};
use firedrill::rules::{Edge, FaultSpec, Matcher, Mode, Partition, Protocol, Rule, Shape, Ttl};
use firedrill::state::{Change, Source, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Something in the checkout, which `tests/run` puts there if it is none of its files.
pub fn here(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "there is no {}: run tests/run",
        path.display()
    );
    path
}

/// The Python that `tests/run` sets up.
pub fn python() -> PathBuf {
    here("target/python/bin/python")
}

/// The longest that any condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Gives a future at most [`PATIENCE`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Proxies in this process, without a control plane.
pub struct Rig {
    pub context: Arc<Context>,
    pub supervisor: Supervisor,
}

impl Rig {
    pub fn new() -> Self {
        Self::with_seed(42)
    }

    pub fn with_seed(seed: u64) -> Self {
        let context = Arc::new(Context {
            state: Arc::new(State::default()),
            ledger: Arc::new(Ledger::new(Some(Room {
                records: 1_000_000,
                bytes: usize::MAX,
            }))),
            metrics: Arc::new(Metrics::new().unwrap()),
            seed,
            ladder: Ladder::default(),
            linger: Duration::from_secs(5),
            half_close: Duration::from_secs(2),
            handshake: Duration::from_secs(2),
            held: Held::new(64 << 20, 512 << 20),
        });
        let supervisor = Supervisor::new(Arc::clone(&context), Workers::start().unwrap());
        Self {
            context,
            supervisor,
        }
    }

    /// A proxy `name` before `upstream`; its address.
    pub async fn proxy(&self, name: &str, upstream: SocketAddr, protocol: Protocol) -> SocketAddr {
        let mut edge = Edge::new(name, "127.0.0.1:0", &upstream.to_string());
        edge.protocol = protocol;
        self.supervisor
            .start(edge, Source::File)
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn tcp(&self, upstream: SocketAddr) -> SocketAddr {
        self.proxy("p", upstream, Protocol::Tcp).await
    }

    pub async fn http(&self, upstream: SocketAddr) -> SocketAddr {
        self.proxy("p", upstream, Protocol::Http).await
    }

    pub fn apply(&self, change: Change) {
        self.context.state.apply(vec![change], Source::Api).unwrap();
    }

    pub fn rule(&self, rule: Rule) {
        self.apply(Change::AddRule(rule));
    }

    pub fn off(&self, name: &str) {
        self.apply(Change::SwitchRule(name.to_owned(), false, Ttl::Unsaid));
    }

    pub fn heal(&self) {
        self.apply(Change::Heal);
    }

    pub fn records(&self) -> Vec<Record> {
        self.context.ledger.list(&Filter::default())
    }

    /// Waits until there are `n` records and all are closed.
    pub async fn closed(&self, n: usize) -> Vec<Record> {
        until(&format!("{n} closed records"), || {
            let records = self.records();
            let open = records
                .iter()
                .any(|r| r.class == firedrill::evidence::Class::Open);
            (records.len() >= n && !open).then_some(records)
        })
        .await
    }

    /// The value of a metric's series, by the exact text before the value.
    pub fn metric(&self, series: &str) -> f64 {
        let (text, _) = self.context.metrics.encode().unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How often a rule selected and injected, by its own account.
    pub fn counts(&self, rule: &str) -> (u64, u64) {
        let (_, rules) = self.context.state.rules();
        let found = rules.iter().find(|d| d.definition.name == rule).unwrap();
        found.totals.read()
    }

    /// Waits until no connection is open.
    pub async fn quiet(&self) {
        until("no open connections", || {
            (self.metric("firedrill_connections_open{proxy=\"p\"}") == 0.0).then_some(())
        })
        .await;
    }
}

/// A rule `kind` with these arguments, on everything.
pub fn rule(kind: &str, args: &[(&'static str, Arg)]) -> Rule {
    Rule {
        name: kind.to_owned(),
        proxies: None,
        enabled: true,
        matcher: Matcher::default(),
        probability: 1.0,
        skip: 0,
        limit: None,
        max_active: None,
        ttl: Ttl::Unsaid,
        dry_run: false,
        direction: None,
        timetable: None,
        fault: FaultSpec::new(faults::find(kind).unwrap(), Args(args.to_vec())).unwrap(),
    }
}

pub fn then(word: &'static str) -> Vec<(&'static str, Arg)> {
    vec![("then", Arg::Choice(word))]
}

pub fn latency(ms: u64) -> Vec<(&'static str, Arg)> {
    vec![("latency", Arg::Duration(Duration::from_millis(ms)))]
}

/// A partition between `client` and `p`.
pub fn partition(mode: Mode, deaf: &[&str]) -> Partition {
    Partition {
        name: "split".to_owned(),
        shape: Shape::Between(vec![vec!["client".to_owned()], vec!["p".to_owned()]]),
        deaf: deaf.iter().map(|d| (*d).to_owned()).collect(),
        mode,
        enabled: true,
        ttl: Ttl::Unsaid,
        timetable: None,
    }
}

/// A server that keeps what each connection sent, and does as `serve` says with each.
#[derive(Clone)]
pub struct Server {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    pub async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Hundreds may come at once, and none of them shall wait for a second SYN.
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    continue;
                };
                let index = {
                    let mut log = log.lock().unwrap();
                    log.push(Vec::new());
                    log.len() - 1
                };
                let connection = Connection {
                    socket,
                    log: Arc::clone(&log),
                    index,
                };
                tokio::spawn(serve(connection));
            }
        });
        Self { addr, seen }
    }

    /// Sends everything back; closes when the client does.
    pub async fn echo() -> Self {
        Self::start(|mut c| async move {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let n = c.read(&mut buffer).await?;
                if n == 0 {
                    return c.socket.shutdown().await;
                }
                c.socket.write_all(&buffer[..n]).await?;
            }
        })
        .await
    }

    /// Answers each HTTP request with 200 and `answer`, after `before` resolves.
    pub async fn http() -> Self {
        Self::http_with(|request| {
            let body = format!("you said {}", request.lines().next().unwrap_or_default());
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        })
        .await
    }

    /// Answers each HTTP request (head and body as text) as `answer` says.
    pub async fn http_with(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |mut c| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = c.request().await? {
                    c.socket.write_all(answer(&request).as_bytes()).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// What each connection has sent so far, as text.
    pub fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|b| String::from_utf8_lossy(b).into_owned())
            .collect()
    }

    /// How many requests of this first line came, over all connections.
    pub fn requests(&self, line: &str) -> usize {
        self.seen().iter().map(|s| s.matches(line).count()).sum()
    }

    /// An address on which nobody listens.
    pub async fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }
}

/// One connection of a [`Server`].
pub struct Connection {
    pub socket: TcpStream,
    log: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
}

impl Connection {
    /// Reads and keeps what was read.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.read(buffer).await?;
        self.log.lock().unwrap()[self.index].extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    /// Reads one request with its body (by Content-Length); `None` at the end.
    pub async fn request(&mut self) -> io::Result<Option<String>> {
        let mut all = Vec::new();
        let mut byte = [0];
        loop {
            if self.read(&mut byte).await? == 0 {
                return Ok(None);
            }
            all.push(byte[0]);
            let text = String::from_utf8_lossy(&all);
            let Some(end) = text.find("\r\n\r\n") else {
                continue;
            };
            let length = text[..end]
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0usize);
            if all.len() == end + 4 + length {
                return Ok(Some(text.into_owned()));
            }
        }
    }
}

/// A raw client.
pub struct Client(pub TcpStream);

impl Client {
    /// Connects the blocking way: it tells of a connection that stood, though the proxy may have
    /// broken it since. The other way waits for a wake-up, by which time the RST may be there.
    pub async fn connect(addr: SocketAddr) -> Self {
        let connecting = tokio::task::spawn_blocking(move || std::net::TcpStream::connect(addr));
        let socket = connecting.await.unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(TcpStream::from_std(socket).unwrap())
    }

    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    pub async fn fin(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Breaks the connection.
    pub fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }

    /// Reads until it has `text`'s length, and compares.
    pub async fn expect(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let mut got = vec![0; text.len()];
        soon("expected bytes", self.0.read_exact(&mut got))
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(text));
    }

    /// Reads to the end: the bytes, and whether it was a FIN (`true`) or a RST.
    pub async fn rest(&mut self) -> (String, bool) {
        let mut got = Vec::new();
        let fin = soon("the end", self.0.read_to_end(&mut got)).await.is_ok();
        (String::from_utf8_lossy(&got).into_owned(), fin)
    }

    /// One answer with its body (by Content-Length).
    pub async fn answer(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            let mut byte = [0];
            let n = soon("an answer", self.0.read(&mut byte)).await.unwrap();
            assert!(n > 0, "closed within {:?}", String::from_utf8_lossy(&all));
            all.push(byte[0]);
            let text = String::from_utf8_lossy(&all);
            let Some(end) = text.find("\r\n\r\n") else {
                continue;
            };
            let length = text[..end]
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0usize);
            if all.len() == end + 4 + length {
                return text.into_owned();
            }
        }
    }

    /// Reads so many bytes of [`raw::stream`] and compares.
    pub async fn expect_stream(&mut self, from: usize, len: usize) {
        let mut got = vec![0; len];
        soon("expected bytes", self.0.read_exact(&mut got))
            .await
            .unwrap();
        raw::check(from, &got);
    }

    /// Nothing comes within a while: long enough for loopback, short enough for a test.
    pub async fn silent(&mut self) {
        self.silent_for(Duration::from_millis(150)).await;
    }

    /// Nothing comes within this time.
    pub async fn silent_for(&mut self, time: Duration) {
        let mut byte = [0];
        let read = tokio::time::timeout(time, self.0.read(&mut byte)).await;
        assert!(read.is_err(), "expected silence, got {read:?}");
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: p\r\n\r\n")
}

pub fn post(path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: p\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

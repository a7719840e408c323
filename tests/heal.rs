//! Heal lifts every wait at once: for each kind that can make something wait and each mode of a
//! partition, on HTTP and TCP, 200 operations wait, are released as the kind says, and leave nothing
//! behind in the process.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class};
use firedrill::faults::{KINDS, Kind};
use firedrill::rules::Mode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use support::pay::Upstream;
use support::process::{Firedrill, eventually};
use support::{post, soon};

/// Operations that wait at the same time.
const WAITING: usize = 200;

/// What "at once" means here, for all of them together.
const AT_ONCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Http,
    Tcp,
}

const PLANES: [Plane; 2] = [Plane::Http, Plane::Tcp];

/// What becomes of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// It goes on and is answered.
    Answered,
    /// The client's connection is closed without an answer.
    Closed,
    /// The client was answered long ago; what is dropped never comes.
    NeverDoubled,
}

/// How a kind is made to wait for very long, and what its `lifted` promises.
struct Case {
    args: Value,
    release: Release,
    /// Whether the upstream has the request before it is lifted, and after.
    reaches: (bool, bool),
    /// The request is answered; what waits is the end of the connection.
    ends: bool,
}

fn case(kind: &Kind, plane: Plane) -> Case {
    let case = |args: Value, release, reaches| Case {
        args,
        release,
        reaches,
        ends: false,
    };
    let held = (false, true);
    match (kind.name, kind.lifted.unwrap()) {
        ("delay", "what is held goes at once") => {
            case(json!({"latency": "1h"}), Release::Answered, held)
        }
        ("drop", "the hung connection is closed") => {
            case(json!({"then": "hang"}), Release::Closed, (false, false))
        }
        ("response_loss", "the hung connection is closed") => {
            case(json!({"then": "hang"}), Release::Closed, (true, true))
        }
        ("duplicate", "pending copies are dropped") => {
            case(json!({"gap": "1h"}), Release::NeverDoubled, (true, true))
        }
        ("bandwidth", "flows") => case(json!({"rate": 0}), Release::Answered, held),
        ("packet_loss", "flows") => case(json!({"rate": 1}), Release::Answered, held),
        ("slice", "flows") => {
            // The first slice goes at once, and on HTTP it is the request's whole body.
            let first = plane == Plane::Http;
            let args = json!({"size": "1B", "gap": "1h"});
            case(args, Release::Answered, (first, true))
        }
        ("slow_connect", "dialled at once") => {
            case(json!({"delay": "1h"}), Release::Answered, held)
        }
        ("timeout", "closed") => case(json!({}), Release::Closed, (false, false)),
        ("slow_close", "closed") => Case {
            ends: true,
            ..case(json!({"delay": "1h"}), Release::Closed, (true, true))
        },
        ("late", "goes at once") => case(json!({}), Release::Answered, (true, true)),
        ("overload", "queue flows") => case(
            json!({"service_time": "1h", "queue": 1000}),
            Release::Answered,
            held,
        ),
        (name, lifted) => panic!("how is `{name}` made to wait, and is \"{lifted}\" true?"),
    }
}

/// One process with a proxy, in front of the payment service. On TCP too the bytes are HTTP: the
/// upstream keeps count of them.
struct Stage {
    upstream: Upstream,
    firedrill: Firedrill,
    addr: SocketAddr,
}

impl Stage {
    async fn set(plane: Plane) -> Self {
        let upstream = Upstream::start().await;
        let protocol = match plane {
            Plane::Http => "http",
            Plane::Tcp => "tcp",
        };
        let firedrill = Firedrill::start(&format!(
            "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {}, protocol: {protocol} }}]\n",
            upstream.addr
        ))
        .await;
        let addr = firedrill.proxy("p").await;
        Self {
            upstream,
            firedrill,
            addr,
        }
    }

    /// A client that has sent a request and waits.
    async fn client(&self, key: &str) -> Client {
        let mut client = Client(TcpStream::connect(self.addr).await.unwrap());
        client.send(key).await;
        client
    }

    async fn clients(&self, name: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        for n in 0..WAITING {
            clients.push(self.client(&format!("{name}-{n}")).await);
        }
        clients
    }

    async fn partition(&self, mode: Mode) {
        let body = json!({
            "name": "split", "between": [["client"], ["p"]], "mode": mode.as_str(),
        });
        self.firedrill.api.create_partition(&body).await.unwrap();
    }

    /// How many records have been cut so far.
    async fn cut(&self, n: usize) {
        eventually("the partition holds them", async || {
            let split = self.firedrill.api.partition("split").await.unwrap();
            (split.standing.injected == n as u64).then_some(())
        })
        .await;
    }

    async fn chosen(&self, selected: usize, injected: usize) {
        let wanted = (selected as u64, injected as u64);
        eventually(&format!("selected, injected: {wanted:?}"), async || {
            let rule = self.firedrill.rule("wait").await;
            ((rule.standing.selected, rule.standing.injected) == wanted).then_some(())
        })
        .await;
    }

    /// Heals, and watches what each client meets; answers the clients, and how long it all took.
    async fn heal(&self, clients: Vec<Client>, release: Release) -> (Vec<Client>, Duration) {
        let mut watching = JoinSet::new();
        for mut client in clients {
            watching.spawn(async move {
                match release {
                    Release::Answered => client.answered().await,
                    Release::Closed => client.closed().await,
                    Release::NeverDoubled => {}
                }
                client
            });
        }
        let began = Instant::now();
        let healed = self.firedrill.api.heal().await.unwrap();
        assert_eq!(healed.rules.len() + healed.partitions.len(), 1);
        let all = soon("all are released", watching.join_all()).await;
        (all, began.elapsed())
    }

    /// After a heal: the next requests pass, and nothing is left behind.
    async fn end(self, clients: Vec<Client>, release: Release, records: usize) {
        for (n, mut client) in clients.into_iter().enumerate() {
            if release != Release::Closed {
                // On the very connection that waited.
                client.send(&format!("next-{n}")).await;
                client.answered().await;
            }
        }
        let mut fresh = self.client("fresh").await;
        fresh.answered().await;
        drop(fresh);
        self.firedrill.quiet().await;
        let records_now = self.firedrill.closed(records).await;
        assert_eq!(records_now.len(), records);
        assert_eq!(records_now.last().unwrap().class, Class::Acknowledged);
    }

    /// How often requests whose keys begin so have come.
    fn came(&self, name: &str) -> usize {
        let log = self.upstream.log();
        log.iter().filter(|key| key.starts_with(name)).count()
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, key: &str) {
        let request = post("/pay", key, "x");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Exactly one answer has come, or comes.
    async fn answered(&mut self) {
        let mut all = Vec::new();
        // The body is the request's key, which may come behind the head.
        let whole = |all: &[u8]| {
            let text = String::from_utf8_lossy(all);
            let (head, body) = text.split_once("\r\n\r\n")?;
            let (_, length) = head.split_once("Content-Length: ")?;
            (body.len() == length.parse::<usize>().ok()?).then_some(())
        };
        while whole(&all).is_none() {
            let read = soon("an answer", self.0.read_buf(&mut all)).await.unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&all));
        }
        assert!(all.starts_with(b"HTTP/1.1 200 OK"));
    }

    /// It ends, with a FIN and no byte before it.
    async fn closed(&mut self) {
        let mut all = Vec::new();
        soon("the end", self.0.read_to_end(&mut all)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&all), "");
    }
}

/// One case a kind and plane: of faults that make operations wait.
async fn faults(plane: Plane) {
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.lifted.is_some()).collect();
    assert!(kinds.len() >= 4);
    let messages = plane == Plane::Http;
    for kind in kinds.into_iter().filter(|kind| kind.fits(messages)) {
        if ["reorder", "stale"].contains(&kind.name) {
            // One operation waits at a time, or one whose answer is under way: see `http_kinds`.
            continue;
        }
        let Case {
            args,
            release,
            reaches,
            ends,
        } = case(kind, plane);
        let stage = Stage::set(plane).await;
        let rule = json!({"name": "wait", "proxies": ["p"], "fault": { kind.name: args }});
        stage.firedrill.api.create_rule(&rule).await.unwrap();
        let mut clients = stage.clients("wait").await;
        if ends || release == Release::NeverDoubled {
            stage.chosen(WAITING, 0).await;
            for client in &mut clients {
                client.answered().await;
            }
        }
        if ends {
            for client in &mut clients {
                client.0.shutdown().await.unwrap();
            }
        }
        if release != Release::NeverDoubled {
            stage.chosen(WAITING, WAITING).await;
        }
        let came = |reaches| if reaches { WAITING } else { 0 };
        eventually("what goes through has arrived", async || {
            (stage.came("wait") == came(reaches.0)).then_some(())
        })
        .await;

        let (clients, took) = stage.heal(clients, release).await;
        assert!(took < AT_ONCE, "{} took {took:?}", kind.name);
        let came = came(reaches.1);
        assert_eq!(stage.came("wait"), came, "{}", kind.name);
        println!(
            "{plane:?} {}: {WAITING} waited, {release:?} within {took:?}",
            kind.name
        );
        let upstream_came = came + usize::from(release != Release::Closed) * WAITING + 1;
        let records = match (plane, release) {
            (Plane::Http, Release::Answered | Release::NeverDoubled) => 2 * WAITING + 1,
            _ => WAITING + 1,
        };
        let counts = stage.upstream.log.clone();
        stage.end(clients, release, records).await;
        assert_eq!(counts.lock().unwrap().len(), upstream_came);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_kind_on_http() {
    faults(Plane::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_kind_on_tcp() {
    faults(Plane::Tcp).await;
}

/// The kernel still accepts; nothing is dialled or delivered until heal, then what was sent is.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_blackhole() {
    for plane in PLANES {
        let stage = Stage::set(plane).await;
        stage.partition(Mode::Blackhole).await;
        let clients = stage.clients("wait").await;
        stage.cut(WAITING).await;
        assert_eq!(stage.came("wait"), 0);
        let (clients, took) = stage.heal(clients, Release::Answered).await;
        assert!(took < AT_ONCE, "{took:?}");
        assert_eq!(stage.came("wait"), WAITING, "all of it was delivered");
        println!("{plane:?} blackhole: {WAITING} waited, delivered and answered within {took:?}");
        let records = match plane {
            Plane::Http => 2 * WAITING + 1,
            Plane::Tcp => WAITING + 1,
        };
        stage.end(clients, Release::Answered, records).await;
    }
}

/// New connections are reset; those that stand hear nothing until heal.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_refusal_by_connections_that_stood() {
    for plane in PLANES {
        let stage = Stage::set(plane).await;
        let mut clients = stage.clients("before").await;
        for client in &mut clients {
            client.answered().await;
        }
        stage.partition(Mode::Refuse).await;
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(&format!("wait-{n}")).await;
        }
        stage.cut(WAITING).await;
        assert!(is_reset(stage.addr).await, "a new connection");
        assert_eq!(stage.came("wait"), 0);
        let (clients, took) = stage.heal(clients, Release::Answered).await;
        assert!(took < AT_ONCE, "{took:?}");
        assert_eq!(stage.came("wait"), WAITING);
        println!("{plane:?} refuse: {WAITING} that stood waited, answered within {took:?}");
        let records = match plane {
            Plane::Http => 3 * WAITING + 2,
            Plane::Tcp => WAITING + 2,
        };
        stage.end(clients, Release::Answered, records).await;
    }
}

/// Nothing waits: what stands is reset at once, what is new too; after the heal all is well.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_partition_that_resets() {
    for plane in PLANES {
        let stage = Stage::set(plane).await;
        let mut slow = Vec::new();
        for n in 0..WAITING {
            let mut socket = TcpStream::connect(stage.addr).await.unwrap();
            let request = post("/never", &format!("wait-{n}"), "x");
            socket.write_all(request.as_bytes()).await.unwrap();
            slow.push(socket);
        }
        eventually("all are on their way", async || {
            (stage.came("wait") == WAITING).then_some(())
        })
        .await;
        let began = Instant::now();
        stage.partition(Mode::Reset).await;
        for mut socket in slow {
            let read = soon("a reset", socket.read(&mut [0])).await;
            assert_eq!(
                read.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
        }
        let took = began.elapsed();
        assert!(took < AT_ONCE, "{took:?}");
        assert!(is_reset(stage.addr).await, "a new connection");
        stage.firedrill.api.heal().await.unwrap();
        let records = stage.firedrill.closed(WAITING + 1).await;
        for record in &records[..WAITING] {
            assert_eq!(record.class, Class::Unknown, "{record:?}");
            assert_eq!(record.cause, Cause::Partition("split".into()));
        }
        println!("{plane:?} reset: {WAITING} were reset within {took:?}");
        stage.end(Vec::new(), Release::Closed, WAITING + 2).await;
    }
}

/// A connection that is reset at once: that may show with the connect, the write or the read.
async fn is_reset(addr: SocketAddr) -> bool {
    let attempt = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(b"x").await?;
        socket.read(&mut [0]).await
    };
    soon("a reset", attempt).await.is_err()
}

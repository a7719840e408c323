//! `protocol: auto`: what the first words make of a connection, which rules act on it from when on, and
//! what its records say.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome, Record};
use firedrill::faults::Arg;
use firedrill::rules::{HostGlob, Matcher, Mode, Protocol, Rule};
use firedrill::state::{Change, Source, Stopping};
use support::http2::{self, H2};
use support::pki::{Pki, shake};
use support::{
    Client, Connection, Rig, Server, get, latency, partition, post, rule, soon, then, until,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

async fn auto(rig: &Rig, upstream: SocketAddr) -> SocketAddr {
    rig.proxy("p", upstream, Protocol::Auto).await
}

fn the_only(records: Vec<Record>) -> Record {
    let [record] = <[Record; 1]>::try_from(records).unwrap();
    record
}

/// What a record says of itself: what it was, of what, how it went.
fn said(record: &Record) -> (&'static str, Option<&str>, Class) {
    let path = record.request.path.as_deref();
    (record.protocol.as_str(), path, record.class)
}

/// Greets each client, then sends back what it says.
async fn greeter() -> Server {
    Server::start(|mut c| async move {
        c.socket.write_all(b"220 ready\r\n").await?;
        echo(&mut c).await
    })
    .await
}

async fn echo(c: &mut Connection) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let n = c.read(&mut buffer).await?;
        if n == 0 {
            return c.socket.shutdown().await;
        }
        c.socket.write_all(&buffer[..n]).await?;
    }
}

/// Sends everything back within TLS.
async fn back(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
        stream.flush().await?;
    }
}

async fn connections(server: &Server, n: usize) {
    until("the upstream is dialled", || {
        (server.seen().len() == n).then_some(())
    })
    .await;
}

async fn counted(rig: &Rig, rule: &str, counts: (u64, u64)) {
    until(&format!("{rule} counts {counts:?}"), || {
        (rig.counts(rule) == counts).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_are_operations() {
    let (rig, server) = (Rig::new(), Server::http().await);
    let addr = auto(&rig, server.addr).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert!(client.answer().await.ends_with("you said GET /a HTTP/1.1"));
    client.send(post("/b", "k", "hello")).await;
    assert!(client.answer().await.ends_with("you said POST /b HTTP/1.1"));
    let records = rig.closed(2).await;
    assert_eq!(said(&records[0]), ("http", Some("/a"), Class::Acknowledged));
    assert_eq!(said(&records[1]), ("http", Some("/b"), Class::Acknowledged));
    assert_eq!(server.seen().len(), 1, "one connection for both");
    drop(client);
    rig.quiet().await;
    assert_eq!(rig.records().len(), 2);
    let bytes = get("/a").len() + post("/b", "k", "hello").len();
    let series = "firedrill_bytes_total{direction=\"upstream\",proxy=\"p\"}";
    assert_eq!(rig.metric(series), bytes as f64, "each counted once");
}

#[tokio::test]
async fn so_are_the_streams_of_http2_though_its_server_speaks_first() {
    let (rig, upstream) = (Rig::new(), http2::Upstream::echo().await);
    let addr = auto(&rig, upstream.addr).await;
    // Its SETTINGS are there before the client says anything.
    let socket = Client::connect(addr).await.0;
    until("it is dialled", || {
        (upstream.connections() == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    let mut client = H2 {
        send,
        connection: tokio::spawn(connection),
    };
    for path in ["/a", "/b"] {
        assert_eq!(client.get(path).await.unwrap().status, 200);
    }
    let mut early = H2::connect(addr).await;
    assert_eq!(early.get("/c").await.unwrap().status, 200);
    let records = rig.closed(3).await;
    let said: Vec<_> = records.iter().map(said).collect();
    let whole = |path| ("http", Some(path), Class::Acknowledged);
    assert_eq!(said, [whole("/a"), whole("/b"), whole("/c")]);
    assert_eq!(upstream.connections(), 2, "one for each client");
}

#[tokio::test]
async fn what_is_no_http_is_a_connection() {
    let server = Server::echo().await;
    for words in [
        &b"*1\r\n$4\r\nPING\r\n"[..],
        b"PING\r\n",
        b"GET key\r\n",
        b"GET\0 / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\0",
    ] {
        let rig = Rig::new();
        let mut client = Client::connect(auto(&rig, server.addr).await).await;
        client.send(words).await;
        client.expect(words).await;
        // It stays what it has turned out to be.
        client.send(get("/")).await;
        client.expect(get("/")).await;
        client.fin().await;
        assert_eq!(client.rest().await, (String::new(), true));
        let record = the_only(rig.closed(1).await);
        assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));
        assert_eq!(record.request.bytes, (words.len() + get("/").len()) as u64);
        assert_eq!(record.client.bytes, record.request.bytes);
    }
}

#[tokio::test]
async fn the_upstream_may_speak_first() {
    let (rig, server) = (Rig::new(), greeter().await);
    let addr = auto(&rig, server.addr).await;
    let before = firedrill::clock::Timestamp::now();
    let mut client = Client::connect(addr).await;
    client.expect("220 ready\r\n").await;
    // A request now is no request.
    client.send(get("/")).await;
    client.expect(get("/")).await;
    client.fin().await;
    assert_eq!(client.rest().await, (String::new(), true));
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));
    assert_eq!(record.client.bytes, 11 + get("/").len() as u64);
    assert!(record.started >= before && record.started <= record.upstream[0].answered_at.unwrap());
}

/// However the first words are cut; and nothing of them is passed on before they are known.
#[tokio::test]
async fn words_in_pieces() {
    let (rig, server) = (Rig::new(), Server::http().await);
    let addr = auto(&rig, server.addr).await;
    let mut client = Client::connect(addr).await;
    client.0.set_nodelay(true).unwrap();
    connections(&server, 1).await;
    for byte in get("/slowly").as_bytes() {
        assert_eq!(server.seen(), [""]);
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(client.answer().await.ends_with("/slowly HTTP/1.1"));
    assert_eq!(the_only(rig.closed(1).await).protocol, Protocol::Http);

    let (rig, server) = (Rig::new(), Server::echo().await);
    let mut client = Client::connect(auto(&rig, server.addr).await).await;
    client.0.set_nodelay(true).unwrap();
    for byte in b"SET /key HTTP is fine\r\n" {
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.expect("SET /key HTTP is fine\r\n").await;
    client.fin().await;
    client.rest().await;
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));

    let (rig, upstream) = (Rig::new(), http2::Upstream::echo().await);
    let mut raw = http2::Raw::connect(auto(&rig, upstream.addr).await).await;
    raw.0.set_nodelay(true).unwrap();
    for byte in http2::PREFACE.iter().chain(&http2::frame(4, 0, 0, &[])) {
        raw.say(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(soon("settings", raw.next()).await.unwrap().kind, 4);
}

#[tokio::test]
async fn tls_passes_and_its_host_can_be_meant() {
    let pki = Pki::make();
    let rig = Rig::new();
    let upstream = pki.upstream(false, &["h2"], back).await;
    let addr = auto(&rig, upstream.addr()).await;
    let meant = |glob: &str| Rule {
        name: glob.to_owned(),
        matcher: Matcher {
            sni: Some(HostGlob::new(glob)),
            ..Matcher::default()
        },
        ..rule("reset", &[])
    };
    rig.rule(meant("other.example"));
    let config = pki.client("trust.pem", false, &["h2"]);
    let mut client = shake(&config, addr, "site.example").await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    soon("it comes back", client.read_exact(&mut got))
        .await
        .unwrap();
    rig.rule(meant("site.example"));
    assert!(soon("a reset", client.read(&mut got)).await.is_err());
    assert!(shake(&config, addr, "site.example").await.is_err());
    let records = rig.closed(2).await;
    for record in &records {
        assert_eq!(record.protocol, Protocol::Tcp);
        assert_eq!(record.cause, Cause::Rule("site.example".into()));
    }
    assert_eq!(records[1].class, Class::NeverDelivered);
    assert_eq!(rig.counts("site.example"), (2, 2));
    assert_eq!(rig.counts("other.example"), (0, 0));
}

/// What is within TLS that ends here decides as without it, and so it does for the upstream's TLS.
#[tokio::test]
async fn within_tls() {
    const OWN: &str = "terminate: { cert: site.pem, key: site.key }";
    const ORIGINATE: &str = "originate: { ca: trust.pem, server_name: site.example }";
    let pki = Pki::make();
    let start = async |rig: &Rig, upstream: SocketAddr, tls: &str| {
        let edge = pki.edge(upstream, &format!("protocol: auto, tls: {{ {tls} }}"));
        rig.supervisor
            .start(edge, Source::File)
            .await
            .unwrap()
            .unwrap()
    };
    // Who offers HTTP gets HTTP/1.1, as the upstream is in the clear; who offers another gets none.
    let (rig, server) = (Rig::new(), Server::http().await);
    let addr = start(&rig, server.addr, OWN).await;
    for (alpn, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["mqtt"], None),
        (&[], None),
    ] {
        let config = pki.client("trust.pem", false, alpn);
        let mut client = shake(&config, addr, "site.example").await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), agreed);
        client.write_all(get("/in").as_bytes()).await.unwrap();
        let mut got = [0; 15];
        soon("an answer", client.read_exact(&mut got))
            .await
            .unwrap();
        assert_eq!(&got, b"HTTP/1.1 200 OK");
    }
    for record in rig.closed(3).await {
        assert_eq!(
            (record.protocol, record.request.path.as_deref()),
            (Protocol::Http, Some("/in"))
        );
    }
    // Other bytes, both sides within TLS; also where a host is asked for.
    let rig = Rig::new();
    let upstream = pki.upstream(false, &["mqtt"], back).await;
    let addr = start(&rig, upstream.addr(), &format!("{OWN}, {ORIGINATE}")).await;
    let config = pki.client("trust.pem", false, &["mqtt"]);
    let mut client = shake(&config, addr, "site.example").await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
    client.write_all(b"\x10hello").await.unwrap();
    let mut got = [0; 6];
    soon("it comes back", client.read_exact(&mut got))
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(soon("the end", client.read(&mut got)).await.unwrap(), 0);
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));
    // HTTP/2 in the clear, that the upstream has within TLS: that has to be agreed on.
    let rig = Rig::new();
    let upstream = pki
        .upstream(false, &["h2", "http/1.1"], |stream| async {
            let mut connection = h2::server::handshake(stream)
                .await
                .map_err(io::Error::other)?;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let answer = http::Response::new(());
                respond
                    .send_response(answer, true)
                    .map_err(io::Error::other)?;
            }
            Ok(())
        })
        .await;
    let addr = start(&rig, upstream.addr(), ORIGINATE).await;
    let mut client = H2::connect(addr).await;
    assert_eq!(client.get("/h2").await.unwrap().status, 200);
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("http", Some("/h2"), Class::Acknowledged));
}

#[tokio::test]
async fn silence_is_nothing_until_it_ends() {
    let (rig, server) = (Rig::new(), Server::echo().await);
    let addr = auto(&rig, server.addr).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Client::connect(addr).await);
    }
    connections(&server, 100).await;
    assert!(rig.records().is_empty());
    assert_eq!(rig.context.held.bytes(), 0);
    // Each may still become either.
    for (n, client) in idle.iter_mut().enumerate() {
        let words = if n % 2 == 0 {
            "x"
        } else {
            "GET / HTTP/1.1\r\n\r\n"
        };
        client.send(words).await;
    }
    let records = until("a record each", || {
        let records = rig.records();
        (records.len() == 100).then_some(records)
    })
    .await;
    let tcp = records
        .iter()
        .filter(|r| r.protocol == Protocol::Tcp)
        .count();
    assert_eq!(tcp, 50);
    drop(idle);
    rig.quiet().await;
    assert_eq!(server.seen().len(), 100);
}

/// One whose first word is no more than that, and who waits for an answer, gets it.
#[tokio::test]
async fn a_word_that_might_become_a_request() {
    let (rig, server) = (Rig::new(), Server::echo().await);
    let mut client = Client::connect(auto(&rig, server.addr).await).await;
    client.send("PING").await;
    client.silent().await;
    client.expect("PING").await;
    client.send(" / HTTP/1.1\r\n").await;
    client.expect(" / HTTP/1.1\r\n").await;
    client.fin().await;
    client.rest().await;
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));
}

/// Who leaves without a word, or within one, was a connection: its end is passed on as on `tcp`.
#[tokio::test]
async fn one_who_leaves() {
    let server = Server::echo().await;
    for words in ["", "GE", "GET / HTTP/1.1"] {
        let rig = Rig::new();
        let addr = auto(&rig, server.addr).await;
        let mut client = Client::connect(addr).await;
        client.send(words).await;
        client.fin().await;
        assert_eq!(client.rest().await, (words.to_owned(), true));
        let record = the_only(rig.closed(1).await);
        assert_eq!(record.protocol, Protocol::Tcp);
        assert_eq!(record.client.bytes, words.len() as u64);
        rig.quiet().await;
    }
    let rig = Rig::new();
    let (seen, addr) = (server.seen().len(), auto(&rig, server.addr).await);
    let client = Client::connect(addr).await;
    connections(&server, seen + 1).await;
    client.reset();
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::NeverDelivered));
    assert_eq!(
        (record.cause, record.client.outcome),
        (Cause::Client, Outcome::Left)
    );
    // An upstream that leaves.
    let curt = Server::start(|c| async move {
        drop(c);
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(auto(&rig, curt.addr).await).await;
    assert_eq!(client.rest().await, (String::new(), true));
    client.fin().await;
    assert_eq!(the_only(rig.closed(1).await).protocol, Protocol::Tcp);
}

/// That nobody is there is the request's to know, if there is one; else the connection's, soon.
#[tokio::test]
async fn an_upstream_that_cannot_be_reached() {
    let nobody = Server::nobody().await;
    let rig = Rig::new();
    let addr = auto(&rig, nobody).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/lost")).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = the_only(rig.closed(1).await);
    assert_eq!(
        said(&record),
        ("http", Some("/lost"), Class::NeverDelivered)
    );
    assert_eq!(record.cause, Cause::Upstream);
    assert!(record.upstream[0].error.is_some());
    let mut client = Client::connect(addr).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(2).await.remove(1);
    assert_eq!(said(&record), ("tcp", None, Class::NeverDelivered));
    assert_eq!(record.cause, Cause::Upstream);
    assert!(record.upstream[0].error.is_some());
    // One whose head comes late.
    let mut client = Client::connect(addr).await;
    client.send("GET /late HTTP/1.1\r\n").await;
    client.silent().await;
    client.send("\r\n").await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(3).await.remove(2);
    assert_eq!(
        said(&record),
        ("http", Some("/late"), Class::NeverDelivered)
    );
    assert!(record.upstream[0].error.is_some());
    let mut client = H2::connect(addr).await;
    assert!(client.get("/h2").await.is_err());
    let record = rig.closed(4).await.remove(3);
    assert_eq!(said(&record), ("http", Some("/h2"), Class::NeverDelivered));
    assert_eq!(record.cause, Cause::Upstream);
}

/// Kinds act on what a connection has turned out to be, or not at all: then they are not counted.
#[tokio::test]
async fn kinds_act_where_they_can() {
    // Messages only.
    for (kind, args, class) in [
        (
            "abort",
            vec![("status", Arg::Count(503))],
            Class::Substituted,
        ),
        ("drop", then("close"), Class::NeverDelivered),
    ] {
        let (rig, server) = (Rig::new(), Server::http().await);
        let addr = auto(&rig, server.addr).await;
        rig.rule(rule(kind, &args));
        let mut client = Client::connect(addr).await;
        client.send(get("/x")).await;
        client.fin().await;
        client.rest().await;
        let record = the_only(rig.closed(1).await);
        assert_eq!(said(&record), ("http", Some("/x"), class));
        assert!(record.faults[0].injected);
        assert_eq!(rig.counts(kind), (1, 1));
        let mut client = Client::connect(addr).await;
        client.send("PING\r\n").await;
        until("it passes", || {
            server.seen().contains(&"PING\r\n".to_owned()).then_some(())
        })
        .await;
        drop(client);
        let record = rig.closed(2).await.remove(1);
        assert!(record.faults.is_empty() && record.protocol == Protocol::Tcp);
        assert_eq!(rig.counts(kind), (1, 1));
    }
    // Bytes of connections only.
    let (rig, server) = (Rig::new(), Server::http().await);
    let addr = auto(&rig, server.addr).await;
    rig.rule(rule(
        "slow_close",
        &[("delay", Arg::Duration(Duration::from_secs(60)))],
    ));
    let mut client = Client::connect(addr).await;
    client.send(get("/x")).await;
    client.answer().await;
    client.fin().await;
    assert_eq!(client.rest().await, (String::new(), true));
    assert!(the_only(rig.closed(1).await).faults.is_empty());
    assert_eq!(rig.counts("slow_close"), (0, 0));
    let mut client = Client::connect(addr).await;
    client.send("x").await;
    client.fin().await;
    counted(&rig, "slow_close", (1, 1)).await;
    client.silent().await;
    rig.heal();
    assert_eq!(client.rest().await, (String::new(), true));
    // Both.
    let (rig, server) = (Rig::new(), greeter().await);
    let addr = auto(&rig, server.addr).await;
    rig.rule(rule("reset", &[]));
    for words in ["", "x", "GET / HTTP/1.1\r\n\r\n"] {
        let mut client = Client::connect(addr).await;
        if words.is_empty() {
            // It has not said anything, and the upstream does.
            assert_eq!(client.rest().await, (String::new(), false));
            continue;
        }
        // The upstream may have come first: then it is the write that fails.
        if client.0.write_all(words.as_bytes()).await.is_ok() {
            assert_eq!(client.rest().await, (String::new(), false), "{words:?}");
        }
    }
    for record in rig.closed(3).await {
        assert_eq!(record.cause, Cause::Rule("reset".into()));
    }
    assert_eq!(rig.counts("reset"), (3, 3));
    assert!(server.seen().concat().is_empty());
}

#[tokio::test]
async fn a_rule_with_both_parts_acts_on_the_one_that_can() {
    // A status is for requests; bytes go on.
    let (rig, server) = (Rig::new(), Server::http().await);
    let addr = auto(&rig, server.addr).await;
    rig.rule(rule("response_loss", &[("then", Arg::Count(504))]));
    let mut client = Client::connect(addr).await;
    client.send(get("/x")).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 504"));
    let echoing = Server::echo().await;
    let other = rig.proxy("q", echoing.addr, Protocol::Auto).await;
    let mut client = Client::connect(other).await;
    client.send("x").await;
    client.expect("x").await;
    counted(&rig, "response_loss", (1, 1)).await;
}

#[tokio::test]
async fn delays_and_their_end_on_either() {
    for (words, answer) in [
        ("hello", "hello".to_owned()),
        ("GET /d HTTP/1.1\r\n\r\n", "GET".to_owned()),
    ] {
        let (rig, server) = (Rig::new(), Server::echo().await);
        let addr = auto(&rig, server.addr).await;
        rig.rule(rule("delay", &latency(60_000)));
        let mut client = Client::connect(addr).await;
        client.send(words).await;
        counted(&rig, "delay", (1, 1)).await;
        client.silent().await;
        assert_eq!(server.seen().concat(), "");
        rig.heal();
        if answer == "hello" {
            client.expect(answer).await;
            client.fin().await;
            client.rest().await;
        } else {
            // What comes back is no answer, and refused: it came.
            until("it arrives", || {
                server.seen().concat().starts_with("GET").then_some(())
            })
            .await;
            drop(client);
        }
        let record = the_only(rig.closed(1).await);
        assert_eq!(record.faults.len(), 1);
        assert!(record.faults[0].injected);
    }
}

/// Rules on the making of connections act at once, and are the first request's, or the connection's.
#[tokio::test]
async fn what_acts_before_it_is_known() {
    let (rig, server) = (Rig::new(), Server::echo().await);
    let addr = auto(&rig, server.addr).await;
    rig.rule(rule(
        "slow_connect",
        &[("delay", Arg::Duration(Duration::from_secs(60)))],
    ));
    let mut tcp = Client::connect(addr).await;
    tcp.send("x").await;
    let mut http = Client::connect(addr).await;
    http.send(get("/slow")).await;
    let silent = Client::connect(addr).await;
    counted(&rig, "slow_connect", (3, 3)).await;
    assert!(server.seen().is_empty());
    rig.off("slow_connect");
    tcp.expect("x").await;
    connections(&server, 3).await;
    drop((tcp, http, silent));
    let mut records = rig.closed(3).await;
    records.sort_by_key(|r| r.request.path.is_some());
    assert_eq!(records[0].protocol, Protocol::Tcp);
    assert_eq!(records[1].protocol, Protocol::Tcp);
    assert_eq!(
        (records[2].protocol, records[2].request.path.as_deref()),
        (Protocol::Http, Some("/slow"))
    );
    assert!(
        records
            .iter()
            .all(|r| r.faults.len() == 1 && r.faults[0].injected)
    );

    rig.rule(rule("refuse", &[]));
    let mut client = Client::connect(addr).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(4).await.remove(3);
    assert_eq!(said(&record), ("tcp", None, Class::NeverDelivered));
    assert_eq!(record.cause, Cause::Rule("refuse".into()));
    assert_eq!(rig.counts("refuse"), (1, 1));
}

/// A rule that comes before the first word holds for it; one that comes later for what follows.
#[tokio::test]
async fn rules_come_while_it_stands() {
    let (rig, server) = (Rig::new(), Server::echo().await);
    let addr = auto(&rig, server.addr).await;
    let mut standing = Client::connect(addr).await;
    standing.send("a").await;
    standing.expect("a").await;
    let mut silent = Client::connect(addr).await;
    connections(&server, 2).await;
    rig.rule(rule("response_loss", &then("hang")));
    silent.send("b").await;
    standing.send("c").await;
    until("both arrive", || {
        (server.seen() == ["ac", "b"]).then_some(())
    })
    .await;
    counted(&rig, "response_loss", (2, 2)).await;
    standing.silent().await;
    rig.heal();
    assert_eq!(standing.rest().await, (String::new(), true));
    assert_eq!(silent.rest().await, (String::new(), true));
}

#[tokio::test]
async fn half_a_close_leaves_the_answer() {
    let server = Server::start(|mut c| async move {
        let mut all = Vec::new();
        c.socket.read_to_end(&mut all).await?;
        c.socket.write_all(&all).await
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(auto(&rig, server.addr).await).await;
    client.send("all of it").await;
    client.fin().await;
    assert_eq!(client.rest().await, ("all of it".to_owned(), true));
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("tcp", None, Class::Acknowledged));

    let (rig, server) = (Rig::new(), Server::http().await);
    let mut client = Client::connect(auto(&rig, server.addr).await).await;
    client.send(get("/half")).await;
    client.fin().await;
    assert!(client.rest().await.0.ends_with("GET /half HTTP/1.1"));
    let record = the_only(rig.closed(1).await);
    assert_eq!(said(&record), ("http", Some("/half"), Class::Acknowledged));
}

#[tokio::test]
async fn a_blackhole_lets_nothing_be_dialled_until_heal() {
    let (rig, server) = (Rig::new(), greeter().await);
    let addr = auto(&rig, server.addr).await;
    rig.apply(Change::AddPartition(partition(Mode::Blackhole, &[])));
    let mut silent = Client::connect(addr).await;
    let mut tcp = Client::connect(addr).await;
    tcp.send("x").await;
    let mut http = Client::connect(addr).await;
    http.send(get("/cut")).await;
    until("two are known", || (rig.records().len() == 2).then_some(())).await;
    silent.silent().await;
    assert!(server.seen().is_empty());
    rig.heal();
    silent.expect("220 ready\r\n").await;
    tcp.expect("220 ready\r\nx").await;
    until("it arrives", || {
        server.seen().contains(&get("/cut")).then_some(())
    })
    .await;
    drop((silent, tcp, http));
    let records = rig.closed(3).await;
    let cut = |r: &Record| r.faults.iter().filter(|f| &*f.kind == "partition").count();
    assert!(records.iter().all(|r| cut(r) == 1), "{records:?}");
    let http: Vec<_> = records
        .iter()
        .filter(|r| r.protocol == Protocol::Http)
        .collect();
    assert_eq!(http.len(), 1);
    let cuts = "firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}";
    assert_eq!(rig.metric(cuts), 3.0);

    // New ones are refused; what stands and is not known yet is reset.
    rig.apply(Change::PutPartition(partition(Mode::Refuse, &[])));
    let mut refused = Client::connect(addr).await;
    assert_eq!(refused.rest().await, (String::new(), false));
    rig.heal();
    let quiet = Server::echo().await;
    let mut edge = firedrill::rules::Edge::new("q", "127.0.0.1:0", &quiet.addr.to_string());
    (edge.protocol, edge.to) = (Protocol::Auto, "p".to_owned());
    let addr = rig
        .supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap();
    let mut standing = Client::connect(addr).await;
    connections(&quiet, 1).await;
    rig.apply(Change::PutPartition(partition(Mode::Reset, &[])));
    assert_eq!(standing.rest().await, (String::new(), false));
    let records = rig.closed(5).await;
    for record in &records[3..] {
        assert_eq!(said(record), ("tcp", None, Class::NeverDelivered));
        assert_eq!(record.cause, Cause::Partition("split".into()));
    }
}

#[tokio::test]
async fn to_stop_waits_for_none_that_is_silent() {
    let (rig, server) = (Rig::new(), Server::echo().await);
    let addr = auto(&rig, server.addr).await;
    let mut silent = Client::connect(addr).await;
    let mut begun = Client::connect(addr).await;
    begun.send("GE").await;
    connections(&server, 2).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let asked = Instant::now();
    rig.context.state.stop(Stopping::Draining);
    assert_eq!(silent.rest().await, (String::new(), true));
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(rig.records().is_empty());
    begun.silent().await;
    rig.context.state.stop(Stopping::Now);
    begun.rest().await;
    let record = the_only(rig.closed(1).await);
    assert_eq!(
        (record.protocol, record.cause),
        (Protocol::Tcp, Cause::Proxy)
    );
}

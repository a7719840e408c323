//! Conditions on connections: who dialled, the how-manieth, what was read of it, how old it is, and
//! which host its TLS client asks for. On connections made under the rule and on standing ones: what
//! both sides saw, the record, the counts.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Record};
use firedrill::faults::Arg;
use firedrill::operation::{Direction, Phase};
use firedrill::pipeline::Crossing;
use firedrill::protocol::client_hello::{self, Hello};
use firedrill::rules::{Edge, HostGlob, Matcher, Ordinals, Protocol, Rule, Subnet};
use support::process::{Process, program};
use support::raw::{Does, Ended, Watched};
use support::*;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};

/// A rule with conditions.
fn on(matcher: Matcher, rule: Rule) -> Rule {
    Rule { matcher, ..rule }
}

fn any() -> Matcher {
    Matcher::default()
}

fn clients(nets: &[&str]) -> Matcher {
    Matcher {
        clients: nets.iter().map(|net| Subnet::parse(net).unwrap()).collect(),
        ..any()
    }
}

fn connections(spans: &[&str]) -> Matcher {
    let span = |text: &&str| Ordinals::parse(text).unwrap();
    Matcher {
        connections: spans.iter().map(span).collect(),
        ..any()
    }
}

fn bytes(bytes: u64) -> Matcher {
    Matcher {
        bytes: Some(bytes),
        ..any()
    }
}

fn age(ms: u64) -> Matcher {
    Matcher {
        age: Some(Duration::from_millis(ms)),
        ..any()
    }
}

fn sni(glob: &str) -> Matcher {
    Matcher {
        sni: Some(HostGlob::new(glob)),
        ..any()
    }
}

/// What the client sends vanishes, for as long as the rule is on.
fn vanish() -> Rule {
    Rule {
        direction: Some(Direction::Upstream),
        ..rule("timeout", &[])
    }
}

/// The one line that a rule has in a record: when it acted, and whether it did.
fn line(record: &Record, rule: &str) -> Option<(Phase, bool)> {
    let mut lines = record.faults.iter().filter(|f| &*f.rule == rule);
    let line = lines.next().map(|f| (f.phase, f.injected));
    assert_eq!(lines.next(), None, "one line a rule");
    line
}

const ACTED: Option<(Phase, bool)> = Some((Phase::Stream, true));

/// Waits until a rule has selected and injected so often.
async fn counted(rig: &Rig, rule: &str, counts: (u64, u64)) {
    until(&format!("{rule} has {counts:?}"), || {
        (rig.counts(rule) == counts).then_some(())
    })
    .await;
}

async fn from(ip: &str, addr: SocketAddr) -> io::Result<Client> {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(ip.parse().unwrap(), 0))
        .unwrap();
    socket.connect(addr).await.map(Client)
}

/// A client whose connection is reset at once may not even learn that it was there.
async fn is_reset(connected: io::Result<Client>) {
    if let Ok(mut client) = connected {
        assert_eq!(client.rest().await, (String::new(), false));
    }
}

async fn echoes(client: &mut Client, text: &str) {
    client.send(text).await;
    client.expect(text).await;
}

#[tokio::test]
async fn only_clients_of_a_subnet() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut standing = from("127.0.0.2", addr).await.unwrap();
    let mut other = from("127.0.1.2", addr).await.unwrap();
    echoes(&mut standing, "a").await;
    echoes(&mut other, "b").await;
    let nets = ["10.0.0.0/8", "127.0.0.0/24"];
    rig.rule(on(clients(&nets), rule("reset", &[])));
    rig.rule(on(clients(&["127.0.2.1"]), rule("refuse", &[])));
    assert_eq!(standing.rest().await, (String::new(), false));
    is_reset(from("127.0.0.3", addr).await).await;
    is_reset(from("127.0.2.1", addr).await).await;
    let mut fine = from("127.0.2.2", addr).await.unwrap();
    echoes(&mut fine, "c").await;
    echoes(&mut other, "d").await;
    assert_eq!(rig.counts("reset"), (2, 2));
    assert_eq!(rig.counts("refuse"), (1, 1));
    drop((fine, other));
    let records = rig.closed(5).await;
    let lines: Vec<_> = records.iter().map(|r| line(r, "reset")).collect();
    assert_eq!(lines, [ACTED, None, ACTED, None, None]);
    assert_eq!(line(&records[3], "refuse"), Some((Phase::Connect, true)));
}

#[tokio::test]
async fn only_clients_of_a_subnet_on_http() {
    let rig = Rig::new();
    let addr = rig.http(Server::http().await.addr).await;
    rig.rule(on(clients(&["127.0.0.2"]), rule("abort", &[])));
    let mut meant = from("127.0.0.2", addr).await.unwrap();
    let mut other = from("127.0.0.3", addr).await.unwrap();
    for client in [&mut meant, &mut other] {
        client.send(get("/")).await;
    }
    assert!(meant.answer().await.starts_with("HTTP/1.1 503"));
    assert!(other.answer().await.starts_with("HTTP/1.1 200"));
    assert_eq!(rig.counts("abort"), (1, 1));
}

/// Whoever listens on `[::]` sees IPv4 clients as mapped.
#[tokio::test]
async fn a_mapped_client_is_an_ipv4_client() {
    let rig = Rig::new();
    rig.tcp(Server::nobody().await).await;
    rig.rule(on(clients(&["10.0.0.0/8"]), rule("delay", &latency(1))));
    let edge = Arc::new(Edge::new("p", "[::]:0", "h:1"));
    let crossing = Arc::new(Crossing::new(Arc::clone(&rig.context), edge));
    for (client, selected) in [
        ("[::ffff:10.1.2.3]:5", 1),
        ("[::ffff:11.1.2.3]:5", 1),
        ("10.1.2.3:5", 2),
        ("[::1]:5", 2),
    ] {
        let _ = crossing.session(client.parse().unwrap()).connection();
        assert_eq!(rig.counts("delay").0, selected, "{client}");
    }
}

#[tokio::test]
async fn only_the_nth_connections() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(on(connections(&["2", "4-5", "8-"]), rule("refuse", &[])));
    let mut met = Vec::new();
    for n in 1..=9 {
        let connected = from("127.0.0.1", addr).await;
        if [2, 4, 5, 8, 9].contains(&n) {
            is_reset(connected).await;
            met.push(n);
        } else {
            echoes(&mut connected.unwrap(), "x").await;
        }
        rig.closed(n).await;
    }
    assert_eq!(rig.counts("refuse"), (5, 5));
    let refused: Vec<_> = (1..)
        .zip(rig.closed(9).await)
        .filter(|(_, r)| r.cause == Cause::Rule("refuse".into()))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(refused, met);
}

/// Ordinals are the proxy's; `skip` and `limit` count what the rule matched.
#[tokio::test]
async fn the_nth_of_the_proxy_is_not_the_nth_of_the_rule() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut first = Client::connect(addr).await;
    echoes(&mut first, "x").await;
    let mut second = Client::connect(addr).await;
    echoes(&mut second, "x").await;
    let mut reset = on(connections(&["2-"]), rule("reset", &[]));
    (reset.skip, reset.limit) = (1, Some(1));
    rig.rule(reset);
    // The second is skipped, the third met, and then the limit is reached.
    echoes(&mut second, "y").await;
    is_reset(from("127.0.0.1", addr).await).await;
    let mut fourth = Client::connect(addr).await;
    for client in [&mut first, &mut second, &mut fourth] {
        echoes(client, "z").await;
    }
    assert_eq!(rig.counts("reset"), (1, 1));
}

#[tokio::test]
async fn only_requests_of_the_nth_connection() {
    let rig = Rig::new();
    let addr = rig.http(Server::http().await.addr).await;
    rig.rule(on(connections(&["2"]), rule("abort", &[])));
    for (n, status) in [(1, "200"), (2, "503"), (3, "200")] {
        let mut client = Client::connect(addr).await;
        for _ in 0..2 {
            client.send(get("/")).await;
            let answer = client.answer().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{n}");
        }
    }
    assert_eq!(rig.counts("abort"), (2, 2));
}

/// Both directions count, and what crosses the line still passes.
#[tokio::test]
async fn from_so_many_bytes_on() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(on(bytes(21), vanish()));
    let mut client = Client::connect(addr).await;
    echoes(&mut client, "0123456789").await;
    assert_eq!(rig.counts("timeout"), (0, 0), "20 were read");
    echoes(&mut client, "x").await;
    counted(&rig, "timeout", (1, 0)).await;
    client.send("lost").await;
    counted(&rig, "timeout", (1, 1)).await;
    assert_eq!(server.seen(), ["0123456789x"]);
    rig.heal();
    assert_eq!(client.rest().await, (String::new(), true));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(line(&record, "timeout"), ACTED);
    assert_eq!(record.cause, Cause::Rule("timeout".into()));
    assert_eq!((record.request.bytes, record.client.bytes), (15, 11));
}

/// Whichever of two comes first, for all clients but one; and only connections that were young when
/// the rule came.
#[tokio::test]
async fn nested_conditions_of_a_connection() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut old = from("127.0.0.1", addr).await.unwrap();
    echoes(&mut old, "0123456789").await;
    rig.rule(on(
        Matcher {
            any: vec![bytes(21), age(3_600_000)],
            all: vec![Matcher {
                not: Some(Box::new(clients(&["127.0.0.9"]))),
                ..any()
            }],
            not: Some(Box::new(bytes(10))),
            ..any()
        },
        rule("reset", &[]),
    ));
    let mut spared = from("127.0.0.9", addr).await.unwrap();
    echoes(&mut spared, "0123456789012345").await;
    // Younger than 10 bytes once 21 were read: no connection ever is.
    let mut never = from("127.0.0.1", addr).await.unwrap();
    echoes(&mut never, "0123456789012345").await;
    echoes(&mut old, "x").await;
    assert_eq!(rig.counts("reset"), (0, 0));
    rig.heal();
    let either = Matcher {
        any: vec![bytes(50), age(3_600_000)],
        not: Some(Box::new(clients(&["127.0.0.9"]))),
        ..any()
    };
    let mut reset = on(either, rule("reset", &[]));
    reset.name = "either".to_owned();
    rig.rule(reset);
    echoes(&mut spared, "0123456789012345").await;
    echoes(&mut never, "0123456789012345").await;
    assert_eq!(never.rest().await, (String::new(), false));
    echoes(&mut spared, "and on").await;
    echoes(&mut old, "and on").await;
    assert_eq!(rig.counts("either"), (1, 1));
}

#[tokio::test]
async fn bytes_that_were_read_before_the_rule_count_too() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut much = Client::connect(addr).await;
    echoes(&mut much, "0123456789").await;
    let mut little = Client::connect(addr).await;
    echoes(&mut little, "0").await;
    rig.rule(on(bytes(20), vanish()));
    much.send("lost").await;
    counted(&rig, "timeout", (1, 1)).await;
    echoes(&mut little, "123").await;
    assert_eq!(server.seen(), ["0123456789", "0123"]);
}

#[tokio::test]
async fn a_reset_after_so_many_bytes_waits_for_no_more() {
    let upstream = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(upstream.addr).await;
    let mut reset = on(bytes(15), rule("reset", &[]));
    reset.skip = 1;
    rig.rule(reset);
    for n in 0..3 {
        let mut client = Client::connect(addr).await;
        echoes(&mut client, "0123456789").await;
        if n == 0 {
            echoes(&mut client, "skipped").await;
            continue;
        }
        assert_eq!(client.rest().await, (String::new(), false));
        let saw = upstream.ended(n).await;
        assert_eq!((saw.bytes.len(), saw.ended), (10, Some(Ended::Fin)));
    }
    assert_eq!(rig.counts("reset"), (2, 2));
    let records = rig.closed(3).await;
    let lines: Vec<_> = records.iter().map(|r| line(r, "reset")).collect();
    assert_eq!(lines, [None, ACTED, ACTED]);
}

/// Bytes that nobody looks at on their way are counted too, and no later than others.
#[tokio::test]
async fn bulk_does_not_run_past_the_line() {
    // Far behind all that sockets hold.
    const LINE: usize = 16 << 20;
    let upstream = Watched::start(Does::Pour).await;
    let rig = Rig::new();
    let addr = rig.tcp(upstream.addr).await;
    let mut bulk = Client::connect(addr).await;
    bulk.send("x").await;
    bulk.expect_stream(0, 1 << 20).await;
    let mut down = rule("timeout", &[]);
    down.direction = Some(Direction::Downstream);
    rig.rule(on(bytes(LINE as u64), down));
    let mut fresh = Client::connect(addr).await;
    fresh.send("x").await;
    for (client, from) in [(&mut fresh, 0), (&mut bulk, 1 << 20)] {
        for at in (from..LINE).step_by(1 << 20) {
            // One byte of the line was the client's.
            let len = (1 << 20).min(LINE - 1 - at);
            client.expect_stream(at, len).await;
        }
        let mut rest = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let quiet = Duration::from_millis(300);
        while let Ok(n) = tokio::time::timeout(quiet, client.0.read(&mut buffer)).await {
            rest.extend_from_slice(&buffer[..n.unwrap()]);
            assert!(rest.len() <= 64 << 10, "one read: {}", rest.len());
        }
        raw::check(LINE - 1, &rest);
    }
    assert_eq!(rig.counts("timeout"), (2, 2));
}

#[tokio::test]
async fn requests_after_so_many_bytes() {
    let rig = Rig::new();
    let addr = rig.http(Server::http().await.addr).await;
    let mut probe = Client::connect(addr).await;
    probe.send(get("/")).await;
    let one = (get("/").len() + probe.answer().await.len()) as u64;
    for (line, statuses) in [
        (one, ["200", "503", "503"]),
        (one + 1, ["200", "200", "503"]),
    ] {
        rig.rule(on(bytes(line), rule("abort", &[])));
        let mut client = Client::connect(addr).await;
        for status in statuses {
            client.send(get("/")).await;
            let answer = client.answer().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}");
        }
        // The rule came later than the connection.
        probe.send(get("/")).await;
        let met = probe.answer().await.starts_with("HTTP/1.1 503");
        assert!(met || line > one, "{line}");
        rig.apply(firedrill::state::Change::RemoveRule("abort".to_owned()));
    }
}

/// What stands before a head counts, however much was read at once.
#[tokio::test]
async fn a_pipelined_request_comes_after_those_before_it() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(on(bytes(get("/a").len() as u64), rule("abort", &[])));
    let mut client = Client::connect(addr).await;
    client.send(get("/a") + &get("/b")).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 200"));
    assert!(client.answer().await.starts_with("HTTP/1.1 503"));
    assert_eq!(
        (server.requests("GET /a"), server.requests("GET /b")),
        (1, 0)
    );
    assert_eq!(rig.counts("abort"), (1, 1));
}

#[tokio::test]
async fn an_idle_connection_is_reset_when_it_is_old_enough() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut standing = Client::connect(addr).await;
    echoes(&mut standing, "x").await;
    let began = Instant::now();
    let mut reset = on(age(400), rule("reset", &[]));
    reset.limit = Some(2);
    rig.rule(reset);
    let made = Instant::now();
    let mut new = Client::connect(addr).await;
    echoes(&mut new, "y").await;
    assert_eq!(standing.rest().await, (String::new(), false));
    let waited = began.elapsed();
    assert_eq!(new.rest().await, (String::new(), false));
    assert!(made.elapsed() >= Duration::from_millis(400), "never early");
    assert!(
        waited < Duration::from_secs(5),
        "no byte woke it: {waited:?}"
    );
    // The limit leaves the third alone at its time.
    let mut third = Client::connect(addr).await;
    third.silent_for(Duration::from_millis(500)).await;
    echoes(&mut third, "z").await;
    assert_eq!(rig.counts("reset"), (2, 2));
    drop(third);
    let records = rig.closed(3).await;
    let lines: Vec<_> = records.iter().map(|r| line(r, "reset")).collect();
    assert_eq!(lines, [ACTED, ACTED, None]);
    assert_eq!(records[0].cause, Cause::None, "it had been told everything");
}

#[tokio::test]
async fn a_connection_that_is_old_already_is_met_at_once() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut old = Client::connect(addr).await;
    echoes(&mut old, "x").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.rule(on(age(50), rule("reset", &[])));
    assert_eq!(old.rest().await, (String::new(), false));
}

#[tokio::test]
async fn bytes_of_a_connection_that_is_old_enough() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let made = Instant::now();
    let mut client = Client::connect(addr).await;
    let mut matcher = age(300);
    matcher.bytes = Some(2);
    rig.rule(on(matcher, vanish()));
    echoes(&mut client, "x").await;
    let selected = rig.counts("timeout").0 > 0;
    assert!(
        !selected || made.elapsed() >= Duration::from_millis(300),
        "bytes alone are not enough"
    );
    counted(&rig, "timeout", (1, 0)).await;
    client.send("lost").await;
    counted(&rig, "timeout", (1, 1)).await;
    assert_eq!(server.seen(), ["x"]);

    let mut young = Client::connect(addr).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(rig.counts("timeout"), (1, 1), "nor is time alone");
    echoes(&mut young, "x").await;
    counted(&rig, "timeout", (2, 1)).await;
}

#[tokio::test]
async fn requests_of_a_connection_that_is_old_enough() {
    let rig = Rig::new();
    let addr = rig.http(Server::http().await.addr).await;
    rig.rule(on(age(300), rule("abort", &[])));
    let began = Instant::now();
    let mut client = Client::connect(addr).await;
    let mut fine = 0;
    loop {
        client.send(get("/")).await;
        if client.answer().await.starts_with("HTTP/1.1 503") {
            break;
        }
        fine += 1;
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fine > 0 && began.elapsed() >= Duration::from_millis(300));
    let made = Instant::now();
    let mut young = Client::connect(addr).await;
    young.send(get("/")).await;
    let spared = young.answer().await.starts_with("HTTP/1.1 200");
    assert!(spared || made.elapsed() >= Duration::from_millis(300));
}

/// A rule that is lifted before its time leaves nobody waiting for it.
#[tokio::test]
async fn what_is_lifted_does_not_come_due() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(on(age(1000), rule("reset", &[])));
    let mut client = Client::connect(addr).await;
    echoes(&mut client, "x").await;
    rig.heal();
    client.silent_for(Duration::from_millis(1100)).await;
    echoes(&mut client, "y").await;
    assert_eq!(rig.counts("reset"), (0, 0));
}

#[tokio::test]
async fn a_dry_run_says_when_it_would_have_acted() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut dry = on(bytes(2), rule("reset", &[]));
    dry.dry_run = true;
    rig.rule(dry);
    let mut client = Client::connect(addr).await;
    echoes(&mut client, "x").await;
    echoes(&mut client, "y").await;
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(line(&record, "reset"), Some((Phase::Stream, false)));
    assert_eq!(rig.counts("reset"), (1, 0));
}

/// The first bytes that a real TLS client sends.
async fn client_hello(args: &[&str]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut openssl = program("openssl", "openssl");
    openssl.args(["s_client", "-connect", &addr]).args(args);
    let _client = Process::spawn(openssl.stdout(Stdio::null()));
    let (mut socket, _) = soon("it dials", listener.accept()).await.unwrap();
    let mut head = [0; 5];
    soon("a record's head", socket.read_exact(&mut head))
        .await
        .unwrap();
    let mut rest = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
    soon("a record", socket.read_exact(&mut rest))
        .await
        .unwrap();
    [&head[..], &rest].concat()
}

async fn hello_to(host: &str) -> Vec<u8> {
    client_hello(&["-servername", host]).await
}

#[tokio::test]
async fn a_real_client_hello_names_its_host() {
    for version in ["-tls1_2", "-tls1_3"] {
        let hello = client_hello(&[version, "-servername", "Pay.Example.com"]).await;
        let named = Hello::Named("pay.example.com".into());
        assert_eq!(client_hello::read(&hello), named, "{version}");
        for len in 0..hello.len() {
            assert_eq!(client_hello::read(&hello[..len]), Hello::More, "{len}");
        }
        let nameless = client_hello(&[version, "-noservername"]).await;
        assert_eq!(client_hello::read(&nameless), Hello::Nameless, "{version}");
    }
}

/// A ClientHello of the same bytes, in records of `len` bytes.
fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&hello[..3], &(part.len() as u16).to_be_bytes(), part].concat();
    hello[5..].chunks(len).flat_map(record).collect()
}

#[tokio::test]
async fn only_tls_clients_that_ask_for_a_host() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(on(sni("*.EXAMPLE.com"), rule("reset", &[])));
    let asked = hello_to("pay.example.com").await;
    for hello in [asked.clone(), in_records(&asked, 100)] {
        let mut client = Client::connect(addr).await;
        client.send(&hello).await;
        assert_eq!(client.rest().await, (String::new(), false));
    }
    let records = rig.closed(2).await;
    for record in &records {
        assert_eq!(
            record.class,
            Class::NeverDelivered,
            "not even the ClientHello"
        );
        assert_eq!(record.cause, Cause::Rule("reset".into()));
        assert_eq!(line(record, "reset"), ACTED);
    }
    assert!(server.seen().concat().is_empty());
    assert_eq!(rig.counts("reset"), (2, 2));

    let other = hello_to("pay.example.org").await;
    let nameless = client_hello(&["-noservername"]).await;
    for fine in [
        &other[..],
        &nameless,
        b"GET / HTTP/1.1\r\n\r\n",
        &asked[1..],
    ] {
        let mut client = Client::connect(addr).await;
        client.send(fine).await;
        let mut got = vec![0; fine.len()];
        soon("the echo", client.0.read_exact(&mut got))
            .await
            .unwrap();
        assert!(got == fine);
    }
    assert_eq!(rig.counts("reset"), (2, 2));
}

/// No byte of a ClientHello is held back; the rule acts with the one that completes it.
#[tokio::test]
async fn a_client_hello_in_pieces() {
    let hello = hello_to("pay.example.com").await;
    let (first, rest) = hello.split_at(hello.len() / 2);
    let crumbs = in_records(&hello, 1);
    for pieces in [
        vec![first, rest],
        hello.chunks(1).collect(),
        crumbs.chunks(100).collect(),
    ] {
        let server = Server::echo().await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        rig.rule(on(sni("pay.example.com"), vanish()));
        let mut client = Client::connect(addr).await;
        let (last, before) = pieces.split_last().unwrap();
        for piece in before {
            assert_eq!(rig.counts("timeout"), (0, 0));
            client.send(piece).await;
            let mut back = vec![0; piece.len()];
            soon("the piece has passed", client.0.read_exact(&mut back))
                .await
                .unwrap();
            assert!(back == **piece);
        }
        client.send(last).await;
        counted(&rig, "timeout", (1, 1)).await;
        client.silent().await;
        rig.heal();
        assert_eq!(client.rest().await, (String::new(), true));
        let record = rig.closed(1).await.remove(0);
        assert_eq!(line(&record, "timeout"), ACTED);
        let passed: usize = before.iter().map(|piece| piece.len()).sum();
        assert_eq!(record.upstream[0].bytes, passed as u64);
    }
}

/// The host is learned whether or not a rule asks for it.
#[tokio::test]
async fn a_rule_that_comes_later_knows_the_host() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut standing = Vec::new();
    for host in ["a.example", "b.example", "c.example"] {
        let hello = hello_to(host).await;
        // Of the last one only the beginning has come.
        let part = if host == "c.example" { 50 } else { hello.len() };
        let mut client = Client::connect(addr).await;
        client.send(&hello[..part]).await;
        let mut back = vec![0; part];
        soon("the echo", client.0.read_exact(&mut back))
            .await
            .unwrap();
        standing.push((client, hello));
    }
    let meant = |name: &str, glob: &str, rule: Rule| Rule {
        name: name.to_owned(),
        ..on(sni(glob), rule)
    };
    rig.rule(meant("first", "A.*", rule("reset", &[])));
    rig.rule(meant("last", "C.*", vanish()));
    let [(a, _), (b, _), (c, hello)] = &mut standing[..] else {
        panic!("three");
    };
    assert_eq!(a.rest().await, (String::new(), false));
    echoes(b, "x").await;
    assert_eq!(rig.counts("last"), (0, 0));
    c.send(&hello[50..]).await;
    counted(&rig, "last", (1, 1)).await;
    assert_eq!(server.seen()[2], String::from_utf8_lossy(&hello[..50]));
    assert_eq!(rig.counts("first"), (1, 1));
}

/// `skip` and `limit` count the connections of which the host is known to be meant.
#[tokio::test]
async fn a_schedule_follows_when_the_host_is_known() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut reset = on(sni("a.example"), rule("reset", &[]));
    (reset.skip, reset.limit) = (1, Some(1));
    rig.rule(reset);
    let (meant, other) = (hello_to("a.example").await, hello_to("b.example").await);
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(addr).await);
    }
    // The last to connect is the first to say what it wants, and is skipped.
    let said = [
        (3, &meant, true),
        (2, &other, true),
        (1, &meant, false),
        (0, &meant, true),
    ];
    for (n, hello, passes) in said {
        let client = &mut clients[n];
        client.send(hello).await;
        if passes {
            let mut back = vec![0; hello.len()];
            soon("the echo", client.0.read_exact(&mut back))
                .await
                .unwrap();
        } else {
            assert_eq!(client.rest().await, (String::new(), false), "{n}");
        }
    }
    assert_eq!(rig.counts("reset"), (1, 1));
}

/// A reset of the upstream waits until there is one.
#[tokio::test]
async fn the_upstream_is_reset_before_it_sees_the_client_hello() {
    let upstream = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(upstream.addr).await;
    rig.rule(on(
        sni("a.example"),
        rule("reset", &[("side", Arg::Choice("upstream"))]),
    ));
    let hello = hello_to("a.example").await;
    for n in 0..20 {
        let mut client = Client::connect(addr).await;
        client.send(&hello).await;
        assert_eq!(client.rest().await, (String::new(), true));
        let saw = upstream.ended(n).await;
        assert_eq!((saw.bytes.len(), saw.ended), (0, Some(Ended::Rst)));
    }
    assert_eq!(rig.counts("reset"), (20, 20));
}

/// A condition that can't hold on a proxy leaves its connections to the kernel.
#[tokio::test]
async fn conditions_of_another_protocol_are_false() {
    let server = Server::http().await;
    let rig = Rig::new();
    let tcp = rig.proxy("p", server.addr, Protocol::Tcp).await;
    let http = rig.proxy("h", server.addr, Protocol::Http).await;
    rig.rule(on(sni("*"), rule("delay", &latency(1))));
    let mut path = on(any(), rule("delay", &latency(1)));
    path.name = "path".to_owned();
    path.matcher.methods = vec!["GET".to_owned()];
    rig.rule(path);
    let mut late = on(bytes(1), rule("drop", &[]));
    late.proxies = Some(vec!["p".to_owned()]);
    rig.rule(late);
    for addr in [tcp, http] {
        let mut client = Client::connect(addr).await;
        client.send(get("/")).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(rig.counts("delay"), (0, 0));
    assert_eq!(rig.counts("path").0, 1);
    assert_eq!(rig.counts("drop"), (0, 0));
}

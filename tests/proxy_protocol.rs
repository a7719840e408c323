//! The PROXY protocol: whom a connection is for, read from whoever connects and told to the upstream.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome};
use firedrill::faults::Arg;
use firedrill::protocol::proxy_header::{Ends, v1, v2};
use firedrill::rules::{Edge, Matcher, Mode, Protocol, ProxyProtocol, Subnet, Version};
use firedrill::state::{Change, Source};
use support::pki::{Pki, shake};
use support::process::{output, program};
use support::programs::text;
use support::{Client, Rig, Server, get, partition, post, rule, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ACCEPT: ProxyProtocol = ProxyProtocol {
    accept: true,
    send: None,
};

async fn start(
    rig: &Rig,
    upstream: SocketAddr,
    protocol: Protocol,
    spoken: ProxyProtocol,
) -> SocketAddr {
    let mut edge = Edge::new("p", "127.0.0.1:0", &upstream.to_string());
    edge.protocol = protocol;
    edge.proxy_protocol = spoken;
    rig.supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap()
}

fn someone() -> Ends {
    Ends {
        from: "192.0.2.7:56324".parse().unwrap(),
        to: "198.51.100.1:443".parse().unwrap(),
    }
}

/// The rule acts on the client that headers name.
fn only_someone(kind: &str, args: &[(&'static str, Arg)]) -> firedrill::rules::Rule {
    let mut rule = rule(kind, args);
    rule.matcher = Matcher {
        clients: vec![Subnet::parse("192.0.2.0/24").unwrap()],
        ..Matcher::default()
    };
    rule
}

#[tokio::test]
async fn the_client_is_the_one_that_the_header_names() {
    for protocol in [Protocol::Tcp, Protocol::Http] {
        for header in [v1(someone()), v2(someone())] {
            let rig = Rig::new();
            let upstream = Server::http().await;
            let proxy = start(&rig, upstream.addr, protocol, ACCEPT).await;
            let status = Arg::Count(418);
            match protocol {
                Protocol::Tcp => rig.rule(only_someone("reset", &[])),
                _ => rig.rule(only_someone("abort", &[("status", status)])),
            }
            // Everything at once, and byte by byte.
            let mut named = Client::connect(proxy).await;
            named
                .send([&header[..], get("/named").as_bytes()].concat())
                .await;
            match protocol {
                Protocol::Tcp => assert_eq!(named.rest().await, (String::new(), false)),
                _ => assert!(named.answer().await.starts_with("HTTP/1.1 418")),
            }
            rig.off(if protocol == Protocol::Tcp {
                "reset"
            } else {
                "abort"
            });
            let mut slowly = Client::connect(proxy).await;
            for byte in &header {
                slowly.send([*byte]).await;
            }
            slowly.send(get("/slowly")).await;
            assert!(slowly.answer().await.contains("GET /slowly"));
            assert!(
                !upstream.seen().concat().contains("PROXY"),
                "it is the proxy's"
            );
            drop((named, slowly));
            rig.closed(2).await;
        }
    }
}

#[tokio::test]
async fn a_connection_of_its_own_sender_keeps_its_address() {
    for header in [
        "PROXY UNKNOWN\r\n".as_bytes(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        let rig = Rig::new();
        let upstream = Server::echo().await;
        let proxy = start(&rig, upstream.addr, Protocol::Tcp, ACCEPT).await;
        let mut reset = rule("reset", &[]);
        reset.matcher.clients = vec![Subnet::parse("127.0.0.1").unwrap()];
        rig.rule(reset);
        let mut client = Client::connect(proxy).await;
        client.send(header).await;
        assert_eq!(client.rest().await, (String::new(), false));
        rig.closed(1).await;
        assert_eq!(rig.counts("reset"), (1, 1));
    }
}

#[tokio::test]
async fn who_brings_no_header_is_closed_and_recorded() {
    for protocol in [Protocol::Tcp, Protocol::Http] {
        let rig = Rig::new();
        let upstream = Server::http().await;
        let proxy = start(&rig, upstream.addr, protocol, ACCEPT).await;
        let mut records = 0;
        for bytes in [
            &get("/")[..],
            "PROXY TCP4 nonsense\r\n",
            "PROXY TCP4 1.2.3.4",
        ] {
            let mut client = Client::connect(proxy).await;
            client.send(bytes).await;
            client.fin().await;
            // What it sent is not read: the system may say so with a RST.
            assert_eq!(client.rest().await.0, "");
            records += 1;
            let all = rig.closed(records).await;
            let record = all.last().unwrap();
            assert_eq!(record.class, Class::NeverDelivered, "{bytes}");
            assert_eq!(record.cause, Cause::Client);
            let left = bytes.ends_with("1.2.3.4");
            let outcome = if left { Outcome::Left } else { Outcome::Closed };
            assert_eq!(record.client.outcome, outcome, "{bytes}");
        }
        // One who is too slow, within the rig's two seconds.
        let mut slow = Client::connect(proxy).await;
        slow.send("PROXY ").await;
        let begun = Instant::now();
        assert_eq!(slow.rest().await.0, "");
        assert!(begun.elapsed() > Duration::from_secs(1));
        rig.closed(records + 1).await;
        assert_eq!(upstream.seen().len(), 0);
        rig.quiet().await;
    }
}

#[tokio::test]
async fn the_upstream_is_told_before_all_else() {
    for version in [Version::V1, Version::V2] {
        for protocol in [Protocol::Tcp, Protocol::Http] {
            for accept in [false, true] {
                let rig = Rig::new();
                let upstream = Server::start(|mut c| async move {
                    let mut buffer = [0; 4096];
                    while c.read(&mut buffer).await? > 0 {}
                    Ok(())
                })
                .await;
                let send = Some(version);
                let spoken = ProxyProtocol { accept, send };
                let proxy = start(&rig, upstream.addr, protocol, spoken).await;
                rig.rule(rule("duplicate", &[]));
                let mut client = Client::connect(proxy).await;
                let ends = match accept {
                    true => someone(),
                    false => Ends {
                        from: client.0.local_addr().unwrap(),
                        to: proxy,
                    },
                };
                if accept {
                    client.send(v2(someone())).await;
                }
                client.send(post("/pay", "k", "body")).await;
                let header = match version {
                    Version::V1 => v1(ends),
                    Version::V2 => v2(ends),
                };
                let expected = String::from_utf8_lossy(&header).into_owned();
                let expected = expected + &post("/pay", "k", "body");
                // The first and the copy.
                until("both deliveries", || {
                    (upstream.seen() == [expected.clone(), expected.clone()]).then_some(())
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn headers_come_before_tls_on_both_sides() {
    let (rig, pki) = (Rig::new(), Pki::make());
    let inner = Server::http().await;
    // A second proxy is the upstream: it needs the header, then TLS.
    let mut edge = pki.edge(
        inner.addr,
        "protocol: http, tls: { terminate: { cert: site.pem, key: site.key } }, proxy_protocol: { accept: true }",
    );
    (edge.name, edge.to) = ("inner".to_owned(), "inner".to_owned());
    let second = rig
        .supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap();
    let edge = pki.edge(
        second,
        "protocol: http, tls: { terminate: { ca: ca }, originate: { ca: trust.pem, server_name: site.example } }, proxy_protocol: { accept: true, send: v1 }",
    );
    let first = rig
        .supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap();
    let mut only = only_someone("abort", &[("status", Arg::Count(418))]);
    only.proxies = Some(vec!["inner".to_owned()]);
    rig.rule(only);

    let client = pki.client("ca/ca.pem", false, &["http/1.1"]);
    let mut socket = tokio::net::TcpStream::connect(first).await.unwrap();
    socket.write_all(&v1(someone())).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client.clone());
    let name = "a.example".try_into().unwrap();
    let mut stream = connector.connect(name, socket).await.unwrap();
    stream.write_all(get("/").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 418", "the second knows the client");
    // Without it there is no handshake.
    assert!(shake(&client, first, "a.example").await.is_err());
}

#[tokio::test]
async fn a_partition_and_connection_faults_wait_for_the_header() {
    let rig = Rig::new();
    let upstream = Server::echo().await;
    let proxy = start(&rig, upstream.addr, Protocol::Tcp, ACCEPT).await;
    rig.rule(only_someone("refuse", &[]));
    let mut client = Client::connect(proxy).await;
    client.send(v2(someone())).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let records = rig.closed(1).await;
    assert_eq!(records[0].cause, Cause::Rule("refuse".into()));
    rig.off("refuse");

    rig.apply(Change::AddPartition(partition(Mode::Blackhole, &[])));
    let mut client = Client::connect(proxy).await;
    client.send(v1(someone())).await;
    client.send("hello").await;
    client.silent_for(Duration::from_millis(300)).await;
    assert_eq!(upstream.seen().len(), 0);
    rig.heal();
    client.expect("hello").await;
}

#[tokio::test]
async fn curl_brings_a_header() {
    let rig = Rig::new();
    let upstream = Server::http().await;
    let proxy = start(&rig, upstream.addr, Protocol::Http, ACCEPT).await;
    let mut curl = program("curl", "curl");
    curl.args(["-s", "--haproxy-protocol", &format!("http://{proxy}/curl")]);
    assert_eq!(text(&output(curl).await), "you said GET /curl HTTP/1.1");
    let mut curl = program("curl", "curl");
    curl.args(["-s", &format!("http://{proxy}/curl")]);
    assert!(!output(curl).await.status.success());
    let records = rig.closed(2).await;
    assert_eq!(records[0].class, Class::Acknowledged);
    assert_eq!(records[1].class, Class::NeverDelivered);
}

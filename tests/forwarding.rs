//! What a proxy's definition changes in every request: the host that the upstream is asked for, and
//! the fields that tell it who asks.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use firedrill::faults::Arg;
use firedrill::protocol::proxy_header::{Ends, v1};
use firedrill::rules::{Edge, Forwarded, Protocol};
use firedrill::state::Source;
use support::pki::{Pki, shake};
use support::{Client, Rig, Server, rule, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn edge(upstream: &Server) -> Edge {
    let mut edge = Edge::new("p", "127.0.0.1:0", &upstream.addr.to_string());
    edge.protocol = Protocol::Http;
    edge.upstream_host = Some("payment.internal".to_owned());
    edge.forwarded = Forwarded {
        x_forwarded: true,
        forwarded: true,
    };
    edge
}

const REQUEST: &str = "POST /pay HTTP/1.1\r\nhost: shop.example\r\nX-Odd:   kept as it is \r\nContent-Length: 4\r\n\r\nbody";

/// What becomes of [`REQUEST`].
fn expected(client: &str, scheme: &str) -> String {
    format!(
        "POST /pay HTTP/1.1\r\nHost: payment.internal\r\nX-Odd:   kept as it is \r\nContent-Length: 4\r\n\
         X-Forwarded-For: {client}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: shop.example\r\n\
         Forwarded: for={client};host=\"shop.example\";proto={scheme}\r\n\r\nbody"
    )
}

#[tokio::test]
async fn every_request_is_changed_and_nothing_else_of_it() {
    let rig = Rig::new();
    let upstream = Server::http().await;
    let proxy = rig.supervisor.start(edge(&upstream), Source::File);
    let mut client = Client::connect(proxy.await.unwrap().unwrap()).await;
    client.send(REQUEST.repeat(3)).await;
    for _ in 0..3 {
        assert!(client.answer().await.contains("you said POST /pay"));
    }
    assert_eq!(upstream.seen(), [expected("127.0.0.1", "http").repeat(3)]);
    drop(client);
    let records = rig.closed(3).await;
    // What the client sent is what its record says.
    assert!(
        records
            .iter()
            .all(|r| r.request.bytes == REQUEST.len() as u64)
    );
}

#[tokio::test]
async fn copies_and_what_rules_rewrite_are_changed_too() {
    let rig = Rig::new();
    let upstream = Server::http().await;
    let proxy = rig.supervisor.start(edge(&upstream), Source::File);
    let proxy = proxy.await.unwrap().unwrap();
    rig.rule(rule("duplicate", &[]));
    let headers = vec![("X-Odd".to_owned(), "by a rule".to_owned())];
    let mut rewrite = rule("rewrite", &[("set_headers", Arg::Map(headers))]);
    rewrite.direction = Some(firedrill::operation::Direction::Upstream);
    rig.rule(rewrite);
    let mut client = Client::connect(proxy).await;
    client.send(REQUEST).await;
    client.answer().await;
    let expected = expected("127.0.0.1", "http").replace("  kept as it is ", "by a rule");
    until("both deliveries", || {
        let seen = upstream.seen();
        (seen.len() == 2 && seen.iter().all(|s| s.len() == expected.len())).then_some(())
    })
    .await;
    assert_eq!(upstream.seen(), [expected.clone(), expected]);
}

#[tokio::test]
async fn the_client_may_be_named_by_a_header_and_speak_tls() {
    let (rig, pki) = (Rig::new(), Pki::make());
    let upstream = Server::http().await;
    let mut edge = edge(&upstream);
    let other = pki.edge(
        upstream.addr,
        "tls: { terminate: { ca: ca } }, proxy_protocol: { accept: true }",
    );
    (edge.tls, edge.proxy_protocol) = (other.tls, other.proxy_protocol);
    let proxy = rig
        .supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap();
    let mut socket = tokio::net::TcpStream::connect(proxy).await.unwrap();
    let ends = Ends {
        from: "192.0.2.7:1".parse().unwrap(),
        to: "192.0.2.1:443".parse().unwrap(),
    };
    socket.write_all(&v1(ends)).await.unwrap();
    let config = pki.client("ca/ca.pem", false, &[]);
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let name = "shop.example".try_into().unwrap();
    let mut client = connector.connect(name, socket).await.unwrap();
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    client.read_u8().await.unwrap();
    assert_eq!(upstream.seen(), [expected("192.0.2.7", "https")]);
    assert!(
        shake(&config, proxy, "shop.example").await.is_err(),
        "without the header"
    );
}

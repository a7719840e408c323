//! TLS with clients, with the upstream, and with both: what passes, who is let in, what is agreed,
//! how each fault of a handshake looks to the client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use firedrill::evidence::{Cause, Class, Outcome, Record};
use firedrill::faults::Arg;
use firedrill::rules::{HostGlob, Matcher, Mode, Protocol};
use firedrill::state::{Change, Source};
use support::pki::{Greeted, Pki, shake};
use support::process::{Firedrill, firedrill, output, program};
use support::programs::{noise, text};
use support::{Client, Rig, Server, get, partition, rule, soon, until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server;

/// The upstream's own certificate is verified, as `site.example`.
const ORIGINATE: &str = "originate: { ca: trust.pem, server_name: site.example }";
const OWN: &str = "terminate: { cert: site.pem, key: site.key }";
const MINTED: &str = "terminate: { ca: ca }";

async fn start(rig: &Rig, pki: &Pki, upstream: SocketAddr, keys: &str) -> SocketAddr {
    let edge = pki.edge(upstream, keys);
    rig.supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap()
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
        stream.flush().await?;
    }
}

/// Answers requests (without bodies) with a body of their first line.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return stream.shutdown().await;
        }
        while let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..end + 4).collect();
            let line = String::from_utf8_lossy(&head);
            let line = line.lines().next().unwrap_or_default();
            let len = line.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{line}");
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

/// Sends all of it, half-closes, and reads what comes until the end.
async fn round_trip(stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        write.write_all(bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let reading = async {
        read.read_to_end(&mut back).await.unwrap();
    };
    soon("a round trip", async { tokio::join!(sending, reading) }).await;
    back
}

fn the_only(records: Vec<Record>) -> Record {
    let [record] = <[Record; 1]>::try_from(records).unwrap();
    record
}

/// Why a handshake failed, as rustls says.
fn why<T>(shaken: io::Result<T>) -> String {
    shaken.err().expect("it should fail").to_string()
}

#[tokio::test]
async fn bytes_pass_whoever_speaks_tls_and_so_does_half_a_close() {
    let pki = Pki::make();
    let bytes = noise(6_000_000);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for (terminate, originate) in [(true, false), (false, true), (true, true)] {
            let rig = Rig::new();
            let plain = Server::echo().await;
            let within = pki.upstream(false, &[], echo).await;
            let upstream = if originate { within.addr() } else { plain.addr };
            let keys: Vec<_> = [(terminate, OWN), (originate, ORIGINATE)]
                .iter()
                .filter(|(said, _)| *said)
                .map(|(_, keys)| *keys)
                .collect();
            let keys = format!("tls: {{ {} }}", keys.join(", "));
            let proxy = start(&rig, &pki, upstream, &keys).await;
            let back = if terminate {
                let config = pki.client_of(versions, "trust.pem", false, &[]);
                round_trip(shake(&config, proxy, "site.example").await.unwrap(), &bytes).await
            } else {
                round_trip(Client::connect(proxy).await.0, &bytes).await
            };
            assert!(back == bytes, "{keys}: {} bytes came back", back.len());
            let record = the_only(rig.closed(1).await);
            assert_eq!(
                (record.class, record.cause),
                (Class::Acknowledged, Cause::None),
                "{keys}"
            );
            assert_eq!(record.request.bytes, 6_000_000);
            assert_eq!(record.client.bytes, 6_000_000);
            assert_eq!(record.upstream[0].error, None);
            rig.quiet().await;
        }
    }
}

#[tokio::test]
async fn requests_pass_whoever_speaks_tls() {
    let pki = Pki::make();
    let rig = Rig::new();
    let upstream = pki.upstream(false, &["http/1.1"], answer).await;
    let keys = format!("protocol: http, tls: {{ {OWN}, {ORIGINATE} }}");
    let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
    let config = pki.client("trust.pem", false, &["h2", "http/1.1"]);
    let client = shake(&config, proxy, "site.example").await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let requests = [get("/a"), get("/b"), get("/c")].concat();
    let back = round_trip(client, requests.as_bytes()).await;
    let back = String::from_utf8(back).unwrap();
    for path in ["/a", "/b", "/c"] {
        assert!(back.contains(&format!("GET {path} HTTP/1.1")), "{back}");
    }
    let records = rig.closed(3).await;
    assert!(
        records.iter().all(|r| r.class == Class::Acknowledged),
        "{records:?}"
    );
    let expected = Greeted {
        host: Some("site.example".to_owned()),
        alpn: Some("http/1.1".to_owned()),
        shown: false,
    };
    assert_eq!(
        upstream.greeted(),
        [expected],
        "one connection for all of them"
    );
}

#[tokio::test]
async fn certificates_are_minted_for_whom_clients_ask_for() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::echo().await;
    let proxy = start(&rig, &pki, upstream.addr, &format!("tls: {{ {MINTED} }}")).await;
    let mut shown = Vec::new();
    for name in ["a.example", "b.example", "a.example", "127.0.0.1"] {
        // A new one each time: none is known from before.
        let config = pki.client("ca/ca.pem", false, &[]);
        let client = shake(&config, proxy, name).await.unwrap();
        shown.push(client.get_ref().1.peer_certificates().unwrap()[0].clone());
        assert_eq!(round_trip(client, b"hello").await, b"hello");
    }
    assert_eq!(shown[0], shown[2], "minted once");
    assert_ne!(shown[0], shown[1]);
    let stranger = pki.client("trust.pem", false, &[]);
    let refused = why(shake(&stranger, proxy, "a.example").await);
    assert_eq!(refused, "invalid peer certificate: UnknownIssuer");
}

#[tokio::test]
async fn clients_without_a_certificate_are_refused_where_one_is_needed() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::echo().await;
    let keys = "tls: { terminate: { ca: ca, client_ca: trust.pem } }";
    let proxy = start(&rig, &pki, upstream.addr, keys).await;
    let known = pki.client("ca/ca.pem", true, &[]);
    let client = shake(&known, proxy, "a.example").await.unwrap();
    assert_eq!(round_trip(client, b"hello").await, b"hello");
    rig.closed(1).await;

    let unknown = pki.client("ca/ca.pem", false, &[]);
    let refused = match shake(&unknown, proxy, "a.example").await {
        // With TLS 1.3 it learns of it with its first read.
        Ok(mut client) => client.read_u8().await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(refused, "received fatal alert: CertificateRequired");
    let records = rig.closed(2).await;
    assert_eq!(records[1].class, Class::NeverDelivered);
    assert_eq!(records[1].cause, Cause::Client);
    assert_eq!(records[1].client.outcome, Outcome::Closed);
    assert_eq!(
        upstream.seen().len(),
        1,
        "it was not dialled for the second"
    );
}

#[tokio::test]
async fn the_upstream_is_who_it_should_be_or_nobody() {
    let pki = Pki::make();
    for (keys, expected) in [
        (
            "originate: { ca: trust.pem, server_name: site.example }",
            None,
        ),
        ("originate: { verify: false }", None),
        (
            "originate: { ca: trust.pem, server_name: other.example }",
            Some(
                "TLS handshake: invalid peer certificate: certificate not valid for name \"other.example\"; certificate is only valid for DnsName(\"site.example\")",
            ),
        ),
        (
            "originate: { ca: ca/ca.pem, server_name: site.example }",
            Some("TLS handshake: invalid peer certificate: UnknownIssuer"),
        ),
    ] {
        let rig = Rig::new();
        let upstream = pki.upstream(false, &[], echo).await;
        let proxy = start(&rig, &pki, upstream.addr(), &format!("tls: {{ {keys} }}")).await;
        let mut client = Client::connect(proxy).await;
        match expected {
            None => {
                client.send("hello").await;
                client.fin().await;
                assert_eq!(client.rest().await, ("hello".to_owned(), true), "{keys}");
            }
            Some(_) => assert_eq!(client.rest().await, (String::new(), false), "{keys}"),
        }
        let record = the_only(rig.closed(1).await);
        assert_eq!(record.upstream[0].error.as_deref(), expected, "{keys}");
        if expected.is_some() {
            assert_eq!(record.class, Class::NeverDelivered);
            assert_eq!(record.cause, Cause::Upstream);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_asks_is_shown_a_certificate() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = pki.upstream(true, &[], echo).await;
    let keys = "tls: { originate: { ca: trust.pem, server_name: site.example, cert: caller.pem, key: caller.key } }";
    let proxy = start(&rig, &pki, upstream.addr(), keys).await;
    let client = Client::connect(proxy).await;
    assert_eq!(round_trip(client.0, b"hello").await, b"hello");
    assert!(upstream.greeted()[0].shown);
}

#[tokio::test]
async fn the_client_is_offered_what_the_upstream_chose() {
    let pki = Pki::make();
    for (keys, speaks, offers, chosen, asked) in [
        // Bytes: whatever it is.
        (format!("{OWN}, {ORIGINATE}"), &["two", "one"][..], &["one", "two"][..], Some("two"), Some("two")),
        (format!("{OWN}, {ORIGINATE}"), &[], &["one", "two"], None, None),
        (format!("{OWN}, {ORIGINATE}"), &["one"], &[], None, None),
        // It was said.
        ("terminate: { cert: site.pem, key: site.key, alpn: [one] }, originate: { verify: false }".to_owned(),
            &["two"], &["two", "one"], Some("one"), None),
        (OWN.to_owned(), &[], &["one"], None, None),
    ] {
        let rig = Rig::new();
        let originates = keys.contains("originate");
        let within = pki.upstream(false, speaks, echo).await;
        let plain = Server::echo().await;
        let upstream = if originates { within.addr() } else { plain.addr };
        let proxy = start(&rig, &pki, upstream, &format!("tls: {{ {keys} }}")).await;
        let config = pki.client("trust.pem", false, offers);
        let client = shake(&config, proxy, "site.example").await.unwrap();
        let agreed = client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), chosen.map(str::as_bytes), "{keys}");
        assert_eq!(round_trip(client, b"hello").await, b"hello", "{keys}");
        if originates {
            assert_eq!(within.greeted()[0].alpn.as_deref(), asked, "{keys}");
        }
        let record = the_only(rig.closed(1).await);
        assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 1));
    }
}

#[tokio::test]
async fn http_is_offered_as_what_can_be_carried() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::http().await;
    let proxy = start(
        &rig,
        &pki,
        upstream.addr,
        &format!("protocol: http, tls: {{ {OWN} }}"),
    )
    .await;
    let both = pki.client("trust.pem", false, &["h2", "http/1.1"]);
    let client = shake(&both, proxy, "site.example").await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let none = pki.client("trust.pem", false, &["other"]);
    let refused = why(shake(&none, proxy, "site.example").await);
    assert_eq!(refused, "received fatal alert: NoApplicationProtocol");
}

/// Answers a request in the protocol that was agreed on.
async fn speak(stream: server::TlsStream<TcpStream>) -> io::Result<()> {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        speak2(stream).await;
        return Ok(());
    }
    answer(stream).await
}

async fn speak2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let head = http::Response::builder().status(204).body(()).unwrap();
        respond.send_response(head, true).unwrap();
    }
}

/// One request in HTTP/2 over this: its status.
async fn ask2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> u16 {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::get("https://site.example/a")
        .body(())
        .unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    soon("an answer", answer).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn http2_is_agreed_on_where_the_upstream_speaks_it() {
    let pki = Pki::make();
    let both = format!("{OWN}, {ORIGINATE}");
    for (speaks, offers, chosen) in [
        (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], "h2"),
        (&["http/1.1"], &["h2", "http/1.1"], "http/1.1"),
        (&["h2", "http/1.1"], &["http/1.1"], "http/1.1"),
    ] {
        let rig = Rig::new();
        let upstream = pki.upstream(false, speaks, speak).await;
        let keys = format!("protocol: http, tls: {{ {both} }}");
        let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
        let config = pki.client("trust.pem", false, offers);
        let mut client = shake(&config, proxy, "site.example").await.unwrap();
        let agreed = client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), Some(chosen.as_bytes()));
        if chosen == "h2" {
            assert_eq!(ask2(client).await, 204);
        } else {
            client.write_all(get("/a").as_bytes()).await.unwrap();
            client.read_u8().await.unwrap();
            drop(client);
        }
        assert_eq!(upstream.greeted()[0].alpn.as_deref(), Some(chosen));
        let record = the_only(rig.closed(1).await);
        assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 1));
    }
}

#[tokio::test]
async fn http2_in_the_clear_on_one_side_only() {
    let pki = Pki::make();
    // A client in the clear, by prior knowledge.
    let rig = Rig::new();
    let upstream = pki.upstream(false, &["h2", "http/1.1"], speak).await;
    let keys = format!("protocol: http, tls: {{ {ORIGINATE} }}");
    let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
    assert_eq!(ask2(TcpStream::connect(proxy).await.unwrap()).await, 204);
    assert_eq!(upstream.greeted()[0].alpn.as_deref(), Some("h2"));
    assert_eq!(the_only(rig.closed(1).await).class, Class::Acknowledged);
    // An upstream in the clear; that it speaks HTTP/2 is said.
    let rig = Rig::new();
    let upstream = Server::start(|c| async move {
        speak2(c.socket).await;
        Ok(())
    })
    .await;
    let keys = "protocol: http, tls: { terminate: { cert: site.pem, key: site.key, alpn: [h2] } }";
    let proxy = start(&rig, &pki, upstream.addr, keys).await;
    let config = pki.client("trust.pem", false, &["h2", "http/1.1"]);
    let client = shake(&config, proxy, "site.example").await.unwrap();
    assert_eq!(ask2(client).await, 204);
    assert_eq!(the_only(rig.closed(1).await).class, Class::Acknowledged);
    // One that speaks HTTP/1 only can't be spoken to, and is to blame.
    let rig = Rig::new();
    let upstream = pki.upstream(false, &["http/1.1"], speak).await;
    let keys = format!("protocol: http, tls: {{ {ORIGINATE} }}");
    let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
    let socket = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::get("https://site.example/a")
        .body(())
        .unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    soon("an end", answer).await.unwrap_err();
    let record = the_only(rig.closed(1).await);
    assert_eq!(
        (record.class, record.cause),
        (Class::NeverDelivered, Cause::Upstream)
    );
    assert!(
        record.upstream[0]
            .error
            .as_deref()
            .unwrap()
            .contains("NoApplicationProtocol")
    );
}

#[tokio::test]
async fn an_upstream_that_can_not_be_reached_resets_a_client_that_asks_for_its_protocol() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let nobody = Server::nobody().await;
    let keys = format!("protocol: http, tls: {{ {OWN}, {ORIGINATE} }}");
    let proxy = start(&rig, &pki, nobody, &keys).await;
    let config = pki.client("trust.pem", false, &["http/1.1"]);
    let error = shake(&config, proxy, "site.example").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let record = the_only(rig.closed(1).await);
    assert_eq!(record.class, Class::NeverDelivered);
    assert_eq!(record.cause, Cause::Upstream);
    assert_eq!(record.client.outcome, Outcome::Reset);
    assert!(
        record.upstream[0]
            .error
            .as_ref()
            .unwrap()
            .contains("refused"),
        "{record:?}"
    );
}

#[tokio::test]
async fn an_end_without_a_word_of_tls_is_an_end_and_is_named() {
    let pki = Pki::make();
    for (protocol, said) in [
        ("tcp", "half of it"),
        ("http", "HTTP/1.1 200 OK\r\n\r\nhalf of it"),
    ] {
        let rig = Rig::new();
        let upstream = pki
            .upstream(false, &[], move |mut stream| async move {
                stream.read_u8().await?;
                stream.write_all(said.as_bytes()).await?;
                stream.flush().await?;
                // The socket closes, TLS does not.
                let (mut socket, _) = stream.into_inner();
                socket.shutdown().await?;
                socket.read_to_end(&mut Vec::new()).await.map(drop)
            })
            .await;
        let keys = format!("protocol: {protocol}, tls: {{ {ORIGINATE} }}");
        let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
        let mut client = Client::connect(proxy).await;
        client.send(get("/")).await;
        assert_eq!(client.rest().await, (said.to_owned(), true));
        client.fin().await;
        let record = the_only(rig.closed(1).await);
        assert_eq!(record.class, Class::Acknowledged, "{protocol}");
        let error = record.upstream[0].error.as_deref();
        let named = "its connection ended without a close_notify of TLS";
        assert_eq!(error, Some(named), "{protocol}");
    }
}

#[tokio::test]
async fn resets_pass_through_tls() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = pki
        .upstream(false, &[], |mut stream| async move {
            let mut byte = [0];
            let read = stream.read(&mut byte).await;
            stream.get_ref().0.set_zero_linger()?;
            read.map(drop)
        })
        .await;
    let keys = format!("tls: {{ {OWN}, {ORIGINATE} }}");
    let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
    let config = pki.client("trust.pem", false, &[]);
    let mut client = shake(&config, proxy, "site.example").await.unwrap();
    client.write_all(b"x").await.unwrap();
    let error = soon("a reset", client.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.closed(1).await;
}

fn fault(how: &'static str) -> firedrill::rules::Rule {
    rule("tls", &[("how", Arg::Choice(how))])
}

#[tokio::test]
async fn each_way_a_handshake_fails_is_what_the_client_sees() {
    let pki = Pki::make();
    for protocol in ["tcp", "http"] {
        for (how, minted, own) in [
            ("expired", "certificate expired", "certificate expired"),
            (
                "wrong_host",
                "certificate not valid for name",
                "UnknownIssuer",
            ),
            ("self_signed", "UnknownIssuer", "UnknownIssuer"),
            (
                "alert",
                "received fatal alert: HandshakeFailure",
                "received fatal alert: HandshakeFailure",
            ),
        ] {
            for (keys, trusted, expected) in
                [(MINTED, "ca/ca.pem", minted), (OWN, "trust.pem", own)]
            {
                let rig = Rig::new();
                let upstream = Server::http().await;
                let keys = format!("protocol: {protocol}, tls: {{ {keys} }}");
                let proxy = start(&rig, &pki, upstream.addr, &keys).await;
                // It has been here before, and could come back without being shown anything.
                let config = pki.client(trusted, false, &[]);
                let mut before = shake(&config, proxy, "site.example").await.unwrap();
                before.write_all(get("/before").as_bytes()).await.unwrap();
                before.read_u8().await.unwrap();
                drop(before);
                rig.closed(1).await;

                rig.rule(fault(how));
                let seen = why(shake(&config, proxy, "site.example").await);
                assert!(seen.contains(expected), "{how} {keys}: {seen}");
                let records = rig.closed(2).await;
                let record = &records[1];
                assert_eq!(record.class, Class::NeverDelivered, "{how} {keys}");
                assert_eq!(record.cause, Cause::Rule("tls".into()));
                assert_eq!(record.client.outcome, Outcome::Closed);
                assert!(record.faults[0].injected);
                assert_eq!(&*record.faults[0].kind, "tls");
                assert_eq!(rig.counts("tls"), (1, 1));
                let series =
                    "firedrill_faults_injected_total{fault=\"tls\",proxy=\"p\",rule=\"tls\"}";
                assert_eq!(rig.metric(series), 1.0);
                assert_eq!(upstream.seen().len(), 1);

                rig.heal();
                let mut after = shake(&config, proxy, "site.example").await.unwrap();
                after.write_all(get("/after").as_bytes()).await.unwrap();
                after.read_u8().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_any_certificate_is_served_and_that_is_recorded_too() {
    let pki = Pki::make();
    for protocol in ["tcp", "http"] {
        let rig = Rig::new();
        let upstream = Server::http().await;
        let keys = format!("protocol: {protocol}, tls: {{ {MINTED} }}");
        let proxy = start(&rig, &pki, upstream.addr, &keys).await;
        rig.rule(fault("expired"));
        // Firedrill itself is such a client.
        let around = start_named(
            &rig,
            &pki,
            "q",
            proxy,
            "tls: { originate: { verify: false } }",
        )
        .await;
        let mut client = Client::connect(around).await;
        client.send(get("/any")).await;
        assert!(client.answer().await.contains("you said GET /any"));
        client.fin().await;
        client.rest().await;
        let records = rig.closed(2).await;
        let record = records.iter().find(|r| &*r.proxy == "p").unwrap();
        assert_eq!(record.class, Class::Acknowledged, "{protocol}");
        assert!(record.faults[0].injected, "{protocol}");
        assert_eq!(rig.counts("tls"), (1, 1));
    }
}

async fn start_named(
    rig: &Rig,
    pki: &Pki,
    name: &str,
    upstream: SocketAddr,
    keys: &str,
) -> SocketAddr {
    let mut edge = pki.edge(upstream, keys);
    (edge.name, edge.to) = (name.to_owned(), name.to_owned());
    rig.supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap()
}

/// Sends a ClientHello and nothing else.
async fn begin(pki: &Pki, proxy: SocketAddr) -> Client {
    let name = "site.example".try_into().unwrap();
    let mut session =
        rustls::ClientConnection::new(pki.client("ca/ca.pem", false, &[]), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut client = Client::connect(proxy).await;
    client.send(&hello).await;
    client
}

#[tokio::test]
async fn a_stalled_handshake_ends_when_lifted_when_left_and_when_stopped() {
    let pki = Pki::make();
    let rig = Rig::new();
    let upstream = Server::http().await;
    let keys = format!("protocol: http, tls: {{ {MINTED} }}");
    let proxy = start(&rig, &pki, upstream.addr, &keys).await;
    rig.rule(fault("stall"));
    let mut lifted = begin(&pki, proxy).await;
    until("the stall", || (rig.counts("tls") == (1, 1)).then_some(())).await;
    // Longer than a client's own part may take.
    lifted.silent_for(Duration::from_millis(2500)).await;
    let left = begin(&pki, proxy).await;
    until("the second", || (rig.counts("tls") == (2, 2)).then_some(())).await;
    drop(left);
    until("its end", || {
        let records = rig.records();
        (records.len() == 2 && records[1].class == Class::NeverDelivered).then_some(())
    })
    .await;
    assert_eq!(rig.records()[1].cause, Cause::Rule("tls".into()));
    rig.off("tls");
    assert_eq!(lifted.rest().await, (String::new(), true));
    let records = rig.closed(2).await;
    assert_eq!(records[0].cause, Cause::Rule("tls".into()));
    assert_eq!(records[0].client.outcome, Outcome::Closed);

    rig.apply(Change::SwitchRule(
        "tls".to_owned(),
        true,
        firedrill::rules::Ttl::Unsaid,
    ));
    let mut stopped = begin(&pki, proxy).await;
    until("the third", || (rig.counts("tls").1 == 3).then_some(())).await;
    rig.supervisor.shut_down(Duration::from_secs(1)).await;
    assert_eq!(stopped.rest().await.0, "");
    rig.closed(3).await;
}

#[tokio::test]
async fn a_partition_holds_the_handshake_until_heal() {
    let pki = Pki::make();
    for originate in [false, true] {
        for deaf in [&[][..], &["client"], &["p"]] {
            let rig = Rig::new();
            let within = pki.upstream(false, &["http/1.1"], answer).await;
            let plain = Server::http().await;
            let (upstream, keys) = match originate {
                true => (
                    within.addr(),
                    format!("protocol: http, tls: {{ {OWN}, {ORIGINATE} }}"),
                ),
                false => (plain.addr, format!("protocol: http, tls: {{ {OWN} }}")),
            };
            let proxy = start(&rig, &pki, upstream, &keys).await;
            rig.apply(Change::AddPartition(partition(Mode::Blackhole, deaf)));
            let config = pki.client("trust.pem", false, &["http/1.1"]);
            let shaking = tokio::spawn(async move { shake(&config, proxy, "site.example").await });
            tokio::time::sleep(Duration::from_millis(2300)).await;
            assert!(!shaking.is_finished(), "{deaf:?}");
            assert_eq!(within.greeted().len() + plain.seen().len(), 0);
            rig.heal();
            let mut client = shaking.await.unwrap().unwrap();
            client.write_all(get("/healed").as_bytes()).await.unwrap();
            client.read_u8().await.unwrap();
            drop(client);
            rig.closed(1).await;
        }
    }
}

#[tokio::test]
async fn a_partition_that_refuses_resets_before_the_handshake() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::echo().await;
    let proxy = start(&rig, &pki, upstream.addr, &format!("tls: {{ {OWN} }}")).await;
    rig.apply(Change::AddPartition(partition(Mode::Refuse, &[])));
    let config = pki.client("trust.pem", false, &[]);
    let error = shake(&config, proxy, "site.example").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let record = the_only(rig.closed(1).await);
    assert_eq!(record.cause, Cause::Partition("split".into()));
    assert_eq!(
        rig.metric("firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}"),
        1.0
    );
}

#[tokio::test]
async fn a_connection_can_be_refused_or_dialled_late() {
    let pki = Pki::make();
    for protocol in ["tcp", "http"] {
        let rig = Rig::new();
        let upstream = pki.upstream(false, &["http/1.1"], answer).await;
        let keys = format!("protocol: {protocol}, tls: {{ {OWN}, {ORIGINATE} }}");
        let proxy = start(&rig, &pki, upstream.addr(), &keys).await;
        rig.rule(rule("refuse", &[]));
        let config = pki.client("trust.pem", false, &["http/1.1"]);
        let error = shake(&config, proxy, "site.example").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{protocol}");
        let record = the_only(rig.closed(1).await);
        assert_eq!(record.cause, Cause::Rule("refuse".into()));
        assert_eq!(rig.counts("refuse"), (1, 1));
        rig.off("refuse");

        let late = Arg::Duration(Duration::from_secs(60));
        rig.rule(rule("slow_connect", &[("delay", late)]));
        let shaking = {
            let config = config.clone();
            tokio::spawn(async move { shake(&config, proxy, "site.example").await })
        };
        until("it is late", || {
            (rig.counts("slow_connect") == (1, 1)).then_some(())
        })
        .await;
        assert_eq!(upstream.greeted(), []);
        rig.off("slow_connect");
        let mut client = shaking.await.unwrap().unwrap();
        client.write_all(get("/late").as_bytes()).await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(upstream.greeted().len(), 1);
    }
}

#[tokio::test]
async fn faults_act_on_what_is_within_tls() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::http().await;
    let proxy = start(
        &rig,
        &pki,
        upstream.addr,
        &format!("protocol: http, tls: {{ {OWN} }}"),
    )
    .await;
    let status = Arg::Choice("close");
    rig.rule(rule("response_loss", &[("then", status)]));
    let config = pki.client("trust.pem", false, &[]);
    let mut client = shake(&config, proxy, "site.example").await.unwrap();
    client.write_all(get("/lost").as_bytes()).await.unwrap();
    let mut got = Vec::new();
    soon("the end", client.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"");
    drop(client);
    let record = the_only(rig.closed(1).await);
    assert_eq!(record.class, Class::Unseen);
    assert_eq!(record.cause, Cause::Rule("response_loss".into()));
    assert_eq!(upstream.requests("GET /lost"), 1);
}

#[tokio::test]
async fn rules_can_mean_the_host_that_is_asked_for() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::echo().await;
    let proxy = start(&rig, &pki, upstream.addr, &format!("tls: {{ {MINTED} }}")).await;
    let mut reset = rule("reset", &[]);
    reset.matcher = Matcher {
        sni: Some(HostGlob::new("a.*")),
        ..Matcher::default()
    };
    rig.rule(reset);
    let config = pki.client("ca/ca.pem", false, &[]);
    let other = shake(&config, proxy, "b.example").await.unwrap();
    assert_eq!(round_trip(other, b"hello").await, b"hello");
    let mut meant = shake(&config, proxy, "a.example").await.unwrap();
    let error = soon("a reset", meant.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.closed(2).await;
    assert_eq!(rig.counts("reset"), (1, 1));
}

#[tokio::test]
async fn strangers_are_told_and_closed_and_leave_a_record() {
    let (pki, rig) = (Pki::make(), Rig::new());
    let upstream = Server::echo().await;
    let proxy = start(&rig, &pki, upstream.addr, &format!("tls: {{ {OWN} }}")).await;
    let long = "x".repeat(100_000);
    let mut records = 0;
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n".as_bytes(),
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 300],
        long.as_bytes(),
    ] {
        let mut client = Client::connect(proxy).await;
        client.send(bytes).await;
        // One who has begun a record that never ends is let go when its time is over.
        let mut got = Vec::new();
        soon("the end", client.0.read_to_end(&mut got))
            .await
            .unwrap();
        assert!(
            got.is_empty() || got[0] == 21,
            "an alert, if anything: {got:?}"
        );
        records += 1;
        let all = rig.closed(records).await;
        let record = all.last().unwrap();
        assert_eq!(
            (record.class, &record.cause),
            (Class::NeverDelivered, &Cause::Client)
        );
    }
    // So is one who says nothing.
    let mut silent = Client::connect(proxy).await;
    assert_eq!(silent.rest().await, (String::new(), true));
    let all = rig.closed(records + 1).await;
    assert_eq!(all.last().unwrap().cause, Cause::Client);
    assert_eq!(upstream.seen().len(), 0);
    rig.quiet().await;
}

#[tokio::test]
async fn without_tls_a_fault_of_handshakes_selects_nothing() {
    let rig = Rig::new();
    let upstream = Server::echo().await;
    let proxy = rig.proxy("p", upstream.addr, Protocol::Tcp).await;
    rig.rule(fault("expired"));
    let client = Client::connect(proxy).await;
    assert_eq!(round_trip(client.0, b"hello").await, b"hello");
    rig.closed(1).await;
    assert_eq!(rig.counts("tls"), (0, 0));
}

#[tokio::test]
async fn curl_and_openssl_are_served_and_say_what_is_wrong() {
    let pki = Pki::make();
    let firedrill = Firedrill::start(&format!(
        "proxies: [{{ name: p, listen: '127.0.0.1:0', upstream: '{}', protocol: http, tls: {{ terminate: {{ ca: {} }} }} }}]\n",
        Server::http().await.addr,
        pki.path("ca").display(),
    ))
    .await;
    let proxy = firedrill.proxy("p").await;
    let ca = pki.path("ca/ca.pem").display().to_string();
    let curl = |more: &[&str]| {
        let mut curl = program("curl", "curl");
        curl.args(["-sS", "--cacert", &ca]).args(more);
        curl.arg("--connect-to")
            .arg(format!("site.example:443:{proxy}"));
        curl.arg("https://site.example/curl");
        output(curl)
    };
    for version in ["1.2", "1.3"] {
        let done = curl(&["--tls-max", version, "--http1.1"]).await;
        assert_eq!(text(&done), "you said GET /curl HTTP/1.1", "{done:?}");
    }
    for (how, expected) in [
        ("expired", "expired"),
        ("wrong_host", "site.example"),
        ("self_signed", "self"),
        ("alert", "handshake failure"),
    ] {
        firedrill
            .stdout(&["inject", "p", "tls", &format!("how={how}"), "--name", how])
            .await;
        let done = curl(&[]).await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            !done.status.success() && said.contains(expected),
            "{how}: {said}"
        );
        firedrill.stdout(&["rule", "off", how]).await;
        assert_eq!(firedrill.rule(how).await.standing.injected, 1);
    }
    firedrill
        .stdout(&["inject", "p", "tls", "how=expired", "--name", "again"])
        .await;
    let mut openssl = program("openssl", "openssl");
    openssl.args(["s_client", "-connect", &proxy.to_string(), "-CAfile", &ca]);
    openssl.args(["-servername", "site.example", "-verify_return_error"]);
    let said = output(openssl).await;
    let said = format!("{}{}", text(&said), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("certificate has expired"), "{said}");
    firedrill.stdout(&["heal"]).await;
}

#[tokio::test]
async fn a_local_ca_is_made_and_never_overwritten() {
    let dir = tempfile::TempDir::new().unwrap();
    let out = dir.path().join("made/here");
    let run = |more: &[&str]| {
        let mut command = firedrill();
        command.args(["ca", "--out"]).arg(&out).args(more);
        output(command)
    };
    let made = run(&[]).await;
    assert!(made.status.success(), "{made:?}");
    let said = text(&made);
    assert!(
        said.contains("curl --cacert") && said.contains("ca.pem"),
        "{said}"
    );
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        out.join(name).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));
    let key = std::fs::read(out.join("ca.key")).unwrap();
    let again = run(&[]).await;
    assert_eq!(again.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("--force"),
        "{again:?}"
    );
    assert_eq!(std::fs::read(out.join("ca.key")).unwrap(), key);
    let forced = run(&["--force", "--json"]).await;
    assert!(forced.status.success());
    let json: serde_json::Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert!(json["key"].as_str().unwrap().ends_with("ca.key"));
    assert_ne!(std::fs::read(out.join("ca.key")).unwrap(), key);
    assert_eq!(mode("ca.key"), 0o600);
    // The whole of it can be used.
    let mut openssl = program("openssl", "openssl");
    openssl
        .args(["x509", "-noout", "-text", "-in"])
        .arg(out.join("ca.pem"));
    let shown = text(&output(openssl).await);
    assert!(
        shown.contains("CA:TRUE") && shown.contains("Firedrill local CA"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_answer_that_arrived_is_acknowledged_whoever_closes_first() {
    let pki = Pki::make();
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let rig = Rig::new();
        // It closes after each answer, so that the proxy's close_notify meets the client's.
        let upstream = Server::start(|mut c| async move {
            c.request().await?;
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            c.socket.write_all(answer).await
        })
        .await;
        let keys = format!("protocol: http, tls: {{ {OWN} }}");
        let proxy = start(&rig, &pki, upstream.addr, &keys).await;
        for _ in 0..100 {
            let config = pki.client_of(versions, "trust.pem", false, &[]);
            let mut client = shake(&config, proxy, "site.example").await.unwrap();
            client.write_all(get("/").as_bytes()).await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\nok") {
                assert!(client.read_buf(&mut read).await.unwrap() > 0);
            }
            // As programs do that know where the answer ends: nothing more is read.
            client.get_mut().1.send_close_notify();
            client.flush().await.unwrap();
        }
        let records = rig.closed(100).await;
        let unseen: Vec<_> = records
            .iter()
            .filter(|r| r.class != Class::Acknowledged)
            .collect();
        assert!(
            unseen.is_empty(),
            "{} of 100: {:?}",
            unseen.len(),
            unseen[0]
        );
    }
}

//! Hostile HTTP/1: what two parties could read in two ways is refused and never passed on; what is too
//! much, or too slow, is survived in bounded memory while others are served.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::io;
use std::net::SocketAddr;

use firedrill::evidence::{Cause, Class};
use support::process::Firedrill;
use support::programs::proxy;
use support::{Client, Server, get, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A head with these lines, and what follows it.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: p\r\n{lines}\r\n\r\n{rest}")
}

/// Requests that no two parties need read alike: what, bytes, the status that refuses them.
fn ambiguous() -> Vec<(&'static str, String, &'static str)> {
    let chunked = |rest| post("Transfer-Encoding: chunked", rest);
    vec![
        (
            "length and chunked",
            post(
                "Content-Length: 6\r\nTransfer-Encoding: chunked",
                "0\r\n\r\nX",
            ),
            "400",
        ),
        (
            "chunked and length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 6",
                "0\r\n\r\nX",
            ),
            "400",
        ),
        (
            "two lengths",
            post("Content-Length: 1\r\nContent-Length: 2", "xy"),
            "400",
        ),
        (
            "two lengths in one",
            post("Content-Length: 1, 2", "xy"),
            "400",
        ),
        ("a signed length", post("Content-Length: +1", "x"), "400"),
        ("a negative length", post("Content-Length: -1", "x"), "400"),
        (
            "a length past all",
            post("Content-Length: 99999999999999999999", "x"),
            "400",
        ),
        (
            "a hexadecimal length",
            post("Content-Length: 0x1", "x"),
            "400",
        ),
        (
            "a space before the colon",
            post("Content-Length : 1", "x"),
            "400",
        ),
        ("a folded field", post("X-A: 1\r\n folded: yes", ""), "400"),
        (
            "a field that begins with a space",
            "GET / HTTP/1.1\r\n Host: p\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "chunked, spelt otherwise",
            post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
            "400",
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
            "400",
        ),
        (
            "chunked, not last",
            post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"),
            "400",
        ),
        (
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        ("a bad chunk size", chunked("zz\r\nxx\r\n0\r\n\r\n"), "400"),
        (
            "a signed chunk size",
            chunked("-1\r\nx\r\n0\r\n\r\n"),
            "400",
        ),
        (
            "a chunk size past all",
            chunked("fffffffffffffffff\r\nx"),
            "400",
        ),
        (
            "a chunk longer than it says",
            chunked("1\r\nxy\r\n0\r\n\r\n"),
            "400",
        ),
        (
            "a bare line feed after a size",
            chunked("1\nx\r\n0\r\n\r\n"),
            "400",
        ),
        (
            "a bare carriage return",
            "GET / HTTP/1.1\r\nHost: p\r\nX-A: a\rb\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "a null",
            "GET / HTTP/1.1\r\nHost: p\r\nX-A: a\0b\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "a version of tomorrow",
            "GET / HTTP/3.0\r\nHost: p\r\n\r\n".to_owned(),
            "505",
        ),
        ("HTTP/0.9", "GET /\r\n".to_owned(), "505"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ambiguous_is_never_passed_on() {
    let server = Server::http().await;
    let (firedrill, addr) = proxy(server.addr, "http", "").await;
    let shapes = ambiguous();
    assert!(shapes.len() > 20);
    for (n, (what, bytes, status)) in shapes.iter().enumerate() {
        let mut client = Client::connect(addr).await;
        client.send(bytes).await;
        let (text, _) = client.rest().await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {text}"
        );
        let records = firedrill.closed(n + 1).await;
        let record = records.iter().max_by_key(|r| r.id.n).unwrap();
        assert_eq!(record.cause, Cause::Proxy, "{what}");
        let whole = [
            "a chunk",
            "a signed chunk",
            "a bad chunk",
            "a bare line feed",
        ];
        if whole.iter().any(|begun| what.starts_with(begun)) {
            // Its head was sound and had gone on; the upstream never gets a whole request.
            assert!(
                matches!(record.class, Class::Unknown | Class::Substituted),
                "{what}"
            );
        } else {
            assert_eq!(
                (record.class, record.deliveries),
                (Class::Substituted, 0),
                "{what}"
            );
        }
    }
    // What the upstream read ends within a request, if it begins at all.
    for seen in server.seen() {
        let body = seen.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(
            seen.contains("chunked") && !body.ends_with("0\r\n\r\n"),
            "{seen:?}"
        );
    }
}

/// The same of a server's answers: what the client gets is a 502, or a connection that breaks.
#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_answers_are_never_passed_on() {
    for (what, answer) in [
        (
            "length and chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        ),
        (
            "a folded field",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "a status of two digits",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("no HTTP", "220 mail.example ESMTP\r\n"),
        (
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ),
    ] {
        let server = Server::http_with(|_| answer.to_owned()).await;
        let (firedrill, addr) = proxy(server.addr, "http", "").await;
        let mut client = Client::connect(addr).await;
        client.send(get("/a")).await;
        let (text, _) = client.rest().await;
        assert!(
            text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{what}: {text}"
        );
        let record = firedrill.closed(1).await.remove(0);
        assert_eq!(
            (record.class, record.cause),
            (Class::Unseen, Cause::Proxy),
            "{what}"
        );
    }
}

/// Resident memory of a process, in KiB.
fn resident(firedrill: &Firedrill) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", firedrill.process.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes the same bytes again and again, until nobody takes more; answers what it was told.
async fn flood(addr: SocketAddr, first: &str, again: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let block = again.repeat(65_536 / again.len());
    if socket.write_all(first.as_bytes()).await.is_ok() {
        let flooding = async { while socket.write_all(block.as_bytes()).await.is_ok() {} };
        soon("it is cut off", flooding).await;
    }
    let mut answer = Vec::new();
    // A RST may follow the answer, and take it away.
    let _: io::Result<_> = soon("the end", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Each of these goes on for ever if it is let, sixteen at a time.
#[tokio::test(flavor = "multi_thread")]
async fn floods_are_cut_off_in_bounded_memory() {
    let server = Server::http().await;
    let (firedrill, addr) = proxy(server.addr, "http", "").await;
    let mut fine = Client::connect(addr).await;
    let before = resident(&firedrill);
    let mut peak = before;
    for (what, first, again) in [
        ("a target without end", "GET /", "aaaaaaaaaaaaaaaa"),
        (
            "a field without end",
            "GET / HTTP/1.1\r\nHost: p\r\nX-A: ",
            "aaaaaaaaaaaaaaaa",
        ),
        (
            "fields without end",
            "GET / HTTP/1.1\r\nHost: p\r\n",
            "X-A: b\r\n",
        ),
        ("empty lines before a request", "", "\r\n\r\n"),
        (
            "a chunk extension without end",
            "POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            "aaaaaaaa",
        ),
        (
            "trailers without end",
            "POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X-A: b\r\n",
        ),
    ] {
        let mut all = JoinSet::new();
        for _ in 0..16 {
            all.spawn(flood(addr, first, again));
        }
        while let Some(done) = all.join_next().await {
            let answer = done.unwrap();
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(refused, "{what}: {answer}");
            peak = peak.max(resident(&firedrill));
        }
        fine.send(get("/fine")).await;
        assert!(
            fine.answer().await.contains("/fine"),
            "{what}: others are served"
        );
    }
    assert!(peak - before < 32 << 10, "{before} to {peak} KiB");
}

/// Heads that come a byte at a time, and never end.
#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_keep_nobody_waiting() {
    let server = Server::http().await;
    let (firedrill, addr) = proxy(server.addr, "http", "").await;
    let before = resident(&firedrill);
    let mut slow = Vec::new();
    for _ in 0..500 {
        slow.push(Client::connect(addr).await);
    }
    for byte in get("/slow").bytes().take(20) {
        for client in &mut slow {
            client.send([byte]).await;
        }
    }
    let mut fine = Client::connect(addr).await;
    fine.send(get("/fine")).await;
    assert!(fine.answer().await.contains("/fine"));
    let each = (resident(&firedrill) - before) / 500;
    assert!(each < 16, "{each} KiB for each");
    assert_eq!(
        server.requests("GET /slow"),
        0,
        "nothing of a head goes on before its end"
    );
    drop(slow);
    drop(fine);
    firedrill.quiet().await;
}

/// A client that asks without end, and never listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_asks_is_no_longer_read() {
    let server = Server::http().await;
    let (firedrill, addr) = proxy(server.addr, "http", "").await;
    let before = resident(&firedrill);
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let block = get("/a").repeat(1000);
    let mut written = 0;
    // Once nobody takes more, it is not read any more.
    let stalled = std::time::Duration::from_secs(1);
    while let Ok(done) = tokio::time::timeout(stalled, socket.write_all(block.as_bytes())).await {
        done.unwrap();
        written += block.len();
        assert!(written < 256 << 20, "it is read for ever");
    }
    let grown = resident(&firedrill) - before;
    assert!(grown < 64 << 10, "{grown} KiB");
    drop(socket);
    firedrill.quiet().await;
}

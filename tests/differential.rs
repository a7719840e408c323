//! With no rule on, nobody can tell: the clients of the ecosystem see the same of an origin directly
//! and through Firedrill, to the last header, error and byte.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use firedrill::evidence::Class;
use support::process::{Process, eventually, output, program, without_proxies};
use support::programs::{Program, proxy, text};
use support::raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A script of `tests/python`, run by the Python that `tests/run` sets up.
fn python(script: &str) -> Command {
    let mut command = Command::new(support::python());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    command.arg(scripts.join(script));
    without_proxies(&mut command);
    command
}

/// A server in Python, and the address that it prints.
struct Origin {
    addr: SocketAddr,
    _process: Process,
}

impl Origin {
    async fn start(script: &str) -> Self {
        let mut process = Process::spawn(python(script).stdout(Stdio::piped()));
        let port: u16 = eventually("its port is printed", async || {
            let ended = process.ended();
            assert!(ended.is_none(), "{ended:?}: {}", process.log());
            process.said().trim().parse().ok()
        })
        .await;
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            _process: process,
        }
    }
}

/// What the clients of a kind say that they saw at an address, a line a case.
async fn seen(kind: &str, addr: SocketAddr) -> Vec<String> {
    let mut clients = python("clients.py");
    clients.args([kind, &addr.to_string()]);
    let output = output(clients).await;
    assert!(output.status.success(), "{output:?}");
    text(&output).lines().map(str::to_owned).collect()
}

/// Compares both ways to an origin, case by case; answers how many there were.
async fn same(kind: &str, direct: SocketAddr, through: SocketAddr) -> usize {
    let (direct, through) = (seen(kind, direct).await, seen(kind, through).await);
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(direct, through);
    }
    assert_eq!(direct.len(), through.len());
    direct.len()
}

/// curl, `http.client`, requests, urllib3, httpx and aiohttp: every method, status, framing, header
/// and way to fail that the origin knows.
#[tokio::test(flavor = "multi_thread")]
async fn http_clients() {
    let origin = Origin::start("origin.py").await;
    let (firedrill, addr) = proxy(origin.addr, "http", "").await;
    let cases = same("http", origin.addr, addr).await;
    assert!(cases > 150, "{cases}");
    firedrill.quiet().await;
    let records = firedrill.closed(cases).await;
    let unclear: Vec<_> = records
        .iter()
        .filter(|r| r.class != Class::Acknowledged)
        .filter(|r| !["/cut", "/break", "/nothing"].contains(&r.request.path.as_deref().unwrap()))
        .collect();
    assert!(unclear.is_empty(), "{unclear:#?}");
    assert!(records.iter().all(|r| r.faults.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket() {
    let origin = Origin::start("origin.py").await;
    let (firedrill, addr) = proxy(origin.addr, "http", "").await;
    assert_eq!(same("websocket", origin.addr, addr).await, 7);
    firedrill.quiet().await;
    let record = firedrill.closed(1).await.remove(0);
    assert_eq!(record.client.status, Some(101));
    assert_eq!(record.class, Class::Acknowledged);
}

/// gRPC's own Python client and server: every shape of call, metadata, errors, deadlines.
#[tokio::test(flavor = "multi_thread")]
async fn grpc() {
    let origin = Origin::start("grpc_origin.py").await;
    let (firedrill, addr) = proxy(origin.addr, "http", "").await;
    assert_eq!(same("grpc", origin.addr, addr).await, 13);
    firedrill.quiet().await;
    assert!(
        firedrill
            .records()
            .await
            .iter()
            .all(|r| r.faults.is_empty())
    );
}

/// httpx and curl over HTTP/2 with nginx.
#[tokio::test(flavor = "multi_thread")]
async fn http2_clients() {
    let nginx = Program::nginx("http2").await;
    let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
    let cases = same("http2", nginx.addr, addr).await;
    assert_eq!(cases, 16);
    firedrill.quiet().await;
    let records = firedrill.closed(cases).await;
    let acknowledged = records.iter().filter(|r| r.class == Class::Acknowledged);
    assert_eq!(acknowledged.count(), cases, "{records:#?}");
}

/// What a load generator says of how many were asked, answered, how, and with how much.
async fn load(mut command: Command, url: &str, lines: &[&str]) -> Vec<String> {
    command.arg(url);
    let output = output(command).await;
    assert!(output.status.success(), "{output:?}");
    let said = text(&output);
    let kept = said.lines().map(str::trim);
    kept.filter(|line| lines.iter().any(|begin| line.starts_with(begin)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_and_wrk() {
    for (settings, version) in [("http2", "--no-tls-proto=h2c"), ("", "--h1")] {
        let nginx = Program::nginx(settings).await;
        let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
        let h2load = |addr| {
            let mut h2load = program("h2load", "nghttp2-client");
            h2load.args([version, "-n", "5000", "-c", "10", "-m", "10"]);
            let url = format!("http://{addr}/digits.txt");
            async move { load(h2load, &url, &["requests:", "status codes:"]).await }
        };
        let (direct, through) = (h2load(nginx.addr).await, h2load(addr).await);
        assert_eq!(direct, through);
        assert!(through[0].contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"));
        firedrill.quiet().await;
        let records = firedrill.closed(5000).await;
        assert_eq!(records.len(), 5000);
        let unclear: Vec<_> = records
            .iter()
            .filter(|r| r.class != Class::Acknowledged)
            .collect();
        assert!(unclear.is_empty(), "{} {:#?}", unclear.len(), unclear[0]);
    }
    let nginx = Program::nginx("").await;
    let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
    let mut wrk = program("wrk", "wrk");
    wrk.args(["-t1", "-c32", "-d2"]);
    let url = format!("http://{addr}/digits.txt");
    let said = load(wrk, &url, &["Requests/sec", "Socket errors", "Non-2xx"]).await;
    assert_eq!(
        said.len(),
        1,
        "neither broken connections nor other statuses: {said:?}"
    );
    firedrill.quiet().await;
}

const FOUR_GIB: usize = 4 << 30;

/// The most resident memory that a process has had so far, in KiB.
fn most_resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// Reads so many bytes of [`raw::stream`], from its beginning, and compares.
async fn check_stream(socket: &mut TcpStream, len: usize) {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let n = socket.read(&mut buffer).await.unwrap();
        assert!(n > 0 && at + n <= len, "{at} and {n} of {len}");
        raw::check(at, &buffer[..n]);
        at += n;
    }
}

async fn send_stream(socket: &mut TcpStream, len: usize) {
    let block = raw::stream(0, 65_521 * 16);
    let mut left = len;
    while left > 0 {
        let n = left.min(block.len());
        socket.write_all(&block[..n]).await.unwrap();
        left -= n;
    }
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_gibibytes_each_way_in_constant_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let answer = |n| format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n");
        assert!(head(&mut socket).await.starts_with("GET "));
        socket.write_all(answer(FOUR_GIB).as_bytes()).await.unwrap();
        send_stream(&mut socket, FOUR_GIB).await;
        assert!(head(&mut socket).await.starts_with("PUT "));
        check_stream(&mut socket, FOUR_GIB).await;
        socket.write_all(answer(0).as_bytes()).await.unwrap();
    });
    let (firedrill, addr) = proxy(upstream, "http", "").await;
    let before = most_resident(firedrill.process.pid());
    let mut client = TcpStream::connect(addr).await.unwrap();
    client
        .write_all(b"GET /down HTTP/1.1\r\nHost: p\r\n\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    check_stream(&mut client, FOUR_GIB).await;
    let put = format!("PUT /up HTTP/1.1\r\nHost: p\r\nContent-Length: {FOUR_GIB}\r\n\r\n");
    client.write_all(put.as_bytes()).await.unwrap();
    send_stream(&mut client, FOUR_GIB).await;
    head(&mut client).await;
    serving.await.unwrap();
    let grown = most_resident(firedrill.process.pid()) - before;
    assert!(grown < 8 << 10, "{grown} KiB");
    let records = firedrill.closed(2).await;
    assert!(
        records.iter().all(|r| r.class == Class::Acknowledged),
        "{records:?}"
    );
    let bytes = |path: &str| {
        let record = records
            .iter()
            .find(|r| r.request.path.as_deref() == Some(path));
        record
            .map(|r| (r.request.bytes, r.upstream[0].bytes))
            .unwrap()
    };
    assert!(bytes("/down").1 > FOUR_GIB as u64 && bytes("/up").0 > FOUR_GIB as u64);
}

/// The same over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn four_gibibytes_each_way_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1 << 20);
        builder.initial_connection_window_size(4 << 20);
        let mut connection = builder.handshake(socket).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let up = request.method() == http::Method::PUT;
                if up {
                    check_data(request.into_body()).await;
                }
                let head = http::Response::new(());
                let mut to = respond.send_response(head, up).unwrap();
                if !up {
                    send_data(&mut to).await;
                }
            });
        }
    });
    let (firedrill, addr) = proxy(upstream, "http", "").await;
    let before = most_resident(firedrill.process.pid());
    let socket = TcpStream::connect(addr).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20);
    builder.initial_connection_window_size(4 << 20);
    let (sender, connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let ask = |method: &str, path: &str| {
        let request = http::Request::builder().method(method);
        request.uri(format!("http://p{path}")).body(()).unwrap()
    };
    let (answer, _) = sender.send_request(ask("GET", "/down"), true).unwrap();
    check_data(answer.await.unwrap().into_body()).await;
    let (answer, mut to) = sender.send_request(ask("PUT", "/up"), false).unwrap();
    send_data(&mut to).await;
    assert_eq!(answer.await.unwrap().status(), 200);
    let grown = most_resident(firedrill.process.pid()) - before;
    // The windows of both sides, and what is on its way between them.
    assert!(grown < 32 << 10, "{grown} KiB");
    let records = firedrill.closed(2).await;
    assert!(
        records.iter().all(|r| r.class == Class::Acknowledged),
        "{records:?}"
    );
}

/// Reads [`FOUR_GIB`] of [`raw::stream`], and compares.
async fn check_data(mut body: h2::RecvStream) {
    let mut at = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        raw::check(at, &data);
        at += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(at, FOUR_GIB);
}

async fn send_data(to: &mut h2::SendStream<Bytes>) {
    let block = Bytes::from(raw::stream(0, 65_521 * 16));
    let mut at = 0;
    while at < FOUR_GIB {
        to.reserve_capacity(1 << 20);
        let room = std::future::poll_fn(|cx| to.poll_capacity(cx)).await;
        let from = at % 65_521;
        let n = room
            .unwrap()
            .unwrap()
            .min(FOUR_GIB - at)
            .min(block.len() - from);
        at += n;
        to.send_data(block.slice(from..from + n), at == FOUR_GIB)
            .unwrap();
    }
}

//! Upstreams and clients of HTTP/1 and HTTP/2 that say what they saw, for tests that hold records
//! against them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of every answer's body.
pub const ANSWER: usize = 1000;
/// Bytes of every request's body.
pub const REQUEST: usize = 20;

/// How long a client that hears nothing listens before it says so.
const SILENCE: Duration = Duration::from_millis(300);

/// The body of the upstream's `n`-th answer, from 1.
pub fn body(n: usize) -> Vec<u8> {
    let mut body = format!("{n:04}").into_bytes();
    body.resize(ANSWER, b'.');
    body
}

/// One request as the upstream saw it.
#[derive(Debug, Clone, Default)]
pub struct Received {
    pub key: String,
    /// The names and values of its headers, as they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub whole: bool,
}

/// Answers each request with 200 and a body that says the how manieth it is.
#[derive(Clone)]
pub struct Upstream {
    pub addr: SocketAddr,
    pub received: Arc<Mutex<Vec<Received>>>,
}

impl Upstream {
    pub async fn http1() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            addr: listener.local_addr().unwrap(),
            received: Arc::default(),
        };
        let received = Arc::clone(&this.received);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(socket, Arc::clone(&received)));
            }
        });
        this
    }

    /// What it has received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// Notes a request whose head has come; answers its place, and the how manieth it is.
pub fn note(received: &Mutex<Vec<Received>>, head: Received) -> usize {
    let mut received = received.lock().unwrap();
    received.push(head);
    received.len() - 1
}

async fn converse(mut socket: TcpStream, received: Arc<Mutex<Vec<Received>>>) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = read_until(&mut socket, &mut buffer, head_end).await else {
            return;
        };
        let text = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let headers = fields(&text);
        let value = |name: &str| find(&headers, name).unwrap_or_default().to_owned();
        let length: usize = value("content-length").parse().unwrap_or(0);
        let index = note(
            &received,
            Received {
                key: value("idempotency-key"),
                headers: headers.clone(),
                ..Received::default()
            },
        );
        let whole = read_until(&mut socket, &mut buffer, |b| {
            received.lock().unwrap()[index].body = b[..b.len().min(length)].to_vec();
            (b.len() >= length).then_some(length)
        });
        if whole.await.is_none() {
            return;
        }
        buffer.drain(..length);
        received.lock().unwrap()[index].whole = true;
        let old = text.lines().next().is_some_and(|l| l.ends_with("/1.0"));
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {ANSWER}\r\n{}\r\n",
            if old { "Connection: close\r\n" } else { "" }
        )
        .into_bytes();
        answer.extend(body(index + 1));
        if socket.write_all(&answer).await.is_err() || old {
            return;
        }
    }
}

/// Reads until `found` finds something in what was read; `None`: it ended before.
async fn read_until(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(found) = found(buffer) {
            return Some(found);
        }
        match socket.read_buf(buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4)
}

fn fields(head: &str) -> Vec<(String, String)> {
    let lines = head.lines().skip(1);
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

pub fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// How a client's wait for its answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The answer was whole.
    Whole,
    Fin,
    Rst,
    /// Nothing more came.
    Waits,
    /// What came is no HTTP.
    Garbage,
    /// HTTP/2: the stream, or the connection, ended with this.
    Frame(String),
}

/// What a client saw.
#[derive(Debug, Clone)]
pub struct Saw {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What the head said of the body's length.
    pub length: usize,
    pub end: End,
    pub took: Duration,
}

impl Saw {
    pub fn nothing(end: End, took: Duration) -> Self {
        Self {
            status: None,
            headers: Vec::new(),
            body: Vec::new(),
            length: 0,
            end,
            took,
        }
    }
}

/// The request that clients send.
pub fn request(method: &str, version: &str, key: &str) -> String {
    format!(
        "{method} /orders/7 HTTP/{version}\r\nHost: p\r\nIdempotency-Key: {key}\r\nContent-Length: {REQUEST}\r\n\r\n{}",
        "r".repeat(REQUEST)
    )
}

/// Sends a request on a connection of its own, and listens until the answer is whole or no more
/// comes.
pub async fn ask(
    addr: SocketAddr,
    method: &str,
    version: &str,
    key: &str,
) -> (Saw, Option<TcpStream>) {
    let began = Instant::now();
    let broken = |_| (Saw::nothing(End::Rst, began.elapsed()), None);
    let mut socket = match TcpStream::connect(addr).await.map_err(broken) {
        Ok(socket) => socket,
        Err(saw) => return saw,
    };
    let text = request(method, version, key);
    if let Err(saw) = socket.write_all(text.as_bytes()).await.map_err(broken) {
        return saw;
    }
    let saw = listen(&mut socket, began).await;
    (saw, Some(socket))
}

/// Listens until the answer is whole or no more comes.
pub async fn listen(socket: &mut TcpStream, began: Instant) -> Saw {
    let mut buffer = Vec::new();
    let mut end = loop {
        if is_whole(&buffer) {
            break End::Whole;
        }
        match tokio::time::timeout(SILENCE, socket.read_buf(&mut buffer)).await {
            Err(_) => break End::Waits,
            Ok(Ok(0)) => break End::Fin,
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => break End::Rst,
            Ok(Err(error)) => panic!("{error}"),
        }
    };
    let took = began.elapsed();
    if buffer.is_empty() {
        return Saw::nothing(end, took);
    }
    let Some(at) = head_end(&buffer).filter(|_| buffer.starts_with(b"HTTP/1.")) else {
        return Saw::nothing(End::Garbage, took);
    };
    let head = String::from_utf8_lossy(&buffer[..at]).into_owned();
    let headers = fields(&head);
    if find(&headers, "transfer-encoding").is_some() {
        // The upstream never says so.
        end = End::Garbage;
    }
    Saw {
        status: head.split(' ').nth(1).and_then(|s| s.parse().ok()),
        length: length(&headers),
        body: buffer[at..].to_vec(),
        headers,
        end,
        took,
    }
}

fn length(headers: &[(String, String)]) -> usize {
    find(headers, "content-length").map_or(0, |n| n.parse().unwrap())
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(at) = head_end(bytes) else {
        return false;
    };
    let fields = fields(&String::from_utf8_lossy(&bytes[..at]));
    find(&fields, "transfer-encoding").is_none() && bytes.len() >= at + length(&fields)
}

impl Upstream {
    /// As [`Upstream::http1`], over HTTP/2 by prior knowledge.
    pub async fn http2() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            addr: listener.local_addr().unwrap(),
            received: Arc::default(),
        };
        let received = Arc::clone(&this.received);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let received = Arc::clone(&received);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(socket).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer2(request, respond, Arc::clone(&received)));
                    }
                });
            }
        });
        this
    }
}

fn fields2(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = headers.iter();
    fields
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

async fn answer2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    received: Arc<Mutex<Vec<Received>>>,
) {
    let headers = fields2(request.headers());
    let head = Received {
        key: find(&headers, "idempotency-key")
            .unwrap_or_default()
            .to_owned(),
        headers,
        ..Received::default()
    };
    let index = note(&received, head);
    let mut from = request.into_body();
    while let Some(data) = from.data().await {
        let Ok(data) = data else {
            return;
        };
        let _ = from.flow_control().release_capacity(data.len());
        received.lock().unwrap()[index]
            .body
            .extend_from_slice(&data);
    }
    received.lock().unwrap()[index].whole = true;
    let head = http::Response::builder()
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("content-length", ANSWER);
    if let Ok(mut to) = respond.send_response(head.body(()).unwrap(), false) {
        let _ = to.send_data(body(index + 1).into(), true);
    }
}

/// As [`ask`], over HTTP/2 by prior knowledge.
pub async fn ask2(
    addr: SocketAddr,
    method: &str,
    key: &str,
) -> (Saw, Option<h2::client::SendRequest<Bytes>>) {
    let began = Instant::now();
    // It may be reset before it is told that it stands.
    let Ok(socket) = TcpStream::connect(addr).await else {
        return (Saw::nothing(End::Rst, began.elapsed()), None);
    };
    let mut saw = Saw::nothing(End::Waits, Duration::ZERO);
    let (end, kept) = match talk2(socket, method, key, &mut saw).await {
        Ok((end, kept)) => (end, Some(kept)),
        Err(error) => (how(&error), None),
    };
    saw.end = end;
    saw.took = began.elapsed();
    (saw, kept)
}

async fn talk2(
    socket: TcpStream,
    method: &str,
    key: &str,
    saw: &mut Saw,
) -> Result<(End, h2::client::SendRequest<Bytes>), h2::Error> {
    let (sender, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await?;
    let request = http::Request::builder()
        .method(method)
        .uri("http://p/orders/7")
        .header("idempotency-key", key)
        .header("content-length", REQUEST);
    let (answer, mut to) = sender.send_request(request.body(()).unwrap(), false)?;
    // It may be over by now; the answer tells how.
    let _ = to.send_data("r".repeat(REQUEST).into(), true);
    let Ok(answer) = tokio::time::timeout(SILENCE, answer).await else {
        return Ok((End::Waits, sender));
    };
    let answer = answer?;
    saw.status = Some(answer.status().as_u16());
    saw.headers = fields2(answer.headers());
    saw.length = length(&saw.headers);
    let mut from = answer.into_body();
    loop {
        match tokio::time::timeout(SILENCE, from.data()).await {
            Err(_) => return Ok((End::Waits, sender)),
            Ok(None) => return Ok((End::Whole, sender)),
            Ok(Some(data)) => {
                let data = data?;
                let _ = from.flow_control().release_capacity(data.len());
                saw.body.extend_from_slice(&data);
            }
        }
    }
}

/// How HTTP/2 says that it ended.
fn how(error: &h2::Error) -> End {
    let reason = |frame: &str| {
        let reason = error.reason().unwrap();
        End::Frame(format!("{frame} {reason:?}"))
    };
    match error.get_io().map(io::Error::kind) {
        Some(ErrorKind::ConnectionReset) => End::Rst,
        Some(_) => End::Fin,
        None if error.is_remote() && error.is_reset() => reason("RST_STREAM"),
        None if error.is_remote() => reason("GOAWAY"),
        // Its own complaint of what came.
        None => End::Garbage,
    }
}

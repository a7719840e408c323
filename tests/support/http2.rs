//! An upstream and a client of HTTP/2, on the `h2` crate; and frames by hand, for those who break
//! its rules.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{soon, until};

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub connection: usize,
    pub stream: u32,
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
    /// There was nothing behind its head.
    pub bodiless: bool,
    /// How the client's side of it was cut off.
    pub reset: Option<Reason>,
}

/// One request at the upstream.
pub struct Turn {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    index: usize,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Turn {
    pub fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    /// Reads the body to its end.
    pub async fn body(&mut self) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
        read(self.request.body_mut()).await
    }

    /// Answers with this status and body.
    pub async fn answer(&mut self, status: u16, body: impl Into<Bytes>) {
        let body = body.into();
        let head = Response::builder().status(status).body(()).unwrap();
        let Ok(mut to) = self.respond.send_response(head, body.is_empty()) else {
            return;
        };
        if !body.is_empty() {
            let _ = send(&mut to, body, true).await;
        }
    }

    /// Waits until the client resets the stream, and keeps why.
    pub async fn until_reset(&mut self) -> Reason {
        let reason = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        let reason = reason.unwrap_or(Reason::CONNECT_ERROR);
        self.log.lock().unwrap()[self.index].reset = Some(reason);
        reason
    }

    pub fn note_reset(&self, reason: Reason) {
        self.log.lock().unwrap()[self.index].reset = Some(reason);
    }
}

/// An upstream that does as `serve` says with each request.
#[derive(Clone)]
pub struct Upstream {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<Vec<Arc<Line>>>>,
}

/// One connection of an upstream.
#[derive(Default)]
pub struct Line {
    away: tokio::sync::Notify,
    cut: tokio::sync::Notify,
    ended: Mutex<Option<String>>,
}

impl Upstream {
    pub async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(Turn) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(server::Builder::new(), serve).await
    }

    pub async fn with<F, S>(builder: server::Builder, serve: S) -> Self
    where
        S: Fn(Turn) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            addr: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
        };
        let (serve, upstream) = (Arc::new(serve), this.clone());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let line = Arc::new(Line::default());
                let number = {
                    let mut lines = upstream.connections.lock().unwrap();
                    lines.push(Arc::clone(&line));
                    lines.len() - 1
                };
                let (serve, log) = (Arc::clone(&serve), Arc::clone(&upstream.asked));
                let handshake = builder.handshake::<_, Bytes>(socket);
                tokio::spawn(async move {
                    let Ok(mut connection) = handshake.await else {
                        return;
                    };
                    loop {
                        let accepted = tokio::select! {
                            accepted = connection.accept() => accepted,
                            () = line.away.notified() => {
                                connection.graceful_shutdown();
                                continue;
                            }
                            () = line.cut.notified() => return,
                        };
                        let Some(Ok((request, respond))) = accepted else {
                            let how = format!("{:?}", accepted.map(|a| a.map(drop)));
                            *line.ended.lock().unwrap() = Some(how);
                            return;
                        };
                        let index = {
                            let mut log = log.lock().unwrap();
                            log.push(Asked {
                                connection: number,
                                stream: respond.stream_id().as_u32(),
                                method: request.method().clone(),
                                uri: request.uri().to_string(),
                                headers: request.headers().clone(),
                                bodiless: request.body().is_end_stream(),
                                reset: None,
                            });
                            log.len() - 1
                        };
                        let log = Arc::clone(&log);
                        tokio::spawn(serve(Turn {
                            request,
                            respond,
                            index,
                            log,
                        }));
                    }
                });
            }
        });
        this
    }

    /// Says back what it was told: method, path and body.
    pub async fn echo() -> Self {
        Self::start(|mut turn| async move {
            let Ok((body, _)) = turn.body().await else {
                return;
            };
            let said = format!("{} {} ", turn.request.method(), turn.request.uri().path());
            turn.answer(200, [said.as_bytes(), &body].concat()).await;
        })
        .await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often this path was asked for.
    pub fn times(&self, path: &str) -> usize {
        self.asked()
            .iter()
            .filter(|a| a.uri.ends_with(path))
            .count()
    }

    pub async fn until_asked(&self, n: usize) -> Vec<Asked> {
        until("the upstream is asked", || {
            Some(self.asked()).filter(|a| a.len() >= n)
        })
        .await
    }

    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Wants no more requests on this connection.
    pub fn go_away(&self, n: usize) {
        self.connections.lock().unwrap()[n].away.notify_one();
    }

    /// Ends this connection at once.
    pub fn cut(&self, n: usize) {
        self.connections.lock().unwrap()[n].cut.notify_one();
    }

    /// Waits until this connection has ended.
    pub async fn ended(&self, n: usize) -> String {
        until("the upstream's connection ends", || {
            self.connections.lock().unwrap()[n]
                .ended
                .lock()
                .unwrap()
                .clone()
        })
        .await
    }
}

/// A client.
pub struct H2 {
    pub send: SendRequest<Bytes>,
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

impl H2 {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::with(addr, client::Builder::new()).await
    }

    pub async fn with(addr: SocketAddr, builder: client::Builder) -> Self {
        let socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (send, connection) = builder.handshake(socket).await.unwrap();
        Self {
            send,
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a request; its body follows, unless `end`.
    pub async fn begin(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (client::ResponseFuture, SendStream<Bytes>) {
        poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(request, end).unwrap()
    }

    /// Asks, and reads the answer whole.
    pub async fn ask(&mut self, request: Request<()>, body: &str) -> Result<Answer, h2::Error> {
        let (answer, mut to) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            send(&mut to, Bytes::from(body.to_owned()), true).await?;
        }
        soon("an answer", whole(answer)).await
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(get(path), "").await
    }
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// There was nothing behind its head.
    pub bodiless: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub async fn whole(answer: client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut body) = answer.await?.into_parts();
    let bodiless = body.is_end_stream();
    let (bytes, trailers) = read(&mut body).await?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: bytes,
        trailers,
        bodiless,
    })
}

/// Reads a body to its end, with its trailers.
pub async fn read(body: &mut RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        all.extend_from_slice(&bytes);
        body.flow_control().release_capacity(bytes.len())?;
    }
    Ok((all.into(), body.trailers().await?))
}

/// Sends as the other side takes it.
pub async fn send(to: &mut SendStream<Bytes>, mut body: Bytes, end: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        to.reserve_capacity(body.len());
        let room = match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::STREAM_CLOSED.into()),
        };
        let part = body.split_to(room.min(body.len()));
        to.send_data(part, end && body.is_empty())?;
    }
    Ok(())
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    let uri = format!("http://p.test{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .version(http::Version::HTTP_2)
}

pub fn get(path: &str) -> Request<()> {
    request("GET", path).body(()).unwrap()
}

pub fn post(path: &str) -> Request<()> {
    request("POST", path).body(()).unwrap()
}

// --- By hand.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The fields of `GET http://x/`, with no table used: literals without indexing.
pub fn fields() -> Vec<u8> {
    let mut out = vec![0x82, 0x86, 0x84];
    out.extend(literal(":authority", "x"));
    out
}

pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        length(&mut out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// An integer of HPACK, with a prefix of seven bits.
fn length(out: &mut Vec<u8>, mut n: usize) {
    if n < 127 {
        out.push(n as u8);
        return;
    }
    out.push(127);
    n -= 127;
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A client that says what it likes.
pub struct Raw(pub TcpStream);

impl Raw {
    /// Has said the preface and its settings.
    pub async fn connect(addr: SocketAddr) -> Self {
        let mut raw = Self(TcpStream::connect(addr).await.unwrap());
        raw.say(PREFACE).await;
        raw.say(&frame(4, 0, 0, &[])).await;
        raw
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// As [`Raw::say`], to one who may have gone.
    pub async fn try_say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None`: the end.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        soon("its payload", self.0.read_exact(&mut payload))
            .await
            .ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of this kind.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

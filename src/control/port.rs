//! A port of the control plane: accepts, reads requests, hands them to the routes, writes answers.
//!
//! Owns connections: how many ([`Places`]), how long they may take, TLS, what becomes of them at the
//! end, and what to do when the process has no descriptors left. Knows nothing of what is asked.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use rustls::server::Acceptor;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::error::Failure;
use super::places::{Place, Places};
use crate::clock;
use crate::tls::{Hello, Server};

/// How long requests that are being answered at shutdown may take.
const GRACE: Duration = Duration::from_secs(1);
/// For a TLS handshake, and for the body of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a request's head, since the connection was made or had its last answer.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head.
const MAX_HEAD: usize = 64 << 10;
/// A host that has been silent for so long is asked whether it is still there.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
/// Streams at the same time.
const MAX_STREAMS: usize = 64;
/// Descriptors kept for when there are no others.
const RESERVE: usize = 8;

/// How a port is listened on.
#[derive(Debug)]
pub struct Port {
    max_connections: usize,
    tls: Option<Arc<Server>>,
    reserve: Reserve,
}

impl Port {
    /// `max_connections` at the same time, streams not counted. With `tls` clients are shown that.
    /// Descriptors are put by at once, for when the process has no others left.
    #[must_use]
    pub fn new(max_connections: usize, tls: Option<Arc<Server>>) -> Self {
        let mut port = Self {
            max_connections,
            tls,
            reserve: Reserve::default(),
        };
        port.reserve.most = RESERVE;
        port.reserve.fill();
        port
    }
}

/// Without TLS, and with nothing put by.
impl Default for Port {
    fn default() -> Self {
        Self {
            max_connections: 256,
            tls: None,
            reserve: Reserve::default(),
        }
    }
}

/// Answers until `shutdown`, and for a short while what is being answered then.
pub(super) async fn run(
    listener: TcpListener,
    mut port: Port,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(port.max_connections, MAX_STREAMS);
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (socket, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &mut port.reserve, &places) => accepted,
        };
        let place = tokio::select! {
            biased;
            () = &mut shutdown => break,
            place = places.take() => place,
        };
        let connection = Connection {
            peer,
            place: Arc::new(place),
            router: router.clone(),
            stopping: stopping.clone(),
        };
        connections.spawn(connection.serve(socket, port.tls.clone()));
        // What it has sent already is read before the next one comes: a crowd can't push out who
        // has something to say.
        yield_now().await;
    }
    drop((listener, stopping));
    let _ = stop.send(());
    let ended = async { while connections.join_next().await.is_some() {} };
    // Those that are still there are closed.
    let _ = clock::within(GRACE, ended).await;
}

/// The next client. Whatever goes wrong with one of them, or for want of descriptors, the port
/// stays open. Cancel-safe.
async fn accept(
    listener: &TcpListener,
    reserve: &mut Reserve,
    places: &Places,
) -> (TcpStream, SocketAddr) {
    const LONGEST: Duration = Duration::from_secs(1);
    let mut pause = Duration::from_millis(1);
    // Not after one was given away: it is meant for the client.
    reserve.fill();
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // That client has gone again.
            Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR) => continue,
            // Room is made for one who may want to heal.
            Some(Errno::MFILE | Errno::NFILE) if reserve.give() => continue,
            Some(Errno::MFILE | Errno::NFILE) => {
                places.send_one_off();
            }
            _ => {}
        }
        tracing::warn!(%error, "the control port can't accept a connection");
        clock::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Descriptors to give when the process has run out of them.
#[derive(Debug, Default)]
struct Reserve {
    files: Vec<File>,
    most: usize,
}

impl Reserve {
    fn fill(&mut self) {
        while self.files.len() < self.most {
            match File::open("/dev/null") {
                Ok(file) => self.files.push(file),
                Err(_) => return,
            }
        }
    }

    fn give(&mut self) -> bool {
        self.files.pop().is_some()
    }
}

/// One client's connection.
struct Connection {
    peer: SocketAddr,
    place: Arc<Place>,
    router: Router,
    stopping: watch::Receiver<()>,
}

impl Connection {
    async fn serve(self, socket: TcpStream, tls: Option<Arc<Server>>) {
        // Neither is worth losing the connection for.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
        let Some(server) = tls else {
            return self.carry(socket).await;
        };
        let greeted = tokio::select! {
            greeted = clock::within(PATIENCE, greet(socket, &server)) => greeted,
            () = self.place.lost() => return,
        };
        match greeted {
            Some(Ok(socket)) => self.carry(socket).await,
            Some(Err(error)) => tracing::debug!(peer = %self.peer, %error, "no TLS"),
            None => {}
        }
    }

    async fn carry(mut self, socket: impl AsyncRead + AsyncWrite + Unpin) {
        let (peer, place) = (self.peer, Arc::clone(&self.place));
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |request| answer(request, peer, &place, &router));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(socket), service)
        );
        tokio::select! {
            // What ends it is the client's affair.
            _ = &mut connection => return,
            () = self.place.lost() => return,
            _ = self.stopping.changed() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn greet(socket: TcpStream, server: &Server) -> io::Result<TlsStream<TcpStream>> {
    let local = socket.local_addr()?.ip();
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let hello = {
        let hello = start.client_hello();
        let alpn = hello.alpn().into_iter().flatten();
        Hello {
            host: hello.server_name().map(str::to_owned),
            alpn: alpn.map(<[u8]>::to_vec).collect(),
        }
    };
    let spoken = vec![b"http/1.1".to_vec()];
    let config = server.config(&hello, local, "firedrill", spoken, None);
    start.into_stream(config.map_err(io::Error::other)?).await
}

/// Has a request answered, and knows by its bodies where it is.
fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    place: &Arc<Place>,
    router: &TowerToHyperService<Router>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let place = Arc::clone(place);
    if request.body().is_end_stream() {
        place.works();
    }
    let body = |body| Asked {
        body,
        place: Arc::clone(&place),
        late: Box::pin(clock::sleep(PATIENCE)),
    };
    let mut request = request.map(|asked| Body::new(body(asked)));
    request.extensions_mut().insert(ConnectInfo(peer));
    let answered = router.call(request);
    async move {
        let mut answer = answered.await.unwrap_or_else(|never| match never {});
        // What is of no known length is what is followed.
        if answer.body().size_hint().exact().is_none() && !place.streams() {
            let busy = Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                format!("{MAX_STREAMS} streams are being followed already"),
            );
            answer = busy.hint("end one of them").into_response();
        }
        Ok(answer.map(|body| Body::new(Answer { body, place })))
    }
}

/// A request's body, that has to come in time.
struct Asked {
    body: Incoming,
    place: Arc<Place>,
    late: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if frame.is_none() || self.body.is_end_stream() {
                    self.place.works();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.late.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err("it took too long".into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body: once it is written, the connection waits again.
struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.waits();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A connection, and the other end of it.
    fn connected() -> (DuplexStream, impl Future<Output = ()>) {
        let (ours, theirs) = duplex(1 << 16);
        let router = Router::new().route("/", post(async |body: Bytes| body));
        let (stop, stopping) = watch::channel(());
        let carried = async move {
            let connection = Connection {
                peer: ([127, 0, 0, 1], 1).into(),
                place: Arc::new(Places::new(1, 1).take().await),
                router,
                stopping,
            };
            connection.carry(theirs).await;
            drop(stop);
        };
        (ours, carried)
    }

    async fn said(mut ours: DuplexStream, what: &[u8]) -> (String, Duration) {
        let began = clock::now();
        ours.write_all(what).await.unwrap();
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        (String::from_utf8(answer).unwrap(), clock::now() - began)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_and_a_body_have_to_come_in_time() {
        for (what, answer, longest) in [
            (&b""[..], "", HEAD),
            (b"POST / HT", "", HEAD),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
                "HTTP/1.1 400",
                PATIENCE,
            ),
            // It was answered, and then nothing came.
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhalf",
                "HTTP/1.1 200",
                HEAD,
            ),
        ] {
            let (ours, carried) = connected();
            let ((said, took), ()) = tokio::join!(said(ours, what), carried);
            assert!(said.starts_with(answer), "{said}");
            assert!(took <= longest + GRACE, "{took:?}: {said}");
        }
    }

    #[tokio::test]
    async fn what_was_put_by_is_given_away_and_put_by_again() {
        let mut port = Port::new(1, None);
        assert!((0..RESERVE).all(|_| port.reserve.give()));
        assert!(!port.reserve.give());
        port.reserve.fill();
        assert_eq!(port.reserve.files.len(), RESERVE);
        let mut none = Port::default();
        none.reserve.fill();
        assert!(!none.reserve.give());
    }
}

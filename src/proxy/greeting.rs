//! What comes between a client's arrival and its first byte: the PROXY protocol header, the rules,
//! where those had to wait for it, and TLS.
//!
//! All in the connection's own task, within `limits.handshake` as far as the client is waited for.
//! A partition holds the handshake as it holds bytes. Where both sides speak TLS, the upstream is
//! dialled first, so that the client is offered what the upstream has chosen (ALPN).

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::listener::Door;
use super::peer::{Peer, Socket};
use super::upstream::{CARRIED, Dial, dial, to_blame, unreachable_now};
use super::watch::{Bell, CLOSING, Deadline, Watch};
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::Handshake;
use crate::operation::{Direction, Phase};
use crate::pipeline::{ConnectAction, Hold, Operation, Receipt, Session};
use crate::protocol::proxy_header::{self, Ends, Read};
use crate::rules::{Cut, Edge, Protocol, Version};
use crate::state::Stopping;
use crate::tls::{Alpn, Hello, Server, Wrong};
use crate::units::format_duration;

/// Whether anything comes before a client's first byte, or has to be said of it to the upstream.
pub(super) fn is_needed(edge: &Edge) -> bool {
    let spoken = edge.proxy_protocol;
    edge.terminate().is_some() || spoken.accept || spoken.send.is_some()
}

/// A connection that can be carried.
pub(super) struct Greeted {
    pub(super) client: Peer,
    /// Where it was dialled already.
    pub(super) upstream: Option<Peer>,
    pub(super) session: Session,
    /// The operation that it is: where messages are known, until the first of them, and only if a
    /// rule acts on its being made.
    pub(super) begun: Option<(Operation, ConnectAction)>,
}

/// Why a connection is not carried.
enum End {
    /// The process stops.
    Stopped,
    /// A partition resets it.
    Cut,
    /// The client has gone before it said anything.
    Left,
    /// The client's part of it failed, so.
    Failed(String),
    /// The client has gone in the middle of it, so.
    Gone(&'static str),
    /// The upstream can't be reached.
    Unreachable(io::Error),
    /// A fault has ended it.
    Meant,
}

/// Greets a client. `begun`: what the rules said when it arrived, where they were asked then.
/// `None`: it is not to be carried; that is recorded.
pub(super) async fn greet(
    socket: TcpStream,
    session: Session,
    begun: Option<(Operation, ConnectAction)>,
    bell: &Arc<Bell>,
    door: &Door,
) -> Option<Greeted> {
    let (operation, action) = begun.unzip();
    let mut greeter = Greeter {
        session,
        operation,
        action: action.unwrap_or_default(),
        watch: Watch::new(bell),
        held_by: Vec::new(),
        since: None,
        changed: false,
    };
    match greeter.run(socket).await {
        Ok((client, upstream)) => Some(greeter.greeted(client, upstream)),
        Err(end) => {
            greeter.end(end, door);
            None
        }
    }
}

struct Greeter {
    session: Session,
    operation: Option<Operation>,
    action: ConnectAction,
    watch: Watch,
    /// Partitions that have kept its handshake.
    held_by: Vec<Cut>,
    /// Since when it is the client who is waited for.
    since: Option<Instant>,
    /// Rules have changed since they were asked.
    changed: bool,
}

impl Greeter {
    fn edge(&self) -> Arc<Edge> {
        Arc::clone(&self.session.crossing().edge)
    }

    async fn run(&mut self, mut socket: TcpStream) -> Result<(Socket, Option<Socket>), End> {
        let edge = self.edge();
        let Ok(local) = socket.local_addr() else {
            return Err(End::Left);
        };
        let mut to = local;
        if edge.proxy_protocol.accept {
            let header = self.header(&mut socket).await;
            if let Some(ends) = broken_off(header, &socket)? {
                self.session.came_from(ends.from);
                to = ends.to;
            }
            self.session.refresh();
            let begun = match edge.protocol {
                Protocol::Tcp => Some(self.session.connection()),
                Protocol::Http | Protocol::Auto => self.session.opening(),
            };
            if let Some((operation, action)) = begun {
                (self.operation, self.action) = (Some(operation), action);
            }
        }
        if let Some(version) = edge.proxy_protocol.send {
            let from = self.session.client();
            let header = match version {
                Version::V1 => proxy_header::v1(Ends { from, to }),
                Version::V2 => proxy_header::v2(Ends { from, to }),
            };
            self.session.introduce(header);
        }
        let ends_at_once = self.action.discard.as_ref();
        let ends_at_once = ends_at_once.is_some_and(|(then, _)| then.is_at_once());
        match edge.terminate() {
            Some(server) if !ends_at_once => {
                let (client, upstream) = self.handshake(socket, server, local.ip()).await?;
                Ok((Socket::Tls(Box::new(client.into())), upstream))
            }
            _ => Ok((Socket::Plain(socket), None)),
        }
    }

    /// Reads the PROXY protocol header, and not a byte more.
    async fn header(&mut self, socket: &mut TcpStream) -> Result<Option<Ends>, End> {
        let mut reading = Box::pin(async {
            let mut bytes = Vec::new();
            loop {
                match proxy_header::read(&bytes) {
                    Read::Header(ends) => return Ok(ends),
                    Read::Refused(why) => return Err(End::Failed(why.to_owned())),
                    Read::More(n) => {
                        let before = bytes.len();
                        bytes.resize(before + n, 0);
                        let read = socket.read(&mut bytes[before..]).await;
                        // An error means that it has gone as well.
                        let n = read.unwrap_or(0);
                        if n == 0 {
                            return Err(match before {
                                0 => End::Left,
                                _ => End::Gone("it left within its PROXY protocol header"),
                            });
                        }
                        bytes.truncate(before + n);
                    }
                }
            }
        });
        self.attend("PROXY protocol header", reading.as_mut())
            .await?
    }

    /// The TLS handshake, as faults and partitions let it be.
    async fn handshake(
        &mut self,
        socket: TcpStream,
        server: &Server,
        local: IpAddr,
    ) -> Result<(TlsStream<TcpStream>, Option<Socket>), End> {
        let mut reading = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let start = match self.attend("TLS handshake", Pin::new(&mut reading)).await {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => {
                let end = match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => End::Left,
                    _ => failed(&error),
                };
                if let Some(socket) = reading.take_io() {
                    see_off(socket).await;
                }
                return Err(end);
            }
            Err(end) => return broken_off(Err(end), &reading.take_io()),
        };
        let hello = {
            let hello = start.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            Hello {
                host: hello.server_name().map(str::to_owned),
                alpn: alpn.map(<[u8]>::to_vec).collect(),
            }
        };
        broken_off(self.until_reachable(&start.io).await, &start.io)?;
        let mut bad = None;
        match self.action.handshake.take() {
            None => {}
            Some((Handshake::Stall, receipt)) => {
                receipt.injected(Phase::Connect);
                return broken_off(self.stall(&start.io, &receipt).await, &start.io);
            }
            Some((Handshake::Alert, receipt)) => return Err(alert(start.io, &receipt).await),
            Some((Handshake::Expired, receipt)) => bad = Some((Wrong::Expired, receipt)),
            Some((Handshake::WrongHost, receipt)) => bad = Some((Wrong::Host, receipt)),
            Some((Handshake::SelfSigned, receipt)) => bad = Some((Wrong::SelfSigned, receipt)),
        }
        let offered = self.offer(server, &hello, &start.io).await;
        let (alpn, upstream) = broken_off(offered, &start.io)?;
        let (wrong, receipt) = bad.unzip();
        let name = &self.edge().name;
        let config = match server.config(&hello, local, name, alpn, wrong) {
            Ok(config) => config,
            Err(message) => return Err(End::Failed(message)),
        };
        let mut accepting = start.into_stream(config).into_fallible();
        let accepted = self.attend("TLS handshake", Pin::new(&mut accepting)).await;
        let shaken = match accepted {
            Ok(Ok(client)) => Ok(client),
            Ok(Err((error, socket))) => Err((error, socket)),
            // Whom it breaks off, it closes.
            Err(end) => return Err(end),
        };
        // The certificate was in what it was answered, unless that could not be written.
        let answered =
            !matches!(&shaken, Err((error, _)) if error.kind() == io::ErrorKind::BrokenPipe);
        if let Some(receipt) = receipt.filter(|_| answered) {
            receipt.injected(Phase::Connect);
        }
        match shaken {
            Ok(client) => {
                if self.session.asked_for(hello.host.as_deref()) {
                    self.changed = true;
                }
                Ok((client, upstream))
            }
            Err((error, socket)) => {
                see_off(socket).await;
                Err(failed(&error))
            }
        }
    }

    /// The protocols that the client is offered. Where both sides speak TLS and it was not said which,
    /// it is the upstream that chooses, of what the client offers.
    async fn offer(
        &mut self,
        server: &Server,
        hello: &Hello,
        socket: &TcpStream,
    ) -> Result<(Alpn, Option<Socket>), End> {
        let edge = self.edge();
        if let Some(said) = server.alpn() {
            return Ok((said.clone(), None));
        }
        let carried = |protocol: &&Vec<u8>| match edge.protocol {
            Protocol::Tcp | Protocol::Auto => true,
            Protocol::Http => CARRIED.contains(&protocol.as_slice()),
        };
        let offered: Alpn = hello.alpn.iter().filter(carried).cloned().collect();
        let dials = edge.originate().is_some() && self.action.discard.is_none();
        if !dials || offered.is_empty() {
            return Ok(match edge.protocol {
                Protocol::Tcp => (Alpn::new(), None),
                Protocol::Http => (vec![b"http/1.1".to_vec()], None),
                // Who offers something else may speak that.
                Protocol::Auto => {
                    let http = |protocol: &Vec<u8>| protocol == b"http/1.1";
                    (offered.into_iter().filter(http).collect(), None)
                }
            });
        }
        self.until_due(socket).await?;
        let mut dialling: Dial = dial(&edge, self.session.way(), offered);
        let dialled = self.wait(socket, |_, cx, _| dialling.as_mut().poll(cx));
        let upstream = dialled.await?.map_err(|error| {
            unreachable_now(&edge, &error);
            End::Unreachable(error)
        })?;
        let chosen = upstream.alpn().map(<[u8]>::to_vec);
        Ok((chosen.into_iter().collect(), Some(upstream)))
    }

    /// Takes up changes; whether it ends because of one.
    fn look(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.watch.watch_changes(cx);
        self.changed |= self.session.refresh();
        // Nothing of it is under way yet.
        if self.session.stopping() != Stopping::No {
            return Err(End::Stopped);
        }
        let cuts = self.session.cuts();
        if cuts.refuse || cuts.reset {
            return Err(End::Cut);
        }
        Ok(())
    }

    /// Waits for the client's part, for so long.
    async fn attend<F: Future>(
        &mut self,
        what: &str,
        mut part: Pin<&mut F>,
    ) -> Result<F::Output, End> {
        poll_fn(|cx| {
            self.look(cx)?;
            if let Poll::Ready(done) = part.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let limit = self.session.crossing().context.handshake;
            if self.session.cuts().silent != [false; 2] {
                // It does not hear the other side: nor can it be expected to answer.
                self.since = None;
                return Poll::Pending;
            }
            let until = *self.since.get_or_insert_with(clock::now) + limit;
            if self.watch.poll_deadline(cx, Deadline::at(until)) {
                let message = format!("no {what} within {}", format_duration(limit));
                return Poll::Ready(Err(End::Failed(message)));
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for something that is not the client's part, until that has gone.
    async fn wait<T>(
        &mut self,
        client: &TcpStream,
        mut ready: impl FnMut(&mut Self, &mut Context<'_>, &mut Deadline) -> Poll<T>,
    ) -> Result<T, End> {
        self.since = None;
        poll_fn(|cx| {
            self.look(cx)?;
            let mut deadline = Deadline::default();
            if let Poll::Ready(done) = ready(self, cx, &mut deadline) {
                return Poll::Ready(Ok(done));
            }
            let mut byte = [0];
            let peeked = client.poll_peek(cx, &mut ReadBuf::new(&mut byte));
            if matches!(peeked, Poll::Ready(Ok(0) | Err(_))) {
                return Poll::Ready(Err(End::Gone("it left before it was answered")));
            }
            if self.watch.poll_deadline(cx, deadline) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits while a partition holds what either side would say.
    async fn until_reachable(&mut self, client: &TcpStream) -> Result<(), End> {
        self.wait(client, |this, _, _| {
            if this.session.cuts().silent == [false; 2] {
                return Poll::Ready(());
            }
            for cut in Direction::ALL.iter().flat_map(|d| this.session.cutting(*d)) {
                if let Some(operation) = &this.operation {
                    operation.witness.cut(cut, Phase::Connect);
                } else if !this.held_by.iter().any(|held| is_same(held, cut)) {
                    this.held_by.push(cut.clone());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until the upstream may be dialled.
    async fn until_due(&mut self, client: &TcpStream) -> Result<(), End> {
        self.wait(client, |this, _, deadline| {
            let due = this.action.hold.due(this.session.accepted());
            if due > clock::now() {
                this.action.hold.settle(Phase::Connect);
                deadline.exactly(due);
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await?;
        self.action.hold = Hold::default();
        self.until_reachable(client).await
    }

    /// Never answers; ends when the rule is lifted.
    async fn stall<T>(&mut self, client: &TcpStream, receipt: &Receipt) -> Result<T, End> {
        self.wait(client, |_, _, _| match receipt.is_lifted() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await?;
        Err(End::Meant)
    }

    fn greeted(mut self, client: Socket, upstream: Option<Socket>) -> Greeted {
        let mut begun = self.operation.map(|operation| (operation, self.action));
        let stream = self.session.crossing().edge.protocol == Protocol::Tcp;
        if let Some((operation, action)) = &mut begun
            && self.changed
            && stream
        {
            action.ends.extend(self.session.readopt(operation, 0));
        }
        Greeted {
            client: Peer::new(client),
            upstream: upstream.map(Peer::new),
            session: self.session,
            begun,
        }
    }

    /// Records that it is not carried.
    fn end(self, end: End, door: &Door) {
        match &end {
            End::Failed(why) => door.stranger(&self.session, why),
            End::Gone(why) => door.stranger(&self.session, why),
            _ => {}
        }
        let nothing_said = matches!(end, End::Stopped | End::Left) && self.held_by.is_empty();
        let witness = match &self.operation {
            Some(operation) => operation.witness.clone(),
            // A connection that brings no message leaves no record.
            None if nothing_said => return,
            None => self.session.witness(),
        };
        for cut in &self.held_by {
            witness.cut(cut, Phase::Connect);
        }
        match end {
            End::Stopped => {
                witness.blame(Cause::Proxy);
                witness.told(Outcome::Closed, None, 0);
            }
            End::Cut => {
                for cut in self.session.all_cuts() {
                    witness.cut(cut, Phase::Connect);
                }
                witness.told(Outcome::Reset, None, 0);
            }
            End::Left | End::Gone(_) => {
                witness.client_left(Timestamp::now());
                witness.blame(Cause::Client);
                witness.told(Outcome::Left, None, 0);
            }
            End::Failed(_) => {
                witness.blame(Cause::Client);
                witness.told(Outcome::Closed, None, 0);
            }
            End::Unreachable(error) => {
                let delivery = witness.deliver();
                witness.failed(delivery, error.to_string());
                witness.blame(to_blame(&error));
                witness.told(Outcome::Reset, None, 0);
            }
            End::Meant => witness.told(Outcome::Closed, None, 0),
        }
    }
}

fn is_same(a: &Cut, b: &Cut) -> bool {
    Arc::ptr_eq(&a.partition, &b.partition)
}

/// Whoever is not carried because of the other side gets a RST, as without TLS.
fn broken_off<T>(done: Result<T, End>, socket: &impl Linger) -> Result<T, End> {
    if let Err(End::Cut | End::Unreachable(_)) = &done {
        socket.none();
    }
    done
}

/// A socket that can be told not to linger.
trait Linger {
    fn none(&self);
}

impl Linger for TcpStream {
    fn none(&self) {
        // An error means that it is broken already.
        let _ = SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Linger for Option<TcpStream> {
    fn none(&self) {
        if let Some(socket) = self {
            socket.none();
        }
    }
}

/// Refuses a handshake.
async fn alert(mut socket: TcpStream, receipt: &Receipt) -> End {
    // A record of type alert, of TLS 1.2 as all say, with two bytes: fatal, handshake_failure.
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
    if socket.write_all(&ALERT).await.is_err() {
        return End::Gone("it left before it was answered");
    }
    receipt.injected(Phase::Connect);
    see_off(socket).await;
    End::Meant
}

/// Closes a connection so that what was written last arrives: bytes that nobody reads would make a
/// RST of the close, which throws it away.
async fn see_off(mut socket: TcpStream) {
    // An error means that there is no one left to tell.
    if socket.shutdown().await.is_err() {
        return;
    }
    let draining = poll_fn(|cx| {
        let mut nowhere = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut nowhere);
            match Pin::new(&mut socket).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    });
    clock::within(CLOSING, draining).await;
}

/// How a handshake ended that went wrong.
fn failed(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => End::Gone("it left within its TLS handshake"),
        _ => End::Failed(format!("TLS handshake: {error}")),
    }
}

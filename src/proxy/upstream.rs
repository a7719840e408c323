//! The upstream's side of a connection: not dialled yet, being dialled, there, gone.
//!
//! Resolved anew at every dial, unless it is where the client was going; a dial is bounded by the proxy's `connect_timeout`, what comes before
//! the first byte included: a PROXY protocol header, TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::peer::{Peer, Socket, set_up};
use crate::clock;
use crate::evidence::Cause;
use crate::pipeline::Way;
use crate::rules::{Edge, Protocol};
use crate::tls::{Alpn, Client};
use crate::units;

/// A dial under way.
pub(super) type Dial = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

/// How the upstream's side stands.
pub(super) enum Upstream {
    /// Not dialled: there is no need yet, something stands in the way, or it never will be.
    None,
    /// Being dialled; dropped, that is given up.
    Dialling(Dial),
    /// There.
    Open(Peer),
    /// It was there, or could not be reached, and is no more.
    Gone,
}

impl Upstream {
    /// The other side, where there is one.
    pub(super) fn peer(&mut self) -> Option<&mut Peer> {
        match self {
            Self::Open(peer) => Some(peer),
            _ => None,
        }
    }

    /// Begins to dial.
    pub(super) fn dial(&mut self, edge: &Arc<Edge>, way: Way, alpn: Alpn) {
        *self = Self::Dialling(dial(edge, way, alpn));
    }

    /// Goes on with a dial under way. One that fails is logged, and leaves the upstream gone.
    pub(super) fn poll_dial(&mut self, cx: &mut Context<'_>, edge: &Edge) -> Option<io::Error> {
        let Self::Dialling(dialling) = self else {
            return None;
        };
        match dialling.as_mut().poll(cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(socket)) => {
                *self = Self::Open(Peer::new(socket));
                None
            }
            Poll::Ready(Err(error)) => {
                unreachable_now(edge, &error);
                *self = Self::Gone;
                Some(error)
            }
        }
    }

    /// Goes on with a dial that no one needs yet; answers whether it has failed. Then
    /// [`Upstream::poll_dial`] will find that too.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Dialling(dialling) = self else {
            return false;
        };
        match dialling.as_mut().poll(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(socket)) => {
                *self = Self::Open(Peer::new(socket));
                false
            }
            Poll::Ready(Err(error)) => {
                *self = Self::Dialling(Box::pin(std::future::ready(Err(error))));
                true
            }
        }
    }

    /// Breaks the connection, if there is one: the upstream gets a RST.
    pub(super) fn reset(&mut self) {
        if let Self::Open(peer) = std::mem::replace(self, Self::Gone) {
            peer.reset();
        }
    }
}

/// Whose fault it is that a dial failed.
pub(super) fn to_blame(error: &io::Error) -> Cause {
    match Errno::from_io_error(error) {
        // No descriptor, memory or local port was left to dial with: the upstream knows nothing of it.
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            Cause::Proxy
        }
        _ => Cause::Upstream,
    }
}

/// Says that a dial failed.
pub(super) fn unreachable_now(edge: &Edge, error: &io::Error) {
    tracing::warn!(
        proxy = edge.name,
        upstream = edge.upstream,
        %error,
        "the upstream can't be reached; the client's connection is reset"
    );
}

/// The protocols by their names in ALPN that a proxy for HTTP can carry.
pub(super) const CARRIED: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The protocols that an upstream is offered whose client has offered none, by what is carried.
pub(super) fn spoken(known: Protocol) -> Alpn {
    match known {
        Protocol::Tcp | Protocol::Auto => Alpn::new(),
        Protocol::Http => vec![b"http/1.1".to_vec()],
    }
}

/// Dials the upstream of an edge by that way; where the edge speaks TLS with it, `alpn` is offered. Cancel-safe: dropped, it gives up.
pub(super) fn dial(edge: &Arc<Edge>, way: Way, alpn: Alpn) -> Dial {
    let edge = Arc::clone(edge);
    Box::pin(async move {
        let connecting = async {
            let mut stream = match way.destination {
                Some(destination) => TcpStream::connect(destination).await?,
                None => TcpStream::connect(edge.upstream.as_str()).await?,
            };
            let _ = set_up(&stream);
            if let Some(introduction) = way.introduction {
                stream.write_all(&introduction).await?;
            }
            match edge.originate() {
                None => Ok(Socket::Plain(stream)),
                // In a place of its own: most dials need none for it.
                Some(client) => Box::pin(shake_hands(stream, client, alpn)).await,
            }
        };
        match clock::within(edge.connect_timeout, connecting).await {
            Some(connected) => connected,
            None => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "no connection within {}",
                    units::format_duration(edge.connect_timeout)
                ),
            )),
        }
    })
}

async fn shake_hands(stream: TcpStream, client: &Client, alpn: Alpn) -> io::Result<Socket> {
    let connector = TlsConnector::from(client.config(alpn));
    let shaken = connector.connect(client.server_name(), stream).await;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("TLS handshake: {error}"));
    let stream = shaken.map_err(named)?;
    Ok(Socket::Tls(Box::new(stream.into())))
}

//! The upstream's side of a connection: not dialled yet, being dialled, there, gone.
//!
//! Resolved anew at every dial, which is bounded by the proxy's `connect_timeout`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::net::TcpStream;

use super::peer::{Peer, set_up};
use crate::clock;
use crate::evidence::Cause;
use crate::rules::Edge;
use crate::units;

/// A dial under way.
type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

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
    pub(super) fn dial(&mut self, edge: &Arc<Edge>) {
        *self = Self::Dialling(dial(edge));
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
                tracing::warn!(
                    proxy = edge.name,
                    upstream = edge.upstream,
                    %error,
                    "the upstream can't be reached; the client's connection is reset"
                );
                *self = Self::Gone;
                Some(error)
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

/// Dials the upstream of an edge. Cancel-safe: dropped, it gives up.
pub(super) fn dial(edge: &Arc<Edge>) -> Dial {
    let edge = Arc::clone(edge);
    Box::pin(async move {
        let connecting = TcpStream::connect(edge.upstream.as_str());
        match clock::within(edge.connect_timeout, connecting).await {
            Some(connected) => connected.inspect(|socket| {
                let _ = set_up(socket);
            }),
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

//! The connection with the upstream: dialled when the first request is to go on, and never again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{self, SendRequest};

use super::io::{Io, Side};
use super::limits;
use crate::metrics::ProxyMeters;
use crate::proxy::peer::Peer;
use crate::proxy::upstream::Upstream;
use crate::rules::Edge;
use crate::tls::Alpn;

type Opened = (SendRequest<Bytes>, client::Connection<Io, Bytes>);
type Handshake = Pin<Box<dyn Future<Output = Result<Opened, h2::Error>> + Send>>;

/// How the upstream's side stands.
#[allow(clippy::large_enum_variant)] // There is one of them for each connection, mostly open.
pub(super) enum Link {
    /// Not there, or being dialled.
    Socket(Upstream),
    /// The preface is being written.
    Handshake(Io, Handshake),
    /// There; `None`: no further request will go on.
    Open(
        Io,
        Option<SendRequest<Bytes>>,
        client::Connection<Io, Bytes>,
    ),
    /// It was there, and is no more.
    Gone,
}

/// What has become of it.
pub(super) enum Ended {
    /// It could not be reached.
    Unreachable(std::io::Error),
    /// It ended with a FIN, or was to end.
    Closed,
    /// It broke, or the upstream speaks no HTTP/2.
    Broken(h2::Error),
}

pub(super) fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::WINDOW)
        .max_frame_size(limits::FRAME)
        .max_header_list_size(limits::FIELDS)
        .max_send_buffer_size(limits::UNSENT)
        .max_concurrent_reset_streams(limits::RESET_STREAMS)
        .max_pending_accept_reset_streams(limits::RESET_STREAMS)
        .data_frame_budget(limits::SMALL_FRAMES)
        // A pushed answer has no request that a record could be made of.
        .enable_push(false);
    builder
}

/// The protocol that an upstream is offered within TLS.
pub(super) fn spoken() -> Alpn {
    vec![b"h2".to_vec()]
}

impl Link {
    /// The other side, where there is one.
    pub(super) fn io(&self) -> Option<&Io> {
        match self {
            Self::Handshake(io, _) | Self::Open(io, ..) => Some(io),
            Self::Socket(_) | Self::Gone => None,
        }
    }

    /// Whether it is there, or may be.
    pub(super) fn stands(&self) -> bool {
        !matches!(self, Self::Gone)
    }

    /// Whether nothing was dialled.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::Socket(Upstream::None))
    }

    /// Goes on with it; answers once what has become of it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        edge: &Arc<Edge>,
        meters: &ProxyMeters,
        silent: bool,
    ) -> Option<Ended> {
        if let Self::Socket(socket) = self {
            if let Some(error) = socket.poll_dial(cx, edge) {
                *self = Self::Gone;
                return Some(Ended::Unreachable(error));
            }
            socket.peer()?;
            if let Upstream::Open(peer) = std::mem::replace(socket, Upstream::Gone) {
                *self = Self::shake_hands(peer, meters.clone(), silent);
            }
        }
        if let Self::Handshake(io, handshake) = self {
            match handshake.as_mut().poll(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok((send, connection))) => {
                    *self = Self::Open(io.clone(), Some(send), connection);
                }
                Poll::Ready(Err(error)) => {
                    *self = Self::Gone;
                    return Some(Ended::Broken(error));
                }
            }
        }
        let Self::Open(_, _, connection) = self else {
            return None;
        };
        match Pin::new(connection).poll(cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => Some(Ended::Closed),
            Poll::Ready(Err(error)) => Some(Ended::Broken(error)),
        }
    }

    fn shake_hands(peer: Peer, meters: ProxyMeters, silent: bool) -> Self {
        let mut side = Side::upstream(peer, Some(meters));
        side.silent = silent;
        let io = Io::new(side);
        let handshake = builder().handshake(io.clone());
        Self::Handshake(io, Box::pin(handshake))
    }

    /// Breaks the connection.
    pub(super) fn reset(&mut self) {
        match std::mem::replace(self, Self::Gone) {
            Self::Socket(mut socket) => socket.reset(),
            Self::Handshake(io, _) | Self::Open(io, ..) => io.side().reset(),
            Self::Gone => {}
        }
    }
}

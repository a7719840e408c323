//! One side's socket under the `h2` crate: what `h2` reads and writes passes a watcher, which tells
//! which frames have really been read and written.
//!
//! `h2` writes frame by frame. What it writes is collected, and goes to the socket when all has been
//! said that there was to say ([`Side::flush`]): only then it counts as written.
//!
//! `h2` owns its [`Io`]; the connection's task keeps the other handle to the same [`Side`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, Seen};
use crate::metrics::ProxyMeters;
use crate::operation::Direction;
use crate::proxy::peer::{Peer, Read};

/// How much is collected. Past it `h2` waits for the socket.
const COLLECTED: usize = 64 << 10;

/// How much room is taken for it at first.
const MOSTLY: usize = 16 << 10;

/// What is as long as this goes to the socket from where it is.
const LONG: usize = 8 << 10;

/// One side.
#[derive(Debug)]
pub(super) struct Side {
    /// `None`: broken off.
    peer: Option<Peer>,
    /// What was read and `h2` has not taken.
    ahead: Bytes,
    incoming: Frames,
    outgoing: Frames,
    /// What `h2` has written and the socket has not taken.
    collected: BytesMut,
    /// The socket takes no more because of this.
    broken: Option<io::Error>,
    /// What has come and what has gone since it was last looked at.
    pub(super) came: Vec<Seen>,
    pub(super) went: Vec<Seen>,
    /// A partition holds what would go to it.
    pub(super) silent: bool,
    /// It has said all it will say.
    pub(super) eof: bool,
    /// `h2`, which takes that for the end of everything, is told so.
    pub(super) tells_eof: bool,
    /// Nothing more goes to it.
    pub(super) fin: bool,
    /// Bytes have been read or written since it was last asked.
    moved: bool,
    /// Where the bytes count that it sends, and which way they go.
    meters: Option<(ProxyMeters, Direction)>,
}

impl Side {
    /// The client's, of which `ahead` was read already.
    pub(super) fn client(peer: Peer, ahead: Bytes, meters: ProxyMeters) -> Self {
        Self::new(true, peer, ahead, Some((meters, Direction::Upstream)))
    }

    /// The upstream's. What copies say does not count.
    pub(super) fn upstream(peer: Peer, meters: Option<ProxyMeters>) -> Self {
        let meters = meters.map(|meters| (meters, Direction::Downstream));
        Self::new(false, peer, Bytes::new(), meters)
    }

    fn new(
        client: bool,
        peer: Peer,
        ahead: Bytes,
        meters: Option<(ProxyMeters, Direction)>,
    ) -> Self {
        let mut incoming = Frames::new(client);
        let mut came = Vec::new();
        incoming.take(&ahead, &mut came);
        Self {
            peer: Some(peer),
            ahead,
            incoming,
            outgoing: Frames::new(!client),
            collected: BytesMut::new(),
            broken: None,
            came,
            went: Vec::new(),
            silent: false,
            eof: false,
            tells_eof: !client,
            fin: false,
            moved: false,
            meters,
        }
    }

    /// Whether the connection was not broken off.
    pub(super) fn stands(&self) -> bool {
        self.peer.is_some()
    }

    /// Bytes read from it.
    pub(super) fn read(&self) -> u64 {
        self.incoming.at()
    }

    /// Whether bytes have moved since this was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The position up to which the other host has acknowledged what was written.
    pub(super) fn acknowledged(&self) -> u64 {
        let Some(peer) = &self.peer else { return 0 };
        let unacknowledged = peer.unacknowledged() as u64;
        self.outgoing.at().saturating_sub(unacknowledged)
    }

    /// Whether the other host has acknowledged everything.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.collected.is_empty() && self.peer.as_ref().is_some_and(Peer::is_acknowledged)
    }

    /// Says that nothing more will come. What `h2` still writes goes nowhere.
    pub(super) fn send_fin(&mut self) {
        let _ = self.flush(&mut Context::from_waker(Waker::noop()));
        self.collected = BytesMut::new();
        self.fin = true;
        if let Some(peer) = &mut self.peer {
            peer.send_fin();
        }
    }

    /// Says this, whatever came before it, and that nothing more will come; answers how much of it
    /// went.
    pub(super) fn say(&mut self, bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = self.flush(&mut cx);
        self.collected = BytesMut::new();
        let peer = self.peer.as_mut().filter(|_| !self.silent && !self.fin);
        let written = peer.map(|peer| peer.write(&mut cx, bytes));
        self.send_fin();
        written.and_then(Result::ok).unwrap_or(0)
    }

    /// Breaks the connection.
    pub(super) fn reset(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.reset();
        }
    }

    /// Reads what still comes and throws it away; answers whether it was the end.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.eof) else {
            return true;
        };
        while let Poll::Ready(read) = peer.poll_read(cx, |_, _| ()) {
            if !matches!(read, Read::Bytes(())) {
                self.eof = true;
                return true;
            }
        }
        false
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(into.remaining());
            // The last of it gives its room back.
            into.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &self.broken {
            return Poll::Ready(Err(same(error)));
        }
        if self.eof {
            return match self.tells_eof {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        }
        let peer = self.peer.as_mut().ok_or_else(broken_off)?;
        let (incoming, came, ahead) = (&mut self.incoming, &mut self.came, &mut self.ahead);
        // `h2` has room for a few frames only: what came with them is kept for it.
        let read = ready!(peer.poll_read(cx, |_, read| {
            incoming.take(read, came);
            let (first, rest) = read.split_at(read.len().min(into.remaining()));
            into.put_slice(first);
            *ahead = Bytes::copy_from_slice(rest);
            read.len()
        }));
        match read {
            Read::Bytes(len) => {
                self.moved = true;
                if let Some((meters, sends)) = &self.meters {
                    meters.bytes(*sends, len);
                }
                Poll::Ready(Ok(()))
            }
            Read::Broken(error) => Poll::Ready(Err(error)),
            Read::Eof => {
                self.eof = true;
                match self.tells_eof {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                }
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.silent {
            // A change of the state wakes the task.
            return Poll::Pending;
        }
        if self.fin {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let long = len >= LONG
            && self
                .peer
                .as_ref()
                .is_some_and(|peer| peer.plain().is_some());
        if long || self.collected.len() >= COLLECTED {
            ready!(self.poll_flush(cx))?;
        }
        if long {
            return self.write(cx, slices);
        }
        self.check()?;
        if self.collected.is_empty() {
            self.collected.reserve(len.max(MOSTLY));
        }
        let before = self.collected.len();
        for slice in slices {
            let room = COLLECTED - self.collected.len();
            self.collected
                .extend_from_slice(&slice[..room.min(slice.len())]);
        }
        Poll::Ready(Ok(self.collected.len() - before))
    }

    /// Writes what was collected, as far as the socket takes it; answers whether the connection was
    /// found to be broken, which `h2` is to be told.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let broken = self.broken.is_some();
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            self.broken.get_or_insert(error);
            self.collected = BytesMut::new();
        }
        !broken && self.broken.is_some()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.collected.is_empty() {
            let collected = std::mem::take(&mut self.collected);
            let written = self.write(cx, &[IoSlice::new(&collected)]);
            self.collected = collected;
            self.collected.advance(ready!(written)?);
        }
        // An idle connection holds no room.
        self.collected = BytesMut::new();
        match self.peer.as_mut() {
            Some(peer) => peer.poll_flush(cx)?.map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Writes to the socket.
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.silent {
            return Poll::Pending;
        }
        let peer = self.peer.as_mut().ok_or_else(broken_off)?;
        let written = match ready!(peer.poll_write_vectored(cx, slices)) {
            Ok(written) => written,
            Err(error) => {
                self.broken = Some(same(&error));
                return Poll::Ready(Err(error));
            }
        };
        let mut left = written;
        for slice in slices {
            let n = left.min(slice.len());
            self.outgoing.take(&slice[..n], &mut self.went);
            left -= n;
        }
        self.moved = true;
        Poll::Ready(Ok(written))
    }

    /// Whether the socket takes anything.
    fn check(&self) -> io::Result<()> {
        match &self.broken {
            Some(error) => Err(same(error)),
            None if self.peer.is_none() => Err(broken_off()),
            None => Ok(()),
        }
    }
}

/// The same error once more.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn broken_off() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// One side, shared with `h2`.
#[derive(Debug, Clone)]
pub(super) struct Io(Arc<Mutex<Side>>);

impl Io {
    pub(super) fn new(side: Side) -> Self {
        Self(Arc::new(Mutex::new(side)))
    }

    pub(super) fn side(&self) -> MutexGuard<'_, Side> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.side().poll_read(cx, into)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.side().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.side().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is to go is collected, and goes later.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.side().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut side = self.side();
        ready!(side.poll_flush(cx))?;
        side.send_fin();
        Poll::Ready(Ok(()))
    }
}

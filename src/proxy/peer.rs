//! One side's socket, plain or TLS: reading through the thread's buffer, FIN, RST, what is not yet
//! acknowledged.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::{CommonState, ProtocolVersion, SupportedCipherSuite};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// How much is read at once. One buffer a thread, so that an idle connection holds none.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// What is said of an upstream whose end may not be the end of what it had to say.
pub(super) const TRUNCATED: &str = "its connection ended without a close_notify of TLS";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// Lends the thread's buffer. Not to be asked for again meanwhile.
pub(super) fn with_buffer<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| read(buffer))
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Read<R> {
    /// Some bytes, and what was made of them.
    Bytes(R),
    /// The other side will say no more.
    Eof,
    /// The connection is broken, mostly by a RST.
    Broken(io::Error),
}

/// What was moved in one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing: the task is woken when that may change.
    Nothing,
    /// All that there was: the task is woken when there is more.
    All,
    /// Something, and more may follow at once.
    Some,
}

/// How long a connection may be silent before the system asks whether the other host is still
/// there. It asks again and gives up as the system is set up (tcp(7)).
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));

/// Sets up a socket: what is written goes at once, and a host that is gone is found out. What a
/// listener has been given, the connections that it accepts have too (Linux).
///
/// # Errors
/// It is broken already, which the first read will tell as well.
pub(super) fn set_up<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// A connection's bytes, as they are or within TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// What TLS has agreed to carry, if it has (ALPN).
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Peer {
    socket: Socket,
    /// It has said all it will say.
    pub(super) eof: bool,
    /// A FIN was sent to it.
    pub(super) fin: bool,
    /// It ended without saying so in TLS: someone may have cut off what it still had to say.
    pub(super) truncated: bool,
    /// TLS has been told to say that no more will come; the FIN follows that.
    closing: bool,
    /// What TLS says with it, and the FIN: no one's answer, so that it need not arrive for one to be
    /// there. Whoever has read its answer and closed acknowledges no more.
    farewell: u8,
}

impl Peer {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            eof: false,
            fin: false,
            truncated: false,
            closing: false,
            farewell: 0,
        }
    }

    /// Reads once, if there is something, and hands it to `take`. Cancel-safe: what was read has
    /// been taken.
    pub(super) fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Read<R>> {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let done = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read));
            Poll::Ready(match done {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    (self.eof, self.truncated) = (true, true);
                    Read::Eof
                }
                Err(error) => {
                    self.eof = true;
                    Read::Broken(error)
                }
                Ok(()) if read.filled().is_empty() => {
                    self.eof = true;
                    Read::Eof
                }
                Ok(()) => Read::Bytes(take(cx, read.filled())),
            })
        })
    }

    /// Whether another read may find something; if not, the task is woken when one will. Asked after a
    /// read, it mostly saves the next one.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Moved {
        match &self.socket {
            Socket::Plain(stream) if stream.poll_read_ready(cx).is_pending() => Moved::All,
            // What TLS has taken in, only a read tells.
            _ => Moved::Some,
        }
    }

    /// Writes once, from several places if that can be.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.poll_flush(cx)?.is_pending() {
            return Poll::Pending;
        }
        match (&mut self.socket, slices) {
            (Socket::Plain(stream), [only]) => Pin::new(stream).poll_write(cx, only),
            (Socket::Plain(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Socket::Tls(tls), _) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                Pin::new(tls).poll_write(cx, first.map_or(&[], |slice| slice))
            }
        }
    }

    /// Writes as much as goes without waiting; arranges for a wake-up if not all went.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        // TLS takes bytes before it can pass them on: what it has taken goes first, so that it never
        // has more than one piece, and a first byte that was taken is on its way.
        while written < bytes.len() && self.poll_flush(cx)?.is_ready() {
            match Pin::new(&mut self.socket).poll_write(cx, &bytes[written..]) {
                Poll::Pending => break,
                Poll::Ready(n) => written += n?,
            }
        }
        Ok(written)
    }

    /// Puts on its way what TLS still holds, a FIN included; arranges for a wake-up if not all went.
    ///
    /// # Errors
    /// The connection is broken, which the next read will tell as well.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Socket::Tls(tls) = &mut self.socket else {
            return Ok(Poll::Ready(()));
        };
        if tls.get_ref().1.wants_write() && Pin::new(&mut *tls).poll_flush(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        if std::mem::take(&mut self.closing) {
            // An error means that there is no one left to tell.
            let told = SockRef::from(tls.get_ref().0).shutdown(Shutdown::Write);
            self.farewell += u8::from(told.is_ok());
        }
        Ok(Poll::Ready(()))
    }

    /// Why the connection is broken, for those who do not read from it.
    pub(super) fn broken(&self) -> Option<io::Error> {
        self.socket.tcp().take_error().ok().flatten()
    }

    /// The socket, for those who move bytes without looking at them. Within TLS they can't.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match &self.socket {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(_) => None,
        }
    }

    /// What TLS has agreed to carry, if it has (ALPN).
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.socket.alpn()
    }

    /// Says that no more will come. Bytes written before are delivered first.
    pub(super) fn send_fin(&mut self) {
        if std::mem::replace(&mut self.fin, true) {
            return;
        }
        match &mut self.socket {
            // An error means that there is no one left to tell.
            Socket::Plain(stream) => drop(SockRef::from(&*stream).shutdown(Shutdown::Write)),
            Socket::Tls(tls) => {
                let (_, session) = tls.get_mut();
                session.send_close_notify();
                self.farewell = close_notify_len(session);
                self.closing = true;
                // Mostly it goes at once. If not, the next flush arranges for a wake-up.
                let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
            }
        }
    }

    /// Breaks the connection: whoever is on the other side gets a RST.
    pub(super) fn reset(mut self) {
        self.fin = true;
        let socket = SockRef::from(self.socket.tcp());
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// Whether the other side's host has acknowledged every byte (and the FIN) written to it.
    /// `true` where the system can't say.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.unacknowledged() == 0
    }

    /// How much of it the other side's host has not acknowledged, as far as the system can say; what
    /// TLS still holds counts as one byte, what it says in farewell as none.
    pub(super) fn unacknowledged(&self) -> usize {
        let bytes = unacknowledged(self.socket.tcp().as_fd());
        let held = match &self.socket {
            Socket::Plain(_) => false,
            Socket::Tls(tls) => tls.get_ref().1.wants_write(),
        };
        let bytes = bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        bytes.saturating_sub(self.farewell.into()) + usize::from(held)
    }
}

/// The bytes of a close_notify on the wire: a record's header, the alert, what the cipher adds.
fn close_notify_len(session: &CommonState) -> u8 {
    let suite = session.negotiated_cipher_suite();
    let chacha = |suite: SupportedCipherSuite| {
        matches!(
            suite.suite().as_str(),
            Some(name) if name.contains("CHACHA20")
        )
    };
    match session.protocol_version() {
        // The kind of record, and the tag.
        Some(ProtocolVersion::TLSv1_3) => 5 + 2 + 1 + 16,
        _ if suite.is_some_and(chacha) => 5 + 2 + 16,
        // The nonce, and the tag.
        _ => 5 + 8 + 2 + 16,
    }
}

/// To close a socket says that no more will come; TLS has to be told.
impl Drop for Peer {
    fn drop(&mut self) {
        if let Socket::Tls(_) = self.socket {
            self.send_fin();
        }
    }
}

/// Bytes in the socket's send queue that the other host has not acknowledged (`SIOCOUTQ`, tcp(7)).
/// After a RST it still tells how many were unacknowledged then.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn unacknowledged(fd: std::os::fd::BorrowedFd<'_>) -> Option<i32> {
    use rustix::ioctl::{Getter, ioctl};
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: SIOCOUTQ writes one int for a TCP socket, as the type of the getter says.
    unsafe { ioctl(fd, Getter::<SIOCOUTQ, i32>::new()) }.ok()
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_fd: std::os::fd::BorrowedFd<'_>) -> Option<i32> {
    None
}

//! One side's socket: reading through the thread's buffer, FIN, RST, what is not yet acknowledged.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much is read at once. One buffer a thread, so that an idle connection holds none.
pub(super) const READ_SIZE: usize = 64 * 1024;

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

/// A connected socket.
#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    /// It has said all it will say.
    pub(super) eof: bool,
    /// A FIN was sent to it.
    pub(super) fin: bool,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            eof: false,
            fin: false,
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
            let done = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
            Poll::Ready(match done {
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

    /// Writes as much as goes without waiting; arranges for a wake-up if not all went.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[written..]) {
                Poll::Pending => break,
                Poll::Ready(n) => written += n?,
            }
        }
        Ok(written)
    }

    /// Why the connection is broken, for those who do not read from it.
    pub(super) fn broken(&self) -> Option<io::Error> {
        self.stream.take_error().ok().flatten()
    }

    /// The socket, for those who move bytes without looking at them.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Says that no more will come. Bytes written before are delivered first.
    pub(super) fn send_fin(&mut self) {
        if !self.fin {
            self.fin = true;
            // An error means that there is no one left to tell.
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        }
    }

    /// Breaks the connection: whoever is on the other side gets a RST.
    pub(super) fn reset(self) {
        let socket = SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// Whether the other side's host has acknowledged every byte (and the FIN) written to it.
    /// `true` where the system can't say.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.unacknowledged() == 0
    }

    /// How much of it the other side's host has not acknowledged. 0 where the system can't say.
    pub(super) fn unacknowledged(&self) -> usize {
        let bytes = unacknowledged(self.stream.as_fd());
        bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
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

//! Bulk bytes through the kernel: from one socket into a pipe, from the pipe into the other.
//!
//! Only where no rule can act. A pipe is taken when there is something to move and given back when
//! it is empty, so that an idle connection holds none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::peer::with_buffer;

/// What a pipe should hold; less where the system allows no more.
const PIPE_SIZE: usize = 1 << 20;
/// Empty pipes that are kept, for as long as anything bulky is under way.
const MOST_POOLED: usize = 32;
/// How many transfers below [`SMALL`] end the bulk.
const MOST_SMALL: u8 = 8;
const SMALL: usize = 16 * 1024;

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Empty pipes, and how many bulks may want one.
#[derive(Debug)]
struct Pool {
    pipes: Vec<Pipe>,
    bulks: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    pipes: Vec::new(),
    bulks: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = pool().pipes.pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller one serves as well, only slower.
        let _ = fcntl_setpipe_size(&write, PIPE_SIZE);
        Ok(Self { read, write })
    }

    /// Only an empty one: what is in it belongs to a connection.
    fn give_back(self) {
        let mut pool = pool();
        if pool.pipes.len() < MOST_POOLED {
            pool.pipes.push(self);
        }
    }
}

/// One direction's bulk.
#[derive(Debug)]
pub(super) struct Bulk {
    pipe: Option<Pipe>,
    /// Bytes in the pipe: read, and not yet written.
    inside: usize,
    small: u8,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        let mut pool = pool();
        pool.bulks -= 1;
        if pool.bulks == 0 {
            pool.pipes = Vec::new();
        }
    }
}

impl Bulk {
    pub(super) fn new() -> Self {
        pool().bulks += 1;
        Self {
            pipe: None,
            inside: 0,
            small: 0,
        }
    }

    /// Whether every byte that was read has been written.
    pub(super) fn is_drained(&self) -> bool {
        self.inside == 0
    }

    /// Whether what comes is no longer worth it.
    pub(super) fn is_over(&self) -> bool {
        self.inside == 0 && self.small >= MOST_SMALL
    }

    /// Reads into the empty pipe; `Ok(0)` is the end. Nothing is lost if the task is dropped
    /// between two calls but what is inside.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.inside, 0, "a full pipe and an empty socket look alike");
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            // What is wrong with pipes is nothing wrong with the connection.
            None => Pipe::take().map_err(|_| io::ErrorKind::Unsupported)?,
        };
        let read = ready_io(
            || source.poll_read_ready(cx),
            || {
                source.try_io(Interest::READABLE, || {
                    moved(source.as_fd(), pipe.write.as_fd())
                })
            },
        );
        match read {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.inside = n;
                self.small = if n < SMALL { self.small + 1 } else { 0 };
                self.pipe = Some(pipe);
            }
            _ => pipe.give_back(),
        }
        read
    }

    /// Gives what is in the pipe to `take`, piece by piece.
    ///
    /// # Errors
    /// The pipe can't be read, which no pipe does that is not empty.
    pub(super) fn take_back(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        while let Some(pipe) = &self.pipe
            && self.inside > 0
        {
            let n = with_buffer(|buffer| {
                let n = rustix::io::read(&pipe.read, &mut *buffer)?;
                take(&buffer[..n]);
                io::Result::Ok(n)
            })?;
            self.inside = self
                .inside
                .checked_sub(n)
                .filter(|_| n > 0)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        self.pipe.take().into_iter().for_each(Pipe::give_back);
        Ok(())
    }

    /// Writes what is in the pipe; answers how much of it went.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        target: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(Ok(0));
        };
        let inside = self.inside;
        let sent = ready!(ready_io(
            || target.poll_write_ready(cx),
            || {
                target.try_io(Interest::WRITABLE, || {
                    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                    Ok(splice(&pipe.read, None, target, None, inside, flags)?)
                })
            },
        ))?;
        self.inside -= sent;
        if self.inside == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipe.give_back();
        }
        Poll::Ready(Ok(sent))
    }
}

fn moved(
    source: std::os::fd::BorrowedFd<'_>,
    pipe: std::os::fd::BorrowedFd<'_>,
) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(source, None, pipe, None, PIPE_SIZE, flags)?)
}

/// Tries as often as the socket says that it is ready and turns out not to be.
fn ready_io(
    mut poll_ready: impl FnMut() -> Poll<io::Result<()>>,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(poll_ready())?;
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

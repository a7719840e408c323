//! One direction of a connection: what was read and not yet written, in order, each piece with
//! what holds it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::peer::Peer;
use super::watch::Deadline;
use crate::clock::Instant;
use crate::operation::Phase;
use crate::pipeline::{Crossing, Hold};
use crate::rare::{Empty, Rare};

/// Unsent bytes at which the source is no longer read, where no fault holds them.
const UNSENT: usize = 64 * 1024;

/// What a rate lets go within this time does not count among them: a wake-up that comes late then
/// finds bytes that are due, and the rate is kept.
const AHEAD: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    arrived: Instant,
    hold: Hold,
    phase: Phase,
    /// Nothing follows: the peer gets a FIN.
    fin: bool,
}

/// What was read and not yet written.
#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Pieces that something holds.
    held: usize,
}

impl Empty for Queue {
    fn empty() -> &'static Self {
        static EMPTY: Queue = Queue {
            pieces: VecDeque::new(),
            bytes: 0,
            held: 0,
        };
        &EMPTY
    }
}

/// A queue of bytes towards one peer.
#[derive(Debug)]
pub(super) struct Lane {
    /// Mostly what is read can be written at once.
    queue: Rare<Queue>,
    /// What was written to the peer, in bytes, over all time.
    written: u64,
    crossing: Arc<Crossing>,
}

/// Why a lane stopped writing.
#[derive(Debug)]
pub(super) enum Flushed {
    /// Nothing is left.
    Empty,
    /// The peer takes no more now; the task is woken when it does.
    Full,
    /// The next piece is held until then, or until its rules are lifted.
    Held(Instant),
    /// The peer's connection is broken.
    Broken(io::Error),
}

impl Lane {
    pub(super) fn new(crossing: Arc<Crossing>) -> Self {
        Self {
            queue: Rare::default(),
            written: 0,
            crossing,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.pieces.is_empty()
    }

    /// Whether something holds the first of them.
    pub(super) fn is_held(&self) -> bool {
        let first = self.queue.pieces.front();
        first.is_some_and(|piece| !piece.hold.is_none())
    }

    /// The position up to which bytes were put in, but for those that were thrown away.
    pub(super) fn taken(&self) -> u64 {
        self.written + self.queue.bytes as u64
    }

    /// The position up to which bytes were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the source may be read. Behind a fault or a cut (`held`) up to the caps on held
    /// bytes, else only a little ahead of the peer. Where only time makes room, `deadline` is
    /// brought forward to when that will be.
    pub(super) fn has_room(&self, held: bool, deadline: &mut Deadline) -> bool {
        if !self.crossing.context.held.has_room(self.queue.bytes) {
            return false;
        }
        if !held && self.queue.held == 0 {
            return self.queue.bytes < UNSENT;
        }
        // Paces end in order, so those that have not ended are the last pieces.
        let now = crate::clock::now();
        let mut ahead = 0;
        for piece in self.queue.pieces.iter().rev() {
            let until = piece.hold.paced_until(piece.arrived);
            if until <= now + AHEAD {
                break;
            }
            ahead += piece.bytes.len();
            if ahead >= UNSENT {
                deadline.sooner(until - AHEAD);
                return false;
            }
        }
        true
    }

    /// Notes bytes that were written to the peer without going through the lane.
    pub(super) fn count_passed(&mut self, n: usize) {
        self.written += n as u64;
    }

    /// Puts bytes behind all others.
    pub(super) fn push(&mut self, bytes: Bytes, arrived: Instant, hold: Hold, phase: Phase) {
        let len = bytes.len();
        self.queue.bytes += len;
        self.crossing.context.held.add(len);
        self.put(Piece {
            bytes,
            arrived,
            hold,
            phase,
            fin: false,
        });
    }

    fn put(&mut self, piece: Piece) {
        let queue = &mut *self.queue;
        queue.held += usize::from(!piece.hold.is_none());
        queue.pieces.push_back(piece);
    }

    /// Puts a FIN behind all bytes.
    pub(super) fn push_fin(&mut self, arrived: Instant, hold: Hold) {
        self.put(Piece {
            bytes: Bytes::new(),
            arrived,
            hold,
            phase: Phase::Stream,
            fin: true,
        });
    }

    /// Writes bytes straight from where they were read, if nothing is before them; keeps a copy
    /// of what the peer does not take. That it is broken, the next flush will tell.
    pub(super) fn pass(&mut self, cx: &mut Context<'_>, peer: Option<&mut Peer>, bytes: &[u8]) {
        let sent = match peer {
            Some(peer) if self.queue.pieces.is_empty() => peer.write(cx, bytes).unwrap_or(0),
            _ => 0,
        };
        self.written += sent as u64;
        if sent < bytes.len() {
            let rest = Bytes::copy_from_slice(&bytes[sent..]);
            self.push(rest, crate::clock::now(), Hold::default(), Phase::Stream);
        }
    }

    /// Writes what is due.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, peer: &mut Peer) -> Flushed {
        let Some(queue) = self.queue.written() else {
            return Flushed::Empty;
        };
        while let Some(piece) = queue.pieces.front_mut() {
            if !piece.hold.is_none() {
                piece.hold.watch(cx);
                let due = piece.hold.due(piece.arrived);
                if due > crate::clock::now() {
                    piece.hold.settle(piece.phase);
                    return Flushed::Held(due);
                }
                queue.held -= 1;
                piece.hold = Hold::default();
            }
            if piece.fin {
                peer.send_fin();
            }
            let sent = match peer.write(cx, &piece.bytes) {
                Ok(sent) => sent,
                Err(error) => return Flushed::Broken(error),
            };
            piece.bytes.advance(sent);
            let whole = piece.bytes.is_empty();
            self.written += sent as u64;
            queue.bytes -= sent;
            self.crossing.context.held.sub(sent);
            if !whole {
                return Flushed::Full;
            }
            queue.pieces.pop_front();
        }
        Flushed::Empty
    }

    /// Throws away what was not written.
    pub(super) fn clear(&mut self) {
        if let Some(queue) = self.queue.written() {
            self.crossing.context.held.sub(queue.bytes);
            *queue = Queue::default();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.clear();
    }
}

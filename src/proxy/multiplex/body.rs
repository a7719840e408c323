//! One side's body on its way to the other: as fast as the other takes it, and with its trailers.
//!
//! What was read counts against the sender's windows until the receiver's have room for it, so that
//! no more than the windows is ever held.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use crate::clock::{self, Instant};
use crate::evidence::Digester;
use crate::faults::{End, Then};
use crate::operation::Phase;
use crate::pipeline::{ChunkAction, Hold, Receipt, Witness};

/// Why a body does not go on.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its sender ended it otherwise than it should.
    Source(h2::Error),
    /// The other side takes no more.
    Target,
}

/// How far a body went.
#[derive(Debug)]
pub(super) enum Moved {
    /// To its end.
    Whole,
    /// A fault ends it here.
    Cut(End, Receipt),
    /// The rest goes nowhere, and this becomes of the client.
    Lost(Then, Receipt),
}

/// A body under way.
#[derive(Debug)]
pub(super) struct Body {
    from: RecvStream,
    /// What was read of it and did not fit.
    piece: Bytes,
    /// How much of that, at its front, no longer counts against the sender, having been read before.
    free: usize,
    /// Nobody has been shown that.
    unseen: bool,
    /// Its trailers, where those were read before as well.
    ahead: Option<Box<HeaderMap>>,
    /// What faults have made of it, while they act on it.
    acted: Option<Box<Acted>>,
    /// What holds it ends then.
    pub(super) due: Option<Instant>,
    /// Whether a copy of its trailers is kept, and that.
    pub(super) keeps_trailers: bool,
    trailers: Option<Box<HeaderMap>>,
    /// Of the upstream's answer: what is read of it, and whom to tell once that is all.
    read: Option<(Digester, Witness)>,
}

#[derive(Debug, Default)]
struct Acted {
    pieces: VecDeque<(Bytes, Hold, Instant)>,
    /// Bytes that count against the sender.
    unreleased: usize,
    end: Option<Rest>,
}

/// What follows the pieces.
#[derive(Debug)]
enum Rest {
    Whole(Option<HeaderMap>),
    Failed(h2::Error),
    Moved(Moved),
}

impl Body {
    pub(super) fn new(from: RecvStream) -> Self {
        Self::with(from, Bytes::new())
    }

    /// One of which this was read already.
    pub(super) fn with(from: RecvStream, read: Bytes) -> Self {
        Self {
            from,
            free: read.len(),
            unseen: !read.is_empty(),
            piece: read,
            ahead: None,
            acted: None,
            due: None,
            keeps_trailers: false,
            trailers: None,
            read: None,
        }
    }

    /// The upstream's answer to the operation of this witness.
    pub(super) fn answer(from: RecvStream, witness: &Witness) -> Self {
        let read = Some((witness.answer_digester(), witness.clone()));
        let mut body = Self {
            read,
            ..Self::new(from)
        };
        body.note_end();
        body
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let read = ready!(self.from.poll_data(cx));
        match (&read, &mut self.read) {
            (Some(Ok(bytes)), Some((digester, _))) => {
                digester.update(bytes);
                self.note_end();
            }
            (None, Some(_)) => self.note_read(),
            _ => {}
        }
        Poll::Ready(read)
    }

    fn note_end(&mut self) {
        if self.from.is_end_stream() {
            self.note_read();
        }
    }

    fn note_read(&mut self) {
        if let Some((mut digester, witness)) = self.read.take() {
            witness.answer_ended(0, &mut digester);
        }
    }

    /// The same, of which this was read already.
    pub(super) fn beginning(self, read: Bytes) -> Self {
        Self {
            ahead: self.ahead,
            read: self.read,
            ..Self::with(self.from, read)
        }
    }

    /// The copy of its trailers.
    pub(super) fn into_trailers(self) -> Option<HeaderMap> {
        self.trailers.map(|trailers| *trailers)
    }

    /// Its trailers were read, and are to be read again.
    pub(super) fn put_back(&mut self, trailers: Option<HeaderMap>) {
        self.ahead = trailers.map(Box::new);
    }

    /// What was read before, for the first time.
    fn unseen(&mut self) -> Option<Bytes> {
        std::mem::take(&mut self.unseen).then(|| self.piece.clone())
    }

    /// Whether the sender's side ends here.
    fn ends(&self) -> bool {
        self.ahead.is_none() && self.from.is_end_stream()
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        match self.ahead.take() {
            Some(trailers) => Poll::Ready(Ok(Some(*trailers))),
            None => self.from.poll_trailers(cx),
        }
    }

    /// Whether it was read to its end.
    pub(super) fn is_end(&self) -> bool {
        let held = self
            .acted
            .as_ref()
            .is_some_and(|acted| !acted.pieces.is_empty());
        self.piece.is_empty() && !held && self.ends()
    }

    /// Reads it into `kept`, until that is longer than `most`; ready at its end.
    pub(super) fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        kept: &mut BytesMut,
        most: usize,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        while kept.len() <= most {
            let Some(bytes) = ready!(self.poll_data(cx)) else {
                return self.from.poll_trailers(cx);
            };
            let bytes = bytes?;
            kept.extend_from_slice(&bytes);
            self.release(bytes.len());
        }
        Poll::Pending
    }

    /// Whether faults have begun to act on it.
    pub(super) fn is_acted(&self) -> bool {
        self.acted.is_some()
    }

    /// Moves what can be moved, and shows it to `see`. Ready when the end of it has been handed over.
    pub(super) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
        mut see: impl FnMut(&Bytes),
    ) -> Poll<Result<(), Stopped>> {
        if let Some(bytes) = self.unseen() {
            see(&bytes);
        }
        loop {
            if self.piece.is_empty() {
                match ready!(self.poll_data(cx)) {
                    None => break,
                    Some(Err(error)) => return Poll::Ready(Err(Stopped::Source(error))),
                    Some(Ok(bytes)) if bytes.is_empty() => {
                        if !self.ends() {
                            continue;
                        }
                        return Poll::Ready(hand_over(to, bytes, true));
                    }
                    Some(Ok(bytes)) => {
                        see(&bytes);
                        self.piece = bytes;
                    }
                }
            }
            let room = ready!(poll_room(cx, to, self.piece.len()))?;
            let part = self.piece.split_to(room.min(self.piece.len()));
            let len = part.len();
            let end = self.piece.is_empty() && self.ends();
            hand_over(to, part, end)?;
            let free = len.min(self.free);
            self.free -= free;
            self.release(len - free);
            if end {
                return Poll::Ready(Ok(()));
            }
        }
        let trailers = ready!(self.poll_trailers(cx)).map_err(Stopped::Source)?;
        Poll::Ready(self.finish(to, trailers))
    }

    /// As [`Body::poll_move`], where faults act: `ask` tells what is to be done with bytes that were
    /// read.
    pub(super) fn poll_acted(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
        mut ask: impl FnMut(Bytes, Instant) -> ChunkAction,
    ) -> Poll<Result<Moved, Stopped>> {
        let mut acted = self.acted.take().unwrap_or_default();
        let moved = self.poll_pieces(cx, to, &mut ask, &mut acted);
        self.acted = Some(acted);
        moved
    }

    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
        ask: &mut impl FnMut(Bytes, Instant) -> ChunkAction,
        acted: &mut Acted,
    ) -> Poll<Result<Moved, Stopped>> {
        loop {
            self.due = None;
            if self.write_pieces(cx, to, acted)? {
                return Poll::Ready(Ok(Moved::Whole));
            }
            if acted.pieces.is_empty() {
                self.release(std::mem::take(&mut acted.unreleased));
                match acted.end.take() {
                    None => {}
                    Some(Rest::Whole(trailers)) => {
                        return Poll::Ready(self.finish(to, trailers).map(|()| Moved::Whole));
                    }
                    Some(Rest::Failed(error)) => return Poll::Ready(Err(Stopped::Source(error))),
                    Some(Rest::Moved(moved)) => return Poll::Ready(Ok(moved)),
                }
            }
            if acted.end.is_some() {
                return Poll::Pending;
            }
            if let Some(bytes) = self.unseen() {
                self.piece.clear();
                acted.unreleased += bytes.len() - self.free.min(bytes.len());
                self.free = 0;
                take_in(bytes, ask, acted);
                continue;
            }
            let bytes = match ready!(self.poll_data(cx)) {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => {
                    acted.end = Some(Rest::Failed(error));
                    continue;
                }
                None => {
                    acted.end = Some(match ready!(self.poll_trailers(cx)) {
                        Ok(trailers) => Rest::Whole(trailers),
                        Err(error) => Rest::Failed(error),
                    });
                    continue;
                }
            };
            if bytes.is_empty() {
                continue;
            }
            acted.unreleased += bytes.len();
            take_in(bytes, ask, acted);
        }
    }

    /// Writes the pieces that are due; answers whether the end of the body went with the last.
    fn write_pieces(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
        acted: &mut Acted,
    ) -> Result<bool, Stopped> {
        while let Some((bytes, hold, arrived)) = acted.pieces.front_mut() {
            if !hold.is_none() {
                hold.watch(cx);
                let due = hold.due(*arrived);
                if due > clock::now() {
                    hold.settle(Phase::Body);
                    self.due = Some(due);
                    return Ok(false);
                }
                *hold = Hold::default();
            }
            let room = match poll_room(cx, to, bytes.len()) {
                Poll::Pending => return Ok(false),
                Poll::Ready(room) => room?,
            };
            let part = bytes.split_to(room.min(bytes.len()));
            let len = part.len();
            if bytes.is_empty() {
                acted.pieces.pop_front();
            }
            let last = acted.pieces.is_empty() && acted.end.is_none();
            let end = last && self.ends();
            hand_over(to, part, end)?;
            let released = len.min(acted.unreleased);
            acted.unreleased -= released;
            self.release(released);
            if end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn finish(
        &mut self,
        to: &mut SendStream<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<(), Stopped> {
        match trailers {
            None => hand_over(to, Bytes::new(), true),
            Some(trailers) => {
                self.trailers = self.keeps_trailers.then(|| Box::new(trailers.clone()));
                to.send_trailers(trailers).map_err(|_| Stopped::Target)
            }
        }
    }

    fn release(&mut self, len: usize) {
        // It fails for a stream that is gone, which the next read tells.
        let _ = self.from.flow_control().release_capacity(len);
    }

    /// Reads it to its end, and shows it to `see`; it goes nowhere.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        mut see: impl FnMut(&Bytes),
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        if let Some(bytes) = self.unseen() {
            see(&bytes);
        }
        let left = std::mem::take(&mut self.piece).len();
        self.release(left.saturating_sub(self.free));
        self.free = 0;
        if let Some(acted) = self.acted.take() {
            self.release(acted.unreleased);
            if let Some(Rest::Whole(_)) = acted.end {
                return Poll::Ready(Ok(None));
            }
        }
        while let Some(bytes) = ready!(self.poll_data(cx)) {
            let bytes = bytes?;
            see(&bytes);
            self.release(bytes.len());
        }
        self.poll_trailers(cx)
    }
}

/// Asks what is to be done with bytes that were read.
fn take_in(bytes: Bytes, ask: &mut impl FnMut(Bytes, Instant) -> ChunkAction, acted: &mut Acted) {
    let now = clock::now();
    let action = ask(bytes, now);
    for receipt in action.altered {
        receipt.injected(Phase::Body);
    }
    let pieces = action.pieces.into_iter();
    let pieces = pieces.map(|(bytes, hold)| (bytes, hold, now));
    acted.pieces.extend(pieces);
    let end = action
        .end
        .map(|(end, by)| (Moved::Cut(end, by.clone()), by));
    let lost = action.discard;
    let lost = lost.map(|(then, by)| (Moved::Lost(then, by.clone()), by));
    if let Some((moved, receipt)) = lost.or(end) {
        receipt.injected(Phase::Body);
        acted.end = Some(Rest::Moved(moved));
    }
}

/// How much the other side takes, of so much.
fn poll_room(
    cx: &mut Context<'_>,
    to: &mut SendStream<Bytes>,
    len: usize,
) -> Poll<Result<usize, Stopped>> {
    to.reserve_capacity(len);
    let room = to.capacity();
    if room > 0 {
        return Poll::Ready(Ok(room));
    }
    Poll::Ready(match ready!(to.poll_capacity(cx)) {
        Some(Ok(room)) => Ok(room),
        Some(Err(_)) | None => Err(Stopped::Target),
    })
}

fn hand_over(to: &mut SendStream<Bytes>, part: Bytes, end: bool) -> Result<(), Stopped> {
    to.send_data(part, end).map_err(|_| Stopped::Target)
}

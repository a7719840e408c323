//! Delivering again: a connection of its own to the upstream, whose answer the client does not get
//! (or gets instead of the first).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::peer::Socket;
use super::upstream::{dial, spoken};
use crate::clock::{self, Instant};
use crate::evidence::{Digester, replayed};
use crate::operation::{Direction, Phase};
use crate::pipeline::{Crossing, Receipt, Session, Way, Witness};
use crate::protocol::http1::{Asked, ResponseFramer, scratch};
use crate::protocol::{Eof, Event};
use crate::rules::Protocol;
use crate::state::Stopping;
use crate::tls::Alpn;

/// Bytes of an operation that are kept for copies, at the most; the source is no longer read
/// (a stream) or the operation no longer copied (a message) past it.
pub(super) const MOST_KEPT: usize = 1 << 20;

/// What a copy still has to send.
#[derive(Debug, Default)]
struct Backlog {
    pieces: VecDeque<(Bytes, Instant)>,
    bytes: usize,
    closed: bool,
    /// Nobody will take more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Hands bytes to a copy. Dropped, it says that there are no more.
#[derive(Debug)]
pub(super) struct Feed(Arc<Mutex<Backlog>>);

fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(super) fn push(&self, bytes: Bytes, arrived: Instant) {
        let mut backlog = lock(&self.0);
        if !backlog.deaf {
            backlog.bytes += bytes.len();
            backlog.pieces.push_back((bytes, arrived));
        }
        wake(&mut backlog.reader);
    }

    /// Whether the copy keeps up; arranges for a wake-up if not.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut backlog = lock(&self.0);
        if backlog.deaf || backlog.bytes < MOST_KEPT {
            return Poll::Ready(());
        }
        backlog.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut backlog = lock(&self.0);
        backlog.closed = true;
        wake(&mut backlog.reader);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The copy's end of a [`Feed`].
#[derive(Debug)]
struct Source(Arc<Mutex<Backlog>>);

impl Source {
    /// The next bytes with their arrival; `None`: there are no more. Cancel-safe.
    async fn next(&self) -> Option<(Bytes, Instant)> {
        std::future::poll_fn(|cx| {
            let mut backlog = lock(&self.0);
            if let Some((bytes, arrived)) = backlog.pieces.pop_front() {
                backlog.bytes -= bytes.len();
                wake(&mut backlog.writer);
                return Poll::Ready(Some((bytes, arrived)));
            }
            if backlog.closed {
                return Poll::Ready(None);
            }
            backlog.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut backlog = lock(&self.0);
        backlog.deaf = true;
        backlog.pieces.clear();
        backlog.bytes = 0;
        wake(&mut backlog.writer);
    }
}

/// When a copy begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// Once there is something to send.
    AtOnce,
    /// Once this happens; never, if it can't any more.
    When(oneshot::Receiver<()>),
    /// Once its rule is lifted.
    Lifted,
}

/// What becomes of the copy's answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is discarded; it ends when the upstream closes.
    Stream,
    /// It is an HTTP answer, discarded.
    Message(Asked),
    /// It is an HTTP answer that goes to the client, if it comes whole and is not too long.
    Wanted(Asked, oneshot::Sender<Whole>),
}

/// A copy's answer, whole.
#[derive(Debug)]
pub(super) struct Whole {
    /// As they came, interim heads included.
    pub(super) bytes: Bytes,
    pub(super) status: u16,
    /// Nothing may follow it on a connection: it ends with that, or says so.
    pub(super) last: bool,
}

/// Where copies of a connection's operations go, and what is said of the client there.
#[derive(Debug, Clone)]
pub(super) struct Towards {
    crossing: Arc<Crossing>,
    way: Way,
}

impl Towards {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            crossing: Arc::clone(session.crossing()),
            way: session.way(),
        }
    }
}

/// Begins a copy that runs `after` behind the original.
pub(super) fn spawn(
    towards: &Towards,
    witness: &Witness,
    receipt: Receipt,
    after: Duration,
    answer: Answer,
    begin: Begin,
) -> Feed {
    let backlog = Arc::default();
    let copy = Copy {
        attempt: Attempt::new(towards, witness, receipt),
        source: Source(Arc::clone(&backlog)),
        after,
    };
    let outlives = matches!(begin, Begin::Lifted);
    tokio::spawn(async move {
        let delivering = copy.deliver(answer, begin);
        copy.attempt.run(delivering, outlives).await;
    });
    Feed(backlog)
}

/// One delivery besides the first.
pub(super) struct Attempt {
    towards: Towards,
    pub(super) witness: Witness,
    pub(super) receipt: Receipt,
    /// A message has gone out: it is followed to the end of its answer, so that this is known.
    is_followed: AtomicBool,
}

impl Attempt {
    pub(super) fn new(towards: &Towards, witness: &Witness, receipt: Receipt) -> Self {
        Self {
            towards: towards.clone(),
            witness: witness.clone(),
            receipt,
            is_followed: AtomicBool::new(false),
        }
    }

    /// The first of a message's bytes has been written to the upstream.
    pub(super) fn sent(&self, delivery: u32) {
        self.is_followed.store(true, Relaxed);
        self.witness.sent(delivery);
        self.receipt.injected(Phase::Request);
    }

    /// How long its exchange may take.
    pub(super) fn limit(&self) -> Duration {
        self.towards.crossing.context.linger
    }

    /// Runs `delivering` until it is done, the rule lifted (unless it outlives that, or has been sent),
    /// or the process stops.
    pub(super) async fn run(&self, delivering: impl Future<Output = ()>, outlives: bool) {
        let state = Arc::clone(&self.towards.crossing.context.state);
        let ended = async {
            loop {
                let changed = state.changed();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let stays = outlives || self.is_followed.load(Relaxed);
                let lifted = self.receipt.is_lifted() && !stays;
                if lifted || self.towards.crossing.stopping() == Stopping::Now {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            () = delivering => {}
            () = ended => {}
        }
    }

    /// Waits for its beginning; answers when that is. `None`: it never will be.
    pub(super) async fn begin(&self, begin: Begin, arrived: Instant) -> Option<Instant> {
        match begin {
            Begin::AtOnce => Some(arrived),
            Begin::When(happens) => happens.await.ok().map(|()| clock::now()),
            Begin::Lifted => {
                self.until(|| self.receipt.is_lifted()).await;
                Some(clock::now())
            }
        }
    }

    /// Dials the upstream, once it can be reached, offering these protocols within TLS, and delivers
    /// so.
    pub(super) async fn deliver<F, E>(&self, alpn: Alpn, exchange: impl FnOnce(Socket, u32) -> F)
    where
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        self.until_reachable().await;
        let delivery = self.witness.deliver();
        let edge = &self.towards.crossing.edge;
        match dial(edge, self.towards.way.clone(), alpn).await {
            Err(error) => self.witness.failed(delivery, error.to_string()),
            Ok(socket) => {
                if let Err(error) = exchange(socket, delivery).await {
                    self.witness.failed(delivery, error.to_string());
                }
            }
        }
    }

    /// Waits while a partition stands between the proxy's two services.
    async fn until_reachable(&self) {
        self.until(|| !self.towards.crossing.is_cut(Direction::Upstream))
            .await;
    }

    /// Waits for a change of the state after which this holds.
    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.towards.crossing.context.state.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

struct Copy {
    attempt: Attempt,
    source: Source,
    after: Duration,
}

impl Copy {
    async fn deliver(&self, answer: Answer, begin: Begin) {
        // Nothing is dialled before there is something to send.
        let Some((first, arrived)) = self.source.next().await else {
            return;
        };
        let Some(from) = self.attempt.begin(begin, arrived).await else {
            return;
        };
        clock::sleep_until(from + self.after).await;
        let known = match answer {
            Answer::Stream => Protocol::Tcp,
            _ => Protocol::Http,
        };
        let exchange = |socket, delivery| self.exchange(socket, first, delivery, answer);
        self.attempt.deliver(spoken(known), exchange).await;
    }

    async fn exchange(
        &self,
        socket: Socket,
        first: Bytes,
        delivery: u32,
        answer: Answer,
    ) -> io::Result<()> {
        let Attempt {
            witness, receipt, ..
        } = &self.attempt;
        let (mut from, mut to) = tokio::io::split(socket);
        let is_stream = matches!(answer, Answer::Stream);
        let writing = async {
            // A part of it is a delivery too.
            let n = to.write(&first).await?;
            if is_stream {
                witness.sent(delivery);
                receipt.injected(Phase::Stream);
            } else {
                self.attempt.sent(delivery);
            }
            to.write_all(&first[n..]).await?;
            to.flush().await?;
            while let Some((bytes, arrived)) = self.source.next().await {
                clock::sleep_until(arrived + self.after).await;
                to.write_all(&bytes).await?;
                to.flush().await?;
            }
            if is_stream {
                to.shutdown().await?;
            }
            Ok(())
        };
        let reading = async {
            let mut answer = Reading::new(answer);
            let mut buffer = BytesMut::with_capacity(16 * 1024);
            loop {
                let n = match from.read_buf(&mut buffer).await {
                    // Within TLS: it ended without saying so.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                    read => read?,
                };
                if n > 0 {
                    witness.answer_bytes(delivery, n);
                }
                if answer.take(&mut buffer, n == 0, witness, delivery)? {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        tokio::pin!(writing, reading);
        let sent: io::Result<()> = tokio::select! {
            sent = &mut writing => sent,
            // The upstream needed no more of it, or will take no more.
            answered = &mut reading => return answered,
        };
        sent?;
        let limit = self.attempt.limit();
        match clock::within(limit, reading).await {
            Some(answered) => answered,
            None => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no end of the answer within `limits.linger`",
            )),
        }
    }
}

/// Follows a copy's answer to its end.
struct Reading {
    answer: Answer,
    framer: ResponseFramer,
    kept: BytesMut,
    /// Of its body.
    body: Digester,
    status: u16,
    last: bool,
    too_long: bool,
}

impl Reading {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            framer: ResponseFramer::default(),
            kept: BytesMut::new(),
            body: Digester::default(),
            status: 0,
            last: false,
            too_long: false,
        }
    }

    /// Takes what was read; answers whether it was the end.
    fn take(
        &mut self,
        buffer: &mut BytesMut,
        eof: bool,
        witness: &Witness,
        delivery: u32,
    ) -> io::Result<bool> {
        let asked = match &self.answer {
            Answer::Stream => {
                if !buffer.is_empty() {
                    witness.answered(delivery, None);
                    buffer.clear();
                }
                return Ok(eof);
            }
            Answer::Message(asked) | Answer::Wanted(asked, _) => *asked,
        };
        loop {
            let mut scratch = scratch();
            let event = self.framer.next(buffer, &mut scratch, Some(asked));
            let len = match event.map_err(io::Error::other)? {
                Event::Head { len, head } => {
                    if !head.interim {
                        witness.answered(delivery, Some(head.status));
                        if replayed(head.headers.iter().map(|h| (h.name, h.value))) {
                            witness.replayed(delivery);
                        }
                        (self.status, self.last) = (head.status, !head.keep_alive);
                    }
                    len
                }
                Event::Body { len, content } => {
                    if content {
                        self.body.update(&buffer[..len]);
                    }
                    len
                }
                Event::End | Event::Tunnel => return Ok(self.finish(witness, delivery)),
                Event::More | Event::Held => break,
            };
            let bytes = buffer.split_to(len);
            if self.kept.len() + len > MOST_KEPT {
                self.too_long = true;
            } else if matches!(self.answer, Answer::Wanted(..)) {
                self.kept.extend_from_slice(&bytes);
            }
        }
        if eof {
            return match self.framer.eof(buffer.len()) {
                Eof::EndsMessage => Ok(self.finish(witness, delivery)),
                _ => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed before the end of its answer",
                )),
            };
        }
        Ok(false)
    }

    fn finish(&mut self, witness: &Witness, delivery: u32) -> bool {
        witness.answer_ended(delivery, &mut self.body);
        let answer = std::mem::replace(&mut self.answer, Answer::Stream);
        if let (Answer::Wanted(_, client), false) = (answer, self.too_long) {
            // The client may have gone; then nobody wants it.
            let _ = client.send(Whole {
                bytes: self.kept.split().freeze(),
                status: self.status,
                last: self.last,
            });
        }
        true
    }
}

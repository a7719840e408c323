//! HTTP/2, and so gRPC: terminated on both sides by the `h2` crate, each stream of the client one
//! stream at the upstream.
//!
//! One client connection has one upstream connection, dialled when the first request is to go on.
//! One task carries both with all their streams: [`wakes`] tells which of them to poll. [`stream`]
//! is a request with its answer, [`body`] moves what they carry, [`link`] is the upstream's
//! connection, [`again`] delivers a second time, [`alter`] alters fields. [`io`] is a socket under `h2`, where [`frames`]
//! watches what is really read and written: that is the evidence. A fault acts on its stream, the
//! others go on.

mod again;
mod alter;
mod answering;
mod asking;
mod body;
mod ends;
mod frames;
mod io;
mod limits;
mod link;
mod requests;
mod stream;
mod wakes;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, Handshake};

use self::frames::What;
use self::io::{Io, Side};
use self::link::{Ended, Link};
use self::stream::{Down, Stream};
use self::wakes::{CLIENT, STREAMS, UPSTREAM, Wakes};
use super::peer::Peer;
use super::upstream::{Upstream, to_blame};
use super::watch::{Deadline, Watch};
use crate::clock::{self, Instant};
use crate::evidence::{Cause, Outcome};
use crate::operation::{Direction, Phase};
use crate::pipeline::{Hold, Operation, Session, Witness};

pub(super) use self::frames::PREFACE;

/// How often it is asked whether the client's host has acknowledged answers.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// How many may wait for that before it is asked at once.
const MOST_TOLD: usize = 256;

/// What a connection is, whose first bytes were read.
pub(super) struct Opened {
    pub(super) client: Peer,
    /// Where it was dialled already.
    pub(super) upstream: Upstream,
    /// What was read.
    pub(super) ahead: Bytes,
    pub(super) session: Session,
    /// Its own operation, until its first request takes it over, and how much later the upstream is
    /// dialled for it.
    pub(super) opening: Option<Operation>,
    pub(super) dial_hold: Hold,
    pub(super) watch: Watch,
}

/// Carries one connection to its end, and keeps `guard` until then.
pub(super) async fn carry<G>(opened: Opened, guard: G) {
    let mut multiplex = Multiplex::new(opened);
    std::future::poll_fn(|cx| multiplex.poll(cx)).await;
    multiplex.finish();
    drop(guard);
}

/// The client's side.
enum Front {
    Handshake(Handshake<Io, Bytes>),
    Open(server::Connection<Io, Bytes>),
    /// It was sent a FIN, and may take this long to close.
    Closing(Instant),
    Gone,
}

/// An answer that was written whole.
struct Told {
    at: u64,
    witness: Witness,
}

struct Multiplex {
    session: Session,
    /// The connection's own operation, until its first request takes it over.
    opening: Option<Operation>,
    /// How much later the upstream is dialled.
    dial_hold: Hold,
    watch: Watch,
    wakes: Arc<Wakes>,
    /// Room for those that are polled.
    keys: Vec<usize>,
    /// Of the client's and the upstream's connection.
    wakers: [Waker; 2],
    client: Io,
    front: Front,
    link: Link,
    /// It was being dialled before anyone asked for it.
    dialling: bool,
    streams: Vec<Slot>,
    free: Vec<usize>,
    live: usize,
    /// Where streams are, by their numbers at either side.
    asked: Numbers,
    sent: Numbers,
    /// Streams that the client has begun and `h2` has not shown: it refuses them.
    unshown: VecDeque<u32>,
    /// The highest number that the client has used.
    highest: u32,
    /// Requests that wait for the upstream to take them, in order.
    waiting: VecDeque<usize>,
    /// Answers that the client's host has not acknowledged.
    telling: VecDeque<Told>,
    /// When to ask next for acknowledgements, and how long after that again.
    look: Option<(Instant, Duration)>,
    /// No request that comes now is carried, because of this.
    dead_end: Option<Cause>,
    /// How the upstream's connection ended, as the client is to see it.
    fate: Option<Outcome>,
    /// How the proxy ended the client's connection.
    ended: Option<Outcome>,
    /// Why the upstream wants no more requests.
    away: Option<h2::Reason>,
    /// The client was told that no more requests are taken.
    said_away: bool,
    /// The client was told that it may open tunnels as RFC 8441 says, as the upstream lets it.
    offered: bool,
    settle: Option<Instant>,
    /// Since when no byte has moved, the client having said that it would say no more.
    still: Option<Instant>,
    /// How long the upstream's connection may take to end.
    parting: Option<Instant>,
}

struct Slot {
    waker: Waker,
    /// What holds the stream ends then.
    due: Option<Instant>,
    stream: Option<Box<Stream>>,
}

type Numbers = HashMap<u32, usize, BuildHasherDefault<Mix>>;

/// Stream numbers are all different by themselves: they are only spread.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

fn builder() -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::WINDOW)
        .max_frame_size(limits::FRAME)
        .max_header_list_size(limits::FIELDS)
        .max_send_buffer_size(limits::UNSENT)
        .max_concurrent_streams(limits::STREAMS)
        .max_concurrent_reset_streams(limits::RESET_STREAMS)
        .max_pending_accept_reset_streams(limits::RESET_STREAMS)
        .max_local_error_reset_streams(Some(limits::REFUSED))
        .data_frame_budget(limits::SMALL_FRAMES);
    builder
}

impl Multiplex {
    fn new(opened: Opened) -> Self {
        let Opened {
            client,
            upstream,
            ahead,
            session,
            opening,
            dial_hold,
            watch,
        } = opened;
        let meters = session.crossing().meters.clone();
        let mut side = Side::client(client, ahead, meters);
        side.silent = session.cuts().silences(Direction::Downstream);
        let client = Io::new(side);
        let wakes = Arc::new(Wakes::default());
        wakes.wake(CLIENT);
        Self {
            session,
            opening,
            dial_hold,
            watch,
            wakers: [wakes.waker(CLIENT), wakes.waker(UPSTREAM)],
            wakes,
            keys: Vec::new(),
            front: Front::Handshake(builder().handshake(client.clone())),
            client,
            dialling: matches!(upstream, Upstream::Dialling(_)),
            link: Link::Socket(upstream),
            streams: Vec::new(),
            free: Vec::new(),
            live: 0,
            asked: Numbers::default(),
            sent: Numbers::default(),
            unshown: VecDeque::new(),
            highest: 0,
            waiting: VecDeque::new(),
            telling: VecDeque::new(),
            look: None,
            dead_end: None,
            fate: None,
            ended: None,
            away: None,
            said_away: false,
            offered: false,
            settle: None,
            still: None,
            parting: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.watch_changes(cx);
        self.wakes.begin(cx);
        self.adopt_changes();
        if self.is_stopped(cx) {
            return Poll::Ready(());
        }
        self.flush();
        let mut keys = std::mem::take(&mut self.keys);
        let mut deadline;
        loop {
            if self.wakes.is_quiet() {
                // All has been said that there was to say now.
                self.flush();
            }
            self.wakes.take(&mut keys);
            for key in &keys {
                match *key {
                    CLIENT => self.poll_client(),
                    UPSTREAM => self.poll_upstream(),
                    stream => self.poll_stream(stream - STREAMS),
                }
            }
            if self.is_cut_off() {
                return Poll::Ready(());
            }
            deadline = Deadline::default();
            self.open_streams(&mut deadline);
            self.meet_ends(&mut deadline);
            if self.is_over(cx, &mut deadline) {
                return Poll::Ready(());
            }
            if keys.is_empty() {
                break;
            }
            if !tokio::task::coop::has_budget_remaining() {
                // Others on this thread have their turn. What was not written goes first then.
                cx.waker().wake_by_ref();
                self.keys = keys;
                return Poll::Pending;
            }
        }
        self.keys = keys;
        self.note_cuts();
        self.look_for_acknowledgements(&mut deadline);
        self.find_due(&mut deadline);
        if self.watch.poll_deadline(cx, deadline) {
            // It passed while this was decided.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Writes what there is for either side, and notes what went.
    fn flush(&mut self) {
        self.write();
        // What has come is noted once `h2` has been asked what it is.
        self.note_told();
        self.note_upstream();
    }

    /// Writes what there is for either side.
    fn write(&self) {
        let cx = &mut Context::from_waker(&self.wakers[CLIENT]);
        if self.client.side().flush(cx) {
            self.wakes.wake(CLIENT);
        }
        let cx = &mut Context::from_waker(&self.wakers[UPSTREAM]);
        if self.link.io().is_some_and(|io| io.side().flush(cx)) {
            self.wakes.wake(UPSTREAM);
        }
    }

    /// Takes up the rules in force now. Everything that waits looks again.
    fn adopt_changes(&mut self) {
        if self.session.refresh() {
            // What was decided before it still goes.
            self.write();
            let cuts = self.session.cuts();
            self.client.side().silent = cuts.silences(Direction::Downstream);
            if let Some(io) = self.link.io() {
                io.side().silent = cuts.silences(Direction::Upstream);
            }
            for key in 0..STREAMS + self.streams.len() {
                self.wakes.wake(key);
            }
        } else if self.session.stopping() != crate::state::Stopping::No {
            self.wakes.wake(CLIENT);
        }
    }

    /// Wakes streams whose wait is over, and finds when the next one's will be.
    fn find_due(&self, deadline: &mut Deadline) {
        for (n, slot) in self.streams.iter().enumerate() {
            let Some(due) = slot.due else {
                continue;
            };
            if due <= clock::now() {
                self.wakes.wake(STREAMS + n);
            }
            deadline.exactly(due);
        }
    }

    // --- The client's connection.

    fn poll_client(&mut self) {
        let waker = self.wakers[CLIENT].clone();
        let cx = &mut Context::from_waker(&waker);
        if let Front::Handshake(handshake) = &mut self.front {
            match std::pin::Pin::new(handshake).poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(connection)) => self.front = Front::Open(connection),
                Poll::Ready(Err(error)) => {
                    self.lose_client(Some(&error));
                    return;
                }
            }
        }
        loop {
            let Front::Open(connection) = &mut self.front else {
                return;
            };
            match connection.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    // A change that was made before it was read holds for it.
                    self.adopt_changes();
                    self.begin(request, respond);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.note_client();
                    self.lose_client(Some(&error));
                    return;
                }
                Poll::Ready(None) => {
                    self.note_client();
                    self.lose_client(None);
                    return;
                }
            }
        }
        self.note_client();
    }

    /// Notes what has really come from the client and gone to it.
    fn note_client(&mut self) {
        self.note_asked();
        self.note_told();
    }

    /// Notes what has come from the client, of which `h2` has shown what it will show.
    fn note_asked(&mut self) {
        let mut came = std::mem::take(&mut self.client.side().came);
        for seen in came.drain(..) {
            let Some(n) = self.asked.get(&seen.stream).copied() else {
                if seen.what == What::Begun && seen.stream > self.highest {
                    self.unshown.push_back(seen.stream);
                    self.unshown.truncate(limits::STREAMS as usize);
                }
                continue;
            };
            let awaits = self.awaits();
            let Some(stream) = self.streams[n].stream.as_mut() else {
                continue;
            };
            stream.asked(seen.what, seen.len);
            if let What::Reset(reason) = seen.what {
                stream.client_left(reason.into(), awaits);
                self.wakes.wake(STREAMS + n);
            }
        }
        // Its room is used again.
        self.client.side().came = came;
    }

    /// Notes what has gone to the client.
    fn note_told(&mut self) {
        let mut went = std::mem::take(&mut self.client.side().went);
        for seen in went.drain(..) {
            let Some(n) = self.asked.get(&seen.stream).copied() else {
                self.note_refused(seen.stream, seen.what);
                continue;
            };
            let Some(stream) = self.streams[n].stream.as_mut() else {
                continue;
            };
            if stream.told(seen.what, seen.len) {
                let witness = stream.operation.witness.clone();
                self.telling.push_back(Told {
                    at: seen.at,
                    witness,
                });
                self.wakes.wake(STREAMS + n);
            } else if let Down::Ending(..) = stream.down {
                self.wakes.wake(STREAMS + n);
            }
        }
        self.client.side().went = went;
    }

    // --- The upstream's connection.

    fn poll_upstream(&mut self) {
        let waker = self.wakers[UPSTREAM].clone();
        let cx = &mut Context::from_waker(&waker);
        let crossing = self.session.crossing();
        let silent = self.session.cuts().silences(Direction::Upstream);
        let ended = self.link.poll(cx, &crossing.edge, &crossing.meters, silent);
        self.note_upstream();
        if let Some(ended) = ended {
            self.lose_upstream(&ended);
        } else if let Link::Open(_, Some(send), _) = &self.link
            && !self.offered
            && send.is_extended_connect_protocol_enabled()
            && let Front::Open(connection) = &mut self.front
        {
            // It fails while earlier settings are under way, and is tried again.
            self.offered = self.offered || connection.enable_connect_protocol().is_ok();
        }
    }

    /// Notes what has really come from the upstream and gone to it.
    fn note_upstream(&mut self) {
        let Some(io) = self.link.io() else { return };
        let (mut came, mut went) = {
            let mut side = io.side();
            if side.came.is_empty() && side.went.is_empty() {
                return;
            }
            (
                std::mem::take(&mut side.came),
                std::mem::take(&mut side.went),
            )
        };
        for seen in went.drain(..) {
            if let Some(n) = self.sent.get(&seen.stream).copied()
                && let Some(stream) = &mut self.streams[n].stream
            {
                stream.went(seen.what);
                if matches!(seen.what, What::Begun | What::Reset(_))
                    && !matches!(stream.down, Down::Head(_))
                {
                    // It may have waited for that alone.
                    self.wakes.wake(STREAMS + n);
                }
            }
        }
        for seen in came.drain(..) {
            if let What::GoAway { reason, .. } = seen.what {
                self.away = Some(reason.into());
                self.dead_end.get_or_insert(Cause::Upstream);
                self.wakes.wake(CLIENT);
            } else if let Some(n) = self.sent.get(&seen.stream).copied()
                && let Some(stream) = &mut self.streams[n].stream
            {
                stream.answered(seen.what, seen.len);
                if let What::Reset(_) = seen.what {
                    self.wakes.wake(STREAMS + n);
                }
            }
        }
        if let Some(io) = self.link.io() {
            let mut side = io.side();
            (side.came, side.went) = (came, went);
        }
    }

    /// The upstream's connection has ended, or there will be none.
    fn lose_upstream(&mut self, ended: &Ended) {
        let (fate, blame, error) = match ended {
            Ended::Closed => (Outcome::Closed, Cause::Upstream, None),
            Ended::Broken(error) => (Outcome::Reset, Cause::Upstream, Some(error.to_string())),
            Ended::Unreachable(error) => (Outcome::Reset, to_blame(error), Some(error.to_string())),
        };
        self.link = Link::Gone;
        self.fate = Some(fate);
        self.dead_end.get_or_insert(blame.clone());
        self.waiting.clear();
        for n in 0..self.streams.len() {
            let Some(stream) = self.streams[n].stream.as_mut() else {
                continue;
            };
            if stream.delivers && stream.upstream_id == 0 {
                stream.strand(error.as_deref(), &blame);
            }
            self.wakes.wake(STREAMS + n);
        }
        self.wakes.wake(CLIENT);
    }

    /// Lets requests go on that the upstream can take.
    fn open_streams(&mut self, deadline: &mut Deadline) {
        if self.waiting.is_empty() || self.session.cuts().silences(Direction::Upstream) {
            return;
        }
        if self.link.is_new() {
            let due = self.dial_hold.due(self.session.accepted());
            if due > clock::now() {
                self.dial_hold.settle(Phase::Connect);
                deadline.exactly(due);
                return;
            }
            if let Link::Socket(socket) = &mut self.link {
                let edge = &self.session.crossing().edge;
                socket.dial(edge, self.session.way(), link::spoken());
            }
            self.wakes.wake(UPSTREAM);
        }
        let waker = self.wakers[UPSTREAM].clone();
        let cx = &mut Context::from_waker(&waker);
        let unmet = matches!(&self.link, Link::Socket(Upstream::Open(_)));
        if std::mem::take(&mut self.dialling) || unmet {
            self.wakes.wake(UPSTREAM);
        }
        while let Some(n) = self.waiting.front().copied() {
            let Link::Open(_, Some(send), _) = &mut self.link else {
                return;
            };
            let ready = match send.poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(ready) => ready,
            };
            self.waiting.pop_front();
            let stream = self.streams[n].stream.as_mut();
            let Some(stream) = stream.filter(|stream| stream.is_due()) else {
                continue;
            };
            match ready {
                Ok(()) => stream.open(send),
                Err(error) => stream.not_opened(&error),
            }
            if stream.upstream_id != 0 {
                self.sent.insert(stream.upstream_id, n);
            }
            self.wakes.wake(STREAMS + n);
        }
    }

    // --- Streams.

    fn poll_stream(&mut self, n: usize) {
        let Some(slot) = self.streams.get_mut(n) else {
            return;
        };
        let Some(stream) = &mut slot.stream else {
            return;
        };
        stream.poll(&mut Context::from_waker(&slot.waker), &self.session);
        slot.due = stream.due;
        if stream.is_due() && !stream.queued {
            stream.queued = true;
            if self.link.stands() && self.away.is_none() {
                self.waiting.push_back(n);
            } else {
                stream.strand(None, &Cause::Upstream);
                self.wakes.wake(STREAMS + n);
            }
        }
        if let Some(wants) = stream.wants.take() {
            self.end_as_wanted(n, wants);
        } else if stream.is_over(self.link.stands()) {
            self.remove(n);
        }
    }

    fn remove(&mut self, n: usize) {
        self.streams[n].due = None;
        if let Some(mut stream) = self.streams[n].stream.take() {
            stream.close();
            self.asked.remove(&stream.id);
            self.sent.remove(&stream.upstream_id);
            self.free.push(n);
            self.live -= 1;
            if self.live == 0 {
                // Someone may have waited for the last one.
                self.wakes.wake(CLIENT);
            }
        }
    }

    /// Whether what a client sent that goes now may still go on: what a reset client sent is not
    /// delivered on heal.
    fn awaits(&self) -> bool {
        !self.session.cuts().silences(Direction::Upstream)
    }
}

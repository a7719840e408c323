//! HTTP/1 as it came: bytes pass untouched while a framer watches where messages begin and end, and
//! a rule that matches takes over at a message's boundary.
//!
//! One client connection has one upstream connection, dialled when the first request is to go on.
//! [`Core`] knows messages and no sockets: `requests` frames what the client says and gives each
//! request its route, `answers` pairs what the upstream says with them. [`Tap`] moves the bytes
//! and ends the connection. After a lost answer nothing more goes down that connection: a later
//! answer would be taken for the lost one.

mod answers;
mod core;
mod ends;
mod exchange;
mod flow;
mod requests;
mod untold;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) use self::core::Opening;
use self::core::{Core, Speaks};
use self::requests::MOST_AWAITING;
use super::auto::Known;
use super::lane::Flushed;
use super::multiplex;
use super::peer::{Moved, Peer, Read};
use super::upstream::{Upstream, spoken, to_blame};
use super::watch::{Bell, Deadline, Watch};
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::Then;
use crate::operation::{Direction, Phase};
use crate::pipeline::Session;
use crate::rules::Protocol;
use crate::state::Stopping;

/// How often it is asked whether the client's host has acknowledged an answer that no further
/// request has followed.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// How often it is asked when the end of the connection waits for that.
const ACK_LOOK: Duration = Duration::from_millis(2);

/// Carries one connection to its end, and keeps `guard` until then. `upstream`: where it was dialled
/// already.
pub(super) fn carry<G>(
    client: Peer,
    upstream: Option<Peer>,
    session: Session,
    opening: Option<Opening>,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    // In a box: a task is handed on several times before it is polled.
    let mut tap = Box::new(Tap::new(client, session, opening, bell));
    if let Some(upstream) = upstream {
        tap.upstream = Upstream::Open(upstream);
    }
    async move {
        std::future::poll_fn(|cx| tap.poll(cx)).await;
        match tap.end() {
            // In a place of its own: of most connections the task is to stay small.
            Some(opened) => Box::pin(multiplex::carry(opened, guard)).await,
            None => drop(guard),
        }
    }
}

/// Carries one connection that has begun with a request, before it was known that it would.
pub(super) fn carry_on<G>(
    known: Known,
    opening: Option<Opening>,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    let mut tap = Box::new(Tap::new(known.client, known.session, opening, bell));
    tap.upstream = known.upstream;
    let mut said = Some(known.said);
    async move {
        std::future::poll_fn(|cx| {
            if let Some(said) = said.take() {
                let [client, _] = *said;
                tap.take_said(cx, &client.bytes);
            }
            tap.poll(cx)
        })
        .await;
        match tap.end() {
            // In a place of its own: of most connections the task is to stay small.
            Some(opened) => Box::pin(multiplex::carry(opened, guard)).await,
            None => drop(guard),
        }
    }
}

struct Tap {
    core: Core,
    client: Option<Peer>,
    upstream: Upstream,
    /// How the proxy ended the client's connection.
    ended: Option<Outcome>,
    closing: Option<Instant>,
    left: Option<Timestamp>,
    linger: Option<Instant>,
    /// When to ask next for acknowledgements, and how long after that again.
    look: Option<(Instant, Duration)>,
    settle: Option<Instant>,
    /// When a byte last moved, since the client has said that it would say no more, and how many
    /// had been written then.
    moved: Option<(Instant, u64)>,
    /// The client was not read, for want of room.
    stalled: bool,
    watch: Watch,
}

impl Tap {
    fn new(client: Peer, session: Session, opening: Option<Opening>, bell: &Arc<Bell>) -> Self {
        Self {
            watch: Watch::new(bell),
            core: Core::new(session, opening),
            client: Some(client),
            upstream: Upstream::None,
            ended: None,
            closing: None,
            left: None,
            linger: None,
            look: None,
            settle: None,
            moved: None,
            stalled: false,
        }
    }

    /// Ends it; or it goes on as HTTP/2.
    fn end(mut self: Box<Self>) -> Option<multiplex::Opened> {
        if self.core.speaks == Speaks::Http2
            && let Some(client) = self.client.take()
        {
            return Some(multiplex::Opened {
                client,
                upstream: self.upstream,
                ahead: self.core.from_client.freeze(),
                session: self.core.session,
                opening: self.core.opening,
                dial_hold: self.core.dial_hold,
                watch: self.watch,
            });
        }
        self.finish();
        None
    }

    /// Takes what the client said before, as if it were read now.
    fn take_said(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        if self.is_cut_off() {
            return;
        }
        let crossing = self.core.session.crossing();
        crossing.meters.bytes(Direction::Upstream, bytes.len());
        self.core.client_bytes(cx, self.upstream.peer(), bytes);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.watch_changes(cx);
        self.core.session.refresh();
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let mut deadline = Deadline::default();
        loop {
            if self.is_cut_off() {
                return Poll::Ready(());
            }
            self.poll_dial(cx, &mut deadline);
            let up = self.pump_up(cx, &mut deadline);
            if self.core.speaks == Speaks::Http2 {
                return Poll::Ready(());
            }
            self.core.answer_locally();
            let kept = self.core.poll_kept(cx);
            self.core.answer_locally();
            let down = self.pump_down(cx, &mut deadline);
            let moved = [up, down];
            if moved == [Moved::Nothing; 2] && !kept {
                break;
            }
            self.moved = None;
            if !moved.contains(&Moved::Some) && !kept && self.is_at_rest() {
                break;
            }
        }
        self.core.note_cuts();
        self.meet_ends(&mut deadline);
        self.meet_fate(&mut deadline);
        self.look_for_acknowledgements(&mut deadline);
        // What was still under way when the process began to stop may have ended just now.
        if self.is_stopped() || self.is_over(&mut deadline) {
            return Poll::Ready(());
        }
        if self.stalled && self.core.has_room(&mut Deadline::default()) {
            // It has got room since it was asked.
            cx.waker().wake_by_ref();
        }
        if self.watch.poll_deadline(cx, deadline) {
            // It passed while this was decided.
            cx.waker().wake_by_ref();
        }
        for peer in self.client.iter_mut().chain(self.upstream.peer()) {
            // That it is broken, the next read tells.
            let _ = peer.poll_flush(cx);
        }
        Poll::Pending
    }

    /// Whether, with nothing more to be read, nothing else is under way but what the sides say next.
    fn is_at_rest(&self) -> bool {
        matches!(self.upstream, Upstream::Open(_)) && self.core.is_at_rest()
    }

    /// Whether the process stops and nothing keeps this connection.
    fn is_stopped(&mut self) -> bool {
        let core = &mut self.core;
        let idle = core.awaiting.is_empty()
            && core.telling.is_empty()
            && core.from_client.is_empty()
            && !core.tunnel;
        let stops = match core.session.stopping() {
            Stopping::No => false,
            Stopping::Draining => idle,
            Stopping::Now => true,
        };
        if stops {
            core.dead_end.get_or_insert(Cause::Proxy);
            self.ended.get_or_insert(Outcome::Closed);
            if let Some(client) = &mut self.client {
                client.send_fin();
            }
        }
        stops
    }

    /// Whether a partition has reset this connection, or refuses it.
    fn is_cut_off(&mut self) -> bool {
        let core = &mut self.core;
        let new = matches!(self.upstream, Upstream::None) && core.awaiting.is_empty();
        if !(core.session.cuts().reset
            || core.session.cuts().refuse && new && core.telling.is_empty())
        {
            return false;
        }
        core.strand_untold();
        // An answer that the client's host has already is none of the partition's doing.
        core.note_told();
        if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
            core.settle();
        }
        let standing = core.awaiting.iter().chain(&core.telling);
        let mut witnesses: Vec<_> = standing.map(|e| e.operation.witness.clone()).collect();
        if witnesses.is_empty() {
            // No operation is known: the record is the connection's.
            witnesses.push(core.session.witness());
        }
        for witness in witnesses {
            for cut in core.session.all_cuts() {
                witness.cut(cut, Phase::Connect);
            }
            witness.told(Outcome::Reset, None, 0);
        }
        self.ended = Some(Outcome::Reset);
        if let Some(client) = self.client.take() {
            client.reset();
        }
        self.upstream.reset();
        true
    }

    fn poll_dial(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) {
        let core = &mut self.core;
        let wanted = !core.up.is_empty() && !core.session.cuts().silences(Direction::Upstream);
        if matches!(self.upstream, Upstream::None) && wanted {
            let due = core.dial_hold.due(core.session.accepted());
            if due > clock::now() {
                core.dial_hold.settle(Phase::Connect);
                deadline.exactly(due);
                return;
            }
            let edge = &core.session.crossing().edge;
            let way = core.session.way();
            self.upstream.dial(edge, way, spoken(Protocol::Http));
        }
        if core.framed == 0 {
            // It was dialled before anyone asked: that it failed is the first request's to know.
            self.upstream.poll_ahead(cx);
            return;
        }
        let Some(error) = self.upstream.poll_dial(cx, &core.session.crossing().edge) else {
            return;
        };
        core.up.clear();
        core.upstream_unusable = true;
        for exchange in core.awaiting.iter().filter(|e| e.is_forwarded()) {
            exchange.operation.witness.failed(0, error.to_string());
            exchange.operation.witness.blame(to_blame(&error));
        }
        core.dead_end.get_or_insert(to_blame(&error));
        core.fate.get_or_insert((Then::Reset, None));
    }

    /// Moves what can be moved towards the upstream.
    fn pump_up(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) -> Moved {
        let core = &mut self.core;
        let cut = core.session.cuts().silences(Direction::Upstream);
        if let Some(upstream) = self.upstream.peer().filter(|_| !cut) {
            match core.up.flush(cx, upstream) {
                Flushed::Held(due) => deadline.exactly(due),
                Flushed::Empty | Flushed::Full => {}
                // Its last words may still be read; the read tells when it is over.
                Flushed::Broken(_) => {
                    core.up.clear();
                    core.dead_end.get_or_insert(Cause::Upstream);
                }
            }
            let written = core.up.written();
            for exchange in &mut core.awaiting {
                exchange.note_sent(written);
            }
        }
        let waiting = core.from_client.len();
        let framed = core.speaks == Speaks::Http1 && core.requests.is_idle();
        if waiting > 0 && framed && !core.waits_for_copy() {
            core.reframe_requests(cx, self.upstream.peer());
        }
        // Bytes that had waited may now have to be dialled for.
        let moved = match core.from_client.len() < waiting {
            true => Moved::Some,
            false => Moved::Nothing,
        };
        let room = core.has_room(deadline);
        self.stalled = !room;
        let Some(client) = self.client.as_mut().filter(|peer| !peer.eof && room) else {
            return moved;
        };
        let upstream = match &mut self.upstream {
            Upstream::Open(peer) => Some(peer),
            _ => None,
        };
        let read = client.poll_read(cx, |cx, bytes| {
            let crossing = core.session.crossing();
            crossing.meters.bytes(Direction::Upstream, bytes.len());
            // A change that was made before they were read holds for them.
            core.session.refresh();
            if core.awaiting.len() < MOST_AWAITING {
                core.client_bytes(cx, upstream, bytes);
            }
        });
        match read {
            Poll::Pending => return moved,
            Poll::Ready(Read::Bytes(())) => return client.poll_more(cx),
            Poll::Ready(Read::Eof) => {
                if self.ended.is_none() {
                    self.left.get_or_insert_with(Timestamp::now);
                }
                core.moved_on();
                core.await_no_body(cx, self.upstream.peer());
                // Where both sides have said all, to close both says it as well: see `is_over`.
                let last = self.closing.is_some() && self.upstream.peer().is_some_and(|u| u.eof);
                let none = matches!(self.upstream, Upstream::None) && core.up.is_empty();
                if !last && !none {
                    core.up
                        .push_fin(clock::now(), crate::pipeline::Hold::default());
                }
            }
            Poll::Ready(Read::Broken(_)) => self.lose_client(),
        }
        Moved::Some
    }

    /// Moves what can be moved towards the client.
    fn pump_down(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) -> Moved {
        self.flush_down(cx, deadline);
        let core = &mut self.core;
        let sunk = core.is_sunk();
        let cut = core.session.cuts().silences(Direction::Downstream);
        let room = !core.awaits_copy() && (sunk || core.down.has_room(cut, deadline));
        let Upstream::Open(upstream) = &mut self.upstream else {
            return Moved::Nothing;
        };
        if room
            && !core.from_upstream.is_empty()
            && !core.awaiting.is_empty()
            && core.responses.is_idle()
        {
            core.reframe_answers(cx, self.client.as_mut());
        }
        if upstream.eof && !core.tunnel && !core.awaits_copy() {
            core.fate.get_or_insert((Then::Close, None));
        }
        if upstream.eof || !room {
            return Moved::Nothing;
        }
        let blame = match self.left {
            // It had said that it would say no more, and the upstream may have taken it for gone.
            Some(_) => Cause::Client,
            None => Cause::Upstream,
        };
        let client = self.client.as_mut();
        let read = upstream.poll_read(cx, |cx, bytes| {
            let crossing = core.session.crossing();
            crossing.meters.bytes(Direction::Downstream, bytes.len());
            core.session.refresh();
            core.upstream_bytes(cx, client, bytes);
        });
        match read {
            Poll::Pending => return Moved::Nothing,
            Poll::Ready(Read::Bytes(())) => {
                let moved = upstream.poll_more(cx);
                core.note_told();
                let decided = core.tunnel || core.requests.is_idle();
                if decided && !core.from_client.is_empty() {
                    core.reframe_requests(cx, Some(upstream));
                }
                if core.upstream_unusable {
                    self.upstream.reset();
                }
                return moved;
            }
            Poll::Ready(Read::Eof) => {
                if core.tunnel {
                    core.down
                        .push_fin(clock::now(), crate::pipeline::Hold::default());
                } else {
                    if upstream.truncated {
                        core.note_truncated();
                    }
                    core.upstream_ended(cx, None, &blame);
                }
            }
            Poll::Ready(Read::Broken(error)) => {
                core.upstream_ended(cx, Some(&error), &blame);
                core.fate.get_or_insert((Then::Reset, None));
                self.upstream = Upstream::Gone;
            }
        }
        Moved::Some
    }

    fn flush_down(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) {
        let core = &mut self.core;
        let Some(client) = &mut self.client else {
            return;
        };
        if !core.session.cuts().silences(Direction::Downstream) {
            match core.down.flush(cx, client) {
                Flushed::Held(due) => deadline.exactly(due),
                Flushed::Empty | Flushed::Full => {}
                Flushed::Broken(_) => {
                    self.lose_client();
                    return;
                }
            }
        }
        self.core.note_told();
    }
}

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
mod exchange;
mod requests;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;

use self::core::Core;
use self::exchange::Exchange;
use self::requests::MOST_AWAITING;
use super::lane::Flushed;
use super::peer::{Peer, Read};
use super::upstream::{Upstream, to_blame};
use super::watch::{Bell, CLOSING, SETTLING, Watch, sooner};
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::Then;
use crate::operation::{Direction, Phase};
use crate::pipeline::{Receipt, Session};
use crate::state::Stopping;

/// How often it is asked whether the client's host has acknowledged an answer that no further
/// request has followed.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// How often it is asked when the end of the connection waits for that.
const ACK_LOOK: Duration = Duration::from_millis(2);

/// Carries one connection to its end, and keeps `guard` until then.
pub(super) fn carry<G>(
    client: TcpStream,
    session: Session,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    // Made outside the future, which would keep room for the parts as well.
    let mut tap = Tap::new(client, session, bell);
    async move {
        std::future::poll_fn(|cx| tap.poll(cx)).await;
        tap.finish();
        drop(guard);
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
    /// When a byte last moved, since the client has said that it would say no more.
    moved: Option<Instant>,
    watch: Watch,
}

impl Tap {
    fn new(client: TcpStream, session: Session, bell: &Arc<Bell>) -> Self {
        Self {
            watch: Watch::new(bell),
            core: Core::new(session),
            client: Some(Peer::new(client)),
            upstream: Upstream::None,
            ended: None,
            closing: None,
            left: None,
            linger: None,
            look: None,
            settle: None,
            moved: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.watch_changes(cx);
        self.core.session.refresh();
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let mut deadline = None;
        loop {
            if self.is_cut_off() {
                return Poll::Ready(());
            }
            self.poll_dial(cx);
            let up = self.pump_up(cx, &mut deadline);
            self.core.answer_locally();
            self.core.poll_wanted(cx);
            self.core.answer_locally();
            let down = self.pump_down(cx, &mut deadline);
            if !up && !down {
                break;
            }
            self.moved = None;
        }
        self.core.note_cuts();
        self.meet_fate(&mut deadline);
        self.look_for_acknowledgements(&mut deadline);
        // What was still under way when the process began to stop may have ended just now.
        if self.is_stopped() || self.is_over(&mut deadline) {
            return Poll::Ready(());
        }
        if let Some(at) = deadline
            && self.watch.poll_deadline(cx, at)
        {
            // It passed while this was decided.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
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

    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let core = &mut self.core;
        let wanted = !core.up.is_empty() && !core.session.cuts().silences(Direction::Upstream);
        if matches!(self.upstream, Upstream::None) && wanted {
            self.upstream.dial(&core.session.crossing().edge);
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

    /// Moves what can be moved towards the upstream. Answers whether more may follow at once.
    fn pump_up(&mut self, cx: &mut Context<'_>, deadline: &mut Option<Instant>) -> bool {
        let core = &mut self.core;
        let cut = core.session.cuts().silences(Direction::Upstream);
        if let Some(upstream) = self.upstream.peer().filter(|_| !cut) {
            match core.up.flush(cx, upstream) {
                Flushed::Held(due) => sooner(deadline, due),
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
        if !core.from_client.is_empty() && core.requests.is_idle() && !core.waits_for_copy() {
            core.reframe_requests(cx, self.upstream.peer());
        }
        let room = core.has_room(deadline);
        let Some(client) = self.client.as_mut().filter(|peer| !peer.eof && room) else {
            return false;
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
            Poll::Pending => return false,
            Poll::Ready(Read::Bytes(())) => {}
            Poll::Ready(Read::Eof) => {
                if self.ended.is_none() {
                    self.left.get_or_insert_with(Timestamp::now);
                }
                if !matches!(self.upstream, Upstream::None) || !core.up.is_empty() {
                    core.up
                        .push_fin(clock::now(), crate::pipeline::Hold::default());
                }
            }
            Poll::Ready(Read::Broken(_)) => self.lose_client(),
        }
        true
    }

    /// Moves what can be moved towards the client. Answers whether more may follow at once.
    fn pump_down(&mut self, cx: &mut Context<'_>, deadline: &mut Option<Instant>) -> bool {
        self.flush_down(cx, deadline);
        let core = &mut self.core;
        let sunk = core.fate.is_some() || core.client_gone;
        let cut = core.session.cuts().silences(Direction::Downstream);
        let room = !core.awaits_copy() && (sunk || core.down.has_room(cut, deadline));
        let Upstream::Open(upstream) = &mut self.upstream else {
            return false;
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
            return false;
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
            Poll::Pending => return false,
            Poll::Ready(Read::Bytes(())) => {
                let decided = core.tunnel || core.requests.is_idle();
                if decided && !core.from_client.is_empty() {
                    core.reframe_requests(cx, Some(upstream));
                }
                if core.upstream_unusable {
                    self.upstream.reset();
                }
            }
            Poll::Ready(Read::Eof) => {
                if core.tunnel {
                    core.down
                        .push_fin(clock::now(), crate::pipeline::Hold::default());
                } else {
                    core.upstream_ended(None, &blame);
                }
            }
            Poll::Ready(Read::Broken(error)) => {
                core.upstream_ended(Some(&error), &blame);
                core.fate.get_or_insert((Then::Reset, None));
                self.upstream = Upstream::Gone;
            }
        }
        true
    }

    fn flush_down(&mut self, cx: &mut Context<'_>, deadline: &mut Option<Instant>) {
        let core = &mut self.core;
        let Some(client) = &mut self.client else {
            return;
        };
        if !core.session.cuts().silences(Direction::Downstream) {
            match core.down.flush(cx, client) {
                Flushed::Held(due) => sooner(deadline, due),
                Flushed::Empty | Flushed::Full => {}
                Flushed::Broken(_) => {
                    self.lose_client();
                    return;
                }
            }
        }
        self.core.note_told();
    }

    /// The client's connection is broken. With no fault at work its RST goes on to the upstream;
    /// else what it sent is still delivered, and the answers awaited, so that they are known.
    fn lose_client(&mut self) {
        if self.ended.is_none() {
            self.left.get_or_insert_with(Timestamp::now);
        }
        let core = &mut self.core;
        core.note_told();
        if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
            core.settle();
        }
        self.client = None;
        core.client_gone = true;
        core.down.clear();
        core.dead_end.get_or_insert(Cause::Client);
        let cut = core.session.cuts().silences(Direction::Upstream);
        if cut {
            // What a reset client sent is not delivered on heal.
            core.up.clear();
        }
        let faulted = |e: &Exchange| e.operation.witness.is_faulted();
        // Whom the proxy has ended, or is to, did not leave by itself either.
        let acted = core.fate.is_some() || core.awaiting.iter().any(faulted);
        if acted && core.is_owed() || cut {
            let linger = core.session.crossing().context.linger;
            self.linger = Some(clock::now() + linger);
        } else {
            self.upstream.reset();
        }
    }

    /// Does to the client what is due, once all that comes before it has gone.
    fn meet_fate(&mut self, deadline: &mut Option<Instant>) {
        let core = &mut self.core;
        let (Some((then, receipt)), None) = (&core.fate, self.ended) else {
            return;
        };
        let lifted = receipt.as_ref().is_some_and(Receipt::is_lifted);
        if !core.down.is_empty() || *then == Then::Hang && !lifted {
            return;
        }
        let Some(client) = &mut self.client else {
            return;
        };
        if *then == Then::Reset && !lifted {
            // A RST throws away what was not acknowledged: answers before it are due first.
            let now = clock::now();
            let until = *self.settle.get_or_insert(now + SETTLING);
            if !client.is_acknowledged() && now < until {
                sooner(deadline, until.min(now + ACK_LOOK));
                return;
            }
            core.settle();
            self.ended = Some(Outcome::Reset);
            if let Some(client) = self.client.take() {
                client.reset();
            }
        } else {
            self.ended = Some(Outcome::Closed);
            client.send_fin();
            self.closing = Some(clock::now() + CLOSING);
        }
        let linger = core.session.crossing().context.linger;
        self.linger.get_or_insert(clock::now() + linger);
    }

    /// Settles answers that were written and that no request has followed.
    fn look_for_acknowledgements(&mut self, deadline: &mut Option<Instant>) {
        let now = clock::now();
        let waits = self.core.telling.front().is_some_and(|e| e.is_told);
        match self.look {
            None if waits => self.look = Some((now + FIRST_LOOK, FIRST_LOOK)),
            Some((at, pause)) if at <= now => {
                self.look = None;
                if waits {
                    if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
                        self.core.settle();
                    } else {
                        let pause = (pause * 2).min(Duration::from_secs(1));
                        self.look = Some((now + pause, pause));
                    }
                }
            }
            _ => {}
        }
        if let Some((at, _)) = self.look {
            sooner(deadline, at);
        }
    }

    /// Whether nothing is left to do.
    fn is_over(&mut self, deadline: &mut Option<Instant>) -> bool {
        let now = clock::now();
        let hanging = self.ended.is_none() && matches!(self.core.fate, Some((Then::Hang, _)));
        let (closed, left) = match (&self.client, self.closing) {
            (None, _) => (true, false),
            (Some(client), Some(until)) => {
                // One who had ended before has no word left to say that the last answer is there.
                let has_it = self.core.telling.is_empty() || client.is_acknowledged();
                let over = client.eof && has_it || until <= now;
                // Once past it wakes nobody: an answer may still be awaited behind it.
                if !over {
                    let look = if has_it { until } else { now + ACK_LOOK };
                    sooner(deadline, until.min(look));
                }
                (over, false)
            }
            (Some(client), None) => (false, client.eof),
        };
        if closed || left && hanging {
            // Only an answer may be awaited still, so that it is known.
            let reachable = match &self.upstream {
                Upstream::Dialling(_) => true,
                Upstream::Open(peer) => !peer.eof,
                Upstream::None | Upstream::Gone => false,
            };
            let until = *self
                .linger
                .get_or_insert_with(|| now + self.core.session.crossing().context.linger);
            let cut = self.core.session.cuts().silences(Direction::Upstream);
            if reachable && (self.core.is_owed() || cut) && until > now {
                sooner(deadline, until);
                return false;
            }
            return true;
        }
        if !left {
            return false;
        }
        if self.core.tunnel {
            let over = self.upstream.peer().is_none_or(|peer| peer.eof);
            return over && self.core.up.is_empty() && self.core.down.is_empty();
        }
        let outstanding = self
            .core
            .awaiting
            .iter()
            .any(|e| !e.answered || e.awaits_copy());
        if outstanding || !self.core.down.is_empty() {
            return self.is_deserted(deadline);
        }
        // All answers are written. Once the client's host has them, it is over.
        if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
            self.core.settle();
            return true;
        }
        let until = *self.settle.get_or_insert(now + SETTLING);
        sooner(deadline, until.min(now + ACK_LOOK));
        until <= now
    }

    /// Whether, with nothing on its way that a fault or a partition holds, no byte has moved for
    /// too long since the client ended: who has gone looks like one who half-closed.
    fn is_deserted(&mut self, deadline: &mut Option<Instant>) -> bool {
        let core = &self.core;
        let held = !core.up.is_empty() || !core.down.is_empty() || core.awaits_copy();
        if held || core.session.cuts().silent != [false; 2] {
            return false;
        }
        let now = clock::now();
        let until = *self.moved.get_or_insert(now) + core.session.crossing().context.half_close;
        sooner(deadline, until);
        until <= now
    }

    /// Writes the ends of all records that are still open.
    fn finish(mut self) {
        let core = &mut self.core;
        if let Some(exchange) = core
            .awaiting
            .front_mut()
            .filter(|e| e.answered && !e.complete)
        {
            // No more comes of a request that was answered before its end.
            exchange.end_request();
        }
        core.move_on();
        core.note_told();
        if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
            core.settle();
        }
        let end = match (self.ended, self.left) {
            (Some(ended), _) => ended,
            (None, Some(_)) => Outcome::Left,
            (None, None) => Outcome::Closed,
        };
        let blame = core.dead_end.clone().unwrap_or(Cause::Client);
        let written = core.down.written();
        for mut exchange in core.telling.drain(..).chain(core.awaiting.drain(..)) {
            exchange.abandon(end, written, self.left, &blame);
        }
    }
}

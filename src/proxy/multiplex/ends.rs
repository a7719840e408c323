//! How a connection ends: by a side that is gone, a partition, the process, or because all has been
//! answered.

use std::task::Context;
use std::time::Duration;

use h2::Reason;

use super::frames::What;
use super::link::Link;
use super::stream::{Down, Wants};
use super::wakes::{CLIENT, STREAMS, UPSTREAM};
use super::{FIRST_LOOK, Front, MOST_TOLD, Multiplex};
use crate::clock;
use crate::evidence::{Cause, Outcome};
use crate::operation::{Direction, Phase};
use crate::proxy::watch::{CLOSING, Deadline, SETTLING};
use crate::state::Stopping;

/// How often it is asked for acknowledgements when the end of the connection waits for them.
const ACK_LOOK: Duration = Duration::from_millis(2);

impl Multiplex {
    /// Whether the process stops now.
    pub(super) fn is_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        if self.session.stopping() != Stopping::Now {
            return false;
        }
        self.dead_end.get_or_insert(Cause::Proxy);
        self.ended.get_or_insert(Outcome::Closed);
        if let Front::Open(connection) = &mut self.front {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            // What can't be written now never will be.
            let _ = connection.poll_closed(cx);
        }
        self.client.side().send_fin();
        self.note_client();
        true
    }

    /// Whether a partition has reset this connection, or refuses it.
    pub(super) fn is_cut_off(&mut self) -> bool {
        let cuts = self.session.cuts();
        let new = self.link.is_new() && self.live == 0 && self.telling.is_empty();
        let stands = matches!(self.front, Front::Handshake(_) | Front::Open(_));
        if !stands || !(cuts.reset || cuts.refuse && new) {
            return false;
        }
        // An answer that the client's host has already is none of the partition's doing.
        self.settle();
        let streams = self.streams.iter().filter_map(|slot| slot.stream.as_ref());
        let standing = streams.map(|stream| &stream.operation.witness);
        let telling = self.telling.iter().map(|told| &told.witness);
        let mut witnesses: Vec<_> = standing.chain(telling).cloned().collect();
        if witnesses.is_empty() {
            // No request is known: the record is the connection's.
            let opening = self.opening.take().map(|opening| opening.witness);
            let witness = opening.unwrap_or_else(|| self.session.witness());
            witness.told(Outcome::Reset, None, 0);
            witnesses.push(witness);
        }
        for witness in witnesses {
            for cut in self.session.all_cuts() {
                witness.cut(cut, Phase::Connect);
            }
        }
        self.ended = Some(Outcome::Reset);
        self.client.side().reset();
        self.link.reset();
        true
    }

    /// Notes which requests a partition holds, and which answers.
    pub(super) fn note_cuts(&self) {
        let [up, down] = self.session.cuts().silent;
        if !up && !down {
            return;
        }
        for stream in self.streams.iter().filter_map(|slot| slot.stream.as_ref()) {
            let witness = &stream.operation.witness;
            if up && !stream.sent && (stream.is_due() || stream.upstream_id != 0) {
                for cut in self.session.cutting(Direction::Upstream) {
                    witness.cut(cut, Phase::Request);
                }
            }
            if down && stream.is_answering() {
                for cut in self.session.cutting(Direction::Downstream) {
                    witness.cut(cut, Phase::Response);
                }
            }
        }
    }

    /// `h2` has refused a message that the client began.
    pub(super) fn note_refused(&mut self, number: u32, what: What) {
        let (outcome, status) = match what {
            What::Reset(_) => (Outcome::Reset, None),
            // Its fields are too long: the only answer that `h2` gives by itself.
            What::Fields { end: true, .. } => (Outcome::Substituted, Some(431)),
            _ => return,
        };
        let Some(at) = self.unshown.iter().position(|n| *n == number) else {
            return;
        };
        self.unshown.remove(at);
        self.highest = self.highest.max(number);
        let proxy = &self.session.crossing().edge.name;
        tracing::warn!(proxy, stream = number, "refused a request on HTTP/2");
        let operation = self.session.refused_request();
        operation.witness.blame(Cause::Proxy);
        operation.witness.told(outcome, status, 0);
    }

    // --- Acknowledgements.

    /// The client's host has these answers whole.
    pub(super) fn settle(&mut self) {
        if self.telling.is_empty() {
            return;
        }
        let acknowledged = self.client.side().acknowledged();
        while self.telling.front().is_some_and(|t| t.at <= acknowledged)
            && let Some(told) = self.telling.pop_front()
        {
            told.witness.handed_over();
        }
    }

    /// Asks now and then, while answers wait for it.
    pub(super) fn look_for_acknowledgements(&mut self, deadline: &mut Deadline) {
        if self.telling.len() > MOST_TOLD {
            self.settle();
        }
        let now = clock::now();
        match self.look {
            None if !self.telling.is_empty() => self.look = Some((now + FIRST_LOOK, FIRST_LOOK)),
            Some((at, pause)) if at <= now => {
                let before = self.telling.len();
                self.settle();
                self.look = if self.telling.is_empty() {
                    None
                } else if self.telling.len() < before {
                    Some((now + FIRST_LOOK, FIRST_LOOK))
                } else {
                    let pause = (pause * 2).min(Duration::from_secs(1));
                    Some((now + pause, pause))
                };
            }
            _ => {}
        }
        if let Some((at, _)) = self.look {
            deadline.sooner(at);
        }
    }

    // --- The client's connection.

    /// The client's connection is over: the client has ended it, or `h2` has for what it met there.
    pub(super) fn lose_client(&mut self, error: Option<&h2::Error>) {
        self.settle();
        let now = clock::now();
        let broken = error.is_some_and(h2::Error::is_io);
        let refused = error.is_some_and(|error| !error.is_io() && !error.is_remote());
        let closing = self.ended.is_some() || refused;
        self.front = match closing {
            true => Front::Closing(now + CLOSING),
            false => Front::Gone,
        };
        if let Some(error) = error.filter(|_| refused && self.ended.is_none()) {
            let proxy = &self.session.crossing().edge.name;
            tracing::warn!(proxy, %error, "refused what a client said on HTTP/2");
            self.ended = Some(Outcome::Closed);
            self.client.side().send_fin();
            if self.live == 0 {
                let operation = self.session.refused_request();
                operation.witness.blame(Cause::Proxy);
                operation.witness.told(Outcome::Closed, None, 0);
            }
        }
        self.dead_end.get_or_insert(Cause::Client);
        let awaits = self.awaits();
        let mut acts = false;
        for (n, slot) in self.streams.iter_mut().enumerate() {
            let Some(stream) = &mut slot.stream else {
                continue;
            };
            match self.ended {
                None => stream.client_left(Reason::CANCEL, awaits),
                Some(end) => stream.end_with(end, &Cause::Client),
            }
            acts |= stream.linger.is_some();
            self.wakes.wake(STREAMS + n);
        }
        if broken && !acts && self.ended.is_none() {
            // Its RST goes on.
            self.link.reset();
        }
    }

    /// Does what is due when a side wants no more, or has ended.
    pub(super) fn meet_ends(&mut self, deadline: &mut Deadline) {
        if self.ended.is_none() && matches!(self.front, Front::Open(_)) {
            self.follow_upstream(deadline);
            self.take_no_more();
            self.heed_fin(deadline);
        }
    }

    /// The upstream's connection is gone: so is the client's, but for what a fault still keeps and
    /// what is on its way.
    fn follow_upstream(&mut self, deadline: &mut Deadline) {
        let Some(fate) = self.fate else { return };
        let streams = self.streams.iter_mut().enumerate();
        let streams = streams.filter_map(|(n, slot)| Some((n, slot.stream.as_mut()?)));
        let mut broken = Vec::new();
        let mut others = false;
        for (n, stream) in streams {
            match stream.down {
                Down::Broken => broken.push((n, stream)),
                _ => others = true,
            }
        }
        if others {
            for (n, stream) in broken {
                stream.down = Down::Ending(Reason::INTERNAL_ERROR, Outcome::Reset);
                self.wakes.wake(STREAMS + n);
            }
            return;
        }
        if fate == Outcome::Reset {
            // A RST throws away what was not acknowledged: answers before it are due first.
            let now = clock::now();
            let until = *self.settle.get_or_insert(now + SETTLING);
            if !self.telling.is_empty() && !self.client.side().is_acknowledged() && now < until {
                deadline.sooner(until.min(now + ACK_LOOK));
                return;
            }
            self.settle();
            self.client.side().reset();
            self.front = Front::Gone;
        } else if let Front::Open(connection) = &mut self.front {
            connection.abrupt_shutdown(self.away.unwrap_or(Reason::NO_ERROR));
        }
        let blame = self.dead_end.clone().unwrap_or(Cause::Upstream);
        self.end(fate, &blame);
    }

    /// The proxy ends the client's connection, and with it all of its streams.
    fn end(&mut self, end: Outcome, blame: &Cause) {
        self.ended = Some(end);
        for (n, slot) in self.streams.iter_mut().enumerate() {
            if let Some(stream) = &mut slot.stream {
                stream.end_with(end, blame);
                self.wakes.wake(STREAMS + n);
            }
        }
        self.wakes.wake(CLIENT);
    }

    /// A fault on one stream ends the whole connection.
    pub(super) fn end_as_wanted(&mut self, n: usize, wants: Wants) {
        // What others were told before it, they were told.
        self.flush();
        let Front::Open(connection) = &mut self.front else {
            return;
        };
        let (outcome, blame) = match wants {
            Wants::GoAway(reason, receipt) => {
                connection.abrupt_shutdown(reason);
                (Outcome::Closed, receipt.cause())
            }
            Wants::Raw(bytes, receipt) => {
                let written = self.client.side().say(bytes);
                if let Some(stream) = self.streams[n].stream.as_ref().filter(|_| written > 0) {
                    let witness = &stream.operation.witness;
                    witness.told(Outcome::Substituted, None, written as u64);
                }
                (Outcome::Closed, receipt.cause())
            }
        };
        self.dead_end.get_or_insert(blame.clone());
        self.end(outcome, &blame);
        if self.client.side().fin {
            self.front = Front::Closing(clock::now() + CLOSING);
        }
    }

    /// The upstream, or the process, wants no more requests: the client is told, and its connection
    /// ends with the last of them.
    fn take_no_more(&mut self) {
        let draining = self.session.stopping() == Stopping::Draining;
        if !draining && self.away.is_none() || self.ended.is_some() {
            return;
        }
        let Front::Open(connection) = &mut self.front else {
            return;
        };
        if self.live == 0 {
            connection.abrupt_shutdown(self.away.unwrap_or(Reason::NO_ERROR));
            self.ended = Some(Outcome::Closed);
            self.wakes.wake(CLIENT);
        } else if !self.said_away {
            self.said_away = true;
            connection.graceful_shutdown();
            self.wakes.wake(CLIENT);
        }
    }

    /// The client has said all it will say. As it may be a half-close, answers under way are still
    /// given; the upstream is told once it has all the requests.
    fn heed_fin(&mut self, deadline: &mut Deadline) {
        {
            let side = self.client.side();
            if !side.eof || side.tells_eof || self.ended.is_some() {
                return;
            }
        }
        let mut streams = self.streams.iter().filter_map(|slot| slot.stream.as_ref());
        for stream in streams.clone() {
            stream.operation.moved_on();
        }
        let cut = streams.clone().any(|stream| !stream.is_whole());
        // Where nothing is left for the client, its FIN means that it has gone.
        let expects = streams.clone().any(|stream| stream.expects_more());
        let acts = |witness: &crate::pipeline::Witness| witness.is_faulted();
        let sent = streams.clone().all(|stream| stream.delivered);
        if !cut && expects {
            let held = streams.any(|stream| acts(&stream.operation.witness));
            let upstream = self.link.io();
            if sent
                && !held
                && let Some(io) = upstream
            {
                io.side().send_fin();
            }
            let moved =
                self.client.side().has_moved() | upstream.is_some_and(|io| io.side().has_moved());
            let now = clock::now();
            if moved || held || self.session.cuts().silent != [false; 2] {
                self.still = None;
            }
            let half_close = self.session.crossing().context.half_close;
            let until = *self.still.get_or_insert(now) + half_close;
            if now < until {
                deadline.sooner(until);
                return;
            }
        }
        // No more can come of it.
        self.client.side().tells_eof = true;
        self.wakes.wake(CLIENT);
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) -> bool {
        if let Front::Handshake(_) | Front::Open(_) = self.front {
            return false;
        }
        let now = clock::now();
        if let Front::Closing(until) = self.front {
            self.settle();
            let gone = self.client.side().poll_drained(cx) && self.telling.is_empty();
            if gone || until <= now {
                self.front = Front::Gone;
            } else {
                let look = if self.telling.is_empty() {
                    until
                } else {
                    now + ACK_LOOK
                };
                deadline.sooner(until.min(look));
            }
        }
        if self.live > 0 || !matches!(self.front, Front::Gone) {
            return false;
        }
        self.settle();
        if !self.telling.is_empty() && self.ended != Some(Outcome::Reset) {
            // One who has ended has no word left to say that the last answer is there.
            let until = *self.settle.get_or_insert(now + SETTLING);
            if now < until && self.client.side().stands() {
                deadline.sooner(until.min(now + ACK_LOOK));
                return false;
            }
        }
        let Link::Open(_, send, _) = &mut self.link else {
            return true;
        };
        if send.take().is_some() {
            self.parting = Some(now + CLOSING);
            self.wakes.wake(UPSTREAM);
        }
        let until = self.parting.unwrap_or(now);
        deadline.sooner(until);
        until <= now
    }

    /// Writes the ends of all records that are still open.
    pub(super) fn finish(mut self) {
        self.settle();
        let end = self.ended.unwrap_or(Outcome::Closed);
        let blame = self.dead_end.clone().unwrap_or(Cause::Client);
        if let Some(opening) = self.opening.take() {
            // No request has taken it over.
            opening.witness.told(end, None, 0);
        }
        for slot in &mut self.streams {
            if let Some(mut stream) = slot.stream.take() {
                stream.end_with(end, &blame);
            }
        }
    }
}

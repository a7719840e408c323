//! How a connection ends: by a fault, by a side that is gone, or because all has been answered.

use std::time::Duration;

use super::exchange::Exchange;
use super::{ACK_LOOK, FIRST_LOOK, Tap};
use crate::clock::{self, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::{End, Side, Then};
use crate::operation::{Direction, Phase};
use crate::pipeline::Receipt;
use crate::proxy::peer::Peer;
use crate::proxy::upstream::Upstream;
use crate::proxy::watch::{CLOSING, Deadline, SETTLING};

impl Tap {
    /// The client's connection is broken. With no fault at work its RST goes on to the upstream;
    /// else what it sent is still delivered, and the answers awaited, so that they are known.
    pub(super) fn lose_client(&mut self) {
        if self.ended.is_none() {
            self.left.get_or_insert_with(Timestamp::now);
        }
        let core = &mut self.core;
        core.note_told();
        core.moved_on();
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
        let acted = core.fate.is_some() || core.awaiting.iter().any(|e| faulted(e));
        if acted && core.is_owed() || cut {
            let linger = core.session.crossing().context.linger;
            self.linger = Some(clock::now() + linger);
        } else {
            self.upstream.reset();
        }
    }

    /// Does to the client what is due, once all that comes before it has gone.
    pub(super) fn meet_fate(&mut self, deadline: &mut Deadline) {
        let core = &mut self.core;
        let (Some((then, receipt)), None) = (&core.fate, self.ended) else {
            return;
        };
        if matches!(core.finale, Some((Direction::Downstream, ..))) {
            // That end is nearer.
            return;
        }
        let lifted = receipt.as_ref().is_some_and(Receipt::is_lifted);
        if let (Then::After(time), false) = (*then, lifted) {
            let due = core.lost_at.unwrap_or(core.session.accepted()) + time;
            if due > clock::now() {
                deadline.exactly(due);
                return;
            }
        }
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
                deadline.sooner(until.min(now + ACK_LOOK));
                return;
            }
            if client.is_acknowledged() {
                core.settle();
            }
            self.ended = Some(Outcome::Reset);
            if let Some(client) = self.client.take() {
                client.reset();
            }
        } else if core.is_served() && client.plain().is_some() && client.is_acknowledged() {
            // Its host has all, and it has nothing more to say that would have to be read first.
            self.ended = Some(Outcome::Closed);
            core.settle();
            self.client = None;
        } else {
            self.ended = Some(Outcome::Closed);
            client.send_fin();
            self.closing = Some(clock::now() + CLOSING);
        }
        let linger = core.session.crossing().context.linger;
        self.linger.get_or_insert(clock::now() + linger);
    }

    /// Ends the connection if a fault of an operation wants it now.
    pub(super) fn meet_ends(&mut self, deadline: &mut Deadline) {
        if self.ended.is_some() || self.client.is_none() {
            return;
        }
        let core = &mut self.core;
        let mut standing = core.awaiting.iter().chain(&core.telling);
        if core.finale.is_none() && standing.all(|exchange| exchange.ends.is_empty()) {
            return;
        }
        let now = clock::now();
        if let Some((direction, end, receipt)) = core.finale.clone() {
            let (lane, target) = match direction {
                Direction::Upstream => (&core.up, self.upstream.peer()),
                Direction::Downstream => (&core.down, self.client.as_mut()),
            };
            if lane.is_empty() {
                // A RST throws away what has not arrived.
                let left = target.map_or(0, |peer| peer.unacknowledged());
                let until = *self.settle.get_or_insert(now + SETTLING);
                if left == 0 || until <= now {
                    self.end_both(end, &receipt);
                    return;
                }
                deadline.sooner(until.min(now + ACK_LOOK));
            }
        }
        let standing = core.awaiting.iter().chain(&core.telling);
        let ends = standing.flat_map(|exchange| {
            let ends = exchange.ends.iter();
            ends.map(|(due, end, receipt)| (*due, *end, receipt, &exchange.operation.witness))
        });
        // What was to end at once has gone nowhere: that can't be taken back.
        let in_force = ends.filter(|(_, end, by, _)| end.after.is_zero() || !by.is_lifted());
        let Some((due, end, receipt, witness)) = in_force.min_by_key(|(due, ..)| *due) else {
            return;
        };
        if due > now {
            deadline.exactly(due);
            return;
        }
        let (receipt, witness) = (receipt.clone(), witness.clone());
        if end.reset && self.owes_arrival() {
            let until = *self.settle.get_or_insert(now + SETTLING);
            if now < until {
                deadline.sooner(until.min(now + ACK_LOOK));
                return;
            }
        }
        let core = &mut self.core;
        witness.blame(receipt.cause());
        core.dead_end.get_or_insert(receipt.cause());
        self.end_both(end, &receipt);
    }

    /// Whether answers that were written whole are still on their way: a RST would throw them away,
    /// and whether they arrived would never be known.
    fn owes_arrival(&self) -> bool {
        let told = self.core.telling.iter().rfind(|e| e.is_told);
        let (Some(told), Some(client)) = (told, &self.client) else {
            return false;
        };
        let behind = self.core.down.written().saturating_sub(told.answer.end);
        client.unacknowledged() as u64 > behind
    }

    /// Ends the client's connection, and has the upstream's end as well; what it still says is read.
    fn end_both(&mut self, end: End, receipt: &Receipt) {
        receipt.injected(Phase::Body);
        let core = &mut self.core;
        core.note_told();
        if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
            core.settle();
        }
        let hits = |side| end.reset && (end.side == side || end.side == Side::Both);
        core.down.clear();
        if hits(Side::Upstream) {
            self.upstream.reset();
            core.upstream_unusable = true;
        } else if let Some(upstream) = self.upstream.peer() {
            upstream.send_fin();
        }
        core.up.clear();
        if let Some(exchange) = core.awaiting.back_mut() {
            // What is still read of a request has nowhere to go.
            exchange.sinks_body = true;
        }
        let then = if hits(Side::Client) {
            Then::Reset
        } else {
            Then::Close
        };
        core.fate = Some((then, None));
        // What was due before has arrived, or never will.
        if hits(Side::Client) {
            self.ended = Some(Outcome::Reset);
            if let Some(client) = self.client.take() {
                client.reset();
            }
        } else if let Some(client) = &mut self.client {
            self.ended = Some(Outcome::Closed);
            client.send_fin();
            self.closing = Some(clock::now() + CLOSING);
        }
        let linger = core.session.crossing().context.linger;
        self.linger.get_or_insert(clock::now() + linger);
    }

    /// Settles answers that were written and that no request has followed.
    pub(super) fn look_for_acknowledgements(&mut self, deadline: &mut Deadline) {
        let waits = self.core.telling.front().is_some_and(|e| e.is_told);
        if self.look.is_none() && !waits {
            return;
        }
        let now = clock::now();
        match self.look {
            None if waits => self.look = Some((now + FIRST_LOOK, FIRST_LOOK)),
            Some((at, pause)) if at <= now => {
                self.look = None;
                if waits {
                    if self.client.as_ref().is_some_and(Peer::is_acknowledged) {
                        self.core.settle();
                    } else if self.client.as_ref().and_then(Peer::broken).is_some() {
                        // Where it is not read, this alone tells.
                        self.lose_client();
                    } else {
                        let pause = (pause * 2).min(Duration::from_secs(1));
                        self.look = Some((now + pause, pause));
                    }
                }
            }
            _ => {}
        }
        if let Some((at, _)) = self.look {
            deadline.sooner(at);
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&mut self, deadline: &mut Deadline) -> bool {
        if self.closing.is_none() && self.client.as_ref().is_some_and(|client| !client.eof) {
            return false;
        }
        let now = clock::now();
        let hanging = self.ended.is_none() && matches!(self.core.fate, Some((Then::Hang, _)));
        let (closed, left) = match (&self.client, self.closing) {
            (None, _) => (true, false),
            (Some(client), Some(until)) => {
                // One who had ended before has no word left to say that the last answer is there.
                let has_it = self.core.telling.is_empty() || client.is_acknowledged();
                if has_it {
                    self.core.settle();
                }
                let over = client.eof && has_it || until <= now;
                // Once past it wakes nobody: an answer may still be awaited behind it.
                if !over {
                    let look = if has_it { until } else { now + ACK_LOOK };
                    deadline.sooner(until.min(look));
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
                deadline.sooner(until);
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
        deadline.sooner(until.min(now + ACK_LOOK));
        until <= now
    }

    /// Whether, with nothing on its way that a fault or a partition holds, no byte has moved for
    /// too long since the client ended: who has gone looks like one who half-closed.
    pub(super) fn is_deserted(&mut self, deadline: &mut Deadline) -> bool {
        let core = &self.core;
        let held = core.up.is_held() || core.down.is_held() || core.awaits_copy();
        if held || core.session.cuts().silent != [false; 2] {
            return false;
        }
        let now = clock::now();
        let written = core.up.written() + core.down.written();
        let still = self.moved.filter(|(_, before)| *before == written);
        let (since, _) = *self.moved.insert(still.unwrap_or((now, written)));
        let until = since + core.session.crossing().context.half_close;
        deadline.sooner(until);
        until <= now
    }

    /// Writes the ends of all records that are still open.
    pub(super) fn finish(&mut self) {
        let core = &mut self.core;
        core.strand_untold();
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
        let open = !core.telling.is_empty() || !core.awaiting.is_empty();
        let arrived = open && self.client.as_ref().is_some_and(Peer::is_acknowledged);
        if arrived {
            core.settle();
        }
        let end = match (self.ended, self.left) {
            (Some(ended), _) => ended,
            (None, Some(_)) => Outcome::Left,
            (None, None) => Outcome::Closed,
        };
        if let Some(opening) = core.opening.take() {
            // No request has taken it over.
            opening.witness.told(end, None, 0);
        }
        let blame = core.dead_end.clone().unwrap_or(Cause::Client);
        let written = (core.down.written(), arrived);
        for mut exchange in core.telling.drain(..).chain(core.awaiting.drain(..)) {
            exchange.abandon(end, written, self.left, &blame);
        }
    }
}

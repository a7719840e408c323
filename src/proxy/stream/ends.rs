//! How a connection ends: by a fault, by a side that is gone, or because all has been said.

use std::io;
use std::time::Duration;

use super::{DOWN, Half, Stream, Told, UP};
use crate::clock::{self, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::{End, Side, Then};
use crate::operation::{Direction, Phase};
use crate::pipeline::Receipt;
use crate::proxy::peer::Peer;
use crate::proxy::upstream::Upstream;
use crate::proxy::watch::{CLOSING, Deadline, SETTLING};

impl Stream {
    /// Takes up rules that want the connection to end.
    pub(super) fn end_later(&mut self, ends: Vec<(End, Receipt)>) {
        if ends.is_empty() {
            // Most connections: they need no room for it.
            return;
        }
        let now = clock::now();
        for (end, receipt) in ends {
            self.fate.ends.push((now + end.after, end, receipt));
        }
    }

    /// Ends the connection if a rule wants it now.
    pub(super) fn end_due(&mut self, deadline: &mut Deadline) {
        let wanted = self.fate.finale.is_some() || !self.fate.ends.is_empty();
        if !wanted || self.told != Told::Nothing {
            return;
        }
        let now = clock::now();
        // Whoever is to be hit may not be there yet. The dial is bounded, and tells.
        let dialling = matches!(self.upstream, Upstream::Dialling(_));
        let unmet = |end: &End| end.reset && end.side != Side::Client && dialling;
        if let Some((direction, end, receipt)) = self.fate.finale.clone() {
            if unmet(&end) {
                return;
            }
            // A RST throws away what has not arrived.
            let target = match direction {
                Direction::Upstream => self.upstream.peer(),
                Direction::Downstream => self.client.as_mut(),
            };
            let written = self.halves[direction as usize].lane.is_empty();
            let left = target.map_or(0, |peer| peer.unacknowledged());
            if written {
                // As long as some of it arrives, the rest may too.
                let (until, _) = match self.fate.settle {
                    Some((until, before)) if before == left => (until, before),
                    _ => *self.fate.settle.insert((now + SETTLING, left)),
                };
                if left == 0 || until <= now {
                    self.end_both(end, &receipt);
                    return;
                }
                deadline.sooner(until.min(now + Duration::from_millis(1)));
            }
        }
        self.fate
            .ends
            .retain(|(_, _, receipt)| !receipt.is_lifted());
        let Some((due, end, receipt)) = self.fate.ends.iter().min_by_key(|(due, ..)| *due) else {
            return;
        };
        if unmet(end) {
            return;
        }
        if *due <= now {
            let (end, receipt) = (*end, receipt.clone());
            self.end_both(end, &receipt);
        } else {
            deadline.exactly(*due);
        }
    }

    fn end_both(&mut self, end: End, receipt: &Receipt) {
        receipt.injected(Phase::Stream);
        self.note_acknowledged();
        let hits = |side| end.reset && (end.side == side || end.side == Side::Both);
        let outcome = if hits(Side::Client) {
            Outcome::Reset
        } else {
            Outcome::Closed
        };
        if hits(Side::Upstream) {
            // First: a FIN before the RST would be what the upstream reads.
            self.upstream.reset();
        }
        self.end_client(outcome);
    }

    /// Does what becomes of the client after a loss, once it is due.
    pub(super) fn end_lost(&mut self, deadline: &mut Deadline) {
        let Some((then, receipt)) = &self.fate.lost else {
            return;
        };
        if self.told != Told::Nothing {
            return;
        }
        // A dropped connection is ended at once; a lost answer, when it has been given in full.
        let complete = self.halves[UP].sink || self.upstream.peer().is_none_or(|peer| peer.eof);
        let end = match then {
            _ if receipt.is_lifted() => Outcome::Closed,
            Then::Reset if complete => Outcome::Reset,
            Then::Close | Then::Status(_) if complete => Outcome::Closed,
            Then::After(time) => {
                let since = self.fate.lost_at.unwrap_or(self.session.accepted());
                let due = since + *time;
                if due > clock::now() {
                    deadline.exactly(due);
                    return;
                }
                Outcome::Closed
            }
            _ => return,
        };
        self.end_client(end);
    }

    /// Ends the client's connection, by a FIN or a RST.
    pub(super) fn end_client(&mut self, outcome: Outcome) {
        self.told = Told::Ended(outcome);
        self.halves[DOWN].lane.clear();
        self.halves[DOWN].sink = true;
        if outcome == Outcome::Reset {
            if let Some(client) = self.client.take() {
                client.reset();
            }
        } else if let Some(client) = &mut self.client {
            client.send_fin();
            self.halves[UP].sink = true;
            self.fate.closing = Some(clock::now() + CLOSING);
        }
        if let Some(upstream) = self.upstream.peer() {
            upstream.send_fin();
        }
    }

    /// The client's connection is broken. With no fault at work its RST goes on to the upstream;
    /// else what it sent is still delivered, and the answer awaited, so that it is known.
    pub(super) fn client_gone(&mut self, error: &io::Error) {
        tracing::debug!(%error, "client gone");
        self.fate.left.get_or_insert_with(Timestamp::now);
        self.note_acknowledged();
        self.client = None;
        self.fate.feeds.clear();
        self.halves[DOWN].lane.clear();
        self.halves[DOWN].sink = true;
        if self.session.cuts().silences(Direction::Upstream) {
            // What a reset client sent is not delivered on heal.
            self.halves[UP].lane.clear();
        }
        let faulted = self.operation.witness.is_faulted();
        if faulted && !matches!(self.upstream, Upstream::None | Upstream::Gone) {
            let linger = self.session.crossing().context.linger;
            self.fate.linger = Some(clock::now() + linger);
        } else {
            self.upstream.reset();
        }
    }

    /// Notes whether all that the upstream has said was written, and acknowledged by the client.
    fn note_acknowledged(&mut self) -> bool {
        let down = &self.halves[DOWN];
        let whole = !down.sink && down.lane.is_empty() && down.lane.written() == down.read;
        let acknowledged = self.client.as_ref().is_some_and(Peer::is_acknowledged);
        self.handed_over |= whole && acknowledged;
        acknowledged
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&mut self, deadline: &mut Deadline) -> bool {
        if self.upstream_broken && self.halves[DOWN].lane.is_empty() && self.told == Told::Nothing {
            self.note_acknowledged();
            self.told = Told::Ended(Outcome::Reset);
            if let Some(client) = self.client.take() {
                client.reset();
            }
            return true;
        }
        let Some(client) = &self.client else {
            let answered = self.halves[DOWN].read > 0;
            let upstream_done = self.upstream.peer().is_none_or(|peer| peer.eof || answered);
            let delivered = self.halves[UP].lane.is_empty() && !self.session.cuts().silent[UP];
            let waits = self.fate.linger.filter(|at| *at > clock::now());
            return match waits {
                Some(until) if !(upstream_done && delivered) => {
                    deadline.sooner(until);
                    false
                }
                _ => {
                    if self.told == Told::Nothing {
                        self.upstream.reset();
                    }
                    true
                }
            };
        };
        if let Some(until) = self.fate.closing {
            if client.eof || until <= clock::now() {
                return true;
            }
            deadline.sooner(until);
            return false;
        }
        let halves = [
            client.eof,
            self.upstream.peer().is_some_and(|peer| peer.eof),
        ];
        if halves == [true, false] || halves == [false, true] {
            return self.is_deserted(deadline);
        }
        if !client.eof {
            return false;
        }
        let dropped = matches!(self.upstream, Upstream::None) && self.fate.lost.is_some();
        if dropped || matches!(self.upstream, Upstream::Gone) {
            return true;
        }
        if matches!(self.fate.lost, Some((Then::After(_), _))) {
            // Its end has a time of its own.
            return false;
        }
        if !self.both_have_ended() {
            return false;
        }
        // Once the client's host has it all, it is over.
        if self.note_acknowledged() {
            return true;
        }
        for peer in self.client.iter_mut().chain(self.upstream.peer()) {
            peer.send_fin();
        }
        let now = clock::now();
        let (until, _) = *self.fate.settle.get_or_insert((now + SETTLING, 0));
        if until <= now {
            return true;
        }
        deadline.sooner(until.min(now + Duration::from_millis(2)));
        false
    }

    /// Whether everyone has said everything, and it was written.
    pub(super) fn both_have_ended(&mut self) -> bool {
        let written = self.halves.iter().all(|half| half.lane.is_empty());
        let client = self.client.as_ref().is_some_and(|peer| peer.eof);
        written && client && self.upstream.peer().is_some_and(|peer| peer.eof)
    }

    /// Whether one side has ended and, with nothing on its way that a fault or a partition holds,
    /// no byte has moved for too long: who has gone looks like one who half-closed.
    fn is_deserted(&mut self, deadline: &mut Deadline) -> bool {
        let on_its_way = |half: &Half| {
            !half.lane.is_empty() || half.bulk.as_ref().is_some_and(|bulk| !bulk.is_drained())
        };
        let held = self.halves.iter().any(on_its_way);
        if held || self.session.cuts().silent != [false; 2] || self.fate.lost.is_some() {
            return self.fate.lost.is_some() && self.is_lost_for_good(deadline);
        }
        let now = clock::now();
        let until =
            *self.fate.moved.get_or_insert(now) + self.session.crossing().context.half_close;
        deadline.sooner(until);
        until <= now
    }

    /// Whether a client whose answer is lost has gone, and the answer was awaited long enough.
    fn is_lost_for_good(&mut self, deadline: &mut Deadline) -> bool {
        if !self.client.as_ref().is_some_and(|client| client.eof) {
            return false;
        }
        if matches!(self.upstream, Upstream::None | Upstream::Gone) {
            return true;
        }
        let linger = self.session.crossing().context.linger;
        let until = *self.fate.linger.get_or_insert(clock::now() + linger);
        deadline.sooner(until);
        until <= clock::now()
    }

    /// Writes the end of the record.
    pub(super) fn finish(&mut self) {
        if !self.handed_over {
            self.note_acknowledged();
        }
        self.note_sent();
        let witness = &self.operation.witness;
        let written = self.halves[DOWN].lane.written();
        let whole = self.handed_over && self.fate.lost.is_none() && written > 0;
        // Whoever has closed its side has no answer still to give.
        let ended = self.upstream.peer().is_some_and(|peer| peer.eof) && !self.upstream_broken;
        let unanswered = !ended && self.halves[UP].lane.written() > self.heard;
        witness.request_bytes(self.halves[UP].read as usize);
        if let Some(delivery) = self.delivery {
            witness.answer_bytes(delivery, self.halves[DOWN].read as usize);
        }
        let outcome = match self.told {
            _ if whole && !unanswered => Outcome::Answered,
            _ if written > 0 => Outcome::Partial,
            Told::Ended(outcome) => outcome,
            Told::Nothing if self.upstream.peer().is_some_and(|peer| peer.eof) => Outcome::Closed,
            Told::Nothing => Outcome::Left,
        };
        witness.told(outcome, None, written);
        if whole && unanswered {
            witness.unanswered();
        }
        if outcome == Outcome::Answered {
            witness.handed_over();
        } else if let (Some(left), Told::Nothing) = (self.fate.left, self.told)
            && (self.client.is_none() || self.fate.lost.is_none())
        {
            // A FIN may have been a half-close: whom the proxy ended had not gone before, nor had
            // one whose answer a fault kept back.
            witness.client_left(left);
            witness.blame(Cause::Client);
        }
    }
}

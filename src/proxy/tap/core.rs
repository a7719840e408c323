//! The messages of one connection: what was read and not yet framed, what is on its way, and which
//! answers are owed. Knows no sockets.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::exchange::Exchange;
use super::requests::MOST_AWAITING;
use super::untold::Untold;
use crate::clock::{self, Instant};
use crate::evidence::Cause;
use crate::faults::{End, Then};
use crate::operation::{Direction, Phase};
use crate::pipeline::{ChunkAction, ConnectAction, Hold, Operation, Receipt, Session};
use crate::protocol::http1::{MAX_HEAD, RequestFramer, ResponseFramer};
use crate::proxy::lane::Lane;
use crate::proxy::watch::Deadline;

/// The operation that a connection is until its first request, and what is to be done with it.
pub(in crate::proxy) type Opening = (Operation, ConnectAction);

/// What a connection's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Too few have come.
    Unknown,
    Http1,
    /// By its preface, which is kept with what came behind it.
    Http2,
}

/// The messages of one connection.
pub(super) struct Core {
    pub(super) session: Session,
    pub(super) requests: RequestFramer,
    pub(super) responses: ResponseFramer,
    pub(super) speaks: Speaks,
    /// Bytes of the client that were framed, and bytes of the upstream that were read.
    pub(super) framed: u64,
    pub(super) heard: u64,
    /// An unfinished head, or bytes that may belong to another protocol.
    pub(super) from_client: BytesMut,
    pub(super) from_upstream: BytesMut,
    /// The request at the front of `from_client`, if its body is awaited before it goes on.
    pub(super) untold: Option<Box<Untold>>,
    pub(super) up: Lane,
    pub(super) down: Lane,
    /// Requests whose answers are not yet on their way whole, in order.
    pub(super) awaiting: VecDeque<Box<Exchange>>,
    /// Requests whose answers are on their way, until the client's host has them.
    pub(super) telling: VecDeque<Box<Exchange>>,
    /// No further request goes on, because of this.
    pub(super) dead_end: Option<Cause>,
    /// Behind what is on its way nothing more goes to the client; then this becomes of it (once
    /// the rule is lifted, if one keeps it hanging: it is closed).
    pub(super) fate: Option<(Then, Option<Receipt>)>,
    pub(super) client_gone: bool,
    /// The client will say no more, or is gone.
    pub(super) client_ended: bool,
    /// The client has said that it would ask for nothing more (RFC 9112 section 9.6).
    pub(super) asked_last: bool,
    pub(super) upstream_unusable: bool,
    /// The final answer to a request for another protocol: whether it switched.
    pub(super) switched: Option<bool>,
    pub(super) tunnel: bool,
    /// The connection's own operation, until the first request takes it over.
    pub(super) opening: Option<Operation>,
    /// How much later than it was accepted the upstream is dialled.
    pub(super) dial_hold: Hold,
    /// Nothing goes on in this direction; once what went before has arrived, the connection ends so.
    pub(super) finale: Option<(Direction, End, Receipt)>,
    /// An answer was cut: nothing goes to the client behind what is left of it.
    pub(super) cut: bool,
    /// When bytes last went nowhere.
    pub(super) lost_at: Option<Instant>,
}

impl Core {
    /// Of a connection that was accepted.
    pub(super) fn new(session: Session, opening: Option<Opening>) -> Self {
        let (opening, action) = opening.unzip();
        let crossing = session.crossing().clone();
        Self {
            session,
            requests: RequestFramer::default(),
            responses: ResponseFramer::default(),
            speaks: Speaks::Unknown,
            framed: 0,
            heard: 0,
            from_client: BytesMut::new(),
            from_upstream: BytesMut::new(),
            untold: None,
            up: Lane::new(crossing.clone()),
            down: Lane::new(crossing),
            awaiting: VecDeque::new(),
            telling: VecDeque::new(),
            dead_end: None,
            fate: None,
            client_gone: false,
            client_ended: false,
            asked_last: false,
            upstream_unusable: false,
            switched: None,
            tunnel: false,
            opening,
            dial_hold: action.unwrap_or_default().hold,
            finale: None,
            cut: false,
            lost_at: None,
        }
    }

    /// The client's host has every answer that was written whole: it has acknowledged all bytes,
    /// or a new request has come.
    pub(super) fn settle(&mut self) {
        while self.telling.front().is_some_and(|e| e.is_told)
            && let Some(exchange) = self.telling.pop_front()
        {
            exchange.operation.witness.handed_over();
        }
    }

    /// Notes which answers were written whole.
    pub(super) fn note_told(&mut self) {
        let written = self.down.written();
        for exchange in self.telling.iter_mut().filter(|e| !e.is_told) {
            if exchange.answer.is_empty() || exchange.answer.end > written {
                break;
            }
            exchange.told();
        }
    }

    /// Notes which requests a partition holds, and which answers.
    pub(super) fn note_cuts(&self) {
        if self.session.cuts().silences(Direction::Upstream) && !self.up.is_empty() {
            for exchange in self.awaiting.iter().filter(|e| e.is_forwarded() && !e.sent) {
                for cut in self.session.cutting(Direction::Upstream) {
                    exchange.operation.witness.cut(cut, Phase::Request);
                }
            }
        }
        if self.session.cuts().silences(Direction::Downstream) && !self.down.is_empty() {
            let begun = self.awaiting.iter().take(1).filter(|e| e.status.is_some());
            for exchange in self.telling.iter().filter(|e| !e.is_told).chain(begun) {
                for cut in self.session.cutting(Direction::Downstream) {
                    exchange.operation.witness.cut(cut, Phase::Response);
                }
            }
        }
    }

    /// Whether an answer of the upstream is still to come, to a request that it was sent or will be.
    pub(super) fn is_owed(&self) -> bool {
        let due = |e: &Exchange| e.is_forwarded() && !e.answered && (e.sent || !self.up.is_empty());
        !self.upstream_unusable && self.awaiting.iter().any(|e| due(e))
    }

    /// The client will say no more: answers that wait for that need not.
    pub(super) fn moved_on(&mut self) {
        self.client_ended = true;
        for exchange in self.awaiting.iter().chain(&self.telling) {
            exchange.operation.moved_on();
        }
    }

    /// Puts what faults have left of bytes of a body on its way. Answers whether no more of it is to
    /// follow.
    pub(super) fn act_on_body(&mut self, direction: Direction, action: ChunkAction) -> bool {
        let lane = match direction {
            Direction::Upstream => &mut self.up,
            Direction::Downstream => &mut self.down,
        };
        let now = clock::now();
        for (bytes, hold) in action.pieces {
            lane.push(bytes, now, hold, Phase::Body);
        }
        for receipt in action.altered {
            receipt.injected(Phase::Body);
        }
        let (then, end, receipt) = match (action.discard, action.end) {
            (Some((then, receipt)), _) => (Some(then), None, receipt),
            (None, Some((end, receipt))) => (None, Some(end), receipt),
            (None, None) => return false,
        };
        receipt.injected(Phase::Body);
        let exchange = match direction {
            Direction::Upstream => self.awaiting.back_mut(),
            Direction::Downstream => self.awaiting.front_mut(),
        };
        let Some(exchange) = exchange else {
            return true;
        };
        exchange.operation.witness.blame(receipt.cause());
        match direction {
            // What is not whole is delivered no second time.
            Direction::Upstream => {
                exchange.keeping = None;
                self.dead_end.get_or_insert(receipt.cause());
            }
            Direction::Downstream => self.dead_end = Some(receipt.cause()),
        }
        if let Some(then) = then {
            self.lost_at = Some(now);
            match direction {
                Direction::Upstream => exchange.vanished = Some((then, receipt)),
                Direction::Downstream => self.fate = Some((then, Some(receipt))),
            }
        } else if let Some(end) = end {
            self.cut |= direction == Direction::Downstream;
            // A later one would end it before what this one lets pass has arrived.
            self.finale.get_or_insert((direction, end, receipt));
        }
        true
    }

    /// Whether the client has said that it would ask for nothing more, and all that it asked for was
    /// written to it.
    pub(super) fn is_served(&self) -> bool {
        self.asked_last
            && self.requests.is_idle()
            && self.from_client.is_empty()
            && self.awaiting.is_empty()
            && self.telling.iter().all(|e| e.is_told)
    }

    /// Whether nothing more goes to the client behind what is on its way.
    pub(super) fn is_sunk(&self) -> bool {
        self.fate.is_some() || self.client_gone || self.cut
    }

    /// Whether nothing waits here but for what the sides say next.
    pub(super) fn is_at_rest(&self) -> bool {
        let kept = |e: &Exchange| e.captures || e.wanted.is_some();
        self.from_client.is_empty()
            && self.from_upstream.is_empty()
            && self.up.is_empty()
            && self.down.is_empty()
            && self.fate.is_none()
            && !self.awaiting.front().is_some_and(|e| kept(e))
    }

    /// Whether the client may be read.
    pub(super) fn has_room(&self, deadline: &mut Deadline) -> bool {
        let under_way = |e: &Exchange| e.is_forwarded() && !e.complete;
        let goes_on = self.tunnel || self.awaiting.back().is_some_and(|e| under_way(e));
        if self.dead_end.is_some() && !goes_on {
            return true;
        }
        let cuts = self.session.cuts();
        // Between requests the next one waits until the answers to those before it have room.
        let answers = !self.requests.is_idle()
            || self
                .down
                .has_room(cuts.silences(Direction::Downstream), deadline);
        answers
            && self
                .up
                .has_room(cuts.silences(Direction::Upstream), deadline)
            && self.awaiting.len() + self.telling.len() < MOST_AWAITING
            && !self.waits_for_copy()
            && (self.untold.is_some() || self.from_client.len() <= MAX_HEAD)
    }
}

//! One operation with the faults at work on it: asks them and combines their verdicts.

use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::action::{Tally, Work};
use super::{
    ChunkAction, ConnectAction, Crossing, Hold, Receipt, RequestAction, ResponseAction, Terminal,
    Witness,
};
use crate::clock::{self, Instant};
use crate::evidence::FaultSeen;
use crate::faults::{Act, Chunk, Directions, End, Verdict};
use crate::operation::{Direction, Phase};
use crate::rules::{LiveRule, Totals};

/// How many rules may act on one operation over its whole life; more leave it alone.
const MOST_RULES: usize = 256;

/// An operation and the faults that chose it, in rule order.
#[derive(Debug)]
pub struct Operation {
    /// Its record.
    pub witness: Witness,
    /// What rules have to do with it; `None`: nothing so far.
    chosen: Option<Box<Chosen>>,
}

#[derive(Debug, Default)]
struct Chosen {
    acting: Vec<Acting>,
    /// Rules in force that were asked and left it alone: each decides once.
    declined: Vec<Arc<LiveRule>>,
    /// What it has had to do with each rule; the totals tell a rule from one that took its name.
    tallies: Vec<(Arc<Totals>, Arc<Tally>)>,
}

#[derive(Debug)]
struct Acting {
    receipt: Receipt,
    act: Box<dyn Act>,
    /// Which directions it meets: upstream, downstream.
    meets: [bool; 2],
    /// It has been told that it acts on a stream.
    begun: bool,
}

impl Acting {
    fn meets(&self, direction: Direction) -> bool {
        self.meets[direction as usize] && !self.receipt.is_lifted()
    }
}

impl Operation {
    pub(super) fn new(witness: Witness) -> Self {
        Self {
            witness,
            chosen: None,
        }
    }

    /// Lets a rule that matches decide whether it chooses this operation, at this moment of it.
    pub(super) fn select(
        &mut self,
        crossing: &Arc<Crossing>,
        live: &Arc<LiveRule>,
        key: u64,
        phase: Phase,
    ) {
        let chosen = &**self.chosen.get_or_insert_default();
        let acting = chosen.acting.iter().map(|a| &a.receipt.0.live);
        if acting.chain(&chosen.declined).any(|l| Arc::ptr_eq(l, live)) {
            return;
        }
        let mut known = chosen.tallies.iter();
        let known = known.find(|(totals, _)| Arc::ptr_eq(totals, &live.totals));
        let known = known.map(|(_, tally)| Arc::clone(tally));
        if known.is_none() && chosen.tallies.len() >= MOST_RULES {
            return;
        }
        let Some((slot, draw)) = live.select(crossing.context.seed, key) else {
            self.decline(live, phase);
            return;
        };
        let tally = known.unwrap_or_else(|| self.first_selection(crossing, live, phase));
        let rule = &live.rule;
        if rule.dry_run {
            self.decline(live, phase);
            return;
        }
        let receipt = Receipt(Arc::new(Work {
            live: Arc::clone(live),
            slot: Mutex::new(slot),
            tally,
            entry: Arc::clone(self.witness.entry()),
            crossing: Arc::clone(crossing),
        }));
        let meets = |direction| match (rule.fault.kind.directions, rule.direction) {
            (Directions::Fixed(_), _) => true,
            (_, Some(chosen)) => chosen == direction,
            (Directions::Either { message }, None) => {
                phase != Phase::Request || message == direction
            }
        };
        self.chosen.get_or_insert_default().acting.push(Acting {
            receipt,
            act: rule.fault.fault.act(draw, &crossing.edge.name),
            begun: false,
            meets: Direction::ALL.map(meets),
        });
    }

    /// A connection is asked again at every change; a message never is.
    fn decline(&mut self, live: &Arc<LiveRule>, phase: Phase) {
        if phase != Phase::Request {
            let chosen = self.chosen.get_or_insert_default();
            chosen.declined.push(Arc::clone(live));
        }
    }

    fn first_selection(
        &mut self,
        crossing: &Arc<Crossing>,
        live: &Arc<LiveRule>,
        phase: Phase,
    ) -> Arc<Tally> {
        let rule = &live.rule;
        let kind = rule.fault.kind.name;
        let index = {
            let mut record = self.witness.entry().lock();
            record.faults.push(FaultSeen {
                rule: rule.name.as_str().into(),
                kind: kind.into(),
                phase,
                injected: false,
            });
            record.faults.len() - 1
        };
        live.totals.selected.fetch_add(1, Release);
        let metrics = &crossing.context.metrics;
        metrics.selected(&crossing.edge.name, &rule.name, kind);
        let tally = Arc::new(Tally::new(index));
        self.chosen
            .get_or_insert_default()
            .tallies
            .push((Arc::clone(&live.totals), Arc::clone(&tally)));
        tally
    }

    /// Drops the work of rules that are no longer in force.
    pub(super) fn forget_lifted(&mut self) {
        if let Some(chosen) = &mut self.chosen {
            chosen.acting.retain(|a| !a.receipt.is_lifted());
            chosen.declined.retain(|live| !live.is_lifted());
        }
    }

    /// Whether a fault is at work on it.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.chosen.as_ref().is_some_and(|c| !c.acting.is_empty())
    }

    fn acting(&mut self) -> &mut [Acting] {
        self.chosen.as_mut().map_or(&mut [], |c| &mut c.acting)
    }

    pub(super) fn on_connect(&mut self) -> ConnectAction {
        let mut action = ConnectAction::default();
        for acting in self.acting() {
            match acting.act.on_connect() {
                Verdict::Hold(time) => action.hold.add(time, &acting.receipt),
                Verdict::Discard(then) if action.discard.is_none() => {
                    action.discard = Some((then, acting.receipt.clone()));
                }
                Verdict::Again(again) => action.again.push((again, acting.receipt.clone())),
                _ => {}
            }
        }
        action.ends = self.on_stream();
        action
    }

    /// Tells faults that are new to it that they act on a stream; answers how they want it to end.
    pub(super) fn on_stream(&mut self) -> Vec<(End, Receipt)> {
        let mut ends = Vec::new();
        for acting in self.acting().iter_mut().filter(|a| !a.begun) {
            acting.begun = true;
            if let Verdict::End(end) = acting.act.on_stream() {
                ends.push((end, acting.receipt.clone()));
            }
        }
        ends
    }

    pub(super) fn on_request(&mut self) -> RequestAction {
        let mut action = RequestAction::default();
        for acting in self.acting() {
            if !acting.meets(Direction::Upstream) {
                continue;
            }
            match acting.act.on_request() {
                Verdict::Hold(time) => action.hold.add(time, &acting.receipt),
                Verdict::Discard(then) if action.terminal.is_none() => {
                    action.terminal = Some(Terminal::Discard(then, acting.receipt.clone()));
                }
                Verdict::Respond(answer) if action.terminal.is_none() => {
                    action.terminal = Some(Terminal::Respond(answer, acting.receipt.clone()));
                }
                Verdict::Again(again) => action.again.push((again, acting.receipt.clone())),
                // A terminal fault in rule order came first, or it means bytes, not messages.
                _ => {}
            }
        }
        if action.terminal.is_some() {
            // What reaches no upstream reaches it no second time either.
            action.again.clear();
        }
        action
    }

    /// The head of the upstream's answer was read: asks what is to be done with the answer.
    pub fn on_response(&mut self) -> ResponseAction {
        let mut action = ResponseAction::default();
        for acting in self.acting() {
            if acting.meets(Direction::Downstream) {
                match acting.act.on_response() {
                    Verdict::Hold(time) => action.hold.add(time, &acting.receipt),
                    Verdict::Discard(then) if action.discard.is_none() => {
                        action.discard = Some((then, acting.receipt.clone()));
                    }
                    _ => {}
                }
            }
        }
        action
    }

    /// Bytes were read at `now`: asks what is to be done with them.
    pub fn on_chunk(&mut self, direction: Direction, bytes: Bytes, now: Instant) -> ChunkAction {
        let mut action = ChunkAction {
            pieces: vec![(bytes, Hold::default())],
            ..ChunkAction::default()
        };
        for acting in self.acting() {
            let len = action.pieces.iter().map(|(bytes, _)| bytes.len()).sum();
            if !acting.meets(direction) || len == 0 {
                continue;
            }
            let chunk = Chunk {
                direction,
                len,
                at: clock::since_start(now),
            };
            match acting.act.on_chunk(&chunk) {
                Verdict::Hold(time) => {
                    for (_, hold) in &mut action.pieces {
                        hold.add(time, &acting.receipt);
                    }
                }
                Verdict::Pace(parts) => {
                    action.pieces = split(action.pieces, &parts, &acting.receipt);
                    if parts.len() > 1 && parts.iter().all(|(_, time)| time.is_zero()) {
                        // Nothing is held that would tell, but one write has become many.
                        action.altered.push(acting.receipt.clone());
                    }
                }
                Verdict::Alter(changes) => {
                    alter(&mut action.pieces, &changes);
                    action.altered.push(acting.receipt.clone());
                }
                // Of two ends the one nearer in the stream comes first, however it was read; at
                // the same place, the one first in rule order.
                Verdict::Keep(kept, end) if action.end.is_none() || kept < len => {
                    truncate(&mut action.pieces, kept);
                    action.end = Some((end, acting.receipt.clone()));
                }
                Verdict::Discard(then) => {
                    action.pieces.clear();
                    action.end = None;
                    action.discard = Some((then, acting.receipt.clone()));
                    return action;
                }
                _ => {}
            }
        }
        action
    }

    /// One side has ended: asks what is to be done with that.
    pub fn on_eof(&mut self, direction: Direction) -> ChunkAction {
        let mut action = ChunkAction::default();
        for acting in self.acting() {
            if acting.meets(direction) {
                match acting.act.on_eof(direction) {
                    Verdict::Hold(time) => action.hold.add(time, &acting.receipt),
                    Verdict::Discard(then) if action.discard.is_none() => {
                        action.discard = Some((then, acting.receipt.clone()));
                    }
                    _ => {}
                }
            }
        }
        action
    }
}

type Pieces = Vec<(Bytes, Hold)>;

/// Cuts pieces further, so that each of `parts` begins a new one and is kept so long.
fn split(pieces: Pieces, parts: &[(usize, Duration)], receipt: &Receipt) -> Pieces {
    let mut out = Vec::with_capacity(pieces.len() + parts.len());
    let mut parts = parts.iter().copied();
    let mut part = parts.next();
    for (mut bytes, hold) in pieces {
        while !bytes.is_empty() {
            let Some((len, time)) = &mut part else {
                // The parts add up to the bytes; a fault that breaks this holds nothing.
                out.push((std::mem::take(&mut bytes), hold.clone()));
                break;
            };
            let taken = bytes.split_to((*len).min(bytes.len()));
            *len -= taken.len();
            let mut held = hold.clone();
            held.pace(*time, receipt);
            out.push((taken, held));
            if *len == 0 {
                part = parts.next();
            }
        }
    }
    out
}

/// Changes bytes at positions that count over all pieces, in rising order.
fn alter(pieces: &mut Pieces, changes: &[(usize, u8)]) {
    let mut changes = changes.iter().copied().peekable();
    let mut start = 0;
    for (bytes, _) in pieces {
        let end = start + bytes.len();
        if changes.peek().is_some_and(|(at, _)| *at < end) {
            let mut altered = bytes.to_vec();
            while let Some((at, mask)) = changes.next_if(|(at, _)| *at < end) {
                altered[at - start] ^= mask;
            }
            *bytes = altered.into();
        }
        start = end;
    }
}

/// Keeps the first so many bytes.
fn truncate(pieces: &mut Pieces, mut kept: usize) {
    pieces.retain_mut(|(bytes, _)| {
        bytes.truncate(kept);
        kept -= bytes.len();
        !bytes.is_empty()
    });
}

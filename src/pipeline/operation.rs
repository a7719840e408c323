//! One operation with the faults at work on it: asks them and combines their verdicts.

use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::action::{Tally, Work};
use super::passage::Signal;
use super::{
    ChunkAction, ConnectAction, Crossing, Hold, Receipt, RequestAction, ResponseAction, Terminal,
    Witness,
};
use crate::clock::{self, Instant};
use crate::evidence::FaultSeen;
use crate::faults::{Act, Answer, Awaited, Chunk, Directions, End, Verdict};
use crate::operation::{Direction, Layer, Phase, Request, Response};
use crate::rules::{LiveRule, Rest, Totals};

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
    /// What happens once its caller has moved on, if anything waits for that.
    moved_on: Option<Arc<Signal>>,
    /// Rules that may choose it once more of it is known, in rule order.
    waiting: Vec<Waiting>,
    /// What it has had to do with each rule; the totals tell a rule from one that took its name.
    tallies: Vec<(Arc<Totals>, Arc<Tally>)>,
}

/// How a rule comes to its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Its place among the rules.
    pub(super) order: usize,
    /// The operation's decision key, as far as its head tells.
    pub(super) key: u64,
    /// Whether the body may tell another one.
    pub(super) keyed_by_body: bool,
    /// By what the rule counts the operation, if it does.
    pub(super) counted: Option<u64>,
}

/// A rule whose turn has not come.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) live: Arc<LiveRule>,
    pub(super) turn: Turn,
    /// What it waits for; `None`: only for those before it.
    pub(super) rest: Option<Rest>,
}

#[derive(Debug)]
struct Acting {
    order: usize,
    receipt: Receipt,
    act: Box<dyn Act>,
    /// Which directions it meets: upstream, downstream.
    meets: [bool; 2],
    /// It has been told that it acts on a stream.
    begun: bool,
    /// It is to be shown the whole answer.
    captures: bool,
}

impl Acting {
    fn acts_on_body(&self, direction: Direction) -> bool {
        let kind = self.receipt.0.live.rule.fault.kind;
        kind.acts_on(Layer::Body) && self.meets(direction)
    }

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

    /// Keeps a rule that may choose it once `rest` is known.
    pub(super) fn wait(&mut self, live: &Arc<LiveRule>, turn: Turn, rest: Option<Rest>) {
        let live = Arc::clone(live);
        let chosen = self.chosen.get_or_insert_default();
        chosen.waiting.push(Waiting { live, turn, rest });
    }

    /// The rules that waited and are still in force.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        let chosen = self.chosen.as_mut();
        let waiting = chosen.map_or_else(Vec::new, |c| std::mem::take(&mut c.waiting));
        let waiting = waiting.into_iter();
        waiting.filter(|waiting| !waiting.live.is_lifted())
    }

    /// Whether a rule that is still in force waits for its body.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        let waiting = self.chosen.iter().flat_map(|chosen| &chosen.waiting);
        let mut waiting = waiting.filter(|waiting| !waiting.live.is_lifted());
        waiting.any(|waiting| {
            let rest = waiting.rest.as_ref();
            waiting.turn.keyed_by_body || rest.is_some_and(|rest| rest.awaited().body.is_some())
        })
    }

    /// Lets a rule that matches decide whether it chooses this operation, at this moment of it.
    /// Rules are asked what to do in the `order` of theirs.
    pub(super) fn select(
        &mut self,
        crossing: &Arc<Crossing>,
        live: &Arc<LiveRule>,
        key: u64,
        phase: Phase,
        order: usize,
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
        // A kind that does to bodies what it does to streams meets both, unless said.
        let kind_of_bytes = !rule.fault.kind.acts_on(Layer::Message);
        let meets = |direction| match (rule.fault.kind.directions, rule.direction) {
            (Directions::Fixed(_), _) => true,
            (_, Some(chosen)) => chosen == direction,
            // Once there is an answer, only it is left.
            (Directions::Either { .. }, None) if phase == Phase::Response => {
                direction == Direction::Downstream
            }
            (Directions::Either { message }, None) => {
                phase != Phase::Request || kind_of_bytes || message == direction
            }
        };
        let acting = &mut self.chosen.get_or_insert_default().acting;
        let at = acting.partition_point(|a| a.order <= order);
        let new = Acting {
            order,
            receipt,
            act: rule.fault.fault.act(draw, &crossing.edge.name),
            begun: false,
            captures: false,
            meets: Direction::ALL.map(meets),
        };
        acting.insert(at, new);
    }

    /// A connection is asked again at every change; a message never is.
    fn decline(&mut self, live: &Arc<LiveRule>, phase: Phase) {
        if matches!(phase, Phase::Connect | Phase::Stream) {
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
                Verdict::Discard(then) if !action.is_over() => {
                    action.discard = Some((then, acting.receipt.clone()));
                }
                Verdict::Again(again) => action.again.push((again, acting.receipt.clone())),
                _ => {}
            }
            if let Verdict::Handshake(how) = acting.act.on_handshake()
                && !action.is_over()
            {
                action.handshake = Some((how, acting.receipt.clone()));
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

    pub(super) fn on_request(&mut self, request: &Request<'_>) -> RequestAction {
        let mut action = RequestAction::default();
        if self.chosen.is_none() {
            return action;
        }
        let at = clock::since_start(clock::now());
        let witness = self.witness.clone();
        for acting in self.acting() {
            if !acting.meets(Direction::Upstream) {
                continue;
            }
            let receipt = &acting.receipt;
            let terminal = match acting.act.on_request(request, at) {
                Verdict::Capture => {
                    acting.captures = true;
                    continue;
                }
                Verdict::Hold(time) => {
                    action.hold.add(time, receipt);
                    continue;
                }
                Verdict::Await(Awaited::Overtaken, most) => {
                    let passage = &receipt.0.crossing.course.passage;
                    if let Some(signal) = passage.let_pass(witness.number()) {
                        action.hold.add_until(signal, most, receipt);
                    }
                    continue;
                }
                Verdict::Edit(edit) => {
                    action.edits.push((edit, receipt.clone()));
                    continue;
                }
                Verdict::Again(again) => {
                    action.again.push((again, receipt.clone()));
                    continue;
                }
                Verdict::End(end) if !end.after.is_zero() => {
                    action.ends.push((end, receipt.clone()));
                    continue;
                }
                Verdict::End(end) => Terminal::End(end, receipt.clone()),
                Verdict::Discard(then) => Terminal::Discard(then, receipt.clone()),
                Verdict::Respond(answer) => Terminal::Respond(answer, receipt.clone()),
                Verdict::Frame(frame) => Terminal::Frame(frame, receipt.clone()),
                _ => continue,
            };
            // A terminal fault in rule order came first.
            action.terminal.get_or_insert(terminal);
        }
        if action.terminal.is_some() {
            // What reaches no upstream reaches it no second time either.
            action.again.clear();
            action.edits.clear();
            action.ends.clear();
        }
        action
    }

    pub(super) fn on_response(&mut self, response: &Response<'_>) -> ResponseAction {
        let mut action = ResponseAction::default();
        let Some(chosen) = &mut self.chosen else {
            return action;
        };
        for acting in &mut chosen.acting {
            if !acting.meets(Direction::Downstream) {
                continue;
            }
            let receipt = &acting.receipt;
            match acting.act.on_response(response) {
                Verdict::Hold(time) => action.hold.add(time, receipt),
                Verdict::Await(Awaited::MovedOn, most) => {
                    let signal = chosen.moved_on.get_or_insert_with(|| {
                        let signal = Arc::default();
                        let passage = &receipt.0.crossing.course.passage;
                        passage.await_attempt(self.witness.attempts(), &signal);
                        signal
                    });
                    action.hold.add_until(Arc::clone(signal), most, receipt);
                }
                Verdict::Edit(edit) => action.edits.push((edit, receipt.clone())),
                Verdict::Discard(then) if action.discard.is_none() => {
                    action.discard = Some((then, receipt.clone()));
                }
                _ => {}
            }
        }
        if action.discard.is_some() {
            action.edits.clear();
        }
        action
    }

    /// Whether a fault is to be shown the whole answer before any of it is sent.
    #[must_use]
    pub fn captures(&self) -> bool {
        let acting = self.chosen.iter().flat_map(|c| &c.acting);
        acting
            .into_iter()
            .any(|a| a.captures && !a.receipt.is_lifted())
    }

    /// The whole answer was read: asks for another one in its place.
    pub fn on_answer(&mut self, answer: &Answer) -> Option<(Answer, Receipt)> {
        let at = clock::since_start(clock::now());
        let mut instead = None;
        for acting in self.acting().iter_mut().filter(|a| a.captures) {
            if acting.receipt.is_lifted() {
                continue;
            }
            if let Verdict::Respond(other) = acting.act.on_answer(answer, at) {
                instead.get_or_insert((other, acting.receipt.clone()));
            }
        }
        instead
    }

    /// The client has closed its side, or its stream.
    pub fn moved_on(&self) {
        self.witness.ended();
        if let Some(signal) = self.chosen.as_ref().and_then(|c| c.moved_on.as_ref()) {
            signal.happen();
        }
    }

    /// Whether a fault acts on the bytes of bodies of this direction.
    #[must_use]
    pub fn acts_on_body(&self, direction: Direction) -> bool {
        let acting = self.chosen.iter().flat_map(|c| &c.acting);
        acting.into_iter().any(|a| a.acts_on_body(direction))
    }

    /// Bytes of a body were read at `now`: asks what is to be done with them.
    pub fn on_body(&mut self, direction: Direction, bytes: Bytes, now: Instant) -> ChunkAction {
        self.on_bytes(direction, bytes, now, |acting, chunk| {
            if acting.acts_on_body(chunk.direction) {
                acting.act.on_body(chunk)
            } else {
                Verdict::Pass
            }
        })
    }

    /// Bytes were read at `now`: asks what is to be done with them.
    pub fn on_chunk(&mut self, direction: Direction, bytes: Bytes, now: Instant) -> ChunkAction {
        self.on_bytes(direction, bytes, now, |acting, chunk| {
            acting.act.on_chunk(chunk)
        })
    }

    fn on_bytes(
        &mut self,
        direction: Direction,
        bytes: Bytes,
        now: Instant,
        ask: impl Fn(&mut Acting, &Chunk) -> Verdict,
    ) -> ChunkAction {
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
            match ask(acting, &chunk) {
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

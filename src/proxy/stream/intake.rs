//! What becomes of bytes that were read: the rules in force by then are asked.

use std::task::Context;

use bytes::Bytes;

use super::{Fate, Half, Stream, late};
use crate::clock;
use crate::operation::{Direction, Phase};
use crate::pipeline::{Operation, Session};
use crate::proxy::peer::Peer;
use crate::rare::Rare;

/// The parts of a connection that bytes of one direction go through.
pub(super) struct Intake<'a> {
    direction: Direction,
    pub(super) session: &'a mut Session,
    operation: &'a mut Operation,
    pub(super) half: &'a mut Half,
    pub(super) fate: &'a mut Rare<Fate>,
    delivery: u32,
    /// Bytes read of the connection before these.
    before: u64,
}

impl Stream {
    /// Whoever bytes of a direction come from, whoever they go to, and what is in between.
    pub(super) fn parts(
        &mut self,
        direction: Direction,
    ) -> (Option<&mut Peer>, Option<&mut Peer>, Intake<'_>) {
        let before = self.read();
        let (client, upstream) = (self.client.as_mut(), self.upstream.peer());
        let (source, target) = match direction {
            Direction::Upstream => (client, upstream),
            Direction::Downstream => (upstream, client),
        };
        let intake = Intake {
            direction,
            session: &mut self.session,
            operation: &mut self.operation,
            half: &mut self.halves[direction as usize],
            fate: &mut self.fate,
            delivery: self.delivery.unwrap_or_default(),
            before,
        };
        (source, target, intake)
    }
}

impl Intake<'_> {
    /// Takes bytes that were read just now, and puts them on the way that faults leave to them.
    /// Answers whether nothing kept them from going straight on.
    pub(super) fn take(
        &mut self,
        cx: &mut Context<'_>,
        target: Option<&mut Peer>,
        bytes: &[u8],
    ) -> bool {
        let upwards = self.direction == Direction::Upstream;
        let (half, operation) = (&mut *self.half, &mut *self.operation);
        let meters = &self.session.crossing().meters;
        meters.bytes(self.direction, bytes.len());
        if !upwards && half.read == 0 {
            operation.witness.answered(self.delivery, None);
        }
        let before = self.before;
        self.before += bytes.len() as u64;
        half.read += bytes.len() as u64;
        if half.sink {
            self.fate.lost_at = Some(clock::now());
            return false;
        }
        // A change that was made before they were read holds for them.
        let changed = self.session.refresh();
        if upwards && self.session.learn(bytes) || changed {
            let wanted = self.session.readopt(operation, before);
            half.sink = late::end_before(self.direction, wanted, self.fate);
            if half.sink {
                return false;
            }
        }
        let cut = self.session.cuts().silences(self.direction);
        if !cut && !operation.is_chosen() && self.fate.feeds.is_empty() {
            half.lane.pass(cx, target, bytes);
            return true;
        }
        let now = clock::now();
        let copy = Bytes::copy_from_slice(bytes);
        for feed in self.fate.feeds.iter().filter(|_| upwards) {
            feed.push(copy.clone(), now);
        }
        let action = operation.on_chunk(self.direction, copy, now);
        for (bytes, hold) in action.pieces {
            half.lane.push(bytes, now, hold, Phase::Stream);
        }
        for receipt in action.altered {
            receipt.injected(Phase::Stream);
        }
        if let Some((end, receipt)) = action.end {
            half.sink = true;
            // A later one would end it before what this one lets pass has arrived.
            let finale = (self.direction, end, receipt);
            self.fate.finale.get_or_insert(finale);
        }
        if let Some((then, receipt)) = action.discard {
            receipt.injected(Phase::Stream);
            half.sink = true;
            self.fate.lost_at = Some(now);
            self.fate.lost = Some((then, receipt));
        }
        false
    }
}

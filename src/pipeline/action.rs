//! What is to be done with an operation, and the receipts for it.

use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;

use super::Crossing;
use super::passage::Signal;
use crate::clock::Instant;
use crate::evidence::{Cause, Entry};
use crate::faults::{Again, Answer, Edit, End, Frame, Handshake, Then};
use crate::operation::Phase;
use crate::rules::{LiveRule, Slot};

/// What an operation and a rule have between them: one line in the record, one count. It outlives
/// the rule's being switched off and on again.
#[derive(Debug)]
pub(super) struct Tally {
    /// The place in the record's `faults`.
    pub(super) index: usize,
    counted: AtomicBool,
}

impl Tally {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            counted: AtomicBool::new(false),
        }
    }
}

/// One live rule at work on one operation.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) live: Arc<LiveRule>,
    pub(super) slot: Mutex<Slot>,
    pub(super) tally: Arc<Tally>,
    pub(super) entry: Arc<Entry>,
    pub(super) crossing: Arc<Crossing>,
}

/// The proof that a fault may act on an operation. Who acts settles it; dropped unsettled, the
/// fault counts as selected, not as injected, and its place among the rule's `limit` is given back.
#[must_use = "a fault that acted must be settled, or it is not recorded"]
#[derive(Debug, Clone)]
pub struct Receipt(pub(super) Arc<Work>);

impl Receipt {
    /// The fault has changed what a side saw: record and count it, once per operation and rule.
    pub fn injected(&self, phase: Phase) {
        let work = &self.0;
        work.slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inject();
        if work.tally.counted.swap(true, AcqRel) {
            return;
        }
        let number = {
            let mut record = work.entry.lock();
            if let Some(seen) = record.faults.get_mut(work.tally.index) {
                seen.injected = true;
                seen.phase = phase;
            }
            record.id.n
        };
        let rule = &work.live.rule;
        work.live
            .totals
            .injected
            .fetch_add(1, std::sync::atomic::Ordering::Release);
        let metrics = &work.crossing.context.metrics;
        let proxy = &work.crossing.edge.name;
        metrics.injected(proxy, &rule.name, rule.fault.kind.name, number);
    }

    /// Whether the rule is no longer in force: what waits on it goes on.
    #[must_use]
    pub fn is_lifted(&self) -> bool {
        self.0.live.is_lifted()
    }

    /// What it is when the fault is why something did not end well.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Rule(self.rule().into())
    }

    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.0.live.rule.name
    }
}

/// How long something is kept: the sum of all delays that are still in force.
#[derive(Debug, Default, Clone)]
pub struct Hold {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    time: Duration,
    /// What ends it before that.
    until: Option<Arc<Signal>>,
    receipt: Receipt,
    /// Whether the source is to feel it.
    paced: bool,
}

impl Part {
    fn holds(&self) -> bool {
        let happened = self.until.as_ref().is_some_and(|s| s.has_happened());
        !happened && !self.receipt.is_lifted()
    }
}

impl Hold {
    /// Nothing holds it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// When it is due, if it arrived then. Earlier once a rule is lifted.
    #[must_use]
    pub fn due(&self, arrived: Instant) -> Instant {
        self.sum(arrived, |_| true)
    }

    /// Until when the source is to feel it, so that little more is taken in.
    #[must_use]
    pub fn paced_until(&self, arrived: Instant) -> Instant {
        self.sum(arrived, |part| part.paced)
    }

    fn sum(&self, arrived: Instant, counts: impl Fn(&Part) -> bool) -> Instant {
        let parts = self.parts.iter();
        let in_force = parts.filter(|part| counts(part) && part.holds());
        in_force.fold(arrived, |due, part| due + part.time)
    }

    /// It was really held.
    pub fn settle(&self, phase: Phase) {
        for part in self.parts.iter().filter(|part| !part.time.is_zero()) {
            part.receipt.injected(phase);
        }
    }

    /// Arranges for the task to be woken by what ends it before its time. To be asked before
    /// [`Hold::due`].
    pub fn watch(&self, cx: &Context<'_>) {
        for signal in self.parts.iter().filter_map(|part| part.until.as_ref()) {
            signal.watch(cx);
        }
    }

    pub(super) fn add(&mut self, time: Duration, receipt: &Receipt) {
        self.put(time, receipt, false);
    }

    /// Until this happens, or so long at the most.
    pub(super) fn add_until(&mut self, signal: Arc<Signal>, most: Duration, receipt: &Receipt) {
        self.put(most, receipt, false);
        if let Some(part) = self.parts.last_mut() {
            part.until = Some(signal);
        }
    }

    /// As [`Hold::add`], and the source is to feel it.
    pub(super) fn pace(&mut self, time: Duration, receipt: &Receipt) {
        self.put(time, receipt, true);
    }

    fn put(&mut self, time: Duration, receipt: &Receipt, paced: bool) {
        self.parts.push(Part {
            time,
            until: None,
            receipt: receipt.clone(),
            paced,
        });
    }
}

/// What is to be done with a connection that has just been accepted.
#[derive(Debug, Default)]
pub struct ConnectAction {
    /// It is dialled that much later.
    pub hold: Hold,
    /// It ends so.
    pub ends: Vec<(End, Receipt)>,
    /// It is not dialled; then this.
    pub discard: Option<(Then, Receipt)>,
    /// Its TLS handshake fails so.
    pub handshake: Option<(Handshake, Receipt)>,
    /// What the client sends goes to the upstream again.
    pub again: Vec<(Again, Receipt)>,
}

impl ConnectAction {
    /// Whether a fault has the last word already: of two, the first in rule order wins.
    pub(super) fn is_over(&self) -> bool {
        self.discard.is_some() || self.handshake.is_some()
    }
}

/// What is to be done with bytes of a connection, or with the end of one side's.
#[derive(Debug, Default)]
pub struct ChunkAction {
    /// What goes on, in pieces, each kept first.
    pub pieces: Vec<(Bytes, Hold)>,
    /// How long the end of a side's bytes is kept.
    pub hold: Hold,
    /// Rules that have changed bytes.
    pub altered: Vec<Receipt>,
    /// Nothing goes on behind the pieces; once they have arrived, it ends so.
    pub end: Option<(End, Receipt)>,
    /// They go nowhere; then this.
    pub discard: Option<(Then, Receipt)>,
}

/// The end of a request that does not reach the upstream.
#[derive(Debug)]
pub enum Terminal {
    /// It goes nowhere; then this.
    Discard(Then, Receipt),
    /// It goes nowhere, and the connection ends at once.
    End(End, Receipt),
    /// The proxy answers.
    Respond(Answer, Receipt),
    /// The proxy says this, on HTTP/2.
    Frame(Frame, Receipt),
}

/// How a message is altered, in this order.
pub type Edits = Vec<(Arc<Edit>, Receipt)>;

/// What is to be done with a request.
#[derive(Debug, Default)]
pub struct RequestAction {
    /// Nothing yet: so much of its body, or all of it, is to be read first (without what frames
    /// it), and nothing of it sent. Then [`Session::request_body`](super::Session::request_body).
    pub awaits_body: Option<u64>,
    /// It is kept first.
    pub hold: Hold,
    /// It does not reach the upstream.
    pub terminal: Option<Terminal>,
    /// It is altered on its way.
    pub edits: Edits,
    /// It goes to the upstream again.
    pub again: Vec<(Again, Receipt)>,
    /// Unless it is over before, its connection ends so.
    pub ends: Vec<(End, Receipt)>,
}

/// What is to be done with an answer.
#[derive(Debug, Default)]
pub struct ResponseAction {
    /// It is kept first.
    pub hold: Hold,
    /// It goes nowhere; then this.
    pub discard: Option<(Then, Receipt)>,
    /// It is altered on its way.
    pub edits: Edits,
}

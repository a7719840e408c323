//! What was seen in a drill, on one scale of time: requests of the load, operations at proxies,
//! answers to probes. Verdicts are drawn from these alone.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::evidence::{Class, Record, RecordId, Strength};

/// Microseconds since the drill began; what came before that is negative.
pub type Micros = i64;

/// Where on the drill's scale a moment lies.
#[must_use]
pub fn micros(start: Timestamp, at: Timestamp) -> Micros {
    at.0 as i64 - start.0 as i64
}

/// How long that is.
#[must_use]
pub fn duration(micros: Micros) -> Duration {
    Duration::from_micros(micros.max(0) as u64)
}

/// As a length on the drill's scale.
#[must_use]
pub fn length(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A stretch of the drill; its end is not a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: Micros,
    /// Its end.
    pub to: Micros,
}

impl Window {
    /// Whether a moment lies in it.
    #[must_use]
    pub fn has(&self, at: Micros) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// How long it is, in seconds; 0 where it ends before it begins.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.to.saturating_sub(self.from).max(0) as f64 / 1e6
    }
}

/// Something that was asked for, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Op {
    /// When it should have begun: of load that is sent on time, when it was due.
    pub at: Micros,
    /// When it was over; `None`: it is not, or it was never begun.
    pub ended: Option<Micros>,
    /// Whether it came out well; `None`: it is not over.
    pub good: Option<bool>,
}

impl Op {
    /// From when it should have begun until it was over.
    #[must_use]
    pub fn took(&self) -> Option<Micros> {
        self.ended.map(|ended| (ended - self.at).max(0))
    }
}

/// A request of the load, as its sender saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// When it should have been sent.
    pub due: Micros,
    /// When it was; `None`: it was not, since too many were under way.
    pub began: Option<Micros>,
    /// When it was over.
    pub ended: Option<Micros>,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether that was good.
    pub good: bool,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Broken,
    /// It was not sent.
    NotStarted,
}

impl Sent {
    /// As one of many.
    #[must_use]
    pub fn op(&self) -> Op {
        Op {
            at: self.due,
            ended: self.ended,
            good: Some(self.good),
        }
    }
}

/// An operation as a proxy saw it, in so far as verdicts ask for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The record's own id.
    pub id: RecordId,
    /// Which instance has its record, by its place in the list of instances.
    pub target: usize,
    /// Which edge it crossed, by its place in the list of edges.
    pub edge: usize,
    /// When it began.
    pub began: Micros,
    /// When it was over.
    pub ended: Option<Micros>,
    /// What the evidence amounts to.
    pub class: Class,
    /// Whether its caller had reason to try again.
    pub failed: bool,
    /// Its identity.
    pub identity: Option<Name>,
    /// Whether that joins it to others whenever they came.
    pub strong: bool,
    /// The how-manieth of its logical operation.
    pub attempt: u32,
    /// Its method, where it has one.
    pub method: Option<Arc<str>>,
    /// Its path, where it has one.
    pub path: Option<Arc<str>>,
    /// How often the service received it.
    pub deliveries: u32,
    /// What the service answered, delivery by delivery.
    pub answers: Vec<Answer>,
    /// Whether a rule or partition changed what a side saw.
    pub injected: bool,
}

/// An identity: how it is known, and its value.
pub type Name = Arc<str>;

/// What a service answered to one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When it began.
    pub at: Micros,
    /// Its status, where it has one.
    pub status: Option<u16>,
    /// A hash of its body, where that was read whole.
    pub digest: Option<u64>,
    /// Whether the service said that it had given it before.
    pub replayed: bool,
}

impl Seen {
    /// What a record says; `skew`: how far ahead the clock is of whoever wrote it.
    #[must_use]
    pub fn of(
        record: &Record,
        (target, edge): (usize, usize),
        start: Timestamp,
        skew: Micros,
    ) -> Self {
        let at = |moment| micros(start, moment) - skew;
        let identity = record.identity.as_ref();
        let answers = record.upstream.iter();
        Self {
            id: record.id,
            target,
            edge,
            began: at(record.started),
            ended: match record.class {
                Class::Open => None,
                _ => record.client.ended_at.or(record.client.at).map(at),
            },
            class: record.class,
            failed: record.failed(),
            identity: identity.map(|identity| identity.value.as_str().into()),
            strong: identity.is_some_and(|i| i.strength == Strength::Strong),
            attempt: record.attempt,
            method: record.request.method.as_deref().map(Arc::from),
            path: record.request.path.as_deref().map(Arc::from),
            deliveries: record.deliveries,
            answers: answers
                .filter_map(|d| {
                    Some(Answer {
                        at: at(d.answered_at?),
                        status: d.status,
                        digest: d.digest.map(|digest| digest.0),
                        replayed: d.replayed,
                    })
                })
                .collect(),
            injected: record.faults.iter().any(|fault| fault.injected),
        }
    }

    /// Sets all its moments by so much earlier.
    pub fn shift(&mut self, by: Micros) {
        self.began -= by;
        self.ended = self.ended.map(|at| at - by);
        self.answers.iter_mut().for_each(|answer| answer.at -= by);
    }

    /// As one of many.
    #[must_use]
    pub fn op(&self) -> Op {
        Op {
            at: self.began,
            ended: self.ended,
            good: (self.class != Class::Open).then_some(!self.failed),
        }
    }
}

/// What came of asking something outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// When it was asked.
    pub at: Micros,
    /// Whether the answer was as it should be.
    pub good: bool,
    /// What it was, in a few words.
    pub said: String,
}

/// All that was seen.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Of the load, in the order in which they ended.
    pub sent: Vec<Sent>,
    /// At the proxies, in the order in which they came to be known.
    pub seen: Vec<Seen>,
    /// Of probes, by the place of the condition among those that ask.
    pub asked: Vec<Vec<Asked>>,
    /// Records that were lost, here or on the way.
    pub lost: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An operation at edge 0 that came out well.
    pub(in crate::drill) fn seen(n: u64, began: Micros) -> Seen {
        Seen {
            id: RecordId { run: 1, n },
            target: 0,
            edge: 0,
            began,
            ended: Some(began + 1_000),
            class: Class::Acknowledged,
            failed: false,
            identity: None,
            strong: false,
            attempt: 1,
            method: Some("POST".into()),
            path: Some("/pay".into()),
            deliveries: 1,
            answers: vec![Answer {
                at: began + 500,
                status: Some(201),
                digest: Some(n),
                replayed: false,
            }],
            injected: false,
        }
    }

    #[test]
    fn a_window_has_its_beginning_and_not_its_end() {
        let window = Window { from: 5, to: 10 };
        assert!(window.has(5) && window.has(9) && !window.has(10) && !window.has(4));
        let backwards = Window { from: 5, to: 1 };
        assert_eq!(backwards.seconds(), 0.0);
    }
}

//! What reaches a service that calls others: the demand behind its calls.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::evidence::{Record, Strength, TraceId};

use super::attempt::told;

/// Of those with the same name only so many are looked at, the last before the call.
const RECENT: usize = 100;

/// The messages that reach one service, from wherever, in the order in which they began.
#[derive(Debug, Default)]
pub struct Incoming<'r> {
    records: Vec<&'r Record>,
    traces: HashMap<TraceId, Vec<&'r Record>>,
    names: HashMap<&'r str, Vec<&'r Record>>,
}

impl<'r> Incoming<'r> {
    /// Takes up one more; none began later.
    pub(super) fn push(&mut self, record: &'r Record) {
        self.records.push(record);
        if let Some(trace) = &record.trace {
            self.traces.entry(trace.id).or_default().push(record);
        }
        if let Some(name) = name(record) {
            self.names.entry(name).or_default().push(record);
        }
    }

    /// How many began from `from` on and before `until`.
    #[must_use]
    pub fn between(&self, from: Timestamp, until: Timestamp) -> usize {
        let before = |at: Timestamp| self.records.partition_point(|r| r.started < at);
        before(until).saturating_sub(before(from))
    }

    /// How many began from `from` on and were answered before `until`.
    #[must_use]
    pub fn answered_between(&self, from: Timestamp, until: Timestamp) -> usize {
        let before = |at: Timestamp| self.records.partition_point(|r| r.started < at);
        let begun = self.records.get(before(from)..before(until));
        let in_time = |r: &&&Record| answered(r).is_some_and(|at| at < until);
        begun.unwrap_or_default().iter().filter(in_time).count()
    }

    /// For which of them this call was made: the only one with the same trace, or with the same
    /// name that its caller gave it, which the service was at work on when it called.
    #[must_use]
    pub fn behind(&self, call: &Record) -> Option<&'r Record> {
        let by_trace = call.trace.and_then(|trace| self.traces.get(&trace.id));
        let by_name = || name(call).and_then(|name| self.names.get(name));
        let linked = by_trace.or_else(by_name)?;
        let at_work = |record: &&&Record| {
            let end = answered(record).max(told(record));
            record.id != call.id && end.is_none_or(|end| call.started <= end)
        };
        let begun = linked.partition_point(|r| r.started <= call.started);
        let recent = linked[..begun].iter().rev().take(RECENT);
        let mut found = recent.filter(at_work);
        let only = found.next()?;
        found.next().is_none().then_some(*only)
    }
}

/// When the service answered.
fn answered(record: &Record) -> Option<Timestamp> {
    record.upstream.iter().filter_map(|d| d.answered_at).max()
}

/// What its caller named an operation.
fn name(record: &Record) -> Option<&str> {
    let identity = record.identity.as_ref();
    let strong = identity.filter(|i| i.strength == Strength::Strong)?;
    Some(&strong.value)
}

//! A caller's requests, cut where it falls silent.

use std::collections::{HashMap, HashSet};

use super::super::Case;
use super::super::attempt::{failed, told};
use super::super::efforts::Efforts;
use super::super::figures::{Samples, ms};
use crate::clock::Timestamp;
use crate::evidence::RecordId;

/// Times between requests after a success from which on it is known what is usual.
const USUAL: usize = 10;
/// How much longer than usual a silence is.
const LONGER: f64 = 7.0;
/// The shortest silence, in milliseconds.
const SHORTEST: f64 = 100.0;
/// A request as its caller saw it.
pub(super) struct Call {
    pub(super) id: RecordId,
    pub(super) started: Timestamp,
    /// Further attempts at an operation have its number.
    pub(super) operation: usize,
}

/// How a request ended, when that was known.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) at: Timestamp,
    pub(super) call: usize,
    pub(super) failed: bool,
}

/// Requests between two silences.
#[derive(Default)]
pub(super) struct Spell {
    pub(super) calls: usize,
    /// When its last request began.
    last: Option<Timestamp>,
    /// What became known in it and in the silence after it.
    pub(super) ends: Vec<End>,
    /// The silence after it; the last spell has none.
    pub(super) silence: Option<Silence>,
}

pub(super) struct Silence {
    /// When its caller last learned something, and when it called again.
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// The request that ends it.
    pub(super) probe: RecordId,
    /// Whether it follows a failure, and is not ended by another attempt at it.
    pub(super) after_failure: bool,
}

impl Spell {
    /// The failures in a row with which it ends.
    pub(super) fn failures(&self) -> &[End] {
        let ok = self.ends.iter().rposition(|end| !end.failed);
        &self.ends[ok.map_or(0, |at| at + 1)..]
    }

    /// How many of these were known when it fell silent: at least, at most.
    pub(super) fn bounds(&self) -> (usize, usize) {
        let failures = self.failures();
        let first = failures.iter().position(|end| Some(end.at) >= self.last);
        (first.map_or(failures.len(), |at| at + 1), failures.len())
    }

    /// When the first success in it was known.
    pub(super) fn success(&self) -> Option<Timestamp> {
        self.ends.iter().find(|end| !end.failed).map(|end| end.at)
    }
}

/// The requests in the order in which they began, and their ends in the order in which those were
/// known.
pub(super) fn seen(case: &Case<'_>) -> (Vec<Call>, Vec<End>) {
    let efforts = Efforts::of_things(case).each;
    let mut operations: HashMap<RecordId, usize> = HashMap::new();
    for (n, effort) in efforts.iter().enumerate() {
        operations.extend(effort.ids().map(|id| (id, n)));
    }
    let mut ends = Vec::new();
    let mut calls = Vec::new();
    for (call, record) in case.records.iter().enumerate() {
        let operation = operations.get(&record.id).copied();
        calls.push(Call {
            id: record.id,
            started: record.started,
            operation: operation.unwrap_or(efforts.len() + call),
        });
        ends.extend(told(record).map(|at| End {
            at: at.max(record.started),
            call,
            failed: failed(record),
        }));
    }
    ends.sort_by_key(|end| (end.at, end.call));
    (calls, ends)
}

/// The usual time between requests in milliseconds, and whether enough succeeded to say so.
pub(super) fn usual(calls: &[Call], ends: &[End]) -> (f64, bool) {
    let succeeded: HashSet<usize> = ends.iter().filter(|e| !e.failed).map(|e| e.call).collect();
    let between = |n: usize| ms(calls[n].started, calls[n + 1].started);
    let all = 0..calls.len().saturating_sub(1);
    let after = all.clone().filter(|n| succeeded.contains(n));
    let after: Samples = after.map(between).collect();
    let known = after.len() >= USUAL;
    let usual = if known {
        after
    } else {
        all.map(between).collect()
    };
    (usual.quantile(0.9), known)
}

/// Cuts the requests at the silences; `usual`: the usual time between them.
pub(super) fn spells(calls: &[Call], ends: &[End], usual: f64) -> Vec<Spell> {
    let least = (usual * LONGER).max(SHORTEST);
    let mut spells = Vec::new();
    let mut spell = Spell::default();
    let mut ends = ends.iter().copied().peekable();
    for (n, call) in calls.iter().enumerate() {
        spell.calls += 1;
        spell.last = Some(call.started);
        let Some(next) = calls.get(n + 1) else { break };
        while let Some(end) = ends.next_if(|end| (end.at, end.call) < (next.started, n + 1)) {
            spell.ends.push(end);
        }
        // Whoever still waits is not silent.
        let last = spell.ends.last().filter(|end| end.at >= call.started);
        let Some(last) = last.filter(|end| ms(end.at, next.started) >= least) else {
            continue;
        };
        let again = |end: &End| calls[end.call].operation == next.operation;
        spell.silence = Some(Silence {
            since: last.at,
            until: next.started,
            probe: next.id,
            after_failure: last.failed && !spell.failures().iter().any(again),
        });
        spells.push(std::mem::take(&mut spell));
    }
    spell.ends.extend(ends);
    spells.push(spell);
    spells
}

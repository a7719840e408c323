//! What a service answered when it got the same thing more than once.

use std::collections::HashMap;

use super::Case;
use crate::clock::Timestamp;
use crate::evidence::{By, Delivery, Digest, Record, RecordId, Strength};

/// How the answer to a repetition compares with the first success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    /// It is the same.
    Same,
    /// It says that it was given before.
    Replayed,
    /// 409.
    Conflict,
    /// 422, and the body was another.
    Mismatch,
    /// Another 4xx that says no.
    Refused,
    /// Another success.
    Different,
    /// It is the same, but so it is for other things.
    Alike,
}

/// A repetition that says something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat {
    pub answer: Answer,
    /// Whether its caller named the operation, or it is one request that was delivered again.
    pub certain: bool,
    /// The records of the first success, and of this.
    pub records: [RecordId; 2],
}

/// Methods of which any number may be sent to the same effect (RFC 9110, section 9.2.2).
pub(super) fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

/// One delivery that was answered.
#[derive(Clone, Copy)]
struct Given<'r> {
    record: &'r Record,
    delivery: &'r Delivery,
    sent: Timestamp,
    answered: Timestamp,
    status: u16,
}

/// Every repetition of what is not idempotent by its method, along the edge.
pub(super) fn repeats(case: &Case<'_>) -> Vec<Repeat> {
    let by_method = |r: &Record| r.request.method.as_deref().is_some_and(is_idempotent);
    let others = case.logical.iter().filter(|l| !by_method(l.first()));
    let things: Vec<Vec<Given<'_>>> = others.flat_map(|l| things(&l.attempts)).collect();
    // An answer that several things got tells none of them apart.
    let mut got: HashMap<Digest, usize> = HashMap::new();
    for first in things.iter().filter_map(|given| first(given)) {
        if let Some(digest) = first.delivery.digest {
            *got.entry(digest).or_default() += 1;
        }
    }
    let telling = |digest: Digest| digest != Digest(0) && got.get(&digest) == Some(&1);
    let mut found = Vec::new();
    for given in &things {
        let Some(first) = first(given) else { continue };
        for other in given.iter().filter(|other| !std::ptr::eq(*other, first)) {
            let certain = is_named(first.record) || first.record.id == other.record.id;
            let answer = compare(first, other, telling);
            found.extend(answer.map(|answer| Repeat {
                answer,
                certain,
                records: [first.record.id, other.record.id],
            }));
        }
    }
    found
}

/// Whether its caller named it.
fn is_named(record: &Record) -> bool {
    let identity = record.identity.as_ref();
    identity.is_some_and(|i| i.strength == Strength::Strong)
}

/// The answers to each thing among these attempts. A key names one thing, whatever its body; what only
/// seems to be the same must have the same body.
fn things<'r>(attempts: &[&'r Record]) -> Vec<Vec<Given<'r>>> {
    let identity = attempts.first().and_then(|first| first.identity.as_ref());
    let is_key = identity.is_some_and(|i| matches!(i.by, By::Configured | By::IdempotencyKey));
    if is_key {
        return vec![given(attempts)];
    }
    let mut bodies: Vec<Vec<&Record>> = Vec::new();
    let mut known: HashMap<Digest, usize> = HashMap::new();
    for record in attempts {
        let digest = record.request.digest;
        match digest.and_then(|digest| known.get(&digest)) {
            Some(body) => bodies[*body].push(record),
            None => {
                known.extend(digest.map(|digest| (digest, bodies.len())));
                bodies.push(vec![record]);
            }
        }
    }
    bodies.iter().map(|records| given(records)).collect()
}

/// The answers, in the order in which they came. What a rule has altered is not the same thing.
fn given<'r>(attempts: &[&'r Record]) -> Vec<Given<'r>> {
    let altered = |r: &Record| {
        let kinds = ["rewrite", "corrupt"];
        r.faults
            .iter()
            .any(|f| f.injected && kinds.contains(&&*f.kind))
    };
    let whole = attempts.iter().filter(|record| !altered(record));
    let each = whole.flat_map(|record| record.upstream.iter().map(|delivery| (*record, delivery)));
    let mut given: Vec<_> = each
        .filter_map(|(record, delivery)| {
            Some(Given {
                record,
                delivery,
                sent: delivery.sent_at?,
                answered: delivery.answered_at?,
                status: delivery.status?,
            })
        })
        .collect();
    given.sort_by_key(|g| (g.answered, g.sent, g.record.id));
    given
}

/// The first success.
fn first<'g, 'r>(given: &'g [Given<'r>]) -> Option<&'g Given<'r>> {
    given.iter().find(|g| (200..300).contains(&g.status))
}

fn compare(
    first: &Given<'_>,
    other: &Given<'_>,
    telling: impl Fn(Digest) -> bool,
) -> Option<Answer> {
    let before = (other.answered, other.sent) < (first.answered, first.sent);
    if before {
        // Turned away while the first was being done.
        let meanwhile = first.sent <= other.answered;
        return (other.status == 409 && meanwhile).then_some(Answer::Conflict);
    }
    let bodies = first.record.request.digest.zip(other.record.request.digest);
    match other.status {
        _ if other.delivery.replayed => Some(Answer::Replayed),
        200..300 => {
            let (a, b) = first.delivery.digest.zip(other.delivery.digest)?;
            Some(match a == b {
                true if telling(a) => Answer::Same,
                true => Answer::Alike,
                false => Answer::Different,
            })
        }
        409 => Some(Answer::Conflict),
        422 if bodies.is_some_and(|(a, b)| a != b) => Some(Answer::Mismatch),
        // Too early, too late, too many: that says nothing of what was done.
        408 | 425 | 429 => None,
        400..500 => Some(Answer::Refused),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

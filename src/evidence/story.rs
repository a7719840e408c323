//! One operation told twice: what its caller was told, and what every other participant saw.
//!
//! The two stories differ where something was lost, and there the failure is. Only what records say is
//! told, in their order; what they can't say is named as unknown, and to whom.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::{Class, Delivery, Outcome, Record, RecordId, Strength};
use crate::clock::Timestamp;
use crate::units::format_duration;

/// What is known of one operation, by who knows it.
#[derive(Debug, Clone, Serialize)]
pub struct Story {
    /// By what it was asked for.
    pub id: String,
    /// The one for whom all this was done, as far as the records reach, and what that one asked and was
    /// told.
    pub customer: Teller,
    /// Everyone else, from the caller's side on: what each was sent, answered, asked and was told.
    pub participants: Vec<Teller>,
    /// What was injected.
    pub faults: Vec<Told>,
    /// What could not be known, or not by whom it concerns.
    pub unknown: Vec<Unknown>,
    /// The records that it is told from, in order.
    pub records: Vec<Record>,
}

/// A service, and what it knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Teller {
    /// Its name.
    pub name: String,
    /// In order.
    pub facts: Vec<Told>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// The record that says so.
    pub record: RecordId,
}

/// Something that somebody can't know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Who; nobody can, where it is not said.
    pub to: Option<String>,
    /// What.
    pub what: String,
    /// The record that says so.
    pub record: RecordId,
}

/// By what else the operation of these records is known: identities that name it, and traces. Asking
/// for these too finds what belongs to it on other edges.
#[must_use]
pub fn names(records: &[Record]) -> BTreeSet<String> {
    let strong = |record: &&Record| {
        let identity = record.identity.as_ref();
        identity.is_some_and(|identity| identity.strength == Strength::Strong)
    };
    let identities = records.iter().filter(strong);
    let identities = identities.filter_map(|r| Some(r.identity.as_ref()?.value.clone()));
    let traces = records.iter().filter_map(|r| Some(r.trace?.id.to_string()));
    identities.chain(traces).collect()
}

impl Story {
    /// Tells it from these records; `None`: there are none.
    #[must_use]
    pub fn of(id: &str, records: &[Record]) -> Option<Self> {
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_by_key(|record| (record.started, record.id));
        let customer = customer(&records)?;
        let facts = |name: &str| {
            let mut facts: Vec<_> = records.iter().flat_map(|r| seen_by(name, r)).collect();
            facts.sort_by_key(|told| told.at);
            Teller {
                name: name.to_owned(),
                facts,
            }
        };
        let others = services(&records, customer);
        let faults = records.iter().flat_map(|r| injected(r));
        Some(Self {
            id: id.to_owned(),
            customer: facts(customer),
            participants: others.into_iter().map(facts).collect(),
            faults: faults.collect(),
            unknown: records.iter().filter_map(|r| unknown(r)).collect(),
            records: records.into_iter().cloned().collect(),
        })
    }
}

/// Who calls and is not called; where all are, the first who called.
fn customer<'r>(records: &[&'r Record]) -> Option<&'r str> {
    let called = |name: &str| records.iter().any(|r| &*r.to == name);
    let mut callers = records.iter().map(|r| &*r.from);
    let outermost = callers.clone().find(|name| !called(name));
    outermost.or_else(|| callers.next())
}

/// All others, each behind whoever calls it.
fn services<'r>(records: &[&'r Record], customer: &'r str) -> Vec<&'r str> {
    let mut found = vec![customer];
    let mut next = 0;
    while next < found.len() || found.len() == next {
        let reached = match found.get(next) {
            Some(caller) => records
                .iter()
                .find(|r| &*r.from == *caller && !found.contains(&&*r.to)),
            // Edges that hang together with nothing before them.
            None => records.iter().find(|r| !found.contains(&&*r.from)),
        };
        match reached {
            Some(record) if found.contains(&&*record.from) => found.push(&record.to),
            Some(record) => found.push(&record.from),
            None if next >= found.len() => break,
            None => next += 1,
        }
    }
    found.remove(0);
    found
}

/// What one service saw of an operation.
fn seen_by(name: &str, r: &Record) -> Vec<Told> {
    let mut facts = Vec::new();
    let mut tell = |at: Option<Timestamp>, what: String| {
        facts.extend(at.map(|at| Told {
            at,
            what,
            record: r.id,
        }));
    };
    if &*r.from == name {
        let again = match r.attempt {
            0 | 1 => String::new(),
            n => format!(" (attempt {n})"),
        };
        tell(
            Some(r.started),
            format!("asked {}: {}{again}", r.to, subject(r)),
        );
        let told_after_end = r.client.at > r.client.ended_at;
        if r.client.ended_at.is_some() && r.client.outcome != Outcome::Left && told_after_end {
            let waited = waited(r, r.client.ended_at);
            tell(
                r.client.ended_at,
                format!("ended its side of the connection {waited}"),
            );
        }
        let at = match r.client.outcome {
            Outcome::Left => r.client.ended_at.or(r.client.at),
            _ => r.client.at,
        };
        tell(at, told(r, at));
    }
    if &*r.to == name {
        for (n, delivery) in r.upstream.iter().enumerate() {
            let what = match n {
                0 => format!("was sent {} by {}", subject(r), r.from),
                _ => format!("was sent {} once more", subject(r)),
            };
            tell(delivery.sent_at, what);
            tell(delivery.answered_at, answer(delivery));
            if let Some(error) = delivery
                .error
                .as_ref()
                .filter(|_| delivery.sent_at.is_some())
            {
                match delivery.answered_at {
                    None => tell(delivery.sent_at, format!("gave no answer: {error}")),
                    at => tell(at, format!("did not end its answer: {error}")),
                }
            }
        }
        if !r.upstream.iter().any(|delivery| delivery.sent_at.is_some()) {
            tell(
                Some(r.started),
                format!("was sent nothing of {}", subject(r)),
            );
        }
    }
    facts
}

fn subject(r: &Record) -> String {
    match (&r.request.method, &r.request.path) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => "a connection".to_owned(),
    }
}

fn answer(delivery: &Delivery) -> String {
    let replayed = if delivery.replayed { ", as before" } else { "" };
    match delivery.status {
        Some(status) => format!("answered {status}{replayed}"),
        None => format!("answered{replayed}"),
    }
}

fn waited(r: &Record, until: Option<Timestamp>) -> String {
    let waited = until.map_or(Duration::ZERO, |at| at.since(r.started));
    let millis = Duration::from_millis(waited.as_millis() as u64);
    format!("after {}", format_duration(millis))
}

/// What became of the caller.
fn told(r: &Record, at: Option<Timestamp>) -> String {
    let status = |status: Option<u16>| status.map_or(String::new(), |s| format!(" {s}"));
    let (given, after) = (status(r.client.status), waited(r, at));
    let pause = r.client.retry_after;
    let pause = pause.map_or(String::new(), |s| format!(", and to wait {s}s"));
    match r.client.outcome {
        Outcome::Waiting => "waits".to_owned(),
        Outcome::Answered if r.class == Class::Acknowledged => {
            format!("was told{given}{pause} {after}")
        }
        Outcome::Answered => {
            format!("was sent all of the answer{given} {after}, and never confirmed that it has it")
        }
        Outcome::Partial => format!("was told a part of the answer{given} {after}"),
        Outcome::Substituted => {
            format!(
                "was told{given}{pause} by Firedrill, not by {}, {after}",
                r.to
            )
        }
        Outcome::Closed => format!("was told nothing: its connection was closed {after}"),
        Outcome::Reset => format!("was told nothing: its connection was reset {after}"),
        Outcome::Left => format!("gave up {after}, told nothing"),
    }
}

fn injected(r: &Record) -> impl Iterator<Item = Told> {
    let injected = r.faults.iter().filter(|fault| fault.injected);
    injected.map(|fault| {
        let rule = match &*fault.kind {
            "partition" => format!("partition {}", fault.rule),
            kind => format!("{kind} (rule {})", fault.rule),
        };
        Told {
            at: r.started,
            what: format!("{} > {}, {}: {rule}", r.from, r.to, subject(r)),
            record: r.id,
        }
    })
}

/// What the class of a record leaves open, and to whom.
fn unknown(r: &Record) -> Option<Unknown> {
    let (from, to, what) = (&r.from, &r.to, subject(r));
    let answered = r.upstream.iter().find_map(|delivery| delivery.status);
    let answered = answered.map_or("it answered".to_owned(), |s| format!("it answered {s}"));
    let (who, what) = match r.class {
        Class::Open => (None, format!("how {what} ends: it is not over")),
        Class::Unknown => (
            None,
            format!("whether {to} did {what}: it was sent, and no answer was seen"),
        ),
        Class::Unseen => (
            Some(from),
            format!("whether {to} did {what}: {answered}, and {from} did not get that"),
        ),
        Class::Late => (
            Some(from),
            format!("whether {to} did {what}: {answered}, after {from} had gone"),
        ),
        Class::NeverDelivered => (
            Some(from),
            format!("whether {to} did {what}: it was sent nothing, and {from} was not told"),
        ),
        Class::Substituted | Class::Acknowledged => return None,
    };
    Some(Unknown {
        to: who.map(ToString::to_string),
        what,
        record: r.id,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::{By, FaultSeen, Identity};
    use super::*;
    use crate::operation::Phase;

    fn request(n: u64, from: &str, to: &str, at: u64) -> Record {
        let mut r = record();
        r.id.n = n;
        (r.from, r.to, r.started) = (from.into(), to.into(), Timestamp(at * 1000));
        r.request.method = Some("POST".into());
        r.request.path = Some(format!("/{to}").into());
        r.identity = Some(Identity {
            by: By::IdempotencyKey,
            value: "pay-42".to_owned(),
            strength: Strength::Strong,
        });
        r
    }

    fn answered(mut r: Record, took: u64, outcome: Outcome) -> Record {
        let at = |ms: u64| Timestamp(r.started.0 + ms * 1000);
        r.upstream.push(Delivery {
            sent_at: Some(at(1)),
            answered_at: Some(at(took)),
            status: Some(201),
            ..Delivery::default()
        });
        r.client.outcome = outcome;
        r.client.at = Some(at(took + 1));
        r.client.status = (outcome == Outcome::Answered).then_some(201);
        r.observed.handed_over = outcome == Outcome::Answered;
        r.close();
        r
    }

    #[test]
    fn two_stories_that_differ() {
        let mut lost = answered(request(2, "checkout", "payment", 10), 20, Outcome::Left);
        lost.client.ended_at = Some(Timestamp(1_010_000));
        lost.faults.push(FaultSeen {
            rule: "lost".into(),
            kind: "response_loss".into(),
            phase: Phase::Response,
            injected: true,
        });
        let mut again = answered(
            request(3, "checkout", "payment", 1100),
            20,
            Outcome::Answered,
        );
        again.attempt = 2;
        let whole = answered(request(1, "web", "checkout", 0), 1200, Outcome::Answered);
        let mut silent = request(4, "payment", "bank", 1105);
        silent.upstream.push(Delivery {
            sent_at: Some(Timestamp(1_106_000)),
            error: Some("closed without an answer".to_owned()),
            ..Delivery::default()
        });
        silent.client.outcome = Outcome::Closed;
        silent.client.at = Some(Timestamp(1_110_000));
        silent.close();
        let story = Story::of("pay-42", &[lost, again, silent, whole]).unwrap();
        let mut text = String::new();
        let mut line = |indent: &str, what: &str| text += &format!("{indent}{what}\n");
        for teller in std::iter::once(&story.customer).chain(&story.participants) {
            line("", &teller.name);
            for fact in &teller.facts {
                line("  ", &format!("{} {}", fact.at.0 / 1000, fact.what));
            }
        }
        for fault in &story.faults {
            line("! ", &fault.what);
        }
        for unknown in &story.unknown {
            let to = unknown.to.as_deref().unwrap_or("nobody knows");
            line("? ", &format!("{to}: {}", unknown.what));
        }
        insta::assert_snapshot!(text, @r"
        web
          0 asked checkout: POST /checkout
          1201 was told 201 after 1s201ms
        checkout
          1 was sent POST /checkout by web
          10 asked payment: POST /payment
          1010 gave up after 1s, told nothing
          1100 asked payment: POST /payment (attempt 2)
          1121 was told 201 after 21ms
          1200 answered 201
        payment
          11 was sent POST /payment by checkout
          30 answered 201
          1101 was sent POST /payment by checkout
          1105 asked bank: POST /bank
          1110 was told nothing: its connection was closed after 5ms
          1120 answered 201
        bank
          1106 was sent POST /bank by payment
          1106 gave no answer: closed without an answer
        ! checkout > payment, POST /payment: response_loss (rule lost)
        ? checkout: whether payment did POST /payment: it answered 201, and checkout did not get that
        ? nobody knows: whether bank did POST /bank: it was sent, and no answer was seen
        ");
    }

    #[test]
    fn what_belongs_together_is_asked_for_by_every_name() {
        let mut one = request(1, "a", "b", 0);
        one.trace = crate::evidence::Trace::parse(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let mut weak = request(2, "a", "b", 0);
        if let Some(identity) = &mut weak.identity {
            (identity.value, identity.strength) = ("print".to_owned(), Strength::Weak);
        }
        let names = names(&[one, weak]);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["0af7651916cd43dd8448eb211c80319c", "pay-42"]);
    }

    #[test]
    fn a_ring_and_islands_are_told_whole() {
        let ring = [
            request(1, "a", "b", 0),
            request(2, "b", "a", 1),
            request(3, "x", "y", 2),
        ];
        let story = Story::of("pay-42", &ring).unwrap();
        let names: Vec<_> = story.participants.iter().map(|t| &*t.name).collect();
        assert_eq!(
            (story.customer.name.as_str(), names),
            ("x", vec!["y", "a", "b"])
        );
        assert!(Story::of("pay-42", &[]).is_none());
    }
}

//! What is made of repetitions, and what `idempotent` and `double_effect` conclude from it.

use proptest::prelude::*;

use super::super::made_up::{found, named, request, unnamed};
use super::super::{Finding, Verdict};
use super::*;
use crate::evidence::{Class, FaultSeen};
use crate::operation::Phase;

/// What a service says when it gets the same thing again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Again {
    Same,
    SameWith200,
    Replayed,
    Conflict,
    Refused,
    Mismatch,
    Twice,
    Fails,
    Busy,
}

impl Again {
    /// Whether it counts, and as what.
    fn key(self) -> Option<&'static str> {
        Some(match self {
            Self::Same | Self::SameWith200 => "same",
            Self::Replayed => "replayed",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Mismatch => "mismatch",
            Self::Twice => "different",
            Self::Fails | Self::Busy => return None,
        })
    }

    fn answer(self, first: &Record, mut r: Record) -> Record {
        let (status, digest) = match self {
            Self::Same => (201, first.upstream[0].digest),
            Self::SameWith200 => (200, first.upstream[0].digest),
            Self::Replayed | Self::Twice => (201, Some(Digest(1 << 40 | r.id.n))),
            Self::Conflict => (409, Some(Digest(9))),
            Self::Refused => (400, Some(Digest(9))),
            Self::Mismatch => (422, Some(Digest(9))),
            Self::Fails => (500, Some(Digest(9))),
            Self::Busy => (429, Some(Digest(9))),
        };
        r.upstream[0].status = Some(status);
        r.upstream[0].digest = digest;
        r.upstream[0].replayed = self == Self::Replayed;
        r.request.digest = match self {
            Self::Mismatch => Some(Digest(1 << 41)),
            _ => first.request.digest,
        };
        r.client.status = Some(status);
        r
    }
}

/// How the service came to get it again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// A rule delivered it twice.
    Rule,
    /// Its caller tried again, under the same key.
    Key,
    /// Its caller tried again, and did not say what.
    Unnamed,
}

fn pair(how: How, again: Again, n: u64) -> Vec<Record> {
    let at = n as f64 * 10.0;
    let first = request(2 * n, at, at + 4.0, 201);
    let second = again.answer(&first, request(2 * n + 1, at + 5.0, at + 8.0, 201));
    match how {
        How::Rule => {
            let mut one = first;
            one.upstream.extend(second.upstream);
            one.deliveries = 2;
            vec![unnamed(one, &n.to_string())]
        }
        How::Key => vec![named(first, &n.to_string()), named(second, &n.to_string())],
        How::Unnamed => {
            let mut first = unnamed(first, &n.to_string());
            first.class = Class::Unseen;
            let mut second = unnamed(second, &n.to_string());
            second.attempt = 2;
            vec![first, second]
        }
    }
}

fn pairs(kinds: &[(How, Again)]) -> Vec<Record> {
    let each = kinds.iter().enumerate();
    each.flat_map(|(n, (how, again))| pair(*how, *again, n as u64))
        .collect()
}

fn kinds(again: impl Strategy<Value = Again>) -> impl Strategy<Value = Vec<(How, Again)>> {
    let how = prop_oneof![Just(How::Rule), Just(How::Key), Just(How::Unnamed)];
    let one = (how, again).prop_map(|(how, again)| match (how, again) {
        // One request has one body.
        (How::Rule | How::Unnamed, Again::Mismatch) => (how, Again::Refused),
        one => one,
    });
    prop::collection::vec(one, 0..30)
}

fn any_but_twice() -> impl Strategy<Value = Again> {
    prop::sample::select(vec![
        Again::Same,
        Again::SameWith200,
        Again::Replayed,
        Again::Conflict,
        Again::Refused,
        Again::Mismatch,
        Again::Fails,
        Again::Busy,
    ])
}

fn check(kinds: &[(How, Again)]) {
    let mut records = pairs(kinds);
    // There is always something on the edge.
    records.push(request(1_000_000, 0.0, 1.0, 200));
    let idempotent = found("idempotent", &records);
    let certain = |kind: &&(How, Again)| kind.0 != How::Unnamed;
    let count = |key| {
        kinds
            .iter()
            .filter(certain)
            .filter(|(_, a)| a.key() == Some(key))
            .count()
    };
    for key in [
        "same",
        "replayed",
        "conflict",
        "refused",
        "mismatch",
        "different",
    ] {
        assert_eq!(
            idempotent.figure(key) as usize,
            count(key),
            "{key} {kinds:?}"
        );
    }
    let telling = kinds.iter().filter(|(_, a)| a.key().is_some());
    let twice = kinds.iter().filter(|(_, a)| *a == Again::Twice).count();
    let good = telling.clone().filter(certain).count() - count("different");
    let verdict = match good {
        _ if count("different") > 0 => Verdict::No,
        3.. => Verdict::Yes,
        _ => Verdict::NotEnough,
    };
    assert_eq!(idempotent.verdict, verdict, "{kinds:?}");
    let double = found("double_effect", &records);
    assert_eq!(double.figure("suspected") as usize, twice, "{kinds:?}");
    assert_eq!(double.figure("named") as usize, count("different"));
    let verdict = match telling.count() {
        _ if twice > 0 => Verdict::Yes,
        3.. => Verdict::No,
        _ => Verdict::NotEnough,
    };
    assert_eq!(double.verdict, verdict, "{kinds:?}");
}

proptest! {
    #[test]
    fn a_service_that_does_it_once_is_idempotent(kinds in kinds(any_but_twice())) {
        check(&kinds);
    }

    #[test]
    fn a_service_that_does_it_twice_is_not(
        mut kinds in kinds(any_but_twice()),
        more in kinds(Just(Again::Twice)),
    ) {
        kinds.extend(more);
        check(&kinds);
    }
}

fn both(records: &[Record]) -> (Finding, Finding) {
    (
        found("idempotent", records),
        found("double_effect", records),
    )
}

#[test]
fn an_answer_that_everything_gets_tells_nothing() {
    for empty in [true, false] {
        let mut records = pairs(&[(How::Key, Again::Same); 5]);
        for r in &mut records {
            r.upstream[0].digest = Some(if empty { Digest(0) } else { Digest(5) });
        }
        let (idempotent, double) = both(&records);
        idempotent.is(Verdict::NotEnough);
        double.is(Verdict::NotEnough);
        assert_eq!(idempotent.figure("alike"), 5.0);
    }
}

#[test]
fn methods_of_which_any_number_may_be_sent_say_nothing() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let mut records = pairs(&[(How::Key, Again::Twice), (How::Rule, Again::Same)]);
        for r in &mut records {
            r.request.method = Some(method.into());
        }
        let (idempotent, _) = both(&records);
        idempotent.is(Verdict::NotEnough);
        assert_eq!(idempotent.figure("duplicates"), 0.0, "{method}");
    }
    let mut records = pairs(&[(How::Key, Again::Twice)]);
    for r in &mut records {
        r.request.method = Some("PATCH".into());
    }
    both(&records).1.is(Verdict::Yes);
}

#[test]
fn what_failed_first_may_be_done_later() {
    let mut records = pairs(&[(How::Key, Again::Twice); 4]);
    for r in records.iter_mut().step_by(2) {
        r.upstream[0].status = Some(500);
    }
    let (idempotent, double) = both(&records);
    idempotent.is(Verdict::NotEnough);
    double.is(Verdict::NotEnough);
}

#[test]
fn what_is_turned_away_while_the_first_is_done_is_a_conflict() {
    let mut records = pairs(&[(How::Key, Again::Conflict); 3]);
    for r in records.iter_mut().skip(1).step_by(2) {
        r.upstream[0].sent_at = Some(Timestamp(r.started.0 - 3000));
        r.upstream[0].answered_at = Some(Timestamp(r.started.0 - 2000));
    }
    assert_eq!(both(&records).0.figure("conflict"), 3.0);
    // Long before the first success it was something else that it conflicted with.
    for r in records.iter_mut().skip(1).step_by(2) {
        r.upstream[0].sent_at = Some(Timestamp(r.started.0 - 9000));
        r.upstream[0].answered_at = Some(Timestamp(r.started.0 - 8000));
    }
    assert_eq!(both(&records).0.figure("conflict"), 0.0);
}

#[test]
fn a_request_id_names_a_body_and_a_key_whatever_comes_under_it() {
    let mut records = pairs(&[(How::Key, Again::Twice)]);
    records[1].request.digest = Some(Digest(77));
    both(&records).1.is(Verdict::Yes);
    for r in &mut records {
        r.identity.as_mut().unwrap().by = By::RequestId;
    }
    both(&records).1.is(Verdict::NotEnough);
}

#[test]
fn what_a_rule_altered_is_not_the_same_thing() {
    let mut records = pairs(&[(How::Key, Again::Twice)]);
    records[1].faults.push(FaultSeen {
        rule: "r".into(),
        kind: "corrupt".into(),
        phase: Phase::Body,
        injected: true,
    });
    both(&records).1.is(Verdict::NotEnough);
    records[1].faults[0].injected = false;
    both(&records).1.is(Verdict::Yes);
}

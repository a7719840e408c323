//! Services that hide what fails below them, and that pass it on.

use proptest::prelude::*;

use super::super::made_up::{Chance, found, named, on_edge, request};
use super::super::{Finding, Verdict};
use crate::evidence::{Record, SpanId, Trace, TraceId};

/// How a service's calls are linked to what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Trace,
    Key,
    None,
}

fn traced(mut r: Record, n: u64) -> Record {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    r.trace = Some(Trace {
        id: TraceId(id),
        parent: SpanId([1; 8]),
        sampled: true,
    });
    r
}

#[derive(Debug, Clone)]
struct Service {
    link: Link,
    /// How often it tries what fails; each time under another name where calls are linked by traces.
    attempts: u64,
    /// The share of failures that another attempt makes good.
    mended: f64,
    hides: f64,
    passes_on: u16,
    seed: u64,
}

/// What is left of 100 requests, of which every third fails below; and how many it hid, of how many.
fn run(service: &Service) -> (Vec<Record>, usize, usize) {
    let mut chance = Chance::new(service.seed);
    let (mut records, mut hidden, mut failures) = (Vec::new(), 0, 0);
    for n in 0..100_u64 {
        let start = n as f64 * 7.0;
        let linked = |r: Record, attempt: u64| match service.link {
            Link::Trace => traced(named(r, &format!("call {n} {attempt}")), n),
            Link::Key => named(r, &format!("order {n}")),
            Link::None => named(r, &format!("call {n}")),
        };
        let (mut at, mut status) = (start + 1.0, 200);
        for attempt in 0..service.attempts {
            let mends = attempt > 0 && chance.between(0.0, 1.0) < service.mended;
            status = if n % 3 == 0 && !mends { 503 } else { 200 };
            records.push(linked(
                request(n * 10 + attempt, at, at + 2.0, status),
                attempt,
            ));
            at += 5.0;
            if status == 200 {
                break;
            }
        }
        let hides = chance.between(0.0, 1.0) < service.hides;
        if status == 503 {
            failures += 1;
            hidden += usize::from(hides);
        }
        let answer = if status == 503 && !hides {
            service.passes_on
        } else {
            200
        };
        let above = request(100_000 + n, start, at + 1.0, answer);
        let above = match service.link {
            Link::Trace => traced(above, n),
            Link::Key => named(above, &format!("order {n}")),
            Link::None => above,
        };
        records.push(on_edge(above, "client", "web"));
    }
    (records, hidden, failures)
}

fn services(hides: impl Strategy<Value = f64>) -> impl Strategy<Value = Service> {
    let link = prop_oneof![Just(Link::Trace), Just(Link::Key)];
    let passes_on = prop_oneof![Just(500), Just(502), Just(503), Just(429)];
    (link, 1..4_u64, 0.0..0.6, hides, passes_on, any::<u64>()).prop_map(
        |(link, attempts, mended, hides, passes_on, seed)| Service {
            link,
            attempts,
            mended,
            hides,
            passes_on,
            seed,
        },
    )
}

fn counts(finding: &Finding) -> (usize, usize) {
    let count = |key| finding.figure(key) as usize;
    (count("hidden"), count("linked"))
}

proptest! {
    #[test]
    fn a_fallback_is_found_and_counted(service in services(0.8..=1.0)) {
        let (records, hidden, failures) = run(&service);
        let finding = found("fallback", &records);
        prop_assert_eq!(counts(&finding), (hidden, failures), "{:#?}", finding);
        prop_assume!(hidden * 2 >= failures);
        let verdict = if failures >= 5 { Verdict::Yes } else { Verdict::NotEnough };
        prop_assert_eq!(finding.verdict, verdict);
    }

    #[test]
    fn what_passes_failures_on_has_none(service in services(0.0..0.1)) {
        let (records, hidden, failures) = run(&service);
        let finding = found("fallback", &records);
        prop_assert_eq!(counts(&finding), (hidden, failures), "{:#?}", finding);
        prop_assume!(hidden * 2 < failures || failures < 5);
        let verdict = if failures >= 5 { Verdict::No } else { Verdict::NotEnough };
        prop_assert_eq!(finding.verdict, verdict);
    }
}

fn service() -> Service {
    Service {
        link: Link::Trace,
        attempts: 2,
        mended: 0.0,
        hides: 1.0,
        passes_on: 500,
        seed: 1,
    }
}

#[test]
fn what_is_not_linked_is_not_judged() {
    let mut service = service();
    service.link = Link::None;
    let (records, ..) = run(&service);
    let finding = found("fallback", &records);
    finding.is(Verdict::NotEnough);
    assert_eq!(
        (finding.figure("failures"), counts(&finding)),
        (34.0, (0, 0))
    );
}

#[test]
fn one_of_two_that_are_as_likely_is_none() {
    let (mut records, ..) = run(&service());
    // Its caller tried again while the first was being worked on.
    let mut again: Vec<_> = records
        .iter()
        .filter(|r| *r.to == *"web")
        .cloned()
        .collect();
    for r in &mut again {
        r.id.n += 1000;
        r.started.0 += 500;
    }
    records.extend(again);
    let finding = found("fallback", &records);
    finding.is(Verdict::NotEnough);
    assert_eq!(counts(&finding), (0, 0));
}

#[test]
fn what_a_rule_told_the_customer_is_not_what_the_service_said() {
    let (mut records, hidden, failures) = run(&service());
    for r in records.iter_mut().filter(|r| *r.to == *"web") {
        r.client.status = Some(500);
    }
    let finding = found("fallback", &records);
    assert_eq!(counts(&finding), (hidden, failures));
    finding.is(Verdict::Yes);
}

use std::time::Duration;

use proptest::prelude::*;

use super::super::super::sample::tests::seen;
use super::super::super::sample::{Answer, Asked, Micros};
use super::*;
use crate::config::drill as config;
use crate::config::drill::Comparison::{self, AtLeast, AtMost, Equals};
use crate::evidence::Class;
use crate::evidence::findings::{Subject, Verdict as Found};

const SECOND: Micros = 1_000_000;

/// What was seen: the load and one edge, `payment`. Before: the first ten seconds; faults: the next ten.
#[derive(Default)]
struct World {
    samples: Samples,
    load: Vec<Op>,
    findings: Vec<Finding>,
}

impl World {
    /// So many a second from one moment to another, good ones or not, in the load and at the edge.
    fn calls(mut self, from: Micros, to: Micros, rate: i64, good: bool) -> Self {
        for at in (from..to).step_by((SECOND / rate) as usize) {
            let n = self.samples.seen.len() as u64 + 1;
            let mut one = seen(n, at);
            one.identity = Some(format!("pay-{n}").into());
            one.strong = true;
            one.failed = !good;
            if !good {
                one.class = Class::Unseen;
            }
            self.load.push(Op {
                at,
                ended: one.ended,
                good: Some(good),
            });
            self.samples.seen.push(one);
        }
        self
    }

    fn judge_when(&self, when: When, negated: bool, check: Check) -> Judgement {
        let edges = ["payment".to_owned()];
        let facts = Facts {
            samples: &self.samples,
            load: &self.load,
            edges: &edges,
            entry: &[0],
            findings: &self.findings,
            before: Window {
                from: 0,
                to: 10 * SECOND,
            },
            during: Window {
                from: 10 * SECOND,
                to: 20 * SECOND,
            },
            end: 30 * SECOND,
            live: false,
        };
        judge(&Condition { negated, check }, when, Some(0), &facts)
    }

    fn judge(&self, check: Check) -> Judgement {
        self.judge_when(When::During, false, check)
    }
}

fn is(comparison: Comparison, n: f64) -> Bounds {
    Bounds(vec![(comparison, n)])
}

fn success_of(share: f64) -> Check {
    Check::SuccessRate {
        proxy: None,
        is: is(AtLeast, share),
    }
}

fn unseen(is: Bounds) -> Check {
    Check::Evidence {
        proxy: Some("payment".to_owned()),
        classes: vec![Class::Unseen],
        is,
    }
}

fn repaired() -> Check {
    Check::Repaired {
        proxy: None,
        within: Duration::from_secs(5),
        classes: vec![Class::Unseen],
    }
}

fn twice_at_most(of: Once) -> Check {
    Check::AtMostOnce { proxy: None, of }
}

#[test]
fn a_share_is_of_the_stretch_that_is_meant() {
    let world = World::default()
        .calls(0, 10 * SECOND, 10, true)
        .calls(10 * SECOND, 20 * SECOND, 10, false)
        .calls(20 * SECOND, 30 * SECOND, 10, true);
    for (when, verdict, share) in [
        (When::Before, Verdict::Held, 1.0),
        (When::During, Verdict::Broken, 0.0),
        (When::After, Verdict::Held, 1.0),
        (When::Always, Verdict::Broken, 2.0 / 3.0),
    ] {
        let judged = world.judge_when(when, false, success_of(0.9));
        assert_eq!((judged.verdict, judged.measured), (verdict, Some(share)));
        let contrary = world.judge_when(when, true, success_of(0.9));
        assert_eq!(contrary.verdict, verdict.negated());
    }
    let broken = world.judge(success_of(0.9));
    assert_eq!(broken.proof.len(), MOST_PROOF);
    let failed = |id: &RecordId| world.samples.seen.iter().any(|s| s.id == *id && s.failed);
    assert!(
        broken
            .proof
            .iter()
            .all(|(edge, id)| *edge == 0 && failed(id))
    );
}

#[test]
fn too_few_say_nothing_either_way() {
    let world = World::default().calls(10 * SECOND, 19 * SECOND, 1, true);
    for negated in [false, true] {
        let judged = world.judge_when(When::During, negated, success_of(0.5));
        assert_eq!(judged.verdict, Verdict::Inconclusive);
        assert_eq!(judged.reason, "9 operations are too few to tell");
    }
    let none = World::default();
    let retries = Check::Retries {
        proxy: None,
        at_most: 3,
    };
    for check in [retries, twice_at_most(Once::Effects), success_of(0.5)] {
        let judged = none.judge(check);
        assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
    }
}

#[test]
fn goodput_is_a_second_or_a_share_of_before() {
    let world =
        World::default()
            .calls(0, 10 * SECOND, 20, true)
            .calls(10 * SECOND, 20 * SECOND, 10, true);
    let goodput = |is, of_baseline| Check::Goodput {
        proxy: None,
        is,
        of_baseline,
    };
    let judged = world.judge(goodput(is(AtLeast, 9.5), false));
    assert_eq!(judged.verdict, Verdict::Held, "{judged:?}");
    let judged = world.judge(goodput(is(AtLeast, 0.8), true));
    assert_eq!(judged.verdict, Verdict::Broken, "{judged:?}");
    assert!((judged.measured.unwrap() - 0.5).abs() < 0.01);
    let nothing_before = World::default().calls(10 * SECOND, 20 * SECOND, 10, true);
    let judged = nothing_before.judge(goodput(is(AtLeast, 0.1), true));
    assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
}

#[test]
fn what_was_given_up_counts_with_how_long_it_was_waited_for() {
    let mut world = World::default().calls(10 * SECOND, 20 * SECOND, 10, true);
    for op in world.load.iter_mut().step_by(10) {
        op.ended = Some(op.at + 3 * SECOND);
        op.good = Some(false);
    }
    let latency = |percentile, most| Check::Latency {
        proxy: None,
        is: vec![(percentile, is(AtMost, most))],
    };
    assert_eq!(world.judge(latency(50.0, 2.0)).verdict, Verdict::Held);
    let judged = world.judge(latency(99.0, 2_000.0));
    assert_eq!(judged.verdict, Verdict::Broken);
    assert!(
        (judged.measured.unwrap() - 3_000.0).abs() < 5.0,
        "{judged:?}"
    );
}

#[test]
fn what_took_effect_twice_is_shown_and_what_may_have_is_said() {
    let mut world = World::default().calls(10 * SECOND, 20 * SECOND, 10, true);
    let held = world.judge(twice_at_most(Once::Effects));
    assert_eq!((held.verdict, held.samples), (Verdict::Held, 100));
    // A second success under the same name, and another answer.
    let mut again = world.samples.seen[3].clone();
    (again.id.n, again.began) = (1_000, again.began + SECOND);
    again.answers[0].digest = Some(7);
    world.samples.seen.push(again);
    let broken = world.judge(twice_at_most(Once::Effects));
    assert_eq!(broken.verdict, Verdict::Broken);
    let ids: Vec<u64> = broken.proof.iter().map(|(_, id)| id.n).collect();
    assert_eq!(ids, [4, 1_000]);
    // An answer of which the body is not known tells neither.
    let answer: &mut Answer = &mut world.samples.seen[100].answers[0];
    answer.digest = None;
    let judged = world.judge(twice_at_most(Once::Effects));
    assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
    let judged = world.judge(twice_at_most(Once::Deliveries));
    assert_eq!(judged.verdict, Verdict::Broken, "{judged:?}");
}

#[test]
fn a_repair_may_come_after_the_faults_and_must_have_had_its_time() {
    let mut world = World::default().calls(10 * SECOND, 11 * SECOND, 2, false);
    assert_eq!(world.judge(repaired()).verdict, Verdict::Broken);
    let names: Vec<_> = world
        .samples
        .seen
        .iter()
        .map(|s| s.identity.clone())
        .collect();
    for (n, name) in names.into_iter().enumerate() {
        let mut asks = seen(100 + n as u64, 14 * SECOND);
        (asks.identity, asks.strong) = (name, true);
        world.samples.seen.push(asks);
    }
    let judged = world.judge(repaired());
    assert_eq!((judged.verdict, judged.samples), (Verdict::Held, 2));
    let late = World::default().calls(26 * SECOND, 27 * SECOND, 2, false);
    let judged = late.judge_when(When::Always, false, repaired());
    assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
    let none = World::default().calls(10 * SECOND, 11 * SECOND, 2, true);
    assert_eq!(none.judge(repaired()).reason, "there was none");
}

#[test]
fn retries_are_counted_of_each_operation() {
    let mut world = World::default().calls(10 * SECOND, 11 * SECOND, 5, false);
    for n in 0..3 {
        let mut again = world.samples.seen[1].clone();
        (again.id.n, again.attempt) = (100 + n, n as u32 + 2);
        again.began += n as Micros * 1_000;
        world.samples.seen.push(again);
    }
    for (at_most, verdict) in [(3, Verdict::Held), (2, Verdict::Broken)] {
        let judged = world.judge(Check::Retries {
            proxy: None,
            at_most,
        });
        assert_eq!((judged.verdict, judged.measured), (verdict, Some(3.0)));
        assert_eq!(judged.proof.len(), 4);
    }
}

#[test]
fn findings_are_asked_of_all_that_are_meant() {
    let found = |from: &str, verdict| Finding {
        finding: "backoff".to_owned(),
        subject: Subject {
            from: from.to_owned(),
            to: "payment".to_owned(),
            caller: None,
        },
        verdict,
        detail: serde_json::Map::new(),
        records: Vec::new(),
    };
    let mut world = World::default();
    let check = |from: Option<&str>| Check::Finding {
        finding: "backoff".to_owned(),
        verdict: Found::Yes,
        from: from.map(str::to_owned),
        to: None,
    };
    assert_eq!(world.judge(check(None)).verdict, Verdict::Inconclusive);
    world.findings = vec![found("web", Found::Yes), found("shop", Found::NotEnough)];
    assert_eq!(world.judge(check(Some("web"))).verdict, Verdict::Held);
    assert_eq!(world.judge(check(None)).verdict, Verdict::Inconclusive);
    world.findings.push(found("bank", Found::No));
    assert_eq!(world.judge(check(None)).verdict, Verdict::Broken);
}

#[test]
fn who_answers_is_asked_more_than_once() {
    let mut world = World::default();
    let asked = |at, good: bool, said: &str| Asked {
        at,
        good,
        said: said.to_owned(),
    };
    let check = |share| Check::Tcp {
        address: "a:1".to_owned(),
        asked: config::Asked {
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            share,
        },
    };
    assert_eq!(world.judge(check(1.0)).verdict, Verdict::Inconclusive);
    world.samples.asked = vec![vec![
        asked(SECOND, false, "not in the stretch"),
        asked(11 * SECOND, true, "it answers"),
        asked(12 * SECOND, false, "refused"),
    ]];
    let judged = world.judge(check(1.0));
    assert_eq!(judged.verdict, Verdict::Broken);
    assert_eq!(judged.reason, "1 of 2 times; else: refused");
    assert_eq!(world.judge(check(0.5)).verdict, Verdict::Held);
}

proptest! {
    /// Whatever was in the records that are missing: a verdict that they could turn is not given.
    #[test]
    fn no_record_that_is_missing_turns_a_verdict(
        failed in 0..6_i64,
        lost in 0..4_u64,
        bound in 0..8_i64,
        which in 0..3_usize,
        negated in any::<bool>(),
    ) {
        let bounds = is([AtLeast, AtMost, Equals][which], bound as f64);
        let mut world = World::default().calls(10 * SECOND, 12 * SECOND, 10, true);
        if failed > 0 {
            world = world.calls(13 * SECOND, 13 * SECOND + failed * 1_000, 1_000, false);
        }
        world.samples.lost = lost;
        let judged = world.judge_when(When::During, negated, unseen(bounds.clone()));
        let truths: Vec<bool> = (0..=lost as i64)
            .map(|more| bounds.hold((failed + more) as f64) != negated)
            .collect();
        let expected = match truths.iter().all(|truth| *truth == truths[0]) {
            true => Verdict::of(truths[0]),
            false => Verdict::Inconclusive,
        };
        prop_assert_eq!(judged.verdict, expected, "{:?}", judged);
        // What was seen to be tried again is no less so.
        let retries = Check::Retries { proxy: None, at_most: 0 };
        let judged = world.judge_when(When::During, negated, retries);
        let expected = if lost > 0 { Verdict::Inconclusive } else { Verdict::of(!negated) };
        prop_assert_eq!(judged.verdict, expected, "{:?}", judged);
    }
}

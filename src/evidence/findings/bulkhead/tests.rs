//! Callers that bound what they have under way, and callers that do not.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::Verdict;
use super::super::made_up::{Chance, few, found, named, on_edge, request};
use super::super::simulated::{at, near};
use crate::evidence::Record;

/// A caller of a dependency that is slow from the third second on, in milliseconds.
#[derive(Debug, Clone)]
struct Caller {
    limit: Option<usize>,
    /// What has no place waits for one, or is turned away.
    waits: bool,
    pace: f64,
    random: bool,
    latency: f64,
    slow: f64,
    noise: f64,
    seed: u64,
}

fn run(caller: &Caller, slow_for: f64) -> Vec<Record> {
    let mut chance = Chance::new(caller.seed);
    let limit = caller.limit.unwrap_or(usize::MAX);
    let mut ends: Vec<f64> = Vec::new();
    let mut waiting: VecDeque<f64> = VecDeque::new();
    let mut records = Vec::new();
    let until = 3000.0 + slow_for + 2000.0;
    let mut wanted = 0.0;
    let mut begin = |now: f64, ends: &mut Vec<f64>, chance: &mut Chance| {
        let slow = (3000.0..3000.0 + slow_for).contains(&now);
        let took = if slow { caller.slow } else { caller.latency } * chance.between(0.8, 1.2);
        ends.push(now + took);
        let n = records.len() as u64;
        let seen = now + chance.between(0.0, caller.noise);
        let end = now + took - chance.between(0.0, caller.noise);
        records.push(named(request(n, seen, end, 200), &n.to_string()));
    };
    while wanted < until {
        wanted += match caller.random {
            true => chance.between(0.0, 2.0 * caller.pace),
            false => caller.pace,
        };
        // Places that become free before that go to who waits.
        loop {
            ends.sort_by(f64::total_cmp);
            let Some(end) = ends.first().copied().filter(|end| *end <= wanted) else {
                break;
            };
            ends.remove(0);
            if waiting.pop_front().is_some() {
                begin(end + 0.2, &mut ends, &mut chance);
            }
        }
        if ends.len() < limit {
            begin(wanted, &mut ends, &mut chance);
        } else if caller.waits {
            waiting.push_back(wanted);
        }
    }
    records
}

fn callers(
    limit: impl Strategy<Value = Option<usize>>,
    slow: impl Strategy<Value = f64>,
) -> impl Strategy<Value = Caller> {
    let noise = 0.0..5.0;
    (
        limit,
        any::<bool>(),
        5.0..20.0,
        any::<bool>(),
        slow,
        noise,
        any::<u64>(),
    )
        .prop_map(|(limit, waits, pace, random, excess, noise, seed)| Caller {
            limit,
            waits,
            pace,
            random,
            latency: pace / 4.0,
            slow: excess * limit.unwrap_or(10) as f64 * pace,
            // Beyond a part of the time between two ends, order is lost.
            noise: f64::min(noise, excess * pace / 10.0),
            seed,
        })
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn a_limit_is_found_and_measured(caller in callers((2_usize..20).prop_map(Some), 3.0..8.0)) {
        let records = run(&caller, 30.0 * caller.slow / caller.limit.unwrap() as f64 + 4.0 * caller.slow);
        let finding = found("bulkhead", &records);
        prop_assert_eq!(finding.verdict, Verdict::Yes, "{:#?}", finding);
        let truth = caller.limit.unwrap() as f64;
        near(finding.figure("limit"), truth, 0.1, 0.0);
    }

    #[test]
    fn what_grows_freely_has_none(caller in callers(Just(None), 4.0..12.0), for_ in 0.5..4.0) {
        let finding = found("bulkhead", &run(&caller, for_ * caller.slow));
        prop_assert_eq!(finding.verdict, Verdict::No, "{:#?}", finding);
    }
}

fn caller() -> Caller {
    Caller {
        limit: Some(5),
        waits: true,
        pace: 10.0,
        random: false,
        latency: 2.0,
        slow: 200.0,
        noise: 1.0,
        seed: 3,
    }
}

/// What it is asked for, as often as a call of it begins, or at its pace.
fn asked(records: &mut Vec<Record>, pace: Option<f64>) {
    let times: Vec<f64> = match pace {
        Some(pace) => (0..(8000.0 / pace) as usize)
            .map(|n| n as f64 * pace)
            .collect(),
        None => records
            .iter()
            .map(|r| (r.started.0 - at(0.0).0) as f64 / 1e3 - 0.5)
            .collect(),
    };
    for (n, time) in times.into_iter().enumerate() {
        let r = request(1_000_000 + n as u64, time, time + 300.0, 200);
        records.push(on_edge(r, "client", "web"));
    }
}

#[test]
fn users_who_wait_for_their_answers_are_no_bulkhead() {
    // Five of them, each of whom asks again when he was answered.
    let mut records = run(&caller(), 3000.0);
    let mut queueing = records.clone();
    asked(&mut records, None);
    let finding = found("bulkhead", &records);
    assert_ne!(finding.verdict, Verdict::Yes, "{finding:#?}");
    asked(&mut queueing, Some(10.0));
    let finding = found("bulkhead", &queueing);
    assert_eq!(finding.is(Verdict::Yes).figure("limit"), 5.0);
}

#[test]
fn one_at_a_time_is_a_limit_if_more_was_asked_for() {
    let mut caller = caller();
    caller.limit = Some(1);
    let mut records = run(&caller, 6000.0);
    let finding = found("bulkhead", &records);
    finding.is(Verdict::NotEnough);
    asked(&mut records, Some(10.0));
    let finding = found("bulkhead", &records);
    assert_eq!(finding.is(Verdict::Yes).figure("limit"), 1.0);
}

#[test]
fn what_is_asked_for_less_is_not_bounded() {
    // As slow as before, and half as often: what is under way stays the same.
    let mut records = Vec::new();
    let mut now = 0.0;
    for n in 0..600 {
        let slow = n >= 300;
        now += if slow { 40.0 } else { 10.0 };
        let took = if slow { 190.0 } else { 5.0 } + (n % 7) as f64;
        records.push(named(request(n, now, now + took, 200), &n.to_string()));
    }
    let finding = found("bulkhead", &records);
    assert_ne!(finding.verdict, Verdict::Yes, "{finding:#?}");
}

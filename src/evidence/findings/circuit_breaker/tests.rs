//! Callers with a breaker and without, whose settings only they know.

use proptest::prelude::*;

use super::super::Verdict;
use super::super::made_up::{Chance, few, found, given_up, named, on_edge, request, unnamed};
use super::super::simulated::{at, near};
use crate::evidence::{Digest, Record};

/// A caller and its times, in milliseconds.
#[derive(Debug, Clone)]
struct Caller {
    /// Failures after which it opens, and for how long; `None`: it has no breaker.
    breaker: Option<(usize, f64)>,
    /// Between one thing wanted and the next.
    pace: f64,
    /// Whether these come by chance.
    random: bool,
    /// How long an answer takes; failing, it waits that long.
    latency: f64,
    timeout: Option<f64>,
    noise: f64,
    seed: u64,
}

/// What it does when `payment` fails from `from` to `until`, and how often its breaker opened and closed.
fn run(caller: &Caller, fails: &[(f64, f64)], until: f64) -> (Vec<Record>, usize, usize) {
    let mut chance = Chance::new(caller.seed);
    let mut records = Vec::new();
    let (mut in_a_row, mut open_until, mut probing) = (0, f64::MIN, false);
    let (mut opened, mut closed, mut probe) = (0, 0, 0_usize);
    // What is under way: when its end is known, whether it fails, its number.
    let mut under_way: Vec<(f64, bool, usize)> = Vec::new();
    let (mut now, mut n) = (0.0, 0);
    while now < until {
        now += match caller.random {
            true => chance.wait(caller.pace),
            false => caller.pace + chance.between(-0.2, 0.2) * caller.pace,
        };
        under_way.sort_by(|a, b| a.0.total_cmp(&b.0));
        while under_way.first().is_some_and(|end| end.0 <= now) {
            let (end, failed, which) = under_way.remove(0);
            let Some((threshold, open)) = caller.breaker else {
                continue;
            };
            if probing && which == probe {
                probing = false;
                if failed {
                    open_until = end + open;
                    opened += 1;
                } else {
                    (in_a_row, open_until) = (0, f64::MIN);
                    closed += 1;
                }
            } else if open_until == f64::MIN && !probing {
                in_a_row = if failed { in_a_row + 1 } else { 0 };
                if in_a_row >= threshold {
                    open_until = end + open;
                    opened += 1;
                }
            }
        }
        if probing || now < open_until {
            continue;
        }
        if open_until > f64::MIN {
            (probing, probe, open_until) = (true, n, f64::MIN);
            in_a_row = 0;
        }
        let failing = fails.iter().any(|(from, to)| (*from..*to).contains(&now));
        let took = match (failing, caller.timeout) {
            (true, Some(timeout)) => timeout,
            _ => caller.latency * chance.between(0.8, 1.2),
        };
        let seen = now + chance.between(0.0, caller.noise);
        let ended = (now + took + chance.between(-caller.noise, 0.0)).max(seen);
        let r = match (failing, caller.timeout) {
            (true, Some(_)) => given_up(n as u64, seen, ended),
            (true, None) => request(n as u64, seen, ended, 503),
            (false, _) => request(n as u64, seen, ended, 200),
        };
        records.push(named(r, &format!("k{n}")));
        under_way.push((now + took, failing, n));
        n += 1;
    }
    // What opened last may not have been tried again.
    let open = usize::from(open_until > f64::MIN);
    (records, opened - open, closed)
}

fn callers(breaker: impl Strategy<Value = Option<(usize, f64)>>) -> impl Strategy<Value = Caller> {
    (
        breaker,
        5.0..40.0,
        any::<bool>(),
        1.0..30.0,
        prop::option::of(50.0..200.0),
        0.0..5.0,
        any::<u64>(),
    )
        .prop_map(
            |(breaker, pace, random, latency, timeout, noise, seed)| Caller {
                breaker,
                pace,
                random,
                latency,
                timeout,
                noise,
                seed,
            },
        )
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn a_breaker_is_found_and_measured(
        mut caller in callers((2_usize..20, 1000.0..5000.0).prop_map(Some)),
        outages in 1_usize..3,
    ) {
        // Successes that end among the failures make them fewer in a row.
        let among = 2.0 * caller.noise + 0.4 * caller.latency;
        let among = (2.0 * among / caller.pace).ceil() as usize;
        let (threshold, open) = caller.breaker.map(|(n, open)| (n + among, open)).unwrap();
        caller.breaker = Some((threshold, open));
        // Long enough to fail for as often as it takes, and for two probes at least.
        let outage = (caller.pace * 3.0).mul_add(threshold as f64, 300.0) + open * 2.5;
        let fails: Vec<_> = (0..outages)
            .map(|n| (2000.0 + n as f64 * (outage + 3.0 * open), 2000.0 + n as f64 * (outage + 3.0 * open) + outage))
            .collect();
        let until = fails.last().unwrap().1 + 3.0 * open;
        let (records, opened, closed) = run(&caller, &fails, until);
        let finding = found("circuit_breaker", &records);
        prop_assert_eq!(finding.verdict, Verdict::Yes, "{:#?}", finding);
        prop_assert_eq!(finding.figure("opened") as usize, opened, "{:#?}", finding);
        prop_assert_eq!(finding.figure("closed") as usize, closed);
        let slack = 2.0 * caller.pace + 2.0 * caller.noise;
        near(finding.figure("open_ms"), open, 0.1, slack);
        let (least, most) = (finding.figure("threshold"), finding.figure("threshold_most"));
        let truth = threshold as f64;
        // Noise may exchange what began and what ended.
        let swapped = (4.0 * caller.noise / caller.pace).ceil() + if caller.random { 3.0 } else { 0.0 };
        prop_assert!(least <= truth + swapped && truth <= most + swapped, "{:#?}", finding);
        // Whoever does not call while he waits knows what opened it.
        if caller.timeout.is_none() && caller.latency * 2.0 < caller.pace && !caller.random {
            prop_assert_eq!((least, most), (truth, truth), "{:#?}", finding);
        }
    }

    #[test]
    fn a_caller_that_goes_on_has_none(caller in callers(Just(None))) {
        let (records, ..) = run(&caller, &[(2000.0, 12_000.0)], 14_000.0);
        found("circuit_breaker", &records).is(Verdict::No);
    }

    #[test]
    fn pauses_between_attempts_are_none_of_a_breaker(
        identity in 0..5,
        attempts in 1_usize..12,
        base in 20.0..1500.0,
        factor in prop_oneof![Just(1.0), 1.2..3.0],
        cap in 200.0..4000.0,
        jitter in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        pace in 0.0..60.0,
        latency in 1.0..40.0,
        seed: u64,
    ) {
        let mut chance = Chance::new(seed);
        let (mut records, mut now, mut operation) = (Vec::new(), 0.0, 0_u64);
        while now < 30_000.0 && records.len() < 3000 {
            for attempt in 0..attempts {
                let fails = (3000.0..25_000.0).contains(&now);
                let ended = now + latency * chance.between(0.8, 1.2);
                let n = records.len() as u64;
                let mut r = request(n, now, ended, if fails { 503 } else { 200 });
                if identity == 1 {
                    r.request.digest = Some(Digest(operation + 1));
                }
                r = match identity {
                    0 => named(r, &format!("key {operation}")),
                    // A name of its own for each attempt, with the same body or another.
                    1 | 4 => named(r, &format!("key {n}")),
                    2 => unnamed(r, &format!("print {operation}")),
                    _ => unnamed(r, "always the same"),
                };
                r.attempt = if matches!(identity, 1 | 4) { 1 } else { attempt as u32 + 1 };
                records.push(r);
                now = ended;
                if !fails {
                    break;
                }
                if attempt + 1 < attempts {
                    let wait = f64::min(base * f64::powi(factor, attempt as i32), cap);
                    now += wait * (1.0 - jitter * chance.between(0.0, 1.0));
                }
            }
            operation += 1;
            now += pace * chance.between(0.8, 1.2);
        }
        let finding = found("circuit_breaker", &records);
        prop_assert!(finding.verdict != Verdict::Yes, "{:#?}", finding);
    }

    #[test]
    fn bursts_of_requests_are_none(
        pace in 1.0..30.0,
        most in 1_usize..30,
        pause in 200.0..5000.0,
        regular: bool,
        seed: u64,
    ) {
        let mut chance = Chance::new(seed);
        let (mut records, mut now) = (Vec::new(), 0.0);
        while now < 60_000.0 {
            for _ in 0..chance.between(1.0, most as f64 + 1.0) as usize {
                let fails = (20_000.0..40_000.0).contains(&now);
                let n = records.len() as u64;
                let r = request(n, now, now + 2.0, if fails { 503 } else { 200 });
                records.push(named(r, &n.to_string()));
                now += pace;
            }
            now += if regular { pause } else { chance.wait(pause) };
        }
        let finding = found("circuit_breaker", &records);
        prop_assert!(finding.verdict != Verdict::Yes, "{:#?}", finding);
    }
}

/// A request from outside for each that is given.
fn wanted(times: impl IntoIterator<Item = f64>, records: &mut Vec<Record>) {
    for (n, time) in times.into_iter().enumerate() {
        let r = request(1_000_000 + n as u64, time, time + 50.0, 200);
        records.push(on_edge(r, "client", "web"));
    }
}

fn alone() -> Caller {
    Caller {
        breaker: Some((1, 1000.0)),
        pace: 20.0,
        random: false,
        latency: 5.0,
        timeout: None,
        noise: 1.0,
        seed: 1,
    }
}

#[test]
fn what_it_was_asked_for_meanwhile_tells_a_breaker_from_a_caller_that_waits() {
    let (mut records, opened, _) = run(&alone(), &[(2000.0, 6000.0)], 8000.0);
    found("circuit_breaker", &records).is(Verdict::NotEnough);
    let before = records.len();
    wanted((0..400).map(|n| f64::from(n) * 20.0 - 1.0), &mut records);
    let finding = found("circuit_breaker", &records);
    finding.is(Verdict::Yes);
    assert_eq!(finding.figure("demand") as usize, opened);
    // Asked for nothing, it has nothing to call for.
    let times: Vec<_> = records[..before]
        .iter()
        .map(|r| (r.started.0 - at(0.0).0) as f64 / 1e3 - 1.0)
        .collect();
    records.truncate(before);
    wanted(times, &mut records);
    found("circuit_breaker", &records).is(Verdict::NotEnough);
}

#[test]
fn a_worker_that_keeps_its_callers_waiting_while_it_pauses_has_none() {
    // One thing after the other, each attempt under a new name and with a new body.
    let (mut records, mut now) = (Vec::new(), 0.0);
    for n in 0..240 {
        let fails = (100..140).contains(&n);
        let r = request(n, now, now + 5.0, if fails { 503 } else { 200 });
        records.push(named(r, &n.to_string()));
        now += if fails { 1000.0 } else { 20.0 };
    }
    for n in 0..2000 {
        let time = f64::from(n) * 20.0;
        let answered = if (2000.0..42_000.0).contains(&time) {
            42_000.0
        } else {
            time + 10.0
        };
        let r = request(1_000_000 + n as u64, time, answered, 200);
        records.push(on_edge(r, "client", "web"));
    }
    found("circuit_breaker", &records).is(Verdict::NotEnough);
}

#[test]
fn few_failures_or_rare_requests_say_nothing() {
    let mut caller = alone();
    caller.breaker = None;
    let (records, ..) = run(&caller, &[(2000.0, 3500.0)], 8000.0);
    found("circuit_breaker", &records).is(Verdict::NotEnough);
    // Any breaker would have closed again when the next request comes.
    caller.pace = 2500.0;
    let (records, ..) = run(&caller, &[(100_000.0, 900_000.0)], 1_000_000.0);
    found("circuit_breaker", &records).is(Verdict::NotEnough);
}

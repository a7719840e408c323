//! `timeouts`: whether a caller gives up waiting.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::attempt::{failed, gave_up, told};
use super::case::Case;
use super::efforts::{Efforts, SLACK};
use super::figures::{self, Samples, detail, rounded};
use super::{About, Finder, Judged, Verdict};
use crate::evidence::{By, Outcome, Record, RecordId, Strength};
use crate::operation::Phase;

pub static FINDER: Finder = Finder {
    name: "timeouts",
    summary: "the caller stops waiting after a time of its own",
    definition: "\
Judged from the times between the head of a request and the end of the caller's connection or stream \
while it still waited for an answer. A caller that ends its side within 10 ms waits on (a half-close), \
and one that is cut short within 50 ms of the answer to another attempt at the same did not give up.

`yes`: at most three times, each of at least 3 waits that lie within 15 % (or 100 ms) of the shortest \
and ended at 3 moments or more, hold three quarters of those that it left. Where that is not so of single \
attempts, the time since the first attempt at the operation is taken instead. `no`: at least 3 waits \
of 10 s or more, and longer by a quarter than any such time, that it did not leave, and more than a \
tenth of all of both sorts; a wait lasts until the answer begins, or until now. What is answered sooner \
says nothing. `not_enough`: fewer than 3 of either.

`detail`: `left`, how often it gave up; `after_ms`, `spread_ms`, the usual time and how far those of it lie \
apart; `of`, `attempt` or `operation`; `timeouts`, each such time with its `after_ms`, `spread_ms`, `left`; \
`waited`, how many long waits it did not leave; `longest_wait_ms`, the longest wait that it did not leave.",
    about: About::Caller,
    judge,
};

/// Fewer show nothing.
const LEAST: usize = 3;
/// Whoever waits for so long without leaving may wait for ever.
const LONG: f64 = 10_000.0;
/// Times that a caller may have: for connecting, for an answer, for all.
const MOST_TIMES: usize = 3;
/// Waits that differ by so little have the same reason.
const NEAR: f64 = 100.0;
/// What ends within this of another is one moment, or one thing.
const MOMENT: f64 = 50.0;

/// A wait that the caller ended.
struct Left<'r> {
    ms: f64,
    record: &'r Record,
}

fn judge(case: &Case<'_>) -> Judged {
    let cut_short = cut_short(case);
    let by_itself = |record: &&&Record| !cut_short.contains(&record.id);
    let records = || case.records.iter().filter(by_itself).copied();
    let left: Vec<_> = records().filter_map(left).collect();
    let mut of = "attempt";
    let mut usual = usual(&left);
    if usual.is_empty() {
        usual = self::usual(&in_all(case, &left));
        of = "operation";
    }
    let longest = usual.iter().map(Samples::greatest).fold(0.0, f64::max);
    let mut waits: Vec<_> = records()
        .filter_map(|r| Some((waited(r, case)?, r)))
        .collect();
    waits.sort_by(|a, b| b.0.total_cmp(&a.0));
    let long = |ms: f64| ms >= LONG && ms > longest * 1.25;
    let stayed: Vec<_> = waits.iter().take_while(|(ms, _)| long(*ms)).collect();
    let verdict = if stayed.len() >= LEAST && stayed.len() * 10 > stayed.len() + left.len() {
        Verdict::No
    } else if usual.is_empty() {
        Verdict::NotEnough
    } else {
        Verdict::Yes
    };
    let most = usual.iter().max_by_key(|times| times.len());
    let figure = |times: &Samples| {
        json!({
            "after_ms": rounded(times.median()),
            "spread_ms": rounded(times.width()),
            "left": times.len(),
        })
    };
    let records = match verdict {
        Verdict::Yes => left.iter().map(|left| left.record.id).collect(),
        _ => stayed.iter().map(|(_, record)| record.id).collect(),
    };
    Judged {
        verdict,
        detail: detail(json!({
            "after_ms": most.map(|times| rounded(times.median())),
            "spread_ms": most.map(|times| rounded(times.width())),
            "of": most.map(|_| of),
            "left": left.len(),
            "timeouts": usual.iter().map(figure).collect::<Vec<_>>(),
            "waited": stayed.len(),
            "longest_wait_ms": waits.first().map_or(Value::Null, |(ms, _)| rounded(*ms)),
        })),
        records,
    }
}

fn left(record: &Record) -> Option<Left<'_>> {
    let ms = figures::ms(record.started, gave_up(record)?);
    Some(Left { ms, record })
}

/// The times at which those who left did so; none, where they did so at any time.
fn usual(left: &[Left<'_>]) -> Vec<Samples> {
    let all: Samples = left.iter().map(|left| left.ms).collect();
    let mut times = all.clusters(MOST_TIMES, LEAST, |ms| (ms * 0.15).max(NEAR));
    times.retain(|times| {
        let within = |left: &&Left<'_>| (times.least()..=times.greatest()).contains(&left.ms);
        let ends = left
            .iter()
            .filter(within)
            .filter_map(|left| gave_up(left.record));
        let mut ends: Vec<_> = ends.collect();
        ends.sort_unstable();
        // Those that end together, with their process, had no time of their own.
        ends.dedup_by(|next, last| figures::ms(*last, *next) <= MOMENT);
        ends.len() >= LEAST
    });
    let held: usize = times.iter().map(Samples::len).sum();
    if held * 4 < left.len() * 3 {
        times.clear();
    }
    times
}

/// The same since the first attempts, where there were several.
fn in_all<'r>(case: &Case<'r>, left: &[Left<'r>]) -> Vec<Left<'r>> {
    let efforts = Efforts::of(case);
    let several = efforts.whole().filter(|effort| effort.attempts.len() > 1);
    let first: HashMap<_, _> = several
        .map(|effort| (effort.last().id, effort.first().started))
        .collect();
    let since = |left: &Left<'r>| {
        let ms = figures::ms(*first.get(&left.record.id)?, gave_up(left.record)?);
        let record = left.record;
        Some(Left { ms, record })
    };
    let mut all: Vec<_> = left.iter().filter_map(since).collect();
    if all.len() * 4 < left.len() * 3 {
        all.clear();
    }
    all
}

/// How long the caller waited without leaving: until the answer began, as far as that is known.
fn waited(record: &Record, case: &Case<'_>) -> Option<f64> {
    if gave_up(record).is_some() {
        return None;
    }
    let head = |phase| matches!(phase, Phase::Connect | Phase::Request | Phase::Response);
    let is_held = record.faults.iter().any(|f| f.injected && head(f.phase));
    let goes_on = matches!(
        record.client.outcome,
        Outcome::Waiting | Outcome::Answered | Outcome::Partial
    );
    let begun = record.upstream.iter().filter_map(|d| d.answered_at).min();
    let begun = begun.filter(|_| goes_on && !is_held);
    let until = begun.or(told(record)).unwrap_or(case.now);
    Some(figures::ms(record.started, until))
}

/// Attempts of which the caller had no need any more, since another one was answered or begun: these
/// tell nothing of how long it waits.
fn cut_short(case: &Case<'_>) -> HashSet<RecordId> {
    let mut alike: HashMap<_, Vec<&Record>> = HashMap::new();
    for record in &case.records {
        if let Some(identity) = &record.identity {
            let request = (&*record.proxy, &record.request.method, &record.request.path);
            let same = alike.entry((request, &*identity.value));
            same.or_default().push(record);
        }
    }
    let mut found = HashSet::new();
    for same in alike.values() {
        for (n, record) in same.iter().enumerate() {
            let near = &same[n.saturating_sub(4)..same.len().min(n + 5)];
            let others = || near.iter().filter(|other| other.id != record.id);
            let end = gave_up(record);
            let is_needless = end.is_some_and(|end| {
                others().any(|other| {
                    let at = told(other).map(|at| figures::ms(at, end).abs());
                    at.is_some_and(|ms| ms <= MOMENT) && !failed(other) && other.started <= end
                })
            });
            let named = record.identity.as_ref().is_some_and(|identity| {
                identity.strength == Strength::Strong || identity.by == By::TraceId
            });
            let moved_on = end.is_none()
                && named
                && others().any(|other| {
                    let end = told(record).unwrap_or(case.now);
                    other.started > record.started && figures::ms(other.started, end) > SLACK
                });
            if is_needless || moved_on {
                found.insert(record.id);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulated::{Habits, Met, World, at, near, noise};
    use super::*;

    fn habits(timeout: Option<f64>, noise: f64, seed: u64) -> Habits {
        Habits {
            timeout,
            noise,
            seed,
            ..Habits::default()
        }
    }

    proptest! {
        #[test]
        fn a_caller_that_leaves_after_a_time_has_one(
            timeout in 60.0..15_000.0_f64, noise in noise(), seed: u64, each in 1_usize..3,
        ) {
            let habits = habits(Some(timeout), noise, seed);
            let mut world = World::new(seed);
            world.one_by_one(&habits, 0..10, 50.0, |_, _| Met::Good);
            world.one_by_one(&habits, 10..15, 50.0, |_, attempt| {
                if attempt > each { Met::Good } else { Met::Lost }
            });
            let found = world.found("timeouts", 60_000.0);
            found.is(Verdict::Yes);
            near(found.figure("after_ms"), timeout, 0.0, 2.0 * noise + 2.0);
            prop_assert_eq!(found.figure("left") as usize, 5 * each);
        }

        #[test]
        fn a_busy_machine_does_not_hide_it(
            timeout in 800.0..15_000.0_f64, part in 0.0..0.12_f64, seed: u64, things in 3_usize..9,
        ) {
            // Both ends of each wait may be late by half of it.
            let habits = habits(Some(timeout), timeout * part, seed);
            let mut world = World::new(seed);
            world.one_by_one(&habits, 0..things, 50.0, |_, _| Met::Lost);
            let found = world.found("timeouts", 60_000.0);
            near(found.is(Verdict::Yes).figure("after_ms"), timeout, 0.07, 0.0);
        }

        #[test]
        fn a_caller_that_waits_and_waits_has_none(noise in noise(), seed: u64, things in 3_usize..9) {
            let habits = habits(None, noise, seed);
            let mut world = World::new(seed);
            world.at_intervals(&habits, 0..things, 300.0, |_, _| Met::Lost);
            world.found("timeouts", 7_000.0).is(Verdict::NotEnough);
            world.found("timeouts", 13_000.0).is(Verdict::No);
            // It is gone at last, all at once.
            world.ends = 30_000.0;
            world.records.clear();
            world.at_intervals(&habits, 0..things, 300.0, |_, _| Met::Lost);
            world.found("timeouts", 60_000.0).is(Verdict::NotEnough);
        }

        #[test]
        fn who_leaves_at_any_time_has_none(seed: u64) {
            let mut world = World::new(seed);
            for n in 0..60 {
                let timeout = 50.0 + 9_000.0 * (f64::from(n) * 0.618).fract();
                let habits = Habits { limit: Some(1), ..habits(Some(timeout), 3.0, seed) };
                world.operation(&habits, n as usize, f64::from(n) * 333.0, |_| Met::Lost);
            }
            world.found("timeouts", 60_000.0).is(Verdict::NotEnough);
        }
    }

    #[test]
    fn what_is_answered_at_once_says_nothing() {
        let mut world = World::new(1);
        world.one_by_one(&Habits::default(), 0..50, 10.0, |_, _| Met::Good);
        let found = world.found("timeouts", 60_000.0);
        assert_eq!(found.is(Verdict::NotEnough).word("after_ms"), "null");
    }

    #[test]
    fn several_timeouts_are_told_apart() {
        let mut world = World::new(1);
        for (n, timeout) in [500.0, 2000.0].into_iter().enumerate() {
            let habits = habits(Some(timeout), 4.0, 1);
            world.one_by_one(&habits, n * 9..n * 9 + 5 + n, 10.0, |_, _| Met::Lost);
        }
        let found = world.found("timeouts", 60_000.0);
        near(found.is(Verdict::Yes).figure("after_ms"), 2000.0, 0.0, 10.0);
        assert_eq!(found.detail["timeouts"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_time_for_all_attempts_is_one_too() {
        let mut world = World::new(1);
        for n in 0..8 {
            let start = n as f64 * 5_000.0;
            // Refused now and then, and left when the time for all of it is over.
            let habits = Habits {
                limit: Some(1),
                ..Habits::default()
            };
            world.operation(&habits, n, start, |_| Met::Refused(None));
            let begun = 150.0 * (n as f64 + 1.0);
            let rest = Habits {
                timeout: Some(2000.0 - begun),
                ..habits
            };
            world.operation(&rest, n, start + begun, |_| Met::Lost);
        }
        for n in 0..8 {
            world.records[n * 2 + 1].attempt = 2;
        }
        let found = world.found("timeouts", 60_000.0);
        near(found.is(Verdict::Yes).figure("after_ms"), 2000.0, 0.0, 10.0);
        assert_eq!(found.word("of"), "operation");
    }

    #[test]
    fn the_second_best_is_not_waited_for_and_has_not_timed_out() {
        let mut world = World::new(1);
        for n in 0..10 {
            let start = n as f64 * 1000.0;
            let one = Habits {
                limit: Some(1),
                timeout: Some(105.0),
                ..Habits::default()
            };
            world.operation(&one, n, start, |_| Met::Lost);
            world.operation(&one, n, start + 100.0, |_| Met::Good);
            world.records[n * 2 + 1].attempt = 2;
        }
        world.found("timeouts", 60_000.0).is(Verdict::NotEnough);
    }

    #[test]
    fn long_waits_within_a_longer_time_are_no_contradiction() {
        let mut world = World::new(1);
        world.one_by_one(&habits(Some(30_000.0), 3.0, 1), 0..4, 10.0, |_, _| {
            Met::Lost
        });
        for n in 0..4 {
            let mut slow = world.records[0].clone();
            slow.started = at(world.now + f64::from(n));
            slow.upstream[0].answered_at = Some(at(world.now + 12_000.0));
            slow.client.outcome = crate::evidence::Outcome::Answered;
            slow.class = crate::evidence::Class::Acknowledged;
            slow.client.ended_at = None;
            slow.client.at = Some(at(world.now + 12_001.0));
            slow.identity = None;
            world.records.push(slow);
        }
        let found = world.found("timeouts", 90_000.0);
        assert_eq!(found.is(Verdict::Yes).figure("waited"), 0.0);
        near(found.figure("longest_wait_ms"), 12_000.0, 0.0, 5.0);
    }
}

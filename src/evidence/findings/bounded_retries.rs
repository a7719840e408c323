//! `bounded_retries`: whether a caller stops trying, and what its trying does to the load.

use serde_json::{Value, json};

use super::attempt::{failed, told};
use super::case::Case;
use super::efforts::{Effort, Efforts, last_sign, waits};
use super::figures::{self, Samples, detail, rounded, share};
use super::load::{chain, load};
use super::{About, Finder, Judged, Verdict};
use crate::clock::Timestamp;

pub static FINDER: Finder = Finder {
    name: "bounded_retries",
    summary: "the caller stops trying after so many attempts, or so long",
    definition: "\
Judged from operations that failed. One was given up if nothing more came of it for twice the longest \
wait that was to be expected (the longest that was seen, times what the last ones grew by, 1 to 3, or 2 where that is not known; 1 s at \
least; what the last answer asked for, besides), and the caller was still there after that wait once. Of a caller \
that was never seen to retry, the silence is 10 s, and it was still there after 3 s.

`yes`: at least 5 operations were given up, and no other went past what those had at the most. `no`: \
there were more than 20 attempts at an operation, and more than at any that was given up (of operations \
that only look alike, there were 3 of these). `not_enough`: fewer than 5 were given up, and none went so far.

The bound is `attempts`, where three fifths of those given up that were retried had the same number of \
attempts, the highest; `time`, where they took the same time, within a quarter; else `other`. \
What a caller does each time that it is asked itself (by a request with the same name or trace) is \
counted apart. Requests that nothing tells apart (without a name or trace, and equal ones succeeded) \
are left out.

`detail`: `logical`, operations; `retried`, those of more than one attempt; `attempts`, in all; `worst`, \
the most at one; `amplification`, attempts by operations; `bound`, `attempts`, `time`, `other` or `none`; \
`limit` (attempts, the first included), `limit_ms`; `gave_up`; `hedged`, attempts that began while the one \
before was waited for; `unclear`, requests left out; `chain`, for each edge that carries the same names or \
traces its `from`, `to`, `attempts`, `operations`, `amplification`: each edge's counts all that the edges \
before it brought about; `rate_before`, `rate_during`: requests a second while most succeeded, and \
while most failed; `retry_share`, which part of the latter were retries; `storm`, whether the rate doubled \
and half of it were retries; `budget`, whether retries were no more than a quarter of first attempts then, \
though more failed. The last five need 3 seconds of each and 20 failures, and are `null` without.",
    about: About::Caller,
    judge,
};

/// Fewer that were given up show nothing.
const LEAST: usize = 5;
/// More attempts than this, without a bound that was seen, are too many.
const PILE: usize = 20;
/// So many of operations that only look alike.
const ALIKE: usize = 3;
/// The shortest silence that tells anything.
const SILENCE: f64 = 1_000.0;
/// How many waits before the same retry tell what they are.
const KNOWN: usize = 3;
/// The most that waits are expected to grow by.
const GROWTH: f64 = 3.0;
/// The silence of a caller that was never seen to retry, and for how long it must have lived on.
const NEVER: (f64, f64) = (10_000.0, 3_000.0);

fn judge(case: &Case<'_>) -> Judged {
    let efforts = Efforts::of(case);
    let silence = Silence::of(case, &efforts);
    let whole: Vec<_> = efforts.whole().collect();
    let gave_up: Vec<_> = whole
        .iter()
        .filter(|e| silence.gave_up(e))
        .copied()
        .collect();
    let most = gave_up.iter().map(|e| e.attempts.len()).max().unwrap_or(0);
    let piles: Vec<_> = efforts
        .each
        .iter()
        .filter(|effort| effort.attempts.len() > PILE.max(most))
        .collect();
    let is_pile = piles.iter().any(|effort| effort.is_named) || piles.len() >= ALIKE;
    let verdict = match (is_pile, gave_up.len() >= LEAST) {
        (true, _) => Verdict::No,
        (false, true) => Verdict::Yes,
        (false, false) => Verdict::NotEnough,
    };
    let bound = match verdict {
        Verdict::Yes => Bound::of(&gave_up),
        _ => Bound::None,
    };
    let attempts: usize = efforts.each.iter().map(|e| e.attempts.len()).sum();
    let worst = efforts.each.iter().max_by_key(|e| e.attempts.len());
    let telling = if is_pile {
        piles.first().copied()
    } else {
        gave_up.first().copied()
    };
    let mut figures = json!({
        "logical": efforts.each.len(),
        "retried": efforts.each.iter().filter(|e| e.attempts.len() > 1).count(),
        "attempts": attempts,
        "worst": worst.map_or(0, |effort| effort.attempts.len()),
        "amplification": share(attempts, efforts.each.len()),
        "bound": bound.word(),
        "limit": bound.limit(),
        "limit_ms": bound.limit_ms(),
        "gave_up": gave_up.len(),
        "hedged": efforts.each.iter().map(Effort::hedged).sum::<usize>(),
        "unclear": efforts.unclear,
        "chain": chain(case),
    });
    if let (Value::Object(all), Value::Object(load)) = (&mut figures, load(case, &efforts)) {
        all.extend(load);
    }
    Judged {
        verdict,
        detail: detail(figures),
        records: telling
            .or(worst)
            .into_iter()
            .flat_map(Effort::ids)
            .collect(),
    }
}

/// How long nothing must come before an operation counts as given up.
struct Silence {
    /// In milliseconds.
    needed: f64,
    /// For so long the caller must have lived on.
    alive: f64,
    last_sign: Timestamp,
    now: Timestamp,
}

impl Silence {
    fn of(case: &Case<'_>, efforts: &Efforts<'_>) -> Self {
        let longest = efforts.each.iter().flat_map(Effort::gaps).map(|gap| gap.ms);
        let longest = longest.fold(None, |most: Option<f64>, ms| {
            Some(most.map_or(ms, |m| m.max(ms)))
        });
        let gaps = efforts.gaps();
        let known = gaps
            .values()
            .map(|gaps| waits(gaps))
            .filter(|waits| waits.len() >= KNOWN);
        let medians: Vec<f64> = known.map(|waits| waits.median()).collect();
        let growth = match medians.as_slice() {
            [.., before, last] => (last / before.max(1.0)).clamp(1.0, GROWTH),
            _ => 2.0,
        };
        let (needed, alive) = match longest {
            Some(longest) => ((longest * growth * 2.0).max(SILENCE), longest * growth),
            None => NEVER,
        };
        Self {
            needed,
            alive,
            last_sign: last_sign(case),
            now: case.now,
        }
    }

    fn gave_up(&self, effort: &Effort<'_>) -> bool {
        let last = effort.last();
        let Some(told) = told(last).filter(|_| failed(last)) else {
            return false;
        };
        let asked = f64::from(last.client.retry_after.unwrap_or(0)) * 1000.0;
        figures::ms(told, self.now) >= self.needed + asked
            && figures::ms(told, self.last_sign) > self.alive + asked
    }
}

/// What ends the trying.
enum Bound {
    Attempts(usize),
    Time(f64),
    Other,
    None,
}

impl Bound {
    fn of(gave_up: &[&Effort<'_>]) -> Self {
        let retried: Vec<_> = gave_up.iter().filter(|e| e.attempts.len() > 1).collect();
        let Some(most) = retried.iter().map(|e| e.attempts.len()).max() else {
            return Self::Attempts(1);
        };
        let at_most = retried.iter().filter(|e| e.attempts.len() == most).count();
        if at_most * 5 >= retried.len() * 3 {
            return Self::Attempts(most);
        }
        let took = retried
            .iter()
            .filter_map(|e| Some(figures::ms(e.first().started, told(e.last())?)));
        let took: Samples = took.collect();
        if took.quantile(0.9) - took.quantile(0.1) <= took.median() / 4.0 {
            Self::Time(took.median())
        } else {
            Self::Other
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Attempts(_) => "attempts",
            Self::Time(_) => "time",
            Self::Other => "other",
            Self::None => "none",
        }
    }

    fn limit(&self) -> Option<usize> {
        match self {
            Self::Attempts(limit) => Some(*limit),
            _ => None,
        }
    }

    fn limit_ms(&self) -> Option<Value> {
        match self {
            Self::Time(ms) => Some(rounded(*ms)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulated::{Habits, Jitter, Key, Met, Spacing, World, near, noise};
    use super::*;

    fn spacing() -> impl Strategy<Value = Spacing> {
        prop_oneof![
            Just(Spacing::None),
            (20.0..300.0_f64).prop_map(Spacing::Fixed),
            (20.0..200.0_f64, 20.0..200.0_f64).prop_map(|(a, b)| Spacing::Linear(a, b)),
            (20.0..200.0_f64, 1.5..3.0_f64).prop_map(|(a, f)| Spacing::Exponential(a, f, 2000.0)),
        ]
    }

    fn jitter() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Half),
            Just(Jitter::Plus(50.0)),
        ]
    }

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![Just(Key::Stable), Just(Key::Missing), Just(Key::Changing)]
    }

    fn habits() -> impl Strategy<Value = Habits> {
        (spacing(), jitter(), key(), noise(), any::<u64>()).prop_map(
            |(spacing, jitter, key, noise, seed)| Habits {
                spacing,
                jitter,
                key,
                noise,
                seed,
                ..Habits::default()
            },
        )
    }

    fn bad(attempt: usize) -> Met {
        [Met::Refused(None), Met::Reset][attempt % 2]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_number_of_attempts_is_found(
            habits in habits(), limit in 2_usize..7, one_by_one: bool,
        ) {
            let habits = Habits { limit: Some(limit), ..habits };
            let mut world = World::new(habits.seed);
            world.one_by_one(&habits, 0..10, 100.0, |_, _| Met::Good);
            if one_by_one {
                world.one_by_one(&habits, 10..22, 30.0, |_, attempt| bad(attempt));
            } else {
                world.at_intervals(&habits, 10..40, 130.0, |_, attempt| bad(attempt));
            }
            world.one_by_one(&habits, 40..200, 100.0, |_, _| Met::Good);
            let found = world.found("bounded_retries", 60_000.0);
            found.is(Verdict::Yes);
            prop_assert_eq!(found.word("bound"), "attempts");
            prop_assert_eq!(found.figure("limit") as usize, limit);
            prop_assert_eq!(found.figure("worst") as usize, limit);
            let things = if one_by_one { 182 } else { 200 };
            let failed = if one_by_one { 12 } else { 30 };
            let amplification = (things + failed * (limit - 1)) as f64 / things as f64;
            near(found.figure("amplification"), amplification, 0.0, 0.01);
        }

        #[test]
        fn who_never_stops_has_no_bound(habits in habits(), one_by_one: bool) {
            let spacing = match habits.spacing {
                Spacing::Exponential(base, factor, _) => Spacing::Exponential(base, factor, 400.0),
                Spacing::Linear(start, _) => Spacing::Linear(start, 5.0),
                Spacing::None => Spacing::Fixed(15.0),
                other => other,
            };
            let habits = Habits { limit: None, spacing, ..habits };
            let mut world = World::new(habits.seed);
            world.one_by_one(&habits, 0..10, 100.0, |_, _| Met::Good);
            world.ends = world.now + if one_by_one { 50_000.0 } else { 14_000.0 };
            if one_by_one {
                // The first three come through in the end.
                world.one_by_one(&habits, 10..14, 30.0, |n, attempt| {
                    if attempt > 22 && n < 13 { Met::Good } else { Met::Refused(None) }
                });
            } else {
                world.at_intervals(&habits, 10..20, 30.0, |_, _| Met::Refused(None));
            }
            // Whether it goes on, or its process has ended meanwhile.
            for silence in [1.0, 60_000.0] {
                let found = world.found("bounded_retries", silence);
                found.is(Verdict::No);
                prop_assert_eq!(found.word("bound"), "none");
                prop_assert!(found.figure("worst") > 20.0);
            }
        }

        #[test]
        fn the_end_of_a_process_is_no_bound(habits in habits(), attempts in 2_usize..15) {
            let spacing = Spacing::Fixed(200.0);
            let habits = Habits { limit: None, spacing, ..habits };
            let mut world = World::new(habits.seed);
            world.one_by_one(&habits, 0..10, 100.0, |_, _| Met::Good);
            world.ends = world.now + 210.0 * attempts as f64;
            world.at_intervals(&habits, 10..30, 1.0, |_, _| Met::Refused(None));
            let found = world.found("bounded_retries", 60_000.0);
            prop_assert_ne!(found.verdict, Verdict::Yes, "{:?}", found);
        }

        #[test]
        fn a_time_for_all_of_it_is_found(seed: u64, noise in noise(), deadline in 1500.0..4000.0_f64) {
            let habits = Habits {
                spacing: Spacing::Exponential(30.0, 1.5, 200.0),
                jitter: Jitter::Full,
                limit: None,
                deadline: Some(deadline),
                noise,
                seed,
                ..Habits::default()
            };
            let mut world = World::new(seed);
            world.one_by_one(&habits, 0..12, 30.0, |_, attempt| bad(attempt));
            world.one_by_one(&habits, 12..60, 100.0, |_, _| Met::Good);
            let found = world.found("bounded_retries", 60_000.0);
            // All may have had the same number by chance.
            if found.is(Verdict::Yes).word("bound") == "time" {
                near(found.figure("limit_ms"), deadline, 0.1, 100.0);
            }
        }
    }

    #[test]
    fn who_never_retries_is_bounded_once_it_had_the_time() {
        let habits = Habits {
            limit: Some(1),
            ..Habits::default()
        };
        let mut world = World::new(1);
        world.one_by_one(&habits, 0..8, 100.0, |_, _| Met::Refused(None));
        world.one_by_one(&habits, 8..60, 100.0, |_, _| Met::Good);
        world
            .found("bounded_retries", 1_000.0)
            .is(Verdict::NotEnough);
        let found = world.found("bounded_retries", 6_000.0);
        assert_eq!(found.is(Verdict::Yes).figure("limit"), 1.0);
        assert_eq!(found.figure("amplification"), 1.0);
    }

    /// Nothing tells one from the other, and whoever does the same again may not be retrying.
    #[test]
    fn requests_that_are_all_alike_say_nothing() {
        let mut world = World::new(1);
        let habits = Habits {
            key: Key::Missing,
            limit: Some(1),
            ..Habits::default()
        };
        for n in 0..60 {
            let met = if n % 30 < 5 {
                Met::Good
            } else {
                Met::Refused(None)
            };
            world.operation(&habits, 7, f64::from(n) * 100.0, |_| met);
        }
        let mut attempt = 0;
        for record in &mut world.records {
            attempt = if failed(record) { attempt + 1 } else { 0 };
            record.attempt = attempt.max(1);
        }
        let found = world.found("bounded_retries", 60_000.0);
        assert_eq!(found.is(Verdict::NotEnough).figure("unclear"), 60.0);
    }

    /// Two services, each with three attempts: nine come through below, three for each that the
    /// second one is asked.
    #[test]
    fn a_chain_multiplies_and_each_has_its_own_bound() {
        let habits = Habits {
            noise: 1.0,
            spacing: Spacing::Fixed(50.0),
            ..Habits::default()
        };
        let (mut above, mut below) = (World::new(1), World::new(2));
        for n in 0..10 {
            let start = n as f64 * 3_000.0;
            for attempt in 0..3 {
                let asked = start + 800.0 * f64::from(attempt);
                let one = Habits {
                    limit: Some(1),
                    ..habits.clone()
                };
                above.operation(&one, n, asked, |_| Met::Good);
                let done = below.operation(&habits, n, asked + 5.0, |_| Met::Refused(None));
                let asked = above.records.last_mut().unwrap();
                asked.attempt = attempt + 1;
                asked.client.status = Some(502);
                asked.client.at = Some(super::super::simulated::at(done + 5.0));
            }
        }
        let mut all = above;
        for mut record in below.records {
            (record.from, record.to) = ("payment".into(), "bank".into());
            record.proxy = "bank".into();
            record.id.n += 1000;
            all.records.push(record);
        }
        all.now = 40_000.0;
        let found = super::super::judge(&all.records, super::super::simulated::at(90_000.0));
        let found: Vec<_> = found
            .iter()
            .filter(|f| f.finding == "bounded_retries")
            .collect();
        let [first, second] = found.as_slice() else {
            panic!("{found:#?}")
        };
        for (found, amplification) in [(first, 3.0), (second, 3.0)] {
            assert_eq!(found.is(Verdict::Yes).figure("limit"), 3.0);
            assert_eq!(found.figure("amplification"), amplification);
            let chain = found.detail["chain"].as_array().unwrap();
            let seen: Vec<_> = chain
                .iter()
                .map(|e| e["amplification"].as_f64().unwrap())
                .collect();
            assert_eq!(seen, [3.0, 9.0]);
        }
    }
}

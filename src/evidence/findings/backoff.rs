//! `backoff`: whether the waits before retries grow.

use serde_json::{Value, json};

use super::case::Case;
use super::efforts::{Efforts, Gap, waits};
use super::figures::{Samples, detail, line, ratio, rounded};
use super::{About, Finder, Judged, Verdict};
use super::{jitter, retry_after};

pub static FINDER: Finder = Finder {
    name: "backoff",
    summary: "the waits before retries grow",
    definition: "\
Judged from the waits before retries: from when the caller was told or gave up until the next attempt began, \
by the ordinal of the retry. Waits that an answer's `Retry-After` asked for and got are left out, and retries \
that began while the attempt before was still waited for. A first retry without a wait (less than 20 ms, and a \
fifth of the next) is left out too.

The first and the last ordinal with at least 3 waits are compared, each by the first quarter of its waits: what is late by chance \
is longer. Where they lie apart by more than the twentieth below which `jitter` says `no`, ordinals with at least 16 waits are compared, \
by what nine tenths do not reach; `s` is then half the way from what a tenth to what nine tenths do not reach, by the middle (the mean of all ordinals).

`yes`: the last is longer by a sixth and by 10 ms; where they lie apart, `exp(4 s / √n)` times as long or more (and by a quarter), \
`n` being the waits at the ordinal with fewer. `no`: it is not, and where they lie apart, a growth by half from each retry to the next \
would have shown: `n` is at least `(20 s / k)²` for `k` retries from the first to the last. `not_enough`: fewer waits.

`detail`: `spacing`, `none` (all middles below 20 ms), `fixed`, `linear` or `exponential`, whichever of the two is \
nearer to the waits up to where they grow no more (two of them are taken for exponential); `base_ms`, the middle of \
the first that grows; `factor`, by what each is longer than the one before, or `step_ms`, by how much; `cap_ms`, where they \
grow no more; `immediate`, retries without a wait before them; `medians_ms`, the middle of each ordinal; `gaps`, how many waits.",
    about: About::Caller,
    judge,
};

/// Fewer waits before the same retry show nothing.
const LEAST: usize = 3;
/// The same where they lie apart.
const LEAST_APART: usize = 16;
/// What is shorter is no wait.
const NONE: f64 = 20.0;

/// The waits before one retry.
struct Ordinal {
    n: usize,
    waits: Samples,
}

impl Ordinal {
    /// What is compared.
    fn figure(&self, apart: bool) -> f64 {
        // Of waits that are drawn up to some length, the longer tell that length best.
        self.waits.quantile(if apart { 0.9 } else { 0.25 })
    }

    /// By which part of the middle they lie apart.
    fn scatter(&self) -> f64 {
        self.waits.scatter() / self.waits.median().max(1.0)
    }
}

fn judge(case: &Case<'_>) -> Judged {
    let efforts = Efforts::of(case);
    let mut gaps = efforts.gaps();
    gaps.values_mut()
        .for_each(|gaps| gaps.retain(|gap| !was_asked_for(gap)));
    let all: Vec<_> = gaps
        .iter()
        .map(|(n, gaps)| Ordinal {
            n: *n,
            waits: waits(gaps),
        })
        .filter(|ordinal| ordinal.waits.len() >= LEAST)
        .collect();
    let immediate = immediate(&all);
    let spacing = Spacing::of(&all[immediate..]);
    let verdict = match spacing {
        None => Verdict::NotEnough,
        Some(Spacing::None | Spacing::Fixed) => Verdict::No,
        Some(Spacing::Linear { .. } | Spacing::Exponential { .. }) => Verdict::Yes,
    };
    let (word, factor, step, cap) = match &spacing {
        None => (None, None, None, None),
        Some(Spacing::None) => (Some("none"), None, None, None),
        Some(Spacing::Fixed) => (Some("fixed"), None, None, None),
        Some(Spacing::Linear { step, cap }) => (Some("linear"), None, Some(*step), *cap),
        Some(Spacing::Exponential { factor, cap }) => {
            (Some("exponential"), Some(*factor), None, *cap)
        }
    };
    let base = all.get(immediate).filter(|_| spacing.is_some());
    let longest = efforts.whole().max_by_key(|effort| effort.attempts.len());
    Judged {
        verdict,
        detail: detail(json!({
            "spacing": word,
            "base_ms": base.map(|first| rounded(first.waits.median())),
            "factor": factor.map(ratio),
            "step_ms": step.map(rounded),
            "cap_ms": cap.map(rounded),
            "immediate": immediate,
            "medians_ms": all.iter().map(|o| rounded(o.waits.median())).collect::<Vec<Value>>(),
            "gaps": gaps.values().map(Vec::len).sum::<usize>(),
        })),
        records: longest
            .into_iter()
            .flat_map(|effort| effort.ids())
            .collect(),
    }
}

/// Whether the server, not the caller, chose how long.
fn was_asked_for(gap: &Gap<'_>) -> bool {
    let asked = gap.before.client.retry_after.filter(|seconds| *seconds > 0);
    asked.is_some_and(|seconds| gap.ms >= f64::from(seconds) * 1000.0 - retry_after::TOLERANCE)
}

/// How many of the first retries come at once, before those that wait.
fn immediate(all: &[Ordinal]) -> usize {
    match all {
        [first, next, ..] => {
            let (first, next) = (first.waits.median(), next.waits.median());
            usize::from(first < NONE && first * 5.0 < next && next >= NONE)
        }
        _ => 0,
    }
}

/// How waits follow on each other.
#[derive(Debug, PartialEq)]
enum Spacing {
    None,
    Fixed,
    Linear { step: f64, cap: Option<f64> },
    Exponential { factor: f64, cap: Option<f64> },
}

impl Spacing {
    fn of(all: &[Ordinal]) -> Option<Self> {
        let apart = jitter::spread(all.iter().map(|ordinal| &ordinal.waits)) > jitter::LITTLE;
        let least = if apart { LEAST_APART } else { LEAST };
        let enough: Vec<_> = all.iter().filter(|o| o.waits.len() >= least).collect();
        let [first, .., last] = enough.as_slice() else {
            return None;
        };
        let (from, to) = (first.figure(apart), last.figure(apart));
        let chance = if apart { chance(&enough) } else { 0.0 };
        let grows = if apart {
            (to / from.max(1.0)).ln() >= chance.max(1.25_f64.ln())
        } else {
            to > from * 7.0 / 6.0 && to > from + 10.0
        };
        if !grows {
            let by_half = 1.5_f64.ln() * (last.n - first.n) as f64;
            if chance * 2.0 > by_half {
                return None;
            }
            let is_none = enough.iter().all(|o| o.waits.median() < NONE);
            return Some(if is_none { Self::None } else { Self::Fixed });
        }
        let points: Vec<_> = enough
            .iter()
            .map(|o| (o.n as f64, o.figure(apart)))
            .collect();
        let (rising, cap) = rising(&points, if apart { 1.2 } else { 1.05 });
        Some(Self::nearer(rising, cap))
    }

    /// The nearer of the two to these waits, of which there are two at least.
    fn nearer(points: &[(f64, f64)], cap: Option<f64>) -> Self {
        let logs: Vec<_> = points
            .iter()
            .map(|(n, ms)| (*n, ms.max(0.1).ln()))
            .collect();
        // Two points are on both.
        let (at_0, slope) = line(&logs).unwrap_or_default();
        let exponential = Self::Exponential {
            factor: slope.exp(),
            cap,
        };
        let Some((start, step)) = line(points).filter(|_| points.len() > 2) else {
            return exponential;
        };
        let off = |wait: &dyn Fn(f64) -> f64| {
            let off = points
                .iter()
                .map(|(n, ms)| (wait(*n).max(0.1) / ms.max(0.1)).ln().powi(2));
            off.sum::<f64>()
        };
        if off(&|n| start + step * n) < off(&|n| (at_0 + slope * n).exp()) {
            Self::Linear { step, cap }
        } else {
            exponential
        }
    }
}

/// By how much, as a logarithm, the longer of waits that are drawn alike may seem to differ: four times what
/// they do so on the average, or more.
fn chance(all: &[&Ordinal]) -> f64 {
    let scatter = all.iter().map(|ordinal| ordinal.scatter()).sum::<f64>() / all.len() as f64;
    let fewest = all
        .iter()
        .map(|ordinal| ordinal.waits.len())
        .min()
        .unwrap_or(1);
    4.0 * scatter / (fewest as f64).sqrt()
}

/// The waits up to where they grow no more, and what they are from there on.
fn rising(points: &[(f64, f64)], same: f64) -> (&[(f64, f64)], Option<f64>) {
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let first = points.iter().position(|point| point.1 * same >= most);
    match first {
        // Those before it, and the first that may be cut where there would be but one.
        Some(first) if first + 1 < points.len() => {
            let capped: Samples = points[first..].iter().map(|point| point.1).collect();
            (
                &points[..first.max(2).min(points.len())],
                Some(capped.median()),
            )
        }
        _ => (points, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::simulated::{Habits, Jitter, Met, World, near, noise};
    use super::super::{Finding, simulated};
    use super::*;

    fn seen(
        spacing: simulated::Spacing,
        jitter: Jitter,
        limit: usize,
        things: usize,
        (noise, seed): (f64, u64),
    ) -> Finding {
        let habits = Habits {
            spacing,
            jitter,
            limit: Some(limit),
            noise,
            seed,
            ..Habits::default()
        };
        let mut world = World::new(seed);
        world.one_by_one(&habits, 0..things, 50.0, |_, _| Met::Refused(None));
        world.found("backoff", 60_000.0)
    }

    fn drawn() -> impl Strategy<Value = (f64, u64)> {
        (noise(), any::<u64>())
    }

    proptest! {
        // What is drawn may seem to be anything, once in a thousand times: always the same draws.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn growth_without_chance_needs_few(
            base in 30.0..400.0_f64, factor in 1.4..4.0_f64, limit in 4_usize..7, things in 3_usize..9, drawn in drawn(),
        ) {
            let spacing = simulated::Spacing::Exponential(base, factor, f64::INFINITY);
            let found = seen(spacing, Jitter::None, limit, things, drawn);
            found.is(Verdict::Yes);
            near(found.figure("base_ms"), base, 0.02, 12.0);
            if base > 100.0 {
                prop_assert_eq!(found.word("spacing"), "exponential");
                near(found.figure("factor"), factor, 0.07, 0.0);
            }
        }

        #[test]
        fn growth_by_steps_is_told_from_growth_by_factors(
            start in 100.0..300.0_f64, part in 0.6..2.0_f64, limit in 5_usize..8, drawn in drawn(),
        ) {
            let step = start * part;
            let found = seen(simulated::Spacing::Linear(start, step), Jitter::None, limit, 5, drawn);
            prop_assert_eq!(found.is(Verdict::Yes).word("spacing"), "linear");
            near(found.figure("step_ms"), step, 0.1, 8.0);
            near(found.figure("base_ms"), start, 0.02, 12.0);
        }

        #[test]
        fn fixed_waits_do_not_grow(ms in 40.0..1000.0_f64, limit in 3_usize..8, things in 3_usize..9, drawn in drawn()) {
            let found = seen(simulated::Spacing::Fixed(ms), Jitter::None, limit, things, drawn);
            prop_assert_eq!(found.is(Verdict::No).word("spacing"), "fixed");
            near(found.figure("base_ms"), ms, 0.02, 12.0);
        }

        #[test]
        fn no_waits_do_not_grow(limit in 3_usize..8, things in 3_usize..9, drawn in drawn()) {
            let found = seen(simulated::Spacing::None, Jitter::None, limit, things, drawn);
            prop_assert_eq!(found.is(Verdict::No).word("spacing"), "none");
        }

        #[test]
        fn growth_is_seen_through_jitter(
            base in 60.0..300.0_f64, factor in 1.8..3.0_f64, limit in 4_usize..7, half: bool, drawn in drawn(),
        ) {
            let spacing = simulated::Spacing::Exponential(base, factor, f64::INFINITY);
            let jitter = if half { Jitter::Half } else { Jitter::Full };
            let found = seen(spacing, jitter, limit, 30, drawn);
            found.is(Verdict::Yes);
            let middle = if half { 0.75 } else { 0.5 } * base;
            near(found.figure("base_ms"), middle, 0.7, 12.0);
            if found.word("spacing") == "exponential" {
                near(found.figure("factor"), factor, 0.5, 0.0);
            }
        }

        #[test]
        fn jitter_is_not_taken_for_growth(ms in 60.0..500.0_f64, limit in 4_usize..7, half: bool, drawn in drawn()) {
            let jitter = if half { Jitter::Half } else { Jitter::Full };
            let found = seen(simulated::Spacing::Fixed(ms), jitter, limit, 20, drawn);
            prop_assert_ne!(found.verdict, Verdict::Yes, "{:?}", found);
            let found = seen(simulated::Spacing::Fixed(ms), jitter, limit, 120, drawn);
            prop_assert_eq!(found.is(Verdict::No).word("spacing"), "fixed");
        }

        #[test]
        fn a_cap_is_no_end_of_growth(base in 60.0..150.0_f64, drawn in drawn()) {
            let cap = base * 3.5;
            let found = seen(simulated::Spacing::Exponential(base, 2.0, cap), Jitter::None, 8, 5, drawn);
            prop_assert_eq!(found.is(Verdict::Yes).word("spacing"), "exponential");
            near(found.figure("factor"), 2.0, 0.12, 0.0);
            near(found.figure("cap_ms"), cap, 0.02, 12.0);
        }
    }

    #[test]
    fn too_few_waits_show_nothing() {
        let spacing = simulated::Spacing::Exponential(100.0, 2.0, 1e4);
        seen(spacing, Jitter::None, 4, 2, (3.0, 1)).is(Verdict::NotEnough);
        seen(spacing, Jitter::Full, 4, 8, (3.0, 1)).is(Verdict::NotEnough);
        seen(spacing, Jitter::None, 2, 50, (3.0, 1)).is(Verdict::NotEnough);
    }

    /// As urllib3 does: the first retry at once, and then ever later.
    #[test]
    fn a_first_retry_at_once_is_no_wait() {
        let mut world = World::new(1);
        for n in 0..6 {
            let mut start = n as f64 * 10_000.0;
            for (attempt, wait) in [0.0, 200.0, 400.0, 800.0, 0.0].into_iter().enumerate() {
                let one = Habits {
                    limit: Some(1),
                    ..Habits::default()
                };
                start = world.operation(&one, n, start, |_| Met::Refused(None)) + wait;
                world.records.last_mut().unwrap().attempt = attempt as u32 + 1;
            }
        }
        let found = world.found("backoff", 60_000.0);
        assert_eq!(found.is(Verdict::Yes).figure("immediate"), 1.0);
        near(found.figure("base_ms"), 200.0, 0.0, 10.0);
        near(found.figure("factor"), 2.0, 0.05, 0.0);
    }

    #[test]
    fn waits_that_the_server_chose_are_left_out() {
        let mut world = World::new(1);
        let habits = Habits {
            spacing: simulated::Spacing::Fixed(60.0),
            limit: Some(5),
            ..Habits::default()
        };
        world.one_by_one(&habits, 0..6, 50.0, |_, attempt| {
            Met::Refused((attempt > 2).then_some(1))
        });
        let found = world.found("backoff", 60_000.0);
        assert_eq!(found.is(Verdict::No).figure("gaps"), 12.0);
    }
}

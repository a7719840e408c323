//! `jitter`: whether the waits before the same retry differ on purpose.

use serde_json::{Value, json};

use super::case::Case;
use super::efforts::{Efforts, waits};
use super::figures::{self, Samples, detail, ratio, rounded};
use super::{About, Finder, Judged, Verdict};

pub static FINDER: Finder = Finder {
    name: "jitter",
    summary: "the waits before the same retry differ, so that callers do not come together",
    definition: "\
Judged from the waits before retries, as `backoff` is, for each ordinal of the retry with at least 8 of them: how far each \
lies from the middle of its ordinal, as a part of it (of 150 ms, where it is less). How far all of them lie apart is how far a tenth \
lies below the middle, or above it, whichever is less: what is late by chance lies on one side, and two sorts of waits leave \
one side empty.

`yes`: that is more than a tenth. `no`: less than a twentieth. `not_enough`: it is between these, since a busy machine may add as \
much; or there is no such ordinal. What a caller's machine adds that has far too much to do can't be told from jitter. Waits that \
`Retry-After` asked for count too.

`detail`: `spread`, half the way between those that a tenth lies below and above, by the middle (the median of these ordinals; of \
waits drawn from nothing up to some length 0.8, from half of it 0.27); `spread_ms`; `gaps`, how many waits; `ordinals`, how many had enough.",
    about: About::Caller,
    judge,
};

/// Fewer waits before the same retry show nothing.
const LEAST: usize = 8;
/// Waits that lie apart by less, as a part of them, were meant to be the same.
pub(super) const LITTLE: f64 = 0.05;
/// Those that lie apart by more were not.
const MUCH: f64 = 0.1;
/// A machine adds as much to a short wait as to a long one: in milliseconds.
const SHORT: f64 = 150.0;

/// How far the waits before retries lie apart, as a part of those before the same one.
pub(super) fn spread<'s>(ordinals: impl IntoIterator<Item = &'s Samples>) -> f64 {
    figures::spread(ordinals, SHORT)
}

fn judge(case: &Case<'_>) -> Judged {
    let efforts = Efforts::of(case);
    let gaps = efforts.gaps();
    let enough = gaps.values().filter(|gaps| gaps.len() >= LEAST);
    let ordinals: Vec<Samples> = enough.map(|gaps| waits(gaps)).collect();
    let verdict = match spread(&ordinals) {
        _ if ordinals.is_empty() => Verdict::NotEnough,
        spread if spread > MUCH => Verdict::Yes,
        spread if spread < LITTLE => Verdict::No,
        _ => Verdict::NotEnough,
    };
    let figure = |of: &dyn Fn(&Samples) -> f64| {
        let figures: Samples = ordinals.iter().map(of).collect();
        figures.median()
    };
    let known = |figure: Value| (!ordinals.is_empty()).then_some(figure);
    let widest = gaps.values().max_by_key(|gaps| gaps.len());
    let mut widest: Vec<_> = widest.into_iter().flatten().collect();
    widest.sort_by(|a, b| a.ms.total_cmp(&b.ms));
    let (first, last) = (widest.first(), widest.last());
    Judged {
        verdict,
        detail: detail(json!({
            "spread": known(ratio(figure(&|w| w.scatter() / w.median().max(1.0)))),
            "spread_ms": known(rounded(figure(&Samples::scatter))),
            "gaps": gaps.values().map(Vec::len).sum::<usize>(),
            "ordinals": ordinals.len(),
        })),
        records: first
            .into_iter()
            .chain(last)
            .map(|gap| gap.after.id)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::simulated::{Habits, Jitter, Met, Spacing, World, near, noise};
    use super::*;

    fn seen(
        spacing: Spacing,
        jitter: Jitter,
        things: usize,
        (noise, seed): (f64, u64),
    ) -> super::super::Finding {
        let habits = Habits {
            spacing,
            jitter,
            limit: Some(4),
            noise,
            seed,
            ..Habits::default()
        };
        let mut world = World::new(seed);
        world.one_by_one(&habits, 0..things, 50.0, |_, _| Met::Refused(None));
        world.found("jitter", 60_000.0)
    }

    fn spacing() -> impl Strategy<Value = Spacing> {
        prop_oneof![
            (100.0..600.0_f64).prop_map(Spacing::Fixed),
            (100.0..300.0_f64).prop_map(|base| Spacing::Exponential(base, 2.0, 1e9)),
        ]
    }

    fn drawn() -> impl Strategy<Value = (f64, u64)> {
        (noise(), any::<u64>())
    }

    proptest! {
        // What is drawn may seem to be anything, once in a thousand times: always the same draws.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn waits_that_are_drawn_differ(spacing in spacing(), full: bool, drawn in drawn()) {
            let jitter = if full { Jitter::Full } else { Jitter::Half };
            let found = seen(spacing, jitter, 25, drawn);
            found.is(Verdict::Yes);
            let spread = if full { 0.8 } else { 0.27 };
            near(found.figure("spread"), spread, 0.5, 0.0);
        }

        #[test]
        fn some_more_of_each_wait_is_enough(ms in 100.0..600.0_f64, part in 0.5..2.0_f64, drawn in drawn()) {
            let found = seen(Spacing::Fixed(ms), Jitter::Plus(ms * part), 25, drawn);
            found.is(Verdict::Yes);
        }

        #[test]
        fn what_a_busy_machine_adds_is_not_taken_for_jitter(
            ms in 300.0..1000.0_f64, part in 0.0..0.2_f64, seed: u64,
        ) {
            let found = seen(Spacing::Fixed(ms), Jitter::None, 16, (ms * part, seed));
            prop_assert_ne!(found.verdict, Verdict::Yes, "{:?}", found);
            if part < 0.08 {
                found.is(Verdict::No);
            }
        }

        #[test]
        fn what_the_machine_adds_is_no_jitter(spacing in spacing(), things in 8_usize..30, drawn in drawn()) {
            seen(spacing, Jitter::None, things, drawn).is(Verdict::No);
        }
    }

    #[test]
    fn two_sorts_of_waits_are_no_jitter() {
        let mut world = World::new(1);
        for n in 0..40 {
            let spacing = Spacing::Fixed(if n % 3 == 0 { 100.0 } else { 300.0 });
            let habits = Habits {
                spacing,
                ..Habits::default()
            };
            world.operation(&habits, n, n as f64 * 1000.0, |_| Met::Refused(None));
        }
        world.found("jitter", 60_000.0).is(Verdict::No);
    }

    #[test]
    fn few_waits_show_nothing() {
        let found = seen(Spacing::Fixed(100.0), Jitter::Full, 7, (3.0, 1));
        assert_eq!(found.is(Verdict::NotEnough).word("spread"), "null");
    }
}

//! `retry_after`: whether a caller waits as long as it is asked to.

use serde_json::json;

use super::case::Case;
use super::efforts::{Effort, Efforts};
use super::figures::{Samples, detail, rounded};
use super::{About, Finder, Judged, Verdict};

pub static FINDER: Finder = Finder {
    name: "retry_after",
    summary: "the caller waits as long as `Retry-After` asks before it tries again",
    definition: "\
Judged from retries after an answer with `Retry-After` of at least 1 s: whether the next attempt at the \
same began at least that long after the answer. 50 ms less is no less; a date is rounded down to whole seconds.

`yes`: of at least 3 such retries nine tenths waited so long. `no`: of at least 3, fewer did. \
`not_enough`: there were fewer; an operation that is not tried again says nothing.

`detail`: `asked`, such retries; `obeyed`, `ignored`; `asked_ms`, what was asked for (the median); \
`waited_ms`, how long they waited (the median), and `least_ms`, the shortest.",
    about: About::Caller,
    judge,
};

/// Fewer show nothing.
const LEAST: usize = 3;
/// Two clocks, and the way between them.
pub(super) const TOLERANCE: f64 = 50.0;

fn judge(case: &Case<'_>) -> Judged {
    let efforts = Efforts::of(case);
    let gaps = efforts.each.iter().flat_map(Effort::gaps);
    let asked: Vec<_> = gaps
        .filter_map(|gap| Some((gap.before.client.retry_after.filter(|s| *s > 0)?, gap)))
        .map(|(seconds, gap)| (f64::from(seconds) * 1000.0, gap))
        .collect();
    let (obeyed, ignored): (Vec<_>, Vec<_>) =
        asked.iter().partition(|(ms, gap)| gap.ms >= ms - TOLERANCE);
    let verdict = if asked.len() < LEAST {
        Verdict::NotEnough
    } else if obeyed.len() * 10 >= asked.len() * 9 {
        Verdict::Yes
    } else {
        Verdict::No
    };
    let wanted: Samples = asked.iter().map(|(ms, _)| *ms).collect();
    let waited: Samples = asked.iter().map(|(_, gap)| gap.ms).collect();
    let figure = |ms: f64| (!asked.is_empty()).then(|| rounded(ms));
    let telling = if verdict == Verdict::No {
        &ignored
    } else {
        &obeyed
    };
    Judged {
        verdict,
        detail: detail(json!({
            "asked": asked.len(),
            "obeyed": obeyed.len(),
            "ignored": ignored.len(),
            "asked_ms": figure(wanted.median()),
            "waited_ms": figure(waited.median()),
            "least_ms": figure(waited.least()),
        })),
        records: telling
            .iter()
            .flat_map(|(_, gap)| [gap.before.id, gap.after.id])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulated::{Habits, Met, Spacing, World, near, noise};
    use super::*;

    proptest! {
        #[test]
        fn who_waits_as_long_as_asked_obeys(
            seconds in 1_u32..9, own in 20.0..900.0_f64, obeys: bool, things in 2_usize..9, noise in noise(), seed: u64,
        ) {
            let spacing = Spacing::Fixed(own);
            let habits = Habits { spacing, obeys, limit: Some(3), noise, seed, ..Habits::default() };
            let mut world = World::new(seed);
            // The last attempt is asked too, and has none after it.
            world.one_by_one(&habits, 0..things, 50.0, |_, _| Met::Refused(Some(seconds)));
            let found = world.found("retry_after", 60_000.0);
            found.is(if obeys { Verdict::Yes } else { Verdict::No });
            prop_assert_eq!(found.figure("asked") as usize, things * 2);
            prop_assert_eq!(found.figure("asked_ms"), f64::from(seconds) * 1000.0);
            let waits = if obeys { f64::from(seconds) * 1000.0 } else { own };
            near(found.figure("waited_ms"), waits, 0.0, 12.0);
        }
    }

    #[test]
    fn who_was_not_asked_or_is_asked_to_come_at_once_says_nothing() {
        for asked in [None, Some(0)] {
            let mut world = World::new(1);
            world.one_by_one(&Habits::default(), 0..20, 50.0, |_, _| Met::Refused(asked));
            let found = world.found("retry_after", 60_000.0);
            assert_eq!(found.is(Verdict::NotEnough).figure("asked"), 0.0);
        }
    }

    #[test]
    fn one_in_ten_may_be_early() {
        for (early, verdict) in [(1, Verdict::Yes), (2, Verdict::No)] {
            let mut world = World::new(1);
            for n in 0..10 {
                let habits = Habits {
                    obeys: n >= early,
                    limit: Some(2),
                    ..Habits::default()
                };
                world.operation(&habits, n, n as f64 * 3000.0, |_| Met::Refused(Some(1)));
            }
            let found = world.found("retry_after", 60_000.0);
            assert_eq!(found.is(verdict).figure("ignored") as usize, early);
        }
    }
}

//! Whether a caller stops calling a service that fails.

use super::super::sample::{Micros, Seen, Window};
use crate::evidence::RecordId;

/// While a breaker is open, at most this share of the usual calls comes: those that look whether the
/// service is back.
const PROBES: f64 = 0.2;
/// Fewer calls a second before than this, and their absence shows nothing.
const USUAL: f64 = 1.0;

/// What was seen of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// It opened so long after the first failure; the records are the last calls before.
    After(Micros, Vec<RecordId>),
    /// Calls went on: so many a second, where before there were so many; the records are some of them.
    Never(f64, f64, Vec<RecordId>),
    /// It can't be said, and why.
    Unknown(&'static str),
}

/// When the calls of one edge ceased, after the first failure while faults were on. `before`: the
/// steady state; `during`: while faults were on; `within`: how long it may take.
#[must_use]
pub fn opened(seen: &[&Seen], before: Window, during: Window, within: Micros) -> Opened {
    let count = |window: Window| seen.iter().filter(|s| window.has(s.began)).count();
    let usual = match before.seconds() {
        seconds if seconds > 0.0 => count(before) as f64 / seconds,
        _ => 0.0,
    };
    if usual < USUAL {
        return Opened::Unknown("there were too few calls before to miss them");
    }
    let failed = seen.iter().filter(|s| s.failed && during.has(s.began));
    let Some(first) = failed
        .filter_map(|s| s.ended)
        .filter(|at| during.has(*at))
        .min()
    else {
        return Opened::Unknown("no call failed while faults were on");
    };
    let deadline = first.saturating_add(within);
    // As long a silence again as there were three usual calls in, or half a second: else it is none.
    let least = ((3.0 / usual * 1e6) as Micros).max(500_000);
    if during.to - deadline < least {
        return Opened::Unknown("the faults did not last long enough to see it");
    }
    let mut calls: Vec<_> = seen
        .iter()
        .filter(|s| s.began >= first && during.has(s.began))
        .collect();
    calls.sort_by_key(|s| (s.began, s.id));
    let most = |from: Micros| PROBES * usual * (during.to - from) as f64 / 1e6;
    // The earliest moment from which there are few: right after some call, or at once.
    let candidates = std::iter::once((0, first)).chain(
        calls
            .iter()
            .enumerate()
            .map(|(n, s)| (n + 1, s.began.saturating_add(1))),
    );
    for (n, from) in candidates {
        let left = calls.len() - n;
        if from > deadline {
            break;
        }
        if left as f64 <= most(from).max(1.0) {
            let last = calls[..n].iter().rev().take(5).map(|s| s.id).collect();
            return Opened::After(from - first, last);
        }
    }
    let late = Window {
        from: deadline,
        to: during.to,
    };
    let after: Vec<_> = calls.iter().filter(|s| late.has(s.began)).collect();
    let rate = after.len() as f64 / late.seconds();
    Opened::Never(rate, usual, after.iter().take(5).map(|s| s.id).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::sample::tests::seen;
    use super::*;

    const SECOND: Micros = 1_000_000;

    /// A caller that calls `rate` a second, whose calls fail from 10 s to 20 s; its breaker opens
    /// after `threshold` failures, and lets one call pass each `probe`.
    fn calls(rate: u32, breaker: Option<(usize, Micros)>) -> Vec<Seen> {
        let step = SECOND / i64::from(rate);
        let mut all = Vec::new();
        let (mut failures, mut next_probe) = (0, 0);
        for n in 0..20 * rate {
            let at = i64::from(n) * step;
            let failing = at >= 10 * SECOND;
            if let Some((threshold, probe)) = breaker
                && failures >= threshold
            {
                if at < next_probe {
                    continue;
                }
                next_probe = at + probe;
            }
            let mut one = seen(u64::from(n), at);
            if failing {
                one.failed = true;
                failures += 1;
                if breaker.is_some_and(|(threshold, _)| failures == threshold) {
                    next_probe = at + breaker.map_or(0, |(_, probe)| probe);
                }
            }
            all.push(one);
        }
        all
    }

    fn windows() -> (Window, Window) {
        let window = |from: i64, to: i64| Window {
            from: from * SECOND,
            to: to * SECOND,
        };
        (window(0, 10), window(10, 20))
    }

    proptest! {
        #[test]
        fn one_that_opens_is_seen_to(rate in 8u32..200, threshold in 1usize..20, probe in 1i64..5) {
            let all = calls(rate, Some((threshold, probe * SECOND)));
            let all: Vec<_> = all.iter().collect();
            let (before, during) = windows();
            let truth = threshold as i64 * SECOND / i64::from(rate);
            match opened(&all, before, during, 5 * SECOND) {
                Opened::After(took, _) => {
                    prop_assert!((took - truth).abs() <= SECOND * 2, "{} {}", took, truth);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn one_that_is_not_there_is_not_seen(rate in 2u32..200) {
            let all = calls(rate, None);
            let all: Vec<_> = all.iter().collect();
            let (before, during) = windows();
            let found = opened(&all, before, during, 5 * SECOND);
            prop_assert!(matches!(found, Opened::Never(..)), "{:?}", found);
        }
    }

    #[test]
    fn what_does_not_show_it() {
        let (before, during) = windows();
        let all = calls(10, None);
        let all: Vec<_> = all.iter().collect();
        let unknown = |found| matches!(found, Opened::Unknown(_));
        assert!(unknown(opened(&[], before, during, SECOND)));
        assert!(unknown(opened(&all, before, during, 30 * SECOND)));
        let well: Vec<_> = all.iter().copied().filter(|s| !s.failed).collect();
        assert!(unknown(opened(&well, before, during, SECOND)));
    }
}

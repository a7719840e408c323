//! How many answers were good, how many a second, and how long they took.

use hdrhistogram::Histogram;

use super::super::sample::{Op, Window};

/// Fewer operations than this say nothing about a share.
pub const LEAST: u64 = 10;

/// The good ones, and all, of those that should have begun in a window and are over.
#[must_use]
pub fn success<'o>(ops: impl IntoIterator<Item = &'o Op>, window: Window) -> (u64, u64) {
    let mut counted = (0, 0);
    for op in ops {
        if let Some(good) = op.good.filter(|_| window.has(op.at)) {
            counted.0 += u64::from(good);
            counted.1 += 1;
        }
    }
    counted
}

/// Good answers a second that were given in a window.
#[must_use]
pub fn goodput<'o>(ops: impl IntoIterator<Item = &'o Op>, window: Window) -> f64 {
    let given = |op: &&Op| op.good == Some(true) && op.ended.is_some_and(|at| window.has(at));
    let good = ops.into_iter().filter(given).count();
    let seconds = window.seconds();
    if seconds > 0.0 {
        good as f64 / seconds
    } else {
        0.0
    }
}

/// How long those took that should have begun in a window, in milliseconds.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// At 3 digits, up to an hour and more.
    fn new() -> Self {
        let made = Histogram::new(3);
        // An error is about the number of digits, and 3 is one of those that there may be.
        #[allow(clippy::expect_used)]
        Self(made.expect("3 digits can be had"))
    }

    /// Of how many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that this percentage does not exceed: 0 to 100, where 100 is the longest. A
    /// negative one means the mean.
    #[must_use]
    pub fn at(&self, percentile: f64) -> f64 {
        if percentile < 0.0 {
            return self.0.mean() / 1e3;
        }
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }
}

/// Measured from when they should have begun, so that a stall counts for all that it kept waiting;
/// what was given up counts with how long it was waited for.
#[must_use]
pub fn latency<'o>(ops: impl IntoIterator<Item = &'o Op>, window: Window) -> Latency {
    let mut latency = Latency::new();
    for op in ops {
        if let Some(took) = op.took().filter(|_| window.has(op.at)) {
            // It grows as it must; there is no time that it could not hold.
            let _ = latency.0.record(took as u64);
        }
    }
    latency
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let one = (0i64..1_000_000, 0i64..500_000, any::<Option<bool>>());
        let op = one.prop_map(|(at, took, good)| Op {
            at,
            ended: good.map(|_| at + took),
            good,
        });
        prop::collection::vec(op, 0..200)
    }

    proptest! {
        /// What falls into two halves falls into the whole, and nothing is counted twice.
        #[test]
        fn windows_add_up(ops in ops(), cut in 0i64..1_000_000) {
            let [a, b, all] = [(0, cut), (cut, 2_000_000), (0, 2_000_000)]
                .map(|(from, to)| Window { from, to });
            let (first, second, whole) = (success(&ops, a), success(&ops, b), success(&ops, all));
            prop_assert_eq!((first.0 + second.0, first.1 + second.1), whole);
            prop_assert!(whole.0 <= whole.1 && whole.1 <= ops.len() as u64);
            let rates = goodput(&ops, a) * a.seconds() + goodput(&ops, b) * b.seconds();
            prop_assert!((rates - goodput(&ops, all) * all.seconds()).abs() < 1e-6);
            prop_assert_eq!(latency(&ops, a).count() + latency(&ops, b).count(), latency(&ops, all).count());
        }

        /// Percentiles are those of the sorted list, within three digits.
        #[test]
        fn percentiles_are_right(ops in ops(), percentile in 1.0f64..100.0) {
            let window = Window { from: 0, to: 2_000_000 };
            let mut took: Vec<_> = ops.iter().filter_map(Op::took).collect();
            took.sort_unstable();
            let latency = latency(&ops, window);
            prop_assume!(!took.is_empty());
            let rank = (percentile / 100.0 * took.len() as f64).ceil() as usize;
            let exact = took[rank.clamp(1, took.len()) - 1] as f64 / 1e3;
            let said = latency.at(percentile);
            prop_assert!((said - exact).abs() <= exact * 0.002 + 0.002, "{} {}", said, exact);
            prop_assert!(latency.at(100.0) >= latency.at(50.0));
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let window = Window { from: 0, to: 0 };
        assert_eq!((success(&[], window), goodput(&[], window)), ((0, 0), 0.0));
        assert_eq!(latency(&[], window).count(), 0);
    }
}

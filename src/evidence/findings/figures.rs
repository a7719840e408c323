//! What several findings draw from samples: the middle, how far they lie apart, where they gather,
//! how they grow. Everything is robust: a stall of the machine moves no verdict.

use serde_json::{Map, Value};

use crate::clock::Timestamp;

/// Samples in their order. All are finite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        let mut all: Vec<f64> = samples.into_iter().filter(|s| s.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }
}

impl Samples {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that the share `q` of them lies below, between two where it falls there; of none, 0.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return 0.0;
        };
        let at = q.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (self.0[at.floor() as usize], self.0[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }

    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(super) fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(super) fn greatest(&self) -> f64 {
        self.quantile(1.0)
    }

    /// From the least to the greatest.
    pub(super) fn width(&self) -> f64 {
        self.greatest() - self.least()
    }

    /// Half the way between those that a tenth lies below and above.
    pub(super) fn scatter(&self) -> f64 {
        (self.quantile(0.9) - self.quantile(0.1)) / 2.0
    }

    /// The same on the side of the middle where they lie closer: what is late by chance lies on one
    /// side, and two groups leave one side empty.
    pub(super) fn spread(&self) -> f64 {
        let middle = self.median();
        (middle - self.quantile(0.1)).min(self.quantile(0.9) - middle)
    }

    /// Where they gather: the `most` fullest groups, in the order of their values, each of at least
    /// `least` that lie within `tolerance` of their smallest one.
    pub(super) fn clusters(
        &self,
        most: usize,
        least: usize,
        tolerance: impl Fn(f64) -> f64,
    ) -> Vec<Self> {
        let mut rest = self.0.clone();
        let mut found: Vec<Self> = Vec::new();
        while found.len() < most {
            let (mut best, mut to) = (0..0, 0);
            for from in 0..rest.len() {
                let end = rest[from] + tolerance(rest[from]);
                while to < rest.len() && rest[to] <= end {
                    to += 1;
                }
                if to - from > best.len() {
                    best = from..to;
                }
            }
            if best.len() < least.max(1) {
                break;
            }
            found.push(Self(rest.drain(best).collect()));
        }
        found.sort_by(|a, b| a.least().total_cmp(&b.least()));
        found
    }
}

/// How far samples lie from the middle of their group, as a part of it or of `least`, whichever is more; on
/// the side where they lie closer, as in [`Samples::spread`].
pub(super) fn spread<'s>(groups: impl IntoIterator<Item = &'s Samples>, least: f64) -> f64 {
    let off = groups.into_iter().flat_map(|group| {
        let middle = group.median();
        let from_it = move |sample: &f64| (sample - middle) / middle.max(least);
        group.0.iter().map(from_it)
    });
    off.collect::<Samples>().spread()
}

/// The straight line that is nearest to these points: where it is at 0, and its slope. `None`: there
/// is none, or any.
pub(super) fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let across: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let along: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = across / along;
    slope.is_finite().then_some((y - slope * x, slope))
}

/// The figures of a finding, from an object.
pub(super) fn detail(figures: Value) -> Map<String, Value> {
    match figures {
        Value::Object(detail) => detail,
        _ => Map::new(),
    }
}

/// Milliseconds from one moment to another; negative if that is earlier.
pub(super) fn ms(from: Timestamp, to: Timestamp) -> f64 {
    (i128::from(to.0) - i128::from(from.0)) as f64 / 1000.0
}

/// Milliseconds as a figure: to a tenth.
pub(super) fn rounded(ms: f64) -> Value {
    ((ms * 10.0).round() / 10.0).into()
}

/// A ratio as a figure: to a hundredth.
pub(super) fn ratio(ratio: f64) -> Value {
    ((ratio * 100.0).round() / 100.0).into()
}

/// Some of all, or so many for each, as a figure; of none, `null`.
pub(super) fn share(some: usize, of: usize) -> Value {
    if of == 0 {
        Value::Null
    } else {
        ratio(some as f64 / of as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn quantiles_lie_between_samples() {
        let four = samples(&[40.0, 10.0, f64::NAN, 30.0, 20.0, f64::INFINITY]);
        assert_eq!(four.len(), 4);
        assert_eq!((four.median(), four.width()), (25.0, 30.0));
        assert_eq!((four.quantile(0.0), four.quantile(7.0)), (10.0, 40.0));
        let none = Samples::default();
        assert_eq!((none.median(), none.spread()), (0.0, 0.0));
    }

    #[test]
    fn what_is_late_by_chance_is_no_spread_and_two_groups_are_none() {
        let late = samples(&[100.0, 100.0, 100.0, 101.0, 101.0, 102.0, 180.0, 400.0]);
        assert!(late.spread() < 2.0, "{}", late.spread());
        let two = samples(&[100.0, 100.0, 100.0, 300.0, 300.0, 300.0, 300.0]);
        assert_eq!(two.spread(), 0.0);
        let wide: Samples = (0..=100).map(f64::from).collect();
        assert_eq!(wide.spread(), 40.0);
    }

    #[test]
    fn groups_spread_by_what_they_have_in_common() {
        let group = |middle: f64| samples(&[0.8, 0.9, 1.0, 1.1, 1.2].map(|part| middle * part));
        let far = |least| spread(&[group(100.0), group(400.0)], least);
        assert!((far(0.0) - 0.2).abs() < 1e-9, "{}", far(0.0));
        assert!(far(300.0) < 0.15, "{}", far(300.0));
        assert_eq!(spread(&[], 1.0), 0.0);
    }

    #[test]
    fn samples_gather_where_most_of_them_are() {
        let waits = samples(&[500.0, 990.0, 1000.0, 1010.0, 2000.0, 2010.0, 2020.0, 2021.0]);
        let found = waits.clusters(9, 3, |ms| ms / 20.0);
        let found: Vec<_> = found.iter().map(|c| (c.len(), c.median())).collect();
        assert_eq!(found, [(3, 1000.0), (4, 2015.0)]);
    }

    #[test]
    fn the_nearest_line() {
        let (at_0, slope) = line(&[(1.0, 3.0), (2.0, 5.0), (3.0, 7.0)]).unwrap();
        assert!((at_0 - 1.0).abs() < 1e-9 && (slope - 2.0).abs() < 1e-9);
        assert_eq!(line(&[]), None);
        assert_eq!(line(&[(1.0, 3.0)]), None);
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_cluster_or_none(
            values in prop::collection::vec(0.0..1e4_f64, 0..60),
            least in 1_usize..5,
        ) {
            let all = samples(&values);
            let found = all.clusters(usize::MAX, least, |ms| ms / 10.0);
            prop_assert!(found.iter().all(|c| c.len() >= least && c.width() <= c.least() / 10.0));
            let held: usize = found.iter().map(Samples::len).sum();
            prop_assert!(held <= all.len());
            if least == 1 {
                prop_assert_eq!(held, all.len());
            }
        }
    }
}

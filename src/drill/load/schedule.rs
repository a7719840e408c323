//! When requests are due: by rate, by stages, evenly or as chance has it.

use std::time::Duration;

use crate::config::drill::{Arrivals, Stage};
use crate::seed::Draw;

/// The moments at which requests are due, from the beginning of the load, without an end.
#[derive(Debug, Clone)]
pub struct Schedule {
    stages: Vec<Stage>,
    arrivals: Arrivals,
    draw: Draw,
    /// How many are due before the next, as a number that need not be whole.
    due: f64,
    /// The stage in which the next lies, when it began, and how many were due before it.
    stage: usize,
    began: f64,
    before: f64,
}

impl Schedule {
    /// Of these stages; the last rate goes on.
    #[must_use]
    pub fn new(stages: &[Stage], arrivals: Arrivals, seed: u64) -> Self {
        Self {
            stages: stages.to_vec(),
            arrivals,
            draw: Draw::new(seed, "drill/arrivals", 0, 1),
            due: 0.0,
            stage: 0,
            began: 0.0,
            before: 0.0,
        }
    }

    /// When so many are due, `due` being more than all before; `None`: never.
    fn moment(&mut self) -> Option<f64> {
        loop {
            let stage = self.stages.get(self.stage).copied();
            let Some(Stage { lasts, from, to }) = stage else {
                // Past the last stage its rate holds.
                let rate = self.stages.last()?.to;
                let left = self.due - self.before;
                return (rate > 0.0).then(|| self.began + left / rate);
            };
            let Some(lasts) = lasts.map(|lasts| lasts.as_secs_f64()) else {
                let left = self.due - self.before;
                return (from > 0.0).then(|| self.began + left / from);
            };
            let all = (from + to) / 2.0 * lasts;
            if self.due < self.before + all {
                return Some(self.began + within(from, to, lasts, self.due - self.before));
            }
            self.began += lasts;
            self.before += all;
            self.stage += 1;
        }
    }
}

/// After how many seconds of a stage so many are due: its rate goes evenly from one to the other.
fn within(from: f64, to: f64, lasts: f64, due: f64) -> f64 {
    let slope = (to - from) / lasts;
    if slope.abs() < 1e-12 {
        return due / from;
    }
    // The root of slope/2 t² + from t = due, in the form that does not cancel.
    let root = (from * from + 2.0 * slope * due).max(0.0).sqrt();
    (2.0 * due / (from + root)).min(lasts)
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // What comes by chance comes after a time of its own; what comes evenly begins at once.
        let gap = match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => -(1.0 - self.draw.unit()).ln(),
        };
        if self.arrivals == Arrivals::Poisson {
            self.due += gap;
        }
        let moment = self.moment()?;
        if self.arrivals == Arrivals::Constant {
            self.due += gap;
        }
        Duration::try_from_secs_f64(moment).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stage(lasts: f64, from: f64, to: f64) -> Stage {
        Stage {
            lasts: Some(Duration::from_secs_f64(lasts)),
            from,
            to,
        }
    }

    fn until(stages: &[Stage], arrivals: Arrivals, seconds: f64) -> Vec<f64> {
        let schedule = Schedule::new(stages, arrivals, 7);
        let moments = schedule.map(|at| at.as_secs_f64());
        moments.take_while(|at| *at < seconds).collect()
    }

    #[test]
    fn evenly_is_evenly() {
        let one = [Stage {
            lasts: None,
            from: 4.0,
            to: 4.0,
        }];
        assert_eq!(
            until(&one, Arrivals::Constant, 1.1),
            [0.0, 0.25, 0.5, 0.75, 1.0]
        );
        assert!(until(&[stage(1.0, 0.0, 0.0)], Arrivals::Constant, 9.0).is_empty());
    }

    #[test]
    fn the_last_rate_goes_on() {
        let stages = [stage(2.0, 10.0, 10.0), stage(2.0, 10.0, 30.0)];
        let moments = until(&stages, Arrivals::Constant, 6.0);
        let count = |from: f64, to: f64| {
            let inside = moments.iter().filter(|at| (from..to).contains(*at));
            inside.count()
        };
        assert_eq!((count(0.0, 2.0), count(2.0, 4.0)), (20, 40));
        assert_eq!(count(4.0, 6.0), 60);
        // Rising: fewer in the first half of the ramp than in the second.
        assert_eq!((count(2.0, 3.0), count(3.0, 4.0)), (15, 25));
    }

    /// The gaps of a Poisson process are exponential: held against the distribution
    /// (Kolmogorov-Smirnov, at a level that a fixed seed passes or fails for ever).
    #[test]
    fn chance_is_poissons() {
        let rate = 200.0;
        let one = [Stage {
            lasts: None,
            from: rate,
            to: rate,
        }];
        let moments = until(&one, Arrivals::Poisson, 100.0);
        let n = moments.len() as f64;
        assert!((n - 20_000.0).abs() < 5.0 * 20_000f64.sqrt(), "{n}");
        let mut gaps: Vec<_> = moments.windows(2).map(|two| two[1] - two[0]).collect();
        gaps.sort_by(f64::total_cmp);
        let all = gaps.len() as f64;
        let far = gaps.iter().enumerate().map(|(k, gap)| {
            let expected = 1.0 - (-rate * gap).exp();
            (expected - k as f64 / all).abs()
        });
        let far = far.fold(0.0, f64::max);
        assert!(far < 1.95 / all.sqrt(), "{far}");
        // And no gap tells of the next.
        let mean = 1.0 / rate;
        let gaps: Vec<_> = moments.windows(2).map(|two| two[1] - two[0]).collect();
        let both = gaps.windows(2).map(|two| (two[0] - mean) * (two[1] - mean));
        let correlation = both.sum::<f64>() / gaps.len() as f64 / (mean * mean);
        assert!(correlation.abs() < 5.0 / all.sqrt(), "{correlation}");
    }

    proptest! {
        /// Moments never go back, and each stage has as many as it should.
        #[test]
        fn stages_have_what_they_say(
            stages in prop::collection::vec((0.5f64..5.0, 0.0f64..200.0, 0.0f64..200.0), 1..5),
            poisson in any::<bool>(),
        ) {
            let stages: Vec<_> = stages.iter().map(|(lasts, from, to)| stage(*lasts, *from, *to)).collect();
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let lasts: f64 = stages.iter().map(|s| s.lasts.unwrap().as_secs_f64()).sum();
            let moments = until(&stages, arrivals, lasts);
            prop_assert!(moments.windows(2).all(|two| two[0] <= two[1]));
            let mut from = 0.0;
            for stage in &stages {
                let to = from + stage.lasts.unwrap().as_secs_f64();
                let due = (stage.from + stage.to) / 2.0 * (to - from);
                let is = moments.iter().filter(|at| (from..to).contains(*at)).count() as f64;
                let most = if poisson { 6.0 * due.sqrt() + 3.0 } else { 1.01 };
                prop_assert!((is - due).abs() <= most, "{} {}", is, due);
                from = to;
            }
        }
    }
}

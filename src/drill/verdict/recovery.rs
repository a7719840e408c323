//! Whether all is well again, since when, and what keeps it from being so.

use super::super::sample::{Micros, Op, Window};
use super::Recovery;
use super::rates::{LEAST, goodput, latency, success};

/// When what was watched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watch {
    /// The steady state.
    pub before: Window,
    /// While faults were on.
    pub during: Window,
    /// When the last fault was lifted.
    pub healed: Micros,
    /// Until when it was watched.
    pub end: Micros,
    /// It must stay well for so long.
    pub hold: Micros,
    /// Well is at least this share of what was well before.
    pub goodput: f64,
}

impl Watch {
    /// The end of it, by which is judged how it is left.
    #[must_use]
    pub fn tail(&self) -> Window {
        let third = (self.end - self.healed) / 3;
        Window {
            from: (self.end - third.max(self.hold)).max(self.healed),
            to: self.end,
        }
    }
}

/// What is judged: one load, or what crossed one edge.
#[derive(Debug, Clone, Copy)]
pub struct Course<'o> {
    /// What was asked for, in whatever order.
    pub ops: &'o [Op],
    /// Whether it was asked for from outside; within a system more or less is asked of one part
    /// because another one is ill.
    pub outside: bool,
    /// How many calls one operation costs, before and at the end of the watch, at the edge where that
    /// grew most; `None`: not known.
    pub amplified: Option<(f64, f64)>,
}

/// How much was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Offered {
    /// A second, before.
    pub before: f64,
    /// A second, since the faults were lifted.
    pub after: f64,
}

/// How well it was over a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Well {
    /// Of how many operations.
    pub operations: u64,
    /// The share that came out well, and about as quickly as before.
    pub share: f64,
    /// Good answers a second.
    pub goodput: f64,
    /// The median of how long they took, in milliseconds.
    pub p50: f64,
    /// What 99 of 100 did not exceed.
    pub p99: f64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Recovery,
    /// Why, in a sentence.
    pub reason: String,
    /// Whether there was anything to recover from: while faults were on more went wrong than before.
    pub noticed: bool,
    /// From the lifting to the first good answer.
    pub first_good: Option<Micros>,
    /// From the lifting until all was well, and stayed so.
    pub steady: Option<Micros>,
    /// How much was asked for.
    pub offered: Offered,
    /// Before, while faults were on, and at the end of the watch.
    pub well: [Well; 3],
}

/// How much more or less may be asked for and still be the same.
const SAME: f64 = 0.2;
/// So many times as many calls for an operation are a storm of retries, and so many more at least.
const STORM: (f64, f64) = (1.25, 0.1);
/// Slow is what takes so many times as long as 99 of 100 did before, and a tenth of a second more.
const SLOW: f64 = 3.0;
/// Worse is a share that is less by so much.
const WORSE: f64 = 0.02;

/// What is well: good, and not slow.
#[derive(Debug, Clone, Copy)]
struct Bar {
    slow: Micros,
}

impl Bar {
    fn of(ops: &[Op], before: Window) -> Self {
        let usual = latency(ops, before).at(99.0);
        let slow = (usual * SLOW + 100.0) * 1e3;
        Self {
            slow: slow as Micros,
        }
    }

    fn passes(self, op: &Op) -> Option<bool> {
        let quick = op.took().is_none_or(|took| took <= self.slow);
        op.good.map(|good| good && quick)
    }

    fn well(self, ops: &[Op], window: Window) -> Well {
        let judged = ops.iter().map(|op| Op {
            good: self.passes(op),
            ..*op
        });
        let judged: Vec<_> = judged.collect();
        let (good, all) = success(&judged, window);
        let latency = latency(ops, window);
        Well {
            operations: all,
            share: if all > 0 {
                good as f64 / all as f64
            } else {
                0.0
            },
            goodput: goodput(ops, window),
            p50: latency.at(50.0),
            p99: latency.at(99.0),
        }
    }
}

/// Judges a course.
#[must_use]
pub fn recovery(course: &Course<'_>, watch: &Watch) -> Judged {
    let ops = course.ops;
    let bar = Bar::of(ops, watch.before);
    let after = Window {
        from: watch.healed,
        to: watch.end,
    };
    let well = [watch.before, watch.during, watch.tail()].map(|window| bar.well(ops, window));
    let [before, during, last] = &well;
    let offered = Offered {
        before: rate(ops, watch.before),
        after: rate(ops, after),
    };
    let answered = ops.iter().filter(|op| op.good == Some(true));
    let answered = answered
        .filter_map(|op| op.ended)
        .filter(|at| after.has(*at));
    let first_good = answered.min().map(|at| at - watch.healed);
    let enough = WORSE.max(2.5 / during.operations.max(1) as f64);
    let noticed = during.operations > 0 && during.share < before.share - enough;
    let needed = watch.goodput * before.share;
    let steady = steady(ops, bar, needed, watch, offered.before);

    let (verdict, reason) = if before.operations < LEAST {
        let seen = before.operations;
        let reason = format!("{seen} operations before are too few to compare with");
        (Recovery::Inconclusive, reason)
    } else if let Some(at) = steady {
        let held = Window {
            from: at,
            to: at.saturating_add(watch.hold),
        };
        if course.outside && is_less(offered.before, rate(ops, held), held) {
            let reason = "it is well, but less was asked of it than before";
            (Recovery::Inconclusive, reason.to_owned())
        } else if noticed {
            (
                Recovery::Recovered,
                "as well as before, and stays so".to_owned(),
            )
        } else {
            (Recovery::Recovered, "it was well all the time".to_owned())
        }
    } else if last.operations == 0 {
        (
            Recovery::Inconclusive,
            "nothing was asked of it any more".to_owned(),
        )
    } else if course.outside && is_other(offered, after) {
        let reason = format!(
            "not well, but {} a second were asked for, {} before: the load moved",
            short(offered.after),
            short(offered.before)
        );
        (Recovery::Inconclusive, reason)
    } else {
        let share = format!(
            "{} of {} operations come out well, {} before",
            percent(last.share),
            last.operations,
            percent(before.share)
        );
        match course.amplified {
            Some((was, is)) if is >= was * STORM.0 && is >= was + STORM.1 => {
                let storm = format!(
                    "the faults are gone and the load is the same, yet {share}, and each costs {} calls, {} before",
                    short(is),
                    short(was)
                );
                (Recovery::Metastable, storm)
            }
            _ => (Recovery::Degraded, share),
        }
    };
    Judged {
        verdict,
        reason,
        noticed,
        first_good,
        steady: steady.map(|at| at - watch.healed),
        offered,
        well,
    }
}

/// Since when it has been well for `hold`: the first operation from which on, however few or many of
/// the following are looked at, the share of those that are well is as needed.
fn steady(ops: &[Op], bar: Bar, needed: f64, watch: &Watch, usual: f64) -> Option<Micros> {
    let due = |op: &&Op| op.at >= watch.healed && op.at < watch.end;
    let judged = ops
        .iter()
        .filter(due)
        .filter_map(|op| Some((op.at, bar.passes(op)?)));
    let mut judged: Vec<(Micros, bool)> = judged.collect();
    judged.sort_unstable();
    let least = (usual * watch.hold as f64 / 1e6 * 0.3).max(3.0) as usize;
    let mut first = 0;
    while let Some(&(from, _)) = judged.get(first) {
        if from.saturating_add(watch.hold) > watch.end {
            return None;
        }
        let (mut all, mut well) = (0usize, 0usize);
        let mut fell = None;
        for (n, &(at, good)) in judged.iter().enumerate().skip(first) {
            if at - from >= watch.hold {
                break;
            }
            all += 1;
            well += usize::from(good);
            if (well as f64) < needed * all as f64 {
                fell = Some(n);
                break;
            }
        }
        match fell {
            // Whatever begins before the one at which it fell, falls there at the latest: up to it
            // none was below what is needed, so the rest is the worse without.
            Some(n) => first = n + 1,
            None if all >= least => return Some(from),
            None => first += 1,
        }
    }
    None
}

fn rate(ops: &[Op], window: Window) -> f64 {
    let count = ops.iter().filter(|op| window.has(op.at)).count();
    match window.seconds() {
        seconds if seconds > 0.0 => count as f64 / seconds,
        _ => 0.0,
    }
}

/// What chance does to a rate over a window.
fn noise(rate: f64, window: Window) -> f64 {
    match window.seconds() {
        seconds if seconds > 0.0 => 3.0 * (rate * seconds).sqrt() / seconds,
        _ => rate,
    }
}

fn is_less(before: f64, after: f64, window: Window) -> bool {
    after < before * (1.0 - SAME) - noise(before, window)
}

fn is_other(offered: Offered, after: Window) -> bool {
    let most = offered.before * SAME + noise(offered.before, after);
    (offered.after - offered.before).abs() > most
}

fn short(number: f64) -> String {
    format!("{}", (number * 10.0).round() / 10.0)
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Micros = 1_000_000;

    fn window(from: i64, to: i64) -> Window {
        Window {
            from: from * SECOND,
            to: to * SECOND,
        }
    }

    fn watch(end: i64) -> Watch {
        Watch {
            before: window(0, 10),
            during: window(10, 20),
            healed: 20 * SECOND,
            end: end * SECOND,
            hold: 3 * SECOND,
            goodput: 0.9,
        }
    }

    /// `rate` operations a second to 40 s; each is good or not, and takes so long, as `how` says.
    fn load(rate: i64, how: impl Fn(Micros) -> (bool, Micros)) -> Vec<Op> {
        let one = |n: i64| {
            let at = n * SECOND / rate;
            let (good, took) = how(at);
            Op {
                at,
                ended: Some(at + took),
                good: Some(good),
            }
        };
        (0..40 * rate).map(one).collect()
    }

    fn judge(ops: &[Op], amplified: Option<(f64, f64)>, end: i64) -> Judged {
        let course = Course {
            ops,
            outside: true,
            amplified,
        };
        recovery(&course, &watch(end))
    }

    proptest! {
        /// It fails until some time after the faults are gone: that time is found.
        #[test]
        fn the_time_is_found(rate in 10i64..300, truth in 0i64..12_000) {
            let well_at = 20 * SECOND + truth * 1_000;
            let failing = 10 * SECOND..well_at;
            let ops = load(rate, |at| (!failing.contains(&at), 5_000));
            let judged = judge(&ops, None, 40);
            prop_assert_eq!(judged.verdict, Recovery::Recovered, "{}", judged.reason);
            prop_assert!(judged.noticed);
            let off = judged.steady.unwrap() - truth * 1_000;
            prop_assert!((0..=SECOND / rate + 1).contains(&off), "{}", off);
            let first = judged.first_good.unwrap() - truth * 1_000;
            prop_assert!((0..=SECOND / rate + 6_001).contains(&first), "{}", first);
        }

        /// The same where a share fails at all times.
        #[test]
        fn a_share_that_always_fails_is_no_fault_of_the_drill(rate in 20i64..200, truth in 0i64..8_000, nth in 20i64..60) {
            let well_at = 20 * SECOND + truth * 1_000;
            let failing = 10 * SECOND..well_at;
            let ops = load(rate, |at| {
                let n = at * rate / SECOND;
                (!failing.contains(&at) && n % nth != 0, 5_000)
            });
            let judged = judge(&ops, None, 40);
            prop_assert_eq!(judged.verdict, Recovery::Recovered, "{}", judged.reason);
            let off = judged.steady.unwrap() - truth * 1_000;
            prop_assert!((0..=25 * SECOND / rate).contains(&off), "{}", off);
        }

        /// It stays ill: by what its calls cost it is one or the other.
        #[test]
        fn what_stays_ill_is_told_apart(rate in 10i64..300, share in 0i64..8, storm in 1.5f64..6.0) {
            let ops = load(rate, |at| {
                let n = at * rate / SECOND;
                (at < 10 * SECOND || n % 10 < share, 50_000)
            });
            let judged = judge(&ops, Some((1.0, storm)), 40);
            prop_assert_eq!(judged.verdict, Recovery::Metastable, "{}", judged.reason);
            let judged = judge(&ops, Some((1.0, 1.0)), 40);
            prop_assert_eq!(judged.verdict, Recovery::Degraded);
            prop_assert_eq!(judge(&ops, None, 40).verdict, Recovery::Degraded);
            prop_assert_eq!(judged.steady, None);
        }

        /// Whatever was seen, there is an answer, and what it says fits together.
        #[test]
        fn any_course_is_judged(
            ops in prop::collection::vec((0i64..40_000_000, 0i64..10_000_000, any::<Option<bool>>()), 0..300),
            end in 15i64..45,
        ) {
            let ops: Vec<_> = ops.iter().map(|(at, took, good)| Op {
                at: *at,
                ended: good.map(|_| at + took),
                good: *good,
            }).collect();
            let judged = judge(&ops, Some((1.0, 3.0)), end);
            if judged.verdict == Recovery::Recovered {
                let steady = judged.steady.unwrap();
                prop_assert!(steady >= 0 && steady + 3 * SECOND <= (end - 20) * SECOND);
            }
        }

        /// The quick search finds what looking at each beginning finds.
        #[test]
        fn nothing_is_skipped(good in prop::collection::vec(any::<bool>(), 1..120), needed in 0.3f64..1.0) {
            let ops: Vec<_> = good.iter().enumerate().map(|(n, good)| Op {
                at: 20 * SECOND + n as i64 * 100_000,
                ended: Some(20 * SECOND + n as i64 * 100_000 + 10),
                good: Some(*good),
            }).collect();
            let watch = watch(40);
            let found = steady(&ops, Bar { slow: SECOND }, needed, &watch, 0.0);
            let holds = |from: usize| {
                let held = good.iter().skip(from).take(30);
                let (mut well, mut all) = (0usize, 0usize);
                let enough = held.clone().count() >= 3;
                enough && held.into_iter().all(|good| {
                    all += 1;
                    well += usize::from(*good);
                    well as f64 >= needed * all as f64
                })
            };
            let exact = (0..good.len()).find(|from| holds(*from)).map(|n| ops[n].at);
            prop_assert_eq!(found, exact);
        }
    }

    #[test]
    fn what_never_noticed_was_well_all_the_time() {
        let ops = load(50, |_| (true, 5_000));
        let judged = judge(&ops, None, 40);
        assert_eq!(
            (judged.verdict, judged.noticed),
            (Recovery::Recovered, false)
        );
        assert!(judged.steady.unwrap() <= 20_000);
    }

    #[test]
    fn answers_that_stay_slow_are_not_well() {
        let ops = load(50, |at| {
            (true, if at < 10 * SECOND { 5_000 } else { 900_000 })
        });
        let judged = judge(&ops, None, 40);
        assert_eq!(judged.verdict, Recovery::Degraded, "{}", judged.reason);
        assert!(judged.noticed && judged.well[2].p50 > 800.0);
    }

    #[test]
    fn a_load_that_moved_shows_nothing() {
        let ill = |at| (at < 10 * SECOND, 5_000);
        let mut ops = load(50, ill);
        ops.retain(|op| op.at < 20 * SECOND || op.at % (3 * SECOND) < SECOND);
        let judged = judge(&ops, Some((1.0, 4.0)), 40);
        assert_eq!(judged.verdict, Recovery::Inconclusive, "{}", judged.reason);
        // Well again, since hardly anything is asked of it.
        let mut ops = load(50, |_| (true, 5_000));
        ops.retain(|op| op.at < 20 * SECOND || (op.at * 50 / SECOND) % 3 == 0);
        let judged = judge(&ops, None, 40);
        assert_eq!(judged.verdict, Recovery::Inconclusive, "{}", judged.reason);
        // Within a system that may be as it should.
        let inside = Course {
            ops: &ops,
            outside: false,
            amplified: None,
        };
        assert_eq!(recovery(&inside, &watch(40)).verdict, Recovery::Recovered);
        // And none at all.
        ops.retain(|op| op.at < 20 * SECOND);
        assert_eq!(judge(&ops, None, 40).verdict, Recovery::Inconclusive);
        assert_eq!(judge(&[], None, 40).verdict, Recovery::Inconclusive);
    }

    #[test]
    fn well_for_a_moment_is_not_well() {
        let ops = load(50, |at| {
            let moment = (25 * SECOND..26 * SECOND).contains(&at);
            (at < 10 * SECOND || moment || at >= 30 * SECOND, 5_000)
        });
        let judged = judge(&ops, None, 40);
        assert_eq!(judged.steady, Some(10 * SECOND));
        assert!(judged.first_good.unwrap() < 6 * SECOND);
        assert_eq!(judge(&ops, None, 32).steady, None);
    }
}

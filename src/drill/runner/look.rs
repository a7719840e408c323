//! What can be said while a drill runs: whether it is steady, whether it must stop, whether all is
//! well again.

use super::super::flow;
use super::super::sample::{Asked, Micros, Op, Samples, Seen, Sent, Window, length};
use super::super::verdict::{
    Course, Facts, LEAST, Recovered, Repairs, Verdict, Watch, judge, latency, logical_ops,
    recovery, repairs, success,
};
use super::asking::Whose;
use super::{Event, Halt, Run, asking};
use crate::config::drill::{Check, Source, Stop, When};
use crate::rules::Protocol;

/// Between one look at the whole and the next.
const STEP: Micros = 500_000;

impl Run<'_> {
    /// All that was seen so far.
    pub(super) fn samples(&self) -> Samples {
        let kept = self.inbox.lock();
        let sent = self.generator.as_ref().map(|g| g.log.sent().clone());
        Samples {
            sent: sent.unwrap_or_default(),
            seen: kept.seen.clone(),
            asked: self.asking.answers().clone(),
            lost: kept.lost,
        }
    }

    /// The load, as one of many operations.
    pub(super) fn course(&self, samples: &Samples) -> Vec<Op> {
        if let Source::Http(_) = self.job.drill.load.source {
            return samples.sent.iter().map(Sent::op).collect();
        }
        let here = |seen: &&Seen| self.entry.contains(&seen.edge);
        let seen: Vec<&Seen> = samples.seen.iter().filter(here).collect();
        let mut ops = logical_ops(&seen);
        for edge in self.entry.iter().filter(|n| self.is_stream(**n)) {
            ops.extend(flow::ops(&self.flows.lock(), *edge, self.before));
        }
        ops
    }

    /// Whether nothing finer than bytes is known of an edge.
    pub(super) fn is_stream(&self, edge: usize) -> bool {
        let protocol = self.targets.edges.get(edge).map(|edge| edge.protocol);
        protocol != Some(Protocol::Http)
    }

    /// Asked for, and good, a second, over the last second.
    pub(super) fn rates(&self, now: Micros) -> (f64, f64) {
        let recent = self.recent(now - 2_000_000);
        let load = self.course(&recent);
        let window = Window {
            from: now - 1_000_000,
            to: now,
        };
        let offered = load
            .iter()
            .filter(|op| window.has(op.ended.unwrap_or(op.at)));
        let (offered, good) = offered.fold((0u32, 0u32), |(all, good), op| {
            (all + 1, good + u32::from(op.good == Some(true)))
        });
        (offered.into(), good.into())
    }

    /// What ended since a moment.
    fn recent(&self, since: Micros) -> Samples {
        fn last<T: Clone>(all: &[T], since: Micros, at: impl Fn(&T) -> Micros) -> Vec<T> {
            // In the order of ending, more or less.
            let from = all.iter().rposition(|one| at(one) < since - 1_000_000);
            let tail = &all[from.map_or(0, |n| n + 1)..];
            tail.iter()
                .filter(|one| at(one) >= since)
                .cloned()
                .collect()
        }
        let sent = |s: &Sent| s.ended.unwrap_or(s.due);
        let seen = |s: &Seen| s.ended.unwrap_or(s.began);
        let generator = self.generator.as_ref();
        let kept = self.inbox.lock();
        Samples {
            sent: generator
                .map(|g| last(&g.log.sent(), since, sent))
                .unwrap_or_default(),
            seen: last(&kept.seen, since, seen),
            asked: Vec::new(),
            lost: 0,
        }
    }

    /// Whether a stop condition is true now.
    pub(super) fn stops(&self, n: usize, stop: &Stop, now: Micros) -> bool {
        let window = Window {
            from: now - length(stop.over),
            to: now,
        };
        let mut samples = self.recent(window.from);
        let place = self.asking.place(Whose::Stop(n));
        if let Some(place) = place {
            let slowest = length(asked_for(&stop.condition.check)).max(length(stop.over));
            let answers = self.asking.answers();
            let fresh = |a: &&Asked| a.at >= now - slowest;
            samples.asked = vec![Vec::new(); place + 1];
            samples.asked[place] = answers[place].iter().filter(fresh).cloned().collect();
        }
        let load = self.course(&samples);
        let names = self.edge_names();
        let facts = Facts {
            during: window,
            end: now,
            live: true,
            ..self.facts(&samples, &load, &names)
        };
        judge(&stop.condition, When::During, place, &facts).verdict == Verdict::Held
    }

    /// What was seen so far, to judge by; nothing is known of findings.
    pub(super) fn facts<'f>(
        &'f self,
        samples: &'f Samples,
        load: &'f [Op],
        names: &'f [String],
    ) -> Facts<'f> {
        Facts {
            samples,
            load,
            edges: names,
            entry: &self.entry,
            findings: &[],
            before: self.before,
            during: self.during,
            end: self.during.to,
            live: false,
        }
    }

    pub(super) fn edge_names(&self) -> Vec<String> {
        let edges = self.targets.edges.iter();
        edges.map(|edge| edge.proxy.clone()).collect()
    }

    /// Why the system is not steady; `None`: it is.
    pub(super) fn unsteady(&mut self) -> Option<String> {
        let samples = self.samples();
        let load = self.course(&samples);
        let names = self.edge_names();
        let facts = Facts {
            during: self.before,
            end: self.before.to,
            ..self.facts(&samples, &load, &names)
        };
        let (_, all) = success(&load, self.before);
        if all < LEAST {
            let at: Vec<_> = self.entry.iter().map(|n| names[*n].as_str()).collect();
            let lasts = crate::units::format_duration(self.job.drill.steady_state.lasts);
            return Some(format!(
                "no load was seen, or hardly any: {all} operations in {lasts} at {}",
                at.join(", ")
            ));
        }
        let checks = self.job.drill.steady_state.checks.iter().enumerate();
        for (n, condition) in checks {
            let place = self.asking.place(Whose::Steady(n));
            let judged = judge(condition, When::Before, place, &facts);
            if judged.verdict != Verdict::Held {
                return Some(format!("{condition}: {}", judged.reason));
            }
        }
        slower(&load, self.before)
    }

    /// Watches until all is well again, or time is up.
    pub(super) async fn watch(&mut self, healed: Micros) -> Result<(), Halt> {
        let within = self.job.drill.recovery.within;
        self.say(Event::Phase("after", within));
        self.asking.enter(asking::Phase::After);
        let mut until = healed + length(within);
        self.latest = until;
        loop {
            let now = self.zero.now();
            let samples = self.samples();
            let load = self.course(&samples);
            let known = self.known_until().min(now);
            let judged = self.recovered(&load, &samples, healed, known);
            let repair = self.repair_pending(&samples, now);
            // A promise to repair may take longer than to be well.
            until = until.max(repair.unwrap_or(until));
            self.latest = until;
            let steady = judged.steady.is_some();
            if now >= until || (steady && repair.is_none()) {
                return Ok(());
            }
            self.pass((now + STEP).min(until)).await?;
        }
    }

    /// How it stands with recovery, until a moment up to which all is known.
    pub(super) fn recovered(
        &self,
        load: &[Op],
        samples: &Samples,
        healed: Micros,
        end: Micros,
    ) -> Recovered {
        let watch = self.watch_of(healed, end);
        let amplified = amplified(load, &samples.seen, self.targets.edges.len(), &watch);
        let course = Course {
            ops: load,
            outside: true,
            amplified: amplified.map(|(_, before, after)| (before, after)),
        };
        recovery(&course, &watch)
    }

    pub(super) fn watch_of(&self, healed: Micros, end: Micros) -> Watch {
        Watch {
            before: self.before,
            during: Window {
                from: self.during.from,
                to: healed,
            },
            healed,
            end,
            hold: length(self.job.drill.recovery.hold),
            goodput: self.job.drill.recovery.goodput,
        }
    }

    /// Until when something may still be repaired in time that is not yet; `None`: nothing.
    fn repair_pending(&self, samples: &Samples, now: Micros) -> Option<Micros> {
        let promises = self.job.drill.promises.iter();
        let pending = promises.filter_map(|promise| match &promise.condition.check {
            Check::Repaired {
                proxy,
                within,
                classes,
            } => {
                let edge = proxy.as_ref().map(|name| self.targets.edge(name));
                let here = |s: &&Seen| edge.is_none_or(|edge| edge == Some(s.edge));
                let seen: Vec<&Seen> = samples.seen.iter().filter(here).collect();
                let Repairs { early, .. } = repairs(&seen, classes, length(*within), now);
                let doubtful = seen.iter().filter(|s| classes.contains(&s.class));
                let last = doubtful.filter_map(|s| s.ended).max()?;
                (early > 0).then(|| last + length(*within))
            }
            _ => None,
        });
        pending.max()
    }
}

/// How long a probe may take until its answer is known, and the next is due.
fn asked_for(check: &Check) -> std::time::Duration {
    match check {
        Check::Http(probe) => probe.asked.timeout + probe.asked.every,
        Check::Command(probe) => probe.asked.timeout + probe.asked.every,
        Check::Tcp { asked, .. } | Check::Prometheus { asked, .. } => asked.timeout + asked.every,
        _ => std::time::Duration::ZERO,
    }
}

/// A system whose answers take longer and longer is not steady: more is asked of it than it can do.
/// One moment in which it stood still is another thing: that passes.
fn slower(load: &[Op], before: Window) -> Option<String> {
    const PARTS: i64 = 5;
    let step = (before.to - before.from) / PARTS;
    let medians: Vec<f64> = (0..PARTS)
        .map(|n| {
            let from = before.from + n * step;
            let to = from + step;
            latency(load, Window { from, to }).at(50.0)
        })
        .collect();
    let (Some(first), Some(last)) = (medians.first(), medians.last()) else {
        return None;
    };
    let rising = medians
        .windows(2)
        .filter(|two| two[1] > two[0] * 1.1)
        .count();
    let most = medians.iter().copied().fold(0.0, f64::max);
    let worse = *last > first * 2.0 + 100.0 && *last >= most && rising as i64 >= PARTS - 2;
    worse.then(|| {
        format!("answers take longer and longer: a median of {first:.0}ms at first, of {last:.0}ms at last")
    })
}

/// At which edge the calls that an operation costs grew most, and how many they were before and at
/// the end.
pub(super) fn amplified(
    load: &[Op],
    seen: &[Seen],
    edges: usize,
    watch: &Watch,
) -> Option<(usize, f64, f64)> {
    let tail = watch.tail();
    let asked = |window: Window| load.iter().filter(|op| window.has(op.at)).count() as f64;
    let (before, after) = (asked(watch.before), asked(tail));
    if before == 0.0 || after == 0.0 {
        return None;
    }
    let mut counts = vec![(0u64, 0u64); edges];
    for one in seen {
        if let Some(count) = counts.get_mut(one.edge) {
            count.0 += u64::from(watch.before.has(one.began));
            count.1 += u64::from(tail.has(one.began));
        }
    }
    let rates = counts.iter().enumerate().map(|(n, (was, is))| {
        let (was, is) = (*was as f64 / before, *is as f64 / after);
        (n, was, is)
    });
    // Of an edge that was hardly used before, nothing is known.
    let rates = rates.filter(|(_, was, _)| *was > 0.05);
    rates.max_by(|a, b| (a.2 / a.1).total_cmp(&(b.2 / b.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 a second for 5 s, each of which takes so many milliseconds.
    fn load(took: impl Fn(i64) -> i64) -> Option<String> {
        let ops: Vec<_> = (0..100)
            .map(|n| Op {
                at: n * 50_000,
                ended: Some(n * 50_000 + took(n) * 1_000),
                good: Some(true),
            })
            .collect();
        let before = Window {
            from: 0,
            to: 5_000_000,
        };
        slower(&ops, before)
    }

    #[test]
    fn a_queue_that_grows_is_told_from_a_moment_of_standing_still() {
        assert!(load(|n| 10 + n * 5).is_some());
        assert!(load(|_| 10).is_none());
        // As when a machine stands still for a second, at whatever time.
        for stall in [10, 30, 50, 70, 85] {
            let behind = |n: i64| {
                if n < stall {
                    10
                } else {
                    (1_000 - (n - stall) * 50).max(10)
                }
            };
            assert!(load(behind).is_none(), "{stall}");
        }
    }
}

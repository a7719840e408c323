//! One promise, held against what was seen.

use super::super::sample::{Op, Samples, Seen, Window, length};
use super::breaker::{Opened, opened};
use super::identity::{most_retries, repairs, twice};
use super::rates::{LEAST, goodput, latency, success};
use super::{Judgement, MOST_PROOF, Verdict};
use crate::config::drill::{Bounds, Check, Condition, Once, When, percentile_name};
use crate::evidence::RecordId;
use crate::evidence::findings::Finding;
use crate::units::format_duration;

/// All that promises are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// What was seen.
    pub samples: &'f Samples,
    /// The load, as one of many.
    pub load: &'f [Op],
    /// The names of the edges' proxies.
    pub edges: &'f [String],
    /// Those at which the load comes in.
    pub entry: &'f [usize],
    /// What the evidence shows, with the edges' names being those of services.
    pub findings: &'f [Finding],
    /// The steady state.
    pub before: Window,
    /// While faults were on.
    pub during: Window,
    /// Until when it was watched.
    pub end: i64,
    /// The samples are those that ended in the stretch that is meant, whenever they began.
    pub live: bool,
}

/// From the first moment to the last.
const EVER: Window = Window {
    from: i64::MIN,
    to: i64::MAX,
};

impl Facts<'_> {
    /// The stretch that is meant.
    #[must_use]
    pub fn window(&self, when: When) -> Window {
        match when {
            When::Before => self.before,
            When::During => self.during,
            When::After => Window {
                from: self.during.to,
                to: self.end,
            },
            When::End => Window {
                from: self.end,
                to: i64::MAX,
            },
            When::Always => Window {
                from: self.before.from,
                to: self.end,
            },
        }
    }

    fn edge(&self, proxy: &str) -> Option<usize> {
        self.edges.iter().position(|name| name == proxy)
    }

    /// The operations at a proxy; without one, the load.
    fn ops(&self, proxy: Option<&str>) -> Vec<Op> {
        match proxy {
            None => self.load.to_vec(),
            Some(proxy) => {
                let edge = self.edge(proxy);
                let seen = self.samples.seen.iter().filter(|s| Some(s.edge) == edge);
                seen.map(Seen::op).collect()
            }
        }
    }

    /// What was seen at a proxy; without one, at all.
    fn seen(&self, proxy: Option<&str>, window: Window) -> Vec<&Seen> {
        let edge = proxy.map(|proxy| self.edge(proxy));
        let here = |s: &&Seen| edge.is_none_or(|edge| edge == Some(s.edge)) && window.has(s.began);
        self.samples.seen.iter().filter(here).collect()
    }

    /// Some that failed, at a proxy or where the load comes in.
    fn failures(&self, proxy: Option<&str>, window: Window) -> Vec<(usize, RecordId)> {
        let all = self.seen(proxy, window);
        let entry = |s: &&&Seen| proxy.is_some() || self.entry.contains(&s.edge);
        let failed = all.iter().filter(entry).filter(|s| s.failed);
        failed.take(MOST_PROOF).map(|s| (s.edge, s.id)).collect()
    }
}

/// Judges a condition over a stretch. `asked`: its place among the conditions that ask.
#[must_use]
pub fn judge(
    condition: &Condition,
    when: When,
    asked: Option<usize>,
    facts: &Facts<'_>,
) -> Judgement {
    let mut judgement = check(&condition.check, facts.window(when), asked, facts);
    let lost = facts.samples.lost;
    if lost > 0 && hangs_on(&condition.check, &judgement, lost) {
        judgement.verdict = Verdict::Inconclusive;
        judgement.reason = format!("{}; but {lost} records were lost", judgement.reason);
    }
    if condition.negated {
        judgement.verdict = judgement.verdict.negated();
    }
    judgement
}

/// Whether so many records that are missing could make all the difference. What was seen is no less true.
fn hangs_on(check: &Check, judgement: &Judgement, lost: u64) -> bool {
    match check {
        Check::AtMostOnce { .. } | Check::Repaired { .. } | Check::Retries { .. } => {
            judgement.verdict == Verdict::Held
        }
        Check::Evidence { is, .. } => {
            let seen = judgement.measured.unwrap_or_default();
            let most = seen + lost as f64;
            // It turns at a bound, or never.
            let bounds = is.0.iter().flat_map(|(_, n)| [n.floor(), n.floor() + 1.0]);
            let mut could_be = bounds.chain([most]).filter(|n| (seen..=most).contains(n));
            could_be.any(|n| is.hold(n) != is.hold(seen))
        }
        _ => false,
    }
}

fn check(check: &Check, stretch: Window, asked: Option<usize>, facts: &Facts<'_>) -> Judgement {
    let window = if facts.live { EVER } else { stretch };
    match check {
        Check::SuccessRate { proxy, is } => {
            let proxy = proxy.as_deref();
            let (good, all) = success(&facts.ops(proxy), window);
            if all < LEAST {
                return few(all);
            }
            let share = good as f64 / all as f64;
            let reason = format!("{good} of {all} were good: {}", percent(share));
            let mut judgement = measured(is, share, all, reason);
            if judgement.verdict == Verdict::Broken {
                judgement.proof = facts.failures(proxy, window);
            }
            judgement
        }
        Check::Goodput {
            proxy,
            is,
            of_baseline,
        } => {
            let ops = facts.ops(proxy.as_deref());
            let (_, all) = success(&ops, window);
            let rate = goodput(&ops, stretch);
            if stretch.seconds() <= 0.0 || all + success(&ops, facts.before).1 < LEAST {
                return few(all);
            }
            let before = goodput(&ops, facts.before);
            let mut judgement = if *of_baseline && before <= 0.0 {
                Judgement::inconclusive(
                    "nothing was good before, so that there is nothing to compare with",
                )
            } else if *of_baseline {
                let reason = format!("{rate:.1}/s, {before:.1}/s before");
                measured(is, rate / before, all, reason)
            } else {
                measured(is, rate, all, format!("{rate:.1}/s"))
            };
            if judgement.verdict == Verdict::Broken {
                judgement.proof = facts.failures(proxy.as_deref(), window);
            }
            judgement
        }
        Check::Latency { proxy, is } => {
            let ops = facts.ops(proxy.as_deref());
            let latency = latency(&ops, window);
            let all = latency.count();
            if all < LEAST {
                return few(all);
            }
            let one = |(percentile, _): &(f64, Bounds)| {
                format!(
                    "{} {:.1}ms",
                    percentile_name(*percentile),
                    latency.at(*percentile)
                )
            };
            let said: Vec<_> = is.iter().map(one).collect();
            let holds = is.iter().all(|(p, bounds)| bounds.hold(latency.at(*p)));
            Judgement {
                verdict: Verdict::of(holds),
                reason: format!("{} of {all}", said.join(", ")),
                samples: all,
                measured: is.first().map(|(p, _)| latency.at(*p)),
                proof: Vec::new(),
            }
        }
        Check::AtMostOnce { proxy, of } => {
            let seen = facts.seen(proxy.as_deref(), window);
            let found = twice(&seen, *of == Once::Deliveries);
            let what = match of {
                Once::Effects => "took effect",
                Once::Deliveries => "were delivered",
            };
            let all = found.operations;
            if all == 0 {
                return few(0);
            }
            let broken = found.found.len();
            let (verdict, reason) = match (broken, found.unclear) {
                (0, 0) => (
                    Verdict::Held,
                    format!("none of {all} operations {what} twice"),
                ),
                (0, n) => (
                    Verdict::Inconclusive,
                    format!(
                        "of {n} of {all} operations it can't be said: they succeeded twice, and not both answers are known"
                    ),
                ),
                (n, _) => (
                    Verdict::Broken,
                    format!("{n} of {all} operations {what} more than once"),
                ),
            };
            Judgement {
                verdict,
                reason,
                samples: all,
                measured: Some(broken as f64),
                proof: found.found.into_iter().flatten().take(MOST_PROOF).collect(),
            }
        }
        Check::Repaired {
            proxy,
            within,
            classes,
        } => {
            // A repair may come after the stretch that is looked at.
            let later = Window {
                from: window.from,
                to: i64::MAX,
            };
            let later = facts.seen(proxy.as_deref(), later);
            let (inside, outside): (Vec<&Seen>, Vec<&Seen>) =
                later.iter().partition(|s| window.has(s.began));
            let good = outside.into_iter().filter(|s| !classes.contains(&s.class));
            let all: Vec<_> = inside.into_iter().chain(good).collect();
            let found = repairs(&all, classes, length(*within), facts.end);
            let doubtful = found.repaired.len() + found.left.len();
            let within = format_duration(*within);
            let (verdict, reason) = match (found.left.len(), found.early) {
                (0, 0) if doubtful == 0 => (Verdict::Held, "there was none".to_owned()),
                (0, 0) => {
                    let worst = found.repaired.iter().max().copied().unwrap_or_default();
                    let worst = format!("{:.2}s", worst as f64 / 1e6);
                    (
                        Verdict::Held,
                        format!("all {doubtful} were repaired, the last after {worst}"),
                    )
                }
                (0, early) => (
                    Verdict::Inconclusive,
                    format!("the drill was over before {early} of them had {within}"),
                ),
                (left, _) => {
                    let nameless = match found.nameless {
                        0 => String::new(),
                        n => format!(", {n} of them without an identity by which anyone could ask"),
                    };
                    let reason =
                        format!("{left} of {doubtful} were not repaired within {within}{nameless}");
                    (Verdict::Broken, reason)
                }
            };
            Judgement {
                verdict,
                reason,
                samples: doubtful as u64 + found.early,
                measured: Some(found.left.len() as f64),
                proof: found.left.into_iter().take(MOST_PROOF).collect(),
            }
        }
        Check::Retries { proxy, at_most } => {
            let seen = facts.seen(proxy.as_deref(), window);
            match most_retries(&seen) {
                None => few(0),
                Some((most, records)) => Judgement {
                    verdict: Verdict::of(most <= *at_most),
                    reason: match most {
                        0 => "nothing was tried again".to_owned(),
                        n => format!("one operation was tried {n} more times, none more often"),
                    },
                    samples: seen.len() as u64,
                    measured: Some(most as f64),
                    proof: match most {
                        0 => Vec::new(),
                        _ => records.into_iter().take(MOST_PROOF).collect(),
                    },
                },
            }
        }
        Check::Breaker {
            proxy,
            opens_within,
        } => {
            let seen = facts.seen(Some(proxy), EVER);
            let edge = facts.edge(proxy).unwrap_or_default();
            let proof = |ids: Vec<RecordId>| ids.into_iter().map(|id| (edge, id)).collect();
            let within = length(*opens_within);
            let (verdict, reason, measured, proof) =
                match opened(&seen, facts.before, window, within) {
                    Opened::After(took, last) => {
                        let seconds = took as f64 / 1e6;
                        let reason = format!("calls ceased {seconds:.2}s after the first failure");
                        (Verdict::Held, reason, Some(seconds), proof(last))
                    }
                    Opened::Never(rate, usual, some) => {
                        let reason = format!("{rate:.1} calls a second went on, {usual:.1} before");
                        (Verdict::Broken, reason, Some(rate), proof(some))
                    }
                    Opened::Unknown(why) => return Judgement::inconclusive(why),
                };
            Judgement {
                verdict,
                reason,
                samples: seen.len() as u64,
                measured,
                proof,
            }
        }
        Check::Finding {
            finding,
            verdict,
            from,
            to,
        } => {
            let same =
                |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
            let these: Vec<_> = facts
                .findings
                .iter()
                .filter(|f| f.finding == *finding)
                .filter(|f| same(from, &f.subject.from) && same(to, &f.subject.to))
                .collect();
            finding_judged(&these, *verdict)
        }
        Check::Evidence { proxy, classes, is } => {
            let seen = facts.seen(proxy.as_deref(), window);
            let these: Vec<_> = seen.iter().filter(|s| classes.contains(&s.class)).collect();
            let reason = format!("{} of {} operations", these.len(), seen.len());
            let mut judgement = measured(is, these.len() as f64, seen.len() as u64, reason);
            judgement.proof = these
                .iter()
                .take(MOST_PROOF)
                .map(|s| (s.edge, s.id))
                .collect();
            judgement
        }
        Check::Http(probe) => answers(probe.asked.share, window, asked, facts),
        Check::Tcp { asked: how, .. } => answers(how.share, window, asked, facts),
        Check::Command(probe) => answers(probe.asked.share, window, asked, facts),
        Check::Prometheus { asked: how, .. } => answers(how.share, window, asked, facts),
    }
}

fn finding_judged(these: &[&Finding], wanted: crate::evidence::findings::Verdict) -> Judgement {
    use crate::evidence::findings::Verdict as Found;
    let Some(first) = these.first() else {
        return Judgement::inconclusive("there is no such caller or service in the evidence");
    };
    let is = |f: &&&Finding, verdict| f.verdict == verdict;
    let other = these
        .iter()
        .find(|f| f.verdict != wanted && !is(f, Found::NotEnough));
    let unknown = these.iter().find(|f| is(f, Found::NotEnough));
    let (verdict, telling) = match (other, unknown) {
        (Some(other), _) => (Verdict::Broken, *other),
        (None, Some(unknown)) if wanted != Found::NotEnough => (Verdict::Inconclusive, *unknown),
        _ => (Verdict::Held, *first),
    };
    let subject = &telling.subject;
    let caller = subject
        .caller
        .map_or(String::new(), |caller| format!(" ({caller})"));
    Judgement {
        verdict,
        reason: format!(
            "{} > {}{caller}: {}",
            subject.from, subject.to, telling.verdict
        ),
        samples: these.len() as u64,
        measured: None,
        // Findings name records, and not the edge: that is looked up by whoever prints them.
        proof: telling.records.iter().map(|id| (usize::MAX, *id)).collect(),
    }
}

/// What was answered to those who asked.
fn answers(share: f64, window: Window, asked: Option<usize>, facts: &Facts<'_>) -> Judgement {
    let all = asked.and_then(|n| facts.samples.asked.get(n));
    let these: Vec<_> = all
        .into_iter()
        .flatten()
        .filter(|a| window.has(a.at))
        .collect();
    let good = these.iter().filter(|a| a.good).count();
    if these.is_empty() {
        return few(0);
    }
    let is = good as f64 / these.len() as f64;
    let telling = these.iter().find(|a| !a.good).or(these.last());
    let said = telling.map_or("", |a| a.said.as_str());
    Judgement {
        verdict: Verdict::of(is >= share),
        reason: match these.len() {
            1 => said.to_owned(),
            all if good == all => format!("{good} of {all} times: {said}"),
            all => format!("{good} of {all} times; else: {said}"),
        },
        samples: these.len() as u64,
        measured: Some(is),
        proof: Vec::new(),
    }
}

fn measured(is: &Bounds, value: f64, samples: u64, reason: String) -> Judgement {
    Judgement {
        verdict: Verdict::of(is.hold(value)),
        reason,
        samples,
        measured: Some(value),
        proof: Vec::new(),
    }
}

fn few(samples: u64) -> Judgement {
    let reason = match samples {
        0 => "nothing of the sort was seen".to_owned(),
        n => format!("{n} operations are too few to tell"),
    };
    Judgement {
        samples,
        ..Judgement::inconclusive(reason)
    }
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests;

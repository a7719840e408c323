//! What was seen, as the report has it.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::command;
use super::super::flow;
use super::super::plan::{Fault, What};
use super::super::report;
use super::super::sample::{Micros, Op, Outcome, Samples, Seen, Sent, Window};
use super::super::targets::{Acted, Edge, Target};
use super::super::verdict::{Course, Judgement, Recovered, latency, recovery};
use super::Run;
use crate::config::drill::{Promise, Source};
use crate::config::{partition_to_json, rule_to_json};
use crate::evidence::Record;

/// Requests that are later than this are said to be.
const LATE: f64 = 100.0;
/// The most steps of a series.
const STEPS: f64 = 240.0;

impl Run<'_> {
    pub(super) fn stretches(
        &self,
        healed: Micros,
        end: Micros,
        drilled: bool,
    ) -> Vec<report::Stretch> {
        let stretch = |name: &str, from, to| report::Stretch {
            name: name.to_owned(),
            from_ms: ms(from),
            to_ms: ms(to),
        };
        let mut all = Vec::new();
        if self.before.to > 0 {
            all.push(stretch("before", self.before.from, self.before.to.min(end)));
        }
        if drilled {
            all.push(stretch("during", self.during.from, healed));
            all.push(stretch("after", healed, end));
        }
        all
    }

    pub(super) fn instances(&self) -> Vec<report::Instance> {
        let one = |target: &Target| report::Instance {
            url: target.client.url().to_owned(),
            version: target.status.version.clone(),
            seed: target.status.seed,
            clock_ahead_ms: ms(target.skew),
        };
        self.targets.list.iter().map(one).collect()
    }

    pub(super) fn fault_reports(&self, acted: &[Acted]) -> Vec<report::Fault> {
        let list = self.faults.list().iter().enumerate().zip(acted);
        let one = |((n, fault), acted): ((usize, &Fault), &Acted)| {
            let on = self.spans(n).into_iter().map(|(from, to)| report::Stretch {
                name: fault.name.clone(),
                from_ms: ms(from),
                to_ms: ms(to),
            });
            report::Fault {
                name: fault.name.clone(),
                sort: fault.what.sort().to_owned(),
                kind: fault.what.kind(),
                definition: match &fault.what {
                    What::Rule(rule) => rule_to_json(rule),
                    What::Partition(partition) => partition_to_json(partition),
                    What::Run(run) => json!({
                        "run": run.run.to_string(),
                        "undo": run.undo.as_ref().map(ToString::to_string),
                    }),
                },
                on: on.collect(),
                drawn: fault.drawn,
                selected: acted.selected,
                injected: acted.injected,
            }
        };
        list.map(one).collect()
    }

    pub(super) fn steps(&self) -> Vec<report::Step> {
        let steps = self.faults.steps.iter();
        let one = |(at, what, error): &(Micros, String, Option<String>)| report::Step {
            at_ms: ms(*at),
            what: what.clone(),
            error: error.clone(),
        };
        steps.map(one).collect()
    }

    pub(super) fn load_report(
        &mut self,
        load: &[Op],
        samples: &Samples,
        stretches: &[report::Stretch],
    ) -> report::Load {
        let names = self.edge_names();
        let latency = stretches.iter().map(|stretch| {
            let window = Window {
                from: (stretch.from_ms * 1e3) as Micros,
                to: (stretch.to_ms * 1e3) as Micros,
            };
            let latency = latency(load, window);
            let at = |percentile| rounded(latency.at(percentile));
            report::Latency {
                stretch: stretch.name.clone(),
                count: latency.count(),
                mean_ms: at(-1.0),
                p50_ms: at(50.0),
                p75_ms: at(75.0),
                p90_ms: at(90.0),
                p95_ms: at(95.0),
                p99_ms: at(99.0),
                p99_9_ms: at(99.9),
                max_ms: at(100.0),
            }
        });
        let latency = latency.collect();
        let sent = match self.job.drill.load.source {
            Source::Http(_) => Some(sent(samples)),
            _ => None,
        };
        if let Some([_, p99, _]) = sent.as_ref().map(|sent| sent.late_ms)
            && p99 > LATE
        {
            self.note(format!("this machine was too busy to send on time: one in a hundred requests {p99:.0}ms late or more"));
        }
        report::Load {
            source: match self.job.drill.load.source {
                Source::Http(_) => "http",
                Source::Command(_) => "command",
                Source::Traffic => "traffic",
            }
            .to_owned(),
            proxies: self.entry.iter().map(|n| names[*n].clone()).collect(),
            sent,
            command: self.ended.as_ref().map(command::Ran::in_words),
            latency,
        }
    }

    pub(super) fn promise_reports(
        &self,
        judged: &[Judgement],
        records: &[Record],
    ) -> Vec<report::Promise> {
        let promises = self.job.drill.promises.iter().zip(judged);
        let names = self.edge_names();
        let one = |(promise, judged): (&Promise, &Judgement)| {
            let proof = judged.proof.iter().filter_map(|(edge, id)| {
                let known = names.get(*edge).cloned();
                let found = || {
                    records
                        .iter()
                        .find(|r| r.id == *id)
                        .map(|r| r.proxy.to_string())
                };
                Some(report::Proof {
                    proxy: known.or_else(found)?,
                    id: *id,
                })
            });
            report::Promise {
                name: promise.name.clone(),
                check: promise.condition.to_string(),
                when: promise.when.as_str().to_owned(),
                verdict: judged.verdict,
                reason: judged.reason.clone(),
                samples: judged.samples,
                measured: judged.measured.filter(|n| n.is_finite()),
                records: proof.collect(),
            }
        };
        promises.map(one).collect()
    }

    pub(super) fn edge_reports(
        &self,
        samples: &Samples,
        healed: Micros,
        end: Micros,
        watched: bool,
        residue: Vec<Option<report::Residue>>,
    ) -> Vec<report::Edge> {
        let watch = self.watch_of(healed, end);
        let edges = self.targets.edges.iter().enumerate().zip(residue);
        let one = |((n, edge), residue): ((usize, &Edge), _)| {
            let own: Vec<_> = samples.seen.iter().filter(|s| s.edge == n).collect();
            let mut classes = BTreeMap::new();
            for seen in &own {
                *classes.entry(seen.class.to_string()).or_insert(0) += 1;
            }
            let mut ops: Vec<Op> = own.iter().map(|s| s.op()).collect();
            if self.is_stream(n) {
                ops.extend(flow::ops(&self.flows.lock(), n, self.before));
            }
            let course = Course {
                ops: &ops,
                outside: false,
                amplified: None,
            };
            report::Edge {
                proxy: edge.proxy.clone(),
                from: edge.from.clone(),
                to: edge.to.clone(),
                operations: own.len() as u64,
                retries: own.iter().filter(|s| s.attempt > 1).count() as u64,
                classes,
                recovery: watched.then(|| recovered_report(&recovery(&course, &watch), None)),
                residue,
            }
        };
        edges.map(one).collect()
    }
}

fn sent(samples: &Samples) -> report::Sent {
    let mut outcomes = BTreeMap::new();
    let mut late = Vec::new();
    for one in &samples.sent {
        let outcome = match one.outcome {
            Outcome::Status(status) => status.to_string(),
            Outcome::Timeout => "timeout".to_owned(),
            Outcome::Broken => "broken".to_owned(),
            Outcome::NotStarted => "not_started".to_owned(),
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
        late.extend(one.began.map(|began| (began - one.due).max(0)));
    }
    late.sort_unstable();
    let at = |share: f64| {
        let rank = (share * late.len() as f64).ceil() as usize;
        ms(late.get(rank.max(1) - 1).copied().unwrap_or_default())
    };
    let count = |of: fn(&Sent) -> bool| samples.sent.iter().filter(|s| of(s)).count() as u64;
    report::Sent {
        due: samples.sent.len() as u64,
        not_started: count(|s| s.began.is_none()),
        good: count(|s| s.good),
        outcomes,
        late_ms: [at(0.5), at(0.99), at(1.0)],
    }
}

pub(super) fn recovered_report(
    judged: &Recovered,
    amplified: Option<report::Amplified>,
) -> report::Recovered {
    let [before, during, after] = judged.well.map(|well| report::Well {
        operations: well.operations,
        share: rounded(well.share),
        goodput: rounded(well.goodput),
        p50_ms: rounded(well.p50),
        p99_ms: rounded(well.p99),
    });
    report::Recovered {
        verdict: judged.verdict,
        reason: judged.reason.clone(),
        noticed: judged.noticed,
        first_good_ms: judged.first_good.map(ms),
        steady_ms: judged.steady.map(ms),
        offered_before: rounded(judged.offered.before),
        offered_after: rounded(judged.offered.after),
        before,
        during,
        after,
        amplified,
    }
}

/// How it went, in steps of a round length.
pub(super) fn series(
    load: &[Op],
    seen: &[Seen],
    first: Option<&report::Stretch>,
    end: Micros,
) -> report::Series {
    let from = first.map_or(0, |stretch| (stretch.from_ms * 1e3) as Micros);
    let span = (end - from).max(1) as f64 / 1e6;
    let round = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
    let step = round.into_iter().find(|step| span / step <= STEPS);
    let step = (step.unwrap_or(600.0) * 1e6) as Micros;
    let steps = ((end - from) / step + 1).clamp(0, 100_000) as usize;
    let place = |at: Micros| {
        usize::try_from((at - from).div_euclid(step))
            .ok()
            .filter(|n| *n < steps)
    };
    let mut counts = vec![[0u32; 4]; steps];
    let mut took: Vec<Vec<Micros>> = vec![Vec::new(); steps];
    for op in load {
        if let Some(n) = place(op.at) {
            counts[n][0] += 1;
            took[n].extend(op.took());
        }
        if let Some(n) = place(op.ended.unwrap_or(op.at)) {
            match op.good {
                Some(true) => counts[n][1] += 1,
                Some(false) => counts[n][2] += 1,
                None => {}
            }
        }
    }
    for one in seen.iter().filter(|s| s.attempt > 1) {
        if let Some(n) = place(one.began) {
            counts[n][3] += 1;
        }
    }
    let rate = |which: usize| {
        let a_second = |count: &[u32; 4]| rounded(f64::from(count[which]) * 1e6 / step as f64);
        counts.iter().map(a_second).collect()
    };
    let mut at = |share: f64| -> Vec<Option<f64>> {
        took.iter_mut()
            .map(|took| {
                took.sort_unstable();
                let rank = (share * took.len() as f64).ceil() as usize;
                took.get(rank.max(1) - 1).map(|took| ms(*took))
            })
            .collect()
    };
    report::Series {
        step_ms: ms(step),
        from_ms: ms(from),
        offered: rate(0),
        goodput: rate(1),
        errors: rate(2),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        retries: rate(3),
    }
}

pub(super) fn ms(at: Micros) -> f64 {
    at as f64 / 1e3
}

/// To a thousandth.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

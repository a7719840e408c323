//! From the lifting of faults to the report.

use std::time::Duration;

use super::super::command;
use super::super::follow::settle;
use super::super::plan::What;
use super::super::report::{self, Report, SHAPE};
use super::super::sample::{Op, Samples, Seen};
use super::super::targets::{Acted, Refused, Target};
use super::super::verdict::{Ended, Facts, Judgement, LEAST, Verdict, judge, overall, success};
use super::asking::{Phase, Whose};
use super::figures::{ms, recovered_report, rounded, series};
use super::look::amplified;
use super::{Halt, Run, SETTLE};
use crate::clock::{self, Timestamp};
use crate::evidence::findings::{self, Finding};
use crate::evidence::{Filter, Record};

/// Of what was due, so much may be left unsent before the load is not what was meant.
const UNSENT: f64 = 0.01;

impl Run<'_> {
    /// Lifts everything, watches, and draws up the report.
    pub(super) async fn finish(
        mut self,
        drilled: Result<Option<String>, Halt>,
    ) -> Result<Report, Refused> {
        self.watching_stops = false;
        let not_lifted = self.lift().await;
        let healed = self.zero.now();
        let mut halted = drilled.as_ref().err().map(Halt::in_words);
        let unsteady = drilled.ok().flatten();
        let was_drilled = self.during.from > 0;
        if was_drilled {
            self.during.to = healed;
        }
        if was_drilled && halted.is_none() && not_lifted.is_empty() {
            self.watching_stops = true;
            if let Err(halt) = self.watch(healed).await {
                halted = Some(halt.in_words());
            }
        }
        let end = self.zero.now();
        self.asking.enter(Phase::Over);
        let mut samples = self.quiet().await;
        self.asking.ask_in_the_end().await;
        samples.asked.clone_from(&self.asking.answers());
        let residue = self.residue(&samples, healed, was_drilled).await;
        let acted = self.targets.acted(self.faults.list().len()).await;
        let records = self.records().await;
        let cleanup = self.clean_up().await;
        self.targets.remove().await;

        let load = self.course(&samples);
        let found = judged(&records).await;
        let findings = found
            .iter()
            .filter(|f| f.verdict != findings::Verdict::NotEnough);
        let findings: Vec<_> = findings.cloned().collect();
        let names = self.edge_names();
        let facts = Facts {
            findings: &found,
            end,
            ..self.facts(&samples, &load, &names)
        };
        let promises: Vec<_> = self
            .job
            .drill
            .promises
            .iter()
            .enumerate()
            .map(|(n, promise)| {
                let place = self.asking.place(Whose::Promise(n));
                match was_drilled {
                    true => judge(&promise.condition, promise.when, place, &facts),
                    false => Judgement::inconclusive("the system was not drilled"),
                }
            })
            .collect();
        let watched = was_drilled && halted.is_none() && not_lifted.is_empty();
        let recovered = watched.then(|| self.recovered(&load, &samples, healed, end));

        let listed = self.job.drill.promises.iter().zip(&promises);
        let left = residue.iter().zip(&self.targets.edges);
        let left = left.filter_map(|(residue, edge)| {
            let residue = residue.as_ref().filter(|r| r.state == "residue")?;
            Some(format!("{}: {}", edge.proxy, residue.said))
        });
        let ended = Ended {
            not_lifted: not_lifted.clone(),
            halted,
            unsteady: unsteady.clone(),
            empty: self.empty(&load, &samples, &acted),
            promises: listed.map(|(p, j)| (p.name.clone(), j.verdict)).collect(),
            recovery: recovered.as_ref().map(|r| (r.verdict, r.reason.clone())),
            residue: left.collect(),
        };
        let (outcome, reason) = overall(&ended);
        let steady = match (&unsteady, was_drilled) {
            (Some(why), _) => (Verdict::Broken, why.clone()),
            (None, true) => (Verdict::Held, "as it should be".to_owned()),
            (None, false) => (Verdict::Inconclusive, "it did not come to that".to_owned()),
        };
        let stretches = self.stretches(healed, end, was_drilled);
        let drill = &self.job.drill;
        Ok(Report {
            shape: SHAPE,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            drill: report::About {
                name: drill.name.clone().unwrap_or_default(),
                file: self.job.file.clone(),
                promise: drill.worksheet.promise.clone(),
                participants: drill.worksheet.participants.clone(),
                facts: drill.worksheet.facts.iter().cloned().collect(),
                unknowns: drill.worksheet.unknowns.clone(),
                repair: drill.worksheet.repair.clone(),
            },
            seed: self.job.seed,
            again: self.job.again.clone(),
            started: self.start,
            ended: Timestamp::now(),
            outcome,
            exit_code: outcome.exit_code(),
            reason,
            instances: self.instances(),
            steady: report::Judged {
                verdict: steady.0,
                reason: steady.1,
            },
            faults: self.fault_reports(&acted),
            timeline: self.steps(),
            load: self.load_report(&load, &samples, &stretches),
            promises: self.promise_reports(&promises, &records),
            recovery: recovered.map(|judged| {
                let watch = self.watch_of(healed, end);
                let amplified = amplified(&load, &samples.seen, names.len(), &watch);
                let amplified = amplified.map(|(edge, before, after)| report::Amplified {
                    proxy: names[edge].clone(),
                    before: rounded(before),
                    after: rounded(after),
                });
                recovered_report(&judged, amplified)
            }),
            edges: self.edge_reports(&samples, healed, end, watched, residue),
            series: series(&load, &samples.seen, stretches.first(), end),
            operations: self.stories(&promises, &records),
            findings,
            phases: stretches,
            not_lifted,
            cleanup,
            notes: std::mem::take(&mut self.notes),
        })
    }

    /// Sends no more, waits until all has ended, and answers what was seen.
    async fn quiet(&mut self) -> Samples {
        let log = self
            .generator
            .as_ref()
            .map(|g| std::sync::Arc::clone(&g.log));
        if let Some(generator) = self.generator.take() {
            generator.finish().await;
        }
        if let Some(running) = self.external.take()
            && let Some(ran) = running.stop().await
        {
            // That it was told to end is no news of it.
            self.ended = self
                .ended
                .take()
                .or(Some(ran).filter(|ran| ran.code.is_some()));
        }
        let open = settle(&self.targets, self.start, SETTLE).await;
        if open > 0 {
            self.note(format!(
                "{open} operations were still open when the drill was over"
            ));
        }
        // What is told of those that ended last is on its way.
        clock::sleep(Duration::from_millis(300)).await;
        let mut samples = self.samples();
        samples.sent = log.map(|log| log.sent().clone()).unwrap_or_default();
        let dropped = self.dropped().await;
        if dropped > 0 {
            self.note(format!(
                "{dropped} records were lost: instances keep a bounded number"
            ));
        }
        samples.lost += dropped;
        samples
    }

    /// Records that instances lost while the drill ran, and that we have not got by other means.
    async fn dropped(&self) -> u64 {
        let mut lost = 0;
        for target in &self.targets.list {
            if let Ok(status) = target.client.status().await {
                let now = &status.evidence;
                let before = &target.status.evidence;
                // What leaves a full memory has been told before, unless it fell behind.
                let gone = now.dropped.saturating_sub(before.dropped);
                let seen = self.inbox.lock();
                let here = seen
                    .seen
                    .iter()
                    .filter(|s| self.of_target(s, target))
                    .count() as u64;
                let made = operations(&status).saturating_sub(operations(&target.status));
                lost += gone.min(made.saturating_sub(here));
            }
        }
        lost
    }

    fn of_target(&self, seen: &Seen, target: &Target) -> bool {
        let of = self.targets.list.get(seen.target);
        of.is_some_and(|of| of.client.url() == target.client.url())
    }

    /// Why nothing that was seen shows anything.
    fn empty(&self, load: &[Op], samples: &Samples, acted: &[Acted]) -> Vec<String> {
        let mut empty = Vec::new();
        if self.during.from == 0 {
            return empty;
        }
        let (_, all) = success(load, self.during);
        if all < LEAST {
            empty.push(format!(
                "no load was seen while faults were on, or hardly any: {all} operations"
            ));
        }
        let due = samples.sent.len();
        let unsent = samples.sent.iter().filter(|s| s.began.is_none()).count();
        if unsent as f64 > due as f64 * UNSENT {
            empty.push(format!(
                "{unsent} of {due} requests were not started: more than `in_flight` were under way"
            ));
        }
        let of_api = |what: &What| !matches!(what, What::Run(_));
        let all = self.faults.list().iter().zip(acted);
        let mut drawn = 0;
        for (fault, acted) in all.clone().filter(|(f, _)| of_api(&f.what)) {
            if fault.drawn {
                drawn += acted.injected;
            } else if acted.injected == 0 {
                empty.push(match acted.selected {
                    0 => format!("`{}` never met an operation", fault.name),
                    n => format!(
                        "`{}` chose {n} operations and changed nothing in any",
                        fault.name
                    ),
                });
            }
        }
        if drawn == 0
            && all.clone().any(|(f, _)| f.drawn && of_api(&f.what))
            && !self.plan.turns.is_empty()
        {
            empty.push("none of the faults that chance drew ever bit".to_owned());
        }
        empty
    }

    /// All records of the drill that instances still have.
    async fn records(&mut self) -> Vec<Record> {
        let mut all = Vec::new();
        for target in self.targets.list.clone() {
            let since = (self.start.0 as i64 + target.skew).max(0) as u64;
            let filter = Filter {
                since: Some(Timestamp(since)),
                ..Filter::default()
            };
            let records = async { target.client.evidence(&filter).await?.collect().await };
            match records.await {
                Ok(records) => all.extend(records),
                Err(error) => self.note(format!("no records for the report: {error}")),
            }
        }
        all.sort_by_key(|record| (record.started, record.id));
        all
    }

    async fn clean_up(&mut self) -> Vec<report::Step> {
        let mut steps = Vec::new();
        for line in self.job.drill.cleanup.clone() {
            let at = self.zero.now();
            let ran = command::run(&line, self.faults.environment()).await;
            let error = match ran {
                Ok(ran) if ran.is_done() => None,
                Ok(ran) => Some(ran.in_words()),
                Err(error) => Some(error),
            };
            if let Some(error) = &error {
                self.note(format!("cleanup: `{line}`: {error}"));
            }
            steps.push(report::Step {
                at_ms: ms(at),
                what: line.to_string(),
                error,
            });
        }
        steps
    }
}

/// Operations that an instance has finished.
fn operations(status: &crate::wire::Status) -> u64 {
    let proxies = status.proxies.iter();
    proxies.flat_map(|proxy| proxy.operations.values()).sum()
}

/// What records show, worked out where it keeps nobody waiting.
async fn judged(records: &[Record]) -> Vec<Finding> {
    let records = records.to_vec();
    let now = Timestamp::now();
    let judged = tokio::task::spawn_blocking(move || findings::judge(&records, now));
    judged.await.unwrap_or_default()
}

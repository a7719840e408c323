//! From the lifting of faults to the report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::super::command;
use super::super::flow;
use super::super::follow::settle;
use super::super::plan::What;
use super::super::report::{self, Report, SHAPE};
use super::super::sample::{Micros, Op, Samples, Seen, Window, micros};
use super::super::targets::{Acted, Refused};
use super::super::verdict::{
    Course, Ended, Facts, Judgement, LEAST, Recovered, Verdict, judge, overall, recovery, success,
};
use super::asking::{Phase, Whose};
use super::look::amplified;
use super::{Halt, Run, SETTLE};
use crate::clock::{self, Timestamp};
use crate::config::drill::Source;
use crate::config::{partition_to_json, rule_to_json};
use crate::evidence::findings::{self, Finding};
use crate::evidence::story::{Story, names};
use crate::evidence::{Class, Filter, Record};

/// Of what was due, so much may be left unsent before the load is not what was meant.
const UNSENT: f64 = 0.01;
/// Requests that are later than this are said to be.
const LATE: f64 = 100.0;
/// The most operations that are told.
const STORIES: usize = 5;
/// How long a connection through an edge is looked at.
const GLANCE: Duration = Duration::from_millis(300);

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
            samples: &samples,
            load: &load,
            edges: &names,
            entry: &self.entry,
            findings: &found,
            before: self.before,
            during: self.during,
            end,
            live: false,
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

    fn of_target(&self, seen: &Seen, target: &super::super::targets::Target) -> bool {
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

    /// Looks at each edge whether anything of the drill is left.
    async fn residue(
        &self,
        samples: &Samples,
        healed: Micros,
        drilled: bool,
    ) -> Vec<Option<report::Residue>> {
        let mut found = Vec::new();
        for (n, edge) in self.targets.edges.iter().enumerate() {
            if !drilled || !edge.enabled {
                found.push(None);
                continue;
            }
            let after = |s: &&Seen| s.edge == n && s.began > healed && s.injected;
            let touched = samples.seen.iter().filter(after).count();
            let (state, said) = match touched {
                0 => glance(&edge.address).await,
                n => (
                    "residue",
                    format!("{n} operations were still changed after all was lifted"),
                ),
            };
            found.push(Some(report::Residue {
                state: state.to_owned(),
                said,
            }));
        }
        found
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

    fn stretches(&self, healed: Micros, end: Micros, drilled: bool) -> Vec<report::Stretch> {
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

    fn instances(&self) -> Vec<report::Instance> {
        let one = |target: &super::super::targets::Target| report::Instance {
            url: target.client.url().to_owned(),
            version: target.status.version.clone(),
            seed: target.status.seed,
            clock_ahead_ms: ms(target.skew),
        };
        self.targets.list.iter().map(one).collect()
    }

    fn fault_reports(&self, acted: &[Acted]) -> Vec<report::Fault> {
        let list = self.faults.list().iter().enumerate().zip(acted);
        let one = |((n, fault), acted): ((usize, &super::super::plan::Fault), &Acted)| {
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

    fn steps(&self) -> Vec<report::Step> {
        let steps = self.faults.steps.iter();
        let one = |(at, what, error): &(Micros, String, Option<String>)| report::Step {
            at_ms: ms(*at),
            what: what.clone(),
            error: error.clone(),
        };
        steps.map(one).collect()
    }

    fn load_report(
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
            let latency = super::super::verdict::latency(load, window);
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

    fn promise_reports(&self, judged: &[Judgement], records: &[Record]) -> Vec<report::Promise> {
        let promises = self.job.drill.promises.iter().zip(judged);
        let names = self.edge_names();
        let one = |(promise, judged): (&crate::config::drill::Promise, &Judgement)| {
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

    fn edge_reports(
        &self,
        samples: &Samples,
        healed: Micros,
        end: Micros,
        watched: bool,
        residue: Vec<Option<report::Residue>>,
    ) -> Vec<report::Edge> {
        let watch = self.watch_of(healed, end);
        let edges = self.targets.edges.iter().enumerate().zip(residue);
        let one = |((n, edge), residue): ((usize, &super::super::targets::Edge), _)| {
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

    /// The worst operations, told twice: those that prove a broken promise, then those of which
    /// somebody could not know what became.
    fn stories(&self, judged: &[Judgement], records: &[Record]) -> Vec<report::Stories> {
        let promises = self.job.drill.promises.iter().zip(judged);
        let broken = promises.filter(|(_, j)| j.verdict == Verdict::Broken);
        let proofs = broken.flat_map(|(promise, judged)| {
            let why = format!("broken: {}", promise.name);
            judged.proof.iter().map(move |(_, id)| (why.clone(), *id))
        });
        let doubtful = [
            Class::Unseen,
            Class::Unknown,
            Class::Late,
            Class::NeverDelivered,
        ];
        let doubtful = doubtful.into_iter().flat_map(|class| {
            let these = records.iter().filter(move |r| r.class == class);
            let injected = these.filter(|r| r.faults.iter().any(|f| f.injected));
            injected.map(move |r| (class.to_string(), r.id))
        });
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut stories = Vec::new();
        for (why, id) in proofs.chain(doubtful) {
            if stories.len() >= STORIES {
                break;
            }
            let Some(record) = records.iter().find(|r| r.id == id) else {
                continue;
            };
            let (name, all) = whole(record, records);
            if !told.insert(name.clone()) {
                continue;
            }
            if let Some(story) = Story::of(&name, &all) {
                stories.push(self.story(why, &story));
            }
        }
        stories
    }

    fn story(&self, why: String, story: &Story) -> report::Stories {
        let told = |told: &crate::evidence::story::Told| report::Told {
            at_ms: ms(micros(self.start, told.at)),
            what: told.what.clone(),
        };
        let teller = |teller: &crate::evidence::story::Teller| report::Teller {
            name: teller.name.clone(),
            facts: teller.facts.iter().map(told).collect(),
        };
        let unknown = story.unknown.iter().map(|unknown| match &unknown.to {
            Some(who) => format!("to {who}: {}", unknown.what),
            None => unknown.what.clone(),
        });
        report::Stories {
            id: story.id.clone(),
            why,
            customer: teller(&story.customer),
            participants: story.participants.iter().map(teller).collect(),
            faults: story.faults.iter().map(told).collect(),
            unknown: unknown.collect(),
        }
    }
}

/// All records that belong to the operation of one, and what it is called.
fn whole(record: &Record, records: &[Record]) -> (String, Vec<Record>) {
    let identity = record.identity.as_ref().map(|i| i.value.clone());
    let mut own = vec![record.clone()];
    let mut known = names(&own);
    known.extend(identity.clone());
    // By what those are known that are found, others are.
    loop {
        let belongs = |r: &&Record| {
            let own = r
                .identity
                .as_ref()
                .is_some_and(|i| known.contains(&i.value));
            own || r.trace.is_some_and(|t| known.contains(&t.id.to_string())) || r.id == record.id
        };
        let found: Vec<_> = records.iter().filter(belongs).take(200).cloned().collect();
        let more = names(&found);
        let grown = found.len() > own.len();
        own = found;
        if !grown || more.is_subset(&known) {
            break;
        }
        known.extend(more);
    }
    (identity.unwrap_or_else(|| record.id.to_string()), own)
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

/// Whether a connection through an edge stands.
async fn glance(address: &str) -> (&'static str, String) {
    let connected = clock::within(Duration::from_secs(2), TcpStream::connect(address)).await;
    let mut stream = match connected {
        Some(Ok(stream)) => stream,
        Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return ("residue", format!("{address} refuses connections"));
        }
        Some(Err(error)) => {
            return (
                "unknown",
                format!("{address} can't be reached from here: {error}"),
            );
        }
        None => return ("unknown", format!("{address} can't be reached from here")),
    };
    let mut byte = [0];
    match clock::within(GLANCE, stream.read(&mut byte)).await {
        // It says something first, or nothing: both are as it should be.
        None | Some(Ok(1)) => ("clean", "connections stand".to_owned()),
        Some(Ok(_)) => ("residue", "connections are closed at once".to_owned()),
        Some(Err(error)) => ("residue", format!("connections break at once: {error}")),
    }
}

fn sent(samples: &Samples) -> report::Sent {
    use super::super::sample::Outcome;
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
    let count = |of: fn(&super::super::sample::Sent) -> bool| {
        samples.sent.iter().filter(|s| of(s)).count() as u64
    };
    report::Sent {
        due: samples.sent.len() as u64,
        not_started: count(|s| s.began.is_none()),
        good: count(|s| s.good),
        outcomes,
        late_ms: [at(0.5), at(0.99), at(1.0)],
    }
}

fn recovered_report(judged: &Recovered, amplified: Option<report::Amplified>) -> report::Recovered {
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

/// The most steps of a series.
const STEPS: f64 = 240.0;

/// How it went, in steps of a round length.
fn series(
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

fn ms(at: Micros) -> f64 {
    at as f64 / 1e3
}

/// To a thousandth.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

//! Findings about callers, held against real ones: the libraries that people retry with, as they are, with
//! attempts, waits and timeouts that each draws for itself and tells only at its end.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill::evidence::findings::{Finding, Verdict, Wanted};
use serde_json::Value;

use support::process::{Firedrill, Process, program, without_proxies};
use support::{Server, here};

/// Who calls by what, and its habits.
const CALLERS: &[(&str, &[&str])] = &[
    (
        "python",
        &[
            "exponential",
            "exponential_with_jitter",
            "fixed",
            "fixed_with_jitter",
            "few",
            "enough",
            "unbounded",
            "patient",
            "obeys_retry_after",
            "ignores_retry_after",
        ],
    ),
    (
        "node",
        &[
            "exponential",
            "exponential_with_jitter",
            "constant",
            "unbounded",
        ],
    ),
    (
        "rust",
        &["exponential", "exponential_with_jitter", "constant"],
    ),
];

const RULES: &str = "\
rules:
- { name: down, match: { path: /down }, fault: { abort: { status: 503 } } }
- { name: lost, match: { path: /lost }, fault: { response_loss: { then: hang } } }
- { name: throttled, match: { path: /throttled }, fault: { throttle: { rate: 1/h, retry_after: 1s } } }
";

/// How many samples each finding asks for at the least, as its definition says.
const LEAST: &[(&str, u64)] = &[
    ("timeouts", 3),
    ("bounded_retries", 5),
    ("backoff", 3),
    ("jitter", 8),
    ("retry_after", 3),
    ("unsafe_retry", 3),
];

/// What its end is waited for, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(80);

fn command(language: &str) -> Command {
    match language {
        "python" => {
            let mut command = Command::new(support::python());
            command.arg(here("tests/python/retries.py"));
            command
        }
        "node" => {
            let mut command = program("node", "nodejs");
            command.env("NODE_PATH", here("target/node/node_modules"));
            command.arg(here("tests/node/retries.js"));
            command
        }
        _ => Command::new(here("target/rust-client/debug/retries")),
    }
}

/// A caller, its process.
struct Caller {
    name: String,
    process: Process,
}

impl Caller {
    /// The line `n` that it says, once it has.
    async fn line(&mut self, n: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.process.said().lines().nth(n) {
                return line.to_owned();
            }
            let ended = self.process.ended();
            assert_eq!(ended, None, "{}: {}", self.name, self.process.log());
            assert!(
                Instant::now() < deadline,
                "{}: {}",
                self.name,
                self.process.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_of_callers_is_what_they_do() {
    let seed = std::env::var("FIREDRILL_TEST_SEED").unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos().to_string()
    });
    let upstream = Server::http().await;
    let names = CALLERS.iter().flat_map(|(language, habits)| {
        habits
            .iter()
            .map(move |habit| (*language, *habit, format!("{language}-{habit}")))
    });
    let names: Vec<_> = names.collect();
    let proxy = |(_, _, name): &(_, _, String)| {
        let addr = upstream.addr;
        format!(
            "- {{ name: {name}, from: {name}, to: shop, listen: 127.0.0.1:0, upstream: {addr}, protocol: http }}\n"
        )
    };
    let proxies: String = names.iter().map(proxy).collect();
    let firedrill = Firedrill::start(&format!("proxies:\n{proxies}{RULES}")).await;
    let mut callers = Vec::new();
    for (language, habit, name) in names {
        let mut command = command(language);
        let address = firedrill.proxy(&name).await.to_string();
        command.args([&address, habit, &seed]);
        without_proxies(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = Process::spawn(&mut command);
        callers.push(Caller { name, process });
    }
    // What starting takes shall not be in their way.
    for caller in &mut callers {
        assert_eq!(caller.line(0).await, "ready");
    }
    for caller in &mut callers {
        caller.process.tell("begin");
        // Nor what they do at first, each in that of the others.
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    let mut all = Outcome::default();
    for caller in &mut callers {
        let truth: Value = serde_json::from_str(&caller.line(1).await).unwrap();
        let wanted = Wanted {
            from: Some(caller.name.clone()),
            ..Wanted::default()
        };
        // While it still waits for what it waits for.
        let found = firedrill.api.findings(&wanted).await.unwrap().items;
        let mut held = Held {
            caller: &caller.name,
            did: Did::of(&truth),
            truth: &truth,
            found: &found,
            all: &mut all,
        };
        held.against_all();
        let (spread, delay) = (held.did.spread(), held.did.delay());
        println!(
            "{}: waits lie {spread:.3} apart, answers take {delay:.0} ms",
            caller.name
        );
    }
    println!("unsure: {:?}", all.unsure);
    let again = format!("FIREDRILL_TEST_SEED={seed} draws the same");
    assert!(all.wrong.is_empty(), "{}\n{again}", all.wrong.join("\n"));
    // Each of them was shown both ways, and was too little at times.
    for (finding, _) in LEAST {
        let shown: Vec<_> = all.right[finding].iter().copied().collect();
        assert_eq!(shown, ["no", "not_enough", "yes"], "{finding}; {again}");
    }
}

/// What became of all that was held against each other.
#[derive(Default)]
struct Outcome {
    wrong: Vec<String>,
    /// Where the machine had callers do other things than they meant to, and nothing was found.
    unsure: Vec<String>,
    /// The verdicts that each finding had rightly.
    right: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

/// What a caller says of itself against what was found of it.
struct Held<'a> {
    caller: &'a str,
    truth: &'a Value,
    did: Did,
    found: &'a [Finding],
    all: &'a mut Outcome,
}

impl Held<'_> {
    fn against_all(&mut self) {
        let truth = self.truth;
        let number = |key: &str| truth[key].as_f64();
        let word = |key: &str| truth[key].as_str();
        // What is said to be `null` there is none of; of what is not said, nothing can be known.
        let some = |key: &str| truth.get(key).map(|value| !value.is_null());
        let late = self.did.late();

        let jolted = !self.did.stayed_alike();
        if self.verdict("timeouts", some("timeout"), jolted) {
            let stayed = number("timeout").and_then(|_| median(&self.did.stayed));
            self.near("timeouts", "after_ms", number("timeout"), 0.15, late);
            self.near("timeouts", "after_ms", stayed, 0.03, late);
        }
        if self.verdict("bounded_retries", some("attempts"), false) {
            let bound = number("attempts").map(|_| "attempts");
            self.word("bounded_retries", "bound", bound);
            self.near("bounded_retries", "limit", number("attempts"), 0.0, 0.0);
            self.near("bounded_retries", "worst", number("attempts"), 0.0, 0.0);
        }
        let starved = self.did.is_starved();
        let jolted = starved || (truth["jitter"] != true && self.did.is_jolted());
        let grows = word("spacing").map(|spacing| spacing != "fixed");
        if self.verdict("backoff", grows, jolted) {
            // What is drawn may be nearer to a line.
            let is_sure = grows == Some(false) || (truth["jitter"] != true && !jolted);
            self.word("backoff", "spacing", word("spacing").filter(|_| is_sure));
            self.near("backoff", "base_ms", number("base"), 0.15, late);
            let factor = number("factor").filter(|_| !jolted);
            self.near("backoff", "factor", factor, 0.15, 0.0);
            let found = &self.one("backoff").detail["medians_ms"];
            let found: Vec<f64> = serde_json::from_value(found.clone()).unwrap();
            let medians: Vec<f64> = self.did.medians().collect();
            let is_near =
                |(found, truth): (&f64, &f64)| (found - truth).abs() <= truth * 0.03 + late;
            if found.len() != medians.len() || !found.iter().zip(&medians).all(is_near) {
                self.say("backoff", &format!("medians_ms near {medians:.1?}"));
            }
        }
        let jitter = truth["jitter"].as_bool();
        if jitter == Some(false) && (starved || self.did.spread() > 0.07) {
            self.all.unsure.push(format!("{}, jitter", self.caller));
        } else if self.verdict("jitter", jitter, jolted) {
            let scatter = self.did.scatter();
            self.near(
                "jitter",
                "spread",
                Some(scatter),
                0.1,
                0.05 + self.did.delay_of_waits(),
            );
        }
        let obeys = truth["obeys"].as_bool();
        if self.verdict("retry_after", obeys, false) {
            self.near("retry_after", "asked_ms", Some(1000.0), 0.0, 0.0);
            let waited = self.did.medians().next().filter(|_| obeys == Some(true));
            self.near("retry_after", "waited_ms", waited, 0.03, late);
        }
        if self.verdict("unsafe_retry", word("unsafe").map(|how| how != "no"), false) {
            let found = &self.one("unsafe_retry").detail;
            let how = word("unsafe").filter(|how| *how != "no");
            if let Some(how) = how.filter(|how| found[*how] != found["unsafe"]) {
                self.say("unsafe_retry", &format!("all of them {how}"));
            }
        }
    }

    /// Whether it is found to be so, or not to be so, as it should be. Too few samples are not enough; where
    /// the caller was jolted, plenty may be too few.
    fn verdict(&mut self, finding: &str, truth: Option<bool>, jolted: bool) -> bool {
        let (finding, least) = LEAST.iter().find(|(name, _)| *name == finding).unwrap();
        // Callers that don't count them gave none, or plenty.
        let few = self.truth.get("samples");
        let few = few.is_some_and(|samples| samples[*finding].as_u64().unwrap_or(0) < *least);
        let expected = match truth.filter(|_| !few) {
            None => Verdict::NotEnough,
            Some(true) => Verdict::Yes,
            Some(false) => Verdict::No,
        };
        let found = self.one(finding).verdict;
        if found == expected {
            let right = self.all.right.entry(finding).or_default();
            right.insert(found.as_str());
        } else if jolted && found == Verdict::NotEnough {
            self.all.unsure.push(format!("{}, {finding}", self.caller));
        } else {
            self.say(finding, expected.as_str());
        }
        found == expected && found != Verdict::NotEnough
    }

    fn one(&self, finding: &str) -> &Finding {
        let mut found = self.found.iter();
        found.find(|found| found.finding == finding).unwrap()
    }

    fn say(&mut self, finding: &str, expected: &str) {
        let found = serde_json::to_string(self.one(finding)).unwrap();
        let (caller, truth) = (self.caller, self.truth);
        self.all.wrong.push(format!(
            "{caller}, {finding}: not {expected}\n  it says {truth}\n  found {found}"
        ));
    }

    fn word(&mut self, finding: &str, key: &str, expected: Option<&str>) {
        let found = self.one(finding).detail[key].as_str();
        if let Some(expected) = expected.filter(|expected| found != Some(expected)) {
            self.say(finding, &format!("{key} {expected}"));
        }
    }

    /// Whether a figure is within this part of the truth, and so much more.
    fn near(&mut self, finding: &str, key: &str, truth: Option<f64>, part: f64, more: f64) {
        let found = self.one(finding).detail[key].as_f64();
        let is_near = |truth: &f64| found.is_some_and(|f| (f - truth).abs() <= truth * part + more);
        if let Some(truth) = truth.filter(|truth| !is_near(truth)) {
            self.say(finding, &format!("{key} near {truth:.2}"));
        }
    }
}

/// What a caller really did, by its own clock, in milliseconds.
struct Did {
    /// Before each retry, by its ordinal.
    waits: Vec<Vec<f64>>,
    /// How long with what it left.
    stayed: Vec<f64>,
    /// How long until it was refused.
    heard: Vec<f64>,
}

impl Did {
    fn of(truth: &Value) -> Self {
        let sorted = |all: &Value| {
            let mut all: Vec<f64> = serde_json::from_value(all.clone()).unwrap();
            all.sort_by(f64::total_cmp);
            all
        };
        Self {
            waits: truth["waits"]
                .as_array()
                .unwrap()
                .iter()
                .map(sorted)
                .collect(),
            stayed: sorted(&truth["stayed"]),
            heard: sorted(&truth["heard"]),
        }
    }

    /// Before each retry.
    fn medians(&self) -> impl Iterator<Item = f64> {
        self.waits.iter().filter_map(|waits| median(waits))
    }

    /// How far apart both sides of the wire may see the same wait: an answer is under way before it, and
    /// a request after it.
    fn late(&self) -> f64 {
        20.0 + 2.0 * self.delay()
    }

    /// What nearly all answers took.
    fn delay(&self) -> f64 {
        quantile(&self.heard, 0.9).unwrap_or(0.0)
    }

    /// How far a tenth of the waits lies below the middle, or above it, whichever is less, as a part of it.
    fn spread(&self) -> f64 {
        let off = self.waits.iter().flat_map(|waits| {
            let middle = median(waits).unwrap_or(1.0).max(1.0);
            waits.iter().map(move |wait| wait / middle - 1.0)
        });
        let mut off: Vec<f64> = off.collect();
        off.sort_by(f64::total_cmp);
        let at = |q| quantile(&off, q).unwrap_or(0.0);
        (at(0.5) - at(0.1)).min(at(0.9) - at(0.5))
    }

    /// Half the way between those that a tenth lies below and above, as a part: the middle of all ordinals.
    fn scatter(&self) -> f64 {
        let scatter = self.waits.iter().filter_map(|waits| {
            let apart = quantile(waits, 0.9)? - quantile(waits, 0.1)?;
            Some(apart / 2.0 / median(waits)?)
        });
        let mut scatter: Vec<f64> = scatter.collect();
        scatter.sort_by(f64::total_cmp);
        median(&scatter).unwrap_or(0.0)
    }

    /// Whether waits that should be the same were not nearly so, or can't have looked so.
    fn is_jolted(&self) -> bool {
        self.spread() > 0.03 || self.delay_of_waits() > 0.03
    }

    /// What nearly all answers took, as a part of the shortest waits.
    fn delay_of_waits(&self) -> f64 {
        let waits = self.medians().filter(|ms| *ms >= 20.0);
        self.delay() / waits.fold(f64::INFINITY, f64::min)
    }

    /// Whether so much was late that the waits on the wire were others than it knows of.
    fn is_starved(&self) -> bool {
        self.delay() > 50.0 && self.delay_of_waits() > 0.1
    }

    /// Whether nearly all that it left it left after the same time, as can be seen from outside.
    fn stayed_alike(&self) -> bool {
        let middle = median(&self.stayed).unwrap_or(0.0);
        let near = |ms: &&f64| (**ms - middle).abs() <= middle * 0.06;
        let seen = self.stayed.is_empty() || self.delay() <= middle * 0.06;
        seen && self.stayed.iter().filter(near).count() * 5 >= self.stayed.len() * 4
    }
}

/// Of samples in their order, between two where it falls there.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let at = sorted.len().checked_sub(1)? as f64 * q;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

fn median(sorted: &[f64]) -> Option<f64> {
    quantile(sorted, 0.5)
}

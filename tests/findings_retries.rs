//! Findings about callers, held against real ones: the libraries that people retry with, as they are, with
//! attempts, waits and timeouts that each draws for itself and tells only at its end.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill::evidence::findings::{Finding, Verdict, Wanted};
use serde_json::Value;

use support::Server;
use support::process::{Firedrill, Process, program, without_proxies};

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

fn here(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "there is no {}: run tests/run",
        path.display()
    );
    path
}

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
    println!("FIREDRILL_TEST_SEED={seed}");
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
    }
    let mut wrong = Vec::new();
    let mut judged: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
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
            truth: &truth,
            found: &found,
            wrong: &mut wrong,
            judged: &mut judged,
        };
        held.against_all();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each of them was shown both ways, and was too little at times.
    for (finding, _) in LEAST {
        let shown: Vec<_> = judged[finding].iter().copied().collect();
        assert_eq!(shown, ["no", "not_enough", "yes"], "{finding}");
    }
}

/// What a caller says of itself against what was found of it.
struct Held<'a> {
    caller: &'a str,
    truth: &'a Value,
    found: &'a [Finding],
    wrong: &'a mut Vec<String>,
    judged: &'a mut BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Held<'_> {
    fn against_all(&mut self) {
        let truth = self.truth;
        let has = |key: &str| truth.get(key);
        let number = |key: &str| has(key).and_then(Value::as_f64);
        let word = |key: &str| has(key).and_then(Value::as_str);
        let flag = |key: &str| has(key).and_then(Value::as_bool);
        let did = Did::of(truth);

        if self.verdict("timeouts", has("timeout").map(|t| !t.is_null())) {
            if let Some(ms) = number("timeout") {
                self.near("timeouts", "after_ms", ms, 0.1, 80.0);
                self.near("timeouts", "after_ms", median(&did.stayed), 0.03, 30.0);
            }
        }
        if self.verdict("bounded_retries", has("attempts").map(|a| !a.is_null())) {
            if let Some(attempts) = number("attempts") {
                self.word("bounded_retries", "bound", "attempts");
                self.near("bounded_retries", "limit", attempts, 0.0, 0.0);
                self.near("bounded_retries", "worst", attempts, 0.0, 0.0);
            }
        }
        if self.verdict("backoff", word("spacing").map(|s| s != "fixed")) {
            // What is drawn may be nearer to a line.
            let spacing = word("spacing").filter(|s| *s == "fixed" || number("base").is_some());
            if let Some(spacing) = spacing {
                self.word("backoff", "spacing", spacing);
            }
            if let Some(base) = number("base") {
                self.near("backoff", "base_ms", base, 0.15, 80.0);
            }
            if let Some(factor) = number("factor") {
                self.near("backoff", "factor", factor, 0.15, 0.0);
            }
            let medians = self.one("backoff").detail["medians_ms"].clone();
            let medians = medians.as_array().unwrap();
            let close = medians.len() == did.waits.len()
                && medians.iter().zip(&did.waits).all(|(found, waits)| {
                    let truth = median(waits);
                    (found.as_f64().unwrap() - truth).abs() <= truth * 0.03 + 30.0
                });
            if !close {
                let did: Vec<_> = did.waits.iter().map(|w| median(w).round()).collect();
                self.say("backoff", &format!("medians_ms near {did:?}"));
            }
        }
        let jitter = flag("jitter");
        if jitter == Some(false) && did.lies_apart() {
            // The machine has made its waits differ as much as if it had meant them to.
            println!("{}: its waits differ by themselves", self.caller);
        } else {
            self.verdict("jitter", jitter);
        }
        self.verdict("retry_after", flag("obeys"));
        if self.verdict("unsafe_retry", word("unsafe").map(|why| why != "no")) {
            let why = word("unsafe").filter(|why| *why != "no");
            let found = &self.one("unsafe_retry").detail;
            if let Some(why) = why.filter(|why| found[*why] != found["unsafe"]) {
                self.say("unsafe_retry", &format!("all of them {why}"));
            }
        }
    }

    /// Whether there was enough to tell, as there should be, and it is so, or is not.
    fn verdict(&mut self, finding: &str, truth: Option<bool>) -> bool {
        let (finding, least) = LEAST.iter().find(|(name, _)| *name == finding).unwrap();
        let samples = self.truth["samples"].as_object();
        // Callers that don't count them gave none, or plenty.
        let samples =
            samples.map(|samples| samples.get(*finding).map_or(0, |n| n.as_u64().unwrap()));
        let expected = match truth {
            Some(truth) if samples.is_none_or(|n| n >= *least) => {
                if truth {
                    Verdict::Yes
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::NotEnough,
        };
        let is_right = self.one(finding).verdict == expected;
        if is_right {
            self.judged
                .entry(finding)
                .or_default()
                .insert(expected.as_str());
        } else {
            self.say(finding, expected.as_str());
        }
        is_right && expected != Verdict::NotEnough
    }

    fn one(&self, finding: &str) -> &Finding {
        let mut found = self.found.iter();
        found.find(|found| found.finding == finding).unwrap()
    }

    fn say(&mut self, finding: &str, expected: &str) {
        let found = serde_json::to_string(self.one(finding)).unwrap();
        let (caller, truth) = (self.caller, self.truth);
        self.wrong.push(format!(
            "{caller}, {finding}: not {expected}\n  it says {truth}\n  found {found}"
        ));
    }

    fn word(&mut self, finding: &str, key: &str, expected: &str) {
        if self.one(finding).detail[key] != expected {
            self.say(finding, &format!("{key} {expected}"));
        }
    }

    fn near(&mut self, finding: &str, key: &str, truth: f64, part: f64, more: f64) {
        let figure = self.one(finding).detail[key].as_f64();
        if !figure.is_some_and(|figure| (figure - truth).abs() <= truth * part + more) {
            self.say(finding, &format!("{key} near {truth}"));
        }
    }
}

/// What a caller really did, by its own clock, in milliseconds.
struct Did {
    /// Before each retry, by its ordinal.
    waits: Vec<Vec<f64>>,
    /// With what it left.
    stayed: Vec<f64>,
}

impl Did {
    fn of(truth: &Value) -> Self {
        let sorted = |all: &Value| {
            let all = all.as_array().unwrap().iter();
            let mut all: Vec<f64> = all.map(|ms| ms.as_f64().unwrap()).collect();
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
        }
    }

    /// Whether, at half of the retries, an eighth of the waits lies a twentieth below the middle, and an eighth
    /// as far above.
    fn lies_apart(&self) -> bool {
        let apart = self.waits.iter().filter(|waits| {
            let (middle, eighth) = (median(waits), waits.len() / 8);
            let (low, high) = (waits[eighth], waits[waits.len() - 1 - eighth]);
            low < middle * 0.95 && high > middle * 1.05
        });
        !self.waits.is_empty() && apart.count() * 2 >= self.waits.len()
    }
}

/// Of samples in their order.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

//! Findings about patterns, held against real ones: breakers, bulkheads, fallbacks, servers that shed load or
//! do what they are asked twice, with thresholds, limits and times that each draws for itself and tells only
//! at its end.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill::evidence::findings::{Finding, Verdict, Wanted};
use serde_json::{Map, Value, json};

use support::process::{Firedrill, Process, program, without_proxies};
use support::{PATIENCE, here};

const RULES: &str = "\
rules:
- { name: down, match: { path: /down }, fault: { abort: { status: 503 } } }
- { name: slow, match: { path: /slow }, fault: { delay: { latency: 400ms, jitter: 100ms } } }
- { name: twice, match: { path: /twice/* }, fault: { duplicate: {} } }
- { name: lost, match: { path: /lost/*, request: { nth: 1, per: identity } }, fault: { response_loss: { then: reset } } }
";

/// What nobody is said to have who does not say so himself.
const PATTERNS: &[&str] = &[
    "circuit_breaker",
    "bulkhead",
    "fallback",
    "load_shedding",
    "double_effect",
];

/// The longest that one of them takes, whatever else the machine does.
const LONG: Duration = Duration::from_secs(60);

fn command(habit: &str) -> Command {
    if habit.starts_with("node_") {
        let mut command = program("node", "nodejs");
        command.env("NODE_PATH", here("target/node/node_modules"));
        command.arg(here("tests/node/patterns.js"));
        return command;
    }
    let mut command = Command::new(support::python());
    command.arg(here("tests/python/patterns.py"));
    command
}

/// A caller with the service that it calls, or a service with its callers: a process.
struct Party {
    habit: &'static str,
    process: Process,
}

impl Party {
    fn start(habit: &'static str, seed: &str) -> Self {
        let mut command = command(habit);
        command.args([habit, seed]);
        without_proxies(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = Process::spawn(&mut command);
        Self { habit, process }
    }

    /// The object that it says `n`th, once it has.
    async fn word(&mut self, n: usize) -> Value {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(line) = self.process.said().lines().nth(n) {
                return serde_json::from_str(line).unwrap();
            }
            let ended = self.process.ended();
            let log = self.process.log();
            let late = Instant::now() > deadline;
            assert!(ended.is_none() && !late, "{}, {ended:?}: {log}", self.habit);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What must be found.
struct Expected {
    finding: &'static str,
    edge: (String, String),
    verdict: Verdict,
    /// Figures, from what to what.
    figures: Vec<(&'static str, f64, f64)>,
}

impl Expected {
    /// What is not as it must be.
    fn against(&self, found: &[Finding]) -> Option<String> {
        let (from, to) = &self.edge;
        let mut of = found.iter().filter(|f| {
            f.finding == self.finding && f.subject.from == *from && f.subject.to == *to
        });
        let Some(found) = of.next() else {
            return Some(format!("{from} > {to}: {} was not judged", self.finding));
        };
        let is = |(key, low, high): &(&str, f64, f64)| {
            let figure = found.detail[*key].as_f64();
            figure.is_some_and(|figure| (*low..=*high).contains(&figure))
        };
        let as_expected = found.verdict == self.verdict && self.figures.iter().all(is);
        (!as_expected).then(|| {
            let found = serde_json::to_string(found).unwrap();
            let figures = &self.figures;
            format!("not {}, {figures:?}\n  found {found}", self.verdict)
        })
    }
}

/// A pattern that is seen where there is none.
fn unexpected(found: &Finding, all: &[Expected]) -> Option<String> {
    let is_pattern = PATTERNS.contains(&&*found.finding);
    let is_it = |e: &Expected| {
        let (from, to) = &e.edge;
        e.finding == found.finding && *from == found.subject.from && *to == found.subject.to
    };
    let is_unexpected = is_pattern && found.verdict == Verdict::Yes && !all.iter().any(is_it);
    is_unexpected.then(|| format!("nothing of that\n  found {}", json!(found)))
}

fn verdict(word: &Value) -> Verdict {
    serde_json::from_value(word.clone()).unwrap()
}

fn exactly(told: &Value, keys: &[&'static str]) -> Vec<(&'static str, f64, f64)> {
    let figure = |key: &&'static str| told[*key].as_f64().map(|figure| (*key, figure, figure));
    keys.iter().filter_map(figure).collect()
}

/// What it did, as it says, and what must be found of that.
fn expected(habit: &str, told: &Value) -> Vec<Expected> {
    let below = (habit.to_owned(), format!("below_{habit}"));
    let above = ("client".to_owned(), habit.to_owned());
    let number = |key: &str| told[key].as_f64().unwrap();
    let one = |finding, edge, figures| {
        let verdict = verdict(&told[finding]);
        vec![Expected {
            finding,
            edge,
            verdict,
            figures,
        }]
    };
    let words: &Map<String, Value> = told.as_object().unwrap();
    let has = |key: &str| words.contains_key(key);
    match () {
        () if has("threshold") => {
            let mut figures = exactly(told, &["threshold", "opened", "closed"]);
            figures.push(("threshold_most", number("threshold"), number("threshold")));
            // It is tried again with the first call after that time.
            let open = number("open_ms");
            figures.push(("open_ms", open - 20.0, open * 1.05 + 150.0));
            if has("demand") {
                let opened = number("opened");
                figures.push(("demand", opened, opened));
            }
            one("circuit_breaker", below, figures)
        }
        () if has("circuit_breaker") => {
            // The first has none before it.
            let in_a_row = exactly(told, &["in_a_row"]);
            let in_a_row = in_a_row.into_iter().map(|(key, n, _)| (key, n - 1.0, n));
            one("circuit_breaker", below, in_a_row.collect())
        }
        () if has("bulkhead") => {
            let mut figures = exactly(told, &["limit"]);
            if has("limit") {
                figures.push(("wanted", number("limit") * 2.0, 40.0));
            } else {
                // One may seem to begin while another ends.
                let peak = number("peak");
                figures.push(("peak", peak * 0.85 - 2.0, peak * 1.15 + 2.0));
            }
            one("bulkhead", below, figures)
        }
        () if has("fallback") => one("fallback", below, exactly(told, &["linked", "hidden"])),
        () if has("load_shedding") => {
            let mut figures = exactly(told, &["shed"]);
            if has("limit") {
                let (limit, took) = (number("limit"), number("served_ms"));
                figures.push(("limit", limit - 1.0, limit + 1.0));
                figures.push(("served_ms", took, took * 1.25 + 50.0));
                figures.push(("shed_ms", 0.0, took / 2.0));
            } else {
                let peak = number("peak");
                figures.push(("peak", peak * 0.9 - 3.0, peak * 1.1 + 3.0));
            }
            one("load_shedding", above, figures)
        }
        () => {
            let kinds = told["repeats"].as_object().unwrap();
            kinds
                .iter()
                .flat_map(|(kind, n)| repeats(kind, n))
                .collect()
        }
    }
}

/// A service that was asked for `n` things again, by how it answers that.
fn repeats(kind: &str, n: &Value) -> [Expected; 2] {
    let edge = ("client".to_owned(), kind.to_owned());
    let (answer, idempotent, double_effect) = match kind {
        "same" => ("same", "yes", "no"),
        "replayed" => ("replayed", "yes", "no"),
        "conflict" => ("conflict", "yes", "no"),
        "mismatch" => ("mismatch", "yes", "no"),
        "charges_twice" => ("different", "no", "yes"),
        _ => ("same", "not_enough", "not_enough"),
    };
    let n = n.as_f64().unwrap();
    let twice = if answer == "different" { n } else { 0.0 };
    [
        Expected {
            finding: "idempotent",
            edge: edge.clone(),
            verdict: verdict(&json!(idempotent)),
            figures: vec![("duplicates", n, n), (answer, n, n)],
        },
        Expected {
            finding: "double_effect",
            edge,
            verdict: verdict(&json!(double_effect)),
            figures: vec![("duplicates", n, n), ("suspected", twice, twice)],
        },
    ]
}

/// Has them all do as they do, at the same time, and holds what is found against what they say.
async fn hold(habits: &[&'static str]) {
    let seed = std::env::var("FIREDRILL_TEST_SEED").unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos().to_string()
    });
    println!("FIREDRILL_TEST_SEED={seed}");
    let mut parties: Vec<Party> = habits.iter().map(|h| Party::start(h, &seed)).collect();
    let mut proxies = String::new();
    let mut edges = Vec::new();
    for party in &mut parties {
        let word = party.word(0).await;
        let names: Vec<[String; 3]> = serde_json::from_value(word["edges"].clone()).unwrap();
        for [name, from, to] in &names {
            let (habit, port) = (party.habit, &word["port"]);
            proxies += &format!(
                "- {{ name: {habit}-{name}, from: {from}, to: {to}, listen: 127.0.0.1:0, \
                 upstream: 127.0.0.1:{port}, protocol: http }}\n"
            );
        }
        edges.push(names);
    }
    let firedrill = Firedrill::start(&format!("proxies:\n{proxies}{RULES}")).await;
    let mut begins = Vec::new();
    for (party, names) in parties.iter().zip(&edges) {
        let mut addresses = Map::new();
        for [name, ..] in names {
            let address = firedrill.proxy(&format!("{}-{name}", party.habit)).await;
            addresses.insert(name.clone(), json!(address.to_string()));
        }
        begins.push(Value::from(addresses).to_string());
    }
    for (party, begin) in parties.iter_mut().zip(&begins) {
        party.process.tell(begin);
    }
    let mut all = Vec::new();
    for party in &mut parties {
        let told = party.word(1).await;
        println!("{}: {told}", party.habit);
        all.extend(expected(party.habit, &told));
    }
    // What was done last may not yet be told.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = firedrill.api.findings(&Wanted::default()).await.unwrap();
        let mut wrong: Vec<_> = all.iter().filter_map(|e| e.against(&found.items)).collect();
        wrong.extend(
            found
                .items
                .iter()
                .filter_map(|found| unexpected(found, &all)),
        );
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{}", wrong.join("\n"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn circuit_breakers_and_callers_that_have_none() {
    hold(&[
        "breaker",
        "breaker_that_is_asked",
        "node_breaker",
        "no_breaker",
        "few_failures",
        "pauses_between_attempts",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulkheads_and_callers_that_have_none() {
    hold(&["bulkhead", "node_bulkhead", "no_bulkhead"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fallbacks_and_services_that_pass_failures_on() {
    hold(&["hides", "passes_on", "few_to_pass_on"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_shed_load_and_those_that_queue() {
    hold(&["sheds", "queues"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_do_what_comes_again_once_or_twice() {
    hold(&["repeats"]).await;
}

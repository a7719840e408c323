//! The drills that come with Firedrill, on the stack that does.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use firedrill::drill::report::Report;
use firedrill::drill::verdict::{Outcome, Recovery, Verdict};
use support::process::{Process, eventually, firedrill};
use tempfile::TempDir;

fn shipped(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/drills");
    folder.join(format!("{name}.yaml"))
}

/// The stack, on whatever ports are free, and a folder.
struct Demo {
    _stack: Process,
    url: String,
    web: String,
    dir: TempDir,
}

impl Demo {
    async fn start() -> Self {
        let mut command = firedrill();
        command.args(["demo", "--serve"]).stdout(Stdio::piped());
        let stack = Process::spawn(&mut command);
        eventually("the stack stands", async || {
            stack.said().contains("Ctrl-C ends it.").then_some(())
        })
        .await;
        let said = stack.said();
        let word = |line: &str, n: usize| {
            let line = said
                .lines()
                .find(|l| l.trim_start().starts_with(line))
                .unwrap();
            line.split_whitespace()
                .nth(n)
                .unwrap()
                .trim_end_matches(',')
                .to_owned()
        };
        Self {
            url: word("control ", 1),
            web: word("web ", 2),
            dir: tempfile::tempdir().unwrap(),
            _stack: stack,
        }
    }

    /// Runs a shipped drill as it is, but for the ports. One in which the machine was too busy is run
    /// again.
    async fn drill(&self, name: &str) -> (i32, Report) {
        let text = std::fs::read_to_string(shipped(name)).unwrap();
        assert!(text.contains("127.0.0.1:7000"), "{text}");
        let file = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&file, text.replace("127.0.0.1:7000", &self.web)).unwrap();
        for _ in 0..4 {
            let mut command = firedrill();
            command
                .args(["drill", "run", "--json"])
                .arg(&file)
                .env("FIREDRILL_URL", &self.url)
                .stdout(Stdio::piped());
            let ended = Process::spawn(&mut command).finish_within(120).await;
            let report: Report = serde_json::from_str(&ended.said)
                .unwrap_or_else(|error| panic!("{error}: {} {}", ended.said, ended.log));
            if !report.notes.iter().any(|note| note.contains("too busy")) {
                return (ended.code.unwrap(), report);
            }
        }
        panic!("this machine is too busy for drills");
    }
}

fn told(report: &Report) -> String {
    let promises: Vec<_> = report
        .promises
        .iter()
        .map(|p| (&p.name, p.verdict, &p.reason))
        .collect();
    format!(
        "{}: {}\n{promises:#?}\n{:?}\n{:?}",
        report.outcome, report.reason, report.recovery, report.notes
    )
}

/// One that is to hold, and in which the fault did bite.
async fn holds(name: &str) -> Report {
    let (code, report) = Demo::start().await.drill(name).await;
    assert_eq!(
        (code, report.outcome),
        (0, Outcome::Held),
        "{}",
        told(&report)
    );
    assert!(
        report.promises.iter().all(|p| p.verdict == Verdict::Held),
        "{}",
        told(&report)
    );
    assert!(report.faults[0].injected > 5, "{:?}", report.faults);
    for edge in &report.edges {
        assert_eq!(edge.residue.as_ref().unwrap().state, "clean", "{edge:?}");
    }
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_response_is_repaired() {
    let report = holds("lost-payment-response").await;
    // What web was told and what payment knows, side by side.
    let story = report
        .operations
        .iter()
        .find(|story| story.why == "unseen")
        .unwrap();
    assert_eq!(story.customer.name, "customer", "{story:#?}");
    let payment = story
        .participants
        .iter()
        .find(|p| p.name == "payment")
        .unwrap();
    assert!(
        payment
            .facts
            .iter()
            .any(|told| told.what.contains("answered 201")),
        "{story:#?}"
    );
    assert!(!story.unknown.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_dependency_makes_an_order_slow() {
    holds("slow-dependency").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_waited_for() {
    holds("partition").await;
}

/// The same stall and the same load: one caller makes it last, the other does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_retries_outlasts_its_cause_and_a_calm_one_is_none() {
    let demo = Demo::start().await;
    let (code, report) = demo.drill("retry-storm").await;
    assert_eq!(
        (code, report.outcome),
        (1, Outcome::Broken),
        "{}",
        told(&report)
    );
    let recovered = report.recovery.as_ref().unwrap();
    assert_eq!(recovered.verdict, Recovery::Metastable, "{}", told(&report));
    assert_eq!(recovered.amplified.as_ref().unwrap().proxy, "payment");
    let twice = &report.promises[1];
    assert!(
        twice.verdict == Verdict::Broken && !twice.records.is_empty(),
        "{}",
        told(&report)
    );

    let report = holds("retry-calm").await;
    let recovered = report.recovery.as_ref().unwrap();
    assert_eq!(recovered.verdict, Recovery::Recovered, "{}", told(&report));
    assert!(recovered.noticed);
}

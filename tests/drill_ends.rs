//! However a drill ends, what it turned on is turned off; and it says how it ended.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use firedrill::drill::report::Report;
use firedrill::drill::verdict::{Outcome, Verdict};
use rustix::process::Signal;
use serde_json::json;
use support::process::{Firedrill, Process, eventually, firedrill, output};
use support::systems::serve;

/// A Firedrill with one proxy before a server that is always well.
async fn target(control: &str) -> Firedrill {
    let upstream = serve(|_| async { 200 }).await;
    let yaml = format!(
        "proxies:\n  - {{ name: web, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}\n"
    );
    Firedrill::start_with(control, &yaml).await
}

/// A drill that stays in its fault for a while, with a command besides.
fn file(dir: &Path, lasts: &str, more: &str) {
    let text = format!(
        "promise: it works
seed: 1
load: {{ http: {{ proxy: web, path: /, rate: 20/s, timeout: 2s }} }}
steady_state: {{ warm_up: 200ms, for: 1s }}
timeline:
  - {{ for: {lasts}, rule: {{ name: slow, fault: {{ delay: {{ latency: 20ms }} }} }} }}
  - {{ for: {lasts}, run: touch on, undo: touch off }}
{more}
"
    );
    std::fs::write(dir.join("drill.yaml"), text).unwrap();
}

fn begin(firedrill_url: &str, dir: &Path) -> Process {
    let mut command = firedrill();
    command
        .args(["drill", "run", "drill.yaml", "--json"])
        .env("FIREDRILL_URL", firedrill_url)
        .current_dir(dir)
        .stdout(std::process::Stdio::piped());
    Process::spawn(&mut command)
}

/// Waits until the fault is on and the command has run.
async fn in_the_middle(target: &Firedrill, dir: &Path) {
    eventually("the fault is on", async || {
        let rules = target.api.rules().await.unwrap().items;
        let on = rules.iter().any(|rule| rule.name == "slow" && rule.enabled);
        (on && dir.join("on").exists()).then_some(())
    })
    .await;
}

async fn is_on(target: &Firedrill) -> bool {
    let rules = target.api.rules().await.unwrap().items;
    rules.iter().any(|rule| rule.enabled)
}

fn report(said: &str) -> Report {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_it_leaves_nothing_behind() {
    // By its ttl, where nobody waits for heartbeats; sooner, where somebody does.
    for (control, within) in [("", 3 + 5 + 2), ("heartbeat: 1s", 3)] {
        let target = target(control).await;
        let dir = tempfile::tempdir().unwrap();
        file(
            dir.path(),
            if control.is_empty() { "3s" } else { "60s" },
            "",
        );
        let mut drill = begin(&target.url, dir.path());
        in_the_middle(&target, dir.path()).await;
        let on = target.api.drills().await.unwrap().items;
        assert_eq!(
            (on.len(), &*on[0].name, &on[0].rules),
            (1, "drill", &vec!["slow".to_owned()])
        );
        assert!(on[0].until.is_some() && on[0].controller.starts_with("drill:drill-"));
        drill.signal(Signal::KILL);
        drill.end().await;
        let killed = Instant::now();
        // The command as well: its guard sees that nobody is left.
        eventually("it is undone", async || {
            dir.path().join("off").exists().then_some(())
        })
        .await;
        while is_on(&target).await {
            assert!(
                killed.elapsed() < Duration::from_secs(within),
                "{control}: still on"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(target.api.drills().await.unwrap().items.is_empty());
        // What is left is off; the next drill takes its place.
        let rules = target.api.rules().await.unwrap().items;
        assert!(rules.len() == 1 && !rules[0].enabled);
        std::fs::remove_file(dir.path().join("off")).unwrap();
        file(dir.path(), "1s", "recovery: { within: 5s, hold: 500ms }");
        let ended = begin(&target.url, dir.path()).finish().await;
        assert_eq!(ended.code, Some(0), "{} {}", ended.said, ended.log);
        assert!(target.api.rules().await.unwrap().items.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_it_lifts_everything_and_says_so() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let target = target("").await;
        let dir = tempfile::tempdir().unwrap();
        file(
            dir.path(),
            "60s",
            "cleanup: [touch cleaned]\npromises: [{ success_rate: { at_least: 1 } }]",
        );
        let drill = begin(&target.url, dir.path());
        in_the_middle(&target, dir.path()).await;
        drill.signal(signal);
        let ended = drill.finish().await;
        assert_eq!(ended.code, Some(4), "{}", ended.log);
        let report = report(&ended.said);
        assert_eq!((report.outcome, report.exit_code), (Outcome::Halted, 4));
        assert!(report.not_lifted.is_empty() && report.recovery.is_none());
        assert!(report.reason.contains("interrupted"), "{}", report.reason);
        let last = report.timeline.last().unwrap();
        assert!(last.what.ends_with(": off"), "{:?}", report.timeline);
        assert!(dir.path().join("off").exists() && dir.path().join("cleaned").exists());
        assert!(target.api.rules().await.unwrap().items.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_condition_ends_it_at_once() {
    let target = target("").await;
    let dir = tempfile::tempdir().unwrap();
    let more = "  - { at: 1s, for: 60s, rule: { name: broken, fault: { abort: { status: 503 } } } }
stop_when:
  - { success_rate: { below: 0.5 }, over: 1s, for: 300ms }";
    file(dir.path(), "62s", more);
    let ended = begin(&target.url, dir.path()).finish().await;
    let report = report(&ended.said);
    assert_eq!(ended.code, Some(4), "{}", report.reason);
    assert!(
        report.reason.contains("success rate below 50 %"),
        "{}",
        report.reason
    );
    assert!(!is_on(&target).await);
    let took = report.ended.since(report.started);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_lost_can_not_be_looked_at() {
    let target = target("").await;
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "8s", "");
    let drill = begin(&target.url, dir.path());
    in_the_middle(&target, dir.path()).await;
    target.process.signal(Signal::KILL);
    let ended = drill.finish().await;
    let report = report(&ended.said);
    assert_eq!(
        (ended.code, report.outcome),
        (Some(5), Outcome::NotLifted),
        "{}",
        ended.log
    );
    assert!(
        report.not_lifted[0].contains("`slow`"),
        "{:?}",
        report.not_lifted
    );
    // What could be undone was.
    assert!(dir.path().join("off").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_can_not_be_undone_is_the_gravest() {
    let target = target("").await;
    let dir = tempfile::tempdir().unwrap();
    let more = "  - { for: 1s, run: 'true', undo: 'echo no way >&2; exit 3', name: wedge }
recovery: { within: 5s, hold: 500ms }";
    file(dir.path(), "1s", more);
    let ended = begin(&target.url, dir.path()).finish().await;
    let report = report(&ended.said);
    assert_eq!(
        (ended.code, report.outcome),
        (Some(5), Outcome::NotLifted),
        "{}",
        report.reason
    );
    assert!(report.reason.contains("no way"), "{}", report.reason);
    assert!(!is_on(&target).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_begin_is_said_before_anything_is_on() {
    let target = target("").await;
    let dir = tempfile::tempdir().unwrap();
    let run = async |timeline: &str, more: &str| {
        let text = format!("promise: p\ntimeline:\n  - {{ for: 1s, {timeline} }}\n{more}\n");
        std::fs::write(dir.path().join("drill.yaml"), text).unwrap();
        begin(&target.url, dir.path()).finish().await
    };
    for (timeline, more, said) in [
        (
            "rule: { name: r, proxies: [wob], fault: { drop: {} } }",
            "",
            "there is no proxy `wob`",
        ),
        (
            "rule: { name: r, fault: { slow_close: { delay: 1s } } }",
            "",
            "can act on no proxy",
        ),
        (
            "partition: { name: p, isolate: [nobody] }",
            "",
            "no proxy is from or to `nobody`",
        ),
        (
            "rule: { name: r, fault: { drop: {} } }",
            "load: { http: { proxy: wob, rate: 1/s } }",
            "there is no proxy `wob`",
        ),
        (
            "rule: { name: r, fault: { drop: {} } }",
            "promises: [{ http: { proxy: wob } }]",
            "there is no proxy `wob`",
        ),
        (
            "rule: { name: r, faul: { drop: {} } }",
            "",
            "did you mean `fault`?",
        ),
    ] {
        let ended = run(timeline, more).await;
        assert_eq!(
            ended.code,
            Some(2),
            "{timeline} {more}: {} {}",
            ended.said,
            ended.log
        );
        assert!(ended.log.contains(said), "{said}: {}", ended.log);
        assert!(!is_on(&target).await);
    }
    // A name that somebody else uses, if only for the same and more.
    for fault in [
        json!({ "fault": { "reset": {} } }),
        json!({ "fault": { "drop": {} }, "limit": 1 }),
        json!({ "fault": { "drop": {} }, "match": { "path": "/x" } }),
    ] {
        let mut rule = json!({ "name": "mine", "enabled": false });
        rule.as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        target.api.create_rule(&rule).await.unwrap();
        let ended = run("rule: { name: mine, fault: { drop: {} } }", "").await;
        assert_eq!(ended.code, Some(2), "{rule}");
        assert!(
            ended.log.contains("has a definition `mine` already"),
            "{}",
            ended.log
        );
        target.api.delete_rule("mine").await.unwrap();
    }
    // Nobody there: the load never ran.
    let ended = begin("http://127.0.0.1:1", dir.path()).finish().await;
    assert_eq!(ended.code, Some(3), "{}", ended.log);
    assert!(ended.log.contains("can't connect"), "{}", ended.log);
}

/// Proxies of the drill's own, a command that makes the load, probes of all sorts, a report in all
/// forms, two runs side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_with_proxies_of_its_own() {
    let upstream = serve(|_| async { 200 }).await;
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "promise: it works
seed: 11
proxies:
  - {{ name: web, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}
load:
  command: 'while :; do curl -s -o /dev/null http://$FIREDRILL_PROXY_WEB/; sleep 0.05; done'
steady_state: {{ warm_up: 300ms, for: 2s, checks: [{{ success_rate: {{ at_least: 0.9 }} }}, {{ tcp: {{ address: '{upstream}', every: 200ms }} }}] }}
timeline:
  - {{ for: 2s, rule: {{ name: slow, proxies: [web], fault: {{ delay: {{ latency: 20ms }} }} }} }}
promises:
  - success_rate: {{ at_least: 0.9 }}
  - name: the service answers
    when: always
    http: {{ url: 'http://{upstream}/health', status: 200, json: {{ '': {{ length: 0 }} }}, every: 200ms }}
  - name: it counts
    when: end
    command: {{ run: [echo, '[1, 2]'], json: {{ /1: 2 }} }}
  - not: {{ evidence: {{ class: acknowledged, at_most: 0 }} }}
recovery: {{ within: 6s, hold: 1s }}
cleanup: [touch cleaned]
"
    );
    std::fs::write(dir.path().join("own.yaml"), text).unwrap();
    let run = async |args: &[&str]| {
        let mut command = firedrill();
        command.args(args).current_dir(dir.path());
        output(command).await
    };
    for folder in ["a", "b"] {
        let ran = run(&["drill", "run", "own.yaml", "--report", folder]).await;
        let (said, log) = (
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
        );
        assert!(ran.status.success(), "{said}{log}");
        assert!(
            said.contains("HELD: all 4 promises held, and it is well again"),
            "{said}"
        );
        assert!(said.contains("drill run own.yaml --seed 11"), "{said}");
        for line in ["is it steady? 2s", "slow: delay, for 2s", "slow: off"] {
            assert!(log.contains(line), "{line}: {log}");
        }
    }
    let text = std::fs::read_to_string(dir.path().join("a/report.json")).unwrap();
    let report = report(&text);
    assert_eq!(report.load.source, "command");
    assert!(
        report.promises.iter().all(|p| p.verdict == Verdict::Held),
        "{:?}",
        report.promises
    );
    assert!(report.promises[1].samples > 10 && report.promises[2].samples == 1);
    assert!(report.edges[0].operations > 30, "{:?}", report.edges);
    assert!(dir.path().join("cleaned").exists());
    for name in ["report.html", "report.md", "junit.xml"] {
        let text = std::fs::read_to_string(dir.path().join("a").join(name)).unwrap();
        assert!(
            text.contains("it works") || name == "junit.xml",
            "{name}: {text}"
        );
    }
    let ran = run(&["drill", "compare", "a/report.json", "b/report.json"]).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success() && said.starts_with("   WHAT"),
        "{said}"
    );
    assert!(!said.contains("outcome"), "{said}");
    let ran = run(&[
        "drill",
        "compare",
        "a/report.json",
        "b/report.json",
        "--all",
        "--json",
    ])
    .await;
    let both: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(both["differences"].as_array().unwrap().len() > 15);
    let ran = run(&["drill", "compare", "own.yaml", "b/report.json"]).await;
    assert_eq!(ran.status.code(), Some(2));
    // What it will do, and that it is a drill.
    let ran = run(&["drill", "check", "own.yaml"]).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        said.contains("0.0s slow: delay, for 2s") && said.contains("2.0s slow: off"),
        "{said}"
    );
    let ran = run(&["check", "own.yaml"]).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(
        said,
        "own.yaml: the drill own, 1 thing goes wrong, 4 promises: ok\n"
    );
}

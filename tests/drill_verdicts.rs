//! Each verdict on a system that was built to deserve it, with parameters that only the system knows.
//!
//! `DRILLS=10 cargo test --test drill_verdicts` draws ten systems of each sort; a few are drawn otherwise.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use firedrill::drill::report::Report;
use firedrill::drill::verdict::{Outcome, Recovery, Verdict};
use firedrill::seed;
use futures::drill_all;
use support::systems::{Chance, Slow, System, Till, Way, ask, hasty, healed};

/// How many systems of each sort.
fn runs() -> u64 {
    let said = std::env::var("DRILLS").ok();
    said.map_or(2, |n| n.parse().expect("DRILLS is a number"))
}

mod futures {
    use super::*;

    /// Draws so many systems, and drills two at a time. What `drill` answers is printed; where it
    /// answers nothing the machine was too busy for anything to be seen, and another one is drawn.
    pub async fn drill_all<D, F>(sort: &str, drill: F)
    where
        F: Fn(Chance) -> D + Clone + Send + 'static,
        D: Future<Output = Option<String>> + Send + 'static,
    {
        let seed = match std::env::var("DRILL_SEED") {
            Ok(seed) => seed.parse().expect("DRILL_SEED is a number"),
            Err(_) => seed::choose(),
        };
        eprintln!("{sort}: DRILL_SEED={seed}");
        let places = Arc::new(tokio::sync::Semaphore::new(2));
        let mut all = tokio::task::JoinSet::new();
        for run in 1..=runs() {
            let (drill, places) = (drill.clone(), Arc::clone(&places));
            all.spawn(async move {
                let _place = places.acquire().await.unwrap();
                for time in 0..5 {
                    if let Some(said) = drill(Chance::new(seed, run * 100 + time)).await {
                        return (run, said);
                    }
                }
                panic!("this machine is too busy for drills");
            });
        }
        while let Some(ended) = all.join_next().await {
            let (run, said) = ended.expect("a drill came out otherwise: see above");
            eprintln!("{sort} {run}: {said}");
        }
    }
}

const STALL: &str = "  - for: 3s
    rule: { name: stall, proxies: [back], fault: { delay: { latency: 1500ms } } }";
const ABORT: &str = "  - for: 3s
    rule: { name: broken, proxies: [back], fault: { abort: { status: 503 } } }";
const WATCH: &str = "recovery: { within: 9s, hold: 2s }";

fn recovery(report: &Report) -> Recovery {
    let recovered = report.recovery.as_ref();
    recovered
        .unwrap_or_else(|| panic!("{}", told(report)))
        .verdict
}

/// Whether the drill could not even send on time: then the systems could not either.
fn was_busy(report: &Report) -> bool {
    let busy = report.notes.iter().find(|note| note.contains("too busy"));
    if let Some(busy) = busy {
        eprintln!("once more: {busy}");
    }
    busy.is_some()
}

/// What it was about, for those who read the failure.
fn told(report: &Report) -> String {
    let recovered = report.recovery.as_ref();
    format!(
        "{}: {}\n{:#?}\nnotes: {:?}",
        report.outcome, report.reason, recovered, report.notes
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_keeps_itself_busy_is_metastable() {
    drill_all("metastable", |mut chance| async move {
        let capacity = chance.between(32.0, 45.0);
        let tries = chance.between(4.0, 6.0) as u64;
        let patience = Duration::from_secs_f64(chance.between(0.15, 0.3));
        let (way, till) = (Way::default(), Till::new(capacity));
        let gateway = Arc::clone(&way);
        let system = System::start(
            way,
            move |_| hasty(Arc::clone(&gateway), tries, patience),
            move |_| {
                let till = Arc::clone(&till);
                async move { till.work().await }
            },
        )
        .await;
        let (code, report) = system.drill(STALL, WATCH).await;
        if was_busy(&report) {
            return None;
        }
        let parameters = format!("{capacity:.1}/s, {tries} tries, {patience:?}");
        assert_eq!(
            recovery(&report),
            Recovery::Metastable,
            "{parameters}: {}",
            told(&report)
        );
        assert_eq!(
            (code, report.outcome),
            (1, Outcome::Broken),
            "{}",
            told(&report)
        );
        let amplified = report.recovery.unwrap().amplified.unwrap();
        assert_eq!(amplified.proxy, "back");
        // What it costs is what the system does, at least while there is room to wait.
        assert!(
            amplified.after <= tries as f64 + 0.7,
            "{amplified:?} {parameters}"
        );
        Some(format!("{parameters}: {} calls for one", amplified.after))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_slow_to_recover_recovers_when_it_does() {
    drill_all("slow", |mut chance| async move {
        let takes = Duration::from_secs_f64(chance.between(0.5, 5.0));
        let way = Way::default();
        let slow = Slow::new(Arc::clone(&way), takes);
        let gateway = Arc::clone(&slow);
        let system = System::start(
            way,
            move |_| Arc::clone(&gateway).answer(),
            |_| async { 200 },
        )
        .await;
        let (code, report) = system.drill(ABORT, WATCH).await;
        if was_busy(&report) {
            return None;
        }
        assert_eq!(
            recovery(&report),
            Recovery::Recovered,
            "{takes:?}: {}",
            told(&report)
        );
        assert_eq!(
            (code, report.outcome),
            (0, Outcome::Held),
            "{}",
            told(&report)
        );
        let well = slow.well.lock().unwrap().unwrap();
        let truth = well.since(healed(&report)).as_secs_f64() * 1e3;
        let recovered = report.recovery.as_ref().unwrap();
        assert!(recovered.noticed);
        for measured in [
            recovered.steady_ms.unwrap(),
            recovered.first_good_ms.unwrap(),
        ] {
            // One comes each 50 ms; the rest is the machine's.
            let off = measured - truth;
            assert!(
                (-100.0..500.0).contains(&off),
                "{measured} {truth}: {}",
                told(&report)
            );
        }
        let steady = recovered.steady_ms.unwrap();
        Some(format!("well after {truth:.0}ms, said {steady:.0}ms"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_noticed_was_well_all_the_time() {
    drill_all("never noticed", |mut chance| async move {
        let fault = chance.one_of(&[
            "abort: { status: 503 }",
            "drop: { then: close }",
            "empty: {}",
        ]);
        let way = Way::default();
        let gateway = Arc::clone(&way);
        let answer = move |_| {
            let way = Arc::clone(&gateway);
            async move {
                // Whatever the backend says, there is something else to say.
                let _ = ask(*way.get().unwrap(), "/work", Duration::from_millis(500)).await;
                200
            }
        };
        let system = System::start(way, answer, |_| async { 200 }).await;
        let timeline =
            format!("  - for: 3s\n    rule: {{ name: r, proxies: [back], fault: {{ {fault} }} }}");
        let promises = "promises: [{ success_rate: { at_least: 0.99 } }]\n";
        let (code, report) = system.drill(&timeline, &format!("{promises}{WATCH}")).await;
        if was_busy(&report) {
            return None;
        }
        assert_eq!(
            (code, report.outcome),
            (0, Outcome::Held),
            "{fault}: {}",
            told(&report)
        );
        let recovered = report.recovery.as_ref().unwrap();
        assert_eq!(
            (recovered.verdict, recovered.noticed),
            (Recovery::Recovered, false)
        );
        assert!(report.faults[0].injected > 20, "{:?}", report.faults);
        // The edge behind did notice.
        let back = report.edges.iter().find(|e| e.proxy == "back").unwrap();
        let back = back.recovery.as_ref().unwrap();
        assert!(
            back.noticed && back.verdict == Recovery::Recovered,
            "{back:?}"
        );
        Some(format!("{fault}: {} injected", report.faults[0].injected))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_matched_nothing_shows_nothing() {
    drill_all("matched nothing", |mut chance| async move {
        let condition = chance.one_of(&[
            "match: { path: /nowhere }",
            "match: { method: DELETE }",
            "match: { headers: { x-nobody: '1' } }",
            "skip: 1000000",
            "dry_run: true",
        ]);
        let way = Way::default();
        let gateway = Arc::clone(&way);
        let answer = move |_| hasty(Arc::clone(&gateway), 1, Duration::from_secs(1));
        let system = System::start(way, answer, |_| async { 200 }).await;
        let timeline = format!(
            "  - for: 2s\n    rule: {{ name: r, proxies: [back], {condition}, fault: {{ abort: {{ status: 503 }} }} }}"
        );
        // Everything that is promised is so: still it is no pass.
        let promises = "promises: [{ success_rate: { at_least: 0.9 } }]\n";
        let (code, report) = system.drill(&timeline, &format!("{promises}{WATCH}")).await;
        if was_busy(&report) {
            return None;
        }
        assert_eq!(report.promises[0].verdict, Verdict::Held);
        assert_eq!((code, report.outcome), (3, Outcome::Inconclusive), "{}", told(&report));
        let never = ["never met an operation", "changed nothing"];
        assert!(never.iter().any(|why| report.reason.contains(why)), "{}", report.reason);
        Some(format!("{condition}: {}", report.reason))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_unsteady_from_the_start_is_not_drilled() {
    drill_all("unsteady", |mut chance| async move {
        let how = chance.one_of(&["fails", "hangs", "too slow"]);
        let share = chance.between(0.1, 0.6);
        let till = Till::new(chance.between(8.0, 14.0));
        let count = Arc::new(AtomicU64::new(0));
        let gateway = move |_| {
            let n = count.fetch_add(1, SeqCst);
            let till = Arc::clone(&till);
            async move {
                let ill = Chance::new(n, 0).between(0.0, 1.0) < share;
                match how {
                    "too slow" => till.work().await,
                    "fails" if ill => 500,
                    "hangs" if ill => {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                        200
                    }
                    _ => 200,
                }
            }
        };
        let system = System::start(Way::default(), gateway, |_| async { 200 }).await;
        let (code, report) = system.drill(ABORT, WATCH).await;
        if was_busy(&report) {
            return None;
        }
        assert_eq!(
            (code, report.outcome),
            (3, Outcome::Inconclusive),
            "{how}: {}",
            told(&report)
        );
        assert_eq!(report.steady.verdict, Verdict::Broken, "{how}");
        assert!(
            report.recovery.is_none() && report.timeline.is_empty(),
            "{}",
            told(&report)
        );
        assert_eq!(report.faults[0].selected, 0);
        // And nothing was left behind.
        assert!(system.firedrill.api.rules().await.unwrap().items.is_empty());
        Some(format!("{how}: {}", report.steady.reason))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stays_ill_without_a_storm_is_degraded() {
    drill_all("degraded", |mut chance| async move {
        let share = chance.between(0.3, 1.0);
        let way = Way::default();
        let gateway = Arc::clone(&way);
        let hurt = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let answer = move |_| {
            let (way, hurt) = (Arc::clone(&gateway), Arc::clone(&hurt));
            let n = count.fetch_add(1, SeqCst);
            async move {
                // A part of it has broken for good.
                if hurt.load(SeqCst) && Chance::new(n, 1).between(0.0, 1.0) < share {
                    return 500;
                }
                let told = ask(*way.get().unwrap(), "/work", Duration::from_secs(1)).await;
                hurt.fetch_or(told != Some(200), SeqCst);
                told.unwrap_or(504)
            }
        };
        let system = System::start(way, answer, |_| async { 200 }).await;
        let (code, report) = system.drill(ABORT, WATCH).await;
        if was_busy(&report) {
            return None;
        }
        assert_eq!(
            recovery(&report),
            Recovery::Degraded,
            "{share}: {}",
            told(&report)
        );
        assert_eq!(
            (code, report.outcome),
            (1, Outcome::Broken),
            "{}",
            told(&report)
        );
        let well = report.recovery.unwrap().after.share;
        assert!((well - (1.0 - share)).abs() < 0.3, "{well} {share}");
        Some(format!("{share:.2} broken: {well:.2} well"))
    })
    .await;
}

//! Under load, with a fault that comes and expires by itself, four accounts of every operation agree
//! one by one: the client's, the upstream's, the record's, and the counters'.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome, Record};
use support::pay::{Caller, Met, Upstream};
use support::process::{Firedrill, eventually};
use support::{post, until};

const CLIENTS: usize = 8;

/// Far more than an answer takes, far less than the rule lives.
const PATIENCE: Duration = Duration::from_millis(500);

struct Told {
    met: Met,
    took: Duration,
}

/// A fault, and what must be true of an operation that it was injected into.
struct Drill {
    kind: &'static str,
    params: &'static [&'static str],
    holds: fn(&Told, &Record, deliveries: u32) -> bool,
}

const LATENCY: Duration = Duration::from_millis(100);

/// The client met no answer, as its record says.
fn unanswered(told: &Told, record: &Record) -> bool {
    match (&told.met, record.client.outcome) {
        (Met::Timeout, Outcome::Left) => told.took >= PATIENCE,
        // Lifted while it waited; it may have given up as the FIN was under way.
        (Met::Closed | Met::Timeout, Outcome::Closed) => true,
        _ => false,
    }
}

impl Drill {
    async fn run(self) {
        let Self { kind, params, .. } = self;
        let upstream = Upstream::start().await;
        let firedrill = Firedrill::start(&format!(
            "seed: 42\nproxies: [{{ name: payment, listen: 127.0.0.1:0, upstream: {}, protocol: http }}]\n",
            upstream.addr
        ))
        .await;
        let addr = firedrill.proxy("payment").await;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                tokio::spawn(async move {
                    let mut caller = Caller::new(addr, PATIENCE);
                    let mut told = HashMap::new();
                    while !stop.load(Ordering::Relaxed) {
                        let key = format!("{client}-{}", told.len());
                        let began = Instant::now();
                        let met = caller.ask(&post("/authorize", &key, "amount=5")).await;
                        let took = began.elapsed();
                        answered.fetch_add(1, Ordering::Relaxed);
                        told.insert(key, Told { met, took });
                        // A client thinks; else the table is ten thousand lines of the same.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    told
                })
            })
            .collect();
        let so_far = || answered.load(Ordering::Relaxed);

        until("traffic before", || (so_far() > 100).then_some(())).await;
        let mut inject = vec!["inject", "payment", kind];
        inject.extend_from_slice(params);
        inject.extend(["--probability", "0.5", "--for", "2s", "--name", "fault"]);
        firedrill.stdout(&inject).await;
        let expired = eventually("the rule expires by itself", async || {
            let rule = firedrill.rule("fault").await;
            (!rule.enabled).then_some(rule)
        })
        .await;
        assert!(expired.standing.injected > 0, "{kind} never bit");
        let then = so_far();
        until("traffic after", || (so_far() > then + 100).then_some(())).await;
        stop.store(true, Ordering::Relaxed);
        let mut told = HashMap::new();
        for client in clients {
            told.extend(client.await.unwrap());
        }
        firedrill.quiet().await;

        let records = firedrill.closed(told.len()).await;
        let injected = self.compare(&told, &records, &upstream.counts());
        compare_counters(&firedrill, kind, &records).await;
        println!(
            "{kind}: {} operations, {injected} injected; client, upstream, record and counters agree",
            records.len()
        );
    }

    /// Compares one by one; answers how many were injected.
    fn compare(
        &self,
        told: &HashMap<String, Told>,
        records: &[Record],
        delivered: &HashMap<String, u32>,
    ) -> usize {
        let key = |r: &Record| r.identity.as_ref().unwrap().value.clone();
        let keys: HashSet<String> = records.iter().map(key).collect();
        assert_eq!(keys.len(), records.len(), "one record per key");
        assert_eq!(keys, told.keys().cloned().collect());
        assert!(delivered.keys().all(|key| keys.contains(key)));
        let (mut injected, mut hurried) = (0, 0);
        for record in records {
            let key = key(record);
            let told = &told[&key];
            let count = delivered.get(&key).copied().unwrap_or_default();
            let context = || format!("{:?} after {:?}, {count}x: {record:?}", told.met, told.took);
            assert_eq!(record.deliveries, count, "{}", context());
            assert_eq!((record.attempt, record.client.at.is_some()), (1, true));
            if record.faults.iter().any(|f| f.injected) {
                injected += 1;
                hurried += usize::from(self.kind == "delay" && told.took < LATENCY);
                assert!((self.holds)(told, record, count), "{}", context());
                let cause = match record.class {
                    Class::Acknowledged => Cause::None,
                    _ => Cause::Rule("fault".into()),
                };
                assert_eq!(record.cause, cause, "{}", context());
            } else {
                assert_eq!(told.met, Met::Answered(200, key), "{}", context());
                assert_eq!((record.class, count), (Class::Acknowledged, 1));
            }
        }
        // What was held as the rule expired went at once: one operation a client, at the most.
        assert!(hurried <= CLIENTS, "{hurried} were held for too short");
        if !matches!(self.kind, "delay" | "duplicate") {
            let untold = |t: &&Told| !matches!(t.met, Met::Answered(200, _));
            let hit = told.values().filter(untold).count();
            assert_eq!(hit, injected, "by the clients' account, and by the records");
        }
        injected
    }
}

async fn compare_counters(firedrill: &Firedrill, kind: &str, records: &[Record]) {
    let chosen = |injected: bool| {
        let by = |r: &&Record| r.faults.iter().any(|f| f.injected || !injected);
        records.iter().filter(by).count() as u64
    };
    let (selected, injected) = (chosen(false), chosen(true));
    let fault = format!("fault=\"{kind}\"");
    let labels = [fault.as_str(), "proxy=\"payment\"", "rule=\"fault\""];
    let rule = firedrill.rule("fault").await;
    assert_eq!(
        (rule.standing.selected, rule.standing.injected),
        (selected, injected)
    );
    for (metric, value) in [
        ("firedrill_faults_selected_total", selected),
        ("firedrill_faults_injected_total", injected),
    ] {
        assert_eq!(firedrill.metric(metric, &labels).await, value, "{metric}");
        assert_eq!(firedrill.metric(metric, &[]).await, value, "{metric}");
    }
    for class in Class::ALL {
        let of_class = records.iter().filter(|r| r.class == class).count() as u64;
        let label = format!("class=\"{class}\"");
        let counted = firedrill
            .metric("firedrill_operations_total", &[&label])
            .await;
        assert_eq!(counted, of_class, "{class}");
    }
    let again: u64 = records
        .iter()
        .map(|r| u64::from(r.deliveries.saturating_sub(1)))
        .sum();
    for (metric, value) in [
        ("firedrill_duplicate_deliveries_total", again),
        ("firedrill_evidence_dropped_total", 0),
    ] {
        assert_eq!(firedrill.metric(metric, &[]).await, value, "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_lost_answers() {
    Drill {
        kind: "response_loss",
        params: &[],
        holds: |told, record, count| {
            unanswered(told, record) && record.class == Class::Unseen && count == 1
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_answers_replaced_by_a_status() {
    Drill {
        kind: "response_loss",
        params: &["then=504"],
        holds: |told, record, count| {
            matches!(told.met, Met::Answered(504, _))
                && (record.class, record.client.outcome) == (Class::Unseen, Outcome::Substituted)
                && count == 1
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_dropped_requests() {
    Drill {
        kind: "drop",
        params: &[],
        holds: |told, record, count| {
            unanswered(told, record) && record.class == Class::NeverDelivered && count == 0
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_dropped_with_a_reset() {
    Drill {
        kind: "drop",
        params: &["then=reset"],
        holds: |told, record, count| {
            (told.met == Met::Reset && record.client.outcome == Outcome::Reset)
                && (record.class == Class::NeverDelivered && count == 0)
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_delayed_requests() {
    Drill {
        kind: "delay",
        params: &["latency=100ms"],
        holds: |told, record, count| {
            let held = record.upstream[0].sent_at.unwrap().since(record.started);
            matches!(told.met, Met::Answered(200, _))
                && told.took >= held
                && record.class == Class::Acknowledged
                && count == 1
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_duplicated_requests() {
    Drill {
        kind: "duplicate",
        params: &[],
        holds: |told, record, count| {
            matches!(told.met, Met::Answered(200, _))
                && record.class == Class::Acknowledged
                && count == 2
        },
    }
    .run()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_aborted_requests() {
    Drill {
        kind: "abort",
        params: &["status=418"],
        holds: |told, record, count| {
            matches!(told.met, Met::Answered(418, _))
                && (record.class, record.client.status) == (Class::Substituted, Some(418))
                && count == 0
        },
    }
    .run()
    .await;
}

//! What is counted, as those who scrape it read it: Prometheus itself, its readers in Python, promtool.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use firedrill::config;
use firedrill::evidence::{Class, Filter, Record};
use firedrill::serve::Instance;
use serde::Deserialize;
use serde_json::Value;

use support::process::{eventually, output, program, without_proxies};
use support::programs::{Program, text};
use support::{Client, Server, get, post, python, until};

/// Firedrill with an HTTP proxy `p`, and what is asked of it: an acknowledged request without a trace,
/// one within one, an answer that is lost, a request that never gets there.
struct Stand {
    instance: Instance,
    addr: SocketAddr,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

impl Stand {
    async fn start() -> Self {
        let upstream = Server::http().await;
        let file = format!(
            "control: {{ listen: 127.0.0.1:0 }}\n\
             metrics: {{ listen: 127.0.0.1:0 }}\n\
             proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {}, protocol: http }}]\n\
             rules:\n\
             - {{ name: lost, match: {{ path: /lost }}, fault: {{ response_loss: {{ then: close }} }} }}\n\
             - {{ name: never, match: {{ path: /never }}, fault: {{ drop: {{ then: close }} }} }}\n",
            upstream.addr
        );
        let config = config::parse(&file, "metrics.yaml").unwrap();
        let instance = Instance::start(config, None).await.unwrap();
        let addr = instance.supervisor.bound("p").unwrap();
        Self { instance, addr }
    }

    /// Sends these, and waits for as many more records.
    async fn traffic(&self) -> Vec<Record> {
        let before = self.records().len();
        let mut client = Client::connect(self.addr).await;
        client.send(get("/plain")).await;
        client.answer().await;
        let traced = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n");
        client
            .send(get("/traced").replacen("\r\n\r\n", &format!("\r\n{traced}"), 1))
            .await;
        client.answer().await;
        for path in ["/lost", "/never"] {
            let mut client = Client::connect(self.addr).await;
            client.send(post(path, path, "x")).await;
            assert_eq!(client.rest().await.0, "");
        }
        drop(client);
        until("four records more, all closed", || {
            let records = self.records();
            let closed = records.iter().all(|r| r.class != Class::Open);
            (records.len() == before + 4 && closed).then_some(records)
        })
        .await
    }

    fn records(&self) -> Vec<Record> {
        self.instance.context.ledger.list(&Filter::default())
    }

    /// `/metrics` of both ports.
    fn urls(&self) -> [String; 2] {
        let ports = [self.instance.control, self.instance.metrics.unwrap()];
        ports.map(|port| format!("http://{port}/metrics"))
    }
}

/// The last of these records.
fn last(records: &[Record], of: impl Fn(&Record) -> bool) -> &Record {
    records.iter().rev().find(|r| of(r)).unwrap()
}

#[derive(Debug, Deserialize)]
struct Scraped {
    openmetrics: Vec<Sample>,
    classic: Vec<Sample>,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Sample {
    family: String,
    r#type: String,
    help: String,
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    exemplar: Option<Exemplar>,
}

#[derive(Debug, Deserialize)]
struct Exemplar {
    labels: BTreeMap<String, String>,
    value: f64,
    at: f64,
}

impl Sample {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Its exemplar is of this record, and has nothing else to say.
    fn is_of(&self, record: &Record) {
        let like = self.exemplar.as_ref().unwrap_or_else(|| panic!("{self:?}"));
        let mut labels = BTreeMap::from([("record_id".to_owned(), record.id.to_string())]);
        labels.extend(
            record
                .trace
                .map(|t| ("trace_id".to_owned(), t.id.to_string())),
        );
        assert_eq!(like.labels, labels, "{self:?}");
    }
}

fn seconds(at: firedrill::clock::Timestamp) -> f64 {
    at.0 as f64 / 1e6
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_lead_to_the_records_of_what_was_counted() {
    let stand = Stand::start().await;
    stand.traffic().await;
    let records = stand.traffic().await;
    let mut reader = Command::new(python());
    reader
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/metrics.py"
        ))
        .args(stand.urls())
        .stdin(Stdio::null());
    without_proxies(&mut reader);
    let read = output(reader).await;
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    let scraped: Vec<Scraped> = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(scraped.len(), 2, "both ports");
    for scraped in scraped {
        let of = |name: &'static str| scraped.openmetrics.iter().filter(move |s| s.name == name);
        let mut classes = 0;
        for sample in of("firedrill_operations_total") {
            let class = Class::find(sample.label("class")).unwrap();
            if sample.value == 0.0 {
                assert!(sample.exemplar.is_none(), "{sample:?}");
                continue;
            }
            let record = last(&records, |r| r.class == class);
            sample.is_of(record);
            let like = sample.exemplar.as_ref().unwrap();
            assert_eq!(like.value, 1.0);
            assert!((like.at - seconds(record.client.at.unwrap())).abs() < 1e-5);
            classes += 1;
        }
        assert_eq!(classes, 3);
        let acknowledged = of("firedrill_operations_total");
        let mut acknowledged = acknowledged.filter(|s| s.label("class") == "acknowledged");
        let like = acknowledged.next().unwrap().exemplar.as_ref().unwrap();
        assert_eq!(like.labels["trace_id"], TRACE);

        for rule in ["lost", "never"] {
            let sample = of("firedrill_faults_injected_total").find(|s| s.label("rule") == rule);
            let sample = sample.unwrap();
            let record = last(&records, |r| r.faults.iter().any(|f| &*f.rule == rule));
            assert_eq!(sample.value, 2.0);
            sample.is_of(record);
            let like = sample.exemplar.as_ref().unwrap();
            assert_eq!(like.value, 1.0);
            assert!((like.at - seconds(record.started)).abs() < 1e-5);
        }

        // Each bucket that something fell into has the last that did, with what it took.
        let took = |record: &Record| {
            let delivery = record.upstream.first()?;
            let (sent, answered) = delivery.sent_at.zip(delivery.answered_at)?;
            Some((answered.since(sent).as_secs_f64(), seconds(answered)))
        };
        let (mut below, mut filled) = (0.0, 0);
        for sample in of("firedrill_upstream_seconds_bucket") {
            let bound: f64 = sample.label("le").parse().unwrap();
            let fell = |r: &&Record| took(r).is_some_and(|(s, _)| below < s && s <= bound);
            match records.iter().rev().find(fell) {
                None => assert!(sample.exemplar.is_none(), "{sample:?}"),
                Some(record) => {
                    sample.is_of(record);
                    let like = sample.exemplar.as_ref().unwrap();
                    let (took, at) = took(record).unwrap();
                    assert!((like.value - took).abs() < 1e-9 && (like.at - at).abs() < 1e-5);
                    filled += 1;
                }
            }
            below = bound;
        }
        assert!(filled > 0);
        let others = scraped.openmetrics.iter().filter(|s| {
            let has = [
                "firedrill_operations_total",
                "firedrill_faults_injected_total",
                "firedrill_upstream_seconds_bucket",
            ];
            !has.contains(&&*s.name) && s.exemplar.is_some()
        });
        assert_eq!(others.count(), 0);

        // Both formats say the same.
        let ours = |samples: &[Sample]| {
            let ours = samples.iter().filter(|s| s.name.starts_with("firedrill_"));
            let told = ours.map(|s| (&s.family, &s.r#type, &s.help, &s.name, &s.labels, s.value));
            let mut told: Vec<_> = told.map(|told| format!("{told:?}")).collect();
            told.sort();
            told
        };
        let openmetrics = ours(&scraped.openmetrics);
        assert!(openmetrics.len() > 30, "{openmetrics:#?}");
        assert_eq!(openmetrics, ours(&scraped.classic));
        check(&scraped.text).await;
    }
    stand.instance.stop().await;
}

/// promtool finds nothing to say of the classic format.
async fn check(classic: &str) {
    let mut promtool = program("promtool", "prometheus");
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = promtool.spawn().unwrap();
    let mut stdin = checking.stdin.take().unwrap();
    stdin.write_all(classic.as_bytes()).unwrap();
    drop(stdin);
    let checked = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}{}", text(&checked));
    assert_eq!(said, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_keeps_the_exemplars() {
    let stand = Stand::start().await;
    let records = stand.traffic().await;
    let [control, metrics] = stand.urls().map(|url| {
        let target = url.strip_prefix("http://").unwrap();
        target.strip_suffix("/metrics").unwrap().to_owned()
    });
    let prometheus = Program::start(|dir: &Path, addr| {
        let file = format!(
            "global: {{ scrape_interval: 200ms }}\n\
             scrape_configs:\n\
             - {{ job_name: firedrill, static_configs: [{{ targets: ['{control}', '{metrics}'] }}] }}\n"
        );
        fs::write(dir.join("prometheus.yml"), file).unwrap();
        let mut prometheus = program("prometheus", "prometheus");
        prometheus
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--enable-feature=exemplar-storage")
            .arg(format!("--web.listen-address={addr}"))
            .current_dir(dir);
        without_proxies(&mut prometheus);
        prometheus
    })
    .await;
    for (series, record) in [
        (
            "firedrill_operations_total{class=\"unseen\"}",
            last(&records, |r| r.class == Class::Unseen),
        ),
        (
            "firedrill_operations_total{class=\"acknowledged\"}",
            last(&records, |r| r.class == Class::Acknowledged),
        ),
        (
            "firedrill_faults_injected_total{rule=\"never\"}",
            last(&records, |r| r.class == Class::NeverDelivered),
        ),
    ] {
        let of_both = eventually("both ports are scraped", async || {
            let mut curl = program("curl", "curl");
            curl.args(["-q", "-sS", "--noproxy", "*", "-G"])
                .args(["--data-urlencode", &format!("query={series}")])
                .args(["-d", "start=0", "-d", "end=99999999999"])
                .arg(format!("http://{}/api/v1/query_exemplars", prometheus.addr));
            let said = text(&output(curl).await);
            let answer: Value = serde_json::from_str(&said).ok()?;
            let data = answer["data"].as_array()?.clone();
            (data.len() == 2).then_some(data)
        })
        .await;
        for of_one in of_both {
            let labels = &of_one["exemplars"][0]["labels"];
            assert_eq!(labels["record_id"], record.id.to_string(), "{series}");
            let trace = record.trace.map(|trace| trace.id.to_string());
            assert_eq!(labels["trace_id"].as_str(), trace.as_deref(), "{series}");
        }
    }
    stand.instance.stop().await;
}

//! The image and the stack of `configs/compose` on a real Docker Engine, scraped by a real
//! Prometheus. Images are made of the binary under test and of Debian's packages.
//!
//! One test, since what it stands on takes longer to build than to use. With `FIREDRILL_IMAGE` set to
//! a folder that `docker/build` has filled it is about what is shipped.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod drills;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Record};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::docker::{Docker, LONG, Said, eventually, run};
use support::process::program;

const IMAGE: &str = "firedrill-test";
const DEBIAN: &str = "firedrill-test-debian";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_and_the_stack_do_what_they_promise() {
    let docker = Docker::start().await;
    debian(&docker).await;
    image(&docker).await;
    three_lines(&docker).await;
    drills::run(&docker).await;
    let stack = Stack::start(&docker).await;
    orders_pass(&stack).await;
    a_partition_is_felt_and_healed(&stack).await;
    faults_are_switched_from_within(&stack).await;
    a_database_comes_back_elsewhere(&stack).await;
    prometheus_says_what_the_drill_did(&stack).await;
    a_stop_loses_nothing(&stack).await;
    stack.compose(&["down", "--volumes"]).await.well();
}

/// An image of Debian's packages.
async fn debian(docker: &Docker) {
    let tree = docker.folder("debian");
    let mut make = Command::new(root("tests/sidecar/debian"));
    make.arg(&tree);
    run(make).await.well();
    docker.import(&tree, DEBIAN).await;
    fs::remove_dir_all(&tree).unwrap();
}

/// The folder that an image is made of: the one that is shipped, or the binary under test with the
/// libraries that it needs, since that one is not static.
async fn filled(docker: &Docker) -> PathBuf {
    let context = docker.folder("context");
    let to = context.join("target/image");
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut copy = program("cp", "coreutils");
    copy.arg("--archive");
    if let Some(shipped) = std::env::var_os("FIREDRILL_IMAGE") {
        copy.arg(shipped).arg(&to);
        run(copy).await.well();
        return context;
    }
    let binary = env!("CARGO_BIN_EXE_firedrill");
    fs::create_dir_all(to.join("usr/local/bin")).unwrap();
    fs::create_dir_all(to.join("etc/firedrill")).unwrap();
    fs::copy(binary, to.join("usr/local/bin/firedrill")).unwrap();
    let mut needs = program("ldd", "libc-bin");
    needs.arg(binary);
    let needs = run(needs).await.well();
    let libraries = needs
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries {
        let at = to.join(library.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::copy(library, at).unwrap();
    }
    context
}

async fn image(docker: &Docker) {
    let context = filled(docker).await;
    let (context, file) = (context.to_str().unwrap(), root("Dockerfile"));
    let build = async |tag: &str| {
        let args = [
            "build",
            "--no-cache",
            "--quiet",
            "--build-arg",
            "FROM=built",
            "--tag",
            tag,
            "--file",
            file.to_str().unwrap(),
            context,
        ];
        docker.docker(&args).await.well();
        docker.inspect(tag).await
    };
    let made = build(IMAGE).await;
    let config = &made["Config"];
    assert_eq!(config["User"], "65534:65534");
    assert_eq!(config["Entrypoint"], serde_json::json!(["firedrill"]));
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(config["StopSignal"], "SIGTERM");
    let check = &config["Healthcheck"]["Test"];
    assert_eq!(*check, serde_json::json!(["CMD", "firedrill", "health"]));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "firedrill");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "MIT OR Apache-2.0");
    // Made again, it is the same.
    let again = build("firedrill-test-again").await;
    assert_eq!(made["RootFS"]["Layers"], again["RootFS"]["Layers"]);
    // There is no shell, and nothing that it could be mistaken for.
    let shell = [
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        IMAGE,
        "-c",
        "true",
    ];
    let shell = docker.docker(&shell).await;
    assert_eq!(shell.code, Some(127), "{}", shell.stderr);
    let version = docker.docker(&["run", "--rm", "--network", "none", IMAGE, "--version"]);
    let version = version.await.well();
    assert_eq!(
        version,
        format!("firedrill {}\n", env!("CARGO_PKG_VERSION"))
    );
    if std::env::var_os("FIREDRILL_IMAGE").is_some() {
        let size = made["Size"].as_u64().unwrap();
        assert!(size < 15_000_000, "{size} bytes");
    }
}

/// What an existing file becomes with Firedrill in it, and Firedrill before its upstream.
async fn three_lines(docker: &Docker) {
    let file = |name: &str| root("configs/compose/three-lines").join(name);
    let lines = |name: &str| fs::read_to_string(file(name)).unwrap();
    let (before, after) = (lines("before.yaml"), lines("after.yaml"));
    let before: BTreeSet<_> = before.lines().collect();
    let new = after.lines().filter(|line| !before.contains(line));
    assert_eq!(new.count(), 3);

    let override_file = docker.folder("three").join("images.yaml");
    fs::write(
        &override_file,
        format!("services: {{ firedrill: {{ image: {IMAGE} }} }}\n"),
    )
    .unwrap();
    let compose = async |args: &[&str]| {
        let mut command = docker.compose("fdthree", &[file("after.yaml"), override_file.clone()]);
        command.env("IMAGE", DEBIAN).args(args);
        run(command).await
    };
    compose(&["up", "-d", "firedrill", "shop"]).await.well();
    let id = compose(&["ps", "-q", "firedrill"]).await.well();
    healthy(docker, id.trim()).await;
    let ask = ["exec", "-T", "shop", "sh", "-c", "wget -qO- $PAYMENT_URL"];
    // Nobody is there yet, and it is well.
    assert_ne!(compose(&ask).await.code, Some(0));
    compose(&["up", "-d", "payment"]).await.well();
    let page = eventually("the upstream is there", async || {
        let asked = compose(&ask).await;
        (asked.code == Some(0)).then_some(asked.stdout)
    });
    assert!(page.await.contains("Directory listing"));
    let evidence = ["exec", "-T", "firedrill", "firedrill", "evidence", "--json"];
    let records = records(&compose(&evidence).await.well());
    assert_eq!(records[0].class, Class::NeverDelivered);
    assert_eq!(records.last().unwrap().class, Class::Acknowledged);
    compose(&["down"]).await.well();
}

fn records(lines: &str) -> Vec<Record> {
    let lines = lines.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

async fn healthy(docker: &Docker, container: &str) {
    eventually("the container is healthy", async || {
        let state = docker.inspect(container).await["State"].clone();
        assert_eq!(state["Running"], true, "{state}");
        (state["Health"]["Status"] == "healthy").then_some(())
    })
    .await;
}

/// Asks over HTTP, once. `None`: no whole answer came.
async fn ask(at: &str, request: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let head = format!("{request} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        let whole = length.is_none_or(|length| length.parse() == Ok(body.len()));
        whole.then(|| (status, body.to_owned()))
    };
    tokio::time::timeout(LONG, exchange).await.ok().flatten()
}

/// The stack, with the names and the files that users have.
struct Stack<'d> {
    docker: &'d Docker,
    shop: String,
    prometheus: String,
}

impl<'d> Stack<'d> {
    async fn start(docker: &'d Docker) -> Self {
        let mut stack = Self {
            docker,
            shop: String::new(),
            prometheus: String::new(),
        };
        stack.compose(&["up", "-d", "--no-build"]).await.well();
        stack.shop = stack.port("firedrill", "8000").await;
        stack.prometheus = stack.port("prometheus", "9090").await;
        healthy(docker, &stack.id("firedrill").await).await;
        stack
    }

    fn command(&self) -> Command {
        let files = [
            root("configs/compose/compose.yaml"),
            root("tests/sidecar/compose.yaml"),
        ];
        let mut command = self.docker.compose("fdtest", &files);
        for port in ["SHOP_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"] {
            command.env(port, "127.0.0.1:");
        }
        command
    }

    async fn compose(&self, args: &[&str]) -> Said {
        let mut command = self.command();
        command.args(args);
        run(command).await
    }

    /// What `docker-compose exec firedrill firedrill …` prints.
    async fn firedrill(&self, args: &[&str]) -> String {
        let mut all = vec!["exec", "-T", "firedrill", "firedrill"];
        all.extend(args);
        self.compose(&all).await.well()
    }

    async fn port(&self, service: &str, port: &str) -> String {
        let said = self.compose(&["port", service, port]).await.well();
        said.trim().to_owned()
    }

    async fn id(&self, service: &str) -> String {
        let said = self.compose(&["ps", "-q", service]).await.well();
        said.trim().to_owned()
    }

    async fn address(&self, service: &str, network: &str) -> String {
        let container = self.docker.inspect(&self.id(service).await).await;
        let network = &container["NetworkSettings"]["Networks"][network];
        network["IPAddress"].as_str().unwrap().to_owned()
    }

    /// How it ended.
    async fn exit_code(&self, id: &str) -> Option<i64> {
        let state = self.docker.inspect(id).await["State"].clone();
        (state["Running"] == false).then(|| state["ExitCode"].as_i64().unwrap())
    }

    /// All records, once none is open but those of connections that stand.
    async fn records(&self) -> Vec<Record> {
        eventually("the operations end", async || {
            let all = records(&self.firedrill(&["evidence", "--json"]).await);
            let ended = |r: &Record| r.class != Class::Open || r.request.method.is_none();
            all.iter().all(ended).then_some(all)
        })
        .await
    }

    /// Orders; answers the status and what became of it.
    async fn order(&self) -> Option<(u16, String)> {
        let (status, body) = ask(&self.shop, "POST /orders").await?;
        let order: Value = serde_json::from_str(&body).unwrap();
        let word = order["state"].as_str().or(order["error"].as_str());
        Some((status, word.unwrap().to_owned()))
    }

    /// Orders until one is paid.
    async fn paid(&self) {
        eventually("an order is paid", async || {
            (self.order().await?.1 == "paid").then_some(())
        })
        .await;
    }

    /// What a query of Prometheus' answers: labels and value.
    async fn query(&self, query: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let escaped: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let request = format!("GET /api/v1/query?query={escaped}");
        let (status, body) = ask(&self.prometheus, &request).await.unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let result = answer["data"]["result"].as_array().unwrap().iter();
        let read = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            let value = series["value"][1].as_str().unwrap().parse().unwrap();
            (labels, value)
        };
        result.map(read).collect()
    }
}

async fn orders_pass(stack: &Stack<'_>) {
    stack.paid().await;
    for _ in 0..5 {
        assert_eq!(stack.order().await, Some((201, "paid".to_owned())));
    }
    // Every edge has seen it, by the name that the other side goes by.
    let records = stack.records().await;
    for (proxy, from, to) in [
        ("shop", "customer", "shop"),
        ("payment", "shop", "payment"),
        ("redis", "shop", "redis"),
        ("postgres", "payment", "postgres"),
    ] {
        let mut on = records.iter().filter(|r| &*r.proxy == proxy);
        let one = on
            .next()
            .unwrap_or_else(|| panic!("nothing crossed {proxy}"));
        assert_eq!((&*one.from, &*one.to), (from, to));
    }
    // Nothing gets past it: the database has no such name where payment is, and payment none where
    // the shop is, but Firedrill's.
    for (service, name, network) in [
        ("shop", "payment", "fdtest_shop"),
        ("payment", "postgres", "fdtest_payment"),
    ] {
        let found = format!("import socket; print(socket.gethostbyname('{name}'))");
        let found = ["exec", "-T", service, "python3", "-c", &found];
        let found = stack.compose(&found).await.well();
        assert_eq!(found.trim(), stack.address("firedrill", network).await);
    }
}

async fn a_partition_is_felt_and_healed(stack: &Stack<'_>) {
    let before = stack.records().await.len();
    stack
        .firedrill(&["partition", "on", "shop-from-payment"])
        .await;
    assert_eq!(stack.order().await, Some((202, "unknown".to_owned())));
    let said = stack.firedrill(&["heal"]).await;
    assert!(said.contains("shop-from-payment"), "{said}");
    assert_eq!(stack.order().await, Some((201, "paid".to_owned())));
    let records = stack.records().await;
    let payments = records[before..].iter().filter(|r| &*r.proxy == "payment");
    let payments: Vec<_> = payments.collect();
    // Three attempts at one order, all cut; and the next order's, which nothing stood in the way of.
    assert_eq!(payments.len(), 4, "{payments:#?}");
    for (n, cut) in payments[..3].iter().enumerate() {
        let by = Cause::Partition("shop-from-payment".into());
        assert_eq!(cut.cause, by, "{cut:#?}");
        assert_eq!(cut.attempt as usize, n + 1);
        assert_ne!(cut.class, Class::Acknowledged);
    }
    assert_eq!(payments[3].class, Class::Acknowledged);
    assert_eq!(payments[3].cause, Cause::None);
}

async fn faults_are_switched_from_within(stack: &Stack<'_>) {
    let before = stack.records().await.len();
    let on = ["rule", "on", "payment-unavailable", "--for", "5m"];
    stack.firedrill(&on).await;
    assert_eq!(stack.order().await, Some((202, "unknown".to_owned())));
    stack
        .firedrill(&["rule", "off", "payment-unavailable"])
        .await;
    let lost = ["inject", "payment", "response_loss", "--limit", "1"];
    stack.firedrill(&lost).await;
    // Its answer is lost; it asks again under the same key, and is told that it is paid.
    assert_eq!(stack.order().await, Some((201, "paid".to_owned())));
    // Chosen, and never changed: a drill that does not bite.
    let dry = [
        "inject",
        "shop",
        "delay",
        "latency=1s",
        "--dry-run",
        "--name",
        "toothless",
    ];
    stack.firedrill(&dry).await;
    for _ in 0..2 {
        assert_eq!(stack.order().await, Some((201, "paid".to_owned())));
    }
    stack.firedrill(&["heal"]).await;
    let records = stack.records().await;
    let counted = |class: Class| {
        let of = records[before..].iter().filter(|r| &*r.proxy == "payment");
        of.filter(|r| r.class == class).count()
    };
    assert_eq!(counted(Class::Substituted), 3);
    assert_eq!(counted(Class::Unseen), 1);
    assert_eq!(counted(Class::Acknowledged), 3);
}

async fn a_database_comes_back_elsewhere(stack: &Stack<'_>) {
    let before = stack.address("postgres", "fdtest_data").await;
    stack
        .compose(&["rm", "--force", "--stop", "postgres"])
        .await
        .well();
    assert_eq!(stack.order().await, Some((202, "unknown".to_owned())));
    // Another takes its address.
    let taken = [
        "run",
        "-d",
        "--name",
        "fdsquatter",
        "--network",
        "fdtest_data",
        DEBIAN,
        "sleep",
        "1000",
    ];
    stack.docker.docker(&taken).await.well();
    stack
        .compose(&["up", "-d", "--no-build", "postgres"])
        .await
        .well();
    let after = stack.address("postgres", "fdtest_data").await;
    assert_ne!(before, after);
    stack.paid().await;
    stack
        .docker
        .docker(&["rm", "-f", "fdsquatter"])
        .await
        .well();
    let records = stack.records().await;
    let failed = records
        .iter()
        .filter(|r| &*r.proxy == "postgres" && r.cause == Cause::Upstream);
    assert!(failed.count() > 0, "nobody noticed");
}

/// The queries of the dashboard, by the title of their panels, as Grafana would ask them.
fn dashboard() -> Vec<(String, String)> {
    let file = root("configs/compose/grafana/dashboards/firedrill.json");
    let board: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$proxy", ".*")
                .replace("$__rate_interval", "10m");
            assert!(!query.contains('$'), "{query}");
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    assert!(queries.len() > 20, "{}", queries.len());
    queries
}

type Counts = BTreeMap<Vec<String>, u64>;

/// What a query answers as whole numbers, by some labels; what is 0 says nothing.
async fn counts(stack: &Stack<'_>, query: &str, labels: &[&str]) -> Counts {
    let series = stack.query(query).await.into_iter();
    let named = series.map(|(found, value)| {
        let key = labels.iter().map(|&label| found[label].clone());
        (key.collect(), value as u64)
    });
    named.filter(|(_, n)| *n > 0).collect()
}

async fn prometheus_says_what_the_drill_did(stack: &Stack<'_>) {
    // Rules and a partition are on while it is looked at.
    let on = ["rule", "on", "payment-unavailable", "--for", "10m"];
    stack.firedrill(&on).await;
    stack
        .firedrill(&["partition", "on", "database-gone", "--for", "10m"])
        .await;
    let firing = |alerts: &Value, name: &str| {
        let alerts = alerts["data"]["alerts"].as_array().unwrap().iter();
        let ours = alerts.filter(|a| a["labels"]["alertname"] == name && a["state"] == "firing");
        ours.map(|a| a["labels"].clone()).collect::<Vec<_>>()
    };
    let alerts = async || {
        let (_, body) = ask(&stack.prometheus, "GET /api/v1/alerts").await.unwrap();
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let fired = eventually("both alerts fire", async || {
        let all = alerts().await;
        let both = firing(&all, "FiredrillRuleEnabled").len() == 1
            && firing(&all, "FiredrillPartition").len() == 1;
        both.then_some(all)
    })
    .await;
    let rule = &firing(&fired, "FiredrillRuleEnabled")[0];
    assert_eq!(rule["rule"], "payment-unavailable");
    assert_eq!(rule["fault"], "abort");
    let partition = &firing(&fired, "FiredrillPartition")[0];
    assert_eq!(partition["partition"], "database-gone");
    // That they are on keeps this one from firing, though outcomes are unknown.
    assert!(firing(&fired, "FiredrillUnknownOutcomes").is_empty());
    let toothless = &firing(&fired, "FiredrillDidNotBite");
    assert_eq!(toothless.len(), 1, "{fired:#}");
    assert_eq!(toothless[0]["rule"], "toothless");
    stack.firedrill(&["heal"]).await;
    eventually("the alerts end", async || {
        let all = alerts().await;
        let none = firing(&all, "FiredrillRuleEnabled").is_empty()
            && firing(&all, "FiredrillPartition").is_empty();
        none.then_some(())
    })
    .await;
    eventually(
        "what stays unknown without a drill is told of",
        async || {
            let found = firing(&alerts().await, "FiredrillUnknownOutcomes");
            found
                .iter()
                .any(|labels| labels["proxy"] == "payment")
                .then_some(())
        },
    )
    .await;

    // What it counted is what is on record, to the last.
    let records = stack.records().await;
    let mut expected: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut count = |what: &'static str, labels: Vec<String>| {
        *expected.entry(what).or_default().entry(labels).or_default() += 1;
    };
    for record in &records {
        let proxy = record.proxy.to_string();
        if record.class != Class::Open {
            count(
                "classes",
                vec![proxy.clone(), record.class.as_str().to_owned()],
            );
            if record.attempt > 1 {
                count("retries", vec![proxy.clone()]);
            }
        }
        for fault in &record.faults {
            if &*fault.kind == "partition" {
                count("cuts", vec![proxy.clone(), fault.rule.to_string()]);
                continue;
            }
            let labels = vec![
                proxy.clone(),
                fault.rule.to_string(),
                fault.kind.to_string(),
            ];
            count("selected", labels.clone());
            if fault.injected {
                count("injected", labels);
            }
        }
    }
    for (what, query, labels) in [
        ("classes", "Operations so far", &["proxy", "class"][..]),
        (
            "selected",
            "Selected and injected",
            &["proxy", "rule", "fault"],
        ),
        (
            "injected",
            "Selected and injected",
            &["proxy", "rule", "fault"],
        ),
        ("cuts", "Operations cut so far", &["proxy", "partition"]),
        ("retries", "Retries and duplicates so far", &["proxy"]),
    ] {
        let queries = dashboard();
        let (_, query) = queries
            .iter()
            .filter(|(title, _)| title == query)
            .find(|(_, query)| match what {
                "selected" | "injected" | "retries" => query.contains(what),
                _ => true,
            })
            .unwrap();
        assert!(!expected[what].is_empty());
        let deadline = Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = counts(stack, query, labels).await;
            if found == expected[what] || Instant::now() > deadline {
                break found;
            }
            // It scrapes every five seconds.
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert_eq!(found, expected[what], "{query}");
    }
    let bitten = "sum by (proxy, rule, fault) (firedrill_faults_selected_total) > 0";
    assert_eq!(
        counts(stack, bitten, &["proxy", "rule", "fault"]).await,
        expected["selected"]
    );

    // Each of them is understood and finds something.
    for (title, query) in dashboard() {
        let found = stack.query(&query).await;
        assert!(!found.is_empty(), "{title}: {query}");
    }
    // Nothing is wrong with how it says that.
    let text = "import urllib.request as r; print(r.urlopen('http://firedrill:9090/metrics').read().decode())";
    let text = [
        "run",
        "--rm",
        "--network",
        "fdtest_monitoring",
        DEBIAN,
        "python3",
        "-c",
        text,
    ];
    let text = stack.docker.docker(&text).await.well();
    let file = stack.docker.folder("metrics").join("text");
    fs::write(&file, text).unwrap();
    let mut check = program("sh", "dash");
    check
        .args(["-c", "promtool check metrics < \"$0\""])
        .arg(&file);
    let said = run(check).await;
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (Some(0), ""),
        "{}",
        said.stdout
    );
    for (kind, name) in [("rules", "rules.yml"), ("config", "prometheus.yml")] {
        let mut check = program("promtool", "prometheus");
        check.args(["check", kind]);
        check.arg(root("configs/compose/prometheus").join(name));
        run(check).await.well();
    }
}

async fn a_stop_loses_nothing(stack: &Stack<'_>) {
    // A transfer that takes four seconds outlives the command to stop.
    let id = stack.id("firedrill").await;
    let shop = stack.shop.clone();
    let export = tokio::spawn(async move { ask(&shop, "GET /export/40").await });
    eventually("the export is under way", async || {
        let records = records(&stack.firedrill(&["evidence", "--json"]).await);
        let open =
            |r: &Record| r.class == Class::Open && r.request.path.as_deref() == Some("/export/40");
        records.iter().any(open).then_some(())
    })
    .await;
    stack.compose(&["stop", "firedrill"]).await.well();
    // 137 would be that it was killed.
    assert_eq!(stack.exit_code(&id).await, Some(0));
    let (status, lines) = export.await.unwrap().unwrap();
    assert_eq!((status, lines.lines().count()), (200, 40));

    // The whole stack is stopped while customers order.
    stack.compose(&["start", "firedrill"]).await.well();
    let shop = stack.port("firedrill", "8000").await;
    let charges = async || {
        let sql = "select count(*) from charges";
        let psql =
            "PGPASSWORD=shop /usr/lib/postgresql/15/bin/psql -h localhost -U shop -d shop -Atc";
        let said = [
            "exec",
            "-T",
            "postgres",
            "sh",
            "-c",
            &format!("{psql} '{sql}'"),
        ];
        let said = stack.compose(&said).await;
        said.stdout.trim().parse::<u64>().ok()
    };
    healthy(stack.docker, &stack.id("firedrill").await).await;
    let before = charges().await.unwrap();
    let mut customers = Vec::new();
    for _ in 0..4 {
        let shop = shop.clone();
        customers.push(tokio::spawn(async move {
            let mut paid = 0;
            // Until nobody answers any more.
            while let Some((status, _)) = ask(&shop, "POST /orders").await {
                assert_eq!(status, 201);
                paid += 1;
            }
            paid
        }));
    }
    eventually("customers are served", async || {
        (charges().await? > before + 20).then_some(())
    })
    .await;
    stack.compose(&["stop"]).await.well();
    let mut paid = 0;
    for customer in customers {
        paid += customer.await.unwrap();
    }
    assert_eq!(stack.exit_code(&id).await, Some(0));
    stack.compose(&["start", "postgres"]).await.well();
    let after = eventually("the database is back", charges).await;
    // Whoever was charged has been told so.
    assert_eq!(after - before, paid);
}

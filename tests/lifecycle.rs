//! A process that starts, is stopped, meets bad files, taken ports and dying upstreams: the real
//! binary, its exit codes, its words.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome, Record};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use support::pay::{Caller, Met, Upstream};
use support::process::{Firedrill, Process, eventually, firedrill, output};
use support::{Client, PATIENCE, Server, get, post, until};

fn http(upstream: SocketAddr) -> String {
    format!("proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}]\n")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The records of its file.
fn written(firedrill: &Firedrill, name: &str) -> Vec<Record> {
    let lines = fs::read_to_string(firedrill.path(name)).unwrap();
    let lines = lines.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Starts `serve` on a file that does not start; answers how it ended.
async fn refused(yaml: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("firedrill.yaml");
    fs::write(&file, yaml).unwrap();
    let mut serve = firedrill();
    serve.args(["serve", "-c"]).arg(&file).current_dir(&dir);
    output(serve).await
}

#[tokio::test]
async fn either_signal_drains_what_runs_and_closes_what_hangs() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::start().await;
        let rules = "limits: { drain: 5s }\n\
             evidence: { file: records.jsonl }\n\
             rules: [{ name: hang, match: { path: /hang }, fault: { drop: {} } }]\n";
        let mut firedrill = Firedrill::start(&format!("{}{rules}", http(upstream.addr))).await;
        let addr = firedrill.proxy("p").await;
        let mut slow = Client::connect(addr).await;
        slow.send(post("/slow", "slow", "x")).await;
        let mut hung = Client::connect(addr).await;
        hung.send(post("/hang", "hung", "x")).await;
        let mut idle = Client::connect(addr).await;
        idle.send(post("/a", "idle", "x")).await;
        assert!(idle.answer().await.ends_with("idle"));
        eventually("one is under way, one hangs", async || {
            let hung = firedrill.rule("hang").await.standing.injected == 1;
            (hung && upstream.log().len() == 2).then_some(())
        })
        .await;

        let began = Instant::now();
        firedrill.process.signal(signal);
        assert_eq!(hung.rest().await, (String::new(), true), "closed at once");
        assert_eq!(idle.rest().await, (String::new(), true));
        assert_eq!(firedrill.process.ended(), None, "it waits for the slow one");
        assert!(TcpStream::connect(addr).await.is_err(), "no new clients");
        upstream.open_gate();
        assert!(slow.answer().await.ends_with("slow"));
        let status = firedrill.process.end().await;
        assert_eq!(status.code(), Some(0), "{}", firedrill.process.log());
        assert!(began.elapsed() < Duration::from_secs(4));

        let ended: HashMap<_, _> = written(&firedrill, "records.jsonl")
            .into_iter()
            .map(|r| (r.identity.clone().unwrap().value, r))
            .collect();
        assert_eq!(ended.len(), 3);
        assert_eq!(ended["slow"].class, Class::Acknowledged);
        assert_eq!(ended["idle"].class, Class::Acknowledged);
        assert_eq!(ended["hung"].class, Class::NeverDelivered);
        assert_eq!(ended["hung"].cause, Cause::Rule("hang".into()));
    }
}

#[tokio::test]
async fn what_does_not_finish_is_closed_when_the_time_to_drain_is_over() {
    let upstream = Upstream::start().await;
    let more = "limits: { drain: 300ms }\nevidence: { file: records.jsonl }\n";
    let mut firedrill = Firedrill::start(&format!("{}{more}", http(upstream.addr))).await;
    let mut never = Client::connect(firedrill.proxy("p").await).await;
    never.send(post("/never", "never", "x")).await;
    until("it is under way", || {
        (upstream.log().len() == 1).then_some(())
    })
    .await;
    let began = Instant::now();
    firedrill.process.signal(Signal::TERM);
    assert_eq!(never.rest().await.0, "");
    assert_eq!(firedrill.process.end().await.code(), Some(0));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(3),
        "{took:?}"
    );
    let records = written(&firedrill, "records.jsonl");
    assert_eq!(records.len(), 1);
    assert_eq!(
        (
            records[0].class,
            &records[0].cause,
            records[0].client.outcome
        ),
        (Class::Unknown, &Cause::Proxy, Outcome::Closed)
    );
}

#[tokio::test]
async fn a_second_signal_ends_the_draining() {
    let upstream = Upstream::start().await;
    let more = "limits: { drain: 1h }\n";
    let mut firedrill = Firedrill::start(&format!("{}{more}", http(upstream.addr))).await;
    let mut never = Client::connect(firedrill.proxy("p").await).await;
    never.send(post("/never", "never", "x")).await;
    until("it is under way", || {
        (upstream.log().len() == 1).then_some(())
    })
    .await;
    firedrill.process.signal(Signal::TERM);
    until("it drains", || {
        firedrill.process.log().contains("stopping").then_some(())
    })
    .await;
    assert!(
        firedrill.api.status().await.is_ok(),
        "the API answers while it drains"
    );
    let began = Instant::now();
    firedrill.process.signal(Signal::INT);
    let status = firedrill.process.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// Whoever holds the control port open must not hold up the end.
#[tokio::test]
async fn clients_of_the_control_port_do_not_hold_up_the_end() {
    let upstream = Upstream::start().await;
    let mut firedrill = Firedrill::start(&http(upstream.addr)).await;
    let control: SocketAddr = firedrill
        .url
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let mut half = TcpStream::connect(control).await.unwrap();
    half.write_all(b"POST /v1/rules HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        .await
        .unwrap();
    let silent = TcpStream::connect(control).await.unwrap();
    let mut follow = firedrill::client::Client::follow(&firedrill.api, &Default::default())
        .await
        .unwrap();
    let began = Instant::now();
    firedrill.process.signal(Signal::TERM);
    assert_eq!(firedrill.process.end().await.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(matches!(follow.next().await, Ok(None) | Err(_)));
    drop((half, silent));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_runs() {
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = held.local_addr().unwrap();
    let free = Server::nobody().await;
    let proxy = |listen: SocketAddr| {
        format!(
            "{{ name: x{}, listen: {listen}, upstream: 127.0.0.1:1 }}",
            listen.port()
        )
    };
    let control = |listen: SocketAddr| format!("control: {{ listen: {listen} }}\n");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for (yaml, who) in [
        (
            format!("{}proxies: [{}]\n", control(taken), proxy(free)),
            "control.listen".to_owned(),
        ),
        (
            format!(
                "{}proxies: [{}, {}]\n",
                control(any),
                proxy(free),
                proxy(taken)
            ),
            format!("proxy `x{}`", taken.port()),
        ),
        (
            format!(
                "{}metrics: {{ listen: {taken} }}\nproxies: [{}]\n",
                control(any),
                proxy(free)
            ),
            "metrics.listen".to_owned(),
        ),
    ] {
        let ended = refused(&yaml).await;
        let stderr = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{stderr}");
        for part in [who.as_str(), &taken.to_string(), "in use", "hint:"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert_eq!(text(&ended.stdout), "");
        assert!(
            TcpStream::connect(free).await.is_err(),
            "nothing is left listening"
        );
    }
    drop(held);
}

#[tokio::test]
async fn an_upstream_that_is_down_comes_back() {
    let addr = Server::nobody().await;
    let firedrill = Firedrill::start(&http(addr)).await;
    let mut caller = Caller::new(firedrill.proxy("p").await, PATIENCE);
    assert_eq!(caller.ask(&post("/a", "down", "x")).await, Met::Reset);
    let upstream = Upstream::on(addr).await;
    let met = caller.ask(&post("/a", "up", "x")).await;
    assert_eq!(met, Met::Answered(200, "up".to_owned()));
    drop(caller);
    firedrill.quiet().await;
    let records = firedrill.closed(2).await;
    assert_eq!(
        (records[0].class, &records[0].cause, records[0].deliveries),
        (Class::NeverDelivered, &Cause::Upstream, 0)
    );
    let error = records[0].upstream[0].error.as_deref().unwrap();
    assert!(error.contains("refused"), "{error}");
    assert_eq!(records[1].class, Class::Acknowledged);
    assert_eq!(upstream.log(), ["up"]);
}

/// An upstream that accepts and says nothing: the client gives up, and the record says no more than
/// was seen.
#[tokio::test]
async fn a_client_gives_up_on_an_upstream_that_says_nothing() {
    let silent = Server::start(|mut c| async move {
        let mut buffer = [0; 1024];
        while c.read(&mut buffer).await? > 0 {}
        Ok(())
    })
    .await;
    for protocol in ["http", "tcp"] {
        let firedrill = Firedrill::start(&format!(
            "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {}, protocol: {protocol} }}]\n",
            silent.addr
        ))
        .await;
        let mut caller = Caller::new(firedrill.proxy("p").await, Duration::from_millis(200));
        assert_eq!(caller.ask(&post("/a", "k", "x")).await, Met::Timeout);
        let record = firedrill.closed(1).await.remove(0);
        assert_eq!(record.class, Class::Unknown, "{record:?}");
        assert_eq!((record.deliveries, record.client.bytes), (1, 0));
        assert_eq!(record.cause, Cause::Client, "{record:?}");
        firedrill.quiet().await;
    }
}

#[tokio::test]
async fn every_problem_of_a_bad_file_is_said_at_its_place() {
    let bad = "\
proxies:
  - name: payment
    listen: 127.0.0.1:0
    upstream: 127.0.0.1
  - name: payment
    lisen: 127.0.0.1:0
    upstream: 127.0.0.1:1
rules:
  - name: r
    proxies: [paymnt]
    fault:
      delay:
        latency: soon
";
    let places = [
        (4, "proxies[0].upstream"),
        (5, "proxies[1].name"),
        (6, "proxies[1].lisen"),
        (10, "rules[0].proxies[0]"),
        (13, "rules[0].fault.delay.latency"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    fs::write(&file, bad).unwrap();
    for args in [&["serve", "-c"][..], &["check"]] {
        let mut command = firedrill();
        command.args(args).arg(&file);
        let ended = output(command).await;
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
        let stderr = text(&ended.stderr);
        for (line, path) in places {
            let found = stderr.lines().any(|said| {
                let Some(rest) = said.split_once("bad.yaml:").map(|(_, rest)| rest) else {
                    return false;
                };
                let mut parts = rest.splitn(4, ':');
                let mut next = || parts.next().unwrap_or_default().trim().to_owned();
                next() == line.to_string()
                    && next().parse::<usize>().is_ok_and(|column| column > 0)
                    && next() == path
            });
            assert!(found, "{line} {path}: {stderr}");
        }
        assert_eq!(text(&ended.stdout), "");
    }

    let good = dir.path().join("good.yaml");
    fs::write(&good, http("127.0.0.1:1".parse().unwrap())).unwrap();
    let mut check = firedrill();
    check.arg("check").arg(&good);
    let ended = output(check).await;
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert!(
        text(&ended.stdout).contains("1 proxy"),
        "{}",
        text(&ended.stdout)
    );

    let mut missing = firedrill();
    missing.args(["serve", "-c", "no-such-file.yaml"]);
    let ended = output(missing).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("no-such-file.yaml"));
}

#[tokio::test]
async fn bad_usage_is_two_with_a_word_of_help_on_stderr() {
    for args in [
        &[][..],
        &["srve"],
        &["serve", "--loud"],
        &["heal", "everything"],
        &["inject", "p"],
        &["inject", "p", "dorp"],
        &["inject", "p", "drop", "than=close"],
        &["inject", "p", "delay"],
        &["inject", "p", "drop", "--probability", "often"],
        &["inject", "p", "drop", "--for", "soon"],
        &["evidence", "--class", "lost"],
        &["check"],
    ] {
        let mut command = firedrill();
        command.args(args);
        let ended = output(command).await;
        let stderr = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(text(&ended.stdout), "", "{args:?}");
        let helps = ["hint:", "--help", "tip:", "Usage:"];
        assert!(
            helps.iter().any(|help| stderr.contains(help)),
            "{args:?}: {stderr}"
        );
    }
    // Right usage, and nobody there: that is another code.
    let mut lonely = firedrill();
    lonely
        .arg("status")
        .env("FIREDRILL_URL", Server::nobody().await.to_string());
    assert_eq!(output(lonely).await.status.code(), Some(1));
}

/// The upstream dies in the middle of traffic and comes back; each request is accounted for.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_killed_in_the_middle_of_traffic() {
    let upstream = Upstream::start().await;
    let firedrill = Firedrill::start(&http(upstream.addr)).await;
    let addr = firedrill.proxy("p").await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut caller = Caller::new(addr, PATIENCE);
                let mut met = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("{client}-{}", met.len());
                    let outcome = caller.ask(&post("/a", &key, "x")).await;
                    met.push((key, outcome));
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                met
            })
        })
        .collect();
    let more = async |n: usize| {
        let then = asked.load(Ordering::Relaxed);
        until("more traffic", || {
            (asked.load(Ordering::Relaxed) >= then + n).then_some(())
        })
        .await;
    };
    more(200).await;
    upstream.kill();
    more(200).await;
    let back = Upstream::on(upstream.addr).await;
    more(200).await;
    stop.store(true, Ordering::Relaxed);
    let mut met = HashMap::new();
    for client in clients {
        met.extend(client.await.unwrap());
    }
    firedrill.quiet().await;

    let mut delivered = upstream.counts();
    for (key, n) in back.counts() {
        *delivered.entry(key).or_default() += n;
    }
    // One that finds its kept connection closed by the upstream's end was never read by the proxy:
    // it has no record, as with any server that closes an idle connection.
    let records: HashMap<_, _> = firedrill
        .closed(1)
        .await
        .into_iter()
        .filter_map(|r| Some((r.identity.clone()?.value, r)))
        .collect();
    let mut failed = 0;
    for (key, met) in &met {
        let delivered = delivered.get(key).copied().unwrap_or_default();
        let Some(record) = records.get(key) else {
            assert!(matches!(met, Met::Reset | Met::Closed), "{key}: {met:?}");
            assert_eq!(delivered, 0, "{key} was delivered and has no record");
            failed += 1;
            continue;
        };
        let context = || format!("{met:?}, {delivered}x: {record:?}");
        match met {
            Met::Answered(status, body) => {
                assert_eq!((*status, body), (200, key));
                assert_eq!(record.class, Class::Acknowledged, "{}", context());
                assert_eq!(delivered, 1);
            }
            Met::Reset | Met::Closed => {
                failed += 1;
                assert_ne!(record.class, Class::Acknowledged, "{}", context());
                if record.class == Class::NeverDelivered {
                    assert_eq!(delivered, 0, "{}", context());
                }
            }
            _ => panic!("{}", context()),
        }
    }
    assert!(
        failed > 0 && failed < met.len(),
        "{failed} of {}",
        met.len()
    );
    println!(
        "{} requests, {failed} failed while the upstream was down",
        met.len()
    );
}

#[tokio::test]
async fn sigusr1_heals() {
    let upstream = Upstream::start().await;
    let rules = "rules: [{ name: hang, fault: { drop: {} } }]\n";
    let mut firedrill = Firedrill::start(&format!("{}{rules}", http(upstream.addr))).await;
    let addr = firedrill.proxy("p").await;
    let mut hung = Client::connect(addr).await;
    hung.send(get("/a")).await;
    eventually("it hangs", async || {
        (firedrill.rule("hang").await.standing.injected == 1).then_some(())
    })
    .await;
    let split = json!({"name": "split", "between": [["client"], ["p"]]});
    firedrill.api.create_partition(&split).await.unwrap();
    firedrill.process.signal(Signal::USR1);
    assert_eq!(hung.rest().await, (String::new(), true));
    eventually("all is off", async || {
        let status = firedrill.api.status().await.unwrap();
        let on = status.rules[0].enabled || status.partitions[0].enabled;
        (!on).then_some(())
    })
    .await;
    let mut caller = Caller::new(addr, PATIENCE);
    assert_eq!(
        caller.ask(&get("/a")).await,
        Met::Answered(200, "/a".to_owned())
    );
    assert_eq!(firedrill.process.ended(), None);
}

/// The file has each finished record once, in whole lines: those in memory, and those that end as
/// the process does.
#[tokio::test]
async fn the_evidence_file_has_exactly_the_finished_records() {
    let upstream = Upstream::start().await;
    let more = "evidence: { file: records.jsonl, capacity: 100000 }\n\
         rules: [{ name: some, probability: 0.3, fault: { abort: {} } }]\n";
    let mut firedrill = Firedrill::start(&format!("seed: 5\n{}{more}", http(upstream.addr))).await;
    let addr = firedrill.proxy("p").await;
    let mut caller = Caller::new(addr, PATIENCE);
    for n in 0..500 {
        caller.ask(&post("/a", &n.to_string(), "x")).await;
    }
    let mut under_way = Client::connect(addr).await;
    let request = "POST /slow HTTP/1.1\r\nHost: p\r\nContent-Length: 0\r\n\r\n";
    // Until one is not hit.
    while upstream.log().last().is_none_or(|key| key != "/slow") {
        under_way.send(request).await;
        tokio::select! {
            answer = under_way.answer() => assert!(answer.contains("503"), "{answer}"),
            () = until("it is under way", || {
                upstream.log().last().filter(|key| *key == "/slow").map(drop)
            }) => {}
        }
    }
    drop(caller);
    let mut ids: BTreeSet<_> = BTreeSet::new();
    let mut open = 0;
    for record in firedrill.records().await {
        open += usize::from(record.class == Class::Open);
        ids.insert(record.id);
    }
    assert_eq!(open, 1);
    firedrill.process.signal(Signal::TERM);
    upstream.open_gate();
    assert!(under_way.answer().await.contains("200 OK"));
    assert_eq!(firedrill.process.end().await.code(), Some(0));
    let records = written(&firedrill, "records.jsonl");
    let in_file: BTreeSet<_> = records.iter().map(|r| r.id).collect();
    assert_eq!(in_file.len(), records.len(), "each once");
    assert_eq!(in_file, ids);
    assert!(records.iter().all(|r| r.class != Class::Open));
    println!(
        "{} records in the file, {} in memory before the end",
        records.len(),
        ids.len()
    );
}

/// A process whose parent has gone, or that is killed, leaves no port behind; a file that is read
/// again starts it again on the same ports.
#[tokio::test]
async fn the_same_ports_can_be_had_again_at_once() {
    let upstream = Upstream::start().await;
    let (control, proxy) = (Server::nobody().await, Server::nobody().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    let yaml = format!(
        "control: {{ listen: {control} }}\nproxies: [{{ name: p, listen: {proxy}, upstream: {}, protocol: http }}]\n",
        upstream.addr
    );
    fs::write(&file, yaml).unwrap();
    for _ in 0..3 {
        let mut serve = firedrill();
        serve.args(["serve", "-c"]).arg(&file);
        let mut process = Process::spawn(&mut serve);
        until("it runs", || {
            assert_eq!(process.ended(), None, "{}", process.log());
            process.log().contains("control API on").then_some(())
        })
        .await;
        // A connection that the process ends leaves its port in TIME_WAIT.
        let mut client = Client::connect(proxy).await;
        client.send(get("/a")).await;
        client.answer().await;
        process.signal(Signal::TERM);
        assert_eq!(process.end().await.code(), Some(0));
    }
}

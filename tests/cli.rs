//! The command line as a user meets it: the binary, its text, its exit codes.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop there")]

#[path = "support/plane.rs"]
mod plane;

use std::process::{Output, Stdio};
use std::time::Duration;

use firedrill::evidence::Class;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use plane::Plane;

/// What needs nobody to answer.
#[test]
fn texts_without_a_server() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .case("tests/cmd/*.trycmd")
        .run();
}

fn command(url: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    command
        .args(line.split(' '))
        .env("FIREDRILL_URL", url)
        .env_remove("FIREDRILL_TOKEN")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(url: &str, line: &str) -> Output {
    command(url, line).output().await.unwrap()
}

async fn stdout(plane: &Plane, line: &str) -> String {
    let output = run(plane.client.url(), line).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {stderr}");
    assert_eq!(stderr, "", "{line}");
    String::from_utf8(output.stdout).unwrap()
}

async fn json(plane: &Plane, line: &str) -> Value {
    serde_json::from_str(&stdout(plane, &format!("{line} --json")).await).unwrap()
}

#[tokio::test]
async fn a_fault_from_injection_to_heal() {
    let plane = Plane::start(None, &[]).await;
    let made = stdout(&plane, "inject payment delay latency=150ms --for 5m").await;
    assert!(
        made.starts_with("payment-delay: delay latency=150ms on payment, until "),
        "{made}"
    );
    assert!(made.contains("5m from now"), "{made}");
    assert!(
        made.contains("lift it: firedrill rule off payment-delay\n"),
        "{made}"
    );

    let second = json(&plane, "inject payment delay latency=1s --for forever").await;
    assert_eq!(second["name"], "payment-delay-2", "a name of its own");
    assert_eq!(second["expires_at"], Value::Null);
    let taken = "inject payment delay latency=1s --name payment-delay";
    let taken = run(plane.client.url(), taken).await;
    assert_eq!(taken.status.code(), Some(1));
    let stderr = String::from_utf8(taken.stderr).unwrap();
    insta::assert_snapshot!(stderr, @r#"
    error: there is a rule `payment-delay` already
    hint: choose another with --name
    "#);

    let listed = stdout(&plane, "rule ls").await;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert_eq!(
        stdout(&plane, "rule off payment-delay").await,
        "payment-delay: off\n"
    );
    let on = stdout(&plane, "rule on payment-delay --for 1m").await;
    assert!(on.starts_with("payment-delay: on, until "), "{on}");
    assert_eq!(
        stdout(&plane, "rule rm payment-delay-2").await,
        "payment-delay-2: deleted\n"
    );
    let shown = stdout(&plane, "rule show payment-delay").await;
    assert!(shown.contains("latency: 150ms"), "{shown}");

    let cut = stdout(&plane, "partition checkout payment --one-way").await;
    assert!(
        cut.contains("checkout no longer hears the other side (blackhole)"),
        "{cut}"
    );
    let status = stdout(&plane, "status").await;
    assert!(
        status.contains("checkout | payment (deaf: checkout)"),
        "{status}"
    );
    let healed = stdout(&plane, "heal").await;
    assert_eq!(
        healed,
        "healed\n1 rule off: payment-delay\n1 partition off: checkout-payment\n"
    );
    assert_eq!(
        json(&plane, "heal").await["rules"],
        Value::Array(Vec::new())
    );
    plane.end().await;
}

#[tokio::test]
async fn what_the_server_finds_wrong_is_a_usage_error() {
    let plane = Plane::start(None, &[]).await;
    for line in [
        "inject nowhere delay latency=1s",
        "inject payment delay latency=soon",
        "inject payment response_loss then=explode",
    ] {
        let output = run(plane.client.url(), line).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
        assert!(output.stdout.is_empty(), "{line}");
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("hint: "), "{line}: {stderr}");
    }
    let missing = run(plane.client.url(), "rule off nothing").await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(plane.client.rules().await.unwrap().items.is_empty());
    plane.end().await;
}

#[tokio::test]
async fn conditions_on_connections_arrive_as_in_the_file() {
    let plane = Plane::start(None, &[]).await;
    let line = "inject db timeout --client 10.0.0.0/8 --client ::1 --connection 3 \
                --connection 5- --bytes 64KiB --age 5s --sni *.Example.com";
    let made = json(&plane, line).await;
    insta::assert_snapshot!(made["match"], @r#"{"client":["10.0.0.0/8","::1"],"connection":[3,"5-"],"bytes":"64KiB","age":"5s","sni":"*.example.com"}"#);
    let shown = stdout(&plane, "rule show db-timeout").await;
    assert!(shown.contains("  sni: '*.example.com'\n"), "{shown}");

    let sentences = [
        "inject db refuse --age 5s",
        "inject payment delay latency=1s --sni a.example",
        "inject db reset --client 10.1.2.3/8",
    ];
    let mut all = String::new();
    for line in sentences {
        let refused = run(plane.client.url(), line).await;
        assert_eq!(refused.status.code(), Some(2), "{line}");
        all += &String::from_utf8(refused.stderr).unwrap();
    }
    insta::assert_snapshot!(all, @r#"
    error: match.age: never holds in time on `db`: `refuse` acts when a connection is accepted, and `age` is known later
    hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
    error: match.sni: never holds here: it is looked for on `tcp` proxies only
    hint: set `protocol: tcp` on the proxy, or match `host`
    error: match.client: expected an address or a subnet such as `10.0.0.0/8`, found `10.1.2.3/8`
    hint: write `10.0.0.0/8`, or `10.1.2.3` for that one address
    "#);
}

#[tokio::test]
async fn conditions_on_requests_arrive_as_in_the_file() {
    let plane = Plane::start(None, &[]).await;
    let line = "inject payment response_loss --host *.Shop.example --path /orders/{id} \
                --cookie tenant=canary --body EUR --grpc shop.Payment/Authorize \
                --response-status 5xx --response-status 429 --nth 1-2 --per identity";
    let made = json(&plane, line).await;
    insta::assert_snapshot!(made["match"], @r#"{"host":"*.shop.example","path":"/orders/{id}","cookies":{"tenant":"canary"},"grpc":{"service":"shop.Payment","method":"Authorize"},"body":{"contains":"EUR"},"response":{"status":["5xx",429]},"request":{"nth":"1-2","per":"identity"}}"#);
    let shown = stdout(&plane, "rule show payment-response_loss").await;
    assert!(shown.contains("    per: identity\n"), "{shown}");

    let mut all = String::new();
    for line in [
        "inject payment abort --response-status 5xx",
        "inject payment drop --path /orders/{id",
        "inject db reset --host a.example",
    ] {
        let refused = run(plane.client.url(), line).await;
        assert_eq!(refused.status.code(), Some(2), "{line}");
        all += &String::from_utf8(refused.stderr).unwrap();
    }
    insta::assert_snapshot!(all, @r#"
    error: match.response: `abort` acts before there is an answer: conditions on it come too late
    hint: leave `response` out, or use a kind that acts on answers, such as `response_loss` or `delay`
    error: match.path: expected `{name}` for a part of a segment, found `/orders/{id`
    hint: for braces in a path itself use `{ regex: … }`
    error: match: conditions on HTTP never hold here: this rule acts on `tcp` proxies only
    hint: set `protocol: http` on the proxy, or leave them out
    "#);
}

#[tokio::test]
async fn several_targets_are_all_acted_on_and_failures_named() {
    let (one, two) = (Plane::start(None, &[]).await, Plane::start(None, &[]).await);
    let urls = format!("{},{}", one.client.url(), two.client.url());
    let made = run(&urls, "inject payment drop").await;
    assert!(made.status.success());
    for plane in [&one, &two] {
        assert_eq!(plane.client.rules().await.unwrap().items.len(), 1);
    }
    let gone = two.client.url().to_owned();
    two.end().await;
    let output = run(&urls, "heal --json").await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&gone), "{stderr}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["targets"][0]["result"]["rules"][0], "payment-drop");
    assert!(printed["targets"][1]["error"]["message"].is_string());
    assert!(
        !one.client.rules().await.unwrap().items[0].enabled,
        "healed nevertheless"
    );
    one.end().await;
}

#[tokio::test]
async fn evidence_is_listed_and_followed() {
    let plane = Plane::start(None, &[]).await;
    plane.record("payment", Class::Unseen);
    plane.record("db", Class::Unknown);
    let text = stdout(&plane, "evidence --class unseen").await;
    assert_eq!(text.lines().count(), 2, "a header and one record: {text}");
    assert!(
        text.contains("POST /authorize/1") && text.contains("closed"),
        "{text}"
    );
    let lines = stdout(&plane, "evidence --json").await;
    let classes: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["class"].clone())
        .collect();
    assert_eq!(classes, ["unseen", "unknown"]);

    let mut following = command(plane.client.url(), "evidence --follow --json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line());
        line.await.unwrap().unwrap().unwrap_or_default()
    };
    assert!(next().await.contains("\"class\":\"unseen\""));
    assert!(next().await.contains("\"class\":\"unknown\""));
    plane.record("db", Class::NeverDelivered);
    assert!(next().await.contains("\"class\":\"never_delivered\""));
    plane.end().await;
    assert!(
        following.wait().await.unwrap().success(),
        "the stream has ended"
    );
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_no_failure() {
    let plane = Plane::start(None, &[]).await;
    for _ in 0..900 {
        plane.record("payment", Class::Unseen);
    }
    let mut running = command(plane.client.url(), "evidence --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    plane.end().await;
}

/// A control plane that gives one answer to whatever it is asked; what it was asked.
async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let length = answer.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}");
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, asked)
}

#[tokio::test]
async fn a_reload_says_what_became_of_what_is_different() {
    let answer = r#"{"generation": 9, "changed": [{"sort": "rule", "name": "slow", "what": "made"}],
                    "restart": ["control.listen"]}"#;
    let (url, asked) = answering(answer).await;
    let ran = run(&url, "reload --controller drill-7").await;
    let head = asked.await.unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/reload http/1.1\r\n"), "{head}");
    assert!(head.contains("firedrill-controller: drill-7\r\n"), "{head}");
    insta::assert_snapshot!(String::from_utf8(ran.stdout).unwrap(), @r#"
    reloaded; 1 changed (generation 9)
    rule slow made
    only after a restart: control.listen
    "#);
    let (url, _asked) = answering(answer).await;
    let ran = run(&url, "reload --json").await;
    let printed: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(answer).unwrap());
}

#[tokio::test]
async fn what_acts_by_a_schedule_says_when() {
    let plane = Plane::start(None, &[]).await;
    let line = "inject payment drop --at 10s --lasts 30s --every 5m --ramp-up 10s --for 1h";
    let made = json(&plane, line).await;
    insta::assert_snapshot!(made["schedule"], @r#"{"at":"10s","for":"30s","every":"5m","ramp_up":"10s"}"#);
    assert_eq!(made["ttl"], "1h");
    assert_eq!(made["active"], false);
    let made = stdout(&plane, "partition checkout payment --at 1m --for forever").await;
    assert!(
        made.contains("begins ") && made.contains("until it is lifted"),
        "{made}"
    );
    assert!(made.contains("cuts: payment\n"), "{made}");
    let listed = stdout(&plane, "partition ls").await;
    assert!(listed.contains("waits "), "{listed}");
    let shown = stdout(&plane, "partition show checkout-payment").await;
    assert!(shown.contains("schedule:\n  at: 1m\n"), "{shown}");
    let on = stdout(&plane, "partition on checkout-payment --for 5m").await;
    assert!(on.starts_with("checkout-payment: on, begins "), "{on}");
    assert_eq!(
        stdout(&plane, "partition rm checkout-payment").await,
        "checkout-payment: deleted\n"
    );
    let none = stdout(&plane, "partition db checkout").await;
    assert!(none.contains("cuts: db\n"), "{none}");
    let none = stdout(&plane, "partition db payment").await;
    assert!(none.contains("no proxy stands between them"), "{none}");
    for (line, says) in [
        (
            "partition checkout nowhere",
            "no proxy is from or to `nowhere`",
        ),
        ("partition --ring checkout,db", "ring"),
        ("partition --random 1", "split"),
        ("inject payment drop --at soon", "schedule.at"),
    ] {
        let refused = run(plane.client.url(), line).await;
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{line}: {stderr}");
        assert!(
            stderr.contains(says) && stderr.contains("hint: "),
            "{line}: {stderr}"
        );
    }
    plane.end().await;
}

#[tokio::test]
async fn the_token_is_taken_from_the_environment() {
    let plane = Plane::start(Some("secret"), &[]).await;
    let refused = run(plane.client.url(), "status").await;
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(
        stderr.contains("hint:") && stderr.contains("FIREDRILL_TOKEN"),
        "{stderr}"
    );
    let allowed = command(plane.client.url(), "status")
        .env("FIREDRILL_TOKEN", "secret")
        .output();
    assert!(allowed.await.unwrap().status.success());
    plane.end().await;
}

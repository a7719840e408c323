//! `firedrill serve --toxiproxy FILE`: what Toxiproxy's `-config` loads, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use support::process::{Firedrill, Process, eventually, firedrill, output};
use support::until;

/// Starts `serve` with this file, which it refuses; answers what it said.
async fn refused(text: &str, yaml: Option<&str>) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("toxiproxy.json"), text).unwrap();
    let mut serve = firedrill();
    serve
        .args(["serve", "--toxiproxy", "toxiproxy.json"])
        .current_dir(&dir);
    if let Some(yaml) = yaml {
        fs::write(dir.path().join("f.yaml"), yaml).unwrap();
        serve.args(["-c", "f.yaml"]);
    }
    let ended = output(serve).await;
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn proxies_of_a_toxiproxy_file_run() {
    let list = r#"[
	{"name": "redis", "listen": "127.0.0.1:0", "upstream": "localhost:6379"},
	{"Name": "off", "Upstream": "localhost:1", "Enabled": false, "Listen": "127.0.0.1:0", "toxics": null},
	{"name": "any", "upstream": "localhost:2"}
]"#;
    let firedrill = Firedrill::with_toxiproxy(
        list,
        "proxies: [{ name: own, listen: 127.0.0.1:0, upstream: a:1 }]",
    )
    .await;
    let proxies = firedrill.api.proxies().await.unwrap().items;
    let shown: Vec<_> = proxies
        .iter()
        .map(|p| (p.name.as_str(), p.enabled, p.upstream.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("own", true, "a:1"),
            ("redis", true, "localhost:6379"),
            ("off", false, "localhost:1"),
            ("any", true, "localhost:2"),
        ]
    );
    assert!(!proxies[1].listen.ends_with(":0"));
    assert!(proxies[2].listen.ends_with(":0"), "it never was anywhere");
}

/// What is read again is both files; what the API made of them stays.
#[tokio::test]
async fn reading_again_reads_both_files() {
    let list =
        |listen: &str| json!([{"name": "redis", "listen": listen, "upstream": "localhost:6379"}]);
    let any = "127.0.0.1:0";
    let yaml = "proxies: [{ name: own, listen: 127.0.0.1:0, upstream: a:1 }]";
    let firedrill = Firedrill::with_toxiproxy(&list(any).to_string(), yaml).await;
    let delay = json!({"name": "redis/slow", "proxies": ["redis"], "direction": "upstream",
        "ttl": "forever", "fault": {"delay": {"latency": "1s"}}});
    firedrill.api.create_rule(&delay).await.unwrap();
    let before = firedrill.proxy("redis").await;
    firedrill.process.signal(Signal::HUP);
    until("it is read again", || {
        firedrill
            .process
            .log()
            .contains("is read again")
            .then_some(())
    })
    .await;
    assert_eq!(firedrill.proxy("redis").await, before, "it is the same");
    assert_eq!(
        firedrill.rule("redis/slow").await.proxies.unwrap(),
        ["redis"]
    );
    let more = json!([list(any)[0], {"name": "more", "listen": any, "upstream": "b:1"}]);
    fs::write(firedrill.path("toxiproxy.json"), more.to_string()).unwrap();
    firedrill.process.signal(Signal::HUP);
    eventually("the new one is there", async || {
        firedrill.api.proxy("more").await.ok()
    })
    .await;
    assert_eq!(firedrill.proxy("redis").await, before);
    // A bad one changes nothing.
    fs::write(firedrill.path("toxiproxy.json"), "[{}]").unwrap();
    firedrill.process.signal(Signal::HUP);
    until("it is refused", || {
        let said = "toxiproxy.json: [0].name: missing";
        firedrill.process.log().contains(said).then_some(())
    })
    .await;
    assert_eq!(firedrill.api.proxies().await.unwrap().items.len(), 3);
}

/// Whoever starts Toxiproxy without a file has proxies made by its API.
#[tokio::test]
async fn no_file_at_all_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = firedrill();
    serve.args(["serve", "-c", "/dev/null"]).current_dir(&dir);
    serve.env("RUST_LOG", "info");
    let mut process = Process::spawn(&mut serve);
    // The port is the usual one, which something else may have: then it says so.
    let said = [
        "control API on http://127.0.0.1:8474",
        "can't listen on 127.0.0.1:8474",
    ];
    until("it is up, or has found its port taken", || {
        let log = process.log();
        said.iter().any(|said| log.contains(said)).then_some(())
    })
    .await;
    let log = process.log();
    assert!(
        process.ended().is_none_or(|_| log.contains(said[1])),
        "{log}"
    );
}

#[tokio::test]
async fn a_bad_file_is_refused_with_every_problem() {
    let wrong = r#"[
      {"name": "a", "listen": "127.0.0.1:7001", "upstream": "b:1"},
      {"listen": "127.0.0.1:7002", "upstream": "b:1"},
      {"name": "c", "upstream": 7},
      {"name": "d", "listen": "127.0.0.1", "upstream": "b:1"},
      {"name": "a", "listen": "127.0.0.1:7003", "upstream": "b:1"},
      {"name": "e", "listen": "127.0.0.1:7001", "upstream": "b:1"},
      {"name": "f", "listen": "127.0.0.1:8474", "upstream": "b:1"},
      7
    ]"#;
    let said = refused(wrong, None).await;
    for expected in [
        "toxiproxy.json: [1].name: missing",
        "toxiproxy.json: [2]: json: cannot unmarshal number 7 into Go struct field Proxy.upstream of type string",
        "toxiproxy.json: [3].listen: expected an address such as `127.0.0.1:7001`, found `127.0.0.1`",
        "toxiproxy.json: [4].name: there is a proxy `a` already",
        "toxiproxy.json: [5].listen: this address is taken by proxy `a`",
        "toxiproxy.json: [6].listen: this address is taken by `control.listen`",
        "toxiproxy.json: [7]: json: cannot unmarshal number into Go value of type Proxy",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(
        said.lines()
            .filter(|l| l.contains("toxiproxy.json: ["))
            .count(),
        7,
        "{said}"
    );
    let said = refused("[\n{\"name\": }]", None).await;
    assert!(said.contains("toxiproxy.json:2:10: is no JSON"), "{said}");
    assert!(refused("{}", None).await.contains("is no list of proxies"));
    let yaml = "proxies: [{ name: a, listen: 127.0.0.1:7009, upstream: b:1 }]";
    let said = refused(wrong, Some(yaml)).await;
    assert!(
        said.contains("[0].name: there is a proxy `a` already"),
        "{said}"
    );
}

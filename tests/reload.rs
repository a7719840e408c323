//! The file read again, and the state file: the real binary, with connections that stand.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::time::Duration;

use firedrill::clock::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::process::{Firedrill, eventually};
use support::{Client, Server, until};

/// Asks the control API for something without a body.
async fn post(firedrill: &Firedrill, path: &str) -> (u16, Value) {
    let host = firedrill.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// A file with a proxy `stays` and one `other`, and more.
fn file(upstream: std::net::SocketAddr, other: &str, more: &str) -> String {
    format!(
        "proxies:\n\
         - {{ name: stays, listen: 127.0.0.1:0, upstream: {upstream} }}\n\
         - {{ name: other, listen: 127.0.0.1:0, upstream: {upstream}, {other} }}\n{more}"
    )
}

const RULES: &str = "rules:\n\
    - { name: a, enabled: false, fault: { drop: {} } }\n\
    - { name: b, proxies: [other], fault: { delay: { latency: 1ms } } }\n";

fn write(firedrill: &Firedrill, yaml: &str) {
    // As editors do: another file takes its place.
    let text = format!("control: {{ listen: 127.0.0.1:0 }}\n{yaml}");
    fs::write(firedrill.path("new"), text).unwrap();
    fs::rename(firedrill.path("new"), firedrill.path("firedrill.yaml")).unwrap();
}

async fn names(firedrill: &Firedrill) -> Vec<String> {
    let rules = firedrill.api.rules().await.unwrap().items;
    rules.into_iter().map(|rule| rule.name).collect()
}

#[tokio::test]
async fn what_differs_is_applied_and_what_does_not_is_left_alone() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start_with("watch: false", &file(server.addr, "", RULES)).await;
    let mut stays = Client::connect(firedrill.proxy("stays").await).await;
    let mut other = Client::connect(firedrill.proxy("other").await).await;
    for client in [&mut stays, &mut other] {
        client.send("before").await;
        client.expect("before").await;
    }
    let made =
        json!({"name": "mine", "proxies": ["stays"], "fault": {"delay": {"latency": "1ms"}}});
    firedrill.api.create_rule(&made).await.unwrap();
    firedrill
        .api
        .patch_rule("b", &json!({"enabled": false}))
        .await
        .unwrap();
    let bound = firedrill.proxy("stays").await;

    // The same again changes nothing, not even what was switched meanwhile.
    let (status, same) = post(&firedrill, "/v1/reload").await;
    assert_eq!(
        (status, &same["changed"], &same["restart"]),
        (200, &json!([]), &json!([]))
    );
    assert!(!firedrill.rule("b").await.enabled);

    let nobody = Server::nobody().await;
    let more = "rules:\n\
        - { name: c, fault: { drop: {} }, enabled: false }\n\
        - { name: a, enabled: false, fault: { drop: { then: close } } }\n\
        partitions:\n\
        - { name: split, between: [[client], [new]], enabled: false }\n";
    let proxies = format!(
        "limits: {{ drain: 1s }}\nproxies:\n\
         - {{ name: stays, listen: 127.0.0.1:0, upstream: {} }}\n\
         - {{ name: other, listen: 127.0.0.1:0, upstream: {nobody} }}\n\
         - {{ name: new, listen: 127.0.0.1:0, upstream: {nobody} }}\n",
        server.addr
    );
    write(&firedrill, &format!("{proxies}{more}"));
    let (status, reloaded) = post(&firedrill, "/v1/reload").await;
    assert_eq!(status, 200, "{reloaded}");
    let changed = reloaded["changed"].as_array().unwrap().iter();
    let changed = changed.map(|c| format!("{} {} {}", c["sort"], c["name"], c["what"]));
    let changed = changed.collect::<Vec<_>>().join(", ").replace('"', "");
    assert_eq!(
        changed,
        "proxy other replaced, proxy new made, partition split made, \
         rule c made, rule a replaced, rule b deleted"
    );
    assert_eq!(reloaded["restart"], json!(["control", "limits"]));
    assert_eq!(
        names(&firedrill).await,
        ["c", "a", "mine"],
        "the file's first, in its order"
    );
    assert_eq!(firedrill.proxy("stays").await, bound);
    stays.send("after").await;
    stays.expect("after").await;
    let (rest, reset) = other.rest().await;
    assert!(
        rest.is_empty(),
        "closed with its proxy's upstream: {rest} {reset}"
    );
    assert_ne!(firedrill.proxy("new").await.port(), 0);
}

#[tokio::test]
async fn a_file_that_does_not_load_changes_nothing_and_says_why() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&file(server.addr, "", RULES)).await;
    let generation = firedrill.api.status().await.unwrap().generation;
    write(
        &firedrill,
        &file(
            server.addr,
            "",
            "rules: [{ name: a, fault: { dealy: {} } }]\n",
        ),
    );
    let (status, refused) = post(&firedrill, "/v1/reload").await;
    assert_eq!(status, 422);
    let error = &refused["error"];
    assert_eq!(error["code"], "invalid_file");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("firedrill.yaml:5:29: rules[0].fault.dealy"),
        "{message}"
    );
    assert!(message.contains("did you mean `delay`?"), "{message}");
    // A name taken by something that the API made and that uses it is in the way as well.
    let uses =
        json!({"name": "mine", "proxies": ["other"], "fault": {"drop": {}}, "enabled": false});
    firedrill.api.create_rule(&uses).await.unwrap();
    let without = format!(
        "proxies: [{{ name: stays, listen: 127.0.0.1:0, upstream: {} }}]\n",
        server.addr
    );
    write(&firedrill, &without);
    let (status, refused) = post(&firedrill, "/v1/reload").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("in_use")),
        "{refused}"
    );
    assert_eq!(
        firedrill.api.status().await.unwrap().generation,
        generation + 1
    );
    assert_eq!(names(&firedrill).await, ["a", "b", "mine"]);
    firedrill.process.signal(Signal::HUP);
    until("SIGHUP is answered in the log", || {
        let log = firedrill.process.log();
        (log.matches("nothing was changed").count() >= 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_file_is_watched_and_so_is_where_its_link_leads() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&file(server.addr, "", RULES)).await;
    let has = async |wanted: &[&str]| {
        eventually("the file is read again", async || {
            (names(&firedrill).await == wanted).then_some(())
        })
        .await;
    };
    let rule = |name: &str| format!("rules: [{{ name: {name}, fault: {{ drop: {{}} }} }}]\n");
    write(&firedrill, &file(server.addr, "", &rule("renamed")));
    has(&["renamed"]).await;
    // In place, in two steps.
    let text = format!(
        "control: {{ listen: 127.0.0.1:0 }}\n{}",
        file(server.addr, "", "")
    );
    fs::write(firedrill.path("firedrill.yaml"), &text).unwrap();
    fs::write(firedrill.path("firedrill.yaml"), text + &rule("written")).unwrap();
    has(&["written"]).await;
    // As Kubernetes does: the file is a link through a link, and that one is changed.
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        let data = firedrill.path(&format!("..data{n}"));
        fs::create_dir(&data).unwrap();
        let text = format!(
            "control: {{ listen: 127.0.0.1:0 }}\n{}",
            file(server.addr, "", &rule(name))
        );
        fs::write(data.join("firedrill.yaml"), text).unwrap();
        let link = firedrill.path("..new");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        fs::rename(link, firedrill.path("..data")).unwrap();
        if n == 0 {
            std::os::unix::fs::symlink("..data/firedrill.yaml", firedrill.path("link")).unwrap();
            fs::rename(firedrill.path("link"), firedrill.path("firedrill.yaml")).unwrap();
        }
        has(&[name]).await;
        if n > 0 {
            fs::remove_dir_all(firedrill.path(&format!("..data{}", n - 1))).unwrap();
        }
    }
    firedrill.process.signal(Signal::HUP);
    until("SIGHUP reads it too", || {
        let log = firedrill.process.log();
        log.contains("by=signal SIGHUP").then_some(())
    })
    .await;
    assert!(
        !firedrill.process.log().contains("ERROR"),
        "{}",
        firedrill.process.log()
    );
}

#[tokio::test]
async fn what_the_api_made_is_there_after_a_kill() {
    let server = Server::echo().await;
    let state = "state_file: ./state.json";
    let firedrill = Firedrill::start_with(state, &file(server.addr, "", RULES)).await;
    let api = &firedrill.api;
    let proxy = json!({"name": "extra", "from": "other", "listen": "127.0.0.1:0", "upstream": server.addr.to_string()});
    api.create_proxy(&proxy).await.unwrap();
    let rule = |name: &str, ttl: &str| json!({"name": name, "proxies": ["extra"], "ttl": ttl, "skip": 3, "fault": {"delay": {"latency": "5ms"}}});
    api.create_rule(&rule("long", "1h")).await.unwrap();
    api.create_rule(&rule("short", "300ms")).await.unwrap();
    api.create_rule(&rule("forever", "forever")).await.unwrap();
    let split = json!({"isolate": ["extra"], "ttl": "2h", "schedule": {"at": "1h", "for": "1m"}});
    api.put_partition("alone", &split).await.unwrap();
    // Of the file: one switched off, one altered.
    api.patch_rule("b", &json!({"enabled": false}))
        .await
        .unwrap();
    api.patch_rule("a", &json!({"probability": 0.5}))
        .await
        .unwrap();
    let before = api.status().await.unwrap();
    let dir = firedrill.kill().await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let firedrill = Firedrill::start_in(dir).await;
    let after = firedrill.api.status().await.unwrap();
    let told = |status: &firedrill::wire::Status| {
        let rules = status.rules.iter().map(|r| {
            let expires = r.standing.expires_at.filter(|_| r.name != "short");
            let short = r.name == "short";
            (
                r.name.clone(),
                r.enabled && !short,
                expires,
                r.probability.to_bits(),
                r.skip,
            )
        });
        let proxies = status
            .proxies
            .iter()
            .map(|p| (p.name.clone(), p.upstream.clone()));
        let partitions = status.partitions.iter();
        let partitions = partitions.map(|p| {
            (
                p.name.clone(),
                p.standing.expires_at,
                p.standing.turns_at,
                p.isolate.clone(),
            )
        });
        (
            rules.collect::<Vec<_>>(),
            proxies.collect::<Vec<_>>(),
            partitions.collect::<Vec<_>>(),
        )
    };
    let ((rules, proxies, _), (then, others, _)) = (told(&after), told(&before));
    assert_eq!((rules, proxies), (then, others));
    assert_eq!(
        after.seed, before.seed,
        "what is drawn by chance stays as it was"
    );
    let turns = |status: &firedrill::wire::Status| status.partitions[0].standing.turns_at.unwrap();
    let (was, is) = (turns(&before), turns(&after));
    assert!(
        was.since(is).max(is.since(was)) < Duration::from_millis(50),
        "{was} {is}"
    );
    let short = firedrill.rule("short").await;
    assert!(!short.enabled, "its time was over while nobody ran");
    let left = firedrill.rule("long").await.standing.expires_at.unwrap();
    assert!(left.since(Timestamp::now()) < Duration::from_secs(3600));
    let mut client = Client::connect(firedrill.proxy("extra").await).await;
    client.send("again").await;
    client.expect("again").await;
    drop(client);

    // Stopped in good order, it keeps what was on, although stopping lifts everything.
    let mut firedrill = firedrill;
    firedrill.process.signal(Signal::TERM);
    assert!(firedrill.process.end().await.success());
    let dir = firedrill.into_dir();
    // Where the file has changed its mind, the file counts.
    let text = fs::read_to_string(dir.path().join("firedrill.yaml")).unwrap();
    let text = text.replace("latency: 1ms", "latency: 2ms");
    fs::write(dir.path().join("firedrill.yaml"), text).unwrap();
    let firedrill = Firedrill::start_in(dir).await;
    assert!(firedrill.rule("forever").await.enabled);
    assert!(firedrill.rule("b").await.enabled);
    assert_eq!(firedrill.rule("a").await.probability, 0.5);
    assert!(
        firedrill
            .process
            .log()
            .contains("the file now says something else of \"b\"")
    );
}

#[tokio::test]
async fn a_state_file_that_can_not_be_read_starts_nothing() {
    for (text, why) in [
        ("{", "EOF"),
        (
            r#"{"version": 2, "proxies": [], "rules": [], "partitions": []}"#,
            "version 2",
        ),
        (
            r#"{"version": 1, "seed": 1, "proxies": [], "rules": [{"definition": {"name": "x"}}], "partitions": []}"#,
            "rules[0]",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let yaml = "control: { listen: 127.0.0.1:0, state_file: state.json }\n";
        fs::write(dir.path().join("firedrill.yaml"), yaml).unwrap();
        fs::write(dir.path().join("state.json"), text).unwrap();
        let mut serve = support::process::firedrill();
        serve
            .args(["serve", "-c"])
            .arg(dir.path().join("firedrill.yaml"));
        let ended = support::process::output(serve).await;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success());
        assert!(
            said.contains("control.state_file") && said.contains(why),
            "{said}"
        );
        assert!(said.contains("delete it"), "{said}");
        assert_eq!(
            fs::read_to_string(dir.path().join("state.json")).unwrap(),
            text
        );
    }
}

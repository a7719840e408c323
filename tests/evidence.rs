//! Evidence through the real binary: identity wherever it stands, hashes, filters, rotation, and the two
//! stories of one operation along a chain of edges.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use firedrill::clock::Timestamp;
use firedrill::evidence::{By, Class, Filter, Record};
use firedrill::rules::Statuses;
use serde_json::{Value, json};

use support::process::{Firedrill, eventually};
use support::{Client, Server, post};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn proxy(name: &str, from: &str, upstream: SocketAddr) -> String {
    format!(
        "- {{ name: {name}, from: {from}, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}\n"
    )
}

/// A request with a JSON body, on a connection of its own; the answer's status line, if there is one.
async fn ask(at: SocketAddr, target: &str, header: &str, body: &str) -> String {
    let mut client = Client::connect(at).await;
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(request).await;
    let answer = client.answer().await;
    answer.lines().next().unwrap_or_default().to_owned()
}

fn value(record: &Record) -> (By, &str, u32) {
    let identity = record.identity.as_ref().unwrap();
    (identity.by, &identity.value, record.attempt)
}

#[tokio::test]
async fn the_teams_own_id_is_found_wherever_it_stands() {
    let server = Server::http().await;
    let yaml = format!(
        "identity: {{ header: x-order, query: order, path: ['/orders/{{id}}/**'], json: /order/id }}\n\
         proxies:\n{}\
         rules:\n\
         - {{ name: second, fault: {{ abort: {{ status: 418 }} }}, match: {{ request: {{ nth: 2, per: identity }} }} }}\n",
        proxy("payment", "checkout", server.addr)
    );
    let firedrill = Firedrill::start(&yaml).await;
    let at = firedrill.proxy("payment").await;
    let json = r#"{"order":{"id":42}}"#;
    let mut told = Vec::new();
    for (target, header, body) in [
        ("/pay", "X-Order: h\r\nIdempotency-Key: k\r\n", json),
        ("/pay?a=1&order=q", "Idempotency-Key: k\r\n", json),
        ("/orders/p/pay", "Idempotency-Key: k\r\n", json),
        ("/pay", "Idempotency-Key: k\r\n", json),
        // Another attempt at the same: other bytes around the id, and no key.
        ("/pay", "", r#"{"order":{"id":42},"try":2}"#),
        ("/pay", "Idempotency-Key: k\r\n", "{}"),
    ] {
        told.push(ask(at, target, header, body).await);
    }
    let records = firedrill.closed(6).await;
    let found: Vec<_> = records.iter().map(value).collect();
    let own = By::Configured;
    assert_eq!(
        found,
        [
            (own, "h", 1),
            (own, "q", 1),
            (own, "p", 1),
            (own, "42", 1),
            (own, "42", 2),
            (By::IdempotencyKey, "k", 1)
        ]
    );
    let refused: Vec<_> = told.iter().map(|line| line.contains("418")).collect();
    assert_eq!(refused, [false, false, false, false, true, false]);
    // Of no other key was anything said, so none was an attempt at what the body names.
    assert_ne!(records[3].request.digest, records[4].request.digest);
}

/// Which of these operations a rule of probability one half chooses.
async fn chosen(seed: u64, place: &str) -> BTreeSet<u32> {
    let server = Server::http().await;
    let yaml = format!(
        "seed: {seed}\nidentity: {{ json: /id, header: x-id }}\nproxies:\n{}\
         rules:\n- {{ name: half, probability: 0.5, fault: {{ abort: {{ status: 418 }} }} }}\n",
        proxy("payment", "checkout", server.addr)
    );
    let firedrill = Firedrill::start(&yaml).await;
    let at = firedrill.proxy("payment").await;
    let mut chosen = BTreeSet::new();
    for n in 0..40 {
        let (header, body) = match place {
            "body" => (String::new(), format!(r#"{{"id":"op-{n}","noise":{n}}}"#)),
            _ => (format!("x-id: op-{n}\r\n"), "{}".to_owned()),
        };
        if ask(at, "/pay", &header, &body).await.contains("418") {
            chosen.insert(n);
        }
    }
    chosen
}

#[tokio::test]
async fn decisions_are_drawn_from_the_id_whether_head_or_body_has_it() {
    let (head, body, other) = tokio::join!(chosen(7, "head"), chosen(7, "body"), chosen(8, "body"));
    assert_eq!(head, body);
    assert_ne!(body, other);
    assert!((8..=32).contains(&body.len()), "{body:?}");
}

#[tokio::test]
async fn what_is_hashed_stands_nowhere_in_the_open() {
    let server = Server::http().await;
    let yaml = format!(
        "evidence: {{ file: e.jsonl, hash: [identities, paths, clients], redact: [traceparent], hash_key_file: key }}\n\
         proxies:\n{}",
        proxy("payment", "checkout", server.addr)
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), "a secret of the whole team\n").unwrap();
    let control = "control: { listen: 127.0.0.1:0 }\n";
    fs::write(
        dir.path().join("firedrill.yaml"),
        control.to_owned() + &yaml,
    )
    .unwrap();
    let firedrill = Firedrill::start_in(dir).await;
    let at = firedrill.proxy("payment").await;
    let header =
        format!("Idempotency-Key: card-4711\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    for _ in 0..2 {
        ask(at, "/cards/4711", &header, "{}").await;
    }
    let records = firedrill.closed(2).await;
    let listed = serde_json::to_string(&records).unwrap();
    let file = firedrill.path("e.jsonl");
    let written = eventually("two lines in the file", async || {
        let text = fs::read_to_string(&file).unwrap();
        (text.lines().count() == 2).then_some(text)
    })
    .await;
    let printed = firedrill.stdout(&["evidence"]).await;
    for text in [&listed, &written, &printed] {
        for secret in ["4711", TRACE, "127.0.0.1"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(
        value(&records[1]).2,
        2,
        "they are still attempts at one thing"
    );
    assert_eq!(records[0].trace, records[1].trace);
    // Who knows what to ask for finds it.
    let story = firedrill.stdout(&["evidence", "--id", "card-4711"]).await;
    assert!(story.contains("as checkout was told it"), "{story}");
    // Under the same key another process hashes alike.
    let hash = value(&records[0]).1.to_owned();
    let dir = firedrill.kill().await;
    let again = Firedrill::start_in(dir).await;
    ask(again.proxy("payment").await, "/cards/4711", &header, "{}").await;
    assert_eq!(value(&again.closed(1).await[0]).1, hash);
}

#[tokio::test]
async fn filters_find_by_status_time_and_service() {
    let server = Server::http_with(|head| {
        let status = if head.contains("/bad") { 503 } else { 200 };
        format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let yaml = format!(
        "proxies:\n{}{}",
        proxy("payment", "checkout", server.addr),
        proxy("orders", "web", server.addr)
    );
    let firedrill = Firedrill::start(&yaml).await;
    let (payment, orders) = (
        firedrill.proxy("payment").await,
        firedrill.proxy("orders").await,
    );
    for (at, path) in [(payment, "/good"), (payment, "/bad"), (orders, "/bad")] {
        ask(at, path, "", "").await;
    }
    let between = Timestamp::now();
    ask(orders, "/good", "", "").await;
    firedrill.closed(4).await;
    let find = async |filter: Filter| {
        let records = firedrill.api.evidence(&filter).await.unwrap();
        let records = records.collect().await.unwrap();
        let path = |r: &Record| format!("{}{}", r.proxy, r.request.path.as_deref().unwrap());
        records.iter().map(path).collect::<Vec<_>>()
    };
    let status = Filter {
        status: Statuses::parse("5xx").ok(),
        ..Filter::default()
    };
    assert_eq!(find(status.clone()).await, ["payment/bad", "orders/bad"]);
    let both = Filter {
        from: Some("web".to_owned()),
        to: Some("orders".to_owned()),
        ..status
    };
    assert_eq!(find(both).await, ["orders/bad"]);
    let since = Filter {
        since: Some(between),
        ..Filter::default()
    };
    assert_eq!(find(since).await, ["orders/good"]);
    let until = Filter {
        until: Some(between),
        limit: Some(1),
        ..Filter::default()
    };
    assert_eq!(find(until).await, ["orders/bad"]);
    let listed = firedrill
        .stdout(&["evidence", "--status", "503", "--since", "1h", "--json"])
        .await;
    assert_eq!(listed.lines().count(), 2);
    for (args, says) in [
        (["--status", "9xx"], "200 to 599"),
        (["--since", "yesterday"], "how long ago"),
    ] {
        let output = firedrill.run(&["evidence", args[0], args[1]]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn the_file_is_moved_on_when_it_is_large_and_loses_no_record() {
    let server = Server::http().await;
    let yaml = format!(
        "evidence: {{ file: e.jsonl, rotate: {{ size: 4KiB, keep: 100 }} }}\nproxies:\n{}",
        proxy("payment", "checkout", server.addr)
    );
    let firedrill = Firedrill::start(&yaml).await;
    let at = firedrill.proxy("payment").await;
    for n in 0..50 {
        ask(at, "/pay", &format!("Idempotency-Key: k-{n}\r\n"), "{}").await;
    }
    let folder = firedrill.path("");
    let ids = eventually("fifty lines in all files", async || {
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("e.jsonl") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                assert!(text.len() <= 4096, "{name} has {} bytes", text.len());
                for line in text.lines() {
                    ids.insert(serde_json::from_str::<Record>(line).ok()?.id);
                }
            }
        }
        (ids.len() == 50).then_some(ids)
    })
    .await;
    assert_eq!(ids.len(), 50);
    assert!(firedrill.path("e.jsonl.5").exists());
}

/// A shop of two edges: what `checkout` does for `web` it asks of `payment`, under a key of its own, but
/// with the trace passed on.
#[tokio::test]
async fn the_two_stories_reach_along_the_chain() {
    let payment = Server::http_with(|_| {
        "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let edge = format!("proxies:\n{}", proxy("payment", "checkout", payment.addr));
    let lost = "rules:\n- { name: lost, limit: 1, fault: { response_loss: { then: reset } } }\n";
    let inner = Firedrill::start(&(edge + lost)).await;
    let inner_at = inner.proxy("payment").await;
    let checkout = Server::start(move |mut c| async move {
        while let Some(_head) = c.request().await? {
            let header = format!(
                "Idempotency-Key: pay-42\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n"
            );
            for _ in 0..2 {
                // The first is reset before it has an answer.
                let mut client = Client::connect(inner_at).await;
                let request = format!(
                    "POST /authorize/42 HTTP/1.1\r\nHost: x\r\n{header}Content-Length: 2\r\n\r\n{{}}"
                );
                client.send(request).await;
                client.rest().await;
            }
            tokio::io::AsyncWriteExt::write_all(
                &mut c.socket,
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            )
            .await?;
        }
        Ok(())
    })
    .await;
    let edge = format!("proxies:\n{}", proxy("checkout", "web", checkout.addr));
    let outer = Firedrill::start(&edge).await;
    let header =
        format!("X-Request-Id: order-42\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let told = ask(outer.proxy("checkout").await, "/orders", &header, "{}").await;
    assert!(told.contains("200"), "{told}");
    outer.closed(1).await;
    inner.closed(2).await;

    let urls = ["--url", &outer.url, "--url", &inner.url];
    // Whatever it is called, at whichever edge.
    for id in ["order-42", "pay-42", TRACE] {
        let text = outer
            .stdout(&[&urls[..], &["evidence", "--id", id]].concat())
            .await;
        let without_times: String = text
            .lines()
            .map(|line| {
                let timed = line.starts_with("  ") && line.as_bytes().get(4) == Some(&b':');
                let line = if timed { &line[16..] } else { line };
                let line = line.split(" after ").next().unwrap();
                format!("{}\n", line.trim_end_matches(','))
            })
            .collect();
        let expected = format!(
            "The story of {id}, as web was told it\n\
             asked checkout: POST /orders\n\
             was told 200\n\
             \n\
             What checkout saw\n\
             was sent POST /orders by web\n\
             asked payment: POST /authorize/42\n\
             was told nothing: its connection was reset\n\
             asked payment: POST /authorize/42 (attempt 2)\n\
             was told 201\n\
             answered 200\n\
             \n\
             What payment saw\n\
             was sent POST /authorize/42 by checkout\n\
             answered 201\n\
             was sent POST /authorize/42 by checkout\n\
             answered 201\n\
             \n\
             What was injected\n\
             checkout > payment, POST /authorize/42: response_loss (rule lost)\n\
             \n\
             What is unknown\n  \
             to checkout: whether payment did POST /authorize/42: it answered 201, and checkout did not get that\n"
        );
        // Two instances write down their own moments: what lies within a moment of each other may stand
        // either way round within a story.
        let stories = |text: &str| {
            let stories = text.split("\n\n").map(|story| {
                let (title, facts) = story.split_once('\n').unwrap_or((story, ""));
                let mut facts: Vec<_> = facts.lines().map(str::to_owned).collect();
                facts.sort();
                (title.to_owned(), facts)
            });
            stories.collect::<Vec<_>>()
        };
        assert_eq!(stories(&without_times), stories(&expected));
    }
    let story = [&urls[..], &["evidence", "--id", "order-42", "--json"]].concat();
    let story: Value = serde_json::from_str(&outer.stdout(&story).await).unwrap();
    assert_eq!(story["customer"]["name"], "web");
    let classes: Vec<_> = story["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["class"])
        .collect();
    assert_eq!(
        classes,
        [
            &json!("acknowledged"),
            &json!("unseen"),
            &json!("acknowledged")
        ]
    );
    let nothing = outer.run(&["evidence", "--id", "no-such"]).await;
    assert!(nothing.status.success());
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("no record of no-such"), "{said}");
}

#[tokio::test]
async fn without_evidence_there_are_counts_and_faults_all_the_same() {
    let server = Server::http().await;
    let yaml = format!(
        "evidence: {{ enabled: false }}\nproxies:\n{}\
         rules:\n- {{ name: no, match: {{ path: /no }}, fault: {{ abort: {{ status: 418 }} }} }}\n",
        proxy("payment", "checkout", server.addr)
    );
    let firedrill = Firedrill::start(&yaml).await;
    let at = firedrill.proxy("payment").await;
    let mut client = Client::connect(at).await;
    client.send(post("/yes", "k", "{}")).await;
    assert!(client.answer().await.contains("200"));
    assert!(ask(at, "/no", "", "{}").await.contains("418"));
    drop(client);
    eventually("both are counted", async || {
        let count = async |class: Class| {
            let labels = [format!("class=\"{class}\"")];
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            firedrill
                .metric("firedrill_operations_total", &labels)
                .await
        };
        let counted = (
            count(Class::Acknowledged).await,
            count(Class::Substituted).await,
        );
        (counted == (1, 1)).then_some(())
    })
    .await;
    assert_eq!(firedrill.records().await.len(), 0);
    let dropped = firedrill
        .metric("firedrill_evidence_dropped_total", &[])
        .await;
    assert_eq!(dropped, 0);
}

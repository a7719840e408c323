//! Findings as they are asked for: the route, its filters and refusals, the command, and that neither
//! keeps anyone from healing.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use firedrill::client::ClientError;
use firedrill::clock::Timestamp;
use firedrill::evidence::findings::{FINDERS, Finding, Verdict, Wanted};
use serde_json::Value;

use support::process::{Firedrill, firedrill as firedrill_command, output};
use support::programs::text;
use support::{Client, Server, post};

/// Two edges, `checkout > payment` and `orders > mail`.
async fn start() -> (Firedrill, Server) {
    let server = Server::http().await;
    let firedrill = Firedrill::start(&format!(
        "proxies:\n\
         - {{ name: payment, from: checkout, listen: 127.0.0.1:0, upstream: {0}, protocol: http }}\n\
         - {{ name: mail, from: orders, listen: 127.0.0.1:0, upstream: {0}, protocol: http }}\n",
        server.addr
    ))
    .await;
    (firedrill, server)
}

/// Requests on one connection, each under its key.
async fn ask(at: SocketAddr, keys: &[&str]) {
    let mut client = Client::connect(at).await;
    for key in keys {
        client.send(post("/pay", key, &format!("for {key}"))).await;
        client.answer().await;
    }
}

fn names(found: &[Finding], from: &str) -> Vec<String> {
    let of = found.iter().filter(|finding| finding.subject.from == from);
    of.map(|finding| finding.finding.clone()).collect()
}

async fn refused(firedrill: &Firedrill, query: &str) -> (String, String) {
    let mut curl = support::process::program("curl", "curl");
    let url = format!("{}/v1/findings?{query}", firedrill.url);
    curl.args(["-q", "-sS", "--noproxy", "*", &url]);
    let body: Value = serde_json::from_str(&text(&output(curl).await)).unwrap();
    let error = &body["error"];
    assert_eq!(error["code"], "query", "{body}");
    let word = |key: &str| error[key].as_str().unwrap().to_owned();
    (word("message"), word("hint"))
}

#[tokio::test]
async fn they_are_listed_by_edge_and_caller_and_filtered() {
    let (firedrill, _server) = start().await;
    let none = firedrill.api.findings(&Wanted::default()).await.unwrap();
    assert_eq!(none.items, []);
    ask(firedrill.proxy("payment").await, &["a", "b"]).await;
    let between = firedrill.closed(2).await[1].started;
    ask(firedrill.proxy("mail").await, &["c"]).await;
    firedrill.closed(3).await;

    let all = firedrill.api.findings(&Wanted::default()).await.unwrap();
    let every: Vec<_> = FINDERS.iter().map(|finder| finder.name).collect();
    for (from, to) in [("checkout", "payment"), ("orders", "mail")] {
        let mut found = names(&all.items, from);
        found.sort();
        let mut every = every.clone();
        every.sort_unstable();
        assert_eq!(found, every);
        let of = all.items.iter().filter(|f| f.subject.from == from);
        for finding in of {
            assert_eq!(finding.subject.to, to);
            let caller = finding.subject.caller.map(|caller| caller.to_string());
            assert!(caller.is_none_or(|caller| caller == "127.0.0.1"));
            assert_eq!(finding.verdict, Verdict::NotEnough, "{finding:?}");
        }
    }
    let rules = firedrill.api.rules().await.unwrap();
    assert_eq!(all.generation, rules.generation);

    let one = Wanted {
        finding: Some("backoff".to_owned()),
        from: Some("checkout".to_owned()),
        to: Some("payment".to_owned()),
        ..Wanted::default()
    };
    let found = firedrill.api.findings(&one).await.unwrap().items;
    assert_eq!(names(&found, "checkout"), ["backoff"]);
    assert_eq!(found.len(), 1);
    let count = async |since, until| {
        let wanted = Wanted {
            finding: Some("bounded_retries".to_owned()),
            since,
            until,
            ..Wanted::default()
        };
        let found = firedrill.api.findings(&wanted).await.unwrap().items;
        let attempts = found
            .iter()
            .map(|finding| finding.detail["attempts"].clone());
        attempts.map(|n| n.as_u64().unwrap()).collect::<Vec<_>>()
    };
    let after = Timestamp(between.0 + 1);
    assert_eq!(count(None, None).await, [2, 1]);
    assert_eq!(count(Some(after), None).await, [1]);
    assert_eq!(count(None, Some(after)).await, [2]);
    assert_eq!(count(Some(after), Some(after)).await, [0_u64; 0]);
}

#[tokio::test]
async fn words_that_are_none_are_refused_with_the_nearest() {
    let (firedrill, _server) = start().await;
    let said = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    assert_eq!(
        refused(&firedrill, "finding=back-of").await,
        said("there is no finding `back-of`", "did you mean `backoff`?")
    );
    assert_eq!(
        refused(&firedrill, "from=chekout").await,
        said(
            "there is no calling service `chekout`",
            "did you mean `checkout`?"
        )
    );
    assert_eq!(
        refused(&firedrill, "to=nobody").await,
        said(
            "there is no called service `nobody`",
            "there are mail, payment"
        )
    );
    let (message, hint) = refused(&firedrill, "since=yesterday").await;
    assert!(message.starts_with("`yesterday` is no moment"), "{message}");
    assert!(hint.contains("RFC 3339"), "{hint}");
    let (message, hint) = refused(&firedrill, "class=unseen").await;
    assert_eq!(message, "there is no filter `class`");
    assert_eq!(hint, "the filters are finding, from, to, since and until");

    for (args, expected) in [
        (
            ["findings", "--finding", "backof"],
            "similar value exists: 'backoff'",
        ),
        (
            ["findings", "--explain", "jiter"],
            "similar value exists: 'jitter'",
        ),
        (["findings", "--to", "paiment"], "did you mean `payment`?"),
        (["findings", "--since", "soon"], "expected how long ago"),
    ] {
        let run = firedrill.run(&args).await;
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[tokio::test]
async fn the_command_prints_a_line_each_and_json() {
    let (firedrill, _server) = start().await;
    let nothing = firedrill.stdout(&["findings"]).await;
    assert_eq!(nothing, "nothing found: there are no records of requests\n");
    ask(firedrill.proxy("payment").await, &["a"]).await;
    firedrill.closed(1).await;
    let args = ["findings", "--finding", "timeouts", "--since", "5m"];
    let lines = firedrill.stdout(&args).await;
    let words: Vec<Vec<_>> = lines
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[0],
        ["FINDING", "FROM", ">", "TO", "CALLER", "VERDICT", "FIGURES"]
    );
    let row = [
        "timeouts",
        "checkout",
        ">",
        "payment",
        "127.0.0.1",
        "not",
        "enough",
        "left",
    ];
    assert_eq!(words[1][..8], row, "{lines}");
    assert_eq!(words.len(), 2);

    let json = [&args[..], &["--json"]].concat();
    let one: Value = serde_json::from_str(&firedrill.stdout(&json).await).unwrap();
    assert_eq!(one["items"][0]["finding"], "timeouts");

    // Of two, each is judged by its own records.
    let other = Firedrill::start("").await;
    let both = format!("{},{}", firedrill.url, other.url);
    let asked = async |args: &[&str]| {
        let mut command = firedrill_command();
        command.args(args).env("FIREDRILL_URL", &both);
        text(&output(command).await)
    };
    let lines = asked(&args).await;
    let expected = format!(
        "{}:\nnothing found: there are no records of requests",
        other.url
    );
    assert!(
        lines.starts_with(&format!("{}:\nFINDING", firedrill.url)),
        "{lines}"
    );
    assert!(lines.ends_with(&expected), "{lines}");
    let two: Value = serde_json::from_str(&asked(&json).await).unwrap();
    assert_eq!(
        two["targets"][0]["result"]["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(two["targets"][1]["url"], other.url);

    // No instance is asked.
    drop((firedrill, other));
    for finder in FINDERS {
        let mut command = firedrill_command();
        command.args(["findings", "--explain", finder.name]);
        let told = text(&output(command).await);
        assert!(told.starts_with(&format!("{}: ", finder.name)), "{told}");
        let unwrapped = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let definition = finder
            .definition
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(unwrapped.ends_with(&definition), "{told}");
        assert!(
            told.lines().all(|line| line.chars().count() <= 80),
            "{told}"
        );
    }
}

/// A heal that comes while more are asked for than are judged at a time goes before them.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_findings_keeps_nobody_from_healing() {
    const ASKED: usize = 12;
    let (firedrill, _server) = start().await;
    let at = firedrill.proxy("payment").await;
    let asking = (0..20).map(|n| {
        tokio::spawn(async move {
            let keys: Vec<_> = (0..150).map(|i| format!("{n}-{i}")).collect();
            ask(at, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    firedrill.closed(3000).await;
    let told = Arc::new(AtomicUsize::new(0));
    let asked: Vec<_> = (0..ASKED)
        .map(|_| {
            let (api, told) = (firedrill.api.clone(), Arc::clone(&told));
            tokio::spawn(async move {
                let found = api.findings(&Wanted::default()).await?;
                told.fetch_add(1, Relaxed);
                Ok::<_, ClientError>(found.items.len())
            })
        })
        .collect();
    // The first is answered: they are all there, or come just now.
    support::until("the first is answered", || {
        (told.load(Relaxed) > 0).then_some(())
    })
    .await;
    firedrill.api.heal().await.unwrap();
    let before = told.load(Relaxed);
    let mut counts = Vec::new();
    for asked in asked {
        counts.push(asked.await.unwrap().unwrap());
    }
    assert!(
        before <= ASKED / 2,
        "{before} of {ASKED} were answered before it"
    );
    assert!(counts.iter().all(|n| *n == FINDERS.len()), "{counts:?}");
}

//! The demo tells what it sees: untouched it is as told, and whoever meddles is found out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use firedrill::demo::{self, ACTS, Caller, Ending, Meddling, Options, Promise, Trouble, WIDTH};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

async fn play(options: Options) -> (Ending, Vec<String>) {
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_owned());
    let ending = demo::run(options, &mut say).await.unwrap();
    (ending, lines)
}

/// The acts that were not as told, with where they were not.
fn astray(ending: &Ending) -> BTreeMap<String, Vec<String>> {
    let astray = ending.acts.iter().filter(|p| !p.differences.is_empty());
    astray
        .map(|p| {
            let name = format!("{} {}", p.act.caller, p.act.number);
            (name, p.differences.clone())
        })
        .collect()
}

fn names(astray: &BTreeMap<String, Vec<String>>) -> Vec<&str> {
    astray.keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untouched_it_is_as_told() {
    let begun = Instant::now();
    let (ending, lines) = play(Options::default()).await;
    let page = lines.join("\n");
    assert!(ending.held, "{page}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    let promises: Vec<_> = ending.acts.iter().map(|p| p.promise.unwrap()).collect();
    let (naive, repaired) = promises.split_at(5);
    let (luck, broken) = (Promise::Luck, Promise::Broken);
    assert_eq!(naive, [luck, luck, broken, broken, broken], "{page}");
    assert_eq!(repaired, [Promise::Kept; 5], "{page}");
    assert_eq!(lines.iter().filter(|l| l.starts_with("Act ")).count(), 10);
    for line in &lines {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert!(line.is_ascii() && line.trim_end() == line, "{line:?}");
    }
    assert_eq!(
        lines.last().unwrap(),
        "10 acts as told: naive broke the promise in 3 of 5, repaired kept it in 5 of 5."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_is_switched_off_is_missed() {
    let options = Options::meddling(|act, stack| -> Meddling<'_> {
        Box::pin(async move {
            match act.trouble {
                Trouble::Rule(name) => {
                    let off = json!({ "enabled": false });
                    stack.control.patch_rule(name, &off).await?;
                }
                Trouble::Slow => stack.payment.finish(),
                // Its only switch is the act's own.
                Trouble::Crash => {}
            }
            Ok(())
        })
    });
    let (ending, lines) = play(options).await;
    let page = lines.join("\n");
    assert!(!ending.held, "{page}");
    let astray = astray(&ending);
    let faulted = ACTS.iter().filter(|act| act.trouble != Trouble::Crash);
    let mut faulted: Vec<_> = faulted
        .map(|act| format!("{} {}", act.caller, act.number))
        .collect();
    faulted.sort();
    assert_eq!(names(&astray), faulted, "{page}");
    for (act, differences) in &astray {
        assert!(
            differences
                .iter()
                .any(|d| d.starts_with("evidence of charges")),
            "{act}: {differences:?}"
        );
        // What the repaired tier does in the end is the same with and without.
        let broke = act.starts_with("naive") && act != "naive 1";
        let promise = differences.iter().any(|d| d.starts_with("the promise"));
        assert_eq!(promise, broke || act == "naive 1", "{act}: {differences:?}");
    }
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("8 of 10 acts NOT as told: naive 1,"),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_behind_its_back_is_found() {
    let options = Options::meddling(|_, stack| -> Meddling<'_> {
        Box::pin(async move {
            stack.payment.charge(None);
            Ok(())
        })
    });
    let (ending, lines) = play(options).await;
    let page = lines.join("\n");
    assert!(!ending.held, "{page}");
    let astray = astray(&ending);
    assert_eq!(astray.len(), 10, "{page}");
    for differences in astray.values() {
        assert!(
            differences
                .iter()
                .any(|d| d.starts_with("payment's ledger")),
            "{differences:?}"
        );
    }
    let broken = |p: &&demo::Played| p.promise == Some(Promise::Broken);
    let repaired = ending
        .acts
        .iter()
        .filter(|p| p.act.caller == Caller::Repaired);
    assert_eq!(repaired.filter(broken).count(), 5, "{page}");
    assert!(page.contains("payment    auth-77 charged"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_breaks_off_fails_the_demo() {
    let options = Options::meddling(|act, _| -> Meddling<'_> {
        let breaks = (act.caller, act.number) == (Caller::Naive, 2);
        Box::pin(async move {
            anyhow::ensure!(!breaks, "the lights went out");
            Ok(())
        })
    });
    let (ending, lines) = play(options).await;
    assert!(!ending.held);
    assert_eq!(names(&astray(&ending)), ["naive 2"]);
    assert!(lines.join("\n").contains("the lights went out"));
}

async fn post(to: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What is printed of a stack that stands, once it does.
async fn page(lines: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
    let mut page = Vec::new();
    while !page.iter().any(|line: &String| line == "Ctrl-C ends it.") {
        let line = tokio::time::timeout(Duration::from_secs(10), lines.recv()).await;
        page.push(line.unwrap().unwrap());
    }
    page
}

fn web_of(page: &[String]) -> SocketAddr {
    let curl = page
        .iter()
        .find_map(|l| l.strip_prefix("  curl -X POST http://"));
    curl.unwrap()
        .strip_suffix("/orders")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stands_on_any_port_until_it_is_stopped() {
    let mut stacks = Vec::new();
    // The second finds every port of the first taken.
    for _ in 0..2 {
        let (say, mut lines) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let standing = tokio::task::spawn_blocking(move || {
            let mut say = move |line: &str| drop(say.send(line.to_owned()));
            let stop = async { drop(stopped.await) };
            let handle = tokio::runtime::Handle::current();
            handle.block_on(demo::serve_until(&mut say, stop))
        });
        let page = page(&mut lines).await;
        stacks.push((page, stop, standing));
    }
    let second = &stacks[1].0;
    let taken = second
        .iter()
        .filter(|l| l.ends_with("any free port stands for it."));
    assert!(taken.count() > 0, "{second:?}");
    assert!(
        second
            .iter()
            .any(|l| l.starts_with("  export FIREDRILL_URL=http://"))
    );
    for (page, stop, standing) in stacks {
        assert!(page.iter().all(|l| l.chars().count() <= WIDTH), "{page:?}");
        let web = web_of(&page);
        for path in ["/orders", "/orders?careful=1"] {
            let answer = post(web, path).await;
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
            assert!(answer.contains("Your order is confirmed."), "{answer}");
        }
        drop(stop);
        standing.await.unwrap().unwrap();
        assert!(TcpStream::connect(web).await.is_err());
    }
}

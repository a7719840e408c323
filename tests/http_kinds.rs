//! Kinds of faults that meet each other, and answers of every shape, on one HTTP/1 connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome};
use firedrill::faults::Arg;
use firedrill::operation::Direction;
use firedrill::rules::Rule;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOUR: Arg = Arg::Duration(Duration::from_secs(3600));

fn down(kind: &str, args: &[(&'static str, Arg)]) -> Rule {
    Rule {
        direction: Some(Direction::Downstream),
        ..rule(kind, args)
    }
}

fn up(kind: &str, args: &[(&'static str, Arg)]) -> Rule {
    Rule {
        direction: Some(Direction::Upstream),
        ..rule(kind, args)
    }
}

fn body(text: &str) -> Vec<(&'static str, Arg)> {
    vec![("body", Arg::Text(text.to_owned()))]
}

fn injected(record: &firedrill::evidence::Record) -> Vec<&str> {
    let seen = record.faults.iter().filter(|f| f.injected);
    seen.map(|f| &*f.kind).collect()
}

/// Answers whatever comes first on a connection with `answer`, as it stands, and reads on.
async fn says(answer: &'static str) -> Server {
    Server::start(move |mut c| async move {
        while c.request().await?.is_some() {
            c.socket.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";

/// A body that faults act on stays behind its head, though the answer was kept whole before.
#[tokio::test]
async fn an_answer_that_was_kept_goes_with_its_delays_and_body_faults() {
    for (kind, args) in [
        ("stale", vec![("age", HOUR)]),
        ("duplicate", vec![("answer", Arg::Choice("last"))]),
    ] {
        let server = says(OK).await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        rig.rule(rule(kind, &args));
        rig.rule(down("slice", &[("size", Arg::Size(3))]));
        rig.rule(down("delay", &latency(60)));
        let mut client = Client::connect(addr).await;
        let begun = Instant::now();
        for _ in 0..2 {
            client.send(get("/a")).await;
            client.expect(OK).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(120), "{kind}");
        drop(client);
        for record in rig.closed(2).await {
            assert_eq!(record.class, Class::Acknowledged, "{record:?}");
            let seen = injected(&record);
            assert!(
                seen.contains(&"slice") && seen.contains(&"delay"),
                "{seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_answer_to_a_copy_is_altered_as_the_first_would_be() {
    let server = says(OK).await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("duplicate", &[("answer", Arg::Choice("last"))]));
    rig.rule(down("rewrite", &body("other")));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert_eq!(
        client.answer().await,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother"
    );
}

/// Both answers come in one piece; the first is cut.
#[tokio::test]
async fn nothing_of_a_later_answer_follows_one_that_was_cut() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        c.request().await?;
        c.socket.write_all(format!("{OK}{OK}").as_bytes()).await?;
        c.read(&mut [0]).await.map(|_| ())
    })
    .await;
    for kind in ["truncate", "limit_data", "close", "reset"] {
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        let at = match kind {
            "truncate" => "at",
            "limit_data" => "bytes",
            _ => "after",
        };
        let mut cut = rule(kind, &[(at, Arg::Size(4))]);
        cut.limit = Some(1);
        rig.rule(cut);
        let mut client = Client::connect(addr).await;
        client.send(get("/a") + &get("/b")).await;
        let (got, fin) = client.rest().await;
        assert_eq!(got, OK[..OK.len() - 6], "{kind}");
        assert_eq!(fin, kind != "reset", "{kind}");
        let records = rig.closed(2).await;
        assert_eq!(records[0].client.outcome, Outcome::Partial, "{kind}");
        for record in records {
            assert_eq!(record.class, Class::Unseen, "{record:?}");
            assert_eq!(record.cause, Cause::Rule(kind.into()));
        }
        assert_eq!(rig.counts(kind), (1, 1));
    }
}

/// The upstream closes behind its answer, which is no reason to end otherwise than the rule says.
#[tokio::test]
async fn a_reset_in_the_last_answer_is_a_reset() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd";
        c.socket.write_all(answer.as_bytes()).await?;
        c.socket.shutdown().await
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("reset", &[("after", Arg::Size(2))]));
    for _ in 0..20 {
        let mut client = Client::connect(addr).await;
        client.send(get("/a")).await;
        let (got, fin) = client.rest().await;
        assert!(got.ends_with("\r\n\r\nab") && !fin, "{got:?}, fin: {fin}");
    }
}

#[tokio::test]
async fn a_lost_switch_of_protocols_opens_no_tunnel() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
        c.socket.write_all(answer.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        c.socket.write_all(b"opaque").await?;
        c.read(&mut [0]).await.map(|_| ())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("response_loss", &then("hang")));
    let mut client = Client::connect(addr).await;
    client
        .send("GET / HTTP/1.1\r\nHost: p\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmine")
        .await;
    client.silent().await;
    rig.off("response_loss");
    assert_eq!(client.rest().await, (String::new(), true));
    assert!(!server.seen()[0].contains("mine"));
    assert_eq!(rig.closed(1).await[0].class, Class::Unseen);
}

/// Its caller has moved on already when the answer comes.
#[tokio::test]
async fn late_does_not_wait_for_a_client_that_had_ended_before_the_answer() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        // The end comes through first.
        assert_eq!(c.read(&mut [0]).await?, 0);
        c.socket.write_all(OK.as_bytes()).await
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("late", &[]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    client.fin().await;
    assert_eq!(client.rest().await, (OK.to_owned(), true));
    let records = rig.closed(1).await;
    assert_eq!(records[0].class, Class::Acknowledged);
    assert_eq!(rig.counts("late"), (1, 0), "nothing was kept");
}

#[tokio::test]
async fn late_and_truncate_cut_what_comes_late() {
    let server = says(OK).await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("late", &[]));
    rig.rule(rule("truncate", &[]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    client.silent().await;
    client.fin().await;
    assert_eq!(client.rest().await, (OK[..OK.len() - 5].to_owned(), true));
    assert_eq!(injected(&rig.closed(1).await[0]), ["late", "truncate"]);
}

/// The body of the second request vanishes before the first is answered.
#[tokio::test]
async fn an_answer_that_was_due_comes_though_a_later_body_vanishes() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        c.socket.write_all(OK.as_bytes()).await?;
        while c.read(&mut [0; 100]).await? > 0 {}
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let after = ("after", Arg::Duration(Duration::from_millis(100)));
    rig.rule(up("timeout", &[after]));
    rig.rule(rule("duplicate", &[]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a") + &post("/b", "k", "body")).await;
    client.expect(OK).await;
    assert_eq!(client.rest().await, (String::new(), true));
    let records = rig.closed(2).await;
    assert_eq!(records[0].class, Class::Acknowledged);
    assert_eq!(records[1].class, Class::Unknown);
    assert_eq!(records[1].cause, Cause::Rule("timeout".into()));
    assert_eq!(records[1].deliveries, 1, "what is not whole is not copied");
}

/// What the rule kept goes on, and the rest as it comes.
#[tokio::test]
async fn an_answer_that_is_being_kept_goes_when_the_rule_is_lifted() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        c.socket.write_all(&OK.as_bytes()[..OK.len() - 3]).await?;
        c.read(&mut [0]).await?;
        c.socket.write_all(&OK.as_bytes()[OK.len() - 3..]).await?;
        c.read(&mut [0]).await.map(|_| ())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("stale", &[("age", HOUR)]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    client.silent().await;
    rig.off("stale");
    client.expect(&OK[..OK.len() - 3]).await;
    client.send(get("/b")).await;
    client.expect(&OK[OK.len() - 3..]).await;
}

#[tokio::test]
async fn an_answer_that_breaks_while_it_is_kept_is_given_as_far_as_it_came() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        c.socket.write_all(&OK.as_bytes()[..OK.len() - 3]).await?;
        c.socket.shutdown().await
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("stale", &[("age", HOUR)]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert_eq!(client.rest().await, (OK[..OK.len() - 3].to_owned(), true));
    let record = &rig.closed(1).await[0];
    assert_eq!(
        (record.class, &record.cause),
        (Class::Unseen, &Cause::Upstream)
    );
    assert_eq!(record.client.outcome, Outcome::Partial);
}

/// They have no body, whatever length they announce, and are given none.
#[tokio::test]
async fn answers_that_can_have_no_body_get_none() {
    for answer in [
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let server = says(answer).await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        rig.rule(down("rewrite", &body("other")));
        rig.rule(rule("stale", &[("age", HOUR)]));
        let mut client = Client::connect(addr).await;
        for _ in 0..2 {
            client.send(get("/a")).await;
            client.expect(answer).await;
        }
        client.silent().await;
    }
}

#[tokio::test]
async fn a_connect_is_given_no_body() {
    let server = says("HTTP/1.1 200 OK\r\n\r\n").await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(up("rewrite", &body("other")));
    let mut client = Client::connect(addr).await;
    let asked = "CONNECT p:1 HTTP/1.1\r\nHost: p:1\r\n\r\n";
    client.send(asked).await;
    client.expect("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(server.seen(), [asked]);
}

#[tokio::test]
async fn edits_leave_an_absolute_target_and_an_expectation_as_they_came() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(up("rewrite", &body("other")));
    let mut client = Client::connect(addr).await;
    client
        .send("POST http://q/a HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert!(client.answer().await.contains("POST http://q/a"));
    let expected = "POST http://q/a HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\ncontent-length: 5\r\n\r\nother";
    assert_eq!(server.seen(), [expected]);
    // Its own body comes all the same, and goes nowhere; what follows is the next request.
    client.send("mine").await;
    rig.off("rewrite");
    client.send(get("/b")).await;
    assert!(client.answer().await.contains("GET /b"));
    assert_eq!(server.seen(), [format!("{expected}{}", get("/b"))]);
}

/// Of two bodies the last counts, and copies are made of what was sent.
#[tokio::test]
async fn two_rewrites_and_a_duplicate() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    for (name, text) in [("first", "one"), ("second", "three")] {
        let mut it = up("rewrite", &body(text));
        it.name = name.to_owned();
        rig.rule(it);
    }
    rig.rule(rule("duplicate", &[]));
    let mut client = Client::connect(addr).await;
    client.send(post("/a", "k", "mine")).await;
    client.answer().await;
    drop(client);
    assert_eq!(
        injected(&rig.closed(1).await[0]),
        ["rewrite", "rewrite", "duplicate"]
    );
    let sent =
        "POST /a HTTP/1.1\r\nHost: p\r\nIdempotency-Key: k\r\ncontent-length: 5\r\n\r\nthree";
    assert_eq!(server.seen(), [sent, sent]);
}

/// What is still sent of a request whose connection has ended begins no new one.
#[tokio::test]
async fn the_rest_of_a_body_is_dialled_for_by_nobody() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("slow_connect", &[("delay", HOUR)]));
    let after = ("after", Arg::Duration(Duration::from_millis(30)));
    rig.rule(rule("close", &[after]));
    let mut client = Client::connect(addr).await;
    let whole = post("/a", "k", &get("/smuggled"));
    client.send(&whole[..whole.len() - 20]).await;
    until("it is closed", || {
        (rig.counts("close").1 == 1).then_some(())
    })
    .await;
    rig.off("slow_connect");
    let _ = client
        .0
        .write_all(&whole.as_bytes()[whole.len() - 20..])
        .await;
    assert_eq!(client.rest().await.0, "");
    assert_eq!(rig.closed(1).await[0].class, Class::NeverDelivered);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

/// A delay that acted as well is not why.
#[tokio::test]
async fn the_cause_is_what_kept_the_answer_from_the_client() {
    let server = says(OK).await;
    for (kind, args, class) in [
        ("response_loss", then("close"), Class::Unseen),
        (
            "response_loss",
            vec![("then", Arg::Count(504))],
            Class::Unseen,
        ),
        ("garbage", vec![], Class::Unseen),
        ("truncate", vec![], Class::Unseen),
        ("abort", vec![], Class::Substituted),
    ] {
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        rig.rule(rule("delay", &latency(20)));
        rig.rule(rule(kind, &args));
        let mut client = Client::connect(addr).await;
        client.send(get("/a")).await;
        match kind {
            "abort" => drop(client.answer().await),
            _ => drop(client.rest().await),
        }
        drop(client);
        let record = &rig.closed(1).await[0];
        assert_eq!(injected(record), ["delay", kind]);
        assert_eq!(
            (record.class, &record.cause),
            (class, &Cause::Rule(kind.into()))
        );
    }
}

/// A client that asks for the proxy's own answers and never reads one is itself no longer read.
#[tokio::test]
async fn answers_of_the_proxys_own_are_bounded() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let long = "x".repeat(10_000);
    rig.rule(rule("abort", &body(&long)));
    let mut client = Client::connect(addr).await;
    let block = get("/a").repeat(100);
    let stalled = Duration::from_millis(300);
    let mut asked = 0;
    while let Ok(sent) = tokio::time::timeout(stalled, client.0.write_all(block.as_bytes())).await {
        sent.unwrap();
        asked += 100;
        assert!(asked < 1_000_000, "it is read for ever");
    }
    // The answers to what is read at once, and what the host takes.
    assert!(
        rig.context.held.bytes() < 32 << 20,
        "{}",
        rig.context.held.bytes()
    );
    assert!(rig.records().len() < 10_000, "{}", rig.records().len());
    // Once it reads, it is read again, and all that it has asked is answered.
    client.fin().await;
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match soon("more of them", client.0.read(&mut buffer))
            .await
            .unwrap()
        {
            0 => break,
            n => taken += n,
        }
    }
    assert!(taken >= asked * long.len(), "{taken} of {asked}");
    drop(client);
    rig.quiet().await;
    assert_eq!(rig.context.held.bytes(), 0);
}

/// With no rule on: who has half-closed, and takes no more of its answer, does not stand for ever.
#[tokio::test]
async fn a_half_closed_client_that_never_reads_is_let_go() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
        c.socket.write_all(head).await?;
        c.socket.write_all(&vec![b'x'; 100_000_000]).await
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    client.fin().await;
    rig.quiet().await;
    // It had ended before the answer began, and turned out to be gone.
    assert_eq!(rig.closed(1).await[0].class, Class::Late);
    drop(client);
}

//! HTTP/1.1 through the tap: what the client saw, what the upstream saw, the record, the count.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome};
use firedrill::faults::Arg;
use firedrill::rules::{Mode, PathGlob};
use firedrill::state::Change;
use support::*;

const INJECTED: &str = "firedrill_faults_injected_total";

fn injected(rig: &Rig, kind: &str) -> f64 {
    rig.metric(&format!(
        "{INJECTED}{{fault=\"{kind}\",proxy=\"p\",rule=\"{kind}\"}}"
    ))
}

#[tokio::test]
async fn bytes_pass_as_they_came_and_keep_alive_works() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    let odd = "GET /a%20b?x=1 HTTP/1.1\r\nhOsT: p\r\nX-B: 1\r\nx-a:   2  \r\nX-B: 3\r\n\r\n";
    for _ in 0..3 {
        client.send(odd).await;
        assert!(
            client
                .answer()
                .await
                .ends_with("you said GET /a%20b?x=1 HTTP/1.1")
        );
    }
    assert_eq!(
        server.seen(),
        [odd.repeat(3)],
        "one connection, bytes untouched"
    );
    let records = rig.closed(3).await;
    for record in &records {
        assert_eq!(
            (record.class, &record.cause),
            (Class::Acknowledged, &Cause::None)
        );
        assert_eq!(record.request.path.as_deref(), Some("/a%20b"));
        assert_eq!(record.request.bytes, odd.len() as u64);
        assert_eq!((record.client.status, record.deliveries), (Some(200), 1));
        assert_eq!(record.upstream[0].bytes, record.client.bytes);
    }
    drop(client);
    rig.quiet().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client.send(get("/1") + &get("/2") + &get("/3")).await;
    for path in ["/1", "/2", "/3"] {
        assert!(
            client
                .answer()
                .await
                .ends_with(&format!("you said GET {path} HTTP/1.1"))
        );
    }
    let records = rig.closed(3).await;
    assert!(records.iter().all(|r| r.class == Class::Acknowledged));
}

#[tokio::test]
async fn response_loss_hangs_until_lifted_and_the_upstream_did_it() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("response_loss", &[]));
    let mut client = Client::connect(addr).await;
    client.send(post("/pay", "pay-42", "x")).await;
    until("the upstream has it", || {
        (server.requests("POST /pay") == 1).then_some(())
    })
    .await;
    client.silent().await;
    rig.heal();
    let (text, fin) = client.rest().await;
    assert_eq!(
        (text.as_str(), fin),
        ("", true),
        "the hung connection is closed"
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.class, Class::Unseen);
    assert_eq!(record.cause, Cause::Rule("response_loss".into()));
    assert_eq!(record.upstream[0].status, Some(200));
    assert_eq!(record.client.outcome, Outcome::Closed);
    assert_eq!(record.identity.map(|i| i.value).as_deref(), Some("pay-42"));
    assert_eq!(
        (rig.counts("response_loss"), injected(&rig, "response_loss")),
        ((1, 1), 1.0)
    );
    rig.quiet().await;
}

#[tokio::test]
async fn response_loss_then_close_reset_or_status() {
    for (then, fin) in [("close", true), ("reset", false)] {
        let server = Server::http().await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        rig.rule(rule("response_loss", &support::then(then)));
        let mut client = Client::connect(addr).await;
        client.send(get("/a")).await;
        assert_eq!(client.rest().await, (String::new(), fin), "{then}");
        let record = rig.closed(1).await.remove(0);
        assert_eq!(
            (record.class, record.deliveries),
            (Class::Unseen, 1),
            "{then}"
        );
        assert_eq!(server.requests("GET /a"), 1);
    }
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("response_loss", &[("then", Arg::Count(504))]));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    let (text, fin) = client.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 504 Gateway Timeout\r\n") && fin,
        "{text}"
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unseen, Outcome::Substituted)
    );
    assert_eq!(
        (record.client.status, record.upstream[0].status),
        (Some(504), Some(200))
    );
}

#[tokio::test]
async fn after_a_lost_answer_nothing_more_goes_down_that_connection() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut lose = rule("response_loss", &[]);
    lose.matcher.path = Some(PathGlob("/lost".to_owned()).into());
    rig.rule(lose);
    let mut client = Client::connect(addr).await;
    client
        .send(get("/first") + &get("/lost") + &get("/next"))
        .await;
    assert!(client.answer().await.contains("/first"));
    client.silent().await;
    rig.heal();
    assert_eq!(client.rest().await, (String::new(), true));
    let records = rig.closed(3).await;
    let class = |path: &str| {
        let record = records
            .iter()
            .find(|r| r.request.path.as_deref() == Some(path))
            .unwrap();
        (
            record.class,
            record.faults.iter().filter(|f| f.injected).count(),
        )
    };
    assert_eq!(class("/first"), (Class::Acknowledged, 0));
    assert_eq!(class("/lost"), (Class::Unseen, 1));
    let (next, faults) = class("/next");
    let answered = server.requests("GET /next") == 1;
    assert_eq!(
        next,
        if answered {
            Class::Unseen
        } else {
            Class::NeverDelivered
        }
    );
    assert_eq!((faults, injected(&rig, "response_loss")), (0, 1.0));
}

/// The answer to a copy comes from elsewhere, and must not be taken for the one that was lost.
#[tokio::test]
async fn behind_a_lost_answer_a_copys_goes_nowhere_either() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut lose = rule("response_loss", &[]);
    lose.matcher.path = Some(PathGlob("/lost".to_owned()).into());
    rig.rule(lose);
    let mut twice = rule("duplicate", &[("answer", Arg::Choice("last"))]);
    twice.matcher.path = Some(PathGlob("/twice".to_owned()).into());
    rig.rule(twice);
    let mut client = Client::connect(addr).await;
    client.send(get("/lost") + &get("/twice")).await;
    until("both are delivered", || {
        (server.requests("GET /twice") == 2).then_some(())
    })
    .await;
    client.silent().await;
    rig.heal();
    assert_eq!(client.rest().await, (String::new(), true));
    let records = rig.closed(2).await;
    assert!(records.iter().all(|r| r.class == Class::Unseen));
}

#[tokio::test]
async fn drop_never_reaches_the_upstream() {
    for (then, fin) in [("close", true), ("reset", false)] {
        let server = Server::http().await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        rig.rule(rule("drop", &support::then(then)));
        let mut client = Client::connect(addr).await;
        client.send(get("/a")).await;
        assert_eq!(client.rest().await, (String::new(), fin), "{then}");
        let record = rig.closed(1).await.remove(0);
        assert_eq!(
            (record.class, record.deliveries),
            (Class::NeverDelivered, 0)
        );
        assert_eq!(record.cause, Cause::Rule("drop".into()));
        assert!(server.seen().is_empty(), "not even dialled");
    }
}

#[tokio::test]
async fn a_dropped_request_hangs_until_the_client_leaves_or_the_rule_is_lifted() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("drop", &[]));
    let mut leaves = Client::connect(addr).await;
    let mut stays = Client::connect(addr).await;
    leaves.send(get("/leaves")).await;
    stays.send(get("/stays")).await;
    until("both are chosen", || {
        (rig.counts("drop") == (2, 2)).then_some(())
    })
    .await;
    stays.silent().await;
    drop(leaves);
    until("the first is over", || {
        let records = rig.records();
        let left = records
            .iter()
            .find(|r| r.request.path.as_deref() == Some("/leaves"))?;
        (left.client.outcome == Outcome::Left && left.class == Class::NeverDelivered).then_some(())
    })
    .await;
    rig.off("drop");
    assert_eq!(stays.rest().await, (String::new(), true));
    let records = rig.closed(2).await;
    assert!(records.iter().all(|r| r.class == Class::NeverDelivered));
}

#[tokio::test]
async fn abort_answers_in_the_upstreams_place_and_keeps_the_connection() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut abort = rule(
        "abort",
        &[
            ("status", Arg::Count(429)),
            (
                "headers",
                Arg::Map(vec![("Retry-After".to_owned(), "7".to_owned())]),
            ),
            ("body", Arg::Text("slow down".to_owned())),
        ],
    );
    abort.limit = Some(1);
    rig.rule(abort);
    let mut client = Client::connect(addr).await;
    client.send(post("/a", "k", "body")).await;
    let answer = client.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nslow down"));
    client.send(post("/a", "k", "body")).await;
    assert!(
        client.answer().await.contains("200 OK"),
        "the limit is used up"
    );
    assert_eq!(server.requests("POST /a"), 1);
    let records = rig.closed(2).await;
    assert_eq!(
        (records[0].class, records[0].attempt),
        (Class::Substituted, 1)
    );
    assert_eq!(
        (records[1].class, records[1].attempt),
        (Class::Acknowledged, 2)
    );
    assert_eq!(injected(&rig, "abort"), 1.0);
}

#[tokio::test]
async fn duplicate_is_delivered_again_and_answered_once() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("duplicate", &[("copies", Arg::Count(2))]));
    let mut client = Client::connect(addr).await;
    client.send(post("/pay", "pay-1", "amount=5")).await;
    assert!(client.answer().await.contains("200 OK"));
    until("three deliveries", || {
        (server.requests("POST /pay") == 3).then_some(())
    })
    .await;
    client.silent().await;
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 3));
    assert!(
        record.upstream.iter().all(|d| d.status == Some(200)),
        "{record:?}"
    );
    assert_eq!(
        rig.metric("firedrill_duplicate_deliveries_total{proxy=\"p\"}"),
        2.0
    );
    assert_eq!(rig.counts("duplicate"), (1, 1));
    let body = post("/pay", "pay-1", "amount=5");
    assert!(
        server.seen().iter().all(|seen| *seen == body),
        "the same bytes each time"
    );
}

#[tokio::test]
async fn duplicate_may_answer_with_the_last_delivery() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::http_with(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}")
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let gap = Arg::Duration(Duration::from_millis(50));
    rig.rule(rule(
        "duplicate",
        &[("gap", gap), ("answer", Arg::Choice("last"))],
    ));
    let mut client = Client::connect(addr).await;
    for last in ["2", "4"] {
        client.send(get("/a")).await;
        assert!(client.answer().await.ends_with(last));
    }
    assert!(
        rig.closed(2)
            .await
            .iter()
            .all(|r| r.class == Class::Acknowledged)
    );
}

#[tokio::test]
async fn a_pending_copy_is_dropped_when_its_rule_is_lifted() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule(
        "duplicate",
        &[("gap", Arg::Duration(Duration::from_secs(3600)))],
    ));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert!(client.answer().await.contains("200 OK"));
    rig.heal();
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.deliveries, rig.counts("duplicate")), (1, (1, 0)));
}

#[tokio::test]
async fn delay_holds_the_request_and_goes_at_once_when_lifted() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("delay", &latency(100)));
    let mut client = Client::connect(addr).await;
    let start = Instant::now();
    client.send(get("/a")).await;
    assert!(client.answer().await.contains("200 OK"));
    assert!(start.elapsed() >= Duration::from_millis(100));
    rig.off("delay");
    let mut long = rule("delay", &latency(3_600_000));
    long.name = "long".to_owned();
    rig.rule(long);
    client.send(get("/b")).await;
    until("it is held", || {
        (rig.counts("long") == (1, 1)).then_some(())
    })
    .await;
    assert_eq!(server.requests("GET /b"), 0);
    rig.heal();
    assert!(client.answer().await.contains("200 OK"));
    let records = rig.closed(2).await;
    assert!(
        records
            .iter()
            .all(|r| r.class == Class::Acknowledged && r.faults[0].injected)
    );
}

#[tokio::test]
async fn delay_downstream_holds_the_answer() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut delay = rule("delay", &latency(3_600_000));
    delay.direction = Some(firedrill::operation::Direction::Downstream);
    rig.rule(delay);
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    until("it was done", || {
        (server.requests("GET /a") == 1).then_some(())
    })
    .await;
    client.silent().await;
    drop(client);
    rig.heal();
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Unseen, Cause::Rule("delay".into()))
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_before_the_answer_makes_it_late() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let server = Server::start(move |mut c| {
        let mut gone = gone.clone();
        async move {
            c.request().await?;
            let _ = gone.wait_for(|g| *g).await;
            tokio::io::AsyncWriteExt::write_all(
                &mut c.socket,
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            )
            .await
        }
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/slow")).await;
    until("it is being worked on", || {
        (server.requests("GET /slow") == 1).then_some(())
    })
    .await;
    drop(client);
    // The FIN is passed on; only then does the upstream answer.
    tokio::time::sleep(Duration::from_millis(20)).await;
    go.send(true).unwrap();
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Late, Cause::Client),
        "{record:?}"
    );
}

#[tokio::test]
async fn an_upstream_that_dies_without_an_answer_leaves_it_unknown() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert_eq!(client.rest().await, (String::new(), true));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Unknown, Cause::Upstream)
    );
    assert_eq!(
        record.upstream[0].error.as_deref(),
        Some("closed without an answer")
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_clean_record() {
    let rig = Rig::new();
    let addr = rig.http(Server::nobody().await).await;
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::NeverDelivered, Cause::Upstream)
    );
    assert!(
        record.upstream[0]
            .error
            .as_deref()
            .unwrap()
            .contains("refused")
    );
}

#[tokio::test]
async fn half_close_is_passed_on_and_the_answer_still_comes() {
    let server = Server::start(|mut c| async move {
        let mut all = [0; 1024];
        while c.read(&mut all).await? > 0 {}
        let answer = b"HTTP/1.1 200 OK\r\n\r\nafter your FIN";
        tokio::io::AsyncWriteExt::write_all(&mut c.socket, answer).await
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client.send(get("/a")).await;
    client.fin().await;
    let (text, fin) = client.rest().await;
    assert!(text.ends_with("after your FIN") && fin);
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
}

#[tokio::test]
async fn smuggling_shapes_are_refused_with_a_record() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut client = Client::connect(addr).await;
    client
        .send("POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    let (text, fin) = client.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 400 Bad Request\r\n") && fin,
        "{text}"
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Substituted, Cause::Proxy)
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_ambiguous_answer_is_refused() {
    let server = Server::http_with(|_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned()
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client.send(get("/a")).await;
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{text}");
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Unseen, Cause::Proxy)
    );
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_is_passed_on() {
    let server = Server::start(|mut c| async move {
        let mut some = [0; 16];
        let _ = c.read(&mut some).await?;
        tokio::io::AsyncWriteExt::write_all(
            &mut c.socket,
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
        )
        .await?;
        let mut rest = [0; 4096];
        while c.read(&mut rest).await? > 0 {}
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client
        .send("POST /a HTTP/1.1\r\nHost: p\r\nContent-Length: 10\r\n\r\n")
        .await;
    assert!(client.answer().await.contains("413"));
    client.send("0123456789").await;
    until("the body still goes on", || {
        server.seen()[0].ends_with("0123456789").then_some(())
    })
    .await;
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.class, Class::Acknowledged);
}

#[tokio::test]
async fn an_upgrade_becomes_a_plain_stream() {
    let server = Server::start(|mut c| async move {
        c.request().await?;
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut c.socket, switch).await?;
        let mut buffer = [0; 64];
        loop {
            let n = c.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            tokio::io::AsyncWriteExt::write_all(&mut c.socket, &buffer[..n]).await?;
        }
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: p\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nearly")
        .await;
    let mut head = client.answer().await;
    assert!(head.split_off(12).contains("Switching"));
    client.expect("early").await;
    client.send(b"\x00not http\xff").await;
    client.expect(b"\x00not http\xff").await;
    client.fin().await;
    client.rest().await;
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
    rig.quiet().await;
}

#[tokio::test]
async fn a_blackhole_holds_requests_and_answers_until_heal() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut live = Client::connect(addr).await;
    live.send(get("/before")).await;
    live.answer().await;
    rig.apply(Change::AddPartition(partition(Mode::Blackhole, &[])));
    let mut new = Client::connect(addr).await;
    live.send(get("/live")).await;
    new.send(get("/new")).await;
    until("both are cut", || {
        (rig.metric("firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}") == 2.0)
            .then_some(())
    })
    .await;
    live.silent().await;
    assert_eq!(
        server.requests("GET /live") + server.requests("GET /new"),
        0
    );
    rig.heal();
    assert!(live.answer().await.contains("/live"));
    assert!(new.answer().await.contains("/new"));
    let records = rig.closed(3).await;
    assert!(records.iter().all(|r| r.class == Class::Acknowledged));
    assert!(
        records
            .iter()
            .filter(|r| r.faults.iter().any(|f| &*f.kind == "partition"))
            .count()
            == 2
    );
}

#[tokio::test]
async fn a_one_way_partition_lets_requests_through_and_keeps_answers() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.apply(Change::AddPartition(partition(
        Mode::Blackhole,
        &["client"],
    )));
    let mut client = Client::connect(addr).await;
    client.send(get("/a")).await;
    until("it was done", || {
        (server.requests("GET /a") == 1).then_some(())
    })
    .await;
    client.silent().await;
    drop(client);
    rig.heal();
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause.clone()),
        (Class::Unseen, Cause::Partition("split".into()))
    );
}

#[tokio::test]
async fn a_partition_may_refuse_or_reset() {
    for mode in [Mode::Refuse, Mode::Reset] {
        let server = Server::http().await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        let mut live = Client::connect(addr).await;
        live.send(get("/before")).await;
        live.answer().await;
        rig.apply(Change::AddPartition(partition(mode, &[])));
        let mut new = Client::connect(addr).await;
        assert_eq!(new.rest().await, (String::new(), false), "{mode:?}");
        if mode == Mode::Reset {
            assert_eq!(live.rest().await, (String::new(), false));
        } else {
            live.send(get("/held")).await;
            live.silent().await;
            rig.heal();
            assert!(live.answer().await.contains("/held"));
        }
    }
}

#[tokio::test]
async fn a_client_that_is_gone_from_an_upstream_that_says_nothing_leaves_nothing() {
    let deaf = Server::start(|mut c| async move {
        c.request().await?;
        std::future::pending::<()>().await;
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(deaf.addr).await).await;
    client.send(get("/a")).await;
    until("it has it", || (deaf.requests("GET /a") == 1).then_some(())).await;
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause, record.client.outcome),
        (Class::Unknown, Cause::Client, Outcome::Left)
    );
    rig.quiet().await;
}

/// One that would be closed behind the proxy's own answer must not be held for a decision that no
/// upstream will make.
#[tokio::test]
async fn after_an_aborted_upgrade_the_connection_goes_on() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut refuse = rule("abort", &[("status", Arg::Count(503))]);
    refuse.matcher.path = Some(PathGlob("/up".to_owned()).into());
    rig.rule(refuse);
    let mut client = Client::connect(addr).await;
    client
        .send("GET /up HTTP/1.1\r\nHost: p\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await;
    assert!(client.answer().await.starts_with("HTTP/1.1 503 "));
    client.send(get("/next")).await;
    assert!(
        client
            .answer()
            .await
            .ends_with("you said GET /next HTTP/1.1")
    );
    let records = rig.closed(2).await;
    assert_eq!(
        (records[0].class, records[1].class),
        (Class::Substituted, Class::Acknowledged)
    );
}

#[tokio::test]
async fn a_request_refused_halfway_was_delivered_in_part() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client.send(get("/first")).await;
    client.answer().await;
    let head = "POST /a HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n";
    client
        .send(format!("{head}5\r\nhello\r\nno chunk\r\n"))
        .await;
    let _ = client.rest().await;
    until("the upstream has its head", || {
        (server.requests("POST /a") == 1).then_some(())
    })
    .await;
    let record = rig.closed(2).await.remove(1);
    assert_eq!((record.class, record.deliveries), (Class::Unknown, 1));
}

/// The first answer is on its way already when the copies go: the client gets no second one.
#[tokio::test]
async fn an_answer_before_the_end_of_a_duplicated_request_stays_the_only_one() {
    let server = Server::start(|mut c| async move {
        let mut buffer = [0; 1024];
        while c.read(&mut buffer).await? > 0 {
            if buffer.starts_with(b"POST") {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                tokio::io::AsyncWriteExt::write_all(&mut c.socket, answer.as_bytes()).await?;
                buffer[0] = 0;
            }
        }
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(rule("duplicate", &[("answer", Arg::Choice("last"))]));
    let mut client = Client::connect(addr).await;
    let request = post("/a", "early", "0123456789");
    client.send(&request[..request.len() - 4]).await;
    assert!(client.answer().await.ends_with("ok"));
    client.send(&request[request.len() - 4..]).await;
    until("the copy is delivered", || {
        (server.requests("POST /a") == 2).then_some(())
    })
    .await;
    client.silent().await;
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 2));
}

#[tokio::test]
async fn an_answer_that_had_arrived_stays_acknowledged_when_a_partition_resets() {
    for _ in 0..20 {
        let server = Server::http().await;
        let rig = Rig::new();
        let mut client = Client::connect(rig.http(server.addr).await).await;
        client.send(get("/a")).await;
        client.answer().await;
        rig.apply(Change::AddPartition(partition(Mode::Reset, &[])));
        client.rest().await;
        let records = rig.closed(1).await;
        assert_eq!(
            (records[0].class, records[0].faults.len()),
            (Class::Acknowledged, 0)
        );
    }
}

/// A deadline that has passed, with an answer still awaited behind it, wakes nobody again.
#[tokio::test]
async fn a_closed_client_that_stays_costs_nothing_while_an_answer_is_awaited() {
    let server = Server::start(|mut c| async move {
        while let Some(request) = c.request().await? {
            if request.contains("/lost") {
                let answer = "HTTP/1.1 204 No Content\r\n\r\n";
                tokio::io::AsyncWriteExt::write_all(&mut c.socket, answer.as_bytes()).await?;
            }
        }
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    let mut lose = rule("response_loss", &then("close"));
    lose.matcher.path = Some(PathGlob("/lost".to_owned()).into());
    rig.rule(lose);
    let mut client = Client::connect(addr).await;
    client.send(get("/lost") + &get("/slow")).await;
    assert_eq!(client.rest().await, (String::new(), true));
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Everything here runs on this thread: nanoseconds that it ran.
    let ran = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let first = stat.split(' ').next().and_then(|n| n.parse().ok());
        Duration::from_nanos(first.unwrap_or(0))
    };
    let before = ran();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = ran() - before;
    assert!(
        used < Duration::from_millis(100),
        "{used:?} of half a second"
    );
}

/// Whoever says that it asks for nothing more is not waited for; it still gets all of its answer, and a
/// FIN behind it, however long it takes to read.
#[tokio::test]
async fn who_asks_for_nothing_more_gets_all_of_the_answer_and_a_fin() {
    let body = "x".repeat(300_000);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for answer in [
        answer.clone(),
        answer.replace(&body, "").replace("300000", "0"),
    ] {
        let said = answer.clone();
        let server = Server::start(move |mut c| {
            let said = said.clone();
            async move {
                c.request().await?;
                tokio::io::AsyncWriteExt::write_all(&mut c.socket, said.as_bytes()).await
            }
        })
        .await;
        let rig = Rig::new();
        let addr = rig.http(server.addr).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Client::connect(addr).await;
            client
                .send("GET / HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n")
                .await;
            clients.push(client);
        }
        for client in &mut clients {
            assert!(client.rest().await == (answer.clone(), true));
        }
        for record in rig.closed(20).await {
            let told = (record.client.outcome, record.client.bytes);
            assert_eq!(told, (Outcome::Answered, answer.len() as u64));
            assert_eq!(
                (record.class, record.cause),
                (Class::Acknowledged, Cause::None)
            );
        }
        rig.quiet().await;
        drop(clients);
    }
}

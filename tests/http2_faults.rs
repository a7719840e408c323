//! Faults and partitions on HTTP/2: what the client saw, what the upstream saw, the record, the count.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use firedrill::evidence::{Cause, Class, Outcome, Record};
use firedrill::faults::Arg;
use firedrill::rules::{Mode, PathGlob};
use firedrill::state::Change;
use h2::Reason;
use http::{HeaderMap, Response};
use support::http2::{H2, Upstream, get, post, request, send, whole};
use support::*;

fn injected(rig: &Rig, kind: &str) -> f64 {
    let labels = format!("{{fault=\"{kind}\",proxy=\"p\",rule=\"{kind}\"}}");
    rig.metric(&format!("firedrill_faults_injected_total{labels}"))
}

/// The record of this path.
fn of<'a>(records: &'a [Record], path: &str) -> &'a Record {
    let found = records
        .iter()
        .find(|r| r.request.path.as_deref() == Some(path));
    found.unwrap_or_else(|| panic!("no record of {path}: {records:?}"))
}

fn on_path(mut rule: firedrill::rules::Rule, path: &str) -> firedrill::rules::Rule {
    rule.matcher.path = Some(PathGlob(path.to_owned()).into());
    rule
}

// --- Faults.

#[tokio::test]
async fn a_delay_holds_its_stream_alone_and_ends_when_lifted() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(rule("delay", &latency(60_000)), "/held"));
    let (held, _to) = client.begin(get("/held"), true).await;
    assert_eq!(client.get("/free").await.unwrap().text(), "GET /free ");
    assert_eq!(upstream.times("/held"), 0);
    rig.off("delay");
    assert_eq!(
        soon("the answer", whole(held)).await.unwrap().text(),
        "GET /held "
    );
    assert_eq!(
        (rig.counts("delay"), injected(&rig, "delay")),
        ((1, 1), 1.0)
    );
    let records = rig.closed(2).await;
    assert_eq!(of(&records, "/held").class, Class::Acknowledged);
    assert!(of(&records, "/free").faults.is_empty());
}

#[tokio::test]
async fn a_delay_is_as_long_as_it_says_both_ways() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    client.get("/warm").await.unwrap();
    for direction in firedrill::operation::Direction::ALL {
        let mut delay = rule("delay", &latency(80));
        (delay.name, delay.direction) = (direction.to_string(), Some(direction));
        rig.rule(delay);
    }
    let began = Instant::now();
    client.get("/").await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(160),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        (rig.counts("upstream"), rig.counts("downstream")),
        ((1, 1), (1, 1))
    );
}

#[tokio::test]
async fn a_dropped_request_ends_as_it_says_and_others_go_on() {
    let upstream = Upstream::echo().await;
    for (word, reason, outcome) in [
        ("close", Reason::CANCEL, Outcome::Closed),
        ("reset", Reason::INTERNAL_ERROR, Outcome::Reset),
    ] {
        let rig = Rig::new();
        let mut client = H2::connect(rig.http(upstream.addr).await).await;
        rig.rule(on_path(rule("drop", &then(word)), "/lost"));
        let error = client.ask(post("/lost"), "body").await.unwrap_err();
        assert_eq!((error.is_reset(), error.reason()), (true, Some(reason)));
        assert_eq!(client.get("/next").await.unwrap().text(), "GET /next ");
        let records = rig.closed(2).await;
        let lost = of(&records, "/lost");
        assert_eq!(
            (lost.class, &lost.cause),
            (Class::NeverDelivered, &Cause::Rule("drop".into()))
        );
        assert_eq!(lost.client.outcome, outcome);
        assert_eq!(of(&records, "/next").class, Class::Acknowledged);
        assert_eq!((rig.counts("drop"), injected(&rig, "drop")), ((1, 1), 1.0));
    }
    assert_eq!(upstream.times("/lost"), 0);
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(rule("drop", &then("hang")), "/lost"));
    let (lost, _to) = client.begin(get("/lost"), true).await;
    client.get("/next").await.unwrap();
    until("it hangs", || (rig.counts("drop") == (1, 1)).then_some(())).await;
    rig.heal();
    let error = soon("the hung one ends", lost).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(
        of(&rig.closed(2).await, "/lost").client.outcome,
        Outcome::Closed
    );
}

#[tokio::test]
async fn a_lost_answer_is_the_upstreams_and_not_the_clients() {
    let upstream = Upstream::echo().await;
    for word in ["close", "reset"] {
        let rig = Rig::new();
        let mut client = H2::connect(rig.http(upstream.addr).await).await;
        rig.rule(on_path(rule("response_loss", &then(word)), "/pay"));
        assert!(client.ask(post("/pay"), "42").await.unwrap_err().is_reset());
        assert_eq!(client.get("/next").await.unwrap().status, 200);
        let records = rig.closed(2).await;
        let lost = of(&records, "/pay");
        let cause = Cause::Rule("response_loss".into());
        assert_eq!((lost.class, &lost.cause), (Class::Unseen, &cause));
        assert_eq!((lost.upstream[0].status, lost.deliveries), (Some(200), 1));
        assert_eq!(injected(&rig, "response_loss"), 1.0);
    }
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(
        rule("response_loss", &[("then", Arg::Count(504))]),
        "/pay",
    ));
    let answer = client.ask(post("/pay"), "42").await.unwrap();
    assert!(answer.status == 504 && answer.bodiless);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unseen, Outcome::Substituted)
    );
    assert_eq!(
        (record.client.status, record.upstream[0].status),
        (Some(504), Some(200))
    );

    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(rule("response_loss", &[]), "/pay"));
    let (lost, _to) = client.begin(get("/pay"), true).await;
    until("it is lost", || {
        (rig.counts("response_loss") == (1, 1)).then_some(())
    })
    .await;
    assert_eq!(
        client.get("/next").await.unwrap().status,
        200,
        "others go on"
    );
    rig.heal();
    assert!(
        soon("the hung one ends", lost)
            .await
            .unwrap_err()
            .is_reset()
    );
    let records = rig.closed(2).await;
    assert_eq!(
        (
            of(&records, "/pay").class,
            of(&records, "/pay").client.outcome
        ),
        (Class::Unseen, Outcome::Closed)
    );
}

/// The caller that gives up gets no answer, and the proxy still learns that there is one.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_known() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(rule("delay", &latency(300)), "/pay"));
    let (answer, mut to) = client.begin(post("/pay"), false).await;
    send(&mut to, Bytes::from_static(b"42"), true)
        .await
        .unwrap();
    until("it is held", || (rig.counts("delay").1 == 1).then_some(())).await;
    to.send_reset(Reason::CANCEL);
    drop((answer, to));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Late, Outcome::Left)
    );
    assert_eq!(
        (record.upstream[0].status, record.deliveries),
        (Some(200), 1)
    );
    assert_eq!(record.cause, Cause::Rule("delay".into()));
    assert_eq!(upstream.times("/pay"), 1);
    assert_eq!(client.get("/next").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_aborted_request_is_answered_by_the_proxy() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let headers = Arg::Map(vec![("X-Why".to_owned(), "drill".to_owned())]);
    let args = [
        ("status", Arg::Count(503)),
        ("headers", headers),
        ("body", Arg::Text("no".into())),
    ];
    rig.rule(on_path(rule("abort", &args), "/a"));
    let answer = client.ask(post("/a"), "body").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, "no"));
    assert_eq!(
        (&answer.headers["x-why"], &answer.headers["content-length"]),
        (&"drill".parse().unwrap(), &"2".parse().unwrap())
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Substituted, Outcome::Substituted)
    );
    assert_eq!((upstream.asked().len(), injected(&rig, "abort")), (0, 1.0));
}

/// As gRPC does it: Trailers-Only, one HEADERS frame that ends the stream.
#[tokio::test]
async fn an_aborted_grpc_call_gets_trailers_only() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule(
        "abort",
        &[
            ("grpc_status", Arg::Count(14)),
            ("body", Arg::Text("no".into())),
        ],
    ));
    // The client of a stream has said nothing yet, and is answered.
    let (answer, _to) = client.begin(post("/pay.Pay/Take"), false).await;
    let answer = soon("the answer", whole(answer)).await.unwrap();
    assert!(answer.bodiless && answer.status == 200);
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn a_duplicate_comes_on_a_connection_of_its_own() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(
        rule("duplicate", &[("copies", Arg::Count(2))]),
        "/pay",
    ));
    let answer = client.ask(post("/pay"), "42").await.unwrap();
    assert_eq!(answer.text(), "POST /pay 42");
    until("three deliveries", || {
        (upstream.times("/pay") == 3).then_some(())
    })
    .await;
    assert_eq!(upstream.connections(), 3);
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 3));
    let statuses: Vec<_> = record.upstream.iter().map(|d| d.status).collect();
    assert_eq!(statuses, [Some(200); 3], "{record:?}");
    assert_eq!(
        (rig.counts("duplicate"), injected(&rig, "duplicate")),
        ((1, 1), 1.0)
    );
    assert_eq!(
        rig.metric("firedrill_duplicate_deliveries_total{proxy=\"p\"}"),
        2.0
    );
}

#[tokio::test]
async fn the_last_copys_answer_can_be_the_clients() {
    let (count, upstream) = counting().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule(
        "duplicate",
        &[
            ("answer", Arg::Choice("last")),
            ("when", Arg::Choice("answered")),
        ],
    ));
    let answer = client.ask(post("/pay"), "42").await.unwrap();
    assert_eq!(answer.text(), "2");
    assert_eq!(answer.trailers.unwrap()["x-n"], "2");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 2));
}

/// An upstream that numbers its answers, in the body and in trailers.
async fn counting() -> (std::sync::Arc<std::sync::atomic::AtomicUsize>, Upstream) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let upstream = Upstream::start(move |mut turn| {
        let counter = Arc::clone(&counter);
        async move {
            let _ = turn.body().await;
            let n = (counter.fetch_add(1, SeqCst) + 1).to_string();
            let mut to = turn
                .respond
                .send_response(Response::new(()), false)
                .unwrap();
            send(&mut to, Bytes::from(n.clone()), false).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-n", n.parse().unwrap());
            to.send_trailers(trailers).unwrap();
        }
    })
    .await;
    (count, upstream)
}

#[tokio::test]
async fn what_is_said_on_http2_alone_is_said() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let reason = [("reason", Arg::Choice("enhance_your_calm"))];
    rig.rule(on_path(rule("h2_reset", &reason), "/reset"));
    rig.rule(on_path(rule("h2_goaway", &reason), "/away"));
    let error = client.get("/reset").await.unwrap_err();
    assert_eq!(
        (error.is_reset(), error.reason()),
        (true, Some(Reason::ENHANCE_YOUR_CALM))
    );
    assert_eq!(client.get("/next").await.unwrap().status, 200);
    assert!(client.get("/away").await.is_err());
    let error = soon("the end", client.connection)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (error.is_go_away(), error.reason()),
        (true, Some(Reason::ENHANCE_YOUR_CALM))
    );
    let records = rig.closed(3).await;
    let (reset, away) = (of(&records, "/reset"), of(&records, "/away"));
    assert_eq!(
        (reset.class, reset.client.outcome),
        (Class::NeverDelivered, Outcome::Reset)
    );
    assert_eq!(
        (away.class, away.client.outcome),
        (Class::NeverDelivered, Outcome::Closed)
    );
    assert_eq!(
        (rig.counts("h2_reset"), rig.counts("h2_goaway")),
        ((1, 1), (1, 1))
    );
    rig.quiet().await;
}

#[tokio::test]
async fn a_rewritten_message_has_other_fields_and_another_body() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let args = [
        (
            "set_headers",
            Arg::Map(vec![("X-A".to_owned(), "new".to_owned())]),
        ),
        ("remove_headers", Arg::Names(vec!["x-b".to_owned()])),
        ("body", Arg::Text("other".into())),
    ];
    let mut up = rule("rewrite", &args);
    up.direction = Some(firedrill::operation::Direction::Upstream);
    rig.rule(up);
    let ask = request("POST", "/")
        .header("x-a", "1")
        .header("x-b", "2")
        .body(())
        .unwrap();
    assert_eq!(
        client.ask(ask, "body").await.unwrap().text(),
        "POST / other"
    );
    let asked = &upstream.asked()[0].headers;
    assert_eq!(
        (&asked["x-a"], asked.get("x-b")),
        (&"new".parse().unwrap(), None)
    );
    assert_eq!(asked["content-length"], "5");
    rig.off("rewrite");
    let mut down = rule("rewrite", &args);
    (down.name, down.direction) = (
        "down".into(),
        Some(firedrill::operation::Direction::Downstream),
    );
    rig.rule(down);
    let answer = client.ask(post("/"), "body").await.unwrap();
    assert_eq!(
        (answer.text().as_str(), &answer.headers["x-a"]),
        ("other", &"new".parse().unwrap())
    );
    let records = rig.closed(2).await;
    // The second client was told something else than the upstream said.
    let classes: Vec<_> = records.iter().map(|r| r.class).collect();
    assert_eq!(classes, [Class::Acknowledged, Class::Unseen]);
    assert_eq!(
        (rig.counts("rewrite"), rig.counts("down")),
        ((1, 1), (1, 1))
    );
}

#[tokio::test]
async fn bodies_are_corrupted_cut_and_slowed() {
    let upstream = Upstream::start(|mut turn| async move {
        let (body, _) = turn.body().await.unwrap();
        turn.answer(
            200,
            if body.is_empty() {
                Bytes::from(vec![0; 10_000])
            } else {
                body
            },
        )
        .await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let mut corrupt = on_path(rule("corrupt", &[("bytes", Arg::Count(5))]), "/corrupt");
    corrupt.direction = Some(firedrill::operation::Direction::Downstream);
    rig.rule(corrupt);
    let answer = client.get("/corrupt").await.unwrap();
    let wrong = answer.body.iter().filter(|b| **b != 0).count();
    assert_eq!((answer.body.len(), wrong), (10_000, 5));

    rig.rule(on_path(
        rule("truncate", &[("at", Arg::Size(4_000))]),
        "/cut",
    ));
    let (answer, _to) = client.begin(get("/cut"), true).await;
    let mut body = soon("the head", answer).await.unwrap().into_body();
    let mut got = 0;
    let error = loop {
        match soon("more", body.data()).await {
            Some(Ok(bytes)) => got += bytes.len(),
            Some(Err(error)) => break error,
            None => panic!("it ended whole"),
        }
    };
    assert_eq!((got, error.is_reset()), (4_000, true));

    rig.rule(on_path(
        rule("bandwidth", &[("rate", Arg::Rate(100_000))]),
        "/slow",
    ));
    let began = Instant::now();
    assert_eq!(client.get("/slow").await.unwrap().body.len(), 10_000);
    assert!(
        began.elapsed() >= Duration::from_millis(50),
        "{:?}",
        began.elapsed()
    );
    let records = rig.closed(3).await;
    assert_eq!(of(&records, "/corrupt").class, Class::Acknowledged);
    let cut = of(&records, "/cut");
    assert_eq!(
        (cut.class, cut.client.outcome),
        (Class::Unseen, Outcome::Partial)
    );
    assert_eq!(cut.cause, Cause::Rule("truncate".into()));
    assert_eq!(of(&records, "/slow").class, Class::Acknowledged);
    for kind in ["corrupt", "truncate", "bandwidth"] {
        assert_eq!(
            (rig.counts(kind), injected(&rig, kind)),
            ((1, 1), 1.0),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_rate_of_nothing_flows_when_lifted() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(on_path(
        rule("bandwidth", &[("rate", Arg::Rate(0))]),
        "/stalled",
    ));
    let (answer, mut to) = client.begin(post("/stalled"), false).await;
    to.send_data(Bytes::from_static(b"body"), true).unwrap();
    assert_eq!(client.get("/free").await.unwrap().status, 200);
    until("it stalls", || {
        (rig.counts("bandwidth").1 == 1).then_some(())
    })
    .await;
    rig.heal();
    assert_eq!(
        soon("the answer", whole(answer)).await.unwrap().text(),
        "POST /stalled body"
    );
}

#[tokio::test]
async fn garbage_is_no_frame_and_ends_the_connection() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule("garbage", &[]));
    assert!(client.get("/").await.is_err());
    assert!(soon("the end", client.connection).await.unwrap().is_err());
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unseen, Outcome::Substituted)
    );
    assert_eq!(record.cause, Cause::Rule("garbage".into()));
    rig.quiet().await;
}

/// A client that ends while its answer is lost and hangs has gone.
#[tokio::test]
async fn a_client_that_ends_while_it_hangs_has_gone() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule("response_loss", &[]));
    let (lost, _to) = client.begin(get("/"), true).await;
    until("it is lost", || {
        (rig.counts("response_loss") == (1, 1)).then_some(())
    })
    .await;
    client.connection.abort();
    drop(lost);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unseen, Outcome::Left)
    );
    rig.quiet().await;
}

#[tokio::test]
async fn kinds_that_act_on_connections_act_before_messages() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    rig.rule(rule(
        "slow_connect",
        &[("delay", Arg::Duration(Duration::from_millis(80)))],
    ));
    let began = Instant::now();
    let mut client = H2::connect(addr).await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(injected(&rig, "slow_connect"), 1.0);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.request.path.as_deref(), Some("/"), "one record");
    assert_eq!(record.class, Class::Acknowledged);
}

/// An answer that waits for its caller to move on is given once it has tried again.
#[tokio::test]
async fn a_late_answer_waits_for_the_next_attempt() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let mut late = rule("late", &[]);
    late.limit = Some(1);
    rig.rule(late);
    let pay = || {
        let request = request("POST", "/pay").header("idempotency-key", "42");
        request.body(()).unwrap()
    };
    let (first, _to) = client.begin(pay(), true).await;
    until("it is held", || (rig.counts("late").1 == 1).then_some(())).await;
    assert_eq!(client.ask(pay(), "").await.unwrap().status, 200);
    assert_eq!(
        soon("the late one", whole(first)).await.unwrap().status,
        200
    );
    for record in rig.closed(2).await {
        assert_eq!(record.class, Class::Acknowledged);
    }
}

#[tokio::test]
async fn a_stale_answer_is_one_from_before() {
    let (_count, upstream) = counting().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule("stale", &[("age", Arg::Duration(Duration::ZERO))]));
    assert_eq!(client.get("/").await.unwrap().text(), "1");
    let stale = client.get("/").await.unwrap();
    assert_eq!((stale.text().as_str(), stale.trailers), ("1", None));
    let records = rig.closed(2).await;
    assert_eq!(injected(&rig, "stale"), 1.0);
    let outcomes: Vec<_> = records.iter().map(|r| r.client.outcome).collect();
    assert!(outcomes.contains(&Outcome::Substituted), "{outcomes:?}");
}

/// More than is kept: the client gets the answer as it comes.
#[tokio::test]
async fn an_answer_too_long_to_be_kept_passes() {
    let upstream = Upstream::start(|mut turn| async move {
        turn.answer(200, raw::stream(0, 3 << 20)).await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    rig.rule(rule("stale", &[("age", Arg::Duration(Duration::ZERO))]));
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.body.len(), 3 << 20);
        raw::check(0, &answer.body);
    }
    let records = rig.closed(2).await;
    assert!(
        records.iter().all(|r| r.class == Class::Acknowledged),
        "{records:?}"
    );
}

/// A rule that means bodies sees them before they go on; then they go on whole.
#[tokio::test]
async fn a_rule_may_mean_what_a_body_holds() {
    let upstream = Upstream::start(|mut turn| async move {
        let (body, trailers) = turn.body().await.unwrap();
        let sum = trailers.map_or(0, |t| t.len());
        let said = format!("{} {sum}", body.len());
        turn.answer(200, said).await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let mut abort = rule("abort", &[("status", Arg::Count(418))]);
    abort.matcher.body = Some(std::sync::Arc::new(firedrill::rules::BodyMatch {
        contains: Some("needle".to_owned()),
        within: 1000,
        ..Default::default()
    }));
    rig.rule(abort);
    for (body, status) in [
        ("hay".to_owned(), 200),
        ("a needle".to_owned(), 418),
        (format!("{}needle", "h".repeat(100_000)), 200),
        (String::new(), 200),
    ] {
        let (answer, mut to) = client.begin(post("/"), body.is_empty()).await;
        if !body.is_empty() {
            let sent = Bytes::from(body.clone());
            let _ = send(&mut to, sent, false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            let _ = to.send_trailers(trailers);
        }
        let answer = soon("the answer", whole(answer)).await.unwrap();
        assert_eq!(answer.status, status);
        if status == 200 {
            let trailers = usize::from(!body.is_empty());
            assert_eq!(answer.text(), format!("{} {trailers}", body.len()));
        }
    }
    assert_eq!(rig.counts("abort"), (1, 1));
    let records = rig.closed(4).await;
    let acknowledged = records.iter().filter(|r| r.class == Class::Acknowledged);
    assert_eq!(acknowledged.count(), 3, "{records:?}");
}

// --- Partitions.

#[tokio::test]
async fn a_partition_holds_what_was_sent_until_it_heals() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    let mut before = H2::connect(addr).await;
    before.get("/before").await.unwrap();
    rig.apply(Change::AddPartition(partition(Mode::Blackhole, &[])));
    let mut new = H2::connect(addr);
    let (held, _to) = before.begin(post("/held"), true).await;
    let cuts = || rig.metric("firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}");
    until("it is cut", || (cuts() == 1.0).then_some(())).await;
    assert_eq!(upstream.times("/held"), 0);
    rig.heal();
    assert_eq!(
        soon("the answer", whole(held)).await.unwrap().text(),
        "POST /held "
    );
    let _ = &mut new;
    let records = rig.closed(2).await;
    assert_eq!(of(&records, "/held").class, Class::Acknowledged);
    assert_eq!(of(&records, "/held").faults.len(), 1);
}

/// One way: the request is delivered, the answer waits.
#[tokio::test]
async fn a_one_way_partition_holds_answers() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    client.get("/before").await.unwrap();
    rig.apply(Change::AddPartition(partition(
        Mode::Blackhole,
        &["client"],
    )));
    let (held, _to) = client.begin(get("/held"), true).await;
    until("the upstream has it", || {
        (upstream.times("/held") == 1).then_some(())
    })
    .await;
    let cuts = || rig.metric("firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}");
    until("its answer is cut", || (cuts() == 1.0).then_some(())).await;
    rig.heal();
    assert_eq!(soon("the answer", whole(held)).await.unwrap().status, 200);
    assert_eq!(of(&rig.closed(2).await, "/held").class, Class::Acknowledged);
}

#[tokio::test]
async fn a_partition_resets_what_stands() {
    let upstream = Upstream::start(|mut turn| async move {
        turn.until_reset().await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (pending, _to) = client.begin(get("/"), true).await;
    upstream.until_asked(1).await;
    rig.apply(Change::AddPartition(partition(Mode::Reset, &[])));
    assert!(soon("an error", pending).await.is_err());
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unknown, Outcome::Reset)
    );
    assert_eq!(record.cause, Cause::Partition("split".into()));
    rig.quiet().await;
}

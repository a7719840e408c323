//! Conditions on requests and their answers, written as in the file: what the client and the
//! upstream saw, the record, the counts.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;

use firedrill::config;
use firedrill::evidence::{Cause, Class, Record};
use firedrill::operation::Phase;
use firedrill::rules::{Edge, Mode, Protocol, Rule, Ttl};
use firedrill::state::Change;
use serde_json::{Value, json};
use support::*;
use tokio::net::TcpSocket;

/// A rule called `r`, from its fault and its conditions.
fn when(fault: Value, conditions: Value) -> Rule {
    let mut edge = Edge::new("p", "127.0.0.1:0", "h:1");
    edge.protocol = Protocol::Http;
    let rule = json!({ "name": "r", "match": conditions, "fault": fault });
    config::rule_from_json(&rule, &[edge]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn abort() -> Value {
    json!({ "abort": { "status": 418 } })
}

/// A request with these lines behind `Host`, and a body.
fn request(line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !headers.iter().any(|h| h.starts_with("Host")) {
        text += "Host: shop.example\r\n";
    }
    format!("{text}Content-Length: {}\r\n\r\n{body}", body.len())
}

async fn status(client: &mut Client, request: impl AsRef<[u8]>) -> u16 {
    client.send(request).await;
    let answer = client.answer().await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Whether the rule aborts the request; whatever it does not is answered by the upstream.
async fn is_met(conditions: Value, request: &str) -> bool {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), conditions));
    let met = match status(&mut client, request).await {
        418 => true,
        200 => false,
        other => panic!("{other}"),
    };
    let count = u64::from(met);
    assert_eq!(rig.counts("r"), (count, count));
    let seen = server.seen().concat();
    assert_eq!(seen, if met { "" } else { request }, "as it came");
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.faults.len() as u64, count);
    assert_eq!(record.request.bytes, request.len() as u64);
    drop(client);
    rig.quiet().await;
    assert_eq!(rig.context.held.bytes(), 0);
    met
}

#[tokio::test]
async fn what_a_head_says() {
    let call = ["Content-Type: application/grpc+proto"];
    for (conditions, line, headers, expected) in [
        (json!({ "host": "*.Example" }), "GET /", &[][..], true),
        (
            json!({ "host": "shop.example" }),
            "GET /",
            &["Host: SHOP.example:80"],
            true,
        ),
        (json!({ "host": "shop" }), "GET /", &[], false),
        (
            json!({ "host": "b.example" }),
            "GET http://b.example:1/",
            &[],
            true,
        ),
        (
            json!({ "path": "/orders/{id}" }),
            "GET /orders/7",
            &[],
            true,
        ),
        (
            json!({ "path": "/orders/{id}" }),
            "GET /orders/",
            &[],
            false,
        ),
        (
            json!({ "path": { "regex": "^/v[12]/" } }),
            "GET /v2/a",
            &[],
            true,
        ),
        (
            json!({ "path": { "regex": "^/v[12]/" } }),
            "GET /a/v2/",
            &[],
            false,
        ),
        (
            json!({ "query": { "page": { "regex": "^[0-9]+$" } } }),
            "GET /?page=12",
            &[],
            true,
        ),
        (
            json!({ "headers": { "x-tenant": { "regex": "^canary-[0-9]" } } }),
            "GET /",
            &["X-Tenant: canary-7"],
            true,
        ),
        (
            json!({ "cookies": { "tenant": "canary" } }),
            "GET /",
            &["Cookie: a=b; tenant=canary"],
            true,
        ),
        (
            json!({ "cookies": { "tenant": "canary" } }),
            "GET /",
            &["Cookie: nottenant=canary"],
            false,
        ),
        (
            json!({ "grpc": { "service": "shop.Payment", "method": "A*" } }),
            "POST /shop.Payment/Authorize",
            &call,
            true,
        ),
        (
            json!({ "grpc": { "service": "shop.Payment" } }),
            "POST /shop.Payment/Authorize",
            &[],
            false,
        ),
        (json!({ "grpc": {} }), "POST /a/b", &call, true),
    ] {
        let met = is_met(conditions.clone(), &request(line, headers, "")).await;
        assert_eq!(met, expected, "{conditions} {line}");
    }
}

#[tokio::test]
async fn nested_conditions() {
    let conditions = json!({
        "method": "POST",
        "any": [{ "path": "/pay/*" }, { "all": [{ "path": "/refund" }, { "query": { "big": "*" } }] }],
        "not": { "headers": { "x-drill": "off" } },
    });
    for (line, headers, expected) in [
        ("POST /pay/1", &[][..], true),
        ("GET /pay/1", &[], false),
        ("POST /refund", &[], false),
        ("POST /refund?big", &[], true),
        ("POST /refund?big", &["X-Drill: off"], false),
    ] {
        let met = is_met(conditions.clone(), &request(line, headers, "")).await;
        assert_eq!(met, expected, "{line} {headers:?}");
    }
}

#[tokio::test]
async fn what_a_body_holds() {
    let json = r#"{"amount": 42, "currency": "EUR", "items": [{"sku": "A-7"}]}"#;
    for (conditions, body, expected) in [
        (json!({ "contains": "EUR" }), json, true),
        (json!({ "contains": "USD" }), json, false),
        (json!({ "regex": "\"amount\": 4[0-9]" }), json, true),
        (
            json!({ "json": { "/amount": 42, "/items/0/sku": "A-*" } }),
            json,
            true,
        ),
        (json!({ "json": { "/amount": 43 } }), json, false),
        (json!({ "json": { "/amount": "*" } }), "amount", false),
        (
            json!({ "json": { "/currency": { "regex": "^(EUR|USD)$" } } }),
            json,
            true,
        ),
        (json!({ "contains": "EUR", "within": 10 }), json, false),
        (json!({ "contains": "x", "within": 3 }), "abx", true),
        (json!({ "contains": "x", "within": 3 }), "abxd", false),
        (json!({ "contains": "x" }), "", false),
    ] {
        let text = request("POST /pay", &[], body);
        let met = is_met(json!({ "body": conditions }), &text).await;
        assert_eq!(met, expected, "{conditions} {body}");
        let not = json!({ "not": { "body": conditions } });
        let judged = conditions["within"].as_u64().unwrap_or(64 << 10) >= body.len() as u64;
        let met = is_met(not, &text).await;
        assert_eq!(met, judged && !expected, "not {conditions} {body}");
    }
    // A method without a body has an empty one.
    let empty = json!({ "body": { "regex": "^$" } });
    assert!(is_met(empty, &get("/")).await);
    // One that does not even say that it is long.
    let big = format!("{:x}\r\n{}\r\n0\r\n\r\n", 5000, "x".repeat(5000));
    let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{big}");
    assert_eq!(
        is_met_raw(
            json!({ "body": { "contains": "x", "within": "4KiB" } }),
            &chunked
        )
        .await,
        (false, chunked.clone())
    );
    assert!(
        is_met_raw(json!({ "body": { "contains": "x" } }), &chunked)
            .await
            .0
    );
}

/// As [`is_met`], for a server that does not look at what it is told.
async fn is_met_raw(conditions: Value, request: &str) -> (bool, String) {
    let len = request.len();
    let server = Server::start(move |mut c| async move {
        let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
        while read < len {
            read += c.read(&mut buffer).await?;
        }
        use tokio::io::AsyncWriteExt as _;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        c.socket.write_all(answer).await?;
        c.read(&mut buffer).await.map(drop)
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), conditions));
    let met = status(&mut client, request).await == 418;
    (met, server.seen().concat())
}

/// However its bytes come, and though its framing is cut anywhere.
#[tokio::test]
async fn a_body_in_pieces_is_judged_whole_and_passes_as_it_came() {
    let body = "4;x=\"y\"\r\n{\"am\r\nc\r\nount\": 42, \"\r\n4\r\nx\":1\r\n1\r\n}\r\n0\r\nTrailer: 1\r\n\r\n";
    let text = format!("POST /pay HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for (amount, met, cut) in [
        (42, true, 1),
        (43, false, 1),
        (42, true, 7),
        (43, false, 50),
    ] {
        let len = text.len();
        let server = Server::start(move |mut c| async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut buffer, mut read) = (vec![0; 1000], 0);
            while read < len {
                read += c.read(&mut buffer).await?;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            c.socket.write_all(answer).await?;
            c.read(&mut buffer).await.map(drop)
        })
        .await;
        let rig = Rig::new();
        let mut client = Client::connect(rig.http(server.addr).await).await;
        let amount = json!({ "body": { "json": { "/amount": amount } } });
        rig.rule(when(abort(), amount));
        for piece in text.as_bytes().chunks(cut) {
            assert_eq!(
                server.seen().concat(),
                "",
                "nothing goes on before it is judged"
            );
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await;
        assert_eq!(answer.starts_with("HTTP/1.1 418"), met, "{answer}");
        assert_eq!(server.seen().concat(), if met { "" } else { &*text });
        let record = rig.closed(1).await.remove(0);
        assert_eq!(record.request.bytes, len as u64);
        assert_eq!(rig.context.held.bytes(), 0);
    }
}

/// What follows a request whose body was awaited is not mixed up with it.
#[tokio::test]
async fn pipelined_requests_are_each_judged_by_their_own_body() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), json!({ "body": { "contains": "bad" } })));
    let bodies = ["good", "bad", "", "bad and more", "good"];
    let all: Vec<_> = bodies.iter().map(|body| post("/pay", "k", body)).collect();
    client.send(all.concat()).await;
    for body in bodies {
        let answer = client.answer().await;
        let expected = if body.starts_with("bad") {
            "418"
        } else {
            "200"
        };
        assert_eq!(&answer[9..12], expected, "{body}");
    }
    let passed = [&*all[0], &*all[2], &*all[4]].concat();
    assert_eq!(server.seen(), [passed], "one connection, bytes untouched");
    assert_eq!(rig.counts("r"), (2, 2));
    assert_eq!(rig.closed(5).await.len(), 5);
}

/// Who asks for leave to send a body is not kept waiting for it.
#[tokio::test]
async fn a_client_that_waits_for_leave_is_judged_without_its_body() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), json!({ "body": { "contains": "x" } })));
    let head = "POST / HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    client.send(head).await;
    until("the head has passed", || {
        (server.seen().concat() == head).then_some(())
    })
    .await;
    assert_eq!(status(&mut client, "x").await, 200);
    assert_eq!(rig.counts("r"), (0, 0));
}

/// A wait ends when its rule is lifted.
#[tokio::test]
async fn what_waits_for_a_body_goes_when_the_rule_is_lifted() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), json!({ "body": { "contains": "x" } })));
    let text = post("/pay", "k", "x and more");
    let (first, last) = text.split_at(text.len() - 4);
    client.send(first).await;
    until("it is held", || {
        (rig.context.held.bytes() > 0).then_some(())
    })
    .await;
    assert_eq!(server.seen().concat(), "");
    rig.heal();
    until("it goes on", || {
        (server.seen().concat() == first).then_some(())
    })
    .await;
    assert_eq!(rig.context.held.bytes(), 0);
    assert_eq!(status(&mut client, last).await, 200);
    assert_eq!(rig.counts("r"), (0, 0));
}

#[tokio::test]
async fn a_client_that_goes_before_the_end_of_an_awaited_body() {
    let server = Server::http().await;
    let rig = Rig::new();
    let addr = rig.http(server.addr).await;
    rig.rule(when(abort(), json!({ "body": { "contains": "x" } })));
    let text = post("/pay", "k", "xxxxxxxxxx");
    let part = &text[..text.len() - 4];
    // A FIN: what it said goes on, as without the rule.
    let mut client = Client::connect(addr).await;
    client.send(part).await;
    client.fin().await;
    until("what it said has passed", || {
        (server.seen().concat() == part).then_some(())
    })
    .await;
    let _ = client.rest().await;
    // A RST: nothing does.
    let mut client = Client::connect(addr).await;
    client.send(part).await;
    until("it is held", || {
        (rig.context.held.bytes() > 0).then_some(())
    })
    .await;
    client.reset();
    let records = rig.closed(2).await;
    assert_eq!(server.seen().concat(), part);
    assert_eq!(rig.counts("r"), (0, 0));
    let record = &records[1];
    assert_eq!(
        (record.class, &record.cause, record.request.bytes),
        (Class::NeverDelivered, &Cause::Client, part.len() as u64)
    );
    rig.quiet().await;
    assert_eq!(rig.context.held.bytes(), 0);
}

#[tokio::test]
async fn a_partition_that_resets_what_waits_for_a_body() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    rig.rule(when(abort(), json!({ "body": { "contains": "x" } })));
    let text = post("/pay", "k", "xxxxxxxxxx");
    client.send(&text[..text.len() - 4]).await;
    until("it is held", || {
        (rig.context.held.bytes() > 0).then_some(())
    })
    .await;
    rig.apply(Change::AddPartition(partition(Mode::Reset, &[])));
    assert_eq!(client.rest().await, (String::new(), false));
    let records = rig.closed(1).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].request.path.as_deref(), Some("/pay"));
    assert_eq!(
        (records[0].class, &records[0].cause),
        (Class::NeverDelivered, &Cause::Partition("split".into()))
    );
    rig.quiet().await;
    assert_eq!(rig.context.held.bytes(), 0);
}

/// Rules act in their order, whenever they were asked.
#[tokio::test]
async fn a_rule_that_waits_for_the_body_keeps_its_place() {
    for (first, expected) in [(true, 418), (false, 503)] {
        let rig = Rig::new();
        let mut client = Client::connect(rig.http(Server::http().await.addr).await).await;
        let waits = when(abort(), json!({ "body": { "contains": "x" } }));
        let mut rules = [waits, rule("abort", &[])];
        if !first {
            rules.reverse();
        }
        for rule in rules {
            rig.rule(rule);
        }
        let text = post("/pay", "k", "x");
        assert_eq!(status(&mut client, text).await, expected);
        let record = rig.closed(1).await.remove(0);
        let injected: Vec<_> = record.faults.iter().filter(|f| f.injected).collect();
        assert_eq!(injected.len(), 1);
    }
}

/// Answers whose status the path asks for.
async fn asked_for() -> Server {
    Server::http_with(|request| {
        let path = request.split(' ').nth(1).unwrap();
        let status = &path[1..4];
        format!("HTTP/1.1 {status} X\r\nX-Why: {path}\r\nContent-Length: 2\r\n\r\nok")
    })
    .await
}

fn line(record: &Record) -> Option<(Phase, bool)> {
    record.faults.first().map(|f| (f.phase, f.injected))
}

#[tokio::test]
async fn only_answers_of_a_status() {
    let rig = Rig::new();
    let addr = rig.http(asked_for().await.addr).await;
    let lose = json!({ "response_loss": { "then": "close" } });
    let failed = json!({ "method": "POST", "response": { "status": ["5xx", 429] } });
    rig.rule(when(lose, failed));
    for (method, path, lost) in [
        ("GET", "/500", false),
        ("POST", "/200", false),
        ("POST", "/503", true),
        ("POST", "/429", true),
        ("POST", "/430", false),
    ] {
        let mut client = Client::connect(addr).await;
        client
            .send(request(&format!("{method} {path}"), &[], ""))
            .await;
        if lost {
            assert_eq!(client.rest().await, (String::new(), true), "{path}");
        } else {
            assert!(client.answer().await.contains(&path[1..4]), "{path}");
        }
    }
    assert_eq!(rig.counts("r"), (2, 2));
    let records = rig.closed(5).await;
    let lines: Vec<_> = records.iter().map(line).collect();
    let acted = Some((Phase::Response, true));
    assert_eq!(lines, [None, None, acted, acted, None]);
    assert_eq!(records[2].class, Class::Unseen);
    assert_eq!(records[2].upstream[0].status, Some(503));
}

/// A kind that can act either way acts on the answer that the rule waited for, in rule order.
#[tokio::test]
async fn only_answers_with_a_header() {
    let rig = Rig::new();
    let addr = rig.http(asked_for().await.addr).await;
    let rewrite = |to: &str| json!({ "rewrite": { "set_headers": { "x-seen": to } } });
    let late = json!({ "response": { "headers": { "x-why": "/2*" } } });
    rig.rule(when(rewrite("first"), late));
    let mut always = when(rewrite("second"), json!({}));
    always.name = "s".to_owned();
    rig.rule(always);
    let mut client = Client::connect(addr).await;
    for (path, expected) in [("/200", "second"), ("/404", "second")] {
        client.send(get(path)).await;
        let answer = client.answer().await.to_ascii_lowercase();
        assert!(
            answer.contains(&format!("x-seen: {expected}\r\n")),
            "{answer}"
        );
    }
    assert_eq!((rig.counts("r"), rig.counts("s")), ((1, 1), (2, 2)));
}

/// A `delay` means requests unless said; of a rule that waits for the answer, the answer.
#[tokio::test]
async fn a_delay_of_some_answers() {
    let server = asked_for().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    let delay = json!({ "delay": { "latency": "1h" } });
    rig.rule(when(delay, json!({ "response": { "status": 404 } })));
    assert_eq!(status(&mut client, get("/200")).await, 200);
    client.send(get("/404")).await;
    until("the answer is held", || {
        let records = rig.records();
        records.get(1).filter(|r| r.upstream[0].status.is_some())?;
        Some(())
    })
    .await;
    client.silent().await;
    rig.heal();
    assert!(client.answer().await.starts_with("HTTP/1.1 404"));
    assert_eq!(rig.counts("r"), (1, 1));
    assert_eq!(line(&rig.closed(2).await[1]), Some((Phase::Response, true)));
}

/// Either of an answer's status and a request's body, judged each when it comes.
#[tokio::test]
async fn conditions_on_both_sides() {
    let rig = Rig::new();
    let addr = rig.http(asked_for().await.addr).await;
    let lose = json!({ "response_loss": { "then": "close" } });
    let any = json!([{ "body": { "contains": "lose" } }, { "response": { "status": 500 } }]);
    rig.rule(when(
        lose,
        json!({ "any": any, "not": { "response": { "status": 404 } } }),
    ));
    for (path, body, lost) in [
        ("/200", "lose", true),
        ("/404", "lose", false),
        ("/500", "", true),
        ("/500", "lose", true),
        ("/200", "keep", false),
    ] {
        let mut client = Client::connect(addr).await;
        client.send(post(path, "k", body)).await;
        if lost {
            assert_eq!(client.rest().await, (String::new(), true), "{path} {body}");
        } else {
            assert!(client.answer().await.contains(&path[1..4]), "{path} {body}");
        }
    }
    assert_eq!(rig.counts("r"), (3, 3));
}

#[tokio::test]
async fn the_first_two_attempts_of_each_operation_fail_and_the_third_passes() {
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(Server::http().await.addr).await).await;
    let attempts = json!({ "method": "POST", "request": { "nth": "1-2", "per": "identity" } });
    rig.rule(when(abort(), attempts));
    let mut seen = Vec::new();
    for key in ["a", "b", "a", "b", "b", "a", "a"] {
        seen.push((key, status(&mut client, post("/pay", key, "x")).await));
    }
    let (fails, passes) = (418, 200);
    let expected = [
        ("a", fails),
        ("b", fails),
        ("a", fails),
        ("b", fails),
        ("b", passes),
        ("a", passes),
        ("a", passes),
    ];
    assert_eq!(seen, expected);
    let attempts: Vec<_> = rig.closed(7).await.iter().map(|r| r.attempt).collect();
    assert_eq!(attempts, [1, 1, 2, 2, 3, 3, 4]);
    assert_eq!(rig.counts("r"), (4, 4));
    // Switched on anew, a rule counts anew.
    rig.off("r");
    rig.apply(Change::SwitchRule("r".to_owned(), true, Ttl::Forever));
    assert_eq!(status(&mut client, post("/pay", "a", "x")).await, fails);
}

#[tokio::test]
async fn the_nth_request_of_a_connection_a_client_and_the_proxy() {
    let from = async |ip: &str, addr: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        let ip = SocketAddr::new(ip.parse().unwrap(), 0);
        socket.bind(ip).unwrap();
        Client(socket.connect(addr).await.unwrap())
    };
    // Which of ten requests are met: five on each of two connections of one client, then two of
    // another client. A GET in between does not count.
    for (per, expected) in [
        ("proxy", vec![1]),
        ("connection", vec![1, 6, 11]),
        ("client", vec![1, 11]),
    ] {
        let rig = Rig::new();
        let addr = rig.http(Server::http().await.addr).await;
        let second = json!({ "method": "POST", "request": { "nth": 2, "per": per } });
        rig.rule(when(abort(), second));
        let mut met = Vec::new();
        let mut n = 0;
        for (ip, requests) in [("127.0.0.2", 5), ("127.0.0.2", 5), ("127.0.0.3", 2)] {
            let mut client = from(ip, addr).await;
            for _ in 0..requests {
                assert_eq!(status(&mut client, get("/")).await, 200);
                if status(&mut client, post("/", "k", "")).await == 418 {
                    met.push(n);
                }
                n += 1;
            }
        }
        assert_eq!(met, expected, "{per}");
    }
}

/// A caller names rules of the file; a rule that is not marked, or not named, is not asked.
#[tokio::test]
async fn a_caller_may_ask_for_a_fault() {
    let asks = |names: &str| request("GET /", &[&format!("X-Firedrill-Fault: {names}")], "");
    for (names, expected) in [
        ("r", true),
        ("slow, r", true),
        ("slow", false),
        ("R", false),
    ] {
        let met = is_met(json!({ "asked": true }), &asks(names)).await;
        assert_eq!(met, expected, "{names}");
    }
    assert!(!is_met(json!({ "asked": true }), &get("/")).await);
    assert!(
        !is_met(json!({ "path": "/other" }), &asks("r")).await,
        "not marked"
    );
}

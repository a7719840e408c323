//! The control API over real sockets: what it answers, whom it refuses, and that its client and it
//! mean the same.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop there")]

#[path = "support/plane.rs"]
mod plane;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use firedrill::client::{Client, ClientError, Records};
use firedrill::clock::Timestamp;
use firedrill::config;
use firedrill::control;
use firedrill::evidence::{Class, Filter};
use firedrill::rules::Edge;
use firedrill::state::{Change, Source, Stopping};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use plane::{CAPACITY, Plane};

fn address(plane: &Plane) -> SocketAddr {
    let url = plane.client.url();
    url.trim_start_matches("http://").parse().unwrap()
}

/// Sends a request as written, but for `HOST` and the line ends, and reads all of the answer.
async fn raw(plane: &Plane, request: &str) -> (u16, String, String) {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let head = head.replace("HOST", &address(plane).to_string());
    let head = head.replace('\n', "\r\n");
    let length = body.len();
    let text = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(address(plane)).await.unwrap();
    // Refused before all of it was read, the rest can't be written.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn delay(name: &str) -> Value {
    json!({"name": name, "proxies": ["payment"], "fault": {"delay": {"latency": "150ms"}}})
}

fn error_of(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    serde_json::to_string_pretty(&body).unwrap()
}

fn code_of(error: ClientError) -> (u16, String) {
    match error {
        ClientError::Api { status, code, .. } => (status, code),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_rule_is_made_read_altered_switched_and_deleted() {
    let plane = Plane::start(None, &[]).await;
    let client = &plane.client;
    let made = client.create_rule(&delay("slow")).await.unwrap();
    assert!(made.enabled && made.standing.source == "api");
    let ten_minutes = Timestamp::now().plus(Duration::from_secs(600));
    let expires = made.standing.expires_at.unwrap();
    assert!(
        expires <= ten_minutes && ten_minutes.since(expires) < Duration::from_secs(60),
        "what the API makes lives ten minutes unless told otherwise"
    );

    // What was read can be sent back, read-only fields and all.
    let same = serde_json::to_value(&made).unwrap();
    client.put_rule("slow", &same).await.unwrap();
    let patch = json!({"probability": 0.5, "ttl": "forever"});
    let altered = client.patch_rule("slow", &patch).await.unwrap();
    assert_eq!(
        (altered.probability, altered.standing.expires_at),
        (0.5, None)
    );
    let limit = |limit: Value| json!({"limit": limit});
    let limited = client.patch_rule("slow", &limit(3.into())).await.unwrap();
    assert_eq!(limited.limit, Some(3));
    let free = client
        .patch_rule("slow", &limit(Value::Null))
        .await
        .unwrap();
    assert_eq!(free.limit, None, "null takes back what was said");
    assert_eq!(altered.fault, made.fault, "the rest stays");

    let off = json!({"enabled": false});
    assert!(!client.patch_rule("slow", &off).await.unwrap().enabled);
    let on = json!({"enabled": true, "ttl": "30s"});
    let on = client.patch_rule("slow", &on).await.unwrap();
    let left = on.standing.expires_at.unwrap().since(Timestamp::now());
    assert!(on.enabled && left <= Duration::from_secs(30));
    assert!(
        left > Duration::from_secs(1),
        "a lifetime of its own: {left:?}"
    );
    assert_eq!(on.probability, 0.5);

    assert_eq!(client.rule("slow").await.unwrap().name, "slow");
    client.delete_rule("slow").await.unwrap();
    let gone = client.rule("slow").await.unwrap_err();
    assert_eq!(code_of(gone), (404, "not_found".to_owned()));
    let list = client.rules().await.unwrap();
    assert!(list.items.is_empty());
    assert_eq!(list.generation, plane.context.state.generation());
    plane.end().await;
}

#[tokio::test]
async fn a_name_is_one_segment_whatever_it_holds() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("..")).await.unwrap();
    assert_eq!(plane.client.rule("..").await.unwrap().name, "..");
    // Dialects of the API give names that no file may have.
    let edges = plane.context.state.edges();
    let edges: Vec<Edge> = edges.iter().map(|edge| Edge::clone(edge)).collect();
    let mut toxic = config::rule_from_json(&delay("toxic"), &edges).unwrap();
    toxic.name = "payment/latency ä?#%".to_owned();
    let name = toxic.name.clone();
    let add = vec![Change::AddRule(toxic)];
    plane.context.state.apply(add, Source::Api).unwrap();
    assert_eq!(plane.client.rule(&name).await.unwrap().name, name);
    let off = json!({"enabled": false});
    assert!(!plane.client.patch_rule(&name, &off).await.unwrap().enabled);
    plane.client.delete_rule(&name).await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn heal_disables_all_and_says_what_was_on() {
    let plane = Plane::start(None, &[]).await;
    let client = &plane.client;
    client.create_rule(&delay("slow")).await.unwrap();
    let mut off = delay("off");
    off["enabled"] = false.into();
    client.create_rule(&off).await.unwrap();
    let split = json!({"name": "split", "between": [["checkout"], ["payment"]]});
    let made = client.create_partition(&split).await.unwrap();
    assert!(made.enabled && made.standing.expires_at.is_some());
    let healed = client.heal().await.unwrap();
    assert_eq!(healed.rules, ["slow"]);
    assert_eq!(healed.partitions, ["split"]);
    assert_eq!(healed.generation, plane.context.state.generation());
    let status = client.status().await.unwrap();
    assert!(status.rules.iter().all(|r| !r.enabled) && status.rules.len() == 2);
    assert!(!status.partitions[0].enabled);
    plane.end().await;
}

#[tokio::test]
async fn partitions_have_the_same_verbs() {
    let plane = Plane::start(None, &[]).await;
    let client = &plane.client;
    let split = json!({"between": [["checkout"], ["payment"]], "mode": "reset"});
    let made = client.put_partition("split", &split).await.unwrap();
    assert_eq!(made.name, "split");
    let one_way = json!({"deaf": ["checkout"]});
    let one_way = client.patch_partition("split", &one_way).await.unwrap();
    assert_eq!(one_way.deaf, ["checkout"]);
    assert_eq!(one_way.mode, made.mode);
    let both = json!({"deaf": [], "ttl": "forever"});
    let both = client.patch_partition("split", &both).await.unwrap();
    assert_eq!((both.deaf.len(), both.standing.expires_at), (0, None));
    let again = serde_json::to_value(&made).unwrap();
    let again = client.create_partition(&again).await.unwrap_err();
    assert_eq!(code_of(again), (409, "exists".to_owned()));
    client.delete_partition("split").await.unwrap();
    assert!(client.partitions().await.unwrap().items.is_empty());
    plane.end().await;
}

#[tokio::test]
async fn proxies_come_and_go_and_say_where_they_are_bound() {
    let plane = Plane::start(None, &[]).await;
    let client = &plane.client;
    let list = client.proxies().await.unwrap();
    let names: Vec<_> = list.items.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["payment", "db"]);
    let bound: SocketAddr = client.proxy("db").await.unwrap().listen.parse().unwrap();
    assert_ne!(bound.port(), 0);
    let taken = json!({"name": "other", "listen": bound.to_string(), "upstream": "127.0.0.1:1"});
    let refused = client.create_proxy(&taken).await.unwrap_err();
    assert_eq!(code_of(refused), (409, "bind".to_owned()));
    assert_eq!(client.proxies().await.unwrap().items.len(), 2);

    client.create_rule(&delay("slow")).await.unwrap();
    let used = client.delete_proxy("payment").await.unwrap_err();
    assert_eq!(code_of(used), (409, "in_use".to_owned()));
    client.delete_proxy("db").await.unwrap();
    let gone = client.proxy("db").await.unwrap_err();
    assert_eq!(code_of(gone), (404, "not_found".to_owned()));
    plane.end().await;
}

#[tokio::test]
async fn errors_have_one_shape_and_change_nothing() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("slow")).await.unwrap();
    let before = plane.context.state.generation();

    let post = |body: &str| format!("POST /v1/rules HTTP/1.1\nHost: HOST\n\n{body}");
    let (status, _, body) = raw(&plane, &post(&delay("slow").to_string())).await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    409
    {
      "error": {
        "code": "exists",
        "message": "there is a rule `slow` already",
        "hint": "PUT /v1/rules/slow replaces it; or choose another name",
        "path": null
      }
    }
    "#);

    let (status, _, body) = raw(&plane, &post("{\"name\": \"a\",\n  nope}")).await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    400
    {
      "error": {
        "code": "malformed",
        "message": "the body is not JSON: key must be a string at line 2 column 3",
        "hint": "send a JSON object, as `firedrill schema` describes it",
        "path": null
      }
    }
    "#);

    let (status, _, body) = raw(&plane, &post("")).await;
    assert_eq!((status, error_of(&body).contains("malformed")), (400, true));

    let (status, _, body) = raw(&plane, "GET /v1/rules/none HTTP/1.1\nHost: HOST").await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    404
    {
      "error": {
        "code": "not_found",
        "message": "there is no rule `none`",
        "hint": "GET /v1/rules lists those that there are",
        "path": null
      }
    }
    "#);

    let (status, _, body) = raw(&plane, "GET /v2/rules HTTP/1.1\nHost: HOST").await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    404
    {
      "error": {
        "code": "no_route",
        "message": "there is nothing at /v2/rules",
        "hint": "the API is under /v1: status, proxies, rules, partitions, heal, evidence",
        "path": null
      }
    }
    "#);

    let (status, head, body) = raw(&plane, "DELETE /v1/heal HTTP/1.1\nHost: HOST").await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    405
    {
      "error": {
        "code": "method_not_allowed",
        "message": "/v1/heal does not take DELETE",
        "hint": "the header Allow lists what it takes",
        "path": null
      }
    }
    "#);
    assert!(head.contains("allow: post"), "{head}");

    let (status, _, body) = raw(&plane, &post(&" ".repeat((1 << 20) + 1))).await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    413
    {
      "error": {
        "code": "too_large",
        "message": "the body is larger than 1MiB",
        "hint": "define rules and partitions one by one",
        "path": null
      }
    }
    "#);

    let patch = "PATCH /v1/rules/slow HTTP/1.1\nHost: HOST\n\n";
    for (keys, path) in [
        (r#"{"enabled": "yes"}"#, "enabled"),
        (r#"{"enabled": true, "ttl": "soon"}"#, "ttl"),
        (r#"{"name": "fast"}"#, "name"),
        (
            r#"{"fault": {"delay": {"latency": 7}}}"#,
            "fault.delay.latency",
        ),
        (r#"{"proxies": ["none"]}"#, "proxies[0]"),
    ] {
        let (status, _, body) = raw(&plane, &format!("{patch}{keys}")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 422, "{keys}: {body}");
        assert_eq!(body["error"]["path"], path, "{keys}: {body}");
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    let query = "GET /v1/evidence?clas=unseen HTTP/1.1\nHost: HOST";
    let (status, _, body) = raw(&plane, query).await;
    assert!(
        status == 400 && body.contains("there is no filter `clas`"),
        "{body}"
    );
    assert_eq!(plane.context.state.generation(), before);
    plane.end().await;
}

#[tokio::test]
async fn a_token_is_needed_but_for_probes() {
    let plane = Plane::start(Some("secret"), &[]).await;
    let (status, head, body) = raw(&plane, "POST /v1/heal HTTP/1.1\nHost: HOST").await;
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    401
    {
      "error": {
        "code": "unauthorized",
        "message": "a token is needed",
        "hint": "send Authorization: Bearer TOKEN; on the command line set FIREDRILL_TOKEN",
        "path": null
      }
    }
    "#);
    for (authorization, expected) in [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer secret2", 401),
        ("Bearer secre", 401),
        ("Bearer ", 401),
        ("Basic secret", 401),
        ("secret", 401),
    ] {
        for path in ["/v1/status", "/metrics"] {
            let request =
                format!("GET {path} HTTP/1.1\nHost: HOST\nAuthorization: {authorization}");
            assert_eq!(raw(&plane, &request).await.0, expected, "{authorization}");
        }
    }
    // The one for reading sees everything and changes nothing.
    let reading = Client::new(plane.client.url(), Some("secret-for-reading")).unwrap();
    reading.status().await.unwrap();
    reading.rules().await.unwrap();
    reading.metrics().await.unwrap();
    let before = plane.context.state.generation();
    for refused in [
        reading.heal().await.map(drop),
        reading.create_rule(&delay("slow")).await.map(drop),
        reading.delete_proxy("payment").await,
    ] {
        let code = code_of(refused.unwrap_err());
        assert_eq!(code, (403, "read_only".to_owned()));
    }
    assert_eq!(plane.context.state.generation(), before);
    for probe in ["/healthz", "/readyz"] {
        let (status, _, body) = raw(&plane, &format!("GET {probe} HTTP/1.1\nHost: HOST")).await;
        assert_eq!((status, body.as_str()), (200, "ok\n"));
    }
    let unknown = raw(&plane, "GET /nowhere HTTP/1.1\nHost: HOST").await;
    assert_eq!(unknown.0, 401, "not even which routes there are");
    let without = Client::new(plane.client.url(), None).unwrap();
    let refused = without.status().await.unwrap_err();
    assert_eq!(code_of(refused), (401, "unauthorized".to_owned()));
    plane.client.status().await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn guessing_is_counted_and_the_right_token_is_always_taken() {
    let plane = Plane::start(Some("secret"), &[]).await;
    let guess = Client::new(plane.client.url(), Some("guess")).unwrap();
    let mut refused = Vec::new();
    for _ in 0..40 {
        refused.push(code_of(guess.heal().await.unwrap_err()).0);
    }
    assert!(refused.starts_with(&[401; 20]), "{refused:?}");
    assert!(refused.contains(&429), "{refused:?}");
    plane.client.heal().await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn a_browser_can_not_be_turned_against_it() {
    let plane = Plane::start(None, &["chaos.example"]).await;
    plane.client.create_rule(&delay("slow")).await.unwrap();
    let before = plane.context.state.generation();
    let (status, _, body) = raw(&plane, "POST /v1/heal HTTP/1.1\nHost: evil.example:8474").await;
    insta::assert_snapshot!(format!("{status}\n{}", error_of(&body)), @r#"
    421
    {
      "error": {
        "code": "host",
        "message": "`evil.example` is not a name of this control plane",
        "hint": "add it to `control.hosts`, or use the address",
        "path": null
      }
    }
    "#);
    for (headers, expected) in [
        ("Host: HOST\nOrigin: http://evil.example", 403),
        ("Host: HOST\nOrigin: null", 403),
        ("Host: HOST\nOrigin: http://127.0.0.1:1", 403),
        ("Host: HOST\nSec-Fetch-Site: cross-site", 403),
        ("Host: HOST\nSec-Fetch-Site: same-site", 403),
        (
            "Host: HOST\nOrigin: http://HOST\nOrigin: http://evil.example",
            403,
        ),
        (
            "Host: HOST\nOrigin: http://evil.example\nUpgrade: websocket\nConnection: upgrade",
            403,
        ),
        ("Host: evil.example\nOrigin: http://evil.example", 421),
        ("Host: me@localhost", 421),
        ("Host: ", 421),
        ("Host: chaos.example\nHost: evil.example", 400),
        ("Host: HOST\nHost: HOST", 400),
        ("X-Host: HOST", 400),
    ] {
        let request = format!("POST /v1/heal HTTP/1.1\n{headers}");
        assert_eq!(raw(&plane, &request).await.0, expected, "{headers}");
    }
    for (request, expected) in [
        ("POST http://evil.example/v1/heal HTTP/1.1\nHost: HOST", 421),
        ("POST http://evil.example/v1/heal HTTP/1.0", 421),
        // Browsers ask first where a page wants more than a form could do. Nobody is let in.
        (
            "OPTIONS /v1/heal HTTP/1.1\nHost: HOST\nOrigin: http://evil.example\n\
             Access-Control-Request-Method: POST",
            403,
        ),
        (
            "OPTIONS /v1/heal HTTP/1.1\nHost: HOST\nOrigin: http://HOST",
            405,
        ),
        ("GET /v1/rules/%ff HTTP/1.1\nHost: HOST", 400),
    ] {
        let (status, head, body) = raw(&plane, request).await;
        assert_eq!(status, expected, "{request}: {body}");
        assert!(!head.contains("access-control-"), "{head}");
        assert!(error_of(&body).contains("code"), "one shape: {body}");
    }
    // What a page shows or runs of elsewhere it may not make of what is read here.
    let (_, head, _) = raw(&plane, "GET /v1/evidence HTTP/1.1\nHost: HOST").await;
    for header in [
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "cache-control: no-store",
    ] {
        assert!(head.contains(header), "{head}");
    }
    // A form that pretends to be of this site is still no JSON.
    let form = "POST /v1/rules HTTP/1.1\nHost: HOST\nOrigin: http://HOST\nContent-Type: text/plain";
    let (status, _, body) = raw(&plane, &format!("{form}\n\n{}", delay("form"))).await;
    assert_eq!(status, 415, "{body}");
    assert_eq!(plane.context.state.generation(), before, "nothing was done");

    let json = form.replace("text/plain", "application/json; charset=utf-8");
    let (status, _, body) = raw(&plane, &format!("{json}\n\n{}", delay("form"))).await;
    assert_eq!(status, 201, "{body}");
    let curl = "POST /v1/rules HTTP/1.1\nHost: chaos.example:1\nContent-Type: application/x-www-form-urlencoded";
    let (status, _, body) = raw(&plane, &format!("{curl}\n\n{}", delay("curl"))).await;
    assert_eq!(status, 201, "{body}");
    plane.end().await;
}

#[tokio::test]
async fn evidence_is_filtered_and_followed_until_the_process_stops() {
    let plane = Plane::start(None, &[]).await;
    let client = plane.client.clone();
    plane.record("payment", Class::Unseen);
    plane.record("payment", Class::Unknown);
    plane.record("db", Class::NeverDelivered);

    let unseen = Filter {
        class: Some(Class::Unseen),
        ..Filter::default()
    };
    let found = client.evidence(&unseen).await.unwrap();
    let found = found.collect().await.unwrap();
    assert_eq!(found.len(), 1);
    let (_, head, body) = raw(&plane, "GET /v1/evidence?limit=2 HTTP/1.1\nHost: HOST").await;
    assert!(
        head.contains("content-type: application/x-ndjson"),
        "{head}"
    );
    assert!(body.contains("\"class\":\"never_delivered\""), "{body}");

    // Page by page, from the last on.
    let mut page = Filter {
        limit: Some(1),
        ..Filter::default()
    };
    let mut paged = Vec::new();
    loop {
        let records = client.evidence(&page).await.unwrap();
        let records = records.collect().await.unwrap();
        let Some(first) = records.first() else { break };
        paged.push(first.class);
        page.before = Some(first.id);
    }
    assert_eq!(
        paged,
        [Class::NeverDelivered, Class::Unknown, Class::Unseen]
    );
    for query in ["before=x", "before=1-1&follow"] {
        let get = format!("GET /v1/evidence?{query} HTTP/1.1\nHost: HOST\n\n");
        refused(&plane, &get, 400).await;
    }

    let payment = Filter {
        proxy: Some("payment".to_owned()),
        ..Filter::default()
    };
    let mut follow = client.follow(&payment).await.unwrap();
    let next = async |follow: &mut Records| {
        let record = tokio::time::timeout(Duration::from_secs(10), follow.next());
        record.await.unwrap().unwrap().map(|r| r.class)
    };
    assert_eq!(next(&mut follow).await, Some(Class::Unseen));
    assert_eq!(next(&mut follow).await, Some(Class::Unknown));
    plane.record("db", Class::Unseen);
    plane.record("payment", Class::NeverDelivered);
    assert_eq!(next(&mut follow).await, Some(Class::NeverDelivered));
    // What finishes before the end is still told.
    plane.record("payment", Class::Unknown);
    plane.context.state.stop(Stopping::Now);
    assert_eq!(next(&mut follow).await, Some(Class::Unknown));
    assert_eq!(next(&mut follow).await, None);
    plane.end().await;
}

#[tokio::test]
async fn a_follower_that_went_is_forgotten_and_one_that_lags_is_counted() {
    let plane = Plane::start(None, &[]).await;
    let follow = plane.client.follow(&Filter::default()).await.unwrap();
    drop(follow);
    // A reader that never reads: its socket fills, then the pieces, then it loses records.
    let mut stalled = TcpStream::connect(address(&plane)).await.unwrap();
    let request = format!(
        "GET /v1/evidence?follow=true HTTP/1.1\r\nHost: {}\r\n\r\n",
        address(&plane)
    );
    stalled.write_all(request.as_bytes()).await.unwrap();
    stalled.readable().await.unwrap();
    let lost_to_capacity = |written: u64| written.saturating_sub(CAPACITY as u64);
    let mut written = 0u64;
    for _ in 0..200 {
        for _ in 0..1000 {
            plane.record("payment", Class::Unseen);
            written += 1;
        }
        tokio::task::yield_now().await;
        if plane.context.ledger.dropped() > lost_to_capacity(written) {
            break;
        }
    }
    assert!(
        plane.context.ledger.dropped() > lost_to_capacity(written),
        "{written} records, none was lost to the one who never reads"
    );
    let text = plane.client.metrics().await.unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with("firedrill_evidence_dropped_total"));
    let counted: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(counted > lost_to_capacity(written));
    drop(stalled);
    plane.end().await;
}

#[tokio::test]
async fn metrics_follow_what_is_defined_and_have_a_port_of_their_own() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("slow")).await.unwrap();
    let on = r#"firedrill_rule_enabled{fault="delay",rule="slow"} 1"#;
    assert!(plane.client.metrics().await.unwrap().contains(on));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let context = Arc::clone(&plane.context);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(control::serve_metrics(listener, context, async {
        let _ = stopped.await;
    }));
    let second = Client::new(&address.to_string(), None).unwrap();
    assert!(second.metrics().await.unwrap().contains(on));
    assert_eq!(code_of(second.heal().await.unwrap_err()).0, 404);
    plane.client.delete_rule("slow").await.unwrap();
    assert!(!second.metrics().await.unwrap().contains("slow"));
    drop(stop);
    serving.await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn while_it_stops_it_is_alive_but_not_ready() {
    let plane = Plane::start(None, &[]).await;
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\nHost: any.example");
        let (status, _, body) = raw(&plane, &request).await;
        (status, body)
    };
    assert_eq!(get("/readyz").await, (200, "ok\n".to_owned()));
    plane.context.state.stop(Stopping::Draining);
    assert_eq!(get("/readyz").await, (503, "stopping\n".to_owned()));
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    plane.client.heal().await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_it_from_stopping() {
    let plane = Plane::start(None, &[]).await;
    let idle = TcpStream::connect(address(&plane)).await.unwrap();
    plane.client.status().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), plane.end());
    ended.await.unwrap();
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heal_wins_over_changes_that_were_worked_out_before_it() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("slow")).await.unwrap();
    let altering = tokio::spawn({
        let client = plane.client.clone();
        async move {
            for n in 0..100u32 {
                let keys = json!({"probability": f64::from(n) / 100.0});
                client.patch_rule("slow", &keys).await.unwrap();
            }
        }
    });
    plane.client.heal().await.unwrap();
    altering.await.unwrap();
    let rule = plane.client.rule("slow").await.unwrap();
    assert!(
        !rule.enabled,
        "a patch that says nothing of `enabled` leaves it off"
    );
    plane.end().await;
}

#[tokio::test]
async fn who_does_not_answer_is_said_to_be_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&address.to_string(), None).unwrap();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.hint().contains("firedrill serve"));
}

/// The error of a refused request.
async fn refused(plane: &Plane, request: &str, status: u16) -> Value {
    let (got, _, body) = raw(plane, request).await;
    assert_eq!(got, status, "{request}: {body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["error"]["hint"].is_string(), "{body}");
    body["error"].clone()
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|l| l.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
        .trim_start_matches(':')
        .trim()
}

#[tokio::test]
async fn an_etag_keeps_two_from_undoing_each_other() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("slow")).await.unwrap();
    plane.client.create_rule(&delay("other")).await.unwrap();
    let get = "GET /v1/rules/slow HTTP/1.1\nHost: HOST\n\n";
    let (_, head, body) = raw(&plane, get).await;
    let tag = header(&head, "etag").to_owned();
    let read: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(tag, format!("\"{}\"", read["generation"]));
    // What happens to others does not matter.
    plane.client.delete_rule("other").await.unwrap();
    let with = |method: &str, tag: &str, body: &str| {
        format!("{method} /v1/rules/slow HTTP/1.1\nHost: HOST\nIf-Match: {tag}\n\n{body}")
    };
    let half = r#"{"probability": 0.5}"#;
    let (status, head, _) = raw(&plane, &with("PATCH", &tag, half)).await;
    assert_eq!(status, 200);
    let newer = header(&head, "etag").to_owned();
    assert_ne!(newer, tag);
    let before = plane.context.state.generation();
    for (method, body) in [("PATCH", half), ("PUT", &read.to_string()), ("DELETE", "")] {
        let error = refused(&plane, &with(method, &tag, body), 412).await;
        assert_eq!(error["code"], "changed", "{method}");
        assert!(
            error["message"].as_str().unwrap().contains(&newer),
            "{error}"
        );
    }
    assert_eq!(plane.context.state.generation(), before);
    let (status, ..) = raw(&plane, &with("DELETE", &format!("\"x\", {newer}"), "")).await;
    assert_eq!(status, 204);
    let error = refused(&plane, &with("PUT", "*", &read.to_string()), 412).await;
    assert_eq!(error["message"], "there is nothing by that name any more");
    plane.end().await;
}

#[tokio::test]
async fn several_changes_are_one_or_none() {
    let plane = Plane::start(None, &[]).await;
    plane.client.create_rule(&delay("old")).await.unwrap();
    let before = plane.context.state.generation();
    let changes = |body: &Value| format!("POST /v1/changes HTTP/1.1\nHost: HOST\n\n{body}");
    let all = json!({"if_generation": before, "changes": [
        {"op": "delete", "rule": {"name": "old"}},
        {"op": "add", "rule": delay("a")},
        {"op": "put", "partition": {"name": "split", "between": [["checkout"], ["payment"]]}},
        {"op": "patch", "rule": {"name": "a", "probability": 0.5}},
        {"op": "patch", "partition": {"name": "split", "isolate": ["payment"]}},
    ]});
    let (status, _, body) = raw(&plane, &changes(&all)).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["generation"], before + 1, "one change");
    assert_eq!(body["rules"][0]["probability"], 0.5);
    assert_eq!(body["partitions"][0]["isolate"], json!(["payment"]));
    assert_eq!(body["partitions"][0]["between"], Value::Null);

    let before = plane.context.state.generation();
    for (step, path, status) in [
        (
            json!({"op": "add", "rule": delay("a")}),
            "changes[1].rule",
            409,
        ),
        (
            json!({"op": "delete", "rule": {"name": "old"}}),
            "changes[1].rule",
            404,
        ),
        (
            json!({"op": "patch", "rule": {"probability": 1}}),
            "changes[1].rule.name",
            422,
        ),
        (
            json!({"op": "put", "rule": {"name": "b", "fault": {"delay": {"latency": 5}}}}),
            "changes[1].rule.fault.delay.latency",
            422,
        ),
        (json!({"op": "explode", "rule": {}}), "changes[1].op", 422),
        (json!({"rule": {}}), "changes[1].op", 422),
        (json!({"op": "heal", "rule": {}}), "changes[1].rule", 422),
        (json!({"op": "add"}), "changes[1]", 422),
        (
            json!({"op": "add", "rule": {}, "partition": {}}),
            "changes[1]",
            422,
        ),
        (json!(7), "changes[1]", 422),
    ] {
        let body = json!({"changes": [{"op": "heal"}, step]});
        let (got, _, text) = raw(&plane, &changes(&body)).await;
        let text: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(got, status, "{body}: {text}");
        assert_eq!(text["error"]["path"], path, "{text}");
    }
    for (body, path) in [
        (json!({}), "changes"),
        (json!({"changes": []}), "changes"),
        (
            json!({"changes": [{"op": "heal"}], "atomic": true}),
            "atomic",
        ),
        (
            json!({"changes": [{"op": "heal"}], "if_generation": "7"}),
            "if_generation",
        ),
    ] {
        let error = refused(&plane, &changes(&body), 422).await;
        assert_eq!(error["path"], path);
    }
    let late = json!({"if_generation": before - 1, "changes": [{"op": "heal"}]});
    assert_eq!(
        refused(&plane, &changes(&late), 412).await["code"],
        "changed"
    );
    assert_eq!(
        plane.context.state.generation(),
        before,
        "nothing was changed"
    );
    let heal = json!({"changes": [{"op": "heal"}, {"op": "delete", "rule": {"name": "a"}}]});
    assert_eq!(raw(&plane, &changes(&heal)).await.0, 200);
    assert!(!plane.client.partition("split").await.unwrap().enabled);
    plane.end().await;
}

/// The next event of a stream: its fields, but for comments.
async fn event(stream: &mut tokio::io::BufReader<TcpStream>) -> Vec<(String, String)> {
    use tokio::io::AsyncBufReadExt;
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end().split_once(": ") {
            Some((key, value)) => fields.push((key.to_owned(), value.to_owned())),
            None if !fields.is_empty() => return fields,
            None => assert!(!line.is_empty(), "the stream ended"),
        }
    }
}

#[tokio::test]
async fn events_tell_every_change_and_who_made_it() {
    let plane = Plane::start(None, &[]).await;
    let began = plane.context.state.generation();
    plane.client.create_rule(&delay("slow")).await.unwrap();
    let open = async |query: &str, more: &str| {
        let mut stream = TcpStream::connect(address(&plane)).await.unwrap();
        let host = address(&plane);
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        let head = event(&mut stream).await;
        let kind = ("content-type".to_owned(), "text/event-stream".to_owned());
        assert!(head.contains(&kind), "{head:?}");
        stream
    };
    let data = |fields: &[(String, String)]| {
        let data = fields.iter().find(|(key, _)| key == "data").unwrap();
        serde_json::from_str::<Value>(&data.1).unwrap()
    };
    let mut since = open(&format!("?since={began}"), "").await;
    let mut live = open("", "").await;
    let again = format!("Last-Event-ID: {}\r\n", began + 1);
    let mut again = open("", &again).await;
    let made = event(&mut since).await;
    assert_eq!(made[0], ("event".to_owned(), "change".to_owned()));
    assert_eq!(made[1], ("id".to_owned(), (began + 1).to_string()));
    let made = data(&made);
    assert_eq!(
        made["changes"],
        json!([{"sort": "rule", "name": "slow", "what": "made"}])
    );
    assert!(
        made["by"].as_str().unwrap().starts_with("api 127.0.0.1:"),
        "{made}"
    );

    let off = "PATCH /v1/rules/slow HTTP/1.1\nHost: HOST\nFiredrill-Controller: drill-7\n\n{\"enabled\": false}";
    assert_eq!(raw(&plane, off).await.0, 200);
    for stream in [&mut since, &mut live, &mut again] {
        let off = data(&event(stream).await);
        assert_eq!(off["generation"], began + 2);
        assert_eq!(
            (&off["via"], &off["controller"]),
            (&json!("api"), &json!("drill-7"))
        );
        assert_eq!(off["changes"][0]["what"], "disabled");
    }
    for query in ["since=x", "sinc=1", "since=-1"] {
        let get = format!("GET /v1/events?{query} HTTP/1.1\nHost: HOST\n\n");
        refused(&plane, &get, 400).await;
    }
    // Who stops reading is told how much he missed, and holds nobody up.
    let mut slow = open("?since=0", "").await;
    for _ in 0..3000 {
        plane
            .context
            .state
            .apply(vec![Change::Heal], Source::Api)
            .unwrap();
    }
    let mut missed = 0;
    let mut next = 0;
    let last = plane.context.state.generation();
    while next <= last {
        let fields = event(&mut slow).await;
        match fields[0].1.as_str() {
            "lost" => {
                let lost: u64 = fields[1].1.parse().unwrap();
                (missed, next) = (missed + lost, next + lost);
            }
            _ => {
                let generation = data(&fields)["generation"].as_u64().unwrap();
                assert!(
                    next == 0 || generation == next,
                    "{generation} instead of {next}"
                );
                next = generation + 1;
            }
        }
    }
    assert!(missed > 0, "3000 events are more than are kept");
    plane.end().await;
}

#[tokio::test]
async fn a_heartbeat_is_a_named_controllers() {
    let plane = Plane::start(None, &[]).await;
    let beat = "POST /v1/heartbeat HTTP/1.1\nHost: HOST\nFiredrill-Controller: drill-7\n\n";
    let (status, _, body) = raw(&plane, beat).await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"controller":"drill-7"}"#)
    );
    let unnamed = refused(&plane, "POST /v1/heartbeat HTTP/1.1\nHost: HOST\n\n", 400).await;
    assert_eq!(unnamed["code"], "controller");
    let long = beat.replace("drill-7", &"x".repeat(101));
    refused(&plane, &long, 400).await;
    // Not even such a name keeps a heal from working.
    let heal = long.replace("heartbeat", "heal");
    assert_eq!(raw(&plane, &heal).await.0, 200);
    plane.end().await;
}

#[tokio::test]
async fn every_shape_of_partition_is_told_as_it_is() {
    let plane = Plane::start(None, &[]).await;
    let client = &plane.client;
    for (from, to) in [("payment", "ledger"), ("ledger", "mail")] {
        let proxy =
            json!({"name": to, "from": from, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"});
        client.create_proxy(&proxy).await.unwrap();
    }
    let split = json!({"name": "islands", "split": {"groups": 2}});
    let made = client.create_partition(&split).await.unwrap();
    let groups = made.groups.clone().unwrap();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
    let again = serde_json::to_value(&made).unwrap();
    client.put_partition("islands", &again).await.unwrap();
    let ring = json!({"ring": ["checkout", "payment", "ledger", "mail"]});
    let ring = client.patch_partition("islands", &ring).await.unwrap();
    assert!(ring.split.is_none() && ring.groups.is_none() && ring.ring.is_some());
    plane.end().await;
}

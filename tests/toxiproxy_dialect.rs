//! Toxiproxy's dialect, request by request: status, content type and the exact texts, also as its
//! Ruby, Go and .NET clients write them.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/plane.rs"]
mod plane;

use std::net::SocketAddr;

use firedrill::config::rule_from_json;
use firedrill::rules::{Edge, Ttl};
use firedrill::state::{Change, Source};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use plane::Plane;

/// An answer: status, headers in lower case, body.
struct Answer(u16, String, String);

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.1.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.2).unwrap_or_else(|_| panic!("{}", self.2))
    }
}

/// Sends a request: `METHOD PATH`, then headers, each on a line.
async fn ask(plane: &Plane, head: &str, body: &str) -> Answer {
    let address: SocketAddr = plane
        .client
        .url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Refused before all of it was read, the rest can't be written.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer(status, head.to_ascii_lowercase(), body.to_owned())
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A plane without proxies.
async fn empty() -> Plane {
    let plane = Plane::start(None, &[]).await;
    for name in ["payment", "db"] {
        assert_eq!(
            ask(&plane, &format!("DELETE /proxies/{name}"), "").await.0,
            204
        );
    }
    plane
}

fn error(status: u16, text: &str) -> String {
    format!("{}\n", json!({"error": text, "status": status}))
}

#[tokio::test]
async fn each_answer_is_toxiproxys_own() {
    let plane = empty().await;
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = held.local_addr().unwrap().port();
    let free = {
        let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
        one.local_addr().unwrap().port()
    };
    let proxy = |toxics: &str, enabled: bool| {
        format!(
            r#"{{"name":"redis","listen":"127.0.0.1:{free}","upstream":"localhost:6379","enabled":{enabled},"toxics":[{toxics}]}}"#
        )
    };
    let latency = |latency: u32, name: &str, stream: &str, toxicity: &str| {
        format!(
            r#"{{"attributes":{{"latency":{latency},"jitter":0}},"name":"{name}","type":"latency","stream":"{stream}","toxicity":{toxicity}}}"#
        )
    };
    let create = format!(
        r#"{{"name": "redis", "listen": "localhost:{free}", "upstream": "localhost:6379"}}"#
    );
    let first = latency(1000, "latency_downstream", "downstream", "1");
    let second = latency(5, "up", "upstream", "0.5");
    let changed = latency(1000, "up", "upstream", "0.25");
    let bound = format!("listen tcp 127.0.0.1:{taken}: bind: address already in use");
    let on_taken = format!(r#"{{"name": "x", "listen": "127.0.0.1:{taken}", "upstream": "a:1"}}"#);
    let on_localhost =
        format!(r#"{{"name": "x", "listen": "localhost:{taken}", "upstream": "a:1"}}"#);
    let e = |status, text: &str| (status, Some(TEXT), error(status, text));
    let ok = |body: &str| (200, Some(JSON), body.to_owned());
    let bad = |why: &str| e(400, &format!("bad request body: {why}"));
    let nothing = || (204, None, String::new());
    type Expected = (u16, Option<&'static str>, String);
    let steps: Vec<(&str, String, Expected)> = vec![
        ("GET /version", String::new(), (200, Some("application/json;charset=utf-8"), "{\"version\": \"2.12.0\"}\n".into())),
        ("GET /proxies", String::new(), ok("{}")),
        // Creating a proxy.
        ("POST /proxies", String::new(), bad("EOF")),
        ("POST /proxies", "{".into(), bad("unexpected EOF")),
        ("POST /proxies", "nope".into(), bad("invalid character 'o' looking for beginning of value")),
        ("POST /proxies", "[]".into(), bad("json: cannot unmarshal array into Go value of type Proxy")),
        ("POST /proxies", r#"{"name": 1}"#.into(), bad("json: cannot unmarshal number 1 into Go struct field Proxy.name of type string")),
        ("POST /proxies", r#"{"name": "a", "upstream": "b:1", "enabled": "no"}"#.into(), bad("json: cannot unmarshal string into Go struct field Proxy.enabled of type bool")),
        ("POST /proxies", "{}".into(), e(400, "missing required field: name")),
        ("POST /proxies", r#"{"name": "redis"}"#.into(), e(400, "missing required field: upstream")),
        ("POST /proxies", create.clone(), (201, Some(JSON), proxy("", true))),
        ("POST /proxies", create.clone(), e(409, "proxy already exists")),
        ("POST /proxies", on_taken.clone(), e(500, &bound)),
        ("POST /proxies", on_localhost, e(500, &bound)),
        ("POST /proxies", r#"{"name": "a/b", "upstream": "b:1"}"#.into(), bad("name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found `a/b`")),
        ("POST /proxies", r#"{"name": "x", "listen": "127.0.0.1:7", "upstream": "127.0.0.1:7"}"#.into(), bad("upstream: this is the proxy's own address: it would dial itself for ever")),
        ("GET /proxies/redis", String::new(), ok(&proxy("", true))),
        ("GET /proxies", String::new(), ok(&format!(r#"{{"redis":{}}}"#, proxy("", true)))),
        ("GET /proxies/nobody", String::new(), e(404, "proxy not found")),
        // Toxics.
        ("GET /proxies/redis/toxics", String::new(), ok("[]")),
        ("GET /proxies/nobody/toxics", String::new(), e(404, "proxy not found")),
        ("POST /proxies/nobody/toxics", "{".into(), e(404, "proxy not found")),
        ("POST /proxies/redis/toxics", "{".into(), bad("unexpected EOF")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "stream": "sideways", "name": 7}"#.into(), bad("json: cannot unmarshal number 7 into Go struct field ToxicWrapper.name of type string")),
        ("POST /proxies/redis/toxics", r#"{"type": "nonsense", "stream": "sideways"}"#.into(), e(400, "stream was invalid, can be either upstream or downstream")),
        ("POST /proxies/redis/toxics", r#"{"type": "nonsense"}"#.into(), e(400, "invalid toxic type")),
        ("POST /proxies/redis/toxics", r#"{}"#.into(), e(400, "invalid toxic type")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "attributes": {"latency": 1000}}"#.into(), ok(&first)),
        // The name is looked at before the attributes.
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "attributes": {"latency": "x"}}"#.into(), e(409, "toxic already exists")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "name": "n", "attributes": {"latency": "x"}}"#.into(), bad("json: cannot unmarshal string into Go struct field LatencyToxic.latency of type int64")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "name": "n", "attributes": {"latency": 1.5}}"#.into(), bad("json: cannot unmarshal number 1.5 into Go struct field LatencyToxic.latency of type int64")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "name": "n", "attributes": {"latency": 100.0}}"#.into(), bad("json: cannot unmarshal number 100.0 into Go struct field LatencyToxic.latency of type int64")),
        // What Toxiproxy takes, to panic, spin or do nothing.
        ("POST /proxies/redis/toxics", r#"{"type": "bandwidth", "attributes": {"rate": -1}}"#.into(), bad("rate must not be negative")),
        ("POST /proxies/redis/toxics", r#"{"type": "latency", "name": "n", "toxicity": 1.5}"#.into(), bad("toxicity must be from 0 to 1")),
        ("POST /proxies/redis/toxics", r#"{"type": "slicer"}"#.into(), bad("average_size: a slice has at least one byte")),
        ("POST /proxies/redis/toxics", r#"{"type": "slicer", "attributes": {"average_size": 1, "size_variation": 2}}"#.into(), bad("size_variation: must not be more than `size`")),
        ("POST /proxies/redis/toxics", r#"{"type": "packet_loss", "attributes": {"loss_rate": 2}}"#.into(), bad("loss_rate must be from 0 to 1")),
        ("POST /proxies/redis/toxics", r#"{"type": "packet_loss", "attributes": {"correlation": 0.5}}"#.into(), bad("correlation can't be had here: leave it out")),
        ("POST /proxies/redis/toxics", r#"{"name": "up", "type": "latency", "stream": "upstream", "toxicity": 0.5, "attributes": {"latency": 5, "jitter": 0}, "unknown": [1]}"#.into(), ok(&second)),
        ("GET /proxies/redis/toxics", String::new(), ok(&format!("[{second},{first}]"))),
        ("GET /proxies/redis/toxics/up", String::new(), ok(&second)),
        ("GET /proxies/redis/toxics/down", String::new(), e(404, "toxic not found")),
        ("GET /proxies/redis", String::new(), ok(&proxy(&format!("{second},{first}"), true))),
        // Type, stream and name can't be changed, and are not looked at.
        ("POST /proxies/redis/toxics/up", r#"{"name": "other", "type": "timeout", "stream": "downstream", "toxicity": 0.25, "attributes": {"latency": 1000}}"#.into(), ok(&changed)),
        ("PATCH /proxies/redis/toxics/up", r#"{"toxicity": 0.5, "attributes": {"latency": 5}}"#.into(), ok(&second)),
        ("PATCH /proxies/redis/toxics/up", r#"{"attributes": {"latency": true}}"#.into(), bad("json: cannot unmarshal bool into Go struct field LatencyToxic.latency of type int64")),
        ("PATCH /proxies/redis/toxics/up", r#"{"attributes": {"latency": -5}}"#.into(), bad("latency must not be negative")),
        ("PATCH /proxies/redis/toxics/nobody", "{".into(), e(404, "toxic not found")),
        ("PATCH /proxies/nobody/toxics/up", "{".into(), e(404, "proxy not found")),
        ("GET /proxies/redis/toxics/up", String::new(), ok(&second)),
        ("DELETE /proxies/redis/toxics/up", String::new(), nothing()),
        ("DELETE /proxies/redis/toxics/up", String::new(), e(404, "toxic not found")),
        ("DELETE /proxies/nobody/toxics/up", String::new(), e(404, "proxy not found")),
        // Changing a proxy.
        ("POST /proxies/nobody", "{".into(), e(404, "proxy not found")),
        ("POST /proxies/redis", "{".into(), bad("unexpected EOF")),
        ("POST /proxies/redis", r#"{"enabled": false, "name": "other"}"#.into(), ok(&proxy(&first, false))),
        ("PATCH /proxies/redis", format!(r#"{{"listen": "127.0.0.1:{taken}", "enabled": true}}"#), e(500, &bound)),
        ("GET /proxies/redis", String::new(), ok(&proxy(&first, false))),
        ("PATCH /proxies/redis", r#"{"enabled": true}"#.into(), ok(&proxy(&first, true))),
        ("POST /proxies/redis", r#"{"enabled": false}"#.into(), ok(&proxy(&first, false))),
        ("POST /reset", "whatever".into(), nothing()),
        ("GET /proxies/redis", String::new(), ok(&proxy("", true))),
        // Populating.
        ("POST /populate", "[".into(), (400, Some(JSON), r#"{"error":"bad request body: unexpected EOF","status":400,"proxies":null}"#.into())),
        ("POST /populate", r#"[{"name": "a", "upstream": "b:1"}, {"upstream": "b:1"}]"#.into(), (400, Some(JSON), r#"{"error":"missing required field: name at proxy 2","status":400,"proxies":null}"#.into())),
        ("POST /populate", r#"[{"name": "a"}]"#.into(), (400, Some(JSON), r#"{"error":"missing required field: upstream at proxy 1","status":400,"proxies":null}"#.into())),
        ("POST /populate", "[]".into(), (201, Some(JSON), r#"{"proxies":[]}"#.into())),
        ("POST /populate", format!("[{create}, {on_taken}]"), (500, Some(JSON), format!(r#"{{"error":"{bound}","status":500,"proxies":[{}]}}"#, proxy("", true)))),
        // Deleting.
        ("DELETE /proxies/redis", String::new(), nothing()),
        ("DELETE /proxies/redis", String::new(), e(404, "proxy not found")),
        // What is no route, and what no method.
        ("GET /proxies/redis/nonsense", String::new(), (404, Some(TEXT), "404 page not found\n".into())),
        ("GET /version/1", String::new(), (404, Some(TEXT), "404 page not found\n".into())),
        ("PUT /proxies/redis", String::new(), (405, None, String::new())),
        ("PATCH /proxies", String::new(), (405, None, String::new())),
        ("GET /reset", String::new(), (405, None, String::new())),
        ("GET /populate", String::new(), (405, None, String::new())),
        ("POST /version", String::new(), (405, None, String::new())),
        ("HEAD /version", String::new(), (405, None, String::new())),
        ("GET /proxies\nUser-Agent: Mozilla/5.0 (X11)", String::new(), (403, Some(TEXT), "User agent not allowed\n".into())),
    ];
    assert!(steps.len() > 70);
    for (head, body, (status, content_type, text)) in steps {
        let answer = ask(&plane, head, &body).await;
        let what = format!("{head} {body}\n{}\n{}", answer.1, answer.2);
        assert_eq!(answer.0, status, "{what}");
        assert_eq!(answer.2, text, "{what}");
        assert_eq!(answer.header("content-type"), content_type, "{what}");
        let sniffed = answer.header("x-content-type-options");
        assert_eq!(sniffed, Some("nosniff"), "{what}");
        let route = status != 405 && !text.starts_with("404 page");
        let id = answer.header("x-toxiproxy-request-id").map(str::len);
        assert_eq!(id, route.then_some(20), "{what}");
    }
    let slash = ask(&plane, "GET /proxies/?a=b", "").await;
    assert_eq!(
        (slash.0, slash.header("location")),
        (301, Some("/proxies?a=b"))
    );
    let slash = ask(&plane, "GET /nothing/", "").await;
    assert_eq!(slash.json()["error"]["code"], "no_route", "our own API's");
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    let large = ask(&plane, "POST /proxies", &large).await;
    assert_eq!((large.0, large.header("content-type")), (400, Some(TEXT)));
    plane.end().await;
}

/// As the clients that can't be run here write their requests.
#[tokio::test]
async fn other_clients_requests_are_understood() {
    let plane = empty().await;
    let form = "Content-Type: application/x-www-form-urlencoded";
    // Ruby: `enabled: null` and `listen: null` where nothing was said; an empty body as a form.
    let made = ask(
        &plane,
        &format!("POST /proxies\n{form}"),
        r#"{"upstream": "localhost:1", "name": "ruby", "listen": "127.0.0.1:0", "enabled": null}"#,
    )
    .await;
    assert_eq!((made.0, made.json()["enabled"].clone()), (201, json!(true)));
    let listen = made.json()["listen"].clone();
    let patch = ask(
        &plane,
        "PATCH /proxies/ruby\nContent-Type: application/json",
        r#"{"enabled":false}"#,
    )
    .await;
    assert_eq!((patch.0, &patch.json()["listen"]), (200, &listen));
    let patch = ask(&plane, "PATCH /proxies/ruby", r#"{"enabled":true}"#).await;
    assert_eq!(patch.json()["listen"], listen, "the port is kept");
    let toxic = r#"{"name":"t","type":"latency","stream":"downstream","attributes":{"latency":1},"toxicity":1.0}"#;
    assert_eq!(ask(&plane, "POST /proxies/ruby/toxics", toxic).await.0, 200);
    assert_eq!(
        ask(&plane, &format!("POST /reset\n{form}"), "").await.0,
        204
    );
    // Go: nulls for what was not made, and a whole proxy to change one.
    let go = r#"{"name":"go","listen":"127.0.0.1:0","upstream":"localhost:1","enabled":true,"toxics":null}"#;
    let go = ask(
        &plane,
        "POST /proxies\nUser-Agent: toxiproxy-cli/2.12.0 (linux/amd64)",
        go,
    )
    .await;
    assert_eq!(go.0, 201);
    let mut whole = go.json();
    whole["enabled"] = json!(false);
    let saved = ask(&plane, "POST /proxies/go", &whole.to_string()).await;
    assert_eq!((saved.0, &saved.json()), (200, &whole));
    let toxic = r#"{"name":"","type":"noop","stream":"upstream","toxicity":1,"attributes":null}"#;
    let toxic = ask(&plane, "POST /proxies/go/toxics", toxic).await.json();
    assert_eq!(
        (&toxic["name"], &toxic["attributes"]),
        (&json!("noop_upstream"), &json!({}))
    );
    let update = ask(
        &plane,
        "PATCH /proxies/go/toxics/noop_upstream",
        r#"{"toxicity":0.5,"attributes":null}"#,
    )
    .await;
    assert_eq!(update.json()["toxicity"], json!(0.5));
    // .NET: keys and streams in its own case.
    let net = r#"{"Name":"net","Listen":"127.0.0.1:0","Upstream":"localhost:1","Enabled":false}"#;
    assert_eq!(
        ask(&plane, "POST /proxies", net).await.json()["listen"],
        json!("127.0.0.1:0")
    );
    let toxic = r#"{"Attributes":{"Delay":250},"Name":"Slow","Type":"slow_close","Stream":"UpStream","Toxicity":1.0}"#;
    let toxic = ask(&plane, "POST /proxies/net/toxics", toxic).await.json();
    assert_eq!(
        (&toxic["stream"], &toxic["attributes"]),
        (&json!("upstream"), &json!({"delay": 250}))
    );
    // Java: `HttpURLConnection` calls JSON a form. A body may be longer than its first value.
    let java = r#"{"name":"java","listen":"127.0.0.1:0","upstream":"localhost:1"} and more"#;
    assert_eq!(
        ask(&plane, &format!("POST /proxies\n{form}"), java).await.0,
        201
    );
    // Testcontainers: every interface.
    let any = r#"{"name":"any","upstream":"localhost:1"}"#;
    let any = ask(&plane, "POST /proxies", any).await.json();
    let port: SocketAddr = any["listen"].as_str().unwrap().parse().unwrap();
    assert!(port.ip().is_unspecified() && port.port() > 0);
    plane.end().await;
}

/// A toxic is a rule, and the other way round where a toxic can say it.
#[tokio::test]
async fn toxics_and_rules_are_one() {
    let plane = Plane::start(None, &[]).await;
    let api = &plane.client;
    let toxic = r#"{"name":"t","type":"timeout","stream":"upstream","attributes":{"timeout":50},"toxicity":0.5}"#;
    assert_eq!(ask(&plane, "POST /proxies/db/toxics", toxic).await.0, 200);
    let rule = api.rule("db/t").await.unwrap();
    assert_eq!(rule.proxies, Some(vec!["db".to_owned()]));
    assert_eq!(
        Value::from(rule.fault.clone()),
        json!({"timeout": {"after": "50ms"}})
    );
    assert_eq!(
        (
            rule.probability,
            rule.standing.expires_at,
            &*rule.standing.source
        ),
        (0.5, None, "api")
    );
    // Changed as a rule it is still a toxic.
    api.patch_rule("db/t", &json!({"probability": 1}))
        .await
        .unwrap();
    let shown = ask(&plane, "GET /proxies/db/toxics/t", "").await.json();
    assert_eq!(shown["toxicity"], json!(1));
    let native = |name: &str, more: Value| {
        let mut rule = json!({
            "name": name, "proxies": ["db"], "direction": "upstream", "ttl": "forever",
            "fault": {"bandwidth": {"rate": "5kB/s"}},
        });
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        rule
    };
    api.create_rule(&native("db/native", json!({})))
        .await
        .unwrap();
    api.create_rule(&native("db/limited", json!({"limit": 3})))
        .await
        .unwrap();
    api.create_rule(&native("other", json!({}))).await.unwrap();
    api.create_rule(&native("db/short", json!({"ttl": "1h"})))
        .await
        .unwrap();
    let names = |answer: Answer| -> Vec<String> {
        let all = answer.json();
        let all = all.as_array().unwrap().iter();
        all.map(|toxic| toxic["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(ask(&plane, "GET /proxies/db/toxics", "").await),
        ["t", "native"]
    );
    let taken = r#"{"name":"limited","type":"noop"}"#;
    assert_eq!(ask(&plane, "POST /proxies/db/toxics", taken).await.0, 409);
    // Healed it is none, and its name is free.
    api.heal().await.unwrap();
    assert_eq!(
        names(ask(&plane, "GET /proxies/db/toxics", "").await),
        [""; 0]
    );
    assert_eq!(ask(&plane, "DELETE /proxies/db/toxics/t", "").await.0, 404);
    assert_eq!(ask(&plane, "POST /proxies/db/toxics", toxic).await.0, 200);
    assert_eq!(
        names(ask(&plane, "GET /proxies/db/toxics", "").await),
        ["t"]
    );

    api.patch_proxy("db", &json!({"enabled": false}))
        .await
        .unwrap();
    let before = plane.context.state.generation();
    assert_eq!(ask(&plane, "POST /reset", "").await.0, 204);
    assert_eq!(plane.context.state.generation(), before + 1, "one change");
    assert!(api.proxy("db").await.unwrap().enabled);
    let left: Vec<_> = api
        .rules()
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(
        left,
        ["db/limited", "other", "db/short"],
        "native rules are left alone"
    );
    assert_eq!(ask(&plane, "POST /proxies/db/toxics", toxic).await.0, 200);
    let refused = ask(&plane, "DELETE /proxies/db", "").await;
    assert_eq!(refused.0, 409, "{}", refused.2);
    assert!(refused.2.contains("db/limited"), "{}", refused.2);
    assert!(api.rule("db/t").await.is_ok(), "all or nothing");
    for rule in left {
        api.delete_rule(&rule).await.unwrap();
    }
    assert_eq!(ask(&plane, "DELETE /proxies/db", "").await.0, 204);
    assert!(api.rules().await.unwrap().items.is_empty());

    // What can't act on a proxy is refused, not made and idle.
    let refused = ask(
        &plane,
        "POST /proxies/payment/toxics",
        r#"{"type":"slow_close"}"#,
    )
    .await;
    assert_eq!(
        refused.2,
        error(
            400,
            "bad request body: slow_close can't act on a proxy with protocol http"
        )
    );
    plane.end().await;
}

#[tokio::test]
async fn populating_again_leaves_what_is_the_same() {
    let plane = empty().await;
    let free = {
        let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
        one.local_addr().unwrap().port()
    };
    let list = |listen: &str, upstream: &str| {
        json!([{"name": "a", "listen": listen, "upstream": upstream, "enabled": false}]).to_string()
    };
    let (one, other) = (format!("127.0.0.1:{free}"), format!("localhost:{free}"));
    let made = ask(&plane, "POST /populate", &list(&one, "b:1")).await;
    assert_eq!(
        (made.0, made.json()["proxies"][0]["enabled"].clone()),
        (201, json!(false))
    );
    assert_eq!(
        ask(&plane, "POST /proxies/a", r#"{"enabled": true}"#)
            .await
            .0,
        200
    );
    assert_eq!(
        ask(&plane, "POST /proxies/a/toxics", r#"{"type": "noop"}"#)
            .await
            .0,
        200
    );
    // The same address, spelt in another way; that it is enabled stays too.
    let again = ask(&plane, "POST /populate", &list(&other, "b:1"))
        .await
        .json();
    let again = &again["proxies"][0];
    assert_eq!(
        (&again["enabled"], again["toxics"].as_array().unwrap().len()),
        (&json!(true), 1)
    );
    // Another one: replaced, without toxics.
    let replaced = ask(&plane, "POST /populate", &list(&one, "b:2"))
        .await
        .json();
    let replaced = &replaced["proxies"][0];
    assert_eq!(
        (&replaced["enabled"], &replaced["toxics"]),
        (&json!(false), &json!([]))
    );
    plane.end().await;
}

#[tokio::test]
async fn what_guards_the_api_guards_the_dialect() {
    let plane = Plane::start(Some("secret"), &[]).await;
    assert_eq!(ask(&plane, "GET /proxies", "").await.0, 401);
    let with = ask(&plane, "GET /proxies\nAuthorization: Bearer secret", "").await;
    assert_eq!(with.0, 200);
    plane.end().await;
    let plane = Plane::open("secret").await;
    assert_eq!(ask(&plane, "GET /proxies", "").await.0, 200);
    assert_eq!(ask(&plane, "GET /proxies/", "").await.0, 301);
    for kept in [
        "/v1/rules",
        "/metrics",
        "/v1/proxies",
        "/proxiesx",
        "//proxies/../v1/rules",
        "/v1/proxies/../../proxies",
    ] {
        assert_eq!(
            ask(&plane, &format!("GET {kept}"), "").await.0,
            401,
            "{kept}"
        );
    }
    let foreign = ask(&plane, "GET /proxies\nOrigin: http://evil.example", "").await;
    assert_eq!(foreign.0, 403);
    plane.end().await;
    let plane = Plane::allowing(r#"["127.0.0.1:1"]"#).await;
    let made = ask(
        &plane,
        "POST /proxies",
        r#"{"name": "x", "upstream": "evil.example:80"}"#,
    )
    .await;
    assert_eq!(
        made.2,
        error(403, "proxies may not connect to `evil.example:80` here")
    );
    let made = ask(
        &plane,
        "POST /populate",
        r#"[{"name": "x", "upstream": "evil.example:80"}]"#,
    )
    .await;
    assert_eq!(made.0, 403);
    let made = ask(
        &plane,
        "POST /proxies/db",
        r#"{"upstream": "evil.example:80"}"#,
    )
    .await;
    assert_eq!(made.0, 403);
    plane.end().await;
}

/// A rule of the file that is named as a toxic, with whatever lifetime, stays what it is.
#[tokio::test]
async fn toxics_of_the_file_are_toxics() {
    let plane = Plane::start(None, &[]).await;
    let edges: Vec<Edge> = plane
        .context
        .state
        .edges()
        .iter()
        .map(|e| Edge::clone(e))
        .collect();
    let said = json!({"name": "db/slow", "proxies": ["db"], "direction": "downstream", "fault": {"delay": {"latency": "1s"}}});
    let rule = rule_from_json(&said, &edges).unwrap();
    assert_eq!(rule.ttl, Ttl::Unsaid);
    plane
        .context
        .state
        .apply(vec![Change::AddRule(rule)], Source::File)
        .unwrap();
    let toxic = ask(
        &plane,
        "POST /proxies/db/toxics/slow",
        r#"{"attributes": {"latency": 2000}}"#,
    )
    .await;
    assert_eq!(toxic.0, 200, "{}", toxic.2);
    assert_eq!(
        toxic.json()["attributes"],
        json!({"latency": 2000, "jitter": 0})
    );
    assert_eq!(
        plane.client.rule("db/slow").await.unwrap().standing.source,
        "file"
    );
    plane.end().await;
}

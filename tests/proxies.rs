//! Proxies that are changed while they run: what becomes of their clients, their addresses, and of
//! plans that can't be carried out.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/plane.rs"]
mod plane;
mod support;

use std::net::SocketAddr;

use firedrill::client::ClientError;
use firedrill::evidence::{Cause, Class, Outcome};
use firedrill::proxy::{Plan, StartError};
use firedrill::rules::{Edge, Protocol};
use firedrill::state::{Change, Draft, Refused, Source};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use plane::Plane;
use support::{Client, Rig, Server, latency, post, rule, until};

fn edge(name: &str, listen: SocketAddr, upstream: SocketAddr) -> Edge {
    Edge::new(name, &listen.to_string(), &upstream.to_string())
}

const ANY: &str = "127.0.0.1:0";

async fn put(rig: &Rig, edge: Edge) -> Result<u64, StartError> {
    rig.supervisor.rearrange(Plan::put(edge), Source::Api).await
}

fn bound(rig: &Rig, name: &str) -> SocketAddr {
    rig.supervisor.bound(name).unwrap()
}

async fn talks(client: &mut Client, text: &str) {
    client.send(text).await;
    client.expect(text).await;
}

async fn is_refused(addr: SocketAddr) -> bool {
    // The blocking way: see `Client::connect`.
    let connecting = tokio::task::spawn_blocking(move || std::net::TcpStream::connect(addr));
    connecting.await.unwrap().is_err()
}

/// Sends back the name of the server and then everything.
async fn named(name: &'static str) -> Server {
    Server::start(move |mut c| async move {
        use tokio::io::AsyncWriteExt;
        c.socket.write_all(name.as_bytes()).await?;
        let mut buffer = [0; 1024];
        while c.read(&mut buffer).await? > 0 {}
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_upstream_closes_who_stands_and_the_address_stays() {
    let (one, two) = (named("one").await, named("two").await);
    for protocol in [Protocol::Tcp, Protocol::Auto] {
        let rig = Rig::new();
        let addr = rig.proxy("p", one.addr, protocol).await;
        let mut standing = Client::connect(addr).await;
        standing.expect("one").await;
        let mut changed = edge("p", ANY.parse().unwrap(), two.addr);
        changed.protocol = protocol;
        put(&rig, changed).await.unwrap();
        assert_eq!(standing.rest().await, (String::new(), true), "{protocol:?}");
        assert_eq!(bound(&rig, "p"), addr, "port 0 is the one that it had");
        Client::connect(addr).await.expect("two").await;
        let records = rig.closed(2).await;
        assert_eq!(records[0].client.outcome, Outcome::Partial);
        assert_eq!(records[0].client.bytes, 3);
    }
}

#[tokio::test]
async fn what_is_under_way_is_the_proxys_doing_in_its_record() {
    let silent = Server::http_with(|_| String::new()).await;
    let rig = Rig::new();
    let addr = rig.http(silent.addr).await;
    let mut caller = Client::connect(addr).await;
    caller.send(post("/pay", "k", "x")).await;
    until("it is there", || {
        (silent.requests("POST /pay") == 1).then_some(())
    })
    .await;
    let mut off = edge("p", ANY.parse().unwrap(), silent.addr);
    off.protocol = Protocol::Http;
    off.enabled = false;
    put(&rig, off).await.unwrap();
    assert_eq!(caller.rest().await, (String::new(), true));
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.cause), (Class::Unknown, Cause::Proxy));
    assert_eq!(record.client.outcome, Outcome::Closed);
}

#[tokio::test]
async fn what_touches_neither_end_leaves_connections_alone() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut standing = Client::connect(addr).await;
    talks(&mut standing, "before").await;
    let mut less = edge("p", ANY.parse().unwrap(), server.addr);
    less.max_connections = 1;
    put(&rig, less.clone()).await.unwrap();
    talks(&mut standing, "after").await;
    let mut second = Client::connect(addr).await;
    assert_eq!(
        second.rest().await,
        (String::new(), false),
        "it counts among them"
    );
    // Rules of the proxy go on to reach it, and so does what closes it later.
    rig.rule(rule("reset", &[]));
    assert_eq!(standing.rest().await, (String::new(), false));
    rig.heal();
    until("there is room", || {
        (rig.metric("firedrill_connections_open{proxy=\"p\"}") == 0.0).then_some(())
    })
    .await;
    let mut third = Client::connect(addr).await;
    talks(&mut third, "x").await;
    less.max_connections = 2;
    put(&rig, less.clone()).await.unwrap();
    talks(&mut third, "y").await;
    less.enabled = false;
    put(&rig, less).await.unwrap();
    assert_eq!(third.rest().await, (String::new(), true));
}

#[tokio::test]
async fn a_disabled_proxy_has_no_listener_and_gets_its_port_again() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut off = edge("p", ANY.parse().unwrap(), server.addr);
    for _ in 0..20 {
        let mut standing = Client::connect(addr).await;
        talks(&mut standing, "x").await;
        off.enabled = false;
        put(&rig, off.clone()).await.unwrap();
        // At once: who was told that it is disabled may take the port.
        let other = TcpListener::bind(addr).await.unwrap();
        drop(other);
        assert!(is_refused(addr).await);
        assert_eq!(standing.rest().await, (String::new(), true));
        off.enabled = true;
        put(&rig, off.clone()).await.unwrap();
        assert_eq!(bound(&rig, "p"), addr);
    }
}

#[tokio::test]
async fn a_new_address_is_bound_before_the_old_one_is_left() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut standing = Client::connect(addr).await;
    talks(&mut standing, "x").await;
    let held = TcpListener::bind(ANY).await.unwrap();
    let taken = held.local_addr().unwrap();
    let generation = rig.context.state.generation();
    let refused = put(&rig, edge("p", taken, server.addr)).await.unwrap_err();
    assert!(
        matches!(&refused, StartError::Bind { proxy, .. } if proxy == "p"),
        "{refused}"
    );
    assert_eq!(rig.context.state.generation(), generation);
    assert_eq!(bound(&rig, "p"), addr);
    talks(&mut standing, "still here").await;

    drop(held);
    put(&rig, edge("p", taken, server.addr)).await.unwrap();
    assert_eq!(standing.rest().await, (String::new(), true));
    assert!(is_refused(addr).await);
    talks(&mut Client::connect(taken).await, "x").await;
}

/// Every interface has the ports of each: the two can't be bound at once, but in passing.
#[tokio::test]
async fn an_address_may_overlap_the_one_that_is_left() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let one = rig.tcp(server.addr).await;
    let every = SocketAddr::from(([0; 4], one.port()));
    for listen in [every, one, every] {
        let mut standing = Client::connect(one).await;
        talks(&mut standing, "x").await;
        put(&rig, edge("p", listen, server.addr)).await.unwrap();
        assert_eq!(bound(&rig, "p"), listen);
        assert_eq!(standing.rest().await, (String::new(), true));
        talks(&mut Client::connect(one).await, "x").await;
        for taken in [one, every] {
            assert!(
                std::net::TcpListener::bind(taken).is_err(),
                "nobody else can have it"
            );
        }
    }
    // Two of a plan can't have the one that a third gives up.
    let plan = Plan {
        put: vec![edge("a", every, server.addr), edge("b", every, server.addr)],
        remove: vec!["p".to_owned()],
        ..Plan::default()
    };
    let refused = rig.supervisor.rearrange(plan, Source::Api).await;
    assert!(matches!(refused, Err(StartError::Bind { .. })));
    talks(&mut Client::connect(one).await, "x").await;
}

#[tokio::test]
async fn a_plan_is_one_change_and_addresses_go_from_one_proxy_to_another() {
    let (one, two) = (named("one").await, named("two").await);
    let rig = Rig::new();
    let a = rig.proxy("a", one.addr, Protocol::Tcp).await;
    let b = rig.proxy("b", two.addr, Protocol::Tcp).await;
    let mut bystander = Client::connect(rig.proxy("c", one.addr, Protocol::Tcp).await).await;
    bystander.expect("one").await;
    let mut removed = Client::connect(b).await;
    removed.expect("two").await;
    let generation = rig.context.state.generation();
    // `a` moves to where `b` was, and a new one to where `a` was.
    let plan = || Plan {
        put: vec![edge("a", b, one.addr), edge("d", a, two.addr)],
        remove: vec!["b".to_owned()],
        ..Plan::default()
    };
    let rearrange = async |also: Change| {
        let turn = rig.supervisor.turn().await;
        let also = |draft: &mut Draft| draft.apply(also);
        turn.rearrange_with(plan(), Source::File, also).await
    };
    let refused = rearrange(Change::RemoveRule("nobody".to_owned())).await;
    assert!(matches!(
        refused,
        Err(StartError::Refused(Refused::NotFound("rule", _)))
    ));
    assert_eq!((bound(&rig, "a"), bound(&rig, "b")), (a, b));
    assert!(rig.supervisor.bound("d").is_none());
    Client::connect(a).await.expect("one").await;

    let done = rearrange(Change::AddRule(rule("delay", &latency(0))));
    let done = done.await.unwrap();
    assert_eq!(done, generation + 1, "all of it is one change");
    assert_eq!(rig.context.state.generation(), done);
    Client::connect(b).await.expect("one").await;
    Client::connect(a).await.expect("two").await;
    bystander.silent().await;
    removed.silent().await;
    assert!(rig.supervisor.bound("b").is_none());
    drop((bystander, removed));

    let close = Plan {
        remove: vec!["d".to_owned()],
        close: true,
        ..Plan::default()
    };
    let mut standing = Client::connect(a).await;
    standing.expect("two").await;
    rig.supervisor.rearrange(close, Source::Api).await.unwrap();
    assert_eq!(standing.rest().await, (String::new(), true));
    assert!(is_refused(a).await);
}

fn code(refused: Result<impl std::fmt::Debug, ClientError>) -> (u16, String, Option<String>) {
    match refused.unwrap_err() {
        ClientError::Api {
            status, code, path, ..
        } => (status, code, path),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_api_puts_patches_and_refuses() {
    let plane = Plane::start(None, &[]).await;
    let api = &plane.client;
    let before = api.proxy("db").await.unwrap();
    assert!(before.enabled);
    // What was read can be sent back, read-only fields and all.
    let same = serde_json::to_value(&before).unwrap();
    let put = api.put_proxy("db", &same).await.unwrap();
    assert_eq!(serde_json::to_value(&put).unwrap(), same);

    let off = api
        .patch_proxy("db", &json!({"enabled": false}))
        .await
        .unwrap();
    assert!(!off.enabled);
    assert_eq!(off.listen, before.listen, "where it was, and will be again");
    let addr: SocketAddr = off.listen.parse().unwrap();
    assert!(is_refused(addr).await);
    let patch = json!({"enabled": null, "max_connections": 7, "from": "billing"});
    let on = api.patch_proxy("db", &patch).await.unwrap();
    assert!(on.enabled, "null takes back what was said");
    assert_eq!(
        (on.max_connections, &*on.from, &on.listen),
        (7, "billing", &before.listen)
    );
    assert!(!is_refused(addr).await);

    let new = json!({"listen": ANY, "upstream": "127.0.0.1:1", "enabled": false});
    let made = api.put_proxy("new", &new).await.unwrap();
    assert_eq!(
        (&*made.listen, made.enabled),
        (ANY, false),
        "it never was anywhere"
    );
    let wrong = |keys: Value| async move { code(api.patch_proxy("db", &keys).await) };
    let invalid = |path: &str| (422, "invalid".to_owned(), Some(path.to_owned()));
    assert_eq!(wrong(json!({"enabled": "no"})).await, invalid("enabled"));
    assert_eq!(wrong(json!({"upstram": "a:1"})).await, invalid("upstram"));
    assert_eq!(wrong(json!({"name": "other"})).await, invalid("name"));
    let held = TcpListener::bind(ANY).await.unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let bind = (409, "bind".to_owned(), Some("listen".to_owned()));
    assert_eq!(wrong(json!({"listen": taken})).await, bind);
    let nobody = code(api.patch_proxy("nobody", &json!({"enabled": false})).await);
    assert_eq!(nobody, (404, "not_found".to_owned(), None));
    let unchanged = api.proxy("db").await.unwrap();
    assert_eq!(
        serde_json::to_value(&unchanged).unwrap()["listen"],
        json!(before.listen)
    );
    plane.end().await;
}

#[tokio::test]
async fn only_what_is_allowed_can_be_an_upstream() {
    let allowed = r#"["127.0.0.1:1", "payment:8080", "10.0.0.*:*"]"#;
    let plane = Plane::allowing(allowed).await;
    let api = &plane.client;
    let proxy = |upstream: &str| json!({"name": "x", "listen": ANY, "upstream": upstream});
    for upstream in [
        "evil.example:80",
        "10.0.1.1:80",
        "payment:22",
        "10.0.0.evil.example:80",
    ] {
        let refused = code(api.create_proxy(&proxy(upstream)).await);
        let expected = (
            403,
            "upstream_not_allowed".to_owned(),
            Some("upstream".to_owned()),
        );
        assert_eq!(refused, expected, "{upstream}");
        assert_eq!(
            code(api.put_proxy("db", &proxy(upstream)).await).0,
            422,
            "the name"
        );
        let patch = json!({"upstream": upstream});
        assert_eq!(
            code(api.patch_proxy("db", &patch).await),
            expected,
            "{upstream}"
        );
    }
    for upstream in ["payment:8080", "10.0.0.200:80"] {
        api.put_proxy("x", &proxy(upstream)).await.unwrap();
    }
    assert_eq!(api.proxy("db").await.unwrap().upstream, "127.0.0.1:1");
    plane.end().await;
}

//! What other proxies of this kind got wrong: each mistake has a test here that it would fail.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use support::pay::{Caller, Met, Upstream};
use support::process::{Firedrill, eventually, firedrill, output};
use support::{Client, PATIENCE, Server, get, post, soon, until};

/// A file with one TCP proxy `p`.
fn tcp(upstream: impl std::fmt::Display) -> String {
    format!("proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {upstream} }}]\n")
}

/// A file with one HTTP proxy `p`.
fn http(upstream: impl std::fmt::Display) -> String {
    format!("proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}]\n")
}

/// A listener that completes no further handshake, so that a dial to it takes for ever.
struct Deaf {
    listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Deaf {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        // Nobody accepts: its queue is full when a connect no longer succeeds.
        while let Ok(connected) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr)).await
        {
            filling.push(connected.unwrap());
            assert!(filling.len() < 10, "a backlog of 0 takes one or two");
        }
        Self {
            listener,
            _filling: filling,
        }
    }
}

/// Whether a connection is carried: bytes come back.
async fn echoes(addr: std::net::SocketAddr) -> bool {
    let talk = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(b"x").await?;
        socket.read_exact(&mut [0]).await
    };
    soon("an echo or an end", talk).await.is_ok()
}

/// The same seed for every connection makes 30 % mean all or none.
#[tokio::test]
async fn a_probability_is_of_each_connection_not_of_all() {
    let server = Server::echo().await;
    let rule = "rules: [{ name: some, probability: 0.3, fault: { drop: { then: reset } } }]\n";
    let firedrill = Firedrill::start(&format!("seed: 1\n{}{rule}", tcp(server.addr))).await;
    let addr = firedrill.proxy("p").await;
    let mut passed = 0u32;
    for _ in 0..200 {
        passed += u32::from(echoes(addr).await);
    }
    // 200 at 0.7: 140, σ 6.5; five of them either way.
    assert!((107..=173).contains(&passed), "{passed} of 200 passed");
    println!("{} of 200 connections were hit at 0.3", 200 - passed);
}

/// Dialling inside the accept loop lets one slow upstream block everybody.
#[tokio::test]
async fn an_upstream_that_does_not_answer_the_dial_blocks_nobody_else() {
    let deaf = Deaf::start().await;
    let server = Server::echo().await;
    let deaf_addr = deaf.listener.local_addr().unwrap();
    let firedrill = Firedrill::start(&format!(
        "proxies:\n\
         - {{ name: deaf, listen: 127.0.0.1:0, upstream: {deaf_addr}, connect_timeout: 1h }}\n\
         - {{ name: p, listen: 127.0.0.1:0, upstream: {} }}\n",
        server.addr
    ))
    .await;
    let deaf_proxy = firedrill.proxy("deaf").await;
    let mut stuck = Vec::new();
    for n in 1..=20 {
        stuck.push(TcpStream::connect(deaf_proxy).await.unwrap());
        // Each is taken up although those before it are still being dialled for.
        eventually("the next one is accepted", async || {
            let open = firedrill.metric("firedrill_connections_open", &["\"deaf\""]);
            (open.await == n).then_some(())
        })
        .await;
    }
    assert!(echoes(firedrill.proxy("p").await).await);
    // With a FIN they would be waited for: it may be a half-close, with an answer still to come.
    for socket in stuck {
        socket.set_zero_linger().unwrap();
    }
    firedrill.quiet().await;
    let records = firedrill.closed(21).await;
    let stuck = records.iter().filter(|r| &*r.proxy == "deaf");
    for record in stuck {
        assert_eq!(record.class, Class::NeverDelivered, "{record:?}");
        assert_eq!(record.client.outcome, Outcome::Left);
    }
}

/// A backlog of 128 makes a burst wait a second for the next SYN.
#[tokio::test]
async fn a_burst_of_connections_waits_for_nothing() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let addr = firedrill.proxy("p").await;
    // Stopped, it accepts none: all must fit into the queue.
    firedrill.process.signal(Signal::STOP);
    let mut burst = Vec::new();
    for n in 0..500 {
        let connecting = tokio::time::timeout(PATIENCE / 20, TcpStream::connect(addr)).await;
        burst.push(
            connecting
                .unwrap_or_else(|_| panic!("only {n} fitted"))
                .unwrap(),
        );
    }
    firedrill.process.signal(Signal::CONT);
    for socket in burst {
        let mut client = Client(socket);
        client.send("x").await;
        client.expect("x").await;
    }
    firedrill.quiet().await;
    assert_eq!(
        firedrill.metric("firedrill_connections_total", &[]).await,
        500
    );
}

/// An accept error that ends the listener while it still reports itself enabled; or one that is
/// said so often that it becomes the next problem.
#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    const CROWD: usize = 100;
    let server = Server::echo().await;
    // A connection takes two. Where one is left over, clients come and go: one is accepted, no
    // upstream can be dialled for it, and it makes room for the next. Where none is, they wait.
    for (carried, left_over) in [(10, 1), (10, 0)] {
        let firedrill = Firedrill::start(&tcp(server.addr)).await;
        let addr = firedrill.proxy("p").await;
        firedrill.quiet().await;
        firedrill.limit_descriptors(2 * carried + left_over);
        let began = Instant::now();
        let mut early = Client::connect(addr).await;
        early.send("a").await;
        early.expect("a").await;
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            crowd.spawn(async move {
                // It may be reset before this end has noticed that it is connected.
                let mut socket = TcpStream::connect(addr).await?;
                socket.read_u8().await
            });
        }
        // Those that are carried hear nothing, and so do those that wait.
        for _ in 0..left_over * (CROWD + 1 - carried) {
            let ended = soon("a reset", crowd.join_next()).await.unwrap();
            assert_eq!(
                ended.unwrap().unwrap_err().kind(),
                ErrorKind::ConnectionReset
            );
        }
        until("it says that it can't accept", || {
            firedrill
                .process
                .log()
                .contains("can't accept")
                .then_some(())
        })
        .await;
        early.send("b").await;
        early.expect("b").await;
        drop((early, crowd));
        eventually("it accepts again", async || {
            echoes(addr).await.then_some(())
        })
        .await;
        firedrill.quiet().await;

        let warnings = firedrill.process.log().matches("can't accept").count() as u64;
        let seconds = began.elapsed().as_secs();
        assert!(warnings <= seconds + 1, "{warnings} in {seconds} seconds");
        let records = firedrill.records().await;
        let undialled = records.iter().filter(|r| r.cause == Cause::Proxy);
        for record in undialled.clone() {
            assert_eq!(record.class, Class::NeverDelivered, "{record:?}");
            assert_eq!(record.client.outcome, Outcome::Reset);
        }
        assert!(undialled.count() >= left_over * (CROWD + 1 - carried));
        // It has done nothing wrong.
        assert!(records.iter().all(|r| r.cause != Cause::Upstream));
    }
}

/// EOF one way that closes both ways loses the reply.
#[tokio::test]
async fn a_reply_after_the_clients_fin_arrives() {
    let server = Server::start(|mut c| async move {
        let mut buffer = [0; 64];
        while c.read(&mut buffer).await? > 0 {}
        c.socket.write_all(b"a late reply").await
    })
    .await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let mut client = Client::connect(firedrill.proxy("p").await).await;
    client.send("question").await;
    client.fin().await;
    assert_eq!(client.rest().await, ("a late reply".to_owned(), true));
    drop(client);
    firedrill.quiet().await;
}

/// The other way round: the upstream's FIN leaves the client's words untouched.
#[tokio::test]
async fn words_after_the_upstreams_fin_arrive() {
    let server = Server::start(|mut c| async move {
        c.socket.shutdown().await?;
        let mut buffer = [0; 64];
        while c.read(&mut buffer).await? > 0 {}
        Ok(())
    })
    .await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let mut client = Client::connect(firedrill.proxy("p").await).await;
    assert_eq!(client.rest().await, (String::new(), true));
    client.send("last words").await;
    client.fin().await;
    until("they arrive", || {
        (server.seen() == ["last words"]).then_some(())
    })
    .await;
    drop(client);
    firedrill.quiet().await;
}

/// Linger 0 set for all when one connection was chosen.
#[tokio::test]
async fn a_reset_of_one_connection_is_no_reset_of_others() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let addr = firedrill.proxy("p").await;
    let mut stands = Client::connect(addr).await;
    stands.send("a").await;
    stands.expect("a").await;
    let rule =
        json!({"name": "one", "proxies": ["p"], "limit": 1, "fault": {"drop": {"then": "reset"}}});
    firedrill.api.create_rule(&rule).await.unwrap();
    assert!(!echoes(addr).await, "the chosen one");
    assert!(echoes(addr).await, "the next one");
    stands.send("b").await;
    stands.fin().await;
    assert_eq!(
        stands.rest().await,
        ("b".to_owned(), true),
        "a FIN, and all bytes"
    );
}

/// A toxic's removal that hangs the whole API.
#[tokio::test]
async fn deleting_a_rule_while_it_holds_a_peer_that_reads_nothing_returns_at_once() {
    let server = Server::start(|c| async move {
        // Reads nothing, ever.
        std::future::pending::<()>().await;
        drop(c);
        Ok(())
    })
    .await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let addr = firedrill.proxy("p").await;
    let rule = json!({"name": "slow", "proxies": ["p"], "fault": {"delay": {"latency": "1h"}}});
    firedrill.api.create_rule(&rule).await.unwrap();
    let client = TcpStream::connect(addr).await.unwrap();
    // As much as it takes: buffers on the way fill up, and bytes are held.
    let block = vec![7; 1 << 20];
    let mut sent = 0;
    while sent < 32 << 20 {
        client.writable().await.unwrap();
        sent += client.try_write(&block).unwrap_or(0);
    }
    let began = Instant::now();
    firedrill.api.delete_rule("slow").await.unwrap();
    firedrill.api.status().await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(firedrill.api.rules().await.unwrap().items.is_empty());
    drop(client);
}

/// Counters added only when a connection ends.
#[tokio::test]
async fn bytes_are_counted_while_the_connection_stands() {
    let server = Server::echo().await;
    let firedrill = Firedrill::start(&tcp(server.addr)).await;
    let mut client = Client::connect(firedrill.proxy("p").await).await;
    for n in 1..=3u64 {
        client.send("12345").await;
        client.expect("12345").await;
        for direction in ["direction=\"upstream\"", "direction=\"downstream\""] {
            let counted = firedrill
                .metric("firedrill_bytes_total", &[direction])
                .await;
            assert_eq!(counted, 5 * n, "{direction}");
        }
    }
    let item = firedrill.api.proxy("p").await.unwrap();
    assert_eq!((item.connections_open, item.connections_total), (1, 1));
}

/// Unknown keys accepted, so that a typo matches everything; starting anyway on a bad file.
#[tokio::test]
async fn a_typo_starts_nothing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("typo.yaml");
    let free = Server::nobody().await;
    std::fs::write(
        &file,
        format!(
            "proxies: [{{ name: p, listen: {free}, upstream: 127.0.0.1:1, protocol: http }}]\n\
             rules: [{{ name: r, match: {{ pth: /a }}, fault: {{ drop: {{}} }} }}]\n"
        ),
    )
    .unwrap();
    let mut serve = firedrill();
    serve.arg("serve").arg("-c").arg(&file);
    let ended = output(serve).await;
    assert_eq!(ended.status.code(), Some(2));
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert!(
        stderr.contains("typo.yaml:2:")
            && stderr.contains("rules[0].match.pth")
            && stderr.contains("path"),
        "{stderr}"
    );
    assert!(TcpStream::connect(free).await.is_err(), "nothing listens");

    let upstream = Upstream::start().await;
    let firedrill = Firedrill::start(&http(upstream.addr)).await;
    for body in [
        json!({"name": "r", "match": {"pth": "/a"}, "fault": {"drop": {}}}),
        json!({"name": "r", "probabilty": 0.1, "fault": {"drop": {}}}),
        json!({"name": "r", "fault": {"drop": {"than": "close"}}}),
        json!({"name": "r", "fault": {"dorp": {}}}),
        json!({"name": "r", "proxies": ["q"], "fault": {"drop": {}}}),
        json!({"name": "r", "probability": 1.5, "fault": {"drop": {}}}),
    ] {
        let generation = firedrill.api.status().await.unwrap().generation;
        let refused = firedrill.api.create_rule(&body).await;
        assert!(refused.is_err(), "{body}");
        let status = firedrill.api.status().await.unwrap();
        assert!(status.rules.is_empty() && status.generation == generation);
    }
    let mut caller = Caller::new(firedrill.proxy("p").await, PATIENCE);
    assert_eq!(
        caller.ask(&get("/a")).await,
        Met::Answered(200, "/a".to_owned())
    );
}

/// A probability of 0 that still acts.
#[tokio::test]
async fn a_probability_of_zero_never_acts() {
    let upstream = Upstream::start().await;
    let rules = "rules:\n\
         - { name: http, probability: 0, fault: { abort: {} } }\n\
         - { name: any, probability: 0.0, fault: { drop: {} } }\n";
    let firedrill = Firedrill::start(&format!("{}{rules}", http(upstream.addr))).await;
    let mut caller = Caller::new(firedrill.proxy("p").await, PATIENCE);
    for n in 0..500 {
        let key = n.to_string();
        let met = caller.ask(&post("/a", &key, "x")).await;
        assert_eq!(met, Met::Answered(200, key));
    }
    for name in ["http", "any"] {
        let rule = firedrill.rule(name).await;
        assert_eq!((rule.standing.selected, rule.standing.injected), (0, 0));
    }
}

/// Jitter larger than latency that underflows: a panic, or a delay of centuries.
#[tokio::test]
async fn jitter_larger_than_latency_is_a_short_delay() {
    let upstream = Upstream::start().await;
    for distribution in ["uniform", "normal", "lognormal", "pareto"] {
        let rule = format!(
            "rules: [{{ name: j, fault: {{ delay: {{ latency: 1ms, jitter: 5ms, distribution: {distribution} }} }} }}]\n"
        );
        let firedrill = Firedrill::start(&format!("seed: 3\n{}{rule}", http(upstream.addr))).await;
        let mut caller = Caller::new(firedrill.proxy("p").await, PATIENCE);
        for n in 0..100 {
            let key = n.to_string();
            let met = caller.ask(&post("/a", &key, "x")).await;
            assert_eq!(met, Met::Answered(200, key), "{distribution}");
        }
        assert_eq!(firedrill.rule("j").await.standing.selected, 100);
        assert!(!firedrill.process.log().contains("panicked"));
    }
}

/// A delay slept serially per chunk lets throughput fall to chunk / latency.
#[tokio::test]
async fn latency_does_not_cut_throughput() {
    let server = Server::echo().await;
    let rule =
        "rules: [{ name: slow, direction: upstream, fault: { delay: { latency: 300ms } } }]\n";
    let firedrill = Firedrill::start(&format!("{}{rule}", tcp(server.addr))).await;
    let socket = TcpStream::connect(firedrill.proxy("p").await)
        .await
        .unwrap();
    let (mut read, mut write) = socket.into_split();
    const CHUNKS: usize = 200;
    let began = Instant::now();
    let writing = async {
        for n in 0..CHUNKS {
            write.write_all(&[n as u8; 1000]).await.unwrap();
            // Apart, so that each is read as a chunk of its own.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut got = vec![0; CHUNKS * 1000];
    let reading = soon("all of it", read.read_exact(&mut got));
    let (_, all) = tokio::join!(writing, reading);
    all.unwrap();
    let took = began.elapsed();
    assert!(
        got.chunks(1000)
            .enumerate()
            .all(|(n, c)| c == [n as u8; 1000])
    );
    // Serially it would take 200 times 300 ms: a minute.
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    println!("{CHUNKS} chunks behind 300 ms came within {took:?}");
}

/// A connection made just before the rule that escapes it.
#[tokio::test]
async fn connections_made_just_before_the_rule_do_not_escape_it() {
    let server = Server::echo().await;
    let upstream = Upstream::start().await;
    let firedrill = Firedrill::start(&format!(
        "proxies:\n\
         - {{ name: raw, listen: 127.0.0.1:0, upstream: {} }}\n\
         - {{ name: web, listen: 127.0.0.1:0, upstream: {}, protocol: http }}\n",
        server.addr, upstream.addr
    ))
    .await;
    let mut raw = Vec::new();
    let mut web = Vec::new();
    for n in 0..50 {
        let mut client = Client::connect(firedrill.proxy("raw").await).await;
        client.send("x").await;
        client.expect("x").await;
        raw.push(client);
        let mut caller = Caller::new(firedrill.proxy("web").await, PATIENCE);
        let key = n.to_string();
        assert_eq!(
            caller.ask(&post("/a", &key, "x")).await,
            Met::Answered(200, key)
        );
        web.push(caller);
    }
    for (name, proxy, fault) in [
        ("lost", "raw", json!({"response_loss": {"then": "reset"}})),
        ("abort", "web", json!({"abort": {"status": 418}})),
    ] {
        let rule = json!({"name": name, "proxies": [proxy], "fault": fault});
        firedrill.api.create_rule(&rule).await.unwrap();
    }
    for mut client in raw {
        client.send("y").await;
        // The answer is lost; what follows it is a RST once the upstream has said all.
        client.fin().await;
        assert_eq!(client.rest().await, (String::new(), false));
    }
    for mut caller in web {
        let met = caller.ask(&post("/a", "after", "x")).await;
        assert!(matches!(met, Met::Answered(418, _)), "{met:?}");
    }
    assert_eq!(firedrill.rule("lost").await.standing.injected, 50);
    assert_eq!(firedrill.rule("abort").await.standing.injected, 50);
}

/// Half-close with no deadline leaks peers: a client that is gone for good leaves nothing.
#[tokio::test]
async fn clients_that_break_off_anywhere_leave_nothing() {
    let upstream = Upstream::start().await;
    let firedrill = Firedrill::start(&http(upstream.addr)).await;
    let addr = firedrill.proxy("p").await;
    let request = post("/a", "k", "body");
    for end in 0..request.len() {
        let mut client = Client::connect(addr).await;
        client.send(&request[..end]).await;
        if end % 2 == 0 {
            client.reset();
        }
    }
    firedrill.quiet().await;
    assert!(upstream.log().is_empty(), "no whole request was ever sent");
}

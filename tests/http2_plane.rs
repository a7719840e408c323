//! HTTP/2 through the proxy: what the client saw, what the upstream saw, the record, the count.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use firedrill::evidence::{Cause, Class, Outcome, Record};
use firedrill::state::Stopping;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use support::http2::{H2, Raw, Upstream, fields, frame, get, literal, post, request, send, whole};
use support::*;

/// The record of this path.
fn of<'a>(records: &'a [Record], path: &str) -> &'a Record {
    let found = records
        .iter()
        .find(|r| r.request.path.as_deref() == Some(path));
    found.unwrap_or_else(|| panic!("no record of {path}: {records:?}"))
}

// --- What passes.

#[tokio::test]
async fn requests_and_answers_pass_as_they_are() {
    let upstream = Upstream::start(|mut turn| async move {
        let (body, trailers) = turn.body().await.unwrap();
        let head = Response::builder()
            .status(207)
            .header("x-b", "1")
            .header("x-a", "2")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(())
            .unwrap();
        let mut to = turn.respond.send_response(head, false).unwrap();
        send(&mut to, body, false).await.unwrap();
        to.send_trailers(trailers.unwrap_or_default()).unwrap();
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let ask = request("PATCH", "/a%20b?x=1&y")
        .header("x-z", "1")
        .header("cookie", "c=1")
        .header("cookie", "d=2")
        .header("x-a", "2")
        .body(())
        .unwrap();
    let (answer, mut to) = client.begin(ask, false).await;
    send(&mut to, Bytes::from_static(b"hello"), false)
        .await
        .unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("5"));
    to.send_trailers(trailers.clone()).unwrap();
    let answer = soon("the answer", whole(answer)).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (207, "hello"));
    assert_eq!(answer.trailers, Some(trailers));
    let named: Vec<_> = answer
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_bytes()))
        .collect();
    let expected: [(&str, &[u8]); 4] = [
        ("x-b", b"1"),
        ("x-a", b"2"),
        ("set-cookie", b"a=1"),
        ("set-cookie", b"b=2"),
    ];
    assert_eq!(named, expected);
    let asked = &upstream.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.uri.as_str()),
        ("PATCH", "http://p.test/a%20b?x=1&y")
    );
    let names: Vec<_> = asked
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_bytes()))
        .collect();
    let expected: [(&str, &[u8]); 4] = [
        ("x-z", b"1"),
        ("cookie", b"c=1"),
        ("cookie", b"d=2"),
        ("x-a", b"2"),
    ];
    assert_eq!(names, expected);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, &record.cause),
        (Class::Acknowledged, &Cause::None)
    );
    assert_eq!(record.request.method.as_deref(), Some("PATCH"));
    assert_eq!(record.request.path.as_deref(), Some("/a%20b"));
    assert_eq!(
        (record.client.outcome, record.client.status),
        (Outcome::Answered, Some(207))
    );
    assert_eq!(
        (record.upstream[0].status, record.deliveries),
        (Some(207), 1)
    );
    assert!(record.request.bytes > 5 && record.upstream[0].bytes > 5 && record.client.bytes > 5);
}

#[tokio::test]
async fn what_has_no_body_gets_none() {
    let upstream = Upstream::start(|mut turn| async move { turn.answer(204, "").await }).await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let answer = client.get("/").await.unwrap();
    assert!(answer.bodiless && answer.status == 204);
    assert!(upstream.asked()[0].bodiless);
}

#[tokio::test]
async fn many_streams_share_one_connection_and_pass_each_other() {
    let upstream = Upstream::start(|mut turn| async move {
        if turn.path() == "/slow" {
            turn.until_reset().await;
        } else {
            turn.answer(200, turn.path()).await;
        }
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (slow, mut to) = client.begin(get("/slow"), true).await;
    let mut all = Vec::new();
    for n in 0..50 {
        let (answer, _) = client.begin(get(&format!("/{n}")), true).await;
        all.push(tokio::spawn(whole(answer)));
    }
    for (n, answer) in all.into_iter().enumerate() {
        let answer = soon("an answer", answer).await.unwrap().unwrap();
        assert_eq!(answer.text(), format!("/{n}"));
    }
    assert_eq!(upstream.connections(), 1, "one for one");
    to.send_reset(Reason::CANCEL);
    drop(slow);
    let records = rig.closed(51).await;
    let acknowledged = records.iter().filter(|r| r.class == Class::Acknowledged);
    assert_eq!(acknowledged.count(), 50);
    let slow = of(&records, "/slow");
    assert_eq!((slow.class, &slow.cause), (Class::Unknown, &Cause::Client));
    assert_eq!(slow.client.outcome, Outcome::Left);
}

#[tokio::test]
async fn interim_answers_pass() {
    let upstream = Upstream::start(|mut turn| async move {
        for n in ["1", "2"] {
            let hint = Response::builder()
                .status(103)
                .header("x-n", n)
                .body(())
                .unwrap();
            turn.respond.send_informational(hint).unwrap();
        }
        turn.answer(200, "done").await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (mut answer, _) = client.begin(get("/"), true).await;
    let mut hints = Vec::new();
    while let Some(hint) = soon("a hint", poll_fn(|cx| answer.poll_informational(cx))).await {
        let hint = hint.unwrap();
        hints.push((hint.status().as_u16(), hint.headers()["x-n"].clone()));
    }
    assert_eq!(
        hints,
        [(103, "1".parse().unwrap()), (103, "2".parse().unwrap())]
    );
    let answer = whole(answer).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
}

#[tokio::test]
async fn a_tunnel_passes_bytes_both_ways() {
    let upstream = Upstream::start(|mut turn| async move {
        let mut to = turn
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        while let Some(bytes) = turn.request.body_mut().data().await {
            let bytes = bytes.unwrap();
            let _ = turn
                .request
                .body_mut()
                .flow_control()
                .release_capacity(bytes.len());
            send(&mut to, bytes, false).await.unwrap();
        }
        to.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let connect = http::Request::builder()
        .method("CONNECT")
        .uri("db.test:5432");
    let (answer, mut to) = client.begin(connect.body(()).unwrap(), false).await;
    let mut from = soon("the tunnel", answer).await.unwrap().into_body();
    for word in ["ping", "pong"] {
        send(&mut to, Bytes::from(word), false).await.unwrap();
        let echoed = soon("an echo", from.data()).await.unwrap().unwrap();
        assert_eq!(echoed, word);
    }
    to.send_data(Bytes::new(), true).unwrap();
    assert!(
        soon("the end", from.data())
            .await
            .is_none_or(|end| end.unwrap().is_empty())
    );
    let asked = &upstream.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.uri.as_str()),
        ("CONNECT", "db.test:5432")
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.class, Class::Acknowledged);
    assert_eq!(record.request.path.as_deref(), Some("db.test:5432"));
}

#[tokio::test]
async fn a_tunnel_of_rfc_8441_passes_once_the_upstream_lets_it() {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let upstream = Upstream::with(builder, |mut turn| async move {
        let protocol = turn.request.extensions().get::<h2::ext::Protocol>();
        let protocol = protocol.map_or("none", |p| p.as_str()).to_owned();
        turn.answer(200, protocol).await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    assert_eq!(client.get("/").await.unwrap().text(), "none");
    until("the setting", || {
        client
            .send
            .is_extended_connect_protocol_enabled()
            .then_some(())
    })
    .await;
    let connect = request("CONNECT", "/chat").extension(h2::ext::Protocol::from("websocket"));
    let (answer, _to) = client.begin(connect.body(()).unwrap(), false).await;
    assert_eq!(
        soon("the tunnel", whole(answer)).await.unwrap().text(),
        "websocket"
    );
    assert_eq!(upstream.asked()[1].uri, "http://p.test/chat");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_with_bounded_memory() {
    const LEN: usize = 64 << 20;
    let upstream = Upstream::start(|mut turn| async move {
        let mut to = turn
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        let (mut at, body) = (0, turn.request.body_mut());
        while let Some(bytes) = body.data().await {
            let bytes = bytes.unwrap();
            raw::check(at, &bytes);
            at += bytes.len();
            body.flow_control().release_capacity(bytes.len()).unwrap();
            send(&mut to, bytes, false).await.unwrap();
        }
        to.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (answer, mut to) = client.begin(post("/"), false).await;
    let sending = tokio::spawn(async move {
        for at in (0..LEN).step_by(1 << 20) {
            send(&mut to, raw::stream(at, 1 << 20).into(), false)
                .await
                .unwrap();
        }
        to.send_data(Bytes::new(), true).unwrap();
    });
    let mut from = soon("the answer", answer).await.unwrap().into_body();
    let mut at = 0;
    while let Some(bytes) = soon("more", from.data()).await {
        let bytes = bytes.unwrap();
        raw::check(at, &bytes);
        at += bytes.len();
        from.flow_control().release_capacity(bytes.len()).unwrap();
    }
    sending.await.unwrap();
    assert_eq!(at, LEN);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.class, Class::Acknowledged);
    assert!(record.client.bytes >= LEN as u64 && record.request.bytes >= LEN as u64);
}

/// A client that does not read makes its upstream wait: what the proxy takes in is bounded by the
/// windows that it has offered.
#[tokio::test]
async fn who_does_not_read_makes_the_other_side_wait() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let poured = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&poured);
    let upstream = Upstream::start(move |mut turn| {
        let count = Arc::clone(&count);
        async move {
            let mut to = turn
                .respond
                .send_response(Response::new(()), false)
                .unwrap();
            while send(&mut to, Bytes::from(vec![7; 16 << 10]), false)
                .await
                .is_ok()
            {
                count.fetch_add(16 << 10, SeqCst);
            }
        }
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (answer, mut to) = client.begin(get("/"), true).await;
    let answer = soon("the head", answer).await.unwrap();
    let mut before = usize::MAX;
    until("it stalls", || {
        let now = poured.load(SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        (std::mem::replace(&mut before, now) == now).then_some(())
    })
    .await;
    assert!(before < 4 << 20, "{before} bytes were taken in");
    to.send_reset(Reason::CANCEL);
    drop(answer);
}

// --- How streams and connections end.

/// A RST_STREAM passes with its reason, whoever sends it.
#[tokio::test]
async fn resets_pass_both_ways_with_their_reasons() {
    let upstream = Upstream::start(|mut turn| async move {
        match turn.path().as_str() {
            "/reset" => turn.respond.send_reset(Reason::ENHANCE_YOUR_CALM),
            "/late" => {
                let mut to = turn
                    .respond
                    .send_response(Response::new(()), false)
                    .unwrap();
                send(&mut to, Bytes::from_static(b"some"), false)
                    .await
                    .unwrap();
                // The client has got it.
                turn.body().await.unwrap();
                turn.respond.send_reset(Reason::INADEQUATE_SECURITY);
            }
            _ => _ = turn.until_reset().await,
        }
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let reset = client.get("/reset").await.unwrap_err();
    assert_eq!(
        (reset.is_reset(), reset.reason()),
        (true, Some(Reason::ENHANCE_YOUR_CALM))
    );
    let (late, mut to) = client.begin(post("/late"), false).await;
    let mut late = soon("the head", late).await.unwrap().into_body();
    assert_eq!(soon("a part", late.data()).await.unwrap().unwrap(), "some");
    to.send_data(Bytes::new(), true).unwrap();
    let late = soon("its end", late.data()).await.unwrap().unwrap_err();
    assert_eq!(
        (late.is_reset(), late.reason()),
        (true, Some(Reason::INADEQUATE_SECURITY))
    );
    let (_answer, mut to) = client.begin(post("/wait"), false).await;
    upstream.until_asked(3).await;
    to.send_reset(Reason::NO_ERROR);
    until("the upstream sees why", || {
        (upstream.asked()[2].reset == Some(Reason::NO_ERROR)).then_some(())
    })
    .await;
    let records = rig.closed(3).await;
    let reset = of(&records, "/reset");
    assert_eq!(
        (reset.class, &reset.cause),
        (Class::Unknown, &Cause::Upstream)
    );
    assert_eq!(reset.client.outcome, Outcome::Reset);
    assert!(reset.upstream[0].error.is_some());
    let late = of(&records, "/late");
    assert_eq!((late.class, &late.cause), (Class::Unseen, &Cause::Upstream));
    assert_eq!(
        (late.client.outcome, late.client.status),
        (Outcome::Partial, Some(200))
    );
    let wait = of(&records, "/wait");
    assert_eq!((wait.class, &wait.cause), (Class::Unknown, &Cause::Client));
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_is_whole() {
    let upstream = Upstream::start(|mut turn| async move {
        turn.answer(413, "too much").await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (answer, mut to) = client.begin(post("/"), false).await;
    send(&mut to, Bytes::from_static(b"a part"), false)
        .await
        .unwrap();
    let answer = soon("the answer", whole(answer)).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    let reset = soon("a reset", poll_fn(|cx| to.poll_reset(cx)))
        .await
        .unwrap();
    assert_eq!(reset, Reason::NO_ERROR, "as the upstream says it");
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
}

/// The upstream's GOAWAY goes on: no new requests, those under way end as they should.
#[tokio::test]
async fn goaway_passes_and_what_is_under_way_ends() {
    let upstream = Upstream::start(|mut turn| async move {
        if turn.path() == "/slow" {
            let _ = turn.body().await;
        }
        turn.answer(200, turn.path()).await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (slow, mut to) = client.begin(post("/slow"), false).await;
    upstream.until_asked(1).await;
    upstream.go_away(0);
    let refused = soon(
        "no new requests",
        poll_fn(|cx| client.send.poll_ready(cx).map(|ready| ready.err())),
    );
    let mut gone = refused.await;
    while gone.is_none() {
        tokio::task::yield_now().await;
        gone = match client.send.send_request(get("/more"), true) {
            Ok((answer, _)) => soon("its end", answer).await.err(),
            Err(error) => Some(error),
        };
    }
    assert!(!gone.unwrap().is_io(), "it is told, not cut off");
    to.send_data(Bytes::from_static(b"x"), true).unwrap();
    assert_eq!(
        soon("the answer", whole(slow)).await.unwrap().text(),
        "/slow"
    );
    soon("the end", client.connection).await.unwrap().unwrap();
    rig.quiet().await;
    let records = rig.closed(1).await;
    assert_eq!(of(&records, "/slow").class, Class::Acknowledged);
    for more in records
        .iter()
        .filter(|r| r.request.path.as_deref() == Some("/more"))
    {
        assert!(
            matches!(more.class, Class::Acknowledged | Class::NeverDelivered),
            "{more:?}"
        );
    }
}

#[tokio::test]
async fn an_upstream_that_is_cut_off_ends_the_clients_connection() {
    let upstream = Upstream::start(|mut turn| async move {
        if turn.path() == "/done" {
            turn.answer(200, "done").await;
        } else {
            turn.until_reset().await;
        }
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    client.get("/done").await.unwrap();
    let (pending, _to) = client.begin(get("/pending"), true).await;
    upstream.until_asked(2).await;
    upstream.cut(0);
    assert!(soon("an error", pending).await.is_err());
    let _ = soon("the end", client.connection).await;
    let records = rig.closed(2).await;
    assert_eq!(of(&records, "/done").class, Class::Acknowledged);
    let pending = of(&records, "/pending");
    assert_eq!(
        (pending.class, &pending.cause),
        (Class::Unknown, &Cause::Upstream)
    );
    assert!(pending.upstream[0].error.is_some(), "{pending:?}");
    rig.quiet().await;
}

#[tokio::test]
async fn an_upstream_that_nobody_is_at_resets() {
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(Server::nobody().await).await).await;
    assert!(client.get("/").await.is_err());
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, &record.cause),
        (Class::NeverDelivered, &Cause::Upstream)
    );
    assert_eq!(record.client.outcome, Outcome::Reset);
    assert!(
        record.upstream[0]
            .error
            .as_deref()
            .unwrap()
            .contains("refused")
    );
    rig.quiet().await;
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http2_is_to_blame() {
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(server.addr).await).await;
    assert!(client.get("/").await.is_err());
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, &record.cause),
        (Class::Unknown, &Cause::Upstream),
        "{record:?}"
    );
    assert!(record.upstream[0].error.is_some());
    rig.quiet().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_requests_with_it() {
    let upstream = Upstream::start(|mut turn| async move {
        turn.until_reset().await;
    })
    .await;
    let rig = Rig::new();
    let mut client = H2::connect(rig.http(upstream.addr).await).await;
    let (_one, _to) = client.begin(get("/one"), true).await;
    let (_two, _up) = client.begin(post("/two"), false).await;
    upstream.until_asked(2).await;
    client.connection.abort();
    until("both are reset", || {
        upstream
            .asked()
            .iter()
            .all(|asked| asked.reset.is_some())
            .then_some(())
    })
    .await;
    for record in rig.closed(2).await {
        assert_eq!(
            (record.class, &record.cause),
            (Class::Unknown, &Cause::Client)
        );
        assert_eq!(record.client.outcome, Outcome::Left);
    }
    rig.quiet().await;
}

/// A FIN may be a half-close: it goes on, and what was asked before it is answered.
#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let server = Server::start(|mut c| async move {
        // To the client's end, then the answer: settings, `:status: 200`, four bytes.
        while c.read(&mut [0; 1024]).await? > 0 {}
        let answer = [
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &[0x88]),
            frame(0, 1, 1, b"here"),
        ];
        tokio::io::AsyncWriteExt::write_all(&mut c.socket, &answer.concat()).await
    })
    .await;
    let rig = Rig::new();
    let mut raw = Raw::connect(rig.http(server.addr).await).await;
    raw.say(&frame(1, 5, 1, &fields())).await;
    tokio::io::AsyncWriteExt::shutdown(&mut raw.0)
        .await
        .unwrap();
    let data = raw.next_of(0).await.unwrap();
    assert_eq!((data.stream, &data.payload[..]), (1, &b"here"[..]));
    while raw.next().await.is_some() {}
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
    rig.quiet().await;
}

#[tokio::test]
async fn stopping_lets_what_is_under_way_end() {
    let upstream = Upstream::start(|mut turn| async move {
        let _ = turn.body().await;
        turn.answer(200, "done").await;
    })
    .await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    let (mut busy, idle) = (H2::connect(addr).await, H2::connect(addr).await);
    let (answer, mut to) = busy.begin(post("/"), false).await;
    upstream.until_asked(1).await;
    rig.context.state.stop(Stopping::Draining);
    soon("the idle one ends", idle.connection)
        .await
        .unwrap()
        .unwrap();
    to.send_data(Bytes::from_static(b"x"), true).unwrap();
    assert_eq!(
        soon("the answer", whole(answer)).await.unwrap().text(),
        "done"
    );
    soon("the busy one ends", busy.connection)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
    rig.quiet().await;
}

// --- Hostile clients.

/// Requests that are taken back at once, without end, are refused in the end, and cost no memory.
#[tokio::test]
async fn rapid_resets_are_bounded() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut raw = Raw::connect(rig.http(upstream.addr).await).await;
    let mut flood = Vec::new();
    for n in 0..5_000u32 {
        flood.extend(frame(1, 5, 2 * n + 1, &fields()));
        flood.extend(frame(3, 0, 2 * n + 1, &8u32.to_be_bytes()));
    }
    let _ = raw.try_say(&flood).await;
    let away = loop {
        match raw.next().await {
            Some(frame) if frame.kind == 7 => break Some(frame),
            Some(_) => {}
            None => break None,
        }
    };
    // The RST that a full socket is closed with may have overtaken it.
    if let Some(away) = away {
        assert_eq!(away.payload[7], 11, "ENHANCE_YOUR_CALM");
    }
    rig.quiet().await;
    for record in rig.closed(1).await {
        assert_ne!(record.class, Class::Open);
    }
    // Others are none the worse for it.
    let mut client = H2::connect(rig.supervisor.bound("p").unwrap()).await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_flood_of_continuations_is_refused() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut raw = Raw::connect(rig.http(upstream.addr).await).await;
    raw.say(&frame(1, 1, 1, &fields())).await;
    let more = frame(9, 0, 1, &literal("x-a", &"b".repeat(8_000)));
    for _ in 0..1_000 {
        if !raw.try_say(&more).await {
            break;
        }
    }
    while raw.next().await.is_some() {}
    rig.quiet().await;
    assert!(upstream.asked().is_empty());
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, &record.cause),
        (Class::NeverDelivered, &Cause::Proxy)
    );
}

#[tokio::test]
async fn fields_that_are_too_long_are_refused_and_recorded() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let mut raw = Raw::connect(rig.http(upstream.addr).await).await;
    // Together longer than a head may be, each frame no longer than it may be.
    raw.say(&frame(1, 1, 1, &fields())).await;
    for n in 0..5 {
        let flags = if n == 4 { 4 } else { 0 };
        let field = literal(&format!("x-{n}"), &"b".repeat(15_000));
        raw.say(&frame(9, flags, 1, &field)).await;
    }
    let answer = raw.next_of(1).await.unwrap();
    assert_eq!(answer.flags & 1, 1, "the answer ends there: 431");
    raw.say(&frame(1, 5, 3, &fields())).await;
    let next = loop {
        let frame = raw.next().await.unwrap();
        if frame.stream == 3 && frame.kind == 1 {
            break frame;
        }
    };
    assert_eq!(next.stream, 3, "the connection stands");
    let records = rig.closed(2).await;
    let refused = records.iter().find(|r| r.request.path.is_none()).unwrap();
    assert_eq!(
        (refused.class, &refused.cause),
        (Class::Substituted, &Cause::Proxy)
    );
    assert_eq!(refused.client.status, Some(431));
}

#[tokio::test]
async fn what_is_no_frame_is_refused() {
    let upstream = Upstream::echo().await;
    for bad in [
        &b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &frame(0, 0, 1, b"x"),
    ] {
        let rig = Rig::new();
        let mut raw = Raw::connect(rig.http(upstream.addr).await).await;
        raw.say(bad).await;
        let away = raw.next_of(7).await.expect("GOAWAY");
        assert_ne!(away.payload[7], 0);
        assert_eq!(raw.next().await, None);
        drop(raw);
        rig.quiet().await;
        let record = rig.closed(1).await.remove(0);
        assert_eq!(
            (record.class, &record.cause),
            (Class::NeverDelivered, &Cause::Proxy)
        );
    }
    assert_eq!(upstream.connections(), 0);
}

/// What comes with the preface, before anybody has looked at it, counts as what comes later does.
#[tokio::test]
async fn a_request_that_comes_with_the_preface_is_counted_whole() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    let mut raw = Raw(tokio::net::TcpStream::connect(addr).await.unwrap());
    let asked = [frame(1, 4, 1, &fields()), frame(0, 1, 1, b"body")].concat();
    let settings = frame(4, 0, 0, &[]);
    raw.say(&[support::http2::PREFACE, &settings, &asked].concat())
        .await;
    assert_eq!(raw.next_of(0).await.unwrap().payload, b"GET / body");
    let record = rig.closed(1).await.remove(0);
    assert_eq!(record.request.bytes, asked.len() as u64);
}

/// However the preface is cut, it is one; and what only begins like it is HTTP/1.
#[tokio::test]
async fn the_preface_is_known_in_pieces() {
    let upstream = Upstream::echo().await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    let mut raw = Raw(tokio::net::TcpStream::connect(addr).await.unwrap());
    raw.0.set_nodelay(true).unwrap();
    let whole = [
        support::http2::PREFACE,
        &frame(4, 0, 0, &[]),
        &frame(1, 5, 1, &fields()),
    ]
    .concat();
    for byte in whole {
        raw.say(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.next_of(0).await.unwrap().payload, b"GET / ");
    let mut client = Client::connect(addr).await;
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(
        client.answer().await.starts_with("HTTP/1.1 505"),
        "it is no preface"
    );
    let server = Server::http().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.http(server.addr).await).await;
    client.send("P").await;
    client.send(&support::post("/", "k", "x")[1..]).await;
    assert!(client.answer().await.contains("POST / HTTP/1.1"));
}

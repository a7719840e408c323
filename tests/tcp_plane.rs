//! Plain TCP: an operation is a connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome};
use firedrill::faults::Arg;
use firedrill::operation::Direction;
use firedrill::rules::Mode;
use firedrill::state::Change;
use support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn half_close_works_both_ways() {
    let server = Server::start(|mut c| async move {
        let mut buffer = [0; 64];
        while c.read(&mut buffer).await? > 0 {}
        c.socket.write_all(b"after your FIN").await
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(server.addr).await).await;
    client.send("question").await;
    client.fin().await;
    assert_eq!(client.rest().await, ("after your FIN".to_owned(), true));
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
        (Class::Acknowledged, Cause::None)
    );
    assert_eq!((record.request.bytes, record.client.bytes), (8, 14));
    assert!(record.upstream[0].sent_at <= record.upstream[0].answered_at);
    assert_eq!(
        rig.metric("firedrill_upstream_seconds_count{proxy=\"p\"}"),
        1.0
    );
    assert_eq!(
        rig.metric("firedrill_bytes_total{direction=\"upstream\",proxy=\"p\"}"),
        8.0
    );
    assert_eq!(
        rig.metric("firedrill_bytes_total{direction=\"downstream\",proxy=\"p\"}"),
        14.0
    );
    rig.quiet().await;
}

#[tokio::test]
async fn a_mebibyte_a_side_is_the_same_and_in_order() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let client = Client::connect(rig.tcp(server.addr).await).await;
    let data: Vec<u8> = (0..1_048_576u32).flat_map(u32::to_le_bytes).collect();
    let (mut read, mut write) = client.0.into_split();
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &sent)
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut write)
            .await
            .unwrap();
    });
    let mut got = Vec::new();
    soon(
        "all of it",
        tokio::io::AsyncReadExt::read_to_end(&mut read, &mut got),
    )
    .await
    .unwrap();
    writing.await.unwrap();
    assert!(got == data);
    assert_eq!(rig.context.held.bytes(), 0);
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(server.addr).await).await;
    client.send("x").await;
    client.expect("x").await;
    client.reset();
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        record.class,
        Class::Acknowledged,
        "every byte that was said had arrived"
    );
    rig.quiet().await;

    let resets = Server::start(|mut c| async move {
        let mut buffer = [0; 8];
        c.read(&mut buffer).await?;
        c.socket.set_zero_linger()
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(resets.addr).await).await;
    client.send("x").await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
        (Class::Unknown, Cause::Upstream)
    );
}

/// What came before was answered, and the client has it; but nobody knows of the last words.
#[tokio::test]
async fn a_connection_that_breaks_before_its_last_words_are_answered_is_unknown() {
    #[derive(Debug)]
    enum Breaks {
        Client,
        Upstream,
        Rule,
    }
    for breaks in [Breaks::Client, Breaks::Upstream, Breaks::Rule] {
        let upstream_breaks = matches!(breaks, Breaks::Upstream);
        let server = Server::start(move |mut c| async move {
            let mut buffer = [0; 8];
            let n = c.read(&mut buffer).await?;
            c.socket.write_all(&buffer[..n]).await?;
            c.read(&mut buffer).await?;
            if upstream_breaks {
                return c.socket.set_zero_linger();
            }
            c.read(&mut buffer).await.map(drop)
        })
        .await;
        let rig = Rig::new();
        let mut client = Client::connect(rig.tcp(server.addr).await).await;
        client.send("x").await;
        client.expect("x").await;
        client.send("y").await;
        until("it has arrived", || (server.seen() == ["xy"]).then_some(())).await;
        let cause = match breaks {
            Breaks::Client => {
                client.reset();
                Cause::Client
            }
            Breaks::Upstream => {
                assert_eq!(client.rest().await, (String::new(), false));
                Cause::Upstream
            }
            Breaks::Rule => {
                rig.rule(rule("reset", &[]));
                assert_eq!(client.rest().await, (String::new(), false));
                Cause::Rule("reset".into())
            }
        };
        let record = rig.closed(1).await.remove(0);
        assert_eq!(
            (record.class, record.cause, record.client.outcome),
            (Class::Unknown, cause, Outcome::Partial),
            "{breaks:?}"
        );
        assert_eq!((record.request.bytes, record.client.bytes), (2, 1));
        rig.quiet().await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_reset_and_a_clean_record() {
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(Server::nobody().await).await).await;
    assert_eq!(client.rest().await, (String::new(), false));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
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
async fn drop_never_dials_and_a_hung_connection_is_closed_when_lifted() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("drop", &[]));
    let mut client = Client::connect(addr).await;
    client.send("x").await;
    client.silent().await;
    rig.heal();
    assert_eq!(client.rest().await, (String::new(), true));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
        (Class::NeverDelivered, Cause::Rule("drop".into()))
    );
    assert!(server.seen().is_empty());
    assert_eq!(rig.counts("drop"), (1, 1));
    rig.quiet().await;

    for (then, fin) in [("close", true), ("reset", false)] {
        let mut drop = rule("drop", &support::then(then));
        drop.name = then.to_owned();
        rig.rule(drop);
        let mut client = Client::connect(addr).await;
        assert_eq!(client.rest().await, (String::new(), fin), "{then}");
        rig.heal();
    }
}

#[tokio::test]
async fn response_loss_delivers_everything_and_gives_nothing_back() {
    for (then, fin) in [("close", true), ("reset", false), ("hang", true)] {
        let server = Server::echo().await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        rig.rule(rule("response_loss", &support::then(then)));
        let mut client = Client::connect(addr).await;
        client.send("take this").await;
        if then != "hang" {
            client.fin().await;
        }
        until("the upstream has it all", || {
            (server.seen().first().is_some_and(|s| s == "take this")).then_some(())
        })
        .await;
        if then == "hang" {
            until("it is injected", || {
                (rig.counts("response_loss").1 == 1).then_some(())
            })
            .await;
            client.silent().await;
            rig.heal();
        }
        assert_eq!(client.rest().await, (String::new(), fin), "{then}");
        let record = rig.closed(1).await.remove(0);
        assert_eq!(record.class, Class::Unseen, "{then}");
        assert_eq!(record.cause, Cause::Rule("response_loss".into()));
        assert_eq!((record.upstream[0].bytes, record.client.bytes), (9, 0));
    }
}

#[tokio::test]
async fn response_loss_reaches_a_connection_that_stood_before() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(server.addr).await).await;
    client.send("before").await;
    client.expect("before").await;
    rig.rule(rule("response_loss", &[]));
    client.send("after").await;
    until("it is injected", || {
        (rig.counts("response_loss") == (1, 1)).then_some(())
    })
    .await;
    client.silent().await;
    rig.off("response_loss");
    assert_eq!(
        client.rest().await,
        (String::new(), true),
        "a stream with a hole is closed"
    );
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Unseen, Outcome::Partial)
    );
    assert_eq!((record.upstream[0].bytes, record.client.bytes), (11, 6));
}

/// A copy may overtake the connection that it is a copy of; neither is taken for the other.
#[tokio::test]
async fn a_copy_may_be_delivered_first() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("duplicate", &[]));
    let late = Arg::Duration(Duration::from_millis(100));
    rig.rule(rule("slow_connect", &[("delay", late)]));
    let mut client = Client::connect(addr).await;
    client.send("hello").await;
    client.expect("hello").await;
    client.fin().await;
    assert_eq!(client.rest().await, (String::new(), true));
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.deliveries),
        (Class::Acknowledged, 2),
        "{record:?}"
    );
    let [copy, own] = &record.upstream[..] else {
        panic!("{record:?}");
    };
    for delivery in [copy, own] {
        assert!(delivery.answered_at >= delivery.sent_at, "{record:?}");
        assert_eq!((delivery.bytes, &delivery.error), (5, &None));
    }
    let ahead = own.sent_at.unwrap().since(copy.sent_at.unwrap());
    assert!(ahead >= Duration::from_millis(50), "{record:?}");
}

#[tokio::test]
async fn duplicate_replays_the_clients_bytes() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("duplicate", &[("copies", Arg::Count(2))]));
    let mut client = Client::connect(addr).await;
    client.send("one").await;
    client.expect("one").await;
    client.send("two").await;
    client.expect("two").await;
    client.fin().await;
    assert_eq!(client.rest().await, (String::new(), true));
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(server.seen(), ["onetwo"; 3]);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 3));
    assert_eq!(rig.counts("duplicate"), (1, 1));
}

#[tokio::test]
async fn delay_counts_from_arrival_and_does_not_cut_throughput() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut delay = rule("delay", &latency(60));
    delay.direction = Some(Direction::Downstream);
    rig.rule(delay);
    let mut client = Client::connect(addr).await;
    let start = Instant::now();
    for n in 0..10 {
        client.send(format!("{n}")).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.expect("0123456789").await;
    let took = start.elapsed();
    // Serial delays would take 600 ms and more; from arrival it is the last send and one delay.
    assert!(
        took >= Duration::from_millis(150) && took < Duration::from_millis(450),
        "{took:?}"
    );
    client.send("x").await;
    let sent = Instant::now();
    client.expect("x").await;
    assert!(sent.elapsed() >= Duration::from_millis(60), "never early");
}

#[tokio::test]
async fn delays_add_and_lifting_one_leaves_the_other() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut short = rule("delay", &latency(50));
    short.direction = Some(Direction::Upstream);
    let mut long = rule("delay", &latency(3_600_000));
    long.direction = Some(Direction::Upstream);
    long.name = "long".to_owned();
    rig.rule(short);
    rig.rule(long);
    let mut client = Client::connect(addr).await;
    let start = Instant::now();
    client.send("x").await;
    until("both are at work", || {
        (rig.counts("long") == (1, 1) && rig.counts("delay") == (1, 1)).then_some(())
    })
    .await;
    rig.off("long");
    client.expect("x").await;
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_rule_acts_on_connections_that_stood_before_and_none_is_hurt_by_toggling() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut client = Client::connect(addr).await;
    rig.rule(rule("delay", &latency(1)));
    for n in 0..200 {
        let toggle = Change::SwitchRule(
            "delay".to_owned(),
            n % 2 == 0,
            firedrill::rules::Ttl::Unsaid,
        );
        rig.apply(toggle);
        let text = format!("message {n};");
        client.send(&text).await;
        client.expect(&text).await;
    }
    client.fin().await;
    client.rest().await;
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        record.faults.len(),
        1,
        "one line a rule, however often it was toggled"
    );
    assert_eq!(
        (record.class, rig.counts("delay")),
        (Class::Acknowledged, (1, 1))
    );
}

#[tokio::test]
async fn a_blackhole_delivers_on_heal_what_was_sent_meanwhile() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut live = Client::connect(addr).await;
    live.send("before").await;
    live.expect("before").await;
    rig.apply(Change::AddPartition(partition(Mode::Blackhole, &[])));
    let mut new = Client::connect(addr).await;
    let mut leaves = Client::connect(addr).await;
    for client in [&mut live, &mut new, &mut leaves] {
        client.send("during").await;
    }
    until("all three are cut", || {
        let cuts = rig.metric("firedrill_partition_cuts_total{partition=\"split\",proxy=\"p\"}");
        (cuts == 3.0).then_some(())
    })
    .await;
    live.silent().await;
    leaves.reset();
    until("the reset is seen", || {
        (rig.metric("firedrill_connections_open{proxy=\"p\"}") == 2.0).then_some(())
    })
    .await;
    assert_eq!(server.seen(), ["before"]);
    rig.heal();
    live.expect("during").await;
    new.expect("during").await;
    drop((live, new));
    let records = rig.closed(3).await;
    assert_eq!(records[2].class, Class::NeverDelivered);
    assert_eq!(records[2].cause, Cause::Partition("split".into()));
    assert!(records[..2].iter().all(|r| r.class == Class::Acknowledged));
    assert_eq!(server.seen().len(), 2);
    rig.quiet().await;
}

#[tokio::test]
async fn the_bound_on_connections_is_kept_and_recorded() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let mut edge = firedrill::rules::Edge::new("p", "127.0.0.1:0", &server.addr.to_string());
    edge.max_connections = 1;
    let addr = rig
        .supervisor
        .start(edge, firedrill::state::Source::File)
        .await
        .unwrap()
        .unwrap();
    let mut first = Client::connect(addr).await;
    first.send("x").await;
    first.expect("x").await;
    let mut second = Client::connect(addr).await;
    assert_eq!(second.rest().await, (String::new(), false));
    drop((first, second));
    let records = rig.closed(2).await;
    assert_eq!(
        (records[1].class, records[1].cause.clone()),
        (Class::NeverDelivered, Cause::Proxy)
    );
}

#[tokio::test]
async fn stopping_ends_every_wait_in_bounded_time() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("drop", &[]));
    let mut hung = Client::connect(addr).await;
    until("it hangs", || (rig.counts("drop") == (1, 1)).then_some(())).await;
    rig.off("drop");
    let mut idle = Client::connect(addr).await;
    idle.send("x").await;
    idle.expect("x").await;
    let start = Instant::now();
    rig.supervisor.shut_down(Duration::from_millis(100)).await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(hung.rest().await, (String::new(), true));
    assert_eq!(idle.rest().await, (String::new(), true));
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn half_close_has_a_deadline_once_no_byte_moves() {
    let deaf = Server::start(|mut c| async move {
        let mut buffer = [0; 8];
        while c.read(&mut buffer).await? > 0 {}
        std::future::pending::<()>().await;
        Ok(())
    })
    .await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(deaf.addr).await).await;
    client.send("x").await;
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
        (Class::Unknown, Cause::Client)
    );
    rig.quiet().await;
}

#[tokio::test]
async fn a_client_that_resets_behind_a_stall_is_noticed() {
    let server = Server::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("bandwidth", &[("rate", Arg::Rate(0))]));
    let client = Client::connect(addr).await;
    let (read, mut write) = client.0.into_split();
    // Until nothing more is taken.
    let much = vec![0; 1 << 20];
    let filling = async {
        while tokio::io::AsyncWriteExt::write(&mut write, &much)
            .await
            .is_ok()
        {}
    };
    let _ = tokio::time::timeout(Duration::from_millis(300), filling).await;
    Client(read.reunite(write).unwrap()).reset();
    until("it is seen to be gone", || {
        (rig.metric("firedrill_connections_open{proxy=\"p\"}") == 0.0).then_some(())
    })
    .await;
    assert_eq!(rig.closed(1).await[0].client.outcome, Outcome::Left);
}

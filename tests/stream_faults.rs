//! Every fault that acts on connections or on their bytes: what goes over the wire, what the record
//! says, what is counted, what lifting does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Record};
use firedrill::faults::{self, Arg};
use firedrill::operation::{Direction, Phase};
use firedrill::rules::{Rule, Ttl};
use firedrill::state::Change;
use support::raw::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Given = Vec<(&'static str, Arg)>;

fn time(name: &'static str, ms: u64) -> (&'static str, Arg) {
    (name, Arg::Duration(Duration::from_millis(ms)))
}

fn size(name: &'static str, bytes: u64) -> (&'static str, Arg) {
    (name, Arg::Size(bytes))
}

fn rate(bytes: u64) -> (&'static str, Arg) {
    ("rate", Arg::Rate(bytes))
}

fn word(name: &'static str, word: &'static str) -> (&'static str, Arg) {
    (name, Arg::Choice(word))
}

fn directed(kind: &str, direction: Direction, args: &[(&'static str, Arg)]) -> Rule {
    let mut rule = rule(kind, args);
    rule.direction = Some(direction);
    rule
}

/// What comes back of the bytes that a client sends to an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// All of them.
    Whole,
    /// The first so many.
    First(usize),
    /// All, but so many of them changed.
    Changed(usize),
}

/// What is seen of one connection under a fault.
#[derive(Debug, Clone, Copy)]
struct Seen {
    back: Back,
    client: Ended,
    /// How each connection of the upstream ended: none, if none was dialled.
    upstream: &'static [Ended],
    class: Class,
    /// Whether the rule is the cause, and when it acted; `None`: it left the connection alone.
    phase: Option<Phase>,
}

/// As if there were no fault.
const UNTOUCHED: Seen = Seen {
    back: Back::Whole,
    client: Ended::Fin,
    upstream: &[Ended::Fin],
    class: Class::Acknowledged,
    phase: None,
};

/// Everything comes, only otherwise.
const WHOLE: Seen = Seen {
    phase: Some(Phase::Stream),
    ..UNTOUCHED
};

/// Nothing is dialled, nothing comes.
const SHUT: Seen = Seen {
    back: Back::First(0),
    client: Ended::Fin,
    upstream: &[],
    class: Class::NeverDelivered,
    phase: Some(Phase::Connect),
};

const fn cut_after(bytes: usize, client: Ended) -> Seen {
    Seen {
        back: Back::First(bytes),
        client,
        class: Class::Unseen,
        ..WHOLE
    }
}

struct Case {
    kind: &'static str,
    args: Given,
    direction: Option<Direction>,
    /// On a connection made under the rule.
    new: Seen,
    /// On one that stood before.
    standing: Seen,
    /// The fault is lifted once it has acted.
    lift: bool,
    /// It takes at least this long.
    least: Duration,
}

const SENT: usize = 3000;

fn cases() -> Vec<Case> {
    let case = |kind, args, seen| Case {
        kind,
        args,
        direction: None,
        new: seen,
        standing: seen,
        lift: false,
        least: Duration::ZERO,
    };
    let takes = |ms, case| Case {
        least: Duration::from_millis(ms),
        ..case
    };
    let lifted = |case| Case { lift: true, ..case };
    let down = |case| Case {
        direction: Some(Direction::Downstream),
        ..case
    };
    // It acts when a connection is made, and on no other.
    let first = |case| Case {
        standing: UNTOUCHED,
        ..case
    };
    let hour = 3_600_000;
    vec![
        // Both ways: there and back.
        takes(100, case("delay", vec![time("latency", 50)], WHOLE)),
        lifted(case("delay", vec![time("latency", hour)], WHOLE)),
        first(case("drop", vec![word("then", "close")], SHUT)),
        first(case(
            "drop",
            vec![word("then", "reset")],
            Seen {
                client: Ended::Rst,
                ..SHUT
            },
        )),
        first(lifted(case("drop", vec![], SHUT))),
        case(
            "response_loss",
            vec![word("then", "reset")],
            cut_after(0, Ended::Rst),
        ),
        case(
            "response_loss",
            vec![word("then", "close")],
            cut_after(0, Ended::Fin),
        ),
        lifted(case("response_loss", vec![], cut_after(0, Ended::Fin))),
        first(case(
            "duplicate",
            vec![],
            Seen {
                upstream: &[Ended::Fin, Ended::Fin],
                ..WHOLE
            },
        )),
        case(
            "reset",
            vec![size("after", SENT as u64 + 1000)],
            cut_after(1000, Ended::Rst),
        ),
        case(
            "reset",
            vec![size("after", SENT as u64 + 1000), word("side", "upstream")],
            Seen {
                upstream: &[Ended::Rst],
                ..cut_after(1000, Ended::Fin)
            },
        ),
        case(
            "reset",
            vec![size("after", SENT as u64 + 1000), word("side", "both")],
            Seen {
                upstream: &[Ended::Rst],
                ..cut_after(1000, Ended::Rst)
            },
        ),
        case(
            "close",
            vec![size("after", SENT as u64 + 1000)],
            cut_after(1000, Ended::Fin),
        ),
        first(case(
            "refuse",
            vec![],
            Seen {
                client: Ended::Rst,
                ..SHUT
            },
        )),
        first(takes(
            50,
            case(
                "slow_connect",
                vec![time("delay", 50)],
                Seen {
                    phase: Some(Phase::Connect),
                    ..WHOLE
                },
            ),
        )),
        first(lifted(case(
            "slow_connect",
            vec![time("delay", hour)],
            Seen {
                phase: Some(Phase::Connect),
                ..WHOLE
            },
        ))),
        takes(30, case("bandwidth", vec![rate(100_000)], WHOLE)),
        lifted(case("bandwidth", vec![rate(0)], WHOLE)),
        takes(
            40,
            down(case(
                "slice",
                vec![size("size", 600), time("gap", 10)],
                WHOLE,
            )),
        ),
        lifted(case(
            "slice",
            vec![size("size", 10), time("gap", hour)],
            WHOLE,
        )),
        // Nothing is held, but the one side wrote once and the other reads many times.
        case("slice", vec![size("size", 10)], WHOLE),
        down(case(
            "limit_data",
            vec![size("bytes", 1000)],
            cut_after(1000, Ended::Fin),
        )),
        takes(50, case("slow_close", vec![time("delay", 50)], WHOLE)),
        lifted(case("slow_close", vec![time("delay", hour)], WHOLE)),
        takes(
            50,
            down(case(
                "timeout",
                vec![time("after", 50)],
                cut_after(0, Ended::Fin),
            )),
        ),
        lifted(down(case("timeout", vec![], cut_after(0, Ended::Fin)))),
        down(case(
            "corrupt",
            vec![("bytes", Arg::Count(3))],
            Seen {
                back: Back::Changed(3),
                ..WHOLE
            },
        )),
        lifted(case("packet_loss", vec![("rate", Arg::Ratio(1.0))], WHOLE)),
    ]
}

#[test]
fn no_kind_is_without_a_case() {
    let cases = cases();
    for kind in faults::KINDS.iter().filter(|kind| kind.fits(false)) {
        let mut own = cases.iter().filter(|case| case.kind == kind.name);
        let first = own.next();
        assert!(first.is_some(), "`{}` has no case here", kind.name);
        let lifted = first.is_some_and(|case| case.lift) || own.any(|case| case.lift);
        // A copy that is due at once has nothing that could be lifted; see below for one with a gap.
        let waits = kind.lifted.is_some() && kind.name != "duplicate";
        assert_eq!(lifted, waits, "`{}` and being lifted", kind.name);
    }
    assert!(cases.iter().all(|case| faults::find(case.kind).is_some()));
}

#[tokio::test]
async fn each_kind_on_a_new_connection() {
    for case in cases() {
        meet(&case, false).await;
    }
}

#[tokio::test]
async fn each_kind_on_a_connection_that_stood_before() {
    for case in cases() {
        meet(&case, true).await;
    }
}

/// One client under one fault: says something, closes its side, reads to the end.
async fn meet(case: &Case, standing: bool) {
    let (kind, seen) = match standing {
        true => (case.kind, case.standing),
        false => (case.kind, case.new),
    };
    let what = format!("{kind} {:?} standing: {standing}", case.args);
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let mut rule = rule(kind, &case.args);
    rule.direction = case.direction;
    let before = if standing { 6 } else { 0 };
    // A dial that is late is late from the accept on, which may come before connecting has ended.
    let (mut client, begun) = if standing {
        let mut client = Client::connect(addr).await;
        client.send("before").await;
        client.expect("before").await;
        rig.rule(rule);
        (client, Instant::now())
    } else {
        rig.rule(rule);
        let begun = Instant::now();
        (Client::connect(addr).await, begun)
    };
    // Whoever is refused at once can't even say it, and is told of the RST here, not by a read.
    let said = client.0.write_all(&stream(0, SENT)).await;
    let reset = said.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    // A connection that the proxy is to end in the middle is still open on both sides.
    if !matches!(seen.back, Back::First(1..)) {
        let _ = client.0.shutdown().await;
    }
    if case.lift && seen.phase.is_some() {
        until("it has acted", || {
            (rig.counts(kind) == (1, 1)).then_some(())
        })
        .await;
        rig.off(kind);
    }
    let (got, ended) = read_to_end(&mut client.0).await;
    let ended = if reset { Ended::Rst } else { ended };
    let took = begun.elapsed();
    drop(client);

    // The wire.
    assert_eq!(ended, seen.client, "{what}");
    let wrong = (got.iter().enumerate()).filter(|(n, byte)| **byte != byte_at(*n));
    let wrong = wrong.count();
    let back = match (got.len(), wrong) {
        (SENT, 0) => Back::Whole,
        (SENT, n) => Back::Changed(n),
        (n, 0) => Back::First(n),
        (n, wrong) => panic!("{what}: {n} bytes, {wrong} of them wrong"),
    };
    assert_eq!(back, seen.back, "{what}");
    for (n, ended) in seen.upstream.iter().enumerate() {
        let saw = server.ended(n).await;
        assert_eq!(saw.ended, Some(*ended), "{what}: upstream {n}");
        assert!(
            saw.bytes[before..] == stream(0, SENT),
            "{what}: upstream {n} got all"
        );
    }
    assert_eq!(server.saw().len(), seen.upstream.len(), "{what}: dials");
    if seen.phase.is_some() {
        assert!(took >= case.least, "{what}: {took:?}");
    }

    // The record.
    let records = rig.closed(1).await;
    assert_eq!(records.len(), 1, "{what}");
    record(&records[0], case, seen, &what);
    let told = match back {
        Back::First(n) => n,
        _ => SENT,
    };
    assert_eq!(records[0].client.bytes, (before + told) as u64, "{what}");

    // The counters.
    let times = u64::from(seen.phase.is_some());
    assert_eq!(rig.counts(kind), (times, times), "{what}");
    for what in ["selected", "injected"] {
        let labels = format!("{{fault=\"{kind}\",proxy=\"p\",rule=\"{kind}\"}}");
        let series = format!("firedrill_faults_{what}_total{labels}");
        assert_eq!(rig.metric(&series), times as f64, "{series}");
    }
    rig.quiet().await;
    assert_eq!(rig.context.held.bytes(), 0, "{what}");
}

fn record(record: &Record, case: &Case, seen: Seen, what: &str) {
    assert_eq!(record.class, seen.class, "{what}: {record:?}");
    let cause = match seen.class {
        Class::Acknowledged => Cause::None,
        _ => Cause::Rule(case.kind.into()),
    };
    assert_eq!(record.cause, cause, "{what}");
    let acted = record.faults.iter().map(|fault| {
        assert_eq!((&*fault.rule, &*fault.kind), (case.kind, case.kind));
        (fault.injected, fault.phase)
    });
    let expected = seen.phase.map(|phase| (true, phase));
    assert_eq!(
        acted.collect::<Vec<_>>(),
        expected.into_iter().collect::<Vec<_>>(),
        "{what}"
    );
    let deliveries = seen.upstream.len() as u32;
    assert_eq!(record.deliveries, deliveries, "{what}");
}

/// How far a figure may lie off on a machine that does other things too: a share of it.
const MARGIN: f64 = 0.25;

#[tokio::test]
async fn a_reset_after_a_time_hits_the_side_it_names_and_the_other_gets_a_fin() {
    use Ended::{Fin, Rst};
    for (kind, side, client_sees, upstream_sees) in [
        ("reset", "client", Rst, Fin),
        ("reset", "upstream", Fin, Rst),
        ("reset", "both", Rst, Rst),
        ("close", "client", Fin, Fin),
        ("close", "upstream", Fin, Fin),
        ("close", "both", Fin, Fin),
    ] {
        for (after, standing) in [(0, false), (0, true), (60, false), (60, true)] {
            let what = format!("{kind} {side} after {after} ms, standing: {standing}");
            let server = Watched::echo().await;
            let rig = Rig::new();
            let addr = rig.tcp(server.addr).await;
            let end = rule(kind, &[time("after", after), word("side", side)]);
            let (mut client, begun);
            if standing {
                client = Client::connect(addr).await;
                client.send("x").await;
                client.expect("x").await;
                begun = Instant::now();
                rig.rule(end);
            } else {
                begun = Instant::now();
                rig.rule(end);
                client = Client::connect(addr).await;
                if after > 0 {
                    client.send("x").await;
                    client.expect("x").await;
                }
            }
            let (got, ended) = read_to_end(&mut client.0).await;
            assert!(begun.elapsed() >= Duration::from_millis(after), "{what}");
            assert_eq!((got.len(), ended), (0, client_sees), "{what}");
            drop(client);
            if !server.saw().is_empty() || side != "client" {
                assert_eq!(server.ended(0).await.ended, Some(upstream_sees), "{what}");
            }
            let record = rig.closed(1).await.remove(0);
            assert_eq!(rig.counts(kind), (1, 1), "{what}");
            assert!(record.faults[0].injected, "{what}");
            if after == 0 && !standing {
                assert_eq!(record.class, Class::NeverDelivered, "{what}");
                assert_eq!(record.cause, Cause::Rule(kind.into()), "{what}");
            } else {
                // What was asked so far was answered and acknowledged.
                assert_eq!(record.class, Class::Acknowledged, "{what}");
            }
            rig.quiet().await;
        }
    }
}

#[tokio::test]
async fn exactly_so_many_bytes_arrive_before_the_end() {
    // More than the sockets' buffers hold, while the upstream goes on sending.
    for bytes in [1, 1000, 65_536, 300_001, 3_000_000] {
        for (kind, side, ends) in [
            ("reset", "client", (Ended::Rst, Ended::Fin)),
            ("reset", "upstream", (Ended::Fin, Ended::Rst)),
            ("close", "both", (Ended::Fin, Ended::Fin)),
            ("limit_data", "", (Ended::Fin, Ended::Fin)),
        ] {
            let what = format!("{kind} {side} after {bytes}");
            let server = Watched::start(Does::Pour).await;
            let rig = Rig::new();
            let addr = rig.tcp(server.addr).await;
            rig.rule(match kind {
                "limit_data" => directed(kind, Direction::Downstream, &[size("bytes", bytes)]),
                // The client's one byte counts too.
                _ => rule(kind, &[size("after", bytes + 1), word("side", side)]),
            });
            let mut client = Client::connect(addr).await;
            client.send("x").await;
            let mut got = Vec::new();
            let mut buffer = vec![0; 10_000];
            let ended = loop {
                match soon("bytes or the end", client.0.read(&mut buffer)).await {
                    Ok(0) => break Ended::Fin,
                    Ok(n) => got.extend_from_slice(&buffer[..n]),
                    Err(_) => break Ended::Rst,
                }
            };
            check(0, &got);
            assert_eq!((got.len() as u64, ended), (bytes, ends.0), "{what}");
            drop(client);
            assert_eq!(server.ended(0).await.ended, Some(ends.1), "{what}");
            let record = rig.closed(1).await.remove(0);
            assert_eq!(record.client.bytes, bytes, "{what}");
            assert_eq!(
                (record.class, record.cause),
                (Class::Unseen, Cause::Rule(kind.into())),
                "{what}"
            );
            rig.quiet().await;
            assert_eq!(rig.context.held.bytes(), 0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_limit_upstream_delivers_so_much_and_ends_both() {
    for bytes in [1u64, 700, 200_000] {
        let server = Watched::start(Does::Listen).await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        rig.rule(directed(
            "limit_data",
            Direction::Upstream,
            &[size("bytes", bytes)],
        ));
        let mut client = Client::connect(addr).await;
        client.send(stream(0, 200_000)).await;
        let (got, ended) = read_to_end(&mut client.0).await;
        assert_eq!((got.len(), ended), (0, Ended::Fin));
        let saw = server.ended(0).await;
        assert_eq!(
            (saw.bytes.len() as u64, saw.ended),
            (bytes, Some(Ended::Fin))
        );
        check(0, &saw.bytes);
        let record = rig.closed(1).await.remove(0);
        assert_eq!(record.class, Class::Unknown, "sent, and no answer seen");
        assert_eq!(record.cause, Cause::Rule("limit_data".into()));
    }
}

#[tokio::test]
async fn a_limit_counts_from_when_the_rule_met_the_connection() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let mut client = Client::connect(rig.tcp(server.addr).await).await;
    client.send(stream(0, 5000)).await;
    client.expect_stream(0, 5000).await;
    rig.rule(directed(
        "limit_data",
        Direction::Downstream,
        &[size("bytes", 100)],
    ));
    client.send(stream(0, 60)).await;
    client.expect_stream(0, 60).await;
    client.send(stream(0, 60)).await;
    let (got, ended) = read_to_end(&mut client.0).await;
    assert_eq!((got, ended), (stream(0, 40), Ended::Fin));
}

/// Sends so much, and answers how long its echo took to come back whole.
async fn echo_time(client: &mut Client, len: usize) -> Duration {
    let begun = Instant::now();
    let (mut read, mut write) = client.0.split();
    let sent = stream(0, len);
    let mut got = vec![0; len];
    let (wrote, was_read) = soon("the echo", async {
        tokio::join!(write.write_all(&sent), read.read_exact(&mut got))
    })
    .await;
    wrote.unwrap();
    was_read.unwrap();
    assert!(got == sent);
    begun.elapsed()
}

#[tokio::test]
async fn bandwidth_is_what_was_asked_for_each_connection_or_shared_by_the_proxy() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    // 0.5 s at the rate: for each of two connections, or for both together.
    for (per, each) in [("connection", 500_000), ("proxy", 250_000)] {
        let mut limit = directed(
            "bandwidth",
            Direction::Downstream,
            &[rate(1_000_000), word("per", per)],
        );
        limit.name = per.to_owned();
        let (mut one, mut two) = (Client::connect(addr).await, Client::connect(addr).await);
        rig.rule(limit);
        let (first, second) = tokio::join!(echo_time(&mut one, each), echo_time(&mut two, each));
        let took = first.max(second).as_secs_f64();
        let ratio = took / 0.5;
        println!("bandwidth 1MB/s per {per}: 0.5 s' worth in {took:.3} s, ratio {ratio:.3}");
        assert!((0.99..1.0 + MARGIN).contains(&ratio), "per {per}: {ratio}");
        assert_eq!(rig.counts(per), (2, 2));
        rig.off(per);
        drop((one, two));
        rig.quiet().await;
    }
}

#[tokio::test]
async fn each_direction_has_the_bandwidth_for_itself() {
    for direction in [None, Some(Direction::Upstream), Some(Direction::Downstream)] {
        let server = Watched::echo().await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        let mut limit = rule("bandwidth", &[rate(1_000_000)]);
        limit.direction = direction;
        rig.rule(limit);
        let mut client = Client::connect(addr).await;
        let took = echo_time(&mut client, 200_000).await.as_secs_f64();
        // Both ways at once: the echo begins while the rest is still on its way. One after the other,
        // or out of one bucket, would take twice as long.
        let ratio = took / 0.2;
        assert!((0.99..1.8).contains(&ratio), "{direction:?}: {ratio}");
    }
}

#[tokio::test]
async fn rate_zero_stalls_keeps_what_was_sent_and_holds_the_sender_back() {
    let server = Watched::start(Does::Listen).await;
    let rig = Rig::new();
    let client = Client::connect(rig.tcp(server.addr).await).await;
    rig.rule(rule("bandwidth", &[rate(0)]));
    let sent = Arc::new(AtomicUsize::new(0));
    let (_read, mut write) = client.0.into_split();
    let counter = Arc::clone(&sent);
    let writing = tokio::spawn(async move {
        // More than two pairs of sockets' buffers take.
        for n in 0..400 {
            write.write_all(&stream(n * 65_536, 65_536)).await.unwrap();
            counter.fetch_add(1, Relaxed);
        }
        write.shutdown().await.unwrap();
    });
    until("it stalls", || {
        (rig.counts("bandwidth") == (1, 1)).then_some(())
    })
    .await;
    let mut last = 0;
    let mut same = 0;
    until("the sender is held back", || {
        let now = sent.load(Relaxed);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same > 20).then_some(())
    })
    .await;
    assert!(last < 400, "the sender feels it");
    assert!(server.saw().first().is_none_or(|saw| saw.bytes.is_empty()));
    assert!(rig.context.held.bytes() <= 2 * 65_536, "little is taken in");
    rig.off("bandwidth");
    soon("all is sent", writing).await.unwrap();
    let saw = server.ended(0).await;
    assert_eq!(
        (saw.bytes.len(), saw.ended),
        (400 * 65_536, Some(Ended::Fin))
    );
    check(0, &saw.bytes);
}

#[tokio::test]
async fn slices_come_one_by_one_with_their_gaps() {
    for (direction, variation) in [(Direction::Upstream, 0), (Direction::Upstream, 40)] {
        let server = Watched::start(Does::Listen).await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        let args = [
            size("size", 100),
            size("variation", variation),
            time("gap", 20),
        ];
        rig.rule(directed("slice", direction, &args));
        let mut client = Client::connect(addr).await;
        client.send(stream(0, 1000)).await;
        client.fin().await;
        let saw = server.ended(0).await;
        check(0, &saw.bytes);
        assert_eq!(saw.bytes.len(), 1000);
        let sizes: Vec<usize> = saw.reads.iter().map(|(_, n)| *n).collect();
        let slow = sizes.len() < 7;
        assert!(!slow, "read together: {sizes:?}");
        // A reader that was late finds two slices at once: each read but the last is whole slices.
        let (low, high) = (100 - variation as usize, 100 + variation as usize);
        for n in &sizes[..sizes.len() - 1] {
            let fits = (1..=5).any(|slices| (slices * low..=slices * high).contains(n));
            assert!(fits, "{n} of {sizes:?}");
        }
        if variation > 0 {
            assert!(sizes.iter().any(|n| n % 100 != 0), "{sizes:?}");
        }
        let first = saw.reads[0].0;
        let last = saw.reads[saw.reads.len() - 1].0;
        let gaps = (1000usize.div_ceil(high) - 1) as u32;
        // The first may have been read late, never the last one early.
        let least = Duration::from_millis(20) * gaps - Duration::from_millis(15);
        assert!(last - first >= least, "{:?}", last - first);
    }
}

async fn corrupted(seed: u64, bytes: u64, direction: Direction) -> Vec<usize> {
    let server = Watched::echo().await;
    let rig = Rig::with_seed(seed);
    let addr = rig.tcp(server.addr).await;
    rig.rule(directed(
        "corrupt",
        direction,
        &[("bytes", Arg::Count(bytes))],
    ));
    let mut client = Client::connect(addr).await;
    let mut got = Vec::new();
    // One at a time, so that each is read whole and alone.
    for n in 0..20 {
        client.send(stream(n * 500, 500)).await;
        let mut echo = vec![0; 500];
        soon("the echo", client.0.read_exact(&mut echo))
            .await
            .unwrap();
        got.extend(echo);
    }
    client.fin().await;
    assert_eq!(read_to_end(&mut client.0).await, (Vec::new(), Ended::Fin));
    assert_eq!(server.ended(0).await.bytes.len(), got.len());
    assert_eq!(rig.counts("corrupt"), (1, 1));
    let wrong = got.iter().enumerate();
    let wrong = wrong.filter(|(n, byte)| **byte != byte_at(*n));
    wrong.map(|(n, _)| n).collect()
}

#[tokio::test]
async fn corrupt_changes_so_many_bytes_at_places_that_the_seed_decides() {
    for direction in Direction::ALL {
        for bytes in [1, 7, 20] {
            let places = corrupted(42, bytes, direction).await;
            assert_eq!(places.len() as u64, bytes, "{places:?}");
            assert_eq!(places, corrupted(42, bytes, direction).await, "same seed");
            assert_ne!(
                places,
                corrupted(43, bytes, direction).await,
                "another seed"
            );
        }
    }
    // Without a direction, so many each way.
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("corrupt", &[("bytes", Arg::Count(2))]));
    let mut client = Client::connect(addr).await;
    client.send(stream(0, 50_000)).await;
    client.fin().await;
    let (got, _) = read_to_end(&mut client.0).await;
    let there = server.ended(0).await.bytes;
    let differ = |a: &[u8], b: &[u8]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    };
    assert_eq!(differ(&there, &stream(0, 50_000)), 2);
    assert_eq!(differ(&got, &there), 2);
}

#[tokio::test]
async fn bytes_vanish_until_the_time_after_the_last_of_them_is_over() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(directed(
        "timeout",
        Direction::Upstream,
        &[time("after", 200)],
    ));
    let mut client = Client::connect(addr).await;
    let mut last = Instant::now();
    for _ in 0..5 {
        last = Instant::now();
        client.send("vanishes").await;
        client.silent_for(Duration::from_millis(60)).await;
    }
    assert_eq!(read_to_end(&mut client.0).await, (Vec::new(), Ended::Fin));
    assert!(
        last.elapsed() >= Duration::from_millis(200),
        "{:?}",
        last.elapsed()
    );
    assert_eq!(server.ended(0).await.bytes.len(), 0);
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.cause),
        (Class::NeverDelivered, Cause::Rule("timeout".into()))
    );
}

#[tokio::test]
async fn slow_close_is_late_with_the_end_and_not_with_the_bytes() {
    for (direction, least) in [
        (Some(Direction::Upstream), 150),
        (Some(Direction::Downstream), 150),
        (None, 300),
    ] {
        let server = Watched::echo().await;
        let rig = Rig::new();
        let addr = rig.tcp(server.addr).await;
        let mut slow = rule("slow_close", &[time("delay", 150)]);
        slow.direction = direction;
        rig.rule(slow);
        let mut client = Client::connect(addr).await;
        client.send("at once").await;
        client.expect("at once").await;
        let begun = Instant::now();
        client.fin().await;
        assert_eq!(read_to_end(&mut client.0).await, (Vec::new(), Ended::Fin));
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(least),
            "{direction:?}: {took:?}"
        );
        drop(client);
        assert_eq!(rig.closed(1).await[0].class, Class::Acknowledged);
    }
}

#[tokio::test]
async fn packet_loss_stalls_where_the_seed_says() {
    async fn stalls(seed: u64) -> Vec<bool> {
        let server = Watched::echo().await;
        let rig = Rig::with_seed(seed);
        let addr = rig.tcp(server.addr).await;
        let args = [("rate", Arg::Ratio(0.2))];
        rig.rule(directed("packet_loss", Direction::Downstream, &args));
        let mut client = Client::connect(addr).await;
        let mut stalls = Vec::new();
        for n in 0..10 {
            let text = format!("segment {n}");
            let begun = Instant::now();
            client.send(&text).await;
            client.expect(&text).await;
            // A lost segment that none follows waits for the retransmission timeout.
            stalls.push(begun.elapsed() >= Duration::from_millis(200));
        }
        assert_eq!(
            rig.counts("packet_loss"),
            (1, u64::from(stalls.contains(&true)))
        );
        stalls
    }
    let (one, again, other) = tokio::join!(stalls(1), stalls(1), stalls(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.contains(&true) && one.contains(&false), "{one:?}");
}

#[tokio::test]
async fn slow_connect_keeps_what_the_client_sends_meanwhile() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("slow_connect", &[time("delay", 150)]));
    let begun = Instant::now();
    let mut client = Client::connect(addr).await;
    client.send("early").await;
    until("it waits", || {
        (rig.counts("slow_connect") == (1, 1)).then_some(())
    })
    .await;
    assert!(server.saw().is_empty(), "nothing is dialled yet");
    client.expect("early").await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    // Once it stands, nothing is late.
    let rounds = echo_time(&mut client, 100).await;
    assert!(rounds < Duration::from_millis(150), "{rounds:?}");
}

#[tokio::test]
async fn pending_copies_are_dropped_when_lifted() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(rule("duplicate", &[time("gap", 3_600_000)]));
    let mut client = Client::connect(addr).await;
    client.send("once").await;
    client.expect("once").await;
    rig.off("duplicate");
    client.send("more").await;
    client.expect("more").await;
    client.fin().await;
    assert_eq!(read_to_end(&mut client.0).await, (Vec::new(), Ended::Fin));
    drop(client);
    let record = rig.closed(1).await.remove(0);
    assert_eq!((record.class, record.deliveries), (Class::Acknowledged, 1));
    assert_eq!(server.saw().len(), 1);
    assert_eq!(rig.counts("duplicate"), (1, 0), "chosen, and never done");
    assert!(!record.faults[0].injected);
}

#[tokio::test]
async fn delay_and_bandwidth_together() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let down = Direction::Downstream;
    rig.rule(directed("delay", down, &latency(100)));
    rig.rule(directed("bandwidth", down, &[rate(1_000_000)]));
    let mut client = Client::connect(addr).await;
    let took = echo_time(&mut client, 200_000).await.as_secs_f64();
    // They add up once, not for each piece.
    let ratio = took / 0.3;
    println!("delay 100 ms and 0.2 s at 1MB/s: {took:.3} s, ratio {ratio:.3}");
    assert!((0.99..1.15).contains(&ratio), "{ratio}");
    drop(client);
    let record = rig.closed(1).await.remove(0);
    let acted: Vec<_> = record
        .faults
        .iter()
        .map(|f| (&*f.kind, f.injected))
        .collect();
    assert_eq!(acted, [("delay", true), ("bandwidth", true)]);
    assert_eq!(
        (rig.counts("delay"), rig.counts("bandwidth")),
        ((1, 1), (1, 1))
    );
}

#[tokio::test]
async fn delay_and_corrupt_together() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    let down = Direction::Downstream;
    rig.rule(directed("delay", down, &latency(3_600_000)));
    rig.rule(directed("corrupt", down, &[("bytes", Arg::Count(2))]));
    let mut client = Client::connect(addr).await;
    client.send(stream(0, 1500)).await;
    until("both have acted", || {
        (rig.counts("delay") == (1, 1) && rig.counts("corrupt") == (1, 1)).then_some(())
    })
    .await;
    rig.off("delay");
    let mut got = vec![0; 1500];
    soon("the echo", client.0.read_exact(&mut got))
        .await
        .unwrap();
    let wrong = (got.iter().enumerate()).filter(|(n, byte)| **byte != byte_at(*n));
    assert_eq!(
        wrong.count(),
        2,
        "what was changed stays so when another is lifted"
    );
    // Both have been spent or lifted: the rest is as it came.
    client.send(stream(0, 1500)).await;
    client.expect_stream(0, 1500).await;
}

#[tokio::test]
async fn of_two_ends_the_nearer_one_comes_first_however_the_bytes_are_read() {
    let limit = || directed("limit_data", Direction::Downstream, &[size("bytes", 1000)]);
    let reset = || {
        rule(
            "reset",
            &[size("after", 2 * 1500 - 1), word("side", "client")],
        )
    };
    let vanish = || directed("timeout", Direction::Downstream, &[time("after", 50)]);
    for pieces in [1, 15] {
        for (rules, bytes, ended, cause) in [
            // The reset's 2999 bytes are those of both directions.
            ([limit(), reset()], 1000, Ended::Fin, "limit_data"),
            ([reset(), limit()], 1000, Ended::Fin, "limit_data"),
            ([limit(), vanish()], 0, Ended::Fin, "timeout"),
            ([vanish(), limit()], 0, Ended::Fin, "timeout"),
        ] {
            let server = Watched::echo().await;
            let rig = Rig::new();
            let addr = rig.tcp(server.addr).await;
            let what = format!("{} first, in {pieces}", rules[0].name);
            for rule in rules {
                rig.rule(rule);
            }
            let mut client = Client::connect(addr).await;
            for n in 0..pieces {
                let each = 1500 / pieces;
                // It may end before all is said.
                let _ = client.0.write_all(&stream(n * each, each)).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let (got, end) = read_to_end(&mut client.0).await;
            assert_eq!((got.len(), end), (bytes, ended), "{what}");
            drop(client);
            let record = rig.closed(1).await.remove(0);
            let injected: Vec<_> = record.faults.iter().filter(|f| f.injected).collect();
            assert_eq!(injected.len(), 1, "{what}: {injected:?}");
            assert_eq!(&*injected[0].rule, cause, "{what}");
        }
    }
}

#[tokio::test]
async fn an_end_waits_for_the_bytes_that_another_fault_still_holds() {
    let server = Watched::echo().await;
    let rig = Rig::new();
    let addr = rig.tcp(server.addr).await;
    rig.rule(directed("delay", Direction::Downstream, &latency(100)));
    rig.rule(rule("reset", &[size("after", 100 + 70)]));
    let mut client = Client::connect(addr).await;
    let begun = Instant::now();
    client.send(stream(0, 100)).await;
    let (got, ended) = read_to_end(&mut client.0).await;
    assert_eq!((got, ended), (stream(0, 70), Ended::Rst));
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

/// Which of `n` connections, one after the other, a rule with probability 0.5 closes.
async fn chosen(seed: u64, n: usize, disturbed: bool) -> Vec<bool> {
    let server = Watched::echo().await;
    let rig = Rig::with_seed(seed);
    let addr = rig.tcp(server.addr).await;
    let mut half = rule("response_loss", &then("close"));
    half.probability = 0.5;
    rig.rule(half);
    let mut other = rule("delay", &latency(0));
    other.enabled = false;
    rig.rule(other);
    let mut hit = Vec::new();
    for _ in 0..n {
        let mut client = Client::connect(addr).await;
        client.send("first").await;
        let mut byte = [0];
        let first = soon("an answer or the end", async {
            tokio::time::timeout(Duration::from_millis(300), client.0.read(&mut byte)).await
        })
        .await;
        // Nothing comes to one that was chosen: its answer is lost.
        let is_hit = first.is_err();
        if disturbed && !is_hit {
            client.expect("irst").await;
            // Changes that have nothing to do with it.
            for on in [true, false].into_iter().cycle().take(12) {
                rig.apply(Change::SwitchRule("delay".to_owned(), on, Ttl::Unsaid));
                client.send("again").await;
                client.expect("again").await;
            }
        }
        hit.push(is_hit);
    }
    let hits = hit.iter().filter(|hit| **hit).count() as u64;
    assert_eq!(rig.counts("response_loss"), (hits, hits));
    hit
}

#[tokio::test]
async fn the_seed_decides_which_connections_are_hit_whatever_else_changes() {
    let (one, again, disturbed, other) = tokio::join!(
        chosen(7, 12, false),
        chosen(7, 12, false),
        chosen(7, 12, true),
        chosen(8, 12, false)
    );
    assert!(one.contains(&true) && one.contains(&false), "{one:?}");
    assert_eq!(one, again);
    assert_eq!(one, disturbed, "a rule decides once about a connection");
    assert_ne!(one, other);
}

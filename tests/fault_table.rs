//! For every kind of fault and every version of HTTP: what the client saw, what the upstream saw, the
//! record and the count agree. The rows are the table in the docs (`UPDATE_DOCS=1` writes it anew).
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use firedrill::evidence::{Class, Outcome, Record};
use firedrill::faults::{Arg, KINDS, Kind, Type};
use firedrill::operation::Direction;
use firedrill::state::Source;
use support::pki::{self, Pki};
use support::witness::{self, End, Saw, Upstream, body};
use support::{Rig, document, rule, until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    async fn upstream(self) -> Upstream {
        match self {
            Self::Http10 | Self::Http11 => Upstream::http1().await,
            Self::Http2 => Upstream::http2().await,
        }
    }

    /// Asks on a connection of its own, and leaves it open where it still stands.
    async fn ask(self, addr: SocketAddr, method: &str, key: &str) -> (Saw, Kept) {
        let version = match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => {
                let (saw, kept) = witness::ask2(addr, method, key).await;
                return (saw, Box::new(kept));
            }
        };
        let (saw, kept) = witness::ask(addr, method, version, key).await;
        (saw, Box::new(kept))
    }
}

/// A connection that is kept open.
type Kept = Box<dyn std::any::Any + Send>;

/// What happens while the fault is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// One request.
    One,
    /// So many requests one after the other; the last is met.
    Nth(usize),
    /// The first request waits, and is let go by a second one.
    Pair,
}

/// What is shown of a kind.
struct Case {
    args: Vec<(&'static str, Arg)>,
    script: Script,
    direction: Option<Direction>,
    /// The least time that the client waits.
    least: Duration,
}

fn ms(n: u64) -> Arg {
    Arg::Duration(Duration::from_millis(n))
}

fn case(kind: &Kind) -> Case {
    let case = |args: &[(&'static str, Arg)]| Case {
        args: args.to_vec(),
        script: Script::One,
        direction: None,
        least: Duration::ZERO,
    };
    let late = |args, least| Case {
        least: Duration::from_millis(least),
        ..case(args)
    };
    let down = Some(Direction::Downstream);
    match kind.name {
        "delay" => late(&[("latency", ms(60))], 60),
        "slow_connect" => late(&[("delay", ms(60))], 60),
        "slow_close" => case(&[("delay", ms(60))]),
        "overload" => late(&[("service_time", ms(60))], 60),
        "reorder" => Case {
            script: Script::Pair,
            ..case(&[("hold", ms(60_000))])
        },
        "late" => Case {
            script: Script::Pair,
            ..case(&[])
        },
        "throttle" => Case {
            script: Script::Nth(2),
            ..case(&[("rate", Arg::Frequency(1, Duration::from_secs(3600)))])
        },
        "stale" => Case {
            script: Script::Nth(2),
            ..case(&[("age", ms(0))])
        },
        "reset" | "close" => case(&[("after", Arg::Size(100))]),
        "bandwidth" => late(&[("rate", Arg::Rate(10_000))], 90),
        "slice" => late(&[("size", Arg::Size(100)), ("gap", ms(10))], 80),
        "limit_data" => case(&[("bytes", Arg::Size(100))]),
        "timeout" => Case {
            direction: down,
            ..case(&[("after", ms(50))])
        },
        "corrupt" | "packet_loss" => Case {
            direction: down,
            ..case(match kind.name {
                "corrupt" => &[],
                _ => &[("rate", Arg::Ratio(1.0))],
            })
        },
        "rewrite" => case(&[
            (
                "set_headers",
                Arg::Map(vec![("x-drill".into(), "yes".into())]),
            ),
            ("clock", Arg::Offset(-600)),
        ]),
        "h2_goaway" => case(&[("reason", Arg::Choice("enhance_your_calm"))]),
        "drop" | "response_loss" | "duplicate" | "abort" | "refuse" | "truncate" | "garbage"
        | "empty" | "h2_reset" => case(&[]),
        other => panic!("what shows `{other}`?"),
    }
}

/// One row: kind, version, client, upstream, record, count.
struct Row([String; 6]);

async fn show(kind: &Kind, version: Version) -> Row {
    let Case {
        args,
        script,
        direction,
        least,
    } = case(kind);
    let upstream = version.upstream().await;
    let rig = Rig::new();
    let addr = rig.http(upstream.addr).await;
    let mut rule = rule(kind.name, &args);
    rule.direction = direction;
    if script == Script::Pair {
        rule.limit = Some(1);
    }
    let given = args
        .iter()
        .map(|(name, arg)| format!("{name}: {}", bare(arg)));
    let what = format!(
        "`{}` {{{}}}",
        kind.name,
        given.collect::<Vec<_>>().join(", ")
    );
    rig.rule(rule);
    let method = if kind.name == "stale" { "GET" } else { "POST" };
    let (saw, kept) = match script {
        Script::One => version.ask(addr, method, "k").await,
        Script::Nth(n) => {
            for n in 1..n {
                let (saw, _) = version.ask(addr, method, &format!("before-{n}")).await;
                assert_eq!(saw.end, End::Whole, "{what}");
            }
            version.ask(addr, method, "k").await
        }
        Script::Pair => {
            let first = tokio::spawn(async move { version.ask(addr, method, "k").await });
            until("the first waits", || {
                (rig.counts(kind.name).1 == 1).then_some(())
            })
            .await;
            // For one kind it is another operation, for the other its next attempt.
            let key = if kind.name == "late" { "k" } else { "other" };
            let (second, _) = version.ask(addr, method, key).await;
            assert_eq!(
                (second.status, second.end),
                (Some(200), End::Whole),
                "{what}"
            );
            first.await.unwrap()
        }
    };
    let took = saw.took;
    assert!(took >= least, "{what} {version:?}: {took:?}");
    if saw.end != End::Waits {
        // What still goes on of a copy is let go on.
        until("what is to come has come", || {
            (kind.name != "duplicate" || upstream.received().len() == 2).then_some(())
        })
        .await;
    }
    let expected = match script {
        Script::One => 1,
        Script::Nth(n) => n,
        Script::Pair => 2,
    };
    // Who has an answer leaves once it is known that it has it. Who waits gives up, which HTTP/2 says
    // in a frame of its own; what is hung for it ends with the fault.
    if saw.end != End::Waits {
        rig.closed(expected).await;
    }
    drop(kept);
    if version == Version::Http2 {
        rig.closed(expected).await;
    }
    rig.heal();
    let records = rig.closed(expected).await;
    assert_eq!(records.len(), expected, "{what}: one record an operation");
    let acted = |r: &&Record| {
        !r.faults.is_empty() && (script != Script::Nth(2) || r.id == records[expected - 1].id)
    };
    let mut chosen: Vec<_> = records.iter().filter(acted).collect();
    if script == Script::Pair {
        chosen.retain(|r| r.faults.iter().any(|f| f.injected));
    }
    let [record] = chosen[..] else {
        panic!("{what}: {chosen:?}");
    };
    let received = upstream.received();
    let mine: Vec<_> = match script {
        Script::Pair if kind.name == "late" => {
            received.iter().filter(|r| r.key == "k").take(1).collect()
        }
        _ => received
            .iter()
            .filter(|r| r.key == "k" || kind.name == "refuse")
            .collect(),
    };
    let injected = record.faults.iter().filter(|f| f.injected).count();
    agree(&what, &rig, kind, record, &saw, mine.len(), injected);
    let partial = mine.iter().any(|r| !r.whole);
    Row([
        what,
        version.name().to_owned(),
        client(kind, &saw, record, least),
        match (mine.len(), partial) {
            (0, _) => "nothing".to_owned(),
            (1, false) => "it, once".to_owned(),
            (1, true) => "a part of it".to_owned(),
            (n, _) => format!("it, {n} times"),
        },
        told(record),
        match injected {
            0 => "selected, not injected".to_owned(),
            n => format!("{n}"),
        },
    ])
}

fn bare(arg: &Arg) -> String {
    arg.to_json().to_string().replace('"', "")
}

/// The four witnesses say the same.
fn agree(
    what: &str,
    rig: &Rig,
    kind: &Kind,
    record: &Record,
    saw: &Saw,
    came: usize,
    injected: usize,
) {
    let all = format!("{what}\n{record:?}\n{saw:?}\nreceived {came}");
    let series = format!(
        "firedrill_faults_injected_total{{fault=\"{0}\",proxy=\"p\",rule=\"{0}\"}}",
        kind.name
    );
    assert_eq!(rig.metric(&series), injected as f64, "{all}");
    assert_eq!(rig.counts(kind.name).1, injected as u64, "{all}");
    assert!(injected <= 1, "{all}");
    assert_eq!(record.deliveries as usize, came, "{all}");
    let outcome = record.client.outcome;
    let right = match &saw.end {
        End::Whole => matches!(outcome, Outcome::Answered | Outcome::Substituted),
        // It gave up, and what was kept for it was written after that.
        End::Waits => outcome != Outcome::Substituted && record.class != Class::Acknowledged,
        End::Rst if saw.status.is_none() => outcome == Outcome::Reset,
        End::Fin if saw.status.is_none() => outcome == Outcome::Closed,
        End::Rst | End::Fin => outcome == Outcome::Partial,
        End::Garbage => outcome == Outcome::Substituted,
        End::Frame(_) => matches!(outcome, Outcome::Reset | Outcome::Closed | Outcome::Partial),
    };
    assert!(right, "{all}");
    if saw.status.is_some() && saw.end != End::Garbage {
        assert_eq!(record.client.status, saw.status, "{all}");
    }
    let theirs = saw.end == End::Whole && outcome == Outcome::Answered;
    let class = match (came, theirs) {
        (0, _) if outcome == Outcome::Substituted => [Class::Substituted].as_slice(),
        (0, _) => &[Class::NeverDelivered],
        (_, true) => &[Class::Acknowledged],
        (_, false) => &[Class::Unseen, Class::Unknown, Class::Late],
    };
    assert!(class.contains(&record.class), "{all}");
}

fn client(kind: &Kind, saw: &Saw, record: &Record, least: Duration) -> String {
    let mut words = Vec::new();
    if let Some(status) = saw.status {
        words.push(status.to_string());
        if saw.end == End::Whole {
            words.push("whole".to_owned());
        } else if saw.end != End::Garbage {
            words.push(format!("{} of {} bytes", saw.body.len(), saw.length));
        }
    }
    match &saw.end {
        End::Whole => {}
        End::Fin if saw.status.is_none() => words.push("no answer, FIN".to_owned()),
        End::Fin => words.push("FIN".to_owned()),
        End::Rst => words.push("RST".to_owned()),
        End::Waits => words.push("nothing more: it waits".to_owned()),
        End::Garbage => words.push("what is no HTTP, FIN".to_owned()),
        End::Frame(frame) => words.push(frame.clone()),
    }
    if !least.is_zero() {
        words.push(format!("{} ms later or more", least.as_millis()));
    }
    let theirs = record.client.outcome == Outcome::Answered;
    if saw.end == End::Whole && theirs && !(1..=9).any(|n| saw.body == body(n)) {
        let own = body(1);
        let changed = saw.body.iter().zip(&own).filter(|(a, b)| a != b).count();
        assert_eq!(saw.body.len(), own.len(), "{}", kind.name);
        words.push(format!("{changed} byte changed"));
    }
    if kind.name == "stale" {
        assert_eq!(saw.body, body(1), "the second is told what the first was");
        words.push("the answer before".to_owned());
    }
    if let Some(value) = witness::find(&saw.headers, "x-drill") {
        assert_eq!(
            witness::find(&saw.headers, "date"),
            Some("Sun, 06 Nov 1994 08:39:37 GMT")
        );
        words.push(format!("`x-drill: {value}`, `Date` 10 min earlier"));
    }
    if let Some(value) = witness::find(&saw.headers, "retry-after") {
        let seconds: u64 = value.parse().unwrap();
        assert!((3590..=3600).contains(&seconds), "{value}");
        words.push("`Retry-After`".to_owned());
    }
    words.join(", ")
}

/// What fails before a word of HTTP is said, whatever its version.
async fn handshake(kind: &Kind, how: &'static str) -> Row {
    let (pki, upstream, rig) = (Pki::make(), Upstream::http1().await, Rig::new());
    let edge = pki.edge(
        upstream.addr,
        "protocol: http, tls: { terminate: { ca: ca } }",
    );
    let addr = rig
        .supervisor
        .start(edge, Source::File)
        .await
        .unwrap()
        .unwrap();
    rig.rule(rule(kind.name, &[("how", Arg::Choice(how))]));
    let config = pki.client("ca/ca.pem", false, &[]);
    let shaking = pki::shake(&config, addr, "site.example");
    let saw = match tokio::time::timeout(Duration::from_millis(300), shaking).await {
        Ok(shaken) => shaken.map(drop).unwrap_err().to_string(),
        Err(_) => "nothing: it waits".to_owned(),
    };
    // Certificates say when and for whom they are; only what is wrong is told here.
    let saw = saw
        .split([':', ';', ','])
        .take(2)
        .collect::<Vec<_>>()
        .join(":");
    rig.heal();
    let record = rig.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.deliveries),
        (Class::NeverDelivered, 0)
    );
    assert!(record.faults[0].injected && upstream.received().is_empty());
    assert_eq!(rig.counts(kind.name), (1, 1));
    Row([
        format!("`{}` {{how: {how}}}", kind.name),
        "any, in TLS".to_owned(),
        saw,
        "nothing".to_owned(),
        told(&record),
        "1".to_owned(),
    ])
}

fn told(record: &Record) -> String {
    let phase = serde_json::to_value(record.faults[0].phase).unwrap();
    let (class, cause) = (record.class, &record.cause);
    format!("{class}, cause {cause}, at `{}`", phase.as_str().unwrap())
}

/// A kind that has nothing to act on there is refused in the file.
fn refused(kind: &Kind, version: Version) -> Row {
    let fault = serde_json::json!({ kind.name: { "delay": "60ms" } });
    let file = format!(
        "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: 127.0.0.1:1, protocol: http }}]\nrules: [{{ name: r, proxies: [p], fault: {fault} }}]\n"
    );
    let problems = firedrill::config::parse(&file, "f.yaml")
        .unwrap_err()
        .to_string();
    assert!(problems.contains("can't act on `p`"), "{problems}");
    Row([
        format!("`{}`", kind.name),
        version.name().to_owned(),
        "acts on `tcp` only".to_owned(),
        "a file that names an `http` proxy is refused".to_owned(),
        "none".to_owned(),
        "0".to_owned(),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_on_every_version() {
    let mut out = "| fault | version | the client saw | the upstream saw | the record | injected |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for kind in KINDS {
        let mut rows = Vec::new();
        for version in Version::ALL {
            rows.push(match kind.name {
                "tls" => continue,
                _ if kind.fits(true) => show(kind, version).await,
                _ => refused(kind, version),
            });
        }
        if kind.name == "tls" {
            let Type::Choice(ways) = kind.params[0].ty else {
                panic!("{:?}", kind.params[0]);
            };
            for how in ways {
                rows.push(handshake(kind, how).await);
            }
        }
        assert!(!rows.is_empty(), "{}", kind.name);
        for Row(cells) in rows {
            assert!(cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
            out += &format!("| {} |\n", cells.join(" | "));
        }
    }
    document::generated("http-faults", &out);
}

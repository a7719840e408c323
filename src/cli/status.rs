//! `firedrill status`, and how things stand in a few words.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Failure;
use super::output::{Output, short, table};
use super::targets::{self, Targets};
use crate::clock::Timestamp;
use crate::units::format_duration;
use crate::wire::{PartitionItem, ProxyItem, RuleItem, Standing, Status};

/// So that a row of rules fits 80 columns.
pub(super) const FAULT_WIDTH: usize = 26;
/// The same of partitions.
const BETWEEN_WIDTH: usize = 42;

/// What `status` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --watch: OP/S are the operations that ended each second, NEW what was
injected since the line before. Ctrl-C ends it. Where stdout is no terminal,
all is printed again and again; with --json one object a line.")]
pub(super) struct Args {
    /// Show it live, drawn anew in place
    #[arg(long, short)]
    watch: bool,

    /// How often
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "watch", value_parser = period)]
    every: Duration,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = crate::units::parse_duration(text).ok();
    let period = period.filter(|period| *period >= Duration::from_millis(100));
    period.ok_or_else(|| "expected a duration of `100ms` or more".to_owned())
}

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    if args.watch {
        return super::watch::run(args.every, targets, out).await;
    }
    let answers = targets.ask(async |client| client.status().await).await;
    targets::print(out, answers, text)
}

fn text(status: &Status) -> String {
    let sections = [
        heading(status),
        proxies_table(&status.proxies),
        rules_table(&status.rules),
        partitions_table(&status.partitions),
    ];
    sections.join("\n\n")
}

/// Which process that is, and how full its evidence.
pub(super) fn heading(status: &Status) -> String {
    let Status {
        version,
        seed,
        generation,
        started,
        evidence,
        ..
    } = status;
    let up = seconds(Timestamp::now().since(*started));
    format!(
        "firedrill {version}, up {up}, seed {seed}, generation {generation}\n\
         evidence: {} of {} records, {} dropped",
        evidence.records, evidence.capacity, evidence.dropped
    )
}

fn proxies_table(proxies: &[ProxyItem]) -> String {
    if proxies.is_empty() {
        return "no proxies".to_owned();
    }
    let rows = proxies.iter().map(|p| {
        [
            p.name.clone(),
            format!("{} -> {}", p.from, p.to),
            match p.enabled {
                true => p.listen.clone(),
                false => "(disabled)".to_owned(),
            },
            p.upstream.clone(),
            p.connections_open.to_string(),
            p.operations.values().sum::<u64>().to_string(),
        ]
    });
    let header = ["PROXY", "EDGE", "LISTEN", "UPSTREAM", "OPEN", "DONE"];
    table(header, &[4, 5], rows)
}

/// All rules, a line each; injected, of those selected.
pub(super) fn rules_table(rules: &[RuleItem]) -> String {
    if rules.is_empty() {
        return "no rules".to_owned();
    }
    let rows = rules.iter().map(|r| {
        [
            r.name.clone(),
            short(&fault(&r.fault), FAULT_WIDTH),
            r.proxies
                .as_ref()
                .map_or("(all)".to_owned(), |p| p.join(",")),
            stands(r.enabled, &r.standing),
            format!("{} of {}", r.standing.injected, r.standing.selected),
        ]
    });
    let header = ["RULE", "FAULT", "PROXIES", "STATE", "INJECTED"];
    table(header, &[4], rows)
}

/// All partitions, a line each.
pub(super) fn partitions_table(partitions: &[PartitionItem]) -> String {
    if partitions.is_empty() {
        return "no partitions".to_owned();
    }
    let rows = partitions.iter().map(|p| {
        [
            p.name.clone(),
            short(&cut(p), BETWEEN_WIDTH),
            p.mode.as_str().to_owned(),
            stands(p.enabled, &p.standing),
            p.standing.injected.to_string(),
        ]
    });
    let header = ["PARTITION", "BETWEEN", "MODE", "STATE", "CUT"];
    table(header, &[4], rows)
}

/// `checkout | payment,orders (deaf: checkout)`
pub(super) fn cut(partition: &PartitionItem) -> String {
    let deaf = match &partition.deaf[..] {
        [] => String::new(),
        deaf => format!(" (deaf: {})", deaf.join(",")),
    };
    sides(partition, ",") + &deaf
}

/// `delay latency=150ms`, as it would be typed.
pub(super) fn fault(fault: &Map<String, Value>) -> String {
    let Some((kind, params)) = fault.iter().next() else {
        return String::new();
    };
    let mut text = kind.clone();
    for (name, value) in params.as_object().into_iter().flatten() {
        match value {
            Value::Object(pairs) => {
                for (key, value) in pairs {
                    text += &format!(" {name}.{key}={}", plain(value));
                }
            }
            value => text += &format!(" {name}={}", plain(value)),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// `off`, `on`, `on 29s` (that long yet), `waits 29s` (for its schedule).
pub(super) fn stands(enabled: bool, standing: &Standing) -> String {
    let left = |at: Timestamp| seconds(at.since(Timestamp::now()));
    match (
        enabled,
        standing.active,
        standing.turns_at,
        standing.expires_at,
    ) {
        (false, ..) => "off".to_owned(),
        (true, false, Some(at), _) => format!("waits {}", left(at)),
        (true, false, None, _) => "over".to_owned(),
        (true, true, _, None) => "on".to_owned(),
        (true, true, _, Some(at)) => format!("on {}", left(at)),
    }
}

/// `checkout | payment, orders`: who is cut off from whom.
pub(super) fn sides(partition: &PartitionItem, comma: &str) -> String {
    let groups = |groups: &[Vec<String>]| {
        let groups = groups.iter().map(|group| group.join(comma));
        groups.collect::<Vec<_>>().join(" | ")
    };
    let PartitionItem {
        between,
        isolate,
        ring,
        groups: split,
        ..
    } = partition;
    if let Some(list) = isolate {
        return format!("{} | (all others)", list.join(comma));
    }
    if let Some(list) = ring {
        return format!("ring {}", list.join(comma));
    }
    between
        .as_ref()
        .or(split.as_ref())
        .map_or_else(String::new, |all| groups(all))
}

/// `until 12:00:30 UTC (30s from now)`, for what has just been made.
pub(super) fn until(enabled: bool, standing: &Standing) -> String {
    let moment = |at: Timestamp| {
        let left = seconds(at.since(Timestamp::now()) + Duration::from_millis(500));
        format!("{} UTC ({left} from now)", clock_time(at, 8))
    };
    let until = match (enabled, standing.expires_at) {
        (false, _) => return "off".to_owned(),
        (true, None) => "until it is lifted".to_owned(),
        (true, Some(at)) => format!("until {}", moment(at)),
    };
    match (standing.active, standing.turns_at) {
        (false, Some(at)) => format!("begins {}, {until}", moment(at)),
        _ => until,
    }
}

/// `12:00:30.123456`, cut to so many characters.
pub(super) fn clock_time(at: Timestamp, digits: usize) -> String {
    let text = at.to_string();
    let time = text.split_once('T').map_or(text.as_str(), |(_, time)| time);
    time.chars().take(digits).collect()
}

fn seconds(time: Duration) -> String {
    format_duration(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::EvidenceStatus;

    fn status() -> Status {
        let proxies = json!([
            {"name": "payment", "from": "checkout", "to": "payment", "listen": "127.0.0.1:7001",
             "upstream": "127.0.0.1:8001", "enabled": true, "protocol": "http", "connect_timeout": "5s",
             "max_connections": 10000, "connections_total": 12, "connections_open": 3,
             "operations": {"acknowledged": 1200, "unseen": 34}},
        ]);
        let rules = json!([
            {"name": "payment-response_loss", "proxies": ["payment"], "enabled": false,
             "match": {}, "probability": 1.0, "skip": 0, "limit": null, "max_active": null,
             "ttl": null, "dry_run": false, "direction": null,
             "fault": {"response_loss": {"then": "hang"}}, "source": "api", "expires_at": null,
             "active": false, "generation": 1, "selected": 40, "injected": 34},
            {"name": "sorry", "proxies": null, "enabled": true,
             "match": {}, "probability": 1.0, "skip": 0, "limit": null, "max_active": null,
             "ttl": null, "dry_run": false, "direction": null,
             "fault": {"abort": {"status": 503, "headers": {"retry-after": "1", "x-y": "z"}}},
             "source": "file", "active": true, "generation": 1, "expires_at": null,
             "selected": 0, "injected": 0},
        ]);
        let partitions = json!([
            {"name": "split", "between": [["checkout"], ["payment", "orders"]],
             "deaf": ["checkout"], "mode": "blackhole", "enabled": true, "ttl": null,
             "source": "file", "active": true, "generation": 1, "expires_at": null,
             "selected": 0, "injected": 5},
        ]);
        Status {
            version: "1.2.3".to_owned(),
            seed: 42,
            generation: 7,
            started: Timestamp::now().plus(Duration::from_secs(3600)),
            proxies: serde_json::from_value(proxies).unwrap(),
            rules: serde_json::from_value(rules).unwrap(),
            partitions: serde_json::from_value(partitions).unwrap(),
            evidence: EvidenceStatus {
                records: 1234,
                capacity: 100_000,
                dropped: 0,
            },
        }
    }

    #[test]
    fn all_at_a_glance_within_80_columns() {
        let text = text(&status());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        insta::assert_snapshot!(text, @r#"
        firedrill 1.2.3, up 0s, seed 42, generation 7
        evidence: 1234 of 100000 records, 0 dropped

        PROXY    EDGE                 LISTEN          UPSTREAM        OPEN  DONE
        payment  checkout -> payment  127.0.0.1:7001  127.0.0.1:8001     3  1234

        RULE                   FAULT                       PROXIES  STATE  INJECTED
        payment-response_loss  response_loss then=hang     payment  off    34 of 40
        sorry                  abort status=503 headers.…  (all)    on       0 of 0

        PARTITION  BETWEEN                                     MODE       STATE  CUT
        split      checkout | payment,orders (deaf: checkout)  blackhole  on       5
        "#);
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(proxies_table(&[]), "no proxies");
        assert_eq!(rules_table(&[]), "no rules");
        assert_eq!(partitions_table(&[]), "no partitions");
    }
}

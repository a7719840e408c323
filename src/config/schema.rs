//! The file as a JSON Schema, for editors.
//!
//! Faults follow from the registry; the words and defaults from where the decoder has them. A test
//! holds the keys of every map against those that the decoder asks for.

mod drill;
mod evidence;
mod matching;
mod partitions;
mod shapes;
mod tls;
mod traces;
mod variables;

use serde_json::{Map, Value, json};

pub use drill::drill_schema;
use partitions::{partition, schedule};
use shapes::{
    about, count, duration, flag, items, list, name, object, section, size, some, text, words,
};

use super::proxies::{PROTOCOLS, VERSIONS};
use super::rules::DIRECTIONS;
use super::sections::TOXIPROXY;
use super::{ControlConfig, LimitsConfig};
use crate::faults::{Directions, KINDS, Kind, Param, Type};
use crate::rules::Edge;
use crate::units::{format_duration, format_size};

/// The JSON Schema (2020-12) of the file.
#[must_use]
pub fn schema() -> Value {
    let control = ControlConfig::default();
    let limits = LimitsConfig::default();
    let mut root = object(
        "A Firedrill file: proxies, and what goes wrong with them",
        &[],
        [
            (
                "seed",
                about(
                    count(0, u64::MAX),
                    "Decisions are drawn from it; absent: chosen, logged and reported",
                    None,
                ),
            ),
            (
                "control",
                section(object(
                    "The control API",
                    &[],
                    [
                        (
                            "listen",
                            about(
                                text(),
                                "host:port; loopback unless a token is set or `insecure` is said",
                                Some(json!(control.listen)),
                            ),
                        ),
                        (
                            "token_file",
                            about(
                                text(),
                                "A file with the bearer token, relative to this one; needed to listen beyond loopback",
                                None,
                            ),
                        ),
                        (
                            "read_token_file",
                            about(
                                text(),
                                "A file with a second token, for what changes nothing",
                                None,
                            ),
                        ),
                        ("tls", tls::control()),
                        (
                            "max_connections",
                            about(
                                count(1, 100_000),
                                "Connections at the same time; past that those go that say nothing",
                                Some(json!(control.max_connections)),
                            ),
                        ),
                        (
                            "insecure",
                            about(
                                flag(),
                                "Listens beyond loopback without a token",
                                Some(json!(control.insecure)),
                            ),
                        ),
                        (
                            "hosts",
                            about(
                                list(text()),
                                "Host names accepted besides IP literals, localhost and single-label names",
                                Some(json!(control.hosts)),
                            ),
                        ),
                        (
                            "heartbeat",
                            about(
                                duration(),
                                "What a controller that gives its name has set is lifted once it is silent for so long; absent: never",
                                None,
                            ),
                        ),
                        (
                            "watch",
                            about(
                                flag(),
                                "Reads this file again when it has changed",
                                Some(json!(control.watch)),
                            ),
                        ),
                        (
                            "state_file",
                            about(
                                text(),
                                "Where what the API made is kept for the next start, relative to this file",
                                None,
                            ),
                        ),
                        (
                            "toxiproxy",
                            about(
                                words(TOXIPROXY.iter().map(|(word, _)| *word)),
                                "Whether Toxiproxy's dialect needs the token, where there is one, or is open to all who reach it",
                                Some(json!("token")),
                            ),
                        ),
                        (
                            "upstreams",
                            about(
                                list(text()),
                                "What proxies made or changed by the API may connect to, such as `payment:8080`, `10.0.0.*:*` or `*.internal:*`; absent: anything",
                                None,
                            ),
                        ),
                    ],
                )),
            ),
            (
                "metrics",
                section(object(
                    "A second port with /metrics and /healthz only",
                    &["listen"],
                    [("listen", about(text(), "host:port", None))],
                )),
            ),
            ("evidence", section(evidence::evidence())),
            ("traces", traces::traces()),
            ("identity", section(evidence::identity())),
            (
                "limits",
                section(object(
                    "What faults may hold and how long things are waited for",
                    &[],
                    [
                        (
                            "held_per_connection",
                            about(
                                size(),
                                "What faults may hold of one connection; then its source is no longer read",
                                Some(json!(format_size(limits.held_per_connection))),
                            ),
                        ),
                        (
                            "held_total",
                            about(
                                size(),
                                "What faults may hold in all",
                                Some(json!(format_size(limits.held_total))),
                            ),
                        ),
                        (
                            "linger",
                            about(
                                duration(),
                                "How long an upstream's answer is awaited after its client has gone, while a fault acts",
                                Some(json!(format_duration(limits.linger))),
                            ),
                        ),
                        (
                            "half_close",
                            about(
                                duration(),
                                "How long a connection of which one side has ended may stand without a byte moving",
                                Some(json!(format_duration(limits.half_close))),
                            ),
                        ),
                        (
                            "handshake",
                            about(
                                duration(),
                                "How long a client may take for what comes before its first byte: TLS, the PROXY protocol",
                                Some(json!(format_duration(limits.handshake))),
                            ),
                        ),
                        (
                            "drain",
                            about(
                                duration(),
                                "How long open connections may take to end when the process stops",
                                Some(json!(format_duration(limits.drain))),
                            ),
                        ),
                    ],
                )),
            ),
            (
                "proxies",
                section(items(
                    "#/$defs/proxy",
                    "One listener, one upstream each: an edge between two services",
                )),
            ),
            (
                "rules",
                section(items(
                    "#/$defs/rule",
                    "Faults, where and how often; in the order in which they act",
                )),
            ),
            (
                "partitions",
                section(items(
                    "#/$defs/partition",
                    "Named cuts between groups of services; they come before rules",
                )),
            ),
        ],
    );
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Firedrill");
    root["$defs"] = definitions();
    variables::allow(&mut root);
    root
}

/// What stands in several places, and what the API's document takes from here.
fn definitions() -> Value {
    json!({
        "name": { "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
        "duration": {
            "description": "such as `150ms`, `2s` or `1m30s`",
            "anyOf": [{ "type": "string", "minLength": 1 }, { "const": 0 }],
        },
        "size": {
            "description": "such as `512`, `64KiB` or `1MB`",
            "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "integer", "minimum": 1 }],
        },
        "scalar": { "type": ["string", "integer", "boolean"] },
        "proxy": proxy(),
        "tls": tls::tls(),
        "proxy_protocol": proxy_protocol(),
        "forwarded": forwarded(),
        "rule": rule(),
        "partition": partition(),
        "schedule": schedule(true),
        "match": matching::matching(),
        "fault": fault(),
    })
}

fn proxy() -> Value {
    object(
        "One listener, one upstream",
        &["name", "listen", "upstream"],
        [
            ("name", about(name(), "Unique among proxies", None)),
            (
                "from",
                about(name(), "The service that calls", Some(json!("client"))),
            ),
            (
                "to",
                about(
                    name(),
                    "The service that is called; absent: the proxy's name",
                    None,
                ),
            ),
            (
                "enabled",
                about(flag(), "Without it there is no listener", Some(json!(true))),
            ),
            (
                "listen",
                about(
                    text(),
                    "host:port; port 0 is any free one, reported by the API",
                    None,
                ),
            ),
            (
                "upstream",
                about(
                    text(),
                    "host:port, resolved at every dial; or `original`: where each client was going before it was redirected here",
                    None,
                ),
            ),
            (
                "protocol",
                about(
                    words(PROTOCOLS.iter().map(|(word, _)| *word)),
                    "What it carries",
                    Some(json!("tcp")),
                ),
            ),
            (
                "connect_timeout",
                about(
                    duration(),
                    "For one dial, name resolution included",
                    Some(json!(format_duration(Edge::CONNECT_TIMEOUT))),
                ),
            ),
            (
                "max_connections",
                about(
                    count(1, 1_000_000),
                    "Clients at the same time; more are refused",
                    Some(json!(Edge::MAX_CONNECTIONS)),
                ),
            ),
            ("tls", json!({ "$ref": "#/$defs/tls" })),
            (
                "proxy_protocol",
                json!({ "$ref": "#/$defs/proxy_protocol" }),
            ),
            (
                "upstream_host",
                about(
                    text(),
                    "On HTTP: the Host that the upstream is asked for; absent: the one that the client asks for",
                    None,
                ),
            ),
            ("forwarded", json!({ "$ref": "#/$defs/forwarded" })),
        ],
    )
}

fn proxy_protocol() -> Value {
    section(object(
        "Who says, in front of a connection's bytes, which client it is for",
        &[],
        [
            (
                "accept",
                about(
                    flag(),
                    "Whoever connects must; from then on that client counts",
                    Some(json!(false)),
                ),
            ),
            (
                "send",
                about(
                    words(VERSIONS.iter().map(|(word, _)| *word)),
                    "The proxy does, to its upstream, in this version",
                    None,
                ),
            ),
        ],
    ))
}

fn forwarded() -> Value {
    section(object(
        "On HTTP: what the upstream is told of the client",
        &[],
        [
            (
                "x_forwarded",
                about(
                    flag(),
                    "X-Forwarded-For, and X-Forwarded-Proto and -Host where there are none",
                    Some(json!(false)),
                ),
            ),
            (
                "forwarded",
                about(flag(), "Forwarded (RFC 7239)", Some(json!(false))),
            ),
        ],
    ))
}

fn rule() -> Value {
    object(
        "A fault plus where, which operations, how often and how long",
        &["name", "fault"],
        [
            (
                "name",
                about(
                    json!({ "type": "string", "pattern": "^[A-Za-z0-9_./-]{1,129}$" }),
                    "Unique among rules",
                    None,
                ),
            ),
            (
                "proxies",
                about(
                    some(name()),
                    "Absent: every proxy that the fault can act on",
                    None,
                ),
            ),
            (
                "enabled",
                about(flag(), "Whether it acts", Some(json!(true))),
            ),
            ("match", json!({ "$ref": "#/$defs/match" })),
            (
                "probability",
                about(
                    json!({ "type": "number", "minimum": 0, "maximum": 1 }),
                    "The chance of each operation",
                    Some(json!(1)),
                ),
            ),
            (
                "skip",
                about(
                    count(0, u64::MAX),
                    "The first so many matching operations are left alone",
                    Some(json!(0)),
                ),
            ),
            (
                "limit",
                about(count(1, u64::MAX), "At most so many injections", None),
            ),
            (
                "max_active",
                about(count(1, u64::MAX), "At most so many at the same time", None),
            ),
            (
                "ttl",
                about(
                    duration(),
                    "Disables itself this long after it was enabled; `forever`: never",
                    None,
                ),
            ),
            (
                "dry_run",
                about(
                    flag(),
                    "Selected and recorded, never injected",
                    Some(json!(false)),
                ),
            ),
            (
                "direction",
                about(
                    words(DIRECTIONS.iter().map(|(word, _)| *word)),
                    &direction_help(),
                    None,
                ),
            ),
            ("schedule", json!({ "$ref": "#/$defs/schedule" })),
            ("fault", json!({ "$ref": "#/$defs/fault" })),
        ],
    )
}

fn direction_help() -> String {
    let having = KINDS
        .iter()
        .filter(|kind| !matches!(kind.directions, Directions::Fixed(_)));
    let names: Vec<_> = having.map(|kind| kind.name).collect();
    format!("Where the kind has one: {}", names.join(", "))
}

fn fault() -> Value {
    let kinds: Map<_, _> = KINDS
        .iter()
        .map(|kind| (kind.name.to_owned(), kind_schema(kind)))
        .collect();
    json!({
        "description": "What goes wrong: one kind with its parameters",
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": kinds,
    })
}

fn kind_schema(kind: &Kind) -> Value {
    let required: Vec<_> = kind
        .params
        .iter()
        .filter(|p| p.default.is_none())
        .map(|p| p.name)
        .collect();
    let params = kind.params.iter().map(|p| (p.name, param(p)));
    let mut schema = object(kind.summary, &required, params);
    if required.is_empty() {
        schema["type"] = json!(["object", "null"]);
    }
    schema
}

fn param(param: &Param) -> Value {
    let shape = match param.ty {
        Type::Duration => duration(),
        Type::Count { min, max } => count(min, max),
        Type::Choice(list) => words(list.iter().copied()),
        Type::ChoiceOrStatus(list) => json!({
            "anyOf": [words(list.iter().copied()), count(200, 599)],
        }),
        Type::ChoiceOrDuration(list) => json!({
            "anyOf": [words(list.iter().copied()), duration()],
        }),
        Type::Text => json!({ "$ref": "#/$defs/scalar" }),
        Type::Size | Type::Rate | Type::DurationOrSize => json!({
            "type": ["string", "integer"],
            "description": param.ty.describe(),
        }),
        Type::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Type::RatioOrSize => json!({
            "type": ["number", "string"],
            "description": param.ty.describe(),
        }),
        Type::Frequency => json!({ "type": "string" }),
        // A number has no unit, which is well for nought alone.
        Type::Offset => json!({ "anyOf": [{ "type": "string" }, { "const": 0 }] }),
        Type::Names => json!({ "type": "array", "items": { "type": "string" } }),
        Type::Map => json!({
            "type": "object",
            "additionalProperties": { "$ref": "#/$defs/scalar" },
        }),
    };
    let default = param
        .default
        .and_then(|text| serde_yaml::from_str(text).ok())
        // Nothing: that it is not said means something of its own.
        .filter(|default: &Value| !default.is_null());
    about(shape, param.help, default)
}

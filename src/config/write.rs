//! Definitions back to JSON, in the words of the file; what is at its default is left out where the
//! file may leave it out and nothing is lost to the reader.

use serde_json::{Map, Value, json};

use super::proxies::VERSIONS;
use crate::rules::{Edge, Forwarded, Matcher, Partition, ProxyProtocol, Rule, Ttl};
use crate::units::format_duration;

/// A proxy; what it does to what passes is left out where it does nothing.
#[must_use]
pub fn edge_to_json(edge: &Edge) -> Value {
    let mut out = json!({
        "name": edge.name,
        "from": edge.from,
        "to": edge.to,
        "enabled": edge.enabled,
        "listen": edge.listen,
        "upstream": edge.upstream,
        "protocol": edge.protocol.as_str(),
        "connect_timeout": format_duration(edge.connect_timeout),
        "max_connections": edge.max_connections,
    });
    if let Some(tls) = &edge.tls {
        out["tls"] = tls.said.clone();
    }
    if let Some(spoken) = proxy_protocol_to_json(edge.proxy_protocol) {
        out["proxy_protocol"] = spoken;
    }
    if let Some(host) = &edge.upstream_host {
        out["upstream_host"] = json!(host);
    }
    if let Some(told) = forwarded_to_json(edge.forwarded) {
        out["forwarded"] = told;
    }
    out
}

/// How the PROXY protocol is used, if it is.
#[must_use]
pub fn proxy_protocol_to_json(spoken: ProxyProtocol) -> Option<Value> {
    if spoken == ProxyProtocol::default() {
        return None;
    }
    let mut out = json!({ "accept": spoken.accept });
    for (word, version) in VERSIONS {
        if spoken.send == Some(version) {
            out["send"] = json!(word);
        }
    }
    Some(out)
}

/// What the upstream is told of the client, if anything.
#[must_use]
pub fn forwarded_to_json(told: Forwarded) -> Option<Value> {
    let some = told != Forwarded::default();
    some.then(|| json!({ "x_forwarded": told.x_forwarded, "forwarded": told.forwarded }))
}

/// A rule; [`rule_from_json`](super::rule_from_json) reads the same back.
#[must_use]
pub fn rule_to_json(rule: &Rule) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("name", json!(rule.name));
    if let Some(proxies) = &rule.proxies {
        put("proxies", json!(proxies));
    }
    put("enabled", json!(rule.enabled));
    if rule.matcher != Matcher::default() {
        put("match", rule.matcher.to_json().into());
    }
    put("probability", json!(rule.probability));
    put("skip", json!(rule.skip));
    if let Some(limit) = rule.limit {
        put("limit", json!(limit));
    }
    if let Some(max_active) = rule.max_active {
        put("max_active", json!(max_active));
    }
    if let Some(ttl) = ttl(rule.ttl) {
        put("ttl", ttl);
    }
    put("dry_run", json!(rule.dry_run));
    if let Some(direction) = rule.direction {
        put("direction", json!(direction.as_str()));
    }
    if let Some(timetable) = &rule.timetable {
        put("schedule", timetable.to_json());
    }
    put("fault", rule.fault.to_json());
    Value::Object(out)
}

/// A partition; [`partition_from_json`](super::partition_from_json) reads the same back.
#[must_use]
pub fn partition_to_json(partition: &Partition) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("name", json!(partition.name));
    let (key, shape) = partition.shape.to_json();
    put(key, shape);
    if !partition.deaf.is_empty() {
        put("deaf", json!(partition.deaf));
    }
    put("mode", json!(partition.mode.as_str()));
    put("enabled", json!(partition.enabled));
    if let Some(ttl) = ttl(partition.ttl) {
        put("ttl", ttl);
    }
    if let Some(timetable) = &partition.timetable {
        put("schedule", timetable.to_json());
    }
    Value::Object(out)
}

fn ttl(ttl: Ttl) -> Option<Value> {
    match ttl {
        Ttl::Unsaid => None,
        Ttl::Forever => Some(json!("forever")),
        Ttl::For(time) => Some(json!(format_duration(time))),
    }
}

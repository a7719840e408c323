//! Files that load, and what becomes of them.

use std::path::Path;
use std::time::Duration;

use super::{GOLDEN, good};
use crate::config::{LimitsConfig, load, schema};
use crate::faults::KINDS;
use crate::operation::Direction;
use crate::rules::{
    Glob, HostGlob, Mode, Ordinals, PathGlob, Protocol, Shape, Start, Subnet, Timetable, Ttl,
};

#[test]
fn every_key_is_read() {
    let config = good(GOLDEN);
    assert_eq!(config.seed, Some(42));
    assert_eq!(
        config.control.token_file.as_deref(),
        Some(Path::new("./token"))
    );
    assert_eq!(config.control.hosts, ["chaos.example"]);
    assert_eq!(config.control.heartbeat, Some(Duration::from_secs(15)));
    assert_eq!(config.metrics.unwrap().listen, "127.0.0.1:9090");
    assert_eq!(config.evidence.capacity, 100_000);
    assert_eq!(config.evidence.redact, ["authorization"]);
    let traces = config.traces.unwrap();
    assert_eq!(traces.otlp.to_string(), "http://127.0.0.1:4318");
    assert_eq!((&*traces.service, traces.all), ("drills", true));
    assert_eq!(traces.timeout, Duration::from_secs(3));
    let staging = ("deployment.environment.name", "staging");
    assert_eq!(
        traces.resource,
        [(staging.0.to_owned(), staging.1.to_owned())]
    );
    let (name, value) = &traces.headers[0];
    assert_eq!((name.as_str(), value.as_bytes()), ("x-tenant", &b"7"[..]));
    assert_eq!(config.identity.header.as_deref(), Some("x-payment-id"));
    let limits = LimitsConfig {
        held_per_connection: 1 << 20,
        held_total: 64 << 20,
        linger: Duration::from_secs(5),
        half_close: Duration::from_secs(60),
        handshake: Duration::from_secs(10),
        drain: Duration::ZERO,
    };
    assert_eq!(config.limits, limits);

    let [payment, orders, _] = config.proxies.as_slice() else {
        panic!("three proxies");
    };
    assert_eq!(
        (payment.from.as_str(), payment.protocol),
        ("checkout", Protocol::Http)
    );
    assert_eq!(
        (orders.to.as_str(), orders.protocol),
        ("orders", Protocol::Tcp)
    );
    assert_eq!(orders.connect_timeout, Duration::from_secs(5));

    let lost = &config.rules[0];
    assert_eq!(lost.proxies.as_deref(), Some(&["payment".to_owned()][..]));
    assert!(!lost.enabled && !lost.dry_run);
    assert_eq!(lost.matcher.methods, ["POST"]);
    assert_eq!(
        lost.matcher.path,
        Some(PathGlob("/authorize/*".to_owned()).into())
    );
    assert_eq!(
        lost.matcher.query,
        [("page".to_owned(), Glob("1".to_owned()).into())]
    );
    assert_eq!((lost.probability, lost.skip), (0.3, 2));
    assert_eq!((lost.limit, lost.max_active), (Some(5), Some(50)));
    assert_eq!(lost.ttl, Ttl::For(Duration::from_secs(30)));
    assert_eq!(config.rules[1].direction, Some(Direction::Downstream));
    assert_eq!(config.rules[1].ttl, Ttl::Forever);
    assert_eq!(config.rules[2].matcher.methods, ["GET", "HEAD"]);
    assert_eq!(config.rules[4].ttl, Ttl::Unsaid);
    assert_eq!(format!("{:?}", config.rules[4].fault), r#"{"drop":{}}"#);

    let late = &config.rules[5].matcher;
    let net = |text| Subnet::parse(text).unwrap();
    assert_eq!(late.clients, [net("10.0.0.0/8"), net("::1")]);
    let span = |text| Ordinals::parse(text).unwrap();
    assert_eq!(late.connections, [span("2"), span("4-5"), span("10-")]);
    assert_eq!(late.bytes, Some(64 << 10));
    assert_eq!(late.age, Some(Duration::from_secs(90)));
    assert_eq!(late.sni, Some(HostGlob::new("*.example.com")));
    assert_eq!(config.rules[6].matcher.clients, [net("192.168.0.7")]);

    let split = &config.partitions[0];
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let groups = vec![list(&["checkout"]), list(&["payment", "orders"])];
    assert_eq!(split.shape, Shape::Between(groups));
    let shapes = config.partitions[1..].iter().map(|p| &p.shape);
    let ring = list(&["checkout", "payment", "orders", "ledger"]);
    assert_eq!(
        shapes.collect::<Vec<_>>(),
        [
            &Shape::Isolate(list(&["payment"])),
            &Shape::Ring(ring),
            &Shape::Split {
                groups: 3,
                services: None,
                seed: Some(7)
            },
        ]
    );
    let seconds = Duration::from_secs;
    let table = |at, lasts, every, ramps: [u64; 2]| Timetable {
        at,
        lasts: Some(seconds(lasts)),
        every,
        ramp_up: seconds(ramps[0]),
        ramp_down: seconds(ramps[1]),
    };
    let ramped = table(Start::After(seconds(10)), 30, Some(seconds(60)), [10, 5]);
    assert_eq!(config.rules[0].timetable, Some(ramped));
    let moment = Start::At("2030-01-02T03:04:05Z".parse().unwrap());
    assert_eq!(
        config.partitions[1].timetable,
        Some(table(moment, 5, None, [0, 0]))
    );
    assert_eq!((split.mode, split.enabled), (Mode::Blackhole, false));
}

#[test]
fn every_kind_loads_with_every_parameter() {
    let pem = super::tls::Pem::make();
    let mut text = format!(
        "proxies:\n  - {{ name: t, listen: '127.0.0.1:0', upstream: 'h:1' }}\n  - {{ name: h, listen: '127.0.0.1:0', upstream: 'h:1', protocol: http, tls: {{ terminate: {{ ca: {} }} }} }}\nrules:\n",
        pem.at("ca")
    );
    for kind in KINDS {
        let params = kind.params.iter();
        let params: Vec<_> = params
            .map(|p| format!("{}: {}", p.name, p.ty.example()))
            .collect();
        let params = params.join(", ");
        text += &format!(
            "  - {{ name: {0}, fault: {{ {0}: {{ {params} }} }} }}\n",
            kind.name
        );
    }
    let config = good(&text);
    for (rule, kind) in config.rules.iter().zip(KINDS) {
        assert_eq!(rule.fault.args.0.len(), kind.params.len(), "{}", kind.name);
    }
}

#[test]
fn what_says_nothing_is_all_defaults() {
    for text in [
        "",
        "# nothing\n",
        "{}",
        "proxies:\nrules:\ncontrol:\nmetrics:\n",
        "\u{feff}{}",
    ] {
        let config = good(text);
        assert_eq!(config.control.listen, "127.0.0.1:8474");
        assert_eq!(config.limits.held_total, 512 << 20);
        assert!(config.proxies.is_empty() && config.metrics.is_none());
    }
}

#[test]
fn scalars_that_look_like_something_else() {
    let config = good(
        "proxies:
  - { name: p, listen: 127.0.0.1:0, upstream: b:1, protocol: http }
  - { name: 'off', listen: 127.0.0.1:0, upstream: b:1 }
rules:
  - name: no
    match: { headers: { a: 1, b: 0x10, c: true, d: on, e: 007, 5: x, f: !!str 1.10, g: '1.10' } }
    fault: { abort: { body: 12, headers: { retry-after: +5 } } }
",
    );
    let headers: Vec<_> = config.rules[0].matcher.headers.iter().collect();
    let spelt: Vec<_> = headers
        .iter()
        .map(|(k, v)| format!("{k}={}", v.to_json().as_str().unwrap()))
        .collect();
    assert_eq!(
        spelt,
        [
            "a=1", "b=0x10", "c=true", "d=on", "e=007", "5=x", "f=1.10", "g=1.10"
        ]
    );
    assert_eq!(
        format!("{:?}", config.rules[0].fault),
        r#"{"abort":{"headers":{"retry-after":"+5"},"body":"12"}}"#
    );
}

#[test]
fn aliases_stand_for_what_they_name() {
    let config = good(
        "proxies:
  - { name: &p payment, listen: 127.0.0.1:0, upstream: b:1 }
rules:
  - { name: a, proxies: &who [*p], fault: &slow { delay: { latency: 1s } } }
  - { name: b, proxies: *who, fault: *slow }
",
    );
    assert_eq!(config.rules[1].proxies, config.rules[0].proxies);
    assert_eq!(config.rules[1].fault.args, config.rules[0].fault.args);
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("firedrill.yaml");
    std::fs::write(
        &file,
        "control: { token_file: secrets/token, read_token_file: read }\nevidence: { file: /e.jsonl }\n",
    )
    .unwrap();
    let config = load(&file).unwrap();
    assert_eq!(
        config.control.token_file,
        Some(folder.path().join("secrets/token"))
    );
    let reading = config.control.read_token_file;
    assert_eq!(reading, Some(folder.path().join("read")));
    assert_eq!(config.evidence.file.as_deref(), Some(Path::new("/e.jsonl")));
}

#[test]
fn beyond_loopback_with_a_token_or_on_purpose() {
    good("control: { listen: 0.0.0.0:8474, token_file: token }");
    good("control: { listen: chaos.example:8474, insecure: true }");
    for loopback in ["localhost:8474", "'[::1]:8474'", "127.1.2.3:0"] {
        good(&format!("control: {{ listen: {loopback} }}"));
    }
    let problems = super::bad("control: { listen: chaos.example:8474, insecure: false }");
    assert!(problems.to_string().contains("needs a token"));
    // One that is for reading keeps nobody from changing things, nor lets anybody.
    let problems = super::bad("control: { listen: 0.0.0.0:8474, read_token_file: read }");
    let said = problems.to_string();
    assert!(
        said.contains("needs a token") && said.contains("nor healed"),
        "{said}"
    );
}

#[test]
fn what_is_held_of_one_is_never_more_than_of_all() {
    let config = good("limits: { held_total: 1MiB }");
    assert_eq!(config.limits.held_per_connection, 1 << 20);
}

/// The keys that the decoder allows in a map: what it says when one is unknown.
fn allowed(text: &str, unknown_at: &str) -> Vec<String> {
    super::allowed_in(&super::bad(text), unknown_at)
}

#[test]
fn the_schema_has_the_keys_of_the_decoder() {
    let schema = schema();
    let root = schema.pointer("/properties").unwrap();
    let keys = |map: &serde_json::Value| {
        let mut keys: Vec<_> = map.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let z = "zzzzzzzzzzzzzzzzzzzz: 1";
    assert_eq!(keys(root), allowed(z, ""));
    for section in [
        "control", "metrics", "evidence", "traces", "identity", "limits",
    ] {
        let text = format!("{section}: {{ {z} }}");
        assert_eq!(
            keys(&root[section]["properties"]),
            allowed(&text, &format!("{section}."))
        );
    }
    for (list, def) in [
        ("proxies", "proxy"),
        ("rules", "rule"),
        ("partitions", "partition"),
    ] {
        let text = format!("{list}: [{{ {z}, fault: {{ drop: {{}} }} }}]");
        let properties = &schema["$defs"][def]["properties"];
        assert_eq!(keys(properties), allowed(&text, &format!("{list}[0].")));
    }
    let text = format!("rules: [{{ match: {{ {z} }}, fault: {{ drop: {{}} }} }}]");
    assert_eq!(
        keys(&schema["$defs"]["match"]["properties"]),
        allowed(&text, "rules[0].match.")
    );
    for (path, at) in [
        ("/tls", "tls"),
        ("/tls/properties/terminate", "tls.terminate"),
        ("/tls/properties/originate", "tls.originate"),
        ("/proxy_protocol", "proxy_protocol"),
        ("/forwarded", "forwarded"),
    ] {
        let open: String = at.split('.').map(|key| format!("{key}: {{ ")).collect();
        let close = " }".repeat(at.split('.').count());
        let text = format!("proxies: [{{ {open}{z}{close} }}]");
        let found = schema["$defs"].pointer(path).unwrap();
        let found = keys(&found["properties"]);
        assert_eq!(found, allowed(&text, &format!("proxies[0].{at}.")));
    }
    for (list, at, found) in [
        ("rules", "schedule", "/schedule"),
        ("partitions", "schedule", "/partition/properties/schedule"),
        ("partitions", "split", "/partition/properties/split"),
    ] {
        let text = format!("{list}: [{{ {at}: {{ {z} }}, fault: {{ drop: {{}} }} }}]");
        let found = schema["$defs"].pointer(found).unwrap();
        assert_eq!(
            keys(&found["properties"]),
            allowed(&text, &format!("{list}[0].{at}."))
        );
    }
    for (section, more) in [("control", ""), ("traces", "otlp: https://h, ")] {
        let found = &root[section]["properties"]["tls"]["properties"];
        let text = format!("{section}: {{ {more}tls: {{ {z} }} }}");
        assert_eq!(keys(found), allowed(&text, &format!("{section}.tls.")));
    }
    for kind in KINDS {
        let text = format!("rules: [{{ fault: {{ {}: {{ {z} }} }} }}]", kind.name);
        let path = format!("rules[0].fault.{}.", kind.name);
        let params = &schema["$defs"]["fault"]["properties"][kind.name]["properties"];
        assert_eq!(keys(params), allowed(&text, &path));
    }
}

#[test]
fn every_property_of_the_schema_is_described() {
    fn walk(value: &serde_json::Value) {
        let Some(map) = value.as_object() else { return };
        for (key, below) in map
            .get("properties")
            .and_then(|p| p.as_object())
            .into_iter()
            .flatten()
        {
            let described = below.get("description").is_some() || below.get("$ref").is_some();
            assert!(described, "{key}");
        }
        map.values().for_each(walk);
    }
    walk(&schema());
}

//! JSON bodies: the same decoder, the same words, no places.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{GOLDEN, bad, good};
use crate::config::{
    Problems, edge_from_json, edge_to_json, partition_from_json, partition_to_json, rule_from_json,
    rule_to_json,
};
use crate::rules::Edge;

#[test]
fn what_is_written_reads_the_same_back() {
    let config = good(GOLDEN);
    for rule in &config.rules {
        let body = rule_to_json(rule);
        let back = rule_from_json(&body, &config.proxies).unwrap();
        assert!(back.same_as(rule) && back.enabled == rule.enabled, "{body}");
        assert_eq!(rule_to_json(&back), body);
    }
    for partition in &config.partitions {
        let body = partition_to_json(partition);
        assert_eq!(
            partition_from_json(&body, &config.proxies).as_ref(),
            Ok(partition)
        );
    }
    for edge in &config.proxies {
        assert_eq!(edge_from_json(&edge_to_json(edge)).as_ref(), Ok(edge));
    }
    assert!(config.rules.len() >= 7 && !config.partitions.is_empty());
}

#[test]
fn a_rule_as_written() {
    let config = good(GOLDEN);
    assert_snapshot!(rule_to_json(&config.rules[0]), @r#"{"name":"lost-payment-response","proxies":["payment"],"enabled":false,"match":{"method":"POST","path":"/authorize/*","query":{"page":"1"},"headers":{"x-tenant":"canary"}},"probability":0.3,"skip":2,"limit":5,"max_active":50,"ttl":"30s","dry_run":false,"schedule":{"at":"10s","for":"30s","every":"1m","ramp_up":"10s","ramp_down":"5s"},"fault":{"response_loss":{"then":"hang"}}}"#);
    assert_snapshot!(rule_to_json(&config.rules[5])["match"], @r#"{"client":["10.0.0.0/8","::1"],"connection":[2,"4-5","10-"],"bytes":"64KiB","age":"1m30s","sni":"*.example.com"}"#);
    assert_snapshot!(rule_to_json(&config.rules[6])["match"], @r#"{"client":"192.168.0.7","connection":"1-3"}"#);
    assert_snapshot!(rule_to_json(&config.rules[7])["match"], @r#"{"host":"*.shop.example","path":"/orders/{id}/items/{n}","query":{"page":{"regex":"^[0-9]+$"}},"headers":{"x-tenant":{"regex":"^canary"}},"cookies":{"session":"s-*","debug":"true"},"grpc":{"service":"shop.*","method":"Authorize"},"body":{"contains":"EUR","regex":"[0-9]{3}","json":{"/amount":"42","/items/0/sku":"A-*"},"within":"1KiB"},"response":{"status":[429,"5xx","401-403"],"headers":{"retry-after":"*"}},"request":{"nth":["1-2",5],"per":"identity"},"asked":true,"all":[{"method":"POST"},{"any":[{"client":"10.0.0.0/8"},{"not":{"age":"5s"}}]}],"any":[{"path":{"regex":"^/v1/"}},{"path":"/v2/**"}],"not":{"method":"GET","headers":{"x-drill":"off"}}}"#);
    assert_snapshot!(partition_to_json(&config.partitions[0]), @r#"{"name":"split","between":[["checkout"],["payment","orders"]],"deaf":["checkout"],"mode":"blackhole","enabled":false,"ttl":"1m"}"#);
    assert_snapshot!(partition_to_json(&config.partitions[1]), @r#"{"name":"alone","isolate":["payment"],"mode":"blackhole","enabled":true,"schedule":{"at":"2030-01-02T03:04:05.000000Z","for":"5s"}}"#);
    assert_snapshot!(partition_to_json(&config.partitions[2])["ring"], @r#"["checkout","payment","orders","ledger"]"#);
    assert_snapshot!(partition_to_json(&config.partitions[3])["split"], @r#"{"groups":3,"seed":7}"#);
}

#[test]
fn what_answers_add_is_ignored() {
    let edges = [Edge::new("p", "127.0.0.1:0", "b:1")];
    let body = json!({
        "name": "r", "fault": { "drop": {} },
        "source": "api", "expires_at": null, "selected": 3, "injected": [1],
    });
    rule_from_json(&body, &edges).unwrap();
    let body = json!({
        "name": "s", "between": [["client"], ["p"]],
        "source": "api", "expires_at": "2026-01-01T00:00:00Z", "selected": 3, "injected": 1,
    });
    partition_from_json(&body, &edges).unwrap();
    let text = "rules: [{ name: r, selected: 1, fault: { drop: {} } }]";
    assert!(bad(text).to_string().contains("unknown key `selected`"));
}

/// The problems of a definition, from a file that has it as its only one, without places.
fn from_file(section: &str, body: &Value, proxies: &str) -> Vec<(String, String, Option<String>)> {
    let problems = bad(&format!("{proxies}{section}: [{body}]\n"));
    assert!(problems.list.iter().all(|p| p.line.is_some()));
    plain(problems, &format!("{section}[0]"))
}

fn plain(problems: Problems, prefix: &str) -> Vec<(String, String, Option<String>)> {
    let plain = problems.list.into_iter().map(|p| {
        let path = p.path.strip_prefix(prefix).unwrap_or(&p.path);
        (path.trim_start_matches('.').to_owned(), p.message, p.hint)
    });
    let mut plain: Vec<_> = plain.collect();
    plain.sort();
    plain
}

#[test]
fn a_body_has_the_problems_of_a_file() {
    let edges = [Edge::new("p", "127.0.0.1:0", "b:1")];
    let proxies = "proxies: [{ name: p, listen: 127.0.0.1:0, upstream: b:1 }]\n";
    let rule = json!({
        "name": "a b", "proxies": ["q"], "probability": 1.5, "limit": "5", "nonsense": null,
        "fault": { "delay": { "latency": 5, "jitterr": "1s", "distribution": true } },
    });
    let problems = rule_from_json(&rule, &edges).unwrap_err();
    assert_snapshot!(problems, @r#"
    name: expected a name: 1 to 129 letters, digits, `_`, `.`, `-` or `/`, found `a b`
    proxies[0]: there is no proxy `q`
      hint: did you mean `p`?
    probability: expected a number from 0 to 1, found the number 1.5
      hint: 1.5 % is written `0.015`
    limit: expected a whole number of 1 or more, found `5`
      hint: write it without quotes
    fault.delay.latency: expected a duration such as `150ms`, `2s` or `1m30s`, found the number 5
      hint: give it a unit: `5ms` or `5s`
    fault.delay.distribution: expected one of `uniform`, `normal`, `lognormal`, `pareto`, found `true` (a boolean)
    fault.delay.jitterr: unknown key `jitterr`
      hint: did you mean `jitter`?
    nonsense: unknown key `nonsense`
      hint: allowed here: `name`, `proxies`, `enabled`, `match`, `probability`, `skip`, `limit`, `max_active`, `ttl`, `dry_run`, `direction`, `schedule`, `fault`
    "#);
    assert_eq!(plain(problems, ""), from_file("rules", &rule, proxies));

    let partition = json!({ "name": "", "between": [["p"], ["q", 5]], "mode": "x", "ttl": "0s" });
    let problems = partition_from_json(&partition, &edges).unwrap_err();
    assert_snapshot!(problems, @r#"
    name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found an empty text
    between[1][0]: no proxy is from or to `q`
      hint: did you mean `p`?
    between[1][1]: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found the number 5
      hint: write it in quotes: `"5"`
    mode: expected one of `blackhole`, `refuse`, `reset`, found `x`
    ttl: expected a duration longer than 0, found `0s`
    "#);
    assert_eq!(
        plain(problems, ""),
        from_file("partitions", &partition, proxies)
    );

    let edge = json!({ "name": "x".repeat(65), "listen": ":80", "upstream": 80, "from": null });
    let problems = edge_from_json(&edge).unwrap_err();
    assert_snapshot!(problems, @r#"
    name: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`
    from: expected a name: 1 to 64 letters, digits, `_`, `.` or `-`, found nothing
    listen: expected an address such as `127.0.0.1:7001`, found `:80`
      hint: did you mean `127.0.0.1:80`? (`0.0.0.0:80` is every interface)
    upstream: expected an address such as `127.0.0.1:8001` or `payment:8001`, found the number 80
      hint: did you mean `127.0.0.1:80`?
    "#);
    assert_eq!(plain(problems, ""), from_file("proxies", &edge, ""));
}

#[test]
fn a_rule_where_there_is_nothing_to_act_on() {
    let tcp = [Edge::new("p", "127.0.0.1:0", "b:1")];
    let abort = json!({ "name": "r", "fault": { "abort": {} } });
    assert_snapshot!(rule_from_json(&abort, &tcp).unwrap_err(), @r#"
    fault.abort: `abort` can act on no proxy: all are `tcp`
      hint: it needs a proxy with `protocol: http`
    "#);
    assert_snapshot!(rule_from_json(&abort, &[]).unwrap_err(), @r#"
    fault.abort: `abort` has nothing to act on: there is no proxy
      hint: it needs a proxy with `protocol: http`
    "#);
    for body in [json!(null), json!([]), json!("r"), json!(1.5)] {
        assert!(rule_from_json(&body, &tcp).is_err());
        assert!(partition_from_json(&body, &tcp).is_err());
        assert!(edge_from_json(&body).is_err());
    }
}

#[test]
fn a_schedule_and_a_shape_say_what_is_wrong_with_them() {
    let edges = ["b", "c", "d"].map(|to| Edge::new(to, "127.0.0.1:0", "b:1"));
    let proxies = "proxies: [{ name: b, listen: 127.0.0.1:0, upstream: b:1 }, { name: c, listen: 127.0.0.1:0, upstream: b:1 }, { name: d, listen: 127.0.0.1:0, upstream: b:1 }]\n";
    let mut said = String::new();
    for schedule in [
        json!({ "at": "noon", "for": 5, "evry": "1s" }),
        json!({ "at": "2026-13-01T00:00:00Z", "every": "10s" }),
        json!({ "for": "10s", "every": "5s", "ramp_up": "6s", "ramp_down": "5s" }),
        json!({ "ramp_down": "5s" }),
    ] {
        let rule = json!({ "name": "r", "schedule": schedule, "fault": { "drop": {} } });
        let problems = rule_from_json(&rule, &edges).unwrap_err();
        said += &format!("{problems}\n");
        assert_eq!(plain(problems, ""), from_file("rules", &rule, proxies));
    }
    for shape in [
        json!({}),
        json!({ "isolate": [] }),
        json!({ "isolate": ["b"], "ring": ["b", "c", "d", "client"] }),
        json!({ "between": [["b"], ["c"]], "split": {} }),
        json!({ "ring": ["b", "c", "b"], "deaf": ["client"] }),
        json!({ "split": { "groups": 3, "services": ["b", "c"] }, "deaf": ["d"] }),
        json!({ "isolate": ["b"], "deaf": ["x"], "schedule": { "ramp_up": "1s" } }),
    ] {
        let mut partition = shape;
        partition["name"] = "p".into();
        let problems = partition_from_json(&partition, &edges).unwrap_err();
        said += &format!("{problems}\n");
        // A file can also say on which line the other stands.
        let in_file = from_file("partitions", &partition, proxies);
        let in_file = in_file
            .into_iter()
            .map(|(path, message, hint)| (path, message.replace(" (line 2)", ""), hint));
        assert_eq!(plain(problems, ""), in_file.collect::<Vec<_>>());
    }
    assert_snapshot!(said, @"
    schedule.at: expected a duration such as `10s`, or a moment such as `2026-12-24T10:00:00Z`, found `noon`
    schedule.for: expected a duration such as `150ms`, `2s` or `1m30s`, found the number 5
      hint: give it a unit: `5ms` or `5s`
    schedule.evry: unknown key `evry`
      hint: did you mean `every`?
    schedule.at: expected a duration such as `10s`, or a moment such as `2026-12-24T10:00:00Z`, found `2026-13-01T00:00:00Z`
    schedule.every: `every` needs `for`
      hint: say how long it acts each time, such as `for: 10s`
    schedule.every: shorter than `for`: a window would open before the last has closed
      hint: leave `every` out to act all the time
    schedule.ramp_up: the ramps together are longer than `for`
    schedule.ramp_down: `ramp_down` needs `for`
      hint: say how long it acts each time, such as `for: 10s`
    between: missing; expected groups of services such as `[[checkout], [payment, orders]]`
    isolate: names no service
      hint: name who is to be cut off from all others
    ring: `isolate` says already who is cut off from whom
      hint: leave one of them out, or make two partitions
    split: `between` says already who is cut off from whom
      hint: leave one of them out, or make two partitions
    ring[2]: `b` stands here already
    ring: 3 of at least 4 services
      hint: in a ring of three each is the others' neighbour
    deaf[0]: `client` is in none of the services of `ring`
      hint: who is deaf must be in a group
    split.groups: 2 services are too few for 3 groups
    deaf[0]: `d` is in none of the services of `split`
      hint: did you mean `b`?
    deaf[0]: no proxy is from or to `x`
      hint: did you mean `b`?
    schedule.ramp_up: unknown key `ramp_up`
      hint: allowed here: `at`, `for`, `every`
    ");
}

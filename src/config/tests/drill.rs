//! A drill's file.

use std::time::Duration;

use serde_json::{Value, json};

use super::allowed_in;
use crate::config::drill::{
    Action, Address, Arrivals, Bounds, Check, Comparison, JsonIs, Source, Stage, When,
};
use crate::config::{Drill, Problems, drill_schema, parse_drill};
use crate::evidence::Class;

const GOLDEN: &str = include_str!("drill.yaml");

fn good(text: &str) -> Drill {
    parse_drill(text, "d.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn bad(text: &str) -> Problems {
    parse_drill(text, "d.yaml").expect_err("it should be refused")
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_key_is_read() {
    let drill = good(GOLDEN);
    let words = &drill.worksheet;
    assert!(words.promise.starts_with("One order"));
    assert_eq!(words.participants, ["customer", "web", "payment"]);
    assert_eq!(words.facts[1].1.len(), 2);
    assert_eq!((words.unknowns.len(), words.repair.len()), (1, 1));
    assert_eq!((drill.seed, drill.proxies.len()), (Some(42), 2));

    let Source::Http(http) = &drill.load.source else {
        panic!("{:?}", drill.load)
    };
    assert_eq!(http.request.to, Address::Proxy("web".to_owned()));
    assert_eq!(http.arrivals, Arrivals::Poisson);
    let stage = |lasts, from, to| Stage {
        lasts: Some(SECOND * lasts),
        from,
        to,
    };
    assert_eq!(http.stages, [stage(10, 20.0, 20.0), stage(60, 20.0, 10.0)]);
    assert!(http.good.statuses.iter().any(|s| s.contains(404)));
    assert!(!http.good.statuses.iter().any(|s| s.contains(301)));

    assert_eq!(drill.steady_state.checks.len(), 4);
    assert!(drill.steady_state.checks[3].negated);
    let names: Vec<_> = drill.timeline.iter().map(|i| i.action.name()).collect();
    assert_eq!(
        names,
        [
            "lost",
            "split",
            "pause payment",
            "kill -9 $(cat payment.pid)",
            "random"
        ]
    );
    let Action::Rule(rule) = &drill.timeline[0].action else {
        panic!()
    };
    assert_eq!(rule.timetable.as_ref().map(|t| t.ramp_up), Some(SECOND * 2));
    let Action::Random(random) = &drill.timeline[4].action else {
        panic!()
    };
    assert_eq!(random.lasts, (SECOND, SECOND * 3));

    let said: Vec<_> = drill
        .promises
        .iter()
        .map(|p| p.condition.to_string())
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    success rate at least 90 %
    goodput at web at least 80 % of before
    latency p99.9 at most 1s, mean at most 20ms, max at most 2s
    each operation at payment is delivered at most once
    no `unseen` or `late` at payment without repair within 30s
    retries at payment bounded by 3
    the breaker before payment opens within 5s
    `unseen` operations at least 1
    GET /ledger at proxy web answers 200 with `order`, the length of it is at least 1, /0 is "placed", /1 is above 1 and below 9, the length of /2 is equal to 0
    127.0.0.1:5432 accepts connections
    `./count.sh` exits with 1, /charges is at most 1
    `up` is at least 1
    "#);
    assert_eq!(drill.promises[0].name, "customers get an answer");
    assert_eq!(
        drill.promises[1].name,
        "goodput at web at least 80 % of before"
    );
    let when: Vec<_> = drill.promises.iter().map(|p| p.when).collect();
    use When::{After, Always, During, End};
    assert_eq!(
        when,
        [
            Always, During, After, Always, Always, Always, During, Always, End, During, End, During
        ]
    );
    let Check::Repaired { classes, .. } = &drill.promises[4].condition.check else {
        panic!()
    };
    assert_eq!(classes, &[Class::Unseen, Class::Late]);
    let Check::Http(probe) = &drill.promises[8].condition.check else {
        panic!()
    };
    assert_eq!(
        probe.json[0].is,
        JsonIs::Length(Bounds(vec![(Comparison::AtLeast, 1.0)]))
    );
    assert_eq!(probe.json[1].is, JsonIs::Equal(json!("placed")));
    assert_eq!(drill.recovery.goodput, 0.95);
    assert_eq!(drill.stop_when[0].over, SECOND * 10);
    assert_eq!(drill.cleanup[0].words, ["sh", "-c", "./reset.sh"]);
    assert_eq!(drill.cleanup[2].timeout, SECOND * 5);
}

const LEAST: &str =
    "promise: p\ntimeline:\n  - { for: 1s, rule: { name: r, fault: { drop: {} } } }\n";

#[test]
fn the_least_that_is_a_drill() {
    let drill = good(LEAST);
    assert!(matches!(drill.load.source, Source::Traffic));
    assert_eq!(drill.steady_state.lasts, SECOND * 10);
    assert_eq!(drill.steady_state.checks.len(), 1);
    assert_eq!(drill.recovery.within, SECOND * 30);
}

/// Each line of the list: what is said, and a part of what is answered.
#[test]
fn what_is_wrong_is_said_with_its_place() {
    let http = "load: { http: { url: 'http://h/', rate: 1/s, ";
    for (text, said) in [
        ("facts: [a]", "facts: expected a map such as"),
        ("promis: p", "d.yaml:4:1: promis: unknown key `promis`"),
        (
            "urls: [localhost]",
            "urls[0]: expected a control port's URL",
        ),
        (
            "urls: [http://a]\nproxies: []",
            "urls: the drill runs proxies of its own",
        ),
        ("load: {}", "load: expected who makes the traffic"),
        (
            "load: { traffic: {}, command: k6 }",
            "load.traffic: one thing makes the traffic",
        ),
        (
            "load: { http: { url: 'http://h/' } }",
            "load.http.rate: missing",
        ),
        ("load: { http: { rate: 5/s } }", "load.http.url: missing"),
        (
            "load: { http: { url: h:80, rate: 5/s } }",
            "did you mean `http://h:80`?",
        ),
        (
            "load: { http: { url: 'http://{{id}}/', rate: 5/s } }",
            "a placeholder can't stand for the host",
        ),
        (
            "load: { http: { url: 'http://h/a b', rate: 5/s } }",
            "a path can't have ` `",
        ),
        (
            &format!("{http} body: '{{{{idd}}}}' }} }}"),
            "did you mean `id`?",
        ),
        (
            &format!("{http} headers: {{ 'a b': c }} }} }}"),
            "expected the name of a header",
        ),
        (
            &format!("{http} stages: [] }} }}"),
            "`rate` says already how many",
        ),
        (
            "steady_state: { checks: [retries: { at_most: 3 }] }",
            "`retries` can be judged only when all is over",
        ),
        (
            "steady_state: { checks: [goodput: { at_least: 0.9 }] }",
            "this is before",
        ),
        (
            "steady_state: { checks: [{}] }",
            "names nothing that can be true",
        ),
        (
            "promises: [{ succes_rate: { at_least: 1 } }]",
            "did you mean `success_rate`?",
        ),
        ("promises: [{ success_rate: {} }]", "compares nothing"),
        (
            "promises: [{ success_rate: { at_least: 90 } }]",
            "90 % is written `0.9`",
        ),
        (
            "promises: [{ retries: { at_most: 1 }, goodput: { at_least: 1/s } }]",
            "says already what is to be true",
        ),
        (
            "promises: [{ name: a, tcp: { address: 'a:1' } }, { name: a, tcp: { address: 'a:1' } }]",
            "the name `a` is taken by promises[0].name",
        ),
        (
            "promises: [{ when: end, retries: { at_most: 1 } }]",
            "measured over a stretch",
        ),
        ("promises: [{ latency: { p99: 3 } }]", "give it a unit"),
        ("promises: [{ latency: { p98: 3s } }]", "unknown key `p98`"),
        (
            "promises: [{ evidence: { class: unsen, at_most: 0 } }]",
            "did you mean `unseen`?",
        ),
        (
            "promises: [{ http: { url: 'http://h/', json: { $.a.b: 1 } } }]",
            "did you mean `/a/b`?",
        ),
        (
            "recovery: { within: 1s, hold: 2s }",
            "longer than it is watched",
        ),
        ("cleanup: ['']", "cleanup[0]: expected a command"),
    ] {
        let problems = bad(&format!("{LEAST}{text}\n")).to_string();
        assert!(problems.contains(said), "{text}\n{problems}");
    }
    for (item, said) in [
        ("{}", "names nothing that happens"),
        (
            "{ rule: { name: r, fault: { drop: {} } } }",
            "timeline[0].for: missing",
        ),
        (
            "{ for: 1s, rule: { name: r, ttl: 5s, fault: { drop: {} } } }",
            "the timeline says when it is on",
        ),
        ("{ for: 1s, run: a }", "the command has no `undo`"),
        ("{ run: a, undo: b }", "timeline[0].for: missing"),
        (
            "{ for: 1s, undo: b, rule: { name: r, fault: { drop: {} } } }",
            "`undo` is a command's",
        ),
        (
            "{ for: 2s, every: 1s, times: 2, rule: { name: r, fault: { drop: {} } } }",
            "it would begin before it has ended",
        ),
        (
            "{ for: 2s, times: 2, rule: { name: r, fault: { drop: {} } } }",
            "timeline[0].every: missing",
        ),
        (
            "{ for: 2s, ramp_up: 3s, rule: { name: r, fault: { drop: {} } } }",
            "the ramps together are longer",
        ),
        (
            "{ for: 2s, ramp_up: 1s, partition: { name: p, isolate: [a] } }",
            "only a rule has a chance",
        ),
        (
            "{ for: 9s, random: { every: 1s, lasts: 2s, of: [{ run: a, undo: b }] } }",
            "timeline[0].random.lasts: longer than `every`",
        ),
        (
            "{ for: 9s, random: { every: 1s, lasts: 1s, of: [] } }",
            "timeline[0].random.of: expected",
        ),
        ("{ at: 400d, run: a }", "a timeline is a day long at most"),
        (
            "{ for: 5s, rule: { name: r, fault: { drop: {} } }, run: b }",
            "`rule` says already what happens",
        ),
    ] {
        let problems = bad(&format!("promise: p\ntimeline: [{item}]\n")).to_string();
        assert!(problems.contains(said), "{item}\n{problems}");
    }
    let problems = bad("promise: p\ntimeline: []\n").to_string();
    assert!(
        problems.contains("a drill in which nothing goes wrong"),
        "{problems}"
    );
    // With proxies of its own, their names are known.
    let own =
        "proxies: [{ name: payment, listen: '127.0.0.1:0', upstream: 'b:1', protocol: http }]\n";
    let problems = bad(&format!(
        "{own}{LEAST}load: {{ proxies: [paymet], traffic: {{}} }}\n"
    ));
    assert!(
        problems.to_string().contains("did you mean `payment`?"),
        "{problems}"
    );
}

/// The keys of each map in the schema are those that the decoder allows there.
#[test]
fn the_schema_has_the_keys_of_the_decoder() {
    let schema = drill_schema();
    let mut seen = 0;
    let mut compare = |pointer: &str, open: &str, close: &str, at: &str| {
        let found = schema
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}"));
        let keys = found["properties"].as_object().unwrap();
        let mut keys: Vec<_> = keys.keys().cloned().collect();
        keys.sort();
        let text = format!("{open}zzzzzzzzzzzzzzzzzzzz: 1{close}");
        assert_eq!(keys, allowed_in(&bad(&text), at), "{pointer}");
        seen += 1;
    };
    compare("", "", "", "");
    for (path, at) in [
        ("load", "load"),
        ("load/properties/http", "load.http"),
        ("load/properties/http/properties/good", "load.http.good"),
        ("steady_state", "steady_state"),
        ("recovery", "recovery"),
        ("identity", "identity"),
    ] {
        let open: String = at.split('.').map(|key| format!("{key}: {{ ")).collect();
        let close = " }".repeat(at.split('.').count());
        compare(
            &format!("/properties/{path}"),
            &open,
            &close,
            &format!("{at}."),
        );
    }
    compare(
        "/properties/load/properties/http/properties/stages/items",
        "load: { http: { stages: [{ ",
        " }] } }",
        "load.http.stages[0].",
    );
    compare(
        "/properties/cleanup/items/anyOf/2",
        "cleanup: [{ ",
        " }]",
        "cleanup[0].",
    );
    compare("/$defs/item", "timeline: [{ ", " }]", "timeline[0].");
    let random = "/$defs/item/properties/random";
    compare(
        random,
        "timeline: [{ random: { ",
        " } }]",
        "timeline[0].random.",
    );
    compare(
        &format!("{random}/properties/of/items"),
        "timeline: [{ random: { of: [{ ",
        " }] } }]",
        "timeline[0].random.of[0].",
    );
    compare("/$defs/promise", "promises: [{ ", " }]", "promises[0].");
    compare(
        "/$defs/promise/properties/not",
        "promises: [{ not: { ",
        " } }]",
        "promises[0].not.",
    );
    compare(
        "/$defs/check",
        "steady_state: { checks: [{ ",
        " }] }",
        "steady_state.checks[0].",
    );
    compare("/$defs/stop", "stop_when: [{ ", " }]", "stop_when[0].");
    for (kind, _) in crate::config::drill::KINDS {
        compare(
            &format!("/$defs/promise/properties/{kind}"),
            &format!("promises: [{{ {kind}: {{ "),
            " } }]",
            &format!("promises[0].{kind}."),
        );
    }
    compare(
        "/$defs/promise/properties/latency/properties/p50/anyOf/1",
        "promises: [{ latency: { p50: { ",
        " } } }]",
        "promises[0].latency.p50.",
    );
    compare(
        "/$defs/promise/properties/http/properties/json/additionalProperties/anyOf/1",
        "promises: [{ http: { json: { /a: { ",
        " } } } }]",
        "promises[0].http.json[\"/a\"].",
    );
    assert!(seen > 30, "{seen}");
}

#[test]
fn every_property_of_the_schema_is_described() {
    fn walk(value: &Value) {
        let Some(map) = value.as_object() else {
            if let Some(list) = value.as_array() {
                list.iter().for_each(walk);
            }
            return;
        };
        let properties = map.get("properties").and_then(Value::as_object);
        for (key, below) in properties.into_iter().flatten() {
            let described = below.get("description").is_some_and(|d| d != "");
            assert!(described || below.get("$ref").is_some(), "{key}: {below}");
        }
        map.values().for_each(walk);
    }
    walk(&drill_schema());
}

proptest::proptest! {
    /// Whatever stands under the keys, it is read or refused.
    #[test]
    fn no_text_panics(key in 0..12usize, text in "[-\\[\\]{}a-z0-9:, /'\"$.]{0,60}") {
        let key = crate::config::drill::KEYS[key];
        let _ = parse_drill(&format!("{LEAST}{key}: {text}\n"), "d.yaml");
        let _ = parse_drill(&format!("promise: p\ntimeline: [{{ {text} }}]\n"), "d.yaml");
        let _ = parse_drill(&format!("{LEAST}promises: [{{ {text} }}]\n"), "d.yaml");
    }
}

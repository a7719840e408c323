//! What a promise, a check or a stop may be about.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::shapes::{about, count, duration, name, object, some, text, words};
use super::{request, statuses, time, usual_statuses, words_of_a_command};
use crate::config::drill::{Comparison, KINDS, PERCENTILES, WHEN};
use crate::evidence::{Class, findings};

pub(super) fn promise() -> Value {
    with_condition(
        "Something that is to be true",
        vec![
            (
                "name",
                about(text(), "What it is called; absent: what it says", None),
            ),
            (
                "when",
                about(
                    words(WHEN.iter().map(|(word, _)| *word)),
                    "Over which stretch it is judged; absent: what suits it",
                    None,
                ),
            ),
        ],
    )
}

pub(super) fn check() -> Value {
    with_condition("Something that must be so", Vec::new())
}

pub(super) fn stop() -> Value {
    with_condition(
        "What ends the drill at once when it is true",
        vec![
            (
                "over",
                time(
                    "What is measured is measured over so long",
                    Some(Duration::from_secs(5)),
                ),
            ),
            (
                "for",
                time("And it has been true for so long", Some(Duration::ZERO)),
            ),
        ],
    )
}

fn with_condition(description: &str, mut keys: Vec<(&'static str, Value)>) -> Value {
    keys.extend(kinds());
    let not = object("One condition; its contrary is meant", &[], kinds());
    keys.push(("not", not));
    let mut schema = object(description, &[], keys);
    let one = KINDS.iter().map(|(kind, _)| *kind).chain(["not"]);
    let one: Vec<_> = one.map(|key| json!({ "required": [key] })).collect();
    schema["oneOf"] = one.into();
    schema
}

fn kinds() -> Vec<(&'static str, Value)> {
    let one = |(kind, summary): &(&'static str, &str)| {
        let mut schema = kind_schema(kind);
        schema["description"] = json!(summary);
        (*kind, schema)
    };
    KINDS.iter().map(one).collect()
}

fn kind_schema(kind: &str) -> Value {
    let number = || json!({ "type": "number" });
    let within = |what: &str| time(what, None);
    match kind {
        "success_rate" => {
            let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
            object("", &[], at(bounds(&share)))
        }
        "goodput" => {
            let amount = json!({ "type": ["number", "string"] });
            object("", &[], at(bounds(&amount)))
        }
        "latency" => {
            let times = object("", &[], bounds(&duration()));
            let bound = json!({ "anyOf": [duration(), times] });
            let keys = PERCENTILES.iter().map(|(word, _)| {
                let what = "A time, which is the most that it may be; or comparisons";
                (*word, about(bound.clone(), what, None))
            });
            object("", &[], at(keys.collect()))
        }
        "at_most_once" => object(
            "",
            &[],
            at(vec![(
                "of",
                about(
                    words(["effects", "deliveries"].into_iter()),
                    "What is counted: successes that are no repetition of the same answer, or deliveries",
                    Some(json!("effects")),
                ),
            )]),
        ),
        "repaired" => object(
            "",
            &["within"],
            at(vec![
                ("within", within("In which time")),
                (
                    "class",
                    about(
                        classes(),
                        "Of operations of these classes",
                        Some(json!("unseen")),
                    ),
                ),
            ]),
        ),
        "retries" => object(
            "",
            &["at_most"],
            at(vec![(
                "at_most",
                about(count(0, u64::MAX), "How many", None),
            )]),
        ),
        "breaker" => object(
            "",
            &["proxy", "opens_within"],
            at(vec![(
                "opens_within",
                within("In which time of the first failure"),
            )]),
        ),
        "finding" => {
            let names = findings::FINDERS.iter().map(|finder| finder.name);
            let keys = [
                ("finding", about(words(names), "Its name", None)),
                (
                    "verdict",
                    about(
                        words(["yes", "no", "not_enough"].into_iter()),
                        "What it must be",
                        Some(json!("yes")),
                    ),
                ),
                (
                    "from",
                    about(name(), "Of this caller; absent: of each", None),
                ),
                (
                    "to",
                    about(name(), "Of this service; absent: of each", None),
                ),
            ];
            object("", &["finding"], keys)
        }
        "evidence" => {
            let mut keys = bounds(&count(0, u64::MAX));
            keys.push(("class", about(classes(), "Of these classes", None)));
            object("", &["class"], at(keys))
        }
        "http" => {
            let mut keys = request(false);
            keys.push(("status", statuses(&usual_statuses())));
            keys.push(("contains", about(text(), "The answer has this text", None)));
            keys.push(("json", json_checks()));
            keys.extend(asked());
            object("", &[], keys)
        }
        "tcp" => {
            let mut keys = asked();
            keys.push(("address", about(text(), "host:port", None)));
            object("", &["address"], keys)
        }
        "command" => {
            let mut keys = asked();
            let what = "A line for the shell, or a list of words";
            keys.push(("run", about(words_of_a_command(), what, None)));
            keys.push((
                "exit",
                about(count(0, 255), "The exit code", Some(json!(0))),
            ));
            keys.push(("json", json_checks()));
            object("", &["run"], keys)
        }
        _ => {
            let mut keys = asked();
            keys.extend(bounds(&number()));
            keys.push((
                "url",
                about(
                    text(),
                    "Where its API is, such as `http://127.0.0.1:9090`",
                    None,
                ),
            ));
            keys.push((
                "query",
                about(text(), "In PromQL; each value is compared", None),
            ));
            object("", &["url", "query"], keys)
        }
    }
}

/// With the proxy that is meant.
fn at(mut keys: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    let proxy = about(
        name(),
        "At this proxy; absent: of the load, or at each",
        None,
    );
    keys.push(("proxy", proxy));
    keys
}

fn bounds(of: &Value) -> Vec<(&'static str, Value)> {
    let one = |(word, _): (&'static str, Comparison)| {
        let text = format!("It is {}", word.replace('_', " "));
        (word, about(of.clone(), &text, None))
    };
    Comparison::ALL.map(one).to_vec()
}

fn classes() -> Value {
    let class = words(Class::ALL.iter().map(|class| class.as_str()));
    json!({ "anyOf": [class, some(class.clone())] })
}

fn asked() -> Vec<(&'static str, Value)> {
    let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    vec![
        (
            "every",
            time("From one time to the next", Some(Duration::from_secs(1))),
        ),
        (
            "timeout",
            time(
                "How long an answer is awaited",
                Some(Duration::from_secs(5)),
            ),
        ),
        (
            "share",
            about(
                share,
                "Of the times that it was asked, this share must be as it should",
                Some(json!(1)),
            ),
        ),
    ]
}

fn json_checks() -> Value {
    let length = object("", &[], bounds(&json!({ "type": "number" })));
    let mut compared = bounds(&json!({ "type": "number" }));
    let length = json!({ "anyOf": [count(0, u64::MAX), length] });
    compared.push(("length", about(length, "Of a list, a map or a text", None)));
    let value = json!({
        "anyOf": [
            { "type": ["string", "number", "boolean", "null", "array"] },
            object("A number within bounds, or a length", &[], compared),
        ],
    });
    about(
        json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^(/.*)?$" },
            "additionalProperties": value,
        }),
        "The answer is JSON, and these values are so, by JSON Pointer",
        None,
    )
}

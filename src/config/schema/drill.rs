//! A drill's file as a JSON Schema.

mod conditions;

use std::time::Duration;

use serde_json::{Value, json};

use super::shapes::{
    about, count, duration, items, list, name, object, section, some, text, words,
};
use crate::config::drill::{ARRIVALS, CommandLine, Good, PLACEHOLDERS, Recovery, SteadyState};
use crate::units::format_duration;
use conditions::{check, promise, stop};

/// The JSON Schema (2020-12) of a drill's file.
#[must_use]
pub fn drill_schema() -> Value {
    let mut root = object(
        "A Firedrill drill: what is promised, what goes wrong, and what must be true all the same",
        &["promise", "timeline"],
        [
            (
                "name",
                about(name(), "What it is called; absent: after its file", None),
            ),
            ("promise", about(text(), "What users are promised", None)),
            (
                "participants",
                about(texts(), "Who can act, fail and lag behind by himself", None),
            ),
            (
                "facts",
                about(
                    json!({ "type": "object", "additionalProperties": texts() }),
                    "Who owns which fact, by participant",
                    None,
                ),
            ),
            (
                "unknowns",
                about(texts(), "What nobody can know for a while", None),
            ),
            (
                "repair",
                about(texts(), "How that is found out, and put right", None),
            ),
            (
                "seed",
                about(
                    count(0, u64::MAX),
                    "What chance is drawn from; absent: chosen and reported",
                    None,
                ),
            ),
            ("identity", section(super::evidence::identity())),
            (
                "proxies",
                section(items(
                    "#/$defs/proxy",
                    "Proxies that run in the drill's own process",
                )),
            ),
            (
                "urls",
                about(
                    list(json!({ "type": "string", "pattern": "^https?://." })),
                    "Control ports of instances that run elsewhere; absent: the one that the command line names",
                    None,
                ),
            ),
            ("load", load()),
            ("steady_state", steady_state()),
            (
                "timeline",
                about(
                    json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/item" } }),
                    "What goes wrong, and when",
                    None,
                ),
            ),
            (
                "promises",
                items("#/$defs/promise", "What is to be true all the same"),
            ),
            ("recovery", recovery()),
            (
                "stop_when",
                items("#/$defs/stop", "What ends the drill at once"),
            ),
            (
                "cleanup",
                about(
                    list(command()),
                    "What is run in the end, come what may",
                    None,
                ),
            ),
        ],
    );
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Firedrill drill");
    root["$defs"] = super::definitions();
    let own = [
        ("item", item()),
        ("check", check()),
        ("promise", promise()),
        ("stop", stop()),
    ];
    for (key, schema) in own {
        root["$defs"][key] = schema;
    }
    super::variables::allow(&mut root);
    root
}

fn texts() -> Value {
    json!({ "anyOf": [text(), list(text())] })
}

fn time(description: &str, default: Option<Duration>) -> Value {
    about(
        duration(),
        description,
        default.map(|d| json!(format_duration(d))),
    )
}

fn rate(description: &str) -> Value {
    about(
        json!({ "type": "string", "pattern": "^ *[0-9]+ */ *(s|m|min|h) *$" }),
        description,
        None,
    )
}

fn statuses(default: &Value) -> Value {
    let one = json!({
        "type": ["integer", "string"],
        "minimum": 200,
        "maximum": 599,
        "pattern": "^([2-5][0-9]{2}(-[2-5][0-9]{2})?|[2-5]xx)$",
    });
    about(
        json!({ "anyOf": [one, some(one.clone())] }),
        "One of these: `503`, `5xx` or `500-599`",
        Some(default.clone()),
    )
}

fn usual_statuses() -> Value {
    Good::default()
        .statuses
        .iter()
        .map(|s| s.to_json())
        .collect()
}

fn words_of_a_command() -> Value {
    json!({ "anyOf": [text(), some(json!({ "type": ["string", "integer", "boolean"] }))] })
}

fn command() -> Value {
    let own = object(
        "A command, and how long it may take",
        &["run"],
        [
            (
                "run",
                about(
                    words_of_a_command(),
                    "A line for the shell, or a list of words",
                    None,
                ),
            ),
            (
                "timeout",
                time("How long it may take", Some(CommandLine::TIMEOUT)),
            ),
        ],
    );
    json!({ "anyOf": [text(), some(json!({ "type": ["string", "integer", "boolean"] })), own] })
}

/// Where a request goes, and what it is.
fn request(placeholders: bool) -> Vec<(&'static str, Value)> {
    let scalar = || json!({ "$ref": "#/$defs/scalar" });
    let with = |text: &str| match placeholders {
        true => {
            let list = PLACEHOLDERS.map(|(name, what)| format!("`{{{{{name}}}}}`: {what}"));
            format!("{text}; with {}", list.join(", "))
        }
        false => text.to_owned(),
    };
    vec![
        (
            "url",
            about(
                json!({ "type": "string", "pattern": "^https?://." }),
                &with("Where to"),
                None,
            ),
        ),
        (
            "proxy",
            about(name(), "Instead: wherever this proxy listens", None),
        ),
        (
            "path",
            about(
                json!({ "type": "string", "pattern": "^/" }),
                &with("With `proxy`: the path, and the query"),
                Some(json!("/")),
            ),
        ),
        (
            "method",
            about(text(), "Absent: `POST` with a body, `GET` without", None),
        ),
        (
            "headers",
            about(
                json!({ "type": "object", "additionalProperties": scalar() }),
                &with("Header fields"),
                None,
            ),
        ),
        ("body", about(scalar(), &with("What is sent"), None)),
    ]
}

fn load() -> Value {
    let stage = object(
        "A stretch of load",
        &["for"],
        [
            ("for", time("How long it lasts", None)),
            ("rate", rate("So many a second throughout")),
            ("to", rate("Evenly from what it was before to so many")),
        ],
    );
    let good = object(
        "Which answers are good",
        &[],
        [
            ("status", statuses(&usual_statuses())),
            (
                "within",
                time(
                    "In this time, from the moment when it should have been sent",
                    None,
                ),
            ),
        ],
    );
    let mut http = request(true);
    http.extend([
        (
            "rate",
            rate("So many a second, whether or not answers come; or `stages`"),
        ),
        (
            "stages",
            about(
                some(stage),
                "Rates that change; the last holds until the end",
                None,
            ),
        ),
        (
            "arrivals",
            about(
                words(ARRIVALS.iter().map(|(word, _)| *word)),
                "How the moments of sending are spread",
                Some(json!("constant")),
            ),
        ),
        (
            "timeout",
            time(
                "How long an answer is awaited",
                Some(Duration::from_secs(5)),
            ),
        ),
        (
            "in_flight",
            about(
                count(1, 100_000),
                "At most so many at the same time; more are not started, and counted",
                Some(json!(1000)),
            ),
        ),
        ("good", good),
    ]);
    let mut load = object(
        "Who makes the traffic; absent: it is there",
        &[],
        [
            (
                "proxies",
                about(
                    list(name()),
                    "Where the offered load is measured; absent: at proxies that no other service leads to",
                    None,
                ),
            ),
            (
                "http",
                object(
                    "Requests that are sent on time, whether or not answers come",
                    &[],
                    http,
                ),
            ),
            (
                "command",
                about(
                    command(),
                    "A command that makes traffic from the beginning to the end",
                    None,
                ),
            ),
            (
                "traffic",
                object("None but the traffic that is there", &[], []),
            ),
        ],
    );
    load["type"] = json!(["object", "string"]);
    load
}

fn steady_state() -> Value {
    let default = SteadyState::default();
    object(
        "What must be so before anything goes wrong",
        &[],
        [
            (
                "warm_up",
                time(
                    "Traffic flows for so long before it is looked at",
                    Some(default.warm_up),
                ),
            ),
            (
                "for",
                time("For so long it is looked at", Some(default.lasts)),
            ),
            (
                "checks",
                about(
                    list(json!({ "$ref": "#/$defs/check" })),
                    "What must hold; absent: a success rate of 0.95 at least",
                    None,
                ),
            ),
        ],
    )
}

fn recovery() -> Value {
    let default = Recovery::default();
    object(
        "When all is well again",
        &[],
        [
            (
                "within",
                time("It is watched for so long at most", Some(default.within)),
            ),
            (
                "hold",
                time("It must stay well for so long", Some(default.hold)),
            ),
            (
                "goodput",
                about(
                    json!({ "type": "number", "minimum": 0, "maximum": 1 }),
                    "Goodput at least this share of what it was before",
                    Some(json!(default.goodput)),
                ),
            ),
        ],
    )
}

fn actions() -> Vec<(&'static str, Value)> {
    vec![
        ("rule", json!({ "$ref": "#/$defs/rule" })),
        ("partition", json!({ "$ref": "#/$defs/partition" })),
        (
            "run",
            about(
                words_of_a_command(),
                "A command that makes something go wrong: a line for the shell, or a list of words",
                None,
            ),
        ),
        (
            "undo",
            about(
                words_of_a_command(),
                "The command that undoes it; it is run even if the drill is killed",
                None,
            ),
        ),
        ("name", about(text(), "What a command is called", None)),
        (
            "timeout",
            time("How long a command may take", Some(CommandLine::TIMEOUT)),
        ),
    ]
}

fn item() -> Value {
    let span = json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": duration() });
    let random = object(
        "One of these is drawn again and again, from the seed",
        &["every", "lasts", "of"],
        [
            (
                "every",
                time("The span for each of which one is drawn", None),
            ),
            (
                "lasts",
                about(
                    json!({ "anyOf": [duration(), span] }),
                    "How long it lasts, or two durations between which that is drawn",
                    None,
                ),
            ),
            (
                "of",
                about(
                    some(object("What may be drawn", &[], actions())),
                    "What may be drawn",
                    None,
                ),
            ),
        ],
    );
    let mut keys = vec![
        (
            "at",
            time(
                "When it begins, from the beginning of the timeline",
                Some(Duration::ZERO),
            ),
        ),
        ("for", time("How long it lasts", None)),
        (
            "every",
            time("From one beginning to the next, with `times`", None),
        ),
        (
            "times",
            about(
                count(2, 10_000),
                "How many times in all, with `every`",
                None,
            ),
        ),
        (
            "ramp_up",
            time("Of a rule: over this time its chance rises from 0", None),
        ),
        (
            "ramp_down",
            time(
                "Of a rule: over this time before its end its chance falls to 0",
                None,
            ),
        ),
        ("random", random),
    ];
    keys.extend(actions());
    let mut item = object("Something that goes wrong, and when", &[], keys);
    let one = ["rule", "partition", "run", "random"].map(|key| json!({ "required": [key] }));
    item["oneOf"] = json!(one);
    item
}

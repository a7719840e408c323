//! Partitions, and schedules.

use serde_json::{Value, json};

use super::shapes::{about, count, duration, flag, name, object, section, some, words};
use crate::rules::Mode;

pub(super) fn partition() -> Value {
    let groups = json!({ "type": "array", "minItems": 2, "items": some(name()) });
    let mut partition = object(
        "A named cut between services: `between`, `isolate`, `ring` or `split` says which",
        &["name"],
        [
            ("name", about(name(), "Unique among partitions", None)),
            (
                "between",
                about(
                    groups,
                    "Two groups of services or more; a service is in one at most",
                    None,
                ),
            ),
            (
                "isolate",
                about(
                    some(name()),
                    "These hear each other, and are cut off from all other services",
                    None,
                ),
            ),
            (
                "ring",
                about(
                    json!({ "type": "array", "minItems": 4, "items": name() }),
                    "In a ring of these each hears its two neighbours only",
                    None,
                ),
            ),
            ("split", split()),
            (
                "deaf",
                about(
                    some(name()),
                    "One-way: these no longer hear the others; absent: nobody hears the other side",
                    None,
                ),
            ),
            (
                "mode",
                about(
                    words(Mode::ALL.iter().map(|(word, _)| *word)),
                    "What a cut connection meets",
                    Some(json!(Mode::default().as_str())),
                ),
            ),
            (
                "enabled",
                about(flag(), "Whether it is in force", Some(json!(true))),
            ),
            (
                "ttl",
                about(
                    duration(),
                    "Disables itself this long after it was enabled; `forever`: never",
                    None,
                ),
            ),
            ("schedule", schedule(false)),
        ],
    );
    let one = ["between", "isolate", "ring", "split"].map(|key| json!({ "required": [key] }));
    partition["oneOf"] = json!(one);
    partition
}

fn split() -> Value {
    section(object(
        "Services in groups by chance; the API tells which came out",
        &[],
        [
            (
                "groups",
                about(count(2, 1000), "In so many", Some(json!(2))),
            ),
            (
                "services",
                about(
                    json!({ "type": "array", "minItems": 2, "items": name() }),
                    "Absent: all that the proxies connect",
                    None,
                ),
            ),
            (
                "seed",
                about(
                    count(0, u64::MAX),
                    "What chance is drawn from; absent: the seed of the whole",
                    None,
                ),
            ),
        ],
    ))
}

/// When a rule (which has a probability to ramp) or a partition acts while it is enabled.
pub(super) fn schedule(ramps: bool) -> Value {
    let moment = json!({ "anyOf": [duration(), { "type": "string", "format": "date-time" }] });
    let mut keys = vec![
        (
            "at",
            about(
                moment,
                "When it first begins to act: this long after it was enabled, or at this moment",
                Some(json!("0s")),
            ),
        ),
        (
            "for",
            about(duration(), "How long it acts; absent: on and on", None),
        ),
        (
            "every",
            about(
                duration(),
                "From one beginning to the next; absent: it acts once",
                None,
            ),
        ),
    ];
    if ramps {
        for (key, text) in [
            (
                "ramp_up",
                "Over this time from its beginning the chance rises from 0",
            ),
            (
                "ramp_down",
                "Over this time before its end the chance falls to 0",
            ),
        ] {
            keys.push((key, about(duration(), text, Some(json!("0s")))));
        }
    }
    let text = "When it acts while it is enabled; absent: all the time";
    object(text, &[], keys)
}

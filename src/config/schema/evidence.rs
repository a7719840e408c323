//! `evidence` and `identity` as JSON Schemas.

use serde_json::{Value, json};

use super::shapes::{about, count, flag, list, object, size, text, words};
use crate::config::evidence::Hashed;
use crate::config::{EvidenceConfig, Rotate};
use crate::units::format_size;

pub(super) fn evidence() -> Value {
    let default = EvidenceConfig::default();
    object(
        "What is kept of what was observed",
        &[],
        [
            (
                "enabled",
                about(
                    flag(),
                    "Whether records are kept",
                    Some(json!(default.enabled)),
                ),
            ),
            (
                "capacity",
                about(
                    count(1, 10_000_000),
                    "Records in memory; past that the oldest give way",
                    Some(json!(default.capacity)),
                ),
            ),
            (
                "memory",
                about(
                    size(),
                    "What they may take up; past that the oldest give way",
                    Some(json!(format_size(default.memory))),
                ),
            ),
            (
                "file",
                about(
                    text(),
                    "Where records are written as JSON Lines, relative to this file",
                    None,
                ),
            ),
            ("rotate", rotate()),
            (
                "redact",
                about(
                    list(text()),
                    "Headers whose values are kept only as hashes",
                    Some(json!(default.redact)),
                ),
            ),
            (
                "hash",
                about(
                    list(words(Hashed::ALL.iter().map(|(word, _)| *word))),
                    "What else is kept only as hashes",
                    Some(json!([])),
                ),
            ),
            (
                "hash_key_file",
                about(
                    text(),
                    "Where the key for hashes stands, relative to this file; absent: it is one of the process",
                    None,
                ),
            ),
        ],
    )
}

fn rotate() -> Value {
    object(
        "When the file is too large",
        &["size"],
        [
            (
                "size",
                about(
                    size(),
                    "Past that it becomes FILE.1, and a new one begins",
                    None,
                ),
            ),
            (
                "keep",
                about(
                    count(0, 1000),
                    "Older files that are kept",
                    Some(json!(Rotate::KEEP)),
                ),
            ),
        ],
    )
}

pub(super) fn identity() -> Value {
    let path = json!({ "type": "string", "pattern": "^/" });
    object(
        "Where this team's own id of an operation is, before the built-in places; tried in this order",
        &[],
        [
            ("header", about(text(), "A header", None)),
            ("query", about(text(), "A parameter of the query", None)),
            (
                "path",
                about(
                    json!({ "anyOf": [path, list(path.clone())] }),
                    "A path of which one segment is the id: /orders/{id}/**",
                    None,
                ),
            ),
            (
                "json",
                about(
                    json!({ "type": "string", "pattern": "^(/|$)" }),
                    "A JSON Pointer into the body",
                    None,
                ),
            ),
        ],
    )
}

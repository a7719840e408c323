//! `match`.

use serde_json::{Value, json};

use super::shapes::{about, duration, object, size, some, text};

/// The conditions of a rule.
pub(super) fn matching() -> Value {
    let globs = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/scalar" } });
    let one_or_some = |one: Value| json!({ "anyOf": [one.clone(), some(one)] });
    let span = json!({ "type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]*(-[0-9]*)?$" });
    object(
        "Which operations; every condition must hold",
        &[],
        [
            (
                "client",
                about(
                    one_or_some(text()),
                    "The client's address is one of these, or in one of these subnets",
                    None,
                ),
            ),
            (
                "connection",
                about(
                    one_or_some(span),
                    "The connection's ordinal at its proxy: `3`, `1-5` or `10-`",
                    None,
                ),
            ),
            (
                "bytes",
                about(
                    size(),
                    "At least this much of the connection was read before, both directions together",
                    None,
                ),
            ),
            (
                "age",
                about(
                    duration(),
                    "The connection was accepted at least this long ago",
                    None,
                ),
            ),
            (
                "sni",
                about(
                    text(),
                    "The host in a TLS ClientHello, without case; `*` is anything; `tcp` proxies only",
                    None,
                ),
            ),
            (
                "method",
                about(
                    one_or_some(text()),
                    "One of these, compared as written",
                    None,
                ),
            ),
            (
                "path",
                about(
                    json!({ "type": "string", "pattern": "^[/*][^?]*$" }),
                    "The path without its query; `*` stays within a segment, `**` crosses",
                    None,
                ),
            ),
            (
                "query",
                about(
                    globs.clone(),
                    "Parameters of the query; `*` is anything",
                    None,
                ),
            ),
            (
                "headers",
                about(
                    globs,
                    "Headers; of a repeated one any value may match; `*` is anything",
                    None,
                ),
            ),
        ],
    )
}

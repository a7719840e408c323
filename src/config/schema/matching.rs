//! `match`.

use serde_json::{Value, json};

use super::shapes::{about, duration, flag, object, size, some, text, words};
use crate::rules::{BodyMatch, Per};
use crate::units::format_size;

/// The conditions of a rule.
pub(super) fn matching() -> Value {
    let pattern = json!({ "anyOf": [{ "$ref": "#/$defs/scalar" }, regex()] });
    let patterns = json!({ "type": "object", "additionalProperties": pattern });
    let inner = json!({ "$ref": "#/$defs/match" });
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
                    one_or_some(span.clone()),
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
                "host",
                about(
                    text(),
                    "The host that a request is for, without a port and without case; `*` is anything",
                    None,
                ),
            ),
            ("path", path()),
            (
                "query",
                about(
                    patterns.clone(),
                    "Parameters of the query; `*` is anything",
                    None,
                ),
            ),
            ("headers", about(patterns.clone(), HEADERS, None)),
            (
                "cookies",
                about(patterns.clone(), "Cookies; `*` is anything", None),
            ),
            (
                "grpc",
                object(
                    "A gRPC call; `*` is anything",
                    &[],
                    [
                        (
                            "service",
                            about(text(), "With its package: `shop.Payment`", None),
                        ),
                        ("method", about(text(), "Of the service", None)),
                    ],
                ),
            ),
            ("body", body(&patterns)),
            (
                "response",
                object(
                    "The upstream's answer; the fault acts on that answer",
                    &[],
                    [
                        (
                            "status",
                            about(
                                one_or_some(json!({
                                    "type": ["integer", "string"],
                                    "minimum": 200,
                                    "maximum": 599,
                                    "pattern": "^([2-5][0-9]{2}(-[2-5][0-9]{2})?|[2-5]xx)$",
                                })),
                                "One of these: `503`, `5xx` or `500-599`",
                                None,
                            ),
                        ),
                        ("headers", about(patterns.clone(), HEADERS, None)),
                    ],
                ),
            ),
            (
                "request",
                object(
                    "The how-manieth request that meets the other conditions",
                    &["nth"],
                    [
                        (
                            "nth",
                            about(
                                one_or_some(span),
                                "Counted from 1: `3`, `1-2` or `10-`",
                                None,
                            ),
                        ),
                        (
                            "per",
                            about(
                                words(Per::ALL.iter().map(|(word, _)| *word)),
                                "Whose requests are counted together",
                                Some(json!(Per::default().as_str())),
                            ),
                        ),
                    ],
                ),
            ),
            (
                "asked",
                about(
                    flag(),
                    "Only requests that name this rule in `x-firedrill-fault`",
                    Some(json!(false)),
                ),
            ),
            ("all", about(some(inner.clone()), "All of these hold", None)),
            (
                "any",
                about(some(inner.clone()), "One of these holds", None),
            ),
            ("not", about(inner, "This does not hold", None)),
        ],
    )
}

const HEADERS: &str = "Headers; of a repeated one any value may match; `*` is anything";

fn path() -> Value {
    let plain = json!({ "type": "string", "pattern": "^[/*][^?]*$" });
    about(
        json!({ "anyOf": [plain, regex()] }),
        "The path without its query; `*` stays within a segment, `**` crosses, `{name}` is a part of a segment",
        None,
    )
}

fn regex() -> Value {
    object(
        "A regular expression, found anywhere",
        &["regex"],
        [("regex", about(text(), "The expression", None))],
    )
}

fn body(patterns: &Value) -> Value {
    object(
        "What a request's body holds",
        &[],
        [
            ("contains", about(text(), "This text is in it", None)),
            ("regex", about(text(), "This is found in it", None)),
            (
                "json",
                about(
                    patterns.clone(),
                    "It is JSON, and has these values at these JSON Pointers",
                    None,
                ),
            ),
            (
                "within",
                about(
                    size(),
                    "A longer one is not looked at, 1MiB at most",
                    Some(json!(format_size(BodyMatch::default().within))),
                ),
            ),
        ],
    )
}

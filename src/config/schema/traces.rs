//! `traces`.

use serde_json::{Value, json};

use super::super::TracesConfig;
use super::shapes::{about, duration, flag, object, section, text};
use super::tls;
use crate::units::format_duration;

pub(super) fn traces() -> Value {
    section(object(
        "Finished operations, sent as OpenTelemetry's spans",
        &["otlp"],
        [
            (
                "otlp",
                about(
                    text(),
                    "The address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is put behind it",
                    None,
                ),
            ),
            (
                "headers",
                about(
                    map_of(json!({ "anyOf": [{ "$ref": "#/$defs/scalar" }, in_a_file()] })),
                    "Sent with every request",
                    Some(json!({})),
                ),
            ),
            ("tls", tls::with_server()),
            (
                "timeout",
                about(
                    duration(),
                    "For one request, with its answer",
                    Some(json!(format_duration(TracesConfig::TIMEOUT))),
                ),
            ),
            (
                "service",
                about(
                    text(),
                    "What Firedrill is called among the services: `service.name`",
                    Some(json!(TracesConfig::SERVICE)),
                ),
            ),
            (
                "resource",
                about(
                    map_of(json!({ "$ref": "#/$defs/scalar" })),
                    "Further attributes of the resource, such as `deployment.environment.name`",
                    Some(json!({})),
                ),
            ),
            (
                "all",
                about(
                    flag(),
                    "Also operations whose caller does not record its own span",
                    Some(json!(false)),
                ),
            ),
        ],
    ))
}

fn map_of(value: Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

fn in_a_file() -> Value {
    object(
        "Kept out of this file",
        &["file"],
        [(
            "file",
            about(
                text(),
                "The file that it stands in, relative to this one; white space around it is left out",
                None,
            ),
        )],
    )
}

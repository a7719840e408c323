//! Altering the fields of an HTTP/2 message.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::faults::Edit;
use crate::operation::Phase;
use crate::pipeline::Edits;
use crate::proxy::edit::shifted;

/// Alters the fields of a head as all of these say, in their order; answers with what takes the place
/// of its body, if anything does. `has_body`: whether there may be one.
pub(super) fn head(
    fields: &mut HeaderMap,
    edits: &Edits,
    has_body: bool,
    phase: Phase,
) -> Option<Bytes> {
    let body = edits.iter().rev().find_map(|(edit, _)| edit.body.clone());
    let body = body.filter(|_| has_body);
    for (edit, receipt) in edits {
        self::fields(fields, edit);
        receipt.injected(phase);
    }
    if let Some(body) = &body {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    body
}

/// Alters fields as this says.
pub(super) fn fields(fields: &mut HeaderMap, edit: &Edit) {
    if edit.skew != 0
        && let Some(date) = fields.get(DATE).and_then(|date| date.to_str().ok())
        && let Some(date) = shifted(date, edit.skew)
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        fields.insert(DATE, date);
    }
    for name in &edit.remove {
        fields.remove(name.to_ascii_lowercase());
    }
    for (name, value) in &edit.set {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value)
            && !is_of_connection(&name)
        {
            fields.insert(name, value);
        }
    }
}

/// Whether a field says something of a connection, which HTTP/2 has no words for.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    let names = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "te",
    ];
    names.contains(&name.as_str())
}

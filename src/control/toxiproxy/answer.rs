//! What is answered: Toxiproxy's bodies, status codes and headers.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::proxy::StartError;
use crate::state::Refused;

/// A refusal, in Toxiproxy's words where it has some.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    pub(super) fn bad_body(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("bad request body: {why}"))
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("missing required field: {field}"),
        )
    }

    pub(super) fn no_proxy() -> Self {
        Self::new(StatusCode::NOT_FOUND, "proxy not found")
    }

    pub(super) fn no_toxic() -> Self {
        Self::new(StatusCode::NOT_FOUND, "toxic not found")
    }

    pub(super) fn proxy_exists() -> Self {
        Self::new(StatusCode::CONFLICT, "proxy already exists")
    }

    pub(super) fn toxic_exists() -> Self {
        Self::new(StatusCode::CONFLICT, "toxic already exists")
    }

    /// With what was done before it.
    pub(super) fn with_proxies(self, proxies: Value) -> Response {
        let Self { status, error } = self;
        let body = json!({ "error": error, "status": status.as_u16(), "proxies": proxies });
        answer(status, &body)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "status": self.status.as_u16() });
        plain(self.status, &body.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::NotFound("proxy", _) => Self::no_proxy(),
            Refused::NotFound(..) => Self::no_toxic(),
            Refused::Exists("proxy", _) => Self::proxy_exists(),
            Refused::Exists(..) => Self::toxic_exists(),
            _ => Self::new(StatusCode::CONFLICT, refused.to_string()),
        }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        let text = match &error {
            StartError::Refused(refused) => return refused.clone().into(),
            StartError::Bind {
                address, source, ..
            } => in_go(address, source),
        };
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

/// How Go says that an address can't be listened on.
fn in_go(address: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let address = match address.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.to_owned(),
    };
    let why = match error.kind() {
        AddrInUse => "bind: address already in use".to_owned(),
        AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        PermissionDenied => "bind: permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("listen tcp {address}: {why}")
}

/// JSON, and no more.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (status, headers, body.to_string()).into_response()
}

/// A line of text, as Go's `http.Error` sends it.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}

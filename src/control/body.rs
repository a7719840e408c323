//! The body of a request: bounded JSON.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde_json::Value;

use super::error::Failure;

/// More than any definition needs.
const MAX_BODY: usize = 1 << 20;

/// JSON, whatever it says; the decoder judges that.
pub(super) struct Input(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Input {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        check_type(&head.headers)?;
        // Said to be too large, none of it is read.
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large()
            } else {
                malformed(format!("the body broke off: {error}"))
            }
        })?;
        let bytes = body.to_bytes();
        if bytes.is_empty() {
            return Err(malformed(
                "a JSON body is needed, and there is none".to_owned(),
            ));
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| malformed(format!("the body is not JSON: {error}")))
    }
}

fn too_large() -> Failure {
    Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "the body is larger than 1MiB",
    )
    .hint("define rules and partitions one by one")
}

fn malformed(message: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "malformed", message)
        .hint("send a JSON object, as `firedrill schema` describes it")
}

/// A page of another site can send forms and plain text without asking; JSON it can't. So from
/// browsers nothing but JSON is taken; from others, whatever they call it.
fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let named = headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes());
    let essence = named.map(|v| v.split(|b| *b == b';').next().unwrap_or_default());
    let json = essence.is_none_or(|t| t.trim_ascii().eq_ignore_ascii_case(b"application/json"));
    if json || !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        "from a browser only JSON is taken",
    )
    .hint("set Content-Type: application/json"))
}

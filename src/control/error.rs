//! Why a request was refused: one shape for all of them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::clock::Timestamp;
use crate::config::Problems;
use crate::proxy::StartError;
use crate::state::Refused;
use crate::wire::{ErrorBody, ErrorItem};

/// A refusal. Whatever was asked for was not done, nor any part of it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    item: ErrorItem,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            item: ErrorItem {
                code: code.to_owned(),
                message: message.into(),
                hint: None,
                path: None,
            },
        }
    }

    /// Something in the body is not as it must be.
    pub(super) fn invalid(path: &str, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        failure.item.path = (!path.is_empty()).then(|| path.to_owned());
        failure.hint("`firedrill schema` says what may stand there")
    }

    /// The same, of a part of the body that stands at `place`.
    pub(super) fn within(mut self, place: &str) -> Self {
        self.item.path = Some(match self.item.path.take() {
            Some(path) => format!("{place}.{path}"),
            None => place.to_owned(),
        });
        self
    }

    /// What is wrong.
    pub(super) fn message(self) -> String {
        self.item.message
    }

    /// Where in the body.
    pub(super) fn at(mut self, path: &str) -> Self {
        self.item.path = Some(path.to_owned());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.item.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.item })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"firedrill\"");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        // The rest of a refused body is not worth reading.
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (status, code, hint) = match &refused {
            Refused::NotFound(what, _) => (
                StatusCode::NOT_FOUND,
                "not_found",
                format!("GET /v1/{} lists those that there are", plural(what)),
            ),
            Refused::Exists(what, name) => (
                StatusCode::CONFLICT,
                "exists",
                format!(
                    "PUT /v1/{}/{name} replaces it; or choose another name",
                    plural(what)
                ),
            ),
            Refused::TooMany(what) => (
                StatusCode::CONFLICT,
                "too_many",
                format!("DELETE /v1/{}/NAME for those that are done", plural(what)),
            ),
            Refused::InUse(_, rule) => (
                StatusCode::CONFLICT,
                "in_use",
                format!("DELETE /v1/rules/{rule} first"),
            ),
        };
        Self::new(status, code, refused.to_string()).hint(hint)
    }
}

/// The word of the paths for what [`Refused`] names.
fn plural(what: &str) -> &'static str {
    match what {
        "proxy" => "proxies",
        "partition" => "partitions",
        _ => "rules",
    }
}

impl From<Problems> for Failure {
    /// `path` is the first problem's; `message` has them all, the others with their paths.
    fn from(problems: Problems) -> Self {
        let mut list = problems.list.into_iter();
        let Some(first) = list.next() else {
            return Self::invalid("", "it is not valid");
        };
        let mut failure = Self::invalid(&first.path, first.message);
        if let Some(hint) = first.hint {
            failure = failure.hint(hint);
        }
        for problem in list {
            failure.item.message += &format!("; {}: {}", problem.path, problem.message);
            if let Some(hint) = problem.hint {
                failure.item.message += &format!(" ({hint})");
            }
        }
        failure
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Refused(refused) => refused.into(),
            StartError::Bind { .. } => Self::new(StatusCode::CONFLICT, "bind", error.to_string())
                .at("listen")
                .hint("choose another `listen`; port 0 takes any free one"),
        }
    }
}

/// A moment in a query.
///
/// # Errors
/// It is not RFC 3339.
pub(super) fn moment(value: &str) -> Result<Timestamp, Failure> {
    value.parse::<Timestamp>().map_err(|error| {
        let message = format!("`{value}` is no moment: {error}");
        let failure = Failure::new(StatusCode::BAD_REQUEST, "query", message);
        failure.hint("write RFC 3339, such as 2026-01-02T03:04:05Z")
    })
}

/// No such path.
pub(super) async fn not_found(uri: axum::http::Uri) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "no_route",
        format!("there is nothing at {}", uri.path()),
    )
    .hint("the API is under /v1: status, proxies, rules, partitions, heal, evidence")
}

/// A path, but not with this method. The router adds `Allow`.
pub(super) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} does not take {method}", uri.path()),
    )
    .hint("the header Allow lists what it takes")
}

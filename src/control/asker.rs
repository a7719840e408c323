//! Who asks for a change, and on which conditions.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::error::Failure;
use crate::state::{By, Source, Who};

/// The header with which a controller gives itself a name; what it sets is lifted when it falls
/// silent, where `control.heartbeat` says so.
pub(super) const CONTROLLER: &str = "Firedrill-Controller";
/// The longest such name.
const MAX_NAME: usize = 100;

/// Who sent a request.
pub(super) struct Asker(pub(super) By);

impl Asker {
    /// The name that it gave itself.
    pub(super) fn controller(&self) -> Option<&Arc<str>> {
        self.0.controller()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let peer = ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await;
        let peer = peer.map_or_else(|_| SocketAddr::from(([0; 4], 0)), |ConnectInfo(peer)| peer);
        let controller = match parts.headers.get(CONTROLLER) {
            None => None,
            Some(value) => {
                let name = value.to_str().ok().map(str::trim);
                let fits = |name: &&str| (1..=MAX_NAME).contains(&name.len());
                let name = name.filter(fits).ok_or_else(|| {
                    let what = format!("`{CONTROLLER}` must be 1 to {MAX_NAME} visible characters");
                    Failure::new(StatusCode::BAD_REQUEST, "controller", what)
                        .hint("name the run, such as `drill-7`")
                })?;
                Some(Arc::from(name))
            }
        };
        Ok(Self(By {
            source: Source::Api,
            who: Who::Client { peer, controller },
        }))
    }
}

/// The ETags that a change is made for: the definition must stand as one of them says.
pub(super) struct IfMatch(Option<Vec<String>>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self::of(&parts.headers))
    }
}

impl IfMatch {
    fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(header::IF_MATCH).iter().peekable();
        if given.peek().is_none() {
            return Self(None);
        }
        let tags = given.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        Self(Some(tags.map(|tag| tag.trim().to_owned()).collect()))
    }

    /// Whether it allows a change of what was last touched by the change `generation`; `None`:
    /// there is nothing by that name.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn check(&self, generation: Option<u64>) -> Result<(), Failure> {
        let Some(tags) = &self.0 else { return Ok(()) };
        let stands = generation.map(etag);
        let held = |tag: &String| tag == "*" || Some(tag) == stands.as_ref();
        if stands.is_some() && tags.iter().any(held) {
            return Ok(());
        }
        let what = match stands {
            Some(stands) => format!("it has been changed meanwhile: its ETag is {stands}"),
            None => "there is nothing by that name any more".to_owned(),
        };
        Err(
            Failure::new(StatusCode::PRECONDITION_FAILED, "changed", what)
                .hint("GET it again, and make the change of what stands there now"),
        )
    }
}

/// The ETag of what was last touched by a change.
pub(super) fn etag(generation: u64) -> String {
    format!("\"{generation}\"")
}

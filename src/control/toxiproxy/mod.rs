//! Toxiproxy's API at its own paths, so that its clients work as they are: its routes, status codes,
//! error texts and reading of JSON.
//!
//! Another vocabulary for the same definitions: a toxic is a rule (`toxic`), a proxy a proxy, and
//! what changes them are the plans and changes that the API of its own makes. What Toxiproxy takes
//! and nothing here could do is refused, in its shape.

mod answer;
mod proxies;
mod toxic;
mod toxics;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;

use self::answer::{Refusal, plain};
use super::asker::Asker;
use super::{App, Control};
use crate::clock::Timestamp;
use crate::seed;
use crate::state::By;

/// What clients that ask for the version may rely on.
const VERSION: &str = "{\"version\": \"2.12.0\"}\n";

/// More than any body needs.
const MAX_BODY: usize = 1 << 20;

/// Adds the paths of the dialect.
pub(super) fn routes(mut router: Router<App>) -> Router<App> {
    for path in ["/proxies", "/populate", "/reset", "/version"] {
        for more in ["", "/", "/{*rest}"] {
            router = router.route(&format!("{path}{more}"), routing::any(answer));
        }
    }
    router
}

/// Whether a path is one of the dialect's.
pub(super) fn speaks(path: &str) -> bool {
    let first = path
        .strip_prefix('/')
        .and_then(|path| path.split('/').next());
    matches!(first, Some("proxies" | "populate" | "reset" | "version"))
}

/// One request, as far as its path says what it is about.
#[derive(Debug)]
enum Route {
    Proxies,
    Proxy(String),
    Toxics(String),
    Toxic(String, String),
    Populate,
    Reset,
    Version,
}

impl Route {
    fn find(path: &str) -> Option<Self> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.contains(&"") {
            return None;
        }
        Some(match segments.as_slice() {
            ["proxies"] => Self::Proxies,
            ["proxies", proxy] => Self::Proxy((*proxy).to_owned()),
            ["proxies", proxy, "toxics"] => Self::Toxics((*proxy).to_owned()),
            ["proxies", proxy, "toxics", toxic] => {
                Self::Toxic((*proxy).to_owned(), (*toxic).to_owned())
            }
            ["populate"] => Self::Populate,
            ["reset"] => Self::Reset,
            ["version"] => Self::Version,
            _ => return None,
        })
    }

    fn takes(&self, method: &Method) -> bool {
        let methods: &[Method] = match self {
            Self::Proxies | Self::Toxics(_) => &[Method::GET, Method::POST],
            Self::Proxy(_) | Self::Toxic(..) => {
                &[Method::GET, Method::POST, Method::PATCH, Method::DELETE]
            }
            Self::Populate | Self::Reset => &[Method::POST],
            Self::Version => &[Method::GET],
        };
        methods.contains(method)
    }
}

/// Who asks, and for what.
struct Asked {
    app: App,
    by: By,
    body: Vec<u8>,
}

async fn answer(Shared(app): Shared<App>, Asker(by): Asker, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some(route) = Route::find(path) else {
        let without = path.trim_end_matches('/');
        return match Route::find(without) {
            Some(route) if route.takes(&head.method) => moved(without, head.uri.query()),
            _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
        };
    };
    if !route.takes(&head.method) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let agent = head.headers.get(header::USER_AGENT);
    let mut response = if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        plain(StatusCode::FORBIDDEN, "User agent not allowed")
    } else {
        match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => {
                let body = body.to_bytes().to_vec();
                let asked = Asked { app, by, body };
                let done = asked.act(route, &head.method).await;
                done.unwrap_or_else(IntoResponse::into_response)
            }
            Err(error) => Refusal::bad_body(&error.to_string()).into_response(),
        }
    };
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        response.headers_mut().insert("x-toxiproxy-request-id", id);
    }
    response
}

impl Asked {
    async fn act(&self, route: Route, method: &Method) -> Result<Response, Refusal> {
        match (route, method) {
            (Route::Proxies, &Method::GET) => Ok(self.proxies()),
            (Route::Proxies, _) => self.create_proxy().await,
            (Route::Proxy(name), &Method::GET) => self.proxy(&name),
            (Route::Proxy(name), &Method::DELETE) => self.delete_proxy(&name).await,
            (Route::Proxy(name), _) => self.update_proxy(&name).await,
            (Route::Toxics(proxy), &Method::GET) => self.toxics(&proxy),
            (Route::Toxics(proxy), _) => self.create_toxic(&proxy),
            (Route::Toxic(proxy, name), &Method::GET) => self.toxic(&proxy, &name),
            (Route::Toxic(proxy, name), &Method::DELETE) => self.delete_toxic(&proxy, &name),
            (Route::Toxic(proxy, name), _) => self.update_toxic(&proxy, &name),
            (Route::Populate, _) => self.populate().await,
            (Route::Reset, _) => self.reset().await,
            (Route::Version, _) => {
                let json = "application/json;charset=utf-8";
                Ok(([(header::CONTENT_TYPE, json)], VERSION).into_response())
            }
        }
    }

    fn control(&self) -> &Arc<Control> {
        &self.app
    }
}

fn moved(path: &str, query: Option<&str>) -> Response {
    let to = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
}

/// Unique, in the form of Toxiproxy's (an "xid"): 12 bytes in base 32, a time, the process, a count.
fn request_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(seed::choose);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let seconds = (Timestamp::now().0 / 1_000_000) as u32;
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..9].copy_from_slice(&PROCESS.to_be_bytes()[3..]);
    bytes[9..].copy_from_slice(&COUNT.fetch_add(1, Relaxed).to_be_bytes()[1..]);
    let number = bytes
        .iter()
        .fold(0u128, |n, byte| n << 8 | u128::from(*byte))
        << 4;
    let digit = |n: u32| char::from_digit((number >> (95 - 5 * n) & 31) as u32, 32);
    (0..20).filter_map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twenty_digits_and_none_comes_twice() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        let right = |b: u8| b.is_ascii_digit() || (b'a'..=b'v').contains(&b);
        assert!(ids.iter().all(|id| id.len() == 20 && id.bytes().all(right)));
    }

    #[test]
    fn paths_are_decoded_before_they_are_cut() {
        let found = |path| format!("{:?}", Route::find(path));
        assert_eq!(found("/proxies/a%20b"), r#"Some(Proxy("a b"))"#);
        assert_eq!(found("/proxies/a/toxics/b"), r#"Some(Toxic("a", "b"))"#);
        assert_eq!(found("/proxies/a%2Ftoxics"), r#"Some(Toxics("a"))"#);
        for nothing in [
            "/proxies/",
            "/proxies//toxics",
            "/proxies/a/b",
            "/proxies/%ff",
            "/proxies/a/toxics/b/c",
            "/version/x",
            "",
            "/",
        ] {
            assert_eq!(found(nothing), "None", "{nothing}");
        }
    }
}

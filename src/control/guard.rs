//! Who may ask: the bearer token, and what keeps a browser from being turned against the API.
//!
//! A page of any site can make its visitor's browser send requests to a loopback address. It is
//! told apart by `Origin` and `Sec-Fetch-Site`, and, where it has rebound its own name to that
//! address, by the name in `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::attempts::Attempts;
use super::error::Failure;
use super::{App, toxiproxy};

/// Who may ask.
#[derive(Default)]
pub struct Access {
    /// For everything. Without any token everyone may do everything.
    token: Option<String>,
    /// For what changes nothing.
    read_token: Option<String>,
    /// Names in `Host` that are accepted besides addresses and names without a dot.
    hosts: Vec<String>,
    /// Whether Toxiproxy's dialect needs no token.
    toxiproxy_open: bool,
    attempts: Attempts,
}

impl Access {
    /// For those who have one of these tokens, and call the control plane by one of these names.
    #[must_use]
    pub fn new(token: Option<String>, read_token: Option<String>, hosts: Vec<String>) -> Self {
        Self {
            token,
            read_token,
            hosts,
            toxiproxy_open: false,
            attempts: Attempts::default(),
        }
    }

    /// The same, and Toxiproxy's dialect, where it is open, without a token.
    #[must_use]
    pub fn opening_toxiproxy(self, open: bool) -> Self {
        Self {
            toxiproxy_open: open,
            ..self
        }
    }
}

/// What keeps a browser from showing an answer to another site's page, or taking it for anything.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Passes a request on, or refuses it. Probes are for everyone: they tell nothing.
pub(super) async fn guard(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let checked = if matches!(request.uri().path(), "/healthz" | "/readyz") {
        Ok(())
    } else {
        check_host(&request, &app.access.hosts)
            .and_then(|()| check_site(request.headers()))
            .and_then(|()| {
                match app.access.toxiproxy_open && toxiproxy::speaks(request.uri().path()) {
                    true => Ok(()),
                    false => check_token(&request, peer, &app.access),
                }
            })
            .and_then(|()| check_path(request.uri().path()))
    };
    let mut answer = match checked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    answer.headers_mut().extend(HEADERS);
    answer
}

fn check_host(request: &Request, hosts: &[String]) -> Result<(), Failure> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    // Before HTTP/1.1 there was none; browsers never leave it out.
    if second.is_some() || (first.is_none() && request.version() == Version::HTTP_11) {
        let message = "a request has one `Host`";
        return Err(Failure::new(StatusCode::BAD_REQUEST, "host", message)
            .hint("send the address or name of the control port, once"));
    }
    let named = first.map(|v| v.to_str().unwrap_or("?").to_owned());
    let absolute = request.uri().authority().map(Authority::to_string);
    for authority in named.into_iter().chain(absolute) {
        let host = host_of(&authority);
        if !is_ours(host, hosts) {
            return Err(Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                "host",
                format!("`{host}` is not a name of this control plane"),
            )
            .hint("add it to `control.hosts`, or use the address"));
        }
    }
    Ok(())
}

/// The names of things are text; what is no text names nothing.
fn check_path(path: &str) -> Result<(), Failure> {
    match percent_decode_str(path).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "the path is no UTF-8 text",
        )
        .hint("percent-encode names as UTF-8")),
    }
}

/// The name in `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
}

/// Nobody can rebind an address, or a name without a dot: those are not in the public DNS.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    host.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && host.bytes().all(plain))
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// A browser says which page asks: by `Origin`, where it is another site's or something is to be
/// changed, and where it speaks to a loopback address or by TLS also by `Sec-Fetch-Site`.
fn check_site(headers: &HeaderMap) -> Result<(), Failure> {
    let texts = |name| {
        let all = headers.get_all(name).iter();
        all.map(|v: &HeaderValue| v.to_str().unwrap_or("?"))
    };
    let host = texts("host").next();
    // `none`: somebody has typed the address.
    let foreign = texts("sec-fetch-site").any(|site| !matches!(site, "same-origin" | "none"))
        || texts("origin").any(|origin| !host.is_some_and(|host| same_site(origin, host)));
    if foreign {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a page of another site may not use the control plane",
        )
        .hint("open it at its own address, or use `firedrill` or curl"));
    }
    Ok(())
}

fn same_site(origin: &str, host: &str) -> bool {
    let (default, authority) = match origin.split_once("://") {
        Some(("http", authority)) => (":80", authority),
        Some(("https", authority)) => (":443", authority),
        _ => return false,
    };
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(default)
            .map(str::to_owned)
            .unwrap_or(text)
    };
    bare(authority) == bare(host)
}

fn check_token(request: &Request, peer: SocketAddr, access: &Access) -> Result<(), Failure> {
    if access.token.is_none() && access.read_token.is_none() {
        return Ok(());
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let bearer = given.map(HeaderValue::as_bytes).and_then(|value| {
        let (scheme, rest) = value.split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| rest.trim_ascii())
    });
    let is = |token: &Option<String>| {
        let token = token.as_ref().zip(bearer);
        token.is_some_and(|(token, given)| same_bytes(given, token.as_bytes()))
    };
    // Both, whichever it is: how long that takes tells nothing.
    let (all, reading) = (is(&access.token), is(&access.read_token));
    let changes_nothing = matches!(*request.method(), Method::GET | Method::HEAD);
    match bearer {
        _ if all || (reading && changes_nothing) => Ok(()),
        _ if reading => Err(Failure::new(
            StatusCode::FORBIDDEN,
            "read_only",
            format!(
                "this token is for reading: {} changes something",
                request.method()
            ),
        )
        .hint("use the token of `control.token_file`")),
        None => Err(unauthorized("a token is needed")),
        Some(_) if access.attempts.count(peer.ip()) => {
            tracing::warn!(%peer, "a wrong token");
            Err(unauthorized("the token is not the right one"))
        }
        Some(_) => Err(Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_attempts",
            "too many wrong tokens have come from that address",
        )
        .hint("the right one is always taken; on the command line set FIREDRILL_TOKEN")),
    }
}

fn unauthorized(message: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        .hint("send Authorization: Bearer TOKEN; on the command line set FIREDRILL_TOKEN")
}

/// Compares in a time that does not tell where they differ (only, whether their lengths do).
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_rebound_must_be_known() {
        let hosts = ["chaos.example".to_owned()];
        for (authority, ours) in [
            ("127.0.0.1:8474", true),
            ("127.0.0.1", true),
            ("[::1]:8474", true),
            ("localhost:8474", true),
            ("firedrill:8474", true),
            ("chaos.example:8474", true),
            ("CHAOS.example", true),
            ("evil.example:8474", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("chaos.example.evil", false),
            ("", false),
            (":8474", false),
            ("localhost.", false),
            ("me@localhost", false),
            ("localhost@evil.example", false),
            ("evil.example#localhost", false),
            ("evil.example%2elocalhost", false),
            ("127.0.0.1, evil.example", false),
        ] {
            assert_eq!(is_ours(host_of(authority), &hosts), ours, "{authority}");
        }
    }

    #[test]
    fn an_origin_is_the_same_only_with_its_port() {
        for (origin, host, same) in [
            ("http://127.0.0.1:8474", "127.0.0.1:8474", true),
            ("http://chaos.example", "chaos.example:80", true),
            ("https://Chaos.example", "chaos.example", true),
            ("http://localhost:3000", "localhost:8474", false),
            ("http://evil.example", "127.0.0.1:8474", false),
            ("null", "127.0.0.1:8474", false),
            ("file://", "127.0.0.1:8474", false),
        ] {
            assert_eq!(same_site(origin, host), same, "{origin} {host}");
        }
    }

    #[test]
    fn bytes_are_compared_whole() {
        assert!(same_bytes(b"secret", b"secret"));
        for wrong in [&b"secreT"[..], b"secre", b"secret2", b""] {
            assert!(!same_bytes(wrong, b"secret"));
        }
    }
}

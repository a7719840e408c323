//! Who may ask: the bearer token, and what keeps a browser from being turned against the API.
//!
//! A page of any site can make its visitor's browser send requests to a loopback address. It is
//! told apart by `Origin` and `Sec-Fetch-Site`, and, where it has rebound its own name to that
//! address, by the name in `Host`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::Failure;

/// Passes a request on, or refuses it. Probes are for everyone: they tell nothing.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    let headers = request.headers();
    let checked = check_host(&request, &app.hosts)
        .and_then(|()| check_site(headers))
        .and_then(|()| check_token(headers, app.token.as_deref()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check_host(request: &Request, hosts: &[String]) -> Result<(), Failure> {
    let named = request.headers().get_all(header::HOST).iter();
    let named = named.map(|v| v.to_str().unwrap_or("?").to_owned());
    let absolute = request.uri().authority().map(Authority::to_string);
    for authority in named.chain(absolute) {
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
    host.parse::<IpAddr>().is_ok()
        || !host.contains('.')
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

fn check_site(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    let cross = text("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let foreign = headers.contains_key(header::ORIGIN)
        && !matches!(
            (text("origin"), text("host")),
            (Some(origin), Some(host)) if same_site(origin, host)
        );
    if cross || foreign {
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

fn check_token(headers: &HeaderMap, token: Option<&str>) -> Result<(), Failure> {
    let Some(token) = token else { return Ok(()) };
    let given = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let bearer = given.and_then(|value| {
        let (scheme, rest) = value.split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| rest.trim_ascii())
    });
    if bearer.is_some_and(|given| same_bytes(given, token.as_bytes())) {
        return Ok(());
    }
    let message = match bearer {
        Some(_) => "the token is not the right one",
        None => "a token is needed",
    };
    Err(
        Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .hint("send Authorization: Bearer TOKEN; on the command line set FIREDRILL_TOKEN"),
    )
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

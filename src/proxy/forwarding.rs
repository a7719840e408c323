//! What a proxy changes in every request's head because its definition says so: the host that the
//! upstream is asked for, and the fields that tell it who asks.

use std::net::IpAddr;

use crate::faults::Edit;
use crate::operation::Request;
use crate::rules::Edge;

/// Whether `edge` changes requests.
pub(super) fn edits(edge: &Edge) -> bool {
    edge.upstream_host.is_some() || edge.forwarded.x_forwarded || edge.forwarded.forwarded
}

/// The change that `edge` makes to a request of `client`. `None`: there is none.
pub(super) fn edit(edge: &Edge, client: IpAddr, request: &Request<'_>) -> Option<Edit> {
    if !edits(edge) {
        return None;
    }
    let tells = edge.forwarded;
    let client = client.to_canonical();
    let scheme = if edge.terminate().is_some() {
        "https"
    } else {
        "http"
    };
    let asked = request.authority.or_else(|| request.header("host"));
    let mut edit = Edit::default();
    let mut set = |name: &str, value: String| edit.set.push((name.to_owned(), value));
    if tells.x_forwarded {
        let value = behind(request, "x-forwarded-for", client.to_string());
        set("X-Forwarded-For", value);
        // Who came before knows better what the first client did.
        let absent = |name| request.header_values(name).next().is_none();
        if absent("x-forwarded-proto") {
            set("X-Forwarded-Proto", scheme.to_owned());
        }
        if let Some(host) = asked.filter(|_| absent("x-forwarded-host")) {
            set("X-Forwarded-Host", host.to_owned());
        }
    }
    if tells.forwarded {
        let mut element = match client {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        if let Some(host) = asked {
            element += &format!(";host={}", quoted(host));
        }
        element += &format!(";proto={scheme}");
        set("Forwarded", behind(request, "forwarded", element));
    }
    if let Some(host) = &edge.upstream_host {
        set("Host", host.clone());
    }
    Some(edit)
}

/// A list's values as they came, this one behind them.
fn behind(request: &Request<'_>, name: &str, last: String) -> String {
    let values = request.headers.iter();
    let values = values.filter(|header| header.name.eq_ignore_ascii_case(name));
    let texts = values.filter_map(|header| std::str::from_utf8(header.value).ok());
    let texts = texts.map(str::trim).filter(|text| !text.is_empty());
    let all: Vec<_> = texts.chain([last.as_str()]).collect();
    all.join(", ")
}

/// A quoted-string (RFC 9110, section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use httparse::Header;

    use super::*;
    use crate::rules::Forwarded;

    fn sets(edge: &Edge, client: &str, headers: &[(&str, &str)]) -> Vec<String> {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let request = Request {
            authority: None,
            method: "GET",
            path: "/",
            query: None,
            headers: &headers,
            http2: false,
        };
        let edit = edit(edge, client.parse().unwrap(), &request);
        let set = edit.map(|edit| edit.set).unwrap_or_default();
        set.into_iter().map(|(n, v)| format!("{n}: {v}")).collect()
    }

    #[test]
    fn what_is_told_of_the_client() {
        let mut edge = Edge::new("p", "127.0.0.1:0", "h:1");
        let first = [("Host", "shop.example:8080")];
        let none: [String; 0] = [];
        assert_eq!(sets(&edge, "192.0.2.7", &first), none);
        edge.forwarded = Forwarded {
            x_forwarded: true,
            forwarded: true,
        };
        assert_eq!(
            sets(&edge, "::ffff:192.0.2.7", &first),
            [
                "X-Forwarded-For: 192.0.2.7",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: shop.example:8080",
                "Forwarded: for=192.0.2.7;host=\"shop.example:8080\";proto=http",
            ]
        );
        let later = [
            ("Host", "a\"b"),
            ("x-forwarded-for", "198.51.100.1, 198.51.100.2"),
            ("X-FORWARDED-FOR", " 198.51.100.3 "),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "first.example"),
            ("forwarded", "for=198.51.100.1"),
        ];
        assert_eq!(
            sets(&edge, "2001:db8::7", &later),
            [
                "X-Forwarded-For: 198.51.100.1, 198.51.100.2, 198.51.100.3, 2001:db8::7",
                "Forwarded: for=198.51.100.1, for=\"[2001:db8::7]\";host=\"a\\\"b\";proto=http",
            ]
        );
    }

    #[test]
    fn another_host_is_asked_for() {
        let mut edge = Edge::new("p", "127.0.0.1:0", "h:1");
        edge.upstream_host = Some("payment.internal".to_owned());
        let set = sets(&edge, "192.0.2.7", &[("host", "shop.example")]);
        assert_eq!(set, ["Host: payment.internal"]);
    }
}

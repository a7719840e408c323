//! What crosses a proxy: directions, phases, and the facts that a matcher may look at.

use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Which way bytes go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the upstream.
    Upstream,
    /// To the client.
    Downstream,
}

impl Direction {
    /// Both, for loops.
    pub const ALL: [Self; 2] = [Self::Upstream, Self::Downstream];

    /// The word in files and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a fault acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// A connection being made.
    Connection,
    /// A TLS handshake with a client, where the proxy is the one it is made with.
    Handshake,
    /// Bytes of a connection with no known messages.
    Stream,
    /// A message: an HTTP request and its answer, or a framed protocol's.
    Message,
    /// The bytes of a message's body.
    Body,
}

impl Layer {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::Connection,
        Self::Handshake,
        Self::Stream,
        Self::Message,
        Self::Body,
    ];

    /// The word in the docs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Handshake => "handshake",
            Self::Stream => "stream",
            Self::Message => "message",
            Self::Body => "body",
        }
    }
}

/// The moment of an operation at which a fault acted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the upstream was dialled for it.
    Connect,
    /// Before the upstream saw the request.
    Request,
    /// After the upstream answered.
    Response,
    /// While the bytes of a message's body passed.
    Body,
    /// While bytes of a connection passed.
    Stream,
}

/// Whose end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// The one who dialled the proxy.
    Client,
    /// The one whom the proxy dialled.
    Upstream,
}

/// What a matcher may look at. Borrowed from the bytes as they came.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who dialled; an IPv4-mapped address as the IPv4 one.
    pub client: IpAddr,
    /// The connection's ordinal at its proxy, from 1.
    pub connection: u64,
    /// Bytes of the connection that were read before, both directions together.
    pub bytes: u64,
    /// How long ago the connection was accepted.
    pub age: Duration,
    /// The host that a TLS client asks for.
    pub sni: Sni<'a>,
    /// The request, where the protocol has one.
    pub http: Option<Request<'a>>,
}

/// The host that a TLS client asks for in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sni<'a> {
    /// Not enough of them have come.
    Unknown,
    /// It asks for none, or they are no TLS.
    Absent,
    /// This one, in lower case.
    Named(&'a str),
}

/// The head of an HTTP request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The host, and mostly a port, where the target names them: `:authority`, or an absolute form.
    pub authority: Option<&'a str>,
    /// As it came, case included.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
    /// In order, names as they came.
    pub headers: &'a [httparse::Header<'a>],
    /// It came on a stream of HTTP/2.
    pub http2: bool,
}

/// The head of an HTTP answer.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// 100 to 599.
    pub status: u16,
    /// In order, names as they came.
    pub headers: &'a [httparse::Header<'a>],
    /// The length of the body, where the head says it.
    pub length: Option<u64>,
}

impl<'a> Request<'a> {
    /// The values of a header, in order; the name is compared without case.
    pub fn header_values(&self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers
            .iter()
            .filter(move |h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    }

    /// The host that it is for, without a port: of its target, else of its `Host`.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        let authority = self.authority.or_else(|| self.header("host"))?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
        // The colons of an IPv6 address stand in brackets.
        match (host.rfind(':'), host.rfind(']')) {
            (Some(colon), bracket) if bracket.is_none_or(|b| b < colon) => Some(&host[..colon]),
            _ => Some(host),
        }
    }

    /// The first value of a header, as text.
    #[must_use]
    pub fn header(&self, name: &'a str) -> Option<&'a str> {
        self.header_values(name)
            .next()
            .and_then(|v| std::str::from_utf8(v).ok())
    }
}

/// The body of a request, without what frames it.
#[derive(Debug, Default)]
pub enum Body<'a> {
    /// Not all of it has come.
    #[default]
    Unknown,
    /// All of it.
    Whole(WholeBody<'a>),
    /// Longer than anyone wanted to look at, or it can't be waited for.
    Long,
}

/// All of a body.
#[derive(Debug)]
pub struct WholeBody<'a> {
    bytes: &'a [u8],
    json: OnceCell<Option<serde_json::Value>>,
}

impl<'a> Body<'a> {
    /// All of a body.
    #[must_use]
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self::Whole(WholeBody {
            bytes,
            json: OnceCell::new(),
        })
    }

    /// Its bytes, where all of them are known.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Whole(whole) => Some(whole.bytes),
            _ => None,
        }
    }

    /// What it is as JSON; read once.
    #[must_use]
    pub fn json(&self) -> Option<&serde_json::Value> {
        let Self::Whole(whole) = self else {
            return None;
        };
        let read = || serde_json::from_slice(whole.bytes).ok();
        whole.json.get_or_init(read).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_host_a_request_is_for() {
        let host = |authority, host: &'static str| {
            let header = httparse::Header {
                name: "Host",
                value: host.as_bytes(),
            };
            let headers = [header];
            let request = Request {
                authority,
                method: "GET",
                path: "/",
                query: None,
                headers: &headers,
                http2: false,
            };
            request.host().map(str::to_owned)
        };
        for (authority, header, expected) in [
            (None, "shop.example:8080", "shop.example"),
            (None, "shop.example", "shop.example"),
            (Some("a.example:1"), "b.example", "a.example"),
            (None, "user:pw@shop.example", "shop.example"),
            (None, "[::1]:80", "[::1]"),
            (None, "[::1]", "[::1]"),
            (None, "", ""),
        ] {
            assert_eq!(host(authority, header).as_deref(), Some(expected));
        }
    }
}

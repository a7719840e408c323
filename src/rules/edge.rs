//! The definition of a proxy: one listener, one upstream, an edge between two services.

use std::sync::Arc;
use std::time::Duration;

use crate::faults::Kind;
use crate::operation::Layer;
use crate::tls::{Client, Server, Tls};

/// How a proxy's operations are told apart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Bytes; an operation is a connection.
    Tcp,
    /// HTTP/1.x and HTTP/2; an operation is a request with its answer.
    Http,
    /// Either, as the first bytes of each connection say. Until then nothing is known.
    Auto,
}

impl Protocol {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Http, Self::Auto];

    /// The word in files; in records only what a connection has turned out to be.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Auto => "auto",
        }
    }
}

/// One proxy as defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Unique among proxies.
    pub name: String,
    /// The service that calls.
    pub from: String,
    /// The service that is called.
    pub to: String,
    /// Whether it has a listener.
    pub enabled: bool,
    /// `host:port`; port 0 is any free one.
    pub listen: String,
    /// `host:port`, resolved at every dial; or [`Edge::ORIGINAL`].
    pub upstream: String,
    /// What it carries.
    pub protocol: Protocol,
    /// For one dial, name resolution included.
    pub connect_timeout: Duration,
    /// Clients at the same time; more are refused.
    pub max_connections: usize,
    /// How it speaks TLS; `None`: not at all, what passes may.
    pub tls: Option<Tls>,
    /// How the PROXY protocol is used.
    pub proxy_protocol: ProxyProtocol,
    /// On HTTP: the host that the upstream is asked for; `None`: the one that the client asks for.
    pub upstream_host: Option<String>,
    /// On HTTP: what the upstream is told of the client.
    pub forwarded: Forwarded,
}

/// Which fields of a request tell the upstream who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

/// Who says, in front of a connection's bytes, which client it is for (the PROXY protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProxyProtocol {
    /// Whoever connects must.
    pub accept: bool,
    /// This proxy does, to its upstream, in this version.
    pub send: Option<Version>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Edge {
    /// The upstream of an edge whose clients are redirected to it by the system: where each of them
    /// was going.
    pub const ORIGINAL: &str = "original";
    /// The `connect_timeout` of an edge that does not say.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// The `max_connections` of an edge that does not say.
    pub const MAX_CONNECTIONS: usize = 10_000;

    /// A TCP edge with everything else at its default.
    #[must_use]
    pub fn new(name: &str, listen: &str, upstream: &str) -> Self {
        Self {
            name: name.to_owned(),
            from: "client".to_owned(),
            to: name.to_owned(),
            enabled: true,
            listen: listen.to_owned(),
            upstream: upstream.to_owned(),
            protocol: Protocol::Tcp,
            connect_timeout: Self::CONNECT_TIMEOUT,
            max_connections: Self::MAX_CONNECTIONS,
            tls: None,
            proxy_protocol: ProxyProtocol::default(),
            upstream_host: None,
            forwarded: Forwarded::default(),
        }
    }

    /// Whether each connection goes on to where its client was going.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.upstream == Self::ORIGINAL
    }

    /// Whether a kind of fault can act here.
    #[must_use]
    pub fn suits(&self, kind: &Kind) -> bool {
        let handshake = kind.acts_on(Layer::Handshake) && self.terminate().is_some();
        let fits = match self.protocol {
            Protocol::Tcp => kind.fits(false),
            Protocol::Http => kind.fits(true),
            Protocol::Auto => kind.fits(true) || kind.acts_on(Layer::Stream),
        };
        handshake || fits
    }

    /// How clients are met with TLS, if they are.
    #[must_use]
    pub fn terminate(&self) -> Option<&Arc<Server>> {
        self.tls.as_ref()?.terminate.as_ref()
    }

    /// How the upstream is met with TLS, if it is.
    #[must_use]
    pub fn originate(&self) -> Option<&Arc<Client>> {
        self.tls.as_ref()?.originate.as_ref()
    }
}

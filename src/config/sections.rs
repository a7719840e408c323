//! The settings of the process itself: `control`, `metrics`, `limits`.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;
use super::node::Node;
use super::scalars::LISTEN;
use super::tls;
use super::upstreams::{self, Upstreams};
use crate::tls::Tls;
use crate::units::format_size;

/// The control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// `host:port`; loopback unless a token is set or `insecure` is said.
    pub listen: String,
    /// Where the bearer token stands.
    pub token_file: Option<PathBuf>,
    /// Where the one stands that is for reading only.
    pub read_token_file: Option<PathBuf>,
    /// Listens beyond loopback without a token.
    pub insecure: bool,
    /// Host names accepted besides IP literals, localhost and single-label names.
    pub hosts: Vec<String>,
    /// What a controller with a name has set is lifted once it is silent for so long; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Whether the file is read again when it has changed.
    pub watch: bool,
    /// Where what the API made is kept for the next start.
    pub state_file: Option<PathBuf>,
    /// What proxies made or changed by the API may connect to.
    pub upstreams: Upstreams,
    /// How clients are met; `None`: without TLS.
    pub tls: Option<Tls>,
    /// Connections at the same time, 1 to 100 000; past that those go that say nothing.
    pub max_connections: usize,
    /// Whether Toxiproxy's dialect needs no token where the rest does.
    pub toxiproxy_open: bool,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8474".to_owned(),
            token_file: None,
            read_token_file: None,
            insecure: false,
            hosts: Vec::new(),
            heartbeat: None,
            watch: true,
            state_file: None,
            upstreams: Upstreams::default(),
            tls: None,
            max_connections: 256,
            toxiproxy_open: false,
        }
    }
}

/// Who may speak Toxiproxy's dialect: whoever has the token, or all who reach it.
pub(super) const TOXIPROXY: [(&str, bool); 2] = [("token", false), ("open", true)];

pub(super) fn control(node: &Node<'_>) -> Option<ControlConfig> {
    node.map(|f| {
        let default = ControlConfig::default();
        let control = ControlConfig {
            listen: f.or("listen", default.listen, Node::listen),
            token_file: f.opt("token_file", file),
            read_token_file: f.opt("read_token_file", file),
            insecure: f.or("insecure", default.insecure, Node::flag),
            hosts: f.or("hosts", default.hosts, |n| {
                n.texts("a list of host names", host)
            }),
            heartbeat: f.opt("heartbeat", Node::time),
            watch: f.or("watch", default.watch, Node::flag),
            state_file: f.opt("state_file", file),
            upstreams: f.or("upstreams", default.upstreams, upstreams::upstreams),
            tls: f.opt("tls", tls::control),
            max_connections: f.or("max_connections", default.max_connections, |n| {
                n.count(1, 100_000).map(|n| n as usize)
            }),
            toxiproxy_open: f.or("toxiproxy", default.toxiproxy_open, |n| {
                n.meaning(&TOXIPROXY)
            }),
        };
        let has = |key| node.value.get(key).is_some();
        if has("read_token_file") && !has("token_file") {
            node.key("read_token_file").problem_hint(
                "with this token alone nothing could be changed, nor healed",
                "set `control.token_file` too",
            );
        }
        control
    })
}

/// Reports a control port that whoever reaches it could use. `listen`: where its address stands.
pub(super) fn guard(listen: &Node<'_>, control: &ControlConfig, has_token: bool) {
    let loopback = Address::parse(&control.listen).is_ok_and(|a| a.is_loopback());
    if loopback || has_token || control.insecure {
        return;
    }
    let (token, none) = match listen.path().starts_with("--") {
        true => ("--token-file", "--without-token"),
        false => ("control.token_file", "control.insecure: true"),
    };
    listen.problem_hint(
        "listening beyond loopback needs a token",
        format!("set `{token}`; or `{none}`, and whoever reaches it can break things"),
    );
}

fn host(node: &Node<'_>) -> Option<String> {
    const HOST: &str = "a host name without a port, such as `chaos.example`";
    let text = node.text(HOST)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) {
        node.wrong(HOST, None);
        return None;
    }
    Some(text)
}

pub(super) fn file(node: &Node<'_>) -> Option<PathBuf> {
    node.some_text("the path of a file").map(PathBuf::from)
}

/// The second port, with `/metrics` and `/healthz` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `host:port`.
    pub listen: String,
}

pub(super) fn metrics(node: &Node<'_>) -> Option<Option<MetricsConfig>> {
    node.map(|f| {
        let listen = f.need("listen", LISTEN, Node::listen);
        listen.map(|listen| MetricsConfig { listen })
    })
}

/// What faults may hold and how long things are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Bytes that faults may hold of one direction of a connection; then its source is no longer
    /// read. At most
    /// `held_total`, which is also its default where that is less than 64 MiB.
    pub held_per_connection: u64,
    /// Bytes that faults may hold in all; then no source that a fault acts on is read.
    pub held_total: u64,
    /// How long an upstream's answer is awaited after its client has gone, while a fault acts.
    pub linger: Duration,
    /// How long a connection of which one side has ended may stand without a byte moving.
    pub half_close: Duration,
    /// How long a client may take for what comes before its first byte: TLS, the PROXY protocol.
    pub handshake: Duration,
    /// How long open connections may take to end when the process stops. What starts and stops
    /// containers kills after 10 s.
    pub drain: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            held_per_connection: 64 << 20,
            held_total: 512 << 20,
            linger: Duration::from_secs(30),
            half_close: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(8),
        }
    }
}

pub(super) fn limits(node: &Node<'_>) -> Option<LimitsConfig> {
    node.map(|f| {
        let default = LimitsConfig::default();
        let per_connection = f.opt("held_per_connection", Node::size);
        let held_total = f.or("held_total", default.held_total, Node::size);
        if let Some(one) = per_connection.filter(|one| *one > held_total) {
            node.key("held_per_connection").problem(format!(
                "one connection may hold {}, more than all together: `held_total` is {}",
                format_size(one),
                format_size(held_total),
            ));
        }
        LimitsConfig {
            held_per_connection: per_connection
                .unwrap_or(default.held_per_connection.min(held_total)),
            held_total,
            linger: f.or("linger", default.linger, Node::duration),
            half_close: f.or("half_close", default.half_close, Node::time),
            handshake: f.or("handshake", default.handshake, Node::time),
            drain: f.or("drain", default.drain, Node::duration),
        }
    })
}

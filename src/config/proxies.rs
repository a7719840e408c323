//! `proxies`, and what rules and partitions may know of them.

use std::collections::HashMap;

use super::address::Address;
use super::node::{Node, nearest};
use super::scalars::{LISTEN, NAME, UPSTREAM};
use super::tls;
use super::value::{quoted, quoted_list};
use crate::rules::{Edge, Forwarded, Protocol, ProxyProtocol, Version};

/// The words of a protocol.
pub(super) const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tcp", Protocol::Tcp),
    ("http", Protocol::Http),
    ("auto", Protocol::Auto),
];

/// The words of a version of the PROXY protocol.
pub(super) const VERSIONS: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

/// One proxy. `ignored`: keys that may stand there and say nothing.
pub(super) fn proxy(node: &Node<'_>, ignored: &'static [&'static str]) -> Option<Edge> {
    node.map(|f| {
        f.ignore(ignored);
        let name = f.need("name", NAME, Node::name);
        let from = f.or("from", "client".to_owned(), Node::name);
        let to = f.opt("to", Node::name).or_else(|| name.clone());
        let listen = f.need("listen", LISTEN, Node::listen);
        let upstream = f.need("upstream", UPSTREAM, Node::upstream);
        let edge = Edge {
            enabled: f.or("enabled", true, Node::flag),
            protocol: f.or("protocol", Protocol::Tcp, |n| n.meaning(&PROTOCOLS)),
            connect_timeout: f.or("connect_timeout", Edge::CONNECT_TIMEOUT, Node::time),
            max_connections: f.or("max_connections", Edge::MAX_CONNECTIONS, |n| {
                n.count(1, 1_000_000).map(|n| n as usize)
            }),
            tls: f.opt("tls", |n| tls::tls(n, upstream.as_deref())),
            proxy_protocol: f.section("proxy_protocol", proxy_protocol),
            upstream_host: f.opt("upstream_host", host),
            forwarded: f.section("forwarded", forwarded),
            name: name?,
            from,
            to: to?,
            listen: listen?,
            upstream: upstream?,
        };
        if edge.protocol == Protocol::Tcp {
            for (key, said) in [
                ("upstream_host", edge.upstream_host.is_some()),
                ("forwarded", edge.forwarded != Forwarded::default()),
            ] {
                if said {
                    node.key(key).its_key().problem_hint(
                        "there are no requests here that it could change: `protocol: tcp`",
                        "set `protocol: http` or `auto`, or leave it out",
                    );
                }
            }
        }
        let own = Address::parse(&edge.listen).ok();
        let upstream = Address::parse(&edge.upstream).ok();
        if own.zip(upstream).is_some_and(|(own, up)| own.receives(&up)) {
            node.key("upstream")
                .problem("this is the proxy's own address: it would dial itself for ever");
            return None;
        }
        Some(edge)
    })?
}

fn proxy_protocol(node: &Node<'_>) -> Option<ProxyProtocol> {
    node.map(|f| ProxyProtocol {
        accept: f.or("accept", false, Node::flag),
        send: f.opt("send", |n| n.meaning(&VERSIONS)),
    })
}

fn host(node: &Node<'_>) -> Option<String> {
    const HOST: &str = "a host, with its port if need be, such as `payment.internal`";
    let text = node.some_text(HOST)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b);
    if text.len() > 255 || !text.bytes().all(allowed) {
        node.wrong(HOST, None);
        return None;
    }
    Some(text)
}

fn forwarded(node: &Node<'_>) -> Option<Forwarded> {
    node.map(|f| Forwarded {
        x_forwarded: f.or("x_forwarded", false, Node::flag),
        forwarded: f.or("forwarded", false, Node::flag),
    })
}

/// The proxies that rules and partitions may speak of.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that were read without a problem.
    pub(super) edges: Vec<Edge>,
    /// The names of the others: they exist, but not more is known.
    doubtful: Vec<String>,
    /// Some of the others have no name that could be read.
    nameless: bool,
}

impl Known {
    /// Exactly these.
    pub(super) fn exactly(edges: &[Edge]) -> Self {
        Self {
            edges: edges.to_vec(),
            ..Self::default()
        }
    }

    /// There is one more, of which nothing else is known; `None`: not even its name.
    pub(super) fn doubt(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.doubtful.push(name.to_owned()),
            None => self.nameless = true,
        }
    }

    /// Some that are not known here.
    pub(super) fn unknown() -> Self {
        Self {
            nameless: true,
            ..Self::default()
        }
    }

    /// Whether there are others of which not everything is known; what is absent among the edges may
    /// then be theirs.
    pub(super) fn is_partial(&self) -> bool {
        self.nameless || !self.doubtful.is_empty()
    }

    /// Reads the name of a proxy that exists.
    pub(super) fn existing(&self, node: &Node<'_>) -> Option<String> {
        let name = node.text("the name of a proxy")?;
        let names = self.edges.iter().map(|e| e.name.as_str());
        let names = names.chain(self.doubtful.iter().map(String::as_str));
        if self.nameless || names.clone().any(|n| n == name) {
            return Some(name);
        }
        node.problem_hint(
            format!("there is no proxy {}", quoted(&name)),
            match nearest(&name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => listed("proxies", names.collect()),
            },
        );
        None
    }

    /// Reads the name of a service that is at one end of a proxy.
    pub(super) fn service(&self, node: &Node<'_>) -> Option<String> {
        let name = node.name()?;
        if self.is_partial() {
            return Some(name);
        }
        let ends = self.edges.iter().flat_map(|e| [&e.from, &e.to]);
        let mut ends: Vec<_> = ends.map(String::as_str).collect();
        ends.sort_unstable();
        ends.dedup();
        if !ends.contains(&name.as_str()) {
            node.problem_hint(
                format!("no proxy is from or to {}", quoted(&name)),
                match nearest(&name, ends.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => listed("services", ends),
                },
            );
        }
        Some(name)
    }
}

fn listed(what: &str, names: Vec<&str>) -> String {
    const SHOWN: usize = 10;
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let some = quoted_list(names.into_iter().take(SHOWN));
    format!("there are: {some}{more}")
}

/// All of a file's proxies. `taken`: where else the process listens.
pub(super) fn proxies(node: &Node<'_>, taken: &[(String, String)]) -> Option<Known> {
    let mut known = Known::default();
    items(node, "proxies", |item| {
        let before = node.report().count();
        match proxy(item, &[]) {
            Some(edge) if node.report().count() == before => known.edges.push(edge),
            _ => known.doubt(item.value.text("name")),
        }
        Some(())
    })?;
    addresses(node, taken);
    Some(known)
}

/// Reads a list of things with unique names.
pub(super) fn items<T>(
    node: &Node<'_>,
    what: &str,
    mut read: impl FnMut(&Node<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let list = node.list(&format!("a list of {what}"), |item| read(item))?;
    let mut names = HashMap::new();
    for (n, item) in node.value.items().iter().enumerate() {
        let Some(name) = item.text("name") else {
            continue;
        };
        let here = node.index(n).key("name");
        if let Some(first) = names.get(name) {
            let first: &Node<'_> = first;
            let message = format!("the name {} is taken by {}", quoted(name), first.path());
            here.clash(message, first, None);
        } else {
            names.insert(name, here);
        }
    }
    Some(list)
}

/// Reports addresses that two listeners would share.
fn addresses(node: &Node<'_>, taken: &[(String, String)]) {
    let mut seen: Vec<(Address, Node<'_>)> = Vec::new();
    for (n, item) in node.value.items().iter().enumerate() {
        let Some(Ok(address)) = item.text("listen").map(Address::parse) else {
            continue;
        };
        let here = node.index(n).key("listen");
        let other = taken
            .iter()
            .find(|(_, t)| Address::parse(t).is_ok_and(|t| t.clashes(&address)));
        if let Some((whose, at)) = other {
            here.problem(format!("this address is taken by {whose}, `{at}`"));
        } else if let Some((_, first)) = seen.iter().find(|(a, _)| a.clashes(&address)) {
            let message = format!("this address is taken by {}", first.path());
            here.clash(message, first, Some("port 0 is any free one"));
        }
        seen.push((address, here));
    }
}

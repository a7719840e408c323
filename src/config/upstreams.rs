//! `control.upstreams`: what proxies made or changed by the API may connect to.

use std::net::{IpAddr, Ipv6Addr};

use super::node::Node;

/// What one of them is.
const UPSTREAM: &str =
    "a host and a port such as `payment:8080`, `10.0.0.*:*`, `*.internal:*` or `[::1]:*`";

/// Where proxies of the API may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstreams(Option<Vec<Allowed>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: Host,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// Each part of an IPv4 address, or `None` for all that it can be.
    V4([Option<u8>; 4]),
    V6(Ipv6Addr),
    /// In lower case; `under`: and what ends in it, after a dot, instead.
    Name {
        name: String,
        under: bool,
    },
}

impl Upstreams {
    /// Whether a proxy may have this upstream. It is judged as it is written: a name is not resolved,
    /// and a pattern for addresses is none for names that look like one.
    #[must_use]
    pub fn allow(&self, upstream: &str) -> bool {
        let Some(allowed) = &self.0 else { return true };
        let Some((host, port)) = split(upstream) else {
            return false;
        };
        let port = port.parse::<u16>().ok();
        let fits = |one: &&Allowed| one.port.is_none() || one.port == port;
        allowed.iter().filter(fits).any(|one| one.host.means(host))
    }
}

impl Host {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Some(Self::V6(ip));
        }
        let numeric = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit() || b"*.".contains(&b))
        };
        if numeric(text) {
            let part = |part: &str| match part {
                "*" => Some(None),
                number => number.parse().ok().map(Some),
            };
            let parts: Vec<_> = text.split('.').map(part).collect::<Option<_>>()?;
            return parts.try_into().ok().map(Self::V4);
        }
        let (name, under) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let right = !name.is_empty() && name.bytes().all(allowed);
        right.then(|| Self::Name {
            name: name.to_ascii_lowercase(),
            under,
        })
    }

    fn means(&self, host: &str) -> bool {
        let ip = host.parse::<IpAddr>();
        match (self, ip.map(|ip| ip.to_canonical())) {
            (Self::Any, _) => true,
            (Self::V4(parts), Ok(IpAddr::V4(ip))) => {
                let mut each = parts.iter().zip(ip.octets());
                each.all(|(part, octet)| part.is_none_or(|part| part == octet))
            }
            (Self::V6(allowed), Ok(ip)) => IpAddr::V6(*allowed).to_canonical() == ip,
            (Self::Name { name, under }, Err(_)) => {
                let host = host.to_ascii_lowercase();
                match host.strip_suffix(name.as_str()) {
                    Some("") => !under,
                    Some(before) => *under && before.len() > 1 && before.ends_with('.'),
                    None => false,
                }
            }
            _ => false,
        }
    }
}

/// Host and port; an IPv6 address is taken out of its brackets.
fn split(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => Some((inner.strip_suffix(']')?, port)),
        None => Some((host, port)).filter(|_| !host.contains(':')),
    }
}

pub(super) fn upstreams(node: &Node<'_>) -> Option<Upstreams> {
    let list = node.list("a list of hosts with ports", |item| {
        let text = item.text(UPSTREAM)?;
        let read = split(&text).and_then(|(host, port)| {
            let port = match port {
                "*" => None,
                port => Some(port.parse().ok().filter(|port| *port > 0)?),
            };
            let host = Host::read(host)?;
            Some(Allowed { host, port })
        });
        if read.is_none() {
            item.wrong(UPSTREAM, None);
        }
        read
    })?;
    Some(Upstreams(Some(list)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn of(list: &str) -> Upstreams {
        let yaml = format!("control: {{ upstreams: {list} }}");
        config::parse(&yaml, "f").unwrap().control.upstreams
    }

    #[test]
    fn what_is_not_said_is_not_allowed() {
        let some =
            of(r#"["payment:8080", "10.0.*.7:*", "*.internal:443", "[::1]:5432", "*:9999"]"#);
        for (upstream, allowed) in [
            ("payment:8080", true),
            ("PAYMENT:8080", true),
            ("payment:8081", false),
            ("xpayment:8080", false),
            ("a.payment:8080", false),
            ("10.0.200.7:1", true),
            ("10.0.200.8:1", false),
            ("10.1.200.7:1", false),
            // A name that begins like the address is another's to give.
            ("10.0.com.7:1", false),
            ("10.0.7:1", false),
            ("[::ffff:10.0.1.7]:1", true),
            ("db.internal:443", true),
            ("a.db.internal:443", true),
            ("internal:443", false),
            (".internal:443", false),
            ("xinternal:443", false),
            ("db.internal.evil.example:443", false),
            ("[::1]:5432", true),
            ("[0:0:0:0:0:0:0:1]:5432", true),
            ("[::2]:5432", false),
            ("anything.example:9999", true),
            ("payment", false),
            ("", false),
        ] {
            assert_eq!(some.allow(upstream), allowed, "{upstream}");
        }
        assert!(
            Upstreams::default().allow("anything:1"),
            "unless it is said"
        );
        assert!(!of("[]").allow("anything:1"), "nothing, and said so");
    }

    #[test]
    fn what_is_no_host_with_a_port_is_a_problem() {
        for wrong in [
            "payment",
            "payment:0",
            "payment:99999",
            "payment:x",
            ":80",
            "10.0.*:80",
            "a*b:80",
            "10.0.0.300:80",
            "::1:80",
            "[::1:80",
            "pay ment:80",
        ] {
            let yaml = format!("control: {{ upstreams: ['{wrong}'] }}");
            let problems = config::parse(&yaml, "f").unwrap_err();
            assert_eq!(problems.list[0].path, "control.upstreams[0]", "{wrong}");
        }
    }
}

//! `host:port`: whether it is one, and which of them can't be listened on at the same time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
}

/// An address as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    /// 0: any free one.
    pub(super) port: u16,
}

impl Address {
    /// Reads `127.0.0.1:7001`, `[::1]:7001` or `payment:7001`.
    ///
    /// # Errors
    /// What to do about it, where that can be guessed.
    pub(super) fn parse(text: &str) -> Result<Self, Option<String>> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let rest = rest.split('/').next().unwrap_or_default();
            return Err(guess(rest).map(|_| {
                format!(
                    "leave `{}://` and any path out: `{rest}`",
                    super::value::shown(scheme)
                )
            }));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            let only_port = text.parse::<u16>().is_ok();
            return Err(if only_port {
                Some(format!("did you mean `127.0.0.1:{text}`?"))
            } else {
                Some("the port is missing".to_owned())
            });
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) || port.is_empty() {
            return Err(None);
        }
        let Ok(port) = port.parse() else {
            return Err(Some("a port is a number up to 65535".to_owned()));
        };
        if host.is_empty() {
            return Err(Some(format!(
                "did you mean `127.0.0.1:{port}`? (`0.0.0.0:{port}` is every interface)"
            )));
        }
        Ok(Self {
            host: parse_host(host)?,
            port,
        })
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }

    /// Whether two listeners can't have both.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        self.port != 0
            && self.port == other.port
            && self
                .ips()
                .iter()
                .any(|a| other.ips().iter().any(|b| meet(a, b)))
    }

    /// Whether connecting to `other` leads to a listener on this address.
    pub(super) fn receives(&self, other: &Self) -> bool {
        let local = other.is_loopback() || other.host == self.host;
        local && self.clashes(other)
    }

    fn ips(&self) -> Vec<Host> {
        match &self.host {
            Host::Name(name) if name == "localhost" => vec![
                Host::Ip(Ipv4Addr::LOCALHOST.into()),
                Host::Ip(Ipv6Addr::LOCALHOST.into()),
            ],
            host => vec![host.clone()],
        }
    }
}

/// Whether listeners on two hosts would meet: they are one, or one is every interface. `[::]` takes
/// IPv4 as well.
fn meet(a: &Host, b: &Host) -> bool {
    let every = |a: &Host, b: &Host| match (a, b) {
        (Host::Ip(IpAddr::V4(a)), Host::Ip(IpAddr::V6(b))) => {
            a.is_unspecified() && b.is_unspecified()
        }
        (Host::Ip(a), _) => a.is_unspecified(),
        (Host::Name(_), _) => false,
    };
    a == b || every(a, b) || every(b, a)
}

fn guess(text: &str) -> Option<Address> {
    Address::parse(text).ok()
}

fn parse_host(host: &str) -> Result<Host, Option<String>> {
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|ip| ip.parse().ok());
        return ip.map(|ip: Ipv6Addr| Host::Ip(ip.into())).ok_or(None);
    }
    if host.contains(':') {
        let whole = host.parse::<Ipv6Addr>().is_ok();
        return Err(whole.then(|| format!("an IPv6 address stands in brackets: `[{host}]:PORT`")));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric || host.len() > 253 || !host.bytes().all(letters) {
        return Err(None);
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn what_is_an_address_and_what_is_not() {
        for text in [
            "127.0.0.1:0",
            "[::1]:80",
            "payment:8001",
            "a-b.c_d:1",
            "localhost:65535",
        ] {
            address(text);
        }
        for text in [
            "",
            ":",
            ":80",
            "payment",
            "payment:",
            "payment:65536",
            "payment:http",
            "::1:80",
            "256.0.0.1:80",
            "a b:80",
            "http://payment:80",
            "[payment]:80",
            "payment:-1",
            "a:+1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_that_cannot_stand_together() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("localhost:1", "127.0.0.1:1", true),
            ("localhost:1", "[::1]:1", true),
            ("Payment:1", "payment:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
        ] {
            assert_eq!(address(a).clashes(&address(b)), expected, "{a} {b}");
            assert_eq!(address(b).clashes(&address(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_listener_that_would_dial_itself() {
        assert!(address("0.0.0.0:1").receives(&address("localhost:1")));
        assert!(address("127.0.0.1:1").receives(&address("127.0.0.1:1")));
        assert!(!address("0.0.0.0:1").receives(&address("10.0.0.5:1")));
    }
}

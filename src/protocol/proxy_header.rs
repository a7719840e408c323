//! The PROXY protocol (haproxy's `proxy-protocol.txt`), versions 1 and 2: a header in front of all
//! other bytes of a connection that names the client it is for.
//!
//! Read without ever asking for a byte that is not the header's: what follows stays unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes of a header that are read. Version 2 would allow 64 KiB of extensions.
pub const MOST: usize = 16 + 4096;

/// The longest line of version 1, its end included.
const MOST_V1: usize = 107;
/// The shortest: `PROXY UNKNOWN` and its end.
const LEAST_V1: usize = 15;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8; 6] = b"PROXY ";

/// Who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub from: SocketAddr,
    /// What it has connected to.
    pub to: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// At least so many bytes more belong to the header.
    More(usize),
    /// A whole header, and nothing else. Where it names nobody (a health check of whoever sends it,
    /// or no TCP), the connection is its sender's own.
    Header(Option<Ends>),
    /// No header; why.
    Refused(&'static str),
}

/// Reads a header of which `bytes` is the beginning. To be given as many bytes more as it asks for,
/// until it is whole; total, whatever they are.
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(WORD) {
        read_v1(bytes)
    } else if begins(SIGNATURE) {
        read_v2(bytes)
    } else {
        Read::Refused("it begins with no PROXY protocol header")
    }
}

fn read_v1(bytes: &[u8]) -> Read {
    // Both versions may begin with nothing at all: the shorter one decides what to ask for.
    if bytes.len() < LEAST_V1 {
        return Read::More(LEAST_V1 - bytes.len());
    }
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes.len() {
            MOST_V1.. => Read::Refused("its first line is too long"),
            _ if bytes.ends_with(b"\r") => Read::More(1),
            len => Read::More(2.min(MOST_V1 - len)),
        };
    };
    if line.iter().any(|b| *b == b'\r' || *b == b'\n') {
        return Read::Refused("its first line is none of the PROXY protocol");
    }
    match parse_v1(line) {
        Some(ends) => Read::Header(ends),
        None => Read::Refused("its first line is none of the PROXY protocol"),
    }
}

fn parse_v1(line: &[u8]) -> Option<Option<Ends>> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let parts: Vec<_> = line.split(' ').collect();
    let [family, from, to, from_port, to_port] = *parts.as_slice() else {
        return None;
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let port = |text: &str| {
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u16>().ok().filter(|_| canonical)
    };
    Some(Some(Ends {
        from: SocketAddr::new(address(from)?, port(from_port)?),
        to: SocketAddr::new(address(to)?, port(to_port)?),
    }))
}

fn read_v2(bytes: &[u8]) -> Read {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else {
        return Read::More(16 - bytes.len());
    };
    let [.., command, family, high, low] = *head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MOST - 16 {
        return Read::Refused("its PROXY protocol header is too long");
    }
    if rest.len() < len {
        return Read::More(len - rest.len());
    }
    if rest.len() > len {
        return Read::Refused("more than its PROXY protocol header was given");
    }
    let names_someone = match command {
        0x20 => false,
        0x21 => true,
        _ => return Read::Refused("its PROXY protocol header is of another version"),
    };
    let ends = match family {
        0x11 => ends(rest, |b: [u8; 4]| Ipv4Addr::from(b).into()),
        0x21 => ends(rest, |b: [u8; 16]| Ipv6Addr::from(b).into()),
        // Unspecified, datagrams, Unix sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Read::Header(None),
        _ => return Read::Refused("its PROXY protocol header names an unknown family"),
    };
    match ends {
        _ if !names_someone => Read::Header(None),
        Some(ends) => Read::Header(Some(ends)),
        None => Read::Refused("its PROXY protocol header is too short for its addresses"),
    }
}

fn ends<const N: usize>(bytes: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<Ends> {
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let (from_port, rest) = rest.split_first_chunk::<2>()?;
    let (to_port, _extensions) = rest.split_first_chunk::<2>()?;
    Some(Ends {
        from: SocketAddr::new(address(*from), u16::from_be_bytes(*from_port)),
        to: SocketAddr::new(address(*to), u16::from_be_bytes(*to_port)),
    })
}

/// The header of version 1.
#[must_use]
pub fn v1(ends: Ends) -> Vec<u8> {
    let (family, from, to) = match alike(ends) {
        Alike::V4(from, to) => ("TCP4", from.to_string(), to.to_string()),
        Alike::V6(from, to) => ("TCP6", from.to_string(), to.to_string()),
    };
    let (from_port, to_port) = (ends.from.port(), ends.to.port());
    format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
}

/// The header of version 2.
#[must_use]
pub fn v2(ends: Ends) -> Vec<u8> {
    let (family, addresses) = match alike(ends) {
        Alike::V4(from, to) => (0x11, [from.octets(), to.octets()].concat()),
        Alike::V6(from, to) => (0x21, [from.octets(), to.octets()].concat()),
    };
    let ports = [ends.from.port().to_be_bytes(), ends.to.port().to_be_bytes()].concat();
    let len = (addresses.len() + ports.len()) as u16;
    let mut out = SIGNATURE.to_vec();
    out.extend([0x21, family]);
    out.extend(len.to_be_bytes());
    out.extend(addresses);
    out.extend(ports);
    out
}

/// Both addresses in one family: a header has no room for two.
enum Alike {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn alike(ends: Ends) -> Alike {
    let wide = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (ends.from.ip().to_canonical(), ends.to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Alike::V4(from, to),
        (from, to) => Alike::V6(wide(from), wide(to)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads as a proxy does: never more than is asked for. How it ends, and what is left.
    fn drive(mut stream: &[u8]) -> (Read, &[u8]) {
        let mut read_so_far = Vec::new();
        loop {
            match read(&read_so_far) {
                Read::More(n) => {
                    assert!(n > 0 && read_so_far.len() + n <= MOST);
                    let n = n.min(stream.len());
                    if n == 0 {
                        return (Read::More(0), stream);
                    }
                    let (taken, rest) = stream.split_at(n);
                    read_so_far.extend_from_slice(taken);
                    stream = rest;
                }
                end => return (end, stream),
            }
        }
    }

    fn ends(from: &str, to: &str) -> Ends {
        Ends {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    #[test]
    fn lines_of_version_1() {
        let four = ends("192.0.2.7:56324", "198.51.100.1:443");
        let six = ends("[2001:db8::7]:1", "[2001:db8::1]:65535");
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
                Some(four),
            ),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", Some(six)),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 whatever it is\r\n", None),
        ] {
            let stream = format!("{line}GET / HTTP/1.1\r\n");
            let (end, rest) = drive(stream.as_bytes());
            assert_eq!(end, Read::Header(expected), "{line}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{line}");
        }
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n\nx\r\n",
        ] {
            assert!(
                matches!(drive(line.as_bytes()).0, Read::Refused(_)),
                "{line}"
            );
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(1000));
        let (end, rest) = drive(endless.as_bytes());
        assert_eq!(end, Read::Refused("its first line is too long"));
        assert_eq!(endless.len() - rest.len(), MOST_V1);
    }

    #[test]
    fn headers_of_version_2() {
        let someone = ends("192.0.2.7:56324", "198.51.100.1:443");
        let mut local = v2(someone);
        local[12] = 0x20;
        assert_eq!(drive(&local).0, Read::Header(None));
        let mut extended = v2(someone);
        extended[15] += 5;
        extended.extend([0x04, 0, 2, 0, 0]);
        assert_eq!(drive(&extended), (Read::Header(Some(someone)), &[][..]));
        for (at, byte) in [(12, 0x11), (12, 0x22), (13, 0x41), (14, 0xff), (15, 3)] {
            let mut bad = v2(someone);
            bad[at] = byte;
            assert!(matches!(drive(&bad).0, Read::Refused(_)), "{at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            from in any::<SocketAddr>(), to in any::<SocketAddr>(), rest in any::<Vec<u8>>()
        ) {
            let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
            for header in [v1(Ends { from, to }), v2(Ends { from, to })] {
                let stream = [&header[..], &rest].concat();
                let (end, left) = drive(&stream);
                let Read::Header(Some(ends)) = end else {
                    panic!("{end:?}");
                };
                prop_assert_eq!(canonical(ends.from), canonical(from));
                prop_assert_eq!(canonical(ends.to), canonical(to));
                prop_assert_eq!(left, &rest);
            }
        }

        #[test]
        fn anything_may_come(mut bytes in any::<Vec<u8>>(), like in 0..4) {
            let front: &[u8] = match like {
                0 => b"",
                1 => b"PROXY TCP4 ",
                2 => SIGNATURE,
                _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
            };
            bytes.splice(0..0, front.iter().copied());
            drive(&bytes);
            let _ = read(&bytes);
        }
    }
}

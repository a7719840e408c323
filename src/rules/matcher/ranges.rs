//! Subnets, spans of ordinals and of statuses, as users write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, or all addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The bits behind the first so many are 0. Never an IPv4-mapped one.
    address: IpAddr,
    bits: u8,
}

impl Subnet {
    /// Reads `10.0.0.0/8`, `10.1.2.3`, `2001:db8::/32` or `::1`.
    ///
    /// # Errors
    /// What to do about it, where that can be guessed.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(bare(address).map(|ip| format!("an address alone, such as `{ip}`")));
        };
        let width = width(address);
        let Some(bits) = bits else {
            return Ok(Self::new(address, width));
        };
        let digits = bits.bytes().all(|b| b.is_ascii_digit());
        let Some(bits) = bits.parse::<u8>().ok().filter(|n| digits && *n <= width) else {
            return Err(Some(format!("behind the `/` stands 0 to {width}")));
        };
        let network = network(address, bits);
        if network != address {
            return Err(Some(format!(
                "write `{network}/{bits}`, or `{address}` for that one address"
            )));
        }
        Ok(Self::new(address, bits))
    }

    /// A mapped subnet is the IPv4 one: that is how clients are known.
    fn new(address: IpAddr, bits: u8) -> Self {
        let canonical = address.to_canonical();
        match bits.checked_sub(width(address) - width(canonical)) {
            Some(bits) => Self {
                address: canonical,
                bits,
            },
            None => Self { address, bits },
        }
    }

    /// Whether an address, IPv4 where it is mapped, is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        width(address) == width(self.address) && network(address, self.bits) == self.address
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.bits < width(self.address) {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with 0 behind its first `bits`, at most all of them.
fn network(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & !host).into()
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & !host).into()
        }
    }
}

/// The address in something that has brackets, or a port, besides.
fn bare(text: &str) -> Option<IpAddr> {
    let socket = text.parse::<std::net::SocketAddr>().map(|at| at.ip());
    let inner = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    socket.ok().or_else(inner)
}

/// A run of ordinals, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordinals {
    first: u64,
    /// `u64::MAX`: no end.
    last: u64,
}

impl Ordinals {
    /// Reads `3`, `1-5` or `10-`.
    ///
    /// # Errors
    /// What to do about it, where that can be guessed.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits)
        };
        let (first, last) = match text.split_once('-') {
            None => (number(text), number(text)),
            Some((first, "")) => (number(first), Some(u64::MAX)),
            Some(("", last)) => {
                let last = number(last).filter(|n| *n > 0);
                return Err(last.map(|last| format!("write `1-{last}`")));
            }
            Some((first, last)) => (number(first), number(last)),
        };
        match (first.ok_or(None)?, last.ok_or(None)?) {
            (0, _) => Err(Some("they count from 1".to_owned())),
            (first, last) if first > last => Err(Some(format!("write `{last}-{first}`"))),
            (first, last) => Ok(Self { first, last }),
        }
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        (self.first..=self.last).contains(&ordinal)
    }

    /// As in the file: a number, or a text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self.last {
            last if last == self.first => last.into(),
            u64::MAX => format!("{}-", self.first).into(),
            last => format!("{}-{last}", self.first).into(),
        }
    }
}

/// A run of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    /// Reads `503`, `5xx` or `500-599`.
    ///
    /// # Errors
    /// What to do about it, where that can be guessed.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let number = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| digits)
        };
        let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => {
                let class = (class.len() == 1).then(|| class.parse::<u16>().ok());
                let first = class.flatten().ok_or(None)? * 100;
                (first, first + 99)
            }
            (None, Some((first, last))) => (number(first).ok_or(None)?, number(last).ok_or(None)?),
            (None, None) => {
                if let Some(class) = text.strip_suffix(['X', '*']).and_then(|t| t.chars().next()) {
                    return Err(class.is_ascii_digit().then(|| format!("write `{class}xx`")));
                }
                let status = number(text).ok_or(None)?;
                (status, status)
            }
        };
        if first > last {
            return Err(Some(format!("write `{last}-{first}`")));
        }
        if first < 200 || last > 599 {
            return Err(Some("answers have statuses from 200 to 599".to_owned()));
        }
        Ok(Self { first, last })
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    /// As in the file: a number, or a text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self.last - self.first {
            0 => self.first.into(),
            _ => self.to_string().into(),
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last - self.first {
            0 => self.first.fmt(f),
            99 if self.first.is_multiple_of(100) => write!(f, "{}xx", self.first / 100),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap_or_else(|hint| panic!("{text}: {hint:?}"))
    }

    #[test]
    fn who_is_in_a_subnet() {
        for (net, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::/64", "10.0.0.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(subnet(net).contains(address), expected, "{net} {address}");
        }
        assert_eq!(subnet("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert_eq!(subnet("10.0.0.1/32").to_string(), "10.0.0.1");
    }

    #[test]
    fn what_is_no_subnet() {
        for (text, hint) in [
            (
                "10.1.2.3/8",
                "write `10.0.0.0/8`, or `10.1.2.3` for that one address",
            ),
            (
                "2001:db8::1/32",
                "write `2001:db8::/32`, or `2001:db8::1` for that one address",
            ),
            ("10.0.0.0/33", "behind the `/` stands 0 to 32"),
            ("10.0.0.0/", "behind the `/` stands 0 to 32"),
            ("::/129", "behind the `/` stands 0 to 128"),
            ("10.0.0.0/+8", "behind the `/` stands 0 to 32"),
            ("10.0.0.0/255.0.0.0", "behind the `/` stands 0 to 32"),
            ("10.0.0.1:80", "an address alone, such as `10.0.0.1`"),
            ("[::1]:80", "an address alone, such as `::1`"),
            ("[::1]", "an address alone, such as `::1`"),
        ] {
            assert_eq!(Subnet::parse(text), Err(Some(hint.to_owned())), "{text}");
        }
        for text in ["", "/8", "localhost", "10.0.0/8", "10.0.0.0.0", "*"] {
            assert_eq!(Subnet::parse(text), Err(None), "{text}");
        }
    }

    #[test]
    fn which_ordinals() {
        for (text, within, without) in [
            ("3", &[3][..], &[1, 2, 4][..]),
            ("1-5", &[1, 5], &[6]),
            ("10-", &[10, u64::MAX], &[9]),
            ("7-7", &[7], &[6, 8]),
        ] {
            let span = Ordinals::parse(text).unwrap();
            assert!(within.iter().all(|n| span.contains(*n)), "{text}");
            assert!(!without.iter().any(|n| span.contains(*n)), "{text}");
        }
        for (text, hint) in [
            ("0", Some("they count from 1")),
            ("0-5", Some("they count from 1")),
            ("5-1", Some("write `1-5`")),
            ("-5", Some("write `1-5`")),
            ("", None),
            ("-", None),
            ("x", None),
            ("1-x", None),
            ("+1", None),
            ("1-2-3", None),
            ("99999999999999999999", None),
        ] {
            let hint = hint.map(str::to_owned);
            assert_eq!(Ordinals::parse(text), Err(hint), "{text}");
        }
    }

    #[test]
    fn which_statuses() {
        for (text, within, without, shown) in [
            ("503", [503, 503], [502, 504], "503"),
            ("5xx", [500, 599], [499, 600], "5xx"),
            ("500-599", [500, 599], [499, 600], "5xx"),
            ("401-403", [401, 403], [400, 404], "401-403"),
        ] {
            let span = Statuses::parse(text).unwrap();
            assert!(within.iter().all(|n| span.contains(*n)), "{text}");
            assert!(!without.iter().any(|n| span.contains(*n)), "{text}");
            assert_eq!(span.to_json().to_string().trim_matches('"'), shown);
        }
        for (text, hint) in [
            ("5XX", Some("write `5xx`")),
            ("5*", Some("write `5xx`")),
            ("599-500", Some("write `500-599`")),
            ("1xx", Some("answers have statuses from 200 to 599")),
            ("600", Some("answers have statuses from 200 to 599")),
            ("", None),
            ("xx", None),
            ("50", None),
            ("5000", None),
            ("+50", None),
            ("+xx", None),
            ("-", None),
            ("ok", None),
        ] {
            let hint = hint.map(str::to_owned);
            assert_eq!(Statuses::parse(text), Err(hint), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bits: u128, v4: bool, len in 0u8..=128, first in 1u64.., more: u64) {
            let address = match v4 {
                true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
                false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            };
            let len = len.min(width(address));
            let net = subnet(&format!("{}/{len}", network(address, len)));
            prop_assert_eq!(subnet(&net.to_string()), net);
            prop_assert!(net.contains(address.to_canonical()) || len < 96 && !v4);

            let span = Ordinals { first, last: first.saturating_add(more) };
            let json = span.to_json();
            let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
            prop_assert_eq!(Ordinals::parse(&text), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-fxX*:./\\-]{0,20}") {
            let _ = (Subnet::parse(&text), Ordinals::parse(&text), Statuses::parse(&text));
        }
    }
}

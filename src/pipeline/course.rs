//! What is learned of a connection while it stands: its age, and what its client said first.
//!
//! It is learned whether or not a rule asks for it, so that one that is enabled later knows it too.

use std::time::Duration;

use crate::clock::{self, Instant};
use crate::operation::Sni;
use crate::protocol::client_hello::{self, Hello};

/// The course of one connection.
#[derive(Debug)]
pub(super) struct Course {
    accepted: Instant,
    host: Host,
}

/// The host that a TLS client asks for.
#[derive(Debug)]
enum Host {
    /// The client has not said enough: a part of a ClientHello, or nothing.
    Unknown(Vec<u8>),
    /// It has, and asks for this one, if any.
    Known(Option<Box<str>>),
}

impl Course {
    /// Of a connection that was accepted just now.
    pub(super) fn begin() -> Self {
        Self {
            accepted: clock::now(),
            host: Host::Unknown(Vec::new()),
        }
    }

    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    pub(super) fn age(&self) -> Duration {
        clock::now() - self.accepted
    }

    pub(super) fn sni(&self) -> Sni<'_> {
        match &self.host {
            Host::Unknown(_) => Sni::Unknown,
            Host::Known(None) => Sni::Absent,
            Host::Known(Some(host)) => Sni::Named(host),
        }
    }

    /// Takes the host from who has read it already; answers whether that was news.
    pub(super) fn asked_for(&mut self, host: Option<&str>) -> bool {
        let news = matches!(self.host, Host::Unknown(_));
        let host = host.map(|host| host.to_ascii_lowercase().into_boxed_str());
        self.host = Host::Known(host);
        news
    }

    /// Takes the client's bytes in their order; answers whether they have told the host, or that
    /// there is none. What is kept until then is bounded by [`client_hello::MOST`].
    pub(super) fn learn(&mut self, bytes: &[u8]) -> bool {
        let Host::Unknown(begun) = &mut self.host else {
            return false;
        };
        let hello = if begun.is_empty() {
            // Mostly it is no TLS, or all of it in one piece: nothing is kept.
            client_hello::read(bytes)
        } else {
            begun.extend_from_slice(head(bytes, client_hello::MOST - begun.len()));
            client_hello::read(begun)
        };
        self.host = Host::Known(match hello {
            Hello::Named(host) => Some(host),
            Hello::Nameless => None,
            Hello::More => {
                if begun.is_empty() {
                    begun.extend_from_slice(bytes);
                }
                return false;
            }
        });
        true
    }
}

fn head(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_let_go() {
        // A ClientHello that never ends.
        let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
        endless.resize(client_hello::MOST, 0);
        for piece in [1, 7, 1000, client_hello::MOST] {
            let mut course = Course::begin();
            assert_eq!(course.sni(), Sni::Unknown);
            let mut told = 0;
            for (n, bytes) in endless.chunks(piece).enumerate() {
                if course.learn(bytes) {
                    told += 1;
                    assert_eq!(n, (client_hello::MOST - 1) / piece, "with the last of them");
                }
            }
            assert_eq!(
                (told, course.sni()),
                (1, Sni::Absent),
                "in pieces of {piece}"
            );
            assert!(!course.learn(&endless), "it is told once");
        }
        let mut plain = Course::begin();
        assert!(plain.learn(b"PING\r\n"));
        assert_eq!(plain.sni(), Sni::Absent);
    }
}

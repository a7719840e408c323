//! What is kept only as a hash, so that evidence can be shown to those who may not know whose it is.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use aws_lc_rs::rand;

use super::record::Caller;
use super::{Identity, SpanId, Trace, TraceId};

/// What is kept only as a hash, in records, and so wherever they are printed or sent. A hash is HMAC-SHA-256
/// under a key, cut to 64 bits: equal values have equal ones, and without the key none can be guessed
/// from it.
#[derive(Debug, Default)]
pub struct Hashing {
    /// Under which they are made.
    pub key: HashKey,
    /// Identities of operations, by whatever they are known.
    pub identities: bool,
    /// Paths of requests.
    pub paths: bool,
    /// Addresses of clients.
    pub clients: bool,
    /// Headers whose values are, wherever a record has them: as an identity, or as the trace.
    pub headers: Vec<String>,
}

/// A secret under which hashes are made.
#[derive(Debug)]
pub struct HashKey(hmac::Key);

impl HashKey {
    /// One that several instances share, and the next start.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// One of this process alone.
impl Default for HashKey {
    fn default() -> Self {
        let mut secret = [0; 32];
        // Where there is no randomness TLS fails too, and says so.
        let _ = rand::fill(&mut secret);
        Self::new(&secret)
    }
}

impl Hashing {
    fn tag(&self, bytes: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key.0, bytes)
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let tag = self.tag(bytes);
        let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(first)
    }

    /// A text in its place, of equal length for all: `hash:` and 16 digits.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        format!("hash:{:016x}", self.number(text.as_bytes()))
    }

    fn hides(&self, header: &str) -> bool {
        self.headers.iter().any(|h| h.eq_ignore_ascii_case(header))
    }

    /// An identity as it is kept; `header`: where it was found, if in one.
    #[must_use]
    pub fn identity(&self, mut identity: Identity, header: Option<&str>) -> Identity {
        if self.identities || header.is_some_and(|header| self.hides(header)) {
            identity.value = self.text(&identity.value);
        }
        identity
    }

    /// A path as it is kept.
    #[must_use]
    pub fn path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match self.paths {
            true => self.text(path).into(),
            false => path.into(),
        }
    }

    /// An address as it is kept.
    #[must_use]
    pub fn client(&self, client: Caller) -> Caller {
        match (self.clients, client) {
            (true, Caller::At(at)) => {
                let host = at.ip().to_canonical().to_string();
                Caller::Hashed(self.number(host.as_bytes()))
            }
            (_, client) => client,
        }
    }

    /// A trace as it is kept. What belongs together still does.
    #[must_use]
    pub fn trace(&self, trace: Trace) -> Trace {
        if !self.hides("traceparent") {
            return trace;
        }
        let (id, parent) = (self.tag(&trace.id.0), self.tag(&trace.parent.0));
        let first = |tag: &hmac::Tag| tag.as_ref().first_chunk().copied();
        Trace {
            id: TraceId(first(&id).unwrap_or_default()),
            parent: SpanId(parent.as_ref().first_chunk().copied().unwrap_or_default()),
            ..trace
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{By, Strength};

    fn identity(value: &str) -> Identity {
        Identity {
            by: By::IdempotencyKey,
            value: value.to_owned(),
            strength: Strength::Strong,
        }
    }

    #[test]
    fn nothing_is_hashed_unless_it_is_asked_for() {
        let hashing = Hashing::default();
        assert_eq!(hashing.identity(identity("a"), Some("x")).value, "a");
        assert_eq!(hashing.path("/a"), "/a");
        let client = Caller::At(([10, 0, 0, 1], 80).into());
        assert_eq!(hashing.client(client), client);
    }

    #[test]
    fn what_is_equal_stays_equal_under_one_key_and_no_other() {
        let hashing = |key: &str| Hashing {
            identities: true,
            paths: true,
            clients: true,
            headers: vec!["Traceparent".to_owned()],
            key: HashKey::new(key.as_bytes()),
        };
        let (one, other) = (hashing("k"), hashing("l"));
        let value = |hashing: &Hashing, value| hashing.identity(identity(value), None).value;
        // RFC 2104 with SHA-256: `printf a | openssl dgst -sha256 -hmac k`.
        assert_eq!(value(&one, "a"), "hash:78da91511e675587");
        assert_eq!(value(&one, "a"), value(&hashing("k"), "a"));
        assert_ne!(value(&one, "a"), value(&one, "b"));
        assert_ne!(value(&one, "a"), value(&other, "a"));
        assert!(!one.path("/cards/4711").contains("4711"));
        let at = |port| one.client(Caller::At(([10, 0, 0, 1], port).into()));
        assert_eq!(at(1), at(2), "a host is one, whatever the port");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = Trace::parse(trace).unwrap();
        assert_ne!(one.trace(trace).id, trace.id);
        assert_eq!(one.trace(trace), one.trace(trace));
    }
}

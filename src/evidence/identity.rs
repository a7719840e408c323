//! Which logical operation a request belongs to: the ladder of the contract.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Hashing, Trace};
use crate::operation::{Body, Request};
use crate::rules::{OwnId, unquoted};
use crate::seed;

/// How an operation is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The rung of the ladder that held.
    pub by: By,
    /// As it came; a structured-field string without its quotes; a hash where it is to be one.
    pub value: String,
    /// Whether it names the operation, or only suggests it.
    pub strength: Strength,
}

/// The rungs of the ladder, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Where the file says that it is.
    Configured,
    /// `Idempotency-Key` or an alias of it.
    IdempotencyKey,
    /// `x-request-id`.
    RequestId,
    /// The trace id of `traceparent`.
    TraceId,
    /// A hash of method, path and body.
    Fingerprint,
}

/// Whether an identity names the operation, or only suggests it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// The caller named the operation.
    Strong,
    /// Joins operations into attempts only within a window after one that failed.
    Weak,
}

/// Header names under which callers send an idempotency key
/// (draft-ietf-httpapi-idempotency-key-header, section 1 and appendix).
const IDEMPOTENCY_KEYS: [&str; 4] = [
    "idempotency-key",
    "x-idempotency-key",
    "paypal-request-id",
    "x-idempotency-token",
];

/// The ladder: how requests are told apart.
#[derive(Debug, Default)]
pub struct Ladder {
    /// Where the team's own id is, before the built-in rungs.
    pub own: OwnId,
    /// What is kept only as a hash.
    pub hashing: Hashing,
}

impl Ladder {
    /// The identity that the head of a request gives; `None`: only a fingerprint can be had, if the
    /// body has no better one ([`Ladder::of_body`]).
    #[must_use]
    pub fn identify(&self, request: &Request<'_>) -> Option<Identity> {
        if let Some(value) = self.own.of_head(request) {
            let header = self.own.header.as_deref();
            return Some(self.identity(By::Configured, header, value.to_owned()));
        }
        if let Some((by, header, value)) = named(request) {
            return Some(self.identity(by, Some(header), value.to_owned()));
        }
        let trace = Trace::of(request)?.id.to_string();
        Some(self.identity(By::TraceId, Some("traceparent"), trace))
    }

    /// Where in a trace a request stands, as it is kept.
    #[must_use]
    pub fn trace(&self, request: &Request<'_>) -> Option<Trace> {
        Trace::of(request).map(|trace| self.hashing.trace(trace))
    }

    /// Whether the body of a request may have the team's own id, where `by` is what its head gives.
    #[must_use]
    pub fn asks_of_body(&self, by: Option<By>) -> bool {
        self.own.asks_of_body() && by != Some(By::Configured)
    }

    /// The identity that the body of a request gives, where its head has not the team's own.
    #[must_use]
    pub fn of_body(&self, body: &Body<'_>) -> Option<Identity> {
        let value = self.own.of_body(body)?;
        Some(self.identity(By::Configured, None, value))
    }

    /// A hash of method, path and body (`print`), for those that have nothing better.
    #[must_use]
    pub fn fingerprint(&self, print: u64) -> Identity {
        // Most requests have no better one: without the cost of `format!`.
        let mut hex = String::with_capacity(16);
        let digit = |n: u32| char::from_digit((print >> (4 * n) & 0xF) as u32, 16);
        hex.extend((0..16).rev().filter_map(digit));
        self.identity(By::Fingerprint, None, hex)
    }

    /// The operation's decision key, as far as the head tells it: the configured identity, else the
    /// idempotency key, else method, path and query.
    #[must_use]
    pub fn decision_key(&self, request: &Request<'_>) -> u64 {
        let key = self.own.of_head(request);
        let key = key.or_else(|| {
            let mut keys = IDEMPOTENCY_KEYS.iter();
            keys.find_map(|name| request.header(name).map(unquoted))
        });
        match key {
            Some(key) => self.decision_key_of(key),
            None => seed::key(&[
                request.method.as_bytes(),
                request.path.as_bytes(),
                request.query.unwrap_or_default().as_bytes(),
            ]),
        }
    }

    /// The decision key of an operation that has this id.
    #[must_use]
    pub fn decision_key_of(&self, id: &str) -> u64 {
        seed::key(&[id.as_bytes()])
    }

    fn identity(&self, by: By, header: Option<&str>, value: String) -> Identity {
        let strength = match by {
            By::TraceId | By::Fingerprint => Strength::Weak,
            _ => Strength::Strong,
        };
        let identity = Identity {
            by,
            value,
            strength,
        };
        self.hashing.identity(identity, header)
    }
}

/// The best of the headers by which callers name operations.
fn named<'a>(request: &Request<'a>) -> Option<(By, &'a str, &'a str)> {
    // One pass over the headers: this runs for every request.
    let mut best: Option<(By, &str, &str)> = None;
    for header in request.headers {
        let by = match header.name.len() {
            12 if header.name.eq_ignore_ascii_case("x-request-id") => By::RequestId,
            15 | 17 | 19
                if IDEMPOTENCY_KEYS
                    .iter()
                    .any(|k| header.name.eq_ignore_ascii_case(k)) =>
            {
                By::IdempotencyKey
            }
            _ => continue,
        };
        let better = best.is_none_or(|(b, ..)| b == By::RequestId && by != b);
        if let (true, Ok(value)) = (better, std::str::from_utf8(header.value)) {
            best = Some((by, header.name, unquoted(value)));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(headers: &'a [httparse::Header<'a>]) -> Request<'a> {
        Request {
            authority: None,
            method: "POST",
            path: "/authorize",
            query: None,
            headers,
            http2: false,
        }
    }

    fn header<'a>(name: &'a str, value: &'a str) -> httparse::Header<'a> {
        httparse::Header {
            name,
            value: value.as_bytes(),
        }
    }

    #[test]
    fn the_ladder_from_the_top() {
        let all = [
            header(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            header("X-Request-Id", "r-1"),
            header("Idempotency-Key", "\"pay-42\""),
            header("X-Payment-Id", "p-1"),
        ];
        let ladder = Ladder {
            own: OwnId {
                header: Some("x-payment-id".to_owned()),
                ..OwnId::default()
            },
            hashing: Hashing {
                headers: vec!["x-request-id".to_owned()],
                ..Hashing::default()
            },
        };
        let by = |headers| {
            let identity = ladder.identify(&request(headers));
            identity.map(|i| (i.by, i.value, i.strength))
        };
        assert_eq!(
            by(&all[..]),
            Some((By::Configured, "p-1".into(), Strength::Strong))
        );
        assert_eq!(
            by(&all[..3]),
            Some((By::IdempotencyKey, "pay-42".into(), Strength::Strong))
        );
        let redacted = by(&all[..2]).unwrap();
        assert_eq!((redacted.0, redacted.2), (By::RequestId, Strength::Strong));
        assert!(redacted.1.starts_with("hash:") && !redacted.1.contains("r-1"));
        let trace = "0af7651916cd43dd8448eb211c80319c".to_owned();
        assert_eq!(by(&all[..1]), Some((By::TraceId, trace, Strength::Weak)));
        assert_eq!(by(&[]), None);
    }

    #[test]
    fn the_decision_key_is_the_callers_word_or_the_request_line() {
        let ladder = Ladder::default();
        let named = [header("idempotency-key", "k"), header("x-request-id", "1")];
        let other = [header("idempotency-key", "k"), header("x-request-id", "2")];
        let key = |h| ladder.decision_key(&request(h));
        assert_eq!(key(&named[..]), key(&other[..]));
        assert_ne!(key(&named[..]), key(&[]));
        assert_eq!(
            key(&named[1..]),
            key(&other[1..]),
            "x-request-id changes with each attempt"
        );
    }
}

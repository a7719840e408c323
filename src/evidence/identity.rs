//! Which logical operation a request belongs to: the ladder of the contract, and attempts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::operation::Request;
use crate::seed;

/// How an operation is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The rung of the ladder that held.
    pub by: By,
    /// As it came; a structured-field string without its quotes; hashed where it is redacted.
    pub value: String,
    /// Whether it names the operation, or only suggests it.
    pub strength: Strength,
}

/// The rungs of the ladder, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The header that the file names.
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
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    /// The team's own header, before the built-in ones.
    pub header: Option<String>,
    /// Headers whose values are kept only as hashes.
    pub redact: Vec<String>,
}

impl Ladder {
    /// The identity that the head of a request gives; `None`: only a fingerprint can be had.
    #[must_use]
    pub fn identify(&self, request: &Request<'_>) -> Option<Identity> {
        if let Some(identity) = self.named(request) {
            return Some(identity);
        }
        let value = find(request, "traceparent")?;
        // version "-" trace-id "-" parent-id "-" flags (W3C Trace Context, 3.2)
        let trace = value.split('-').nth(1).filter(|t| t.len() == 32)?;
        Some(self.identity(By::TraceId, "traceparent", trace))
    }

    /// The operation's decision key: the configured identity, else the idempotency key, else
    /// method, path and query.
    #[must_use]
    pub fn decision_key(&self, request: &Request<'_>) -> u64 {
        let configured = self.header.as_deref().and_then(|h| find(request, h));
        let key = configured.or_else(|| IDEMPOTENCY_KEYS.iter().find_map(|h| find(request, h)));
        match key {
            Some(key) => seed::key(&[key.as_bytes()]),
            None => seed::key(&[
                request.method.as_bytes(),
                request.path.as_bytes(),
                request.query.unwrap_or_default().as_bytes(),
            ]),
        }
    }

    fn named(&self, request: &Request<'_>) -> Option<Identity> {
        if let Some(header) = &self.header
            && let Some(value) = find(request, header)
        {
            return Some(self.identity(By::Configured, header, value));
        }
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
                best = Some((by, header.name, value));
            }
        }
        let (by, header, value) = best?;
        Some(self.identity(by, header, unquote(value)))
    }

    fn identity(&self, by: By, header: &str, value: &str) -> Identity {
        let hidden = self.redact.iter().any(|h| h.eq_ignore_ascii_case(header));
        Identity {
            by,
            value: if hidden {
                format!("hash:{:016x}", seed::key(&[value.as_bytes()]))
            } else {
                value.to_owned()
            },
            strength: match by {
                By::TraceId | By::Fingerprint => Strength::Weak,
                _ => Strength::Strong,
            },
        }
    }
}

fn find<'a>(request: &Request<'a>, name: &str) -> Option<&'a str> {
    let mut named = request.headers.iter();
    let header = named.find(|h| h.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok().map(unquote)
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value)
}

/// How long after a failure an operation with the same weak identity counts as its next attempt.
const WEAK_WINDOW: Duration = Duration::from_secs(10);

/// How many identities are remembered; past that the oldest is forgotten.
const REMEMBERED: usize = 100_000;

/// Counts attempts: of strong identities always, of weak ones after a failure.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    seen: HashMap<u64, Seen>,
    order: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    attempts: u32,
    failed: Option<Timestamp>,
}

impl Attempts {
    /// The attempt that begins now: identities are scoped by proxy, method and path (`scope`).
    pub(super) fn begin(&mut self, scope: u64, identity: &Identity, now: Timestamp) -> u32 {
        if identity.strength == Strength::Weak && self.seen.is_empty() {
            return 1;
        }
        let key = seed::key(&[&scope.to_le_bytes(), identity.value.as_bytes()]);
        let known = self.seen.get_mut(&key);
        match identity.strength {
            Strength::Strong => match known {
                Some(seen) => {
                    seen.attempts = seen.attempts.saturating_add(1);
                    seen.attempts
                }
                None => {
                    self.remember(
                        key,
                        Seen {
                            attempts: 1,
                            failed: None,
                        },
                    );
                    1
                }
            },
            Strength::Weak => match known {
                Some(seen) if seen.failed.is_some_and(|at| now.since(at) <= WEAK_WINDOW) => {
                    seen.attempts = seen.attempts.saturating_add(1);
                    seen.attempts
                }
                _ => 1,
            },
        }
    }

    /// An attempt ended: after a failure the next one with this weak identity is joined to it.
    pub(super) fn ended(
        &mut self,
        scope: u64,
        identity: &Identity,
        attempt: u32,
        failed: Option<Timestamp>,
    ) {
        // Nothing is remembered of what only succeeds, so that costs nothing.
        if identity.strength == Strength::Strong || self.seen.is_empty() && failed.is_none() {
            return;
        }
        let key = seed::key(&[&scope.to_le_bytes(), identity.value.as_bytes()]);
        match self.seen.get_mut(&key) {
            Some(seen) => {
                seen.failed = failed;
                seen.attempts = attempt;
            }
            None if failed.is_some() => self.remember(
                key,
                Seen {
                    attempts: attempt,
                    failed,
                },
            ),
            None => {}
        }
    }

    fn remember(&mut self, key: u64, seen: Seen) {
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(key);
        self.seen.insert(key, seen);
    }
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
            header: Some("x-payment-id".to_owned()),
            redact: vec!["x-request-id".to_owned()],
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
    fn weak_identities_join_only_after_a_failure_and_within_the_window() {
        let mut attempts = Attempts::default();
        let id = |strength| Identity {
            by: By::Fingerprint,
            value: "x".to_owned(),
            strength,
        };
        let (weak, at) = (id(Strength::Weak), |s: u64| Timestamp(s * 1_000_000));
        assert_eq!(attempts.begin(1, &weak, at(0)), 1);
        assert_eq!(attempts.begin(1, &weak, at(1)), 1, "none failed");
        attempts.ended(1, &weak, 1, Some(at(2)));
        assert_eq!(attempts.begin(1, &weak, at(3)), 2);
        attempts.ended(1, &weak, 2, None);
        assert_eq!(attempts.begin(1, &weak, at(3)), 1, "the last one succeeded");
        attempts.ended(1, &weak, 1, Some(at(4)));
        assert_eq!(attempts.begin(2, &weak, at(3)), 1, "another scope");
        assert_eq!(attempts.begin(1, &weak, at(60)), 1, "too long after");
        let strong = Identity {
            by: By::IdempotencyKey,
            value: "k".into(),
            strength: Strength::Strong,
        };
        assert_eq!(attempts.begin(1, &strong, at(0)), 1);
        assert_eq!(attempts.begin(1, &strong, at(999)), 2);
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

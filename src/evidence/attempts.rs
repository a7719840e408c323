//! Which of a row of attempts at one thing a request is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Identity, Strength};
use crate::clock::Timestamp;
use crate::seed;

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
    use super::super::By;
    use super::*;

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
}

//! Warnings that could come with every client, but come once a second at the most.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};

/// The least time between two warnings.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// One such warning: how often it was due since it was said, and when that was.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(u64, Option<Instant>)>);

impl Seldom {
    /// It is due. How often it was since it was last said, this time included, if it is to be said.
    pub(super) fn is_due(&self) -> Option<u64> {
        let mut seldom = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, said) = *seldom;
        let now = clock::now();
        if said.is_some_and(|at| now - at < SAID_EVERY) {
            seldom.0 += 1;
            return None;
        }
        *seldom = (0, Some(now));
        Some(times + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_not_said_is_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.is_due(), Some(1));
        for _ in 0..3 {
            assert_eq!(seldom.is_due(), None);
        }
        tokio::time::advance(SAID_EVERY).await;
        assert_eq!(seldom.is_due(), Some(4));
    }
}

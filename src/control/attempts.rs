//! How often an address has come with a wrong token: a bucket for each, bounded in number.
//!
//! The right token always passes, or whoever shares an address with a guesser could not heal. So this
//! saves the log and tells a misconfigured client; what keeps guessing hopeless is a long token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};

/// At once, and then one in each [`EACH`].
const BURST: u32 = 20;
const EACH: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const MOST: usize = 1024;

/// Wrong tokens of late.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Instant>>);

impl Attempts {
    /// Counts one. `false`: that was too many.
    pub(super) fn count(&self, address: IpAddr) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        if all.len() >= MOST && !all.contains_key(&address) {
            all.retain(|_, paid| *paid > now);
            if all.len() >= MOST {
                // A crowd of addresses: each is one of many.
                return false;
            }
        }
        // When all that was spent is earned again.
        let paid = all.entry(address).or_insert(now);
        let next = (*paid).max(now) + EACH;
        if next > now + EACH * BURST {
            return false;
        }
        *paid = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_a_second_for_each_address() {
        let attempts = Attempts::default();
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for _ in 0..BURST {
            assert!(attempts.count(one));
        }
        assert!(!attempts.count(one) && attempts.count(other));
        clock::sleep(EACH).await;
        assert!(attempts.count(one) && !attempts.count(one));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_addresses_takes_bounded_memory() {
        let attempts = Attempts::default();
        for n in 0..10_000_u32 {
            attempts.count(IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!(attempts.0.lock().unwrap().len(), MOST);
        clock::sleep(EACH * 2).await;
        assert!(attempts.count([10, 0, 0, 1].into()));
        assert!(attempts.0.lock().unwrap().len() < MOST);
    }
}

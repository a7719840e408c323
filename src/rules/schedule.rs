//! How often: skip, probability, limit, max_active, and the count of occurrences behind a draw.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::{LiveRule, Rule};
use crate::seed::Draw;

/// How many decision keys a rule remembers; past that the oldest is forgotten and, should it come
/// again, counts from one.
const REMEMBERED_KEYS: usize = 100_000;

/// The counters of one enabled rule.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    matched: AtomicU64,
    /// Injections made and slots reserved.
    taken: AtomicU64,
    active: AtomicU64,
    seen: Mutex<Occurrences>,
}

impl Schedule {
    /// Decides on an operation that matches. `Some`: it is selected.
    ///
    /// `skip`, `limit` and `max_active` follow arrival; the draw follows the key, so the order in
    /// which different keys arrive changes no draw.
    pub(super) fn select(rule: &Arc<LiveRule>, seed: u64, key: u64) -> Option<(Slot, Draw)> {
        let Rule {
            name,
            skip,
            limit,
            max_active,
            ..
        } = &*rule.rule;
        let this = &rule.tally.schedule;
        let occurrence = {
            let mut seen = this.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.count(key)
        };
        let mut draw = Draw::new(seed, name, key, occurrence);
        // Drawn even at 1, so that what the fault draws next does not depend on the probability.
        let hit = draw.unit() < rule.probability();
        if this.matched.fetch_add(1, Relaxed) < *skip || !hit {
            return None;
        }
        reserve(&this.taken, *limit)?;
        if reserve(&this.active, *max_active).is_none() {
            this.taken.fetch_sub(1, Relaxed);
            return None;
        }
        let slot = Slot {
            rule: Arc::clone(rule),
            used: false,
        };
        Some((slot, draw))
    }
}

/// Adds one unless that would pass the limit.
fn reserve(counter: &AtomicU64, limit: Option<u64>) -> Option<()> {
    let limit = limit.unwrap_or(u64::MAX);
    counter
        .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1))
        .ok()
        .map(drop)
}

/// A place among `limit` and `max_active`. Dropped unused, it is given back.
#[derive(Debug)]
pub struct Slot {
    rule: Arc<LiveRule>,
    used: bool,
}

impl Slot {
    /// The fault was really injected: the place among `limit` stays taken.
    pub fn inject(&mut self) {
        self.used = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let schedule = &self.rule.tally.schedule;
        schedule.active.fetch_sub(1, Relaxed);
        if !self.used {
            schedule.taken.fetch_sub(1, Relaxed);
        }
    }
}

/// How often each key was seen, for the last [`REMEMBERED_KEYS`] keys.
#[derive(Debug, Default)]
pub(super) struct Occurrences {
    counts: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    order: VecDeque<u64>,
}

impl Occurrences {
    /// Counts one more: how often this key was seen.
    pub(super) fn count(&mut self, key: u64) -> u64 {
        if let Some(n) = self.counts.get_mut(&key) {
            *n += 1;
            return *n;
        }
        if self.order.len() == REMEMBERED_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(key);
        self.counts.insert(key, 1);
        1
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::tests::live;
    use super::*;
    use proptest::prelude::*;

    fn select(rule: &Arc<LiveRule>, key: u64) -> Option<Slot> {
        rule.select(42, key).map(|(slot, _)| slot)
    }

    #[test]
    fn skip_then_limit_and_what_is_not_injected_is_given_back() {
        let rule = live(|r| {
            r.skip = 2;
            r.limit = Some(1);
        });
        assert!(select(&rule, 1).is_none() && select(&rule, 2).is_none());
        drop(select(&rule, 3).expect("after the skipped"));
        let mut slot = select(&rule, 4).expect("given back");
        slot.inject();
        drop(slot);
        assert!(select(&rule, 5).is_none(), "the limit is used up");
    }

    #[test]
    fn max_active_counts_the_standing() {
        let rule = live(|r| r.max_active = Some(1));
        let mut slot = select(&rule, 1).unwrap();
        slot.inject();
        assert!(select(&rule, 2).is_none());
        drop(slot);
        assert!(select(&rule, 3).is_some());
    }

    #[test]
    fn probability_zero_never_acts_and_one_always() {
        let never = live(|r| r.probability = 0.0);
        let always = live(|r| r.probability = 1.0);
        for key in 0..1000 {
            assert!(select(&never, key).is_none());
            assert!(select(&always, key).is_some());
        }
    }

    #[test]
    fn the_memory_of_keys_is_bounded() {
        let mut seen = Occurrences::default();
        for key in 0..3 * REMEMBERED_KEYS as u64 {
            assert_eq!(seen.count(key), 1);
        }
        assert_eq!(seen.counts.len(), REMEMBERED_KEYS);
        assert_eq!(seen.order.len(), REMEMBERED_KEYS);
    }

    proptest! {
        /// Same seed, same keys: the same decisions in any order of arrival.
        #[test]
        fn decisions_do_not_depend_on_the_order(
            keys in prop::collection::vec(0u64..20, 1..200),
            rotation in 0usize..200,
        ) {
            let decide = |keys: &[u64]| {
                let rule = live(|r| r.probability = 0.5);
                let mut hits = HashMap::<u64, Vec<bool>>::new();
                for key in keys {
                    hits.entry(*key).or_default().push(select(&rule, *key).is_some());
                }
                hits
            };
            let mut shuffled = keys.clone();
            shuffled.rotate_left(rotation % keys.len());
            shuffled.reverse();
            prop_assert_eq!(decide(&keys), decide(&shuffled));
        }
    }
}

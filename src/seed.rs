//! The only place where decisions are drawn.
//!
//! A decision is a pure function of the seed, the rule's name and the operation's decision key with
//! its occurrence, so that the same traffic meets the same faults in whatever order it arrives.
//! The hash is XXH3-64; the golden vectors below pin it, since a change would silently give every
//! recorded seed another meaning.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A stream of numbers that belongs to one decision (one rule, one operation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    root: u64,
    taken: u64,
}

impl Draw {
    /// The draw of the rule `rule` for the `occurrence`-th operation (from 1) with this key.
    #[must_use]
    pub fn new(seed: u64, rule: &str, key: u64, occurrence: u64) -> Self {
        let mut input = [0u8; 24];
        input[..8].copy_from_slice(&xxh3_64(rule.as_bytes()).to_le_bytes());
        input[8..16].copy_from_slice(&key.to_le_bytes());
        input[16..].copy_from_slice(&occurrence.to_le_bytes());
        Self {
            root: xxh3_64_with_seed(&input, seed),
            taken: 0,
        }
    }

    /// The next number of the stream, uniform in `[0, 1)` with 53 bits.
    pub fn unit(&mut self) -> f64 {
        let bits = xxh3_64_with_seed(&self.taken.to_le_bytes(), self.root);
        self.taken += 1;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The hash of an operation's decision key.
#[must_use]
pub fn key(parts: &[&[u8]]) -> u64 {
    // Mostly it is short, and then hashed at once: that is the same, and cheaper.
    let mut short = [0; 160];
    let mut filled = 0;
    for part in parts {
        let len = (part.len() as u64).to_le_bytes();
        for bytes in [&len[..], part] {
            let Some(room) = short.get_mut(filled..filled + bytes.len()) else {
                return long_key(parts);
            };
            room.copy_from_slice(bytes);
            filled += bytes.len();
        }
    }
    xxh3_64(&short[..filled])
}

fn long_key(parts: &[&[u8]]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

/// A seed from the system's randomness, for a run that was given none.
#[must_use]
pub fn choose() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // `RandomState` is keyed by the operating system. 53 bits survive every JSON reader.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        & ((1 << 53) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vectors() {
        for (seed, rule, key, nth, first, second) in [
            (
                42,
                "lost-payment-response",
                7,
                1,
                0.534_180_526_094,
                0.765_682_174_862,
            ),
            (
                42,
                "lost-payment-response",
                7,
                2,
                0.270_450_361_966,
                0.356_818_193_937,
            ),
            (
                43,
                "lost-payment-response",
                7,
                1,
                0.462_334_924_687,
                0.193_374_650_884,
            ),
            (42, "other", 7, 1, 0.667_877_995_803, 0.147_722_642_829),
            (0, "", 0, 0, 0.377_647_759_534, 0.696_090_032_056),
        ] {
            let mut draw = Draw::new(seed, rule, key, nth);
            assert!(
                (draw.unit() - first).abs() < 1e-12,
                "{seed} {rule} {key} {nth}"
            );
            let next = draw.unit();
            assert!(
                (next - second).abs() < 1e-12,
                "{seed} {rule} {key} {nth}: {next:.12}"
            );
        }
        assert_eq!(key(&[b"POST", b"/authorize", b""]), 4671809570312026185);
    }

    #[test]
    fn a_rate_near_p() {
        for p in [0.01, 0.3, 0.9] {
            let hits = (0..100_000)
                .filter(|n| Draw::new(1, "r", key(&[b"GET /"]), *n).unit() < p)
                .count();
            let sigma = (100_000.0 * p * (1.0 - p)).sqrt();
            // Five sigma: the vectors are fixed, so this can only fail with another hash.
            assert!(
                (hits as f64 - 100_000.0 * p).abs() < 5.0 * sigma,
                "{p}: {hits}"
            );
        }
    }

    #[test]
    fn keys_do_not_run_together() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    }
}

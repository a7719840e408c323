//! Hashes by which two bodies are told apart.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use xxhash_rust::xxh3::Xxh3;

use crate::rules::MOST_BODY;
use crate::seed;

/// A hash of a body, printed as 16 hexadecimal digits. Equal bodies have equal ones within one run of
/// the process; under another run's secret they are others, so that a body can't be guessed from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ToSchema)]
#[schema(value_type = String, example = "9f86d081884c7d65")]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = u64::from_str_radix(&text, 16);
        parsed.map(Self).map_err(serde::de::Error::custom)
    }
}

/// The digest of a body while it passes. Takes room once there is one.
#[derive(Default)]
pub struct Digester {
    hasher: Option<Box<Xxh3>>,
    /// A copy of it, where one is wanted, as long as it is not too long.
    kept: Option<Vec<u8>>,
    off: bool,
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// One that also keeps a copy of a body that is no longer than [`MOST_BODY`].
    #[must_use]
    pub fn keeping() -> Self {
        Self {
            kept: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// One that does nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            off: true,
            ..Self::default()
        }
    }

    /// Takes in more of the body, without what frames it.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.off {
            return;
        }
        let hasher = self
            .hasher
            .get_or_insert_with(|| Box::new(Xxh3::with_seed(secret())));
        hasher.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
            if kept.len() > MOST_BODY {
                self.kept = None;
            }
        }
    }

    /// The digest of what was taken in; of nothing, zero. Begins anew.
    pub fn take(&mut self) -> Digest {
        Digest(self.hasher.take().map_or(0, |hasher| hasher.digest()))
    }

    /// The copy.
    pub fn take_kept(&mut self) -> Option<Vec<u8>> {
        self.kept.take()
    }
}

fn secret() -> u64 {
    static SECRET: OnceLock<u64> = OnceLock::new();
    *SECRET.get_or_init(seed::choose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_body_is_cut_changes_nothing() {
        let of = |pieces: &[&str]| {
            let mut digester = Digester::default();
            for piece in pieces {
                digester.update(piece.as_bytes());
            }
            digester.take()
        };
        assert_eq!(of(&["am", "ount=", "5"]), of(&["amount=5"]));
        assert_ne!(of(&["amount=5"]), of(&["amount=6"]));
        assert_eq!(of(&[]), Digest(0));
        let json = serde_json::to_string(&of(&["x"])).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), of(&["x"]));
    }
}

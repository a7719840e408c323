//! From a path to its line and column.
//!
//! The YAML reader tells a place only where reading fails. So the text is read again by a seed that
//! walks the path and fails at its end: exact through flow maps and aliases (which lead to what they
//! stand for), and with nothing to keep in step with the parser.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// One step from a value to one below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Not of the text: what the command line says.
    Flag(String),
    /// The value of a key.
    Key(String),
    /// The value of a key that stands more than once: which of them, from 0.
    Repeated(String, usize),
    /// An item of a list, from 0.
    Index(usize),
}

/// Which end of the last step is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Value,
    Key,
}

/// Writes a path as users read it.
pub(super) fn display(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Flag(flag) => out.push_str(&super::value::shown(flag)),
            Step::Index(n) => out.push_str(&format!("[{n}]")),
            Step::Key(key) | Step::Repeated(key, _) => {
                let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                let shown = super::value::shown(key);
                if key.is_empty() || !key.chars().all(plain) {
                    out.push_str(&format!("[\"{shown}\"]"));
                } else {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(&shown);
                }
            }
        }
    }
    out
}

/// How many bytes are read to find places. A file with problems past counting gets places for the
/// first of them only, rather than keep its author waiting.
const BUDGET: usize = 16 << 20;

/// Finds places in a text.
pub(super) struct Places<'t> {
    text: &'t str,
    left: Cell<usize>,
}

impl<'t> Places<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            left: Cell::new(BUDGET),
        }
    }

    /// The line and column of a path, from 1; of what is absent, those of the map or list that
    /// lacks it. What is not of the text is nowhere.
    pub(super) fn find(&self, steps: &[Step], end: End) -> Option<(usize, usize)> {
        if let Some(Step::Flag(_)) = steps.first() {
            return None;
        }
        self.left
            .set(self.left.get().checked_sub(self.text.len() + 256)?);
        let deserializer = serde_yaml::Deserializer::from_str(self.text);
        let at = Walk { steps, end }
            .deserialize(deserializer)
            .err()?
            .location()?;
        Some((at.line(), at.column()))
    }
}

/// Walks the steps that are left, then fails.
struct Walk<'s> {
    steps: &'s [Step],
    end: End,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Scalars fail by the defaults of the trait: what is left of the path is not in them.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the path leads to")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Index(n), rest)) = self.steps.split_first() {
            for _ in 0..*n {
                list.next_element::<IgnoredAny>()?;
            }
            let end = self.end;
            list.next_element_seed(Walk { steps: rest, end })?;
        }
        Err(A::Error::custom("here"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (wanted, mut before) = match self.steps.first() {
            Some(Step::Key(key)) => (key, 0),
            Some(Step::Repeated(key, n)) => (key, *n),
            _ => return Err(A::Error::custom("here")),
        };
        let rest = self.steps.get(1..).unwrap_or_default();
        let fail = rest.is_empty() && self.end == End::Key;
        while let Some(found) = map.next_key_seed(Is {
            wanted,
            fail: fail && before == 0,
        })? {
            if !found {
                map.next_value::<IgnoredAny>()?;
            } else if before > 0 {
                before -= 1;
                map.next_value::<IgnoredAny>()?;
            } else {
                let end = self.end;
                map.next_value_seed(Walk { steps: rest, end })?;
            }
        }
        Err(A::Error::custom("here"))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("here"))
    }
}

/// Whether a key is the wanted one; fails there if told to.
struct Is<'s> {
    wanted: &'s str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.fail {
            return Err(E::custom("here"));
        }
        Ok(key == self.wanted)
    }
}

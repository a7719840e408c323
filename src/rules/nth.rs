//! The how-manieth request: which ones are meant, and what they are counted by.

use serde_json::{Value, json};

use super::matcher::{Ordinals, one_or_list};

/// Which of the requests that meet a rule's other conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nth {
    /// Any of these, from 1.
    pub spans: Vec<Ordinals>,
    /// Whose requests are counted together.
    pub per: Per,
}

/// Whose requests are counted together, at one proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Per {
    /// All of them.
    #[default]
    Proxy,
    /// Those of one connection.
    Connection,
    /// Those of one client address.
    Client,
    /// Those of one operation: its attempts.
    Identity,
}

impl Per {
    /// The words of the file.
    pub const ALL: [(&'static str, Self); 4] = [
        ("proxy", Self::Proxy),
        ("connection", Self::Connection),
        ("client", Self::Client),
        ("identity", Self::Identity),
    ];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Connection => "connection",
            Self::Client => "client",
            Self::Identity => "identity",
        }
    }
}

impl Nth {
    /// Whether this one is meant.
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        self.spans.iter().any(|span| span.contains(ordinal))
    }

    /// As in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let spans = self.spans.iter().map(Ordinals::to_json).collect();
        json!({ "nth": one_or_list(spans), "per": self.per.as_str() })
    }
}

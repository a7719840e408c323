//! What follows from what was seen: pure functions over samples, a file a question.
//!
//! They know no clock, no socket and no file; whoever calls says which stretch is meant.

mod breaker;
mod identity;
mod overall;
mod promise;
mod rates;
mod recovery;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::evidence::RecordId;

pub use breaker::{Opened, opened};
pub use identity::{Repairs, Twice, logical_ops, most_retries, repairs, twice};
pub use overall::{Ended, Outcome, overall};
pub use promise::{Facts, judge};
pub use rates::{LEAST, Latency, goodput, latency, success};
pub use recovery::{Course, Judged as Recovered, Offered, Watch, Well, recovery};

/// Whether something that is to be true is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DrillVerdict)]
pub enum Verdict {
    /// It is.
    Held,
    /// It is not.
    Broken,
    /// It can't be said.
    Inconclusive,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Of a condition that is known to be true or not.
    #[must_use]
    pub fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::Broken }
    }

    /// Of the contrary.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Held => Self::Broken,
            Self::Broken => Self::Held,
            Self::Inconclusive => Self::Inconclusive,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RecoveryVerdict)]
pub enum Recovery {
    /// It is as before, and has stayed so.
    Recovered,
    /// It is not, and what is asked of it has not changed.
    Degraded,
    /// It is not, although the faults are gone and no more is asked of it than before: it keeps itself
    /// busy with retries.
    Metastable,
    /// It can't be said.
    Inconclusive,
}

impl Recovery {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Degraded => "degraded",
            Self::Metastable => "metastable",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A verdict with what is behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// From how many samples.
    pub samples: u64,
    /// The figure that was compared, where there is one.
    pub measured: Option<f64>,
    /// The records that prove it, by edge and id; a handful, not all.
    pub proof: Vec<(usize, RecordId)>,
}

/// At most so many records stand behind a verdict.
pub(super) const MOST_PROOF: usize = 10;

impl Judgement {
    /// It can't be said.
    #[must_use]
    pub fn inconclusive(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            reason: reason.into(),
            samples: 0,
            measured: None,
            proof: Vec::new(),
        }
    }
}

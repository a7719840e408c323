//! What records show about the systems on both sides of a proxy: one file a finding.
//!
//! A finding is judged from records alone, and says "not enough" where they do not suffice: below a
//! number of samples that its definition states, or where the moment that would tell never came. It
//! knows nothing of sockets, settings, or how the records came about.

mod attempt;
mod backoff;
mod bounded_retries;
mod bulkhead;
mod case;
mod circuit_breaker;
mod double_effect;
mod efforts;
mod fallback;
mod figures;
mod idempotent;
mod incoming;
mod jitter;
mod load;
mod load_shedding;
#[cfg(test)]
mod made_up;
mod repeats;
mod retry_after;
#[cfg(test)]
mod simulated;
mod timeouts;
mod unsafe_retry;
mod wanted;

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};

use super::record::Caller;
use super::{Record, RecordId};
use crate::clock::Timestamp;

pub use case::{Case, Logical};
pub use incoming::Incoming;
pub use wanted::Wanted;

/// Something that the evidence shows about a system, or can't show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its name in [`FINDERS`].
    pub finding: String,
    /// Of whom it is said.
    pub subject: Subject,
    /// Whether it is so.
    pub verdict: Verdict,
    /// The figures behind it; which, the finding's definition says. Times are in milliseconds.
    #[schema(schema_with = figures)]
    pub detail: Map<String, Value>,
    /// Records that show it, the most telling first; a handful, not all.
    #[schema(value_type = Vec<String>)]
    pub records: Vec<RecordId>,
}

/// Of whom a finding is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// The service that calls.
    pub from: String,
    /// The service that is called.
    pub to: String,
    /// The host that calls, where the finding is about callers; `null`: about the one that is called.
    #[schema(value_type = Option<String>, example = "10.0.0.7")]
    pub caller: Option<Caller>,
}

/// Whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The evidence shows it.
    Yes,
    /// The evidence shows the contrary.
    No,
    /// It shows neither.
    NotEnough,
}

impl Verdict {
    /// The word in findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotEnough => "not_enough",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a finder says of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Whether it is so.
    pub verdict: Verdict,
    /// The figures behind it.
    pub detail: Map<String, Value>,
    /// Records that show it, the most telling first.
    pub records: Vec<RecordId>,
}

/// Of whose behaviour a finding speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The caller: judged for each host that calls along an edge.
    Caller,
    /// The service that is called: judged for each edge, all callers together.
    Called,
}

/// One kind of finding.
#[derive(Debug)]
pub struct Finder {
    /// Its name in files, answers and commands.
    pub name: &'static str,
    /// What a `yes` says, in one line.
    pub summary: &'static str,
    /// What exactly is judged, from how many samples on, with all thresholds, and what the figures
    /// in `detail` are: the text in the reference.
    pub definition: &'static str,
    /// Of whose behaviour it speaks.
    pub about: About,
    /// Judges one case.
    pub judge: fn(&Case<'_>) -> Judged,
}

/// Every kind, in the order in which they are reported.
pub static FINDERS: &[&Finder] = &[
    &timeouts::FINDER,
    &bounded_retries::FINDER,
    &backoff::FINDER,
    &jitter::FINDER,
    &retry_after::FINDER,
    &unsafe_retry::FINDER,
    &circuit_breaker::FINDER,
    &bulkhead::FINDER,
    &fallback::FINDER,
    &load_shedding::FINDER,
    &idempotent::FINDER,
    &double_effect::FINDER,
];

/// At most so many records stand behind a finding.
const MOST_RECORDS: usize = 10;

/// What these records show, by edge and caller in the order of their first records. `now`: records
/// that would show more may still come after it, and silence until then is silence.
#[must_use]
pub fn judge(records: &[Record], now: Timestamp) -> Vec<Finding> {
    let mut all = Vec::new();
    let _ = Wanted::default().judge(records, now, |finding| {
        all.push(finding);
        ControlFlow::Continue(())
    });
    all
}

/// The one of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Finder> {
    FINDERS.iter().find(|finder| finder.name == name).copied()
}

/// What figures may be: a word, a number, a list of either, or of objects of them.
fn figures() -> Object {
    let one = [Type::Number, Type::String, Type::Boolean, Type::Null];
    let one = || ObjectBuilder::new().schema_type(SchemaType::from_iter(one.clone()));
    let some = || ObjectBuilder::new().additional_properties(Some(one()));
    let each = OneOfBuilder::new().item(one()).item(some());
    let any = OneOfBuilder::new().item(one()).item(some());
    let any = any.item(ArrayBuilder::new().items(each)).build();
    let any = AdditionalProperties::RefOr(RefOr::T(Schema::OneOf(any)));
    ObjectBuilder::new()
        .additional_properties(Some(any))
        .build()
}

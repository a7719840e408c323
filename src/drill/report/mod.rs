//! What a drill found, for people and for programs: one page of HTML, Markdown, JSON, JUnit XML.
//!
//! Everything is drawn from one [`Report`], which is the JSON. Whatever came from traffic, files or
//! answers is text: each form escapes it in its own way.

mod compare;
mod html;
mod junit;
mod markdown;
mod plot;
mod schema;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::verdict::{Outcome, Recovery, Verdict};
use crate::clock::Timestamp;
use crate::evidence::RecordId;
use crate::evidence::findings::Finding;

pub use compare::{Difference, compare};
pub use html::html;
pub use junit::junit;
pub use markdown::markdown;
pub use schema::schema;
pub use words::{seconds, summary};

/// Of the shape below; a change by which older readers would be misled makes it another number.
pub const SHAPE: u32 = 1;

/// What a drill found. Times that end in `_ms` are milliseconds since it began, or lengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The version of this shape.
    pub shape: u32,
    /// Of the binary that ran it.
    pub version: String,
    /// What was drilled, in the words of its file.
    pub drill: About,
    /// What chance was drawn from.
    pub seed: u64,
    /// The command that runs it again.
    pub again: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// What it says in the end.
    pub outcome: Outcome,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Why, in a sentence.
    pub reason: String,
    /// The instances that it worked on.
    pub instances: Vec<Instance>,
    /// The stretches that it came to: `before`, `during`, `after`.
    pub phases: Vec<Stretch>,
    /// Whether the system was steady before.
    pub steady: Judged,
    /// What was to go wrong.
    pub faults: Vec<Fault>,
    /// What was done, in order.
    pub timeline: Vec<Step>,
    /// What was asked of the system.
    pub load: Load,
    /// What was to be true.
    pub promises: Vec<Promise>,
    /// Whether all is well again; absent: it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovered>,
    /// Each edge, by its proxy.
    pub edges: Vec<Edge>,
    /// How it went.
    pub series: Series,
    /// The worst operations, each told twice.
    pub operations: Vec<Stories>,
    /// What the evidence shows of the systems.
    pub findings: Vec<Finding>,
    /// What could not be undone, or of which nobody could tell.
    pub not_lifted: Vec<String>,
    /// The commands that were run in the end.
    pub cleanup: Vec<Step>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// What was drilled, in the words of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillAbout)]
pub struct About {
    /// What it is called.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What users are promised.
    pub promise: String,
    /// Who can act, fail and lag behind by himself.
    pub participants: Vec<String>,
    /// Who owns which fact.
    pub facts: BTreeMap<String, Vec<String>>,
    /// What nobody can know for a while.
    pub unknowns: Vec<String>,
    /// How that is found out, and put right.
    pub repair: Vec<String>,
}

/// An instance of Firedrill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillInstance)]
pub struct Instance {
    /// Its control port.
    pub url: String,
    /// Of its binary.
    pub version: String,
    /// Under which it draws.
    pub seed: u64,
    /// How far ahead of ours its clock was; what it says is told in our time.
    pub clock_ahead_ms: f64,
}

/// A stretch of the drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillStretch)]
pub struct Stretch {
    /// What it is called.
    pub name: String,
    /// Its beginning.
    pub from_ms: f64,
    /// Its end.
    pub to_ms: f64,
}

/// Whether something is so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillJudged)]
pub struct Judged {
    /// Whether it is.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
}

/// Something that was to go wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillFault)]
pub struct Fault {
    /// What it is called.
    pub name: String,
    /// `rule`, `partition` or `command`.
    pub sort: String,
    /// What happens: the kind of fault, how a partition cuts, or the command.
    pub kind: String,
    /// As in the file.
    #[schema(value_type = Object)]
    pub definition: Value,
    /// When it was on.
    pub on: Vec<Stretch>,
    /// Whether chance decided if it came at all.
    pub drawn: bool,
    /// Operations that it chose.
    pub selected: u64,
    /// Operations in which it changed what a side saw.
    pub injected: u64,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillStep)]
pub struct Step {
    /// When.
    pub at_ms: f64,
    /// What.
    pub what: String,
    /// Why it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was asked of the system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillLoad)]
pub struct Load {
    /// Who made it: `http`, `command` or `traffic`.
    pub source: String,
    /// The proxies at which it came in.
    pub proxies: Vec<String>,
    /// How it was sent; absent: not by the drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// How the command that made it ended; absent: there was none, or it was still running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How long answers took, from when they should have been asked for.
    pub latency: Vec<Latency>,
}

/// Requests that were sent on time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillSent)]
pub struct Sent {
    /// How many were due.
    pub due: u64,
    /// How many were not sent, since too many were under way.
    pub not_started: u64,
    /// How many came out well.
    pub good: u64,
    /// By status, `timeout`, `broken`, `not_started`.
    pub outcomes: BTreeMap<String, u64>,
    /// How late they were sent, in milliseconds: the median, 99 of 100, and the latest.
    pub late_ms: [f64; 3],
}

/// How long answers took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillLatency)]
pub struct Latency {
    /// Over which stretch.
    pub stretch: String,
    /// Of how many.
    pub count: u64,
    /// On average.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// What 75 of 100 did not exceed.
    pub p75_ms: f64,
    /// 90 of 100.
    pub p90_ms: f64,
    /// 95 of 100.
    pub p95_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p99_9_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Something that was to be true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillPromise)]
pub struct Promise {
    /// What it is called.
    pub name: String,
    /// What it says.
    pub check: String,
    /// Over which stretch it was judged.
    pub when: String,
    /// Whether it is true.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// From how many samples.
    pub samples: u64,
    /// The figure that was compared: a share, a rate, milliseconds or a number, as the check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    /// The records that prove it; a handful, not all.
    pub records: Vec<Proof>,
}

/// A record that proves something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillProof)]
pub struct Proof {
    /// The proxy that it crossed.
    pub proxy: String,
    /// The record's own id.
    #[schema(value_type = String)]
    pub id: RecordId,
}

/// Whether all is well again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillRecovery)]
pub struct Recovered {
    /// Whether it is.
    pub verdict: Recovery,
    /// Why, in a sentence.
    pub reason: String,
    /// Whether there was anything to recover from.
    pub noticed: bool,
    /// From the lifting of the last fault to the first good answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_good_ms: Option<f64>,
    /// From there until all was well, and stayed so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_ms: Option<f64>,
    /// Asked for a second, before.
    pub offered_before: f64,
    /// Asked for a second, since the lifting.
    pub offered_after: f64,
    /// How well it was before.
    pub before: Well,
    /// While faults were on.
    pub during: Well,
    /// At the end of the watch.
    pub after: Well,
    /// Where the calls that an operation costs grew most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amplified: Option<Amplified>,
}

/// How well it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillWell)]
pub struct Well {
    /// Of how many operations.
    pub operations: u64,
    /// The share that came out well, and about as quickly as before.
    pub share: f64,
    /// Good answers a second.
    pub goodput: f64,
    /// The median of how long they took.
    pub p50_ms: f64,
    /// What 99 of 100 did not exceed.
    pub p99_ms: f64,
}

/// Calls that an operation costs at an edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillAmplified)]
pub struct Amplified {
    /// The edge's proxy.
    pub proxy: String,
    /// How many, before.
    pub before: f64,
    /// How many, at the end of the watch.
    pub after: f64,
}

/// An edge, by its proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillEdge)]
pub struct Edge {
    /// The proxy.
    pub proxy: String,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// How many operations crossed it in the drill.
    pub operations: u64,
    /// Of those, attempts beyond the first.
    pub retries: u64,
    /// By class.
    pub classes: BTreeMap<String, u64>,
    /// Whether it is well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovered>,
    /// Whether anything of the drill is left on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residue: Option<Residue>,
}

/// Whether anything of the drill is left on an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillResidue)]
pub struct Residue {
    /// `clean`, `residue`, or `unknown`: it can't be reached from here.
    pub state: String,
    /// What was seen.
    pub said: String,
}

/// How it went, step by step. Each list has a value a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillSeries)]
pub struct Series {
    /// How long a step is.
    pub step_ms: f64,
    /// When the first begins.
    pub from_ms: f64,
    /// Asked for, a second.
    pub offered: Vec<f64>,
    /// Good answers a second.
    pub goodput: Vec<f64>,
    /// Bad ones, or none, a second.
    pub errors: Vec<f64>,
    /// The median of how long they took that were asked for in the step; `null`: there were none.
    pub p50_ms: Vec<Option<f64>>,
    /// What 99 of 100 did not exceed.
    pub p99_ms: Vec<Option<f64>>,
    /// Attempts beyond the first a second, at all proxies.
    pub retries: Vec<f64>,
}

/// One operation, told twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillStories)]
pub struct Stories {
    /// By what it is known.
    pub id: String,
    /// Why it is told.
    pub why: String,
    /// The one for whom it was done.
    pub customer: Teller,
    /// Everyone else.
    pub participants: Vec<Teller>,
    /// What was injected.
    pub faults: Vec<Told>,
    /// What could not be known, and by whom.
    pub unknown: Vec<String>,
}

/// A service, and what it knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillTeller)]
pub struct Teller {
    /// Its name.
    pub name: String,
    /// In order.
    pub facts: Vec<Told>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DrillTold)]
pub struct Told {
    /// When.
    pub at_ms: f64,
    /// What.
    pub what: String,
}

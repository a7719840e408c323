//! Drills: an experiment in one file, a verdict that can be trusted, a report.
//!
//! Works over the control API alone, so that what it works on may run anywhere; whoever calls has
//! proxies run, if the file has any. `plan` works the timeline out, `runner` does what it says,
//! `load` and `probe` ask, `follow` and `flow` learn what the proxies saw; `verdict` judges samples
//! and nothing else; `report` tells. Prints nothing: what happens is said to whoever called.

pub mod command;
pub mod flow;
mod follow;
mod http;
pub mod load;
pub mod plan;
pub mod probe;
pub mod report;
mod runner;
pub mod sample;
pub mod targets;
pub mod verdict;

pub use runner::{Event, Job, Progress, run};
pub use targets::Refused;

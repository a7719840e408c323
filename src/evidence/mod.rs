//! What the proxy itself observed of each operation on both sides.
//!
//! Owns the record and its class, the identity of operations, and the bounded ledger that keeps
//! them. It claims only what was seen; it does not know how it came about (that is the pipeline's).

mod answer;
mod attempts;
mod digest;
mod filter;
pub mod findings;
mod hashing;
mod identity;
mod ledger;
mod record;
mod sink;
pub mod story;
mod trace;

pub use answer::{asks_to_wait, replayed};
pub use digest::{Digest, Digester};
pub use filter::Filter;
pub use hashing::{HashKey, Hashing};
pub use identity::{By, Identity, Ladder, Strength};
pub use ledger::{Entry, Ledger, Room};
pub use record::{
    Caller, Cause, Class, Client, Delivery, FaultSeen, Observed, Outcome, Record, RecordId,
    RequestSeen,
};
pub use sink::{Rotation, Sink};
pub use trace::{SpanId, Trace, TraceId};

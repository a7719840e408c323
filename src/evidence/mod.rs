//! What the proxy itself observed of each operation on both sides.
//!
//! Owns the record and its class, the identity of operations, and the bounded ledger that keeps
//! them. It claims only what was seen; it does not know how it came about (that is the pipeline's).

mod identity;
mod ledger;
mod record;
mod sink;

pub use identity::{By, Identity, Ladder, Strength};
pub use ledger::{Entry, Filter, Ledger};
pub use record::{
    Cause, Class, Client, Delivery, FaultSeen, Observed, Outcome, Record, RecordId, RequestSeen,
};
pub use sink::Sink;

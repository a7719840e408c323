//! Carries bytes between clients and upstreams, and performs what the pipeline's actions say.
//!
//! The path: `supervisor` keeps the listeners, `listener` accepts and gives each client to one of
//! the `workers`, `greeting` sees to what comes before its first byte, `auto` waits until it is known
//! what a connection carries, `stream` carries bytes with no known messages, `tap` carries HTTP/1 as it came and acts at message boundaries, `copy` delivers
//! again. `lane` is one direction's queue; `peer` one socket, with its FIN and RST. No fault kind
//! is known here by name.

mod auto;
mod copy;
mod edit;
mod forwarding;
mod greeting;
mod lane;
mod listener;
mod multiplex;
mod peer;
mod seldom;
mod splice;
mod stream;
mod supervisor;
mod tap;
mod transparent;
mod upstream;
mod watch;
mod workers;

pub use supervisor::{Plan, StartError, Supervisor, Turn};
pub use workers::Workers;

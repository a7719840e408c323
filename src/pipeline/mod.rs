//! Asks the rules, combines their verdicts into one action, settles receipts.
//!
//! The only place that lets a fault act, and so the only place that records and counts one. It
//! opens no sockets: the proxy performs what an action says and settles its receipts with what
//! really happened.
//!
//! [`Context`] is the process, [`Crossing`] one proxy, [`Session`] one connection, [`Operation`]
//! one operation with the faults at work on it, [`Witness`] its record.

mod action;
mod course;
mod operation;
mod passage;
mod session;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Duration;

use crate::evidence::{Ladder, Ledger};
use crate::metrics::{Metrics, ProxyMeters};
use crate::operation::Direction;
use crate::rules::Edge;
use crate::state::{State, Stopping};

pub use action::{
    ChunkAction, ConnectAction, Edits, Hold, Receipt, RequestAction, ResponseAction, Terminal,
};
pub use operation::Operation;
pub use session::{Cuts, Session, Way};
pub use witness::Witness;

/// What all proxies of a process share.
#[derive(Debug)]
pub struct Context {
    /// What is defined and in force.
    pub state: Arc<State>,
    /// Where records go.
    pub ledger: Arc<Ledger>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Under which decisions are drawn.
    pub seed: u64,
    /// How requests are told apart.
    pub ladder: Ladder,
    /// How long an upstream's answer is awaited after its client has gone, while a fault acts.
    pub linger: Duration,
    /// How long a connection of which one side has ended may stand without a byte moving.
    pub half_close: Duration,
    /// How long a client may take for what comes before its first byte.
    pub handshake: Duration,
    /// Bytes held back by faults.
    pub held: Held,
}

/// The caps on bytes that faults hold back.
#[derive(Debug)]
pub struct Held {
    per_connection: u64,
    total: u64,
    now: AtomicU64,
}

impl Held {
    /// At most `per_connection` bytes in each direction of a connection, `total` in all.
    #[must_use]
    pub fn new(per_connection: u64, total: u64) -> Self {
        Self {
            per_connection,
            total,
            now: AtomicU64::new(0),
        }
    }

    /// Whether a connection that holds `held` bytes may take in more.
    #[must_use]
    pub fn has_room(&self, held: usize) -> bool {
        (held as u64) < self.per_connection && self.now.load(Relaxed) < self.total
    }

    /// `n` bytes more are held.
    pub fn add(&self, n: usize) {
        self.now.fetch_add(n as u64, Relaxed);
    }

    /// `n` bytes less are held.
    pub fn sub(&self, n: usize) {
        self.now.fetch_sub(n as u64, Relaxed);
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.now.load(Relaxed)
    }
}

/// Bytes that count among those that are held, for as long as it lives.
#[derive(Debug)]
pub struct Holding {
    bytes: usize,
    crossing: Arc<Crossing>,
}

impl Holding {
    /// None so far.
    #[must_use]
    pub fn new(crossing: &Arc<Crossing>) -> Self {
        Self {
            bytes: 0,
            crossing: Arc::clone(crossing),
        }
    }

    /// `n` bytes more are held.
    pub fn add(&mut self, n: usize) {
        self.bytes += n;
        self.crossing.context.held.add(n);
    }

    /// How many they are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there may be more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.crossing.context.held.has_room(self.bytes)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.crossing.context.held.sub(self.bytes);
    }
}

/// One proxy under one definition, as the pipeline sees it. What it carries keeps the definition under
/// which it came.
#[derive(Debug)]
pub struct Crossing {
    /// What all proxies share.
    pub context: Arc<Context>,
    /// Its definition.
    pub edge: Arc<Edge>,
    /// Its counters.
    pub meters: ProxyMeters,
    name: Arc<str>,
    from: Arc<str>,
    to: Arc<str>,
    /// Shared with what succeeds it.
    course: Arc<Course>,
    /// Shared with what succeeds it and leaves its connections alone.
    closed: Arc<AtomicBool>,
}

/// What goes on when a proxy is defined anew.
#[derive(Debug, Default)]
struct Course {
    connections: AtomicU64,
    passage: passage::Passage,
}

impl Crossing {
    /// Takes up a proxy.
    #[must_use]
    pub fn new(context: Arc<Context>, edge: Arc<Edge>) -> Self {
        Self::with(context, edge, Arc::default(), Arc::default())
    }

    fn with(
        context: Arc<Context>,
        edge: Arc<Edge>,
        course: Arc<Course>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            meters: context.metrics.proxy(&edge.name),
            name: edge.name.as_str().into(),
            from: edge.from.as_str().into(),
            to: edge.to.as_str().into(),
            course,
            closed,
            context,
            edge,
        }
    }

    /// The same proxy as it is defined now. `apart`: connections are not to be closed with those of
    /// this one.
    #[must_use]
    pub fn succeeded_by(&self, edge: Arc<Edge>, apart: bool) -> Self {
        let closed = match apart {
            true => Arc::default(),
            false => Arc::clone(&self.closed),
        };
        let context = Arc::clone(&self.context);
        Self::with(context, edge, Arc::clone(&self.course), closed)
    }

    /// Its connections end, once they are woken.
    pub fn close(&self) {
        self.closed.store(true, Release);
    }

    /// How far the process is in stopping; what is closed stops now.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        match self.closed.load(Acquire) {
            true => Stopping::Now,
            false => self.context.state.stopping(),
        }
    }

    /// Whether a partition that is in force now holds bytes of this direction.
    #[must_use]
    pub fn is_cut(&self, direction: Direction) -> bool {
        let snapshot = self.context.state.snapshot();
        let set = snapshot.rules_of(&self.edge.name, self.edge.protocol);
        set.cuts.iter().any(|cut| cut.cuts(direction))
    }
}

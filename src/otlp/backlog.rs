//! Operations between the ledger and the collector: which are to be sent, and how many may wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

use super::{MOST_SPANS, stopped};
use crate::clock::{self, Instant};
use crate::evidence::{Entry, Ledger};
use crate::metrics::SpanMeters;

/// Operations that wait to be sent, at the most.
const MOST_WAITING: usize = 8192;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// Operations on their way from the ledger.
pub(super) struct Backlog {
    records: broadcast::Receiver<Arc<Entry>>,
    pub(super) waiting: VecDeque<Arc<Entry>>,
    /// Also those of which the caller keeps no trace.
    all: bool,
    meters: SpanMeters,
}

impl Backlog {
    /// Follows the ledger from now on.
    pub(super) fn new(ledger: &Ledger, all: bool, meters: SpanMeters) -> Self {
        Self {
            records: ledger.follow(),
            waiting: VecDeque::new(),
            all,
            meters,
        }
    }

    /// Waits until a batch is worth sending. When the process stops it is, with all that is there.
    pub(super) async fn gather(&mut self, stopping: &mut watch::Receiver<bool>) {
        let mut due: Option<Instant> = None;
        while self.waiting.len() < MOST_SPANS {
            if due.is_none() && !self.waiting.is_empty() {
                due = Some(clock::now() + GATHER);
            }
            let ripe = async {
                match due {
                    Some(due) => clock::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.take_in() => {}
                () = ripe => return,
                () = stopped(stopping) => return self.take_in_rest(),
            }
        }
    }

    /// Waits for the next that finishes, and takes in all that have. Cancel-safe.
    pub(super) async fn take_in(&mut self) {
        match self.records.recv().await {
            Ok(entry) => self.keep(entry),
            Err(RecvError::Lagged(lost)) => self.meters.dropped.inc_by(lost),
            // Nothing finishes any more.
            Err(RecvError::Closed) => std::future::pending().await,
        }
        self.take_in_rest();
    }

    /// Nothing is sent any more: counts all that waits, and the `sending` that were under way.
    pub(super) fn give_up(&mut self, sending: u64) -> u64 {
        self.take_in_rest();
        let lost = sending + self.waiting.len() as u64;
        self.meters.dropped.inc_by(lost);
        lost
    }

    fn take_in_rest(&mut self) {
        loop {
            match self.records.try_recv() {
                Ok(entry) => self.keep(entry),
                Err(TryRecvError::Lagged(lost)) => self.meters.dropped.inc_by(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn keep(&mut self, entry: Arc<Entry>) {
        let sampled = entry.lock().trace.is_none_or(|trace| trace.sampled);
        if !sampled && !self.all {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.pop_front();
            self.meters.dropped.inc();
        }
        self.waiting.push_back(entry);
    }
}

//! The bounded memory of records: begun, finished, listed, followed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::identity::Attempts;
use super::{Class, Identity, Record, RecordId};
use crate::clock::Timestamp;

/// Finished records that a slow follower may lag behind before it loses some.
const FOLLOW_BUFFER: usize = 8192;

/// A record in the ledger, open until the ledger is told that it is finished.
#[derive(Debug)]
pub struct Entry {
    record: Mutex<Record>,
}

impl Entry {
    /// The record, for as long as the guard is held. Not held across waits.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last so many operations, and a stream of those that finish.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    next: AtomicU64,
    capacity: usize,
    entries: Mutex<VecDeque<Arc<Entry>>>,
    attempts: Mutex<Attempts>,
    dropped: AtomicU64,
    finished: broadcast::Sender<Arc<Entry>>,
}

impl Ledger {
    /// An empty ledger for `capacity` records.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            run: (Timestamp::now().0 / 1_000_000) as u32,
            next: AtomicU64::new(1),
            capacity: capacity.max(1),
            entries: Mutex::default(),
            attempts: Mutex::default(),
            dropped: AtomicU64::new(0),
            finished: broadcast::channel(FOLLOW_BUFFER).0,
        }
    }

    /// The id of the next record.
    #[must_use]
    pub fn next_id(&self) -> RecordId {
        RecordId {
            run: self.run,
            n: self.next.fetch_add(1, Relaxed),
        }
    }

    /// Takes up an operation that has begun. At capacity the oldest is dropped and counted.
    #[must_use]
    pub fn begin(&self, record: Record) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            record: Mutex::new(record),
        });
        let oldest = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let full = entries.len() >= self.capacity;
            let oldest = full.then(|| entries.pop_front()).flatten();
            entries.push_back(Arc::clone(&entry));
            oldest
        };
        // Freed outside the lock.
        if oldest.is_some() {
            self.dropped.fetch_add(1, Relaxed);
        }
        entry
    }

    /// The attempt that begins with this identity; `scope` hashes proxy, method and path.
    #[must_use]
    pub fn attempt(&self, scope: u64, identity: &Identity, now: Timestamp) -> u32 {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.begin(scope, identity, now)
    }

    /// The caller has given up this attempt, of which more may still become known.
    pub fn gave_up(&self, scope: u64, identity: &Identity, attempt: u32, at: Timestamp) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.ended(scope, identity, attempt, Some(at));
    }

    /// Closes an operation: class and cause are settled, followers get it. Answers the class.
    pub fn finish(&self, entry: &Arc<Entry>, scope: u64) -> Class {
        let class = {
            let mut record = entry.lock();
            record.close();
            let failed = record.failed().then(Timestamp::now);
            if let Some(identity) = &record.identity {
                let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
                attempts.ended(scope, identity, record.attempt, failed);
            }
            record.class
        };
        if self.finished.receiver_count() > 0 {
            // An error means that the last follower has just gone.
            let _ = self.finished.send(Arc::clone(entry));
        }
        class
    }

    /// Records that finish from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.finished.subscribe()
    }

    /// Counts records that a follower or a sink has lost.
    pub fn count_dropped(&self, lost: u64) {
        self.dropped.fetch_add(lost, Relaxed);
    }

    /// How many records were lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How many records are kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records that pass the filter, oldest first, at most `filter.limit` of the newest.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Vec<Record> {
        // The lock is held for a copy of pointers only: traffic is not kept waiting.
        let entries: Vec<_> = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().cloned().collect()
        };
        let newest = entries.iter().rev();
        let mut found: Vec<Record> = newest
            .filter_map(|entry| {
                let record = entry.lock();
                filter.passes(&record).then(|| record.clone())
            })
            .take(filter.limit.unwrap_or(usize::MAX))
            .collect();
        found.reverse();
        found
    }
}

/// Which records are asked for; absent conditions hold for all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// An operation's identity, or a record's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// A proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// A rule or partition that chose the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only those that began before this one: the page before one that begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<RecordId>,
    /// At most so many, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether every condition holds.
    #[must_use]
    pub fn passes(&self, record: &Record) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let identified = self.id.as_deref().is_none_or(|id| {
            record.identity.as_ref().is_some_and(|i| i.value == id) || record.id.to_string() == id
        });
        let earlier = |before: RecordId| (record.id.run, record.id.n) < (before.run, before.n);
        identified
            && self.before.is_none_or(earlier)
            && self.class.is_none_or(|class| record.class == class)
            && same(&self.proxy, &record.proxy)
            && self
                .rule
                .as_deref()
                .is_none_or(|rule| record.faults.iter().any(|f| &*f.rule == rule))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn memory_is_bounded_and_losses_are_counted() {
        let ledger = Ledger::new(3);
        for _ in 0..10 {
            let mut r = record();
            r.id = ledger.next_id();
            let entry = ledger.begin(r);
            ledger.finish(&entry, 0);
        }
        assert_eq!((ledger.len(), ledger.dropped()), (3, 7));
        let kept: Vec<_> = ledger
            .list(&Filter::default())
            .iter()
            .map(|r| r.id.n)
            .collect();
        assert_eq!(kept, [8, 9, 10]);
    }

    #[test]
    fn filters_are_joined_and_the_limit_takes_the_newest() {
        let ledger = Ledger::new(10);
        for proxy in ["a", "b", "a", "a"] {
            let mut r = record();
            r.id = ledger.next_id();
            r.proxy = proxy.into();
            let _ = ledger.begin(r);
        }
        let filter = Filter {
            proxy: Some("a".to_owned()),
            class: Some(Class::Open),
            limit: Some(2),
            ..Filter::default()
        };
        let ids: Vec<_> = ledger.list(&filter).iter().map(|r| r.id.n).collect();
        assert_eq!(ids, [3, 4]);
    }
}

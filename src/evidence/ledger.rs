//! The bounded memory of records: begun, finished, listed, followed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::attempts::Attempts;
use super::{Class, Delivery, FaultSeen, Filter, Identity, Record, RecordId};
use crate::clock::Timestamp;
use crate::seed;

/// Finished records that a slow follower may lag behind before it loses some.
const FOLLOW_BUFFER: usize = 8192;

/// How far from its place by its number a record may stand.
const ASTRAY: usize = 64;

/// A record in the ledger, open until the ledger is told that it is finished.
#[derive(Debug)]
pub struct Entry {
    record: Mutex<Record>,
    /// The bytes that it takes up in the ledger; 0: it is not in it, or no more.
    weight: AtomicUsize,
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
    room: Room,
    entries: Mutex<VecDeque<Arc<Entry>>>,
    /// The bytes of them all.
    bytes: AtomicUsize,
    attempts: Mutex<Attempts>,
    dropped: AtomicU64,
    finished: broadcast::Sender<Arc<Entry>>,
}

impl Ledger {
    /// An empty ledger; `None`: nothing is kept, nor followed, nor are attempts counted.
    #[must_use]
    pub fn new(room: Option<Room>) -> Self {
        let none = Room {
            records: 0,
            bytes: 0,
        };
        Self {
            run: seed::choose() as u32,
            next: AtomicU64::new(1),
            room: room.unwrap_or(none),
            entries: Mutex::default(),
            bytes: AtomicUsize::new(0),
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
        if !self.is_on() {
            return Arc::new(Entry {
                record: Mutex::new(record),
                weight: AtomicUsize::new(0),
            });
        }
        let weight = weight(&record);
        let entry = Arc::new(Entry {
            record: Mutex::new(record),
            weight: AtomicUsize::new(weight),
        });
        let Room { records, bytes } = self.room;
        let mut taken = self.bytes.fetch_add(weight, Relaxed) + weight;
        // Freed outside the lock. Mostly it is none or one, which takes no room.
        let mut oldest = [const { None }; 4];
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.push_back(Arc::clone(&entry));
            for place in &mut oldest {
                // The one that has just begun stays, however large it is.
                if entries.len() <= records && taken <= bytes || entries.len() == 1 {
                    break;
                }
                *place = entries.pop_front();
                if let Some(gone) = place {
                    let weight = gone.weight.swap(0, Relaxed);
                    taken = self.bytes.fetch_sub(weight, Relaxed) - weight;
                }
            }
        }
        let dropped = oldest.iter().flatten().count() as u64;
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Relaxed);
        }
        entry
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.room.records > 0
    }

    /// The attempt that begins with this identity; `scope` hashes proxy, method and path.
    #[must_use]
    pub fn attempt(&self, scope: u64, identity: &Identity, now: Timestamp) -> u32 {
        if !self.is_on() {
            return 1;
        }
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.begin(scope, identity, now)
    }

    /// The caller has given up this attempt, of which more may still become known.
    pub fn gave_up(&self, scope: u64, identity: &Identity, attempt: u32, at: Timestamp) {
        if !self.is_on() {
            return;
        }
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.ended(scope, identity, attempt, Some(at));
    }

    /// Closes an operation: class and cause are settled, followers get it. Answers the class.
    pub fn finish(&self, entry: &Arc<Entry>, scope: u64) -> Class {
        let class = {
            let mut record = entry.lock();
            record.close();
            if !self.is_on() {
                return record.class;
            }
            self.weigh(entry, &record);
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

    /// What came to a record since it began takes up room as well.
    fn weigh(&self, entry: &Entry, record: &Record) {
        let (before, now) = (entry.weight.load(Relaxed), weight(record));
        // One that has left the ledger meanwhile weighs nothing.
        let stays = before != 0
            && entry
                .weight
                .compare_exchange(before, now, Relaxed, Relaxed)
                .is_ok();
        if stays {
            self.bytes.fetch_add(now, Relaxed);
            self.bytes.fetch_sub(before, Relaxed);
        }
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

    /// The bytes that they take up, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record of this number, while it is kept.
    #[must_use]
    pub fn find(&self, n: u64) -> Option<Arc<Entry>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |entry: &&Arc<Entry>| entry.lock().id.n == n;
        let first = entries.front()?.lock().id.n;
        // Numbers are given before places: neighbours may stand the other way round.
        let place = n.saturating_sub(first) as usize;
        entries.get(place).filter(is_it).cloned().or_else(|| {
            let after = place.saturating_add(ASTRAY).min(entries.len());
            let around = place.saturating_sub(ASTRAY).min(after)..after;
            entries.range(around).find(is_it).cloned()
        })
    }

    /// The records that pass the filter, oldest first, at most `filter.limit` of the newest.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Vec<Record> {
        let entries = self.entries(filter).into_iter();
        entries.map(|entry| entry.lock().clone()).collect()
    }

    /// The same, as they stand in the ledger. Takes a while where there are many.
    #[must_use]
    pub fn entries(&self, filter: &Filter) -> Vec<Arc<Entry>> {
        // The lock is held for a copy of pointers only: traffic is not kept waiting.
        let entries: Vec<_> = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().cloned().collect()
        };
        let newest = entries.into_iter().rev();
        let mut found: Vec<_> = newest
            .filter(|entry| filter.passes(&entry.lock()))
            .take(filter.limit.unwrap_or(usize::MAX))
            .collect();
        found.reverse();
        found
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Records, at least one.
    pub records: usize,
    /// Bytes that they may take up together. One record may always.
    pub bytes: usize,
}

/// The bytes that a record takes up: itself with what an allocator and the queue add to it, and all
/// that it points to.
fn weight(record: &Record) -> usize {
    const OWN: usize = size_of::<Entry>() + 4 * size_of::<usize>();
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    let identity = record.identity.as_ref();
    let deliveries = record.upstream.iter();
    let error = |delivery: &Delivery| delivery.error.as_ref().map_or(0, String::capacity);
    OWN + text(&record.request.method)
        + text(&record.request.path)
        + identity.map_or(0, |identity| identity.value.capacity())
        // Each will have one delivery.
        + record.upstream.capacity().max(1) * size_of::<Delivery>()
        + deliveries.map(error).sum::<usize>()
        + record.faults.capacity() * size_of::<FaultSeen>()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn memory_is_bounded_and_losses_are_counted() {
        let ledger = Ledger::new(Some(Room {
            records: 3,
            bytes: usize::MAX,
        }));
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
    fn a_record_is_found_by_its_number_where_it_stands_and_while_it_is_kept() {
        let room = Room {
            records: 100,
            bytes: usize::MAX,
        };
        let ledger = Ledger::new(Some(room));
        let mut ids: Vec<_> = (0..150).map(|_| ledger.next_id()).collect();
        // Two threads that met; and the first that is kept is not the first that was begun.
        ids.swap(50, 53);
        ids.swap(120, 121);
        for id in ids {
            let mut r = record();
            r.id = id;
            let _ = ledger.begin(r);
        }
        let found = |n| ledger.find(n).map(|entry| entry.lock().id.n);
        for n in 0..200 {
            let kept = (51..=150).contains(&n);
            assert_eq!(found(n), kept.then_some(n), "{n}");
        }
        assert_eq!(found(u64::MAX), None);
        assert!(Ledger::new(Some(room)).find(1).is_none());
    }

    #[test]
    fn memory_is_bounded_in_bytes_too() {
        let long = |len: usize| {
            let mut r = record();
            r.request.path = Some("x".repeat(len).into());
            r
        };
        let room = Room {
            records: 1000,
            bytes: 50_000,
        };
        let ledger = Ledger::new(Some(room));
        let mut begun = Vec::new();
        for n in 1..200 {
            begun.push(ledger.begin(long(n * 50)));
            assert!(ledger.bytes() <= room.bytes, "{n}: {}", ledger.bytes());
        }
        let kept = || -> usize {
            let entries = ledger.entries(&Filter::default());
            entries.iter().map(|entry| weight(&entry.lock())).sum()
        };
        assert_eq!(ledger.bytes(), kept());
        assert_eq!(ledger.dropped(), 199 - ledger.len() as u64);
        // What comes later counts as well, but not of those that have left.
        for entry in &begun {
            entry.lock().upstream.push(Delivery {
                error: Some("e".repeat(1000)),
                ..Delivery::default()
            });
            ledger.finish(entry, 0);
        }
        let kept = || -> usize {
            let entries = ledger.entries(&Filter::default());
            entries.iter().map(|entry| weight(&entry.lock())).sum()
        };
        assert_eq!(ledger.bytes(), kept());
        // One that is too large for all the room is the only one.
        let _ = ledger.begin(long(100_000));
        for _ in 0..100 {
            let _ = ledger.begin(long(10));
        }
        assert!(ledger.bytes() <= room.bytes);
    }

    #[test]
    fn what_is_off_keeps_nothing_and_loses_nothing() {
        let ledger = Ledger::new(None);
        let entry = ledger.begin(record());
        assert_eq!(ledger.finish(&entry, 0), Class::NeverDelivered);
        assert_eq!((ledger.len(), ledger.bytes(), ledger.dropped()), (0, 0, 0));
    }
}

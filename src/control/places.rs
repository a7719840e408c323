//! The places of a port: how many connections it has, and which of them has to go when one more
//! comes.
//!
//! Whoever sends slowly, or nothing, has a place only as long as nobody else wants it: so clients
//! that say nothing, however many, keep nobody from healing. Streams (what is followed has no end)
//! have places of their own, and don't use up these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{self, Instant};

/// An answer that takes longer than this is one that nobody reads; its place may be wanted.
const OVERDUE: Duration = Duration::from_secs(5);

/// All places of one port.
pub(super) struct Places {
    most: usize,
    most_streams: usize,
    taken: Mutex<Taken>,
    /// Told whenever a place is free again.
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    all: Vec<Entry>,
}

struct Entry {
    id: u64,
    stage: Stage,
    since: Instant,
    leave: Arc<Notify>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not sent a whole request.
    Waiting,
    /// Its request is being worked on.
    Working,
    /// It is given what has no end.
    Streaming,
}

impl Places {
    pub(super) fn new(most: usize, most_streams: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_streams,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place for a connection that has come, once there is one. Cancel-safe.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_take() {
                return place;
            }
            // All are being answered. None of them is overdue yet.
            let _ = clock::within(OVERDUE / 10, freed).await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        let counted = |entry: &&Entry| entry.stage != Stage::Streaming;
        if taken.all.iter().filter(counted).count() >= self.most && !taken.send_one_off() {
            return None;
        }
        let leave = Arc::new(Notify::new());
        let id = taken.next;
        taken.next += 1;
        taken.all.push(Entry {
            id,
            stage: Stage::Waiting,
            since: clock::now(),
            leave: Arc::clone(&leave),
        });
        Some(Place {
            places: Arc::clone(self),
            id,
            leave,
        })
    }

    /// Makes the one go that has waited longest. `false`: there is none.
    pub(super) fn send_one_off(&self) -> bool {
        self.taken().send_one_off()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn send_one_off(&mut self) -> bool {
        let now = clock::now();
        let rank = |entry: &Entry| match entry.stage {
            Stage::Waiting => Some((0, entry.since)),
            Stage::Working if now - entry.since >= OVERDUE => Some((1, entry.since)),
            Stage::Working | Stage::Streaming => None,
        };
        let ranked = self.all.iter().enumerate();
        let longest = ranked
            .filter_map(|(at, entry)| Some((rank(entry)?, at)))
            .min();
        let Some((_, at)) = longest else {
            return false;
        };
        self.all.swap_remove(at).leave.notify_one();
        true
    }
}

/// One connection's place, free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
}

impl Place {
    /// Until another needs it more.
    pub(super) async fn lost(&self) {
        self.leave.notified().await;
    }

    /// It has sent a whole request.
    pub(super) fn works(&self) {
        self.enter(Stage::Working);
    }

    /// It has its answer, and is to send the next request.
    pub(super) fn waits(&self) {
        self.enter(Stage::Waiting);
    }

    /// It is to be given what has no end. `false`: too many are already.
    pub(super) fn streams(&self) -> bool {
        let streaming = |entry: &&Entry| entry.stage == Stage::Streaming;
        if self.places.taken().all.iter().filter(streaming).count() >= self.places.most_streams {
            return false;
        }
        self.enter(Stage::Streaming);
        self.places.freed.notify_waiters();
        true
    }

    fn enter(&self, stage: Stage) {
        let mut taken = self.places.taken();
        // One that was sent off is no longer there.
        if let Some(entry) = taken.all.iter_mut().find(|entry| entry.id == self.id) {
            (entry.stage, entry.since) = (stage, clock::now());
        }
        drop(taken);
        if stage == Stage::Waiting {
            self.places.freed.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().all.retain(|entry| entry.id != self.id);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_lost(place: &Place) -> bool {
        clock::within(Duration::ZERO, place.lost()).await.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_goes_first() {
        let places = Places::new(2, 1);
        let (first, second) = (places.take().await, places.take().await);
        clock::sleep(Duration::from_millis(1)).await;
        // It begins to wait anew.
        first.works();
        first.waits();
        let third = places.take().await;
        assert!(is_lost(&second).await && !is_lost(&first).await && !is_lost(&third).await);
        drop(second);
        first.works();
        let fourth = places.take().await;
        assert!(is_lost(&third).await && !is_lost(&first).await);
        drop((first, third, fourth));
        assert!(places.taken().all.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_stays_until_that_is_overdue() {
        let places = Places::new(1, 1);
        let first = places.take().await;
        first.works();
        let began = clock::now();
        let second = places.take().await;
        assert!(is_lost(&first).await);
        assert!(clock::now() - began >= OVERDUE);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_take_no_place_and_are_bounded_too() {
        let places = Places::new(1, 1);
        let stream = places.take().await;
        assert!(stream.streams());
        let other = places.take().await;
        assert!(!other.streams(), "one is all there may be");
        let third = places.take().await;
        assert!(is_lost(&other).await && !is_lost(&stream).await);
        drop(stream);
        assert!(third.streams());
    }
}

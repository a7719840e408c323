//! Evidence as it comes in, from every instance, and signs of life to each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::sample::{Micros, Seen};
use super::targets::Targets;
use crate::client::{Client, ClientError};
use crate::clock::{self, Timestamp};
use crate::evidence::{Class, Filter, RecordId};

/// The most operations that are kept; more are counted as lost.
const MOST: usize = 1_000_000;
/// Between one sign of life and the next, where the instance does not ask for more.
const BEAT: Duration = Duration::from_secs(1);
/// An instance that has not answered for so long is lost.
const LOST: Duration = Duration::from_secs(5);
/// Before a stream that broke is taken up again.
const AGAIN: Duration = Duration::from_millis(300);

/// What came in so far.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// In the order of coming in.
    pub(super) seen: Vec<Seen>,
    /// More than could be kept.
    pub(super) lost: u64,
    ids: HashSet<(usize, RecordId)>,
    /// How far ahead the clock of each instance is.
    skews: Vec<Micros>,
    /// Of each instance: when it last answered.
    heard: Vec<Option<clock::Instant>>,
}

impl Inbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is one push, or a few assignments that do not depend on each other.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how far ahead clocks are, also for what has come in already.
    pub(super) fn know_skews(&self, targets: &Targets) {
        let mut kept = self.lock();
        for (n, target) in targets.list.iter().enumerate() {
            let more = target.skew - kept.skews.get(n).copied().unwrap_or_default();
            if more == 0 {
                continue;
            }
            for seen in kept.seen.iter_mut().filter(|seen| seen.target == n) {
                seen.shift(more);
            }
            if let Some(skew) = kept.skews.get_mut(n) {
                *skew = target.skew;
            }
        }
    }

    /// An instance that has not answered for too long.
    pub(super) fn lost(&self) -> Option<usize> {
        let now = clock::now();
        let kept = self.lock();
        let silent = |heard: &Option<clock::Instant>| {
            heard.is_some_and(|at| now.saturating_duration_since(at) > LOST)
        };
        kept.heard.iter().position(silent)
    }
}

/// Begins to follow. Ends when what is answered is dropped.
pub(super) fn follow(targets: &Targets, inbox: &Arc<Inbox>, start: Timestamp) -> JoinSet<()> {
    {
        let mut kept = inbox.lock();
        kept.skews = vec![0; targets.list.len()];
        kept.heard = vec![Some(clock::now()); targets.list.len()];
    }
    let names: Vec<_> = targets
        .edges
        .iter()
        .map(|edge| edge.proxy.clone())
        .collect();
    let mut tasks = JoinSet::new();
    for (n, target) in targets.list.iter().enumerate() {
        let (client, inbox) = (target.client.clone(), Arc::clone(inbox));
        tasks.spawn(beat(client, Arc::clone(&inbox), n));
        let (client, names) = (target.client.clone(), names.clone());
        tasks.spawn(async move {
            loop {
                if let Err(error) = read(&client, &inbox, n, &names, start).await {
                    tracing::debug!(%error, "evidence is interrupted");
                }
                clock::sleep(AGAIN).await;
            }
        });
    }
    tasks
}

async fn read(
    client: &Client,
    inbox: &Inbox,
    target: usize,
    names: &[String],
    start: Timestamp,
) -> Result<(), ClientError> {
    let mut records = client.follow(&Filter::default()).await?;
    while let Some(record) = records.next().await? {
        let edge = names.iter().position(|name| *name == *record.proxy);
        let Some(edge) = edge.filter(|_| record.started >= start) else {
            continue;
        };
        let mut kept = inbox.lock();
        // A stream that is taken up again tells all that is in memory once more.
        if !kept.ids.insert((target, record.id)) {
            continue;
        }
        if kept.seen.len() >= MOST {
            kept.lost += 1;
            continue;
        }
        let skew = kept.skews.get(target).copied().unwrap_or_default();
        kept.seen
            .push(Seen::of(&record, (target, edge), start, skew));
    }
    Ok(())
}

/// Says that we are there, so that what we set is lifted when we are not.
async fn beat(client: Client, inbox: Arc<Inbox>, target: usize) {
    let mut every = BEAT;
    loop {
        match client.heartbeat().await {
            Ok(beat) => {
                if let Some(heard) = inbox.lock().heard.get_mut(target) {
                    *heard = Some(clock::now());
                }
                let within = beat.within.as_deref();
                let within = within.and_then(|text| crate::units::parse_duration(text).ok());
                every = within.map_or(BEAT, |within| BEAT.min(within / 3));
            }
            Err(error) => tracing::debug!(%error, "no sign of life"),
        }
        clock::sleep(every).await;
    }
}

/// Waits until no operation is open that began since `start`, for at most so long; answers how many
/// are.
pub(super) async fn settle(targets: &Targets, start: Timestamp, patience: Duration) -> usize {
    let deadline = clock::now() + patience;
    let filter = Filter {
        class: Some(Class::Open),
        ..Filter::default()
    };
    loop {
        let mut open = 0;
        for target in &targets.list {
            if let Ok(records) = target.client.evidence(&filter).await
                && let Ok(records) = records.collect().await
            {
                open += records.iter().filter(|r| r.started >= start).count();
            }
        }
        if open == 0 || clock::now() >= deadline {
            return open;
        }
        clock::sleep(Duration::from_millis(50)).await;
    }
}

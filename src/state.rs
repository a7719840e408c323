//! What is defined and what is in force: one snapshot with a generation, swapped by changes.
//!
//! A change is checked whole, then applied whole: compile, swap, lift what ended, wake those who
//! wait. Nothing here touches a connection; connections compare generations with the next byte
//! that they read, and whoever waits is woken by [`State::changed`].

mod model;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use self::model::{Model, lift};
use crate::clock::{self, Instant, Timestamp};
use crate::rules::{
    Edge, LivePartition, LiveRule, Partition, Protocol, Rule, RuleSet, Totals, Ttl,
};

/// At most so many rules, and as many partitions: metric series and memory are bounded by it.
pub const MAX_DEFINITIONS: usize = 1000;

/// Who defined something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The operator's file: lives as long as it stands there.
    File,
    /// The API or the command line: ten minutes unless told otherwise.
    Api,
}

/// One step of a change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Defines a rule that is not there yet.
    AddRule(Rule),
    /// Defines a rule, in place of the one with its name if there is one.
    PutRule(Rule),
    /// Deletes a rule.
    RemoveRule(String),
    /// Switches a rule on (anew: its schedule and lifetime begin again) or off.
    SwitchRule(String, bool, Ttl),
    /// Defines a partition that is not there yet.
    AddPartition(Partition),
    /// Defines a partition, in place of the one with its name if there is one.
    PutPartition(Partition),
    /// Deletes a partition.
    RemovePartition(String),
    /// Switches a partition on or off.
    SwitchPartition(String, bool, Ttl),
    /// Makes a proxy known. Its listener is the supervisor's.
    AddEdge(Edge),
    /// Forgets a proxy.
    RemoveEdge(String),
    /// Disables every rule and every partition; they stay as definitions.
    Heal,
}

/// Why a change was refused. Nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such thing: what, name.
    #[error("there is no {0} `{1}`")]
    NotFound(&'static str, String),
    /// There is one already: what, name.
    #[error("there is a {0} `{1}` already")]
    Exists(&'static str, String),
    /// The bound on definitions is reached: what.
    #[error("there are {MAX_DEFINITIONS} {0}s already; delete some")]
    TooMany(&'static str),
    /// A rule still names it: the proxy, and the rule.
    #[error("proxy `{0}` is named by rule `{1}`; delete or change that first")]
    InUse(String, String),
}

/// A definition with what the state knows of it.
#[derive(Debug, Clone)]
pub struct Defined<T> {
    /// As defined; its `enabled` is how it stands now.
    pub definition: Arc<T>,
    /// Who defined it.
    pub source: Source,
    /// When it disables itself.
    pub expires: Option<(Instant, Timestamp)>,
    /// Counts over all the times it was enabled.
    pub totals: Arc<Totals>,
}

/// What is in force, for the data path. Immutable.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each change.
    pub generation: u64,
    /// By the number of what a connection is known to be; mostly one for all.
    sets: HashMap<String, [Arc<RuleSet>; Protocol::ALL.len()]>,
}

impl Snapshot {
    /// What can act on those connections of a proxy that are known to be `known`.
    #[must_use]
    pub fn rules_of(&self, proxy: &str, known: Protocol) -> Arc<RuleSet> {
        let sets = self.sets.get(proxy);
        sets.map_or_else(Arc::default, |sets| Arc::clone(&sets[known as usize]))
    }
}

/// How far the process is in stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopping {
    /// It runs.
    No,
    /// No new operations; those that stand are finished.
    Draining,
    /// What still stands ends now.
    Now,
}

/// The one place where definitions live and change.
pub struct State {
    model: Mutex<Model>,
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    stopping: AtomicU8,
    changed: Arc<Notify>,
    expiry: Notify,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State(generation {})", self.generation())
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            model: Mutex::default(),
            snapshot: ArcSwap::default(),
            generation: AtomicU64::new(0),
            stopping: AtomicU8::new(0),
            changed: Arc::default(),
            expiry: Notify::new(),
        }
    }
}

impl State {
    /// The number of the change that is in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// What is in force now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Resolves at the next change, or step of stopping, after the call. Cancel-safe. To miss
    /// none: call it, then look, then wait.
    pub fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }

    fn announce(&self) {
        self.changed.notify_waiters();
        self.expiry.notify_one();
    }

    /// How far the process is in stopping.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        match self.stopping.load(Acquire) {
            0 => Stopping::No,
            1 => Stopping::Draining,
            _ => Stopping::Now,
        }
    }

    /// Goes a step further in stopping, and wakes everyone.
    pub fn stop(&self, step: Stopping) {
        self.stopping.fetch_max(step as u8, Release);
        self.announce();
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        // A panic while it was held can't have left it half changed: changes work on a copy.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxies, in the order of their definition.
    #[must_use]
    pub fn edges(&self) -> Vec<Arc<Edge>> {
        self.model().edges.clone()
    }

    /// The rules in rule order, with the generation that they belong to.
    #[must_use]
    pub fn rules(&self) -> (u64, Vec<Defined<Rule>>) {
        let model = self.model();
        let rules = model.rules.iter().map(|e| e.defined.clone()).collect();
        (self.generation(), rules)
    }

    /// The partitions, with the generation that they belong to.
    #[must_use]
    pub fn partitions(&self) -> (u64, Vec<Defined<Partition>>) {
        let model = self.model();
        let partitions = model.partitions.iter().map(|e| e.defined.clone()).collect();
        (self.generation(), partitions)
    }

    /// Applies all of it or nothing, and answers the new generation. When it returns, the change
    /// holds for the next byte that any connection reads.
    ///
    /// # Errors
    /// The first step that can't be done.
    pub fn apply(&self, changes: Vec<Change>, by: Source) -> Result<u64, Refused> {
        self.apply_to(&mut self.model(), changes, by)
    }

    /// Applies changes that were worked out from what was read at generation `read`; `None`: that
    /// is no longer in force, and nothing was applied.
    ///
    /// # Errors
    /// The first step that can't be done.
    pub fn apply_at(
        &self,
        read: u64,
        changes: Vec<Change>,
        by: Source,
    ) -> Result<Option<u64>, Refused> {
        let mut model = self.model();
        if self.generation() != read {
            return Ok(None);
        }
        self.apply_to(&mut model, changes, by).map(Some)
    }

    fn apply_to(
        &self,
        model: &mut Model,
        changes: Vec<Change>,
        by: Source,
    ) -> Result<u64, Refused> {
        let mut next = model.clone();
        for change in changes {
            next.apply(change, by)?;
        }
        let generation = self.generation() + 1;
        self.snapshot.store(Arc::new(next.compile(generation)));
        let old = std::mem::replace(model, next);
        // Published only now: who sees the number finds the snapshot.
        self.generation.store(generation, Release);
        lift(&old.rules, &model.rules, LiveRule::lift);
        lift(&old.partitions, &model.partitions, LivePartition::heal);
        self.announce();
        Ok(generation)
    }

    /// Disables what has lived long enough, until the process stops. Cancel-safe.
    pub async fn expire(&self) {
        while self.stopping() == Stopping::No {
            let woken = self.expiry.notified();
            match self.next_expiry() {
                None => woken.await,
                Some(deadline) if deadline > clock::now() => {
                    tokio::select! {
                        () = woken => {}
                        () = clock::sleep_until(deadline) => {}
                    }
                }
                Some(_) => self.disable_expired(),
            }
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let model = self.model();
        let rules = model.rules.iter().filter_map(|e| e.defined.expires);
        let partitions = model.partitions.iter().filter_map(|e| e.defined.expires);
        rules.chain(partitions).map(|(at, _)| at).min()
    }

    fn disable_expired(&self) {
        let now = clock::now();
        let over = |expires: Option<(Instant, Timestamp)>| expires.is_some_and(|(at, _)| at <= now);
        // Looked up and applied under one lock: what is switched on again in between stays on.
        let mut model = self.model();
        let rules = model.rules.iter().filter(|e| over(e.defined.expires));
        let rules: Vec<_> = rules.map(|e| e.defined.definition.name.clone()).collect();
        let partitions = model.partitions.iter().filter(|e| over(e.defined.expires));
        let partitions: Vec<_> = partitions
            .map(|e| e.defined.definition.name.clone())
            .collect();
        tracing::info!(?rules, ?partitions, "expired, and disabled");
        let off = |name| Change::SwitchRule(name, false, Ttl::Unsaid);
        let heal = |name| Change::SwitchPartition(name, false, Ttl::Unsaid);
        let changes = rules.into_iter().map(off);
        let changes = changes.chain(partitions.into_iter().map(heal)).collect();
        // Never refused: the names are the model's.
        let _ = self.apply_to(&mut model, changes, Source::Api);
    }
}

#[cfg(test)]
mod tests;

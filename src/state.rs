//! What is defined and what is in force: one snapshot with a generation, swapped by changes.
//!
//! A change is checked whole, then applied whole: compile, swap, lift what ended, wake those who
//! wait. Nothing here touches a connection; connections compare generations with the next byte
//! that they read, and whoever waits is woken by [`State::changed`].

mod entry;
mod events;
mod model;
mod timers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use self::events::Events;
use self::model::Model;
use self::timers::Controllers;
use crate::clock::{Instant, Timestamp};
use crate::rules::{Edge, Partition, Protocol, Rule, RuleSet, Totals, Ttl};

pub use events::{By, Event, REMEMBERED, Subscription, Touched, What, Who};

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
    /// Defines a rule as it stood in an earlier process.
    RestoreRule(Restored<Rule>),
    /// Puts the rules of these names first, in this order.
    OrderRules(Vec<String>),
    /// Defines a partition that is not there yet.
    AddPartition(Partition),
    /// Defines a partition, in place of the one with its name if there is one.
    PutPartition(Partition),
    /// Deletes a partition.
    RemovePartition(String),
    /// Switches a partition on or off.
    SwitchPartition(String, bool, Ttl),
    /// Defines a partition as it stood in an earlier process.
    RestorePartition(Restored<Partition>),
    /// Makes a proxy known, in place of the one with its name if there is one. Its listener is the
    /// supervisor's.
    PutEdge(Edge),
    /// Forgets a proxy.
    RemoveEdge(String),
    /// Disables every rule and every partition; they stay as definitions.
    Heal,
}

/// What differs from what the file says, at one generation.
#[derive(Debug)]
pub struct Beside {
    /// The change up to which it is true.
    pub generation: u64,
    /// Proxies, each with what the file says of it, if anything.
    pub edges: Vec<(Arc<Edge>, Option<Arc<Edge>>)>,
    /// Rules that the file does not have, or has in another way.
    pub rules: Vec<Defined<Rule>>,
    /// Such partitions.
    pub partitions: Vec<Defined<Partition>>,
}

/// A definition as it stood in an earlier process.
#[derive(Debug, Clone)]
pub struct Restored<T> {
    /// With `enabled` as it was.
    pub definition: T,
    /// When it was last switched on or off: its schedule goes on from there.
    pub since: Timestamp,
    /// When it disables itself; if that has passed, it is disabled.
    pub expires: Option<Timestamp>,
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
    /// When it was last switched on or off, or put in another's place.
    pub since: Timestamp,
    /// When it disables itself.
    pub expires: Option<(Instant, Timestamp)>,
    /// Whether it acts now: it is enabled, and no schedule keeps it waiting.
    pub active: bool,
    /// When its schedule next lets it act, or keeps it from acting.
    pub turns: Option<(Instant, Timestamp)>,
    /// The change that last touched it.
    pub changed: u64,
    /// The controller that last touched it, where it gave a name.
    pub controller: Option<Arc<str>>,
    /// As the file says it, if it does.
    pub written: Option<Arc<T>>,
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
    seed: u64,
    model: Mutex<Model>,
    events: Mutex<Events>,
    controllers: Controllers,
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
        Self::new(0, None)
    }
}

impl State {
    /// An empty one. Random splits are drawn from `seed`. What a controller with a name has set is
    /// lifted once it is silent for `heartbeat`; `None`: never.
    #[must_use]
    pub fn new(seed: u64, heartbeat: Option<Duration>) -> Self {
        Self {
            seed,
            model: Mutex::default(),
            events: Mutex::default(),
            controllers: Controllers::new(heartbeat),
            snapshot: ArcSwap::default(),
            generation: AtomicU64::new(0),
            stopping: AtomicU8::new(0),
            changed: Arc::default(),
            expiry: Notify::new(),
        }
    }

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

    /// Wakes everyone, as a change does: something else that connections look at has changed.
    pub fn announce(&self) {
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

    /// What differs from what the file says.
    #[must_use]
    pub fn beside_the_file(&self) -> Beside {
        let model = self.model();
        let edges = model.edges.iter().map(|edge| {
            let written = model.written.get(&edge.name);
            (Arc::clone(edge), written.cloned())
        });
        let edges = edges.filter(|(edge, written)| written.as_ref() != Some(edge));
        Beside {
            generation: model.generation,
            edges: edges.collect(),
            rules: entry::beside(&model.rules),
            partitions: entry::beside(&model.partitions),
        }
    }

    /// The services that the proxies connect, each once.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        let model = self.model();
        model.services().into_iter().map(str::to_owned).collect()
    }

    /// The seed that random splits are drawn from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The events that are remembered, and those to come.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.events().subscribe()
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies all of it or nothing, and answers the new generation. When it returns, the change
    /// holds for the next byte that any connection reads.
    ///
    /// # Errors
    /// The first step that can't be done.
    pub fn apply(&self, changes: Vec<Change>, by: impl Into<By>) -> Result<u64, Refused> {
        self.change(by, |draft| {
            changes
                .into_iter()
                .try_for_each(|change| draft.apply(change))
        })
    }

    /// Makes a change that is worked out from how things stand: nobody else's comes in between.
    /// `plan` must be quick, since everyone else waits for it. Answers the new generation.
    ///
    /// # Errors
    /// Those of `plan`; then nothing is applied.
    pub fn change<E>(
        &self,
        by: impl Into<By>,
        plan: impl FnOnce(&mut Draft) -> Result<(), E>,
    ) -> Result<u64, E> {
        let by = by.into();
        if let Some(controller) = by.controller() {
            self.controllers.heard(controller);
        }
        let mut model = self.model();
        let mut draft = Draft::of(&model, by);
        plan(&mut draft)?;
        Ok(self.adopt(&mut model, draft))
    }

    fn adopt(&self, model: &mut Model, draft: Draft) -> u64 {
        let Draft { model: next, by } = draft;
        let generation = next.generation;
        self.snapshot.store(Arc::new(next.compile(self.seed)));
        let old = std::mem::replace(model, next);
        // Published only now: who sees the number finds the snapshot.
        self.generation.store(generation, Release);
        model.lift(&old);
        // Under the model's lock, so that events come in the order of their numbers.
        self.events().push(Event {
            generation,
            at: Timestamp::now(),
            who: by.who,
            touched: model.touched(&old),
        });
        self.announce();
        generation
    }
}

/// A copy of all definitions, on which a change is worked out.
#[derive(Debug)]
pub struct Draft {
    model: Model,
    by: By,
}

impl Draft {
    fn of(model: &Model, by: By) -> Self {
        let mut model = model.clone();
        model.generation += 1;
        Self { model, by }
    }

    /// Makes one step of the change.
    ///
    /// # Errors
    /// It can't be done.
    pub fn apply(&mut self, change: Change) -> Result<(), Refused> {
        self.model.apply(change, &self.by)
    }

    /// The generation that was in force before.
    #[must_use]
    pub fn before(&self) -> u64 {
        self.model.generation - 1
    }

    /// The proxies, in the order of their definition.
    #[must_use]
    pub fn edges(&self) -> &[Arc<Edge>] {
        &self.model.edges
    }

    /// The rules as they would stand, in rule order.
    pub fn rules(&self) -> impl Iterator<Item = &Defined<Rule>> {
        self.model.rules.iter().map(|e| &e.defined)
    }

    /// The partitions as they would stand.
    pub fn partitions(&self) -> impl Iterator<Item = &Defined<Partition>> {
        self.model.partitions.iter().map(|e| &e.defined)
    }
}

#[cfg(test)]
mod tests;

//! The definitions themselves: how a change is made to a copy of them, and what they compile to.

use std::sync::Arc;
use std::time::Duration;

use super::{Change, Defined, MAX_DEFINITIONS, Refused, Snapshot, Source};
use crate::clock::{self, Timestamp};
use crate::rules::{
    Cut, Edge, LivePartition, LiveRule, Partition, Protocol, Rule, RuleSet, Totals, Ttl,
};

/// A definition, and what is in force of it; `None`: it is disabled.
pub(super) struct Entry<T, L> {
    pub(super) defined: Defined<T>,
    pub(super) live: Option<Arc<L>>,
}

/// Everything that is defined.
#[derive(Default, Clone)]
pub(super) struct Model {
    pub(super) edges: Vec<Arc<Edge>>,
    pub(super) rules: Vec<Arc<Entry<Rule, LiveRule>>>,
    pub(super) partitions: Vec<Arc<Entry<Partition, LivePartition>>>,
}

/// Ends what was in force before and is no longer.
pub(super) fn lift<T, L>(old: &[Arc<Entry<T, L>>], new: &[Arc<Entry<T, L>>], end: impl Fn(&L)) {
    for live in old.iter().filter_map(|e| e.live.as_ref()) {
        let mut kept = new.iter().filter_map(|e| e.live.as_ref());
        if !kept.any(|other| Arc::ptr_eq(live, other)) {
            end(live);
        }
    }
}

/// What rules and partitions have in common.
trait Definition: Clone {
    const WHAT: &'static str;
    type Live;
    fn name(&self) -> &str;
    fn enabled(&self) -> bool;
    fn set_enabled(&mut self, on: bool);
    fn ttl(&self) -> Ttl;
    fn same_as(&self, other: &Self) -> bool;
    fn enable(definition: &Arc<Self>, totals: &Arc<Totals>) -> Self::Live;
}

impl Definition for Rule {
    const WHAT: &'static str = "rule";
    type Live = LiveRule;
    fn name(&self) -> &str {
        &self.name
    }
    fn enabled(&self) -> bool {
        self.enabled
    }
    fn set_enabled(&mut self, on: bool) {
        self.enabled = on;
    }
    fn ttl(&self) -> Ttl {
        self.ttl
    }
    fn same_as(&self, other: &Self) -> bool {
        Rule::same_as(self, other)
    }
    fn enable(definition: &Arc<Self>, totals: &Arc<Totals>) -> LiveRule {
        LiveRule::new(Arc::clone(definition), Arc::clone(totals))
    }
}

impl Definition for Partition {
    const WHAT: &'static str = "partition";
    type Live = LivePartition;
    fn name(&self) -> &str {
        &self.name
    }
    fn enabled(&self) -> bool {
        self.enabled
    }
    fn set_enabled(&mut self, on: bool) {
        self.enabled = on;
    }
    fn ttl(&self) -> Ttl {
        self.ttl
    }
    fn same_as(&self, other: &Self) -> bool {
        Self {
            enabled: true,
            ..self.clone()
        } == Self {
            enabled: true,
            ..other.clone()
        }
    }
    fn enable(definition: &Arc<Self>, totals: &Arc<Totals>) -> LivePartition {
        LivePartition::new(Arc::clone(definition), Arc::clone(totals))
    }
}

type List<D> = Vec<Arc<Entry<D, <D as Definition>::Live>>>;

fn find<D: Definition>(list: &List<D>, name: &str) -> Result<usize, Refused> {
    list.iter()
        .position(|e| e.defined.definition.name() == name)
        .ok_or_else(|| Refused::NotFound(D::WHAT, name.to_owned()))
}

fn entry<D: Definition>(
    mut definition: D,
    on: bool,
    ttl: Ttl,
    source: Source,
    by: Source,
    totals: Arc<Totals>,
) -> Arc<Entry<D, D::Live>> {
    definition.set_enabled(on);
    let definition = Arc::new(definition);
    let unsaid = match by {
        Source::File => None,
        Source::Api => Some(Ttl::BY_API),
    };
    let lifetime: Option<Duration> = ttl.or(unsaid).filter(|_| on);
    Arc::new(Entry {
        live: on.then(|| Arc::new(D::enable(&definition, &totals))),
        defined: Defined {
            definition,
            source,
            expires: lifetime.map(|ttl| (clock::now() + ttl, Timestamp::now().plus(ttl))),
            totals,
        },
    })
}

fn add<D: Definition>(list: &mut List<D>, definition: D, by: Source) -> Result<(), Refused> {
    if find(list, definition.name()).is_ok() {
        return Err(Refused::Exists(D::WHAT, definition.name().to_owned()));
    }
    if list.len() >= MAX_DEFINITIONS {
        return Err(Refused::TooMany(D::WHAT));
    }
    let (on, ttl) = (definition.enabled(), definition.ttl());
    list.push(entry(definition, on, ttl, by, by, Arc::default()));
    Ok(())
}

fn put<D: Definition>(list: &mut List<D>, definition: D, by: Source) -> Result<(), Refused> {
    let Ok(at) = find(list, definition.name()) else {
        return add(list, definition, by);
    };
    let old = &list[at].defined;
    if old.definition.same_as(&definition) && old.definition.enabled() == definition.enabled() {
        return Ok(());
    }
    let (on, ttl, totals) = (
        definition.enabled(),
        definition.ttl(),
        Arc::clone(&old.totals),
    );
    list[at] = entry(definition, on, ttl, old.source, by, totals);
    Ok(())
}

fn switch<D: Definition>(
    list: &mut List<D>,
    name: &str,
    on: bool,
    ttl: Ttl,
    by: Source,
) -> Result<(), Refused> {
    let at = find(list, name)?;
    let old = &list[at].defined;
    if !on && !old.definition.enabled() {
        return Ok(());
    }
    let definition = D::clone(&old.definition);
    let ttl = if ttl == Ttl::Unsaid {
        definition.ttl()
    } else {
        ttl
    };
    list[at] = entry(definition, on, ttl, old.source, by, Arc::clone(&old.totals));
    Ok(())
}

fn remove<D: Definition>(list: &mut List<D>, name: &str) -> Result<(), Refused> {
    let at = find(list, name)?;
    list.remove(at);
    Ok(())
}

fn heal<D: Definition>(list: &mut List<D>) {
    for at in 0..list.len() {
        let name = list[at].defined.definition.name().to_owned();
        // It is there: the name comes from the list.
        let _ = switch(list, &name, false, Ttl::Unsaid, Source::Api);
    }
}

impl Model {
    /// Makes one step of a change.
    ///
    /// # Errors
    /// It can't be done; then this copy is of no use.
    pub(super) fn apply(&mut self, change: Change, by: Source) -> Result<(), Refused> {
        match change {
            Change::AddRule(rule) => add(&mut self.rules, rule, by),
            Change::PutRule(rule) => put(&mut self.rules, rule, by),
            Change::RemoveRule(name) => remove(&mut self.rules, &name),
            Change::SwitchRule(name, on, ttl) => switch(&mut self.rules, &name, on, ttl, by),
            Change::AddPartition(partition) => add(&mut self.partitions, partition, by),
            Change::PutPartition(partition) => put(&mut self.partitions, partition, by),
            Change::RemovePartition(name) => remove(&mut self.partitions, &name),
            Change::SwitchPartition(name, on, ttl) => {
                switch(&mut self.partitions, &name, on, ttl, by)
            }
            Change::Heal => {
                heal(&mut self.rules);
                heal(&mut self.partitions);
                Ok(())
            }
            Change::AddEdge(edge) => {
                if self.edges.iter().any(|e| e.name == edge.name) {
                    return Err(Refused::Exists("proxy", edge.name));
                }
                if self.edges.len() >= MAX_DEFINITIONS {
                    return Err(Refused::TooMany("proxy"));
                }
                self.edges.push(Arc::new(edge));
                Ok(())
            }
            Change::RemoveEdge(name) => {
                let at = self.edges.iter().position(|e| e.name == name);
                let at = at.ok_or_else(|| Refused::NotFound("proxy", name.clone()))?;
                let mut rules = self.rules.iter().map(|e| &e.defined.definition);
                let user = rules.find(|r| r.proxies.as_ref().is_some_and(|p| p.contains(&name)));
                if let Some(rule) = user {
                    return Err(Refused::InUse(name, rule.name.clone()));
                }
                self.edges.remove(at);
                Ok(())
            }
        }
    }

    /// What the data path sees of it.
    pub(super) fn compile(&self, generation: u64) -> Snapshot {
        let set = |edge: &Edge, known| RuleSet {
            cuts: self
                .partitions
                .iter()
                .filter_map(|e| Cut::new(e.live.as_ref()?, edge))
                .collect(),
            rules: self
                .rules
                .iter()
                .filter_map(|e| e.live.clone())
                .filter(|live| live.rule.reaches(edge, known))
                .collect(),
        };
        let sets = |edge: &Edge| match edge.protocol {
            Protocol::Auto => Protocol::ALL.map(|known| Arc::new(set(edge, known))),
            known => {
                let set = Arc::new(set(edge, known));
                Protocol::ALL.map(|_| Arc::clone(&set))
            }
        };
        let edges = self.edges.iter();
        Snapshot {
            generation,
            sets: edges.map(|e| (e.name.clone(), sets(e))).collect(),
        }
    }
}

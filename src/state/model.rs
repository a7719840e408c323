//! All definitions: how a change is made to a copy of them, and what they compile to.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::{Definition, Entry, List, Making, Standing, became, differ, entry, lift, since};
use super::events::{Touched, What};
use super::{By, Change, MAX_DEFINITIONS, Refused, Restored, Snapshot, Source};
use crate::clock::{self, Instant, Timestamp};
use crate::rules::{Cut, Edge, Partition, Protocol, Rule, RuleSet, Totals, Ttl};

/// Everything that is defined.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    /// The change that it is, or is about to be.
    pub(super) generation: u64,
    pub(super) edges: Vec<Arc<Edge>>,
    /// Proxies as the file says them.
    pub(super) written: HashMap<String, Arc<Edge>>,
    pub(super) rules: List<Rule>,
    pub(super) partitions: List<Partition>,
}

fn find<D: Definition>(list: &List<D>, name: &str) -> Result<usize, Refused> {
    list.iter()
        .position(|e| e.defined.definition.name() == name)
        .ok_or_else(|| Refused::NotFound(D::WHAT, name.to_owned()))
}

impl Model {
    fn making<'a>(&self, by: &'a By, source: Source, totals: Arc<Totals>) -> Making<'a> {
        Making {
            by,
            generation: self.generation,
            source,
            totals,
        }
    }

    fn add<D: Definition>(&mut self, definition: D, by: &By) -> Result<(), Refused>
    where
        Self: Holds<D>,
    {
        if find(self.list(), definition.name()).is_ok() {
            return Err(Refused::Exists(D::WHAT, definition.name().to_owned()));
        }
        if self.list().len() >= MAX_DEFINITIONS {
            return Err(Refused::TooMany(D::WHAT));
        }
        let (on, ttl) = (definition.enabled(), definition.ttl());
        let written = (by.source == Source::File).then(|| Arc::new(definition.clone()));
        let making = self.making(by, by.source, Arc::default());
        let made = entry(definition, on, ttl, written, making);
        self.list_mut().push(made);
        Ok(())
    }

    /// Puts it in the place of the one with its name. What says the same stays as it stands; what a
    /// file says is held against what that file said before, so that what was switched meanwhile
    /// stays so.
    fn put<D: Definition>(&mut self, definition: D, by: &By) -> Result<(), Refused>
    where
        Self: Holds<D>,
    {
        let Ok(at) = find(self.list(), definition.name()) else {
            return self.add(definition, by);
        };
        let old = &self.list()[at].defined;
        let by_file = by.source == Source::File;
        let before = match by_file {
            true => old.written.as_deref(),
            false => Some(&*old.definition),
        };
        let same =
            |other: &D| other.same_as(&definition) && other.enabled() == definition.enabled();
        if before.is_some_and(same) {
            return Ok(());
        }
        let (on, ttl) = (definition.enabled(), definition.ttl());
        let (source, written) = match by_file {
            true => (Source::File, Some(Arc::new(definition.clone()))),
            false => (old.source, old.written.clone()),
        };
        let making = self.making(by, source, Arc::clone(&old.totals));
        self.list_mut()[at] = entry(definition, on, ttl, written, making);
        Ok(())
    }

    fn switch<D: Definition>(
        &mut self,
        name: &str,
        on: bool,
        ttl: Ttl,
        by: &By,
    ) -> Result<(), Refused>
    where
        Self: Holds<D>,
    {
        let at = find(self.list(), name)?;
        let old = &self.list()[at].defined;
        if !on && !old.definition.enabled() {
            return Ok(());
        }
        let definition = D::clone(&old.definition);
        let ttl = match ttl {
            Ttl::Unsaid => definition.ttl(),
            said => said,
        };
        let making = self.making(by, old.source, Arc::clone(&old.totals));
        let switched = entry(definition, on, ttl, old.written.clone(), making);
        self.list_mut()[at] = switched;
        Ok(())
    }

    fn remove<D: Definition>(&mut self, name: &str) -> Result<(), Refused>
    where
        Self: Holds<D>,
    {
        let at = find(self.list(), name)?;
        self.list_mut().remove(at);
        Ok(())
    }

    fn heal<D: Definition>(&mut self, by: &By)
    where
        Self: Holds<D>,
    {
        for at in 0..self.list().len() {
            let name = self.list()[at].defined.definition.name().to_owned();
            // It is there: the name comes from the list.
            let _ = self.switch(&name, false, Ttl::Unsaid, by);
        }
    }

    fn restore<D: Definition>(&mut self, restored: Restored<D>, by: &By) -> Result<(), Refused>
    where
        Self: Holds<D>,
    {
        let Restored {
            mut definition,
            since: began,
            expires,
        } = restored;
        let (now, wall) = (clock::now(), Timestamp::now());
        let over = expires.is_some_and(|at| at <= wall);
        definition.set_enabled(definition.enabled() && !over);
        let moment = now.checked_sub(wall.since(began)).unwrap_or(now);
        let ends = |at: Timestamp| Some((now.checked_add(at.since(wall))?, at));
        let expires = expires.filter(|_| definition.enabled()).and_then(ends);
        let old = find(self.list(), definition.name());
        let (source, written, totals) = match old {
            Ok(at) => {
                let old = &self.list()[at].defined;
                (old.source, old.written.clone(), Arc::clone(&old.totals))
            }
            Err(_) => (by.source, None, Arc::default()),
        };
        let making = self.making(by, source, totals);
        let made = since(definition, (moment, began), expires, written, making);
        match old {
            Ok(at) => self.list_mut()[at] = made,
            Err(_) if self.list().len() >= MAX_DEFINITIONS => {
                return Err(Refused::TooMany(D::WHAT));
            }
            Err(_) => self.list_mut().push(made),
        }
        Ok(())
    }

    /// Makes one step of a change.
    ///
    /// # Errors
    /// It can't be done; then this copy is of no use.
    pub(super) fn apply(&mut self, change: Change, by: &By) -> Result<(), Refused> {
        match change {
            Change::AddRule(rule) => self.add(rule, by),
            Change::PutRule(rule) => self.put(rule, by),
            Change::RemoveRule(name) => self.remove::<Rule>(&name),
            Change::SwitchRule(name, on, ttl) => self.switch::<Rule>(&name, on, ttl, by),
            Change::RestoreRule(rule) => self.restore(rule, by),
            Change::OrderRules(names) => {
                let place = |e: &Arc<Entry<Rule>>| {
                    let name = e.defined.definition.name();
                    names.iter().position(|n| n == name).unwrap_or(usize::MAX)
                };
                // Stable: those that are not named keep their order.
                self.rules.sort_by_cached_key(place);
                Ok(())
            }
            Change::AddPartition(partition) => self.add(partition, by),
            Change::PutPartition(partition) => self.put(partition, by),
            Change::RemovePartition(name) => self.remove::<Partition>(&name),
            Change::SwitchPartition(name, on, ttl) => self.switch::<Partition>(&name, on, ttl, by),
            Change::RestorePartition(partition) => self.restore(partition, by),
            Change::Heal => {
                self.heal::<Rule>(by);
                self.heal::<Partition>(by);
                Ok(())
            }
            Change::PutEdge(edge) => {
                if by.source == Source::File {
                    self.written
                        .insert(edge.name.clone(), Arc::new(edge.clone()));
                }
                if let Some(old) = self.edges.iter_mut().find(|e| e.name == edge.name) {
                    if **old != edge {
                        *old = Arc::new(edge);
                    }
                    return Ok(());
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
                self.written.remove(&name);
                Ok(())
            }
        }
    }

    /// All that is enabled.
    pub(super) fn standing(&self) -> impl Iterator<Item = Standing<'_>> {
        let rules = self.rules.iter().filter_map(|e| Standing::of(e));
        rules.chain(self.partitions.iter().filter_map(|e| Standing::of(e)))
    }

    /// Opens and closes the windows that are due.
    pub(super) fn turn(&mut self, now: Instant) {
        fn turn<D: Definition>(list: &mut List<D>, generation: u64, now: Instant) {
            for entry in list {
                if entry.defined.turns.is_some_and(|(at, _)| at <= now) {
                    *entry = entry.turned(generation, now);
                }
            }
        }
        turn(&mut self.rules, self.generation, now);
        turn(&mut self.partitions, self.generation, now);
    }

    /// What the data path sees of it.
    pub(super) fn compile(&self, seed: u64) -> Snapshot {
        let services = self.services();
        let partitions = self.partitions.iter().filter_map(|e| e.live.as_ref());
        let cutting: Vec<_> = partitions
            .map(|live| (live, live.partition.sides(&services, seed)))
            .collect();
        let set = |edge: &Edge, known| RuleSet {
            cuts: cutting
                .iter()
                .filter_map(|(live, sides)| Cut::new(live, sides, edge))
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
            generation: self.generation,
            sets: edges.map(|e| (e.name.clone(), sets(e))).collect(),
        }
    }

    /// The services that the proxies connect, each once, in the order of their names.
    pub(super) fn services(&self) -> Vec<&str> {
        let both = self.edges.iter().flat_map(|e| [&*e.from, &*e.to]);
        let mut services: Vec<&str> = both.collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    /// What differs from `old`, definition by definition.
    pub(super) fn touched(&self, old: &Self) -> Vec<Touched> {
        let mut touched = Vec::new();
        let edge = |e: &Arc<Edge>| e.name.clone();
        differ(
            "proxy",
            &old.edges,
            &self.edges,
            edge,
            &mut touched,
            |_, _| What::Replaced,
        );
        let name = |e: &Arc<Entry<Partition>>| e.defined.definition.name.clone();
        let (before, now) = (&old.partitions, &self.partitions);
        differ("partition", before, now, name, &mut touched, became);
        let name = |e: &Arc<Entry<Rule>>| e.defined.definition.name.clone();
        differ("rule", &old.rules, &self.rules, name, &mut touched, became);
        touched
    }

    /// Ends what was in force in `old` and is no longer.
    pub(super) fn lift(&self, old: &Self) {
        lift(&old.rules, &self.rules);
        lift(&old.partitions, &self.partitions);
    }
}

/// Where the definitions of one sort stand.
pub(super) trait Holds<D: Definition> {
    fn list(&self) -> &List<D>;
    fn list_mut(&mut self) -> &mut List<D>;
}

impl Holds<Rule> for Model {
    fn list(&self) -> &List<Rule> {
        &self.rules
    }
    fn list_mut(&mut self) -> &mut List<Rule> {
        &mut self.rules
    }
}

impl Holds<Partition> for Model {
    fn list(&self) -> &List<Partition> {
        &self.partitions
    }
    fn list_mut(&mut self) -> &mut List<Partition> {
        &mut self.partitions
    }
}

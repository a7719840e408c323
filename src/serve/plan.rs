//! What has to change so that what runs is what a file says.
//!
//! The step is one from what the file said before, which is in force but for what was changed
//! meanwhile by other ways: what it says the same as before is left as it stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::proxy::Plan;
use crate::rules::{Edge, Rule};
use crate::state::{Change, Draft, Refused};

/// The step for proxies. `known`: those that there are.
pub(super) fn proxies(old: &Config, new: &Config, known: &[Arc<Edge>]) -> Plan {
    let put = new.proxies.iter();
    let put = put.filter(|edge| !old.proxies.contains(edge)).cloned();
    let (now, known) = (names(&new.proxies, |e| &e.name), names(known, |e| &e.name));
    let gone = names(&old.proxies, |e| &e.name).into_iter();
    let remove = gone.filter(|name| !now.contains(name) && known.contains(name));
    Plan {
        put: put.collect(),
        remove: remove.map(str::to_owned).collect(),
        ..Plan::default()
    }
}

/// The step for rules and partitions.
///
/// # Errors
/// There would be too many.
pub(super) fn definitions(old: &Config, new: &Config, draft: &mut Draft) -> Result<(), Refused> {
    let now = names(&new.rules, |r| &r.name);
    for name in names(&old.rules, |r| &r.name) {
        if !now.contains(name) && draft.rules().any(|d| d.definition.name == name) {
            draft.apply(Change::RemoveRule(name.to_owned()))?;
        }
    }
    let now = names(&new.partitions, |p| &p.name);
    for name in names(&old.partitions, |p| &p.name) {
        if !now.contains(name) && draft.partitions().any(|d| d.definition.name == name) {
            draft.apply(Change::RemovePartition(name.to_owned()))?;
        }
    }
    let same = |a: &Rule, b: &Rule| a.same_as(b) && a.enabled == b.enabled;
    for rule in &new.rules {
        if !old.rules.iter().any(|before| same(before, rule)) {
            draft.apply(Change::PutRule(rule.clone()))?;
        }
    }
    for partition in &new.partitions {
        if !old.partitions.contains(partition) {
            draft.apply(Change::PutPartition(partition.clone()))?;
        }
    }
    let order = |rules: &[Rule]| rules.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
    if order(&old.rules) != order(&new.rules) {
        draft.apply(Change::OrderRules(order(&new.rules)))?;
    }
    Ok(())
}

fn names<T>(list: &[T], name: impl Fn(&T) -> &String) -> BTreeSet<&str> {
    list.iter().map(|item| name(item).as_str()).collect()
}

/// The sections that differ and are read at the start only.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let Config {
        seed,
        control,
        metrics,
        evidence,
        traces,
        identity,
        limits,
        proxies: _,
        rules: _,
        partitions: _,
    } = new;
    let differ = [
        ("seed", old.seed != *seed),
        ("control", old.control != *control),
        ("metrics", old.metrics != *metrics),
        ("evidence", old.evidence != *evidence),
        ("traces", old.traces != *traces),
        ("identity", old.identity != *identity),
        ("limits", old.limits != *limits),
    ];
    let differ = differ.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(section, _)| section.to_owned()).collect()
}

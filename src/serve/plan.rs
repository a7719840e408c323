//! What has to change so that what runs is what a file says.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::proxy::Plan;
use crate::rules::Rule;
use crate::state::{Change, State};

/// The step from what a file said, which is in force but for what was changed meanwhile by other
/// ways, to what it says. What it says the same as before is left as it stands.
pub(super) fn plan(old: &Config, new: &Config, state: &State) -> Plan {
    let put = new.proxies.iter();
    let put = put.filter(|edge| !old.proxies.contains(edge)).cloned();
    let (now, known) = (names(&new.proxies, |e| &e.name), state.edges());
    let known = names(&known, |e| &e.name);
    let gone = names(&old.proxies, |e| &e.name).into_iter();
    let remove = gone.filter(|name| !now.contains(name) && known.contains(name));

    let mut also = Vec::new();
    let (now, (_, known)) = (names(&new.rules, |r| &r.name), state.rules());
    let known = names(&known, |d| &d.definition.name);
    for name in names(&old.rules, |r| &r.name) {
        if !now.contains(name) && known.contains(name) {
            also.push(Change::RemoveRule(name.to_owned()));
        }
    }
    let (now, (_, known)) = (names(&new.partitions, |p| &p.name), state.partitions());
    let known = names(&known, |d| &d.definition.name);
    for name in names(&old.partitions, |p| &p.name) {
        if !now.contains(name) && known.contains(name) {
            also.push(Change::RemovePartition(name.to_owned()));
        }
    }
    let same = |a: &Rule, b: &Rule| a.same_as(b) && a.enabled == b.enabled;
    for rule in &new.rules {
        if !old.rules.iter().any(|before| same(before, rule)) {
            also.push(Change::PutRule(rule.clone()));
        }
    }
    for partition in &new.partitions {
        if !old.partitions.contains(partition) {
            also.push(Change::PutPartition(partition.clone()));
        }
    }
    let order = |rules: &[Rule]| rules.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
    if order(&old.rules) != order(&new.rules) {
        also.push(Change::OrderRules(order(&new.rules)));
    }
    Plan {
        put: put.collect(),
        remove: remove.map(str::to_owned).collect(),
        also,
        ..Plan::default()
    }
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
        identity_header,
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
        ("identity", old.identity_header != *identity_header),
        ("limits", old.limits != *limits),
    ];
    let differ = differ.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(section, _)| section.to_owned()).collect()
}

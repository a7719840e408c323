//! One definition, be it a rule or a partition: how it stands, and what is in force of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::events::{Touched, What};
use super::{By, Change, Defined, Source};
use crate::clock::{self, Instant, Timestamp};
use crate::rules::{
    LivePartition, LiveRule, Partition, Rule, Tally, Timetable, Totals, Ttl, Window, Windows,
};

/// A definition, and what is in force of it; `None`: it is disabled, or between two windows.
#[derive(Debug)]
pub(super) struct Entry<D: Definition> {
    pub(super) defined: Defined<D>,
    pub(super) live: Option<Arc<D::Live>>,
    windows: Option<Windows>,
    tally: Arc<Tally>,
}

pub(super) type List<D> = Vec<Arc<Entry<D>>>;

/// What rules and partitions have in common.
pub(super) trait Definition: Clone + std::fmt::Debug {
    const WHAT: &'static str;
    type Live: std::fmt::Debug;
    fn name(&self) -> &str;
    fn enabled(&self) -> bool;
    fn set_enabled(&mut self, on: bool);
    fn ttl(&self) -> Ttl;
    fn timetable(&self) -> Option<&Timetable>;
    /// Whether they differ in `enabled` at most.
    fn same_as(&self, other: &Self) -> bool;
    fn live(of: &Defined<Self>, tally: &Arc<Tally>, window: Option<Window>) -> Self::Live;
    fn lift(live: &Self::Live);
    /// The change that switches it off.
    fn off(name: String) -> Change;
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
    fn timetable(&self) -> Option<&Timetable> {
        self.timetable.as_ref()
    }
    fn same_as(&self, other: &Self) -> bool {
        Rule::same_as(self, other)
    }
    fn live(of: &Defined<Self>, tally: &Arc<Tally>, window: Option<Window>) -> LiveRule {
        let (rule, totals) = (Arc::clone(&of.definition), Arc::clone(&of.totals));
        LiveRule::new(rule, totals, Arc::clone(tally), window)
    }
    fn lift(live: &LiveRule) {
        live.lift();
    }
    fn off(name: String) -> Change {
        Change::SwitchRule(name, false, Ttl::Unsaid)
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
    fn timetable(&self) -> Option<&Timetable> {
        self.timetable.as_ref()
    }
    fn same_as(&self, other: &Self) -> bool {
        let on = |partition: &Self| Self {
            enabled: true,
            ..partition.clone()
        };
        on(self) == on(other)
    }
    fn live(of: &Defined<Self>, _: &Arc<Tally>, _: Option<Window>) -> LivePartition {
        LivePartition::new(Arc::clone(&of.definition), Arc::clone(&of.totals))
    }
    fn lift(live: &LivePartition) {
        live.heal();
    }
    fn off(name: String) -> Change {
        Change::SwitchPartition(name, false, Ttl::Unsaid)
    }
}

/// What time does to a definition that is enabled.
pub(super) struct Standing<'a> {
    name: &'a str,
    controller: Option<&'a Arc<str>>,
    /// When it disables itself.
    pub(super) expires: Option<Instant>,
    /// When a window of its timetable opens or closes.
    pub(super) turns: Option<Instant>,
    off: fn(String) -> Change,
}

impl<'a> Standing<'a> {
    pub(super) fn of<D: Definition>(entry: &'a Entry<D>) -> Option<Self> {
        let Defined {
            definition,
            controller,
            expires,
            turns,
            ..
        } = &entry.defined;
        definition.enabled().then(|| Self {
            name: definition.name(),
            controller: controller.as_ref(),
            expires: expires.map(|(at, _)| at),
            turns: turns.map(|(at, _)| at),
            off: D::off,
        })
    }

    /// The controller that must go on sending its heartbeat, or it is switched off.
    pub(super) fn owner(&self) -> Option<&'a Arc<str>> {
        self.controller
    }

    /// The change that switches it off.
    pub(super) fn off(&self) -> Change {
        (self.off)(self.name.to_owned())
    }
}

impl<D: Definition> Entry<D> {
    /// Brings what is in force in line with the windows.
    fn at(mut self, now: Instant) -> Self {
        let Defined { definition, .. } = &self.defined;
        let (window, turns) = match (definition.enabled(), self.windows) {
            (false, _) => (None, None),
            (true, None) => (Some(None), None),
            (true, Some(windows)) => {
                let (window, turns) = windows.at(now);
                (window.map(Some), turns)
            }
        };
        let wall = Timestamp::now();
        self.defined.turns = turns.map(|at| (at, wall.plus(at.saturating_duration_since(now))));
        self.live = window.map(|window| Arc::new(D::live(&self.defined, &self.tally, window)));
        self.defined.active = self.live.is_some();
        self
    }

    /// The same as it is after a window has opened or closed.
    pub(super) fn turned(&self, generation: u64, now: Instant) -> Arc<Self> {
        let turned = Self {
            defined: Defined {
                changed: generation,
                ..self.defined.clone()
            },
            live: None,
            windows: self.windows,
            tally: Arc::clone(&self.tally),
        };
        Arc::new(turned.at(now))
    }
}

/// What a definition that is put in its place takes over, and who puts it there.
pub(super) struct Making<'a> {
    pub(super) by: &'a By,
    pub(super) generation: u64,
    pub(super) source: Source,
    pub(super) totals: Arc<Totals>,
}

/// A definition that is switched on or off now. `lifetime` counts from now.
pub(super) fn entry<D: Definition>(
    mut definition: D,
    on: bool,
    ttl: Ttl,
    written: Option<Arc<D>>,
    making: Making<'_>,
) -> Arc<Entry<D>> {
    definition.set_enabled(on);
    let unsaid = match making.by.source {
        Source::File => None,
        Source::Api => Some(Ttl::BY_API),
    };
    let lifetime: Option<Duration> = ttl.or(unsaid).filter(|_| on);
    let (now, wall) = (clock::now(), Timestamp::now());
    // A lifetime longer than the clock can say is none.
    let ends = |ttl: Duration| now.checked_add(ttl).map(|at| (at, wall.plus(ttl)));
    let expires = lifetime.and_then(ends);
    since(definition, (now, wall), expires, written, making)
}

/// A definition that was switched on or off `since`, until it `expires`.
pub(super) fn since<D: Definition>(
    definition: D,
    (since, wall): (Instant, Timestamp),
    expires: Option<(Instant, Timestamp)>,
    written: Option<Arc<D>>,
    making: Making<'_>,
) -> Arc<Entry<D>> {
    let timetable = definition.timetable().filter(|_| definition.enabled());
    let entry = Entry {
        live: None,
        windows: timetable.map(|table| table.from(since, wall)),
        tally: Arc::default(),
        defined: Defined {
            definition: Arc::new(definition),
            source: making.source,
            since: wall,
            expires,
            active: false,
            turns: None,
            changed: making.generation,
            controller: making.by.controller().cloned(),
            written,
            totals: making.totals,
        },
    };
    Arc::new(entry.at(clock::now()))
}

/// Those that the file does not have, or has in another way.
pub(super) fn beside<D: Definition>(list: &List<D>) -> Vec<Defined<D>> {
    let differs = |defined: &&Defined<D>| {
        let (now, written) = (&defined.definition, &defined.written);
        written.as_ref().is_none_or(|written| {
            !written.same_as(now) || written.enabled() != now.enabled() || defined.expires.is_some()
        })
    };
    let all = list.iter().map(|e| &e.defined);
    all.filter(differs).cloned().collect()
}

pub(super) fn became<D: Definition>(old: &Arc<Entry<D>>, new: &Arc<Entry<D>>) -> What {
    let (before, now) = (&old.defined, &new.defined);
    if !before.definition.same_as(&now.definition) {
        What::Replaced
    } else if !now.definition.enabled() {
        What::Disabled
    } else if before.definition.enabled()
        && before.expires == now.expires
        && before.turns != now.turns
    {
        match now.active {
            true => What::Began,
            false => What::Paused,
        }
    } else {
        What::Enabled
    }
}

/// The items that are in one list only, or not the same in both.
pub(super) fn differ<T>(
    sort: &'static str,
    old: &[Arc<T>],
    new: &[Arc<T>],
    name: impl Fn(&Arc<T>) -> String,
    touched: &mut Vec<Touched>,
    became: impl Fn(&Arc<T>, &Arc<T>) -> What,
) {
    let same = old.iter().zip(new).take_while(|(a, b)| Arc::ptr_eq(a, b));
    let same = same.count();
    let (old, new) = (&old[same..], &new[same..]);
    let mut before: HashMap<String, &Arc<T>> = old.iter().map(|item| (name(item), item)).collect();
    for item in new {
        let name = name(item);
        let what = match before.remove(&name) {
            Some(old) if Arc::ptr_eq(old, item) => continue,
            Some(old) => became(old, item),
            None => What::Made,
        };
        touched.push(Touched { sort, name, what });
    }
    // In the order in which they stood.
    let gone = old
        .iter()
        .map(name)
        .filter(|name| before.contains_key(name));
    touched.extend(gone.map(|name| Touched {
        sort,
        name,
        what: What::Deleted,
    }));
}

pub(super) fn lift<D: Definition>(old: &List<D>, new: &List<D>) {
    let live = |list: &'_ List<D>| {
        list.iter()
            .filter_map(|e| e.live.clone())
            .collect::<Vec<_>>()
    };
    let kept = live(new);
    let kept: HashSet<*const D::Live> = kept.iter().map(Arc::as_ptr).collect();
    for ended in live(old).iter().filter(|l| !kept.contains(&Arc::as_ptr(l))) {
        D::lift(ended);
    }
}

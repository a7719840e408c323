//! What the data path sees: enabled rules and partitions, compiled for one proxy.

use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, PoisonError};

use super::schedule::{Occurrences, Schedule};
use super::timetable::Window;
use super::{Mode, Partition, Rule, Sides, Slot, partition};
use crate::clock;
use crate::operation::Direction;
use crate::seed::Draw;

/// How often a rule selected and injected, over all the times it was enabled.
#[derive(Debug, Default)]
pub struct Totals {
    /// Operations that it chose.
    pub selected: AtomicU64,
    /// Operations in which it changed what a side saw.
    pub injected: AtomicU64,
}

impl Totals {
    /// Both counts: selected, injected.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        // Injected first: it is never ahead of what was selected.
        let injected = self.injected.load(Acquire);
        (self.selected.load(Acquire), injected)
    }
}

/// What is counted from the moment a rule was enabled: `skip`, `limit`, `nth` and occurrences go on
/// from one window of its timetable to the next.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) schedule: Schedule,
    ordinals: Mutex<Occurrences>,
}

/// A rule from the moment it was enabled, or a window of its timetable opened, until it is lifted.
#[derive(Debug)]
pub struct LiveRule {
    /// As defined.
    pub rule: Arc<Rule>,
    /// Shared with the definition.
    pub totals: Arc<Totals>,
    pub(super) tally: Arc<Tally>,
    /// The window that it acts in, where its chance changes within it.
    ramped: Option<Window>,
    lifted: AtomicBool,
}

impl LiveRule {
    /// Enables a rule, for a window of its timetable if it has one.
    #[must_use]
    pub fn new(
        rule: Arc<Rule>,
        totals: Arc<Totals>,
        tally: Arc<Tally>,
        window: Option<Window>,
    ) -> Self {
        Self {
            rule,
            totals,
            tally,
            ramped: window.filter(|window| !window.is_flat()),
            lifted: AtomicBool::new(false),
        }
    }

    /// The chance of an operation now.
    pub(super) fn probability(&self) -> f64 {
        let share = |window: &Window| window.share(clock::now());
        self.rule.probability * self.ramped.as_ref().map_or(1.0, share)
    }

    /// Decides on an operation that matches; see the module `schedule`.
    #[must_use]
    pub fn select(self: &Arc<Self>, seed: u64, key: u64) -> Option<(Slot, Draw)> {
        Schedule::select(self, seed, key)
    }

    /// Counts one more request by this key: the how-manieth it is since the rule was enabled, of
    /// those that the last 100000 keys to appear stand for.
    #[must_use]
    pub fn count(&self, key: u64) -> u64 {
        let ordinals = &self.tally.ordinals;
        let mut ordinals = ordinals.lock().unwrap_or_else(PoisonError::into_inner);
        ordinals.count(key)
    }

    /// Ends it; every wait of its making ends too. The caller wakes those who wait.
    pub fn lift(&self) {
        self.lifted.store(true, Release);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_lifted(&self) -> bool {
        self.lifted.load(Acquire)
    }
}

/// A partition from the moment it was enabled until it is healed.
#[derive(Debug)]
pub struct LivePartition {
    /// As defined.
    pub partition: Arc<Partition>,
    /// Operations that it cut, over all the times it was enabled.
    pub totals: Arc<Totals>,
    healed: AtomicBool,
}

impl LivePartition {
    /// Enables a partition.
    #[must_use]
    pub fn new(partition: Arc<Partition>, totals: Arc<Totals>) -> Self {
        Self {
            partition,
            totals,
            healed: AtomicBool::new(false),
        }
    }

    /// Ends it. The caller wakes those who wait.
    pub fn heal(&self) {
        self.healed.store(true, Release);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_healed(&self) -> bool {
        self.healed.load(Relaxed)
    }
}

/// What a partition does to one proxy.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Whose cut it is.
    pub partition: Arc<LivePartition>,
    directions: [bool; 2],
}

impl Cut {
    /// The cut of an edge by a partition whose sides are these, if it cuts it.
    #[must_use]
    pub fn new(
        partition: &Arc<LivePartition>,
        sides: &Sides<'_>,
        edge: &super::Edge,
    ) -> Option<Self> {
        Some(Self {
            partition: Arc::clone(partition),
            directions: partition.partition.cuts(sides, edge)?,
        })
    }

    /// Whether bytes of this direction are cut.
    #[must_use]
    pub fn cuts(&self, direction: Direction) -> bool {
        self.directions[partition::index(direction)]
    }

    /// What a cut connection meets.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.partition.partition.mode
    }
}

/// Everything that is enabled and can act on one proxy, in rule order.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Partitions come before rules.
    pub cuts: Vec<Cut>,
    /// In the order of their definitions.
    pub rules: Vec<Arc<LiveRule>>,
}

impl RuleSet {
    /// Whether nothing can act.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cuts.is_empty() && self.rules.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::faults::{self, Args};
    use crate::rules::{FaultSpec, Matcher, Ttl};

    /// A rule that drops everything, changed as the test likes, enabled.
    pub(in crate::rules) fn live(change: impl FnOnce(&mut Rule)) -> Arc<LiveRule> {
        let mut rule = Rule {
            name: "r".to_owned(),
            proxies: None,
            enabled: true,
            matcher: Matcher::default(),
            probability: 1.0,
            skip: 0,
            limit: None,
            max_active: None,
            ttl: Ttl::Unsaid,
            dry_run: false,
            direction: None,
            timetable: None,
            fault: FaultSpec::new(faults::find("drop").unwrap(), Args::default()).unwrap(),
        };
        change(&mut rule);
        Arc::new(LiveRule::new(
            Arc::new(rule),
            Arc::default(),
            Arc::default(),
            None,
        ))
    }
}

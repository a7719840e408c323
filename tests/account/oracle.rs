//! Which class a record may have, from what client and upstream wrote down themselves.
//!
//! Mostly that is one. Where something happened that neither could see (what a host had acknowledged
//! when its program gave up; what a RST threw away; an answer and a farewell that crossed), the account
//! names that race, and what it leaves open.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use firedrill::evidence::Class;

use super::support::Rig;
use super::{Account, Link};

/// Two moments nearer than this may have been seen the other way round in between: on a busy machine
/// a thread waits that long for its turn.
const CROSSING: Duration = Duration::from_millis(100);

/// What an account leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Race {
    /// The upstream got bytes of a head that it never got whole.
    Torn,
    /// A RST threw away what was on its way to the upstream, or from it.
    ThrownAway,
    /// The client's program gave up, or was cut off, before it read what its host may have had.
    HostHadIt,
    /// The answer and the client's farewell crossed, or a partition held one of them up. Whether the
    /// answer was read before the connection was given up, neither can know.
    Crossing,
    /// The client had said that it would send no more, which may be a farewell.
    HalfClosed,
}

/// The classes that an account allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Without any race.
    pub class: Class,
    /// What else may be, and why.
    pub races: Vec<(Race, Class)>,
}

/// When partitions were in force.
#[derive(Debug, Default)]
pub struct Cuts(Vec<(Instant, Option<Instant>)>);

impl Cuts {
    /// To be told after every change.
    pub fn note(&mut self, rig: &Rig) {
        let (_, partitions) = rig.context.state.partitions();
        let cut = partitions.iter().any(|p| p.active);
        let now = Instant::now();
        match (cut, self.0.last_mut()) {
            (true, Some((_, None))) => {}
            (true, _) => self.0.push((now, None)),
            (false, Some((_, end @ None))) => *end = Some(now),
            (false, _) => {}
        }
    }

    /// Whether there was one between these moments, or at one of them.
    fn between(&self, one: Instant, other: Instant) -> bool {
        let (from, to) = (one.min(other), one.max(other));
        let mut cuts = self.0.iter();
        cuts.any(|(begin, end)| {
            *begin <= to + CROSSING && end.is_none_or(|end| end + CROSSING >= from)
        })
    }
}

/// What an operation may be recorded as.
pub fn judge(a: &Account, link: Option<Link>, cuts: &Cuts) -> Verdict {
    let link = link.unwrap_or_default();
    let mut races = Vec::new();
    let class = if a.whole {
        match a.replaced {
            true => Class::Unseen,
            false => Class::Acknowledged,
        }
    } else if a.received == 0 {
        if link.torn {
            races.push((Race::Torn, Class::Unknown));
        }
        if link.reset {
            races.push((Race::ThrownAway, Class::Unknown));
        }
        if a.broken || a.gave_up.is_some() {
            races.push((Race::HostHadIt, Class::Substituted));
        }
        match a.substituted {
            true => Class::Substituted,
            false => Class::NeverDelivered,
        }
    } else if a.answered == 0 {
        Class::Unknown
    } else {
        if link.reset || a.asked_for_rst {
            races.push((Race::ThrownAway, Class::Unknown));
        }
        answered(a, cuts, &mut races)
    };
    Verdict { class, races }
}

/// It was answered, and the client did not read that.
fn answered(a: &Account, cuts: &Cuts, races: &mut Vec<(Race, Class)>) -> Class {
    if a.substituted {
        return Class::Unseen;
    }
    if a.broken || a.gave_up.is_some() {
        races.push((Race::HostHadIt, Class::Acknowledged));
    }
    let left = a.gave_up.or(a.half_closed);
    let (Some(answered), Some(left)) = (a.answered_at, left) else {
        return Class::Unseen;
    };
    let gap = answered.max(left) - answered.min(left);
    let crossing = gap < CROSSING || cuts.between(answered, left);
    let (class, other) = match answered > left {
        true => (Class::Late, Class::Unseen),
        false => (Class::Unseen, Class::Late),
    };
    if crossing {
        races.push((Race::Crossing, other));
        // The proxy may have ended both before it had read the answer.
        races.push((Race::Crossing, Class::Unknown));
    }
    if a.half_closed.is_some() {
        races.push((Race::HalfClosed, other));
    }
    class
}

/// How records stood to their accounts.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of those with one class: how often each.
    exact: BTreeMap<Class, usize>,
    /// Of those that a race left open: which race, and what was recorded.
    open: BTreeMap<(Race, Class), usize>,
    /// Those that a race left open, and that have the class that they would have without one.
    undisturbed: BTreeMap<Class, usize>,
}

impl Tally {
    /// Whether this is allowed.
    pub fn take(&mut self, verdict: &Verdict, class: Class) -> bool {
        let race = verdict.races.iter().find(|(_, other)| *other == class);
        if verdict.class == class {
            let which = match verdict.races.is_empty() {
                true => &mut self.exact,
                false => &mut self.undisturbed,
            };
            *which.entry(class).or_default() += 1;
            return true;
        }
        if let Some(race) = race {
            *self.open.entry(*race).or_default() += 1;
        }
        race.is_some()
    }

    /// How often a class came up.
    pub fn count(&self, class: Class) -> usize {
        let open = self.open.iter().filter(|((_, c), _)| *c == class);
        let open: usize = open.map(|(_, n)| n).sum();
        let plain = [&self.exact, &self.undisturbed];
        let plain = plain.iter().filter_map(|which| which.get(&class));
        open + plain.sum::<usize>()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = Class::ALL.iter().map(|class| self.count(*class)).sum();
        let exact: usize = self.exact.values().sum();
        writeln!(
            f,
            "{total} records, {exact} held to one class: {:?}",
            self.exact
        )?;
        writeln!(f, "a race possible, and none seen: {:?}", self.undisturbed)?;
        write!(f, "decided by a race: {:?}", self.open)
    }
}

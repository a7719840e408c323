//! What a caller did for one thing, attempt by attempt: what all findings about retries start from.
//!
//! Attempts that have an identity in common are together already ([`Logical`]). Here it is seen to
//! that they are what one caller did of its own accord: attempts under ever new names are joined,
//! what a caller was asked to do again is told apart, and what nothing tells apart is left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::attempt::{failed, gave_up, told};
use super::case::{Case, Logical};
use super::figures::{self, Samples};
use crate::clock::Timestamp;
use crate::evidence::{By, Caller, Class, Record, RecordId, Strength, TraceId};

/// For so long after a failure what is the same under another name is another attempt at it.
const WINDOW: Duration = Duration::from_secs(10);

/// Who ends a wait and who begins the next attempt are seen on two connections: this much sooner is
/// no sooner.
pub(super) const SLACK: f64 = 25.0;

/// What a caller did for one thing. Never without attempts; all but the last of them failed.
#[derive(Debug)]
pub(super) struct Effort<'r> {
    /// In the order in which they began.
    pub(super) attempts: Vec<&'r Record>,
    /// Whether the caller named the thing, or the trace does; else they are alike, no more.
    pub(super) is_named: bool,
    /// Whether the first of them is the first that there was.
    pub(super) is_whole: bool,
}

/// A wait before a retry.
#[derive(Debug)]
pub(super) struct Gap<'r> {
    /// Before the how-manieth retry, from 1.
    pub(super) ordinal: usize,
    /// From when the caller was told, or gave up, in milliseconds.
    pub(super) ms: f64,
    /// The attempt before it.
    pub(super) before: &'r Record,
    /// The one after it.
    pub(super) after: &'r Record,
}

impl<'r> Effort<'r> {
    pub(super) fn first(&self) -> &'r Record {
        self.attempts[0]
    }

    pub(super) fn last(&self) -> &'r Record {
        self.attempts[self.attempts.len() - 1]
    }

    /// The waits before retries. Attempts that began while the one before was still waited for have
    /// none.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Gap<'r>> + '_ {
        let pairs = self.attempts.windows(2).enumerate();
        pairs.filter_map(|(n, pair)| {
            let (before, after) = (pair[0], pair[1]);
            let ms = figures::ms(told(before)?, after.started);
            (ms >= -SLACK).then_some(Gap {
                ordinal: n + 1,
                ms: ms.max(0.0),
                before,
                after,
            })
        })
    }

    /// How many attempts began while the one before was still waited for.
    pub(super) fn hedged(&self) -> usize {
        self.attempts.len() - 1 - self.gaps().count()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RecordId> + '_ {
        self.attempts.iter().map(|record| record.id)
    }
}

/// All that a caller did.
#[derive(Debug, Default)]
pub(super) struct Efforts<'r> {
    pub(super) each: Vec<Effort<'r>>,
    /// Requests that are in none, since nothing tells what they were for.
    pub(super) unclear: usize,
}

impl<'r> Efforts<'r> {
    /// Each time that the caller was asked to do something apart.
    pub(super) fn of(case: &Case<'r>) -> Self {
        let asked = Asked::of(case);
        let mut efforts = Self::of_things(case);
        let things = std::mem::take(&mut efforts.each);
        for thing in things {
            match asked.split(thing) {
                Ok(each) => efforts.each.extend(each),
                Err(thing) => efforts.unclear += thing.attempts.len(),
            }
        }
        efforts
    }

    /// All that was done for one thing together, however often the caller was asked to.
    pub(super) fn of_things(case: &Case<'r>) -> Self {
        let mut efforts = Self::default();
        let mut named = Vec::new();
        let mut weak: HashMap<Scope<'_>, Vec<&Logical<'r>>> = HashMap::new();
        let mut scopes = Vec::new();
        for logical in &case.logical {
            match &logical.first().identity {
                None => efforts.unclear += logical.attempts.len(),
                Some(identity) if identity.strength == Strength::Strong => {
                    named.push(logical.attempts.clone());
                }
                Some(identity) => {
                    let alike = weak.entry(scope(logical.first(), &identity.value));
                    let alike = alike.or_insert_with_key(|scope| {
                        scopes.push(*scope);
                        Vec::new()
                    });
                    alike.push(logical);
                }
            }
        }
        for (attempts, is_named) in renamed(named) {
            efforts.add(attempts, is_named);
        }
        for alike in scopes.iter().filter_map(|scope| weak.get(scope)) {
            match alike.as_slice() {
                [one] => {
                    let by = one.first().identity.as_ref().map(|identity| identity.by);
                    efforts.add(one.attempts.clone(), by == Some(By::TraceId));
                }
                // What comes again though the last one succeeded names no operation.
                more => {
                    let attempts = more.iter().map(|logical| logical.attempts.len());
                    efforts.unclear += attempts.sum::<usize>();
                }
            }
        }
        let started = |effort: &Effort<'_>| (effort.first().started, effort.first().id);
        efforts.each.sort_by_key(started);
        efforts
    }

    /// Adds what was done for one thing. What comes after a success is done anew.
    fn add(&mut self, attempts: Vec<&'r Record>, is_named: bool) {
        let mut is_whole = attempts.first().is_some_and(|first| first.attempt <= 1);
        let mut some = Vec::new();
        for record in attempts {
            some.push(record);
            if told(record).is_some() && !failed(record) {
                let attempts = std::mem::take(&mut some);
                self.each.push(Effort {
                    attempts,
                    is_named,
                    is_whole: std::mem::replace(&mut is_whole, true),
                });
            }
        }
        if !some.is_empty() {
            self.each.push(Effort {
                attempts: some,
                is_named,
                is_whole,
            });
        }
    }

    /// The waits before retries, by the ordinal of the retry; those of efforts of which the beginning
    /// is not known are left out.
    pub(super) fn gaps(&self) -> BTreeMap<usize, Vec<Gap<'r>>> {
        let mut gaps: BTreeMap<usize, Vec<Gap<'r>>> = BTreeMap::new();
        for gap in self.whole().flat_map(Effort::gaps) {
            gaps.entry(gap.ordinal).or_default().push(gap);
        }
        gaps
    }

    /// Those of which the beginning is known.
    pub(super) fn whole(&self) -> impl Iterator<Item = &Effort<'r>> {
        self.each.iter().filter(|effort| effort.is_whole)
    }
}

/// In milliseconds.
pub(super) fn waits(gaps: &[Gap<'_>]) -> Samples {
    gaps.iter().map(|gap| gap.ms).collect()
}

/// Proxy, method, path, and what else is in common.
type Scope<'r> = (&'r str, Option<&'r str>, Option<&'r str>, &'r str);

fn scope<'r>(record: &'r Record, value: &'r str) -> Scope<'r> {
    let request = &record.request;
    let (method, path) = (request.method.as_deref(), request.path.as_deref());
    (&record.proxy, method, path, value)
}

/// Joins what has the same body, in the same trace if in any, under one name after the other: a
/// caller that makes a new key for every attempt. Only where bodies tell operations apart: there are
/// others, and this one never comes but after a failure of the one before. Each with whether its
/// caller named it.
fn renamed(named: Vec<Vec<&Record>>) -> Vec<(Vec<&Record>, bool)> {
    let mut alike: HashMap<_, Vec<usize>> = HashMap::new();
    let mut others: HashMap<_, HashSet<_>> = HashMap::new();
    for (n, attempts) in named.iter().enumerate() {
        let first = attempts[0];
        if let Some(body) = first.request.digest {
            let trace = first.trace.map(|trace| trace.id);
            let scope @ (proxy, method, path, _) = scope(first, "");
            alike.entry((scope, body, trace)).or_default().push(n);
            others
                .entry((proxy, method))
                .or_default()
                .insert((path, body, trace));
        }
    }
    alike.retain(|((proxy, method, ..), ..), _| others[&(*proxy, *method)].len() > 1);
    // Into which one each goes.
    let mut into: Vec<usize> = (0..named.len()).collect();
    for same in alike.into_values() {
        let follows = |pair: &[usize]| is_retry(&named[pair[0]], &named[pair[1]]);
        if same.windows(2).all(follows) {
            same.iter().for_each(|n| into[*n] = same[0]);
        }
    }
    let mut joined: BTreeMap<usize, (Vec<&Record>, bool)> = BTreeMap::new();
    for (attempts, first) in named.into_iter().zip(into) {
        match joined.get_mut(&first) {
            Some((all, is_named)) => {
                all.extend(attempts);
                *is_named = false;
            }
            None => {
                joined.insert(first, (attempts, true));
            }
        }
    }
    joined.into_values().collect()
}

/// Whether these, under another name, may be further attempts after those.
fn is_retry(those: &[&Record], these: &[&Record]) -> bool {
    let Some(last) = those.last().filter(|_| those.iter().all(|r| failed(r))) else {
        return false;
    };
    let wait = told(last).map(|told| figures::ms(told, these[0].started));
    let window = WINDOW.as_millis() as f64;
    these[0].attempt <= 1 && wait.is_some_and(|ms| (-SLACK..=window).contains(&ms))
}

/// How a name, or a trace, links what a service was asked with what it did for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Link<'r> {
    Name(By, &'r str),
    Trace(TraceId),
}

impl<'r> Link<'r> {
    /// What an operation can be linked by, the better first.
    pub(super) fn of(record: &'r Record) -> impl Iterator<Item = Self> {
        let identity = record.identity.as_ref();
        let strong = identity.filter(|identity| identity.strength == Strength::Strong);
        let name = strong.map(|identity| Self::Name(identity.by, &identity.value));
        let trace = record.trace.map(|trace| Self::Trace(trace.id));
        name.into_iter().chain(trace)
    }
}

/// What the caller itself was asked, by what links it.
#[derive(Debug)]
struct Asked<'r>(HashMap<Link<'r>, Vec<&'r Record>>);

impl<'r> Asked<'r> {
    fn of(case: &Case<'r>) -> Self {
        let mut asked: HashMap<Link<'r>, Vec<&'r Record>> = HashMap::new();
        let incoming = case.all.iter().filter(|record| *record.to == *case.from);
        for record in incoming {
            for link in Link::of(record) {
                asked.entry(link).or_default().push(record);
            }
        }
        Self(asked)
    }

    /// What was done each time that the caller was asked. Where it was asked again while it may not
    /// have been done with what it was asked before, that can't be told: it is given back.
    fn split(&self, thing: Effort<'r>) -> Result<Vec<Effort<'r>>, Effort<'r>> {
        let asked = Link::of(thing.first()).find_map(|link| self.0.get(&link));
        let Some(asked) = asked.filter(|asked| asked.len() > 1) else {
            return Ok(vec![thing]);
        };
        let Effort {
            is_named,
            mut is_whole,
            ..
        } = thing;
        let mut each: Vec<Effort<'r>> = Vec::new();
        let mut before = 0;
        for record in &thing.attempts {
            let earlier = asked.partition_point(|asked| asked.started <= record.started);
            match each.last_mut().filter(|_| earlier == before) {
                Some(effort) => effort.attempts.push(record),
                None => {
                    // What it was asked before is done: it had answered when it was asked again.
                    let is_done = |pair: &[&Record]| {
                        pair[0].class == Class::Acknowledged
                            && told(pair[0]).is_some_and(|at| at <= pair[1].started)
                    };
                    let since = asked.get(before.saturating_sub(1)..earlier);
                    if !each.is_empty() && !since.unwrap_or_default().windows(2).all(is_done) {
                        return Err(thing);
                    }
                    each.push(Effort {
                        attempts: vec![record],
                        is_named,
                        is_whole: std::mem::replace(&mut is_whole, true),
                    });
                    before = earlier;
                }
            }
        }
        Ok(each)
    }
}

/// The last moment at which something was seen of the caller: after it, it may be gone.
pub(super) fn last_sign(case: &Case<'_>) -> Timestamp {
    let host = |record: &Record| record.client.address.map(Caller::host);
    let theirs = case.all.iter().filter(|record| {
        *record.from == *case.from && (case.caller.is_none() || host(record) == case.caller)
    });
    let signs = theirs.map(|record| match gave_up(record) {
        Some(at) => at.max(record.started),
        None => record.started,
    });
    signs.max().unwrap_or(Timestamp(0))
}

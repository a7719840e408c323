//! `bulkhead`: the caller bounds how much of its own waits on one dependency.

use serde_json::json;

use super::attempt::told;
use super::figures::{Samples, detail, ms, ratio, rounded};
use super::{About, Case, Finder, Judged, Verdict};
use crate::clock::Timestamp;
use crate::evidence::{Record, RecordId};

pub static FINDER: Finder = Finder {
    name: "bulkhead",
    summary: "the caller never has more than so many requests under way, though more are wanted",
    definition: "\
Judged from how many requests of the caller are under way along the edge: begun, and neither told nor given \
up. The limit is the highest number to which 20 requests or more brought it and at which it stayed, not only \
for the moment in which one ends and the next begins. How many would be under way without a limit follows \
from Little's law: as many as are wanted in the time that each takes at the limit. Wanted are as many as the \
caller's own callers ask for meanwhile, where these are seen and 40 of their requests came when it was below \
the limit (for each, as many calls as it makes then); else as many as begin in that time while not more than \
half of the limit is under way, by rows of 40; where there are none, in the quickest quarter of all rows.

`yes`: of 80 requests or more, three in four of those that brought it to the limit began soon after another \
had ended (three quarters of the time between two ends, or 10 ms) and did not follow a clock rather than \
those ends; twice as many as the limit were wanted; the limit is 2 or more, or 1 where the caller's own \
callers are seen. Whether it is a semaphore, a pool of connections or of workers, or, where the caller's own \
callers are not seen, a fixed number of users who wait for their answers, the evidence does not tell. `no`: \
of 80 or more, 10 or more were under way (to which 3 requests or more brought it), three times as many as \
when the tenth with the fewest of them began, and not more than 1.6 times as many were wanted (1.33 times, \
where three in four began soon after another had ended). `not_enough`: neither, because it was never slow \
enough for a limit to show.

`detail`: `limit`, or `null`; `peak`, the most that was ever under way; `usual`, how many when the tenth \
with the fewest began; `wanted`, how many would be under way without a limit; `held_share`, the share of \
those at the limit that began soon after another had ended.",
    about: About::Caller,
    judge,
};

/// Requests from which on anything is said.
const LEAST: usize = 80;
/// Requests in a row over which a rate is measured.
const ROW: usize = 40;
/// Requests that brought it to the limit, or to the most there was.
const AT_LIMIT: usize = 20;
const AT_MOST: usize = 3;
/// How long it stays at a level when one has ended and the next begins in its place, against the
/// time between two of these: less is a moment in which both seem to be under way.
const STAYS: f64 = 0.25;
/// The share of those at the limit that began when another had just ended, and how soon that is at
/// least, in milliseconds.
const IN_TURN: f64 = 0.75;
const SOON: f64 = 10.0;
/// How many times the limit would be under way without one.
const EXCESS: f64 = 2.0;
/// How many times the most that there was may have been wanted, if nothing bounds it: where they
/// seem to wait for each other, and where they do not.
const ALL: f64 = 1.33;
const ABOUT_ALL: f64 = 1.6;
/// Under way from which on it has grown: so many, and so many times as many as usual.
const GROWN: usize = 10;
const TIMES: f64 = 3.0;

/// A request from its beginning until its caller was told, or gave up.
struct Call {
    id: RecordId,
    started: Timestamp,
    took: f64,
    /// How many are under way when it begins, with it.
    level: usize,
    /// How long before it another ended.
    since_end: f64,
}

/// The requests at the highest level that was held.
struct Top<'c> {
    level: usize,
    calls: Vec<&'c Call>,
    /// How long they took.
    took: f64,
    /// How many requests were wanted in a millisecond; `None`: it is not known.
    rate: Option<f64>,
}

fn judge(case: &Case<'_>) -> Judged {
    let (calls, times) = under_way(case);
    let at_limit = top(&calls, &times, AT_LIMIT);
    let stays = at_limit.stays();
    let asked = asked_rate(case, calls.len(), &stays);
    let limit = at_limit.level as f64;
    // Little's law: as many are wanted as come in the time that each takes.
    let rate = asked.or(at_limit.rate).or_else(|| highest_rate(&calls));
    let wanted = rate.unwrap_or_default() * at_limit.took;
    // Where there is a limit, whoever waits for it begins as soon as another ends.
    let soon = (at_limit.took / limit.max(1.0) * 0.75).max(SOON);
    let in_turn = at_limit.calls.iter().filter(|call| call.since_end <= soon);
    let held = in_turn.count() as f64 / at_limit.calls.len().max(1) as f64;
    let least = if asked.is_some() { 1 } else { 2 };
    let bounded = at_limit.level >= least
        && held >= IN_TURN
        && wanted >= EXCESS * limit
        && !by_the_clock(&stays);

    let at_most = top(&calls, &times, AT_MOST);
    let most = at_most.level as f64;
    let all = if held >= IN_TURN { ALL } else { ABOUT_ALL };
    let wanted_at_most = asked.or(at_most.rate).map(|rate| rate * at_most.took);
    let levels: Samples = calls.iter().map(|call| call.level as f64).collect();
    let usual = levels.quantile(0.1);
    let grown = at_most.level >= GROWN
        && most >= TIMES * usual
        && wanted_at_most.is_some_and(|wanted| wanted <= all * most);

    let (verdict, top, wanted) = match calls.len() >= LEAST {
        true if bounded => (Verdict::Yes, at_limit, Some(wanted)),
        true if grown => (Verdict::No, at_most, wanted_at_most),
        _ => (Verdict::NotEnough, at_most, wanted_at_most),
    };
    let figures = json!({
        "limit": (verdict == Verdict::Yes).then_some(top.level),
        "peak": times.len().saturating_sub(1),
        "usual": usual as usize,
        "wanted": wanted.map(rounded),
        "held_share": ratio(held),
    });
    Judged {
        verdict,
        detail: detail(figures),
        records: top.calls.iter().map(|call| call.id).collect(),
    }
}

impl<'c> Top<'c> {
    /// Each of its requests and the next, where it stayed there in between.
    fn stays(&self) -> Vec<(&'c Call, &'c Call)> {
        let pairs = self.calls.windows(2).map(|pair| (pair[0], pair[1]));
        pairs
            .filter(|(call, next)| apart(call, next) <= call.took * 1.5)
            .collect()
    }
}

fn apart(call: &Call, next: &Call) -> f64 {
    ms(call.started, next.started)
}

/// Whether requests follow each other more evenly than they follow the ends of others: then it is
/// not these that they wait for.
fn by_the_clock(stays: &[(&Call, &Call)]) -> bool {
    let apart: Samples = stays.iter().map(|(call, next)| apart(call, next)).collect();
    let waited: Samples = stays.iter().map(|(_, next)| next.since_end).collect();
    apart.scatter() * 2.0 < waited.scatter()
}

/// What is known of the highest level to which at least so many requests brought it.
fn top<'c>(calls: &'c [Call], times: &[f64], least: usize) -> Top<'c> {
    let level = level(calls, times, least);
    let at_top: Vec<&Call> = calls
        .iter()
        .filter(|call| call.level >= level.max(1))
        .collect();
    Top {
        level,
        took: usual_time(&at_top),
        rate: usual_rate(calls, level),
        calls: at_top,
    }
}

/// How long it takes for half of the time: those that have waited are done quickly once it is quick
/// again, and there may be many of them.
fn usual_time(calls: &[&Call]) -> f64 {
    let rows = calls.windows(calls.len().clamp(1, AT_LIMIT));
    let mean = |row: &[&Call]| row.iter().map(|call| call.took).sum::<f64>() / row.len() as f64;
    let mut times: Vec<f64> = rows.map(mean).collect();
    times.sort_by(f64::total_cmp);
    let half = times.iter().sum::<f64>() / 2.0;
    let mut passed = 0.0;
    let middle = times.into_iter().find(|time| {
        passed += time;
        passed >= half
    });
    middle.unwrap_or_default()
}

/// The requests, and for how many milliseconds so many of them were under way, from none on.
fn under_way(case: &Case<'_>) -> (Vec<Call>, Vec<f64>) {
    let until = |record: &Record| told(record).unwrap_or(case.now).max(record.started);
    let mut ends: Vec<Timestamp> = case.records.iter().map(|r| until(r)).collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut calls: Vec<Call> = Vec::with_capacity(case.records.len());
    let (mut times, mut level) = (Vec::new(), 0_usize);
    let (mut last, mut last_end) = (None, None);
    let mut stay = |level: usize, now: Timestamp, last: &mut Option<Timestamp>| {
        if times.len() <= level {
            times.resize(level + 1, 0.0);
        }
        times[level] += last.replace(now).map_or(0.0, |last| ms(last, now));
    };
    for record in &case.records {
        while let Some(end) = ends.next_if(|end| level > 0 && *end <= record.started) {
            stay(level, end, &mut last);
            level -= 1;
            last_end = Some(end);
        }
        stay(level, record.started, &mut last);
        level += 1;
        calls.push(Call {
            id: record.id,
            started: record.started,
            took: ms(record.started, until(record)),
            level,
            since_end: last_end.map_or(f64::INFINITY, |end| ms(end, record.started)),
        });
    }
    for end in ends {
        stay(level, end, &mut last);
        level = level.saturating_sub(1);
    }
    (calls, times)
}

/// The highest level to which at least so many requests brought it, and at which it stayed; none: 0.
fn level(calls: &[Call], times: &[f64], least: usize) -> usize {
    let mut at: Vec<(usize, f64)> = vec![(0, 0.0); times.len()];
    for call in calls {
        if let Some((count, took)) = at.get_mut(call.level) {
            *count += 1;
            *took += call.took;
        }
    }
    // Of this level and all above it.
    let (mut count, mut took, mut time) = (0, 0.0, 0.0);
    for (level, (more, longer)) in at.iter().enumerate().skip(1).rev() {
        count += more;
        took += longer;
        time += times[level];
        // On average: count * (took / count) / level.
        if count >= least && time >= STAYS * took / level as f64 {
            return level;
        }
    }
    0
}

/// How many requests begin in a millisecond while not more than half of `limit` are under way.
fn usual_rate(calls: &[Call], limit: usize) -> Option<f64> {
    let low = |call: &Call| call.level <= limit.div_ceil(2);
    rate(rows(calls, |row| row.iter().all(low)).median())
}

/// The same at most times, whatever is under way.
fn highest_rate(calls: &[Call]) -> Option<f64> {
    rate(rows(calls, |_| true).quantile(0.25))
}

/// How long it takes from the first of a row to the last.
fn rows(calls: &[Call], pick: impl Fn(&[Call]) -> bool) -> Samples {
    let rows = calls.windows(ROW).filter(|row| pick(row));
    let ends = rows.filter_map(|row| Some((row.first()?, row.last()?)));
    ends.map(|(first, last)| ms(first.started, last.started))
        .collect()
}

fn rate(row: f64) -> Option<f64> {
    (row > 0.0).then(|| (ROW - 1) as f64 / row)
}

/// How many calls the caller was asked for in a millisecond at the limit, if that is seen.
fn asked_rate(case: &Case<'_>, calls: usize, stays: &[(&Call, &Call)]) -> Option<f64> {
    let count = |from, until| case.incoming.between(from, until);
    let (first, last) = (case.records.first()?, case.records.last()?);
    let during = stays
        .iter()
        .map(|(call, next)| count(call.started, next.started));
    let (asked, took) = (
        during.sum::<usize>(),
        stays
            .iter()
            .map(|(call, next)| apart(call, next))
            .sum::<f64>(),
    );
    let below = count(first.started, last.started).saturating_sub(asked);
    if below < ROW || took <= 0.0 {
        return None;
    }
    let each = calls.saturating_sub(stays.len()) as f64 / below as f64;
    Some(asked as f64 / took * each)
}

#[cfg(test)]
mod tests;

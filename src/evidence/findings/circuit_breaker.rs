//! `circuit_breaker`: the caller stops calling after failures, and tries cautiously later.

mod spells;

use std::collections::HashSet;

use serde_json::json;

use super::figures::{Samples, detail, ms, rounded};
use super::{About, Case, Finder, Judged, Verdict};
use crate::clock::Timestamp;
use crate::evidence::RecordId;
use spells::{Call, End, Silence, Spell, seen, spells, usual};

pub static FINDER: Finder = Finder {
    name: "circuit_breaker",
    summary: "after failures in a row the caller stops calling for a while, then tries cautiously",
    definition: "\
Judged from all requests of a caller along the edge, whatever their path: a breaker for some of them, while \
the others go on, is not seen. A silence begins when the caller was last told how a request ended, or gave \
one up, with no request after that, and ends with the next one. It is at least 100 ms long, and at least \
seven times the usual time between requests: what nine in ten do not exceed that follow a success, of which \
there must be 10. One that another attempt at a failed operation ends is a pause between attempts: by the \
same identity, or with the same body under another.

A silence after a failure is an open period if a success follows; or one failure, and then the next silence; \
or several, at most 10 and fewer than half of those before it opened. None is counted in which the caller's \
own callers, as far as they are seen, asked for nothing.

`yes`: open periods, and among twenty silences after failures at most one that is none. Where the caller's own \
callers are seen: 2 or more, in each of which they asked and were answered without a call (as often as usually \
makes 3 calls or more). Where they are not: 3 or more that look like a breaker's. Those that follow no probe \
follow 2 failures or more in a row, and last three times as long as the longest time between these; the failed \
probes are as many each time; four in five last as long as the middle one, within a quarter and the usual time \
between requests; and at most a quarter as many silences as long follow a success. `no`: 100 operations failed \
in a row, each begun when the first had failed, over 2 s or more, not more than 1 s apart in the mean, and \
there was no open period. `not_enough`: neither, because there were too few failures, or so few requests that \
no silence would show. Where its own callers are not seen, a caller that does one thing at a time, tries again \
under a new name with a new body, at once at first and then at even pauses, twenty times or more, looks like \
a breaker.

`detail`: `threshold` and `threshold_most`, the failures in a row that open it, at least and at most (others \
that were under way then may have failed too); `open_ms`, the shortest open period that is as long as the \
middle one; `probes`, how many requests were let through at a time and failed; `opened`, how many open \
periods; `closed`, after how many a success followed; `periods`, the last 20 of them (`opened_at`, \
`probe_at`, `closed_at`: when the first success was told, or `null`); `usual_ms`, the usual time between \
requests; `demand`, in how many its own callers were answered without a call; `in_a_row`, how many operations failed \
in a row without an open period.",
    about: About::Caller,
    judge,
};

/// Open periods from which on there is a breaker: where calls were asked for, and where it is not known.
const PERIODS: usize = 2;
const ALONE: usize = 3;
/// The most requests that a breaker lets through to see whether it may close.
const PROBES: usize = 10;
/// Calls that would have been made for what was answered without, from which on demand is seen.
const DEMAND: f64 = 3.0;
/// How much longer an open period is than the longest time between the requests that opened it.
const GROWN: f64 = 3.0;
/// Operations that fail in a row, and nothing happens.
const IN_A_ROW: usize = 100;
/// How long they take together at least, and how far they are apart at most, in milliseconds.
const ROW_MS: f64 = 2_000.0;
const APART_MS: f64 = 1_000.0;
/// Open periods that are shown.
const SHOWN: usize = 20;

/// An open period.
struct Period<'s> {
    /// What came before it.
    spell: &'s Spell,
    /// Whether it follows failed probes.
    again: bool,
    probe: RecordId,
    probe_at: Timestamp,
    closed_at: Option<Timestamp>,
    /// Whether calls would have been made in it for what was answered without.
    demand: bool,
}

impl Period<'_> {
    /// The failure that opened it, if `threshold` are enough.
    fn opened(&self, threshold: usize) -> Option<End> {
        let (least, most) = self.spell.bounds();
        let n = if self.again {
            least
        } else {
            threshold.max(least).min(most)
        };
        self.spell.failures().get(n.saturating_sub(1)).copied()
    }
}

fn judge(case: &Case<'_>) -> Judged {
    let (calls, ends) = seen(case);
    let (usual, known) = usual(&calls, &ends);
    let spells = spells(&calls, &ends, usual);
    let found = periods(case, &calls, &spells);
    let periods = &found.periods;
    let row = longest_row(&calls, &ends, periods);

    let threshold = threshold(periods);
    let opened: Vec<Option<End>> = periods
        .iter()
        .map(|p| p.opened(threshold.map_or(0, |(least, _)| least)))
        .collect();
    let length = |(p, opened): (&Period<'_>, &Option<End>)| Some(ms((*opened)?.at, p.probe_at));
    let lengths = periods.iter().zip(&opened);
    let lengths: Vec<f64> = lengths.map(|p| length(p).unwrap_or_default()).collect();
    let middle = lengths.iter().copied().collect::<Samples>().median();
    let alike = |ms: &&f64| (**ms - middle).abs() <= middle / 4.0 + usual;
    let as_long: Samples = lengths.iter().filter(alike).copied().collect();
    let quiet = found.quiet.iter().filter(|ms| **ms >= middle * 0.75);

    let demand = periods.iter().filter(|p| p.demand).count();
    let failed_probes = periods.iter().filter(|p| p.again);
    let probes: Samples = failed_probes.map(|p| p.spell.calls as f64).collect();
    let like_a_breakers = || {
        // Waits that grow from attempt to attempt do so from the first.
        let at_once = |(p, ms): (&Period<'_>, &f64)| {
            let failures = p.spell.failures();
            p.again || failures.len() >= 2 && *ms >= longest_gap(&calls, failures) * GROWN
        };
        periods.len() >= ALONE
            && periods.iter().zip(&lengths).all(at_once)
            && probes.width() < 1.0
            && as_long.len() * 5 >= periods.len() * 4
            && quiet.count() * 4 <= periods.len()
    };
    let is_one = known
        && periods.len() >= PERIODS
        && found.others * 20 <= periods.len()
        && match found.callers_seen {
            true => demand == periods.len(),
            false => like_a_breakers(),
        };
    let verdict = if is_one {
        Verdict::Yes
    } else if row.is_long {
        Verdict::No
    } else {
        Verdict::NotEnough
    };

    let shown = periods.len().saturating_sub(SHOWN);
    let shown = periods.iter().zip(&opened).skip(shown);
    let shown = shown.map(|(p, opened)| {
        json!({
            "opened_at": opened.map(|end| end.at),
            "probe_at": p.probe_at,
            "closed_at": p.closed_at,
        })
    });
    let figures = json!({
        "threshold": threshold.map(|(least, _)| least),
        "threshold_most": threshold.map(|(_, most)| most),
        "open_ms": (as_long.len() > 0).then(|| rounded(as_long.least())),
        "probes": (probes.len() > 0).then(|| probes.median() as usize),
        "opened": periods.len(),
        "closed": periods.iter().filter(|p| p.closed_at.is_some()).count(),
        "periods": shown.collect::<Vec<_>>(),
        "usual_ms": known.then(|| rounded(usual)),
        "demand": demand,
        "in_a_row": row.operations,
    });
    let ids = match verdict {
        Verdict::Yes => periods
            .iter()
            .zip(&opened)
            .flat_map(|(p, opened)| [opened.map(|end| calls[end.call].id), Some(p.probe)])
            .flatten()
            .collect(),
        _ => row.records,
    };
    Judged {
        verdict,
        detail: detail(figures),
        records: ids,
    }
}

/// What was made of the silences.
#[derive(Default)]
struct Found<'s> {
    periods: Vec<Period<'s>>,
    /// Whether it is seen what the caller is asked for.
    callers_seen: bool,
    /// Silences after failures that are none of a breaker.
    others: usize,
    /// How long those after a success lasted.
    quiet: Vec<f64>,
}

fn periods<'s>(case: &Case<'_>, calls: &[Call], spells: &'s [Spell]) -> Found<'s> {
    let wanted = Wanted::new(case, calls, spells);
    let mut found = Found {
        callers_seen: wanted.calls.is_some(),
        ..Found::default()
    };
    // While it is open: how many failures there were before.
    let mut open: Option<usize> = None;
    for pair in spells.windows(2) {
        let [spell, next] = pair else { continue };
        let Some(silence) = &spell.silence else {
            continue;
        };
        let was_open = open.take().filter(|_| spell.calls <= PROBES);
        let failures = spell.failures();
        if !silence.after_failure {
            if failures.is_empty() {
                found.quiet.push(ms(silence.since, silence.until));
            }
            continue;
        }
        if wanted.is_nothing(silence) {
            continue;
        }
        let success = next.success();
        let before = was_open.unwrap_or(failures.len());
        let tries = next.calls == 1 || next.calls <= PROBES && next.calls * 2 < before;
        if success.is_none() && !tries {
            found.others += 1;
            continue;
        }
        found.periods.push(Period {
            spell,
            again: was_open.is_some(),
            probe: silence.probe,
            probe_at: silence.until,
            closed_at: success,
            demand: wanted.answered_without(silence) >= DEMAND,
        });
        open = Some(before);
    }
    found
}

/// What the caller's own callers ask it for.
struct Wanted<'c> {
    case: &'c Case<'c>,
    /// How many calls are usually made for each of it; `None`: it is not seen.
    calls: Option<f64>,
}

impl<'c> Wanted<'c> {
    fn new(case: &'c Case<'c>, calls: &[Call], spells: &[Spell]) -> Self {
        let count = |from, until| case.incoming.between(from, until);
        let all = match calls {
            [first, .., last] => count(first.started, last.started),
            _ => 0,
        };
        let silences = spells.iter().filter_map(|spell| spell.silence.as_ref());
        let silences = silences.filter(|silence| silence.after_failure);
        let silent: usize = silences.map(|s| count(s.since, s.until)).sum();
        let usual = all.saturating_sub(silent);
        Self {
            case,
            calls: (usual > 0).then(|| calls.len() as f64 / usual as f64),
        }
    }

    /// Whether it is seen, and is nothing during a silence but what ends it.
    fn is_nothing(&self, silence: &Silence) -> bool {
        let asked = self.case.incoming.between(silence.since, silence.until);
        self.calls.is_some() && asked <= 1
    }

    /// How many calls would have been made for what was answered during a silence.
    fn answered_without(&self, silence: &Silence) -> f64 {
        let (since, until) = (silence.since, silence.until);
        let answered = self.case.incoming.answered_between(since, until);
        answered as f64 * self.calls.unwrap_or_default()
    }
}

/// How many failures in a row open it, at least and at most: what goes with all periods, or else with
/// half of them.
fn threshold(periods: &[Period<'_>]) -> Option<(usize, usize)> {
    let first = periods.iter().filter(|p| !p.again);
    let bounds: Vec<(usize, usize)> = first.map(|p| p.spell.bounds()).collect();
    let least: Samples = bounds.iter().map(|(least, _)| *least as f64).collect();
    let most: Samples = bounds.iter().map(|(_, most)| *most as f64).collect();
    let (from, to) = match least.greatest() <= most.least() {
        true => (least.greatest(), most.least()),
        false => (least.median(), most.median()),
    };
    (least.len() > 0).then_some((from as usize, to as usize))
}

/// The longest time between the requests that failed so, in milliseconds.
fn longest_gap(calls: &[Call], failures: &[End]) -> f64 {
    let mut started: Vec<Timestamp> = failures.iter().map(|f| calls[f.call].started).collect();
    started.sort_unstable();
    let gaps = started.windows(2).map(|pair| ms(pair[0], pair[1]));
    gaps.fold(0.0, f64::max)
}

/// Operations that failed in a row, without an open period.
#[derive(Default)]
struct Row {
    operations: usize,
    /// Whether there were enough, for long enough.
    is_long: bool,
    records: Vec<RecordId>,
}

/// The longest row there is.
fn longest_row(calls: &[Call], ends: &[End], periods: &[Period<'_>]) -> Row {
    let mut longest = Row::default();
    let mut row = Row::default();
    let mut seen = HashSet::new();
    // When the first failure was known.
    let mut since: Option<Timestamp> = None;
    let mut periods = periods.iter().peekable();
    for end in ends {
        let mut opened = false;
        while periods.next_if(|p| p.probe_at <= end.at).is_some() {
            opened = true;
        }
        if opened || !end.failed {
            row = Row::default();
            seen.clear();
            since = None;
        }
        if !end.failed {
            continue;
        }
        let since = *since.get_or_insert(end.at);
        let call = &calls[end.call];
        if call.started < since || !seen.insert(call.operation) {
            continue;
        }
        row.operations += 1;
        let took = ms(since, call.started);
        row.is_long |= row.operations >= IN_A_ROW
            && took >= ROW_MS
            && took <= APART_MS * row.operations as f64;
        if row.records.len() < SHOWN {
            row.records.push(call.id);
        }
        if (row.is_long, row.operations) > (longest.is_long, longest.operations) {
            longest.operations = row.operations;
            longest.is_long = row.is_long;
            longest.records.clone_from(&row.records);
        }
    }
    longest
}

#[cfg(test)]
mod tests;

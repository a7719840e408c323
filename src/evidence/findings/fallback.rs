//! `fallback`: what fails below is hidden from those above.

use std::collections::HashSet;

use serde_json::json;

use super::attempt::{failed, told};
use super::figures::detail;
use super::{About, Case, Finder, Judged, Logical, Verdict};
use crate::evidence::{Record, RecordId};

pub static FINDER: Finder = Finder {
    name: "fallback",
    summary: "when what it calls fails, the caller answers its own callers all the same",
    definition: "\
Judged from operations that failed in the end: every attempt was answered with 5xx, 408, 425 or 429, not \
answered, or given up, whether a rule had it fail or not. Each is looked up among the requests that reached \
the caller through another proxy: the only one of the same trace, or with the same identity that its caller \
gave it (no fingerprint), on which the caller was at work when it called. Several that failed for the same \
method and path on behalf of the same request count once, and not at all where another of these succeeded. \
It is hidden if the caller answered that request with a status below 500 and other than 429: what the caller \
itself sent, not what a rule made of it. What is not linked is never judged.

`yes`: 5 or more are linked, and half of them or more are hidden. `no`: 5 or more are linked, and fewer are \
hidden. `not_enough`: fewer than 5 are linked.

`detail`: `failures`, operations that failed; `linked`, those whose request from above is known and was \
answered; `hidden`, those of them that were hidden.",
    about: About::Caller,
    judge,
};

/// Linked failures from which on it is judged.
const LEAST: usize = 5;

fn judge(case: &Case<'_>) -> Judged {
    let failures: Vec<&Logical<'_>> = case.logical.iter().filter(|l| has_failed(l)).collect();
    // What was done for whom, in the end: another attempt may bear another name.
    let mut succeeded = HashSet::new();
    if !failures.is_empty() {
        let good = case
            .records
            .iter()
            .filter(|r| told(r).is_some() && !failed(r));
        succeeded.extend(good.filter_map(|call| purpose(case, call)));
    }
    let (mut seen, mut linked, mut hidden) = (HashSet::new(), 0, 0);
    let (mut telling, mut others) = (Vec::new(), Vec::new());
    for failure in &failures {
        let call = failure.last();
        let Some(purpose) = purpose(case, failure.first()) else {
            continue;
        };
        if succeeded.contains(&purpose) || !seen.insert(purpose) {
            continue;
        }
        let Some(above) = case.incoming.behind(failure.first()) else {
            continue;
        };
        let Some(status) = answer(above) else {
            continue;
        };
        linked += 1;
        if status < 500 && status != 429 {
            hidden += 1;
            telling.extend([call.id, above.id]);
        } else {
            others.extend([call.id, above.id]);
        }
    }
    let verdict = match linked {
        ..LEAST => Verdict::NotEnough,
        _ if hidden * 2 >= linked => Verdict::Yes,
        _ => Verdict::No,
    };
    if verdict == Verdict::No {
        telling = others;
    }
    let figures = json!({ "failures": failures.len(), "linked": linked, "hidden": hidden });
    Judged {
        verdict,
        detail: detail(figures),
        records: telling,
    }
}

fn has_failed(logical: &Logical<'_>) -> bool {
    logical.attempts.iter().all(|attempt| failed(attempt))
}

/// For which request from above a call was made, and what it asked for.
type Purpose<'r> = (RecordId, Option<&'r str>, Option<&'r str>);

fn purpose<'r>(case: &Case<'_>, call: &'r Record) -> Option<Purpose<'r>> {
    let above = case.incoming.behind(call)?;
    let request = &call.request;
    Some((above.id, request.method.as_deref(), request.path.as_deref()))
}

/// What the service itself answered.
fn answer(record: &Record) -> Option<u16> {
    record.upstream.iter().find_map(|delivery| delivery.status)
}

#[cfg(test)]
mod tests;

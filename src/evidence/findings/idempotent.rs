//! `idempotent`: the service does the same thing once, however often it gets it.

use serde_json::json;

use super::figures::detail;
use super::repeats::{Answer, Repeat, repeats};
use super::{About, Case, Finder, Judged, Verdict};

pub static FINDER: Finder = Finder {
    name: "idempotent",
    summary: "given the same thing again, the service answers as it did before, or says no",
    definition: "\
Judged from what the service answered when it got the same thing more than once: one request that a rule \
delivered again (`duplicate`), or several attempts under one name. An idempotency key, or the identity that \
is configured, names one thing whatever its body; a request id one of the same body. GET, HEAD, OPTIONS, \
TRACE, PUT and DELETE are left out: any number of them may be sent to the same effect, and answered \
differently (RFC 9110, section 9.2.2). So is what a rule has altered (`rewrite`, `corrupt`).

Each further answer is compared with the first success (2xx): `same`, a success with the same body (201 may \
become 200); `replayed`, marked so (`Idempotent-Replayed: true`); `conflict`, 409 afterwards or while the \
first was being done; `mismatch`, 422 to another body; `refused`, any other 4xx but 408, 425 and 429; \
`different`, a success with another body; `alike`, the same, but empty or also the answer to other things, \
so that it tells nothing. What failed otherwise, or was not read whole, says nothing. An answer that has a \
time of day in it is different each time.

`yes`: 3 or more say so, and none is `different`. `no`: one or more are `different`. `not_enough`: fewer \
than 3, `alike` not counted.

`detail`: `duplicates`, how many further answers were compared; `same`, `replayed`, `conflict`, `mismatch`, \
`refused`, `different`, `alike`, how many of each.",
    about: About::Called,
    judge,
};

/// Repetitions answered well from which on it is idempotent.
const LEAST: usize = 3;

fn judge(case: &Case<'_>) -> Judged {
    let repeats: Vec<Repeat> = repeats(case).into_iter().filter(|r| r.certain).collect();
    let count = |answer| repeats.iter().filter(|r| r.answer == answer).count();
    let (different, alike) = (count(Answer::Different), count(Answer::Alike));
    let verdict = match repeats.len() - different - alike {
        _ if different > 0 => Verdict::No,
        LEAST.. => Verdict::Yes,
        _ => Verdict::NotEnough,
    };
    let shown = repeats.iter().filter(|r| match r.answer {
        Answer::Different => true,
        Answer::Alike => false,
        _ => different == 0,
    });
    let figures = json!({
        "duplicates": repeats.len(),
        "same": count(Answer::Same),
        "replayed": count(Answer::Replayed),
        "conflict": count(Answer::Conflict),
        "mismatch": count(Answer::Mismatch),
        "refused": count(Answer::Refused),
        "different": different,
        "alike": alike,
    });
    Judged {
        verdict,
        detail: detail(figures),
        records: shown.flat_map(|r| r.records).collect(),
    }
}

//! `double_effect`: the service seems to have done one thing twice.

use serde_json::json;

use super::figures::detail;
use super::repeats::{Answer, Repeat, repeats};
use super::{About, Case, Finder, Judged, Verdict};

pub static FINDER: Finder = Finder {
    name: "double_effect",
    summary: "the service seems to have done one thing twice (bad)",
    definition: "\
Judged from what the service answered when it got the same thing more than once: one request that a rule \
delivered again (`duplicate`), or several attempts under one name. An idempotency key, or the identity that \
is configured, names one thing whatever its body; a request id one of the same body. What has no name is the \
same if its method, path and body are, and it was sent again after a failure. GET, HEAD, OPTIONS, TRACE, PUT \
and DELETE are left out: any number of them may be sent to the same effect, and answered differently (RFC \
9110, section 9.2.2). So is what a rule has altered (`rewrite`, `corrupt`).

Each further answer is compared with the first success (2xx): `same`, a success with the same body (201 may \
become 200); `replayed`, marked so (`Idempotent-Replayed: true`); `conflict`, 409 afterwards or while the \
first was being done; `mismatch`, 422 to another body; `refused`, any other 4xx but 408, 425 and 429; \
`different`, a success with another body; `alike`, the same, but empty or also the answer to other things, \
so that it tells nothing. What failed otherwise, or was not read whole, says nothing. An answer that has a \
time of day in it is different each time.

`yes` (bad): one or more are `different`: two successes for one thing, which the service seems to have done \
twice. Only its own books can tell for certain. `no`: 3 or more say otherwise, and none is `different`. \
`not_enough`: fewer than 3, `alike` not counted.

`detail`: `duplicates`, how many further answers were compared; `suspected`, how many are `different`; \
`named`, those of them that had a name or were one request; `alike`, how many tell nothing.",
    about: About::Called,
    judge,
};

/// Repetitions from which on none of them had an effect.
const LEAST: usize = 3;

fn judge(case: &Case<'_>) -> Judged {
    let repeats = repeats(case);
    let twice = |r: &&Repeat| r.answer == Answer::Different;
    let suspected: Vec<&Repeat> = repeats.iter().filter(twice).collect();
    let alike = repeats.iter().filter(|r| r.answer == Answer::Alike).count();
    let verdict = match repeats.len() - alike {
        _ if !suspected.is_empty() => Verdict::Yes,
        LEAST.. => Verdict::No,
        _ => Verdict::NotEnough,
    };
    let figures = json!({
        "duplicates": repeats.len(),
        "suspected": suspected.len(),
        "named": suspected.iter().filter(|r| r.certain).count(),
        "alike": alike,
    });
    let ids = match verdict {
        Verdict::Yes => suspected.iter().flat_map(|r| r.records).collect(),
        _ => repeats.iter().flat_map(|r| r.records).collect(),
    };
    Judged {
        verdict,
        detail: detail(figures),
        records: ids,
    }
}

//! `unsafe_retry`: whether a caller repeats what may have been done, so that it may be done twice.

use serde_json::json;

use super::attempt::is_in_doubt;
use super::case::Case;
use super::efforts::{Effort, Efforts};
use super::figures::detail;
use super::{About, Finder, Judged, Verdict};
use crate::evidence::{Record, Strength};

pub static FINDER: Finder = Finder {
    name: "unsafe_retry",
    summary: "the caller repeats what may have been done, and nothing tells that it is the same",
    definition: "\
`yes` is bad. Judged from requests whose method is not idempotent (any but `GET`, `HEAD`, `OPTIONS`, `TRACE`, `QUERY`, `PUT` and \
`DELETE`: RFC 9110, section 9.2.2), that were sent to the upstream without an answer that came back to the caller whole \
(class `unknown`, `unseen` or `late`), and that came again after that.

Such a retry is unsafe if it has no name that the upstream could know it by (a trace id, or an equal body, is none); \
if it has another name than the attempt in doubt (`other_identity`: the same body, in the same trace if in any, within 10 s after the failure, \
where bodies tell operations apart); or if it has the same name and another body. It is safe if name and body are the same.

`yes`: at least one was unsafe. `no`: at least 3 were safe, and none unsafe. `not_enough`: neither. Requests without a name \
whose equals succeeded too can't be told from new ones and are left out, as are bodies that were not read whole.

`detail`: `retries`; `safe`, `unsafe`; and of these `no_identity`, `other_identity`, `other_body`; `unclear`, requests left out.",
    about: About::Caller,
    judge,
};

/// Fewer safe ones show nothing.
const LEAST: usize = 3;

/// What a retry tells the upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Retry {
    Safe,
    NoIdentity,
    OtherIdentity,
    OtherBody,
}

fn judge(case: &Case<'_>) -> Judged {
    let efforts = Efforts::of_things(case);
    let mut retries = Vec::new();
    let mut unclear = efforts.unclear;
    for effort in efforts
        .each
        .iter()
        .filter(|effort| !is_idempotent(effort.first()))
    {
        for (doubted, retry) in in_doubt(effort) {
            match judged(doubted, retry) {
                Some(how) => retries.push((how, doubted, retry)),
                None => unclear += 1,
            }
        }
    }
    let count = |wanted: Retry| retries.iter().filter(|(how, ..)| *how == wanted).count();
    let safe = count(Retry::Safe);
    let verdict = match (retries.len() - safe, safe) {
        (1.., _) => Verdict::Yes,
        (0, LEAST..) => Verdict::No,
        _ => Verdict::NotEnough,
    };
    let telling = |(how, ..): &&(Retry, _, _)| verdict != Verdict::Yes || *how != Retry::Safe;
    let records = retries.iter().filter(telling);
    Judged {
        verdict,
        detail: detail(json!({
            "retries": retries.len(),
            "safe": safe,
            "unsafe": retries.len() - safe,
            "no_identity": count(Retry::NoIdentity),
            "other_identity": count(Retry::OtherIdentity),
            "other_body": count(Retry::OtherBody),
            "unclear": unclear,
        })),
        records: records
            .flat_map(|(_, doubted, retry)| [doubted.id, retry.id])
            .collect(),
    }
}

fn is_idempotent(record: &Record) -> bool {
    let method = record.request.method.as_deref().unwrap_or_default();
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PUT" | "DELETE"
    )
}

/// Each retry that came while it was in doubt whether an earlier attempt had been done, with the last
/// such attempt.
fn in_doubt<'r>(effort: &Effort<'r>) -> Vec<(&'r Record, &'r Record)> {
    let mut doubted = None;
    let mut found = Vec::new();
    for record in &effort.attempts {
        found.extend(doubted.map(|doubted| (doubted, *record)));
        if is_in_doubt(record) {
            doubted = Some(*record);
        }
    }
    found
}

/// What a retry tells of its being one; `None`: its body is not known.
fn judged(doubted: &Record, retry: &Record) -> Option<Retry> {
    let (Some(before), Some(now)) = (&doubted.identity, &retry.identity) else {
        return None;
    };
    if before.strength == Strength::Weak || now.strength == Strength::Weak {
        return Some(Retry::NoIdentity);
    }
    if (before.by, &before.value) != (now.by, &now.value) {
        return Some(Retry::OtherIdentity);
    }
    match (doubted.request.digest?, retry.request.digest?) {
        (before, now) if before == now => Some(Retry::Safe),
        _ => Some(Retry::OtherBody),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulated::{Habits, Key, Met, World, noise};
    use super::*;

    fn seen(habits: &Habits, things: usize, met: fn(usize) -> Met) -> super::super::Finding {
        let mut world = World::new(habits.seed);
        world.one_by_one(habits, 0..10, 50.0, |_, _| Met::Good);
        world.one_by_one(habits, 10..10 + things, 50.0, |_, attempt| met(attempt));
        world.found("unsafe_retry", 60_000.0)
    }

    fn lost_once(attempt: usize) -> Met {
        if attempt == 1 { Met::Lost } else { Met::Good }
    }

    proptest! {
        #[test]
        fn what_may_have_been_done_is_repeated_safely_or_not(
            key in prop_oneof![
                Just(Key::Stable), Just(Key::Missing), Just(Key::Changing), Just(Key::OtherBody)
            ],
            patch: bool, reset: bool, things in 3_usize..9, noise in noise(), seed: u64,
        ) {
            let method = if patch { "PATCH" } else { "POST" };
            let habits = Habits { key, method, noise, seed, ..Habits::default() };
            let met = if reset {
                |attempt| if attempt == 1 { Met::Reset } else { Met::Good }
            } else {
                lost_once
            };
            let found = seen(&habits, things, met);
            let (verdict, name) = match key {
                Key::Stable => (Verdict::No, "safe"),
                Key::Missing => (Verdict::Yes, "no_identity"),
                Key::Changing => (Verdict::Yes, "other_identity"),
                Key::OtherBody => (Verdict::Yes, "other_body"),
            };
            prop_assert_eq!(found.is(verdict).figure(name) as usize, things);
            prop_assert_eq!(found.figure("retries") as usize, things);
        }

        #[test]
        fn what_was_refused_or_is_idempotent_may_be_repeated(key: bool, get: bool, seed: u64) {
            let key = if key { Key::Missing } else { Key::Changing };
            let method = if get { "GET" } else { "POST" };
            let habits = Habits { key, method, seed, ..Habits::default() };
            let met = if get { lost_once } else { |_| Met::Refused(None) };
            let found = seen(&habits, 9, met);
            prop_assert_eq!(found.is(Verdict::NotEnough).figure("retries"), 0.0);
        }
    }

    #[test]
    fn the_doubt_outlasts_a_refusal() {
        let met = |attempt| [Met::Lost, Met::Refused(None), Met::Good][attempt - 1];
        let habits = Habits {
            key: Key::Missing,
            ..Habits::default()
        };
        let found = seen(&habits, 3, met);
        assert_eq!(found.is(Verdict::Yes).figure("unsafe"), 6.0);
    }

    /// Equal bodies under other keys, whatever became of the one before.
    #[test]
    fn other_keys_are_other_operations_where_bodies_do_not_tell() {
        let habits = Habits {
            limit: Some(1),
            key: Key::Changing,
            ..Habits::default()
        };
        let mut world = World::new(1);
        for n in 0..20 {
            let met = if n % 3 == 0 { Met::Reset } else { Met::Good };
            world.operation(&habits, n, n as f64 * 100.0, |_| met);
            let one_of_two = (n % 2) as u64;
            world.records[n].request.digest = Some(crate::evidence::Digest(one_of_two));
        }
        world.found("unsafe_retry", 60_000.0).is(Verdict::NotEnough);
    }
}

//! What happened to each operation, by its identity: twice, repaired, tried again.

use std::collections::HashMap;

use super::super::sample::{Answer, Micros, Op, Seen};
use crate::evidence::{Class, RecordId};

/// Attempts at one thing: those of one edge, method, path and identity. A weak identity joins only what the proxy
/// counted as a further attempt.
fn logical(seen: &[&Seen]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..seen.len()).collect();
    order.sort_by_key(|&n| (seen[n].began, seen[n].id));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut latest: HashMap<_, usize> = HashMap::new();
    for n in order {
        let one = seen[n];
        let what = (&one.method, &one.path);
        let key = one.identity.as_ref().map(|name| (one.edge, what, name));
        let known = key.and_then(|key| latest.get(&key).copied());
        match known.filter(|_| one.strong || one.attempt > 1) {
            Some(group) => groups[group].push(n),
            None => {
                if let Some(key) = key {
                    latest.insert(key, groups.len());
                }
                groups.push(vec![n]);
            }
        }
    }
    groups
}

/// Operations as those saw them who asked for them, whatever it took: good if any attempt was, and
/// over when that was, or else with the last.
#[must_use]
pub fn logical_ops(seen: &[&Seen]) -> Vec<Op> {
    let groups = logical(seen);
    let one = |group: &Vec<usize>| {
        let attempts = group.iter().map(|&n| seen[n].op());
        let good = attempts.clone().find(|op| op.good == Some(true));
        let told = good.or(attempts.clone().next_back())?;
        let first = attempts.clone().next()?;
        Some(Op {
            at: first.at,
            ..told
        })
    };
    groups.iter().filter_map(one).collect()
}

/// What took effect more than once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Twice {
    /// How many operations were looked at.
    pub operations: u64,
    /// Those that did, each with its records.
    pub found: Vec<Vec<(usize, RecordId)>>,
    /// Those of which it can't be said: they succeeded twice, and not both answers are known.
    pub unclear: u64,
}

/// Operations of which a service gave two successes that are not one answer given again; or, where
/// `deliveries` are counted, that it received more than once.
#[must_use]
pub fn twice(seen: &[&Seen], deliveries: bool) -> Twice {
    let mut twice = Twice::default();
    // What only asks has no effect (RFC 9110, section 9.2.1).
    let safe = |method: &str| matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
    let acts = |one: &&&Seen| !one.method.as_deref().is_some_and(safe);
    let seen: Vec<&Seen> = seen.iter().filter(acts).copied().collect();
    for group in logical(&seen) {
        twice.operations += 1;
        let records = || group.iter().map(|&n| (seen[n].edge, seen[n].id)).collect();
        if deliveries {
            let received: u32 = group.iter().map(|&n| seen[n].deliveries).sum();
            if received > 1 {
                twice.found.push(records());
            }
            continue;
        }
        let answers = group.iter().flat_map(|&n| &seen[n].answers);
        let succeeded = |a: &&Answer| a.status.is_some_and(|s| (200..300).contains(&s));
        let own: Vec<_> = answers.filter(succeeded).filter(|a| !a.replayed).collect();
        let mut known: Vec<_> = own
            .iter()
            .filter_map(|a| Some((a.status?, a.digest?)))
            .collect();
        let whole = known.len() == own.len();
        known.sort_unstable();
        known.dedup();
        if known.len() > 1 {
            twice.found.push(records());
        } else if own.len() > 1 && !whole {
            twice.unclear += 1;
        }
    }
    twice
}

/// What became of what callers could not know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Repairs {
    /// How long each took that was repaired in time.
    pub repaired: Vec<Micros>,
    /// Those that were not, though there was time.
    pub left: Vec<(usize, RecordId)>,
    /// Those for which time was not up when the drill was over.
    pub early: u64,
    /// Those that nothing joins to another.
    pub nameless: u64,
}

/// Who leaves, and what it asks next, are seen on two connections: this much sooner is no sooner.
const SLACK: Micros = 25_000;

/// Whether what ended as one of these classes was found out within a time: an operation of the same
/// identity, or one that asks for it in its path, was answered without an error after the service had
/// answered this one, or else after its caller had left. `seen`: all operations of the edges that are
/// meant; `end`: until when any would have been seen.
#[must_use]
pub fn repairs(seen: &[&Seen], classes: &[Class], within: Micros, end: Micros) -> Repairs {
    let mut answered: HashMap<(usize, &str), Vec<Micros>> = HashMap::new();
    for one in seen {
        let good = one.class == Class::Acknowledged && !one.failed;
        let Some(ended) = one.ended.filter(|_| good) else {
            continue;
        };
        let named = one.identity.iter().map(|name| &**name);
        let path = one.path.as_deref().unwrap_or_default();
        let asked = path.split('/').filter(|part| !part.is_empty());
        for name in named.chain(asked) {
            answered.entry((one.edge, name)).or_default().push(ended);
        }
    }
    let mut repairs = Repairs::default();
    for one in seen.iter().filter(|one| classes.contains(&one.class)) {
        let Some(ended) = one.ended else { continue };
        let Some(name) = &one.identity else {
            repairs.nameless += 1;
            repairs.left.push((one.edge, one.id));
            continue;
        };
        let after = answered.get(&(one.edge, &**name)).into_iter().flatten();
        // A caller that asks elsewhere first, and hangs up then, may know before it has left.
        let settled = one.answers.iter().map(|answer| answer.at).max();
        let settled = settled.unwrap_or(ended - SLACK);
        let first = after
            .filter(|at| **at >= settled)
            .map(|at| (at - ended).max(0))
            .min();
        match first {
            Some(took) if took <= within => repairs.repaired.push(took),
            _ if end - ended < within => repairs.early += 1,
            _ => repairs.left.push((one.edge, one.id)),
        }
    }
    repairs
}

/// The most retries of any operation, and its records. `None`: there was no operation.
#[must_use]
pub fn most_retries(seen: &[&Seen]) -> Option<(u64, Vec<(usize, RecordId)>)> {
    let groups = logical(seen);
    let most = groups.iter().max_by_key(|group| group.len())?;
    let records = most.iter().map(|&n| (seen[n].edge, seen[n].id)).collect();
    Some((most.len() as u64 - 1, records))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::sample::tests::seen;
    use super::*;

    fn named(n: u64, began: Micros, name: &str) -> Seen {
        let mut one = seen(n, began);
        one.identity = Some(name.into());
        one.strong = true;
        one
    }

    fn lost(n: u64, began: Micros, name: &str) -> Seen {
        let mut one = named(n, began, name);
        one.class = Class::Unseen;
        one.failed = true;
        one
    }

    fn refs(all: &[Seen]) -> Vec<&Seen> {
        all.iter().collect()
    }

    #[test]
    fn two_answers_that_differ_are_two_effects() {
        let mut all = [
            lost(1, 0, "pay-1"),
            named(2, 10, "pay-1"),
            named(3, 20, "pay-2"),
        ];
        let found = twice(&refs(&all), false);
        assert_eq!(found.found, [[(0, all[0].id), (0, all[1].id)]]);
        assert_eq!((found.operations, found.unclear), (2, 0));
        // Who only asks may ask as often as he likes; another path is another thing.
        let mut asks = all.clone();
        asks.iter_mut()
            .for_each(|one| one.method = Some("GET".into()));
        assert!(twice(&refs(&asks), false).found.is_empty());
        let mut other = all.clone();
        other[1].path = Some("/refund".into());
        assert!(twice(&refs(&other), false).found.is_empty());
        // The same answer again, or one that says that it is.
        all[1].answers[0].digest = all[0].answers[0].digest;
        assert!(twice(&refs(&all), false).found.is_empty());
        all[1].answers[0].digest = Some(99);
        all[1].answers[0].replayed = true;
        assert!(twice(&refs(&all), false).found.is_empty());
        // It was delivered twice all the same.
        assert_eq!(twice(&refs(&all), true).found.len(), 1);
        // An answer of which not all is known.
        all[1].answers[0] = Answer {
            at: 0,
            status: Some(200),
            digest: None,
            replayed: false,
        };
        let found = twice(&refs(&all), false);
        assert_eq!((found.found.len(), found.unclear), (0, 1));
    }

    #[test]
    fn a_weak_identity_joins_only_further_attempts() {
        let mut all = [named(1, 0, "x"), named(2, 10, "x"), named(3, 20, "x")];
        for one in &mut all {
            one.strong = false;
        }
        all[1].attempt = 2;
        assert_eq!(most_retries(&refs(&all)).unwrap().0, 1);
        assert_eq!(twice(&refs(&all), false).operations, 2);
        assert_eq!(most_retries(&[]), None);
    }

    #[test]
    fn a_repair_is_an_answer_to_the_same_name() {
        let second = 1_000_000;
        let all = [
            lost(1, 0, "a"),
            named(2, 2 * second, "a"),
            lost(3, 0, "b"),
            lost(4, 9 * second, "c"),
            lost(5, 0, "d"),
        ];
        let mut asks = seen(6, second);
        asks.path = Some("/payments/d".into());
        let all: Vec<_> = all.into_iter().chain([asks]).collect();
        let found = repairs(&refs(&all), &[Class::Unseen], 5 * second, 10 * second);
        assert_eq!(found.repaired.len(), 2);
        assert_eq!(found.left, [(0, all[2].id)]);
        assert_eq!((found.early, found.nameless), (1, 0));
        let sooner = repairs(&refs(&all), &[Class::Unseen], second / 2, 10 * second);
        assert_eq!(sooner.left.len(), 4 - sooner.early as usize);
    }

    #[test]
    fn a_repair_may_be_known_before_its_caller_has_hung_up() {
        let all = |asked, answered| {
            let mut lost = lost(1, 0, "a");
            lost.ended = Some(500_000);
            lost.answers[0].at = 20_000;
            let mut asks = named(2, asked, "a");
            asks.ended = Some(answered);
            [lost, asks]
        };
        let repaired = |all: &[Seen]| {
            let found = repairs(&refs(all), &[Class::Unseen], 1_000_000, 9_000_000);
            found.repaired.len() == 1 && found.left.is_empty()
        };
        assert!(repaired(&all(490_000, 495_000)));
        // What was answered before it took effect tells nothing of it.
        assert!(!repaired(&all(5_000, 15_000)));
        // Where no answer was seen, it may have taken effect until it was cut.
        let mut unknown = all(400_000, 410_000);
        unknown[0].answers.clear();
        assert!(!repaired(&unknown));
        unknown[1].ended = Some(490_000);
        assert!(repaired(&unknown));
    }

    proptest! {
        /// Simulated callers: so many attempts each, one effect or more.
        #[test]
        fn callers_are_found_out(
            callers in prop::collection::vec((1usize..6, any::<bool>()), 1..40),
            strong in any::<bool>(),
        ) {
            let mut all = Vec::new();
            let mut n = 0;
            for (caller, (attempts, again)) in callers.iter().enumerate() {
                for attempt in 0..*attempts {
                    n += 1;
                    let mut one = lost(n, (attempt * 1000 + caller) as i64, &format!("pay-{caller}"));
                    one.attempt = attempt as u32 + 1;
                    one.strong = strong;
                    if !*again {
                        one.answers[0].digest = Some(caller as u64);
                    }
                    all.push(one);
                }
            }
            let most = callers.iter().map(|(attempts, _)| *attempts).max().unwrap() as u64 - 1;
            prop_assert_eq!(most_retries(&refs(&all)).unwrap().0, most);
            let wrong = callers.iter().filter(|(attempts, again)| *again && *attempts > 1).count();
            let found = twice(&refs(&all), false);
            prop_assert_eq!(found.found.len(), wrong);
            prop_assert_eq!(found.operations as usize, callers.len());
        }
    }
}

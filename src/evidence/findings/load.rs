//! What retries do to the load: along a chain of services, and while most requests fail.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::attempt::failed;
use super::case::Case;
use super::efforts::{Efforts, Link};
use super::figures::{ratio, share};
use crate::evidence::RecordId;

/// Each edge that carries what this one carries, in the order in which they were first used.
pub(super) fn chain(case: &Case<'_>) -> Vec<Value> {
    type Edge<'r> = (&'r str, &'r str);
    let carried: HashSet<Link<'_>> = case.records.iter().flat_map(|r| Link::of(r)).collect();
    let mut edges: Vec<Edge<'_>> = Vec::new();
    let mut counts: HashMap<Edge<'_>, (usize, HashSet<Link<'_>>)> = HashMap::new();
    for record in case.all {
        // By what links it best, so that each is counted once.
        let mut links = Link::of(record);
        let Some(link) = links.find(|link| carried.contains(link)) else {
            continue;
        };
        let edge = (&*record.from, &*record.to);
        let (attempts, operations) = counts.entry(edge).or_insert_with(|| {
            edges.push(edge);
            Default::default()
        });
        *attempts += 1;
        operations.insert(link);
    }
    if edges.len() < 2 {
        return Vec::new();
    }
    let figure = |(from, to): &Edge<'_>| {
        let (attempts, operations) = &counts[&(*from, *to)];
        json!({
            "from": from,
            "to": to,
            "attempts": attempts,
            "operations": operations.len(),
            "amplification": share(*attempts, operations.len()),
        })
    };
    edges.iter().map(figure).collect()
}

/// What came in one second.
#[derive(Default)]
struct Second {
    requests: usize,
    failures: usize,
    retries: usize,
    first_failures: usize,
}

/// How retries change the load while most requests fail.
pub(super) fn load(case: &Case<'_>, efforts: &Efforts<'_>) -> Value {
    let mut seconds: BTreeMap<u64, Second> = BTreeMap::new();
    let retries = efforts.each.iter().flat_map(|effort| effort.ids().skip(1));
    let retries: HashSet<RecordId> = retries.collect();
    for record in &case.records {
        let second = seconds.entry(record.started.0 / 1_000_000).or_default();
        let is_retry = retries.contains(&record.id);
        second.requests += 1;
        second.failures += usize::from(failed(record));
        second.retries += usize::from(is_retry);
        second.first_failures += usize::from(failed(record) && !is_retry);
    }
    let (bad, good): (Vec<_>, Vec<_>) = seconds
        .values()
        .partition(|second| second.failures * 2 > second.requests);
    let sum = |seconds: &[&Second], of: fn(&Second) -> usize| {
        seconds.iter().map(|s| of(s)).sum::<usize>()
    };
    let failures = sum(&bad, |s| s.failures);
    let names = [
        "rate_before",
        "rate_during",
        "retry_share",
        "storm",
        "budget",
    ];
    if bad.len() < 3 || good.len() < 3 || failures < 20 {
        return names
            .into_iter()
            .map(|name| (name.to_owned(), Value::Null))
            .collect();
    }
    let rate = |seconds: &[&Second]| sum(seconds, |s| s.requests) as f64 / seconds.len() as f64;
    let (before, during) = (rate(&good), rate(&bad));
    let (requests, retries) = (sum(&bad, |s| s.requests), sum(&bad, |s| s.retries));
    let (first, failed) = (requests - retries, sum(&bad, |s| s.first_failures));
    let storm = during >= before * 2.0 && retries * 2 >= requests;
    let budget = retries > 0 && retries * 4 <= first && failed > retries * 2;
    let values = [
        ratio(before),
        ratio(during),
        share(retries, requests),
        storm.into(),
        budget.into(),
    ];
    names.into_iter().map(str::to_owned).zip(values).collect()
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Habits, Met, Spacing, World, near};

    #[test]
    fn a_storm_is_told_from_a_few_retries() {
        for (limit, storm, budget) in [(1, false, false), (5, true, false)] {
            let habits = Habits {
                limit: Some(limit),
                spacing: Spacing::Fixed(60.0),
                ..Habits::default()
            };
            let mut world = World::new(1);
            world.at_intervals(&habits, 0..100, 50.0, |_, _| Met::Good);
            world.at_intervals(&habits, 100..200, 50.0, |_, _| Met::Refused(None));
            world.at_intervals(&habits, 200..300, 50.0, |_, _| Met::Good);
            let found = world.found("bounded_retries", 60_000.0);
            assert_eq!(found.detail["storm"], storm, "{found:?}");
            assert_eq!(found.detail["budget"], budget, "{found:?}");
            near(found.figure("rate_before"), 20.0, 0.1, 0.0);
            near(found.figure("rate_during"), 20.0 * limit as f64, 0.2, 0.0);
        }
        let mut world = World::new(1);
        world.at_intervals(&Habits::default(), 0..100, 50.0, |_, _| Met::Good);
        let once = Habits {
            limit: Some(2),
            ..Habits::default()
        };
        let never = Habits {
            limit: Some(1),
            ..Habits::default()
        };
        for n in 100..300 {
            let habits = if n % 10 == 0 { &once } else { &never };
            world.operation(habits, n, n as f64 * 50.0, |_| Met::Refused(None));
        }
        let found = world.found("bounded_retries", 60_000.0);
        assert_eq!(
            (&found.detail["storm"], &found.detail["budget"]),
            (&false.into(), &true.into())
        );
    }
}

//! Services that shed load, that queue, and that merely fail.

use proptest::prelude::*;

use super::super::Verdict;
use super::super::made_up::{Chance, few, found, given_up, named, on_edge, request};
use super::super::simulated::near;
use crate::evidence::{Class, Outcome, Record};

/// A service that can do so many things at a time; more is asked of it from the third second to the eighth.
#[derive(Debug, Clone)]
struct Service {
    places: usize,
    took: f64,
    /// How many times what it can do is asked of it then.
    asked: f64,
    status: u16,
    noise: f64,
    seed: u64,
}

/// When it is asked: seldom, often, seldom.
fn arrivals(service: &Service, chance: &mut Chance) -> Vec<f64> {
    let able = service.took / service.places as f64;
    let (mut times, mut now) = (Vec::new(), 0.0);
    while now < 10_000.0 {
        let busy = (3000.0..8000.0).contains(&now);
        now += chance.wait(if busy {
            able / service.asked
        } else {
            able * 5.0
        });
        times.push(now);
    }
    times
}

fn record_of(
    service: &Service,
    chance: &mut Chance,
    n: usize,
    from: f64,
    to: f64,
    status: u16,
) -> Record {
    let (early, late) = (
        chance.between(0.0, service.noise),
        chance.between(0.0, service.noise),
    );
    named(
        request(n as u64, from - early, to + late, status),
        &n.to_string(),
    )
}

/// What it leaves when it turns away what it has no place for.
fn shedding(service: &Service) -> Vec<Record> {
    let mut chance = Chance::new(service.seed);
    let mut ends: Vec<f64> = Vec::new();
    let each = arrivals(service, &mut chance).into_iter().enumerate();
    each.map(|(n, now)| {
        ends.retain(|end| *end > now);
        if ends.len() < service.places {
            let end = now + service.took * chance.between(0.8, 1.2);
            ends.push(end);
            record_of(service, &mut chance, n, now, end, 200)
        } else {
            let end = now + service.took * chance.between(0.02, 0.1);
            record_of(service, &mut chance, n, now, end, service.status)
        }
    })
    .collect()
}

/// How many were turned away, or served from the first of these to the last: the fewer of both.
fn enough(records: &[Record], shed: u16) -> usize {
    let of = |status| {
        let these = records
            .iter()
            .filter(move |r| r.client.status == Some(status));
        these.map(|r| r.started)
    };
    let (Some(first), Some(last)) = (of(shed).min(), of(shed).max()) else {
        return 0;
    };
    let served = of(200).filter(|at| (first..=last).contains(at));
    of(shed).count().min(served.count())
}

/// What it leaves when it has everything wait, for as long as its callers do.
fn queueing(service: &Service, patience: f64) -> Vec<Record> {
    let mut chance = Chance::new(service.seed);
    let mut free = vec![0.0_f64; service.places];
    let each = arrivals(service, &mut chance).into_iter().enumerate();
    each.map(|(n, now)| {
        free.sort_by(f64::total_cmp);
        let end = now.max(free[0]) + service.took * chance.between(0.8, 1.2);
        free[0] = end;
        match end - now <= patience {
            true => record_of(service, &mut chance, n, now, end, 200),
            false => given_up(n as u64, now, now + patience),
        }
    })
    .collect()
}

fn services() -> impl Strategy<Value = Service> {
    let status = prop_oneof![Just(503), Just(429)];
    (
        2_usize..20,
        40.0..300.0,
        1.5..4.0,
        status,
        0.0..3.0,
        any::<u64>(),
    )
        .prop_map(|(places, took, asked, status, noise, seed)| Service {
            places,
            took,
            asked,
            status,
            // Beyond a part of the time between two ends, order is lost.
            noise: f64::min(noise, took / places as f64 / 10.0),
            seed,
        })
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn shedding_is_found_and_measured(service in services()) {
        let records = shedding(&service);
        let finding = found("load_shedding", &records);
        // Chance may have asked it for hardly anything: of fewer than 10 nothing is said, of a few
        // more not always.
        match enough(&records, service.status) {
            0..10 => {
                prop_assert_eq!(finding.verdict, Verdict::NotEnough, "{:#?}", finding);
                return Ok(());
            }
            10..20 => {
                prop_assert!(finding.verdict != Verdict::No, "{:#?}", finding);
                return Ok(());
            }
            _ => prop_assert_eq!(finding.verdict, Verdict::Yes, "{:#?}", finding),
        }
        let truth = service.places as f64;
        near(finding.figure("limit"), truth, 0.2, 1.0);
        near(finding.figure("served_ms"), service.took, 0.1, 6.0);
        prop_assert!(finding.figure("shed_ms") <= service.took * 0.1 + 6.0);
    }

    #[test]
    fn queueing_is_none(service in services(), patience in prop_oneof![Just(1e9), 10.0..30.0]) {
        let records = queueing(&service, patience * service.took);
        let finding = found("load_shedding", &records);
        prop_assert!(finding.verdict != Verdict::Yes, "{:#?}", finding);
        // Where enough was waiting at all.
        let waiting = 5000.0 / service.took * service.places as f64 * (service.asked - 1.0);
        if waiting > 40.0 && patience > 1e6 && records.len() > 60 {
            finding.is(Verdict::No);
        }
    }

    #[test]
    fn failing_is_none(service in services(), one_in in 1.0..20.0, quick: bool) {
        let mut chance = Chance::new(service.seed);
        let times = arrivals(&service, &mut chance).into_iter().enumerate();
        let records: Vec<_> = times.map(|(n, now)| {
            let fails = chance.one_in(one_in) && (2000.0..9000.0).contains(&now);
            let took = service.took * if fails && quick { 0.1 } else { 1.0 } * chance.between(0.8, 1.2);
            record_of(&service, &mut chance, n, now, now + took, if fails { 503 } else { 200 })
        }).collect();
        let finding = found("load_shedding", &records);
        prop_assert!(finding.verdict != Verdict::Yes, "{:#?}", finding);
    }
}

fn service() -> Service {
    Service {
        places: 4,
        took: 100.0,
        asked: 3.0,
        status: 503,
        noise: 1.0,
        seed: 7,
    }
}

#[test]
fn what_a_rule_answers_is_not_the_services_word() {
    let mut records = shedding(&service());
    for r in records.iter_mut().filter(|r| r.client.status == Some(503)) {
        r.upstream.clear();
        r.client.outcome = Outcome::Substituted;
        r.class = Class::Substituted;
    }
    let finding = found("load_shedding", &records);
    assert_eq!(finding.figure("shed"), 0.0);
    assert_ne!(finding.verdict, Verdict::Yes);
}

#[test]
fn what_comes_from_elsewhere_is_in_flight_too() {
    let records = shedding(&service());
    // Every second request comes from another service: the limit is that of both.
    let split = records.into_iter().enumerate();
    let split: Vec<_> = split
        .map(|(n, r)| {
            if n % 2 == 0 {
                r
            } else {
                on_edge(r, "batch", "payment")
            }
        })
        .collect();
    let finding = found("load_shedding", &split);
    finding.is(Verdict::Yes);
    near(finding.figure("limit"), 4.0, 0.0, 1.0);
}

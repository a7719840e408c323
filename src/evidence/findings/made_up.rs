//! Records for tests, as systems that are known would leave them.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::simulated::{Draws, at};
use super::{Finding, Wanted};
use crate::evidence::record::Caller;
use crate::evidence::record::tests::record;
use crate::evidence::{By, Class, Delivery, Digest, Identity, Outcome, Record, Strength};

/// Chance, and the noise of a machine.
pub(super) struct Chance(Draws);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Draws(seed))
    }

    /// From `low` to `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.0.next() * (high - low)
    }

    /// The time to the next of events that come by chance.
    pub(super) fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.0.next()).ln()
    }

    pub(super) fn one_in(&mut self, n: f64) -> bool {
        self.0.next() * n < 1.0
    }
}

/// A request of `web` to `payment` that was answered.
pub(super) fn request(n: u64, started: f64, ended: f64, status: u16) -> Record {
    let mut r = record();
    r.id.n = n;
    r.started = at(started);
    r.request.method = Some("POST".into());
    r.request.path = Some("/pay".into());
    r.request.digest = Some(Digest(n + 1));
    r.client.address = Some(Caller::At(([10, 0, 0, 1], 1000).into()));
    r.client.outcome = Outcome::Answered;
    r.client.status = Some(status);
    r.client.at = Some(at(ended.max(started)));
    r.class = Class::Acknowledged;
    r.deliveries = 1;
    r.upstream.push(Delivery {
        sent_at: Some(at(started)),
        answered_at: Some(at(ended)),
        status: Some(status),
        bytes: 100,
        digest: Some(Digest(n + 1)),
        ..Delivery::default()
    });
    r
}

/// The same that its caller gave up.
pub(super) fn given_up(n: u64, started: f64, ended: f64) -> Record {
    let mut r = request(n, started, ended, 200);
    r.client.outcome = Outcome::Left;
    r.client.status = None;
    r.client.ended_at = r.client.at;
    r.class = Class::Unknown;
    r.upstream[0].answered_at = None;
    r.upstream[0].status = None;
    r.upstream[0].digest = None;
    r
}

/// Names an operation.
pub(super) fn named(mut r: Record, key: &str) -> Record {
    r.identity = Some(Identity {
        by: By::IdempotencyKey,
        value: key.to_owned(),
        strength: Strength::Strong,
    });
    r
}

/// As it is known that is not named.
pub(super) fn unnamed(mut r: Record, print: &str) -> Record {
    r.identity = Some(Identity {
        by: By::Fingerprint,
        value: print.to_owned(),
        strength: Strength::Weak,
    });
    r
}

/// Moves it to another edge.
pub(super) fn on_edge(mut r: Record, from: &str, to: &str) -> Record {
    (r.from, r.to, r.proxy) = (from.into(), to.into(), to.into());
    r
}

/// What is found of `web` and `payment`; records are judged from the last on.
pub(super) fn found(finding: &str, records: &[Record]) -> Finding {
    let ends = records
        .iter()
        .filter_map(|r| r.client.at.max(Some(r.started)));
    let now = ends.max().unwrap_or(at(0.0));
    let wanted = Wanted {
        finding: Some(finding.to_owned()),
        from: Some("web".to_owned()),
        to: Some("payment".to_owned()),
        ..Wanted::default()
    };
    let mut found = None;
    let _ = wanted.judge(records, now, |finding| {
        found = Some(finding);
        ControlFlow::Break(())
    });
    found.unwrap_or_else(|| panic!("{finding} was not judged"))
}

/// Fewer cases than usual, each of which is a simulation.
pub(super) fn few() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.div_ceil(4),
        ..config
    }
}

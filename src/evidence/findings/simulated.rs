//! Callers with known habits, and the records that a proxy would make of them.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::{Finding, Verdict, Wanted, judge};
use crate::clock::Timestamp;
use crate::evidence::record::tests::record;
use crate::evidence::{
    By, Caller, Class, Delivery, Digest, FaultSeen, Identity, Outcome, Record, RecordId, SpanId,
    Strength, Trace, TraceId,
};
use crate::operation::Phase;

/// How long it waits before a retry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spacing {
    None,
    Fixed(f64),
    Linear(f64, f64),
    /// Base, factor, cap.
    Exponential(f64, f64, f64),
}

impl Spacing {
    /// Before the retry `n`, from 1, in milliseconds.
    pub(super) fn before(self, n: usize) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Fixed(ms) => ms,
            Self::Linear(start, step) => start + step * (n - 1) as f64,
            Self::Exponential(base, factor, cap) => (base * factor.powi(n as i32 - 1)).min(cap),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Jitter {
    None,
    /// From nothing up to the wait.
    Full,
    /// From half of it up to it.
    Half,
    /// Up to so many milliseconds more.
    Plus(f64),
}

/// What it names its requests by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    Stable,
    Missing,
    Changing,
    OtherBody,
}

/// What meets an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Met {
    Good,
    /// Refused by the proxy, with so many seconds in `Retry-After`.
    Refused(Option<u32>),
    /// Answered by the upstream, and nothing comes back until the caller leaves.
    Lost,
    /// The same, and its connection is reset at once.
    Reset,
}

/// A caller with habits.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) spacing: Spacing,
    pub(super) jitter: Jitter,
    /// Attempts in all.
    pub(super) limit: Option<usize>,
    /// No attempt begins so long after the first.
    pub(super) deadline: Option<f64>,
    pub(super) timeout: Option<f64>,
    pub(super) key: Key,
    pub(super) obeys: bool,
    pub(super) method: &'static str,
    /// By how much the machine is late, at the most, in milliseconds.
    pub(super) noise: f64,
    /// Of all that is drawn.
    pub(super) seed: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            spacing: Spacing::Fixed(100.0),
            jitter: Jitter::None,
            limit: Some(3),
            deadline: None,
            timeout: Some(1000.0),
            key: Key::Stable,
            obeys: true,
            method: "POST",
            noise: 3.0,
            seed: 1,
        }
    }
}

/// Draws; the same ones of the same seed.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    /// From 0 up to 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The records of an experiment.
pub(super) struct World {
    pub(super) records: Vec<Record>,
    draws: Draws,
    /// In milliseconds.
    pub(super) now: f64,
    /// The caller is gone by then, whatever it was about.
    pub(super) ends: f64,
}

pub(super) fn at(ms: f64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + (ms.max(0.0) * 1000.0) as u64)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            records: Vec::new(),
            draws: Draws(seed),
            now: 0.0,
            ends: f64::INFINITY,
        }
    }

    /// The caller does one thing, begun at `start`. Answers when it was done with it.
    pub(super) fn operation(
        &mut self,
        habits: &Habits,
        n: usize,
        start: f64,
        met: impl Fn(usize) -> Met,
    ) -> f64 {
        let mut begin = start;
        for attempt in 1.. {
            if begin > self.ends {
                break;
            }
            let met = met(attempt);
            let mut told = self.attempt(habits, n, attempt, begin, met);
            self.now = self.now.max(if told.is_finite() {
                told.min(self.ends)
            } else {
                begin
            });
            let over = habits.limit.is_some_and(|limit| attempt >= limit)
                || habits.deadline.is_some_and(|d| told - start >= d);
            if met == Met::Good || over || told > self.ends || told.is_infinite() {
                return told;
            }
            let mut wait = habits.spacing.before(attempt);
            match habits.jitter {
                Jitter::None => {}
                Jitter::Full => wait *= self.draws.next(),
                Jitter::Half => wait *= 0.5 + self.draws.next() / 2.0,
                Jitter::Plus(ms) => wait += ms * self.draws.next(),
            }
            if let (Met::Refused(Some(seconds)), true) = (met, habits.obeys) {
                wait = f64::from(seconds) * 1000.0;
            }
            told += wait + habits.noise * self.draws.next();
            begin = told;
        }
        begin
    }

    fn attempt(&mut self, habits: &Habits, n: usize, attempt: usize, begin: f64, met: Met) -> f64 {
        let mut late = |least: f64| least + habits.noise * self.draws.next() / 2.0;
        let mut r = record();
        r.started = at(begin + late(0.2));
        r.request.method = Some(habits.method.into());
        r.request.path = Some("/pay".into());
        r.client.address = Some(Caller::At(([10, 0, 0, 7], 40_000).into()));
        let body = match habits.key {
            Key::OtherBody => n * 1000 + attempt,
            _ => n,
        };
        r.request.digest = Some(Digest(body as u64 + 1));
        let (by, value) = match habits.key {
            Key::Stable | Key::OtherBody => (By::IdempotencyKey, format!("pay-{n}")),
            Key::Changing => (By::IdempotencyKey, format!("pay-{n}-{attempt}")),
            Key::Missing => (By::Fingerprint, format!("print-{n}")),
        };
        r.identity = Some(Identity {
            by,
            value,
            strength: match by {
                By::Fingerprint => Strength::Weak,
                _ => Strength::Strong,
            },
        });
        r.attempt = match habits.key {
            Key::Changing => 1,
            _ => attempt as u32,
        };
        let answered = begin + late(2.0);
        let mut told = answered + late(0.5);
        if !matches!(met, Met::Refused(_)) {
            r.upstream.push(Delivery {
                sent_at: Some(at(begin + 1.0)),
                answered_at: Some(at(answered)),
                status: Some(200),
                ..Delivery::default()
            });
        }
        (r.client.outcome, r.class) = match met {
            Met::Good => (Outcome::Answered, Class::Acknowledged),
            Met::Refused(_) => (Outcome::Substituted, Class::Substituted),
            Met::Reset => (Outcome::Reset, Class::Unseen),
            Met::Lost => (Outcome::Waiting, Class::Open),
        };
        if met != Met::Good {
            let is_lost = !matches!(met, Met::Refused(_));
            r.faults.push(FaultSeen {
                rule: "rule".into(),
                kind: if is_lost { "response_loss" } else { "abort" }.into(),
                phase: if is_lost {
                    Phase::Response
                } else {
                    Phase::Request
                },
                injected: true,
            });
        }
        match met {
            Met::Good => r.client.status = Some(200),
            Met::Refused(seconds) => {
                (r.client.status, r.client.retry_after) = (Some(503), seconds);
            }
            Met::Reset => {}
            Met::Lost => {
                let waits = habits
                    .timeout
                    .unwrap_or(f64::INFINITY)
                    .min(self.ends - begin);
                told = begin + waits;
                if waits.is_finite() {
                    (r.client.outcome, r.class) = (Outcome::Left, Class::Unseen);
                    told += late(0.0);
                    r.client.ended_at = Some(at(told));
                }
            }
        }
        r.client.at = told.is_finite().then(|| at(told));
        r.id = RecordId {
            run: 1,
            n: self.records.len() as u64 + 1,
        };
        self.records.push(r);
        told
    }

    /// Things begun one after the other, each `pause` after the one before was begun, or was done
    /// with where that comes later.
    pub(super) fn one_by_one(
        &mut self,
        habits: &Habits,
        things: std::ops::Range<usize>,
        pause: f64,
        met: impl Fn(usize, usize) -> Met,
    ) {
        let mut start = self.now;
        for n in things {
            let done = self.operation(habits, n, start, |attempt| met(n, attempt));
            start = done.max(start + pause);
        }
        if start.is_finite() {
            self.now = self.now.max(start.min(self.ends));
        }
    }

    /// The same, whether those before are done or not.
    pub(super) fn at_intervals(
        &mut self,
        habits: &Habits,
        things: std::ops::Range<usize>,
        interval: f64,
        met: impl Fn(usize, usize) -> Met,
    ) {
        let from = self.now;
        for (n, thing) in things.enumerate() {
            let start = from + interval * n as f64;
            self.operation(habits, thing, start, |attempt| met(thing, attempt));
        }
    }

    /// What is found after so much silence.
    pub(super) fn found(&self, name: &str, silence: f64) -> Finding {
        let wanted = Wanted {
            finding: Some(name.to_owned()),
            ..Wanted::default()
        };
        let mut found = Vec::new();
        let _ = wanted.judge(&self.records, at(self.now + silence), |finding| {
            found.push(finding);
            ControlFlow::Continue(())
        });
        let mut named = found.into_iter();
        let finding = named.next().unwrap();
        assert!(named.next().is_none(), "one caller, one finding");
        finding
    }
}

impl Finding {
    pub(super) fn figure(&self, name: &str) -> f64 {
        let value = &self.detail[name];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {value} in {self:?}"))
    }

    pub(super) fn word(&self, name: &str) -> &str {
        self.detail[name].as_str().unwrap_or("null")
    }

    #[track_caller]
    pub(super) fn is(&self, verdict: Verdict) -> &Self {
        assert_eq!(self.verdict, verdict, "{self:#?}");
        self
    }
}

/// Whether a figure is within this part of the truth, and so many milliseconds.
#[track_caller]
pub(super) fn near(figure: f64, truth: f64, part: f64, ms: f64) {
    let off = (figure - truth).abs();
    assert!(off <= truth * part + ms, "{figure} is not near {truth}");
}

pub(super) fn noise() -> impl Strategy<Value = f64> {
    0.0..8.0_f64
}

/// Records as nothing sensible makes them: clocks that step back, fields that are missing, ends before
/// beginnings.
fn odd() -> impl Strategy<Value = Record> {
    let moment = || {
        prop_oneof![
            Just(0_u64),
            Just(u64::MAX),
            0..2_000_000_u64,
            Just(1_700_000_000_000_000),
        ]
    };
    let moments = (moment(), [(); 4].map(|()| prop::option::of(moment())));
    let names = (0..3_usize, 0..4_usize, 0..3_usize, 0..4_u64);
    let words = (0..Class::ALL.len(), 0..7_usize, 0..5_usize, 0..3_u32);
    let answer = (
        prop::option::of(100..600_u16),
        prop::option::of(0..u32::MAX),
        any::<bool>(),
        0..3_usize,
    );
    (moments, names, words, answer).prop_map(|((started, moments), names, words, answer)| {
        let mut r = record();
        let [ended, told, sent, answered] = moments.map(|moment| moment.map(Timestamp));
        r.started = Timestamp(started);
        (r.client.ended_at, r.client.at) = (ended, told);
        let services = ["web", "payment", "bank"];
        (r.from, r.to) = (services[names.0].into(), services[(names.0 + 1) % 3].into());
        let methods = [None, Some("POST"), Some("GET"), Some("")];
        r.request.method = methods[names.1].map(Into::into);
        r.request.path = (names.2 > 0).then(|| "/pay".into());
        r.request.digest = (names.3 > 1).then_some(Digest(names.3));
        r.client.address = [None, Some(Caller::Hashed(1)), Some(Caller::Hashed(2))][names.2];
        r.class = Class::ALL[words.0];
        r.client.outcome = [
            Outcome::Waiting,
            Outcome::Answered,
            Outcome::Partial,
            Outcome::Substituted,
            Outcome::Closed,
            Outcome::Reset,
            Outcome::Left,
        ][words.1];
        let by = [By::Configured, By::RequestId, By::TraceId, By::Fingerprint];
        r.identity = by.get(words.2).map(|by| Identity {
            by: *by,
            value: names.3.to_string(),
            strength: match by {
                By::TraceId | By::Fingerprint => Strength::Weak,
                _ => Strength::Strong,
            },
        });
        r.trace = answer.2.then_some(Trace {
            id: TraceId([names.3 as u8 + 1; 16]),
            parent: SpanId([1; 8]),
            sampled: true,
        });
        r.attempt = words.3;
        (r.client.status, r.client.retry_after) = (answer.0, answer.1);
        for n in 0..answer.3 {
            r.upstream.push(Delivery {
                sent_at: sent,
                answered_at: answered,
                status: if n == 0 { answer.0 } else { Some(200) },
                digest: (names.3 > 0).then_some(Digest(names.3 + n as u64)),
                replayed: answer.2,
                ..Delivery::default()
            });
        }
        r
    })
}

proptest! {
    #[test]
    fn nothing_that_records_say_is_too_odd(records in prop::collection::vec(odd(), 0..80), now in any::<u64>()) {
        let mut records = records;
        for (n, record) in records.iter_mut().enumerate() {
            record.id.n = n as u64;
        }
        let found = judge(&records, Timestamp(now));
        let text = serde_json::to_string(&found).unwrap();
        let back: Vec<Finding> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.len(), found.len());
    }
}

//! Which operation was the last to count in a series: an example of what the number says.
//!
//! Kept is its number alone, by a relaxed store. What else is told of it is looked up in the ledger
//! when somebody asks; there is no exemplar of an operation that has left it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::UPSTREAM_BUCKETS;
use crate::clock::Timestamp;
use crate::evidence::{Class, Delivery, Ledger, Record, RecordId, TraceId};
use crate::seed;

/// One operation that a counter or a bucket has counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub(super) record: RecordId,
    pub(super) trace: Option<TraceId>,
    /// What it added: to a counter one, to a bucket what was observed.
    pub(super) value: f64,
    pub(super) at: Timestamp,
}

/// The buckets, and the one above them.
const BUCKETS: usize = UPSTREAM_BUCKETS.len() + 1;

/// The numbers of the last records that counted in the series of one proxy; 0: none has.
#[derive(Debug, Default)]
pub(super) struct Lasts {
    classes: [AtomicU64; Class::ALL.len()],
    buckets: [AtomicU64; BUCKETS],
}

impl Lasts {
    pub(super) fn finished(&self, class: Class, record: u64) {
        self.classes[class as usize].store(record, Relaxed);
    }

    pub(super) fn answered(&self, seconds: f64, record: u64) {
        self.buckets[bucket(seconds)].store(record, Relaxed);
    }
}

/// Which bucket this falls into.
fn bucket(seconds: f64) -> usize {
    UPSTREAM_BUCKETS.partition_point(|bound| *bound < seconds)
}

/// A series of `firedrill_faults_injected_total`, and the number of the last record that counted.
#[derive(Debug)]
struct Injected {
    proxy: String,
    rule: String,
    fault: String,
    record: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    proxies: Mutex<HashMap<String, Arc<Lasts>>>,
    /// By the hash of their labels.
    injected: Mutex<HashMap<u64, Injected>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(proxy: &str, rule: &str, fault: &str) -> u64 {
    seed::key(&[proxy.as_bytes(), rule.as_bytes(), fault.as_bytes()])
}

impl Exemplars {
    /// Where the series of one proxy are kept.
    pub(super) fn proxy(&self, name: &str) -> Arc<Lasts> {
        Arc::clone(lock(&self.proxies).entry(name.to_owned()).or_default())
    }

    /// This record has counted.
    pub(super) fn injected(&self, proxy: &str, rule: &str, fault: &str, record: u64) {
        let mut all = lock(&self.injected);
        let series = all
            .entry(key(proxy, rule, fault))
            .or_insert_with(|| Injected {
                proxy: proxy.to_owned(),
                rule: rule.to_owned(),
                fault: fault.to_owned(),
                record,
            });
        series.record = record;
    }

    /// Forgets the series that are not to be kept.
    pub(super) fn retain(
        &self,
        proxy: impl Fn(&str) -> bool,
        rule: impl Fn(&str, &str, &str) -> bool,
    ) {
        lock(&self.proxies).retain(|name, _| proxy(name));
        lock(&self.injected).retain(|_, s| rule(&s.proxy, &s.rule, &s.fault));
    }

    /// The last operation of this class.
    pub(super) fn of_class(&self, ledger: &Ledger, proxy: &str, class: Class) -> Option<Exemplar> {
        let record = self.last(proxy, |lasts| &lasts.classes[class as usize]);
        let at = |record: &Record| record.client.at.unwrap_or(record.started);
        look_up(ledger, record?, |record| Some((1.0, at(record))))
    }

    /// The last operation in which this rule was injected.
    pub(super) fn of_fault(
        &self,
        ledger: &Ledger,
        (proxy, rule, fault): (&str, &str, &str),
    ) -> Option<Exemplar> {
        let known = lock(&self.injected);
        let record = known.get(&key(proxy, rule, fault))?.record;
        drop(known);
        // When it bit is not in the record.
        look_up(ledger, record, |record| Some((1.0, record.started)))
    }

    /// The last operation whose answer took as long as this bucket says.
    pub(super) fn of_bucket(&self, ledger: &Ledger, proxy: &str, nth: usize) -> Option<Exemplar> {
        let record = self.last(proxy, |lasts| &lasts.buckets[nth.min(BUCKETS - 1)]);
        let took = |delivery: &Delivery| {
            let (sent, answered) = delivery.sent_at.zip(delivery.answered_at)?;
            Some((answered.since(sent).as_secs_f64(), answered))
        };
        look_up(ledger, record?, |record| {
            let mut all = record.upstream.iter().filter_map(took);
            all.find(|(seconds, _)| bucket(*seconds) == nth)
        })
    }

    fn last(&self, proxy: &str, of: impl Fn(&Lasts) -> &AtomicU64) -> Option<u64> {
        let record = of(lock(&self.proxies).get(proxy)?).load(Relaxed);
        (record > 0).then_some(record)
    }
}

/// What the record of this number tells of it.
fn look_up(
    ledger: &Ledger,
    number: u64,
    of: impl Fn(&Record) -> Option<(f64, Timestamp)>,
) -> Option<Exemplar> {
    let entry = ledger.find(number)?;
    let record = entry.lock();
    let (value, at) = of(&record)?;
    Some(Exemplar {
        record: record.id,
        trace: record.trace.map(|trace| trace.id),
        value,
        at,
    })
}

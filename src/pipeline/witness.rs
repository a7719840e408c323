//! The record of one operation while it is being made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Crossing;
use crate::clock::Timestamp;
use crate::evidence::{
    Caller, Cause, Class, Client, Delivery, Digest, Entry, FaultSeen, Identity, Observed, Outcome,
    Record, RequestSeen, Strength, Trace,
};
use crate::operation::Phase;
use crate::rules::{Cut, Protocol};
use crate::seed;

/// Writes down what is seen of one operation. Clones speak of the same operation; when the last is
/// dropped the record is closed, so that none can be forgotten.
#[derive(Debug, Clone)]
pub struct Witness(Arc<Open>);

#[derive(Debug)]
struct Open {
    entry: Arc<Entry>,
    crossing: Arc<Crossing>,
    /// The hash of proxy, method and path, within which identities are compared.
    scope: AtomicU64,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let context = &self.crossing.context;
        let class = context.ledger.finish(&self.entry, self.scope.load(Relaxed));
        let meters = &self.crossing.meters;
        meters.finished(class);
        let deliveries = self.entry.lock().deliveries;
        if deliveries > 1 {
            meters.duplicates.inc_by(u64::from(deliveries - 1));
        }
    }
}

/// Within which identities are compared.
fn scope(crossing: &Crossing, request: Option<(&str, &str)>) -> u64 {
    let (method, path) = request.unwrap_or_default();
    seed::key(&[
        crossing.edge.name.as_bytes(),
        method.as_bytes(),
        path.as_bytes(),
    ])
}

fn attempts(scope: u64, identity: &Identity) -> u64 {
    seed::key(&[&scope.to_le_bytes(), identity.value.as_bytes()])
}

/// Which attempt this is, as far as its head tells. A weak identity may still give way to a
/// fingerprint; its attempt is counted at the end of the request.
fn attempt(
    crossing: &Crossing,
    scope: u64,
    identity: Option<&Identity>,
    started: Timestamp,
) -> u32 {
    let Some(id) = identity else {
        return 1;
    };
    crossing.course.passage.tried(|| attempts(scope, id));
    match id.strength {
        Strength::Strong => crossing.context.ledger.attempt(scope, id, started),
        Strength::Weak => 1,
    }
}

impl Witness {
    /// Begins a record. `known`: what the connection is known to be; `request` is the method and path
    /// where there are any.
    pub(super) fn begin(
        crossing: &Arc<Crossing>,
        known: Protocol,
        request: Option<(&str, &str)>,
        (identity, trace): (Option<Identity>, Option<Trace>),
        client: SocketAddr,
    ) -> Self {
        let context = &crossing.context;
        let started = Timestamp::now();
        let scope = scope(crossing, request);
        let (method, path) = request.unzip();
        let attempt = attempt(crossing, scope, identity.as_ref(), started);
        let id = context.ledger.next_id();
        let record = Record {
            id,
            proxy: Arc::clone(&crossing.name),
            from: Arc::clone(&crossing.from),
            to: Arc::clone(&crossing.to),
            protocol: match known {
                // A connection, of which nothing finer is known.
                Protocol::Auto => Protocol::Tcp,
                known => known,
            },
            started,
            identity,
            trace,
            attempt,
            request: RequestSeen {
                method: method.map(Into::into),
                path: path.map(Into::into),
                ..RequestSeen::default()
            },
            upstream: Vec::new(),
            client: Client {
                address: Some(Caller::At(client)),
                ..Client::default()
            },
            faults: Vec::new(),
            class: Class::Open,
            cause: Cause::None,
            deliveries: 0,
            observed: Observed::default(),
        };
        Self(Arc::new(Open {
            entry: context.ledger.begin(record),
            crossing: Arc::clone(crossing),
            scope: AtomicU64::new(scope),
            number: id.n,
        }))
    }

    /// The record of a connection becomes that of its first request.
    pub(super) fn becomes(
        &self,
        (method, path): (&str, &str),
        (identity, trace): (Option<Identity>, Option<Trace>),
    ) {
        let open = &self.0;
        let scope = scope(&open.crossing, Some((method, path)));
        open.scope.store(scope, Relaxed);
        let started = self.note(|r| r.started);
        let attempt = attempt(&open.crossing, scope, identity.as_ref(), started);
        self.note(|r| {
            r.protocol = Protocol::Http;
            r.request.method = Some(method.into());
            r.request.path = Some(path.into());
            (r.identity, r.trace, r.attempt) = (identity, trace, attempt);
        });
    }

    /// What it is the record of began this long ago.
    pub(super) fn began(&self, ago: Duration) {
        self.note(|r| r.started = Timestamp(r.started.0.saturating_sub(ago.as_micros() as u64)));
    }

    /// The connection has turned out to carry HTTP.
    pub(super) fn is_http(&self) {
        self.note(|r| r.protocol = Protocol::Http);
    }

    /// The number of its record, unique in the process.
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    /// What this has in common with further attempts at the same; with itself, where nothing tells
    /// what it is.
    pub(super) fn attempts(&self) -> u64 {
        let scope = self.0.scope.load(Relaxed);
        self.note(|r| match &r.identity {
            Some(identity) => attempts(scope, identity),
            None => seed::key(&[&self.0.number.to_le_bytes()]),
        })
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.0.entry
    }

    fn note<R>(&self, change: impl FnOnce(&mut Record) -> R) -> R {
        change(&mut self.0.entry.lock())
    }

    /// No more comes of the request: what its body is, and whether that is all of it. Those without a
    /// better identity have one by it.
    pub fn request_ended(&self, body: Digest, whole: bool) {
        let open = &self.0;
        self.note(|r| {
            r.request.digest = whole.then_some(body);
            if r.identity.is_none() {
                let scope = open.scope.load(Relaxed);
                let print = seed::key(&[&scope.to_le_bytes(), &body.0.to_le_bytes()]);
                let identity = r.identity.insert(Identity {
                    by: crate::evidence::By::Fingerprint,
                    value: format!("{print:016x}"),
                    strength: Strength::Weak,
                });
                open.crossing
                    .course
                    .passage
                    .tried(|| attempts(scope, identity));
            }
            if let Some(id) = r
                .identity
                .as_ref()
                .filter(|id| id.strength == Strength::Weak)
            {
                r.attempt =
                    open.crossing
                        .context
                        .ledger
                        .attempt(open.scope.load(Relaxed), id, r.started);
            }
        });
    }

    /// `n` bytes more of the request were read.
    pub fn request_bytes(&self, n: usize) {
        self.note(|r| r.request.bytes += n as u64);
    }

    /// A delivery to the upstream is begun (it is dialled for it); answers its number.
    #[must_use]
    pub fn deliver(&self) -> u32 {
        self.note(|r| {
            // Mostly it stays with one.
            r.upstream.reserve_exact(1);
            r.upstream.push(Delivery::default());
            (r.upstream.len() - 1) as u32
        })
    }

    fn delivery<R: Default>(&self, n: u32, change: impl FnOnce(&mut Delivery) -> R) -> R {
        self.note(|r| {
            r.upstream
                .get_mut(n as usize)
                .map(change)
                .unwrap_or_default()
        })
    }

    /// The first byte was written to the upstream.
    pub fn sent(&self, delivery: u32) {
        self.delivery(delivery, |d| {
            d.sent_at.get_or_insert_with(Timestamp::now);
        });
        self.0.crossing.course.passage.passed(self.0.number);
    }

    /// The upstream's answer has begun.
    pub fn answered(&self, delivery: u32, status: Option<u16>) {
        let took = self.delivery(delivery, |d| {
            if d.answered_at.is_some() {
                return None;
            }
            let now = Timestamp::now();
            d.answered_at = Some(now);
            d.status = status;
            d.sent_at.map(|sent| now.since(sent))
        });
        if let Some(took) = took {
            let seconds = &self.0.crossing.meters.upstream_seconds;
            seconds.observe(took.as_secs_f64());
        }
    }

    /// The upstream's answer says that it was given before.
    pub fn replayed(&self, delivery: u32) {
        self.delivery(delivery, |d| d.replayed = true);
    }

    /// The answer was read whole: what its body is.
    pub fn answer_ended(&self, delivery: u32, body: Digest) {
        self.delivery(delivery, |d| d.digest = Some(body));
    }

    /// How many seconds the answer that goes to the client asks it to wait before it tries again, if
    /// it does.
    pub fn retry_after(&self, seconds: Option<u32>) {
        // An operation has at most one answer, but what was to be one may give way to another.
        self.note(|r| r.client.retry_after = seconds);
    }

    /// The client has ended its connection, or its stream. Where it still waited for an answer, its
    /// next request is another attempt, whatever becomes of this one.
    pub(super) fn ended(&self) {
        let now = Timestamp::now();
        let gave_up = self.note(|r| {
            let waits = r.client.outcome == Outcome::Waiting && r.client.ended_at.is_none();
            if waits {
                r.client.ended_at = Some(now);
            }
            (waits, r.identity.clone().filter(|_| waits), r.attempt)
        });
        if let (true, Some(identity), attempt) = gave_up {
            let scope = self.0.scope.load(Relaxed);
            let ledger = &self.0.crossing.context.ledger;
            ledger.gave_up(scope, &identity, attempt, now);
        }
    }

    /// `n` bytes more of the answer were read.
    pub fn answer_bytes(&self, delivery: u32, n: usize) {
        self.delivery(delivery, |d| d.bytes += n as u64);
    }

    /// There is no answer, or not all of it, because of this. The first reason stands.
    pub fn failed(&self, delivery: u32, error: impl Into<String>) {
        self.delivery(delivery, |d| {
            d.error.get_or_insert_with(|| error.into());
        });
    }

    /// What became of the client, and the bytes of an answer that were written to it. What is
    /// told first stands.
    pub fn told(&self, outcome: Outcome, status: Option<u16>, bytes: u64) {
        self.note(|r| {
            if r.client.outcome == Outcome::Waiting {
                r.client.outcome = outcome;
                r.client.status = status;
                r.client.bytes = bytes;
                r.client.at = Some(Timestamp::now());
            }
        });
    }

    /// The client's host has acknowledged all that was written, or its next request came.
    pub fn handed_over(&self) {
        self.note(|r| r.observed.handed_over = true);
    }

    /// The client has all that the upstream said, but what was sent after that was not answered,
    /// and will not be.
    pub fn unanswered(&self) {
        self.note(|r| r.observed.unanswered = true);
    }

    /// The client is seen to be gone, since `at`. The first time stands.
    pub fn client_left(&self, at: Timestamp) {
        self.note(|r| {
            r.observed.client_left.get_or_insert(at);
        });
    }

    /// Whether the upstream has begun to answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.note(|r| r.upstream.iter().any(|d| d.answered_at.is_some()))
    }

    /// Whose doing it is if it does not end well. The first stands.
    pub fn blame(&self, cause: Cause) {
        self.note(|r| {
            r.observed.blame.get_or_insert(cause);
        });
    }

    /// Whether a fault or a partition has changed what a side saw of this operation.
    #[must_use]
    pub fn is_faulted(&self) -> bool {
        self.note(|r| r.faults.iter().any(|f| f.injected))
    }

    /// A partition has cut this operation: recorded and counted once.
    pub fn cut(&self, cut: &Cut, phase: Phase) {
        let partition = &cut.partition.partition.name;
        let new = self.note(|r| {
            let known = |f: &FaultSeen| &*f.kind == "partition" && *f.rule == **partition;
            if r.faults.iter().any(known) {
                return false;
            }
            r.faults.push(FaultSeen {
                rule: partition.as_str().into(),
                kind: "partition".into(),
                phase,
                injected: true,
            });
            true
        });
        if new {
            let totals = &cut.partition.totals;
            totals
                .selected
                .fetch_add(1, std::sync::atomic::Ordering::Release);
            totals
                .injected
                .fetch_add(1, std::sync::atomic::Ordering::Release);
            let crossing = &self.0.crossing;
            crossing.context.metrics.cut(&crossing.edge.name, partition);
        }
    }
}

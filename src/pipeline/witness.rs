//! The record of one operation while it is being made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Context, Crossing};
use crate::clock::Timestamp;
use crate::evidence::{
    Caller, Cause, Class, Client, Delivery, Digester, Entry, FaultSeen, Identity, Observed,
    Outcome, Record, RequestSeen, Strength,
};
use crate::operation::{Body, Phase, Request};
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
        meters.finished(class, self.number);
        let (deliveries, attempt) = {
            let record = self.entry.lock();
            (record.deliveries, record.attempt)
        };
        if deliveries > 1 {
            meters.duplicates.inc_by(u64::from(deliveries - 1));
        }
        if attempt > 1 {
            meters.retries.inc();
        }
    }
}

/// Within which identities are compared.
fn scope(crossing: &Crossing, request: Option<&Request<'_>>) -> u64 {
    let (method, path) = request.map_or(("", ""), |request| (request.method, request.path));
    seed::key(&[
        crossing.edge.name.as_bytes(),
        method.as_bytes(),
        path.as_bytes(),
    ])
}

fn attempts(scope: u64, identity: &Identity) -> u64 {
    seed::key(&[&scope.to_le_bytes(), identity.value.as_bytes()])
}

/// Whether an identity stands before the body is known. A weak one may give way to a fingerprint, and
/// any but the team's own to that.
fn stands(crossing: &Crossing, identity: &Identity) -> bool {
    let ladder = &crossing.context.ladder;
    identity.strength == Strength::Strong && !ladder.asks_of_body(Some(identity.by))
}

/// Which attempt this is, as far as its head tells; else that is counted at the end of the request.
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
    match stands(crossing, id) {
        true => crossing.context.ledger.attempt(scope, id, started),
        false => 1,
    }
}

impl Witness {
    /// Begins a record. `known`: what the connection is known to be; `request`: where there is one.
    pub(super) fn begin(
        crossing: &Arc<Crossing>,
        known: Protocol,
        request: Option<&Request<'_>>,
        client: SocketAddr,
    ) -> Self {
        let context = &crossing.context;
        let ladder = &context.ladder;
        let started = Timestamp::now();
        let scope = scope(crossing, request);
        let identity = request.and_then(|request| ladder.identify(request));
        let trace = request.and_then(|request| ladder.trace(request));
        let path = request.map(|request| ladder.hashing.path(request.path));
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
                method: request.map(|request| request.method.into()),
                path: path.map(Into::into),
                ..RequestSeen::default()
            },
            upstream: Vec::new(),
            client: Client {
                address: Some(ladder.hashing.client(Caller::At(client))),
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
    pub(super) fn becomes(&self, request: &Request<'_>) {
        let open = &self.0;
        let ladder = &open.crossing.context.ladder;
        let scope = scope(&open.crossing, Some(request));
        let (identity, trace) = (ladder.identify(request), ladder.trace(request));
        open.scope.store(scope, Relaxed);
        let started = self.note(|r| r.started);
        let attempt = attempt(&open.crossing, scope, identity.as_ref(), started);
        self.note(|r| {
            r.protocol = Protocol::Http;
            r.request.method = Some(request.method.into());
            r.request.path = Some(ladder.hashing.path(request.path).into());
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

    /// For the body of the request, which [`Witness::request_ended`] takes.
    #[must_use]
    pub fn request_digester(&self) -> Digester {
        let by = self.note(|r| r.identity.as_ref().map(|identity| identity.by));
        match self.0.crossing.context.ladder.asks_of_body(by) {
            true => Digester::keeping(),
            false => Digester::default(),
        }
    }

    /// For the body of the answer.
    #[must_use]
    pub fn answer_digester(&self) -> Digester {
        match self.0.crossing.context.ledger.is_on() {
            true => Digester::default(),
            false => Digester::off(),
        }
    }

    /// No more comes of the request: what its body was, and whether that is all of it. Those have an
    /// identity by it whose head gave no better one.
    pub fn request_ended(&self, body: &mut Digester, whole: bool) {
        let open = &self.0;
        let Context { ladder, ledger, .. } = &*open.crossing.context;
        let (digest, kept) = (body.take(), body.take_kept());
        let own = kept.filter(|_| whole);
        let own = own.and_then(|kept| ladder.of_body(&Body::whole(&kept)));
        self.note(|r| {
            r.request.digest = whole.then_some(digest);
            let scope = open.scope.load(Relaxed);
            let better = own.or_else(|| {
                let print = seed::key(&[&scope.to_le_bytes(), &digest.0.to_le_bytes()]);
                r.identity.is_none().then(|| ladder.fingerprint(print))
            });
            let news = better.is_some();
            if news {
                r.identity = better;
            }
            if let Some(id) = &r.identity
                && (news || !stands(&open.crossing, id))
            {
                if news {
                    let passage = &open.crossing.course.passage;
                    passage.tried(|| attempts(scope, id));
                }
                r.attempt = ledger.attempt(scope, id, r.started);
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
            let meters = &self.0.crossing.meters;
            meters.answered(took.as_secs_f64(), self.0.number);
        }
    }

    /// The upstream's answer says that it was given before.
    pub fn replayed(&self, delivery: u32) {
        self.delivery(delivery, |d| d.replayed = true);
    }

    /// The answer was read whole: what its body is.
    pub fn answer_ended(&self, delivery: u32, body: &mut Digester) {
        let digest = self.0.crossing.context.ledger.is_on().then(|| body.take());
        self.delivery(delivery, |d| d.digest = digest);
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

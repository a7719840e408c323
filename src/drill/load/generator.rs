//! Requests that are sent on time, whether or not answers come.
//!
//! It has a thread of its own, so that nothing else that the drill does makes it late. What a
//! request took is counted from when it was due: a server that stalls is charged for all who would
//! have come meanwhile. How late it sent itself is kept as well, so that it can be told apart.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::schedule::Schedule;
use super::template::{Names, Template};
use crate::clock::{self, Alarm, Instant};
use crate::config::drill::{Good, HttpLoad};
use crate::drill::http::{NoAnswer, Place, whole};
use crate::drill::sample::{Micros, Outcome, Sent};

/// What was sent so far, in the order in which it ended.
#[derive(Debug, Default)]
pub struct Log {
    sent: Mutex<Vec<Sent>>,
    /// When those are due that are under way, the earliest first.
    under_way: Mutex<BTreeSet<(Micros, u64)>>,
}

impl Log {
    /// All so far.
    pub fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        // Each change is one push: nothing can be half done.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<(Micros, u64)>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When the earliest was due of those that are under way.
    pub fn earliest(&self) -> Option<Micros> {
        self.under_way().first().map(|(due, _)| *due)
    }
}

/// The moment from which times are counted.
#[derive(Debug, Clone, Copy)]
pub struct Zero(pub Instant);

impl Zero {
    /// How long ago, or ahead, that is.
    #[must_use]
    pub fn at(self, moment: Instant) -> Micros {
        let after = moment.saturating_duration_since(self.0).as_micros() as Micros;
        let before = self.0.saturating_duration_since(moment).as_micros() as Micros;
        after - before
    }

    /// Now.
    #[must_use]
    pub fn now(self) -> Micros {
        self.at(clock::now())
    }
}

/// A load that runs. Dropped, it ends at once.
#[derive(Debug)]
pub struct Generator {
    /// What was sent.
    pub log: Arc<Log>,
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Go on.
    No,
    /// Send no more, and wait for what is under way.
    Sending,
}

/// What is sent.
struct Order {
    load: HttpLoad,
    place: Place,
    path: Template,
    headers: Vec<(String, Template)>,
    body: Option<Template>,
    run: String,
    seed: u64,
    zero: Zero,
    log: Arc<Log>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    in_flight: AtomicUsize,
}

impl Generator {
    /// Starts now. `authority`: where `load` goes; `run`: what no other run has.
    ///
    /// # Errors
    /// No host, or no thread can be had.
    pub fn start(
        load: &HttpLoad,
        (secure, authority): (bool, &str),
        run: &str,
        seed: u64,
        zero: Zero,
    ) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let log = Arc::<Log>::default();
        let headers = load.request.headers.iter();
        let order = Arc::new(Order {
            load: load.clone(),
            place: Place::new(secure, authority).map_err(invalid)?,
            path: Template::new(&load.request.path),
            headers: headers
                .map(|(name, text)| (name.clone(), Template::new(text)))
                .collect(),
            body: load.request.body.as_deref().map(Template::new),
            run: run.to_owned(),
            seed,
            zero,
            log: Arc::clone(&log),
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(Stop::No);
        let thread = thread::Builder::new().name("load".to_owned());
        let thread = thread.spawn(move || runtime.block_on(run_load(order, stopped)))?;
        Ok(Self {
            log,
            stop,
            thread: Some(thread),
        })
    }

    /// Sends no more, and waits for what is under way: at most for the load's `timeout`.
    pub async fn finish(mut self) {
        self.stop.send_replace(Stop::Sending);
        if let Some(thread) = self.thread.take() {
            // An error means that it panicked, and has been said.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

async fn run_load(order: Arc<Order>, mut stopped: watch::Receiver<Stop>) {
    let began = clock::now();
    let schedule = Schedule::new(&order.load.stages, order.load.arrivals, order.seed);
    let mut sending = JoinSet::new();
    let mut alarm = Alarm::default();
    for (n, after) in (1u64..).zip(schedule) {
        let due = began + after;
        let wait = std::future::poll_fn(|cx| alarm.poll(cx, due, false));
        tokio::select! {
            biased;
            // An error means that nobody wants it any more.
            _ = stopped.changed() => break,
            () = wait => {}
        }
        let at = order.zero.at(due);
        if order.in_flight.load(Relaxed) >= order.load.in_flight {
            order.log.sent().push(Sent {
                due: at,
                began: None,
                ended: None,
                outcome: Outcome::NotStarted,
                good: false,
            });
            continue;
        }
        order.in_flight.fetch_add(1, Relaxed);
        order.log.under_way().insert((at, n));
        let order = Arc::clone(&order);
        sending.spawn(async move { order.send(n, at).await });
        while sending.try_join_next().is_some() {}
    }
    if stopped.has_changed().is_err() {
        // Dropped: what is under way goes with it.
        return;
    }
    tokio::select! {
        () = async { while sending.join_next().await.is_some() {} } => {}
        // The sender is gone.
        () = async { while stopped.changed().await.is_ok() {} } => {}
    }
}

impl Order {
    async fn send(&self, n: u64, due: Micros) {
        let began = self.zero.now();
        let timeout = self.load.timeout;
        let answer = clock::within(timeout, self.exchange(n)).await;
        let ended = self.zero.now();
        let outcome = match answer {
            Some(Ok(status)) => Outcome::Status(status),
            None | Some(Err(NoAnswer::Timeout(_))) => Outcome::Timeout,
            Some(Err(NoAnswer::Broken(_))) => Outcome::Broken,
        };
        let took = Duration::from_micros((ended - due).max(0) as u64);
        let Good { statuses, within } = &self.load.good;
        let good = match outcome {
            Outcome::Status(status) => {
                statuses.iter().any(|s| s.contains(status)) && within.is_none_or(|w| took <= w)
            }
            _ => false,
        };
        self.log.sent().push(Sent {
            due,
            began: Some(began),
            ended: Some(ended),
            outcome,
            good,
        });
        self.log.under_way().remove(&(due, n));
        self.in_flight.fetch_sub(1, Relaxed);
    }

    async fn exchange(&self, n: u64) -> Result<u16, NoAnswer> {
        let mut request = self.request(n)?;
        loop {
            let (mut sender, used) = match self.idle() {
                Some(sender) => (sender, true),
                None => (self.place.connect().await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    let (status, _) = whole(answer).await?;
                    if sender.ready().await.is_ok() {
                        self.keep(sender);
                    }
                    return Ok(status.as_u16());
                }
                // A connection that the server had closed meanwhile, on which no byte was sent.
                Err(mut error) => match error.take_message().filter(|_| used) {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::Broken(error.into_error().to_string())),
                },
            }
        }
    }

    fn request(&self, n: u64) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let names = Names {
            run: &self.run,
            n,
            seed: self.seed,
        };
        let headers = self.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, text)| (name.clone(), text.fill(&names)))
            .collect();
        let body = self.body.as_ref().map(|body| body.fill(&names));
        let method = &self.load.request.method;
        self.place
            .request(method, &self.path.fill(&names), &headers, body.as_deref())
    }

    fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one used last, so that what is too many is left to be closed.
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(sender);
    }
}

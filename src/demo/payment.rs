//! The payment service. It owns whether money is taken.
//!
//! An operation that its caller has named is charged once: whoever asks again under the same name
//! gets the same answer. One without a name is charged each time that it is seen.
//!
//! There is one till, and those who wait for it form a queue: 50 payments a second it can do, more it
//! can't. Who has gone is served like all others, since payment can't know.

use std::collections::HashSet;
use std::sync::atomic::{
    AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use super::ledger::{Fact, Ledger};
use super::service::{Asked, Crashed, Reply, Role};
use crate::clock;

/// Of the first authorization.
const FIRST: usize = 77;

/// How long the till is busy with one payment.
const SERVICE: Duration = Duration::from_millis(20);
/// At most so many wait for it; the next is told so.
const QUEUE: usize = 100;

/// What is left of slow work once it may end: by then, what its caller has said, or that it has
/// gone, has reached everyone.
const REST: Duration = Duration::from_millis(100);

/// Slow work ends after this, come what may.
const SLOWEST: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Payment {
    ledger: Ledger,
    /// Named operations that are being worked on.
    working: Mutex<HashSet<String>>,
    crashing: AtomicBool,
    slow: watch::Sender<bool>,
    till: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Payment {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            working: Mutex::default(),
            crashing: AtomicBool::new(false),
            slow: watch::Sender::new(false),
            till: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Payment {
    /// What it durably knows: the authorizations.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes the money, and answers the authorization's id.
    pub fn charge(&self, operation: Option<&str>) -> String {
        self.ledger.add(|n| Fact {
            id: format!("auth-{}", FIRST + n),
            state: "charged".to_owned(),
            operation: operation.map(str::to_owned),
        })
    }

    /// The next request that it receives finds it crashing.
    pub fn crash_once(&self) {
        self.crashing.store(true, Release);
    }

    /// From now on work does not end before [`Payment::finish`].
    pub fn work_slowly(&self) {
        self.slow.send_replace(true);
    }

    /// Work may end.
    pub fn finish(&self) {
        self.slow.send_replace(false);
    }

    fn working(&self) -> MutexGuard<'_, HashSet<String>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn authorize(&self, operation: Option<String>) -> Result<Reply, Crashed> {
        if self.crashing.swap(false, AcqRel) {
            return Err(Crashed);
        }
        let Some(operation) = operation else {
            if !self.work().await {
                return Ok(busy());
            }
            return Ok(authorized(&self.charge(None)));
        };
        {
            let mut working = self.working();
            // It is noted before it is no longer worked on: one of the two shows it.
            if let Some(before) = self.ledger.of_operation(&operation) {
                return Ok(authorized(&before.id));
            }
            if !working.insert(operation.clone()) {
                let wait = json!({ "error": "being worked on" });
                return Ok(Reply::new(StatusCode::CONFLICT, wait));
            }
        }
        let worked = self.work().await;
        let authorization = worked.then(|| self.charge(Some(&operation)));
        self.working().remove(&operation);
        Ok(authorization.map_or_else(busy, |id| authorized(&id)))
    }

    /// Waits for its turn, and works; `false`: too many wait already.
    async fn work(&self) -> bool {
        if self.waiting.load(Acquire) >= QUEUE {
            return false;
        }
        self.waiting.fetch_add(1, AcqRel);
        // Nobody closes it: an error there is not.
        let turn = self.till.acquire().await;
        self.waiting.fetch_sub(1, AcqRel);
        clock::sleep(SERVICE).await;
        drop(turn);
        let mut slow = self.slow.subscribe();
        if *slow.borrow() {
            // The sender lives as long as `self`, and time that runs out ends it as well.
            let _ = clock::within(SLOWEST, slow.wait_for(|slow| !slow)).await;
            clock::sleep(REST).await;
        }
        true
    }

    fn find(&self, operation: &str) -> Reply {
        let working = self.working();
        match self.ledger.of_operation(operation) {
            Some(fact) => Reply::new(StatusCode::OK, json!({ "authorization": fact.id })),
            None if working.contains(operation) => {
                Reply::new(StatusCode::ACCEPTED, json!({ "status": "being worked on" }))
            }
            None => Reply::unknown(),
        }
    }
}

fn authorized(authorization: &str) -> Reply {
    let body = json!({ "authorization": authorization });
    Reply::new(StatusCode::CREATED, body)
}

fn busy() -> Reply {
    let body = json!({ "error": "too many wait already" });
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, body)
}

impl Role for Payment {
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Reply, Crashed> {
        match (&asked.method, &asked.segments()[..]) {
            (&Method::POST, ["authorizations"]) => self.authorize(asked.operation).await,
            (&Method::GET, ["authorizations", operation]) => Ok(self.find(operation)),
            _ => Ok(Reply::unknown()),
        }
    }
}

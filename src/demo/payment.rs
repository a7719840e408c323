//! The payment service. It owns whether money is taken.
//!
//! An operation that its caller has named is charged once: whoever asks again under the same name
//! gets the same answer. One without a name is charged each time that it is seen.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use super::ledger::{Fact, Ledger};
use super::service::{Asked, Crashed, Reply, Role};
use crate::clock;

/// Of the first authorization.
const FIRST: usize = 77;

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
}

impl Default for Payment {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            working: Mutex::default(),
            crashing: AtomicBool::new(false),
            slow: watch::Sender::new(false),
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
            self.work().await;
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
        self.work().await;
        let authorization = self.charge(Some(&operation));
        self.working().remove(&operation);
        Ok(authorized(&authorization))
    }

    async fn work(&self) {
        let mut slow = self.slow.subscribe();
        if *slow.borrow() {
            // The sender lives as long as `self`, and time that runs out ends it as well.
            let _ = clock::within(SLOWEST, slow.wait_for(|slow| !slow)).await;
            clock::sleep(REST).await;
        }
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

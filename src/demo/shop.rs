//! Inventory, orders and e-mail: the services around payment. Each repeats itself without harm.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::http::{Ask, Way};
use super::ledger::Ledger;
use super::service::{Asked, Crashed, Reply, Role};

/// How long one service waits for another where nothing depends on being quick.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

fn done(status: StatusCode) -> Reply {
    Reply::new(status, json!({ "status": "done" }))
}

/// Owns whether an item is reserved.
#[derive(Debug, Default)]
pub(super) struct Inventory(Ledger);

impl Role for Inventory {
    fn ledger(&self) -> &Ledger {
        &self.0
    }

    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Reply, Crashed> {
        Ok(match (&asked.method, &asked.segments()[..]) {
            (&Method::POST, ["reservations"]) => {
                self.0.note(asked.text("order"), "reserved");
                done(StatusCode::CREATED)
            }
            (&Method::POST, ["releases"]) => {
                self.0.note(asked.text("order"), "released");
                done(StatusCode::CREATED)
            }
            _ => Reply::unknown(),
        })
    }
}

/// Owns whether an order is official, and tells e-mail.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) ledger: Ledger,
    /// The way to e-mail.
    pub(super) email: Way,
}

impl Role for Orders {
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Reply, Crashed> {
        if (&asked.method, &asked.segments()[..]) != (&Method::POST, &["receipts"]) {
            return Ok(Reply::unknown());
        }
        let order = asked.text("order");
        self.ledger.note(order, "receipt written");
        let mail = Ask::post(&self.email, "/mails", json!({ "order": order }), PATIENCE);
        let mail = mail.trace(asked.trace.as_deref());
        // The receipt stands, whatever becomes of the mail.
        if mail.send().await.is_err() {
            tracing::warn!(order, "no word from e-mail");
        }
        Ok(done(StatusCode::CREATED))
    }
}

/// Owns what was sent.
#[derive(Debug, Default)]
pub(super) struct Email(Ledger);

impl Role for Email {
    fn ledger(&self) -> &Ledger {
        &self.0
    }

    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Reply, Crashed> {
        Ok(match (&asked.method, &asked.segments()[..]) {
            (&Method::POST, ["mails"]) => {
                self.0.note(asked.text("order"), "confirmation sent");
                done(StatusCode::CREATED)
            }
            _ => Reply::unknown(),
        })
    }
}

//! The web tier, which calls all others: naive, and repaired.
//!
//! Naive takes a timeout for a failure, and tries again with a request that nothing joins to the
//! first. Repaired names the operation (`Idempotency-Key: pay-42`), takes a timeout for what it
//! is, says so, and asks payment until it knows. Both are the code of a caller: neither knows
//! which fault is on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::http::{Answer, Ask, NoAnswer};
use super::ledger::Ledger;
use super::service::{Asked, Busy, Crashed, Reply, Role, Work};
use super::shop::PATIENCE;
use crate::clock;

/// Of the first order, and of its payment.
const FIRST_ORDER: usize = 781;
const FIRST_PAYMENT: usize = 42;

/// How long a customer is kept waiting for payment.
const PAYMENT_PATIENCE: Duration = Duration::from_millis(500);
/// How long a second attempt may take.
const SECOND_PATIENCE: Duration = Duration::from_secs(3);
/// Between one question to payment and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long payment is asked at all. Then the order is left to people, as what it is: unknown.
const CONFIRMING: Duration = Duration::from_secs(60);

/// The ways to the services that it calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    pub(super) inventory: SocketAddr,
    pub(super) payment: SocketAddr,
    pub(super) orders: SocketAddr,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Web {
    ledger: Ledger,
    ways: Ways,
    busy: Busy,
    orders: AtomicUsize,
}

/// One order on its way.
#[derive(Debug, Clone)]
struct Order {
    id: String,
    /// What its payment is called.
    payment: String,
}

impl Web {
    pub(super) fn new(ways: Ways, busy: Busy) -> Self {
        Self {
            ledger: Ledger::default(),
            ways,
            busy,
            orders: AtomicUsize::new(0),
        }
    }

    async fn place(self: Arc<Self>, careful: bool, retries: bool) -> Reply {
        let n = self.orders.fetch_add(1, Relaxed);
        let order = Order {
            id: format!("order-{}", FIRST_ORDER + n),
            payment: format!("pay-{}", FIRST_PAYMENT + n),
        };
        self.ledger.note(&order.id, "placed");
        if !self
            .tell(self.ways.inventory, "/reservations", &order)
            .await
        {
            return self.fail(&order).await;
        }
        if careful {
            self.pay_carefully(order, retries).await
        } else {
            self.pay_naively(&order, retries).await
        }
    }

    /// A timeout is a failure. A retry is a new request.
    async fn pay_naively(&self, order: &Order, retries: bool) -> Reply {
        let mut paid = self.authorize(order, None, PAYMENT_PATIENCE).await;
        if paid.is_err() && retries {
            paid = self.authorize(order, None, SECOND_PATIENCE).await;
        }
        let paid = paid.is_ok_and(|answer| answer.status.is_success());
        if paid && self.complete(order).await {
            self.say(&order.id)
        } else {
            self.fail(order).await
        }
    }

    /// A timeout is a question that is still open. A retry is the same operation.
    async fn pay_carefully(self: Arc<Self>, order: Order, retries: bool) -> Reply {
        let operation = Some(order.payment.as_str());
        let mut paid = self.authorize(&order, operation, PAYMENT_PATIENCE).await;
        if paid.is_err() && retries {
            paid = self.authorize(&order, operation, SECOND_PATIENCE).await;
        }
        match paid {
            Ok(answer) if answer.status.is_success() => {
                if self.complete(&order).await {
                    return self.say(&order.id);
                }
            }
            // It is being worked on already.
            Ok(answer) if answer.status == StatusCode::CONFLICT => self.note_unknown(&order),
            Ok(_) => return self.fail(&order).await,
            Err(NoAnswer) => self.note_unknown(&order),
        }
        let (id, work) = (order.id.clone(), self.busy.begin());
        tokio::spawn(Arc::clone(&self).confirm(order, work));
        self.say(&id)
    }

    /// Finds out what became of a payment, and ends the order accordingly.
    async fn confirm(self: Arc<Self>, order: Order, _work: Work) {
        let asking = async {
            loop {
                let path = format!("/authorizations/{}", order.payment);
                let found = Ask::get(self.ways.payment, path, SECOND_PATIENCE)
                    .send()
                    .await;
                let known = match found {
                    // Payment has nothing: it is asked again to do it, under the same name, so
                    // that a first request that is still on its way does no harm.
                    Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
                        let operation = Some(order.payment.as_str());
                        self.authorize(&order, operation, SECOND_PATIENCE).await
                    }
                    found => found,
                };
                let known = known.ok().map(|answer| answer.status);
                let paid = matches!(known, Some(StatusCode::OK | StatusCode::CREATED));
                if paid && self.complete(&order).await {
                    return;
                }
                if known == Some(StatusCode::PAYMENT_REQUIRED) {
                    // It can't be paid: what was reserved is released.
                    self.fail(&order).await;
                    return;
                }
                clock::sleep(PAUSE).await;
            }
        };
        if clock::within(CONFIRMING, asking).await.is_none() {
            tracing::warn!(order = order.id, "it is left to people");
        }
    }

    async fn authorize(
        &self,
        order: &Order,
        operation: Option<&str>,
        patience: Duration,
    ) -> Result<Answer, NoAnswer> {
        let body = json!({ "order": order.id, "amount": "42.00" });
        let ask = Ask::post(self.ways.payment, "/authorizations", body, patience);
        ask.operation(operation).send().await
    }

    /// The payment is known to be made: makes the order official. Whether it is known to be.
    async fn complete(&self, order: &Order) -> bool {
        let done = self.tell(self.ways.orders, "/receipts", order).await;
        let state = if done {
            "confirmed"
        } else {
            "paid, receipt_unknown"
        };
        self.ledger.note(&order.id, state);
        done
    }

    fn note_unknown(&self, order: &Order) {
        self.ledger.note(&order.id, "payment_confirmation_unknown");
    }

    /// The order is not to be.
    async fn fail(&self, order: &Order) -> Reply {
        self.tell(self.ways.inventory, "/releases", order).await;
        self.ledger.note(&order.id, "failed");
        self.say(&order.id)
    }

    /// Tells another service of an order; whether it said that all is well.
    async fn tell(&self, to: SocketAddr, path: &str, order: &Order) -> bool {
        let ask = Ask::post(to, path, json!({ "order": order.id }), PATIENCE);
        ask.send().await.is_ok_and(|a| a.status.is_success())
    }

    /// What the customer is told of an order: how it stands in the ledger.
    fn say(&self, id: &str) -> Reply {
        let state = self.ledger.state(id);
        let (status, word, words) = match state.as_deref() {
            None => return Reply::unknown(),
            Some("confirmed") => (StatusCode::CREATED, "confirmed", "Your order is confirmed."),
            Some("failed") => (StatusCode::BAD_GATEWAY, "failed", "Your order failed."),
            Some("payment_confirmation_unknown") => {
                let words = "We are confirming your payment.";
                (StatusCode::ACCEPTED, "pending", words)
            }
            Some(_) => {
                let words = "We are working on your order.";
                (StatusCode::ACCEPTED, "pending", words)
            }
        };
        let body = json!({ "order": id, "status": word, "message": words });
        Reply::new(status, body)
    }
}

impl Role for Web {
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Reply, Crashed> {
        let (careful, retries) = (asked.says("careful"), asked.says("retry"));
        Ok(match (&asked.method, &asked.segments()[..]) {
            (&Method::POST, ["orders"]) => self.place(careful, retries).await,
            (&Method::GET, ["orders", id]) => self.say(id),
            _ => Reply::unknown(),
        })
    }
}

//! The web tier, which calls all others: naive, and repaired.
//!
//! Naive takes a timeout for a failure, and tries again with a request that nothing joins to the
//! first. Repaired names the operation (`Idempotency-Key: pay-42`), takes a timeout for what it
//! is, says so, and asks payment until it knows. A third is in a hurry (`storm`): it waits briefly
//! and tries again at once; a fourth is calm about it (`calm`, in `patient`). All are the code of a
//! caller: none knows which fault is on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::http::{Answer, Ask, NoAnswer, Way};
use super::ledger::Ledger;
use super::patient::Breaker;
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
/// How long one who is in a hurry waits for an answer, and how often in all.
const HURRY: Duration = Duration::from_millis(250);
const TRIES: usize = 4;
/// Between one question to payment and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long payment is asked at all. Then the order is left to people, as what it is: unknown.
const CONFIRMING: Duration = Duration::from_secs(60);

/// The ways to the services that it calls.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) inventory: Way,
    pub(super) payment: Way,
    pub(super) orders: Way,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Web {
    ledger: Ledger,
    ways: Ways,
    busy: Busy,
    orders: AtomicUsize,
    breaker: Breaker,
}

/// One order on its way.
#[derive(Debug, Clone)]
struct Order {
    id: String,
    /// What its payment is called.
    payment: String,
    /// The trace that its customer's request belongs to.
    trace: Option<String>,
}

/// How web treats payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Naive { retries: bool },
    Careful { retries: bool },
    Storm,
    Calm,
}

impl Manner {
    fn asked(asked: &Asked) -> Self {
        let retries = asked.says("retry");
        match () {
            () if asked.says("storm") => Self::Storm,
            () if asked.says("calm") => Self::Calm,
            () if asked.says("careful") => Self::Careful { retries },
            () => Self::Naive { retries },
        }
    }
}

impl Web {
    pub(super) fn new(ways: Ways, busy: Busy) -> Self {
        Self {
            ledger: Ledger::default(),
            ways,
            busy,
            orders: AtomicUsize::new(0),
            breaker: Breaker::default(),
        }
    }

    async fn place(self: Arc<Self>, manner: Manner, trace: Option<String>) -> Reply {
        let n = self.orders.fetch_add(1, Relaxed);
        let order = Order {
            id: format!("order-{}", FIRST_ORDER + n),
            payment: format!("pay-{}", FIRST_PAYMENT + n),
            trace,
        };
        self.ledger.note(&order.id, "placed");
        if !self
            .tell(&self.ways.inventory, "/reservations", &order)
            .await
        {
            return self.fail(&order).await;
        }
        match manner {
            Manner::Naive { retries } => self.pay_naively(&order, retries).await,
            Manner::Careful { retries } => self.pay_carefully(order, retries).await,
            Manner::Storm => self.pay_in_a_hurry(&order).await,
            Manner::Calm => self.pay_calmly(order, n as u64).await,
        }
    }

    /// What does not answer soon is asked again at once, as if it were another payment.
    async fn pay_in_a_hurry(&self, order: &Order) -> Reply {
        for _ in 0..TRIES {
            let paid = self.authorize(order, None, HURRY).await;
            if paid.is_ok_and(|answer| answer.status.is_success()) {
                return match self.complete(order).await {
                    true => self.say(&order.id),
                    false => self.fail(order).await,
                };
            }
        }
        self.fail(order).await
    }

    /// The same patience; but a retry is the same payment, comes later each time and not when others'
    /// do, and while payment fails it is not asked at all.
    async fn pay_calmly(self: Arc<Self>, order: Order, n: u64) -> Reply {
        let mut unknown = false;
        for try_ in 0..TRIES {
            if try_ > 0 {
                clock::sleep(super::patient::pause(n, try_)).await;
            }
            let Some(call) = self.breaker.ask() else {
                break;
            };
            let operation = Some(order.payment.as_str());
            match self.authorize(&order, operation, HURRY).await {
                Ok(answer) if answer.status.is_success() => {
                    call.went_well();
                    return match self.complete(&order).await {
                        true => self.say(&order.id),
                        false => self.fail(&order).await,
                    };
                }
                // It is on its way: an answer, though not the one.
                Ok(answer) if answer.status == StatusCode::CONFLICT => unknown = true,
                Ok(_) => {}
                Err(NoAnswer) => unknown = true,
            }
        }
        if !unknown {
            // Nothing that was asked can have been done.
            return self.fail(&order).await;
        }
        self.note_unknown(&order);
        let (id, work) = (order.id.clone(), self.busy.begin());
        tokio::spawn(Arc::clone(&self).confirm(order, work));
        self.say(&id)
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
                let ask = Ask::get(&self.ways.payment, path, SECOND_PATIENCE);
                let found = ask.trace(order.trace.as_deref()).send().await;
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
        let ask = Ask::post(&self.ways.payment, "/authorizations", body, patience);
        let ask = ask.operation(operation).trace(order.trace.as_deref());
        ask.send().await
    }

    /// The payment is known to be made: makes the order official. Whether it is known to be.
    async fn complete(&self, order: &Order) -> bool {
        let done = self.tell(&self.ways.orders, "/receipts", order).await;
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
        self.tell(&self.ways.inventory, "/releases", order).await;
        self.ledger.note(&order.id, "failed");
        self.say(&order.id)
    }

    /// Tells another service of an order; whether it said that all is well.
    async fn tell(&self, to: &Way, path: &str, order: &Order) -> bool {
        let ask = Ask::post(to, path, json!({ "order": order.id }), PATIENCE);
        let ask = ask.trace(order.trace.as_deref());
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
        let manner = Manner::asked(&asked);
        Ok(match (&asked.method, &asked.segments()[..]) {
            (&Method::POST, ["orders"]) => self.place(manner, asked.trace.clone()).await,
            (&Method::GET, ["orders", id]) => self.say(id),
            _ => Reply::unknown(),
        })
    }
}

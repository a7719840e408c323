//! The ten acts: what goes wrong in each, what is expected to be seen, and how an act is played.
//!
//! An act begins with a shop in which nothing has happened, lets one thing go wrong, and has a
//! customer place an order. What then is the case is read from ledgers and evidence by `story`;
//! the expectations here are held against that and feed into nothing else.

use std::fmt;

use serde_json::json;

use super::Meddle;
use super::customer::Customer;
use super::stack::Stack;
use super::story::{Expected, Story};

/// How web treats a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// As a failure.
    Naive,
    /// As a timeout.
    Repaired,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Naive => "naive",
            Self::Repaired => "repaired",
        })
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Firedrill's rule of this name is on.
    Rule(&'static str),
    /// Payment crashes over the first request that it receives.
    Crash,
    /// Payment works for longer than web waits.
    Slow,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "Firedrill's rule `{name}` is on"),
            Self::Crash => f.write_str("payment crashes over the first request that it receives"),
            Self::Slow => f.write_str("payment takes longer than web waits"),
        }
    }
}

/// One of the ten.
#[derive(Debug, Clone, Copy)]
pub struct Act {
    /// From 1 to 5: which of the five things that a timeout can mean.
    pub number: usize,
    /// Who meets it.
    pub caller: Caller,
    /// What happens.
    pub title: &'static str,
    /// How that is brought about.
    pub trouble: Trouble,
    /// Whether web tries a second time while the customer waits.
    pub retries: bool,
    /// What is to be seen in the end.
    pub expected: Expected,
}

impl Act {
    /// Sets up what goes wrong, has a customer order, and reads what came of it.
    ///
    /// # Errors
    /// It can't be played to its end.
    pub(super) async fn play(
        &self,
        stack: &Stack,
        meddle: Option<&mut Meddle>,
    ) -> anyhow::Result<Story> {
        match self.trouble {
            Trouble::Rule(name) => {
                let on = json!({ "enabled": true, "ttl": "1m" });
                stack.control.patch_rule(name, &on).await?;
            }
            Trouble::Crash => stack.payment.crash_once(),
            Trouble::Slow => stack.payment.work_slowly(),
        }
        if let Some(meddle) = meddle {
            meddle(self, stack).await?;
        }
        let mut customer = Customer::new(stack.web.to_string().into());
        customer.order(&self.path()).await;
        // The caller has given up, or never had to: what is slow may end.
        stack.payment.finish();
        customer.wait().await;
        let records = stack.rest().await?;
        let rules = stack.control.rules().await?.items;
        stack.control.heal().await?;
        Ok(Story::read(&customer.told, stack, &records, &rules))
    }

    fn path(&self) -> String {
        let careful = u8::from(self.caller == Caller::Repaired);
        let retry = u8::from(self.retries);
        format!("/orders?careful={careful}&retry={retry}")
    }
}

/// In the order of playing.
pub const ACTS: [Act; 10] = [
    Act {
        number: 1,
        caller: Caller::Naive,
        title: "the request never reached payment",
        trouble: Trouble::Rule("lost-request"),
        retries: false,
        expected: Expected {
            told: "failed",
            web: "order-781 failed",
            inventory: "order-781 released",
            payment: "nothing",
            orders: "nothing",
            email: "nothing",
            charges: "never_delivered by rule lost-request, 0 deliveries",
            injected: "lost-request 1",
            promise: "kept by luck",
        },
    },
    Act {
        number: 2,
        caller: Caller::Naive,
        title: "payment crashed before writing anything",
        trouble: Trouble::Crash,
        retries: false,
        expected: Expected {
            told: "failed",
            web: "order-781 failed",
            inventory: "order-781 released",
            payment: "nothing",
            orders: "nothing",
            email: "nothing",
            charges: "unknown by upstream, 1 delivery",
            injected: "nothing",
            promise: "kept by luck",
        },
    },
    Act {
        number: 3,
        caller: Caller::Naive,
        title: "payment wrote it, and the answer was lost",
        trouble: Trouble::Rule("lost-answer"),
        retries: false,
        expected: Expected {
            told: "failed",
            web: "order-781 failed",
            inventory: "order-781 released",
            payment: "auth-77 charged",
            orders: "nothing",
            email: "nothing",
            charges: "unseen by rule lost-answer, 1 delivery",
            injected: "lost-answer 1",
            promise: "BROKEN",
        },
    },
    Act {
        number: 4,
        caller: Caller::Naive,
        title: "payment was still working, and web gave up",
        trouble: Trouble::Slow,
        retries: false,
        expected: Expected {
            told: "failed",
            web: "order-781 failed",
            inventory: "order-781 released",
            payment: "auth-77 charged",
            orders: "nothing",
            email: "nothing",
            charges: "late by client, 1 delivery",
            injected: "nothing",
            promise: "BROKEN",
        },
    },
    Act {
        number: 5,
        caller: Caller::Naive,
        title: "web tried again, and payment saw it twice",
        trouble: Trouble::Rule("lost-answer"),
        retries: true,
        expected: Expected {
            told: "confirmed",
            web: "order-781 confirmed",
            inventory: "order-781 reserved",
            payment: "auth-77 charged, auth-78 charged",
            orders: "order-781 receipt written",
            email: "order-781 confirmation sent",
            charges: "unseen by rule lost-answer, 1 delivery; acknowledged, 1 delivery",
            injected: "lost-answer 1",
            promise: "BROKEN",
        },
    },
    Act {
        number: 1,
        caller: Caller::Repaired,
        title: "the request never reached payment",
        trouble: Trouble::Rule("lost-request"),
        retries: false,
        expected: Expected {
            told: "pending, confirmed",
            charges: "never_delivered by rule lost-request, 0 deliveries; acknowledged, 1 delivery",
            injected: "lost-request 1",
            ..COMPLETED
        },
    },
    Act {
        number: 2,
        caller: Caller::Repaired,
        title: "payment crashed before writing anything",
        trouble: Trouble::Crash,
        retries: false,
        expected: Expected {
            told: "pending, confirmed",
            charges: "unknown by upstream, 1 delivery; acknowledged, 1 delivery",
            ..COMPLETED
        },
    },
    Act {
        number: 3,
        caller: Caller::Repaired,
        title: "payment wrote it, and the answer was lost",
        trouble: Trouble::Rule("lost-answer"),
        retries: false,
        expected: Expected {
            told: "pending, confirmed",
            charges: "unseen by rule lost-answer, 1 delivery",
            injected: "lost-answer 1",
            ..COMPLETED
        },
    },
    Act {
        number: 4,
        caller: Caller::Repaired,
        title: "payment was still working, and web gave up",
        trouble: Trouble::Slow,
        retries: false,
        expected: Expected {
            told: "pending, confirmed",
            charges: "late by client, 1 delivery",
            ..COMPLETED
        },
    },
    Act {
        number: 5,
        caller: Caller::Repaired,
        title: "web tried again, and payment saw it twice",
        trouble: Trouble::Rule("lost-answer"),
        retries: true,
        expected: Expected {
            told: "confirmed",
            charges: "unseen by rule lost-answer, 1 delivery; acknowledged, 1 delivery",
            injected: "lost-answer 1",
            ..COMPLETED
        },
    },
];

/// What the ledgers hold of an order that was charged once, and completed.
const COMPLETED: Expected = Expected {
    told: "confirmed",
    web: "order-781 confirmed",
    inventory: "order-781 reserved",
    payment: "auth-77 charged as pay-42",
    orders: "order-781 receipt written",
    email: "order-781 confirmation sent",
    charges: "acknowledged, 1 delivery",
    injected: "nothing",
    promise: "kept",
};

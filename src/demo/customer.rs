//! The customer: places one order, and keeps what web said, word for word.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::http::{Answer, Ask, NoAnswer, Way};
use crate::clock;

/// A customer's patience is longer than web's.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between one look at the order and the next.
const PAUSE: Duration = Duration::from_millis(20);

/// What a customer was told at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There is an order.
    Confirmed,
    /// There is none.
    Failed,
    /// It will be known later.
    Pending,
    /// Nothing, or nothing that can be understood.
    Nothing,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Pending => "pending",
            Self::Nothing => "nothing",
        })
    }
}

impl Told {
    fn hear(answer: &Result<Answer, NoAnswer>) -> Self {
        let word = answer.as_ref().map(|answer| answer.text("status"));
        match word {
            Ok("confirmed") => Self::Confirmed,
            Ok("failed") => Self::Failed,
            Ok("pending") => Self::Pending,
            _ => Self::Nothing,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Customer {
    web: Way,
    order: String,
    /// In the order of hearing, what is said again left out: the word, and all that was said.
    pub(super) told: Vec<(Told, String)>,
}

impl Customer {
    /// One that knows the way to web.
    pub(super) fn new(web: Way) -> Self {
        Self {
            web,
            order: String::new(),
            told: Vec::new(),
        }
    }

    /// Places an order, once.
    pub(super) async fn order(&mut self, path: &str) {
        let body = json!({ "item": "lamp" });
        let answer = Ask::post(&self.web, path, body, PATIENCE).send().await;
        if let Ok(answer) = &answer {
            self.order = answer.text("order").to_owned();
        }
        self.hear(&answer);
    }

    /// Looks at the order until it is more than pending.
    pub(super) async fn wait(&mut self) {
        let deadline = clock::now() + PATIENCE;
        while matches!(self.told.last(), Some((Told::Pending, _))) && clock::now() < deadline {
            clock::sleep(PAUSE).await;
            let path = format!("/orders/{}", self.order);
            let answer = Ask::get(&self.web, path, PATIENCE).send().await;
            self.hear(&answer);
        }
    }

    fn hear(&mut self, answer: &Result<Answer, NoAnswer>) {
        let words = match answer {
            Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.text("message")),
            Err(NoAnswer) => "nothing".to_owned(),
        };
        let heard = (Told::hear(answer), words);
        if self.told.last() != Some(&heard) {
            self.told.push(heard);
        }
    }
}

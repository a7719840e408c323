//! What one service durably knows: facts, each under an id. Nobody else may read it to decide
//! something; the demo reads it only to tell afterwards.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// One thing that a service knows for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is about: `order-781`, `auth-77`.
    pub id: String,
    /// How that stands.
    pub state: String,
    /// The operation that it came from, where the caller named one: `pay-42`.
    pub operation: Option<String>,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.state)?;
        match &self.operation {
            Some(operation) => write!(f, " as {operation}"),
            None => Ok(()),
        }
    }
}

/// The facts of one service, in the order in which it learned of their ids.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Vec<Fact>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Fact>> {
        // Each change is one push or one assignment: nothing can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how `id` stands now.
    pub fn note(&self, id: &str, state: &str) {
        let mut facts = self.lock();
        match facts.iter_mut().find(|fact| fact.id == id) {
            Some(fact) => fact.state = state.to_owned(),
            None => facts.push(Fact {
                id: id.to_owned(),
                state: state.to_owned(),
                operation: None,
            }),
        }
    }

    /// Adds the fact that `make` makes of how many there are, and answers its id.
    pub fn add(&self, make: impl FnOnce(usize) -> Fact) -> String {
        let mut facts = self.lock();
        let fact = make(facts.len());
        let id = fact.id.clone();
        facts.push(fact);
        id
    }

    /// How `id` stands.
    pub fn state(&self, id: &str) -> Option<String> {
        let facts = self.lock();
        let fact = facts.iter().find(|fact| fact.id == id);
        fact.map(|fact| fact.state.clone())
    }

    /// What came of an operation.
    pub fn of_operation(&self, operation: &str) -> Option<Fact> {
        let facts = self.lock();
        let named = |fact: &&Fact| fact.operation.as_deref() == Some(operation);
        facts.iter().find(named).cloned()
    }

    /// All there is.
    pub fn facts(&self) -> Vec<Fact> {
        self.lock().clone()
    }

    /// All there is, as `GET /ledger` says it.
    pub fn to_json(&self) -> Value {
        let facts = self.facts();
        json!(facts.iter().map(Fact::to_string).collect::<Vec<_>>())
    }
}

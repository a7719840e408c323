//! What happens by itself: lifetimes end, windows open and close, controllers fall silent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::model::Model;
use super::{By, Change, Draft, MAX_DEFINITIONS, Source, State, Stopping, Who};
use crate::clock::{self, Instant};

/// When each controller that gave a name was last heard of.
#[derive(Debug)]
pub(super) struct Controllers {
    heartbeat: Option<Duration>,
    heard: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Controllers {
    pub(super) fn new(heartbeat: Option<Duration>) -> Self {
        Self {
            heartbeat,
            heard: Mutex::default(),
        }
    }

    fn heard_of(&self) -> MutexGuard<'_, HashMap<Arc<str>, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self, name: &Arc<str>) {
        let mut heard = self.heard_of();
        let now = clock::now();
        if heard.len() >= 4 * MAX_DEFINITIONS {
            // More than can own anything: those that were silent for too long own nothing.
            let silence = self.heartbeat.unwrap_or_default();
            heard.retain(|_, at| *at + silence > now);
        }
        if heard.len() < 8 * MAX_DEFINITIONS {
            heard.insert(Arc::clone(name), now);
        }
    }

    /// When a controller is to be taken for gone.
    fn deadline(&self, name: &Arc<str>, since: Instant) -> Option<Instant> {
        let last = self.heard_of().get(name).copied().unwrap_or(since);
        last.checked_add(self.heartbeat?)
    }
}

impl State {
    /// A controller is still there: what it set stays. Answers how often it must say so, if it must.
    pub fn heartbeat(&self, controller: &Arc<str>) -> Option<Duration> {
        self.controllers.heard(controller);
        self.controllers.heartbeat
    }

    /// Makes what is due happen, until the process stops. Cancel-safe.
    pub async fn keep_time(&self) {
        while self.stopping() == Stopping::No {
            let woken = self.expiry.notified();
            match self.next_due() {
                None => woken.await,
                Some(due) if due > clock::now() => {
                    tokio::select! {
                        () = woken => {}
                        () = clock::sleep_until(due) => {}
                    }
                }
                Some(_) => self.happen(),
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let model = self.model();
        let now = clock::now();
        let moments = model.standing().flat_map(|it| {
            let silence = it
                .owner()
                .and_then(|name| self.controllers.deadline(name, now));
            [it.expires, it.turns, silence]
        });
        moments.flatten().min()
    }

    /// Everything that is due now: one change for each reason.
    fn happen(&self) {
        let now = clock::now();
        let due = |moment: Option<Instant>| moment.is_some_and(|at| at <= now);
        // Looked up and applied under one lock: what is switched on again in between stays on.
        let mut model = self.model();
        let expired = model.standing().filter(|it| due(it.expires));
        let expired = expired.map(|it| it.off()).collect();
        self.by_itself(&mut model, Who::Ttl, expired);
        if model.standing().any(|it| due(it.turns)) {
            let mut draft = Draft::of(&model, by_itself(Who::Schedule));
            draft.model.turn(now);
            self.adopt(&mut model, draft);
        }
        let owners = model.standing().filter_map(|it| it.owner().cloned());
        for name in owners.collect::<HashSet<_>>() {
            if due(self.controllers.deadline(&name, now)) {
                let owned = model.standing().filter(|it| it.owner() == Some(&name));
                let owned = owned.map(|it| it.off()).collect();
                self.by_itself(&mut model, Who::Silence(Arc::clone(&name)), owned);
                self.controllers.heard_of().remove(&name);
            }
        }
    }

    fn by_itself(&self, model: &mut Model, who: Who, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut draft = Draft::of(model, by_itself(who));
        for change in changes {
            // Never refused: the names are the model's.
            let _ = draft.apply(change);
        }
        self.adopt(model, draft);
    }
}

fn by_itself(who: Who) -> By {
    By {
        source: Source::Api,
        who,
    }
}

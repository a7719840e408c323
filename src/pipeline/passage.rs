//! What operations of one proxy wait for of each other: being overtaken, and the caller's trying
//! again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

/// Operations that wait for their caller to try again, at the most; more are not told of it.
const MOST_WAITING: usize = 10_000;

/// Something that happens once, and who is to be woken by it.
#[derive(Debug, Default)]
pub struct Signal {
    happened: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    /// It has happened: whoever waits is woken.
    pub(super) fn happen(&self) {
        self.happened.store(true, Release);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    pub(super) fn has_happened(&self) -> bool {
        self.happened.load(Acquire)
    }

    /// Arranges for the task to be woken when it happens; to be asked before
    /// [`Signal::has_happened`] is looked at.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for whom at one proxy. Costs an atomic load where nobody does.
#[derive(Debug, Default)]
pub(super) struct Passage {
    waiting: AtomicUsize,
    who: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who lets others pass, by the number of its record.
    overtaken: Option<(u64, Weak<Signal>)>,
    /// Who waits until its caller tries again, by what the attempts have in common.
    tried: Vec<(u64, Weak<Signal>)>,
}

impl Waiting {
    fn count(&mut self) -> usize {
        self.tried.retain(|(_, signal)| signal.strong_count() > 0);
        if self
            .overtaken
            .as_ref()
            .is_some_and(|(_, s)| s.strong_count() == 0)
        {
            self.overtaken = None;
        }
        self.tried.len() + usize::from(self.overtaken.is_some())
    }
}

impl Passage {
    fn with<R>(&self, change: impl FnOnce(&mut Waiting) -> R) -> R {
        let mut who = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut who);
        self.waiting.store(who.count(), Release);
        result
    }

    /// Has an operation wait until another one passes it; `None`: one waits already.
    pub(super) fn let_pass(&self, operation: u64) -> Option<Arc<Signal>> {
        self.with(|who| {
            who.count();
            if who.overtaken.is_some() {
                return None;
            }
            let signal = Arc::default();
            who.overtaken = Some((operation, Arc::downgrade(&signal)));
            Some(signal)
        })
    }

    /// An operation has gone to the upstream.
    pub(super) fn passed(&self, operation: u64) {
        if self.waiting.load(Acquire) == 0 {
            return;
        }
        let overtaken = self.with(|who| match &who.overtaken {
            Some((waiting, _)) if *waiting != operation => who.overtaken.take(),
            _ => None,
        });
        if let Some(signal) = overtaken.and_then(|(_, signal)| signal.upgrade()) {
            signal.happen();
        }
    }

    /// Has an operation wait until its caller tries again. `key`: what attempts have in common.
    pub(super) fn await_attempt(&self, key: u64, signal: &Arc<Signal>) {
        self.with(|who| {
            if who.tried.len() < MOST_WAITING {
                who.tried.push((key, Arc::downgrade(signal)));
            }
        });
    }

    /// An attempt has begun: those before it have been moved on from.
    pub(super) fn tried(&self, key: impl FnOnce() -> u64) {
        if self.waiting.load(Acquire) == 0 {
            return;
        }
        let key = key();
        let before: Vec<_> = self.with(|who| {
            let same = who.tried.extract_if(.., |(waiting, _)| *waiting == key);
            same.filter_map(|(_, signal)| signal.upgrade()).collect()
        });
        for signal in before {
            signal.happen();
        }
    }

    /// Whether anybody waits, for tests.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.with(|who| who.count()) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_overtaken_by_the_next_that_passes() {
        let passage = Passage::default();
        let first = passage.let_pass(1).unwrap();
        assert!(passage.let_pass(2).is_none(), "one waits already");
        passage.passed(1);
        assert!(!first.has_happened(), "nobody overtakes itself");
        passage.passed(2);
        assert!(first.has_happened());
        assert!(passage.is_idle());
        drop(passage.let_pass(3).unwrap());
        assert!(passage.let_pass(4).is_some(), "who is gone waits no more");
    }

    #[test]
    fn an_attempt_wakes_those_before_it_and_no_others() {
        let passage = Passage::default();
        let signals: Vec<Arc<Signal>> = (0..3).map(|_| Arc::default()).collect();
        for (key, signal) in [7, 7, 8].into_iter().zip(&signals) {
            passage.await_attempt(key, signal);
        }
        passage.tried(|| 7);
        let happened: Vec<_> = signals.iter().map(|s| s.has_happened()).collect();
        assert_eq!(happened, [true, true, false]);
        drop(signals);
        assert!(passage.is_idle());
    }
}

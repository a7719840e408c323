//! What wakes a connection besides its sockets: changes of the state, and deadlines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::clock::{Alarm, Instant};
use crate::state::State;

/// How long a client that was sent a FIN may take to close before it is let go.
pub(super) const CLOSING: Duration = Duration::from_millis(500);

/// How long a client's host may take to acknowledge the last bytes.
pub(super) const SETTLING: Duration = Duration::from_secs(1);

/// When a task is to be woken, if nothing else wakes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deadline {
    at: Option<Instant>,
    /// What a fault has timed happens then: as exactly as can be.
    exact: bool,
}

impl Deadline {
    /// At this moment, or soon after.
    pub(super) fn at(moment: Instant) -> Self {
        Self {
            at: Some(moment),
            exact: false,
        }
    }

    /// Keeps this moment if it is the earlier one.
    pub(super) fn sooner(&mut self, moment: Instant) {
        if self.at.is_none_or(|at| moment < at) {
            *self = Self::at(moment);
        }
    }

    /// Keeps this moment if it is the earlier one; what a fault has timed happens then.
    pub(super) fn exactly(&mut self, moment: Instant) {
        if self.at.is_none_or(|at| moment <= at) {
            self.at = Some(moment);
            self.exact = true;
        }
    }
}

/// Keeps the earlier of two moments.
pub(super) fn sooner(deadline: &mut Option<Instant>, at: Instant) {
    *deadline = Some(deadline.map_or(at, |d| d.min(at)));
}

/// The connections of one worker, to be woken at every change of the state: told once a worker
/// instead of once a connection, and each woken on the thread that carries it.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Sleepers>);

/// Who is to be woken, each under the number that it was given.
#[derive(Debug, Default)]
struct Sleepers {
    wakers: Vec<Option<Waker>>,
    /// Numbers that can be given again.
    free: Vec<u32>,
}

impl Bell {
    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every connection at every change, for as long as it is polled.
    pub(super) async fn ring(self: Arc<Self>, state: Arc<State>) {
        loop {
            // Asked for before anyone is woken: a change in between makes another round.
            let changed = state.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.sleepers()
                .wakers
                .iter()
                .flatten()
                .for_each(Waker::wake_by_ref);
            changed.await;
        }
    }

    fn join(&self, waker: &Waker) -> u32 {
        let sleepers = &mut *self.sleepers();
        match sleepers.free.pop() {
            Some(number) => {
                sleepers.wakers[number as usize] = Some(waker.clone());
                number
            }
            None => {
                sleepers.wakers.push(Some(waker.clone()));
                (sleepers.wakers.len() - 1) as u32
            }
        }
    }

    fn leave(&self, number: u32) {
        let sleepers = &mut *self.sleepers();
        sleepers.wakers[number as usize] = None;
        sleepers.free.push(number);
        if sleepers.free.len() == sleepers.wakers.len() {
            *sleepers = Sleepers::default();
        }
    }
}

/// Wakes the task at every change of the state, and at the nearest deadline.
#[derive(Debug)]
pub(super) struct Watch {
    bell: Arc<Bell>,
    number: Option<u32>,
    alarm: Alarm,
}

impl Watch {
    pub(super) fn new(bell: &Arc<Bell>) -> Self {
        Self {
            bell: Arc::clone(bell),
            number: None,
            alarm: Alarm::default(),
        }
    }

    /// Arranges for the task to be woken by every change from now on. To be called before the state
    /// is looked at, so that no change falls in between, and always by the same task.
    pub(super) fn watch_changes(&mut self, cx: &mut Context<'_>) {
        if self.number.is_none() {
            self.number = Some(self.bell.join(cx.waker()));
        }
    }

    /// Arranges for the task to be woken at `deadline`, if there is one; answers whether it has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Deadline) -> bool {
        let Deadline { at, exact } = deadline;
        at.is_some_and(|at| self.alarm.poll(cx, at, exact).is_ready())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.bell.leave(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_moment_is_kept_with_what_it_is_for() {
        let [first, second] = [10, 20].map(|ms| crate::clock::now() + Duration::from_millis(ms));
        let mut deadline = Deadline::default();
        deadline.sooner(second);
        deadline.exactly(first);
        deadline.sooner(first);
        deadline.exactly(second);
        let exact = Deadline {
            at: Some(first),
            exact: true,
        };
        assert_eq!(deadline, exact);
        let mut deadline = exact;
        deadline.sooner(first - Duration::from_millis(1));
        assert!(!deadline.exact);
    }

    #[test]
    fn numbers_are_given_again_and_the_room_is_given_back() {
        let bell = Arc::new(Bell::default());
        let mut cx = Context::from_waker(Waker::noop());
        let watch = |cx: &mut Context<'_>| {
            let mut watch = Watch::new(&bell);
            watch.watch_changes(cx);
            watch.watch_changes(cx);
            watch
        };
        let mut all: Vec<_> = (0..100).map(|_| watch(&mut cx)).collect();
        assert_eq!(bell.sleepers().wakers.len(), 100);
        all.truncate(40);
        all.extend((0..60).map(|_| watch(&mut cx)));
        assert_eq!(bell.sleepers().wakers.iter().flatten().count(), 100);
        assert_eq!(bell.sleepers().wakers.len(), 100);
        drop(all);
        assert_eq!(bell.sleepers().wakers.capacity(), 0);
    }

    #[tokio::test]
    async fn every_change_rings_once_more() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let (bell, state) = (Arc::new(Bell::default()), Arc::new(State::default()));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut watch = Watch::new(&bell);
        let waker = Arc::clone(&count).into();
        watch.watch_changes(&mut Context::from_waker(&waker));
        let ringing = tokio::spawn(Arc::clone(&bell).ring(Arc::clone(&state)));
        for n in 1..=5 {
            while count.0.load(SeqCst) < n {
                tokio::task::yield_now().await;
            }
            state.apply(vec![], crate::state::Source::Api).unwrap();
        }
        ringing.abort();
    }
}

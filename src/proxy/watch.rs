//! What wakes a connection besides its sockets: changes of the state, and deadlines.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;

use crate::clock::{Alarm, Instant};
use crate::state::State;

/// How long a client that was sent a FIN may take to close before it is let go.
pub(super) const CLOSING: Duration = Duration::from_millis(500);

/// How long a client's host may take to acknowledge the last bytes.
pub(super) const SETTLING: Duration = Duration::from_secs(1);

/// Keeps the earlier of two deadlines.
pub(super) fn sooner(deadline: &mut Option<Instant>, at: Instant) {
    *deadline = Some(deadline.map_or(at, |d| d.min(at)));
}

/// Wakes the task at every change of the state, and at the nearest deadline.
#[derive(Debug)]
pub(super) struct Watch {
    state: Arc<State>,
    changed: Pin<Box<OwnedNotified>>,
    /// What had been announced when the task last asked to be woken, and the task.
    asked: Option<(u64, Waker)>,
    alarm: Alarm,
}

impl Watch {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self {
            changed: Box::pin(state.changed()),
            asked: None,
            alarm: Alarm::default(),
            state,
        }
    }

    /// Arranges for the task to be woken by the next change. To be called before the state is
    /// looked at, so that no change falls in between.
    pub(super) fn poll_changes(&mut self, cx: &mut Context<'_>) {
        let announced = self.state.announced();
        // Asking takes a lock that all connections share, and is done for every message else.
        if let (Some(now), Some((then, waker))) = (announced, &self.asked)
            && now == *then
            && waker.will_wake(cx.waker())
        {
            return;
        }
        // Noted as it was before asking: a change in between makes the next call ask again. So does
        // one that is still to be announced: what is asked now will have resolved by then.
        self.asked = announced.map(|now| (now, cx.waker().clone()));
        while self.changed.as_mut().poll(cx).is_ready() {
            self.changed.set(self.state.changed());
        }
    }

    /// Arranges for the task to be woken at `deadline`; answers whether it has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        self.alarm.poll(cx, deadline) == Poll::Ready(())
    }
}

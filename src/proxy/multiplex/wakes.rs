//! Who of one connection's task is to be polled: either side's connection, or one of its streams.
//!
//! Many share one task. Each has a waker of its own, so that a frame for one stream costs no look
//! at the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// The connection with the client.
pub(super) const CLIENT: usize = 0;
/// The connection with the upstream.
pub(super) const UPSTREAM: usize = 1;
/// The first stream.
pub(super) const STREAMS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Wakes(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    /// To be polled next at the end.
    keys: Vec<usize>,
    /// Whether a key is among them.
    among: Vec<bool>,
    /// The task is being polled and will look at them anyway.
    busy: bool,
    task: Option<Waker>,
}

/// Wakes one of them.
struct One {
    wakes: Arc<Wakes>,
    key: usize,
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.wake(self.key);
    }
}

impl Wakes {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waker of one of them.
    pub(super) fn waker(self: &Arc<Self>, key: usize) -> Waker {
        let wakes = Arc::clone(self);
        Waker::from(Arc::new(One { wakes, key }))
    }

    /// This one is to be polled.
    pub(super) fn wake(&self, key: usize) {
        let mut ready = self.lock();
        if ready.among.len() <= key {
            ready.among.resize(key + 1, false);
        }
        if !std::mem::replace(&mut ready.among[key], true) {
            ready.keys.push(key);
        }
        if !ready.busy {
            ready.busy = true;
            if let Some(task) = &ready.task {
                task.wake_by_ref();
            }
        }
    }

    /// The task is polled now.
    pub(super) fn begin(&self, cx: &Context<'_>) {
        let mut ready = self.lock();
        ready.busy = true;
        match &ready.task {
            Some(task) if task.will_wake(cx.waker()) => {}
            _ => ready.task = Some(cx.waker().clone()),
        }
    }

    /// Whether none is to be polled.
    pub(super) fn is_quiet(&self) -> bool {
        self.lock().keys.is_empty()
    }

    /// All that are to be polled, into `keys`. With none, the task may be left: it is woken for the
    /// next.
    pub(super) fn take(&self, keys: &mut Vec<usize>) {
        keys.clear();
        let ready = &mut *self.lock();
        for key in &ready.keys {
            ready.among[*key] = false;
        }
        std::mem::swap(&mut ready.keys, keys);
        ready.busy = !keys.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_once_and_not_while_it_is_polled() {
        let (wakes, count) = (Arc::new(Wakes::default()), Arc::new(Count::default()));
        let task = Waker::from(Arc::clone(&count));
        let stream = wakes.waker(STREAMS + 3);
        let mut keys = Vec::new();
        wakes.begin(&Context::from_waker(&task));
        stream.wake_by_ref();
        stream.wake_by_ref();
        wakes.take(&mut keys);
        assert_eq!((&keys[..], count.0.load(SeqCst)), (&[STREAMS + 3][..], 0));
        wakes.wake(CLIENT);
        wakes.take(&mut keys);
        assert_eq!(keys, [CLIENT], "woken while others were polled");
        wakes.take(&mut keys);
        assert!(keys.is_empty());
        stream.wake_by_ref();
        wakes.wake(CLIENT);
        assert_eq!(count.0.load(SeqCst), 1);
        wakes.begin(&Context::from_waker(&task));
        wakes.take(&mut keys);
        assert_eq!(keys, [STREAMS + 3, CLIENT]);
    }
}

//! The threads that carry connections: one single-threaded runtime for each core.
//!
//! A connection stays on the worker that it was given to, so that both of its sockets, its timers
//! and its task wake one thread, and nothing is passed between threads for a byte to pass.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::watch::Bell;
use crate::clock;
use crate::state::State;

/// Threads of one worker that may resolve names at the same time.
const MOST_LOOKUPS: usize = 64;
/// How long such a thread is kept for the next lookup.
const LOOKUP_KEPT: Duration = Duration::from_secs(2);

/// One runtime, and how many connections it carries.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) runtime: Handle,
    /// Wakes the connections that it carries.
    pub(super) bell: Arc<Bell>,
    carried: Arc<AtomicUsize>,
}

/// One connection among those that a worker carries; counts itself out when dropped.
#[derive(Debug)]
pub(super) struct Carried(Arc<AtomicUsize>);

impl Worker {
    fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            bell: Arc::default(),
            carried: Arc::default(),
        }
    }

    fn load(&self) -> usize {
        self.carried.load(Relaxed)
    }

    /// Counts a connection in.
    pub(super) fn take_on(&self) -> Carried {
        self.carried.fetch_add(1, Relaxed);
        Carried(Arc::clone(&self.carried))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The runtimes that connections are carried on.
#[derive(Debug)]
pub struct Workers {
    all: Arc<[Worker]>,
    /// Ends each thread's runtime when dropped.
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Workers {
    /// Starts one thread for each core.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptor for its runtime.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut all = Vec::with_capacity(cores);
        let mut threads = Vec::with_capacity(cores);
        for n in 0..cores {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(MOST_LOOKUPS)
                .thread_keep_alive(LOOKUP_KEPT)
                .build()?;
            {
                let _inside = runtime.enter();
                clock::warm_up();
            }
            all.push(Worker::new(runtime.handle().clone()));
            let (end, ended) = oneshot::channel::<()>();
            let thread = thread::Builder::new().name(format!("worker-{n}"));
            let thread = thread.spawn(move || {
                // An error means that the other end was dropped: the sign to end.
                let _ = runtime.block_on(ended);
                // A lookup under way is not waited for.
                runtime.shutdown_background();
            })?;
            threads.push((end, thread));
        }
        Ok(Self {
            all: all.into(),
            threads,
        })
    }

    /// Has every worker's connections look at the state at each change of it.
    pub(super) fn heed(&self, state: &Arc<State>) {
        for worker in self.iter() {
            let ringing = Arc::clone(&worker.bell).ring(Arc::clone(state));
            drop(worker.runtime.spawn(ringing));
        }
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.all.iter()
    }

    /// All of them, for one who has a connection to give away.
    pub(super) fn choice(&self) -> Choice {
        Choice(Arc::clone(&self.all))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (end, thread) in self.threads.drain(..) {
            drop(end);
            // A panic in there was told on stderr.
            let _ = thread.join();
        }
    }
}

/// Chooses who carries a connection.
#[derive(Debug, Clone)]
pub(super) struct Choice(Arc<[Worker]>);

impl Choice {
    /// The worker for a connection that `acceptor` has accepted: itself, unless another one has
    /// clearly fewer. To pass a connection on costs a wake-up of another thread, so that of many
    /// connections a quarter may be more; of a few, each may be a bulk of bytes.
    pub(super) fn of<'a>(&'a self, acceptor: &'a Worker) -> &'a Worker {
        let Some(idlest) = self.0.iter().min_by_key(|worker| worker.load()) else {
            return acceptor;
        };
        let least = idlest.load();
        if acceptor.load() > least + least / 4 {
            idlest
        } else {
            acceptor
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_connections_are_spread_evenly_and_many_nearly() {
        let worker = || Worker::new(Handle::current());
        let choice = Choice([worker(), worker()].into());
        let mut carried = Vec::new();
        // All of them are accepted by the first worker.
        for n in 1..=100 {
            carried.push(choice.of(&choice.0[0]).take_on());
            let loads = [choice.0[0].load(), choice.0[1].load()];
            assert_eq!(loads[0] + loads[1], n);
            assert!(loads[0].abs_diff(loads[1]) <= 1 + n / 4, "{loads:?}");
        }
        drop(carried);
        assert_eq!(choice.0[0].load() + choice.0[1].load(), 0);
    }
}

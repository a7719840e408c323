//! Keeps the listeners: starts and stops proxies, and waits for their connections at the end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::listener::{self, Door, Entrance};
use super::workers::Workers;
use crate::clock;
use crate::metrics::ProxyMeters;
use crate::pipeline::{Context, Crossing};
use crate::rules::Edge;
use crate::state::{Change, Refused, Source, Stopping};

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its name is taken, or there are too many.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// As defined.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// The running proxies of one process.
#[derive(Debug)]
pub struct Supervisor {
    context: Arc<Context>,
    /// Where connections run, whoever asks for a proxy.
    workers: Workers,
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    bound: SocketAddr,
    meters: ProxyMeters,
    door: Arc<Door>,
    /// One for each worker.
    accepting: Vec<JoinHandle<()>>,
}

impl Running {
    fn stop_accepting(&self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

impl Supervisor {
    /// One without proxies. They will run on these workers.
    #[must_use]
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        workers.heed(&context.state);
        Self {
            context,
            workers,
            running: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds a proxy's address, makes it known to the state, and accepts clients. Answers the
    /// address that was really bound.
    ///
    /// # Errors
    /// Nothing is left behind when the address can't be bound or the state refuses.
    pub async fn start(&self, edge: Edge, by: Source) -> Result<SocketAddr, StartError> {
        let bind_error = |source| StartError::Bind {
            address: edge.listen.clone(),
            source,
        };
        let listener = listener::bind(&edge.listen).await.map_err(bind_error)?;
        let bound = listener.local_addr().map_err(bind_error)?;
        let entrances = Entrance::one_for_each(&self.workers, &listener).map_err(bind_error)?;
        self.context
            .state
            .apply(vec![Change::AddEdge(edge.clone())], by)?;
        let crossing = Arc::new(Crossing::new(Arc::clone(&self.context), Arc::new(edge)));
        let (name, meters) = (crossing.edge.name.clone(), crossing.meters.clone());
        let door = Door::new(crossing, &self.workers);
        let accept = |entrance: Entrance| entrance.accept(Arc::clone(&door));
        let running = Running {
            bound,
            meters,
            accepting: entrances.into_iter().map(accept).collect(),
            door: Arc::clone(&door),
        };
        self.running().insert(name, running);
        Ok(bound)
    }

    /// Stops accepting clients of a proxy and forgets it. Connections that stand go on, without
    /// rules.
    ///
    /// # Errors
    /// There is no such proxy, or a rule names it.
    pub async fn stop(&self, name: &str) -> Result<(), Refused> {
        let change = Change::RemoveEdge(name.to_owned());
        self.context.state.apply(vec![change], Source::Api)?;
        self.running().remove(name);
        Ok(())
    }

    /// The address that a proxy is bound to.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<SocketAddr> {
        self.running().get(name).map(|proxy| proxy.bound)
    }

    /// The counters of a proxy.
    #[must_use]
    pub fn meters(&self, name: &str) -> Option<ProxyMeters> {
        self.running().get(name).map(|proxy| proxy.meters.clone())
    }

    /// Stops: no new clients; all faults lifted; what stands may finish within `drain`; then it
    /// ends. Returns when no connection is left, in bounded time.
    pub async fn shut_down(&self, drain: Duration) {
        for proxy in self.running().values() {
            proxy.stop_accepting();
        }
        let state = &self.context.state;
        // It can't be refused: it names nothing.
        let _ = state.apply(vec![Change::Heal], Source::Api);
        state.stop(Stopping::Draining);
        if !self.is_quiet_within(drain).await {
            let left = self.open();
            tracing::warn!("{left} connections did not finish within {drain:?} and are closed");
        }
        state.stop(Stopping::Now);
        self.is_quiet_within(Duration::from_secs(2)).await;
    }

    fn open(&self) -> usize {
        self.running().values().map(|proxy| proxy.door.open()).sum()
    }

    async fn is_quiet_within(&self, time: Duration) -> bool {
        let deadline = clock::now() + time;
        while self.open() > 0 {
            if clock::now() >= deadline {
                return false;
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

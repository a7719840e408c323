//! Keeps the listeners: starts, changes and stops proxies, and waits for their connections at the
//! end.
//!
//! A [`Plan`] is done whole or not at all, in three steps: whatever can fail is done first (sockets
//! are bound), then the state takes the change, then what was prepared is taken into use.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard as TurnGuard;
use tokio::task::JoinHandle;

use super::listener::{Addresses, Door, Entrance};
use super::workers::Workers;
use crate::clock;
use crate::metrics::ProxyMeters;
use crate::pipeline::{Context, Crossing};
use crate::rules::Edge;
use crate::state::{By, Change, Draft, Refused, Source, Stopping};

/// Why a plan was not carried out, nor any part of it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name is taken, or there are too many; or a change that belongs to it can't be made.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An address can't be listened on.
    #[error("proxy `{proxy}`: can't listen on {address}: {source}")]
    Bind {
        /// The proxy's name.
        proxy: String,
        /// As defined.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// What is to become of proxies, in one change.
#[derive(Debug, Default)]
pub struct Plan {
    /// Proxies as they shall be: new ones, or in place of those of their names. Connections end
    /// where the address, the upstream or the protocol becomes another one, or the proxy disabled.
    pub put: Vec<Edge>,
    /// Proxies that shall be no more. No rule may name them.
    pub remove: Vec<String>,
    /// Whether the connections of those removed are closed; else they go on without rules.
    pub close: bool,
}

impl Plan {
    /// Only this proxy becomes as it is here.
    #[must_use]
    pub fn put(edge: Edge) -> Self {
        Self {
            put: vec![edge],
            ..Self::default()
        }
    }
}

/// The proxies of one process.
#[derive(Debug)]
pub struct Supervisor {
    context: Arc<Context>,
    /// Where connections run, whoever asks for a proxy.
    workers: Workers,
    proxies: Mutex<Proxies>,
    /// Held by who changes proxies.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Proxies {
    all: HashMap<String, Proxy>,
    /// Doors that are shut, with connections that came through them.
    shut: Vec<Arc<Door>>,
}

#[derive(Debug)]
struct Proxy {
    crossing: Arc<Crossing>,
    /// Where it listens; `None`: it is disabled.
    open: Option<Listening>,
    /// Where it listens or, disabled, did last.
    bound: Option<SocketAddr>,
}

/// A socket, and who accepts from it.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    socket: TcpListener,
    door: Arc<Door>,
    /// One for each worker.
    accepting: Vec<JoinHandle<()>>,
}

impl Listening {
    /// Stops accepting; its connections go on. Answers who is about to end.
    fn shut(mut self, doors: &mut Vec<Arc<Door>>) -> Vec<JoinHandle<()>> {
        for accepting in &self.accepting {
            accepting.abort();
        }
        doors.push(Arc::clone(&self.door));
        std::mem::take(&mut self.accepting)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

/// What becomes of a proxy's socket.
enum Socket {
    /// It has none.
    None,
    /// It keeps the one that it has.
    Keep,
    /// This one, and the workers' ways to it.
    New(SocketAddr, TcpListener, Vec<Entrance>),
}

/// The right to change proxies: whoever has it finds them as it left them.
#[derive(Debug)]
pub struct Turn<'a> {
    supervisor: &'a Supervisor,
    _alone: TurnGuard<'a, ()>,
}

impl Supervisor {
    /// One without proxies. They will run on these workers.
    #[must_use]
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        workers.heed(&context.state);
        Self {
            context,
            workers,
            proxies: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn proxies(&self) -> MutexGuard<'_, Proxies> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else changes proxies. Rules and partitions change as ever meanwhile.
    pub async fn turn(&self) -> Turn<'_> {
        Turn {
            supervisor: self,
            _alone: self.turn.lock().await,
        }
    }

    /// Carries out a plan, whole or not at all, and answers the generation. Addresses that proxies
    /// give up are free when it returns, or another one's of the plan.
    ///
    /// # Errors
    /// Nothing is left behind when an address can't be bound or the state refuses.
    pub async fn rearrange(&self, plan: Plan, by: impl Into<By>) -> Result<u64, StartError> {
        self.turn().await.rearrange(plan, by).await
    }

    /// Starts a proxy that is not there yet. Answers the address that was really bound; `None`: it
    /// is disabled.
    ///
    /// # Errors
    /// As [`Supervisor::rearrange`]; also, there is one of that name.
    pub async fn start(
        &self,
        edge: Edge,
        by: impl Into<By>,
    ) -> Result<Option<SocketAddr>, StartError> {
        let name = edge.name.clone();
        let turn = self.turn().await;
        if turn.find(&name).is_some() {
            return Err(Refused::Exists("proxy", name).into());
        }
        turn.rearrange(Plan::put(edge), by).await?;
        Ok(self.bound(&name))
    }

    /// Stops accepting clients of a proxy and forgets it. Connections that stand go on, without
    /// rules.
    ///
    /// # Errors
    /// There is no such proxy, or a rule names it.
    pub async fn stop(&self, name: &str, by: impl Into<By>) -> Result<(), StartError> {
        let plan = Plan {
            remove: vec![name.to_owned()],
            ..Plan::default()
        };
        self.rearrange(plan, by).await.map(drop)
    }

    /// The address that a proxy is bound to or, where it is disabled, was.
    #[must_use]
    pub fn bound(&self, name: &str) -> Option<SocketAddr> {
        self.proxies().all.get(name)?.bound
    }

    /// The counters of a proxy.
    #[must_use]
    pub fn meters(&self, name: &str) -> Option<ProxyMeters> {
        let proxies = self.proxies();
        Some(proxies.all.get(name)?.crossing.meters.clone())
    }

    /// Stops: no new clients; all faults lifted; what stands may finish within `drain`; then it
    /// ends. Returns when no connection is left, in bounded time.
    pub async fn shut_down(&self, drain: Duration) {
        // Whoever changes proxies now comes too late.
        let _turn = self.turn().await;
        let gone = {
            let Proxies { all, shut } = &mut *self.proxies();
            let open = all.values_mut().filter_map(|proxy| proxy.open.take());
            open.flat_map(|open| open.shut(shut)).collect::<Vec<_>>()
        };
        for accepting in gone {
            // That it was aborted is how it ends.
            let _ = accepting.await;
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
        let proxies = self.proxies();
        let doors = proxies.all.values().filter_map(|proxy| proxy.open.as_ref());
        let doors = doors.map(|open| &open.door).chain(&proxies.shut);
        doors.map(|door| door.open()).sum()
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

impl Turn<'_> {
    /// A proxy as it is defined now.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Edge>> {
        let edges = self.supervisor.context.state.edges();
        edges.into_iter().find(|edge| edge.name == name)
    }

    /// See [`Supervisor::rearrange`].
    ///
    /// # Errors
    /// As there.
    pub async fn rearrange(&self, plan: Plan, by: impl Into<By>) -> Result<u64, StartError> {
        self.rearrange_with(plan, by, |_| Ok(())).await
    }

    /// The same, and in the same change what `also` makes of the draft: once the proxies are put,
    /// and before others are removed.
    ///
    /// # Errors
    /// As there; those of `also` too.
    pub async fn rearrange_with(
        &self,
        plan: Plan,
        by: impl Into<By>,
        also: impl FnOnce(&mut Draft) -> Result<(), Refused>,
    ) -> Result<u64, StartError> {
        let mut wanted = Vec::new();
        for edge in &plan.put {
            wanted.push(match edge.enabled {
                true => Addresses::of(&edge.listen).await,
                false => Ok(Addresses::default()),
            });
        }
        let sockets = self.prepare(&plan, wanted)?;
        let state = &self.supervisor.context.state;
        let generation = state.change(by, |draft| {
            let mut put = plan.put.iter().cloned().map(Change::PutEdge);
            put.try_for_each(|change| draft.apply(change))?;
            also(draft)?;
            let mut remove = plan.remove.iter().cloned().map(Change::RemoveEdge);
            remove.try_for_each(|change| draft.apply(change))
        })?;
        // From here on it must not wait: it could be given up half done.
        let gone = self.commit(plan, sockets);
        state.announce();
        for accepting in gone {
            // That it was aborted is how it ends.
            let _ = accepting.await;
        }
        Ok(generation)
    }

    /// Sees to it that every proxy of a plan can have its socket.
    fn prepare(
        &self,
        plan: &Plan,
        wanted: Vec<io::Result<Addresses>>,
    ) -> Result<Vec<Socket>, StartError> {
        let proxies = self.supervisor.proxies();
        let listening = |name: &str| proxies.all.get(name)?.open.as_ref();
        let removed = plan.remove.iter().filter_map(|name| listening(name));
        let mut given_up: Vec<&Listening> = removed.collect();
        for (edge, wanted) in plan.put.iter().zip(&wanted) {
            let keeps = |open: &&Listening| wanted.as_ref().is_ok_and(|w| w.include(open.address));
            given_up.extend(listening(&edge.name).filter(|open| !keeps(open)));
        }
        let mut prepare = |(edge, wanted): (&Edge, io::Result<Addresses>)| {
            if !edge.enabled {
                return Ok(Socket::None);
            }
            let wanted = wanted?;
            if listening(&edge.name).is_some_and(|open| wanted.include(open.address)) {
                return Ok(Socket::Keep);
            }
            let other = given_up.iter().position(|open| wanted.name(open.address));
            let socket = match other {
                Some(at) => given_up.swap_remove(at).socket.try_clone()?,
                None => {
                    let before = proxies.all.get(&edge.name).and_then(|proxy| proxy.bound);
                    let beside = given_up.iter().map(|open| (open.address, &open.socket));
                    wanted.bind(before, beside)?
                }
            };
            let entrances = Entrance::one_for_each(&self.supervisor.workers, &socket)?;
            Ok(Socket::New(socket.local_addr()?, socket, entrances))
        };
        let each = plan.put.iter().zip(wanted).map(|(edge, wanted)| {
            prepare((edge, wanted)).map_err(|source| StartError::Bind {
                proxy: edge.name.clone(),
                address: edge.listen.clone(),
                source,
            })
        });
        each.collect()
    }

    /// Takes what was prepared into use. Answers who is about to end accepting.
    fn commit(&self, plan: Plan, sockets: Vec<Socket>) -> Vec<JoinHandle<()>> {
        let mut proxies = self.supervisor.proxies();
        let Proxies { all, shut } = &mut *proxies;
        shut.retain(|door| door.open() > 0);
        let mut gone = Vec::new();
        let mut leave = |open: &mut Option<Listening>| {
            if let Some(open) = open.take() {
                gone.extend(open.shut(shut));
            }
        };
        for name in &plan.remove {
            if let Some(mut proxy) = all.remove(name) {
                if plan.close {
                    proxy.crossing.close();
                }
                leave(&mut proxy.open);
            }
        }
        // Where one takes over another's socket, that one stops accepting first.
        let mut begin = Vec::new();
        for (edge, socket) in plan.put.into_iter().zip(sockets) {
            let (name, edge) = (edge.name.clone(), Arc::new(edge));
            let Some(proxy) = all.get_mut(&name) else {
                let context = Arc::clone(&self.supervisor.context);
                let crossing = Arc::new(Crossing::new(context, edge));
                let (open, bound) = (None, None);
                all.insert(
                    name.clone(),
                    Proxy {
                        crossing,
                        open,
                        bound,
                    },
                );
                begin.push((name, socket));
                continue;
            };
            let old = Arc::clone(&proxy.crossing);
            let apart = !matches!(socket, Socket::Keep) || !carries_alike(&old.edge, &edge);
            if old.edge.listen != edge.listen {
                proxy.bound = proxy.bound.filter(|_| matches!(socket, Socket::Keep));
            }
            proxy.crossing = Arc::new(old.succeeded_by(edge, apart));
            match (&proxy.open, &socket) {
                (Some(open), Socket::Keep) => open.door.leads_to(&proxy.crossing),
                _ => {
                    leave(&mut proxy.open);
                    begin.push((name, socket));
                }
            }
            if apart {
                // Whoever came meanwhile came under the new definition, or is closed as well.
                old.close();
            }
        }
        for (name, socket) in begin {
            if let (Socket::New(address, socket, entrances), Some(proxy)) =
                (socket, all.get_mut(&name))
            {
                let door = Door::new(&proxy.crossing, &self.supervisor.workers);
                let accept = |entrance: Entrance| entrance.accept(Arc::clone(&door));
                proxy.bound = Some(address);
                proxy.open = Some(Listening {
                    address,
                    socket,
                    accepting: entrances.into_iter().map(accept).collect(),
                    door: Arc::clone(&door),
                });
            }
        }
        gone
    }
}

/// Whether connections of one definition may go on under another.
fn carries_alike(one: &Edge, other: &Edge) -> bool {
    one.upstream == other.upstream && one.protocol == other.protocol
}

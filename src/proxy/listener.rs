//! Accepts clients of one proxy, survives what accepting can meet, and hands each on.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::net::sockopt::set_socket_reuseport;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::greeting::{self, Greeted};
use super::peer::{Peer, Socket, set_up};
use super::seldom::Seldom;
use super::watch::Bell;
use super::workers::{Carried, Choice, Worker, Workers};
use super::{auto, stream, tap, transparent};
use crate::clock;
use crate::evidence::{Cause, Outcome};
use crate::operation::Phase;
use crate::pipeline::{ConnectAction, Crossing, Operation, Session};
use crate::rules::Protocol;

/// The pause after an accept that failed for want of resources. Trying costs next to nothing, and
/// whoever waits shall not wait long once there are some.
const PAUSE: Duration = Duration::from_millis(10);

/// How many clients the system may have connected before they are accepted; it caps this itself. By
/// default it is 128, and a burst of more would wait for the next SYN: a second's delay that nobody
/// injected.
const BACKLOG: u32 = 4096;

/// How long the name of an address may take to be resolved.
const RESOLVING: Duration = Duration::from_secs(5);

/// What a proxy's `listen` means on this machine.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<SocketAddr>);

impl Addresses {
    /// Resolves it.
    ///
    /// # Errors
    /// There is no such name, or nobody says so in time.
    pub(super) async fn of(listen: &str) -> io::Result<Self> {
        let found = clock::within(RESOLVING, tokio::net::lookup_host(listen)).await;
        Ok(Self(found.ok_or(io::ErrorKind::TimedOut)??.collect()))
    }

    /// Whether this address is meant.
    pub(super) fn name(&self, address: SocketAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether this address will do: port 0 is any.
    pub(super) fn include(&self, address: SocketAddr) -> bool {
        let same =
            |a: &SocketAddr| a.ip() == address.ip() && [0, address.port()].contains(&a.port());
        self.0.iter().any(same)
    }

    /// Binds the first that can be had; the one it had `before`, if that will do. `beside`: sockets
    /// that are about to go, which an address may overlap: every interface has the ports of each.
    ///
    /// # Errors
    /// Why the last could not be bound.
    pub(super) fn bind<'s>(
        &self,
        before: Option<SocketAddr>,
        beside: impl Iterator<Item = (SocketAddr, &'s std::net::TcpListener)> + Clone,
    ) -> io::Result<std::net::TcpListener> {
        let before = before.filter(|address| self.include(*address));
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        for address in before.iter().chain(&self.0) {
            let mut beside = beside
                .clone()
                .filter(|(other, _)| other.port() == address.port());
            let bound = match (bind(*address, false), beside.next()) {
                (Err(error), Some((_, other))) if error.kind() == io::ErrorKind::AddrInUse => {
                    bind_beside(*address, other)
                }
                (bound, _) => bound,
            };
            match bound {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Binds an address that overlaps `other`'s, which is about to go. Only for that moment do they share
/// it: else another process could take it too.
fn bind_beside(
    address: SocketAddr,
    other: &std::net::TcpListener,
) -> io::Result<std::net::TcpListener> {
    set_socket_reuseport(other, true)?;
    let bound = bind(address, true);
    set_socket_reuseport(other, false)?;
    let bound = bound?;
    set_socket_reuseport(&bound, false)?;
    Ok(bound)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections that it had before may not be over yet.
    socket.set_reuseaddr(true)?;
    if shared {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    set_up(&listener)?;
    listener.into_std()
}

/// What the workers' entrances to one proxy share.
#[derive(Debug)]
pub(super) struct Door {
    /// Under what definition clients come through.
    crossing: ArcSwap<Crossing>,
    workers: Choice,
    /// Connections that are open.
    open: AtomicUsize,
    /// Held while a client is taken from the queue, numbered, and its rules asked: all in the order
    /// in which clients came.
    turn: Mutex<()>,
    trouble: Seldom,
    strangers: Seldom,
}

impl Door {
    pub(super) fn new(crossing: &Arc<Crossing>, workers: &Workers) -> Arc<Self> {
        Arc::new(Self {
            crossing: ArcSwap::new(Arc::clone(crossing)),
            workers: workers.choice(),
            open: AtomicUsize::new(0),
            turn: Mutex::default(),
            trouble: Seldom::default(),
            strangers: Seldom::default(),
        })
    }

    /// Says that accepting fails, but not each time.
    fn say(&self, error: &io::Error) {
        if let Some(failed) = self.trouble.is_due() {
            let proxy = &self.crossing.load().edge.name;
            tracing::warn!(proxy, %error, failed, "can't accept; trying again every {PAUSE:?}");
        }
    }

    /// Says that a client did not get as far as its first byte, but not each time.
    pub(super) fn stranger(&self, session: &Session, why: &str) {
        if let Some(clients) = self.strangers.is_due() {
            let (proxy, client) = (&session.crossing().edge.name, session.client());
            tracing::warn!(proxy, %client, clients, "a client did not get as far as its first byte: {why}");
        }
    }

    /// From now on clients come under this definition.
    pub(super) fn leads_to(&self, crossing: &Arc<Crossing>) {
        self.crossing.store(Arc::clone(crossing));
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Acquire)
    }
}

/// One worker's way to a proxy's socket. All workers accept from the same queue.
pub(super) struct Entrance {
    listener: TcpListener,
    worker: Worker,
}

impl Entrance {
    /// Opens the socket to every worker.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn one_for_each(
        workers: &Workers,
        socket: &std::net::TcpListener,
    ) -> io::Result<Vec<Self>> {
        let open = |worker: &Worker| {
            let socket = socket.try_clone()?;
            let _inside = worker.runtime.enter();
            Ok(Self {
                listener: TcpListener::from_std(socket)?,
                worker: worker.clone(),
            })
        };
        workers.iter().map(open).collect()
    }

    /// Accepts, on its worker, until aborted. Connections go on without it.
    pub(super) fn accept(self, door: Arc<Door>) -> JoinHandle<()> {
        let runtime = self.worker.runtime.clone();
        runtime.spawn(async move {
            loop {
                match poll_fn(|cx| self.poll_next(cx, &door)).await {
                    Ok((socket, arrival)) => arrival.receive(socket, &self.worker),
                    // The client left before it was accepted: nothing to do with the next one.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        door.say(&error);
                        clock::sleep(PAUSE).await;
                    }
                }
            }
        })
    }

    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        door: &Arc<Door>,
    ) -> Poll<io::Result<(TcpStream, Arrival)>> {
        let _turn = match door.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Another worker is at it, and done in no time: cheaper than to sleep for it.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        let (socket, client) = ready!(self.listener.poll_accept(cx))?;
        let arrival = Arrival::new(door, client, &socket);
        Poll::Ready(Ok((socket, arrival)))
    }
}

/// One open connection; counts itself out when dropped.
struct Guard {
    door: Arc<Door>,
    carried: Option<Carried>,
}

impl Guard {
    fn new(door: &Arc<Door>) -> Self {
        door.open.fetch_add(1, AcqRel);
        let crossing = door.crossing.load();
        crossing.meters.connections.inc();
        crossing.meters.open.inc();
        Self {
            door: Arc::clone(door),
            carried: None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, AcqRel);
        self.door.crossing.load().meters.open.dec();
    }
}

/// A client that was accepted.
struct Arrival {
    session: Session,
    guard: Guard,
    /// What it begins with, or why it can't.
    begun: Result<Begun, Unfit>,
}

/// Why a client is refused.
enum Unfit {
    /// There is no room for it.
    OneTooMany,
    /// It is to go on to where it was going, and that is here.
    Astray(io::Error),
}

/// What a connection begins with.
enum Begun {
    /// The operation that it is, and what is to be done with it.
    Stream(Operation, ConnectAction),
    /// Its operations are messages, or it is not known what they are; what it is itself, until the first of them, if a rule acts on its
    /// being made. Or the rules are asked once it is known who it is.
    Later(Option<(Operation, ConnectAction)>),
}

impl Arrival {
    fn new(door: &Arc<Door>, client: SocketAddr, socket: &TcpStream) -> Self {
        let crossing = door.crossing.load_full();
        let mut session = crossing.session(client);
        let guard = Guard::new(door);
        let edge = &crossing.edge;
        let fits = match door.open() <= edge.max_connections {
            false => Err(Unfit::OneTooMany),
            true if edge.is_transparent() => {
                let destination = transparent::destination(socket).map_err(Unfit::Astray);
                destination.map(|destination| session.bound_for(destination))
            }
            true => Ok(()),
        };
        let begun = fits.map(|()| match edge.protocol {
            Protocol::Tcp if !edge.proxy_protocol.accept => {
                let (operation, action) = session.connection();
                Begun::Stream(operation, action)
            }
            Protocol::Http | Protocol::Auto if !edge.proxy_protocol.accept => {
                Begun::Later(session.opening())
            }
            _ => Begun::Later(None),
        });
        Self {
            session,
            guard,
            begun,
        }
    }

    /// Has it carried by `acceptor` or another worker.
    fn receive(mut self, socket: TcpStream, acceptor: &Worker) {
        let door = Arc::clone(&self.guard.door);
        let worker = door.workers.of(acceptor);
        self.guard.carried = Some(worker.take_on());
        if std::ptr::eq(worker, acceptor) {
            self.begin(socket, &worker.bell);
            return;
        }
        // Taken off this worker's poll here, and put on the other's there.
        match socket.into_std() {
            Ok(socket) => {
                let bell = Arc::clone(&worker.bell);
                drop(worker.runtime.spawn(async move {
                    match TcpStream::from_std(socket) {
                        Ok(socket) => self.begin(socket, &bell),
                        Err(error) => self.lost(&error),
                    }
                }));
            }
            Err(error) => self.lost(&error),
        }
    }

    /// Begins to carry it on this worker.
    fn begin(self, socket: TcpStream, bell: &Arc<Bell>) {
        let Self {
            session,
            guard,
            begun,
        } = self;
        let begun = match begun {
            Err(unfit) => return refuse(socket, &session, &unfit),
            Ok(Begun::Stream(operation, action)) => Some((operation, action)),
            Ok(Begun::Later(opening)) => opening,
        };
        if greeting::is_needed(&session.crossing().edge) {
            let bell = Arc::clone(bell);
            drop(tokio::spawn(async move {
                let door = Arc::clone(&guard.door);
                let greeted = greeting::greet(socket, session, begun, &bell, &door).await;
                if let Some(greeted) = greeted {
                    carry(greeted, &bell, guard);
                }
            }));
            return;
        }
        let greeted = Greeted {
            client: Peer::new(Socket::Plain(socket)),
            upstream: None,
            session,
            begun,
        };
        carry(greeted, bell, guard);
    }

    /// It can't be carried, for want of resources.
    fn lost(self, error: &io::Error) {
        tracing::warn!(proxy = self.session.crossing().edge.name, %error, "a client was lost");
        if let Ok(Begun::Stream(operation, _)) = &self.begun {
            operation.witness.blame(Cause::Proxy);
            operation.witness.told(Outcome::Closed, None, 0);
        }
    }
}

/// Carries a connection in a task of its own.
fn carry(greeted: Greeted, bell: &Arc<Bell>, guard: Guard) {
    let Greeted {
        client,
        upstream,
        session,
        begun,
    } = greeted;
    match (session.crossing().edge.protocol, begun) {
        (Protocol::Tcp, Some((operation, action))) => {
            let carried = stream::carry(client, upstream, session, operation, action, bell, guard);
            drop(tokio::spawn(carried));
        }
        (_, Some((operation, action))) if action.discard.is_some() => {
            if let Some((_, receipt)) = action.discard {
                receipt.injected(Phase::Connect);
            }
            operation.witness.told(Outcome::Reset, None, 0);
            client.reset();
        }
        (Protocol::Auto, opening) => {
            let carried = auto::carry(client, upstream, session, opening, bell, guard);
            drop(tokio::spawn(carried));
        }
        (_, opening) => {
            let carried = tap::carry(client, upstream, session, opening, bell, guard);
            drop(tokio::spawn(carried));
        }
    }
}

/// Ends a connection that is not to be carried.
fn refuse(socket: TcpStream, session: &Session, unfit: &Unfit) {
    let edge = &session.crossing().edge;
    let (proxy, client) = (&edge.name, session.client());
    match unfit {
        Unfit::OneTooMany => {
            let most = edge.max_connections;
            tracing::warn!(proxy, %client, "refused: `max_connections` ({most}) are open");
        }
        Unfit::Astray(why) => tracing::warn!(proxy, %client, "refused: {why}"),
    }
    let witness = session.witness();
    witness.blame(Cause::Proxy);
    witness.told(Outcome::Reset, None, 0);
    Peer::new(Socket::Plain(socket)).reset();
}

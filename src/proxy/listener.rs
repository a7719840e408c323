//! Accepts clients of one proxy, survives what accepting can meet, and hands each on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::peer::Peer;
use super::{stream, tap};
use crate::clock;
use crate::evidence::{Cause, Outcome};
use crate::pipeline::Crossing;
use crate::rules::Protocol;

/// The first pause after an accept that failed for want of resources; it doubles up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// How many clients the system may have connected before they are accepted; it caps this itself.
const BACKLOG: i32 = 4096;

/// Binds a proxy's address.
pub(super) async fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    // By default it is 128, and a burst of more would wait for the next SYN: a second's delay that
    // nobody injected. Listening again changes only that.
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// Open connections of one proxy.
#[derive(Debug, Default)]
pub(super) struct Open(AtomicUsize);

impl Open {
    pub(super) fn count(&self) -> usize {
        self.0.load(Acquire)
    }
}

/// One open connection; counts itself out when dropped.
struct Guard {
    open: Arc<Open>,
    crossing: Arc<Crossing>,
}

impl Guard {
    fn new(open: &Arc<Open>, crossing: &Arc<Crossing>) -> Self {
        open.0.fetch_add(1, AcqRel);
        crossing.meters.connections.inc();
        crossing.meters.open.inc();
        Self {
            open: Arc::clone(open),
            crossing: Arc::clone(crossing),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.open.0.fetch_sub(1, AcqRel);
        self.crossing.meters.open.dec();
    }
}

/// Accepts until dropped. Connections go on without it.
pub(super) async fn accept(listener: TcpListener, crossing: Arc<Crossing>, open: Arc<Open>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                pause = FIRST_PAUSE;
                serve(socket, client, &crossing, &open);
            }
            // The client left before it was accepted: nothing to do with the next one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(
                    proxy = crossing.edge.name,
                    %error,
                    "can't accept; trying again in {pause:?}"
                );
                clock::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn serve(socket: TcpStream, client: SocketAddr, crossing: &Arc<Crossing>, open: &Arc<Open>) {
    let guard = Guard::new(open, crossing);
    let session = crossing.session(client);
    if open.count() > crossing.edge.max_connections {
        tracing::warn!(
            proxy = crossing.edge.name,
            %client,
            "refused: `max_connections` ({}) are open",
            crossing.edge.max_connections
        );
        let witness = session.witness();
        witness.blame(Cause::Proxy);
        witness.told(Outcome::Reset, None, 0);
        Peer::new(socket).reset();
        return;
    }
    match crossing.edge.protocol {
        Protocol::Tcp => drop(tokio::spawn(stream::carry(socket, session, guard))),
        Protocol::Http => drop(tokio::spawn(tap::carry(socket, session, guard))),
    }
}

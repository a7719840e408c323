//! A connection of which it is not known what it carries: the first words decide, whoever says them.
//!
//! The upstream is dialled at once, as it may be who speaks first. A client that begins with a
//! request of HTTP goes on to `tap`; anything else to `stream`, the end of either side included. Both
//! are given what was read. Until then nothing is passed on and next to nothing held, and only rules
//! act that act on the making of connections.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::ReadBuf;

use super::peer::{Peer, Read};
use super::upstream::{Upstream, spoken};
use super::watch::{Bell, Deadline, Watch};
use super::{stream, tap};
use crate::clock::{self, Instant};
use crate::evidence::{Cause, Outcome};
use crate::operation::{Direction, Phase};
use crate::pipeline::{ConnectAction, Operation, Session};
use crate::protocol::first_bytes::{FRAME_HEAD, FirstBytes, Words, is_settings};
use crate::rules::{Cut, Protocol};
use crate::state::Stopping;

/// How long a client may take for its first words, where the upstream can't be reached: with them it
/// is known what it was that failed.
const GRACE: Duration = Duration::from_millis(100);

/// How long a client may take for a first line that may become a request: someone may wait for an
/// answer to what has come of it.
const LINE: Duration = Duration::from_secs(1);

/// How often it is asked how a frame goes on that an upstream has begun.
const LOOK: Duration = Duration::from_millis(10);

/// What one side said before it was known how to carry it.
#[derive(Default)]
pub(super) struct Said {
    pub(super) bytes: BytesMut,
    /// It has said all it will say, or is gone.
    pub(super) end: Option<Read<()>>,
}

/// A connection that has turned out to be something.
pub(super) struct Known {
    pub(super) client: Peer,
    pub(super) upstream: Upstream,
    pub(super) session: Session,
    /// What the client and the upstream have said.
    pub(super) said: Box<[Said; 2]>,
}

/// Waits until it is known what a connection carries, and has it carried so. `upstream`: where it was
/// dialled already.
pub(super) fn carry<G: Send + 'static>(
    client: Peer,
    upstream: Option<Peer>,
    session: Session,
    opening: Option<(Operation, ConnectAction)>,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    let (operation, action) = opening.unzip();
    let mut unknown = Unknown {
        watch: Watch::new(bell),
        upstream: upstream.map_or(Upstream::None, Upstream::Open),
        client,
        session,
        operation,
        action: action.unwrap_or_default(),
        said: Box::default(),
        words: FirstBytes::default(),
        held_by: Vec::new(),
        dialled: false,
        failed: None,
        begun: None,
    };
    let bell = Arc::clone(bell);
    async move {
        let turned_out = std::future::poll_fn(|cx| unknown.poll(cx)).await;
        match turned_out {
            // A task of its own has no more room than one where that was known from the beginning.
            Some(Protocol::Http) => {
                let (known, opening) = unknown.turned_out_http();
                drop(tokio::spawn(tap::carry_on(known, opening, &bell, guard)));
            }
            Some(_) => {
                let (known, operation, action) = unknown.turned_out_tcp();
                let carried = stream::carry_on(known, operation, action, &bell, guard);
                drop(tokio::spawn(carried));
            }
            None => unknown.let_go(),
        }
    }
}

struct Unknown {
    session: Session,
    /// Its own operation, if a rule acts on its being made, and what is to be done with it.
    operation: Option<Operation>,
    action: ConnectAction,
    client: Peer,
    upstream: Upstream,
    /// Upstream, downstream.
    said: Box<[Said; 2]>,
    words: FirstBytes,
    /// Partitions that have kept it from being dialled.
    held_by: Vec<Cut>,
    /// The upstream was dialled here.
    dialled: bool,
    /// Since when it is known not to be reachable.
    failed: Option<Instant>,
    /// When the client's first byte came.
    begun: Option<Instant>,
    watch: Watch,
}

impl Unknown {
    /// What it has turned out to be; `None`: nothing, and it ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Protocol>> {
        self.watch.watch_changes(cx);
        self.session.refresh();
        let silent = self.said[Direction::Upstream as usize].bytes.is_empty();
        match self.session.stopping() {
            Stopping::No => {}
            _ if silent => return Poll::Ready(None),
            Stopping::Draining => {}
            Stopping::Now => return Poll::Ready(Some(Protocol::Tcp)),
        }
        let cuts = self.session.cuts();
        if cuts.reset || cuts.refuse && matches!(self.upstream, Upstream::None) {
            return Poll::Ready(Some(Protocol::Tcp));
        }
        let mut deadline = Deadline::default();
        self.poll_dial(cx, &mut deadline);
        if let Some(protocol) = self.hear_client(cx) {
            return Poll::Ready(Some(protocol));
        }
        if self.hears_upstream(cx, &mut deadline) {
            return Poll::Ready(Some(Protocol::Tcp));
        }
        let failed = self.failed.map(|at| at + GRACE);
        let begun = self.begun.map(|at| at + LINE);
        for until in [failed, begun].into_iter().flatten() {
            if until <= clock::now() {
                return Poll::Ready(Some(Protocol::Tcp));
            }
            deadline.sooner(until);
        }
        if self.watch.poll_deadline(cx, deadline) {
            // It passed while this was decided.
            cx.waker().wake_by_ref();
        }
        for peer in [Some(&mut self.client), self.upstream.peer()] {
            // That it is broken, the next read tells.
            let _ = peer.map(|peer| peer.poll_flush(cx));
        }
        Poll::Pending
    }

    fn poll_dial(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) {
        if matches!(self.upstream, Upstream::None) {
            let due = self.action.hold.due(self.session.accepted());
            if due > clock::now() {
                self.action.hold.settle(Phase::Connect);
                deadline.exactly(due);
                return;
            }
            if self.session.cuts().silences(Direction::Upstream) {
                for cut in self.session.cutting(Direction::Upstream) {
                    let same = |held: &Cut| Arc::ptr_eq(&held.partition, &cut.partition);
                    if !self.held_by.iter().any(same) {
                        self.held_by.push(cut.clone());
                    }
                }
                return;
            }
            let edge = &self.session.crossing().edge;
            let alpn = match self.client.alpn() {
                Some(agreed) => vec![agreed.to_vec()],
                None => spoken(Protocol::Auto),
            };
            self.upstream.dial(edge, self.session.way(), alpn);
            self.dialled = true;
        }
        if self.upstream.poll_ahead(cx) {
            self.failed.get_or_insert_with(clock::now);
        }
    }

    /// Listens to the client; answers what it speaks, once that is known.
    fn hear_client(&mut self, cx: &mut Context<'_>) -> Option<Protocol> {
        let said = &mut self.said[Direction::Upstream as usize];
        loop {
            let read = self.client.poll_read(cx, |_, bytes| {
                said.bytes.extend_from_slice(bytes);
                self.words.take(bytes)
            });
            match read {
                Poll::Pending => return None,
                Poll::Ready(Read::Bytes(Words::More)) => {
                    self.begun.get_or_insert_with(clock::now);
                }
                Poll::Ready(Read::Bytes(Words::Http)) => return Some(Protocol::Http),
                Poll::Ready(Read::Bytes(Words::Other)) => return Some(Protocol::Tcp),
                Poll::Ready(Read::Eof) => said.end = Some(Read::Eof),
                Poll::Ready(Read::Broken(error)) => said.end = Some(Read::Broken(error)),
            }
            if said.end.is_some() {
                return Some(Protocol::Tcp);
            }
        }
    }

    /// Whether the upstream has spoken first, or is gone. A server of HTTP/2 that does is waited for
    /// no longer: it is its client who tells.
    fn hears_upstream(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) -> bool {
        let Some(upstream) = self.upstream.peer() else {
            return false;
        };
        if matches!(upstream.alpn(), Some(b"h2")) {
            return false;
        }
        if let Some(socket) = upstream.plain() {
            let mut head = [0; FRAME_HEAD];
            let mut head = ReadBuf::new(&mut head);
            if let Poll::Ready(Ok(n @ 1..)) = socket.poll_peek(cx, &mut head)
                && is_settings(head.filled())
            {
                if n < FRAME_HEAD {
                    deadline.sooner(clock::now() + LOOK);
                }
                return false;
            }
        }
        let said = &mut self.said[Direction::Downstream as usize];
        match upstream.poll_read(cx, |_, bytes| said.bytes.extend_from_slice(bytes)) {
            Poll::Pending => return false,
            Poll::Ready(Read::Bytes(())) => {}
            Poll::Ready(end) => said.end = Some(end),
        }
        true
    }

    fn turned_out_tcp(mut self) -> (Known, Operation, ConnectAction) {
        let opening = self.operation.map(|operation| (operation, self.action));
        let (operation, action) = self.session.turned_out_tcp(opening);
        for cut in &self.held_by {
            operation.witness.cut(cut, Phase::Connect);
        }
        let known = Known {
            client: self.client,
            upstream: self.upstream,
            session: self.session,
            said: self.said,
        };
        (known, operation, action)
    }

    fn turned_out_http(mut self) -> (Known, Option<tap::Opening>) {
        self.session.turned_out_http(self.operation.as_ref());
        let http2 = self.said[Direction::Upstream as usize]
            .bytes
            .starts_with(b"PRI ");
        let within = self.session.crossing().edge.originate().is_some();
        let agreed = self.client.alpn().is_some();
        if http2 && within && self.dialled && !agreed {
            // Within TLS HTTP/2 has to be agreed on, which could not be known when it was dialled.
            self.upstream = Upstream::None;
        }
        let opening = self.operation.map(|operation| (operation, self.action));
        let known = Known {
            client: self.client,
            upstream: self.upstream,
            session: self.session,
            said: self.said,
        };
        (known, opening)
    }

    /// The process stops, and nothing was said that would be left unanswered.
    fn let_go(self) {
        if let Some(operation) = &self.operation {
            operation.witness.blame(Cause::Proxy);
            operation.witness.told(Outcome::Closed, None, 0);
        }
    }
}

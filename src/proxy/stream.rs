//! A connection as bytes with no known messages: the whole connection is one operation.
//!
//! Here bytes move (`bulk`: through the kernel, where nobody looks at them); `intake` says what becomes
//! of those that were read; `late` asks the rules whose conditions come to hold meanwhile; `ends` is about how a connection ends, and what its
//! record says then.

mod bulk;
mod ends;
mod intake;
mod late;

use std::io;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use super::auto::{Known, Said};
use super::copy::{self, Answer, Begin, Feed, Towards};
use super::lane::{Flushed, Lane};
use super::peer::{Moved, Peer, READ_SIZE, Read, TRUNCATED};
use super::splice::Bulk;
use super::upstream::{Upstream, spoken, to_blame};
use super::watch::{Bell, Deadline, Watch};
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Outcome};
use crate::faults::{End, Then};
use crate::operation::{Direction, Phase};
use crate::pipeline::{ConnectAction, Hold, Operation, Receipt, Session};
use crate::rare::{Empty, Rare};
use crate::rules::Protocol;
use crate::state::Stopping;

/// How often a side that is not read, because of a fault, is asked whether it is still there.
const STALLED_LOOK: Duration = Duration::from_millis(250);

/// Carries one connection to its end, and keeps `guard` until then. `upstream`: where it was dialled
/// already.
pub(super) fn carry<G>(
    client: Peer,
    upstream: Option<Peer>,
    session: Session,
    operation: Operation,
    action: ConnectAction,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    // In a box: a task is handed on several times before it is polled.
    let mut stream = Box::new(Stream::new(client, session, operation, action, bell));
    if let Some(upstream) = upstream {
        stream.delivery = Some(stream.operation.witness.deliver());
        stream.upstream = Upstream::Open(upstream);
    }
    async move {
        std::future::poll_fn(|cx| stream.poll(cx)).await;
        stream.finish();
        drop(stream);
        drop(guard);
    }
}

/// Carries one connection of which something was read before it was known what it is.
pub(super) fn carry_on<G>(
    known: Known,
    operation: Operation,
    action: ConnectAction,
    bell: &Arc<Bell>,
    guard: G,
) -> impl Future<Output = ()> + use<G> {
    let mut stream = Box::new(Stream::new(
        known.client,
        known.session,
        operation,
        action,
        bell,
    ));
    if !matches!(known.upstream, Upstream::None) {
        stream.delivery = Some(stream.operation.witness.deliver());
        stream.upstream = known.upstream;
    }
    let mut said = Some(known.said);
    async move {
        std::future::poll_fn(|cx| {
            if let Some(said) = said.take() {
                stream.take_said(cx, *said);
            }
            stream.poll(cx)
        })
        .await;
        stream.finish();
        drop(stream);
        drop(guard);
    }
}

/// How the client's side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It is being carried.
    Nothing,
    /// The proxy ended it so, by a fault or because it must.
    Ended(Outcome),
}

/// One direction of the connection.
struct Half {
    lane: Lane,
    /// What is read goes nowhere.
    sink: bool,
    /// Bytes read.
    read: u64,
    /// Reads in a row that filled the buffer.
    full_reads: u8,
    bulk: Option<Box<Bulk>>,
}

/// The end of a connection behind the bytes of one direction.
type Finale = (Direction, End, Receipt);

/// What faults have in store for a connection, and how it comes to its end.
#[derive(Debug, Default)]
struct Fate {
    /// How much later than it was accepted it is dialled.
    dial_hold: Hold,
    /// Copies of what the client sends.
    feeds: Vec<Feed>,
    /// Bytes, or the whole connection, went nowhere; then this becomes of the client.
    lost: Option<(Then, Receipt)>,
    /// When the last of them went.
    lost_at: Option<Instant>,
    /// Rules that end it, and when.
    ends: Vec<(Instant, End, Receipt)>,
    /// Nothing goes on in this direction; once what went before has arrived, it ends so.
    finale: Option<Finale>,
    /// The client was sent a FIN, and has until then to close.
    closing: Option<Instant>,
    /// When the client said that it would say no more, or was found gone.
    left: Option<Timestamp>,
    /// The client is gone; the upstream's answer is awaited until then.
    linger: Option<Instant>,
    /// All was written; its host has until then to acknowledge it, or some of what is left.
    settle: Option<(Instant, usize)>,
    /// When a byte last moved, since one side has ended.
    moved: Option<Instant>,
}

impl Empty for Fate {
    fn empty() -> &'static Self {
        static EMPTY: LazyLock<Fate> = LazyLock::new(Fate::default);
        &EMPTY
    }
}

struct Stream {
    session: Session,
    operation: Operation,
    client: Option<Peer>,
    upstream: Upstream,
    /// Upstream, downstream.
    halves: [Half; 2],
    fate: Rare<Fate>,
    told: Told,
    /// The connection's own delivery, once the upstream is dialled; copies may come before it.
    delivery: Option<u32>,
    /// A byte was written to the upstream.
    sent: bool,
    /// What had been written to the upstream when it last said something.
    heard: u64,
    upstream_broken: bool,
    handed_over: bool,
    watch: Watch,
}

const UP: usize = Direction::Upstream as usize;
const DOWN: usize = Direction::Downstream as usize;

impl Stream {
    fn new(
        client: Peer,
        session: Session,
        operation: Operation,
        action: ConnectAction,
        bell: &Arc<Bell>,
    ) -> Self {
        let crossing = session.crossing();
        let half = || Half {
            lane: Lane::new(crossing.clone()),
            sink: false,
            read: 0,
            full_reads: 0,
            bulk: None,
        };
        let mut stream = Self {
            halves: [half(), half()],
            watch: Watch::new(bell),
            client: Some(client),
            upstream: Upstream::None,
            fate: Rare::default(),
            told: Told::Nothing,
            delivery: None,
            sent: false,
            heard: 0,
            upstream_broken: false,
            handed_over: false,
            operation,
            session,
        };
        if let Some((then, receipt)) = action.discard {
            receipt.injected(Phase::Connect);
            stream.halves[UP].sink = true;
            stream.fate.lost = Some((then, receipt));
            return stream;
        }
        if !action.hold.is_none() {
            stream.fate.dial_hold = action.hold;
        }
        stream.end_later(action.ends);
        for (again, receipt) in action.again {
            for n in 1..=again.copies {
                stream.fate.feeds.push(copy::spawn(
                    &Towards::of(&stream.session),
                    &stream.operation.witness,
                    receipt.clone(),
                    again.gap * n,
                    Answer::Stream,
                    Begin::AtOnce,
                ));
            }
        }
        stream
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.watch_changes(cx);
        self.adopt_changes();
        if self.session.stopping() == Stopping::Now {
            self.operation.witness.blame(Cause::Proxy);
            self.end_client(Outcome::Closed);
            return Poll::Ready(());
        }
        let mut deadline = Deadline::default();
        loop {
            if self.is_cut_off() {
                return Poll::Ready(());
            }
            self.poll_dial(cx, &mut deadline);
            let up = self.pump(cx, Direction::Upstream, &mut deadline);
            let down = self.pump(cx, Direction::Downstream, &mut deadline);
            self.end_lost(&mut deadline);
            let moved = [up, down];
            if moved == [Moved::Nothing; 2] {
                break;
            }
            if let Some(fate) = self.fate.written() {
                fate.moved = None;
            } else if !moved.contains(&Moved::Some) && self.is_at_rest() {
                break;
            }
        }
        self.end_due(&mut deadline);
        if self.is_over(&mut deadline) {
            return Poll::Ready(());
        }
        if self.watch.poll_deadline(cx, deadline) {
            // It passed while this was decided.
            cx.waker().wake_by_ref();
        }
        for peer in self.client.iter_mut().chain(self.upstream.peer()) {
            // That it is broken, the next read tells.
            let _ = peer.poll_flush(cx);
        }
        Poll::Pending
    }

    /// Whether, with nothing more to be read, nothing else is under way either.
    fn is_at_rest(&self) -> bool {
        matches!(self.upstream, Upstream::Open(_))
            && self.halves.iter().all(|half| half.lane.is_empty())
            && !self.session.awaits()
            && !self.operation.is_chosen()
    }

    /// Takes what was read before, as if it were read now.
    fn take_said(&mut self, cx: &mut Context<'_>, said: [Said; 2]) {
        if self.is_cut_off() {
            return;
        }
        // Rules that want it to end at once come before its first byte.
        self.end_due(&mut Deadline::default());
        for (direction, said) in Direction::ALL.into_iter().zip(said) {
            if !said.bytes.is_empty() {
                let (_, target, mut intake) = self.parts(direction);
                intake.take(cx, target, &said.bytes);
                self.note_sent();
                self.note_read(direction, false);
            }
            match said.end {
                None | Some(Read::Bytes(())) => {}
                Some(Read::Eof) => self.ended(direction),
                Some(Read::Broken(error)) => self.source_broken(direction, &error),
            }
        }
    }

    /// Takes up what has changed.
    fn adopt_changes(&mut self) {
        if self.session.refresh() {
            self.ask_again();
        }
    }

    /// Whether a partition has reset this connection, or refuses it.
    fn is_cut_off(&mut self) -> bool {
        let cuts = self.session.cuts();
        if !(cuts.reset || cuts.refuse && self.is_new()) {
            return false;
        }
        for cut in self.session.all_cuts() {
            self.operation.witness.cut(cut, Phase::Connect);
        }
        self.upstream.reset();
        self.end_client(Outcome::Reset);
        true
    }

    /// Whether it was accepted, and nothing was begun.
    fn is_new(&self) -> bool {
        matches!(self.upstream, Upstream::None)
            && self.delivery.is_none()
            && self.fate.lost.is_none()
    }

    fn poll_dial(&mut self, cx: &mut Context<'_>, deadline: &mut Deadline) {
        if self.is_new() && self.client.is_some() && self.told == Told::Nothing {
            let due = self.fate.dial_hold.due(self.session.accepted());
            if due > clock::now() {
                self.fate.dial_hold.settle(Phase::Connect);
                deadline.exactly(due);
                return;
            }
            if self.session.cuts().silences(Direction::Upstream) {
                for cut in self.session.cutting(Direction::Upstream) {
                    self.operation.witness.cut(cut, Phase::Connect);
                }
                return;
            }
            self.delivery = Some(self.operation.witness.deliver());
            let edge = &self.session.crossing().edge;
            let way = self.session.way();
            self.upstream.dial(edge, way, spoken(Protocol::Tcp));
        }
        let edge = &self.session.crossing().edge;
        if let Some(error) = self.upstream.poll_dial(cx, edge) {
            let witness = &self.operation.witness;
            if let Some(delivery) = self.delivery {
                witness.failed(delivery, error.to_string());
            }
            witness.blame(to_blame(&error));
            self.end_client(Outcome::Reset);
        }
    }

    /// Moves what can be moved in one direction.
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        deadline: &mut Deadline,
    ) -> Moved {
        if self.session.awaits() {
            self.ask_late(deadline);
        }
        let cut = self.session.cuts().silences(direction);
        self.flush(cx, direction, cut, deadline);
        let clear = !cut && !self.operation.is_chosen() && self.fate.feeds.is_empty();
        let bulky = clear && !self.session.awaits_bytes() && self.is_plain();
        if let Some(moved) = self.pump_bulk(cx, direction, bulky) {
            return moved;
        }
        let (source, target, mut intake) = self.parts(direction);
        let Some(source) = source.filter(|peer| !peer.eof) else {
            return Moved::Nothing;
        };
        let room = intake.half.sink || intake.half.lane.has_room(cut, deadline);
        if !room {
            // No read would tell that the source is gone.
            let broken = if clear { None } else { source.broken() };
            return match broken {
                Some(error) => {
                    self.source_broken(direction, &error);
                    Moved::Some
                }
                None if clear => Moved::Nothing,
                None => {
                    deadline.sooner(clock::now() + STALLED_LOOK);
                    Moved::Nothing
                }
            };
        }
        let mut feeds = intake.fate.feeds.iter();
        if direction == Direction::Upstream && !feeds.all(|feed| feed.poll_room(cx).is_ready()) {
            return Moved::Nothing;
        }
        let read = source.poll_read(cx, |cx, bytes| {
            intake.take(cx, target, bytes) && bulky && bytes.len() == READ_SIZE
        });
        match read {
            Poll::Pending => return Moved::Nothing,
            Poll::Ready(Read::Bytes(full)) => {
                let moved = source.poll_more(cx);
                self.note_sent();
                self.note_read(direction, full);
                return moved;
            }
            Poll::Ready(Read::Eof) => {
                self.adopt_changes();
                self.ended(direction);
            }
            Poll::Ready(Read::Broken(error)) => self.source_broken(direction, &error),
        }
        Moved::Some
    }

    /// Whether the kernel could move bytes by itself.
    fn is_plain(&mut self) -> bool {
        let plain = |peer: Option<&mut Peer>| peer.is_some_and(|peer| peer.plain().is_some());
        plain(self.client.as_mut()) && plain(self.upstream.peer())
    }

    /// The side that a direction's bytes come from is gone.
    fn source_broken(&mut self, direction: Direction, error: &io::Error) {
        match direction {
            Direction::Upstream => self.client_gone(error),
            Direction::Downstream => {
                if let Some(delivery) = self.delivery {
                    self.operation.witness.failed(delivery, error.to_string());
                }
                self.operation.witness.blame(Cause::Upstream);
                self.upstream_broken = true;
            }
        }
    }

    /// Writes what is due, unless a partition holds it.
    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        cut: bool,
        deadline: &mut Deadline,
    ) {
        let lane = &mut self.halves[direction as usize].lane;
        if lane.is_empty() {
            return;
        }
        if cut {
            for cut in self.session.cutting(direction) {
                self.operation.witness.cut(cut, Phase::Stream);
            }
            return;
        }
        let target = match direction {
            Direction::Upstream => self.upstream.peer(),
            Direction::Downstream => self.client.as_mut(),
        };
        let Some(target) = target else { return };
        match lane.flush(cx, target) {
            Flushed::Held(due) => deadline.exactly(due),
            Flushed::Empty | Flushed::Full => {}
            Flushed::Broken(error) => self.target_broken(direction, &error),
        }
        self.note_sent();
    }

    fn note_sent(&mut self) {
        if let Some(delivery) = self.delivery
            && !self.sent
            && self.halves[UP].lane.written() > 0
        {
            self.sent = true;
            self.operation.witness.sent(delivery);
        }
    }

    /// The source of a direction has said all it will say.
    fn ended(&mut self, direction: Direction) {
        if direction == Direction::Upstream {
            self.fate.left.get_or_insert_with(Timestamp::now);
            // The copies end with it.
            self.fate.feeds.clear();
        } else if let Some(delivery) = self.delivery
            && self.upstream.peer().is_some_and(|peer| peer.truncated)
        {
            self.operation
                .witness
                .failed(delivery, TRUNCATED.to_owned());
        }
        let half = &mut self.halves[direction as usize];
        let action = self.operation.on_eof(direction);
        if let Some((then, receipt)) = action.discard
            && !half.sink
        {
            receipt.injected(Phase::Stream);
            half.sink = true;
            self.fate.lost = Some((then, receipt));
        }
        if half.sink {
            return;
        }
        let waits = !action.hold.is_none() || !half.lane.is_empty();
        let cut = self.session.cuts().silences(direction);
        let last = self.both_have_ended() && self.fate.lost.is_none();
        let target = match direction {
            Direction::Upstream => self.upstream.peer(),
            Direction::Downstream => self.client.as_mut(),
        };
        match target {
            // To close both says it as well: see `is_over`.
            Some(_) if last && !waits && !cut => {}
            Some(target) if !waits && !cut => target.send_fin(),
            _ => self.halves[direction as usize]
                .lane
                .push_fin(clock::now(), action.hold),
        }
    }
}

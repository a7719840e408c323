//! One stream: a request with its answer, step by step.
//!
//! [`Up`] is the way of the request (its steps are in `asking`), [`Down`] that of the answer (in
//! `answering`). What was really read and written is told by [`Stream::asked`], [`Stream::went`],
//! [`Stream::answered`] and [`Stream::told`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::sync::oneshot;

use super::again::{Keeping, Whole};
use super::body::Body;
use super::frames::What;
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Digester, Outcome};
use crate::faults::{Answer, End, Side, Then};
use crate::operation::Phase;
use crate::pipeline::{Hold, Operation, Receipt, Session};
use crate::proxy::watch::sooner;

/// Something that waits for what holds it.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) what: T,
    hold: Hold,
    arrived: Instant,
    phase: Phase,
}

impl<T> Held<T> {
    pub(super) fn new(what: T, hold: Hold, phase: Phase) -> Self {
        Self {
            what,
            hold,
            arrived: clock::now(),
            phase,
        }
    }

    /// When it goes on; `None`: now.
    pub(super) fn due(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.hold.is_none() {
            return None;
        }
        self.hold.watch(cx);
        let due = self.hold.due(self.arrived);
        if due <= clock::now() {
            return None;
        }
        self.hold.settle(self.phase);
        Some(due)
    }
}

/// A request that has not gone on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) head: Request<()>,
    pub(super) body: Body,
    /// What goes on in the place of its body.
    pub(super) instead: Option<Bytes>,
}

/// A request that goes on only once rules have seen its body.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) head: Request<()>,
    pub(super) body: Body,
    /// What was read of it.
    pub(super) kept: BytesMut,
    /// The longest that any rule wants to see.
    pub(super) most: usize,
}

/// The way of the request.
#[derive(Debug)]
pub(super) enum Up {
    /// Rules wait for its body.
    Untold(Box<Untold>),
    /// Something holds it.
    Held(Box<Held<Asked>>),
    /// It can go on as soon as the upstream can take it.
    Due(Box<Asked>),
    /// Its body is on its way.
    Body(Body),
    /// It goes nowhere, or no further.
    Nowhere(Body),
    /// It was read to its end.
    Done,
}

/// The way of the answer.
pub(super) enum Down {
    /// There is nothing to come, until the request goes on.
    Idle,
    /// The upstream owes it.
    Head(ResponseFuture),
    /// Something holds it. What goes on in the place of its body.
    Held(Box<Held<(Response<Body>, Option<Bytes>)>>),
    /// It is kept until it is whole, to be shown to faults.
    Captured(Box<Held<Response<Body>>>, BytesMut),
    /// The client gets that of a copy, if it comes.
    Wanted(Box<Response<Body>>, oneshot::Receiver<Whole>),
    /// Its body is on its way.
    Body(Body),
    /// It goes nowhere; after its end this becomes of the client.
    Lost(Body, Then, Receipt),
    /// The proxy's own, and what holds it.
    Own(Box<Held<Answer>>),
    /// The client waits until the rule is lifted, or this long after the last bytes that vanished.
    Hung(Receipt, Duration),
    /// It was given to `h2` to its end, and is not yet written.
    Given,
    /// The stream is reset, once what comes before has been written.
    Ending(Reason, Outcome),
    /// The upstream's connection ended first.
    Broken,
    /// Nothing more goes to the client.
    Over,
}

/// An answer that the client will not get, and that is awaited only so that it is known.
pub(super) enum Aside {
    Head(ResponseFuture),
    Body(Body),
}

/// What one stream wants done with the whole connection.
#[derive(Debug)]
pub(super) enum Wants {
    /// It ends with GOAWAY.
    GoAway(Reason, Receipt),
    /// These bytes are written, then it ends.
    Raw(&'static [u8], Receipt),
}

/// One stream.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) operation: Operation,
    pub(super) up: Up,
    pub(super) down: Down,
    pub(super) aside: Option<Aside>,
    pub(super) wants: Option<Wants>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) to_client: Option<SendStream<Bytes>>,
    pub(super) to_upstream: Option<SendStream<Bytes>>,
    /// Its number at the upstream; 0: it has not gone on.
    pub(super) upstream_id: u32,
    /// It stands in the row of those that the upstream is to take.
    pub(super) queued: bool,
    /// It goes to the upstream, or was to.
    pub(super) delivers: bool,
    /// Bytes of it were written to the upstream, or all of it.
    pub(super) sent: bool,
    pub(super) delivered: bool,
    /// The upstream was told that nothing more of it will come.
    closed: bool,
    /// The upstream wants no more of the request, for this reason.
    unwanted: Option<Reason>,
    /// The upstream's answer was read whole.
    pub(super) whole_answer: bool,
    /// Until when what is of no use to the client is awaited.
    pub(super) linger: Option<Instant>,
    /// How long that is.
    pub(super) patience: Duration,
    /// What holds it ends then.
    pub(super) due: Option<Instant>,
    /// When, unless it is over before, it ends, and how.
    pub(super) ends: Vec<(Instant, End, Receipt)>,
    /// What becomes of the client, bytes of the request having vanished, and when the last did.
    pub(super) vanishing: Option<(Then, Receipt)>,
    pub(super) vanished: Option<Instant>,
    pub(super) keeping: Option<Keeping>,
    /// Copies that begin once the answer has been read whole.
    pub(super) after_answer: Vec<oneshot::Sender<()>>,
    pub(super) wanted: Option<oneshot::Receiver<Whole>>,
    pub(super) body: Digester,
    /// The request was read to its end.
    pub(super) whole: bool,
    request_bytes: usize,
    answer_bytes: usize,
    pub(super) status: Option<u16>,
    pub(super) outcome: Outcome,
    /// Of the answer: how much was given to `h2`, and how much of it was written.
    pub(super) given: Amount,
    pub(super) gone: Amount,
    pub(super) interim: usize,
    written: u64,
}

/// Blocks of fields and bytes of content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) blocks: usize,
    pub(super) content: u64,
}

impl Stream {
    pub(super) fn new(
        operation: Operation,
        respond: SendResponse<Bytes>,
        body: RecvStream,
        patience: Duration,
    ) -> Self {
        let digester = operation.witness.request_digester();
        Self {
            id: respond.stream_id().as_u32(),
            operation,
            up: Up::Nowhere(Body::new(body)),
            down: Down::Idle,
            aside: None,
            wants: None,
            respond,
            to_client: None,
            to_upstream: None,
            upstream_id: 0,
            queued: false,
            delivers: false,
            sent: false,
            delivered: false,
            closed: false,
            unwanted: None,
            whole_answer: false,
            linger: None,
            patience,
            due: None,
            ends: Vec::new(),
            vanishing: None,
            vanished: None,
            keeping: None,
            after_answer: Vec::new(),
            wanted: None,
            body: digester,
            whole: false,
            request_bytes: 0,
            answer_bytes: 0,
            status: None,
            outcome: Outcome::Answered,
            given: Amount::default(),
            gone: Amount::default(),
            interim: 0,
            written: 0,
        }
    }

    /// Goes on as far as it can.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, session: &Session) {
        self.due = None;
        if self.unwanted.is_some() {
            self.go_nowhere();
        }
        self.poll_request(cx, session);
        self.meet_ends();
        self.poll_answer(cx, session);
        let _ = self.poll_aside(cx);
    }

    /// Whether nothing is left to do. While it is not known whether the upstream has got bytes of it,
    /// it is not over.
    pub(super) fn is_over(&self, upstream_stands: bool) -> bool {
        matches!(self.down, Down::Over)
            && self.aside.is_none()
            && matches!(self.up, Up::Done | Up::Nowhere(_))
            && (self.sent || self.closed || self.upstream_id == 0 || !upstream_stands)
    }

    /// Nothing is left to do: where the client still sends its request, it is told that nobody wants
    /// it.
    pub(super) fn close(&mut self) {
        if matches!(self.up, Up::Nowhere(_)) {
            let reason = self.unwanted.unwrap_or(Reason::NO_ERROR);
            self.respond.send_reset(reason);
        }
    }

    /// Whether it waits for the upstream to take it.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.up, Up::Due(_))
    }

    /// Whether something is still to come for the client.
    pub(super) fn expects_more(&self) -> bool {
        match self.down {
            Down::Lost(..) | Down::Hung(..) | Down::Ending(..) | Down::Over => false,
            Down::Idle => !matches!(self.up, Up::Nowhere(_) | Up::Done),
            _ => true,
        }
    }

    /// Whether an answer is on its way to the client.
    pub(super) fn is_answering(&self) -> bool {
        self.to_client.is_some() && !matches!(self.down, Down::Over)
    }

    /// Resets the stream at the upstream, if it has gone on.
    pub(super) fn reset_upstream(&mut self, reason: Reason) {
        if let Some(to) = &mut self.to_upstream {
            to.send_reset(reason);
        }
    }

    // --- How it ends.

    /// Ends it if a fault wants that now.
    pub(super) fn meet_ends(&mut self) {
        let waits = matches!(self.down, Down::Lost(..) | Down::Hung(..));
        if self.ends.is_empty() && self.vanishing.is_none() && !waits
            || matches!(self.down, Down::Over | Down::Ending(..))
        {
            return;
        }
        let now = clock::now();
        let in_force = self.ends.iter().filter(|(_, _, by)| !by.is_lifted());
        if let Some((due, end, receipt)) = in_force.min_by_key(|(due, ..)| *due).cloned() {
            if due <= now {
                receipt.injected(Phase::Body);
                self.end_as(end, &receipt);
                return;
            }
            sooner(&mut self.due, due);
        }
        let vanishing = match (&self.vanishing, &self.down) {
            (Some((Then::After(after), receipt)), _)
            | (None, Down::Lost(_, Then::After(after), receipt) | Down::Hung(receipt, after)) => {
                Some((*after, receipt.is_lifted()))
            }
            _ => None,
        };
        if let Some((after, lifted)) = vanishing {
            let last = self.vanished.filter(|_| !after.is_zero());
            let due = last.map(|last| last + after);
            if lifted || due.is_some_and(|due| due <= now) {
                self.end_client(Reason::CANCEL, Outcome::Closed);
            } else if let Some(due) = due {
                sooner(&mut self.due, due);
            }
        }
    }

    /// Ends it as a connection would be ended.
    pub(super) fn end_as(&mut self, end: End, receipt: &Receipt) {
        self.operation.witness.blame(receipt.cause());
        let hits = |side| end.reset && (end.side == side || end.side == Side::Both);
        match hits(Side::Client) {
            true => self.end_client(Reason::INTERNAL_ERROR, Outcome::Reset),
            false => self.end_client(Reason::CANCEL, Outcome::Closed),
        }
        if hits(Side::Upstream) {
            self.reset_upstream(Reason::INTERNAL_ERROR);
            self.aside = None;
        }
    }

    /// The client gets no more than it has; what the upstream still says is only read.
    pub(super) fn end_client(&mut self, reason: Reason, outcome: Outcome) {
        self.set_aside();
        self.go_nowhere();
        self.down = Down::Ending(reason, outcome);
    }

    /// The answer that the upstream owes, or gives, is of no use to the client.
    fn set_aside(&mut self) {
        self.wanted = None;
        let body = match std::mem::replace(&mut self.down, Down::Over) {
            Down::Head(answer) => {
                self.aside = Some(Aside::Head(answer));
                self.linger.get_or_insert(clock::now() + self.patience);
                return;
            }
            Down::Held(held) => held.what.0.into_body(),
            Down::Captured(held, _) => held.what.into_body(),
            Down::Wanted(first, _) => first.into_body(),
            Down::Body(body) | Down::Lost(body, ..) => body,
            _ => return,
        };
        self.aside = Some(Aside::Body(body));
        self.linger.get_or_insert(clock::now() + self.patience);
    }

    /// Reads what was set aside, to its end or for so long.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waits = matches!(self.down, Down::Over) && matches!(self.up, Up::Held(_) | Up::Due(_));
        if self.aside.is_none() && !waits {
            return Poll::Ready(());
        }
        if let Some(linger) = self.linger {
            sooner(&mut self.due, linger);
            if linger <= clock::now() {
                self.aside = None;
                self.go_nowhere();
                self.reset_upstream(Reason::CANCEL);
            }
        }
        while let Some(aside) = &mut self.aside {
            let ended = match aside {
                Aside::Head(answer) => match ready!(Pin::new(answer).poll(cx)) {
                    Ok(head) => {
                        let status = head.status().as_u16();
                        self.operation.witness.answered(0, Some(status));
                        self.aside = Some(Aside::Body(Body::new(head.into_body())));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Aside::Body(body) => ready!(body.poll_drain(cx, |_| ())).map(drop),
            };
            self.aside = None;
            if let Err(error) = ended {
                self.note_stopped(&error);
            }
        }
        Poll::Ready(())
    }

    /// The client is told no more than it has got.
    pub(super) fn end_unfinished(&mut self, end: Outcome) {
        let witness = &self.operation.witness;
        if self.written > 0 {
            let outcome = match self.outcome {
                Outcome::Answered => Outcome::Partial,
                other => other,
            };
            witness.told(outcome, self.status, self.written);
        }
        witness.told(end, None, 0);
    }

    /// The client has reset the stream, or its connection is gone. `awaits`: where a fault acts, an
    /// answer may be awaited, and what was sent still goes on.
    pub(super) fn client_left(&mut self, reason: Reason, awaits: bool) {
        self.operation.moved_on();
        if matches!(self.down, Down::Over) {
            // It has its answer; only the rest of its request will not come.
            if self.aside.is_none() && !matches!(self.up, Up::Done) {
                self.reset_upstream(reason);
                self.up = Up::Done;
            }
            return;
        }
        let witness = &self.operation.witness;
        witness.client_left(Timestamp::now());
        witness.blame(Cause::Client);
        let awaits = awaits && self.delivers && witness.is_faulted();
        self.end_unfinished(Outcome::Left);
        if awaits {
            self.linger = Some(clock::now() + self.patience);
            self.set_aside();
            if self.aside.is_some() || matches!(self.up, Up::Held(_) | Up::Due(_)) {
                return;
            }
        }
        self.down = Down::Over;
        self.reset_upstream(reason);
        self.go_nowhere();
        self.up = Up::Done;
    }

    /// The proxy has ended the connection of the client; `end` is how.
    pub(super) fn end_with(&mut self, end: Outcome, blame: &Cause) {
        if !matches!(self.down, Down::Over) {
            self.end_unfinished(end);
            self.operation.witness.blame(blame.clone());
        }
        self.aside = None;
        self.down = Down::Over;
        self.reset_upstream(Reason::CANCEL);
        self.go_nowhere();
        self.up = Up::Done;
    }

    // --- What has really come and gone.

    /// A frame that was written to the client; answers whether the answer is whole with it.
    pub(super) fn told(&mut self, what: What, len: usize) -> bool {
        let end = match what {
            What::Fields { last, end } => {
                if self.interim > 0 {
                    self.interim -= usize::from(last);
                } else {
                    self.written += len as u64;
                }
                self.gone.blocks += usize::from(last);
                end
            }
            What::Data { payload, end } => {
                self.gone.content += payload as u64;
                self.written += len as u64;
                end
            }
            _ => return false,
        };
        if !end || !matches!(self.down, Down::Given) {
            return false;
        }
        self.down = Down::Over;
        let witness = &self.operation.witness;
        witness.told(self.outcome, self.status, self.written);
        true
    }

    /// A frame of it was written to the upstream.
    pub(super) fn went(&mut self, what: What) {
        match what {
            What::Begun if !self.sent => {
                self.sent = true;
                self.operation.witness.sent(0);
            }
            What::Fields { end: true, .. } | What::Data { end: true, .. } => self.delivered = true,
            What::Reset(_) => self.closed = true,
            _ => {}
        }
    }

    /// A frame of the request was read.
    pub(super) fn asked(&mut self, what: What, len: usize) {
        if let What::Fields { .. } | What::Data { .. } = what {
            self.request_bytes += len;
        }
    }

    /// A frame of the answer was read.
    pub(super) fn answered(&mut self, what: What, len: usize) {
        let end = match what {
            What::Fields { end, .. } | What::Data { end, .. } => end,
            What::Reset(reason) => {
                self.unwanted = Some(reason.into());
                return;
            }
            _ => return,
        };
        self.answer_bytes += len;
        if end {
            self.whole_answer = true;
            for begin in self.after_answer.drain(..) {
                // A copy may have ended since.
                let _ = begin.send(());
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let witness = &self.operation.witness;
        witness.request_bytes(self.request_bytes);
        if self.answer_bytes > 0 {
            witness.answer_bytes(0, self.answer_bytes);
        }
        if !self.whole {
            witness.request_ended(&mut self.body, false);
        }
    }
}

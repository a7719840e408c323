//! The upstream's bytes: framed, each answer paired with its request, and sent on as they came.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::Core;
use super::exchange::{Wanted, Way, encode};
use super::flow::{Flow, Kept};
use super::requests::refusal_answer;
use crate::clock;
use crate::evidence::{Cause, Outcome, asks_to_wait, replayed};
use crate::faults::{Answer, Then};
use crate::operation::{Direction, Phase, Response};
use crate::pipeline::Hold;
use crate::protocol::http1::{Asked, Body, Refusal, ResponseFramer, ResponseHead, scratch};
use crate::protocol::{Eof, Event};
use crate::proxy::edit;
use crate::proxy::peer::{Peer, TRUNCATED};

/// A part of an answer.
#[derive(Clone, Copy)]
enum Part<'b, 's> {
    Head(&'s ResponseHead<'b, 's>),
    Content,
    /// What only carries the body.
    Framing,
}

impl Part<'_, '_> {
    fn body(content: bool) -> Self {
        match content {
            true => Self::Content,
            false => Self::Framing,
        }
    }
}

/// An answer that was kept, as faults see it: without what frames its body.
fn read_whole(asked: Asked, kept: &[u8]) -> Option<Answer> {
    const FRAMING: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "trailer",
        "connection",
        "keep-alive",
    ];
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut framer = ResponseFramer::default();
    let (mut answer, mut body, mut at) = (None, BytesMut::new(), 0);
    loop {
        at += match framer.next(&kept[at..], &mut scratch(), Some(asked)) {
            Ok(Event::Head { len, head }) => {
                let headers = head.headers.iter();
                let kept = headers
                    .filter(|h| !FRAMING.iter().any(|name| h.name.eq_ignore_ascii_case(name)));
                answer = Some(Answer {
                    status: head.status,
                    headers: kept.map(|h| (h.name.to_owned(), text(h.value))).collect(),
                    body: Bytes::new(),
                });
                len
            }
            Ok(Event::Body { len, content }) => {
                if content {
                    body.extend_from_slice(&kept[at..at + len]);
                }
                len
            }
            _ => break,
        };
    }
    answer.map(|answer| Answer {
        body: body.freeze(),
        ..answer
    })
}

impl Core {
    /// Takes what was read from the upstream.
    pub(super) fn upstream_bytes(
        &mut self,
        cx: &mut Context<'_>,
        client: Option<&mut Peer>,
        bytes: &[u8],
    ) {
        self.heard += bytes.len() as u64;
        if self.from_upstream.is_empty() {
            let used = self.frame_answers(cx, client, bytes);
            self.from_upstream.extend_from_slice(&bytes[used..]);
        } else {
            self.from_upstream.extend_from_slice(bytes);
            self.reframe_answers(cx, client);
        }
    }

    /// Looks again at what was left over.
    pub(super) fn reframe_answers(&mut self, cx: &mut Context<'_>, client: Option<&mut Peer>) {
        let mut data = std::mem::take(&mut self.from_upstream);
        let used = self.frame_answers(cx, client, &data);
        data.advance(used);
        if !data.is_empty() {
            self.from_upstream = data;
        }
    }

    /// Answers how many bytes were dealt with.
    fn frame_answers(
        &mut self,
        cx: &mut Context<'_>,
        client: Option<&mut Peer>,
        data: &[u8],
    ) -> usize {
        let mut at = 0;
        let mut flow = Flow::new(cx, client, data);
        let mut framer = std::mem::take(&mut self.responses);
        // While an answer waits for a copy's, what follows it has to wait as well.
        while !self.awaits_copy() {
            let mut scratch = scratch();
            let front = self.awaiting.front();
            let front = front.filter(|e| e.is_forwarded() && !e.answered);
            let asked = front.map(|exchange| exchange.asked);
            match framer.next(&data[at..], &mut scratch, asked) {
                Ok(Event::Head { len, head }) => {
                    self.answer_head(&head);
                    self.give(&mut flow, at..at + len, Part::Head(&head));
                    at += len;
                }
                Ok(Event::Body { len, content }) => {
                    self.give(&mut flow, at..at + len, Part::body(content));
                    at += len;
                }
                Ok(Event::End) => {
                    self.pass_down(&mut flow);
                    self.end_answer(flow.cx);
                    // The next answer may be the proxy's own.
                    self.answer_locally();
                }
                Ok(Event::Tunnel) => {
                    if !self.is_sunk() {
                        flow.gather(at..data.len());
                    }
                    at = data.len();
                    break;
                }
                Ok(Event::More | Event::Held) => break,
                Err(refusal) => {
                    self.pass_down(&mut flow);
                    self.refuse_answer(refusal);
                    at = data.len();
                    break;
                }
            }
        }
        self.responses = framer;
        self.pass_down(&mut flow);
        at
    }

    /// The head of an answer was read: asks what is to be done with the answer.
    fn answer_head(&mut self, head: &ResponseHead<'_, '_>) {
        let sunk = self.is_sunk();
        let Some(exchange) = self.awaiting.front_mut().filter(|_| !head.interim) else {
            return;
        };
        exchange.status = Some(head.status);
        exchange.last = !head.keep_alive && head.body != Body::Tunnel;
        exchange.operation.witness.answered(0, Some(head.status));
        if replayed(head.headers.iter().map(|h| (h.name, h.value))) {
            exchange.operation.witness.replayed(0);
        }
        if exchange.asked.connect || exchange.asked.upgrade {
            self.switched = Some(head.body == Body::Tunnel);
        }
        if sunk {
            return;
        }
        let response = Response {
            status: head.status,
            headers: head.headers,
            length: head.content_length,
        };
        let action = self.session.response(&mut exchange.operation, &response);
        if self.client_ended {
            exchange.operation.moved_on();
        }
        if let Some((then, receipt)) = action.discard {
            receipt.injected(Phase::Response);
            exchange.operation.witness.blame(receipt.cause());
            self.dead_end = Some(receipt.cause());
            exchange.losing = Some((then, receipt));
        } else {
            exchange.captures = exchange.operation.captures() && head.body != Body::Tunnel;
            let clear = action.hold.is_none() && action.edits.is_empty();
            exchange.way = (!clear).then(|| Way {
                arrived: clock::now(),
                hold: action.hold,
                edits: action.edits,
            });
        }
    }

    /// Gives a part of the answer under way to the client, keeps it, or lets it go nowhere.
    fn give(&mut self, flow: &mut Flow<'_, '_>, at: Range<usize>, part: Part<'_, '_>) {
        let sunk = self.is_sunk();
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        let content = matches!(part, Part::Content);
        exchange.take_answer(&flow.data[at.clone()], content);
        if sunk {
            if exchange.begun {
                exchange.withhold();
            }
            if self.lost_at.is_some() {
                self.lost_at = Some(clock::now());
            }
            return;
        }
        if exchange.losing.is_some() {
            return;
        }
        if exchange.keeps_answer() {
            let crossing = self.session.crossing();
            let kept = exchange.kept.get_or_insert_with(|| Kept::new(crossing));
            if kept.push(&flow.data[at.clone()]) {
                return;
            }
            // Too long to keep: the client gets this one after all.
            self.pass_down(flow);
            self.release(flow.cx);
        }
        self.send(flow, at, part);
    }

    /// Sends a part of the answer under way on to the client.
    fn send(&mut self, flow: &mut Flow<'_, '_>, at: Range<usize>, part: Part<'_, '_>) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        match part {
            Part::Head(head) if !head.interim => {
                let position = self.down.taken() + flow.gathered() as u64;
                exchange.answer = position..position;
                exchange.begun = true;
                let headers = head.headers.iter().map(|h| (h.name, h.value));
                let seconds = asks_to_wait(head.status, headers);
                if seconds.is_some() {
                    exchange.operation.witness.retry_after(seconds);
                }
                if let Some(way) = exchange.way.take() {
                    self.pass_down(flow);
                    self.send_head(&flow.data[at], head, way);
                    return;
                }
            }
            _ if exchange.sinks_answer => {
                exchange.withhold();
                return;
            }
            Part::Content if exchange.operation.acts_on_body(Direction::Downstream) => {
                self.pass_down(flow);
                self.send_body(Bytes::copy_from_slice(&flow.data[at]));
                return;
            }
            _ => {}
        }
        let before = flow.gather(at);
        self.pass(flow, before);
    }

    /// Sends a head on to the client, altered, and the body that it announces if that is another one.
    fn send_head(&mut self, bytes: &[u8], head: &ResponseHead<'_, '_>, way: Way) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        let has_body = match head.body {
            Body::Tunnel => false,
            // Of those without a body some may have one.
            Body::None => !exchange.asked.head && !matches!(head.status, 204 | 304),
            _ => true,
        };
        // Looked at once: one may be lifted at any moment, and what is done is what is recorded.
        let edits = way.edits.iter().filter(|(_, by)| !by.is_lifted());
        let edits: Vec<_> = edits.collect();
        let body = edits.iter().rev().find_map(|(edit, _)| edit.body.clone());
        let body = body.filter(|_| has_body);
        let bytes = match edits.is_empty() {
            true => Bytes::copy_from_slice(bytes),
            false => {
                let which = edits.iter().map(|(edit, _)| &**edit);
                edit::head(bytes, which, body.as_ref().map(Bytes::len)).into()
            }
        };
        for (_, receipt) in &edits {
            receipt.injected(Phase::Response);
        }
        if !edits.is_empty() {
            exchange.note_wait(&bytes);
        }
        self.down
            .push(bytes, way.arrived, way.hold, Phase::Response);
        exchange.answer.end = self.down.taken();
        if let Some(body) = body {
            self.send_body(body);
            if let Some(exchange) = self.awaiting.front_mut() {
                exchange.sinks_answer = true;
                // What the client gets is not what the upstream said.
                exchange.outcome = Outcome::Substituted;
            }
        }
    }

    /// Sends bytes of the body on to the client, or what faults leave of them.
    fn send_body(&mut self, bytes: Bytes) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        let (len, now) = (bytes.len(), clock::now());
        let action = exchange
            .operation
            .on_body(Direction::Downstream, bytes, now);
        let passed: usize = action.pieces.iter().map(|(bytes, _)| bytes.len()).sum();
        let sinks = self.act_on_body(Direction::Downstream, action);
        if let Some(exchange) = self.awaiting.front_mut() {
            if passed < len {
                exchange.withhold();
            }
            exchange.sinks_answer |= sinks;
            exchange.answer.end = self.down.taken();
        }
    }

    /// Sends what is gathered.
    fn pass_down(&mut self, flow: &mut Flow<'_, '_>) {
        let bytes = flow.take();
        self.pass(flow, bytes);
    }

    fn pass(&mut self, flow: &mut Flow<'_, '_>, bytes: &[u8]) {
        if !bytes.is_empty() {
            let client = flow.peer.as_deref_mut();
            let client = client.filter(|_| !self.session.cuts().silent[1]);
            self.down.pass(flow.cx, client, bytes);
        }
        // An answer is partly on its way as soon as its bytes are taken.
        if let Some(exchange) = self.awaiting.front_mut()
            && exchange.begun
        {
            exchange.answer.end = self.down.taken();
        }
    }

    /// Sends what was kept of the answer under way, as if it had come now.
    fn release(&mut self, cx: &mut Context<'_>) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        (exchange.wanted, exchange.captures) = (None, false);
        if let Some(kept) = exchange.kept.take() {
            self.send_whole(cx, &kept.freeze());
        }
    }

    /// Sends an answer in the place of the one under way, or as much of it as there is.
    fn send_whole(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        let asked = self.awaiting.front().map(|exchange| exchange.asked);
        let mut flow = Flow::new(cx, None, bytes);
        let mut framer = ResponseFramer::default();
        let mut at = 0;
        loop {
            let mut scratch = scratch();
            at += match framer.next(&bytes[at..], &mut scratch, asked) {
                Ok(Event::Head { len, head }) => {
                    self.send(&mut flow, at..at + len, Part::Head(&head));
                    len
                }
                Ok(Event::Body { len, content }) => {
                    self.send(&mut flow, at..at + len, Part::body(content));
                    len
                }
                _ => break,
            };
        }
        self.pass_down(&mut flow);
    }

    /// The answer under way has been read to its end.
    fn end_answer(&mut self, cx: &mut Context<'_>) {
        let sunk = self.is_sunk();
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        match self.switched.take() {
            // Behind a lost answer nothing goes anywhere, whatever it is.
            Some(true) if sunk || exchange.losing.is_some() => {}
            Some(true) => {
                self.tunnel = true;
                self.requests.tunnel();
            }
            Some(false) => self.requests.stay(),
            None => {}
        }
        exchange.end_answer();
        if sunk {
            self.move_on();
            return;
        }
        if exchange.captures {
            self.show_answer(cx);
        }
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        if let Some((then, receipt)) = exchange.losing.take() {
            // A copy's answer is lost as well.
            exchange.wanted = None;
            let instead = match then {
                Then::Raw(bytes) => Some((None, Bytes::from_static(bytes))),
                Then::Status(status) => {
                    let answer = Answer {
                        status,
                        headers: Vec::new(),
                        body: Bytes::new(),
                    };
                    Some((Some(status), encode(&answer, exchange.asked, None)))
                }
                _ => None,
            };
            if let Some((status, bytes)) = instead {
                exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
                (exchange.outcome, exchange.status) = (Outcome::Substituted, status);
                self.down
                    .push(bytes, clock::now(), Hold::default(), Phase::Response);
            }
            self.fate = Some((then, Some(receipt)));
        }
        let ends = exchange.last && !exchange.awaits_copy();
        // If its answer is to be a copy's, it stays: see `poll_kept`.
        self.move_on();
        if ends {
            self.end_after_last();
        }
    }

    /// The answer that was kept for faults to see is whole: sends it on, or what they put in its
    /// place.
    fn show_answer(&mut self, cx: &mut Context<'_>) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        exchange.captures = false;
        let kept = exchange.kept.as_ref().map_or(&[][..], |kept| kept.as_ref());
        let answer = read_whole(exchange.asked, kept);
        match answer.and_then(|answer| exchange.operation.on_answer(&answer)) {
            // It stays kept, for another reason.
            None if exchange.wanted.is_some() => {}
            None => self.release(cx),
            Some((instead, receipt)) => {
                receipt.injected(Phase::Response);
                (exchange.wanted, exchange.kept) = (None, None);
                exchange.outcome = Outcome::Substituted;
                exchange.status = Some(instead.status);
                let bytes = encode(&instead, exchange.asked, (!exchange.last).then_some(1));
                self.send_whole(cx, &bytes);
            }
        }
    }

    /// Whether the front exchange has its own answer, but is to get that of a copy.
    pub(super) fn awaits_copy(&self) -> bool {
        self.awaiting.front().is_some_and(|e| e.awaits_copy())
    }

    /// Gives the client the answer to a copy, when it has come; what was kept, once nothing keeps it.
    /// Answers whether that has changed anything.
    pub(super) fn poll_kept(&mut self, cx: &mut Context<'_>) -> bool {
        let sunk = self.is_sunk();
        let Some(exchange) = self.awaiting.front_mut() else {
            return false;
        };
        if !exchange.captures && exchange.wanted.is_none() {
            return false;
        }
        if sunk {
            // It would be taken for the answer that was lost before it.
            (exchange.wanted, exchange.captures, exchange.kept) = (None, false, None);
            self.move_on();
            return true;
        }
        exchange.captures &= exchange.operation.captures();
        if let Some(Wanted::Coming(copy)) = &mut exchange.wanted
            && let Poll::Ready(copy) = Pin::new(copy).poll(cx)
        {
            exchange.wanted = copy.ok().map(Wanted::Here);
        }
        if exchange.answered && matches!(exchange.wanted, Some(Wanted::Here(_))) {
            if let Some(Wanted::Here(whole)) = exchange.wanted.take() {
                (exchange.status, exchange.last) = (Some(whole.status), whole.last);
                exchange.kept = None;
                self.send_whole(cx, &whole.bytes);
            }
        } else if !exchange.captures && exchange.wanted.is_none() {
            self.release(cx);
        } else {
            return false;
        }
        let front = self.awaiting.front();
        let ends = front.is_some_and(|exchange| exchange.answered && exchange.last);
        self.move_on();
        if ends {
            self.end_after_last();
        }
        true
    }

    /// An answer was the connection's last: the client would take nothing behind it for another.
    fn end_after_last(&mut self) {
        self.dead_end.get_or_insert(Cause::Upstream);
        self.fate.get_or_insert((Then::Close, None));
    }

    /// The upstream's bytes are no answer that every party would read alike.
    fn refuse_answer(&mut self, refusal: Refusal) {
        let proxy = &self.session.crossing().edge.name;
        tracing::warn!(proxy, code = refusal.code(), "refused an answer: {refusal}");
        self.upstream_unusable = true;
        self.dead_end.get_or_insert(Cause::Proxy);
        if self.fate.is_some() {
            return;
        }
        let Some(exchange) = self.awaiting.front_mut().filter(|e| e.is_forwarded()) else {
            // Unsolicited: as if it had closed.
            self.fate = Some((Then::Close, None));
            return;
        };
        let witness = &exchange.operation.witness;
        witness.answered(0, None);
        witness.failed(0, refusal.to_string());
        witness.blame(Cause::Proxy);
        if exchange.status.is_some() {
            // A part of it may have gone on: the client must not take it for whole.
            self.fate = Some((Then::Reset, None));
            return;
        }
        let bytes = encode(&refusal_answer(502, &refusal), exchange.asked, None);
        exchange.status = Some(502);
        exchange.outcome = Outcome::Substituted;
        exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
        self.down
            .push(bytes, clock::now(), Hold::default(), Phase::Response);
        self.fate = Some((Then::Close, None));
        self.move_on();
    }

    /// The upstream will say no more, by the doing of `blame`.
    pub(super) fn upstream_ended(
        &mut self,
        cx: &mut Context<'_>,
        broken: Option<&std::io::Error>,
        blame: &Cause,
    ) {
        let ends = self.responses.eof(self.from_upstream.len());
        if broken.is_none() && ends == Eof::EndsMessage {
            self.end_answer(cx);
        }
        if !self.is_sunk() && self.awaiting.front().is_some_and(|e| !e.answered) {
            // What was kept of an answer that never ends is what the client would have got.
            self.release(cx);
        }
        for exchange in self
            .awaiting
            .iter()
            .filter(|e| e.is_forwarded() && !e.answered)
        {
            let witness = &exchange.operation.witness;
            witness.blame(blame.clone());
            let error = match (broken, exchange.status) {
                (Some(error), _) => error.to_string(),
                (None, Some(_)) => "closed before the end of its answer".to_owned(),
                (None, None) => "closed without an answer".to_owned(),
            };
            witness.failed(0, error);
        }
        self.dead_end.get_or_insert(blame.clone());
    }

    /// The upstream ended without saying so in TLS, where its answer may end with it.
    pub(super) fn note_truncated(&self) {
        let front = self.awaiting.front();
        if let Some(exchange) = front.filter(|e| e.is_forwarded() && e.status.is_some()) {
            exchange.operation.witness.failed(0, TRUNCATED.to_owned());
        }
    }
}

//! The upstream's bytes: framed, each answer paired with its request, and sent on as they came.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::Core;
use super::exchange::encode;
use super::requests::refusal_answer;
use crate::clock;
use crate::evidence::{Cause, Outcome};
use crate::faults::{Answer, Then};
use crate::operation::{Direction, Phase, Response};
use crate::pipeline::{Edits, Hold};
use crate::protocol::http1::{Body, Refusal, ResponseHead, scratch};
use crate::protocol::{Eof, Event};
use crate::proxy::copy::MOST_KEPT;
use crate::proxy::edit;
use crate::proxy::peer::{Peer, TRUNCATED};

/// The head of an answer that is kept, without what frames its body.
fn captured(head: &ResponseHead<'_, '_>) -> Answer {
    const FRAMING: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "trailer",
        "connection",
        "keep-alive",
    ];
    let headers = head.headers.iter();
    let kept = headers.filter(|h| !FRAMING.iter().any(|name| h.name.eq_ignore_ascii_case(name)));
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Answer {
        status: head.status,
        headers: kept.map(|h| (h.name.to_owned(), text(h.value))).collect(),
        body: Bytes::new(),
    }
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
        mut client: Option<&mut Peer>,
        data: &[u8],
    ) -> usize {
        let mut at = 0;
        let mut run: Range<usize> = 0..0;
        let mut framer = std::mem::take(&mut self.responses);
        // While an answer waits for a copy's, what follows it has to wait as well.
        while !self.awaits_copy() {
            let mut scratch = scratch();
            let front = self.awaiting.front();
            let front = front.filter(|e| e.is_forwarded() && !e.answered);
            let asked = front.map(|exchange| exchange.asked);
            match framer.next(&data[at..], &mut scratch, asked) {
                Ok(Event::Head { len, head }) => {
                    let position = self.down.taken() + run.len() as u64;
                    let (hold, edits) = self.answer_head(&head, position);
                    let part = at..at + len;
                    if edits.is_empty() {
                        self.give(cx, client.as_deref_mut(), data, part, false, hold, &mut run);
                    } else {
                        let before = std::mem::replace(&mut run, part.end..part.end);
                        self.pass_down(cx, client.as_deref_mut(), &data[before]);
                        self.give_edited(&data[part], &head, hold, &edits);
                    }
                    at += len;
                }
                Ok(Event::Body { len, content }) => {
                    let part = at..at + len;
                    self.give(
                        cx,
                        client.as_deref_mut(),
                        data,
                        part,
                        content,
                        Hold::default(),
                        &mut run,
                    );
                    at += len;
                }
                Ok(Event::End) => {
                    self.pass_down(cx, client.as_deref_mut(), &data[run.clone()]);
                    run = at..at;
                    self.end_answer();
                    // The next answer may be the proxy's own.
                    self.answer_locally();
                }
                Ok(Event::Tunnel) => {
                    self.pass_down(cx, client, &data[at..]);
                    self.responses = framer;
                    return data.len();
                }
                Ok(Event::More | Event::Held) => break,
                Err(refusal) => {
                    self.pass_down(cx, client.as_deref_mut(), &data[run.clone()]);
                    run = at..at;
                    self.refuse_answer(refusal);
                    at = data.len();
                    break;
                }
            }
        }
        self.responses = framer;
        self.pass_down(cx, client, &data[run]);
        at
    }

    fn answer_head(&mut self, head: &ResponseHead<'_, '_>, position: u64) -> (Hold, Edits) {
        let nothing = (Hold::default(), Edits::new());
        let sunk = self.fate.is_some();
        let Some(exchange) = self.awaiting.front_mut() else {
            return nothing;
        };
        if head.interim {
            return nothing;
        }
        exchange.status = Some(head.status);
        exchange.last = !head.keep_alive && head.body != Body::Tunnel;
        exchange.operation.witness.answered(0, Some(head.status));
        exchange.answer = position..position;
        if exchange.asked.connect || exchange.asked.upgrade {
            self.switched = Some(head.body == Body::Tunnel);
        }
        if sunk {
            return nothing;
        }
        let response = Response {
            status: head.status,
            headers: head.headers,
            length: head.content_length,
        };
        let action = self.session.response(&mut exchange.operation, &response);
        if let Some((then, receipt)) = action.discard {
            receipt.injected(Phase::Response);
            self.dead_end = exchange.operation.witness.injected_cause();
            exchange.losing = Some((then, receipt));
        } else if exchange.operation.captures() && head.body != Body::Tunnel {
            exchange.captured = Some(captured(head));
        }
        (action.hold, action.edits)
    }

    /// Sends an altered head on to the client, and the body that it announces if that is another one.
    fn give_edited(
        &mut self,
        bytes: &[u8],
        head: &ResponseHead<'_, '_>,
        hold: Hold,
        edits: &Edits,
    ) {
        let sunk = self.fate.is_some() || self.client_gone;
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        exchange.answer_bytes += bytes.len();
        if sunk {
            return;
        }
        let has_body = !matches!(head.body, Body::None | Body::Tunnel)
            || !exchange.asked.head && head.content_length == Some(0);
        let body = edits.iter().rev().find_map(|(edit, _)| edit.body.clone());
        let body = body.filter(|_| has_body);
        let which = edits.iter().map(|(edit, _)| &**edit);
        let mut edited = edit::head(bytes, which, body.as_ref().map(Bytes::len));
        (exchange.sinks_answer, exchange.replaced) = (body.is_some(), body.is_some());
        edited.extend_from_slice(&body.unwrap_or_default());
        for (_, receipt) in edits {
            receipt.injected(Phase::Response);
        }
        if exchange.keeps_answer() {
            exchange.first.extend_from_slice(&edited);
            return;
        }
        self.down
            .push(edited.into(), clock::now(), hold, Phase::Response);
        exchange.answer.end = self.down.taken();
    }

    /// Sends bytes of the answer under way on to the client, or nowhere.
    #[allow(clippy::too_many_arguments)]
    fn give(
        &mut self,
        cx: &mut Context<'_>,
        client: Option<&mut Peer>,
        data: &[u8],
        part: Range<usize>,
        content: bool,
        hold: Hold,
        run: &mut Range<usize>,
    ) {
        let sunk = self.fate.is_some() || self.client_gone;
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        exchange.answer_bytes += part.len();
        if sunk {
            if self.lost_at.is_some() {
                self.lost_at = Some(clock::now());
            }
            return;
        }
        if exchange.losing.is_some() {
            return;
        }
        if exchange.sinks_answer {
            exchange.withhold();
            return;
        }
        if content && exchange.operation.acts_on_body(Direction::Downstream) {
            let bytes = Bytes::copy_from_slice(&data[part.clone()]);
            let action = exchange
                .operation
                .on_body(Direction::Downstream, bytes, clock::now());
            let before = std::mem::replace(run, part.end..part.end);
            self.pass_down(cx, client, &data[before]);
            let passed: usize = action.pieces.iter().map(|(bytes, _)| bytes.len()).sum();
            let sinks = self.act_on_body(Direction::Downstream, action);
            if let Some(exchange) = self.awaiting.front_mut() {
                if passed < part.len() {
                    exchange.withhold();
                }
                exchange.sinks_answer |= sinks;
                exchange.answer.end = self.down.taken();
            }
            return;
        }
        if exchange.keeps_answer() {
            // Kept, in case the wanted one never comes.
            if exchange.first.len() + part.len() <= MOST_KEPT {
                exchange.keep_answer(&data[part], content);
                return;
            }
            // Too long to keep: the client gets this one after all.
            exchange.wanted = None;
            exchange.captured = None;
            let kept = exchange.first.split().freeze();
            exchange.answer = self.down.taken()..self.down.taken();
            self.down
                .push(kept, clock::now(), Hold::default(), Phase::Response);
        }
        if hold.is_none() && run.end == part.start {
            run.end = part.end;
            return;
        }
        let before = std::mem::replace(run, part.end..part.end);
        self.pass_down(cx, client, &data[before]);
        if hold.is_none() {
            *run = part;
        } else {
            let bytes = Bytes::copy_from_slice(&data[part]);
            self.down.push(bytes, clock::now(), hold, Phase::Response);
        }
    }

    fn pass_down(&mut self, cx: &mut Context<'_>, client: Option<&mut Peer>, bytes: &[u8]) {
        if !bytes.is_empty() {
            let client = client.filter(|_| !self.session.cuts().silent[1]);
            self.down.pass(cx, client, bytes);
        }
        // An answer is partly on its way as soon as its bytes are taken.
        if let Some(exchange) = self.awaiting.front_mut()
            && exchange.status.is_some()
            && !self.client_gone
        {
            exchange.answer.end = self.down.taken();
        }
    }

    /// The answer under way has been read to its end.
    fn end_answer(&mut self) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        match self.switched.take() {
            Some(true) => {
                self.tunnel = true;
                self.requests.tunnel();
            }
            Some(false) => self.requests.stay(),
            None => {}
        }
        exchange.end_answer();
        if self.fate.is_some() || self.client_gone {
            self.move_on();
            return;
        }
        if exchange.captured.is_some() {
            self.show_answer();
        }
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        if let Some((then, receipt)) = exchange.losing.take() {
            // A copy's answer is lost as well.
            exchange.wanted = None;
            if let Then::Raw(bytes) = then {
                exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
                exchange.outcome = Outcome::Substituted;
                exchange.status = None;
                let bytes = Bytes::from_static(bytes);
                self.down
                    .push(bytes, clock::now(), Hold::default(), Phase::Response);
            }
            if let Then::Status(status) = then {
                let answer = Answer {
                    status,
                    headers: Vec::new(),
                    body: Bytes::new(),
                };
                let bytes = encode(&answer, exchange.asked, None);
                exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
                exchange.outcome = Outcome::Substituted;
                exchange.status = Some(status);
                self.down
                    .push(bytes, clock::now(), Hold::default(), Phase::Response);
            }
            self.fate = Some((then, Some(receipt)));
        }
        let ends = exchange.last && !exchange.awaits_copy();
        // If its answer is to be a copy's, it stays: see `poll_wanted`.
        self.move_on();
        if ends {
            self.end_after_last();
        }
    }

    /// The answer that was kept for faults to see is whole: sends it on, or what they put in its
    /// place.
    fn show_answer(&mut self) {
        let Some(exchange) = self.awaiting.front_mut() else {
            return;
        };
        let Some(answer) = exchange.captured.take() else {
            return;
        };
        let kept = exchange.first.split().freeze();
        let bytes = match exchange.operation.on_answer(&answer) {
            None if exchange.wanted.is_some() => {
                // It stays kept, for another reason.
                exchange.first.extend_from_slice(&kept);
                return;
            }
            None => kept,
            Some((instead, receipt)) => {
                receipt.injected(Phase::Response);
                exchange.wanted = None;
                exchange.outcome = Outcome::Substituted;
                exchange.status = Some(instead.status);
                encode(&instead, exchange.asked, (!exchange.last).then_some(1))
            }
        };
        exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
        self.down
            .push(bytes, clock::now(), Hold::default(), Phase::Response);
    }

    /// Whether the front exchange has its own answer, but is to get that of a copy.
    pub(super) fn awaits_copy(&self) -> bool {
        self.awaiting.front().is_some_and(|e| e.awaits_copy())
    }

    /// Gives the client the answer to a copy, when it has come, or the first when it can't come.
    pub(super) fn poll_wanted(&mut self, cx: &mut Context<'_>) {
        let sunk = self.fate.is_some() || self.client_gone;
        let front = self.awaiting.front_mut();
        let Some(exchange) = front.filter(|e| e.awaits_copy()) else {
            return;
        };
        if sunk {
            // It would be taken for the answer that was lost before it.
            exchange.wanted = None;
            self.move_on();
            return;
        }
        let Some(wanted) = &mut exchange.wanted else {
            return;
        };
        let Poll::Ready(copy) = Pin::new(wanted).poll(cx) else {
            return;
        };
        let bytes = match copy {
            Ok(whole) => {
                (exchange.status, exchange.last) = (Some(whole.status), whole.last);
                whole.bytes
            }
            Err(_) => exchange.first.split().freeze(),
        };
        let ends = exchange.last;
        exchange.wanted = None;
        exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
        self.down
            .push(bytes, clock::now(), Hold::default(), Phase::Response);
        self.move_on();
        if ends {
            self.end_after_last();
        }
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
    pub(super) fn upstream_ended(&mut self, broken: Option<&std::io::Error>, blame: &Cause) {
        let ends = self.responses.eof(self.from_upstream.len());
        if broken.is_none() && ends == Eof::EndsMessage {
            self.end_answer();
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

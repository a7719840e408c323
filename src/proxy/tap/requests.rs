//! The client's bytes: framed, each request given its route, and sent on as they came.

use std::ops::Range;
use std::task::Context;

use bytes::{Buf, Bytes};

use super::Core;
use super::core::Speaks;
use super::exchange::{Exchange, Keeping, Route, encode, keeps_alive};
use super::flow::{Flow, Kept};
use super::untold::Untold;
use crate::clock;
use crate::evidence::{Cause, Outcome};
use crate::faults::{Answer, Edit, Then};
use crate::operation::{self, Direction, Phase, Request};
use crate::pipeline::{Edits, Hold, Terminal};
use crate::protocol::Event;
use crate::protocol::http1::{Asked, Refusal, RequestHead, scratch};
use crate::proxy::copy::Towards;
use crate::proxy::multiplex::PREFACE;
use crate::proxy::peer::Peer;
use crate::proxy::{edit, forwarding};

/// Requests whose answers are not yet on their way; past it the client is no longer read.
pub(super) const MOST_AWAITING: usize = 1024;

impl Core {
    /// Takes what was read from the client.
    pub(super) fn client_bytes(
        &mut self,
        cx: &mut Context<'_>,
        upstream: Option<&mut Peer>,
        bytes: &[u8],
    ) {
        if self.speaks != Speaks::Http1 && !self.is_http1(bytes) {
            self.from_client.extend_from_slice(bytes);
        } else if self.from_client.is_empty() {
            let used = self.frame_requests(cx, upstream, bytes);
            self.from_client.extend_from_slice(&bytes[used..]);
        } else {
            self.from_client.extend_from_slice(bytes);
            self.reframe_requests(cx, upstream);
        }
    }

    /// Whether the first bytes, of which these are the next, are those of HTTP/1.
    fn is_http1(&mut self, bytes: &[u8]) -> bool {
        let rest = PREFACE.get(self.from_client.len()..).unwrap_or_default();
        let n = rest.len().min(bytes.len());
        if rest[..n] != bytes[..n] {
            self.speaks = Speaks::Http1;
        } else if n == rest.len() {
            self.speaks = Speaks::Http2;
        }
        self.speaks == Speaks::Http1
    }

    /// Looks again at what was left over: more came behind it, or it is known now what it is.
    pub(super) fn reframe_requests(&mut self, cx: &mut Context<'_>, upstream: Option<&mut Peer>) {
        let mut data = std::mem::take(&mut self.from_client);
        let used = self.frame_requests(cx, upstream, &data);
        data.advance(used);
        if !data.is_empty() {
            self.from_client = data;
        }
    }

    /// Answers how many bytes were dealt with.
    fn frame_requests(
        &mut self,
        cx: &mut Context<'_>,
        upstream: Option<&mut Peer>,
        data: &[u8],
    ) -> usize {
        let mut at = 0;
        let mut flow = Flow::new(cx, upstream, data);
        let mut framer = std::mem::take(&mut self.requests);
        while !self.waits_for_copy() && self.looks_ahead(&data[at..]) {
            let mut scratch = scratch();
            match framer.next(&data[at..], &mut scratch) {
                Ok(Event::Head { len, head }) => {
                    let start = self.up.taken() + flow.gathered() as u64;
                    let before = self.framed + self.heard + at as u64;
                    let Some((exchange, hold, edits)) = self.begin(&head, start, before) else {
                        // Its head is read again once enough of its body is there.
                        let ahead = std::mem::take(&mut framer);
                        if let Some(untold) = &mut self.untold {
                            untold.begin(ahead, len);
                        }
                        continue;
                    };
                    let own = self.own_edit(&head).filter(|_| exchange.is_forwarded());
                    if !exchange.is_forwarded() {
                        // No upstream will switch protocols for it.
                        framer.stay();
                    }
                    self.awaiting.push_back(exchange);
                    self.take_head(&mut flow, at..at + len, hold, own.as_ref(), &edits);
                    at += len;
                }
                Ok(Event::Body { len, content }) => {
                    self.take_body(&mut flow, at..at + len, content);
                    at += len;
                }
                Ok(Event::End) => self.end_request(),
                Ok(Event::Tunnel) => {
                    let before = flow.gather(at..data.len());
                    self.pass_on(&mut flow, before);
                    at = data.len();
                    break;
                }
                Ok(Event::Held) if self.dead_end.is_some() => {
                    // Whatever it is, it goes nowhere.
                    at = data.len();
                    break;
                }
                Ok(Event::More | Event::Held) => break,
                Err(refusal) => {
                    self.refuse_request(refusal);
                    at = data.len();
                    break;
                }
            }
        }
        self.requests = framer;
        self.framed += at as u64;
        self.pass_up(&mut flow);
        at
    }

    /// Whether the last request is to be answered by a copy's answer. What follows it waits, so that
    /// nothing of the upstream's can come in between.
    pub(super) fn waits_for_copy(&self) -> bool {
        self.dead_end.is_none() && self.awaiting.back().is_some_and(|e| e.wanted.is_some())
    }

    /// What the proxy's definition has changed in every request.
    fn own_edit(&self, head: &RequestHead<'_, '_>) -> Option<Edit> {
        let edge = &self.session.crossing().edge;
        forwarding::edit(edge, self.session.client().ip(), &request(head))
    }

    /// Sends the head of the request under way on its route, altered, and the body that it announces
    /// if that is another one.
    fn take_head(
        &mut self,
        flow: &mut Flow<'_, '_>,
        at: Range<usize>,
        hold: Hold,
        own: Option<&Edit>,
        edits: &Edits,
    ) {
        let Some(exchange) = self.awaiting.back_mut() else {
            return;
        };
        let head = &flow.data[at.clone()];
        exchange.request_bytes += head.len();
        if !exchange.is_forwarded() {
            return;
        }
        let altered = own.is_some() || !edits.is_empty();
        if !altered {
            exchange.keep(head);
            if hold.is_none() {
                let before = flow.gather(at);
                self.pass_on(flow, before);
                return;
            }
        }
        self.pass_up(flow);
        if !altered {
            let head = Bytes::copy_from_slice(head);
            self.up.push(head, clock::now(), hold, Phase::Request);
            return;
        }
        let Some(exchange) = self.awaiting.back_mut() else {
            return;
        };
        let body = edits.iter().rev().find_map(|(edit, _)| edit.body.clone());
        // A CONNECT has none, and what follows it is no body.
        let body = body.filter(|_| !exchange.asked.connect);
        let which = own.into_iter().chain(edits.iter().map(|(edit, _)| &**edit));
        let head = Bytes::from(edit::head(head, which, body.as_ref().map(Bytes::len)));
        exchange.keep(&head);
        for (_, receipt) in edits {
            receipt.injected(Phase::Request);
        }
        self.up.push(head, clock::now(), hold, Phase::Request);
        if let Some(body) = body {
            exchange.keep(&body);
            self.send_up(body);
            if let Some(exchange) = self.awaiting.back_mut() {
                exchange.sinks_body = true;
            }
        }
    }

    /// Sends bytes behind the head of the request under way on their route.
    fn take_body(&mut self, flow: &mut Flow<'_, '_>, at: Range<usize>, content: bool) {
        let Some(exchange) = self.awaiting.back_mut() else {
            return;
        };
        let bytes = &flow.data[at.clone()];
        exchange.take(bytes, content);
        if exchange.sinks_body {
            if exchange.vanished.is_some() {
                self.lost_at = Some(clock::now());
            }
            return;
        }
        if !exchange.is_forwarded() {
            return;
        }
        if content && exchange.operation.acts_on_body(Direction::Upstream) {
            self.pass_up(flow);
            self.send_up(Bytes::copy_from_slice(bytes));
            return;
        }
        let before = flow.gather(at);
        self.pass_on(flow, before);
    }

    /// Sends bytes of the body on to the upstream, or what faults leave of them.
    fn send_up(&mut self, bytes: Bytes) {
        let Some(exchange) = self.awaiting.back_mut() else {
            return;
        };
        let now = clock::now();
        let action = exchange.operation.on_body(Direction::Upstream, bytes, now);
        let sinks = self.act_on_body(Direction::Upstream, action);
        if let Some(exchange) = self.awaiting.back_mut() {
            exchange.sinks_body |= sinks;
        }
    }

    /// Sends what is gathered.
    fn pass_up(&mut self, flow: &mut Flow<'_, '_>) {
        let bytes = flow.take();
        self.pass_on(flow, bytes);
    }

    fn pass_on(&mut self, flow: &mut Flow<'_, '_>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let upstream = flow.peer.as_deref_mut();
        let upstream = upstream.filter(|_| !self.session.cuts().silent[0]);
        self.up.pass(flow.cx, upstream, bytes);
        let written = self.up.written();
        for exchange in self.awaiting.iter_mut().rev().take_while(|e| !e.sent) {
            exchange.note_sent(written);
        }
    }

    /// Looks at the body of the request at the front of `data`, if rules wait for that. Answers
    /// whether to go on: not while more of it has to come.
    fn looks_ahead(&mut self, data: &[u8]) -> bool {
        let lost = self.dead_end.is_some();
        let Some(untold) = &mut self.untold else {
            return true;
        };
        if lost || !untold.operation.awaits_body() {
            untold.give_up();
        }
        untold.look(data)
    }

    /// Nothing more comes of the client: a request whose body is awaited goes on without it.
    pub(super) fn await_no_body(&mut self, cx: &mut Context<'_>, upstream: Option<&mut Peer>) {
        if let Some(untold) = &mut self.untold {
            untold.give_up();
            self.reframe_requests(cx, upstream);
        }
    }

    /// The connection ends: a request whose body is awaited goes nowhere.
    pub(super) fn strand_untold(&mut self) {
        if let Some(untold) = self.untold.take() {
            let start = self.up.taken();
            let read = self.from_client.len();
            let stranded = Exchange::new(untold.operation, untold.asked, Route::Stranded, start);
            self.awaiting.push_back(stranded);
            if let Some(exchange) = self.awaiting.back_mut() {
                exchange.request_bytes = read;
            }
        }
    }

    /// Begins the exchange of a request, and answers how long it is held, and how it is altered;
    /// `None`: its body is awaited first. `before`: bytes of the connection that were read before it.
    fn begin(
        &mut self,
        head: &RequestHead<'_, '_>,
        start: u64,
        before: u64,
    ) -> Option<(Box<Exchange>, Hold, Edits)> {
        // It came after these answers were written: they have arrived.
        self.settle();
        let request = request(head);
        let asked = head.asked();
        self.asked_last = !head.keep_alive;
        let untold = self.untold.take();
        if self.dead_end.is_some() {
            let lost = || self.session.lost_request(&request);
            let operation = untold.map_or_else(lost, |untold| untold.operation);
            return Some((
                Exchange::new(operation, asked, Route::Stranded, start),
                Hold::default(),
                Edits::new(),
            ));
        }
        let (operation, action) = if let Some(untold) = untold {
            let body = match untold.is_whole() {
                true => operation::Body::whole(&untold.body),
                false => operation::Body::Long,
            };
            let mut operation = untold.operation;
            let action = self.session.request_body(&mut operation, &request, &body);
            (operation, action)
        } else {
            let opening = self.opening.take();
            let (mut operation, mut action) = self.session.request(&request, before, opening);
            if let Some(most) = action.awaits_body {
                let body = match head.content_length {
                    // Its client may wait for leave to send it.
                    _ if head.expects_continue => operation::Body::Long,
                    Some(length) if length > most => operation::Body::Long,
                    _ if head.has_body => {
                        let crossing = self.session.crossing();
                        self.untold = Some(Untold::new(operation, asked, most, crossing));
                        return None;
                    }
                    _ => operation::Body::whole(b""),
                };
                action = self.session.request_body(&mut operation, &request, &body);
            }
            (operation, action)
        };
        let (mut hold, mut ends) = (action.hold, action.ends);
        let route = match action.terminal {
            // The pipeline gives a frame to requests on HTTP/2 only.
            None | Some(Terminal::Frame(..)) => Route::Forward,
            Some(Terminal::End(end, receipt)) => {
                receipt.injected(Phase::Request);
                operation.witness.blame(receipt.cause());
                self.dead_end = Some(receipt.cause());
                ends = vec![(end, receipt)];
                Route::Stranded
            }
            Some(Terminal::Respond(answer, receipt)) => {
                receipt.injected(Phase::Request);
                operation.witness.blame(receipt.cause());
                let keep_alive = keeps_alive(head);
                Route::Local {
                    bytes: encode(&answer, asked, keep_alive),
                    status: answer.status,
                    hold: std::mem::take(&mut hold),
                    arrived: clock::now(),
                    close: keep_alive.is_none(),
                }
            }
            Some(Terminal::Discard(then, receipt)) => {
                receipt.injected(Phase::Request);
                operation.witness.blame(receipt.cause());
                self.dead_end = Some(receipt.cause());
                Route::Lost(then, receipt)
            }
        };
        let mut exchange = Exchange::new(operation, asked, route, start);
        if !ends.is_empty() {
            let now = clock::now();
            let ends = ends.into_iter();
            exchange.ends = ends.map(|(end, by)| (now + end.after, end, by)).collect();
        }
        if exchange.is_forwarded() {
            let delivery = exchange.operation.witness.deliver();
            debug_assert_eq!(delivery, 0, "the first delivery");
            if !action.again.is_empty() {
                exchange.keeping = Some(Keeping {
                    kept: Kept::new(self.session.crossing()),
                    again: action.again,
                    hold: hold.clone(),
                });
            }
        }
        Some((exchange, hold, action.edits))
    }

    /// The request under way was read to its end: its copies can go.
    fn end_request(&mut self) {
        let towards = Towards::of(&self.session);
        let Some(exchange) = self.awaiting.back_mut() else {
            return;
        };
        exchange.end_request();
        let keeping = exchange.keeping.take();
        if let Some(keeping) = keeping {
            exchange.send_copies(keeping, &towards);
        }
        // An answer that came before the end of its request has waited for this.
        self.move_on();
    }

    /// The client's bytes are no request that every party would read alike.
    fn refuse_request(&mut self, refusal: Refusal) {
        if self.dead_end.is_some() {
            return;
        }
        let proxy = &self.session.crossing().edge.name;
        tracing::warn!(proxy, code = refusal.code(), "refused a request: {refusal}");
        self.dead_end = Some(Cause::Proxy);
        let answer = refusal_answer(refusal.status(), &refusal);
        let under_way = self.awaiting.back().is_some_and(|e| !e.complete);
        if under_way && let Some(exchange) = self.awaiting.back_mut() {
            // A part of it may have gone on already; it can't be taken back, nor be completed.
            exchange.operation.witness.blame(Cause::Proxy);
            if exchange.is_forwarded() {
                exchange.operation.witness.failed(0, refusal.to_string());
            }
        } else {
            let operation = self.session.refused_request();
            operation.witness.blame(Cause::Proxy);
            let start = self.up.taken();
            self.awaiting.push_back(Exchange::new(
                operation,
                Asked::default(),
                Route::Stranded,
                start,
            ));
        }
        if let Some(exchange) = self.awaiting.back_mut() {
            exchange.route = Route::Local {
                bytes: encode(&answer, Asked::default(), None),
                status: answer.status,
                hold: Hold::default(),
                arrived: clock::now(),
                close: true,
            };
        }
    }

    /// Puts the proxy's own answers on their way, as far as it is their turn. Once nothing more goes
    /// to the client, they only make way for what the upstream still says.
    pub(super) fn answer_locally(&mut self) {
        loop {
            let sunk = self.is_sunk();
            let Some(exchange) = self.awaiting.front_mut() else {
                return;
            };
            if sunk {
                if exchange.is_forwarded() || !exchange.complete {
                    return;
                }
                exchange.answered = true;
                self.move_on();
                continue;
            }
            match &mut exchange.route {
                Route::Stranded => return,
                Route::Forward => {
                    if let Some((then, receipt)) = exchange.vanished.take() {
                        self.fate = Some((then, Some(receipt)));
                    }
                    return;
                }
                Route::Local {
                    bytes,
                    status,
                    hold,
                    arrived,
                    close,
                } => {
                    // A request that is still being read is answered once it is over, so that what
                    // follows it is not taken for the next one.
                    if !exchange.complete && !*close {
                        return;
                    }
                    exchange.status = Some(*status);
                    exchange.outcome = Outcome::Substituted;
                    let (bytes, hold) = (bytes.clone(), std::mem::take(hold));
                    let (arrived, close) = (*arrived, *close);
                    exchange.note_wait(&bytes);
                    exchange.answer = self.down.taken()..self.down.taken() + bytes.len() as u64;
                    self.down.push(bytes, arrived, hold, Phase::Request);
                    if close {
                        self.dead_end.get_or_insert(Cause::Proxy);
                        self.fate = Some((Then::Close, None));
                    }
                }
                Route::Lost(then, receipt) => {
                    self.fate = Some((*then, Some(receipt.clone())));
                }
            }
            exchange.answered = true;
            self.move_on();
        }
    }

    /// The answer of the front exchange is on its way whole, or there will be none: moves it on
    /// once its request is over too.
    pub(super) fn move_on(&mut self) {
        let done =
            |e: &Exchange| e.answered && !e.awaits_copy() && (e.complete || !e.is_forwarded());
        if self.awaiting.front().is_some_and(|e| done(e))
            && let Some(exchange) = self.awaiting.pop_front()
        {
            self.telling.push_back(exchange);
        }
    }
}

/// What a matcher may see of a head.
fn request<'a>(head: &RequestHead<'a, 'a>) -> Request<'a> {
    Request {
        authority: head.authority(),
        method: head.method,
        path: head.path,
        query: head.query,
        headers: head.headers,
        http2: false,
    }
}

/// The answer to a message that was refused.
pub(super) fn refusal_answer(status: u16, refusal: &Refusal) -> Answer {
    Answer {
        status,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: Bytes::from(format!(
            "firedrill: refused ({}): {refusal}\n",
            refusal.code()
        )),
    }
}

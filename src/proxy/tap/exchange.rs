//! One request with its answer on its way through the tap.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::flow::Kept;
use crate::clock::{self, Instant, Timestamp};
use crate::evidence::{Cause, Digester, Outcome, asks_to_wait};
use crate::faults::{Answer, End, Then, When};
use crate::pipeline::{Edits, Hold, Operation, Receipt};
use crate::protocol::http1::{Asked, RequestHead, scratch};
use crate::proxy::copy::{self, Towards};

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Route {
    /// It goes to the upstream.
    Forward,
    /// The proxy answers, once all earlier answers are on their way.
    Local {
        /// The whole answer, and how long it is kept.
        bytes: Bytes,
        status: u16,
        hold: Hold,
        /// Since when.
        arrived: Instant,
        /// The connection ends after it.
        close: bool,
    },
    /// It goes nowhere, and once all earlier answers are on their way, this becomes of the client.
    Lost(Then, Receipt),
    /// The connection carries nothing any more: it goes nowhere.
    Stranded,
}

/// A copy of the request is being kept, to be delivered again.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) kept: Kept,
    pub(super) again: Vec<(crate::faults::Again, Receipt)>,
    pub(super) hold: Hold,
}

/// The answer that the client gets instead of the first.
#[derive(Debug)]
pub(super) enum Wanted {
    /// When it comes.
    Coming(oneshot::Receiver<copy::Whole>),
    /// Once the first is whole.
    Here(copy::Whole),
}

/// What is to be done with an answer that is to go to the client.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) arrived: Instant,
    pub(super) hold: Hold,
    pub(super) edits: Edits,
}

/// One request with its answer. Large, and handed on from queue to queue: in a box.
pub(super) struct Exchange {
    pub(super) operation: Operation,
    pub(super) asked: Asked,
    pub(super) route: Route,
    /// Where its first byte stands in the lane to the upstream.
    pub(super) start: u64,
    pub(super) sent: bool,
    /// Bytes of it were put on their way to the upstream, whatever became of the rest.
    delivers: bool,
    /// The request was read to its end.
    pub(super) complete: bool,
    /// The answer was read to its end.
    pub(super) answered: bool,
    pub(super) request_bytes: usize,
    body: Digester,
    /// Of the answer's body.
    answer_body: Digester,
    pub(super) keeping: Option<Keeping>,
    /// Copies that begin once the answer has been read whole.
    after_answer: Vec<oneshot::Sender<()>>,
    /// What is still read of the request's body goes nowhere.
    pub(super) sinks_body: bool,
    /// What is still read of the answer's body goes nowhere: another one has taken its place, or it
    /// is cut.
    pub(super) sinks_answer: bool,
    /// When, unless it is over before, its connection ends, and how.
    pub(super) ends: Vec<(Instant, End, Receipt)>,
    /// Bytes of the request went nowhere; once it is its turn, this becomes of the client.
    pub(super) vanished: Option<(Then, Receipt)>,
    /// The answer is kept until it is whole, and shown to faults.
    pub(super) captures: bool,
    /// Another answer is to take the place of the first.
    pub(super) wanted: Option<Wanted>,
    /// The upstream's own answer, while it is kept.
    pub(super) kept: Option<Kept>,
    /// What is to be done with the answer once its head is sent on; `None`: nothing.
    pub(super) way: Option<Way>,
    pub(super) status: Option<u16>,
    /// Nothing may follow the answer on this connection.
    pub(super) last: bool,
    pub(super) answer_bytes: usize,
    /// The answer goes nowhere; after its end, this becomes of the client.
    pub(super) losing: Option<(Then, Receipt)>,
    /// The head of the upstream's answer, or of one in its place, is on its way to the client.
    pub(super) begun: bool,
    /// Where its answer began and ends in the lane to the client.
    pub(super) answer: std::ops::Range<u64>,
    pub(super) outcome: Outcome,
    /// The answer was written to the client whole.
    pub(super) is_told: bool,
}

impl Exchange {
    pub(super) fn new(operation: Operation, asked: Asked, route: Route, start: u64) -> Box<Self> {
        let body = operation.witness.request_digester();
        let answer_body = operation.witness.answer_digester();
        Box::new(Self {
            operation,
            asked,
            delivers: matches!(route, Route::Forward),
            route,
            start,
            sent: false,
            complete: false,
            answered: false,
            request_bytes: 0,
            body,
            answer_body,
            keeping: None,
            after_answer: Vec::new(),
            sinks_body: false,
            sinks_answer: false,
            ends: Vec::new(),
            vanished: None,
            captures: false,
            wanted: None,
            kept: None,
            way: None,
            status: None,
            last: false,
            answer_bytes: 0,
            losing: None,
            begun: false,
            answer: 0..0,
            outcome: Outcome::Answered,
            is_told: false,
        })
    }

    /// Takes in bytes of the request, head or body.
    pub(super) fn take(&mut self, bytes: &[u8], content: bool) {
        self.request_bytes += bytes.len();
        if content {
            self.body.update(bytes);
        }
        if !self.sinks_body {
            self.keep(bytes);
        }
    }

    /// Keeps bytes for copies.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let keeping = self.keeping.as_mut();
        if keeping.is_some_and(|keeping| !keeping.kept.push(bytes)) {
            // Too long to be kept: its rule counts as selected, not injected.
            self.keeping = None;
        }
    }

    /// The request was read to its end.
    pub(super) fn end_request(&mut self) {
        self.complete = true;
        self.operation.witness.request_ended(&mut self.body, true);
    }

    /// Delivers the request again, as often as its rules say.
    pub(super) fn send_copies(&mut self, keeping: Keeping, towards: &Towards) {
        let bytes = keeping.kept.freeze();
        let due = keeping.hold.due(clock::now());
        for (again, receipt) in keeping.again {
            for n in 1..=again.copies {
                let answer = if again.last
                    && n == again.copies
                    && self.wanted.is_none()
                    // One that came before the end of the request is on its way already.
                    && self.status.is_none()
                {
                    let (client, wanted) = oneshot::channel();
                    self.wanted = Some(Wanted::Coming(wanted));
                    copy::Answer::Wanted(self.asked, client)
                } else {
                    copy::Answer::Message(self.asked)
                };
                let (begin, after) = match again.when {
                    When::AtOnce => (copy::Begin::AtOnce, again.gap * n),
                    When::Lifted => (copy::Begin::Lifted, again.gap * (n - 1)),
                    When::Answered => {
                        let (begin, answered) = oneshot::channel();
                        self.after_answer.push(begin);
                        (copy::Begin::When(answered), again.gap * (n - 1))
                    }
                };
                let witness = &self.operation.witness;
                let receipt = receipt.clone();
                let feed = copy::spawn(towards, witness, receipt, after, answer, begin);
                feed.push(bytes.clone(), due);
            }
        }
    }

    /// Takes in bytes of the upstream's answer, head or body.
    pub(super) fn take_answer(&mut self, bytes: &[u8], content: bool) {
        self.answer_bytes += bytes.len();
        if content {
            self.answer_body.update(bytes);
        }
    }

    /// Whether the answer is kept back, for a copy's or until it is whole.
    pub(super) fn keeps_answer(&self) -> bool {
        self.status.is_some() && (self.wanted.is_some() || self.captures)
    }

    /// Bytes of the answer are kept from the client.
    pub(super) fn withhold(&mut self) {
        if self.outcome == Outcome::Answered {
            self.outcome = Outcome::Partial;
        }
    }

    /// The answer has been read whole.
    pub(super) fn end_answer(&mut self) {
        self.answered = true;
        let witness = &self.operation.witness;
        witness.answer_ended(0, &mut self.answer_body);
        for begin in self.after_answer.drain(..) {
            // A copy may have ended since.
            let _ = begin.send(());
        }
    }

    /// Whether the answer to a copy is still to come, which the client gets.
    pub(super) fn awaits_copy(&self) -> bool {
        self.answered && self.wanted.is_some()
    }

    /// Whether its answer comes, or came, from the upstream.
    pub(super) fn is_forwarded(&self) -> bool {
        matches!(self.route, Route::Forward)
    }

    /// Notes that bytes of it were written to the upstream.
    pub(super) fn note_sent(&mut self, written: u64) {
        if !self.sent && self.delivers && written > self.start {
            self.sent = true;
            self.operation.witness.sent(0);
        }
    }

    /// Notes how long an answer that takes the place of the upstream's asks the client to wait.
    pub(super) fn note_wait(&self, answer: &[u8]) {
        let mut headers = scratch();
        let mut head = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let read = parser.parse_response_with_uninit_headers(&mut head, answer, &mut headers);
        // What is no HTTP asks for nothing.
        let read = read.is_ok_and(|status| status.is_complete());
        let status = head.code.filter(|_| read).unwrap_or_default();
        let headers = head.headers.iter().map(|h| (h.name, h.value));
        self.operation
            .witness
            .retry_after(asks_to_wait(status, headers));
    }

    /// The answer was written to the client whole.
    pub(super) fn told(&mut self) {
        self.is_told = true;
        let bytes = self.answer.end - self.answer.start;
        self.operation
            .witness
            .told(self.outcome, self.status, bytes);
    }

    /// The connection has ended. `end` is how it ended for the client, `written` how far the lane
    /// to it got, `arrived` whether its host has acknowledged all of that: who took a part of an
    /// answer had not gone, only said that it would say no more.
    pub(super) fn abandon(
        &mut self,
        end: Outcome,
        (written, arrived): (u64, bool),
        left: Option<Timestamp>,
        blame: &Cause,
    ) {
        let witness = &self.operation.witness;
        let bytes = written.saturating_sub(self.answer.start);
        let some = self.answer.end > self.answer.start && bytes > 0;
        if some {
            let bytes = bytes.min(self.answer.end - self.answer.start);
            let outcome = match self.outcome {
                Outcome::Answered => Outcome::Partial,
                other => other,
            };
            witness.told(outcome, self.status, bytes);
        }
        witness.told(end, None, 0);
        if let Some(left) = left.filter(|_| !(some && arrived)) {
            witness.client_left(left);
        }
        witness.blame(blame.clone());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let witness = &self.operation.witness;
        witness.request_bytes(self.request_bytes);
        if self.answer_bytes > 0 {
            witness.answer_bytes(0, self.answer_bytes);
        }
        if !self.complete {
            witness.request_ended(&mut self.body, false);
        }
    }
}

/// The bytes of an answer of the proxy's own.
pub(super) fn encode(answer: &Answer, asked: Asked, keep_alive: Option<u8>) -> Bytes {
    let reason = reason(answer.status);
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
    for (name, value) in &answer.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let bodiless = matches!(answer.status, 204 | 304);
    if !bodiless {
        out.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    match keep_alive {
        None => out.push_str("connection: close\r\n"),
        Some(0) => out.push_str("connection: keep-alive\r\n"),
        Some(_) => {}
    }
    out.push_str("\r\n");
    let mut bytes = BytesMut::from(out.as_bytes());
    if !bodiless && !asked.head {
        bytes.extend_from_slice(&answer.body);
    }
    bytes.freeze()
}

/// Whether the connection may be used after an answer of the proxy's own: the HTTP minor version
/// if so. A client that waits for a 100 may or may not send its body after a final answer, so the
/// next request could not be told from it.
pub(super) fn keeps_alive(head: &RequestHead<'_, '_>) -> Option<u8> {
    (head.keep_alive && !head.expects_continue).then_some(head.version_minor)
}

fn reason(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Status")
}

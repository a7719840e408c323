//! The steps of an answer on its way to the client.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::again::Whole;
use super::alter;
use super::body::{Body, Moved, Stopped};
use super::requests::fields;
use super::stream::{Down, Held, Stream, Wants};
use crate::clock;
use crate::evidence::{Cause, Outcome, asks_to_wait, replayed};
use crate::faults::{Answer, Then};
use crate::operation::{self, Direction, Phase};
use crate::pipeline::{Receipt, ResponseAction, Session};
use crate::proxy::copy::MOST_KEPT;
use crate::proxy::watch::sooner;

impl Stream {
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>, session: &Session) {
        loop {
            match &mut self.down {
                Down::Idle | Down::Hung(..) | Down::Given | Down::Broken | Down::Over => return,
                Down::Head(answer) => {
                    match answer.poll_informational(cx) {
                        Poll::Ready(Some(Ok(interim))) => {
                            self.interim(interim);
                            continue;
                        }
                        Poll::Ready(Some(Err(error))) => {
                            self.upstream_stopped(&error);
                            continue;
                        }
                        Poll::Pending => return,
                        Poll::Ready(None) => {}
                    }
                    match std::pin::Pin::new(answer).poll(cx) {
                        Poll::Pending => return,
                        Poll::Ready(Ok(head)) => self.answer_head(head, session),
                        Poll::Ready(Err(error)) => self.upstream_stopped(&error),
                    }
                }
                Down::Held(held) => {
                    if let Some(due) = held.due(cx) {
                        sooner(&mut self.due, due);
                        return;
                    }
                    if let Down::Held(held) = std::mem::replace(&mut self.down, Down::Over) {
                        let (head, instead) = held.what;
                        self.give_head(head, instead);
                    }
                }
                Down::Captured(held, kept) => {
                    let full = kept.len() > MOST_KEPT;
                    let body = held.what.body_mut();
                    let drained = match full {
                        true => Poll::Pending,
                        false => body.poll_into(cx, kept, MOST_KEPT),
                    };
                    match drained {
                        Poll::Pending if kept.len() <= MOST_KEPT => return,
                        Poll::Ready(Err(error)) => self.upstream_stopped(&error),
                        // Too long to be kept: the client gets it as it comes.
                        Poll::Pending => self.show(None),
                        Poll::Ready(Ok(trailers)) => self.show(Some(trailers)),
                    }
                }
                Down::Wanted(_, wanted) => {
                    let Poll::Ready(copy) = std::pin::Pin::new(wanted).poll(cx) else {
                        return;
                    };
                    if let Down::Wanted(first, _) = std::mem::replace(&mut self.down, Down::Over) {
                        match copy {
                            Ok(whole) => self.give_whole(whole),
                            Err(_) => self.give_head(*first, None),
                        }
                    }
                }
                Down::Body(_) => {
                    if !self.poll_body(cx) {
                        return;
                    }
                }
                Down::Lost(body, ..) => {
                    let vanished = &mut self.vanished;
                    match body.poll_drain(cx, |_| *vanished = Some(clock::now())) {
                        Poll::Pending => return,
                        Poll::Ready(Ok(_)) => self.meet_fate(),
                        Poll::Ready(Err(error)) => self.upstream_stopped(&error),
                    }
                }
                Down::Own(held) => {
                    if let Some(due) = held.due(cx) {
                        sooner(&mut self.due, due);
                        return;
                    }
                    if let Down::Own(held) = std::mem::replace(&mut self.down, Down::Over) {
                        self.give_own(&held.what);
                    }
                }
                Down::Ending(reason, outcome) => {
                    // What was given to `h2` would be thrown away.
                    if self.given != self.gone {
                        return;
                    }
                    let (reason, outcome) = (*reason, *outcome);
                    self.respond.send_reset(reason);
                    self.end_unfinished(outcome);
                    self.down = Down::Over;
                }
            }
        }
    }

    /// Moves the body of the answer; answers whether there is more to do at once.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool {
        let (Down::Body(body), Some(to)) = (&mut self.down, &mut self.to_client) else {
            return false;
        };
        let given = &mut self.given;
        let moved = if body.is_acted() || self.operation.acts_on_body(Direction::Downstream) {
            let operation = &mut self.operation;
            let moved = body.poll_acted(cx, to, |bytes, now| {
                let action = operation.on_body(Direction::Downstream, bytes, now);
                let len: usize = action.pieces.iter().map(|(bytes, _)| bytes.len()).sum();
                given.content += len as u64;
                action
            });
            if let Some(due) = body.due {
                sooner(&mut self.due, due);
            }
            moved
        } else {
            let see = |bytes: &Bytes| given.content += bytes.len() as u64;
            body.poll_move(cx, to, see).map_ok(|()| Moved::Whole)
        };
        match moved {
            Poll::Pending => return false,
            Poll::Ready(Ok(Moved::Whole)) => self.down = Down::Given,
            Poll::Ready(Ok(Moved::Cut(end, receipt))) => self.end_as(end, &receipt),
            Poll::Ready(Ok(Moved::Lost(then, receipt))) => {
                self.operation.witness.blame(receipt.cause());
                self.vanished = Some(clock::now());
                if let Down::Body(body) = std::mem::replace(&mut self.down, Down::Over) {
                    self.down = Down::Lost(body, then, receipt);
                }
            }
            Poll::Ready(Err(Stopped::Source(error))) => self.upstream_stopped(&error),
            // The client's stream is gone, which its frame or its connection tells.
            Poll::Ready(Err(Stopped::Target)) => return false,
        }
        true
    }

    fn interim(&mut self, interim: Response<()>) {
        if self.respond.send_informational(interim).is_ok() {
            self.given.blocks += 1;
            self.interim += 1;
        }
    }

    /// The head of the upstream's answer has come.
    fn answer_head(&mut self, head: Response<RecvStream>, session: &Session) {
        let status = head.status().as_u16();
        self.status = Some(status);
        self.operation.witness.answered(0, Some(status));
        if replayed(named(head.headers())) {
            self.operation.witness.replayed(0);
        }
        let witness = &self.operation.witness;
        let mut head = head.map(|from| Body::answer(from, witness));
        if let Some((then, receipt)) = self.vanishing.take() {
            self.down = Down::Lost(head.into_body(), then, receipt);
            return;
        }
        let action = match session.is_clear() {
            true => ResponseAction::default(),
            false => self.ask(&head, session),
        };
        if let Some((then, receipt)) = action.discard {
            receipt.injected(Phase::Response);
            // A copy's answer is lost as well.
            self.wanted = None;
            self.down = Down::Lost(head.into_body(), then, receipt);
            return;
        }
        let has_body = !head.body().is_end() || head.headers().contains_key(CONTENT_LENGTH);
        let instead = alter::head(head.headers_mut(), &action.edits, has_body, Phase::Response);
        self.down = if let Some(wanted) = self.wanted.take() {
            Down::Wanted(Box::new(head), wanted)
        } else if self.operation.captures() && instead.is_none() {
            let held = Held::new(head, action.hold, Phase::Response);
            Down::Captured(Box::new(held), BytesMut::new())
        } else if action.hold.is_none() {
            return self.give_head(head, instead);
        } else {
            let held = Held::new((head, instead), action.hold, Phase::Response);
            Down::Held(Box::new(held))
        };
    }

    fn ask(&mut self, head: &Response<Body>, session: &Session) -> ResponseAction {
        let headers = fields(head.headers());
        let length = head.headers().get(CONTENT_LENGTH);
        let response = operation::Response {
            status: head.status().as_u16(),
            headers: &headers,
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        session.response(&mut self.operation, &response)
    }

    /// The answer that was kept is whole, with these trailers, or too long: sends it on, or what
    /// faults put in its place.
    fn show(&mut self, whole: Option<Option<HeaderMap>>) {
        let Down::Captured(held, kept) = std::mem::replace(&mut self.down, Down::Over) else {
            return;
        };
        let kept = kept.freeze();
        let head = held.what;
        let Some(trailers) = whole else {
            let (parts, body) = head.into_parts();
            let body = body.beginning(kept.clone());
            self.give_head(Response::from_parts(parts, body), None);
            return;
        };
        let fields = head.headers().iter();
        let fields = fields.filter(|(name, _)| *name != CONTENT_LENGTH);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let answer = Answer {
            status: head.status().as_u16(),
            headers: fields
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: kept.clone(),
        };
        match self.operation.on_answer(&answer) {
            Some((instead, receipt)) => {
                receipt.injected(Phase::Response);
                self.give_own(&instead);
            }
            None => self.give_whole(Whole {
                head: head.map(drop),
                body: kept,
                trailers,
            }),
        }
    }

    fn give_head(&mut self, head: Response<Body>, instead: Option<Bytes>) {
        let (parts, body) = head.into_parts();
        self.status = Some(parts.status.as_u16());
        let head = Response::from_parts(parts, ());
        if let Some(instead) = instead {
            // What the client gets is not what the upstream said.
            self.outcome = Outcome::Substituted;
            let end = instead.is_empty();
            if self.send_head(head, end) {
                self.give_rest(instead, None, end);
                self.aside = Some(super::stream::Aside::Body(body));
                self.linger = Some(clock::now() + self.patience);
            }
            return;
        }
        let end = body.is_end();
        if self.send_head(head, end) {
            self.down = match end {
                true => Down::Given,
                false => Down::Body(body),
            };
        }
    }

    /// Gives the client an answer that is whole.
    fn give_whole(&mut self, whole: Whole) {
        let end = whole.body.is_empty() && whole.trailers.is_none();
        self.status = Some(whole.head.status().as_u16());
        if self.send_head(whole.head, end) {
            self.give_rest(whole.body, whole.trailers, end);
        }
    }

    /// Gives the client an answer of the proxy's own.
    fn give_own(&mut self, answer: &Answer) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
        for (name, value) in &answer.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_bytes(value.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value)
                && !alter::is_of_connection(&name)
            {
                head.headers_mut().append(name, value);
            }
        }
        let end = answer.body.is_empty();
        if !end {
            let length = HeaderValue::from(answer.body.len());
            head.headers_mut().insert(CONTENT_LENGTH, length);
        }
        self.status = Some(answer.status);
        self.outcome = Outcome::Substituted;
        if self.send_head(head, end) {
            self.give_rest(answer.body.clone(), None, end);
        }
    }

    /// Gives `h2` the head of the final answer; answers whether it took it.
    fn send_head(&mut self, head: Response<()>, end: bool) -> bool {
        let seconds = asks_to_wait(head.status().as_u16(), named(head.headers()));
        self.operation.witness.retry_after(seconds);
        match self.respond.send_response(head, end) {
            Ok(to) => {
                self.to_client = Some(to);
                self.given.blocks += 1;
                true
            }
            Err(error) => {
                tracing::debug!(%error, "an answer can't be given");
                self.operation.witness.blame(Cause::Proxy);
                self.down = Down::Ending(Reason::INTERNAL_ERROR, Outcome::Reset);
                false
            }
        }
    }

    fn give_rest(&mut self, body: Bytes, trailers: Option<HeaderMap>, ended: bool) {
        self.down = Down::Given;
        let Some(to) = self.to_client.as_mut().filter(|_| !ended) else {
            return;
        };
        self.given.content += body.len() as u64;
        let given = match trailers {
            None => to.send_data(body, true),
            Some(trailers) => to
                .send_data(body, false)
                .and_then(|()| to.send_trailers(trailers)),
        };
        if given.is_err() {
            self.down = Down::Ending(Reason::INTERNAL_ERROR, Outcome::Reset);
        }
    }

    /// The answer that went nowhere has ended.
    fn meet_fate(&mut self) {
        if let Down::Lost(_, then, receipt) = std::mem::replace(&mut self.down, Down::Over) {
            self.end_by(then, receipt);
        }
    }

    /// This becomes of the client. Where HTTP/1 ends the connection, the stream ends: the others of
    /// its connection are none of this.
    pub(super) fn end_by(&mut self, then: Then, receipt: Receipt) {
        self.down = match then {
            Then::Hang => Down::Hung(receipt, Duration::ZERO),
            Then::After(after) => Down::Hung(receipt, after),
            Then::Reset if !receipt.is_lifted() => {
                Down::Ending(Reason::INTERNAL_ERROR, Outcome::Reset)
            }
            Then::Reset | Then::Close => Down::Ending(Reason::CANCEL, Outcome::Closed),
            Then::Status(status) => {
                let answer = Answer {
                    status,
                    headers: Vec::new(),
                    body: Bytes::new(),
                };
                self.give_own(&answer);
                return;
            }
            Then::Raw(bytes) => {
                self.wants = Some(Wants::Raw(bytes, receipt));
                return;
            }
        };
        self.meet_ends();
    }

    /// The upstream's side ended otherwise than with the end of its answer.
    fn upstream_stopped(&mut self, error: &h2::Error) {
        self.go_nowhere();
        self.note_stopped(error);
        if let Down::Lost(..) = self.down {
            self.meet_fate();
            return;
        }
        self.down = if error.is_reset() {
            let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
            Down::Ending(reason, Outcome::Reset)
        } else if error.is_go_away() && error.is_remote() {
            // It has said that it has not dealt with this stream.
            Down::Ending(Reason::REFUSED_STREAM, Outcome::Reset)
        } else {
            Down::Broken
        };
    }

    /// Notes why there is no answer, or not all of it.
    pub(super) fn note_stopped(&self, error: &h2::Error) {
        let witness = &self.operation.witness;
        if error.is_library() && error.is_reset() {
            // It is no answer that every party would read alike.
            witness.answered(0, None);
            witness.failed(0, format!("refused: {error}"));
            witness.blame(Cause::Proxy);
            return;
        }
        let closed = error
            .get_io()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
        let said = match witness.is_answered() {
            _ if !closed => error.to_string(),
            true => "closed before the end of its answer".to_owned(),
            false => "closed without an answer".to_owned(),
        };
        witness.failed(0, said);
        witness.blame(Cause::Upstream);
    }
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
}

//! The steps of a request on its way to the upstream.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use http::header::{CONTENT_LENGTH, EXPECT};

use super::again::Keeping;
use super::alter;
use super::body::{Moved, Stopped};
use super::requests::{facts, fields};
use super::stream::{Aside, Asked, Down, Held, Stream, Untold, Up, Wants};
use crate::clock;
use crate::evidence::{Cause, Digester, Outcome};
use crate::faults::Frame;
use crate::operation::{self, Direction, Phase};
use crate::pipeline::{Edits, Hold, RequestAction, Session, Terminal};
use crate::proxy::copy::Towards;
use crate::proxy::forwarding;

impl Stream {
    /// Its route follows from what is to be done with it.
    pub(super) fn give_route(
        &mut self,
        session: &Session,
        action: RequestAction,
        head: Request<()>,
    ) {
        if let Some(most) = action.awaits_body {
            self.await_body(session, head, most);
            return;
        }
        match action.terminal {
            None => {
                let delivery = self.operation.witness.deliver();
                debug_assert_eq!(delivery, 0, "the first delivery");
                let now = clock::now();
                let ends = action.ends.into_iter();
                self.ends = ends.map(|(end, by)| (now + end.after, end, by)).collect();
                let head = own(head, session);
                self.forward(head, action.hold.clone(), &action.edits);
                if !action.again.is_empty()
                    && let Some((head, instead)) = self.forwarded()
                {
                    let (head, again) = (head.clone(), action.again);
                    let towards = Towards::of(session);
                    let keeping = Keeping::new(head, instead, again, action.hold, towards);
                    self.keeping = Some(keeping);
                }
            }
            Some(Terminal::Respond(answer, receipt)) => {
                receipt.injected(Phase::Request);
                let held = Held::new(answer, action.hold, Phase::Request);
                self.down = Down::Own(Box::new(held));
            }
            Some(Terminal::Discard(then, receipt)) => {
                receipt.injected(Phase::Request);
                self.end_by(then, receipt);
            }
            Some(Terminal::End(end, receipt)) => {
                receipt.injected(Phase::Request);
                self.end_as(end, &receipt);
            }
            Some(Terminal::Frame(Frame::Reset(code), receipt)) => {
                receipt.injected(Phase::Request);
                self.end_client(code.into(), Outcome::Reset);
            }
            Some(Terminal::Frame(Frame::GoAway(code), receipt)) => {
                receipt.injected(Phase::Request);
                self.wants = Some(Wants::GoAway(code.into(), receipt));
            }
        }
    }

    /// Rules are to see its body before it goes on, if that is no longer than `most`.
    fn await_body(&mut self, session: &Session, head: Request<()>, most: u64) {
        let Up::Nowhere(body) = std::mem::replace(&mut self.up, Up::Done) else {
            return;
        };
        let length = head.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        // Its client may wait for leave to send it.
        let waits = head.headers().contains_key(EXPECT);
        let long = waits || length.is_some_and(|length: u64| length > most);
        let mut untold = Untold {
            head,
            body,
            kept: BytesMut::new(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
        };
        if long {
            untold.most = 0;
        }
        let whole = untold.body.is_end();
        self.up = Up::Untold(Box::new(untold));
        if long || whole {
            self.tell_body(session, whole);
        }
    }

    /// Its body was read whole, or can't be waited for.
    fn tell_body(&mut self, session: &Session, whole: bool) {
        let Up::Untold(untold) = std::mem::replace(&mut self.up, Up::Done) else {
            return;
        };
        let Untold {
            head, body, kept, ..
        } = *untold;
        let kept = kept.freeze();
        let seen = match whole {
            true => operation::Body::whole(&kept),
            false => operation::Body::Long,
        };
        let headers = fields(head.headers());
        let request = facts(&head, &headers);
        let action = session.request_body(&mut self.operation, &request, &seen);
        drop(headers);
        self.up = Up::Nowhere(body.beginning(kept));
        self.give_route(session, action, head);
    }

    /// It is to go to the upstream, altered so, once what holds it lets it.
    pub(super) fn forward(&mut self, mut head: Request<()>, hold: Hold, edits: &Edits) {
        let Up::Nowhere(body) = std::mem::replace(&mut self.up, Up::Done) else {
            return;
        };
        self.delivers = true;
        let instead = alter::head(head.headers_mut(), edits, true, Phase::Request);
        let asked = Asked {
            head,
            body,
            instead,
        };
        self.up = match hold.is_none() {
            true => Up::Due(Box::new(asked)),
            false => Up::Held(Box::new(Held::new(asked, hold, Phase::Request))),
        };
    }

    /// The head as it goes on, and what takes the place of its body.
    pub(super) fn forwarded(&self) -> Option<(&Request<()>, Option<&Bytes>)> {
        match &self.up {
            Up::Held(held) => Some((&held.what.head, held.what.instead.as_ref())),
            Up::Due(asked) => Some((&asked.head, asked.instead.as_ref())),
            _ => None,
        }
    }

    /// Whether the request was read to its end, or has no more than its head.
    pub(super) fn is_whole(&self) -> bool {
        match &self.up {
            Up::Untold(untold) => untold.body.is_end(),
            Up::Held(held) => held.what.body.is_end(),
            Up::Due(asked) => asked.body.is_end(),
            Up::Body(body) | Up::Nowhere(body) => body.is_end(),
            Up::Done => true,
        }
    }

    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>, session: &Session) {
        loop {
            match &mut self.up {
                Up::Untold(untold) => {
                    let Untold {
                        body, kept, most, ..
                    } = &mut **untold;
                    let read = match body.poll_into(cx, kept, *most) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Ok(trailers)) => {
                            body.put_back(trailers);
                            Poll::Ready(())
                        }
                        Poll::Ready(Err(error)) => {
                            self.request_stopped(&error);
                            return;
                        }
                    };
                    let long = kept.len() > *most || !self.operation.awaits_body();
                    if read.is_pending() && !long {
                        return;
                    }
                    self.tell_body(session, read.is_ready());
                }
                Up::Held(held) => {
                    self.due = held.due(cx);
                    if self.due.is_some() {
                        return;
                    }
                    if let Up::Held(held) = std::mem::replace(&mut self.up, Up::Done) {
                        self.up = Up::Due(Box::new(held.what));
                    }
                }
                Up::Due(_) | Up::Done => return,
                Up::Body(body) => {
                    let Some(to) = &mut self.to_upstream else {
                        return;
                    };
                    let (hash, keeping) = (&mut self.body, &mut self.keeping);
                    let acts = body.is_acted() || self.operation.acts_on_body(Direction::Upstream);
                    let moved = if acts {
                        let operation = &mut self.operation;
                        let moved = body.poll_acted(cx, to, |bytes, now| {
                            see(hash, &mut None, &bytes);
                            let action = operation.on_body(Direction::Upstream, bytes, now);
                            for (piece, _) in &action.pieces {
                                keep(keeping, piece);
                            }
                            action
                        });
                        self.due = body.due;
                        moved
                    } else {
                        let see = |bytes: &Bytes| see(hash, keeping, bytes);
                        body.poll_move(cx, to, see).map_ok(|()| Moved::Whole)
                    };
                    match moved {
                        Poll::Pending => return,
                        Poll::Ready(Ok(Moved::Whole)) => self.end_request(),
                        Poll::Ready(Ok(Moved::Cut(end, receipt))) => {
                            self.end_as(end, &receipt);
                        }
                        Poll::Ready(Ok(Moved::Lost(then, receipt))) => {
                            self.operation.witness.blame(receipt.cause());
                            self.vanished = Some(clock::now());
                            self.vanishing = Some((then, receipt));
                            self.go_nowhere();
                        }
                        Poll::Ready(Err(Stopped::Source(error))) => {
                            self.request_stopped(&error);
                            return;
                        }
                        Poll::Ready(Err(Stopped::Target)) => self.go_nowhere(),
                    }
                }
                Up::Nowhere(body) => {
                    let (hash, vanished) = (&mut self.body, &mut self.vanished);
                    let vanishes = self.vanishing.is_some();
                    let drained = body.poll_drain(cx, |bytes| {
                        see(hash, &mut None, bytes);
                        if vanishes {
                            *vanished = Some(clock::now());
                        }
                    });
                    match drained {
                        Poll::Pending => return,
                        Poll::Ready(Ok(_)) => self.end_request(),
                        Poll::Ready(Err(error)) => {
                            self.request_stopped(&error);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The upstream can take it: its head goes on.
    pub(super) fn open(&mut self, upstream: &mut SendRequest<Bytes>) {
        let Up::Due(asked) = std::mem::replace(&mut self.up, Up::Done) else {
            return;
        };
        let Asked {
            head,
            mut body,
            instead,
        } = *asked;
        let end = match &instead {
            Some(instead) => instead.is_empty(),
            None => body.is_end(),
        };
        match upstream.send_request(head, end) {
            Ok((answer, mut to)) => {
                self.upstream_id = answer.stream_id().as_u32();
                match self.down {
                    // Its client has gone.
                    Down::Over | Down::Ending(..) => self.aside = Some(Aside::Head(answer)),
                    _ => self.down = Down::Head(answer),
                }
                if let Some(instead) = instead {
                    if !end {
                        // It fails for a stream that is gone, which its answer tells.
                        let _ = to.send_data(instead, true);
                    }
                    self.up = Up::Nowhere(body);
                } else if end {
                    self.up = Up::Nowhere(body);
                    self.end_request();
                } else {
                    body.keeps_trailers = self.keeping.is_some();
                    self.up = Up::Body(body);
                }
                self.to_upstream = Some(to);
            }
            Err(error) => {
                self.up = Up::Nowhere(body);
                self.not_opened(&error);
            }
        }
    }

    /// The upstream takes no new request.
    pub(super) fn not_opened(&mut self, error: &h2::Error) {
        self.go_nowhere();
        let witness = &self.operation.witness;
        witness.failed(0, format!("not sent: {error}"));
        witness.blame(Cause::Upstream);
        if !matches!(self.down, Down::Over) {
            // It says that nothing was done, which is so.
            self.down = Down::Ending(Reason::REFUSED_STREAM, Outcome::Reset);
        }
    }

    /// It will not reach the upstream, whose connection is gone.
    pub(super) fn strand(&mut self, error: Option<&str>, blame: &Cause) {
        self.go_nowhere();
        let witness = &self.operation.witness;
        if let Some(error) = error {
            witness.failed(0, error);
        }
        witness.blame(blame.clone());
        if !matches!(self.down, Down::Over) {
            self.down = Down::Broken;
        }
    }

    /// What is still to come of the request goes nowhere.
    pub(super) fn go_nowhere(&mut self) {
        self.up = match std::mem::replace(&mut self.up, Up::Done) {
            Up::Untold(untold) => Up::Nowhere(untold.body),
            Up::Held(held) => Up::Nowhere(held.what.body),
            Up::Due(asked) => Up::Nowhere(asked.body),
            Up::Body(body) | Up::Nowhere(body) => Up::Nowhere(body),
            Up::Done => Up::Done,
        };
    }

    /// The request was read to its end.
    fn end_request(&mut self) {
        let trailers = match std::mem::replace(&mut self.up, Up::Done) {
            Up::Body(body) => body.into_trailers(),
            _ => None,
        };
        self.whole = true;
        self.operation.witness.request_ended(&mut self.body, true);
        if let Some(keeping) = self.keeping.take().filter(|_| self.upstream_id != 0) {
            let wants = self.status.is_none();
            let witness = &self.operation.witness;
            let pending = keeping.send(witness, trailers, wants, self.whole_answer);
            (self.wanted, self.after_answer) = (pending.wanted, pending.after_answer);
        }
    }

    /// The client's stream broke before the end of its request.
    fn request_stopped(&mut self, error: &h2::Error) {
        let reason = error.reason().unwrap_or(Reason::CANCEL);
        self.go_nowhere();
        self.up = Up::Done;
        if error.is_library() && error.is_reset() && !matches!(self.down, Down::Over) {
            // It is no request that every party would read alike.
            let witness = &self.operation.witness;
            witness.blame(Cause::Proxy);
            if self.delivers {
                witness.failed(0, format!("the request was refused: {error}"));
            }
            self.end_unfinished(Outcome::Reset);
            self.down = Down::Over;
            self.aside = None;
            self.reset_upstream(reason);
        } else if self.aside.is_some() {
            // What was not sent never will be: the upstream is not to wait for it.
            self.reset_upstream(reason);
        }
        // Else the frame that did it, or the end of the connection, says so by itself.
    }
}

/// The head with what the proxy's definition changes in every request.
fn own(mut head: Request<()>, session: &Session) -> Request<()> {
    let edge = &session.crossing().edge;
    if !forwarding::edits(edge) {
        return head;
    }
    let headers = fields(head.headers());
    let request = facts(&head, &headers);
    let Some(edit) = forwarding::edit(edge, session.client().ip(), &request) else {
        return head;
    };
    drop(headers);
    alter::fields(head.headers_mut(), &edit);
    if let Some(host) = &edge.upstream_host
        && let Ok(authority) = host.parse()
    {
        let mut uri = head.uri().clone().into_parts();
        uri.scheme.get_or_insert(http::uri::Scheme::HTTP);
        uri.authority = Some(authority);
        // HTTP/2 names the host there.
        if let Ok(uri) = http::Uri::from_parts(uri) {
            *head.uri_mut() = uri;
            *head.version_mut() = http::Version::HTTP_2;
            head.headers_mut().remove(http::header::HOST);
        }
    }
    head
}

/// Takes in content of the request.
fn see(hash: &mut Digester, keeping: &mut Option<Keeping>, bytes: &Bytes) {
    hash.update(bytes);
    keep(keeping, bytes);
}

/// Keeps content for copies.
fn keep(keeping: &mut Option<Keeping>, bytes: &Bytes) {
    if keeping.as_mut().is_some_and(|keeping| !keeping.take(bytes)) {
        // Too long to be kept: its rule counts as selected, not injected.
        *keeping = None;
    }
}

//! A request that has come: its operation is begun, and its route follows from what is to be done.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Version};

use super::frames::{Seen, What};
use super::stream::{Down, Stream};
use super::wakes::STREAMS;
use super::{Multiplex, Slot};
use crate::evidence::{Cause, Outcome};
use crate::operation;

impl Multiplex {
    /// Begins the stream of a request.
    pub(super) fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let id = respond.stream_id().as_u32();
        self.highest = self.highest.max(id);
        self.unshown.retain(|unshown| *unshown != id);
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        let headers = fields(head.headers());
        let facts = facts(&head, &headers);
        let (operation, action) = if self.dead_end.is_some() {
            (self.session.lost_request(&facts), None)
        } else {
            let before = self.read_before(id);
            let opening = self.opening.take();
            let (operation, action) = self.session.request(&facts, before, opening);
            (operation, Some(action))
        };
        drop(headers);
        // Without an authority `h2` takes only what looks translated from HTTP/1.
        *head.version_mut() = match head.uri().authority() {
            Some(_) => Version::HTTP_2,
            None => Version::HTTP_11,
        };
        let reset = match respond.poll_reset(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reset) => Some(reset.unwrap_or(h2::Reason::CANCEL)),
            Poll::Pending => None,
        };
        let patience = self.session.crossing().context.linger;
        let mut stream = Box::new(Stream::new(operation, respond, body, patience));
        match action {
            None => {
                let blame = self.dead_end.clone().unwrap_or(Cause::Upstream);
                stream.operation.witness.blame(blame);
                stream.down = Down::Ending(h2::Reason::REFUSED_STREAM, Outcome::Reset);
            }
            Some(action) => stream.give_route(&self.session, action, head),
        }
        if let Some(reason) = reset {
            // It was taken back before it was looked at.
            stream.client_left(reason, false);
        }
        let n = self.place(stream);
        self.asked.insert(id, n);
        self.wakes.wake(STREAMS + n);
    }

    /// Bytes of the connection, both ways, that were read before this stream's.
    fn read_before(&self, id: u32) -> u64 {
        let side = self.client.side();
        let begun = |seen: &&Seen| seen.stream == id && seen.what == What::Begun;
        let before = match side.came.iter().find(begun) {
            Some(seen) => seen.at,
            None => side.read(),
        };
        before + self.link.io().map_or(0, |io| io.side().read())
    }

    fn place(&mut self, stream: Box<Stream>) -> usize {
        self.live += 1;
        let stream = Some(stream);
        match self.free.pop() {
            Some(n) => {
                self.streams[n].stream = stream;
                n
            }
            None => {
                let n = self.streams.len();
                let waker = self.wakes.waker(STREAMS + n);
                let slot = Slot {
                    waker,
                    due: None,
                    stream,
                };
                self.streams.push(slot);
                n
            }
        }
    }
}

/// The fields of a head, as matchers see them.
pub(super) fn fields(headers: &HeaderMap) -> Vec<httparse::Header<'_>> {
    let mut fields = Vec::with_capacity(headers.len());
    fields.extend(headers.iter().map(|(name, value)| httparse::Header {
        name: name.as_str(),
        value: value.as_bytes(),
    }));
    fields
}

/// The head of a request, as matchers see it.
pub(super) fn facts<'a>(
    head: &'a Request<()>,
    headers: &'a [httparse::Header<'a>],
) -> operation::Request<'a> {
    let uri = head.uri();
    let authority = uri.authority().map(|authority| authority.as_str());
    operation::Request {
        authority,
        method: head.method().as_str(),
        path: match uri.path_and_query() {
            Some(_) => uri.path(),
            // CONNECT names a host and no path.
            None => authority.unwrap_or_default(),
        },
        query: uri.query(),
        headers,
        http2: true,
    }
}

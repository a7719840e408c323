//! Where HTTP/1.x messages begin and end, for both directions of a connection.
//!
//! Owns the framing of RFC 9112: heads (read by `httparse`), bodies by length, in chunks and until
//! close, interim answers, and the moment at which a connection stops speaking HTTP. A message
//! that two parties could read in two ways ([RFC 9112 section 6.3], the shapes of request smuggling,
//! in answers as in requests) is a [`Refusal`], and after one the framer says nothing else: where
//! the next message would begin is exactly what is unknown.
//!
//! Does not own what the fields mean beyond that: a request without Host, a method that nobody
//! knows, a target that names nothing pass, for the server to judge. It does not pair answers with
//! requests either: whoever forwards both hands the [`Asked`] of the oldest unanswered request to
//! [`ResponseFramer::next`], and tells the [`RequestFramer`] whether an answer switched protocols.
//!
//! [RFC 9112 section 6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3

use std::mem::MaybeUninit;

pub use self::head::{Asked, Body, RequestHead, ResponseHead};
pub use self::refusal::Refusal;
use self::{
    progress::{After, Progress},
    scan::{Scan, Side},
};
use super::{Eof, Event};

mod blame;
mod chunked;
mod fields;
mod head;
mod progress;
mod refusal;
mod scan;
#[cfg(test)]
mod tests;

/// The most bytes that a head may have, and the trailers of a body.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most fields that a head may have.
pub const MAX_HEADERS: usize = 100;
/// The most bytes that a chunk extension may have.
pub const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Room for the fields of one head. The caller provides it, on its stack, so that a framer stays
/// small: it lives as long as its connection.
pub type Scratch<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_HEADERS];

/// Room for the fields of one head. Costs nothing: it is not initialized.
#[must_use]
pub fn scratch<'b>() -> Scratch<'b> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// Watches the bytes from a client. Small, and owns no heap.
#[derive(Debug, Default)]
pub struct RequestFramer {
    progress: Progress,
}

/// Watches the bytes from a server. Small, and owns no heap.
#[derive(Debug, Default)]
pub struct ResponseFramer {
    progress: Progress,
}

impl RequestFramer {
    /// Says what is at the front of `input`: the bytes after those of the last event.
    ///
    /// Ask until it says [`Event::More`] (or [`Event::Held`], [`Event::Tunnel`]), then again with
    /// what is left over and more behind it. How the bytes are cut into inputs changes neither
    /// the messages nor what is refused.
    ///
    /// Empty lines before a request line are ignored, as RFC 9112 section 2.2 asks of servers:
    /// they count as part of the head that follows.
    ///
    /// What follows CONNECT or a request with Upgrade is [`Event::Held`] until
    /// [`tunnel`](Self::tunnel) or [`stay`](Self::stay) says what it is.
    ///
    /// # Errors
    ///
    /// The bytes are no request that every party would read alike. Bytes already announced may
    /// have passed; none may after this, and the framer repeats the refusal for good.
    pub fn next<'b, 's>(
        &mut self,
        input: &'b [u8],
        scratch: &'s mut Scratch<'b>,
    ) -> Result<Event<RequestHead<'b, 's>>, Refusal> {
        let Some(scan) = self.progress.head() else {
            return self.progress.pass(input);
        };
        let event = request_head(scan, input, scratch);
        match &event {
            Ok(Event::Head { head, .. }) => {
                let asked = head.asked();
                let switch = asked.connect || asked.upgrade;
                let after = if switch {
                    After::Undecided
                } else {
                    After::Message
                };
                self.progress.begin(head.body(), after);
            }
            Ok(_) => {}
            Err(refusal) => self.progress.refuse(*refusal),
        }
        event
    }

    /// The answer switched protocols: after the message that is under way, if one is, every byte
    /// is opaque.
    pub fn tunnel(&mut self) {
        self.progress.decide(After::Tunnel);
    }

    /// The answer did not switch protocols, though it was asked to: the next bytes are a request.
    ///
    /// To be called when the final answer to that very request has come: answers to earlier ones
    /// decide nothing. Without a request that asked, it does nothing.
    pub fn stay(&mut self) {
        self.progress.decide(After::Message);
    }

    /// Between messages: no byte of a request has been given that is not over. (Empty lines do
    /// not count.)
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.progress.is_idle()
    }

    /// What it means if the client sends no more. `leftover` is how many bytes
    /// [`next`](Self::next) left unconsumed. Never [`Eof::EndsMessage`].
    #[must_use]
    pub fn eof(&self, leftover: usize) -> Eof {
        self.progress.eof(leftover)
    }
}

impl ResponseFramer {
    /// Says what is at the front of `input`: the bytes after those of the last event. Asked in
    /// the same way as [`RequestFramer::next`].
    ///
    /// `asked` is what the oldest request was whose final answer has not ended; it matters while
    /// a head is expected. After an interim head (1xx) another one of the same answer follows.
    /// A body that lasts until the server closes has no [`Event::End`]: see [`eof`](Self::eof).
    ///
    /// # Errors
    ///
    /// The bytes are no answer that every party would read alike, or there are bytes while `asked`
    /// is `None` ([`Refusal::Unsolicited`]; some servers say 408 so before they close an idle
    /// connection). Bytes already announced may have passed; none may after this, and the framer
    /// repeats the refusal for good.
    pub fn next<'b, 's>(
        &mut self,
        input: &'b [u8],
        scratch: &'s mut Scratch<'b>,
        asked: Option<Asked>,
    ) -> Result<Event<ResponseHead<'b, 's>>, Refusal> {
        let Some(scan) = self.progress.head() else {
            return self.progress.pass(input);
        };
        let event = response_head(scan, input, scratch, asked);
        match &event {
            Ok(Event::Head { head, .. }) if head.interim => self.progress.head_again(),
            Ok(Event::Head { head, .. }) => {
                let switch = head.body == Body::Tunnel;
                let after = if switch {
                    After::Tunnel
                } else {
                    After::Message
                };
                self.progress.begin(head.body, after);
            }
            Ok(_) => {}
            Err(refusal) => self.progress.refuse(*refusal),
        }
        event
    }

    /// Between heads: no byte of an answer has been given that is not over.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.progress.is_idle()
    }

    /// What it means if the server sends no more. `leftover` is how many bytes
    /// [`next`](Self::next) left unconsumed. Never [`Eof::Undecided`].
    #[must_use]
    pub fn eof(&self, leftover: usize) -> Eof {
        self.progress.eof(leftover)
    }
}

fn request_head<'b, 's>(
    scan: &mut Scan,
    input: &'b [u8],
    scratch: &'s mut Scratch<'b>,
) -> Result<Event<RequestHead<'b, 's>>, Refusal> {
    let Some(range) = scan.find(input, Side::Request)? else {
        return Ok(Event::More);
    };
    let len = range.end;
    Ok(Event::Head {
        len,
        head: head::request(&input[range], scratch)?,
    })
}

fn response_head<'b, 's>(
    scan: &mut Scan,
    input: &'b [u8],
    scratch: &'s mut Scratch<'b>,
    asked: Option<Asked>,
) -> Result<Event<ResponseHead<'b, 's>>, Refusal> {
    if input.is_empty() {
        return Ok(Event::More);
    }
    let asked = asked.ok_or(Refusal::Unsolicited)?;
    let Some(range) = scan.find(input, Side::Response)? else {
        return Ok(Event::More);
    };
    let len = range.end;
    Ok(Event::Head {
        len,
        head: head::response(&input[range], scratch, asked)?,
    })
}

/// Takes up to `available` bytes off what is left.
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

/// A character of a token: of a method, of a field name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

//! How far a framer has come, the same for requests and answers.
//!
//! Owns what happens between a message's head and the next one's. Heads are for the framers, which
//! know the direction.

use super::{Body, Refusal, chunked::Chunked, scan::Scan};
use crate::protocol::{Eof, Event};

/// Where in which message a framer is, if in one.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: State,
    /// What follows the message that is under way.
    after: After,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between messages, or in a head that is not whole.
    Head(Scan),
    /// In a body with this many bytes to come, more than 0.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    /// The last byte has passed, and that is still to be said.
    End,
    /// Nobody knows yet what follows.
    Held,
    Tunnel,
    Refused(Refusal),
}

/// What the bytes behind a message are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum After {
    #[default]
    Message,
    Undecided,
    Tunnel,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Scan::default())
    }
}

impl Progress {
    /// The search for the end of a head, if a head is what comes next.
    pub(super) fn head(&mut self) -> Option<&mut Scan> {
        match &mut self.state {
            State::Head(scan) => Some(scan),
            _ => None,
        }
    }

    /// A head has been read; its message goes on like this.
    pub(super) fn begin(&mut self, body: Body, after: After) {
        self.after = after;
        self.state = match body {
            Body::None | Body::Length(0) | Body::Tunnel => State::End,
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunked::default()),
            Body::UntilClose => State::UntilClose,
        };
    }

    /// A head has been read, and another head follows it.
    pub(super) fn head_again(&mut self) {
        self.state = State::default();
    }

    /// Takes back or confirms what follows the message.
    pub(super) fn decide(&mut self, after: After) {
        match self.state {
            State::Held => self.follow(after),
            State::Head(_) if after == After::Tunnel => self.follow(after),
            State::Head(_) | State::Tunnel | State::Refused(_) => {}
            State::Length(_) | State::Chunked(_) | State::UntilClose | State::End => {
                self.after = after;
            }
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// Says what is at the front of `input` where no head is expected.
    pub(super) fn pass<H>(&mut self, input: &[u8]) -> Result<Event<H>, Refusal> {
        let event = match &mut self.state {
            State::Refused(refusal) => return Err(*refusal),
            State::Tunnel => Event::Tunnel,
            State::End => {
                self.follow(self.after);
                Event::End
            }
            _ if input.is_empty() => Event::More,
            State::Head(_) => Event::More,
            State::Held => Event::Held,
            State::UntilClose => Event::Body {
                len: input.len(),
                content: true,
            },
            State::Length(left) => {
                let len = super::take(left, input.len());
                if *left == 0 {
                    self.state = State::End;
                }
                Event::Body { len, content: true }
            }
            State::Chunked(chunked) => match chunked.advance(input) {
                Ok(run) => {
                    if run.last {
                        self.state = State::End;
                    }
                    Event::Body {
                        len: run.len,
                        content: run.content,
                    }
                }
                Err(refusal) => {
                    self.refuse(refusal);
                    return Err(refusal);
                }
            },
        };
        Ok(event)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Head(scan) if scan.is_idle())
    }

    pub(super) fn eof(&self, leftover: usize) -> Eof {
        match &self.state {
            State::Head(scan) if leftover == 0 || scan.is_blank(leftover) => Eof::Clean,
            State::End | State::Tunnel => Eof::Clean,
            State::Held if leftover == 0 => Eof::Clean,
            State::Held => Eof::Undecided,
            State::UntilClose => Eof::EndsMessage,
            State::Head(_) | State::Length(_) | State::Chunked(_) | State::Refused(_) => {
                Eof::Truncated
            }
        }
    }

    fn follow(&mut self, after: After) {
        self.after = After::Message;
        self.state = match after {
            After::Message => State::default(),
            After::Undecided => State::Held,
            After::Tunnel => State::Tunnel,
        };
    }
}

//! A request that waits to go on until rules have seen its body.

use std::sync::Arc;

use bytes::BytesMut;

use crate::pipeline::{Crossing, Holding, Operation};
use crate::protocol::Event;
use crate::protocol::http1::{Asked, MAX_HEAD, RequestFramer, scratch};

/// A request whose head was read, and that is left where it is until enough of its body has come.
/// Then it is read again, on its way.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) operation: Operation,
    pub(super) asked: Asked,
    /// Watches its body.
    ahead: RequestFramer,
    /// Its body, as far as it was looked at.
    pub(super) body: BytesMut,
    /// The longest body that any rule wants to see.
    most: usize,
    state: State,
    held: Holding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Whole,
    GivenUp,
}

impl Untold {
    pub(super) fn new(
        operation: Operation,
        asked: Asked,
        most: u64,
        crossing: &Arc<Crossing>,
    ) -> Box<Self> {
        Box::new(Self {
            operation,
            asked,
            ahead: RequestFramer::default(),
            body: BytesMut::new(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
            state: State::Waiting,
            held: Holding::new(crossing),
        })
    }

    /// `ahead` has read its head, of `len` bytes.
    pub(super) fn begin(&mut self, ahead: RequestFramer, len: usize) {
        self.ahead = ahead;
        self.held.add(len);
    }

    /// Looks at what has come of it: `data` begins with its head. Answers whether that is enough.
    pub(super) fn look(&mut self, data: &[u8]) -> bool {
        while self.state == State::Waiting {
            // What was looked at is what is held.
            let rest = data.get(self.held.bytes()..).unwrap_or_default();
            match self.ahead.next(rest, &mut scratch()) {
                Ok(Event::Body { len, content }) => {
                    if content {
                        self.body.extend_from_slice(&rest[..len]);
                    }
                    self.held.add(len);
                    // What frames a body may take more than it.
                    let most = MAX_HEAD + self.most.saturating_mul(2);
                    let long = self.body.len() > self.most || self.held.bytes() > most;
                    if long || !self.held.has_room() {
                        self.give_up();
                    }
                }
                Ok(Event::End) => self.state = State::Whole,
                Ok(Event::More) => return false,
                // What is wrong with it is found once it is read on its way.
                _ => self.give_up(),
            }
        }
        true
    }

    /// Its body can't be waited for any longer.
    pub(super) fn give_up(&mut self) {
        if self.state == State::Waiting {
            self.state = State::GivenUp;
        }
    }

    /// Whether all of its body was seen.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }
}

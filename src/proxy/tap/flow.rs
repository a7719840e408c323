//! Bytes on their way through the tap: those that pass as they came, and those that are kept.

use std::ops::Range;
use std::sync::Arc;
use std::task::Context;

use bytes::{Bytes, BytesMut};

use crate::pipeline::{Crossing, Holding};
use crate::proxy::copy::MOST_KEPT;
use crate::proxy::peer::Peer;

/// Bytes that are being framed. What goes on as it came is gathered, so that it goes at once.
pub(super) struct Flow<'a, 'w> {
    pub(super) cx: &'a mut Context<'w>,
    /// Who may take them without their being copied first.
    pub(super) peer: Option<&'a mut Peer>,
    pub(super) data: &'a [u8],
    run: Range<usize>,
}

impl<'a, 'w> Flow<'a, 'w> {
    pub(super) fn new(cx: &'a mut Context<'w>, peer: Option<&'a mut Peer>, data: &'a [u8]) -> Self {
        let run = 0..0;
        Self {
            cx,
            peer,
            data,
            run,
        }
    }

    /// How many bytes are gathered.
    pub(super) fn gathered(&self) -> usize {
        self.run.len()
    }

    /// Gathers `part` behind what is gathered. Where it does not follow that: answers what has to go
    /// before it.
    pub(super) fn gather(&mut self, part: Range<usize>) -> &'a [u8] {
        if self.run.end == part.start {
            self.run.end = part.end;
            return &[];
        }
        &self.data[std::mem::replace(&mut self.run, part)]
    }

    /// What is gathered goes now.
    pub(super) fn take(&mut self) -> &'a [u8] {
        let end = self.run.end;
        &self.data[std::mem::replace(&mut self.run, end..end)]
    }
}

/// Bytes of a message that are kept whole, or not at all.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: BytesMut,
    held: Holding,
}

impl Kept {
    pub(super) fn new(crossing: &Arc<Crossing>) -> Self {
        Self {
            bytes: BytesMut::new(),
            held: Holding::new(crossing),
        }
    }

    /// Keeps bytes behind the others; answers whether there is room for them.
    #[must_use]
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let room = self.bytes.len() + bytes.len() <= MOST_KEPT && self.held.has_room();
        if room {
            self.bytes.extend_from_slice(bytes);
            self.held.add(bytes.len());
        }
        room
    }

    /// They count among those that are held until the last of these is dropped.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

//! Rules that can't be asked when the connection is accepted: made since, or waiting for what is
//! learned of it on its way (its host, its bytes, its age).

use super::{Fate, Stream, Told};
use crate::clock;
use crate::faults::End;
use crate::operation::Direction;
use crate::pipeline::Receipt;
use crate::proxy::watch::Deadline;

impl Stream {
    /// Bytes read of the connection, both directions together.
    pub(super) fn read(&self) -> u64 {
        self.halves.iter().map(|half| half.read).sum()
    }

    /// Lets rules act on what follows that do not yet, and may now.
    pub(super) fn ask_again(&mut self) {
        let read = self.read();
        let ends = self.session.readopt(&mut self.operation, read);
        self.end_later(ends);
    }

    /// Asks the rules whose bytes or time have come, and does at once what they want at once: the
    /// next byte is theirs.
    pub(super) fn ask_late(&mut self, deadline: &mut Deadline) {
        if self.told != Told::Nothing || self.client.is_none() {
            return;
        }
        if self.session.is_due(self.read()) {
            self.ask_again();
            self.end_due(deadline);
        }
        if let Some(due) = self.session.due() {
            deadline.sooner(due);
        }
    }
}

/// Takes up rules that want the connection to end, and were asked with bytes in hand. Answers
/// whether they want it at once: then these bytes go nowhere.
pub(super) fn end_before(
    direction: Direction,
    wanted: Vec<(End, Receipt)>,
    fate: &mut Fate,
) -> bool {
    let mut at_once = false;
    for (end, receipt) in wanted {
        if end.after.is_zero() {
            at_once = true;
            fate.finale.get_or_insert((direction, end, receipt));
        } else {
            fate.ends.push((clock::now() + end.after, end, receipt));
        }
    }
    at_once
}

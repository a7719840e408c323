//! Bulk bytes of a connection on which no rule can act go through the kernel, and come back to
//! being looked at in the moment when a rule appears and the pipe is empty.

use std::io;
use std::task::{Context, Poll};

use super::{Stream, UP};
use crate::operation::Direction;
use crate::proxy::peer::Moved;
use crate::proxy::splice::Bulk;

/// Full reads in a row that begin the bulk.
const FULL_READS: u8 = 3;

impl Stream {
    /// Notes how much was read at once; enough in a row begins the bulk.
    pub(super) fn note_read(&mut self, direction: Direction, full: bool) {
        if direction == Direction::Downstream {
            self.heard = self.halves[UP].lane.written();
        }
        let half = &mut self.halves[direction as usize];
        half.full_reads = if full { half.full_reads + 1 } else { 0 };
        if half.full_reads >= FULL_READS && half.lane.is_empty() && half.bulk.is_none() {
            half.bulk = Some(Box::new(Bulk::new()));
        }
    }

    /// Moves bulk bytes. `None`: there are none, read as usual.
    pub(super) fn pump_bulk(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        clear: bool,
    ) -> Option<Moved> {
        self.halves[direction as usize].bulk.as_ref()?;
        let (source, target, mut intake) = self.parts(direction);
        let bulk = intake.half.bulk.as_mut()?;
        let ends = source.zip(target);
        let Some((source, target)) = ends else {
            intake.half.bulk = None;
            return None;
        };
        let (Some(from), Some(to)) = (source.plain(), target.plain()) else {
            // Within TLS nothing is bulk, see `pump`.
            intake.half.bulk = None;
            return None;
        };
        if !bulk.is_drained() {
            return Some(match bulk.poll_drain(cx, to) {
                Poll::Pending => Moved::Nothing,
                Poll::Ready(Ok(n)) => {
                    intake.half.lane.count_passed(n);
                    Moved::Some
                }
                Poll::Ready(Err(error)) => {
                    intake.half.bulk = None;
                    self.target_broken(direction, &error);
                    Moved::Some
                }
            });
        }
        if !clear || source.eof || bulk.is_over() {
            end(&mut intake.half.bulk, &mut intake.half.full_reads);
            return None;
        }
        match bulk.poll_fill(cx, from) {
            Poll::Pending => Some(Moved::Nothing),
            Poll::Ready(Ok(0)) => {
                source.eof = true;
                end(&mut intake.half.bulk, &mut intake.half.full_reads);
                self.adopt_changes();
                self.ended(direction);
                Some(Moved::Some)
            }
            // A change that was made before they were read holds for them: they come back.
            Poll::Ready(Ok(_)) if intake.session.is_stale() => {
                let mut bulk = intake.half.bulk.take()?;
                let back = bulk.take_back(|bytes| {
                    intake.take(cx, Some(&mut *target), bytes);
                });
                if let Err(error) = back {
                    self.source_broken(direction, &error);
                }
                self.note_read(direction, false);
                Some(Moved::Some)
            }
            Poll::Ready(Ok(n)) => {
                intake.half.read += n as u64;
                self.session.crossing().meters.bytes(direction, n);
                if direction == Direction::Downstream {
                    self.heard = self.halves[UP].lane.written();
                }
                Some(Moved::Some)
            }
            // No pipe to be had, or a broken socket: the usual read tells.
            Poll::Ready(Err(_)) => {
                end(&mut intake.half.bulk, &mut intake.half.full_reads);
                None
            }
        }
    }

    /// The side that a direction's bytes go to can't be written to any more.
    pub(super) fn target_broken(&mut self, direction: Direction, error: &io::Error) {
        match direction {
            // Its last words may still be read; the read tells when it is over.
            Direction::Upstream => {
                self.halves[UP].lane.clear();
                self.halves[UP].sink = true;
            }
            Direction::Downstream => self.client_gone(error),
        }
    }
}

fn end(bulk: &mut Option<Box<Bulk>>, full_reads: &mut u8) {
    *bulk = None;
    *full_reads = 0;
}

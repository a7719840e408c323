//! `packet_loss`: what TCP makes of loss. A proxy sees no packets; what an application feels of a
//! lost one is that everything behind it waits until it was sent again.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "packet_loss",
    summary: "what TCP makes of loss: stalls until lost segments were sent again",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[Param {
        name: "rate",
        ty: Type::Ratio,
        default: None,
        help: "the share of segments that are lost, each by itself",
    }],
    lifted: Some("flows"),
    build,
};

/// The payload of a segment on Ethernet with timestamps.
const SEGMENT: usize = 1448;
/// Segments that must follow a lost one for it to be sent again at once (RFC 5681, section 3.2).
const DUPLICATE_ACKS: usize = 3;
/// What sending again at once takes: a round trip, taken to be this long.
const FAST: Duration = Duration::from_millis(20);
/// The first retransmission timeout: Linux's `TCP_RTO_MIN`. It doubles with each loss of the same
/// segment (RFC 6298, section 5.5).
const TIMEOUT: Duration = Duration::from_millis(200);
/// Losses of the same segment that are reckoned with: past them the stall is 200 s.
const MOST_LOSSES: u32 = 10;

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(PacketLoss(args.ratio("rate").unwrap_or_default())))
}

#[derive(Debug, Clone)]
struct PacketLoss(f64);

impl Fault for PacketLoss {
    fn act(&self, draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(Losing { rate: self.0, draw })
    }
}

#[derive(Debug)]
struct Losing {
    rate: f64,
    draw: Draw,
}

impl Act for Losing {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        let segments = chunk.len.div_ceil(SEGMENT);
        let mut pieces = Vec::new();
        let mut stall = Duration::ZERO;
        for n in 0..segments {
            let len = SEGMENT.min(chunk.len - n * SEGMENT);
            if self.draw.unit() < self.rate {
                let mut losses = 1;
                while losses < MOST_LOSSES && self.draw.unit() < self.rate {
                    losses += 1;
                }
                stall += match losses {
                    1 if segments - n > DUPLICATE_ACKS => FAST,
                    _ => TIMEOUT * (2u32.pow(losses) - 1),
                };
            }
            match pieces.last_mut() {
                Some((run, held)) if *held == stall => *run += len,
                _ => pieces.push((len, stall)),
            }
        }
        if stall.is_zero() {
            Verdict::Pass
        } else {
            Verdict::Pace(pieces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(rate: f64, len: usize) -> Vec<Duration> {
        let mut act = PacketLoss(rate).act(Draw::new(1, "l", 1, 1), "p");
        (0..2000)
            .map(|_| {
                let chunk = Chunk {
                    direction: Direction::Upstream,
                    len,
                    at: Duration::ZERO,
                };
                match act.on_chunk(&chunk) {
                    Verdict::Pace(pieces) => {
                        assert_eq!(pieces.iter().map(|p| p.0).sum::<usize>(), len);
                        pieces.last().unwrap().1
                    }
                    _ => Duration::ZERO,
                }
            })
            .collect()
    }

    #[test]
    fn stalls_are_tcps_and_as_frequent_as_the_loss() {
        assert!(total(0.0, 100).iter().all(Duration::is_zero));
        let small = total(0.1, 100);
        let stalled = small.iter().filter(|s| !s.is_zero()).count();
        assert!((130..270).contains(&stalled), "{stalled} of 2000 at 10 %");
        assert!(
            small.iter().all(|s| s.is_zero() || *s >= TIMEOUT),
            "nothing follows: a timeout"
        );
        let large = total(0.01, 20 * SEGMENT);
        assert!(
            large.contains(&FAST),
            "what follows has it sent again at once"
        );
        assert!(
            total(1.0, 100)
                .iter()
                .all(|s| *s >= Duration::from_secs(100))
        );
    }
}

//! `bandwidth`: a token bucket without burst, per connection or shared by a proxy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;
use crate::units::MAX_DURATION;

pub(super) static KIND: Kind = Kind {
    name: "bandwidth",
    summary: "at most this many bytes a second; rate 0 stalls and keeps the data",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[
        Param {
            name: "rate",
            ty: Type::Rate,
            default: None,
            help: "bytes a second, for each direction that is met",
        },
        Param {
            name: "per",
            ty: Type::Choice(&["connection", "proxy"]),
            default: Some("connection"),
            help: "who shares it",
        },
    ],
    lifted: Some("flows"),
    build,
};

/// How much goes at once: what the rate gives in this time, at least a byte, at most this much.
const QUANTUM: Duration = Duration::from_millis(2);
const MOST_AT_ONCE: usize = 64 * 1024;

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Bandwidth {
        rate: args.rate("rate").unwrap_or_default(),
        shared: (args.choice("per") == Some("proxy")).then(Mutex::default),
    }))
}

/// When the next byte may go, for each direction. Kept as a moment, so it can't drift.
type Buckets = Arc<Mutex<[Duration; 2]>>;

#[derive(Debug)]
struct Bandwidth {
    rate: u64,
    /// By proxy, where a proxy's connections share it.
    shared: Option<Mutex<HashMap<String, Buckets>>>,
}

impl Fault for Bandwidth {
    fn act(&self, _draw: Draw, proxy: &str) -> Box<dyn Act> {
        let buckets = self.shared.as_ref().map(|shared| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(shared.entry(proxy.to_owned()).or_default())
        });
        Box::new(Pacing {
            rate: self.rate,
            buckets: buckets.unwrap_or_default(),
        })
    }
}

#[derive(Debug)]
struct Pacing {
    rate: u64,
    buckets: Buckets,
}

impl Act for Pacing {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        if self.rate == 0 {
            return Verdict::Pace(vec![(chunk.len, MAX_DURATION)]);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let next = &mut buckets[chunk.direction as usize];
        let begin = (*next).max(chunk.at);
        let quantum = (self.rate as f64 * QUANTUM.as_secs_f64()) as usize;
        let quantum = quantum.clamp(1, MOST_AT_ONCE);
        let time = |bytes: usize| {
            Duration::try_from_secs_f64(bytes as f64 / self.rate as f64).unwrap_or(MAX_DURATION)
        };
        *next = begin + time(chunk.len);
        let ends = (quantum..chunk.len).step_by(quantum).chain([chunk.len]);
        let mut start = 0;
        // A piece goes when its last byte would have been sent.
        let pieces = ends.map(|end| {
            let len = end - start;
            start = end;
            (len, begin + time(end) - chunk.at)
        });
        Verdict::Pace(pieces.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(rate: u64, per: &'static str) -> impl Fn() -> Box<dyn Act> {
        let fault = Bandwidth {
            rate,
            shared: (per == "proxy").then(Mutex::default),
        };
        move || fault.act(Draw::new(1, "b", 1, 1), "p")
    }

    fn last(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::Pace(pieces) => pieces.last().unwrap().1,
            other => panic!("{other:?}"),
        }
    }

    fn chunk(len: usize, at: Duration) -> Chunk {
        Chunk {
            direction: Direction::Upstream,
            len,
            at,
        }
    }

    #[test]
    fn it_neither_drifts_nor_saves_up() {
        let mut act = act(1_000_000, "connection")();
        let mut at = Duration::from_secs(100);
        let mut end = at;
        for _ in 0..1000 {
            end = at + last(act.on_chunk(&chunk(3_000, at)));
            at += Duration::from_micros(2_900);
        }
        let took = end - Duration::from_secs(100);
        assert!(
            (took.as_secs_f64() - 3.0).abs() < 1e-6,
            "3 MB at 1 MB/s: {took:?}"
        );
        let idle = at + Duration::from_secs(60);
        assert_eq!(
            last(act.on_chunk(&chunk(1_000, idle))),
            Duration::from_millis(1)
        );
    }

    #[test]
    fn a_proxys_connections_share_it() {
        let begin = act(1_000, "proxy");
        let (mut a, mut b) = (begin(), begin());
        let at = Duration::from_secs(1);
        assert_eq!(last(a.on_chunk(&chunk(1_000, at))), Duration::from_secs(1));
        assert_eq!(last(b.on_chunk(&chunk(1_000, at))), Duration::from_secs(2));
    }
}

//! `corrupt`: this many bytes are changed; lengths are kept.

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "corrupt",
    summary: "this many bytes of each direction that is met are changed; lengths are kept",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[Param {
        name: "bytes",
        ty: Type::Count {
            min: 1,
            max: 1_000_000_000,
        },
        default: Some("1"),
        help: "how many bytes of a connection, counted from when the rule met it; one of each 1000 that pass",
    }],
    lifted: None,
    build,
};

/// One byte is changed in each run of this length (or shorter, at the end of what was read).
const RUN: usize = 1000;

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Corrupt(args.count("bytes").unwrap_or(1))))
}

#[derive(Debug, Clone)]
struct Corrupt(u64);

impl Fault for Corrupt {
    fn act(&self, draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(Corrupting {
            left: [self.0; 2],
            draw,
        })
    }
}

#[derive(Debug)]
struct Corrupting {
    left: [u64; 2],
    draw: Draw,
}

impl Act for Corrupting {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        let left = &mut self.left[chunk.direction as usize];
        let mut changes = Vec::new();
        for start in (0..chunk.len).step_by(RUN) {
            if *left == 0 {
                break;
            }
            *left -= 1;
            let run = RUN.min(chunk.len - start);
            let position = start + (self.draw.unit() * run as f64) as usize;
            let mask = 1 + (self.draw.unit() * 255.0) as u8;
            changes.push((position, mask.max(1)));
        }
        if changes.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Alter(changes)
        }
    }
}

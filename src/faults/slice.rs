//! `slice`: many small writes.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "slice",
    summary: "passed on in many small writes",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[
        Param {
            name: "size",
            ty: Type::Size,
            default: None,
            help: "of a slice, on average; at least a byte",
        },
        Param {
            name: "variation",
            ty: Type::Size,
            default: Some("0"),
            help: "how far a slice may differ from `size`",
        },
        Param {
            name: "gap",
            ty: Type::Duration,
            default: Some("0"),
            help: "between one slice and the next",
        },
    ],
    lifted: Some("flows"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let slice = Slice {
        size: args.size("size").unwrap_or_default(),
        variation: args.size("variation").unwrap_or_default(),
        gap: args.duration("gap").unwrap_or_default(),
    };
    let invalid = |param, message: &str| {
        let message = message.to_owned();
        Err(Invalid { param, message })
    };
    if slice.size == 0 {
        return invalid("size", "a slice has at least one byte");
    }
    if slice.variation > slice.size {
        return invalid("variation", "must not be more than `size`");
    }
    Ok(Box::new(slice))
}

#[derive(Debug, Clone)]
struct Slice {
    size: u64,
    variation: u64,
    gap: Duration,
}

impl Fault for Slice {
    fn act(&self, draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(Slicing {
            fault: self.clone(),
            draw,
            next: [Duration::ZERO; 2],
        })
    }
}

#[derive(Debug)]
struct Slicing {
    fault: Slice,
    draw: Draw,
    /// When the next slice may go, for each direction.
    next: [Duration; 2],
}

impl Act for Slicing {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        let Slice {
            size,
            variation,
            gap,
        } = self.fault;
        let next = &mut self.next[chunk.direction as usize];
        let mut at = (*next).max(chunk.at);
        let mut pieces = Vec::new();
        let mut left = chunk.len;
        while left > 0 {
            let spread = 2.0 * variation as f64 * self.draw.unit();
            let len = (size - variation + spread.round() as u64) as usize;
            let len = len.clamp(1, left);
            pieces.push((len, at - chunk.at));
            left -= len;
            at += gap;
        }
        *next = at;
        Verdict::Pace(pieces)
    }
}

//! `limit_data`: passes this much, then closes.

use std::time::Duration;

use super::close::pass_bytes;
use super::{Act, Args, Chunk, Directions, End, Fault, Invalid, Kind, Param, Side, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "limit_data",
    summary: "passes this much of each direction that is met, then closes",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[Param {
        name: "bytes",
        ty: Type::Size,
        default: None,
        help: "how much passes, counted from when the rule met the connection",
    }],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let bytes = args.size("bytes").unwrap_or_default();
    Ok(Box::new(LimitData([bytes; 2])))
}

/// What may still pass of each direction.
#[derive(Debug, Clone)]
struct LimitData([u64; 2]);

impl Fault for LimitData {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for LimitData {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        let end = End {
            reset: false,
            side: Side::Both,
            after: Duration::ZERO,
        };
        pass_bytes(Some(&mut self.0[chunk.direction as usize]), chunk, end)
    }
}

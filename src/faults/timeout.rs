//! `timeout`: bytes vanish, and the connection closes that long after the last of them.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Then, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "timeout",
    summary: "bytes vanish, and the connection closes that long after the last of them",
    layers: &[Layer::Stream, Layer::Body],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[Param {
        name: "after",
        ty: Type::Duration,
        default: Some("0"),
        help: "how long after the last bytes that vanished; 0: never",
    }],
    lifted: Some("closed"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(match args.duration("after") {
        None | Some(Duration::ZERO) => Timeout(Then::Hang),
        Some(after) => Timeout(Then::After(after)),
    }))
}

#[derive(Debug, Clone)]
struct Timeout(Then);

impl Fault for Timeout {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Timeout {
    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, _chunk: &Chunk) -> Verdict {
        Verdict::Discard(self.0)
    }
}

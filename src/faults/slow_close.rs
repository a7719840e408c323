//! `slow_close`: EOF is passed on late.

use std::time::Duration;

use super::{Act, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "slow_close",
    summary: "the end of a stream is passed on late",
    layers: &[Layer::Stream],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[Param {
        name: "delay",
        ty: Type::Duration,
        default: None,
        help: "how much later",
    }],
    lifted: Some("closed"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let delay = args.duration("delay").unwrap_or_default();
    Ok(Box::new(SlowClose(delay)))
}

#[derive(Debug, Clone)]
struct SlowClose(Duration);

impl Fault for SlowClose {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for SlowClose {
    fn on_eof(&mut self, _direction: Direction) -> Verdict {
        Verdict::Hold(self.0)
    }
}

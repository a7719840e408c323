//! `slow_connect`: the dial is late.

use std::time::Duration;

use super::{Act, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "slow_connect",
    summary: "the upstream is dialled that much later; what the client sends waits",
    layers: &[Layer::Connection],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[Param {
        name: "delay",
        ty: Type::Duration,
        default: None,
        help: "how much later",
    }],
    lifted: Some("dialled at once"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let delay = args.duration("delay").unwrap_or_default();
    Ok(Box::new(SlowConnect(delay)))
}

#[derive(Debug, Clone)]
struct SlowConnect(Duration);

impl Fault for SlowConnect {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for SlowConnect {
    fn on_connect(&mut self) -> Verdict {
        Verdict::Hold(self.0)
    }
}

//! `refuse`: the connection is reset at once.

use super::{Act, Args, Directions, Fault, Invalid, Kind, Then, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "refuse",
    summary: "the connection is reset at once; the upstream is not dialled",
    layers: &[Layer::Connection],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[],
    lifted: None,
    build: |_: &Args| -> Result<Box<dyn Fault>, Invalid> { Ok(Box::new(Refuse)) },
};

#[derive(Debug)]
struct Refuse;

impl Fault for Refuse {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(Self)
    }
}

impl Act for Refuse {
    fn on_connect(&mut self) -> Verdict {
        Verdict::Discard(Then::Reset)
    }
}

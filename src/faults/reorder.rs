//! `reorder`: a request waits until another one of the proxy has passed it.

use std::time::Duration;

use super::{Act, Args, Awaited, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "reorder",
    summary: "held until another operation of the proxy has passed it, or `hold` is over; one at a time",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[Param {
        name: "hold",
        ty: Type::Duration,
        default: Some("1s"),
        help: "for how long at the most",
    }],
    lifted: Some("goes at once"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let hold = args.duration("hold").unwrap_or(Duration::from_secs(1));
    Ok(Box::new(Reorder(hold)))
}

#[derive(Debug, Clone)]
struct Reorder(Duration);

impl Fault for Reorder {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Reorder {
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Await(Awaited::Overtaken, self.0)
    }
}

//! `late`: the answer is kept, and released after the caller has moved on.

use std::time::Duration;

use super::{Act, Args, Awaited, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Response};
use crate::seed::Draw;
use crate::units::MAX_DURATION;

pub(super) static KIND: Kind = Kind {
    name: "late",
    summary: "the answer is kept and released after the caller has moved on, where the connection still stands",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "after",
        ty: Type::ChoiceOrDuration(&["client_gone"]),
        default: Some("client_gone"),
        help: "until the client has closed its side or tried the operation again, or for this time",
    }],
    lifted: Some("goes at once"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Late(args.duration("after"))))
}

#[derive(Debug, Clone)]
struct Late(Option<Duration>);

impl Fault for Late {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Late {
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        match self.0 {
            Some(Duration::ZERO) => Verdict::Pass,
            Some(time) => Verdict::Hold(time),
            None => Verdict::Await(Awaited::MovedOn, MAX_DURATION),
        }
    }
}

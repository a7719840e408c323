//! `drop`: it never reaches the upstream.

use std::time::Duration;

use super::{Act, Args, Directions, Fault, Invalid, Kind, Param, Then, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "drop",
    summary: "never reaches the upstream (a connection: the upstream is not dialled)",
    layers: &[Layer::Connection, Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[Param {
        name: "then",
        ty: Type::Choice(&["hang", "close", "reset"]),
        default: Some("hang"),
        help: "what becomes of the client's connection",
    }],
    lifted: Some("the hung connection is closed"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let then = match args.choice("then") {
        Some("close") => Then::Close,
        Some("reset") => Then::Reset,
        _ => Then::Hang,
    };
    Ok(Box::new(Drop { then }))
}

#[derive(Debug, Clone)]
struct Drop {
    then: Then,
}

impl Fault for Drop {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Drop {
    fn on_connect(&mut self) -> Verdict {
        Verdict::Discard(self.then)
    }
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Discard(self.then)
    }
}

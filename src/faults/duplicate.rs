//! `duplicate`: the upstream receives it again, on a connection of its own.

use super::{Act, Again, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "duplicate",
    summary: "the upstream receives it again on a connection of its own; the client gets one answer",
    layers: &[Layer::Connection, Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[
        Param {
            name: "copies",
            ty: Type::Count { min: 1, max: 100 },
            default: Some("1"),
            help: "deliveries besides the first",
        },
        Param {
            name: "gap",
            ty: Type::Duration,
            default: Some("0"),
            help: "between one delivery and the next; 0: at the same time",
        },
        Param {
            name: "answer",
            ty: Type::Choice(&["first", "last"]),
            default: Some("first"),
            help: "which delivery's answer the client gets",
        },
    ],
    lifted: Some("pending copies are dropped"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Duplicate(Again {
        copies: args.count("copies").unwrap_or(1) as u32,
        gap: args.duration("gap").unwrap_or_default(),
        last: args.choice("answer") == Some("last"),
    })))
}

#[derive(Debug, Clone)]
struct Duplicate(Again);

impl Fault for Duplicate {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }

    fn unsupported(&self, layer: Layer) -> Option<Invalid> {
        (layer == Layer::Connection && self.0.last).then(|| Invalid {
            param: "answer",
            message: "`last` needs `protocol: http`; on tcp the copies' answers are discarded"
                .to_owned(),
        })
    }
}

impl Act for Duplicate {
    fn on_connect(&mut self) -> Verdict {
        Verdict::Again(self.0)
    }
    fn on_request(&mut self) -> Verdict {
        Verdict::Again(self.0)
    }
}

//! `duplicate`: the upstream receives it again, on a connection of its own.

use std::time::Duration;

use super::{Act, Again, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict, When};
use crate::operation::{Direction, Layer, Request};
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
        Param {
            name: "when",
            ty: Type::Choice(&["at_once", "answered", "lifted"]),
            default: Some("at_once"),
            help: "what the first copy waits for: nothing, the first delivery's whole answer, or the rule's being lifted or healed (these copies are not dropped then)",
        },
    ],
    lifted: Some("pending copies are dropped"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    if args.choice("when") == Some("lifted") && args.choice("answer") == Some("last") {
        return Err(Invalid {
            param: "answer",
            message: "`last` would keep the client waiting until the rule is lifted".to_owned(),
        });
    }
    Ok(Box::new(Duplicate(Again {
        copies: args.count("copies").unwrap_or(1) as u32,
        gap: args.duration("gap").unwrap_or_default(),
        last: args.choice("answer") == Some("last"),
        when: match args.choice("when") {
            Some("answered") => When::Answered,
            Some("lifted") => When::Lifted,
            _ => When::AtOnce,
        },
    })))
}

#[derive(Debug, Clone)]
struct Duplicate(Again);

impl Fault for Duplicate {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }

    fn unsupported(&self, layer: Layer) -> Option<Invalid> {
        if layer == Layer::Connection && self.0.when != When::AtOnce {
            return Some(Invalid {
                param: "when",
                message: "needs `protocol: http`; on tcp a copy begins with its connection"
                    .to_owned(),
            });
        }
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
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Again(self.0)
    }
}

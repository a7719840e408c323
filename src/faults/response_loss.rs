//! `response_loss`: the upstream receives it and answers in full; the client never learns.

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Then, Type, Verdict};
use crate::operation::{Direction, Layer, Response};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "response_loss",
    summary: "the upstream receives it and answers in full; nothing more goes to the client on that connection",
    layers: &[Layer::Stream, Layer::Message],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "then",
        ty: Type::ChoiceOrStatus(&["hang", "close", "reset"]),
        default: Some("hang"),
        help: "what the client meets once the upstream has answered",
    }],
    lifted: Some("the hung connection is closed"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let then = match (args.choice("then"), args.count("then")) {
        (Some("close"), _) => Then::Close,
        (Some("reset"), _) => Then::Reset,
        (_, Some(status)) => Then::Status(status as u16),
        _ => Then::Hang,
    };
    Ok(Box::new(ResponseLoss { then }))
}

#[derive(Debug, Clone)]
struct ResponseLoss {
    then: Then,
}

impl Fault for ResponseLoss {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }

    fn unsupported(&self, layer: Layer) -> Option<Invalid> {
        (layer == Layer::Stream && matches!(self.then, Then::Status(_))).then(|| Invalid {
            param: "then",
            message: "a status needs `protocol: http`; on tcp: hang, close or reset".to_owned(),
        })
    }
}

impl Act for ResponseLoss {
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        Verdict::Discard(self.then)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        self.on_eof(chunk.direction)
    }
    fn on_eof(&mut self, direction: Direction) -> Verdict {
        match direction {
            Direction::Upstream => Verdict::Pass,
            Direction::Downstream => Verdict::Discard(self.then),
        }
    }
}

//! `reset` and `close`: the connection ends, at once, after a time, or after so many bytes.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, End, Fault, Invalid, Kind, Param, Side, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

const PARAMS: &[Param] = &[
    Param {
        name: "after",
        ty: Type::DurationOrSize,
        default: Some("0"),
        help: "a time since the rule met the connection or request, or that many bytes (of bodies, on http), both directions together, acknowledged by whoever they were for",
    },
    Param {
        name: "side",
        ty: Type::Choice(&["client", "upstream", "both"]),
        default: Some("client"),
        help: "whom it hits; the other side gets a FIN",
    },
];

pub(super) static RESET: Kind = Kind {
    name: "reset",
    summary: "the connection ends with a RST",
    layers: &[Layer::Stream, Layer::Message, Layer::Body],
    directions: Directions::Fixed(Direction::Downstream),
    params: PARAMS,
    lifted: None,
    build: |args| build(args, true),
};

pub(super) static CLOSE: Kind = Kind {
    name: "close",
    summary: "the connection ends with a FIN",
    layers: &[Layer::Stream, Layer::Message, Layer::Body],
    directions: Directions::Fixed(Direction::Downstream),
    params: PARAMS,
    lifted: None,
    build: |args| build(args, false),
};

fn build(args: &Args, reset: bool) -> Result<Box<dyn Fault>, Invalid> {
    let side = match args.choice("side") {
        Some("upstream") => Side::Upstream,
        Some("both") => Side::Both,
        _ => Side::Client,
    };
    Ok(Box::new(Ending {
        end: End {
            reset,
            side,
            after: args.duration("after").unwrap_or_default(),
        },
        bytes: args.size("after"),
    }))
}

#[derive(Debug, Clone)]
struct Ending {
    end: End,
    /// Bytes that still pass; `None`: the time alone counts.
    bytes: Option<u64>,
}

impl Fault for Ending {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }

    fn acts_on_answers(&self) -> bool {
        self.bytes.is_some()
    }
}

impl Act for Ending {
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        self.on_stream()
    }
    fn on_stream(&mut self) -> Verdict {
        match self.bytes {
            None => Verdict::End(self.end),
            Some(_) => Verdict::Pass,
        }
    }

    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        self.on_chunk(chunk)
    }
    fn on_chunk(&mut self, chunk: &Chunk) -> Verdict {
        pass_bytes(self.bytes.as_mut(), chunk, self.end)
    }
}

/// Lets `left` bytes pass, then ends.
pub(super) fn pass_bytes(left: Option<&mut u64>, chunk: &Chunk, end: End) -> Verdict {
    let Some(left) = left else {
        return Verdict::Pass;
    };
    if (chunk.len as u64) < *left {
        *left -= chunk.len as u64;
        return Verdict::Pass;
    }
    let keep = std::mem::take(left) as usize;
    Verdict::Keep(
        keep,
        End {
            after: Duration::ZERO,
            ..end
        },
    )
}

//! `h2_reset` and `h2_goaway`: how HTTP/2 says that a stream, or a connection, ends.

use std::time::Duration;

use super::{Act, Args, Directions, Fault, Frame, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request};
use crate::seed::Draw;

/// The error codes of RFC 9113, section 7, in their order: a code is its place.
const REASONS: &[&str] = &[
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
];

pub(super) static RESET: Kind = Kind {
    name: "h2_reset",
    summary: "the request's stream ends with RST_STREAM; the upstream never sees it (HTTP/2; not injected on HTTP/1)",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[Param {
        name: "reason",
        ty: Type::Choice(REASONS),
        default: Some("internal_error"),
        help: "the error code that the frame carries",
    }],
    lifted: None,
    build: |args| build(args, Frame::Reset, "internal_error"),
};

pub(super) static GOAWAY: Kind = Kind {
    name: "h2_goaway",
    summary: "the connection ends with GOAWAY; the upstream never sees the request (HTTP/2; not injected on HTTP/1)",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[Param {
        name: "reason",
        ty: Type::Choice(REASONS),
        default: Some("no_error"),
        help: "the error code that the frame carries",
    }],
    lifted: None,
    build: |args| build(args, Frame::GoAway, "no_error"),
};

fn build(args: &Args, frame: fn(u32) -> Frame, default: &str) -> Result<Box<dyn Fault>, Invalid> {
    let reason = args.choice("reason").unwrap_or(default);
    let code = REASONS.iter().position(|word| *word == reason);
    Ok(Box::new(Saying(frame(code.unwrap_or_default() as u32))))
}

#[derive(Debug, Clone)]
struct Saying(Frame);

impl Fault for Saying {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Saying {
    fn on_request(&mut self, request: &Request<'_>, _at: Duration) -> Verdict {
        if request.http2 {
            Verdict::Frame(self.0)
        } else {
            Verdict::Pass
        }
    }
}

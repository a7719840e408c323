//! `garbage` and `empty`: what comes in the answer's place is no HTTP, or nothing.

use super::{Act, Args, Directions, Fault, Invalid, Kind, Param, Then, Type, Verdict};
use crate::operation::{Direction, Layer, Response};
use crate::seed::Draw;

pub(super) static GARBAGE: Kind = Kind {
    name: "garbage",
    summary: "in the place of the upstream's answer the client gets bytes that are no HTTP, and the connection ends",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "of",
        ty: Type::Choice(&["bytes", "chunk"]),
        default: Some("bytes"),
        help: "bytes that begin no answer, or a head followed by a malformed chunk (on HTTP/2 both are bytes that are no frame)",
    }],
    lifted: None,
    build: |args| {
        Ok(Box::new(Instead(Then::Raw(match args.choice("of") {
            Some("chunk") => CHUNK,
            _ => NOISE,
        }))))
    },
};

pub(super) static EMPTY: Kind = Kind {
    name: "empty",
    summary: "the upstream answers, and the client gets nothing: its connection ends without an answer",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[],
    lifted: None,
    build: |_: &Args| -> Result<Box<dyn Fault>, Invalid> { Ok(Box::new(Instead(Then::Close))) },
};

/// Neither a status line nor a frame of HTTP/2 that has a known type and a length that is allowed.
const NOISE: &[u8] =
    b"\xff\xfe\xfd\xfc\x7f\x00\x01\x02 this is not HTTP \xf0\x9f\x94\xa5\r\n\r\n\xff";

/// `zz` is no chunk's size (RFC 9112, section 7.1).
const CHUNK: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nthis is not a chunk\r\n";

#[derive(Debug, Clone)]
struct Instead(Then);

impl Fault for Instead {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Instead {
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        Verdict::Discard(self.0)
    }
}

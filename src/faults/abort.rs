//! `abort`: answered by the proxy; the upstream never sees it.

use bytes::Bytes;

use super::{Act, Answer, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "abort",
    summary: "answered by the proxy; the upstream never sees it",
    layers: &[Layer::Message],
    directions: Directions::Fixed(Direction::Upstream),
    params: &[
        Param {
            name: "status",
            ty: Type::Count { min: 200, max: 599 },
            default: Some("503"),
            help: "the answer's status",
        },
        Param {
            name: "headers",
            ty: Type::Map,
            default: Some("{}"),
            help: "the answer's headers",
        },
        Param {
            name: "body",
            ty: Type::Text,
            default: Some("\"\""),
            help: "the answer's body",
        },
    ],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let headers = args.map("headers").unwrap_or_default().to_vec();
    for (name, value) in &headers {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let refused = |message: String| {
            Err(Invalid {
                param: "headers",
                message,
            })
        };
        if name.is_empty() || !name.bytes().all(token) {
            return refused(format!("`{name}` is not a header's name"));
        }
        if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            return refused(format!("the value of `{name}` has a control character"));
        }
        if ["content-length", "transfer-encoding", "connection"]
            .iter()
            .any(|framing| name.eq_ignore_ascii_case(framing))
        {
            return refused(format!("`{name}` is set by the proxy itself"));
        }
    }
    Ok(Box::new(Abort(Answer {
        status: args.count("status").unwrap_or(503) as u16,
        headers,
        body: Bytes::from(args.text("body").unwrap_or_default().to_owned()),
    })))
}

#[derive(Debug, Clone)]
struct Abort(Answer);

impl Fault for Abort {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Abort {
    fn on_request(&mut self) -> Verdict {
        Verdict::Respond(self.0.clone())
    }
}

//! `abort`: answered by the proxy; the upstream never sees it.

use std::time::Duration;

use bytes::Bytes;

use super::{Act, Answer, Args, Directions, Fault, Invalid, Kind, Param, Type, Verdict, fields};
use crate::operation::{Direction, Layer, Request};
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
            help: "the answer's body; with `grpc_status`, its message",
        },
        Param {
            name: "grpc_status",
            ty: Type::Count { min: 0, max: 16 },
            default: Some("null"),
            help: "answers as gRPC does, with this code in the trailers",
        },
    ],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let mut headers = args.map("headers").unwrap_or_default().to_vec();
    fields::check("headers", &headers)?;
    let body = args.text("body").unwrap_or_default();
    let Some(grpc) = args.count("grpc_status") else {
        return Ok(Box::new(Abort(Answer {
            status: args.count("status").unwrap_or(503) as u16,
            headers,
            body: Bytes::from(body.to_owned()),
        })));
    };
    if args.count("status").is_some_and(|status| status != 200) {
        return Err(Invalid {
            param: "grpc_status",
            message: "with it, the HTTP status is 200: leave `status` out".to_owned(),
        });
    }
    // Trailers-Only, as gRPC calls it: the head is the trailers, and there is no body.
    let mut set = |name: &str, value: String| {
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            headers.push((name.to_owned(), value));
        }
    };
    set("content-type", "application/grpc".to_owned());
    set("grpc-status", grpc.to_string());
    if !body.is_empty() {
        set("grpc-message", percent_encoded(body));
    }
    Ok(Box::new(Abort(Answer {
        status: 200,
        headers,
        body: Bytes::new(),
    })))
}

/// As gRPC encodes a message in a header: all but printable ASCII, and `%`.
fn percent_encoded(text: &str) -> String {
    let encode = |b: u8| match b {
        b' '..=b'~' if b != b'%' => (b as char).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[derive(Debug, Clone)]
struct Abort(Answer);

impl Fault for Abort {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Abort {
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Respond(self.0.clone())
    }
}

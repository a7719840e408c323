//! `rewrite`: a request or an answer is altered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Act, Args, Directions, Edit, Fault, Invalid, Kind, Param, Type, Verdict, fields};
use crate::operation::{Direction, Layer, Request, Response};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "rewrite",
    summary: "the request's or the answer's headers or body are altered",
    layers: &[Layer::Message],
    directions: Directions::Either {
        message: Direction::Downstream,
    },
    params: &[
        Param {
            name: "set_headers",
            ty: Type::Map,
            default: Some("{}"),
            help: "put in the place of those of the same name, or behind all others",
        },
        Param {
            name: "remove_headers",
            ty: Type::Names,
            default: Some("[]"),
            help: "taken away",
        },
        Param {
            name: "clock",
            ty: Type::Offset,
            default: Some("0"),
            help: "how far the time in `Date` is moved: a skewed clock",
        },
        Param {
            name: "body",
            ty: Type::Text,
            default: Some("null"),
            help: "takes the place of the body",
        },
    ],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let set = args.map("set_headers").unwrap_or_default().to_vec();
    let remove = args.names("remove_headers").unwrap_or_default().to_vec();
    fields::check("set_headers", &set)?;
    for name in &remove {
        fields::check_name("remove_headers", name)?;
    }
    let edit = Edit {
        remove,
        set,
        skew: args.offset("clock").unwrap_or_default(),
        body: args.text("body").map(|text| Bytes::from(text.to_owned())),
    };
    if edit == Edit::default() {
        return Err(Invalid {
            param: "set_headers",
            message: "nothing is altered: give at least one of `set_headers`, `remove_headers`, `clock`, `body`".to_owned(),
        });
    }
    Ok(Box::new(Rewrite(Arc::new(edit))))
}

#[derive(Debug, Clone)]
struct Rewrite(Arc<Edit>);

impl Fault for Rewrite {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Rewrite {
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Edit(Arc::clone(&self.0))
    }
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        Verdict::Edit(Arc::clone(&self.0))
    }
}

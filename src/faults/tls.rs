//! `tls`: the client's TLS handshake with the proxy fails.

use super::{Act, Args, Directions, Fault, Handshake, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "tls",
    summary: "the client's TLS handshake with the proxy fails",
    layers: &[Layer::Handshake],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "how",
        ty: Type::Choice(&["stall", "expired", "wrong_host", "self_signed", "alert"]),
        default: None,
        help: "it is never answered; the certificate is no longer valid, is another host's, is signed by no CA; it is refused",
    }],
    lifted: Some("a stalled connection is closed"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    Ok(Box::new(Tls(match args.choice("how") {
        Some("expired") => Handshake::Expired,
        Some("wrong_host") => Handshake::WrongHost,
        Some("self_signed") => Handshake::SelfSigned,
        Some("alert") => Handshake::Alert,
        _ => Handshake::Stall,
    })))
}

#[derive(Debug, Clone)]
struct Tls(Handshake);

impl Fault for Tls {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Tls {
    fn on_handshake(&mut self) -> Verdict {
        Verdict::Handshake(self.0)
    }
}

//! The extension point: what can go wrong. One file a kind, one line in [`KINDS`].
//!
//! A fault *decides*, it does not act: its hooks take what is known and return a [`Verdict`]. The
//! pipeline asks, the proxy performs, the receipt records. So a kind is tested with plain values:
//! nothing here touches a socket, a clock or a log. Decoding, help, the docs table, metric labels
//! and the conformance tests all follow from the [`Kind`] in the registry.

mod abort;
mod args;
mod bandwidth;
mod close;
mod corrupt;
mod delay;
mod drop;
mod duplicate;
mod fields;
mod garbage;
mod h2;
mod late;
mod limit_data;
mod overload;
mod packet_loss;
mod refuse;
mod reorder;
mod response_loss;
mod rewrite;
mod slice;
mod slow_close;
mod slow_connect;
mod stale;
mod throttle;
mod timeout;
mod tls;
mod truncate;

#[cfg(test)]
mod conformance;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::operation::{Direction, Layer, Request, Response};
use crate::seed::Draw;

pub use args::{Arg, Args, Param, Type};

/// Every kind there is, in the order of the docs.
pub static KINDS: &[&Kind] = &[
    &delay::KIND,
    &drop::KIND,
    &response_loss::KIND,
    &duplicate::KIND,
    &reorder::KIND,
    &late::KIND,
    &abort::KIND,
    &close::RESET,
    &close::CLOSE,
    &refuse::KIND,
    &slow_connect::KIND,
    &bandwidth::KIND,
    &slice::KIND,
    &limit_data::KIND,
    &slow_close::KIND,
    &timeout::KIND,
    &corrupt::KIND,
    &tls::KIND,
    &truncate::KIND,
    &garbage::GARBAGE,
    &garbage::EMPTY,
    &rewrite::KIND,
    &throttle::KIND,
    &overload::KIND,
    &stale::KIND,
    &h2::RESET,
    &h2::GOAWAY,
    &packet_loss::KIND,
];

/// The kind of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

/// One sort of fault: its name, its parameters, where it can act.
#[derive(Debug)]
pub struct Kind {
    /// The key under `fault:` and the metric label.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub summary: &'static str,
    /// What it acts on. Where messages are known and it can act on them, it does so there only.
    pub layers: &'static [Layer],
    /// Whether a rule may choose a direction.
    pub directions: Directions,
    /// The parameters, in the order of the docs.
    pub params: &'static [Param],
    /// What becomes of waiting operations when the rule is lifted; `None`: it never makes any wait.
    pub lifted: Option<&'static str>,
    /// Makes a fault of checked arguments.
    pub build: fn(&Args) -> Result<Box<dyn Fault>, Invalid>,
}

impl Kind {
    /// Whether it can act on this layer.
    #[must_use]
    pub fn acts_on(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }

    /// What it acts on at a proxy whose operations are messages (`true`) or connections.
    #[must_use]
    pub fn layers_of(&self, messages: bool) -> Vec<Layer> {
        let has: &[Layer] = if !messages {
            &[Layer::Connection, Layer::Stream]
        } else if self.acts_before_messages() {
            &[Layer::Connection]
        } else {
            &[Layer::Message, Layer::Body]
        };
        let has = has.iter().copied();
        has.filter(|layer| self.acts_on(*layer)).collect()
    }

    /// Whether it can act on a proxy whose operations are messages (`true`) or connections, whether
    /// or not that speaks TLS with its clients.
    #[must_use]
    pub fn fits(&self, messages: bool) -> bool {
        !self.layers_of(messages).is_empty()
    }

    /// Whether, where messages are known, it acts on the making of the connection that they come on.
    #[must_use]
    pub fn acts_before_messages(&self) -> bool {
        let on_messages = self.acts_on(Layer::Message) || self.acts_on(Layer::Body);
        let on_making = self.acts_on(Layer::Connection) || self.acts_on(Layer::Handshake);
        on_making && !on_messages
    }

    /// Whether the parameters have this name among them.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.iter().find(|param| param.name == name)
    }
}

/// Which directions a rule of a kind may name, and what holds when it names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// The kind has this one by nature; a rule may name it, and no other.
    Fixed(Direction),
    /// Either: bytes are met both ways unless said, messages on this one.
    Either {
        /// The direction of messages that is met when none is named.
        message: Direction,
    },
}

/// Why arguments that are right one by one do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The parameter to change.
    pub param: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// A fault with its parameters. Shared by all operations; state for one of them is in its [`Act`].
pub trait Fault: Send + Sync + fmt::Debug {
    /// Begins acting on one operation, which it has been chosen for, at this proxy.
    fn act(&self, draw: Draw, proxy: &str) -> Box<dyn Act>;

    /// Why these parameters can't be had on a layer that the kind acts on; `None`: they can.
    fn unsupported(&self, _layer: Layer) -> Option<Invalid> {
        None
    }

    /// Whether it acts on a message that it is chosen for once the answer's head is known: then the
    /// request's moment is past. Kinds that act upstream only never do.
    fn acts_on_answers(&self) -> bool {
        true
    }
}

/// Bytes of a connection, or of a message's body, that were read.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Where they go.
    pub direction: Direction,
    /// How many, more than 0.
    pub len: usize,
    /// When they arrived, on a clock that all connections share.
    pub at: Duration,
}

/// A fault at work on one operation. Each hook is asked at its moment and only decides.
///
/// Where messages are known, `on_request` and `on_response` are asked once each, `on_body` for each
/// piece of a body; otherwise `on_connect` and `on_stream` once, `on_chunk` for each piece of bytes
/// and `on_eof` once a direction. A connection that stood before the rule is met from `on_stream` on.
/// `at` is now, on a clock that all connections share.
pub trait Act: Send + fmt::Debug {
    /// A client has connected; nothing is dialled yet.
    fn on_connect(&mut self) -> Verdict {
        Verdict::Pass
    }
    /// A client has connected that is to be met with TLS.
    fn on_handshake(&mut self) -> Verdict {
        Verdict::Pass
    }
    /// It begins to act on the bytes of a connection.
    fn on_stream(&mut self) -> Verdict {
        Verdict::Pass
    }
    /// The head of a request has been read; nothing of it has been sent.
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        Verdict::Pass
    }
    /// The head of the answer has been read; nothing of it has been sent.
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        Verdict::Pass
    }
    /// The answer that was to be kept ([`Verdict::Capture`]) has been read whole; nothing of it has
    /// been sent.
    fn on_answer(&mut self, _answer: &Answer, _at: Duration) -> Verdict {
        Verdict::Pass
    }
    /// Bytes of a message's body have been read.
    fn on_body(&mut self, _chunk: &Chunk) -> Verdict {
        Verdict::Pass
    }
    /// Bytes of a connection have been read.
    fn on_chunk(&mut self, _chunk: &Chunk) -> Verdict {
        Verdict::Pass
    }
    /// One side has said all it will say.
    fn on_eof(&mut self, _direction: Direction) -> Verdict {
        Verdict::Pass
    }
}

/// What a fault wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Pass,
    /// Kept this long, counted from arrival. Several add up; order is kept. More is taken in
    /// meanwhile, so that waiting does not cut throughput.
    Hold(Duration),
    /// Kept until this happens, or for this long at the most.
    Await(Awaited, Duration),
    /// Split into pieces of these lengths, each kept that long, counted from arrival. Little is
    /// taken in ahead: the sender feels it.
    Pace(Vec<(usize, Duration)>),
    /// The bytes at these positions are changed by these masks (never 0).
    Alter(Vec<(usize, u8)>),
    /// The head, and the body if it says so, are altered.
    Edit(Arc<Edit>),
    /// Only the first so many bytes pass; once they have arrived, the connection ends.
    Keep(usize, End),
    /// The connection ends.
    End(End),
    /// It goes nowhere, and afterwards this becomes of the client.
    Discard(Then),
    /// The proxy answers in the upstream's place; after [`Act::on_answer`], with this in place of
    /// what the upstream answered.
    Respond(Answer),
    /// The answer is kept until it is whole, if it is not too long for that, and shown to
    /// [`Act::on_answer`].
    Capture,
    /// The upstream receives it again.
    Again(Again),
    /// On HTTP/2: the proxy says this in the upstream's place.
    Frame(Frame),
    /// The client's TLS handshake fails so.
    Handshake(Handshake),
}

/// What a message may be kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Another operation of the proxy has gone to the upstream meanwhile. Where one is kept for that
    /// already, the next is the other: it is not kept.
    Overtaken,
    /// The caller has moved on: it has closed its side, or tried again.
    MovedOn,
}

/// How a message is altered. Names are compared without case; framing is the proxy's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Headers that are taken away.
    pub remove: Vec<String>,
    /// Headers that are put in the place of those of the same name, or behind all others.
    pub set: Vec<(String, String)>,
    /// How far the time in `Date` is moved, in seconds.
    pub skew: i64,
    /// What takes the place of the body.
    pub body: Option<Bytes>,
}

/// How HTTP/2 says that something ends (RFC 9113, section 7: the error codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// RST_STREAM: the request's stream ends.
    Reset(u32),
    /// GOAWAY, and the connection ends.
    GoAway(u32),
}

/// How a TLS handshake fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// It is never answered.
    Stall,
    /// The certificate is no longer valid.
    Expired,
    /// The certificate is another host's.
    WrongHost,
    /// No CA has signed the certificate.
    SelfSigned,
    /// It is refused with a fatal alert.
    Alert,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// By a RST, else by a FIN.
    pub reset: bool,
    /// Whom it hits; the other side gets a FIN.
    pub side: Side,
    /// This long after it was decided.
    pub after: Duration,
}

/// Whom the end of a connection hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who dialled the proxy.
    Client,
    /// Whom the proxy dialled.
    Upstream,
    /// Both of them.
    Both,
}

/// What becomes of the client after its message, or the answer, went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It waits.
    Hang,
    /// Its connection ends with a FIN.
    Close,
    /// Its connection ends with a RST.
    Reset,
    /// Both connections end with a FIN, this long after the last bytes that went nowhere.
    After(Duration),
    /// The proxy answers with this status, then closes.
    Status(u16),
    /// These bytes are written, whatever they are, then its connection ends with a FIN.
    Raw(&'static [u8]),
}

impl Then {
    /// Whether the connection ends without being waited for.
    #[must_use]
    pub fn is_at_once(self) -> bool {
        matches!(self, Self::Close | Self::Reset)
    }
}

/// An answer that the proxy gives itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// In order, besides those that frame the body.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Bytes,
}

/// How often, when, and whose answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Deliveries besides the first.
    pub copies: u32,
    /// Between one delivery and the next; zero: all at once.
    pub gap: Duration,
    /// The client gets the answer to the last delivery, not to the first.
    pub last: bool,
    /// What the first of them waits for.
    pub when: When,
}

/// When something is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With the first delivery.
    AtOnce,
    /// Once the first delivery was answered in full; never, if it is not.
    Answered,
    /// Once the rule is lifted.
    Lifted,
}

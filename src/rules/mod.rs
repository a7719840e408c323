//! Rules and partitions: what users define, and what is compiled of it for the data path.
//!
//! A definition ([`Rule`], [`Partition`], [`Edge`]) is plain data. What is enabled is compiled into
//! a [`RuleSet`] per proxy, whose [`LiveRule`]s count, draw and can be lifted. No I/O here.

mod edge;
mod live;
mod matcher;
mod nth;
mod own_id;
mod partition;
mod schedule;
mod timetable;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::faults::{Args, Directions, Fault, Kind};
use crate::operation::{Direction, Layer};

pub use edge::{Edge, Forwarded, Protocol, ProxyProtocol, Version};
pub use live::{Cut, LivePartition, LiveRule, RuleSet, Tally, Totals};
pub use matcher::{
    ASKS, Awaited, BodyMatch, Glob, Ground, GrpcMatch, HostGlob, Matcher, Meets, Ordinals,
    PathGlob, PathPattern, Pattern, Regex, ResponseMatch, Rest, Statuses, Subnet,
};
pub use nth::{Nth, Per};
pub use own_id::{MOST_BODY, OwnId, PathPart, unquoted};
pub use partition::{Mode, Partition, Shape, Sides};
pub use schedule::Slot;
pub use timetable::{Start, Timetable, Window, Windows};

/// How long something stays enabled once it was enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// Not said: for ever from a file, ten minutes by API or command line.
    #[default]
    Unsaid,
    /// For ever, and said so.
    Forever,
    /// This long.
    For(Duration),
}

impl Ttl {
    /// What a rule made or switched on by API or command line gets when it does not say.
    pub const BY_API: Duration = Duration::from_secs(600);

    /// The time it gives, where not saying means `unsaid`.
    #[must_use]
    pub fn or(self, unsaid: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Unsaid => unsaid,
            Self::Forever => None,
            Self::For(time) => Some(time),
        }
    }
}

/// A fault plus where, which operations, how often and how long.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique among rules.
    pub name: String,
    /// The proxies it acts on; `None`: every one that the fault can act on.
    pub proxies: Option<Vec<String>>,
    /// Whether it acts.
    pub enabled: bool,
    /// Which operations.
    pub matcher: Matcher,
    /// The chance of each, 0 to 1.
    pub probability: f64,
    /// The first so many matching operations are left alone.
    pub skip: u64,
    /// At most so many injections.
    pub limit: Option<u64>,
    /// At most so many at the same time.
    pub max_active: Option<u64>,
    /// How long it stays enabled.
    pub ttl: Ttl,
    /// Selected and recorded, never injected.
    pub dry_run: bool,
    /// Where the kind has one.
    pub direction: Option<Direction>,
    /// When it acts while it is enabled; `None`: all the time.
    pub timetable: Option<Timetable>,
    /// What goes wrong.
    pub fault: FaultSpec,
}

impl Rule {
    /// Whether it acts on a proxy, by name and by what the fault can do there: on those of its
    /// connections that are known to be `known`. See [`FaultSpec::ground`].
    #[must_use]
    pub fn reaches(&self, edge: &Edge, known: Protocol) -> bool {
        let named = self
            .proxies
            .as_ref()
            .is_none_or(|names| names.contains(&edge.name));
        let ground = || self.fault.ground(edge.protocol, known);
        named
            && edge.suits(self.fault.kind)
            && ground().is_some_and(|ground| self.matcher.can_hold(ground))
    }

    /// Whether the definitions are the same but for `enabled`, so that counts may go on.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let Self {
            name,
            proxies,
            enabled: _,
            matcher,
            probability,
            skip,
            limit,
            max_active,
            ttl,
            dry_run,
            direction,
            timetable,
            fault,
        } = self;
        *name == other.name
            && *proxies == other.proxies
            && *matcher == other.matcher
            && *probability == other.probability
            && *skip == other.skip
            && *limit == other.limit
            && *max_active == other.max_active
            && *ttl == other.ttl
            && *dry_run == other.dry_run
            && *direction == other.direction
            && *timetable == other.timetable
            && fault.kind.name == other.fault.kind.name
            && fault.args == other.fault.args
    }
}

/// A kind with its arguments, and the fault made of them.
#[derive(Clone)]
pub struct FaultSpec {
    /// Of the registry.
    pub kind: &'static Kind,
    /// As given; what was left out stays out.
    pub args: Args,
    /// Made once, shared by all operations.
    pub fault: Arc<dyn Fault>,
}

impl FaultSpec {
    /// Builds the fault.
    ///
    /// # Errors
    /// When the arguments do not go together.
    pub fn new(kind: &'static Kind, args: Args) -> Result<Self, crate::faults::Invalid> {
        let fault = Arc::from((kind.build)(&args)?);
        Ok(Self { kind, args, fault })
    }

    /// Why these parameters can't be had on a proxy of this protocol; `None`: they can, on some of
    /// its connections at least.
    #[must_use]
    pub fn unsupported(&self, protocol: Protocol) -> Option<crate::faults::Invalid> {
        if protocol == Protocol::Auto && !self.grounds(protocol).is_empty() {
            return None;
        }
        let mut layers = Layer::ALL.into_iter();
        match protocol {
            Protocol::Auto => layers.find_map(|layer| self.unsupported_on(&[layer])),
            _ => self.unsupported_on(&self.kind.layers_of(protocol == Protocol::Http)),
        }
    }

    fn unsupported_on(&self, layers: &[Layer]) -> Option<crate::faults::Invalid> {
        let mut layers = layers.iter().filter(|layer| self.kind.acts_on(**layer));
        layers.find_map(|layer| self.fault.unsupported(*layer))
    }

    /// Where its conditions have to hold on a proxy of this protocol, of connections that are known
    /// to be `known`; `None`: on those it does not act. Of `auto` all are `auto` at first; what acts
    /// on their being made acts then, and all else once they are known, on what follows.
    #[must_use]
    pub fn ground(&self, protocol: Protocol, known: Protocol) -> Option<Ground> {
        let kind = self.kind;
        let early = kind.acts_before_messages();
        if protocol == Protocol::Auto && early != (known == Protocol::Auto) {
            return None;
        }
        let stream = kind.acts_on(Layer::Stream);
        let (layers, ground) = match known {
            Protocol::Auto => (vec![], Ground::Accepted),
            Protocol::Tcp if protocol == Protocol::Auto && !stream => return None,
            Protocol::Tcp if protocol == Protocol::Auto => (vec![Layer::Stream], Ground::Stream),
            Protocol::Tcp if stream => (kind.layers_of(false), Ground::Stream),
            Protocol::Tcp => (kind.layers_of(false), Ground::Accepted),
            Protocol::Http if early => (kind.layers_of(true), Ground::Accepted),
            Protocol::Http if !kind.fits(true) => return None,
            Protocol::Http => (kind.layers_of(true), Ground::Http),
        };
        self.unsupported_on(&layers).is_none().then_some(ground)
    }

    /// Where its conditions may hold on a proxy of this protocol.
    #[must_use]
    pub fn grounds(&self, protocol: Protocol) -> Vec<Ground> {
        let of = |known| self.ground(protocol, known);
        match protocol {
            Protocol::Auto => Protocol::ALL.into_iter().filter_map(of).collect(),
            _ => of(protocol).into_iter().collect(),
        }
    }

    /// Whether it acts on a message that is chosen once its answer's head is known.
    #[must_use]
    pub fn acts_on_answers(&self) -> bool {
        let upstream = Directions::Fixed(Direction::Upstream);
        let on_messages = [Layer::Message, Layer::Body].map(|layer| self.kind.acts_on(layer));
        on_messages.contains(&true)
            && self.kind.directions != upstream
            && self.fault.acts_on_answers()
    }

    /// As in the file: `{kind: {parameters}}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let args = self.args.0.iter();
        let args: serde_json::Map<_, _> = args
            .map(|(name, arg)| ((*name).to_owned(), arg.to_json()))
            .collect();
        serde_json::json!({ self.kind.name: args })
    }
}

impl fmt::Debug for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}

//! One connection at one proxy: which rules it knows, and the operations that it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{ConnectAction, Crossing, Operation, Receipt, RequestAction, Witness};
use crate::faults::End;
use crate::operation::{Direction, Facts, Layer, Request};
use crate::rules::{Cut, Mode, RuleSet};
use crate::seed;
use crate::state::Stopping;

/// One client connection. Holds the rules of one generation until [`Session::refresh`].
#[derive(Debug)]
pub struct Session {
    crossing: Arc<Crossing>,
    client: SocketAddr,
    ordinal: u64,
    generation: u64,
    set: Arc<RuleSet>,
}

/// What the partitions in force do to a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Whether bytes of each direction are held: upstream, downstream.
    pub silent: [bool; 2],
    /// New connections are reset.
    pub refuse: bool,
    /// Connections that stand are reset.
    pub reset: bool,
}

impl Cuts {
    /// Whether bytes of this direction are held.
    #[must_use]
    pub fn silences(&self, direction: Direction) -> bool {
        self.silent[direction as usize]
    }
}

impl Crossing {
    /// Takes up a connection that was accepted.
    #[must_use]
    pub fn session(self: &Arc<Self>, client: SocketAddr) -> Session {
        let snapshot = self.context.state.snapshot();
        Session {
            client,
            ordinal: self.connections.fetch_add(1, Relaxed) + 1,
            generation: snapshot.generation,
            set: snapshot.rules_of(&self.edge.name),
            crossing: Arc::clone(self),
        }
    }
}

impl Session {
    /// The proxy that it crosses.
    #[must_use]
    pub fn crossing(&self) -> &Arc<Crossing> {
        &self.crossing
    }

    /// Who dialled.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Adopts the rules that are in force now; answers whether there was a change. An atomic load
    /// where there was none, so it can be asked before every byte.
    pub fn refresh(&mut self) -> bool {
        if !self.is_stale() {
            return false;
        }
        let snapshot = self.crossing.context.state.snapshot();
        self.generation = snapshot.generation;
        self.set = snapshot.rules_of(&self.crossing.edge.name);
        true
    }

    /// Whether there was a change that is not yet adopted.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.crossing.context.state.generation() != self.generation
    }

    /// Whether no rule and no partition can act.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.set.is_empty()
    }

    /// How far the process is in stopping.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.crossing.context.state.stopping()
    }

    /// What the partitions in force do.
    #[must_use]
    pub fn cuts(&self) -> Cuts {
        let mut cuts = Cuts::default();
        for cut in &self.set.cuts {
            for direction in Direction::ALL {
                cuts.silent[direction as usize] |= cut.cuts(direction);
            }
            cuts.refuse |= cut.mode() != Mode::Blackhole;
            cuts.reset |= cut.mode() == Mode::Reset;
        }
        cuts
    }

    /// The partitions that hold bytes of this direction.
    pub fn cutting(&self, direction: Direction) -> impl Iterator<Item = &Cut> {
        self.set.cuts.iter().filter(move |cut| cut.cuts(direction))
    }

    /// Every partition that is in force here.
    #[must_use]
    pub fn all_cuts(&self) -> &[Cut] {
        &self.set.cuts
    }

    /// A record of the connection itself, where no finer operation is known.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness::begin(&self.crossing, None, None)
    }

    /// Begins the operation that is this whole connection, and asks what is to be done.
    pub fn connection(&self) -> (Operation, ConnectAction) {
        let mut operation = Operation::new(self.witness());
        self.adopt(&mut operation, &[Layer::Connection, Layer::Stream]);
        let action = operation.on_connect();
        (operation, action)
    }

    /// Lets rules that came into force since act on the bytes of this connection.
    /// Answers how they want it to end.
    #[must_use]
    pub fn readopt(&self, operation: &mut Operation) -> Vec<(End, Receipt)> {
        operation.forget_lifted();
        self.adopt(operation, &[Layer::Stream]);
        operation.on_stream()
    }

    fn adopt(&self, operation: &mut Operation, layers: &[Layer]) {
        if self.set.rules.is_empty() {
            return;
        }
        let facts = self.facts(None);
        let key = seed::key(&[&self.ordinal.to_le_bytes()]);
        for live in &self.set.rules {
            let kind = live.rule.fault.kind;
            if layers.iter().any(|l| kind.acts_on(*l)) && live.rule.matcher.matches(&facts) {
                operation.select(&self.crossing, live, key, Layer::Stream);
            }
        }
    }

    /// Begins the operation of a request whose head was read, and asks what is to be done.
    pub fn request(&self, request: &Request<'_>) -> (Operation, RequestAction) {
        let ladder = &self.crossing.context.ladder;
        let named = Some((request.method, request.path));
        let witness = Witness::begin(&self.crossing, named, ladder.identify(request));
        let mut operation = Operation::new(witness);
        if self.set.rules.is_empty() {
            return (operation, RequestAction::default());
        }
        let facts = self.facts(Some(*request));
        let mut key = None;
        for live in &self.set.rules {
            if live.rule.matcher.matches(&facts) {
                let key = *key.get_or_insert_with(|| ladder.decision_key(request));
                operation.select(&self.crossing, live, key, Layer::Message);
            }
        }
        let action = operation.on_request();
        (operation, action)
    }

    /// Begins the operation of a request that can no longer be carried: no rule is asked.
    #[must_use]
    pub fn lost_request(&self, request: &Request<'_>) -> Operation {
        let ladder = &self.crossing.context.ladder;
        let named = Some((request.method, request.path));
        Operation::new(Witness::begin(
            &self.crossing,
            named,
            ladder.identify(request),
        ))
    }

    /// Begins the operation of bytes that are no request which every party would read alike.
    #[must_use]
    pub fn refused_request(&self) -> Operation {
        Operation::new(self.witness())
    }

    fn facts<'a>(&self, http: Option<Request<'a>>) -> Facts<'a> {
        Facts {
            client: self.client,
            connection: self.ordinal,
            http,
        }
    }
}

//! One connection at one proxy: which rules it knows, and the operations that it carries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::course::Course;
use super::operation::Turn;
use super::{ConnectAction, Crossing, Operation, Receipt, RequestAction, ResponseAction, Witness};
use crate::clock::Instant;
use crate::faults::End;
use crate::operation::{Body, Direction, Facts, Layer, Phase, Request, Response, Sni};
use crate::rules::{Awaited, Cut, LiveRule, MOST_BODY, Meets, Mode, Per, Protocol, Rest, RuleSet};
use crate::seed;
use crate::state::Stopping;

/// One client connection. Holds the rules of one generation until [`Session::refresh`].
#[derive(Debug)]
pub struct Session {
    crossing: Arc<Crossing>,
    /// What it carries; `Auto`: that is not known yet.
    known: Protocol,
    /// Who dialled: address and port.
    client: (IpAddr, u16),
    ordinal: u64,
    course: Course,
    /// What of its course rules still wait for.
    awaited: Option<Box<Awaited>>,
    generation: u64,
    set: Arc<RuleSet>,
    cuts: Cuts,
    way: Way,
}

/// The way to a connection's upstream, as far as its edge does not say.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// What the upstream is told of the client before all else.
    pub introduction: Option<Arc<[u8]>>,
    /// Where the client was going, where the edge goes on to that.
    pub destination: Option<SocketAddr>,
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
    fn of(set: &RuleSet) -> Self {
        let mut cuts = Self::default();
        for cut in &set.cuts {
            for direction in Direction::ALL {
                cuts.silent[direction as usize] |= cut.cuts(direction);
            }
            cuts.refuse |= cut.mode() != Mode::Blackhole;
            cuts.reset |= cut.mode() == Mode::Reset;
        }
        cuts
    }

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
        let known = self.edge.protocol;
        let set = snapshot.rules_of(&self.edge.name, known);
        Session {
            known,
            client: (client.ip(), client.port()),
            course: Course::begin(),
            awaited: None,
            ordinal: self.course.connections.fetch_add(1, Relaxed) + 1,
            generation: snapshot.generation,
            cuts: Cuts::of(&set),
            set,
            way: Way::default(),
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
        self.client.into()
    }

    /// It has come on behalf of this client, who counts from now on.
    pub fn came_from(&mut self, client: SocketAddr) {
        self.client = (client.ip(), client.port());
    }

    /// The way to its upstream.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way.clone()
    }

    /// Its client was going there.
    pub fn bound_for(&mut self, destination: SocketAddr) {
        self.way.destination = Some(destination);
    }

    /// Has the upstream told this of the client before all else.
    pub fn introduce(&mut self, introduction: Vec<u8>) {
        self.way.introduction = Some(introduction.into());
    }

    /// Adopts the rules that are in force now; answers whether there was a change. An atomic load
    /// where there was none, so it can be asked before every byte.
    pub fn refresh(&mut self) -> bool {
        if !self.is_stale() {
            return false;
        }
        self.adopt_rules();
        true
    }

    fn adopt_rules(&mut self) {
        let snapshot = self.crossing.context.state.snapshot();
        self.generation = snapshot.generation;
        self.set = snapshot.rules_of(&self.crossing.edge.name, self.known);
        self.cuts = Cuts::of(&self.set);
    }

    /// What it carries, as far as that is known.
    #[must_use]
    pub fn known(&self) -> Protocol {
        self.known
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

    /// How far the process, or this proxy, is in stopping.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.crossing.stopping()
    }

    /// What the partitions in force do.
    #[must_use]
    pub fn cuts(&self) -> Cuts {
        self.cuts
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
        Witness::begin(&self.crossing, self.known, None, self.client())
    }

    /// When it was accepted.
    #[must_use]
    pub fn accepted(&self) -> Instant {
        self.course.accepted()
    }

    /// Begins the operation that is this whole connection, and asks what is to be done.
    pub fn connection(&mut self) -> (Operation, ConnectAction) {
        let mut operation = Operation::new(self.witness());
        self.adopt(&mut operation, Phase::Connect, 0);
        let action = operation.on_connect();
        (operation, action)
    }

    /// It was not known what this connection carries, and it has turned out to be no HTTP: the rules
    /// are asked that can act on what follows. The operation is the connection's own (`opening`), or
    /// begins with it.
    pub fn turned_out_tcp(
        &mut self,
        opening: Option<(Operation, ConnectAction)>,
    ) -> (Operation, ConnectAction) {
        self.known = Protocol::Tcp;
        self.adopt_rules();
        let (mut operation, mut action) = opening.unwrap_or_else(|| {
            let witness = self.witness();
            witness.began(self.course.age());
            (Operation::new(witness), ConnectAction::default())
        });
        action.ends.extend(self.readopt(&mut operation, 0));
        (operation, action)
    }

    /// It was not known what this connection carries, and it has turned out to be HTTP.
    pub fn turned_out_http(&mut self, opening: Option<&Operation>) {
        self.known = Protocol::Http;
        self.adopt_rules();
        if let Some(opening) = opening {
            opening.witness.is_http();
        }
    }

    /// Takes what the client of this connection said first, before any of it is acted on. Answers
    /// whether a rule has waited for what is known now: then [`Session::readopt`].
    #[must_use]
    pub fn learn(&mut self, bytes: &[u8]) -> bool {
        self.course.learn(bytes) && self.awaited.as_ref().is_some_and(|awaited| awaited.sni)
    }

    /// The host that the client has asked for within TLS that ends here, which is known from the
    /// beginning; the first bytes are not looked at for one. Answers as [`Session::learn`].
    #[must_use]
    pub fn asked_for(&mut self, host: Option<&str>) -> bool {
        self.course.asked_for(host) && self.awaited.as_ref().is_some_and(|awaited| awaited.sni)
    }

    /// Whether rules wait for bytes to be read: then every read is to be counted.
    #[must_use]
    pub fn awaits_bytes(&self) -> bool {
        self.awaited
            .as_ref()
            .is_some_and(|awaited| awaited.bytes.is_some())
    }

    /// Whether rules wait for more of this connection's course.
    #[must_use]
    pub fn awaits(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether rules may be asked now that had to wait, `bytes` having been read of this
    /// connection: then [`Session::readopt`].
    #[must_use]
    pub fn is_due(&self, bytes: u64) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| {
            awaited.bytes.is_some_and(|n| n <= bytes)
                || awaited.age.is_some_and(|age| age <= self.course.age())
        })
    }

    /// When rules that wait for time may be asked.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let age = self.awaited.as_ref()?.age?;
        Some(self.course.accepted() + age)
    }

    /// Lets rules act on what follows of this connection that came into force since, or whose
    /// conditions have come to hold; `bytes` were read of it before that. Answers how they want it
    /// to end.
    #[must_use]
    pub fn readopt(&mut self, operation: &mut Operation, bytes: u64) -> Vec<(End, Receipt)> {
        operation.forget_lifted();
        self.adopt(operation, Phase::Stream, bytes);
        operation.on_stream()
    }

    fn adopt(&mut self, operation: &mut Operation, phase: Phase, bytes: u64) {
        self.awaited = None;
        if self.set.rules.is_empty() {
            return;
        }
        let mut awaited: Option<Awaited> = None;
        let facts = self.facts(None, bytes);
        let key = self.key();
        for live in &self.set.rules {
            let kind = live.rule.fault.kind;
            let on_stream = kind.acts_on(Layer::Stream);
            let acts = on_stream || phase == Phase::Connect;
            match live.rule.matcher.meets(&facts) {
                Meets::Now if acts => operation.select(&self.crossing, live, key, phase, 0),
                Meets::Later(rest) if on_stream => {
                    awaited.get_or_insert_default().join(rest.awaited());
                }
                _ => {}
            }
        }
        self.awaited = awaited.map(Box::new);
    }

    /// Where operations are messages: asks the rules that act on the making of a connection. The
    /// operation that they choose is the connection's own, until its first request takes it over.
    /// `None`: there is no such rule.
    pub fn opening(&self) -> Option<(Operation, ConnectAction)> {
        let mut operation: Option<Operation> = None;
        for live in &self.set.rules {
            if live.rule.fault.kind.acts_before_messages()
                && live.rule.matcher.meets(&self.facts(None, 0)) == Meets::Now
            {
                let operation = operation.get_or_insert_with(|| Operation::new(self.witness()));
                operation.select(&self.crossing, live, self.key(), Phase::Connect, 0);
            }
        }
        let mut operation = operation?;
        let action = operation.on_connect();
        Some((operation, action))
    }

    /// The decision key of the connection.
    fn key(&self) -> u64 {
        seed::key(&[&self.ordinal.to_le_bytes()])
    }

    /// Begins the operation of a request whose head was read, and asks what is to be done. `bytes`
    /// of the connection were read before it; `opening` is the connection's own operation, if there
    /// is one that no request has taken over. Where the action awaits the body, it is the one of
    /// [`Session::request_body`] that counts.
    pub fn request(
        &self,
        request: &Request<'_>,
        bytes: u64,
        opening: Option<Operation>,
    ) -> (Operation, RequestAction) {
        let ladder = &self.crossing.context.ladder;
        let mut operation = match opening {
            None => self.lost_request(request),
            Some(operation) => {
                operation.witness.becomes(request);
                operation
            }
        };
        if self.set.rules.is_empty() {
            return (operation, RequestAction::default());
        }
        let facts = self.facts(Some(*request), bytes);
        let mut key = None;
        // The team's own id may only come with the body: no rule is asked without it.
        let own = ladder.own.asks_of_body() && ladder.own.of_head(request).is_none();
        let mut awaited: Option<u64> = None;
        for (order, live) in self.set.rules.iter().enumerate() {
            if live.rule.fault.kind.acts_before_messages() {
                continue;
            }
            let matcher = &live.rule.matcher;
            let rest = match matcher.meets(&facts) {
                Meets::Now => None,
                Meets::Later(rest) => Some(rest),
                Meets::Never => continue,
            };
            let key = *key.get_or_insert_with(|| ladder.decision_key(request));
            let counted = matcher.nth.as_ref();
            let turn = Turn {
                order,
                key,
                keyed_by_body: own,
                counted: counted.map(|nth| self.counted_by(nth.per, request, None)),
            };
            if own {
                awaited = awaited.max(Some(MOST_BODY as u64));
            }
            awaited = awaited.max(rest.as_ref().and_then(|rest| rest.awaited().body));
            if awaited.is_some() {
                // Those behind it in rule order wait with it, to be asked in that order.
                operation.wait(live, turn, rest);
            } else {
                self.request_known(&mut operation, live, turn, rest);
            }
        }
        let action = match awaited {
            None => operation.on_request(request),
            Some(_) => RequestAction {
                awaits_body: awaited,
                ..RequestAction::default()
            },
        };
        (operation, action)
    }

    /// The body is known for which [`RequestAction::awaits_body`] asked, or it can't be waited for
    /// any longer: asks what is to be done with the request.
    pub fn request_body(
        &self,
        operation: &mut Operation,
        request: &Request<'_>,
        body: &Body<'_>,
    ) -> RequestAction {
        let ladder = &self.crossing.context.ladder;
        let own = ladder.own.of_head(request).is_none();
        let own = own.then(|| ladder.own.of_body(body)).flatten();
        for waiting in operation.take_waiting() {
            let rest = match waiting.rest.map(|rest| rest.meets(body, None)) {
                None | Some(Meets::Now) => None,
                Some(Meets::Later(rest)) => Some(rest),
                Some(Meets::Never) => continue,
            };
            let mut turn = Turn {
                keyed_by_body: false,
                ..waiting.turn
            };
            if let Some(own) = &own {
                turn.key = ladder.decision_key_of(own);
                let nth = waiting.live.rule.matcher.nth.as_ref();
                turn.counted = nth.map(|nth| self.counted_by(nth.per, request, Some(own)));
            }
            self.request_known(operation, &waiting.live, turn, rest);
        }
        operation.on_request(request)
    }

    /// All is known of a request that a rule may mean, but perhaps for its answer (`rest`).
    fn request_known(
        &self,
        operation: &mut Operation,
        live: &Arc<LiveRule>,
        turn: Turn,
        rest: Option<Rest>,
    ) {
        if let (Some(nth), Some(key)) = (&live.rule.matcher.nth, turn.counted)
            && !nth.contains(live.count(key))
        {
            return;
        }
        match rest {
            Some(_) => operation.wait(live, turn, rest),
            None => {
                operation.select(&self.crossing, live, turn.key, Phase::Request, turn.order);
            }
        }
    }

    /// By what a rule counts this request. `own`: the team's own id, where its body has it.
    fn counted_by(&self, per: Per, request: &Request<'_>, own: Option<&str>) -> u64 {
        let proxy = self.crossing.edge.name.as_bytes();
        let (method, path) = (request.method.as_bytes(), request.path.as_bytes());
        match per {
            Per::Proxy => seed::key(&[proxy]),
            Per::Connection => seed::key(&[proxy, &self.ordinal.to_le_bytes()]),
            Per::Client => match self.client.0.to_canonical() {
                IpAddr::V4(ip) => seed::key(&[proxy, &ip.octets()]),
                IpAddr::V6(ip) => seed::key(&[proxy, &ip.octets()]),
            },
            Per::Identity => match own.map(str::to_owned).or_else(|| {
                let identity = self.crossing.context.ladder.identify(request);
                identity.map(|identity| identity.value)
            }) {
                Some(id) => seed::key(&[proxy, method, path, id.as_bytes()]),
                None => {
                    let query = request.query.unwrap_or_default();
                    seed::key(&[proxy, method, path, query.as_bytes(), b"none"])
                }
            },
        }
    }

    /// The final head of the upstream's answer was read: asks what is to be done with the answer,
    /// rules too that waited for it.
    pub fn response(&self, operation: &mut Operation, response: &Response<'_>) -> ResponseAction {
        for waiting in operation.take_waiting() {
            let rest = waiting.rest.as_ref();
            let meets = rest.map(|rest| rest.meets(&Body::Long, Some(response)));
            if meets == Some(Meets::Now) {
                let Turn { key, order, .. } = waiting.turn;
                operation.select(&self.crossing, &waiting.live, key, Phase::Response, order);
            }
        }
        operation.on_response(response)
    }

    /// Begins the operation of a request that can no longer be carried: no rule is asked.
    #[must_use]
    pub fn lost_request(&self, request: &Request<'_>) -> Operation {
        Operation::new(Witness::begin(
            &self.crossing,
            self.known,
            Some(request),
            self.client(),
        ))
    }

    /// Begins the operation of bytes that are no request which every party would read alike.
    #[must_use]
    pub fn refused_request(&self) -> Operation {
        Operation::new(self.witness())
    }

    fn facts<'a>(&'a self, http: Option<Request<'a>>, bytes: u64) -> Facts<'a> {
        Facts {
            client: self.client.0.to_canonical(),
            connection: self.ordinal,
            bytes,
            age: self.course.age(),
            // The first bytes of a connection with messages are not looked at for it.
            sni: match http {
                None => self.course.sni(),
                Some(_) => Sni::Absent,
            },
            http,
        }
    }
}

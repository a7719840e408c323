//! One operation as seen from the middle, and the class that follows from it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Digest, Identity, Trace};
use crate::clock::Timestamp;
use crate::operation::Phase;
use crate::rules::Protocol;

/// Unique among the records of all runs and instances: a number drawn for the run, and the ordinal in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Which run of the process.
    pub run: u32,
    /// From 1.
    pub n: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.n)
    }
}

/// As it is printed.
impl std::str::FromStr for RecordId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (run, n) = text.split_once('-')?;
            Some(Self {
                run: u32::from_str_radix(run, 16).ok()?,
                n: n.parse().ok()?,
            })
        };
        parse().ok_or("expected a record's id")
    }
}

impl Serialize for RecordId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One operation. The JSON of the contract, field by field.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// This record's own id.
    #[schema(value_type = String, example = "6740a1b2-17")]
    pub id: RecordId,
    /// The proxy that it crossed.
    pub proxy: Arc<str>,
    /// The service that calls.
    pub from: Arc<str>,
    /// The service that is called.
    pub to: Arc<str>,
    /// `tcp` or `http`.
    pub protocol: Protocol,
    /// When its head had been read (of a connection: when it was accepted).
    pub started: Timestamp,
    /// Which logical operation it belongs to, and how that is known.
    pub identity: Option<Identity>,
    /// Where in a distributed trace it stands, if its caller said so.
    #[serde(default)]
    pub trace: Option<Trace>,
    /// The how-manieth of that logical operation at this proxy, from 1.
    pub attempt: u32,
    /// What the client sent.
    pub request: RequestSeen,
    /// What went to the upstream and came back, one entry a delivery.
    pub upstream: Vec<Delivery>,
    /// What became of the client.
    pub client: Client,
    /// Rules and partitions that chose this operation.
    pub faults: Vec<FaultSeen>,
    /// What the evidence amounts to.
    pub class: Class,
    /// Who made it so.
    pub cause: Cause,
    /// How often the upstream received it.
    pub deliveries: u32,
    /// What no field of the contract holds.
    #[serde(skip)]
    pub observed: Observed,
}

/// What the client sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct RequestSeen {
    /// As it came; none on plain TCP.
    pub method: Option<Box<str>>,
    /// Without the query; none on plain TCP.
    pub path: Option<Box<str>>,
    /// Head and body as they came.
    pub bytes: u64,
    /// Of its body, once that was read whole.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// One delivery to the upstream, or the attempt at one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// When its first byte was written to the upstream.
    pub sent_at: Option<Timestamp>,
    /// When the upstream's answer began: its final head, or its first byte on plain TCP.
    pub answered_at: Option<Timestamp>,
    /// The answer's status.
    pub status: Option<u16>,
    /// Of the answer, as read from the upstream.
    pub bytes: u64,
    /// Of the answer's body, once that was read whole.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The upstream says that it has given this answer before (`Idempotent-Replayed: true`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// Why there is no answer, or not all of it.
    pub error: Option<String>,
}

/// What became of the client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientSeen)]
pub struct Client {
    /// Where it calls from.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "10.0.0.7:51234")]
    pub address: Option<Caller>,
    /// What it was told.
    pub outcome: Outcome,
    /// The status it was given.
    pub status: Option<u16>,
    /// When that was over.
    pub at: Option<Timestamp>,
    /// Of an answer, as written to the client.
    pub bytes: u64,
    /// When it ended its connection or its stream, if it was still waiting then: a FIN, which may be
    /// a half-close, or a reset.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How many seconds the answer asked it to wait before it tries again.
    #[serde(default)]
    pub retry_after: Option<u32>,
}

/// Where a client calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Address and port.
    At(SocketAddr),
    /// A hash of the address alone.
    Hashed(u64),
}

impl Caller {
    /// The same for all connections of one host.
    #[must_use]
    pub fn host(self) -> Self {
        match self {
            Self::At(address) => Self::At((address.ip().to_canonical(), 0).into()),
            hashed @ Self::Hashed(_) => hashed,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) if address.port() == 0 => address.ip().fmt(f),
            Self::At(address) => address.fmt(f),
            Self::Hashed(hash) => write!(f, "hash:{hash:016x}"),
        }
    }
}

impl std::str::FromStr for Caller {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || match text.strip_prefix("hash:") {
            Some(hash) => u64::from_str_radix(hash, 16).ok().map(Self::Hashed),
            None => {
                let address = text.parse::<SocketAddr>().ok();
                let host = || Some((text.parse::<IpAddr>().ok()?, 0).into());
                address.or_else(host).map(Self::At)
            }
        };
        parse().ok_or("expected an address, or the hash of one")
    }
}

impl Serialize for Caller {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Caller {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing yet.
    #[default]
    Waiting,
    /// The upstream's answer, whole.
    Answered,
    /// A part of the upstream's answer.
    Partial,
    /// An answer of the proxy's own.
    Substituted,
    /// Nothing: the proxy ended its connection with a FIN.
    Closed,
    /// Nothing: the proxy ended its connection with a RST.
    Reset,
    /// Nothing: it went away first.
    Left,
}

/// A rule or partition that chose an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultSeen {
    /// Its name.
    pub rule: Arc<str>,
    /// The fault's kind, or `partition`.
    pub kind: Arc<str>,
    /// When it acted, or would have.
    pub phase: Phase,
    /// Whether it changed what a side saw.
    pub injected: bool,
}

/// What the evidence amounts to: the first of these that holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Not finished.
    Open,
    /// No byte of it was written to an upstream, and the client got no answer.
    NeverDelivered,
    /// No byte of it was written to an upstream, and the proxy answered in its place.
    Substituted,
    /// The upstream's answer, whatever its status, was handed over whole.
    Acknowledged,
    /// The upstream answered after the client had gone.
    Late,
    /// The upstream answered; the client did not get that answer, or not all of it.
    Unseen,
    /// Sent, no answer seen: the upstream may or may not have done it.
    Unknown,
}

impl Class {
    /// Every class, in the order of the contract.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::NeverDelivered,
        Self::Substituted,
        Self::Acknowledged,
        Self::Late,
        Self::Unseen,
        Self::Unknown,
    ];

    /// The word in records and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NeverDelivered => "never_delivered",
            Self::Substituted => "substituted",
            Self::Acknowledged => "acknowledged",
            Self::Late => "late",
            Self::Unseen => "unseen",
            Self::Unknown => "unknown",
        }
    }

    /// The class of this word.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who made it so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nobody: it went as it should.
    #[default]
    None,
    /// The client went away.
    Client,
    /// The upstream failed.
    Upstream,
    /// The proxy refused it, stopped, or had nothing left to dial with.
    Proxy,
    /// This rule.
    Rule(Arc<str>),
    /// This partition.
    Partition(Arc<str>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Client => f.write_str("client"),
            Self::Upstream => f.write_str("upstream"),
            Self::Proxy => f.write_str("proxy"),
            Self::Rule(name) => write!(f, "rule {name}"),
            Self::Partition(name) => write!(f, "partition {name}"),
        }
    }
}

/// Observations from which the class follows, besides the fields of the record.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The whole of an answer was written to the client and acknowledged by its host, or followed
    /// by its next request.
    pub handed_over: bool,
    /// All that the upstream said was handed over, and what it was sent after that it had not
    /// answered when the connection broke.
    pub unanswered: bool,
    /// When the client was seen to be gone.
    pub client_left: Option<Timestamp>,
    /// Who is to blame if it did not end well and no fault acted.
    pub blame: Option<Cause>,
}

impl Record {
    /// Closes the record: its class, its cause, its count of deliveries.
    pub fn close(&mut self) {
        self.deliveries = self
            .upstream
            .iter()
            .filter(|delivery| delivery.sent_at.is_some())
            .count() as u32;
        self.class = self.classify();
        self.cause = self.find_cause();
        if self.client.at.is_none() {
            self.client.at = self.observed.client_left.or_else(|| Some(Timestamp::now()));
        }
    }

    /// The class of a finished operation: the contract's table, line by line.
    fn classify(&self) -> Class {
        let sent = self.upstream.iter().any(|d| d.sent_at.is_some());
        let answered = self.upstream.iter().filter_map(|d| d.answered_at).min();
        if !sent && answered.is_none() {
            return match self.client.outcome {
                Outcome::Substituted => Class::Substituted,
                _ => Class::NeverDelivered,
            };
        }
        let theirs = matches!(self.client.outcome, Outcome::Answered);
        if theirs && self.observed.handed_over {
            return Class::Acknowledged;
        }
        match (answered, self.observed.client_left) {
            (Some(answered), Some(left)) if answered > left => Class::Late,
            (Some(_), _) if !self.observed.unanswered => Class::Unseen,
            _ => Class::Unknown,
        }
    }

    fn find_cause(&self) -> Cause {
        if self.class == Class::Acknowledged {
            return Cause::None;
        }
        let injected = self.faults.iter().find(|fault| fault.injected);
        if let Some(Cause::Rule(_) | Cause::Partition(_)) = self.observed.blame {
            return self.observed.blame.clone().unwrap_or_default();
        }
        match injected {
            Some(fault) if &*fault.kind == "partition" => Cause::Partition(fault.rule.clone()),
            Some(fault) => Cause::Rule(fault.rule.clone()),
            None => self.observed.blame.clone().unwrap_or(Cause::Client),
        }
    }

    /// Whether its caller had reason to try again.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self.class {
            Class::Open => false,
            Class::Acknowledged => self.client.status.is_some_and(|s| s >= 500 || s == 429),
            _ => true,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::evidence) fn record() -> Record {
        Record {
            id: RecordId { run: 1, n: 1 },
            proxy: "payment".into(),
            from: "web".into(),
            to: "payment".into(),
            protocol: Protocol::Http,
            started: Timestamp(0),
            identity: None,
            trace: None,
            attempt: 1,
            request: RequestSeen::default(),
            upstream: Vec::new(),
            client: Client::default(),
            faults: Vec::new(),
            class: Class::Open,
            cause: Cause::None,
            deliveries: 0,
            observed: Observed::default(),
        }
    }

    /// Every combination of what can be seen, held against the contract's table.
    #[test]
    fn the_class_is_the_first_line_that_holds() {
        let outcomes = [
            Outcome::Answered,
            Outcome::Partial,
            Outcome::Substituted,
            Outcome::Closed,
            Outcome::Reset,
            Outcome::Left,
        ];
        let mut seen = std::collections::HashSet::new();
        for outcome in outcomes {
            for sent in [false, true] {
                for answered in [None, Some(50)] {
                    for left in [None, Some(40), Some(60)] {
                        for (handed_over, unanswered) in
                            [(false, false), (true, false), (false, true)]
                        {
                            let mut r = record();
                            r.client.outcome = outcome;
                            r.upstream.push(Delivery {
                                sent_at: sent.then_some(Timestamp(10)),
                                answered_at: answered.map(Timestamp),
                                ..Delivery::default()
                            });
                            r.observed.client_left = left.map(Timestamp);
                            r.observed.handed_over = handed_over;
                            r.observed.unanswered = unanswered;
                            r.close();
                            let nothing = !sent && answered.is_none();
                            let expected = if nothing && outcome == Outcome::Substituted {
                                Class::Substituted
                            } else if nothing {
                                Class::NeverDelivered
                            } else if outcome == Outcome::Answered && handed_over {
                                Class::Acknowledged
                            } else if answered.is_some() && left == Some(40) {
                                Class::Late
                            } else if answered.is_some() && !unanswered {
                                Class::Unseen
                            } else {
                                Class::Unknown
                            };
                            assert_eq!(r.class, expected, "{r:?}");
                            seen.insert(r.class);
                        }
                    }
                }
            }
        }
        assert_eq!(seen.len(), Class::ALL.len() - 1, "all but open");
    }

    #[test]
    fn json_is_the_contracts() {
        let mut r = record();
        r.faults.push(FaultSeen {
            rule: "lost".into(),
            kind: "response_loss".into(),
            phase: Phase::Response,
            injected: true,
        });
        r.upstream.push(Delivery {
            sent_at: Some(Timestamp(1)),
            answered_at: Some(Timestamp(2)),
            status: Some(201),
            bytes: 10,
            ..Delivery::default()
        });
        r.client.outcome = Outcome::Left;
        r.client.at = Some(Timestamp(3));
        r.close();
        insta::assert_snapshot!(serde_json::to_string(&r).unwrap(), @r#"{"id":"00000001-1","proxy":"payment","from":"web","to":"payment","protocol":"http","started":"1970-01-01T00:00:00.000000Z","identity":null,"trace":null,"attempt":1,"request":{"method":null,"path":null,"bytes":0,"digest":null},"upstream":[{"sent_at":"1970-01-01T00:00:00.000001Z","answered_at":"1970-01-01T00:00:00.000002Z","status":201,"bytes":10,"digest":null,"error":null}],"client":{"address":null,"outcome":"left","status":null,"at":"1970-01-01T00:00:00.000003Z","bytes":0,"ended_at":null,"retry_after":null},"faults":[{"rule":"lost","kind":"response_loss","phase":"response","injected":true}],"class":"unseen","cause":{"rule":"lost"},"deliveries":1}"#);
        let back: Record = serde_json::from_str(&serde_json::to_string(&r).unwrap()).unwrap();
        assert_eq!(back.cause, Cause::Rule("lost".into()));
    }
}

//! What the API says: the shapes shared by the control plane and its clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::Ref;

use crate::clock::Timestamp;
use crate::operation::Direction;
use crate::rules::{Mode, Partition, Protocol, Rule, Shape, Sides, Ttl};
use crate::units;

/// What the schema of the file says of such a value; the document takes it from there.
fn defined(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

fn tls() -> Ref {
    defined("Tls")
}

fn proxy_protocol() -> Ref {
    defined("ProxyProtocol")
}

fn forwarded() -> Ref {
    defined("Forwarded")
}

fn matching() -> Ref {
    defined("Match")
}

fn schedule() -> Ref {
    defined("Schedule")
}

fn fault() -> Ref {
    defined("Fault")
}

/// A list with the generation that it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The change up to which it is true.
    pub generation: u64,
    /// In the order of definition.
    pub items: Vec<T>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// Under which decisions are drawn.
    pub seed: u64,
    /// The change that is in force.
    pub generation: u64,
    /// Since when it runs.
    pub started: Timestamp,
    /// All proxies.
    pub proxies: Vec<ProxyItem>,
    /// All rules.
    pub rules: Vec<RuleItem>,
    /// All partitions.
    pub partitions: Vec<PartitionItem>,
    /// The ledger.
    pub evidence: EvidenceStatus,
}

/// How full the ledger is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EvidenceStatus {
    /// Records in memory.
    pub records: usize,
    /// At most so many.
    pub capacity: usize,
    /// Lost so far.
    pub dropped: u64,
}

/// A proxy with how it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProxyItem {
    /// Unique among proxies.
    pub name: String,
    /// The service that calls.
    pub from: String,
    /// The service that is called.
    pub to: String,
    /// Whether it has a listener.
    pub enabled: bool,
    /// The address that is bound (with the port really taken), or was when it last had one.
    pub listen: String,
    /// As defined.
    pub upstream: String,
    /// What it carries.
    pub protocol: Protocol,
    /// As defined.
    pub connect_timeout: String,
    /// As defined.
    pub max_connections: usize,
    /// As defined; absent: it speaks no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = tls)]
    pub tls: Option<Value>,
    /// As defined; absent: it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = proxy_protocol)]
    pub proxy_protocol: Option<Value>,
    /// As defined; absent: the host that the client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// As defined; absent: it is told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = forwarded)]
    pub forwarded: Option<Value>,
    /// Client connections accepted so far.
    pub connections_total: u64,
    /// Client connections open now.
    pub connections_open: i64,
    /// Finished operations by class; classes with none are left out.
    pub operations: BTreeMap<String, u64>,
}

/// A rule: the same object as in the file, and how it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RuleItem {
    /// Unique among rules.
    pub name: String,
    /// Absent: every proxy the fault can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Vec<String>>,
    /// Whether it acts.
    pub enabled: bool,
    /// As in the file; an empty object matches all.
    #[serde(rename = "match")]
    #[schema(schema_with = matching)]
    pub matcher: Map<String, Value>,
    /// 0 to 1.
    pub probability: f64,
    /// The first so many matching operations are left alone.
    pub skip: u64,
    /// At most so many injections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// At most so many at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u64>,
    /// A duration or `forever`; absent where it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Selected and recorded, never injected.
    pub dry_run: bool,
    /// Where the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// When it acts while it is enabled; absent: all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schedule)]
    pub schedule: Option<Map<String, Value>>,
    /// One kind, one map.
    #[schema(schema_with = fault)]
    pub fault: Map<String, Value>,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

impl RuleItem {
    /// The kind of its fault.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.fault.keys().next().map_or("", String::as_str)
    }
}

/// A partition: the same object as in the file, and how it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PartitionItem {
    /// Unique among partitions.
    pub name: String,
    /// The groups, where they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<Vec<Vec<String>>>,
    /// Who is cut off from all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Vec<String>>,
    /// Who hears neighbours only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Vec<String>>,
    /// How services are split by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitItem>,
    /// What chance made of `split`, the services being those that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Vec<String>>>,
    /// These no longer hear the others; empty: nobody hears the other side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deaf: Vec<String>,
    /// What a cut connection meets.
    pub mode: Mode,
    /// Whether it is in force.
    pub enabled: bool,
    /// A duration or `forever`; absent where it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// When it acts while it is enabled; absent: all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schedule)]
    pub schedule: Option<Map<String, Value>>,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// How services are split by chance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SplitItem {
    /// In so many groups.
    pub groups: usize,
    /// These; absent: all that the proxies connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Absent: the process's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

fn ttl(ttl: Ttl) -> Option<String> {
    match ttl {
        Ttl::Unsaid => None,
        Ttl::Forever => Some("forever".to_owned()),
        Ttl::For(time) => Some(units::format_duration(time)),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// How a definition stands, besides its definition.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// `file` or `api`.
    pub source: String,
    /// Whether it acts now: it is enabled, and no schedule keeps it waiting.
    pub active: bool,
    /// When its schedule next lets it act, or keeps it from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_at: Option<Timestamp>,
    /// When it disables itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The controller that last touched it, where it gave a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The change that last touched it: its ETag.
    pub generation: u64,
    /// Operations that it chose.
    pub selected: u64,
    /// Operations in which it changed what a side saw, or that it cut.
    pub injected: u64,
}

impl RuleItem {
    /// The item of a rule.
    #[must_use]
    pub fn new(rule: &Rule, standing: Standing) -> Self {
        Self {
            name: rule.name.clone(),
            proxies: rule.proxies.clone(),
            enabled: rule.enabled,
            matcher: rule.matcher.to_json(),
            probability: rule.probability,
            skip: rule.skip,
            limit: rule.limit,
            max_active: rule.max_active,
            ttl: ttl(rule.ttl),
            dry_run: rule.dry_run,
            direction: rule.direction,
            schedule: rule.timetable.as_ref().map(|t| object(t.to_json())),
            fault: object(rule.fault.to_json()),
            standing,
        }
    }
}

impl PartitionItem {
    /// The item of a partition, where these are the services that there are and `seed` is the
    /// process's.
    #[must_use]
    pub fn new(partition: &Partition, services: &[&str], seed: u64, standing: Standing) -> Self {
        let mut item = Self {
            name: partition.name.clone(),
            between: None,
            isolate: None,
            ring: None,
            split: None,
            groups: None,
            deaf: partition.deaf.clone(),
            mode: partition.mode,
            enabled: partition.enabled,
            ttl: ttl(partition.ttl),
            schedule: partition.timetable.as_ref().map(|t| object(t.to_json())),
            standing,
        };
        match &partition.shape {
            Shape::Between(groups) => item.between = Some(groups.clone()),
            Shape::Isolate(list) => item.isolate = Some(list.clone()),
            Shape::Ring(list) => item.ring = Some(list.clone()),
            Shape::Split {
                groups,
                services,
                seed,
            } => {
                item.split = Some(SplitItem {
                    groups: *groups,
                    services: services.clone(),
                    seed: *seed,
                });
            }
        }
        if let (Some(_), Sides::Groups(groups)) = (&item.split, partition.sides(services, seed)) {
            item.groups = Some(groups.into_owned());
        }
        item
    }
}

/// A change, as it was made: `GET /v1/events`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventItem {
    /// Its number.
    pub generation: u64,
    /// When it took hold.
    pub at: Timestamp,
    /// On which way it came: `api`, `file`, `signal`, `ttl`, `schedule`, `heartbeat`, `state_file`,
    /// or `process`.
    pub via: String,
    /// Who asked for it, in words.
    pub by: String,
    /// The name that the controller gave itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// What it touched; a heal of nothing touches nothing.
    pub changes: Vec<TouchedItem>,
}

/// What became of one definition.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TouchedItem {
    /// `rule`, `partition` or `proxy`.
    pub sort: String,
    /// Of the definition.
    pub name: String,
    /// `made`, `replaced`, `enabled`, `disabled`, `began`, `paused` or `deleted`.
    pub what: String,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// The change that did it.
    pub generation: u64,
    /// What became another than it was.
    pub changed: Vec<TouchedItem>,
    /// The sections of the file that differ, and are read at the next start only.
    pub restart: Vec<String>,
}

/// `POST /v1/changes`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The number of the change; all of it took hold with it.
    pub generation: u64,
    /// The rules that it names, as they stand now.
    pub rules: Vec<RuleItem>,
    /// The partitions that it names, as they stand now.
    pub partitions: Vec<PartitionItem>,
}

/// How the name of a controller begins that is a drill.
pub const DRILL: &str = "drill:";

/// What a drill has on: `GET /v1/drills`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillItem {
    /// What the drill is called.
    pub name: String,
    /// As which controller it set them: one run of it.
    pub controller: String,
    /// Its rules that are enabled.
    pub rules: Vec<String>,
    /// Its partitions that are in force.
    pub partitions: Vec<String>,
    /// When the last of them ends by itself; absent: not all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// `POST /v1/heartbeat`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// Who is alive.
    pub controller: String,
    /// Within this time the next must come, or what the controller set is lifted; absent: nobody
    /// waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

/// `POST /v1/heal`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Healed {
    /// The change that did it.
    pub generation: u64,
    /// Rules that were enabled before.
    pub rules: Vec<String>,
    /// Partitions that were in force before.
    pub partitions: Vec<String>,
}

/// `{"error": {...}}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The one member.
    pub error: ErrorItem,
}

/// Why a request was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorItem {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where in the body: `fault.delay.latency`.
    pub path: Option<String>,
}

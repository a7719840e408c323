//! What the API says: the shapes shared by the control plane and its clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::operation::Direction;
use crate::rules::{Mode, Partition, Protocol, Rule, Ttl};
use crate::units;

/// A list with the generation that it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct List<T> {
    /// The change up to which it is true.
    pub generation: u64,
    /// In the order of definition.
    pub items: Vec<T>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EvidenceStatus {
    /// Records in memory.
    pub records: usize,
    /// At most so many.
    pub capacity: usize,
    /// Lost so far.
    pub dropped: u64,
}

/// A proxy with how it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProxyItem {
    /// Unique among proxies.
    pub name: String,
    /// The service that calls.
    pub from: String,
    /// The service that is called.
    pub to: String,
    /// The address that is bound (with the port really taken).
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
    pub tls: Option<Value>,
    /// As defined; absent: it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Value>,
    /// As defined; absent: the host that the client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// As defined; absent: it is told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Value>,
    /// Client connections accepted so far.
    pub connections_total: u64,
    /// Client connections open now.
    pub connections_open: i64,
    /// Finished operations by class; classes with none are left out.
    pub operations: BTreeMap<String, u64>,
}

/// A rule: the same object as in the file, and how it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// One kind, one map.
    pub fault: Map<String, Value>,
    /// `file` or `api`.
    pub source: String,
    /// When it disables itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Operations that it chose.
    pub selected: u64,
    /// Operations in which it changed what a side saw.
    pub injected: u64,
}

impl RuleItem {
    /// The kind of its fault.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.fault.keys().next().map_or("", String::as_str)
    }
}

/// A partition: the same object as in the file, and how it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartitionItem {
    /// Unique among partitions.
    pub name: String,
    /// The groups.
    pub between: Vec<Vec<String>>,
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
    /// `file` or `api`.
    pub source: String,
    /// When it disables itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Operations that it chose.
    pub selected: u64,
    /// Operations that it cut.
    pub injected: u64,
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
#[derive(Debug, Clone)]
pub struct Standing {
    /// `file` or `api`.
    pub source: String,
    /// When it disables itself.
    pub expires_at: Option<Timestamp>,
    /// Selected, injected.
    pub counts: (u64, u64),
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
            fault: object(rule.fault.to_json()),
            source: standing.source,
            expires_at: standing.expires_at,
            selected: standing.counts.0,
            injected: standing.counts.1,
        }
    }
}

impl PartitionItem {
    /// The item of a partition.
    #[must_use]
    pub fn new(partition: &Partition, standing: Standing) -> Self {
        Self {
            name: partition.name.clone(),
            between: partition.between.clone(),
            deaf: partition.deaf.clone(),
            mode: partition.mode,
            enabled: partition.enabled,
            ttl: ttl(partition.ttl),
            source: standing.source,
            expires_at: standing.expires_at,
            selected: standing.counts.0,
            injected: standing.counts.1,
        }
    }
}

/// `POST /v1/heal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Healed {
    /// The change that did it.
    pub generation: u64,
    /// Rules that were enabled before.
    pub rules: Vec<String>,
    /// Partitions that were in force before.
    pub partitions: Vec<String>,
}

/// `{"error": {...}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The one member.
    pub error: ErrorItem,
}

/// Why a request was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

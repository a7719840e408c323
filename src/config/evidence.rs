//! What is kept of what was observed, and how operations are recognised: `evidence`, `identity`.

use std::path::PathBuf;

use super::matching::pointer;
use super::node::Node;
use super::sections::file;
use crate::rules::{OwnId, PathPart};

/// What is kept of what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceConfig {
    /// Whether records are kept at all.
    pub enabled: bool,
    /// Records in memory, 1 to 10 000 000; past that the oldest give way.
    pub capacity: usize,
    /// Bytes that they may take up; past that the oldest give way.
    pub memory: u64,
    /// Where records are written as JSON Lines.
    pub file: Option<PathBuf>,
    /// When that file is too large.
    pub rotate: Option<Rotate>,
    /// Headers whose values are kept only as hashes.
    pub redact: Vec<String>,
    /// What else is.
    pub hash: Vec<Hashed>,
    /// Where the key for that stands; `None`: it is one of the process.
    pub hash_key_file: Option<PathBuf>,
}

/// When a file is too large, and how many older ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// In bytes.
    pub size: u64,
    /// 0 to 1000.
    pub keep: usize,
}

/// What of records can be kept only as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    /// Identities of operations.
    Identities,
    /// Paths of requests.
    Paths,
    /// Addresses of clients.
    Clients,
}

impl Hashed {
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("identities", Self::Identities),
        ("paths", Self::Paths),
        ("clients", Self::Clients),
    ];
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            capacity: 100_000,
            memory: 256 << 20,
            file: None,
            rotate: None,
            redact: Vec::new(),
            hash: Vec::new(),
            hash_key_file: None,
        }
    }
}

impl Rotate {
    /// Older files that are kept where nothing is said.
    pub(super) const KEEP: usize = 5;
}

pub(super) fn evidence(node: &Node<'_>) -> Option<EvidenceConfig> {
    node.map(|f| {
        let default = EvidenceConfig::default();
        let config = EvidenceConfig {
            enabled: f.or("enabled", default.enabled, Node::flag),
            capacity: f.or("capacity", default.capacity, |n| {
                n.count(1, 10_000_000).map(|n| n as usize)
            }),
            memory: f.or("memory", default.memory, Node::size),
            file: f.opt("file", file),
            rotate: f.opt("rotate", rotate),
            redact: f.or("redact", default.redact, |n| {
                n.texts("a list of headers", Node::header_name)
            }),
            hash: f.or("hash", default.hash, |n| {
                n.texts("a list of `identities`, `paths`, `clients`", |n| {
                    n.meaning(&Hashed::ALL)
                })
            }),
            hash_key_file: f.opt("hash_key_file", file),
        };
        let has = |key| node.value.get(key).is_some();
        let needs = [
            ("rotate", "file", "there is no file to rotate"),
            ("file", "enabled", "no record is kept that could be written"),
        ];
        for (key, other, why) in needs {
            let there = match other {
                "enabled" => config.enabled,
                other => has(other),
            };
            if has(key) && !there {
                let hint = format!("set `evidence.{other}`, or leave `{key}` out");
                node.key(key).problem_hint(why, hint);
            }
        }
        if has("hash_key_file") && config.hash.is_empty() && config.redact.is_empty() {
            node.key("hash_key_file").problem_hint(
                "nothing is hashed under it",
                "say in `hash` or `redact` what is to be",
            );
        }
        config
    })
}

fn rotate(node: &Node<'_>) -> Option<Rotate> {
    node.map(|f| {
        let size = f.need("size", "a size such as `100MiB`", Node::size);
        let keep = f.or("keep", Rotate::KEEP, |n| {
            n.count(0, 1000).map(|n| n as usize)
        });
        Some(Rotate { size: size?, keep })
    })?
}

pub(super) fn identity(node: &Node<'_>) -> Option<OwnId> {
    let part = |n: &Node<'_>| {
        const PATH: &str = "a path of which one segment is the id, such as `/orders/{id}/**`";
        let text = n.some_text(PATH)?;
        let part = PathPart::parse(&text);
        part.map_err(|why| n.wrong(PATH, Some(why.to_owned()))).ok()
    };
    let own = node.map(|f| OwnId {
        header: f.opt("header", Node::header_name),
        query: f.opt("query", |n| n.some_text("the name of a parameter")),
        path: f.or("path", Vec::new(), |n| {
            super::matching::one_or_more(n, "a path, or a list of paths", part)
        }),
        json: f.opt("json", |n| {
            let text = n.some_text("a JSON Pointer such as `/order/id`")?;
            pointer(n, &text);
            Some(text)
        }),
    })?;
    if own == OwnId::default()
        && ["header", "query", "path", "json"]
            .iter()
            .all(|key| node.value.get(key).is_none())
    {
        node.problem_hint(
            "does not say where the id is",
            "say `header`, `query`, `path` or `json`",
        );
    }
    Some(own)
}

//! The state file: what the API made, kept for the next start.
//!
//! It holds what differs from what the operator's file says: proxies, rules and partitions of the
//! API, and those of the file that were switched or altered. It is written whole after changes,
//! beside its place and then renamed, so that one that is there is never half written. Who makes a
//! change by the API is answered once it is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Timestamp;
use crate::config::{self, Config, Problems};
use crate::rules::Edge;
use crate::state::{Beside, Change, Defined, Restored, State, Stopping};

/// Another number is another shape, and not read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// So that what is drawn by chance stays as it was, where the file gives no seed.
    pub(super) seed: u64,
    proxies: Vec<Item>,
    rules: Vec<Item>,
    partitions: Vec<Item>,
}

/// One definition, as in a body of the API.
#[derive(Debug, Serialize, Deserialize)]
struct Item {
    definition: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// What the file said when it was altered. Where it says something else now, the file counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instead_of: Option<Value>,
}

impl Kept {
    fn of(beside: &Beside, seed: u64) -> Self {
        fn item<T>(defined: &Defined<T>, to_json: impl Fn(&T) -> Value) -> Item {
            Item {
                definition: to_json(&defined.definition),
                since: Some(defined.since),
                expires_at: defined.expires.map(|(_, at)| at),
                instead_of: defined.written.as_deref().map(to_json),
            }
        }
        let proxy = |(edge, written): &(Arc<Edge>, Option<Arc<Edge>>)| Item {
            definition: config::edge_to_json(edge),
            since: None,
            expires_at: None,
            instead_of: written.as_deref().map(config::edge_to_json),
        };
        let rules = beside.rules.iter();
        let partitions = beside.partitions.iter();
        Self {
            version: VERSION,
            seed,
            proxies: beside.edges.iter().map(proxy).collect(),
            rules: rules.map(|d| item(d, config::rule_to_json)).collect(),
            partitions: partitions
                .map(|d| item(d, config::partition_to_json))
                .collect(),
        }
    }
}

/// What an earlier process kept; `None`: there was none.
///
/// # Errors
/// The state file can't be read, or does not hold what it should.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| in_vain(path)),
    };
    let kept: Value = serde_json::from_str(&text).with_context(|| in_vain(path))?;
    // First: of another version the rest may be of another shape.
    let version = &kept["version"];
    anyhow::ensure!(
        *version == VERSION,
        "{}: it is of version {version}, and this Firedrill knows {VERSION}",
        in_vain(path),
    );
    let kept = serde_json::from_value(kept).with_context(|| in_vain(path))?;
    Ok(Some(kept))
}

/// What was kept in the file at `path`, where `config` is what the operator's file says now: all
/// proxies, and the changes to rules and partitions.
///
/// # Errors
/// Something in it is not as it must be.
pub(super) fn restore(
    path: &Path,
    kept: &Kept,
    config: &Config,
) -> anyhow::Result<(Vec<Edge>, Vec<Change>)> {
    let file_says = |section: &str, name: &str| match section {
        "proxies" => find(&config.proxies, |e| e.name == name, config::edge_to_json),
        "rules" => find(&config.rules, |r| r.name == name, config::rule_to_json),
        _ => find(
            &config.partitions,
            |p| p.name == name,
            config::partition_to_json,
        ),
    };
    let counts = |section: &str, item: &Item| {
        let name = item.definition["name"].as_str().unwrap_or_default();
        let counts = file_says(section, name) == item.instead_of;
        if !counts {
            tracing::warn!(
                "{section}: the file now says something else of {name:?}: what was kept of it is left"
            );
        }
        counts
    };
    let wrong = |section: &str, n: usize, problems: Problems| {
        anyhow::anyhow!("{}: {section}[{n}]: {problems}", in_vain(path))
    };
    let mut edges = config.proxies.clone();
    for (n, item) in kept.proxies.iter().enumerate() {
        if counts("proxies", item) {
            let edge = config::edge_from_json(&item.definition);
            let edge = edge.map_err(|problems| wrong("proxies", n, problems))?;
            edges.retain(|e| e.name != edge.name);
            edges.push(edge);
        }
    }
    let mut changes = Vec::new();
    for (n, item) in kept.rules.iter().enumerate() {
        if counts("rules", item) {
            let rule = config::rule_from_json(&item.definition, &edges);
            let rule = rule.map_err(|problems| wrong("rules", n, problems))?;
            let rule = restored(rule, item);
            changes.push(Change::RestoreRule(rule));
        }
    }
    for (n, item) in kept.partitions.iter().enumerate() {
        if counts("partitions", item) {
            let partition = config::partition_from_json(&item.definition, &edges);
            let partition = partition.map_err(|problems| wrong("partitions", n, problems))?;
            let partition = restored(partition, item);
            changes.push(Change::RestorePartition(partition));
        }
    }
    Ok((edges, changes))
}

fn in_vain(path: &Path) -> String {
    format!(
        "control.state_file: {} can't be restored (delete it to start without)",
        path.display()
    )
}

fn find<T>(list: &[T], is: impl Fn(&T) -> bool, to_json: impl Fn(&T) -> Value) -> Option<Value> {
    list.iter().find(|item| is(item)).map(to_json)
}

fn restored<T>(definition: T, item: &Item) -> Restored<T> {
    Restored {
        definition,
        since: item.since.unwrap_or_else(Timestamp::now),
        expires: item.expires_at,
    }
}

/// Writes the state file after each change.
#[derive(Debug)]
pub(super) struct Keeper {
    writing: JoinHandle<()>,
    /// The generation that is kept.
    pub(super) kept: watch::Receiver<u64>,
}

impl Keeper {
    /// Begins, and writes the file once.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn start(path: PathBuf, state: Arc<State>) -> anyhow::Result<Self> {
        let first = state.beside_the_file();
        write(&path, &Kept::of(&first, state.seed()))
            .with_context(|| format!("control.state_file: can't write {}", path.display()))?;
        let (told, kept) = watch::channel(first.generation);
        let writing = tokio::spawn(async move {
            let mut said = false;
            while state.stopping() == Stopping::No {
                let changed = state.changed();
                if state.generation() == *told.borrow() {
                    changed.await;
                    continue;
                }
                let (state, file) = (Arc::clone(&state), path.clone());
                let written = tokio::task::spawn_blocking(move || {
                    let beside = state.beside_the_file();
                    (
                        beside.generation,
                        write(&file, &Kept::of(&beside, state.seed())),
                    )
                });
                // It does not panic, and is not aborted while this task runs.
                let Ok((generation, written)) = written.await else {
                    return;
                };
                match written {
                    Ok(()) => said = false,
                    Err(error) if !said => {
                        said = true;
                        tracing::error!(%error, "{}: changes are not kept", path.display());
                    }
                    Err(_) => {}
                }
                told.send_replace(generation);
            }
        });
        Ok(Self { writing, kept })
    }

    /// Keeps what stands now, and nothing that comes after: stopping lifts everything.
    pub(super) async fn end(mut self, generation: u64) {
        // An error means that it has ended by itself.
        let _ = self.kept.wait_for(|kept| *kept >= generation).await;
        self.writing.abort();
        // That it was aborted is how it ends.
        let _ = self.writing.await;
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let text = serde_json::to_vec_pretty(kept).map_err(io::Error::from)?;
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

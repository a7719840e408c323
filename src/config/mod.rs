//! The file: YAML to settings, proxies, rules and partitions, or every problem in one go.
//!
//! Text becomes a tree (`yaml`; broken syntax ends there), variables are put into it (`variables`),
//! what the command line says joins it (`given`), and it is decoded by functions that read like the
//! file's documentation (`node`), driven by the registry where faults are concerned.
//! Each problem has a path, what was expected, the nearest right word, and for a file the line and
//! column (`places`). JSON bodies of the API meet the same decoder; they have paths only.
//!
//! Knows nothing of what is done with a [`Config`]. Reading the file, and what it names to be read
//! (certificates, keys, headers), is the only I/O.

mod address;
pub mod drill;
mod evidence;
mod faults;
mod files;
mod given;
mod matching;
mod node;
mod partitions;
mod places;
mod problem;
mod proxies;
mod report;
mod rules;
mod scalars;
mod schema;
mod sections;
mod timetable;
mod tls;
mod toxiproxy;
mod traces;
mod upstreams;
mod value;
mod variables;
mod write;
mod yaml;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::rules::{Edge, OwnId, Partition, Rule};
use node::Node;
use proxies::{Known, items};
use report::Report;
use value::Value;
use variables::Lookup;

pub use drill::Drill;
pub use evidence::{EvidenceConfig, Hashed, Rotate};
pub use given::Given;
pub use node::nearest;
pub use problem::{Problem, Problems};
pub use schema::{drill_schema, schema};
pub use sections::{ControlConfig, LimitsConfig, MetricsConfig};
pub use tls::{CA_CERTIFICATE, CA_KEY, system_roots};
pub use toxiproxy::{Fields, ToxiproxyProxy, add_toxiproxy, read_go};
pub use traces::TracesConfig;
pub use upstreams::Upstreams;
pub use write::{
    edge_to_json, forwarded_to_json, partition_to_json, proxy_protocol_to_json, rule_to_json,
};

/// What a file says.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Absent: to be chosen.
    pub seed: Option<u64>,
    /// The control API.
    pub control: ControlConfig,
    /// The second port, if any.
    pub metrics: Option<MetricsConfig>,
    /// What is kept of what was observed.
    pub evidence: EvidenceConfig,
    /// Where operations are sent as spans, if anywhere.
    pub traces: Option<TracesConfig>,
    /// Where this team's own id of an operation is.
    pub identity: OwnId,
    /// What faults may hold and how long things are waited for.
    pub limits: LimitsConfig,
    /// Unique by name and by address.
    pub proxies: Vec<Edge>,
    /// In the order in which they act.
    pub rules: Vec<Rule>,
    /// They come before rules.
    pub partitions: Vec<Partition>,
}

/// Keys of the API's answers that may come back with a rule or a partition.
const READ_ONLY: &[&str] = &[
    "source",
    "expires_at",
    "selected",
    "injected",
    "active",
    "turns_at",
    "generation",
    "controller",
    "groups",
];

/// Keys of the API's answers that may come back with a proxy.
const PROXY_READ_ONLY: &[&str] = &["connections_total", "connections_open", "operations"];

/// Reads and decodes a file. Relative paths in it are relative to its folder.
///
/// # Errors
/// Everything that is wrong with it; that it can't be read, too.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(Some(path), &Given::default())
}

/// The same with what the command line says, or that alone.
///
/// # Errors
/// Everything that is wrong with either.
pub fn load_with(path: Option<&Path>, given: &Given) -> Result<Config, Problems> {
    let file = path.map(|path| path.display().to_string());
    let text = match path.zip(file.as_deref()) {
        Some((path, file)) => read(path, file)?,
        None => String::new(),
    };
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let text = Text {
        text: &text,
        file: file.as_deref(),
        folder,
    };
    let mut config = text.parse(given, &variables::environment)?;
    let resolve = |path: &mut Option<PathBuf>| {
        if let Some(path) = path {
            *path = folder.join(&*path);
        }
    };
    resolve(&mut config.control.token_file);
    resolve(&mut config.control.state_file);
    resolve(&mut config.control.read_token_file);
    resolve(&mut config.evidence.file);
    resolve(&mut config.evidence.hash_key_file);
    if given.token_file.is_some() {
        config.control.token_file.clone_from(&given.token_file);
    }
    Ok(config)
}

fn read(path: &Path, file: &str) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much, even of a file without end.
    let read = File::open(path).and_then(|opened| {
        let mut opened = opened.take(yaml::MAX_BYTES as u64 + 1);
        opened.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "is the path right? It is relative to where you are",
            std::io::ErrorKind::PermissionDenied => "may this user read it?",
            _ => "it must be a YAML file",
        };
        let message = format!("can't be read: {error}");
        return Err(Problems::of_the_file(file, message, Some(hint)));
    }
    if bytes.len() > yaml::MAX_BYTES {
        let message = format!("longer than {} MiB", yaml::MAX_BYTES >> 20);
        return Err(Problems::of_the_file(file, message, None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
        let (line, column) = yaml::end_of(&good);
        let mut problems = Problems::of_the_file(
            file,
            "is not UTF-8 from here on".to_owned(),
            Some("save it as UTF-8"),
        );
        for problem in &mut problems.list {
            (problem.line, problem.column) = (Some(line), Some(column));
        }
        problems
    })
}

/// Decodes a text. `file` is how problems call it; relative paths stay as they are.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str) -> Result<Config, Problems> {
    let (file, folder) = (Some(file), Path::new(""));
    let text = Text { text, file, folder };
    text.parse(&Given::default(), &variables::environment)
}

/// A file, as what it is.
#[derive(Debug)]
pub enum AnyFile {
    /// Proxies, and what goes wrong with them.
    Config(Box<Config>),
    /// A drill.
    Drill(Box<Drill>),
}

/// Reads and decodes a file of either sort; a drill's is known by its words.
///
/// # Errors
/// Everything that is wrong with it; that it can't be read, too.
pub fn load_any(path: &Path) -> Result<AnyFile, Problems> {
    let file = path.display().to_string();
    let text = read(path, &file)?;
    let (file, folder) = (Some(file.as_str()), Path::new(""));
    let tree = Text {
        text: &text,
        file,
        folder,
    }
    .tree()?;
    if drill::KEYS.iter().any(|key| tree.get(key).is_some()) {
        load_drill(path).map(Box::new).map(AnyFile::Drill)
    } else {
        load(path).map(Box::new).map(AnyFile::Config)
    }
}

/// Reads and decodes a drill's file. One without a name is called after its file.
///
/// # Errors
/// Everything that is wrong with it; that it can't be read, too.
pub fn load_drill(path: &Path) -> Result<Drill, Problems> {
    let file = path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = read(path, &file)?;
    let text = Text {
        text: &text,
        file: Some(&file),
        folder,
    };
    let mut drill = text.drill(&variables::environment)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    drill
        .name
        .get_or_insert_with(|| stem.unwrap_or_default().into_owned());
    Ok(drill)
}

/// Decodes the text of a drill's file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_drill(text: &str, file: &str) -> Result<Drill, Problems> {
    let (file, folder) = (Some(file), Path::new(""));
    Text { text, file, folder }.drill(&variables::environment)
}

/// A text, what problems call it, and where relative paths in it start from.
struct Text<'t> {
    text: &'t str,
    /// `None`: there is none, and the text is empty.
    file: Option<&'t str>,
    folder: &'t Path,
}

impl Text<'_> {
    /// What it holds, before anything is asked of it.
    fn tree(&self) -> Result<Value, Problems> {
        let tree = yaml::read(self.text).map_err(|problem| Problems {
            file: self.file.map(str::to_owned),
            list: vec![problem],
        })?;
        // A file in which everything is commented out says nothing, which is allowed.
        Ok(match tree {
            Value::Null => Value::Map(Vec::new()),
            tree => tree,
        })
    }

    fn parse(&self, given: &Given, variables: Lookup<'_>) -> Result<Config, Problems> {
        let mut tree = self.tree()?;
        let mut report = Report::of_file_in(self.folder);
        variables::put_in(&mut tree, &mut report, variables);
        let values = given::Values::read(given, &mut report);
        let config = config(&Node::root(&tree, &report), given, &values);
        report.finish(self.file, Some(self.text))?;
        Ok(config.unwrap_or_default())
    }

    fn drill(&self, variables: Lookup<'_>) -> Result<Drill, Problems> {
        let mut tree = self.tree()?;
        let mut report = Report::of_file_in(self.folder);
        variables::put_in(&mut tree, &mut report, variables);
        let drill = drill::drill(&Node::root(&tree, &report));
        report.finish(self.file, Some(self.text))?;
        // Whoever gives nothing has reported why.
        drill.ok_or_else(|| Problems {
            file: self.file.map(str::to_owned),
            list: vec![Problem::of_the_whole("can't be read".to_owned(), None)],
        })
    }
}

fn config(node: &Node<'_>, given: &Given, values: &given::Values) -> Option<Config> {
    let report = node.report();
    node.map(|f| {
        let seed = f.opt("seed", Node::whole);
        let mut control = f.section("control", sections::control);
        let mut metrics = f.section("metrics", sections::metrics);
        let evidence = f.section("evidence", evidence::evidence);
        let traces = f.section("traces", traces::traces);
        if traces.is_some() && !evidence.enabled {
            node.key("traces").its_key().problem_hint(
                "no record is kept that could be sent",
                "set `evidence.enabled`, or leave `traces` out",
            );
        }
        let identity = f.section("identity", evidence::identity);
        let mut limits = f.section("limits", sections::limits);

        let section = node.key("control");
        control.insecure |= given.without_token;
        let listen = values.control(&mut control, report);
        let listen = listen.unwrap_or_else(|| section.key("listen"));
        let has_token = given.token_file.is_some() || section.value.get("token_file").is_some();
        sections::guard(&listen, &control, has_token);
        let scraped = values.metrics(&mut metrics, report);
        let scraped = scraped.unwrap_or_else(|| node.key("metrics").key("listen"));
        let mut taken = vec![("`control.listen`".to_owned(), control.listen.clone())];
        if let Some(metrics) = &metrics {
            let at = |text: &str| address::Address::parse(text).ok();
            let both = at(&metrics.listen).zip(at(&control.listen));
            if both.is_some_and(|(a, b)| a.clashes(&b)) {
                let message = format!(
                    "this address is taken by `control.listen`, `{}`",
                    control.listen
                );
                scraped.problem_hint(
                    message,
                    "leave `metrics` out: the control API has /metrics as well",
                );
            }
            taken.push(("`metrics.listen`".to_owned(), metrics.listen.clone()));
        }
        limits.drain = values.drain(report).unwrap_or(limits.drain);
        let said = values.proxies(report, &taken);
        let by_flag = said.iter();
        taken.extend(by_flag.map(|(flag, edge)| (format!("`{flag}`"), edge.listen.clone())));
        let mut known = f.section("proxies", |n| proxies::proxies(n, &taken));
        given::add(&node.key("proxies"), values, said, &mut known);
        let rules = f.section("rules", |n| {
            items(n, "rules", |item| rules::rule(item, &known, &[]))
        });
        let partitions = f.section("partitions", |n| {
            items(n, "partitions", |item| {
                partitions::partition(item, &known, &[])
            })
        });
        Config {
            seed,
            control,
            metrics,
            evidence,
            traces,
            identity,
            limits,
            proxies: known.edges,
            rules,
            partitions,
        }
    })
}

/// Decodes a JSON body with one decoder.
fn from_json<T>(
    body: &serde_json::Value,
    read: impl FnOnce(&Node<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let tree = Value::from(body);
    let report = Report::default();
    let read = read(&Node::root(&tree, &report));
    report.finish(None, None)?;
    // Whoever gives nothing has reported why.
    read.ok_or_else(|| Problems {
        file: None,
        list: vec![Problem::of_the_whole("can't be read".to_owned(), None)],
    })
}

/// Decodes a rule. `edges`: the proxies that exist now.
///
/// What answers add to a rule (`source`, `expires_at`, `selected`, `injected`) is ignored.
///
/// # Errors
/// Everything that is wrong with it.
pub fn rule_from_json(body: &serde_json::Value, edges: &[Edge]) -> Result<Rule, Problems> {
    let known = Known::exactly(edges);
    from_json(body, |node| rules::rule(node, &known, READ_ONLY))
}

/// Decodes a partition. `edges`: the proxies that exist now.
///
/// # Errors
/// Everything that is wrong with it.
pub fn partition_from_json(
    body: &serde_json::Value,
    edges: &[Edge],
) -> Result<Partition, Problems> {
    let known = Known::exactly(edges);
    from_json(body, |node| partitions::partition(node, &known, READ_ONLY))
}

/// Decodes a proxy.
///
/// What answers add to a proxy (`connections_total`, `connections_open`, `operations`) is ignored.
///
/// # Errors
/// Everything that is wrong with it.
pub fn edge_from_json(body: &serde_json::Value) -> Result<Edge, Problems> {
    from_json(body, |node| proxies::proxy(node, PROXY_READ_ONLY))
}

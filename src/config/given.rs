//! What the command line says besides a file, or instead of one.
//!
//! It meets the file's decoder: the same values, the same messages, all problems in one go with
//! those of the file. What stands here beats what stands there; proxies are added.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;
use super::node::Node;
use super::places::Step;
use super::proxies::{self, Known};
use super::report::Report;
use super::sections::{ControlConfig, MetricsConfig};
use super::value::{Value, quoted, shown};
use crate::rules::Edge;

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Proxies, as `NAME=LISTEN->UPSTREAM?KEY=VALUE&…`.
    pub proxies: Vec<String>,
    /// `control.listen`.
    pub control: Option<String>,
    /// `control.token_file`; relative to where the process runs.
    pub token_file: Option<PathBuf>,
    /// `control.insecure`.
    pub without_token: bool,
    /// `metrics.listen`.
    pub metrics: Option<String>,
    /// `limits.drain`.
    pub drain: Option<String>,
}

const PROXY: &str = "`NAME=LISTEN->UPSTREAM`, such as `payment=0.0.0.0:7001->payment:8080`";

/// The same as values, for nodes to borrow.
#[derive(Debug)]
pub(super) struct Values {
    proxies: Vec<(String, Value)>,
    control: Option<Value>,
    metrics: Option<Value>,
    drain: Option<Value>,
}

impl Values {
    /// Reads what is given. What is no proxy is reported.
    pub(super) fn read(given: &Given, report: &mut Report) -> Self {
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let proxies = given.proxies.iter();
        Self {
            proxies: proxies.filter_map(|spec| proxy(spec, report)).collect(),
            control: text(&given.control),
            metrics: text(&given.metrics),
            drain: text(&given.drain),
        }
    }

    /// Puts the address of the control port into what the file says. Answers where it stands, if it
    /// stands here.
    pub(super) fn control<'a>(
        &'a self,
        control: &mut ControlConfig,
        report: &'a Report,
    ) -> Option<Node<'a>> {
        let node = Node::of_flag("--control", self.control.as_ref()?, report);
        control.listen = node.listen().unwrap_or_default();
        Some(node)
    }

    /// The same of the second port.
    pub(super) fn metrics<'a>(
        &'a self,
        metrics: &mut Option<MetricsConfig>,
        report: &'a Report,
    ) -> Option<Node<'a>> {
        let node = Node::of_flag("--metrics", self.metrics.as_ref()?, report);
        *metrics = node.listen().map(|listen| MetricsConfig { listen });
        Some(node)
    }

    /// How long what stands may take to end, if it is said here.
    pub(super) fn drain(&self, report: &Report) -> Option<Duration> {
        Node::of_flag("--drain", self.drain.as_ref()?, report).duration()
    }

    /// The proxies, each with how messages call it. `taken`: where else the process listens.
    pub(super) fn proxies(
        &self,
        report: &Report,
        taken: &[(String, String)],
    ) -> Vec<(String, Edge)> {
        let mut edges: Vec<(String, Edge)> = Vec::new();
        for (flag, value) in &self.proxies {
            let node = Node::of_flag(flag, value, report);
            let Some(edge) = proxies::proxy(&node, &[]) else {
                continue;
            };
            if edges.iter().any(|(_, other)| other.name == edge.name) {
                node.problem(format!("the name {} stands here twice", quoted(&edge.name)));
            }
            let own = Address::parse(&edge.listen).ok();
            let others = edges
                .iter()
                .map(|(flag, e)| (format!("`{flag}`"), &e.listen));
            let taken = taken.iter().map(|(whose, listen)| (whose.clone(), listen));
            let mut taken = taken.chain(others);
            let clash = taken.find(|(_, listen)| {
                let other = Address::parse(listen).ok();
                own.as_ref().zip(other).is_some_and(|(a, b)| a.clashes(&b))
            });
            if let Some((whose, at)) = clash {
                let message = format!("this address is taken by {whose}, `{at}`");
                node.key("listen").problem(message);
            }
            edges.push((flag.clone(), edge));
        }
        edges
    }
}

/// A proxy as a map such as stands in a file, whose values have no type of their own.
fn proxy(spec: &str, report: &mut Report) -> Option<(String, Value)> {
    let ends = spec.split_once('=').and_then(|(name, ends)| {
        let (listen, upstream) = ends.split_once("->")?;
        Some((name, listen, upstream))
    });
    let Some((name, listen, upstream)) = ends else {
        let message = format!("expected {PROXY}, found {}", quoted(spec));
        let hint = match spec.contains('>') {
            true => None,
            // A shell has taken the rest for the name of a file.
            false => Some("in a shell it stands between quotes".to_owned()),
        };
        report.spoilt(vec![Step::Flag("--proxy".to_owned())], message, hint);
        return None;
    };
    let flag = format!("--proxy {}", shown(name));
    let (upstream, rest) = upstream.split_once('?').unwrap_or((upstream, ""));
    let rest = rest.split('&').filter(|pair| !pair.is_empty());
    let rest = rest.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = [("name", name), ("listen", listen), ("upstream", upstream)];
    let entries = pairs.into_iter().chain(rest).map(|(key, value)| {
        report.untyped(vec![Step::Flag(flag.clone()), Step::Key(key.to_owned())]);
        (key.to_owned(), Value::Text(value.to_owned()))
    });
    let map = Value::Map(entries.collect());
    Some((flag, map))
}

/// Adds proxies to those of the file: rules and partitions may speak of them.
pub(super) fn add(node: &Node<'_>, values: &Values, given: Vec<(String, Edge)>, known: &mut Known) {
    if values.proxies.len() > given.len() {
        known.doubt(None);
    }
    for (flag, edge) in given {
        let name = Some(edge.name.as_str());
        let items = node.value.items().iter().enumerate();
        for (n, _) in items.filter(|(_, item)| item.text("name") == name) {
            let message = format!("the name {} is taken by `{flag}`", quoted(&edge.name));
            node.index(n).key("name").problem(message);
        }
        known.edges.push(edge);
    }
}

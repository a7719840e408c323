//! Probes: what is asked of something outside, and how often.

use std::time::Duration;

use super::super::matching::{by_pointer, statuses};
use super::super::node::{Fields, Node};
use super::super::proxies::Known;
use super::super::value::Value;
use super::conditions::bounds;
use super::load::{request, url, usual_statuses, words};
use super::{Asked, Check, CommandLine, CommandProbe, HttpProbe, JsonCheck, JsonIs, Request};

/// From one time to the next, where the file does not say.
pub(in crate::config) const EVERY: Duration = Duration::from_secs(1);
/// How long an answer is awaited, where the file does not say.
pub(in crate::config) const TIMEOUT: Duration = Duration::from_secs(5);

const VALUES: &str = "a map of JSON Pointers such as `{ /status: ok, /charges: { at_most: 1 } }`";

fn asked(f: &mut Fields<'_, '_>) -> Asked {
    Asked {
        every: f.or("every", EVERY, Node::time),
        timeout: f.or("timeout", TIMEOUT, Node::time),
        share: f.or("share", 1.0, Node::probability),
    }
}

pub(super) fn http(node: &Node<'_>, known: &Known) -> Option<Check> {
    node.map(|f| {
        let request = request(f, node, known, false);
        let probe = HttpProbe {
            statuses: f.or("status", usual_statuses(), statuses),
            contains: f.opt("contains", |n| n.some_text("a text")),
            json: f.or("json", Vec::new(), json),
            asked: asked(f),
            request: request?,
        };
        Some(Check::Http(Box::new(probe)))
    })?
}

pub(super) fn tcp(node: &Node<'_>) -> Option<Check> {
    const ADDRESS: &str = "an address such as `127.0.0.1:5432`";
    node.map(|f| {
        let address = f.need("address", ADDRESS, Node::upstream);
        let asked = asked(f);
        address.map(|address| Check::Tcp { address, asked })
    })?
}

pub(super) fn command(node: &Node<'_>) -> Option<Check> {
    node.map(|f| {
        let run = f.need("run", "a command, or a line for the shell", words);
        let exit = f.or("exit", 0, |n| n.count(0, 255));
        let json = f.or("json", Vec::new(), json);
        let asked = asked(f);
        let probe = CommandProbe {
            run: CommandLine {
                words: run?,
                timeout: asked.timeout,
            },
            exit: exit as u8,
            json,
            asked,
        };
        Some(Check::Command(Box::new(probe)))
    })?
}

pub(super) fn prometheus(node: &Node<'_>) -> Option<Check> {
    const SERVER: &str = "where its API is, such as `http://127.0.0.1:9090`";
    node.map(|f| {
        let url = f.need("url", SERVER, |n| url(n, false));
        let query = f.need("query", "a query in PromQL", |n| {
            n.some_text("a query in PromQL")
        });
        let is = bounds(f, node, "a number", number);
        let asked = asked(f);
        let (to, path) = url?;
        let url = Request {
            to,
            path: path.trim_end_matches('/').to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
        };
        Some(Check::Prometheus {
            url,
            query: query?,
            is: is?,
            asked,
        })
    })?
}

fn number(node: &Node<'_>) -> Option<f64> {
    match node.value {
        Value::Int(n, _) => Some(*n as f64),
        Value::Float(n, _) if n.is_finite() => Some(*n),
        _ => {
            node.wrong("a number", None);
            None
        }
    }
}

fn json(node: &Node<'_>) -> Option<Vec<JsonCheck>> {
    let values = by_pointer(node, VALUES, value)?;
    let check = |(pointer, is)| JsonCheck { pointer, is };
    Some(values.into_iter().map(check).collect())
}

/// A value, or what a number or a length is compared with.
fn value(node: &Node<'_>) -> Option<JsonIs> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(JsonIs::Equal(node.value.into()));
    }
    node.map(|f| {
        if let Some(length) = f.get("length") {
            if let Value::Int(..) = length.value {
                let n = length.whole()? as f64;
                return Some(JsonIs::Length(super::Bounds(vec![(
                    super::Comparison::Equals,
                    n,
                )])));
            }
            let read = length.map(|f| bounds(f, &length, "a length", number))?;
            return read.map(JsonIs::Length);
        }
        bounds(f, node, "a number", number).map(JsonIs::Number)
    })?
}

//! Proxies as Toxiproxy defines them, in its file and in its API's bodies: JSON as Go reads it.
//!
//! Keys are found whatever their case, unknown ones say nothing, `null` keeps the default, and what
//! follows the first value is not looked at.

use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;

use serde_json::{Map, Value};

use super::Config;
use super::address::Address;
use super::problem::{Problem, Problems};
use crate::rules::Edge;

/// Reads the first value of a body.
///
/// # Errors
/// In Go's words.
pub fn read_go(bytes: &[u8]) -> Result<Value, String> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    match values.next() {
        None => Err("EOF".to_owned()),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err("unexpected EOF".to_owned()),
        Some(Err(error)) => {
            let before = error.line().saturating_sub(1);
            let line = bytes.split(|b| *b == b'\n').nth(before).unwrap_or_default();
            let at = line.get(error.column().saturating_sub(1)).copied();
            Err(match at {
                Some(byte) if byte.is_ascii_graphic() => format!(
                    "invalid character '{}' looking for beginning of value",
                    byte as char
                ),
                _ => error.to_string(),
            })
        }
    }
}

/// The keys of an object of Go's, for what it is read into.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Its name in messages.
    of: &'static str,
    keys: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The keys of `value`, which is read into a struct `of`.
    ///
    /// # Errors
    /// It is no object.
    pub fn of(value: &'a Value, of: &'static str) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self { of, keys: None }),
            Value::Object(keys) => Ok(Self {
                of,
                keys: Some(keys),
            }),
            other => Err(format!(
                "json: cannot unmarshal {} into Go value of type {of}",
                sort(other)
            )),
        }
    }

    /// What stands at `key`; `None`: nothing does, or `null`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        let all = self.keys.into_iter().flatten();
        let named = all.filter(|(name, _)| name.eq_ignore_ascii_case(key));
        named
            .map(|(_, value)| value)
            .rfind(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, value: &Value, kind: &str) -> String {
        let found = match value {
            Value::Number(number) => format!("number {number}"),
            other => sort(other).to_owned(),
        };
        let of = self.of;
        format!("json: cannot unmarshal {found} into Go struct field {of}.{key} of type {kind}")
    }

    /// A text.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self, key: &str) -> Result<Option<String>, String> {
        let read = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(key, other, "string")),
        };
        self.get(key).map(read).transpose()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is neither.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        let read = |value: &Value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(key, value, "bool"))
        };
        self.get(key).map(read).transpose()
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is none, or spelt as another.
    pub fn whole(&self, key: &str) -> Result<Option<i64>, String> {
        let read = |value: &Value| {
            value
                .as_i64()
                .ok_or_else(|| self.wrong(key, value, "int64"))
        };
        self.get(key).map(read).transpose()
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub fn real(&self, key: &str, kind: &str) -> Result<Option<f64>, String> {
        let read = |value: &Value| value.as_f64().ok_or_else(|| self.wrong(key, value, kind));
        self.get(key).map(read).transpose()
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is said of a proxy; what is not said is `None`.
#[derive(Debug, Clone, Default)]
pub struct ToxiproxyProxy {
    /// Of the proxy.
    pub name: Option<String>,
    /// Where it listens: a host may be missing, or all of it.
    pub listen: Option<String>,
    /// Where it leads.
    pub upstream: Option<String>,
    /// Whether it has a listener.
    pub enabled: Option<bool>,
}

impl ToxiproxyProxy {
    /// Reads one.
    ///
    /// # Errors
    /// In Go's words.
    pub fn read(value: &Value) -> Result<Self, String> {
        let fields = Fields::of(value, "Proxy")?;
        Ok(Self {
            name: fields.text("name")?.filter(|name| !name.is_empty()),
            listen: fields.text("listen")?,
            upstream: fields
                .text("upstream")?
                .filter(|upstream| !upstream.is_empty()),
            enabled: fields.flag("enabled")?,
        })
    }

    /// The first key that is needed and missing.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        match (&self.name, &self.upstream) {
            (None, _) => Some("name"),
            (_, None) => Some("upstream"),
            _ => None,
        }
    }

    /// Lays it over `edge`, which has its name.
    ///
    /// # Errors
    /// What can't be had here, though Toxiproxy would take it: names and addresses that no file and
    /// no body could have, so that neither could tell of it again.
    pub fn lay_over(&self, mut edge: Edge) -> Result<Edge, Problem> {
        if let Some(listen) = &self.listen {
            edge.listen = with_host(listen);
        }
        if let Some(upstream) = &self.upstream {
            edge.upstream.clone_from(upstream);
        }
        edge.enabled = self.enabled.unwrap_or(edge.enabled);
        let ends = Edge::new(&edge.name, &edge.listen, &edge.upstream);
        match super::edge_from_json(&super::edge_to_json(&ends)) {
            Ok(_) => Ok(edge),
            Err(problems) => Err(first(problems)),
        }
    }

    /// The proxy, with all else at its default, where nothing is [missing](Self::missing).
    ///
    /// # Errors
    /// See [`ToxiproxyProxy::lay_over`].
    pub fn to_edge(&self) -> Result<Edge, Problem> {
        let (name, upstream) = (self.name.as_deref(), self.upstream.as_deref());
        let edge = Edge::new(
            name.unwrap_or_default(),
            &with_host(""),
            upstream.unwrap_or_default(),
        );
        self.lay_over(edge)
    }
}

/// The first of some problems.
fn first(problems: Problems) -> Problem {
    let first = problems.list.into_iter().next();
    first.unwrap_or_else(|| Problem::of_the_whole("it is not valid".to_owned(), None))
}

/// An address as Go listens on it: without a host it is every interface, without anything any port.
fn with_host(listen: &str) -> String {
    let port = match listen {
        "" => "0",
        _ => match listen.strip_prefix(':') {
            Some(port) => port,
            None => return listen.to_owned(),
        },
    };
    // Some machines have no IPv6.
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => format!("[::]:{port}"),
        Err(_) => format!("0.0.0.0:{port}"),
    }
}

/// Adds the proxies of a file as Toxiproxy's `-config` has it: a list. Unknown keys say nothing, as
/// there.
///
/// # Errors
/// Everything that is wrong with it; then nothing is added.
pub fn add_toxiproxy(config: &mut Config, path: &Path) -> Result<(), Problems> {
    let file = path.display().to_string();
    let list = read_list(path, &file)?;
    let mut edges: Vec<Edge> = Vec::new();
    let mut problems = Vec::new();
    for (n, item) in list.iter().enumerate() {
        let known = || config.proxies.iter().chain(&edges);
        match proxy_of(item).and_then(|edge| is_free(&edge, config, known()).map(|()| edge)) {
            Ok(edge) => edges.push(edge),
            Err(problem) => {
                let dot = if problem.path.is_empty() { "" } else { "." };
                let path = format!("[{n}]{dot}{}", problem.path);
                problems.push(Problem { path, ..problem });
            }
        }
    }
    if !problems.is_empty() {
        let (file, list) = (Some(file), problems);
        return Err(Problems { file, list });
    }
    config.proxies.append(&mut edges);
    Ok(())
}

fn read_list(path: &Path, file: &str) -> Result<Vec<Value>, Problems> {
    const HINT: &str = "expected a JSON list of objects with `name`, `listen`, `upstream` and, if need be, `enabled`";
    match serde_json::from_str(&super::read(path, file)?) {
        Ok(Value::Array(list)) => Ok(list),
        Ok(_) => {
            let message = "is no list of proxies".to_owned();
            Err(Problems::of_the_file(file, message, Some(HINT)))
        }
        Err(error) => {
            let said = error.to_string();
            let said = said.split(" at line ").next().unwrap_or_default();
            let message = format!("is no JSON: {said}");
            let mut problems = Problems::of_the_file(file, message, Some(HINT));
            for problem in &mut problems.list {
                (problem.line, problem.column) = (Some(error.line()), Some(error.column().max(1)));
            }
            Err(problems)
        }
    }
}

fn proxy_of(item: &Value) -> Result<Edge, Problem> {
    let said =
        ToxiproxyProxy::read(item).map_err(|message| Problem::of_the_whole(message, None))?;
    match said.missing() {
        Some(missing) => Err(at(missing, "missing".to_owned())),
        None => said.to_edge(),
    }
}

fn at(key: &str, message: String) -> Problem {
    let path = key.to_owned();
    let problem = Problem::of_the_whole(message, None);
    Problem { path, ..problem }
}

/// Whether nothing else has the name or the address.
fn is_free<'e>(
    edge: &Edge,
    config: &Config,
    known: impl Iterator<Item = &'e Edge>,
) -> Result<(), Problem> {
    let own = Address::parse(&edge.listen).ok();
    let clashes = |listen: &str| {
        let both = own.as_ref().zip(Address::parse(listen).ok());
        both.is_some_and(|(own, other)| other.clashes(own))
    };
    let taken = |whose: &str| Err(at("listen", format!("this address is taken by {whose}")));
    for other in known {
        if other.name == edge.name {
            return Err(at(
                "name",
                format!("there is a proxy `{}` already", edge.name),
            ));
        }
        if clashes(&other.listen) {
            return taken(&format!("proxy `{}`", other.name));
        }
    }
    if clashes(&config.control.listen) {
        return taken("`control.listen`");
    }
    match &config.metrics {
        Some(metrics) if clashes(&metrics.listen) => taken("`metrics.listen`"),
        _ => Ok(()),
    }
}

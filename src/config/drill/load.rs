//! `load`: who makes the traffic; and requests and commands, wherever they stand.

use std::time::Duration;

use super::super::matching::{self, statuses};
use super::super::node::{Fields, Node, nearest};
use super::super::proxies::Known;
use super::super::value::{Value, quoted, quoted_list, shown};
use super::{Address, Arrivals, CommandLine, Good, HttpLoad, Load, Request, Source, Stage};
use crate::rules::Statuses;
use crate::units::parse_frequency;

/// The words of arrivals.
pub(in crate::config) const ARRIVALS: [(&str, Arrivals); 2] = [
    ("constant", Arrivals::Constant),
    ("poisson", Arrivals::Poisson),
];

/// What may stand between `{{` and `}}`, with what it becomes.
pub(in crate::config) const PLACEHOLDERS: [(&str, &str); 4] = [
    ("id", "a text that no other request of any run has"),
    ("n", "the request's number, from 1"),
    ("uuid", "a UUID drawn from the seed"),
    (
        "traceparent",
        "a trace of the request's own, for the header of that name",
    ),
];

const LOAD: &str = "who makes the traffic: `http`, `command` or `traffic`";
const COMMAND: &str = "a command such as `[docker, pause, payment]`, or a line for the shell";
const RATE: &str = "how many a second, such as `50/s` or `600/min`";

/// Requests at the same time, where the file does not say.
const IN_FLIGHT: u64 = 1_000;
/// How long an answer is awaited, where the file does not say.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most requests a second that are asked for.
const MOST: f64 = 1e6;

/// The traffic that is there.
pub(super) fn traffic() -> Load {
    Load {
        proxies: Vec::new(),
        source: Source::Traffic,
    }
}

pub(super) fn load(node: &Node<'_>, known: &Known) -> Option<Load> {
    if let Value::Text(word) = node.value
        && word == "traffic"
    {
        return Some(traffic());
    }
    node.map(|f| {
        let proxies = f.or("proxies", Vec::new(), |n| {
            n.texts("a list of proxies such as `[web]`", |n| known.existing(n))
        });
        let http = f.get("http").map(|n| (n.clone(), http(&n, known)));
        let command = f.get("command").map(|n| (n.clone(), command_line(&n)));
        let traffic = f.get("traffic");
        let given = [
            http.as_ref().map(|(n, _)| n),
            command.as_ref().map(|(n, _)| n),
            traffic.as_ref(),
        ];
        if let [_, second, ..] = *given.into_iter().flatten().collect::<Vec<_>>() {
            second
                .its_key()
                .problem_hint("one thing makes the traffic", "leave the others out");
        }
        let source = match (http, command, &traffic) {
            (Some((_, http)), ..) => Source::Http(Box::new(http?)),
            (_, Some((_, command)), _) => Source::Command(command?),
            (_, _, Some(traffic)) => {
                traffic.map(|_| ());
                Source::Traffic
            }
            (None, None, None) => {
                node.wrong(LOAD, Some("leave `load` out to mean `traffic`".to_owned()));
                return None;
            }
        };
        Some(Load { proxies, source })
    })?
}

fn http(node: &Node<'_>, known: &Known) -> Option<HttpLoad> {
    node.map(|f| {
        let request = request(f, node, known, true);
        let timeout = f.or("timeout", TIMEOUT, Node::time);
        let in_flight = f.or("in_flight", IN_FLIGHT, |n| n.count(1, 100_000));
        let arrivals = f.or("arrivals", Arrivals::Constant, |n| n.meaning(&ARRIVALS));
        let rate = f.opt("rate", rate);
        let stages = f.opt("stages", stages);
        let has = |key| node.value.get(key).is_some();
        let stages = match (has("rate"), has("stages")) {
            (true, true) => {
                node.key("stages").its_key().problem_hint(
                    "`rate` says already how many",
                    "leave one of them out: `stages` is for rates that change",
                );
                None
            }
            (false, false) => {
                node.key("rate")
                    .problem(format!("missing; expected {RATE}"));
                None
            }
            (true, false) => rate.map(|rate| {
                vec![Stage {
                    lasts: None,
                    from: rate,
                    to: rate,
                }]
            }),
            (false, true) => stages,
        };
        let good = f.or("good", Good::default(), good);
        Some(HttpLoad {
            request: request?,
            timeout,
            in_flight: in_flight as usize,
            arrivals,
            stages: stages?,
            good,
        })
    })?
}

impl Default for Good {
    fn default() -> Self {
        Self {
            statuses: usual_statuses(),
            within: None,
        }
    }
}

/// Those that are no error.
pub(super) fn usual_statuses() -> Vec<Statuses> {
    let spans = ["2xx", "3xx"].map(|span| Statuses::parse(span).ok());
    spans.into_iter().flatten().collect()
}

fn good(node: &Node<'_>) -> Option<Good> {
    node.map(|f| Good {
        statuses: f.or("status", usual_statuses(), statuses),
        within: f.opt("within", Node::time),
    })
}

/// So many a second.
pub(super) fn rate(node: &Node<'_>) -> Option<f64> {
    let Ok((number, per)) = node.quantity(parse_frequency) else {
        let hint = match node.value {
            Value::Int(n, _) if *n > 0 => Some(format!("write `{n}/s`")),
            _ => None,
        };
        node.wrong(RATE, hint);
        return None;
    };
    let rate = number as f64 / per.as_secs_f64();
    if rate > MOST {
        node.problem(format!("at most {MOST}/s are sent, found {rate}/s"));
        return None;
    }
    Some(rate)
}

fn stages(node: &Node<'_>) -> Option<Vec<Stage>> {
    const STAGES: &str = "a list such as `[{ for: 10s, rate: 20/s }, { for: 30s, to: 100/s }]`";
    let mut before = 0.0;
    let stages = node.list(STAGES, |n| {
        let stage = stage(n, before)?;
        before = stage.to;
        Some(stage)
    })?;
    if node.value.items().is_empty() {
        node.wrong(STAGES, None);
        return None;
    }
    Some(stages)
}

fn stage(node: &Node<'_>, before: f64) -> Option<Stage> {
    node.map(|f| {
        let lasts = f.need("for", "how long it lasts, such as `10s`", Node::time);
        let steady = f.opt("rate", rate);
        let to = f.opt("to", rate);
        let has = |key| node.value.get(key).is_some();
        match (has("rate"), has("to")) {
            (true, true) => node.key("to").its_key().problem_hint(
                "`rate` stays as it is, `to` changes evenly",
                "leave one of them out",
            ),
            (false, false) => node.key("rate").problem(format!(
                "missing; expected {RATE}; or `to`, up to or down to"
            )),
            _ => {}
        }
        let to = steady.or(to)?;
        Some(Stage {
            lasts: Some(lasts?),
            from: steady.unwrap_or(before),
            to,
        })
    })?
}

/// The keys of a request: `url`, or `proxy` and `path`; `method`, `headers`, `body`.
pub(super) fn request(
    f: &mut Fields<'_, '_>,
    node: &Node<'_>,
    known: &Known,
    placeholders: bool,
) -> Option<Request> {
    let text = |n: &Node<'_>| {
        let text = n.loose_text()?;
        checked(n, &text, placeholders);
        Some(text)
    };
    let url = f.opt("url", |n| url(n, placeholders));
    let proxy = f.opt("proxy", |n| known.existing(n));
    let path = f.opt("path", |n| path(n, placeholders));
    let body = f.opt("body", text);
    let unsaid = if body.is_some() { "POST" } else { "GET" };
    let method = f.or("method", unsaid.to_owned(), matching::method);
    let headers = f.or("headers", Vec::new(), |n| headers(n, text));
    let has = |key| node.value.get(key).is_some();
    let place = match (has("url"), has("proxy")) {
        (true, false) => {
            if has("path") {
                node.key("path")
                    .its_key()
                    .problem_hint("the path is a part of `url`", "leave it out");
            }
            url
        }
        (false, true) => proxy.map(|proxy| {
            let path = path.unwrap_or_else(|| "/".to_owned());
            (Address::Proxy(proxy), path)
        }),
        (true, true) => {
            node.key("proxy").its_key().problem_hint(
                "`url` says already where to",
                "leave one of them out: `proxy` with `path` is wherever that proxy listens",
            );
            None
        }
        (false, false) => {
            node.key("url")
                .problem("missing; expected where to: `url`, or `proxy` with `path`");
            None
        }
    };
    let (to, path) = place?;
    Some(Request {
        to,
        path,
        method,
        headers,
        body,
    })
}

const URL: &str = "a URL such as `http://127.0.0.1:7000/orders`";

pub(super) fn url(node: &Node<'_>, placeholders: bool) -> Option<(Address, String)> {
    let text = node.some_text(URL)?;
    let split = text.split_once("://");
    let secure = match split {
        Some(("http", _)) => Some(false),
        Some(("https", _)) => Some(true),
        _ => None,
    };
    let (Some(secure), Some((_, rest))) = (secure, split) else {
        let hint = split
            .is_none()
            .then(|| format!("did you mean `http://{}`?", shown(&text)));
        node.wrong(URL, hint);
        return None;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b);
    if authority.is_empty() || !authority.bytes().all(plain) {
        let hint = authority
            .contains('{')
            .then(|| "a placeholder can't stand for the host".to_owned());
        node.wrong(URL, hint);
        return None;
    }
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    whole(node, &path)?;
    checked(node, &path, placeholders);
    let authority = authority.to_owned();
    Some((Address::Host { secure, authority }, path))
}

fn path(node: &Node<'_>, placeholders: bool) -> Option<String> {
    const PATH: &str = "a path such as `/orders?careful=1`, beginning with `/`";
    let path = node.some_text(PATH)?;
    if !path.starts_with('/') {
        node.wrong(PATH, None);
        return None;
    }
    whole(node, &path)?;
    checked(node, &path, placeholders);
    Some(path)
}

/// Refuses what can't stand in a request's first line.
fn whole(node: &Node<'_>, path: &str) -> Option<()> {
    let bad = path
        .chars()
        .find(|c| !c.is_ascii() || c.is_ascii_control() || *c == ' ' || *c == '#');
    let Some(bad) = bad else { return Some(()) };
    node.problem_hint(
        format!("a path can't have `{}`", bad.escape_default()),
        "write other characters percent-encoded, such as `%20`",
    );
    None
}

fn headers(
    node: &Node<'_>,
    text: impl Fn(&Node<'_>) -> Option<String>,
) -> Option<Vec<(String, String)>> {
    let pairs = node.pairs("a map of headers")?;
    let read = |(name, value): (&str, Node<'_>)| {
        if !super::super::scalars::is_token(name) {
            value.its_key().problem(format!(
                "expected the name of a header, found {}",
                quoted(name)
            ));
            return None;
        }
        let text = text(&value)?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            value.problem("a header's value can't have line breaks or other control characters");
            return None;
        }
        Some((name.to_owned(), text))
    };
    Some(pairs.into_iter().filter_map(read).collect())
}

/// Reports placeholders that stand for nothing.
fn checked(node: &Node<'_>, text: &str, allowed: bool) {
    let names = PLACEHOLDERS.iter().map(|(name, _)| *name);
    for part in text.split("{{").skip(1) {
        let Some((name, _)) = part.split_once("}}") else {
            // JSON has braces of its own.
            continue;
        };
        let name = name.trim();
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(word) {
            continue;
        }
        if !allowed {
            node.problem_hint(
                format!("{} is for requests of load", quoted(name)),
                "write what is meant",
            );
        } else if !names.clone().any(|n| n == name) {
            node.problem_hint(
                format!("there is no placeholder {}", quoted(name)),
                match nearest(name, names.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", quoted_list(names.clone())),
                },
            );
        }
    }
}

/// A command: a line for the shell, words, or a map with either as `run`, and a `timeout`.
pub(super) fn command_line(node: &Node<'_>) -> Option<CommandLine> {
    if !matches!(node.value, Value::Map(_)) {
        let timeout = CommandLine::TIMEOUT;
        return words(node).map(|words| CommandLine { words, timeout });
    }
    node.map(|f| {
        let words = f.need("run", COMMAND, words);
        let timeout = f.or("timeout", CommandLine::TIMEOUT, Node::time);
        words.map(|words| CommandLine { words, timeout })
    })?
}

/// The words of a command: a line is the shell's.
pub(super) fn words(node: &Node<'_>) -> Option<Vec<String>> {
    if let Value::Text(line) = node.value {
        if line.trim().is_empty() || line.contains('\0') {
            node.wrong(COMMAND, None);
            return None;
        }
        return Some(["sh", "-c", line].map(str::to_owned).to_vec());
    }
    let words = node.list(COMMAND, Node::loose_text)?;
    let none = words.first().is_none_or(String::is_empty);
    if none || words.iter().any(|word| word.contains('\0')) {
        node.wrong(COMMAND, None);
        return None;
    }
    Some(words)
}

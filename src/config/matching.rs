//! `match`: which operations a rule means.

use super::node::Node;
use super::scalars::is_token;
use super::value::{Value, quoted};
use crate::rules::{Glob, HostGlob, Matcher, Ordinals, PathGlob, Subnet};

const CLIENT: &str = "an address or a subnet such as `10.0.0.0/8`";
const CONNECTION: &str = "a number such as `3`, or a range such as `1-5` or `10-`";
const METHOD: &str = "a method such as `POST`, or a list of them";
const COMMON: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

/// All conditions of a rule.
pub(super) fn matcher(node: &Node<'_>) -> Option<Matcher> {
    let matcher = node.map(|f| Matcher {
        clients: f.or("client", Vec::new(), |n| one_or_more(n, CLIENT, client)),
        connections: f.or("connection", Vec::new(), |n| {
            one_or_more(n, CONNECTION, connection)
        }),
        bytes: f.opt("bytes", Node::size),
        age: f.opt("age", Node::time),
        sni: f.opt("sni", host),
        methods: f.or("method", Vec::new(), |n| one_or_more(n, METHOD, method)),
        path: f.opt("path", path),
        query: f.or("query", Vec::new(), |n| {
            globs(n, "a map of parameters to patterns", |name| {
                !name.is_empty()
            })
        }),
        headers: f.or("headers", Vec::new(), |n| {
            globs(n, "a map of headers to patterns", is_token)
        }),
    })?;
    if matcher.needs_stream() && matcher.needs_http() {
        node.key("sni").problem_hint(
            "never holds together with conditions on HTTP: it is looked for on `tcp` proxies only",
            "make a rule for each",
        );
    }
    Some(matcher)
}

/// One thing, or a list of at least one.
fn one_or_more<T>(
    node: &Node<'_>,
    expected: &str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if !matches!(node.value, Value::List(_)) {
        return read(node).map(|one| vec![one]);
    }
    if node.value.items().is_empty() {
        node.wrong(expected, Some("leave it out to mean any".to_owned()));
    }
    node.list(expected, read)
}

fn client(node: &Node<'_>) -> Option<Subnet> {
    let text = node.text(CLIENT)?;
    let read = Subnet::parse(&text);
    read.map_err(|hint| node.wrong(CLIENT, hint)).ok()
}

fn connection(node: &Node<'_>) -> Option<Ordinals> {
    let text = match node.value {
        Value::Int(_, text) | Value::Text(text) => text,
        _ => "",
    };
    let read = Ordinals::parse(text);
    read.map_err(|hint| node.wrong(CONNECTION, hint)).ok()
}

fn host(node: &Node<'_>) -> Option<HostGlob> {
    const HOST: &str = "a host name such as `*.example.com`";
    let text = node.some_text(HOST)?;
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_.*".contains(&b);
    if text.len() > 255 || !text.bytes().all(letters) {
        let rest = text.split_once("://").map_or(&*text, |(_, rest)| rest);
        let name = rest.split([':', '/']).next().unwrap_or_default();
        let plain = name != text && !name.is_empty() && name.bytes().all(letters);
        node.wrong(HOST, plain.then(|| format!("the name alone: `{name}`")));
        return None;
    }
    Some(HostGlob::new(&text))
}

fn method(node: &Node<'_>) -> Option<String> {
    let method = node.text(METHOD)?;
    if !is_token(&method) {
        node.wrong(METHOD, None);
        return None;
    }
    let upper = method.to_ascii_uppercase();
    if upper != method && COMMON.contains(&upper.as_str()) {
        node.problem_hint(
            format!(
                "methods are compared as they are written: {} is not `{upper}`",
                quoted(&method)
            ),
            format!("write `{upper}`"),
        );
    }
    Some(method)
}

fn path(node: &Node<'_>) -> Option<PathGlob> {
    const PATH: &str = "a path such as `/authorize/*`, beginning with `/` or `*`";
    let path = node.some_text(PATH)?;
    if !path.starts_with(['/', '*']) {
        let hint = format!("did you mean `/{}`?", super::value::shown(&path));
        node.wrong(PATH, Some(hint));
        return None;
    }
    if path.contains('?') {
        node.problem_hint(
            format!("the query is matched apart, found {}", quoted(&path)),
            "put its parameters under `match.query`",
        );
        return None;
    }
    Some(PathGlob(path))
}

fn globs(
    node: &Node<'_>,
    expected: &str,
    is_name: impl Fn(&str) -> bool,
) -> Option<Vec<(String, Glob)>> {
    let pairs = node.pairs(expected)?;
    let globs = pairs.into_iter().filter_map(|(name, value)| {
        if !is_name(name) {
            value.its_key().problem(format!(
                "{} is not a name that can stand here",
                quoted(name)
            ));
        }
        Some((name.to_owned(), Glob(value.loose_text()?)))
    });
    Some(globs.collect())
}

//! `match`: which operations a rule means.

use std::sync::Arc;

use super::node::Node;
use super::scalars::is_token;
use super::value::{Value, quoted, shown};
use crate::rules::{
    BodyMatch, Glob, Ground, GrpcMatch, HostGlob, Matcher, Nth, Ordinals, PathGlob, PathPattern,
    Pattern, Per, Regex, ResponseMatch, Statuses, Subnet,
};

const CLIENT: &str = "an address or a subnet such as `10.0.0.0/8`";
const ORDINAL: &str = "a number such as `3`, or a range such as `1-5` or `10-`";
const METHOD: &str = "a method such as `POST`, or a list of them";
const STATUS: &str = "a status such as `503`, `5xx` or `500-599`";
const COMMON: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

/// How deep `all`, `any` and `not` may stand in each other.
pub(super) const MAX_DEPTH: usize = 8;
/// The most of a body that a rule may look at.
pub(super) const MAX_BODY: u64 = 1 << 20;

/// All conditions of the rule of this name.
pub(super) fn matcher(node: &Node<'_>, rule: &str) -> Option<Matcher> {
    let before = node.report().count();
    let matcher = conditions(node, rule, 0)?;
    if node.report().count() > before {
        return Some(matcher);
    }
    for (at, own) in dead_ends(node, &matcher, &[Ground::Stream, Ground::Http]) {
        let (at, what) = match own.sni {
            Some(_) => (
                at.key("sni"),
                "never holds together with conditions on HTTP: it",
            ),
            None => (at, "these never hold together: `sni`"),
        };
        at.problem_hint(
            format!("{what} is looked for on `tcp` proxies only"),
            "make a rule for each",
        );
    }
    Some(matcher)
}

/// The innermost maps of conditions that can hold on none of these grounds.
pub(super) fn dead_ends<'n, 'm>(
    node: &Node<'n>,
    matcher: &'m Matcher,
    on: &[Ground],
) -> Vec<(Node<'n>, &'m Matcher)> {
    fn search<'n, 'm>(
        node: &Node<'n>,
        matcher: &'m Matcher,
        holds: bool,
        on: &[Ground],
        found: &mut Vec<(Node<'n>, &'m Matcher)>,
    ) {
        let before = found.len();
        for (key, n, inner) in matcher.within() {
            let list = node.key(key);
            let at = n.map_or_else(|| list.clone(), |n| list.index(n));
            search(&at, inner, holds == (key != "not"), on, found);
        }
        if found.len() == before && !on.iter().any(|on| matcher.is_possible(*on, holds)) {
            found.push((node.clone(), matcher));
        }
    }
    let mut found = Vec::new();
    search(node, matcher, true, on, &mut found);
    found
}

/// One map of conditions; `depth`: how many it stands in.
fn conditions(node: &Node<'_>, rule: &str, depth: usize) -> Option<Matcher> {
    if depth > MAX_DEPTH {
        node.problem(format!(
            "conditions stand in each other {MAX_DEPTH} deep at most"
        ));
        return None;
    }
    let inner = |n: &Node<'_>| conditions(n, rule, depth + 1);
    let list = |n: &Node<'_>| {
        if matches!(n.value, Value::List(items) if items.is_empty()) {
            n.problem_hint("names no conditions", "leave it out");
            return None;
        }
        n.list("a list of conditions such as `[{ method: POST }]`", inner)
    };
    let matcher = node.map(|f| Matcher {
        clients: f.or("client", Vec::new(), |n| one_or_more(n, CLIENT, client)),
        connections: f.or("connection", Vec::new(), |n| {
            one_or_more(n, ORDINAL, ordinal)
        }),
        bytes: f.opt("bytes", Node::size),
        age: f.opt("age", Node::time),
        sni: f.opt("sni", host),
        methods: f.or("method", Vec::new(), |n| one_or_more(n, METHOD, method)),
        host: f.opt("host", host),
        path: f.opt("path", path),
        query: f.or("query", Vec::new(), |n| {
            patterns(n, "a map of parameters to patterns", |name| {
                !name.is_empty()
            })
        }),
        headers: f.or("headers", Vec::new(), headers),
        cookies: f.or("cookies", Vec::new(), |n| {
            patterns(n, "a map of cookies to patterns", is_token)
        }),
        grpc: f.opt("grpc", grpc),
        body: f.opt("body", body).map(Arc::new),
        response: f.opt("response", response).map(Arc::new),
        nth: f.opt("request", |n| outermost(n, depth).and_then(nth)),
        asked: f
            .opt("asked", |n| outermost(n, depth).and_then(Node::flag))
            .and_then(|asked| asked.then(|| rule.to_owned())),
        all: f.or("all", Vec::new(), list),
        any: f.or("any", Vec::new(), list),
        not: f.opt("not", inner).map(Box::new),
    })?;
    if depth > 0 && matches!(node.value, Value::Map(keys) if keys.is_empty()) {
        node.problem("names no condition");
    }
    Some(matcher)
}

/// What may stand among the outermost conditions only.
fn outermost<'a, 'n>(node: &'a Node<'n>, depth: usize) -> Option<&'a Node<'n>> {
    if depth > 0 {
        node.its_key().problem_hint(
            "can't stand in `all`, `any` or `not`",
            "put it beside them, directly under `match`",
        );
        return None;
    }
    Some(node)
}

/// One thing, or a list of at least one.
pub(super) fn one_or_more<T>(
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

fn ordinal(node: &Node<'_>) -> Option<Ordinals> {
    let read = Ordinals::parse(spelt(node));
    read.map_err(|hint| node.wrong(ORDINAL, hint)).ok()
}

/// A text or a whole number, as it is written.
fn spelt<'a>(node: &Node<'a>) -> &'a str {
    match node.value {
        Value::Int(_, text) | Value::Text(text) => text,
        _ => "",
    }
}

fn host(node: &Node<'_>) -> Option<HostGlob> {
    const HOST: &str = "a host name such as `*.example.com`";
    let text = node.some_text(HOST)?;
    // An IPv6 address stands in brackets, as in `Host`.
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'))
        && inner.parse::<std::net::Ipv6Addr>().is_ok()
    {
        return Some(HostGlob::new(&text));
    }
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

/// Which method is meant.
pub(super) fn method(node: &Node<'_>) -> Option<String> {
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

fn path(node: &Node<'_>) -> Option<PathPattern> {
    const PATH: &str = "a path such as `/authorize/*`, beginning with `/` or `*`";
    if let Value::Map(_) = node.value {
        return regex_map(node).map(PathPattern::Regex);
    }
    let path = node.some_text(PATH)?;
    if !path.starts_with(['/', '*']) {
        let hint = match path.starts_with('^') {
            true => format!("write `{{ regex: '{}' }}`", shown(&path)),
            false => format!("did you mean `/{}`?", shown(&path)),
        };
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
    if !has_whole_braces(&path) {
        node.problem_hint(
            format!(
                "expected `{{name}}` for a part of a segment, found {}",
                quoted(&path)
            ),
            "for braces in a path itself use `{ regex: … }`",
        );
        return None;
    }
    Some(PathPattern::Glob(PathGlob(path)))
}

/// Whether each brace belongs to a pair with a name in it.
fn has_whole_braces(path: &str) -> bool {
    let mut parts = path.split('{');
    let named = |part: &str| {
        let (name, rest) = part.split_once('}')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        (!name.is_empty() && name.bytes().all(plain) && !rest.contains('}')).then_some(())
    };
    !parts.next().unwrap_or_default().contains('}') && parts.all(|part| named(part).is_some())
}

fn regex(node: &Node<'_>) -> Option<Regex> {
    const REGEX: &str = "a regular expression such as `^/v[12]/`";
    let text = node.some_text(REGEX)?;
    let made = Regex::new(&text);
    let problem = |why| {
        node.problem(format!(
            "{} is no regular expression here: {why}",
            quoted(&text)
        ))
    };
    made.map_err(problem).ok()
}

/// `{ regex: … }`.
fn regex_map(node: &Node<'_>) -> Option<Regex> {
    node.map(|f| f.need("regex", "a regular expression", regex))?
}

/// What a value is held against: a text with wildcards, or `{ regex: … }`.
fn pattern(node: &Node<'_>) -> Option<Pattern> {
    match node.value {
        Value::Map(_) => regex_map(node).map(Pattern::Regex),
        _ => node.loose_text().map(|text| Pattern::Glob(Glob(text))),
    }
}

fn headers(node: &Node<'_>) -> Option<Vec<(String, Pattern)>> {
    patterns(node, "a map of headers to patterns", is_token)
}

fn patterns(
    node: &Node<'_>,
    expected: &str,
    is_name: impl Fn(&str) -> bool,
) -> Option<Vec<(String, Pattern)>> {
    let pairs = node.pairs(expected)?;
    let read = pairs.into_iter().filter_map(|(name, value)| {
        if !is_name(name) {
            value.its_key().problem(format!(
                "{} is not a name that can stand here",
                quoted(name)
            ));
        }
        Some((name.to_owned(), pattern(&value)?))
    });
    Some(read.collect())
}

fn grpc(node: &Node<'_>) -> Option<GrpcMatch> {
    let part = |n: &Node<'_>, expected| {
        let text = n.some_text(expected)?;
        if text.contains('/') {
            n.wrong(
                expected,
                Some("`service` and `method` stand apart".to_owned()),
            );
        }
        Some(Glob(text))
    };
    node.map(|f| GrpcMatch {
        service: f.opt("service", |n| part(n, "a service such as `shop.Payment`")),
        method: f.opt("method", |n| part(n, "a method such as `Authorize`")),
    })
}

fn body(node: &Node<'_>) -> Option<BodyMatch> {
    if let Value::Text(text) = node.value {
        let hint = format!("write `{{ contains: {} }}`", shown(text));
        node.wrong("conditions on a body", Some(hint));
        return None;
    }
    let read = node.map(|f| BodyMatch {
        contains: f.opt("contains", |n| n.some_text("a text")),
        regex: f.opt("regex", regex),
        json: f.or("json", Vec::new(), json_values),
        within: f.or("within", BodyMatch::default().within, |n| {
            n.size().filter(|size| {
                let fits = *size <= MAX_BODY;
                if !fits {
                    n.wrong("a size of 1MiB at most", None);
                }
                fits
            })
        }),
    })?;
    if ["contains", "regex", "json"]
        .iter()
        .all(|key| node.value.get(key).is_none())
    {
        node.problem_hint("names no condition", "say `contains`, `regex` or `json`");
    }
    Some(read)
}

/// Values by their JSON Pointers.
fn json_values(node: &Node<'_>) -> Option<Vec<(String, Pattern)>> {
    const VALUES: &str = "a map of JSON Pointers to patterns such as `{ /amount: 42 }`";
    by_pointer(node, VALUES, pattern)
}

/// What stands under each JSON Pointer of a map, of which there is one at least.
pub(super) fn by_pointer<T>(
    node: &Node<'_>,
    expected: &str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let pairs = node.pairs(expected)?;
    if pairs.is_empty() {
        node.wrong(expected, None);
    }
    let read = pairs.into_iter().filter_map(|(pointer, value)| {
        self::pointer(&value.its_key(), pointer);
        Some((pointer.to_owned(), read(&value)?))
    });
    Some(read.collect())
}

/// Says what is wrong with a JSON Pointer (RFC 6901), if anything is.
pub(super) fn pointer(node: &Node<'_>, pointer: &str) {
    let mut escapes = pointer.split('~').skip(1);
    if !(pointer.is_empty() || pointer.starts_with('/')) {
        let plain = pointer.strip_prefix('$').unwrap_or(pointer);
        let plain = plain
            .trim_start_matches('.')
            .replace("].", "/")
            .replace(['.', '['], "/");
        node.problem_hint(
            format!(
                "{} is no JSON Pointer: one begins with `/`",
                quoted(pointer)
            ),
            format!("did you mean `/{}`?", shown(plain.trim_end_matches(']'))),
        );
    } else if !escapes.all(|rest| rest.starts_with(['0', '1'])) {
        node.problem_hint(
            format!("{} is no JSON Pointer", quoted(pointer)),
            "in it `~` is written `~0`, and `/` in a name `~1`",
        );
    }
}

/// Which statuses are meant.
pub(super) fn statuses(node: &Node<'_>) -> Option<Vec<Statuses>> {
    one_or_more(node, STATUS, |n| {
        let read = Statuses::parse(spelt(n));
        read.map_err(|hint| n.wrong(STATUS, hint)).ok()
    })
}

fn response(node: &Node<'_>) -> Option<ResponseMatch> {
    let read = node.map(|f| ResponseMatch {
        statuses: f.or("status", Vec::new(), statuses),
        headers: f.or("headers", Vec::new(), headers),
    })?;
    if matches!(node.value, Value::Map(keys) if keys.is_empty()) {
        node.problem_hint("names no condition", "say `status` or `headers`");
    }
    Some(read)
}

fn nth(node: &Node<'_>) -> Option<Nth> {
    if !matches!(node.value, Value::Map(_)) {
        let hint = format!("write `{{ nth: {} }}`", shown(spelt(node)));
        node.wrong(
            "a map such as `{ nth: 1-2, per: client }`",
            (!spelt(node).is_empty()).then_some(hint),
        );
        return None;
    }
    node.map(|f| {
        let spans = f.need("nth", ORDINAL, |n| one_or_more(n, ORDINAL, ordinal));
        let per = f.or("per", Per::default(), |n| n.meaning(&Per::ALL));
        Some(Nth { spans: spans?, per })
    })?
}

//! `match`: which operations a rule means.

use super::node::Node;
use super::scalars::is_token;
use super::value::{Value, quoted};
use crate::rules::{Glob, Matcher, PathGlob};

const METHOD: &str = "a method such as `POST`, or a list of them";
const COMMON: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

/// All conditions of a rule.
pub(super) fn matcher(node: &Node<'_>) -> Option<Matcher> {
    node.map(|f| Matcher {
        methods: f.or("method", Vec::new(), methods),
        path: f.opt("path", path),
        query: f.or("query", Vec::new(), |n| {
            globs(n, "a map of parameters to patterns", |name| {
                !name.is_empty()
            })
        }),
        headers: f.or("headers", Vec::new(), |n| {
            globs(n, "a map of headers to patterns", is_token)
        }),
    })
}

fn methods(node: &Node<'_>) -> Option<Vec<String>> {
    if !matches!(node.value, Value::List(_)) {
        return method(node).map(|method| vec![method]);
    }
    if node.value.items().is_empty() {
        node.wrong(METHOD, Some("leave `method` out to mean any".to_owned()));
    }
    node.list(METHOD, method)
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

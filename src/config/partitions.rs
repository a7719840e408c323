//! `partitions`: one of them.

use std::collections::HashMap;

use super::node::Node;
use super::proxies::Known;
use super::rules::ttl;
use super::scalars::NAME;
use super::value::{Value, quoted};
use crate::rules::{Mode, Partition, Ttl};

const BETWEEN: &str = "groups of services such as `[[checkout], [payment, orders]]`";

/// One partition. `ignored`: keys that may stand there and say nothing.
pub(super) fn partition(
    node: &Node<'_>,
    known: &Known,
    ignored: &'static [&'static str],
) -> Option<Partition> {
    node.map(|f| {
        f.ignore(ignored);
        let name = f.need("name", NAME, Node::name);
        let between = f.need("between", BETWEEN, |n| groups(n, known));
        let deaf = f.or("deaf", Vec::new(), |n| deaf(n, between.as_deref()));
        Some(Partition {
            deaf,
            mode: f.or("mode", Mode::default(), |n| n.meaning(&Mode::ALL)),
            enabled: f.or("enabled", true, Node::flag),
            ttl: f.or("ttl", Ttl::Unsaid, ttl),
            name: name?,
            between: between?,
        })
    })?
}

fn groups(node: &Node<'_>, known: &Known) -> Option<Vec<Vec<String>>> {
    if let Value::List(items) = node.value
        && !items.is_empty()
        && items.iter().all(|item| matches!(item, Value::Text(_)))
    {
        let each = items.iter().map(|item| match item {
            Value::Text(name) => format!("[{}]", super::value::shown(name)),
            _ => String::new(),
        });
        let hint = format!(
            "a group is a list as well: `[{}]`",
            each.collect::<Vec<_>>().join(", ")
        );
        node.problem_hint(format!("expected {BETWEEN}, found a list of texts"), hint);
        return None;
    }
    let mut seen: HashMap<String, Node<'_>> = HashMap::new();
    let groups = node.list(BETWEEN, |group| {
        let services = group.texts("a list of services", |item| {
            let name = known.service(item)?;
            if let Some(first) = seen.get(&name) {
                let message = format!("{} stands in {} already", quoted(&name), first.path());
                item.clash(message, first, None);
            } else {
                seen.insert(name.clone(), item.clone());
            }
            Some(name)
        })?;
        if group.value.items().is_empty() {
            group.problem("a group needs at least one service");
        }
        Some(services)
    })?;
    if node.value.items().len() < 2 {
        node.problem_hint(
            "a partition is between two groups or more",
            format!("write {BETWEEN}"),
        );
    }
    Some(groups)
}

fn deaf(node: &Node<'_>, between: Option<&[Vec<String>]>) -> Option<Vec<String>> {
    // Without groups that could be read there is nothing to compare with.
    let all = between.map(<[_]>::concat).unwrap_or_default();
    let deaf = node.texts("a list of services", |item| {
        let name = item.name()?;
        if between.is_some() && !all.contains(&name) {
            let near = super::node::nearest(&name, all.iter().map(String::as_str));
            item.problem_hint(
                format!("{} is in none of the groups of `between`", quoted(&name)),
                near.map_or("who is deaf must be in a group".to_owned(), |near| {
                    format!("did you mean `{near}`?")
                }),
            );
        }
        Some(name)
    })?;
    if node.value.items().is_empty() {
        node.problem_hint(
            "names no service",
            "leave `deaf` out where nobody is to hear the other side",
        );
    }
    Some(deaf)
}

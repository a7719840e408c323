//! `partitions`: one of them.

use std::collections::HashMap;

use super::node::{Fields, Node};
use super::proxies::Known;
use super::rules::ttl;
use super::scalars::NAME;
use super::timetable::timetable;
use super::value::{Value, quoted};
use crate::rules::{Mode, Partition, Shape, Ttl};

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
        let shape = shape(f, node, known);
        let deaf = f.or("deaf", Vec::new(), |n| deaf(n, shape.as_ref(), known));
        Some(Partition {
            deaf,
            mode: f.or("mode", Mode::default(), |n| n.meaning(&Mode::ALL)),
            enabled: f.or("enabled", true, Node::flag),
            ttl: f.or("ttl", Ttl::Unsaid, ttl),
            timetable: f.opt("schedule", |n| timetable(n, false)),
            name: name?,
            shape: shape?,
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

fn deaf(node: &Node<'_>, shape: Option<&Shape>, known: &Known) -> Option<Vec<String>> {
    // Without a shape that could be read, or where it holds for all, there is nothing to compare with.
    let (word, all) = match shape {
        Some(Shape::Between(groups)) => ("the groups of `between`", Some(groups.concat())),
        Some(Shape::Ring(list)) => ("the services of `ring`", Some(list.clone())),
        Some(Shape::Split { services, .. }) => ("the services of `split`", services.clone()),
        Some(Shape::Isolate(_)) | None => ("", None),
    };
    let deaf = node.texts("a list of services", |item| {
        let Some(all) = &all else {
            return known.service(item);
        };
        let name = item.name()?;
        if !all.contains(&name) {
            let near = super::node::nearest(&name, all.iter().map(String::as_str));
            item.problem_hint(
                format!("{} is in none of {word}", quoted(&name)),
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

/// The one key that says who is cut off from whom.
fn shape(f: &mut Fields<'_, '_>, node: &Node<'_>, known: &Known) -> Option<Shape> {
    let given: Vec<_> = ["isolate", "ring", "split"]
        .into_iter()
        .filter(|key| node.value.get(key).is_some())
        .collect();
    let isolate = f.opt("isolate", |n| services(n, known, 1));
    let ring = f.opt("ring", |n| services(n, known, 4));
    let split = f.opt("split", |n| split(n, known));
    if given.is_empty() {
        let between = f.need("between", BETWEEN, |n| groups(n, known));
        return between.map(Shape::Between);
    }
    let between = f.get("between").map(|_| "between");
    if let [first, second, ..] = *between.into_iter().chain(given).collect::<Vec<_>>() {
        node.key(second).its_key().problem_hint(
            format!("`{first}` says already who is cut off from whom"),
            "leave one of them out, or make two partitions",
        );
        return None;
    }
    let shapes = [isolate.map(Shape::Isolate), ring.map(Shape::Ring), split];
    shapes.into_iter().flatten().next()
}

/// Services, each once, and at least so many.
fn services(node: &Node<'_>, known: &Known, least: usize) -> Option<Vec<String>> {
    let mut seen: HashMap<String, Node<'_>> = HashMap::new();
    let list = node.texts("a list of services", |item| {
        let name = known.service(item)?;
        if let Some(first) = seen.get(&name) {
            item.clash(
                format!("{} stands here already", quoted(&name)),
                first,
                None,
            );
        }
        seen.insert(name.clone(), item.clone());
        Some(name)
    })?;
    let count = node.value.items().len();
    if count < least {
        node.problem_hint(
            match count {
                0 => "names no service".to_owned(),
                _ => format!("{count} of at least {least} services"),
            },
            match least {
                1 => "name who is to be cut off from all others",
                _ => "in a ring of three each is the others' neighbour",
            },
        );
    }
    Some(list)
}

fn split(node: &Node<'_>, known: &Known) -> Option<Shape> {
    node.map(|f| {
        let groups = f.or("groups", 2, |n| n.count(2, 1000));
        let services = f.opt("services", |n| services(n, known, 2));
        let seed = f.opt("seed", Node::whole);
        if let Some(list) = &services
            && list.len() < groups as usize
        {
            node.key("groups").problem(format!(
                "{} services are too few for {groups} groups",
                list.len()
            ));
        }
        Shape::Split {
            groups: groups as usize,
            services,
            seed,
        }
    })
}

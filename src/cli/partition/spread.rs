//! One partition on several instances: each is given what it has of it, and all cut or none does.
//!
//! An instance refuses services that none of its proxies knows, since they would be slips; so each
//! is asked first for what it knows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Wanted;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::status::{sides, until};
use crate::cli::targets::{self, Answers, Targets};
use crate::client::ClientError;
use crate::rules::{Partition, Shape, Sides, Ttl};
use crate::wire::{PartitionItem, Status};

pub(super) async fn run(wanted: &Wanted, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let statuses = targets.ask(async |client| client.status().await).await;
    let mut instances = BTreeMap::new();
    let mut failed: Answers<Made> = Vec::new();
    for (url, status) in statuses {
        match status {
            Ok(status) => drop(instances.insert(url, status)),
            Err(error) => failed.push((url, Err(error))),
        }
    }
    if !failed.is_empty() {
        let rest = instances
            .into_keys()
            .map(|url| (url, Ok(Made::No("nothing"))));
        failed.extend(rest);
        return report(failed, targets, out);
    }
    let name = free_name(wanted, instances.values());
    let parts = parts(wanted, &name, &instances)?;
    let made = targets.ask(|client| {
        let part = parts.get(client.url()).cloned().flatten();
        async move {
            let Some(part) = part else {
                return Ok(Made::No(NOT_CONCERNED));
            };
            let item = client.create_partition(&part.body).await?;
            Ok(Made::Yes(Box::new(item), part.proxies))
        }
    });
    let made = made.await;
    if made.iter().all(|(_, made)| made.is_ok()) {
        return report(made, targets, out);
    }
    report(undo(made, &name, &instances, targets).await, targets, out)
}

const NOT_CONCERNED: &str = "left as it is: it has no services on two sides";

/// What became of it at one instance.
#[derive(Debug, Clone)]
enum Made {
    /// It cuts these proxies.
    Yes(Box<PartitionItem>, Vec<String>),
    /// Nothing is cut, for this reason.
    No(&'static str),
}

/// What one instance is asked for.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    body: Value,
    /// The proxies that it cuts.
    proxies: Vec<String>,
}

/// The same at all of them, so that one word lifts it everywhere.
fn free_name<'a>(wanted: &Wanted, instances: impl Iterator<Item = &'a Status>) -> String {
    let all = instances.flat_map(|status| &status.partitions);
    let taken: BTreeSet<_> = all.map(|partition| &*partition.name).collect();
    if wanted.fixed {
        return wanted.name.clone();
    }
    let numbered = (2u64..).map(|n| format!("{}-{n}", wanted.name));
    let mut names = std::iter::once(wanted.name.clone()).chain(numbered);
    let free = names.find(|name| !taken.contains(&**name));
    free.unwrap_or_else(|| wanted.name.clone())
}

/// Both ends of each proxy.
fn edges(status: &Status) -> Vec<(&str, &str)> {
    let proxies = status.proxies.iter();
    proxies.map(|p| (&*p.from, &*p.to)).collect()
}

fn services(status: &Status) -> BTreeSet<&str> {
    let edges = edges(status).into_iter();
    edges.flat_map(|(from, to)| [from, to]).collect()
}

/// What each instance is asked for; `None`: nothing of it.
///
/// # Errors
/// When there is a service that no instance knows, or an instance can't do its part.
fn parts(
    wanted: &Wanted,
    name: &str,
    instances: &BTreeMap<String, Status>,
) -> Result<BTreeMap<String, Option<Part>>, Failure> {
    let known: BTreeSet<&str> = instances.values().flat_map(services).collect();
    let known: Vec<_> = known.into_iter().collect();
    let seed = instances.values().next().map_or(0, |status| status.seed);
    let mut whole = Partition {
        name: name.to_owned(),
        shape: wanted.shape.clone(),
        deaf: wanted.deaf.clone(),
        mode: crate::rules::Mode::default(),
        enabled: true,
        ttl: Ttl::Unsaid,
        timetable: None,
    };
    let proxies = |whole: &Partition, status: &Status| {
        let sides = whole.sides(&known, status.seed);
        let cut = status.proxies.iter();
        let cut = cut.filter(|p| cuts(&sides, &whole.deaf, &p.from, &p.to));
        cut.map(|p| p.name.clone()).collect()
    };
    // What one alone can't do, it says itself.
    if let [(url, status)] = &instances.iter().collect::<Vec<_>>()[..] {
        let part = Part {
            body: wanted.body(name, &whole.shape, &whole.deaf),
            proxies: proxies(&whole, status),
        };
        return Ok([((*url).clone(), Some(part))].into());
    }
    if let Some(unknown) = named(&wanted.shape).find(|name| !known.contains(&&***name)) {
        return Err(Failure::usage(
            format!("no proxy of any of these instances is from or to `{unknown}`"),
            format!("there are: {}", known.join(", ")),
        ));
    }
    // By one seed, not by each instance's own.
    if let Shape::Split { .. } = wanted.shape
        && let Sides::Groups(groups) = whole.sides(&known, seed)
    {
        whole.shape = Shape::Between(groups.into_owned());
    }
    let mut parts = BTreeMap::new();
    for (url, status) in instances {
        let part = restricted(&whole, status).map_err(|why| {
            Failure::usage(
                format!("{url}: {why}"),
                "cut there what is to be cut with a partition of its own; nothing was made anywhere",
            )
        })?;
        let part = part.map(|(shape, deaf)| Part {
            body: wanted.body(name, &shape, &deaf),
            proxies: proxies(&whole, status),
        });
        parts.insert(url.clone(), part);
    }
    if parts.values().all(Option::is_none) {
        return Err(Failure::usage(
            "nothing would be cut: no instance has services on two sides",
            "`firedrill status` shows the edge of each proxy",
        ));
    }
    Ok(parts)
}

/// The services that a shape names.
fn named(shape: &Shape) -> Box<dyn Iterator<Item = &String> + '_> {
    match shape {
        Shape::Between(groups) => Box::new(groups.iter().flatten()),
        Shape::Isolate(list) | Shape::Ring(list) => Box::new(list.iter()),
        Shape::Split { services, .. } => Box::new(services.iter().flatten()),
    }
}

fn cuts(sides: &Sides<'_>, deaf: &[String], from: &str, to: &str) -> bool {
    let is_deaf = |name: &str| deaf.is_empty() || deaf.iter().any(|d| d == name);
    sides.apart(from, to) && (is_deaf(from) || is_deaf(to))
}

/// What an instance has of a shape, with who is deaf there; `None`: nothing that it could cut.
///
/// # Errors
/// Why it can't be said in words that the instance knows.
fn restricted(
    whole: &Partition,
    status: &Status,
) -> Result<Option<(Shape, Vec<String>)>, &'static str> {
    let known = services(status);
    let keep = |list: &[String]| -> Vec<String> {
        let kept = list.iter().filter(|name| known.contains(&***name));
        kept.cloned().collect()
    };
    let deaf = keep(&whole.deaf);
    if deaf.is_empty() && !whole.deaf.is_empty() {
        return Ok(None);
    }
    let shape = match &whole.shape {
        Shape::Between(groups) => between(groups.iter().map(|group| keep(group)).collect()),
        Shape::Isolate(list) => {
            let here = keep(list);
            let all = here.is_empty() || here.len() == known.len();
            (!all).then_some(Shape::Isolate(here))
        }
        Shape::Ring(list) if keep(list).len() == list.len() => Some(whole.shape.clone()),
        Shape::Ring(list) => between(arcs(list, &edges(status))?),
        Shape::Split { .. } => Some(whole.shape.clone()),
    };
    Ok(shape.map(|shape| (shape, deaf)))
}

fn between(mut groups: Vec<Vec<String>>) -> Option<Shape> {
    groups.retain(|group| !group.is_empty());
    (groups.len() > 1).then_some(Shape::Between(groups))
}

/// A part of a ring, as groups: those that still hear each other through these edges stand together.
///
/// # Errors
/// When some of them may not hear each other nevertheless.
fn arcs(ring: &[String], edges: &[(&str, &str)]) -> Result<Vec<Vec<String>>, &'static str> {
    let sides = Sides::Ring(ring);
    let within = |(from, to): &&(&str, &str)| {
        let at = |name: &str| ring.iter().any(|n| n == name);
        at(from) && at(to)
    };
    let mut groups: Vec<Vec<String>> = Vec::new();
    let group_of = |groups: &mut Vec<Vec<String>>, name: &str| {
        let at = groups
            .iter()
            .position(|group| group.iter().any(|n| n == name));
        at.unwrap_or_else(|| {
            groups.push(vec![name.to_owned()]);
            groups.len() - 1
        })
    };
    for (from, to) in edges.iter().filter(within) {
        let (a, b) = (group_of(&mut groups, from), group_of(&mut groups, to));
        if a != b && !sides.apart(from, to) {
            let moved = std::mem::take(&mut groups[b]);
            groups[a].extend(moved);
        }
    }
    let mut together = edges.iter().filter(within).filter(|(from, to)| {
        sides.apart(from, to) && group_of(&mut groups, from) == group_of(&mut groups, to)
    });
    match together.next() {
        Some(_) => Err("it knows only a part of the ring, and that part is no set of groups"),
        None => {
            groups.retain(|group| !group.is_empty());
            Ok(groups)
        }
    }
}

/// Takes back what was made, where it was not made everywhere. An answer that broke off may have
/// said so too.
async fn undo(
    made: Answers<Made>,
    name: &str,
    instances: &BTreeMap<String, Status>,
    targets: &Targets,
) -> Answers<Made> {
    let was_there = |url: &str| {
        let status = instances.get(url);
        status.is_some_and(|status| status.partitions.iter().any(|p| p.name == name))
    };
    let may_hold = made.iter().filter(|(url, made)| match made {
        Ok(Made::Yes(..)) => true,
        Err(ClientError::Protocol { .. }) => !was_there(url),
        _ => false,
    });
    let holds: BTreeSet<_> = may_hold.map(|(url, _)| url.clone()).collect();
    let undone = targets.ask(|client| {
        let wanted = holds.contains(client.url());
        let name = name.to_owned();
        async move {
            match wanted {
                true => client.delete_partition(&name).await,
                false => Ok(()),
            }
        }
    });
    let undone: BTreeMap<_, _> = undone.await.into_iter().collect();
    let after = made
        .into_iter()
        .map(|(url, made)| match (made, undone.get(&url)) {
            (Ok(Made::Yes(..)), Some(Ok(()))) => (url, Ok(Made::No("made, and taken back"))),
            (made, _) => (url, made),
        });
    after.collect()
}

fn report(made: Answers<Made>, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let single = targets.clients().len() == 1;
    if single {
        for (_, made) in made {
            if let Made::Yes(item, proxies) = made? {
                if out.json {
                    out.object(&*item)?;
                } else {
                    out.text(&text(&item, &proxies))?;
                }
            }
        }
        return Ok(());
    }
    if out.json {
        let all: Vec<_> = made.iter().map(as_json).collect();
        out.object(&json!({ "targets": all }))?;
    }
    let refused = made.iter().any(|(_, made)| made.is_err());
    let mut still = Vec::new();
    let mut said = Vec::new();
    let mut errors: Vec<(String, ClientError)> = Vec::new();
    for (url, made) in made {
        match made {
            Ok(Made::Yes(item, proxies)) => {
                still.push(format!("{} at {url}", item.name));
                said.push(format!("{url}:\n{}", text(&item, &proxies)));
            }
            Ok(Made::No(why)) => said.push(format!("{url}:\n{why}")),
            Err(error) => errors.push((url, error)),
        }
    }
    if !refused {
        return match out.json {
            true => Ok(()),
            false => out.text(&said.join("\n\n")),
        };
    }
    let all_usage = errors.iter().all(|(_, error)| error.is_usage());
    for (url, error) in errors {
        targets::say(&url, error);
    }
    let (message, hint) = if still.is_empty() {
        (
            "the partition is not made: it holds at all instances or at none".to_owned(),
            "say the same again once they all can, or leave them out of --url".to_owned(),
        )
    } else {
        (
            format!("half of it is left in force: {}", still.join(", ")),
            "lift it there with `firedrill partition rm NAME --url URL`".to_owned(),
        )
    };
    let exit = if all_usage {
        super::super::failure::USAGE
    } else {
        1
    };
    Err(Failure::Say {
        message,
        hint,
        exit,
    })
}

fn as_json((url, made): &(String, Result<Made, ClientError>)) -> Value {
    match made {
        Ok(Made::Yes(item, _)) => json!({ "url": url, "result": item }),
        Ok(Made::No(why)) => json!({ "url": url, "result": null, "why": why }),
        Err(error) => targets::refusal(url, error),
    }
}

fn text(made: &PartitionItem, proxies: &[String]) -> String {
    let sides = sides(made, ", ");
    let cut = if made.ring.is_some() {
        format!("{sides}: each hears its neighbours only")
    } else if made.deaf.is_empty() {
        format!("{sides} no longer hear each other")
    } else {
        format!(
            "{sides}: {} no longer hears the other side",
            made.deaf.join(", ")
        )
    };
    let cuts = match proxies {
        [] => "no proxy stands between them: nothing is cut yet".to_owned(),
        some => format!("cuts: {}", some.join(", ")),
    };
    let name = &made.name;
    format!(
        "{name}: {cut} ({}), {}\n{cuts}\nlift it: firedrill partition off {name}",
        made.mode.as_str(),
        until(made.enabled, &made.standing),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(ring: &str, edges: &[(&str, &str)]) -> Result<Vec<String>, &'static str> {
        let ring: Vec<_> = ring.chars().map(String::from).collect();
        let groups = arcs(&ring, edges)?;
        Ok(groups.into_iter().map(|group| group.concat()).collect())
    }

    #[test]
    fn a_part_of_a_ring_is_groups_where_it_can_be() {
        assert_eq!(
            groups("abcde", &[("a", "b"), ("c", "d"), ("a", "x")]),
            Ok(vec!["ab".to_owned(), "cd".to_owned()])
        );
        assert_eq!(
            groups("abcde", &[("a", "c"), ("e", "a")]),
            Ok(vec!["c".to_owned(), "ea".to_owned()])
        );
        // a hears b and b hears c, but a may not hear c: no groups say so.
        assert!(groups("abcde", &[("a", "b"), ("b", "c"), ("a", "c")]).is_err());
    }
}

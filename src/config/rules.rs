//! `rules`: one of them, and whether it can act at all.

use super::faults::{FAULT, fault};
use super::matching::{dead_ends, matcher};
use super::node::Node;
use super::proxies::Known;
use super::scalars::RULE_NAME;
use super::timetable::timetable;
use super::value::{Value, quoted, quoted_list};
use crate::faults::{Directions, Kind};
use crate::operation::{Direction, Layer};
use crate::rules::{Edge, FaultSpec, Ground, Matcher, Protocol, Rule, Ttl};

/// The words of a direction.
pub(super) const DIRECTIONS: [(&str, Direction); 2] = [
    ("upstream", Direction::Upstream),
    ("downstream", Direction::Downstream),
];

/// One rule. `ignored`: keys that may stand there and say nothing.
pub(super) fn rule(
    node: &Node<'_>,
    known: &Known,
    ignored: &'static [&'static str],
) -> Option<Rule> {
    node.map(|f| {
        f.ignore(ignored);
        let before = node.report().count();
        let name = f.need("name", RULE_NAME, Node::rule_name);
        let proxies = f.opt("proxies", |n| named(n, known));
        let enabled = f.or("enabled", true, Node::flag);
        let match_ = f.or("match", Matcher::default(), |n| {
            matcher(n, name.as_deref().unwrap_or_default())
        });
        let probability = f.or("probability", 1.0, Node::probability);
        let skip = f.or("skip", 0, Node::whole);
        let limit = f.opt("limit", Node::positive);
        let max_active = f.opt("max_active", Node::positive);
        let ttl = f.or("ttl", Ttl::Unsaid, ttl);
        let dry_run = f.or("dry_run", false, Node::flag);
        let direction = f.opt("direction", |n| n.meaning(&DIRECTIONS));
        let timetable = f.opt("schedule", |n| timetable(n, true));
        let fault = f.need("fault", FAULT, fault)?;
        if let (Some(chosen), Directions::Fixed(natural)) = (direction, fault.kind.directions)
            && chosen != natural
        {
            node.key("direction").problem_hint(
                format!("`{}` acts {natural} only", fault.kind.name),
                "leave `direction` out",
            );
        }
        if match_.asks_of_answers() {
            comes_in_time(node, &fault, direction, &match_);
        }
        // Names that do not exist would make every rule look as if it could not act.
        let named = proxies.as_deref();
        if named.map(<[_]>::len) == node.value.get("proxies").map(|p| p.items().len()) {
            can_act(node, known, named, &fault, &match_);
        }
        if node.report().count() > before {
            return None;
        }
        Some(Rule {
            name: name?,
            proxies,
            enabled,
            matcher: match_,
            probability,
            skip,
            limit,
            max_active,
            ttl,
            dry_run,
            direction,
            timetable,
            fault,
        })
    })?
}

fn named(node: &Node<'_>, known: &Known) -> Option<Vec<String>> {
    let mut seen: Vec<(String, Node<'_>)> = Vec::new();
    let names = node.texts("a list of proxies such as `[payment]`", |item| {
        let name = known.existing(item)?;
        if let Some((_, first)) = seen.iter().find(|(n, _)| *n == name) {
            item.clash(
                format!("{} stands here already", quoted(&name)),
                first,
                None,
            );
        }
        seen.push((name.clone(), item.clone()));
        Some(name)
    })?;
    if node.value.items().is_empty() {
        node.problem_hint(
            "names no proxy",
            "leave `proxies` out to mean every proxy that the fault can act on",
        );
    }
    Some(names)
}

/// How long something stays enabled.
pub(super) fn ttl(node: &Node<'_>) -> Option<Ttl> {
    match node.value {
        Value::Text(word) if word == "forever" => Some(Ttl::Forever),
        _ => node.time().map(Ttl::For),
    }
}

/// Reports what keeps a rule from acting once the answer is known.
fn comes_in_time(
    node: &Node<'_>,
    fault: &FaultSpec,
    direction: Option<Direction>,
    matcher: &Matcher,
) {
    let name = fault.kind.name;
    if !fault.acts_on_answers() {
        let conditions = node.key("match");
        let own = matcher.response.is_some();
        let at = if own {
            conditions.key("response")
        } else {
            conditions
        };
        at.its_key().problem_hint(
            format!("`{name}` acts before there is an answer: conditions on it come too late"),
            "leave `response` out, or use a kind that acts on answers, such as `response_loss` or `delay`",
        );
    } else if direction == Some(Direction::Upstream) {
        node.key("direction").problem_hint(
            "conditions on `response` are known when the request has passed",
            "leave `direction` out, or say `downstream`",
        );
    }
}

/// Reports what keeps a rule from acting on the proxies it is meant for.
fn can_act(
    node: &Node<'_>,
    known: &Known,
    named: Option<&[String]>,
    fault: &FaultSpec,
    matcher: &Matcher,
) {
    let kind = fault.kind;
    let meant: Vec<&Edge> = match named {
        Some(names) => {
            let edge = |name: &String| known.edges.iter().find(|e| e.name == *name);
            let Some(meant) = names.iter().map(edge).collect() else {
                return;
            };
            meant
        }
        None if known.is_partial() => return,
        None => known.edges.iter().collect(),
    };
    let spot = node.key("fault").key(kind.name);
    let reached: Vec<&Edge> = meant
        .iter()
        .copied()
        .filter(|edge| edge.suits(kind))
        .collect();
    if reached.is_empty() {
        if !meant.is_empty() || named.is_none() {
            spot.its_key().problem_hint(
                nothing_fits(kind, &meant, named.is_some()),
                fitting(kind, known),
            );
        }
        return;
    }
    // A rule that names no proxies acts where it can.
    let somewhere = reached
        .iter()
        .any(|e| fault.unsupported(e.protocol).is_none());
    for protocol in Protocol::ALL {
        if named.is_none() && somewhere {
            break;
        }
        let of_it: Vec<_> = reached.iter().filter(|e| e.protocol == protocol).collect();
        if of_it.is_empty() {
            continue;
        }
        if let Some(invalid) = fault.unsupported(protocol) {
            let names = quoted_list(of_it.iter().take(5).map(|e| e.name.as_str()));
            spot.key(invalid.param).problem_hint(
                invalid.message,
                match named {
                    Some(_) => format!("{names} has `protocol: {}`", protocol.as_str()),
                    None => format!(
                        "without `proxies` this rule acts on {names} too, `protocol: {}`",
                        protocol.as_str()
                    ),
                },
            );
        }
    }
    let tcp = |edge: &&Edge| edge.protocol == Protocol::Tcp;
    let auto = |edge: &&Edge| edge.protocol == Protocol::Auto;
    // What it acts on, once that is known.
    let only = |ground, protocol| {
        reached.iter().all(|edge| match edge.protocol {
            Protocol::Auto => fault.grounds(Protocol::Auto) == [ground],
            explicit => explicit == protocol,
        })
    };
    let conditions = node.key("match");
    let dead_on = |on| dead_ends(&conditions, matcher, on);
    if !dead_on(&[Ground::Stream, Ground::Http]).is_empty() {
        // Said already: they hold nowhere.
        return;
    }
    let some_auto = reached.iter().any(auto);
    if only(Ground::Stream, Protocol::Tcp) {
        for (at, _) in dead_on(&[Ground::Stream]) {
            match some_auto {
                false => at.problem_hint(
                    "conditions on HTTP never hold here: this rule acts on `tcp` proxies only",
                    "set `protocol: http` on the proxy, or leave them out",
                ),
                true => at.problem_hint(
                    format!(
                        "conditions on HTTP never hold here: `{}` acts on what is no HTTP",
                        kind.name
                    ),
                    "leave them out",
                ),
            }
        }
    }
    if only(Ground::Http, Protocol::Http) {
        for (at, own) in dead_on(&[Ground::Http]) {
            let at = if own.sni.is_some() { at.key("sni") } else { at };
            match some_auto {
                false => at.problem_hint(
                    "never holds here: it is looked for on `tcp` proxies only",
                    "set `protocol: tcp` on the proxy, or match `host`",
                ),
                true => at.problem_hint(
                    format!(
                        "never holds here: with `protocol: auto`, `{}` acts on HTTP only",
                        kind.name
                    ),
                    "match `host`, or use a kind that acts on bytes, such as `reset` or `timeout`",
                ),
            }
        }
    }
    // Without `proxies`, again, it acts where it can.
    let only_tcp = reached.iter().all(tcp);
    let elsewhere = named.is_none() && matcher.can_hold(Ground::Http) && !only_tcp;
    let early = !kind.acts_on(Layer::Stream) && matcher.can_hold(Ground::Stream) && !elsewhere;
    let at_accept = |edge: &&&Edge| match edge.protocol {
        Protocol::Tcp => early,
        Protocol::Http | Protocol::Auto => kind.acts_before_messages(),
    };
    let Some(edge) = reached.iter().find(at_accept) else {
        return;
    };
    for (at, own) in dead_on(&[Ground::Accepted]) {
        let http = !own.can_hold(Ground::Stream);
        let late = own.late().map(|key| (at.key(key), format!("`{key}`")));
        let http = http.then(|| (at.clone(), "a condition on HTTP".to_owned()));
        for (at, what) in late.chain(http) {
            at.problem_hint(
                format!(
                    "never holds in time on `{}`: `{}` acts when a connection is accepted, and {what} is known later",
                    edge.name, kind.name
                ),
                "leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`",
            );
        }
    }
}

fn nothing_fits(kind: &Kind, meant: &[&Edge], named: bool) -> String {
    let name = kind.name;
    let Some(first) = meant.first() else {
        return format!("`{name}` has nothing to act on: there is no proxy");
    };
    let protocol = first.protocol.as_str();
    let tls = kind.acts_on(Layer::Handshake);
    if !named && tls {
        return format!("`{name}` can act on no proxy: none speaks TLS with its clients");
    }
    if !named {
        return format!("`{name}` can act on no proxy: all are `{protocol}`");
    }
    let names = quoted_list(meant.iter().take(5).map(|e| e.name.as_str()));
    if tls {
        return format!("`{name}` can't act on {names}: no TLS is spoken with clients there");
    }
    format!("`{name}` can't act on {names}: `protocol: {protocol}`")
}

fn fitting(kind: &Kind, known: &Known) -> String {
    let other = if kind.fits(true) { "http" } else { "tcp" };
    let fits = known.edges.iter().filter(|e| e.suits(kind));
    let names: Vec<_> = fits.take(10).map(|e| e.name.as_str()).collect();
    if names.is_empty() && kind.acts_on(Layer::Handshake) {
        "it needs a proxy with `tls: { terminate: { … } }`".to_owned()
    } else if names.is_empty() {
        format!("it needs a proxy with `protocol: {other}`")
    } else {
        format!("it can act on {}", quoted_list(names))
    }
}

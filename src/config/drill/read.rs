//! The whole file, and the parts of it that are short.

use std::time::Duration;

use super::super::evidence;
use super::super::node::{Fields, Node};
use super::super::proxies::{self, Known, items};
use super::super::value::Value;
use super::conditions::{self, promise, stop};
use super::load::{self, command_line};
use super::timeline;
use super::{Drill, Promise, Recovery, SteadyState, Stop, Worksheet};

/// The keys by which a file is known to be a drill's.
pub(in crate::config) const KEYS: [&str; 12] = [
    "promise",
    "participants",
    "facts",
    "unknowns",
    "repair",
    "load",
    "steady_state",
    "timeline",
    "promises",
    "recovery",
    "stop_when",
    "cleanup",
];

const PROMISE: &str = "what users are promised, such as `charged at most once`";
const TEXTS: &str = "a text, or a list of them";

/// A whole file.
pub(in crate::config) fn drill(node: &Node<'_>) -> Option<Drill> {
    node.map(|f| {
        let name = f.opt("name", Node::name);
        let worksheet = worksheet(f);
        let seed = f.opt("seed", Node::whole);
        let identity = f.section("identity", evidence::identity);
        let own = node.value.get("proxies").is_some();
        let known = f.section("proxies", |n| proxies::proxies(n, &[]));
        let known = if own { known } else { Known::unknown() };
        let urls = f.or("urls", Vec::new(), |n| n.texts("a list of URLs", url));
        if own && node.value.get("urls").is_some() {
            node.key("urls").its_key().problem_hint(
                "the drill runs proxies of its own: `proxies`",
                "leave one of them out",
            );
        }
        let load = f.or("load", load::traffic(), |n| load::load(n, &known));
        let steady_state = f.or("steady_state", SteadyState::default(), |n| {
            steady(n, &known)
        });
        let timeline = f.need("timeline", timeline::TIMELINE, |n| {
            timeline::timeline(n, &known)
        });
        let promises = f.or("promises", Vec::new(), |n| promises(n, &known));
        let recovery = f.or("recovery", Recovery::default(), recovery);
        let stop_when = f.or("stop_when", Vec::new(), |n| stops(n, &known));
        let cleanup = f.or("cleanup", Vec::new(), |n| {
            n.list("a list of commands", command_line)
        });
        Some(Drill {
            name,
            worksheet,
            seed,
            identity,
            proxies: known.edges,
            urls,
            load,
            steady_state,
            timeline: timeline?,
            promises,
            recovery,
            stop_when,
            cleanup,
        })
    })?
}

fn worksheet(f: &mut Fields<'_, '_>) -> Worksheet {
    let promise = f.need("promise", PROMISE, |n| n.some_text(PROMISE));
    Worksheet {
        promise: promise.unwrap_or_default(),
        participants: f.or("participants", Vec::new(), texts),
        facts: f.or("facts", Vec::new(), facts),
        unknowns: f.or("unknowns", Vec::new(), texts),
        repair: f.or("repair", Vec::new(), texts),
    }
}

fn texts(node: &Node<'_>) -> Option<Vec<String>> {
    match node.value {
        Value::List(_) => node.list(TEXTS, |n| n.some_text("a text")),
        _ => node.some_text(TEXTS).map(|text| vec![text]),
    }
}

/// Who owns what: by participant.
fn facts(node: &Node<'_>) -> Option<Vec<(String, Vec<String>)>> {
    const FACTS: &str = "a map such as `{ payment: whether the money was taken }`";
    let pairs = node.pairs(FACTS)?;
    let read = |(owner, owned): (&str, Node<'_>)| Some((owner.to_owned(), texts(&owned)?));
    Some(pairs.into_iter().filter_map(read).collect())
}

fn url(node: &Node<'_>) -> Option<String> {
    const URL: &str = "a control port's URL, such as `http://127.0.0.1:8474`";
    let text = node.some_text(URL)?;
    if !text.starts_with("http://") && !text.starts_with("https://") {
        node.wrong(URL, None);
        return None;
    }
    Some(text)
}

impl Default for SteadyState {
    fn default() -> Self {
        Self {
            warm_up: Duration::from_secs(1),
            lasts: Duration::from_secs(10),
            checks: vec![conditions::usual()],
        }
    }
}

fn steady(node: &Node<'_>, known: &Known) -> Option<SteadyState> {
    node.map(|f| {
        let default = SteadyState::default();
        SteadyState {
            warm_up: f.or("warm_up", default.warm_up, Node::duration),
            lasts: f.or("for", default.lasts, Node::time),
            checks: f.or("checks", default.checks, |n| {
                n.list("a list of checks", |n| conditions::live(n, known))
            }),
        }
    })
}

fn promises(node: &Node<'_>, known: &Known) -> Option<Vec<Promise>> {
    items(node, "promises", |n| promise(n, known))
}

fn stops(node: &Node<'_>, known: &Known) -> Option<Vec<Stop>> {
    node.list("a list of conditions", |n| stop(n, known))
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(30),
            hold: Duration::from_secs(3),
            goodput: 0.9,
        }
    }
}

fn recovery(node: &Node<'_>) -> Option<Recovery> {
    node.map(|f| {
        let default = Recovery::default();
        let recovery = Recovery {
            within: f.or("within", default.within, Node::time),
            hold: f.or("hold", default.hold, Node::time),
            goodput: f.or("goodput", default.goodput, Node::probability),
        };
        if recovery.hold > recovery.within {
            node.key("hold")
                .problem("longer than it is watched: `within`");
        }
        recovery
    })
}

/// A definition's own word on its lifetime means nothing here: the timeline has it.
pub(super) fn timed_elsewhere(node: &Node<'_>) {
    for key in ["enabled", "ttl"] {
        if node.value.get(key).is_some() {
            node.key(key).its_key().problem_hint(
                "the timeline says when it is on",
                "leave it out; `at` and `for` stand beside it",
            );
        }
    }
}

/// The name of a step or a promise.
pub(super) fn title(node: &Node<'_>) -> Option<String> {
    const TITLE: &str = "a text of up to 100 characters";
    let text = node.some_text(TITLE)?;
    if text.chars().count() > 100 || text.chars().any(char::is_control) {
        node.wrong(TITLE, None);
        return None;
    }
    Some(text)
}

//! `timeline`: what goes wrong, and when.

use std::collections::HashMap;
use std::time::Duration;

use super::super::node::{Fields, Node};
use super::super::partitions::partition;
use super::super::proxies::Known;
use super::super::rules::rule;
use super::super::value::{Value, quoted};
use super::load::words;
use super::read::{timed_elsewhere, title};
use super::{Action, CommandLine, Item, Random, Run};
use crate::rules::{Start, Timetable};

/// What stands under `timeline`.
pub(super) const TIMELINE: &str = "a list of what goes wrong, and when";
const ACTION: &str = "one of `rule`, `partition`, `run` or `random`";
const LASTS: &str = "how long it lasts, such as `10s`";

/// The longest timeline.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The most beginnings that a timeline may have.
const MOST: u64 = 10_000;

pub(super) fn timeline(node: &Node<'_>, known: &Known) -> Option<Vec<Item>> {
    let mut names: HashMap<String, Node<'_>> = HashMap::new();
    let mut beginnings = 0u64;
    let list = node.list(TIMELINE, |n| {
        let item = item(n, known, &mut names)?;
        beginnings = beginnings.saturating_add(match &item.action {
            Action::Random(random) => {
                let span = item.lasts.unwrap_or_default().as_secs_f64();
                (span / random.every.as_secs_f64()).ceil() as u64
            }
            _ => item.times.into(),
        });
        let last = item.every.unwrap_or_default() * item.times.saturating_sub(1);
        let end = item
            .at
            .saturating_add(last)
            .saturating_add(item.lasts.unwrap_or_default());
        if end > LONGEST {
            n.problem("a timeline is a day long at most");
        }
        Some(item)
    })?;
    if node.value.items().is_empty() {
        node.wrong(
            TIMELINE,
            Some("a drill in which nothing goes wrong shows nothing".to_owned()),
        );
    }
    if beginnings > MOST {
        node.problem(format!(
            "{beginnings} beginnings; at most {MOST} are allowed"
        ));
    }
    Some(list)
}

fn item<'a>(node: &Node<'a>, known: &Known, names: &mut HashMap<String, Node<'a>>) -> Option<Item> {
    node.map(|f| {
        let at = f.or("at", Duration::ZERO, Node::duration);
        let lasts = f.opt("for", Node::time);
        let every = f.opt("every", Node::time);
        let times = f.opt("times", |n| n.count(2, 10_000));
        let ramps = ["ramp_up", "ramp_down"].map(|key| f.opt(key, Node::time));
        let mut action = action(f, node, known, names);
        let has = |key| node.value.get(key).is_some();
        let said_for = has("for");
        let done_once = matches!(&action, Some(Action::Run(run)) if run.undo.is_none());
        if done_once && said_for {
            node.key("for").its_key().problem_hint(
                "nothing ends: the command has no `undo`",
                "say what undoes it, or leave `for` out",
            );
        } else if !said_for && action.is_some() && !done_once {
            node.key("for")
                .problem(format!("missing; expected {LASTS}"));
        }
        match (has("every"), has("times")) {
            (true, false) => node
                .key("times")
                .problem("missing; expected how many times in all"),
            (false, true) => node
                .key("every")
                .problem("missing; expected the time from one beginning to the next"),
            _ => {}
        }
        if let (Some(every), Some(lasts)) = (every, lasts)
            && every < lasts
        {
            node.key("every")
                .problem("shorter than `for`: it would begin before it has ended");
        }
        if matches!(action, Some(Action::Random(_))) && has("every") {
            node.key("every")
                .its_key()
                .problem_hint("`random` has an `every` of its own", "leave it out here");
        }
        ramped(node, ramps, lasts, &mut action);
        Some(Item {
            at,
            lasts,
            every,
            times: times.unwrap_or(1) as u32,
            action: action?,
        })
    })?
}

/// Puts ramps where the proxies have them: into the rule's schedule.
fn ramped(
    node: &Node<'_>,
    [up, down]: [Option<Duration>; 2],
    lasts: Option<Duration>,
    action: &mut Option<Action>,
) {
    let Some(key) = [("ramp_up", up), ("ramp_down", down)]
        .into_iter()
        .find_map(|(key, ramp)| ramp.map(|_| key))
    else {
        return;
    };
    let Some(Action::Rule(rule)) = action else {
        if action.is_some() {
            node.key(key).its_key().problem_hint(
                "only a rule has a chance that can rise and fall",
                "leave it out",
            );
        }
        return;
    };
    if rule.timetable.is_some() {
        node.key(key).its_key().problem_hint(
            "the rule's own `schedule` says already when it acts",
            "leave one of them out",
        );
        return;
    }
    let (up, down) = (up.unwrap_or_default(), down.unwrap_or_default());
    if lasts.is_some_and(|lasts| up.saturating_add(down) > lasts) {
        node.key(key)
            .problem("the ramps together are longer than `for`");
        return;
    }
    rule.timetable = Some(Timetable {
        at: Start::After(Duration::ZERO),
        lasts,
        every: None,
        ramp_up: up,
        ramp_down: down,
    });
}

fn action<'a>(
    f: &mut Fields<'a, '_>,
    node: &Node<'a>,
    known: &Known,
    names: &mut HashMap<String, Node<'a>>,
) -> Option<Action> {
    let simple = simple(f, node, known, names);
    let random = f
        .get("random")
        .map(|n| (n.clone(), random(&n, known, names)));
    match (simple, random) {
        (Some((first, _)), Some(_)) => {
            also(&node.key("random"), first);
            None
        }
        (Some((_, action)), None) => action,
        (None, Some((_, random))) => random.map(Action::Random),
        (None, None) => {
            node.problem(format!("names nothing that happens; expected {ACTION}"));
            None
        }
    }
}

/// One of `rule`, `partition`, `run` with `undo`; which, and what it is. `None`: none is there.
#[allow(clippy::type_complexity)]
fn simple<'a>(
    f: &mut Fields<'a, '_>,
    node: &Node<'a>,
    known: &Known,
    names: &mut HashMap<String, Node<'a>>,
) -> Option<(&'static str, Option<Action>)> {
    let mut found: Option<(&'static str, Option<Action>)> = None;
    if let Some(at) = f.get("rule") {
        timed_elsewhere(&at);
        let read = rule(&at, known, &[]);
        unique(&at.key("name"), names);
        found = Some(("rule", read.map(|rule| Action::Rule(Box::new(rule)))));
    }
    if let Some(at) = f.get("partition") {
        timed_elsewhere(&at);
        let read = partition(&at, known, &[]);
        unique(&at.key("name"), names);
        match &found {
            Some((first, _)) => also(&at, first),
            None => {
                let read = read.map(|partition| Action::Partition(Box::new(partition)));
                found = Some(("partition", read));
            }
        }
    }
    let name = f.opt("name", title);
    let timeout = f.or("timeout", CommandLine::TIMEOUT, Node::time);
    let undo = f.opt("undo", words);
    if let Some(at) = f.get("run") {
        let run = words(&at);
        let line = |words| CommandLine { words, timeout };
        let read = run.map(line).map(|run| {
            Action::Run(Box::new(Run {
                name: name.unwrap_or_else(|| run.to_string()),
                undo: undo.map(line),
                run,
            }))
        });
        match &found {
            Some((first, _)) => also(&at, first),
            None => found = Some(("run", read)),
        }
    } else {
        for key in ["name", "timeout", "undo"] {
            if node.value.get(key).is_some() {
                let hint = match (key, &found) {
                    ("name", Some((what, _))) => format!("`{what}` has a name of its own"),
                    _ => "leave it out".to_owned(),
                };
                let message = format!("`{key}` is a command's, and there is no `run`");
                node.key(key).its_key().problem_hint(message, hint);
            }
        }
    }
    found
}

fn also(second: &Node<'_>, first: &str) {
    second.its_key().problem_hint(
        format!("`{first}` says already what happens"),
        "make an item for each",
    );
}

/// A definition stands in the timeline once.
fn unique<'a>(name: &Node<'a>, names: &mut HashMap<String, Node<'a>>) {
    let Value::Text(text) = name.value else {
        return;
    };
    match names.get(text) {
        Some(first) => {
            let message = format!("the name {} is taken by {}", quoted(text), first.path());
            name.clash(message, first, Some("`every` and `times` repeat an item"));
        }
        None => {
            names.insert(text.clone(), name.clone());
        }
    }
}

fn random<'a>(
    node: &Node<'a>,
    known: &Known,
    names: &mut HashMap<String, Node<'a>>,
) -> Option<Random> {
    const OF: &str = "a list of rules, partitions and commands to draw from";
    const EVERY: &str = "the span for each of which one is drawn, such as `10s`";
    node.map(|f| {
        let every = f.need("every", EVERY, Node::time);
        let lasts = f.need("lasts", SPAN, span);
        let of = f.need("of", OF, |n| {
            let of = n.list(OF, |n| {
                n.map(|f| match simple(f, n, known, names) {
                    Some((_, action)) => action,
                    None => {
                        n.problem(
                            "names nothing that happens; expected `rule`, `partition` or `run`",
                        );
                        None
                    }
                })?
            })?;
            if n.value.items().is_empty() {
                n.wrong(OF, None);
            }
            Some(of)
        });
        let (every, lasts) = (every?, lasts?);
        if lasts.1 > every {
            node.key("lasts")
                .problem("longer than `every`: it would begin before it has ended");
        }
        Some(Random {
            every,
            lasts,
            of: of.filter(|of| !of.is_empty())?,
        })
    })?
}

const SPAN: &str = "a duration, or two between which it is drawn: `[1s, 5s]`";

fn span(node: &Node<'_>) -> Option<(Duration, Duration)> {
    if !matches!(node.value, Value::List(_)) {
        return node.time().map(|time| (time, time));
    }
    let two = node.list(SPAN, Node::time)?;
    let [least, most] = *two else {
        if node.value.items().len() != 2 {
            node.wrong(SPAN, None);
        }
        return None;
    };
    if least > most {
        node.problem_hint("the shorter one comes first", "turn them around");
        return None;
    }
    Some((least, most))
}

//! Conditions: what a promise, a steady state or a stop may be about.

use std::time::Duration;

use super::super::node::{Fields, Node, nearest};
use super::super::proxies::Known;
use super::super::value::{Value, quoted_list};
use super::load::rate;
use super::read::title;
use super::{Bounds, Check, Comparison, Condition, Once, Promise, Stop, When, probes};
use crate::evidence::{Class, findings};
use crate::units::parse_duration;

/// The words of stretches.
pub(in crate::config) const WHEN: [(&str, When); 5] = [
    ("before", When::Before),
    ("during", When::During),
    ("after", When::After),
    ("end", When::End),
    ("always", When::Always),
];

/// What can be asked of, and what is said of it.
pub(in crate::config) const KINDS: [(&str, &str); 13] = [
    ("success_rate", "The share of good answers"),
    (
        "goodput",
        "Good answers a second, or as a share of what it was before",
    ),
    ("latency", "How long answers took, by percentile"),
    (
        "at_most_once",
        "No operation takes effect twice, by its identity",
    ),
    (
        "repaired",
        "What a caller could not know is found out in time",
    ),
    (
        "retries",
        "No operation is tried again more often than this",
    ),
    ("breaker", "The caller stops calling a service that fails"),
    ("finding", "What the evidence shows of a system"),
    ("evidence", "How many operations there were of some classes"),
    ("http", "A request, and what is answered"),
    ("tcp", "Whether something accepts connections"),
    ("command", "A command, and how it ends"),
    ("prometheus", "What a Prometheus server answers"),
];

/// Those that can be judged while the drill runs.
pub(in crate::config) const LIVE: [&str; 8] = [
    "success_rate",
    "goodput",
    "latency",
    "evidence",
    "http",
    "tcp",
    "command",
    "prometheus",
];

/// The words of percentiles.
pub(in crate::config) const PERCENTILES: [(&str, f64); 8] = [
    ("p50", 50.0),
    ("p75", 75.0),
    ("p90", 90.0),
    ("p95", 95.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("mean", -1.0),
    ("max", 100.0),
];

const EFFECTS: [(&str, Once); 2] = [("effects", Once::Effects), ("deliveries", Once::Deliveries)];

pub(in crate::config) const VERDICTS: [(&str, findings::Verdict); 3] = [
    ("yes", findings::Verdict::Yes),
    ("no", findings::Verdict::No),
    ("not_enough", findings::Verdict::NotEnough),
];

const UNSEEN: [Class; 1] = [Class::Unseen];

/// What a system must be that does not say.
pub(super) fn usual() -> Condition {
    Condition {
        negated: false,
        check: Check::SuccessRate {
            proxy: None,
            is: Bounds(vec![(Comparison::AtLeast, 0.95)]),
        },
    }
}

pub(super) fn promise(node: &Node<'_>, known: &Known) -> Option<Promise> {
    node.map(|f| {
        let name = f.opt("name", title);
        let when = f.opt("when", |n| n.meaning(&WHEN));
        let condition = condition(f, node, known)?;
        if when == Some(When::End) && !is_asked(&condition.check) {
            node.key("when").problem_hint(
                "this is measured over a stretch, and the end is none",
                "say `after`, `during` or `always`",
            );
        }
        let when = when.unwrap_or_else(|| usually(&condition.check));
        if matches!(&condition.check, Check::Breaker { .. }) && when != When::During {
            node.key("when")
                .problem_hint("a breaker opens while faults are on", "leave `when` out");
        }
        Some(Promise {
            name: name.unwrap_or_else(|| condition.to_string()),
            when,
            condition,
        })
    })?
}

/// Whether something outside is asked, at moments of our choosing.
fn is_asked(check: &Check) -> bool {
    matches!(
        check,
        Check::Http(_) | Check::Tcp { .. } | Check::Command(_) | Check::Prometheus { .. }
    )
}

/// Over which stretch a promise is judged that does not say.
fn usually(check: &Check) -> When {
    match check {
        Check::AtMostOnce { .. }
        | Check::Repaired { .. }
        | Check::Retries { .. }
        | Check::Finding { .. }
        | Check::Evidence { .. } => When::Always,
        _ => When::During,
    }
}

/// A check of the steady state: one that can be judged before the drill is over.
pub(super) fn live(node: &Node<'_>, known: &Known) -> Option<Condition> {
    node.map(|f| {
        let condition = condition(f, node, known)?;
        only_live(node);
        of_no_baseline(node, &condition);
        Some(condition)
    })?
}

pub(super) fn stop(node: &Node<'_>, known: &Known) -> Option<Stop> {
    node.map(|f| {
        let over = f.or("over", Duration::from_secs(5), Node::time);
        let lasts = f.or("for", Duration::ZERO, Node::duration);
        let condition = condition(f, node, known)?;
        only_live(node);
        Some(Stop {
            condition,
            over,
            lasts,
        })
    })?
}

fn only_live(node: &Node<'_>) {
    let inner = node.key("not");
    for (key, _) in KINDS {
        for at in [node, &inner] {
            if at.value.get(key).is_some() && !LIVE.contains(&key) {
                at.key(key).its_key().problem_hint(
                    format!("`{key}` can be judged only when all is over"),
                    format!(
                        "put it under `promises`; here may stand {}",
                        quoted_list(LIVE)
                    ),
                );
            }
        }
    }
}

fn of_no_baseline(node: &Node<'_>, condition: &Condition) {
    if let Check::Goodput {
        of_baseline: true, ..
    } = condition.check
    {
        let at = match condition.negated {
            true => node.key("not").key("goodput"),
            false => node.key("goodput"),
        };
        at.problem_hint(
            "a share of what it was before: this is before",
            "say how many a second, such as `{ at_least: 45/s }`",
        );
    }
}

/// One kind, or `not` with one kind.
fn condition(f: &mut Fields<'_, '_>, node: &Node<'_>, known: &Known) -> Option<Condition> {
    let own = kind(f, node, known);
    let negated = f.get("not").map(|n| {
        let inner = n.map(|f| match kind(f, &n, known) {
            Some((_, check)) => check,
            None => {
                nothing(&n);
                None
            }
        });
        (n, inner.flatten())
    });
    match (own, negated) {
        (Some((first, _)), Some((second, _))) => {
            another(&second, first);
            None
        }
        (Some((_, check)), None) => check.map(|check| Condition {
            negated: false,
            check,
        }),
        (None, Some((_, check))) => check.map(|check| Condition {
            negated: true,
            check,
        }),
        (None, None) => {
            // A typo has been reported as what it is.
            let near = match node.value {
                Value::Map(keys) => keys.iter().any(|(key, _)| {
                    let kinds = KINDS.iter().map(|(kind, _)| *kind);
                    nearest(key, kinds).is_some()
                }),
                _ => false,
            };
            if !near {
                nothing(node);
            }
            None
        }
    }
}

fn nothing(node: &Node<'_>) {
    let kinds = quoted_list(KINDS.iter().map(|(kind, _)| *kind));
    node.problem_hint("names nothing that can be true", format!("one of {kinds}"));
}

fn another(second: &Node<'_>, first: &str) {
    second.its_key().problem_hint(
        format!("`{first}` says already what is to be true"),
        "make an item for each",
    );
}

/// The one kind that is named, and what it says. `None`: none is.
#[allow(clippy::type_complexity)]
fn kind(
    f: &mut Fields<'_, '_>,
    node: &Node<'_>,
    known: &Known,
) -> Option<(&'static str, Option<Check>)> {
    let mut found: Option<(&'static str, Option<Check>)> = None;
    for (key, _) in KINDS {
        let Some(at) = f.get(key) else { continue };
        let read = check(key, &at, known);
        match &found {
            None => found = Some((key, read)),
            Some((first, _)) => another(&node.key(key), first),
        }
    }
    found
}

fn check(kind: &str, node: &Node<'_>, known: &Known) -> Option<Check> {
    let proxy = |f: &mut Fields<'_, '_>| f.opt("proxy", |n| known.existing(n));
    match kind {
        "success_rate" => node.map(|f| {
            let proxy = proxy(f);
            let is = bounds(f, node, SHARE, |n| n.probability())?;
            Some(Check::SuccessRate { proxy, is })
        })?,
        "goodput" => goodput(node, known),
        "latency" => latency(node, known),
        "at_most_once" => node.map(|f| Check::AtMostOnce {
            proxy: proxy(f),
            of: f.or("of", Once::Effects, |n| n.meaning(&EFFECTS)),
        }),
        "repaired" => node.map(|f| {
            let within = f.need("within", "in which time, such as `30s`", Node::time);
            let proxy = proxy(f);
            let classes = f.or("class", UNSEEN.to_vec(), classes);
            Some(Check::Repaired {
                proxy,
                within: within?,
                classes,
            })
        })?,
        "retries" => node.map(|f| {
            let at_most = f.need("at_most", "how many, such as `3`", Node::whole);
            let proxy = proxy(f);
            at_most.map(|at_most| Check::Retries { proxy, at_most })
        })?,
        "breaker" => node.map(|f| {
            let proxy = f.need("proxy", "the proxy before the service that fails", |n| {
                known.existing(n)
            });
            let within = f.need("opens_within", "in which time, such as `5s`", Node::time);
            Some(Check::Breaker {
                proxy: proxy?,
                opens_within: within?,
            })
        })?,
        "finding" => finding(node),
        "evidence" => node.map(|f| {
            let proxy = proxy(f);
            let classes = f.need("class", "a class such as `unseen`, or a list", classes);
            let is = bounds(f, node, "a number of operations", |n| {
                n.whole().map(|n| n as f64)
            });
            Some(Check::Evidence {
                proxy,
                classes: classes?,
                is: is?,
            })
        })?,
        "http" => probes::http(node, known),
        "tcp" => probes::tcp(node),
        "command" => probes::command(node),
        "prometheus" => probes::prometheus(node),
        _ => None,
    }
}

const SHARE: &str = "a share from 0 to 1";

/// The comparisons of a map; one at least.
pub(super) fn bounds(
    f: &mut Fields<'_, '_>,
    node: &Node<'_>,
    what: &str,
    read: impl Fn(&Node<'_>) -> Option<f64>,
) -> Option<Bounds> {
    let mut bounds = Vec::new();
    let mut said = false;
    for (word, comparison) in Comparison::ALL {
        let Some(at) = f.get(word) else { continue };
        said = true;
        bounds.extend(read(&at).map(|bound| (comparison, bound)));
    }
    if !said {
        let words = quoted_list(Comparison::ALL.map(|(word, _)| word));
        node.problem_hint(
            format!("compares nothing; expected {what}"),
            format!("say {words}"),
        );
        return None;
    }
    Some(Bounds(bounds))
}

fn goodput(node: &Node<'_>, known: &Known) -> Option<Check> {
    node.map(|f| {
        let proxy = f.opt("proxy", |n| known.existing(n));
        let mut shares = 0;
        let mut all = 0;
        for (word, _) in Comparison::ALL {
            let value = node.value.get(word);
            all += usize::from(value.is_some());
            let number = matches!(value, Some(Value::Int(..) | Value::Float(..)));
            shares += usize::from(number);
        }
        let of_baseline = shares > 0;
        if of_baseline && shares < all {
            node.problem_hint(
                "some are shares of what it was before, some so many a second",
                "write all of them the same way",
            );
        }
        const WHAT: &str = "so many a second, such as `45/s`, or a share such as `0.9`";
        let is = bounds(f, node, WHAT, |n| match of_baseline {
            true if matches!(n.value, Value::Text(_)) => None,
            true => share(n),
            false => rate(n),
        })?;
        Some(Check::Goodput {
            proxy,
            is,
            of_baseline,
        })
    })?
}

/// A share, which may be more than all.
fn share(node: &Node<'_>) -> Option<f64> {
    let number = match node.value {
        Value::Int(n, _) => *n as f64,
        Value::Float(n, _) => *n,
        _ => f64::NAN,
    };
    if !(0.0..=100.0).contains(&number) {
        node.wrong("a share such as `0.9`", None);
        return None;
    }
    Some(number)
}

fn latency(node: &Node<'_>, known: &Known) -> Option<Check> {
    node.map(|f| {
        let proxy = f.opt("proxy", |n| known.existing(n));
        let mut is = Vec::new();
        let mut said = false;
        for (word, percentile) in PERCENTILES {
            let Some(at) = f.get(word) else { continue };
            said = true;
            is.extend(time_bounds(&at).map(|bounds| (percentile, bounds)));
        }
        if !said {
            node.problem_hint(
                "names no percentile",
                "such as `{ p99: 300ms }`, which is the most that it may be",
            );
        }
        Some(Check::Latency { proxy, is })
    })?
}

/// A time, which is the most that it may be; or comparisons.
fn time_bounds(node: &Node<'_>) -> Option<Bounds> {
    let millis = |n: &Node<'_>| n.duration().map(|time| time.as_secs_f64() * 1e3);
    if let Value::Map(_) = node.value {
        return node.map(|f| bounds(f, node, "a duration such as `300ms`", millis))?;
    }
    if let Value::Text(text) = node.value
        && parse_duration(text).is_err()
    {
        node.wrong("a duration such as `300ms`, or `{ below: 300ms }`", None);
        return None;
    }
    millis(node).map(|most| Bounds(vec![(Comparison::AtMost, most)]))
}

fn classes(node: &Node<'_>) -> Option<Vec<Class>> {
    let words = Class::ALL.map(|class| (class.as_str(), class));
    const CLASS: &str = "a class such as `unseen`, or a list of them";
    super::super::matching::one_or_more(node, CLASS, |n| n.meaning(&words))
}

fn finding(node: &Node<'_>) -> Option<Check> {
    node.map(|f| {
        let name = f.need("finding", "the name of a finding", |n| {
            let names: Vec<_> = findings::FINDERS.iter().map(|finder| finder.name).collect();
            n.word(&names).map(str::to_owned)
        });
        let verdict = f.or("verdict", findings::Verdict::Yes, |n| n.meaning(&VERDICTS));
        let from = f.opt("from", Node::name);
        let to = f.opt("to", Node::name);
        Some(Check::Finding {
            finding: name?,
            verdict,
            from,
            to,
        })
    })?
}

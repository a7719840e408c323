//! `schedule`: when a rule or a partition acts while it is enabled.

use std::time::Duration;

use super::node::Node;
use super::value::Value;
use crate::clock::Timestamp;
use crate::rules::{Start, Timetable};

/// When the first window opens.
const AT: &str = "a duration such as `10s`, or a moment such as `2026-12-24T10:00:00Z`";

/// One timetable; `ramps`: what it is for has a probability.
pub(super) fn timetable(node: &Node<'_>, ramps: bool) -> Option<Timetable> {
    let timetable = node.map(|f| {
        let none = Duration::ZERO;
        Timetable {
            at: f.or("at", Start::After(none), start),
            lasts: f.opt("for", Node::time),
            every: f.opt("every", Node::time),
            ramp_up: if ramps {
                f.or("ramp_up", none, Node::duration)
            } else {
                none
            },
            ramp_down: if ramps {
                f.or("ramp_down", none, Node::duration)
            } else {
                none
            },
        }
    })?;
    let Timetable {
        lasts,
        every,
        ramp_up,
        ramp_down,
        ..
    } = timetable;
    let missing = |key| {
        let hint = "say how long it acts each time, such as `for: 10s`";
        node.key(key)
            .problem_hint(format!("`{key}` needs `for`"), hint);
    };
    match (lasts, every) {
        (None, Some(_)) if node.value.get("for").is_none() => missing("every"),
        (Some(lasts), Some(every)) if every < lasts => node.key("every").problem_hint(
            "shorter than `for`: a window would open before the last has closed",
            "leave `every` out to act all the time",
        ),
        (None, _) if !ramp_down.is_zero() => missing("ramp_down"),
        _ => {}
    }
    let sum = ramp_up.saturating_add(ramp_down);
    if lasts.is_some_and(|lasts| sum > lasts) {
        let key = if ramp_up.is_zero() {
            "ramp_down"
        } else {
            "ramp_up"
        };
        node.key(key)
            .problem("the ramps together are longer than `for`");
    }
    Some(timetable)
}

fn start(node: &Node<'_>) -> Option<Start> {
    let Value::Text(text) = node.value else {
        return node.duration().map(Start::After);
    };
    if text.contains('T') || text.contains(':') {
        let moment = text.parse::<Timestamp>();
        return moment.map(Start::At).map_err(|_| node.wrong(AT, None)).ok();
    }
    let time = node.quantity(crate::units::parse_duration);
    time.map(Start::After)
        .map_err(|_| node.wrong(AT, None))
        .ok()
}

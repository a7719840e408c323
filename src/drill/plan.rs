//! The timeline, worked out: what is turned on and off, and when. Chance is drawn here, from the
//! seed, before anything goes wrong.

use std::time::Duration;

use crate::config::drill::{Action, Item, Random, Run};
use crate::rules::{Partition, Rule};
use crate::seed::Draw;

/// Something that goes wrong, perhaps several times.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub what: What,
    /// Whether chance decides if it comes at all.
    pub drawn: bool,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum What {
    /// A rule is on.
    Rule(Box<Rule>),
    /// A partition is in force.
    Partition(Box<Partition>),
    /// A command was run.
    Run(Box<Run>),
}

impl What {
    /// The word in reports.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Partition(_) => "partition",
            Self::Run(_) => "command",
        }
    }

    /// What happens, in a word or two.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Rule(rule) => rule.fault.kind.name.to_owned(),
            Self::Partition(partition) => partition.mode.as_str().to_owned(),
            Self::Run(run) => run.run.to_string(),
        }
    }
}

/// A fault is turned on, or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// From the beginning of the timeline.
    pub at: Duration,
    /// Which of the faults.
    pub fault: usize,
    /// What becomes of it.
    pub to: To,
}

/// What becomes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// It is off.
    Off,
    /// It is on, until it is turned off after so long; `None`: it is not undone.
    On(Option<Duration>),
}

/// A timeline, worked out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Each once.
    pub faults: Vec<Fault>,
    /// In the order of their times; of one moment, what ends comes first.
    pub turns: Vec<Turn>,
    /// Until the last is over.
    pub lasts: Duration,
}

impl Plan {
    /// Works a timeline out.
    #[must_use]
    pub fn new(timeline: &[Item], seed: u64) -> Self {
        let mut faults = Vec::new();
        let mut turns = Vec::new();
        let mut turn = |fault, at: Duration, lasts: Option<Duration>| {
            turns.push(Turn {
                at,
                fault,
                to: To::On(lasts),
            });
            if let Some(lasts) = lasts {
                turns.push(Turn {
                    at: at + lasts,
                    fault,
                    to: To::Off,
                });
            }
        };
        let mut add = |action: &Action, drawn| {
            let what = match action {
                Action::Rule(rule) => What::Rule(rule.clone()),
                Action::Partition(partition) => What::Partition(partition.clone()),
                Action::Run(run) => What::Run(run.clone()),
                // One that is random has none that is in it.
                Action::Random(_) => return None,
            };
            let name = action.name().to_owned();
            faults.push(Fault { name, what, drawn });
            Some(faults.len() - 1)
        };
        for (n, item) in timeline.iter().enumerate() {
            let Action::Random(random) = &item.action else {
                let Some(fault) = add(&item.action, false) else {
                    continue;
                };
                let every = item.every.unwrap_or_default();
                for time in 0..item.times {
                    turn(fault, item.at + every * time, item.lasts);
                }
                continue;
            };
            let of: Vec<_> = random.of.iter().filter_map(|a| add(a, true)).collect();
            let span = item.lasts.unwrap_or_default();
            for (at, lasts, which) in draws(random, span, of.len(), seed, n) {
                turn(of[which], item.at + at, Some(lasts));
            }
        }
        turns.sort_by_key(|turn| (turn.at, turn.to != To::Off));
        let lasts = turns.iter().map(|turn| turn.at).max();
        Self {
            faults,
            turns,
            lasts: lasts.unwrap_or_default(),
        }
    }
}

/// One for each whole span: when it begins, how long it lasts, and which of so many it is.
fn draws(
    random: &Random,
    span: Duration,
    of: usize,
    seed: u64,
    item: usize,
) -> Vec<(Duration, Duration, usize)> {
    let (least, most) = random.lasts;
    let mut drawn = Vec::new();
    let mut from = Duration::ZERO;
    while of > 0 && from + random.every <= span {
        let mut draw = Draw::new(seed, "drill/timeline", item as u64, drawn.len() as u64 + 1);
        let which = (draw.unit() * of as f64) as usize;
        let lasts = least + (most - least).mul_f64(draw.unit());
        let at = from + random.every.saturating_sub(lasts).mul_f64(draw.unit());
        drawn.push((at, lasts, which.min(of - 1)));
        from += random.every;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_drill;

    fn plan(timeline: &str, seed: u64) -> Plan {
        let text = format!("promise: p\ntimeline:\n{timeline}");
        let drill = parse_drill(&text, "d.yaml").unwrap_or_else(|p| panic!("{p}"));
        Plan::new(&drill.timeline, seed)
    }

    fn lines(plan: &Plan) -> String {
        let line = |turn: &Turn| {
            let to = match turn.to {
                To::On(_) => "on",
                To::Off => "off",
            };
            let name = &plan.faults[turn.fault].name;
            format!("{:.1} {name} {to}", turn.at.as_secs_f64())
        };
        plan.turns.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_on_is_turned_off_again() {
        let plan = plan(
            "  - { at: 2s, for: 3s, rule: { name: r, fault: { drop: {} } } }
  - { for: 2s, every: 4s, times: 2, partition: { name: p, isolate: [a] } }
  - { at: 9s, run: kill }
",
            1,
        );
        assert_eq!(
            lines(&plan),
            "0.0 p on, 2.0 p off, 2.0 r on, 4.0 p on, 5.0 r off, 6.0 p off, 9.0 kill on"
        );
        assert_eq!(plan.lasts, Duration::from_secs(9));
    }

    #[test]
    fn chance_is_the_seeds() {
        let timeline = "  - for: 60s
    random:
      every: 10s
      lasts: [1s, 5s]
      of:
        - { rule: { name: r, fault: { drop: {} } } }
        - { run: stop, undo: go }
";
        let first = plan(timeline, 7);
        assert_eq!(lines(&first), lines(&plan(timeline, 7)));
        assert_ne!(lines(&first), lines(&plan(timeline, 8)));
        assert_eq!(first.turns.len(), 12);
        for pair in first.turns.chunks(2) {
            let (on, off) = (&pair[0], &pair[1]);
            assert_eq!((on.fault, off.to), (off.fault, To::Off));
            let lasts = (off.at - on.at).as_secs_f64();
            assert!((1.0..=5.0).contains(&lasts), "{lasts}");
            assert_eq!(
                on.at.as_secs() / 10,
                (off.at.as_millis() as u64 - 1) / 10_000
            );
        }
    }
}

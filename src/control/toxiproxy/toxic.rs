//! A toxic and the rule that it is: the same fault in two vocabularies.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::Fields;
use crate::faults::{self, Arg, Args, Directions};
use crate::operation::Direction;
use crate::rules::{FaultSpec, Matcher, Rule, Ttl};
use crate::units::MAX_DURATION;

/// A toxic of one proxy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Toxic {
    pub(super) name: String,
    pub(super) sort: &'static Sort,
    pub(super) stream: Direction,
    /// 0 to 1.
    pub(super) toxicity: f64,
    /// In the order of the sort's.
    pub(super) attributes: Vec<Number>,
}

/// A number as Go has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Real(f64),
}

/// One sort of toxic.
#[derive(Debug)]
pub(super) struct Sort {
    pub(super) name: &'static str,
    /// In Go.
    pub(super) go: &'static str,
    /// The kind of fault that it is.
    kind: &'static str,
    /// With the parameters that they are.
    attributes: &'static [(&'static str, &'static str, Unit)],
}

impl PartialEq for Sort {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What an attribute's number means.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Milliseconds,
    Microseconds,
    Bytes,
    /// 1000 bytes a second.
    Kilobytes,
    /// 0 to 1.
    Share,
    /// Nothing here is like it: it must be 0.
    Nothing,
}

/// `noop` comes before `latency`, so that one is not taken for the other.
pub(super) static SORTS: &[Sort] = &[
    Sort {
        name: "noop",
        go: "NoopToxic",
        kind: "delay",
        attributes: &[],
    },
    Sort {
        name: "latency",
        go: "LatencyToxic",
        kind: "delay",
        attributes: &[
            ("latency", "latency", Unit::Milliseconds),
            ("jitter", "jitter", Unit::Milliseconds),
        ],
    },
    Sort {
        name: "bandwidth",
        go: "BandwidthToxic",
        kind: "bandwidth",
        attributes: &[("rate", "rate", Unit::Kilobytes)],
    },
    Sort {
        name: "slow_close",
        go: "SlowCloseToxic",
        kind: "slow_close",
        attributes: &[("delay", "delay", Unit::Milliseconds)],
    },
    Sort {
        name: "timeout",
        go: "TimeoutToxic",
        kind: "timeout",
        attributes: &[("timeout", "after", Unit::Milliseconds)],
    },
    Sort {
        name: "reset_peer",
        go: "ResetToxic",
        kind: "reset",
        attributes: &[("timeout", "after", Unit::Milliseconds)],
    },
    Sort {
        name: "slicer",
        go: "SlicerToxic",
        kind: "slice",
        attributes: &[
            ("average_size", "size", Unit::Bytes),
            ("size_variation", "variation", Unit::Bytes),
            ("delay", "gap", Unit::Microseconds),
        ],
    },
    Sort {
        name: "limit_data",
        go: "LimitDataToxic",
        kind: "limit_data",
        attributes: &[("bytes", "bytes", Unit::Bytes)],
    },
    Sort {
        name: "packet_loss",
        go: "PacketLossToxic",
        kind: "packet_loss",
        attributes: &[
            ("loss_rate", "rate", Unit::Share),
            ("correlation", "", Unit::Nothing),
        ],
    },
];

impl Unit {
    fn default(self) -> Number {
        match self {
            Self::Share | Self::Nothing => Number::Real(0.0),
            _ => Number::Whole(0),
        }
    }

    /// The parameter's value; `None`: nothing is to be said.
    fn to_arg(self, number: Number) -> Result<Option<Arg>, &'static str> {
        let whole = match number {
            Number::Whole(n) => u64::try_from(n).map_err(|_| "must not be negative")?,
            Number::Real(share) => {
                return match self {
                    Self::Share if (0.0..=1.0).contains(&share) => Ok(Some(Arg::Ratio(share))),
                    Self::Share => Err("must be from 0 to 1"),
                    _ if share == 0.0 => Ok(None),
                    _ => Err("can't be had here: leave it out"),
                };
            }
        };
        let time = |time: Duration| match time <= MAX_DURATION {
            true => Ok(Some(Arg::Duration(time))),
            false => Err("is longer than a hundred years"),
        };
        match self {
            Self::Milliseconds => time(Duration::from_millis(whole)),
            Self::Microseconds => time(Duration::from_micros(whole)),
            Self::Bytes => Ok(Some(Arg::Size(whole))),
            Self::Kilobytes => {
                let rate = whole.checked_mul(1000).ok_or("is too much")?;
                Ok(Some(Arg::Rate(rate)))
            }
            Self::Share | Self::Nothing => Ok(None),
        }
    }

    /// The number that a parameter's value is; `None`: there is none.
    fn of_arg(self, arg: &Arg) -> Option<Number> {
        let whole = match (self, arg) {
            (Self::Milliseconds, Arg::Duration(time)) => {
                let exact = time.subsec_nanos() % 1_000_000 == 0;
                exact.then_some(time.as_millis())?
            }
            (Self::Microseconds, Arg::Duration(time)) => {
                let exact = time.subsec_nanos() % 1000 == 0;
                exact.then_some(time.as_micros())?
            }
            (Self::Bytes, Arg::Size(size)) => u128::from(*size),
            (Self::Kilobytes, Arg::Rate(rate)) if rate % 1000 == 0 => u128::from(rate / 1000),
            (Self::Share, Arg::Ratio(share)) => return Some(Number::Real(*share)),
            _ => return None,
        };
        i64::try_from(whole).ok().map(Number::Whole)
    }
}

impl Sort {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        SORTS.iter().find(|sort| sort.name == name)
    }

    pub(super) fn defaults(&self) -> Vec<Number> {
        self.attributes
            .iter()
            .map(|(_, _, unit)| unit.default())
            .collect()
    }

    /// Lays what is said over `numbers`.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn read(&self, said: Option<&Value>, numbers: &mut [Number]) -> Result<(), String> {
        let Some(said) = said else { return Ok(()) };
        let fields = Fields::of(said, self.go)?;
        for ((name, ..), number) in self.attributes.iter().zip(numbers) {
            match number {
                Number::Whole(n) => *n = fields.whole(name)?.unwrap_or(*n),
                Number::Real(n) => *n = fields.real(name, "float64")?.unwrap_or(*n),
            }
        }
        Ok(())
    }
}

impl Toxic {
    /// The name of the rule that a toxic of a proxy is.
    pub(super) fn rule_name(proxy: &str, toxic: &str) -> String {
        format!("{proxy}/{toxic}")
    }

    /// The rule that it is.
    ///
    /// # Errors
    /// What can't be had, though Toxiproxy would take it.
    pub(super) fn to_rule(&self, proxy: &str) -> Result<Rule, String> {
        if !(0.0..=1.0).contains(&self.toxicity) {
            return Err("toxicity must be from 0 to 1".to_owned());
        }
        let sort = self.sort;
        let kind = faults::find(sort.kind).ok_or("there is no such fault")?;
        let mut args = Vec::new();
        for ((name, param, unit), number) in sort.attributes.iter().zip(&self.attributes) {
            let arg = unit.to_arg(*number);
            let Some(arg) = arg.map_err(|problem| format!("{name} {problem}"))? else {
                continue;
            };
            let said = kind
                .param(param)
                .is_some_and(|param| param.default.is_none());
            if said || *number != unit.default() {
                args.push((*param, arg));
            }
        }
        let noop = sort.name == "noop";
        if noop {
            args.push(("latency", Arg::Duration(Duration::ZERO)));
        }
        if sort.name == "reset_peer" {
            args.push(("side", Arg::Choice("both")));
        }
        let fault = FaultSpec::new(kind, Args(args)).map_err(|invalid| {
            let mut attributes = sort.attributes.iter();
            let name = attributes.find(|(_, param, _)| *param == invalid.param);
            let name = name.map_or(invalid.param, |(name, ..)| name);
            format!("{name}: {}", invalid.message)
        })?;
        // A kind that has but one direction is told apart by whether that is said.
        let direction = match kind.directions {
            Directions::Fixed(natural) => Some(natural).filter(|d| *d == self.stream),
            Directions::Either { .. } => Some(self.stream),
        };
        Ok(Rule {
            name: Self::rule_name(proxy, &self.name),
            proxies: Some(vec![proxy.to_owned()]),
            enabled: true,
            matcher: Matcher::default(),
            probability: self.toxicity,
            skip: 0,
            limit: None,
            max_active: None,
            ttl: Ttl::Forever,
            dry_run: noop,
            direction,
            timetable: None,
            fault,
        })
    }

    /// The toxic of this proxy that a rule is, enabled or not; `None`: it is none.
    pub(super) fn of_rule(rule: &Rule, proxy: &str) -> Option<Self> {
        let name = rule.name.strip_prefix(proxy)?.strip_prefix('/')?;
        if rule.proxies.as_deref() != Some(&[proxy.to_owned()]) || matches!(rule.ttl, Ttl::For(_)) {
            return None;
        }
        SORTS.iter().find_map(|sort| {
            let stream = match rule.fault.kind.directions {
                Directions::Fixed(natural) => match rule.direction {
                    Some(_) => natural,
                    None => other(natural),
                },
                Directions::Either { .. } => rule.direction?,
            };
            if rule.fault.kind.name != sort.kind {
                return None;
            }
            let said = |param: &str| rule.fault.args.0.iter().find(|(name, _)| *name == param);
            let attributes = sort
                .attributes
                .iter()
                .map(|(_, param, unit)| match said(param) {
                    Some((_, arg)) => unit.of_arg(arg),
                    None => Some(unit.default()),
                });
            let toxic = Self {
                name: name.to_owned(),
                sort,
                stream,
                toxicity: rule.probability,
                attributes: attributes.collect::<Option<_>>()?,
            };
            // Whatever else the rule says, no toxic can.
            let same = toxic.to_rule(proxy).ok()?;
            same.alike(rule).then_some(toxic)
        })
    }

    /// Lays over it what is said of its toxicity and attributes; the rest of it stays.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn alter(&mut self, said: &Value) -> Result<(), String> {
        let fields = Fields::of(said, "ToxicWrapper")?;
        let toxicity = fields.real("toxicity", "float32")?;
        self.toxicity = toxicity.unwrap_or(self.toxicity);
        self.sort
            .read(fields.get("attributes"), &mut self.attributes)
    }

    pub(super) fn to_json(&self) -> Value {
        let each = self.sort.attributes.iter().zip(&self.attributes);
        let attributes: Map<_, _> = each
            .map(|((name, ..), number)| {
                let number = match number {
                    Number::Whole(n) => json!(n),
                    Number::Real(n) => go_float(*n),
                };
                ((*name).to_owned(), number)
            })
            .collect();
        json!({
            "attributes": attributes,
            "name": self.name,
            "type": self.sort.name,
            "stream": self.stream.as_str(),
            "toxicity": go_float(self.toxicity),
        })
    }
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Upstream => Direction::Downstream,
        Direction::Downstream => Direction::Upstream,
    }
}

/// Go prints a whole float without its point.
fn go_float(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// Whether a rule says what a toxic's does.
trait Alike {
    fn alike(&self, other: &Rule) -> bool;
}

impl Alike for Rule {
    fn alike(&self, other: &Rule) -> bool {
        // What is left out is at its default.
        let spelt = |rule: &Rule| {
            let kind = rule.fault.kind;
            let said = |name: &str| rule.fault.args.0.iter().find(|(n, _)| *n == name);
            let value = |param: &faults::Param| match said(param.name) {
                Some((_, Arg::Duration(Duration::ZERO) | Arg::Size(0))) => json!("0").to_string(),
                Some((_, arg)) => arg.to_json().to_string(),
                None => json!(param.default.unwrap_or_default()).to_string(),
            };
            kind.params.iter().map(value).collect::<Vec<_>>()
        };
        let plain = |rule: &Rule| Rule {
            fault: self.fault.clone(),
            ttl: Ttl::Forever,
            ..rule.clone()
        };
        self.same_as(&plain(other)) && spelt(self) == spelt(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;
    use crate::rules::Edge;

    fn toxics() -> impl Strategy<Value = Toxic> {
        let number = prop_oneof![Just(0i64), 1..5000i64, Just(1_000_000)];
        let numbers = proptest::collection::vec(number, 3);
        (0..SORTS.len(), any::<bool>(), 0..=10u8, numbers).prop_map(|(n, up, tenths, numbers)| {
            let sort = &SORTS[n];
            let mut attributes = sort.defaults();
            for (attribute, n) in attributes.iter_mut().zip(&numbers) {
                if let Number::Whole(whole) = attribute {
                    *whole = *n;
                }
            }
            match sort.name {
                "slicer" => {
                    let Number::Whole(size) = attributes[0] else {
                        unreachable!()
                    };
                    attributes[0] = Number::Whole(size.max(1));
                    attributes[1] = Number::Whole(size.min(numbers[1]));
                }
                "packet_loss" => attributes[0] = Number::Real(f64::from(tenths) / 10.0),
                _ => {}
            }
            Toxic {
                name: "t".to_owned(),
                sort,
                stream: [Direction::Downstream, Direction::Upstream][usize::from(up)],
                toxicity: f64::from(tenths) / 10.0,
                attributes,
            }
        })
    }

    proptest! {
        #[test]
        fn a_toxic_is_a_rule_and_that_rule_is_the_toxic(toxic in toxics()) {
            let rule = toxic.to_rule("p").unwrap();
            let again = Toxic::of_rule(&rule, "p");
            prop_assert_eq!(again.as_ref(), Some(&toxic));
            prop_assert_eq!(Toxic::of_rule(&rule, "q"), None);
            let zero = toxic.sort.name == "limit_data" && toxic.attributes[0] == Number::Whole(0);
            if !zero {
                let edges = [Edge::new("p", "127.0.0.1:0", "127.0.0.1:1")];
                let json = config::rule_to_json(&rule);
                let read = config::rule_from_json(&json, &edges).unwrap();
                prop_assert_eq!(Toxic::of_rule(&read, "p"), Some(toxic), "as the API tells it");
            }
        }
    }

    fn rule(text: &str) -> Rule {
        let edges = ["p", "q"].map(|name| Edge::new(name, "127.0.0.1:0", "127.0.0.1:1"));
        let said: Value = serde_json::from_str(text).unwrap();
        config::rule_from_json(&said, &edges).unwrap()
    }

    #[test]
    fn only_what_a_toxic_can_express_is_one() {
        let delay = |more: &str| {
            format!(
                r#"{{"name": "p/slow", "proxies": ["p"], "direction": "upstream", {more}
                "fault": {{"delay": {{"latency": "150ms"}}}}}}"#
            )
        };
        let shown = Toxic::of_rule(&rule(&delay("")), "p").unwrap();
        assert_eq!(
            shown.to_json(),
            json!({
                "attributes": {"latency": 150, "jitter": 0}, "name": "slow", "type": "latency",
                "stream": "upstream", "toxicity": 1,
            })
        );
        let half = Toxic::of_rule(
            &rule(&delay(r#""probability": 0.5, "enabled": false,"#)),
            "p",
        );
        assert_eq!(half.unwrap().to_json()["toxicity"], json!(0.5));
        for more in [
            r#""skip": 1,"#,
            r#""limit": 1,"#,
            r#""max_active": 1,"#,
            r#""dry_run": true,"#,
            r#""ttl": "1m","#,
            r#""match": {"client": "10.0.0.1"},"#,
        ] {
            assert_eq!(Toxic::of_rule(&rule(&delay(more)), "p"), None, "{more}");
        }
        for (name, proxies, fault, direction) in [
            (
                "p/t",
                r#"["p", "q"]"#,
                r#"{"delay": {"latency": "1s"}}"#,
                "upstream",
            ),
            (
                "q/t",
                r#"["p"]"#,
                r#"{"delay": {"latency": "1s"}}"#,
                "upstream",
            ),
            (
                "pt",
                r#"["p"]"#,
                r#"{"delay": {"latency": "1s"}}"#,
                "upstream",
            ),
            (
                "p/t",
                r#"["p"]"#,
                r#"{"delay": {"latency": "1500us"}}"#,
                "upstream",
            ),
            (
                "p/t",
                r#"["p"]"#,
                r#"{"delay": {"latency": "1s", "distribution": "normal"}}"#,
                "upstream",
            ),
            (
                "p/t",
                r#"["p"]"#,
                r#"{"bandwidth": {"rate": "1500B/s"}}"#,
                "upstream",
            ),
            (
                "p/t",
                r#"["p"]"#,
                r#"{"bandwidth": {"rate": "1kB/s", "per": "proxy"}}"#,
                "upstream",
            ),
            (
                "p/t",
                r#"["p"]"#,
                r#"{"reset": {"after": "1s"}}"#,
                "downstream",
            ),
            ("p/t", r#"["p"]"#, r#"{"corrupt": {}}"#, "upstream"),
        ] {
            let text = format!(
                r#"{{"name": "{name}", "proxies": {proxies}, "direction": "{direction}", "fault": {fault}}}"#
            );
            assert_eq!(Toxic::of_rule(&rule(&text), "p"), None, "{text}");
        }
        let spelt = r#"{"name": "p/t", "proxies": ["p"], "direction": "upstream",
            "fault": {"delay": {"latency": "1s", "distribution": "uniform", "jitter": "0"}}}"#;
        assert!(
            Toxic::of_rule(&rule(spelt), "p").is_some(),
            "defaults may be said"
        );
        let both = r#"{"name": "p/t", "proxies": ["p"], "fault": {"delay": {"latency": "1s"}}}"#;
        assert_eq!(
            Toxic::of_rule(&rule(both), "p"),
            None,
            "a toxic acts one way"
        );
    }
}

//! What a single value may be: texts, numbers, words, names, addresses.

use std::time::Duration;

use super::address::Address;
use super::node::{Node, nearest};
use super::value::{Value, quoted, quoted_list};
use crate::rules::Edge;
use crate::units::{self, UnitError};

/// What a name is.
pub(super) const NAME: &str = "a name: 1 to 64 letters, digits, `_`, `.` or `-`";
/// What the name of a rule is: a toxic `t` of a proxy `p` is the rule `p/t`.
pub(super) const RULE_NAME: &str = "a name: 1 to 129 letters, digits, `_`, `.`, `-` or `/`";
/// What a proxy listens on.
pub(super) const LISTEN: &str = "an address such as `127.0.0.1:7001`";
/// What a proxy connects to.
pub(super) const UPSTREAM: &str = "an address such as `127.0.0.1:8001` or `payment:8001`";

impl Node<'_> {
    /// A text; a number is none.
    pub(super) fn text(&self, expected: &str) -> Option<String> {
        match self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(_, spelt) | Value::Float(_, spelt) | Value::Bool(_, spelt) => {
                self.wrong(expected, Some(format!("write it in quotes: `\"{spelt}\"`")));
                None
            }
            _ => {
                self.wrong(expected, None);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn some_text(&self, expected: &str) -> Option<String> {
        let text = self.text(expected)?;
        if text.is_empty() {
            self.wrong(expected, None);
            return None;
        }
        Some(text)
    }

    /// A text that often looks like something else: `x-tenant: 1`. Whole numbers and booleans are
    /// taken as they are spelt; other numbers are not, since JSON does not keep their spelling.
    pub(super) fn loose_text(&self) -> Option<String> {
        match self.value {
            Value::Int(_, spelt) | Value::Bool(_, spelt) => Some(spelt.clone()),
            _ => self.text("a text"),
        }
    }

    pub(super) fn quantity<T>(
        &self,
        parse: fn(&str) -> Result<T, UnitError>,
    ) -> Result<T, &'static str> {
        let text = match self.value {
            Value::Text(text) | Value::Int(_, text) => text,
            _ => "",
        };
        parse(text).map_err(|error| error.expected)
    }

    /// A duration; `0` needs no unit.
    pub(super) fn duration(&self) -> Option<Duration> {
        let hint = match self.value {
            Value::Int(n, _) if *n > 0 => Some(format!("give it a unit: `{n}ms` or `{n}s`")),
            _ => None,
        };
        let read = self.quantity(units::parse_duration);
        read.map_err(|expected| self.wrong(expected, hint)).ok()
    }

    /// A rate in bytes a second; 0 is one.
    pub(super) fn rate(&self) -> Option<u64> {
        let read = self.quantity(units::parse_rate);
        read.map_err(|expected| self.wrong(expected, None)).ok()
    }

    /// A duration other than 0.
    pub(super) fn time(&self) -> Option<Duration> {
        let time = self.duration()?;
        if time.is_zero() {
            self.wrong("a duration longer than 0", None);
            return None;
        }
        Some(time)
    }

    /// A size in bytes, of one at least.
    pub(super) fn size(&self) -> Option<u64> {
        let read = self.quantity(units::parse_size);
        let size = read.map_err(|expected| self.wrong(expected, None)).ok()?;
        if size == 0 {
            self.wrong("a size of 1 byte or more", None);
            return None;
        }
        Some(size)
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, min: u64, max: u64) -> Option<u64> {
        if let Value::Int(n, _) = *self.typed()
            && let Ok(n) = u64::try_from(n)
            && (min..=max).contains(&n)
        {
            return Some(n);
        }
        let expected = match (min, max) {
            (0, u64::MAX) => "a whole number".to_owned(),
            (_, u64::MAX) => format!("a whole number of {min} or more"),
            _ => format!("a whole number from {min} to {max}"),
        };
        let hint = match self.value {
            Value::Text(text) if text.parse::<u64>().is_ok() => {
                Some("write it without quotes".to_owned())
            }
            _ => None,
        };
        self.wrong(&expected, hint);
        None
    }

    /// A whole number of one or more.
    pub(super) fn positive(&self) -> Option<u64> {
        self.count(1, u64::MAX)
    }

    /// Any whole number that is not negative.
    pub(super) fn whole(&self) -> Option<u64> {
        self.count(0, u64::MAX)
    }

    /// A chance.
    pub(super) fn probability(&self) -> Option<f64> {
        let number = match *self.typed() {
            Value::Int(n, _) => n as f64,
            Value::Float(n, _) => n,
            _ => f64::NAN,
        };
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        let percent = match self.value {
            Value::Text(text) => text.strip_suffix('%').and_then(|n| n.trim().parse().ok()),
            _ => (number > 1.0).then_some(number),
        };
        let hint = percent
            .filter(|n: &f64| (0.0..=100.0).contains(n))
            .map(|n| format!("{n} % is written `{}`", n / 100.0));
        self.wrong("a number from 0 to 1", hint);
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        if let Value::Bool(b, _) = *self.typed() {
            return Some(b);
        }
        let meant = match self.value {
            Value::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => Some("write `true`"),
                "no" | "off" | "n" | "false" => Some("write `false`"),
                _ => None,
            },
            _ => None,
        };
        self.wrong("`true` or `false`", meant.map(str::to_owned));
        None
    }

    /// One of some words.
    pub(super) fn word<'w>(&self, words: &[&'w str]) -> Option<&'w str> {
        let given = match self.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        let found = words.iter().find(|w| **w == given);
        if found.is_none() {
            let near = nearest(given, words.iter().copied());
            self.wrong(
                &format!("one of {}", quoted_list(words.iter().copied())),
                near.map(|near| format!("did you mean `{near}`?")),
            );
        }
        found.copied()
    }

    /// One of some words, as what it stands for.
    pub(super) fn meaning<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let word = self.word(&names)?;
        words.iter().find(|(w, _)| *w == word).map(|(_, t)| *t)
    }

    /// The name of a proxy, a partition or a service.
    pub(super) fn name(&self) -> Option<String> {
        self.name_of(NAME, 64, b"_.-")
    }

    /// The name of a rule.
    pub(super) fn rule_name(&self) -> Option<String> {
        self.name_of(RULE_NAME, 129, b"_.-/")
    }

    fn name_of(&self, expected: &str, most: usize, marks: &[u8]) -> Option<String> {
        let text = self.text(expected)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || marks.contains(&b);
        if !(1..=most).contains(&text.len()) || !text.bytes().all(allowed) {
            self.wrong(expected, None);
            return None;
        }
        Some(text)
    }

    /// The name of a header.
    pub(super) fn header_name(&self) -> Option<String> {
        let text = self.text("the name of a header")?;
        if !is_token(&text) {
            self.wrong("the name of a header", None);
            return None;
        }
        Some(text)
    }

    /// An address to listen on; port 0 is any free one.
    pub(super) fn listen(&self) -> Option<String> {
        self.address(LISTEN).map(|(text, _)| text)
    }

    /// An address to connect to, or the word for where each client was going.
    pub(super) fn upstream(&self) -> Option<String> {
        if let Value::Text(text) = self.value
            && text == Edge::ORIGINAL
        {
            return Some(text.clone());
        }
        let (text, address) = self.address(UPSTREAM)?;
        if address.port == 0 {
            self.problem(format!(
                "nothing can be reached at port 0: {}",
                quoted(&text)
            ));
            return None;
        }
        Some(text)
    }

    fn address(&self, expected: &str) -> Option<(String, Address)> {
        let Value::Text(text) = self.value else {
            let hint = match self.value {
                Value::Int(port, _) if (0..=65_535).contains(port) => {
                    Some(format!("did you mean `127.0.0.1:{port}`?"))
                }
                _ => None,
            };
            self.wrong(expected, hint);
            return None;
        };
        match Address::parse(text) {
            Ok(address) => Some((text.clone(), address)),
            Err(hint) => {
                self.wrong(expected, hint);
                None
            }
        }
    }
}

/// Whether HTTP allows it as a method or a header's name.
pub(super) fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

//! Parameters: their types, and their values once checked.

use std::time::Duration;

use crate::units;

/// A parameter of a kind.
#[derive(Debug)]
pub struct Param {
    /// The key.
    pub name: &'static str,
    /// What may stand there.
    pub ty: Type,
    /// What holds when it is absent, as a user would write it; `None`: it must be given.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// What may stand as a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `150ms`
    Duration,
    /// A whole number within these bounds.
    Count {
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a whole number within the bounds, told apart by its shape.
    ChoiceOrStatus(&'static [&'static str]),
    /// Any text.
    Text,
    /// Names with texts.
    Map,
    /// `64KiB`
    Size,
    /// `1MB/s`
    Rate,
    /// A number from 0 to 1.
    Ratio,
    /// `150ms` or `64KiB`, told apart by the unit.
    DurationOrSize,
}

impl Type {
    /// A value that may stand there, as a user would write it (in YAML).
    #[must_use]
    pub fn example(&self) -> String {
        match self {
            Self::Duration | Self::DurationOrSize => "150ms".to_owned(),
            Self::Count { min, .. } => min.to_string(),
            Self::Choice(words) | Self::ChoiceOrStatus(words) => (*words[0]).to_owned(),
            Self::Text => "text".to_owned(),
            Self::Map => "{ x-name: text }".to_owned(),
            Self::Size => "64KiB".to_owned(),
            Self::Rate => "1MB/s".to_owned(),
            Self::Ratio => "0.5".to_owned(),
        }
    }

    /// How it is called in messages and docs.
    #[must_use]
    pub fn describe(&self) -> String {
        let words = |list: &[&str]| {
            list.iter()
                .map(|w| format!("`{w}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self {
            Self::Duration => "a duration such as `150ms`".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice(list) => format!("one of {}", words(list)),
            Self::ChoiceOrStatus(list) => {
                format!("one of {} or a status from 200 to 599", words(list))
            }
            Self::Text => "a text".to_owned(),
            Self::Map => "a map of names to texts".to_owned(),
            Self::Size => "a size such as `64KiB`".to_owned(),
            Self::Rate => "a rate such as `1MB/s`".to_owned(),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::DurationOrSize => {
                "a duration such as `150ms` or a size such as `64KiB`".to_owned()
            }
        }
    }
}

/// A value of a parameter, checked against its [`Type`].
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Of [`Type::Duration`], or the time of a [`Type::DurationOrSize`].
    Duration(Duration),
    /// Of [`Type::Count`], or the number of a [`Type::ChoiceOrStatus`].
    Count(u64),
    /// Of [`Type::Choice`] or the word of a [`Type::ChoiceOrStatus`].
    Choice(&'static str),
    /// Of [`Type::Text`].
    Text(String),
    /// Of [`Type::Map`], in the order given.
    Map(Vec<(String, String)>),
    /// Of [`Type::Size`], or the size of a [`Type::DurationOrSize`], in bytes.
    Size(u64),
    /// Of [`Type::Rate`], in bytes a second.
    Rate(u64),
    /// Of [`Type::Ratio`].
    Ratio(f64),
}

impl Arg {
    /// As JSON, so that the decoder reads the same back.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Duration(d) => units::format_duration(*d).into(),
            Self::Count(n) => (*n).into(),
            Self::Choice(word) => (*word).into(),
            Self::Text(text) => text.clone().into(),
            Self::Size(bytes) => units::format_size(*bytes).into(),
            Self::Rate(rate) => units::format_rate(*rate).into(),
            Self::Ratio(ratio) => (*ratio).into(),
            Self::Map(pairs) => pairs
                .iter()
                .map(|(k, v)| (k.clone(), v.clone().into()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// The arguments that were given, in the order of the kind's parameters.
///
/// The getters answer `None` for what was not given: the kind knows its defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args(pub Vec<(&'static str, Arg)>);

impl Args {
    fn get(&self, name: &str) -> Option<&Arg> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, arg)| arg)
    }

    /// A duration.
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name) {
            Some(Arg::Duration(d)) => Some(*d),
            _ => None,
        }
    }

    /// A whole number.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Arg::Count(n)) => Some(*n),
            _ => None,
        }
    }

    /// A size in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Arg::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    /// A rate in bytes a second.
    #[must_use]
    pub fn rate(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Arg::Rate(rate)) => Some(*rate),
            _ => None,
        }
    }

    /// A number from 0 to 1.
    #[must_use]
    pub fn ratio(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Arg::Ratio(ratio)) => Some(*ratio),
            _ => None,
        }
    }

    /// A word.
    #[must_use]
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        match self.get(name) {
            Some(Arg::Choice(word)) => Some(word),
            _ => None,
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Arg::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Names with texts.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&[(String, String)]> {
        match self.get(name) {
            Some(Arg::Map(pairs)) => Some(pairs),
            _ => None,
        }
    }
}

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
    /// One of these words, or `150ms`.
    ChoiceOrDuration(&'static [&'static str]),
    /// Any text.
    Text,
    /// Names with texts.
    Map,
    /// A list of names.
    Names,
    /// `10/s`
    Frequency,
    /// `-5m`
    Offset,
    /// `64KiB`
    Size,
    /// `1MB/s`
    Rate,
    /// A number from 0 to 1.
    Ratio,
    /// `150ms` or `64KiB`, told apart by the unit.
    DurationOrSize,
    /// A number from 0 to 1, or `64KiB`, told apart by the unit.
    RatioOrSize,
}

impl Type {
    /// A value that may stand there, as a user would write it (in YAML).
    #[must_use]
    pub fn example(&self) -> String {
        match self {
            Self::Duration | Self::DurationOrSize => "150ms".to_owned(),
            Self::Count { min, .. } => min.to_string(),
            Self::Choice(words) | Self::ChoiceOrStatus(words) | Self::ChoiceOrDuration(words) => {
                (*words[0]).to_owned()
            }
            Self::Text => "text".to_owned(),
            Self::Map => "{ x-name: text }".to_owned(),
            Self::Size => "64KiB".to_owned(),
            Self::Rate => "1MB/s".to_owned(),
            Self::Ratio | Self::RatioOrSize => "0.5".to_owned(),
            Self::Names => "[x-name]".to_owned(),
            Self::Frequency => "10/s".to_owned(),
            Self::Offset => "-5m".to_owned(),
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
            Self::ChoiceOrDuration(list) => {
                format!("{} or a duration such as `150ms`", words(list))
            }
            Self::Text => "a text".to_owned(),
            Self::Map => "a map of names to texts".to_owned(),
            Self::Names => "a list of names".to_owned(),
            Self::Frequency => "a frequency such as `10/s` or `100/min`".to_owned(),
            Self::Offset => "an offset in time such as `-5m` or `+30s`".to_owned(),
            Self::RatioOrSize => "a number from 0 to 1 or a size such as `64KiB`".to_owned(),
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
    /// Of [`Type::Duration`], or the time of a [`Type::DurationOrSize`] or
    /// [`Type::ChoiceOrDuration`].
    Duration(Duration),
    /// Of [`Type::Count`], or the number of a [`Type::ChoiceOrStatus`].
    Count(u64),
    /// Of [`Type::Choice`], or the word of a [`Type::ChoiceOrStatus`] or
    /// [`Type::ChoiceOrDuration`].
    Choice(&'static str),
    /// Of [`Type::Text`].
    Text(String),
    /// Of [`Type::Map`], in the order given.
    Map(Vec<(String, String)>),
    /// Of [`Type::Size`], or the size of a [`Type::DurationOrSize`] or [`Type::RatioOrSize`], in
    /// bytes.
    Size(u64),
    /// Of [`Type::Rate`], in bytes a second.
    Rate(u64),
    /// Of [`Type::Ratio`], or the number of a [`Type::RatioOrSize`].
    Ratio(f64),
    /// Of [`Type::Names`], in the order given.
    Names(Vec<String>),
    /// Of [`Type::Frequency`]: so many in that time.
    Frequency(u64, Duration),
    /// Of [`Type::Offset`], in seconds.
    Offset(i64),
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
            Self::Names(names) => names.clone().into(),
            Self::Frequency(number, per) => units::format_frequency(*number, *per).into(),
            Self::Offset(seconds) => units::format_offset(*seconds).into(),
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

    /// A list of names.
    #[must_use]
    pub fn names(&self, name: &str) -> Option<&[String]> {
        match self.get(name) {
            Some(Arg::Names(names)) => Some(names),
            _ => None,
        }
    }

    /// So many in that time.
    #[must_use]
    pub fn frequency(&self, name: &str) -> Option<(u64, Duration)> {
        match self.get(name) {
            Some(Arg::Frequency(number, per)) => Some((*number, *per)),
            _ => None,
        }
    }

    /// Seconds, with a sign.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Arg::Offset(seconds)) => Some(*seconds),
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

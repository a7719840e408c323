//! What a text is held against: a glob, or a regular expression.

use std::fmt;

use regex::bytes::RegexBuilder;
use serde_json::{Value, json};

use super::{Glob, PathGlob};

/// The most bytes that a regular expression may take once it is compiled. Searching takes time in
/// proportion to the text, whatever the expression.
const MOST_COMPILED: usize = 1 << 20;

/// A regular expression, found anywhere in a text unless it is anchored.
#[derive(Clone)]
pub struct Regex(regex::bytes::Regex);

impl Regex {
    /// Compiles it.
    ///
    /// # Errors
    /// Why it is none, or that it is too large.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern)
            .size_limit(MOST_COMPILED)
            .dfa_size_limit(MOST_COMPILED)
            .build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it grows too large".to_owned(),
            // The last line says what is wrong; those before it draw where.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is found in a text.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    fn to_json(&self) -> Value {
        json!({ "regex": self.as_str() })
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

/// What a value is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The whole of it.
    Glob(Glob),
    /// Anywhere in it.
    Regex(Regex),
}

impl Pattern {
    /// Whether a value matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.matches(text),
        }
    }

    /// As in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Glob(glob) => glob.0.as_str().into(),
            Self::Regex(regex) => regex.to_json(),
        }
    }
}

impl From<Glob> for Pattern {
    fn from(glob: Glob) -> Self {
        Self::Glob(glob)
    }
}

/// What a path is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// The whole of it.
    Glob(PathGlob),
    /// Anywhere in it.
    Regex(Regex),
}

impl PathPattern {
    /// Whether a path, without its query and as it came, matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(path),
            Self::Regex(regex) => regex.matches(path.as_bytes()),
        }
    }

    /// As in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Glob(glob) => glob.0.as_str().into(),
            Self::Regex(regex) => regex.to_json(),
        }
    }
}

impl From<PathGlob> for PathPattern {
    fn from(glob: PathGlob) -> Self {
        Self::Glob(glob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_is_found_anywhere_and_says_what_is_wrong_with_it() {
        let regex = Regex::new("^/v[12]/").unwrap();
        assert!(regex.matches(b"/v1/x") && !regex.matches(b"/v3/x") && !regex.matches(b"/a/v1/"));
        assert!(Regex::new("(?i)PAY").unwrap().matches(b"\xffpay"));
        assert_eq!(Regex::new("a(").unwrap_err(), "unclosed group");
        assert_eq!(
            Regex::new(&"(a{1000}){1000}".repeat(2)).unwrap_err(),
            "it grows too large"
        );
        // Backtracking would take for ever.
        assert!(!Regex::new("(a*)*b").unwrap().matches(&[b'a'; 10_000]));
    }
}

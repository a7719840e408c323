//! What is wrong with a file or a body, as users read it.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the tree: `rules[1].fault.delay.latency`; empty: the whole.
    pub path: String,
    /// What is wrong, with what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// From 1; a JSON body has none.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
}

impl Problem {
    /// A problem of the whole.
    #[must_use]
    pub(super) fn of_the_whole(message: String, hint: Option<&str>) -> Self {
        Self {
            path: String::new(),
            message,
            hint: hint.map(str::to_owned),
            line: None,
            column: None,
        }
    }
}

/// `PATH: MESSAGE`, or the message alone.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// As the user named it; a JSON body has none.
    pub file: Option<String>,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A single problem of the whole file.
    #[must_use]
    pub(super) fn of_the_file(file: &str, message: String, hint: Option<&str>) -> Self {
        Self {
            file: Some(file.to_owned()),
            list: vec![Problem::of_the_whole(message, hint)],
        }
    }
}

/// A line each, `FILE:LINE:COLUMN: PATH: MESSAGE`, and an indented one for a hint.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            if let Some(file) = &self.file {
                write!(f, "{file}:")?;
                if let (Some(line), Some(column)) = (problem.line, problem.column) {
                    write!(f, "{line}:{column}:")?;
                }
                f.write_str(" ")?;
            }
            write!(f, "{problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

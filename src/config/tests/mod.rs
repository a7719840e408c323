//! The decoder from outside: whole files and bodies.

mod bodies;
mod files;
mod hostile;
mod problems;
mod surroundings;
mod tls;
mod traces;

use super::{Config, Problems, parse};

/// A file that uses every key.
pub(super) const GOLDEN: &str = include_str!("golden.yaml");

fn good(text: &str) -> Config {
    parse(text, "f.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn bad(text: &str) -> Problems {
    parse(text, "f.yaml").expect_err("it should be refused")
}

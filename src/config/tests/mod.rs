//! The decoder from outside: whole files and bodies.

mod bodies;
mod drill;
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

/// The keys that the decoder allows in a map: what it says where a long one is unknown.
fn allowed_in(problems: &Problems, at: &str) -> Vec<String> {
    let path = format!("{at}zzzzzzzzzzzzzzzzzzzz");
    let found = problems.list.iter().find(|p| p.path == path);
    let hint = found
        .and_then(|p| p.hint.clone())
        .unwrap_or_else(|| panic!("{path}: {problems}"));
    let keys = hint.strip_prefix("allowed here: ").unwrap_or_default();
    let mut keys: Vec<_> = keys
        .split(", ")
        .map(|k| k.trim_matches('`').to_owned())
        .filter(|k| !k.is_empty())
        .collect();
    keys.sort();
    keys
}

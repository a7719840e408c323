//! Texts with placeholders: `{{id}}`, `{{n}}`, `{{uuid}}`, `{{traceparent}}`.

use crate::seed::{Draw, key};

/// A text with what stands for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    N,
    Uuid,
    Trace,
}

/// The names that one request has.
#[derive(Debug, Clone)]
pub struct Names<'r> {
    /// What no other run has.
    pub run: &'r str,
    /// From 1.
    pub n: u64,
    /// What chance is drawn from.
    pub seed: u64,
}

impl Template {
    /// Reads a text. What is no placeholder stands for itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let behind = &rest[at + 2..];
            let known = behind.split_once("}}").and_then(|(name, after)| {
                let part = match name.trim() {
                    "id" => Part::Id,
                    "n" => Part::N,
                    "uuid" => Part::Uuid,
                    "traceparent" => Part::Trace,
                    _ => return None,
                };
                Some((part, after))
            });
            match known {
                Some((part, after)) => {
                    plain.push_str(&rest[..at]);
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                    rest = after;
                }
                None => {
                    plain.push_str(&rest[..=at]);
                    rest = &rest[at + 1..];
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// The text for one request.
    #[must_use]
    pub fn fill(&self, names: &Names<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Id => out.push_str(&format!("{}-{}", names.run, names.n)),
                Part::N => out.push_str(&names.n.to_string()),
                Part::Uuid => out.push_str(&uuid(names)),
                Part::Trace => out.push_str(&traceparent(names)),
            }
        }
        out
    }
}

/// A UUID (version 4) that belongs to the seed and the number.
fn uuid(names: &Names<'_>) -> String {
    let mut draw = Draw::new(names.seed, "drill/uuid", 0, names.n);
    let mut bits = || (draw.unit() * f64::from(u32::MAX)) as u64;
    let (a, b, c, d) = (bits(), bits(), bits(), bits());
    format!(
        "{a:08x}-{:04x}-4{:03x}-{:04x}-{:04x}{d:08x}",
        b >> 16,
        b & 0xfff,
        0x8000 | (c >> 16 & 0x3fff),
        c & 0xffff,
    )
}

/// A trace of its own (W3C Trace Context), which no other run has.
fn traceparent(names: &Names<'_>) -> String {
    let n = names.n.to_le_bytes();
    let high = key(&[b"trace", names.run.as_bytes(), &n]);
    let low = key(&[names.run.as_bytes(), &n]);
    // Neither may be nought.
    format!("00-{high:016x}{:016x}-{:016x}-01", low | 1, high ^ low | 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str, n: u64) -> String {
        Template::new(text).fill(&Names {
            run: "r",
            n,
            seed: 42,
        })
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(fill("/orders/{{id}}?n={{ n }}", 7), "/orders/r-7?n=7");
        assert_eq!(fill(r#"{"a":{"b":{{n}}}}"#, 3), r#"{"a":{"b":3}}"#);
        assert_eq!(fill("{{other}} {{{n}}} {{", 1), "{{other}} {1} {{");
        let one = fill("{{uuid}}", 1);
        assert_eq!((one.len(), one.as_bytes()[14]), (36, b'4'));
        assert_eq!(one, fill("{{uuid}}", 1));
        assert_ne!(one, fill("{{uuid}}", 2));
        let trace = fill("{{traceparent}}", 1);
        assert!(crate::evidence::Trace::parse(&trace).is_some(), "{trace}");
        assert_ne!(trace, fill("{{traceparent}}", 2));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_plain_ones_stay(text in ".{0,40}", braces in "[{}n id]{0,20}") {
            let _ = fill(&braces, 1);
            prop_assume!(!text.contains("{{"));
            prop_assert_eq!(fill(&text, 1), text);
        }
    }
}

//! YAML text to a [`Value`]: syntax ends here, and so do texts made to exhaust a reader.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::problem::Problem;
use super::value::Value;

/// The longest text that is read.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// The most values that a text may have, each alias counted as often as it is used.
const MAX_VALUES: usize = 500_000;
/// The most brackets that may stand open at the same time; the scanner's time grows with them. What
/// is really nested deeper than 128 is refused by the parser itself.
const MAX_OPEN: usize = 512;

/// Reads a text.
///
/// # Errors
/// The first thing that is no YAML.
pub(super) fn read(text: &str) -> Result<Value, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::of_the_whole(
            format!("longer than {} MiB", MAX_BYTES >> 20),
            None,
        ));
    }
    if open_brackets(text) > MAX_OPEN {
        return Err(Problem::of_the_whole(
            format!("more than {MAX_OPEN} brackets are open at the same time"),
            None,
        ));
    }
    if let Some(problem) = control_character(text) {
        return Err(problem);
    }
    let left = Cell::new(MAX_VALUES);
    let mut value = Read { left: &left }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| syntax(&error, text))?;
    // The text has been read once without an error: a second reading only adds the spellings.
    let _ = Spell(&mut value).deserialize(serde_yaml::Deserializer::from_str(text));
    Ok(value)
}

/// The first character that YAML does not allow; the parser does not tell its line.
fn control_character(text: &str) -> Option<Problem> {
    let refused = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (at, c) = text.char_indices().find(|(_, c)| refused(*c))?;
    let (line, column) = end_of(text.get(..at).unwrap_or_default());
    let message = format!(
        "control characters are not allowed, found `{}`",
        c.escape_default()
    );
    Some(Problem {
        line: Some(line),
        column: Some(column),
        ..Problem::of_the_whole(message, Some("in double quotes it can be written so"))
    })
}

/// The line and column after a text, from 1.
pub(super) fn end_of(text: &str) -> (usize, usize) {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn syntax(error: &serde_yaml::Error, text: &str) -> Problem {
    let place = error.location();
    if place.is_none() && serde_yaml::Deserializer::from_str(text).nth(1).is_some() {
        return Problem::of_the_whole(
            "more than one document".to_owned(),
            Some("take the `---` out, or make a file of each"),
        );
    }
    let mut message = error.to_string();
    if let Some(at) = &place {
        let suffix = format!(" at line {} column {}", at.line(), at.column());
        message = message.replacen(&suffix, "", 1);
    }
    Problem {
        line: place.as_ref().map(serde_yaml::Location::line),
        column: place.as_ref().map(serde_yaml::Location::column),
        ..Problem::of_the_whole(message, None)
    }
}

/// About how many brackets are open at the worst place, comments left out.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for line in text.lines() {
        let line = line.split_once(" #").map_or(line, |(code, _)| code);
        for b in line.bytes() {
            match b {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            most = most.max(open);
        }
    }
    most
}

/// Reads one value and all below it.
#[derive(Clone, Copy)]
struct Read<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "more than {MAX_VALUES} values, aliases counted as often as they are used"
            )));
        };
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E: Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::bool(b))
    }
    fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::int(n.into()))
    }
    fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
        Ok(Value::int(n.into()))
    }
    fn visit_i128<E: Error>(self, n: i128) -> Result<Value, E> {
        Ok(Value::int(n))
    }
    fn visit_u128<E: Error>(self, n: u128) -> Result<Value, E> {
        Ok(i128::try_from(n).map_or_else(|_| Value::float(n as f64), Value::int))
    }
    fn visit_f64<E: Error>(self, n: f64) -> Result<Value, E> {
        Ok(Value::float(n))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Value::Map(entries))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, content) = data.variant::<String>()?;
        content.newtype_variant::<IgnoredAny>()?;
        Ok(Value::Tagged(format!("!{tag}")))
    }
}

/// A scalar as it is spelt: a key, or a number where its spelling counts.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a text")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Fills in how the scalars of a value are spelt.
struct Spell<'v>(&'v mut Value);

impl<'de> DeserializeSeed<'de> for Spell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            Value::Bool(_, spelt) | Value::Int(_, spelt) | Value::Float(_, spelt) => {
                *spelt = Key.deserialize(deserializer)?;
                Ok(())
            }
            Value::List(_) => deserializer.deserialize_seq(self),
            Value::Map(_) => deserializer.deserialize_map(self),
            Value::Null | Value::Text(_) | Value::Tagged(_) => {
                deserializer.deserialize_ignored_any(IgnoredAny).map(drop)
            }
        }
    }
}

impl<'de> Visitor<'de> for Spell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was read before")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Value::List(items) = self.0 {
            for item in items {
                list.next_element_seed(Spell(item))?;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Value::Map(entries) = self.0 {
            for (_, value) in entries {
                map.next_key::<IgnoredAny>()?;
                map.next_value_seed(Spell(value))?;
            }
        }
        Ok(())
    }
}

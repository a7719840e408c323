//! The collecting decoder: a value, the path to it, and where problems go.
//!
//! A section is decoded by a function that asks its [`Fields`] for one key after the other, so that
//! it reads like the section's documentation; the keys that it asks for are the ones allowed. What
//! is wrong is reported and decoding goes on with the default: when anything was reported, nothing
//! of what was decoded is used.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::places::{self, End, Step};
use super::report::{Found, Report, Spot};
use super::value::{NOTHING, Value, quoted, quoted_list, shown};

/// The most items of a list.
pub(super) const MAX_ITEMS: usize = 1_000;

/// A value under decoding.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    report: &'a Report,
    spot: Spot,
}

impl<'a> Node<'a> {
    /// The whole.
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Self {
        let spot = Spot {
            steps: Vec::new(),
            end: End::Value,
        };
        Self {
            value,
            report,
            spot,
        }
    }

    /// What the command line says; `flag` is how users know it.
    pub(super) fn of_flag(flag: &str, value: &'a Value, report: &'a Report) -> Self {
        let mut node = Self::root(value, report);
        node.spot.steps.push(Step::Flag(flag.to_owned()));
        node
    }

    /// The value, as something other than a text if it may be that: it has no type of its own, and is
    /// read as it would be without quotes.
    pub(super) fn typed(&self) -> Cow<'a, Value> {
        match self.value {
            Value::Text(text) if self.report.is_untyped(&self.spot) => {
                Cow::Owned(Value::unquoted(text))
            }
            value => Cow::Borrowed(value),
        }
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    fn step(&self, value: &'a Value, step: Step) -> Self {
        let mut spot = self.spot.clone();
        spot.steps.push(step);
        Self {
            value,
            report: self.report,
            spot,
        }
    }

    /// Another value at the same place.
    pub(super) fn with<'b>(&self, value: &'b Value) -> Node<'b>
    where
        'a: 'b,
    {
        Node {
            value,
            report: self.report,
            spot: self.spot.clone(),
        }
    }

    /// The value of a key; nothing where it is absent.
    pub(super) fn key(&self, key: &str) -> Self {
        let value = self.value.get(key).unwrap_or(&NOTHING);
        self.step(value, Step::Key(key.to_owned()))
    }

    /// An item of a list; nothing where it is absent.
    pub(super) fn index(&self, n: usize) -> Self {
        let value = self.value.items().get(n).unwrap_or(&NOTHING);
        self.step(value, Step::Index(n))
    }

    /// The same, meaning the key rather than what stands there.
    pub(super) fn its_key(&self) -> Self {
        let mut node = self.clone();
        node.spot.end = End::Key;
        node
    }

    /// How users read its path.
    pub(super) fn path(&self) -> String {
        places::display(&self.spot.steps)
    }

    /// Reports a problem.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.put(message.into(), None, None);
    }

    /// Reports a problem and what to do about it.
    pub(super) fn problem_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.put(message.into(), Some(hint.into()), None);
    }

    /// Reports a problem with a value that goes together with an earlier one.
    pub(super) fn clash(&self, message: impl Into<String>, first: &Self, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.put(message.into(), hint, Some(first.spot.clone()));
    }

    /// Reports that something else should stand here.
    pub(super) fn wrong(&self, expected: &str, hint: Option<String>) {
        let found = self.value.describe();
        self.put(format!("expected {expected}, found {found}"), hint, None);
    }

    fn put(&self, message: String, hint: Option<String>, first: Option<Spot>) {
        self.report.add(Found {
            at: self.spot.clone(),
            message,
            hint,
            first,
        });
    }

    /// Reads a map with known keys.
    pub(super) fn map<T>(&self, read: impl FnOnce(&mut Fields<'a, '_>) -> T) -> Option<T> {
        let pairs = self.pairs("a map")?;
        let mut fields = Fields {
            node: self,
            pairs,
            asked: Vec::new(),
            ignored: &[],
            missing: Vec::new(),
        };
        let read = read(&mut fields);
        fields.finish();
        Some(read)
    }

    /// The keys of a map with their values, each key once.
    pub(super) fn pairs(&self, expected: &str) -> Option<Vec<(&'a str, Self)>> {
        let Value::Map(entries) = self.value else {
            self.wrong(expected, None);
            return None;
        };
        let mut seen = HashMap::new();
        let mut pairs = Vec::new();
        for (key, value) in entries {
            let here = |count| {
                let step = match count {
                    0 => Step::Key(key.clone()),
                    count => Step::Repeated(key.clone(), count),
                };
                self.step(value, step)
            };
            let (count, first) = seen
                .entry(key.as_str())
                .or_insert_with(|| (0usize, here(0)));
            if key == "<<" {
                here(*count).its_key().problem_hint(
                    "merge keys (`<<`) are not supported",
                    "write the keys out; an alias for a whole value works",
                );
            } else if *count > 0 {
                let message = "this key stands here already";
                here(*count)
                    .its_key()
                    .clash(message, &first.its_key(), None);
            } else {
                pairs.push((key.as_str(), first.clone()));
            }
            *count += 1;
        }
        Some(pairs)
    }

    /// Reads a list of texts; a text alone is none.
    pub(super) fn texts<T>(
        &self,
        expected: &str,
        read: impl FnMut(&Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if let Value::Text(text) = self.value {
            self.wrong(expected, Some(format!("write `[{}]`", shown(text))));
            return None;
        }
        self.list(expected, read)
    }

    /// Reads a list item by item; what can't be read is left out.
    pub(super) fn list<T>(
        &self,
        expected: &str,
        mut read: impl FnMut(&Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = self.value else {
            self.wrong(expected, None);
            return None;
        };
        if items.len() > MAX_ITEMS {
            let many = items.len();
            self.problem(format!("{many} items; at most {MAX_ITEMS} are allowed"));
            return None;
        }
        let mut list = Vec::new();
        for n in 0..items.len() {
            if self.report.is_full() {
                break;
            }
            list.extend(read(&self.index(n)));
        }
        Some(list)
    }
}

/// The keys of one map.
#[derive(Debug)]
pub(super) struct Fields<'a, 'n> {
    node: &'n Node<'a>,
    pairs: Vec<(&'a str, Node<'a>)>,
    asked: Vec<&'static str>,
    ignored: &'static [&'static str],
    missing: Vec<(&'static str, String)>,
}

impl<'a> Fields<'a, '_> {
    /// The value of a key, if it stands there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.push(key);
        let found = self.pairs.iter().find(|(k, _)| *k == key);
        found.map(|(_, node)| node.clone())
    }

    /// A key that may be absent.
    pub(super) fn opt<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|node| read(&node))
    }

    /// A key with a default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> T {
        self.opt(key, read).unwrap_or(default)
    }

    /// A key that must be given.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(node) = self.get(key) else {
            self.missing.push((key, expected.to_owned()));
            return None;
        };
        read(&node)
    }

    /// A section with a default; its key may stand there with nothing under it.
    pub(super) fn section<T: Default>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> T {
        let given = self.get(key).filter(|node| *node.value != Value::Null);
        given.and_then(|node| read(&node)).unwrap_or_default()
    }

    /// Keys that may stand here and say nothing.
    pub(super) fn ignore(&mut self, keys: &'static [&'static str]) {
        self.ignored = keys;
    }

    /// Reports the keys that nobody asked for, and those that were missed.
    fn finish(mut self) {
        let given: HashSet<&str> = self.pairs.iter().map(|(key, _)| *key).collect();
        let absent: Vec<_> = self.asked.iter().filter(|k| !given.contains(*k)).collect();
        for (key, node) in &self.pairs {
            if self.asked.contains(key) || self.ignored.contains(key) {
                continue;
            }
            let message = format!("unknown key {}", quoted(key));
            if self.node.report.is_full() {
                node.its_key().problem(message);
                continue;
            }
            // A key that is already there can't be what was meant, unless nothing else can.
            let near = nearest(key, absent.iter().map(|k| **k))
                .or_else(|| nearest(key, self.asked.iter().copied()));
            let hint = match near {
                Some(near) => {
                    self.missing.retain(|(missing, _)| *missing != near);
                    format!("did you mean `{near}`?")
                }
                None if self.asked.is_empty() => "no keys are allowed here".to_owned(),
                None => format!("allowed here: {}", quoted_list(self.asked.iter().copied())),
            };
            node.its_key().problem_hint(message, hint);
        }
        if self.node.value.get("<<").is_some() {
            // Already refused; what is missing was meant to come from it.
            return;
        }
        for (key, expected) in &self.missing {
            self.node
                .key(key)
                .problem(format!("missing; expected {expected}"));
        }
    }
}

/// The word that was probably meant.
#[must_use]
pub fn nearest<'w>(
    word: &str,
    among: impl IntoIterator<Item = &'w str> + Clone,
) -> Option<&'w str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let plain = |s: &str| s.to_lowercase().replace(['-', ' ', '.'], "_");
    let word = plain(word);
    let by_distance = among
        .clone()
        .into_iter()
        .map(|w| (strsim::osa_distance(&word, &plain(w)), w))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, w)| *distance <= 1.max(word.len().min(w.len()) / 3))
        .map(|(_, w)| w);
    by_distance.or_else(|| {
        let mut longer = among
            .into_iter()
            .filter(|w| word.len() >= 3 && plain(w).starts_with(&word));
        longer.next()
    })
}

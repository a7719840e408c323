//! Variables in a file: `${NAME}` and `${NAME:-default}` in its scalars become what the environment
//! says, `$$` becomes `$`; any other `$` stands for itself.
//!
//! They are put into the tree, once the text has been read: a value is one scalar, or a part of one,
//! whatever it holds. What type it has is up to who asks for it: quotes are needed around it in
//! `{ … }`, where YAML has its own use for braces. Keys are left alone.

use std::collections::HashMap;
use std::ffi::OsString;

use super::places::Step;
use super::report::Report;
use super::value::{Value, quoted};
use super::yaml::MAX_BYTES;

/// Answers a variable of the environment.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Option<OsString>;

/// A file that knows no variables.
#[cfg(test)]
pub(super) const NONE: Lookup<'static> = &|_| None;

/// What the environment says.
pub(super) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Puts variables into a tree. What can't be put in is reported, and no more is said of that scalar.
pub(super) fn put_in(tree: &mut Value, report: &mut Report, lookup: Lookup<'_>) {
    let mut walk = Walk {
        report,
        lookup,
        steps: Vec::new(),
        left: MAX_BYTES,
    };
    walk.value(tree);
}

struct Walk<'w> {
    report: &'w mut Report,
    lookup: Lookup<'w>,
    steps: Vec<Step>,
    /// Bytes that may still be put in: a few characters can stand for a long value, many times.
    left: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::List(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    self.below(Step::Index(n), item);
                }
            }
            Value::Map(entries) => {
                let mut seen: HashMap<&str, usize> = HashMap::new();
                for (key, value) in entries {
                    let count = seen.entry(key).or_default();
                    let step = match *count {
                        0 => Step::Key(key.clone()),
                        n => Step::Repeated(key.clone(), n),
                    };
                    *count += 1;
                    self.below(step, value);
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, step: Step, value: &mut Value) {
        self.steps.push(step);
        self.value(value);
        self.steps.pop();
    }

    fn text(&mut self, text: &mut String) {
        if !text.contains('$') {
            return;
        }
        match fill(text, self.lookup) {
            Ok(filled) => {
                if filled.given {
                    let Some(left) = self.left.checked_sub(filled.text.len()) else {
                        let message = format!("with variables longer than {} MiB", MAX_BYTES >> 20);
                        return self.report.spoilt(self.steps.clone(), message, None);
                    };
                    self.left = left;
                    self.report.untyped(self.steps.clone());
                }
                *text = filled.text;
            }
            Err(Unfit { message, hint }) => {
                self.report.spoilt(self.steps.clone(), message, Some(hint));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Filled {
    text: String,
    /// Some of it is of a variable, or the default of one.
    given: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Unfit {
    message: String,
    hint: String,
}

fn fill(text: &str, lookup: Lookup<'_>) -> Result<Filled, Unfit> {
    let mut filled = Filled {
        text: String::with_capacity(text.len()),
        given: false,
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.text.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            filled.text.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or_else(|| Unfit {
                message: "`${` begins a variable, and no `}` ends it".to_owned(),
                hint: ITSELF.to_owned(),
            })?;
            filled.text.push_str(&variable(inside, lookup)?);
            filled.given = true;
            after
        } else {
            filled.text.push('$');
            after
        };
    }
    filled.text.push_str(rest);
    Ok(filled)
}

const ITSELF: &str = "`$${` is a `${` that stands for itself";

/// What stands between the braces.
fn variable(inside: &str, lookup: Lookup<'_>) -> Result<String, Unfit> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let fits = |name: &str| {
        name.bytes().next().is_some_and(letter)
            && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
    };
    if !fits(name) {
        let start = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (begun, _) = name.split_at(start.unwrap_or(name.len()));
        let hint = match fits(begun) {
            true => {
                format!("`${{{begun}}}`, or `${{{begun}:-default}}`, is all that is understood")
            }
            false => ITSELF.to_owned(),
        };
        let message = format!("expected the name of a variable, found {}", quoted(inside));
        return Err(Unfit { message, hint });
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Unfit {
            message: format!("a default can't hold a variable: {}", quoted(inside)),
            hint: "write the default out".to_owned(),
        });
    }
    let value = match lookup(name).map(OsString::into_string) {
        None => None,
        Some(Ok(value)) => Some(value),
        Some(Err(_)) => {
            return Err(Unfit {
                message: format!("the variable {} is not UTF-8", quoted(name)),
                hint: "set it to a text".to_owned(),
            });
        }
    };
    match (value, default) {
        (Some(value), None) => Ok(value),
        // As in a shell: an empty one counts as none.
        (value, Some(default)) => {
            let value = value.filter(|value| !value.is_empty());
            Ok(value.unwrap_or_else(|| default.to_owned()))
        }
        (None, None) => Err(Unfit {
            message: format!("the variable {} is not set", quoted(name)),
            hint: format!("set it, or give it a default: `${{{name}:-default}}`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<OsString> {
        match name {
            "HOST" => Some("payment".into()),
            "EMPTY" => Some("".into()),
            "NASTY" => Some("a: [b, ${HOST}] # $$".into()),
            _ => None,
        }
    }

    #[test]
    fn what_becomes_of_a_dollar() {
        for (text, expected) in [
            ("${HOST}:80", "payment:80"),
            ("a${HOST}b${HOST}", "apaymentbpayment"),
            ("${PORT:-8080}", "8080"),
            ("${EMPTY:-else}", "else"),
            ("${EMPTY}", ""),
            ("${PORT:-}", ""),
            ("${PORT:-a:-b}", "a:-b"),
            ("${HOST:-else}", "payment"),
            // What a value holds is not read again.
            ("${NASTY}", "a: [b, ${HOST}] # $$"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$payment"),
            ("^/a$", "^/a$"),
            ("$HOST", "$HOST"),
            ("$", "$"),
            ("5$ or 6$", "5$ or 6$"),
        ] {
            let filled = fill(text, &lookup).map(|filled| filled.text);
            assert_eq!(filled.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_said() {
        for (text, message, hint) in [
            (
                "${PORT}",
                "the variable `PORT` is not set",
                "${PORT:-default}",
            ),
            ("${HOST", "no `}` ends it", "`$${`"),
            ("${}", "found ``", "`$${`"),
            ("${1}", "found `1`", "`$${`"),
            ("${HOST-else}", "found `HOST-else`", "`${HOST:-default}`"),
            ("${HOST:?why}", "found `HOST:?why`", "`${HOST:-default}`"),
            ("${A:-${HOST}}", "a default can't hold a variable", "out"),
            ("${é}", "found `é`", "`$${`"),
        ] {
            let unfit = fill(text, &lookup).expect_err(text);
            assert!(unfit.message.contains(message), "{text}: {unfit:?}");
            assert!(unfit.hint.contains(hint), "{text}: {unfit:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_said() {
        use std::os::unix::ffi::OsStringExt as _;
        let bytes = |_: &str| Some(OsString::from_vec(vec![0xff]));
        let unfit = fill("${X}", &bytes).expect_err("not UTF-8");
        assert_eq!(unfit.message, "the variable `X` is not UTF-8");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".*", value in ".*") {
            let _ = fill(&text, &|_| Some(value.clone().into()));
        }

        /// Written with every `$` doubled, a text comes out as it was, and needs no variable.
        #[test]
        fn doubled_every_dollar_stands_for_itself(text in "[a${}:-]*") {
            let filled = fill(&text.replace('$', "$$"), NONE);
            prop_assert_eq!(filled, Ok(Filled { text, given: false }));
        }

        /// A value comes out whole, whatever it holds and whatever stands around it.
        #[test]
        fn a_value_is_put_in_as_it_is(before in "[^$]*", value in ".*", after in "[^$]*") {
            let text = format!("{before}${{X}}{after}");
            let filled = fill(&text, &|_| Some(value.clone().into())).map(|f| f.text);
            prop_assert_eq!(filled, Ok(format!("{before}{value}{after}")));
        }
    }
}

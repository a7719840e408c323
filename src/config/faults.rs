//! `fault`: one kind with its parameters, as the registry describes them.

use super::node::{Node, nearest};
use super::value::{Value, quoted, quoted_list};
use crate::faults::{self, Arg, Args, KINDS, Kind, Type};
use crate::rules::FaultSpec;
use crate::units;

/// What stands under `fault`.
pub(super) const FAULT: &str =
    "one kind with its parameters, such as `{ delay: { latency: 150ms } }`";

/// One fault.
pub(super) fn fault(node: &Node<'_>) -> Option<FaultSpec> {
    if let Value::Text(word) = node.value {
        let hint = faults::find(word).map(|kind| format!("write `{{ {}: {{}} }}`", kind.name));
        node.wrong(FAULT, hint);
        return None;
    }
    let pairs = node.pairs(FAULT)?;
    let mut specs: Vec<_> = pairs
        .iter()
        .map(|(name, params)| (name, spec(name, params)))
        .collect();
    match specs.len() {
        1 => specs.pop()?.1,
        0 => {
            let kinds = quoted_list(KINDS.iter().map(|kind| kind.name));
            node.problem_hint(
                format!("names no kind; expected {FAULT}"),
                format!("kinds: {kinds}"),
            );
            None
        }
        _ => {
            let names = quoted_list(specs.iter().map(|(name, _)| **name));
            node.problem_hint(
                format!("a rule has one kind of fault, found {names}"),
                "make a rule for each; several rules may act on the same proxy",
            );
            None
        }
    }
}

fn spec(name: &str, node: &Node<'_>) -> Option<FaultSpec> {
    let Some(kind) = faults::find(name) else {
        let names = KINDS.iter().map(|kind| kind.name);
        let hint = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("kinds: {}", quoted_list(names)),
        };
        node.its_key()
            .problem_hint(format!("unknown kind of fault {}", quoted(name)), hint);
        return None;
    };
    let before = node.report().count();
    let args = params(kind, node)?;
    if node.report().count() > before {
        return None;
    }
    let spec = FaultSpec::new(kind, args);
    spec.map_err(|invalid| node.key(invalid.param).problem(invalid.message))
        .ok()
}

fn params(kind: &'static Kind, node: &Node<'_>) -> Option<Args> {
    let nothing = Value::Map(Vec::new());
    // `drop:` with nothing after it: every parameter at its default.
    let value = if *node.value == Value::Null {
        &nothing
    } else {
        node.value
    };
    let given = node.with(value);
    given.map(|f| {
        let mut args = Args::default();
        for param in kind.params {
            let read = |n: &Node<'_>| arg(n, param.ty);
            let given = match param.default {
                Some(_) => f.opt(param.name, read),
                None => f.need(param.name, &param.ty.describe(), read),
            };
            args.0.extend(given.map(|arg| (param.name, arg)));
        }
        args
    })
}

fn arg(node: &Node<'_>, ty: Type) -> Option<Arg> {
    match ty {
        Type::Duration => node.duration().map(Arg::Duration),
        Type::Count { min, max } => node.count(min, max).map(Arg::Count),
        Type::Choice(words) => node.word(words).map(Arg::Choice),
        Type::ChoiceOrStatus(words) => {
            let typed = node.typed();
            let given = match &*typed {
                Value::Int(n @ 200..=599, _) => return u64::try_from(*n).ok().map(Arg::Count),
                Value::Text(text) => text.as_str(),
                _ => "",
            };
            let found = words.iter().find(|word| **word == given);
            if found.is_none() {
                let near = nearest(given, words.iter().copied());
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                node.wrong(&ty.describe(), hint);
            }
            found.map(|word| Arg::Choice(word))
        }
        Type::ChoiceOrDuration(words) => {
            let given = match node.value {
                Value::Text(text) => text.as_str(),
                _ => "",
            };
            if let Some(word) = words.iter().find(|word| **word == given) {
                return Some(Arg::Choice(word));
            }
            let near = nearest(given, words.iter().copied());
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let time = node.quantity(units::parse_duration);
            time.map_err(|_| node.wrong(&ty.describe(), hint))
                .map(Arg::Duration)
                .ok()
        }
        Type::Text => node.loose_text().map(Arg::Text),
        Type::Size => amount(node).map(Arg::Size),
        Type::Rate => node.rate().map(Arg::Rate),
        Type::Ratio => node.probability().map(Arg::Ratio),
        Type::DurationOrSize => duration_or_size(node),
        Type::RatioOrSize => ratio_or_size(node),
        Type::Frequency => {
            let read = node.quantity(units::parse_frequency);
            let read = read.map_err(|expected| node.wrong(expected, None)).ok();
            read.map(|(number, per)| Arg::Frequency(number, per))
        }
        Type::Offset => {
            let read = node.quantity(units::parse_offset);
            let read = read.map_err(|expected| node.wrong(expected, None));
            read.map(Arg::Offset).ok()
        }
        Type::Names => node
            .list(&ty.describe(), |item| item.text("a name"))
            .map(Arg::Names),
        Type::Map => {
            let pairs = node.pairs(&ty.describe())?;
            let pairs = pairs
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value.loose_text()?)));
            Some(Arg::Map(pairs.collect()))
        }
    }
}

/// A size in bytes; 0 is one.
fn amount(node: &Node<'_>) -> Option<u64> {
    let read = node.quantity(units::parse_size);
    read.map_err(|expected| node.wrong(expected, None)).ok()
}

/// A share or a size, told apart by the unit.
fn ratio_or_size(node: &Node<'_>) -> Option<Arg> {
    let typed = node.typed();
    if let Value::Text(_) = *typed {
        let size = node.quantity(units::parse_size).map(Arg::Size);
        return size
            .map_err(|_| node.wrong(&Type::RatioOrSize.describe(), None))
            .ok();
    }
    if let Value::Int(2.., text) = &*typed {
        let hint = format!("give it a unit if it is a size: `{text}B`");
        node.wrong(&Type::RatioOrSize.describe(), Some(hint));
        return None;
    }
    node.probability().map(Arg::Ratio)
}

/// A time or a size, told apart by the unit.
fn duration_or_size(node: &Node<'_>) -> Option<Arg> {
    let time = node.quantity(units::parse_duration).map(Arg::Duration);
    let either = time.or_else(|_| node.quantity(units::parse_size).map(Arg::Size));
    either
        .map_err(|_| node.wrong(&Type::DurationOrSize.describe(), None))
        .ok()
}

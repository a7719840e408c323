//! How an act looks: two stories side by side, in at most 80 columns. Text only; whoever has a
//! terminal prints it.

use super::acts::{Act, Caller};
use super::story::{Crossing, Story};
use crate::evidence::Cause;

/// No line is longer.
pub const WIDTH: usize = 80;
/// Of the left column.
const LEFT: usize = 22;
/// Of a participant's name.
const NAME: usize = 11;
/// Of what a participant knows.
const KNOWN: usize = WIDTH - 2 - LEFT - 2 - NAME;
/// Of what follows a first line.
const INDENT: usize = 4;

pub(super) const OPENING: &str = "\
Firedrill demo: the checkout story, and five things that one timeout can mean

  customer -> web -> inventory
                  -> payment
                  -> orders -> e-mail

  Every arrow crosses a Firedrill proxy. Every service has a ledger of its own.
  What follows is read from the ledgers and from Firedrill's evidence.

  The promise: one order, one clear result, charged at most once.
               Nobody is told \"failed\" whose money is taken.";

/// What is said before the acts of a caller.
pub(super) fn heading(caller: Caller) -> &'static str {
    match caller {
        Caller::Naive => "NAIVE: web takes a timeout for a failure, and a retry is a new request.",
        Caller::Repaired => {
            "\
REPAIRED: web names the operation (Idempotency-Key: pay-42). A timeout is no
answer: web says \"pending\", asks payment what it knows, and ends the order."
        }
    }
}

/// An act as it was seen.
pub(super) fn act(act: &Act, story: &Story) -> Vec<String> {
    let mut lines = title(act);
    let told = story
        .told
        .iter()
        .flat_map(|(_, words)| hanging(words, LEFT));
    let left: Vec<String> = told.collect();
    let right = participants(story);
    lines.push(row("The customer was told", "What each participant knows"));
    lines.push(row(&"-".repeat(LEFT), &"-".repeat(NAME + KNOWN)));
    for at in 0..left.len().max(right.len()) {
        let cell = |column: &[String]| column.get(at).cloned().unwrap_or_default();
        lines.push(row(&cell(&left), &cell(&right)));
    }
    let (promise, reason) = story.promise();
    let verdict = format!("The promise: {promise}. {}", sentence(&reason));
    lines.extend(
        hanging(&verdict, WIDTH - 2)
            .iter()
            .map(|line| format!("  {line}")),
    );
    lines
}

/// What an act is about.
pub(super) fn title(act: &Act) -> Vec<String> {
    let Act { number, caller, .. } = act;
    vec![
        format!("Act {number}, {caller}: {}", act.title),
        format!("  {}", sentence(&act.trouble.to_string())),
    ]
}

/// That an act was not as told.
pub(super) fn not_as_told(differences: &[String]) -> Vec<String> {
    let mut lines = vec!["  NOT AS TOLD:".to_owned()];
    for difference in differences {
        lines.extend(
            hanging(difference, WIDTH - 4)
                .iter()
                .map(|line| format!("    {line}")),
        );
    }
    lines
}

fn participants(story: &Story) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, facts) in &story.known {
        let none = ["-".to_owned()];
        let facts = if facts.is_empty() { &none[..] } else { facts };
        named(&mut lines, name, facts.iter().flat_map(|f| wrap(f, KNOWN)));
    }
    let mut crossings = story.crossings.clone();
    // Web asks until it knows: the same answer is told once.
    crossings.dedup();
    named(&mut lines, "proxy", crossings.iter().flat_map(crossing));
    lines
}

fn named(lines: &mut Vec<String>, name: &str, facts: impl Iterator<Item = String>) {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    lines.extend(
        names
            .zip(facts)
            .map(|(name, fact)| format!("{name:NAME$}{fact}")),
    );
}

fn crossing(crossing: &Crossing) -> Vec<String> {
    let operation = crossing.operation.as_deref().unwrap_or("(no id)");
    let what = format!("{} {operation}", crossing.method);
    if !crossing.is_charge() {
        let status = crossing.status;
        let status = status.map_or("no answer".to_owned(), |s| format!("answered {s}"));
        return wrap(&format!("{what}: {status}, {}", crossing.class), KNOWN);
    }
    let said = format!("{what}: {}, {}", crossing.class, crossing.deliveries());
    let mut lines = wrap(&said, KNOWN);
    if crossing.cause != Cause::None {
        let kind = crossing.kind.as_ref().map(|kind| format!(" ({kind})"));
        let cause = format!("cause: {}{}", crossing.cause, kind.unwrap_or_default());
        lines.extend(
            wrap(&cause, KNOWN - 2)
                .iter()
                .map(|line| format!("  {line}")),
        );
    }
    lines
}

fn row(left: &str, right: &str) -> String {
    format!("  {left:LEFT$}  {right}").trim_end().to_owned()
}

/// With a capital, and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    let rest = letters.as_str().trim_end_matches('.');
    format!("{}{rest}.", first.unwrap_or_default())
}

/// Breaks between words. A word that is longer than a line is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    wrap_with(text, width, 0)
}

/// Breaks between words, with what follows the first line set in.
fn hanging(text: &str, width: usize) -> Vec<String> {
    wrap_with(text, width, INDENT)
}

fn wrap_with(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width - indent) {
            if used > 0 && used + 1 + piece.len() > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                used = indent;
            } else if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_run_over() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a bbbbbbbbbb c", 4), ["a", "bbbb", "bbbb", "bb c"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(hanging("one two three", 9), ["one two", "    three"]);
    }
}

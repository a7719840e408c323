//! How figures and verdicts read, in all forms alike.

use super::{Fault, Recovered, Report};
use crate::drill::verdict::{Outcome, Verdict};

/// Milliseconds as people read them: `850ms`, `1.25s`, `2m 5s`.
#[must_use]
pub fn seconds(ms: f64) -> String {
    let sign = if ms < 0.0 { "-" } else { "" };
    let ms = ms.abs();
    if ms < 10.0 {
        format!("{sign}{ms:.1}ms")
    } else if ms < 1_000.0 {
        format!("{sign}{ms:.0}ms")
    } else if ms < 120_000.0 {
        format!("{sign}{:.2}s", ms / 1e3)
    } else {
        let whole = (ms / 1e3).round();
        format!("{sign}{}m {}s", (whole / 60.0).floor(), whole % 60.0)
    }
}

/// What is no text: it steers a terminal, or turns the reading of a line around.
pub(super) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A rate or a number, with one digit behind the point if need be.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}")
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0).round() / 10.0)
}

/// A mark that stands for a verdict without its colour.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "✓",
        Verdict::Broken => "✗",
        Verdict::Inconclusive => "?",
    }
}

pub(super) fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "The promise held",
        Outcome::Broken => "The promise broke",
        Outcome::Inconclusive => "It can't be said",
        Outcome::Halted => "It was halted",
        Outcome::NotLifted => "Not everything could be undone",
    }
}

/// What became of recovery, in a sentence.
pub(super) fn recovery_words(recovered: &Recovered) -> String {
    let mut words = format!("{}: {}", recovered.verdict, recovered.reason);
    if let Some(ms) = recovered.first_good_ms {
        words += &format!("; first good answer after {}", seconds(ms));
    }
    if let Some(ms) = recovered.steady_ms {
        words += &format!("; steady after {}", seconds(ms));
    }
    words
}

/// How often a fault acted.
pub(super) fn acted(fault: &Fault) -> String {
    match fault.sort.as_str() {
        "command" => format!("run {} times", fault.on.len()),
        _ => format!("chose {}, changed {}", fault.selected, fault.injected),
    }
}

/// A drill's end in a few lines, for terminals.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut lines = Vec::new();
    lines.push(format!("promise   {}", report.drill.promise));
    lines.push(format!(
        "steady    {}: {}",
        report.steady.verdict, report.steady.reason
    ));
    for fault in &report.faults {
        let kind = match fault.sort.as_str() {
            "command" => "command".to_owned(),
            sort => format!("{sort}, {}", fault.kind),
        };
        lines.push(format!(
            "fault     {} ({kind}): {}",
            fault.name,
            acted(fault)
        ));
    }
    for promise in &report.promises {
        let mark = mark(promise.verdict);
        lines.push(format!("{mark} {:12} {}", promise.verdict, promise.name));
        lines.push(format!(
            "               {} ({})",
            promise.reason, promise.when
        ));
        if promise.verdict == Verdict::Broken && !promise.records.is_empty() {
            let ids: Vec<_> = promise
                .records
                .iter()
                .take(3)
                .map(|p| p.id.to_string())
                .collect();
            lines.push(format!("               records {}", ids.join(", ")));
        }
    }
    if let Some(recovered) = &report.recovery {
        lines.push(format!("recovery  {}", recovery_words(recovered)));
    }
    for edge in &report.edges {
        let recovery = edge.recovery.as_ref().map(|r| match r.steady_ms {
            Some(ms) => format!("{}, steady after {}", r.verdict, seconds(ms)),
            None => r.verdict.to_string(),
        });
        let residue = edge.residue.as_ref().map(|r| match r.state.as_str() {
            "clean" => "clean".to_owned(),
            state => format!("{state}: {}", r.said),
        });
        let both: Vec<_> = recovery.into_iter().chain(residue).collect();
        if !both.is_empty() {
            lines.push(format!(
                "edge      {} > {} ({}): {}",
                edge.from,
                edge.to,
                edge.proxy,
                both.join(", ")
            ));
        }
    }
    for note in &report.notes {
        lines.push(format!("note      {note}"));
    }
    lines.push(String::new());
    lines.push(format!(
        "{}: {}",
        report.outcome.to_string().to_uppercase(),
        report.reason
    ));
    lines.push(format!("seed {}; again: {}", report.seed, report.again));
    lines.join("\n") + "\n"
}

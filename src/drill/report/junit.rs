//! JUnit XML, as build servers read it: a test for each promise, one for the steady state, one for
//! recovery.

use super::words::{recovery_words, steers};
use super::{Report, Step};
use crate::drill::verdict::{Outcome, Recovery, Verdict};

/// Text, so that XML 1.0 can have it.
fn e(text: impl ToString) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            // XML has no way to say these.
            c if steers(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How a test ended.
enum Ended {
    Passed,
    Failed(String),
    /// It could not be said, which is no pass.
    Error(String),
}

/// The report.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut tests = Vec::new();
    let of = |verdict: Verdict, reason: &str| match verdict {
        Verdict::Held => Ended::Passed,
        Verdict::Broken => Ended::Failed(reason.to_owned()),
        Verdict::Inconclusive => Ended::Error(reason.to_owned()),
    };
    let steady = match report.steady.verdict {
        Verdict::Held => Ended::Passed,
        _ => Ended::Error(report.steady.reason.clone()),
    };
    tests.push(("steady before".to_owned(), steady));
    for promise in &report.promises {
        tests.push((promise.name.clone(), of(promise.verdict, &promise.reason)));
    }
    if let Some(recovered) = &report.recovery {
        let words = recovery_words(recovered);
        let ended = match recovered.verdict {
            Recovery::Recovered => Ended::Passed,
            Recovery::Degraded | Recovery::Metastable => Ended::Failed(words),
            Recovery::Inconclusive => Ended::Error(words),
        };
        tests.push(("recovery".to_owned(), ended));
    }
    let whole = match report.outcome {
        Outcome::Held => Ended::Passed,
        Outcome::Broken => Ended::Failed(report.reason.clone()),
        Outcome::Inconclusive | Outcome::Halted | Outcome::NotLifted => {
            Ended::Error(format!("{}: {}", report.outcome, report.reason))
        }
    };
    tests.push(("the drill".to_owned(), whole));
    let count = |failed: bool| {
        let these = tests.iter().filter(|(_, ended)| match ended {
            Ended::Passed => false,
            Ended::Failed(_) => failed,
            Ended::Error(_) => !failed,
        });
        these.count()
    };
    let seconds = report.ended.since(report.started).as_secs_f64();
    let name = e(&report.drill.name);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" time=\"{seconds:.3}\" timestamp=\"{}\">\n<properties><property name=\"seed\" value=\"{}\"/><property name=\"version\" value=\"{}\"/><property name=\"again\" value=\"{}\"/></properties>\n",
        tests.len(),
        count(true),
        count(false),
        e(report.started),
        report.seed,
        e(&report.version),
        e(&report.again),
    );
    for (test, ended) in &tests {
        let (word, message) = match ended {
            Ended::Passed => {
                out += &format!("<testcase classname=\"{name}\" name=\"{}\"/>\n", e(test));
                continue;
            }
            Ended::Failed(message) => ("failure", message),
            Ended::Error(message) => ("error", message),
        };
        out += &format!(
            "<testcase classname=\"{name}\" name=\"{}\"><{word} message=\"{}\"/></testcase>\n",
            e(test),
            e(message)
        );
    }
    let step = |step: &Step| format!("{:.3}s {}", step.at_ms / 1e3, step.what);
    let steps: Vec<_> = report.timeline.iter().map(step).collect();
    out += &format!(
        "<system-out>{}</system-out>\n</testsuite>\n</testsuites>\n",
        e(steps.join("\n"))
    );
    out
}

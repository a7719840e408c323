//! `firedrill findings`: what the records tell of callers and services, a line each.

mod figures;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;

use super::Failure;
use super::complete;
use super::moment;
use super::output::{Output, table, wrapped};
use super::targets::{self, Targets};
use crate::clock::Timestamp;
use crate::evidence::findings::{self, FINDERS, Finding, Verdict, Wanted};
use crate::wire::List;

/// What `findings` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill findings
  firedrill findings --finding backoff --from checkout --since 5m
  firedrill findings --json | jq '.items[] | select(.verdict == \"no\")'
  firedrill findings --explain bounded_retries

They are judged from the records in memory, when this asks for them.")]
pub(super) struct Args {
    /// Only this one
    #[arg(long, value_name = "NAME", value_parser = names())]
    finding: Option<String>,

    /// Only of this calling service
    #[arg(long, add = ArgValueCompleter::new(complete::services))]
    from: Option<String>,

    /// Only of this called service
    #[arg(long, add = ArgValueCompleter::new(complete::services))]
    to: Option<String>,

    /// Judged from what began since: how long ago (5m), or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Timestamp>,

    /// Judged from what began before: how long ago, or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Timestamp>,

    /// Say what exactly is judged, and what its figures are
    #[arg(long, value_name = "NAME", value_parser = names(), conflicts_with_all = ["finding", "from", "to", "since", "until"])]
    pub(super) explain: Option<String>,
}

fn names() -> PossibleValuesParser {
    let names = FINDERS.iter();
    names
        .map(|finder| PossibleValue::new(finder.name).help(finder.summary))
        .collect::<Vec<_>>()
        .into()
}

pub(super) async fn run(args: Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let wanted = Wanted {
        finding: args.finding,
        from: args.from,
        to: args.to,
        since: args.since,
        until: args.until,
    };
    let found = targets.ask(|client| {
        let wanted = wanted.clone();
        async move { client.findings(&wanted).await }
    });
    targets::print(out, found.await, text)
}

/// What one of them judges; nobody is asked.
pub(super) fn explain(name: &str, out: &Output) -> Result<(), Failure> {
    let Some(finder) = findings::find(name) else {
        let message = format!("there is no finding `{name}`");
        return Err(Failure::usage(
            message,
            "`firedrill findings --help` lists them",
        ));
    };
    if out.json {
        return out.object(&json!({
            "finding": finder.name,
            "summary": finder.summary,
            "definition": finder.definition,
        }));
    }
    let title = format!("{}: {}", finder.name, finder.summary);
    out.text(&wrapped(&format!("{title}\n\n{}", finder.definition)))
}

fn text(found: &List<Finding>) -> String {
    if found.items.is_empty() {
        return "nothing found: there are no records of requests".to_owned();
    }
    let rows = found.items.iter().map(|finding| {
        let subject = &finding.subject;
        [
            finding.finding.clone(),
            format!("{} > {}", subject.from, subject.to),
            subject.caller.map_or("-".to_owned(), |c| c.to_string()),
            match finding.verdict {
                Verdict::NotEnough => "not enough".to_owned(),
                verdict => verdict.to_string(),
            },
            figures::sentence(finding),
        ]
    });
    let header = ["FINDING", "FROM > TO", "CALLER", "VERDICT", "FIGURES"];
    table(header, &[], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, verdict: &str, detail: serde_json::Value) -> Finding {
        let finding = json!({
            "finding": name,
            "subject": { "from": "checkout", "to": "payment", "caller": "10.0.0.7" },
            "verdict": verdict,
            "detail": detail,
            "records": [],
        });
        serde_json::from_value(finding).unwrap()
    }

    #[test]
    fn a_line_a_finding() {
        let list = List {
            generation: 1,
            items: vec![
                found(
                    "timeouts",
                    "yes",
                    json!({ "left": 12, "after_ms": 998.4, "of": "attempt", "timeouts": [{ "after_ms": 998.4 }] }),
                ),
                found(
                    "timeouts",
                    "no",
                    json!({ "left": 0, "waited": 4, "longest_wait_ms": 13_218.0 }),
                ),
                found(
                    "bounded_retries",
                    "yes",
                    json!({ "bound": "attempts", "limit": 3, "gave_up": 8, "amplification": 1.5, "storm": true, "rate_before": 20, "rate_during": 61.5 }),
                ),
                found(
                    "bounded_retries",
                    "no",
                    json!({ "bound": "none", "worst": 57, "amplification": 5.8 }),
                ),
                found(
                    "backoff",
                    "yes",
                    json!({ "spacing": "exponential", "base_ms": 99.7, "factor": 2.03, "cap_ms": 802.5, "gaps": 40 }),
                ),
                found(
                    "jitter",
                    "no",
                    json!({ "spread": 0.01, "spread_ms": 1.2, "gaps": 40 }),
                ),
                found(
                    "retry_after",
                    "yes",
                    json!({ "asked": 6, "obeyed": 6, "asked_ms": 1000.0, "waited_ms": 1003.0 }),
                ),
                found(
                    "unsafe_retry",
                    "yes",
                    json!({ "retries": 5, "safe": 1, "unsafe": 4, "no_identity": 0, "other_identity": 4, "other_body": 0 }),
                ),
                found("timeouts", "not_enough", json!({ "left": 1 })),
                found(
                    "of_tomorrow",
                    "no",
                    json!({ "limit": 4, "is_new": true, "nothing": null, "list": [1] }),
                ),
            ],
        };
        insta::assert_snapshot!(text(&list), @"
        FINDING          FROM > TO           CALLER    VERDICT     FIGURES
        timeouts         checkout > payment  10.0.0.7  yes         leaves after 998 ms (12 times)
        timeouts         checkout > payment  10.0.0.7  no          4 long waits without leaving, the longest 13.2 s; left 0 times
        bounded_retries  checkout > payment  10.0.0.7  yes         gives up after 3 attempts (8 times); 1.50 attempts each; a storm: 20/s became 62/s
        bounded_retries  checkout > payment  10.0.0.7  no          57 attempts at one operation, and no end seen; 5.80 attempts each
        backoff          checkout > payment  10.0.0.7  yes         from 100 ms, times 2.0 each time, up to 802 ms (40 waits)
        jitter           checkout > payment  10.0.0.7  no          waits differ by 1%, 1.2 ms (40 waits)
        retry_after      checkout > payment  10.0.0.7  yes         obeyed 6 of 6: asked for 1 s, waited 1 s
        unsafe_retry     checkout > payment  10.0.0.7  yes         4 of 5 retries of what may have been done are unsafe: 4 under another name
        timeouts         checkout > payment  10.0.0.7  not enough  left 1 time
        of_tomorrow      checkout > payment  10.0.0.7  no          limit 4, is new
        ");
        let none = List {
            generation: 1,
            items: vec![],
        };
        assert!(text(&none).starts_with("nothing found"));
    }
}

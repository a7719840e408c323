//! Two runs side by side.

use serde::Serialize;

use super::Report;
use super::words::{number, percent, seconds};

/// One line of two reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is compared.
    pub what: String,
    /// In the first; absent: it has nothing of the sort.
    pub first: Option<String>,
    /// In the second.
    pub second: Option<String>,
    /// Whether they read alike.
    pub same: bool,
}

/// All lines of two reports, in the order of a report.
#[must_use]
pub fn compare(first: &Report, second: &Report) -> Vec<Difference> {
    let (first, second) = (lines(first), lines(second));
    let mut all = Vec::new();
    let find = |lines: &[(String, String)], what: &str| {
        let found = lines.iter().find(|(name, _)| name == what);
        found.map(|(_, value)| value.clone())
    };
    let order = first.iter().chain(
        second
            .iter()
            .filter(|(what, _)| find(&first, what).is_none()),
    );
    for (what, _) in order {
        let (a, b) = (find(&first, what), find(&second, what));
        all.push(Difference {
            what: what.clone(),
            same: a == b,
            first: a,
            second: b,
        });
    }
    all
}

fn lines(report: &Report) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut put = |what: String, value: String| lines.push((what, value));
    put("drill".to_owned(), report.drill.name.clone());
    put("outcome".to_owned(), report.outcome.to_string());
    put(
        "steady before".to_owned(),
        report.steady.verdict.to_string(),
    );
    for promise in &report.promises {
        put(
            format!("promise: {}", promise.name),
            format!("{}: {}", promise.verdict, promise.reason),
        );
    }
    if let Some(recovered) = &report.recovery {
        put("recovery".to_owned(), recovered.verdict.to_string());
        let time = |ms: Option<f64>| ms.map_or("never".to_owned(), seconds);
        put(
            "first good answer after".to_owned(),
            time(recovered.first_good_ms),
        );
        put("steady after".to_owned(), time(recovered.steady_ms));
        let rows = [
            ("before", &recovered.before),
            ("during", &recovered.during),
            ("in the end", &recovered.after),
        ];
        for (name, well) in rows {
            put(format!("well, {name}"), percent(well.share));
            put(
                format!("goodput, {name}"),
                format!("{}/s", number(well.goodput)),
            );
        }
        if let Some(amplified) = &recovered.amplified {
            let both = format!(
                "{} to {}",
                number(amplified.before),
                number(amplified.after)
            );
            put(
                format!("calls for one operation, at {}", amplified.proxy),
                both,
            );
        }
    }
    for latency in &report.load.latency {
        let stretch = &latency.stretch;
        for (name, ms) in [
            ("p50", latency.p50_ms),
            ("p99", latency.p99_ms),
            ("p99.9", latency.p99_9_ms),
        ] {
            put(format!("latency, {stretch}, {name}"), seconds(ms));
        }
    }
    for fault in &report.faults {
        put(
            format!("fault: {}", fault.name),
            format!("chose {}, changed {}", fault.selected, fault.injected),
        );
    }
    for edge in &report.edges {
        let recovery = edge.recovery.as_ref().map(|r| r.verdict.to_string());
        let retries = format!("{} operations, {} retries", edge.operations, edge.retries);
        let said: Vec<_> = recovery.into_iter().chain([retries]).collect();
        put(format!("edge: {}", edge.proxy), said.join(", "));
    }
    for finding in &report.findings {
        let subject = &finding.subject;
        let what = format!(
            "finding: {}, {} > {}",
            finding.finding, subject.from, subject.to
        );
        put(what, finding.verdict.to_string());
    }
    put("seed".to_owned(), report.seed.to_string());
    put("version".to_owned(), report.version.clone());
    lines
}

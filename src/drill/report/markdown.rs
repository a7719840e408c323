//! Markdown, for a pull request or an issue.

use super::words::{acted, mark, number, outcome_words, percent, recovery_words, seconds, steers};
use super::{Report, Stories};

/// Text on one line, so that it can only be text.
fn e(text: impl ToString) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if steers(c) => out.push('\u{fffd}'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '!' | '&' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Text as code on one line.
fn code(text: impl ToString) -> String {
    let text = text.to_string().replace(['\n', '\r', '`'], " ");
    let clean = |c| if steers(c) { '\u{fffd}' } else { c };
    let clean: String = text.chars().map(clean).collect();
    format!("`{}`", clean.replace('|', "\\|"))
}

/// The report.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let drill = &report.drill;
    let mut out = format!(
        "# {}: {}\n\n**{}.** {}\n\n> {}\n\n",
        e(&drill.name),
        report.outcome,
        outcome_words(report.outcome),
        e(&report.reason),
        e(&drill.promise),
    );
    let mut worksheet = vec![("participants", drill.participants.join(", "))];
    for (owner, facts) in &drill.facts {
        worksheet.push(("who owns what", format!("{owner}: {}", facts.join("; "))));
    }
    worksheet.push(("unknowns", drill.unknowns.join("; ")));
    worksheet.push(("repair", drill.repair.join("; ")));
    for (name, text) in worksheet.iter().filter(|(_, text)| !text.is_empty()) {
        out += &format!("- {name}: {}\n", e(text));
    }
    out += "\n| | promise | when | verdict | why |\n| --- | --- | --- | --- | --- |\n";
    out += &format!(
        "| {} | steady before | before | {} | {} |\n",
        mark(report.steady.verdict),
        report.steady.verdict,
        e(&report.steady.reason)
    );
    for promise in &report.promises {
        let records: Vec<_> = promise.records.iter().take(3).map(|p| code(p.id)).collect();
        let records = match records.is_empty() {
            true => String::new(),
            false => format!(" ({})", records.join(", ")),
        };
        out += &format!(
            "| {} | {} | {} | {} | {}{records} |\n",
            mark(promise.verdict),
            e(&promise.name),
            e(&promise.when),
            promise.verdict,
            e(&promise.reason)
        );
    }
    if let Some(recovered) = &report.recovery {
        out += &format!("\n**Recovery**: {}.\n", e(recovery_words(recovered)));
        out += "\n| | operations | well | goodput | median | 99 of 100 |\n| --- | --- | --- | --- | --- | --- |\n";
        let rows = [
            ("before", &recovered.before),
            ("during", &recovered.during),
            ("in the end", &recovered.after),
        ];
        for (name, well) in rows {
            out += &format!(
                "| {name} | {} | {} | {}/s | {} | {} |\n",
                well.operations,
                percent(well.share),
                number(well.goodput),
                seconds(well.p50_ms),
                seconds(well.p99_ms)
            );
        }
    }
    out += "\n| fault | | operations |\n| --- | --- | --- |\n";
    for fault in &report.faults {
        out += &format!(
            "| {} | {} | {} |\n",
            e(&fault.name),
            e(&fault.kind),
            acted(fault)
        );
    }
    out +=
        "\n| edge | operations | retries | recovery | residue |\n| --- | --- | --- | --- | --- |\n";
    for edge in &report.edges {
        let recovery = edge.recovery.as_ref().map(|r| match r.steady_ms {
            Some(ms) => format!("{}, steady after {}", r.verdict, seconds(ms)),
            None => r.verdict.to_string(),
        });
        out += &format!(
            "| {} → {} ({}) | {} | {} | {} | {} |\n",
            e(&edge.from),
            e(&edge.to),
            e(&edge.proxy),
            edge.operations,
            edge.retries,
            recovery.unwrap_or_default(),
            edge.residue
                .as_ref()
                .map(|r| e(&r.state))
                .unwrap_or_default(),
        );
    }
    out += "\n";
    for step in &report.timeline {
        let error = step.error.as_ref().map(|error| format!(": {}", e(error)));
        out += &format!(
            "- {} {}{}\n",
            seconds(step.at_ms),
            e(&step.what),
            error.unwrap_or_default()
        );
    }
    out += &report.operations.iter().map(story).collect::<String>();
    if !report.findings.is_empty() {
        out += "\n| finding | who | |\n| --- | --- | --- |\n";
        for finding in &report.findings {
            let subject = &finding.subject;
            out += &format!(
                "| {} | {} → {} | {} |\n",
                e(&finding.finding),
                e(&subject.from),
                e(&subject.to),
                finding.verdict
            );
        }
    }
    for note in &report.notes {
        out += &format!("\nNote: {}\n", e(note));
    }
    out += &format!(
        "\nSeed {}, version {}. Again: {}\n",
        report.seed,
        e(&report.version),
        code(&report.again)
    );
    out
}

fn story(story: &Stories) -> String {
    let mut out = format!("\n### {} ({})\n\n", code(&story.id), e(&story.why));
    let tellers = std::iter::once(&story.customer).chain(&story.participants);
    for teller in tellers {
        out += &format!("**{}**\n\n", e(&teller.name));
        for told in &teller.facts {
            out += &format!("- {} {}\n", seconds(told.at_ms), e(&told.what));
        }
        out += "\n";
    }
    for unknown in &story.unknown {
        out += &format!("Unknown {}\n\n", e(unknown));
    }
    out
}

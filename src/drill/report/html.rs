//! One page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! Whatever is not written here is escaped; the page forbids itself to run or load anything.

use std::fmt::Display;

use super::plot::plots;
use super::words::{acted, mark, number, outcome_words, percent, recovery_words, seconds, steers};
use super::{Amplified, Edge, Promise, Recovered, Report, Stories, Teller, Told};

const STYLE: &str = include_str!("style.css");

/// Text, so that it can only be text: in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if steers(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn e(text: impl Display) -> String {
    escape(&text.to_string())
}

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let parts = [
        head(report),
        worksheet(report),
        promises(report),
        recovery(report),
        format!("<section><h2>How it went</h2>{}</section>", plots(report)),
        timeline(report),
        latency(report),
        edges(report),
        stories(report),
        findings(report),
        about(report),
    ];
    let name = e(&report.drill.name);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{name}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        e(report.outcome),
        parts.join("\n")
    )
}

fn head(report: &Report) -> String {
    format!(
        "<header><p class=\"kicker\">Firedrill drill report</p><h1>{}</h1>\n\
         <p class=\"verdict {}\"><b>{}</b> <span>{}</span></p>\n\
         <p class=\"why\">{}</p></header>",
        e(&report.drill.name),
        e(report.outcome),
        outcome_words(report.outcome),
        e(report.outcome),
        e(&report.reason),
    )
}

fn worksheet(report: &Report) -> String {
    let drill = &report.drill;
    let list = |items: &[String]| {
        let items: Vec<_> = items.iter().map(e).collect();
        items.join("<br>")
    };
    let facts: Vec<_> = drill
        .facts
        .iter()
        .map(|(owner, facts)| format!("{}: {}", e(owner), list(facts)))
        .collect();
    let participants: Vec<_> = drill.participants.iter().map(e).collect();
    let rows = [
        ("promise", e(&drill.promise)),
        ("participants", participants.join(", ")),
        ("who owns what", facts.join("<br>")),
        ("unknowns", list(&drill.unknowns)),
        ("repair", list(&drill.repair)),
    ];
    let rows = rows.iter().filter(|(_, text)| !text.is_empty());
    let rows: String = rows
        .map(|(name, text)| format!("<dt>{name}</dt><dd>{text}</dd>"))
        .collect();
    format!("<section><dl>{rows}</dl></section>")
}

fn promises(report: &Report) -> String {
    let steady = format!(
        "<li class=\"{0}\"><p><b>{1}</b> steady before <em>{0}</em></p><p class=\"why\">{2}</p></li>",
        report.steady.verdict,
        mark(report.steady.verdict),
        e(&report.steady.reason)
    );
    let all: String = report.promises.iter().map(promise).collect();
    format!("<section><h2>Promises</h2><ul class=\"promises\">{steady}{all}</ul></section>")
}

fn promise(promise: &Promise) -> String {
    let records: Vec<_> = promise
        .records
        .iter()
        .map(|proof| format!("<code>{}</code>", e(proof.id)))
        .collect();
    let records = match records.is_empty() {
        true => String::new(),
        false => format!("<p class=\"why\">records {}</p>", records.join(" ")),
    };
    let check = match promise.check == promise.name {
        true => String::new(),
        false => format!("<p class=\"why\">{}</p>", e(&promise.check)),
    };
    format!(
        "<li class=\"{0}\"><p><b>{1}</b> {2} <em>{0}</em> <small>{3}</small></p>{check}<p class=\"why\">{4}</p>{records}</li>",
        promise.verdict,
        mark(promise.verdict),
        e(&promise.name),
        e(&promise.when),
        e(&promise.reason),
    )
}

fn recovery(report: &Report) -> String {
    let Some(recovered) = &report.recovery else {
        return String::new();
    };
    let grown = |a: &&Amplified| a.after > a.before * 1.1;
    let amplified = recovered.amplified.as_ref().filter(grown).map(|a| {
        format!(
            "<p class=\"why\">calls that one operation costs, at {}: {} before, {} at the end</p>",
            e(&a.proxy),
            number(a.before),
            number(a.after)
        )
    });
    let noticed = match recovered.noticed {
        true => "",
        false => {
            "<p class=\"why\">the faults were not noticed: it was as well while they were on</p>"
        }
    };
    format!(
        "<section><h2>Recovery</h2><p class=\"{0}\">{1}</p>{noticed}{2}{3}</section>",
        recovered.verdict,
        e(recovery_words(recovered)),
        amplified.unwrap_or_default(),
        well(recovered),
    )
}

fn well(recovered: &Recovered) -> String {
    let rows = [
        ("before", &recovered.before),
        ("during", &recovered.during),
        ("in the end", &recovered.after),
    ];
    let rows: String = rows
        .iter()
        .map(|(name, well)| {
            format!(
                "<tr><th>{name}</th><td>{}</td><td>{}</td><td>{}/s</td><td>{}</td><td>{}</td></tr>",
                well.operations,
                percent(well.share),
                number(well.goodput),
                seconds(well.p50_ms),
                seconds(well.p99_ms)
            )
        })
        .collect();
    table(
        "<tr><th></th><th>operations</th><th>well</th><th>goodput</th><th>median</th><th>99 of 100</th></tr>",
        &rows,
    )
}

fn table(head: &str, rows: &str) -> String {
    format!("<div class=\"wide\"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>")
}

fn timeline(report: &Report) -> String {
    let steps: String = report
        .timeline
        .iter()
        .map(|step| {
            let error = step
                .error
                .as_ref()
                .map(|error| format!(" <em class=\"broken\">{}</em>", e(error)));
            format!(
                "<tr><td>{}</td><td>{}{}</td></tr>",
                seconds(step.at_ms),
                e(&step.what),
                error.unwrap_or_default()
            )
        })
        .collect();
    let faults: String = report
        .faults
        .iter()
        .map(|fault| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                e(&fault.name),
                e(&fault.sort),
                e(&fault.kind),
                e(acted(fault))
            )
        })
        .collect();
    format!(
        "<section><h2>Timeline</h2>{}{}</section>",
        table(
            "<tr><th>fault</th><th></th><th></th><th>operations</th></tr>",
            &faults
        ),
        table("<tr><th>at</th><th>what</th></tr>", &steps)
    )
}

fn latency(report: &Report) -> String {
    let rows: String = report
        .load
        .latency
        .iter()
        .map(|l| {
            let cells = [
                l.p50_ms, l.p75_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p99_9_ms, l.max_ms,
            ];
            let cells: String = cells
                .iter()
                .map(|ms| format!("<td>{}</td>", seconds(*ms)))
                .collect();
            format!(
                "<tr><th>{}</th><td>{}</td>{cells}</tr>",
                e(&l.stretch),
                l.count
            )
        })
        .collect();
    let head = "<tr><th></th><th>operations</th><th>p50</th><th>p75</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>longest</th></tr>";
    let sent = report.load.sent.as_ref().map(|sent| {
        let outcomes: Vec<_> = sent.outcomes.iter().map(|(what, n)| format!("{} {n}", e(what))).collect();
        format!(
            "<p class=\"why\">{} requests were due, {} not started; {}. Sent late by {} at the median, {} at 99 of 100, {} at most.</p>",
            sent.due,
            sent.not_started,
            outcomes.join(", "),
            seconds(sent.late_ms[0]),
            seconds(sent.late_ms[1]),
            seconds(sent.late_ms[2]),
        )
    });
    format!(
        "<section><h2>Latency</h2><p class=\"why\">Counted from when each request was due, so that a stall counts for all whom it kept waiting. What was given up counts with how long it was waited for.</p>{}{}</section>",
        table(head, &rows),
        sent.unwrap_or_default()
    )
}

fn edges(report: &Report) -> String {
    let one = |edge: &Edge| {
        let classes: Vec<_> = edge
            .classes
            .iter()
            .map(|(class, n)| format!("{} {n}", e(class)))
            .collect();
        let recovery = edge.recovery.as_ref().map_or(String::new(), |r| {
            let steady = r
                .steady_ms
                .map(|ms| format!(", steady after {}", seconds(ms)));
            let good = r
                .first_good_ms
                .map(|ms| format!(", first good after {}", seconds(ms)));
            format!(
                "{}{}{}",
                r.verdict,
                good.unwrap_or_default(),
                steady.unwrap_or_default()
            )
        });
        let residue = edge
            .residue
            .as_ref()
            .map_or(String::new(), |r| match r.state.as_str() {
                "clean" => "clean".to_owned(),
                state => format!("{}: {}", e(state), e(&r.said)),
            });
        format!(
            "<tr><th>{} → {}<br><small>{}</small></th><td>{}</td><td>{}</td><td>{}</td><td>{recovery}</td><td>{residue}</td></tr>",
            e(&edge.from),
            e(&edge.to),
            e(&edge.proxy),
            edge.operations,
            edge.retries,
            classes.join(", "),
        )
    };
    let rows: String = report.edges.iter().map(one).collect();
    let head = "<tr><th>edge</th><th>operations</th><th>retries</th><th>classes</th><th>recovery</th><th>residue</th></tr>";
    format!("<section><h2>Edges</h2>{}</section>", table(head, &rows))
}

fn stories(report: &Report) -> String {
    if report.operations.is_empty() {
        return String::new();
    }
    let all: String = report.operations.iter().map(story).collect();
    format!("<section><h2>The worst operations, told twice</h2>{all}</section>")
}

fn story(story: &Stories) -> String {
    let told = |told: &Told| {
        format!(
            "<li><time>{}</time> {}</li>",
            seconds(told.at_ms),
            e(&told.what)
        )
    };
    let teller = |teller: &Teller| {
        let facts: String = teller.facts.iter().map(told).collect();
        format!("<h4>{}</h4><ol>{facts}</ol>", e(&teller.name))
    };
    let others: String = story.participants.iter().map(teller).collect();
    let faults: String = story.faults.iter().map(told).collect();
    let unknown: String = story
        .unknown
        .iter()
        .map(|what| format!("<li>{}</li>", e(what)))
        .collect();
    let below = |title: &str, items: &str| match items.is_empty() {
        true => String::new(),
        false => format!("<h4>{title}</h4><ol>{items}</ol>"),
    };
    format!(
        "<article><h3><code>{}</code> <small>{}</small></h3><div class=\"two\"><div><p class=\"kicker\">as it was told</p>{}</div><div><p class=\"kicker\">as everyone else saw it</p>{others}{}</div></div>{}</article>",
        e(&story.id),
        e(&story.why),
        teller(&story.customer),
        below("injected", &faults),
        below("what could not be known", &unknown),
    )
}

fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let rows: String = report
        .findings
        .iter()
        .map(|finding| {
            let subject = &finding.subject;
            let caller = subject.caller.map_or(String::new(), |caller| {
                format!("<br><small>{}</small>", e(caller))
            });
            let detail: Vec<_> = finding
                .detail
                .iter()
                .filter(|(_, value)| !value.is_array() && !value.is_object())
                .map(|(key, value)| format!("{} {}", e(key), e(value)))
                .collect();
            format!(
                "<tr><td>{}</td><td>{} → {}{caller}</td><td>{}</td><td>{}</td></tr>",
                e(&finding.finding),
                e(&subject.from),
                e(&subject.to),
                e(finding.verdict),
                detail.join(", ")
            )
        })
        .collect();
    let head = "<tr><th>finding</th><th>who</th><th></th><th>figures</th></tr>";
    format!("<section><h2>Findings</h2>{}</section>", table(head, &rows))
}

fn about(report: &Report) -> String {
    let instances: Vec<_> = report
        .instances
        .iter()
        .map(|i| format!("{} (version {}, seed {})", e(&i.url), e(&i.version), i.seed))
        .collect();
    let notes: String = report
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>", e(note)))
        .collect();
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!("<ul>{notes}</ul>"),
    };
    let left: String = report
        .not_lifted
        .iter()
        .map(|what| format!("<p class=\"broken\">not undone: {}</p>", e(what)))
        .collect();
    format!(
        "<footer>{left}{notes}<dl><dt>began</dt><dd>{}</dd><dt>over</dt><dd>{}</dd><dt>load</dt><dd>{} at {}</dd><dt>seed</dt><dd>{}</dd><dt>version</dt><dd>{}</dd><dt>instances</dt><dd>{}</dd><dt>again</dt><dd><code>{}</code></dd></dl></footer>",
        e(report.started),
        e(report.ended),
        e(&report.load.source),
        e(report.load.proxies.join(", ")),
        report.seed,
        e(&report.version),
        instances.join("<br>"),
        e(&report.again),
    )
}

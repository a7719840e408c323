//! The figures of a finding in one sentence.

use serde_json::Value;

use crate::evidence::findings::{Finding, Verdict};

/// What its figures say. One that this version does not know is told as its figures stand.
pub(super) fn sentence(finding: &Finding) -> String {
    let figures = Figures(finding);
    let said = match finding.finding.as_str() {
        "timeouts" => timeouts(&figures),
        "bounded_retries" => bounded_retries(&figures),
        "backoff" => backoff(&figures),
        "jitter" => jitter(&figures),
        "retry_after" => retry_after(&figures),
        "unsafe_retry" => unsafe_retry(&figures),
        _ => None,
    };
    said.unwrap_or_else(|| as_they_stand(finding))
}

struct Figures<'f>(&'f Finding);

impl Figures<'_> {
    fn number(&self, name: &str) -> Option<f64> {
        self.0.detail.get(name)?.as_f64()
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.0.detail.get(name)?.as_str()
    }

    fn count(&self, name: &str) -> Option<String> {
        self.number(name).map(|n| n.to_string())
    }

    fn times(&self, name: &str) -> Option<String> {
        let n = self.number(name)?;
        Some(format!("{n} time{}", if n == 1.0 { "" } else { "s" }))
    }

    fn time(&self, name: &str) -> Option<String> {
        self.number(name).map(time)
    }

    fn is(&self, name: &str) -> bool {
        self.0.detail.get(name) == Some(&Value::Bool(true))
    }
}

/// Milliseconds as they are read.
fn time(ms: f64) -> String {
    let (value, unit, digits) = match ms {
        ms if ms < 10.0 => (ms, "ms", 1),
        ms if ms < 1_000.0 => (ms, "ms", 0),
        ms if ms < 10_000.0 => (ms / 1_000.0, "s", 2),
        ms => (ms / 1_000.0, "s", 1),
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {unit}")
}

fn timeouts(figures: &Figures<'_>) -> Option<String> {
    let left = figures.times("left")?;
    Some(match figures.0.verdict {
        Verdict::Yes => {
            let each = figures.0.detail.get("timeouts")?.as_array()?;
            let each = each.iter().filter_map(|one| one.get("after_ms")?.as_f64());
            let each: Vec<_> = each.map(time).collect();
            let in_all = match figures.word("of") {
                Some("operation") => " in all",
                _ => "",
            };
            format!("leaves after {}{in_all} ({left})", each.join(" or "))
        }
        Verdict::No => {
            let (waited, longest) = (figures.count("waited")?, figures.time("longest_wait_ms")?);
            format!("{waited} long waits without leaving, the longest {longest}; left {left}")
        }
        Verdict::NotEnough => match figures.time("longest_wait_ms") {
            Some(longest) => format!("left {left}; waited {longest} at the longest"),
            None => format!("left {left}"),
        },
    })
}

fn bounded_retries(figures: &Figures<'_>) -> Option<String> {
    let gave_up = || figures.times("gave_up");
    let mut said = match figures.word("bound")? {
        "attempts" if figures.number("limit") == Some(1.0) => {
            format!("never retries (gave up {})", gave_up()?)
        }
        "attempts" => {
            let limit = figures.count("limit")?;
            format!("gives up after {limit} attempts ({})", gave_up()?)
        }
        "time" => {
            let limit = figures.time("limit_ms")?;
            format!("gives up after {limit} ({})", gave_up()?)
        }
        "other" => {
            let worst = figures.count("worst")?;
            format!("gave up {}, after {worst} attempts at the most", gave_up()?)
        }
        _ if figures.0.verdict == Verdict::No => {
            format!(
                "{} attempts at one operation, and no end seen",
                figures.count("worst")?
            )
        }
        _ => format!("gave up {}", gave_up()?),
    };
    if let Some(amplification) = figures.number("amplification").filter(|a| *a > 1.0) {
        said += &format!("; {amplification:.2} attempts each");
    }
    if figures.is("storm") {
        let (before, during) = (
            figures.number("rate_before")?,
            figures.number("rate_during")?,
        );
        said += &format!("; a storm: {before:.0}/s became {during:.0}/s");
    }
    Some(said)
}

fn backoff(figures: &Figures<'_>) -> Option<String> {
    let waits = format!("{} waits", figures.count("gaps")?);
    let from = || figures.time("base_ms");
    let mut said = match figures.word("spacing") {
        None => return Some(waits),
        Some("none") => "retries at once".to_owned(),
        Some("fixed") => format!("waits {} each time", from()?),
        Some("linear") => format!(
            "from {}, {} more each time",
            from()?,
            figures.time("step_ms")?
        ),
        Some(_) => format!(
            "from {}, times {:.1} each time",
            from()?,
            figures.number("factor")?
        ),
    };
    if let Some(cap) = figures.time("cap_ms") {
        said += &format!(", up to {cap}");
    }
    if figures.number("immediate") > Some(0.0) {
        said += "; the first retry at once";
    }
    Some(format!("{said} ({waits})"))
}

fn jitter(figures: &Figures<'_>) -> Option<String> {
    let waits = figures.count("gaps")?;
    let Some(spread) = figures.number("spread") else {
        return Some(format!("{waits} waits"));
    };
    let apart = figures.time("spread_ms")?;
    Some(format!(
        "waits differ by {:.0}%, {apart} ({waits} waits)",
        spread * 100.0
    ))
}

fn retry_after(figures: &Figures<'_>) -> Option<String> {
    let asked = figures.count("asked").filter(|asked| asked != "0");
    let Some(asked) = asked else {
        return Some("no retry after an answer that asks to wait".to_owned());
    };
    let (Some(wanted), Some(waited)) = (figures.time("asked_ms"), figures.time("waited_ms")) else {
        return figures.times("asked").map(|asked| format!("asked {asked}"));
    };
    let obeyed = figures.count("obeyed")?;
    Some(format!(
        "obeyed {obeyed} of {asked}: asked for {wanted}, waited {waited}"
    ))
}

fn unsafe_retry(figures: &Figures<'_>) -> Option<String> {
    let (retries, wrong) = (figures.count("retries")?, figures.count("unsafe")?);
    if retries == "0" {
        return Some("no retry of what may have been done".to_owned());
    }
    let of = format!("{wrong} of {retries} retries of what may have been done are unsafe");
    let why = [
        ("no_identity", "without a name"),
        ("other_identity", "under another name"),
        ("other_body", "with another body"),
    ];
    let why = why.into_iter().filter_map(|(name, why)| {
        let n = figures.number(name).filter(|n| *n > 0.0)?;
        Some(format!("{n} {why}"))
    });
    let why: Vec<_> = why.collect();
    Some(if why.is_empty() {
        of
    } else {
        format!("{of}: {}", why.join(", "))
    })
}

fn as_they_stand(finding: &Finding) -> String {
    let figures = finding.detail.iter().filter_map(|(name, value)| {
        let name = name.replace('_', " ");
        match value {
            Value::Number(n) => Some(format!("{name} {n}")),
            Value::String(word) => Some(format!("{name} {word}")),
            Value::Bool(true) => Some(name),
            _ => None,
        }
    });
    figures.collect::<Vec<_>>().join(", ")
}

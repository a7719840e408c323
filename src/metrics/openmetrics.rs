//! What is counted as OpenMetrics 1.0, in which a sample may have an exemplar.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::Exemplar;
use crate::evidence::{RecordId, TraceId};

/// What it is called in HTTP.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text. `exemplar`: of the sample of the family of this name that has these labels; of a
/// histogram, of the bucket at this place.
pub(super) fn encode(
    families: &[MetricFamily],
    exemplar: impl Fn(&str, &[LabelPair], usize) -> Option<Exemplar>,
) -> String {
    let mut out = String::new();
    for family in families {
        let (kind, name) = match family.get_field_type() {
            // The family is called by what it counts, its sample by that and `_total`.
            MetricType::COUNTER => ("counter", family.name().trim_end_matches("_total")),
            MetricType::GAUGE => ("gauge", family.name()),
            MetricType::HISTOGRAM => ("histogram", family.name()),
            // There are none.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        // Writing to a text does not fail.
        let _ = write!(out, "# TYPE {name} {kind}\n# HELP {name} ");
        escape(&mut out, family.help());
        out.push('\n');
        for metric in family.get_metric() {
            let labels = metric.get_label();
            let mut sample = |suffix: &str, le: Option<f64>, value: f64, like: Option<Exemplar>| {
                out.push_str(name);
                out.push_str(suffix);
                write_labels(&mut out, labels, le);
                out.push(' ');
                write_number(&mut out, value);
                if let Some(like) = like {
                    write_exemplar(&mut out, &like);
                }
                out.push('\n');
            };
            match family.get_field_type() {
                MetricType::COUNTER => {
                    let like = exemplar(family.name(), labels, 0);
                    sample("_total", None, metric.get_counter().get_value(), like);
                }
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let count = histogram.get_sample_count() as f64;
                    let buckets = histogram.get_bucket().iter();
                    let buckets = buckets.map(|b| (b.upper_bound(), b.cumulative_count() as f64));
                    let buckets = buckets.filter(|(bound, _)| bound.is_finite());
                    for (nth, (bound, count)) in buckets.chain([(f64::INFINITY, count)]).enumerate()
                    {
                        let like = exemplar(family.name(), labels, nth);
                        sample("_bucket", Some(bound), count, like);
                    }
                    sample("_sum", None, histogram.get_sample_sum(), None);
                    sample("_count", None, count, None);
                }
                _ => sample("", None, metric.get_gauge().get_value(), None),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn write_labels(out: &mut String, labels: &[LabelPair], le: Option<f64>) {
    if labels.is_empty() && le.is_none() {
        return;
    }
    let mut between = '{';
    let mut begin = |out: &mut String, name: &str| {
        out.push(std::mem::replace(&mut between, ','));
        out.push_str(name);
        out.push_str("=\"");
    };
    for label in labels {
        begin(out, label.name());
        escape(out, label.value());
        out.push('"');
    }
    if let Some(bound) = le {
        begin(out, "le");
        write_bound(out, bound);
        out.push('"');
    }
    out.push('}');
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let Exemplar {
        record,
        trace,
        value,
        at,
    } = exemplar;
    let mut between = " # {";
    for (name, value) in exemplar_labels(*record, *trace) {
        let _ = write!(out, "{between}{name}=\"{value}\"");
        between = ",";
    }
    out.push_str("} ");
    write_number(out, *value);
    let _ = write!(out, " {}.{:06}", at.0 / 1_000_000, at.0 % 1_000_000);
}

/// None of their values needs to be escaped, and they never have more than the 128 characters that
/// they may have.
fn exemplar_labels(record: RecordId, trace: Option<TraceId>) -> Vec<(&'static str, String)> {
    let mut labels = vec![("record_id", record.to_string())];
    labels.extend(trace.map(|trace| ("trace_id", trace.to_string())));
    labels
}

/// A bucket's bound in the form that all use: a whole number has its nought behind the point.
fn write_bound(out: &mut String, bound: f64) {
    if bound.is_finite() {
        let _ = write!(out, "{bound:?}");
    } else {
        write_number(out, bound);
    }
}

fn write_number(out: &mut String, value: f64) {
    if value == f64::INFINITY {
        out.push_str("+Inf");
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Inf");
    } else {
        let _ = write!(out, "{value}");
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;

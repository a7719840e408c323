//! Plots as inline SVG: lines over time, with the times shaded in which faults were on.
//!
//! A line is drawn from the report's own numbers, and carries the scale by which they can be read
//! back: `data-series`, `data-top`, `data-from`, `data-to`.

use std::fmt::Write;

use super::html::escape;
use super::words::{number, seconds};
use super::{Report, Stretch};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 170.0;
/// Room for figures that a telephone can show.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;

/// A line of a plot.
struct Line {
    /// What it is called in the report.
    series: &'static str,
    label: &'static str,
    values: Vec<Option<f64>>,
}

/// A plot of one unit.
struct Plot {
    title: &'static str,
    unit: Unit,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    PerSecond,
    Millis,
}

/// All plots of a report, below each other.
pub(super) fn plots(report: &Report) -> String {
    let series = &report.series;
    let all = |values: &[f64]| values.iter().copied().map(Some).collect();
    let line = |series, label, values| Line {
        series,
        label,
        values,
    };
    let plots = [
        Plot {
            title: "Offered load and goodput, a second",
            unit: Unit::PerSecond,
            lines: vec![
                line("offered", "offered", all(&series.offered)),
                line("goodput", "good answers", all(&series.goodput)),
            ],
        },
        Plot {
            title: "Errors, a second",
            unit: Unit::PerSecond,
            lines: vec![line("errors", "bad answers, or none", all(&series.errors))],
        },
        Plot {
            title: "Latency, from when a request was due",
            unit: Unit::Millis,
            lines: vec![
                line("p50_ms", "median", series.p50_ms.clone()),
                line("p99_ms", "99 of 100", series.p99_ms.clone()),
            ],
        },
        Plot {
            title: "Retries, a second, at all proxies",
            unit: Unit::PerSecond,
            lines: vec![line("retries", "further attempts", all(&series.retries))],
        },
    ];
    let shades: Vec<_> = report.faults.iter().flat_map(|fault| &fault.on).collect();
    let end = series.offered.len() as f64 * series.step_ms;
    let scale = Scale {
        from: series.from_ms,
        to: series.from_ms + end.max(1.0),
        step: series.step_ms,
    };
    plots
        .iter()
        .map(|plot| draw(plot, &scale, &shades))
        .collect()
}

/// From times to places.
struct Scale {
    from: f64,
    to: f64,
    step: f64,
}

impl Scale {
    fn x(&self, ms: f64) -> f64 {
        let share = (ms - self.from) / (self.to - self.from);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

fn y(value: f64, top: f64) -> f64 {
    let share = (value / top).clamp(0.0, 1.0);
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

fn draw(plot: &Plot, scale: &Scale, shades: &[&Stretch]) -> String {
    let values = plot.lines.iter().flat_map(|line| &line.values);
    let most = values.flatten().copied().fold(0.0, f64::max);
    let top = round_up(most);
    let unit = |value: f64| match plot.unit {
        Unit::PerSecond => number(value),
        Unit::Millis => seconds(value),
    };
    let mut out = String::new();
    // Writing to a text does not fail.
    let mut put = |text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
    };
    put(format_args!("<figure><figcaption>{}", escape(plot.title)));
    for (n, line) in plot.lines.iter().enumerate() {
        put(format_args!(
            " <span class=\"key l{n}\"><i></i>{}</span>",
            escape(line.label)
        ));
    }
    put(format_args!(
        "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" data-area=\"{LEFT} {TOP} {} {}\" role=\"img\" aria-label=\"{}\">",
        WIDTH - RIGHT,
        HEIGHT - BOTTOM,
        escape(plot.title)
    ));
    for shade in shades {
        let (x, to) = (scale.x(shade.from_ms), scale.x(shade.to_ms));
        put(format_args!(
            "<rect class=\"fault\" x=\"{x:.2}\" y=\"{TOP}\" width=\"{:.2}\" height=\"{:.2}\"><title>{}</title></rect>",
            (to - x).max(0.5),
            HEIGHT - TOP - BOTTOM,
            escape(&shade.name)
        ));
    }
    for value in [0.0, top / 2.0, top] {
        let y = y(value, top);
        put(format_args!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.2}\" y1=\"{y:.2}\" y2=\"{y:.2}\"/><text x=\"{:.2}\" y=\"{:.2}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            unit(value)
        ));
    }
    for ms in ticks(scale) {
        let x = scale.x(ms);
        put(format_args!(
            "<text x=\"{x:.2}\" y=\"{:.2}\" text-anchor=\"middle\">{}s</text>",
            HEIGHT - 8.0,
            number(ms / 1e3)
        ));
    }
    for (n, line) in plot.lines.iter().enumerate() {
        put(format_args!(
            "<path class=\"l{n}\" data-series=\"{}\" data-top=\"{top}\" data-from=\"{}\" data-to=\"{}\" d=\"{}\"/>",
            line.series,
            scale.from,
            scale.to,
            path(line, scale, top)
        ));
    }
    out.push_str("</svg></figure>\n");
    out
}

/// A point for each step, in its middle; where nothing is known the line is interrupted.
fn path(line: &Line, scale: &Scale, top: f64) -> String {
    let mut out = String::new();
    let mut pen = 'M';
    for (n, value) in line.values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let x = scale.x(scale.from + (n as f64 + 0.5) * scale.step);
        let _ = write!(out, "{pen}{x:.2} {:.2}", y(*value, top));
        // One alone is a dot.
        if pen == 'M' {
            out.push_str("h0");
        }
        pen = 'L';
    }
    out
}

/// The next number that is easy to read.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(most.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let found = steps
        .into_iter()
        .find(|step| step * power >= most * 0.999_999);
    found.unwrap_or(10.0) * power
}

/// About six moments.
fn ticks(scale: &Scale) -> Vec<f64> {
    let span = (scale.to - scale.from) / 1e3;
    let steps = [
        0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    ];
    let step = steps
        .into_iter()
        .find(|step| span / step <= 7.0)
        .unwrap_or(3_600.0);
    let first = (scale.from / 1e3 / step).ceil() as i64;
    let all = (first..first + 10).map(|n| n as f64 * step * 1e3);
    all.filter(|ms| *ms <= scale.to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tops_are_easy_to_read() {
        for (most, top) in [
            (0.0, 1.0),
            (0.9, 1.0),
            (7.0, 8.0),
            (101.0, 120.0),
            (2000.0, 2000.0),
        ] {
            assert!(
                (round_up(most) - top).abs() < 1e-9,
                "{most} {}",
                round_up(most)
            );
        }
    }

    #[test]
    fn what_is_not_known_interrupts_the_line() {
        let scale = Scale {
            from: 0.0,
            to: 4000.0,
            step: 1000.0,
        };
        let line = Line {
            series: "p50_ms",
            label: "",
            values: vec![Some(1.0), None, Some(0.0), Some(1.0)],
        };
        let drawn = path(&line, &scale, 1.0);
        assert_eq!(drawn.matches('M').count(), 2, "{drawn}");
        assert_eq!(drawn.matches('L').count(), 1, "{drawn}");
    }
}

//! What a drill's file says, as people would say it.

use std::fmt;
use std::time::Duration;

use super::{
    Address, Bounds, Check, Condition, HttpProbe, JsonCheck, JsonIs, Once, PERCENTILES, Request,
};
use crate::evidence::Class;
use crate::units::format_duration;

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("not: ")?;
        }
        self.check.fmt(f)
    }
}

/// As people would say it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |proxy: &Option<String>| match proxy {
            Some(name) => format!(" at {name}"),
            None => String::new(),
        };
        let listed = |classes: &[Class]| {
            let words = classes.iter().map(|class| format!("`{class}`"));
            words.collect::<Vec<_>>().join(" or ")
        };
        match self {
            Self::SuccessRate { proxy, is } => {
                let is = is.in_words(percent);
                write!(f, "success rate{} {is}", at(proxy))
            }
            Self::Goodput {
                proxy,
                is,
                of_baseline,
            } => {
                let is = match of_baseline {
                    true => is.in_words(|n| format!("{} of before", percent(n))),
                    false => is.in_words(|n| format!("{n}/s")),
                };
                write!(f, "goodput{} {is}", at(proxy))
            }
            Self::Latency { proxy, is } => {
                let one = |(percentile, is): &(f64, Bounds)| {
                    let is = is.in_words(|ms| format_duration(Duration::from_secs_f64(ms / 1e3)));
                    format!("{} {is}", percentile_name(*percentile))
                };
                let is: Vec<_> = is.iter().map(one).collect();
                write!(f, "latency{} {}", at(proxy), is.join(", "))
            }
            Self::AtMostOnce { proxy, of } => {
                let what = match of {
                    Once::Effects => "takes effect",
                    Once::Deliveries => "is delivered",
                };
                write!(f, "each operation{} {what} at most once", at(proxy))
            }
            Self::Repaired {
                proxy,
                within,
                classes,
            } => {
                let within = format_duration(*within);
                let what = listed(classes);
                write!(f, "no {what}{} without repair within {within}", at(proxy))
            }
            Self::Retries { proxy, at_most } => {
                write!(f, "retries{} bounded by {at_most}", at(proxy))
            }
            Self::Breaker {
                proxy,
                opens_within,
            } => {
                let within = format_duration(*opens_within);
                write!(f, "the breaker before {proxy} opens within {within}")
            }
            Self::Finding {
                finding,
                verdict,
                from,
                to,
            } => {
                write!(f, "finding {finding}")?;
                match (from, to) {
                    (Some(from), Some(to)) => write!(f, " of {from} > {to}")?,
                    (Some(one), None) => write!(f, " of {one}")?,
                    (None, Some(one)) => write!(f, " about {one}")?,
                    (None, None) => {}
                }
                write!(f, " is {verdict}")
            }
            Self::Evidence { proxy, classes, is } => {
                let is = is.in_words(|n| n.to_string());
                write!(f, "{} operations{} {is}", listed(classes), at(proxy))
            }
            Self::Http(probe) => probe.fmt(f),
            Self::Tcp { address, .. } => write!(f, "{address} accepts connections"),
            Self::Command(probe) => {
                write!(f, "`{}` exits with {}", probe.run, probe.exit)?;
                json_in_words(f, &probe.json)
            }
            Self::Prometheus { query, is, .. } => {
                write!(f, "`{query}` is {}", is.in_words(|n| n.to_string()))
            }
        }
    }
}

impl fmt::Display for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, .. } = &self.request;
        write!(f, "{method} {}", self.request.place())?;
        let statuses = self.statuses.iter().map(|s| match s.to_json() {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        let statuses: Vec<_> = statuses.collect();
        write!(f, " answers {}", statuses.join(" or "))?;
        if let Some(text) = &self.contains {
            write!(f, " with `{text}`")?;
        }
        json_in_words(f, &self.json)
    }
}

impl Request {
    /// Where it goes, as people read it.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.to {
            Address::Host { secure, authority } => {
                let scheme = if *secure { "https" } else { "http" };
                format!("{scheme}://{authority}{}", self.path)
            }
            Address::Proxy(name) => format!("{} at proxy {name}", self.path),
        }
    }
}

fn json_in_words(f: &mut fmt::Formatter<'_>, checks: &[JsonCheck]) -> fmt::Result {
    for JsonCheck { pointer, is } in checks {
        let pointer = if pointer.is_empty() { "it" } else { pointer };
        match is {
            JsonIs::Equal(value) => write!(f, ", {pointer} is {value}")?,
            JsonIs::Number(is) => {
                write!(f, ", {pointer} is {}", is.in_words(|n| n.to_string()))?;
            }
            JsonIs::Length(is) => {
                let is = is.in_words(|n| n.to_string());
                write!(f, ", the length of {pointer} is {is}")?;
            }
        }
    }
    Ok(())
}

/// `0.995` as `99.5 %`.
fn percent(share: f64) -> String {
    // Shares are written with a few digits; more are the binary fraction's.
    let rounded = (share * 1e8).round() / 1e6;
    format!("{rounded} %")
}

/// `99.9` as `p99.9`.
#[must_use]
pub fn percentile_name(percentile: f64) -> String {
    let found = PERCENTILES.iter().find(|(_, p)| *p == percentile);
    found.map_or_else(|| format!("p{percentile}"), |(word, _)| (*word).to_owned())
}

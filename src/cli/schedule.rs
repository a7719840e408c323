//! When what is made acts while it is enabled: the file's `schedule`, as arguments.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Failure;
use crate::clock::Timestamp;
use crate::units::{format_duration, parse_duration};

/// What is made without `--for` is switched off after this time.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// A schedule; `--for` is the lifetime of the whole.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Schedule {
    /// Begin after this time, or at a moment such as 2026-12-24T10:00:00Z [default: at once]
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    at: Option<String>,

    /// Act this long each time, then pause [default: on and on]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = HEADING)]
    lasts: Option<String>,

    /// Begin again after this time, counted from the beginning before
    #[arg(long, value_name = "TIME", requires = "lasts", value_parser = time, help_heading = HEADING)]
    every: Option<String>,
}

/// Of what has a probability.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Ramps {
    /// Over this time from each beginning, the chance rises from 0
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = HEADING)]
    ramp_up: Option<String>,

    /// Over this time before each end, it falls to 0 again
    #[arg(long, value_name = "TIME", requires = "lasts", value_parser = time, help_heading = HEADING)]
    ramp_down: Option<String>,
}

const HEADING: &str = "Schedule";

fn time(text: &str) -> Result<String, String> {
    let checked = parse_duration(text).map(|_| text.to_owned());
    checked.map_err(|_| "expected a duration such as `30s` or `1m30s`".to_owned())
}

impl Schedule {
    /// As in the file; `None`: it acts all the time. What is made lives for `lifetime`.
    ///
    /// # Errors
    /// When that would be over before it begins: an experiment that never was.
    pub(super) fn to_json(
        &self,
        ramps: &Ramps,
        lifetime: Option<&str>,
    ) -> Result<Option<Value>, Failure> {
        let keys = [
            ("at", &self.at),
            ("for", &self.lasts),
            ("every", &self.every),
            ("ramp_up", &ramps.ramp_up),
            ("ramp_down", &ramps.ramp_down),
        ];
        let said = keys
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into())));
        let said: Map<String, Value> = said.collect();
        let begins = self.at.as_deref().and_then(begins).unwrap_or_default();
        let ends = match lifetime {
            None => Some(DEFAULT_LIFETIME),
            // `forever` is no duration.
            Some(text) => parse_duration(text).ok(),
        };
        if let Some(ends) = ends
            && begins >= ends
            && !begins.is_zero()
        {
            let ends = format_duration(ends);
            let unsaid = if lifetime.is_none() {
                ", unless --for says otherwise"
            } else {
                ""
            };
            return Err(Failure::usage(
                format!("it would never act: --at is later than its end after {ends}{unsaid}"),
                "--for is how long it lives in all, counted from now; say a longer one, or `forever`",
            ));
        }
        Ok((!said.is_empty()).then_some(Value::Object(said)))
    }
}

/// How long from now; what can't be read, the control plane says better.
fn begins(at: &str) -> Option<Duration> {
    if let Ok(moment) = at.parse::<Timestamp>() {
        return Some(moment.since(Timestamp::now()));
    }
    parse_duration(at).ok()
}

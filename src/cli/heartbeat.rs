//! `firedrill heartbeat`: for scripts whose faults are to be lifted when they die.

use std::time::Duration;

use super::failure::Failure;
use super::output::Output;
use super::targets::{self, Targets};
use crate::clock;
use crate::units::parse_duration;

/// What `heartbeat` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in a script:
  export FIREDRILL_CONTROLLER=drill-$$
  firedrill heartbeat --every 5s &
  firedrill inject payment drop --for 1h

Where the file has `control: { heartbeat: 15s }`, what a controller set is
lifted once it was silent for that long.")]
pub(super) struct Args {
    /// Again and again, until this command or what started it is ended
    #[arg(long, value_name = "TIME", value_parser = period)]
    every: Option<Duration>,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = parse_duration(text).ok().filter(|period| !period.is_zero());
    period.ok_or_else(|| "expected a duration such as `5s`".to_owned())
}

pub(super) async fn run(
    args: &Args,
    named: bool,
    targets: &Targets,
    out: &Output,
) -> Result<(), Failure> {
    if !named {
        return Err(Failure::usage(
            "a heartbeat is a controller's, and there is no name",
            "--controller NAME, or FIREDRILL_CONTROLLER, as with the changes",
        ));
    }
    // A script that was killed can't end it, and its faults shall not outlive it.
    let parent = rustix::process::getppid();
    let beats = targets.ask(async |client| client.heartbeat().await).await;
    targets::print(out, beats, |beat| match &beat.within {
        Some(within) => format!("{}: the next within {within}", beat.controller),
        None => format!("{}: nobody waits for it", beat.controller),
    })?;
    let Some(every) = args.every else {
        return Ok(());
    };
    loop {
        clock::sleep(every).await;
        if rustix::process::getppid() != parent {
            return Ok(());
        }
        // One that can't be reached now may be in time the next time.
        for (url, answer) in targets.ask(async |client| client.heartbeat().await).await {
            if let Err(error) = answer {
                targets::say(&url, error);
            }
        }
    }
}

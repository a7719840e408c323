//! `firedrill rule`.

use super::Failure;
use super::output::Output;
use super::targets::Targets;
use super::verbs::{self, Verb};
use crate::wire::RuleItem;

/// What `rule` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "`firedrill inject` makes them.")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    verbs::run::<RuleItem>(&args.verb, targets, out).await
}

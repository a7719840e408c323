//! `firedrill serve`.

use std::path::PathBuf;

use super::Failure;
use crate::{config, serve};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file; a bad one starts nothing
    #[arg(short, long, value_name = "FILE", default_value = "firedrill.yaml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = config::load(&args.config)?;
    super::run_proxies(serve::run(config, &args.config))
}

//! `firedrill serve`.

use std::path::PathBuf;

use super::Failure;
use crate::serve::{self, Files};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file; a bad one starts nothing [default: firedrill.yaml]
    #[arg(short, long, value_name = "FILE", required = false)]
    config: Option<PathBuf>,

    /// Proxies as Toxiproxy's `-config` file has them; alone, or besides `-c`
    #[arg(long, value_name = "FILE")]
    toxiproxy: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = match (&args.config, &args.toxiproxy) {
        (Some(file), _) => Some(file.clone()),
        // Whoever moves from Toxiproxy needs no second file.
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from("firedrill.yaml")),
    };
    let toxiproxy = args.toxiproxy.clone();
    super::run_proxies(serve::run(Files { config, toxiproxy }))
}
